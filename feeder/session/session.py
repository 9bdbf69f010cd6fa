"""A venue's session: frames, bodies and times in; finished packets, commands and quarantined
messages out.

Sans-I/O: the shells (`feeder.live`, `feeder.offline`) bring bytes and the time, call `flush`
after each batch, and carry out `commands`. The hot path is one C call a frame
(`feeder.extract.extractor`) plus the book rule (`feeder.session.books`); what the C extractor
does not take goes to the venue's control messages and then to the plain-Python extractor, which
answers the same or quarantines. Everything particular to a venue comes from its `VenueSpec`.

The parts: `buffer` holds the packets, `books` judges and keeps books, `handovers` holds the
connections being replaced, `registry` the definitions, `control` what a venue answers to the
feeder, `numbering` and `volume` what a venue counts, `output` what goes to the shell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from tapecast.feeder.extract.extractor import Extractor
from tapecast.feeder.extract.fallback import FallbackExtractor
from tapecast.feeder.extract.types import ExtractStatus, Result
from tapecast.feeder.session.books import Books
from tapecast.feeder.session.buffer import Buffer
from tapecast.feeder.session.control import Controls
from tapecast.feeder.session.handover import HandoverPolicy, Outcome
from tapecast.feeder.session.handovers import Handovers
from tapecast.feeder.session.instruments import InstrumentTable
from tapecast.feeder.session.numbering import ConnectionSequence
from tapecast.feeder.session.output import Output
from tapecast.feeder.session.packets import PacketWriter
from tapecast.feeder.session.registry import Registry
from tapecast.feeder.session.types import (
    Command,
    CommandKind,
    Quarantined,
    SessionInstrument,
    SessionOptions,
)
from tapecast.feeder.session.volume import TradeVerdict, TradeVolumes
from tapecast.feeder.venues.spec import Topic, VenueSpec, qualified
from tapecast.protocol.publish.book_packets import BookPackets, Stamp
from tapecast.protocol.schema import MsgType, StatusReason, StatusScope, StatusState

__all__ = [
    "Command",
    "CommandKind",
    "Observer",
    "Quarantined",
    "Session",
    "SessionInstrument",
    "SessionOptions",
]

_BOOK = int(MsgType.BOOK)
_TRADE = int(MsgType.TRADE)
_UNFIT = (ExtractStatus.INEXACT, ExtractStatus.TOO_LARGE)
_MOST_REPAIRS = 8
"""A message lacks a symbol, exponents and room at most, each once or twice."""


class Observer(Protocol):
    """Who sees what a session is given, in order, before the session looks at it."""

    def on_url(self, connection: str, url: str) -> None:
        """See the URL of a connection."""
        ...

    def connected(self, connection: str, ts_ns: int) -> None:
        """See a connection that was opened."""
        ...

    def disconnected(self, connection: str, ts_ns: int) -> None:
        """See the loss of a connection that was open."""
        ...

    def received(self, connection: str, data: bytes, ts_ns: int) -> None:
        """See a message."""
        ...

    def handover(self, connection: str, step: str, ts_ns: int | None) -> None:
        """See a step of a replacement by `connection`; None: it has no time but the present."""
        ...


class Session:
    """The brain of one venue's feeder. Not thread-safe.

    An `observer` sees everything that a session is given that decoding a recording needs.
    """

    def __init__(
        self, spec: VenueSpec, options: SessionOptions, observer: Observer | None = None
    ) -> None:
        self.spec = spec
        self.options = options
        self._observer = observer
        table = InstrumentTable(spec, options)
        self.instruments = table.all
        self.by_symbol = table.by_symbol
        self.by_id = table.by_id
        self.known = table.known
        """Definitions of the venue by qualified symbol, of which only instruments in use are
        published.
        """
        self._table = table
        self._output = output = Output()
        self.counts = output.counts
        self.commands = output.commands
        self.quarantined = output.quarantined
        self.quarantine = output.quarantine
        self._buffer = buffer = Buffer(table.extractor)
        self._writer = PacketWriter(
            spec.venue_id, options.channel_id, options.base_flags, options.max_payload
        )
        self._books = Books(spec, options, table, buffer, self._writer, output)
        self.books = self._books.kernel
        self._handovers = Handovers(self.instruments, buffer, self._books, output.counts)
        self._registry = Registry(spec, options, table, buffer, self._writer, self._books, output)
        self._controls = Controls(spec, self._registry, self._handovers, buffer, output)
        self.last_data_ns: dict[str, int] = {}
        """Connection -> monotonic time of its last market data (acknowledgements and pongs do
        not count).
        """
        self._bad: dict[str, deque[int]] = {}
        self._markets: dict[str, str] | None = None if spec.stream.market is None else {}
        """Connection -> market, by its URL."""
        self._market = ""
        self._volumes = TradeVolumes() if spec.stream.trade_id_is_volume else None
        self._number_of = spec.stream.connection_number
        self._sequence = ConnectionSequence()
        self._is_new_counts = observer is not None or spec.stream.connection_number is not None
        """Whether it matters that a message is handled for the first time."""
        # Looked up for every message.
        self._extractor, self._extract, self._result = (
            table.extractor,
            table.extractor.extract,
            table.extractor.r,
        )
        self._fallback = table.fallback
        self._replaced, self._acked = self._handovers.by_connection, self._controls.acked
        self._on_book = self._books.on_book

    # connections

    def on_url(self, connection: str, url: str) -> None:
        """Note the URL of a connection, before its first message: where a venue has several
        markets, it decides whose symbols the messages name.
        """
        if self._observer is not None:
            self._observer.on_url(connection, url)
        if self._markets is not None and self.spec.stream.market is not None:
            self._markets[connection] = self.spec.stream.market(url, b"")

    def on_connect(self, connection: str, now_ns: int, ts_recv_ns: int) -> None:
        """Note a new venue connection; one that was thought open is closed first. A replacement
        changes no state.
        """
        if connection in self.last_data_ns:
            self.on_disconnect(connection, now_ns, ts_recv_ns)
        if self._observer is not None:
            self._observer.connected(connection, ts_recv_ns)
        self.last_data_ns[connection] = now_ns
        self._sequence.forget(connection)
        if connection not in self._replaced:
            self._connection_status(connection, StatusState.CONNECTED, ts_recv_ns)

    def on_disconnect(self, connection: str, now_ns: int, ts_recv_ns: int) -> None:
        """Note the loss of a connection: its books are worth nothing until they are synchronised
        again. Nothing happens for a connection that is not open.
        """
        if connection not in self.last_data_ns:
            return
        if self._observer is not None:
            self._observer.disconnected(connection, ts_recv_ns)
        del self.last_data_ns[connection]
        self._bad.pop(connection, None)
        self._handovers.forget(connection)
        self._controls.forget(connection)
        self._connection_status(connection, StatusState.DISCONNECTED, ts_recv_ns)
        self._books.on_disconnect(connection, ts_recv_ns)

    def on_request(self, connection: str, request_id: str, topics: Iterable[Topic]) -> None:
        """Note what a request asks for, before it is sent: a venue that lists what it accepts may
        leave something out without an error.
        """
        self._controls.requested(connection, request_id, topics)

    def on_subscribed(self, symbols: Iterable[str], connection: str, now_ns: int) -> None:
        """Note that a subscription of these symbols' books was sent on a connection: their
        waiting clocks start.
        """
        for symbol in symbols:
            instrument = self.by_symbol.get(symbol)
            if instrument is not None:
                self._books.subscribed(instrument, connection, now_ns)

    def on_topics(
        self, kind: str, topics: Iterable[Topic], ts_recv_ns: int, *, resumed: bool
    ) -> None:
        """Note topics that bring no data, or do again (`resumed`): counted by `kind`, and
        published for each instrument.
        """
        state, reason = (
            (StatusState.LIVE, StatusReason.NONE)
            if resumed
            else (StatusState.STALE, StatusReason.TIMEOUT)
        )
        for topic in topics:
            self.counts[f"topics_{kind.lower()}"] += 1
            instrument = self.by_symbol.get(topic.symbol)
            if instrument is not None:
                self._buffer.append(
                    self._writer.status(
                        instrument,
                        StatusScope.INSTRUMENT,
                        state,
                        reason,
                        ts_recv_ns,
                        text=topic.channel,
                    )
                )

    # connections that are replaced

    def begin_handover(self, old: str, new: str, policy: HandoverPolicy) -> None:
        """Note that `new` is about to be opened in place of `old`; call before `on_connect` of
        `new`.
        """
        if self._observer is not None:
            self._observer.handover(new, f"begin {old}", None)
        self._handovers.begin(old, new, policy)

    def replacing(self, new: str) -> bool:
        """Whether `new` is about to replace another connection."""
        return self._handovers.replacing(new)

    def handover_subscribed(self, new: str, now_ns: int) -> None:
        """Note that the new connection has sent its requests. Raises KeyError without
        `begin_handover`.
        """
        if self._observer is not None:
            self._observer.handover(new, "subscribed", None)
        self._replaced[new].subscribed(now_ns)

    def handover_verdict(self, new: str, now_ns: int) -> Outcome:
        """Return whether the old connection can be closed. Raises KeyError without
        `begin_handover`.
        """
        handover = self._replaced[new]
        return handover.verdict(
            (one for one in self.instruments if one.connection == handover.old), now_ns
        )

    def end_handover(self, new: str, now_ns: int, ts_recv_ns: int) -> None:
        """Let the new connection take the place and the name of the old one, whose messages no
        longer come. Raises KeyError without `begin_handover`; afterwards `new` names nothing.
        """
        if self._observer is not None:
            self._observer.handover(new, "end", ts_recv_ns)
        handover = self._replaced[new]
        old = handover.old
        for held in handover.drain():
            self._handle(new, held.data, held.ts_recv_ns, now_ns)
        left_behind = [one for one in self.instruments if one.connection == old and one.sync.live]
        self._rename(new, old)
        for instrument in left_behind:
            if handover.behind(instrument) or not self._books.joined_by_itself(instrument):
                # It was LIVE on the old connection, and nothing shows that the new one goes on
                # from there.
                self._books.give_up(instrument, StatusReason.DISCONNECTED, now_ns, ts_recv_ns)
        self.counts["rotations"] += 1
        self._handovers.finish(handover, old, new, now_ns)

    def abandon_handover(self, new: str, now_ns: int, ts_recv_ns: int) -> None:
        """Go on with the old connection alone, unless that was settled before."""
        if self._observer is not None and self._handovers.replacing(new):
            self._observer.handover(new, "abandon", ts_recv_ns)
        handover = self._replaced.get(new)
        if handover is None:
            return
        old = handover.old
        for instrument in self.instruments:
            if (
                instrument.connection == new
                and not handover.give_back(instrument)
                and instrument.sync.live
            ):
                self._books.give_up(instrument, StatusReason.DISCONNECTED, now_ns, ts_recv_ns)
        self._forget(new)
        self.counts["rotations_abandoned"] += 1
        self._handovers.finish(handover, old, new, now_ns)

    def sweep_handovers(self, now_ns: int) -> None:
        """Forget what is over; call about once a second."""
        self._handovers.sweep(now_ns)

    # messages

    def on_frame(self, connection: str, data: bytes, ts_recv_ns: int, now_ns: int) -> None:
        """Handle one complete WebSocket message. What it comes to goes out with the next
        `flush`. A defect of ours raises: call `on_defect` then.
        """
        if self._is_new_counts:
            self._on_new(connection, data, ts_recv_ns)
        self._handle(connection, data, ts_recv_ns, now_ns)

    def on_defect(
        self, connection: str, data: bytes, error: str, ts_recv_ns: int, now_ns: int
    ) -> None:
        """Put a message aside whose `on_frame` raised: a book whose messages nothing numbers may
        lack it, and is given up.
        """
        self.quarantine(connection, data, f"internal error: {error}", 0, ts_recv_ns, None)
        if self._books.unnumbered:
            self._books.distrust(data, now_ns, ts_recv_ns)

    def on_snapshot(self, symbol: str, body: bytes, ts_recv_ns: int, now_ns: int) -> None:
        """Handle the body of a REST order book."""
        instrument = self.by_symbol.get(symbol) or self._registry.register(symbol, ts_recv_ns)
        if instrument is None:
            self.quarantine(
                "rest", body, f"order book of an unknown symbol {symbol!r}", 0, ts_recv_ns, symbol
            )
            return
        result = self._extract_body(instrument, body, ts_recv_ns, now_ns)
        if result is None:
            fallback = self._fallback
            self.quarantine(
                "rest",
                body,
                f"order book: {fallback.reason}",
                fallback.r.error_offset,
                ts_recv_ns,
                symbol,
            )
            self.on_snapshot_failed(symbol, now_ns)
            return
        self._books.on_rest_book(instrument, result, now_ns, ts_recv_ns)

    def on_snapshot_failed(self, symbol: str, now_ns: int) -> None:
        """Note that an order-book request failed; the rule plans the next one."""
        instrument = self.by_symbol.get(symbol)
        if instrument is not None:
            self._books.on_snapshot_failed(instrument, now_ns)

    def on_instruments(self, body: bytes, ts_recv_ns: int, now_ns: int) -> int | None:
        """Handle the body of an instruments request; return how many definitions it held, None
        where it is none.

        Instruments in use are redefined.
        """
        return self._registry.on_instruments(body, ts_recv_ns, now_ns)

    def subscribe(self, symbols: Iterable[str], ts_recv_ns: int) -> None:
        """Register the instruments that will be subscribed, in order, and publish their
        definitions. A text that is no symbol of the venue is quarantined.
        """
        for symbol in symbols:
            if symbol not in self.by_symbol and self._registry.register(symbol, ts_recv_ns) is None:
                reason = f"{self.spec.name}: {symbol!r} is not a symbol of this venue"
                self.quarantine("", b"", reason, 0, ts_recv_ns, symbol)

    # what goes out

    def flush(
        self, publish: Callable[[bytearray, int], object], now_ns: int, ts_recv_ns: int
    ) -> int:
        """Hand the finished packets to `publish(buffer, nbytes)`, then bring the session's own
        books up to them. Returns nbytes; the bytes are overwritten afterwards.

        Where `publish` raises, the buffer is empty all the same: one batch is lost, not every
        later one; call `on_batch_lost` then.
        """
        buffer, books = self._buffer, self._books
        nbytes = buffer.position
        if nbytes:
            try:
                publish(buffer.out, nbytes)
            finally:
                books.apply()
                buffer.clear()
            if books.crossed:
                books.check_crossed(now_ns, ts_recv_ns)
        return nbytes

    def on_batch_lost(self, ts_recv_ns: int) -> None:
        """Publish that finished packets never went out, and every LIVE book whole."""
        self._books.on_batch_lost(ts_recv_ns)

    def take_commands(self) -> list[Command]:
        """Return the commands since the last call, in order, and forget them."""
        return self._output.take_commands()

    def take_quarantined(self) -> list[Quarantined]:
        """Return the quarantined messages since the last call, in order, and forget them."""
        return self._output.take_quarantined()

    # time

    def next_deadline(self) -> int | None:
        """Return the monotonic time at which `on_timer` has something to do, or None."""
        return self._books.next_deadline()

    def on_timer(self, now_ns: int, ts_recv_ns: int) -> None:
        """Let deadlines act; call at `next_deadline`."""
        self._books.on_timer(now_ns, ts_recv_ns)

    def check_stale(self, now_ns: int, stale_after_ns: int, ts_recv_ns: int) -> None:
        """Publish which LIVE books have been silent for too long, and which go on; call about
        once a second.
        """
        self._books.check_stale(now_ns, stale_after_ns, ts_recv_ns)

    # how things stand, for receivers that begin now

    def definition(self, instrument: SessionInstrument) -> bytes:
        """Return the current definition of an instrument as a packet."""
        return self._writer.definition(instrument, instrument.definition)

    def book_snapshot(self, instrument: SessionInstrument) -> bytes:
        """Return the session's own book of an instrument as SNAPSHOT | RECOVERED packets; empty
        unless it is LIVE. Call right after `flush`: the book is at the last event published.
        """
        return self._books.snapshot(instrument)

    def book_pieces(self, instrument: SessionInstrument, stamp: Stamp) -> BookPackets | None:
        """Return the packets of `book_snapshot`, stamped already and made piece by piece; None
        where there are none.
        """
        return self._books.pieces(instrument, stamp)

    def book_status(self, instrument: SessionInstrument, has_levels: bool, ts_ns: int) -> bytes:
        """Return the STATUS that a receiver which begins now has to have besides the levels, or
        in their place; empty: none.
        """
        return self._books.joining_status(instrument, has_levels, ts_ns)

    def live_books(self) -> int:
        """Return how many books are LIVE."""
        return self._books.live()

    # one message

    def _on_new(self, connection: str, data: bytes, ts_recv_ns: int) -> None:
        """Note a message before it is handled: recorded, and its number followed."""
        if self._observer is not None:
            self._observer.received(connection, data, ts_recv_ns)
        number = None if self._number_of is None else self._number_of(data)
        if number is not None:
            expected = self._sequence.follow(connection, number)
            if expected is not None:
                self._books.on_missing_message(connection, expected, number, ts_recv_ns)

    def _handle(self, connection: str, data: bytes, ts_recv_ns: int, now_ns: int) -> None:
        """Handle a message that is recorded and counted."""
        if self._markets is not None:
            self._select_market(connection, data)
        status = self._extract(data, ts_recv_ns, self._buffer.position)
        if status:
            status = self._extract_again(data, ts_recv_ns, now_ns, status)
        if status:
            self._on_odd_frame(connection, data, ts_recv_ns, now_ns, status)
        else:
            self._on_event(connection, data, self._result, ts_recv_ns, now_ns)

    def _on_event(
        self, connection: str, data: bytes, result: Result, ts_recv_ns: int, now_ns: int
    ) -> None:
        """Judge what was extracted to the end of the buffer."""
        self.last_data_ns[connection] = now_ns
        if self._replaced and not self._handovers.admits(connection, data, result, ts_recv_ns):
            return
        if result.msg_type == _BOOK:
            self._on_book(
                self.instruments[result.instrument], connection, result, now_ns, ts_recv_ns
            )
        elif self._volumes is not None and result.msg_type == _TRADE:
            self._on_counted_trade(self._volumes, result, ts_recv_ns)
        else:
            if self._acked and result.msg_type == _TRADE:
                self._controls.mark_repeated(result)
            self._buffer.position += result.nbytes

    def _extract_again(self, data: bytes, ts_recv_ns: int, now_ns: int, status: int) -> int:
        """Extract again after what was lacking was put right; return the status that remains."""
        for _ in range(_MOST_REPAIRS):
            if not self._repair(self._extractor, data, ts_recv_ns, now_ns, status):
                break
            status = self._extract(data, ts_recv_ns, self._buffer.position)
            if not status:
                break
        return status

    def _repair(
        self,
        extractor: Extractor | FallbackExtractor,
        data: bytes,
        ts_recv_ns: int,
        now_ns: int,
        status: int,
    ) -> bool:
        """Put right what an extraction lacked: room, an instrument, exponents. True: extract
        again, at the end of the buffer as it is then.
        """
        if status == ExtractStatus.NO_SPACE:
            if isinstance(extractor, Extractor):
                self._buffer.make_room(extractor.r.need_bytes)
            else:
                extractor.grow(extractor.r.need_bytes)
            return True
        if status == ExtractStatus.UNKNOWN_SYMBOL:
            key = qualified(self._market, extractor.symbol.decode("utf-8", "replace"))
            return key not in self.by_symbol and self._registry.accept(key, ts_recv_ns) is not None
        if status in _UNFIT:
            instrument = self.instruments[extractor.r.instrument]
            return self._registry.fit(instrument, data, now_ns, ts_recv_ns)
        return False

    # messages off the hot path

    def _on_odd_frame(
        self, connection: str, data: bytes, ts_recv_ns: int, now_ns: int, status: int
    ) -> None:
        """Handle a message of which the C extractor made nothing."""
        if status == ExtractStatus.UNKNOWN_SYMBOL:
            self._on_unknown_symbol(connection, data, ts_recv_ns, now_ns)
        elif status == ExtractStatus.SUPPRESSED:
            self.counts["suppressed"] += 1
            self.last_data_ns[connection] = now_ns
        elif (control := self._controls.read(data)) is not None:
            self._controls.handle(connection, control, self._market, now_ns, ts_recv_ns)
        elif (
            self.spec.stream.reframe is not None
            and (reframed := self.spec.stream.reframe(data)) is not None
        ):
            self._handle(connection, reframed, ts_recv_ns, now_ns)
        else:
            self._on_fallback(connection, data, ts_recv_ns, now_ns)

    def _on_unknown_symbol(
        self, connection: str, data: bytes, ts_recv_ns: int, now_ns: int
    ) -> None:
        symbol = self._extractor.symbol.decode("utf-8", "replace")
        if (
            self.spec.stream.market_wide
            and (topic := self.spec.stream.peek(data))
            and topic.channel in self.spec.stream.market_wide
        ):
            self.counts["not_followed"] += 1
            self.last_data_ns[connection] = now_ns
        else:
            known = self.spec.kind_of(qualified(self._market, symbol)) is not None
            why = "was not subscribed" if known else "is not a symbol of this venue"
            self.quarantine(connection, data, f"{symbol!r} {why}", 0, ts_recv_ns, symbol)
            self._count_bad(connection, now_ns)

    def _on_fallback(self, connection: str, data: bytes, ts_recv_ns: int, now_ns: int) -> None:
        """Let the plain-Python extractor decide: the same packets, or the reason of a
        quarantine.
        """
        fallback = self._fallback
        status = fallback.extract(data, ts_recv_ns, 0)
        for _ in range(_MOST_REPAIRS):
            if not status or not self._repair(fallback, data, ts_recv_ns, now_ns, status):
                break
            status = fallback.extract(data, ts_recv_ns, 0)
        if status == ExtractStatus.SUPPRESSED:
            self.counts["suppressed"] += 1
        elif status:
            known = (
                self.instruments[fallback.r.instrument].symbol
                if fallback.r.instrument >= 0
                else None
            )
            self.quarantine(
                connection, data, fallback.reason, fallback.r.error_offset, ts_recv_ns, known
            )
            if self._books.unnumbered:
                self._books.distrust(data, now_ns, ts_recv_ns)
            self._count_bad(connection, now_ns)
        else:
            self.counts["fallback"] += 1
            self._buffer.place(fallback.out[: fallback.r.nbytes])
            self._on_event(connection, data, fallback.r, ts_recv_ns, now_ns)

    def _on_counted_trade(self, volumes: TradeVolumes, result: Result, ts_recv_ns: int) -> None:
        """Let the trade at the end of the buffer stand unless it came before; publish what was
        lost before it.
        """
        buffer = self._buffer
        instrument = self.instruments[result.instrument]
        volume, quantity = self._writer.counted(buffer.out, buffer.position, instrument.qty_exp)
        verdict = (
            volumes.follow(instrument.index, volume, quantity, ts_recv_ns)
            if volume
            else TradeVerdict.NEW
        )
        if verdict is TradeVerdict.REPEATED:
            self.counts["repeated_trades"] += 1
        elif verdict is TradeVerdict.AFTER_LOSS:
            self.counts["gaps"] += 1
            trade = buffer.copy(result.nbytes)
            buffer.append(
                self._writer.trades_lost(instrument, volumes.expected, volume, ts_recv_ns)
            )
            buffer.append(trade)
        else:
            buffer.position += result.nbytes

    def _extract_body(
        self, instrument: SessionInstrument, body: bytes, ts_recv_ns: int, now_ns: int
    ) -> Result | None:
        """Put the packets of a REST order book at the end of the buffer; None where it is none:
        `_fallback.reason` says why.
        """
        extractor, fallback, index = self._extractor, self._fallback, instrument.index
        buffer = self._buffer
        status = extractor.extract_as(index, body, ts_recv_ns, buffer.position)
        if status == ExtractStatus.NO_SPACE:
            buffer.make_room(extractor.r.need_bytes)
            status = extractor.extract_as(index, body, ts_recv_ns, buffer.position)
        if status in _UNFIT and self._registry.fit(instrument, body, now_ns, ts_recv_ns, rest=True):
            status = extractor.extract_as(index, body, ts_recv_ns, buffer.position)
        if not status:
            return extractor.r
        status = fallback.extract_as(index, body, ts_recv_ns, 0)
        if status == ExtractStatus.NO_SPACE:
            fallback.grow(fallback.r.need_bytes)
            status = fallback.extract_as(index, body, ts_recv_ns, 0)
        if status:
            return None
        buffer.place(fallback.out[: fallback.r.nbytes])
        return fallback.r

    def _select_market(self, connection: str, data: bytes) -> None:
        """Let the extractors take a message's symbols as those of its connection's market."""
        assert self._markets is not None
        assert self.spec.stream.market is not None
        market = self._markets.get(connection)
        self._market = self.spec.stream.market("", data) if market is None else market
        self._table.select(self._market)

    def _count_bad(self, connection: str, now_ns: int) -> None:
        window = self._bad.setdefault(connection, deque(maxlen=self.options.quarantine_limit))
        window.append(now_ns)
        if len(window) == window.maxlen and now_ns - window[0] <= self.options.quarantine_window_ns:
            window.clear()
            self.commands.append(
                Command(
                    CommandKind.RECONNECT,
                    connection=connection,
                    reason="too many unusable messages",
                )
            )

    def _connection_status(self, connection: str, state: StatusState, ts_recv_ns: int) -> None:
        status = self._writer.status(
            None, StatusScope.CONNECTION, state, StatusReason.NONE, ts_recv_ns, text=connection
        )
        self._buffer.append(status)

    def _rename(self, connection: str, name: str) -> None:
        """Call a connection by another name, that of the one it replaces."""
        self._books.rename(connection, name)
        self.last_data_ns[name] = self.last_data_ns.pop(connection)
        self._sequence.rename(connection, name)
        self._bad.pop(name, None)
        if (bad := self._bad.pop(connection, None)) is not None:
            self._bad[name] = bad
        self._controls.rename(connection, name)

    def _forget(self, connection: str) -> None:
        """Forget a connection that has no books."""
        self.last_data_ns.pop(connection, None)
        self._sequence.forget(connection)
        self._bad.pop(connection, None)
        self._controls.forget(connection)
