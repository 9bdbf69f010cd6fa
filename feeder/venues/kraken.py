"""Kraken spot, WebSocket v2: books of a fixed depth proved by a CRC32, trades, and numbers
written bare with a fixed precision.

Truth: docs.kraken.com and the recordings; evidence per message variant is in
`docs/venues/kraken.md`. Endpoints, symbols and rate limits are in `config/venues/kraken.toml`.
Version 1, of recordings only, is in `feeder.venues.common.kraken_v1`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from tapecast.feeder.extract.shapes import (
    BidAskRows,
    BookShape,
    Elements,
    Match,
    Numbers,
    ObjectRows,
    SideField,
    SnapshotField,
    TimeUnit,
    TradeId,
    TradeShape,
)
from tapecast.feeder.venues.common import kraken_v1
from tapecast.feeder.venues.helpers import is_wire_symbol, matcher
from tapecast.feeder.venues.listing import decoded
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
    IntegerLevels,
    Keepalive,
    ListingSpec,
    Notice,
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
)
from tapecast.feeder.venues.volumes import decode_volumes
from tapecast.protocol.schema import VENUES, InstrumentKind, InstrumentState, MsgType, Side

__all__ = ["VENUE"]

DEPTH = 100
"""Levels a side that are subscribed."""

CHANNELS = {
    "book": Stream(route="ws", carries=MsgType.BOOK),
    "trade": Stream(route="ws", carries=MsgType.TRADE),
}

SHAPES = (
    BookShape(
        name="book",
        match=Match(where={"channel": ("book",)}, optional=("data[].timestamp",)),
        numbers=Numbers.BARE,
        symbol="data[].symbol",
        ts="data[].timestamp",
        ts_unit=TimeUnit.ISO,
        levels=BidAskRows(
            bids=ObjectRows("data[].bids", "price", "qty"),
            asks=ObjectRows("data[].asks", "price", "qty"),
        ),
        snapshot=SnapshotField("type", "snapshot", "update"),
        top_only=True,
        checksum="data[].checksum",
        # as documented
        example=(
            b'{"channel":"book","type":"update","data":[{"symbol":"MATIC/USD",'
            b'"bids":[{"price":0.5657,"qty":1098.3947558}],"asks":[],"checksum":2114181697,'
            b'"timestamp":"2023-10-06T17:35:55.440295Z"}]}'
        ),
    ),
    TradeShape(
        name="trade",
        match=Match(where={"channel": ("trade",), "type": ("update",)}),
        numbers=Numbers.BARE,
        each=Elements("data[]", symbol="symbol"),
        ts="timestamp",
        ts_unit=TimeUnit.ISO,
        price="price",
        quantity="qty",
        trade_id=TradeId("trade_id"),
        side=SideField("side", {"buy": Side.BUY, "sell": Side.SELL}),
        # as documented
        example=(
            b'{"channel":"trade","type":"update","data":[{"symbol":"MATIC/USD","side":"sell",'
            b'"price":0.5117,"qty":40.0,"ord_type":"market","trade_id":4665906,'
            b'"timestamp":"2023-09-25T07:49:37.708706Z"}]}'
        ),
    ),
    *kraken_v1.SHAPES,
)

_IGNORED = frozenset({"executions", "instrument", "level3", "ohlc", "ticker"})
_SYMBOL = re.compile(r"[A-Za-z0-9.]+/[A-Z0-9.]+")
_IGNORED_V1 = ("ohlc-", "spread", "ticker")

_STATES = {
    "online": InstrumentState.TRADING,
    "limit_only": InstrumentState.TRADING,
    "post_only": InstrumentState.TRADING,
    "reduce_only": InstrumentState.TRADING,
    "cancel_only": InstrumentState.HALTED,
    "maintenance": InstrumentState.HALTED,
    "hidden": InstrumentState.CLOSED,
    "work_in_progress": InstrumentState.CLOSED,
    "delisted": InstrumentState.DELISTED,
}


def _kind_of(symbol: str) -> InstrumentKind | None:
    return InstrumentKind.SPOT if is_wire_symbol(symbol) and _SYMBOL.fullmatch(symbol) else None


def _request(method: str, channel: str, symbols: Sequence[str], request_id: int) -> bytes:
    params: dict[str, object] = {"channel": channel, "symbol": list(symbols)}
    if channel == "book":
        params["depth"] = DEPTH
    if method == "subscribe":
        params["snapshot"] = channel == "book"
    return msgspec.json.encode({"method": method, "params": params, "req_id": request_id})


def _subscribe(
    symbols: Sequence[str], channels: Sequence[str], request_id: int
) -> list[Subscription]:
    """A request names one channel; each of its symbols is acknowledged on its own."""
    for channel in channels:
        if channel not in CHANNELS:
            raise KeyError(channel)
    out: list[Subscription] = []
    for start in range(0, len(symbols), 200):
        chunk = symbols[start : start + 200]
        ids = range(request_id, request_id + len(channels))
        frames = tuple(
            _request("subscribe", channel, chunk, number)
            for channel, number in zip(channels, ids, strict=True)
        )
        topics = tuple(Topic(channel, symbol) for channel in channels for symbol in chunk)
        out.append(Subscription("ws", frames, topics, tuple(map(str, ids))))
        request_id += len(channels)
    return out


def _unsubscribe(topics: Sequence[Topic], request_id: int) -> bytes:
    channel = topics[0].channel
    return _request(
        "unsubscribe",
        channel,
        [topic.symbol for topic in topics if topic.channel == channel],
        request_id,
    )


class _Subscription(msgspec.Struct, frozen=True):
    name: str | None = None
    depth: int = 0


class _Result(msgspec.Struct, frozen=True):
    channel: str | None = None
    symbol: str | None = None
    depth: int = 0


class _Status(msgspec.Struct, frozen=True):
    system: str = ""


class _Message(msgspec.Struct, frozen=True):
    channel: str | None = None
    type: str | None = None
    method: str | None = None
    success: bool | None = None
    error: str | None = None
    symbol: str | None = None
    req_id: int | None = None
    result: _Result | None = None
    # version 1
    event: str | None = None
    status: str = ""
    pair: str | None = None
    subscription: _Subscription = _Subscription()
    error_message: str = msgspec.field(default="", name="errorMessage")


class _StatusMessage(msgspec.Struct, frozen=True):
    data: list[_Status]


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_status = msgspec.json.Decoder(_StatusMessage).decode


def _control(frame: bytes) -> Control | None:
    if (topic := kraken_v1.topic_of(frame)) is not None:
        return Ignored(topic[0]) if topic[0].startswith(_IGNORED_V1) else None
    try:
        message = _decode_message(frame)
        system = (
            "".join(status.system for status in _decode_status(frame).data)
            if message.channel == "status"
            else ""
        )
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if message.method is not None or message.error is not None:
        return _answer(message)
    if message.event is not None:
        return _event(message)
    match message.channel:
        case "heartbeat":
            return Alive("heartbeat")
        case "status":
            return (
                Alive(system)
                if system == "online"
                else Notice(system, f"the venue is {system}", reconnect=False)
            )
        case "trade" if message.type == "snapshot":
            return Ignored("trade snapshot")
        case channel if channel in _IGNORED:
            return Ignored(channel or "")
    return None


def _answer(message: _Message) -> Control | None:
    request_id = None if message.req_id is None else str(message.req_id)
    result = message.result or _Result()
    if message.error is not None or message.success is False:
        return ServerError(
            message.method or "error",
            message.error or "",
            request_id,
            result.channel,
            message.symbol,
        )
    if message.method == "pong":
        return Alive("pong")
    if message.method in ("subscribe", "unsubscribe"):
        depth = result.depth if message.method == "subscribe" else 0
        return Ack(request_id, result.channel, result.symbol, depth=depth)
    return None


def _event(message: _Message) -> Control | None:
    """What the objects of version 1 say."""
    match message.event:
        case "heartbeat" | "pong":
            return Alive(message.event)
        case "systemStatus":
            return Alive(message.status)
        case "subscriptionStatus" if message.status == "error":
            return ServerError(
                "subscribe", message.error_message, None, message.subscription.name, message.pair
            )
        case "subscriptionStatus":
            symbol = None if message.pair is None else kraken_v1.renamed(message.pair)
            return Ack(None, message.subscription.name, symbol, depth=message.subscription.depth)
    return None


_channel = matcher("channel")
_symbol = matcher("symbol")


def _peek(frame: bytes) -> Topic | None:
    if (topic := kraken_v1.topic_of(frame)) is not None:
        return Topic(topic[0].partition("-")[0], topic[1])
    channel, symbol = _channel(frame), _symbol(frame)
    return None if channel is None or symbol is None else Topic(channel, symbol)


class _Params(msgspec.Struct, frozen=True):
    channel: str = ""
    symbol: list[str] = []


class _Request(msgspec.Struct, frozen=True):
    method: str = ""
    params: _Params = _Params()


def _requested(_: str, sent: bytes) -> list[Topic]:
    try:
        request = msgspec.json.decode(sent, type=_Request) if sent else _Request()
    except msgspec.DecodeError:
        return []
    if request.method != "subscribe":
        return []
    return [Topic(request.params.channel, symbol) for symbol in request.params.symbol]


_DIGITS = re.compile(rb'"(price|qty)"\s*:\s*-?\d+(?:\.(\d+))?')


def _written_exponents(frame: bytes) -> tuple[int, int]:
    """Every number of an instrument is written with its precision: `64525.0`, `0.00000000`."""
    exps = {b"price": 0, b"qty": 0}
    for name, digits in _DIGITS.findall(frame):
        exps[name] = min(exps[name], -len(digits))
    return exps[b"price"], exps[b"qty"]


def _checksum(bids: IntegerLevels, asks: IntegerLevels, _price_exp: int, _qty_exp: int) -> int:
    """Unsigned CRC32 over the best ten asks, then bids, each as the digits of price and quantity
    without point and leading zeros.

    At an instrument's own precision a mantissa is written with just these digits.
    """
    text = "".join(
        f"{price}{quantity}" for side in (asks[:10], bids[:10]) for price, quantity in side
    )
    return zlib.crc32(text.encode())


class _Pair(msgspec.Struct, frozen=True):
    pair_decimals: int
    lot_decimals: int
    wsname: str = ""
    altname: str = ""
    tick_size: str = ""
    ordermin: str = ""
    costmin: str = ""
    status: str = ""


class _Body(msgspec.Struct, frozen=True):
    result: dict[str, msgspec.Raw] = {}
    error: list[str] = []


_decode_pair = msgspec.json.Decoder(_Pair).decode


def _parse_instruments(body: bytes) -> Instruments:
    answer = decoded("kraken pairs", body, _Body)
    if answer.error:
        raise InstrumentsError(f"kraken pairs: {', '.join(answer.error)}")
    defs: list[InstrumentDef] = []
    rejected: list[str] = []
    for name, raw in answer.result.items():
        try:
            pair = _decode_pair(raw)
            if pair.wsname:  # a dark pool has none: it has no stream
                defs.append(_definition(name, pair))
        except (msgspec.DecodeError, InstrumentsError) as error:
            rejected.append(f"{name[:60]!r}: {error}")
    return Instruments(tuple(defs), tuple(rejected))


class _Ticker(msgspec.Struct, frozen=True):
    v: tuple[Decimal, Decimal]
    """Volume in the base: today, 24 h; `p` is the mean price of both."""
    p: tuple[Decimal, Decimal]


class _Tickers(msgspec.Struct, frozen=True):
    result: dict[str, _Ticker] = {}
    error: list[str] = []


def _volumes(_: RestRequest, body: bytes) -> dict[str, Decimal]:
    """REST names of pairs, which are aliases here."""
    answer = decode_volumes("kraken", body, _Tickers)
    if answer.error or not answer.result:
        raise InstrumentsError(f"kraken tickers: {', '.join(answer.error) or 'no result'}")
    return {name: ticker.v[1] * ticker.p[1] for name, ticker in answer.result.items()}


def _definition(name: str, pair: _Pair) -> InstrumentDef:
    symbol = kraken_v1.renamed(pair.wsname)
    base, _, quote = symbol.partition("/")
    kind = _kind_of(symbol)
    if kind is None:
        raise InstrumentsError(f"{pair.wsname!r} is not a known form")
    if not (0 <= pair.pair_decimals <= 18 and 0 <= pair.lot_decimals <= 18):
        raise InstrumentsError(f"{symbol}: {pair.pair_decimals} and {pair.lot_decimals} decimals")
    return InstrumentDef(
        symbol=symbol,
        kind=kind,
        state=_STATES.get(pair.status, InstrumentState.UNKNOWN),
        base=base,
        quote=quote,
        settle=quote,
        tick=_tick(exact(pair.tick_size), -pair.pair_decimals),
        lot=Exact(1, -pair.lot_decimals),
        min_qty=exact(pair.ordermin),
        min_notional=exact(pair.costmin),
        aliases=tuple(
            dict.fromkeys(
                other for other in (name, pair.altname, pair.wsname) if other not in ("", symbol)
            )
        ),
    )


def _tick(size: Exact | None, exp: int) -> Exact:
    """Return the tick at the exponent that prices are written with, which the checksum needs,
    even where it is coarser.
    """
    if size is None:
        return Exact(1, exp)
    return size if size.exp < exp else Exact(size.mantissa * 10 ** (size.exp - exp), exp)


VENUE = VenueSpec(
    name="kraken",
    venue_id=VENUES["kraken"],
    kind_of=_kind_of,
    endpoints=("ws", "rest"),
    stream=StreamSpec(
        shapes=SHAPES,
        written_exponents=_written_exponents,
        reframe=kraken_v1.reframe,
        streams=CHANNELS,
        subscribe=_subscribe,
        unsubscribe=_unsubscribe,
        control=_control,
        peek=_peek,
        requested=_requested,
        keepalive=Keepalive(interval_s=20.0, payload=b'{"method":"ping"}'),
        silence_s=30.0,
    ),
    rule=BookRule(
        sequence_rule="linked",  # no ids at all: the checksum alone joins
        snapshot="stream",
        checksum=_checksum,
        checksum_levels=10,
        checksum_only=True,
        depths=(10, 25, 100, 500, 1000),
    ),
    listing=ListingSpec(
        default_price_exp=0,
        default_qty_exp=0,
        requests=lambda: [RestRequest("rest", "/0/public/AssetPairs")],
        parse=_parse_instruments,
        volumes=Volumes(requests=lambda: [RestRequest("rest", "/0/public/Ticker")], parse=_volumes),
        symbols_of_pair=lambda base, quote: (f"{base}/{quote}",),
    ),
    recordings=RecordingSpec(
        hosts=(
            "ws.kraken.com",
            "api.kraken.com",
        ),
        is_listing=lambda url: "/0/public/AssetPairs" in url,
    ),
)
