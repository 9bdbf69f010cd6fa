"""Reads the venues' 24 h tickers: how much of each instrument was traded, which ranks a universe.

A venue with evidence of such an endpoint says in its specification what to ask and how to read
the answer (`ListingSpec.volumes`); the evidence is in `docs/symbols.md`. Amounts rank and are
never published.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TypeVar

import msgspec

from tapecast.feeder.venues.spec import InstrumentsError

__all__ = ["amount", "decode_volumes"]

T = TypeVar("T")


def decode_volumes(venue: str, body: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Return a ticker body, or a part of one, as its struct. Raises InstrumentsError where it is
    something else.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InstrumentsError(f"{venue} tickers: {error}") from None


def amount(text: str) -> Decimal:
    """Return a traded amount that a venue leaves empty, or writes as no number, where there was
    none.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:
        return Decimal(0)
    return number if number.is_finite() else Decimal(0)
