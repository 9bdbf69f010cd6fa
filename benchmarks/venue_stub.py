"""A venue reduced to its wire, inside the benchmark: one WebSocket connection and REST order
books, by plain blocking sockets.

`tapecast replay` is the real replay server; this one exists because the benchmark has to know
the instant of every send. It understands requests only as far as they matter here and answers
what it does not know with 404.
"""

from __future__ import annotations

import base64
import hashlib
import select
import socket
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

__all__ = ["VenueStub", "framed"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def framed(raw: bytes) -> bytes:
    """Return a text frame as a server sends it."""
    size = len(raw)
    if size < 126:
        head = bytes((0x81, size))
    elif size < 1 << 16:
        head = bytes((0x81, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x81, 127)) + size.to_bytes(8, "big")
    return head + raw


class VenueStub:
    """Listens on a loopback port; `bodies` are the order books by symbol. `serve` handles what
    comes until a condition holds.
    """

    def __init__(self, bodies: dict[str, bytes]) -> None:
        self._bodies = bodies
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.stream: socket.socket | None = None
        """The WebSocket connection, once there is one."""
        self.subscribed = False
        """Whether the client has sent anything on it."""
        self.books_served = 0
        self._requests: list[socket.socket] = []

    def serve(self, until: Callable[[], bool], timeout_s: float) -> None:
        """Answer requests until the condition holds; raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while not until():
            if time.monotonic() > deadline:
                raise TimeoutError("the feeder did not do what was waited for")
            watched = [self._listener, *self._requests, *([self.stream] if self.stream else [])]
            for ready in select.select(watched, [], [], 0.05)[0]:
                if ready is self._listener:
                    self._requests.append(ready.accept()[0])
                elif ready is self.stream:
                    self.subscribed = bool(ready.recv(1 << 16)) or self.subscribed
                else:
                    self._request(ready)

    def close(self) -> None:
        """Close every socket."""
        for sock in (self._listener, *self._requests, *([self.stream] if self.stream else [])):
            sock.close()

    def _request(self, client: socket.socket) -> None:
        text = client.recv(1 << 16).decode("latin-1")
        if not text:
            self._requests.remove(client)
            client.close()
            return
        lines = text.split("\r\n")
        target = urlsplit(lines[0].split(" ")[1])
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        if "sec-websocket-key" in headers:
            accept = base64.b64encode(
                hashlib.sha1(headers["sec-websocket-key"].encode() + _GUID).digest()
            ).decode()
            client.sendall(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
            )
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._requests.remove(client)
            self.stream = client
            return
        body = self._bodies.get(next(iter(parse_qs(target.query).get("symbol", [""]))))
        if target.path.endswith("/depth") and body is not None:
            self.books_served += 1
            client.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                % len(body)
                + body
            )
        else:
            client.sendall(
                b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length:"
                b" 2\r\n\r\n{}"
            )
