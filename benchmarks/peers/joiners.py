"""Clients of a recovery service, in a process of their own: `python -m benchmarks.peers.joiners
PORT CHANNEL KIND …`.

`join N SECONDS`: once a second N clients connect at the same moment and take definitions and
every book. `repair SECONDS`: one client asks for ranges of 512, eight at a time. `single
SECONDS`: one client asks for one packet after the other. It counts packets and reads replies,
nothing else: its own work must not hide the service's. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time

from tapecast.protocol.records import Header, RequestItem
from tapecast.protocol.recovery import decode_reply, encode_request
from tapecast.protocol.schema import HEADER_SIZE, REPLY, MsgType, ReplyStatus, RequestKind

_REPLY = HEADER_SIZE + REPLY.size
_DEPTH = 8


class Client:
    """A connection that counts what comes and finds the replies at the ends of the answers."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.nbytes = self.packets = 0
        self._tail = b""
        self._skip = 0

    def ask(self, data: bytes) -> None:
        """Send requests."""
        self.sock.sendall(data)

    def read(self) -> list[ReplyStatus]:
        """Take what has come; return the status of each reply."""
        data = self.sock.recv(1 << 20)
        if not data:
            raise ConnectionError("the service closed")
        self.nbytes += len(data)
        view, at, found = memoryview(self._tail + data), 0, []
        while len(view) - at >= HEADER_SIZE:
            end = at + HEADER_SIZE + int.from_bytes(view[at + 64 : at + 66], "little")
            if end > len(view):
                break
            if view[at + 3] == MsgType.REPLY:
                found.append(ReplyStatus(decode_reply(view[at:end])[1].status))
            else:
                self.packets += 1
            at = end
        self._tail = bytes(view[at:])
        return found


def _join(port: int, header: Header, clients: int, seconds: float) -> dict[str, object]:
    requests = encode_request(header, RequestItem(kind=RequestKind.DEFINITIONS)) + encode_request(
        header, RequestItem(kind=RequestKind.SNAPSHOT)
    )
    taken_ms: list[float] = []
    nbytes = packets = 0
    started = time.monotonic()
    for second in range(max(1, int(seconds))):
        time.sleep(max(0.0, started + second - time.monotonic()))
        at = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for _ in range(clients):
                client = Client(port)
                client.ask(requests)
                selector.register(client.sock, selectors.EVENT_READ, [client, 2])
            while selector.get_map():
                for key, _ in selector.select():
                    client = key.data[0]
                    key.data[1] -= len(client.read())
                    if not key.data[1]:
                        taken_ms.append((time.monotonic() - at) * 1e3)
                        nbytes += client.nbytes
                        packets += client.packets
                        selector.unregister(client.sock)
                        client.sock.close()
    taken_ms.sort()
    return {"joins": len(taken_ms), "bytes": nbytes, "packets": packets, "ms": taken_ms}


def _repair(
    port: int, header: Header, seconds: float, packets: int, depth: int
) -> dict[str, object]:
    client = Client(port)
    request = encode_request(header, RequestItem(kind=RequestKind.RANGE, first=1, packets=packets))
    client.ask(request * depth)
    started = time.perf_counter()
    at, taken_ms, served = started, [], 0
    while at - started < seconds:
        replies = client.read()
        now = time.perf_counter()
        if replies:
            served += replies.count(ReplyStatus.OK)
            taken_ms.append((now - at) * 1e3)
            client.ask(request * len(replies))
            at = now
    client.sock.close()
    return {
        "requests": served,
        "bytes": client.nbytes,
        "packets": client.packets,
        "s": at - started,
        "ms": sorted(taken_ms),
    }


def main(port: str, channel: str, kind: str, *rest: str) -> None:
    """Do it and print what came."""
    header = Header(channel_id=int(channel), venue_id=int(channel))
    if kind == "join":
        # it shares a processor with the measuring process, which must not wait for it
        os.nice(19)
        out = _join(int(port), header, int(rest[0]), float(rest[1]))
    else:
        out = _repair(
            int(port), header, float(rest[0]), *((512, _DEPTH) if kind == "repair" else (1, 1))
        )
    print(json.dumps(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
