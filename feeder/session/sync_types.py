"""What the book-rule machine takes and gives: kinds of chains and snapshots, verdicts, requests,
limits. No behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple

from tapecast.protocol.units import NS_PER_S

__all__ = [
    "NO_ID",
    "Buffered",
    "SequenceRule",
    "SnapshotSource",
    "SnapshotVerdict",
    "SyncPolicy",
    "SyncRequest",
    "UpdateVerdict",
]

NO_ID = -(2**63)


class SequenceRule(Enum):
    """How one update proves that it follows the one before."""

    SPOT = "spot"
    """Updates carry first and last id; the next first is at most last + 1 (Binance spot)."""
    PREV = "prev"
    """Updates carry the last id of their predecessor, and a range that a REST snapshot falls
    into (Binance USD-M).
    """
    NEXT = "next"
    """Updates count up by one behind a snapshot in the stream; another count is a gap (Bybit).
    """
    LINKED = "linked"
    """Updates carry their own id and their predecessor's; ids may jump or fall (OKX)."""
    FULL = "full"
    """Every message is the whole book; only time orders them (Upbit)."""
    UNVERIFIED = "unverified"
    """Updates of a book carry no ids: each follows the one before (Coinbase)."""


class SnapshotSource(Enum):
    """Where the book to start from comes from."""

    REST = "rest"
    STREAM = "stream"
    STREAM_OR_REST = "stream_or_rest"
    """The stream, unless it sends an update first or stays silent after the acknowledgement (OKX
    announced this change).
    """


class UpdateVerdict(IntEnum):
    """What to do with an update."""

    APPLY = 0
    BUFFER = 1
    IGNORE = 2
    GAP = 3
    """Upstream loss: report `expected` and `got`, then call `resync`."""
    JOIN = 4
    """The update proves a held snapshot: publish the snapshot, then this update."""


class SnapshotVerdict(IntEnum):
    """What to do with a snapshot."""

    APPLY = 0
    HOLD = 1
    """Not provable yet: keep its packets until the first update decides (`UpdateVerdict.JOIN`).
    """
    TOO_OLD = 2
    UNREQUESTED = 3


class SyncRequest(Enum):
    """What the machine needs from the outside."""

    FETCH = "fetch"
    RESUBSCRIBE = "resubscribe"


class Buffered(NamedTuple):
    """An update that waits for a snapshot: its ids and its finished packets."""

    first: int
    last: int
    prev: int
    packets: bytes


@dataclass(frozen=True, slots=True)
class SyncPolicy:
    """Limits of recovery; the defaults are those of the design."""

    snapshot_deadline_ns: int = 10 * NS_PER_S
    stream_snapshot_wait_ns: int = 3 * NS_PER_S
    quiet_wait_ns: int = 5 * NS_PER_S
    """A book without any update for this long after its subscription is started from a snapshot
    alone.
    """
    attempts: int = 8
    window_ns: int = 180 * NS_PER_S
    retry_first_ns: int = 60 * NS_PER_S
    retry_cap_ns: int = 900 * NS_PER_S
    buffer_updates: int = 20_000
    buffer_bytes: int = 16 << 20
    backward_messages: int = 20
    """So many whole books in a row whose time lies before the current one's: the current one's
    time was wrong.
    """
    crossed_events: int = 10
    crossed_ns: int = NS_PER_S
