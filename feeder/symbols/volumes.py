"""How much of each instrument was traded in 24 hours, by the venues' own ticker endpoints: what
ranks a universe.

A venue with evidence of such an endpoint says in its specification what to ask and how to read
the answer (`VenueSpec.volumes`); the evidence is in `docs/symbols.md`. Amounts rank and are
never published.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TypeVar

import msgspec

from tapecast.feeder.venues.spec import InstrumentsError, RestRequest

__all__ = ["Volumes", "amount", "decode_volumes"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """How much of each instrument was traded in 24 hours, by the venue's own ticker endpoint."""

    requests: Callable[[], list[RestRequest]]
    parse: Callable[[RestRequest, bytes], dict[str, Decimal]]
    """(request, body) -> key or alias -> turnover, comparable between instruments of one kind
    and quote currency. Raises InstrumentsError.
    """


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
