"""The session: what it publishes when books begin, break and heal, numbers of whatever size, and
what it asks of its shell.
"""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.feeder.session.session import CommandKind
from tapecast.feeder.session.sync import SyncPolicy
from tapecast.feeder.venues.okx import VENUE as OKX
from tapecast.protocol.codec import decode, walk
from tapecast.protocol.render import EventDict
from tapecast.protocol.schema import MAX_MANTISSA, Flag, MsgType
from tests.support.feeder_frames import (
    RECV_NS,
    TIME_MS,
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

BIDS = [("0.00001150", "120.5"), ("0.00001149", "1000"), ("0.00001000", "7")]
ASKS = [("0.00001151", "33"), ("0.00001160", "0.25")]


def kinds(events: list[EventDict]) -> list[str]:
    """Return what the events are, states with their value."""
    return [
        f"{event['state']}:{event['reason']}" if event["type"] == "status" else str(event["type"])
        for event in events
    ]


def texts(levels: list[tuple[str, str]]) -> list[list[str]]:
    """Return levels as events write them."""
    return [[f"{Decimal(number).normalize():f}" for number in level] for level in levels]


# beginnings


def test_definition_comes_first_and_is_provisional_without_the_venues() -> None:
    """Subscribed instruments are defined before anything is said about them; tick and lot stay
    open.
    """
    feed = Feed("binance", "LRCBTC")
    (event,) = feed.first
    assert event["type"] == "instrument"
    assert (event["symbol"], event["tick"], event["lot"], event["version"]) == (
        "LRCBTC",
        None,
        None,
        1,
    )


def test_symbol_that_is_none_of_the_venues_is_quarantined_at_subscription() -> None:
    """Configuration may be wrong: it is said, not guessed."""
    feed = Feed("binance", "lrc-btc")
    assert feed.first == []
    assert [message.symbol for message in feed.session.quarantined] == ["lrc-btc"]


def test_nothing_of_a_book_is_published_before_it_is_synchronised() -> None:
    """Updates wait; the snapshot is published as the snapshot it is, then LIVE, then what
    waited.
    """
    feed = Feed("binance", "LRCBTC")
    assert (
        feed.frame(
            spot_depth(99, 100, [("0.00001150", "1")]), spot_depth(101, 102, [("0.00001150", "2")])
        )
        == []
    )
    assert [command.kind for command in feed.session.commands] == [CommandKind.FETCH_SNAPSHOT]
    events = feed.body("LRCBTC", spot_body(100, BIDS, ASKS))
    assert kinds(events) == ["book", "live:first_sync", "book"]
    assert (events[0]["snapshot"], events[0]["bids"], events[0]["asks"]) == (
        True,
        texts(BIDS),
        texts(ASKS),
    )
    assert events[0]["ts_exchange_ns"] == 0
    assert (events[2]["snapshot"], events[2]["bids"]) == (False, [["0.0000115", "2"]])
    assert events[2]["ts_exchange_ns"] == TIME_MS * 1_000_000
    assert feed.session.live_books() == 1


def test_held_snapshot_is_published_with_the_update_that_proves_it() -> None:
    """First the snapshot, then LIVE, then the update."""
    feed = Feed("binance", "LRCBTC")
    assert feed.body("LRCBTC", spot_body(100, BIDS, ASKS)) == []
    assert feed.frame(spot_depth(90, 95)) == []
    assert kinds(feed.frame(spot_depth(96, 101, [("0.00001150", "2")]))) == [
        "book",
        "live:first_sync",
        "book",
    ]


def test_quiet_book_goes_live_by_its_deadlines() -> None:
    """Subscribed, silent for 5 s: fetched; still silent for 5 s: published."""
    feed = Feed("binance", "LRCBTC")
    feed.session.on_connect("ws.1", feed.now_ns, RECV_NS)
    feed.session.on_subscribed(["LRCBTC"], "ws.1", feed.now_ns)
    assert feed.session.next_deadline() == feed.now_ns + 5_000_000_000
    feed.flush()
    assert feed.timer(5.0) == []
    assert [command.kind for command in feed.session.commands] == [CommandKind.FETCH_SNAPSHOT]
    assert feed.body("LRCBTC", spot_body(100, BIDS, ASKS)) == []
    assert kinds(feed.timer(5.0)) == ["book", "live:first_sync"]
    assert feed.session.next_deadline() is None


def test_empty_snapshot_and_empty_update_are_events() -> None:
    """A book without levels is a book."""
    feed = Feed("binance", "LRCBTC")
    events = feed.spot_live([], [])
    assert kinds(events) == ["book", "live:first_sync"]
    assert (events[0]["bids"], events[0]["asks"]) == ([], [])
    (update,) = feed.frame(spot_depth(101, 101))
    assert (update["snapshot"], update["bids"], update["asks"]) == (False, [], [])


# loss


def test_gap_is_reported_once_and_nothing_follows_until_a_new_snapshot() -> None:
    """Expected and got; the book is SUSPECT; the update behind the gap waits with those after
    it.
    """
    feed = Feed("binance", "LRCBTC")
    feed.spot_live(BIDS, ASKS)
    feed.session.commands.clear()
    (gap,) = feed.frame(spot_depth(103, 104, [("0.00001150", "9")]), spot_depth(105, 105))
    assert (gap["type"], gap["expected"], gap["got"], gap["reason"]) == ("gap", 101, 103, "gap")
    assert feed.session.live_books() == 0
    assert feed.session.book_snapshot(feed.session.instruments[0]) == b""
    feed.timer(1.0)
    assert [command.kind for command in feed.session.commands] == [CommandKind.FETCH_SNAPSHOT]
    events = feed.body("LRCBTC", spot_body(103, BIDS, ASKS))
    assert kinds(events) == ["book", "live:resynced", "book", "book"]
    assert events[0]["snapshot"]
    assert feed.session.counts["gaps"] == 1


def test_gap_inside_the_waiting_updates_is_reported_after_the_snapshot() -> None:
    """The snapshot and what follows it stand; then the loss, and another synchronisation."""
    feed = Feed("binance", "LRCBTC")
    feed.frame(spot_depth(99, 100), spot_depth(101, 101), spot_depth(105, 106))
    assert kinds(feed.body("LRCBTC", spot_body(100, BIDS, ASKS))) == [
        "book",
        "live:first_sync",
        "book",
        "gap",
    ]
    assert kinds(feed.body("LRCBTC", spot_body(105, BIDS, ASKS))) == [
        "book",
        "live:resynced",
        "book",
    ]


def test_usdm_gap_names_the_ids_of_pu() -> None:
    """Expected is our last u, got the message's pu."""
    feed = Feed("binance_futures", "BTCUSDT")
    feed.frame(usdm_depth(95, 100, 94))
    feed.body("BTCUSDT", spot_body(100, [("60000.1", "1")], [("60000.2", "2")]))
    assert kinds(feed.frame(usdm_depth(105, 110, 100))) == ["book"]
    (gap,) = feed.frame(usdm_depth(120, 130, 115))
    assert (gap["expected"], gap["got"]) == (110, 115)


def test_okx_gap_asks_for_a_new_subscription_on_its_connection() -> None:
    """The stream's own snapshot heals."""
    feed = Feed("okx", "BTC-USDT-SWAP")
    bids, asks = [("84000.1", "1")], [("84000.2", "2")]
    assert kinds(feed.frame(okx_books("snapshot", 100, -1, bids, asks))) == [
        "book",
        "live:first_sync",
    ]
    assert kinds(feed.frame(okx_books("update", 101, 100), okx_books("update", 101, 100))) == [
        "book"
    ]
    (gap,) = feed.frame(okx_books("update", 120, 110))
    assert (gap["expected"], gap["got"]) == (101, 110)
    (command,) = feed.session.commands
    assert (command.kind, command.symbol, command.connection) == (
        CommandKind.RESUBSCRIBE,
        "BTC-USDT-SWAP",
        "ws.1",
    )
    assert kinds(feed.frame(okx_books("snapshot", 130, -1, bids, asks))) == [
        "book",
        "live:resynced",
    ]


def test_okx_zero_checksum_says_nothing_and_a_wrong_one_is_a_loss() -> None:
    """Verified only where asked for (recordings); the event whose checksum is wrong is not
    published.
    """
    bids, asks = [("84000.1", "1")], [("84000.2", "2")]
    good = OKX.rule.checksum
    assert good is not None
    value = good([(840001, 1)], [(840002, 2)], -1, 0)
    feed = Feed("okx", "BTC-USDT-SWAP", verify_checksum=True)
    assert kinds(feed.frame(okx_books("snapshot", 1, -1, bids, asks, checksum=value))) == [
        "book",
        "live:first_sync",
    ]
    assert kinds(feed.frame(okx_books("update", 2, 1, [("84000.1", "3")]))) == ["book"]
    (gap,) = feed.frame(okx_books("update", 3, 2, [("84000.0", "3")], checksum=value))
    assert (gap["type"], gap["reason"], gap["expected"]) == ("gap", "checksum", value)
    live = Feed("okx", "BTC-USDT-SWAP")
    assert kinds(live.frame(okx_books("snapshot", 1, -1, bids, asks, checksum=value + 1))) == [
        "book",
        "live:first_sync",
    ]


def test_disconnection_makes_every_book_of_the_connection_suspect() -> None:
    """Told once per LIVE book; the next snapshot must be fetched for the new connection."""
    feed = Feed("binance", "LRCBTC", "NKNUSDT")
    feed.session.on_connect("ws.1", feed.now_ns, RECV_NS)
    feed.session.on_subscribed(["LRCBTC", "NKNUSDT"], "ws.1", feed.now_ns)
    feed.spot_live(BIDS, ASKS)
    feed.session.on_disconnect("ws.1", feed.now_ns, RECV_NS)
    feed.session.on_disconnect("ws.1", feed.now_ns, RECV_NS)
    assert kinds(feed.flush()) == ["disconnected:none", "suspect:disconnected"]
    assert feed.frame(spot_depth(101, 101)) == [], "the old chain does not go on"
    assert feed.session.live_books() == 0


def test_reconnection_without_a_disconnection_is_one() -> None:
    """A recording may lack the end of a connection."""
    feed = Feed("okx", "BTC-USDT-SWAP")
    for _ in range(2):
        feed.session.on_connect("ws.1", feed.now_ns, RECV_NS)
        feed.session.on_subscribed(["BTC-USDT-SWAP"], "ws.1", feed.now_ns)
        feed.frame(okx_books("snapshot", 1, -1))
    feed.session.on_connect("ws.1", feed.now_ns, RECV_NS)
    assert kinds(feed.flush()) == ["disconnected:none", "suspect:disconnected", "connected:none"]


def test_answer_that_arrives_after_the_disconnection_does_not_make_the_book_live() -> None:
    """A REST answer outlives its connection: time alone must not publish it."""
    feed = Feed("binance", "LRCBTC")
    feed.session.on_connect("ws.1", feed.now_ns, RECV_NS)
    feed.session.on_subscribed(["LRCBTC"], "ws.1", feed.now_ns)
    feed.timer(5.0)
    feed.session.on_disconnect("ws.1", feed.now_ns, RECV_NS)
    feed.body("LRCBTC", spot_body(100, BIDS, ASKS))
    assert feed.timer(60.0) == []
    assert feed.session.live_books() == 0


def test_crossed_book_is_resynchronised_after_ten_events() -> None:
    """Nine are tolerated; then SUSPECT, a new snapshot, and no request storm if that is crossed
    as well.
    """
    feed = Feed("binance", "LRCBTC")
    feed.spot_live(BIDS, ASKS)
    events = [
        feed.frame(spot_depth(101 + n, 101 + n, [("0.00001155", f"{n + 1}")])) for n in range(10)
    ]
    assert kinds(events[8]) == ["book"]
    assert kinds(events[9]) == ["book", "suspect:crossed"]
    fetched = 0
    last = 111
    for _ in range(400):
        feed.session.commands.clear()
        feed.frame(spot_depth(last, last, [("0.00001155", f"{last}")]))
        feed.timer(0.25)
        if any(command.kind is CommandKind.FETCH_SNAPSHOT for command in feed.session.commands):
            fetched += 1
            feed.body("LRCBTC", spot_body(last, [*BIDS, ("0.00001155", "1")], ASKS))
        last += 1
    assert fetched <= 10


def test_stale_book_is_said_and_unsaid() -> None:
    """No update for the given time: STALE once; the next update: LIVE."""
    feed = Feed("binance", "LRCBTC")
    feed.spot_live(BIDS, ASKS)
    second = 1_000_000_000
    feed.session.check_stale(feed.now_ns, 10 * second, RECV_NS)
    feed.session.check_stale(feed.now_ns + 10 * second, 10 * second, RECV_NS)
    assert feed.flush() == []
    for _ in range(2):
        feed.session.check_stale(feed.now_ns + 10 * second + 1, 10 * second, RECV_NS)
    assert kinds(feed.flush()) == ["stale:timeout"]
    feed.frame(spot_depth(101, 101))
    feed.session.check_stale(feed.now_ns + 11 * second, 10 * second, RECV_NS)
    assert kinds(feed.flush()) == ["live:none"]


def test_upbit_book_out_of_date_is_left_out() -> None:
    """Whole books, ordered by their time alone."""
    feed = Feed("upbit", "KRW-BTC")
    unit = ("116538000", "0.06612366", "116539000.0", "2.054761E-2")
    events = feed.frame(upbit_book([unit]))
    assert kinds(events) == ["book", "live:first_sync"]
    assert (events[0]["bids"], events[0]["asks"]) == (
        [["116538000", "0.06612366"]],
        [["116539000", "0.02054761"]],
    )
    assert "top_only" in events[0]["flags"]  # type: ignore[operator]
    assert feed.frame(upbit_book([unit], ts_ms=TIME_MS - 1)) == []
    assert feed.session.counts["out_of_date"] == 1
    assert kinds(feed.frame(upbit_book([unit], ts_ms=TIME_MS + 1))) == ["book"]


def test_buffer_overflow_is_counted_and_survived() -> None:
    """The oldest updates go; a snapshot that reaches the rest synchronises."""
    feed = Feed("binance", "LRCBTC", sync=SyncPolicy(buffer_updates=5))
    for number in range(101, 121):
        feed.frame(spot_depth(number, number))
    assert feed.session.counts["sync_overflow"] == 15
    assert kinds(feed.body("LRCBTC", spot_body(115, BIDS, ASKS))) == [
        "book",
        "live:first_sync",
        *["book"] * 5,
    ]


# what else frames say


def test_trades_and_quotes_need_no_book() -> None:
    """They are published at once, with the taker's side."""
    feed = Feed("binance", "LRCBTC")
    buy, sell, quote = feed.frame(
        spot_trade("0.00001150", "3"),
        spot_trade("0.00001151", "4", number=2, maker_bought=True),
        spot_ticker(("0.00001150", "1"), ("0.00001151", "0")),
    )
    assert (buy["side"], buy["price"], buy["quantity"], buy["trade_id"]) == (
        "buy",
        "0.0000115",
        "3",
        "1",
    )
    assert (sell["side"], sell["trade_id"]) == ("sell", "2")
    assert (quote["bid"], quote["ask"]) == (
        ["0.0000115", "1"],
        None,
    ), "a side of quantity 0 is empty"


def test_okx_first_trade_after_the_acknowledgement_is_marked_as_repeated() -> None:
    """Older than the acknowledgement: the last old trade; younger: a new one. Only the first
    message is in doubt.
    """
    ack = b'{"event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT-SWAP"},"connId":"a"}'
    for age_ms, flags in ((1000, ["repeated"]), (-1000, [])):
        feed = Feed("okx", "BTC-USDT-SWAP")
        (first,) = feed.frame(ack, okx_trade("84000", "1", ts_ms=TIME_MS - age_ms))
        (second,) = feed.frame(okx_trade("84000", "1", ts_ms=TIME_MS - age_ms, number=2))
        assert (first["flags"], second["flags"]) == (flags, [])


def test_notice_of_a_restart_asks_for_a_new_connection() -> None:
    """Make before break is the shell's business; the session says that it is time."""
    feed = Feed("okx", "BTC-USDT-SWAP")
    feed.frame(
        b'{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service'
        b' upgrade."}'
    )
    (command,) = feed.session.commands
    assert (command.kind, command.connection) == (CommandKind.ROTATE, "ws.1")


def test_refusal_is_told_and_counted() -> None:
    """An error of the venue is not market data and not silence: the operator hears of it."""
    feed = Feed("okx", "BTC-USDT-SWAP")
    feed.frame(
        b'{"event":"error","code":"60018","msg":"Wrong URL or channel doesn\'t exist","connId":"a"}'
    )
    (command,) = feed.session.commands
    assert command.kind is CommandKind.COMPLAIN
    assert "60018" in command.reason
    assert feed.session.counts["control_servererror"] == 1


def test_acknowledgements_and_pongs_are_no_data() -> None:
    """The watchdog looks at market data alone."""
    feed = Feed("okx", "BTC-USDT-SWAP")
    feed.session.on_connect("ws.1", 5, RECV_NS)
    feed.frame(b"pong", b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT-SWAP"}}')
    assert feed.session.last_data_ns["ws.1"] == 5
    feed.frame(okx_trade("84000", "1"))
    assert feed.session.last_data_ns["ws.1"] == feed.now_ns


def test_frame_with_an_escape_is_read_by_the_fallback() -> None:
    """What the C extractor declines is not lost: the same event comes out."""
    feed = Feed("binance", "LRCBTC")
    plain = spot_trade("0.00001150", "3")
    assert feed.frame(plain.replace(b'"LRCBTC"', b'"\\u004cRCBTC"')) == feed.frame(plain)
    assert feed.session.counts["fallback"] == 1


# definitions


EXCHANGE_INFO = (
    b'{"symbols":[{"symbol":"LRCBTC","status":"TRADING","baseAsset":"LRC","quoteAsset":"BTC","filters":['
    b'{"filterType":"PRICE_FILTER","minPrice":"0.00000001","maxPrice":"1000.00000000","tickSize":"0.00000001"},'
    b'{"filterType":"LOT_SIZE","minQty":"1.00000000","maxQty":"90000000.00000000","stepSize":"1.00000000"}]}]}'
)


def test_definition_of_the_venue_gives_the_exponents() -> None:
    """Tick 10^-8 and lot 1: what every price and quantity is a multiple of."""
    feed = Feed("binance")
    assert feed.session.on_instruments(EXCHANGE_INFO, RECV_NS, feed.now_ns) == 1
    assert feed.flush() == [], "only instruments in use are published"
    feed.session.subscribe(["LRCBTC"], RECV_NS)
    (event,) = feed.flush()
    assert (event["tick"], event["lot"], event["price_exp"], event["qty_exp"]) == (
        "0.00000001",
        "1",
        -8,
        0,
    )
    feed.spot_live([("0.00001150", "12")], [])
    assert feed.book("LRCBTC")[0] == [(Decimal("0.0000115"), Decimal(12))]


def test_changed_definition_is_a_new_version_and_exponents_only_fall() -> None:
    """A coarser tick keeps the finer exponent; a finer one lowers it and the LIVE book comes
    again at it.
    """
    feed = Feed("binance")
    feed.session.on_instruments(EXCHANGE_INFO, RECV_NS, feed.now_ns)
    feed.session.subscribe(["LRCBTC"], RECV_NS)
    feed.flush()
    feed.spot_live(BIDS[1:2], [])
    feed.session.on_instruments(
        EXCHANGE_INFO.replace(b'"tickSize":"0.00000001"', b'"tickSize":"0.00000010"'),
        RECV_NS,
        feed.now_ns,
    )
    (event,) = feed.flush()
    assert (event["version"], event["price_exp"], event["tick"]) == (2, -8, "0.0000001")
    feed.session.on_instruments(
        EXCHANGE_INFO.replace(b'"stepSize":"1.0', b'"stepSize":"0.1'), RECV_NS, feed.now_ns
    )
    definition, book = feed.flush()
    assert (definition["version"], definition["qty_exp"], definition["lot"]) == (3, -1, "0.1")
    assert (book["snapshot"], book["bids"]) == (True, texts(BIDS[1:2]))
    feed.session.on_instruments(
        EXCHANGE_INFO.replace(b'"stepSize":"1.0', b'"stepSize":"0.1'), RECV_NS, feed.now_ns
    )
    assert feed.flush() == [], "nothing changed, nothing is said"


def test_definition_that_the_wire_cannot_hold_is_put_aside() -> None:
    """An expiry of the year 10^9 costs the definition, not the feeder."""
    feed = Feed("binance_futures")
    body = EXCHANGE_INFO.replace(b'"LRCBTC"', b'"BTCUSDT_240927"').replace(
        b'"status"', b'"deliveryDate":99999999999999999,"status"'
    )
    assert feed.session.on_instruments(body, RECV_NS, feed.now_ns) == 1
    feed.session.subscribe(["BTCUSDT_240927"], RECV_NS)
    (event,) = feed.flush()
    assert event["tick"] is None
    assert feed.session.counts["quarantine"] == 1


# exact numbers


def test_digits_behind_the_point_lower_the_exponent_and_a_live_book_comes_again() -> None:
    """A new version of the definition, the same book as a fresh snapshot, then the update that
    needed it.
    """
    feed = Feed("binance", "LRCBTC")
    feed.spot_live(BIDS, ASKS)
    before = feed.book("LRCBTC")
    events = feed.frame(spot_depth(101, 101, [("0.000011495", "5")]))
    assert kinds(events) == ["instrument", "book", "book"]
    assert (events[0]["version"], events[0]["price_exp"]) == (2, -9)
    assert events[1]["snapshot"]
    assert "recovered" in events[1]["flags"]  # type: ignore[operator]
    assert (events[1]["bids"], events[1]["asks"]) == (texts(BIDS), texts(ASKS))
    assert events[2]["bids"] == [["0.000011495", "5"]]
    assert feed.book("LRCBTC") == (
        sorted([*before[0], (Decimal("0.000011495"), Decimal(5))], reverse=True),
        before[1],
    )


def test_waiting_updates_survive_a_change_of_exponents() -> None:
    """They carry the exponents they were written with."""
    feed = Feed("binance", "LRCBTC")
    feed.frame(
        spot_depth(99, 100),
        spot_depth(101, 101, [("0.00001150", "2")]),
        spot_depth(102, 102, [("0.000011495", "5")]),
    )
    events = feed.body("LRCBTC", spot_body(100, BIDS, ASKS))
    assert [event["bids"] for event in events if event["type"] == "book"][1:] == [
        [["0.0000115", "2"]],
        [["0.000011495", "5"]],
    ]
    assert feed.book("LRCBTC")[0][:2] == [
        (Decimal("0.0000115"), Decimal(2)),
        (Decimal("0.000011495"), Decimal(5)),
    ]


def test_number_too_large_raises_the_exponent_as_little_as_possible() -> None:
    """10^13 does not fit 62 bits at 10^-6; at 10^-5 it does, and the book stays exact."""
    feed = Feed("binance", "LRCBTC")
    feed.spot_live(BIDS[1:], [])
    events = feed.frame(spot_depth(101, 101, [("0.00001148", "10000000000000")]))
    assert kinds(events) == ["instrument", "book", "book"]
    assert events[0]["qty_exp"] == -5
    assert events[2]["bids"] == [["0.00001148", "10000000000000"]]


def test_finer_price_and_larger_quantity_in_one_message_fit_together() -> None:
    """One exponent falls while the other rises."""
    feed = Feed("binance", "LRCBTC")
    events = feed.frame(spot_trade("0.0000114999", "10000000000000"))
    assert kinds(events) == ["instrument", "trade"]
    assert (events[0]["price_exp"], events[0]["qty_exp"]) == (-10, -5)
    assert (events[1]["price"], events[1]["quantity"]) == ("0.0000114999", "10000000000000")


def test_book_that_does_not_fit_the_new_exponents_is_given_up_and_said() -> None:
    """A level of 0.000001 cannot stand beside one of 10^13: SUSPECT because of the exponents,
    then a new snapshot.
    """
    feed = Feed("binance", "LRCBTC")
    feed.spot_live([("0.00001149", "0.000001")], [])
    feed.session.commands.clear()
    events = feed.frame(spot_depth(101, 101, [("0.00001148", "10000000000000")]))
    assert kinds(events) == ["instrument", "suspect:exponent"]
    assert feed.session.live_books() == 0
    feed.timer(1.0)
    assert [command.kind for command in feed.session.commands] == [CommandKind.FETCH_SNAPSHOT]


@pytest.mark.parametrize(
    "price",
    [
        "1e400",
        "99999999999999999999",
        "4611686018427387904",
        "0." + "0" * 130 + "1",
        "123456789.01234567890123",
    ],
)
def test_number_that_nothing_can_hold_is_quarantined_not_wrapped(price: str) -> None:
    """More digits than 62 bits have, or too far from the point: put aside with its reason, and
    the next message is handled.
    """
    feed = Feed("binance", "LRCBTC")
    assert feed.frame(spot_trade(price, "1")) == []
    (message,) = feed.session.quarantined
    assert message.symbol == "LRCBTC"
    assert kinds(feed.frame(spot_trade("0.00001150", "1"))) == ["trade"]
    assert (feed.session.instruments[0].price_exp, feed.session.instruments[0].version) == (-8, 1)


def test_largest_number_of_the_wire_is_exact_at_any_exponent() -> None:
    """2^62 - 1 with every position of the point from none to 18 behind it."""
    digits = str(MAX_MANTISSA)
    for places in range(19):
        feed = Feed("binance", "LRCBTC")
        text = digits[: len(digits) - places] + (
            "." + digits[len(digits) - places :] if places else ""
        )
        (event,) = (
            event for event in feed.frame(spot_trade(text, "1")) if event["type"] == "trade"
        )
        assert Decimal(str(event["price"])) == Decimal(text)


def minimal(text: str) -> str:
    """Return a number as events write it."""
    number = Decimal(text)
    return f"{number.normalize():f}" if number else "0"


numbers = st.builds(
    lambda digits, places, zeros: (
        "0" * zeros + (digits[:-places] or "0") + "." + digits[-places:].rjust(places, "0")
        if places
        else "0" * zeros + digits
    ),
    st.integers(1, 10**18 - 1).map(str),
    st.integers(0, 24),
    st.integers(0, 3),
)


@given(price=numbers, quantity=numbers)
@settings(max_examples=400, deadline=None)
def test_quoted_numbers_of_up_to_eighteen_digits_are_exact(price: str, quantity: str) -> None:
    """Trade, BBO and book: the text that comes out is the number that went in, whatever the
    exponents did on the way.
    """
    feed = Feed("binance", "LRCBTC")
    trades = [
        event for event in feed.frame(spot_trade(price, quantity)) if event["type"] == "trade"
    ]
    assert [(event["price"], event["quantity"]) for event in trades] == [
        (minimal(price), minimal(quantity))
    ]
    quotes = [
        event
        for event in feed.frame(spot_ticker((price, quantity), (price, "0.00000000")))
        if event["type"] == "bbo"
    ]
    assert [(event["bid"], event["ask"]) for event in quotes] == [
        ([minimal(price), minimal(quantity)], None)
    ]
    feed.frame(spot_depth(99, 100))
    books = [
        event
        for event in feed.body("LRCBTC", spot_body(100, [(price, quantity)], []))
        if event["type"] == "book"
    ]
    assert [event["bids"] for event in books] == [[[minimal(price), minimal(quantity)]]]


@given(
    price=st.integers(1, 2 * 10**8),
    quantity=st.integers(1, 10**12),
    form=st.sampled_from(("{}", "{}.0", "{}E0", "{}e+0", "{}00E-2")),
    scale=st.integers(0, 12),
)
@settings(max_examples=300, deadline=None)
def test_bare_krw_prices_and_tiny_quantities_are_exact(
    price: int, quantity: int, form: str, scale: int
) -> None:
    """Upbit writes `1.16539E8` and `2E-7` as it likes: nothing passes through a float."""
    feed = Feed("upbit", "KRW-BTC")
    price_text, quantity_text = form.format(price), f"{quantity}E-{scale}"
    trades = [
        event
        for event in feed.frame(upbit_trade(price_text, quantity_text))
        if event["type"] == "trade"
    ]
    expected = str(price), minimal(quantity_text)
    assert [(event["price"], event["quantity"]) for event in trades] == [expected]
    unit = (price_text, quantity_text, form.format(price + 1), quantity_text)
    (book,) = (event for event in feed.frame(upbit_book([unit])) if event["type"] == "book")
    assert (book["bids"], book["asks"]) == ([list(expected)], [[str(price + 1), expected[1]]])


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_book_equals_decimals_through_any_change_of_exponents(data: st.DataObject) -> None:
    """A LIVE book under updates of wild precision: it is the Decimal book, or it says that it is
    not LIVE.
    """
    feed = Feed("binance", "LRCBTC")
    feed.spot_live([], [])
    expected: dict[Decimal, Decimal] = {}
    for number in range(101, 121):
        price, quantity = data.draw(numbers), data.draw(st.one_of(numbers, st.just("0")))
        events = feed.frame(spot_depth(number, number, [(price, quantity)]))
        if not feed.session.live_books():
            assert kinds(events) == ["instrument", "suspect:exponent"]
            return
        expected[Decimal(price)] = Decimal(quantity)
        if not Decimal(quantity):
            del expected[Decimal(price)]
        assert feed.book("LRCBTC")[0] == sorted(expected.items(), reverse=True)


# packets


def test_message_larger_than_the_buffer_makes_room_and_is_whole() -> None:
    """A snapshot whose packets exceed the first buffer (1 MiB) is published, not put aside, on a
    stream and by REST.
    """
    levels = [(f"{100_000 - n}.5", "1") for n in range(70_000)]
    feed = Feed("okx", "BTC-USDT-SWAP")
    events = feed.frame(okx_books("snapshot", 1, -1, levels, []))
    # type: ignore[arg-type]
    assert sum(len(event["bids"]) for event in events if event["type"] == "book") == 70_000
    assert len(feed.book("BTC-USDT-SWAP")[0]) == 70_000
    feed = Feed("binance", "LRCBTC")
    feed.frame(spot_depth(99, 100))
    events = feed.body("LRCBTC", spot_body(100, levels, []))
    # type: ignore[arg-type]
    assert sum(len(event["bids"]) for event in events if event["type"] == "book") == 70_000
    assert feed.session.quarantined == []


def test_every_packet_is_valid_and_numbered() -> None:
    """What a session publishes decodes, counts on by one, and numbers each instrument's events
    by type.
    """
    feed = Feed("binance", "LRCBTC", "NKNUSDT")
    feed.frame(
        spot_trade("0.00001150", "1"),
        spot_trade("0.3", "1", symbol="NKNUSDT"),
        spot_trade("0.00001150", "2"),
    )
    feed.spot_live(BIDS, ASKS)
    feed.frame(spot_depth(101, 101, [("0.00001", str(n + 1)) for n in range(200)]))
    packets = [decode(packet) for packet in walk(feed.packets)]
    assert [packet.header.channel_seq for packet in packets] == list(range(1, len(packets) + 1))
    by_kind: dict[tuple[int, int], list[int]] = {}
    for packet in packets:
        header = packet.header
        if header.fragment == 0:
            by_kind.setdefault((header.instrument_id, header.msg_type), []).append(
                header.instrument_seq
            )
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in by_kind.values())
    trades = [packet for packet in packets if packet.header.msg_type == MsgType.TRADE]
    assert len({packet.header.instrument_id for packet in trades}) == 2
    assert all(packet.header.flags & Flag.LAST for packet in trades)


def test_failed_publication_costs_one_batch() -> None:
    """What could not be published is gone and told by the exception; the next batch goes out."""
    feed = Feed("okx", "BTC-USDT-SWAP")
    session = feed.session
    frame = okx_trade("84000", "1", ts_ms=TIME_MS, number=7)

    def refuse(buffer: bytearray, nbytes: int) -> None:
        raise OSError("no socket")

    session.on_frame("ws.1", frame, RECV_NS, 1)
    with pytest.raises(OSError, match="no socket"):
        session.flush(refuse, 1, RECV_NS)
    sent: list[int] = []
    session.on_frame("ws.1", frame, RECV_NS, 2)
    session.flush(lambda buffer, nbytes: sent.append(nbytes), 2, RECV_NS)
    assert sent == [98]
