"""Sending and receiving over loopback: multicast with TTL 0, bounded counts; wire specification,
section 5.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapecast.protocol._native import ffi, lib
from tapecast.protocol.net.io import Receiver, Sender, Stamper, StampError, TextSender
from tests.support.packets import fields, packet

GROUP = "239.255.42.201"
OTHER = "239.255.42.202"
ROOT = Path(__file__).resolve().parents[3]


def drain(receiver: Receiver, expected: int, timeout: float = 2.0) -> list[bytes]:
    """Receive until `expected` packets are there or the time is over."""
    out: list[bytes] = []
    deadline = time.monotonic() + timeout
    while len(out) < expected and time.monotonic() < deadline:
        out += [bytes(receiver.packet(i)) for i in range(receiver.receive(0.05))]
    return out


def runs_and_odd_sizes() -> list[bytes]:
    """Packets in an order that makes GSO runs, runs with a shorter last, and singles."""
    sizes = [5] * 70 + [3] + [1, 2, 3, 4] + [9] * 3 + [83] * 50 + [0] * 3 + [83]
    return [packet(i, items=n) for i, n in enumerate(sizes)]


@pytest.fixture
def pair() -> Iterator[tuple[Sender, Receiver]]:
    """A receiver on a free port and a sender to it."""
    receiver = Receiver([(GROUP, 0)])
    sender = Sender(GROUP, receiver.ports()[0])
    yield sender, receiver
    sender.close()
    receiver.close()


@pytest.mark.parametrize("gso", [True, False])
@pytest.mark.parametrize("gro", [True, False])
def test_packets_arrive_as_they_were_sent(gso: bool, gro: bool) -> None:
    """Every mix of GSO and GRO delivers the same packets, in order, byte for byte."""
    packets = runs_and_odd_sizes()
    receiver = Receiver([(GROUP, 0)], gro=gro)
    sender = Sender(GROUP, receiver.ports()[0], gso=gso)
    buffer = b"".join(packets)
    assert sender.send(buffer, len(buffer)) == len(packets)
    assert drain(receiver, len(packets)) == packets
    stats = receiver.stats
    assert stats.packets == (len(packets),)
    assert stats.bytes == (len(buffer),)
    assert stats.kernel_drops == (0,)
    assert (stats.datagrams < len(packets)) == (gso and gro)
    assert (sender.stats.gso_messages > 0) == gso
    assert (sender.stats.packets, sender.stats.bytes, sender.stats.dropped) == (
        len(packets),
        len(buffer),
        0,
    )
    sender.close()
    receiver.close()


def test_one_call_sends_a_batch(pair: tuple[Sender, Receiver]) -> None:
    """A mixed batch of up to 64 messages is one system call."""
    sender, receiver = pair
    buffer = b"".join(runs_and_odd_sizes())
    sender.send(buffer, len(buffer))
    assert sender.stats.calls == 1
    assert receiver.receive(1.0) > 0


def test_spans_name_source_and_time(pair: tuple[Sender, Receiver]) -> None:
    """A span carries the sender's address and port, the line, and a plausible kernel time."""
    sender, receiver = pair
    before = time.time_ns()
    sender.send(packet(), 98)
    assert receiver.receive(1.0) == 1
    span = receiver.spans[0]
    assert (
        socket.inet_ntoa(int(span["addr"]).to_bytes(4, "big")),
        int(span["port"]),
    ) == sender.address
    assert int(span["line"]) == 0
    assert before - 1_000_000 <= int(span["kernel_ts_ns"]) <= time.time_ns() + 1_000_000


def test_publish_stamps_and_sends_the_same_bytes_on_both_lines() -> None:
    """One call numbers the packets and puts them on line A and line B."""
    receiver = Receiver([(GROUP, 0), (OTHER, 0)])
    port_a, port_b = receiver.ports()
    line_a, line_b = Sender(GROUP, port_a), Sender(OTHER, port_b)
    buffer = bytearray(packet() * 3)
    assert line_a.publish(Stamper(5, instruments=1), buffer, len(buffer), line_b=line_b) == 3
    got: dict[int, list[bytes]] = {0: [], 1: []}
    deadline = time.monotonic() + 2
    while sum(map(len, got.values())) < 6 and time.monotonic() < deadline:
        for i in range(receiver.receive(0.05)):
            got[int(receiver.spans[i]["line"])].append(bytes(receiver.packet(i)))
    assert b"".join(got[0]) == b"".join(got[1]) == bytes(buffer)
    assert [fields(p)["channel_seq"] for p in got[0]] == [1, 2, 3]
    for sock in (line_a, line_b, receiver):
        sock.close()


