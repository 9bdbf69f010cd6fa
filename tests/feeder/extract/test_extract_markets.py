"""One symbol in several markets of a venue: both extractors take it for the instrument of the
selected one.
"""

from __future__ import annotations

import pytest

from tapecast.feeder.extract.extractor import Extractor
from tapecast.feeder.extract.fallback import FallbackExtractor
from tapecast.feeder.extract.shapes import BidAskRows, BookShape, Numbers, Rows
from tapecast.feeder.extract.types import ExtractStatus

BOOK = BookShape(
    name="book",
    numbers=Numbers.QUOTED,
    symbol="s",
    levels=BidAskRows(bids=Rows("b"), asks=Rows("a")),
)
BOTH = pytest.mark.parametrize("make", [Extractor, FallbackExtractor])

Make = type[Extractor] | type[FallbackExtractor]


def frame(symbol: str) -> bytes:
    """Return a book of one bid, at Bybit's BTCUSDT price of 2026-08-09."""
    return f'{{"s":"{symbol}","b":[["65114.20","6.054"]],"a":[]}}'.encode()


def extractor(make: Make) -> Extractor | FallbackExtractor:
    """Return an extractor without instruments."""
    return make((BOOK,), venue_id=3, channel_id=3)


@BOTH
def test_a_symbol_is_looked_up_in_the_selected_market(make: Make) -> None:
    """Indices are dense over all markets, and what one market does not know, another's symbol
    does not stand for.
    """
    x = extractor(make)
    assert x.add_instrument("BTCUSDT", 11, -1, -3) == 0
    x.select("spot")
    assert x.extract(frame("BTCUSDT"), 1) == ExtractStatus.UNKNOWN_SYMBOL
    assert x.index_of("BTCUSDT") is None
    assert x.add_instrument("BTCUSDT", 22, -1, -3) == 1
    for market, index in (("spot", 1), ("", 0), ("spot", 1)):
        x.select(market)
        assert x.extract(frame("BTCUSDT"), 1) == ExtractStatus.OK
        assert x.r.instrument == index
        assert x.index_of("BTCUSDT") == index
    with pytest.raises(ValueError, match="exists"):
        x.add_instrument("BTCUSDT", 33, -1, -3)


@BOTH
def test_many_instruments_of_several_markets_are_all_found(make: Make) -> None:
    """Growing the table enters every market's symbols anew."""
    x = extractor(make)
    markets = ("", "spot", "inverse")
    for number in range(300):
        x.select(markets[number % 3])
        assert x.add_instrument(f"A{number // 3}USDT", 1000 + number, -1, -3) == number
    for number in range(300):
        x.select(markets[number % 3])
        assert x.extract(frame(f"A{number // 3}USDT"), 1) == ExtractStatus.OK
        assert x.r.instrument == number
    assert x.exponents(299) == (-1, -3)
    x.set_exponents(299, -2, -3)
    assert x.exponents(299) == (-2, -3)
    with pytest.raises(IndexError):
        x.exponents(300)
