"""When to connect again: exponential backoff with jitter, and a circuit that pauses a storm
(`reliability` rules).

Sans-I/O: the time and a random fraction are arguments. One `Backoff` per venue connection.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tapecast.protocol.units import NS_PER_S

__all__ = ["Backoff", "BackoffPolicy"]


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """Limits of reconnecting, in seconds except where named otherwise."""

    base_s: float = 0.5
    factor: float = 1.7
    cap_s: float = 30.0
    reset_after_s: float = 60.0
    """This long with data, and the next loss starts from `base_s` again."""
    circuit_connects: int = 10
    circuit_window_s: float = 300.0
    circuit_pause_s: float = 60.0


class Backoff:
    """The reconnect clock of one connection."""

    __slots__ = ("_connects", "_policy", "_tries", "_up_since")

    def __init__(self, policy: BackoffPolicy) -> None:
        self._policy = policy
        self._tries = 0
        self._connects: deque[int] = deque()
        self._up_since: int | None = None

    def connecting(self, now_ns: int) -> None:
        """Note an attempt to connect."""
        self._connects.append(now_ns)

    def data(self, now_ns: int) -> None:
        """Note that market data arrived."""
        if self._up_since is None:
            self._up_since = now_ns
        elif self._tries and now_ns - self._up_since >= self._policy.reset_after_s * NS_PER_S:
            self._tries = 0

    def lost(self, now_ns: int, fraction: float) -> tuple[float, bool]:
        """Return the seconds to wait before the next attempt, and whether the circuit opened;
        `fraction` is random in 0..1.
        """
        policy = self._policy
        if (
            self._up_since is not None
            and now_ns - self._up_since >= policy.reset_after_s * NS_PER_S
        ):
            self._tries = 0
        self._up_since = None
        while self._connects and now_ns - self._connects[0] > policy.circuit_window_s * NS_PER_S:
            self._connects.popleft()
        delay = min(policy.cap_s, policy.base_s * policy.factor**self._tries) * (0.5 + fraction / 2)
        self._tries = min(self._tries + 1, 64)
        if len(self._connects) > policy.circuit_connects:
            return max(delay, policy.circuit_pause_s), True
        return delay, False
