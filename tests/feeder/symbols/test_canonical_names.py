"""Canonical names: one instrument each at one venue, and the same name for the same product at
all of them.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest

from tapecast.consumers.feed.definitions import Definitions
from tapecast.consumers.feed.events import Names
from tapecast.consumers.feed.selection import Selection
from tapecast.feeder.record.recording import read
from tapecast.feeder.session.session import Session, SessionOptions
from tapecast.feeder.symbols.names import canonical
from tapecast.feeder.venues import venue
from tapecast.feeder.venues.spec import InstrumentDef, InstrumentsError
from tapecast.protocol.codec import walk
from tapecast.protocol.naming import canonical_name, has_wildcard, meanings
from tapecast.protocol.schema import InstrumentKind as Kind
from tapecast.protocol.schema import OptionType
from tests.support.captures import captures, discover
from tests.support.venue_server import lines

COUNTS = {
    "binance/cf_20211012_spot.jsonl": 1695,
    "binance_futures/cf_20210722_usdm.jsonl": 122,
    "bybit/cf_20260809_v5_linear_spot.p1.jsonl": 1357,
    "coinbase/cf_20260809_advanced_trade.p1.jsonl": 520,
    "coinbase/cf_20210417_exchange_ws_feed.p1.jsonl": 162,
    "deribit/cf_20210722_options.jsonl": 1017,
    "kraken/cf_20210417_ws_v1.p1.jsonl": 293,
    "okx/cf_20220513_v5_books.jsonl": 679,
}
"""How many definitions a recorded list holds, counted once by hand."""


def lists() -> dict[str, str]:
    """Return a recording with a list of instruments of each venue that has one: it begins with
    its REST bodies.
    """
    found: dict[str, str] = {}
    for file in discover():
        if file.venue and file.opening.get("kind") == "http" and not file.single:
            is_listing = venue(file.venue).recordings.is_listing
            bodies = (line for line in islice(read([file.path]), 6) if line.kind == "http")
            if any(line.url and is_listing(line.url) for line in bodies) and (
                file.venue not in found or file.name in COUNTS
            ):
                found[file.venue] = file.name
    return dict(sorted(found.items()))


LISTS = lists()


def listed(name: str) -> dict[str, InstrumentDef]:
    """Return a venue's recorded definitions by key."""
    spec = venue(name)
    found: dict[str, InstrumentDef] = {}
    for line in lines(captures() / LISTS[name], "http"):
        if line.url and spec.recordings.is_listing(line.url):
            found |= {
                definition.key: definition for definition in spec.listing.parse(line.raw).defs
            }
    return found


def expiry(year: int, month: int, day: int) -> int:
    """Return 08:00 UTC of a day in ns: when the crypto venues settle."""
    return int(datetime(year, month, day, 8, tzinfo=UTC).timestamp()) * 1_000_000_000


@pytest.mark.parametrize("name", LISTS)
def test_venue_kind_and_canonical_name_mean_one_instrument(name: str) -> None:
    """In every recorded list no two instruments of a kind share a name, in capitals or not, and
    each has one.
    """
    defs = listed(name)
    assert len(defs) == COUNTS.get(LISTS[name], len(defs)) > 0
    names = Counter((d.kind, (canonical(d) or "").upper()) for d in defs.values())
    assert [key for key, count in names.items() if count > 1 or not key[1]] == []


@pytest.mark.parametrize("name", LISTS)
def test_native_symbols_stay_as_they_are(name: str) -> None:
    """Kind and native symbol alone mean one instrument too, and a text never means two
    instruments of one kind.
    """
    defs = listed(name)
    owners: dict[tuple[Kind, str], set[str]] = {}
    for key, definition in defs.items():
        kind = definition.kind
        for text in meanings(name, kind.name.lower(), definition.symbol, canonical(definition)):
            owners.setdefault((kind, text), set()).add(key)
    assert [text for text, keys in owners.items() if len(keys) > 1] == []


@pytest.mark.parametrize("name", LISTS)
def test_consumers_name_instruments_as_the_feeder_does(name: str) -> None:
    """The wire carries what the name is made of: every recorded definition has the same one on
    the other side.
    """
    spec, defs = venue(name), listed(name)
    session = Session(spec, SessionOptions(channel_id=spec.venue_id))
    for line in lines(captures() / LISTS[name], "http"):
        if line.url and spec.recordings.is_listing(line.url):
            session.on_instruments(line.raw, 1, 1)
    session.subscribe(defs, 1)
    buffers: list[bytes] = []
    session.flush(lambda buffer, size: buffers.append(bytes(buffer[:size])), 1, 1)
    seen = Definitions(Selection(None, None))
    found = {
        event.instrument: event.canonical
        for buffer in buffers
        for packet in walk(buffer)
        for event in seen.take(packet)
    }
    # 1000000BABYDOGE has 15 letters, the wire's currency names 12: it is left empty there and
    # found by the native symbol.
    assert found == {
        f"{name}.{d.kind.name.lower()}.{d.symbol}": canonical(d) if len(d.base) <= 12 else None
        for d in defs.values()
    }


