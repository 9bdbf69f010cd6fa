"""The only sockets of the market-data path: multicast sending and receiving.

The socket rules are those of the wire specification, section 5; the loops are
`protocol/native/send.c` and `receive.c`. Linux only. Nothing here looks into a packet beyond its
length: validation and ordering are `protocol.net.sequencing`.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from array import array
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tapecast.protocol._native import ffi, lib
from tapecast.protocol.authentication import Sealer
from tapecast.protocol.stamping import Stamper, StampError, WritableBuffer

__all__ = [
    "SPAN",
    "Receiver",
    "ReceiverStats",
    "Sender",
    "SenderStats",
    "StampError",
    "Stamper",
    "TextSender",
    "interface_index",
    "reachable",
]

SPAN = np.dtype(
    [
        ("offset", "<u4"),
        ("length", "<u2"),
        ("line", "u1"),
        ("flags", "u1"),
        ("addr", ">u4"),
        ("port", ">u2"),
        ("reserved", "<u2"),
        ("kernel_ts_ns", "<i8"),
    ]
)
"""One received packet: where it stands, which socket (line) it came by, from whom, and when it
reached the kernel (UTC ns).
"""

_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_DO = 2
_IP_MULTICAST_ALL = 49
_IP_ADD_SOURCE_MEMBERSHIP = 39
_IP_DROP_SOURCE_MEMBERSHIP = 40
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32
_SO_TIMESTAMPNS = 35
_SO_RXQ_OVFL = 40
_SO_MEMINFO = 55
_MEMINFO_DROPS = 8
_UDP_GRO = 104
_SIOCGIFCONF = 0x8912
_IFREQ = struct.calcsize("16s24s")
_MOST_ADDRESSES = 512

_GRO_SLOT = 65536
_PLAIN_SLOT = 2048
_SEGMENTS = 128

ReadableBuffer = bytes | WritableBuffer


def _network_u32(address: str) -> int:
    """Return the address as the integer whose memory is in network order."""
    return int.from_bytes(socket.inet_aton(address), "little")


def _set_buffer(sock: socket.socket, force: int, plain: int, nbytes: int) -> int:
    """Ask for a socket buffer, past the system limit where permitted, and return what the kernel
    accounts (twice the request).
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, nbytes)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, plain, nbytes)
    return sock.getsockopt(socket.SOL_SOCKET, plain)


def _membership(group: str, interface: str, index: int = 0) -> bytes:
    """Return the kernel's `ip_mreqn`: with an index, the interface is that one, whatever its
    address is by now.
    """
    return socket.inet_aton(group) + socket.inet_aton(interface) + struct.pack("=i", index)


def interface_index(address: str) -> int | None:
    """Return the index of the interface that has this IPv4 address; None where none has."""
    table = array("B", bytes(_IFREQ * _MOST_ADDRESSES))
    where, _ = table.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        answer = fcntl.ioctl(probe, _SIOCGIFCONF, struct.pack("iP", len(table), where))
    nbytes = struct.unpack("iP", answer)[0]
    for at in range(0, nbytes, _IFREQ):
        entry = table[at : at + _IFREQ].tobytes()
        if entry[20:24] == socket.inet_aton(address):
            name = (
                entry[:16].partition(b"\0")[0].partition(b":")[0]
            )  # an address may have a label: eth0:1
            return socket.if_nametoindex(name.decode())
    return None


def reachable(host: str, port: int, timeout_s: float) -> bool:
    """Return whether somebody accepts a TCP connection there."""
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError:
        return False
    return True


class SenderStats(NamedTuple):
    """Counters of a sender since it was made. `dropped` packets were numbered but never left:
    receivers see a gap.
    """

    packets: int
    bytes: int
    gso_messages: int
    calls: int
    dropped: int
    errors: int
    gso_refused: int
    last_errno: int


