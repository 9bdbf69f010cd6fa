"""Coinbase Advanced Trade: what messages become or must not become, the connection's numbers,
the recording against an oracle.

Frames are those of the recording of 9 August 2026 (github bmoscon/cryptofeed) and of
`examples.jsonl`, or layouts of docs.cdp.coinbase.com with figures that occur there.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tapecast.feeder.connections.limits import Limits
from tapecast.feeder.decode_command import events
from tapecast.feeder.extract.exact import iso_ns
from tapecast.feeder.offline import Offline
from tapecast.feeder.record.recording import read
from tapecast.feeder.replay.dialect import BROADCAST, Route
from tapecast.feeder.replay.venues import DIALECTS, guess_venue
from tapecast.feeder.session.session import CommandKind
from tapecast.feeder.venues.coinbase import VENUE
from tapecast.feeder.venues.spec import (
    Ack,
    Alive,
    Exact,
    Ignored,
    InstrumentsError,
    ServerError,
    Topic,
)
from tapecast.protocol.naming import has_wildcard
from tapecast.protocol.schema import InstrumentKind, InstrumentState
from tests.support.captures import captures
from tests.support.feeder_frames import Feed

FILE = "cf_20260809_advanced_trade.p1.jsonl"


@cache
def frames() -> tuple[bytes, ...]:
    """Return the received frames of the recording; the index is their number."""
    return tuple(line.raw for line in read([captures() / "coinbase" / FILE]) if line.kind == "recv")


def message(channel: str, number: int, *parts: dict[str, Any]) -> bytes:
    """Return a message in the documented layout."""
    body = {
        "channel": channel,
        "timestamp": "2026-08-09T21:05:48.5Z",
        "sequence_num": number,
        "events": list(parts),
    }
    return json.dumps(body, separators=(",", ":")).encode()


def book(
    number: int, kind: str = "update", *rows: tuple[str, str, str], product: str = "BTC-USD"
) -> bytes:
    """Return an `l2_data` message; rows are side, price, quantity."""
    names = ("side", "price_level", "new_quantity")
    updates = [
        dict(zip(names, row, strict=True)) | {"event_time": "2026-08-09T21:05:48.210883Z"}
        for row in rows
    ]
    return message("l2_data", number, {"type": kind, "product_id": product, "updates": updates})


SNAPSHOT = (("bid", "65083.66", "0.20371215"), ("offer", "65083.67", "0.24290402"))
TRADE = {
    "product_id": "BTC-USD",
    "trade_id": "1068572091",
    "price": "65083.67",
    "size": "0.01034361",
} | {
    "time": "2026-08-09T21:05:48.167634Z",
    "side": "SELL",
}


def of(kind: str, found: list[Any]) -> list[dict[str, Any]]:
    """Return the events of one type."""
    return [event for event in found if event["type"] == kind]


def live(*, products: tuple[str, ...] = ("BTC-USD",)) -> Feed:
    """Return a session whose books are live, numbers 0 and up used."""
    feed = Feed("coinbase", *products)
    for number, product in enumerate(products):
        assert (
            len(of("book", feed.frame(book(number, "snapshot", *SNAPSHOT, product=product)))) == 1
        )
    return feed


# shapes


def test_a_snapshot_has_both_sides_and_the_time_of_its_rows() -> None:
    """`bid` and `offer`; the book's time is `event_time`, not the later `timestamp` of sending."""
    feed = Feed("coinbase", "BTC-USD")
    (event,) = of("book", feed.frame(book(0, "snapshot", *SNAPSHOT)))
    assert (event["snapshot"], event["kind"]) == (True, "spot")
    assert event["bids"] == [["65083.66", "0.20371215"]]
    assert event["asks"] == [["65083.67", "0.24290402"]]
    assert event["ts_exchange_ns"] == 1_786_309_548_210_883_000


