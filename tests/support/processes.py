"""Processes under test: `tapecast …` as a user starts it, what it printed, and its end. Every
one is ended by its own pid.

Waiting is for a condition with a limit (`until`), never for a time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import orjson

__all__ = [
    "ROOT",
    "Child",
    "Net",
    "children",
    "cpu_s",
    "free_port",
    "resident_bytes",
    "signalled",
    "tapecast",
    "until",
]

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def until(condition: Callable[[], T], *, within_s: float = 20.0, what: str = "") -> T:
    """Return what `condition` gives once that is true; AssertionError after `within_s`."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within_s} s: {what or condition!r}"
        time.sleep(0.01)


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Net:
    """Multicast groups and a UDP port of one test's own, so that tests of one host do not hear
    each other.
    """

    def __init__(self) -> None:
        """Take a port that is free now; it and the process id name the groups."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.prefix = f"239.{200 + os.getpid() % 50}.{self.port % 250 + 1}"

    @property
    def settings(self) -> dict[str, str]:
        """Settings as `--set` and the environment take them."""
        return {
            "network.group_prefix": self.prefix,
            "network.monitor_group": f"{self.prefix}.250",
            "network.port_crypto": str(self.port),
            "network.port_stock": str(self.port),
        }

    def overlay(self, **further: object) -> dict[str, object]:
        """Return the settings as `runtime.config.load` takes them, with further ones:
        section__key=value.
        """
        return {
            **self.settings,
            **{key.replace("__", "."): value for key, value in further.items()},
        }


class Child:
    """A process whose output is kept in files, so that it never waits for a reader."""

    def __init__(
        self, command: Sequence[str], folder: Path, name: str, environ: Mapping[str, str]
    ) -> None:
        """Start it with `folder` as working directory."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.out = folder / f"{name}.out"
        self.err = folder / f"{name}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                list(command),
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def __enter__(self) -> Child:
        """Return the process."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.end()

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the complete JSON lines printed so far, those of one `event` where it is named."""
        found = []
        for text in self.out.read_bytes().splitlines(keepends=True):
            if text.endswith(b"\n") and text.startswith(b"{"):
                line = orjson.loads(text)
                if event is None or line.get("event") == event:
                    found.append(line)
        return found

    def expect(self, event: str, within_s: float = 20.0) -> dict[str, Any]:
        """Return the last line of that event once there is one."""

        def look() -> list[dict[str, Any]]:
            found = self.lines(event)
            assert found or self.running, (
                f"ended with {self.process.returncode}: {self.stderr()[-2000:]}"
            )
            return found

        return until(look, within_s=within_s, what=f"event {event!r}")[-1]

    def stdout(self) -> str:
        """Return what it printed so far."""
        return self.out.read_text("utf-8", "replace")

    def stderr(self) -> str:
        """Return what it told so far."""
        return self.err.read_text("utf-8", "replace")

    def wait(self, within_s: float = 60.0) -> int:
        """Return its exit code once it has ended."""
        return self.process.wait(within_s)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, within_s: float = 15.0) -> int:
        """SIGTERM, and SIGKILL for it and what it started if it does not obey; return its exit
        code.
        """
        family = children(self.pid)
        if self.running:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.kill()
            return self.process.wait(5.0)


def tapecast(
    folder: Path,
    *words: str | Path,
    name: str = "tapecast",
    settings: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    module: str = "tapecast",
    prefix: Sequence[str] = (),
) -> Child:
    """Start `tapecast WORDS…`; `settings` reach it by the environment, `prefix` is put before
    the command.
    """
    variables = {
        f"TAPECAST__{key.replace('.', '__').upper()}": str(value)
        for key, value in (settings or {}).items()
    }
    command = [*prefix, sys.executable, "-m", module, *map(str, words)]
    return Child(command, folder, name, {**variables, **(environ or {})})


def children(pid: int) -> dict[int, str]:
    """Return the running children of a process: pid to command line."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found[int(entry.name)] = (
                    (entry / "cmdline")
                    .read_bytes()
                    .replace(b"\0", b" ")
                    .decode("utf-8", "replace")
                    .strip()
                )
        except (OSError, IndexError):
            continue
    return found


def resident_bytes(pid: int) -> int:
    """Return the memory that a process has in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """Return the processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def signalled(pid: int) -> Iterator[None]:
    """Stop a process for the length of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
