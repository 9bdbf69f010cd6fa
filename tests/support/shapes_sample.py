"""Shapes of several venues for the extractor's own tests, and the frames of their recordings.

Layouts follow the venues' documentation; the venue modules declare their own. Exponents are
found from the data, as the first frame of an instrument would set them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tapecast.feeder.extract.shapes import (
    BestLevels,
    BidAskRows,
    BookShape,
    ConditionField,
    Elements,
    FlagField,
    IdKind,
    LevelFields,
    Match,
    Numbers,
    ObjectRows,
    PairRows,
    QuoteShape,
    Rows,
    ScalarLevel,
    Shape,
    SidedRows,
    SideField,
    SilentShape,
    SnapshotField,
    StatField,
    StatShape,
    TimeUnit,
    TradeId,
    TradeShape,
)
from tapecast.protocol.schema import Side, StatKind, TradeFlag

__all__ = ["EXAMPLES", "VENUES", "Frame", "frames"]

_TAKER = {True: Side.SELL, False: Side.BUY}

BINANCE_DEPTH = BookShape(
    name="depthUpdate",
    match=Match(where={"e": ("depthUpdate",)}, absent=("pu",), envelope="data"),
    numbers=Numbers.QUOTED,
    symbol="s",
    ts="E",
    ts_unit=TimeUnit.AUTO,
    levels=BidAskRows(bids=Rows("b"), asks=Rows("a")),
    first_id="U",
    last_id="u",
)
BINANCE_TICKER = QuoteShape(
    name="bookTicker",
    match=Match(absent=("e",), envelope="data"),
    numbers=Numbers.QUOTED,
    symbol="s",
    levels=BestLevels(bid=ScalarLevel("b", "B"), ask=ScalarLevel("a", "A")),
    last_id="u",
)
BINANCE_TRADE = TradeShape(
    name="trade",
    match=Match(where={"e": ("trade",)}, absent=("X",), envelope="data"),
    numbers=Numbers.QUOTED,
    symbol="s",
    ts="T",
    ts_unit=TimeUnit.AUTO,
    price="p",
    quantity="q",
    trade_id=TradeId("t"),
    side=SideField("m", _TAKER),
)
BINANCE_AGGREGATE = TradeShape(
    name="aggTrade",
    match=Match(where={"e": ("aggTrade",)}, envelope="data"),
    numbers=Numbers.QUOTED,
    symbol="s",
    ts="T",
    ts_unit=TimeUnit.AUTO,
    price="p",
    quantity="q",
    trade_id=TradeId("a"),
    side=SideField("m", _TAKER),
)
BINANCE_REST = BookShape(
    name="depth snapshot",
    numbers=Numbers.QUOTED,
    levels=BidAskRows(bids=Rows("bids"), asks=Rows("asks")),
    snapshot=True,
    last_id="lastUpdateId",
)
FUTURES_DEPTH = BookShape(
    name="depthUpdate",
    match=Match(
        where={"e": ("depthUpdate",)},
        envelope="data",
        beside_lacks=("stream", ("@depth5", "@depth10", "@depth20")),
    ),
    numbers=Numbers.QUOTED,
    symbol="s",
    ts="T",
    levels=BidAskRows(bids=Rows("b"), asks=Rows("a")),
    first_id="U",
    last_id="u",
    prev_id="pu",
)
FUTURES_TICKER = QuoteShape(
    name="bookTicker",
    match=Match(where={"e": ("bookTicker",)}, envelope="data"),
    numbers=Numbers.QUOTED,
    symbol="s",
    ts="T",
    levels=BestLevels(bid=ScalarLevel("b", "B"), ask=ScalarLevel("a", "A")),
    last_id="u",
)
FUTURES_TRADE = TradeShape(
    name="trade",
    match=Match(where={"e": ("trade",)}, envelope="data"),
    numbers=Numbers.QUOTED,
    symbol="s",
    ts="T",
    price="p",
    quantity="q",
    trade_id=TradeId("t"),
    side=SideField("m", _TAKER),
    flags=(FlagField("X", {"MARKET": 0, "INSURANCE_FUND": 8, "ADL": 8}),),
)
FUTURES_REST = BookShape(
    name="depth snapshot",
    match=Match(optional=("T",)),
    numbers=Numbers.QUOTED,
    ts="T",
    levels=BidAskRows(bids=Rows("bids"), asks=Rows("asks")),
    snapshot=True,
    last_id="lastUpdateId",
)
_OKX_SIDES = {"buy": Side.BUY, "sell": Side.SELL}
OKX_BOOKS = BookShape(
    name="books",
    match=Match(
        where={"arg.channel": ("books", "books-l2-tbt", "books50-l2-tbt")},
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
)
OKX_BBO = QuoteShape(
    name="bbo-tbt",
    match=Match(where={"arg.channel": ("bbo-tbt",)}, optional=("data[].seqId",)),
    numbers=Numbers.QUOTED,
    symbol="arg.instId",
    ts="data[].ts",
    levels=BidAskRows(bids=Rows("data[].bids"), asks=Rows("data[].asks")),
    last_id="data[].seqId",
)
OKX_TRADES = TradeShape(
    name="trades",
    match=Match(where={"arg.channel": ("trades",)}),
    numbers=Numbers.QUOTED,
    symbol="arg.instId",
    each=Elements("data[]"),
    ts="ts",
    price="px",
    quantity="sz",
    trade_id=TradeId("tradeId"),
    side=SideField("side", _OKX_SIDES),
)
_UPBIT_SIDES = {"ASK": Side.SELL, "BID": Side.BUY}


def _upbit(names: tuple[str, ...], units: PairRows) -> tuple[Shape, ...]:
    kind, code, pushed, level, stream, executed, price, volume, number, side = names
    trade = TradeShape(
        name=f"{kind} trade",
        match=Match(where={kind: ("trade",), stream: ("REALTIME",)}),
        numbers=Numbers.BARE,
        symbol=code,
        ts=executed,
        price=price,
        quantity=volume,
        trade_id=TradeId(number),
        side=SideField(side, _UPBIT_SIDES),
    )
    book = BookShape(
        name=f"{kind} orderbook",
        match=Match(where={kind: ("orderbook",)}, zero=(level,)),
        numbers=Numbers.BARE,
        symbol=code,
        ts=pushed,
        ts_unit=TimeUnit.AUTO,
        levels=units,
        snapshot=True,
        top_only=True,
    )
    old = SilentShape(
        name=f"{kind} old trade",
        match=Match(where={kind: ("trade",), stream: ("SNAPSHOT",)}),
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
    ("ty", "cd", "tms", "lv", "st", "ttms", "tp", "tv", "sid", "ab"),
    PairRows("obu", "bp", "bs", "ap", "as"),
)

_BYBIT_SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
BYBIT_TOP = QuoteShape(
    name="orderbook.1",
    match=Match(where={"topic": ("orderbook.1.*",), "type": ("snapshot",)}, optional=("cts",)),
    numbers=Numbers.QUOTED,
    symbol="data.s",
    ts="cts",
    levels=BidAskRows(bids=Rows("data.b"), asks=Rows("data.a")),
    last_id="data.u",
)
BYBIT_BOOK = BookShape(
    name="orderbook",
    match=Match(where={"topic": ("orderbook.*",)}, optional=("cts",)),
    numbers=Numbers.QUOTED,
    symbol="data.s",
    ts="cts",
    levels=BidAskRows(bids=Rows("data.b"), asks=Rows("data.a")),
    snapshot=SnapshotField("type", "snapshot", "delta"),
    last_id="data.u",
)
BYBIT_TRADES = TradeShape(
    name="publicTrade",
    match=Match(where={"topic": ("publicTrade.*",)}),
    numbers=Numbers.QUOTED,
    each=Elements("data[]", symbol="s"),
    ts="T",
    price="p",
    quantity="v",
    trade_id=TradeId("i", IdKind.EITHER),
    side=SideField("S", _BYBIT_SIDES),
    flags=(
        FlagField("BT", {True: int(TradeFlag.BLOCK), False: 0}),
        FlagField("RPI", {True: int(TradeFlag.OFF_BOOK), False: 0}),
    ),
)
BYBIT_TICKERS = StatShape(
    name="tickers",
    match=Match(where={"topic": ("tickers.*",)}),
    numbers=Numbers.QUOTED,
    symbol="data.symbol",
    ts="ts",
    stats=(
        StatField(StatKind.MARK_PRICE, "data.markPrice"),
        StatField(StatKind.INDEX_PRICE, "data.indexPrice"),
        StatField(StatKind.FUNDING_RATE, "data.fundingRate", due="data.nextFundingTime"),
        StatField(StatKind.OPEN_INTEREST, "data.openInterest"),
    ),
)
DERIBIT_BOOK = BookShape(
    name="book",
    match=Match(where={"params.channel": ("book.*",)}, optional=("params.data.prev_change_id",)),
    numbers=Numbers.BARE,
    symbol="params.data.instrument_name",
    ts="params.data.timestamp",
    levels=BidAskRows(bids=Rows("params.data.bids", 1, 2), asks=Rows("params.data.asks", 1, 2)),
    snapshot=SnapshotField("params.data.type", "snapshot", "change"),
    last_id="params.data.change_id",
    prev_id="params.data.prev_change_id",
)
DERIBIT_TICKER = StatShape(
    name="ticker",
    match=Match(where={"params.channel": ("ticker.*",)}),
    numbers=Numbers.BARE,
    symbol="params.data.instrument_name",
    ts="params.data.timestamp",
    stats=(
        StatField(StatKind.MARK_PRICE, "params.data.mark_price"),
        StatField(StatKind.FUNDING_RATE, "params.data.current_funding", ts="params.data.timestamp"),
        StatField(StatKind.OPEN_INTEREST, "params.data.open_interest"),
    ),
)
DERIBIT_TRADES = TradeShape(
    name="trades",
    match=Match(where={"params.channel": ("trades.*",)}),
    numbers=Numbers.BARE,
    each=Elements("params.data[]", symbol="instrument_name"),
    ts="timestamp",
    price="price",
    quantity="amount",
    trade_id=TradeId("trade_id", IdKind.EITHER),
    side=SideField("direction", _OKX_SIDES),
    flags=(FlagField("block_trade_id", {"*": int(TradeFlag.BLOCK)}),),
)
COINBASE_LEVELS = BookShape(
    name="l2_data",
    match=Match(where={"channel": ("l2_data",)}),
    numbers=Numbers.QUOTED,
    symbol="events[].product_id",
    ts_unit=TimeUnit.ISO,
    levels=SidedRows(
        "events[].updates",
        "side",
        "price_level",
        "new_quantity",
        {"bid": Side.BUY, "offer": Side.SELL},
        ts="event_time",
    ),
    snapshot=SnapshotField("events[].type", "snapshot", "update"),
    last_id="sequence_num",
)
COINBASE_TRADES = TradeShape(
    name="market_trades",
    match=Match(where={"channel": ("market_trades",), "events[].type": ("update",)}),
    numbers=Numbers.QUOTED,
    each=Elements("events[].trades[]", symbol="product_id"),
    ts="time",
    ts_unit=TimeUnit.ISO,
    price="price",
    quantity="size",
    trade_id=TradeId("trade_id", IdKind.TEXT),
    side=SideField("side", {"BUY": Side.SELL, "SELL": Side.BUY}),
)
COINBASE_EXCHANGE = BookShape(
    name="l2update",
    match=Match(where={"type": ("l2update",)}),
    numbers=Numbers.QUOTED,
    symbol="product_id",
    ts="time",
    ts_unit=TimeUnit.ISO,
    levels=SidedRows("changes", 0, 1, 2, _OKX_SIDES),
)
KRAKEN_BOOK = BookShape(
    name="book",
    match=Match(where={"channel": ("book",)}, optional=("data[].timestamp", "data[].checksum")),
    numbers=Numbers.BARE,
    symbol="data[].symbol",
    ts="data[].timestamp",
    ts_unit=TimeUnit.ISO,
    levels=BidAskRows(
        bids=ObjectRows("data[].bids", "price", "qty"),
        asks=ObjectRows("data[].asks", "price", "qty"),
    ),
    snapshot=SnapshotField("type", "snapshot", "update"),
    checksum="data[].checksum",
)

LS_BOOK = BookShape(
    name="H1_",
    match=Match(where={"header.tr_cd": ("H1_",)}),
    numbers=Numbers.QUOTED,
    symbol="header.tr_key",
    ts="body.hotime",
    ts_unit=TimeUnit.KST,
    levels=LevelFields(
        bids=tuple(ScalarLevel(f"body.bidho{n}", f"body.bidrem{n}") for n in (1, 2, 3)),
        asks=tuple(ScalarLevel(f"body.offerho{n}", f"body.offerrem{n}") for n in (1, 2, 3)),
    ),
    snapshot=True,
)
LS_TRADE = TradeShape(
    name="S3_",
    match=Match(where={"header.tr_cd": ("S3_", "US3")}),
    numbers=Numbers.QUOTED,
    symbol="header.tr_key",
    ts="body.chetime",
    ts_unit=TimeUnit.KST,
    price="body.price",
    quantity="body.cvolume",
    trade_id=TradeId("body.volume"),
    side=SideField("body.cgubun", {"+": Side.BUY, "-": Side.SELL, "": Side.UNKNOWN}),
    condition=ConditionField("body.exchname", {"KRX": 1, "NXT": 2}),
)

VENUES: dict[str, tuple[Shape, ...]] = {
    "binance": (BINANCE_DEPTH, BINANCE_TICKER, BINANCE_TRADE, BINANCE_AGGREGATE, BINANCE_REST),
    "binance_futures": (
        FUTURES_DEPTH,
        FUTURES_TICKER,
        FUTURES_TRADE,
        BINANCE_AGGREGATE,
        FUTURES_REST,
    ),
    "okx": (OKX_BOOKS, OKX_BBO, OKX_TRADES),
    "upbit": (*UPBIT_LONG, *UPBIT_SHORT),
    "bybit": (BYBIT_TOP, BYBIT_BOOK, BYBIT_TRADES, BYBIT_TICKERS),
    "deribit": (DERIBIT_BOOK, DERIBIT_TICKER, DERIBIT_TRADES),
    "coinbase": (COINBASE_LEVELS, COINBASE_TRADES, COINBASE_EXCHANGE),
    "kraken": (KRAKEN_BOOK,),
    "ls": (LS_BOOK, LS_TRADE),
}

EXAMPLES: dict[str, tuple[bytes, ...]] = {
    # Binance spot streams of 12 October 2021 and 8 August 2024 (NKNUSDT, BTCUSDT), layouts of
    # web-socket-streams.md.
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
    # Bybit v5 of April 2023 and December 2024 (LTCUSDT, XRPUSDT, BTCUSD), layouts of
    # bybit-exchange/docs; a spot trade beside.
    "bybit": (
        b'{"topic":"publicTrade.LTCUSDT","type":"snapshot","ts":1680688979985,"data":[{"T":1680688979983,"s":"LTCUSDT",'
        b'"S":"Buy","v":"0.4","p":"94.53","L":"ZeroMinusTick","i":"4c7b6bdc-b4a3-5716-9c7b-bbe01dc7072f","BT":false},'
        b'{"T":1680688979984,"s":"LTCUSDT","S":"Sell","v":"0.1","p":"94.52","i":"2290000000061666327","BT":true}]}',
        b'{"topic":"orderbook.50.XRPUSDT","type":"delta","ts":1733011200693,"data":{"s":"XRPUSDT","b":[["1.9531","6198"],'
        b'["1.9529","2080"]],"a":[["1.9535","0"]],"u":7003306,"seq":50193543147},"cts":1733011200690}',
        b'{"topic":"orderbook.1.LTCUSDT","type":"snapshot","ts":1749833474773,"data":{"s":"LTCUSDT","b":[["94.61","17.9"]],'
        b'"a":[["94.63","35.4"]],"u":24042997,"seq":209972815373},"cts":1749833474768}',
        b'{"topic":"tickers.BTCUSD","type":"delta","data":{"symbol":"BTCUSD","price24hPcnt":"0.023362","openInterest":'
        b'"449736674","fundingRate":"-0.0001","nextFundingTime":"1680681600000","bid1Price":"28560.00"},"cs":20856433603,'
        b'"ts":1680673822776}',
    ),
    # Deribit subscriptions of September 2026 (ALGO_USDC-PERPETUAL, BTC_USDC-PERPETUAL) and a
    # trade of March 2021.
    "deribit": (
        b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.ALGO_USDC-PERPETUAL.100ms","data":{"timestamp":'
        b'1790133842703,"type":"change","change_id":193809634213,"instrument_name":"ALGO_USDC-PERPETUAL","bids":[["new",0.11374,'
        b'1054.0],["delete",0.11344,0.0]],"asks":[["new",0.11396,1054.0]],"prev_change_id":193809631160}}}',
        b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.BTC_USDC-PERPETUAL.100ms","data":{"timestamp":'
        b'1790133840887,"state":"open","index_price":86744.11,"instrument_name":"BTC_USDC-PERPETUAL","open_interest":459.3409,'
        b'"mark_price":86778.14,"interest_value":272719551.2863254,"current_funding":1.423e-4}}}',
        b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"trades.BTC-26MAR21.raw","data":[{"trade_seq":5326971,'
        b'"trade_id":"ETH-137486952","timestamp":1616321287195,"tick_direction":0,"price":56273.5,"mark_price":56243.86,'
        b'"instrument_name":"BTC-26MAR21","index_price":56127.59,"direction":"buy","amount":6000.0}]}}',
    ),
    # Coinbase Advanced Trade of September 2026 (ETH-USD) and Exchange of June 2021 (BTC-USD).
    "coinbase": (
        b'{"channel":"market_trades","client_id":"","timestamp":"2026-09-30T01:41:27.834Z","sequence_num":5,"events":[{"type":'
        b'"update","trades":[{"product_id":"ETH-USD","trade_id":"846149798","price":"2668.35","size":"0.03710506","time":'
        b'"2026-09-30T01:41:25.375232Z","side":"SELL"},{"product_id":"ETH-USD","trade_id":"846149799","price":"2668.36",'
        b'"size":"1","time":"2026-09-30T01:41:25.375232Z","side":"BUY"}]}]}',
        b'{"channel":"l2_data","client_id":"","timestamp":"2026-09-30T01:41:27.834714965Z","sequence_num":6,"events":[{"type":'
        b'"update","product_id":"ETH-USD","updates":[{"side":"offer","event_time":"1970-01-01T00:00:00Z","price_level":"2668.36",'
        b'"new_quantity":"0"},{"side":"bid","event_time":"1970-01-01T00:00:00Z","price_level":"2668.35","new_quantity":"0.5"}]}]}',
        b'{"type":"l2update","product_id":"BTC-USD","changes":[["sell","37378.26","0.02460000"],["buy","37378.25","0"]],'
        b'"time":"2021-06-02T09:02:09.048568Z"}',
    ),
    # Kraken v2 of August 2026 (ETH/USD).
    "kraken": (
        b'{"channel":"book","type":"update","data":[{"symbol":"ETH/USD","bids":[{"price":1877.29,"qty":2.41130000}],"asks":'
        b'[{"price":1877.61,"qty":0.00000000},{"price":1878.15,"qty":25.61585391}],"checksum":3730778136,"timestamp":'
        b'"2026-08-02T04:23:43.217117Z"}]}',
    ),
    # LS Securities: the documentation's own examples of H1_ (three of ten levels) and S3_.
    "ls": (
        b'{"header":{"tr_cd":"H1_","tr_key":"005930"},"body":{"offerrem2":"66102","offerho3":"0","offerrem3":"0","bidrem3":"156534",'
        b'"donsigubun":"3","offerrem1":"32616","bidrem1":"70581","bidrem2":"100447","bidho1":"72300","hotime":"084242",'
        b'"offerho2":"72500","bidho3":"72100","offerho1":"72400","bidho2":"72200","shcode":"005930","volume":"136"}}',
        b'{"header":{"tr_cd":"S3_","tr_key":"005930"},"body":{"cvolume":"1","price":"55550","cgubun":"+","value":"604",'
        b'"shcode":"005930","chetime":"090851","volume":"10887","exchname":"KRX","status":"00"}}',
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
