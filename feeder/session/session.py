"""A venue's session: frames, bodies and times in; finished packets, commands and quarantined
messages out.

Sans-I/O: the shells (`feeder.live`, `feeder.offline`) bring bytes and the time, call `flush`
after each batch, and carry out `commands`. The hot path is one C call a frame
(`feeder.extract.extractor`) plus the book rule (`feeder.session.books`); what the C extractor
does not take goes to the venue's control messages and then to the plain-Python extractor, which
answers the same or quarantines. Everything particular to a venue comes from its `VenueSpec`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from tapecast.feeder.extract.types import ExtractStatus, Result
from tapecast.feeder.session.exponents import fitting_exponents
from tapecast.feeder.session.numbering import ConnectionSequence
from tapecast.feeder.session.session_handover import SessionHandover
from tapecast.feeder.session.types import (
    Command,
    CommandKind,
    Quarantined,
    SessionInstrument,
    SessionOptions,
)
from tapecast.feeder.session.volume import TradeVerdict, TradeVolumes
from tapecast.feeder.venues.spec import (
    Ack,
    Control,
    InstrumentDef,
    MarketState,
    Notice,
    Reply,
    ServerError,
    Topic,
    VenueSpec,
    qualified,
)
from tapecast.protocol.schema import MsgType, StatusReason, StatusScope, StatusState

__all__ = [
    "Command",
    "CommandKind",
    "Quarantined",
    "Session",
    "SessionInstrument",
    "SessionOptions",
]

_BOOK = int(MsgType.BOOK)
_TRADE = int(MsgType.TRADE)
_UNFIT = (ExtractStatus.INEXACT, ExtractStatus.TOO_LARGE)
_QUARANTINE_HELD = 1000
_QUARANTINE_BYTES = 64 << 20
"""Of more quarantined bytes than this, messages are kept cut to `_QUARANTINE_CUT`."""
_QUARANTINE_CUT = 64 << 10
_REASON = 300
"""Characters of a reason: it may quote what a message says, and a message may be long."""


class Session(SessionHandover):
    """The brain of one venue's feeder."""

    def __init__(self, spec: VenueSpec, options: SessionOptions) -> None:
        super().__init__(spec, options)
        self.quarantined: list[Quarantined] = []
        self.last_data_ns: dict[str, int] = {}
        """Connection -> monotonic time of its last market data (acknowledgements and pongs do
        not count).
        """
        self._fallback = self._table.fallback
        self._quarantined_bytes = 0
        self._acked: dict[int, int] = {}
        self._asked: dict[tuple[str, str], frozenset[Topic]] = {}
        """(Connection, request id) -> the topics of a request that the venue has not answered.
        """
        self._bad: dict[str, deque[int]] = {}
        self._markets: dict[str, str] | None = None if spec.stream.market is None else {}
        """Connection -> market, as its URL tells."""
        self._market = ""
        self._volumes = TradeVolumes() if spec.stream.trade_id_is_volume else None
        self._number_of = spec.stream.connection_number
        self._sequence = ConnectionSequence()

    # what the shells bring

    def on_url(self, connection: str, url: str) -> None:
        """Note the URL of a connection: where a venue has several markets, it tells whose
        symbols the messages name.
        """
        if self._markets is not None and self.spec.stream.market is not None:
            self._markets[connection] = self.spec.stream.market(url, b"")

    def on_connect(self, connection: str, now_ns: int, ts_recv_ns: int) -> None:
        """Note a new venue connection; one that was thought open is closed first. A replacement
        changes no state.
        """
        if connection in self.last_data_ns:
            self.on_disconnect(connection, now_ns, ts_recv_ns)
        self.last_data_ns[connection] = now_ns
        self._sequence.forget(connection)
        if connection in self._handovers:
            return
        self._status(
            None,
            StatusScope.CONNECTION,
            StatusState.CONNECTED,
            StatusReason.NONE,
            ts_recv_ns,
            text=connection,
        )

    def on_disconnect(self, connection: str, now_ns: int, ts_recv_ns: int) -> None:
        """Note the loss of a connection: its books are worth nothing until they are synchronised
        again.
        """
        if self.last_data_ns.pop(connection, None) is None:
            return
        self._bad.pop(connection, None)
        self._handovers.pop(connection, None)
        self._asked = {key: topics for key, topics in self._asked.items() if key[0] != connection}
        self._status(
            None,
            StatusScope.CONNECTION,
            StatusState.DISCONNECTED,
            StatusReason.NONE,
            ts_recv_ns,
            text=connection,
        )
        for instrument in self.instruments:
            if instrument.connection == connection:
                instrument.connection = ""
                instrument.held = b""
                self._waiting.discard(instrument.index)
                if instrument.sync.disconnected():
                    self._book_status(
                        instrument, StatusState.SUSPECT, StatusReason.DISCONNECTED, ts_recv_ns
                    )

    def rename(self, connection: str, name: str) -> None:
        """Call a connection by another name, that of the one it replaces."""
        super().rename(connection, name)
        self.forget(name)
        self.last_data_ns[name] = self.last_data_ns.pop(connection)
        self._sequence.rename(connection, name)
        if (bad := self._bad.pop(connection, None)) is not None:
            self._bad[name] = bad
        asked = {
            (name, request): topics
            for (one, request), topics in self._asked.items()
            if one == connection
        }
        self.forget(connection)
        self._asked |= asked

    def forget(self, connection: str) -> None:
        """Forget a connection that has no books."""
        self.last_data_ns.pop(connection, None)
        self._sequence.forget(connection)
        self._bad.pop(connection, None)
        self._asked = {key: topics for key, topics in self._asked.items() if key[0] != connection}

    def subscribe(self, symbols: Iterable[str], ts_recv_ns: int) -> None:
        """Register the instruments that will be subscribed, in order, and publish their
        definitions.
        """
        for symbol in symbols:
            if symbol not in self.by_symbol and self._register(symbol, ts_recv_ns) is None:
                self.quarantine(
                    "",
                    b"",
                    f"{self.spec.name}: {symbol!r} is not a symbol of this venue",
                    0,
                    ts_recv_ns,
                    symbol,
                )

    def on_subscribed(self, symbols: Iterable[str], connection: str, now_ns: int) -> None:
        """Note that a subscription of these symbols' books was sent on a connection: their
        waiting clocks start.
        """
        for symbol in symbols:
            instrument = self.by_symbol.get(symbol)
            if instrument is not None:
                instrument.connection = connection
                instrument.sync.subscribed(now_ns)
                self._waiting.add(instrument.index)

    def on_request(self, connection: str, request_id: str, topics: Iterable[Topic]) -> None:
        """Note what a request asks for: a venue that lists what it accepts may leave something
        out without an error.
        """
        asked = frozenset(topics)
        if asked:
            self._asked[connection, request_id] = asked

    def on_frame(
        self, connection: str, data: bytes, ts_recv_ns: int, now_ns: int, *, again: bool = False
    ) -> None:
        """Handle one complete WebSocket message; `again`: the same one, after what it lacked was
        put right.
        """
        if self._number_of is not None and not again:
            self._follow_number(connection, data, ts_recv_ns)
        if self._markets is not None:
            self._select_market(connection, data)
        status = self.extractor.extract(data, ts_recv_ns, self._pos)
        if status:
            self._on_odd_frame(connection, data, ts_recv_ns, now_ns, status)
        else:
            self.last_data_ns[connection] = now_ns
            result = self.extractor.r
            if self._handovers and not self._belongs(connection, data, result, ts_recv_ns):
                return
            if result.msg_type == _BOOK:
                self._on_book(
                    self.instruments[result.instrument], connection, result, now_ns, ts_recv_ns
                )
            elif self._volumes is not None and result.msg_type == _TRADE:
                self._on_counted_trade(self._volumes, result, ts_recv_ns)
            else:
                if self._acked and result.msg_type == _TRADE:
                    self._mark_repeated(result)
                self._pos += result.nbytes

    def on_defect(
        self, connection: str, data: bytes, error: str, ts_recv_ns: int, now_ns: int
    ) -> None:
        """Put a message aside whose handling failed: a book whose messages nothing numbers may
        lack it, and is given up.
        """
        self.quarantine(connection, data, f"internal error: {error}", 0, ts_recv_ns, None)
        if self._unnumbered:
            self._distrust(data, now_ns, ts_recv_ns)

    def on_snapshot(self, symbol: str, body: bytes, ts_recv_ns: int, now_ns: int) -> None:
        """Handle the body of a REST order book."""
        instrument = self.by_symbol.get(symbol) or self._register(symbol, ts_recv_ns)
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
        self._on_rest_book(instrument, result, now_ns, ts_recv_ns)

    def on_snapshot_failed(self, symbol: str, now_ns: int) -> None:
        """Note that an order-book request failed; the rule plans the next one."""
        instrument = self.by_symbol.get(symbol)
        if instrument is not None:
            instrument.sync.fetch_failed(now_ns)
            self._ask(instrument, now_ns)

    def on_instruments(self, body: bytes, ts_recv_ns: int, now_ns: int) -> int | None:
        """Handle the body of an instruments request; return how many definitions it held, None
        where it is none.

        Instruments in use are redefined.
        """
        try:
            definitions, rejected = self.spec.listing.parse(body)
        except (ValueError, RecursionError) as error:
            self.quarantine("rest", body, f"instruments: {error}", 0, ts_recv_ns, None)
            return None
        for reason in rejected:
            self.quarantine("rest", b"", f"instruments: {reason}", 0, ts_recv_ns, None)
        for definition in definitions:
            self.known[definition.key] = definition
            instrument = self.by_symbol.get(definition.key)
            if instrument is not None and instrument.definition != definition:
                self._define(instrument, definition, now_ns, ts_recv_ns)
        return len(definitions)

    def flush(
        self, publish: Callable[[bytearray, int], object], now_ns: int, ts_recv_ns: int
    ) -> int:
        """Hand the finished packets to `publish(buffer, nbytes)`, then bring the session's own
        books up to them.

        Where `publish` raises, the buffer is empty all the same: one batch is lost, not every
        later one.
        """
        nbytes = self._pos
        if nbytes:
            try:
                publish(self.extractor.out, nbytes)
            finally:
                self._apply()
                self._pos = self._applied = 0
            if self._crossed:
                self._check_crossed(now_ns, ts_recv_ns)
        return nbytes

    def definition(self, instrument: SessionInstrument) -> bytes:
        """Return the current definition of an instrument as a packet."""
        return self._writer.definition(instrument, instrument.definition)

    def quarantine(
        self,
        connection: str,
        data: bytes,
        reason: str,
        offset: int,
        ts_recv_ns: int,
        symbol: str | None,
    ) -> None:
        """Put a message aside: counted, kept (bounded in count and bytes) for the shell to
        store, never guessed.
        """
        self.counts["quarantine"] += 1
        if not self.quarantined:
            self._quarantined_bytes = 0
        if len(self.quarantined) >= _QUARANTINE_HELD:
            return
        if self._quarantined_bytes + len(data) > _QUARANTINE_BYTES:
            data = data[:_QUARANTINE_CUT]
        self._quarantined_bytes += len(data)
        if symbol is not None and len(symbol) > _REASON:
            symbol = None
        self.quarantined.append(
            Quarantined(connection, reason[:_REASON], offset, data, ts_recv_ns, symbol)
        )

    def _follow_number(self, connection: str, data: bytes, ts_recv_ns: int) -> None:
        number = None if self._number_of is None else self._number_of(data)
        if number is not None:
            expected = self._sequence.follow(connection, number)
            if expected is not None:
                self._lost_connection(connection, expected, number, ts_recv_ns)

    # frames off the hot path

    def _on_odd_frame(
        self, connection: str, data: bytes, ts_recv_ns: int, now_ns: int, status: int
    ) -> None:
        result = self.extractor.r
        if status == ExtractStatus.NO_SPACE:
            self._make_room(result.need_bytes)
            self.on_frame(connection, data, ts_recv_ns, now_ns, again=True)
            return
        if status == ExtractStatus.UNKNOWN_SYMBOL:
            symbol = self.extractor.symbol.decode("utf-8", "replace")
            if self._accept_symbol(symbol, ts_recv_ns):
                self.on_frame(connection, data, ts_recv_ns, now_ns, again=True)
            elif (
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
            return
        if status in _UNFIT and self._fit(
            self.instruments[result.instrument], data, now_ns, ts_recv_ns
        ):
            self.on_frame(connection, data, ts_recv_ns, now_ns, again=True)
            return
        if status == ExtractStatus.SUPPRESSED:
            self.counts["suppressed"] += 1
            self.last_data_ns[connection] = now_ns
            return
        control = self._control(data)
        if control is not None:
            self._on_control(connection, control, now_ns, ts_recv_ns)
            return
        if (
            self.spec.stream.reframe is not None
            and (reframed := self.spec.stream.reframe(data)) is not None
        ):
            self.on_frame(connection, reframed, ts_recv_ns, now_ns)
            return
        self._on_fallback(connection, data, ts_recv_ns, now_ns)

    def _on_fallback(self, connection: str, data: bytes, ts_recv_ns: int, now_ns: int) -> None:
        fallback = self._fallback
        status = fallback.extract(data, ts_recv_ns, 0)
        if status == ExtractStatus.UNKNOWN_SYMBOL and self._accept_symbol(
            fallback.symbol.decode("utf-8", "replace"), ts_recv_ns
        ):
            status = fallback.extract(data, ts_recv_ns, 0)
        if status == ExtractStatus.NO_SPACE:
            fallback.grow(fallback.r.need_bytes)
            status = fallback.extract(data, ts_recv_ns, 0)
        if status in _UNFIT and self._fit(
            self.instruments[fallback.r.instrument], data, now_ns, ts_recv_ns
        ):
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
            if self._unnumbered:
                self._distrust(data, now_ns, ts_recv_ns)
            self._count_bad(connection, now_ns)
        else:
            self.counts["fallback"] += 1
            self.last_data_ns[connection] = now_ns
            self._copy_fallback()
            result = fallback.r
            if self._handovers and not self._belongs(connection, data, result, ts_recv_ns):
                return
            if result.msg_type == _BOOK:
                self._on_book(
                    self.instruments[result.instrument], connection, result, now_ns, ts_recv_ns
                )
            elif self._volumes is not None and result.msg_type == _TRADE:
                self._on_counted_trade(self._volumes, result, ts_recv_ns)
            else:
                if self._acked and result.msg_type == _TRADE:
                    self._mark_repeated(result)
                self._pos += result.nbytes

    def _on_counted_trade(self, volumes: TradeVolumes, result: Result, ts_recv_ns: int) -> None:
        """Let the trade at the end of the buffer stand unless it was said before; say what was
        lost before it.
        """
        instrument = self.instruments[result.instrument]
        volume, quantity = self._writer.counted(self.extractor.out, self._pos, instrument.qty_exp)
        verdict = (
            volumes.follow(instrument.index, volume, quantity, ts_recv_ns)
            if volume
            else TradeVerdict.NEW
        )
        if verdict is TradeVerdict.REPEATED:
            self.counts["repeated_trades"] += 1
            return
        if verdict is TradeVerdict.AFTER_LOSS:
            self.counts["gaps"] += 1
            trade = bytes(self.extractor.out[self._pos : self._pos + result.nbytes])
            self._append(self._writer.trades_lost(instrument, volumes.expected, volume, ts_recv_ns))
            self._append(trade)
        else:
            self._pos += result.nbytes

    def _extract_body(
        self, instrument: SessionInstrument, body: bytes, ts_recv_ns: int, now_ns: int
    ) -> Result | None:
        """Put the packets of a REST order book behind those in the buffer; None where it is
        none, the fallback knows why.
        """
        extractor, fallback, index = self.extractor, self._fallback, instrument.index
        status = extractor.extract_as(index, body, ts_recv_ns, self._pos)
        if status == ExtractStatus.NO_SPACE:
            self._make_room(extractor.r.need_bytes)
            status = extractor.extract_as(index, body, ts_recv_ns, self._pos)
        if status in _UNFIT and self._fit(instrument, body, now_ns, ts_recv_ns, rest=True):
            status = extractor.extract_as(index, body, ts_recv_ns, self._pos)
        if not status:
            return extractor.r
        status = fallback.extract_as(index, body, ts_recv_ns, 0)
        if status == ExtractStatus.NO_SPACE:
            fallback.grow(fallback.r.need_bytes)
            status = fallback.extract_as(index, body, ts_recv_ns, 0)
        if status:
            return None
        self._copy_fallback()
        return fallback.r

    def _copy_fallback(self) -> None:
        """Put what the plain-Python extractor produced where the C extractor would have put it."""
        nbytes = self._fallback.r.nbytes
        self._make_room(nbytes)
        self.extractor.out[self._pos : self._pos + nbytes] = self._fallback.out[:nbytes]

    def _accept_symbol(self, symbol: str, ts_recv_ns: int) -> bool:
        """Whether a symbol that was not known is one now."""
        key = qualified(self._market, symbol)
        accept = self.options.accept_any and key not in self.by_symbol
        return accept and self._register(key, ts_recv_ns) is not None

    def _select_market(self, connection: str, data: bytes) -> None:
        """Let the extractors take a message's symbols as those of its connection's market."""
        assert self._markets is not None
        assert self.spec.stream.market is not None
        market = self._markets.get(connection)
        self._market = self.spec.stream.market("", data) if market is None else market
        self._table.select(self._market)

    def _control(self, data: bytes) -> Control | None:
        try:
            return self.spec.stream.control(data)
        except (
            ValueError,
            RecursionError,
        ):  # nested too deep for its decoder, or a text that is none
            return None

    def _on_control(self, connection: str, control: Control, now_ns: int, ts_recv_ns: int) -> None:
        if isinstance(control, MarketState):
            self.counts["market_states"] += (
                1  # no answer to the feeder: the stream brings it to everybody
            )
            self._on_market_state(control, now_ns, ts_recv_ns)
            return
        self.counts[f"control_{type(control).__name__.lower()}"] += 1
        if isinstance(control, Ack):
            if control.accepted is not None:
                self._compare(connection, control)
            self._on_ack(connection, control, ts_recv_ns)
        elif isinstance(control, Reply):
            self.commands.append(
                Command(CommandKind.SEND, connection=connection, frame=control.frame)
            )
        elif isinstance(control, ServerError):
            self.commands.append(
                Command(
                    CommandKind.COMPLAIN,
                    control.symbol or "",
                    connection,
                    f"{control.code} {control.text}",
                )
            )
            if control.login:
                for kind in (CommandKind.LOGIN, CommandKind.RECONNECT):
                    self.commands.append(
                        Command(
                            kind, connection=connection, reason=f"token refused: {control.code}"
                        )
                    )
        elif isinstance(control, Notice) and control.reconnect:
            self.commands.append(
                Command(CommandKind.ROTATE, connection=connection, reason=control.text)
            )

    def _compare(self, connection: str, ack: Ack) -> None:
        """Complain of topics that were asked for and are missing in the venue's list."""
        asked = self._asked.pop((connection, ack.request_id or ""), frozenset())
        missing = sorted(
            f"{topic.channel} {topic.symbol}" for topic in asked.difference(ack.accepted or ())
        )
        if missing:
            self.counts["not_accepted"] += len(missing)
            text = f"{len(missing)} of {len(asked)} topics not accepted: {', '.join(missing)}"
            self.commands.append(
                Command(CommandKind.COMPLAIN, connection=connection, reason=text[:_REASON])
            )

    def _on_ack(self, connection: str, ack: Ack, ts_recv_ns: int) -> None:
        """Note what an acknowledgement says of data to come."""
        channel = self.spec.stream.streams.get(ack.channel or "")
        repeats = (
            self.spec.stream.replays_last_trade
            and channel is not None
            and channel.carries is MsgType.TRADE
        )
        if not ack.symbol or not (repeats or ack.depth):
            return
        key = qualified(self._market, ack.symbol)
        instrument = self.by_symbol.get(key)
        if instrument is None and self.options.accept_any:
            instrument = self._register(key, ts_recv_ns)
        if instrument is None:
            return
        if repeats:
            handover = self._handovers.get(connection)
            acked = self._acked
            if handover is not None and handover.finished_ns is None and connection == handover.new:
                acked = handover.acked
            acked[instrument.index] = ts_recv_ns
        if ack.depth:
            instrument.depth = ack.depth

    def _mark_repeated(self, result: Result) -> None:
        """Flag the trade that a venue repeats after a subscription, which is older than the
        acknowledgement.
        """
        acked_ns = self._acked.pop(result.instrument, None)
        if acked_ns is not None and (acked_ns == 0 or result.ts_exchange_ns < acked_ns):
            self._writer.mark_repeated(self.extractor.out, self._pos, result.nbytes)

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

    # instruments

    def _register(self, symbol: str, ts_recv_ns: int) -> SessionInstrument | None:
        instrument = self._table.add(symbol)
        if instrument is not None:
            self._append(self._definition(instrument, ts_recv_ns))
        return instrument

    def _definition(self, instrument: SessionInstrument, ts_recv_ns: int) -> bytes:
        """Return the definition's packet; a definition that the wire cannot hold is put aside
        for a provisional one.
        """
        try:
            return self._writer.definition(instrument, instrument.definition, ts_recv_ns)
        except ValueError as error:
            self.quarantine("rest", b"", f"instruments: {error}", 0, ts_recv_ns, instrument.symbol)
            instrument.definition = None
            return self._writer.definition(instrument, None, ts_recv_ns)

    def _define(
        self, instrument: SessionInstrument, definition: InstrumentDef, now_ns: int, ts_recv_ns: int
    ) -> None:
        """Take a new definition of an instrument in use. Exponents only ever fall within a
        session.
        """
        instrument.definition = definition
        price_exp, qty_exp = self._table.exponents(definition)
        self._set_exponents(
            instrument,
            min(price_exp, instrument.price_exp),
            min(qty_exp, instrument.qty_exp),
            now_ns,
            ts_recv_ns,
        )

    def _on_market_state(self, market: MarketState, now_ns: int, ts_recv_ns: int) -> None:
        """Redefine what the venue says is open, closed or halted now."""
        for instrument in self.instruments:
            definition = instrument.definition
            if (
                definition is not None
                and definition.segment == market.segment
                and definition.state is not market.state
            ):
                self._define(
                    instrument,
                    msgspec.structs.replace(definition, state=market.state),
                    now_ns,
                    ts_recv_ns,
                )

    def _fit(
        self,
        instrument: SessionInstrument,
        data: bytes,
        now_ns: int,
        ts_recv_ns: int,
        *,
        rest: bool = False,
    ) -> bool:
        """Change an instrument's exponents to those that a message needs; False: there are none,
        or no others.
        """
        old = instrument.price_exp, instrument.qty_exp
        fitting = fitting_exponents(self._fallback, instrument.index, data, old, rest=rest)
        if fitting is not None and self.spec.stream.written_exponents is not None:
            written = self.spec.stream.written_exponents(data)
            fitting = min(fitting[0], written[0]), min(fitting[1], written[1])
        if fitting is None or fitting == old:
            self._fallback.set_exponents(instrument.index, *old)
            return False
        self.counts["exponent_changed"] += 1
        self._set_exponents(instrument, *fitting, now_ns, ts_recv_ns)
        return True

    def _set_exponents(
        self,
        instrument: SessionInstrument,
        price_exp: int,
        qty_exp: int,
        now_ns: int,
        ts_recv_ns: int,
    ) -> None:
        """Publish a new definition version and, when the exponents changed, the book at the new
        ones.
        """
        changed = (price_exp, qty_exp) != (instrument.price_exp, instrument.qty_exp)
        self._table.set_exponents(instrument, price_exp, qty_exp)
        self._append(self._definition(instrument, ts_recv_ns))
        if not changed or not instrument.sync.live:
            return
        self._apply()
        packets = self.book_snapshot(instrument)
        if packets:
            self._append(packets)
        else:
            self._book_status(instrument, StatusState.SUSPECT, StatusReason.EXPONENT, ts_recv_ns)
            self._resync(instrument, StatusReason.EXPONENT, now_ns)
