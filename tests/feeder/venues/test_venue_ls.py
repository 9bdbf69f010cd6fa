"""LS Securities: documented messages and the recordings cut by their recorder, the count of
trades, market states, subscriptions.

Nothing here is from the live venue (docs/venues/ls.md).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tapecast.feeder.decode_command import events
from tapecast.feeder.offline import Offline
from tapecast.feeder.record.recording import read
from tapecast.feeder.session.session import CommandKind
from tapecast.feeder.venues.ls import LOGIN, VENUE
from tapecast.feeder.venues.spec import Ack, Control, Ignored, MarketState, ServerError, Topic
from tapecast.protocol.codec import decode, walk
from tapecast.protocol.decimals import format_decimal, parse_decimal
from tapecast.protocol.records import TradeItem
from tapecast.protocol.render import EventDict
from tapecast.protocol.schema import InstrumentKind, InstrumentState
from tests.support.captures import captures, recordings
from tests.support.feeder_frames import Feed
from tests.support.ls_frames import BOOKS, JIF, TRADES, book, message, trade

SECOND, HOUR = 10**9, 3600 * 10**9
MIDNIGHT = int(datetime(2025, 11, 25, 15, tzinfo=UTC).timestamp()) * SECOND
"""26 November 2025, 00:00 in Korea."""
MORNING = MIDNIGHT + 9 * HOUR
STOCK = "015760"
"""Of the recording of that day, whose first trades are 72 at 53,500 and 26 at 53,500, both
bought.
"""


def at(feed: Feed, ts_recv_ns: int, *frames: bytes) -> list[EventDict]:
    """Hand frames to a session at a receive time; return what it published."""
    for frame in frames:
        feed.session.on_frame("ws.1", frame, ts_recv_ns, feed.now_ns)
    return feed.flush()


def of(kind: str, found: list[EventDict]) -> list[EventDict]:
    """Return the events of a type."""
    return [event for event in found if event["type"] == kind]


def ids(found: list[EventDict]) -> list[object]:
    """Return the ids of the trades."""
    return [event["trade_id"] for event in of("trade", found)]


def stock_trade(quantity: int, volume: int, *, time: str = "101125", side: str = "+") -> bytes:
    """Return a trade of the recorded stock with another count, to lose or repeat some."""
    return trade("S3_", STOCK, time, "53500", str(quantity), side, str(volume))


# recordings


def test_cut_recordings_give_every_trade_they_hold() -> None:
    """Price, quantity and side as recorded, the symbol of the connection; no time, because no
    date is there, and no id.
    """
    seen = 0
    for file in recordings("ls"):
        if "reduced" not in file.name:
            continue
        offline = Offline(VENUE, [file])
        found = list(events(offline))
        wanted = [json.loads(line.raw) for line in read([file])]
        trades = of("trade", found)
        assert len(trades) == len(wanted)
        assert not of("quarantine", found)
        assert not of("gap", found)
        for event, raw in zip(trades, wanted, strict=True):
            assert (event["price"], event["quantity"]) == (raw["price"], raw["cvolume"])
            assert event["side"] == {"+": "buy", "-": "sell"}[raw["cgubun"]]
            assert (event["symbol"], event["ts_exchange_ns"], event["trade_id"]) == (
                file.name.split("_")[1],
                0,
                "0",
            )
            assert "bad_ts_exchange" in event["flags"]  # type: ignore[operator]
        seen += len(trades)
    assert seen == 9309


def test_a_line_that_is_cut_further_is_put_aside() -> None:
    """Without a price there is no trade, and of an unknown connection no symbol."""
    assert VENUE.recordings.reduced is not None
    frame = VENUE.recordings.reduced(
        "ws:005930", b'{"chetime": "092619", "cvolume": "100", "cgubun": "-"}'
    )
    feed = Feed("ls", "005930")
    assert frame is not None
    assert not of("trade", feed.frame(frame))
    assert feed.session.counts["quarantine"] == 1
    assert VENUE.recordings.reduced("ws", b"{}") is None
    assert VENUE.recordings.reduced("ws:BTC", b"{}") is None


def test_the_documentations_own_examples() -> None:
    """Against a second reading: every trade and book of a known code, nothing of the others, and
    lists where there is one.
    """
    file = captures() / "ls/examples.jsonl"
    trades = {"S3_", "NS3", "FC9", "JC0", "OC0"}
    books = {"H1_": ("", 10), "UH1": ("unt_", 10), "FH9": ("", 5), "JH0": ("", 10)}
    feed = Feed("ls", accept_any=True)
    seen = 0
    for line in read([file]):
        if line.kind != "recv":
            continue
        raw = json.loads(line.raw)
        code, body, symbol = raw["header"]["tr_cd"], raw["body"], raw["header"]["tr_key"].strip()
        found = at(feed, 0, line.raw)
        if code in trades:
            (event,) = of("trade", found)
            assert Decimal(str(event["price"])) == Decimal(body["price"])
            assert (event["symbol"], event["quantity"], event["trade_id"]) == (
                symbol,
                body["cvolume"],
                body["volume"],
            )
            assert event["side"] == {"+": "buy", "-": "sell"}[body["cgubun"]]
        elif code in books:
            part, count = books[code]
            (event,) = of("book", found)
            for side, name in (("bids", "bid"), ("asks", "offer")):
                pairs = [
                    (body[f"{name}ho{n}"], body[f"{part}{name}rem{n}"]) for n in range(1, count + 1)
                ]
                expected = [[Decimal(p), Decimal(q)] for p, q in pairs if Decimal(p) and Decimal(q)]
                # type: ignore[union-attr,misc]
                assert [[Decimal(p), Decimal(q)] for p, q in event[side]] == expected
            assert event["symbol"] == symbol
        else:
            assert not found, code
            continue
        seen += 1
    assert seen == 10
    assert feed.session.counts["quarantine"] == 0


# messages


@pytest.mark.parametrize("code", TRADES)
def test_trades_of_every_market(code: str) -> None:
    """Symbol without padding, exact price, the taker's side, the day's volume as id, the time of
    day on the receive date.
    """
    frame, symbol, price, quantity, side, number = TRADES[code]
    (event,) = of("trade", at(Feed("ls", symbol), MORNING, frame))
    assert (event["symbol"], event["price"], event["quantity"]) == (symbol, price, quantity)
    assert (event["side"], event["trade_id"]) == (side, number)


@pytest.mark.parametrize("code", BOOKS)
def test_books_of_every_market(code: str) -> None:
    """The whole book each time, without the levels that are 0; of the unified market the sums of
    both exchanges.
    """
    frame, symbol, bids, asks = BOOKS[code]
    feed = Feed("ls", symbol)
    found = at(feed, MORNING, frame)
    (event,) = of("book", found)
    for side, wanted in (("bids", bids), ("asks", asks)):
        assert event[side] == [
            [format_decimal(*parse_decimal(price)), quantity] for price, quantity in wanted
        ]
    assert event["snapshot"]
    assert {"top_only", "bad_ts_exchange"} <= set(event["flags"])
    assert [status["state"] for status in of("status", found)] == ["live"]
    assert of("book", at(feed, MORNING, frame)), "an equal book is said again: the venue did so"


def test_a_trades_code_is_never_a_books() -> None:
    """S3_ is the trade and H1_ the book; a body under the other's code is not understood, and
    never guessed.
    """
    feed = Feed("ls", "005930")
    swapped_book = BOOKS["H1_"][0].replace(b'"H1_"', b'"S3_"')
    swapped_trade = TRADES["S3_"][0].replace(b'"S3_"', b'"H1_"')
    assert at(feed, MORNING, swapped_book, swapped_trade) == []
    assert feed.session.counts["quarantine"] == 2


@pytest.mark.parametrize(
    ("change", "side", "good"),
    [
        ({"cgubun": ""}, "unknown", True),
        ({"cgubun": " "}, "unknown", True),
        ({"cgubun": "1"}, "", False),
        ({"price": ""}, "", False),
        ({"price": " "}, "", False),
        ({"cvolume": ""}, "", False),
        ({"cvolume": "-1"}, "", False),
        ({"volume": " "}, "", False),
        ({"chetime": ""}, "buy", True),
        ({"chetime": "9:08"}, "", False),
        ({"exchname": "", "w_avrg": " "}, "buy", True),
    ],
)
def test_blank_fields_of_a_trade(change: dict[str, str], side: str, good: bool) -> None:
    """A blank side is unknown and a blank time too; a trade without price, quantity or count is
    put aside, not published as 0.
    """
    feed = Feed("ls", "005930")
    frame = trade("S3_", "005930", "090851", "55550", "1", "+", "10887", **change)
    found = of("trade", at(feed, MORNING, frame))
    assert len(found) == good
    assert feed.session.counts["quarantine"] == 1 - good
    if good:
        assert found[0]["side"] == side
        assert (found[0]["ts_exchange_ns"] == 0) is ("chetime" in change)


def test_levels_that_are_no_levels() -> None:
    """Price 0 or blank: no level; an empty book is a book; a price without a quantity is not
    understood.
    """
    feed = Feed("ls", "005930")
    bids, asks = (
        [("72300", "70581"), ("", ""), ("72100", "156534")],
        [("0", "100"), ("72500", "0"), (" ", "0")],
    )
    (event,) = of("book", at(feed, MORNING, book("H1_", "005930", "084242", bids, asks, 10)))
    assert (event["bids"], event["asks"]) == ([["72300", "70581"], ["72100", "156534"]], [])
    (event,) = of("book", at(feed, MORNING, book("H1_", "005930", "084242", [], [], 10)))
    assert (event["bids"], event["asks"]) == ([], [])
    assert at(feed, MORNING, book("H1_", "005930", "084242", [("72300", " ")], [], 10)) == []
    assert at(feed, MORNING, book("H1_", "005930", "084242", [], [], 9)) == []
    assert feed.session.counts["quarantine"] == 2


def test_padded_keys_are_the_symbol() -> None:
    """As the venue was seen to write them: a space before, spaces behind."""
    feed = Feed("ls", "U005930")
    frame = trade("US3", " U005930  ", "100000", "61200", "1", "+", "100")
    assert [event["symbol"] for event in of("trade", at(feed, MORNING, frame))] == ["U005930"]
    assert at(feed, MORNING, trade("US3", "U000660   ", "100000", "61200", "1", "+", "100")) == []
    assert feed.session.quarantined[-1].reason == "'U000660' was not subscribed"


@pytest.mark.parametrize(("exchange", "code"), [("KRX", 1), ("NXT", 2), ("", 0)])
def test_a_unified_trade_says_where_it_took_place(exchange: str, code: int) -> None:
    """By the condition of the trade; a blank is none."""
    feed = Feed("ls", "U005930")
    feed.packets = b""
    at(
        feed,
        MORNING,
        trade("US3", "U005930   ", "100000", "61200", "1", "+", "100", exchname=exchange),
    )
    (item,) = [
        item
        for packet in walk(feed.packets)
        for item in decode(packet)[1]
        if isinstance(item, TradeItem)
    ]
    assert item.condition == code


def test_bids_above_asks_are_no_fault_here() -> None:
    """In call auctions, and in the book of two exchanges, they cross."""
    feed = Feed("ls", "U005930")
    crossed = book(
        "UH1", "U005930   ", "151545", [("61300", "5")], [("61200", "5")], 10, part="unt_"
    )
    for _ in range(200):
        feed.now_ns += SECOND
        assert of("book", at(feed, MORNING, crossed))
    assert feed.session.live_books() == 1


# the count of trades


def test_volumes_that_join_are_no_loss() -> None:
    """The first trade begins the count, wherever it stands; each further one adds its own
    quantity.
    """
    feed = Feed("ls", STOCK)
    found = at(
        feed,
        MORNING,
        stock_trade(72, 1_000_072),
        stock_trade(26, 1_000_098),
        stock_trade(86, 1_000_184, side="-"),
    )
    assert ids(found) == ["1000072", "1000098", "1000184"]
    assert not of("gap", found)
    assert feed.session.counts["gaps"] == 0


def test_a_volume_that_grew_by_more_is_a_loss() -> None:
    """Said before the trade that showed it, with the volume that was expected; the book is not
    in doubt.
    """
    feed = Feed("ls", STOCK)
    at(
        feed,
        MORNING,
        book("H1_", STOCK, "101125", [("53400", "1")], [("53500", "1")], 10),
        stock_trade(72, 1000),
    )
    found = at(feed, MORNING, stock_trade(26, 1100))
    assert [event["type"] for event in found] == ["gap", "trade"]
    assert (found[0]["expected"], found[0]["got"], found[0]["symbol"]) == (1026, 1100, STOCK)
    assert feed.session.counts["gaps"] == 1
    assert feed.session.live_books() == 1
    assert ids(at(feed, MORNING, stock_trade(5, 1105))) == ["1105"], "from there on it joins again"
    assert feed.session.counts["gaps"] == 1


def test_a_volume_that_did_not_grow_was_said_before() -> None:
    """The same trade again, and an older one, are counted and not published."""
    feed = Feed("ls", STOCK)
    at(feed, MORNING, stock_trade(72, 1000), stock_trade(26, 1026))
    assert (
        at(feed, MORNING, stock_trade(26, 1026), stock_trade(72, 1000), stock_trade(5, 1026)) == []
    )
    assert feed.session.counts["repeated_trades"] == 3
    assert ids(at(feed, MORNING, stock_trade(4, 1030))) == ["1030"]
    assert feed.session.counts["gaps"] == 0


def test_the_count_begins_anew_each_day() -> None:
    """At 07:00 in Korea; the night before belongs to the day before, and a volume of another day
    is never compared.
    """
    feed = Feed("ls", STOCK)
    at(feed, MIDNIGHT - HOUR, stock_trade(72, 9000, time="230000"))
    assert ids(at(feed, MIDNIGHT + 5 * HOUR, stock_trade(26, 9026, time="050000"))) == ["9026"]
    found = at(feed, MIDNIGHT + 8 * HOUR, stock_trade(100, 100, time="080000"))
    assert ids(found) == ["100"]
    assert not of("gap", found)
    found = at(feed, MIDNIGHT + 33 * HOUR, stock_trade(10, 5000, time="090000"))
    assert ids(found) == ["5000"]
    assert not of("gap", found)
    assert feed.session.counts["repeated_trades"] == 0


def test_without_receive_times_a_first_trade_begins_the_day() -> None:
    """A smaller volume that is the trade's own quantity is another day's first; any other
    smaller one was said before.
    """
    feed = Feed("ls", STOCK)
    found = at(
        feed,
        0,
        stock_trade(72, 9000),
        stock_trade(26, 26),
        stock_trade(26, 26),
        stock_trade(4, 30),
        stock_trade(2, 9),
    )
    assert ids(found) == ["9000", "26", "30"]
    assert feed.session.counts["repeated_trades"] == 2


def test_instruments_are_counted_apart() -> None:
    """One share on three markets is three instruments."""
    feed = Feed("ls", "005930", "N005930", "U005930")
    for code, key, volume in (
        ("S3_", "005930", "10"),
        ("NS3", "N005930   ", "20"),
        ("US3", "U005930   ", "30"),
    ):
        found = at(feed, MORNING, trade(code, key, "090851", "55600", "1", "+", volume))
        assert ids(found) == [volume]
        assert found[0]["instrument"] == f"ls.equity.{key.strip()}"
    assert feed.session.counts["gaps"] == 0


# times


@pytest.mark.parametrize(
    ("clock", "received", "expected"),
    [
        ("090851", MORNING + 531 * SECOND, MORNING + 531 * SECOND),
        ("235959", MIDNIGHT + SECOND // 2, MIDNIGHT - SECOND),
        ("000001", MIDNIGHT - SECOND // 2, MIDNIGHT + SECOND),
        ("153000", MORNING, 0),
        ("090851", 0, 0),
    ],
)
def test_times_are_dated_across_midnight(clock: str, received: int, expected: int) -> None:
    """The night session's last second of a day is the day before; a clock far from the receive
    time has no known date.
    """
    frame = trade("FC9", "A0166000", clock, "347.80", "3", "+", "51968")
    (event,) = of("trade", at(Feed("ls", "A0166000"), received, frame))
    assert event["ts_exchange_ns"] == expected
    assert "bad_ts_exchange" in event["flags"]  # type: ignore[operator]


# what is no data


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (
            (
                b'{"header":{"rsp_cd":"00000","rsp_msg":"OK","tr_cd":"US3","tr_key":"U005930  '
                b' ","tr_type":"3"},"body":null}'
            ),
            Ack(channel="US3", symbol="U005930"),
        ),
        (
            b'{"header":{"rsp_cd":"IGW00121","rsp_msg":"token","tr_cd":"US3","tr_key":null,"tr_type":"3"},"body":null}',
            ServerError("IGW00121", "token", channel="US3", login=True),
        ),
        (
            b'{"header":{"rsp_cd":"IGW40011","rsp_msg":"x","tr_cd":"US3","tr_key":"U1"},"body":null}',
            ServerError("IGW40011", "x", channel="US3", symbol="U1"),
        ),
        (JIF("1", "21"), MarketState("KOSPI", InstrumentState.TRADING, "KOSPI trading (1 21)")),
        (JIF("2", "61"), MarketState("KOSDAQ", InstrumentState.HALTED, "KOSDAQ halted (2 61)")),
        (
            JIF("5", "61"),
            MarketState("derivatives", InstrumentState.CLOSED, "derivatives closed (5 61)"),
        ),
        (JIF("6", "55"), MarketState("NXT", InstrumentState.TRADING, "NXT trading (6 55)")),
        (JIF("1", "64"), Ignored("JIF 1 64")),
        (JIF("C", "21"), Ignored("JIF C 21")),
        (
            message(
                "YS3", "005930", {"yeprice": "72400", "yevolume": "208335", "hotime": "085201"}
            ),
            Ignored("YS3"),
        ),
        (message("XX_", "005930", {}), None),
        (b"[]", None),
        (b'{"header":1}', None),
        (b'{"header":{"tr_cd":7}}', None),
        (b"\xff", None),
    ],
)
def test_control_messages(frame: bytes, expected: Control | None) -> None:
    """Answers, refusals, market states, known messages without use; anything else is not
    understood.
    """
    assert VENUE.stream.control(frame) == expected


def test_a_refused_token_is_given_up_with_its_connection() -> None:
    """And the operator is told, by the venue's code."""
    feed = Feed("ls", "U005930")
    feed.frame(
        b'{"header":{"rsp_cd":"IGW00121","rsp_msg":"x","tr_cd":"US3","tr_key":""},"body":null}',
        connection="ws.2",
    )
    kinds = [(command.kind, command.connection) for command in feed.session.commands]
    assert kinds == [
        (kind, "ws.2") for kind in (CommandKind.COMPLAIN, CommandKind.LOGIN, CommandKind.RECONNECT)
    ]


