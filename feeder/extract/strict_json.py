"""Strict JSON as a tree with exact numbers: the fallback extractor's reader.

RFC 8259 in UTF-8 without byte order mark; numbers stay text, repeated keys are remembered,
nesting is bounded. Safe for any bytes. It is exact, not fast; the C extractor
checks the same grammar in its single pass.
"""

from __future__ import annotations

import json
from typing import NamedTuple, NoReturn, TypeAlias

from tapecast.feeder.extract.types import MAX_DEPTH

__all__ = ["JsonError", "JsonObject", "JsonValue", "Number", "parse"]


class Number(NamedTuple):
    """A JSON number as it was written."""

    text: str


class JsonObject(dict[str, "JsonValue"]):
    """An object; `repeated` names the keys that occur more than once (the last value stands,
    `hidden` holds all of them).
    """

    __slots__ = ("hidden", "repeated")
    repeated: frozenset[str]
    hidden: tuple[JsonValue, ...]


JsonValue: TypeAlias = JsonObject | list["JsonValue"] | Number | str | bool | None


class JsonError(ValueError):
    """The bytes are not acceptable JSON. `offset` is the byte where that showed, as near as it
    is known.
    """

    def __init__(self, reason: str, offset: int) -> None:
        """Keep the reason and the byte offset."""
        super().__init__(f"{reason} at byte {offset}")
        self.reason = reason
        self.offset = offset


def _object(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    found = JsonObject(pairs)
    found.repeated = frozenset()
    found.hidden = ()
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        found.repeated = frozenset(key for key in found if keys.count(key) > 1)
        found.hidden = tuple(value for _, value in pairs)
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_depth(root: JsonValue) -> None:
    level: list[JsonValue] = [root]
    for _ in range(MAX_DEPTH):
        below: list[JsonValue] = []
        for value in level:
            if isinstance(value, JsonObject):
                below.extend(
                    v for v in value.hidden or value.values() if isinstance(v, (JsonObject, list))
                )
            elif isinstance(value, list):
                below.extend(v for v in value if isinstance(v, (JsonObject, list)))
        if not below:
            return
        level = below
    raise JsonError(f"nested deeper than {MAX_DEPTH}", 0)


def parse(frame: bytes) -> JsonValue:
    """Return the tree of a whole frame; raises JsonError for anything but one JSON text with
    optional white space around it.
    """
    try:
        text = frame.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError("not UTF-8", error.start) from error
    try:
        root: JsonValue = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=Number,
            parse_float=Number,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise JsonError(error.msg, len(text[: error.pos].encode())) from error
    except (ValueError, RecursionError) as error:
        raise JsonError(str(error) or "nested too deep", 0) from error
    _check_depth(root)
    return root
