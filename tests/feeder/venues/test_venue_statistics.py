"""Statistics and liquidations of Binance's futures and OKX, Deribit's block trades: recorded
frames, else documented ones.

Documented figures: Binance's liquidation order streams (USD-M and COIN-M) and COIN-M mark price
stream, OKX's liquidation orders channel, Deribit's block trade 61 of `get_block_trade`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tapecast.feeder.offline import Offline
from tapecast.feeder.venues.binance_coinm import VENUE as COINM
from tapecast.feeder.venues.binance_futures import VENUE as FUTURES
from tapecast.feeder.venues.okx import VENUE as OKX
from tapecast.feeder.venues.spec import Ignored, Topic
from tapecast.protocol.render import EventDict
from tests.support.captures import captures
from tests.support.feeder_frames import Feed
from tests.support.processes import Net
from tests.support.venue_server import VenueServer, eventually, feeding, lines

MARKS = "long/binance_usdm_btcusdt_20230404.jsonl.gz"


def example(venue: str, number: int) -> bytes:
    """Return a single recorded message by its number."""
    return list(lines(captures() / venue / "examples.jsonl"))[number - 1].raw


def dump(body: object) -> bytes:
    """Return a body as a venue sends it."""
    return json.dumps(body, separators=(",", ":")).encode()


def only(events: list[EventDict]) -> dict[str, Any]:
    """Return the one event that there is."""
    (event,) = events
    return dict(event)


def stats(events: Sequence[Any]) -> list[tuple[object, ...]]:
    """Return (instrument, kind, value, time in ms, seconds until due) of statistics."""
    assert {event["type"] for event in events} <= {"stat"}
    return [
        (
            event["instrument"],
            event["kind_of"],
            event["value"],
            event["ts_exchange_ns"] // 10**6,
            event.get("aux", 0),
        )
        for event in events
    ]


def text(number: str) -> str:
    """Return a number as events spell it."""
    value = Decimal(number)
    return f"{value.normalize():f}" if value else "0"


# Binance


def test_every_recorded_mark_price_is_three_statistics() -> None:
    """514 messages of one second each: mark, index and funding rate with the venue's time, and
    nothing put aside.
    """
    offline = Offline(FUTURES, [captures() / MARKS])
    feed = Feed("binance_futures", "BTCUSDT")
    found: list[tuple[object, ...]] = []
    wanted: list[tuple[object, ...]] = []
    for line in lines(captures() / MARKS):
        if b"markPriceUpdate" not in line.raw:
            continue
        data = json.loads(line.raw)["data"]
        due = max(0, (data["T"] - data["E"]) // 1000)
        where = "binance_futures.perpetual.BTCUSDT", data["E"]
        wanted += [
            (where[0], "mark_price", text(data["p"]), where[1], 0),
            (where[0], "index_price", text(data["i"]), where[1], 0),
            (where[0], "funding_rate", text(data["r"]), where[1], due),
        ]
        found += stats(feed.frame(line.raw))
    assert len(found) == 3 * 514
    assert found == wanted
    assert "markPrice@1s" in {topic.channel for topic in offline.universe.topics}


def test_mark_prices_of_earlier_years_lack_what_was_not_sent() -> None:
    """2019 had no index; a dated contract has no funding: its rate of 0 with no due time is not
    a rate.
    """
    feed = Feed("binance_futures", "BTCUSDT", "BTCBUSD_210129")
    assert stats(feed.frame(example("binance_futures", 5))) == [
        ("binance_futures.perpetual.BTCUSDT", "mark_price", "8291.34697815", 1569888003001, 0),
        ("binance_futures.perpetual.BTCUSDT", "funding_rate", "0.0001", 1569888003001, 28796),
    ]
    assert stats(feed.frame(example("binance_futures", 11)))[1][1:3] == (
        "index_price",
        "11851.86949091",
    )
    assert stats(feed.frame(example("binance_futures", 13))) == [
        ("binance_futures.future.BTCBUSD_210129", "mark_price", "31799.2773", 1609830121004, 0),
        ("binance_futures.future.BTCBUSD_210129", "index_price", "31307.034", 1609830121004, 0),
    ]


def test_mark_prices_of_all_contracts_at_once_give_nothing() -> None:
    """The array is a known stream that is not subscribed: nothing, and no quarantine."""
    feed = Feed("binance_futures", "BTCUSDT", "ETHUSDT")
    assert feed.frame(example("binance_futures", 2)) == []
    assert (feed.session.counts["control_ignored"], feed.session.counts["quarantine"]) == (1, 0)


USDM_ORDER = {
    "s": "BTCUSDT",
    "S": "SELL",
    "o": "LIMIT",
    "f": "IOC",
    "q": "0.014",
    "p": "9910",
    "ap": "9910",
    "X": "FILLED",
    "l": "0.014",
    "z": "0.014",
    "T": 1568014460893,
}
COINM_ORDER = {
    "s": "BTCUSD_200925",
    "ps": "BTCUSD",
    "S": "SELL",
    "o": "LIMIT",
    "f": "IOC",
    "q": "1",
    "p": "9425.5",
    "ap": "9496.5",
    "X": "FILLED",
    "l": "1",
    "z": "1",
    "T": 1591154240949,
}


def forced(order: dict[str, Any], event_ms: int, **outer: object) -> bytes:
    """Return a `forceOrder` message in its envelope."""
    data = {"e": "forceOrder", "E": event_ms, **outer, "o": order}
    return dump({"stream": f"{order['s'].lower()}@forceOrder", "data": data})


def test_a_filled_liquidation_order_is_a_liquidation() -> None:
    """What was executed: the mean price, the filled amount, the side of the order, the time of
    the trade.
    """
    feed = Feed("binance_futures", "BTCUSDT")
    event = only(feed.frame(forced(USDM_ORDER, 1568014460893)))
    assert {
        name: event[name]
        for name in ("type", "instrument", "price", "quantity", "side", "ts_exchange_ns")
    } == {
        "type": "liquidation",
        "instrument": "binance_futures.perpetual.BTCUSDT",
        "price": "9910",
        "quantity": "0.014",
        "side": "sell",
        "ts_exchange_ns": 1568014460893 * 10**6,
    }
    event = only(Feed("binance_coinm", "BTCUSD_200925").frame(forced(COINM_ORDER, 1591154240950)))
    assert (event["instrument"], event["price"], event["quantity"]) == (
        "binance_coinm.future.BTCUSD_200925",
        "9496.5",
        "1",
    )


@pytest.mark.parametrize("state", ["NEW", "PARTIALLY_FILLED", "CANCELED", "EXPIRED"])
def test_a_liquidation_order_in_another_state_gives_nothing(state: str) -> None:
    """Its amounts are not executed, or come again when it is filled; a state without a meaning
    here is put aside.
    """
    feed = Feed("binance_futures", "BTCUSDT")
    assert feed.frame(forced({**USDM_ORDER, "X": state}, 1568014460893)) == []
    assert (feed.session.counts["suppressed"], feed.session.counts["quarantine"]) == (1, 0)
    assert feed.frame(forced({**USDM_ORDER, "X": "ADL"}, 1568014460893)) == []
    assert feed.session.counts["quarantine"] == 1


def test_the_other_futures_market_is_refused_by_its_number() -> None:
    """`st` 1 is USD-M; what has 2 is of COIN-M, whatever its symbol, and is put aside; without
    `st` the symbol alone tells.
    """
    feed = Feed("binance_futures", "BTCUSDT")
    assert len(feed.frame(forced(USDM_ORDER, 1568014460893, st=1))) == 1
    assert len(feed.frame(forced({**USDM_ORDER, "st": 1}, 1568014460893))) == 1
    assert feed.frame(forced(USDM_ORDER, 1568014460893, st=2)) == []
    mark = json.loads(example("binance_futures", 1))
    mark["data"]["st"] = 2
    assert feed.frame(dump(mark)) == []
    assert feed.session.counts["quarantine"] == 2
    assert feed.frame(forced(COINM_ORDER, 1591154240950)) == []
    assert feed.session.counts["quarantine"] == 3


def test_a_coin_margined_mark_price() -> None:
    """As documented: a dated contract has an empty rate and no due time."""
    data = {
        "e": "markPriceUpdate",
        "E": 1596095725000,
        "s": "BTCUSD_201225",
        "p": "10934.62615417",
        "P": "10962.17178236",
    }
    feed = Feed("binance_coinm", "BTCUSD_201225")
    assert stats(
        feed.frame(dump({"stream": "btcusd_201225@markPrice", "data": data | {"r": "", "T": 0}}))
    ) == [("binance_coinm.future.BTCUSD_201225", "mark_price", "10934.62615417", 1596095725000, 0)]


@pytest.mark.parametrize("venue", [FUTURES, COINM], ids=lambda venue: venue.name)
def test_statistics_are_asked_for_on_the_market_route(venue: Any) -> None:
    """The public route acknowledges them and stays silent."""
    symbol = venue.listing.symbols_of_pair("BTC", "USDT" if venue is FUTURES else "USD")[0]
    found = venue.stream.subscribe([symbol], ["depth@100ms", "markPrice@1s", "forceOrder"], 1)
    assert {part.route: [topic.channel for topic in part.topics] for part in found} == {
        "public": ["depth@100ms"],
        "market": ["markPrice@1s", "forceOrder"],
    }


@pytest.mark.parametrize(
    "frame",
    [
        b'{"e":"markPriceUpdate","E":1}',
        b'{"e":"forceOrder","o":{"X":"FILLED"}}',
        b'{"e":"forceOrder"}',
    ],
)
def test_half_a_statistic_is_put_aside(frame: bytes) -> None:
    """A known event type without what its shape needs is quarantined, not passed over."""
    assert FUTURES.stream.control(frame) is None
    feed = Feed("binance_futures", "BTCUSDT")
    assert feed.frame(frame) == []
    assert feed.session.counts["quarantine"] == 1


def test_spot_has_neither() -> None:
    """On spot the futures' events are known and nothing, as before."""
    feed = Feed("binance", "BTCUSDT")
    assert feed.frame(example("binance_futures", 1)) == []
    assert feed.session.counts["quarantine"] == 0


