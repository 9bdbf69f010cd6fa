"""Frames in the venues' documented layouts, and a session with its own publisher to feed them
to.

Layouts are those of Binance `web-socket-streams`, OKX docs-v5 and docs.upbit.com; figures that a
test does not give are those of recorded messages: Binance LRCBTC 2021-10-12, OKX BTC-USDT-SWAP
2026-09-26, Upbit KRW-BTC.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from tapecast.feeder.session.session import Session, SessionOptions
from tapecast.feeder.session.sync import SyncPolicy
from tapecast.feeder.venues import venue
from tapecast.protocol.codec import walk
from tapecast.protocol.publish.lines import MemoryLine
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.render import EventDict, Renderer

__all__ = [
    "Feed",
    "okx_books",
    "okx_trade",
    "spot_body",
    "spot_depth",
    "spot_ticker",
    "spot_trade",
    "upbit_book",
    "upbit_trade",
    "usdm_depth",
]

Levels = Sequence[tuple[str, str]]
TIME_MS = 1_633_998_512_345
"""2021-10-12 00:28:32 UTC."""
RECV_NS = TIME_MS * 1_000_000 + 7


def _dump(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def spot_depth(
    first: int, last: int, bids: Levels = (), asks: Levels = (), *, symbol: str = "LRCBTC"
) -> bytes:
    """Return a Binance spot `depthUpdate` in its envelope."""
    data = {
        "e": "depthUpdate",
        "E": TIME_MS,
        "s": symbol,
        "U": first,
        "u": last,
        "b": bids,
        "a": asks,
    }
    return _dump({"stream": f"{symbol.lower()}@depth@100ms", "data": data})


def spot_trade(
    price: str,
    quantity: str,
    *,
    symbol: str = "LRCBTC",
    number: int = 1,
    maker_bought: bool = False,
) -> bytes:
    """Return a Binance spot `trade`."""
    data = {
        "e": "trade",
        "E": TIME_MS,
        "s": symbol,
        "t": number,
        "p": price,
        "q": quantity,
        "T": TIME_MS,
        "m": maker_bought,
    }
    return _dump({"stream": f"{symbol.lower()}@trade", "data": data | {"M": True}})


def spot_ticker(bid: tuple[str, str], ask: tuple[str, str], *, symbol: str = "LRCBTC") -> bytes:
    """Return a Binance spot `bookTicker`."""
    data = {"u": 1, "s": symbol, "b": bid[0], "B": bid[1], "a": ask[0], "A": ask[1]}
    return _dump({"stream": f"{symbol.lower()}@bookTicker", "data": data})


def spot_body(last: int, bids: Levels, asks: Levels) -> bytes:
    """Return the body of Binance `/api/v3/depth`."""
    return _dump({"lastUpdateId": last, "bids": bids, "asks": asks})


def usdm_depth(
    first: int,
    last: int,
    prev: int,
    bids: Levels = (),
    asks: Levels = (),
    *,
    symbol: str = "BTCUSDT",
) -> bytes:
    """Return a Binance USD-M `depthUpdate`."""
    data = {
        "e": "depthUpdate",
        "E": TIME_MS,
        "T": TIME_MS,
        "s": symbol,
        "U": first,
        "u": last,
        "pu": prev,
        "b": bids,
        "a": asks,
    }
    return _dump({"stream": f"{symbol.lower()}@depth@100ms", "data": data})


def okx_books(
    action: str, last: int, prev: int, bids: Levels = (), asks: Levels = (), *, checksum: int = 0
) -> bytes:
    """Return an OKX `books` message of BTC-USDT-SWAP."""
    rows = ([[price, quantity, "0", "1"] for price, quantity in side] for side in (bids, asks))
    data = dict(zip(("bids", "asks"), rows, strict=True))
    ids = {"ts": str(TIME_MS), "checksum": checksum, "seqId": last, "prevSeqId": prev}
    return _dump(
        {
            "arg": {"channel": "books", "instId": "BTC-USDT-SWAP"},
            "action": action,
            "data": [data | ids],
        }
    )


def okx_trade(price: str, quantity: str, *, ts_ms: int = TIME_MS, number: int = 1) -> bytes:
    """Return an OKX `trades` message of BTC-USDT-SWAP."""
    data = {
        "instId": "BTC-USDT-SWAP",
        "tradeId": str(number),
        "px": price,
        "sz": quantity,
        "side": "buy",
        "ts": str(ts_ms),
    }
    return _dump({"arg": {"channel": "trades", "instId": "BTC-USDT-SWAP"}, "data": [data]})


def upbit_book(
    units: Sequence[tuple[str, str, str, str]], *, symbol: str = "KRW-BTC", ts_ms: int = TIME_MS
) -> bytes:
    """Return an Upbit `orderbook`; units are bid price, bid size, ask price, ask size as they
    are to be written.
    """
    rows = ",".join(
        f'{{"ask_price":{ap},"bid_price":{bp},"ask_size":{a},"bid_size":{b}}}'
        for bp, b, ap, a in units
    )
    head = f'"type":"orderbook","code":"{symbol}","timestamp":{ts_ms},"total_ask_size":1.5,"total_bid_size":2.5'
    return f'{{{head},"orderbook_units":[{rows}],"stream_type":"REALTIME","level":0}}'.encode()


def upbit_trade(price: str, quantity: str, *, symbol: str = "KRW-BTC", number: int = 1) -> bytes:
    """Return an Upbit `trade`; numbers as they are to be written."""
    head = f'"type":"trade","code":"{symbol}","timestamp":{TIME_MS},"trade_timestamp":{TIME_MS}'
    rest = f'"ask_bid":"ASK","sequential_id":{number},"stream_type":"REALTIME"'
    return f'{{{head},"trade_price":{price},"trade_volume":{quantity},{rest}}}'.encode()


class Feed:
    """A session as its shell drives it: frames in, events out; time stands still unless moved by
    `now_ns`.
    """

    def __init__(self, name: str, *symbols: str, **options: Any) -> None:
        spec = venue(name)
        options.setdefault("channel_id", spec.venue_id)
        options.setdefault("sync", SyncPolicy())
        self.session = Session(spec, SessionOptions(**options))
        self.line = MemoryLine()
        self.publisher = Publisher(
            self.line, venue_id=spec.venue_id, channel_id=spec.venue_id, session=1, base_flags=0
        )
        self.renderer = Renderer()
        self.now_ns = 1_000_000_000
        self.session.subscribe(symbols, RECV_NS)
        self.packets = b""
        """Every packet published, contiguous."""
        self.first = self.flush()

    def flush(self) -> list[EventDict]:
        """Publish what is finished and return its events."""
        self.publisher.instruments(len(self.session.instruments))
        out = b""
        while self.session.flush(self.publisher.publish, self.now_ns, RECV_NS):
            out += self.line.take()
        self.packets += out
        return [event for packet in walk(out) for event in self.renderer.feed(packet)]

    def frame(
        self, *frames: bytes, connection: str = "ws.1", ts_recv_ns: int = RECV_NS
    ) -> list[EventDict]:
        """Hand frames to the session as one read of the socket."""
        for data in frames:
            self.session.on_frame(connection, data, ts_recv_ns, self.now_ns)
        return self.flush()

    def body(self, symbol: str, body: bytes) -> list[EventDict]:
        """Hand the body of a REST order book to the session."""
        self.session.on_snapshot(symbol, body, RECV_NS, self.now_ns)
        return self.flush()

    def timer(self, seconds: float = 0.0) -> list[EventDict]:
        """Let time pass and the session's timers act."""
        self.now_ns += int(seconds * 1_000_000_000)
        self.session.on_timer(self.now_ns, RECV_NS)
        return self.flush()

    def spot_live(self, bids: Levels, asks: Levels, *, symbol: str = "LRCBTC") -> list[EventDict]:
        """Make a Binance spot book LIVE at update id 100 with these levels."""
        self.frame(spot_depth(99, 100, symbol=symbol))
        return self.body(symbol, spot_body(100, bids, asks))

    def book(
        self, symbol: str
    ) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """Return the session's own book, best first, exactly."""
        book = self.session.books.book(self.session.by_symbol[symbol].instrument_id)
        assert book is not None
        sides = (
            [
                (Decimal(price).scaleb(book.price_exp), Decimal(quantity).scaleb(book.qty_exp))
                for price, quantity in levels
            ]
            for levels in book.levels()
        )
        bids, asks = sides
        return bids, asks
