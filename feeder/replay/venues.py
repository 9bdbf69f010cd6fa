"""Which venues can be served, and which venue a recording is of.

Told from where it lies (`captures/<venue>/…`, a file name that begins with the venue's prefix), else from the host in the URLs
that it holds. Frames are not looked at to guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from feeder.recording import RecordingError, read
from feeder.replay.binance import Binance
from feeder.replay.dialect import Dialect
from feeder.replay.kraken import Kraken
from feeder.replay.okx import Okx
from feeder.replay.upbit import Upbit

__all__ = ["DIALECTS", "UnknownVenueError", "by_venue", "guess_venue"]

DIALECTS: dict[str, Dialect] = {
    "binance": Binance(routed=False),
    "binance_futures": Binance(routed=True),
    "binance_coinm": Binance(routed=True),
    "kraken": Kraken(),
    "okx": Okx(),
    "upbit": Upbit(),
}

_PREFIXES = {
    "binance_spot_": "binance",
    "binance_futures_": "binance_futures",
    "binance_usdm_": "binance_futures",
    "binance_coinm_": "binance_coinm",
    "kraken_": "kraken",
    "okx_": "okx",
    "upbit_": "upbit",
}

_HOSTS = {
    "fstream.binance.com": "binance_futures",
    "fapi.binance.com": "binance_futures",
    "dstream.binance.com": "binance_coinm",
    "dapi.binance.com": "binance_coinm",
    "stream.binance.com": "binance",
    "data-stream.binance.vision": "binance",
    "api.binance.com": "binance",
    "ws.kraken.com": "kraken",
    "api.kraken.com": "kraken",
    "ws.okx.com": "okx",
    "www.okx.com": "okx",
    "api.upbit.com": "upbit",
}
_LINES = 100


class UnknownVenueError(ValueError):
    """No server dialect is known for a recording; the message names the file and what would help."""


def guess_venue(path: Path) -> str:
    """Return the venue of a recording by its folder, its name or the URLs in it; raise UnknownVenueError naming the file."""
    folder = path.resolve().parent.name
    if folder in DIALECTS:
        return folder
    for prefix, venue in _PREFIXES.items():
        if path.name.startswith(prefix):
            return venue
    try:
        hosts = [urlsplit(line.url).hostname for line in islice(read([path]), _LINES) if line.url]
    except (OSError, RecordingError):
        hosts = []
    known = {_HOSTS[host] for host in hosts if host in _HOSTS}
    if len(known) == 1:
        return known.pop()
    raise UnknownVenueError(
        f"{path}: cannot tell the venue from the folder, the name or the URLs in it; give --venue ({', '.join(DIALECTS)})"
    )


def by_venue(paths: Iterable[Path], venue: str | None = None) -> dict[str, list[Path]]:
    """Group recordings by venue in the order given; `venue` says it for all of them."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        if venue is not None and venue not in DIALECTS:
            raise UnknownVenueError(f"{path}: no server dialect for venue {venue!r} (known: {', '.join(DIALECTS)})")
        groups.setdefault(venue or guess_venue(path), []).append(path)
    return groups
