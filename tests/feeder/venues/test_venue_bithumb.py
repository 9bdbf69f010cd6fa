"""Bithumb: what each message variant becomes and what must become nothing; requests,
definitions, recordings against an oracle.

Frames are those of `examples.jsonl` (github nemanull/arbitrage-observatory, 2026), or the same
figures in the layouts of apidocs.bithumb.com.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tapecast.feeder.connections.limits import Limits
from tapecast.feeder.decode_command import events
from tapecast.feeder.extract.extractor import Extractor
from tapecast.feeder.extract.fallback import FallbackExtractor
from tapecast.feeder.extract.types import ExtractStatus
from tapecast.feeder.offline import Offline
from tapecast.feeder.record.recording import read
from tapecast.feeder.replay.dialect import Route
from tapecast.feeder.replay.timeline import TimelineError, load
from tapecast.feeder.replay.venues import DIALECTS, guess_venue
from tapecast.feeder.symbols.names import canonical
from tapecast.feeder.venues.bithumb import VENUE
from tapecast.feeder.venues.spec import Alive, Ignored, InstrumentsError, ServerError, Topic
from tapecast.protocol.codec import instrument_id
from tapecast.protocol.naming import has_wildcard
from tapecast.protocol.schema import InstrumentKind
from tests.support.captures import captures
from tests.support.feeder_frames import Feed

OLD_FEED = "cf_20210602_pubwss_v1.p1.jsonl"
SIMPLE_BOOK = (
    b'{"ty":"orderbook","cd":"KRW-BTC","tas":0.7111,"tbs":7.1052,"obu":[{"ap":116208000,"bp":116204000,"as":0.3313,"bs":0.0037},'
    b'{"ap":116209000,"bp":116203000,"as":0.0001,"bs":0.0025}],"lv":1,"tms":1790133505564,"st":"REALTIME"}'
)
SIMPLE_TRADE = (
    b'{"ty":"trade","cd":"KRW-BTC","tp":116208000,"tv":0.0009,"ab":"ASK","ttms":1790133513739,"sid":1079953210371761700,'
    b'"tms":1790133514039,"st":"REALTIME"}'
)


def example(line: int) -> bytes:
    """Return a frame of the single messages."""
    raw: str = json.loads(
        (captures() / "bithumb" / "examples.jsonl").read_text().splitlines()[line - 1]
    )["raw"]
    return raw.encode()


def edited(line: int, **values: object) -> bytes:
    """Return a frame of the single messages with other values."""
    return json.dumps(
        json.loads(example(line)) | values, separators=(",", ":"), ensure_ascii=False
    ).encode()


RECEIVED_NS = 1_790_133_506_000_000_000
"""Shortly after the newest of the examples: a book whose time is far ahead of the clock is as
new as its arrival.
"""


def made_of(*frames: bytes) -> list[Any]:
    """Return what frames become besides definitions and states."""
    feed = Feed("bithumb", accept_any=True)
    found = feed.frame(*frames, ts_recv_ns=RECEIVED_NS)
    assert not feed.session.quarantined, feed.session.quarantined
    return [event for event in found if event["type"] not in ("instrument", "status")]


# shapes


def test_every_message_is_the_whole_book() -> None:
    """SNAPSHOT and REALTIME alike; 16 digits are microseconds."""
    first, second = made_of(example(4), example(5))
    assert (first["symbol"], first["kind"], first["snapshot"], first["flags"]) == (
        "KRW-ETH",
        "spot",
        True,
        ["snapshot", "top_only"],
    )
    assert first["bids"] == [["3714000", "3.012"], ["3713000", "15.399"], ["3712000", "135.5129"]]
    assert first["asks"] == [["3715000", "8.4592"], ["3716000", "3.3766"], ["3717000", "4.1755"]]
    assert first["ts_exchange_ns"] == 1_790_133_505_546_514_000
    assert (second["snapshot"], second["bids"][0]) == (True, ["3714000", "4.106"])


def test_a_size_of_0_at_a_live_price_is_no_level() -> None:
    """The third ask of the recorded book has a price and no size."""
    (event,) = made_of(example(6))
    assert [price for price, _ in event["asks"]] == ["116208000", "116209000"]
    assert len(event["bids"]) == 3


def test_milliseconds_are_read_too() -> None:
    """The documented unit of a book's time."""
    (event,) = made_of(edited(4, timestamp=1790133505546))
    assert event["ts_exchange_ns"] == 1_790_133_505_546_000_000


