"""What `make wheel` built, as a user has it: what is in it, and that every command runs from any
folder, with every Python from 3.11 on that this machine has.

The traps are modules of a user's own with the names of our rooms: each raises when it is
imported. Nothing here reads the source tree, except to say what has to be in the wheel.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from tapecast import __version__
from tests.packaging.tree import ROOMS, ROOT
from tests.support.captures import captures
from tests.support.processes import Net
from tests.test_repository import installed_files

pytestmark = pytest.mark.wheel
RECORDING = "binance_futures/cf_20210722_usdm.jsonl"
VENUE = "binance_futures"
SCRIPT = """
import sys
from collections import Counter
from tapecast import Book, Feed, Trade

seen = Counter()
with Feed.replay(sys.argv[1]) as feed:
    for event in feed:
        seen[type(event)] += 1
print("books" if seen[Book] else "", "trades" if seen[Trade] else "")
"""


def run(*words: str | Path, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, without the variables of this test run."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def succeed(*words: str | Path, cwd: Path, **environ: str) -> str:
    """Run a command that has to end with 0; return its stdout."""
    done = run(*words, cwd=cwd, **environ)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def built(pattern: str) -> Path:
    """Return the one file of `dist/` with that name."""
    found = list((ROOT / "dist").glob(pattern))
    assert len(found) == 1, f"dist/{pattern}: {found}; run `make wheel`"
    return found[0]


@cache
def interpreter(minor: int) -> str | None:
    """Return a Python 3.`minor` with venv: by name on the path, else one that pyenv keeps."""
    probe = ("-c", f"import sys, venv, ensurepip; assert sys.version_info[:2] == (3, {minor})")
    candidates = [f"python3.{minor}"]
    if shutil.which("pyenv"):
        bare = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True)
        for version in re.findall(rf"^3\.{minor}\.\d+$", bare.stdout, re.M):
            prefix = subprocess.run(["pyenv", "prefix", version], capture_output=True, text=True)
            candidates.append(f"{prefix.stdout.strip()}/bin/python")
    for candidate in candidates:
        try:
            if not subprocess.run([candidate, *probe], capture_output=True).returncode:
                return candidate
        except OSError:
            continue
    return None


def environment(folder: Path, python: str = sys.executable) -> Path:
    """Make a virtual environment; return its `bin`."""
    succeed(python, "-m", "venv", folder, cwd=ROOT)
    return folder / "bin"


EVERY_PYTHON = pytest.mark.parametrize("installed", [11, 12, 13], ids="3.{}".format, indirect=True)


@pytest.fixture
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return `bin` of an environment of this Python in which the wheel is installed.

    It is made once for all workers: the first that asks makes it, the others wait for the lock.
    """
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"Python 3.{request.param} with venv absent")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    place = shared / f"python3.{request.param}"
    with (shared / f"python3.{request.param}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            pip = (
                environment(place / "venv", python) / "python",
                "-m",
                "pip",
                "install",
                "--quiet",
            )
            succeed(*pip, "--require-hashes", "-r", ROOT / "requirements.lock", cwd=ROOT)
            succeed(*pip, "--no-deps", built("*.whl"), cwd=ROOT)
            (place / "complete").touch()
    return place / "venv" / "bin"


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """Return a folder with modules named as our rooms, and nothing else."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for room in ROOMS:
        (folder / f"{room}.py").write_text(f"raise SystemExit('the user’s {room} was imported')\n")
    return folder


@pytest.fixture
def groups() -> dict[str, str]:
    """Return the environment that gives a run multicast groups of its own."""
    return {
        f"TAPECAST__{key.replace('.', '__').upper()}": value
        for key, value in Net().settings.items()
    }


def file_names(archive: zipfile.ZipFile) -> set[str]:
    """Return the files of a wheel; auditwheel adds entries for folders."""
    return {name for name in archive.namelist() if not name.endswith("/")}


def test_the_wheel_holds_the_modules_their_configuration_and_one_library() -> None:
    """All below `tapecast/`, with `py.typed` and the licence; no source of the C core, no test."""
    wheel = built("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = file_names(archive)
        tags = archive.read(f"tapecast-{__version__}.dist-info/WHEEL").decode()
    described = {name for name in names if name.startswith(f"tapecast-{__version__}.dist-info/")}
    assert names - described == installed_files() | {"tapecast/protocol/_native.abi3.so"}
    assert f"tapecast-{__version__}.dist-info/licenses/LICENSE" in described
    assert re.search(r"^Tag: cp311-abi3-manylinux_2_\d+_\w+$", tags, re.M), tags


def test_the_wheel_names_no_folder_of_its_build() -> None:
    """Two machines build the same; nobody learns where it was."""
    with zipfile.ZipFile(built("*.whl")) as archive:
        library = archive.read("tapecast/protocol/_native.abi3.so")
        everything = b"".join(map(archive.read, archive.namelist()))
    assert re.findall(rb"(?:/[\w.-]+)+\.[ch]\b", library) == []
    assert [
        folder
        for folder in (str(ROOT), f"{tempfile.gettempdir()}/tmp.")
        if folder.encode() in everything
    ] == []


def test_the_sdist_stands_alone() -> None:
    """Plain files, no link: the links of the tree are folders there. Tests stay behind."""
    with tarfile.open(built("*.tar.gz")) as archive:
        members = archive.getmembers()
    assert [member.name for member in members if not (member.isfile() or member.isdir())] == []
    names = {member.name.partition("/")[2] for member in members if member.isfile()}
    assert installed_files() < names
    assert {"LICENSE", "README.md", "setup.py", "pyproject.toml"} < names
    assert {
        f"tapecast/protocol/native/{path.name}"
        for path in (ROOT / "protocol/native").glob("*.[ch]")
    } < names
    assert {
        name for name in names if name.startswith(("tests/", "tapecast/protocol/native/fuzz/"))
    } == set()


def clone(folder: Path) -> Path:
    """Copy what git knows into a folder, as a clone does; return it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    folder.mkdir()
    subprocess.run(
        ["xargs", "-0", "cp", "-d", "--parents", "-t", folder], cwd=ROOT, input=listed, check=True
    )
    return folder


