"""Bitget as a server: the public WebSocket of API version 2.

Sources: the venue's documentation (subscribe, unsubscribe, ping, error codes). Books are in the
stream and never fetched.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import msgspec

from tapecast.feeder.replay.dialect import Route, VenueSide

__all__ = ["DIALECT", "Bitget"]

_BOOKS = frozenset({"books", "books1", "books5", "books15"})
_FIELDS = ("instType", "channel", "instId")


class _Frame(msgspec.Struct):
    arg: dict[str, str] = {}
    event: str = ""
    data: msgspec.Raw = msgspec.Raw()


_FRAME = msgspec.json.Decoder(_Frame)


class Bitget:
    """The dialect of Bitget; a stream is `instType:channel:instId`."""

    def connect(self, path: str, query: Mapping[str, str]) -> VenueSide | None:
        """Accept the public endpoint."""
        return _Session() if path.rstrip("/") == "/v2/ws/public" else None

    def route(self, raw: bytes) -> Route | None:
        """Take the `arg` of a data frame; other frames are answers to the recording client."""
        try:
            frame = _FRAME.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if frame.event or not frame.data or not all(frame.arg.get(name) for name in _FIELDS):
            return None
        return Route(_stream(frame.arg), frame.arg["instId"], frame.arg["channel"] in _BOOKS)

    def resolve(self, stream: str, recorded: Collection[str]) -> str:
        """Match exactly."""
        return stream

    def symbol_of(self, stream: str) -> str:
        """Read the instrument at the end."""
        return stream.rpartition(":")[2]

    def snapshot_of(self, path: str, query: Mapping[str, str]) -> str | None:
        """Books need no snapshot here: no request asks for one."""
        return None

    def snapshot_body(self, body: bytes) -> str | None:
        """Take no body for a book."""
        return None

    def missing(self, path: str, symbol: str | None) -> str:
        """Word a 404 as the venue does."""
        return _json({"code": "40404", "msg": f"Not in the recording: {path}"})


class _Session:
    """Subscriptions of one connection."""

    def __init__(self) -> None:
        self._streams: dict[str, None] = {}

    def streams(self) -> Collection[str]:
        """Return every acknowledged subscription."""
        return list(self._streams)

    def receive(self, message: str) -> list[str]:
        """Answer a text ping, or one request with one answer for each argument."""
        if message == "ping":
            return ["pong"]
        try:
            request = json.loads(message)
        except json.JSONDecodeError:
            return [_error(30003, "Unknown request", {})]
        op, args = (
            (request.get("op"), request.get("args")) if isinstance(request, dict) else (None, None)
        )
        if op not in ("subscribe", "unsubscribe") or not isinstance(args, list) or not args:
            return [_error(30003, "Unknown request", {})]
        return [self._apply(op, arg) for arg in args]

    def _apply(self, op: str, arg: object) -> str:
        if not isinstance(arg, dict) or not all(isinstance(arg.get(name), str) for name in _FIELDS):
            return _error(30016, "Param error", arg)
        if op == "subscribe":
            self._streams[_stream(arg)] = None
        else:
            self._streams.pop(_stream(arg), None)
        return _json({"event": op, "arg": arg})


def _stream(arg: Mapping[str, str]) -> str:
    return ":".join(arg[name] for name in _FIELDS)


def _error(code: int, text: str, arg: object) -> str:
    return _json({"event": "error", "arg": arg, "code": code, "msg": text})


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


DIALECT = Bitget()
