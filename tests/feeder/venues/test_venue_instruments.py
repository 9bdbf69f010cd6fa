"""Instrument bodies become exact definitions: recorded ones of Binance and OKX, documented
entries with figures that occurred.
"""

from __future__ import annotations

import json
from collections import Counter

import msgspec
import pytest

from tapecast.feeder.record.recording import read
from tapecast.feeder.symbols.names import canonical
from tapecast.feeder.venues.binance import VENUE as BINANCE
from tapecast.feeder.venues.binance_futures import VENUE as FUTURES
from tapecast.feeder.venues.okx import VENUE as OKX
from tapecast.feeder.venues.spec import (
    Exact,
    InstrumentDef,
    Instruments,
    InstrumentsError,
    VenueSpec,
    exact,
    exact_product,
)
from tapecast.feeder.venues.upbit import VENUE as UPBIT
from tapecast.protocol.schema import InstrumentKind, InstrumentState, OptionType
from tests.support.captures import captures


def recorded(venue: VenueSpec, file: str) -> list[Instruments]:
    """Return what every instruments body of a recording says."""
    lines = read([captures() / venue.name / file])
    return [
        venue.listing.parse(line.raw)
        for line in lines
        if line.url and venue.recordings.is_listing(line.url)
    ]


def by_symbol(found: Instruments) -> dict[str, InstrumentDef]:
    """Return definitions by symbol."""
    return {defn.symbol: defn for defn in found.defs}


def test_spot_exchange_info_is_read_whole() -> None:
    """All 1,695 symbols of a recorded exchangeInfo become definitions with exact steps."""
    (found,) = recorded(BINANCE, "cf_20211012_spot.jsonl")
    assert (len(found.defs), found.rejected) == (1695, ())
    assert Counter(defn.state for defn in found.defs) == {
        InstrumentState.TRADING: 1262,
        InstrumentState.HALTED: 433,
    }
    eth = by_symbol(found)["ETHBTC"]
    assert eth == InstrumentDef(
        symbol="ETHBTC",
        kind=InstrumentKind.SPOT,
        state=InstrumentState.TRADING,
        base="ETH",
        quote="BTC",
        settle="BTC",
        tick=Exact(1, -6),
        lot=Exact(1, -4),
        min_qty=Exact(1, -4),
        min_notional=Exact(1, -4),
    )
    assert (eth.price_exp, eth.qty_exp, canonical(eth)) == (-6, -4, "ETH-BTC")


@pytest.mark.parametrize(("file", "count", "future", "expiry_ns"), [
    ("cf_20210722_usdm.jsonl", 122, "BTCUSDT_210924", 1_632_470_400_000_000_000),
    ("cf_20210417_usdm.jsonl", 113, "BTCUSDT_210625", 1_624_608_000_000_000_000),
])  # fmt: skip
def test_usd_m_exchange_info_is_read_whole(
    file: str, count: int, future: str, expiry_ns: int
) -> None:
    """Perpetuals and delivery contracts are told apart, and only the latter expire."""
    (found,) = recorded(FUTURES, file)
    assert (len(found.defs), found.rejected) == (count, ())
    defs = by_symbol(found)
    assert (defs[future].kind, defs[future].expiry_ns) == (InstrumentKind.FUTURE, expiry_ns)
    bitcoin = defs["BTCUSDT"]
    assert (bitcoin.kind, bitcoin.expiry_ns, bitcoin.settle) == (
        InstrumentKind.PERPETUAL,
        0,
        "USDT",
    )
    assert (bitcoin.tick, bitcoin.lot, bitcoin.min_notional) == (
        Exact(1, -2),
        Exact(1, -3),
        Exact(5, 0),
    )
    assert defs["BTCSTUSDT"].state is InstrumentState.PRE_OPEN


def test_okx_instruments_are_read_whole() -> None:
    """Recorded SPOT and SWAP lists become definitions; contract sizes are kept as multipliers."""
    spot, swap = recorded(OKX, "cf_20220513_v5_books.jsonl")
    assert (len(spot.defs), spot.rejected, len(swap.defs), swap.rejected) == (513, (), 166, ())
    bitcoin = by_symbol(spot)["BTC-USDT"]
    assert (bitcoin.tick, bitcoin.lot, bitcoin.min_qty) == (
        Exact(1, -1),
        Exact(1, -8),
        Exact(1, -5),
    )
    assert (bitcoin.qty_exp, bitcoin.multiplier) == (-8, None)
    inverse = by_symbol(swap)["BTC-USD-SWAP"]
    assert (inverse.multiplier, inverse.inverse, inverse.settle) == (Exact(100, 0), True, "BTC")
    assert canonical(inverse) == "BTC-USD"
    linear = by_symbol(swap)["BTC-USDT-SWAP"]
    assert (linear.multiplier, linear.inverse, linear.settle, canonical(linear)) == (
        Exact(1, -2),
        False,
        "USDT",
        "BTC-USDT",
    )


