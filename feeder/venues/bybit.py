"""Bybit v5, spot and linear: books that count up by one behind a snapshot in the stream, a
depth-1 channel, trades, statistics.

Truth: the venue's v5 documentation and the recordings; evidence per message variant, and why
spot and linear are two markets of one venue, are in `docs/venues/bybit.md`. Endpoints, symbols
and rate limits are in `config/venues/bybit.toml`. Inverse contracts and options are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from urllib.parse import unquote, urlsplit

import msgspec

from tapecast.feeder.extract.shapes import (
    BidAskRows,
    BookShape,
    Elements,
    FlagField,
    IdKind,
    Match,
    Numbers,
    QuoteShape,
    Rows,
    SideField,
    SnapshotField,
    StatField,
    StatShape,
    TradeId,
    TradeShape,
)
from tapecast.feeder.venues.helpers import connections, is_wire_symbol, matcher
from tapecast.feeder.venues.listing import decoded, listing
from tapecast.feeder.venues.spec import (
    Ack,
    Alive,
    BookRule,
    Control,
    Exact,
    Ignored,
    InstrumentDef,
    Instruments,
    InstrumentsError,
    Keepalive,
    ListingSpec,
    RecordingSpec,
    RestRequest,
    ServerError,
    Stream,
    StreamSpec,
    Subscription,
    Topic,
    VenueSpec,
    Volumes,
    exact,
    market_and_symbol,
    milliseconds_to_ns,
    qualified,
)
from tapecast.feeder.venues.volumes import amount, decode_volumes
from tapecast.protocol.schema import (
    VENUES,
    InstrumentKind,
    InstrumentState,
    MsgType,
    Side,
    StatKind,
    TradeFlag,
)

__all__ = ["VENUE"]

LINEAR, SPOT = "", "spot"
"""Markets: a symbol without qualifier is a linear contract, `spot:BTCUSDT` a spot pair."""

DEPTHS = ("50", "200", "500", "1000")
_RETIRED = "500"  # one such topic fails its whole request

CHANNELS = {
    "orderbook.1": Stream(route="linear", carries=MsgType.BBO),
    **{
        f"orderbook.{depth}": Stream(
            route="linear", carries=MsgType.BOOK, retired=depth == _RETIRED
        )
        for depth in DEPTHS
    },
    "publicTrade": Stream(route="linear", carries=MsgType.TRADE),
    "tickers": Stream(route="linear", carries=MsgType.STAT),
    "allLiquidation": Stream(route="linear", carries=MsgType.LIQUIDATION),
}
_DERIVATIVES_ONLY = ("tickers", "allLiquidation")
_CHANNELS_OF: Mapping[str, Mapping[str, Stream]] = {
    LINEAR: CHANNELS,
    SPOT: {
        name: replace(channel, route="spot")
        for name, channel in CHANNELS.items()
        if name not in _DERIVATIVES_ONLY
    },
}

ARGUMENTS_PER_REQUEST = 10
"""On spot; one more fails the whole request."""
TOPICS_PER_CONNECTION = 500
"""A connection's arguments may have 21,000 characters; the longest topic has 34."""

_BOOKS = tuple(f"orderbook.{depth}.*" for depth in DEPTHS)

