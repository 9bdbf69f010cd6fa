"""One shape read from a JSON tree in plain Python: identification (`feeder.extract.identify`),
types, scaled items.

The rules are those of `feeder.extract.shapes`; the order of the checks decides which status a
frame with several defects gets, and the C extractor keeps it: identification, ambiguity, types,
symbol, too large, inexact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tapecast.feeder.extract.exact import (
    ExactError,
    Natural,
    Problem,
    hashed_id,
    iso_ns,
    kst_ns,
    parse_integer,
    parse_natural,
    scale,
    stat_value,
    time_ns,
)
from tapecast.feeder.extract.identify import NotThisShape, RejectedError, find, flag_bits, identify
from tapecast.feeder.extract.packets import ExtractedEvent
from tapecast.feeder.extract.shapes import (
    BidAskRows,
    BookShape,
    IdKind,
    LevelFields,
    Numbers,
    ObjectRows,
    PairRows,
    QuoteShape,
    Rows,
    ScalarLevel,
    Shape,
    SidedRows,
    SilentShape,
    StatField,
    StatShape,
    TimeUnit,
    TradeId,
    TradeShape,
)
from tapecast.feeder.extract.strict_json import JsonObject, JsonValue, Number
from tapecast.feeder.extract.types import NO_ID, ExtractStatus
from tapecast.protocol.records import Level, StatItem, TradeItem
from tapecast.protocol.schema import Flag, MsgType, Side, StatKind, TradeFlag

__all__ = ["Reading", "read"]

_Read = BookShape | QuoteShape | TradeShape | StatShape
"""Shapes whose frames become packets."""


@dataclass(frozen=True, slots=True)
class _Trade:
    trade_id: int
    price: Natural
    quantity: Natural
    side: int
    flags: int
    condition: int
    ts: int
    good_ts: bool


@dataclass(frozen=True, slots=True)
class _Level:
    price: Natural
    quantity: Natural


@dataclass(frozen=True, slots=True)
class _Stat:
    kind: StatKind
    value: Natural
    ts: int
    aux: int

    def item(self) -> StatItem:
        mantissa, exponent = stat_value(self.value)
        return StatItem(mantissa, self.ts, self.kind, exponent, aux=self.aux)


@dataclass(slots=True)
class Reading:
    """What one frame of a shape says, before its instrument's exponents are known."""

    shape: _Read
    symbol: str = ""
    ts: int = 0
    good_ts: bool = False
    snapshot: bool = False
    first_id: int = NO_ID
    last_id: int = NO_ID
    prev_id: int = NO_ID
    checksum: int | None = None
    bids: list[_Level] = field(default_factory=list)
    asks: list[_Level] = field(default_factory=list)
    trades: list[_Trade] = field(default_factory=list)
    stats: list[_Stat] = field(default_factory=list)

    def _values(self) -> Sequence[_Level | _Trade]:
        return [*self.bids, *self.asks, *self.trades]

    def problem(self, price_exp: int, qty_exp: int) -> ExtractStatus | None:
        """Return TOO_LARGE, INEXACT or None for these exponents; too large wins."""
        found: set[Problem] = set()
        for value in self._values():
            for natural, exponent in ((value.price, price_exp), (value.quantity, qty_exp)):
                try:
                    scale(natural, exponent)
                except ExactError as error:
                    found.add(error.problem)
        for stat in self.stats:
            try:
                stat.item()
            except ExactError as error:
                found.add(error.problem)
        if Problem.TOO_LARGE in found:
            return ExtractStatus.TOO_LARGE
        return ExtractStatus.INEXACT if found else None

    def needs(self, price_exp: int, qty_exp: int) -> tuple[int, int]:
        """Return the highest exponents, at most the given ones, at which every value is exact."""
        values = self._values()
        return (
            min([price_exp, *(v.price.exponent for v in values if v.price.mantissa)]),
            min([qty_exp, *(v.quantity.exponent for v in values if v.quantity.mantissa)]),
        )

    def events(self, price_exp: int, qty_exp: int, base_flags: int) -> list[ExtractedEvent]:
        """Return the events at these exponents, at which every value is exact."""
        flags = base_flags
        if isinstance(self.shape, BookShape) and self.shape.top_only:
            flags |= Flag.TOP_ONLY
        if isinstance(self.shape, TradeShape):
            return [
                _trade_event(self.shape.msg_type, group, price_exp, qty_exp, flags)
                for group in _groups(self.trades)
            ]
        if self.snapshot:
            flags |= Flag.SNAPSHOT
        if not self.good_ts:
            flags |= Flag.BAD_TS_EXCHANGE
        if self.stats:
            return [
                ExtractedEvent(
                    self.shape.msg_type, flags, self.ts, [stat.item() for stat in self.stats], 0
                )
            ]
        items = [
            Level(scale(v.price, price_exp), scale(v.quantity, qty_exp))
            for v in (*self.bids, *self.asks)
        ]
        return [ExtractedEvent(self.shape.msg_type, flags, self.ts, items, len(self.bids))]


