"""The stream and REST dialect that Binance's spot and both futures markets share.

Truth: the venue's `web-socket-streams` and `exchangeInfo` documentation, and the recordings
named in `docs/venues/binance*.md`. What differs between the markets (shapes, book rule, routes,
symbols) lives in their own files under `feeder/venues/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import msgspec

from tapecast.feeder.extract.shapes import (
    Match,
    Numbers,
    SideField,
    SilentShape,
    StatField,
    StatShape,
    TradeShape,
)
from tapecast.feeder.venues.helpers import connections, matcher
from tapecast.feeder.venues.listing import decoded, listing
from tapecast.feeder.venues.spec import (
    Ack,
    Control,
    Exact,
    Ignored,
    InstrumentDef,
    Instruments,
    InstrumentsError,
    Notice,
    RestRequest,
    ServerError,
    Stream,
    Subscription,
    Topic,
    Volumes,
    exact,
    milliseconds_to_ns,
)
from tapecast.feeder.venues.volumes import decode_volumes
from tapecast.protocol.schema import (
    InstrumentKind,
    InstrumentState,
    MsgType,
    Side,
    StatKind,
)

__all__ = [
    "FORCE_ORDER",
    "FORCE_ORDER_OPEN",
    "FUTURES_STREAMS",
    "MARK_PRICE",
    "PARTIAL_BODY",
    "PARTIAL_DEPTH",
    "TAKER",
    "control",
    "depth_request",
    "futures_control",
    "parse_exchange_info",
    "peek",
    "requested",
    "stream_frame",
    "subscriber",
    "ticker_volumes",
]

TAKER: dict[str | bool, Side] = {True: Side.SELL, False: Side.BUY}
"""`m`: the buyer is the maker."""

STREAMS_PER_CONNECTION = 1024
STREAMS_PER_REQUEST = 200
"""A connection may send few messages a second, so a request names many streams."""

PARTIAL_BODY = Ignored("partial depth")
"""A partial book of a raw spot stream: a body without event type."""

PARTIAL_DEPTH = ("@depth5", "@depth10", "@depth20", "@rpiDepth")
"""Stream names of books that are not the diff stream although their messages may look like it.
"""

_IGNORED_EVENTS = frozenset(
    {
        "24hrMiniTicker",
        "24hrTicker",
        "1hTicker",
        "4hTicker",
        "1dTicker",
        "assetIndexUpdate",
        "avgPrice",
        "compositeIndex",
        "continuous_kline",
        "contractInfo",
        "forceOrder",
        "indexPriceUpdate",
        "kline",
        "markPriceUpdate",
        "markPrice_kline",
    }
)

_STATES = {
    "TRADING": InstrumentState.TRADING,
    "PRE_DELISTING": InstrumentState.TRADING,  # positions can still be reduced
    "BREAK": InstrumentState.HALTED,
    "HALT": InstrumentState.HALTED,
    "AUCTION_MATCH": InstrumentState.HALTED,
    "CANCEL_ONLY": InstrumentState.HALTED,
    "TRADING_HALT": InstrumentState.HALTED,
    "TRADING_CANCEL_ONLY": InstrumentState.HALTED,
    "PRE_TRADING": InstrumentState.PRE_OPEN,
    "PENDING_TRADING": InstrumentState.PRE_OPEN,
    "END_OF_DAY": InstrumentState.CLOSED,
    "POST_TRADING": InstrumentState.CLOSED,
    "PRE_SETTLE": InstrumentState.CLOSED,
    "PRE_DELIVERING": InstrumentState.CLOSED,
    "SETTLING": InstrumentState.CLOSED,
    "DELIVERING": InstrumentState.CLOSED,
    "CLOSE": InstrumentState.CLOSED,
    "DELISTING": InstrumentState.CLOSED,
    "DOWN": InstrumentState.CLOSED,
    "DELIVERED": InstrumentState.DELISTED,
}


MARK_PRICE = StatShape(
    name="mark_price",
    match=Match(where={"e": ("markPriceUpdate",)}, envelope="data"),
    numbers=Numbers.QUOTED,
    symbol="s",
    ts="E",
    stats=(
        StatField(StatKind.MARK_PRICE, "p"),
        StatField(StatKind.INDEX_PRICE, "i"),
        # T is 0 where there is no funding
        StatField(StatKind.FUNDING_RATE, "r", due="T"),
    ),
    # binance_futures/examples 11
    example=(
        b'{"stream":"btcusdt@markPrice@1s","data":{"e":"markPriceUpdate","E":1597536008000,'
        b'"s":"BTCUSDT","p":"11857.56000000","i":"11851.86949091","r":"0.00015640",'
        b'"T":1597564800000}}'
    ),
)
"""A futures market's mark price of one contract; all contracts at once come as an array, which
is not taken.
"""

FORCE_ORDER = TradeShape(
    name="force_order",
    msg_type=MsgType.LIQUIDATION,
    match=Match(where={"e": ("forceOrder",), "o.X": ("FILLED",)}, envelope="data"),
    numbers=Numbers.QUOTED,
    symbol="o.s",
    ts="o.T",
    price="o.ap",
    quantity="o.z",
    # the order's: a long position is closed by selling
    side=SideField("o.S", {"BUY": Side.BUY, "SELL": Side.SELL}),
    # as documented for USD-M
    example=(
        b'{"e":"forceOrder","E":1568014460893,"o":{"s":"BTCUSDT","S":"SELL","o":"LIMIT",'
        b'"f":"IOC","q":"0.014","p":"9910","ap":"9910","X":"FILLED","l":"0.014","z":"0.014",'
        b'"T":1568014460893}}'
    ),
)
"""A liquidation order that was filled: what was executed, at the mean price."""

FORCE_ORDER_OPEN = SilentShape(
    name="force_order unfilled",
    msg_type=MsgType.LIQUIDATION,
    match=Match(
        where={
            "e": ("forceOrder",),
            "o.X": (
                "NEW",
                "PARTIALLY_FILLED",
                "CANCELED",
                "REJECTED",
                "EXPIRED",
                "EXPIRED_IN_MATCH",
            ),
        },
        envelope="data",
    ),
    symbol="o.s",
)
"""Another state of the order: its amounts would be counted twice, or never traded."""

FUTURES_STREAMS = {
    "depth@100ms": Stream(route="public", carries=MsgType.BOOK),
    "depth@500ms": Stream(route="public", carries=MsgType.BOOK),
    "depth@0ms": Stream(route="public", carries=MsgType.BOOK),
    "depth": Stream(route="public", carries=MsgType.BOOK),
    "bookTicker": Stream(route="public", carries=MsgType.BBO),
    "aggTrade": Stream(route="market", carries=MsgType.TRADE),
    "markPrice": Stream(route="market", carries=MsgType.STAT),
    "markPrice@1s": Stream(route="market", carries=MsgType.STAT),
    "forceOrder": Stream(route="market", carries=MsgType.LIQUIDATION),
    # undocumented: seen in recordings of 2024
    "trade": Stream(route="public", carries=MsgType.TRADE),
}
"""Books are on one route, trades and statistics on the other."""

STATISTICS = ("markPriceUpdate", "forceOrder")


def futures_control(frame: bytes) -> Control | None:
    """Return what a frame of a futures market is: there are no books without event type, and
    statistics have shapes.
    """
    what = control(frame)
    known = isinstance(what, Ignored) and (what == PARTIAL_BODY or what.channel in STATISTICS)
    return None if known else what


def stream_frame(method: str) -> Callable[[Sequence[Topic], int], bytes]:
    """Return the encoder of a SUBSCRIBE or UNSUBSCRIBE request."""

    def frame(topics: Sequence[Topic], request_id: int) -> bytes:
        streams = [f"{topic.symbol.lower()}@{topic.channel}" for topic in topics]
        return msgspec.json.encode({"method": method, "params": streams, "id": request_id})

    return frame


def subscriber(
    known: Mapping[str, Stream],
) -> Callable[[Sequence[str], Sequence[str], int], list[Subscription]]:
    """Return the `subscribe` of a market with these channels, for combined-stream (`/stream`)
    URLs.
    """

    def subscribe(
        symbols: Sequence[str], channels: Sequence[str], request_id: int
    ) -> list[Subscription]:
        return connections(
            symbols,
            channels,
            known,
            stream_frame("SUBSCRIBE"),
            request_id,
            per_connection=STREAMS_PER_CONNECTION,
            per_frame=STREAMS_PER_REQUEST,
        )

    return subscribe


def depth_request(
    path: str, weights: Sequence[tuple[int, int]]
) -> Callable[[str, int], RestRequest]:
    """Return the `snapshot_request` of a market; `weights` are (levels, request weight),
    smallest first.
    """

    def request(symbol: str, levels: int) -> RestRequest:
        limit, weight = next((row for row in weights if row[0] >= levels), weights[-1])
        return RestRequest("rest", path, (("symbol", symbol), ("limit", str(limit))), weight)

    return request


class _Error(msgspec.Struct, frozen=True):
    code: int | str = ""
    msg: str = ""


class _Message(msgspec.Struct, frozen=True):
    """Every top-level key a control message may have."""

    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw()
    code: int | str | None = None
    msg: str = ""
    error: _Error | str | None = None
    e: str | None = None
    stream: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    last_update_id: int | None = msgspec.field(default=None, name="lastUpdateId")
    matching_time: int | None = msgspec.field(default=None, name="T")


class _Event(msgspec.Struct, frozen=True):
    e: str | None = None


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_events = msgspec.json.Decoder(list[_Event]).decode


def control(frame: bytes) -> Control | None:
    """Return what a frame without a shape is; None = not understood."""
    try:
        outer = _decode_message(frame)
        if outer.stream is None:
            return _bare(outer)
        return _enveloped(outer.stream, bytes(outer.data))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _bare(message: _Message) -> Control | None:
    request_id = None if message.id is None else str(message.id)
    if message.code is not None and message.e is None:
        return ServerError(str(message.code), message.msg, request_id)
    if isinstance(message.error, _Error):
        return ServerError(str(message.error.code), message.error.msg, request_id)
    if message.error is not None:
        return ServerError("", message.error, request_id)
    if bytes(message.result) and message.id is not None:
        return Ack(request_id)
    if message.e == "serverShutdown":
        return Notice(message.e, "the server closes its connections", reconnect=True)
    if message.e in _IGNORED_EVENTS:
        return Ignored(message.e)
    if message.e is None and message.last_update_id is not None and message.matching_time is None:
        return PARTIAL_BODY
    return None


def _enveloped(stream: str, data: bytes) -> Control | None:
    if data.startswith(b"["):
        events = {event.e for event in _decode_events(data)}
        return Ignored(stream) if events and events <= _IGNORED_EVENTS else None
    if not data:
        return None
    inner = _decode_message(data)
    if any(name in stream for name in PARTIAL_DEPTH):
        return (
            Ignored(stream)
            if inner.last_update_id is not None or inner.e == "depthUpdate"
            else None
        )
    if inner.last_update_id is not None:
        return None
    return _bare(inner)


_stream_name = matcher("stream")
_symbol = matcher("s")
_event = matcher("e")
_CHANNEL_OF_EVENT = {
    "depthUpdate": "depth",
    "trade": "trade",
    "aggTrade": "aggTrade",
    "bookTicker": "bookTicker",
}


def peek(frame: bytes) -> Topic | None:
    """Return the topic of a stream message by its envelope, else by its event type."""
    symbol = _symbol(frame)
    if symbol is None:
        return None
    stream = _stream_name(frame) or ""
    if stream.startswith("!"):
        return Topic(stream[1:].split("@")[0], symbol)
    if "@" in stream:
        return Topic(stream.split("@", 1)[1], symbol)
    event = _event(frame)
    return None if event is None else Topic(_CHANNEL_OF_EVENT.get(event, event), symbol)


class _Request(msgspec.Struct, frozen=True):
    method: str = ""
    params: list[str] = []


def requested(url: str, sent: bytes) -> list[Topic]:
    """Return the topics in the query of a connect URL and in a sent SUBSCRIBE."""
    names: list[str] = []
    parts = urlsplit(url)
    for value in parse_qs(parts.query).get("streams", []):
        names += value.split("/")
    if found := re.search(r"/ws/([^?]+)", parts.path):
        names += found[1].split("/")
    if sent:
        try:
            request = msgspec.json.decode(sent, type=_Request)
        except msgspec.DecodeError:
            request = _Request()
        if request.method == "SUBSCRIBE":
            names += request.params
    pairs = (name.split("@", 1) for name in names if "@" in name and not name.startswith("!"))
    return [Topic(channel, symbol.upper()) for symbol, channel in pairs]


class _Filter(msgspec.Struct, frozen=True, rename="camel"):
    filter_type: str
    tick_size: str = ""
    step_size: str = ""
    min_qty: str = ""
    min_notional: str = ""
    notional: str = ""


class _Symbol(msgspec.Struct, frozen=True, rename="camel"):
    symbol: str
    base_asset: str
    quote_asset: str
    filters: list[_Filter]
    status: str = ""
    contract_status: str = ""
    """The status of a COIN-M contract."""
    contract_size: msgspec.Raw = msgspec.Raw()
    """A number, on COIN-M alone: US dollars a contract is worth."""
    margin_asset: str = ""
    delivery_date: int = 0


class _ExchangeInfo(msgspec.Struct, frozen=True):
    symbols: list[msgspec.Raw]


def parse_exchange_info(
    body: bytes, kind_of: Callable[[str], InstrumentKind | None]
) -> Instruments:
    """Parse `exchangeInfo` of a market. Raises InstrumentsError where the body as a whole is not
    one.
    """

    def read(entry: _Symbol) -> InstrumentDef:
        kind = kind_of(entry.symbol)
        if kind is None:
            raise InstrumentsError("not a symbol of this market")
        return _definition(entry, kind)

    return listing(decoded("exchangeInfo", body, _ExchangeInfo).symbols, _Symbol, read)


class _Ticker(msgspec.Struct, frozen=True, rename="camel"):
    """A 24 h ticker: COIN-M gives the traded coins and their mean price instead of a turnover."""

    symbol: str
    quote_volume: Decimal | None = None
    base_volume: Decimal = Decimal(0)
    weighted_avg_price: Decimal = Decimal(0)


def ticker_volumes(path: str, weight: int) -> Volumes:
    """Return the volumes of a market, whose 24 h tickers all come at once."""

    def parse(_: RestRequest, body: bytes) -> dict[str, Decimal]:
        tickers = decode_volumes("binance", body, list[_Ticker])
        return {
            ticker.symbol: (
                ticker.base_volume * ticker.weighted_avg_price
                if ticker.quote_volume is None
                else ticker.quote_volume
            )
            for ticker in tickers
        }

    return Volumes(requests=lambda: [RestRequest("rest", path, weight=weight)], parse=parse)


def _definition(entry: _Symbol, kind: InstrumentKind) -> InstrumentDef:
    filters = {item.filter_type: item for item in entry.filters}
    none = _Filter("")
    lot = filters.get("LOT_SIZE", none)
    size = exact(bytes(entry.contract_size).decode().strip('"'))
    notional = filters.get("NOTIONAL", filters.get("MIN_NOTIONAL", none))
    return InstrumentDef(
        symbol=entry.symbol,
        kind=kind,
        state=_STATES.get(entry.status or entry.contract_status, InstrumentState.UNKNOWN),
        base=entry.base_asset,
        quote=entry.quote_asset,
        settle=entry.margin_asset or entry.quote_asset,
        tick=_positive(filters.get("PRICE_FILTER", none).tick_size),
        lot=_positive(lot.step_size),
        min_qty=exact(lot.min_qty),
        min_notional=exact(notional.min_notional or notional.notional),
        multiplier=size,
        inverse=size is not None and entry.margin_asset == entry.base_asset,
        expiry_ns=milliseconds_to_ns(entry.delivery_date) if kind is InstrumentKind.FUTURE else 0,
    )


def _positive(text: str) -> Exact | None:
    """A step of zero switches the venue's filter off: there is none."""
    number = exact(text)
    return None if number is None or number.mantissa == 0 else number
