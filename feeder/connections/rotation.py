"""When a connection is to be replaced before it ends: by its age, by the venue's notice, by the
operator's choice.

Sans-I/O: times and random fractions are arguments; one `Rotation` per connection. How it is
replaced is `feeder.session.handover`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapecast.protocol.units import NS_PER_S

__all__ = ["Rotation", "RotationPolicy"]


@dataclass(frozen=True, slots=True)
class RotationPolicy:
    """Ages in seconds."""

    max_age_s: float
    """The venue ends a connection of this age; 0 = never."""
    share: float
    """It is replaced at this share of that age at the latest, and up to `spread` of it earlier:
    connections of one start must not all be replaced at once.
    """
    spread: float
    every_s: float
    """Replaced at this age whatever the venue says; 0 = only where the venue ends connections.
    """
    retry_s: float = 60.0


class Rotation:
    """The replacement clock of one connection."""

    __slots__ = ("_due_ns", "_policy", "_reason")

    def __init__(self, policy: RotationPolicy) -> None:
        self._policy = policy
        self._due_ns: int | None = None
        self._reason = ""

    def opened(self, now_ns: int, fraction: float) -> None:
        """Note that a connection was opened; `fraction` is random in 0..1."""
        policy = self._policy
        ages = [policy.max_age_s * policy.share] if policy.max_age_s else []
        if policy.every_s:
            ages.append(policy.every_s)
        age_s = min(ages, default=0.0) * (1.0 - policy.spread * fraction)
        self._due_ns = now_ns + int(age_s * NS_PER_S) if age_s else None
        self._reason = "age"

    def demand(self, reason: str, now_ns: int, wait_s: float) -> None:
        """Note that the connection is to be replaced `wait_s` from now, unless that is due
        earlier anyway.
        """
        due_ns = now_ns + int(wait_s * NS_PER_S)
        if self._due_ns is None or due_ns < self._due_ns:
            self._due_ns, self._reason = due_ns, reason

    def due(self, now_ns: int) -> str:
        """Return why it is to be replaced now; empty: it is not. Told once, `failed` asks again."""
        if self._due_ns is None or now_ns < self._due_ns:
            return ""
        self._due_ns = None
        return self._reason

    def failed(self, now_ns: int, fraction: float) -> None:
        """Note that a replacement did not succeed: the next is tried after a while."""
        self._due_ns = now_ns + int(self._policy.retry_s * (0.5 + fraction / 2) * NS_PER_S)
