"""Message shapes as data: what a venue's hot messages look like, declared once for both
extractors.

A venue module lists `Shape` values. The C extractor (`feeder.extract.extractor`) compiles them
into a table and turns frame bytes into packets in one pass; the plain-Python extractor
(`feeder.extract.fallback`) interprets the same declarations.

A *path* names a place in the message: keys joined by dots, `[]` after a key whose value is an
array of objects (`data[].asks`). Keys contain neither dots nor brackets. Numbers are exact: the
text is never read as a float.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from tapecast.protocol.schema import MsgType, Side, StatKind

__all__ = [
    "IdKind",
    "Numbers",
    "ObjectRows",
    "PairRows",
    "Quote",
    "Rows",
    "Shape",
    "SidedRows",
    "StatField",
    "TimeUnit",
]


class Numbers(IntEnum):
    """How a venue writes prices and quantities. The other way is a wrong type."""

    QUOTED = 1
    BARE = 2


class TimeUnit(IntEnum):
    """Unit of an integer time stamp; AUTO tells s, ms, us and ns apart by magnitude (years 2001
    to 2286).

    ISO is no integer but RFC 3339 text in UTC (`2024-08-08T23:54:15.343Z`, or `+00:00`). What is
    finer than 1 ns, outside 2001 to 2262 or no day of the calendar is an unknown time; another
    text is a wrong type.

    KST is the text `HHMMSS` of a clock in Korea (UTC+9, no summer time), without date: of the
    instants with that clock time the one nearest to the receive time, so that midnight needs no
    care. Whole seconds are coarse (BAD_TS_EXCHANGE). Blank, no time of day, or more than an hour
    from the receive time (or that is not known): an unknown time; another text is a wrong type.
    """

    MS = 1
    US = 2
    NS = 3
    AUTO = 4
    ISO = 5
    KST = 6


class IdKind(IntEnum):
    """How a venue names trades. A text's id is its BLAKE2b-64 (little-endian, of the UTF-8) with
    HASHED_ID set.
    """

    NUMBER = 1
    """An unsigned 64-bit integer, bare or quoted."""
    TEXT = 2
    """A string, always hashed."""
    EITHER = 3
    """As NUMBER where it is bare or a string of 1 to 20 digits below 2^64; every other string is
    hashed.
    """


@dataclass(frozen=True, slots=True)
class Rows:
    """An array of arrays, one level a row; further columns are ignored."""

    path: str
    price: int = 0
    quantity: int = 1


@dataclass(frozen=True, slots=True)
class ObjectRows:
    """An array of objects, one level an object; `price` and `quantity` are keys of it, other
    keys are ignored.
    """

    path: str
    price: str
    quantity: str


@dataclass(frozen=True, slots=True)
class SidedRows:
    """An array of bids and asks in any order, each row with its side: arrays (columns) or
    objects (keys).

    `sides` maps the venue's text to BUY (a bid) or SELL (an ask); any other value is a wrong
    type. `ts` is the key of a time that every row has: the first row's is the message's, instead
    of the shape's `ts`; without rows it is unknown.
    """

    path: str
    side: int | str
    price: int | str
    quantity: int | str
    sides: dict[str, Side]
    ts: str | None = None


@dataclass(frozen=True, slots=True)
class PairRows:
    """An array of objects that hold one bid and one ask level each; a side whose price is 0 is
    padding and is left out.
    """

    path: str
    bid_price: str
    bid_quantity: str
    ask_price: str
    ask_quantity: str


@dataclass(frozen=True, slots=True)
class Quote:
    """One level as two scalars; price or quantity 0 means that there is none.

    In a book a text of blanks is a 0 too, except for the quantity beside a price, where it is a
    wrong type.
    """

    price: str
    quantity: str


@dataclass(frozen=True, slots=True)
class StatField:
    """One statistic of a message: a signed number at `path`, absent where that is missing, null
    or an empty string.

    `ts` is the path of the time the value applies to (declared and absent: unknown, 0), by
    default the message's time. `due` is the path of the time a funding rate is due: the item's
    `aux` is the whole seconds from the message's time to then, 0 where one of them is unknown or
    it has passed. A due time that is the integer 0 says that nothing is due: the statistic is
    absent (Binance sends the rate 0 of dated contracts so). Both times are in the shape's
    `ts_unit`.
    """

    kind: StatKind
    path: str
    ts: str | None = None
    due: str | None = None

    def paths(self) -> list[str]:
        """Return the paths named here."""
        return [path for path in (self.path, self.ts, self.due) if path is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One kind of hot message.

    A frame has this shape when every `where` path holds one of its constants, no `absent` path
    exists, and every path named by the shape exists (except those in `optional`). Shapes of a
    venue are tried in order; the first wins, and from then on a value of another type than
    declared is a wrong type, not a reason to try the next shape. Unknown keys are skipped. A
    path that occurs twice is ambiguous, which counts as a wrong type. An array on a path
    (`data[].asks`) has exactly one element, except the last one of `each`. Under `each`, the
    first element says which paths exist.
    """

    name: str
    msg_type: MsgType
    numbers: Numbers
    silent: bool = False
    """Frames of this shape are understood and give nothing (a replay of old trades): status
    SUPPRESSED.
    """
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Path -> strings, one of which the value must equal; one that ends in `*` matches any
    string with what precedes it (`orderbook.50.*`).
    """
    absent: tuple[str, ...] = ()
    envelope: str | None = None
    """Key under which the whole message may be wrapped (Binance combined streams); paths are
    relative to the inside.
    """
    beside_lacks: tuple[str, tuple[str, ...]] | None = None
    """(key beside the envelope, texts): a wrapped frame whose string there contains one of the
    texts is not of this shape (Binance names partial-depth books only in `stream`). A frame
    without envelope, or without the key, passes.
    """
    optional: tuple[str, ...] = ()
    """Paths that may be missing or null."""
    symbol: str | None = None
    """Path of the native symbol; None, and no `each_symbol`: the caller names the instrument
    (REST bodies).

    Spaces around a symbol are not part of it (LS pads to a width).
    """
    each_symbol: str | None = None
    """Path of the native symbol in each element of `each`, instead of `symbol`; several
    different ones are a wrong type.
    """
    ts: str | None = None
    """Path of the exchange time (an integer, bare or quoted, or ISO text); None: the message has
    none (BAD_TS_EXCHANGE, 0).
    """
    ts_unit: TimeUnit = TimeUnit.MS

    # BOOK, BBO
    bids: Rows | ObjectRows | None = None
    asks: Rows | ObjectRows | None = None
    pairs: PairRows | None = None
    levels: SidedRows | None = None
    bid: Quote | None = None
    ask: Quote | None = None
    bid_levels: tuple[Quote, ...] = ()
    """All bids of a whole book, best first (LS `bidho1`, `bidrem1`, ...); at most 20 levels of
    both sides together.
    """
    ask_levels: tuple[Quote, ...] = ()
    snapshot: bool = False
    snapshot_if: tuple[str, str, str] | None = None
    """(path, text of a snapshot, text of a delta); any other text: not this shape."""
    top_only: bool = False
    """The venue truncates the depth: TOP_ONLY is set."""
    zero: tuple[str, ...] = ()
    """Number paths that must be 0 where present (Upbit `level`: a grouped book is not the book);
    else a wrong type.
    """
    one: tuple[str, ...] = ()
    """Number paths that must be 1 where present (Bithumb `level`), likewise."""
    first_id: str | None = None
    last_id: str | None = None
    prev_id: str | None = None
    """Update ids (signed 64-bit integers, bare or quoted) for the book rule."""
    checksum: str | None = None

    # TRADE
    each: str | None = None
    """Path (ending in `[]`) of an array with one trade an object; the paths below are then
    relative to it, and so is `ts`.
    """
    price: str | None = None
    quantity: str | None = None
    trade_id: str | None = None
    trade_id_kind: IdKind = IdKind.NUMBER
    side: str | None = None
    sides: dict[str | bool, Side] = field(default_factory=dict)
    """Venue's text or boolean -> taker's side; any other value is a wrong type."""
    trade_flags: tuple[str, dict[str | bool, int]] | None = None
    """(path, text or boolean -> TradeFlag bits); the path may be missing or null; anything else:
    not this shape. The text `*` stands for every text that is not named.
    """
    more_flags: tuple[str, dict[str | bool, int]] | None = None
    """A second source of TradeFlag bits, which are added."""
    condition: tuple[str, dict[str, int]] | None = None
    """(path, text -> the item's condition code); missing, null or another text: 0."""

    # STAT
    stats: tuple[StatField, ...] = ()
    """A frame in which every one is absent is SUPPRESSED. A value has its own exponent: 0 for an
    integer below 2^62, otherwise that of the mantissa without trailing zeros.
    """

    def __post_init__(self) -> None:
        """Raise ValueError for a declaration that neither extractor could read."""
        for problem in _problems(self):
            raise ValueError(f"shape {self.name}: {problem}")

    @property
    def by_caller(self) -> bool:
        """Whether the caller names the instrument, not the message."""
        return self.symbol is None and self.each_symbol is None

    def sources(self) -> list[Rows | ObjectRows | PairRows | SidedRows]:
        """Return the declared arrays of levels."""
        return [
            source
            for source in (self.bids, self.asks, self.pairs, self.levels)
            if source is not None
        ]

    def quotes(self, side: Side) -> tuple[Quote, ...]:
        """Return the levels of a side that are scalars."""
        quote, levels = (
            (self.bid, self.bid_levels) if side is Side.BUY else (self.ask, self.ask_levels)
        )
        return levels if quote is None else (quote,)

    def flag_sources(self) -> list[tuple[str, dict[str | bool, int]]]:
        """Return the declared sources of trade flags."""
        return [source for source in (self.trade_flags, self.more_flags) if source is not None]

    def paths(self) -> list[str]:
        """Return every path relative to the message that the shape names, except those of single
        trades.
        """
        named: list[str | None] = [*self.where, *self.absent, *self.zero, *self.one]
        named += [self.symbol, self.first_id, self.last_id, self.prev_id, self.checksum, self.each]
        named += [source.path for source in self.sources()]
        named += [path for stat in self.stats for path in stat.paths()]
        for quote in (*self.quotes(Side.BUY), *self.quotes(Side.SELL)):
            named += [quote.price, quote.quantity]
        named += [] if self.snapshot_if is None else [self.snapshot_if[0]]
        if self.each is None:
            named += self.element_paths()
        return [path for path in dict.fromkeys(named) if path is not None]

    def element_paths(self) -> list[str]:
        """Return the paths of one trade, and `ts`, which is relative to `each` where that is
        declared.
        """
        named = [self.each_symbol, self.price, self.quantity, self.trade_id, self.side, self.ts]
        named += [path for path, _ in self.flag_sources()]
        named += [] if self.condition is None else [self.condition[0]]
        return [path for path in named if path is not None]


_MAX_QUOTES = 20
_STEP = re.compile(r"[^.\[\]\"\\\x00-\x1f]+(\[\])?")


def _problems(shape: Shape) -> Iterator[str]:
    trades = shape.msg_type in (MsgType.TRADE, MsgType.LIQUIDATION)
    if not trades and shape.msg_type not in (MsgType.BOOK, MsgType.BBO, MsgType.STAT):
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
        if (
            shape.envelope in (None, key)
            or not _STEP.fullmatch(key)
            or "[]" in key
            or not all(texts)
        ):
            yield "beside_lacks needs an envelope, a key of its own and texts that are not empty"
        if any(path.split(".")[0].removesuffix("[]") == key for path in shape.paths()):
            yield "the key beside the envelope cannot be a path of the message"
    if shape.each_symbol is not None and (shape.each is None or shape.symbol is not None):
        yield "each_symbol needs `each` and stands instead of symbol"
    if {shape.symbol, shape.each_symbol} - {None} & set(shape.optional):
        yield "the symbol cannot be optional"
    yield from _level_problems(shape)
    if shape.silent:
        return
    if trades and (shape.price is None or shape.quantity is None):
        yield "a trade needs price and quantity"
    if "*" in shape.sides:
        yield "a side is named, `*` is not a text of it"
    if trades and {shape.price, shape.quantity} & set(shape.optional):
        yield "price and quantity of a trade cannot be optional"
    scalars = [*shape.quotes(Side.BUY), *shape.quotes(Side.SELL)]
    sources = [*shape.sources(), *scalars]
    whole = shape.pairs is not None or shape.levels is not None
    if (shape.msg_type in (MsgType.BOOK, MsgType.BBO)) != bool(sources) or (
        whole and len(sources) > 1
    ):
        yield (
            "levels come from bids and asks, or from pairs or levels alone, and belong to BOOK"
            " and BBO"
        )
    if (shape.msg_type is MsgType.STAT) != bool(shape.stats):
        yield "stats belong to STAT"
    if shape.msg_type is MsgType.BOOK and (shape.bid is not None or shape.ask is not None):
        yield "quotes belong to BBO"
    if (shape.bid_levels or shape.ask_levels) and (
        shape.msg_type is not MsgType.BOOK or not shape.snapshot
    ):
        yield "levels of scalars are a whole book"
    if len(scalars) > _MAX_QUOTES:
        yield f"more than {_MAX_QUOTES} levels of scalars"
    for rows, quote, levels in (
        (shape.bids, shape.bid, shape.bid_levels),
        (shape.asks, shape.ask, shape.ask_levels),
    ):
        if sum((rows is not None, quote is not None, bool(levels))) > 1:
            yield "a side has one source"


def _level_problems(shape: Shape) -> Iterator[str]:
    names: list[int | str] = []
    for source in shape.sources():
        if isinstance(source, ObjectRows):
            names += [source.price, source.quantity]
        elif isinstance(source, PairRows):
            names += [source.bid_price, source.bid_quantity, source.ask_price, source.ask_quantity]
        elif isinstance(source, SidedRows):
            columns = (source.side, source.price, source.quantity)
            names += columns
            if len({type(column) for column in columns}) > 1 or len(set(columns)) < 3:
                yield "the columns of sided rows are three integers or three keys"
            if source.ts is not None:
                names.append(source.ts)
                if (
                    shape.ts is not None
                    or len({*columns, source.ts}) < 4
                    or not isinstance(source.side, str)
                ):
                    yield "the time of rows is a key of its own and stands instead of ts"
            if not source.sides or not {Side.BUY, Side.SELL}.issuperset(source.sides.values()):
                yield "the side of a level is BUY or SELL"
        else:
            names += [source.price, source.quantity]
    if any(
        not _STEP.fullmatch(name) or name.endswith("[]") or "." in name
        for name in names
        if isinstance(name, str)
    ):
        yield "a row's keys are plain keys"
    if any(name < 0 for name in names if isinstance(name, int)):
        yield "a row's columns count from 0"
