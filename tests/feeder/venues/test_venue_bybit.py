"""Bybit: each message variant becomes what `docs/venues/bybit.md` says, and spot and linear
never meet.

The oracle reads the recordings a second time with `json` and `Decimal` alone; the numbers are
those of the recordings' README.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tapecast.feeder.decode_command import events
from tapecast.feeder.offline import Offline
from tapecast.feeder.record.recording import universe
from tapecast.feeder.session.session import CommandKind
from tapecast.feeder.symbols.names import canonical
from tapecast.feeder.venues.bybit import VENUE as BYBIT
from tapecast.feeder.venues.spec import (
    Ack,
    Alive,
    Exact,
    Ignored,
    InstrumentsError,
    ServerError,
    Topic,
)
from tapecast.protocol.schema import InstrumentKind, InstrumentState
from tests.support.captures import captures
from tests.support.feeder_frames import Feed

LINEAR_SPOT = "cf_20260809_v5_linear_spot.p1.jsonl"
L1 = "cf_20250613_v5_l1.jsonl"
OB500 = "nautilus_20241201_linear_xrpusdt_ob500.jsonl"

EventDict = dict[str, Any]


def recorded(file: str) -> Path:
    """Return the path of a recording."""
    return captures() / "bybit" / file


def lines(file: str) -> list[dict[str, Any]]:
    """Return the lines of a recording."""
    return [json.loads(line) for line in recorded(file).read_text().splitlines()]


def frame(file: str, topic: str, kind: str) -> bytes:
    """Return the first recorded message of a topic and type."""
    head = f'"topic":"{topic}"'
    found = (line["raw"] for line in lines(file) if line["kind"] == "recv" and head in line["raw"])
    return next(raw for raw in found if f'"type":"{kind}"' in raw).encode()


def example(number: int) -> bytes:
    """Return a frame of the single messages."""
    return str(lines("examples.jsonl")[number - 1]["raw"]).encode()


def text(number: str) -> str:
    """Return a number as events spell it."""
    value = Decimal(number)
    return f"{value.normalize():f}" if value else "0"


def rows(levels: list[list[str]]) -> list[list[str]]:
    """Return levels as events spell them."""
    return [[text(price), text(quantity)] for price, quantity in levels]


def hashed(name: str) -> str:
    """Return the id of a trade whose venue names it by text."""
    return str(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))


STATS = {
    "markPrice": "mark_price",
    "indexPrice": "index_price",
    "fundingRate": "funding_rate",
    "openInterest": "open_interest",
}


def expected(file: str) -> Iterator[tuple[Any, ...]]:
    """Yield every market data event of a recording, in its order, as `seen` does."""
    for line in lines(file):
        body = json.loads(line["raw"]) if line["kind"] == "recv" else {}
        if "data" not in body:
            continue
        market = "spot" if (line["url"] or "").endswith("/spot") else "perpetual"
        channel, _, symbol = body["topic"].rpartition(".")
        data, where = body["data"], f"bybit.{market}.{symbol}"
        if channel == "publicTrade":
            for trade in data:
                values = text(trade["p"]), text(trade["v"]), trade["S"].lower(), hashed(trade["i"])
                yield "trade", where, trade["T"] * 1_000_000, *values
        elif channel == "orderbook.1":
            yield "bbo", where, body["cts"] * 1_000_000, rows(data["b"])[0], rows(data["a"])[0]
        elif channel.startswith("orderbook."):
            book = body["type"] == "snapshot", rows(data["b"]), rows(data["a"])
            yield "book", where, body["cts"] * 1_000_000, *book
        elif channel == "tickers":
            for name, kind in STATS.items():
                if name in data:
                    yield "stat", where, body["ts"] * 1_000_000, kind, text(data[name])


def seen(event: EventDict) -> tuple[Any, ...]:
    """Return what an event says of the market."""
    names = {
        "trade": ("price", "quantity", "side", "trade_id"),
        "bbo": ("bid", "ask"),
        "book": ("snapshot", "bids", "asks"),
        "stat": ("kind_of", "value"),
    }[event["type"]]
    return (
        event["type"],
        event["instrument"],
        event["ts_exchange_ns"],
        *(event[name] for name in names),
    )


@pytest.mark.parametrize(("file", "counts"), [
    (LINEAR_SPOT, {"book": 1417, "trade": 242, "stat": 164}),
    (L1, {"bbo": 337}),
    (OB500, {"book": 50}),
])  # fmt: skip
def test_a_recording_becomes_what_its_messages_say(file: str, counts: dict[str, int]) -> None:
    """Values, sides, ids, times, kinds, order and number of events; no gap, no crossed book,
    nothing put aside.
    """
    offline = Offline(BYBIT, [recorded(file)])
    found = list(events(offline))
    assert {event["type"] for event in found} <= {
        "trade",
        "book",
        "bbo",
        "stat",
        "instrument",
        "status",
    }
    ours = [seen(event) for event in found if event["type"] not in ("instrument", "status")]
    assert ours == list(expected(file))
    assert Counter(event[0] for event in ours) == counts
    session = offline.session
    assert (session.counts["gaps"], session.counts["quarantine"], session.books.crossed_events) == (
        0,
        0,
        0,
    )
    assert session.counts["old_update"] == 0


def test_deltas_without_statistics_and_candles_give_nothing() -> None:
    """536 ticker messages change none of the four statistics, 62 are candles; 17
    acknowledgements are no data.
    """
    offline = Offline(BYBIT, [recorded(LINEAR_SPOT)])
    for _ in offline.run():
        pass
    counts = offline.session.counts
    assert (counts["suppressed"], counts["control_ignored"], counts["control_ack"]) == (536, 62, 17)


def test_depth_one_is_a_bbo_of_the_connections_market() -> None:
    """The URL of a connection tells spot from linear: four perpetuals, six spot pairs."""
    found = list(events(Offline(BYBIT, [recorded(L1)])))
    kinds = {event["instrument"] for event in found if event["type"] == "bbo"}
    assert Counter(name.split(".")[1] for name in kinds) == {"perpetual": 4, "spot": 6}
    assert Counter(event["kind"] for event in found if event["type"] == "bbo") == {
        "perpetual": 198,
        "spot": 139,
    }


def test_of_the_single_examples_only_the_foreign_ones_are_quarantined() -> None:
    """Inverse contracts, options, the retired liquidation topic and depth-1 deltas of 2023 are
    put aside one by one.
    """
    offline = Offline(BYBIT, [recorded("examples.jsonl")])
    found = [offline.lines for step in offline.run() for _ in step.quarantined]
    assert found == [1, 2, 4, 7, 8, 10, 11, *range(13, 19), 22]


def two_markets(folder: Path, *, urls: bool) -> Path:
    """Write one symbol's books and trades of both markets as a recording and return it."""
    base = "wss://stream.bybit.com/v5/public/"
    told = [
        ("ws.1", "linear", frame(LINEAR_SPOT, "orderbook.200.BTCUSDT", "snapshot")),
        ("ws.2", "spot", example(23)),
        ("ws.1", "linear", frame(LINEAR_SPOT, "publicTrade.BTCUSDT", "snapshot")),
        ("ws.2", "spot", example(19)),
        ("ws.1", "linear", frame(LINEAR_SPOT, "orderbook.200.BTCUSDT", "delta")),
    ]
    path = folder / "both.jsonl"
    with path.open("w") as file:
        for conn, market, raw in told:
            url = base + market if urls else None
            file.write(
                json.dumps(
                    {"ts": None, "conn": conn, "url": url, "kind": "recv", "raw": raw.decode()}
                )
                + "\n"
            )
    return path