def _groups(trades: Sequence[_Trade]) -> list[list[_Trade]]:
    groups: list[list[_Trade]] = []
    for trade in trades:
        if groups:
            first = groups[-1][0]
            delta = trade.ts - first.ts
            if (
                trade.good_ts == first.good_ts
                and delta % 1000 == 0
                and -(2**31) <= delta // 1000 < 2**31
            ):
                groups[-1].append(trade)
                continue
        groups.append([trade])
    return groups


def _trade_event(
    msg_type: MsgType, trades: Sequence[_Trade], price_exp: int, qty_exp: int, flags: int
) -> ExtractedEvent:
    first = trades[0]
    items = [
        TradeItem(
            t.trade_id,
            scale(t.price, price_exp),
            scale(t.quantity, qty_exp),
            (t.ts - first.ts) // 1000,
            t.side,
            t.flags,
            t.condition,
        )
        for t in trades
    ]
    return ExtractedEvent(
        msg_type, flags | (0 if first.good_ts else Flag.BAD_TS_EXCHANGE), first.ts, items, 0
    )


def read(shape: Shape, root: JsonValue, ts_recv_ns: int) -> Reading | None:
    """Return what a frame of this shape says, None where that is nothing to publish; raises
    NotThisShape or RejectedError.
    """
    message = root
    ambiguous = None
    envelope = shape.match.envelope
    if envelope is not None and isinstance(root, JsonObject):
        inside = root.get(envelope)
        if envelope in root.repeated:
            raise RejectedError(f"key {envelope} is repeated")
        if isinstance(inside, JsonObject):
            message = inside
            if shape.match.beside_lacks is not None:
                key, texts = shape.match.beside_lacks
                beside = root.get(key)
                if key in root.repeated:
                    ambiguous = key
                elif isinstance(beside, str) and any(text in beside for text in texts):
                    raise NotThisShape
    elements = identify(shape, message)
    if ambiguous is not None:
        raise RejectedError(f"key {ambiguous} is repeated")
    if isinstance(shape, SilentShape):
        return None
    reading = _Reader(shape, ts_recv_ns).fill(message, elements)
    return None if isinstance(shape, StatShape) and not reading.stats else reading


