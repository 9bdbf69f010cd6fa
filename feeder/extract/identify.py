"""Which shape a JSON tree has, in plain Python: constants, absent and required paths, elements
(`feeder.extract.shapes`).

What the values of an identified frame say is `feeder.extract.read`. The C extractor gives the
same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapecast.feeder.extract.shapes import BookShape, Shape, TradeShape
from tapecast.feeder.extract.strict_json import JsonObject, JsonValue

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
    conditions = dict(shape.match.where)
    if isinstance(shape, BookShape) and (snapshot_field := shape.snapshot_field) is not None:
        conditions[snapshot_field.path] = snapshot_field.snapshot, snapshot_field.delta
    for path, constants in conditions.items():
        found = find(message, path)
        ambiguous |= found.ambiguous
        if not found.ambiguous and not _matches(
            found.value, constants, prefixes=path in shape.match.where
        ):
            raise NotThisShape
    for path in shape.match.absent:
        found = find(message, path)
        ambiguous |= found.ambiguous
        if found.exists:
            raise NotThisShape
    not_single = False
    optional = shape.match.optional
    for path in shape.required():
        if path in optional:
            continue
        found = find(message, path)
        ambiguous |= found.ambiguous
        not_single |= found.not_single
        if not (found.exists or found.ambiguous or found.not_single):
            raise NotThisShape
    elements: list[JsonValue] = [message]
    if shape.array is not None:
        found = find(message, shape.array.removesuffix("[]"))
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
        for path in shape.element_required():
            if path in optional:
                continue
            found = find(element, path)
            ambiguous |= found.ambiguous
            not_single |= found.not_single
            if number == 0 and not (found.exists or found.ambiguous or found.not_single):
                raise NotThisShape
        if not isinstance(shape, TradeShape):
            continue
        if shape.condition is not None:
            ambiguous |= find(element, shape.condition.path).ambiguous
        for source in shape.flags:
            found = find(element, source.path)
            ambiguous |= found.ambiguous
            known = (
                isinstance(found.value, (str, bool))
                and flag_bits(found.value, source.flags) is not None
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
