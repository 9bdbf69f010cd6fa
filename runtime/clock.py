"""Time as an argument: the two clocks that the shells read and pass on as `now_ns`.

Timers use the monotonic clock, stamps on the wire the realtime clock (UTC); neither stands in
for the other. The state machines (`feeder.session.session`, `feeder.session.sync`, …) never read
a clock: they are given the time. A clock that tests move by hand stands in
`tests/support/clock.py`.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["SYSTEM", "Clock", "SystemClock"]


class Clock(Protocol):
    """What a shell needs to know about time."""

    def monotonic_ns(self) -> int:
        """Return nanoseconds that never step back, from an arbitrary start: for timers and
        deadlines.
        """

    def realtime_ns(self) -> int:
        """Return UTC nanoseconds since 1970: for stamps; may step when the system clock is set."""


class SystemClock:
    """The kernel's clocks."""

    __slots__ = ()

    def monotonic_ns(self) -> int:
        """Return `CLOCK_MONOTONIC` in ns."""
        return time.monotonic_ns()

    def realtime_ns(self) -> int:
        """Return `CLOCK_REALTIME` in ns."""
        return time.time_ns()


SYSTEM = SystemClock()
