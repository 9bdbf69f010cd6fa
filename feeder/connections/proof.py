"""What shows that subscriptions work: first data of every topic, and data again and again;
acknowledgements and pongs are none.

Sans-I/O, one `Watch` per connection, looked at about once a second. What has come is read from
the publisher's counters (one row an instrument, one column a message type), so a message costs
nothing here. What is wrong comes out as findings; the shell acts.

Channels differ: books and quotes of a working subscription speak, trades of a quiet symbol may
be silent for hours. A class with an idle limit is expected to speak; one without is judged only
where it is all that a connection carries.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tapecast.feeder.venues.spec import Topic
from tapecast.protocol.schema import MsgType
from tapecast.protocol.stamping import COLUMN_OF
from tapecast.protocol.units import NS_PER_S

__all__ = ["Finding", "FindingKind", "ProofPolicy", "Watch", "Watched"]

_MOST_STRIKES = 3


@dataclass(frozen=True, slots=True)
class ProofPolicy:
    """Limits in seconds, by the message type that a channel carries; 0 or absent = none."""

    first_data_s: Mapping[MsgType, float]
    idle_s: Mapping[MsgType, float]
    connection_idle_s: float
    """A connection on which nothing at all came for so long is made anew."""
    quiet_idle_s: float
    """The same for a connection without any class that is expected to speak."""


class Watched(NamedTuple):
    """A topic, and where its events are counted."""

    topic: Topic
    row: int
    carries: MsgType


class FindingKind(Enum):
    """What is wrong."""

    UNPROVEN = auto()
    """Of a whole class: the subscription was swallowed; another connection, or another URL."""
    IDLE = auto()
    """Of a whole class, or of the connection: another connection."""
    SILENT = auto()
    """One topic, while others of its class speak: told once, subscribed again once."""
    HAS_DATA = auto()
    """One that was told to be silent."""


class Finding(NamedTuple):
    """One thing that is wrong; `topics` are those concerned."""

    kind: FindingKind
    text: str
    topics: tuple[Topic, ...]

    @property
    def ends(self) -> bool:
        """Whether the connection is to be made anew."""
        return self.kind is FindingKind.UNPROVEN or self.kind is FindingKind.IDLE


class Watch:
    """The topics of one connection since it was opened.

    `strikes` counts connections in a row that ended by a finding: each doubles the limits, up to
    eight times, because symbols may be quieter than the limits suppose, and a new connection
    does not make them louder.
    """

    def __init__(
        self,
        watched: Sequence[Watched],
        policy: ProofPolicy,
        counters: npt.NDArray[np.uint32],
        now_ns: int,
        strikes: int = 0,
    ) -> None:
        self._watched = tuple(watched)
        self._policy = policy
        self._opened_ns = now_ns
        self._patience = 1 << min(strikes, _MOST_STRIKES)
        self._rows = np.array([one.row for one in watched], np.intp)
        self._columns = np.array([COLUMN_OF[one.carries] for one in watched], np.intp)
        self._counts = counters[self._rows, self._columns]
        self._last_ns = np.zeros(len(watched), np.int64)
        self._classes = {
            carries: np.array([one.carries is carries for one in watched], np.bool_)
            for carries in dict.fromkeys(one.carries for one in watched)
        }
        self._judged: set[MsgType] = set()
        self._silent: dict[Topic, int] = {}
        """Topics that were told to be silent, with their position."""
        with_data = any(policy.idle_s.get(carries, 0.0) > 0 for carries in self._classes)
        self._connection_s = (
            policy.connection_idle_s
            if with_data
            else max(policy.quiet_idle_s, policy.connection_idle_s)
        )

    @property
    def proved(self) -> int:
        """How many topics have brought data."""
        return int(np.count_nonzero(self._last_ns))

    @property
    def topics(self) -> int:
        """How many topics there are."""
        return len(self._watched)

    def look(
        self,
        counters: npt.NDArray[np.uint32],
        waiting: Container[int],
        last_data_ns: int,
        now_ns: int,
        *,
        trading: bool = True,
    ) -> list[Finding]:
        """Return what is wrong now; UNPROVEN and SILENT are told once a connection.

        `waiting` holds the instruments whose book updates wait for a snapshot: they came, although
        nothing was published. `last_data_ns` is when the connection brought any data, published
        or not. While the venue is not `trading`, no clock runs.
        """
        if not self._watched:
            return []
        self._note(counters, waiting, now_ns)
        if not trading:
            self._opened_ns = now_ns
            self._last_ns[self._last_ns > 0] = now_ns
            return []
        silent_ns = now_ns - max(last_data_ns, self._opened_ns)
        if silent_ns > self._connection_s * self._patience * NS_PER_S:
            return [
                self._ended(FindingKind.IDLE, f"no data for {silent_ns / NS_PER_S:.0f} s", None)
            ]
        with_data = tuple(
            topic for topic, position in self._silent.items() if self._last_ns[position]
        )
        for topic in with_data:
            del self._silent[topic]
        findings = (
            [Finding(FindingKind.HAS_DATA, f"{len(with_data)} topics have data now", with_data)]
            if with_data
            else []
        )
        for carries, members in self._classes.items():
            findings += self._of_class(carries, members, now_ns)
        return findings

    def _note(self, counters: npt.NDArray[np.uint32], waiting: Container[int], now_ns: int) -> None:
        counts = counters[self._rows, self._columns]
        self._last_ns[counts != self._counts] = now_ns
        self._counts = counts
        for position, one in enumerate(self._watched):
            if one.carries is MsgType.BOOK and one.row in waiting:
                self._last_ns[position] = now_ns

    def _of_class(
        self, carries: MsgType, members: npt.NDArray[np.bool_], now_ns: int
    ) -> list[Finding]:
        times = self._last_ns[members]
        name = carries.name.lower()
        idle_s = self._policy.idle_s.get(carries, 0.0) * self._patience
        last_ns = int(times.max())
        if last_ns and idle_s and now_ns - last_ns > idle_s * NS_PER_S:
            return [
                self._ended(
                    FindingKind.IDLE,
                    f"no {name} for {(now_ns - last_ns) / NS_PER_S:.0f} s",
                    carries,
                )
            ]
        first_s = self._policy.first_data_s.get(carries, 0.0) * self._patience
        waited_ns = now_ns - self._opened_ns
        if not first_s or carries in self._judged or waited_ns <= first_s * NS_PER_S:
            return []
        self._judged.add(carries)
        silent = {
            one.topic: position
            for position, one in enumerate(self._watched)
            if one.carries is carries and not self._last_ns[position]
        }
        if not silent:
            return []
        missing = tuple(silent)
        text = (
            f"no {name} on {len(missing)} of {int(members.sum())} topics for"
            f" {waited_ns / NS_PER_S:.0f} s"
        )
        expected = idle_s > 0 or len(self._classes) == 1
        if not last_ns and expected:
            return [Finding(FindingKind.UNPROVEN, text, missing)]
        self._silent.update(silent)
        return [Finding(FindingKind.SILENT, text, missing)]

    def _ended(self, kind: FindingKind, text: str, carries: MsgType | None) -> Finding:
        return Finding(
            kind,
            text,
            tuple(one.topic for one in self._watched if carries is None or one.carries is carries),
        )