def test_recorded_updates_follow_the_snapshot() -> None:
    """The first two updates behind the recorded snapshot of 5 MB: bids and offers, 0 deletes."""
    feed = Feed("coinbase", "BTC-USD")
    feed.frame(frames()[13])
    first, second = of("book", feed.frame(frames()[14], frames()[15]))
    assert (first["snapshot"], first["bids"][1]) == (False, ["65061.91", "0"])
    assert (second["bids"], second["asks"]) == (
        [],
        [["65106.54", "0.15361938"], ["65155.5", "0.00000011"]],
    )
    assert second["ts_exchange_ns"] == 1_786_309_548_264_069_000


def test_a_snapshot_larger_than_one_event_goes_on_as_deltas() -> None:
    """46,000 levels: 256 fragments of 83 at a time, and the book holds every level."""
    feed = Feed("coinbase", "BTC-USD")
    found = of("book", feed.frame(frames()[13]))
    assert [event["snapshot"] for event in found] == [True, False, False]
    updates = json.loads(frames()[13])["events"][0]["updates"]
    assert (
        sum(len(event["bids"]) + len(event["asks"]) for event in found)
        == len(updates)
        > 2 * 256 * 83
    )
    bids, asks = feed.book("BTC-USD")
    for side, name in ((bids, "bid"), (asks, "offer")):
        rows = (
            (Decimal(u["price_level"]), Decimal(u["new_quantity"]))
            for u in updates
            if u["side"] == name
        )
        assert sorted(side) == sorted(rows)


def test_an_update_before_its_snapshot_is_nothing() -> None:
    """Nothing is known of the book yet."""
    assert of("book", Feed("coinbase", "BTC-USD").frame(book(0, "update", *SNAPSHOT))) == []


def test_a_trade_has_the_other_side_than_its_maker() -> None:
    """The recorded maker sold at the best offer, so the taker bought; id and execution time are
    the trade's.
    """
    (event,) = of("trade", Feed("coinbase", "BTC-USD").frame(frames()[9]))
    assert (event["side"], event["price"], event["quantity"]) == ("buy", "65083.67", "0.01034361")
    assert (event["trade_id"], event["ts_exchange_ns"]) == ("1068572091", 1_786_309_548_167_634_000)


def test_a_batch_of_trades_keeps_its_order() -> None:
    """The example of 30 September 2026 (with `client_id`): several trades in one message."""
    rows = (captures() / "coinbase" / "examples.jsonl").read_text().splitlines()
    (raw,) = (row["raw"] for row in map(json.loads, rows) if "market_trades" in row["raw"])
    trades = json.loads(raw)["events"][0]["trades"]
    found = of("trade", Feed("coinbase", "ETH-USD").frame(raw.encode()))
    assert [event["trade_id"] for event in found] == [trade["trade_id"] for trade in trades]
    assert [event["side"] for event in found] == [
        {"SELL": "buy", "BUY": "sell"}[trade["side"]] for trade in trades
    ]


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 6, 7, 10, 35])
def test_old_trades_candles_tickers_and_answers_become_nothing(number: int) -> None:
    """Opening market_trades snapshots (newest first), candles, tickers, subscriptions and
    heartbeats, as recorded.
    """
    feed = Feed("coinbase", "BTC-USD", "ETH-USD")
    assert feed.frame(frames()[number]) == []
    assert not feed.session.quarantined


@pytest.mark.parametrize("frame", [
    book(1, "update", ("ask", "65083.67", "1")),
    book(1, "update", ("offer", "65083.67", "-1")),
    book(1, "update", ("offer", "", "1")),
    book(1, "update").replace(b'"updates":[]', b'"updates":[{"side":"bid","price_level":"1","new_quantity":"1"}]'),
    message("l2_data", 1, {"type": "update", "product_id": "BTC-USD", "updates": []},
            {"type": "update", "product_id": "BTC-USD", "updates": []}),
    message("l2_data", 1),
])  # fmt: skip
def test_a_book_message_that_is_not_understood_costs_its_book(frame: bytes) -> None:
    """An unknown side, a wrong number, no event time, several events: put aside; the book is
    suspect until a new snapshot.
    """
    feed = live()
    found = feed.frame(frame)
    assert of("book", found) == []
    assert len(feed.session.quarantined) == 1
    if b"BTC-USD" in frame:
        assert [(event["state"], event["reason"]) for event in of("status", found)] == [
            ("suspect", "quarantine")
        ]
        assert [command.kind for command in feed.session.commands] == [CommandKind.RESUBSCRIBE]
        assert of("book", feed.frame(book(2, "update", ("bid", "65083.66", "1")))) == []
        assert len(of("book", feed.frame(book(3, "snapshot", *SNAPSHOT)))) == 1


