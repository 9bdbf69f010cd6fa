"""COIN-M: contracts settled in the coin, with the dialect of USD-M; the recording read a second
time is the judge.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tapecast.feeder.decode_command import events
from tapecast.feeder.offline import Offline
from tapecast.feeder.symbols.names import canonical
from tapecast.feeder.venues.binance_coinm import VENUE as COINM
from tapecast.feeder.venues.spec import Exact, Ignored, InstrumentsError, Topic
from tapecast.protocol.schema import InstrumentKind, InstrumentState
from tests.support.captures import captures
from tests.support.feeder_frames import Feed

FILE = "binance_coinm_btcusd_perp_20240808.jsonl.gz"


def recorded(count: int) -> Iterator[str]:
    """Yield the first lines of the recording."""
    with gzip.open(captures() / "long" / FILE, "rt") as file:
        for _, line in zip(range(count), file, strict=False):
            yield line


def example(number: int) -> bytes:
    """Return a COIN-M frame among the single messages of Binance."""
    line = (captures() / "binance" / "examples.jsonl").read_text().splitlines()[number - 1]
    return str(json.loads(line)["raw"]).encode()


def text(number: str) -> str:
    """Return a number as events spell it."""
    value = Decimal(number)
    return f"{value.normalize():f}" if value else "0"


def rows(levels: list[list[str]]) -> list[list[str]]:
    """Return levels as events spell them."""
    return [[text(price), text(quantity)] for price, quantity in levels]


def oracle(lines: list[str]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return books, trades and best bids and offers; updates joined to the snapshot by the
    venue's rule, and checked.
    """
    books: list[Any] = []
    trades: list[Any] = []
    bbos: list[Any] = []
    snapshot: dict[str, Any] = {}
    for line in lines:
        body = json.loads(json.loads(line)["raw"])
        if "lastUpdateId" in body:
            snapshot = body
            continue
        data = body["data"]
        if data["e"] == "depthUpdate":
            books.append(data)
        elif data["e"] == "trade":
            values = (
                text(data["p"]),
                text(data["q"]),
                "sell" if data["m"] else "buy",
                str(data["t"]),
            )
            trades.append((data["T"] * 1_000_000, *values))
        else:
            bbos.append(
                (
                    data["T"] * 1_000_000,
                    [text(data["b"]), text(data["B"])],
                    [text(data["a"]), text(data["A"])],
                )
            )
    known = snapshot["lastUpdateId"]
    kept = [data for data in books if data["u"] >= known]
    assert kept[0]["U"] <= known <= kept[0]["u"] or kept[0]["pu"] == known
    assert all(one["u"] == two["pu"] for one, two in pairwise(kept))
    first = (0, True, rows(snapshot["bids"]), rows(snapshot["asks"]))
    return (
        [
            first,
            *((data["T"] * 1_000_000, False, rows(data["b"]), rows(data["a"])) for data in kept),
        ],
        trades,
        bbos,
    )


@pytest.mark.parametrize("count", [12_000, pytest.param(98_386, marks=pytest.mark.slow)])
def test_the_recording_becomes_what_its_messages_say(count: int, tmp_path: Path) -> None:
    """Every value, time, side, id and their order; no gap, no crossed book, nothing put aside."""
    lines = list(recorded(count))
    path = tmp_path / "coinm.jsonl"
    path.write_text("".join(lines))
    offline = Offline(COINM, [path])
    found = list(events(offline))
    names = {
        "book": ("ts_exchange_ns", "snapshot", "bids", "asks"),
        "trade": ("ts_exchange_ns", "price", "quantity", "side", "trade_id"),
        "bbo": ("ts_exchange_ns", "bid", "ask"),
    }
    ours: dict[str, list[Any]] = {kind: [] for kind in names}
    for event in found:
        if event["type"] in names and "recovered" not in event["flags"]:
            assert event["instrument"] == "binance_coinm.perpetual.BTCUSD_PERP"
            ours[event["type"]].append(tuple(event[name] for name in names[event["type"]]))
    assert (ours["book"], ours["trade"], ours["bbo"]) == oracle(lines)
    assert {event["type"] for event in found} <= {*names, "instrument", "status"}
    session = offline.session
    assert (session.counts["gaps"], session.counts["quarantine"], session.books.crossed_events) == (
        0,
        0,
        0,
    )
    if count == 98_386:
        assert Counter(event["type"] for event in found if event["type"] in names) == {
            "book": 44773,
            "trade": 5235,
            "bbo": 48355,
        }


