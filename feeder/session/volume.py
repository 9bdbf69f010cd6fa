"""The sequence of trades of a venue whose only count is the day's volume: what is new, what was
said before, what is missing.

A trade that follows the last one grows the volume by its own quantity. What is more was lost,
what is not more was said before. The first trade of an instrument, and the first of a trading
day, is the beginning: what came before it is not known to be lost. Sans-I/O and pure arithmetic;
volumes are those of one instrument, in one unit.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["TradeVerdict", "TradeVolumes"]

_DAY_NS = 86_400 * 1_000_000_000
_SHIFT_NS = 2 * 3600 * 1_000_000_000
"""A trading day begins at 22:00 UTC, 07:00 in Korea: behind the night session, before the first
exchange opens.
"""


class TradeVerdict(Enum):
    """What a trade is."""

    NEW = 1
    REPEATED = 2
    AFTER_LOSS = 3


class _Last(NamedTuple):
    volume: int
    day: int


class TradeVolumes:
    """The last volume of every instrument."""

    def __init__(self) -> None:
        self._last: dict[int, _Last] = {}
        self.expected = 0
        """AFTER_LOSS: the volume that was expected instead of the trade's."""

    def follow(self, instrument: int, volume: int, quantity: int, ts_recv_ns: int) -> TradeVerdict:
        """Take a trade: `volume` with it, its own `quantity`, when it was received (0 =
        unknown).
        """
        last = self._last.get(instrument)
        day = (ts_recv_ns + _SHIFT_NS) // _DAY_NS if ts_recv_ns else 0
        began = last is None or day != last.day
        if not began and last is not None and volume <= last.volume:
            # Without a receive time a new day shows only by its first trade, whose volume is its
            # own quantity.
            if ts_recv_ns or volume != quantity or volume == last.volume:
                return TradeVerdict.REPEATED
            began = True
        self._last[instrument] = _Last(volume, day)
        if began or last is None or volume == last.volume + quantity:
            return TradeVerdict.NEW
        self.expected = last.volume + quantity
        return TradeVerdict.AFTER_LOSS