class _Reader:
    """Type checks of one identified frame."""

    def __init__(self, shape: _Read, ts_recv_ns: int) -> None:
        self._shape = shape
        self._optional = shape.match.optional
        self._ts_recv_ns = ts_recv_ns
        self._quoted = shape.numbers is Numbers.QUOTED

    def fill(self, message: JsonValue, elements: Sequence[JsonValue]) -> Reading:
        shape = self._shape
        reading = Reading(shape)
        if shape.symbol is not None:
            reading.symbol = self._symbol(message, shape.symbol)
        each = shape.each if isinstance(shape, TradeShape) else None
        if each is not None and each.symbol is not None:
            symbols = {self._symbol(element, each.symbol) for element in elements}
            if len(symbols) > 1:
                raise RejectedError("several instruments in one message")
            reading.symbol = symbols.pop()
        reading.symbol = reading.symbol.strip(" ")
        if isinstance(shape, BookShape):
            reading.first_id = self._id(message, shape.first_id)
            reading.last_id = self._id(message, shape.last_id)
            reading.prev_id = self._id(message, shape.prev_id)
            checksum = self._id(message, shape.checksum)
            reading.checksum = None if checksum == NO_ID else checksum
        if isinstance(shape, QuoteShape):
            reading.last_id = self._id(message, shape.last_id)
        for wanted, paths in ((0, shape.match.zero), (1, shape.match.one)):
            for path in paths:
                _demand(message, path, wanted)
        if isinstance(shape, TradeShape):
            reading.trades = [self._trade(element, shape) for element in elements]
            return reading
        reading.ts, reading.good_ts = self._time(message)
        if isinstance(shape, StatShape):
            stats = [self._stat(message, stat, reading) for stat in shape.stats]
            reading.stats = [stat for stat in stats if stat is not None]
            return reading
        if isinstance(shape, BookShape):
            snapshot_field = shape.snapshot_field
            reading.snapshot = (
                shape.snapshot is True
                if snapshot_field is None
                else find(message, snapshot_field.path).value == snapshot_field.snapshot
            )
        self._levels(message, reading, shape)
        return reading

    def _symbol(self, base: JsonValue, path: str) -> str:
        symbol = self._get(base, path)
        if not isinstance(symbol, str):
            raise RejectedError(f"{path} is not a string")
        return symbol

    def _get(self, base: JsonValue, path: str) -> JsonValue:
        """Return a value, None for an optional one that is missing; raises RejectedError for
        null.
        """
        found = find(base, path)
        if found.ambiguous or found.not_single:
            raise RejectedError(f"{path} is ambiguous")
        if found.value is None and path not in self._optional:
            raise RejectedError(f"{path} is {'null' if found.exists else 'missing'}")
        return found.value

    def _integer(self, base: JsonValue, path: str) -> int | None:
        value = self._get(base, path)
        if value is None:
            return None
        text = _number_text(value)
        number = None if text is None else parse_integer(text)
        if number is None:
            raise RejectedError(f"{path} is not an integer")
        return number

    def _id(self, base: JsonValue, path: str | None) -> int:
        number = None if path is None else self._integer(base, path)
        if number is None:
            return NO_ID
        if not NO_ID < number < 2**63:
            raise RejectedError(f"{path} does not fit 64 bits")
        return number

    def _time(self, base: JsonValue) -> tuple[int, bool]:
        path, unit = self._shape.ts, self._shape.ts_unit
        value = None if path is None else self._get(base, path)
        return (0, False) if value is None else self._time_of(value, unit, path)

    def _time_of(self, value: JsonValue, unit: TimeUnit, path: str | None) -> tuple[int, bool]:
        if unit is TimeUnit.ISO:
            found = iso_ns(value) if isinstance(value, str) else None
        elif unit is TimeUnit.KST:
            found = kst_ns(value, self._ts_recv_ns) if isinstance(value, str) else None
        else:
            text = _number_text(value)
            number = None if text is None else parse_integer(text)
            found = None if number is None else time_ns(number, unit)
        if found is None:
            raise RejectedError(f"{path} is no time")
        return found

    def _decimal(self, value: JsonValue, what: str, *, signed: bool) -> Natural:
        text = None
        if self._quoted and isinstance(value, str):
            text = value
        elif not self._quoted and isinstance(value, Number):
            text = value.text
        natural = None if text is None else parse_natural(text)
        if natural is None:
            raise RejectedError(f"{what} is not a {'quoted' if self._quoted else 'bare'} number")
        if natural.negative and not signed:
            raise RejectedError(f"{what} is negative")
        return natural

    def _trade(self, element: JsonValue, shape: TradeShape) -> _Trade:
        price = self._decimal(self._get(element, shape.price), shape.price, signed=True)
        quantity = self._decimal(self._get(element, shape.quantity), shape.quantity, signed=False)
        trade_id, flags = (
            (0, 0) if shape.trade_id is None else self._trade_id(element, shape.trade_id)
        )
        side = Side.UNKNOWN
        if shape.side is not None:
            text = self._get(element, shape.side.path)
            if text is not None:
                if not isinstance(text, (str, bool)) or text not in shape.side.sides:
                    raise RejectedError(f"{shape.side.path} is no known side")
                side = shape.side.sides[text]
        for source in shape.flags:
            text = find(element, source.path).value
            flags |= (flag_bits(text, source.flags) or 0) if isinstance(text, (str, bool)) else 0
        condition = 0
        if shape.condition is not None:
            text = find(element, shape.condition.path).value
            condition = shape.condition.codes.get(text, 0) if isinstance(text, str) else 0
        ts, good = self._time(element)
        return _Trade(trade_id, price, quantity, side, flags, condition, ts, good)

    def _trade_id(self, element: JsonValue, declared: TradeId) -> tuple[int, int]:
        """Return the id and its trade flags."""
        path, kind = declared.path, declared.kind
        value = self._get(element, path)
        if value is None:
            return 0, 0
        if isinstance(value, str) and kind is not IdKind.NUMBER:
            digits = (
                kind is IdKind.EITHER
                and 1 <= len(value) <= 20
                and value.isascii()
                and value.isdigit()
            )
            if not digits or int(value) >= 2**64:
                return hashed_id(value), TradeFlag.HASHED_ID
        number = None if kind is IdKind.TEXT else self._integer(element, path)
        if number is None or not 0 <= number < 2**64:
            raise RejectedError(f"{path} is no trade id")
        return number, 0

    def _stat(self, message: JsonValue, stat: StatField, reading: Reading) -> _Stat | None:
        value = self._stat_part(message, stat.path)
        times = []
        for path in (stat.ts, stat.due):
            part = None if path is None else self._stat_part(message, path)
            times.append(
                (0, False) if part is None else self._time_of(part, self._shape.ts_unit, path)
            )
        if value is None or (stat.due is not None and _is_zero(self._stat_part(message, stat.due))):
            return None
        (ts, _), (due, _) = times
        seconds = (due - reading.ts) // 10**9 if due and reading.ts else 0
        natural = self._decimal(value, stat.path, signed=True)
        return _Stat(
            stat.kind,
            natural,
            reading.ts if stat.ts is None else ts,
            seconds if 0 <= seconds < 2**31 else 0,
        )

    @staticmethod
    def _stat_part(message: JsonValue, path: str) -> JsonValue:
        """Return a value, None where it is absent."""
        found = find(message, path)
        if found.ambiguous or found.not_single:
            raise RejectedError(f"{path} is ambiguous")
        return None if found.value == "" else found.value

    def _levels(self, message: JsonValue, reading: Reading, shape: BookShape | QuoteShape) -> None:
        levels = shape.levels
        if isinstance(levels, PairRows):
            reading.bids, reading.asks = self._pairs(message, levels)
        elif isinstance(levels, SidedRows):
            reading.bids, reading.asks = self._sided(message, levels, reading)
        elif isinstance(levels, BidAskRows):
            reading.bids = self._rows(message, levels.bids)
            reading.asks = self._rows(message, levels.asks)
        else:
            reading.bids = [self._scalar(message, one) for one in levels.scalars(Side.BUY)]
            reading.asks = [self._scalar(message, one) for one in levels.scalars(Side.SELL)]
        for side in (reading.bids, reading.asks):
            if isinstance(levels, LevelFields):
                side[:] = [v for v in side if not v.price.is_zero]
            if isinstance(shape, QuoteShape):
                side[1:] = []
                side[:] = [v for v in side if not v.price.is_zero and not v.quantity.is_zero]
            elif reading.snapshot:
                side[:] = [v for v in side if not v.quantity.is_zero]

    def _scalar(self, message: JsonValue, level: ScalarLevel) -> _Level:
        price = self._part(self._get(message, level.price), level.price, signed=True)
        quantity = self._part(self._get(message, level.quantity), level.quantity, signed=False)
        if (
            quantity is None
            and price is not None
            and not price.is_zero
            and self._shape.msg_type is MsgType.BOOK
        ):
            raise RejectedError(f"{level.quantity} is blank beside a price")
        zero = Natural(0, 0, False)
        return _Level(price or zero, quantity or zero)

    def _part(self, value: JsonValue, path: str, *, signed: bool) -> Natural | None:
        """Return a number of a quote; None where it is left out, or in a book blank."""
        blank = (
            self._shape.msg_type is MsgType.BOOK and isinstance(value, str) and not value.strip(" ")
        )
        return None if value is None or blank else self._decimal(value, path, signed=signed)

    def _array(self, message: JsonValue, path: str) -> list[JsonValue]:
        value = self._get(message, path)
        if value is None:
            return []
        if not isinstance(value, list):
            raise RejectedError(f"{path} is not an array")
        return value

    def _rows(self, message: JsonValue, rows: Rows | ObjectRows | None) -> list[_Level]:
        if rows is None:
            return []
        return [self._level(row, rows) for row in self._array(message, rows.path)]

    def _level(self, row: JsonValue, rows: Rows | ObjectRows | SidedRows) -> _Level:
        price = self._decimal(
            _cell(row, rows.price, rows.path), f"price in {rows.path}", signed=True
        )
        return _Level(
            price,
            self._decimal(
                _cell(row, rows.quantity, rows.path), f"quantity in {rows.path}", signed=False
            ),
        )

    def _sided(
        self, message: JsonValue, rows: SidedRows, reading: Reading
    ) -> tuple[list[_Level], list[_Level]]:
        sides: dict[Side, list[_Level]] = {Side.BUY: [], Side.SELL: []}
        for number, row in enumerate(self._array(message, rows.path)):
            if rows.ts is not None:
                ts = _cell(row, rows.ts, rows.path)
                if number == 0:
                    reading.ts, reading.good_ts = self._time_of(ts, self._shape.ts_unit, rows.ts)
            text = _cell(row, rows.side, rows.path)
            if not isinstance(text, str) or text not in rows.sides:
                raise RejectedError(f"{rows.side} of {rows.path} is no known side")
            sides[rows.sides[text]].append(self._level(row, rows))
        return sides[Side.BUY], sides[Side.SELL]

    def _pairs(self, message: JsonValue, pairs: PairRows) -> tuple[list[_Level], list[_Level]]:
        bids, asks = [], []
        for row in self._array(message, pairs.path):
            values: list[Natural] = []
            for key in (pairs.bid_price, pairs.bid_quantity, pairs.ask_price, pairs.ask_quantity):
                if not isinstance(row, JsonObject) or key not in row or key in row.repeated:
                    raise RejectedError(f"{key} of {pairs.path} is missing or repeated")
                values.append(
                    self._decimal(row[key], f"{key} of {pairs.path}", signed=len(values) % 2 == 0)
                )
            bids.append(_Level(values[0], values[1]))
            asks.append(_Level(values[2], values[3]))
        # The first pair alone makes a BBO, empty or not, so padding goes only where a book has
        # it.
        if self._shape.msg_type is MsgType.BOOK:
            bids = [v for v in bids if not v.price.is_zero]
            asks = [v for v in asks if not v.price.is_zero]
        return bids, asks


