"""Subscription frames as the venues document them: batching, routes, the whole set at once; and
the packaged configuration.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import msgspec
import pytest

from tapecast.feeder.connections.limits import Limits
from tapecast.feeder.venues.binance import VENUE as BINANCE
from tapecast.feeder.venues.binance_futures import VENUE as FUTURES
from tapecast.feeder.venues.okx import VENUE as OKX
from tapecast.feeder.venues.spec import Topic, VenueSpec
from tapecast.feeder.venues.upbit import VENUE as UPBIT
from tapecast.protocol.naming import has_wildcard
from tapecast.protocol.schema import MsgType
from tests.support.captures import captures

ALL = (BINANCE, FUTURES, OKX, UPBIT)


def test_binance_puts_many_streams_into_one_request() -> None:
    """Stream names are lower case and share a SUBSCRIBE, because a sixth message in a second
    ends the connection.
    """
    (only,) = BINANCE.stream.subscribe(["BTCUSDT", "币安人生USDT"], ["depth@100ms", "trade"], 1)
    assert only.route == "ws"
    assert [json.loads(frame) for frame in only.frames] == [
        {
            "method": "SUBSCRIBE",
            "params": [
                "btcusdt@depth@100ms",
                "币安人生usdt@depth@100ms",
                "btcusdt@trade",
                "币安人生usdt@trade",
            ],
            "id": 1,
        }
    ]
    assert only.request_ids == ("1",)
    assert Topic("trade", "BTCUSDT") in only.topics


def test_binance_splits_streams_over_requests_and_connections() -> None:
    """No connection holds more than 1024 streams, and request ids are used once."""
    symbols = [f"A{number}USDT" for number in range(600)]
    parts = BINANCE.stream.subscribe(symbols, ["depth@100ms", "trade"], 10)
    assert [len(part.topics) for part in parts] == [1024, 176]
    assert all(len(json.loads(frame)["params"]) <= 200 for part in parts for frame in part.frames)
    ids = [request_id for part in parts for request_id in part.request_ids]
    assert ids == [str(number) for number in range(10, 10 + len(ids))]


def test_usd_m_books_and_trades_take_two_routes() -> None:
    """Aggregate trades come over /market only; on /public the venue would acknowledge them and
    send nothing.
    """
    parts = {
        part.route: part
        for part in FUTURES.stream.subscribe(
            ["BTCUSDT"], ["depth@100ms", "bookTicker", "aggTrade"], 1
        )
    }
    assert parts["public"].topics == (
        Topic("depth@100ms", "BTCUSDT"),
        Topic("bookTicker", "BTCUSDT"),
    )
    assert parts["market"].topics == (Topic("aggTrade", "BTCUSDT"),)


def test_okx_names_channel_and_instrument() -> None:
    """OKX takes objects of channel and instId; trades-all needs the business route."""
    parts = {
        part.route: part for part in OKX.stream.subscribe(["BTC-USDT"], ["books", "trades-all"], 5)
    }
    assert json.loads(parts["public"].frames[0]) == {
        "id": "5",
        "op": "subscribe",
        "args": [{"channel": "books", "instId": "BTC-USDT"}],
    }
    assert parts["business"].topics == (Topic("trades-all", "BTC-USDT"),)


def test_okx_requests_stay_below_their_size_limit() -> None:
    """A request never exceeds 64 KB, options included."""
    symbols = [
        f"BTC-USD-2203{number:02d}-{strike}000-C"
        for number in range(10, 30)
        for strike in range(100, 150)
    ]
    assert all(
        len(frame) < 65_536
        for part in OKX.stream.subscribe(symbols, ["books", "trades"], 1)
        for frame in part.frames
    )


def test_okx_can_leave_one_topic() -> None:
    """A book out of sequence is left and subscribed again on its own."""
    assert OKX.stream.unsubscribe is not None
    frame = OKX.stream.unsubscribe([Topic("books", "BTC-USDT")], 9)
    assert json.loads(frame) == {
        "id": "9",
        "op": "unsubscribe",
        "args": [{"channel": "books", "instId": "BTC-USDT"}],
    }


def test_upbit_sends_the_whole_set_at_once() -> None:
    """A second Upbit frame would replace the first, so one frame has every type, and it cannot
    be undone.
    """
    (only,) = UPBIT.stream.subscribe(["KRW-BTC", "KRW-ETH"], ["orderbook", "trade"], 3)
    assert [json.loads(frame) for frame in only.frames] == [
        [
            {"ticket": "tapecast-3"},
            {"type": "orderbook", "codes": ["KRW-BTC", "KRW-ETH"]},
            {"type": "trade", "codes": ["KRW-BTC", "KRW-ETH"], "is_only_realtime": True},
            {"format": "DEFAULT"},
        ]
    ]
    assert len(only.topics) == 4
    assert only.request_ids == ()
    assert UPBIT.stream.unsubscribe is None


@pytest.mark.parametrize("venue", ALL, ids=lambda venue: venue.name)
def test_an_unknown_channel_is_refused(venue: VenueSpec) -> None:
    """A channel the module cannot decode is never subscribed."""
    with pytest.raises(KeyError):
        venue.stream.subscribe(["BTCUSDT"], ["level9"], 1)


@pytest.mark.parametrize("venue", ALL, ids=lambda venue: venue.name)
def test_every_topic_is_asked_for_once(venue: VenueSpec) -> None:
    """The topics a subscription promises are those its frames name."""
    symbols = list(
        venue.listing.symbols_of_pair("BTC", "USDT") + venue.listing.symbols_of_pair("ETH", "USDT")
    )
    for part in venue.stream.subscribe(symbols, list(venue.stream.streams), 1):
        named = [topic for frame in part.frames for topic in venue.stream.requested("", frame)]
        assert named == list(part.topics)


@pytest.mark.parametrize("venue", ALL, ids=lambda venue: venue.name)
def test_the_packaged_configuration_fits_the_module(venue: VenueSpec) -> None:
    """Symbols, channels, endpoints and limits of the packaged file are ones the module knows."""
    text = (Path(__file__).parents[3] / "config" / "venues" / f"{venue.name}.toml").read_text()
    table = tomllib.loads(text)["venue"]
    assert set(table) - {"top"} == {
        "enabled",
        "symbols",
        "channels",
        "endpoints",
        "alternates",
        "limits",
    }
    assert set(table["alternates"]) <= set(table["endpoints"])
    assert all(
        venue.kind_of(symbol) is not None for symbol in table["symbols"] if not has_wildcard(symbol)
    )
    assert set(table["channels"]) <= set(venue.stream.streams)
    assert set(table["endpoints"]) == set(venue.endpoints)
    assert {channel.route for channel in venue.stream.streams.values()} <= set(venue.endpoints)
    assert msgspec.convert(table["limits"], Limits).rest_weight > 0
    carried = {venue.stream.streams[channel].carries for channel in table["channels"]}
    assert {MsgType.BOOK, MsgType.TRADE} <= carried


@pytest.mark.parametrize(("venue", "file", "line", "expected"), [
    (BINANCE, "cf_20210404_spot_btc_eth_dot.jsonl", 1, Topic("aggTrade", "ETHUSDT")),
    (FUTURES, "cf_20210417_usdm.jsonl", 2, Topic("depth@100ms", "KSMUSDT")),
    (OKX, "cf_20220513_v5_books.jsonl", 6, Topic("books", "UNI-USD-SWAP")),
    (UPBIT, "cf_20210405_simple.jsonl", 2, Topic("orderbook", "USDT-ADA")),
])  # fmt: skip
def test_recorded_requests_name_their_topics(
    venue: VenueSpec, file: str, line: int, expected: Topic
) -> None:
    """The topics of a recorded connect URL or sent frame are read back."""
    row = json.loads((captures() / venue.name / file).read_text().splitlines()[line - 1])
    assert expected in venue.stream.requested(row["url"] or "", row["raw"].encode())
