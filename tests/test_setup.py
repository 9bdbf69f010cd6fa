"""The way from a clone to a running process: the prerequisites check and what `make run` hands
to the command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAMPS = (".created", ".locked", ".dev", ".package")


def script(path: Path, body: str) -> None:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def check(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the check with `path` as the only place where commands are found."""
    return subprocess.run(
        [str(ROOT / ".ci" / "prerequisites"), *words],
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Return a folder in which every prerequisite is found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("git", "make", "cc", "apt-get"):
        script(folder / name, "exit 0")
    script(folder / "python3", f'exec "{sys.executable}" "$@"')
    return folder


def test_a_complete_machine_passes(tools: Path) -> None:
    """Nothing is said where nothing is missing, and the interpreter is found."""
    done = check(tools)
    assert (done.returncode, done.stderr) == (0, "")
    assert check(tools, "--python").stdout.strip() == str(tools / "python3")


@pytest.mark.parametrize(
    ("command", "what", "package"),
    [("git", "git", "git"), ("make", "make", "make"), ("cc", "a C compiler", "gcc")],
)
def test_what_is_missing_is_named_with_its_fix(
    tools: Path, command: str, what: str, package: str
) -> None:
    """The line can be copied into the terminal."""
    (tools / command).unlink()
    done = check(tools)
    assert done.returncode == 2
    assert done.stderr == f"missing: {what}\n    sudo apt-get install {package}\n"


@pytest.mark.parametrize(
    ("manager", "line"), [("dnf", "sudo dnf install gcc"), ("brew", "brew install gcc")]
)
def test_the_fix_fits_the_systems_package_manager(tools: Path, manager: str, line: str) -> None:
    """apt, dnf and Homebrew are known."""
    (tools / "apt-get").unlink()
    (tools / "cc").unlink()
    script(tools / manager, "exit 0")
    assert line in check(tools).stderr


def test_a_python_that_is_too_old_does_not_count(tools: Path) -> None:
    """An interpreter that refuses the version question is as good as none."""
    script(tools / "python3", "exit 1")
    done = check(tools)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "missing: Python 3.11 or newer\n    sudo apt-get install python3 python3-venv python3-dev\n"
    )


def test_a_python_without_venv_or_headers_says_which_package_brings_them(tools: Path) -> None:
    """Distributions cut Python into pieces; both pieces are named."""
    script(tools / "python3", 'case "$2" in *version_info*) exit 0;; *) exit 1;; esac')
    done = check(tools)
    assert done.returncode == 2
    assert "sudo apt-get install python3-venv\n" in done.stderr
    assert "sudo apt-get install python3-dev\n" in done.stderr


def run(venv: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `make run` against an environment that is up to date and whose command prints its
    arguments.
    """
    if shutil.which("make") is None:
        pytest.skip("make absent")
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    for stamp in STAMPS:
        (venv / stamp).touch()
    script(
        venv / "bin" / "tapecast",
        'for word in "$@"; do echo "$word"; done; echo "LIMITED_MODE=$LIMITED_MODE"',
    )
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MAKELEVEL", "ARGS", "LIMITED_MODE")
    }
    return subprocess.run(
        ["make", "--no-print-directory", "run", f"VENV={venv}", *words],
        cwd=ROOT,
        env={**clean, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_make_run_starts_the_fleet(tmp_path: Path) -> None:
    """Without variables it is `tapecast up` and nothing else; an installed environment is not
    touched.
    """
    assert run(tmp_path / "venv").stdout == "up\nLIMITED_MODE=\n"


def test_make_run_replays_the_recordings_of_a_folder(tmp_path: Path) -> None:
    """The folder is handed on by name, spaces and all, and so is the speed; `tapecast up` looks
    into it.
    """
    folder = tmp_path / "my recordings"
    done = run(tmp_path / "venv", f"REPLAY={folder}", "SPEED=10")
    assert done.stdout.splitlines()[:-1] == ["up", "--replay", str(folder), "--speed", "10"]


@pytest.mark.parametrize("as_variable", [True, False])
def test_make_run_passes_limited_mode_on(tmp_path: Path, as_variable: bool) -> None:
    """As a make variable and as an environment variable."""
    done = (
        run(tmp_path / "venv", "LIMITED_MODE=true")
        if as_variable
        else run(tmp_path / "venv", LIMITED_MODE="true")
    )
    assert done.stdout.endswith("LIMITED_MODE=true\n")
