"""What a shell counts of one venue connection, over all its reconnects: read by reports, metrics
and health; decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConnectionStats"]


@dataclass(slots=True)
class ConnectionStats:
    """One connection of a feeder, open or not."""

    connection: str
    connects: int = 0
    """Times that it was opened."""
    opened_ns: int = 0
    """Monotonic time at which it was opened; 0 while it is not."""
    messages: int = 0
    """Messages received."""

    def opened(self, now_ns: int) -> None:
        """Note that it is open."""
        self.connects += 1
        self.opened_ns = now_ns

    def lost(self) -> None:
        """Note that it is not open any more."""
        self.opened_ns = 0
