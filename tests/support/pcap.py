"""Write datagrams as a capture file (classic pcap, Ethernet + IPv4 + UDP), for tools that read captures.

Checksums are left 0, which means "not computed" in UDP and is tolerated in IPv4 by readers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

__all__ = ["write_pcap"]

_MAGIC_NS = 0xA1B23C4D
_LINK_ETHERNET = 1


def write_pcap(path: Path, datagrams: Iterable[tuple[int, bytes]], *, ts_ns: int = 0) -> None:
    """Write (UDP port, payload) pairs to the group 239.255.42.1, one a microsecond from `ts_ns` on."""
    out = bytearray(struct.pack("<IHHiIII", _MAGIC_NS, 2, 4, 0, 0, 65535, _LINK_ETHERNET))
    for number, (port, payload) in enumerate(datagrams):
        udp = struct.pack(">HHHH", 40000, port, 8 + len(payload), 0) + payload
        addresses = bytes([127, 0, 0, 1]) + bytes([239, 255, 42, 1])
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), number & 0xFFFF, 0x4000, 1, 17, 0) + addresses + udp
        frame = bytes.fromhex("01005e7f2a01") + bytes(6) + struct.pack(">H", 0x0800) + ip
        seconds, nanos = divmod(ts_ns + 1000 * number, 10**9)
        out += struct.pack("<IIII", seconds, nanos, len(frame), len(frame)) + frame
    path.write_bytes(bytes(out))
