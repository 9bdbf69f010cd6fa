"""Deribit as a server: the v2 JSON-RPC WebSocket.

Sources: docs.deribit.com (methods, error codes) and the recorded requests and answers. An answer
to `public/subscribe` lists the channels that were accepted; one that is no channel is missing
there, without an error. The client's heartbeat is acknowledged and never asked for: a recording
has its own pace. Times of the envelope (`usIn`, `usOut`) are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

import msgspec

from tapecast.feeder.replay.dialect import Route, VenueSide

__all__ = ["DIALECT", "Deribit"]

_ONE_SYMBOL = re.compile(r"(book|trades|ticker|incremental_ticker|quote)\.([^.]+)(\..+)?")
_INTERVAL = re.compile(r"((?:book|trades|ticker)\.[^.]+\.)(raw|100ms|agg2)")
_PART = r"[A-Za-z0-9_-]+"
_CHANNEL = re.compile(rf"{_PART}(?:\.{_PART}){{1,5}}|platform_state")
_VERSION = "1.2.26"


class _Params(msgspec.Struct, frozen=True):
    channel: str = ""


class _Frame(msgspec.Struct, frozen=True):
    method: str = ""
    params: _Params = _Params()


_FRAME = msgspec.json.Decoder(_Frame)


class Deribit:
    """The dialect of Deribit v2."""

    def connect(self, path: str, query: Mapping[str, str]) -> VenueSide | None:
        """Accept the one endpoint; nothing here needs a login."""
        return _Session() if path.rstrip("/") == "/ws/api/v2" else None

    def route(self, raw: bytes) -> Route | None:
        """Take the channel of a notification; answers and heartbeats were the recording
        client's.
        """
        try:
            frame = _FRAME.decode(raw)
        except msgspec.DecodeError:
            return None
        channel = frame.params.channel
        if frame.method != "subscription" or not channel:
            return None
        return Route(channel, self.symbol_of(channel), channel.startswith("book."))

    def resolve(self, stream: str, recorded: Collection[str]) -> str:
        """Serve a channel at the recorded interval unless the exact name was recorded."""
        found = _INTERVAL.fullmatch(stream)
        if stream in recorded or found is None:
            return stream
        others = (found[1] + interval for interval in ("raw", "100ms", "agg2"))
        return next((name for name in others if name in recorded), stream)

    def symbol_of(self, stream: str) -> str:
        """Read the instrument between the channel's name and its interval."""
        found = _ONE_SYMBOL.fullmatch(stream)
        return "" if found is None or found[2] in ("any", "future", "option", "spot") else found[2]

    def snapshot_of(self, path: str, query: Mapping[str, str]) -> str | None:
        """Books need no snapshot here: an order book request is answered as any other body."""
        return None

    def snapshot_body(self, body: bytes) -> str | None:
        """Books need no snapshot here: no body is taken for one."""
        return None

    def missing(self, path: str, symbol: str | None) -> str:
        """Answer as for an unknown method."""
        return _error(None, -32601, "Method not found", f"not in the recording: {path}")


class _Session:
    """Subscriptions of one connection."""

    def __init__(self) -> None:
        self._streams: dict[str, None] = {}

    def streams(self) -> Collection[str]:
        """Return every accepted channel."""
        return list(self._streams)

    def receive(self, message: str) -> list[str]:
        """Answer one request."""
        try:
            request = json.loads(message)
        except json.JSONDecodeError:
            return [_error(None, 11050, "bad_request", "invalid json")]
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return [_error(None, -32600, "Invalid request")]
        params = request.get("params")
        return [
            self._answer(
                request.get("id"), request["method"], params if isinstance(params, dict) else {}
            )
        ]

    def _answer(self, request_id: object, method: str, params: Mapping[str, object]) -> str:
        match method.removeprefix("public/"):
            case "subscribe" | "unsubscribe" as name:
                channels = params.get("channels")
                if not isinstance(channels, list) or not all(
                    isinstance(channel, str) for channel in channels
                ):
                    return _error(
                        request_id,
                        -32602,
                        "Invalid params",
                        {"reason": "must be an array", "param": "channels"},
                    )
                return _result(request_id, self._apply(name == "subscribe", channels))
            case "unsubscribe_all":
                self._streams.clear()
                return _result(request_id, "ok")
            case "set_heartbeat":
                interval = params.get("interval")
                if not isinstance(interval, (int, float)) or interval < 10:
                    return _error(
                        request_id,
                        -32602,
                        "Invalid params",
                        {"reason": "interval too short", "param": "interval"},
                    )
                return _result(request_id, "ok")
            case "disable_heartbeat":
                return _result(request_id, "ok")
            case "hello" | "test":
                return _result(request_id, {"version": _VERSION})
        return _error(request_id, -32601, "Method not found")

    def _apply(self, wanted: bool, channels: list[str]) -> list[str]:
        accepted = [channel for channel in dict.fromkeys(channels) if _CHANNEL.fullmatch(channel)]
        for channel in accepted:
            if wanted:
                self._streams[channel] = None
            else:
                self._streams.pop(channel, None)
        return accepted


def _result(request_id: object, result: object) -> str:
    return _json({"jsonrpc": "2.0", **_identity(request_id), "result": result, "testnet": False})


def _error(request_id: object, code: int, text: str, data: object = None) -> str:
    error: dict[str, object] = {"code": code, "message": text}
    if data is not None:
        error["data"] = data
    return _json({"jsonrpc": "2.0", **_identity(request_id), "error": error, "testnet": False})


def _identity(request_id: object) -> dict[str, object]:
    return {} if request_id is None else {"id": request_id}


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


DIALECT = Deribit()
