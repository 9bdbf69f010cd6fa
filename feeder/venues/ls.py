"""LS Securities (Korea): stocks of KRX and NXT, KOSPI200 and stock derivatives; whole books,
trades, market states. Needs keys.

From documented messages, not tested against the live venue: evidence per message variant is in
`docs/venues/ls.md`. Message codes, widths of keys, fields and state codes are data,
`config/markets/ls.toml`; the exchange's calendar and price bands are `feeder.venues.common.krx`,
the lists of instruments `feeder.venues.common.ls_masters`. All values are texts. There is no
trade id and no sequence: a trade's id is the day's volume with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from tapecast.feeder.extract.shapes import (
    BookShape,
    ConditionField,
    LevelFields,
    Match,
    Numbers,
    ScalarLevel,
    Shape,
    SideField,
    TimeUnit,
    TradeId,
    TradeShape,
)
from tapecast.feeder.venues.common import krx
from tapecast.feeder.venues.common.ls_data import DATA, kind_of, markets_of
from tapecast.feeder.venues.common.ls_masters import is_list_url, list_requests, parse_list
from tapecast.feeder.venues.helpers import matcher
from tapecast.feeder.venues.spec import (
    Ack,
    BookRule,
    Control,
    Ignored,
    Keepalive,
    ListingSpec,
    Login,
    MarketState,
    RecordingSpec,
    ServerError,
    Stream,
    StreamSpec,
    Subscription,
    Tokens,
    Topic,
    VenueSpec,
)
from tapecast.protocol.schema import VENUES, InstrumentState, MsgType, Side

__all__ = ["VENUE"]

NOTICE = "from documented frames, not live-tested (docs/venues/ls.md)"

CHANNELS = {DATA.state.code: Stream(route="ws", carries=MsgType.STATUS)}
for _market in DATA.markets.values():
    CHANNELS[_market.trade] = Stream(route="ws", carries=MsgType.TRADE)
    CHANNELS[_market.book] = Stream(route="ws", carries=MsgType.BOOK)


def _trade(name: str, codes: Sequence[str], trade_id: str | None) -> Shape:
    fields = DATA.fields
    return TradeShape(
        name=name,
        match=Match(where={fields["code"]: tuple(codes)}),
        numbers=Numbers.QUOTED,
        symbol=fields["key"],
        ts=fields["trade_time"],
        ts_unit=TimeUnit.KST,
        price=fields["price"],
        quantity=fields["quantity"],
        trade_id=None if trade_id is None else TradeId(trade_id),
        side=SideField(
            fields["side"], {text: Side[side.upper()] for text, side in DATA.sides.items()}
        ),
        condition=ConditionField(fields["exchange"], DATA.exchanges),
    )


def _levels(price: str, quantity: str, count: int) -> tuple[ScalarLevel, ...]:
    return tuple(ScalarLevel(price.format(n=n), quantity.format(n=n)) for n in range(1, count + 1))


def _books() -> Iterator[Shape]:
    """Yield a shape for the books with the same keys; the unified market's first, because the
    first shares a pass with trades.
    """
    fields = DATA.fields
    groups: dict[tuple[str, str, int], list[str]] = {}
    for market in DATA.markets.values():
        quantities = (
            market.bid_quantity or fields["bid_quantity"],
            market.ask_quantity or fields["ask_quantity"],
        )
        groups.setdefault((*quantities, market.levels), []).append(market.book)
    for (bids, asks, levels), codes in sorted(
        groups.items(), key=lambda group: group[0][0] == fields["bid_quantity"]
    ):
        yield BookShape(
            name=" ".join(codes),
            match=Match(where={fields["code"]: tuple(codes)}),
            numbers=Numbers.QUOTED,
            symbol=fields["key"],
            ts=fields["book_time"],
            ts_unit=TimeUnit.KST,
            levels=LevelFields(
                bids=_levels(fields["bid_price"], bids, levels),
                asks=_levels(fields["ask_price"], asks, levels),
            ),
            snapshot=True,
            top_only=True,
        )


_REDUCED = "reduced"
SHAPES = (
    _trade("trade", [market.trade for market in DATA.markets.values()], DATA.fields["cumulative"]),
    *_books(),
    _trade("reduced trade", [_REDUCED], None),
)


def _reduced(connection: str, text: bytes) -> bytes | None:
    """Return a trade of which its recorder kept time, price, quantity and side; the symbol is in
    the name of the connection.
    """
    symbol = connection.rpartition(":")[2]
    if kind_of(symbol) is None:
        return None
    return b'{"header":{"tr_cd":"%s","tr_key":"%s"},"body":%s}' % (
        _REDUCED.encode(),
        symbol.encode(),
        text,
    )


# subscriptions


def _frame(channel: str, key: str, kind: str = "3") -> bytes:
    """Return a request: `kind` 3 subscribes to market data, 4 ends it. The token is put in when
    it is sent (`Login.sign`).
    """
    return msgspec.json.encode(
        {"header": {"token": "", "tr_type": kind}, "body": {"tr_cd": channel, "tr_key": key}}
    )


def _topics(
    symbols: Sequence[str], channels: Sequence[str]
) -> Iterator[tuple[Topic | None, bytes]]:
    """Yield each subscription, one message each, because the venue takes one at a time; no topic
    where it is of no symbol.
    """
    for channel in channels:
        if channel not in CHANNELS:
            raise KeyError(channel)
        if channel == DATA.state.code:
            yield None, _frame(channel, DATA.state.key)
        for symbol in symbols:
            for market in markets_of(symbol):
                if channel in (market.trade, market.book):
                    yield Topic(channel, symbol), _frame(channel, symbol.ljust(market.width))


def _subscribe(symbols: Sequence[str], channels: Sequence[str], _: int) -> list[Subscription]:
    """The venue names no request, so none has an id."""
    wanted = list(_topics(symbols, channels))
    size = DATA.connection.registrations
    chunks = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    return [
        Subscription(
            "ws",
            tuple(frame for _, frame in chunk),
            tuple(topic for topic, _ in chunk if topic is not None),
            (),
        )
        for chunk in chunks
    ]


class _Header(msgspec.Struct, frozen=True):
    tr_cd: str = ""
    tr_key: str | None = None
    tr_type: str = ""
    token: str = ""
    rsp_cd: str = ""
    rsp_msg: str = ""


class _Body(msgspec.Struct, frozen=True):
    tr_cd: str = ""
    tr_key: str = ""
    jangubun: str = ""
    jstatus: str = ""


class _Message(msgspec.Struct, frozen=True):
    header: _Header
    body: _Body | None = None


_decode_message = msgspec.json.Decoder(_Message).decode
_ACCEPTED = "00000"


def _control(frame: bytes) -> Control | None:
    try:
        message = _decode_message(frame)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    header, body = message.header, message.body
    key = (header.tr_key or "").strip() or None
    if header.rsp_cd == _ACCEPTED:
        return Ack(channel=header.tr_cd, symbol=key)
    if header.rsp_cd:
        refused = header.rsp_cd in DATA.login.refused
        return ServerError(
            header.rsp_cd, header.rsp_msg, channel=header.tr_cd, symbol=key, login=refused
        )
    if header.tr_cd == DATA.state.code and body is not None and body.jangubun and body.jstatus:
        return _state(body.jangubun, body.jstatus)
    return Ignored(header.tr_cd) if header.tr_cd in DATA.ignored.codes else None


def _state(part: str, status: str) -> Control:
    segment, table = DATA.state.parts.get(part, ("", ""))
    state = DATA.state.meanings.get(table, {}).get(status)
    if state is None:
        return Ignored(f"{DATA.state.code} {part} {status}")
    return MarketState(
        segment, InstrumentState[state.upper()], f"{segment} {state} ({part} {status})"
    )


_find_code, _find_key = matcher("tr_cd"), matcher("tr_key")


def _peek(frame: bytes) -> Topic | None:
    code, key = _find_code(frame), _find_key(frame)
    return None if code not in CHANNELS or key is None else Topic(code, key.strip())


def _requested(_: str, sent: bytes) -> list[Topic]:
    try:
        message = _decode_message(sent)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    body = message.body
    if message.header.tr_type != "3" or body is None or body.tr_cd in ("", DATA.state.code):
        return []
    return [Topic(body.tr_cd, body.tr_key.strip())]


# the token


def _parse_token(body: bytes) -> Tokens:
    class Answer(msgspec.Struct):
        access_token: str
        expires_in: int | None = None
        # so called in the documentation's table, not in its example
        expire_in: int | None = None

    try:
        answer = msgspec.json.decode(body, type=Answer, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError("the answer holds no access token") from None
    term = answer.expires_in if answer.expires_in is not None else answer.expire_in
    if not answer.access_token or term is None or term <= 0:
        raise ValueError("the answer holds no access token, or no term of it")
    return Tokens(answer.access_token, term)


def _sign(frame: bytes, token: str) -> bytes:
    return frame.replace(b'"token":""', b'"token":' + msgspec.json.encode(token), 1)


def _utc_second(kst: str) -> int:
    hour, minute = map(int, kst.split(":"))
    return ((hour - 9) % 24 * 60 + minute) * 60


LOGIN = Login(
    endpoint="rest",
    path=DATA.login.path,
    secrets=("LS_APPKEY", "LS_APPSECRET"),
    form=lambda keys: {
        "grant_type": "client_credentials",
        "appkey": keys[0],
        "appsecretkey": keys[1],
        "scope": "oob",
    },
    parse=_parse_token,
    sign=_sign,
    headers=lambda token: (("authorization", f"Bearer {token}"),),
    refusals=("HTTP 401", *DATA.login.refused),
    margin_s=DATA.login.margin_s,
    renew_at_s=tuple(map(_utc_second, DATA.login.renew_kst)),
)


def _notices(now_ns: int) -> tuple[str, ...]:
    return tuple(filter(None, (NOTICE, krx.holiday_notice(now_ns))))


VENUE = VenueSpec(
    name="ls",
    venue_id=VENUES["ls"],
    kind_of=kind_of,
    endpoints=("ws", "rest"),
    stream=StreamSpec(
        shapes=SHAPES,
        streams=CHANNELS,
        market_wide=frozenset({DATA.state.code}),
        subscribe=_subscribe,
        control=_control,
        peek=_peek,
        requested=_requested,
        keepalive=Keepalive(interval_s=30.0),
        silence_s=300.0,
        trade_id_is_volume=True,
        silence_allowed=krx.silence_allowed,
    ),
    rule=BookRule(
        sequence_rule="full",
        snapshot="stream",
        may_cross=True,
    ),
    listing=ListingSpec(
        default_price_exp=0,
        default_qty_exp=0,
        requests=list_requests,
        parse=parse_list,
        symbols_of_pair=lambda base, quote: (base,) if quote == "KRW" else (),
    ),
    recordings=RecordingSpec(
        hosts=("openapi.ls-sec.co.kr",),
        reduced=_reduced,
        is_listing=is_list_url,
    ),
    login=LOGIN,
    notices=_notices,
)
