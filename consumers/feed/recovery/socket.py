"""The sockets of a feed's recovery clients: non-blocking TCP, read and written in the feed's own
loop, one connection a channel.

`consumers.feed.recovery.client` decides what to send and what to make of an answer; this module
connects, reads at most 256 KiB of a connection a turn, writes what fits, and names the
descriptors to wait on. It never blocks and never raises for a socket.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Sequence
from typing import Final

from tapecast.consumers.feed.recovery.client import Phase, RecoveryClient

__all__ = ["RecoverySocket", "wait"]

_READ: Final = 256 << 10
_IN_PROGRESS: Final = frozenset({0, errno.EINPROGRESS, errno.EWOULDBLOCK})


class RecoverySocket:
    """One client's connection."""

    def __init__(self, client: RecoveryClient) -> None:
        """Open nothing yet."""
        self.client = client
        self._socket: socket.socket | None = None

    @property
    def readable(self) -> int | None:
        """The descriptor to wait on for reading; None where there is none, or the client takes
        nothing now.
        """
        return self._socket.fileno() if self._socket is not None and not self.client.full else None

    @property
    def writable(self) -> int | None:
        """The descriptor to wait on for writing; None where there is nothing to write."""
        waits = self.client.phase is Phase.CONNECTING or self.client.data_to_send()
        return self._socket.fileno() if self._socket is not None and waits else None

    def pump(self, now_ns: int) -> None:
        """Do what can be done without waiting."""
        client = self.client
        if client.phase in (Phase.IDLE, Phase.PAUSED):
            self.close()
        if client.phase is Phase.OPEN:
            # Before time passes: what has come while nobody looked has come in time.
            self._read(now_ns)
            if client.phase is not Phase.OPEN:
                self.close()
                return
        client.timer(now_ns)
        if client.phase is Phase.CONNECTING and self._socket is None:
            self._connect(now_ns)
        if client.phase is Phase.CONNECTING:
            self._establish(now_ns)
        if client.phase is Phase.OPEN:
            self._write(now_ns)
        if client.phase in (Phase.IDLE, Phase.PAUSED):
            self.close()

    def close(self) -> None:
        """Close the connection, where there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self, now_ns: int) -> None:
        assert self.client.address is not None
        sock = self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(self.client.address)
        if code not in _IN_PROGRESS:
            self._fail(now_ns)

    def _establish(self, now_ns: int) -> None:
        sock = self._socket
        if sock is None:
            return
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        if not poll.poll(0):
            return
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(now_ns)
        else:
            self.client.connected(now_ns)

    def _read(self, now_ns: int) -> None:
        sock = self._socket
        if sock is None or self.client.full:
            return
        try:
            data = sock.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._fail(now_ns)
            return
        if data:
            self.client.received(data, now_ns)
        else:
            self.client.closed(now_ns)

    def _write(self, now_ns: int) -> None:
        out, sock = self.client.data_to_send(), self._socket
        if not out or sock is None or self.client.phase is not Phase.OPEN:
            return
        try:
            del out[: sock.send(out)]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._fail(now_ns)

    def _fail(self, now_ns: int) -> None:
        self.close()
        self.client.failed(now_ns)


def wait(readable: Sequence[int], writable: Sequence[int], timeout_s: float) -> None:
    """Wait until one of the descriptors can be read or written, or a signal, or the time."""
    poll = select.poll()
    for file in readable:
        poll.register(file, select.POLLIN)
    for file in writable:
        poll.register(file, select.POLLIN | select.POLLOUT)
    poll.poll(timeout_s * 1000)
