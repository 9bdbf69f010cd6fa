"""Hostile clients of a recovery service, until SIGTERM: `python -m tests.reliability.attacker
HOST PORT`.

Twenty send random bytes; twenty ask for everything, over and over, and never read. Who is closed
comes back at once.
"""

from __future__ import annotations

import contextlib
import json
import random
import select
import signal
import socket
import sys
import time

from tapecast.protocol.records import Header, RequestItem
from tapecast.protocol.recovery import encode_request
from tapecast.protocol.schema import RequestKind

CLIENTS = 20


def _request(rng: random.Random) -> bytes:
    kind = rng.choice([RequestKind.RANGE, RequestKind.SNAPSHOT, RequestKind.DEFINITIONS])
    first, packets = (rng.randrange(1, 5000), 512) if kind is RequestKind.RANGE else (0, 0)
    return encode_request(
        Header(channel_id=1, venue_id=1),
        RequestItem(kind, 0, 0, rng.randrange(1, 2**32), first, 0, packets),
    )


class Attacker:
    """One client."""

    def __init__(self, address: tuple[str, int], junk: bool, rng: random.Random) -> None:
        self.address, self.junk, self.rng = address, junk, rng
        self.socket: socket.socket | None = None
        self.connections = self.closed = 0

    def act(self) -> None:
        """Connect, or send as much as is taken."""
        try:
            if self.socket is None:
                self.socket = socket.create_connection(self.address, 1.0)
                self.socket.setblocking(False)
                self.connections += 1
            data = self.rng.randbytes(200) if self.junk else _request(self.rng) * 50
            self.socket.send(data)
            if (
                self.junk
                and select.select([self.socket], [], [], 0)[0]
                and not self.socket.recv(4096)
            ):
                raise ConnectionResetError
        except BlockingIOError:
            pass
        except OSError:
            self.closed += 1
            if self.socket is not None:
                self.socket.close()
            self.socket = None


def main() -> None:
    """Attack."""
    address = (sys.argv[1], int(sys.argv[2]))
    rng = random.Random(1)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    clients = [Attacker(address, n < CLIENTS, rng) for n in range(2 * CLIENTS)]
    sys.stdout.write(json.dumps({"event": "begun"}) + "\n")
    sys.stdout.flush()
    while not stopping:
        for client in clients:
            client.act()
        time.sleep(0.01)
    for client in clients:
        with contextlib.suppress(OSError):
            if client.socket is not None:
                client.socket.close()
    done = {
        "connections": sum(c.connections for c in clients),
        "closed": sum(c.closed for c in clients),
    }
    sys.stdout.write(json.dumps({"event": "done", **done}) + "\n")


if __name__ == "__main__":
    main()
