"""Shows a subject to the service manager and to the endpoint, for as long as it runs.

One beat in the event loop that handles the data does all of it. A loop that hangs, or a subject
that says it is stuck, stops feeding the watchdog, and the manager starts the process again; a
venue that cannot be reached does neither, because a new start would not help it and would break
the pace at which it is tried. What a subject is made of, its own room knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from tapecast.runtime import logs
from tapecast.runtime.service.notify import Notifier
from tapecast.runtime.service.subject import Health, Subject
from tapecast.runtime.settings import Service as Settings

if TYPE_CHECKING:
    from prometheus_client import Metric

    from tapecast.runtime.service.endpoint import Endpoint

__all__ = ["Service"]

_BEAT_S = 0.25
_STATUS_S = 1.0
_LATE_S = 1.0
"""A loop that turns later than this is unhealthy."""
_LATE_KEPT_S = 10.0

log = logs.get("runtime.service.service")


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
        self._began = self._fed = time.monotonic()
        self._status_at = 0.0
        self._ready = self._stuck = self._failing = self._draining = False
        self._task: asyncio.Task[None] | None = None
        self.port: int | None = None
        """Where the endpoint answers."""

    async def __aenter__(self) -> Service:
        """Begin. Raises TryAgainError where the port is in use."""
        if self._port is not None:
            # Here, so that a process without it does not pay for it.
            from tapecast.runtime.service.endpoint import Endpoint

            endpoint = Endpoint(self._settings.address, self._port, self._metrics, self._health)
            self.port = await endpoint.start()
            self._endpoint = endpoint
            log.info("endpoint_listening", url=f"http://{self._settings.address}:{self.port}")
        self._task = asyncio.create_task(self._run(), name="service")
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

    async def _run(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(_BEAT_S)
            now = time.monotonic()
            self._note_lateness(now - last - _BEAT_S, now)
            last = now
            # A defect in what the subject says of itself must not end the beat; one in `stuck`
            # leaves the watchdog unfed.
            try:
                self._beat(now)
            except Exception as error:
                if not self._failing:
                    log.error("beat_failed", error=repr(error), exc_info=error)
                self._failing = True
            else:
                self._failing = False

    def _beat(self, now: float) -> None:
        if self._stop.is_set():
            self._drain(now)
            return
        notifier, subject = self._notifier, self._subject
        stuck = subject.stuck(int(now * 1e9))
        if stuck and not self._stuck:
            log.error("stuck", reasons=list(stuck), watchdog_s=notifier.watchdog_s)
        self._stuck = bool(stuck)
        if not stuck:
            self._feed(now)
        if not self._ready and (
            subject.serving() or now - self._began >= self._settings.ready_after_s
        ):
            self._ready = True
            notifier.ready()
        if now - self._status_at >= _STATUS_S:
            self._status_at = now
            notifier.status(subject.status())

    def _drain(self, now: float) -> None:
        """Feed the watchdog while the subject drains: `runtime.service.loop` holds the deadline."""
        if not self._draining:
            self._draining = True
            self._notifier.stopping()
            self._notifier.status("ending")
        self._feed(now)

    def _feed(self, now: float) -> None:
        watchdog_s = self._notifier.watchdog_s
        if watchdog_s is not None and now - self._fed >= watchdog_s / 4:
            self._fed = now
            self._notifier.watchdog()

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
