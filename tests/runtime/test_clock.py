"""`runtime.clock`, and the clock that tests move by hand."""

from __future__ import annotations

import time

from tapecast.runtime.clock import SYSTEM, Clock
from tests.support.clock import ManualClock


def test_the_system_clock_is_the_kernels() -> None:
    """Each reading lies between two readings of the same kernel clock."""
    before, now, after = time.monotonic_ns(), SYSTEM.monotonic_ns(), time.monotonic_ns()
    assert before <= now <= after
    assert abs(SYSTEM.realtime_ns() - time.time_ns()) < 10_000_000_000


def test_a_manual_clock_moves_only_when_told() -> None:
    """Time passes on both clocks; a step of the realtime clock leaves timers alone."""
    clock = ManualClock()
    seen: Clock = clock
    start = seen.monotonic_ns(), seen.realtime_ns()
    assert (seen.monotonic_ns(), seen.realtime_ns()) == start
    clock.advance(1.5)
    assert (seen.monotonic_ns() - start[0], seen.realtime_ns() - start[1]) == (
        1_500_000_000,
        1_500_000_000,
    )
    clock.step(-3600)
    assert seen.monotonic_ns() - start[0] == 1_500_000_000
    assert seen.realtime_ns() - start[1] == 1_500_000_000 - 3_600_000_000_000