# subscriptions


def test_one_message_for_each_subscription() -> None:
    """Keys padded to the market's width, the token put in when it is sent; a symbol is asked for
    only where it has a market.
    """
    (one,) = VENUE.stream.subscribe(
        ["005930", "N005930", "U005930", "A0166000"],
        ["S3_", "H1_", "US3", "UH1", "NS3", "FC9", "JIF"],
        1,
    )
    assert one.topics == (
        Topic("S3_", "005930"),
        Topic("H1_", "005930"),
        Topic("US3", "U005930"),
        Topic("UH1", "U005930"),
        Topic("NS3", "N005930"),
        Topic("FC9", "A0166000"),
    )
    bodies = [json.loads(frame)["body"] for frame in one.frames]
    keys = ["005930", "005930", "U005930   ", "U005930   ", "N005930   ", "A0166000", "0"]
    assert [body["tr_key"] for body in bodies] == keys
    assert json.loads(LOGIN.sign(one.frames[2], 'a"b')) == {
        "header": {"token": 'a"b', "tr_type": "3"},
        "body": {"tr_cd": "US3", "tr_key": "U005930   "},
    }
    *told, state = [VENUE.stream.requested("", frame) for frame in one.frames]
    assert told == [[topic] for topic in one.topics]
    assert state == [], "the market's state is of no symbol"
    assert (
        VENUE.stream.requested(
            "", b'{"header":{"tr_type":"4"},"body":{"tr_cd":"US3","tr_key":"U005930"}}'
        )
        == []
    )
    assert VENUE.stream.requested("", b"x") == []
    with pytest.raises(KeyError):
        VENUE.stream.subscribe(["005930"], ["S4_"], 1)


