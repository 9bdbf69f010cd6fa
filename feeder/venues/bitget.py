"""Bitget spot: the whole book of 15 levels in every message, a BBO, trades; nothing is fetched to
keep a book.

Truth: the venue's API documentation, version 2; evidence per message variant is in
`docs/venues/bitget.md`. Endpoints, symbols and rate limits are in `config/venues/bitget.toml`.
The incremental channel `books` is not subscribed: its checksum has been seen only as 0, so
nothing would show a lost update.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from urllib.parse import urlsplit

import msgspec

from tapecast.feeder.extract.shapes import (
    BidAskRows,
    BookShape,
    Elements,
    Match,
    Numbers,
    QuoteShape,
    Rows,
    SideField,
    SilentShape,
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
)
from tapecast.feeder.venues.volumes import amount, decode_volumes
from tapecast.protocol.schema import VENUES, InstrumentKind, InstrumentState, MsgType, Side

__all__ = ["VENUE"]

MARKET = "SPOT"
STREAMS = {
    "books15": Stream(route="ws", carries=MsgType.BOOK),
    "books1": Stream(route="ws", carries=MsgType.BBO),
    "trade": Stream(route="ws", carries=MsgType.TRADE),
}
TOPICS_PER_CONNECTION = 50
"""The venue recommends no more; a request of so many stays below its 4,096 bytes."""


def _match(channel: str, action: str) -> Match:
    return Match(where={"arg.instType": (MARKET,), "arg.channel": (channel,), "action": (action,)})


SHAPES = (
    BookShape(
        name="book",
        match=_match("books15", "snapshot"),
        numbers=Numbers.QUOTED,
        symbol="arg.instId",
        ts="data[].ts",
        levels=BidAskRows(bids=Rows("data[].bids"), asks=Rows("data[].asks")),
        snapshot=True,
        top_only=True,
        # as documented for `books5`, which has the same layout
        example=(
            b'{"action":"snapshot","arg":{"instType":"SPOT","channel":"books15","instId":"BTCUSDT"},"data":['
            b'{"asks":[["26274.9","0.0009"],["26275.0","0.0500"]],'
            b'"bids":[["26274.8","0.0009"],["26274.7","0.0027"]],'
            b'"checksum":0,"seq":123,"ts":"1695710946294"}],"ts":1695710946294}'
        ),
    ),
    QuoteShape(
        name="bbo",
        match=_match("books1", "snapshot"),
        numbers=Numbers.QUOTED,
        symbol="arg.instId",
        ts="data[].ts",
        levels=BidAskRows(bids=Rows("data[].bids"), asks=Rows("data[].asks")),
        last_id="data[].seq",
        # the best level of the documented `books5`
        example=(
            b'{"action":"snapshot","arg":{"instType":"SPOT","channel":"books1","instId":"BTCUSDT"},"data":['
            b'{"asks":[["26274.9","0.0009"]],"bids":[["26274.8","0.0009"]],'
            b'"checksum":0,"seq":123,"ts":"1695710946294"}],"ts":1695710946294}'
        ),
    ),
    TradeShape(
        name="trades",
        match=_match("trade", "update"),
        numbers=Numbers.QUOTED,
        symbol="arg.instId",
        each=Elements("data[]"),
        ts="ts",
        price="price",
        quantity="size",
        trade_id=TradeId("tradeId"),
        side=SideField("side", {"buy": Side.BUY, "sell": Side.SELL}),
        # the documented trade, as it comes once it is new
        example=(
            b'{"action":"update","arg":{"instType":"SPOT","channel":"trade","instId":"BTCUSDT"},"data":['
            b'{"ts":"1695709835822","price":"26293.4","size":"0.0013","side":"buy",'
            b'"tradeId":"1000000000"}],"ts":1695711090682}'
        ),
    ),
    SilentShape(
        name="old trades",
        match=_match("trade", "snapshot"),
        symbol="arg.instId",
        # as documented
        example=(
            b'{"action":"snapshot","arg":{"instType":"SPOT","channel":"trade","instId":"BTCUSDT"},"data":['
            b'{"ts":"1695709835822","price":"26293.4","size":"0.0013","side":"buy",'
            b'"tradeId":"1000000000"}],"ts":1695711090682}'
        ),
    ),
)

_IGNORED = frozenset({"auction", "books", "books5", "ticker"})
_STATES = {
    "online": InstrumentState.TRADING,
    "halt": InstrumentState.HALTED,
    "offline": InstrumentState.CLOSED,
}
OK = "00000"


def _kind_of(symbol: str) -> InstrumentKind | None:
    """Upper-case letters and digits: other markets of the venue have the same form, and another
    `instType`.
    """
    known = is_wire_symbol(symbol) and symbol.isalnum() and symbol == symbol.upper()
    return InstrumentKind.SPOT if known else None


def _request(op: str, topics: Sequence[Topic]) -> bytes:
    args = [{"instType": MARKET, "channel": t.channel, "instId": t.symbol} for t in topics]
    return msgspec.json.encode({"op": op, "args": args})


def _subscribe(
    symbols: Sequence[str], channels: Sequence[str], request_id: int
) -> list[Subscription]:
    """Requests have no id: every topic is acknowledged on its own."""
    found = connections(
        symbols,
        channels,
        STREAMS,
        lambda topics, _: _request("subscribe", topics),
        request_id,
        per_connection=TOPICS_PER_CONNECTION,
        per_frame=TOPICS_PER_CONNECTION,
    )
    return [part._replace(request_ids=()) for part in found]


class _Arg(msgspec.Struct, frozen=True, rename="camel"):
    inst_type: str = ""
    channel: str | None = None
    inst_id: str | None = None


class _Message(msgspec.Struct, frozen=True):
    """Every top-level key a control message may have."""

    event: str | None = None
    arg: _Arg = _Arg()
    code: int | str = ""
    msg: str = ""


_decode_message = msgspec.json.Decoder(_Message).decode


def _control(frame: bytes) -> Control | None:
    if frame == b"pong":
        return Alive("pong")
    try:
        message = _decode_message(frame)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    channel = message.arg.channel
    match message.event:
        case "subscribe" | "unsubscribe":
            return Ack(None, channel, message.arg.inst_id)
        case "error":
            return ServerError(str(message.code), message.msg, None, channel, message.arg.inst_id)
        case None if channel is not None and message.arg.inst_type == MARKET:
            known = channel in _IGNORED or channel.startswith("candle")
            return Ignored(channel) if known else None
    return None


_channel = matcher("channel")
_inst_id = matcher("instId")


def _peek(frame: bytes) -> Topic | None:
    channel, symbol = _channel(frame), _inst_id(frame)
    return None if channel is None or symbol is None else Topic(channel, symbol)


class _Request(msgspec.Struct, frozen=True):
    op: str = ""
    args: list[_Arg] = []


def _requested(_: str, sent: bytes) -> list[Topic]:
    try:
        request = msgspec.json.decode(sent, type=_Request) if sent else _Request()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    return [
        Topic(arg.channel, arg.inst_id)
        for arg in (request.args if request.op == "subscribe" else [])
        if arg.channel and arg.inst_id and arg.inst_type == MARKET
    ]


class _Symbol(msgspec.Struct, frozen=True, rename="camel"):
    symbol: str
    base_coin: str
    quote_coin: str
    price_precision: str
    quantity_precision: str
    status: str = ""
    min_notional: str = msgspec.field(default="", name="minTradeUSDT")


class _Body(msgspec.Struct, frozen=True):
    code: str
    msg: str = ""
    data: list[msgspec.Raw] = []


def _parse_instruments(body: bytes) -> Instruments:
    answer = decoded("bitget symbols", body, _Body)
    if answer.code != OK:
        raise InstrumentsError(f"bitget symbols: code {answer.code}: {answer.msg}")
    return listing(answer.data, _Symbol, _definition)


def _definition(entry: _Symbol) -> InstrumentDef:
    """The smallest order is documented in USDT, so it is said of pairs in USDT alone."""
    kind = _kind_of(entry.symbol)
    if kind is None:
        raise InstrumentsError(f"{entry.symbol} is not a known form")
    return InstrumentDef(
        symbol=entry.symbol,
        kind=kind,
        state=_STATES.get(entry.status, InstrumentState.UNKNOWN),
        base=entry.base_coin,
        quote=entry.quote_coin,
        settle=entry.quote_coin,
        tick=_step(entry.price_precision),
        lot=_step(entry.quantity_precision),
        min_notional=exact(entry.min_notional) if entry.quote_coin == "USDT" else None,
    )


def _step(decimals: str) -> Exact:
    """Return the smallest number with so many decimals."""
    if not (decimals.isascii() and decimals.isdigit() and int(decimals) <= 18):
        raise InstrumentsError(f"{decimals!r} is no number of decimals")
    return Exact(1, -int(decimals))


class _Ticker(msgspec.Struct, frozen=True, rename="camel"):
    symbol: str
    quote_volume: str = ""


def _volumes(_: RestRequest, body: bytes) -> dict[str, Decimal]:
    answer = decode_volumes("bitget", body, _Body)
    if answer.code != OK:
        raise InstrumentsError(f"bitget tickers: code {answer.code}: {answer.msg}")
    tickers = (decode_volumes("bitget", raw, _Ticker) for raw in answer.data)
    return {ticker.symbol: amount(ticker.quote_volume) for ticker in tickers}


VENUE = VenueSpec(
    name="bitget",
    venue_id=VENUES["bitget"],
    kind_of=_kind_of,
    endpoints=("ws", "rest"),
    stream=StreamSpec(
        shapes=SHAPES,
        streams=STREAMS,
        subscribe=_subscribe,
        unsubscribe=lambda topics, _: _request("unsubscribe", topics),
        requested=_requested,
        control=_control,
        peek=_peek,
        keepalive=Keepalive(interval_s=25.0, payload=b"ping"),
        silence_s=60.0,
    ),
    rule=BookRule(sequence_rule="full", snapshot="stream"),
    listing=ListingSpec(
        default_price_exp=-10,
        default_qty_exp=-6,
        requests=lambda: [RestRequest("rest", "/api/v2/spot/public/symbols")],
        parse=_parse_instruments,
        volumes=Volumes(
            requests=lambda: [RestRequest("rest", "/api/v2/spot/market/tickers")], parse=_volumes
        ),
        symbols_of_pair=lambda base, quote: (base + quote,),
    ),
    recordings=RecordingSpec(
        hosts=("ws.bitget.com", "api.bitget.com"),
        is_listing=lambda url: urlsplit(url).path == "/api/v2/spot/public/symbols",
    ),
)
