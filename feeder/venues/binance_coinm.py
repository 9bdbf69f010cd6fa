"""Binance COIN-M futures: contracts settled in the coin, books joined by `pu`, a REST snapshot,
two routes as on USD-M.

Truth: the venue's derivatives documentation and change notices, and the recordings; evidence per
message variant is in `docs/venues/binance_coinm.md`. Endpoints, symbols and rate limits are in
`config/venues/binance_coinm.toml`. Quantities are contracts: what one is worth is in the
definition, never multiplied into a quantity. USD-M contracts are another venue.
"""

from __future__ import annotations

import re

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


SHAPES = (
    QuoteShape(
        name="book_ticker",
        match=Match(where={"e": ("bookTicker",)}, envelope="data"),
        numbers=Numbers.QUOTED,
        symbol="s",
        ts="T",
        levels=BestLevels(bid=ScalarLevel("b", "B"), ask=ScalarLevel("a", "A")),
        last_id="u",
        # as documented
        example=(
            b'{"e":"bookTicker","u":17242169,"s":"BTCUSD_200626","ps":"BTCUSD","b":"9548.1",'
            b'"B":"52","a":"9548.5","A":"11","T":1591268628155,"E":1591268628166}'
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
        # as documented
        example=(
            b'{"e":"depthUpdate","E":1591270260907,"T":1591270260891,"s":"BTCUSD_200626",'
            b'"ps":"BTCUSD","U":17285681,"u":17285702,"pu":17285675,"b":[["9517.6","10"]],'
            b'"a":[["9518.5","45"]]}'
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
        # of 8 August 2024; the venue documents no trade of this market
        example=(
            b'{"stream":"btcusd_perp@trade","data":{"e":"trade","E":1723161257687,'
            b'"T":1723161257679,"s":"BTCUSD_PERP","t":849714402,"p":"61804.8","q":"4",'
            b'"X":"MARKET","m":false}}'
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
        # binance/examples 2
        example=(
            b'{"stream":"btcusd_210625@aggTrade","data":{"e":"aggTrade","E":1616201787561,'
            b'"a":5091038,"s":"BTCUSD_210625","p":"62838.0","q":"5","f":7621250,"l":7621250,'
            b'"T":1616201787407,"m":true}}'
        ),
    ),
    MARK_PRICE,
    FORCE_ORDER,
    FORCE_ORDER_OPEN,
)

REST_SHAPES = (
    BookShape(
        name="rest_depth",
        numbers=Numbers.QUOTED,
        levels=BidAskRows(bids=Rows("bids"), asks=Rows("asks")),
        snapshot=True,
        last_id="lastUpdateId",
        # binance/examples 18
        example=(
            b'{"lastUpdateId":466364745366,"E":1654222838718,"T":1654222838710,'
            b'"symbol":"BTCUSD_220624","pair":"BTCUSD","bids":[["30626.7","827"],["30624.4",'
            b'"11"],["30624.3","1"]],"asks":[["30626.8","114"],["30627.7","30"],["30630.2",'
            b'"4"]]}'
        ),
    ),
)

SNAPSHOT_WEIGHTS = ((50, 2), (100, 5), (500, 10), (1000, 20))
"""(levels, request weight) of `/dapi/v1/depth`."""

# BTCUSDT_210625 is a USD-M delivery contract: the quote of a COIN-M contract is USD.
_CONTRACT = re.compile(r"[^\W_a-z]+USD_(PERP|\d{6})")


def _kind_of(symbol: str) -> InstrumentKind | None:
    found = _CONTRACT.fullmatch(symbol) if is_wire_symbol(symbol) else None
    if found is None:
        return None
    return InstrumentKind.PERPETUAL if found[1] == "PERP" else InstrumentKind.FUTURE


def _parse_instruments(body: bytes) -> Instruments:
    return parse_exchange_info(body, _kind_of)


VENUE = VenueSpec(
    name="binance_coinm",
    venue_id=VENUES["binance_coinm"],
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
        snapshot_request=depth_request("/dapi/v1/depth", SNAPSHOT_WEIGHTS),
    ),
    listing=ListingSpec(
        default_price_exp=-5,  # DOGEUSD_PERP; finer values lower it
        default_qty_exp=0,  # contracts
        requests=lambda: [RestRequest("rest", "/dapi/v1/exchangeInfo", weight=1)],
        parse=_parse_instruments,
        volumes=ticker_volumes("/dapi/v1/ticker/24hr", weight=40),
        symbols_of_pair=lambda base, quote: (f"{base}{quote}_PERP",) if quote == "USD" else (),
    ),
    recordings=RecordingSpec(
        hosts=(
            "dstream.binance.com",
            "dapi.binance.com",
        ),
        snapshot_symbol=lambda url: query_value(url, r"/dapi/v1/depth", "symbol"),
        is_listing=lambda url: "/dapi/v1/exchangeInfo" in url,
    ),
)
