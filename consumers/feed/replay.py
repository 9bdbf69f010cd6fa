"""What `Feed.replay` can open: tapes, and the kinds of files that `OPENERS` names.

Recordings of venue frames (`.jsonl`, `.jsonl.gz`) need the feeder's decoders, which consumers may
not import: their opener belongs to `tapecast`, and is imported by its name when a recording is
opened. This module reads the first bytes of a file and nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from tapecast.consumers.feed.source import Chunks, PacketSource
from tapecast.consumers.feed.tape import TapeError, is_tape, read_tape

__all__ = ["OPENERS", "Opener", "open_replay"]

Opener: TypeAlias = Callable[[Sequence[Path], float | None], PacketSource]
"""Given the files and the speed, returns a source of their packets."""

OPENERS: dict[str, str] = dict.fromkeys(
    (".jsonl", ".jsonl.gz"), "tapecast.recordings:open_recording"
)
"""End of a file's name -> its `Opener` as `module:function`."""


def open_replay(path: Path | str | Sequence[Path | str], speed: float | None) -> PacketSource:
    """Return the packets of a tape, or of what an opener can read, as a source; several files are
    one recording in order.

    Raises OSError where a file cannot be read, TapeError where nothing can open it, and what its
    opener raises.
    """
    paths = [Path(path)] if isinstance(path, Path | str) else [Path(item) for item in path]
    for item in paths:
        with item.open("rb"):
            pass
    for suffix, entry in OPENERS.items():
        if all(item.name.endswith(suffix) for item in paths):
            return _opener(entry)(paths, speed)
    for item in paths:
        if not is_tape(item):
            known = ", ".join(["a tape", *sorted(OPENERS)])
            raise TapeError(f"{item}: cannot be replayed; what can is {known}")
    return Chunks(_packets(paths), speed=speed)


def _opener(entry: str) -> Opener:
    module, _, function = entry.partition(":")
    opener: Opener = getattr(import_module(module), function)
    return opener


def _packets(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        yield from read_tape(path)
