"""Write datagrams or a TCP stream as a capture file (classic pcap, Ethernet + IPv4), for tools
that read captures.

Checksums are left 0, which means "not computed" in UDP and is tolerated elsewhere by readers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

__all__ = ["write_pcap", "write_tcp_pcap"]

_MAGIC_NS = 0xA1B23C4D
_LINK_ETHERNET = 1


def write_pcap(path: Path, datagrams: Iterable[tuple[int, bytes]], *, ts_ns: int = 0) -> None:
    """Write (UDP port, payload) pairs to the group 239.255.42.1, one a microsecond from
    `ts_ns` on.
    """
    group = bytes([239, 255, 42, 1])
    udp = (
        struct.pack(">HHHH", 40000, port, 8 + len(payload), 0) + payload
        for port, payload in datagrams
    )
    _write(path, (17, group), udp, ts_ns)


def write_tcp_pcap(path: Path, port: int, segments: Iterable[bytes]) -> None:
    """Write what a server on 127.0.0.1 at `port` sends on one connection, segment by segment."""
    out, sent = [], 1
    for segment in segments:
        out.append(
            struct.pack(">HHIIBBHHH", port, 40000, sent, 1, 0x50, 0x18, 65535, 0, 0) + segment
        )
        sent += len(segment)
    _write(path, (6, bytes([127, 0, 0, 1])), out, 0)


def _write(path: Path, to: tuple[int, bytes], payloads: Iterable[bytes], ts_ns: int) -> None:
    protocol, address = to
    out = bytearray(struct.pack("<IHHiIII", _MAGIC_NS, 2, 4, 0, 0, 65535, _LINK_ETHERNET))
    for number, payload in enumerate(payloads):
        addresses = bytes([127, 0, 0, 1]) + address
        ip = (
            struct.pack(
                ">BBHHHBBH", 0x45, 0, 20 + len(payload), number & 0xFFFF, 0x4000, 1, protocol, 0
            )
            + addresses
            + payload
        )
        frame = bytes.fromhex("01005e7f2a01") + bytes(6) + struct.pack(">H", 0x0800) + ip
        seconds, nanos = divmod(ts_ns + 1000 * number, 10**9)
        out += struct.pack("<IIII", seconds, nanos, len(frame), len(frame)) + frame
    path.write_bytes(bytes(out))
