"""How long from the venue's TCP send to the packet in a receiver's hands? The live feeder,
process to process.

`python -m benchmarks.wire_to_wire`. The feeder is `tapecast feed`, a process of its own on its
event loop, which sleeps between frames (the default) or never does (`feeder.busy_poll`). In the
first part this process is both ends of the wire: it notes the time, sends one recorded frame
over TCP, and spins on the multicast receiver, so every frame has both its times from one clock;
what the machine takes for itself is shown by a bare relay (`peers/bare_relay.py`). In the second
part the frames come from `tapecast replay`, and what is measured stands in the packets: frame
complete in the feeder (`ts_recv_ns`) to datagram handed to the kernel (`ts_send_ns`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.corpus import Corpus, Frame, load
from benchmarks.harness import Options, Table, Target, main, recorded_file
from benchmarks.venue_stub import VenueStub, framed
from tapecast.feeder.venues.spec import VenueSpec
from tapecast.protocol.net.io import Receiver
from tapecast.protocol.records import HEADER_STRUCT, Header
from tapecast.protocol.schema import Flag, MsgType

CORPORA = [
    (
        "binance",
        "long/binance_spot_btcusdt_20240808.jsonl.gz",
        "binance/hft_20240808_spot_btcusdt.jsonl",
    ),
    (
        "binance_futures",
        "long/binance_futures_usdm_btcusdt_20240808.jsonl.gz",
        "binance_futures/hft_20240808_usdm_btcusdt.jsonl",
    ),
]
"""Venue, recording of the first part, and of the second, which is played as a whole."""
LINES, SMOKE_LINES = 45_000, 2_000
RATES: list[tuple[str, float, float]] = [
    ("recorded pace", 0, 1),
    ("recorded pace ×10", 0, 10),
    ("1,000 frames/s", 1_000, 0),
    ("5,000 frames/s", 5_000, 0),
]
"""Name, frames a second, or times the recorded pace."""
SECONDS, SMOKE_SECONDS = 5.0, 0.3
SPARSE = 4
"""Times as long at the recorded pace, where frames are few."""
WAITS = [("sleeps between frames", False), ("busy poll", True)]
"""How the feeder waits: name, `feeder.busy_poll`."""
FLOOR_FRAMES, SMOKE_FLOOR_FRAMES = 3_000, 50
FLOOR_PAUSE_S = 0.001
REPLAY_SPEEDS = (10, 50)
WARM_UP = 200
P50_US, P99_US = 55.0, 150.0
PREFIX, PORT = "239.255.47", 20_000 + os.getpid() % 10_000
HOT = {int(MsgType.BOOK), int(MsgType.BBO), int(MsgType.TRADE)}
TYPE, FLAGS, RECV, SEND = (
    Header._fields.index(name) for name in ("msg_type", "flags", "ts_recv_ns", "ts_send_ns")
)
LAST, RECOVERED = int(Flag.LAST), int(Flag.RECOVERED)
QUIET_S = 1.0
COLUMNS = ["", "frames", "p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "max µs"]


class Seen(NamedTuple):
    """One event at the receiver: feeder's frame complete, handed to the kernel, here; UTC ns."""

    recv_ns: int
    send_ns: int
    here_ns: int


