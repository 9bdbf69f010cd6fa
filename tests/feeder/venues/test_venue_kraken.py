"""Kraken: every recorded frame against a second reading of the raw messages, the depth rule, the
checksum, and what is refused.

Hand-written frames are shortened or continued from the recording mhadi_20260719 (BTC/USD,
2026-07-19).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tapecast.feeder.decode_command import events
from tapecast.feeder.offline import Offline
from tapecast.feeder.record.recording import read
from tapecast.feeder.replay.dialect import Route
from tapecast.feeder.replay.venues import DIALECTS, guess_venue
from tapecast.feeder.session.session import CommandKind
from tapecast.feeder.venues.kraken import VENUE
from tapecast.feeder.venues.spec import (
    Ack,
    Alive,
    Control,
    Exact,
    Ignored,
    InstrumentsError,
    Notice,
    ServerError,
    Topic,
)
from tapecast.protocol.schema import InstrumentKind, InstrumentState
from tests.support.captures import captures, recordings
from tests.support.feeder_frames import Feed

BOOKS = {
    "crossbook_20260802_v2_btcusd_d25.jsonl": (2052, 25),
    "crossbook_20260802_v2_ethusd_d25.jsonl": (1129, 25),
    "mhadi_20260719_v2_btcusd_d10.jsonl": (1254, 10),
}
"""Recording -> (book messages, depth)."""
V1 = "cf_20210417_ws_v1.p1.jsonl"

Sides = tuple[dict[Decimal, tuple[str, str]], dict[Decimal, tuple[str, str]]]


def messages(file: Path, channel: str) -> Iterator[dict[str, Any]]:
    """Yield the messages of a channel as plain Python reads them, numbers as they are written."""
    for line in read([file]):
        if line.kind == "recv":
            message = json.loads(line.raw, parse_float=str)
            if message.get("channel") == channel:
                yield message


def best_first(sides: Sides) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the texts of both sides, best first."""
    bids, asks = sides
    return [bids[price] for price in sorted(bids, reverse=True)], [
        asks[price] for price in sorted(asks)
    ]


def take_in(sides: Sides, message: dict[str, Any], depth: int) -> None:
    """Apply a book message by the venue's rule: set, delete, then cut both sides to the depth."""
    (body,) = message["data"]
    for side, name in zip(sides, ("bids", "asks"), strict=True):
        if message["type"] == "snapshot":
            side.clear()
        for level in body[name]:
            side[Decimal(level["price"])] = level["price"], level["qty"]
            if not Decimal(level["qty"]):
                del side[Decimal(level["price"])]
        for price in sorted(side, reverse=name == "bids")[depth:]:
            del side[price]


def written_checksum(sides: Sides) -> int:
    """Return the CRC32 as the venue documents it, over the texts as they are written."""
    bids, asks = best_first(sides)
    digits = (
        text.replace(".", "").lstrip("0") for level in asks[:10] + bids[:10] for text in level
    )
    return zlib.crc32("".join(digits).encode())


