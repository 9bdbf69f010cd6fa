"""Deribit v2: books with snapshot and change joined by `prev_change_id`, trades, quotes and
statistics of every derivative.

Truth: docs.deribit.com and the recordings; evidence per message variant is in
`docs/venues/deribit.md`. Endpoints, symbols and rate limits are in `config/venues/deribit.toml`.
Amounts stay what the venue sends: USD on inverse futures and perpetuals, the base currency
elsewhere. Nothing here logs in, so the `raw` channels are for recordings and for whoever has a
key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from tapecast.feeder.extract.shapes import (
    BestLevels,
    BidAskRows,
    BookShape,
    Elements,
    FlagField,
    IdKind,
    Match,
    Numbers,
    QuoteShape,
    Rows,
    ScalarLevel,
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
    ListingSpec,
    RecordingSpec,
    Reply,
    RestRequest,
    ServerError,
    Stream,
    StreamSpec,
    Subscription,
    Topic,
    VenueSpec,
    Volumes,
    exact,
    milliseconds_to_ns,
)
from tapecast.feeder.venues.volumes import decode_volumes
from tapecast.protocol.decimals import parse_decimal
from tapecast.protocol.schema import (
    VENUES,
    InstrumentKind,
    InstrumentState,
    MsgType,
    OptionType,
    Side,
    StatKind,
    TradeFlag,
)

__all__ = ["VENUE"]

LISTED = ("BTC", "ETH", "USDC", "USDT", "EURR")
"""Currencies whose instruments are asked for."""

_CARRIES = {"book": MsgType.BOOK, "trades": MsgType.TRADE, "ticker": MsgType.STAT}
CHANNELS = {
    f"{name}.{interval}": Stream(route="ws", carries=carries)
    for name, carries in _CARRIES.items()
    for interval in ("raw", "100ms", "agg2")  # the venue demands a login for raw
} | {"quote": Stream(route="ws", carries=MsgType.BBO)}

SHAPES = (
    BookShape(
        name="book",
        match=Match(
            where={"method": ("subscription",), "params.channel": ("book.*",)},
            # a snapshot has none
            optional=("params.data.prev_change_id",),
        ),
        numbers=Numbers.BARE,
        symbol="params.data.instrument_name",
        ts="params.data.timestamp",
        levels=BidAskRows(bids=Rows("params.data.bids", 1, 2), asks=Rows("params.data.asks", 1, 2)),
        snapshot=SnapshotField("params.data.type", "snapshot", "change"),
        last_id="params.data.change_id",
        prev_id="params.data.prev_change_id",
        # examples 24
        example=(
            b'{"jsonrpc":"2.0","method":"subscription",'
            b'"params":{"channel":"book.BTC-15SEP26-77000-C.100ms",'
            b'"data":{"timestamp":1789344930088,"type":"snapshot","change_id":118850965713,'
            b'"instrument_name":"BTC-15SEP26-77000-C","bids":[["new",0.0065,10.0]],'
            b'"asks":[["new",0.0075,10.0]]}}}'
        ),
    ),
    TradeShape(
        name="trades",
        match=Match(where={"method": ("subscription",), "params.channel": ("trades.*",)}),
        numbers=Numbers.BARE,
        each=Elements("params.data[]", symbol="instrument_name"),
        ts="timestamp",
        price="price",
        quantity="amount",
        # "137486952", but also "ETH-123"
        trade_id=TradeId("trade_id", IdKind.TEXT),
        side=SideField("direction", {"buy": Side.BUY, "sell": Side.SELL}),
        flags=(FlagField("block_trade_id", {"*": int(TradeFlag.BLOCK)}),),
        # examples 1
        example=(
            b'{"jsonrpc":"2.0","method":"subscription",'
            b'"params":{"channel":"trades.BTC-26MAR21.raw","data":[{"trade_seq":5326971,'
            b'"trade_id":"137486952","timestamp":1616321287195,"tick_direction":0,'
            b'"price":56273.5,"mark_price":56243.86,"instrument_name":"BTC-26MAR21",'
            b'"index_price":56127.59,"direction":"buy","amount":6000.0}]}}'
        ),
    ),
    QuoteShape(
        name="quote",
        match=Match(
            where={"method": ("subscription",), "params.channel": ("quote.*",)},
            # null where the side is empty
            optional=(
                "params.data.best_bid_price",
                "params.data.best_bid_amount",
                "params.data.best_ask_price",
                "params.data.best_ask_amount",
            ),
        ),
        numbers=Numbers.BARE,
        symbol="params.data.instrument_name",
        ts="params.data.timestamp",
        levels=BestLevels(
            bid=ScalarLevel("params.data.best_bid_price", "params.data.best_bid_amount"),
            ask=ScalarLevel("params.data.best_ask_price", "params.data.best_ask_amount"),
        ),
        # examples 11
        example=(
            b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"quote.BTC-30SEP22",'
            b'"data":{"timestamp":1654012570801,"instrument_name":"BTC-30SEP22",'
            b'"best_bid_price":32499.0,"best_bid_amount":2370.0,"best_ask_price":32503.5,'
            b'"best_ask_amount":2400.0}}}'
        ),
    ),
    StatShape(
        name="ticker",
        match=Match(where={"method": ("subscription",), "params.channel": ("ticker.*",)}),
        numbers=Numbers.BARE,
        symbol="params.data.instrument_name",
        ts="params.data.timestamp",
        stats=(
            StatField(StatKind.MARK_PRICE, "params.data.mark_price"),
            StatField(StatKind.INDEX_PRICE, "params.data.index_price"),
            StatField(StatKind.FUNDING_RATE, "params.data.current_funding"),
            StatField(StatKind.OPEN_INTEREST, "params.data.open_interest"),
        ),
        # examples 28
        example=(
            b'{"jsonrpc":"2.0","method":"subscription",'
            b'"params":{"channel":"ticker.BTC-PERPETUAL.raw","data":{"timestamp":1564617604229,'
            b'"stats":{"volume":24618.46215298,"low":9569.5,"high":10131.5},"state":"open",'
            b'"settlement_price":9743.97,"open_interest":66128281,"min_price":9942.76,'
            b'"max_price":10245.58,"mark_price":10094.1,"last_price":10095.5,'
            b'"instrument_name":"BTC-PERPETUAL","index_price":10091.15,"funding_8h":0.00016281,'
            b'"current_funding":0,"best_bid_price":10095,"best_bid_amount":7000,'
            b'"best_ask_price":10095.5,"best_ask_amount":250}}}'
        ),
    ),
)

_IGNORED = re.compile(
    r"book\.[^.]+\.[^.]+\.\d+\.[^.]+"  # cut off and grouped: another book
    r"|(?:chart\.trades|deribit_price_index|deribit_price_ranking|deribit_price_statistics|deribit_volatility_index"
    r"|estimated_expiration_price|incremental_ticker|instrument\.state|markprice\.options|perpetual|rfq)\..+"
    r"|platform_state(?:\..+)?"
)

_ASSET = r"[A-Z0-9]+(?:_[A-Z0-9]+)?"
_DATED = rf"{_ASSET}-\d{{1,2}}[A-Z]{{3}}\d{{2}}"
_KIND_OF_FORM = tuple(
    (re.compile(form, re.ASCII), kind)
    for form, kind in (
        (rf"{_ASSET}-PERPETUAL", InstrumentKind.PERPETUAL),
        (rf"{_DATED}-\d+(?:d\d+)?-[CP]", InstrumentKind.OPTION),
        (_DATED, InstrumentKind.FUTURE),
        (r"[A-Z0-9]+_[A-Z0-9]+", InstrumentKind.SPOT),
    )
)


def _kind_of(symbol: str) -> InstrumentKind | None:
    """The form of a name tells its kind; combinations (`BTC-FS-30SEP22_PERP`) have none."""
    if not is_wire_symbol(symbol):
        return None
    return next((kind for form, kind in _KIND_OF_FORM if form.fullmatch(symbol)), None)


_CHANNEL = re.compile(r"(book|trades|ticker)\.([^.]+)\.(raw|100ms|agg2)|quote\.([^.]+)")


def _topic(channel: str) -> Topic | None:
    """What a channel's full name is about; None for those that are not of one instrument, or not
    understood.
    """
    found = _CHANNEL.fullmatch(channel)
    if found is None:
        return None
    name, symbol, interval, quoted = found.groups()
    return Topic("quote", quoted) if quoted else Topic(f"{name}.{interval}", symbol)


def _full_name(topic: Topic) -> str:
    name, _, interval = topic.channel.partition(".")
    return f"{name}.{topic.symbol}.{interval}" if interval else f"{name}.{topic.symbol}"


def _call(method: str, request_id: int, **params: object) -> bytes:
    return msgspec.json.encode(
        {"jsonrpc": "2.0", "id": request_id, "method": f"public/{method}", "params": params}
    )


_TEST = _call("test", 0)


def _subscribe(
    symbols: Sequence[str], channels: Sequence[str], request_id: int
) -> list[Subscription]:
    """Every connection begins with a heartbeat of the venue's, because it would not notice a
    dead client otherwise, nor we it.
    """
    parts = connections(
        symbols,
        channels,
        CHANNELS,
        lambda topics, number: _call(
            "subscribe", number, channels=[_full_name(topic) for topic in topics]
        ),
        request_id,
        per_connection=2000,
        per_frame=250,
    )
    first = request_id + sum(len(part.frames) for part in parts)
    return [
        part._replace(
            frames=(_call("set_heartbeat", number, interval=30), *part.frames),
            request_ids=(str(number), *part.request_ids),
        )
        for number, part in enumerate(parts, first)
    ]


class _Params(msgspec.Struct, frozen=True):
    type: str | None = None
    channel: str | None = None


class _Error(msgspec.Struct, frozen=True):
    code: int
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Message(msgspec.Struct, frozen=True):
    id: int | str | None = None
    method: str | None = None
    params: _Params = _Params()
    error: _Error | None = None
    result: msgspec.Raw = msgspec.Raw()


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_channels = msgspec.json.Decoder(list[str]).decode


def _control(frame: bytes) -> Control | None:
    try:
        message = _decode_message(frame)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    request_id = None if message.id is None else str(message.id)
    if message.error is not None:
        return ServerError(str(message.error.code), _error_text(message.error), request_id)
    if message.method is None and message.result and request_id is not None:
        return Ack(request_id, accepted=_accepted(message.result))
    channel = message.params.channel
    match message.method, message.params.type:
        case "heartbeat", "test_request":
            return Reply(_TEST)
        case "heartbeat", "heartbeat":
            return Alive("heartbeat")
        case "subscription", _ if channel is not None and _IGNORED.fullmatch(channel):
            return Ignored(channel)
    return None


def _error_text(error: _Error) -> str:
    detail = bytes(error.data).decode("utf-8", "replace")
    return error.message if detail == "null" else f"{error.message}: {detail}"


def _accepted(result: msgspec.Raw) -> tuple[Topic, ...] | None:
    try:
        channels = _decode_channels(result)
    except msgspec.DecodeError:
        return None
    return tuple(topic for channel in channels if (topic := _topic(channel)) is not None)


_find_channel = matcher("channel")


def _peek(frame: bytes) -> Topic | None:
    channel = _find_channel(frame)
    return None if channel is None else _topic(channel)


class _Channels(msgspec.Struct, frozen=True):
    channels: list[str] = []


class _Request(msgspec.Struct, frozen=True):
    method: str = ""
    params: _Channels = _Channels()


def _requested(_: str, sent: bytes) -> list[Topic]:
    try:
        request = msgspec.json.decode(sent, type=_Request) if sent else _Request()
    except msgspec.DecodeError:
        return []
    channels = request.params.channels if request.method == "public/subscribe" else []
    return [topic for channel in channels if (topic := _topic(channel)) is not None]


class _Step(msgspec.Struct, frozen=True):
    above_price: Decimal
    tick_size: Decimal


class _Instrument(msgspec.Struct, frozen=True):
    instrument_name: str
    kind: str
    base_currency: str
    quote_currency: str
    tick_size: Decimal
    min_trade_amount: Decimal
    tick_size_steps: list[_Step] | None = None
    is_active: bool = True
    state: str | None = None
    settlement_currency: str | None = None
    future_type: str | None = None
    instrument_type: str | None = None
    expiration_timestamp: int | None = None
    strike: Decimal | None = None
    option_type: str | None = None


class _Body(msgspec.Struct, frozen=True):
    result: list[msgspec.Raw]


_KINDS = {
    "future": (InstrumentKind.PERPETUAL, InstrumentKind.FUTURE),
    "option": (InstrumentKind.OPTION,),
    "spot": (InstrumentKind.SPOT,),
}
_COMBINATIONS = ("future_combo", "option_combo")
_STATES = {
    None: InstrumentState.TRADING,
    "open": InstrumentState.TRADING,
    "locked": InstrumentState.HALTED,
    "halted": InstrumentState.HALTED,
    "settlement": InstrumentState.CLOSED,
    "inactive": InstrumentState.CLOSED,
    "delivered": InstrumentState.DELISTED,
    "archivized": InstrumentState.DELISTED,
}
_OPTION_TYPES = {None: OptionType.NONE, "call": OptionType.CALL, "put": OptionType.PUT}


def _parse_instruments(body: bytes) -> Instruments:
    answer = decoded("deribit instruments", body, _Body)
    return listing(
        answer.result,
        _Instrument,
        lambda entry: None if entry.kind in _COMBINATIONS else _definition(entry),
    )


class _Summary(msgspec.Struct, frozen=True):
    instrument_name: str
    volume_usd: Decimal | None = None


class _Summaries(msgspec.Struct, frozen=True):
    result: list[_Summary]


def _volumes(_: RestRequest, body: bytes) -> dict[str, Decimal]:
    summaries = decode_volumes("deribit", body, _Summaries).result
    return {summary.instrument_name: summary.volume_usd or Decimal(0) for summary in summaries}


def _state(entry: _Instrument) -> InstrumentState:
    """Return what the word says; what is not active does not trade, whatever its word."""
    state = _STATES.get(entry.state, InstrumentState.UNKNOWN)
    trades = state in (InstrumentState.TRADING, InstrumentState.UNKNOWN)
    return InstrumentState.CLOSED if trades and not entry.is_active else state


def _definition(entry: _Instrument) -> InstrumentDef:
    kind = _kind_of(entry.instrument_name)
    if kind is None or kind not in _KINDS.get(entry.kind, ()):
        raise InstrumentsError(f"{entry.instrument_name} is not a known form of {entry.kind}")
    if entry.option_type not in _OPTION_TYPES:
        raise InstrumentsError(f"{entry.instrument_name}: option_type {entry.option_type!r}")
    expires = kind in (InstrumentKind.FUTURE, InstrumentKind.OPTION)
    if expires and entry.expiration_timestamp is None:
        raise InstrumentsError(f"{entry.instrument_name} does not expire")
    # Lists of 2021 name neither settlement nor type: all there was then was settled in the base
    # currency.
    reversed_ = (entry.instrument_type or entry.future_type or "reversed") == "reversed"
    return InstrumentDef(
        symbol=entry.instrument_name,
        kind=kind,
        state=_state(entry),
        base=entry.base_currency,
        quote=entry.quote_currency,
        settle=entry.settlement_currency
        or (entry.quote_currency if kind is InstrumentKind.SPOT else entry.base_currency),
        tick=_exact(entry.tick_size),
        tick_bands=_bands(entry),
        min_qty=_exact(entry.min_trade_amount),
        # Amounts are money or coins already, not contracts: one unit of quantity is one.
        multiplier=Exact(1, 0),
        inverse=entry.kind == "future" and reversed_,
        # A perpetual is given the year 3000.
        expiry_ns=milliseconds_to_ns(entry.expiration_timestamp or 0) if expires else 0,
        strike=_exact(entry.strike),
        option_type=_OPTION_TYPES[entry.option_type],
    )


def _bands(entry: _Instrument) -> tuple[tuple[Exact, Exact], ...]:
    """Return the ladder of an instrument whose tick grows with the price; none where it has one
    tick.
    """
    steps = [
        (Decimal(0), entry.tick_size),
        *((step.above_price, step.tick_size) for step in entry.tick_size_steps or ()),
    ]
    if len(steps) == 1:
        return ()
    return tuple(
        (Exact(*parse_decimal(str(price))), Exact(*parse_decimal(str(tick))))
        for price, tick in sorted(steps)
    )


def _exact(number: Decimal | None) -> Exact | None:
    return None if number is None else exact(str(number))


VENUE = VenueSpec(
    name="deribit",
    venue_id=VENUES["deribit"],
    kind_of=_kind_of,
    endpoints=("ws", "rest"),
    stream=StreamSpec(
        shapes=SHAPES,
        streams=CHANNELS,
        subscribe=_subscribe,
        unsubscribe=lambda topics, request_id: _call(
            "unsubscribe", request_id, channels=[_full_name(topic) for topic in topics]
        ),
        control=_control,
        peek=_peek,
        requested=_requested,
        silence_s=60.0,
    ),
    rule=BookRule(
        sequence_rule="linked",
        snapshot="stream",
    ),
    listing=ListingSpec(
        default_price_exp=-8,
        default_qty_exp=-8,
        requests=lambda: [
            RestRequest(
                "rest",
                "/api/v2/public/get_instruments",
                (("currency", currency), ("expired", "false")),
            )
            for currency in LISTED
        ],
        parse=_parse_instruments,
        volumes=Volumes(
            requests=lambda: [
                RestRequest(
                    "rest", "/api/v2/public/get_book_summary_by_currency", (("currency", currency),)
                )
                for currency in LISTED
            ],
            parse=_volumes,
        ),
        symbols_of_pair=lambda base, quote: (
            (f"{base}-PERPETUAL",)
            if quote == "USD"
            else (f"{base}_{quote}-PERPETUAL", f"{base}_{quote}")
        ),
    ),
    recordings=RecordingSpec(
        hosts=(
            "www.deribit.com",
            "streams.deribit.com",
        ),
        is_listing=lambda url: "/public/get_instruments" in url,
    ),
)
