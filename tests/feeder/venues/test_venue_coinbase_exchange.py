"""Coinbase Exchange: what each message becomes or must not become, requests, products, the
recording against an oracle.

Frames are those of the recording of 17 April 2021 (github bmoscon/cryptofeed) and of
`examples.jsonl` (crypto-crawler, tardis-node, stewartyoung), or layouts of docs.cdp.coinbase.com
with figures that occur there.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tapecast.feeder.connections.limits import Limits
from tapecast.feeder.decode_command import events
from tapecast.feeder.extract.exact import iso_ns
from tapecast.feeder.offline import Offline
from tapecast.feeder.record.recording import read
from tapecast.feeder.replay.dialect import Route
from tapecast.feeder.replay.venues import DIALECTS, guess_venue
from tapecast.feeder.session.session import CommandKind
from tapecast.feeder.venues.coinbase_exchange import VENUE
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

FILE = "cf_20210417_exchange_ws_feed.p1.jsonl"
FOREIGN = {
    5: "Advanced Trade",
    10: "a size that is no number",
    **dict.fromkeys(range(12, 18), "International"),
}
"""Frames of `examples.jsonl` that are nothing of this feed's; line -> what they are."""


def example(line: int) -> bytes:
    """Return a frame of the single messages."""
    raw: str = json.loads(
        (captures() / "coinbase" / "examples.jsonl").read_text().splitlines()[line - 1]
    )["raw"]
    return raw.encode()


def snapshot(product: str, bids: list[list[str]], asks: list[list[str]]) -> bytes:
    """Return a snapshot in the documented layout."""
    return json.dumps(
        {"type": "snapshot", "product_id": product, "asks": asks, "bids": bids},
        separators=(",", ":"),
    ).encode()


def update(
    *changes: list[str], time: str = "2021-06-02T09:02:09.048568Z", product: str = "BTC-USD"
) -> bytes:
    """Return an update in the documented layout."""
    body = {"type": "l2update", "product_id": product, "changes": changes, "time": time}
    return json.dumps(body, separators=(",", ":")).encode()


def of(kind: str, found: list[Any]) -> list[dict[str, Any]]:
    """Return the events of one type."""
    return [event for event in found if event["type"] == kind]


def live(product: str = "BTC-USD") -> Feed:
    """Return a session with one live book."""
    feed = Feed("coinbase_exchange", product)
    feed.frame(snapshot(product, [["37209.96", "0.04016376"]], [["37412.77", "0.05724592"]]))
    assert feed.session.live_books() == 1
    return feed


# shapes


def test_a_snapshot_has_no_time() -> None:
    """The recorded snapshot of three levels a side; the venue gives no time, so none is made up."""
    (event,) = of("book", Feed("coinbase_exchange", "BTC-USD").frame(example(2)))
    assert (event["snapshot"], event["ts_exchange_ns"], event["flags"]) == (
        True,
        0,
        ["snapshot", "bad_ts_exchange"],
    )
    assert event["bids"] == [
        ["37209.96", "0.04016376"],
        ["37209.32", "0.00192256"],
        ["37209.16", "0.0113"],
    ]
    assert event["asks"][0] == ["37212.77", "0.05724592"]


def test_updates_are_absolute_and_delete_with_zero() -> None:
    """Recorded updates of 2021 and 2022."""
    first, second = of("book", live().frame(example(3), example(4)))
    assert (first["snapshot"], first["bids"], first["asks"]) == (
        False,
        [["37378.26", "0.0246"]],
        [],
    )
    assert first["ts_exchange_ns"] == 1_622_624_529_048_568_000
    assert second["bids"] == [["36944.35", "0"]]


def test_one_update_may_change_both_sides_in_any_order() -> None:
    """Rows are sorted into their sides, and keep their order there."""
    (event,) = of(
        "book",
        live().frame(update(["sell", "37500", "1"], ["buy", "37000", "2"], ["sell", "37501", "0"])),
    )
    assert (event["bids"], event["asks"]) == ([["37000", "2"]], [["37500", "1"], ["37501", "0"]])


def test_the_year_one_is_no_time() -> None:
    """`0001-01-01T00:00:00.000000Z` was recorded in an update: its changes stand, its time is
    unknown.
    """
    feed = Feed("coinbase_exchange", "BTC-EUR")
    feed.frame(snapshot("BTC-EUR", [["9202.00", "1"]], [["9230.00", "1"]]))
    *_, event = of(
        "book", feed.frame(example(9))
    )  # the first is the book at the finer exponents it needs
    assert (event["ts_exchange_ns"], event["flags"]) == (0, ["bad_ts_exchange"])
    assert (event["bids"], event["asks"]) == (
        [["9202.7", "0.5866786"]],
        [["9222.39", "0.00459825"]],
    )


