"""The page of faults is complete and true: every row, tests that exist, and no test of a fault
that the page does not name.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = [*range(14, 36), *range(46, 49)]
TEST = re.compile(r"^(?:async )?def (test_\w+)\(", re.M)


def rows() -> dict[int, tuple[str, str, str]]:
    """Return the rows of the page: number to fault, behaviour and tests."""
    out = {}
    for line in (ROOT / "docs" / "faults.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].isdigit():
            assert int(cells[0]) not in out, line
            out[int(cells[0])] = (cells[1], cells[2], cells[3])
    return out


def test_every_row_of_the_fault_table_is_on_the_page() -> None:
    """Rows 14 to 35 and 46 to 48, each with fault and behaviour, and with tests unless the
    behaviour says why there are none.
    """
    found = rows()
    assert list(found) == ROWS
    for number, (fault, behaviour, tests) in found.items():
        assert fault, number
        assert behaviour, number
        assert tests or "brings its tests" in behaviour, number


def test_every_test_on_the_page_exists() -> None:
    """By its name, anywhere in the tests."""
    existing = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in TEST.findall(file.read_text("utf-8"))
    }
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "faults.md").read_text("utf-8")))
    assert named <= existing, named - existing


def test_every_test_of_a_fault_is_on_the_page() -> None:
    """A behaviour that is tested is one that users can read about."""
    here = {
        name
        for file in Path(__file__).parent.glob("test_*.py")
        for name in TEST.findall(file.read_text("utf-8"))
    }
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "faults.md").read_text("utf-8")))
    assert here - named - {name for name in here if "page" in name or "row_of_the" in name} == set()
