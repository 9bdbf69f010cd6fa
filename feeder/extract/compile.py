"""Shapes to the tables of the C extractor (`protocol/native/extract.h` says what each field
means).

Shapes of one envelope are merged into one program: a tree of objects with the union of all
declared keys, one slot a path. Shapes that contradict each other (the same path read as
different rows) or exceed 64 paths go to the next program, which is tried only where none of the
earlier shapes fits, so the declared order holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tapecast.feeder.extract.shapes import (
    BidAskRows,
    BookShape,
    FlagField,
    IdKind,
    Levels,
    Numbers,
    ObjectRows,
    PairRows,
    QuoteShape,
    Rows,
    RowsForm,
    Shape,
    SidedRows,
    SilentShape,
    StatField,
    StatShape,
    TimeUnit,
    TradeShape,
)
from tapecast.protocol._native import ffi, lib
from tapecast.protocol.schema import Side

__all__ = ["Tables", "compile_shapes"]

_MAX = 64
_BUCKETS = 32


class _Conflict(Exception):  # noqa: N818 - starts the next program
    pass


@dataclass(slots=True)
class _Key:
    """A key of an object, and everything the shapes want of its value."""

    text: bytes
    slot: int = -1
    time_slot: int = -1
    users: int = 0
    where_users: int = 0
    absent_users: int = 0
    each_users: int = 0
    constants: dict[tuple[str, bool], int] = field(default_factory=dict)
    rows: RowsForm | None = None
    object: _Node | None = None
    array: _Node | None = None
    envelope: bool = False
    beside: bool = False


@dataclass(slots=True)
class _Node:
    """A declared object."""

    keys: dict[str, _Key] = field(default_factory=dict)
    first_slot: int = 0
    end_slot: int = 0


_Table: TypeAlias = tuple[_Node, list[tuple[_Key, int]]]
"""A node and its keys, each with its slot (in a row that is an object: its role)."""


class Tables:
    """The compiled programs and everything that must stay alive while the C extractor uses them."""

    def __init__(self, programs: Sequence[_Program]) -> None:
        """Lay the programs out in C memory."""
        self.count = len(programs)
        self.programs = ffi.new("tcx_program[]", max(1, self.count))
        self.keep = [
            program.lay_out(self.programs[index]) for index, program in enumerate(programs)
        ]


def compile_shapes(shapes: Sequence[Shape]) -> Tables:
    """Return the tables for one venue's shapes, in their order; raises ValueError for a shape
    that exceeds the limits.
    """
    programs: list[_Program] = []
    for by_caller in (False, True):
        group: list[tuple[int, Shape]] = []
        current: _Program | None = None
        for number, shape in enumerate(shapes):
            if shape.by_caller != by_caller:
                continue
            if group and group[-1][1].match.envelope != shape.match.envelope:
                group, current = [], None
            try:
                merged = _Program([*group, (number, shape)])
            except _Conflict:
                group = []
                current = None
                try:
                    merged = _Program([(number, shape)])
                except _Conflict as error:
                    raise ValueError(f"shape {shape.name}: {error}") from error
            group.append((number, shape))
            if current is not None:
                programs.pop()
            current = merged
            programs.append(merged)
    return Tables(programs)


class _Program:
    """One tree for shapes that share an envelope."""

    def __init__(self, shapes: Sequence[tuple[int, Shape]]) -> None:
        self._shapes = shapes
        self._root = _Node()
        self._nodes: list[_Node] = []
        self._keys: list[_Key] = []
        self._text = bytearray()
        self._choices: list[tuple[int, int, int]] = []
        self._stats: list[tuple[int, int, int, int]] = []
        if len(shapes) > _MAX:
            raise _Conflict("more than 64 shapes")
        for bit, (_, shape) in enumerate(shapes):
            self._add_shape(1 << bit, shape)
        envelope = shapes[0][1].match.envelope
        self._envelope = envelope is not None
        self._slots = self._number(self._root, 0)
        if self._slots > _MAX:
            raise _Conflict("more than 64 paths")
        if envelope is not None:
            self._root.keys.setdefault(envelope, _Key(envelope.encode())).envelope = True
        besides = [shape.match.beside_lacks for _, shape in shapes]
        for key in {beside[0] for beside in besides if beside is not None}:
            if key in self._root.keys or any(other.beside for other in self._root.keys.values()):
                raise _Conflict("one key beside the envelope is not one string of its own")
            self._root.keys[key] = _Key(key.encode(), beside=True)

    def _key(self, path: str, mask: int, base: str | None = None) -> _Key:
        """Return the key at the end of a path, made where it is new; `mask` shapes use every key
        on the way.
        """
        node = self._root
        *way, last = [*(base.split(".") if base else []), *path.split(".")]
        for step in way:
            node = self._below(self._member(node, step, mask), step.endswith("[]"))
        key = self._member(node, last, mask)
        if last.endswith("[]"):
            self._below(key, True)
        return key

    @staticmethod
    def _member(node: _Node, step: str, mask: int) -> _Key:
        text = step.removesuffix("[]")
        key = node.keys.setdefault(text, _Key(text.encode()))
        key.users |= mask
        return key

    @staticmethod
    def _below(key: _Key, is_array: bool) -> _Node:
        if is_array:
            if key.rows is not None:
                raise _Conflict("a path is both rows and an array of objects")
            key.array = key.array or _Node()
            return key.array
        key.object = key.object or _Node()
        return key.object

    def _add_shape(self, mask: int, shape: Shape) -> None:
        for path in shape.paths():
            self._key(path, mask)
        if shape.array is not None:
            self._key(shape.array, mask).each_users |= mask
            for path in shape.element_paths():
                self._key(path, mask, shape.array)
        for path, constants in _conditions(shape).items():
            key = self._key(path, mask)
            key.where_users |= mask
            for constant in constants:
                key.constants[constant] = key.constants.get(constant, 0) | mask
        for path in shape.match.absent:
            self._key(path, mask).absent_users |= mask
        match shape:
            case BookShape() | QuoteShape():
                for rows in shape.levels.arrays():
                    self._add_rows(mask, rows)
            case StatShape() if len(shape.stats) > _MAX:
                raise _Conflict("more than 64 statistics")

    def _add_rows(self, mask: int, rows: RowsForm) -> None:
        key = self._key(rows.path, mask)
        form = replace(rows, path="")
        if key.array is not None or key.rows not in (None, form):
            raise _Conflict("a path is read as different rows")
        key.rows = form

    def _number(self, node: _Node, slot: int) -> int:
        """Give slots to a node and what is below it; returns the next free one."""
        self._nodes.append(node)
        node.first_slot = slot
        for key in node.keys.values():
            key.slot = slot
            slot += 1
            if isinstance(key.rows, SidedRows) and key.rows.ts is not None:
                key.time_slot = slot
                slot += 1
            for below in (key.object, key.array):
                if below is not None:
                    slot = self._number(below, slot)
        node.end_slot = slot
        return slot

    def _slot(self, path: str | None, base: str | None = None) -> int:
        return -1 if path is None else self._key(path, 0, base).slot

    def _mask(self, paths: Iterable[str | None], base: str | None = None) -> int:
        mask = 0
        for path in paths:
            if path is not None:
                mask |= 1 << self._slot(path, base)
        return mask

    def _put_text(self, text: bytes) -> int:
        self._text += text
        return len(self._text) - len(text)

    def _put_choices(self, choices: Iterable[tuple[str | bool, int]]) -> tuple[int, int]:
        first = len(self._choices)
        for text, value in choices:
            if isinstance(text, bool):
                self._choices.append(
                    (value, 0, lib.TC_LENGTH_TRUE if text else lib.TC_LENGTH_FALSE)
                )
            else:
                data = text.encode()
                self._choices.append(
                    (
                        value,
                        self._put_text(data),
                        lib.TC_LENGTH_PREFIX if text == "*" else len(data),
                    )
                )
        return first, len(self._choices) - first

    def _put_conditions(self, constants: dict[tuple[str, bool], int]) -> tuple[int, int]:
        first = len(self._choices)
        for (text, is_prefix), mask in constants.items():
            data = text.encode()
            length = len(data) | (lib.TC_LENGTH_PREFIX if is_prefix else 0)
            self._choices.append((mask, self._put_text(data), length))
        return first, len(self._choices) - first

    def lay_out(self, out: ffi.CData) -> list[ffi.CData]:
        """Fill a `tcx_program` and return what it points to."""
        slots = ffi.new("tcx_slot_info[]", self._slots or 1)
        tables: list[_Table] = [
            (node, [(key, key.slot) for key in node.keys.values()]) for node in self._nodes
        ]
        for key in [key for node in self._nodes for key in node.keys.values() if key.slot >= 0]:
            self._lay_slot(slots[key.slot], key, tables)
        c_nodes = ffi.new("tcx_node[]", len(tables))
        c_keys = ffi.new("tcx_key[]", sum(len(keys) for _, keys in tables) or 1)
        place = {id(node): index for index, node in enumerate(self._nodes)}
        next_key = 0
        for index, (node, keys) in enumerate(tables):
            c_nodes[index].predicted = c_nodes[index].predicted_outside = -1
            c_nodes[index].first_slot, c_nodes[index].end_slot = node.first_slot, node.end_slot
            c_nodes[index].bucket = [-1] * _BUCKETS
            for key, slot in keys:
                self._lay_key(c_keys[next_key], key, slot, place)
                bucket = (key.text[0] + 3 * key.text[-1] + 7 * len(key.text)) % _BUCKETS
                c_keys[next_key].chain = c_nodes[index].bucket[bucket]
                c_nodes[index].bucket[bucket] = next_key
                next_key += 1
        shapes = ffi.new("tcx_shape[]", len(self._shapes))
        for c_shape, (number, shape) in zip(shapes, self._shapes, strict=True):
            self._lay_shape(c_shape, number, shape)
        choices = ffi.new(
            "tcx_choice[]", [{"value": v, "text": t, "length": n} for v, t, n in self._choices] or 1
        )
        stats = ffi.new("tcx_stat[]", self._stats or 1)
        text = ffi.new("uint8_t[]", bytes(self._text) or b"\0")
        out.text, out.keys, out.nodes, out.slots = text, c_keys, c_nodes, slots
        out.choices, out.shapes, out.stats = choices, shapes, stats
        out.shape_count, out.slot_count = len(self._shapes), self._slots
        out.has_envelope = self._envelope
        out.by_caller = self._shapes[0][1].by_caller
        return [text, c_keys, c_nodes, slots, choices, shapes, stats]

    def _lay_slot(self, out: ffi.CData, key: _Key, tables: list[_Table]) -> None:
        out.users, out.where_users, out.absent_users = key.users, key.where_users, key.absent_users
        out.each_users = key.each_users
        out.first_choice, out.choices = self._put_conditions(key.constants)
        out.rows = lib.TC_ROWS_NONE
        out.row_node = out.side_column = -1
        out.time_slot = key.time_slot
        if isinstance(key.rows, Rows):
            out.rows = lib.TC_ROWS_ARRAYS
            out.price_column, out.quantity_column = key.rows.price, key.rows.quantity
        elif key.rows is not None:
            names = _members(key.rows)
            out.rows = lib.TC_ROWS_PAIRS if isinstance(key.rows, PairRows) else lib.TC_ROWS_OTHER
            if isinstance(key.rows, SidedRows):
                sides = [(text, int(side is Side.SELL)) for text, side in key.rows.sides.items()]
                out.first_side, out.sides = self._put_choices(sides)
            if isinstance(names[0], int):
                out.price_column, out.quantity_column, out.side_column = names[:3]
            else:
                out.row_node = len(tables)
                tables.append(
                    (_Node(), [(_Key(str(name).encode()), role) for role, name in enumerate(names)])
                )

    def _lay_key(self, out: ffi.CData, key: _Key, slot: int, place: dict[int, int]) -> None:
        pattern = (key.text + b'"')[:8]
        out.word = int.from_bytes(pattern, "little")
        out.mask = (1 << (8 * len(pattern))) - 1
        out.text, out.length, out.slot = self._put_text(key.text), len(key.text), slot
        out.object = -1 if key.object is None else place[id(key.object)]
        out.array = -1 if key.array is None else place[id(key.array)]
        out.predicted = -1
        out.envelope, out.beside = key.envelope, key.beside

    def _lay_shape(self, out: ffi.CData, number: int, shape: Shape) -> None:
        match = shape.match
        in_message, in_element = shape.required(), shape.element_required()
        optional = set(match.optional)
        out.where_slots = self._mask(_conditions(shape))
        out.required = self._mask(path for path in in_message if path not in optional)
        out.required |= self._mask([shape.array])
        out.element_required = self._mask(
            (path for path in in_element if path not in optional), shape.array
        )
        out.optional = self._mask(path for path in in_message if path in optional)
        out.optional |= self._mask((path for path in in_element if path in optional), shape.array)
        out.single = self._mask(_single_arrays(shape))
        out.zero, out.one = self._mask(match.zero), self._mask(match.one)
        out.number, out.msg_type = number, shape.msg_type
        out.time_unit, out.trade_id_kind = TimeUnit.MS, IdKind.NUMBER
        for name in _SLOTS:
            setattr(out, name, -1)
        out.trade_flags = [-1, -1]
        out.symbol, out.each = self._slot(shape.symbol), self._slot(shape.array)
        if isinstance(shape, SilentShape):
            out.silent = True
        else:
            out.bare, out.time_unit = shape.numbers is Numbers.BARE, shape.ts_unit
            out.ts = self._slot(shape.ts, shape.array)
        if isinstance(shape, BookShape):
            self._lay_book(out, shape)
        if isinstance(shape, QuoteShape):
            out.last_id = self._slot(shape.last_id)
        if isinstance(shape, BookShape | QuoteShape):
            self._lay_levels(out, shape.levels)
        # Texts and their meanings lie in one order for all kinds: sides, flags, condition, beside.
        sides = shape.side.sides if isinstance(shape, TradeShape) and shape.side else {}
        out.first_side, out.sides = self._put_choices(sides.items())
        if isinstance(shape, TradeShape):
            self._lay_trade(out, shape)
        if match.beside_lacks is not None:
            out.first_beside, out.besides = self._put_choices(
                (text, 0) for text in match.beside_lacks[1]
            )
        self._lay_stats(out, shape.stats if isinstance(shape, StatShape) else ())

    def _lay_book(self, out: ffi.CData, shape: BookShape) -> None:
        out.top_only = shape.top_only
        for name in ("first_id", "last_id", "prev_id", "checksum"):
            setattr(out, name, self._slot(getattr(shape, name)))
        snapshot_field = shape.snapshot_field
        out.snapshot = snapshot_field is None and shape.snapshot
        if snapshot_field is not None:
            out.snapshot_if = self._slot(snapshot_field.path)
            out.snapshot_choice, _ = self._put_choices([(snapshot_field.snapshot, 1)])

    def _lay_levels(self, out: ffi.CData, levels: Levels) -> None:
        if isinstance(levels, BidAskRows):
            out.bids = -1 if levels.bids is None else self._slot(levels.bids.path)
            out.asks = -1 if levels.asks is None else self._slot(levels.asks.path)
        elif isinstance(levels, PairRows):
            out.pairs = self._slot(levels.path)
        elif isinstance(levels, SidedRows):
            out.levels = self._slot(levels.path)
            if levels.ts is not None:
                out.ts = self._key(levels.path, 0).time_slot
        bids, asks = levels.scalars(Side.BUY), levels.scalars(Side.SELL)
        out.bid_quotes, out.ask_quotes = len(bids), len(asks)
        for index, level in enumerate((*bids, *asks)):
            out.quotes[2 * index] = self._slot(level.price)
            out.quotes[2 * index + 1] = self._slot(level.quantity)

    def _lay_trade(self, out: ffi.CData, shape: TradeShape) -> None:
        base = shape.array
        out.price, out.quantity = self._slot(shape.price, base), self._slot(shape.quantity, base)
        if shape.each is not None:
            out.each_symbol = self._slot(shape.each.symbol, base)
        if shape.trade_id is not None:
            out.trade_id = self._slot(shape.trade_id.path, base)
            out.trade_id_kind = shape.trade_id.kind
        if shape.side is not None:
            out.side = self._slot(shape.side.path, base)
        for number, source in enumerate(shape.flags):
            out.trade_flags[number] = self._slot(source.path, base)
            out.first_flag[number], out.flags[number] = self._put_choices(_named_first(source))
        if shape.condition is not None:
            out.condition = self._slot(shape.condition.path, base)
            out.first_condition, out.conditions = self._put_choices(shape.condition.codes.items())

    def _lay_stats(self, out: ffi.CData, stats: Sequence[StatField]) -> None:
        out.first_stat, out.stats = len(self._stats), len(stats)
        for stat in stats:
            self._stats.append(
                (stat.kind, self._slot(stat.path), self._slot(stat.ts), self._slot(stat.due))
            )


_SLOTS = (
    "ts",
    "snapshot_if",
    "bids",
    "asks",
    "pairs",
    "levels",
    "first_id",
    "last_id",
    "prev_id",
    "checksum",
    "each_symbol",
    "price",
    "quantity",
    "trade_id",
    "side",
    "condition",
)
"""Fields of `tcx_shape` that are slots which only some kinds have."""


def _conditions(shape: Shape) -> dict[str, list[tuple[str, bool]]]:
    """Return the texts of which a path must hold one, each with whether it is a prefix."""
    found = {
        path: [(text.removesuffix("*"), text.endswith("*")) for text in texts]
        for path, texts in shape.match.where.items()
    }
    snapshot_field = shape.snapshot_field if isinstance(shape, BookShape) else None
    if snapshot_field is not None:
        found[snapshot_field.path] = [
            (snapshot_field.snapshot, False),
            (snapshot_field.delta, False),
        ]
    return found


def _named_first(source: FlagField) -> list[tuple[str | bool, int]]:
    """Return the texts of flags in the order in which they are tried: the star last."""
    return sorted(source.flags.items(), key=lambda item: item[0] == "*")


def _members(rows: ObjectRows | PairRows | SidedRows) -> tuple[int | str, ...]:
    """Return the keys (or columns) of a row in the order of their roles."""
    if isinstance(rows, PairRows):
        return rows.bid_price, rows.bid_quantity, rows.ask_price, rows.ask_quantity
    if isinstance(rows, SidedRows):
        timed = () if rows.ts is None else (rows.ts,)
        return rows.price, rows.quantity, rows.side, *timed
    return rows.price, rows.quantity


def _single_arrays(shape: Shape) -> list[str]:
    """Return the arrays on the shape's paths that must have exactly one element."""
    found: dict[str, None] = {}
    for path in shape.paths():
        steps = path.split(".")
        for index, step in enumerate(steps):
            prefix = ".".join(steps[: index + 1])
            if step.endswith("[]") and prefix != shape.array:
                found[prefix] = None
    return list(found)
