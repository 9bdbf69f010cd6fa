"""Real frames of a few books of each venue, as its stand-in plays them, and the oracle that says
what the books then are.

A `BookTape` is the beginning of a recorded book: what starts it (a snapshot of the stream, or a
REST body) and the updates that followed. The oracle reads messages with `json` and `Decimal`
alone and knows nothing of the feeder.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from tests.support.captures import captures
from tests.support.standin.rewriting import FIELDS, Movable

__all__ = [
    "TAPES",
    "BookTape",
    "Message",
    "Sides",
    "Tape",
    "Truth",
    "load",
    "read_book",
    "snapshot",
]

Sides = tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]


class Message(NamedTuple):
    """What a book message says: rows are price and quantity, 0 deletes."""

    snapshot: bool
    bids: list[tuple[Decimal, Decimal]]
    asks: list[tuple[Decimal, Decimal]]


@dataclass(frozen=True)
class BookTape:
    """One recorded book. `start` is its stream's snapshot, `body` its REST order book; a venue
    has one, both, or neither.
    """

    symbol: str
    updates: tuple[Movable, ...]
    start: Movable | None = None
    body: Movable | None = None
    covered: int = 0
    """So many of the first updates are part of `body` already."""


@dataclass(frozen=True)
class Tape:
    """What the stand-in of a venue has: its first book is the one that faults strike."""

    venue: str
    books: dict[str, BookTape]
    depth: int = 0
    """Levels a side that the venue keeps; 0 = all."""
    channels: tuple[str, ...] = field(default=())
    url: str = ""
    """Endpoint of the recording's connection, where it says whose symbols the frames name."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Qualified symbols."""
        return tuple(self.books)

    @property
    def time_ns(self) -> int:
        """When the last of its books begins."""
        return max(book.updates[0].time_ns for book in self.books.values())


class _Source(NamedTuple):
    files: tuple[str, ...]
    books: tuple[str, ...]
    channel: str
    count: int = 40
    depth: int = 0
    market: str = ""
    url: str = ""


_SOURCES: dict[str, _Source] = {
    "binance": _Source(
        ("binance/cf_20210814_spot.jsonl",), ("FTMUSDT", "BADGERBTC"), "depth@100ms"
    ),
    "binance_futures": _Source(
        ("binance_futures/cf_20210722_usdm.jsonl",), ("SUSHIUSDT", "CTKUSDT"), "depth@100ms"
    ),
    "binance_coinm": _Source(
        ("long/binance_coinm_btcusd_perp_20240808.jsonl.gz",), ("BTCUSD_PERP",), "depth@0ms"
    ),
    "bithumb": _Source(("bithumb/examples.jsonl",), ("KRW-ETH", "KRW-BTC"), "orderbook"),
    "bybit": _Source(
        ("bybit/cf_20260809_v5_linear_spot.p1.jsonl",),
        ("BTCUSDT", "ETHUSDT"),
        "orderbook.200",
        url="/linear",
    ),
    "coinbase": _Source(
        ("coinbase/cf_20260809_advanced_trade.p1.jsonl",), ("ETH-USD",), "level2", 12
    ),
    "coinbase_exchange": _Source(
        ("coinbase/cf_20210417_exchange_ws_feed.p1.jsonl",), ("SKL-USD", "SKL-BTC"), "level2_batch"
    ),
    "deribit": _Source(
        ("deribit/cf_20210405_options.jsonl",),
        ("ETH-9APR21-1950-C", "ETH-30APR21-2240-P"),
        "book.100ms",
    ),
    "kraken": _Source(
        (
            "kraken/crossbook_20260802_v2_btcusd_d25.jsonl",
            "kraken/crossbook_20260802_v2_ethusd_d25.jsonl",
        ),
        ("BTC/USD", "ETH/USD"),
        "book",
        depth=25,
    ),
    "okx": _Source(
        ("okx/fastmm_20260926_btc_usdt_swap.p1.jsonl", "okx/cf_20220513_v5_books.jsonl"),
        ("BTC-USDT-SWAP", "BTC-USDT"),
        "books",
    ),
    "upbit": _Source(("upbit/cf_20210405_simple.jsonl",), ("KRW-ADA", "KRW-STX"), "orderbook"),
}
"""The recordings that are played. OKX's second is of 2022, without sequence ids: today's rule
takes its updates as they come.
"""
TAPES = tuple(_SOURCES)