def test_connections_stay_below_the_venues_limit() -> None:
    """190 subscriptions each; the board of a share is not in its code, so both are asked for."""
    symbols = [f"{number:06}" for number in range(100)]
    many = VENUE.stream.subscribe(symbols, ["S3_", "K3_", "H1_", "HA_"], 1)
    assert [len(one.frames) for one in many] == [190, 190, 20]
    assert len({topic for one in many for topic in one.topics}) == 400


@pytest.mark.parametrize(
    ("symbol", "kind"),
    [
        ("005930", InstrumentKind.EQUITY),
        ("0001A0", InstrumentKind.EQUITY),
        ("N005930", InstrumentKind.EQUITY),
        ("U005930", InstrumentKind.EQUITY),
        ("101T9000", InstrumentKind.FUTURE),
        ("A0166000", InstrumentKind.FUTURE),
        ("111T7000", InstrumentKind.FUTURE),
        ("1CTWC000", InstrumentKind.FUTURE),
        ("201T7347", InstrumentKind.OPTION),
        ("106T6000", None),
        ("401T6T9S", None),
        ("U005930   ", None),
        ("X005930", None),
        ("BTCUSDT", None),
        ("0", None),
        ("", None),
    ],
)
def test_kinds_are_told_by_the_form(symbol: str, kind: InstrumentKind | None) -> None:
    """Spreads and other indices have no documented message here, so they are no symbols."""
    assert VENUE.kind_of(symbol) is kind


def test_what_an_operator_is_told() -> None:
    """That nothing was tested live, and that the holidays are out of date once they are."""
    (told,) = VENUE.notices(MORNING)
    assert told.startswith("from documented frames, not live-tested")
    assert (
        "holidays" in VENUE.notices(int(datetime(2028, 1, 3, tzinfo=UTC).timestamp()) * SECOND)[1]
    )