@pytest.mark.parametrize("urls", [True, False], ids=["by URL", "by the order of keys"])
def test_one_symbol_of_two_markets_is_two_instruments(tmp_path: Path, *, urls: bool) -> None:
    """BTCUSDT spot and BTCUSDT perpetual keep their own books, trades and ids."""
    path = two_markets(tmp_path, urls=urls)
    offline = Offline(BYBIT, [path])
    found = list(events(offline))
    assert universe([path], BYBIT).symbols == ("BTCUSDT", "spot:BTCUSDT")
    assert [event["instrument"] for event in found if event["type"] in ("book", "trade")] == [
        "bybit.perpetual.BTCUSDT",
        "bybit.spot.BTCUSDT",
        "bybit.perpetual.BTCUSDT",
        *["bybit.spot.BTCUSDT"] * 4,
        "bybit.perpetual.BTCUSDT",
    ]
    assert {event["symbol"] for event in found if event["type"] == "instrument"} == {"BTCUSDT"}
    session = offline.session
    depths = [
        session.books.book(session.by_symbol[key].instrument_id)
        for key in ("BTCUSDT", "spot:BTCUSDT")
    ]
    assert [book is not None and book.depth for book in depths][1] == (1, 1)
    assert session.counts["gaps"] == 0


def test_ids_of_spot_are_numbers_and_those_of_linear_hashes() -> None:
    """Digits stay the venue's number; a UUID becomes its hash, and says so."""
    feed = Feed("bybit", "spot:BTCUSDT", "LTCUSDT", accept_any=False)
    spot = feed.frame(example(19))
    assert [(event["trade_id"], event["flags"]) for event in spot] == [
        (str(number), []) for number in range(2290000000050703789, 2290000000050703793)
    ]
    (linear,) = feed.frame(example(3))
    assert (linear["trade_id"], linear["flags"]) == (
        hashed("4c7b6bdc-b4a3-5716-9c7b-bbe01dc7072f"),
        ["hashed_id"],
    )
    assert (linear["side"], linear["kind"]) == ("buy", "perpetual")