@cache
def load(venue: str) -> Tape:
    """Return the tape of a venue; skip the calling test where recordings are absent."""
    source = _SOURCES[venue]
    starts: dict[str, Movable] = {}
    bodies: dict[str, Movable] = {}
    updates: dict[str, list[Movable]] = {symbol: [] for symbol in source.books}
    for line in _lines(source):
        if line["kind"] == "http":
            symbol = _body_of(line, source)
            if symbol is not None:
                bodies.setdefault(symbol, Movable(venue, line["raw"].encode()))
        elif line["kind"] == "recv" and source.url in (line["url"] or ""):
            raw: bytes = line["raw"].encode()
            named = book_symbol(venue, raw)
            if named not in updates or (
                starts_stream(venue) and len(updates[named]) >= source.count
            ):
                continue
            if starts_stream(venue) and _BOOKS[venue](_parsed(raw)).snapshot:
                starts.setdefault(named, Movable(venue, raw))
            else:
                updates[named].append(Movable(venue, raw))
        if all(len(found) >= source.count for found in updates.values()) and (
            starts_stream(venue) or len(bodies) >= len(updates)
        ):
            break
    if venue == "okx":
        bodies = {symbol: Movable(venue, _okx_body(start.raw)) for symbol, start in starts.items()}
    books = {}
    for symbol in source.books:
        body = bodies.get(symbol)
        covered = 0 if body is None else _covered(venue, body.raw, updates[symbol])
        found = updates[symbol][max(0, covered - 3) :]
        covered = min(covered, 3)
        books[symbol] = BookTape(
            symbol, tuple(found[: source.count]), starts.get(symbol), body, covered
        )
    return Tape(venue, books, source.depth, (source.channel,), source.url)


def starts_stream(venue: str) -> bool:
    """Return whether a book of this venue begins with a snapshot in its stream."""
    return venue in ("bybit", "coinbase", "coinbase_exchange", "deribit", "kraken", "okx")


def read_book(venue: str, raw: bytes) -> Message:
    """Return what a book message or REST order book of a venue says."""
    return _BOOKS[venue](_parsed(raw))


def snapshot(venue: str, start: bytes, last: bytes, sides: Sides) -> bytes:
    """Return a stream's snapshot of a book as it stands after an update, in the form of the
    recorded one; levels are recorded.
    """
    message, update = _parsed(start), _parsed(last)
    bids, asks = sorted(sides[0].items(), reverse=True), sorted(sides[1].items())
    if venue == "okx":
        data = message["data"][0]
        data["bids"], data["asks"] = (
            [[str(p), str(q), "0", "1"] for p, q in side] for side in (bids, asks)
        )
        data["seqId"] = update["data"][0]["seqId"]
    elif venue == "bybit":
        data = message["data"]
        data["b"], data["a"] = ([[str(p), str(q)] for p, q in side] for side in (bids, asks))
        data["u"] = update["data"]["u"]
    elif venue == "deribit":
        data = message["params"]["data"]
        data["bids"], data["asks"] = ([["new", p, q] for p, q in side] for side in (bids, asks))
        data["change_id"] = update["params"]["data"]["change_id"]
    elif venue == "coinbase_exchange":
        message["bids"], message["asks"] = (
            [[str(p), str(q)] for p, q in side] for side in (bids, asks)
        )
    else:
        raise AssertionError(f"no snapshot of {venue} in the middle of a tape")
    return json.dumps(message, separators=(",", ":"), default=float).encode()


class Truth:
    """What a venue's own book is while its tape plays."""

    def __init__(self, tape: Tape, book: BookTape) -> None:
        self._tape = tape
        self._book = book
        self.sides: Sides = ({}, {})
        self.position = -1
        """Of the last update that the book has."""
        self._left_out: int | None = None
        self.begin()

    def begin(self) -> None:
        """Go back to the beginning."""
        self.position = -1
        first = self._book.start or self._book.body
        for side in self.sides:
            side.clear()
        if first is not None:
            self._take(read_book(self._tape.venue, first.raw))

    def advance(self, position: int) -> None:
        """Let every update up to this one happen."""
        while self.position < position:
            self.position += 1
            if self.position >= self._book.covered and self.position != self._left_out:
                self._take(read_book(self._tape.venue, self._book.updates[self.position].raw))

    def leave_out(self, position: int) -> None:
        """Let one update never happen: what a book is that lost it."""
        self._left_out = position

    def end(self) -> Sides:
        """Return the book after the whole tape."""
        self.advance(len(self._book.updates) - 1)
        return self.sides

    def _take(self, message: Message) -> None:
        for side, rows in zip(self.sides, (message.bids, message.asks), strict=True):
            if message.snapshot:
                side.clear()
            for price, quantity in rows:
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)
        if self._tape.depth:
            for number, side in enumerate(self.sides):
                for price in sorted(side, reverse=number == 0)[self._tape.depth :]:
                    del side[price]


def book_symbol(venue: str, raw: bytes) -> str | None:
    """Return whose book a frame is of; None for every other message."""
    try:
        body = _parsed(raw)
        return _SYMBOLS[venue](body)
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _lines(source: _Source) -> Iterator[dict[str, Any]]:
    for name in source.files:
        path = captures() / name
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as file:
            for text in file:
                yield json.loads(text)


def _body_of(line: dict[str, Any], source: _Source) -> str | None:
    if '"lastUpdateId"' not in line["raw"][:200]:
        return None
    return next(
        (s for s in source.books if line["url"] is None or f"symbol={s}&" in f"{line['url']}&"),
        None,
    )


