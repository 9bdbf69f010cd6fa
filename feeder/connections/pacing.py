"""How fast one connection may send: the venue's messages a window, and its second, longer window
where it has one.

Sans-I/O: the time is an argument. One `Pace` per socket; requests wait for `wait_ns`, pings and
answers go at once and count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from tapecast.protocol.units import NS_PER_S

__all__ = ["Pace"]


class Pace:
    """What was sent on a connection, as far back as a limit looks."""

    __slots__ = ("_longest_ns", "_sent", "_windows")

    def __init__(self, limits: Mapping[str, int | float]) -> None:
        """Read `messages` and `messages_long` of a venue's limits. One of each is kept for
        pongs, which the transport sends.
        """
        windows = []
        for name in ("messages", "messages_long"):
            count = int(limits.get(name, 0))
            if count:
                windows.append(
                    (max(1, count - 1), int(limits.get(f"{name}_window_s", 1) * NS_PER_S))
                )
        self._windows = tuple(windows)
        self._longest_ns = max((window_ns for _, window_ns in windows), default=0)
        self._sent: deque[int] = deque()

    def wait_ns(self, now_ns: int) -> int:
        """Return how long the next request has to wait; 0 = it may go."""
        while self._sent and now_ns - self._sent[0] >= self._longest_ns:
            self._sent.popleft()
        wait_ns = 0
        for count, window_ns in self._windows:
            if len(self._sent) >= count:
                wait_ns = max(wait_ns, self._sent[-count] + window_ns - now_ns)
        return wait_ns

    def sent(self, now_ns: int) -> None:
        """Note that a message went out."""
        if self._windows:
            self._sent.append(now_ns)
