"""`tests.compare_output`: what differs is seen, named and an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compare_output import Case, Output, Side, compared, main, sample, summed_up
from tests.support.captures import Recording

LINE = '{"ts": 1646311922.1, "conn": "ws.1", "url": null, "kind": "recv", "raw": "{}"}\n'


def built(folder: Path, script: str) -> Path:
    """Make a checkout whose `tapecast` is a shell script."""
    binary = folder / ".venv" / "bin" / "tapecast"
    binary.parent.mkdir(parents=True)
    binary.write_text(
        '#!/bin/sh\n[ "$1" = config ] && { echo "venues.okx.enabled = true"; exit; }\n' + script
    )
    binary.chmod(0o755)
    return folder


def recorded(folder: Path, venue: str = "okx", name: str = "new.jsonl") -> Recording:
    """Write a recording."""
    path = folder / venue / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(LINE)
    return Recording(path, venue, "")


def test_equal_output_is_equal_and_a_changed_byte_is_not(tmp_path: Path) -> None:
    """Bytes and exit code are compared, case by case."""
    one, same, other, failing = (
        Side(built(tmp_path / name, script))
        for name, script in {
            "one": "echo 1\n",
            "same": "echo 1\n",
            "other": "echo 2\n",
            "failing": "echo 1; exit 3\n",
        }.items()
    )
    recording = recorded(tmp_path)
    assert [case.equal for case in compared(one, same, [recording])] == [True, True]
    decoded, _ = compared(one, other, [recording])
    assert not decoded.equal
    assert decoded.line().startswith("DIFFERENT decode okx/new.jsonl: ")
    assert not any(case.equal for case in compared(one, failing, [recording]))


def test_a_venue_that_the_other_commit_has_not_is_decoded_as_that_of_its_folder(
    tmp_path: Path,
) -> None:
    """A recording may have become a venue's own meanwhile; it is not played there."""
    side = Side(built(tmp_path / "side", 'echo "$3"\n'))
    recording = recorded(tmp_path)
    renamed = Recording(recording.path, "okcoin", "")
    assert side.decode(renamed) == side.decode(recording)
    assert len(list(compared(side, side, [renamed]))) == 1


def test_the_sample_is_the_smallest_stream_of_each_venue(tmp_path: Path) -> None:
    """Cut rows, single messages and recordings of nobody's venue are not played."""
    small, large = recorded(tmp_path), recorded(tmp_path, name="large.jsonl")
    large.path.write_text(LINE * 2)
    reduced = recorded(tmp_path, "upbit")
    reduced.path.write_text(LINE.replace("recv", "reduced"))
    nobody = Recording(small.path, "", "")
    assert sample([large, small, reduced, nobody]) == [small]


@pytest.mark.parametrize(("digests", "code"), [([], 1), (["a"], 0), (["a", "b"], 1)])
def test_a_difference_or_nothing_compared_is_a_failure(digests: list[str], code: int) -> None:
    """Exit code 1."""
    ours = Output(0, "a")
    assert summed_up([Case("decode", ours, Output(0, digest)) for digest in digests]) == code


def test_a_revision_that_is_none_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, with what git said."""
    assert main(["no-such-revision"]) == 2
    assert "no-such-revision" in capfd.readouterr().err
