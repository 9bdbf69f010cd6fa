"""Message shapes as data: what a venue's hot messages look like, declared once for both
extractors.

A venue module lists its shapes: a `BookShape`, `QuoteShape`, `TradeShape`, `StatShape` or
`SilentShape` for each kind of frame, each with the `Match` that identifies it and a real frame
as `example`. The C extractor (`feeder.extract.extractor`) compiles them into a table and turns
frame bytes into packets in one pass; the plain-Python extractor (`feeder.extract.fallback`)
interprets the same declarations.

A *path* names a place in the message: keys joined by dots, `[]` after a key whose value is an
array of objects (`data[].asks`). Keys contain neither dots nor brackets. Numbers are exact: the
text is never read as a float.

Shapes of a venue are tried in order; the first that matches wins, and from then on a value of
another type than declared is a wrong type, not a reason to try the next shape. Unknown keys are
skipped. A path that occurs twice is ambiguous, which counts as a wrong type. An array on a path
(`data[].asks`) has exactly one element, except the last one of `Elements`.

A declaration that neither extractor could read raises ValueError when it is made, naming the
shape and the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from tapecast.feeder.extract.fields import (
    BestLevels,
    BidAskRows,
    ConditionField,
    Elements,
    FlagField,
    IdKind,
    LevelFields,
    Levels,
    Numbers,
    ObjectRows,
    PairRows,
    Rows,
    RowsForm,
    ScalarLevel,
    SidedRows,
    SideField,
    SnapshotField,
    StatField,
    TimeUnit,
    TradeId,
)
from tapecast.protocol.schema import MsgType, Side

__all__ = [
    "BestLevels",
    "BidAskRows",
    "BookShape",
    "ConditionField",
    "Elements",
    "FlagField",
    "IdKind",
    "LevelFields",
    "Levels",
    "Match",
    "Numbers",
    "ObjectRows",
    "PairRows",
    "QuoteShape",
    "Rows",
    "RowsForm",
    "ScalarLevel",
    "Shape",
    "SideField",
    "SidedRows",
    "SilentShape",
    "SnapshotField",
    "StatField",
    "StatShape",
    "TimeUnit",
    "TradeId",
    "TradeShape",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What identifies a frame: every `where` path holds one of its constants, no `absent` path
    exists, and every path that the shape names exists, except those in `optional`.
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
    """Paths that may be missing or null; those of a trade are relative to its object."""
    zero: tuple[str, ...] = ()
    """Number paths that must be 0 where present (Upbit `level`: a grouped book is not the book);
    else a wrong type.
    """
    one: tuple[str, ...] = ()
    """Number paths that must be 1 where present (Bithumb `level`), likewise."""

    def paths(self) -> list[str]:
        """Return the paths named here, all relative to the message."""
        return [*self.where, *self.absent, *self.zero, *self.one]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    """What shapes of every kind have."""

    name: str
    match: Match = Match()
    symbol: str | None = None
    """Path of the native symbol; None, and no symbol in the elements: the caller names the
    instrument (REST bodies).

    Spaces around a symbol are not part of it (LS pads to a width).
    """
    example: bytes | None = None
    """A real frame of this shape, short, from the venue's documentation or its recorded single
    messages.
    """

    @property
    def by_caller(self) -> bool:
        """Whether the caller names the instrument, not the message."""
        return self.symbol is None

    @property
    def array(self) -> str | None:
        """The path of the array whose objects are trades."""
        return None

    def paths(self) -> list[str]:
        """Return every path relative to the message, each once."""
        named = [*self.match.paths(), *self._own_paths()]
        return [path for path in dict.fromkeys(named) if path is not None]

    def required(self) -> list[str]:
        """Return the paths relative to the message of which a frame must have those that are not
        optional.
        """
        return _declared(self.symbol)

    def element_paths(self) -> list[str]:
        """Return every path relative to an object of the array (without one, to the message)."""
        return []

    def element_required(self) -> list[str]:
        """Return the paths of an object (without an array: of the message) that must exist
        unless optional.
        """
        return []

    def _own_paths(self) -> list[str | None]:
        """Return what the kind names beyond its match. The order is that of the tables' slots."""
        return [self.symbol]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timed(_Common):
    """What shapes have whose frames become packets."""

    numbers: Numbers
    ts: str | None = None
    """Path of the exchange time (an integer, bare or quoted, or a text); None: the message has
    none (BAD_TS_EXCHANGE, 0).
    """
    ts_unit: TimeUnit = TimeUnit.MS


