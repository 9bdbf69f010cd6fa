"""The definitions of the last refresh, one file a venue: `<state_dir>/symbols/<venue>.json`,
replaced as a whole or not at all.

Written by `tapecast symbols refresh` and by a feeder that has fetched a whole list; read by
`tapecast symbols` and by a feeder whose venue does not answer. Numbers are exact: mantissa and
exponent, or decimal text. The file's age is for whoever reads it to judge.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import msgspec

from tapecast.feeder.venues.spec import InstrumentDef

__all__ = ["FORMAT", "Cached", "load", "path_of", "renewed", "save"]

FORMAT = 1


class Cached(msgspec.Struct, frozen=True, kw_only=True):
    """What was listed, and when."""

    format: int = FORMAT
    venue: str
    fetched_ns: int
    """Wall clock, ns since 1970."""
    defs: tuple[InstrumentDef, ...]
    volumes: dict[str, Decimal] = {}
    """Name to turnover in 24 h; empty where the venue has no such endpoint, or was never asked.
    """
    volumes_ns: int = 0
    """When they were fetched; 0 = never."""

    def by_key(self) -> dict[str, InstrumentDef]:
        """Return the definitions by key."""
        return {definition.key: definition for definition in self.defs}


_decoder = msgspec.json.Decoder(Cached)


def path_of(state_dir: Path, venue: str) -> Path:
    """Return the venue's file."""
    return state_dir / "symbols" / f"{venue}.json"


def load(state_dir: Path, venue: str) -> tuple[Cached | None, str]:
    """Return (what is kept, ""), or (None, why there is nothing to use)."""
    path = path_of(state_dir, venue)
    try:
        cached = _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return None, f"{path} does not exist"
    except OSError as error:
        return None, f"{path}: {error.strerror}"
    except (msgspec.DecodeError, ValueError) as error:
        return None, f"{path} is damaged: {error}"
    if cached.format != FORMAT or cached.venue != venue:
        return (
            None,
            f"{path} is of format {cached.format} for {cached.venue}, not {FORMAT} for {venue}",
        )
    return cached, ""


def renewed(
    old: Cached | None,
    venue: str,
    defs: Iterable[InstrumentDef],
    volumes: dict[str, Decimal],
    now_ns: int,
) -> Cached:
    """Return a list fetched now with its volumes; where none came, the old ones and their time
    stay.
    """
    had, had_ns = ({}, 0) if old is None else (old.volumes, old.volumes_ns)
    found, found_ns = (had | volumes, now_ns) if volumes else (had, had_ns)
    return Cached(
        venue=venue, fetched_ns=now_ns, defs=tuple(defs), volumes=found, volumes_ns=found_ns
    )


def save(state_dir: Path, cached: Cached) -> Path:
    """Put the file in place: a reader sees the old one or the new one, a crash leaves the old
    one. Raises OSError.
    """
    path = path_of(state_dir, cached.venue)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{cached.venue}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(cached))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp is for secrets; this is what the venue publishes
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path
