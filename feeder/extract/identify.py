"""Which shape a JSON tree has, in plain Python: constants, absent and required paths, elements
(`feeder.extract.shapes`).

What the values of an identified frame say is `feeder.extract.read`. The C extractor gives the
same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapecast.feeder.extract.shapes import Shape
from tapecast.feeder.extract.strict_json import JsonObject, JsonValue
from tapecast.feeder.extract.types import TRADE_TYPES
from tapecast.protocol.schema import Side

__all__ = ["Found", "NotThisShape", "RejectedError", "find", "flag_bits", "identify"]


class NotThisShape(Exception):  # noqa: N818 - an answer, not an error
    """The frame has another shape."""


class RejectedError(Exception):
    """The frame has this shape, and a value is wrong."""

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Found:
    """What a path leads to: a value, nothing, or a doubt (repeated key, array that has not
    exactly one element).
    """

    value: JsonValue = None
    exists: bool = False
    ambiguous: bool = False
    not_single: bool = False


_MISSING = Found()


def find(base: JsonValue, path: str) -> Found:
    """Return what the path leads to from an object."""
    node = base
    for step in path.split("."):
        key = step.removesuffix("[]")
        if not isinstance(node, JsonObject) or key not in node:
            return _MISSING
        if key in node.repeated:
            return Found(ambiguous=True)
        node = node[key]
        if key != step:
            if not isinstance(node, list):
                return _MISSING
            if len(node) != 1:
                return Found(not_single=True)
            node = node[0]
    return Found(node, exists=True)


def identify(shape: Shape, message: JsonValue) -> list[JsonValue]:
    """Return the trade objects of `each` (or the message itself); raises where the frame has
    another shape.
    """
    ambiguous = False
    conditions = dict(shape.where)
    if shape.snapshot_if is not None:
        conditions[shape.snapshot_if[0]] = shape.snapshot_if[1:]
    for path, constants in conditions.items():
        found = find(message, path)
        ambiguous |= found.ambiguous
        if not found.ambiguous and not _matches(
            found.value, constants, prefixes=path in shape.where
        ):
            raise NotThisShape
    for path in shape.absent:
        found = find(message, path)
        ambiguous |= found.ambiguous
        if found.exists:
            raise NotThisShape
    not_single = False
    for path in _required_paths(shape):
        found = find(message, path)
        ambiguous |= found.ambiguous
        not_single |= found.not_single
        if not (found.exists or found.ambiguous or found.not_single):
            raise NotThisShape
    elements: list[JsonValue] = [message]
    if shape.each is not None:
        found = find(message, shape.each.removesuffix("[]"))
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
        for path in _element_paths(shape):
            found = find(element, path)
            ambiguous |= found.ambiguous
            not_single |= found.not_single
            if number == 0 and not (found.exists or found.ambiguous or found.not_single):
                raise NotThisShape
        if shape.condition is not None:
            ambiguous |= find(element, shape.condition[0]).ambiguous
        for path, meanings in shape.flag_sources():
            found = find(element, path)
            ambiguous |= found.ambiguous
            known = (
                isinstance(found.value, (str, bool))
                and flag_bits(found.value, meanings) is not None
            )
            if found.exists and found.value is not None and not known:
                raise NotThisShape
    if ambiguous:
        raise RejectedError("a repeated key makes the message ambiguous")
    if not_single:
        raise RejectedError("an array has not the declared number of elements")
    return elements


def flag_bits(value: str | bool, meanings: dict[str | bool, int]) -> int | None:
    """Return the TradeFlag bits that a value stands for, None where it is none of the declared
    ones.
    """
    return meanings.get(value, meanings.get("*") if isinstance(value, str) else None)


def _matches(value: JsonValue, constants: Sequence[str], *, prefixes: bool) -> bool:
    if not isinstance(value, str):
        return False
    return value in constants or (
        prefixes and any(c.endswith("*") and value.startswith(c[:-1]) for c in constants)
    )


def _required_paths(shape: Shape) -> list[str]:
    """Return the paths relative to the message that must exist for a frame to have this shape."""
    paths = [shape.symbol, shape.first_id, shape.last_id, shape.prev_id, shape.checksum]
    if shape.msg_type not in TRADE_TYPES:
        paths.append(shape.ts)
        paths.extend(source.path for source in shape.sources())
        for quote in (*shape.quotes(Side.BUY), *shape.quotes(Side.SELL)):
            paths += [quote.price, quote.quantity]
    return [path for path in paths if path is not None and path not in shape.optional]


def _element_paths(shape: Shape) -> list[str]:
    """Return the paths that every trade must have, relative to it."""
    if shape.msg_type not in TRADE_TYPES:
        return []
    paths = [shape.each_symbol, shape.price, shape.quantity, shape.trade_id, shape.side, shape.ts]
    return [path for path in paths if path is not None and path not in shape.optional]
