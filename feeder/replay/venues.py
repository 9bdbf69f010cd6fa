"""Which venues can be served, and which venue a recording is of.

Decided by the name that `tapecast record` gives, by where the recording lies
(`captures/<venue>/…`), by the beginning of its name, else by the hosts in the URLs that it holds.
A folder that several venues share (their names begin with its name, as `binance`) says only that
it is one of these: the URLs decide among them. Frames are not looked at to guess.

A venue's dialect is `DIALECT` of the module of its name here; hosts and other beginnings of file
names are the venue's own (`RecordingSpec`). So nothing here lists venues, and only the module of
the venue served is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from tapecast.feeder.record.recording import RecordingError, read
from tapecast.feeder.replay.dialect import Dialect
from tapecast.feeder.venues import VENUES, venue

__all__ = ["DIALECTS", "UnknownVenueError", "by_venue", "guess_venue"]


class _Dialects(Mapping[str, Dialect]):
    """Venue -> dialect, imported when it is asked for."""

    def __getitem__(self, name: str) -> Dialect:
        if name not in VENUES:
            raise KeyError(name)
        found: Dialect = import_module(f"{__package__}.{name}").DIALECT
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(VENUES)

    def __len__(self) -> int:
        return len(VENUES)


DIALECTS: Mapping[str, Dialect] = _Dialects()
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
    if own is not None and own[1] in VENUES:
        return own[1]
    folder = path.resolve().parent.name
    if folder in VENUES:
        family = [name for name in VENUES if name == folder or name.startswith(f"{folder}_")]
        return folder if len(family) == 1 else _by_urls(path, family) or folder
    found = _by_name(path.name) or _by_urls(path, VENUES)
    if found is not None:
        return found
    raise UnknownVenueError(
        f"{path}: cannot tell the venue from the folder, the name or the URLs in it; give --venue"
        f" ({', '.join(VENUES)})"
    )


def _by_name(file: str) -> str | None:
    """Return the venue whose beginning of file names is the longest that fits."""
    starts = {
        start: name
        for name in VENUES
        for start in (f"{name}_", *venue(name).recordings.prefixes)
        if file.startswith(start)
    }
    return starts[max(starts, key=len)] if starts else None


def _by_urls(path: Path, names: Iterable[str]) -> str | None:
    """Return the one of these venues whose hosts the URLs of a recording name; None where they
    name none, or several.
    """
    hosts = {host: name for name in names for host in venue(name).recordings.hosts}
    try:
        urls = [urlsplit(line.url).hostname for line in islice(read([path]), _LINES) if line.url]
    except (OSError, RecordingError):
        return None
    known = {hosts[host] for host in urls if host in hosts}
    return known.pop() if len(known) == 1 else None


def by_venue(paths: Iterable[Path], venue: str | None = None) -> dict[str, list[Path]]:
    """Group recordings by venue in the order given; `venue` says it for all of them."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        if venue is not None and venue not in VENUES:
            raise UnknownVenueError(
                f"{path}: no server dialect for venue {venue!r} (known: {', '.join(VENUES)})"
            )
        groups.setdefault(venue or guess_venue(path), []).append(path)
    return groups