def _demand(message: JsonValue, path: str, wanted: int) -> None:
    """Raise RejectedError for a number that is there and is another one."""
    found = find(message, path)
    if found.ambiguous or found.not_single:
        raise RejectedError(f"{path} is ambiguous")
    text = _number_text(found.value)
    value = None if text is None else parse_natural(text)
    if found.exists and (value is None or (value.mantissa, value.exponent) != (wanted, 0)):
        raise RejectedError(f"{path} is not {wanted}")


def _cell(row: JsonValue, column: int | str, path: str) -> JsonValue:
    """Return a column of a row that is an array, or a member of one that is an object."""
    if isinstance(column, str):
        if not isinstance(row, JsonObject) or column not in row or column in row.repeated:
            raise RejectedError(f"{column} of {path} is missing or repeated")
        return row[column]
    if not isinstance(row, list) or len(row) <= column:
        raise RejectedError(f"a row of {path} is no array with column {column}")
    return row[column]


def _is_zero(value: JsonValue) -> bool:
    text = _number_text(value)
    return text is not None and parse_integer(text) == 0


def _number_text(value: JsonValue) -> str | None:
    """Return the text of an integer-like value, bare or quoted."""
    if isinstance(value, Number):
        return value.text
    return value if isinstance(value, str) else None