def test_a_match_has_the_other_side_than_its_maker() -> None:
    """The recorded maker bought, so the taker sold."""
    (event,) = of("trade", Feed("coinbase_exchange", "ETC-GBP").frame(example(6)))
    assert (event["side"], event["price"], event["quantity"], event["trade_id"]) == (
        "sell",
        "4.978",
        "0.97133855",
        "216544",
    )
    assert event["ts_exchange_ns"] == 1_564_617_603_816_000_000


@pytest.mark.parametrize("line", [1, 11])
def test_the_last_match_and_tickers_become_nothing(line: int) -> None:
    """`last_match` is the last old trade, repeated after the subscription; a ticker is never a
    trade.
    """
    feed = Feed("coinbase_exchange", "BTC-USD")
    assert feed.frame(example(line)) == []
    assert not feed.session.quarantined


def test_an_update_before_its_snapshot_is_nothing() -> None:
    """Nothing is known of the book yet."""
    assert Feed("coinbase_exchange", "BTC-USD").frame(example(3)) == []


@pytest.mark.parametrize("changes", [
    ["buy", "37000", "-1"], ["buy", "37000", "NaN"], ["buy", "37000", "0.-10000"], ["bid", "37000", "1"], ["buy", "37000"],
])  # fmt: skip
def test_an_update_that_is_not_understood_costs_its_book(changes: list[str]) -> None:
    """No sequence would ever show the loss: the book is suspect, and subscribed again, until a
    new snapshot.
    """
    feed = live()
    found = feed.frame(update(changes))
    assert [(event["state"], event["reason"]) for event in of("status", found)] == [
        ("suspect", "quarantine")
    ]
    assert [command.kind for command in feed.session.commands] == [CommandKind.RESUBSCRIBE]
    assert of("book", feed.frame(update(["buy", "37000", "1"]))) == []
    found = feed.frame(snapshot("BTC-USD", [["37000", "1"]], []))
    assert (len(of("book", found)), feed.session.live_books()) == (1, 1)


def test_a_trade_that_is_not_understood_costs_no_book() -> None:
    """A size that is no number: put aside, never 0 or 1."""
    feed = live("ETC-GBP")
    assert feed.frame(example(6).replace(b"0.97133855", b"NaN")) == []
    assert (len(feed.session.quarantined), feed.session.live_books()) == (1, 1)


def test_of_the_single_examples_only_the_foreign_ones_are_quarantined() -> None:
    """Advanced Trade, the International exchange and a broken number are put aside one by one."""
    offline = Offline(VENUE, [captures() / "coinbase" / "examples.jsonl"])
    found = dict.fromkeys(FOREIGN, 0)
    for step in offline.run():
        found[offline.lines] = found.get(offline.lines, 0) + len(step.quarantined)
    found = {line: count for line, count in found.items() if count}
    assert found == dict.fromkeys(FOREIGN, 1)


# control


@pytest.mark.parametrize(("frame", "meaning"), [
    (b'{"type":"subscriptions","channels":[{"name":"level2","product_ids":["BAND-GBP"]}]}', Ack()),
    (b'{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD","time":"2014-11-07T08:19:28.464459Z"}',
     Alive("heartbeat")),
    (b'{"type":"error","message":"Failed to subscribe","reason":"x is not a valid product"}',
     ServerError("error", "Failed to subscribe: x is not a valid product")),
    (b'{"type":"error","message":"error message"}', ServerError("error", "error message")),
    (b'{"type":"status","products":[]}', Ignored("status")),
    (b'{"type":"done","reason":"filled"}', Ignored("done")),
    (b"", None), (b"{", None), (b"null", None), (b"[]", None), (b"\xff", None), (b'{"type":5}', None),
    (b'{"type":"something_new"}', None), (b'{"type":"l2update"}', None), (b'{"channel":"LEVEL2","type":"UPDATE"}', None),
])  # fmt: skip
def test_control_messages_mean_what_the_venue_documents(frame: bytes, meaning: object) -> None:
    """Answers, heartbeats, refusals, channels without use; the rest is not understood."""
    assert VENUE.stream.control(frame) == meaning


# symbols, requests, configuration


@pytest.mark.parametrize(("symbol", "kind"), [
    ("BTC-USD", InstrumentKind.SPOT), ("00-USD", InstrumentKind.SPOT), ("SOL-PERP-X", None), ("btc-usd", None), ("", None),
])  # fmt: skip
def test_a_name_tells_its_kind(symbol: str, kind: InstrumentKind | None) -> None:
    """The exchange has spot pairs alone."""
    assert VENUE.kind_of(symbol) is kind


