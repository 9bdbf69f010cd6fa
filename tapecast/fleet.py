"""Child processes of `tapecast up`: started, read (JSON lines on their stdout), restarted where
asked for, and ended in good order.

Their stderr goes to one log file each, so that the screen belongs to the monitor. Children are
of this process's own: they are signalled by pid, and nothing else is.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from tapecast.runtime import logs
from tapecast.runtime.errors import TapecastError

__all__ = ["Fleet", "Process"]

_GRACE_S = 15.0
_LOG_LIMIT = 8 << 20
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1

log = logs.get("tapecast.fleet")


def _last_line(path: Path) -> str:
    """Return the last line of a log, for a message; empty where there is none."""
    try:
        lines = path.read_bytes()[-2000:].decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return f": {lines[-1].strip()[:500]}" if lines else ""


def _end_with_parent() -> None:
    """In the child: be ended by the kernel when the fleet's process is gone, however it went
    (`man 2 prctl`).
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Process:
    """One child. `expect` and `last` look at the JSON lines it printed, by their `event`; a line
    without one is its report.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._log = log
        self._process = process
        self._lines: list[dict[str, object]] = []
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read()) if process.stdout is not None else None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, None while it runs."""
        return self._process.returncode

    async def expect(self, event: str, timeout_s: float | None) -> dict[str, object]:
        """Return the line of that event once it has come. Raises TapecastError when the child
        ends or the time passes first.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._news.clear()
                    line = self.last(event)
                    if line is not None:
                        return line
                    if self.returncode is not None and (
                        self._reader is None or self._reader.done()
                    ):
                        when = f"before its line {event!r}{_last_line(self._log)}"
                        raise TapecastError(
                            f"{self.name} ended with exit code {self.returncode} {when}"
                        )
                    await self._news.wait()
        except TimeoutError:
            raise TapecastError(
                f"{self.name} did not print {event!r} within {timeout_s} s"
            ) from None

    def last(self, event: str) -> dict[str, object] | None:
        """Return the newest line of an event, or None."""
        return next((line for line in reversed(self._lines) if line.get("event") == event), None)

    async def finish(self, after_s: float = 0.0) -> dict[str, object]:
        """Wait `after_s` for the child to end by itself, then ask it to; return its last line,
        with its exit code added.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(after_s):
                await self._process.wait()
        await self.end()
        report = dict(self._lines[-1]) if self._lines else {}
        report["exit_code"] = self.returncode
        return report

    async def end(self) -> None:
        """SIGTERM, then after a grace period SIGKILL."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_GRACE_S):
                    await self._process.wait()
            except TimeoutError:
                log.error("process_killed", process=self.name, after_s=_GRACE_S)
                self._process.kill()
                await self._process.wait()
        if self._reader is not None:
            await self._reader

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return await self._process.wait()

    async def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        async for text in stdout:
            try:
                line = orjson.loads(text)
            except orjson.JSONDecodeError:
                log.warning(
                    "output_not_json", process=self.name, text=text[:200].decode("utf-8", "replace")
                )
                continue
            self._lines.append(line)
            del self._lines[:-1000]
            self._news.set()
        await self._process.wait()
        self._news.set()


class Fleet:
    """All children of one run."""

    def __init__(self, environ: Mapping[str, str], logs: Path) -> None:
        self._environ = dict(environ)
        self.logs = logs
        self._processes: list[Process] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._ended: asyncio.Queue[str] = asyncio.Queue()
        self._stopping = asyncio.Event()

    async def start(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        module: str = "tapecast",
        environ: Mapping[str, str] | None = None,
        restart: bool = False,
        foreground: bool = False,
    ) -> Process:
        """Start `python -m module arguments`.

        `restart`: again when it ends, with growing pauses and the arguments as they are then.
        `foreground`: on this terminal.
        """
        process = await self._spawn(name, arguments, module, environ, foreground)
        self._keepers.append(
            asyncio.create_task(
                self._keep(process, name, arguments, module, environ, restart, foreground)
            )
        )
        return process

    async def died(self) -> str:
        """Wait until a child that is not restarted has ended, and return its name, its exit code
        and its last log line.
        """
        return await self._ended.get()

    async def stop(self) -> None:
        """End every child, all at once; when cancelled, at once and without asking."""
        self._stopping.set()
        try:
            await asyncio.gather(*(process.end() for process in self._processes))
            await asyncio.gather(*self._keepers)
        except asyncio.CancelledError:
            for process in self._processes:
                process.kill()
            raise

    async def _spawn(
        self,
        name: str,
        arguments: Sequence[str],
        module: str,
        environ: Mapping[str, str] | None,
        foreground: bool,
    ) -> Process:
        self.logs.mkdir(parents=True, exist_ok=True)
        path = self.logs / f"{name}.log"
        if path.exists() and path.stat().st_size > _LOG_LIMIT:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as log_file:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=None if foreground else asyncio.subprocess.PIPE,
                stderr=log_file,
                env={**self._environ, **(environ or {})},
                limit=1 << 20,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        process = Process(name, child, path)
        self._processes.append(process)
        return process

    async def _keep(
        self,
        process: Process,
        name: str,
        arguments: Sequence[str],
        module: str,
        environ: Mapping[str, str] | None,
        restart: bool,
        foreground: bool,
    ) -> None:
        pause = 1.0
        while True:
            started = time.monotonic()
            code = await process.wait()
            if self._stopping.is_set():
                return
            path = self.logs / f"{name}.log"
            if not restart:
                self._ended.put_nowait(f"{name} (exit code {code}{_last_line(path)})")
                return
            if time.monotonic() - started > 60.0:
                pause = 1.0
            log.error(
                "process_ended",
                process=name,
                exit_code=code,
                log=str(path),
                restart_s=round(pause, 1),
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * (0.75 + random.random() / 2)):  # noqa: S311 - jitter, not a secret
                    await self._stopping.wait()
                    return
            pause = min(pause * 2, 60.0)
            process = await self._spawn(name, arguments, module, environ, foreground)
            if self._stopping.is_set():
                await process.end()
