"""Coinbase Exchange: level2 books without any sequence, trades by their maker's side.

Truth: docs.cdp.coinbase.com (Exchange) and the recordings; evidence per message variant is in
`docs/venues/coinbase_exchange.md`. Endpoints, symbols and rate limits are in
`config/venues/coinbase_exchange.toml`. Advanced Trade is another venue module.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from tapecast.feeder.extract.shapes import (
    BidAskRows,
    BookShape,
    Match,
    Numbers,
    Rows,
    SidedRows,
    SideField,
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
    exact,
)
from tapecast.protocol.schema import VENUES, InstrumentKind, InstrumentState, MsgType, Side

__all__ = ["VENUE"]

CHANNELS = {
    "level2_batch": Stream(route="ws", carries=MsgType.BOOK),
    "level2": Stream(route="ws", carries=MsgType.BOOK),
    "matches": Stream(route="ws", carries=MsgType.TRADE),
}

SHAPES = (
    BookShape(
        name="l2update",
        match=Match(where={"type": ("l2update",)}),
        numbers=Numbers.QUOTED,
        symbol="product_id",
        ts="time",
        ts_unit=TimeUnit.ISO,
        levels=SidedRows(
            "changes", side=0, price=1, quantity=2, sides={"buy": Side.BUY, "sell": Side.SELL}
        ),
        # coinbase/examples 9
        example=(
            b'{"type":"l2update","product_id":"BTC-EUR","changes":[["buy","9202.70",'
            b'"0.58667860"],["sell","9222.39","0.00459825"]],'
            b'"time":"0001-01-01T00:00:00.000000Z"}'
        ),
    ),
    TradeShape(
        name="match",
        match=Match(where={"type": ("match",)}),
        numbers=Numbers.QUOTED,
        symbol="product_id",
        ts="time",
        ts_unit=TimeUnit.ISO,
        price="price",
        quantity="size",
        trade_id=TradeId("trade_id"),
        # the maker's
        side=SideField("side", {"buy": Side.SELL, "sell": Side.BUY}),
        # coinbase/examples 6
        example=(
            b'{"type":"match","trade_id":216544,'
            b'"maker_order_id":"4c2aa376-4bda-4947-84ee-4dc5a6337cba",'
            b'"taker_order_id":"247a6eb2-b5c1-42db-b0ac-cb74b85bcac8","side":"buy",'
            b'"size":"0.97133855","price":"4.97800000","product_id":"ETC-GBP",'
            b'"sequence":253395153,"time":"2019-08-01T00:00:03.816000Z"}'
        ),
    ),
    BookShape(
        name="snapshot",
        match=Match(where={"type": ("snapshot",)}),
        numbers=Numbers.QUOTED,
        symbol="product_id",
        levels=BidAskRows(bids=Rows("bids"), asks=Rows("asks")),
        snapshot=True,
        # coinbase/examples 2
        example=(
            b'{"type":"snapshot","product_id":"BTC-USD","asks":[["37212.77","0.05724592"],'
            b'["37215.39","0.00900000"],["37215.69","0.09654865"]],"bids":[["37209.96",'
            b'"0.04016376"],["37209.32","0.00192256"],["37209.16","0.01130000"]]}'
        ),
    ),
)

_SYMBOL = re.compile(r"[A-Z0-9]+-[A-Z0-9]+")
_STATES = {
    "online": InstrumentState.TRADING,
    "offline": InstrumentState.CLOSED,
    "delisted": InstrumentState.DELISTED,
}
_IGNORED = frozenset(
    {"activate", "change", "done", "last_match", "open", "received", "status", "ticker"}
)
_CHANNEL_OF = {
    "l2update": "level2_batch",
    "snapshot": "level2_batch",
    "match": "matches",
    "last_match": "matches",
}
_PER_CONNECTION = 50


def _kind_of(symbol: str) -> InstrumentKind | None:
    return InstrumentKind.SPOT if is_wire_symbol(symbol) and _SYMBOL.fullmatch(symbol) else None


def _request(kind: str, symbols: Sequence[str], channels: Sequence[str]) -> bytes:
    return msgspec.json.encode(
        {"type": kind, "product_ids": list(symbols), "channels": list(channels)}
    )


def _subscribe(symbols: Sequence[str], channels: Sequence[str], _: int) -> list[Subscription]:
    """One message a connection, with the heartbeat of every product. Nothing has a request id."""
    for channel in channels:
        if channel not in CHANNELS:
            raise KeyError(channel)
    out: list[Subscription] = []
    for start in range(0, len(symbols), _PER_CONNECTION):
        part = symbols[start : start + _PER_CONNECTION]
        topics = tuple(Topic(channel, symbol) for channel in channels for symbol in part)
        out.append(
            Subscription("ws", (_request("subscribe", part, [*channels, "heartbeat"]),), topics, ())
        )
    return out


def _unsubscribe(topics: Sequence[Topic], _: int) -> bytes:
    return _request(
        "unsubscribe",
        list(dict.fromkeys(t.symbol for t in topics)),
        list(dict.fromkeys(t.channel for t in topics)),
    )


class _Message(msgspec.Struct, frozen=True):
    type: str | None = None
    message: str = ""
    reason: str = ""


_decode_message = msgspec.json.Decoder(_Message).decode


def _control(frame: bytes) -> Control | None:
    try:
        message = _decode_message(frame)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    match message.type:
        case "subscriptions":
            return Ack()
        case "heartbeat":
            return Alive("heartbeat")
        case "error":
            return ServerError(
                "error",
                f"{message.message}: {message.reason}" if message.reason else message.message,
            )
        case str() if message.type in _IGNORED:
            return Ignored(message.type)
    return None


_type = matcher("type")
_product = matcher("product_id")


def _peek(frame: bytes) -> Topic | None:
    kind, symbol = _type(frame), _product(frame)
    return None if kind is None or symbol is None else Topic(_CHANNEL_OF.get(kind, kind), symbol)


class _Named(msgspec.Struct, frozen=True):
    name: str = ""
    product_ids: list[str] = []


class _Request(msgspec.Struct, frozen=True):
    type: str = ""
    product_ids: list[str] = []
    channels: list[str | _Named] = []


def _requested(_: str, sent: bytes) -> list[Topic]:
    """A channel may be a name, or an object with products of its own."""
    try:
        request = msgspec.json.decode(sent, type=_Request) if sent else _Request()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    if request.type != "subscribe":
        return []
    named = [
        _Named(channel) if isinstance(channel, str) else channel for channel in request.channels
    ]
    return [
        Topic(one.name, symbol)
        for one in named
        for symbol in one.product_ids or request.product_ids
    ]


class _Product(msgspec.Struct, frozen=True):
    id: str
    base_currency: str
    quote_currency: str
    quote_increment: str = ""
    base_increment: str = ""
    base_min_size: str = ""
    min_market_funds: str = ""
    status: str = ""
    trading_disabled: bool = False


def _parse_instruments(body: bytes) -> Instruments:
    products = decoded("coinbase_exchange products", body, list[msgspec.Raw])
    return listing(products, _Product, _definition)


def _definition(product: _Product) -> InstrumentDef:
    kind = _kind_of(product.id)
    if kind is None:
        raise InstrumentsError(f"{product.id} is not a known form")
    state = _STATES.get(product.status, InstrumentState.UNKNOWN)
    return InstrumentDef(
        symbol=product.id,
        kind=kind,
        state=InstrumentState.HALTED
        if product.trading_disabled and state is InstrumentState.TRADING
        else state,
        base=product.base_currency,
        quote=product.quote_currency,
        settle=product.quote_currency,
        tick=exact(product.quote_increment),
        lot=exact(product.base_increment),
        min_qty=exact(product.base_min_size),
        min_notional=exact(product.min_market_funds),
    )


VENUE = VenueSpec(
    name="coinbase_exchange",
    venue_id=VENUES["coinbase_exchange"],
    kind_of=_kind_of,
    endpoints=("ws", "rest"),
    stream=StreamSpec(
        shapes=SHAPES,
        streams=CHANNELS,
        subscribe=_subscribe,
        unsubscribe=_unsubscribe,
        control=_control,
        peek=_peek,
        requested=_requested,
        silence_s=15.0,
    ),
    rule=BookRule(
        sequence_rule="unverified",
        snapshot="stream",
    ),
    listing=ListingSpec(
        default_price_exp=-8,
        default_qty_exp=-5,  # memecoins rest in sizes of 10^12
        requests=lambda: [RestRequest("rest", "/products")],
        parse=_parse_instruments,
        symbols_of_pair=lambda base, quote: (f"{base}-{quote}",),
    ),
    recordings=RecordingSpec(
        hosts=(
            "ws-feed.exchange.coinbase.com",
            "api.exchange.coinbase.com",
            "ws-feed.pro.coinbase.com",
            "api.pro.coinbase.com",
        ),
        is_listing=lambda url: urlsplit(url).path == "/products",
    ),
)