def test_trades_that_are_not_understood_are_put_aside_and_cost_no_book() -> None:
    """Unknown side, several products in one message: never a guess."""
    feed = live()
    for number, trades in enumerate(
        ([TRADE | {"side": "UNKNOWN"}], [TRADE, TRADE | {"product_id": "ETH-USD"}]), 1
    ):
        assert (
            feed.frame(message("market_trades", number, {"type": "update", "trades": trades})) == []
        )
    assert len(feed.session.quarantined) == 2
    assert feed.session.live_books() == 1


# the connection's numbers


@pytest.mark.parametrize(("frame", "number"), [
    (b'{"channel":"heartbeats","sequence_num":35,"events":[]}', 35),
    (b'{"channel":"heartbeats", "sequence_num" : 0 }', 0),
    (b'{"type":"error","message":"\\"sequence_num\\":5,"}', None),
    (b'{"sequence_num":1.5}', None),
    (b'{"sequence_num":"5"}', None),
    (b"", None),
])  # fmt: skip
def test_the_number_is_read_from_raw_bytes(frame: bytes, number: int | None) -> None:
    """Whatever the spacing; a text inside a string is no number of the message."""
    assert VENUE.stream.connection_number is not None
    assert VENUE.stream.connection_number(frame) == number


def test_every_message_of_any_channel_counts() -> None:
    """A candle, a heartbeat, an answer and a trade snapshot between two updates are no loss."""
    feed = live()
    found = feed.frame(
        message("candles", 1), message("heartbeats", 2), message("subscriptions", 3), message("ticker", 4),
        message("market_trades", 5, {"type": "snapshot", "trades": [TRADE]}), book(6, "update", ("bid", "65083.66", "1")),
    )  # fmt: skip
    assert len(of("book", found)) == 1
    assert of("gap", found) == []


def test_a_missing_number_costs_every_book_of_the_connection() -> None:
    """Whatever the missing message was: gaps for all books there, none elsewhere, one new
    connection, no update until then.
    """
    feed = live(products=("BTC-USD", "ETH-USD"))
    feed.frame(book(0, "snapshot", *SNAPSHOT, product="LTC-USD"), connection="ws.2")
    feed.session.subscribe(["LTC-USD"], 1)
    feed.frame(book(1, "snapshot", *SNAPSHOT, product="LTC-USD"), connection="ws.2")
    feed.session.commands.clear()
    found = feed.frame(message("heartbeats", 4))
    gaps = of("gap", found)
    assert {(event["symbol"], event["expected"], event["got"]) for event in gaps} == {
        ("BTC-USD", 2, 4),
        ("ETH-USD", 2, 4),
    }
    (command,) = feed.session.commands
    assert (command.kind, command.connection) == (CommandKind.RECONNECT, "ws.1")
    assert of("book", feed.frame(book(5, "update", ("bid", "65083.66", "1")))) == []
    assert (
        len(
            of(
                "book",
                feed.frame(
                    book(2, "update", ("bid", "1", "1"), product="LTC-USD"), connection="ws.2"
                ),
            )
        )
        == 1
    )
    assert feed.session.counts["connection_gaps"] == 1
    assert len(of("book", feed.frame(book(6, "snapshot", *SNAPSHOT)))) == 1


def test_a_new_connection_counts_from_its_own_start() -> None:
    """The first number of a connection that was made again is no gap."""
    feed = live()
    feed.session.on_connect("ws.1", feed.now_ns, 1)
    feed.session.on_connect("ws.1", feed.now_ns, 1)
    assert of("gap", feed.frame(book(0, "snapshot", *SNAPSHOT))) == []


def test_a_message_that_is_read_twice_counts_once() -> None:
    """A value finer than the instrument's exponents makes the session read the frame again."""
    feed = live()
    found = feed.frame(
        book(1, "update", ("bid", "65083.6600000001", "0.0000000001")),
        book(2, "update", ("bid", "1", "1")),
    )
    assert of("gap", found) == []
    assert feed.session.counts["exponent_changed"] == 2, "of the snapshot and of the first update"


