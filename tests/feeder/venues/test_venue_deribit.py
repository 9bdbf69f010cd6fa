"""Deribit: what each message variant becomes and what must become nothing; recordings against an
oracle.

Frames are those of `examples.jsonl` and `examples_2026.jsonl` (github
crypto-crawler/crypto-msg-parser, tardis-dev/tardis-node, ziyangliu-666/FastMM,
nemanull/arbitrage-observatory), or layouts of docs.deribit.com with figures that occur there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from tapecast.feeder.decode_command import events
from tapecast.feeder.offline import Offline
from tapecast.feeder.record.recording import read
from tapecast.feeder.session.session import Command, CommandKind
from tapecast.feeder.venues.deribit import VENUE
from tapecast.feeder.venues.spec import Ack, Alive, Ignored, Reply, ServerError, Topic
from tests.support.captures import captures
from tests.support.extract_pair import Pair
from tests.support.feeder_frames import Feed
from tests.support.processes import Net
from tests.support.venue_server import Link, VenueServer, eventually, feeding

RECORDINGS = {"cf_20210405_options.jsonl": (177, 273), "cf_20210722_options.jsonl": (36, 89)}
"""(book changes, tickers) as the README of the recordings counts them; each has ten snapshots
and no trade.
"""
ODD = {
    **dict.fromkeys(range(18, 23), "a REST body"),
    26: "of 2019, without type",
    27: "of 2019, without type",
    34: "a combination",
    35: "a combination",
}
"""Frames of `examples.jsonl` that are nothing of the feed's; line -> why."""


def example(line: int, name: str = "examples") -> bytes:
    """Return a frame of the single messages."""
    raw: str = json.loads(
        (captures() / "deribit" / f"{name}.jsonl").read_text().splitlines()[line - 1]
    )["raw"]
    return raw.encode()


def notification(channel: str, data: object) -> bytes:
    """Return a notification in the documented layout."""
    message = {
        "jsonrpc": "2.0",
        "method": "subscription",
        "params": {"channel": channel, "data": data},
    }
    return json.dumps(message, separators=(",", ":")).encode()


def book(
    kind: str, change_id: int, prev: int | None = None, bids: object = (), asks: object = ()
) -> bytes:
    """Return a book message of ETH-PERPETUAL."""
    data = {
        "timestamp": 1790133840638,
        "type": kind,
        "change_id": change_id,
        "instrument_name": "ETH-PERPETUAL",
    }
    data |= {} if prev is None else {"prev_change_id": prev}
    return notification("book.ETH-PERPETUAL.100ms", data | {"bids": bids, "asks": asks})


def of(kind: str, found: list[Any]) -> list[dict[str, Any]]:
    """Return the events of one type."""
    return [event for event in found if event["type"] == kind]


def made_of(*frames: bytes) -> list[dict[str, Any]]:
    """Return what frames become besides definitions and states."""
    feed = Feed("deribit", accept_any=True)
    found = feed.frame(*frames)
    assert not feed.session.quarantined, feed.session.quarantined
    return [event for event in found if event["type"] not in ("instrument", "status")]


# shapes


def test_a_snapshot_is_a_book() -> None:
    """Price is the second column, amount the third; whole amounts are written without a point."""
    (event,) = made_of(example(3, "examples_2026"))
    assert (event["symbol"], event["kind"], event["snapshot"]) == (
        "ETH-PERPETUAL",
        "perpetual",
        True,
    )
    assert event["bids"] == [["2772.65", "2700"], ["2772.6", "7414"], ["2772.55", "7697"]]
    assert event["asks"] == [["2772.7", "53"], ["2773.05", "4200"], ["2773.1", "35"]]
    assert event["ts_exchange_ns"] == 1_790_133_840_638_000_000


