"""Upbit: the whole book in every message, trades, and numbers written bare; no sequence numbers
anywhere.

Truth: docs.upbit.com and the recordings; evidence per message variant is in
`docs/venues/upbit.md`. Endpoints, symbols and rate limits are in `config/venues/upbit.toml`.
Tick sizes depend on the price and are not part of the market list, so definitions leave them
open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from tapecast.feeder.extract.shapes import (
    BookShape,
    Match,
    Numbers,
    PairRows,
    Shape,
    SideField,
    TimeUnit,
    TradeId,
    TradeShape,
)
from tapecast.feeder.venues.spec import (
    Alive,
    BookRule,
    Control,
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
    is_wire_symbol,
    matcher,
)
from tapecast.feeder.venues.volumes import decode_volumes
from tapecast.protocol.schema import VENUES, InstrumentKind, InstrumentState, MsgType, Side

__all__ = ["VENUE"]

TAKER: dict[str | bool, Side] = {"ASK": Side.SELL, "BID": Side.BUY}

CHANNELS = {
    "orderbook": Stream(route="ws", carries=MsgType.BOOK),
    "trade": Stream(route="ws", carries=MsgType.TRADE),
}


def _book(name: str, keys: dict[str, str], units: PairRows) -> Shape:
    return BookShape(
        name=name,
        match=Match(
            where={keys["type"]: ("orderbook",)},
            # a grouped book is another book
            zero=(keys["level"],),
        ),
        numbers=Numbers.BARE,
        symbol=keys["code"],
        ts=keys["timestamp"],
        # ms; us in recordings of 2023
        ts_unit=TimeUnit.AUTO,
        levels=units,
        snapshot=True,
        top_only=True,
    )


def _trade(name: str, keys: dict[str, str]) -> Shape:
    return TradeShape(
        name=name,
        match=Match(where={keys["type"]: ("trade",), keys["stream_type"]: ("REALTIME",)}),
        numbers=Numbers.BARE,
        symbol=keys["code"],
        ts=keys["trade_timestamp"],
        ts_unit=TimeUnit.AUTO,
        price=keys["trade_price"],
        quantity=keys["trade_volume"],
        trade_id=TradeId(keys["sequential_id"]),
        side=SideField(keys["ask_bid"], TAKER),
    )


_SIMPLE = {
    "ask_bid": "ab",
    "code": "cd",
    "level": "lv",
    "sequential_id": "sid",
    "stream_type": "st",
    "timestamp": "tms",
    "trade_price": "tp",
    "trade_timestamp": "ttms",
    "trade_volume": "tv",
    "type": "ty",
}
_DEFAULT = {name: name for name in _SIMPLE}

SHAPES = (
    _book(
        "orderbook",
        _DEFAULT,
        PairRows("orderbook_units", "bid_price", "bid_size", "ask_price", "ask_size"),
    ),
    _trade("trade", _DEFAULT),
    _book("orderbook_simple", _SIMPLE, PairRows("obu", "bp", "bs", "ap", "as")),
    _trade("trade_simple", _SIMPLE),
)

_SYMBOL = re.compile(r"(KRW|BTC|USDT|SGD|IDR|THB)-([A-Z0-9]+)")
"""Quote first: the Korean markets and those of the sister exchanges."""


def _kind_of(symbol: str) -> InstrumentKind | None:
    return InstrumentKind.SPOT if is_wire_symbol(symbol) and _SYMBOL.fullmatch(symbol) else None


def _subscribe(
    symbols: Sequence[str], channels: Sequence[str], request_id: int
) -> list[Subscription]:
    """One frame holds the whole set, because a new one replaces the last; the venue acknowledges
    nothing.
    """
    parts: list[dict[str, object]] = [{"ticket": f"tapecast-{request_id}"}]
    for channel in channels:
        if channel not in CHANNELS:
            raise KeyError(channel)
        parts.append({"type": channel, "codes": list(symbols)})
        if channel == "trade":
            parts[-1]["is_only_realtime"] = True
    parts.append({"format": "DEFAULT"})
    topics = tuple(Topic(channel, symbol) for channel in channels for symbol in symbols)
    return [Subscription("ws", (msgspec.json.encode(parts),), topics, ())]


class _Error(msgspec.Struct, frozen=True):
    name: str
    message: str = ""


class _Message(msgspec.Struct, frozen=True):
    type: str | None = None
    ty: str | None = None
    stream_type: str | None = None
    st: str | None = None
    status: str | None = None
    error: _Error | None = None


_decode_message = msgspec.json.Decoder(_Message).decode


def _control(frame: bytes) -> Control | None:
    try:
        message = _decode_message(frame)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if message.error is not None:
        return ServerError(message.error.name, message.error.message)
    if message.status is not None:
        return Alive(message.status)
    kind = message.type or message.ty
    if kind == "ticker" or (kind is not None and kind.startswith("candle.")):
        return Ignored(kind)
    if kind == "trade" and (message.stream_type or message.st) == "SNAPSHOT":
        return Ignored("trade snapshot")
    return None


_finders = tuple((matcher(kind), matcher(code)) for kind, code in (("type", "code"), ("ty", "cd")))


def _peek(frame: bytes) -> Topic | None:
    for find_kind, find_code in _finders:
        kind, code = find_kind(frame), find_code(frame)
        if kind is not None and code is not None:
            return Topic(kind, code)
    return None


class _Part(msgspec.Struct, frozen=True):
    type: str | None = None
    codes: list[str] = []


def _requested(_: str, sent: bytes) -> list[Topic]:
    try:
        parts = msgspec.json.decode(sent, type=list[_Part]) if sent else []
    except msgspec.DecodeError:
        return []
    return [
        Topic(part.type, code.partition(".")[0])
        for part in parts
        if part.type
        for code in part.codes
    ]


class _Market(msgspec.Struct, frozen=True):
    market: str


def _parse_instruments(body: bytes) -> Instruments:
    try:
        markets = msgspec.json.decode(body, type=list[_Market])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InstrumentsError(f"upbit markets: {error}") from None
    defs: list[InstrumentDef] = []
    rejected: list[str] = []
    for entry in markets:
        kind = _kind_of(entry.market)
        quote, _, base = entry.market.partition("-")
        if kind is None:
            rejected.append(f"{entry.market[:60]!r}: not a known form")
            continue
        state = InstrumentState.TRADING
        defs.append(
            InstrumentDef(
                symbol=entry.market, kind=kind, state=state, base=base, quote=quote, settle=quote
            )
        )
    return Instruments(tuple(defs), tuple(rejected))


class _Ticker(msgspec.Struct, frozen=True):
    market: str
    acc_trade_price_24h: Decimal = Decimal(0)


def _volumes(_: RestRequest, body: bytes) -> dict[str, Decimal]:
    return {
        ticker.market: ticker.acc_trade_price_24h
        for ticker in decode_volumes("upbit", body, list[_Ticker])
    }


VENUE = VenueSpec(
    name="upbit",
    venue_id=VENUES["upbit"],
    kind_of=_kind_of,
    endpoints=("ws", "rest"),
    stream=StreamSpec(
        shapes=SHAPES,
        streams=CHANNELS,
        subscribe=_subscribe,
        control=_control,
        peek=_peek,
        requested=_requested,
        keepalive=Keepalive(interval_s=60.0, payload=b"PING"),
        silence_s=120.0,
    ),
    rule=BookRule(
        sequence_rule="full",
        snapshot="stream",
    ),
    listing=ListingSpec(
        default_price_exp=-8,
        default_qty_exp=-8,
        requests=lambda: [RestRequest("rest", "/v1/market/all", (("is_details", "true"),))],
        parse=_parse_instruments,
        volumes=Volumes(
            requests=lambda: [
                RestRequest("rest", "/v1/ticker/all", (("quote_currencies", "KRW,BTC,USDT"),))
            ],
            parse=_volumes,
        ),
        symbols_of_pair=lambda base, quote: (f"{quote}-{base}",),
    ),
    recordings=RecordingSpec(
        is_listing=lambda url: "/v1/market/all" in url,
    ),
)