class Sender:
    """Sends contiguous packets to one group and port, never waiting for a receiver.

    TTL 0 keeps packets on this host, 1 on the LAN; more needs `allow_routing`. On an interface
    other than loopback Linux sends TTL-0 packets out unless this host has joined the group
    there, so the sender joins it itself. The destination may be a unicast address. Raises
    ValueError on a refused TTL, OSError when the interface does not exist.
    """

    def __init__(
        self,
        group: str,
        port: int,
        *,
        interface: str = "127.0.0.1",
        ttl: int = 0,
        loop: bool = True,
        gso: bool = True,
        allow_routing: bool = False,
        sndbuf: int = 8 << 20,
    ) -> None:
        """Open the socket; `sndbuf` in bytes, past the system limit where permitted."""
        if not 0 <= ttl <= 255 or (ttl > 1 and not allow_routing):
            raise ValueError(f"TTL {ttl} leaves the LAN: 0 or 1, or allow_routing")
        self.group = group
        self.port = port
        self._socket = socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        self._buffer: ReadableBuffer = b""
        self._data = ffi.from_buffer("uint8_t[]", self._buffer)
        self._writable = False
        self._error_offset = ffi.new("uint64_t *")
        try:
            self.sndbuf = _set_buffer(self._socket, _SO_SNDBUFFORCE, socket.SO_SNDBUF, sndbuf)
            self._configure(IPv4Address(interface), ttl, loop)
        except BaseException:
            self._socket.close()
            raise
        self._c = ffi.new("tc_sender *")
        self._c.fd = self._socket.fileno()
        self._c.addr = _network_u32(group)
        self._c.port = socket.htons(port)
        self._c.gso = gso
        self._c.max_segments = 64
        self._c.retries = 4
        self._c.wait_us = 250

    def _configure(self, interface: IPv4Address, ttl: int, loop: bool) -> None:
        sock = self._socket
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
        if not IPv4Address(self.group).is_multicast:
            sock.bind((str(interface), 0))
            return
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface.packed)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, int(loop))
        if ttl == 0 and not interface.is_loopback:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            sock.setsockopt(
                socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _membership(self.group, str(interface))
            )
        sock.bind((str(interface), 0))

    @property
    def address(self) -> tuple[str, int]:
        """Own address and port, as receivers see them."""
        host, port = self._socket.getsockname()
        return str(host), int(port)

    @property
    def stats(self) -> SenderStats:
        """Counters so far."""
        c = self._c
        return SenderStats(
            c.packets,
            c.bytes,
            c.gso_messages,
            c.calls,
            c.dropped,
            c.errors,
            c.gso_refused,
            c.last_errno,
        )

    def _bind(self, buffer: ReadableBuffer, nbytes: int) -> None:
        """Point at `buffer`, which stays exported until the next one: a bytearray cannot be
        resized meanwhile.
        """
        if buffer is not self._buffer:
            self._data = ffi.from_buffer("uint8_t[]", buffer)
            view = buffer.data if isinstance(buffer, np.ndarray) else memoryview(buffer)
            self._writable = not view.readonly
            self._buffer = buffer
        if not 0 <= nbytes <= len(self._data):
            raise ValueError(f"{nbytes} bytes in a buffer of {len(self._data)}")

    def send(self, buffer: ReadableBuffer, nbytes: int) -> int:
        """Send the contiguous packets in the first `nbytes` and return how many the kernel took;
        the rest count as dropped.

        Raises StampError, after sending what stands before it, where no packet stands.
        """
        self._bind(buffer, nbytes)
        sent = int(lib.tc_send(self._c, self._data, nbytes, self._error_offset))
        if sent < 0:
            raise StampError("no packet stands here", int(self._error_offset[0]))
        return sent

    def publish(
        self,
        stamper: Stamper,
        buffer: WritableBuffer,
        nbytes: int,
        *,
        keep: bool = False,
        flags: int = 0,
        line_b: Sender | None = None,
        sealer: Sealer | None = None,
    ) -> int:
        """Stamp (see `Stamper.stamp`) and send in one call, on this line and then on `line_b`;
        return the packets stamped.

        With a `sealer` they leave with tags; `buffer` keeps them without. What the kernel did
        not take is in `stats.dropped` of each line. Raises StampError with nothing changed or
        sent.
        """
        self._bind(buffer, nbytes)
        if not self._writable:
            raise TypeError("stamping needs a writable buffer")
        if sealer is not None:
            sealer.reserve(nbytes)
        second, seals = line_b._c if line_b else ffi.NULL, sealer._c if sealer else ffi.NULL
        packets = int(
            lib.tc_publish(stamper._c, self._c, second, seals, self._data, nbytes, keep, flags)
        )
        if packets < 0:
            raise stamper._error(packets)
        return packets

    def close(self) -> None:
        """Close the socket; sending afterwards counts as an error."""
        self._c.fd = -1
        self._socket.close()


