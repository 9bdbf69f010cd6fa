"""The texts behind hashed trade ids: `decode` prints them, and the wire carries the hash alone.

A message is read a second time for them, off the live path. It judges nothing: what is no
message with such ids has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from tapecast.feeder.extract.exact import hashed_id
from tapecast.feeder.extract.shapes import IdKind, Shape, TradeShape

__all__ = ["TradeTexts"]


class TradeTexts(dict[int, str]):
    """Hash -> text, of the last message read."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        self._paths: list[tuple[str | None, str]] = [
            (shape.array, shape.trade_id.path)
            for shape in shapes
            if isinstance(shape, TradeShape)
            and shape.trade_id is not None
            and shape.trade_id.kind is not IdKind.NUMBER
        ]
        self._keys = [b'"' + path.rpartition(".")[2].encode() + b'"' for _, path in self._paths]

    def read(self, frame: bytes) -> None:
        """Replace the content by the ids of a message."""
        self.clear()
        if not any(key in frame for key in self._keys):
            return
        try:
            root = msgspec.json.decode(frame)
        except (ValueError, RecursionError):
            return
        for each, path in self._paths:
            for element in [root] if each is None else _at(root, each):
                self.update(
                    (hashed_id(text), text) for text in _at(element, path) if isinstance(text, str)
                )


def _at(value: object, path: str) -> Iterator[object]:
    """Yield what stands at a path, each element of the arrays on it."""
    step, _, rest = path.partition(".")
    name = step.removesuffix("[]")
    found = value.get(name) if isinstance(value, dict) else None
    for one in found if isinstance(found, list) else [found]:
        if rest:
            yield from _at(one, rest)
        else:
            yield one
