"""Which venues can be served, and which venue a recording is of, told from where it lies.

The truth is the layout of the recordings: `captures/<venue>/…` or a file name that begins with the venue's prefix. It does
not look into a file to guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from feeder.replay.binance import Binance
from feeder.replay.dialect import Dialect
from feeder.replay.okx import Okx
from feeder.replay.upbit import Upbit

__all__ = ["DIALECTS", "UnknownVenueError", "by_venue", "guess_venue"]

DIALECTS: dict[str, Dialect] = {
    "binance": Binance(routed=False),
    "binance_futures": Binance(routed=True),
    "binance_coinm": Binance(routed=True),
    "okx": Okx(),
    "upbit": Upbit(),
}

_PREFIXES = {
    "binance_spot_": "binance",
    "binance_futures_": "binance_futures",
    "binance_usdm_": "binance_futures",
    "binance_coinm_": "binance_coinm",
    "okx_": "okx",
    "upbit_": "upbit",
}


class UnknownVenueError(ValueError):
    """No server dialect is known for a recording; the message names the file and what would help."""


def guess_venue(path: Path) -> str:
    """Return the venue of a recording by its folder, else by the prefix of its name; raise UnknownVenueError naming it."""
    folder = path.resolve().parent.name
    if folder in DIALECTS:
        return folder
    for prefix, venue in _PREFIXES.items():
        if path.name.startswith(prefix):
            return venue
    raise UnknownVenueError(f"{path}: cannot tell the venue from the folder or the name; give --venue ({', '.join(DIALECTS)})")


def by_venue(paths: Iterable[Path], venue: str | None = None) -> dict[str, list[Path]]:
    """Group recordings by venue in the order given; `venue` says it for all of them."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        if venue is not None and venue not in DIALECTS:
            raise UnknownVenueError(f"{path}: no server dialect for venue {venue!r} (known: {', '.join(DIALECTS)})")
        groups.setdefault(venue or guess_venue(path), []).append(path)
    return groups
