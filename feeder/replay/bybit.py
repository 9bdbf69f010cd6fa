"""Bybit as a server: the v5 public WebSocket endpoints of spot and linear.

Sources: the venue's v5 documentation ("Connect": requests, heartbeat, limits of arguments) and
the recorded acknowledgements, which differ between the two. One topic exists on both, so a
stream's name here is `category/topic`; a recorded frame belongs to the category in the URL that
it came over.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping

import msgspec

from tapecast.feeder.replay.dialect import Route, VenueSide
from tapecast.feeder.venues.bybit import VENUE
from tapecast.feeder.venues.spec import qualified

__all__ = ["DIALECT", "Bybit"]

_PATH = re.compile(r"/v5/public/(linear|spot)/?")
_DEPTH = re.compile(r"orderbook\.(?!1\.|rpi\.)")
_TOPIC = re.compile(r"[\w.]+\.[\w-]+")
_SPOT_ARGUMENTS = 10


class _Frame(msgspec.Struct):
    topic: str = ""
    data: msgspec.Raw = msgspec.Raw()


_FRAME = msgspec.json.Decoder(_Frame)


class Bybit:
    """The dialect of Bybit v5."""

    def connect(self, path: str, query: Mapping[str, str]) -> VenueSide | None:
        """Accept the public endpoints of spot and linear."""
        found = _PATH.fullmatch(path)
        return None if found is None else _Session(found[1])

    def route(self, raw: bytes) -> Route | None:
        """Take the topic of a data frame of which no URL is known."""
        return self.route_at("", raw)

    def route_at(self, url: str, raw: bytes) -> Route | None:
        """Take the category of the URL and the topic of a data frame; what has none is an answer
        to the recording client.
        """
        try:
            frame = _FRAME.decode(raw)
        except msgspec.DecodeError:
            return None
        if not frame.topic or not frame.data:
            return None
        assert VENUE.stream.market is not None
        stream = f"{VENUE.stream.market(url, raw) or 'linear'}/{frame.topic}"
        return Route(stream, self.symbol_of(stream), _DEPTH.match(frame.topic) is not None)

    def resolve(self, stream: str, recorded: Collection[str]) -> str:
        """Match exactly."""
        return stream

    def symbol_of(self, stream: str) -> str:
        """Read the symbol behind the last dot, qualified where it is not a linear contract's."""
        category, _, topic = stream.partition("/")
        return qualified("" if category == "linear" else category, topic.rpartition(".")[2])

    def snapshot_of(self, path: str, query: Mapping[str, str]) -> str | None:
        """Books start from the stream: no REST body is waited for."""
        return None

    def snapshot_body(self, body: bytes) -> str | None:
        """Books start from the stream: no REST body is one's beginning."""
        return None

    def missing(self, path: str, symbol: str | None) -> str:
        """Answer 10001 (the request has a wrong parameter)."""
        return _json(
            {
                "retCode": 10001,
                "retMsg": f"Not in the recording: {path}",
                "result": {},
                "retExtInfo": {},
            }
        )


class _Session:
    """Subscriptions of one connection."""

    def __init__(self, category: str) -> None:
        self._category = category
        self._connection = secrets.token_hex(10)
        self._topics: dict[str, None] = {}

    def streams(self) -> Collection[str]:
        """Return every acknowledged subscription."""
        return [f"{self._category}/{topic}" for topic in self._topics]

    def receive(self, message: str) -> list[str]:
        """Answer a ping or one subscribe or unsubscribe request, which succeeds or fails as a
        whole.
        """
        try:
            request = json.loads(message)
        except json.JSONDecodeError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("op"), str):
            return [
                self._answer("", f"error:request format is wrong: {message}", None, success=False)
            ]
        operation, request_id, topics = (
            request["op"],
            request.get("req_id"),
            request.get("args", []),
        )
        if operation == "ping":
            return [self._answer("ping", "pong", request_id)]
        if operation not in ("subscribe", "unsubscribe"):
            return [
                self._answer(operation, f"error:unknown op {operation}", request_id, success=False)
            ]
        problem = self._problem(topics)
        if problem:
            return [self._answer(operation, problem, request_id, success=False)]
        if operation == "subscribe":
            self._topics.update(dict.fromkeys(topics))
        else:
            for topic in topics:
                self._topics.pop(topic, None)
        return [self._answer(operation, operation if self._category == "spot" else "", request_id)]

    def _problem(self, topics: object) -> str:
        """Return why a list of topics is refused; "" where it is not."""
        if not isinstance(topics, list) or not topics:
            return "error:args is empty"
        if self._category == "spot" and len(topics) > _SPOT_ARGUMENTS:
            return f"args size >{_SPOT_ARGUMENTS}"
        unknown = [
            topic for topic in topics if not isinstance(topic, str) or not _TOPIC.fullmatch(topic)
        ]
        return f"error:handler not found,topic:{unknown[0]}" if unknown else ""

    def _answer(
        self, operation: str, text: str, request_id: object, *, success: bool = True
    ) -> str:
        answer: dict[str, object] = {
            "success": success,
            "ret_msg": text,
            "conn_id": self._connection,
        }
        # Spot names a request only where the client did, linear names it always.
        if request_id is not None or self._category != "spot":
            answer["req_id"] = "" if request_id is None else request_id
        return _json({**answer, "op": operation})


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


DIALECT = Bybit()
