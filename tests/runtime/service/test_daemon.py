"""`runtime.service.daemon` with a subject that is no feeder: its whole life, as a service
manager, a scraper and an operator see it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily

from tapecast.runtime import config as configuration
from tapecast.runtime import logs
from tapecast.runtime.errors import ConfigError, ExitCode, TryAgainError
from tapecast.runtime.service import daemon, service
from tapecast.runtime.service.notify import Notifier
from tapecast.runtime.service.subject import Health
from tapecast.runtime.service.tasks import Tasks
from tapecast.runtime.settings import Config

Script = Callable[["Counting", asyncio.Event], Awaitable[None]]


class Manager(Notifier):
    """A service manager that watches, and keeps what it receives."""

    def __init__(self) -> None:
        """Ask for a sign of life every 40 ms."""
        super().__init__({})
        self.watchdog_s = 0.04
        self.received: list[str] = []

    def _send(self, message: str) -> None:
        self.received.append(message)

    def fed(self) -> int:
        """Return how often the watchdog was fed."""
        return self.received.count("WATCHDOG=1")


class Counting:
    """A subject that counts; what it does meanwhile is the test's `script`."""

    def __init__(self, script: Script) -> None:
        """Begin at nothing."""
        self.script = script
        self.count = 0
        self.hangs = False
        self.unready = False
        self.drained = False

    async def run(self, stop: asyncio.Event) -> None:
        """Play the script."""
        await self.script(self, stop)

    def stuck(self, now_ns: int) -> Sequence[str]:
        """Return what the test says."""
        return ["the counter hangs"] if self.hangs else []

    def serving(self) -> bool:
        """Return whether anything was counted."""
        return self.count > 0

    def status(self) -> str:
        """Return the count."""
        return f"{self.count} counted"

    def health(self, now_ns: int) -> Health:
        """Return what the test says."""
        return Health((), ("not yet",) if self.unready else (), {"count": self.count})

    def metrics(self, now_ns: int) -> Iterable[Metric]:
        """Return the count."""
        return [CounterMetricFamily("tapecast_counted", "Counted", value=self.count)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Beat often; leave logging as it was."""
    monkeypatch.setattr(service, "_BEAT_S", 0.01)
    monkeypatch.setattr(service, "_STATUS_S", 0.02)
    handlers, level = logging.root.handlers[:], logging.root.level
    ours = logging.getLogger("tapecast").level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.getLogger("tapecast").setLevel(ours)
    logs.configure()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return a configuration that logs into a folder."""
    return configuration.load(
        {"log.dir": str(tmp_path / "logs"), "service.ready_after_s": 3600},
        environ={},
        system=tmp_path / "none",
    )


def run(script: Script, config: Config, manager: Manager | None = None, **further: object) -> int:
    """Run a daemon called `count`."""
    return daemon.run(
        "count",
        config,
        lambda: Counting(script),
        notifier=manager or Manager(),
        **further,  # type: ignore[arg-type]
    )


def lines(config: Config) -> list[dict[str, object]]:
    """Return what it logged."""
    path = Path(config.log.dir) / "count.log"
    return [json.loads(line) for line in path.read_text().splitlines()]


def events(config: Config) -> list[object]:
    """Return the events that it logged."""
    return [line["event"] for line in lines(config)]


async def reached(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Return once a condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def asked(config: Config, path: str) -> tuple[int, str]:
    """Ask the endpoint, which the log names."""
    url = next(str(line["url"]) for line in lines(config) if line["event"] == "endpoint_listening")
    assert urlsplit(url).hostname == "127.0.0.1"
    async with aiohttp.ClientSession() as client, client.get(url + path) as answer:
        return answer.status, await answer.text()


def end_by(number: signal.Signals) -> None:
    """Send this process a signal, as its manager does."""
    os.kill(os.getpid(), number)


def test_a_whole_life(config: Config) -> None:
    """Ready with the first data, watched, scraped, stuck and well again, then drained by SIGTERM
    with exit code 0.
    """
    manager = Manager()
    subjects: list[Counting] = []

    async def script(subject: Counting, stop: asyncio.Event) -> None:
        subjects.append(subject)
        await reached(lambda: "STATUS=0 counted" in manager.received)
        assert "READY=1" not in manager.received
        subject.count = 3
        await reached(lambda: "READY=1" in manager.received and manager.fed() >= 2)

        assert (await asked(config, "/healthz"))[0] == 200
        assert "tapecast_counted_total 3.0" in (await asked(config, "/metrics"))[1]
        subject.unready = True
        status, body = await asked(config, "/readyz")
        assert (status, json.loads(body)["reasons"]) == (503, ["not yet"])

        subject.hangs = True
        await reached(lambda: "stuck" in events(config))
        fed = manager.fed()
        subject.count = 4
        await reached(lambda: "STATUS=4 counted" in manager.received)
        assert manager.fed() == fed
        subject.hangs = False
        await reached(lambda: manager.fed() > fed)

        end_by(signal.SIGTERM)
        await stop.wait()
        subject.hangs = True  # what drains is not asked for data
        fed = manager.fed()
        await reached(lambda: "STOPPING=1" in manager.received and manager.fed() > fed)
        subject.drained = True

    assert run(script, config, manager, port=0) == ExitCode.OK
    assert subjects[0].drained
    assert manager.received.count("READY=1") == 1
    assert events(config).count("stuck") == 1
    assert "shutdown_requested" in events(config)


def test_draining_has_a_deadline(config: Config) -> None:
    """What does not end is ended, with exit code 1."""

    async def script(subject: Counting, stop: asyncio.Event) -> None:
        end_by(signal.SIGTERM)
        await asyncio.Event().wait()

    assert run(script, config, drain_s=0.05) == ExitCode.RUNTIME
    assert "shutdown_overdue" in events(config)


def test_a_second_signal_ends_it_at_once(config: Config) -> None:
    """Also while it drains."""

    async def script(subject: Counting, stop: asyncio.Event) -> None:
        end_by(signal.SIGTERM)
        await stop.wait()
        end_by(signal.SIGINT)
        await asyncio.Event().wait()

    assert run(script, config, drain_s=3600.0) == ExitCode.RUNTIME
    assert "shutdown_forced" in events(config)


def test_a_port_in_use_is_told_apart_from_a_wrong_one(config: Config) -> None:
    """Exit code 75 by its exception: another time it may work, and the subject has not begun."""

    async def script(subject: Counting, stop: asyncio.Event) -> None:
        raise AssertionError("begun")

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(TryAgainError, match=r"in use \(see service\.port_base\)"):
            run(script, config, port=listener.getsockname()[1])


def test_a_failing_task_is_logged_by_name_and_ends_nothing(config: Config) -> None:
    """A background task's failure costs that task; the others go on and are cancelled with the
    owner.
    """
    seen: list[str] = []

    async def counter() -> None:
        raise ValueError("cannot count")

    async def patient() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    async def script(subject: Counting, stop: asyncio.Event) -> None:
        tasks = Tasks("tests.count", venue="okx")
        tasks.spawn(counter(), "count to ten")
        tasks.spawn(patient())
        await reached(lambda: "task_failed" in events(config))
        assert len(tasks) == 1
        await tasks.cancel()
        assert len(tasks) == 0

    assert run(script, config) == ExitCode.OK
    (line,) = [line for line in lines(config) if line["event"] == "task_failed"]
    assert (line["task"], line["venue"], line["room"]) == ("count to ten", "okx", "tests.count")
    assert "ValueError: cannot count" in str(line["exception"])
    assert seen == ["cancelled"]


def test_a_failing_subject_ends_the_process_and_is_logged(config: Config) -> None:
    """The log names it, the exception comes out; the manager learns that it stops."""
    manager = Manager()

    async def script(subject: Counting, stop: asyncio.Event) -> None:
        raise ValueError("lost count")

    with pytest.raises(ValueError, match="lost count"):
        run(script, config, manager)
    (line,) = [line for line in lines(config) if line["event"] == "daemon_failed"]
    assert (line["process"], line["level"]) == ("count", "error")
    assert manager.received[-1] == "STOPPING=1"


def test_a_subject_that_cannot_say_whether_it_works_is_not_watched_as_alive(
    config: Config,
) -> None:
    """A defect in `stuck` is logged once and leaves the watchdog unfed; the beat goes on."""
    manager = Manager()

    async def script(subject: Counting, stop: asyncio.Event) -> None:
        await reached(lambda: manager.fed() > 0)

        def broken(now_ns: int) -> Sequence[str]:
            raise ZeroDivisionError

        good, subject.stuck = subject.stuck, broken  # type: ignore[method-assign]
        await reached(lambda: "beat_failed" in events(config))
        fed = manager.fed()
        await asyncio.sleep(0.1)  # many beats
        assert manager.fed() == fed
        subject.stuck = good  # type: ignore[method-assign]
        await reached(lambda: manager.fed() > fed)

    assert run(script, config, manager) == ExitCode.OK
    assert events(config).count("beat_failed") == 1


def test_it_runs_on_the_processors_named(config: Config) -> None:
    """Pinned before anything else; one that it may not use is an error that names the key."""
    allowed = os.sched_getaffinity(0)
    seen: list[set[int]] = []

    async def script(subject: Counting, stop: asyncio.Event) -> None:
        seen.append(os.sched_getaffinity(0))

    try:
        assert run(script, config, cpus=[min(allowed)], busy_poll=True) == ExitCode.OK
        assert seen == [{min(allowed)}]
        with pytest.raises(ConfigError, match=r"host\.cpus"):
            run(script, config, cpus=[4095], cpus_key="host.cpus")
    finally:
        os.sched_setaffinity(0, allowed)
