"""The golden packets of `protocol/vectors`, for the tests of every codec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["INVALID", "VECTORS", "names"]

_FOLDER = Path(__file__).resolve().parents[2] / "protocol" / "vectors"
_FILES: list[dict[str, Any]] = [
    json.loads(path.read_text()) for path in sorted(_FOLDER.glob("*.json"))
]

VECTORS: list[dict[str, Any]] = [vector for vector in _FILES if "packets" in vector]
"""Each: name, about, source, packets (hex, header, items with bytes as hex, tag), events (of a
raw renderer), perhaps key.
"""
INVALID: list[dict[str, Any]] = next(
    vector["datagrams"] for vector in _FILES if vector["name"] == "invalid"
)
"""Each: name, error (lower-case ValidationError), hex, perhaps key."""


def names(vectors: list[dict[str, Any]]) -> list[str]:
    """Return the names, as test ids."""
    return [str(vector["name"]).replace(" ", "_") for vector in vectors]
