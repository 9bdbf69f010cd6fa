"""Bithumb, API v1: the whole book in every message, trades, and numbers written bare; no
sequence numbers anywhere.

Truth: apidocs.bithumb.com and the recordings; evidence per message variant is in
`docs/venues/bithumb.md`. Endpoints, symbols and rate limits are in `config/venues/bithumb.toml`.
Of the older feed (`pubwss`) nothing is published: its books cannot be verified and its trades
carry neither an id nor a time zone.
"""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec

from tapecast.feeder.venues.common.korean import (
    ACCEPTED,
    STREAMS,
    controller,
    market_parser,
    peek,
    requested,
    shapes,
    subscriber,
)
from tapecast.feeder.venues.helpers import is_wire_symbol
from tapecast.feeder.venues.spec import (
    BookRule,
    InstrumentsError,
    Keepalive,
    ListingSpec,
    RecordingSpec,
    RestRequest,
    StreamSpec,
    VenueSpec,
    Volumes,
)
from tapecast.feeder.venues.volumes import decode_volumes
from tapecast.protocol.schema import VENUES, InstrumentKind

__all__ = ["VENUE"]

_SYMBOL = re.compile(r"(KRW|BTC|USDT)-([A-Z0-9]+)")
"""Quote first."""


def _kind_of(symbol: str) -> InstrumentKind | None:
    return InstrumentKind.SPOT if is_wire_symbol(symbol) and _SYMBOL.fullmatch(symbol) else None


_IGNORED = frozenset({"ticker", "orderbookdepth", "orderbooksnapshot"})


class _Ticker(msgspec.Struct, frozen=True):
    acc_trade_value_24h: Decimal = msgspec.field(default=Decimal(0), name="acc_trade_value_24H")


class _Tickers(msgspec.Struct, frozen=True):
    status: str
    data: dict[str, _Ticker | str] = {}
    """By coin; one more key, `date`, holds a text."""


_TICKERS = "/public/ticker/ALL_"


def _volumes(request: RestRequest, body: bytes) -> dict[str, Decimal]:
    """The body names coins only; the quote is in the path."""
    answer = decode_volumes("bithumb", body, _Tickers)
    if answer.status != ACCEPTED:
        raise InstrumentsError(f"bithumb tickers: status {answer.status}")
    quote = request.path.removeprefix(_TICKERS)
    return {
        f"{quote}-{coin}": t.acc_trade_value_24h
        for coin, t in answer.data.items()
        if isinstance(t, _Ticker)
    }


VENUE = VenueSpec(
    name="bithumb",
    venue_id=VENUES["bithumb"],
    kind_of=_kind_of,
    endpoints=("ws", "rest"),
    stream=StreamSpec(
        shapes=shapes(single=1),
        streams=STREAMS,
        subscribe=subscriber("isOnlyRealtime"),
        control=controller(_IGNORED.__contains__),
        peek=peek,
        requested=requested,
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
        requests=lambda: [RestRequest("rest", "/v1/market/all", (("isDetails", "true"),))],
        parse=market_parser("bithumb", _kind_of),
        volumes=Volumes(
            requests=lambda: [RestRequest("rest", _TICKERS + quote) for quote in ("KRW", "BTC")],
            parse=_volumes,
        ),
        symbols_of_pair=lambda base, quote: (f"{quote}-{base}",),
    ),
    recordings=RecordingSpec(
        hosts=(
            "ws-api.bithumb.com",
            "api.bithumb.com",
        ),
        is_listing=lambda url: "/v1/market/all" in url,
    ),
)
