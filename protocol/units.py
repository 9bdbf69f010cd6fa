"""Units of the project: times are integers of nanoseconds, what people configure is in seconds.

Lowest of all rooms, so that each can use it; it holds no other constant than those that several
of them share.
"""

from __future__ import annotations

__all__ = ["NS_PER_S"]

NS_PER_S = 1_000_000_000
"""Nanoseconds of a second."""