@dataclass(frozen=True, slots=True, kw_only=True)
class BookShape(_Timed):
    """A book, whole or as changes."""

    msg_type: ClassVar[MsgType] = MsgType.BOOK
    levels: BidAskRows | PairRows | SidedRows | LevelFields
    snapshot: bool | SnapshotField = False
    """Whether it is a whole book, or what says so."""
    top_only: bool = False
    """The venue truncates the depth: TOP_ONLY is set."""
    first_id: str | None = None
    last_id: str | None = None
    prev_id: str | None = None
    """Update ids (signed 64-bit integers, bare or quoted) for the book rule."""
    checksum: str | None = None

    @property
    def snapshot_field(self) -> SnapshotField | None:
        """What tells a snapshot from a delta, where the message does."""
        return None if isinstance(self.snapshot, bool) else self.snapshot

    def required(self) -> list[str]:
        """Return the paths that must exist unless optional."""
        ids = (self.first_id, self.last_id, self.prev_id, self.checksum)
        return [*_declared(self.symbol, *ids), *_level_paths(self.levels), *_declared(self.ts)]

    def _own_paths(self) -> list[str | None]:
        ids = (self.first_id, self.last_id, self.prev_id, self.checksum)
        snapshot_field = None if self.snapshot_field is None else self.snapshot_field.path
        return [self.symbol, *ids, *_level_paths(self.levels), snapshot_field, self.ts]

    def __post_init__(self) -> None:
        """Raise ValueError for a declaration that neither extractor could read."""
        _refuse(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteShape(_Timed):
    """A best bid and offer; of rows the first of each side counts."""

    msg_type: ClassVar[MsgType] = MsgType.BBO
    levels: BidAskRows | PairRows | SidedRows | BestLevels
    last_id: str | None = None
    """The update id, as of a book."""

    def required(self) -> list[str]:
        """Return the paths that must exist unless optional."""
        return [
            *_declared(self.symbol, self.last_id),
            *_level_paths(self.levels),
            *_declared(self.ts),
        ]

    def _own_paths(self) -> list[str | None]:
        return [self.symbol, self.last_id, *_level_paths(self.levels), self.ts]

    def __post_init__(self) -> None:
        """Raise ValueError for a declaration that neither extractor could read."""
        _refuse(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeShape(_Timed):
    """One trade, or those of an array."""

    msg_type: Literal[MsgType.TRADE, MsgType.LIQUIDATION] = MsgType.TRADE
    each: Elements | None = None
    """The array; the paths below are then relative to its objects, and so is `ts`."""
    price: str
    quantity: str
    trade_id: TradeId | None = None
    side: SideField | None = None
    flags: tuple[FlagField, ...] = ()
    """At most two sources, whose bits are added."""
    condition: ConditionField | None = None

    @property
    def by_caller(self) -> bool:
        """Whether the caller names the instrument, not the message."""
        return self.symbol is None and (self.each is None or self.each.symbol is None)

    @property
    def array(self) -> str | None:
        """The path of the array whose objects are trades."""
        return None if self.each is None else self.each.path

    def element_required(self) -> list[str]:
        """Return the paths of an object that must exist unless optional."""
        return _declared(
            None if self.each is None else self.each.symbol,
            self.price,
            self.quantity,
            None if self.trade_id is None else self.trade_id.path,
            None if self.side is None else self.side.path,
            self.ts,
        )

    def element_paths(self) -> list[str]:
        """Return every path relative to an object of the array (without one, to the message)."""
        more = [source.path for source in self.flags]
        more += [] if self.condition is None else [self.condition.path]
        return [*self.element_required(), *more]

    def _own_paths(self) -> list[str | None]:
        if self.each is not None:
            return [self.symbol, self.each.path]
        return [self.symbol, *self.element_paths()]

    def __post_init__(self) -> None:
        """Raise ValueError for a declaration that neither extractor could read."""
        _refuse(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatShape(_Timed):
    """Statistics. A frame in which every one is absent is SUPPRESSED.

    A value has its own exponent: 0 for an integer below 2^62, otherwise that of the mantissa
    without trailing zeros.
    """

    msg_type: ClassVar[MsgType] = MsgType.STAT
    stats: tuple[StatField, ...]

    def required(self) -> list[str]:
        """Return the paths that must exist unless optional: no single statistic."""
        return _declared(self.symbol, self.ts)

    def _own_paths(self) -> list[str | None]:
        return [self.symbol, *(path for stat in self.stats for path in stat.paths()), self.ts]

    def __post_init__(self) -> None:
        """Raise ValueError for a declaration that neither extractor could read."""
        _refuse(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentShape(_Common):
    """Frames that are understood and give nothing (a replay of old trades): status SUPPRESSED."""

    msg_type: MsgType = MsgType.TRADE
    """What the frames are about."""

    def __post_init__(self) -> None:
        """Raise ValueError for a declaration that neither extractor could read."""
        _refuse(self)


Shape: TypeAlias = "BookShape | QuoteShape | TradeShape | StatShape | SilentShape"
"""One kind of hot message."""

_MAX_SCALARS = 20
_STEP = re.compile(r"[^.\[\]\"\\\x00-\x1f]+(\[\])?")


def _declared(*paths: str | None) -> list[str]:
    return [path for path in paths if path is not None]


def _level_paths(levels: Levels) -> list[str]:
    """Return the paths of levels: arrays, then scalars, bids first."""
    scalars = [*levels.scalars(Side.BUY), *levels.scalars(Side.SELL)]
    return [
        *(rows.path for rows in levels.arrays()),
        *(path for level in scalars for path in (level.price, level.quantity)),
    ]


def _refuse(shape: Shape) -> None:
    for problem in _problems(shape):
        raise ValueError(f"shape {shape.name}: {problem}")


def _problems(shape: Shape) -> Iterator[str]:
    for path in [*shape.paths(), *shape.element_paths()]:
        if not all(_STEP.fullmatch(step) for step in path.split(".")):
            yield f"{path!r} is no path"
        if path.endswith("[]") != (path == shape.array):
            yield f"{path!r}: the path of `each` ends in [], and no other"
    yield from _match_problems(shape)
    if not isinstance(shape, SilentShape):
        yield from _time_problems(shape)
    match shape:
        case BookShape():
            yield from _book_problems(shape)
        case QuoteShape():
            yield from _quote_problems(shape)
        case TradeShape():
            yield from _trade_problems(shape)
        case StatShape(stats=()):
            yield "stats: none is declared"


def _match_problems(shape: Shape) -> Iterator[str]:
    match = shape.match
    if match.beside_lacks is not None:
        key, texts = match.beside_lacks
        if match.envelope in (None, key) or not _is_key(key) or not all(texts):
            yield "beside_lacks: needs an envelope, a key of its own and texts that are not empty"
        if any(path.split(".")[0].removesuffix("[]") == key for path in shape.paths()):
            yield "beside_lacks: the key beside the envelope cannot be a path of the message"
    known = {*shape.required(), *shape.element_required()}
    for path in match.optional:
        if path not in known:
            yield f"optional: {path!r} is not required by anything"
    symbols = {shape.symbol}
    if isinstance(shape, TradeShape) and shape.each is not None:
        symbols.add(shape.each.symbol)
    if symbols & set(match.optional):
        yield "optional: the symbol cannot be"


def _time_problems(shape: BookShape | QuoteShape | TradeShape | StatShape) -> Iterator[str]:
    times: list[str | None] = [shape.ts]
    if isinstance(shape, BookShape | QuoteShape) and isinstance(shape.levels, SidedRows):
        times.append(shape.levels.ts)
    if isinstance(shape, StatShape):
        times += [path for stat in shape.stats for path in (stat.ts, stat.due)]
    if shape.ts_unit is not TimeUnit.MS and not _declared(*times):
        yield "ts_unit: there is no time that has a unit"


def _book_problems(shape: BookShape) -> Iterator[str]:
    snapshot_field = shape.snapshot_field
    if snapshot_field is not None and snapshot_field.path in shape.match.where:
        yield "snapshot: needs a path of its own, not one of `where`"
    if isinstance(shape.levels, BestLevels):
        yield "levels: BestLevels belong to a QuoteShape"
    if isinstance(shape.levels, LevelFields):
        if shape.snapshot is not True:
            yield "snapshot: levels of scalars are a whole book"
        if len(shape.levels.bids) + len(shape.levels.asks) > _MAX_SCALARS:
            yield f"levels: more than {_MAX_SCALARS} levels of scalars"
    yield from _level_problems(shape)


def _quote_problems(shape: QuoteShape) -> Iterator[str]:
    if isinstance(shape.levels, LevelFields):
        yield "levels: LevelFields belong to a BookShape"
    yield from _level_problems(shape)


def _trade_problems(shape: TradeShape) -> Iterator[str]:
    if shape.msg_type not in (MsgType.TRADE, MsgType.LIQUIDATION):
        yield f"msg_type: {shape.msg_type.name} is no trade"
    if shape.each is not None:
        if any("[]" in path for path in shape.element_paths()):
            yield "each: a trade holds no arrays"
        if any(path.startswith(f"{shape.each.path}.") for path in shape.paths()):
            yield f"each: only paths of a trade may lie below {shape.each.path}"
        if shape.each.symbol is not None and shape.symbol is not None:
            yield "symbol: stands in the message or in the elements"
    if {shape.price, shape.quantity} & set(shape.match.optional):
        yield "optional: price and quantity of a trade cannot be"
    if shape.side is not None and "*" in shape.side.sides:
        yield "side: a side is named, `*` is not a text of it"
    if len(shape.flags) > 2:
        yield "flags: more than two sources"


def _level_problems(shape: BookShape | QuoteShape) -> Iterator[str]:
    if not _level_paths(shape.levels):
        yield "levels: neither side is declared"
    names: list[int | str] = []
    for rows in shape.levels.arrays():
        if isinstance(rows, PairRows):
            names += [rows.bid_price, rows.bid_quantity, rows.ask_price, rows.ask_quantity]
        else:
            names += [rows.price, rows.quantity]
        if isinstance(rows, SidedRows):
            names += [rows.side, *_declared(rows.ts)]
            yield from _sided_problems(rows, timed=shape.ts is not None)
    if not all(_is_key(name) for name in names if isinstance(name, str)):
        yield "levels: a row's keys are plain keys"
    if any(name < 0 for name in names if isinstance(name, int)):
        yield "levels: a row's columns count from 0"


def _sided_problems(rows: SidedRows, *, timed: bool) -> Iterator[str]:
    columns = (rows.side, rows.price, rows.quantity)
    if len({type(column) for column in columns}) > 1 or len(set(columns)) < 3:
        yield "levels: the columns of sided rows are three integers or three keys"
    if rows.ts is not None and (timed or rows.ts in columns or not isinstance(rows.side, str)):
        yield "levels: the time of rows is a key of its own and stands instead of ts"
    if not rows.sides or not {Side.BUY, Side.SELL}.issuperset(rows.sides.values()):
        yield "levels: the side of a level is BUY or SELL"


def _is_key(name: str) -> bool:
    return bool(_STEP.fullmatch(name)) and not name.endswith("[]")