# control


@pytest.mark.parametrize(("frame", "meaning"), [
    (message("subscriptions", 1, {"subscriptions": {"level2": ["BTC-USD"]}}), Ack()),
    (message("heartbeats", 1, {"heartbeat_counter": 41691}), Alive("heartbeats")),
    (message("ticker_batch", 1), Ignored("ticker_batch")),
    (message("status", 1), Ignored("status")),
    (b'{"type":"error","message":"rate limit exceeded"}', ServerError("error", "rate limit exceeded")),
    (b"", None), (b"{", None), (b"null", None), (b"[]", None), (b"\xff", None), (b'{"channel":5}', None),
    (message("user", 1), None), (message("something_new", 1), None), (message("l2_data", 1), None),
])  # fmt: skip
def test_control_messages_mean_what_the_venue_documents(frame: bytes, meaning: object) -> None:
    """Answers, heartbeats, refusals, channels without use; the rest is not understood."""
    assert VENUE.stream.control(frame) == meaning


# symbols, requests, configuration


@pytest.mark.parametrize(("symbol", "kind"), [
    ("BTC-USD", InstrumentKind.SPOT), ("00-USD", InstrumentKind.SPOT), ("1INCH-EUR", InstrumentKind.SPOT),
    ("BTC-PERP-INTX", None), ("BIT-28JUN24-CDE", None), ("btc-usd", None), ("BTCUSD", None), ("", None),
])  # fmt: skip
def test_a_name_tells_its_kind(symbol: str, kind: InstrumentKind | None) -> None:
    """Spot pairs; the derivatives have no evidence here."""
    assert VENUE.kind_of(symbol) is kind


def test_heartbeats_come_first_and_one_channel_a_message() -> None:
    """Every connection has its heartbeats; every topic is asked for once."""
    symbols = [f"A{number}-USD" for number in range(50)]
    first, second = VENUE.stream.subscribe(symbols, ["level2", "market_trades"], 1)
    for part in (first, second):
        requests = [json.loads(frame) for frame in part.frames]
        assert requests[0] == {"type": "subscribe", "channel": "heartbeats"}
        assert all(isinstance(request["channel"], str) for request in requests)
        assert [
            topic for frame in part.frames for topic in VENUE.stream.requested("", frame)
        ] == list(part.topics)
    assert len(first.topics) + len(second.topics) == 100
    with pytest.raises(KeyError):
        VENUE.stream.subscribe(symbols, ["ticker"], 1)


def test_one_book_can_be_left() -> None:
    """A book that is not trusted any more is left and subscribed again."""
    assert VENUE.stream.unsubscribe is not None
    frame = json.loads(VENUE.stream.unsubscribe([Topic("level2", "BTC-USD")], 9))
    assert frame == {"type": "unsubscribe", "channel": "level2", "product_ids": ["BTC-USD"]}


def test_the_packaged_configuration_fits_the_module() -> None:
    """Symbols, channels, endpoints and limits of the packaged file are ones the module knows."""
    text = (Path(__file__).parents[3] / "config" / "venues" / "coinbase.toml").read_text()
    table = tomllib.loads(text)["venue"]
    assert all(
        VENUE.kind_of(symbol) is not None for symbol in table["symbols"] if not has_wildcard(symbol)
    )
    assert set(table["channels"]) <= set(VENUE.stream.streams)
    assert set(table["endpoints"]) == set(VENUE.endpoints)
    assert msgspec.convert(table["limits"], Limits).rest_weight > 0


# instruments