def nanoseconds(text: str) -> int:
    """Return ns since 1970 of a time with microseconds."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def microseconds(text: str) -> int:
    """Return ns since 1970 of seconds with six digits behind the point."""
    return int(text.replace(".", "")) * 1000


def plain(text: str) -> str:
    """Return a written number as events have it, without the zeros at its end."""
    return text.rstrip("0").rstrip(".") if "." in text else text


@pytest.mark.parametrize("name", BOOKS)
def test_every_recorded_book_message_is_proved(name: str) -> None:
    """After every message the consumer's levels are the venue's: checksums agree, nothing is
    lost, crossed or refused.
    """
    file, (count, depth) = captures() / "kraken" / name, BOOKS[name]
    offline = Offline(VENUE, [file])
    found = list(events(offline))
    assert [event for event in found if event["type"] in ("gap", "quarantine")] == []
    counts = offline.session.counts
    assert (counts["checksum_ok"], counts["gaps"], counts["crossed"], counts["fallback"]) == (
        count,
        0,
        0,
        0,
    )
    books = (event for event in found if event["type"] == "book")
    truth: Sides = ({}, {})
    ours: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})
    seen = cut = 0
    for message in messages(file, "book"):
        (body,) = message["data"]
        take_in(truth, message, depth)
        assert written_checksum(truth) == body["checksum"], seen
        event = next(books)
        while True:
            assert event["ts_exchange_ns"] == nanoseconds(body["timestamp"])
            for side, levels in zip(ours, (event["bids"], event["asks"]), strict=True):
                if event["snapshot"]:
                    side.clear()
                side.update((Decimal(price), Decimal(quantity)) for price, quantity in levels)
                for price in [price for price, quantity in side.items() if not quantity]:
                    del side[price]
            if max(map(len, ours)) <= depth:
                break
            event = next(books)
            assert all(quantity == "0" for _, quantity in event["bids"] + event["asks"])
            cut += 1
        for side, texts in zip(ours, truth, strict=True):
            assert side == {price: Decimal(quantity) for price, (_, quantity) in texts.items()}, (
                seen
            )
        assert max(ours[0]) < min(ours[1]), "crossed"
        seen += 1
    assert next(books, None) is None
    assert (seen, cut) == (count, counts["truncated"])
    assert cut > 100
    (instrument,) = offline.session.instruments
    own = offline.session.books.book(instrument.instrument_id)
    assert own is not None
    assert own.depth == (len(ours[0]), len(ours[1]))
    assert instrument.depth == depth


def test_every_recorded_trade_is_published() -> None:
    """Price, quantity, taker's side, number and time of all 42 trades, in order, and their
    numbers follow each other.
    """
    file = captures() / "kraken" / "agenttrade_20260914_v2_btcusd_trade.jsonl"
    names = ("symbol", "price", "quantity", "side", "trade_id", "ts_exchange_ns")
    got = [
        tuple(event[name] for name in names)
        for event in events(Offline(VENUE, [file]))
        if event["type"] == "trade"
    ]
    wanted = [
        (
            trade["symbol"],
            plain(trade["price"]),
            plain(trade["qty"]),
            trade["side"],
            str(trade["trade_id"]),
            nanoseconds(trade["timestamp"]),
        )
        for message in messages(file, "trade")
        for trade in message["data"]
    ]
    assert got == wanted
    ids = [int(row[4]) for row in got]
    assert ids == list(range(ids[0], ids[0] + 42))


def test_every_frame_of_the_recorded_streams_is_understood() -> None:
    """No frame of the recorded streams is quarantined."""
    for file in recordings("kraken"):
        if file.name != "examples.jsonl":
            assert [
                event for event in events(Offline(VENUE, [file])) if event["type"] == "quarantine"
            ] == [], file.name


def test_every_recorded_message_of_version_1_is_an_event() -> None:
    """Arrays become the books and trades that they are: after each one our book is the one whose
    texts have its checksum.
    """
    file = captures() / "kraken" / V1
    offline = Offline(VENUE, [file])
    found = list(events(offline))
    assert {event["type"] for event in found} == {"status", "instrument", "book", "trade"}
    assert (len(offline.session.known), offline.session.counts["crossed"]) == (293, 0)
    books = (event for event in found if event["type"] == "book")
    trades = (event for event in found if event["type"] == "trade")
    truths: dict[str, Sides] = {}
    ours: dict[str, tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]] = {}
    seen = proved = traded = 0
    for line in read([file]):
        if line.kind != "recv" or not line.raw.startswith(b"["):
            continue
        _, *bodies, channel, pair = json.loads(line.raw)
        symbol = pair.replace("XBT", "BTC")
        if channel == "trade":
            for price, quantity, time, side, *_ in bodies[0]:
                event = next(trades)
                assert (event["symbol"], event["price"], event["quantity"]) == (
                    symbol,
                    plain(price),
                    plain(quantity),
                )
                assert (event["side"], event["ts_exchange_ns"]) == (
                    {"b": "buy", "s": "sell"}[side],
                    microseconds(time),
                )
                traded += 1
        if channel != "book-1000":
            continue
        body = {key: value for part in bodies if part for key, value in part.items()}
        bids, asks = body.get("bs", body.get("b", [])), body.get("as", body.get("a", []))
        levels = {
            name: [{"price": row[0], "qty": row[1]} for row in rows]
            for name, rows in (("bids", bids), ("asks", asks))
        }
        truth, our = truths.setdefault(symbol, ({}, {})), ours.setdefault(symbol, ({}, {}))
        take_in(truth, {"type": "snapshot" if "as" in body else "update", "data": [levels]}, 1000)
        if "c" in body:
            assert written_checksum(truth) == int(body["c"]), line.number
            proved += 1
        event = next(books)
        assert (event["symbol"], event["snapshot"]) == (symbol, "as" in body)
        assert event["ts_exchange_ns"] == max(microseconds(row[2]) for row in bids + asks)
        for side, texts in zip(our, (event["bids"], event["asks"]), strict=True):
            for price, quantity in texts:
                side[Decimal(price)] = Decimal(quantity)
                if quantity == "0":
                    del side[Decimal(price)]
        assert our == tuple(
            {price: Decimal(text) for price, (_, text) in side.items()} for side in truth
        ), line.number
        seen += 1
    assert (seen, proved, traded) == (2973, 2963, 7)
    assert next(books, None) is next(trades, None) is None


@pytest.mark.parametrize(
    "frame",
    [
        b"[",
        b"[]",
        b"[1,2,3,4]",
        b'[1,{"as":1},"book-25","XBT/USD"]',
        b'[1,[["1"]],"trade","XBT/USD"]',
        b'[1,[["1","2","x","b"]],"trade","XBT/USD"]',
        b'[1,{"a":[["1"]]},"book-25","XBT/USD"]',
        b'[343,["1675209613.118218"],"unheard-of","XBT/USD"]',
    ],
)
def test_odd_arrays_are_put_aside(frame: bytes) -> None:
    """What only resembles version 1 becomes no trade and no level."""
    one = feed()
    assert [event for event in one.frame(frame) if event["type"] in ("trade", "book")] == []
    assert one.session.quarantined


def level(price: str, quantity: str) -> str:
    """Return one level as the venue writes it."""
    return f'{{"price":{price},"qty":{quantity}}}'


BIDS = [
    ("64525.0", "0.53807066"),
    ("64524.2", "0.03095975"),
    ("64524.1", "0.24102802"),
    ("64524.0", "0.77490540"),
]
BIDS += [
    ("64523.3", "0.00154900"),
    ("64522.9", "0.00005100"),
    ("64521.9", "0.77493047"),
    ("64521.5", "0.00123904"),
]
BIDS += [("64521.4", "0.37127532"), ("64521.3", "0.47213100")]
ASKS = [
    ("64525.1", "0.01077490"),
    ("64526.1", "0.00005100"),
    ("64529.3", "0.00005100"),
    ("64530.8", "0.03095975"),
]
ASKS += [
    ("64530.9", "0.15498085"),
    ("64531.0", "0.77482234"),
    ("64532.2", "0.23247128"),
    ("64532.5", "0.00005100"),
]
ASKS += [("64532.6", "0.03099208"), ("64532.8", "1.23479983")]
Texts = list[tuple[str, str]]


def book(kind: str, bids: Texts, asks: Texts, checksum: int) -> bytes:
    """Return a book message."""
    sides = f'"bids":[{",".join(level(*row) for row in bids)}],"asks":[{",".join(level(*row) for row in asks)}]'
    body = f'{{"symbol":"BTC/USD",{sides},"checksum":{checksum},"timestamp":"2026-07-19T17:54:39.753424Z"}}'
    return f'{{"channel":"book","type":"{kind}","data":[{body}]}}'.encode()


SNAPSHOT = book("snapshot", BIDS, ASKS, 2175437505)
BETTER = book("update", [], [("64525.3", "0.00309336")], 1848203113)
BACK = book("update", [], [("64525.3", "0.00000000"), ("64532.8", "1.23479983")], 2175437505)
ACK = (
    b'{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"BTC/USD"},"success":true,'
    b'"time_in":"2026-07-19T17:54:39.614696Z","time_out":"2026-07-19T17:54:39.614741Z"}'
)


def feed() -> Feed:
    """Return a live-like session of BTC/USD, connected and subscribed."""
    out = Feed("kraken", "BTC/USD")
    out.session.on_connect("ws.1", out.now_ns, 0)
    out.session.on_subscribed(["BTC/USD"], "ws.1", out.now_ns)
    out.flush()
    return out


def books_of(found: list[dict[str, Any]]) -> list[tuple[bool, list[list[str]], list[list[str]]]]:
    """Return snapshot mark, bids and asks of the book events."""
    return [
        (event["snapshot"], event["bids"], event["asks"])
        for event in found
        if event["type"] == "book"
    ]


def test_a_level_that_falls_out_of_the_depth_is_deleted() -> None:
    """A better ask pushes the tenth out: a second event deletes it at the consumers, and the
    venue sends it again later.
    """
    one = feed()
    one.frame(ACK, SNAPSHOT)
    assert books_of(one.frame(BETTER)) == [
        (False, [], [["64525.3", "0.00309336"]]),
        (False, [], [["64532.8", "0"]]),
    ]
    assert len(one.book("BTC/USD")[1]) == 10
    assert books_of(one.frame(BACK)) == [(False, [], [["64525.3", "0"], ["64532.8", "1.23479983"]])]
    assert one.book("BTC/USD")[1][-1] == (Decimal("64532.8"), Decimal("1.23479983"))


def test_the_depth_is_the_acknowledged_one() -> None:
    """Ten levels under an acknowledged depth of 25 are a short book: an eleventh stays."""
    one = feed()
    one.frame(ACK.replace(b'"depth":10', b'"depth":25'), SNAPSHOT)
    assert len(books_of(one.frame(BETTER))) == 1
    assert len(one.book("BTC/USD")[1]) == 11


def test_without_an_acknowledgement_the_snapshot_tells_the_depth() -> None:
    """Ten levels a side are depth 10."""
    one = feed()
    one.frame(SNAPSHOT)
    assert len(books_of(one.frame(BETTER))) == 2


def test_a_wrong_checksum_is_a_gap_and_asks_for_a_new_subscription() -> None:
    """Live too, where nothing else shows a loss: the update is not published, nor any before the
    next snapshot.
    """
    one = feed()
    assert not one.session.options.verify_checksum
    one.frame(ACK, SNAPSHOT)
    one.session.commands.clear()
    found = one.frame(book("update", [("64524.9", "0.00005100")], [], 1848203113))
    (gap,) = found
    assert (gap["type"], gap["reason"], gap["expected"]) == ("gap", "checksum", 1848203113)
    assert [
        (command.kind, command.symbol, command.connection) for command in one.session.commands
    ] == [(CommandKind.RESUBSCRIBE, "BTC/USD", "ws.1")]
    assert books_of(one.frame(BETTER)) == []
    assert [snapshot for snapshot, _, _ in books_of(one.frame(SNAPSHOT))] == [True]
    assert len(books_of(one.frame(BETTER))) == 2


def test_exponents_without_a_definition_are_those_written() -> None:
    """Zeros at the end of a number count, because the checksum is over the digits as written."""
    written = VENUE.stream.written_exponents
    assert written is not None
    assert written(book("update", [("64525.0", "1.00000000")], [], 0)) == (-1, -8)
    assert written(book("update", [("64525", "1")], [], 0)) == (0, 0)
    one = feed()
    expected = zlib.crc32(b"645260100000000645250150000000")
    found = one.frame(
        book("snapshot", [("64525.0", "1.50000000")], [("64526.0", "1.00000000")], expected)
    )
    assert books_of(found) == [(True, [["64525", "1.5"]], [["64526", "1"]])]
    instrument = one.session.by_symbol["BTC/USD"]
    assert (instrument.price_exp, instrument.qty_exp) == (-1, -8)


@pytest.mark.parametrize(
    ("frame", "control"),
    [
        (b'{"channel":"heartbeat"}', Alive("heartbeat")),
        (
            b'{"channel":"status","type":"update","data":[{"system":"online","api_version":"v2"}]}',
            Alive("online"),
        ),
        (
            b'{"channel":"status","type":"update","data":[{"system":"maintenance","api_version":"v2"}]}',
            Notice("maintenance", "the venue is maintenance", reconnect=False),
        ),
        (ACK, Ack(None, "book", "BTC/USD", depth=10)),
        (
            b'{"method":"unsubscribe","req_id":4,"result":{"channel":"book","depth":10,"symbol":"BTC/USD"},"success":true}',
            Ack("4", "book", "BTC/USD"),
        ),
        (
            (
                b'{"error":"Currency pair not supported'
                b' BTC/XXX","method":"subscribe","req_id":3,"success":false,"symbol":"BTC/XXX"}'
            ),
            ServerError("subscribe", "Currency pair not supported BTC/XXX", "3", None, "BTC/XXX"),
        ),
        (
            b'{"method":"pong","time_in":"2026-07-19T17:54:39.6Z","time_out":"2026-07-19T17:54:39.6Z"}',
            Alive("pong"),
        ),
        (
            b'{"channel":"ticker","type":"update","data":[{"symbol":"ANETx/USD","bid":0,"ask":0}]}',
            Ignored("ticker"),
        ),
        (b'{"channel":"trade","type":"snapshot","data":[]}', Ignored("trade snapshot")),
        (b'{"channel":"unheard-of"}', None),
        (b'{"method":"unheard-of"}', None),
        (b'{"event":"heartbeat"}', Alive("heartbeat")),
        (
            b'{"connectionID":17843232920108168701,"event":"systemStatus","status":"online","version":"1.8.3"}',
            Alive("online"),
        ),
        (
            (
                b'{"channelID":1664,"channelName":"book-1000","event":"subscriptionStatus","pair":"XBT/CHF","status":"subscribed",'
                b'"subscription":{"depth":1000,"name":"book"}}'
            ),
            Ack(None, "book", "BTC/CHF", depth=1000),
        ),
        (
            (
                b'{"errorMessage":"Currency pair not'
                b' supported","event":"subscriptionStatus","pair":"A/B","status":"error",'
                b'"subscription":{"name":"book"}}'
            ),
            ServerError("subscribe", "Currency pair not supported", None, "book", "A/B"),
        ),
        (b'{"event":"unheard-of"}', None),
        (
            b'[325,["43770.20000","43770.30000","1633053779.916349","0.00917717","0.31670440"],"spread","XBT/USD"]',
            Ignored("spread"),
        ),
        (b'[320,{"as":[],"bs":[]},"book-25","XBT/USD"]', None),
        (b"", None),
    ],
)
def test_what_is_no_market_data(frame: bytes, control: Control | None) -> None:
    """Acknowledgements, errors, signs of life and channels without use here are told apart; the
    rest is not understood.
    """
    assert VENUE.stream.control(frame) == control


def test_subscriptions_name_one_channel_each() -> None:
    """A request has one channel; books come with a depth and a snapshot, trades without their
    past.
    """
    (only,) = VENUE.stream.subscribe(["BTC/USD", "ETH/USD"], ["book", "trade"], 7)
    assert [json.loads(frame) for frame in only.frames] == [
        {
            "method": "subscribe",
            "params": {
                "channel": "book",
                "symbol": ["BTC/USD", "ETH/USD"],
                "depth": 100,
                "snapshot": True,
            },
            "req_id": 7,
        },
        {
            "method": "subscribe",
            "params": {"channel": "trade", "symbol": ["BTC/USD", "ETH/USD"], "snapshot": False},
            "req_id": 8,
        },
    ]
    assert only.request_ids == ("7", "8")
    assert only.topics[2] == Topic("trade", "BTC/USD")
    assert VENUE.stream.unsubscribe is not None
    assert json.loads(VENUE.stream.unsubscribe([Topic("book", "BTC/USD")], 9)) == {
        "method": "unsubscribe",
        "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 100},
        "req_id": 9,
    }
    with pytest.raises(KeyError):
        VENUE.stream.subscribe(["BTC/USD"], ["ticker"], 1)
    assert VENUE.stream.requested("wss://ws.kraken.com/v2", only.frames[0]) == [
        Topic("book", "BTC/USD"),
        Topic("book", "ETH/USD"),
    ]


def test_recorded_pairs_are_defined_under_the_names_of_version_2() -> None:
    """XBT and XDG are BTC and DOGE; the exponents are the precisions; dark pools, which have no
    stream, are left out.
    """
    (body,) = (line.raw for line in read([captures() / "kraken" / V1]) if line.kind == "http")
    defs, rejected = VENUE.listing.parse(body)
    assert (len(defs), rejected) == (293, ())
    known = {definition.symbol: definition for definition in defs}
    bitcoin, doge = known["BTC/USD"], known["DOGE/USD"]
    assert (bitcoin.base, bitcoin.quote, bitcoin.kind) == ("BTC", "USD", InstrumentKind.SPOT)
    assert (bitcoin.price_exp, bitcoin.qty_exp, bitcoin.min_qty) == (-1, -8, Exact(2, -4))
    assert bitcoin.state is InstrumentState.UNKNOWN, "the answers of 2021 name no status"
    assert (doge.price_exp, doge.tick) == (-7, Exact(1, -7))
    assert not any("XBT" in symbol or "XDG" in symbol for symbol in known)
    assert VENUE.listing.symbols_of_pair("BTC", "USD") == ("BTC/USD",)


def test_a_coarser_tick_leaves_the_written_precision() -> None:
    """Prices are written with pair_decimals digits even where the tick is coarser."""
    pair = {
        "wsname": "XBT/USD",
        "pair_decimals": 1,
        "lot_decimals": 8,
        "tick_size": "5",
        "ordermin": "0.00005",
    }
    pair |= {"costmin": "0.5", "status": "online"}
    (only,), rejected = VENUE.listing.parse(
        json.dumps({"error": [], "result": {"XXBTZUSD": pair, "BAD": {}}}).encode()
    )
    assert (only.tick, only.price_exp, only.min_notional, only.state) == (
        Exact(50, -1),
        -1,
        Exact(5, -1),
        InstrumentState.TRADING,
    )
    assert len(rejected) == 1
    for body in (b"{", b'{"error":["EGeneral:Too many requests"]}'):
        with pytest.raises(InstrumentsError):
            VENUE.listing.parse(body)


def test_the_server_side_acknowledges_each_symbol() -> None:
    """Each symbol has its own answer; a frame belongs to its channel and symbol, in either
    version.
    """
    dialect = DIALECTS["kraken"]
    assert dialect.connect("/", {}) is None
    one = dialect.connect("/v2", {})
    assert one is not None
    (subscription,) = VENUE.stream.subscribe(["BTC/USD", "ETH/USD"], ["book"], 1)
    answers = [
        VENUE.stream.control(text.encode()) for text in one.receive(subscription.frames[0].decode())
    ]
    assert answers == [Ack("1", "book", "BTC/USD"), Ack("1", "book", "ETH/USD")]
    assert list(one.streams()) == ["book:BTC/USD", "book:ETH/USD"]
    assert VENUE.stream.unsubscribe is not None
    one.receive(VENUE.stream.unsubscribe([Topic("book", "ETH/USD")], 2).decode())
    assert list(one.streams()) == ["book:BTC/USD"]
    assert [VENUE.stream.control(text.encode()) for text in one.receive('{"method":"ping"}')] == [
        Alive("pong")
    ]
    for wrong in (
        "x",
        "[]",
        '{"method":"subscribe"}',
        '{"method":"buy","params":{}}',
        subscription.frames[0].decode(),
    ):
        refused = VENUE.stream.control(one.receive(wrong)[0].encode())
        assert isinstance(refused, ServerError), wrong
    assert dialect.route(SNAPSHOT) == Route("book:BTC/USD", "BTC/USD", False)
    assert dialect.route(b'{"channel":"heartbeat"}') is None
    assert dialect.route(b'[320,{"as":[],"bs":[]},"book-25","XBT/USD"]') == Route(
        "book:BTC/USD", "BTC/USD", False
    )
    assert dialect.route(b'[1,2,"unheard-of","XBT/USD"]') is None
    assert guess_venue(Path("kraken_btcusd.jsonl")) == "kraken"
