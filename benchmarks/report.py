"""Tables of figures and how they are shown: as text, as JSON, and as files in
`benchmarks/results`.

The layout of those files is told in `benchmarks/results/README.md`. Nothing here measures
anything.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

__all__ = ["Table", "Target", "installed", "machine", "name_of_run", "render", "save", "to_json"]

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Target:
    """A figure beside the table, with a bound (`at_least` or `at_most`) or without."""

    text: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure is within its bound."""
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def __str__(self) -> str:
        if self.at_least is None and self.at_most is None:
            return f"{self.text} {_number(self.value)} {self.unit}"
        bound = (
            f"at least {_number(self.at_least)}"
            if self.at_least is not None
            else f"at most {_number(self.at_most)}"
        )
        return (
            f"target {'met' if self.met else 'MISSED'}: {self.text} {_number(self.value)}"
            f" {self.unit}, {bound} {self.unit}"
        )


@dataclass(frozen=True)
class Table:
    """Figures of one corpus: the first column names the case, the others hold numbers or short
    texts.
    """

    title: str
    columns: list[str]
    rows: list[list[object]]
    notes: Sequence[str] = ()
    targets: list[Target] = field(default_factory=list)


def render(table: Table) -> str:
    """Return a table as text, numbers to the right."""
    cells = [table.columns, *[[_number(cell) for cell in row] for row in table.rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    lines = ["", table.title]
    for row in cells:
        rest = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join((f"  {row[0]:{widths[0]}}", *rest)))
    lines += [f"  {note}" for note in table.notes]
    lines += [f"  {target}" for target in table.targets]
    return "\n".join(lines)


def to_json(question: str, header: dict[str, str], rounds: int, tables: Iterable[Table]) -> str:
    """Return a whole run as one JSON object: each row of a table is an object by the names of
    the columns.
    """
    return json.dumps(
        {
            "question": question,
            "machine": header,
            "rounds": rounds,
            "tables": [
                {
                    "title": table.title,
                    "rows": [
                        dict(zip(["case", *table.columns[1:]], row, strict=True))
                        for row in table.rows
                    ],
                    "notes": list(table.notes),
                    "targets": [{**vars(target), "met": target.met} for target in table.targets],
                }
                for table in tables
            ],
        },
        ensure_ascii=False,
        indent=1,
    )


def save(name: str, document: str, text: str) -> list[str]:
    """Write `<name>.json` and `<name>.txt` to the results folder and return their paths."""
    RESULTS.mkdir(exist_ok=True)
    out = []
    for suffix, content in ((".json", document + "\n"), (".txt", text)):
        path = RESULTS / f"{name}{suffix}"
        path.write_text(content, encoding="utf-8")
        out.append(str(path.relative_to(RESULTS.parents[1])))
    return out


def name_of_run() -> str:
    """Return the name of the benchmark that runs: its file's, without suffix."""
    return Path(getattr(sys.modules["__main__"], "__file__", None) or sys.argv[0]).stem


def machine(distributions: Iterable[str]) -> dict[str, str]:
    """Return the date, processor, cores, load, and the versions of system, Python and the named
    packages.
    """
    out = {
        "date": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
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


def _number(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return (
            f"{value:,.0f}"
            if abs(value) >= 10_000
            else f"{value:,.2f}"
            if abs(value) < 100
            else f"{value:,.1f}"
        )
    return "–" if value is None else str(value)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if "model name" in line
        ]
        if info.exists()
        else []
    )
    return names[0] if names else platform.machine()
