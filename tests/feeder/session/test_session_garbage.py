"""Whatever bytes a venue sends: put aside with a reason and counted, no exception, no guess, and
the next message is handled.

Mutations start from frames in the documented layouts and from recorded ones.
"""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.feeder.record.recording import read
from tapecast.feeder.session.session import CommandKind
from tapecast.protocol.codec import decode, walk
from tests.support.captures import captures
from tests.support.feeder_frames import (
    RECV_NS,
    Feed,
    okx_books,
    okx_trade,
    spot_body,
    spot_depth,
    spot_ticker,
    spot_trade,
    upbit_book,
    upbit_trade,
    usdm_depth,
)

UNIT = ("116538000", "0.06612366", "116539000.0", "2.054761E-2")
LEVELS = [("0.00001150", "120.50000000"), ("0.00001149", "0.00000000")]
GOOD = {
    "binance": (
        spot_trade("0.00001150", "3.00000000"),
        spot_ticker(LEVELS[0], ("0.00001151", "2")),
        spot_depth(101, 105, LEVELS, [("0.00001151", "2")]),
    ),
    "binance_futures": (
        usdm_depth(101, 105, 100, [("60000.10", "1.5")], [("60000.20", "2")], symbol="LRCBTC"),
    ),
    "okx": (
        okx_books("snapshot", 342177336945, -1, [("84000.1", "1")], [("84000.2", "2")]),
        okx_books(
            "update", 342177337045, 342177336945, [("84000.1", "0")], [], checksum=-855196043
        ),
        okx_trade("84000.1", "7"),
    ),
    "upbit": (upbit_book([UNIT, UNIT]), upbit_trade("91361000", "0.01275549")),
}
SYMBOL = {
    "binance": "LRCBTC",
    "binance_futures": "LRCBTC",
    "okx": "BTC-USDT-SWAP",
    "upbit": "KRW-BTC",
}
PROOF = {
    "binance": spot_trade("0.00001150", "3.00000000"),
    "binance_futures": (
        b'{"e":"aggTrade","E":1,"s":"LRCBTC","a":1,"p":"1.5","q":"2","f":1,"l":1,"T":1633998512345,"m":true}'
    ),
    "okx": okx_trade("84000.1", "7"),
    "upbit": upbit_trade("91361000", "0.01275549"),
}
"""A good message of each venue that becomes exactly one trade, whatever came before."""
VENUES = sorted(GOOD)


def fresh(name: str) -> Feed:
    """Return a feed whose session never asks for a new connection of its own."""
    return Feed(name, SYMBOL[name], quarantine_limit=10**9)


def survives(feed: Feed, name: str, frame: bytes) -> None:
    """Feed one frame; then a good one, which must come out right; every packet must be valid."""
    feed.packets = b""
    feed.frame(frame)
    events = [event for event in feed.frame(PROOF[name]) if event["type"] == "trade"]
    assert len(events) == 1, frame[:200]
    for packet in walk(feed.packets):
        decode(packet)
    feed.session.commands.clear()
    feed.session.quarantined.clear()


BAD_JSON = [
    b"",
    b" ",
    b"null",
    b"true",
    b"0",
    b"[]",
    b"{}",
    b'"text"',
    b"{",
    b"}",
    b"\x00",
    b"\xff\xfe\xfd",
    b"\xef\xbb\xbf{}",
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":01}',
    b'{"a":1}{"a":1}',
    b'{"a":"\\ud800"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\n"}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 10_000 + b"]" * 10_000,
    b'{"data":' * 5_000 + b"{}" + b"}" * 5_000,
    b"9" * 1_000_000,
    b'{"' + b"k" * 1_000_000 + b'":1}',
]


@pytest.mark.parametrize("name", VENUES)
def test_what_is_no_message_at_all_is_put_aside_one_by_one(name: str) -> None:
    """Empty, cut, not JSON, not UTF-8, nested without end: each counted once, and the feed
    goes on.
    """
    feed = fresh(name)
    for number, frame in enumerate(BAD_JSON, 1):
        before = feed.session.counts["quarantine"]
        feed.session.on_frame("ws.1", frame, RECV_NS, feed.now_ns)
        assert feed.session.counts["quarantine"] == before + 1, frame[:60]
        (message,) = feed.session.quarantined
        assert message.data == frame
        assert message.reason
        survives(feed, name, frame)
        assert feed.session.counts["quarantine"] == 2 * number