class Events:
    """Takes market data events from the multicast, in order."""

    def __init__(self, spec: VenueSpec) -> None:
        self._receiver = Receiver([(f"{PREFIX}.{spec.venue_id}", PORT)])
        self.seen: list[Seen] = []

    def poll(self, timeout: float = 0.0) -> int:
        """Note every event that has come and return how many packets there were."""
        receiver = self._receiver
        n = receiver.receive(timeout)
        if n:
            here_ns = time.time_ns()
            for offset in receiver.spans["offset"][:n].tolist():
                header = HEADER_STRUCT.unpack_from(receiver.buffer, offset)
                flags = header[FLAGS]
                if header[TYPE] in HOT and flags & LAST and not flags & RECOVERED:
                    self.seen.append(Seen(header[RECV], header[SEND], here_ns))
        return n

    def drain(self, seconds: float) -> None:
        """Take and forget what comes in this time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.poll(0.05)
        self.seen.clear()

    def close(self) -> None:
        """Leave the group."""
        self._receiver.close()


def build(options: Options) -> Iterator[Table]:
    """Yield the two parts for each recording."""
    for venue, name, short in CORPORA[: 1 if options.smoke else None]:
        if options.only not in name:
            continue
        corpus = load(venue, name, SMOKE_LINES if options.smoke else LINES)
        allowed = os.sched_getaffinity(0)
        try:
            yield _floor(SMOKE_FLOOR_FRAMES if options.smoke else FLOOR_FRAMES)
            for waits, busy in WAITS[1:] if options.smoke else WAITS:
                rates, seconds = (RATES[2:3], SMOKE_SECONDS) if options.smoke else (RATES, SECONDS)
                yield from _both_ends(corpus, rates, seconds, waits, busy)
        finally:
            os.sched_setaffinity(0, allowed)
        if not options.smoke:
            for waits, busy in WAITS:
                yield _replayed(load(venue, short, LINES), recorded_file(short), waits, busy)


def processors() -> tuple[set[int], list[int]]:
    """Return the processors of this process and of the feeder: apart where there are two, so
    that neither takes the other's.
    """
    allowed = sorted(os.sched_getaffinity(0))
    return ({allowed[0]}, [allowed[-1]]) if len(allowed) > 1 else (set(allowed), [])


def _floor(frames: int) -> Table:
    """Measure a process that waits in the kernel and does nothing but pass something on: what a
    wake-up costs here.
    """
    own, others = processors()
    receiver = Receiver([(f"{PREFIX}.0", PORT)])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [
            sys.executable,
            "-m",
            "benchmarks.peers.bare_relay",
            str(listener.getsockname()[1]),
            f"{PREFIX}.0",
            str(PORT),
        ]
        with subprocess.Popen(command) as relay:
            stream = listener.accept()[0]
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if others:
                os.sched_setaffinity(relay.pid, others)
                os.sched_setaffinity(0, own)
            taken: list[int] = []
            for _ in range(frames):
                time.sleep(FLOOR_PAUSE_S)
                start_ns = time.perf_counter_ns()
                stream.sendall(bytes(200))
                while not receiver.receive(0.0):
                    if time.perf_counter_ns() - start_ns > QUIET_S * 1e9:
                        raise AssertionError("the relay sent nothing")
                taken.append(time.perf_counter_ns() - start_ns)
            stream.close()
    receiver.close()
    os.sched_setaffinity(0, own.union(others))
    rows = [row("TCP send → receiver", np.array(taken, np.int64))]
    return Table("bare relay, asleep between: what the machine takes for itself", COLUMNS, rows)


def _both_ends(
    corpus: Corpus,
    rates: Sequence[tuple[str, float, float]],
    seconds: float,
    waits: str,
    busy: bool,
) -> Iterator[Table]:
    """Measure at several paces with one feeder; frames go on where the last pace ended, so the
    book stays in order.
    """
    own, cpus = processors()
    events, stub = Events(corpus.spec), VenueStub(corpus.bodies)
    url = f"127.0.0.1:{stub.port}"
    try:
        with (
            tempfile.TemporaryDirectory() as scratch,
            feeder_process(
                corpus, f"ws://{url}", f"http://{url}", Path(scratch), busy=busy, cpus=cpus
            ),
        ):
            if cpus:
                stub.serve(lambda: stub.subscribed, 30.0)  # the feeder has taken its processor
                os.sched_setaffinity(0, own)
            frames = iter(corpus.frames)
            go_live(stub, corpus, frames, events)
            for title, rate, speed in rates:
                part = part_of(frames, rate, speed, seconds * (SPARSE if speed == 1 else 1))
                if not part:
                    break
                due_ns = due_times(part, rate, speed)
                sent_ns, seen = measure(stub, events, part, due_ns)
                yield _table(
                    f"{title}, feeder {waits}, one process both ends, {corpus.name}", sent_ns, seen
                )
    finally:
        os.sched_setaffinity(0, own.union(cpus))
        events.close()
        stub.close()


def go_live(stub: VenueStub, corpus: Corpus, frames: Iterator[Frame], events: Events) -> None:
    """Let the feeder connect, subscribe, fetch its order book and warm up."""
    stub.serve(lambda: stub.subscribed, 30.0)
    assert stub.stream is not None
    for line in corpus.start:
        if line.kind == "recv":
            stub.stream.sendall(framed(line.raw))
    stub.serve(lambda: stub.books_served >= len(corpus.bodies), 10.0)
    events.drain(0.3)
    for _ in range(WARM_UP):
        stub.stream.sendall(framed(next(frames).raw))
        time.sleep(0.001)
    events.drain(0.3)


def part_of(frames: Iterator[Frame], rate: float, speed: float, seconds: float) -> list[Frame]:
    """Take the frames of one measurement."""
    out: list[Frame] = []
    for frame in frames:
        out.append(frame)
        if (
            (len(out) >= rate * seconds)
            if rate
            else (frame.ts_recv_ns - out[0].ts_recv_ns > seconds * speed * 1e9)
        ):
            break
    return out


def due_times(frames: list[Frame], rate: float, speed: float) -> list[int]:
    """Return when each frame is to be sent, in ns from the start."""
    if rate:
        return [int(number * 1e9 / rate) for number in range(len(frames))]
    return [int((frame.ts_recv_ns - frames[0].ts_recv_ns) / speed) for frame in frames]


def measure(
    stub: VenueStub, events: Events, frames: list[Frame], due_ns: list[int]
) -> tuple[list[int], list[Seen]]:
    """Send every frame when it is due and spin on the receiver in between; each frame becomes
    exactly one event.
    """
    assert stub.stream is not None
    send, poll, realtime, clock = (
        stub.stream.sendall,
        events.poll,
        time.time_ns,
        time.perf_counter_ns,
    )
    wires = [framed(frame.raw) for frame in frames]
    sent_ns: list[int] = []
    seen = events.seen
    start_ns = last_ns = clock()
    number, count = 0, len(wires)
    while len(seen) < count:
        now_ns = clock()
        if number < count and now_ns - start_ns >= due_ns[number]:
            sent_ns.append(realtime())
            send(wires[number])
            number += 1
            last_ns = now_ns
        if poll():
            last_ns = now_ns
        elif number == count and now_ns - last_ns > QUIET_S * 1e9:
            raise AssertionError(f"{count} frames became {len(seen)} events")
    out = list(seen)
    seen.clear()
    return sent_ns, out


def _replayed(corpus: Corpus, path: Path, waits: str, busy: bool) -> Table:
    """Measure inside the feeder while `tapecast replay` is the venue."""
    rows: list[list[object]] = []
    for speed in REPLAY_SPEEDS:
        events = Events(corpus.spec)
        command = [
            sys.executable,
            "-m",
            "tapecast",
            "replay",
            "--json",
            "--venue",
            corpus.venue,
            "--speed",
            str(speed),
            str(path),
        ]
        with (
            tempfile.TemporaryDirectory() as scratch,
            _process(command, stdout=subprocess.PIPE) as server,
        ):
            assert server.stdout is not None
            listening = json.loads(server.stdout.readline())
            with feeder_process(
                corpus, listening["ws"], listening["rest"], Path(scratch), busy=busy, cpus=[]
            ):
                started = time.monotonic()
                while time.monotonic() - started < 60.0 and not (
                    events.poll(0.05) == 0 and len(events.seen) > len(corpus.frames) / 2
                ):
                    pass
        times = columns(events.seen)
        inside, beyond = times[:, 1] - times[:, 0], times[:, 2] - times[:, 1]
        rows.append(row(f"speed {speed}: frame complete → handed to the kernel", inside))
        rows.append(row(f"speed {speed}: handed to the kernel → receiver (asleep between)", beyond))
        events.close()
    return Table(f"`tapecast replay`, feeder {waits}, {corpus.name}", COLUMNS, rows)


def _table(title: str, sent_ns: list[int], seen: list[Seen]) -> Table:
    sent, times = np.array(sent_ns, np.int64), columns(seen)
    whole = times[:, 2] - sent
    rows = [
        row("venue's TCP send → receiver", whole),
        row("  TCP send → frame complete", times[:, 0] - sent),
        row("  frame complete → handed to the kernel", times[:, 1] - times[:, 0]),
        row("  handed to the kernel → receiver", times[:, 2] - times[:, 1]),
    ]
    p50, p99 = (float(value) / 1e3 for value in np.percentile(whole, (50, 99)))
    targets = [
        Target("wire to wire p50", p50, at_most=P50_US, unit="µs"),
        Target("wire to wire p99", p99, at_most=P99_US, unit="µs"),
    ]
    return Table(title, COLUMNS, rows, (), targets)


def columns(seen: list[Seen]) -> npt.NDArray[np.int64]:
    """Return the three times of the events as columns."""
    return np.array(seen, np.int64).reshape(-1, 3)


def row(name: str, taken_ns: npt.NDArray[np.int64]) -> list[object]:
    """Return a row of `COLUMNS`."""
    if not taken_ns.size:
        return [name, 0, *(None,) * 5]
    return [
        name,
        int(taken_ns.size),
        *(round(float(v) / 1e3, 1) for v in np.percentile(taken_ns, (50, 90, 99, 99.9, 100))),
    ]


@contextlib.contextmanager
def feeder_process(
    corpus: Corpus,
    ws: str,
    rest: str,
    scratch: Path,
    *,
    busy: bool,
    cpus: list[int],
    **further: str,
) -> Iterator[None]:
    """Run `tapecast feed` against a stand-in venue, on a group of this benchmark's own, with
    `further` settings.

    Its report is in the file `report` of the folder `scratch` afterwards.
    """
    key = f"VENUES__{corpus.venue.upper()}__"
    found = json.dumps([instrument.symbol for instrument in corpus.instruments])
    channels = {MsgType.BOOK: "", MsgType.BBO: "", MsgType.TRADE: ""}
    for name, channel in corpus.spec.stream.streams.items():
        channels[channel.carries] = channels.get(channel.carries) or name
    settings = {
        "NETWORK__GROUP_PREFIX": PREFIX,
        "NETWORK__PORT_CRYPTO": str(PORT),
        "FEEDER__SESSION_END_S": "0",
        "FEEDER__BUSY_POLL": json.dumps(busy),
        "FEEDER__CPUS": json.dumps(cpus),
        "FEEDER__STATE_DIR": str(scratch / "state"),
        "FEEDER__QUARANTINE_DIR": str(scratch / "quarantine"),
        "LOG__LEVEL": "error",
        key + "SYMBOLS": found,
        key + "CHANNELS": json.dumps([name for name in channels.values() if name]),
        **{
            f"{key}ENDPOINTS__{route.upper()}": _url(route, ws, rest)
            for route in corpus.spec.endpoints
        },
        **further,
    }
    environ = {**os.environ, **{f"TAPECAST__{name}": value for name, value in settings.items()}}
    command = [sys.executable, "-m", "tapecast", "feed", corpus.venue, "--json"]
    with (scratch / "report").open("wb") as report, _process(command, env=environ, stdout=report):
        yield


def _url(route: str, ws: str, rest: str) -> str:
    return rest if route == "rest" else f"{ws}/stream"


@contextlib.contextmanager
def _process(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child; SIGTERM at the end."""
    with subprocess.Popen(command, **options) as child:  # type: ignore[call-overload]
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


if __name__ == "__main__":
    raise SystemExit(main(__doc__.splitlines()[0], build, ["picows", "uvloop", "cffi", "numpy"]))
