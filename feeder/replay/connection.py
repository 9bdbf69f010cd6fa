"""One WebSocket client of the replay server: frames to send, and proof that it has read them.

aiohttp does the handshake, the receiving and the control frames; market data goes to its
transport as ready frames, many in one write, because framing each message again would cost more
than sending it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tapecast.feeder.replay.dialect import VenueSide

__all__ = ["Connection"]


class Connection:
    """Output side of one client; frames are whole, so that control frames may come between any
    two writes.
    """

    def __init__(
        self,
        session: VenueSide,
        transport: asyncio.Transport,
        *,
        drain: Callable[[], Awaitable[None]],
        ping: Callable[[bytes], Awaitable[None]],
        path: str,
    ) -> None:
        """`drain` waits until the transport takes more; `ping` sends a WebSocket ping with a
        payload.
        """
        self.session = session
        self.path = path
        self.streams: tuple[str, ...] = ()
        """The recorded streams it receives."""
        self.out: list[bytes] = []
        """Frames not written yet."""
        self.sent = 0
        """Frames written."""
        self._transport = transport
        self._drain = drain
        self._ping = ping
        self._unread = False
        self._deaf = False
        self._pings = 0
        self._pongs: dict[bytes, asyncio.Future[None]] = {}

    @property
    def unread(self) -> bool:
        """True while frames were queued or sent of which the client has not proved that it read
        them.
        """
        return bool(self.out) or self._unread

    async def flush(self) -> None:
        """Write what is queued in one piece, then wait until the transport's buffer has room
        again.
        """
        if not self.out:
            return
        data, count = b"".join(self.out), len(self.out)
        self.out.clear()
        if self._transport.is_closing():
            return
        self.sent += count
        self._unread = True
        self._transport.write(data)
        try:
            await self._drain()
        except ConnectionError:
            self.close()

    async def wait_read(self, timeout_s: float) -> None:
        """Ping and wait for the pong; a client that does not answer within `timeout_s` is not
        asked again.
        """
        await self.flush()
        if not self._unread or self._deaf or self._transport.is_closing():
            return
        self._pings += 1
        payload = b"tapecast %d" % self._pings
        answer = asyncio.get_running_loop().create_future()
        self._pongs[payload] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await self._ping(payload)
                await answer
            self._unread = bool(self.out)
        except TimeoutError:
            self._deaf = True
        except ConnectionError:
            self.close()
        finally:
            self._pongs.pop(payload, None)

    def pong(self, payload: bytes) -> None:
        """Take a pong: everything before the ping with that payload has been read."""
        answer = self._pongs.get(payload)
        if answer is not None and not answer.done():
            answer.set_result(None)

    def close(self) -> None:
        """Forget what is queued and release whoever waits for this client."""
        self.out.clear()
        self._unread = False
        for answer in self._pongs.values():
            if not answer.done():
                answer.set_result(None)

    def abort(self) -> None:
        """Drop the TCP connection at once, without a closing handshake."""
        self._transport.abort()
        self.close()