# OKX


OKX_STATS = [
    (5, "BTC-USD-SWAP", [("perpetual", "funding_rate", "0.0000734174532791", 0, 0)]),
    (37, "FIL-USDT-220325", [("future", "mark_price", "36.232", 1640131204676, 0)]),
    (38, "FIL-USDT-220325", [("future", "open_interest", "236870", 1640131202886, 0)]),
    (
        42,
        "BTC-USD_UM_XPERP-310404",
        [("future", "funding_rate", "-0.0004270396398519", 1785870855692, 17144)],
    ),
    (43, "WNCG-USDT-SWAP", [("perpetual", "funding_rate", "0.00048105", 0, 0)]),
    (45, "WNCG-USDT", [("spot", "index_price", "2.1675", 1640131290649, 0)]),
    (46, "SOS-USDT-SWAP", []),
    (48, "ETH-USD", [("spot", "index_price", "3814.05", 1640001659508, 0)]),
]


@pytest.mark.parametrize(
    ("number", "symbol", "expected"), OKX_STATS, ids=[f"example {row[0]}" for row in OKX_STATS]
)
def test_recorded_okx_statistics(
    number: int, symbol: str, expected: list[tuple[object, ...]]
) -> None:
    """Mark and index price, funding rate, open interest in contracts; a rate that is not known
    yet (46) is nothing.
    """
    feed = Feed("okx", symbol)
    found = stats(feed.frame(example("okx", number)))
    assert found == [(f"okx.{kind}.{symbol}", *values) for kind, *values in expected]
    assert feed.session.counts["quarantine"] == 0
    assert feed.session.counts["suppressed"] == (0 if expected else 1)


