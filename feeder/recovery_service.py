"""The recovery service on TCP: a thin asyncio shell around `feeder.recovery`.

It accepts, reads into a small buffer, writes, and closes who is idle, does not read, or sends junk. Its work is done in steps
between two reads of the feeder's sockets, and pauses after `_BURST_NS`: whatever clients do, most of the time is the feed's.
"""

from __future__ import annotations

import asyncio
import socket
import time

from feeder.recovery import RecoveryServer
from feeder.recovery_types import Client, Limits, Source
from runtime import logs

__all__ = ["RecoveryService"]

_READ_BYTES = 4096
_UNSENT_BYTES = 256 << 10
"""Bytes written for a client and not yet taken by the kernel, from which on it gets no more."""
_KERNEL_BYTES = 512 << 10
_WAITING = 16
"""Connections that are accepted in one go."""
_BURST_NS = 500_000
_PAUSE_S = 0.001
_LISTEN_AGAIN_S = 5.0

log = logs.get("feeder.recovery")


class RecoveryService:
    """Serves `source` on TCP from `start` to `close`, on `host` and `port` (0 = any)."""

    def __init__(
        self, source: Source, limits: Limits, venue: str, host: str = "127.0.0.1", port: int = 0, *, listen: bool = True
    ) -> None:
        """Without `listen` it does nothing."""
        self.server = RecoveryServer(source, limits)
        self.port = 0
        """Where it listens; 0 = not yet, or no more."""
        self._venue = venue
        self._address = (host, port)
        self._listens = listen
        self._listener: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop
        self._connections: dict[Client, _Connection] = {}
        self._due = False
        self._spent_ns = 0
        self._noted = 0
        self._last = "", ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Where the port is taken the feed goes on without this service, says so, and tries again until it is free."""
        if not self._listens:
            return
        self._loop = asyncio.get_running_loop()
        self._tasks = {asyncio.create_task(self._watch())}
        if not await self._listen():
            self._tasks.add(asyncio.create_task(self._listen_again()))

    async def _listen(self) -> bool:
        host, port = self._address
        try:
            self._listener = await self._loop.create_server(lambda: _Connection(self), host, port, backlog=_WAITING)
        except OSError as error:
            log.error("recovery service cannot listen", venue=self._venue, host=host, port=port, error=str(error))
            return False
        self.port = int(self._listener.sockets[0].getsockname()[1])
        log.info("recovery service", venue=self._venue, host=host, port=self.port)
        return True

    async def _listen_again(self) -> None:
        while True:
            await asyncio.sleep(_LISTEN_AGAIN_S)
            if await self._listen():
                return

    async def close(self) -> None:
        """Listen no more and drop every client."""
        self.port = 0
        for task in self._tasks:
            task.cancel()
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(self._connections.values()):
            connection.transport.abort()
        # What `abort` asked for happens in the loop's next turn.
        await asyncio.sleep(0)

    def report(self) -> dict[str, int]:
        """Return the counters, and how many clients there are now."""
        return {**dict(sorted(self.server.counts.items())), "clients": len(self.server.clients)}

    # connections

    def opened(self, connection: _Connection) -> Client | None:
        """Take a client in; None: it was refused."""
        client = self.server.connect(time.monotonic_ns())
        if client is not None:
            self._connections[client] = connection
        return client

    def closed(self, client: Client) -> None:
        """Forget a client."""
        self._connections.pop(client, None)
        self.server.disconnect(client)

    def note(self, peer: str, reason: str) -> None:
        """Note that a client is closed against its will: one line of the log a second tells of the last one, and how many."""
        self._noted += 1
        self._last = peer, reason

    def wake(self) -> None:
        """See to it that whoever waits gets a turn."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._due = False
        started_ns = time.monotonic_ns()
        try:
            step = self.server.step(started_ns, time.time_ns())
            if step is None:
                self._spent_ns = 0
                return
            self._connections[step.client].deliver(step.data)
        except Exception as error:  # a defect of ours costs clients their answers, never the feed
            self.server.counts["failed"] += 1
            log.error("recovery step failed", venue=self._venue, error=repr(error), exc_info=error)
        self._spent_ns += time.monotonic_ns() - started_ns
        if self._spent_ns < _BURST_NS:
            self.wake()
        else:
            self._spent_ns = 0
            self._due = True
            self._loop.call_later(_PAUSE_S, self._turn)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for client in self.server.overdue(time.monotonic_ns()):
                connection = self._connections[client]
                self.note(connection.peer, client.closing)
                connection.transport.abort()
            if self._noted:
                peer, reason = self._last
                log.warning("recovery clients closed", venue=self._venue, clients=self._noted, client=peer, reason=reason)
                self._noted = 0


class _Connection(asyncio.BufferedProtocol):
    """One TCP connection."""

    def __init__(self, service: RecoveryService) -> None:
        self._service = service
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self._paused = False
        self._client: Client | None = None
        self.transport: asyncio.Transport
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        service = self._service
        host, port = transport.get_extra_info("peername")[:2]
        self.peer = f"{host}:{port}"
        transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
        self._client = service.opened(self)
        if self._client is None:
            service.note(self.peer, "too many clients")
            transport.write(service.server.refusal(time.time_ns()))
            transport.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes in, and no more of them while there are requests enough."""
        client, service = self._client, self._service
        if client is None or client.closing:
            return
        service.server.receive(client, self._view[:nbytes])
        if not service.server.wants(client):
            self._paused = True
            self.transport.pause_reading()
        service.wake()

    def eof_received(self) -> bool:
        """Answer what was asked before the end."""
        if self._client is None:
            return False
        self._service.server.end(self._client)
        self._service.wake()
        return True

    def pause_writing(self) -> None:
        """Too much is unsent."""
        if self._client is not None:
            self._service.server.block(self._client, time.monotonic_ns())

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._client is not None:
            self._service.server.unblock(self._client)
            self._service.wake()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        if self._client is not None:
            self._service.closed(self._client)

    def deliver(self, data: bytes) -> None:
        """Write a piece of an answer; close after the last one."""
        client = self._client
        assert client is not None
        if data:
            self.transport.write(data)
        if client.closing:
            if client.closing != "ended":
                self._service.note(self.peer, client.closing)
            self.transport.close()
        elif self._paused and self._service.server.wants(client):
            self._paused = False
            self.transport.resume_reading()
