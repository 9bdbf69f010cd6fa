"""A process as a service: it tells the manager that it is ready and alive, and answers /metrics
and /healthz.

One beat in the event loop that handles the data does all of it. A loop that hangs, or a subject
that says it is stuck, stops feeding the watchdog, and the manager starts the process anew; a
venue that cannot be reached does neither, because starting anew would not help it and would
break the pace at which it is tried. What a subject is made of, its own room knows
(`feeder.metrics`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from tapecast.runtime import logs
from tapecast.runtime.service.notify import Notifier
from tapecast.runtime.settings import Service as Settings

if TYPE_CHECKING:
    from prometheus_client import Metric

    from tapecast.runtime.service.endpoint import Endpoint, Health

__all__ = ["Service", "Subject"]

_BEAT_S = 0.25
_STATUS_S = 1.0
_LATE_S = 1.0
"""A loop that turns later than this is unhealthy."""
_LATE_KEPT_S = 10.0

log = logs.get("runtime.service.service")


class Subject(Protocol):
    """What a process does, as its service asks it; every method is cheap and called in the loop."""

    def stuck(self, now_ns: int) -> Sequence[str]:
        """Return why only a new start would help; nothing = it works."""
        ...

    def serving(self) -> bool:
        """Return whether data have gone out."""
        ...

    def status(self) -> str:
        """Return a line for the manager's list of services."""
        ...

    def health(self, now_ns: int) -> Health:
        """Return how it is."""
        ...

    def metrics(self, now_ns: int) -> Iterable[Metric]:
        """Return everything it counts."""
        ...


class Service:
    """Runs beside a subject: `async with Service(…)`. `stop`: set when the process is asked to
    end.
    """

    def __init__(
        self,
        settings: Settings,
        subject: Subject,
        stop: asyncio.Event,
        *,
        port: int | None,
        notifier: Notifier | None = None,
    ) -> None:
        """`port` of the endpoint, None = none, 0 = any; `notifier`: None = that of the
        environment.
        """
        self._settings, self._subject, self._stop = settings, subject, stop
        self._port = port
        self._notifier = Notifier() if notifier is None else notifier
        self._endpoint: Endpoint | None = None
        self._late_s, self._late_at = 0.0, 0.0
        self._task: asyncio.Task[None] | None = None
        self.port: int | None = None
        """Where the endpoint answers."""

    async def __aenter__(self) -> Service:
        """Begin. Raises TryAgainError where the port is in use."""
        if self._port is not None:
            from tapecast.runtime.service.endpoint import (
                Endpoint,
            )  # here, so that a process without it does not pay for it

            endpoint = Endpoint(self._settings.address, self._port, self._metrics, self._health)
            self.port = await endpoint.start()
            self._endpoint = endpoint
            log.info("endpoint_listening", url=f"http://{self._settings.address}:{self.port}")
        self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._notifier.stopping()
        self._notifier.close()
        if self._endpoint is not None:
            await self._endpoint.close()

    async def _beat(self) -> None:
        notifier, subject = self._notifier, self._subject
        began = fed = last = time.monotonic()
        told = 0.0
        ready = stopping = False
        complained = False
        while True:
            await asyncio.sleep(_BEAT_S)
            now = time.monotonic()
            self._note_lateness(now - last - _BEAT_S, now)
            last = now
            if self._stop.is_set() and not stopping:
                stopping = True
                notifier.stopping()
                notifier.status("ending")
            stuck = () if stopping else subject.stuck(int(now * 1e9))
            if stuck and not complained:
                log.error("stuck", reasons=list(stuck), watchdog_s=notifier.watchdog_s)
            complained = bool(stuck)
            if (
                notifier.watchdog_s is not None
                and not stuck
                and now - fed >= notifier.watchdog_s / 4
            ):
                fed = now
                notifier.watchdog()
            if (
                not ready
                and not stopping
                and (subject.serving() or now - began >= self._settings.ready_after_s)
            ):
                ready = True
                notifier.ready()
            if not stopping and now - told >= _STATUS_S:
                told = now
                notifier.status(subject.status())

    def _note_lateness(self, late_s: float, now: float) -> None:
        if late_s >= self._late_s or now - self._late_at > _LATE_KEPT_S:
            self._late_s, self._late_at = max(late_s, 0.0), now

    def _health(self) -> Health:
        health = self._subject.health(time.monotonic_ns())
        late = (f"the event loop was {self._late_s:.1f} s late",) if self._late_s >= _LATE_S else ()
        return health._replace(
            unhealthy=late + health.unhealthy,
            details={"loop_late_s": round(self._late_s, 3), **health.details},
        )

    def _metrics(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield GaugeMetricFamily(
            "tapecast_loop_late_seconds",
            "How late the event loop turned at worst in the last ten seconds",
            value=self._late_s,
        )
        yield CounterMetricFamily(
            "tapecast_log_lines_lost", "Log lines that could not be written", value=logs.lost()
        )
        yield from self._subject.metrics(time.monotonic_ns())