@pytest.mark.parametrize(("block", "retail", "flags"), [
    (b"false", b"false", []),
    (b"true", b"false", ["block"]),
    (b"false", b"true", ["off_book"]),
    (b"true", b"true", ["block", "off_book"]),
])  # fmt: skip
def test_trades_that_did_not_meet_in_the_book_are_flagged(
    block: bytes, retail: bytes, flags: list[str]
) -> None:
    """BT is a block trade, RPI retail price improvement; all recorded ones are neither."""
    feed = Feed("bybit", "BTCUSDT")
    sent = frame(LINEAR_SPOT, "publicTrade.BTCUSDT", "snapshot")
    (event,) = feed.frame(
        sent.replace(b'"BT":false', b'"BT":' + block).replace(b'"RPI":false', b'"RPI":' + retail)
    )
    assert event["flags"] == ["hashed_id", *flags]
    assert feed.session.counts["fallback"] == 0


def test_a_trade_of_unknown_marks_is_not_a_trade() -> None:
    """Another value than true and false has no evidence."""
    feed = Feed("bybit", "LTCUSDT")
    assert feed.frame(example(3).replace(b'"BT":false', b'"BT":"maybe"')) == []
    assert len(feed.session.quarantined) == 1


def test_decoding_prints_the_text_behind_a_hash() -> None:
    """The wire carries the hash; `decode` has the message and says what was hashed, and of a
    number nothing.
    """
    found = [
        event
        for event in events(Offline(BYBIT, [recorded(LINEAR_SPOT)]))
        if event["type"] == "trade"
    ]
    assert len(found) == 242
    assert all(hashed(event["trade_id_text"]) == event["trade_id"] for event in found)
    assert found[0]["trade_id_text"] == "a9188a0a-82bc-50de-be60-03eedbe3cdd7"
    trades = [
        event
        for event in events(Offline(BYBIT, [recorded("examples.jsonl")]))
        if event["type"] == "trade"
    ]
    assert [event.get("trade_id_text") for event in trades] == [
        "4c7b6bdc-b4a3-5716-9c7b-bbe01dc7072f",
        *[None] * 5,
    ]


def test_a_liquidated_position_is_told_by_the_order_that_closes_it() -> None:
    """The venue names the position: a short one (Sell) is closed by buying."""
    feed = Feed("bybit", "PIPPINUSDT")
    (event,) = feed.frame(example(12))
    assert (event["type"], event["side"], event["price"], event["quantity"]) == (
        "liquidation",
        "buy",
        "0.02456",
        "2846",
    )
    assert event["ts_exchange_ns"] == 1_740_480_207_110_000_000


def test_a_funding_rate_says_when_it_is_due() -> None:
    """The seconds from the message to the next funding; a delta without that time does not."""
    feed = Feed("bybit", "BTCUSDT")
    found = {
        event["kind_of"]: event
        for event in feed.frame(frame(LINEAR_SPOT, "tickers.BTCUSDT", "snapshot"))
    }
    assert found["funding_rate"]["value"] == "0.0001"
    assert found["funding_rate"]["aux"] == (1_786_320_000_000 - 1_786_310_817_583) // 1000
    assert found["open_interest"]["value"] == "59891.732"


def book(
    kind: str, update: int, bid: str, ask: str, *, symbol: str = "BTCUSDT", depth: int = 50
) -> bytes:
    """Return an `orderbook` message of one level a side in the documented layout, figures as on
    2026-08-09.
    """
    data = {"s": symbol, "b": [[bid, "1.5"]], "a": [[ask, "0.2"]], "u": update, "seq": 753843913870}
    body = {
        "topic": f"orderbook.{depth}.{symbol}",
        "type": kind,
        "ts": 1786310818130,
        "data": data,
        "cts": 1786310818129,
    }
    return msgspec.json.encode(body)


