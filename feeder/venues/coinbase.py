"""Coinbase Advanced Trade: level2 books in order by one number over all channels of a
connection, trades by their maker's side.

Truth: docs.cdp.coinbase.com (Advanced Trade) and the recording; evidence per message variant is
in `docs/venues/coinbase.md`. Endpoints, symbols and rate limits are in
`config/venues/coinbase.toml`. The older Exchange feed is another venue module.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from tapecast.feeder.extract.shapes import (
    BookShape,
    Elements,
    Match,
    Numbers,
    SidedRows,
    SideField,
    SilentShape,
    SnapshotField,
    TimeUnit,
    TradeId,
    TradeShape,
)
from tapecast.feeder.venues.helpers import is_wire_symbol, matcher
from tapecast.feeder.venues.listing import decoded, listing
from tapecast.feeder.venues.spec import (
    Ack,
    Alive,
    BookRule,
    Control,
    Ignored,
    InstrumentDef,
    Instruments,
    InstrumentsError,
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
)
from tapecast.feeder.venues.volumes import amount, decode_volumes
from tapecast.protocol.schema import VENUES, InstrumentKind, InstrumentState, MsgType, Side

__all__ = ["VENUE"]

CHANNELS = {
    "level2": Stream(route="ws", carries=MsgType.BOOK),
    "market_trades": Stream(route="ws", carries=MsgType.TRADE),
}

SHAPES = (
    BookShape(
        name="l2_data",
        match=Match(where={"channel": ("l2_data",)}),
        numbers=Numbers.QUOTED,
        symbol="events[].product_id",
        ts_unit=TimeUnit.ISO,
        levels=SidedRows(
            "events[].updates",
            side="side",
            price="price_level",
            quantity="new_quantity",
            sides={"bid": Side.BUY, "offer": Side.SELL},
            ts="event_time",
        ),
        snapshot=SnapshotField("events[].type", "snapshot", "update"),
        # as documented
        example=(
            b'{"channel":"l2_data","client_id":"","timestamp":"2023-02-09T20:32:50.714964855Z",'
            b'"sequence_num":0,"events":[{"type":"snapshot","product_id":"BTC-USD",'
            b'"updates":[{"side":"bid","event_time":"1970-01-01T00:00:00Z",'
            b'"price_level":"21921.73","new_quantity":"0.06317902"},{"side":"bid",'
            b'"event_time":"1970-01-01T00:00:00Z","price_level":"21921.3",'
            b'"new_quantity":"0.02"}]}]}'
        ),
    ),
    TradeShape(
        name="market_trades",
        match=Match(where={"channel": ("market_trades",), "events[].type": ("update",)}),
        numbers=Numbers.QUOTED,
        each=Elements("events[].trades[]", symbol="product_id"),
        ts="time",
        ts_unit=TimeUnit.ISO,
        price="price",
        quantity="size",
        trade_id=TradeId("trade_id"),
        # the maker's
        side=SideField("side", {"BUY": Side.SELL, "SELL": Side.BUY}),
        # examples 5
        example=(
            b'{"channel":"market_trades","client_id":"","timestamp":"2026-09-30T01:41:27.834Z",'
            b'"sequence_num":5,"events":[{"type":"update","trades":[{"product_id":"ETH-USD",'
            b'"trade_id":"846149798","price":"2668.35","size":"0.03710506",'
            b'"time":"2026-09-30T01:41:25.375232Z","side":"SELL"},{"product_id":"ETH-USD",'
            b'"trade_id":"846149799","price":"2668.36","size":"1",'
            b'"time":"2026-09-30T01:41:25.375232Z","side":"BUY"}]}]}'
        ),
    ),
    SilentShape(
        # old trades, newest first
        name="market_trades snapshot",
        match=Match(where={"channel": ("market_trades",), "events[].type": ("snapshot",)}),
        symbol="channel",
        # as documented
        example=(
            b'{"channel":"market_trades","client_id":"",'
            b'"timestamp":"2023-02-09T20:19:35.39625135Z","sequence_num":0,'
            b'"events":[{"type":"snapshot","trades":[{"trade_id":"000000000",'
            b'"product_id":"ETH-USD","price":"1260.01","size":"0.3","side":"BUY",'
            b'"time":"2019-08-14T20:42:27.265Z"}]}]}'
        ),
    ),
)

PRODUCTS = RestRequest("rest", "/api/v3/brokerage/market/products")
"""Definitions and the volume of each."""

_SYMBOL = re.compile(r"[A-Z0-9]+-[A-Z0-9]+")
_PER_CONNECTION = 40
"""Symbols of one connection: its loss, or one number missing, costs the books of all of them,
each a snapshot of megabytes.
"""
_PER_FRAME = 20


def _kind_of(symbol: str) -> InstrumentKind | None:
    return InstrumentKind.SPOT if is_wire_symbol(symbol) and _SYMBOL.fullmatch(symbol) else None


def _request(kind: str, channel: str, symbols: Sequence[str]) -> bytes:
    products = {"product_ids": list(symbols)} if symbols else {}
    return msgspec.json.encode({"type": kind, "channel": channel, **products})


def _subscribe(symbols: Sequence[str], channels: Sequence[str], _: int) -> list[Subscription]:
    """One channel a message, heartbeats first: they keep a quiet connection open. Nothing has a
    request id.
    """
    for channel in channels:
        if channel not in CHANNELS:
            raise KeyError(channel)
    out: list[Subscription] = []
    for start in range(0, len(symbols), _PER_CONNECTION):
        part = symbols[start : start + _PER_CONNECTION]
        pieces = [part[first : first + _PER_FRAME] for first in range(0, len(part), _PER_FRAME)]
        frames = [_request("subscribe", "heartbeats", ())]
        frames += [
            _request("subscribe", channel, piece) for channel in channels for piece in pieces
        ]
        topics = tuple(Topic(channel, symbol) for channel in channels for symbol in part)
        out.append(Subscription("ws", tuple(frames), topics, ()))
    return out


class _Message(msgspec.Struct, frozen=True):
    channel: str | None = None
    type: str | None = None
    message: str = ""


_decode_message = msgspec.json.Decoder(_Message).decode


def _control(frame: bytes) -> Control | None:
    try:
        message = _decode_message(frame)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if message.type == "error":
        return ServerError("error", message.message)
    match message.channel:
        case "subscriptions":
            return Ack()
        case "heartbeats":
            return Alive("heartbeats")
        case "candles" | "status" | "ticker" | "ticker_batch":
            return Ignored(message.channel)
    return None


_channel = matcher("channel")
_product = matcher("product_id")
_number = re.compile(rb'"sequence_num"\s*:\s*(\d{1,18})\s*[,}]')
"""Unmistakable in raw bytes: inside a string its quotes would be escaped."""


def _connection_number(frame: bytes) -> int | None:
    found = _number.search(frame)
    return None if found is None else int(found[1])


def _peek(frame: bytes) -> Topic | None:
    channel, symbol = _channel(frame), _product(frame)
    if channel is None or symbol is None:
        return None
    return Topic("level2" if channel == "l2_data" else channel, symbol)


class _Request(msgspec.Struct, frozen=True):
    type: str = ""
    channel: str = ""
    product_ids: list[str] = []


def _requested(_: str, sent: bytes) -> list[Topic]:
    try:
        request = msgspec.json.decode(sent, type=_Request) if sent else _Request()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    return (
        [Topic(request.channel, symbol) for symbol in request.product_ids]
        if request.type == "subscribe"
        else []
    )


class _Product(msgspec.Struct, frozen=True):
    product_id: str
    base_currency_id: str
    quote_currency_id: str
    product_type: str = "SPOT"
    status: str = ""
    alias: str = ""
    alias_to: list[str] = []
    price_increment: str = ""
    quote_increment: str = ""
    base_increment: str = ""
    base_min_size: str = ""
    quote_min_size: str = ""
    trading_disabled: bool = False
    is_disabled: bool = False
    view_only: bool = False


class _Body(msgspec.Struct, frozen=True):
    products: list[msgspec.Raw]


def _parse_instruments(body: bytes) -> Instruments:
    answer = decoded("coinbase products", body, _Body)
    # an alias is a second name, whose messages carry the first
    return listing(
        answer.products, _Product, lambda product: None if product.alias else _definition(product)
    )


class _Volume(msgspec.Struct, frozen=True):
    product_id: str
    approximate_quote_24h_volume: str = ""


class _VolumeBody(msgspec.Struct, frozen=True):
    products: list[_Volume]


def _volumes(_: RestRequest, body: bytes) -> dict[str, Decimal]:
    products = decode_volumes("coinbase", body, _VolumeBody).products
    return {
        product.product_id: amount(product.approximate_quote_24h_volume) for product in products
    }


def _definition(product: _Product) -> InstrumentDef:
    kind = _kind_of(product.product_id)
    if kind is None or product.product_type != "SPOT":
        raise InstrumentsError(
            f"{product.product_id} is not a known form of {product.product_type}"
        )
    return InstrumentDef(
        symbol=product.product_id,
        kind=kind,
        state=_state(product),
        base=product.base_currency_id,
        quote=product.quote_currency_id,
        settle=product.quote_currency_id,
        tick=exact(product.price_increment or product.quote_increment),
        lot=exact(product.base_increment),
        min_qty=exact(product.base_min_size),
        min_notional=exact(product.quote_min_size),
        aliases=tuple(product.alias_to),
    )


def _state(product: _Product) -> InstrumentState:
    if product.status == "delisted":
        return InstrumentState.DELISTED
    if product.trading_disabled or product.is_disabled or product.view_only:
        return InstrumentState.HALTED
    return InstrumentState.TRADING if product.status == "online" else InstrumentState.UNKNOWN


VENUE = VenueSpec(
    name="coinbase",
    venue_id=VENUES["coinbase"],
    kind_of=_kind_of,
    endpoints=("ws", "rest"),
    stream=StreamSpec(
        shapes=SHAPES,
        streams=CHANNELS,
        subscribe=_subscribe,
        unsubscribe=lambda topics, _: _request(
            "unsubscribe", topics[0].channel, [topic.symbol for topic in topics]
        ),
        control=_control,
        peek=_peek,
        requested=_requested,
        connection_number=_connection_number,
        silence_s=15.0,
    ),
    rule=BookRule(
        sequence_rule="unverified",
        snapshot="stream",
    ),
    listing=ListingSpec(
        default_price_exp=-8,
        default_qty_exp=-5,  # memecoins rest in sizes of 10^12
        requests=lambda: [PRODUCTS],
        parse=_parse_instruments,
        volumes=Volumes(requests=lambda: [PRODUCTS], parse=_volumes),
        symbols_of_pair=lambda base, quote: (f"{base}-{quote}",),
    ),
    recordings=RecordingSpec(
        hosts=(
            "advanced-trade-ws.coinbase.com",
            "api.coinbase.com",
        ),
        is_listing=lambda url: "/api/v3/brokerage/market/products" in url,
    ),
)
