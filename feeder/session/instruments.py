"""The instruments of a session: entered in both extractors under one index, with the exponents
that both use.

Definitions are the venue's (`ListingSpec.parse`); without one, exponents are the
venue's provisional ones. It publishes nothing and does not decide when exponents change
(`feeder.session.session`, `feeder.session.exponents`).
"""

from __future__ import annotations

from tapecast.feeder.extract.extractor import Extractor
from tapecast.feeder.extract.fallback import FallbackExtractor
from tapecast.feeder.session.sync import BookSync, SequenceRule, SnapshotSource
from tapecast.feeder.session.types import SessionInstrument, SessionOptions
from tapecast.feeder.venues.spec import InstrumentDef, VenueSpec, market_and_symbol
from tapecast.protocol.codec import instrument_id

__all__ = ["InstrumentTable"]


class InstrumentTable:
    """All instruments in use, dense by index; `known` holds the venue's definitions, in use or
    not.

    Keys are symbols qualified by their market; the extractors know native symbols, market by
    market.
    """

    def __init__(self, spec: VenueSpec, options: SessionOptions) -> None:
        self._spec = spec
        self._options = options
        shapes = (*spec.stream.shapes, *spec.rule.rest_shapes)
        self.extractor = Extractor(
            shapes,
            venue_id=spec.venue_id,
            channel_id=options.channel_id,
            base_flags=options.base_flags,
            max_payload=options.max_payload,
        )
        self.fallback = FallbackExtractor(
            shapes,
            venue_id=spec.venue_id,
            channel_id=options.channel_id,
            base_flags=options.base_flags,
            max_payload=options.max_payload,
        )
        self.all: list[SessionInstrument] = []
        self.by_symbol: dict[str, SessionInstrument] = {}
        self.by_id: dict[int, SessionInstrument] = {}
        self.known: dict[str, InstrumentDef] = {}

    def add(self, key: str) -> SessionInstrument | None:
        """Enter an instrument that is not there yet; None for a text that is no symbol of the
        venue.
        """
        spec = self._spec
        definition = self.known.get(key)
        kind = spec.kind_of(key) if definition is None else definition.kind
        if kind is None:
            return None
        symbol = key
        if spec.stream.market is not None:
            market, symbol = market_and_symbol(key)
            self.select(market)
        number = instrument_id(f"{spec.name}.{kind.name.lower()}.{symbol}")
        # Retries of different books are spread by something that differs between them and never
        # changes.
        jitter = (number >> 40) % 1000 / 1000
        sync = BookSync(
            SequenceRule(spec.rule.sequence_rule),
            SnapshotSource(spec.rule.snapshot),
            self._options.sync,
            jitter,
        )
        price_exp, qty_exp = self.exponents(definition)
        index = self.extractor.add_instrument(symbol, number, price_exp, qty_exp)
        self.fallback.add_instrument(symbol, number, price_exp, qty_exp)
        instrument = SessionInstrument(index, key, symbol, kind, number, sync)
        instrument.definition = definition
        instrument.price_exp, instrument.qty_exp = price_exp, qty_exp
        self.all.append(instrument)
        self.by_symbol[key] = instrument
        self.by_id[number] = instrument
        return instrument

    def select(self, market: str) -> None:
        """Let both extractors take symbols as those of a market."""
        self.extractor.select(market)
        self.fallback.select(market)

    def exponents(self, definition: InstrumentDef | None) -> tuple[int, int]:
        """Return (price_exp, qty_exp) for a definition: its own, or the venue's provisional ones
        where it names none.
        """
        price_exp, qty_exp = (
            self._spec.listing.default_price_exp,
            self._spec.listing.default_qty_exp,
        )
        if definition is not None:
            price_exp = price_exp if definition.price_exp is None else definition.price_exp
            qty_exp = qty_exp if definition.qty_exp is None else definition.qty_exp
        return price_exp, qty_exp

    def set_exponents(self, instrument: SessionInstrument, price_exp: int, qty_exp: int) -> None:
        """Change the exponents that both extractors use for an instrument, as a new version of
        its definition.
        """
        instrument.price_exp, instrument.qty_exp = price_exp, qty_exp
        instrument.version += 1
        self.extractor.set_exponents(instrument.index, price_exp, qty_exp)
        self.fallback.set_exponents(instrument.index, price_exp, qty_exp)
