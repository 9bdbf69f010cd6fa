"""The decoder that one would write first: `json` and `Decimal` of the standard library, prices
and sizes exact, tuples out.

No validation, no book, no packets: the floor of what an exact decoder in plain Python costs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

__all__ = ["DECODERS"]

Levels = list[tuple[Decimal, Decimal]]
Event = tuple[str, str, object, object, int]


def _levels(rows: list[list[str]]) -> Levels:
    return [(Decimal(row[0]), Decimal(row[1])) for row in rows]


def binance(raw: bytes) -> Event:
    """Decode a frame of a combined stream."""
    body: dict[str, Any] = json.loads(raw)
    body = body.get("data", body)
    kind = body.get("e")
    if kind == "depthUpdate":
        return "book", body["s"], _levels(body["b"]), _levels(body["a"]), body["u"]
    if kind in ("trade", "aggTrade"):
        return "trade", body["s"], (Decimal(body["p"]), Decimal(body["q"])), body["m"], body["T"]
    return (
        "bbo",
        body["s"],
        (Decimal(body["b"]), Decimal(body["B"])),
        (Decimal(body["a"]), Decimal(body["A"])),
        body["u"],
    )


def okx(raw: bytes) -> Event | list[Event]:
    """Decode a books, bbo or trades frame."""
    body: dict[str, Any] = json.loads(raw)
    symbol, data = body["arg"]["instId"], body["data"]
    if "px" in data[0]:
        return [
            ("trade", symbol, (Decimal(t["px"]), Decimal(t["sz"])), t["side"], int(t["ts"]))
            for t in data
        ]
    return "book", symbol, _levels(data[0]["bids"]), _levels(data[0]["asks"]), int(data[0]["ts"])


def upbit(raw: bytes) -> Event:
    """Decode a frame of the SIMPLE format."""
    body: dict[str, Any] = json.loads(raw, parse_float=Decimal, parse_int=Decimal)
    if body["ty"] == "trade":
        return "trade", body["cd"], (body["tp"], body["tv"]), body["ab"], int(body["ttms"])
    units = body["obu"]
    return (
        "book",
        body["cd"],
        [(u["bp"], u["bs"]) for u in units],
        [(u["ap"], u["as"]) for u in units],
        int(body["tms"]),
    )


DECODERS: dict[str, Callable[[bytes], object]] = {
    "binance": binance,
    "binance_futures": binance,
    "okx": okx,
    "upbit": upbit,
}
