"""Binance USD-M futures: diff-depth books joined by `pu`, a REST snapshot, and two routes for
books and trades.

Truth: the venue's derivatives documentation and change notices, and the recordings; evidence per
message variant is in `docs/venues/binance_futures.md`. Endpoints, symbols and rate limits are in
`config/venues/binance_futures.toml`. COIN-M contracts are another venue: their symbols are
refused here.
"""

from __future__ import annotations

import re
from dataclasses import replace

from tapecast.feeder.extract.shapes import (
    BestLevels,
    BidAskRows,
    BookShape,
    FlagField,
    Match,
    Numbers,
    QuoteShape,
    Rows,
    ScalarLevel,
    SideField,
    TradeId,
    TradeShape,
)
from tapecast.feeder.venues.common.binance import (
    FORCE_ORDER,
    FORCE_ORDER_OPEN,
    FUTURES_STREAMS,
    MARK_PRICE,
    PARTIAL_DEPTH,
    TAKER,
    depth_request,
    futures_control,
    parse_exchange_info,
    peek,
    requested,
    stream_frame,
    subscriber,
    ticker_volumes,
)
from tapecast.feeder.venues.helpers import is_wire_symbol, query_value
from tapecast.feeder.venues.spec import (
    BookRule,
    Instruments,
    ListingSpec,
    RecordingSpec,
    RestRequest,
    StreamSpec,
    VenueSpec,
)
from tapecast.protocol.schema import VENUES, InstrumentKind, TradeFlag

__all__ = ["VENUE"]


_OF_THIS_MARKET = ("st", "o.st")
"""1 where the venue sends both futures markets over one stream; a COIN-M contract has 2 and is
refused.
"""

SHAPES = (
    QuoteShape(
        name="book_ticker",
        match=Match(where={"e": ("bookTicker",)}, envelope="data"),
        numbers=Numbers.QUOTED,
        symbol="s",
        ts="T",
        levels=BestLevels(bid=ScalarLevel("b", "B"), ask=ScalarLevel("a", "A")),
        last_id="u",
        # examples 14
        example=(
            b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":185130926750,'
            b'"s":"BTCUSDT","b":"33134.42","B":"0.170","a":"33139.39","A":"0.380",'
            b'"T":1612137603568,"E":1612137603571}}'
        ),
    ),
    BookShape(
        name="depth",
        match=Match(
            where={"e": ("depthUpdate",)},
            envelope="data",
            # partial books carry the same event type and ids
            beside_lacks=("stream", PARTIAL_DEPTH),
        ),
        numbers=Numbers.QUOTED,
        symbol="s",
        ts="T",
        levels=BidAskRows(bids=Rows("b"), asks=Rows("a")),
        first_id="U",
        last_id="u",
        prev_id="pu",
        # examples 9
        example=(
            b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1573948821952,'
            b'"T":1573948821948,"s":"BTCUSDT","U":687687944,"u":687687946,"pu":687690832,'
            b'"b":[["8493.78","0.162"]],"a":[]}}'
        ),
    ),
    TradeShape(
        name="trade",
        match=Match(where={"e": ("trade",)}, envelope="data"),
        numbers=Numbers.QUOTED,
        symbol="s",
        ts="T",
        price="p",
        quantity="q",
        trade_id=TradeId("t"),
        side=SideField("m", TAKER),
        flags=(FlagField("X", {"MARKET": 0, "INSURANCE_FUND": int(TradeFlag.OFF_BOOK)}),),
        # examples 6
        example=(
            b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1574381164089,"T":1574381164086,'
            b'"s":"BTCUSDT","t":10934580,"p":"7627.60","q":"0.044","m":false}}'
        ),
    ),
    TradeShape(
        name="agg_trade",
        match=Match(where={"e": ("aggTrade",)}, envelope="data"),
        numbers=Numbers.QUOTED,
        symbol="s",
        ts="T",
        price="p",
        quantity="q",
        trade_id=TradeId("a"),
        side=SideField("m", TAKER),
        # binance/examples 3
        example=(
            b'{"stream":"btcusdt_210625@aggTrade","data":{"e":"aggTrade","E":1616201036113,'
            b'"a":21021,"s":"BTCUSDT_210625","p":"62595.8","q":"0.094","f":21824,"l":21824,'
            b'"T":1616201035958,"m":false}}'
        ),
    ),
    replace(MARK_PRICE, match=replace(MARK_PRICE.match, one=_OF_THIS_MARKET)),
    replace(FORCE_ORDER, match=replace(FORCE_ORDER.match, one=_OF_THIS_MARKET)),
    replace(FORCE_ORDER_OPEN, match=replace(FORCE_ORDER_OPEN.match, one=_OF_THIS_MARKET)),
)

