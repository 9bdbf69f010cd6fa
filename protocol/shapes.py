"""Message shapes as data: what a venue's hot messages look like, declared once for both extractors.

A venue module lists `Shape` values. The C extractor (`protocol.extract`) compiles them into a table and turns frame bytes into
packets in one pass; the plain-Python extractor (`protocol.extract_reference`) interprets the same declarations and is its oracle.

A *path* names a place in the message: keys joined by dots, `[]` after a key whose value is an array of objects
(`data[].asks`). Keys contain neither dots nor brackets. Numbers are exact: the text is never read as a float.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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
    by the shape exists (except those in `optional`). Shapes of a venue are tried in order; the first wins, and from then on a
    value of another type than declared is a wrong type, not a reason to try the next shape. Unknown keys are skipped. A path
    that occurs twice is ambiguous, which counts as a wrong type. An array on a path (`data[].asks`) has exactly one element,
    except the last one of `each`. Under `each`, the first element says which paths exist.
    """

    name: str
    msg_type: MsgType
    numbers: Numbers
    silent: bool = False
    """Frames of this shape are understood and give nothing (a replay of old trades): status SUPPRESSED."""
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Path -> strings, one of which the value must equal."""
    absent: tuple[str, ...] = ()
    envelope: str | None = None
    """Key under which the whole message may be wrapped (Binance combined streams); paths are relative to the inside."""
    beside_lacks: tuple[str, tuple[str, ...]] | None = None
    """(key beside the envelope, texts): a wrapped frame whose string there contains one of the texts is not of this shape
    (Binance names partial-depth books only in `stream`). A frame without envelope, or without the key, passes."""
    optional: tuple[str, ...] = ()
    """Paths that may be missing or null."""
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
    """Number paths that must be 0 where present (Upbit `level`: a grouped book is not the book); else a wrong type."""
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
    """(path, text -> TradeFlag bits); the path may be missing or null; anything else: not this shape."""

    def __post_init__(self) -> None:
        """Raise ValueError for a declaration that neither extractor could read."""
        for problem in _problems(self):
            raise ValueError(f"shape {self.name}: {problem}")

    def paths(self) -> list[str]:
        """Return every path relative to the message that the shape names, except those of single trades."""
        named: list[str | None] = [*self.where, *self.absent, *self.zero]
        named += [self.symbol, self.first_id, self.last_id, self.prev_id, self.checksum, self.each]
        named += [source.path for source in (self.bids, self.asks, self.pairs) if source is not None]
        for quote in (self.bid, self.ask):
            named += [] if quote is None else [quote.price, quote.quantity]
        named += [] if self.snapshot_if is None else [self.snapshot_if[0]]
        if self.each is None:
            named += self.element_paths()
        return [path for path in dict.fromkeys(named) if path is not None]

    def element_paths(self) -> list[str]:
        """Return the paths of one trade, and `ts`, which is relative to `each` where that is declared."""
        named = [self.price, self.quantity, self.trade_id, self.side, self.ts]
        named += [] if self.trade_flags is None else [self.trade_flags[0]]
        return [path for path in named if path is not None]


_STEP = re.compile(r"[^.\[\]\"\\\x00-\x1f]+(\[\])?")


def _problems(shape: Shape) -> Iterator[str]:
    trades = shape.msg_type in (MsgType.TRADE, MsgType.LIQUIDATION)
    if not trades and shape.msg_type not in (MsgType.BOOK, MsgType.BBO):
        yield f"{shape.msg_type.name} cannot be extracted"
    for path in [*shape.paths(), *shape.element_paths()]:
        if not all(_STEP.fullmatch(step) for step in path.split(".")):
            yield f"{path!r} is no path"
        if path.endswith("[]") != (path == shape.each):
            yield f"{path!r}: only `each` ends in []"
    if shape.each is not None:
        if not trades:
            yield "`each` belongs to trades"
        if any("[]" in path for path in shape.element_paths()):
            yield "a trade holds no arrays"
        if any(path.startswith(f"{shape.each}.") for path in shape.paths()):
            yield f"only paths of a trade may lie below {shape.each}"
    if shape.snapshot_if is not None and shape.snapshot_if[0] in shape.where:
        yield "snapshot_if needs a path of its own"
    if shape.beside_lacks is not None:
        key, texts = shape.beside_lacks
        if shape.envelope in (None, key) or not _STEP.fullmatch(key) or "[]" in key or not all(texts):
            yield "beside_lacks needs an envelope, a key of its own and texts that are not empty"
        if any(path.split(".")[0].removesuffix("[]") == key for path in shape.paths()):
            yield "the key beside the envelope cannot be a path of the message"
    if shape.symbol in shape.optional:
        yield "the symbol cannot be optional"
    if shape.silent:
        return
    if trades and (shape.price is None or shape.quantity is None):
        yield "a trade needs price and quantity"
    if trades and {shape.price, shape.quantity} & set(shape.optional):
        yield "price and quantity of a trade cannot be optional"
    sources = [source for source in (shape.bids, shape.asks, shape.pairs, shape.bid, shape.ask) if source is not None]
    if trades == bool(sources) or (shape.pairs is not None and len(sources) > 1):
        yield "levels come from bids and asks, or from pairs, and belong to BOOK and BBO"
    if shape.msg_type is MsgType.BOOK and (shape.bid is not None or shape.ask is not None):
        yield "quotes belong to BBO"
    if (shape.bids is not None and shape.bid is not None) or (shape.asks is not None and shape.ask is not None):
        yield "a side has one source"
