"""From packets in sequence to events.

The engine takes each packet once, in the order of its channel (`protocol.net.sequencing` sees to
that), and appends events to `out`; one packet yields at most as many as it has items. What the
events mean is written in `consumers.feed.events`, what is wanted in `consumers.feed.selection`,
how books are kept in `consumers.feed.books`, how a channel stands in `consumers.feed.channels`.
The engine puts what it needs of a recovery service into `wants` and takes the answers by
`recovered` and `answered`. It performs no I/O and reads no clock: `now_ns` is an argument and
counts monotonically (in a replay, the send times of the packets).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple, TypeAlias

from tapecast.consumers.feed.books import Bookkeeper
from tapecast.consumers.feed.build import (
    build_bbo,
    build_book,
    build_executions,
    build_loss,
    build_own_status,
    build_stats,
    build_status,
    build_venue_gap,
    build_whole_book,
)
from tapecast.consumers.feed.channels import SILENT_INTERVALS, Channel
from tapecast.consumers.feed.definitions import Definitions
from tapecast.consumers.feed.events import (
    AnyEvent,
    Bbo,
    Book,
    BookState,
    Gap,
    Instrument,
    Liquidation,
    Names,
    Stat,
    Status,
    Trade,
)
from tapecast.consumers.feed.recovery.failover import Failover, Switch
from tapecast.consumers.feed.selection import Selection
from tapecast.protocol.codec import Buffer
from tapecast.protocol.fields import (
    CHANNEL_ID,
    CHANNEL_SEQ,
    INSTRUMENT_ID,
    ITEM_COUNT,
    ITEM_SIZE,
    MSG_TYPE,
    OFFSET,
    TS_SEND_NS,
    VENUE_ID,
    HeaderTuple,
)
from tapecast.protocol.records import HEADER_STRUCT, ITEM_STRUCT, HeartbeatItem, StatusItem
from tapecast.protocol.schema import (
    HEADER_SIZE,
    MsgType,
    ReplyStatus,
    RequestKind,
    StatusReason,
    StatusScope,
    StatusState,
    venue_name,
)
from tapecast.runtime.channels import channel_name

__all__ = ["Engine", "Want"]

_NEVER_RECEIVED_NS: Final = 3_000_000_000
"""How long a venue that was asked for by name may bring no packet at all."""
_DEFINED_AFTER_NS: Final = 6_000_000_000
"""Definitions go out in a cycle of at most 5 s."""
_PROVEN_AFTER_NS: Final = 100_000_000
"""How long after a gap a book's next change may prove it whole, before the feed asks for its
snapshot.
"""
_FEW: Final = 64
"""Up to so many wanted instruments are asked for one by one, more all at once."""
_MSG_TYPE: Final = OFFSET["msg_type"]
_STATUS: Final = ITEM_STRUCT[MsgType.STATUS]
_HEARTBEAT: Final = ITEM_STRUCT[MsgType.HEARTBEAT]
_LOSSES: Final = (StatusReason.GAP, StatusReason.CHECKSUM)
_LOG: Final = logging.getLogger("tapecast.feed")
_Handler: TypeAlias = Callable[[Buffer, int, int, HeaderTuple], None]
_UNKNOWN: Final = Names("", "", "", "")


class Want(NamedTuple):
    """A request to a channel's recovery service: definitions, or the book of an instrument
    (0 = all).
    """

    channel_id: int
    kind: RequestKind
    instrument_id: int = 0


class Engine:
    """Turns packets into events. `wanted` are the event classes to make; the engine keeps books
    with `keep_books` or `Book` among them.
    """

    def __init__(
        self,
        selection: Selection,
        wanted: Collection[type],
        *,
        keep_books: bool = False,
        live: bool = True,
        now_ns: int = 0,
        switch_after_ns: int = 1_000_000_000,
    ) -> None:
        """Start without definitions; `now_ns` is when the feed began; only a `live` channel can
        be silent.

        Where a venue has several channels, an instrument that is not well on its own for
        `switch_after_ns` goes over to another.
        """
        self.out: deque[AnyEvent] = deque()
        self.wants: deque[Want] = deque()
        self.backlog: deque[bytes] = deque()
        """Packets that waited for a snapshot that has come: the caller gives them to `packet`
        before anything else.
        """
        self.undefined = 0
        self.gaps = 0
        self.lost = 0
        self.definitions = Definitions(selection)
        self._selection = selection
        self._wanted = frozenset(wanted)
        self.keeps_books = keep_books or Book in wanted
        self._books: dict[int, Bookkeeper] = {}
        self._channels: dict[int, Channel] = {}
        self.failover = Failover(self._books if self.keeps_books else None, switch_after_ns)
        self._live = live
        self._now_ns = now_ns
        self._started_ns = now_ns
        self._reported = selection.symbols is None
        self._handlers = self._table()
        for venue in (selection.venues or ()) if live else ():
            self._expect(venue)

    def packet(self, data: Buffer, at: int, size: int) -> None:
        """Take the packet at `data[at : at + size]`, which has been validated, the next of its
        channel. `Book` events in `out` are stale after the call.
        """
        handler = self._handlers[data[at + _MSG_TYPE]]
        if handler is not None:
            handler(data, at, size, HEADER_STRUCT.unpack_from(data, at))

    def passes(self, channel_id: int, instrument_id: int) -> bool:
        """Return whether an instrument is taken from a channel."""
        channel = self._channels.get(channel_id)
        return (
            channel is None or not channel.redundant or self.failover.passes(channel, instrument_id)
        )

    def received(self, channel_id: int, venue_id: int, now_ns: int) -> None:
        """Note that a channel has brought packets; call it for the packets of each read before
        `packet` takes them.
        """
        channel = self._channels.get(channel_id)
        if channel is None:
            channel = self._open(channel_id, venue_id, now_ns)
        if channel.receive(now_ns):
            self._channel_status(channel, StatusState.LIVE, StatusReason.NONE, "packets again")

    def gap(self, channel_id: int, first_missing: int, missing: int) -> None:
        """Note that packets of a channel are lost for good; call it before `packet` takes the
        one after them.
        """
        channel = self._channels.get(channel_id)
        if channel is not None:
            channel.lose(first_missing, missing, self._now_ns)
        self.gaps += 1
        self.lost += missing
        if Gap in self._wanted:
            venue = channel.venue if channel is not None else channel_name(channel_id)
            self.out.append(build_loss(venue, channel_id, first_missing, missing))

    def repairing(self, channel_id: int, first: int, count: int) -> None:
        """Note that lost packets have been asked for: the channel's books are SUSPECT until they
        are there.
        """
        channel = self._channels.get(channel_id)
        if channel is not None and channel.repair(first, count):
            self._channel_status(
                channel,
                StatusState.SUSPECT,
                StatusReason.GAP,
                f"{count} packets asked for from {first} on",
            )

    def repaired(self, channel_id: int, before: int) -> None:
        """Note that all that was asked for before a number is there."""
        channel = self._channels.get(channel_id)
        if channel is not None and channel.reach(before):
            self._channel_status(channel, StatusState.LIVE, StatusReason.RESYNCED, "repaired")

    def session(self, channel_id: int) -> None:
        """Note that a channel's publisher has (re)started: the engine clears its books."""
        channel = self._channels.get(channel_id)
        if channel is None:
            return
        channel.restart()
        books = self._books.get(channel_id)
        if books is not None:
            books.new_session()
        self._channel_status(channel, StatusState.LIVE, StatusReason.RESTART, "new session")

    def end(self, channel_id: int) -> None:
        """Note that a channel's session has ended; call it once all its packets have come or
        been given up.
        """
        channel = self._channels.get(channel_id)
        if channel is not None and channel.end():
            self._channel_status(channel, StatusState.STALE, StatusReason.RESTART, "session ended")
            self._switch()

    def served(self, channel_id: int, served: bool) -> None:
        """Note whether a channel's recovery service can be asked: the engine then keeps the
        changes of the books that wait, and wants their snapshots.
        """
        channel = self._channels.get(channel_id)
        if channel is None or channel.served == served:
            return
        channel.served = served
        books = self._books.get(channel_id)
        if not served:
            if books is not None:
                books.abandon()
            return
        if books is not None:
            books.wait()
        venues = self._selection.venue_ids
        if not channel.joined and (venues is None or channel.venue_id in venues):
            channel.joined = True
            everything = self.keeps_books and self._selection.symbols is None
            self.wants.append(
                Want(channel_id, RequestKind.SNAPSHOT if everything else RequestKind.DEFINITIONS)
            )

    def recovered(self, packet: bytes) -> None:
        """Take a packet of the recovery service, whose session is the channel's: a definition, a
        status, or a part of a book's snapshot.
        """
        header = HEADER_STRUCT.unpack_from(packet)
        if header[MSG_TYPE] == MsgType.STATUS:
            self._statuses(packet, 0, len(packet), header, standing=True)
            if header[CHANNEL_ID] in self._books:
                self._books[header[CHANNEL_ID]].missing(header[INSTRUMENT_ID])
        elif header[MSG_TYPE] == MsgType.BOOK:
            self._take_book(packet, 0, len(packet), header, recovered=True)
        else:
            self.packet(packet, 0, len(packet))

    def answered(self, channel_id: int, kind: int, instrument_id: int, status: int) -> None:
        """Note that an answer of the recovery service is complete; call it once `recovered` has
        taken all its packets.
        """
        channel, books = self._channels.get(channel_id), self._books.get(channel_id)
        if channel is None:
            return
        if status == ReplyStatus.UNKNOWN_INSTRUMENT and books is not None:
            books.missing(instrument_id)
        if kind == RequestKind.DEFINITIONS and status == ReplyStatus.OK and self.keeps_books:
            wanted = [
                item.instrument_id
                for item in self.definitions.wanted.values()
                if item.venue == channel.venue
            ]
            for instrument in wanted if len(wanted) <= _FEW else [0]:
                self.wants.append(Want(channel_id, RequestKind.SNAPSHOT, instrument))

    def tick(self, now_ns: int) -> None:
        """Let time pass: silence of channels and symbols that match nothing become events."""
        self._now_ns = now_ns
        for channel in self._channels.values():
            if self._live and channel.fall_silent(now_ns):
                self._channel_status(
                    channel,
                    StatusState.STALE,
                    StatusReason.TIMEOUT,
                    f"silent for {channel.silence_limit_ns / 1e9:g} s",
                )
            if channel.unsettled and channel.served and now_ns - channel.gap_ns >= _PROVEN_AFTER_NS:
                self._ask_for_books(channel)
        self._switch()
        if not self._reported and self._definitions_are_in():
            self.report_unmatched()

    def report_unmatched(self) -> None:
        """Publish a status of each symbol that no definition has matched, and warn in the log;
        only the first call does.
        """
        if self._reported:
            return
        self._reported = True
        for symbol in self._selection.unmatched:
            near = self._selection.nearest(symbol)
            text = f"{symbol!r} matches nothing; " + (
                f"nearest: {', '.join(near)}" if near else "nothing like it is defined"
            )
            _LOG.warning("symbol %s", text)
            self.status("", StatusScope.INSTRUMENT, StatusState.IDLE, StatusReason.NONE, text)

    def book(self, instrument: Instrument) -> Book | None:
        """Return the book of an instrument as it is now, without a change; None where it has
        none yet. Stale after the next call of `packet` or `recovered`.
        """
        chosen = self.failover.chosen(instrument.instrument_id)
        found = None
        for channel_id, books in self._books.items():
            if chosen is None or chosen.channel_id == channel_id:
                found = books.book(instrument.instrument_id) or found
        if found is None:
            return None
        book, state = found
        names = Names(
            venue=instrument.venue,
            kind=instrument.kind,
            symbol=instrument.symbol,
            instrument=instrument.instrument,
        )
        return build_whole_book(book, state, names, snapshot=False)

    def _table(self) -> Sequence[_Handler | None]:
        """Message type → its handler; a packet of a type without one costs nothing more."""
        table: list[Callable[[Buffer, int, int, HeaderTuple], None] | None] = [None] * 256
        optional: tuple[
            tuple[MsgType, type, Callable[[Buffer, int, int, HeaderTuple], None]], ...
        ] = (
            (MsgType.TRADE, Trade, self._executions),
            (MsgType.LIQUIDATION, Liquidation, self._executions),
            (MsgType.BBO, Bbo, self._bbo),
            (MsgType.STAT, Stat, self._stats),
        )
        for msg_type, kind, handler in optional:
            if kind in self._wanted:
                table[msg_type] = handler
        if self.keeps_books:
            table[MsgType.BOOK] = self._take_book
        table[MsgType.INSTRUMENT] = self._instruments
        table[MsgType.STATUS] = self._statuses
        table[MsgType.HEARTBEAT] = table[MsgType.SESSION_START] = table[MsgType.SESSION_END] = (
            self._heartbeat
        )
        return table

    def _names(self, header: HeaderTuple) -> Names | None:
        """Return who a packet is about; None where it is not wanted or not defined, which
        counts.
        """
        names = self.definitions.names.get(header[INSTRUMENT_ID], _UNKNOWN)
        if names is _UNKNOWN:
            if self._may_want(header):
                self.undefined += 1
            return None
        return names

    def _may_want(self, header: HeaderTuple) -> bool:
        venues = self._selection.venue_ids
        return (venues is None or header[VENUE_ID] in venues) and self._selection.may_want(
            header[INSTRUMENT_ID]
        )

    def _executions(self, data: Buffer, at: int, size: int, header: HeaderTuple) -> None:
        names = self._names(header)
        if names is None:
            return
        make = Trade if header[MSG_TYPE] == MsgType.TRADE else Liquidation
        channel = self._channels.get(header[CHANNEL_ID])
        if channel is None or not channel.redundant:
            self.out.extend(build_executions(data, at, header, names, make))
        elif self.failover.trade(
            channel,
            header[INSTRUMENT_ID],
            bytes(data[at : at + size]) if make is Trade else b"",
            self._now_ns,
        ):
            self._append_unrepeated(data, at, header, names, make)

    def _append_unrepeated(
        self,
        data: Buffer,
        at: int,
        header: HeaderTuple,
        names: Names,
        make: type[Trade | Liquidation] = Trade,
    ) -> None:
        """Append the events that did not go out before the last change-over."""
        for event in build_executions(data, at, header, names, make):
            if not self.failover.repeats(header[INSTRUMENT_ID], event.trade_id, self._now_ns):
                self.out.append(event)

    def _bbo(self, data: Buffer, at: int, size: int, header: HeaderTuple) -> None:
        names = self._names(header)
        if names is None or self._is_elsewhere(header):
            return
        self.out.append(build_bbo(data, at, header, names))

    def _stats(self, data: Buffer, at: int, size: int, header: HeaderTuple) -> None:
        names = self._names(header)
        if names is None or self._is_elsewhere(header):
            return
        self.out.extend(build_stats(data, at, header, names))

    def _take_book(
        self, data: Buffer, at: int, size: int, header: HeaderTuple, recovered: bool = False
    ) -> None:
        packet = memoryview(data)[at : at + size]
        names = self.definitions.names.get(header[INSTRUMENT_ID], _UNKNOWN)
        if (
            names is None
            or not self.keeps_books
            or (names is _UNKNOWN and not self._may_want(header))
        ):
            return
        books = self._books.get(header[CHANNEL_ID])
        if books is None:
            books = self._keep(header)
        change = books.recovered(packet, header) if recovered else books.apply(packet, header)
        if books.backlog:
            self.backlog.extend(books.backlog)
            books.backlog.clear()
        if names is _UNKNOWN:
            self.undefined += not recovered
            return
        channel = books.channel
        if change is True and not recovered and channel.served:
            self._ask_for_books(channel)
        if change is False or (
            channel.redundant and not self.failover.passes(channel, header[INSTRUMENT_ID])
        ):
            return
        if change is not True:
            if Book in self._wanted:
                self.out.append(build_book(header, names, change))
        elif recovered:
            self._book_status(
                channel,
                StatusState.LIVE,
                StatusReason.RESYNCED,
                "lost nothing",
                names,
                header[TS_SEND_NS],
            )
        else:
            self._book_status(
                channel,
                StatusState.SUSPECT,
                StatusReason.GAP,
                "waits for a snapshot",
                names,
                header[TS_SEND_NS],
            )

    def _keep(self, header: HeaderTuple) -> Bookkeeper:
        channel = self._channels.get(header[CHANNEL_ID]) or self._open(
            header[CHANNEL_ID], header[VENUE_ID], self._now_ns
        )
        books = self._books[header[CHANNEL_ID]] = Bookkeeper(channel)
        return books

    def _ask_for_books(self, channel: Channel) -> None:
        books = self._books.get(channel.channel_id)
        if books is None:
            channel.unsettled = False
            return
        for instrument in books.unsettled(self._now_ns):
            self.wants.append(Want(channel.channel_id, RequestKind.SNAPSHOT, instrument))

    def _instruments(self, data: Buffer, at: int, size: int, header: HeaderTuple) -> None:
        if (
            self._selection.venue_ids is not None
            and header[VENUE_ID] not in self._selection.venue_ids
        ):
            return
        for event in self.definitions.take(memoryview(data)[at : at + size]):
            if Instrument in self._wanted:
                self.out.append(event)
        for instrument in self.definitions.refused:
            for books in self._books.values():
                books.forget(instrument)

    def _statuses(
        self, data: Buffer, at: int, size: int, header: HeaderTuple, standing: bool = False
    ) -> None:
        """Take statuses; `standing` ones report how something is, not that it has just happened."""
        first, step = at + HEADER_SIZE, header[ITEM_SIZE]
        names: Names | None = None
        if header[INSTRUMENT_ID]:
            names = self.definitions.names.get(header[INSTRUMENT_ID], _UNKNOWN)
            if names is None or (names is _UNKNOWN and not self._may_want(header)):
                return
        elif (
            self._selection.venue_ids is not None
            and header[VENUE_ID] not in self._selection.venue_ids
        ):
            return
        if names is _UNKNOWN:
            names = None
            self.undefined += 1
        for offset in range(first, first + header[ITEM_COUNT] * step, step):
            item = StatusItem._make(_STATUS.unpack_from(data, offset))
            if item.scope == StatusScope.BOOK and header[CHANNEL_ID] in self._books:
                self._books[header[CHANNEL_ID]].status(
                    header[INSTRUMENT_ID], item.state, header[CHANNEL_SEQ] + standing
                )
            lost = item.reason in _LOSSES and not standing
            if not lost and Status not in self._wanted:
                continue
            if header[INSTRUMENT_ID] and self._is_elsewhere(header):
                continue
            if not lost:
                self.out.append(build_status(header, names, item))
            elif Gap in self._wanted:
                self.out.append(build_venue_gap(header, names, item))

    def _heartbeat(self, data: Buffer, at: int, size: int, header: HeaderTuple) -> None:
        channel = self._channels.get(header[CHANNEL_ID])
        if channel is None or not header[ITEM_COUNT]:
            return
        beat = HeartbeatItem._make(_HEARTBEAT.unpack_from(data, at + HEADER_SIZE))
        channel.instruments = beat.instruments
        if beat.interval_ms:
            channel.interval_ns = beat.interval_ms * 1_000_000

    def _is_elsewhere(self, header: HeaderTuple) -> bool:
        """Return whether the packet's instrument is taken from another channel."""
        channel = self._channels.get(header[CHANNEL_ID])
        return (
            channel is not None
            and channel.redundant
            and not self.failover.passes(channel, header[INSTRUMENT_ID])
        )

    def _switch(self) -> None:
        """Let instruments go over to other channels where that is due, and publish it."""
        for switch in self.failover.switches(self._now_ns):
            names = self.definitions.names.get(switch.instrument_id)
            if names is not None:
                self._publish_switch(switch, names)

    def _publish_switch(self, switch: Switch, names: Names) -> None:
        old, new = switch.old, switch.new
        books = self._books.get(new.channel_id)
        found = books.book(switch.instrument_id) if books is not None else None
        state = found[1] if found is not None else BookState.LIVE
        shown = {BookState.LIVE: StatusState.LIVE, BookState.SUSPECT: StatusState.SUSPECT}.get(
            state, StatusState.STALE
        )
        detail = f"channel {old.channel_id} to {new.channel_id}"
        self._book_status(new, shown, StatusReason.RESYNCED, detail, names)
        if found is not None and Book in self._wanted:
            self.out.append(build_whole_book(found[0], state, names))
        for packet in switch.trades:
            if Trade in self._wanted:
                self._append_unrepeated(packet, 0, HEADER_STRUCT.unpack_from(packet), names)

    def _expect(self, venue: str) -> None:
        """Miss a venue that was asked for by name even if it never sends anything."""
        venue_id = next(iter(Selection([venue], None).venue_ids or ()))
        channel = self._open(venue_id, venue_id, self._now_ns)
        channel.interval_ns = _NEVER_RECEIVED_NS // SILENT_INTERVALS

    def _open(self, channel_id: int, venue_id: int, now_ns: int) -> Channel:
        channel = Channel(channel_id, venue_id, venue_name(venue_id), now_ns)
        self._channels[channel_id] = channel
        self.failover.opened(channel)
        return channel

    def _definitions_are_in(self) -> bool:
        if not any(channel.instruments for channel in self._channels.values()):
            return False
        if self._now_ns - self._started_ns > _DEFINED_AFTER_NS:
            return True
        return all(
            self.definitions.count(channel.venue_id) >= channel.instruments
            for channel in self._channels.values()
        )

    def _book_status(
        self,
        channel: Channel,
        state: StatusState,
        reason: StatusReason,
        detail: str,
        names: Names,
        ts_ns: int = 0,
    ) -> None:
        self.status(channel.venue, StatusScope.BOOK, state, reason, detail, names, ts_ns)

    def _channel_status(
        self, channel: Channel, state: StatusState, reason: StatusReason, detail: str
    ) -> None:
        self.status(channel.venue, StatusScope.CHANNEL, state, reason, detail)

    def status(
        self,
        venue: str,
        scope: StatusScope,
        state: StatusState,
        reason: StatusReason,
        detail: str,
        names: Names | None = None,
        ts_ns: int = 0,
    ) -> None:
        """Append a status of the feed's own, where statuses are wanted."""
        if Status in self._wanted:
            self.out.append(
                build_own_status(venue, scope, state, reason, detail, names=names, ts_ns=ts_ns)
            )
