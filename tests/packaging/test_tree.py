"""One import root: the six links of `tapecast/`, the names that nothing imports, and checkers
that see through the links.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.tree import ROOMS, ROOT, check

BARE = (
    "from protocol.codec import decode",
    "import runtime",
    "from feeder import offline",
    "import consumers.feed.feed",
    "from monitors.model import Model",
    "from config import defaults",
)
"""Imports that work in a clone and would take a user's own modules anywhere else."""


def test_the_six_links_are_tracked_and_lead_to_the_folders_at_the_top() -> None:
    """Git keeps them as relative links, so every clone has the one import root."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    words = ["git", "ls-files", "--stage", "--", *(f"tapecast/{room}" for room in ROOMS)]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["120000"] * len(ROOMS)
    for room in ROOMS:
        link = ROOT / "tapecast" / room
        assert (link.readlink(), link.resolve()) == (Path("..") / room, ROOT / room)


@pytest.mark.parametrize("line", BARE)
@pytest.mark.parametrize("folder", ["protocol", "tests", "docs/examples"])
def test_a_bare_import_is_an_error_of_the_linter(tmp_path: Path, line: str, folder: str) -> None:
    """`import protocol` belongs to whoever runs a script; the message names the root."""
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (tmp_path / folder / "planted.py").write_text(f"{line}\n")
    done = check(tmp_path, "ruff", "check", "--no-cache", "--select", "TID251", ".")
    assert done.returncode == 1
    assert "TID251" in done.stdout
    assert "import tapecast." in done.stdout
    assert "TID251" in check(tmp_path, "ruff", "check", "--no-cache", ".").stdout


def test_a_type_error_in_a_room_is_found_through_its_link(tmp_path: Path) -> None:
    """As configured, mypy checks the rooms strictly, though it is told of `tapecast` alone."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tapecast").mkdir()
    (tmp_path / "tapecast" / "__init__.py").touch()
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").touch()
        (tmp_path / "tapecast" / room).symlink_to((ROOT / "tapecast" / room).readlink())
        (tmp_path / room / "planted.py").write_text("def word():\n    return 1\n")
    done = check(tmp_path, "mypy", "--cache-dir", os.devnull)
    for room in ROOMS:
        assert f"{room}/planted.py:1: error: Function is missing a return type" in done.stdout