def test_a_repeated_book_is_a_book_and_an_older_one_is_not() -> None:
    """An identical repeat changes nothing; a time before the current one is out of date."""
    first, again = made_of(example(5), example(5))
    assert first["bids"] == again["bids"]
    assert len(made_of(example(5), example(4))) == 1


@pytest.mark.parametrize("level", [1, 1.0, None])
def test_the_venues_own_price_unit_is_the_book(level: float | None) -> None:
    """`level` 1, in whatever spelling, or none at all."""
    frame = json.loads(example(4)) | {"level": level}
    if level is None:
        del frame["level"]
    assert len(made_of(json.dumps(frame).encode())) == 1


@pytest.mark.parametrize("level", ["0", "10", "1000", "0.1", "1e3", "true", '"x"', "null"])
def test_a_grouped_book_is_refused_by_both_extractors(level: str) -> None:
    """Any other level is another book: a wrong type, never a snapshot."""
    frame = example(4).replace(b'"level":1', f'"level":{level}'.encode())
    for extractor in (Extractor, FallbackExtractor):
        x = extractor(VENUE.stream.shapes, venue_id=VENUE.venue_id, channel_id=VENUE.venue_id)
        x.add_instrument("KRW-ETH", instrument_id("bithumb.spot.KRW-ETH"), -8, -8)
        assert x.extract(example(4), 0) == ExtractStatus.OK
        assert x.extract(frame, 0) == ExtractStatus.WRONG_TYPE, extractor
    feed = Feed("bithumb", "KRW-ETH")
    assert [event for event in feed.frame(frame) if event["type"] == "book"] == []
    assert len(feed.session.quarantined) == 1


def test_a_trade_is_the_takers() -> None:
    """BID: the buyer took; the id is exact beyond 2^53; the time is that of the trade, not of
    the message.
    """
    (event,) = made_of(example(7))
    assert (event["symbol"], event["price"], event["quantity"], event["side"]) == (
        "KRW-BTC",
        "116208000",
        "0.0009",
        "buy",
    )
    assert (event["trade_id"], event["ts_exchange_ns"]) == (
        "1079953210371761700",
        1_790_133_513_739_000_000,
    )


def test_simple_keys_say_the_same() -> None:
    """SIMPLE format: short keys, the same book and trade."""
    book, trade = made_of(SIMPLE_BOOK, SIMPLE_TRADE)
    assert (book["symbol"], book["asks"]) == (
        "KRW-BTC",
        [["116208000", "0.3313"], ["116209000", "0.0001"]],
    )
    assert book["ts_exchange_ns"] == 1_790_133_505_564_000_000
    assert (trade["side"], trade["trade_id"]) == ("sell", "1079953210371761700")


def test_old_trades_and_tickers_become_nothing() -> None:
    """The trade of a SNAPSHOT happened before; a ticker is no trade."""
    assert (
        made_of(
            edited(7, stream_type="SNAPSHOT"),
            SIMPLE_TRADE.replace(b"REALTIME", b"SNAPSHOT"),
            example(8),
        )
        == []
    )


# control


@pytest.mark.parametrize(("frame", "meaning"), [
    (b'{"status":"UP"}', Alive("UP")),
    (b'{"status":"0000","resmsg":"Connected Successfully"}', Alive("0000")),
    (b'{"status":"5100","resmsg":"Invalid Filter Syntax"}', ServerError("5100", "Invalid Filter Syntax")),
    (b'{"error":{"name":"NO_TICKET","message":"no ticket"}}', ServerError("NO_TICKET", "no ticket")),
    (b'{"type":"ticker","code":"KRW-BTC","trade_price":116208000}', Ignored("ticker")),
    (b'{"type":"orderbookdepth","content":{"list":[],"datetime":"1622591012656250"}}', Ignored("orderbookdepth")),
    (b'{"ty":"trade","cd":"KRW-BTC","st":"SNAPSHOT"}', Ignored("trade snapshot")),
])  # fmt: skip
def test_control_frames_mean_what_the_venue_documents(frame: bytes, meaning: object) -> None:
    """Signs of life, refusals and messages without use are told apart."""
    assert VENUE.stream.control(frame) == meaning