def test_recorded_products_are_read_whole_without_second_names() -> None:
    """920 products, of which 400 are `-USDC` aliases whose messages carry the `-USD` name."""
    (body,) = (line.raw for line in read([captures() / "coinbase" / FILE]) if line.kind == "http")
    found = VENUE.listing.parse(body)
    assert (len(found.defs), found.rejected) == (520, ())
    known = {defn.symbol: defn for defn in found.defs}
    assert "BTC-USDC" not in known
    bitcoin = known["BTC-USD"]
    assert (bitcoin.tick, bitcoin.lot, bitcoin.min_qty) == (
        Exact(1, -2),
        Exact(1, -8),
        Exact(1, -8),
    )
    assert (bitcoin.min_notional, bitcoin.base, bitcoin.quote, bitcoin.state) == (
        Exact(1, 0),
        "BTC",
        "USD",
        InstrumentState.TRADING,
    )
    assert Counter(defn.state for defn in found.defs)[InstrumentState.DELISTED] > 0


def test_products_that_are_not_understood_are_named() -> None:
    """One odd entry costs itself, not the list; a page that is no list is an error."""
    plain = {
        "product_id": "BTC-USD",
        "base_currency_id": "BTC",
        "quote_currency_id": "USD",
        "status": "online",
    }
    entries = [
        plain, plain | {"product_type": "FUTURE"}, plain | {"product_id": "BTC-PERP-INTX"}, plain | {"base_increment": "x"}, {},
        plain | {"trading_disabled": True}, plain | {"status": "new"},
    ]  # fmt: skip
    found = VENUE.listing.parse(json.dumps({"products": entries}).encode())
    states = [InstrumentState.TRADING, InstrumentState.HALTED, InstrumentState.UNKNOWN]
    assert ([defn.state for defn in found.defs], len(found.rejected)) == (states, 4)
    for body in (b"", b"{", b"[]", b'{"error":"x"}', b"\xff"):
        with pytest.raises(InstrumentsError):
            VENUE.listing.parse(body)


# the server's side

SERVER = DIALECTS["coinbase"]


def test_the_server_routes_books_and_trades_and_tells_everyone_the_rest() -> None:
    """Numbers stay whole, because recorded answers, heartbeats, candles and tickers go to all."""
    assert SERVER.route(frames()[14]) == Route("level2:BTC-USD", "BTC-USD", True)
    assert SERVER.route(frames()[9]) == Route("market_trades:BTC-USD", "BTC-USD", False)
    assert [SERVER.route(frames()[number]) for number in (2, 3, 6, 35)] == [BROADCAST] * 4
    assert SERVER.route(b'{"type":"error","message":"x"}') is None
    assert SERVER.route(b"not json") is None


def test_the_server_understands_what_the_feeder_sends() -> None:
    """Subscriptions are taken without an answer of its own; leaving works; nonsense gets an
    error.
    """
    session = SERVER.connect("/", {})
    assert session is not None
    (part,) = VENUE.stream.subscribe(["BTC-USD"], ["level2", "market_trades"], 1)
    assert [session.receive(frame.decode()) for frame in part.frames] == [[]] * 3
    assert list(session.streams()) == ["level2:BTC-USD", "market_trades:BTC-USD"]
    session.receive('{"type":"unsubscribe","channel":"level2","product_ids":["BTC-USD"]}')
    assert list(session.streams()) == ["market_trades:BTC-USD"]
    for wrong in (
        "{",
        "[]",
        '{"type":"fly"}',
        '{"type":"subscribe","product_ids":"x","channel":"level2"}',
        '{"type":"subscribe"}',
    ):
        (answer,) = session.receive(wrong)
        assert isinstance(VENUE.stream.control(answer.encode()), ServerError)
    assert SERVER.connect("/ws", {}) is None


def test_two_venues_share_a_folder_and_are_told_apart_by_their_hosts() -> None:
    """A recording is of the venue whose hosts it names."""
    assert guess_venue(captures() / "coinbase" / FILE) == "coinbase"
    assert (
        guess_venue(captures() / "coinbase" / "cf_20210417_exchange_ws_feed.p1.jsonl")
        == "coinbase_exchange"
    )
    assert guess_venue(Path("elsewhere/coinbase_20260809.jsonl")) == "coinbase"


# the recording


def updates() -> Iterator[dict[str, Any]]:
    """Yield the events of the recording as `json` reads them, numbers as texts, with their
    channel.
    """
    for number, raw in enumerate(frames()):
        body = json.loads(raw)
        assert body["sequence_num"] == number, "the oracle sees a gap"
        for event in body["events"]:
            yield event | {"channel": body["channel"]}


