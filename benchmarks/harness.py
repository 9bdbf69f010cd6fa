"""What every benchmark shares: interleaved rounds, medians, ratios, and a header that names machine, versions and corpus.

A benchmark builds one `Suite` per corpus and hands them to `main`. How to read the figures: `benchmarks/METHOD.md`. Nothing here
decides pass or fail.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

__all__ = ["Case", "Measured", "Options", "Suite", "captures", "installed", "main", "measure"]


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    smoke: bool
    """Run everything once on little data: does the benchmark still work?"""
    rounds: int
    json: bool


@dataclass(frozen=True)
class Case:
    """One way of doing the work. `prepare` runs outside the timer and its result is what `run` gets."""

    name: str
    prepare: Callable[[], object]
    run: Callable[[object], object]


@dataclass(frozen=True)
class Suite:
    """Cases that do the same work on one corpus; the first is what the others are compared with."""

    corpus: str
    work: int
    """How many units one run of a case handles."""
    unit: str
    cases: list[Case]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """One case's figures: ns per unit, and its median over that of the suite's first case, from the same rounds."""

    name: str
    median_ns: float
    least_ns: float
    ratio: float


def measure(suite: Suite, rounds: int) -> list[Measured]:
    """Run the cases by turns (A B C, A B C, …), one unmeasured round first, garbage collection off inside the timer."""
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
                times[case.name].append(taken / suite.work)
    base = times[suite.cases[0].name]
    return [
        Measured(
            name, statistics.median(own), min(own), statistics.median(mine / first for mine, first in zip(own, base, strict=True))
        )
        for name, own in times.items()
    ]


def main(question: str, build: Callable[[Options], Iterable[Suite]], distributions: Iterable[str] = ()) -> int:
    """Parse the command line, run every suite and print figures; `distributions` are the packages whose versions matter."""
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--smoke", action="store_true", help="one round on little data, for CI")
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds (default 9)")
    arguments = parser.parse_args()
    options = Options(arguments.smoke, 1 if arguments.smoke else arguments.rounds, arguments.json)
    header = machine(distributions)
    results = []
    if not options.json:
        print(question)
        print("  ".join(f"{name} {value}" for name, value in header.items()))
    for suite in build(options):
        measured = measure(suite, options.rounds)
        results.append({**_described(suite), "cases": [vars(m) for m in measured]})
        if not options.json:
            _print(suite, measured, options.rounds)
    if options.json:
        print(json.dumps({"question": question, "machine": header, "rounds": options.rounds, "suites": results}))
    return 0


def machine(distributions: Iterable[str]) -> dict[str, str]:
    """Return processor, cores, load, and the versions of system, Python and the named packages."""
    out = {
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }
    for name in distributions:
        out[name] = installed(name) or "absent"
    return out


def installed(distribution: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def captures() -> Path:
    """Return the folder of recordings, as the tests find it; leave with a message where it is absent."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "captures"
    folder = Path(os.environ.get("TAPECAST_CAPTURES", default))
    if not folder.is_dir():
        print(f"recordings absent: {folder} (set TAPECAST_CAPTURES)", file=sys.stderr)
        raise SystemExit(0 if "--smoke" in sys.argv else 1)
    return folder


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    )
    return names[0] if names else platform.machine()


def _described(suite: Suite) -> dict[str, object]:
    return {"corpus": suite.corpus, "work": suite.work, "unit": suite.unit, "notes": suite.notes}


def _print(suite: Suite, measured: list[Measured], rounds: int) -> None:
    print(f"\n{suite.corpus}: {suite.work:,} {suite.unit}s, {rounds} round(s)")
    width = max(len(m.name) for m in measured)
    print(f"  {'':{width}}  {'median':>10}  {'least':>10}  {'per second':>12}  {'ratio':>7}")
    for m in measured:
        rate = 1e9 / m.median_ns
        print(f"  {m.name:{width}}  {m.median_ns:>7.1f} ns  {m.least_ns:>7.1f} ns  {rate:>12,.0f}  {m.ratio:>6.2f}x")
    for note in suite.notes:
        print(f"  {note}")