class TextSender:
    """Sends plain UTF-8 lines, one a datagram, to the monitoring group; parameters as for
    `Sender`.
    """

    def __init__(
        self,
        group: str,
        port: int,
        *,
        interface: str = "127.0.0.1",
        ttl: int = 0,
        allow_routing: bool = False,
    ) -> None:
        self._sender = Sender(
            group,
            port,
            interface=interface,
            ttl=ttl,
            allow_routing=allow_routing,
            gso=False,
            sndbuf=1 << 18,
        )
        self.dropped = 0

    def send(self, line: bytes) -> None:
        """Send one line; what the kernel does not take is counted in `dropped` and gone."""
        try:
            self._sender._socket.sendto(line, (self._sender.group, self._sender.port))
        except OSError:
            self.dropped += 1

    def close(self) -> None:
        """Close the socket."""
        self._sender.close()


class ReceiverStats(NamedTuple):
    """Counters of a receiver since it was made.

    `kernel_drops` holds, per socket, what the kernel dropped because the receive buffer was
    full: packets, but with GRO whole buffers, so at least so many packets. `rcvbuf` is what the
    kernel accounts for that buffer (twice the usable size). `datagrams` counts kernel buffers:
    several packets each with GRO.
    """

    packets: tuple[int, ...]
    bytes: tuple[int, ...]
    kernel_drops: tuple[int, ...]
    rcvbuf: tuple[int, ...]
    gro: bool
    datagrams: int
    calls: int
    truncated: int
    errors: int
    last_errno: int


