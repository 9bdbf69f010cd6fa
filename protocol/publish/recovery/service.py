"""The recovery service on TCP: a thin asyncio shell around `protocol.publish.recovery.server`.

It accepts, reads into a small buffer, writes, and closes who is idle, does not read, or sends
junk. Its work is done in turns between two reads of the publisher's own sockets, and pauses after
`_BURST_NS`: whatever clients do, most of the time is the channel's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Coroutine, Sequence
from typing import Any, cast

from tapecast.protocol.publish.recovery.server import RecoveryServer
from tapecast.protocol.publish.recovery.source import Source
from tapecast.protocol.publish.recovery.types import Client, Limits, Piece

__all__ = ["RecoveryService"]

_READ_BYTES = 4096
_UNSENT_BYTES = 256 << 10
"""Bytes written for a client and not yet taken by the kernel, from which on it gets no more."""
_KERNEL_BYTES = 512 << 10
_WAITING = 1024
"""Connections that may wait to be accepted: with too few a crowd of joiners waits for seconds,
for TCP's next try.
"""
_BURST_NS = 500_000
_PAUSE_S = 0.001
_LISTEN_AGAIN_S = 5.0

log = logging.getLogger(__name__)


class RecoveryService:
    """Serves `source` on TCP from `start` to `close`, on `host` and `port` (0 = any)."""

    def __init__(
        self,
        source: Source,
        limits: Limits,
        name: str,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        listen: bool = True,
        keys: Sequence[bytes] = (),
    ) -> None:
        """Without `listen` it does nothing; `keys` as for `RecoveryServer`."""
        self.server = RecoveryServer(source, limits, keys)
        self.port = 0
        """Where it listens; 0 = not yet, or no more."""
        self._name = name
        self._address = (host, port)
        self._listens = listen
        self._listener: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop
        self._connections: dict[Client, _Connection] = {}
        self._knocked = False
        """Whether somebody waits to be accepted."""
        self._due = False
        self._spent_ns = self._longest_ns = 0
        self._noted = 0
        self._last = "", ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; call it once, in the loop that publishes. Where the port is taken the channel
        goes on without this service, logs it, and tries again until it is free.
        """
        if not self._listens:
            return
        self._loop = asyncio.get_running_loop()
        self._spawn(self._watch())
        if not self._listen():
            self._spawn(self._listen_again())

    async def close(self) -> None:
        """Stop listening and drop every client; `port` is 0 from here on, for good.
        A second call does nothing.
        """
        self.port = 0
        self._listens = False
        for task in self._tasks:
            task.cancel()
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for connection in tuple(self._connections.values()):
            connection.transport.abort()
        # What `abort` asked for happens in the loop's next turn.
        await asyncio.sleep(0)

    def _log(
        self, level: int, event: str, error_info: Exception | None = None, **fields: object
    ) -> None:
        log.log(level, event, exc_info=error_info, extra={"channel": self._name, **fields})

    def report(self) -> dict[str, int]:
        """Return the counters, how many clients there are now, and the longest that the channel
        waited for a turn.
        """
        counts = dict(sorted(self.server.counts.items()))
        return {
            **counts,
            "clients": len(self.server.clients),
            "longest_turn_us": self._longest_ns // 1000,
        }

    def _listen(self) -> bool:
        host, port = self._address
        listener = socket.socket(
            socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Connections inherit it.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
            listener.bind((host, port))
            listener.listen(_WAITING)
        except OSError as error:
            listener.close()
            self._log(logging.ERROR, "recovery_cannot_listen", host=host, port=port, error=error)
            return False
        self._listener = listener
        self.port = int(listener.getsockname()[1])
        self._loop.add_reader(listener, self._knock)
        self._log(logging.INFO, "recovery_listening", host=host, port=self.port)
        return True

    async def _listen_again(self) -> None:
        while True:
            await asyncio.sleep(_LISTEN_AGAIN_S)
            if self._listen():
                return

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for client in self.server.overdue(time.monotonic_ns()):
                connection = self._connections[client]
                if client.blocked_ns is not None:  # to be idle is no fault
                    self.note(connection.peer, client.closing)
                connection.transport.abort()
            if self._noted:
                peer, reason = self._last
                self._log(
                    logging.WARNING,
                    "recovery_clients_closed",
                    clients=self._noted,
                    client=peer,
                    reason=reason,
                )
                self._noted = 0

    def note(self, peer: str, reason: str) -> None:
        """Note that a client is closed against its will: one line of the log a second names
        the last one, and how many.
        """
        self._noted += 1
        self._last = peer, reason

    # turns

    def wake(self) -> None:
        """See to it that whoever waits gets a turn."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._due = False
        if not self._listens:
            return
        started_ns = time.monotonic_ns()
        if self._knocked:
            self._accept()
        step = self.server.step(started_ns, time.time_ns())
        if step is not None:
            if step.error is not None:
                self._log(
                    logging.ERROR,
                    "recovery_step_failed",
                    step.error,
                    error=repr(step.error),
                )
            self._connections[step.client].deliver(step.data)
        elif not self._knocked:
            self._spent_ns = 0
            return
        took_ns = time.monotonic_ns() - started_ns
        self._longest_ns = max(self._longest_ns, took_ns)
        self._spent_ns += took_ns
        if self._spent_ns < _BURST_NS:
            self.wake()
        else:
            self._spent_ns = 0
            self._due = True
            self._loop.call_later(_PAUSE_S, self._turn)

    # connections

    def _knock(self) -> None:
        assert self._listener is not None
        self._loop.remove_reader(self._listener)
        self._knock_again()

    def _knock_again(self) -> None:
        self._knocked = True
        self.wake()

    def _accept(self) -> None:
        """Accept one connection; at the limit it gets a BUSY and is closed at once."""
        assert self._listener is not None
        try:
            sock, (host, port) = self._listener.accept()
        except BlockingIOError:  # nobody any more
            self._knocked = False
            self._loop.add_reader(self._listener, self._knock)
            return
        except OSError as error:  # no descriptor is left
            self._knocked = False
            self._loop.call_later(_LISTEN_AGAIN_S, self._knock_again)
            self._log(logging.ERROR, "recovery_cannot_accept", error=error)
            return
        client = self.server.connect(time.monotonic_ns())
        if client is None:
            self.note(f"{host}:{port}", "too many clients")
            with sock, contextlib.suppress(OSError):
                sock.setblocking(False)
                sock.send(self.server.refusal(time.time_ns()))
            return
        self._spawn(self._adopt(sock, client, f"{host}:{port}"))

    async def _adopt(self, sock: socket.socket, client: Client, peer: str) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: _Connection(self, client, peer), sock)
        except OSError:  # it is gone already
            sock.close()
            self.closed(client)

    def opened(self, client: Client, connection: _Connection) -> None:
        """Note the connection of a client."""
        self._connections[client] = connection

    def closed(self, client: Client) -> None:
        """Forget a client."""
        self._connections.pop(client, None)
        self.server.disconnect(client)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Connection(asyncio.BufferedProtocol):
    """One TCP connection."""

    def __init__(self, service: RecoveryService, client: Client, peer: str) -> None:
        self._service = service
        self._client = client
        self._view = memoryview(bytearray(_READ_BYTES))
        self._paused = False
        self.peer = peer
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's is a transport in all but its base class.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        self._service.opened(self._client, self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes in, and no more of them while there are requests enough."""
        service = self._service
        service.server.receive(self._client, self._view[:nbytes])
        if not service.server.wants(self._client):
            self._paused = True
            self.transport.pause_reading()
        service.wake()

    def eof_received(self) -> bool:
        """Answer what was asked before the end."""
        self._service.server.end(self._client)
        self._service.wake()
        return True

    def pause_writing(self) -> None:
        """Too much is unsent."""
        self._service.server.block(self._client, time.monotonic_ns())

    def resume_writing(self) -> None:
        """The client reads again."""
        self._service.server.unblock(self._client)
        self._service.wake()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        self._service.closed(self._client)

    def deliver(self, data: Piece) -> None:
        """Write a piece of an answer; close after the last one."""
        if data:
            self.transport.write(data)
        reason = self._client.closing
        if reason:
            if reason != "ended":
                self._service.note(self.peer, reason)
            self.transport.close()
        elif self._paused and self._service.server.wants(self._client):
            self._paused = False
            self.transport.resume_reading()
