"""The books of a session: which events of the buffer stand, which wait, and what is said when
one is lost.

`SessionBooks` is the lower half of `feeder.session.session.Session`: finished packets arrive at
the end of its buffer, the book rule (`feeder.session.sync`) judges them, and what stands is
applied to the session's own books. It reads no venue message and does no I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tapecast.feeder.extract.types import Result
from tapecast.feeder.session.instruments import InstrumentTable
from tapecast.feeder.session.packets import PacketWriter
from tapecast.feeder.session.sync import SequenceRule, SnapshotVerdict, SyncRequest, UpdateVerdict
from tapecast.feeder.session.types import Command, CommandKind, SessionInstrument, SessionOptions
from tapecast.feeder.venues.spec import Topic, VenueSpec
from tapecast.protocol.books.books import BookSet
from tapecast.protocol.publish.book_packets import BookPackets, Stamp
from tapecast.protocol.schema import MsgType, StatusReason, StatusScope, StatusState

__all__ = ["SessionBooks"]

_MASK = 2**64 - 1
_FIRST_ID = 1
"""Of `SequenceRule.NEXT`: the venue counts anew, and the message holds the whole book."""
_FUTURE_NS = 60_000_000_000
_APPLY, _FULL = UpdateVerdict.APPLY, SequenceRule.FULL


class SessionBooks:
    """The books and the packet buffer of one venue's session."""

    def __init__(self, spec: VenueSpec, options: SessionOptions) -> None:
        self.spec = spec
        self.options = options
        self._table = table = InstrumentTable(spec, options)
        self.extractor = table.extractor
        self.instruments = table.all
        self.by_symbol = table.by_symbol
        self.by_id = table.by_id
        self.known = table.known
        """Definitions of the venue by qualified symbol, of which only instruments in use are
        published.
        """
        self.books = BookSet()
        self.counts: Counter[str] = Counter()
        self.commands: list[Command] = []
        self._writer = PacketWriter(
            spec.venue_id, options.channel_id, options.base_flags, options.max_payload
        )
        self._sequence_rule = SequenceRule(spec.rule.sequence_rule)
        self._restarts = self._sequence_rule is SequenceRule.NEXT
        self._unnumbered = self._sequence_rule is SequenceRule.UNVERIFIED or spec.rule.checksum_only
        """Whether no id shows that a message of a book is missing. A checksum is over the best
        levels alone.
        """
        self._verifies = (
            options.verify_checksum or spec.rule.checksum_only
        ) and spec.rule.checksum is not None
        self._depths = spec.rule.depths
        self._pos = 0
        """End of the finished packets in the extractor's buffer."""
        self._applied = 0
        """End of those that the session's own books have."""
        self._has_books = False
        """Whether book packets stand behind `_applied`: trades and quotes alone need no look at
        the books.
        """
        self._crossed: set[int] = set()
        self._waiting: set[int] = set()

    def on_timer(self, now_ns: int, ts_recv_ns: int) -> None:
        """Let deadlines act; call at `next_deadline`."""
        for index in tuple(self._waiting):
            instrument = self.instruments[index]
            self._ask(instrument, now_ns)
            if instrument.sync.quiet_expired:
                instrument.sync.publish_held()
                self._append(instrument.held)
                instrument.held = b""
                self._went_live(instrument, ts_recv_ns)

    def next_deadline(self) -> int | None:
        """Return the monotonic time at which `on_timer` has something to do, or None."""
        deadlines = [
            d for i in self._waiting if (d := self.instruments[i].sync.deadline_ns) is not None
        ]
        return min(deadlines, default=None)

    def check_stale(self, now_ns: int, stale_after_ns: int, ts_recv_ns: int) -> None:
        """Say which LIVE books have been silent for too long, and which of those speak again;
        call about once a second.
        """
        for instrument in self.instruments:
            if not instrument.sync.live:
                instrument.stale = False
                continue
            book = self.books.book(instrument.instrument_id)
            updates = 0 if book is None else book.updates
            if updates != instrument.updates:
                instrument.updates, instrument.changed_ns = updates, now_ns
                if instrument.stale:
                    instrument.stale = False
                    self._book_status(instrument, StatusState.LIVE, StatusReason.NONE, ts_recv_ns)
            elif not instrument.stale and now_ns - instrument.changed_ns > stale_after_ns:
                instrument.stale = True
                self.counts["stale"] += 1
                self._book_status(instrument, StatusState.STALE, StatusReason.TIMEOUT, ts_recv_ns)

    def on_batch_lost(self, ts_recv_ns: int) -> None:
        """Say that finished packets never went out, and put every LIVE book into the next ones
        whole.

        The packets had no numbers yet, so nothing else would show consumers what their books
        lack.
        """
        self._status(
            None,
            StatusScope.CHANNEL,
            StatusState.SUSPECT,
            StatusReason.OVERFLOW,
            ts_recv_ns,
            text="batch not sent",
        )
        for instrument in self.instruments:
            self._append(self.book_snapshot(instrument))

    def on_topics(
        self, kind: str, topics: Iterable[Topic], ts_recv_ns: int, *, speak: bool
    ) -> None:
        """Note topics that bring no data, or speak again: counted by `kind`, and told for each
        instrument.
        """
        state, reason = (
            (StatusState.LIVE, StatusReason.NONE)
            if speak
            else (StatusState.STALE, StatusReason.TIMEOUT)
        )
        for topic in topics:
            self.counts[f"topics_{kind.lower()}"] += 1
            instrument = self.by_symbol.get(topic.symbol)
            if instrument is not None:
                self._status(
                    instrument,
                    StatusScope.INSTRUMENT,
                    state,
                    reason,
                    ts_recv_ns,
                    text=topic.channel,
                )

    def book_snapshot(self, instrument: SessionInstrument) -> bytes:
        """Return the session's own book of an instrument as SNAPSHOT | RECOVERED packets; empty
        unless it is LIVE.
        """
        book = self.books.book(instrument.instrument_id)
        if book is None or not instrument.sync.live:
            return b""
        return self._writer.book(instrument, book)

    def book_pieces(self, instrument: SessionInstrument, stamp: Stamp) -> BookPackets | None:
        """Return the packets of `book_snapshot`, stamped already and made piece by piece; None
        where there are none.
        """
        book = self.books.book(instrument.instrument_id)
        if book is None or not instrument.sync.live:
            return None
        return self._writer.book_pieces(instrument, book, stamp)

    def book_status(self, instrument: SessionInstrument, has_levels: bool, ts_ns: int) -> bytes:
        """Return the STATUS that a receiver which begins now has to have besides the levels, or
        in their place; empty: none.
        """
        state, reason = instrument.sync.state, instrument.sync.reason
        if has_levels:
            if not instrument.stale:
                return b""
            state, reason = StatusState.STALE, StatusReason.TIMEOUT
        elif instrument.sync.live:
            state, reason = StatusState.SUSPECT, StatusReason.EXPONENT
        return self._writer.status(instrument, StatusScope.BOOK, state, reason, ts_ns)

    def live_books(self) -> int:
        """Return how many books are LIVE."""
        return sum(1 for instrument in self.instruments if instrument.sync.live)

    # events

    def _on_book(
        self,
        instrument: SessionInstrument,
        connection: str,
        result: Result,
        now_ns: int,
        ts_recv_ns: int,
    ) -> None:
        sync = instrument.sync
        restart = self._restarts and not result.snapshot and result.last_id == _FIRST_ID
        if restart:
            self._writer.mark_snapshot(self.extractor.out, self._pos, result.nbytes)
        if result.snapshot or restart:
            was_live = sync.live
            if self._sequence_rule is _FULL:
                if (
                    sync.on_full(self._believable(result.ts_exchange_ns, ts_recv_ns))
                    is UpdateVerdict.IGNORE
                ):
                    self.counts["out_of_date"] += 1
                    return
            else:
                sync.on_stream_snapshot(result.last_id)
            instrument.connection = connection
            self._accept(instrument, result, now_ns, ts_recv_ns)
            if not was_live and sync.live:
                self._went_live(instrument, ts_recv_ns)
            return
        verdict = sync.on_delta(result.first_id, result.last_id, result.prev_id, now_ns)
        if verdict is _APPLY:
            self._accept(instrument, result, now_ns, ts_recv_ns)
        elif verdict is UpdateVerdict.IGNORE:
            self.counts["old_update"] += 1
        elif verdict is UpdateVerdict.JOIN:
            self._join_held(instrument, result.nbytes, ts_recv_ns)
        else:
            instrument.connection = connection
            packets = bytes(self.extractor.out[self._pos : self._pos + result.nbytes])
            if verdict is UpdateVerdict.GAP:
                self._lost(
                    instrument, StatusReason.GAP, sync.expected, sync.got, now_ns, ts_recv_ns
                )
            if not sync.keep(result.first_id, result.last_id, result.prev_id, packets, now_ns):
                self.counts["sync_overflow"] += 1
            self._ask(instrument, now_ns)

    def _believable(self, ts_ns: int, ts_recv_ns: int) -> int:
        """Return a venue's time that may order books, or 0: one far ahead of our clock would
        keep the true ones out.
        """
        return ts_ns if ts_recv_ns == 0 or ts_ns <= ts_recv_ns + _FUTURE_NS else 0

    def _on_rest_book(
        self, instrument: SessionInstrument, result: Result, now_ns: int, ts_recv_ns: int
    ) -> None:
        """Judge a fetched book, whose packets stand at the end of the buffer."""
        verdict = instrument.sync.on_rest_snapshot(result.last_id, now_ns)
        self.counts[f"snapshot_{verdict.name.lower()}"] += 1
        if verdict is SnapshotVerdict.APPLY:
            self._pos += result.nbytes
            self._has_books = True
            self._went_live(instrument, ts_recv_ns)
            self._replay(instrument, ts_recv_ns, now_ns)
        elif verdict is SnapshotVerdict.HOLD:
            instrument.held = bytes(self.extractor.out[self._pos : self._pos + result.nbytes])
        self._ask(instrument, now_ns)

    def _accept(
        self, instrument: SessionInstrument, result: Result, now_ns: int, ts_recv_ns: int
    ) -> None:
        """Let the event at the end of the buffer stand, unless the venue's checksum says that
        the book is wrong.
        """
        start = self._pos
        self._pos += result.nbytes
        self._has_books = True
        if (
            self._verifies
            and result.has_checksum
            and (got := self._wrong_checksum(instrument, result.checksum)) is not None
        ):
            self._pos = self._applied = start
            self._lost(
                instrument,
                StatusReason.CHECKSUM,
                result.checksum & _MASK,
                got & _MASK,
                now_ns,
                ts_recv_ns,
            )
        elif self._depths:
            self._truncate(instrument, result, ts_recv_ns)

    def _wrong_checksum(self, instrument: SessionInstrument, expected: int) -> int | None:
        """Return the checksum of the book where it is another than expected."""
        rule = self.spec.rule
        assert rule.checksum is not None
        if expected == rule.checksum_unset:
            return None
        self._apply()
        book = self.books.book(instrument.instrument_id)
        if book is None:
            return None
        levels = rule.checksum_levels
        got = rule.checksum(
            book.bids(levels).tolist(), book.asks(levels).tolist(), book.price_exp, book.qty_exp
        )
        if got != expected:
            return got
        self.counts["checksum_ok"] += 1
        return None

    def _truncate(self, instrument: SessionInstrument, result: Result, ts_recv_ns: int) -> None:
        """Delete the levels that fell out of the subscribed depth, from the session's own book
        and from every consumer's.
        """
        self._apply()
        book = self.books.book(instrument.instrument_id)
        if book is None:
            return
        deepest = max(book.depth)
        if result.snapshot and deepest > instrument.depth:
            instrument.depth = next((depth for depth in self._depths if depth >= deepest), deepest)
        if instrument.depth and deepest > instrument.depth:
            self.counts["truncated"] += 1
            self._append(
                self._writer.truncation(
                    instrument, book, instrument.depth, result.ts_exchange_ns, ts_recv_ns
                )
            )

    def _join_held(self, instrument: SessionInstrument, nbytes: int, ts_recv_ns: int) -> None:
        update = bytes(self.extractor.out[self._pos : self._pos + nbytes])
        self._append(instrument.held)
        instrument.held = b""
        self._went_live(instrument, ts_recv_ns)
        self._append(update)

    def _replay(self, instrument: SessionInstrument, ts_recv_ns: int, now_ns: int) -> None:
        updates, gap = instrument.sync.replay()
        for update in updates:
            self._append(update.packets)
        if gap:
            self._lost(
                instrument,
                StatusReason.GAP,
                instrument.sync.expected,
                instrument.sync.got,
                now_ns,
                ts_recv_ns,
            )

    def _lost(
        self,
        instrument: SessionInstrument,
        reason: StatusReason,
        expected: int,
        got: int,
        now_ns: int,
        ts_recv_ns: int,
    ) -> None:
        self.counts["gaps"] += 1
        self._append(self._writer.gap(instrument, reason, expected, got, ts_recv_ns))
        self._resync(instrument, reason, now_ns)

    def _lost_connection(self, connection: str, expected: int, got: int, ts_recv_ns: int) -> None:
        """Give up every book of a connection that lost a message, and ask for another
        connection, which brings new snapshots.
        """
        self.counts["connection_gaps"] += 1
        for instrument in self.instruments:
            if instrument.connection == connection:
                self.counts["gaps"] += 1
                self._append(
                    self._writer.gap(instrument, StatusReason.GAP, expected, got, ts_recv_ns)
                )
                instrument.held = b""
                instrument.sync.disconnected()
                self._waiting.discard(instrument.index)
        reason = f"message {expected} expected, {got} came"
        self.commands.append(Command(CommandKind.RECONNECT, connection=connection, reason=reason))

    def _distrust(self, data: bytes, now_ns: int, ts_recv_ns: int) -> None:
        """Give up the books that a message names which was not understood, where no id would
        show what they lack.
        """
        topic = self.spec.stream.peek(data)
        channel = None if topic is None else self.spec.stream.streams.get(topic.channel)
        if channel is None or channel.carries is not MsgType.BOOK:
            return
        for instrument in self.instruments:
            if instrument.sync.live and f'"{instrument.symbol}"'.encode() in data:
                self._book_status(
                    instrument, StatusState.SUSPECT, StatusReason.QUARANTINE, ts_recv_ns
                )
                self._resync(instrument, StatusReason.QUARANTINE, now_ns)

    def _resync(self, instrument: SessionInstrument, reason: StatusReason, now_ns: int) -> None:
        self.counts["resyncs"] += 1
        instrument.held = b""
        instrument.sync.resync(reason, now_ns)
        self._waiting.add(instrument.index)
        self._ask(instrument, now_ns)

    def _went_live(self, instrument: SessionInstrument, ts_recv_ns: int) -> None:
        self._waiting.discard(instrument.index)
        self._book_status(instrument, StatusState.LIVE, instrument.sync.reason, ts_recv_ns)

    def _ask(self, instrument: SessionInstrument, now_ns: int) -> None:
        request = instrument.sync.requests(now_ns)
        if not instrument.sync.live:
            self._waiting.add(instrument.index)
        if request is SyncRequest.FETCH:
            self.commands.append(Command(CommandKind.FETCH_SNAPSHOT, symbol=instrument.key))
        elif request is SyncRequest.RESUBSCRIBE:
            self.commands.append(
                Command(
                    CommandKind.RESUBSCRIBE, symbol=instrument.key, connection=instrument.connection
                )
            )

    def _apply(self) -> None:
        if self._has_books:
            self._has_books = False
            books = self.books
            result = books.apply(self.extractor.out, self._pos, self._applied)
            if result.crossed:
                self._crossed.update(
                    book.instrument_id
                    for book in map(books.at, result.touched.tolist())
                    if book.crossed
                )
        self._applied = self._pos

    def _check_crossed(self, now_ns: int, ts_recv_ns: int) -> None:
        for number in self._crossed:
            instrument, book = self.by_id[number], self.books.book(number)
            if book is None or not instrument.sync.live or self.spec.rule.may_cross:
                continue
            self.counts["crossed"] += 1
            if instrument.sync.on_crossed(
                book.crossed_run, book.crossed_events - book.crossed_run, now_ns
            ):
                self._book_status(instrument, StatusState.SUSPECT, StatusReason.CROSSED, ts_recv_ns)
                self._resync(instrument, StatusReason.CROSSED, now_ns)
        self._crossed.clear()

    # the buffer

    def _append(self, packets: bytes) -> None:
        """Put finished packets behind those already in the buffer."""
        self._make_room(len(packets))
        end = self._pos + len(packets)
        self.extractor.out[self._pos : end] = packets
        self._pos = end
        self._has_books = True

    def _make_room(self, nbytes: int) -> None:
        capacity = len(self.extractor.out)
        if self._pos + nbytes > capacity:
            self.extractor.grow(max(self._pos + nbytes, 2 * capacity))

    def _book_status(
        self,
        instrument: SessionInstrument,
        state: StatusState,
        reason: StatusReason,
        ts_recv_ns: int,
    ) -> None:
        self._status(instrument, StatusScope.BOOK, state, reason, ts_recv_ns)

    def _status(
        self,
        instrument: SessionInstrument | None,
        scope: StatusScope,
        state: StatusState,
        reason: StatusReason,
        ts_recv_ns: int,
        text: str = "",
    ) -> None:
        self._append(self._writer.status(instrument, scope, state, reason, ts_recv_ns, text))