def test_a_socket_gets_its_own_group_only() -> None:
    """Two groups on one port: each line brings its group alone (IP_MULTICAST_ALL is off), in one
    receiver or in two.
    """
    both = Receiver([(GROUP, 0)])
    port = both.ports()[0]
    both.close()
    both, single = Receiver([(GROUP, port), (OTHER, port)]), Receiver([(OTHER, port)])
    senders = [Sender(GROUP, port), Sender(OTHER, port)]
    for i, sender in enumerate(senders):
        for seq in range(10):
            sender.send(packet(seq, channel=i), 98)
    seen: list[tuple[int, int]] = []
    deadline = time.monotonic() + 2
    while len(seen) < 20 and time.monotonic() < deadline:
        for i in range(both.receive(0.05)):
            seen.append((int(both.spans[i]["line"]), fields(both.packet(i))["channel_id"]))
    assert sorted(seen) == [(0, 0)] * 10 + [(1, 1)] * 10
    assert [fields(p)["channel_id"] for p in drain(single, 11, 0.2)] == [1] * 10
    for sock in (*senders, both, single):
        sock.close()


def test_every_receiver_of_a_group_gets_every_packet() -> None:
    """Receivers on one host share group and port."""
    first = Receiver([(GROUP, 0)])
    port = first.ports()[0]
    receivers = [first, Receiver([(GROUP, port)]), Receiver([(GROUP, port)], gro=False)]
    sender = Sender(GROUP, port)
    sent = [packet(i) for i in range(20)]
    sender.send(b"".join(sent), 98 * 20)
    for receiver in receivers:
        assert drain(receiver, 20) == sent
        receiver.close()
    sender.close()


def test_source_filter() -> None:
    """A receiver that joined for one source hears no other."""
    receiver = Receiver([(GROUP, 0)], source="127.0.0.1")
    port = receiver.ports()[0]
    wanted, stranger = Sender(GROUP, port), Sender(GROUP, port, interface="127.0.0.2")
    stranger.send(packet(1), 98)
    wanted.send(packet(2), 98)
    assert drain(receiver, 2, 0.2) == [packet(2)]
    for sock in (wanted, stranger, receiver):
        sock.close()


def test_unicast_reaches_the_named_address() -> None:
    """A unicast destination works like a group."""
    receiver = Receiver([("127.0.0.1", 0)])
    sender = Sender("127.0.0.1", receiver.ports()[0])
    sender.send(packet() * 40, 98 * 40)
    assert drain(receiver, 40) == [packet()] * 40
    sender.close()
    receiver.close()


def test_rejoin_keeps_receiving(pair: tuple[Sender, Receiver]) -> None:
    """Leaving and joining again leaves a working membership."""
    sender, receiver = pair
    receiver.rejoin(0)
    sender.send(packet(), 98)
    assert drain(receiver, 1) == [packet()]


def test_without_loop_nobody_on_the_host_hears() -> None:
    """IP_MULTICAST_LOOP is a real switch on the socket; on is the default."""
    sender, silent = Sender(GROUP, 9), Sender(GROUP, 9, loop=False)
    options = [
        s._socket.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP) for s in (sender, silent)
    ]
    assert options == [1, 0]
    assert sender._socket.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 0
    assert sender._socket.getsockopt(socket.IPPROTO_IP, 10) == 2
    sender.close()
    silent.close()


def test_a_wide_ttl_needs_permission() -> None:
    """More than one hop is refused unless allowed by name."""
    with pytest.raises(ValueError, match="TTL 2"):
        Sender(GROUP, 9, ttl=2)
    Sender(GROUP, 9, ttl=2, allow_routing=True).close()
    with pytest.raises(OSError, match=r"No such device|assign requested"):
        Sender(GROUP, 9, interface="203.0.113.9")


