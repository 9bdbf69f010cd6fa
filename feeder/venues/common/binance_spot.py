"""What the spot venues of Binance share, on whatever hosts: diff-depth books joined by update
ids, a REST snapshot, trades and a BBO without event time.

Truth: the venue's `binance-spot-api-docs` (web-socket-streams, rest-api) and the recordings;
evidence per message variant is in `docs/venues/binance.md` and `docs/venues/binance_us.md`. What
differs (hosts, request weights) is said by the venues.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapecast.feeder.extract.shapes import (
    BestLevels,
    BidAskRows,
    BookShape,
    Match,
    Numbers,
    QuoteShape,
    Rows,
    ScalarLevel,
    SideField,
    TimeUnit,
    TradeId,
    TradeShape,
)
from tapecast.feeder.venues.common.binance import (
    TAKER,
    control,
    depth_request,
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
    Stream,
    StreamSpec,
    VenueSpec,
)
from tapecast.protocol.schema import VENUES, InstrumentKind, MsgType

__all__ = ["Weights", "spot", "spot_recordings"]

STREAMS = {
    "depth@100ms": Stream(route="ws", carries=MsgType.BOOK),
    "depth": Stream(route="ws", carries=MsgType.BOOK),
    "bookTicker": Stream(route="ws", carries=MsgType.BBO),
    "trade": Stream(route="ws", carries=MsgType.TRADE),
    "aggTrade": Stream(route="ws", carries=MsgType.TRADE),
}

# Times are ms, or us where the connection asked for `timeUnit=MICROSECOND`.
SHAPES = (
    BookShape(
        name="depth",
        match=Match(
            where={"e": ("depthUpdate",)},
            # a futures message
            absent=("pu",),
            envelope="data",
        ),
        numbers=Numbers.QUOTED,
        symbol="s",
        ts="E",
        ts_unit=TimeUnit.AUTO,
        levels=BidAskRows(bids=Rows("b"), asks=Rows("a")),
        first_id="U",
        last_id="u",
        # examples 25
        example=(
            b'{"stream":"btcusdc@depth","data":{"e":"depthUpdate","E":1554076801699,'
            b'"s":"BTCUSDC","U":16084252,"u":16084253,"b":[["4084.88000000","0.00000000"]],'
            b'"a":[["4111.84000000","0.00000000"]]}}'
        ),
    ),
    QuoteShape(
        name="book_ticker",
        match=Match(
            # only the futures message has an event type
            absent=("e",),
            envelope="data",
        ),
        numbers=Numbers.QUOTED,
        symbol="s",
        levels=BestLevels(bid=ScalarLevel("b", "B"), ask=ScalarLevel("a", "A")),
        last_id="u",
        # examples 6
        example=(
            b'{"stream":"!bookTicker","data":{"u":19575390521,"s":"BTCUSDT",'
            b'"b":"29010.90000000","B":"13.94302000","a":"29010.91000000","A":"3.99953000"}}'
        ),
    ),
    TradeShape(
        name="trade",
        match=Match(
            where={"e": ("trade",)},
            # a futures message
            absent=("X",),
            envelope="data",
        ),
        numbers=Numbers.QUOTED,
        symbol="s",
        ts="T",
        ts_unit=TimeUnit.AUTO,
        price="p",
        quantity="q",
        trade_id=TradeId("t"),
        side=SideField("m", TAKER),
        # examples 24
        example=(
            b'{"stream":"bnbbtc@trade","data":{"e":"trade","E":1567296001038,"s":"BNBBTC",'
            b'"t":60276726,"p":"0.00219650","q":"6.48000000","b":255533165,"a":255532831,'
            b'"T":1567296001034,"m":true,"M":true}}'
        ),
    ),
    TradeShape(
        name="agg_trade",
        match=Match(where={"e": ("aggTrade",)}, envelope="data"),
        numbers=Numbers.QUOTED,
        symbol="s",
        ts="T",
        ts_unit=TimeUnit.AUTO,
        price="p",
        quantity="q",
        trade_id=TradeId("a"),
        side=SideField("m", TAKER),
        # examples 1
        example=(
            b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1616176861895,'
            b'"s":"BTCUSDT","a":640283266,"p":"58942.01000000","q":"0.00035600","f":716849523,'
            b'"l":716849523,"T":1616176861893,"m":false,"M":true}}'
        ),
    ),
)

REST_SHAPES = (
    BookShape(
        name="rest_depth",
        match=Match(
            # a futures body
            absent=("T",),
        ),
        numbers=Numbers.QUOTED,
        levels=BidAskRows(bids=Rows("bids"), asks=Rows("asks")),
        snapshot=True,
        last_id="lastUpdateId",
        # examples 17
        example=(
            b'{"lastUpdateId":33933317943,"bids":[["23171.42000000","0.03000000"],'
            b'["23171.16000000","0.00070000"],["23109.22000000","0.00050000"]],'
            b'"asks":[["23171.68000000","0.00067000"],["23171.69000000","0.00047000"],'
            b'["23224.58000000","0.04353000"]]}'
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What requests weigh: the two lists, and order books as (levels, weight), smallest first."""

    listing: int
    volumes: int
    depth: tuple[tuple[int, int], ...]


def _kind_of(symbol: str) -> InstrumentKind | None:
    """Spot symbols may be non-ASCII, but have no separator and no lower case."""
    return (
        InstrumentKind.SPOT
        if is_wire_symbol(symbol) and symbol.isalnum() and symbol == symbol.upper()
        else None
    )


def _parse_instruments(body: bytes) -> Instruments:
    return parse_exchange_info(body, _kind_of)


def spot(name: str, recordings: RecordingSpec, weights: Weights) -> VenueSpec:
    """Return the specification of a spot venue."""
    return VenueSpec(
        name=name,
        venue_id=VENUES[name],
        kind_of=_kind_of,
        endpoints=("ws", "rest"),
        stream=StreamSpec(
            shapes=SHAPES,
            streams=STREAMS,
            subscribe=subscriber(STREAMS),
            unsubscribe=stream_frame("UNSUBSCRIBE"),
            control=control,
            peek=peek,
            requested=requested,
            silence_s=60.0,
        ),
        rule=BookRule(
            sequence_rule="spot",
            snapshot="rest",
            rest_shapes=REST_SHAPES,
            snapshot_request=depth_request("/api/v3/depth", weights.depth),
        ),
        listing=ListingSpec(
            default_price_exp=-8,
            # holds sizes of 10^12; -8 would refuse books of the cheapest coins
            default_qty_exp=-6,
            requests=lambda: [RestRequest("rest", "/api/v3/exchangeInfo", weight=weights.listing)],
            parse=_parse_instruments,
            volumes=ticker_volumes("/api/v3/ticker/24hr", weight=weights.volumes),
            symbols_of_pair=lambda base, quote: (base + quote,),
        ),
        recordings=recordings,
    )


def spot_recordings(*hosts: str, prefixes: tuple[str, ...] = ()) -> RecordingSpec:
    """Return how the recordings of a spot venue with these hosts are recognised."""
    return RecordingSpec(
        hosts=hosts,
        prefixes=prefixes,
        snapshot_symbol=lambda url: query_value(url, r"/api/v[13]/depth", "symbol"),
        is_listing=lambda url: "/api/v3/exchangeInfo" in url or "/api/v1/exchangeInfo" in url,
    )
