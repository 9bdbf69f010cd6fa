"""`runtime.service.service` and `runtime.service.endpoint`: what a manager, a scraper and a
health check are told, also when the loop hangs.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from tapecast.runtime.errors import TryAgainError
from tapecast.runtime.service import service
from tapecast.runtime.service.endpoint import Endpoint, in_thread
from tapecast.runtime.service.notify import Notifier
from tapecast.runtime.service.service import Service
from tapecast.runtime.service.subject import Health
from tapecast.runtime.settings import Service as Settings


class Subject:
    """A process whose state the test sets."""

    def __init__(self) -> None:
        """Healthy, and serving nothing yet."""
        self.reasons: list[str] = []
        self.unhealthy: list[str] = []
        self.unready: list[str] = []
        self.served = False

    async def run(self, stop: asyncio.Event) -> None:
        """Wait for the end."""
        await stop.wait()

    def stuck(self, now_ns: int) -> Sequence[str]:
        """Return what the test says."""
        assert now_ns > 0
        return self.reasons

    def serving(self) -> bool:
        """Return what the test says."""
        return self.served

    def status(self) -> str:
        """Return a line."""
        return "all well"

    def health(self, now_ns: int) -> Health:
        """Return what the test says."""
        return Health(tuple(self.unhealthy), tuple(self.unready), {"venues": {}})

    def metrics(self, now_ns: int) -> Iterable[Metric]:
        """Return one gauge."""
        return [GaugeMetricFamily("tapecast_books", "Books", value=7)]


class Manager(Notifier):
    """A notifier that keeps what it would send."""

    def __init__(self, watchdog_s: float | None = None) -> None:
        """Watch, if so."""
        super().__init__({})
        self.watchdog_s = watchdog_s
        self.sent: list[str] = []

    def _send(self, message: str) -> None:
        self.sent.append(message)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beat often."""
    monkeypatch.setattr(service, "_BEAT_S", 0.01)
    monkeypatch.setattr(service, "_STATUS_S", 0.02)


def settings(**changes: object) -> Settings:
    """Return settings."""
    values: dict[str, object] = {
        "address": "127.0.0.1",
        "port_base": 0,
        "no_data_s": 60.0,
        "ready_after_s": 3600.0,
    }
    return Settings(**{**values, **changes})  # type: ignore[arg-type]


@asynccontextmanager
async def running(
    subject: Subject, manager: Manager, stop: asyncio.Event | None = None, **changes: object
) -> AsyncIterator[Service]:
    """A service for the length of the block."""
    async with Service(
        settings(**changes), subject, stop or asyncio.Event(), port=0, notifier=manager
    ) as one:
        yield one


