"""What the recovery service serves of a channel, and what the channel repeats in a cycle: one
source for any channel that has definitions, books or last states.

`States` is what the owner of a channel keeps: a venue's session, or a `StateTable` of a derived
channel. `ChannelSource` makes of it, of the channel's publisher and of its ring what the brain
asks for (`Source`). It reads and changes nothing: no number of the stream is taken, no counter of
it moved.
"""

from __future__ import annotations

from typing import Protocol

from tapecast.protocol.codec import walk
from tapecast.protocol.publish.book_packets import BookPackets, Stamp
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.publish.recovery.types import State
from tapecast.protocol.records import HEADER_STRUCT, Header
from tapecast.protocol.ring import Ring
from tapecast.protocol.schema import HEADER, Flag, MsgType

__all__ = ["ChannelSource", "Source", "StateTable", "States"]

_FLAGS = next(field.offset for field in HEADER.fields if field.name == "flags")
_REPEATED = Flag.SNAPSHOT | Flag.RECOVERED


class Source(Protocol):
    """A channel as it stands now. Instruments are known by their index, which never changes; new
    ones come at the end.
    """

    ring: Ring

    @property
    def header(self) -> Header:
        """The channel, venue, session and flags of its packets."""
        ...

    @property
    def next_seq(self) -> int:
        """`channel_seq` of the next packet."""
        ...

    @property
    def instruments(self) -> int:
        """How many there are."""
        ...

    def find(self, instrument_id: int) -> int | None:
        """Return the index of an instrument."""
        ...

    def definition(self, index: int, now_ns: int) -> State:
        """Return an instrument's definition."""
        ...

    def book(self, index: int, now_ns: int) -> State:
        """Return an instrument's definition, and its book or the reason why there is none."""
        ...


class States(Protocol):
    """The definitions, books and last states of a channel's instruments. Packets are unstamped:
    `instrument_seq` holds the instrument's index. Indexes are dense, never change, and new ones
    come at the end.
    """

    @property
    def instruments(self) -> int:
        """How many there are."""
        ...

    def flush(self) -> None:
        """Publish what is finished, so that no state is ahead of the stream."""
        ...

    def find(self, instrument_id: int) -> int | None:
        """Return the index of an instrument; None where it is not one of this channel."""
        ...

    def definition(self, index: int) -> bytes:
        """Return an instrument's definition; empty where there is none yet."""
        ...

    def snapshot(self, index: int) -> bytes:
        """Return what the cycle repeats of an instrument, SNAPSHOT | RECOVERED; empty: nothing."""
        ...

    def book(self, index: int, stamp: Stamp) -> BookPackets | None:
        """Return an instrument's book with this stamp; None where there is none to give."""
        ...

    def last(self, index: int, *, has_book: bool, now_ns: int) -> bytes:
        """Return what a receiver needs behind the book, or in its place: a book's status, or the
        last packets of a derived channel; empty: nothing.
        """
        ...


class ChannelSource:
    """The `Source` of a channel. A `State` shows how an instrument stood when it was asked for;
    the pieces that it makes later are still those of that moment.
    """

    def __init__(self, states: States, publisher: Publisher, ring: Ring) -> None:
        self._states = states
        self._publisher = publisher
        self.ring = ring
        self.header: Header = publisher.header

    @property
    def next_seq(self) -> int:
        """`channel_seq` of the next packet."""
        return self._publisher.next_seq

    @property
    def instruments(self) -> int:
        """How many there are."""
        return self._states.instruments

    def find(self, instrument_id: int) -> int | None:
        """Return the index of an instrument."""
        return self._states.find(instrument_id)

    def definition(self, index: int, now_ns: int) -> State:
        """Return an instrument's definition."""
        self._flush()
        publisher = self._publisher
        data, packets = publisher.state((self._states.definition(index),), now_ns)
        return State(publisher.next_seq - 1, packets, len(data), (data,))

    def book(self, index: int, now_ns: int) -> State:
        """Return an instrument's definition, and its book, last packets, or the reason why there
        are none.
        """
        self._flush()
        publisher, states = self._publisher, self._states
        stamp = publisher.stamp(index, MsgType.BOOK, now_ns)
        book = states.book(index, stamp)
        head, packets = publisher.state((states.definition(index),), now_ns)
        behind = states.last(index, has_book=book is not None, now_ns=now_ns)
        tail, more = publisher.state((behind,), now_ns)
        packets, nbytes = packets + more, len(head) + len(tail)
        if book is None:
            return State(stamp.channel_seq, packets, nbytes, (head + tail,))
        packets, nbytes = packets + book.packets, nbytes + book.nbytes
        pieces = publisher.pieces(book)
        if len(pieces) == 1:
            return State(stamp.channel_seq, packets, nbytes, (head + pieces[0]() + tail,))
        return State(stamp.channel_seq, packets, nbytes, (head, *pieces, tail))

    def _flush(self) -> None:
        self._states.flush()
        self._publisher.instruments(self._states.instruments)