def kinds(found: list[EventDict]) -> list[str]:
    """Return the types of events, statuses with their state."""
    return [event["state"] if event["type"] == "status" else event["type"] for event in found]


def test_updates_count_up_by_one() -> None:
    """A jump is a loss; then nothing until the snapshot of a new subscription, asked for on the
    same connection.
    """
    feed = Feed("bybit", "spot:BTCUSDT")
    feed.session.on_url("ws.7", "wss://stream.bybit.com/v5/public/spot")
    assert kinds(feed.frame(book("snapshot", 100, "65114.2", "65114.3"), connection="ws.7")) == [
        "book",
        "live",
    ]
    assert kinds(feed.frame(book("delta", 101, "65114.1", "65114.4"), connection="ws.7")) == [
        "book"
    ]
    assert feed.frame(book("delta", 101, "65114.1", "65114.4"), connection="ws.7") == [], (
        "the same again"
    )
    (gap,) = feed.frame(book("delta", 103, "65114.0", "65114.5"), connection="ws.7")
    assert (gap["type"], gap["expected"], gap["got"], gap["instrument"]) == (
        "gap",
        102,
        103,
        "bybit.spot.BTCUSDT",
    )
    (command,) = feed.session.commands
    assert (command.kind, command.symbol, command.connection) == (
        CommandKind.RESUBSCRIBE,
        "spot:BTCUSDT",
        "ws.7",
    )
    assert feed.frame(book("delta", 104, "65114.0", "65114.5"), connection="ws.7") == []
    assert kinds(feed.frame(book("snapshot", 110, "65114.2", "65114.3"), connection="ws.7")) == [
        "book",
        "live",
    ]


def test_updates_that_go_back_are_a_loss() -> None:
    """Without a snapshot a smaller count means that the venue began anew and that the beginning
    is missing.
    """
    feed = Feed("bybit", "BTCUSDT")
    feed.frame(book("snapshot", 100, "65114.2", "65114.3"))
    (gap,) = feed.frame(book("delta", 57, "65114.1", "65114.4"))
    assert (gap["type"], gap["expected"], gap["got"]) == ("gap", 101, 57)


@pytest.mark.parametrize("kind", ["snapshot", "delta"])
def test_update_one_replaces_the_book(kind: str) -> None:
    """After a restart of its service the venue counts from 1 and sends the whole book, whatever
    it calls the message.
    """
    feed = Feed("bybit", "BTCUSDT")
    feed.frame(book("snapshot", 100, "65114.2", "65114.3"))
    (event,) = feed.frame(book(kind, 1, "65000.1", "65000.2"))
    assert (event["snapshot"], event["bids"]) == (True, [["65000.1", "1.5"]])
    own = feed.session.books.book(feed.session.by_symbol["BTCUSDT"].instrument_id)
    assert own is not None
    assert own.depth == (1, 1)
    assert kinds(feed.frame(book("delta", 2, "65000.0", "65000.3"))) == ["book"]


def test_a_snapshot_replaces_a_live_book() -> None:
    """It may come at any time, with any count."""
    feed = Feed("bybit", "BTCUSDT")
    feed.frame(book("snapshot", 100, "65114.2", "65114.3"))
    (event,) = feed.frame(book("snapshot", 90, "65113.0", "65113.1"))
    assert event["snapshot"]
    assert kinds(feed.frame(book("delta", 91, "65112.9", "65113.2"))) == ["book"]


def test_a_frame_of_the_other_market_is_not_taken_for_a_subscribed_symbol() -> None:
    """A linear feed that is sent a spot book puts it aside."""
    feed = Feed("bybit", "BTCUSDT")
    feed.session.on_url("ws.1", "wss://stream.bybit.com/v5/public/spot")
    assert feed.frame(book("snapshot", 100, "65114.2", "65114.3")) == []
    (message,) = feed.session.quarantined
    assert "'BTCUSDT'" in message.reason


