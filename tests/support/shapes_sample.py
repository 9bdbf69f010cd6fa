"""Shapes of four venues for the extractor's own tests, and the frames of their recordings.

Layouts follow the venues' documentation; the venue modules declare their own. Exponents are found from the data, as the first
frame of an instrument would set them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from protocol.schema import MsgType, Side
from protocol.shapes import Numbers, PairRows, Quote, Rows, Shape, TimeUnit

__all__ = ["VENUES", "Frame", "frames"]

_TAKER = {True: Side.SELL, False: Side.BUY}

BINANCE_DEPTH = Shape(
    name="depthUpdate",
    msg_type=MsgType.BOOK,
    numbers=Numbers.QUOTED,
    envelope="data",
    where={"e": ("depthUpdate",)},
    absent=("pu",),
    symbol="s",
    ts="E",
    ts_unit=TimeUnit.AUTO,
    bids=Rows("b"),
    asks=Rows("a"),
    first_id="U",
    last_id="u",
)
BINANCE_TICKER = Shape(
    name="bookTicker",
    msg_type=MsgType.BBO,
    numbers=Numbers.QUOTED,
    envelope="data",
    absent=("e",),
    symbol="s",
    bid=Quote("b", "B"),
    ask=Quote("a", "A"),
    last_id="u",
)
BINANCE_TRADE = Shape(
    name="trade",
    msg_type=MsgType.TRADE,
    numbers=Numbers.QUOTED,
    envelope="data",
    where={"e": ("trade",)},
    absent=("X",),
    symbol="s",
    ts="T",
    ts_unit=TimeUnit.AUTO,
    price="p",
    quantity="q",
    trade_id="t",
    side="m",
    sides=_TAKER,
)
BINANCE_AGGREGATE = Shape(
    name="aggTrade",
    msg_type=MsgType.TRADE,
    numbers=Numbers.QUOTED,
    envelope="data",
    where={"e": ("aggTrade",)},
    symbol="s",
    ts="T",
    ts_unit=TimeUnit.AUTO,
    price="p",
    quantity="q",
    trade_id="a",
    side="m",
    sides=_TAKER,
)
BINANCE_REST = Shape(
    name="depth snapshot",
    msg_type=MsgType.BOOK,
    numbers=Numbers.QUOTED,
    bids=Rows("bids"),
    asks=Rows("asks"),
    last_id="lastUpdateId",
    snapshot=True,
)
FUTURES_DEPTH = Shape(
    name="depthUpdate",
    msg_type=MsgType.BOOK,
    numbers=Numbers.QUOTED,
    envelope="data",
    where={"e": ("depthUpdate",)},
    symbol="s",
    ts="T",
    bids=Rows("b"),
    asks=Rows("a"),
    first_id="U",
    last_id="u",
    prev_id="pu",
)
FUTURES_TICKER = Shape(
    name="bookTicker",
    msg_type=MsgType.BBO,
    numbers=Numbers.QUOTED,
    envelope="data",
    where={"e": ("bookTicker",)},
    symbol="s",
    ts="T",
    bid=Quote("b", "B"),
    ask=Quote("a", "A"),
    last_id="u",
)
FUTURES_TRADE = Shape(
    name="trade",
    msg_type=MsgType.TRADE,
    numbers=Numbers.QUOTED,
    envelope="data",
    where={"e": ("trade",)},
    symbol="s",
    ts="T",
    price="p",
    quantity="q",
    trade_id="t",
    side="m",
    sides=_TAKER,
    trade_flags=("X", {"MARKET": 0, "INSURANCE_FUND": 8, "ADL": 8}),
)
FUTURES_REST = Shape(
    name="depth snapshot",
    msg_type=MsgType.BOOK,
    numbers=Numbers.QUOTED,
    bids=Rows("bids"),
    asks=Rows("asks"),
    last_id="lastUpdateId",
    ts="T",
    optional=("T",),
    snapshot=True,
)
_OKX_SIDES = {"buy": Side.BUY, "sell": Side.SELL}
OKX_BOOKS = Shape(
    name="books",
    msg_type=MsgType.BOOK,
    numbers=Numbers.QUOTED,
    where={"arg.channel": ("books", "books-l2-tbt", "books50-l2-tbt")},
    symbol="arg.instId",
    ts="data[].ts",
    bids=Rows("data[].bids"),
    asks=Rows("data[].asks"),
    snapshot_if=("action", "snapshot", "update"),
    last_id="data[].seqId",
    prev_id="data[].prevSeqId",
    checksum="data[].checksum",
    optional=("data[].seqId", "data[].prevSeqId", "data[].checksum"),
)
OKX_BBO = Shape(
    name="bbo-tbt",
    msg_type=MsgType.BBO,
    numbers=Numbers.QUOTED,
    where={"arg.channel": ("bbo-tbt",)},
    symbol="arg.instId",
    ts="data[].ts",
    bids=Rows("data[].bids"),
    asks=Rows("data[].asks"),
    last_id="data[].seqId",
    optional=("data[].seqId",),
)
OKX_TRADES = Shape(
    name="trades",
    msg_type=MsgType.TRADE,
    numbers=Numbers.QUOTED,
    where={"arg.channel": ("trades",)},
    symbol="arg.instId",
    each="data[]",
    ts="ts",
    price="px",
    quantity="sz",
    trade_id="tradeId",
    side="side",
    sides=_OKX_SIDES,
)
_UPBIT_SIDES = {"ASK": Side.SELL, "BID": Side.BUY}


def _upbit(names: tuple[str, ...], units: PairRows) -> tuple[Shape, ...]:
    kind, code, pushed, level, stream, executed, price, volume, number, side = names
    trade = Shape(
        name=f"{kind} trade",
        msg_type=MsgType.TRADE,
        numbers=Numbers.BARE,
        where={kind: ("trade",), stream: ("REALTIME",)},
        symbol=code,
        ts=executed,
        price=price,
        quantity=volume,
        trade_id=number,
        side=side,
        sides=_UPBIT_SIDES,
    )
    book = Shape(
        name=f"{kind} orderbook",
        msg_type=MsgType.BOOK,
        numbers=Numbers.BARE,
        where={kind: ("orderbook",)},
        symbol=code,
        ts=pushed,
        ts_unit=TimeUnit.AUTO,
        pairs=units,
        zero=(level,),
        snapshot=True,
        top_only=True,
    )
    old = Shape(
        name=f"{kind} old trade",
        msg_type=MsgType.TRADE,
        numbers=Numbers.BARE,
        silent=True,
        where={kind: ("trade",), stream: ("SNAPSHOT",)},
        symbol=code,
    )
    return book, trade, old


UPBIT_LONG = _upbit(
    (
        "type",
        "code",
        "timestamp",
        "level",
        "stream_type",
        "trade_timestamp",
        "trade_price",
        "trade_volume",
        "sequential_id",
        "ask_bid",
    ),
    PairRows("orderbook_units", "bid_price", "bid_size", "ask_price", "ask_size"),
)
UPBIT_SHORT = _upbit(
    ("ty", "cd", "tms", "lv", "st", "ttms", "tp", "tv", "sid", "ab"), PairRows("obu", "bp", "bs", "ap", "as")
)

VENUES: dict[str, tuple[Shape, ...]] = {
    "binance": (BINANCE_DEPTH, BINANCE_TICKER, BINANCE_TRADE, BINANCE_AGGREGATE, BINANCE_REST),
    "binance_futures": (FUTURES_DEPTH, FUTURES_TICKER, FUTURES_TRADE, BINANCE_AGGREGATE, FUTURES_REST),
    "okx": (OKX_BOOKS, OKX_BBO, OKX_TRADES),
    "upbit": (*UPBIT_LONG, *UPBIT_SHORT),
}


class Frame(NamedTuple):
    """One received frame or REST body of a recording."""

    raw: bytes
    is_rest: bool


def frames(path: Path, limit: int | None = None) -> Iterator[Frame]:
    """Yield the received frames and REST bodies of a recording in order, at most `limit`."""
    opener = gzip.open if path.suffix == ".gz" else open
    count = 0
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry.get("kind") not in ("recv", "http"):
                continue
            if limit is not None and count >= limit:
                return
            count += 1
            yield Frame(entry["raw"].encode(), entry["kind"] == "http")
