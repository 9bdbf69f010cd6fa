"""The real recordings, for tests: where they are, which there are, and what each one is.

They lie beside the project in `../shared/captures`, or in `$TAPECAST_CAPTURES`. Recordings come
and go: tests ask `discover` for them and take what a file is from the file itself (its form, its
first line, the venue that its folder, name or URLs say) and from the section that the folder's
`README.md` has about it. No test keeps a list of their names. Where the folder is absent, or a
file that a test quotes by its name, the test is skipped, or fails if `$TAPECAST_REQUIRE_CAPTURES`
is 1 (as in CI).

What a recording should decode to is not said here: `tests.support.feeder_oracle` reads it a
second time.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tapecast.feeder.replay.venues import UnknownVenueError, guess_venue

__all__ = [
    "Recording",
    "absent",
    "captures",
    "captures_folder",
    "discover",
    "foreign",
    "forget",
    "gone_is_absent",
    "names",
    "recording",
    "recordings",
]

LONG_BYTES = 1_000_000
"""A compressed recording above this holds 70,000 messages or more."""

_FOREIGN: dict[str, tuple[tuple[str, str], ...]] = {
    "binance": (
        (r'@aggTrade".*"s":"[A-Z]+_\d{6}"', "a delivery contract"),
        (r'@(TRADE|TICKER)_ALL"', "European options"),
        (r'"e":"bookTicker"', "a USD-M bookTicker"),
        (r'^\{"lastUpdateId":\d+,"E":', "a REST body of USD-M or COIN-M"),
        (r'^\{"symbol":.*"openInterest"', "a REST body of USD-M or COIN-M"),
        (r'"generated":true', "made by Tardis from a REST body"),
    ),
    "binance_futures": ((r'"generated":true', "made by Tardis from a REST body"),),
    "okx": ((r'^\{"table":', "API v3"), (r'^\{"code":"0"', "a REST body")),
}
"""Single messages that are nothing of the venue's market data streams: what each looks like, and
what it is.
"""


@dataclass(frozen=True)
class Recording:
    """One file of recorded messages in the JSON-lines form."""

    path: Path
    venue: str
    """The venue's name here; empty where the project has no such venue."""
    section: str
    """What the folder's `README.md` says about the file; empty where it says nothing."""

    @property
    def name(self) -> str:
        """Folder and file name, as the README writes them."""
        return f"{self.path.parent.name}/{self.path.name}"

    @cached_property
    def opening(self) -> dict[str, Any]:
        """The first line."""
        return _opening(self.path) or {}

    @property
    def single(self) -> bool:
        """A collection of single messages, each with the source it is from: not a stream."""
        return "source" in self.opening

    @property
    def reduced(self) -> bool:
        """Rows that their recorder cut to a few fields: no messages of the venue."""
        return bool(self.opening.get("kind") == "reduced")

    @property
    def superseded(self) -> bool:
        """A feed that the venue has replaced; the README calls it legacy."""
        return "legacy" in self.section

    @property
    def partial(self) -> bool:
        """Only the first part of what the README counts."""
        return ".p1." in self.path.name

    @property
    def long(self) -> bool:
        """So many messages that a quick run takes its beginning only."""
        return self.path.suffix == ".gz" and self.path.stat().st_size > LONG_BYTES

    def stated(self, key: str) -> Any:
        """Return what the README states under a key (`types`, `book`, `crc32`, …); None where it
        states nothing, or states it of more than this file holds.
        """
        found = re.search(rf"^- {re.escape(key)}: (.*)$", self.section, re.M)
        if found is None or self.partial:
            return None
        try:
            return json.loads(found[1])
        except ValueError:
            return None


def captures_folder() -> Path:
    """Return the folder of recordings, which need not exist."""
    default = Path(__file__).resolve().parents[2].parent / "shared" / "captures"
    return Path(os.environ.get("TAPECAST_CAPTURES", default))


def absent(what: Path) -> NoReturn:
    """Skip the calling test, saying what is not there, or fail it if recordings are required."""
    message = f"recordings absent: {what} (set TAPECAST_CAPTURES)"
    if os.environ.get("TAPECAST_REQUIRE_CAPTURES") == "1":
        pytest.fail(message)
    pytest.skip(message)


def captures() -> Path:
    """Return the folder of recordings; where it is absent skip the calling test, saying so, or
    fail it if they are required.
    """
    folder = captures_folder()
    if not folder.is_dir():
        absent(folder)
    return folder


@contextmanager
def gone_is_absent() -> Iterator[None]:
    """Treat a file below the folder of recordings that cannot be found as absent."""
    try:
        yield
    except FileNotFoundError as error:
        path = Path(str(error.filename))
        if captures_folder() not in path.parents:
            raise
        absent(path)


def discover(folder: Path | None = None) -> list[Recording]:
    """Return every recording below a folder in the order of their names, those of no venue here
    included; files in another form (order-level logs, tables) are passed over. Nothing where the
    folder is absent, so that it can be asked while tests are collected.
    """
    folder = folder or captures_folder()
    guide = folder / "README.md"
    text = guide.read_text(encoding="utf-8") if guide.is_file() else ""
    files = sorted([*folder.glob("*/*.jsonl"), *folder.glob("*/*.jsonl.gz")])
    return [
        Recording(path, _venue(path), _section(text, path))
        for path in files
        if _opening(path) is not None
    ]


def names(*, single: bool = False) -> list[str]:
    """Return the names of the recordings of venues that the project has, for `parametrize`:
    the streams, or the collections of single messages.
    """
    return [found.name for found in _all() if found.venue and found.single is single]


def recording(name: str) -> Recording:
    """Return a recording by folder and file name; skip or fail where it is not there."""
    for found in _all():
        if found.name == name:
            return found
    absent(captures() / name)


def recordings(venue: str) -> list[Path]:
    """Return every recording of one venue by file name, the long ones and the single messages
    included; skip where they are absent.
    """
    captures()
    return [found.path for found in _all() if found.venue == venue]


def foreign(venue: str, raw: bytes) -> str | None:
    """Return what a single message is instead of market data of this venue's streams; None where
    it is market data or has a meaning as control.
    """
    text = raw.decode()
    return next((why for form, why in _FOREIGN.get(venue, ()) if re.search(form, text)), None)


def forget() -> None:
    """Look anew when next asked: the folder has changed."""
    _discovered.cache_clear()


@cache
def _discovered(folder: Path) -> tuple[Recording, ...]:
    return tuple(discover(folder))


def _all() -> tuple[Recording, ...]:
    return _discovered(captures_folder())


def _opening(path: Path) -> dict[str, Any] | None:
    """Return the first line of a file in the JSON-lines form; None of any other."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            first = json.loads(next(lines, ""))
    except (OSError, ValueError):
        return None
    return first if isinstance(first, dict) and {"kind", "raw"} <= first.keys() else None


def _venue(path: Path) -> str:
    try:
        return guess_venue(path)
    except UnknownVenueError:
        return ""


def _section(guide: str, path: Path) -> str:
    """Return the section of the README under a file's own heading, else the lines that name it."""
    name, stem = f"{path.parent.name}/{path.name}", path.name.partition(".")[0]
    for section in re.split(r"^## ", guide, flags=re.M)[1:]:
        if section.startswith(name):
            return section
    entries = re.split(r"^(?=[-|#])", guide, flags=re.M)
    return "".join(entry for entry in entries if stem in entry and not entry.startswith("#"))
