"""The books of a session: which events of the buffer stand, which wait, and what is published when
one is lost.

An event arrives at the end of the `Buffer`; the book rule (`feeder.session.sync`) judges it, and
what stands is applied to the session's own books before the buffer is cleared. It reads no venue
message and does no I/O.
"""

from __future__ import annotations

from tapecast.feeder.extract.types import Result
from tapecast.feeder.session.buffer import Buffer
from tapecast.feeder.session.instruments import InstrumentTable
from tapecast.feeder.session.output import Output
from tapecast.feeder.session.packets import PacketWriter
from tapecast.feeder.session.sync import (
    NO_ID,
    SequenceRule,
    SnapshotVerdict,
    SyncRequest,
    UpdateVerdict,
)
from tapecast.feeder.session.types import Command, CommandKind, SessionInstrument, SessionOptions
from tapecast.feeder.venues.spec import VenueSpec
from tapecast.protocol.books.books import BookSet
from tapecast.protocol.publish.book_packets import BookPackets, Stamp
from tapecast.protocol.schema import MsgType, StatusReason, StatusScope, StatusState

__all__ = ["Books"]

_MASK = 2**64 - 1
_FIRST_ID = 1
"""Of `SequenceRule.NEXT`: the venue counts anew, and the message holds the whole book."""
_FUTURE_NS = 60_000_000_000
_APPLY, _FULL = UpdateVerdict.APPLY, SequenceRule.FULL


