"""The definitions of a session's instruments: learned, published, changed with the venue's lists,
states and exponents.

An instrument is registered once (`InstrumentTable`); its definition goes out then and whenever it
changes. Exponents fall where the venue's list or a message asks for it
(`feeder.session.exponents`); the book then follows at the new ones, or is given up. No I/O.
"""

from __future__ import annotations

import msgspec

from tapecast.feeder.session.books import Books
from tapecast.feeder.session.buffer import Buffer
from tapecast.feeder.session.exponents import fitting_exponents
from tapecast.feeder.session.instruments import InstrumentTable
from tapecast.feeder.session.output import Output
from tapecast.feeder.session.packets import PacketWriter
from tapecast.feeder.session.types import SessionInstrument, SessionOptions
from tapecast.feeder.venues.spec import InstrumentDef, MarketState, VenueSpec
from tapecast.protocol.schema import StatusReason

__all__ = ["Registry"]


class Registry:
    """The definitions of one session."""

    def __init__(
        self,
        spec: VenueSpec,
        options: SessionOptions,
        table: InstrumentTable,
        buffer: Buffer,
        writer: PacketWriter,
        books: Books,
        output: Output,
    ) -> None:
        self._spec = spec
        self._accept_any = options.accept_any
        self._table = table
        self._buffer = buffer
        self._writer = writer
        self._books = books
        self._output = output

    def register(self, key: str, ts_recv_ns: int) -> SessionInstrument | None:
        """Enter an instrument and publish its definition; None for a text that is no symbol of
        the venue. Raises ValueError for one that is registered.
        """
        instrument = self._table.add(key)
        if instrument is not None:
            self._buffer.append(self._definition(instrument, ts_recv_ns))
        return instrument

    def accept(self, key: str, ts_recv_ns: int) -> SessionInstrument | None:
        """Return the instrument of a symbol that a message names; one that was not subscribed is
        registered where any is accepted.
        """
        known = self._table.by_symbol.get(key)
        if known is not None or not self._accept_any:
            return known
        return self.register(key, ts_recv_ns)

    def on_instruments(self, body: bytes, ts_recv_ns: int, now_ns: int) -> int | None:
        """Take the body of an instruments request (`Session.on_instruments`)."""
        try:
            definitions, rejected = self._spec.listing.parse(body)
        except (ValueError, RecursionError) as error:
            self._quarantine(body, f"instruments: {error}", ts_recv_ns)
            return None
        for reason in rejected:
            self._quarantine(b"", f"instruments: {reason}", ts_recv_ns)
        for definition in definitions:
            self._table.known[definition.key] = definition
            instrument = self._table.by_symbol.get(definition.key)
            if instrument is not None and instrument.definition != definition:
                self._define(instrument, definition, now_ns, ts_recv_ns)
        return len(definitions)

    def on_market_state(self, market: MarketState, now_ns: int, ts_recv_ns: int) -> None:
        """Redefine what the venue calls open, closed or halted now."""
        for instrument in self._table.all:
            definition = instrument.definition
            if (
                definition is not None
                and definition.segment == market.segment
                and definition.state is not market.state
            ):
                state = msgspec.structs.replace(definition, state=market.state)
                self._define(instrument, state, now_ns, ts_recv_ns)

    def fit(
        self,
        instrument: SessionInstrument,
        data: bytes,
        now_ns: int,
        ts_recv_ns: int,
        *,
        rest: bool = False,
    ) -> bool:
        """Change an instrument's exponents to those that a message needs; False: there are none,
        or no others. True: what was extracted is stale, extract again.
        """
        fallback = self._table.fallback
        old = instrument.price_exp, instrument.qty_exp
        fitting = fitting_exponents(fallback, instrument.index, data, old, rest=rest)
        if fitting is not None and self._spec.stream.written_exponents is not None:
            written = self._spec.stream.written_exponents(data)
            fitting = min(fitting[0], written[0]), min(fitting[1], written[1])
        if fitting is None or fitting == old:
            fallback.set_exponents(instrument.index, *old)
            return False
        self._output.counts["exponent_changed"] += 1
        self._set_exponents(instrument, *fitting, now_ns, ts_recv_ns)
        return True

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
        self._buffer.append(self._definition(instrument, ts_recv_ns))
        if not changed or not instrument.sync.live:
            return
        self._books.apply()
        packets = self._books.snapshot(instrument)
        if packets:
            self._buffer.append(packets)
        else:
            self._books.give_up(instrument, StatusReason.EXPONENT, now_ns, ts_recv_ns)

    def _definition(self, instrument: SessionInstrument, ts_recv_ns: int) -> bytes:
        """Return the definition's packet; a definition that the wire cannot hold is put aside
        for a provisional one.
        """
        try:
            return self._writer.definition(instrument, instrument.definition, ts_recv_ns)
        except ValueError as error:
            self._quarantine(b"", f"instruments: {error}", ts_recv_ns, instrument.symbol)
            instrument.definition = None
            return self._writer.definition(instrument, None, ts_recv_ns)

    def _quarantine(
        self, body: bytes, reason: str, ts_recv_ns: int, symbol: str | None = None
    ) -> None:
        self._output.quarantine("rest", body, reason, 0, ts_recv_ns, symbol)
