"""The whole set-up on one host, for a row of the reliability table: a replayed venue, its
feeder, a lossy way, and its consumers.

    replay server → feeder → lines A and B ─────────────→ witness, which loses nothing
                       ↑          └→ relay (tests.support.relay) → subject
                       └─ TCP recovery, through the relay where the row damages it

The witness and the subject are stepped in this process; further consumers are processes
(tests.support.watch). What a subject's book must be is what the witness's was at the same
number.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from tapecast.protocol.schema import VENUES
from tapecast.runtime import config as configuration
from tapecast.runtime.settings import Config
from tests.support.captures import captures
from tests.support.processes import Child, Net, children, tapecast, until
from tests.support.watch import Watch, load_sums, watching, wrong

__all__ = ["BTC", "KEY", "SPOT", "Stage"]

BTC = "binance/hft_20240808_spot_btcusdt.jsonl"
"""12,000 messages of one instrument in 110 s."""
SPOT = "binance/cf_20210404_spot_btc_eth_dot.jsonl"
"""2,300 messages of three instruments in 45 s."""
KEY = bytes(range(32)).hex()
QUICK: dict[str, object] = {
    "feeder.heartbeat_idle_ms": 100,
    "feeder.heartbeat_max_ms": 200,
    "feeder.backoff.base_s": 0.1,
    "feeder.backoff.cap_s": 2.0,
    "feeder.circuit.pause_s": 2.0,
    "feeder.definition_cycle_s": 1.0,
    "feeder.snapshot_cycle_s": 0,
    "feeder.session_end_s": 0.2,
}
"""Heartbeats as a busy channel has them, and no cycle of snapshots: what is lost has to be
recovered.