@pytest.mark.parametrize("frame", [
    b"", b"{", b"null", b"[]", b"1", b"\xff\xfe", b'{"data":{}}',
    b'{"type":"transaction","content":{"list":[{"buySellGb":"2","contPrice":"3.908","symbol":"CON_KRW"}]}}',
    b'{"type":"orderbook","code":"KRW-BTC","level":10000,"stream_type":"REALTIME"}',
    b'[{"type":"trade","code":"KRW-BTC"}]',
])  # fmt: skip
def test_frames_without_evidence_are_not_understood(frame: bytes) -> None:
    """Garbage, the older feed's trades and list formats go to quarantine."""
    assert VENUE.stream.control(frame) is None


# symbols, requests, definitions, configuration


@pytest.mark.parametrize(("symbol", "kind"), [
    ("KRW-BTC", InstrumentKind.SPOT), ("BTC-ETH", InstrumentKind.SPOT), ("KRW-1INCH", InstrumentKind.SPOT),
    ("BTC_KRW", None), ("KRW-BTC.15", None), ("XYZ-BTC", None), ("krw-btc", None), ("", None),
])  # fmt: skip
def test_a_symbol_tells_its_kind(symbol: str, kind: InstrumentKind | None) -> None:
    """Quote first; the older feed's names are none."""
    assert VENUE.kind_of(symbol) is kind


def test_the_whole_set_is_sent_at_once() -> None:
    """A second frame would replace the first; keys are in camel case, and no level is asked for."""
    (only,) = VENUE.stream.subscribe(["KRW-BTC", "KRW-ETH"], ["orderbook", "trade"], 3)
    assert [json.loads(frame) for frame in only.frames] == [
        [
            {"ticket": "tapecast-3"},
            {"type": "orderbook", "codes": ["KRW-BTC", "KRW-ETH"]},
            {"type": "trade", "codes": ["KRW-BTC", "KRW-ETH"], "isOnlyRealtime": True},
            {"format": "DEFAULT"},
        ]
    ]
    assert only.request_ids == ()
    assert VENUE.stream.requested("", only.frames[0]) == list(only.topics)
    assert VENUE.stream.unsubscribe is None
    with pytest.raises(KeyError):
        VENUE.stream.subscribe(["KRW-BTC"], ["level9"], 1)


def test_frames_name_their_topics() -> None:
    """Either key spelling; the older feed's requests ask for nothing of today's."""
    assert VENUE.stream.peek(example(5)) == Topic("orderbook", "KRW-ETH")
    assert VENUE.stream.peek(SIMPLE_TRADE) == Topic("trade", "KRW-BTC")
    assert VENUE.stream.requested("", b'{"type":"transaction","symbols":["SOC_KRW"]}') == []


def test_markets_leave_the_tick_open() -> None:
    """A market list entry of the documentation: the tick depends on the price, so it is not
    defined.
    """
    body = '[{"market":"KRW-BTC","korean_name":"비트코인","english_name":"Bitcoin","market_warning":"NONE"},{"market":"X"}]'
    found = VENUE.listing.parse(body.encode())
    (bitcoin,) = found.defs
    assert (bitcoin.symbol, bitcoin.tick, bitcoin.settle, canonical(bitcoin)) == (
        "KRW-BTC",
        None,
        "KRW",
        "BTC-KRW",
    )
    assert len(found.rejected) == 1
    for bad in (b"", b"{", b'{"error":{"name":404,"message":"Code not found"}}', b"\xff"):
        with pytest.raises(InstrumentsError):
            VENUE.listing.parse(bad)