class StateTable:
    """The `States` of a derived channel: a definition and the last packets of each type for every
    instrument, as its owner puts them in.
    """

    def __init__(self) -> None:
        self._indexes: dict[int, int] = {}
        self._definitions: list[bytes] = []
        self._last: list[dict[int, bytes]] = []

    @property
    def instruments(self) -> int:
        """How many there are."""
        return len(self._definitions)

    def index(self, instrument_id: int) -> int:
        """Return the index that packets of an instrument carry in `instrument_seq` until they are
        stamped; an instrument that is new gets the next one.
        """
        index = self._indexes.setdefault(instrument_id, len(self._definitions))
        if index == len(self._definitions):
            self._definitions.append(b"")
            self._last.append({})
        return index

    def define(self, packets: bytes) -> None:
        """Keep an instrument's definition, INSTRUMENT and what belongs to it, in place of the one
        before. It is still to be published. Raises ValueError where a packet has not its
        instrument's index.
        """
        self._definitions[self._index_in(packets)] = bytes(packets)

    def update(self, packets: bytes) -> None:
        """Keep the packets of one event as the last of their instrument and type; call it before
        they are published, which stamps them. Raises ValueError as `define` does.
        """
        index, kept = self._index_in(packets), bytearray(packets)
        at = 0
        for packet in walk(packets):
            flags = int.from_bytes(kept[at + _FLAGS : at + _FLAGS + 2], "little") | _REPEATED
            kept[at + _FLAGS : at + _FLAGS + 2] = flags.to_bytes(2, "little")
            at += len(packet)
        msg_type = Header._make(HEADER_STRUCT.unpack_from(packets)).msg_type
        self._last[index][msg_type] = bytes(kept)

    def flush(self) -> None:
        """Have nothing to publish: `update` is called with what is published at once."""

    def find(self, instrument_id: int) -> int | None:
        """Return the index of an instrument; None where it never had one."""
        return self._indexes.get(instrument_id)

    def definition(self, index: int) -> bytes:
        """Return an instrument's definition; empty where there is none yet."""
        return self._definitions[index]

    def snapshot(self, index: int) -> bytes:
        """Return the last packets of an instrument, SNAPSHOT | RECOVERED."""
        return b"".join(self._last[index].values())

    def book(self, index: int, stamp: Stamp) -> BookPackets | None:
        """Return None: books go the way of all last packets."""
        return None

    def last(self, index: int, *, has_book: bool, now_ns: int) -> bytes:
        """Return the last packets of an instrument, SNAPSHOT | RECOVERED."""
        return self.snapshot(index)

    def _index_in(self, packets: bytes) -> int:
        """Return the index that all of the packets carry."""
        found = {
            (header.instrument_id, header.instrument_seq)
            for packet in walk(packets)
            for header in (Header._make(HEADER_STRUCT.unpack_from(packet)),)
        }
        if len(found) != 1:
            raise ValueError(f"packets of {len(found)} instruments: one at a time")
        instrument_id, index = found.pop()
        if self._indexes.get(instrument_id) != index:
            raise ValueError(
                f"instrument {instrument_id}: instrument_seq is {index}, its index"
                f" {self._indexes.get(instrument_id)}"
            )
        return index
