"""Rows about many consumers that come and go, and the price of what keeps the promises."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tapecast.protocol.net.io import Receiver
from tapecast.protocol.schema import VENUES, MsgType
from tests.reliability.rows import row
from tests.reliability.stage import BTC, KEY, SPOT, Stage
from tests.support.captures import captures
from tests.support.processes import Net, tapecast
from tests.support.watch import Watch

__all__ = ["PRICES", "price"]

_MARKET = [int(kind) for kind in (MsgType.BOOK, MsgType.BBO, MsgType.TRADE)]
AT_ONCE = 4
"""Joiners at the same time."""
ENOUGH = 5
"""Books in order that a joiner takes before it goes."""


@row(
    "100 late joins at random moments under a replay as fast as it goes",
    "each has its books from definitions and snapshots with their join points; every book right"
    " from its first LIVE event on",
)
def late_joins(folder: Path, short: bool) -> str:
    """Runs of the recording follow each other until enough have joined; the moments come from a
    seed.
    """
    wanted, rng = (8 if short else 100), random.Random(4)
    joined = places = runs = 0
    took: list[float] = []
    while joined < wanted:
        runs += 1
        here = folder / f"run{runs}"
        here.mkdir()
        with Stage(
            here, (SPOT, BTC)[runs % 2], speed="max" if runs % 4 < 2 else "60", seed=runs
        ) as stage:
            stage.until(lambda: stage.witness.data, what="the first event")
            more, here_places = _join(stage, rng, min(wanted - joined, 12), took)
            joined, places = joined + more, places + here_places
    took.sort()
    return (
        f"{joined} joined in {runs} runs, {places:,} books compared; from joining to the first LIVE"
        f" book p50 {took[len(took) // 2] * 1e3:.0f} ms, at most {took[-1] * 1e3:.0f} ms"
    )


def _join(stage: Stage, rng: random.Random, most: int, took: list[float]) -> tuple[int, int]:
    """Let consumers join while data pass, and once more when they are over; compare what they
    called LIVE.
    """
    waiting: list[tuple[Watch, float, list[float]]] = []
    done: list[Watch] = []
    due = time.monotonic()
    while len(done) + len(waiting) < most or waiting:
        if len(waiting) < AT_ONCE and len(done) + len(waiting) < most and time.monotonic() >= due:
            waiting.append((stage.consumer(stage.near), time.monotonic(), []))
            due = time.monotonic() + rng.uniform(0.0, 0.15)
        stage.step(*(watch for watch, _, _ in waiting))
        for item in tuple(waiting):
            watch, start, first = item
            if watch.sums and not first:
                first.append(time.monotonic() - start)
            standing = stage.witness.standing()
            if first and (
                len(watch.sums) >= ENOUGH * len(standing) or watch.standing() == standing
            ):
                took.extend(first)
                done.append(watch)
                waiting.remove(item)
            assert time.monotonic() - start < 60.0, "a joiner has no book"
    stage.over()
    places = 0
    for watch in done:
        assert watch.sums
        stage.witness.step(0.01)
        assert not [
            place
            for place, sums in watch.sums.items()
            if not sums <= stage.witness.all_sums.get(place, set())
        ]
        places += len(watch.sums)
        watch.close()
    return len(done), places


PRICES: list[tuple[str, dict[str, object], bool]] = [
    ("one line, nothing else", {"recovery.enabled": "false", "consumer.recovery": "false"}, False),
    ("recovery", {}, False),
    ("recovery, two lines", {}, True),
    (
        "authentication",
        {"recovery.enabled": "false", "consumer.recovery": "false", "network.authentication": "on"},
        False,
    ),
    ("recovery, authentication", {"network.authentication": "on"}, False),
    ("recovery, authentication, two lines", {"network.authentication": "on"}, True),
]
"""What is on; the settings; whether there are two lines."""


def price(
    folder: Path, settings: Mapping[str, object], two_lines: bool, speed: str
) -> dict[str, float]:
    """Play a recording through a feeder to a consumer; return packets a second, and the
    latencies of both halves in us.
    """
    net = Net()
    venue = BTC.partition("/")[0]
    second = f"238.{net.prefix.split('.')[1]}.{net.prefix.split('.')[2]}" if two_lines else ""
    everything = {**net.settings, "network.line_b_prefix": second, **settings}
    words = ("up", "--replay", captures() / BTC, "--speed", speed, "--until-end", "--json")
    # It joins and reads afterwards: what the kernel stamped tells how fast packets came, without
    # a reader beside the feeder.
    receiver = Receiver([(f"{net.prefix}.{VENUES[venue]}", net.port)])
    with tapecast(
        folder, *words, settings=everything, environ={f"TAPECAST_KEY_{venue.upper()}": KEY}
    ) as run:
        assert run.wait(180.0) == 0, run.stderr()
        report = json.loads(run.stdout().splitlines()[-1])
    assert (report["lost"], report["send_dropped"]) == (0, 0), report
    arrivals: list[int] = []
    while count := receiver.receive():
        spans = receiver.spans[:count]
        market = np.isin(receiver.buffer[spans["offset"].astype(np.int64) + 3], _MARKET)
        arrivals += spans["kernel_ts_ns"][market].tolist()
    receiver.close()
    feeder, wire = report["latency_us"]["feeder"], report["latency_us"]["wire"]
    return {
        "packets": report["packets_sent"],
        "per_s": len(arrivals) / ((max(arrivals) - min(arrivals)) / 1e9),
        "feeder_p50": feeder["p50"],
        "feeder_p99": feeder["p99"],
        "wire_p50": wire["p50"],
        "wire_p99": wire["p99"],
    }
