"""LS Securities as a server: the token endpoint, and a WebSocket that takes one subscription a
message.

Sources: the venue's documentation (`docs/venues/ls.md`); it documents requests and data, while
the acknowledgement is as clients of the venue describe it. Recordings cut to a few fields hold
no messages and cannot be served.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from tapecast.feeder.replay.dialect import BROADCAST, Route, VenueSide
from tapecast.feeder.venues.ls import CHANNELS, LOGIN, VENUE
from tapecast.feeder.venues.spec import Topic
from tapecast.protocol.schema import MsgType

__all__ = ["DIALECT", "Ls"]

_SUBSCRIBE, _UNSUBSCRIBE = "3", "4"
_NO_TOKEN = "IGW00121"  # noqa: S105 - the code of an error


class Ls:
    """The dialect of LS Securities' Open API."""

    def connect(self, path: str, query: Mapping[str, str]) -> VenueSide | None:
        """Accept the one endpoint."""
        return _Session() if path.rstrip("/") == "/websocket" else None

    def grant(self, path: str) -> str | None:
        """Return an access token for whoever asks; None for another path."""
        if path != LOGIN.path:
            return None
        return _json(
            {"access_token": "replay", "scope": "oob", "token_type": "Bearer", "expires_in": 86400}
        )

    def route(self, raw: bytes) -> Route | None:
        """Take code and key of a data frame; market states go to everybody, answers to nobody."""
        topic = VENUE.stream.peek(raw)
        if topic is None or b'"rsp_cd"' in raw:
            return None
        if CHANNELS[topic.channel].carries is MsgType.STATUS:
            return BROADCAST
        return Route(_stream(topic), topic.symbol, CHANNELS[topic.channel].carries is MsgType.BOOK)

    def resolve(self, stream: str, recorded: Collection[str]) -> str:
        """Match exactly."""
        return stream

    def symbol_of(self, stream: str) -> str:
        """Read the symbol behind the code."""
        return stream.partition(" ")[2]

    def snapshot_of(self, path: str, query: Mapping[str, str]) -> str | None:
        """Every message is the whole book: no REST body is waited for."""
        return None

    def snapshot_body(self, body: bytes) -> str | None:
        """Every message is the whole book: no REST body is one's beginning."""
        return None

    def missing(self, path: str, symbol: str | None) -> str:
        """Answer with a code that the venue does not use: what is not in the recording is not an
        error of the client.
        """
        return _json({"rsp_cd": "REPLAY", "rsp_msg": f"not in the recording: {path}"})


class _Session:
    """Subscriptions of one connection."""

    def __init__(self) -> None:
        self._streams: dict[str, None] = {}

    def streams(self) -> Collection[str]:
        """Return every acknowledged subscription."""
        return list(self._streams)

    def receive(self, message: str) -> list[str]:
        """Answer one subscription, or its end."""
        try:
            header, body = (request := json.loads(message))["header"], request["body"]
            token, kind, code, key = (
                header["token"],
                header["tr_type"],
                body["tr_cd"],
                body["tr_key"],
            )
        except (json.JSONDecodeError, KeyError, TypeError):
            return [_answer("", "", "", "REPLAY", "not a request of one subscription")]
        if not token:
            return [_answer(code, key, kind, _NO_TOKEN, "no token")]
        if code not in CHANNELS or kind not in (_SUBSCRIBE, _UNSUBSCRIBE):
            return [
                _answer(
                    code,
                    key,
                    kind,
                    "REPLAY",
                    "not a subscription to market data that is known here",
                )
            ]
        stream = _stream(Topic(code, key.strip()))
        if kind == _SUBSCRIBE:
            self._streams[stream] = None
        else:
            self._streams.pop(stream, None)
        return [_answer(code, key, kind, "00000", "정상처리되었습니다")]


def _stream(topic: Topic) -> str:
    return f"{topic.channel} {topic.symbol}"


def _answer(code: str, key: str, kind: str, result: str, text: str) -> str:
    return _json(
        {
            "header": {
                "rsp_cd": result,
                "rsp_msg": text,
                "tr_cd": code,
                "tr_key": key,
                "tr_type": kind,
            },
            "body": None,
        }
    )


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


DIALECT = Ls()