SHAPES = (
    BookShape(
        name="orderbook",
        match=Match(
            where={"topic": _BOOKS},
            # messages of 2023 have none
            optional=("cts",),
        ),
        numbers=Numbers.QUOTED,
        symbol="data.s",
        ts="cts",
        levels=BidAskRows(bids=Rows("data.b"), asks=Rows("data.a")),
        snapshot=SnapshotField("type", "snapshot", "delta"),
        last_id="data.u",
        # examples 6
        example=(
            b'{"topic":"orderbook.50.BTCPERP","type":"delta","ts":1680673821651,'
            b'"data":{"s":"BTCPERP","b":[["28555.20","0.677"]],"a":[["28555.30","0.029"]],'
            b'"u":20683569,"seq":10916156553}}'
        ),
    ),
    QuoteShape(
        name="bbo",
        match=Match(where={"topic": ("orderbook.1.*",), "type": ("snapshot",)}, optional=("cts",)),
        numbers=Numbers.QUOTED,
        symbol="data.s",
        ts="cts",
        levels=BidAskRows(bids=Rows("data.b"), asks=Rows("data.a")),
        last_id="data.u",
        # examples 21
        example=(
            b'{"topic":"orderbook.1.BTCUSDT","ts":1680652806504,"type":"snapshot",'
            b'"data":{"s":"BTCUSDT","b":[["28165.07","0.175231"]],"a":[["28165.08","0.996816"]],'
            b'"u":20404754,"seq":4281281856}}'
        ),
    ),
    TradeShape(
        name="trades",
        match=Match(where={"topic": ("publicTrade.*",)}),
        numbers=Numbers.QUOTED,
        each=Elements("data[]", symbol="s"),
        ts="T",
        price="p",
        quantity="v",
        # a UUID on linear, digits on spot
        trade_id=TradeId("i", IdKind.EITHER),
        side=SideField("S", {"Buy": Side.BUY, "Sell": Side.SELL}),
        flags=(
            FlagField("BT", {False: 0, True: int(TradeFlag.BLOCK)}),
            FlagField("RPI", {False: 0, True: int(TradeFlag.OFF_BOOK)}),
        ),
        # examples 3
        example=(
            b'{"topic":"publicTrade.LTCUSDT","type":"snapshot","ts":1680688979985,'
            b'"data":[{"T":1680688979983,"s":"LTCUSDT","S":"Buy","v":"0.4","p":"94.53",'
            b'"L":"ZeroMinusTick","i":"4c7b6bdc-b4a3-5716-9c7b-bbe01dc7072f","BT":false}]}'
        ),
    ),
    StatShape(
        name="tickers",
        match=Match(where={"topic": ("tickers.*",)}),
        numbers=Numbers.QUOTED,
        symbol="data.symbol",
        ts="ts",
        stats=(
            StatField(StatKind.MARK_PRICE, "data.markPrice"),
            StatField(StatKind.INDEX_PRICE, "data.indexPrice"),
            StatField(StatKind.FUNDING_RATE, "data.fundingRate", due="data.nextFundingTime"),
            StatField(StatKind.OPEN_INTEREST, "data.openInterest"),
        ),
        # examples 8
        example=(
            b'{"topic":"tickers.BTCUSD","type":"delta","data":{"symbol":"BTCUSD",'
            b'"price24hPcnt":"0.023362","openInterest":"449736674","fundingRate":"0.0001",'
            b'"bid1Price":"28560.00","bid1Size":"340549","ask1Price":"28560.50",'
            b'"ask1Size":"70817"},"cs":20856433603,"ts":1680673822776}'
        ),
    ),
    TradeShape(
        name="liquidations",
        msg_type=MsgType.LIQUIDATION,
        match=Match(where={"topic": ("allLiquidation.*",)}),
        numbers=Numbers.QUOTED,
        each=Elements("data[]", symbol="s"),
        ts="T",
        price="p",
        quantity="v",
        # the position's side: a long one is closed by selling
        side=SideField("S", {"Buy": Side.SELL, "Sell": Side.BUY}),
        # examples 12
        example=(
            b'{"topic":"allLiquidation.PIPPINUSDT","type":"snapshot","ts":1740480207578,'
            b'"data":[{"T":1740480207110,"s":"PIPPINUSDT","S":"Sell","v":"2846","p":"0.02456"}]}'
        ),
    ),
)

_IGNORED = (
    "kline.",
    "kline_lt.",
    "tickers_lt.",
    "lt.",
    "orderbook.rpi.",
    "price.limit.",
    "priceLimit.",
    "insurance.",
    "adlAlert.",
)

_STATES = {
    "PreLaunch": InstrumentState.PRE_OPEN,
    "PendingOpen": InstrumentState.PRE_OPEN,
    "Trading": InstrumentState.TRADING,
    "Delivering": InstrumentState.CLOSED,
    "Closed": InstrumentState.DELISTED,
}
_KINDS = {
    "LinearPerpetual": InstrumentKind.PERPETUAL,
    "LinearFutures": InstrumentKind.FUTURE,
}

_NAME = r"[^\W_a-z]+"
_SPOT_FORM = re.compile(_NAME)
_PERPETUAL_FORM = re.compile(rf"{_NAME}(?:USDT|PERP)")
_FUTURE_FORM = re.compile(rf"{_NAME}-\d{{1,2}}[A-Z]{{3}}\d{{2}}")
_CATEGORY = re.compile(r"/v5/public/(\w+)")
# Without a URL: every recorded spot message has `ts` behind `topic`, and none of the linear
# ones.
_SPOT_ORDER = re.compile(rb'\{\s*"topic"\s*:\s*"[^"]*"\s*,\s*"ts"')


