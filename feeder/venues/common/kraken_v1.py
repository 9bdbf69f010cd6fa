"""Kraken's WebSocket version 1, for recordings: its messages are arrays, which no shape can
declare, so they become objects.

`[channelID, body…, channel name, pair]` turns into an object with the keys that the shapes here
name; numbers keep their text. Version 1 is never subscribed. Its checksum is over zeros that no
definition names, so it is left out. Truth: docs.kraken.com.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tapecast.feeder.extract.shapes import (
    BidAskRows,
    BookShape,
    Elements,
    Match,
    Numbers,
    Rows,
    SideField,
    SnapshotField,
    TimeUnit,
    TradeShape,
)
from tapecast.protocol.schema import Side

__all__ = ["RENAMED", "SHAPES", "reframe", "renamed", "topic_of"]

RENAMED = {"XBT": "BTC", "XDG": "DOGE"}
"""Names of version 1 and of REST that version 2 does not use."""

SHAPES = (
    BookShape(
        name="book_v1",
        match=Match(where={"v1": ("book",)}, optional=("time",)),
        numbers=Numbers.QUOTED,
        symbol="symbol",
        ts="time",
        ts_unit=TimeUnit.US,
        levels=BidAskRows(bids=Rows("bids"), asks=Rows("asks")),
        snapshot=SnapshotField("type", "snapshot", "update"),
        top_only=True,
        # examples 7, as it came: `reframe` makes the message of it
        example=(
            b'[320,{"a":[["38800.00000","0.02203518","1622766170.577187"]]},'
            b'{"b":[["38800.00000","0.03017320","1622766170.577304"]],"c":"2479000840"},'
            b'"book-25","XBT/USD"]'
        ),
    ),
    TradeShape(
        name="trade_v1",
        match=Match(where={"v1": ("trade",)}),
        numbers=Numbers.QUOTED,
        symbol="symbol",
        each=Elements("trades[]"),
        ts="time",
        ts_unit=TimeUnit.US,
        price="price",
        quantity="volume",
        side=SideField("side", {"b": Side.BUY, "s": Side.SELL}),
        # examples 1, as it came
        example=(
            b'[321,[["57126.70000","0.02063928","1616333924.737428","b","m",""]],"trade","XBT/USD"]'
        ),
    ),
)

_Row = list[str]


class _Body(msgspec.Struct, frozen=True):
    bids: list[_Row] = msgspec.field(default_factory=list, name="bs")
    asks: list[_Row] = msgspec.field(default_factory=list, name="as")
    new_bids: list[_Row] = msgspec.field(default_factory=list, name="b")
    new_asks: list[_Row] = msgspec.field(default_factory=list, name="a")


_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode
_body = msgspec.json.Decoder(_Body | None).decode
_rows = msgspec.json.Decoder(list[_Row]).decode


def renamed(pair: str) -> str:
    """Return the name that version 2 has for a pair."""
    return "/".join(RENAMED.get(part, part) for part in pair.split("/"))


def topic_of(frame: bytes) -> tuple[str, str] | None:
    """Return channel name and pair (as version 2 names it) of a version 1 data message; None for
    anything else. Never raises.
    """
    if not frame.startswith(b"["):
        return None
    try:
        parts = _parts(frame)
        return (_text(parts[-2]), renamed(_text(parts[-1]))) if len(parts) >= 4 else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def reframe(frame: bytes) -> bytes | None:
    """Return a book or trade message of version 1 as an object; None for anything else. Never
    raises.
    """
    topic = topic_of(frame)
    if topic is None:
        return None
    channel, symbol = topic
    try:
        parts = _parts(frame)
        if channel.startswith("book-"):
            return _book(
                symbol,
                [body for part in parts[1:-2] if (body := _body(part)) is not None],
                b'"as"' in frame,
            )
        if channel == "trade" and len(parts) == 4:
            return _trades(symbol, _rows(parts[1]))
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    return None


def _book(symbol: str, bodies: list[_Body], snapshot: bool) -> bytes:
    bids = [row for body in bodies for row in (*body.bids, *body.new_bids)]
    asks = [row for body in bodies for row in (*body.asks, *body.new_asks)]
    message: dict[str, object] = {
        "v1": "book",
        "type": "snapshot" if snapshot else "update",
        "symbol": symbol,
    }
    time = _latest(row[2] for row in (*bids, *asks) if len(row) > 2)
    if time is not None:
        message["time"] = time
    return msgspec.json.encode(
        {**message, "bids": [row[:2] for row in bids], "asks": [row[:2] for row in asks]}
    )


def _trades(symbol: str, rows: list[_Row]) -> bytes | None:
    if any(len(row) < 4 for row in rows):
        return None
    trades = [
        {"price": row[0], "volume": row[1], "time": _latest([row[2]]), "side": row[3]}
        for row in rows
    ]
    return msgspec.json.encode({"v1": "trade", "symbol": symbol, "trades": trades})


def _latest(texts: Iterable[str]) -> int | None:
    """Return the latest time in microseconds; texts are seconds with six digits behind the
    point, others are left out.
    """
    times = [text.partition(".") for text in texts]
    return max(
        (
            int(s + us)
            for s, _, us in times
            if len(us) == 6 and (s + us).isascii() and (s + us).isdigit()
        ),
        default=None,
    )
