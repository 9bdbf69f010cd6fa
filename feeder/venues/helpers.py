"""The small functions that venue modules are written with: spreading topics over connections,
finding a key in raw bytes, reading a URL. Pure, as the modules are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

import msgspec

from tapecast.feeder.venues.spec import Stream, Subscription, Topic

__all__ = ["connections", "is_wire_symbol", "matcher", "query_value"]

MAX_SYMBOL_BYTES = 40
"""Width of `symbol` in an instrument definition; a longer symbol could not be told apart from
its neighbours.
"""


def connections(
    symbols: Sequence[str],
    channels: Sequence[str],
    known: Mapping[str, Stream],
    frame: Callable[[Sequence[Topic], int], bytes],
    first_id: int,
    *,
    per_connection: int,
    per_frame: int,
    exists: Callable[[Topic], bool] = lambda _: True,
) -> list[Subscription]:
    """Spread the topics that exist over routes, connections and frames. Raises KeyError for a
    channel that is not known.
    """
    by_route: dict[str, list[Topic]] = {}
    for channel in channels:
        wanted = (Topic(channel, symbol) for symbol in symbols)
        by_route.setdefault(known[channel].route, []).extend(filter(exists, wanted))
    out: list[Subscription] = []
    next_id = first_id
    for route, topics in by_route.items():
        for chunk in _chunks(topics, per_connection):
            pieces = list(_chunks(chunk, per_frame))
            ids = range(next_id, next_id + len(pieces))
            frames = tuple(frame(piece, number) for piece, number in zip(pieces, ids, strict=True))
            out.append(Subscription(route, frames, tuple(chunk), tuple(map(str, ids))))
            next_id += len(pieces)
    return out


def _chunks(topics: Sequence[Topic], size: int) -> Iterable[Sequence[Topic]]:
    return (topics[start : start + size] for start in range(0, len(topics), size))


def matcher(key: str) -> Callable[[bytes], str | None]:
    """Return a function that finds the first string value of a JSON key in raw bytes, whatever
    the spacing (pre-scans only).
    """
    pattern = re.compile(rb'"' + re.escape(key.encode()) + rb'"\s*:\s*("(?:[^"\\]|\\.)*")')

    def find(frame: bytes) -> str | None:
        found = pattern.search(frame)
        if found is None:
            return None
        text = found[1]
        try:
            return msgspec.json.decode(text, type=str) if b"\\" in text else text[1:-1].decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    return find


def query_value(url: str, path: str, key: str) -> str | None:
    """Return a query parameter of a URL whose path matches the regular expression; None where
    either is missing.
    """
    parts = urlsplit(url)
    if re.fullmatch(path, parts.path) is None:
        return None
    values = parse_qs(parts.query).get(key)
    return values[0] if values else None


def is_wire_symbol(symbol: str) -> bool:
    """Return whether a text fits a definition and has nothing in it that no venue's symbol has."""
    return (
        0 < len(symbol.encode("utf-8", "surrogatepass")) <= MAX_SYMBOL_BYTES
        and symbol.isprintable()
        and " " not in symbol
    )
