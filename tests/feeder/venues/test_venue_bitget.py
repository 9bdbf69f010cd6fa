"""Bitget: what each message becomes or must not become, requests, symbols, the server side.

Messages are the documentation's own examples (bitget.com/api-doc/spot, version 2, read on
2026-11-30): "Depth Channel", "Trading Channel", "Get Symbol Info", "Get Ticker Information".
There is no recording.
"""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tapecast.feeder.replay.dialect import Route
from tapecast.feeder.replay.venues import DIALECTS
from tapecast.feeder.venues.bitget import VENUE
from tapecast.feeder.venues.spec import (
    Ack,
    Alive,
    Control,
    Exact,
    Ignored,
    InstrumentsError,
    ServerError,
    Topic,
)
from tapecast.protocol.schema import InstrumentKind, InstrumentState
from tests.support.feeder_frames import Feed
from tests.support.packaged import packaged

DEPTH = (
    b'{"action":"snapshot","arg":{"instType":"SPOT","channel":"books15","instId":"BTCUSDT"},"data":[{"asks":[["26274.9",'
    b'"0.0009"],["26275.0","0.0500"]],"bids":[["26274.8","0.0009"],["26274.7","0.0027"]],"checksum":0,"seq":123,'
    b'"ts":"1695710946294"}],"ts":1695710946294}'
)
"""The documented example of `books5`: `books15` has the same layout."""
BEST = (
    DEPTH.replace(b"books15", b"books1")
    .replace(b',["26275.0","0.0500"]', b"")
    .replace(b',["26274.7","0.0027"]', b"")
)
OLD_TRADE = (
    b'{"action":"snapshot","arg":{"instType":"SPOT","channel":"trade","instId":"BTCUSDT"},"data":[{"ts":"1695709835822",'
    b'"price":"26293.4","size":"0.0013","side":"buy","tradeId":"1000000000"}],"ts":1695711090682}'
)
TRADE = OLD_TRADE.replace(b"snapshot", b"update")
SYMBOLS = (
    b'{"code":"00000","msg":"success","requestTime":1744276707885,"data":[{"symbol":"BTCUSDT","baseCoin":"BTC",'
    b'"quoteCoin":"USDT","minTradeAmount":"0","maxTradeAmount":"900000000000000000000","takerFeeRate":"0.002",'
    b'"makerFeeRate":"0.002","pricePrecision":"2","quantityPrecision":"6","quotePrecision":"8","status":"online",'
    b'"minTradeUSDT":"1","buyLimitPriceRatio":"0.05","sellLimitPriceRatio":"0.05","areaSymbol":"no",'
    b'"orderQuantity":"200","openTime":"1532454360000","offTime":""}]}'
)
PACKETS = {
    "book": [
        "BOOK SNAPSHOT|TOP_ONLY 1695710946294000000 bid 26274.8x0.0009 bid 26274.7x0.0027"
        " ask 26274.9x0.0009 ask 26275x0.05"
    ],
    "bbo": ["BBO 1695710946294000000 bid 26274.8x0.0009 ask 26274.9x0.0009"],
    "trades": ["TRADE 1695709835822000000 buy 26293.4x0.0013#1000000000"],
    "old trades": [],
}
"""What each shape's example becomes, for the tests of all examples."""


def test_every_message_is_a_whole_book() -> None:
    """Levels, time and order as written; the next message replaces the book."""
    feed = Feed("bitget", "BTCUSDT")
    (event,) = [event for event in feed.frame(DEPTH) if event["type"] == "book"]
    assert (event["snapshot"], event["ts_exchange_ns"]) == (True, 1_695_710_946_294_000_000)
    assert event["bids"] == [["26274.8", "0.0009"], ["26274.7", "0.0027"]]
    assert event["asks"] == [["26274.9", "0.0009"], ["26275", "0.05"]]
    assert "top_only" in event["flags"]
    feed.frame(DEPTH.replace(b',["26274.7","0.0027"]', b"").replace(b"946294", b"946494"))
    assert feed.book("BTCUSDT") == (
        [(Decimal("26274.8"), Decimal("0.0009"))],
        [(Decimal("26274.9"), Decimal("0.0009")), (Decimal("26275.0"), Decimal("0.0500"))],
    )
    assert feed.session.counts["quarantine"] == 0