A venue that is killed again and again is not left alone for long: the supervisor's pauses, which
grow, are enough to wait for.
"""
_QUIET_S = 1.5


class Stage:
    """A context manager; everything it started is ended whatever happens."""

    def __init__(
        self,
        folder: Path,
        recording: str = BTC,
        *,
        speed: str = "10",
        ways: tuple[Mapping[str, float], ...] = ({}, {}),
        wire: Mapping[str, float] | None = None,
        settings: Mapping[str, object] | None = None,
        keys: bool = False,
        seed: int = 1,
        patience_ms: int = 200,
    ) -> None:
        """`ways`: the faults of each line; `wire`: those of the recovery connection; `settings`
        of the feeder.

        `patience_ms`: how long the subject waits for what it lost.
        """
        self._patience_ms = patience_ms
        self.folder, self.recording, self.speed, self.keys = folder, recording, speed, keys
        self.venue = recording.partition("/")[0]
        self.net = Net()
        part = self.net.prefix.rpartition(".")[2]
        block = 100 + os.getpid() % 50
        prefixes = [
            [self.net.prefix, f"239.{block}.{part}"],
            [f"238.{block}.{part}", f"237.{block}.{part}"],
        ]
        self.near, self.far = (
            {**self.net.settings, **self._lines(two, len(ways))} for two in prefixes
        )
        if keys:
            for side in (self.near, self.far):
                side["network.authentication"] = "on"
        self.settings = {**QUICK, **self.near, **(settings or {})}
        self.environ = {f"TAPECAST_KEY_{self.venue.upper()}": KEY} if keys else {}
        os.environ.update(self.environ)
        number = VENUES[self.venue]
        self.plan: dict[str, Any] = {
            "seed": seed,
            "lines": [
                {
                    "from": [f"{a}.{number}", self.net.port],
                    "to": [f"{b}.{number}", self.net.port],
                    "way": dict(way),
                }
                for a, b, way in zip(*prefixes, ways, strict=False)
            ],
        }
        if wire is not None:
            self.plan["tcp"] = {
                "listen": 0,
                "to": ["127.0.0.1", 0],
                "wire": dict(wire),
                "key": KEY if keys else None,
            }
        self._stack = ExitStack()
        self._data, self._changed_s = 0, 0.0

    @staticmethod
    def _lines(prefixes: list[str], count: int) -> dict[str, object]:
        monitor = {
            "network.group_prefix": prefixes[0],
            "network.monitor_group": f"{prefixes[0]}.250",
        }
        return {**monitor, "network.line_b_prefix": prefixes[1] if count > 1 else ""}

    def __enter__(self) -> Stage:
        """Start the relay, the consumers, and then the feeder."""
        self._write_plan()
        path = str(self.folder / "plan.json")
        self.relay = self.start(
            Child([sys.executable, "-m", "tests.support.relay", path], self.folder, "relay", {})
        )
        self.relay.expect("ready")
        self.witness = self.consumer(self.near)
        self.subject = self.consumer(self.far, consumer__repair_ms=self._patience_ms)
        words = (
            "up",
            "--replay",
            captures() / self.recording,
            "--speed",
            self.speed,
            "--no-monitor",
        )
        self.up = self.start(
            tapecast(self.folder, *words, settings=self.settings, environ=self.environ)
        )
        self._changed_s = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything."""
        self._stack.close()
        for name in self.environ:
            os.environ.pop(name, None)

    def start(self, child: Child) -> Child:
        """Look after a process."""
        return self._stack.enter_context(child)

    def config(self, side: Mapping[str, object], **further: object) -> Config:
        """Return the configuration of a consumer on one side of the relay."""
        return configuration.load(
            {**side, **{key.replace("__", "."): value for key, value in further.items()}},
            environ={},
        )

    def consumer(self, side: Mapping[str, object], **further: object) -> Watch:
        """Return a consumer that is stepped with the others."""
        watch = Watch(self.venue, self.config(side, **further))
        self._stack.callback(watch.close)
        return watch

    def watcher(self, name: str, side: Mapping[str, object]) -> Child:
        """Return a consumer in a process of its own."""
        return self.start(watching(self.folder, self.venue, side, name, environ=self.environ))

    def faults(
        self, ways: tuple[Mapping[str, float], ...], wire: Mapping[str, float] | None = None
    ) -> None:
        """Change what goes wrong on the way."""
        for line, way in zip(self.plan["lines"], ways, strict=True):
            line["way"] = dict(way)
        if "tcp" in self.plan:
            self.plan["tcp"]["wire"] = dict(wire or {})
        self._write_plan()
        before = len(self.relay.lines("reloaded"))
        self.relay.send(signal.SIGHUP)
        until(lambda: len(self.relay.lines("reloaded")) > before, what="the relay to reload")

    def _write_plan(self) -> None:
        (self.folder / "plan.json").write_text(json.dumps(self.plan))

    def step(self, *others: Watch) -> None:
        """Let every consumer of this process go on."""
        for watch in (self.witness, self.subject, *others):
            watch.step(0.003)
        if self.witness.data != self._data:
            self._data, self._changed_s = self.witness.data, time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the witness last had something new."""
        return time.monotonic() - self._changed_s

    def until(
        self,
        condition: Callable[[], object],
        *others: Watch,
        within_s: float = 40.0,
        what: str = "",
    ) -> None:
        """Step until a condition holds."""

        def look() -> object:
            self.step(*others)
            assert self.up.running, self.up.stderr()[-2000:]
            return condition()

        until(look, within_s=within_s, what=what)

    def live(self, count: int = 1, within_s: float = 40.0) -> None:
        """Step until both consumers have so many books LIVE."""
        both = (self.witness, self.subject)
        self.until(
            lambda: all(watch.live() >= count for watch in both),
            within_s=within_s,
            what=f"{count} books",
        )

    def more(self, count: int) -> None:
        """Step until the witness has so many more events."""
        wanted = self.witness.data + count
        self.until(lambda: self.witness.data >= wanted, what=f"{count} more events")

    def over(self) -> None:
        """Step until the recording is over: nothing new for a while."""
        self.until(
            lambda: self._data and self.idle_s > _QUIET_S,
            within_s=300.0,
            what="the end of the recording",
        )

    def feeder(self) -> int:
        """Return the feeder's process id; 0 while there is none."""
        return self._child("feed ")

    def server(self) -> int:
        """Return the replay server's process id; 0 while there is none."""
        return self._child("replay --json")

    def _child(self, words: str) -> int:
        return next((pid for pid, line in children(self.up.pid).items() if words in line), 0)

    def same_books(self, *others: Watch) -> None:
        """Step until the consumers' books are LIVE and equal to the witness's; what they called
        LIVE before was right.
        """
        watches = (self.subject, *others)

        def equal() -> bool:
            standing = self.witness.standing()
            return bool(standing) and all(watch.standing() == standing for watch in watches)

        self.until(equal, *others, within_s=30.0, what="equal books")
        for watch in watches:
            assert wrong(watch.sums, self.witness.all_sums) == [], self.witness.states

    def recovered(self, child: Child) -> dict[str, Any]:
        """Step until the books of a consumer that is a process stand where the witness's do, and
        return its state.
        """

        def equal() -> bool:
            standing = {name: list(place) for name, place in self.witness.standing().items()}
            return bool(standing) and child.lines("state")[-1]["standing"] == standing

        self.until(equal, what=f"equal books of {child.out.stem}")
        return child.lines("state")[-1]

    def same_sums(self, child: Child) -> int:
        """End a consumer that was a process; its books were right wherever it called them LIVE.
        Return in how many places.
        """
        sums = load_sums(child)
        for _ in range(20):
            self.step()
        assert wrong(sums, self.witness.all_sums) == [], self.witness.states
        return len(sums)

    def passed(self) -> dict[str, Any]:
        """End the relay and return what it did."""
        self.relay.end()
        return self.relay.lines("counts")[-1]