def test_a_name_too_long_for_the_wire_is_still_found() -> None:
    """Without a canonical name on the wire, `BASE-QUOTE` means the native symbol it spells."""
    wanted = Selection(None, ["1000000BABYDOGE-USDT"])
    text = "bybit.perpetual.1000000BABYDOGEUSDT"
    assert wanted.define(Names("bybit", "perpetual", "1000000BABYDOGEUSDT", text), None)


NAMES = [
    ("binance", "1000SATSUSDT", None),  # not listed in 2021
    ("binance", "SHIBUSDT", "SHIB-USDT"),
    ("binance_futures", "1000SHIBUSDT", "1000SHIB-USDT"),
    ("binance_futures", "BTCUSDT", "BTC-USDT"),
    ("binance_futures", "BTCUSDT_210924", "BTC-USDT-20210924"),
    ("bybit", "BTCUSDT", "BTC-USDT"),
    ("bybit", "spot:BTCUSDT", "BTC-USDT"),
    ("bybit", "BTCPERP", "BTC-USDC"),
    ("bybit", "BTCUSDT-25SEP26", "BTC-USDT-20260925"),
    ("bybit", "BTCUSDT-25DEC26", "BTC-USDT-20261225"),
    ("bybit", "1000PEPEUSDT", "1000PEPE-USDT"),
    ("bybit", "SHIB1000USDT", "SHIB1000-USDT"),
    ("coinbase", "BTC-USD", "BTC-USD"),
    ("coinbase", "BTC-USDC", None),  # a second name of BTC-USD
    ("deribit", "BTC-PERPETUAL", "BTC-USD"),
    ("deribit", "BTC-25MAR22", "BTC-USD-20220325"),
    ("deribit", "BTC-24SEP21-40000-P", "BTC-USD-20210924-40000-P"),
    ("deribit", "BTC-24SEP21-40000-C", "BTC-USD-20210924-40000-C"),
    ("deribit", "UNI_USDC-PERPETUAL", "UNI-USDC"),
    ("kraken", "BTC/USD", "BTC-USD"),
    ("kraken", "DOGE/EUR", "DOGE-EUR"),
    ("okx", "BTC-USDT", "BTC-USDT"),
    ("okx", "BTC-USDT-SWAP", "BTC-USDT"),
    ("okx", "BTC-USD-SWAP", "BTC-USD"),
    ("okx", "SHIB-USDT-SWAP", "SHIB-USDT"),
]


@pytest.mark.parametrize(
    ("name", "key", "expected"), NAMES, ids=[f"{name}-{key}" for name, key, _ in NAMES]
)
def test_the_same_product_has_the_same_name_everywhere(
    name: str, key: str, expected: str | None
) -> None:
    """Pairs whatever their order, dated contracts by day, options by strike and type; contracts
    of a thousand are another.
    """
    defs = listed(name)
    assert (canonical(defs[key]) if key in defs else None) == expected


def test_upbit_and_bithumb_put_the_quote_first() -> None:
    """KRW-BTC is BTC-KRW; as documented for `/v1/market/all`."""
    for name in ("upbit", "bithumb"):
        (pair,) = (
            venue(name)
            .listing.parse(b'[{"market":"KRW-BTC","korean_name":"x","english_name":"Bitcoin"}]')
            .defs
        )
        assert (pair.symbol, canonical(pair)) == ("KRW-BTC", "BTC-KRW")


def test_coinbases_second_names_lead_to_the_first() -> None:
    """BTC-USDC is an alias: its messages carry BTC-USD, and no two instruments share one."""
    defs = listed("coinbase")
    assert defs["BTC-USD"].aliases == ("BTC-USDC",)
    aliases = [alias for definition in defs.values() for alias in definition.aliases]
    assert len(aliases) == len(set(aliases)) == 400
    assert not set(aliases) & set(defs)


def test_kraken_keeps_its_rest_names_beside_the_streams() -> None:
    """XBT is BTC: REST's names are kept as aliases, which is what REST tickers are keyed by."""
    defs = listed("kraken")
    assert defs["BTC/USD"].aliases == ("XXBTZUSD", "XBTUSD", "XBT/USD")
    aliases = [alias for definition in defs.values() for alias in definition.aliases]
    assert len(aliases) == len(set(aliases))


