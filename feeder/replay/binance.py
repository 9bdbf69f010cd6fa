"""Binance as a server: spot, USD-M and COIN-M futures streams.

Sources: binance-spot-api-docs `web-socket-streams.md` (URL forms, live subscribing, error table)
and the USD-M "WebSocket market streams" pages with the change notice of 2026-03 (routes
`/public` and `/market`). Recorded frames keep the envelope they were recorded with, whatever URL
form the client used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

import msgspec

from tapecast.feeder.replay.dialect import BROADCAST, Route, VenueSide

__all__ = ["DIALECT", "Binance"]

_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_DEPTH_SPEED = re.compile(r"(@depth(?:5|10|20)?)(?:@\d+ms)?\Z")
_DIFF_DEPTH = re.compile(r"@depth(?:@\d+ms)?\Z")
_PUBLIC_ROUTE = re.compile(r"@(?:depth|rpiDepth|bookTicker|trade)|!bookTicker")
# `@trade` is undocumented on the routed futures endpoints and was seen on /public: both routes
# serve it.
_ON_BOTH_ROUTES = re.compile(r"@trade\Z")
_EVENT_STREAMS = {
    "depthUpdate": "depth",
    "markPriceUpdate": "markPrice",
    "24hrTicker": "ticker",
    "24hrMiniTicker": "miniTicker",
}


class _Interval(msgspec.Struct):
    i: str = ""


class _Frame(msgspec.Struct):
    """The fields that tell streams apart; everything else in a frame is left alone."""

    stream: str = ""
    e: str = ""
    s: str = ""
    k: _Interval | None = None
    A: msgspec.Raw = msgspec.Raw()
    B: msgspec.Raw = msgspec.Raw()


class _Body(msgspec.Struct):
    lastUpdateId: int  # noqa: N815 - the venue's field name
    bids: msgspec.Raw
    asks: msgspec.Raw
    symbol: str = ""


_FRAME = msgspec.json.Decoder(_Frame)
_BODY = msgspec.json.Decoder(_Body)


class Binance:
    """The dialect of one Binance market."""

    def __init__(self, *, routed: bool) -> None:
        """`routed`: the market has the futures' routes beside its plain paths."""
        self._routed = routed

    def connect(self, path: str, query: Mapping[str, str]) -> VenueSide | None:
        """Accept `/ws`, `/ws/<stream>[/<stream>…]` and `/stream[?streams=a/b]`, on the routes
        the market has.
        """
        route = ""
        if self._routed:
            for candidate in ("/public", "/market"):
                if path.startswith(candidate + "/"):
                    route, path = candidate, path[len(candidate) :]
        if path in ("/ws", "/ws/"):
            names = ""
        elif path.startswith("/ws/"):
            names = path[len("/ws/") :]
        elif path in ("/stream", "/stream/"):
            names = query.get("streams", "")
        else:
            return None
        return _Session(route, [name for name in names.split("/") if name])

    def route(self, raw: bytes) -> Route | None:
        """Take the stream name of a combined frame; build it from event type and symbol for a
        raw one.
        """
        try:
            frame = _FRAME.decode(raw)
        except msgspec.DecodeError:
            return None
        if frame.e == "serverShutdown" or frame.stream == "!serverShutdown":
            return BROADCAST
        name = frame.stream
        if not name:
            if not frame.s:
                return None
            if frame.e:
                channel = _EVENT_STREAMS.get(frame.e, frame.e)
                if frame.k is not None:
                    channel = f"{channel}_{frame.k.i}"
            elif frame.A and frame.B:
                channel = "bookTicker"  # spot sends it without an event type
            else:
                return None
            name = f"{frame.s.lower()}@{channel}"
        return Route(name, self.symbol_of(name), _DIFF_DEPTH.search(name) is not None)

    def resolve(self, stream: str, recorded: Collection[str]) -> str:
        """Match exactly; where the recording has the depth stream at another speed only, take
        the first such one.
        """
        if stream in recorded or "@depth" not in stream:
            return stream
        wanted = _DEPTH_SPEED.sub(r"\1", stream)
        return next((name for name in recorded if _DEPTH_SPEED.sub(r"\1", name) == wanted), stream)

    def symbol_of(self, stream: str) -> str:
        """Read the symbol before the @; the streams of all markets begin with an exclamation
        mark.
        """
        return "" if stream.startswith("!") else stream.partition("@")[0].upper()

    def snapshot_of(self, path: str, query: Mapping[str, str]) -> str | None:
        """Read `…/depth?symbol=`, whichever API version and market."""
        return query.get("symbol", "").upper() if path.endswith("/depth") else None

    def snapshot_body(self, body: bytes) -> str | None:
        """Recognise a depth body by its update id and sides; COIN-M bodies name their symbol."""
        try:
            return _BODY.decode(body).symbol
        except msgspec.DecodeError:
            return None

    def missing(self, path: str, symbol: str | None) -> str:
        """Answer -1121 for a book that the recording has no (further) snapshot of, -1000 for any
        other absent body.
        """
        if symbol is not None:
            return '{"code":-1121,"msg":"Invalid symbol."}'
        return _json({"code": -1000, "msg": f"Not in the recording: {path}"})


