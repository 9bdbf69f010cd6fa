"""WebSocket shell: bytes from the venue to the session, one flush a read, on picows.

picows reads into its own buffer and calls back per frame; `last_in_buffer` tells when the data
of one read are used up, which is when finished packets go out. Compression is never offered, an
Origin header never sent. Decides nothing: what a frame means is the session's matter, when to
connect again the supervisor's (`feeder.connections.connection`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tapecast.runtime import logs

__all__ = ["MAX_FRAME", "Handlers", "Socket", "Tap", "connect"]

MAX_FRAME = 64 << 20
"""Largest accepted message in bytes: legal snapshots of several MiB pass, a runaway stream ends
the connection.
"""

_TEXT, _BINARY, _CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
_CLOSE, _PING, _PONG = WSMsgType.CLOSE, WSMsgType.PING, WSMsgType.PONG
_TCP_USER_TIMEOUT_MS = 20_000
_NEXT_ADDRESS_S = 0.25
_last_good: dict[str, tuple[Any, ...]] = {}
"""Host and port of a URL -> the address that answered last."""

log = logs.get("feeder.connections.transport")


class Tap(Protocol):
    """Whoever records a connection."""

    def receiving(self, binary: bool) -> None:
        """Hear of the opcode of a message before it is delivered."""
        ...

    def sent(self, data: bytes) -> None:
        """Hear of a message that was sent."""
        ...


@dataclass(frozen=True, slots=True)
class Handlers:
    """What a connection calls: `opened` before anything else, `message` per complete message,
    `batch` when a read is used up.

    The first messages can come in one read with the handshake, so before `connect` returns.
    """

    opened: Callable[[Socket], None]
    message: Callable[[bytes], None]
    batch: Callable[[], None]
    tap: Tap | None = None


class Socket(WSListener):
    """One venue connection."""

    def __init__(self, handlers: Handlers) -> None:
        super().__init__()
        self._opened = handlers.opened
        self._message = handlers.message
        self._batch = handlers.batch
        self._tap = handlers.tap
        self._parts: bytearray | None = None
        self._transport: WSTransport | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self.reason = ""
        self._binary = False
        self.peer: tuple[Any, ...] | None = None
        """The venue's address."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keep the transport; half-open connections end after the TCP user timeout."""
        self._transport = transport
        raw = transport.underlying_transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS)
            self.peer = transport.underlying_transport.get_extra_info("peername")
        self._opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Deliver complete messages; control frames are picows' matter, apart from close."""
        kind = frame.msg_type
        if (kind is _TEXT or kind is _BINARY) and frame.fin:
            if self._tap is not None:
                self._tap.receiving(kind is _BINARY)
            self._message(frame.get_payload_as_bytes())
        elif kind is _CLOSE:
            self.reason = (
                f"closed by the venue: {frame.get_close_code().value} {frame.get_close_message()!r}"
            )
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif kind is _TEXT or kind is _BINARY or kind is _CONTINUATION:
            self._part(frame)
        if frame.last_in_buffer:
            self._batch()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Wake whoever waits for the end."""
        if not self.closed.done():
            self.closed.set_result(self.reason or "connection lost")

    def send(self, data: bytes) -> None:
        """Send one text message."""
        if self._transport is not None:
            self._transport.send(_TEXT, data)
            if self._tap is not None and not self.closed.done():
                self._tap.sent(data)

    def ping(self) -> None:
        """Send a WebSocket ping."""
        if self._transport is not None:
            self._transport.send_ping()

    def mute(self) -> None:
        """Deliver nothing any more."""
        self._message = _nothing

    def close(self, reason: str) -> None:
        """End the connection."""
        if self._transport is not None:
            self.reason = self.reason or reason
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect()

    def _part(self, frame: WSFrame) -> None:
        """Collect a message that comes in several frames (RFC 6455, 5.4)."""
        continued = frame.msg_type is _CONTINUATION
        if continued is (self._parts is None):
            self.close("fragments out of order")
            return
        if not continued:
            self._binary = frame.msg_type is _BINARY
        parts = self._parts if self._parts is not None else bytearray()
        if len(parts) + frame.payload_size > MAX_FRAME:
            self._parts = None
            self.close(f"message larger than {MAX_FRAME} bytes")
            return
        parts += frame.get_payload_as_memoryview()
        self._parts = None if frame.fin else parts
        if frame.fin:
            if self._tap is not None:
                self._tap.receiving(self._binary)
            self._message(bytes(parts))


def _nothing(_: bytes) -> None:
    """Leave a message out."""


async def connect(url: str, handlers: Handlers, timeout_s: float) -> Socket:
    """Open a connection; raises OSError, TimeoutError or picows.WSError.

    The name is resolved each time, and all its addresses are tried, the next one before a silent
    one has timed out. Where it cannot be resolved, or all of them refuse, the last address that
    worked is tried; a certificate is checked against the name all the same.
    """
    where = urlsplit(url).netloc
    async with asyncio.timeout(timeout_s):
        try:
            connection = await _open(url, handlers, timeout_s, None)
        except OSError as error:
            address = _last_good.get(where)
            if address is None or isinstance(error, ssl.SSLError):
                raise
            log.warning("last_address_tried", host=where, address=address[0], error=repr(error))
            connection = await _open(url, handlers, timeout_s, address)
    if connection.peer is not None:
        _last_good[where] = connection.peer
    return connection


async def _open(
    url: str, handlers: Handlers, timeout_s: float, address: tuple[Any, ...] | None
) -> Socket:
    async def connected(_: object) -> socket.socket | None:
        if address is None:
            return None
        raw = socket.socket(
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM
        )
        raw.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(raw, address)
        except BaseException:
            raw.close()
            raise
        return raw

    _, listener = await ws_connect(
        lambda: Socket(handlers),
        url,
        websocket_handshake_timeout=timeout_s,
        enable_auto_pong=True,
        max_frame_size=MAX_FRAME,
        read_buffer_init_size=1 << 18,
        logger_name="tapecast",
        **(
            {"happy_eyeballs_delay": _NEXT_ADDRESS_S}
            if address is None
            else {"socket_factory": connected}
        ),
    )
    if not isinstance(
        listener, Socket
    ):  # picows returns no listener when the peer closes before it has answered
        raise ConnectionResetError("closed before the handshake was answered")
    return listener
