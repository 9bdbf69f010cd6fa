"""One shape read from a JSON tree in plain Python: identification, then types, then scaled items.

The rules are those of `protocol.shapes`; the order of the checks decides which status a frame with several defects gets, and
the C extractor keeps it: identification, ambiguity, types, symbol, too large, inexact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocol.exact import ExactError, Natural, Problem, parse_integer, parse_natural, scale, time_ns
from protocol.extract_packets import Event, LevelItem, TradeItem
from protocol.extract_types import NO_ID, TRADE_TYPES, Status
from protocol.schema import Flag, MsgType, Side
from protocol.shapes import Numbers, PairRows, Quote, Rows, Shape
from protocol.strict_json import JsonObject, JsonValue, Number

__all__ = ["NotThisShape", "Reading", "RejectedError", "read"]


class NotThisShape(Exception):  # noqa: N818 - an answer, not an error
    """The frame has another shape."""


class RejectedError(Exception):
    """The frame has this shape, and a value is wrong."""

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Found:
    """What a path leads to: a value, nothing, or a doubt (repeated key, array that has not exactly one element)."""

    value: JsonValue = None
    exists: bool = False
    ambiguous: bool = False
    not_single: bool = False


_MISSING = _Found()


def _find(base: JsonValue, path: str) -> _Found:
    node = base
    for step in path.split("."):
        key = step.removesuffix("[]")
        if not isinstance(node, JsonObject) or key not in node:
            return _MISSING
        if key in node.repeated:
            return _Found(ambiguous=True)
        node = node[key]
        if key != step:
            if not isinstance(node, list):
                return _MISSING
            if len(node) != 1:
                return _Found(not_single=True)
            node = node[0]
    return _Found(node, exists=True)


@dataclass(frozen=True, slots=True)
class _Trade:
    trade_id: int
    price: Natural
    quantity: Natural
    side: int
    flags: int
    ts: int
    good_ts: bool


@dataclass(frozen=True, slots=True)
class _Level:
    price: Natural
    quantity: Natural


@dataclass(slots=True)
class Reading:
    """What one frame of a shape says, before its instrument's exponents are known."""

    shape: Shape
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

    def _values(self) -> Sequence[_Level | _Trade]:
        return [*self.bids, *self.asks, *self.trades]

    def problem(self, price_exp: int, qty_exp: int) -> Status | None:
        """Return TOO_LARGE, INEXACT or None for these exponents; too large wins."""
        found: set[Problem] = set()
        for value in self._values():
            for natural, exponent in ((value.price, price_exp), (value.quantity, qty_exp)):
                try:
                    scale(natural, exponent)
                except ExactError as error:
                    found.add(error.problem)
        if Problem.TOO_LARGE in found:
            return Status.TOO_LARGE
        return Status.INEXACT if found else None

    def needs(self, price_exp: int, qty_exp: int) -> tuple[int, int]:
        """Return the highest exponents, at most the given ones, at which every value is exact."""
        values = self._values()
        return (
            min([price_exp, *(v.price.exponent for v in values if v.price.mantissa)]),
            min([qty_exp, *(v.quantity.exponent for v in values if v.quantity.mantissa)]),
        )

    def events(self, price_exp: int, qty_exp: int, base_flags: int) -> list[Event]:
        """Return the events at these exponents, at which every value is exact."""
        flags = base_flags | (Flag.TOP_ONLY if self.shape.top_only else 0)
        if self.shape.msg_type in TRADE_TYPES:
            return [_trade_event(self.shape.msg_type, group, price_exp, qty_exp, flags) for group in _groups(self.trades)]
        if self.snapshot and self.shape.msg_type is MsgType.BOOK:
            flags |= Flag.SNAPSHOT
        if not self.good_ts:
            flags |= Flag.BAD_TS_EXCHANGE
        items = [LevelItem(scale(v.price, price_exp), scale(v.quantity, qty_exp)) for v in (*self.bids, *self.asks)]
        return [Event(self.shape.msg_type, flags, self.ts, items, len(self.bids))]


def _groups(trades: Sequence[_Trade]) -> list[list[_Trade]]:
    groups: list[list[_Trade]] = []
    for trade in trades:
        if groups:
            first = groups[-1][0]
            delta = trade.ts - first.ts
            if trade.good_ts == first.good_ts and delta % 1000 == 0 and -(2**31) <= delta // 1000 < 2**31:
                groups[-1].append(trade)
                continue
        groups.append([trade])
    return groups


def _trade_event(msg_type: MsgType, trades: Sequence[_Trade], price_exp: int, qty_exp: int, flags: int) -> Event:
    first = trades[0]
    items = [
        TradeItem(
            t.trade_id,
            scale(t.price, price_exp),
            scale(t.quantity, qty_exp),
            (t.ts - first.ts) // 1000,
            t.side,
            t.flags,
        )
        for t in trades
    ]
    return Event(msg_type, flags | (0 if first.good_ts else Flag.BAD_TS_EXCHANGE), first.ts, items, 0)


