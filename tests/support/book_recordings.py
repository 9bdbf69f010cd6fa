"""Book events of real recordings, read with `json` and `Decimal` only: the second opinion that
kernel and benchmarks are fed.

Knows the level layout of three venues and how Binance joins a REST snapshot to diffs; nothing
here is used by the project.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tapecast.protocol.schema import Flag
from tests.support.book_packets import event as pack_event

__all__ = ["BookEvent", "TextLevels", "binance", "exponents", "okx", "packets", "text_of", "upbit"]

TextLevels = list[tuple[Decimal, Decimal]]


class BookEvent(NamedTuple):
    """One snapshot or delta as the venue told it; `checksum` where the venue sent one."""

    symbol: str
    snapshot: bool
    bids: TextLevels
    asks: TextLevels
    checksum: int | None = None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _levels(rows: list[list[str]]) -> TextLevels:
    return [(Decimal(row[0]), Decimal(row[1])) for row in rows]


def binance(path: Path) -> Iterator[BookEvent]:
    """Yield each symbol's REST snapshot and, from there on, the diffs that it does not include
    (`u` > lastUpdateId).

    A later snapshot of the same symbol is left out. Serves spot and futures; continuity is not
    checked here.
    """
    waiting: dict[str, list[dict[str, Any]]] = {}
    live: set[str] = set()
    for line in _lines(path):
        body = json.loads(line["raw"]) if line["kind"] in ("recv", "http") else {}
        if line["kind"] == "http" and isinstance(body, dict) and "lastUpdateId" in body:
            named = parse_qs(urlsplit(line["url"] or "").query).get("symbol")
            symbol = named[0] if named else next(iter(waiting))
            if symbol in live:
                continue
            live.add(symbol)
            yield BookEvent(symbol, True, _levels(body["bids"]), _levels(body["asks"]))
            for diff in waiting.pop(symbol, []):
                if diff["u"] > body["lastUpdateId"]:
                    yield _diff(diff)
        else:
            diff = body.get("data", body) if isinstance(body, dict) else {}
            if diff.get("e") != "depthUpdate":
                continue
            if diff["s"] in live:
                yield _diff(diff)
            else:
                waiting.setdefault(diff["s"], []).append(diff)


def okx(path: Path) -> Iterator[BookEvent]:
    """Yield the snapshots and updates of `books` and `books-l2-tbt`, with their checksums."""
    for line in _lines(path):
        body = json.loads(line["raw"]) if line["kind"] == "recv" else {}
        if "action" in body:
            data = body["data"][0]
            yield BookEvent(
                body["arg"]["instId"],
                body["action"] == "snapshot",
                _levels(data["bids"]),
                _levels(data["asks"]),
                data["checksum"],
            )


def upbit(path: Path) -> Iterator[BookEvent]:
    """Yield the complete books of the SIMPLE format."""
    for line in _lines(path):
        if line["kind"] != "recv" or '"orderbook"' not in line["raw"]:
            continue
        body = json.loads(line["raw"], parse_float=Decimal, parse_int=Decimal)
        bids = [(Decimal(unit["bp"]), Decimal(unit["bs"])) for unit in body["obu"] if unit["bp"]]
        asks = [(Decimal(unit["ap"]), Decimal(unit["as"])) for unit in body["obu"] if unit["ap"]]
        yield BookEvent(body["cd"], True, bids, asks)


def exponents(events: Iterable[BookEvent]) -> dict[str, tuple[int, int]]:
    """Return per symbol the price and quantity exponents that represent all its levels."""
    out: dict[str, tuple[int, int]] = {}
    for event in events:
        price_exp, qty_exp = out.get(event.symbol, (0, 0))
        for price, quantity in (*event.bids, *event.asks):
            price_exp, qty_exp = min(price_exp, _exp(price)), min(qty_exp, _exp(quantity))
        out[event.symbol] = price_exp, qty_exp
    return out


def packets(
    event: BookEvent, instrument_id: int, seq: int, exps: tuple[int, int] | None = None
) -> bytes:
    """Return the event's packets at the given exponents, or at the coarsest that represent this
    event alone.
    """
    price_exp, qty_exp = exps or exponents([event])[event.symbol]
    bids, asks = (
        [(_mantissa(p, price_exp), _mantissa(q, qty_exp)) for p, q in levels]
        for levels in (event.bids, event.asks)
    )
    flags = Flag.SNAPSHOT if event.snapshot else 0
    return pack_event(
        instrument_id, bids, asks, seq=seq, flags=flags, price_exp=price_exp, qty_exp=qty_exp
    )


def text_of(mantissa: int, exp: int) -> str:
    """Return the shortest decimal text of a mantissa at an exponent, as OKX writes it."""
    text = f"{Decimal(mantissa).scaleb(exp):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _diff(diff: dict[str, Any]) -> BookEvent:
    return BookEvent(diff["s"], False, _levels(diff["b"]), _levels(diff["a"]))


def _exp(number: Decimal) -> int:
    return int(number.normalize().as_tuple().exponent)


def _mantissa(number: Decimal, exp: int) -> int:
    scaled = number.scaleb(-exp)
    whole = int(scaled)
    assert whole == scaled, f"{number} at exponent {exp}"
    return whole
