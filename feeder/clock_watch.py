"""Whether our realtime clock was set while the feeder ran: then the receive times before and
after it do not fit together.

Sans-I/O: the two clocks are arguments. A clock that is slewed (at most 0.05 %) never moves this
far between two looks; one that is set does, and so does that of a host that slept. Timers are
not concerned, they run on the monotonic clock.
"""

from __future__ import annotations

__all__ = ["ClockWatch"]

_STEP_NS = 250_000_000
_HOLD_NS = 60_000_000_000
"""So long after a step receive times are flagged."""


class ClockWatch:
    """Watches the distance of the clocks; call `look` often, at least once a minute."""

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._until_ns = 0
        self.steps = 0
        self.step_ns = 0
        """By how much the clock was set the last time."""

    def look(self, monotonic_ns: int, realtime_ns: int) -> bool:
        """Return whether receive times are to be flagged now."""
        offset_ns = realtime_ns - monotonic_ns
        if self._offset_ns is not None and abs(offset_ns - self._offset_ns) > _STEP_NS:
            self.steps += 1
            self.step_ns = offset_ns - self._offset_ns
            self._until_ns = monotonic_ns + _HOLD_NS
        self._offset_ns = offset_ns
        return monotonic_ns < self._until_ns
