"""The instrument definitions a feed has seen, and which of their instruments the script wants.

Definitions come in a cycle of at most 5 s, so most of what arrives is known already and costs
one comparison. What is wanted is decided by `consumers.feed.selection`. No input or output, no
clock.
"""

from __future__ import annotations

from decimal import Decimal

from tapecast.consumers.feed.events import Instrument, Names, decimal
from tapecast.consumers.feed.selection import Selection
from tapecast.protocol.codec import Buffer, WireError, decode
from tapecast.protocol.decimals import format_decimal
from tapecast.protocol.fields import OFFSET
from tapecast.protocol.naming import canonical_name
from tapecast.protocol.records import Header, InstrumentItem
from tapecast.protocol.schema import (
    HEADER_SIZE,
    INSTRUMENT,
    UNDEFINED,
    Flag,
    InstrumentFlag,
    InstrumentKind,
    InstrumentState,
    OptionType,
    venue_name,
)

__all__ = ["Definitions", "names_of"]

_KINDS = {int(kind): kind.name.lower() for kind in InstrumentKind}
_STATES = {int(state): state for state in InstrumentState}
_OPTIONS = {int(kind): kind for kind in OptionType}
_TIMES_END = OFFSET["payload_len"]
"""The header before it changes from cycle to cycle (sequence, times); the payload's length and
the items do not.
"""
_ID = next(field.offset for field in INSTRUMENT.fields if field.name == "id")
"""Where an item holds the instrument's id, 8 bytes."""


def names_of(item: InstrumentItem) -> Names:
    """Return who a definition is about."""
    venue, kind = venue_name(item.venue), _KINDS.get(item.kind) or str(item.kind)
    return Names(venue, kind, item.symbol, f"{venue}.{kind}.{item.symbol}")


class Definitions:
    """What is known of instruments by id. `names[id]` is None where the instrument is defined
    and not wanted.
    """

    def __init__(self, selection: Selection) -> None:
        """Start without definitions."""
        self.selection = selection
        self.names: dict[int, Names | None] = {}
        self.wanted: dict[str, Instrument] = {}
        self.malformed = 0
        self.refused: list[int] = []
        """Ids that the last `take` found to be unwanted."""
        self._packets: dict[bytes, bytes] = {}
        self._items: dict[int, InstrumentItem] = {}

    def take(self, packet: Buffer) -> list[Instrument]:
        """Take in an INSTRUMENT packet and return the wanted definitions that are new or
        changed.

        A packet that repeats the last cycle's costs one comparison.
        """
        self.refused.clear()
        raw = bytes(packet)
        first_id = raw[HEADER_SIZE + _ID : HEADER_SIZE + _ID + 8]
        if self._packets.get(first_id) == raw[_TIMES_END:]:
            return []
        try:
            header, items, _ = decode(raw)
        except WireError:
            self.malformed += 1
            return []
        self._packets[first_id] = raw[_TIMES_END:]
        changed: list[Instrument] = []
        for item in items:
            if not isinstance(item, InstrumentItem) or self._items.get(item.id) == item:
                continue
            self._items[item.id] = item
            names = names_of(item)
            if not self.selection.define(names, _canonical(item)):
                self.names[item.id] = None
                self.refused.append(item.id)
                continue
            self.names[item.id] = names
            definition = _event(names, item, header)
            self.wanted[names.instrument] = definition
            changed.append(definition)
        return changed

    def count(self, venue_id: int) -> int:
        """Return how many instruments of a venue are defined, wanted or not."""
        return sum(1 for item in self._items.values() if item.venue == venue_id)

    def find(self, symbol: str) -> list[Instrument]:
        """Return the wanted instruments that a symbol or instrument text means; several where
        venues or kinds share it.
        """
        one = Selection(None, [symbol])
        return [
            d
            for d in self.wanted.values()
            if one.define(Names(d.venue, d.kind, d.symbol, d.instrument), d.canonical)
        ]


def _event(names: Names, item: InstrumentItem, header: Header) -> Instrument:
    return Instrument(
        venue=names.venue,
        kind=names.kind,
        symbol=names.symbol,
        instrument=names.instrument,
        ts_exchange_ns=header.ts_exchange_ns,
        ts_recv_ns=header.ts_recv_ns,
        ts_send_ns=header.ts_send_ns,
        flags=Flag(header.flags),
        instrument_id=item.id,
        state=_STATES.get(item.state, item.state),
        version=item.version,
        instrument_flags=InstrumentFlag(item.flags),
        price_exp=item.price_exp,
        qty_exp=item.qty_exp,
        tick=_optional(item.tick, item.price_exp),
        lot=_optional(item.lot, item.qty_exp),
        min_qty=_optional(item.min_qty, item.qty_exp),
        min_notional=_optional(item.min_notional, item.notional_exp),
        multiplier=_optional(item.multiplier, item.multiplier_exp),
        expiry_ns=item.expiry_ns,
        strike=_optional(item.strike, item.strike_exp),
        base=item.base,
        quote=item.quote,
        settle=item.settle,
        option_type=_OPTIONS.get(item.option_type, OptionType.NONE),
        canonical=_canonical(item),
    )


def _canonical(item: InstrumentItem) -> str | None:
    strike = "" if item.strike == UNDEFINED else format_decimal(item.strike, item.strike_exp)
    return canonical_name(
        item.kind,
        item.base,
        item.quote,
        settle=item.settle,
        expiry_ns=item.expiry_ns,
        strike=strike,
        option_type=item.option_type,
    )


def _optional(mantissa: int, exp: int) -> Decimal | None:
    return None if mantissa == UNDEFINED else decimal(mantissa, exp)