def test_one_request_a_connection_holds_everything() -> None:
    """All channels and the heartbeat of every product; the topics read back are those asked for."""
    symbols = [f"A{number}-USD" for number in range(60)]
    first, second = VENUE.stream.subscribe(symbols, ["level2_batch", "matches"], 1)
    (frame,) = first.frames
    assert json.loads(frame)["channels"] == ["level2_batch", "matches", "heartbeat"]
    assert [
        topic for topic in VENUE.stream.requested("", frame) if topic.channel != "heartbeat"
    ] == list(first.topics)
    assert len(first.topics) + len(second.topics) == 120
    with pytest.raises(KeyError):
        VENUE.stream.subscribe(symbols, ["full"], 1)


def test_requests_may_name_products_for_each_channel() -> None:
    """A channel is a name or an object with products of its own."""
    sent = b'{"type":"subscribe","product_ids":["ETH-USD"],"channels":["level2",{"name":"matches","product_ids":["BTC-USD"]}]}'
    assert VENUE.stream.requested("", sent) == [
        Topic("level2", "ETH-USD"),
        Topic("matches", "BTC-USD"),
    ]
    assert (
        VENUE.stream.requested("", sent.replace(b"subscribe", b"unsubscribe"))
        == VENUE.stream.requested("", b"{")
        == []
    )


def test_one_book_can_be_left() -> None:
    """A book that is not trusted any more is left and subscribed again."""
    assert VENUE.stream.unsubscribe is not None
    frame = json.loads(VENUE.stream.unsubscribe([Topic("level2_batch", "BTC-USD")], 9))
    assert frame == {
        "type": "unsubscribe",
        "product_ids": ["BTC-USD"],
        "channels": ["level2_batch"],
    }


def test_the_packaged_configuration_fits_the_module() -> None:
    """Symbols, channels, endpoints and limits of the packaged file are ones the module knows;
    level2 needs a login.
    """
    text = (Path(__file__).parents[3] / "config" / "venues" / "coinbase_exchange.toml").read_text()
    table = tomllib.loads(text)["venue"]
    assert all(
        VENUE.kind_of(symbol) is not None for symbol in table["symbols"] if not has_wildcard(symbol)
    )
    assert set(table["channels"]) == {"level2_batch", "matches"}
    assert set(table["endpoints"]) == set(VENUE.endpoints)
    assert msgspec.convert(table["limits"], Limits).rest_weight > 0


# instruments


def test_recorded_products_are_read_whole() -> None:
    """All 162 products of April 2021."""
    (line,) = (line for line in read([captures() / "coinbase" / FILE]) if line.kind == "http")
    assert VENUE.recordings.is_listing(line.url or "")
    found = VENUE.listing.parse(line.raw)
    assert (len(found.defs), found.rejected) == (162, ())
    skale = next(defn for defn in found.defs if defn.symbol == "SKL-EUR")
    assert (skale.tick, skale.lot, skale.min_qty, skale.min_notional) == (
        Exact(1, -4),
        Exact(1, -1),
        Exact(5, 0),
        Exact(5, 0),
    )
    assert (skale.base, skale.quote, skale.state) == ("SKL", "EUR", InstrumentState.TRADING)


def test_products_that_are_not_understood_are_named() -> None:
    """One odd entry costs itself, not the list; a page that is no list is an error."""
    plain = {"id": "BTC-USD", "base_currency": "BTC", "quote_currency": "USD", "status": "online"}
    entries = [
        plain, plain | {"id": "BTC"}, plain | {"quote_increment": "x"}, {}, plain | {"trading_disabled": True},
        plain | {"status": "delisted"}, plain | {"status": "internal"},
    ]  # fmt: skip
    found = VENUE.listing.parse(json.dumps(entries).encode())
    states = [
        InstrumentState.TRADING,
        InstrumentState.HALTED,
        InstrumentState.DELISTED,
        InstrumentState.UNKNOWN,
    ]
    assert ([defn.state for defn in found.defs], len(found.rejected)) == (states, 3)
    for body in (b"", b"{", b'{"message":"x"}', b"\xff"):
        with pytest.raises(InstrumentsError):
            VENUE.listing.parse(body)


# the server's side

SERVER = DIALECTS["coinbase_exchange"]


