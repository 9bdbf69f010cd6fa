"""The WebSocket form that Upbit and Bithumb share: the whole book in every message, trades, and
numbers written bare; no sequence numbers anywhere.

Truth: docs.upbit.com, apidocs.bithumb.com and the recordings; evidence per message variant is in
`docs/venues/upbit.md` and `docs/venues/bithumb.md`. What differs (the level of a book, keys,
symbols, tickers) is in the venues' own files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

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
from tapecast.feeder.venues.helpers import matcher
from tapecast.feeder.venues.listing import decoded, listing
from tapecast.feeder.venues.spec import (
    Alive,
    Control,
    Ignored,
    InstrumentDef,
    Instruments,
    InstrumentsError,
    ServerError,
    Stream,
    Subscription,
    Topic,
)
from tapecast.protocol.schema import InstrumentKind, InstrumentState, MsgType, Side

__all__ = [
    "ACCEPTED",
    "STREAMS",
    "controller",
    "market_parser",
    "peek",
    "requested",
    "shapes",
    "subscriber",
]

TAKER: dict[str | bool, Side] = {"ASK": Side.SELL, "BID": Side.BUY}

STREAMS = {
    "orderbook": Stream(route="ws", carries=MsgType.BOOK),
    "trade": Stream(route="ws", carries=MsgType.TRADE),
}


def _book(name: str, keys: dict[str, str], units: PairRows, single: Literal[0, 1]) -> Shape:
    return BookShape(
        name=name,
        match=Match(
            where={keys["type"]: ("orderbook",)},
            # a grouped book is another book
            zero=() if single else (keys["level"],),
            one=(keys["level"],) if single else (),
        ),
        numbers=Numbers.BARE,
        symbol=keys["code"],
        ts=keys["timestamp"],
        # documented as ms; both venues have sent us
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


def shapes(single: Literal[0, 1]) -> tuple[Shape, ...]:
    """Return the messages of a venue, in both of its formats; `single` is the `level` of a book
    that is not grouped.
    """
    long = PairRows("orderbook_units", "bid_price", "bid_size", "ask_price", "ask_size")
    return (
        _book("orderbook", _DEFAULT, long, single),
        _trade("trade", _DEFAULT),
        _book("orderbook_simple", _SIMPLE, PairRows("obu", "bp", "bs", "ap", "as"), single),
        _trade("trade_simple", _SIMPLE),
    )


def subscriber(
    realtime: str,
) -> Callable[[Sequence[str], Sequence[str], int], list[Subscription]]:
    """Return the `subscribe` of a venue; `realtime` is its key for trades without the last old
    ones.
    """

    def subscribe(
        symbols: Sequence[str], channels: Sequence[str], request_id: int
    ) -> list[Subscription]:
        """One frame holds the whole set, because a new one replaces the last; the venue
        acknowledges nothing.
        """
        parts: list[dict[str, object]] = [{"ticket": f"tapecast-{request_id}"}]
        for channel in channels:
            if channel not in STREAMS:
                raise KeyError(channel)
            parts.append({"type": channel, "codes": list(symbols)})
            if channel == "trade":
                parts[-1][realtime] = True
        parts.append({"format": "DEFAULT"})
        topics = tuple(Topic(channel, symbol) for channel in channels for symbol in symbols)
        return [Subscription("ws", (msgspec.json.encode(parts),), topics, ())]

    return subscribe


class _Error(msgspec.Struct, frozen=True):
    name: str
    message: str = ""


class _Message(msgspec.Struct, frozen=True):
    type: str | None = None
    ty: str | None = None
    stream_type: str | None = None
    st: str | None = None
    status: str | None = None
    resmsg: str = ""
    error: _Error | None = None


_decode_message = msgspec.json.Decoder(_Message).decode
ACCEPTED = "0000"
"""Status of an answer in Bithumb's older form; any other number is an error code."""


def controller(ignored: Callable[[str], bool]) -> Callable[[bytes], Control | None]:
    """Return the `control` of a venue; `ignored`: which types of messages carry nothing here."""

    def control(frame: bytes) -> Control | None:
        try:
            message = _decode_message(frame)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if message.error is not None:
            return ServerError(message.error.name, message.error.message)
        if message.status is not None:
            if message.status.isdigit() and message.status != ACCEPTED:
                return ServerError(message.status, message.resmsg)
            return Alive(message.status)
        kind = message.type or message.ty
        if kind is not None and ignored(kind):
            return Ignored(kind)
        if kind == "trade" and (message.stream_type or message.st) == "SNAPSHOT":
            return Ignored("trade snapshot")
        return None

    return control


_finders = tuple((matcher(kind), matcher(code)) for kind, code in (("type", "code"), ("ty", "cd")))


def peek(frame: bytes) -> Topic | None:
    """Return type and code of a message in either format."""
    for find_kind, find_code in _finders:
        kind, code = find_kind(frame), find_code(frame)
        if kind is not None and code is not None:
            return Topic(kind, code)
    return None


class _Part(msgspec.Struct, frozen=True):
    type: str | None = None
    codes: list[str] = []


def requested(_: str, sent: bytes) -> list[Topic]:
    """Return the topics of a sent request; `KRW-BTC.15` asks for 15 units of KRW-BTC."""
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


def market_parser(
    name: str, kind_of: Callable[[str], InstrumentKind | None]
) -> Callable[[bytes], Instruments]:
    """Return the parser of a venue's market list, which gives symbols and nothing else."""

    def read(entry: _Market) -> InstrumentDef:
        kind = kind_of(entry.market)
        if kind is None:
            raise InstrumentsError("not a known form")
        quote, _, base = entry.market.partition("-")
        return InstrumentDef(
            symbol=entry.market,
            kind=kind,
            state=InstrumentState.TRADING,
            base=base,
            quote=quote,
            settle=quote,
        )

    def parse(body: bytes) -> Instruments:
        return listing(decoded(f"{name} markets", body, list[msgspec.Raw]), _Market, read)

    return parse
