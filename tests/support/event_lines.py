"""Event lines as `decode` and `up --events` print them: read, compared, and their books rebuilt
with plain Python.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

__all__ = ["PlainBook", "by_instrument", "read_events"]

Event = dict[str, Any]


def read_events(path: Path) -> list[Event]:
    """Return every event of a file."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def by_instrument(events: list[Event], leave_out: tuple[str, ...] = ()) -> dict[str, list[Event]]:
    """Return the events of each instrument in order, without what may differ: receive times, and
    what only `decode` can tell.

    Connections belong to no instrument and are left out, and so are quarantined messages, a
    trade's original text id, and the types in `leave_out`.
    """
    out: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event["instrument"] is not None and event["type"] not in ("quarantine", *leave_out):
            out[event["instrument"]].append(
                {key: event[key] for key in event if key not in ("ts_recv_ns", "trade_id_text")}
            )
    return dict(out)


class PlainBook:
    """A book from event lines, kept in the most obvious way."""

    def __init__(self) -> None:
        """Start empty."""
        self._sides: dict[str, dict[Decimal, str]] = {"bids": {}, "asks": {}}
        self._prices: dict[str, list[Decimal]] = {"bids": [], "asks": []}

    def apply(self, event: Event) -> None:
        """Take in a book event."""
        for name, side in self._sides.items():
            prices = self._prices[name]
            if event["snapshot"]:
                side.clear()
                prices.clear()
            for text, quantity in event[name]:
                price = Decimal(text)
                if quantity == "0":
                    if side.pop(price, None) is not None:
                        del prices[bisect_left(prices, price)]
                else:
                    if price not in side:
                        insort(prices, price)
                    side[price] = quantity

    @property
    def crossed(self) -> bool:
        """Whether the best bid is not below the best ask."""
        bids, asks = self._prices["bids"], self._prices["asks"]
        return bool(bids and asks) and bids[-1] >= asks[0]

    @property
    def levels(self) -> tuple[dict[Decimal, str], dict[Decimal, str]]:
        """Price to quantity of both sides."""
        return self._sides["bids"], self._sides["asks"]
