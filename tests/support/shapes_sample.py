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

__all__ = ["EXAMPLES", "VENUES", "Frame", "frames"]

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
    beside_lacks=("stream", ("@depth5", "@depth10", "@depth20")),
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
UPBIT_SHORT = _upbit(("ty", "cd", "tms", "lv", "st", "ttms", "tp", "tv", "sid", "ab"), PairRows("obu", "bp", "bs", "ap", "as"))

VENUES: dict[str, tuple[Shape, ...]] = {
    "binance": (BINANCE_DEPTH, BINANCE_TICKER, BINANCE_TRADE, BINANCE_AGGREGATE, BINANCE_REST),
    "binance_futures": (FUTURES_DEPTH, FUTURES_TICKER, FUTURES_TRADE, BINANCE_AGGREGATE, FUTURES_REST),
    "okx": (OKX_BOOKS, OKX_BBO, OKX_TRADES),
    "upbit": (*UPBIT_LONG, *UPBIT_SHORT),
}

EXAMPLES: dict[str, tuple[bytes, ...]] = {
    # Binance spot streams of 12 October 2021 and 8 August 2024 (NKNUSDT, BTCUSDT), layouts of web-socket-streams.md.
    "binance": (
        b'{"stream":"nknusdt@depth@100ms","data":{"e":"depthUpdate","E":1633998512068,"s":"NKNUSDT","U":499869750,'
        b'"u":499869752,"b":[["0.35130000","6195.00000000"],["0.34750000","5548.00000000"]],"a":[["0.35260000","0.00000000"]]}}',
        b'{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}',
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,'
        b'"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}',
        b'{"lastUpdateId":499869752,"bids":[["0.35210000","672.00000000"],["0.35200000","1144.00000000"]],"asks":[]}',
    ),
    # Binance USD-M streams of 8 August 2024 (BTCUSDT), layouts of the derivatives documentation.
    "binance_futures": (
        b'{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT",'
        b'"U":5123107832006,"u":5123107837557,"pu":5123107831937,"b":[["58710.20","0.014"],["61510.90","0.000"]],"a":[]}}',
        b'{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30","A":"2.510",'
        b'"T":1723161256313,"E":1723161256313}',
        b'{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":5266583935,"p":"61800.30","q":"0.006",'
        b'"X":"MARKET","m":false}',
    ),
    # OKX v5 public channels of 26 September 2026 (BTC-USDT-SWAP).
    "okx": (
        b'{"arg":{"channel":"books","instId":"BTC-USDT-SWAP"},"action":"update","data":[{"asks":[["84093.5","667.28","0","71"],'
        b'["84116.5","0.01","0","1"]],"bids":[["84093.4","570.26","0","83"],["84076.4","0","0","0"]],"ts":"1790439595000",'
        b'"checksum":0,"seqId":342177337200,"prevSeqId":342177336945}]}',
        b'{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT-SWAP"},"data":[{"asks":[["84093.5","667.19","0","70"]],'
        b'"bids":[["84093.4","570.27","0","83"]],"ts":"1790439594900","seqId":342177336945}]}',
        b'{"arg":{"channel":"trades","instId":"BTC-USDT-SWAP"},"data":[{"instId":"BTC-USDT-SWAP","tradeId":"2953620209",'
        b'"px":"84093.4","sz":"0.01","side":"sell","ts":"1790439594782","count":"1","source":"0","seqId":342177336862}]}',
    ),
    # Upbit DEFAULT and SIMPLE formats of September 2026 (KRW-BTC).
    "upbit": (
        b'{"type":"orderbook","code":"KRW-BTC","timestamp":1790134743006,"total_ask_size":1.83604250,'
        b'"total_bid_size":1.62306717,"orderbook_units":[{"ask_price":1.16539E8,"bid_price":1.16538E8,"ask_size":0.02054761,'
        b'"bid_size":0.06612366},{"ask_price":1.16542E8,"bid_price":1.16537E8,"ask_size":0.00077720,"bid_size":0.01129382}],'
        b'"stream_type":"REALTIME","level":0}',
        b'{"ty":"orderbook","cd":"KRW-BTC","tms":1790134773006,"tas":0.48514983,"tbs":2.2403413,"obu":[{"ap":116606000,'
        b'"bp":116534000,"as":0.06288509,"bs":7.9276E-4},{"ap":116609000,"bp":116521000,"as":5.0E-4,"bs":0.01624318}],'
        b'"st":"SNAPSHOT","lv":0}',
        b'{"type":"trade","code":"KRW-BTC","timestamp":1785395043831,"trade_timestamp":1785395043779,"trade_price":91361000.0,'
        b'"trade_volume":0.01275549,"ask_bid":"ASK","sequential_id":17853950437790001,"stream_type":"REALTIME"}',
    ),
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