class Books:
    """The books of one venue's session, on its buffer."""

    def __init__(
        self,
        spec: VenueSpec,
        options: SessionOptions,
        table: InstrumentTable,
        buffer: Buffer,
        writer: PacketWriter,
        output: Output,
    ) -> None:
        rule = spec.rule
        self.kernel = BookSet()
        """The levels of all books, as consumers have them, up to `Buffer.applied`."""
        self.sequence_rule = SequenceRule(rule.sequence_rule)
        self.unnumbered = self.sequence_rule is SequenceRule.UNVERIFIED or rule.checksum_only
        """Whether no id shows that a message of a book is missing. A checksum is over the best
        levels alone.
        """
        self._spec = spec
        self._rule = rule
        self._table = table
        self._instruments = table.all
        self._buffer = buffer
        self._writer = writer
        self._commands = output.commands
        self._counts = output.counts
        self._restarts = self.sequence_rule is SequenceRule.NEXT
        self._verifies = (
            options.verify_checksum or rule.checksum_only
        ) and rule.checksum is not None
        self._depths = rule.depths
        self.crossed: set[int] = set()
        """Instrument ids whose books are crossed after this batch: `check_crossed` judges them.
        """
        self._waiting: set[int] = set()

    def on_timer(self, now_ns: int, ts_recv_ns: int) -> None:
        """Let deadlines act; call at `next_deadline`."""
        for index in tuple(self._waiting):
            instrument = self._instruments[index]
            self._ask(instrument, now_ns)
            if instrument.sync.quiet_expired:
                instrument.sync.publish_held()
                self._buffer.append(instrument.held)
                instrument.held = b""
                self._went_live(instrument, ts_recv_ns)

    def next_deadline(self) -> int | None:
        """Return the monotonic time at which `on_timer` has something to do, or None."""
        deadlines = [
            d for i in self._waiting if (d := self._instruments[i].sync.deadline_ns) is not None
        ]
        return min(deadlines, default=None)

    def check_stale(self, now_ns: int, stale_after_ns: int, ts_recv_ns: int) -> None:
        """Publish STALE for LIVE books that have been silent for too long, and LIVE for those of
        them that go on; call about once a second.
        """
        for instrument in self._instruments:
            if not instrument.sync.live:
                instrument.stale = False
                continue
            book = self.kernel.book(instrument.instrument_id)
            updates = 0 if book is None else book.updates
            if updates != instrument.updates:
                instrument.updates, instrument.changed_ns = updates, now_ns
                if instrument.stale:
                    instrument.stale = False
                    self.status(instrument, StatusState.LIVE, StatusReason.NONE, ts_recv_ns)
            elif not instrument.stale and now_ns - instrument.changed_ns > stale_after_ns:
                instrument.stale = True
                self._counts["stale"] += 1
                self.status(instrument, StatusState.STALE, StatusReason.TIMEOUT, ts_recv_ns)

    def on_batch_lost(self, ts_recv_ns: int) -> None:
        """Publish that finished packets never went out, and put every LIVE book into the next
        ones whole.

        The packets had no numbers yet, so nothing else would show consumers what their books
        lack.
        """
        self._buffer.append(
            self._writer.status(
                None,
                StatusScope.CHANNEL,
                StatusState.SUSPECT,
                StatusReason.OVERFLOW,
                ts_recv_ns,
                text="batch not sent",
            )
        )
        for instrument in self._instruments:
            self._buffer.append(self.snapshot(instrument))

    def snapshot(self, instrument: SessionInstrument) -> bytes:
        """Return the session's own book of an instrument as SNAPSHOT | RECOVERED packets; empty
        unless it is LIVE.
        """
        book = self.kernel.book(instrument.instrument_id)
        if book is None or not instrument.sync.live:
            return b""
        return self._writer.book(instrument, book)

    def pieces(self, instrument: SessionInstrument, stamp: Stamp) -> BookPackets | None:
        """Return the packets of `snapshot`, stamped already and made piece by piece; None where
        there are none. The levels are a copy: later updates do not change it.
        """
        book = self.kernel.book(instrument.instrument_id)
        if book is None or not instrument.sync.live:
            return None
        return self._writer.book_pieces(instrument, book, stamp)

    def joining_status(self, instrument: SessionInstrument, has_levels: bool, ts_ns: int) -> bytes:
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

    def live(self) -> int:
        """Return how many books are LIVE."""
        return sum(1 for instrument in self._instruments if instrument.sync.live)

    # events

    def on_book(
        self,
        instrument: SessionInstrument,
        connection: str,
        result: Result,
        now_ns: int,
        ts_recv_ns: int,
    ) -> None:
        """Judge a book message, whose packets stand at the end of the buffer: they stand, wait
        with the book rule, or are gone.
        """
        sync = instrument.sync
        restart = self._restarts and not result.snapshot and result.last_id == _FIRST_ID
        if restart:
            self._writer.mark_snapshot(self._buffer.out, self._buffer.position, result.nbytes)
        if result.snapshot or restart:
            was_live = sync.live
            if self.sequence_rule is _FULL:
                if (
                    sync.on_full(self._believable(result.ts_exchange_ns, ts_recv_ns))
                    is UpdateVerdict.IGNORE
                ):
                    self._counts["out_of_date"] += 1
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
            self._counts["old_update"] += 1
        elif verdict is UpdateVerdict.JOIN:
            self._join_held(instrument, result.nbytes, ts_recv_ns)
        else:
            instrument.connection = connection
            packets = self._buffer.copy(result.nbytes)
            if verdict is UpdateVerdict.GAP:
                self._lost(
                    instrument, StatusReason.GAP, sync.expected, sync.got, now_ns, ts_recv_ns
                )
            if not sync.keep(result.first_id, result.last_id, result.prev_id, packets, now_ns):
                self._counts["sync_overflow"] += 1
            self._ask(instrument, now_ns)

    def _believable(self, ts_ns: int, ts_recv_ns: int) -> int:
        """Return a venue's time that may order books, or 0: one far ahead of our clock would
        keep the true ones out.
        """
        return ts_ns if ts_recv_ns == 0 or ts_ns <= ts_recv_ns + _FUTURE_NS else 0

    def on_rest_book(
        self, instrument: SessionInstrument, result: Result, now_ns: int, ts_recv_ns: int
    ) -> None:
        """Judge a fetched book, whose packets stand at the end of the buffer."""
        verdict = instrument.sync.on_rest_snapshot(result.last_id, now_ns)
        self._counts[f"snapshot_{verdict.name.lower()}"] += 1
        if verdict is SnapshotVerdict.APPLY:
            self._buffer.accept(result.nbytes)
            self._went_live(instrument, ts_recv_ns)
            self._replay(instrument, ts_recv_ns, now_ns)
        elif verdict is SnapshotVerdict.HOLD:
            instrument.held = self._buffer.copy(result.nbytes)
        self._ask(instrument, now_ns)

    def _accept(
        self, instrument: SessionInstrument, result: Result, now_ns: int, ts_recv_ns: int
    ) -> None:
        """Let the event at the end of the buffer stand, unless the venue's checksum says that
        the book is wrong.
        """
        buffer = self._buffer
        start = buffer.position
        buffer.position = start + result.nbytes
        buffer.has_books = True
        if (
            self._verifies
            and result.has_checksum
            and (got := self._wrong_checksum(instrument, result.checksum)) is not None
        ):
            buffer.take_back(start)
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
        rule = self._rule
        assert rule.checksum is not None
        if expected == rule.checksum_unset:
            return None
        self.apply()
        book = self.kernel.book(instrument.instrument_id)
        if book is None:
            return None
        levels = rule.checksum_levels
        got = rule.checksum(
            book.bids(levels).tolist(), book.asks(levels).tolist(), book.price_exp, book.qty_exp
        )
        if got != expected:
            return got
        self._counts["checksum_ok"] += 1
        return None

    def _truncate(self, instrument: SessionInstrument, result: Result, ts_recv_ns: int) -> None:
        """Delete the levels that fell out of the subscribed depth, from the session's own book
        and from every consumer's.
        """
        self.apply()
        book = self.kernel.book(instrument.instrument_id)
        if book is None:
            return
        deepest = max(book.depth)
        if result.snapshot and deepest > instrument.depth:
            instrument.depth = next((depth for depth in self._depths if depth >= deepest), deepest)
        if instrument.depth and deepest > instrument.depth:
            self._counts["truncated"] += 1
            self._buffer.append(
                self._writer.truncation(
                    instrument, book, instrument.depth, result.ts_exchange_ns, ts_recv_ns
                )
            )

    def _join_held(self, instrument: SessionInstrument, nbytes: int, ts_recv_ns: int) -> None:
        update = self._buffer.copy(nbytes)
        self._buffer.append(instrument.held)
        instrument.held = b""
        self._went_live(instrument, ts_recv_ns)
        self._buffer.append(update)

    def _replay(self, instrument: SessionInstrument, ts_recv_ns: int, now_ns: int) -> None:
        updates, gap = instrument.sync.replay()
        for update in updates:
            self._buffer.append(update.packets)
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
        self._counts["gaps"] += 1
        self._buffer.append(self._writer.gap(instrument, reason, expected, got, ts_recv_ns))
        self._resync(instrument, reason, now_ns)

    def on_missing_message(self, connection: str, expected: int, got: int, ts_recv_ns: int) -> None:
        """Give up every book of a connection that lost a message, and ask for another
        connection, which brings new snapshots.
        """
        self._counts["connection_gaps"] += 1
        for instrument in self._instruments:
            if instrument.connection == connection:
                self._counts["gaps"] += 1
                self._buffer.append(
                    self._writer.gap(instrument, StatusReason.GAP, expected, got, ts_recv_ns)
                )
                instrument.held = b""
                instrument.sync.disconnected()
                self._waiting.discard(instrument.index)
        reason = f"message {expected} expected, {got} came"
        self._commands.append(Command(CommandKind.RECONNECT, connection=connection, reason=reason))

    def distrust(self, data: bytes, now_ns: int, ts_recv_ns: int) -> None:
        """Give up the books that a message names which was not understood, where no id would
        show what they lack.
        """
        topic = self._spec.stream.peek(data)
        channel = None if topic is None else self._spec.stream.streams.get(topic.channel)
        if channel is None or channel.carries is not MsgType.BOOK:
            return
        for instrument in self._instruments:
            if instrument.sync.live and f'"{instrument.symbol}"'.encode() in data:
                self.give_up(instrument, StatusReason.QUARANTINE, now_ns, ts_recv_ns)

    def give_up(
        self, instrument: SessionInstrument, reason: StatusReason, now_ns: int, ts_recv_ns: int
    ) -> None:
        """Publish that a book is in doubt, and synchronise it again."""
        self.status(instrument, StatusState.SUSPECT, reason, ts_recv_ns)
        self._resync(instrument, reason, now_ns)

    def _resync(self, instrument: SessionInstrument, reason: StatusReason, now_ns: int) -> None:
        self._counts["resyncs"] += 1
        instrument.held = b""
        instrument.sync.resync(reason, now_ns)
        self._waiting.add(instrument.index)
        self._ask(instrument, now_ns)

    def _went_live(self, instrument: SessionInstrument, ts_recv_ns: int) -> None:
        self._waiting.discard(instrument.index)
        self.status(instrument, StatusState.LIVE, instrument.sync.reason, ts_recv_ns)

    def subscribed(self, instrument: SessionInstrument, connection: str, now_ns: int) -> None:
        """Note that a subscription of the book was sent on a connection: its waiting clock
        starts.
        """
        instrument.connection = connection
        instrument.sync.subscribed(now_ns)
        self._waiting.add(instrument.index)

    def on_disconnect(self, connection: str, ts_recv_ns: int) -> None:
        """Forget what the books of a lost connection are worth."""
        for instrument in self._instruments:
            if instrument.connection == connection:
                instrument.connection = ""
                instrument.held = b""
                self._waiting.discard(instrument.index)
                if instrument.sync.disconnected():
                    self.status(
                        instrument, StatusState.SUSPECT, StatusReason.DISCONNECTED, ts_recv_ns
                    )

    def rename(self, connection: str, name: str) -> None:
        """Let the books of a connection be those of another name."""
        for instrument in self._instruments:
            if instrument.connection == connection:
                instrument.connection = name

    def on_snapshot_failed(self, instrument: SessionInstrument, now_ns: int) -> None:
        """Note that an order-book request failed; the rule plans the next one."""
        instrument.sync.fetch_failed(now_ns)
        self._ask(instrument, now_ns)

    def joined_by_itself(self, instrument: SessionInstrument) -> bool:
        """Whether the next update shows by itself if something is missing before it."""
        if self.sequence_rule is _FULL:
            return True
        return (
            self.sequence_rule is not SequenceRule.UNVERIFIED and instrument.sync.last_id != NO_ID
        )

    def is_restart(self, result: Result) -> bool:
        """Whether a book message counts anew: it is the whole book, although not marked so."""
        return self._restarts and not result.snapshot and result.last_id == _FIRST_ID

    def _ask(self, instrument: SessionInstrument, now_ns: int) -> None:
        request = instrument.sync.requests(now_ns)
        if not instrument.sync.live:
            self._waiting.add(instrument.index)
        if request is SyncRequest.FETCH:
            self._commands.append(Command(CommandKind.FETCH_SNAPSHOT, symbol=instrument.key))
        elif request is SyncRequest.RESUBSCRIBE:
            self._commands.append(
                Command(
                    CommandKind.RESUBSCRIBE, symbol=instrument.key, connection=instrument.connection
                )
            )

    def apply(self) -> None:
        """Bring the session's own books up to the packets that stand."""
        buffer = self._buffer
        if buffer.has_books:
            buffer.has_books = False
            result = self.kernel.apply(buffer.out, buffer.position, buffer.applied)
            if result.crossed:
                self.crossed.update(
                    book.instrument_id
                    for book in map(self.kernel.at, result.touched.tolist())
                    if book.crossed
                )
        buffer.applied = buffer.position

    def check_crossed(self, now_ns: int, ts_recv_ns: int) -> None:
        """Give up the books that have been crossed for too long; call after a batch is cleared."""
        for number in self.crossed:
            instrument, book = self._table.by_id[number], self.kernel.book(number)
            if book is None or not instrument.sync.live or self._rule.may_cross:
                continue
            self._counts["crossed"] += 1
            if instrument.sync.on_crossed(
                book.crossed_run, book.crossed_events - book.crossed_run, now_ns
            ):
                self.give_up(instrument, StatusReason.CROSSED, now_ns, ts_recv_ns)
        self.crossed.clear()

    def status(
        self,
        instrument: SessionInstrument,
        state: StatusState,
        reason: StatusReason,
        ts_recv_ns: int,
    ) -> None:
        """Publish the state of a book."""
        self._buffer.append(
            self._writer.status(instrument, StatusScope.BOOK, state, reason, ts_recv_ns)
        )
