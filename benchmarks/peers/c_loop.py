"""Compiles `gso_loop.c` when a benchmark wants to know what C alone could send; without a
compiler there is no such case.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import cffi

__all__ = ["gso_loop"]

_SOURCE = Path(__file__).with_name("gso_loop.c")
_DECLARATION = """
int64_t gso_loop(int fd, const uint8_t *buffer, uint64_t nbytes, uint16_t segment,
                 uint32_t segments, uint32_t addr, uint16_t port);
"""


def gso_loop(group: str, port: int, segment: int, segments: int) -> Callable[[bytes], int] | None:
    """Return a function that sends a buffer of packets of `segment` bytes to a group over
    loopback; None without a compiler.
    """
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        return None
    folder = Path(tempfile.mkdtemp())
    try:
        library = folder / "gso_loop.so"
        subprocess.run(
            [compiler, "-O3", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)], check=True
        )
        ffi = cffi.FFI()
        ffi.cdef(_DECLARATION)
        lib = ffi.dlopen(str(library))
    finally:
        shutil.rmtree(folder)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
    address = int.from_bytes(socket.inet_aton(group), "little")

    def send(buffer: bytes) -> int:
        sent = int(
            lib.gso_loop(
                sock.fileno(),
                ffi.from_buffer(buffer),
                len(buffer),
                segment,
                segments,
                address,
                socket.htons(port),
            )
        )
        if sent < 0:
            raise OSError("sendmsg failed")
        return sent

    return send
