"""What beats: when a heartbeat, a repeated definition, a cycle snapshot or the look of each
second is due.

Sans-I/O: times are arguments. The feeder's tick (`feeder.live`) asks and acts.
"""

from __future__ import annotations

from tapecast.protocol.publish.publisher import Cycle
from tapecast.runtime.settings import Feeder

__all__ = ["Schedule"]


class Schedule:
    """What is due when, on the monotonic clock."""

    def __init__(self, feeder: Feeder, now_ns: int) -> None:
        self.definitions = Cycle(feeder.definition_cycle_s, now_ns)
        self.snapshots = Cycle(feeder.snapshot_cycle_s, now_ns)
        self._idle_ns = feeder.heartbeat_idle_ms * 1_000_000
        self._most_ns = feeder.heartbeat_max_ms * 1_000_000
        self._packets = -1
        self._sent_ns = now_ns
        self._beat_ns = 0
        self._second_ns = now_ns

    def heartbeat_due(self, packets: int, now_ns: int) -> bool:
        """Whether to beat: after a silence of the channel, and at least once a
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
        """Whether a second has passed."""
        if now_ns - self._second_ns < 1_000_000_000:
            return False
        self._second_ns = now_ns
        return True
