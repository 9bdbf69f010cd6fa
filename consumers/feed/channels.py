"""What a feed knows of one channel: its losses, its repairs, its silence and its service.

The transitions are those of the sequencer's events (`protocol.net.sequencing_types`) and of
time; what is published about them is decided by `consumers.feed.engine`, what they mean for books
by `consumers.feed.books`. No input or output, no clock.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DEFAULT_INTERVAL_NS", "SILENT_INTERVALS", "Channel", "is_behind"]

SILENT_INTERVALS: Final = 3
"""Heartbeat intervals without a packet after which a channel is silent."""
DEFAULT_INTERVAL_NS: Final = 1_000_000_000
"""The interval until a heartbeat names another."""
_WRAP: Final = 2**64


class Channel:
    """One channel, from `now_ns` on; times are monotonic ns.

    `epoch` counts its gaps, `lost_last` is the last number that was lost; `repairing` is the
    number before which lost packets are being repaired, None = nothing is; `served` is set while
    there is a recovery service; `away` while it is silent or its session has ended; `unsettled`
    where some book may wait for an answer; `redundant` where its venue has another channel.
    """

    __slots__ = (
        "away",
        "channel_id",
        "ended",
        "epoch",
        "gap_ns",
        "instruments",
        "interval_ns",
        "joined",
        "lost_last",
        "received",
        "received_ns",
        "redundant",
        "repairing",
        "served",
        "unsettled",
        "venue",
        "venue_id",
    )

    def __init__(self, channel_id: int, venue_id: int, venue: str, now_ns: int) -> None:
        self.channel_id = channel_id
        self.venue_id = venue_id
        self.venue = venue
        self.epoch = 0
        self.lost_last = 0
        self.gap_ns = 0
        self.repairing: int | None = None
        self.served = False
        self.redundant = False
        self.received = False
        self.joined = False
        self.unsettled = False
        self.away = False
        self.ended = False
        self.received_ns = now_ns
        self.interval_ns = DEFAULT_INTERVAL_NS
        self.instruments = 0

    @property
    def silence_limit_ns(self) -> int:
        """How long the channel may bring nothing."""
        return SILENT_INTERVALS * self.interval_ns

    def receive(self, now_ns: int) -> bool:
        """Note a packet; return whether it ends an absence. A session that has ended stays
        ended.
        """
        self.received_ns = now_ns
        self.received = True
        if not self.away or self.ended:
            return False
        self.away = False
        return True

    def fall_silent(self, now_ns: int) -> bool:
        """Return whether the channel has just become silent, and be away from then on."""
        if self.away or now_ns - self.received_ns <= self.silence_limit_ns:
            return False
        self.away = True
        return True

    def lose(self, first_missing: int, missing: int, now_ns: int) -> None:
        """Note that packets are lost for good: no book is proven whole any more."""
        self.epoch += 1
        self.lost_last = (first_missing + missing - 1) % _WRAP
        self.gap_ns = now_ns
        self.unsettled = True
        self.reach(first_missing + missing)

    def repair(self, first: int, count: int) -> bool:
        """Note that lost packets have been asked for; return whether a repair begins."""
        begins = self.repairing is None
        self.repairing = (first + count) % _WRAP
        return begins

    def reach(self, before: int) -> bool:
        """Note that everything before a number is there or given up; return whether that ends
        the repair.
        """
        end = self.repairing
        if end is None or is_behind(before, end):
            return False
        self.repairing = None
        return True

    def restart(self) -> None:
        """Begin a new session of the publisher: nothing is lost, nothing is known to be served."""
        self.away = self.ended = self.joined = self.served = self.unsettled = False
        self.repairing = None
        self.epoch = self.lost_last = 0

    def end(self) -> bool:
        """Note the end of the session; return whether it had not ended before."""
        if self.ended:
            return False
        self.away = self.ended = True
        return True


def is_behind(seq: int, other: int) -> bool:
    """Return whether a channel's number comes before another one; numbers wrap at 2**64."""
    return (seq - other) % _WRAP >= 1 << 63
