"""How many packets a second does one core send and receive? Multicast against plain calls and a
C loop.

`python -m benchmarks.send_receive`: loopback multicast, TTL 0, packets of equal size made of a
recorded order book. Sender and receiver run by turns in one process, so neither waits for the
other: a sending run ends in the receive buffer of a listener, which is emptied outside the
timer; a receiving run finds everything in its buffer. Several processes: `benchmarks.fanout`.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator

from benchmarks.corpus import PACKET_BYTES, uniform_packets
from benchmarks.harness import Case, Goal, Options, Suite, main
from benchmarks.peers.c_loop import gso_loop
from tapecast.protocol.net.io import Receiver, Sender
from tapecast.protocol.net.sequencing import BatchSequencer
from tapecast.protocol.records import HEADER_STRUCT, Header
from tapecast.protocol.stamping import Stamper

GROUP, PORT = "239.255.42.249", 20_000 + os.getpid() % 10_000
PACKETS, SMOKE_PACKETS = 8_192, 512
BYTES_ACCOUNTED = 1_536
"""What the kernel charges a small packet at most in a receive buffer, so that a run fits where
little buffer is permitted.
"""
CALL = 64
SEND, RECEIVE_GRO, RECEIVE, OVER_C = 1e6, 3e6, 1e6, 1.15
HEADER, SEQ = HEADER_STRUCT, Header._fields.index("channel_seq")
RETRIES = 100
RCVBUF, SO_RCVBUFFORCE = 64 << 20, 33


def build(options: Options) -> Iterator[Suite]:
    """Yield sending without and with a listener, then receiving."""
    probe = Receiver([(GROUP, PORT)])
    room = probe.stats.rcvbuf[0]
    probe.close()
    count = min(SMOKE_PACKETS if options.smoke else PACKETS, room // BYTES_ACCOUNTED // CALL * CALL)
    note = f"receive buffer {room:,} bytes as the kernel accounts it"
    if count < CALL:
        raise SystemExit(f"{note}: too little for {CALL} packets")
    packets = uniform_packets(count)
    yield _sending("send, nobody listens", packets, count, None, [])
    listener = Receiver([(GROUP, PORT)])
    yield _sending("send, one listener", packets, count, listener, [note])
    listener.close()
    yield _receiving(packets, count, note)


def _sending(
    title: str, packets: bytearray, count: int, listener: Receiver | None, notes: list[str]
) -> Suite:
    size = len(packets) // count
    pieces = [bytearray(packets[i : i + CALL * size]) for i in range(0, len(packets), CALL * size)]
    gso, plain = Sender(GROUP, PORT), Sender(GROUP, PORT, gso=False)
    stamper = Stamper(1, instruments=64)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
    singles = [bytes(packets[i : i + size]) for i in range(0, len(packets), size)]

    def drain() -> None:
        while listener is not None and listener.receive():
            pass

    out = bytearray(CALL * size)

    def publish(_: object) -> None:
        """Fill the one output buffer and publish it, as the feeder does; the copy stands for the
        extractor's writing.
        """
        for piece in pieces:
            out[: len(piece)] = piece
            gso.publish(stamper, out, len(piece))

    def send(sender: Sender) -> Callable[[object], None]:
        def run(_: object) -> None:
            for piece in pieces:
                out[: len(piece)] = piece
                sender.send(out, len(piece))

        return run

    def sendto(_: object) -> None:
        to = (GROUP, PORT)
        for packet in singles:
            sock.sendto(packet, to)

    cases = [
        Case(f"stamp + send, GSO, {CALL} packets a call", drain, publish),
        Case(f"send, GSO, {CALL} packets a call", drain, send(gso)),
        Case(f"send, sendmmsg, {CALL} packets a call", drain, send(plain)),
        Case("Python socket.sendto, a packet a call", drain, sendto),
    ]
    goals = [Goal(cases[0].name, per_second=SEND)]
    c_loop = gso_loop(GROUP, PORT, size, CALL)
    if c_loop is None:
        notes = [*notes, "C loop left out: no compiler"]
    else:
        data = bytes(packets)
        cases.append(Case("C loop of GSO messages, the bound", drain, lambda _: c_loop(data)))
        if listener is not None:
            goals.append(Goal(cases[1].name, at_most=OVER_C, base=cases[-1].name))
    return Suite(
        f"{title}, {size} B, TTL 0 on loopback", count, "packet", cases, notes, len(packets), goals
    )


def _receiving(packets: bytearray, count: int, note: str) -> Suite:
    cases = [
        _sequenced("validated and sequenced, GRO", packets, count, PORT + 1, gro=True),
        _sequenced("validated and sequenced, recvmmsg", packets, count, PORT + 2, gro=False),
        _received("received only, GRO", packets, count, PORT + 3),
        _python(packets, count, PORT + 4),
    ]
    goals = [Goal(cases[0].name, per_second=RECEIVE_GRO), Goal(cases[1].name, per_second=RECEIVE)]
    title = f"receive, {PACKET_BYTES} B, sent with GSO in runs of {CALL}"
    return Suite(title, count, "packet", cases, [note], len(packets), goals)


def _filler(packets: bytearray, port: int) -> Callable[[], None]:
    """Return a function that sends everything to a port, numbered on; it waits in the buffer of
    whoever has joined.
    """
    sender, stamper, size = Sender(GROUP, port), Stamper(1, instruments=64), CALL * PACKET_BYTES

    def fill() -> None:
        for start in range(0, len(packets), size):
            piece = bytearray(packets[start : start + size])
            sender.publish(stamper, piece, len(piece))

    return fill


def _sequenced(name: str, packets: bytearray, count: int, port: int, *, gro: bool) -> Case:
    receiver, sequencer = Receiver([(GROUP, port)], gro=gro), BatchSequencer()
    return Case(
        name, _filler(packets, port), _until(name, count, lambda: sequencer.receive(receiver))
    )


def _received(name: str, packets: bytearray, count: int, port: int) -> Case:
    receiver = Receiver([(GROUP, port)])
    return Case(name, _filler(packets, port), _until(name, count, receiver.receive))


def _until(name: str, count: int, receive: Callable[[], int]) -> Callable[[object], None]:
    def run(_: object) -> None:
        got = empty = 0
        while got < count and empty < RETRIES:
            n = receive()
            got += n
            empty += n == 0
        if got != count:
            raise AssertionError(f"{name}: {count - got} of {count} packets lost")

    return run


def _python(packets: bytearray, count: int, port: int) -> Case:
    """Return the plain way: one call a packet, the header unpacked and the sequence compared."""
    buffer = bytearray(2048)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for option in (socket.SO_RCVBUF, SO_RCVBUFFORCE):
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, option, RCVBUF)
    sock.bind((GROUP, port))
    sock.setsockopt(
        socket.IPPROTO_IP,
        socket.IP_ADD_MEMBERSHIP,
        socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1"),
    )
    sock.settimeout(1.0)

    def run(_: object) -> None:
        expected = 0
        for _ in range(count):
            size = sock.recv_into(buffer)
            header = HEADER.unpack_from(buffer)
            if size != HEADER.size + header[-1] or (expected and header[SEQ] != expected):
                raise AssertionError(f"sequence {header[SEQ]} instead of {expected}")
            expected = header[SEQ] + 1

    return Case("Python recv_into + struct, a packet a call", _filler(packets, port), run)


if __name__ == "__main__":
    raise SystemExit(main(__doc__.splitlines()[0], build, ["cffi", "numpy"]))
