"""What `Feed.replay` can open: tapes, and other kinds of files that someone has registered an
opener for.

Recordings of venue frames (`.jsonl`, `.jsonl.gz`) need the feeder's decoders, which consumers
may not import; `tapecast` registers them here. This module reads the first bytes of a file and
nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tapecast.consumers.feed.source import Chunks, PacketSource
from tapecast.consumers.feed.tape import TapeError, is_tape, read_tape

__all__ = ["Opener", "open_replay", "register"]

Opener = Callable[[Sequence[Path], float | None], PacketSource]
"""Given the files and the speed, returns a source of their packets."""

_OPENERS: dict[str, Opener] = {}


def register(suffix: str, opener: Opener) -> None:
    """Let `opener` open the files whose name ends in `suffix`."""
    _OPENERS[suffix] = opener


def open_replay(path: Path | str | Sequence[Path | str], speed: float | None) -> PacketSource:
    """Return the packets of a tape, or of what is registered, as a source; several files are one
    recording in order.

    Raises OSError where a file cannot be read, TapeError where nobody can open it.
    """
    paths = [Path(path)] if isinstance(path, Path | str) else [Path(item) for item in path]
    for item in paths:
        with item.open("rb"):
            pass
    for suffix, opener in _OPENERS.items():
        if all(item.name.endswith(suffix) for item in paths):
            return opener(paths, speed)
    for item in paths:
        if not is_tape(item):
            known = ", ".join(["a tape", *sorted(_OPENERS)])
            raise TapeError(f"{item}: cannot be replayed; what can is {known}")
    return Chunks(_all(paths), speed=speed)


def _all(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        yield from read_tape(path)
