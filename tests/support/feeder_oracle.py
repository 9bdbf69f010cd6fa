"""What a recording says, read a second time with `json` and `Decimal` alone: the judge of the
feeder's events.

The rules of a few venues are written here once more, from their documentation, in the simplest way that
can be right: everything is read, then decided. Nothing of the feeder is used. Values are minimal
decimal texts, times ns.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

__all__ = ["ORACLES", "Bbo", "BookMessage", "Story", "Trade", "apply", "first_lines", "tell"]

Sides = tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]


class Trade(NamedTuple):
    """One trade."""

    symbol: str
    price: str
    quantity: str
    side: str
    trade_id: str
    ts_exchange_ns: int
    ts_recv_ns: int | None
    repeated: bool = False


class Bbo(NamedTuple):
    """One best bid and offer; None where a side is empty."""

    symbol: str
    bid: list[str] | None
    ask: list[str] | None
    ts_exchange_ns: int
    ts_recv_ns: int | None


class BookMessage(NamedTuple):
    """One snapshot or update; `first`, `last`, `prev` are the venue's ids where it has them."""

    symbol: str
    snapshot: bool
    bids: list[list[str]]
    asks: list[list[str]]
    ts_exchange_ns: int
    first: int = 0
    last: int = 0
    prev: int = 0
    checksum: int = 0


class Story:
    """Everything that a recording should become, each kind in its order; books by symbol."""

    def __init__(self) -> None:
        self.trades: list[Trade] = []
        self.bbos: list[Bbo] = []
        self.books: dict[str, list[BookMessage]] = {}
        self.applied: dict[str, int] = {}
        """Updates behind the first snapshot, by symbol."""
        self.checksums = 0
        """Books with a checksum that is not 0."""


def first_lines(path: Path, count: int, folder: Path) -> Path:
    """Write the first lines of a long recording to a file of its own and return it."""
    short = folder / path.name.removesuffix(".gz")
    with (
        gzip.open(path, "rt", encoding="utf-8") as source,
        short.open("w", encoding="utf-8") as target,
    ):
        for _, line in zip(range(count), source, strict=False):
            target.write(line)
    return short


def tell(venue: str, path: Path) -> Story:
    """Return what a recording of a venue should become."""
    return ORACLES[venue](path)


def apply(messages: Iterable[BookMessage]) -> Sides:
    """Return the book after these messages, as price to quantity."""
    sides: Sides = ({}, {})
    for message in messages:
        for side, levels in zip(sides, (message.bids, message.asks), strict=True):
            if message.snapshot:
                side.clear()
            for price, quantity in levels:
                if Decimal(quantity):
                    side[Decimal(price)] = Decimal(quantity)
                else:
                    side.pop(Decimal(price), None)
    return sides


@cache
def _text(raw: str) -> str:
    number = Decimal(raw)
    return f"{number.normalize():f}" if number else "0"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line, parse_float=Decimal)


def _body(raw: str) -> Any:
    try:
        return json.loads(
            raw, parse_float=lambda text: _Bare(text), parse_int=lambda text: _Bare(text)
        )
    except ValueError:
        return None


class _Bare(str):
    """A number as the venue wrote it without quotes."""

    __slots__ = ()


def _recv_ns(line: dict[str, Any]) -> int | None:
    if line.get("ts_ns") is not None:
        return int(line["ts_ns"])
    if line.get("ts_us") is not None:
        return int(line["ts_us"]) * 1000
    return None if line["ts"] is None else int(Decimal(line["ts"]) * 10**9)


def _ns(raw: str) -> int:
    return int(raw) * (1_000_000 if len(raw) == 13 else 1000)


def _rows(rows: list[list[str]]) -> list[list[str]]:
    return [[_text(row[0]), _text(row[1])] for row in rows]


def _quote(price: str, quantity: str) -> list[str] | None:
    return [_text(price), _text(quantity)] if Decimal(price) and Decimal(quantity) else None


