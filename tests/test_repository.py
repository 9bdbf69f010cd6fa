"""The repository itself: nothing of one machine in it, no recordings, dependencies that are
pinned. What documents name is checked in `tests.test_documents`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONG_FILES: dict[str, str] = {
    "consumers/feed/engine.py": "one machine with one buffer: what a packet does, in its order",
    "feeder/session/session.py": "one object: what a venue's frame does, in its order",
    "protocol/net/sequencing_reference.py": (
        "the whole machine in one piece, to be read from top to bottom"
    ),
    "tests/consumers/feed/test_engine.py": "every event of one machine",
    "tests/feeder/extract/test_extract.py": "every rule of the shapes, for both extractors",
    "tests/feeder/extract/test_extract_declarations.py": "every word a shape is declared with",
    "tests/feeder/replay/test_replay_server.py": "one behaviour after the other of one server",
    "tests/feeder/session/test_session.py": "one behaviour after the other of one object",
    "tests/feeder/session/test_sync.py": "every rule of every chain, side by side",
    "tests/feeder/symbols/test_universe.py": "every rule of one choice, side by side",
    "tests/feeder/test_live.py": "one behaviour after the other of one process",
    "tests/feeder/venues/test_venue_bybit.py": "everything that one venue sends",
    "tests/protocol/net/test_sequencing.py": "every rule of the machine, for both implementations",
    "tests/protocol/test_codec.py": "every message type and every way to refuse one",
}
"""Files over 600 lines, each with its reason."""
LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-docs.lock",
    "requirements-wheel.lock",
)
REGISTRY = re.compile(
    r"(https?://|@)[\w.-]*(pypi|pythonhosted|npmjs|maven|crates)[\w.-]*|--(extra-)?index-url|--find-links",
    re.I,
)
MACHINE = re.compile(r"(?<![\w.~$}-])/(work|root|home/\w+|Users/\w+|tmp/wt)/")


def tracked(*patterns: str) -> list[Path]:
    """Return the files that git knows, the new ones included; skip outside a checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns]
    out = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in out.split("\0") if name and (path := ROOT / name).is_file()]


def text(path: Path) -> str:
    """Return a file's text, empty for a binary one."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """Return `file:line` for every match in a tracked file, this one left out."""
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path != Path(__file__).resolve()
        for number, line in enumerate(text(path).splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_path_of_one_machine() -> None:
    """A path that exists on one developer's disk works nowhere else."""
    assert lines_with(MACHINE) == []


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the installer's configuration, not the project's."""
    assert lines_with(REGISTRY) == []


def test_no_recording_is_tracked() -> None:
    """Recordings stay beside the project; the licence of each is its source's."""
    assert tracked("*.jsonl", "*.jsonl.gz", "*.tape", "*.pcap", "*.pcapng") == []


def test_no_file_is_too_long_without_a_reason() -> None:
    """A file's borders come from its idea; 600 lines are an alarm, and the list says why not."""
    long = {
        str(path.relative_to(ROOT))
        for path in tracked("*.py", "*.c", "*.h")
        if text(path).count("\n") > 600
    }
    assert long - set(LONG_FILES) == set()


def test_c_files_stay_below_400_lines() -> None:
    """The bound of `docs/adr/0003-c-boundary.md`."""
    assert [path.name for path in tracked("*.c") if text(path).count("\n") >= 400] == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_is_pinned_with_hashes(name: str) -> None:
    """An exact version and at least one hash each: the installer accepts nothing else."""
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
    assert len(entries) > 10
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==[\w.!+-]+[ \\;]", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_lock_files_hold_every_declared_dependency_and_agree() -> None:
    """What `pyproject.toml` asks for is locked, and the sets of development, of the
    documentation and of the wheel are supersets at the same versions.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = {
        name: set(re.findall(r"^([a-z0-9._-]+==[^ \\]+)", (ROOT / name).read_text(), re.M))
        for name in LOCKS
    }
    assert pins["requirements.lock"] <= pins["requirements-dev.lock"]
    assert pins["requirements.lock"] <= pins["requirements-docs.lock"]
    assert pins["requirements.lock"] <= pins["requirements-wheel.lock"]
    declared = project["project"]["dependencies"] + project["dependency-groups"]["build"]
    for lock, wanted in (
        ("requirements.lock", declared),
        ("requirements-dev.lock", project["dependency-groups"]["dev"]),
        ("requirements-docs.lock", project["dependency-groups"]["docs"]),
        ("requirements-wheel.lock", project["dependency-groups"]["wheel"]),
    ):
        locked = {pin.partition("==")[0] for pin in pins[lock]}
        assert {re.split(r"[<>=!~ ]", line)[0] for line in wanted} <= locked


def test_every_tracked_module_is_installed_and_nothing_else(tmp_path: Path) -> None:
    """What setuptools copies for a wheel are the modules of the rooms, their configuration and
    `py.typed`, all below `tapecast/`; the build of the C core stays behind.
    """
    words = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=60)
    copied = {
        str(path.relative_to(tmp_path))
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "_native.abi3.so"
    }
    assert copied == installed_files()


def installed_files() -> set[str]:
    """Return what an installation holds of the tracked files, by the paths it has there."""
    names = {str(path.relative_to(ROOT)) for path in tracked("*.py", "config/*.toml")}
    rooms = ("protocol/", "runtime/", "feeder/", "consumers/", "monitors/", "config/")
    return {"tapecast/py.typed"} | {
        name if name.startswith("tapecast/") else f"tapecast/{name}"
        for name in names
        if name.startswith((*rooms, "tapecast/")) and not name.startswith("protocol/native/")
    }