def test_the_best_prices_have_a_channel_of_their_own() -> None:
    """One level a side is a BBO, not a book."""
    (event,) = [event for event in Feed("bitget", "BTCUSDT").frame(BEST) if event["type"] == "bbo"]
    assert (event["bid"], event["ask"]) == (["26274.8", "0.0009"], ["26274.9", "0.0009"])


def test_a_trade_is_of_its_taker_and_old_ones_give_nothing() -> None:
    """`update` is what happens now; `snapshot` holds trades before the subscription."""
    feed = Feed("bitget", "BTCUSDT")
    assert [event for event in feed.frame(OLD_TRADE) if event["type"] == "trade"] == []
    (event,) = [event for event in feed.frame(TRADE) if event["type"] == "trade"]
    names = ("price", "quantity", "side", "trade_id", "ts_exchange_ns")
    assert tuple(event[name] for name in names) == (
        "26293.4",
        "0.0013",
        "buy",
        "1000000000",
        1_695_709_835_822_000_000,
    )


@pytest.mark.parametrize("frame", [
    DEPTH.replace(b'"SPOT"', b'"USDT-FUTURES"'),
    TRADE.replace(b'"SPOT"', b'"COIN-FUTURES"'),
    DEPTH.replace(b'"snapshot"', b'"update"'),
    TRADE.replace(b'"buy"', b'"none"'),
])  # fmt: skip
def test_messages_without_evidence_are_put_aside(frame: bytes) -> None:
    """Contracts have the symbols of pairs; a partial book and an unknown side are not guessed."""
    feed = Feed("bitget", "BTCUSDT")
    events = feed.frame(frame)
    assert feed.session.counts["quarantine"] == 1
    assert not {"book", "trade"} & {event["type"] for event in events}


ARG = b'{"instType":"SPOT","channel":"books15","instId":"BTCUSDT"}'


@pytest.mark.parametrize(("frame", "meaning"), [
    (b"pong", Alive("pong")),
    (b'{"event":"subscribe","arg":' + ARG + b"}", Ack(None, "books15", "BTCUSDT")),
    (b'{"event":"error","arg":' + ARG + b',"code":30001,"msg":"Channel does not exist","op":"subscribe"}',
     ServerError("30001", "Channel does not exist", None, "books15", "BTCUSDT")),
    (DEPTH.replace(b"books15", b"books"), Ignored("books")),
    (DEPTH.replace(b"books15", b"candle1m"), Ignored("candle1m")),
    (DEPTH.replace(b"books15", b"books99"), None),
    (b"[]", None),
])  # fmt: skip
def test_what_is_not_data_has_its_meaning(frame: bytes, meaning: Control | None) -> None:
    """Answers, signs of life, channels without use; the rest is not understood."""
    assert VENUE.stream.control(frame) == meaning


def test_a_frame_names_its_topic() -> None:
    """What the session asks of a frame that it did not understand."""
    assert VENUE.stream.peek(DEPTH) == Topic("books15", "BTCUSDT")
    assert VENUE.stream.peek(b"pong") is None


def test_requests_ask_for_every_topic_once_and_stay_short() -> None:
    """At most 50 channels on a connection and 4,096 bytes in a request, without ids."""
    symbols = [f"ABCDEFGHIJ{number}USDT" for number in range(100, 140)]
    parts = VENUE.stream.subscribe(symbols, ["books15", "books1", "trade"], 1)
    assert [len(part.topics) for part in parts] == [50, 50, 20]
    for part in parts:
        assert part.request_ids == ()
        assert all(len(frame) <= 4096 for frame in part.frames)
        named = [topic for frame in part.frames for topic in VENUE.stream.requested("", frame)]
        assert named == list(part.topics)
    assert VENUE.stream.unsubscribe is not None
    frame = VENUE.stream.unsubscribe([Topic("trade", "BTCUSDT")], 1)
    assert json.loads(frame) == {
        "op": "unsubscribe",
        "args": [{"instType": "SPOT", "channel": "trade", "instId": "BTCUSDT"}],
    }
    assert VENUE.stream.requested("", frame) == VENUE.stream.requested("", b"{") == []
    with pytest.raises(KeyError):
        VENUE.stream.subscribe(["BTCUSDT"], ["books"], 1)