def read(shape: Shape, root: JsonValue) -> Reading | None:
    """Return what a frame of this shape says, None for a silent shape; raises NotThisShape or RejectedError."""
    message = root
    ambiguous = None
    if shape.envelope is not None and isinstance(root, JsonObject):
        inside = root.get(shape.envelope)
        if shape.envelope in root.repeated:
            raise RejectedError(f"key {shape.envelope} is repeated")
        if isinstance(inside, JsonObject):
            message = inside
            if shape.beside_lacks is not None:
                key, texts = shape.beside_lacks
                beside = root.get(key)
                if key in root.repeated:
                    ambiguous = key
                elif isinstance(beside, str) and any(text in beside for text in texts):
                    raise NotThisShape
    elements = _identify(shape, message)
    if ambiguous is not None:
        raise RejectedError(f"key {ambiguous} is repeated")
    if shape.silent:
        return None
    return _Reader(shape).fill(message, elements)


def _identify(shape: Shape, message: JsonValue) -> list[JsonValue]:
    """Return the trade objects of `each` (or the message itself); raises where the frame has another shape."""
    ambiguous = False
    conditions = dict(shape.where)
    if shape.snapshot_if is not None:
        conditions[shape.snapshot_if[0]] = shape.snapshot_if[1:]
    for path, constants in conditions.items():
        found = _find(message, path)
        ambiguous |= found.ambiguous
        if not found.ambiguous and not (found.exists and isinstance(found.value, str) and found.value in constants):
            raise NotThisShape
    for path in shape.absent:
        found = _find(message, path)
        ambiguous |= found.ambiguous
        if found.exists:
            raise NotThisShape
    not_single = False
    for path in required_paths(shape):
        found = _find(message, path)
        ambiguous |= found.ambiguous
        not_single |= found.not_single
        if not (found.exists or found.ambiguous or found.not_single):
            raise NotThisShape
    elements: list[JsonValue] = [message]
    if shape.each is not None:
        found = _find(message, shape.each.removesuffix("[]"))
        ambiguous |= found.ambiguous
        not_single |= found.not_single
        if found.exists:
            if not isinstance(found.value, list):
                raise NotThisShape
            elements = found.value
            not_single |= not elements
        elif not (found.ambiguous or found.not_single):
            raise NotThisShape
        else:
            elements = []
    for number, element in enumerate(elements):
        for path in element_paths(shape):
            found = _find(element, path)
            ambiguous |= found.ambiguous
            not_single |= found.not_single
            if number == 0 and not (found.exists or found.ambiguous or found.not_single):
                raise NotThisShape
        if shape.trade_flags is not None:
            found = _find(element, shape.trade_flags[0])
            ambiguous |= found.ambiguous
            known = isinstance(found.value, str) and found.value in shape.trade_flags[1]
            if found.exists and found.value is not None and not known:
                raise NotThisShape
    if ambiguous:
        raise RejectedError("a repeated key makes the message ambiguous")
    if not_single:
        raise RejectedError("an array has not the declared number of elements")
    return elements


def required_paths(shape: Shape) -> list[str]:
    """Return the paths relative to the message that must exist for a frame to have this shape."""
    paths = [shape.symbol, shape.first_id, shape.last_id, shape.prev_id, shape.checksum]
    if shape.msg_type not in TRADE_TYPES:
        paths.append(shape.ts)
        paths.extend(source.path for source in (shape.bids, shape.asks, shape.pairs) if source is not None)
        for quote in (shape.bid, shape.ask):
            if quote is not None:
                paths += [quote.price, quote.quantity]
    return [path for path in paths if path is not None and path not in shape.optional]


def element_paths(shape: Shape) -> list[str]:
    """Return the paths that every trade must have, relative to it."""
    if shape.msg_type not in TRADE_TYPES:
        return []
    paths = [shape.price, shape.quantity, shape.trade_id, shape.side, shape.ts]
    return [path for path in paths if path is not None and path not in shape.optional]


