"""A venue's session: frames, bodies and times in; finished packets, commands and quarantined messages out.

Sans-I/O: the shells (`feeder.live`, `feeder.offline`) bring bytes and the time, call `flush` after each batch, and carry out
`commands`. The hot path is one C call a frame (`protocol.extract`) plus the book rule (`feeder.sync`); what the C extractor does
not take goes to the venue's control messages and then to the plain-Python extractor, which answers the same or quarantines.
Everything particular to a venue comes from its `VenueSpec`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from feeder.packets import PacketWriter
from feeder.sync import BookSync, Chain, Request, SnapshotSource, SnapshotVerdict, SyncPolicy, Verdict
from feeder.venue import Ack, Control, InstrumentDef, InstrumentsError, Notice, ServerError, VenueSpec
from protocol.books import BookSet
from protocol.codec import instrument_id
from protocol.extract import Extractor
from protocol.extract_types import Result, Status
from protocol.extract_reference import ReferenceExtractor
from protocol.schema import InstrumentKind, MsgType, StatusReason, StatusScope, StatusState

__all__ = ["Command", "CommandKind", "Instrument", "Quarantined", "Session", "SessionOptions"]

_BOOK = int(MsgType.BOOK)
_TRADE = int(MsgType.TRADE)
_MASK = 2**64 - 1
_QUARANTINE_HELD = 1000
_UNFIT = (Status.INEXACT, Status.TOO_LARGE)
_MOST_RAISED = 18


class CommandKind(Enum):
    """What a session asks its shell to do."""

    FETCH_SNAPSHOT = "fetch_snapshot"
    RESUBSCRIBE = "resubscribe"
    RECONNECT = "reconnect"
    ROTATE = "rotate"


class Command(NamedTuple):
    """A request to the shell; `symbol` or `connection` says what it is about."""

    kind: CommandKind
    symbol: str = ""
    connection: str = ""
    reason: str = ""


class Quarantined(NamedTuple):
    """A message that was not understood: kept, counted, never guessed."""

    connection: str
    reason: str
    offset: int
    data: bytes
    ts_recv_ns: int
    symbol: str | None


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session behaves, from configuration."""

    channel_id: int
    base_flags: int = 0
    max_payload: int = 1400
    accept_any: bool = False
    """Accept every symbol of the venue, not only the subscribed ones (decoding a recording)."""
    verify_checksum: bool = False
    """Verify non-zero checksums of books: recordings made while the venue sent real ones."""
    quarantine_window_ns: int = 10_000_000_000
    quarantine_limit: int = 20
    """This many quarantined messages of one connection within the window ask for a new connection."""
    sync: SyncPolicy = SyncPolicy()


class Instrument:
    """What a session knows of one instrument; `index` is its place in the extractor's table."""

    __slots__ = (
        "changed_ns",
        "connection",
        "definition",
        "held",
        "index",
        "instrument_id",
        "kind",
        "price_exp",
        "qty_exp",
        "stale",
        "symbol",
        "sync",
        "updates",
        "version",
    )

    def __init__(self, index: int, symbol: str, kind: InstrumentKind, number: int, sync: BookSync) -> None:
        self.index = index
        self.symbol = symbol
        self.kind = kind
        self.instrument_id = number
        self.sync = sync
        self.definition: InstrumentDef | None = None
        self.version = 1
        self.price_exp = 0
        self.qty_exp = 0
        self.held = b""
        self.connection = ""
        self.stale = False
        self.updates = 0
        self.changed_ns = 0