@pytest.mark.parametrize(("key", "kind"), [
    ("BTCUSDT", InstrumentKind.PERPETUAL),
    ("1000PEPEPERP", InstrumentKind.PERPETUAL),
    ("BTCUSDT-25DEC26", InstrumentKind.FUTURE),
    ("spot:BTCUSDT", InstrumentKind.SPOT),
    ("spot:BTCUSD1", InstrumentKind.SPOT),
    ("BTCUSD", None),
    ("BTCUSDU23", None),
    ("BTC-30JUN23-45000-P", None),
    ("spot:BTCUSDT-25DEC26", None),
    ("inverse:BTCUSD", None),
    ("btcusdt", None),
    ("", None),
    ("spot:", None),
])  # fmt: skip
def test_market_and_form_tell_the_kind(key: str, kind: InstrumentKind | None) -> None:
    """Inverse contracts and options are of no market here."""
    assert BYBIT.kind_of(key) is kind


def test_recorded_instruments_are_read_whole() -> None:
    """800 linear contracts and 557 spot pairs; the same symbol is defined once in each market."""
    linear, spot = (
        BYBIT.listing.parse(line["raw"].encode())
        for line in lines(LINEAR_SPOT)
        if line["kind"] == "http"
    )
    assert (len(linear.defs), linear.rejected, len(spot.defs), spot.rejected) == (800, (), 557, ())
    assert Counter(defn.kind for defn in linear.defs) == {
        InstrumentKind.PERPETUAL: 760,
        InstrumentKind.FUTURE: 40,
    }
    known = {defn.key: defn for defn in (*linear.defs, *spot.defs)}
    assert len(known) == 1357
    perpetual, pair = known["BTCUSDT"], known["spot:BTCUSDT"]
    assert (perpetual.tick, perpetual.lot, perpetual.min_notional) == (
        Exact(1, -1),
        Exact(1, -3),
        Exact(5, 0),
    )
    assert (pair.tick, pair.lot, pair.min_qty, pair.min_notional) == (
        Exact(1, -1),
        Exact(1, -6),
        Exact(1, -6),
        Exact(5, 0),
    )
    assert (perpetual.symbol, pair.symbol, canonical(perpetual), canonical(pair)) == (
        "BTCUSDT",
    ) * 2 + ("BTC-USDT",) * 2
    future = known["BTCUSDT-25DEC26"]
    assert (future.kind, future.expiry_ns, future.state) == (
        InstrumentKind.FUTURE,
        1_798_185_600_000_000_000,
        InstrumentState.TRADING,
    )


def test_a_page_that_names_a_cursor_is_continued() -> None:
    """The next request has the cursor, decoded because the client encodes it again; the last
    page and a refusal end the list.
    """
    (linear, _) = BYBIT.listing.requests()
    assert BYBIT.listing.next_page is not None
    body = {
        "retCode": 0,
        "result": {"category": "linear", "list": [], "nextPageCursor": "first%3D1%26last%3D500"},
    }
    second = BYBIT.listing.next_page(linear, msgspec.json.encode(body))
    assert second is not None
    assert dict(second.query) == {
        "category": "linear",
        "status": "Trading",
        "limit": "1000",
        "cursor": "first=1&last=500",
    }
    body["result"]["nextPageCursor"] = "page2"  # type: ignore[index]
    third = BYBIT.listing.next_page(second, msgspec.json.encode(body))
    assert third is not None
    assert [value for name, value in third.query if name == "cursor"] == ["page2"]
    body["result"]["nextPageCursor"] = ""  # type: ignore[index]
    assert BYBIT.listing.next_page(third, msgspec.json.encode(body)) is None
    assert BYBIT.listing.next_page(linear, b"<html>") is None


def test_a_refused_list_is_told() -> None:
    """An error code or another category is no list."""
    for bad in (
        {"retCode": 10006, "retMsg": "Too many visits!"},
        {"retCode": 0, "result": {"category": "option"}},
    ):
        with pytest.raises(InstrumentsError):
            BYBIT.listing.parse(msgspec.json.encode(bad))