def _kind_of(key: str) -> InstrumentKind | None:
    """The market and the form of a symbol tell its kind; what ends in neither USDT nor PERP is
    inverse.
    """
    market, symbol = market_and_symbol(key)
    if not is_wire_symbol(symbol):
        return None
    if market == SPOT:
        return InstrumentKind.SPOT if _SPOT_FORM.fullmatch(symbol) else None
    if market == LINEAR and _PERPETUAL_FORM.fullmatch(symbol):
        return InstrumentKind.PERPETUAL
    return InstrumentKind.FUTURE if market == LINEAR and _FUTURE_FORM.fullmatch(symbol) else None


@cache
def _market_of_url(url: str) -> str | None:
    found = _CATEGORY.search(urlsplit(url).path)
    return None if found is None else LINEAR if found[1] == "linear" else found[1]


def _market(url: str, frame: bytes) -> str:
    market = _market_of_url(url)
    if market is not None:
        return market
    return SPOT if _SPOT_ORDER.match(frame) else LINEAR


def _request(op: str) -> Callable[[Sequence[Topic], int], bytes]:
    def frame(topics: Sequence[Topic], request_id: int) -> bytes:
        args = [f"{topic.channel}.{market_and_symbol(topic.symbol)[1]}" for topic in topics]
        return msgspec.json.encode({"req_id": str(request_id), "op": op, "args": args})

    return frame


def _subscribe(
    symbols: Sequence[str], channels: Sequence[str], request_id: int
) -> list[Subscription]:
    """Return connections for the markets that the symbols are of; what a market has not is left
    out there.
    """
    for channel in channels:
        CHANNELS[channel]
    out: list[Subscription] = []
    for market, known in _CHANNELS_OF.items():
        out += connections(
            [symbol for symbol in symbols if market_and_symbol(symbol)[0] == market],
            [channel for channel in channels if channel in known],
            known,
            _request("subscribe"),
            request_id + sum(len(subscription.frames) for subscription in out),
            per_connection=TOPICS_PER_CONNECTION,
            per_frame=ARGUMENTS_PER_REQUEST,
        )
    return out


class _Message(msgspec.Struct, frozen=True):
    """Every top-level key a control message may have."""

    op: str | None = None
    success: bool | None = None
    ret_msg: str = ""
    req_id: str | None = None
    topic: str | None = None


_decode_message = msgspec.json.Decoder(_Message).decode


def _control(frame: bytes) -> Control | None:
    try:
        message = _decode_message(frame)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if message.topic is not None:
        return Ignored(message.topic) if message.topic.startswith(_IGNORED) else None
    if message.success is False:
        return ServerError("", message.ret_msg, message.req_id or None)
    if message.op in ("ping", "pong"):
        return Alive("pong")
    if message.op in ("subscribe", "unsubscribe") and message.success:
        return Ack(message.req_id or None)
    return None


_topic = matcher("topic")


def _topic_of(text: str) -> Topic | None:
    channel, dot, symbol = text.rpartition(".")
    return Topic(channel, symbol) if dot and channel and symbol else None


def _peek(frame: bytes) -> Topic | None:
    text = _topic(frame)
    return None if text is None else _topic_of(text)


class _Request(msgspec.Struct, frozen=True):
    op: str = ""
    args: list[str] = []


def _requested(url: str, sent: bytes) -> list[Topic]:
    try:
        request = msgspec.json.decode(sent, type=_Request) if sent else _Request()
    except msgspec.DecodeError:
        return []
    topics = map(_topic_of, request.args if request.op == "subscribe" else [])
    market = _market(url, b"")
    return [
        Topic(topic.channel, qualified(market, topic.symbol))
        for topic in topics
        if topic is not None
    ]


class _PriceFilter(msgspec.Struct, frozen=True, rename="camel"):
    tick_size: str = ""


class _LotSizeFilter(msgspec.Struct, frozen=True, rename="camel"):
    qty_step: str = ""
    base_precision: str = ""
    min_order_qty: str = ""
    min_notional_value: str = ""
    min_order_amt: str = ""


class _Instrument(msgspec.Struct, frozen=True, rename="camel"):
    symbol: str
    base_coin: str
    quote_coin: str
    status: str = ""
    settle_coin: str = ""
    contract_type: str = ""
    delivery_time: str = ""
    price_filter: _PriceFilter = _PriceFilter()
    lot_size_filter: _LotSizeFilter = _LotSizeFilter()


class _Result(msgspec.Struct, frozen=True, rename="camel"):
    category: str = ""
    entries: list[msgspec.Raw] = msgspec.field(default_factory=list, name="list")
    next_page_cursor: str = ""


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    ret_code: int
    ret_msg: str = ""
    result: _Result = _Result()


