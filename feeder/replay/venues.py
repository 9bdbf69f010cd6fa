"""Which venues can be served, and which venue a recording is of.

Told by the name that `tapecast record` gives, from where it lies (`captures/<venue>/…`, a file
name that begins with the venue's prefix), else from the host in the URLs that it holds. Frames
are not looked at to guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from tapecast.feeder.record.recording import RecordingError, read
from tapecast.feeder.replay.binance import Binance
from tapecast.feeder.replay.bithumb import Bithumb
from tapecast.feeder.replay.bybit import Bybit
from tapecast.feeder.replay.coinbase import Coinbase, CoinbaseExchange
from tapecast.feeder.replay.deribit import Deribit
from tapecast.feeder.replay.dialect import Dialect
from tapecast.feeder.replay.kraken import Kraken
from tapecast.feeder.replay.ls import Ls
from tapecast.feeder.replay.okx import Okx
from tapecast.feeder.replay.upbit import Upbit

__all__ = ["DIALECTS", "UnknownVenueError", "by_venue", "guess_venue"]

DIALECTS: dict[str, Dialect] = {
    "binance": Binance(routed=False),
    "binance_futures": Binance(routed=True),
    "binance_coinm": Binance(routed=True),
    "bybit": Bybit(),
    "bithumb": Bithumb(),
    "deribit": Deribit(),
    "coinbase": Coinbase(),
    "coinbase_exchange": CoinbaseExchange(),
    "kraken": Kraken(),
    "ls": Ls(),
    "okx": Okx(),
    "upbit": Upbit(),
}

_PREFIXES = {
    "binance_spot_": "binance",
    "binance_futures_": "binance_futures",
    "binance_usdm_": "binance_futures",
    "binance_coinm_": "binance_coinm",
    "bybit_": "bybit",
    "bithumb_": "bithumb",
    "deribit_": "deribit",
    "coinbase_exchange_": "coinbase_exchange",
    "coinbase_": "coinbase",
    "kraken_": "kraken",
    "ls_": "ls",
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
    "stream.bybit.com": "bybit",
    "api.bybit.com": "bybit",
    "ws-api.bithumb.com": "bithumb",
    "api.bithumb.com": "bithumb",
    "www.deribit.com": "deribit",
    "streams.deribit.com": "deribit",
    "advanced-trade-ws.coinbase.com": "coinbase",
    "api.coinbase.com": "coinbase",
    "ws-feed.exchange.coinbase.com": "coinbase_exchange",
    "api.exchange.coinbase.com": "coinbase_exchange",
    "ws-feed.pro.coinbase.com": "coinbase_exchange",
    "api.pro.coinbase.com": "coinbase_exchange",
    "ws.kraken.com": "kraken",
    "api.kraken.com": "kraken",
    "openapi.ls-sec.co.kr": "ls",
    "ws.okx.com": "okx",
    "www.okx.com": "okx",
    "api.upbit.com": "upbit",
}
_SHARED = frozenset({"coinbase"})
"""Folders with recordings of several venues here: the URLs in the file are asked first."""
_LINES = 100
_RECORDED = re.compile(r"([a-z_]+)-\d{8}T\d{6}\.\d{6}Z\.jsonl")
"""What `tapecast record` calls its files (`feeder.record.file`)."""


class UnknownVenueError(ValueError):
    """No server dialect is known for a recording; the message names the file and what would
    help.
    """


def guess_venue(path: Path) -> str:
    """Return the venue of a recording by its folder, its name or the URLs in it; raise
    UnknownVenueError naming the file.
    """
    own = _RECORDED.match(path.name)
    if own is not None and own[1] in DIALECTS:
        return own[1]
    folder = path.resolve().parent.name
    if folder in DIALECTS:
        return (_by_urls(path) or folder) if folder in _SHARED else folder
    for prefix, venue in _PREFIXES.items():
        if path.name.startswith(prefix):
            return venue
    told = _by_urls(path)
    if told is not None:
        return told
    raise UnknownVenueError(
        f"{path}: cannot tell the venue from the folder, the name or the URLs in it; give --venue"
        f" ({', '.join(DIALECTS)})"
    )


def _by_urls(path: Path) -> str | None:
    """Return the venue whose hosts the URLs of a recording name; None where they name none, or
    several.
    """
    try:
        hosts = [urlsplit(line.url).hostname for line in islice(read([path]), _LINES) if line.url]
    except (OSError, RecordingError):
        return None
    known = {_HOSTS[host] for host in hosts if host in _HOSTS}
    return known.pop() if len(known) == 1 else None


def by_venue(paths: Iterable[Path], venue: str | None = None) -> dict[str, list[Path]]:
    """Group recordings by venue in the order given; `venue` says it for all of them."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        if venue is not None and venue not in DIALECTS:
            raise UnknownVenueError(
                f"{path}: no server dialect for venue {venue!r} (known: {', '.join(DIALECTS)})"
            )
        groups.setdefault(venue or guess_venue(path), []).append(path)
    return groups
