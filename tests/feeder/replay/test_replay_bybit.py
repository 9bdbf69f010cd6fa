"""Bybit's server side without I/O: requests, answers as the venue words them, and the stream of
a recorded frame.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tapecast.feeder.replay.bybit import Bybit
from tapecast.feeder.replay.dialect import Route, VenueSide
from tapecast.feeder.replay.timeline import Frame, load
from tests.support.captures import captures

LINEAR, SPOT = "wss://stream.bybit.com/v5/public/linear", "wss://stream.bybit.com/v5/public/spot"
# Recorded by cryptofeed on 2025-06-13.
LINEAR_BOOK = (
    b'{"topic":"orderbook.1.BANDUSDT","type":"snapshot","ts":1749833474773,"data":{"s":"BANDUSDT","b":[["0.6131","17.9"]],'
    b'"a":[["0.6134","35.4"]],"u":24042997,"seq":209972815373},"cts":1749833474768}'
)
SPOT_BOOK = (
    b'{"topic":"orderbook.1.OPUSDC","ts":1749833472906,"type":"snapshot","data":{"s":"OPUSDC","b":[["0.579","3886.45"]],'
    b'"a":[["0.58","4043.62"]],"u":1399781,"seq":122620616678},"cts":1749833472901}'
)


def session(category: str) -> VenueSide:
    """Connect to a category's endpoint."""
    found = Bybit().connect(f"/v5/public/{category}", {})
    assert found is not None
    return found


def answer(one: VenueSide, request: object) -> dict[str, object]:
    """Send one request and return its answer without the connection's number."""
    (text,) = one.receive(request if isinstance(request, str) else json.dumps(request))
    found: dict[str, object] = json.loads(text)
    assert found.pop("conn_id")
    return found


def test_only_the_two_categories_are_served() -> None:
    """Other endpoints do not exist here."""
    assert Bybit().connect("/v5/public/inverse", {}) is None
    assert Bybit().connect("/v5/private", {}) is None


def test_answers_are_worded_as_recorded() -> None:
    """Linear names every request, spot only where the client did; their texts differ."""
    request = {"op": "subscribe", "args": ["orderbook.1.BANDUSDT"]}
    assert answer(session("linear"), request) == {
        "success": True,
        "ret_msg": "",
        "req_id": "",
        "op": "subscribe",
    }
    assert answer(session("spot"), request) == {
        "success": True,
        "ret_msg": "subscribe",
        "op": "subscribe",
    }
    named = {"req_id": "7", **request}
    assert answer(session("spot"), named) == {
        "success": True,
        "ret_msg": "subscribe",
        "req_id": "7",
        "op": "subscribe",
    }
    assert answer(session("linear"), {"op": "ping"}) == {
        "success": True,
        "ret_msg": "pong",
        "req_id": "",
        "op": "ping",
    }


def test_subscribe_and_unsubscribe_by_topic() -> None:
    """Streams are named by category and topic, so that the two markets' are not confused."""
    one = session("spot")
    answer(one, {"op": "subscribe", "args": ["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT"]})
    assert one.streams() == ["spot/orderbook.50.BTCUSDT", "spot/publicTrade.BTCUSDT"]
    answer(one, {"op": "unsubscribe", "args": ["orderbook.50.BTCUSDT"]})
    assert one.streams() == ["spot/publicTrade.BTCUSDT"]


@pytest.mark.parametrize(("request_", "text"), [
    ({"op": "subscribe", "args": [f"publicTrade.A{n}USDT" for n in range(11)]}, "args size >10"),
    ({"op": "subscribe", "args": []}, "error:args is empty"),
    ({"op": "subscribe", "args": ["publicTrade"]}, "error:handler not found,topic:publicTrade"),
    ({"op": "subscribe", "args": [{"channel": "books"}]}, "error:handler not found,topic:{'channel': 'books'}"),
    ({"op": "order.create"}, "error:unknown op order.create"),
    ("ping", "error:request format is wrong: ping"),
    ("[]", "error:request format is wrong: []"),
])  # fmt: skip
def test_a_wrong_request_fails_as_a_whole(request_: object, text: str) -> None:
    """Nothing of it is subscribed, and the connection stays."""
    one = session("spot")
    found = answer(one, request_)
    assert (found["success"], found["ret_msg"]) == (False, text)
    assert one.streams() == []


def test_linear_takes_more_arguments_than_spot() -> None:
    """The limit of ten is spot's."""
    topics = [f"publicTrade.A{number}USDT" for number in range(11)]
    assert answer(session("linear"), {"op": "subscribe", "args": topics})["success"]


def test_a_frame_belongs_to_the_category_it_came_over() -> None:
    """The URL decides; without one the order of keys tells; answers belong to nobody."""
    dialect = Bybit()
    assert dialect.route_at(SPOT, LINEAR_BOOK) == Route(
        "spot/orderbook.1.BANDUSDT", "spot:BANDUSDT", False
    )
    assert dialect.route_at(LINEAR, LINEAR_BOOK) == Route(
        "linear/orderbook.1.BANDUSDT", "BANDUSDT", False
    )
    assert dialect.route(LINEAR_BOOK) == Route("linear/orderbook.1.BANDUSDT", "BANDUSDT", False)
    assert dialect.route(SPOT_BOOK) == Route("spot/orderbook.1.OPUSDC", "spot:OPUSDC", False)
    deep = dialect.route_at(LINEAR, LINEAR_BOOK.replace(b"orderbook.1.", b"orderbook.200."))
    assert deep == Route("linear/orderbook.200.BANDUSDT", "BANDUSDT", True)
    assert dialect.route_at(LINEAR, b'{"success":true,"ret_msg":"","op":"subscribe"}') is None
    assert dialect.route_at(LINEAR, b"\xff") is None


def test_books_wait_for_no_rest_body() -> None:
    """A recorded REST body is served as it is; what is absent is a refusal."""
    dialect = Bybit()
    assert dialect.snapshot_of("/v5/market/orderbook", {"symbol": "BTCUSDT"}) is None
    assert dialect.snapshot_body(b'{"retCode":0}') is None
    assert json.loads(dialect.missing("/v5/market/time", None))["retCode"] == 10001


def test_a_recording_of_both_markets_is_laid_out_by_category() -> None:
    """198 frames of linear streams, 139 of spot streams."""
    timeline = load([captures() / "bybit" / "cf_20250613_v5_l1.jsonl"], Bybit())
    streams = [entry.stream for entry in timeline.entries if isinstance(entry, Frame)]
    assert Counter(stream.partition("/")[0] for stream in streams) == {"linear": 198, "spot": 139}
    assert {route.symbol for route in timeline.routes.values()} >= {"BANDUSDT", "spot:OPUSDC"}