class _Reader:
    """Type checks of one identified frame."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._quoted = shape.numbers is Numbers.QUOTED

    def fill(self, message: JsonValue, elements: Sequence[JsonValue]) -> Reading:
        shape = self._shape
        reading = Reading(shape)
        if shape.symbol is not None:
            symbol = self._get(message, shape.symbol)
            if not isinstance(symbol, str):
                raise RejectedError(f"{shape.symbol} is not a string")
            reading.symbol = symbol
        reading.first_id = self._id(message, shape.first_id)
        reading.last_id = self._id(message, shape.last_id)
        reading.prev_id = self._id(message, shape.prev_id)
        checksum = self._id(message, shape.checksum)
        reading.checksum = None if checksum == NO_ID else checksum
        for path in shape.zero:
            found = _find(message, path)
            if found.ambiguous or found.not_single:
                raise RejectedError(f"{path} is ambiguous")
            text = _number_text(found.value)
            value = None if text is None else parse_natural(text)
            if found.exists and (value is None or not value.is_zero):
                raise RejectedError(f"{path} is not 0")
        if shape.msg_type in TRADE_TYPES:
            reading.trades = [self._trade(element) for element in elements]
            return reading
        reading.ts, reading.good_ts = self._time(message)
        reading.snapshot = shape.snapshot
        if shape.snapshot_if is not None:
            reading.snapshot = _find(message, shape.snapshot_if[0]).value == shape.snapshot_if[1]
        self._levels(message, reading)
        return reading

    def _get(self, base: JsonValue, path: str) -> JsonValue:
        """Return a value, None for an optional one that is missing; raises RejectedError for null."""
        found = _find(base, path)
        if found.ambiguous or found.not_single:
            raise RejectedError(f"{path} is ambiguous")
        if found.value is None and path not in self._shape.optional:
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
        number = None if self._shape.ts is None else self._integer(base, self._shape.ts)
        return (0, False) if number is None else time_ns(number, self._shape.ts_unit)

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

    def _trade(self, element: JsonValue) -> _Trade:
        shape = self._shape
        assert shape.price is not None
        assert shape.quantity is not None
        price = self._decimal(self._get(element, shape.price), shape.price, signed=True)
        quantity = self._decimal(self._get(element, shape.quantity), shape.quantity, signed=False)
        trade_id = None if shape.trade_id is None else self._integer(element, shape.trade_id)
        if trade_id is not None and not 0 <= trade_id < 2**64:
            raise RejectedError(f"{shape.trade_id} does not fit 64 unsigned bits")
        side = Side.UNKNOWN
        if shape.side is not None:
            text = self._get(element, shape.side)
            if text is not None:
                if not isinstance(text, (str, bool)) or text not in shape.sides:
                    raise RejectedError(f"{shape.side} is no known side")
                side = shape.sides[text]
        flags = 0
        if shape.trade_flags is not None:
            text = _find(element, shape.trade_flags[0]).value
            flags = shape.trade_flags[1][text] if isinstance(text, str) else 0
        ts, good = self._time(element)
        return _Trade(trade_id or 0, price, quantity, side, flags, ts, good)

    def _levels(self, message: JsonValue, reading: Reading) -> None:
        shape = self._shape
        if shape.pairs is not None:
            reading.bids, reading.asks = self._pairs(message, shape.pairs)
        for source, quote, side in ((shape.bids, shape.bid, reading.bids), (shape.asks, shape.ask, reading.asks)):
            if source is not None:
                side.extend(self._rows(message, source))
            elif quote is not None:
                side.append(self._quote(message, quote))
        for side in (reading.bids, reading.asks):
            if shape.msg_type is MsgType.BBO:
                side[1:] = []
                side[:] = [v for v in side if not v.price.is_zero and not v.quantity.is_zero]
            elif reading.snapshot:
                side[:] = [v for v in side if not v.quantity.is_zero]

    def _quote(self, message: JsonValue, quote: Quote) -> _Level:
        values = (self._get(message, quote.price), self._get(message, quote.quantity))
        zero = Natural(0, 0, False)
        price, quantity = (
            zero if value is None else self._decimal(value, path, signed=signed)
            for value, path, signed in zip(values, (quote.price, quote.quantity), (True, False), strict=True)
        )
        return _Level(price, quantity)

    def _array(self, message: JsonValue, path: str) -> list[JsonValue]:
        value = self._get(message, path)
        if value is None:
            return []
        if not isinstance(value, list):
            raise RejectedError(f"{path} is not an array")
        return value

    def _rows(self, message: JsonValue, rows: Rows) -> list[_Level]:
        out = []
        for row in self._array(message, rows.path):
            if not isinstance(row, list) or len(row) <= max(rows.price, rows.quantity):
                raise RejectedError(f"a row of {rows.path} is no array with price and quantity")
            price = self._decimal(row[rows.price], f"price in {rows.path}", signed=True)
            out.append(_Level(price, self._decimal(row[rows.quantity], f"quantity in {rows.path}", signed=False)))
        return out

    def _pairs(self, message: JsonValue, pairs: PairRows) -> tuple[list[_Level], list[_Level]]:
        bids, asks = [], []
        for row in self._array(message, pairs.path):
            values: list[Natural] = []
            for key in (pairs.bid_price, pairs.bid_quantity, pairs.ask_price, pairs.ask_quantity):
                if not isinstance(row, JsonObject) or key not in row or key in row.repeated:
                    raise RejectedError(f"{key} of {pairs.path} is missing or repeated")
                values.append(self._decimal(row[key], f"{key} of {pairs.path}", signed=len(values) % 2 == 0))
            bids.append(_Level(values[0], values[1]))
            asks.append(_Level(values[2], values[3]))
        # The first pair alone makes a BBO, empty or not, so padding goes only where a book has it.
        if self._shape.msg_type is MsgType.BOOK:
            bids = [v for v in bids if not v.price.is_zero]
            asks = [v for v in asks if not v.price.is_zero]
        return bids, asks


def _number_text(value: JsonValue) -> str | None:
    """Return the text of an integer-like value, bare or quoted."""
    if isinstance(value, Number):
        return value.text
    return value if isinstance(value, str) else None