def test_a_change_follows_and_deletes() -> None:
    """Exponents are read exactly, and a deleted level has the quantity 0 (book_perpetual of
    FastMM, 2026).
    """
    snapshot = json.loads(example(23))
    del snapshot["params"]["data"]["prev_change_id"]
    snapshot["params"]["data"] |= {
        "type": "snapshot",
        "change_id": 118850968930,
        "bids": [["new", 76893.0, 20.0]],
        "asks": [],
    }
    first, second = made_of(json.dumps(snapshot).encode(), example(23))
    assert first["bids"] == [["76893", "20"]]
    assert second["snapshot"] is False
    assert second["bids"][:4] == [
        ["76914", "1000200"],
        ["76899", "10"],
        ["76893", "0"],
        ["76871.5", "3000000"],
    ]
    assert second["asks"] == [["77023", "10"], ["77027.5", "0"], ["115372", "10"]]


def test_option_books_join() -> None:
    """A recorded snapshot of an option and the change behind it, whose other side is empty."""
    first, second = made_of(example(24), example(25))
    assert (first["kind"], first["bids"], first["asks"]) == (
        "option",
        [["0.0065", "10"]],
        [["0.0075", "10"]],
    )
    assert (second["bids"], second["asks"]) == ([["0.0055", "41"]], [])


def test_a_snapshot_may_name_a_predecessor() -> None:
    """`prev_change_id` on a snapshot (LINK_USDC-PERPETUAL, 2022) does not make it a change."""
    (event,) = made_of(example(33))
    assert (event["snapshot"], len(event["bids"]), event["asks"]) == (True, 5, [])


def test_a_change_without_snapshot_waits() -> None:
    """The first message of a book must be its snapshot, even where its predecessor is said to
    be 0.
    """
    assert made_of(example(32)) == []


def test_trades_are_the_takers_with_hashed_ids() -> None:
    """Two executions of one message; ids are texts, so the wire carries their hash."""
    first, second = made_of(example(2))
    number = str(int.from_bytes(blake2b(b"137487241", digest_size=8).digest(), "little"))
    assert (first["symbol"], first["price"], first["quantity"], first["side"]) == (
        "BTC-PERPETUAL",
        "56168",
        "5580",
        "buy",
    )
    assert (first["trade_id"], first["flags"]) == (number, ["hashed_id"])
    assert first["ts_exchange_ns"] == 1_616_321_478_553_000_000
    assert (second["quantity"], second["trade_id"] != number) == ("60", True)


def test_a_channel_of_a_whole_kind_names_instruments_inside() -> None:
    """`trades.option.any.raw`: the instrument is that of the trade, not of the channel."""
    (event,) = made_of(example(3))
    assert (event["symbol"], event["kind"], event["price"], event["quantity"]) == (
        "BTC-26MAR21-62000-C",
        "option",
        "0.007",
        "0.1",
    )


def test_a_seller_that_takes_is_a_sell() -> None:
    """`direction` is the taker's; an id may begin with the currency."""
    data = {
        "trade_seq": 1,
        "trade_id": "ETH-2696068",
        "timestamp": 1616321287195,
        "price": 1800.05,
        "instrument_name": "ETH-PERPETUAL",
        "direction": "sell",
        "amount": 26.0,
    }
    (event,) = made_of(notification("trades.ETH-PERPETUAL.100ms", [data]))
    assert (event["side"], event["price"], event["quantity"]) == ("sell", "1800.05", "26")


def test_quotes_are_best_prices() -> None:
    """Both sides; a side that is null is empty."""
    (event,) = made_of(example(12))
    assert (event["type"], event["bid"], event["ask"]) == (
        "bbo",
        ["32143", "179960"],
        ["32143.5", "20"],
    )
    data = {
        "timestamp": 1654012882984,
        "instrument_name": "BTC-PERPETUAL",
        "best_bid_price": 32143.0,
        "best_bid_amount": 20.0,
    }
    (event,) = made_of(
        notification("quote.BTC-PERPETUAL", data | {"best_ask_price": None, "best_ask_amount": 0.0})
    )
    assert (event["bid"], event["ask"]) == (["32143", "20"], None)


