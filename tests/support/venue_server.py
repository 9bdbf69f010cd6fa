"""A local server that stands in for a venue and does what a test's script says, also what no
venue should do.

Recordings are served by `feeder.replay`; this one is for faults. A WebSocket script is a
coroutine that is given each connection; a REST script is a function from a request to an answer.
Every connect and request is kept with its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tapecast.feeder.live import LiveFeeder
from tapecast.feeder.login.access import Access
from tapecast.feeder.record.recorder import Recorder
from tapecast.feeder.record.recording import Line, read
from tapecast.feeder.venues import venue
from tapecast.feeder.venues.spec import VenueSpec
from tapecast.runtime import config as configuration
from tapecast.runtime.settings import Config
from tests.support.processes import Net

__all__ = ["Answer", "Asked", "Link", "VenueServer", "eventually", "feeding", "lines"]

Link = ServerConnection


@dataclass(frozen=True)
class Answer:
    """What a REST request is answered; `wait_s` before it."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0


@dataclass(frozen=True)
class Asked:
    """A REST request that came, and when (monotonic seconds)."""

    at_s: float
    path: str
    query: dict[str, str]
    method: str
    headers: Mapping[str, str]


class VenueServer:
    """One WebSocket and one REST server on loopback."""

    def __init__(
        self,
        script: Callable[[Link], Awaitable[None]] | None = None,
        rest: Callable[[Asked], Answer] | None = None,
    ) -> None:
        """Without a script connections stay open and silent; without `rest` every request is
        answered 404.
        """
        self._script = script
        self._rest = rest
        self.links: list[Link] = []
        """Open connections."""
        self.connects_s: list[float] = []
        self.heard: list[bytes] = []
        """Messages of the client, in order."""
        self.heard_on: dict[Link, list[bytes]] = {}
        """The same by connection."""
        self.asked: list[Asked] = []
        self.ws = self.http = ""
        self.tls: ssl.SSLContext | None = None
        """With one, WebSockets are served encrypted."""
        self.venue_paths = False
        """Whether clients are to use the paths of the venue's own WebSocket URLs."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[VenueServer]:
        """Listen for the length of the block."""
        runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        self.http = f"http://127.0.0.1:{port}"
        async with serve(
            self._serve,
            "127.0.0.1",
            0,
            compression=None,
            max_size=None,
            ping_interval=None,
            close_timeout=0.2,
            ssl=self.tls,
        ) as server:
            self.ws = f"{'ws' if self.tls is None else 'wss'}://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            try:
                yield self
            finally:
                server.close(close_connections=True)
        await runner.cleanup()

    async def hear(self, link: Link, data: bytes) -> None:
        """Take a message of the client; here nothing comes of it."""

    def count(self, path: str) -> int:
        """Return how many requests for a path came."""
        return sum(asked.path == path for asked in self.asked)

    async def _serve(self, link: Link) -> None:
        self.connects_s.append(time.monotonic())
        self.links.append(link)
        listener = asyncio.create_task(self._listen(link))
        try:
            if self._script is not None:
                await self._script(link)
            await link.wait_closed()
        except ConnectionClosed:
            pass
        finally:
            self.links.remove(link)
            listener.cancel()

    async def _listen(self, link: Link) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in link:
                data = message if isinstance(message, bytes) else message.encode()
                self.heard.append(data)
                self.heard_on.setdefault(link, []).append(data)
                await self.hear(link, data)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = Asked(
            time.monotonic(), request.path, dict(request.query), request.method, request.headers
        )
        self.asked.append(asked)
        answer = self._rest(asked) if self._rest is not None else Answer(404)
        if answer.wait_s:
            await asyncio.sleep(answer.wait_s)
        return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))


@contextlib.asynccontextmanager
async def feeding(
    name: str,
    server: VenueServer,
    net: Net,
    folder: Path,
    *,
    spec: VenueSpec | None = None,
    recorder: Recorder | None = None,
    access: Access | None = None,
    **settings: object,
) -> AsyncIterator[LiveFeeder]:
    """Run a venue's live feeder against a server for the length of the block; settings are
    written section__key=value.

    The feeder must run until the end of the block, and then end within seconds.
    """
    config = feeder_config(name, server, net, folder, **settings)
    feeder = LiveFeeder(spec or venue(name), config, recorder=recorder, access=access)
    stop = asyncio.Event()
    task = asyncio.create_task(feeder.run(stop))
    try:
        yield feeder
        assert not task.done(), task.exception()
    finally:
        stop.set()
        async with asyncio.timeout(5.0):
            await task


def feeder_config(
    name: str, server: VenueServer, net: Net, folder: Path, **settings: object
) -> Config:
    """Return the configuration that lets a server stand in for a venue."""
    endpoints = configuration.load(environ={}, system=folder / "none").venues[name].endpoints
    overlay = net.overlay(
        feeder__state_dir=str(folder / "state"),
        feeder__quarantine_dir=str(folder / "quarantine"),
        feeder__session_end_s=0,
        **settings,
    )
    for key, url in endpoints.items():
        path = urlsplit(url).path if server.venue_paths else ""
        overlay[f"venues.{name}.endpoints.{key}"] = (
            server.ws + path if url.startswith("ws") else server.http
        )
    return configuration.load(overlay, environ={}, system=folder / "none")


async def eventually(
    condition: Callable[[], object], *, within_s: float = 10.0, what: str = ""
) -> None:
    """Return once `condition` is true; AssertionError after `within_s`."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what or condition!r}"
        await asyncio.sleep(0.005)


def lines(path: Path, kind: str = "recv") -> Iterator[Line]:
    """Yield the lines of one kind of a recording."""
    return (line for line in read([path]) if line.kind == kind)