async def reached(condition: object, within_s: float = 10.0) -> None:
    """Return once a condition holds."""
    assert callable(condition)
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def get(one: Service, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Ask the endpoint."""
    async with (
        aiohttp.ClientSession() as client,
        client.request(method, f"http://127.0.0.1:{one.port}{path}") as answer,
    ):
        return answer.status, await answer.read()


async def test_ready_is_told_once_with_the_first_data() -> None:
    """Not before data went out; then exactly once, with a status, and at the end that it stops."""
    subject, manager = Subject(), Manager()
    async with running(subject, manager):
        await reached(lambda: "STATUS=all well" in manager.sent)
        assert "READY=1" not in manager.sent
        subject.served = True
        await reached(lambda: "READY=1" in manager.sent)
        await asyncio.sleep(0.05)
    assert manager.sent.count("READY=1") == 1
    assert manager.sent[-1] == "STOPPING=1"


async def test_a_venue_that_cannot_be_reached_does_not_keep_the_service_from_being_up() -> None:
    """After the configured time it is told as ready: starting anew would not bring the venue
    back.
    """
    manager = Manager()
    async with running(Subject(), manager, ready_after_s=0.05):
        await reached(lambda: "READY=1" in manager.sent)


async def test_the_end_is_told_before_it_has_come() -> None:
    """STOPPING=1 goes out when the process is asked to end, the watchdog is fed while it drains."""
    manager, stop = Manager(watchdog_s=0.04), asyncio.Event()
    subject = Subject()
    async with running(subject, manager, stop):
        stop.set()
        await reached(lambda: "STOPPING=1" in manager.sent)
        subject.reasons = ["its loop was ended"]
        fed = manager.sent.count("WATCHDOG=1")
        await reached(lambda: manager.sent.count("WATCHDOG=1") > fed + 2)


async def test_a_hung_loop_does_not_feed_the_watchdog() -> None:
    """While the loop that handles data is blocked, nothing is sent; and the health check says
    afterwards how late it was.
    """
    subject, manager = Subject(), Manager(watchdog_s=0.04)
    async with running(subject, manager) as one:
        await reached(lambda: "WATCHDOG=1" in manager.sent)
        fed = manager.sent.count("WATCHDOG=1")
        time.sleep(1.2)  # noqa: ASYNC251 - the hang
        assert manager.sent.count("WATCHDOG=1") == fed
        await reached(lambda: manager.sent.count("WATCHDOG=1") > fed)
        status, body = await get(one, "/healthz")
        assert status == 503
        assert json.loads(body)["reasons"][0].startswith("the event loop was 1.")


async def test_a_stuck_subject_does_not_feed_the_watchdog() -> None:
    """The loop turns, but the work in it does not: only a new start helps."""
    subject, manager = Subject(), Manager(watchdog_s=0.04)
    async with running(subject, manager):
        await reached(lambda: "WATCHDOG=1" in manager.sent)
        subject.reasons = ["okx: no heartbeat for 9 s"]
        await asyncio.sleep(0.02)
        fed = manager.sent.count("WATCHDOG=1")
        count = manager.sent.count("STATUS=all well")
        subject.status = lambda: f"beat {time.monotonic()}"  # type: ignore[method-assign]
        await reached(lambda: sum(line.startswith("STATUS=beat") for line in manager.sent) >= 5)
        assert manager.sent.count("WATCHDOG=1") == fed
        assert count == 1


async def test_health_and_readiness_say_why() -> None:
    """200 or 503, and JSON with every reason; what keeps books from being live makes it unready,
    not unhealthy.
    """
    subject = Subject()
    async with running(subject, Manager()) as one:
        status, body = await get(one, "/healthz")
        told = json.loads(body)
        assert (status, told["status"], told["healthy"], told["ready"], told["reasons"]) == (
            200,
            "ok",
            True,
            True,
            [],
        )
        assert set(told) >= {"loop_late_s", "venues"}
        subject.unready = ["okx: 3 of 10 books are live"]
        status, body = await get(one, "/healthz")
        assert (status, json.loads(body)["ready"], json.loads(body)["reasons"]) == (
            200,
            False,
            subject.unready,
        )
        assert (await get(one, "/readyz"))[0] == 503
        subject.unhealthy = ["okx: no connection to the venue"]
        status, body = await get(one, "/healthz")
        assert (status, json.loads(body)["status"]) == (503, "failing")
        assert json.loads(body)["reasons"] == [
            "okx: no connection to the venue",
            "okx: 3 of 10 books are live",
        ]


async def test_metrics_are_those_of_the_subject_and_of_the_process() -> None:
    """In the text format of Prometheus, read when asked."""
    async with running(Subject(), Manager()) as one:
        status, body = await get(one, "/metrics")
        assert status == 200
        families = {
            family.name: family.samples[0].value
            for family in text_string_to_metric_families(body.decode())
        }
        assert families["tapecast_books"] == 7
        assert families["process_resident_memory_bytes"] > 0
        assert {"tapecast_log_lines_lost", "tapecast_loop_late_seconds"} <= set(families)


async def test_the_endpoint_only_answers() -> None:
    """Nothing can be changed by asking."""
    async with running(Subject(), Manager()) as one:
        assert (await get(one, "/metrics", "POST"))[0] == 405
        assert (await get(one, "/"))[0] == 404
        assert (await get(one, "/healthz", "HEAD"))[0] == 200


async def test_without_a_port_nothing_listens() -> None:
    """Readiness and watchdog work all the same."""
    subject, manager = Subject(), Manager()
    subject.served = True
    async with Service(settings(), subject, asyncio.Event(), port=None, notifier=manager) as one:
        await reached(lambda: "READY=1" in manager.sent)
        assert one.port is None


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a port that is in use."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


async def test_a_port_in_use_is_an_error_that_names_the_key(taken: int) -> None:
    """Exit code 75: another time it may work."""
    with pytest.raises(
        TryAgainError, match=rf"127\.0\.0\.1:{taken} .* in use \(see service\.port_base\)"
    ):
        async with Service(settings(), Subject(), asyncio.Event(), port=taken, notifier=Manager()):
            pass
    with pytest.raises(TryAgainError, match=r"192\.0\.2\.1:\d+ .* no address of this host"):
        async with Service(
            settings(address="192.0.2.1"),
            Subject(),
            asyncio.Event(),
            port=taken,
            notifier=Manager(),
        ):
            pass


def test_a_process_without_an_event_loop_has_a_thread_for_it(taken: int) -> None:
    """The same endpoint for a synchronous consumer; it is gone after the block, and errors come
    out.
    """
    subject = Subject()

    def ask() -> tuple[int, bytes]:
        return asyncio.run(get_from(port))

    async def get_from(port: int) -> tuple[int, bytes]:
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{port}/metrics") as answer,
        ):
            return answer.status, await answer.read()

    with in_thread(
        Endpoint("127.0.0.1", 0, lambda: subject.metrics(1), lambda: subject.health(1))
    ) as port:
        status, body = ask()
        assert status == 200
        assert b"tapecast_books 7.0" in body
    with pytest.raises(aiohttp.ClientConnectionError):
        ask()
    with (
        pytest.raises(TryAgainError, match="in use"),
        in_thread(
            Endpoint("127.0.0.1", taken, lambda: subject.metrics(1), lambda: subject.health(1))
        ),
    ):
        pass