def test_a_ticker_is_statistics_and_never_a_trade() -> None:
    """Mark, index, funding (1.423e-4) and open interest; the last price is nobody's trade."""
    found = made_of(example(8, "examples_2026"))
    assert {event["type"] for event in found} == {"stat"}
    assert {event["kind_of"]: event["value"] for event in found} == {
        "mark_price": "86778.14",
        "index_price": "86744.11",
        "funding_rate": "0.0001423",
        "open_interest": "459.3409",
    }


def test_what_a_ticker_lacks_or_leaves_null_is_left_out() -> None:
    """An option has no funding rate; a null is no zero."""
    found = made_of(example(30))
    assert {event["kind_of"]: event["value"] for event in found} == {
        "mark_price": "0.33859",
        "index_price": "231.54",
        "open_interest": "0",
    }
    data = {
        "timestamp": 1590969597073,
        "instrument_name": "ETH-5JUN20-310-P",
        "mark_price": None,
        "index_price": 231.54,
    }
    (event,) = made_of(notification("ticker.ETH-5JUN20-310-P.raw", data))
    assert event["kind_of"] == "index_price"


@pytest.mark.parametrize("line", [8, 9, 10, 13, 14, 15])
def test_grouped_books_and_charts_become_nothing(line: int) -> None:
    """A cut-off book is another book, a candle is no trade."""
    assert made_of(example(line)) == []


def test_of_the_single_examples_only_the_foreign_ones_are_quarantined() -> None:
    """REST bodies, books of 2019 and combinations are put aside one by one, the rest is
    understood.
    """
    for name, odd in (("examples", set(ODD)), ("examples_2026", set())):
        offline = Offline(VENUE, [captures() / "deribit" / f"{name}.jsonl"])
        found: dict[int, int] = {}
        for step in offline.run():
            if step.quarantined:
                found[offline.lines] = len(step.quarantined)
        assert found == dict.fromkeys(odd, 1)


# control

ACK = Ack(
    "3", accepted=(Topic("book.100ms", "ETH-PERPETUAL"), Topic("book.100ms", "BTC_USDC-PERPETUAL"))
)
TOO_MANY = ServerError("10028", "too_many_requests", "4")
REFUSED_RAW = ServerError("13778", "raw_subscriptions_not_available_for_unauthorized", "5")
TEST = b'{"jsonrpc":"2.0","id":0,"method":"public/test","params":{}}'


@pytest.mark.parametrize(("line", "meaning"), [
    (1, ACK), (5, Reply(TEST)), (6, REFUSED_RAW), (7, ServerError("11050", 'bad_request: "invalid json"')),
])  # fmt: skip
def test_recorded_answers_mean_what_the_venue_documents(line: int, meaning: object) -> None:
    """Accepted channels (those of other books left out), the test request, refusals with their
    details.
    """
    assert VENUE.stream.control(example(line, "examples_2026")) == meaning


@pytest.mark.parametrize(("frame", "meaning"), [
    (b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}', Alive("heartbeat")),
    (b'{"jsonrpc":"2.0","id":9,"result":"ok","usIn":1,"usOut":2,"usDiff":1,"testnet":false}', Ack("9")),
    (b'{"jsonrpc":"2.0","id":0,"result":{"version":"1.2.26"},"testnet":false}', Ack("0")),
    (b'{"jsonrpc":"2.0","id":4,"error":{"code":10028,"message":"too_many_requests"}}', TOO_MANY),
    (notification("platform_state", {}), Ignored("platform_state")),
    (notification("instrument.state.any.any", {}), Ignored("instrument.state.any.any")),
])  # fmt: skip
def test_documented_answers_are_told_apart(frame: bytes, meaning: object) -> None:
    """Heartbeats, plain acknowledgements, errors and channels without use."""
    assert VENUE.stream.control(frame) == meaning


