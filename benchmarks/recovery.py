"""What do ring and recovery service cost the feed; how fast do they repair? Joins beside the
stream, and ranges.

`python -m benchmarks.recovery`. First the ring: publish calls with and without it. Then the
steps of the service, between any two of which a feeder reads its sockets: processor time, no
sockets. Then the live feeder as in `benchmarks.wire_to_wire`, process to process, alone and
while a hundred clients join at the same moment once a second, each taking every definition and
book. At last a client that repairs as fast as it can, and one that asks for single packets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.corpus import PACKET_BYTES, Corpus, load, uniform_packets
from benchmarks.harness import Case, Options, Suite, Table, main, recorded_file
from benchmarks.venue_stub import VenueStub
from benchmarks.wire_to_wire import (
    COLUMNS,
    PORT,
    PREFIX,
    Events,
    Seen,
    columns,
    due_times,
    feeder_process,
    go_live,
    measure,
    part_of,
    processors,
    row,
)
from tapecast.feeder.offline import Offline
from tapecast.feeder.recovery_source import session_source
from tapecast.feeder.venues import venue
from tapecast.protocol.codec import decode
from tapecast.protocol.net.io import Receiver, Sender
from tapecast.protocol.publish.lines import MulticastLine
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.publish.recovery.server import RecoveryServer
from tapecast.protocol.publish.recovery.types import Limits
from tapecast.protocol.records import HeartbeatItem, RequestItem
from tapecast.protocol.recovery import MAX_RANGE, encode_request
from tapecast.protocol.ring import Ring
from tapecast.protocol.schema import RequestKind

VENUE, RECORDING = "binance", "long/binance_spot_btcusdt_20240808.jsonl.gz"
LINES, SMOKE_LINES = 45_000, 2_000
STEPS_RECORDING = "binance/cf_20210814_spot.jsonl"
RING_PACKETS, SMOKE_RING_PACKETS = 8_192, 512
RING_BYTES = 64 << 20
RATE = 1_000
SECONDS, SMOKE_SECONDS = 6.0, 0.3
CLIENTS, SMOKE_CLIENTS = 100, 5
UNLIMITED = {
    "RECOVERY__PACKETS_PER_S": "10000000",
    "RECOVERY__BYTES_PER_S": str(1 << 34),
    "RECOVERY__BOOKS_PER_S": "1000000",
}
WITHIN_S = 10.0


def build(options: Options) -> Iterator[Suite | Table]:
    """Yield the three parts."""
    count = SMOKE_RING_PACKETS if options.smoke else RING_PACKETS
    for packets in (1, 8, 64):
        yield _ring(count, packets)
    if options.only in STEPS_RECORDING:
        yield _steps(SMOKE_CLIENTS if options.smoke else CLIENTS)
    if options.only in RECORDING:
        corpus = load(VENUE, RECORDING, SMOKE_LINES if options.smoke else LINES)
        allowed = os.sched_getaffinity(0)
        try:
            yield from _live(corpus, options)
        finally:
            os.sched_setaffinity(0, allowed)


def _ring(count: int, packets: int) -> Suite:
    """Publish with and without a ring that has been round already, so that its memory is there."""
    data = uniform_packets(count)
    size = packets * PACKET_BYTES
    pieces = [bytearray(data[i : i + size]) for i in range(0, len(data), size)]

    def publisher(ring: Ring | None) -> Publisher:
        out = Publisher(
            MulticastLine(Sender(f"{PREFIX}.9", PORT)),
            venue_id=1,
            channel_id=1,
            session=1,
            base_flags=0,
        )
        out.ring = ring
        return out

    def run(out: Publisher) -> Callable[[object], None]:
        def publish(_: object) -> None:
            for piece in pieces:
                out.publish(piece, len(piece))

        return publish

    ring = Ring(RING_BYTES)
    while ring.oldest_seq in (0, 1):
        ring.append(ring.next_seq or 1, packets, pieces[0], size)
    cases = [
        Case("publish", lambda: None, run(publisher(None))),
        Case("publish and keep in the ring", lambda: None, run(publisher(ring))),
    ]
    return Suite(
        f"{packets} packets of {PACKET_BYTES} B a call, nobody listens", len(pieces), "call", cases
    )


def _steps(clients: int) -> Table:
    """Play a recording and serve what it left: a frame may have to wait as long as the longest
    step.
    """
    offline = Offline(venue(VENUE), [recorded_file(STEPS_RECORDING)])
    offline.publisher.ring = ring = Ring(RING_BYTES)
    for _ in offline.run():
        pass
    source = session_source(offline.session, offline.publisher, ring, lambda: None)
    much = 1 << 40
    limits = Limits(clients, much, much, much, backlog=64, idle_ns=much, stall_ns=much)
    whole = RequestItem(kind=RequestKind.RANGE, first=ring.oldest_seq, packets=MAX_RANGE)
    rows = []
    for name, item, joiners in (
        ("definitions", RequestItem(kind=RequestKind.DEFINITIONS), clients),
        ("snapshots, one client", RequestItem(kind=RequestKind.SNAPSHOT), 1),
        (f"snapshots, {clients} clients", RequestItem(kind=RequestKind.SNAPSHOT), clients),
        (f"ranges of {MAX_RANGE}, {clients} clients", whole, clients),
    ):
        server = RecoveryServer(source, limits)
        for _ in range(joiners):
            client = server.connect(0)
            assert client is not None
            server.receive(client, encode_request(source.header, item))
        taken: list[int] = []
        while True:
            start_ns = time.thread_time_ns()
            step = server.step(1, 1)
            taken.append(time.thread_time_ns() - start_ns)
            if step is None:
                break
        rows.append(
            [
                *row(name, np.array(taken[:-1], np.int64)),
                server.counts["books_read"],
                server.counts["bytes"],
            ]
        )
    title = (
        f"steps of the service, {len(offline.session.instruments)} instruments, {STEPS_RECORDING}"
    )
    return Table(title, ["", "steps", *COLUMNS[2:], "books read", "bytes"], rows)


def _live(corpus: Corpus, options: Options) -> Iterator[Table]:
    own, cpus = processors()
    clients, seconds = (SMOKE_CLIENTS, SMOKE_SECONDS) if options.smoke else (CLIENTS, SECONDS)
    events, stub = Events(corpus.spec), VenueStub(corpus.bodies)
    url = f"127.0.0.1:{stub.port}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            with feeder_process(
                corpus, f"ws://{url}", f"http://{url}", scratch, busy=False, cpus=cpus, **UNLIMITED
            ):
                port = _recovery_port(corpus)
                if cpus:
                    os.sched_setaffinity(0, own)
                frames = iter(corpus.frames)
                go_live(stub, corpus, frames, events)
                rows: list[list[object]] = []
                notes: list[str] = []
                for name, joining in (
                    ("alone", 0),
                    (f"{clients} join a second, at once", clients),
                    ("alone again", 0),
                ):
                    part = part_of(frames, RATE, 0, seconds)
                    joiners = _start(port, corpus, "join", joining, seconds) if joining else None
                    sent_ns, seen = measure(stub, events, part, due_times(part, RATE, 0))
                    rows += _rows(name, sent_ns, seen)
                    if joiners is not None:
                        notes.append(_joined(json.loads(joiners.communicate()[0])))
                if cpus:
                    os.sched_setaffinity(0, {*own, *cpus})
                repairs = _repairs(port, corpus, min(seconds, 3.0))
            longest_us = json.loads((scratch / "report").read_bytes())["recovery"][
                "longest_turn_us"
            ]
        notes.append(
            f"longest turn of the service, repairs included: {longest_us:,} µs, whatever took the"
            " processor meanwhile"
        )
        yield Table(
            f"{RATE:,} frames/s, feeder sleeps between frames, {corpus.name}", COLUMNS, rows, notes
        )
        yield repairs
    finally:
        events.close()
        stub.close()


def _recovery_port(corpus: Corpus) -> int:
    """Return the port that the feeder's heartbeats name."""
    receiver = Receiver([(f"{PREFIX}.{corpus.spec.venue_id}", PORT)])
    try:
        for _ in range(100):
            for index in range(receiver.receive(WITHIN_S / 100)):
                for item in decode(receiver.packet(index)).items:
                    if isinstance(item, HeartbeatItem) and item.recovery_port:
                        return item.recovery_port
    finally:
        receiver.close()
    raise AssertionError("no heartbeat names a recovery port")


