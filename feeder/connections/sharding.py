"""Which connections a venue needs: its symbols a few at a time, each part on connections of its
own, with stable names.

Pure: symbols and configuration in, a `Plan` out. What a connection may carry at most is the
venue's own rule (`StreamSpec.subscribe`); how many symbols share one is the operator's choice. A
symbol added at the end moves no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tapecast.feeder.venues.spec import Subscription, VenueSpec, market_and_symbol

__all__ = ["Shard", "plan"]

_SPARE = 2
"""Sockets left of the venue's number for replacements that are opened before the old ones close.
"""


class Shard(NamedTuple):
    """One connection to keep: its name (`route.number`) and what it subscribes."""

    name: str
    subscription: Subscription


def plan(
    spec: VenueSpec,
    symbols: Sequence[str],
    channels: Sequence[str],
    urls: Mapping[str, str],
    per_connection: int,
    *,
    sockets: int = 0,
    first_id: int = 1,
) -> list[Shard]:
    """Return the connections for `symbols`, at most `per_connection` on each.

    `sockets` is how many the venue permits, 0 = any number: where the parts would be more, they
    are made larger. Routes of one URL share connections: one server, one order.
    """
    size = max(1, per_connection)
    while True:
        subscriptions = _subscriptions(spec, symbols, channels, urls, size, first_id)
        if not sockets or len(subscriptions) <= max(1, sockets - _SPARE) or size >= len(symbols):
            break
        size += 1
    numbers: Counter[str] = Counter()
    shards = []
    for subscription in subscriptions:
        numbers[subscription.route] += 1
        shards.append(Shard(f"{subscription.route}.{numbers[subscription.route]}", subscription))
    return shards


def _subscriptions(
    spec: VenueSpec,
    symbols: Sequence[str],
    channels: Sequence[str],
    urls: Mapping[str, str],
    size: int,
    first_id: int,
) -> list[Subscription]:
    by_market: dict[str, list[str]] = {}
    for symbol in symbols:
        by_market.setdefault(market_and_symbol(symbol)[0], []).append(symbol)
    out: list[Subscription] = []
    for members in by_market.values():
        for start in range(0, len(members), size):
            # What brings a whole market is asked for once.
            wanted = (
                channels
                if not out
                else [channel for channel in channels if channel not in spec.stream.market_wide]
            )
            found = spec.stream.subscribe(members[start : start + size], wanted, first_id)
            first_id += sum(len(subscription.frames) for subscription in found)
            out += _merged(found, urls)
    return out


def _merged(subscriptions: Iterable[Subscription], urls: Mapping[str, str]) -> list[Subscription]:
    """Join the subscriptions of different routes that are configured to one URL."""
    by_url: dict[str, list[Subscription]] = {}
    for sub in subscriptions:
        by_url.setdefault(urls[sub.route], []).append(sub)
    out: list[Subscription] = []
    for found in by_url.values():
        if len({sub.route for sub in found}) == 1:
            out += found
            continue
        first, *others = found
        for sub in others:
            first = Subscription(
                first.route,
                first.frames + sub.frames,
                first.topics + sub.topics,
                first.request_ids + sub.request_ids,
            )
        out.append(first)
    return out
