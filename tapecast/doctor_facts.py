"""What `tapecast doctor` looks at: the kernel's files, a probe packet, and a second or two of
listening.

Gathers and does not judge (`tapecast.doctor_checks` does). Sends one packet with TTL 0 to the
monitoring group on a port of its own, and opens one TCP connection to each recovery service that
a heartbeat names; changes nothing on the host.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tapecast.protocol.net.io import Receiver, TextSender, interface_index, reachable
from tapecast.protocol.net.sequencing import Counter
from tapecast.protocol.records import HEADER_STRUCT, ITEM_STRUCT, Header, HeartbeatItem
from tapecast.protocol.schema import HEADER_SIZE, MsgType, venue_name
from tapecast.runtime.channels import lines_of
from tapecast.runtime.errors import ConfigError
from tapecast.runtime.keys import Admission, channel_keys, is_authenticated, key_names
from tapecast.runtime.secrets import find, variable
from tapecast.runtime.settings import Network

__all__ = ["Facts", "Link", "Received", "gather"]

_BEATS = (MsgType.HEARTBEAT, MsgType.SESSION_START)
_HEARTBEAT = ITEM_STRUCT[MsgType.HEARTBEAT]
_PROBE_S = 1.0
_RECOVERY_S = 1.0


class Link(msgspec.Struct, frozen=True):
    """The interface that has the configured address."""

    name: str
    flags: int
    carrier: bool
    mtu: int
    bridge: str = ""
    """The bridge that it is, or that it is a port of."""
    snooping: bool = False
    querier: bool = False
    rp_filter: int = 0


class Received(msgspec.Struct, frozen=True):
    """What came of one venue: packets that were taken, and the recovery services named, with
    whether they answer.
    """

    packets: int
    recovery: dict[str, bool]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is judged; None where it could not be found out."""

    link: Link | None
    source: str | None
    """Own address that the kernel would send from to a group; None = there is no route."""
    igmp: str
    groups: tuple[str, ...]
    probe_us: float | None
    probe_error: str = ""
    joined: bool = False
    """Whether the kernel listed the probe's group while it was joined."""
    rcvbuf: int
    sndbuf_max: int
    rmem_max: int
    softnet_dropped: int
    udp_errors: Mapping[str, int]
    clock: tuple[bool, int, int] | None
    """Whether it is synchronised, its greatest error and its offset, in us."""
    files: tuple[int, int]
    """Descriptors that this process may open, and the hard limit."""
    received: Mapping[str, Received]
    rejected: Mapping[str, int]
    listened_s: float
    listen_error: str = ""
    key_problems: tuple[str, ...]
    unused_keys: tuple[str, ...]


def gather(network: Network, venues: Sequence[str], listen_s: float) -> Facts:
    """Look at everything; takes about `listen_s` seconds."""
    link = _link(network.interface)
    probe_us, probe_error, joined = _probe(network)
    groups = [line for venue in venues for line in lines_of(venue, network)]
    received, rejected, rcvbuf, listen_error = _listen(network, venues, groups, listen_s)
    try:
        channel_keys(venues, network)
        problems: tuple[str, ...] = ()
    except ConfigError as error:
        problems = error.problems
    unused = (
        ()
        if is_authenticated(network)
        else tuple(variable(n) for v in venues for n in key_names(v)[:1] if find(n))
    )
    return Facts(
        link=link,
        source=_source(network),
        igmp=_read("/proc/net/igmp"),
        groups=tuple(dict.fromkeys(group for group, _ in groups)),
        probe_us=probe_us,
        probe_error=probe_error,
        joined=joined,
        rcvbuf=rcvbuf,
        sndbuf_max=_number("/proc/sys/net/core/wmem_max"),
        rmem_max=_number("/proc/sys/net/core/rmem_max"),
        softnet_dropped=sum(
            int(line.split()[1], 16) for line in _read("/proc/net/softnet_stat").splitlines()
        ),
        udp_errors=_udp_errors(),
        clock=_clock(),
        files=resource.getrlimit(resource.RLIMIT_NOFILE),
        received=received,
        rejected=rejected,
        listened_s=listen_s,
        listen_error=listen_error,
        key_problems=problems,
        unused_keys=unused,
    )


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text("ascii", "replace")
    except OSError:
        return ""


def _number(path: str | Path) -> int:
    text = _read(path).strip()
    return int(text, 0) if text else 0


def _link(address: str) -> Link | None:
    index = interface_index(address)
    if index is None:
        return None
    name = socket.if_indextoname(index)
    folder = Path("/sys/class/net") / name
    bridge = (
        name
        if (folder / "bridge").is_dir()
        else (folder / "master").resolve().name
        if (folder / "master").exists()
        else ""
    )
    settings = Path("/sys/class/net") / bridge / "bridge"
    conf = "/proc/sys/net/ipv4/conf"
    return Link(
        name=name,
        flags=_number(folder / "flags"),
        carrier=_number(folder / "carrier") == 1,
        mtu=_number(folder / "mtu"),
        bridge=bridge if bridge and settings.is_dir() else "",
        snooping=bool(bridge) and bool(_number(settings / "multicast_snooping")),
        querier=bool(bridge) and bool(_number(settings / "multicast_querier")),
        rp_filter=max(_number(f"{conf}/all/rp_filter"), _number(f"{conf}/{name}/rp_filter")),
    )


