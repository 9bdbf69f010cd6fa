"""What every benchmark shares: interleaved rounds, medians, ratios, targets, and a header that
names machine and versions.

A benchmark builds `Suite`s (ways of doing the same work, timed here) or `Table`s (figures it
took itself) for `main` to print. How to read the figures: `benchmarks/METHOD.md`. A target that
is missed is printed as such; it does not change the exit code.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import Table, Target, installed, machine, name_of_run, render, save, to_json

__all__ = [
    "Case",
    "Goal",
    "Measured",
    "Options",
    "Suite",
    "Table",
    "Target",
    "captures",
    "installed",
    "main",
    "measure",
    "recorded_file",
    "us",
]


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    smoke: bool
    """Run everything once on little data: does the benchmark still work?"""
    rounds: int
    json: bool
    only: str = ""
    """Run only suites whose corpus contains this text."""


@dataclass(frozen=True)
class Case:
    """One way of doing the work. `prepare` runs outside the timer and its result is what `run`
    gets.
    """

    name: str
    prepare: Callable[[], object]
    run: Callable[[object], object]
    work: int = 0
    """Units this case handles where it gets a part of the suite's work only; 0 = all of it."""
    nbytes: int = 0
    """Input bytes of that part."""


@dataclass(frozen=True)
class Goal:
    """What a case is meant to reach: at least `ratio` times the time of `base`, at most
    `at_most` times it, or a rate; none of the three: the ratio is printed, that is all.
    """

    case: str
    ratio: float | None = None
    base: str = ""
    """Compare with this case; empty = the first."""
    at_most: float | None = None
    per_second: float | None = None


@dataclass(frozen=True)
class Suite:
    """Cases that do the same work on one corpus; the first is what the others are compared with."""

    corpus: str
    work: int
    """How many units one run of a case handles."""
    unit: str
    cases: list[Case]
    notes: list[str] = field(default_factory=list)
    nbytes: int = 0
    """Input bytes of one run; with them a rate in MB/s is printed."""
    goals: list[Goal] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """One case's figures: ns per unit, and its median over that of the suite's first case, from
    the same rounds.
    """

    name: str
    median_ns: float
    least_ns: float
    ratio: float
    rounds_ns: list[float]


def measure(suite: Suite, rounds: int) -> list[Measured]:
    """Run the cases by turns (A B C, A B C, …), one unmeasured round first, garbage collection
    off inside the timer.
    """
    times: dict[str, list[float]] = {case.name: [] for case in suite.cases}
    for number in range(rounds + 1):
        for case in suite.cases:
            state = case.prepare()
            gc.collect()
            gc.disable()
            start = time.perf_counter_ns()
            case.run(state)
            taken = time.perf_counter_ns() - start
            gc.enable()
            if number > 0:
                times[case.name].append(taken / (case.work or suite.work))
    base = times[suite.cases[0].name]
    return [
        Measured(name, statistics.median(own), min(own), _ratio(own, base), own)
        for name, own in times.items()
    ]


def main(
    question: str,
    build: Callable[[Options], Iterable[Suite | Table]],
    distributions: Iterable[str] = (),
    *,
    rounds: int = 9,
) -> int:
    """Parse the command line, run every suite and print figures; `distributions` are the
    packages whose versions matter.
    """
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--smoke", action="store_true", help="one round on little data, for CI")
    parser.add_argument(
        "--rounds", type=int, default=rounds, help=f"measured rounds (default {rounds})"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only suites whose corpus contains this text"
    )
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results as well"
    )
    arguments = parser.parse_args()
    options = Options(
        arguments.smoke, 1 if arguments.smoke else arguments.rounds, arguments.json, arguments.only
    )
    header = machine(distributions)
    texts = [question, "  ".join(f"{name} {value}" for name, value in header.items())]
    tables: list[Table] = []
    if not options.json:
        print("\n".join(texts))
    for item in build(options):
        if isinstance(item, Suite) and options.only not in item.corpus:
            continue
        tables.append(_measured(item, options.rounds) if isinstance(item, Suite) else item)
        texts.append(render(tables[-1]))
        if not options.json:
            print(texts[-1], flush=True)
    document = to_json(question, header, options.rounds, tables)
    if options.json:
        print(document)
    if arguments.save:
        paths = save(name_of_run(), document, "\n".join(texts) + "\n")
        print(*paths, sep="\n", file=sys.stderr)
    return 0


def us(nanoseconds: float) -> float:
    """Return microseconds."""
    return nanoseconds / 1e3


def captures() -> Path:
    """Return the folder of recordings, as the tests find it; leave with a message where it is
    absent.
    """
    default = Path(__file__).resolve().parents[1].parent / "shared" / "captures"
    folder = Path(os.environ.get("TAPECAST_CAPTURES", default))
    if not folder.is_dir():
        print(f"recordings absent: {folder} (set TAPECAST_CAPTURES)", file=sys.stderr)
        raise SystemExit(0 if "--smoke" in sys.argv else 1)
    return folder


def recorded_file(name: str) -> Path:
    """Return a recording by folder and file name; leave with a message where it is absent, as
    recordings come and go.
    """
    path = captures() / name
    if not path.is_file():
        print(f"recording absent: {path}", file=sys.stderr)
        raise SystemExit(0 if "--smoke" in sys.argv else 1)
    return path


def _measured(suite: Suite, rounds: int) -> Table:
    """Measure a suite and lay its figures out."""
    measured = measure(suite, rounds)
    columns = [suite.unit, "median ns", "least ns", "per second", "ratio"]
    rows: list[list[object]] = []
    if suite.nbytes:
        columns.insert(4, "MB/s")
    for case, m in zip(suite.cases, measured, strict=True):
        row: list[object] = [
            m.name,
            round(m.median_ns, 1),
            round(m.least_ns, 1),
            round(1e9 / m.median_ns),
            round(m.ratio, 2),
        ]
        if suite.nbytes:
            share = (case.nbytes or suite.nbytes) / (case.work or suite.work)
            row.insert(4, round(share / m.median_ns * 1e3, 1))
        rows.append(row)
    by_name = {m.name: m for m in measured}
    targets = [_target(goal, suite.unit, by_name, measured[0]) for goal in suite.goals]
    title = f"{suite.corpus}: {suite.work:,} {suite.unit}s, {rounds} round(s)"
    return Table(title, columns, rows, suite.notes, targets)


def _target(goal: Goal, unit: str, measured: dict[str, Measured], first: Measured) -> Target:
    own = measured[goal.case]
    if goal.per_second is not None:
        return Target(goal.case, 1e9 / own.median_ns, at_least=goal.per_second, unit=f"{unit}s/s")
    base = measured[goal.base] if goal.base else first
    ratio = _ratio(own.rounds_ns, base.rounds_ns)
    return Target(
        f"{own.name} ÷ {base.name}", ratio, at_least=goal.ratio, at_most=goal.at_most, unit="×"
    )


def _ratio(own: list[float], base: list[float]) -> float:
    """Return the median over the rounds of one case's time over another's."""
    return statistics.median(mine / first for mine, first in zip(own, base, strict=True))