class _Session:
    """Subscriptions of one connection, in the order they were made."""

    def __init__(self, route: str, names: list[str]) -> None:
        self._route = route
        self._names = dict.fromkeys(names)
        self._combined = False

    def streams(self) -> Collection[str]:
        """Leave out what the connection's route does not carry: the venue acknowledges such a
        stream and stays silent.
        """
        if not self._route:
            return list(self._names)
        public = self._route == "/public"
        return [
            name
            for name in self._names
            if _ON_BOTH_ROUTES.search(name) or (_PUBLIC_ROUTE.search(name) is not None) == public
        ]

    def receive(self, message: str) -> list[str]:
        """Answer one live-subscribing message."""
        try:
            request = json.loads(message)
        except json.JSONDecodeError as error:
            return [
                _error(
                    3, f"Invalid JSON: expected value at line {error.lineno} column {error.colno}"
                )
            ]
        if not isinstance(request, dict) or "method" not in request:
            return [
                _error(
                    2, f"Invalid request: missing field `method` at line 1 column {len(message)}"
                )
            ]
        method, request_id = request["method"], request.get("id", False)
        if method not in _METHODS:
            known = ", ".join(f"`{name}`" for name in _METHODS)
            return [
                _error(
                    2,
                    f"Invalid request: unknown variant `{method}`, expected one of {known} at line"
                    " 1 column 28",
                )
            ]
        if not isinstance(request_id, int | str | None) or isinstance(request_id, bool):
            return [_error(2, "Invalid request: request ID must be an unsigned integer")]
        if method == "LIST_SUBSCRIPTIONS":
            return [_json({"result": list(self._names), "id": request_id})]
        params = request.get("params", [])
        if method in ("SET_PROPERTY", "GET_PROPERTY"):
            return [self._property(method, params, request_id)]
        if not isinstance(params, list) or not all(isinstance(name, str) for name in params):
            return [_error(2, "Invalid request: property name must be a string")]
        if method == "SUBSCRIBE":
            self._names.update(dict.fromkeys(params))
        else:
            for name in params:
                self._names.pop(name, None)
        return [_json({"result": None, "id": request_id})]

    def _property(self, method: str, params: object, request_id: int | str | None) -> str:
        """Keep the one documented property; frames are sent as recorded whatever its value."""
        if not isinstance(params, list) or not params or not isinstance(params[0], str):
            return _error(2, "Invalid request: property name must be a string")
        if params[0] != "combined":
            return _error(0, "Unknown property")
        if method == "GET_PROPERTY":
            return _json({"result": self._combined, "id": request_id})
        if len(params) != 2 or not isinstance(params[1], bool):
            return _error(1, "Invalid value type: expected Boolean")
        self._combined = params[1]
        return _json({"result": None, "id": request_id})


def _error(code: int, text: str) -> str:
    return _json({"code": code, "msg": text})


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


DIALECT = Binance(routed=False)