def okx_body(**fields: str) -> bytes:
    """Return an OKX instruments answer with one entry."""
    return msgspec.json.encode({"code": "0", "msg": "", "data": [fields]})


def test_okx_option_has_strike_and_expiry() -> None:
    """Fields as documented for instType OPTION; the symbol occurs in the recording of
    2022-02-27.
    """
    found = OKX.listing.parse(
        okx_body(
            instId="BTC-USD-220325-40000-C",
            instType="OPTION",
            state="live",
            settleCcy="BTC",
            uly="BTC-USD",
            ctVal="0.1",
            ctMult="0.1",
            tickSz="0.0005",
            lotSz="1",
            minSz="1",
            expTime="1648195200000",
            stk="40000",
            optType="C",
        )
    )
    (option,) = found.defs
    assert (option.kind, option.option_type, option.strike) == (
        InstrumentKind.OPTION,
        OptionType.CALL,
        Exact(40000, 0),
    )
    assert (option.expiry_ns, option.multiplier) == (1_648_195_200_000_000_000, Exact(1, -2))
    assert canonical(option) == "BTC-USD-20220325-40000-C"


def test_okx_long_dated_future_keeps_its_pair() -> None:
    """The quote of `BTC-USD_UM_XPERP-310404` is USD."""
    found = OKX.listing.parse(
        okx_body(
            instId="BTC-USD_UM_XPERP-310404",
            instType="FUTURES",
            state="live",
            instFamily="BTC-USD_UM_XPERP",
        )
    )
    (future,) = found.defs
    assert (future.kind, future.quote, future.settle, canonical(future)) == (
        InstrumentKind.FUTURE,
        "USD",
        "USD",
        None,
    )


def test_entries_that_are_not_understood_are_named() -> None:
    """One odd entry costs itself, not the list, and is reported."""
    body = {"symbols": [
        {"symbol": "BTCUSD_PERP", "baseAsset": "BTC", "quoteAsset": "USD", "filters": []},
        {"symbol": "ETHUSDT", "baseAsset": "ETH", "quoteAsset": "USDT", "filters": [{"filterType": "LOT_SIZE", "minQty": "x"}]},
        {"symbol": "XRPUSDT"},
        {"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "status": "NEW_WORD", "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": "0.00000000"}]},
    ]}  # fmt: skip
    found = FUTURES.listing.parse(msgspec.json.encode(body))
    assert [defn.symbol for defn in found.defs] == ["BTCUSDT"]
    assert (found.defs[0].tick, found.defs[0].state) == (None, InstrumentState.UNKNOWN)
    assert len(found.rejected) == 3
    odd = OKX.listing.parse(okx_body(instId="BTC-USDT", instType="SWAP"))
    assert (odd.defs, len(odd.rejected)) == ((), 1)


def test_upbit_markets_leave_the_tick_open() -> None:
    """A market list entry of docs.upbit.com: the tick depends on the price, so it is not
    defined.
    """
    body = '[{"market":"KRW-BTC","korean_name":"비트코인","english_name":"Bitcoin","market_event":{"warning":false}},{"market":"X"}]'
    found = UPBIT.listing.parse(body.encode())
    (bitcoin,) = found.defs
    assert (bitcoin.symbol, bitcoin.tick, bitcoin.price_exp, canonical(bitcoin)) == (
        "KRW-BTC",
        None,
        None,
        "BTC-KRW",
    )
    assert len(found.rejected) == 1


@pytest.mark.parametrize("venue", [BINANCE, FUTURES, OKX, UPBIT], ids=lambda venue: venue.name)
@pytest.mark.parametrize(
    "body", [b"", b"{", b"<html>", b'{"code":"50011","msg":"Too Many Requests","data":[]}', b"\xff"]
)
def test_a_body_that_is_no_list_is_an_error(venue: VenueSpec, body: bytes) -> None:
    """An error page or a refusal is never read as an empty market."""
    with pytest.raises(InstrumentsError):
        venue.listing.parse(body)


def test_numbers_are_exact() -> None:
    """Steps keep their exact value whatever their padding, and an empty text is no number."""
    assert exact("0.00000100") == Exact(1, -6)
    assert exact("") is None
    assert exact_product(Exact(1, -1), Exact(25, -2)) == Exact(25, -3)
    with pytest.raises(InstrumentsError):
        exact("NaN")


def test_recorded_bodies_survive_the_recorder() -> None:
    """The recorder removed newlines inside bodies; they are JSON all the same."""
    for line in read([captures() / "binance" / "cf_20211012_spot.jsonl"]):
        if line.kind == "http":
            assert json.loads(line.raw)