def _binance(path: Path, *, futures: bool) -> Story:
    story = Story()
    diffs: dict[str, list[BookMessage]] = {}
    snapshots: dict[str, BookMessage] = {}
    anonymous: list[BookMessage] = []
    for line in _lines(path):
        if line["kind"] not in ("recv", "http"):
            continue
        body = _body(line["raw"])
        if line["kind"] == "http":
            if isinstance(body, dict) and "lastUpdateId" in body:
                rows = [
                    [row for row in _rows(body[side]) if row[1] != "0"] for side in ("bids", "asks")
                ]
                book = BookMessage("", True, *rows, 0, last=int(body["lastUpdateId"]))
                named = parse_qs(urlsplit(line["url"] or "").query).get("symbol")
                if named:
                    snapshots.setdefault(named[0], book)
                else:
                    anonymous.append(book)
            continue
        stream = body.get("stream", "")
        data = body.get("data", body)
        event = data.get("e")
        if event in ("trade", "aggTrade"):
            side = "sell" if data["m"] else "buy"
            number = data["a"] if event == "aggTrade" else data["t"]
            values = _text(data["p"]), _text(data["q"]), side, str(number), _ns(data["T"])
            story.trades.append(Trade(data["s"], *values, _recv_ns(line)))
        elif event == "bookTicker" if futures else event is None and "B" in data:
            time = _ns(data["T"]) if futures else 0
            quotes = _quote(data["b"], data["B"]), _quote(data["a"], data["A"])
            story.bbos.append(Bbo(data["s"], *quotes, time, _recv_ns(line)))
        elif event == "depthUpdate" and not any(
            name in stream for name in ("@depth5", "@depth10", "@depth20")
        ):
            ids = int(data["U"]), int(data["u"]), int(data.get("pu", 0))
            time = _ns(data["T"] if futures else data["E"])
            diffs.setdefault(data["s"], []).append(
                BookMessage(data["s"], False, _rows(data["b"]), _rows(data["a"]), time, *ids)
            )
    if anonymous and len(diffs) == 1:
        snapshots.setdefault(next(iter(diffs)), anonymous[0])
    for symbol, snapshot in snapshots.items():
        known = snapshot.last
        kept = [
            diff
            for diff in diffs.get(symbol, ())
            if (diff.last >= known if futures else diff.last > known)
        ]
        for number, diff in enumerate(kept):
            if number == 0 and futures:
                assert diff.first <= known <= diff.last or diff.prev == known, (path, symbol)
            elif futures:
                assert diff.prev == kept[number - 1].last, (path, symbol)
            else:
                assert diff.first <= (kept[number - 1].last if number else known) + 1, (
                    path,
                    symbol,
                )
        story.applied[symbol] = len(kept)
        if kept:
            story.books[symbol] = [snapshot._replace(symbol=symbol), *kept]
    return story


def _okx(path: Path) -> Story:
    story = Story()
    acknowledged: dict[str, int | None] = {}
    for line in _lines(path):
        body = _body(line["raw"]) if line["kind"] == "recv" else None
        if not isinstance(body, dict) or "arg" not in body:
            continue
        channel, symbol = body["arg"].get("channel"), body["arg"].get("instId")
        if body.get("event") == "subscribe" and channel == "trades":
            acknowledged[symbol] = _recv_ns(line)
        if "data" not in body:
            continue
        if channel in ("books", "books-l2-tbt"):
            for data in body["data"]:
                snapshot = body["action"] == "snapshot"
                ids = {"last": int(data.get("seqId", 0)), "prev": int(data.get("prevSeqId", 0))}
                sum_ = int(data["checksum"])
                story.checksums += sum_ != 0
                rows = _rows(data["bids"]), _rows(data["asks"])
                book = BookMessage(symbol, snapshot, *rows, _ns(data["ts"]), **ids, checksum=sum_)
                story.books.setdefault(symbol, []).append(book)
                story.applied[symbol] = story.applied.get(symbol, 0) + (not snapshot)
        elif channel == "bbo-tbt":
            for data in body["data"]:
                quotes = (
                    _quote(*data[side][0][:2]) if data[side] else None for side in ("bids", "asks")
                )
                story.bbos.append(Bbo(symbol, *quotes, _ns(data["ts"]), _recv_ns(line)))
        elif channel == "trades":
            first = symbol in acknowledged
            since = acknowledged.pop(symbol, None)
            repeated = first and (since is None or _ns(body["data"][0]["ts"]) < since)
            for data in body["data"]:
                values = (
                    _text(data["px"]),
                    _text(data["sz"]),
                    data["side"],
                    data["tradeId"],
                    _ns(data["ts"]),
                )
                story.trades.append(Trade(symbol, *values, _recv_ns(line), repeated))
    return story


def _upbit(path: Path) -> Story:
    story = Story()
    times: dict[str, int] = {}
    for line in _lines(path):
        body = _body(line["raw"]) if line["kind"] == "recv" else None
        if not isinstance(body, dict):
            continue
        kind, symbol = body.get("ty"), body.get("cd", "")
        if kind == "orderbook":
            time = _ns(body["tms"])
            if time < times.get(symbol, 0):
                continue
            times[symbol] = time
            bids = [
                [_text(unit["bp"]), _text(unit["bs"])]
                for unit in body["obu"]
                if Decimal(unit["bp"])
            ]
            asks = [
                [_text(unit["ap"]), _text(unit["as"])]
                for unit in body["obu"]
                if Decimal(unit["ap"])
            ]
            bids, asks = ([row for row in side if row[1] != "0"] for side in (bids, asks))
            story.books.setdefault(symbol, []).append(BookMessage(symbol, True, bids, asks, time))
            story.applied[symbol] = story.applied.get(symbol, 0) + 1
        elif kind == "trade" and body["st"] == "REALTIME":
            side = {"ASK": "sell", "BID": "buy"}[body["ab"]]
            values = _text(body["tp"]), _text(body["tv"]), side, str(body["sid"]), _ns(body["ttms"])
            story.trades.append(Trade(symbol, *values, _recv_ns(line)))
    return story


ORACLES: dict[str, Callable[[Path], Story]] = {
    "binance": lambda path: _binance(path, futures=False),
    "binance_us": lambda path: _binance(path, futures=False),
    "binance_futures": lambda path: _binance(path, futures=True),
    "binance_coinm": lambda path: _binance(path, futures=True),
    "okx": _okx,
    "upbit": _upbit,
}
