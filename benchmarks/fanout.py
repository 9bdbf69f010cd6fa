"""How fast do 1, 2, 4 and 8 receivers of one host get the same multicast packets? Rates, losses,
latencies.

`python -m benchmarks.fanout`: this process sends, every receiver is a process of its own that
validates and sequences all it gets and waits in the kernel when there is nothing. Loopback, TTL
0, packets of equal size made of a recorded order book. Latency is from the send stamp in the
packet to the moment after the receiving call, one clock, so queueing counts. More processes than
cores compete for them: that is part of the question.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from benchmarks.corpus import PACKET_BYTES, uniform_packets
from benchmarks.harness import Options, Table, Target, installed, main
from benchmarks.peers import zeromq
from tapecast.protocol.dtypes import HEADER
from tapecast.protocol.net.io import Receiver, Sender
from tapecast.protocol.net.sequencing import BatchSequencer
from tapecast.protocol.stamping import Stamper

GROUP, PORT = "239.255.42.248", 20_000 + os.getpid() % 10_000
RECEIVERS = (1, 2, 4, 8)
FULL, PACED = 100_000, 20_000
"""Packets of one run at full speed, and at a fixed rate."""
RATE = 10_000
"""Packets a second of the paced run."""
SMOKE = (1, 2), 2_048, 512
CALL = 32
COLUMNS = [
    "",
    "sent/s",
    "slowest gets/s",
    "lost",
    "lost by one %",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "max µs",
]
OVER_ZEROMQ = 2.0
SILENCE_S, PATIENCE_S = 0.5, 20.0


class Result(NamedTuple):
    """What one receiver saw."""

    packets: int
    lost: int
    last_ns: int
    """When the last packet had been received."""
    latencies_ns: np.ndarray


class Way(NamedTuple):
    """How packets get from the sender to the receivers."""

    name: str
    send: Callable[[list[Connection], bytearray, int], tuple[int, float]]
    """(pipes, packets, how many) -> when it began (UTC ns), how long sending took (s)."""
    receive: Callable[[Connection, int], None]


def build(options: Options) -> Iterator[Table]:
    """Yield a table per number of receivers: full speed by several ways, interleaved; then a
    fixed rate.
    """
    counts, full, paced = SMOKE if options.smoke else (RECEIVERS, FULL, PACED)
    packets = uniform_packets(CALL)
    ways = [
        Way("multicast, GSO", _sender(gso=True), _receive),
        Way("multicast, sendmmsg", _sender(gso=False), _receive),
    ]
    notes = [
        f"{PACKET_BYTES} B; median of {options.rounds} run(s) by the slowest receiver's rate;"
        " latencies over all receivers"
    ]
    if installed("pyzmq"):
        ways.append(Way("ZeroMQ PUB/SUB over TCP", _zeromq, zeromq.receive))
    else:
        notes.append("peer left out: pyzmq is not installed (group `bench`)")
    for receivers in counts:
        rows, rates = [], []
        for figures in _interleaved(ways, packets, receivers, full, options.rounds):
            rows.append(figures)
            rates.append(float(str(figures[2])))
        targets = []
        if len(ways) == 3 and receivers == max(RECEIVERS):
            targets = [
                Target(
                    f"{ways[0].name} ÷ {ways[2].name}, slowest receiver",
                    rates[0] / rates[2],
                    at_least=OVER_ZEROMQ,
                    unit="×",
                )
            ]
        yield Table(
            f"{receivers} receiver(s), full speed, {full:,} packets, {CALL} a call",
            COLUMNS,
            rows,
            notes,
            targets,
        )
    way = Way("", _sender(gso=True, rate=RATE), _receive)
    rows = [
        [f"{receivers} receiver(s)", *_run(way, packets, receivers, paced)] for receivers in counts
    ]
    yield Table(f"multicast at {RATE:,} packets/s, one a call, {paced:,} packets", COLUMNS, rows)


def _interleaved(
    ways: list[Way], packets: bytearray, receivers: int, number: int, rounds: int
) -> Iterator[list[object]]:
    """Yield each way's median run; the ways take turns."""
    taken = [[_run(way, packets, receivers, number) for way in ways] for _ in range(rounds)]
    for way, runs in zip(ways, zip(*taken, strict=True), strict=True):
        yield [way.name, *sorted(runs, key=lambda run: float(str(run[1])))[len(runs) // 2]]


def _run(way: Way, packets: bytearray, receivers: int, number: int) -> list[object]:
    context = multiprocessing.get_context("fork")
    pipes, children = [], []
    for _ in range(receivers):
        ours, theirs = context.Pipe()
        child = context.Process(target=way.receive, args=(theirs, number), daemon=True)
        child.start()
        pipes.append(ours)
        children.append(child)
    started_ns, sent_s = way.send(pipes, packets, number)
    results = [Result(*pipe.recv()) for pipe in pipes]
    for child in children:
        child.join()
    lost = [result.lost for result in results]
    slowest = min(
        result.packets / max(1e-9, (result.last_ns - started_ns) / 1e9) for result in results
    )
    latencies = np.concatenate([result.latencies_ns for result in results])
    shares = np.percentile(latencies, (50, 99, 99.9, 100)) / 1e3 if latencies.size else np.zeros(4)
    return [
        round(number / sent_s),
        round(slowest),
        sum(lost),
        round(100 * max(lost) / number, 3),
        *(round(float(s), 1) for s in shares),
    ]


def _sender(
    *, gso: bool, rate: int = 0
) -> Callable[[list[Connection], bytearray, int], tuple[int, float]]:
    def send(pipes: list[Connection], packets: bytearray, number: int) -> tuple[int, float]:
        for pipe in pipes:
            pipe.recv()
        started_ns = time.time_ns()
        _send(packets, number, gso=gso, rate=rate)
        return started_ns, (time.time_ns() - started_ns) / 1e9

    return send


def _zeromq(pipes: list[Connection], packets: bytearray, number: int) -> tuple[int, float]:
    singles = [bytes(packets[i : i + PACKET_BYTES]) for i in range(0, len(packets), PACKET_BYTES)]
    return zeromq.send(pipes, singles, number)


def _send(packets: bytearray, number: int, *, gso: bool, rate: int) -> None:
    sender, stamper = Sender(GROUP, PORT, gso=gso), Stamper(1, instruments=64)
    per_call = 1 if rate else CALL
    out = bytearray(per_call * PACKET_BYTES)
    step_ns = 1_000_000_000 * per_call // rate if rate else 0
    due_ns = time.perf_counter_ns()
    for _ in range(number // per_call):
        if step_ns:
            due_ns += step_ns
            while (wait_ns := due_ns - time.perf_counter_ns()) > 0:
                time.sleep(max(0.0, wait_ns / 1e9 - 0.00006))
        out[:] = packets[: len(out)]
        sender.publish(stamper, out, len(out))
    sender.close()


def _receive(pipe: Connection, number: int) -> None:
    """Receive until everything is there or the sender has been silent for long, and report."""
    receiver = Receiver([(GROUP, PORT)])
    sequencer = BatchSequencer()
    latencies = np.zeros(number, np.int64)
    got = last_ns = 0
    pipe.send("ready")
    patient_until = time.monotonic() + PATIENCE_S
    while got < number:
        n = sequencer.receive(receiver, SILENCE_S)
        now_ns = time.time_ns()
        if n == 0:
            if got or time.monotonic() > patient_until:
                break
            continue
        last_ns = now_ns
        for run in sequencer.runs.tolist():
            offset, nbytes, _, count, held = run
            buffer = sequencer.held if held else receiver.buffer
            headers = np.ndarray((count,), HEADER, buffer.data, offset, (nbytes // count,))
            latencies[got : got + count] = now_ns - headers["ts_send_ns"]
            got += count
    pipe.send((got, number - got, last_ns, latencies[:got]))


if __name__ == "__main__":
    raise SystemExit(main(__doc__.splitlines()[0], build, ["cffi", "numpy", "pyzmq"], rounds=3))
