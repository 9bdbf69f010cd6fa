"""Every row of the reliability table in its short form; the lossy ways one after the other in a
single run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.reliability import chaos, joins, struck
from tests.reliability.rows import ROWS
from tests.reliability.stage import BTC, Stage
from tests.support.captures import captures

MODULES = (chaos, joins, struck)
"""Whose rows are entered by their import."""
LOSSY = [row.name for row in ROWS if row.run.__module__ == "tests.reliability.rows"]
WAYS: list[tuple[str, Mapping[str, float], Mapping[str, float]]] = [
    ("one line", {"loss": 0.01}, {}),
    ("both lines", {"loss": 0.1}, {"loss": 0.1}),
    ("bursts", {"burst": 0.01, "burst_length": 20}, {"burst": 0.01, "burst_length": 20}),
    ("disorder", {"reorder": 0.2, "delay_s": 0.003}, {"reorder": 0.2, "delay_s": 0.003}),
    ("copies", {"duplicate": 0.2}, {"duplicate": 0.2}),
    ("damage", {"corrupt": 0.05, "truncate": 0.02}, {"corrupt": 0.05, "truncate": 0.02}),
]


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.name not in LOSSY], ids=lambda row: row.run.__name__
)
def test_row(row: object, tmp_path: Path) -> None:
    """What must hold holds."""
    captures()
    assert row.run(tmp_path, True)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.name in LOSSY], ids=lambda row: row.name
)
def test_lossy_row(row: object, tmp_path: Path) -> None:
    """Each lossy way in a run of its own."""
    captures()
    assert row.run(tmp_path, True)  # type: ignore[attr-defined]


def test_one_way_after_the_other(tmp_path: Path) -> None:
    """Loss on one line and on both, bursts, disorder, copies, damage: nothing is lost for good,
    and every book is right.
    """
    captures()
    # The time to repair is longer here than in the field: a test machine may be busy.
    with Stage(tmp_path, BTC, speed="10", keys=True, settings={}, patience_ms=5000) as stage:
        stage.live()
        for name, line_a, line_b in WAYS:
            stage.faults((line_a, line_b))
            stage.more(1200)
            assert stage.subject.feed.stats.lost == 0, name
        stage.faults(({}, {}))
        stage.over()
        stage.same_books()
        stats = stage.subject.feed.stats
        assert (stats.lost, stats.gaps) == (0, 0)
        assert stats.repaired > 0
        assert stats.duplicates > 0
        assert stats.reordered > 0
        assert stats.invalid["bad_auth"] > 0
        assert len(stage.subject.sums) > 300
