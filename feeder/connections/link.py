"""One socket of a venue connection: opened, spoken to at the venue's pace, closed. Reads go to
the frame_handler.

It decides nothing: when to open one, and what to subscribe, is `feeder.connections.connection`'s
matter.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tapecast.feeder.connections.pacing import Pace
from tapecast.feeder.connections.transport import Handlers, Socket, connect
from tapecast.feeder.frame_handler import FrameHandler
from tapecast.feeder.login.access import Access
from tapecast.feeder.venues.spec import Keepalive
from tapecast.protocol.units import NS_PER_S

__all__ = ["Link"]

_CONNECT_TIMEOUT_S = 10.0


class Link:
    """A socket under a name, `key`, which its successor takes over."""

    def __init__(
        self,
        key: str,
        frame_handler: FrameHandler,
        limits: Mapping[str, int | float],
        access: Access,
    ) -> None:
        self.key = key
        self.opened_ns = 0
        self.url = ""
        self._frame_handler = frame_handler
        self._access = access
        self._pace = Pace(limits)
        self._queue: deque[bytes] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._socket: Socket | None = None
        self._pinged_ns = 0

    async def open(self, url: str, opened: Callable[[Link], None]) -> None:
        """Connect, with a token where the venue wants one; `opened` is called before the first
        message.

        Raises OSError, TimeoutError or picows.WSError.
        """
        self.url = url
        await self._access.prepare(self.key)

        def begin(socket: Socket) -> None:
            self._socket = socket
            self.opened_ns = time.monotonic_ns()
            opened(self)

        frame_handler = self._frame_handler
        handlers = Handlers(
            begin, frame_handler.reader(self), frame_handler.batch, frame_handler.tap(self)
        )
        self._socket = await connect(url, handlers, _CONNECT_TIMEOUT_S)

    @property
    def closed(self) -> asyncio.Future[str]:
        """Done when the socket is closed, with the reason."""
        assert self._socket is not None, "not opened"
        return self._socket.closed

    @property
    def is_open(self) -> bool:
        """Whether it can be spoken to."""
        return self._socket is not None and not self._socket.closed.done()

    def post(self, frames: Iterable[bytes]) -> None:
        """Send requests, in order, each as soon as the venue's limits permit it."""
        self._queue.extend(frames)
        if self._queue and (self._sending is None or self._sending.done()):
            self._sending = asyncio.create_task(self._send())

    async def posted(self) -> None:
        """Return when everything posted is sent, or the socket is closed."""
        if self._sending is not None:
            both: set[asyncio.Future[Any]] = {self._sending, self.closed}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)

    def answer(self, frame: bytes) -> None:
        """Send an answer that the venue waits for: at once, counted by the pace. Nothing happens
        unless it is open.
        """
        if self._socket is not None and self.is_open:
            self._pace.sent(time.monotonic_ns())
            self._socket.send(frame)

    def keep_alive(self, keepalive: Keepalive, idle_ns: int, now_ns: int) -> None:
        """Send the venue's ping after half of its interval without data, once an interval."""
        interval_ns = int(keepalive.interval_s * NS_PER_S)
        if (
            self._socket is None
            or 2 * idle_ns < interval_ns
            or now_ns - self._pinged_ns < interval_ns
        ):
            return
        self._pinged_ns = now_ns
        self._pace.sent(now_ns)
        if keepalive.payload is None:
            self._socket.ping()
        else:
            self._socket.send(keepalive.payload)

    def mute(self) -> None:
        """Deliver nothing any more."""
        if self._socket is not None:
            self._socket.mute()

    def close(self, reason: str) -> None:
        """End it."""
        if self._sending is not None:
            self._sending.cancel()
        self._queue.clear()
        if self._socket is not None:
            self._socket.close(reason)

    async def _send(self) -> None:
        while self._queue and self._socket is not None and self.is_open:
            wait_ns = self._pace.wait_ns(time.monotonic_ns())
            if wait_ns:
                await asyncio.sleep(wait_ns / NS_PER_S)
                continue
            self._pace.sent(time.monotonic_ns())
            self._socket.send(self._access.sign(self.key, self._queue.popleft()))