def plain(text: str) -> str:
    """Return the minimal decimal text of a number."""
    number = Decimal(text)
    return f"{number.normalize():f}" if number else "0"


def test_every_event_of_the_recording_is_what_its_raw_messages_say() -> None:
    """Books, trades, sides, times and order against a second reading with `json`; no gap, no
    crossing, no quarantine.
    """
    offline = Offline(VENUE, [captures() / "coinbase" / FILE])
    found = list(events(offline))
    assert {event["type"] for event in found} == {"book", "instrument", "status", "trade"}
    assert offline.session.books.crossed_events == 0
    story = list(updates())

    trades = [
        trade
        for event in story
        if event["channel"] == "market_trades" and event["type"] == "update"
        for trade in event["trades"]
    ]
    wanted = [
        (
            t["product_id"],
            plain(t["price"]),
            plain(t["size"]),
            {"BUY": "sell", "SELL": "buy"}[t["side"]],
            t["trade_id"],
            t["time"],
        )
        for t in trades
    ]
    ours = of("trade", found)
    for event, (*fields, time) in zip(ours, wanted, strict=True):
        assert [
            event[name] for name in ("symbol", "price", "quantity", "side", "trade_id")
        ] == fields
        assert iso_ns(time) == (event["ts_exchange_ns"], True)

    books = [event for event in story if event["channel"] == "l2_data"]
    merged: list[dict[str, Any]] = []
    for event in of("book", found):
        if (
            merged
            and merged[-1]["snapshot"]
            and sum(len(merged[-1][side]) for side in ("bids", "asks")) % (256 * 83) == 0
        ):
            for side in ("bids", "asks"):
                merged[-1][side] += event[side]
        else:
            merged.append(event)
    final: dict[str, dict[str, dict[Decimal, Decimal]]] = {}
    for event, said in zip(merged, books, strict=True):
        rows = said["updates"]
        assert (event["symbol"], event["snapshot"]) == (
            said["product_id"],
            said["type"] == "snapshot",
        )
        assert iso_ns(rows[0]["event_time"]) == (event["ts_exchange_ns"], True)
        assert len({row["event_time"] for row in rows}) == 1
        sides = final.setdefault(said["product_id"], {"bid": {}, "offer": {}})
        for name, side in (("bid", "bids"), ("offer", "asks")):
            assert event[side] == [
                [plain(r["price_level"]), plain(r["new_quantity"])]
                for r in rows
                if r["side"] == name
            ]
            if event["snapshot"]:
                sides[name].clear()
        for row in rows:
            price, quantity = Decimal(row["price_level"]), Decimal(row["new_quantity"])
            if quantity:
                sides[row["side"]][price] = quantity
            else:
                sides[row["side"]].pop(price, None)
    for symbol, sides in final.items():
        own = offline.session.books.book(offline.session.by_symbol[symbol].instrument_id)
        assert own is not None
        for levels, name in zip(own.levels(), ("bid", "offer"), strict=True):
            assert {
                Decimal(p).scaleb(own.price_exp): Decimal(q).scaleb(own.qty_exp) for p, q in levels
            } == sides[name]


def test_recorded_takers_trade_against_the_best_prices() -> None:
    """A buyer never trades at the best bid, nor a seller at the best offer, as the last ticker
    of the recording gives them.
    """
    best: dict[str, tuple[Decimal, Decimal]] = {}
    counted: Counter[str] = Counter()
    feed = Feed("coinbase", "BTC-USD", "ETH-USD")
    for raw in frames():
        body = json.loads(raw)
        if body["channel"] == "ticker":
            (ticker,) = body["events"][0]["tickers"]
            best[ticker["product_id"]] = Decimal(ticker["best_bid"]), Decimal(ticker["best_ask"])
        elif body["channel"] == "market_trades":
            for event in of("trade", feed.frame(raw)):
                bid, ask = best[event["symbol"]]
                price = Decimal(event["price"])
                if price >= ask or price <= bid:
                    counted["right" if (price >= ask) == (event["side"] == "buy") else "wrong"] += 1
    assert counted == {"right": 58}
