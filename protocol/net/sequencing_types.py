"""What sequencing reports: the events of a channel, deliveries, and what each line brought.

Plain types, shared by the machine (`protocol.net.sequencing`), those who read its results, and
its oracle (`protocol.net.sequencing_reference`). The rules are the oracle's.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgspec

__all__ = ["Delivery", "EventKind", "LineStats", "SequencingEvent", "Source"]

Source = tuple[str, int]
"""Address and port of a sender."""


class EventKind(IntEnum):
    """What happened to a channel.

    JOINED: `first` is the first packet's number. NEW_SESSION: numbering goes on at `first`;
    `count` is the old session. GAP: `count` packets from `first` on are missing. JUMP: the same,
    but too many to ask for. SESSION_END: the publisher stopped before `first`. OTHER_SOURCE: an
    alarm, at most one a second: a sender that is not the channel's sent number `first`. REPAIR:
    `count` numbers from `first` on, of which most are missing, are to be asked for at `source`.
    REPAIRED: all that was asked for before `first` is there; the oldest of it has waited for
    `count` ns.
    """

    JOINED = 1
    NEW_SESSION = 2
    GAP = 3
    JUMP = 4
    SESSION_END = 5
    OTHER_SOURCE = 6
    REPAIR = 7
    REPAIRED = 8


class SequencingEvent(msgspec.Struct, frozen=True, gc=False):
    """A change of a channel's state, in its place among the deliveries: after the first
    `position` of its call.

    `line` is set for OTHER_SOURCE only, `source` for it and for REPAIR.
    """

    kind: EventKind
    channel_id: int
    session: int
    first: int
    count: int
    position: int
    line: int = 0
    source: Source | None = None


class Delivery(NamedTuple):
    """A packet in its place. `held`: it waited in the window."""

    packet: bytes
    line: int
    held: bool


class LineStats(NamedTuple):
    """One line's numbers in the current session.

    `lost` is an estimate: numbers passed minus packets received, duplicates included.
    """

    line: int
    received: int
    lost: int
