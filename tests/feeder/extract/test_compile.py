"""The tables of the C extractor say what the shapes say: which paths must exist, which may be
missing, and where each field stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tapecast.feeder.extract.compile import compile_shapes
from tapecast.feeder.extract.shapes import (
    BookShape,
    QuoteShape,
    Shape,
    SilentShape,
    StatShape,
    TradeShape,
)
from tapecast.feeder.venues import VENUES, venue
from tapecast.protocol._native import ffi

OF_BOOKS = ("first_id", "prev_id", "checksum", "snapshot_if")
OF_TRADES = ("price", "quantity", "trade_id", "side", "condition", "each", "each_symbol")
OF_LEVELS = ("bids", "asks", "pairs", "levels")
FOREIGN = {
    BookShape: OF_TRADES,
    QuoteShape: (*OF_TRADES, *OF_BOOKS),
    TradeShape: (*OF_LEVELS, *OF_BOOKS, "last_id"),
    StatShape: (*OF_LEVELS, *OF_BOOKS, *OF_TRADES, "last_id"),
    SilentShape: (*OF_LEVELS, *OF_BOOKS, *OF_TRADES, "last_id", "ts"),
}
"""Slots of `tcx_shape` that a kind of shape does not have."""


def slots(program: Any, node: int = 0, prefix: str = "") -> Iterator[tuple[int, str]]:
    """Yield (slot, path without brackets) of a node and what is below it; an envelope has no
    slot.
    """
    for first in program.nodes[node].bucket:
        place = first
        while place >= 0:
            key = program.keys[place]
            path = prefix + bytes(ffi.buffer(program.text + key.text, key.length)).decode()
            if key.slot >= 0:
                yield key.slot, path
            for below in (key.object, key.array):
                if below >= 0:
                    yield from slots(program, below, f"{path}.")
            place = key.chain


def compiled(shapes: tuple[Shape, ...]) -> Iterator[tuple[Shape, Any, dict[int, str]]]:
    """Yield each shape with its C counterpart and the paths of its program's slots."""
    tables = compile_shapes(shapes)
    for index in range(tables.count):
        program = tables.programs[index]
        for place in range(program.shape_count):
            c_shape = program.shapes[place]
            yield shapes[c_shape.number], c_shape, dict(slots(program))


def below(shape: Shape, path: str) -> str:
    """Return a path of a trade, from the message on, without brackets."""
    return (path if shape.array is None else f"{shape.array}.{path}").replace("[]", "")


def named(mask: int, paths: dict[int, str]) -> set[str]:
    """Return the paths of a slot mask."""
    return {path for slot, path in paths.items() if mask >> slot & 1}


@pytest.mark.parametrize("name", VENUES)
def test_the_masks_are_the_paths_of_the_shape(name: str) -> None:
    """Required, optional, and constant paths, of the message and of each trade."""
    spec = venue(name)
    shapes = (*spec.stream.shapes, *spec.rule.rest_shapes)
    seen = []
    for shape, c_shape, paths in compiled(shapes):
        seen.append(shape)
        optional = shape.match.optional
        in_message = {path.replace("[]", "") for path in shape.required() if path not in optional}
        array = set() if shape.array is None else {shape.array.replace("[]", "")}
        in_element = {below(shape, path) for path in shape.element_required()}
        may_lack = {below(shape, p) for p in optional if p in shape.element_required()}
        may_lack |= {path.replace("[]", "") for path in optional if path in shape.required()}
        assert named(c_shape.required, paths) == in_message | array
        assert named(c_shape.element_required, paths) == in_element - may_lack
        assert named(c_shape.optional, paths) == may_lack
        constants = {path.replace("[]", "") for path in shape.match.where}
        if isinstance(shape, BookShape) and shape.snapshot_field is not None:
            constants.add(shape.snapshot_field.path.replace("[]", ""))
        assert named(c_shape.where_slots, paths) == constants
    assert sorted(map(shapes.index, seen)) == list(range(len(shapes)))


@pytest.mark.parametrize("name", VENUES)
def test_a_kind_leaves_the_slots_of_others_empty(name: str) -> None:
    """The scan tells kinds apart by slots that are -1."""
    spec = venue(name)
    for shape, c_shape, paths in compiled((*spec.stream.shapes, *spec.rule.rest_shapes)):
        assert {field: getattr(c_shape, field) for field in FOREIGN[type(shape)]} == dict.fromkeys(
            FOREIGN[type(shape)], -1
        )
        assert bool(c_shape.silent) == isinstance(shape, SilentShape)
        assert (c_shape.stats > 0) == isinstance(shape, StatShape)
        assert paths.get(c_shape.symbol) == (shape.symbol and shape.symbol.replace("[]", ""))
        if isinstance(shape, TradeShape):
            assert paths[c_shape.price] == below(shape, shape.price)
            assert paths[c_shape.quantity] == below(shape, shape.quantity)
