"""Which connections a venue gets: few symbols on each, every topic on exactly one, names that
stay.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tapecast.feeder.connections.sharding import plan
from tapecast.feeder.venues import VENUES, venue
from tapecast.protocol.naming import has_wildcard
from tapecast.runtime import config as configuration

CONFIG = configuration.load(environ={})


def test_what_brings_a_whole_market_is_asked_for_once() -> None:
    """OKX's liquidations come for all instruments of a type: of many connections one asks,
    whatever symbols it has.
    """
    settings = CONFIG.venues["okx"]
    symbols = [symbol for symbol in settings.symbols if not has_wildcard(symbol)]
    shards = plan(venue("okx"), symbols, ["trades", "liquidation-orders"], settings.endpoints, 2)
    asking = [
        shard.name
        for shard in shards
        if any(b"liquidation-orders" in frame for frame in shard.subscription.frames)
    ]
    assert len(shards) > 2
    assert asking == [shards[0].name]


@pytest.mark.parametrize("name", [name for name in VENUES if name in CONFIG.venues])
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_every_topic_is_on_one_connection(name: str, size: int) -> None:
    """The shards of the packaged configuration: nothing lost, nothing twice, no more symbols
    than agreed, distinct names.
    """
    spec, settings = venue(name), CONFIG.venues[name]
    symbols = [symbol for symbol in settings.symbols if not has_wildcard(symbol)]
    shards = plan(spec, symbols, settings.channels, settings.endpoints, size)
    whole = Counter(
        topic
        for sub in spec.stream.subscribe(symbols, settings.channels, 1)
        for topic in sub.topics
    )
    assert Counter(topic for shard in shards for topic in shard.subscription.topics) == whole
    assert max(whole.values()) == 1
    for shard in shards:
        assert len({topic.symbol for topic in shard.subscription.topics}) <= size
        assert shard.subscription.route == shard.name.split(".")[0]
        requested = [
            topic
            for frame in shard.subscription.frames
            for topic in spec.stream.requested("", frame)
        ]
        assert {topic.symbol.rpartition(":")[2] for topic in requested} <= {
            topic.symbol.rpartition(":")[2] for topic in shard.subscription.topics
        }
    assert len({shard.name for shard in shards}) == len(shards)
    ids = [one for shard in shards for one in shard.subscription.request_ids]
    assert len(set(ids)) == len(ids)


def test_books_and_trades_of_usdm_are_on_two_routes() -> None:
    """Ten symbols, five a connection: two of books and two of trades."""
    spec, settings = venue("binance_futures"), CONFIG.venues["binance_futures"]
    shards = plan(spec, settings.symbols[:10], settings.channels, settings.endpoints, 5)
    assert sorted(shard.name for shard in shards) == [
        "market.1",
        "market.2",
        "public.1",
        "public.2",
    ]


def test_routes_of_one_url_share_a_connection() -> None:
    """COIN-M has one URL for both: books and trades of a symbol come in one order."""
    spec, settings = venue("binance_coinm"), CONFIG.venues["binance_coinm"]
    shards = plan(spec, settings.symbols[:10], settings.channels, settings.endpoints, 5)
    assert [shard.name for shard in shards] == ["public.1", "public.2"]
    assert all(
        {topic.channel for topic in shard.subscription.topics} == set(settings.channels)
        for shard in shards
    )


def test_a_symbol_added_at_the_end_moves_no_other() -> None:
    """Names and contents of full connections stay."""
    spec, settings = venue("upbit"), CONFIG.venues["upbit"]
    before = plan(spec, settings.symbols[:7], settings.channels, settings.endpoints, 5)
    after = plan(spec, settings.symbols[:8], settings.channels, settings.endpoints, 5)
    assert [shard.name for shard in before] == [shard.name for shard in after] == ["ws.1", "ws.2"]
    assert before[0] == after[0]


def test_no_more_sockets_than_the_venue_permits() -> None:
    """Deribit permits 32: a thousand instruments get larger parts, and two sockets stay free for
    replacements.
    """
    spec = venue("deribit")
    symbols = [
        f"BTC-{day}DEC26-{strike}-C"
        for day in (4, 11, 18, 25)
        for strike in range(50_000, 300_000, 1000)
    ]
    shards = plan(
        spec, symbols, ["book.100ms"], {"ws": "wss://www.deribit.com/ws/api/v2"}, 5, sockets=32
    )
    assert 25 <= len(shards) <= 30
    assert sum(len(shard.subscription.topics) for shard in shards) == len(symbols) == 1000