@pytest.mark.parametrize("name", VENUES)
def test_every_beginning_of_a_good_message_is_put_aside(name: str) -> None:
    """A message cut anywhere says nothing."""
    for good in GOOD[name]:
        feed = fresh(name)
        for end in range(len(good)):
            assert feed.frame(good[:end]) == [], good[:end]
        assert feed.session.counts["quarantine"] == len(good)
        survives(feed, name, good)


WRONG = [
    None,
    True,
    False,
    [],
    {},
    [[]],
    [["1"]],
    [[1, 2]],
    "",
    "x",
    "-1",
    "1e",
    "0x10",
    " 1",
    "1,5",
    "NaN",
    -1,
    1.5,
    "1e999999999",
    10**400,
]


def places(tree: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value in a JSON tree."""
    if path:
        yield path
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from places(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from places(value, (*path, index))


def replaced(tree: object, path: tuple[str | int, ...], value: object) -> object:
    """Return a tree with another value at a path; `...` removes it."""
    copy = json.loads(json.dumps(tree))
    node = copy
    for step in path[:-1]:
        node = node[step]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return copy


@pytest.mark.parametrize("name", VENUES)
def test_wrong_types_and_missing_fields_never_raise_and_never_become_numbers(name: str) -> None:
    """Every value of every message, replaced by every wrong one or removed: no exception, no
    invented price, quantity or side.
    """
    for good in GOOD[name]:
        feed = fresh(name)
        tree = json.loads(good)
        for path in places(tree):
            for wrong in (..., *WRONG):
                frame = json.dumps(replaced(tree, path, wrong)).encode()
                feed.packets = b""
                feed.session.on_frame("ws.1", frame, RECV_NS, feed.now_ns)
                for event in feed.flush():
                    assert event.get("price") != "0", (path, wrong)
                    assert event.get("quantity") != "0" or wrong in ("0", 0), (path, wrong)
                    assert event.get("side", "buy") in ("buy", "sell"), (path, wrong)
                survives(feed, name, b"")


@pytest.mark.parametrize("name", VENUES)
def test_fields_that_are_not_known_are_passed_over(name: str) -> None:
    """Venues add fields: the events stay the same."""
    for good in GOOD[name]:
        tree = json.loads(good, parse_float=str) if name != "upbit" else None
        if tree is None:
            extra = good[:-1] + b',"new":{"a":[1,{"b":null}],"c":"\xe2\x82\xac"}}'
        else:
            inner = tree.get("data", tree)
            target = inner[0] if isinstance(inner, list) else inner
            target["zz_new"] = {"a": [1, {"b": None}], "c": "\u20ac"}
            extra = json.dumps(tree, ensure_ascii=False).encode()
        assert fresh(name).frame(extra) == fresh(name).frame(good)
        assert extra != good


def test_messages_of_eight_mebibytes_are_handled() -> None:
    """As padding, as one long text, as levels: understood or put aside, never fatal, and what is
    kept is bounded.
    """
    feed = fresh("binance")
    size = 8 << 20
    padded = spot_trade("0.00001150", "3").replace(
        b'"M":true', b'"M":true,"pad":"' + b"x" * size + b'"'
    )
    assert [event["type"] for event in feed.frame(padded)] == ["trade"]
    feed.frame(b'{"e":"trade","s":"' + b"A" * size + b'"}')
    feed.frame(spot_trade("0.00001150", "3", symbol="A" * size))
    feed.frame(spot_trade("1" * size, "3"))
    feed.frame(b"\xff" * size)
    reasons = [message.reason for message in feed.session.quarantined]
    assert len(reasons) == 4
    assert max(map(len, reasons)) <= 300
    assert all(
        message.symbol is None or len(message.symbol) < 1000 for message in feed.session.quarantined
    )
    for _ in range(40):
        feed.frame(b"\xff" * size)
    assert sum(len(message.data) for message in feed.session.quarantined) < 80 << 20
    assert feed.session.counts["quarantine"] == 44
    survives(feed, "binance", b"")


def test_quarantine_is_bounded_and_nothing_grows_with_garbage() -> None:
    """Fifty thousand bad messages: counted all, kept a thousand, memory as after the first
    thousands.
    """
    feed = Feed("binance", "LRCBTC")
    rng = random.Random(7)

    def garbage(count: int) -> None:
        for _ in range(count):
            feed.session.on_frame(
                "ws.1", b'{"e":"trade","s":"X%d"' % rng.randrange(10**9), RECV_NS, feed.now_ns
            )
            feed.session.commands.clear()

    garbage(5_000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        garbage(45_000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert feed.session.counts["quarantine"] == 50_000
    assert len(feed.session.quarantined) == 1000
    assert grown < 100_000


def test_unknown_symbols_of_a_live_feed_are_put_aside_and_not_entered() -> None:
    """A stream nobody subscribed: its symbols do not fill the tables."""
    feed = fresh("binance")
    for number in range(2000):
        feed.frame(spot_trade("1", "1", symbol=f"X{number}USDT"))
    assert len(feed.session.instruments) == 1
    assert feed.session.counts["quarantine"] == 2000


def test_too_many_bad_messages_in_a_window_ask_for_a_new_connection() -> None:
    """20 within 10 s of one connection; spread out, or over connections, they do not."""
    feed = Feed("binance", "LRCBTC")
    for _ in range(19):
        feed.frame(b"{")
    assert feed.session.commands == []
    feed.frame(b"{")
    (command,) = feed.session.commands
    assert (command.kind, command.connection) == (CommandKind.RECONNECT, "ws.1")
    feed.session.commands.clear()
    for _ in range(19):
        feed.frame(b"{")
    assert feed.session.commands == [], "counting starts anew"
    feed = Feed("binance", "LRCBTC")
    for number in range(100):
        feed.frame(b"{", connection=f"ws.{number % 6}")
        feed.now_ns += 600_000_000
    assert feed.session.commands == []
    feed.session.on_disconnect("ws.1", feed.now_ns, RECV_NS)


def test_bad_rest_bodies_are_put_aside_and_asked_for_again() -> None:
    """An error page instead of a book: quarantined, counted, and the rule plans the next
    request.
    """
    feed = Feed("binance", "LRCBTC")
    feed.frame(spot_depth(99, 100))
    for body in (
        b"<html>",
        b"{}",
        b'{"code":-1003,"msg":"Too many requests"}',
        spot_body(100, [("x", "1")], []),
        b"[" * 100_000,
    ):
        feed.session.commands.clear()
        assert feed.body("LRCBTC", body) == []
        feed.timer(5.0)
        assert [command.kind for command in feed.session.commands] == [CommandKind.FETCH_SNAPSHOT]
    assert feed.session.counts["quarantine"] == 5
    assert [event["type"] for event in feed.body("LRCBTC", spot_body(100, LEVELS[:1], []))] == [
        "book",
        "status",
    ]


@pytest.mark.parametrize("name", VENUES)
@given(
    body=st.one_of(
        st.binary(max_size=200),
        st.recursive(st.none() | st.text(max_size=5) | st.integers(), st.lists),
    )
)
@settings(max_examples=60, deadline=None)
def test_instruments_bodies_of_any_bytes_never_raise(name: str, body: object) -> None:
    """What is no list of instruments is put aside."""
    feed = fresh(name)
    data = (
        body
        if isinstance(body, bytes)
        else json.dumps({"symbols": body, "code": "0", "data": body}).encode()
    )
    feed.session.on_instruments(data, RECV_NS, feed.now_ns)
    survives(feed, name, b"")


def test_instruments_with_impossible_numbers_never_raise() -> None:
    """Ticks and lots without end cost their definition at most."""
    for number in (
        "0",
        "-1",
        "1e-128",
        "1e-200",
        "1e400",
        "9" * 400,
        "x",
        "",
        "0." + "0" * 126 + "1",
    ):
        feed = Feed("binance", quarantine_limit=10**9)
        filters = [
            {"filterType": "PRICE_FILTER", "tickSize": number},
            {"filterType": "LOT_SIZE", "stepSize": number, "minQty": number},
        ]
        entry = {"symbol": "LRCBTC", "baseAsset": "LRC" * 20, "quoteAsset": "B", "filters": filters}
        feed.session.on_instruments(json.dumps({"symbols": [entry]}).encode(), RECV_NS, feed.now_ns)
        feed.session.subscribe(["LRCBTC"], RECV_NS)
        feed.flush()
        survives(feed, "binance", b"")


@pytest.mark.parametrize("name", VENUES)
@given(frame=st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
@settings(max_examples=150, deadline=None)
def test_random_bytes_never_raise(name: str, frame: bytes) -> None:
    """The session lives and the next message is handled."""
    survives(fresh(name), name, frame)


TOKENS = (
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"9" * 30,
    b"-",
    b".",
    b"e",
    b"E-9",
    b"null",
    b"\\",
    b"\\u0000",
    b"\xc3",
    b"true",
)


def mutated(frame: bytes, rng: random.Random) -> bytes:
    """Return a frame with one to four changes of bytes, tokens, order or length."""
    data = bytearray(frame)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                data[at:at] = rng.choice(TOKENS)
            case 2:
                del data[at : at + rng.randrange(1, 12)]
            case 3:
                data[at : at + 4] = rng.choice(TOKENS)
            case 4:
                other = rng.randrange(len(data) + 1)
                data[at:at] = data[other : other + rng.randrange(1, 40)]
            case _:
                del data[at:]
    return bytes(data)


@pytest.mark.parametrize("accept_any", [False, True], ids=["live", "decode"])
@pytest.mark.parametrize("name", VENUES)
def test_mutations_of_good_messages_never_raise(name: str, accept_any: bool) -> None:
    """Two thousand broken messages into one session: it goes on, its packets stay valid, its
    book is whole or is not LIVE.
    """
    rng = random.Random(f"{name} {accept_any}")
    feed = Feed(name, SYMBOL[name], quarantine_limit=10**9, accept_any=accept_any)
    if name == "binance":
        feed.spot_live([("0.00001150", "1")], [("0.00001151", "1")])
    for _ in range(1000):
        survives(feed, name, mutated(rng.choice(GOOD[name]), rng))
        if rng.random() < 0.02:
            feed.body(SYMBOL[name], mutated(spot_body(rng.randrange(90, 120), LEVELS, []), rng))
            feed.timer(1.0)
    for instrument in feed.session.instruments:
        book = feed.session.books.book(instrument.instrument_id)
        assert not instrument.sync.live or (book is not None and book.complete)


RECORDED = {
    "binance": "hft_20240808_spot_btcusdt.jsonl",
    "binance_futures": "hft_20240808_usdm_btcusdt.jsonl",
    "okx": "cf_20220513_v5_books.jsonl",
    "upbit": "cf_20210405_simple.jsonl",
}


@pytest.mark.parametrize("name", VENUES)
def test_only_well_formed_mutations_of_recorded_messages_become_events(name: str) -> None:
    """What is published was JSON to Python's own parser too, and each message is put aside at
    most once.
    """
    rng = random.Random(f"recorded {name}")
    path = captures() / name / RECORDED[name]
    frames = [
        line.raw for line, _ in zip(read([path]), range(400), strict=False) if line.kind == "recv"
    ]
    feed = Feed(name, quarantine_limit=10**9, accept_any=True)
    for _ in range(1500):
        frame = mutated(rng.choice(frames), rng)
        before = feed.session.counts["quarantine"]
        feed.packets = b""
        feed.session.on_frame("ws.1", frame, RECV_NS, feed.now_ns)
        feed.flush()
        put_aside = feed.session.counts["quarantine"] - before
        assert put_aside in (0, 1)
        if feed.packets:
            json.loads(frame)
        for packet in walk(feed.packets):
            decode(packet)
        feed.session.commands.clear()
        feed.session.quarantined.clear()
    assert feed.session.counts["quarantine"] > 300