MARCH = expiry(2026, 3, 27)
RULES = [
    ((Kind.SPOT, "BTC", "USDT"), {}, "BTC-USDT"),
    ((Kind.SPOT, "BTC", "USD"), {"settle": "USD"}, "BTC-USD"),
    ((Kind.PERPETUAL, "BTC", "USD"), {"settle": "BTC"}, "BTC-USD"),
    ((Kind.PERPETUAL, "BTC", "USD"), {"settle": "USD"}, "BTC-USD:USD"),
    ((Kind.PERPETUAL, "BTC", "USD"), {"settle": "USDC"}, "BTC-USD:USDC"),
    ((Kind.PERPETUAL, "BTC", "USDT"), {"settle": "USDT"}, "BTC-USDT"),
    ((Kind.PERPETUAL, "BTC", "USDT"), {"settle": "BTC"}, "BTC-USDT:BTC"),
    ((Kind.FUTURE, "BTC", "USDT"), {"settle": "USDT", "expiry_ns": MARCH}, "BTC-USDT-20260327"),
    ((Kind.FUTURE, "BTC", "USD"), {"settle": "USDC", "expiry_ns": MARCH}, "BTC-USD:USDC-20260327"),
    ((Kind.FUTURE, "BTC", "USDT"), {"settle": "USDT"}, None),
    (
        (Kind.OPTION, "BTC", "BTC"),
        {"settle": "BTC", "expiry_ns": MARCH, "strike": "60000", "option_type": 1},
        "60000-C",
    ),
    (
        (Kind.OPTION, "BTC", "USD"),
        {"settle": "BTC", "expiry_ns": MARCH, "strike": "60000", "option_type": 2},
        "60000-P",
    ),
    ((Kind.OPTION, "BTC", "USD"), {"settle": "BTC", "expiry_ns": MARCH, "strike": "60000"}, None),
    (
        (Kind.OPTION, "BTC", "USD"),
        {"settle": "BTC", "expiry_ns": MARCH, "option_type": OptionType.CALL},
        None,
    ),
    (
        (Kind.OPTION, "BTC", "USD"),
        {"settle": "BTC", "strike": "60000", "option_type": OptionType.CALL},
        None,
    ),
    ((Kind.SPOT, "", "USDT"), {}, None),
    ((Kind.SPOT, "BTC", ""), {}, None),
]


@pytest.mark.parametrize(("pair", "more", "expected"), RULES)
def test_a_name_says_what_tells_products_apart(
    pair: tuple[int, str, str], more: dict[str, str | int], expected: str | None
) -> None:
    """Settlement where the pair does not imply it, day, strike and type; no name where one of
    them is missing.
    """
    name = canonical_name(*pair, **more)  # type: ignore[arg-type]
    assert name == (
        f"BTC-USD-20260327-{expected}" if expected is not None and expected[0] == "6" else expected
    )


def test_every_way_to_write_an_instrument_is_known() -> None:
    """Native symbol, full text, canonical name, and that of one kind: all in capitals."""
    assert meanings("okx", "perpetual", "BTC-USDT-SWAP", "BTC-USDT") == (
        "BTC-USDT-SWAP",
        "OKX.PERPETUAL.BTC-USDT-SWAP",
        "BTC-USDT",
        "PERPETUAL.BTC-USDT",
    )
    assert meanings("kraken", "spot", "ANETx/USD", None) == ("ANETX/USD", "KRAKEN.SPOT.ANETX/USD")
    assert [has_wildcard(text) for text in ("*-USDT", "BTC-?", "[AB]*", "BTC-USDT")] == [
        True,
        True,
        True,
        False,
    ]


VOLUMES = [
    ("coinbase", "coinbase/cf_20260809_advanced_trade.p1.jsonl", 0, "BTC-USD", "186637571.25"),
    ("bithumb", "bithumb/cf_20210602_pubwss_v1.p1.jsonl", 0, "BTC-ETH", "12.02605618"),
    ("bithumb", "bithumb/cf_20210602_pubwss_v1.p1.jsonl", 1, "KRW-BTC", "169853829676.0389"),
]


@pytest.mark.parametrize(("name", "file", "place", "symbol", "volume"), VOLUMES)
def test_recorded_tickers_give_the_turnover(
    name: str, file: str, place: int, symbol: str, volume: str
) -> None:
    """The recorded bodies of the endpoints that are asked."""
    spec = venue(name)
    assert spec.listing.volumes is not None
    line = list(lines(captures() / file, "http"))[place]
    (request,) = [
        request
        for request in spec.listing.volumes.requests()
        if line.url is not None and line.url.endswith(request.path)
    ]
    assert str(spec.listing.volumes.parse(request, line.raw)[symbol]) == volume