def _parse_instruments(body: bytes) -> Instruments:
    answer = decoded("bybit instruments", body, _Body)
    if answer.ret_code != 0:
        raise InstrumentsError(f"bybit instruments: code {answer.ret_code}: {answer.ret_msg}")
    category = answer.result.category
    if category not in ("linear", "spot"):
        raise InstrumentsError(f"bybit instruments: category {category!r}")
    market = SPOT if category == "spot" else LINEAR
    return listing(answer.result.entries, _Instrument, lambda entry: _definition(entry, market))


def _next_page(request: RestRequest, body: bytes) -> RestRequest | None:
    """Every page but the last names the cursor of the next, percent-encoded as it stands in a
    URL.
    """
    try:
        cursor = unquote(msgspec.json.decode(body, type=_Body).result.next_page_cursor)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    query = tuple((name, value) for name, value in request.query if name != "cursor")
    return request._replace(query=(*query, ("cursor", cursor))) if cursor else None


class _Ticker(msgspec.Struct, frozen=True, rename="camel"):
    symbol: str
    turnover24h: str = ""


def _volumes(_: RestRequest, body: bytes) -> dict[str, Decimal]:
    answer = decode_volumes("bybit", body, _Body)
    if answer.ret_code != 0 or answer.result.category not in ("linear", "spot"):
        raise InstrumentsError(
            f"bybit tickers: code {answer.ret_code}, category {answer.result.category!r}"
        )
    market = SPOT if answer.result.category == "spot" else LINEAR
    tickers = (decode_volumes("bybit", raw, _Ticker) for raw in answer.result.entries)
    return {qualified(market, ticker.symbol): amount(ticker.turnover24h) for ticker in tickers}


def _definition(entry: _Instrument, market: str) -> InstrumentDef:
    kind = InstrumentKind.SPOT if market == SPOT else _KINDS.get(entry.contract_type)
    if kind is None or kind is not _kind_of(qualified(market, entry.symbol)):
        raise InstrumentsError(
            f"{entry.symbol} is not a known form of {entry.contract_type or 'spot'}"
        )
    if entry.delivery_time and not entry.delivery_time.isdigit():
        raise InstrumentsError(f"{entry.symbol}: deliveryTime {entry.delivery_time!r}")
    lot = entry.lot_size_filter
    return InstrumentDef(
        symbol=entry.symbol,
        market=market,
        kind=kind,
        state=_STATES.get(entry.status, InstrumentState.UNKNOWN),
        base=entry.base_coin,
        quote=entry.quote_coin,
        settle=entry.settle_coin or entry.quote_coin,
        tick=_positive(entry.price_filter.tick_size),
        lot=_positive(lot.qty_step or lot.base_precision),
        min_qty=exact(lot.min_order_qty),
        min_notional=exact(lot.min_notional_value or lot.min_order_amt),
        expiry_ns=(
            milliseconds_to_ns(int(entry.delivery_time))
            if kind is InstrumentKind.FUTURE and entry.delivery_time
            else 0
        ),
    )


def _positive(text: str) -> Exact | None:
    number = exact(text)
    return None if number is None or number.mantissa == 0 else number


VENUE = VenueSpec(
    name="bybit",
    venue_id=VENUES["bybit"],
    kind_of=_kind_of,
    endpoints=("linear", "spot", "rest"),
    stream=StreamSpec(
        shapes=SHAPES,
        streams=CHANNELS,
        market=_market,
        subscribe=_subscribe,
        unsubscribe=_request("unsubscribe"),
        control=_control,
        peek=_peek,
        requested=_requested,
        keepalive=Keepalive(interval_s=20.0, payload=b'{"op":"ping"}'),
        silence_s=600.0,
    ),
    rule=BookRule(
        sequence_rule="next",
        snapshot="stream",
    ),
    listing=ListingSpec(
        default_price_exp=-8,
        default_qty_exp=-6,  # BTCUSDT spot; holds sizes of 10^12
        requests=lambda: [
            RestRequest(
                "rest",
                "/v5/market/instruments-info",
                (("category", category), ("status", "Trading"), ("limit", "1000")),
            )
            for category in ("linear", "spot")
        ],
        parse=_parse_instruments,
        next_page=_next_page,
        volumes=Volumes(
            requests=lambda: [
                RestRequest("rest", "/v5/market/tickers", (("category", name),))
                for name in ("linear", "spot")
            ],
            parse=_volumes,
        ),
        symbols_of_pair=lambda base, quote: (base + quote, qualified(SPOT, base + quote)),
    ),
    recordings=RecordingSpec(
        hosts=(
            "stream.bybit.com",
            "api.bybit.com",
        ),
        is_listing=lambda url: "/v5/market/instruments-info" in url,
    ),
)
