"""Message shapes as data: what a venue's hot messages look like, declared once for both extractors.

A venue module lists `Shape` values. The C extractor (`protocol.extract`) compiles them into a table and turns frame bytes into
packets in one pass; the plain-Python extractor (`protocol.extract_reference`) interprets the same declarations and is its oracle.

A *path* names a place in the message: keys joined by dots, `[]` after a key whose value is an array of objects
(`data[].asks`). Keys contain neither dots nor brackets. Numbers are exact: the text is never read as a float.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from protocol.schema import MsgType, Side

__all__ = ["Numbers", "PairRows", "Quote", "Rows", "Shape", "TimeUnit"]


class Numbers(IntEnum):
    """How a venue writes prices and quantities. The other way is a wrong type."""

    QUOTED = 1
    BARE = 2


class TimeUnit(IntEnum):
    """Unit of an integer time stamp; AUTO tells s, ms, us and ns apart by magnitude (years 2001 to 2286)."""

    MS = 1
    US = 2
    NS = 3
    AUTO = 4


@dataclass(frozen=True, slots=True)
class Rows:
    """An array of arrays, one level a row; further columns are ignored."""

    path: str
    price: int = 0
    quantity: int = 1


@dataclass(frozen=True, slots=True)
class PairRows:
    """An array of objects that hold one bid and one ask level each; a side whose price is 0 is padding and is left out."""

    path: str
    bid_price: str
    bid_quantity: str
    ask_price: str
    ask_quantity: str


@dataclass(frozen=True, slots=True)
class Quote:
    """One side of a BBO as two scalars; price or quantity 0 means that the side is empty."""

    price: str
    quantity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One kind of hot message.

    A frame has this shape when every `where` path holds one of its constants, no `absent` path exists, and every path named
    by the shape exists with the right type (except those in `optional`). Shapes of a venue are tried in order; the first wins.
    Unknown keys are skipped. A path that occurs twice is ambiguous: the frame is declined.
    """

    name: str
    msg_type: MsgType
    numbers: Numbers
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Path -> strings, one of which the value must equal."""
    absent: tuple[str, ...] = ()
    envelope: str | None = None
    """Key under which the whole message may be wrapped (Binance combined streams); paths are relative to the inside."""
    beside_lacks: tuple[str, tuple[str, ...]] | None = None
    """(key beside the envelope, texts): a wrapped frame whose string there contains one of the texts is not of this shape
    (Binance names partial-depth books only in `stream`). A frame without envelope, or without the key, passes."""
    optional: tuple[str, ...] = ()
    symbol: str | None = None
    """Path of the native symbol; None: the caller names the instrument (REST bodies)."""
    ts: str | None = None
    """Path of the exchange time (an integer, bare or quoted); None: the message has none (BAD_TS_EXCHANGE, 0)."""
    ts_unit: TimeUnit = TimeUnit.MS

    # BOOK, BBO
    bids: Rows | None = None
    asks: Rows | None = None
    pairs: PairRows | None = None
    bid: Quote | None = None
    ask: Quote | None = None
    snapshot: bool = False
    snapshot_if: tuple[str, str, str] | None = None
    """(path, text of a snapshot, text of a delta); any other text: not this shape."""
    top_only: bool = False
    """The venue truncates the depth: TOP_ONLY is set."""
    zero: tuple[str, ...] = ()
    """Integer paths that must be 0 where present (Upbit `level`: a grouped book is not the book)."""
    first_id: str | None = None
    last_id: str | None = None
    prev_id: str | None = None
    """Update ids (signed 64-bit integers, bare or quoted) for the book rule."""
    checksum: str | None = None

    # TRADE
    each: str | None = None
    """Path (ending in `[]`) of an array with one trade an object; the paths below are then relative to it, and so is `ts`."""
    price: str | None = None
    quantity: str | None = None
    trade_id: str | None = None
    """An unsigned 64-bit integer, bare or quoted."""
    side: str | None = None
    sides: dict[str | bool, Side] = field(default_factory=dict)
    """Venue's text or boolean -> taker's side; any other value is a wrong type."""
    trade_flags: tuple[str, dict[str, int]] | None = None
    """(path, text -> TradeFlag bits); the path may be missing; any other text: not this shape."""