class Receiver:
    """Receives from groups (or own unicast addresses), one socket each; the socket's index is
    the packet's `line`.

    After `receive()` returns n, `spans[:n]` describes n packets in `buffer`. Both are
    overwritten by the next call. Sockets share the address with other receivers on this host
    (SO_REUSEADDR; SO_REUSEPORT would add nothing, since multicast reaches every socket anyway,
    and would demand one user for all of them). `source`: only this sender's address is joined
    for. Raises OSError when an interface or port cannot be used.
    """

    def __init__(
        self,
        groups: Sequence[tuple[str, int]],
        *,
        interface: str = "127.0.0.1",
        rcvbuf: int = 64 << 20,
        gro: bool = True,
        source: str | None = None,
        slots: int | None = None,
    ) -> None:
        """Join; `rcvbuf` in bytes, past the system limit where permitted; `slots`: datagrams
        read in one call.
        """
        if not 1 <= len(groups) <= 64:
            raise ValueError(f"{len(groups)} groups: 1 to 64")
        self.groups = tuple(groups)
        self._interface = interface
        self._source = source
        self._index = interface_index(interface) or 0
        self._sockets: list[socket.socket] = []
        self._rcvbuf: list[int] = []
        self.gro = gro
        try:
            for group, port in self.groups:
                self._open(group, port, rcvbuf)
        except BaseException:
            self.close()
            raise
        n_slots = max(len(groups), slots or (64 if self.gro else 1024))
        slot_size = _GRO_SLOT if self.gro else _PLAIN_SLOT
        self.max_spans = n_slots * (_SEGMENTS if self.gro else 1)
        self.buffer: npt.NDArray[np.uint8] = np.empty(n_slots * slot_size, np.uint8)
        """Packets of the last call; `spans["offset"]` counts from its start."""
        self.spans: npt.NDArray[np.void] = np.zeros(self.max_spans, SPAN)
        """Descriptions of the packets of the last call, dtype `SPAN`."""
        self._scratch = ffi.new("uint64_t[]", int(lib.tc_receive_scratch(n_slots)) // 8 + 2)
        self._c_sockets = ffi.new("tc_rx_socket[]", len(self._sockets))
        for entry, sock in zip(self._c_sockets, self._sockets, strict=True):
            entry.fd = sock.fileno()
        self._c = ffi.new("tc_receiver *")
        c = self._c
        c.sockets, c.n_sockets = self._c_sockets, len(self._sockets)
        c.buffer, c.slot_size, c.n_slots = (
            ffi.from_buffer("uint8_t[]", self.buffer),
            slot_size,
            n_slots,
        )
        c.spans, c.max_spans = ffi.from_buffer("tc_span[]", self.spans), self.max_spans
        c.scratch = ffi.cast("uint8_t *", self._scratch)
        lib.tc_receive_init(c)

    def _open(self, group: str, port: int, rcvbuf: int) -> None:
        sock = socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        self._sockets.append(sock)
        multicast = IPv4Address(group).is_multicast
        if multicast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        self._rcvbuf.append(_set_buffer(sock, _SO_RCVBUFFORCE, socket.SO_RCVBUF, rcvbuf))
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        if self.gro:
            try:
                sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
            except OSError:
                self.gro = False
        sock.bind((group, port))
        if multicast:
            self._join(sock, group, True)

    def _join(self, sock: socket.socket, group: str, join: bool) -> None:
        if self._source is not None:
            request = _membership(group, self._interface)[:8] + socket.inet_aton(self._source)
            option = _IP_ADD_SOURCE_MEMBERSHIP if join else _IP_DROP_SOURCE_MEMBERSHIP
        else:
            request = _membership(group, self._interface, self._index)
            option = socket.IP_ADD_MEMBERSHIP if join else socket.IP_DROP_MEMBERSHIP
        sock.setsockopt(socket.IPPROTO_IP, option, request)

    def rejoin(self, line: int) -> None:
        """Leave one line's group and join it again: for silence behind a switch that has
        forgotten the membership, or after the interface was recreated or got another address.
        Raises OSError where the interface is gone.
        """
        group, sock = self.groups[line][0], self._sockets[line]
        if not IPv4Address(group).is_multicast:
            return
        with contextlib.suppress(OSError):
            self._join(sock, group, False)
        self._index = interface_index(self._interface) or self._index
        self._join(sock, group, True)

    def fileno(self) -> int:
        """Return the descriptor of the only socket; raises ValueError when there are several
        (use `filenos`).
        """
        if len(self._sockets) != 1:
            raise ValueError(f"{len(self._sockets)} sockets: use filenos()")
        return self._sockets[0].fileno()

    def filenos(self) -> list[int]:
        """Return every socket's descriptor, by line, for an event loop's readers."""
        return [sock.fileno() for sock in self._sockets]

    def ports(self) -> list[int]:
        """Return every socket's local port, by line."""
        return [int(sock.getsockname()[1]) for sock in self._sockets]

    def packet_counts(self) -> list[int]:
        """Return how many packets each line has brought, without asking the kernel."""
        return [int(entry.packets) for entry in self._c_sockets]

    def receive(self, timeout: float = 0.0) -> int:
        """Read what has arrived, waiting at most `timeout` seconds for the first packet; return
        the number of packets.

        A signal ends the wait with 0.
        """
        return int(lib.tc_receive(self._c, int(timeout * 1e9)))

    def packet(self, index: int) -> memoryview:
        """Return packet `index` of the last call, without copying."""
        span = self.spans[index]
        offset = int(span["offset"])
        return self.buffer.data[offset : offset + int(span["length"])]

    @property
    def stats(self) -> ReceiverStats:
        """Counters so far; asks the kernel for its drops."""
        for entry, sock in zip(self._c_sockets, self._sockets, strict=True):
            if sock.fileno() >= 0:
                info = struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))
                lib.tc_receive_drops(ffi.addressof(entry), info[_MEMINFO_DROPS])
        c = self._c
        return ReceiverStats(
            tuple(entry.packets for entry in self._c_sockets),
            tuple(entry.bytes for entry in self._c_sockets),
            tuple(entry.drops for entry in self._c_sockets),
            tuple(self._rcvbuf),
            self.gro,
            c.datagrams,
            c.calls,
            c.truncated,
            c.errors,
            c.last_errno,
        )

    def close(self) -> None:
        """Close every socket; groups are left."""
        for sock in self._sockets:
            sock.close()
        if hasattr(self, "_c"):
            self._c.n_sockets = 0
