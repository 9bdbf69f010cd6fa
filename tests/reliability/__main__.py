"""Run every row of the reliability table at length and write it: `python -m tests.reliability`,
or `make reliability`.

`--short` runs the rows as CI does, `--only TEXT` those whose name holds a text; then the table
is printed and not written. A row that does not hold is shown as such, and the exit code is 1.
Takes about a quarter of an hour, and wants the machine for itself.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest

from benchmarks.report import machine
from tests.reliability import chaos, joins, struck
from tests.reliability.rows import ROWS, Row
from tests.support.processes import ROOT

TABLE = ROOT / "docs" / "reliability.md"
_HEAD = """# What holds when something fails

Each row is a fault put into the whole set-up by a program: a venue replayed from a recording, its feeder, a relay that damages
packets by a seed, consumers in processes of their own. What must hold is asserted; what was measured stands beside it.
`make reliability` runs the rows and writes this page; CI runs each in a short form (`tests/reliability/`). How recovery works is
told in [recovery.md](recovery.md), keys and senders in [network.md](network.md), and what to do about losses in
[troubleshooting.md](troubleshooting.md). A longer chaos run: `python -m tests.reliability.chaos` (half an hour, seed from the
clock).

"Lost on the way" is what the relay took away; "given up" is what no line brought and no recovery service gave within 200 ms,
which is told as a `Gap`. Repair times are those of a consumer that shares a Python process with another one, by turns of 3 ms.
"None LIVE and wrong" is checked by sums over all levels of every book event, against a consumer that lost nothing.
"""


def _run(row: Row, short: bool) -> tuple[str, bool]:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tapecast-row-") as folder:
        try:
            said, held = row.run(Path(folder), short), True
        except pytest.skip.Exception as reason:
            said, held = f"not run here: {reason}", True
        except Exception:
            traceback.print_exc()
            said, held = "**did not hold in this run**", False
    sys.stderr.write(
        f"{'ok  ' if held else 'FAIL'} {time.monotonic() - start:5.1f} s  {row.name}: {said}\n"
    )
    return said, held


def _prices() -> list[str]:
    lines = [
        "",
        "## What it costs",
        "",
        f"`{joins.BTC}` through feeder and consumer. Packets a second: the replay as fast as the",
        (
            "feeder takes it, from the first packet to the last, median of three. Latency: at ten"
            " times the recorded pace, from the"
        ),
        (
            "venue's complete frame at the feeder to the send call, and from there to the"
            " consumer's kernel buffer."
        ),
        "",
        "| on | packets/s | frame → send p50, p99 (us) | send → kernel p50, p99 (us) |",
        "|---|---:|---:|---:|",
    ]
    for name, settings, two_lines in joins.PRICES:
        with tempfile.TemporaryDirectory(prefix="tapecast-price-") as folder:
            runs = [
                joins.price(Path(folder) / str(n), settings, two_lines, "max") for n in range(3)
            ]
            paced = joins.price(Path(folder) / "paced", settings, two_lines, "10")
        fast = sorted(run["per_s"] for run in runs)[1]
        feeder = f"{paced['feeder_p50']:.0f}, {paced['feeder_p99']:.0f}"
        lines.append(
            f"| {name} | {fast:,.0f} | {feeder} | {paced['wire_p50']:.0f},"
            f" {paced['wire_p99']:.0f} |"
        )
        sys.stderr.write(lines[-1] + "\n")
    return lines


def main() -> int:
    """Run and write."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", default="", metavar="TEXT")
    args = parser.parse_args()
    assert chaos.__doc__
    assert struck.__doc__
    rows = [row for row in ROWS if args.only in row.name]
    results = [(row, *_run(row, args.short)) for row in rows]
    versions = "; ".join(
        f"{name} {value}" for name, value in machine(["numpy", "picows", "uvloop"]).items()
    )
    table = [
        _HEAD,
        f"Measured: {versions}.",
        "",
        "| what goes wrong | what must hold | measured |",
        "|---|---|---|",
    ]
    table += [f"| {row.name} | {row.holds} | {said} |" for row, said, _ in results]
    whole = not args.short and not args.only
    if whole:
        table += _prices()
    text = "\n".join(table) + "\n"
    if whole:
        TABLE.write_text(text)
    else:
        sys.stdout.write(text)
    return 0 if all(held for _, _, held in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
