"""Kraken spot as a server: the v2 WebSocket.

Sources: docs.kraken.com (requests, errors) and the recorded acknowledgements. A request names
one channel and is acknowledged symbol by symbol. Books have the depth they were recorded with,
whatever a request asks for, so acknowledgements leave the depth out and the snapshot tells it.
Frames of version 1 are served as recorded to who subscribes to the same in version 2.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import msgspec

from tapecast.feeder.replay.dialect import Route, VenueSide
from tapecast.feeder.venues.common.kraken_v1 import topic_of

__all__ = ["DIALECT", "Kraken"]

_DEPTHS = (10, 25, 100, 500, 1000)
_CHANNELS = ("book", "instrument", "level3", "ohlc", "ticker", "trade")
_TIMES = {"time_in": "1970-01-01T00:00:00.000000Z", "time_out": "1970-01-01T00:00:00.000000Z"}
"""The server reads no clock here: times of an acknowledgement say that they are none."""


class _Entry(msgspec.Struct):
    symbol: str = ""


class _Frame(msgspec.Struct):
    channel: str = ""
    data: list[_Entry] = []


_FRAME = msgspec.json.Decoder(_Frame)


class Kraken:
    """The dialect of Kraken's version 2."""

    def connect(self, path: str, query: Mapping[str, str]) -> VenueSide | None:
        """Accept the public endpoint of version 2."""
        return _Session() if path.rstrip("/") == "/v2" else None

    def route(self, raw: bytes) -> Route | None:
        """Take channel and symbol of a data frame; status and heartbeats are between the venue
        and the recording client.
        """
        if (topic := topic_of(raw)) is not None:
            channel, symbol = topic[0].partition("-")[0], topic[1]
            return Route(f"{channel}:{symbol}", symbol, False) if channel in _CHANNELS else None
        try:
            frame = _FRAME.decode(raw)
        except msgspec.DecodeError:
            return None
        symbol = frame.data[0].symbol if frame.data else ""
        return (
            Route(f"{frame.channel}:{symbol}", symbol, False)
            if frame.channel in _CHANNELS and symbol
            else None
        )

    def resolve(self, stream: str, recorded: Collection[str]) -> str:
        """Match exactly."""
        return stream

    def symbol_of(self, stream: str) -> str:
        """Read the symbol after the channel."""
        return stream.partition(":")[2]

    def snapshot_of(self, path: str, query: Mapping[str, str]) -> str | None:
        """Books need no REST snapshot here."""
        return None

    def snapshot_body(self, body: bytes) -> str | None:
        """No body is taken for a book."""
        return None

    def missing(self, path: str, symbol: str | None) -> str:
        """Answer as the venue does for a method that it does not have."""
        return json.dumps(
            {"error": [f"EGeneral:Unknown method: not in the recording: {path}"]},
            ensure_ascii=False,
        )


class _Session:
    """Subscriptions of one connection."""

    def __init__(self) -> None:
        self._streams: dict[str, None] = {}

    def streams(self) -> Collection[str]:
        """Return every acknowledged subscription."""
        return list(self._streams)

    def receive(self, message: str) -> list[str]:
        """Answer a ping, or one subscribe or unsubscribe request with one answer for each
        symbol.
        """
        try:
            request = json.loads(message)
        except json.JSONDecodeError:
            return [_error(None, None, "Malformed request")]
        if not isinstance(request, dict):
            return [_error(None, None, "Malformed request")]
        method, number = request.get("method"), request.get("req_id")
        if method == "ping":
            return [_json({"method": "pong", **_identity(number), **_TIMES})]
        params = request.get("params")
        if method not in ("subscribe", "unsubscribe") or not isinstance(params, dict):
            return [
                _error(
                    method,
                    number,
                    "Unsupported method" if isinstance(params, dict) else "Malformed request",
                )
            ]
        channel, symbols = params.get("channel"), params.get("symbol")
        if channel not in _CHANNELS:
            return [_error(method, number, f"Channel not found: {channel}")]
        if (
            not isinstance(symbols, list)
            or not symbols
            or not all(isinstance(symbol, str) for symbol in symbols)
        ):
            return [_error(method, number, "Symbol(s) not found")]
        if channel == "book" and params.get("depth", 10) not in _DEPTHS:
            return [_error(method, number, "Depth not supported")]
        return [self._apply(method, channel, symbol, number) for symbol in symbols]

    def _apply(self, method: str, channel: str, symbol: str, number: object) -> str:
        if "/" not in symbol:
            return _error(method, number, f"Currency pair not supported {symbol}", symbol)
        stream = f"{channel}:{symbol}"
        if method == "subscribe":
            if stream in self._streams:
                return _error(method, number, "Already subscribed", symbol)
            self._streams[stream] = None
        elif stream not in self._streams:
            return _error(method, number, "Subscription Not Found", symbol)
        else:
            del self._streams[stream]
        result = {"channel": channel, "symbol": symbol}
        return _json(
            {"method": method, "result": result, "success": True, **_TIMES, **_identity(number)}
        )


def _error(method: object, number: object, text: str, symbol: str | None = None) -> str:
    about = {} if symbol is None else {"symbol": symbol}
    named = {"method": method} if isinstance(method, str) else {}
    return _json({"error": text, **named, "success": False, **about, **_TIMES, **_identity(number)})


def _identity(number: object) -> dict[str, object]:
    return {} if number is None else {"req_id": number}


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


DIALECT = Kraken()
