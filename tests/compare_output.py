"""Does another commit say the same? `python -m tests.compare_output OTHER`.

OTHER is a git revision, which is checked out and built in a temporary folder, or the folder of a
checkout that is built already. Both then `decode` every recording, and play the smallest stream
of each venue through `up --replay --events`; one line a case names both digests. Exit code: 0
all equal, 1 something differs, 2 the other one could not be built.

`decode` is compared byte for byte. A run over sockets is not the same bytes twice in one commit
(receive times, and instruments that overtake each other), so its events are compared as
`tests.support.event_lines` orders them: each instrument's, without receive times.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson

from tests.support.captures import Recording, discover
from tests.support.event_lines import by_instrument, read_events
from tests.support.processes import ROOT, Net

__all__ = ["Case", "Output", "Side", "compared", "main", "sample"]

UP_LIMIT_S = 300.0


class Output(NamedTuple):
    """What a command came to."""

    code: int
    digest: str
    """SHA-256 of what it printed, or of the events it wrote."""


class Case(NamedTuple):
    """One thing that both sides did."""

    what: str
    ours: Output
    theirs: Output

    @property
    def equal(self) -> bool:
        """Whether both came to the same."""
        return self.ours == self.theirs

    def line(self) -> str:
        """Return the case as one line of the report."""
        word = "same" if self.equal else "DIFFERENT"
        ours, theirs = (f"{o.digest[:16]} exit {o.code}" for o in (self.ours, self.theirs))
        return f"{word:9} {self.what}: {ours}" + ("" if self.equal else f" | other {theirs}")


class Side:
    """A built checkout: its commands are run as a user of it would."""

    def __init__(self, folder: Path) -> None:
        """Ask it which venues it has."""
        self.folder = folder
        self.binary = folder / ".venv" / "bin" / "tapecast"
        shown = self._run("config", "show").stdout.decode()
        self.venues = {
            line.split(".")[1] for line in shown.splitlines() if line.startswith("venues.")
        }

    def decode(self, recording: Recording) -> Output:
        """Decode a recording."""
        done = self._run("decode", "--venue", self._venue(recording), str(recording.path))
        return Output(done.returncode, hashlib.sha256(done.stdout).hexdigest())

    def up(self, recording: Recording) -> Output:
        """Play a recording through feeder, multicast and consumer, on groups of its own."""
        with tempfile.TemporaryDirectory() as folder:
            events = Path(folder) / "events.jsonl"
            words = ["--speed", "max", "--until-end", "--json", "--events", str(events)]
            sets = [
                word
                for key, value in Net().settings.items()
                for word in ("--set", f"{key}={value}")
            ]
            done = self._run("up", "--replay", str(recording.path), *words, *sets)
            found = by_instrument(read_events(events)) if events.is_file() else {}
        text = orjson.dumps(found, option=orjson.OPT_SORT_KEYS)
        return Output(done.returncode, hashlib.sha256(text).hexdigest())

    def _venue(self, recording: Recording) -> str:
        """Return the recording's venue; that of its folder where this side has no such venue."""
        here = recording.venue in self.venues
        return recording.venue if here else recording.path.parent.name

    def _run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            [self.binary, *words],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            timeout=UP_LIMIT_S,
            check=False,
        )


def sample(recordings: Iterable[Recording]) -> list[Recording]:
    """Return the smallest stream of each venue that is neither cut nor a feed of the past."""
    chosen: dict[str, Recording] = {}
    for recording in recordings:
        if recording.venue and not (recording.single or recording.reduced or recording.superseded):
            known = chosen.setdefault(recording.venue, recording)
            if recording.path.stat().st_size < known.path.stat().st_size:
                chosen[recording.venue] = recording
    return list(chosen.values())


def compared(
    ours: Side, theirs: Side, recordings: Iterable[Recording], jobs: int = 1
) -> Iterator[Case]:
    """Yield every case in a fixed order as soon as it is known: all recordings decoded, then the
    sample played.
    """
    known = [recording for recording in recordings if recording.venue]
    with ThreadPoolExecutor(jobs) as pool:
        pairs = [
            (recording, pool.submit(ours.decode, recording), pool.submit(theirs.decode, recording))
            for recording in known
        ]
        for recording, first, second in pairs:
            yield Case(f"decode {recording.name}", first.result(), second.result())
    for recording in sample(known):
        if recording.venue in theirs.venues:
            yield Case(f"up {recording.name}", ours.up(recording), theirs.up(recording))


@contextmanager
def checkout(other: str) -> Iterator[Path]:
    """Give a built checkout: the folder itself, or the revision in a temporary worktree."""
    if (Path(other) / ".venv" / "bin" / "tapecast").is_file():
        yield Path(other).resolve()
        return
    with tempfile.TemporaryDirectory(prefix="tapecast-") as scratch:
        folder = Path(scratch) / "other"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", folder, other], check=True)
        try:
            subprocess.run(["make", "--quiet", ".venv/.package"], cwd=folder, check=True)
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", folder], check=True)


def main(words: list[str] | None = None) -> int:
    """Compare, print a line a case and a sum, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.compare_output", description=__doc__)
    parser.add_argument("other", help="a git revision, or the folder of a built checkout")
    parser.add_argument("--only", default="", help="recordings whose name holds this text")
    parser.add_argument("--jobs", type=int, default=2, help="commands at a time (2)")
    options = parser.parse_args(words)
    recordings = [found for found in discover() if options.only in found.name]
    try:
        with checkout(options.other) as folder:
            cases = []
            for case in compared(Side(ROOT), Side(folder), recordings, options.jobs):
                cases.append(case)
                print(case.line(), flush=True)
    except subprocess.CalledProcessError as error:
        print(f"{options.other}: not checked out or not built: {error}", file=sys.stderr)
        return 2
    return summed_up(cases)


def summed_up(cases: list[Case]) -> int:
    """Print how many cases are equal and return the exit code; nothing compared is no success."""
    different = sum(not case.equal for case in cases)
    print(f"{len(cases)} compared, {different} different")
    return 1 if different or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
