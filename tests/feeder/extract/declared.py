"""Shapes for the extractor's tests: a usual one, changed by keyword."""

from __future__ import annotations

from dataclasses import fields
from typing import TypeVar

from tapecast.feeder.extract.shapes import (
    BidAskRows,
    BookShape,
    Match,
    Numbers,
    QuoteShape,
    Rows,
    StatField,
    StatShape,
    TradeShape,
)

__all__ = ["book", "quote", "shape", "statistics", "trades"]

_MATCH = frozenset(field.name for field in fields(Match))
_Kind = TypeVar("_Kind", BookShape, QuoteShape, TradeShape, StatShape)


def shape(kind: type[_Kind], **changes: object) -> _Kind:
    """Return a shape `x` of quoted numbers with symbol `s` and time `T`; `changes` are fields of
    it, of its Match, or the `bids` and `asks` of its levels.
    """
    given: dict[str, object] = {
        "name": "x",
        "numbers": Numbers.QUOTED,
        "symbol": "s",
        "ts": "T",
    } | changes
    match = {name: given.pop(name) for name in list(given) if name in _MATCH}
    sides = {name: given.pop(name) for name in ("bids", "asks") if name in given}
    if sides:
        given.setdefault("levels", BidAskRows(**sides))  # type: ignore[arg-type]
    return kind(match=Match(**match), **given)  # type: ignore[arg-type]


def book(**changes: object) -> BookShape:
    """Return a book of the arrays `b` and `a`."""
    return shape(BookShape, **({"name": "book", "bids": Rows("b"), "asks": Rows("a")} | changes))


def quote(**changes: object) -> QuoteShape:
    """Return a best bid and offer of the arrays `b` and `a`."""
    return shape(QuoteShape, **({"name": "quote", "bids": Rows("b"), "asks": Rows("a")} | changes))


def trades(**changes: object) -> TradeShape:
    """Return trades with price `p` and quantity `q`."""
    return shape(TradeShape, **({"name": "trades", "price": "p", "quantity": "q"} | changes))


def statistics(*stats: StatField, **changes: object) -> StatShape:
    """Return these statistics."""
    return shape(StatShape, **({"name": "statistics", "stats": stats} | changes))
