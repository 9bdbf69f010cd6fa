"""`/metrics`, `/healthz` and `/readyz` of a process, on aiohttp and prometheus-client.

Everything is read when somebody asks, from the objects that do the work: counting costs nothing
extra and there is no second truth. The endpoint runs in the event loop that handles the data, so
that it answers late, and says so, when that loop is late; a process without an event loop has a
thread for it (`in_thread`). It gives no control: GET only, nothing is changed by asking.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import Callable, Iterable, Iterator

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from tapecast.runtime.errors import TryAgainError
from tapecast.runtime.service.subject import Health

__all__ = ["Endpoint", "Health", "in_thread"]

_TRANSIENT = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})


class Endpoint:
    """Answers for one process."""

    def __init__(
        self,
        address: str,
        port: int,
        metrics: Callable[[], Iterable[Metric]],
        health: Callable[[], Health],
        *,
        key: str = "service.port_base",
    ) -> None:
        """`key` names the setting that the port comes from, for the message when it is in use."""
        self._address, self._port, self._key = address, port, key
        self._health = health
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Source(metrics))
        ProcessCollector(registry=self._registry)
        self._runner: web.ServerRunner | None = None

    async def start(self) -> int:
        """Listen, and return the port. Raises TryAgainError where it is in use."""
        runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._address, self._port).start()
        except OSError as error:
            await runner.cleanup()
            if error.errno not in _TRANSIENT:
                raise
            why = "is in use" if error.errno == errno.EADDRINUSE else "is no address of this host"
            raise TryAgainError(
                f"{self._address}:{self._port} for /metrics and /healthz {why} (see {self._key})"
            ) from error
        self._runner = runner
        return int(runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        if request.path == "/metrics":
            return web.Response(
                body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
            )
        if request.path in ("/healthz", "/readyz"):
            return _health(self._health(), ready=request.path == "/readyz")
        return web.Response(status=404, text="/metrics, /healthz, /readyz\n")


@contextlib.contextmanager
def in_thread(endpoint: Endpoint) -> Iterator[int]:
    """Run an endpoint in a thread of its own for the length of the block, and give its port;
    raises what `start` raises.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="endpoint", daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(endpoint.start(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(endpoint.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _health(health: Health, *, ready: bool) -> web.Response:
    reasons = health.unhealthy + (health.unready if ready else ())
    body = {
        "status": "failing" if reasons else "ok",
        "healthy": not health.unhealthy,
        "ready": not health.unhealthy and not health.unready,
        "reasons": [*health.unhealthy, *health.unready],
        **health.details,
    }
    return web.Response(
        status=503 if reasons else 200, body=orjson.dumps(body), content_type="application/json"
    )


class _Source(Collector):
    def __init__(self, metrics: Callable[[], Iterable[Metric]]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Return what the process counts, now."""
        return self._metrics()
