"""The replay server of one venue: its WebSocket and REST endpoints on one loopback port, fed
from a recording.

A thin shell: aiohttp's low-level server takes connections, the dialect answers, the player
sends. It serves what was recorded and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from aiohttp import WSMsgType, web

from tapecast.feeder.replay.connection import Connection
from tapecast.feeder.replay.dialect import Dialect, Granting, VenueSide
from tapecast.feeder.replay.events import Client, End, Listening, ReplayEvent
from tapecast.feeder.replay.player import Player
from tapecast.feeder.replay.timeline import Timeline, load
from tapecast.feeder.replay.venues import DIALECTS, by_venue

__all__ = ["ReplayServer", "Urls"]

_CLOSE_TIMEOUT_S = 5.0
_WRITE_BUFFER = 256 * 1024


class Urls(NamedTuple):
    """Base URLs; clients add the venue's own paths."""

    ws: str
    rest: str


class ReplayServer:
    """Serve recordings of one venue in its own dialect; the rules are in docs/replay.md.

    `start()`, then clients connect; `wait_end()` returns when the recording has been played and
    read; `close()` ends all.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        venue: str | None = None,
        *,
        speed: float = 1.0,
        host: str = "127.0.0.1",
        port: int = 0,
        start_after: int = 1,
        settle_s: float = 0.5,
        rest_wait_s: float = 5.0,
        loop: bool = False,
        in_order: bool = True,
        on_event: Callable[[ReplayEvent], None] | None = None,
    ) -> None:
        """Take several files as one recording in order; raise UnknownVenueError where the venue
        is not told or not known.

        `speed` 1 is the recorded pace, `math.inf` as fast as the clients read. `start_after`:
        how many connections must have subscribed, `settle_s`: for how long none may change
        before playing starts. `rest_wait_s`: how long the timeline waits for the request of a
        symbol's first snapshot. `loop`: play again for clients that subscribe after the end.
        `in_order`: frames of one symbol on different connections are read in recorded order.
        """
        groups = by_venue([Path(path) for path in paths], venue)
        if len(groups) != 1:
            raise ValueError(f"one venue a server, not {', '.join(groups) or 'none'}")
        if not speed > 0:
            raise ValueError(f"speed must be positive, not {speed}")
        ((self.venue, self._paths),) = groups.items()
        self._dialect: Dialect = DIALECTS[self.venue]
        self._speed, self._start_after, self._settle_s, self._rest_wait_s = (
            speed,
            start_after,
            settle_s,
            rest_wait_s,
        )
        self._host, self._port, self._loop, self._in_order = host, port, loop, in_order
        self._on_event = on_event
        self._frontend: _Frontend | None = None
        self._listener: asyncio.Server | None = None
        self._playing: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._timeline: Timeline | None = None
        self._player: Player | None = None

    @property
    def urls(self) -> Urls:
        """Return where it listens; only after `start()`."""
        assert self._listener is not None, "not started"
        port = self._listener.sockets[0].getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        return Urls(f"ws://{host}:{port}", f"http://{host}:{port}")

    @property
    def timeline(self) -> Timeline:
        """Return the recording as it is laid out; only after `start()`."""
        assert self._timeline is not None, "not started"
        return self._timeline

    @property
    def frames_sent(self) -> int:
        """Return how many market data frames were sent, each connection counted."""
        return 0 if self._player is None else self._player.frames_sent

    async def start(self) -> Urls:
        """Read the recording and listen; raise TimelineError, OSError (port in use) or what the
        recording reader raises.
        """
        self._timeline = await asyncio.to_thread(load, self._paths, self._dialect)
        self._player = Player(
            self._timeline,
            speed=self._speed,
            start_after=self._start_after,
            settle_s=self._settle_s,
            rest_wait_s=self._rest_wait_s,
            in_order=self._in_order,
        )
        self._frontend = _Frontend(self._handle)
        self._listener = await asyncio.get_running_loop().create_server(
            self._frontend, self._host, self._port
        )
        self._playing = asyncio.create_task(self._play())
        self._notify(Listening(self.venue, *self.urls))
        return self.urls

    async def wait_end(self) -> None:
        """Return when the recording has been played to its end and read; raise what made the
        playing fail.
        """
        assert self._playing is not None, "not started"
        ended = asyncio.create_task(self._ended.wait())
        await asyncio.wait((ended, self._playing), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if self._playing.done():
            self._playing.result()

    async def close(self) -> None:
        """Stop playing, stop listening and close every connection."""
        if self._playing is not None:
            self._playing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._playing
        if self._listener is not None:
            self._listener.close()
        if self._frontend is not None:
            for transport in self._frontend.transports():
                transport.close()
            await self._frontend.shutdown(0.1)

    def drop_connections(self) -> None:
        """Abort every TCP connection, as a failing venue or network would."""
        assert self._frontend is not None, "not started"
        assert self._player is not None, "not started"
        for connection in tuple(self._player.connections):
            connection.abort()
            self._player.leave(connection)
        for transport in self._frontend.transports():
            transport.abort()

    def pause(self) -> None:
        """Stop the timeline; connections stay open and acknowledged."""
        assert self._player is not None, "not started"
        self._player.pause()

    def resume(self) -> None:
        """Let the timeline go on after `pause()`."""
        assert self._player is not None, "not started"
        self._player.resume()

    async def _play(self) -> None:
        player, timeline = self._player, self._timeline
        assert player is not None
        assert timeline is not None
        loop = asyncio.get_running_loop()
        await player.ready()
        while True:
            before, since_s = player.frames_sent, loop.time()
            await player.play()
            self._notify(
                End(self.venue, player.frames_sent - before, round(loop.time() - since_s, 6))
            )
            self._ended.set()
            if not self._loop:
                return
            player.desk.reset(timeline.snapshots)
            await player.newcomer()
            self._ended.clear()

    def _notify(self, event: ReplayEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request or serve one WebSocket connection until it closes."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return await self._rest(request)
        session = self._dialect.connect(request.path, request.query)
        if session is None:
            return _json_response(self._dialect.missing(request.path, None), status=404)
        return await self._websocket(request, session)

    async def _rest(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._player is not None
        assert self._frontend is not None
        granted = self._dialect.grant(request.path) if isinstance(self._dialect, Granting) else None
        if granted is not None:
            return _json_response(granted)
        symbol = self._dialect.snapshot_of(request.path, request.query)
        if symbol is None:
            body = self.timeline.body(request.path, request.query)
            if body is None:
                return _json_response(self._dialect.missing(request.path, None), status=404)
            return _json_response(body)
        gone = self._frontend.gone(request)
        body = await self._player.desk.ask(symbol, gone)
        if body is None:
            return _json_response(self._dialect.missing(request.path, symbol), status=404)
        response = _json_response(body)
        response.force_close()
        await response.prepare(request)
        await response.write_eof()
        # The client closes, not the server: its closing says that it has the body.
        await asyncio.wait((gone,), timeout=_CLOSE_TIMEOUT_S)
        return response

    async def _websocket(self, request: web.BaseRequest, session: VenueSide) -> web.StreamResponse:
        assert self._player is not None
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=1 << 20)
        writer = await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        connection = Connection(
            session, transport, drain=writer.drain, ping=socket.ping, path=request.path
        )
        self._player.join(connection)
        self._client(connection, "connected")
        try:
            self._subscribe(connection)
            async for message in socket:
                if message.type is WSMsgType.PONG:
                    connection.pong(bytes(message.data))
                elif message.type is WSMsgType.PING:
                    await socket.pong(message.data)
                elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    text = (
                        message.data
                        if isinstance(message.data, str)
                        else bytes(message.data).decode("utf-8", "replace")
                    )
                    # The acknowledgement goes out before the first frame of the stream.
                    for answer in session.receive(text):
                        await socket.send_str(answer)
                    self._subscribe(connection)
        except ConnectionError:
            pass  # the client went away between two lines; leaving is handled below
        finally:
            self._player.leave(connection)
            self._client(connection, "gone")
        return socket

    def _subscribe(self, connection: Connection) -> None:
        assert self._player is not None
        recorded = self.timeline.routes
        streams = tuple(
            dict.fromkeys(
                self._dialect.resolve(name, recorded) for name in connection.session.streams()
            )
        )
        if streams != connection.streams:
            self._player.subscribe(connection, streams)
            self._client(connection, "subscribed")

    def _client(self, connection: Connection, action: str) -> None:
        recorded = sum(stream in self.timeline.routes for stream in connection.streams)
        self._notify(
            Client(self.venue, action, connection.path, 0 if action == "gone" else recorded)
        )


class _Frontend(web.Server):
    """aiohttp's server, which also tells when a client's TCP connection is gone."""

    def __init__(self, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(handle, access_log=None)
        self._gone: dict[object, asyncio.Future[None]] = {}

    def gone(self, request: web.BaseRequest) -> asyncio.Future[None]:
        """Return a future that is done when the connection of `request` is closed."""
        future = self._gone.get(request.protocol)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            if request.transport is None:
                future.set_result(None)
            else:
                self._gone[request.protocol] = future
        return future

    def transports(self) -> list[asyncio.Transport]:
        """Return the transports of every open connection."""
        return [handler.transport for handler in self.connections if handler.transport is not None]

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Wake whoever waits for this client to close."""
        super().connection_lost(handler, exc)
        future = self._gone.pop(handler, None)
        if future is not None and not future.done():
            future.set_result(None)


def _json_response(body: str | bytes, *, status: int = 200) -> web.Response:
    data = body.encode() if isinstance(body, str) else body
    return web.Response(body=data, status=status, content_type="application/json", charset="utf-8")
