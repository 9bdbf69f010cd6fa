"""A clock that stands still until a test moves it."""

from __future__ import annotations

__all__ = ["ManualClock"]


class ManualClock:
    """Satisfies `runtime.clock.Clock`; `advance` moves both clocks, `step` the realtime clock
    alone.
    """

    def __init__(
        self, realtime_ns: int = 1_723_161_255_000_000_000, monotonic_ns: int = 1_000_000_000
    ) -> None:
        """Start at 2024-08-08 23:54:15 UTC, when several of the recordings begin."""
        self._realtime_ns = realtime_ns
        self._monotonic_ns = monotonic_ns

    def monotonic_ns(self) -> int:
        """Return the monotonic time in ns."""
        return self._monotonic_ns

    def realtime_ns(self) -> int:
        """Return the realtime in UTC ns."""
        return self._realtime_ns

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks."""
        self._monotonic_ns += round(seconds * 1_000_000_000)
        self._realtime_ns += round(seconds * 1_000_000_000)

    def step(self, seconds: float) -> None:
        """Set the realtime clock forward or back, as an operator or a time daemon does."""
        self._realtime_ns += round(seconds * 1_000_000_000)
