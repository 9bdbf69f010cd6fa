"""The life of an access token: when it is used, renewed, given up, and how long to wait after a
refusal.

Sans-I/O: `feeder.login.client` brings answers, what other processes of the host stored, and the
time (UTC ns: terms are compared across processes). A venue may block whoever asks too often, so
a token that is not accepted is renewed at once only the first time; from then on, and after
every failure, the pauses grow, and they are stored with the token for all processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from tapecast.protocol.units import NS_PER_S

__all__ = ["Decision", "Fetch", "TokenMachine", "TokenPolicy", "TokenState", "Use", "Wait"]

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """Terms and pauses."""

    margin_ns: int
    """A token is renewed this long before it ends."""
    renew_at_s: tuple[int, ...] = ()
    """Seconds of the UTC day at which every token of before is renewed."""
    pause_first_ns: int = 5 * NS_PER_S
    """After a failure (no answer, an error of the server)."""
    refused_first_ns: int = 60 * NS_PER_S
    """After a refusal of the keys, or of a token that was just renewed."""
    pause_cap_ns: int = 1800 * NS_PER_S


class TokenState(msgspec.Struct):
    """What is known of the token and stored for other processes; 0 and "" = none."""

    token: str = ""
    issued_ns: int = 0
    expires_ns: int = 0
    not_before_ns: int = 0
    """No request before this time."""

    def __repr__(self) -> str:
        """Leave the token out."""
        return f"TokenState(token={'***' if self.token else ''}, expires_ns={self.expires_ns})"


@dataclass(frozen=True, slots=True, repr=False)
class Use:
    """Here it is."""

    token: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the venue now."""


@dataclass(frozen=True, slots=True)
class Wait:
    """There is none, and the venue may not be asked before `until_ns`."""

    until_ns: int


Decision: TypeAlias = Use | Fetch | Wait


class TokenMachine:
    """Decides about one venue's token."""

    def __init__(self, policy: TokenPolicy) -> None:
        self.state = TokenState()
        self._policy = policy
        self._rejected = ""
        self._failures = 0
        self._rejections = 0

    def load(self, stored: TokenState, now_ns: int) -> None:
        """Take over what another process stored; a token that was not accepted here is not taken
        again.
        """
        newer = not self.state.token or stored.issued_ns > self.state.issued_ns
        if stored.token and stored.token != self._rejected and newer:
            self.state.token, self.state.issued_ns, self.state.expires_ns = (
                stored.token,
                stored.issued_ns,
                stored.expires_ns,
            )
        latest = (
            now_ns + self._policy.pause_cap_ns
        )  # a clock that was set back must not stop the feed for long
        self.state.not_before_ns = min(max(self.state.not_before_ns, stored.not_before_ns), latest)

    def decide(self, now_ns: int) -> Decision:
        """Return what to do for a connection that needs the token now."""
        state = self.state
        usable = bool(state.token) and now_ns < state.expires_ns
        if usable and now_ns < self._due_ns():
            return Use(state.token)
        if now_ns >= state.not_before_ns:
            return Fetch()
        return Use(state.token) if usable else Wait(state.not_before_ns)

    def outdated(self, token: str, now_ns: int) -> bool:
        """Whether a token in use is not the one that would be used now; not while the venue may
        not be asked for another.
        """
        return now_ns >= self.state.not_before_ns and self.decide(now_ns) != Use(token)

    def issued(self, token: str, expires_in_s: int, now_ns: int) -> None:
        """Take a new token."""
        state = self.state
        state.token, state.issued_ns, state.expires_ns = (
            token,
            now_ns,
            now_ns + expires_in_s * NS_PER_S,
        )
        self._failures = 0

    def failed(self, now_ns: int, *, refused: bool) -> None:
        """Note that the venue did not give one; `refused`: it does not accept the keys."""
        self._failures += 1
        first_ns = self._policy.refused_first_ns if refused else self._policy.pause_first_ns
        self._pause(first_ns, self._failures, now_ns)

    def rejected(self, token: str, now_ns: int) -> None:
        """Note that the venue does not accept a token: it is renewed at once, a second one in a
        row after a pause.
        """
        self._rejected = token
        if token != self.state.token:
            return
        self.state.token = ""
        self._rejections += 1
        if self._rejections > 1:
            self._pause(self._policy.refused_first_ns, self._rejections - 1, now_ns)

    def accepted(self, token: str) -> None:
        """Note that data came under a token."""
        if token == self.state.token:
            self._rejections = 0

    def _due_ns(self) -> int:
        """Return when the token is to be renewed."""
        state = self.state
        # A term shorter than the margin would be renewed at every use.
        margin_ns = min(self._policy.margin_ns, (state.expires_ns - state.issued_ns) // 2)
        issued_s = state.issued_ns // NS_PER_S
        midnight_s = issued_s - issued_s % _DAY_S
        daily_s = [midnight_s + day + at for at in self._policy.renew_at_s for day in (0, _DAY_S)]
        later = [moment * NS_PER_S for moment in daily_s if moment * NS_PER_S > state.issued_ns]
        return min([state.expires_ns - margin_ns, *later])

    def _pause(self, first_ns: int, times: int, now_ns: int) -> None:
        pause_ns = min(first_ns << min(times - 1, 30), self._policy.pause_cap_ns)
        self.state.not_before_ns = max(self.state.not_before_ns, now_ns + pause_ns)