def _source(network: Network) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((network.monitor_group, network.port_crypto))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _probe(network: Network) -> tuple[float | None, str, bool]:
    """Send a packet to oneself: return its way in us or what went wrong, and whether the kernel
    listed the group.
    """
    try:
        receiver = Receiver(
            [(network.monitor_group, 0)],
            interface=network.interface,
            rcvbuf=1 << 16,
            gro=False,
            slots=16,
        )
    except OSError as error:
        return None, f"joining {network.monitor_group}: {error.strerror}", False
    try:
        listed = network.monitor_group in _joined(_read("/proc/net/igmp"))
        sender = TextSender(network.monitor_group, receiver.ports()[0], interface=network.interface)
        text = f"tapecast doctor {os.getpid()} {time.monotonic_ns()}".encode()
        start = time.perf_counter_ns()
        sender.send(text)
        sender.close()
        if sender.dropped:
            return None, "the kernel does not take it", listed
        deadline = time.monotonic() + _PROBE_S
        while (left := deadline - time.monotonic()) > 0:
            for index in range(receiver.receive(left)):
                if bytes(receiver.packet(index)) == text:
                    return (time.perf_counter_ns() - start) / 1e3, "", listed
        return None, f"not received within {_PROBE_S:g} s", listed
    except OSError as error:
        return None, f"sending: {error.strerror}", False
    finally:
        receiver.close()


def _joined(igmp: str) -> set[str]:
    """Return the groups of /proc/net/igmp, whatever the interface."""
    words = [line.split() for line in igmp.splitlines()[1:]]
    return {
        socket.inet_ntoa(bytes.fromhex(row[0])[::-1])
        for row in words
        if len(row) >= 4 and len(row[0]) == 8
    }


def _listen(
    network: Network, venues: Sequence[str], groups: Sequence[tuple[str, int]], listen_s: float
) -> tuple[dict[str, Received], dict[str, int], int, str]:
    """Take the venues' packets for a while; return what came of each, what was rejected and why,
    and the buffer obtained.
    """
    try:
        sequencer = Admission(venues, network).sequencer()
    except ConfigError:
        sequencer = Admission(
            venues, msgspec.structs.replace(network, authentication="off")
        ).sequencer()
    try:
        receiver = Receiver(groups, interface=network.interface, rcvbuf=network.rcvbuf_bytes)
    except OSError as error:
        return {}, {}, 0, str(error.strerror)
    packets: dict[str, int] = {}
    services: dict[str, set[tuple[str, int]]] = {}
    deadline = time.monotonic() + listen_s
    while (left := deadline - time.monotonic()) > 0:
        for index in range(sequencer.receive(receiver, min(left, 0.1))):
            packet = sequencer.packet(index)
            header = Header._make(HEADER_STRUCT.unpack_from(packet))
            venue = venue_name(header.venue_id)
            packets[venue] = packets.get(venue, 0) + 1
            if header.msg_type not in _BEATS or not header.item_count:
                continue
            beat = HeartbeatItem._make(_HEARTBEAT.unpack_from(packet, HEADER_SIZE))
            if beat.recovery_port:
                host = socket.inet_ntoa(int(sequencer.deliveries[index]["addr"]).to_bytes(4, "big"))
                services.setdefault(venue, set()).add((host, beat.recovery_port))
    counts = sequencer.counts()
    reasons = [
        counter.name.lower()
        for counter in Counter
        if Counter.TRUNCATED <= counter <= Counter.OTHER_SOURCE
    ]
    rcvbuf = min(receiver.stats.rcvbuf) // 2
    receiver.close()
    received = {
        venue: Received(
            count,
            {
                f"{host}:{port}": reachable(host, port, _RECOVERY_S)
                for host, port in services.get(venue, ())
            },
        )
        for venue, count in packets.items()
    }
    return received, {reason: counts[reason] for reason in reasons if counts[reason]}, rcvbuf, ""


def _udp_errors() -> dict[str, int]:
    rows = [
        line.split()[1:] for line in _read("/proc/net/snmp").splitlines() if line.startswith("Udp:")
    ]
    return {name: int(value) for name, value in zip(*rows, strict=False)} if len(rows) == 2 else {}


class _Timex(ctypes.Structure):
    """The kernel's `struct timex`, as far as it is read; `man 2 adjtimex`."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    ]


def _clock() -> tuple[bool, int, int] | None:
    timex = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
        return None
    unsynchronised, nanoseconds = 0x0040, 0x2000
    offset_us = timex.offset // 1000 if timex.status & nanoseconds else timex.offset
    return not timex.status & unsynchronised, timex.maxerror, offset_us
