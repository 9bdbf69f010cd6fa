"""The rows of the reliability table: what goes wrong, what must hold, and what was measured
while it held.

A row is a function of a folder and of whether it is to be short (for CI). It raises
AssertionError where what must hold does not. `tests/reliability/test_rows.py` runs every row
short; `python -m tests.reliability` runs them at length and writes the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tapecast import BookState
from tapecast.consumers.feed.stats import FeedStats
from tests.reliability.stage import BTC, Stage
from tests.support.watch import Watch

__all__ = ["ROWS", "Row", "ms", "row"]


class Row(NamedTuple):
    """A line of the table."""

    name: str
    holds: str
    run: Callable[[Path, bool], str]
    """Returns what was measured."""


ROWS: list[Row] = []


def row(
    name: str, holds: str
) -> Callable[[Callable[[Path, bool], str]], Callable[[Path, bool], str]]:
    """Enter a function into the table."""

    def enter(run: Callable[[Path, bool], str]) -> Callable[[Path, bool], str]:
        ROWS.append(Row(name, holds, run))
        return run

    return enter


def ms(nanoseconds: float | None) -> str:
    """Return a time as text."""
    return "-" if nanoseconds is None else f"{nanoseconds / 1e6:.1f} ms"


def _pace(short: bool) -> str:
    return "40" if short else "8"


def _figures(stats: FeedStats, subject: Watch) -> str:
    asked = f"{stats.requests:,} requests, {stats.recovery.get('bytes', 0):,} bytes"
    suspect = (
        f"{subject.states[BookState.SUSPECT]} of {sum(subject.states.values()):,} book events"
        " SUSPECT"
    )
    return (
        f"{stats.repaired:,} repaired, p50 {ms(stats.repair_p50_ns)}, p99"
        f" {ms(stats.repair_p99_ns)}; {asked}; {suspect}"
    )


def _lossy(
    folder: Path,
    short: bool,
    ways: tuple[Mapping[str, float], ...],
    *,
    keys: bool = False,
    wire: Mapping[str, float] | None = None,
    seed: int = 1,
) -> tuple[FeedStats, Watch, str]:
    """Play a recording over a lossy way; the books are right all the time, and equal at the end."""
    # In short runs, which share the machine with others, the subject is more patient than in the
    # field.
    with Stage(
        folder,
        BTC,
        speed=_pace(short),
        ways=ways,
        keys=keys,
        wire=wire,
        patience_ms=5000 if short else 200,
        seed=seed,
    ) as stage:
        stage.live()
        stage.over()
        stage.same_books()
        assert stage.witness.feed.stats.lost == 0
        stats, subject = stage.subject.feed.stats, stage.subject
        lines = stage.passed()["lines"]
        sent = lines[0]["taken"]
        gone = " and ".join(
            f"{line.get('lost', 0) + line.get('lost_in_bursts', 0):,}" for line in lines
        )
        return stats, subject, f"{sent:,} packets a line, {gone} lost on the way"


_WHOLE = (
    "nothing lost for good; books equal the feeder's; none LIVE and wrong; SUSPECT only while a"
    " hole is open"
)


@row(
    "1 % random loss on one line of two",
    "nothing lost, nothing asked for; books equal the feeder's at the end",
)
def one_line(folder: Path, short: bool) -> str:
    """The other line has it."""
    stats, subject, said = _lossy(folder, short, ({"loss": 0.01}, {}))
    assert (stats.lost, stats.gaps) == (0, 0)
    if short:
        # On a busy machine the other line may be later than the reorder window, and then its
        # packet is asked for.
        return said
    assert (stats.repaired, stats.requests) == (0, 1), "the books at the start, and nothing else"
    assert set(subject.states) == {BookState.LIVE}
    return f"{said}; 0 requests"


def _random_loss(share: float) -> Callable[[Path, bool], str]:
    def run(folder: Path, short: bool) -> str:
        # With this seed five packets or so are lost on both lines at once where 1 % are lost on
        # each.
        stats, subject, said = _lossy(folder, short, ({"loss": share}, {"loss": share}), seed=14)
        assert (stats.lost, stats.gaps) == (0, 0)
        assert stats.repaired > 0
        return f"{said}; {_figures(stats, subject)}"

    return run


for _share in (0.01, 0.05, 0.10):
    row(f"{_share * 100:.0f} % random loss on both lines", _WHOLE)(_random_loss(_share))


@row("Bursts: 0.5 % of packets begin a run of 20 losses, on both lines", _WHOLE)
def bursts(folder: Path, short: bool) -> str:
    """As a full switch buffer loses."""
    way = {"burst": 0.005, "burst_length": 20}
    stats, subject, said = _lossy(folder, short, (way, way))
    assert (stats.lost, stats.gaps) == (0, 0)
    assert stats.repaired > 0
    return f"{said}; {_figures(stats, subject)}"


@row(
    "20 % of packets up to 3 ms late, on both lines",
    "put in order; nothing lost; books equal the feeder's at the end",
)
def reordering(folder: Path, short: bool) -> str:
    """Within the reorder window of 5 ms."""
    way = {"reorder": 0.2, "delay_s": 0.003}
    stats, _, said = _lossy(folder, short, (way, way))
    assert (stats.lost, stats.gaps) == (0, 0)
    assert stats.reordered > 0
    return f"{said}; {stats.reordered:,} waited for their turn, {stats.repaired} repaired"


@row(
    "20 % of packets twice, on both lines", "each applied once; books equal the feeder's at the end"
)
def duplication(folder: Path, short: bool) -> str:
    """Every packet comes two to four times."""
    stats, _, said = _lossy(folder, short, ({"duplicate": 0.2}, {"duplicate": 0.2}))
    assert (stats.lost, stats.repaired, stats.gaps) == (0, 0, 0)
    return f"{said}; {stats.duplicates:,} duplicates dropped"


@row(
    "2 % of packets with flipped bits, 1 % cut short, on both lines, with keys",
    "every one dropped and counted; nothing lost; books equal the feeder's at the end",
)
def corruption(folder: Path, short: bool) -> str:
    """Damage that a UDP checksum would catch on a real network, and here nothing but the tag
    does.
    """
    way = {"corrupt": 0.02, "truncate": 0.01}
    stats, subject, said = _lossy(folder, short, (way, way), keys=True)
    assert (stats.lost, stats.gaps) == (0, 0)
    assert stats.invalid.get("bad_auth", 0) > 0
    dropped = ", ".join(f"{name} {count}" for name, count in sorted(stats.invalid.items()))
    return f"{said}; dropped: {dropped}; {_figures(stats, subject)}"


@row(
    "5 % loss on both lines, and the recovery connection cut, damaged, delayed and stalled",
    "what cannot be had in 200 ms is a Gap; no book LIVE and wrong; books equal the feeder's at"
    " the end",
)
def broken_recovery(folder: Path, short: bool) -> str:
    """Faults of TCP below the recovery conversation, with keys, since a stream has no checksum
    against the relay.
    """
    way = {"loss": 0.05}
    wire = {"cut": 0.05, "corrupt": 0.03, "stall": 0.01, "delay_s": 0.01, "refuse": 0.1}
    stats, subject, said = _lossy(folder, short, (way, way), keys=True, wire=wire)
    assert sum(gap.missing for gap in subject.gaps()) == stats.lost
    assert stats.repaired > 0
    trouble = ", ".join(
        f"{name} {count}"
        for name, count in sorted(stats.recovery.items())
        if name not in ("bytes", "answers")
    )
    return f"{said}; {stats.lost} given up; {trouble}; {_figures(stats, subject)}"
