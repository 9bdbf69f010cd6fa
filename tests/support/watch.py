"""A consumer under observation: what it was told, in which states its books were, and whether
those it called LIVE were right.

`Watch` is stepped by the test. `python -m tests.support.watch VENUE` is the same as a process of
its own, on another host say: it prints `joined`, then five times a second a line `state`, and at
SIGTERM keeps the sums of its books in a file. A book's sum is that of all its levels; it is
right where a consumer that lost nothing had the same sum at the same number of the instrument.
"""

from __future__ import annotations

import argparse
import json
import pickle
import signal
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from tapecast import (
    Bbo,
    Book,
    BookState,
    Feed,
    Gap,
    Instrument,
    Status,
    StatusReason,
    StatusState,
    Trade,
)
from tapecast.runtime import config as configuration
from tapecast.runtime.settings import Config
from tests.support.processes import Child, until

__all__ = ["Sums", "Watch", "load_sums", "sum_of", "watching", "wrong"]

Sums = dict[tuple[str, int], set[int]]
"""(instrument, its number) -> sums of the books there, over all sessions."""


def sum_of(book: Book) -> int:
    """Return the sum of a book's levels."""
    return zlib.crc32(book.ask_levels().tobytes(), zlib.crc32(book.bid_levels().tobytes()))


def wrong(books: Sums, truth: Sums) -> list[tuple[str, int]]:
    """Return where books were called LIVE that were not those of a consumer that lost nothing."""
    return [place for place, sums in books.items() if not sums <= truth.get(place, set())]


class Watch:
    """A feed of one venue."""

    def __init__(self, venue: str, config: Config) -> None:
        """Join."""
        self.feed = Feed([venue], config=config, books=True)
        self.events: Counter[str] = Counter()
        self.told: list[Status | Gap] = []
        self.sums: Sums = {}
        """Of the books that were called LIVE."""
        self.all_sums: Sums = {}
        """Of all books that were handed out: where nothing was lost, they are right whatever
        they were called.
        """
        self.states: Counter[BookState] = Counter()
        """States in which books were handed out."""
        self.first_live: dict[str, bool] = {}
        """By instrument, whether the first book handed out was LIVE."""
        for kind in (Trade, Book, Bbo, Instrument, Status, Gap):
            self.feed.on(kind, self._take)

    def _take(self, event: Trade | Book | Bbo | Instrument | Status | Gap) -> None:
        self.events[type(event).__name__] += 1
        if isinstance(event, Status | Gap):
            self.told.append(event)
        elif isinstance(event, Book):
            self.states[event.state] += 1
            self.first_live.setdefault(event.instrument, event.state == BookState.LIVE)
            place, its_sum = (event.instrument, event.instrument_seq), sum_of(event)
            self.all_sums.setdefault(place, set()).add(its_sum)
            if event.state == BookState.LIVE:
                self.sums.setdefault(place, set()).add(its_sum)

    def step(self, seconds: float = 0.01) -> None:
        """Take events for a moment."""
        self.feed.run(seconds)

    @property
    def data(self) -> int:
        """Market data events so far."""
        return self.events["Trade"] + self.events["Book"] + self.events["Bbo"]

    def books(self) -> dict[str, Book]:
        """Return the books as they are, by instrument."""
        found = {name: self.feed.book(name) for name in self.feed.instruments}
        return {name: book for name, book in found.items() if book is not None}

    def live(self) -> int:
        """Return how many books are LIVE."""
        return sum(book.state == BookState.LIVE for book in self.books().values())

    def standing(self) -> dict[str, tuple[int, int]]:
        """Return (number, sum) of every book that is LIVE."""
        books = self.books().items()
        return {
            name: (book.instrument_seq, sum_of(book))
            for name, book in books
            if book.state == BookState.LIVE
        }

    def statuses(self, state: StatusState, reason: StatusReason | None = None) -> list[Status]:
        """Return the statuses of one kind so far."""
        found = [one for one in self.told if isinstance(one, Status) and one.state == state]
        return [one for one in found if reason is None or one.reason == reason]

    def gaps(self) -> list[Gap]:
        """Return the gaps told so far."""
        return [one for one in self.told if isinstance(one, Gap)]

    def close(self) -> None:
        """Leave."""
        self.feed.close()


def watching(
    folder: Path,
    venue: str,
    settings: Mapping[str, object],
    name: str,
    prefix: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Child:
    """Start a watch as a process, and return once it has joined; `prefix` comes before the
    command.
    """
    words = [f"{key}={value}" for key, value in settings.items()]
    command = [
        *prefix,
        sys.executable,
        "-m",
        "tests.support.watch",
        venue,
        *words,
        "--sums",
        str(folder / f"{name}.sums"),
    ]
    child = Child(command, folder, name, environ or {})
    until(lambda: child.lines("joined") or not child.running, what=f"{name} to join")
    return child


def load_sums(child: Child, *, live: bool = True) -> Sums:
    """End a watch that runs as a process, and return the sums of its LIVE books, or of all that
    it was handed.
    """
    child.end()
    with child.out.with_suffix(".sums").open("rb") as file:
        found: tuple[Sums, Sums] = pickle.load(file)
    return found[0 if live else 1]


def _state(watch: Watch) -> dict[str, object]:
    gaps = watch.gaps()
    return {
        "event": "state",
        "live": watch.live(),
        "books": len(watch.books()),
        "data": watch.data,
        "gaps": len(gaps),
        "statuses": dict(
            Counter(
                f"{one.state.name} {one.reason.name}"
                for one in watch.told
                if isinstance(one, Status)
            )
        ),
        "standing": watch.standing(),
        "stats": msgspec.to_builtins(watch.feed.stats),
    }


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _run(watch: Watch, stopped: Callable[[], bool]) -> None:
    due = time.monotonic()
    while not stopped():
        watch.step(0.05)
        if time.monotonic() >= due:
            _say(_state(watch))
            due = time.monotonic() + 0.2


def main() -> None:
    """Watch until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("venue")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--sums", type=Path, required=True)
    args = parser.parse_args()
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    watch = Watch(
        args.venue, configuration.load(dict(word.split("=", 1) for word in args.settings))
    )
    _say({"event": "joined"})
    _run(watch, lambda: bool(stopping))
    _say(_state(watch))
    with args.sums.open("wb") as file:
        pickle.dump((watch.sums, watch.all_sums), file)
    watch.close()


if __name__ == "__main__":
    main()