def okx_liquidation() -> bytes:
    """Return the documented message."""
    detail = {
        "bkLoss": "0",
        "bkPx": "0.007831",
        "ccy": "",
        "posSide": "short",
        "side": "buy",
        "sz": "13",
        "ts": "1692266434010",
    }
    data = {
        "details": [detail],
        "instFamily": "IOST-USDT",
        "instId": "IOST-USDT-SWAP",
        "instType": "SWAP",
        "uly": "IOST-USDT",
    }
    return dump(
        {"id": "1512", "arg": {"channel": "liquidation-orders", "instType": "SWAP"}, "data": [data]}
    )


@pytest.mark.parametrize(("frame", "expected"), [
    (None, ("okx.perpetual.IOST-USDT-SWAP", "0.007831", "13", "buy", 1692266434010)),
    (41, ("okx.future.XRP-USD-230929", "0.55205", "39", "buy", 1680173247614)),
])  # fmt: skip
def test_okx_liquidations_have_the_orders_side(
    frame: int | None, expected: tuple[object, ...]
) -> None:
    """A short position is closed by buying, at the price of its bankruptcy; documented, and
    recorded (example 41).
    """
    raw = okx_liquidation() if frame is None else example("okx", frame)
    instrument = str(expected[0])
    event = only(Feed("okx", instrument.split(".", 2)[2]).frame(raw))
    values = (
        event["instrument"],
        event["price"],
        event["quantity"],
        event["side"],
        event["ts_exchange_ns"] // 10**6,
    )
    assert (event["type"], values) == ("liquidation", expected)


def test_liquidations_of_what_is_not_followed_are_passed_over() -> None:
    """The channel brings a whole market: other instruments are counted, not put aside, and cost
    no connection.
    """
    feed = Feed("okx", "BTC-USDT-SWAP")
    for _ in range(100):
        assert feed.frame(okx_liquidation(), example("okx", 41)) == []
    counts = feed.session.counts
    assert (counts["not_followed"], counts["quarantine"], feed.session.commands) == (200, 0, [])
    assert feed.frame(example("okx", 1).replace(b"BTC-USDT-SWAP", b"ETH-USDT-SWAP")) == []
    assert feed.session.counts["quarantine"] == 1