def test_subscriptions_go_to_the_markets_connection() -> None:
    """At most ten arguments a request; spot has no statistics and no liquidations, and asking
    would fail the request.
    """
    symbols = ["BTCUSDT", "spot:BTCUSDT", "spot:ETHUSDT"]
    linear, spot = BYBIT.stream.subscribe(
        symbols, ["orderbook.50", "publicTrade", "tickers", "allLiquidation"], 4
    )
    assert (linear.route, spot.route) == ("linear", "spot")
    assert [json.loads(part) for part in (*linear.frames, *spot.frames)] == [
        {
            "req_id": "4",
            "op": "subscribe",
            "args": [
                "orderbook.50.BTCUSDT",
                "publicTrade.BTCUSDT",
                "tickers.BTCUSDT",
                "allLiquidation.BTCUSDT",
            ],
        },
        {
            "req_id": "5",
            "op": "subscribe",
            "args": [
                "orderbook.50.BTCUSDT",
                "orderbook.50.ETHUSDT",
                "publicTrade.BTCUSDT",
                "publicTrade.ETHUSDT",
            ],
        },
    ]
    assert Topic("orderbook.50", "spot:ETHUSDT") in spot.topics
    many = BYBIT.stream.subscribe(
        [f"spot:A{number}USDT" for number in range(300)], ["orderbook.50", "publicTrade"], 1
    )
    assert [len(part.topics) for part in many] == [500, 100]
    assert all(
        len(json.loads(part)["args"]) <= 10 for subscription in many for part in subscription.frames
    )
    ids = [request_id for part in many for request_id in part.request_ids]
    assert ids == [str(number) for number in range(1, 61)]
    with pytest.raises(KeyError):
        BYBIT.stream.subscribe(symbols, ["kline.1"], 1)


def test_one_book_is_left_and_taken_again_under_its_native_name() -> None:
    """The qualifier is ours, not the venue's."""
    assert BYBIT.stream.unsubscribe is not None
    sent = BYBIT.stream.unsubscribe([Topic("orderbook.200", "spot:BTCUSDT")], 9)
    assert json.loads(sent) == {
        "req_id": "9",
        "op": "unsubscribe",
        "args": ["orderbook.200.BTCUSDT"],
    }


def test_recorded_requests_name_topics_of_their_market() -> None:
    """The URL qualifies what a sent frame asks for."""
    asked = [
        BYBIT.stream.requested(line["url"], line["raw"].encode())
        for line in lines(L1)
        if line["kind"] == "send"
    ]
    assert asked[0] == [Topic("orderbook.1", "BANDUSDT")]
    assert [Topic("orderbook.1", "spot:OPUSDC")] in asked
    assert BYBIT.stream.requested("wss://stream.bybit.com/v5/public/linear", b"") == []
    assert BYBIT.stream.requested("", b"{") == []


CONTROL = [
    (
        b'{"success":true,"ret_msg":"","conn_id":"d8bu1olkndm7crnfs1e0-j6akw","req_id":"","op":"subscribe"}',
        Ack(),
    ),
    (
        b'{"success":true,"ret_msg":"subscribe","conn_id":"1764937c","req_id":"7","op":"subscribe"}',
        Ack("7"),
    ),
    (b'{"success":true,"ret_msg":"","conn_id":"d8bu1","req_id":"8","op":"unsubscribe"}', Ack("8")),
    (
        b'{"success":true,"ret_msg":"pong","conn_id":"0970e817","req_id":"","op":"ping"}',
        Alive("pong"),
    ),
    (
        b'{"success":false,"ret_msg":"args size >10","conn_id":"0970e817","op":"subscribe"}',
        ServerError("", "args size >10"),
    ),
    (
        b'{"topic":"kline.1.BTCUSDT","data":[],"ts":1786310818440,"type":"snapshot"}',
        Ignored("kline.1.BTCUSDT"),
    ),
    (
        b'{"topic":"orderbook.rpi.BTCUSDT","data":{},"type":"delta"}',
        Ignored("orderbook.rpi.BTCUSDT"),
    ),
    (b'{"topic":"orderbook.full.BTCUSDT","data":{},"type":"delta"}', None),
    (b'{"topic":"orderbook.1.BTCUSDT","type":"delta","data":{}}', None),
    (b'{"op":"auth"}', None),
    (b"[]", None),
    (b"{", None),
    (b"\xff", None),
]


@pytest.mark.parametrize(("sent", "meaning"), CONTROL)
def test_control_frames_mean_what_the_venue_documents(sent: bytes, meaning: object) -> None:
    """Answers, heartbeats and channels without market data are told from what is not understood."""
    assert BYBIT.stream.control(sent) == meaning


def test_requests_are_those_of_the_recording() -> None:
    """A recorded list is served to the same request, so its parameters are the recorded ones."""
    assert [dict(request.query)["category"] for request in BYBIT.listing.requests()] == [
        "linear",
        "spot",
    ]
    urls = [line["url"] for line in lines(LINEAR_SPOT) if line["kind"] == "http"]
    for request, url in zip(BYBIT.listing.requests(), urls, strict=True):
        assert BYBIT.recordings.is_listing(url)
        assert all(f"{key}={value}" in url for key, value in request.query)
