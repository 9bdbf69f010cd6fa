"""What a feeder's recovery service tells of: its session's instruments and books and its
publisher's ring, as they stand now.

The source reads, and changes nothing: no number of the stream is taken, no counter of it moved.
"""

from __future__ import annotations

from collections.abc import Callable

from tapecast.feeder.session.session import Session
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.publish.recovery.service import RecoveryService
from tapecast.protocol.publish.recovery.types import Limits, State
from tapecast.protocol.records import Header
from tapecast.protocol.ring import Ring
from tapecast.protocol.schema import MsgType
from tapecast.runtime.keys import channel_keys
from tapecast.runtime.settings import Config

__all__ = ["SessionSource", "recovery_service"]


class SessionSource:
    """A `protocol.publish.recovery.server.Source`. `flush` sends what the session has finished,
    so that no book is ahead of the stream.
    """

    def __init__(
        self, session: Session, publisher: Publisher, ring: Ring, flush: Callable[[], None]
    ) -> None:
        self._session = session
        self._publisher = publisher
        self._flush = flush
        self.ring = ring
        self.header: Header = publisher.header

    @property
    def next_seq(self) -> int:
        """`channel_seq` of the next packet."""
        return self._publisher.next_seq

    @property
    def instruments(self) -> int:
        """How many there are."""
        return len(self._session.instruments)

    def find(self, instrument_id: int) -> int | None:
        """Return the index of an instrument."""
        instrument = self._session.by_id.get(instrument_id)
        return None if instrument is None else instrument.index

    def definition(self, index: int, now_ns: int) -> State:
        """Return an instrument's definition."""
        self._flush()
        session = self._session
        data, packets = self._publisher.state(
            (session.definition(session.instruments[index]),), now_ns
        )
        return State(self._publisher.next_seq - 1, packets, len(data), (data,))

    def book(self, index: int, now_ns: int) -> State:
        """Return an instrument's definition, and its book or the reason why there is none."""
        self._flush()
        session = self._session
        publisher, instrument = self._publisher, session.instruments[index]
        stamp = publisher.stamp(index, MsgType.BOOK, now_ns)
        book = session.book_pieces(instrument, stamp)
        head, packets = publisher.state((session.definition(instrument),), now_ns)
        tail, more = publisher.state(
            (session.book_status(instrument, book is not None, now_ns),), now_ns
        )
        packets, nbytes = packets + more, len(head) + len(tail)
        if book is None:
            return State(stamp.channel_seq, packets, nbytes, (head + tail,))
        packets, nbytes = packets + book.packets, nbytes + book.nbytes
        pieces = publisher.pieces(book)
        if len(pieces) == 1:
            return State(stamp.channel_seq, packets, nbytes, (head + pieces[0]() + tail,))
        return State(stamp.channel_seq, packets, nbytes, (head, *pieces, tail))


def recovery_service(
    venue: str,
    session: Session,
    publisher: Publisher,
    config: Config,
    flush: Callable[[], None],
    *,
    listen: bool = True,
) -> RecoveryService:
    """Return the service of a feeder as it is configured, and let the publisher keep what the
    service may be asked for.

    Where it is switched off, or nothing is published, it never listens, and nothing is kept.
    """
    recovery = config.recovery
    listen = listen and recovery.enabled
    ring = Ring(recovery.ring_bytes)
    if listen:
        publisher.ring = ring
    limits = Limits(
        clients=recovery.clients,
        packets_per_s=recovery.packets_per_s,
        bytes_per_s=recovery.bytes_per_s,
        books_per_s=recovery.books_per_s,
        backlog=recovery.backlog,
        idle_ns=int(recovery.idle_timeout_s * 1e9),
        stall_ns=int(recovery.stall_timeout_s * 1e9),
    )
    port = recovery.port + publisher.header.channel_id if recovery.port else 0
    source = SessionSource(session, publisher, ring, flush)
    keys = channel_keys((venue,), config.network).get(publisher.header.channel_id, ())
    return RecoveryService(
        source, limits, venue, config.network.interface, port, listen=listen, keys=keys
    )