@pytest.mark.parametrize("gro", [True, False])
def test_kernel_drops_are_counted(gro: bool) -> None:
    """A receiver with a tiny buffer sees what the kernel dropped: without GRO to the packet,
    with it at least to the buffer.
    """
    receiver = Receiver([(GROUP, 0)], rcvbuf=4096, gro=gro)
    sender = Sender(GROUP, receiver.ports()[0])
    sender.send(packet() * 200, 98 * 200)
    for _ in range(50):
        sender.send(packet(), 98)
    lost = 250 - len(drain(receiver, 250, 0.2))
    drops = receiver.stats.kernel_drops[0]
    assert 0 < drops <= lost
    assert gro or drops == lost
    sender.close()
    receiver.close()


def test_drops_are_a_running_total() -> None:
    """The kernel's count is cumulative, wraps at 2**32, and never moves ours back."""
    entry = ffi.new("tc_rx_socket *")
    for cumulative, total in [
        (5, 5),
        (5, 5),
        (3, 5),
        (2**31, 2**31),
        (2**32 - 1, 2**32 - 1),
        (4, 2**32 + 4),
    ]:
        lib.tc_receive_drops(entry, cumulative)
        assert entry.drops == total


def test_an_oversize_datagram_is_marked() -> None:
    """A datagram longer than a slot arrives marked as truncated."""
    receiver = Receiver([("127.0.0.1", 0)], gro=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(b"x" * 5000, ("127.0.0.1", receiver.ports()[0]))
    assert receiver.receive(1.0) == 1
    assert int(receiver.spans[0]["flags"]) == 1
    assert receiver.stats.truncated == 1
    receiver.close()


def test_an_empty_datagram_is_a_packet_of_no_bytes() -> None:
    """A datagram without payload is described, and left to validation."""
    receiver = Receiver([("127.0.0.1", 0)])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(b"", ("127.0.0.1", receiver.ports()[0]))
    assert receiver.receive(1.0) == 1
    assert bytes(receiver.packet(0)) == b""
    receiver.close()


def test_sockets_take_turns() -> None:
    """A flooded line cannot keep another one from being read."""
    receiver = Receiver([(GROUP, 0), (OTHER, 0)], gro=False, slots=8)
    port_a, port_b = receiver.ports()
    flood, quiet = Sender(GROUP, port_a), Sender(OTHER, port_b)
    flood.send(packet() * 64, 98 * 64)
    quiet.send(packet(), 98)
    lines = [int(receiver.spans[i]["line"]) for i in range(receiver.receive(1.0))]
    assert lines.count(1) == 1
    assert lines.count(0) >= 4
    for sock in (flood, quiet, receiver):
        sock.close()


def test_waiting_ends_with_the_first_packet(pair: tuple[Sender, Receiver]) -> None:
    """`receive` waits for its timeout when nothing comes, and no longer than needed when
    something does.
    """
    sender, receiver = pair
    start = time.monotonic()
    assert receiver.receive(0.05) == 0
    assert 0.045 <= time.monotonic() - start < 2
    timer = threading.Timer(0.05, sender.send, (packet(), 98))
    timer.start()
    start = time.monotonic()
    assert receiver.receive(20) == 1
    assert time.monotonic() - start < 10
    timer.join()


def test_refused_gso_falls_back_and_is_remembered(pair: tuple[Sender, Receiver]) -> None:
    """A socket whose kernel refuses GSO (here: checksums off) sends every packet singly, and
    does not ask again.
    """
    sender, receiver = pair
    sender._socket.setsockopt(socket.SOL_SOCKET, 11, 1)
    sent = [packet(i, items=n) for i, n in enumerate([3] * 10 + [5] * 10 + [1])]
    buffer = b"".join(sent)
    assert sender.send(buffer, len(buffer)) == 21
    assert drain(receiver, 21) == sent
    assert sender.stats.gso_refused >= 1
    refused = sender.stats.gso_refused
    assert sender.send(buffer, len(buffer)) == 21
    assert drain(receiver, 21) == sent
    assert (sender.stats.gso_refused, sender.stats.gso_messages, sender.stats.dropped) == (
        refused,
        0,
        0,
    )


def test_a_full_socket_drops_and_counts_within_bounds() -> None:
    """When the kernel takes no more, one call gives up after its bounded waits and counts what
    it did not send.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender = ffi.new("tc_sender *")
    sender.fd, sender.max_segments, sender.retries, sender.wait_us = ours.fileno(), 64, 3, 1000
    buffer, offset = packet() * 2000, ffi.new("uint64_t *")
    start = time.monotonic()
    sent = lib.tc_send(sender, buffer, len(buffer), offset)
    assert time.monotonic() - start < 1
    assert 0 < sent == sender.packets < 2000
    assert sender.dropped == 2000 - sent
    assert sender.errors == 0
    ours.close()
    theirs.close()


def test_a_closed_sender_counts_errors(pair: tuple[Sender, Receiver]) -> None:
    """A hard error ends the call; its packets are dropped and counted, not raised."""
    sender, _ = pair
    sender.close()
    assert sender.send(packet() * 200, 98 * 200) == 0
    assert (sender.stats.dropped, sender.stats.errors) == (200, 1)


def test_a_malformed_buffer_is_named_by_offset(pair: tuple[Sender, Receiver]) -> None:
    """What stands before the fault is sent; the fault's offset is in the error."""
    sender, receiver = pair
    with pytest.raises(StampError) as error:
        sender.send(packet() * 3 + b"junk", 98 * 3 + 4)
    assert error.value.offset == 98 * 3
    assert drain(receiver, 3) == [packet()] * 3
    with pytest.raises(ValueError, match="99 bytes"):
        sender.send(packet(), 99)
    with pytest.raises(TypeError, match="writable"):
        sender.publish(Stamper(1, instruments=1), packet(), 98)  # type: ignore[arg-type]


def test_text_lines_are_datagrams_of_their_own() -> None:
    """A monitoring line arrives as it is; a closed sender counts what it could not send."""
    receiver = Receiver([(GROUP, 0)])
    sender = TextSender(GROUP, receiver.ports()[0])
    line = b"CONN|okx|4|0|1|4"
    sender.send(line)
    assert drain(receiver, 1) == [line]
    sender.close()
    sender.send(line)
    assert sender.dropped == 1
    receiver.close()


def test_receivers_say_what_they_got() -> None:
    """The obtained buffer is reported; wrong use is an error."""
    receiver = Receiver([(GROUP, 0), (OTHER, 0)], rcvbuf=1 << 20)
    assert all(size >= 212992 for size in receiver.stats.rcvbuf)
    assert len(receiver.filenos()) == 2
    with pytest.raises(ValueError, match="2 sockets"):
        receiver.fileno()
    receiver.close()
    assert receiver.receive() == 0
    with pytest.raises(ValueError, match="0 groups"):
        Receiver([])
    with pytest.raises(OSError, match=r"No such device|assign requested"):
        Receiver([(GROUP, 0)], interface="203.0.113.9")


TTL_ZERO = """
import socket
import subprocess

from tapecast.protocol.net.io import Receiver, Sender
from tests.support.packets import packet
for command in ("link add t0 type veth peer name t1", "addr add 10.99.0.1/24 dev t0", "link set t1 up", "link set t0 up"):
    if subprocess.run(["ip", *command.split()]).returncode:
        raise SystemExit(77)
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
raw.bind(("t1", 0x0800))
raw.settimeout(0.3)
sender = Sender("239.255.42.203", 9001, interface="10.99.0.1")
receiver = Receiver([("239.255.42.203", 9001)], interface="10.99.0.1")
sender.send(packet(), 98)
assert receiver.receive(2.0) == 1
seen = 0
try:
    while True:
        seen += packet()[:4] in raw.recv(2000)
except TimeoutError:
    pass
assert seen == 0, seen
wide = Sender("239.255.42.203", 9001, interface="10.99.0.1", ttl=1)
wide.send(packet(), 98)
assert packet()[:4] in raw.recv(2000)
"""


def test_ttl_zero_stays_on_the_host() -> None:
    """On an interface that is not loopback, in a network namespace, TTL-0 packets reach this
    host and never the wire.
    """
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("unshare or ip is missing")
    result = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", TTL_ZERO],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if (
        result.returncode == 77
        or "unshare failed" in result.stderr
        or "not permitted" in result.stderr
    ):
        pytest.skip(f"no network namespace: {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