def _okx_body(snapshot: bytes) -> bytes:
    """Return a recorded snapshot in the documented layout of `GET /api/v5/market/books`."""
    (data,) = json.loads(snapshot)["data"]
    row = {key: data[key] for key in ("asks", "bids", "ts", "seqId") if key in data}
    return json.dumps({"code": "0", "msg": "", "data": [row]}, separators=(",", ":")).encode()


def _covered(venue: str, body: bytes, updates: list[Movable]) -> int:
    if venue == "okx":
        return 0
    known = int(_parsed(body)["lastUpdateId"])
    count = 0
    for update in updates:
        data = _parsed(update.raw)["data"]
        if (data["u"] <= known) if venue == "binance" else (data["u"] < known):
            count += 1
    return count


def _parsed(raw: bytes) -> Any:
    return json.loads(raw, parse_float=Decimal)


def _pairs(rows: Any) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(row[0]), Decimal(row[1])) for row in rows]


def _binance(body: Any) -> Message:
    if "lastUpdateId" in body:
        return Message(True, _pairs(body["bids"]), _pairs(body["asks"]))
    data = body["data"]
    return Message(False, _pairs(data["b"]), _pairs(data["a"]))


def _bybit(body: Any) -> Message:
    return Message(body["type"] == "snapshot", _pairs(body["data"]["b"]), _pairs(body["data"]["a"]))


def _okx(body: Any) -> Message:
    (data,) = body["data"]
    return Message(
        body.get("action", "snapshot") == "snapshot", _pairs(data["bids"]), _pairs(data["asks"])
    )


def _deribit(body: Any) -> Message:
    data = body["params"]["data"]
    sides = (
        [
            (Decimal(price), Decimal(0 if action == "delete" else amount))
            for action, price, amount in data[side]
        ]
        for side in ("bids", "asks")
    )
    return Message(data["type"] == "snapshot", *sides)


def _kraken(body: Any) -> Message:
    (data,) = body["data"]
    sides = (
        [(Decimal(row["price"]), Decimal(row["qty"])) for row in data[side]]
        for side in ("bids", "asks")
    )
    return Message(body["type"] == "snapshot", *sides)


def _coinbase(body: Any) -> Message:
    (event,) = body["events"]
    sides = (
        [
            (Decimal(row["price_level"]), Decimal(row["new_quantity"]))
            for row in event["updates"]
            if row["side"] == side
        ]
        for side in ("bid", "offer")
    )
    return Message(event["type"] == "snapshot", *sides)


def _exchange(body: Any) -> Message:
    if body["type"] == "snapshot":
        return Message(True, _pairs(body["bids"]), _pairs(body["asks"]))
    sides = (
        [(Decimal(row[1]), Decimal(row[2])) for row in body["changes"] if row[0] == side]
        for side in ("buy", "sell")
    )
    return Message(False, *sides)


def _units(body: Any) -> Message:
    units = body["obu"] if "obu" in body else body["orderbook_units"]
    names = (
        ("bp", "bs", "ap", "as")
        if "obu" in body
        else ("bid_price", "bid_size", "ask_price", "ask_size")
    )
    rows = [[Decimal(unit[name]) for name in names] for unit in units]
    return Message(
        True,
        [(bp, bs) for bp, bs, _, _ in rows if bp],
        [(ap, size) for _, _, ap, size in rows if ap],
    )


_BOOKS: dict[str, Callable[[Any], Message]] = {
    "binance": _binance,
    "binance_futures": _binance,
    "binance_coinm": _binance,
    "bithumb": _units,
    "bybit": _bybit,
    "coinbase": _coinbase,
    "coinbase_exchange": _exchange,
    "deribit": _deribit,
    "kraken": _kraken,
    "okx": _okx,
    "upbit": _units,
}
_SYMBOLS: dict[str, Callable[[Any], str | None]] = {
    "binance": lambda body: body["data"]["s"] if body["data"]["e"] == "depthUpdate" else None,
    "binance_futures": lambda body: (
        body["data"]["s"] if body["data"]["e"] == "depthUpdate" else None
    ),
    "binance_coinm": lambda body: body["data"]["s"] if body["data"]["e"] == "depthUpdate" else None,
    "bithumb": lambda body: body["code"] if body["type"] == "orderbook" else None,
    "bybit": lambda body: body["data"]["s"] if body["topic"].startswith("orderbook.") else None,
    "coinbase": lambda body: (
        body["events"][0]["product_id"] if body["channel"] == "l2_data" else None
    ),
    "coinbase_exchange": lambda body: (
        body["product_id"] if body["type"] in ("snapshot", "l2update") else None
    ),
    "deribit": lambda body: (
        body["params"]["data"]["instrument_name"]
        if body["params"]["channel"].startswith("book.")
        else None
    ),
    "kraken": lambda body: (
        body["data"][0]["symbol"] if body["channel"] == "book" and body["data"] else None
    ),
    "okx": lambda body: (
        body["arg"]["instId"] if body["arg"]["channel"] == "books" and "data" in body else None
    ),
    "upbit": lambda body: body["cd"] if body["ty"] == "orderbook" else None,
}
assert set(_BOOKS) == set(_SYMBOLS) == set(FIELDS)