def test_the_packaged_configuration_fits_the_module() -> None:
    """Symbols, channels, endpoints and limits of the packaged file are ones the module knows."""
    text = (Path(__file__).parents[3] / "config" / "venues" / "bithumb.toml").read_text()
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
        VENUE.kind_of(symbol) is not None for symbol in table["symbols"] if not has_wildcard(symbol)
    )
    assert set(table["channels"]) <= set(VENUE.stream.streams)
    assert set(table["endpoints"]) == set(VENUE.endpoints)
    assert msgspec.convert(table["limits"], Limits).rest_weight > 0


# the server's side


def test_the_server_takes_the_feeders_request() -> None:
    """The request is the whole subscription, without an acknowledgement; PING is answered with
    the status.
    """
    session = DIALECTS["bithumb"].connect("/websocket/v1", {})
    assert session is not None
    (only,) = VENUE.stream.subscribe(["KRW-BTC"], ["orderbook", "trade"], 1)
    assert session.receive(only.frames[0].decode()) == []
    assert list(session.streams()) == ["orderbook:KRW-BTC", "trade:KRW-BTC"]
    assert session.receive("PING") == ['{"status":"UP"}']
    assert DIALECTS["bithumb"].connect("/pub/ws", {}) is None


def test_recorded_frames_belong_to_their_topics() -> None:
    """Type and code in either spelling; a recording of the older feed has nothing to serve."""
    server = DIALECTS["bithumb"]
    assert server.route(example(5)) == Route("orderbook:KRW-ETH", "KRW-ETH", True)
    assert server.route(SIMPLE_TRADE) == Route("trade:KRW-BTC", "KRW-BTC", False)
    assert server.route(example(1)) is None
    path = captures() / "bithumb" / OLD_FEED
    assert guess_venue(path) == "bithumb"
    with pytest.raises(TimelineError):
        load([path], server)


# recordings


def test_the_older_feed_gives_no_event() -> None:
    """Its 60 depth messages are left out, its 4 trade messages and 2 REST bodies put aside one
    by one, nothing is guessed.
    """
    offline = Offline(VENUE, [captures() / "bithumb" / OLD_FEED])
    found = list(events(offline))
    assert {event["type"] for event in found} == {"quarantine", "status"}
    raws = [
        json.loads(line.raw)
        for line in read([captures() / "bithumb" / OLD_FEED])
        if line.kind == "recv"
    ]
    kinds = [raw.get("type") for raw in raws]
    assert (kinds.count("orderbookdepth"), kinds.count("transaction"), kinds.count(None)) == (
        60,
        4,
        3,
    )
    counts = offline.session.counts
    assert (counts["control_ignored"], counts["quarantine"], counts["control_alive"]) == (
        60,
        4 + 2,
        3,
    )


def test_every_example_is_understood() -> None:
    """Three books and one trade, as a second reading of the messages says; nothing is
    quarantined, no book is crossed.
    """
    path = captures() / "bithumb" / "examples.jsonl"
    offline = Offline(VENUE, [path])
    found = list(events(offline))
    raws = [json.loads(line.raw) for line in read([path])]
    books = [raw for raw in raws if raw.get("type") == "orderbook"]
    trades = [
        raw for raw in raws if raw.get("type") == "trade" and raw["stream_type"] == "REALTIME"
    ]
    assert offline.session.counts["quarantine"] == offline.session.books.crossed_events == 0
    assert [event for event in found if event["type"] in ("gap", "quarantine")] == []
    ours = [
        event for event in found if event["type"] == "book" and "recovered" not in event["flags"]
    ]
    for event, raw in zip(ours, books, strict=True):
        assert event["symbol"] == raw["code"]
        for side, name in (("bids", "bid"), ("asks", "ask")):
            rows = [
                (unit[f"{name}_price"], unit[f"{name}_size"]) for unit in raw["orderbook_units"]
            ]
            assert event[side] == [[str(price), str(size)] for price, size in rows if size]
    assert [event["trade_id"] for event in found if event["type"] == "trade"] == [
        str(raw["sequential_id"]) for raw in trades
    ]