async def test_liquidations_are_asked_for_once_however_many_connections(tmp_path: Path) -> None:
    """A second subscription would bring every liquidation twice; it is counted when every
    connection has subscribed.
    """
    symbols = [
        f"{base}-USDT-SWAP"
        for base in (
            "BTC",
            "ETH",
            "SOL",
            "XRP",
            "DOGE",
            "ADA",
            "LTC",
            "LINK",
            "UNI",
            "FIL",
            "TRX",
            "BCH",
        )
    ]
    settings: dict[str, Any] = {
        "venues__okx__symbols": symbols,
        "venues__okx__channels": ["trades", "liquidation-orders"],
    }
    async with (
        VenueServer().running() as server,
        feeding("okx", server, Net(), tmp_path, **settings),
    ):

        def asked() -> list[str]:
            return [
                json.dumps(arg)
                for frame in server.heard
                if frame != b"ping"
                for arg in json.loads(frame)["args"]
            ]

        await eventually(
            lambda: sum("instId" in arg for arg in asked()) == len(symbols), within_s=30.0
        )
        await eventually(
            lambda: sum('SWAP"}' in arg and "instType" in arg for arg in asked()) == 1,
            within_s=30.0,
        )
        assert len(asked()) == len(symbols) + 2


def test_okx_channels_are_asked_for_where_they_exist() -> None:
    """Statistics of derivatives, funding of perpetuals, indices by their pair; liquidations once
    by type, without topics.
    """
    channels = [
        "books",
        "mark-price",
        "funding-rate",
        "open-interest",
        "index-tickers",
        "liquidation-orders",
    ]
    symbols = ["BTC-USDT", "BTC-USDT-SWAP", "BTC-USD-220527", "BTC-USD_UM_XPERP-310404"]
    (part,) = OKX.stream.subscribe(symbols, channels, 1)
    found = Counter(topic.channel for topic in part.topics)
    assert found == {
        "books": 4,
        "mark-price": 3,
        "funding-rate": 2,
        "open-interest": 3,
        "index-tickers": 1,
    }
    assert Topic("index-tickers", "BTC-USDT") in part.topics
    first, last = (json.loads(frame) for frame in part.frames)
    assert len(first["args"]) == 13
    assert last == {
        "id": "2",
        "op": "subscribe",
        "args": [
            {"channel": "liquidation-orders", "instType": kind} for kind in ("SWAP", "FUTURES")
        ],
    }
    assert part.request_ids == ("1", "2")
    (alone,) = OKX.stream.subscribe(["BTC-USDT-SWAP"], ["liquidation-orders"], 7)
    assert (len(alone.frames), alone.topics, alone.request_ids) == (1, (), ("7",))


def test_okx_channels_that_stay_without_use_give_nothing() -> None:
    """Option summaries, price limits and the archive's own `liquidations` (example 40) are known
    and nothing.
    """
    assert OKX.stream.control(example("okx", 40)) == Ignored("liquidations")
    feed = Feed("okx", "BTC-USDT-211231")
    assert feed.frame(example("okx", 40)) == []
    assert feed.session.counts["quarantine"] == 0


# Deribit


def deribit_trade(**more: object) -> bytes:
    """Return the perpetual's leg of the documented block trade 61, as the trades channel writes
    trades.
    """
    trade = {
        "trade_seq": 25350,
        "trade_id": "92435",
        "timestamp": 1565089523719,
        "tick_direction": 3,
        "price": 11590,
        "instrument_name": "BTC-PERPETUAL",
        "index_price": 11737.98,
        "direction": "buy",
        "amount": 190,
        **more,
    }
    return dump(
        {
            "jsonrpc": "2.0",
            "method": "subscription",
            "params": {"channel": "trades.BTC-PERPETUAL.100ms", "data": [trade]},
        }
    )


def test_deribit_block_trades_are_flagged() -> None:
    """`block_trade_id` of whatever text tells a block trade; null and absent are ordinary
    trades.
    """
    feed = Feed("deribit", "BTC-PERPETUAL")
    ids: list[dict[str, object]] = [{"block_trade_id": "61"}, {"block_trade_id": None}, {}]
    flags = [only(feed.frame(deribit_trade(**more)))["flags"] for more in ids]
    assert ["block" in found for found in flags] == [True, False, False]
    assert feed.frame(deribit_trade(block_trade_id=61)) == []
    assert feed.session.counts["quarantine"] == 1