def test_a_wheel_of_the_tree_is_that_of_the_sdist_whatever_lay_there(tmp_path: Path) -> None:
    """`pip wheel .` in a clone gives the same files, and nothing of an earlier build."""
    tree = clone(tmp_path / "tree")
    for kind in ("lib", f"lib.{'linux-' + os.uname().machine}-{sys.implementation.cache_tag}"):
        (tree / "build" / kind / "protocol").mkdir(parents=True)
        (tree / "build" / kind / "protocol" / "moved.py").touch()
    succeed(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"),
        *("--wheel-dir", tmp_path / "out", "."),
        cwd=tree,
        CFLAGS="-O0",
    )
    (wheel,) = (tmp_path / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(built("*.whl")) as theirs:
        assert file_names(ours) == file_names(theirs)
        modules = [
            name for name in ours.namelist() if name.startswith("tapecast/") and name[-3:] != ".so"
        ]
        assert [name for name in modules if ours.read(name) != theirs.read(name)] == []


def test_pip_installs_a_clone_into_a_fresh_environment(tmp_path: Path, trapped: Path) -> None:
    """`pip install .` finds what it needs by itself, and the command runs."""
    tree = clone(tmp_path / "tree")
    folder = environment(tmp_path / "venv")
    succeed(folder / "python", "-m", "pip", "install", "--quiet", ".", cwd=tree)
    shutil.rmtree(tree)
    assert succeed(folder / "tapecast", "--version", cwd=trapped) == f"tapecast {__version__}\n"
    assert "network.ttl" in succeed(folder / "tapecast", "config", "show", cwd=trapped)


def test_an_editable_clone_named_tapecast_is_imported_from_beside_it(tmp_path: Path) -> None:
    """The installation is a plain line of the import path, so that a folder named `tapecast`
    beside a script, the clone itself, does not hide the package in it.
    """
    tree = clone(tmp_path / "tapecast")
    folder = environment(tmp_path / "venv")
    needed = sysconfig.get_path("purelib")
    succeed(
        *(folder / "python", "-m", "pip", "install", "--quiet", "--no-deps"),
        *("--no-build-isolation", "--editable", tree),
        cwd=tmp_path,
        PYTHONPATH=needed,
        CFLAGS="-O0",
    )
    (site,) = (folder.parent / "lib").glob("python3*/site-packages")
    assert [path.read_text() for path in site.glob("*tapecast*.pth")] == [f"{tree}\n"]
    assert list(site.glob("*finder*")) == []
    (site / "needed.pth").write_text(needed)
    script = tmp_path / "mine.py"
    script.write_text("import tapecast\nfrom tapecast import Feed\nprint(tapecast.__file__)\n")
    where = succeed(folder / "python", script, cwd=tmp_path)
    assert where == f"{tree}/tapecast/__init__.py\n"


@EVERY_PYTHON
def test_every_command_runs_in_an_empty_folder(
    installed: Path, tmp_path: Path, groups: dict[str, str]
) -> None:
    """From the wheel alone: `config`, `doctor`, `decode`, `symbols`, and the help of all."""
    tapecast = installed / "tapecast"
    shown = json.loads(succeed(tapecast, "config", "show", "--json", cwd=tmp_path))
    assert shown["venues.okx.enabled"]["value"] is True if isinstance(shown, dict) else shown
    decoded = succeed(tapecast, "decode", captures() / RECORDING, "--venue", VENUE, cwd=tmp_path)
    assert len(decoded.splitlines()) > 1000
    assert "groups" in run(tapecast, "doctor", "okx", cwd=tmp_path, **groups).stdout
    assert "run `tapecast symbols refresh`" in run(tapecast, "symbols", "list", cwd=tmp_path).stderr
    listed = succeed(tapecast, "--help", cwd=tmp_path)
    for command in re.findall(r"^    (\w+) ", listed, re.M):
        assert f"usage: tapecast {command}" in succeed(tapecast, command, "--help", cwd=tmp_path)


@EVERY_PYTHON
def test_a_users_modules_are_left_alone(installed: Path, trapped: Path) -> None:
    """Beside files named as our rooms, the command, `python -m tapecast` and a script run."""
    assert succeed(installed / "tapecast", "--version", cwd=trapped) == f"tapecast {__version__}\n"
    module = (installed / "python", "-m", "tapecast")
    succeed(*module, "config", "show", cwd=trapped)
    succeed(*module, "decode", captures() / RECORDING, "--venue", VENUE, cwd=trapped)
    (trapped / "script.py").write_text(SCRIPT)
    script = (installed / "python", "script.py", captures() / RECORDING)
    assert succeed(*script, cwd=trapped) == "books trades\n"


@EVERY_PYTHON
def test_a_fleet_runs_from_an_installation_that_nobody_may_write_to(
    installed: Path, trapped: Path, groups: dict[str, str]
) -> None:
    """`up --replay` loses nothing, and writes into the folder where it was started and nowhere
    else; so does a replay server.
    """
    venv = installed.parent
    before = files(venv)
    command = ("up", "--replay", captures() / RECORDING, "--until-end", "--json", "--speed", "max")
    report = json.loads(
        succeed(*read_only(venv), installed / "tapecast", *command, cwd=trapped, **groups)
    )
    assert report["ok"] is True
    assert report["packets_received"] == report["packets_sent"] > 1000
    assert files(venv) == before
    left = {path.name for path in trapped.iterdir()} - {f"{room}.py" for room in ROOMS}
    assert left == {"state"}


def files(folder: Path) -> set[Path]:
    """Return every file below a folder but Python's caches."""
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def read_only(folder: Path) -> Sequence[str | Path]:
    """Return the words before a command that see to it that it cannot write to a folder; none
    where the kernel or the rights do not allow it.
    """
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    words = ("unshare", "--mount", "sh", "-c", script, folder)
    try:
        allowed = run(*words, "true", cwd=folder).returncode == 0
    except FileNotFoundError:
        allowed = False
    return words if allowed else ()


@EVERY_PYTHON
def test_a_replay_server_listens(installed: Path, trapped: Path) -> None:
    """`replay` says where, serves, and ends when it is told to."""
    command = [installed / "tapecast", "replay", captures() / RECORDING, "--json"]
    with subprocess.Popen(command, cwd=trapped, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert json.loads(server.stdout.readline())["event"] == "listening"
        finally:
            server.terminate()
    assert server.returncode == 0
