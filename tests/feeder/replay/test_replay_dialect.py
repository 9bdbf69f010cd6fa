"""The venues' server side without I/O: subscriptions, answers, and the stream of a recorded
frame.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapecast.feeder.replay.dialect import BROADCAST, Route, VenueSide
from tapecast.feeder.replay.venues import DIALECTS, UnknownVenueError, by_venue, guess_venue

# Real messages: github crypto-crawler/crypto-msg-parser (tests/binance.rs, tests/okx.rs
# @37de71d1), shortened.
AGG_TRADE = b'{"e":"aggTrade","E":1616176861895,"s":"BTCUSDT","a":640283266,"p":"58942.01000000","q":"0.00035600","m":false}'
OKX_TRADE = (
    b'{"arg":{"channel":"trades","instId":"BTC-USDT-SWAP"},"data":[{"instId":"BTC-USDT-SWAP","tradeId":"219066264",'
    b'"px":"43568.8","sz":"7","side":"buy","ts":"1646312440645"}]}'
)


def session(venue: str, path: str, **query: str) -> VenueSide:
    """Connect to a path that the venue has."""
    found = DIALECTS[venue].connect(path, query)
    assert found is not None
    return found


def answer(session: VenueSide, request: object) -> list[object]:
    """Send one request, as JSON unless it is text already; return the decoded answers."""
    text = request if isinstance(request, str) else json.dumps(request)
    return [json.loads(reply) for reply in session.receive(text)]


class TestBinance:
    """Binance spot and futures."""

    def test_url_forms_subscribe(self) -> None:
        """Stream names in either URL form are subscriptions."""
        assert session("binance", "/ws").streams() == []
        assert session("binance", "/ws/btcusdt@depth").streams() == ["btcusdt@depth"]
        assert session("binance", "/ws/btcusdt@depth/btcusdt@trade").streams() == [
            "btcusdt@depth",
            "btcusdt@trade",
        ]
        assert session("binance", "/stream", streams="ethusdt@trade/btcusdt@trade").streams() == [
            "ethusdt@trade",
            "btcusdt@trade",
        ]
        assert DIALECTS["binance"].connect("/public/ws", {}) is None
        assert DIALECTS["binance"].connect("/", {}) is None

    def test_subscribe_list_unsubscribe(self) -> None:
        """Live subscribing is acknowledged with the request's id, and LIST_SUBSCRIPTIONS tells
        the result.
        """
        one = session("binance", "/ws")
        assert answer(
            one, {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "btcusdt@depth"], "id": 1}
        ) == [{"result": None, "id": 1}]
        assert answer(one, {"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": "b"}) == [
            {"result": None, "id": "b"}
        ]
        assert answer(one, {"method": "LIST_SUBSCRIPTIONS", "id": 3}) == [
            {"result": ["btcusdt@depth"], "id": 3}
        ]
        assert one.streams() == ["btcusdt@depth"]

    def test_ack_is_spelt_as_the_venue_spells_it(self) -> None:
        """The acknowledgement has no spaces and its keys in the documented order."""
        assert session("binance", "/ws").receive('{"method":"SUBSCRIBE","params":[],"id":1}') == [
            '{"result":null,"id":1}'
        ]

    @pytest.mark.parametrize(
        ("request_", "code", "text"),
        [
            ("{", 3, "Invalid JSON"),
            ({"params": []}, 2, "missing field `method`"),
            (
                {"method": "SUBSCRIBED", "id": 1},
                2,
                "unknown variant `SUBSCRIBED`, expected one of `SUBSCRIBE`",
            ),
            (
                {"method": "SUBSCRIBE", "params": ["a@trade"]},
                2,
                "request ID must be an unsigned integer",
            ),
            ({"method": "SUBSCRIBE", "params": [1], "id": 1}, 2, "property name must be a string"),
            (
                {"method": "SET_PROPERTY", "params": ["colour", True], "id": 1},
                0,
                "Unknown property",
            ),
            ({"method": "SET_PROPERTY", "params": ["combined", 1], "id": 1}, 1, "expected Boolean"),
        ],
    )
    def test_wrong_requests_get_the_documented_error(
        self, request_: object, code: int, text: str
    ) -> None:
        """A wrong request is answered with code and message of the venue's error table, and
        subscribes nothing.
        """
        one = session("binance", "/ws")
        (reply,) = answer(one, request_)
        assert isinstance(reply, dict)
        assert reply["code"] == code
        assert text in reply["msg"]
        assert one.streams() == []

    def test_futures_routes_keep_to_their_streams(self) -> None:
        """/public and /market acknowledge every stream and carry only their own; without a route
        all are carried.
        """
        names = [
            "btcusdt@depth@100ms",
            "btcusdt@bookTicker",
            "btcusdt@aggTrade",
            "btcusdt@markPrice",
        ]
        request = {"method": "SUBSCRIBE", "params": names, "id": 1}
        for route, carried in (("/public", names[:2]), ("/market", names[2:]), ("", names)):
            one = session("binance_futures", f"{route}/ws")
            assert answer(one, request) == [{"result": None, "id": 1}]
            assert one.streams() == carried

    def test_routes_of_frames(self) -> None:
        """A combined frame names its stream; a raw one is told by event type and symbol, spot's
        bookTicker by its keys.
        """
        binance = DIALECTS["binance"]
        assert binance.route(AGG_TRADE) == Route("btcusdt@aggTrade", "BTCUSDT", False)
        combined = b'{"stream":"btcusdt@depth@100ms","data":' + AGG_TRADE + b"}"
        assert binance.route(combined) == Route("btcusdt@depth@100ms", "BTCUSDT", True)
        assert binance.route(b'{"stream":"btcusdt@depth5","data":{}}') == Route(
            "btcusdt@depth5", "BTCUSDT", False
        )
        ticker = b'{"u":36090299876,"s":"BTCUSDT","b":"28165.47000000","B":"7.98680000","a":"28165.48000000","A":"3.26888000"}'
        assert binance.route(ticker) == Route("btcusdt@bookTicker", "BTCUSDT", False)
        assert binance.route(b'{"e":"kline","s":"BTCUSDT","k":{"i":"1m"}}') == Route(
            "btcusdt@kline_1m", "BTCUSDT", False
        )
        assert binance.route(b'{"e":"serverShutdown","E":1770123456789}') == BROADCAST
        assert binance.route(b'{"result":null,"id":1}') is None
        assert binance.route(b"not json") is None

    def test_depth_speeds_match_one_another(self) -> None:
        """A depth subscription is served at the recorded speed; an exact name wins, other
        channels match exactly.
        """
        resolve = DIALECTS["binance_futures"].resolve
        assert resolve("btcusdt@depth@100ms", {"btcusdt@depth@0ms"}) == "btcusdt@depth@0ms"
        assert resolve("btcusdt@depth", {"btcusdt@depth@500ms"}) == "btcusdt@depth@500ms"
        assert (
            resolve("btcusdt@depth@100ms", {"btcusdt@depth@0ms": 0, "btcusdt@depth@100ms": 0})
            == "btcusdt@depth@100ms"
        )
        assert resolve("btcusdt@depth", {"btcusdt@depth5"}) == "btcusdt@depth"
        assert resolve("btcusdt@depth@100ms", {"ethusdt@depth@0ms"}) == "btcusdt@depth@100ms"
        assert resolve("btcusdt@trade", {"btcusdt@aggTrade"}) == "btcusdt@trade"


class TestOkx:
    """OKX v5."""

    def test_subscribe_acknowledges_each_argument(self) -> None:
        """One acknowledgement an argument, with the request's id, the argument and the
        connection's id.
        """
        one = session("okx", "/ws/v5/public")
        books, trades = (
            {"channel": "books", "instId": "BTC-USDT"},
            {"channel": "trades", "instId": "BTC-USDT"},
        )
        first, second = answer(one, {"id": "md", "op": "subscribe", "args": [books, trades]})
        assert isinstance(first, dict)
        assert isinstance(second, dict)
        assert first == {"id": "md", "event": "subscribe", "arg": books, "connId": first["connId"]}
        assert second["arg"] == trades
        assert second["connId"] == first["connId"]
        answer(one, {"op": "unsubscribe", "args": [books]})
        assert list(one.streams()) == ["trades:instId=BTC-USDT"]

    def test_ping(self) -> None:
        """The text ping is answered with the text pong."""
        assert session("okx", "/ws/v5/public").receive("ping") == ["pong"]

    @pytest.mark.parametrize(
        ("request_", "code"),
        [
            ("{", "60012"),
            ({"args": []}, "60012"),
            ({"op": "subscribe", "args": []}, "60012"),
            ({"op": "login", "args": [{}]}, "60019"),
            ({"op": "subscribe", "args": ["books"]}, "60013"),
            ({"op": "subscribe", "args": [{"channel": "books"}]}, "60018"),
            (
                {"op": "subscribe", "args": [{"channel": "trades-all", "instId": "BTC-USDT"}]},
                "60018",
            ),
        ],
    )
    def test_wrong_requests_get_the_documented_error(self, request_: object, code: str) -> None:
        """A wrong request is answered with an error event and its documented code, and
        subscribes nothing.
        """
        one = session("okx", "/ws/v5/public")
        (reply,) = answer(one, request_)
        assert isinstance(reply, dict)
        assert (reply["event"], reply["code"]) == ("error", code)
        assert not one.streams()

    def test_business_channels_have_their_own_endpoint(self) -> None:
        """trades-all is accepted on /business only, and the private endpoint does not exist."""
        one = session("okx", "/ws/v5/business")
        (reply,) = answer(
            one, {"op": "subscribe", "args": [{"channel": "trades-all", "instId": "BTC-USDT"}]}
        )
        assert isinstance(reply, dict)
        assert reply["event"] == "subscribe"
        assert DIALECTS["okx"].connect("/ws/v5/private", {}) is None

    def test_routes_of_frames(self) -> None:
        """A frame belongs to its argument, whatever the order of keys; acknowledgements to
        nobody, notices to everyone.
        """
        okx = DIALECTS["okx"]
        assert okx.route(OKX_TRADE) == Route("trades:instId=BTC-USDT-SWAP", "BTC-USDT-SWAP", False)
        books = b'{"arg":{"instId":"BTC-USDT","channel":"books"},"action":"update","data":[]}'
        assert okx.route(books) == Route("books:instId=BTC-USDT", "BTC-USDT", True)
        assert (
            okx.route(b'{"event":"subscribe","arg":{"channel":"trades","instId":"ETH-USD-211224"}}')
            is None
        )
        assert okx.route(b'{"event":"notice","code":"64008","msg":"upgrade"}') == BROADCAST


class TestUpbit:
    """Upbit."""

    def test_a_request_replaces_the_subscription(self) -> None:
        """There is no acknowledgement, and the last request is the whole subscription; unit
        counts are not part of a code.
        """
        one = session("upbit", "/websocket/v1")
        first = [
            {"ticket": "t"},
            {"type": "trade", "codes": ["KRW-BTC"]},
            {"type": "orderbook", "codes": ["KRW-BTC.15"]},
            {"format": "SIMPLE"},
        ]
        assert answer(one, first) == []
        assert list(one.streams()) == ["trade:KRW-BTC", "orderbook:KRW-BTC"]
        assert answer(one, [{"ticket": "t"}, {"type": "trade", "codes": ["KRW-ETH"]}]) == []
        assert list(one.streams()) == ["trade:KRW-ETH"]

    def test_ping(self) -> None:
        """The text PING is answered with the status message."""
        assert session("upbit", "/websocket/v1").receive("PING") == ['{"status":"UP"}']

    @pytest.mark.parametrize(
        ("request_", "name"),
        [
            ("x", "WRONG_FORMAT"),
            ({"ticket": "t"}, "WRONG_FORMAT"),
            ([{"type": "trade", "codes": ["KRW-BTC"]}], "NO_TICKET"),
            ([{"ticket": "t"}], "NO_TYPE"),
            ([{"ticket": "t"}, {"codes": ["KRW-BTC"]}], "NO_TYPE"),
            ([{"ticket": "t"}, {"type": "trade"}], "NO_CODES"),
            ([{"ticket": "t"}, {"type": "trade", "codes": []}], "INVALID_PARAM"),
            (
                [{"ticket": "t"}, {"type": "trade", "codes": ["KRW-BTC"]}, {"format": "XML"}],
                "INVALID_PARAM",
            ),
        ],
    )
    def test_wrong_requests_get_the_documented_error(self, request_: object, name: str) -> None:
        """A wrong request is answered with the error's documented name, and leaves the
        subscription as it was.
        """
        one = session("upbit", "/websocket/v1")
        answer(one, [{"ticket": "t"}, {"type": "trade", "codes": ["KRW-BTC"]}])
        (reply,) = answer(one, request_)
        assert isinstance(reply, dict)
        assert reply["error"]["name"] == name
        assert list(one.streams()) == ["trade:KRW-BTC"]

    def test_routes_of_frames(self) -> None:
        """Both key spellings name type and code."""
        upbit = DIALECTS["upbit"]
        assert upbit.route(
            b'{"type":"orderbook","code":"KRW-BTC","timestamp":1788335180423}'
        ) == Route("orderbook:KRW-BTC", "KRW-BTC", True)
        assert upbit.route(b'{"ty":"trade","cd":"KRW-IQ","tms":1617646621082}') == Route(
            "trade:KRW-IQ", "KRW-IQ", False
        )
        assert upbit.route(b'[{"ty":"trade","cd":"KRW-IQ","tms":1617646621082}]') == Route(
            "trade:KRW-IQ", "KRW-IQ", False
        )
        assert upbit.route(b'{"status":"UP"}') is None


class TestVenueOfARecording:
    """Which venue a file is of."""

    @pytest.mark.parametrize(
        ("path", "venue"),
        [
            ("captures/binance/cf_20210814_spot.jsonl", "binance"),
            ("captures/okx/cf_20220513_v5_books.jsonl", "okx"),
            ("captures/long/binance_spot_btcusdt_20240808.jsonl.gz", "binance"),
            ("captures/long/binance_futures_usdm_btcusdt_20240808.jsonl.gz", "binance_futures"),
            ("captures/long/binance_usdm_btcusdt_20230404.jsonl.gz", "binance_futures"),
            ("captures/long/binance_coinm_btcusd_perp_20240808.jsonl.gz", "binance_coinm"),
        ],
    )
    def test_folder_then_prefix(self, path: str, venue: str) -> None:
        """The folder names the venue, else the beginning of the file's name does."""
        assert guess_venue(Path(path)) == venue

    def test_unknown_is_an_error_that_names_the_file(self) -> None:
        """A file of no known venue, or a venue without a dialect, is refused with the file's
        name.
        """
        with pytest.raises(UnknownVenueError, match=r"tape\.jsonl.*--venue"):
            guess_venue(Path("somewhere/tape.jsonl"))
        with pytest.raises(UnknownVenueError, match=r"tape\.jsonl.*'nyse'"):
            by_venue([Path("somewhere/tape.jsonl")], "nyse")

    def test_files_are_grouped_in_order(self) -> None:
        """One group a venue, files in the order given."""
        paths = [Path("binance/b.jsonl"), Path("okx/a.jsonl"), Path("binance/a.jsonl")]
        assert by_venue(paths) == {"binance": [paths[0], paths[2]], "okx": [paths[1]]}
