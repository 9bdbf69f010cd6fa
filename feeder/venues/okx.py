"""OKX v5: books with snapshot and update joined by `prevSeqId`, a depth-1 channel, trades of
every instrument kind.

Truth: the venue's docs-v5 with its notices of 2026, and the recordings; evidence per message
variant is in `docs/venues/okx.md`. Endpoints, symbols and rate limits are in
`config/venues/okx.toml`. Quantities of derivatives are contracts: the contract size is in the
definition, never multiplied into a quantity.
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
    FlagField,
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
from tapecast.feeder.venues.helpers import connections, is_wire_symbol, matcher, query_value
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
    exact_product,
    milliseconds_to_ns,
)
from tapecast.feeder.venues.volumes import amount, decode_volumes
from tapecast.protocol.decimals import format_decimal
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

LISTED = ("SPOT", "SWAP", "FUTURES")
"""Instrument types whose lists are asked for. Options are listed by family only, so they come
when an operator names them.
"""

CHANNELS = {
    "books": Stream(route="public", carries=MsgType.BOOK),
    "books-l2-tbt": Stream(route="public", carries=MsgType.BOOK),  # the venue demands a login
    "books50-l2-tbt": Stream(route="public", carries=MsgType.BOOK),  # the venue demands a login
    "bbo-tbt": Stream(route="public", carries=MsgType.BBO),
    "trades": Stream(route="public", carries=MsgType.TRADE),
    "trades-all": Stream(route="business", carries=MsgType.TRADE),
    "mark-price": Stream(route="public", carries=MsgType.STAT),
    "funding-rate": Stream(route="public", carries=MsgType.STAT),
    "open-interest": Stream(route="public", carries=MsgType.STAT),
    "index-tickers": Stream(route="public", carries=MsgType.STAT),
    "liquidation-orders": Stream(route="public", carries=MsgType.LIQUIDATION),
}
LIQUIDATIONS = "liquidation-orders"
"""All instruments of a type at once, so it is asked for by type."""
LIQUIDATED = ("SWAP", "FUTURES")

_DERIVATIVES = frozenset({InstrumentKind.PERPETUAL, InstrumentKind.FUTURE, InstrumentKind.OPTION})
_KINDS_OF_CHANNEL = {
    "mark-price": _DERIVATIVES,
    "open-interest": _DERIVATIVES,
    "index-tickers": frozenset({InstrumentKind.SPOT}),  # an index has the name of its spot pair
}

SHAPES = (
    BookShape(
        name="books",
        match=Match(
            where={"arg.channel": ("books", "books-l2-tbt", "books50-l2-tbt")},
            # recordings of 2022 have no ids
            optional=("data[].seqId", "data[].prevSeqId", "data[].checksum"),
        ),
        numbers=Numbers.QUOTED,
        symbol="arg.instId",
        ts="data[].ts",
        levels=BidAskRows(bids=Rows("data[].bids"), asks=Rows("data[].asks")),
        snapshot=SnapshotField("action", "snapshot", "update"),
        last_id="data[].seqId",
        prev_id="data[].prevSeqId",
        checksum="data[].checksum",
        # examples 39
        example=(
            b'{"arg":{"channel":"books-l2-tbt","instId":"LTC-USDT-220624"},"action":"update",'
            b'"data":[{"asks":[],"bids":[["161.26","6","0","1"],["161.24","0","0","0"]],'
            b'"ts":"1640131256488","checksum":-465502296}]}'
        ),
    ),
    QuoteShape(
        name="bbo",
        match=Match(where={"arg.channel": ("bbo-tbt",)}, optional=("data[].seqId",)),
        numbers=Numbers.QUOTED,
        symbol="arg.instId",
        ts="data[].ts",
        levels=BidAskRows(bids=Rows("data[].bids"), asks=Rows("data[].asks")),
        last_id="data[].seqId",
        # examples 13
        example=(
            b'{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT-SWAP"},"data":[{"asks":[["20386.8",'
            b'"7","0","2"]],"bids":[["20386.7","50","0","5"]],"ts":"1656642503092"}]}'
        ),
    ),
    TradeShape(
        name="trades",
        match=Match(where={"arg.channel": ("trades", "trades-all")}),
        numbers=Numbers.QUOTED,
        symbol="arg.instId",
        each=Elements("data[]"),
        ts="ts",
        price="px",
        quantity="sz",
        trade_id=TradeId("tradeId"),
        side=SideField("side", {"buy": Side.BUY, "sell": Side.SELL}),
        # 1: Enhanced Liquidity Program
        flags=(FlagField("source", {"0": 0, "1": int(TradeFlag.OFF_BOOK)}),),
        # examples 1
        example=(
            b'{"arg":{"channel":"trades","instId":"BTC-USDT-SWAP"},'
            b'"data":[{"instId":"BTC-USDT-SWAP","tradeId":"219066264","px":"43568.8","sz":"7",'
            b'"side":"buy","ts":"1646312440645"}]}'
        ),
    ),
    StatShape(
        name="statistics",
        match=Match(
            where={"arg.channel": ("mark-price", "index-tickers", "funding-rate", "open-interest")},
            # funding rates of 2022 have none
            optional=("data[].ts",),
        ),
        numbers=Numbers.QUOTED,
        symbol="arg.instId",
        ts="data[].ts",
        stats=(
            StatField(StatKind.MARK_PRICE, "data[].markPx"),
            StatField(StatKind.INDEX_PRICE, "data[].idxPx"),
            StatField(StatKind.FUNDING_RATE, "data[].fundingRate", due="data[].fundingTime"),
            StatField(StatKind.OPEN_INTEREST, "data[].oi"),
        ),
        # examples 37
        example=(
            b'{"arg":{"channel":"mark-price","instId":"FIL-USDT-220325"},'
            b'"data":[{"instId":"FIL-USDT-220325","instType":"FUTURES","markPx":"36.232",'
            b'"ts":"1640131204676"}]}'
        ),
    ),
    TradeShape(
        name="liquidations",
        msg_type=MsgType.LIQUIDATION,
        match=Match(where={"arg.channel": (LIQUIDATIONS,), "arg.instType": LIQUIDATED}),
        numbers=Numbers.QUOTED,
        symbol="data[].instId",
        each=Elements("data[].details[]"),
        ts="ts",
        price="bkPx",
        quantity="sz",
        # the order's: a short position is closed by buying
        side=SideField("side", {"buy": Side.BUY, "sell": Side.SELL}),
        # examples 41
        example=(
            b'{"arg":{"channel":"liquidation-orders","instType":"FUTURES"},'
            b'"data":[{"details":[{"bkLoss":"0","bkPx":"0.55205","ccy":"","posSide":"short",'
            b'"side":"buy","sz":"39","ts":"1680173247614"}],"instFamily":"XRP-USD",'
            b'"instId":"XRP-USD-230929","instType":"FUTURES","uly":"XRP-USD"}]}'
        ),
    ),
)

REST_SHAPES = (
    BookShape(
        name="rest_books",
        match=Match(where={"code": ("0",)}, optional=("data[].seqId",)),
        numbers=Numbers.QUOTED,
        levels=BidAskRows(bids=Rows("data[].bids"), asks=Rows("data[].asks")),
        snapshot=True,
        last_id="data[].seqId",
        # examples 24
        example=(
            b'{"code":"0","msg":"","data":[{"asks":[["29701.7","2","0","1"],["29702.9","19","0",'
            b'"1"],["29703.4","20","0","4"]],"bids":[["29701.6","5","0","1"],["29701.5","2","0",'
            b'"1"],["29700.4","2","0","2"]],"ts":"1654329607417"}]}'
        ),
    ),
)

_IGNORED = frozenset(
    {
        "books5",
        "estimated-price",
        "instruments",
        "liquidations",
        "opt-summary",
        "price-limit",
        "status",
        "tickers",
    }
)
_IGNORED_PREFIXES = ("candle", "index-candle", "mark-price-candle")

_STATES = {
    "live": InstrumentState.TRADING,
    "suspend": InstrumentState.HALTED,
    "post_only": InstrumentState.HALTED,
    "rebase": InstrumentState.HALTED,
    "preopen": InstrumentState.PRE_OPEN,
    "settlement": InstrumentState.CLOSED,
    "settling": InstrumentState.CLOSED,
    "test": InstrumentState.CLOSED,  # no market: a pattern leaves it out
    "expired": InstrumentState.DELISTED,
}
_KINDS = {
    "SPOT": InstrumentKind.SPOT,
    "SWAP": InstrumentKind.PERPETUAL,
    "FUTURES": InstrumentKind.FUTURE,
    "OPTION": InstrumentKind.OPTION,
}
_OPTION_TYPES = {"": OptionType.NONE, "C": OptionType.CALL, "P": OptionType.PUT}

_PART = r"[^\W_a-z-][^\Wa-z-]*"
_KIND_OF_FORM = tuple(
    (re.compile(form), kind)
    for form, kind in (
        (rf"{_PART}-{_PART}", InstrumentKind.SPOT),
        (rf"{_PART}-{_PART}-SWAP", InstrumentKind.PERPETUAL),
        (rf"{_PART}-{_PART}-\d{{6}}", InstrumentKind.FUTURE),
        (rf"{_PART}-{_PART}-\d{{6}}-[\d.]+-[CP]", InstrumentKind.OPTION),
    )
)


def _kind_of(symbol: str) -> InstrumentKind | None:
    """The form of an instId tells its kind; `BTC-USD_UM_XPERP-310404` is a dated future too."""
    if not is_wire_symbol(symbol):
        return None
    return next((kind for form, kind in _KIND_OF_FORM if form.fullmatch(symbol)), None)


def _request(op: str, topics: Sequence[Topic], request_id: int) -> bytes:
    args = [{"channel": topic.channel, "instId": topic.symbol} for topic in topics]
    return msgspec.json.encode({"id": str(request_id), "op": op, "args": args})


def _subscribe(
    symbols: Sequence[str], channels: Sequence[str], request_id: int
) -> list[Subscription]:
    # A request may have 64 KB: 400 topics of the longest instId stay below half of it. Every
    # topic is acknowledged on its own.
    out = connections(
        symbols,
        [channel for channel in channels if channel != LIQUIDATIONS],
        CHANNELS,
        lambda topics, number: _request("subscribe", topics, number),
        request_id,
        per_connection=1000,
        per_frame=400,
        exists=_exists,
    )
    return _with_liquidations(out, request_id) if LIQUIDATIONS in channels else out


def _with_liquidations(parts: list[Subscription], request_id: int) -> list[Subscription]:
    """Add them to the first connection of their route: a connection of their own would be silent
    for too long.
    """
    route = CHANNELS[LIQUIDATIONS].route
    number = str(request_id + sum(len(part.frames) for part in parts))
    args = [{"channel": LIQUIDATIONS, "instType": name} for name in LIQUIDATED]
    frame = msgspec.json.encode({"id": number, "op": "subscribe", "args": args})
    place = next((place for place, part in enumerate(parts) if part.route == route), len(parts))
    first = parts[place] if place < len(parts) else Subscription(route, (), (), ())
    more = first._replace(frames=(*first.frames, frame), request_ids=(*first.request_ids, number))
    return [*parts[:place], more, *parts[place + 1 :]]


def _exists(topic: Topic) -> bool:
    """Whether the venue has a channel for an instrument: funding is paid on perpetuals, dated
    ones of that name included.
    """
    if topic.channel == "funding-rate":
        return topic.symbol.endswith("-SWAP") or "_XPERP-" in topic.symbol
    kinds = _KINDS_OF_CHANNEL.get(topic.channel)
    return kinds is None or _kind_of(topic.symbol) in kinds


class _Arg(msgspec.Struct, frozen=True):
    channel: str | None = None
    inst_id: str | None = msgspec.field(default=None, name="instId")


class _Message(msgspec.Struct, frozen=True):
    id: str | None = None
    event: str | None = None
    code: str | None = None
    msg: str = ""
    arg: _Arg = _Arg()
    channel: str | None = None
    table: str | None = None


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
            return Ack(message.id, channel, message.arg.inst_id)
        case "error" | "channel-conn-count-error":
            text = message.msg or message.event
            return ServerError(
                message.code or "",
                text,
                message.id,
                channel or message.channel,
                message.arg.inst_id,
            )
        case "notice":
            return Notice(message.code or "", message.msg, reconnect=message.code == "64008")
        case "channel-conn-count":
            return Alive(message.event)
        case None if channel is not None and (
            channel in _IGNORED or channel.startswith(_IGNORED_PREFIXES)
        ):
            return Ignored(channel)
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
    except msgspec.DecodeError:
        return []
    args = request.args if request.op == "subscribe" else []
    return [
        Topic(arg.channel, arg.inst_id)
        for arg in args
        if arg.channel is not None and arg.inst_id is not None
    ]


def _checksum(bids: IntegerLevels, asks: IntegerLevels, price_exp: int, qty_exp: int) -> int:
    """Signed CRC32 over the best 25 levels, bid and ask in turn, each as price:quantity in
    minimal decimals.
    """
    parts: list[str] = []
    for index in range(25):
        for side in (bids, asks):
            if index < len(side):
                price, quantity = side[index]
                parts.append(
                    f"{format_decimal(price, price_exp)}:{format_decimal(quantity, qty_exp)}"
                )
    value = zlib.crc32(":".join(parts).encode())
    return value - (1 << 32) if value & (1 << 31) else value


class _Instrument(msgspec.Struct, frozen=True, rename="camel"):
    inst_id: str
    inst_type: str
    state: str = ""
    base_ccy: str = ""
    quote_ccy: str = ""
    settle_ccy: str = ""
    inst_family: str = ""
    uly: str = ""
    ct_val: str = ""
    ct_mult: str = ""
    ct_type: str = ""
    tick_sz: str = ""
    lot_sz: str = ""
    min_sz: str = ""
    exp_time: str = ""
    stk: str = ""
    opt_type: str = ""


class _Body(msgspec.Struct, frozen=True):
    code: str
    data: list[msgspec.Raw]
    msg: str = ""


def _parse_instruments(body: bytes) -> Instruments:
    answer = decoded("okx instruments", body, _Body)
    if answer.code != "0":
        raise InstrumentsError(f"okx instruments: code {answer.code}: {answer.msg}")
    return listing(answer.data, _Instrument, _definition)


class _Ticker(msgspec.Struct, frozen=True):
    inst_type: str = msgspec.field(name="instType")
    inst_id: str = msgspec.field(name="instId")
    volume: str = msgspec.field(default="", name="volCcy24h")
    last: str = ""


def _volumes(_: RestRequest, body: bytes) -> dict[str, Decimal]:
    """`volCcy24h` is in the quote on spot and in the base elsewhere, where the last price makes
    a turnover of it.
    """
    answer = decode_volumes("okx", body, _Body)
    if answer.code != "0":
        raise InstrumentsError(f"okx tickers: code {answer.code}: {answer.msg}")
    out: dict[str, Decimal] = {}
    for raw in answer.data:
        ticker = decode_volumes("okx", raw, _Ticker)
        volume = amount(ticker.volume)
        out[ticker.inst_id] = volume if ticker.inst_type == "SPOT" else volume * amount(ticker.last)
    return out


def _definition(entry: _Instrument) -> InstrumentDef:
    kind = _kind_of(entry.inst_id)
    if kind is None or kind is not _KINDS.get(entry.inst_type):
        raise InstrumentsError(f"{entry.inst_id} is not a known form of {entry.inst_type}")
    if not entry.exp_time.isdigit() and entry.exp_time:
        raise InstrumentsError(f"{entry.inst_id}: expTime {entry.exp_time!r}")
    base, quote = entry.base_ccy, entry.quote_ccy
    if not (base and quote):
        base, _, quote = (
            entry.inst_family or entry.uly or entry.inst_id.rpartition("-")[0]
        ).partition("-")
        quote = quote.partition("_")[0]
    return InstrumentDef(
        symbol=entry.inst_id,
        kind=kind,
        state=_STATES.get(entry.state, InstrumentState.UNKNOWN),
        base=base,
        quote=quote,
        settle=entry.settle_ccy or quote,
        tick=exact(entry.tick_sz),
        lot=exact(entry.lot_sz),
        min_qty=exact(entry.min_sz),
        multiplier=_multiplier(exact(entry.ct_val), exact(entry.ct_mult)),
        inverse=entry.ct_type == "inverse",
        expiry_ns=milliseconds_to_ns(int(entry.exp_time)) if entry.exp_time else 0,
        strike=exact(entry.stk),
        option_type=_OPTION_TYPES.get(entry.opt_type, OptionType.NONE),
    )


def _multiplier(value: Exact | None, factor: Exact | None) -> Exact | None:
    if value is None or factor is None:
        return value
    return exact_product(value, factor)


VENUE = VenueSpec(
    name="okx",
    venue_id=VENUES["okx"],
    kind_of=_kind_of,
    endpoints=("public", "business", "rest"),
    stream=StreamSpec(
        shapes=SHAPES,
        streams=CHANNELS,
        market_wide=frozenset({LIQUIDATIONS}),
        subscribe=_subscribe,
        unsubscribe=lambda topics, request_id: _request("unsubscribe", topics, request_id),
        control=_control,
        peek=_peek,
        requested=_requested,
        keepalive=Keepalive(interval_s=20.0, payload=b"ping"),
        silence_s=30.0,
        replays_last_trade=True,
    ),
    rule=BookRule(
        sequence_rule="linked",
        snapshot="stream_or_rest",
        snapshot_wait_s=3.0,
        checksum=_checksum,
        checksum_levels=25,
        checksum_unset=0,  # constant since June 2026
        rest_shapes=REST_SHAPES,
        snapshot_request=lambda symbol, _: RestRequest(
            "rest", "/api/v5/market/books", (("instId", symbol), ("sz", "400"), ("source", "0"))
        ),
    ),
    listing=ListingSpec(
        default_price_exp=-11,  # ELON-USDT, and still prices of 10^7
        default_qty_exp=-5,  # ELON-USDT had levels of 6 x 10^12
        requests=lambda: [
            RestRequest("rest", "/api/v5/public/instruments", (("instType", kind),))
            for kind in LISTED
        ],
        parse=_parse_instruments,
        volumes=Volumes(
            requests=lambda: [
                RestRequest("rest", "/api/v5/market/tickers", (("instType", kind),))
                for kind in LISTED
            ],
            parse=_volumes,
        ),
        symbols_of_pair=lambda base, quote: (f"{base}-{quote}", f"{base}-{quote}-SWAP"),
    ),
    recordings=RecordingSpec(
        hosts=(
            "ws.okx.com",
            "www.okx.com",
        ),
        snapshot_symbol=lambda url: query_value(url, r"/api/v5/market/books(?:-full)?", "instId"),
        is_listing=lambda url: "/api/v5/public/instruments" in url,
    ),
)
