"""When a channel's repeated packets are due: heartbeats, definitions and snapshots in a cycle, and
whatever its owner does once a second.

Sans-I/O: times are arguments, monotonic nanoseconds. Whoever owns the channel asks about 40 times
a second and acts; how often each thing comes is a `SchedulePolicy`, which the owner fills from
its settings.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapecast.protocol.units import NS_PER_S

__all__ = ["Cycle", "Schedule", "SchedulePolicy"]


@dataclass(frozen=True, slots=True)
class SchedulePolicy:
    """How often a channel repeats itself."""

    heartbeat_idle_ms: int
    """Heartbeat after this much silence of the channel."""
    heartbeat_max_ms: int
    """Heartbeat at least this often; each heartbeat names it as `interval_ms`."""
    definition_cycle_s: float
    """Every definition goes out once in this time; 0 = never."""
    snapshot_cycle_s: float
    """Every book or last state goes out once in this time; 0 = never."""


class Cycle:
    """Spreads a repeated task over a period: `due` returns which of `count` steps to do now."""

    __slots__ = ("_done", "_period_ns", "_start_ns")

    def __init__(self, period_s: float, now_ns: int) -> None:
        self._period_ns = int(period_s * NS_PER_S)
        self._start_ns = now_ns
        self._done = 0

    def due(self, count: int, now_ns: int) -> range:
        """Return the indices (0 to count - 1) to handle now; each comes once a period. Period 0:
        never.
        """
        if self._period_ns <= 0 or count == 0:
            return range(0)
        elapsed = now_ns - self._start_ns
        if elapsed >= self._period_ns:
            first, self._done = self._done, 0
            self._start_ns = now_ns
            return range(first, count)
        first = self._done
        self._done = max(first, min(count, count * elapsed // self._period_ns))
        return range(first, self._done)


class Schedule:
    """What is due when. A question about a heartbeat, a cycle or the second answers yes once: the
    caller acts on it at once.
    """

    def __init__(self, policy: SchedulePolicy, now_ns: int) -> None:
        self.definitions = Cycle(policy.definition_cycle_s, now_ns)
        self.snapshots = Cycle(policy.snapshot_cycle_s, now_ns)
        self._idle_ns = policy.heartbeat_idle_ms * 1_000_000
        self._most_ns = policy.heartbeat_max_ms * 1_000_000
        self._packets = -1
        self._sent_ns = now_ns
        self._beat_ns = 0
        self._second_ns = now_ns

    def heartbeat_due(self, packets: int, now_ns: int) -> bool:
        """Whether to send a heartbeat: after a silence of the channel, and at least once a
        `heartbeat_max_ms`; `packets` were sent so far.
        """
        if packets != self._packets:
            self._packets, self._sent_ns = packets, now_ns
        since = now_ns - self._beat_ns
        due = since >= self._most_ns or (
            now_ns - self._sent_ns >= self._idle_ns and since >= self._idle_ns
        )
        if due:
            self._beat_ns = now_ns
        return due

    def second_due(self, now_ns: int) -> bool:
        """Whether a second has passed since this was last true."""
        if now_ns - self._second_ns < NS_PER_S:
            return False
        self._second_ns = now_ns
        return True
