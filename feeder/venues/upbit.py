"""Upbit: the whole book in every message, trades, and numbers written bare; no sequence numbers
anywhere.

Truth: docs.upbit.com and the recordings; evidence per message variant is in
`docs/venues/upbit.md`. Endpoints, symbols and rate limits are in `config/venues/upbit.toml`.
Tick sizes depend on the price and are not part of the market list, so definitions leave them
open.
"""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec

from tapecast.feeder.venues.common.korean import (
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

_SYMBOL = re.compile(r"(KRW|BTC|USDT|SGD|IDR|THB)-([A-Z0-9]+)")
"""Quote first: the Korean markets and those of the sister exchanges."""


def _kind_of(symbol: str) -> InstrumentKind | None:
    return InstrumentKind.SPOT if is_wire_symbol(symbol) and _SYMBOL.fullmatch(symbol) else None


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
        shapes=shapes(single=0),
        streams=STREAMS,
        subscribe=subscriber("is_only_realtime"),
        control=controller(lambda kind: kind == "ticker" or kind.startswith("candle.")),
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
        requests=lambda: [RestRequest("rest", "/v1/market/all", (("is_details", "true"),))],
        parse=market_parser("upbit", _kind_of),
        volumes=Volumes(
            requests=lambda: [
                RestRequest("rest", "/v1/ticker/all", (("quote_currencies", "KRW,BTC,USDT"),))
            ],
            parse=_volumes,
        ),
        symbols_of_pair=lambda base, quote: (f"{quote}-{base}",),
    ),
    recordings=RecordingSpec(
        hosts=("api.upbit.com",),
        is_listing=lambda url: "/v1/market/all" in url,
    ),
)