def test_an_aggregate_trade_of_a_delivery_contract_is_a_future() -> None:
    """The recorded trade of 2021-03-20: five contracts, the buyer was the maker."""
    feed = Feed("binance_coinm", "BTCUSD_210625")
    (event,) = feed.frame(example(2))
    assert (event["kind"], event["side"], event["price"], event["quantity"]) == (
        "future",
        "sell",
        "62838",
        "5",
    )
    assert (event["trade_id"], event["ts_exchange_ns"]) == ("5091038", 1_616_201_787_407_000_000)


def test_a_rest_body_of_coin_m_is_a_book() -> None:
    """It names symbol and pair besides, which the request told already; published without time."""
    feed = Feed("binance_coinm", "BTCUSD_220624")
    feed.body("BTCUSD_220624", example(18))
    sync = feed.session.by_symbol["BTCUSD_220624"].sync
    assert sync.held_id == 466364745366


def test_a_gap_in_the_chain_is_a_loss() -> None:
    """Each update names the one before it."""
    lines = [json.loads(line) for line in recorded(400)]
    updates = [
        line["raw"].encode()
        for line in lines
        if "depthUpdate" in line["raw"] and line["kind"] == "recv"
    ]
    body = next(line["raw"] for line in lines if line["kind"] == "http").encode()
    feed = Feed("binance_coinm", "BTCUSD_PERP")
    for update in updates[:-3]:
        feed.frame(update)
    feed.body("BTCUSD_PERP", body)
    assert feed.session.live_books() == 1
    (gap,) = feed.frame(updates[-1])
    known, got = (json.loads(update)["data"] for update in (updates[-4], updates[-1]))
    assert (gap["type"], gap["expected"], gap["got"]) == ("gap", known["u"], got["pu"])


def test_partial_books_and_open_interest_are_not_published() -> None:
    """A partial book looks like a diff but for its stream's name; an open-interest body is no
    message of a stream.
    """
    diff = next(line for line in recorded(10) if "depthUpdate" in line)
    partial = json.loads(diff)["raw"].replace("@depth@0ms", "@depth5@100ms").encode()
    feed = Feed("binance_coinm", "BTCUSD_PERP")
    assert feed.frame(partial) == []
    assert COINM.stream.control(partial) == Ignored("btcusd_perp@depth5@100ms")
    assert feed.session.quarantined == []
    assert COINM.stream.control(example(20)) is None
    assert feed.frame(example(20)) == []
    assert len(feed.session.quarantined) == 1


@pytest.mark.parametrize(("symbol", "kind"), [
    ("BTCUSD_PERP", InstrumentKind.PERPETUAL),
    ("BTCUSD_210625", InstrumentKind.FUTURE),
    ("1INCHUSD_PERP", InstrumentKind.PERPETUAL),
    ("BTCUSDT", None),
    ("BTCUSDT_210625", None),
    ("BTCUSD", None),
    ("BTCUSD_2106255", None),
    ("btcusd_perp", None),
    ("", None),
])  # fmt: skip
def test_a_symbol_tells_its_kind(symbol: str, kind: InstrumentKind | None) -> None:
    """Symbols of USD-M and spot are no symbols here."""
    assert COINM.kind_of(symbol) is kind