REST_SHAPES = (
    BookShape(
        name="rest_depth",
        match=Match(
            # a COIN-M body
            absent=("pair",),
        ),
        numbers=Numbers.QUOTED,
        levels=BidAskRows(bids=Rows("bids"), asks=Rows("asks")),
        snapshot=True,
        last_id="lastUpdateId",
        # binance/examples 19
        example=(
            b'{"lastUpdateId":1570255790655,"E":1654232606707,"T":1654232606695,'
            b'"bids":[["30430.80","0.482"],["30430.00","0.012"],["30429.90","0.001"]],'
            b'"asks":[["30430.90","1.685"],["30431.00","0.001"],["30431.30","0.361"]]}'
        ),
    ),
)

SNAPSHOT_WEIGHTS = ((50, 2), (100, 5), (500, 10), (1000, 20))
"""(levels, request weight) of `/fapi/v1/depth`."""

# The quote tells a USD-M delivery contract from a COIN-M one (BTCUSD_210625).
# BUSD needs its bases named: BNBUSD_210625 is BNB/USD.
_DELIVERY = re.compile(r"(?:.+(?:USDT|USDC)|(?:BTC|ETH)BUSD)_\d{6}")


def _kind_of(symbol: str) -> InstrumentKind | None:
    if not is_wire_symbol(symbol) or symbol != symbol.upper():
        return None
    if symbol.isalnum():
        return InstrumentKind.PERPETUAL
    return (
        InstrumentKind.FUTURE
        if _DELIVERY.fullmatch(symbol) and symbol.replace("_", "", 1).isalnum()
        else None
    )


def _parse_instruments(body: bytes) -> Instruments:
    return parse_exchange_info(body, _kind_of)


VENUE = VenueSpec(
    name="binance_futures",
    venue_id=VENUES["binance_futures"],
    kind_of=_kind_of,
    endpoints=("public", "market", "rest"),
    stream=StreamSpec(
        shapes=SHAPES,
        streams=FUTURES_STREAMS,
        subscribe=subscriber(FUTURES_STREAMS),
        unsubscribe=stream_frame("UNSUBSCRIBE"),
        control=futures_control,
        peek=peek,
        requested=requested,
        silence_s=400.0,
    ),
    rule=BookRule(
        sequence_rule="prev",
        snapshot="rest",
        rest_shapes=REST_SHAPES,
        snapshot_request=depth_request("/fapi/v1/depth", SNAPSHOT_WEIGHTS),
    ),
    listing=ListingSpec(
        default_price_exp=-8,
        default_qty_exp=-6,  # holds sizes of 10^12; -8 would refuse books of the cheapest coins
        requests=lambda: [RestRequest("rest", "/fapi/v1/exchangeInfo", weight=1)],
        parse=_parse_instruments,
        volumes=ticker_volumes("/fapi/v1/ticker/24hr", weight=40),
        symbols_of_pair=lambda base, quote: (base + quote,),
    ),
    recordings=RecordingSpec(
        hosts=(
            "fstream.binance.com",
            "fapi.binance.com",
        ),
        prefixes=("binance_usdm_",),
        snapshot_symbol=lambda url: query_value(url, r"/fapi/v1/depth", "symbol"),
        is_listing=lambda url: "/fapi/v1/exchangeInfo" in url,
    ),
)