def test_the_server_answers_what_the_feeder_sends() -> None:
    """A subscription is answered with all channels; the batched book is served from the recorded
    one.
    """
    session = SERVER.connect("/", {})
    assert session is not None
    (part,) = VENUE.stream.subscribe(["BTC-USD"], ["level2_batch", "matches"], 1)
    (answer,) = session.receive(part.frames[0].decode())
    assert VENUE.stream.control(answer.encode()) == Ack()
    assert list(session.streams()) == ["level2:BTC-USD", "matches:BTC-USD", "heartbeat:BTC-USD"]
    assert VENUE.stream.unsubscribe is not None
    session.receive(VENUE.stream.unsubscribe([Topic("level2_batch", "BTC-USD")], 1).decode())
    assert list(session.streams()) == ["matches:BTC-USD", "heartbeat:BTC-USD"]
    (answer,) = session.receive("{")
    assert isinstance(VENUE.stream.control(answer.encode()), ServerError)
    (answer,) = session.receive('{"type":"subscribe","product_ids":[],"channels":[5]}')
    assert isinstance(VENUE.stream.control(answer.encode()), ServerError)


def test_recorded_frames_belong_to_their_channels() -> None:
    """The type tells the channel; answers were the recording client's."""
    assert SERVER.route(example(3)) == Route("level2:BTC-USD", "BTC-USD", True)
    assert SERVER.route(example(6)) == Route("matches:ETC-GBP", "ETC-GBP", False)
    assert SERVER.route(b'{"type":"subscriptions","channels":[]}') is None
    assert SERVER.connect("/ws", {}) is None
    assert guess_venue(Path("elsewhere/coinbase_exchange_2021.jsonl")) == "coinbase_exchange"


# the recording


def plain(text: str) -> str:
    """Return the minimal decimal text of a number."""
    number = Decimal(text)
    return f"{number.normalize():f}" if number else "0"


def test_every_event_of_the_recording_is_what_its_raw_messages_say() -> None:
    """Books, trades, taker's sides, times and order against a second reading with `json`; no
    gap, no crossing, no quarantine.
    """
    offline = Offline(VENUE, [captures() / "coinbase" / FILE])
    found = list(events(offline))
    assert {event["type"] for event in found} == {"book", "instrument", "status", "trade"}
    assert offline.session.books.crossed_events == 0
    assert all(
        event["reason"] == "first_sync" for event in of("status", found) if event["scope"] == "book"
    )
    story = [
        json.loads(line.raw)
        for line in read([captures() / "coinbase" / FILE])
        if line.kind == "recv"
    ]

    matches = [message for message in story if message["type"] == "match"]
    for event, said in zip(of("trade", found), matches, strict=True):
        side = {"buy": "sell", "sell": "buy"}[said["side"]]
        fields = (
            said["product_id"],
            plain(said["price"]),
            plain(said["size"]),
            side,
            str(said["trade_id"]),
        )
        assert (
            tuple(event[name] for name in ("symbol", "price", "quantity", "side", "trade_id"))
            == fields
        )
        assert iso_ns(said["time"]) == (event["ts_exchange_ns"], True)

    final: dict[str, dict[str, dict[Decimal, Decimal]]] = {}
    ours = iter(of("book", found))
    takers: Counter[str] = Counter()
    for said in story:
        if said["type"] not in ("snapshot", "l2update", "match"):
            continue
        sides = final.setdefault(said["product_id"], {"buy": {}, "sell": {}})
        if said["type"] == "match":
            price, bid, ask = Decimal(said["price"]), max(sides["buy"]), min(sides["sell"])
            if price <= bid or price >= ask:
                takers["right" if (price >= ask) == (said["side"] == "sell") else "wrong"] += 1
            continue
        event = next(ours)
        whole = said["type"] == "snapshot"
        if whole:
            changes = [
                [side, *row]
                for side, name in (("buy", "bids"), ("sell", "asks"))
                for row in said[name]
            ]
            assert event["ts_exchange_ns"] == 0
        else:
            changes = said["changes"]
            assert iso_ns(said["time"]) == (event["ts_exchange_ns"], True)
        assert (event["symbol"], event["snapshot"]) == (said["product_id"], whole)
        for side, name in (("buy", "bids"), ("sell", "asks")):
            assert event[name] == [
                [plain(price), plain(size)] for one, price, size in changes if one == side
            ]
        for side, price, size in changes:
            if Decimal(size):
                sides[side][Decimal(price)] = Decimal(size)
            else:
                sides[side].pop(Decimal(price), None)
    assert next(ours, None) is None
    assert takers == {"right": 32}
    for symbol, sides in final.items():
        own = offline.session.books.book(offline.session.by_symbol[symbol].instrument_id)
        assert own is not None
        for levels, side in zip(own.levels(), ("buy", "sell"), strict=True):
            assert {
                Decimal(p).scaleb(own.price_exp): Decimal(q).scaleb(own.qty_exp) for p, q in levels
            } == sides[side]