def contract(**fields: object) -> dict[str, object]:
    """Return an `exchangeInfo` entry in the documented layout, figures of BTCUSD_PERP."""
    return {
        "symbol": "BTCUSD_PERP",
        "pair": "BTCUSD",
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "contractStatus": "TRADING",
        "contractSize": 100,
        "marginAsset": "BTC",
        "baseAsset": "BTC",
        "quoteAsset": "USD",
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "tickSize": "0.1",
                "minPrice": "1000",
                "maxPrice": "4520958",
            },
            {"filterType": "LOT_SIZE", "stepSize": "1", "minQty": "1", "maxQty": "1000000"},
        ],
    } | fields


def test_a_contract_is_worth_dollars_and_settles_in_the_coin() -> None:
    """The contract size is the multiplier, and the definition says that it is inverse; only
    dated contracts expire.
    """
    future = contract(
        symbol="BTCUSD_210625",
        contractType="CURRENT_QUARTER",
        deliveryDate=1624608000000,
        contractStatus="DELIVERING",
    )
    ether = contract(symbol="ETHUSD_PERP", baseAsset="ETH", marginAsset="ETH", contractSize=10)
    foreign = contract(symbol="BTCUSDT")
    found = COINM.listing.parse(
        msgspec.json.encode({"symbols": [contract(), future, ether, foreign]})
    )
    perpetual, dated, other = found.defs
    assert len(found.rejected) == 1
    assert (perpetual.multiplier, perpetual.inverse, perpetual.settle, perpetual.expiry_ns) == (
        Exact(100, 0),
        True,
        "BTC",
        0,
    )
    assert (perpetual.tick, perpetual.lot, perpetual.min_qty) == (
        Exact(1, -1),
        Exact(1, 0),
        Exact(1, 0),
    )
    assert (perpetual.state, perpetual.kind) == (InstrumentState.TRADING, InstrumentKind.PERPETUAL)
    assert canonical(perpetual) == "BTC-USD"
    assert (dated.kind, dated.expiry_ns) == (InstrumentKind.FUTURE, 1_624_608_000_000_000_000)
    assert dated.state is InstrumentState.CLOSED
    assert other.multiplier == Exact(10, 0)
    with pytest.raises(InstrumentsError):
        COINM.listing.parse(b'{"code":-1003,"msg":"Too many requests"}')


def test_requests_and_urls_are_those_of_the_delivery_api() -> None:
    """What is asked for is recognised again, and other markets' URLs are not."""
    assert COINM.rule.snapshot_request is not None
    request = COINM.rule.snapshot_request("BTCUSD_PERP", 1000)
    assert (request.path, dict(request.query), request.weight) == (
        "/dapi/v1/depth",
        {"symbol": "BTCUSD_PERP", "limit": "1000"},
        20,
    )
    assert (
        COINM.recordings.snapshot_symbol(
            "https://dapi.binance.com/dapi/v1/depth?symbol=BTCUSD_PERP&limit=1000"
        )
        == "BTCUSD_PERP"
    )
    assert (
        COINM.recordings.snapshot_symbol(
            "https://fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
        )
        is None
    )
    assert all(
        COINM.recordings.is_listing("https://dapi.binance.com" + part.path)
        for part in COINM.listing.requests()
    )
    assert COINM.listing.symbols_of_pair("BTC", "USD") == ("BTCUSD_PERP",)
    assert COINM.listing.symbols_of_pair("BTC", "USDT") == ()


def test_books_and_trades_are_subscribed_by_route() -> None:
    """The routes are USD-M's; that both have one URL is a matter of configuration."""
    parts = {
        part.route: part
        for part in COINM.stream.subscribe(
            ["BTCUSD_PERP"], ["depth@100ms", "bookTicker", "aggTrade"], 1
        )
    }
    assert json.loads(parts["public"].frames[0])["params"] == [
        "btcusd_perp@depth@100ms",
        "btcusd_perp@bookTicker",
    ]
    assert parts["market"].topics == (Topic("aggTrade", "BTCUSD_PERP"),)