def _start(port: int, corpus: Corpus, kind: str, *rest: object) -> subprocess.Popen[bytes]:
    words = [str(word) for word in (port, corpus.spec.venue_id, kind, *rest)]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers.joiners", *words], stdout=subprocess.PIPE
    )


def _rows(name: str, sent_ns: list[int], seen: list[Seen]) -> list[list[object]]:
    sent, times = np.array(sent_ns, np.int64), columns(seen)
    return [
        row(f"{name}: venue's TCP send → receiver", times[:, 2] - sent),
        row(f"{name}: frame complete → handed to the kernel", times[:, 1] - times[:, 0]),
    ]


def _joined(out: dict[str, object]) -> str:
    ms = np.array(out["ms"], np.float64)
    p50, p99 = np.percentile(ms, (50, 99))
    took = f"from the first connect of a crowd to the last byte p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    return f"{out['joins']} joins, {out['bytes']:,} bytes; {took}"


def _repairs(port: int, corpus: Corpus, seconds: float) -> Table:
    rows: list[list[object]] = []
    for name, kind in (
        ("ranges of 512, eight at a time", "repair"),
        ("one packet after the other", "single"),
    ):
        out = json.loads(_start(port, corpus, kind, seconds).communicate()[0])
        p50, p99 = np.percentile(np.array(out["ms"], np.float64) * 1e3, (50, 99))
        rates = [round(out[what] / out["s"]) for what in ("requests", "packets", "bytes")]
        rows.append([name, *rates[:2], round(rates[2] / 1e6, 1), round(p50), round(p99)])
    return Table(
        f"repair, {corpus.name}", ["", "requests/s", "packets/s", "MB/s", "p50 µs", "p99 µs"], rows
    )


if __name__ == "__main__":
    raise SystemExit(main(__doc__.splitlines()[0], build, ["uvloop", "cffi", "numpy"]))