def test_recorded_deribit_summaries_give_the_turnover() -> None:
    """`get_book_summary_by_…`, as recorded on a stream (examples 21 and 22)."""
    spec = venue("deribit")
    assert spec.listing.volumes is not None
    examples = [line.raw for line in lines(captures() / "deribit/examples.jsonl")]
    found = [
        spec.listing.volumes.parse(spec.listing.volumes.requests()[0], examples[place - 1])
        for place in (21, 22)
    ]
    assert [{name: str(volume) for name, volume in one.items()} for one in found] == [
        {"BTC-24JUN22": "12498220.0"},
        {"BTC-PERPETUAL": "223275080.0"},
    ]


def recorded(file: str, mark: str) -> dict[str, Any]:
    """Return the first recorded message with a mark in it."""
    return next(
        json.loads(line.raw) for line in lines(captures() / file) if mark.encode() in line.raw
    )


def test_a_rest_ticker_has_the_fields_of_the_streams() -> None:
    """As documented, entries of OKX, Bybit and Upbit over REST are those of their ticker
    streams: recorded figures.
    """
    swap, pair = (
        recorded(
            "okx/cf_20220513_v5_books.jsonl", f'{{"arg":{{"channel":"tickers","instId":"{symbol}"}}'
        )["data"][0]
        for symbol in ("UNI-USD-SWAP", "BTC-USDT")
    )
    okx, bybit, upbit = (venue(name).listing.volumes for name in ("okx", "bybit", "upbit"))
    assert okx is not None
    assert bybit is not None
    assert upbit is not None
    body: dict[str, Any] = {"code": "0", "msg": "", "data": [swap, pair]}
    found = okx.parse(okx.requests()[0], json.dumps(body).encode())
    assert found["UNI-USD-SWAP"] == Decimal(swap["volCcy24h"]) * Decimal(swap["last"])
    assert found["BTC-USDT"] == Decimal(pair["volCcy24h"])
    ticker = recorded(
        "bybit/cf_20260809_v5_linear_spot.p1.jsonl", '"tickers.BTCUSDT","type":"snapshot"'
    )["data"]
    for category, key in (("linear", "BTCUSDT"), ("spot", "spot:BTCUSDT")):
        body = {"retCode": 0, "retMsg": "OK", "result": {"category": category, "list": [ticker]}}
        assert bybit.parse(bybit.requests()[0], json.dumps(body).encode()) == {
            key: Decimal("1142118412.9021")
        }
    market = recorded("upbit/sml_20250714_default_ticker_reserialized.jsonl", '"ticker"')
    entries = [{"market": market["code"], "acc_trade_price_24h": market["acc_trade_price_24h"]}]
    assert list(upbit.parse(upbit.requests()[0], json.dumps(entries).encode())) == ["KRW-W"]


def test_documented_tickers_give_the_turnover() -> None:
    """The documented answers of Binance's `ticker/24hr` and Kraken's `Ticker`; Kraken's 24 h
    volume times its mean price.
    """
    spot, kraken = venue("binance").listing.volumes, venue("kraken").listing.volumes
    assert spot is not None
    assert kraken is not None
    ticker = {
        "symbol": "BNBBTC",
        "weightedAvgPrice": "0.29628482",
        "volume": "8913.30000000",
        "quoteVolume": "15.30000000",
    }
    assert spot.parse(spot.requests()[0], json.dumps([ticker]).encode()) == {
        "BNBBTC": Decimal("15.30000000")
    }
    pair = {
        "v": ["4083.67001100", "4412.73601799"],
        "p": ["30706.77771", "30689.13205"],
        "t": [34619, 38907],
    }
    found = kraken.parse(
        kraken.requests()[0], json.dumps({"error": [], "result": {"XXBTZUSD": pair}}).encode()
    )
    assert found == {"XXBTZUSD": Decimal("4412.73601799") * Decimal("30689.13205")}


@pytest.mark.parametrize(
    "name",
    [name for name in (*LISTS, "upbit", "bithumb", "binance_coinm") if venue(name).listing.volumes],
)
def test_what_is_no_ticker_is_told(name: str) -> None:
    """An error body, another page, half a message: never volumes of nothing."""
    spec = venue(name)
    assert spec.listing.volumes is not None
    for body in (
        b"",
        b"<html>",
        b'{"retCode":10006}',
        b'{"code":"50011","data":[],"msg":"x"}',
        b'{"error":["EGeneral:x"]}',
    ):
        with pytest.raises(InstrumentsError):
            spec.listing.volumes.parse(spec.listing.volumes.requests()[0], body)