@pytest.mark.parametrize("frame", [
    b"", b"{", b"null", b"[]", b"1", b"\xff\xfe", b'{"data":{}}', b'{"jsonrpc":"2.0","result":[]}',
    b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"other"}}',
    b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"something.new","data":{}}}',
    b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.100ms","data":{"type":"merge"}}}',
])  # fmt: skip
def test_frames_without_evidence_are_not_understood(frame: bytes) -> None:
    """Garbage, REST bodies, unknown channels and variants go to quarantine."""
    assert VENUE.stream.control(frame) is None


def test_a_test_request_is_answered_with_the_next_flush() -> None:
    """The session asks its shell to send the answer on the connection that was asked; it is not
    data.
    """
    feed = Feed("deribit")
    feed.session.on_connect("ws.7", 5, 5)
    feed.frame(example(5, "examples_2026"), connection="ws.7")
    assert feed.session.commands == [Command(CommandKind.SEND, connection="ws.7", frame=TEST)]
    assert feed.session.last_data_ns["ws.7"] == 5


async def test_the_shell_answers_at_once(tmp_path: Path) -> None:
    """A live feeder sets the heartbeat, subscribes, and answers a test request without waiting
    for a timer.
    """

    async def ask(link: Link) -> None:
        await eventually(lambda: any(b"set_heartbeat" in message for message in server.heard))
        await link.send('{"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}')

    server = VenueServer(ask)
    async with server.running(), feeding("deribit", server, Net(), tmp_path):
        await eventually(lambda: TEST in server.heard)
        assert json.loads(server.heard[0])["method"] == "public/set_heartbeat"


def test_what_the_venue_did_not_accept_is_complained_of() -> None:
    """An unknown channel is merely missing in the answer: the operator is told which."""
    feed = Feed("deribit")
    feed.session.on_request(
        "ws.1", "3", [*(ACK.accepted or ()), Topic("book.100ms", "DOGE-PERPETUAL")]
    )
    feed.frame(example(1, "examples_2026"))
    (command,) = feed.session.commands
    assert (command.kind, command.connection) == (CommandKind.COMPLAIN, "ws.1")
    assert command.reason == "1 of 3 topics not accepted: book.100ms DOGE-PERPETUAL"
    feed.session.commands.clear()
    feed.frame(example(1, "examples_2026"))
    feed.session.on_request("ws.1", "3", ACK.accepted or ())
    feed.frame(example(1, "examples_2026"))
    assert feed.session.commands == []


# the chain


def test_a_broken_chain_is_a_gap_and_asks_for_a_new_subscription() -> None:
    """A change whose predecessor is not the last one: nothing of it is published, the topic is
    subscribed again.
    """
    feed = Feed("deribit", "ETH-PERPETUAL")
    assert len(of("book", feed.frame(book("snapshot", 100, bids=[["new", 2772.65, 2700]])))) == 1
    assert len(of("book", feed.frame(book("change", 107, 100, [["change", 2772.65, 10]])))) == 1
    found = feed.frame(book("change", 130, 120, [["delete", 2772.65, 0]]))
    assert [(event["expected"], event["got"]) for event in of("gap", found)] == [(107, 120)]
    assert of("book", found) == []
    assert [command.kind for command in feed.session.commands] == [CommandKind.RESUBSCRIBE]
    (again,) = of("book", feed.frame(book("snapshot", 140, bids=[["new", 2772.6, 5]])))
    assert again["snapshot"] is True


# recordings

Sides = tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]


def messages(file: str) -> Iterator[tuple[str, Any]]:
    """Yield (channel's name, data) of every notification of a recording; numbers are texts."""
    for row in map(json.loads, (captures() / "deribit" / file).read_text().splitlines()):
        body = (
            json.loads(row["raw"], parse_float=str, parse_int=str) if row["kind"] == "recv" else {}
        )
        if body.get("method") == "subscription":
            yield body["params"]["channel"].partition(".")[0], body["params"]["data"]


