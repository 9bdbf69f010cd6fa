"""What a feed counts about itself: packets, losses and the time from the publisher's send call
to this process.

Counters and a histogram of fixed size; no clock of its own.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from tapecast.protocol.net.sequencing import LineStats

__all__ = ["FeedStats", "LagHistogram"]


class FeedStats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a feed's counters since it began. Packets unless said otherwise; lags in
    nanoseconds.
    """

    received: int
    """Valid packets that came in, whatever became of them."""
    lost: int
    """Numbers of the channel sequence that never came, by any line or from a recovery service.
    """
    repaired: int
    """Lost packets that a recovery service brought back."""
    reordered: int
    duplicates: int
    invalid: dict[str, int]
    """Datagrams dropped by validation, by reason."""
    old_session: int
    """Packets of a publisher that has been replaced."""
    undefined: int
    """Packets passed over because their instrument's definition had not come yet."""
    kernel_drops: int
    """Datagrams the kernel dropped because this process was too slow for its receive buffer."""
    rejoins: int
    """How often a group was joined again because nothing came from it."""
    gaps: int
    """Gap events, each of one or more lost packets."""
    events: int
    """Events handed out."""
    lag_p50_ns: int | None
    """Median of send call → read by this feed, on the wall clocks of both; None before the first
    packet and in replays.
    """
    lag_p99_ns: int | None
    requests: int
    """What recovery services were asked: ranges of packets, definitions, books."""
    recovery: dict[str, int]
    """What came of it: answers, bytes, and busy, overruns, refused, failures, junk."""
    repair_p50_ns: int | None
    """Median time from asking for lost packets to the last of them; None where nothing was
    repaired.
    """
    repair_p99_ns: int | None
    lines: dict[int, list[LineStats]]
    """What each line of a channel brought in the current session and what it lost, line A first.
    """


_STEPS: Final = 8
_SIZE: Final = 64 * _STEPS


class LagHistogram:
    """Counts of nanoseconds in buckets 9 % wide; what lies below 1 ns (clocks disagree) falls in
    the first.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._counts: npt.NDArray[np.int64] = np.zeros(_SIZE, dtype=np.int64)

    def add(self, lag_ns: int) -> None:
        """Count one value."""
        self._counts[int(math.log2(lag_ns) * _STEPS) if lag_ns > 1 else 0] += 1

    def add_many(self, lags_ns: npt.NDArray[np.int64]) -> None:
        """Count many values."""
        buckets = (np.log2(np.maximum(lags_ns, 1)) * _STEPS).astype(np.int64)
        self._counts += np.bincount(buckets, minlength=_SIZE)[:_SIZE]

    def quantile(self, q: float) -> int | None:
        """Return the value that a share `q` of all counted ones do not exceed, within 9 %; None
        while empty.
        """
        total = int(self._counts.sum())
        if total == 0:
            return None
        bucket = int(np.searchsorted(np.cumsum(self._counts), math.ceil(q * total)))
        return round(2 ** ((bucket + 1) / _STEPS))