def test_the_documented_symbol_is_defined() -> None:
    """Decimals of price and amount are tick and lot; what is malformed is left out alone."""
    defs, rejected = VENUE.listing.parse(SYMBOLS)
    (only,) = defs
    assert (only.symbol, only.base, only.quote, only.state) == (
        "BTCUSDT",
        "BTC",
        "USDT",
        InstrumentState.TRADING,
    )
    assert (only.tick, only.lot, only.min_notional) == (Exact(1, -2), Exact(1, -6), Exact(1, 0))
    assert rejected == ()
    body = json.loads(SYMBOLS)
    euro = body["data"][0] | {"symbol": "BTCEUR", "quoteCoin": "EUR", "status": "gray"}
    body["data"] = [euro, euro | {"pricePrecision": "x"}, euro | {"symbol": "BTC-EUR"}, {}]
    defs, rejected = VENUE.listing.parse(json.dumps(body).encode())
    assert [(one.min_notional, one.state) for one in defs] == [(None, InstrumentState.UNKNOWN)]
    assert len(rejected) == 3


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"code":"40034","msg":"Parameter error"}'])
def test_a_body_that_is_no_list_is_an_error(body: bytes) -> None:
    """A refusal is not an empty exchange."""
    with pytest.raises(InstrumentsError, match="bitget"):
        VENUE.listing.parse(body)


def test_a_ticker_is_worth_its_turnover() -> None:
    """In the quote currency, which ranks pairs of one quote."""
    assert VENUE.listing.volumes is not None
    (request,) = VENUE.listing.volumes.requests()
    body = b'{"code":"00000","msg":"success","data":[{"symbol":"BTCUSDT","quoteVolume":"0","baseVolume":"0"}]}'
    assert VENUE.listing.volumes.parse(request, body) == {"BTCUSDT": Decimal(0)}
    with pytest.raises(InstrumentsError):
        VENUE.listing.volumes.parse(request, b'{"code":"1","data":[]}')


def test_a_symbol_tells_its_kind() -> None:
    """Upper-case letters and digits."""
    assert VENUE.kind_of("BTCUSDT") is InstrumentKind.SPOT
    assert [VENUE.kind_of(text) for text in ("btcusdt", "BTC-USDT", "", "BTC USDT")] == [None] * 4


def test_the_packaged_configuration_fits_the_module() -> None:
    """Symbols, channels, endpoints and limits of the packaged file are ones the module knows."""
    packaged(VENUE)


def test_its_server_answers_each_argument_and_serves_by_stream() -> None:
    """What the feeder sends is accepted by the replay server, and what it plays has a route."""
    dialect = DIALECTS["bitget"]
    side = dialect.connect("/v2/ws/public", {})
    assert side is not None
    (part,) = VENUE.stream.subscribe(["BTCUSDT"], ["books15", "trade"], 1)
    answers = side.receive(part.frames[0].decode())
    assert [VENUE.stream.control(answer.encode()) for answer in answers] == [
        Ack(None, topic.channel, topic.symbol) for topic in part.topics
    ]
    route = dialect.route(DEPTH)
    assert route == Route("SPOT:books15:BTCUSDT", "BTCUSDT", True)
    assert route.stream in side.streams()
    assert side.receive("ping") == ["pong"]
    assert isinstance(VENUE.stream.control(side.receive("{")[0].encode()), ServerError)
    assert dialect.route(b'{"event":"subscribe","arg":' + ARG + b"}") is None
    assert dialect.connect("/v2/ws/private", {}) is None
