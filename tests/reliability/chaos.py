"""Everything at once: random faults over the whole set-up, from a seed, for a given time; then
peace, and equality.

`python -m tests.reliability.chaos [SECONDS [SEED]]` runs half an hour, CI some seconds. What may
happen, about every two seconds: other ways on the lines (loss, bursts, disorder, copies,
damage), another wire for recovery (cut, damaged, stalled, delayed), a consumer stopped and
continued, the feeder killed, the venue killed (the replay begins anew). All packets carry tags,
since the damage is below every checksum. What a consumer calls LIVE is right all the time, for
one in this process and one in a process of its own; what was lost for good was told; at the end
all books are LIVE and equal.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tapecast import Gap
from tests.reliability.rows import row
from tests.reliability.stage import Stage
from tests.support.processes import Child
from tests.support.watch import wrong

__all__ = ["chaos"]

UPBIT = "upbit/cf_20210405_simple.jsonl"
PAUSE_S = 2.0
_SUPERVISOR_S = 150.0
"""The supervisor lets a process that keeps dying wait, up to a minute."""


class _Chaos:
    """One run's dice and what they did."""

    def __init__(self, stage: Stage, other: Child, seed: int) -> None:
        self.stage, self.other = stage, other
        self.rng = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.stopped_until = 0.0
        self.actions: list[tuple[Callable[[], None], int]] = [
            (self.ways, 8),
            (self.stop, 2),
            (self.kill_feeder, 1),
            (self.kill_venue, 1),
        ]

    def ways(self) -> None:
        """Let other things go wrong on the way."""
        rng = self.rng
        ways = tuple(
            {
                "loss": rng.choice([0.0, 0.01, 0.05, 0.2]),
                "burst": rng.choice([0.0, 0.0, 0.005]),
                "burst_length": rng.uniform(2, 50),
                "duplicate": rng.choice([0.0, 0.1]),
                "reorder": rng.choice([0.0, 0.2]),
                "delay_s": rng.uniform(0.001, 0.02),
                "corrupt": rng.choice([0.0, 0.02]),
                "truncate": rng.choice([0.0, 0.01]),
            }
            for _ in range(2)
        )
        wire = {
            "refuse": rng.choice([0.0, 0.2]),
            "cut": rng.choice([0.0, 0.1]),
            "corrupt": rng.choice([0.0, 0.05]),
            "stall": rng.choice([0.0, 0.03]),
            "delay_s": rng.choice([0.0, 0.02, 0.3]),
        }
        self.stage.faults(ways, wire)

    def stop(self) -> None:
        """Stop the other consumer for some seconds."""
        if not self.stopped_until:
            os.kill(self.other.pid, signal.SIGSTOP)
            self.stopped_until = time.monotonic() + self.rng.uniform(0.5, 4.0)

    def kill_feeder(self) -> None:
        """Kill the feeder; the supervisor starts it again."""
        _kill(self.stage.feeder())

    def kill_venue(self) -> None:
        """Kill the replay server; it comes back and plays from the beginning."""
        _kill(self.stage.server())

    def tick(self) -> None:
        """Do what is due at once."""
        if self.stopped_until and time.monotonic() >= self.stopped_until:
            self.go_on()

    def go_on(self) -> None:
        """Continue the stopped consumer."""
        self.stopped_until = 0.0
        os.kill(self.other.pid, signal.SIGCONT)

    def strike(self) -> None:
        """Let something happen."""
        names, weights = zip(*self.actions, strict=True)
        action = self.rng.choices(names, weights)[0]
        action()
        self.done[action.__name__] += 1


def _kill(pid: int) -> None:
    """Kill a process, unless it is being started again just now."""
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def chaos(folder: Path, seconds: float, seed: int) -> str:
    """Run, and return what happened."""
    with Stage(folder, UPBIT, speed="8", wire={}, keys=True, seed=seed) as stage:
        other = stage.watcher("other", {**stage.far, "network.rcvbuf_bytes": 262_144})
        stage.live(5)
        dice = _Chaos(stage, other, seed)
        until_s = time.monotonic() + seconds
        due = time.monotonic()
        while time.monotonic() < until_s:
            stage.step()
            dice.tick()
            if stage.idle_s > 3.0:
                dice.kill_venue()
                stage.until(
                    lambda: stage.idle_s < 1.0,
                    within_s=_SUPERVISOR_S,
                    what="the replay to begin anew",
                )
            if time.monotonic() >= due:
                due = time.monotonic() + dice.rng.uniform(0.5, 1.5) * PAUSE_S
                dice.strike()
        if dice.stopped_until:
            dice.go_on()
        stage.faults(({}, {}), {})
        dice.kill_venue()
        stage.live(5, _SUPERVISOR_S)
        stage.over()
        stage.same_books()
        stage.recovered(other)
        assert stage.witness.feed.stats.kernel_drops == 0
        stats, places = stage.subject.feed.stats, stage.same_sums(other)
        assert wrong(stage.subject.sums, stage.witness.all_sums) == [], stage.witness.states
        told = sum(
            one.missing
            for one in stage.subject.told
            if isinstance(one, Gap) and one.reason == "loss"
        )
        assert told == stats.lost
        what = ", ".join(
            f"{count} × {name.replace('_', ' ')}" for name, count in sorted(dice.done.items())
        )
        passed = stage.passed()
        packets = sum(line["taken"] for line in passed["lines"])
        mended = (
            f"{packets:,} packets, {stats.repaired:,} repaired, {stats.lost:,} given up and told"
        )
        return (
            f"seed {seed}, {seconds:.0f} s: {what}; {mended}; {len(stage.subject.sums) + places:,}"
            " books compared, none wrong"
        )


@row(
    "Chaos: random faults over the whole set-up, from a seed",
    "what is LIVE is right all the time; all books equal at the end",
)
def chaos_row(folder: Path, short: bool) -> str:
    """The short form of `python -m tests.reliability.chaos`."""
    return chaos(folder, 12.0 if short else 120.0, 2026)


def main() -> None:
    """Run for the time and the seed of the command line: half an hour and a seed from the clock
    without.
    """
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1800.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    sys.stderr.write(
        f"seed {seed}: python -m tests.reliability.chaos {seconds:g} {seed} repeats its faults\n"
    )
    with tempfile.TemporaryDirectory(prefix="tapecast-chaos-") as folder:
        print(chaos(Path(folder), seconds, seed))


if __name__ == "__main__":
    main()