class Session:
    """The brain of one venue's feeder."""

    def __init__(self, spec: VenueSpec, options: SessionOptions) -> None:
        self.spec = spec
        self.options = options
        self.extractor = Extractor(
            (*spec.shapes, *spec.rest_shapes),
            venue_id=spec.venue_id,
            channel_id=options.channel_id,
            base_flags=options.base_flags,
            max_payload=options.max_payload,
        )
        self._reference = ReferenceExtractor(
            (*spec.shapes, *spec.rest_shapes),
            venue_id=spec.venue_id,
            channel_id=options.channel_id,
            base_flags=options.base_flags,
            max_payload=options.max_payload,
        )
        self._writer = PacketWriter(spec.venue_id, options.channel_id, options.base_flags, options.max_payload)
        self.books = BookSet()
        self._chain = Chain(spec.rule.chain)
        self._snapshots = SnapshotSource(spec.rule.snapshot)
        self.instruments: list[Instrument] = []
        self.by_symbol: dict[str, Instrument] = {}
        self.known: dict[str, InstrumentDef] = {}
        """Definitions of the venue by symbol, of which only instruments in use are published."""
        self.counts: Counter[str] = Counter()
        self.commands: list[Command] = []
        self.quarantined: list[Quarantined] = []
        self.last_data_ns: dict[str, int] = {}
        """Connection -> monotonic time of its last market data (acknowledgements and pongs do not count)."""
        self._pos = 0
        self._applied = 0
        self._crossed: set[int] = set()
        self._by_id: dict[int, Instrument] = {}
        self._acked: dict[int, int] = {}
        self._bad: dict[str, deque[int]] = {}
        self._waiting: set[int] = set()

    # what the shells bring

    def on_connect(self, connection: str, now_ns: int, ts_recv_ns: int) -> None:
        """Note a new venue connection; one that was thought open is closed first."""
        if connection in self.last_data_ns:
            self.on_disconnect(connection, now_ns, ts_recv_ns)
        self.last_data_ns[connection] = now_ns
        self._status(None, StatusScope.CONNECTION, StatusState.CONNECTED, StatusReason.NONE, ts_recv_ns, text=connection)

    def on_disconnect(self, connection: str, now_ns: int, ts_recv_ns: int) -> None:
        """Note the loss of a connection: its books are worth nothing until they are synchronised again."""
        if self.last_data_ns.pop(connection, None) is None:
            return
        self._bad.pop(connection, None)
        self._status(None, StatusScope.CONNECTION, StatusState.DISCONNECTED, StatusReason.NONE, ts_recv_ns, text=connection)
        for instrument in self.instruments:
            if instrument.connection == connection:
                instrument.connection = ""
                instrument.held = b""
                self._waiting.discard(instrument.index)
                if instrument.sync.disconnected():
                    self._book_status(instrument, StatusState.SUSPECT, StatusReason.DISCONNECTED, ts_recv_ns)

    def subscribe(self, symbols: Iterable[str], ts_recv_ns: int) -> None:
        """Register the instruments that will be subscribed, in order, and publish their definitions."""
        for symbol in symbols:
            if symbol not in self.by_symbol and self._register(symbol, ts_recv_ns) is None:
                self.quarantine("", b"", f"{self.spec.name}: {symbol!r} is not a symbol of this venue", 0, ts_recv_ns, symbol)

    def on_subscribed(self, symbols: Iterable[str], connection: str, now_ns: int) -> None:
        """Note that a subscription of these symbols' books was sent on a connection: their waiting clocks start."""
        for symbol in symbols:
            instrument = self.by_symbol.get(symbol)
            if instrument is not None:
                instrument.connection = connection
                instrument.sync.subscribed(now_ns)
                self._waiting.add(instrument.index)

    def on_frame(self, connection: str, data: bytes, ts_recv_ns: int, now_ns: int) -> None:
        """Handle one complete WebSocket message."""
        status = self.extractor.extract(data, ts_recv_ns, self._pos)
        if status:
            self._on_odd_frame(connection, data, ts_recv_ns, now_ns, status)
        else:
            self.last_data_ns[connection] = now_ns
            result = self.extractor.r
            if result.msg_type == _BOOK:
                self._on_book(self.instruments[result.instrument], connection, result, now_ns, ts_recv_ns, data)
            else:
                if self._acked and result.msg_type == _TRADE:
                    self._mark_repeated(result)
                self._pos += result.nbytes

    def on_snapshot(self, symbol: str, body: bytes, ts_recv_ns: int, now_ns: int) -> None:
        """Handle the body of a REST order book."""
        instrument = self.by_symbol.get(symbol) or self._register(symbol, ts_recv_ns)
        if instrument is None:
            self.quarantine("rest", body, f"order book of an unknown symbol {symbol!r}", 0, ts_recv_ns, symbol)
            return
        status = self.extractor.extract_as(instrument.index, body, ts_recv_ns, self._pos)
        if status in _UNFIT and self._fit(instrument, status, body, now_ns, ts_recv_ns, rest=True):
            status = self.extractor.extract_as(instrument.index, body, ts_recv_ns, self._pos)
        if status:
            reference = self._reference
            status = reference.extract_as(instrument.index, body, ts_recv_ns, 0)
            if status:
                self.quarantine("rest", body, f"order book: {reference.reason}", reference.r.error_offset, ts_recv_ns, symbol)
                self.on_snapshot_failed(symbol, now_ns)
                return
            self._copy_reference()
            result = reference.r
        else:
            result = self.extractor.r
        verdict = instrument.sync.on_rest_snapshot(result.last_id, now_ns)
        self.counts[f"snapshot_{verdict.name.lower()}"] += 1
        if verdict is SnapshotVerdict.APPLY:
            self._pos += result.nbytes
            self._went_live(instrument, ts_recv_ns)
            self._replay(instrument, ts_recv_ns, now_ns)
        elif verdict is SnapshotVerdict.HOLD:
            instrument.held = bytes(self.extractor.out[self._pos : self._pos + result.nbytes])
        self._ask(instrument, now_ns)

    def on_snapshot_failed(self, symbol: str, now_ns: int) -> None:
        """Note that an order-book request failed; the rule plans the next one."""
        instrument = self.by_symbol.get(symbol)
        if instrument is not None:
            instrument.sync.fetch_failed(now_ns)
            self._ask(instrument, now_ns)

    def on_instruments(self, body: bytes, ts_recv_ns: int, now_ns: int) -> int:
        """Handle the body of an instruments request; returns how many definitions it held. Instruments in use are redefined."""
        try:
            definitions, rejected = self.spec.parse_instruments(body)
        except InstrumentsError as error:
            self.quarantine("rest", body, f"instruments: {error}", 0, ts_recv_ns, None)
            return 0
        for reason in rejected:
            self.quarantine("rest", b"", f"instruments: {reason}", 0, ts_recv_ns, None)
        for definition in definitions:
            self.known[definition.symbol] = definition
            instrument = self.by_symbol.get(definition.symbol)
            if instrument is not None and instrument.definition != definition:
                self._define(instrument, definition, now_ns, ts_recv_ns)
        return len(definitions)

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
        deadlines = [d for i in self._waiting if (d := self.instruments[i].sync.deadline_ns) is not None]
        return min(deadlines, default=None)

    def flush(self, publish: Callable[[memoryview, int], object], now_ns: int, ts_recv_ns: int) -> int:
        """Hand the finished packets to `publish(buffer, nbytes)`, then bring the session's own books up to them."""
        nbytes = self._pos
        if nbytes:
            publish(self.extractor.out, nbytes)
            self._apply()
            self._pos = self._applied = 0
            if self._crossed:
                self._check_crossed(now_ns, ts_recv_ns)
        return nbytes

    # what a publisher repeats

    def definition(self, instrument: Instrument) -> bytes:
        """Return the current definition of an instrument as a packet."""
        return self._writer.definition(instrument, instrument.definition)

    def check_stale(self, now_ns: int, stale_after_ns: int, ts_recv_ns: int) -> None:
        """Say which LIVE books have been silent for too long, and which of those speak again; call about once a second."""
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

    def book_snapshot(self, instrument: Instrument) -> bytes:
        """Return the session's own book of an instrument as SNAPSHOT | RECOVERED packets; empty unless it is LIVE."""
        book = self.books.book(instrument.instrument_id)
        if book is None or not instrument.sync.live:
            return b""
        return self._writer.book(instrument, book)

    def live_books(self) -> int:
        """Return how many books are LIVE."""
        return sum(1 for instrument in self.instruments if instrument.sync.live)

    def quarantine(self, connection: str, data: bytes, reason: str, offset: int, ts_recv_ns: int, symbol: str | None) -> None:
        """Put a message aside: counted, kept for the shell to store, never guessed."""
        self.counts["quarantine"] += 1
        if len(self.quarantined) < _QUARANTINE_HELD:
            self.quarantined.append(Quarantined(connection, reason, offset, data, ts_recv_ns, symbol))

    # books

    def _on_book(  # noqa: PLR0913 - one call per message: a parameter object would cost more than it explains
        self, instrument: Instrument, connection: str, result: Result, now_ns: int, ts_recv_ns: int, data: bytes
    ) -> None:
        sync = instrument.sync
        if result.snapshot:
            was_live = sync.live
            if self._chain is Chain.FULL:
                if sync.on_full(result.ts_exchange_ns) is Verdict.IGNORE:
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
        if verdict is Verdict.APPLY:
            self._accept(instrument, result, now_ns, ts_recv_ns)
        elif verdict is Verdict.IGNORE:
            self.counts["old_update"] += 1
        elif verdict is Verdict.JOIN:
            self._join_held(instrument, result.nbytes, ts_recv_ns)
        else:
            instrument.connection = connection
            packets = bytes(self.extractor.out[self._pos : self._pos + result.nbytes])
            if verdict is Verdict.GAP:
                self._lost(instrument, StatusReason.GAP, sync.expected, sync.got, now_ns, ts_recv_ns)
            if not sync.keep(result.first_id, result.last_id, result.prev_id, packets, now_ns):
                self.counts["sync_overflow"] += 1
            self._ask(instrument, now_ns)

    def _accept(self, instrument: Instrument, result: Result, now_ns: int, ts_recv_ns: int) -> None:
        """Let the event at the end of the buffer stand, unless the venue's checksum says that the book is wrong."""
        start = self._pos
        self._pos += result.nbytes
        rule = self.spec.rule
        if rule.checksum is None or not self.options.verify_checksum or not result.has_checksum:
            return
        if result.checksum == rule.checksum_unset:
            return
        self._apply()
        book = self.books.book(instrument.instrument_id)
        if book is None:
            return
        levels = rule.checksum_levels
        got = rule.checksum(book.bids(levels).tolist(), book.asks(levels).tolist(), book.price_exp, book.qty_exp)
        if got == result.checksum:
            self.counts["checksum_ok"] += 1
            return
        self._pos = self._applied = start
        self._lost(instrument, StatusReason.CHECKSUM, result.checksum & _MASK, got & _MASK, now_ns, ts_recv_ns)

    def _join_held(self, instrument: Instrument, nbytes: int, ts_recv_ns: int) -> None:
        update = bytes(self.extractor.out[self._pos : self._pos + nbytes])
        self._append(instrument.held)
        instrument.held = b""
        self._went_live(instrument, ts_recv_ns)
        self._append(update)

    def _replay(self, instrument: Instrument, ts_recv_ns: int, now_ns: int) -> None:
        updates, gap = instrument.sync.replay()
        for update in updates:
            self._append(update.packets)
        if gap:
            self._lost(instrument, StatusReason.GAP, instrument.sync.expected, instrument.sync.got, now_ns, ts_recv_ns)

    def _lost(  # noqa: PLR0913
        self, instrument: Instrument, reason: StatusReason, expected: int, got: int, now_ns: int, ts_recv_ns: int
    ) -> None:
        self.counts["gaps"] += 1
        self._append(self._writer.gap(instrument, reason, expected, got, ts_recv_ns))
        self._resync(instrument, reason, now_ns)

    def _resync(self, instrument: Instrument, reason: StatusReason, now_ns: int) -> None:
        self.counts["resyncs"] += 1
        instrument.held = b""
        instrument.sync.resync(reason, now_ns)
        self._waiting.add(instrument.index)
        self._ask(instrument, now_ns)

    def _went_live(self, instrument: Instrument, ts_recv_ns: int) -> None:
        self._waiting.discard(instrument.index)
        self._book_status(instrument, StatusState.LIVE, instrument.sync.reason, ts_recv_ns)

    def _ask(self, instrument: Instrument, now_ns: int) -> None:
        request = instrument.sync.requests(now_ns)
        if not instrument.sync.live:
            self._waiting.add(instrument.index)
        if request is Request.FETCH:
            self.commands.append(Command(CommandKind.FETCH_SNAPSHOT, symbol=instrument.symbol))
        elif request is Request.RESUBSCRIBE:
            self.commands.append(Command(CommandKind.RESUBSCRIBE, symbol=instrument.symbol, connection=instrument.connection))

    def _apply(self) -> None:
        if self._applied < self._pos:
            before = self.books.crossed_events
            result = self.books.apply(memoryview(self.extractor.out)[self._applied : self._pos])
            self._applied = self._pos
            if self.books.crossed_events != before:
                books = (self.books.at(int(slot)) for slot in result.touched)
                self._crossed.update(book.instrument_id for book in books if book.crossed)

    def _check_crossed(self, now_ns: int, ts_recv_ns: int) -> None:
        for number in self._crossed:
            instrument, book = self._by_id[number], self.books.book(number)
            if book is None or not instrument.sync.live:
                continue
            self.counts["crossed"] += 1
            if instrument.sync.on_crossed(book.crossed_run, book.crossed_events - book.crossed_run, now_ns):
                self._book_status(instrument, StatusState.SUSPECT, StatusReason.CROSSED, ts_recv_ns)
                self._resync(instrument, StatusReason.CROSSED, now_ns)
        self._crossed.clear()

    # frames off the hot path

    def _on_odd_frame(self, connection: str, data: bytes, ts_recv_ns: int, now_ns: int, status: int) -> None:
        result = self.extractor.r
        if status == Status.UNKNOWN_SYMBOL:
            symbol = self.extractor.symbol.decode("utf-8", "replace")
            if self.options.accept_any and self._register(symbol, ts_recv_ns) is not None:
                self.on_frame(connection, data, ts_recv_ns, now_ns)
            else:
                self.quarantine(connection, data, f"{symbol!r} was not subscribed", 0, ts_recv_ns, symbol)
                self._count_bad(connection, now_ns)
            return
        if status in _UNFIT and self._fit(self.instruments[result.instrument], status, data, now_ns, ts_recv_ns):
            self.on_frame(connection, data, ts_recv_ns, now_ns)
            return
        if status == Status.SUPPRESSED:
            self.counts["suppressed"] += 1
            self.last_data_ns[connection] = now_ns
            return
        control = self.spec.control(data)
        if control is not None:
            self._on_control(connection, control, ts_recv_ns)
            return
        self._on_reference(connection, data, ts_recv_ns, now_ns)

    def _on_reference(self, connection: str, data: bytes, ts_recv_ns: int, now_ns: int) -> None:
        reference = self._reference
        status = reference.extract(data, ts_recv_ns, 0)
        if status == Status.UNKNOWN_SYMBOL and self.options.accept_any:
            symbol = reference.symbol.decode("utf-8", "replace")
            if self._register(symbol, ts_recv_ns) is not None:
                status = reference.extract(data, ts_recv_ns, 0)
        if status in _UNFIT and self._fit(self.instruments[reference.r.instrument], status, data, now_ns, ts_recv_ns):
            status = reference.extract(data, ts_recv_ns, 0)
        if status == Status.SUPPRESSED:
            self.counts["suppressed"] += 1
        elif status:
            symbol = self.instruments[reference.r.instrument].symbol if reference.r.instrument >= 0 else None
            self.quarantine(connection, data, reference.reason, reference.r.error_offset, ts_recv_ns, symbol)
            self._count_bad(connection, now_ns)
        else:
            self.counts["reference"] += 1
            self.last_data_ns[connection] = now_ns
            self._copy_reference()
            result = reference.r
            if result.msg_type == _BOOK:
                self._on_book(self.instruments[result.instrument], connection, result, now_ns, ts_recv_ns, data)
            else:
                if self._acked and result.msg_type == _TRADE:
                    self._mark_repeated(result)
                self._pos += result.nbytes

    def _on_control(self, connection: str, control: Control, ts_recv_ns: int) -> None:
        self.counts[f"control_{type(control).__name__.lower()}"] += 1
        if isinstance(control, Ack):
            channel = self.spec.channels.get(control.channel or "")
            if self.spec.replays_last_trade and control.symbol and channel is not None and channel.carries is MsgType.TRADE:
                instrument = self.by_symbol.get(control.symbol)
                if instrument is None and self.options.accept_any:
                    instrument = self._register(control.symbol, ts_recv_ns)
                if instrument is not None:
                    self._acked[instrument.index] = ts_recv_ns
        elif isinstance(control, ServerError):
            self.quarantine(connection, b"", f"the venue answered an error: {control.code} {control.text}", 0, ts_recv_ns, None)
        elif isinstance(control, Notice) and control.reconnect:
            self.commands.append(Command(CommandKind.ROTATE, connection=connection, reason=control.text))

    def _mark_repeated(self, result: Result) -> None:
        """Flag the trade that a venue repeats after a subscription, which is older than the acknowledgement."""
        acked_ns = self._acked.pop(result.instrument, None)
        if acked_ns is not None and (acked_ns == 0 or result.ts_exchange_ns < acked_ns):
            self._writer.mark_repeated(self.extractor.out, self._pos, result.nbytes)

    def _count_bad(self, connection: str, now_ns: int) -> None:
        window = self._bad.setdefault(connection, deque(maxlen=self.options.quarantine_limit))
        window.append(now_ns)
        if len(window) == window.maxlen and now_ns - window[0] <= self.options.quarantine_window_ns:
            window.clear()
            self.commands.append(Command(CommandKind.RECONNECT, connection=connection, reason="too many unusable messages"))

    # instruments

    def _register(self, symbol: str, ts_recv_ns: int) -> Instrument | None:
        kind = self.known[symbol].kind if symbol in self.known else self.spec.kind_of(symbol)
        if kind is None:
            return None
        number = instrument_id(f"{self.spec.name}.{kind.name.lower()}.{symbol}")
        jitter = (number >> 40) % 1000 / 1000
        sync = BookSync(self._chain, self._snapshots, self.options.sync, jitter)
        definition = self.known.get(symbol)
        price_exp, qty_exp = self._exponents(definition)
        index = self.extractor.add_instrument(symbol, number, price_exp, qty_exp)
        self._reference.add_instrument(symbol, number, price_exp, qty_exp)
        instrument = Instrument(index, symbol, kind, number, sync)
        instrument.definition = definition
        instrument.price_exp, instrument.qty_exp = price_exp, qty_exp
        self.instruments.append(instrument)
        self.by_symbol[symbol] = instrument
        self._by_id[number] = instrument
        self._append(self._writer.definition(instrument, definition, ts_recv_ns))
        return instrument

    def _exponents(self, definition: InstrumentDef | None) -> tuple[int, int]:
        price_exp, qty_exp = self.spec.default_price_exp, self.spec.default_qty_exp
        if definition is not None:
            price_exp = price_exp if definition.price_exp is None else definition.price_exp
            qty_exp = qty_exp if definition.qty_exp is None else definition.qty_exp
        return price_exp, qty_exp

    def _define(self, instrument: Instrument, definition: InstrumentDef, now_ns: int, ts_recv_ns: int) -> None:
        """Take a new definition of an instrument in use. Exponents only ever fall within a session."""
        instrument.definition = definition
        price_exp, qty_exp = self._exponents(definition)
        self._set_exponents(
            instrument, min(price_exp, instrument.price_exp), min(qty_exp, instrument.qty_exp), now_ns, ts_recv_ns
        )

    def _fit(  # noqa: PLR0913
        self, instrument: Instrument, status: int, data: bytes, now_ns: int, ts_recv_ns: int, *, rest: bool = False
    ) -> bool:
        """Find exponents at which a message is exact and change the instrument's to them; False: there are none, or no change.

        Digits behind the point lower an exponent to what the message needs. A number too large for 62 bits raises one, as little
        as possible. Off the hot path: an instrument comes here a few times in its life.
        """
        reference = self._reference
        old = instrument.price_exp, instrument.qty_exp

        def attempt(price_exp: int, qty_exp: int) -> Status:
            reference.set_exponents(instrument.index, price_exp, qty_exp)
            if rest:
                return reference.extract_as(instrument.index, data, ts_recv_ns, 0)
            return reference.extract(data, ts_recv_ns, 0)

        fitting: tuple[int, int] | None = None
        if status == Status.INEXACT:
            attempt(*old)
            fitting = min(reference.r.need_price_exp, old[0]), min(reference.r.need_qty_exp, old[1])
            if attempt(*fitting) is not Status.OK:
                fitting = None
        if fitting is None:
            fitting = next((pair for pair in _raised(old, attempt) if attempt(*pair) is Status.OK), None)
        if fitting is None or fitting == old:
            reference.set_exponents(instrument.index, *old)
            return False
        self.counts["exponent_changed"] += 1
        self._set_exponents(instrument, *fitting, now_ns, ts_recv_ns)
        return True

    def _set_exponents(self, instrument: Instrument, price_exp: int, qty_exp: int, now_ns: int, ts_recv_ns: int) -> None:
        """Publish a new definition version and, when the exponents changed, the book at the new ones."""
        changed = (price_exp, qty_exp) != (instrument.price_exp, instrument.qty_exp)
        instrument.price_exp, instrument.qty_exp = price_exp, qty_exp
        instrument.version += 1
        self.extractor.set_exponents(instrument.index, price_exp, qty_exp)
        self._reference.set_exponents(instrument.index, price_exp, qty_exp)
        self._append(self._writer.definition(instrument, instrument.definition, ts_recv_ns))
        if not changed or not instrument.sync.live:
            return
        self._apply()
        packets = self.book_snapshot(instrument)
        if packets:
            self._append(packets)
        else:
            self._book_status(instrument, StatusState.SUSPECT, StatusReason.EXPONENT, ts_recv_ns)
            self._resync(instrument, StatusReason.EXPONENT, now_ns)

    # the buffer

    def _append(self, packets: bytes) -> None:
        """Put finished packets behind those already in the buffer."""
        end = self._pos + len(packets)
        if end > len(self.extractor.out):
            self.extractor.grow(max(end, 2 * len(self.extractor.out)))
        self.extractor.out[self._pos : end] = packets
        self._pos = end

    def _copy_reference(self) -> None:
        """Put what the plain-Python extractor produced where the C extractor would have put it."""
        nbytes = self._reference.r.nbytes
        end = self._pos + nbytes
        if end > len(self.extractor.out):
            self.extractor.grow(max(end, 2 * len(self.extractor.out)))
        self.extractor.out[self._pos : end] = self._reference.out[:nbytes]

    def _book_status(self, instrument: Instrument, state: StatusState, reason: StatusReason, ts_recv_ns: int) -> None:
        self._status(instrument, StatusScope.BOOK, state, reason, ts_recv_ns)

    def _status(  # noqa: PLR0913
        self,
        instrument: Instrument | None,
        scope: StatusScope,
        state: StatusState,
        reason: StatusReason,
        ts_recv_ns: int,
        text: str = "",
    ) -> None:
        self._append(self._writer.status(instrument, scope, state, reason, ts_recv_ns, text))


def _raised(old: tuple[int, int], attempt: Callable[[int, int], Status]) -> Iterator[tuple[int, int]]:
    """Yield exponents to try for a message with too large a number: quantities first, then prices, then both, step by step."""
    for price_step, qty_step in ((0, 1), (1, 0), (1, 1)):
        for raised in range(1, _MOST_RAISED + 1):
            pair = old[0] + price_step * raised, old[1] + qty_step * raised
            yield pair
            if attempt(*pair) is Status.INEXACT:
                break
