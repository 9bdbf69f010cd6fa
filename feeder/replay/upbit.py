"""Upbit as a server: the v1 quotation WebSocket.

Sources: docs.upbit.com (request format, errors) and the recorded request and frames. A request
has no acknowledgement and replaces the whole subscription. Frames keep the format (DEFAULT or
SIMPLE), the unit count and the opcode they were recorded with, whatever the request asked for.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import msgspec

from tapecast.feeder.replay.dialect import Route, VenueSide

__all__ = ["DIALECT", "Upbit"]

_FORMATS = ("DEFAULT", "SIMPLE", "JSON_LIST", "SIMPLE_LIST")
_ERRORS = {
    "WRONG_FORMAT": "The format is incorrect.",
    "NO_TICKET": "The ticket does not exist or is invalid.",
    "NO_TYPE": "The type field does not exist.",
    "NO_CODES": "The codes field does not exist.",
    "INVALID_PARAM": "The codes field is empty.",
}


class _Frame(msgspec.Struct):
    type: str = ""
    ty: str = ""
    code: str = ""
    cd: str = ""


_FRAME = msgspec.json.Decoder(_Frame | list[_Frame])


class Upbit:
    """The dialect of Upbit."""

    def connect(self, path: str, query: Mapping[str, str]) -> VenueSide | None:
        """Accept the public endpoint."""
        return _Session() if path.rstrip("/") == "/websocket/v1" else None

    def route(self, raw: bytes) -> Route | None:
        """Read type and code in either spelling, of a list format's first element too."""
        try:
            found = _FRAME.decode(raw)
        except msgspec.DecodeError:
            return None
        if isinstance(found, list):
            if not found:
                return None
            found = found[0]
        kind, code = found.type or found.ty, found.code or found.cd
        return Route(f"{kind}:{code}", code, kind == "orderbook") if kind and code else None

    def resolve(self, stream: str, recorded: Collection[str]) -> str:
        """Match exactly."""
        return stream

    def symbol_of(self, stream: str) -> str:
        """Read the market code after the type."""
        return stream.partition(":")[2]

    def snapshot_of(self, path: str, query: Mapping[str, str]) -> str | None:
        """Read `…/orderbook?markets=`; a request for several markets is not a book's snapshot."""
        market = query.get("markets", "")
        return market if path.endswith("/orderbook") and "," not in market else None

    def snapshot_body(self, body: bytes) -> str | None:
        """Books need no snapshot here: no body is taken for one."""
        return None

    def missing(self, path: str, symbol: str | None) -> str:
        """Answer as for an unknown market code."""
        if symbol is not None:
            return '{"error":{"name":404,"message":"Code not found"}}'
        return json.dumps(
            {"error": {"name": 404, "message": f"Not in the recording: {path}"}}, ensure_ascii=False
        )


class _Session:
    """The current subscription of one connection."""

    def __init__(self) -> None:
        self._streams: list[str] = []

    def streams(self) -> Collection[str]:
        """Return the last accepted request's streams."""
        return self._streams

    def receive(self, message: str) -> list[str]:
        """Answer PING with the status, a wrong request with its error, a right one with nothing."""
        if message == "PING":
            return ['{"status":"UP"}']
        try:
            request = json.loads(message)
        except json.JSONDecodeError:
            return [_error("WRONG_FORMAT")]
        if not isinstance(request, list) or not all(isinstance(part, dict) for part in request):
            return [_error("WRONG_FORMAT")]
        if not any(part.get("ticket") for part in request):
            return [_error("NO_TICKET")]
        streams: list[str] = []
        wanted = [part for part in request if "ticket" not in part and "format" not in part]
        for part in request:
            if "format" in part and part["format"] not in _FORMATS:
                return [_error("INVALID_PARAM", f"format {part['format']} is not supported.")]
        if not wanted or not all(isinstance(part.get("type"), str) for part in wanted):
            return [_error("NO_TYPE")]
        for part in wanted:
            codes = part.get("codes")
            if not isinstance(codes, list):
                return [_error("NO_CODES")]
            if not codes:
                return [_error("INVALID_PARAM")]
            # `KRW-BTC.15` asks for 15 units: the frames name the market alone.
            streams += [f"{part['type']}:{str(code).partition('.')[0]}" for code in codes]
        self._streams = streams
        return []


def _error(name: str, text: str | None = None) -> str:
    return json.dumps(
        {"error": {"name": name, "message": text or _ERRORS[name]}},
        separators=(",", ":"),
        ensure_ascii=False,
    )


DIALECT = Upbit()
