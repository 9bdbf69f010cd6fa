"""OKX as a server: the v5 public and business WebSocket endpoints.

Sources: OKX API v5 documentation, sections "WebSocket" (subscribe, connect, error codes
60012–60019) and the recorded acknowledgements. Channels that the venue gives to logged-in
clients only are served where a recording has them.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping

import msgspec

from tapecast.feeder.replay.dialect import BROADCAST, Route, VenueSide

__all__ = ["DIALECT", "Okx"]

_DEPTH = frozenset({"books", "books-l2-tbt", "books50-l2-tbt", "books-elp"})
_BUSINESS = re.compile(r"(?:mark-price-|index-|sprd-)?candle|trades-all\Z|sprd-")
_PATHS = {"/ws/v5/public": False, "/ws/v5/business": True}


class _Frame(msgspec.Struct):
    arg: dict[str, str] = {}
    event: str = ""
    data: msgspec.Raw = msgspec.Raw()


class _Level(msgspec.Struct):
    asks: msgspec.Raw
    bids: msgspec.Raw


class _Body(msgspec.Struct):
    code: str
    data: list[_Level]


_FRAME = msgspec.json.Decoder(_Frame)
_BODY = msgspec.json.Decoder(_Body)


class Okx:
    """The dialect of OKX v5."""

    def connect(self, path: str, query: Mapping[str, str]) -> VenueSide | None:
        """Accept the public and the business endpoint; nothing here needs a login."""
        business = _PATHS.get(path.rstrip("/"))
        return None if business is None else _Session(business=business)

    def route(self, raw: bytes) -> Route | None:
        """Take the `arg` of a data frame; notices go to everyone, other events are answers to
        the recording client.
        """
        try:
            frame = _FRAME.decode(raw)
        except msgspec.DecodeError:
            return None
        if frame.event:
            return BROADCAST if frame.event == "notice" else None
        if "channel" not in frame.arg or not frame.data:
            return None
        stream = _stream(frame.arg)
        return Route(stream, self.symbol_of(stream), frame.arg["channel"] in _DEPTH)

    def resolve(self, stream: str, recorded: Collection[str]) -> str:
        """Match exactly."""
        return stream

    def symbol_of(self, stream: str) -> str:
        """Read the instrument id among the argument's fields."""
        fields = dict(pair.partition("=")[::2] for pair in stream.partition(":")[2].split(","))
        return fields.get("instId", "")

    def snapshot_of(self, path: str, query: Mapping[str, str]) -> str | None:
        """Read `…/market/books?instId=`."""
        return query.get("instId", "") if path.endswith("/market/books") else None

    def snapshot_body(self, body: bytes) -> str | None:
        """Recognise a books body by its sides; it never names its instrument."""
        try:
            return "" if _BODY.decode(body).data else None
        except msgspec.DecodeError:
            return None

    def missing(self, path: str, symbol: str | None) -> str:
        """Answer 51001 for a book that the recording has no (further) snapshot of, 50000 for any
        other absent body.
        """
        if symbol is not None:
            return _json({"code": "51001", "msg": "Instrument ID does not exist", "data": []})
        return _json({"code": "50000", "msg": f"Not in the recording: {path}", "data": []})


class _Session:
    """Subscriptions of one connection."""

    def __init__(self, *, business: bool) -> None:
        self._business = business
        self._connection = secrets.token_hex(4)
        self._streams: dict[str, None] = {}

    def streams(self) -> Collection[str]:
        """Return every acknowledged subscription."""
        return list(self._streams)

    def receive(self, message: str) -> list[str]:
        """Answer a text ping or one subscribe or unsubscribe request, one answer for each
        argument.
        """
        if message == "ping":
            return ["pong"]
        try:
            request = json.loads(message)
        except json.JSONDecodeError:
            return [self._error("60012", f"Invalid request: {message}", None)]
        if not isinstance(request, dict) or not isinstance(request.get("op"), str):
            return [self._error("60012", f"Invalid request: {message}", None)]
        operation, request_id = request["op"], request.get("id")
        if operation not in ("subscribe", "unsubscribe"):
            return [self._error("60019", f"Invalid op: {operation}", request_id)]
        arguments = request.get("args")
        if not isinstance(arguments, list) or not arguments:
            return [self._error("60012", f"Invalid request: {message}", request_id)]
        return [self._apply(operation, argument, request_id) for argument in arguments]

    def _apply(self, operation: str, argument: object, request_id: object) -> str:
        if not isinstance(argument, dict) or not all(
            isinstance(value, str) for value in argument.values()
        ):
            return self._error("60013", "Invalid args", request_id)
        channel = argument.get("channel", "")
        # An argument without an instrument, or with the other endpoint's channel, is a wrong
        # address to the venue.
        if (
            not channel
            or len(argument) < 2
            or (_BUSINESS.match(channel) is not None) != self._business
        ):
            where = ",".join(f"{name}:{value}" for name, value in argument.items())
            advice = "Please use the correct URL, channel and parameters referring to API document."
            text = f"Wrong URL or {where} doesn't exist. {advice}"
            return self._error("60018", text, request_id)
        if operation == "subscribe":
            self._streams[_stream(argument)] = None
        else:
            self._streams.pop(_stream(argument), None)
        return _json(
            {
                **_identity(request_id),
                "event": operation,
                "arg": argument,
                "connId": self._connection,
            }
        )

    def _error(self, code: str, text: str, request_id: object) -> str:
        return _json(
            {
                **_identity(request_id),
                "event": "error",
                "code": code,
                "msg": text,
                "connId": self._connection,
            }
        )


def _stream(arg: Mapping[str, str]) -> str:
    """Spell a subscription argument the same way whatever the order of its keys."""
    rest = ",".join(f"{name}={value}" for name, value in sorted(arg.items()) if name != "channel")
    return f"{arg.get('channel', '')}:{rest}"


def _identity(request_id: object) -> dict[str, object]:
    return {} if request_id is None else {"id": request_id}


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


DIALECT = Okx()