def text(raw: str) -> str:
    """Return the minimal decimal text of a number."""
    number = Decimal(raw)
    return f"{number.normalize():f}" if number else "0"


def apply(sides: Sides, event: Any, *, snapshot: bool) -> None:
    """Bring a book up to an event; rows are (price, quantity)."""
    for side, rows in zip(sides, (event["bids"], event["asks"]), strict=True):
        if snapshot:
            side.clear()
        for price, quantity in rows:
            if Decimal(quantity):
                side[Decimal(price)] = Decimal(quantity)
            else:
                side.pop(Decimal(price), None)


@pytest.mark.parametrize("file", [*RECORDINGS, "examples.jsonl", "examples_2026.jsonl"])
def test_both_extractors_say_the_same(file: str) -> None:
    """Every frame at each instrument's first exponents and where they fit: the C extractor
    declines none and agrees.
    """
    pair = Pair(VENUE.stream.shapes)
    for line in read([captures() / "deribit" / file]):
        if line.kind == "recv":
            pair.settle(line.raw)
    assert pair.declined == 0


@pytest.mark.parametrize("file", RECORDINGS)
def test_every_event_of_a_recording_is_what_its_raw_messages_say(file: str) -> None:
    """Books, statistics, times and order against a second reading with `json`; no gap, no
    crossing, no quarantine.
    """
    offline = Offline(VENUE, [captures() / "deribit" / file])
    found = list(events(offline))
    assert {event["type"] for event in found} == {"book", "instrument", "stat", "status"}
    assert offline.session.books.crossed_events == 0
    story = list(messages(file))
    books = [data for name, data in story if name == "book"]
    tickers = [data for name, data in story if name == "ticker"]
    assert len(story) == len(books) + len(tickers)
    assert (len(books) - 10, len(tickers)) == RECORDINGS[file]

    ids: dict[str, str] = {}
    ours = of("book", [event for event in found if "recovered" not in event["flags"]])
    for event, data in zip(ours, books, strict=True):
        snapshot = data["type"] == "snapshot"
        assert snapshot or data["prev_change_id"] == ids[data["instrument_name"]], (
            "the oracle sees a gap"
        )
        ids[data["instrument_name"]] = data["change_id"]
        rows = [
            [[text(price), text(amount)] for _, price, amount in data[side]]
            for side in ("bids", "asks")
        ]
        assert (event["symbol"], event["snapshot"]) == (data["instrument_name"], snapshot)
        assert [event["bids"], event["asks"]] == rows
        assert event["ts_exchange_ns"] == int(data["timestamp"]) * 10**6

    names = {
        "mark_price": "mark_price",
        "index_price": "index_price",
        "open_interest": "open_interest",
    }
    expected = [
        (data["instrument_name"], kind, text(data[key]), int(data["timestamp"]) * 10**6)
        for data in tickers
        for kind, key in names.items()
        if data.get(key) is not None
    ]
    assert [
        (e["symbol"], e["kind_of"], e["value"], e["ts_exchange_ns"]) for e in of("stat", found)
    ] == expected

    final: dict[str, Sides] = {}
    for data in books:
        rows_of = {
            side: [(price, amount) for _, price, amount in data[side]] for side in ("bids", "asks")
        }
        apply(
            final.setdefault(data["instrument_name"], ({}, {})),
            rows_of,
            snapshot=data["type"] == "snapshot",
        )
    for symbol, sides in final.items():
        assert not (sides[0] and sides[1]) or max(sides[0]) < min(sides[1])
        own = offline.session.books.book(offline.session.by_symbol[symbol].instrument_id)
        assert own is not None
        bids, asks = (
            {
                Decimal(price).scaleb(own.price_exp): Decimal(quantity).scaleb(own.qty_exp)
                for price, quantity in side
            }
            for side in own.levels()
        )
        assert (bids, asks) == sides, symbol
