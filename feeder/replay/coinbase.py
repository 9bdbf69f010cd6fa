"""Coinbase as a server: the WebSocket endpoints of Advanced Trade and of the Exchange feed.

Sources: docs.cdp.coinbase.com (subscribe, errors) and the recorded requests and answers.
Advanced Trade numbers every message of a connection, answers and heartbeats included; so the
recorded ones go to every client, in their places, and a client that subscribes to all recorded
books and trades over one connection sees the numbers without a break. One that wants less sees
gaps.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import msgspec

from tapecast.feeder.replay.dialect import BROADCAST, Route, VenueSide

__all__ = ["DIALECT", "Coinbase", "CoinbaseExchange"]

_ADVANCED = {"l2_data": "level2", "market_trades": "market_trades"}
_EXCHANGE = {
    "snapshot": "level2",
    "l2update": "level2",
    "match": "matches",
    "last_match": "matches",
    "ticker": "ticker",
}
_SAME = {"level2_batch": "level2", "ticker_batch": "ticker"}


class _Item(msgspec.Struct):
    product_id: str = ""


class _Event(msgspec.Struct):
    product_id: str = ""
    trades: list[_Item] = []


class _Frame(msgspec.Struct):
    channel: str = ""
    type: str = ""
    product_id: str = ""
    events: list[_Event] = []


_FRAME = msgspec.json.Decoder(_Frame)


class _Base:
    """What both feeds share: streams are `channel:product`, books are in the stream and never
    fetched.
    """

    def resolve(self, stream: str, recorded: Collection[str]) -> str:
        """Match exactly."""
        return stream

    def symbol_of(self, stream: str) -> str:
        """Read the product behind the channel."""
        return stream.partition(":")[2]

    def snapshot_of(self, path: str, query: Mapping[str, str]) -> str | None:
        """Books need no snapshot here: no request asks for one."""
        return None

    def snapshot_body(self, body: bytes) -> str | None:
        """Take no body for a book."""
        return None

    def missing(self, path: str, symbol: str | None) -> str:
        """Word a 404 as the venue does."""
        return json.dumps({"message": f"Not in the recording: {path}"}, ensure_ascii=False)


class Coinbase(_Base):
    """The dialect of Advanced Trade."""

    def connect(self, path: str, query: Mapping[str, str]) -> VenueSide | None:
        """Accept the root, the only endpoint."""
        return _Session(answers=False) if path in ("", "/") else None

    def route(self, raw: bytes) -> Route | None:
        """Give books and trades to their subscribers, everything else that has a channel to
        everyone.
        """
        frame = _decoded(raw)
        if frame is None or not frame.channel or not frame.events:
            return None
        channel = _ADVANCED.get(frame.channel)
        if channel is None:
            return BROADCAST
        first = frame.events[0]
        symbol = first.product_id or (first.trades[0].product_id if first.trades else "")
        return Route(f"{channel}:{symbol}", symbol, channel == "level2")


class CoinbaseExchange(_Base):
    """The dialect of the Exchange feed."""

    def connect(self, path: str, query: Mapping[str, str]) -> VenueSide | None:
        """Accept the root, the only endpoint."""
        return _Session(answers=True) if path in ("", "/") else None

    def route(self, raw: bytes) -> Route | None:
        """Tell the channel by the message's type; answers were the recording client's."""
        frame = _decoded(raw)
        channel = None if frame is None else _EXCHANGE.get(frame.type)
        if frame is None or channel is None or not frame.product_id:
            return None
        return Route(f"{channel}:{frame.product_id}", frame.product_id, channel == "level2")


class _Session:
    """Subscriptions of one connection; `answers`: with an answer to each request (Exchange)."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self._streams: dict[str, None] = {}

    def streams(self) -> Collection[str]:
        """Return every subscription."""
        return list(self._streams)

    def receive(self, message: str) -> list[str]:
        """Take one subscribe or unsubscribe request. Advanced Trade's own answers are among the
        recorded frames.
        """
        try:
            request = json.loads(message)
        except json.JSONDecodeError:
            return [_error("Malformed JSON")]
        if not isinstance(request, dict) or request.get("type") not in ("subscribe", "unsubscribe"):
            return [_error("Type has to be either subscribe or unsubscribe")]
        channels = request.get("channels", [request.get("channel")])
        products = request.get("product_ids", [])
        if not _texts(products) or not isinstance(channels, list) or not channels:
            return [_error("channels and product_ids have to be lists of names")]
        wanted: list[str] = []
        for channel in channels:
            own = products
            name = channel
            if isinstance(channel, dict):
                name, own = channel.get("name"), channel.get("product_ids", products)
            if not isinstance(name, str) or not _texts(own):
                return [_error("a channel has to have a name")]
            wanted += [f"{_SAME.get(name, name)}:{product}" for product in own]
        if request["type"] == "subscribe":
            self._streams.update(dict.fromkeys(wanted))
        else:
            for stream in wanted:
                self._streams.pop(stream, None)
        return [self._answer()] if self._answers else []

    def _answer(self) -> str:
        channels: dict[str, list[str]] = {}
        for stream in self._streams:
            channel, _, product = stream.partition(":")
            channels.setdefault(channel, []).append(product)
        named = [{"name": name, "product_ids": products} for name, products in channels.items()]
        return json.dumps({"type": "subscriptions", "channels": named}, separators=(",", ":"))


def _decoded(raw: bytes) -> _Frame | None:
    try:
        return _FRAME.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _error(text: str) -> str:
    return json.dumps({"type": "error", "message": text}, separators=(",", ":"))


DIALECT = Coinbase()
