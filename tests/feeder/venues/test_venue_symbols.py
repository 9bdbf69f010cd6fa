"""Which symbols a venue has and of what kind, what one pair is called where, and whose body a
recorded REST URL is.
"""

from __future__ import annotations

import pytest

from tapecast.feeder.venues.binance import VENUE as BINANCE
from tapecast.feeder.venues.binance_futures import VENUE as FUTURES
from tapecast.feeder.venues.okx import VENUE as OKX
from tapecast.feeder.venues.spec import VenueSpec
from tapecast.feeder.venues.upbit import VENUE as UPBIT
from tapecast.protocol.schema import InstrumentKind as Kind

SYMBOLS = [
    (BINANCE, "BTCUSDT", Kind.SPOT),
    (BINANCE, "1000SATSUSDT", Kind.SPOT),
    (BINANCE, "币安人生USDT", Kind.SPOT),
    (BINANCE, "BTCUSDT_210625", None),
    (BINANCE, "btcusdt", None),
    (BINANCE, "BTC-USDT", None),
    (BINANCE, "", None),
    (BINANCE, "A" * 41, None),
    (FUTURES, "BTCUSDT", Kind.PERPETUAL),
    (FUTURES, "1000SHIBUSDT", Kind.PERPETUAL),
    (FUTURES, "BTCUSDT_210625", Kind.FUTURE),
    (FUTURES, "BTCBUSD_210129", Kind.FUTURE),
    (FUTURES, "BTCUSD_PERP", None),
    (FUTURES, "BTCUSD_210625", None),
    (FUTURES, "BNBUSD_210625", None),
    (FUTURES, "BTCUSDT_C", None),
    (OKX, "BTC-USDT", Kind.SPOT),
    (OKX, "BTC-USDT-SWAP", Kind.PERPETUAL),
    (OKX, "BTC-USD-220527", Kind.FUTURE),
    (OKX, "BTC-USD_UM_XPERP-310404", Kind.FUTURE),
    (OKX, "BTC-USD-220325-40000-C", Kind.OPTION),
    (OKX, "BTC-USD-220325-40000-X", None),
    (OKX, "BTCUSDT", None),
    (OKX, "BTC-USDT-", None),
    (UPBIT, "KRW-BTC", Kind.SPOT),
    (UPBIT, "KRW-1INCH", Kind.SPOT),
    (UPBIT, "BTC-BASIC", Kind.SPOT),
    (UPBIT, "USDT-ETC", Kind.SPOT),
    (UPBIT, "BTC-USDT.15", None),
    (UPBIT, "XYZ-BTC", None),
]


@pytest.mark.parametrize(
    ("venue", "symbol", "kind"), SYMBOLS, ids=lambda value: getattr(value, "name", None)
)
def test_a_symbol_tells_its_kind(venue: VenueSpec, symbol: str, kind: Kind | None) -> None:
    """Symbols of the venue have a kind; those of another market, or of none, have not."""
    assert venue.kind_of(symbol) is kind


def test_one_pair_has_each_venues_own_names() -> None:
    """A pair named once is found under the native symbols of every venue."""
    assert BINANCE.listing.symbols_of_pair("BTC", "USDT") == ("BTCUSDT",)
    assert FUTURES.listing.symbols_of_pair("BTC", "USDT") == ("BTCUSDT",)
    assert OKX.listing.symbols_of_pair("BTC", "USDT") == ("BTC-USDT", "BTC-USDT-SWAP")
    assert UPBIT.listing.symbols_of_pair("BTC", "KRW") == ("KRW-BTC",)
    for venue in (BINANCE, FUTURES, OKX, UPBIT):
        assert all(
            venue.kind_of(symbol) is not None
            for symbol in venue.listing.symbols_of_pair("ETH", "BTC")
        )


URLS = [
    (BINANCE, "https://api.binance.com/api/v3/depth?symbol=NKNUSDT&limit=1000", "NKNUSDT"),
    (BINANCE, "https://www.binance.com/api/v1/depth?symbol=DOTUSDT&limit=1000", "DOTUSDT"),
    (BINANCE, "https://fapi.binance.com/fapi/v1/depth?symbol=KSMUSDT&limit=1000", None),
    (BINANCE, "https://api.binance.com/api/v3/exchangeInfo", None),
    (FUTURES, "https://fapi.binance.com/fapi/v1/depth?symbol=KSMUSDT&limit=1000", "KSMUSDT"),
    (FUTURES, "https://dapi.binance.com/dapi/v1/depth?symbol=BTCUSD_PERP&limit=1000", None),
    (OKX, "https://www.okx.com/api/v5/market/books?instId=BTC-USDT&source=0", "BTC-USDT"),
    (OKX, "https://www.okx.com/api/v5/public/instruments?instType=SPOT", None),
    (UPBIT, "https://api.upbit.com/v1/market/all", None),
]


@pytest.mark.parametrize(
    ("venue", "url", "symbol"), URLS, ids=lambda value: getattr(value, "name", None)
)
def test_a_recorded_url_names_the_symbol_of_its_book(
    venue: VenueSpec, url: str, symbol: str | None
) -> None:
    """A REST order book belongs to the symbol in its URL, and only on its own market's path."""
    assert venue.recordings.snapshot_symbol(url) == symbol


@pytest.mark.parametrize(("venue", "levels", "limit", "weight"), [
    (BINANCE, 100, "100", 5),
    (BINANCE, 1000, "1000", 50),
    (BINANCE, 1001, "5000", 250),
    (BINANCE, 10_000, "5000", 250),
    (FUTURES, 1000, "1000", 20),
])  # fmt: skip
def test_a_snapshot_request_states_its_weight(
    venue: VenueSpec, levels: int, limit: str, weight: int
) -> None:
    """The smallest permitted limit that holds the wanted levels is asked for, at the documented
    weight.
    """
    assert venue.rule.snapshot_request is not None
    request = venue.rule.snapshot_request("BTCUSDT", levels)
    assert dict(request.query) == {"symbol": "BTCUSDT", "limit": limit}
    assert request.weight == weight


def test_the_url_of_a_request_is_recognised_again() -> None:
    """What a venue module requests, it also recognises in a recording."""
    for venue in (BINANCE, FUTURES, OKX):
        assert venue.rule.snapshot_request is not None
        symbol = venue.listing.symbols_of_pair("BTC", "USDT")[0]
        request = venue.rule.snapshot_request(symbol, 1000)
        url = (
            "https://host"
            + request.path
            + "?"
            + "&".join(f"{key}={value}" for key, value in request.query)
        )
        assert venue.recordings.snapshot_symbol(url) == symbol
    for venue in (BINANCE, FUTURES, OKX, UPBIT):
        assert all(
            venue.recordings.is_listing("https://host" + request.path)
            for request in venue.listing.requests()
        )
