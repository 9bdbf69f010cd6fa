"""The least that a feeder on this machine could do: wait for bytes on a TCP connection, send one
datagram for each read.

`python -m benchmarks.peers.bare_relay PORT GROUP PORT`. No event loop, no WebSocket, no
decoding: what the kernel and the waking of a processor cost by themselves. It ends when the
connection does.
"""

from __future__ import annotations

import socket
import sys

_DATAGRAM = bytes(200)


def main(arguments: list[str]) -> None:
    """Relay until the connection ends."""
    port, group, group_port = int(arguments[0]), arguments[1], int(arguments[2])
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
    out.connect((group, group_port))
    with socket.create_connection(("127.0.0.1", port)) as stream:
        buffer = bytearray(1 << 18)
        while stream.recv_into(buffer):
            out.send(_DATAGRAM)


if __name__ == "__main__":
    main(sys.argv[1:])
