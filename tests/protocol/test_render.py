"""Rendering: golden events, key order, names, fragments with loss, repeated definitions and
snapshots, real figures.
"""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tapecast.protocol.codec import (
    Header,
    HeartbeatItem,
    InstrumentItem,
    Level,
    StatItem,
    StatusItem,
    TradeItem,
    WireError,
    encode,
    gap_detail,
    instrument_id,
    parse_decimal,
    to_mantissa,
)
from tapecast.protocol.render import Renderer
from tapecast.protocol.schema import UNDEFINED, Flag, MsgType, StatusReason
from tests.support.captures import captures
from tests.support.vectors import VECTORS, names

BTC = instrument_id("binance.spot.BTCUSDT")
BOOK = Header(
    msg_type=MsgType.BOOK,
    session=5,
    channel_id=1,
    venue_id=1,
    instrument_id=BTC,
    channel_seq=1,
    instrument_seq=1,
    price_exp=-2,
    qty_exp=-5,
)
TRADE = BOOK._replace(msg_type=MsgType.TRADE)
DEFINITION = InstrumentItem(
    BTC, 1, 1, 1, 1, -2, -5, tick=1, lot=1, symbol="BTCUSDT", base="BTC", quote="USDT"
)
# Figures of Binance spot BTCUSDT, 2024-08-08 23:54 UTC.
BID, ASK = Level(6183763, 378826), Level(6183764, 154698)
COMMON = ["type", "venue", "kind", "symbol", "instrument", "ts_exchange_ns", "ts_recv_ns", "flags"]


def feed(renderer, packets):
    """Return the events of several packets."""
    return [event for packet in packets for event in renderer.feed(packet)]


def definition(item=DEFINITION):
    """Return the packet of a definition."""
    header = BOOK._replace(msg_type=MsgType.INSTRUMENT, venue_id=item.venue, instrument_id=item.id)
    return encode(header, [item])[0]


def snapshot(levels=(BID, ASK), **fields):
    """Return the packets, of at most one level each, of a book snapshot with one bid."""
    header = BOOK._replace(flags=Flag.SNAPSHOT, bid_count=1)._replace(**fields)
    return encode(header, levels, max_payload=82)


@pytest.mark.parametrize("vector", VECTORS, ids=names(VECTORS))
def test_golden_packets_render_to_their_events(vector):
    """A raw renderer gives the events written beside the golden packets, keys in the same order."""
    events = feed(
        Renderer(raw=True), [bytes.fromhex(packet["hex"]) for packet in vector["packets"]]
    )
    assert [list(event.items()) for event in events] == [
        list(event.items()) for event in vector["events"]
    ]


@pytest.mark.parametrize("vector", VECTORS, ids=names(VECTORS))
def test_only_normalised_events_without_raw(vector):
    """Without raw, heartbeats, session marks, tick tables and texts give no event; all else is
    as with raw.
    """
    events = feed(Renderer(), [bytes.fromhex(packet["hex"]) for packet in vector["packets"]])
    hidden = {"heartbeat", "session_start", "session_end", "tick_table", "text"}
    assert events == [event for event in vector["events"] if event["type"] not in hidden]


@pytest.mark.parametrize(
    ("header", "items", "keys"),
    [
        (TRADE, [TradeItem(1, 2, 3)], ["price", "quantity", "side", "trade_id"]),
        (
            TRADE._replace(msg_type=MsgType.LIQUIDATION),
            [TradeItem(1, 2, 3)],
            ["price", "quantity", "side", "trade_id"],
        ),
        (BOOK, [BID], ["snapshot", "bids", "asks"]),
        (BOOK._replace(msg_type=MsgType.BBO, bid_count=1), [BID], ["bid", "ask"]),
        (
            BOOK._replace(msg_type=MsgType.STAT),
            [StatItem(1, 2, 3, -1)],
            ["kind_of", "value", "ts", "aux"],
        ),
        (
            BOOK._replace(msg_type=MsgType.STATUS),
            [StatusItem(1, 1)],
            ["scope", "state", "reason", "counts", "detail"],
        ),
        (
            BOOK._replace(msg_type=MsgType.STATUS),
            [StatusItem(3, 7, StatusReason.GAP)],
            ["expected", "got", "reason"],
        ),
        (
            BOOK._replace(msg_type=MsgType.INSTRUMENT),
            [DEFINITION],
            [
                "state",
                "version",
                "price_exp",
                "qty_exp",
                "tick",
                "lot",
                "min_qty",
                "min_notional",
                "multiplier",
                "expiry_ns",
                "strike",
                "base",
                "quote",
                "settle",
                "option_type",
            ],
        ),
    ],
)
def test_keys_have_their_documented_order(header, items, keys):
    """Every event has the common keys first and then its own, in the documented order, in JSON
    too.
    """
    (event,) = feed(Renderer(), encode(header, items))
    assert list(event) == COMMON + keys
    line = json.dumps(event)
    assert "\n" not in line
    assert list(json.loads(line).items()) == list(event.items())


def test_names_come_from_the_definition():
    """Before its definition an instrument is its id in hex and the venue of the header; after
    it, its names.
    """
    renderer = Renderer()
    (before,) = feed(renderer, encode(BOOK, [BID]))
    assert [before[key] for key in COMMON[1:5]] == ["binance", None, None, f"#{BTC:016x}"]
    renderer.feed(definition())
    (after,) = feed(renderer, encode(BOOK, [BID]))
    assert [after[key] for key in COMMON[1:5]] == [
        "binance",
        "spot",
        "BTCUSDT",
        "binance.spot.BTCUSDT",
    ]


def test_events_about_no_instrument_have_none():
    """A status of a connection names no instrument."""
    header = BOOK._replace(msg_type=MsgType.STATUS, instrument_id=0)
    (event,) = feed(Renderer(), encode(header, [StatusItem(2, 16)]))
    assert [event[key] for key in COMMON[1:5]] == ["binance", None, None, None]


def test_numbers_this_version_does_not_know_show_as_numbers():
    """Unknown venues and enumeration values of a later version are shown by number."""
    (event,) = Renderer().feed(
        definition(DEFINITION._replace(venue=999, kind=77, state=88, option_type=99))
    )
    assert [event["venue"], event["kind"], event["state"], event["option_type"]] == [
        "venue-999",
        "77",
        "88",
        "99",
    ]
    assert event["instrument"] == "venue-999.77.BTCUSDT"


def test_repeated_definitions_say_nothing_new():
    """The definition cycle gives no events until something changes; raw shows every one."""
    renderer = Renderer()
    changed = DEFINITION._replace(version=2, tick=10)
    assert [
        len(renderer.feed(definition(item))) for item in (DEFINITION, DEFINITION, changed, changed)
    ] == [1, 0, 1, 0]
    raw = Renderer(raw=True)
    assert [len(raw.feed(definition())) for _ in range(2)] == [1, 1]


def test_undefined_values_are_null():
    """The undefined mantissa is null in prices, levels and definitions."""
    (event,) = Renderer().feed(definition())
    assert event["tick"] == "0.01"
    assert [event[key] for key in ("min_qty", "min_notional", "multiplier", "strike")] == [None] * 4
    assert event["settle"] is None
    (trade,) = feed(Renderer(), encode(TRADE, [TradeItem(1, UNDEFINED, 5)]))
    assert (trade["price"], trade["quantity"]) == (None, "0.00005")


def test_trades_carry_their_own_time_and_flags():
    """Each trade's time is the header's plus its own distance; header flags and trade flags are
    one list without last.
    """
    header = TRADE._replace(
        ts_exchange_ns=1723161255342000000, ts_recv_ns=5, flags=Flag.SUSPECT | Flag.REPLAY
    )
    items = [
        TradeItem(1, 2, 3, side=1),
        TradeItem(2, 2, 3, -7, 2, 1 | 16),
        TradeItem(2**64 - 1, 2, 3, 7),
    ]
    first, second, third = feed(Renderer(), encode(header, items))
    times = [event["ts_exchange_ns"] - header.ts_exchange_ns for event in (first, second, third)]
    assert times == [0, -7000, 7000]
    assert [event["side"] for event in (first, second, third)] == ["buy", "sell", "unknown"]
    assert first["flags"] == third["flags"] == ["suspect", "replay"]
    assert second["flags"] == ["suspect", "replay", "hashed_id", "repeated"]
    assert third["trade_id"] == "18446744073709551615"
    assert first["ts_recv_ns"] == 5


def test_unknown_times_stay_unknown():
    """Without an exchange time a trade has none, whatever its distance; an unknown receive time
    is null.
    """
    (event,) = feed(Renderer(), encode(TRADE, [TradeItem(1, 2, 3, 99)]))
    assert (event["ts_exchange_ns"], event["ts_recv_ns"]) == (0, None)


def test_texts_of_hashed_trade_ids_are_shown_where_known():
    """A hashed id shows the venue's text when the caller knows it; a number that merely equals
    it does not.
    """
    texts = {7: "uuid-7"}
    items = [
        TradeItem(7, 2, 3, trade_flags=1),
        TradeItem(7, 2, 3),
        TradeItem(8, 2, 3, trade_flags=1),
    ]
    events = feed(Renderer(trade_texts=texts), encode(TRADE, items))
    assert [event.get("trade_id_text") for event in events] == ["uuid-7", None, None]


def test_gaps_show_what_was_expected():
    """A gap carries u64 numbers, a checksum failure signed ones; neither is a status too."""
    renderer, header = Renderer(), BOOK._replace(msg_type=MsgType.STATUS)
    gap = StatusItem(3, 7, StatusReason.GAP, detail=gap_detail(2**64 - 1, 5))
    checksum = StatusItem(3, 7, StatusReason.CHECKSUM, detail=gap_detail(-855196043, 5))
    events = feed(renderer, encode(header, [gap, checksum]))
    assert [(e["type"], e["expected"], e["got"], e["reason"]) for e in events] == [
        ("gap", 2**64 - 1, 5, "gap"),
        ("gap", -855196043, 5, "checksum"),
    ]
    assert events[0]["expected"] == 2**64 - 1


def test_fragments_join_to_one_event():
    """A book in fragments is one event, given with its last one, bids and asks in order."""
    levels = [BID, BID._replace(price=6183762), ASK, ASK._replace(price=6183765)]
    packets = snapshot(levels, bid_count=2)
    assert len(packets) == 4
    renderer = Renderer()
    assert [len(renderer.feed(packet)) for packet in packets[:-1]] == [0, 0, 0]
    (event,) = renderer.feed(packets[-1])
    assert event["bids"] == [["61837.63", "3.78826"], ["61837.62", "3.78826"]]
    assert event["asks"] == [["61837.64", "1.54698"], ["61837.65", "1.54698"]]
    assert event["flags"] == ["snapshot"]


@pytest.mark.parametrize("lost", range(4))
def test_an_event_that_misses_a_fragment_is_none(lost):
    """Whichever fragment is lost, the event does not appear, and the next one is whole again."""
    renderer = Renderer()
    packets = snapshot([BID, BID, ASK, ASK])
    assert feed(renderer, packets[:lost] + packets[lost + 1 :]) == []
    assert len(feed(renderer, snapshot(instrument_seq=2))) == 1


@pytest.mark.parametrize("change", [{"instrument_seq": 2}, {"session": 6}])
def test_fragments_of_different_events_never_join(change):
    """The beginning of one event and the end of the next, or of another session, are no event."""
    first, second = snapshot(), snapshot(**change)
    renderer = Renderer()
    assert feed(renderer, [first[0], second[1]]) == []
    assert len(feed(renderer, second)) == 1


@pytest.mark.parametrize("change", [{"instrument_id": 9}, {"channel_id": 2}])
def test_fragments_of_other_instruments_and_channels_may_interleave(change):
    """Fragments join by channel, instrument and message type."""
    first, second = snapshot(), snapshot(**change)
    between = encode(BOOK._replace(msg_type=MsgType.BBO, bid_count=1), [BID])
    events = feed(Renderer(), [first[0], second[0], *between, first[1], second[1]])
    assert [event["type"] for event in events] == ["bbo", "book", "book"]


def test_cyclic_snapshots_that_say_nothing_new_are_left_out():
    """A repeated snapshot with the last event's number is skipped; after a loss, or for a late
    joiner, it is the book.
    """
    cyclic = Flag.SNAPSHOT | Flag.RECOVERED
    renderer = Renderer()
    first, delta = snapshot(), encode(BOOK._replace(instrument_seq=2), [BID])
    assert len(feed(renderer, [*first, *delta])) == 2
    assert feed(renderer, snapshot(flags=cyclic, instrument_seq=2)) == []
    assert len(feed(renderer, snapshot(flags=cyclic, instrument_seq=3))) == 1
    assert len(feed(renderer, snapshot(flags=cyclic, instrument_seq=3, session=6))) == 1
    assert len(feed(Renderer(), snapshot(flags=cyclic, instrument_seq=2))) == 1
    raw = Renderer(raw=True)
    assert len(feed(raw, [*first, *snapshot(flags=cyclic)])) == 2


def test_unstamped_resync_snapshots_are_shown():
    """Packets before publishing carry no session and an index instead of a sequence: nothing is
    taken for a repetition.
    """
    flags = Flag.SNAPSHOT | Flag.RECOVERED
    packets = snapshot(session=0, flags=flags) + snapshot(session=0, flags=flags)
    assert len(feed(Renderer(), packets)) == 2


def test_empty_sides_and_books():
    """A missing BBO side is null, an empty snapshot has empty lists."""
    header = BOOK._replace(msg_type=MsgType.BBO)
    (ask_only,) = feed(Renderer(), encode(header, [ASK]))
    assert (ask_only["bid"], ask_only["ask"]) == (None, ["61837.64", "1.54698"])
    (none,) = feed(Renderer(), encode(header, []))
    assert (none["bid"], none["ask"]) == (None, None)
    (empty,) = feed(Renderer(), encode(BOOK._replace(flags=Flag.SNAPSHOT), []))
    assert (empty["snapshot"], empty["bids"], empty["asks"]) == (True, [], [])


def test_raw_shows_heartbeats():
    """With raw a heartbeat shows the channel's state."""
    header = Header(msg_type=MsgType.HEARTBEAT, session=5, channel_id=1, venue_id=1, channel_seq=9)
    (event,) = feed(Renderer(raw=True), encode(header, [HeartbeatItem(1, 2, 3, 4, 250, 9101, 0)]))
    assert (
        event["type"],
        event["channel"],
        event["session"],
        event["channel_seq"],
        event["suspect"],
    ) == (
        "heartbeat",
        1,
        5,
        9,
        4,
    )


def test_invalid_packets_raise():
    """Bytes that are no packet raise WireError and leave the renderer usable."""
    renderer = Renderer()
    with pytest.raises(WireError, match="too_short"):
        renderer.feed(b"MF")
    assert len(feed(renderer, snapshot())) == 1


def test_recorded_figures_come_out_exactly():
    """Every price and quantity of recorded Binance depth frames renders to its exact value,
    shortest form.
    """
    path = captures() / "binance" / "hft_20240808_spot_btcusdt.jsonl"
    renderer, seen = Renderer(), 0
    with path.open() as lines:
        frames = [json.loads(line)["raw"] for line, _ in zip(lines, range(3000), strict=False)]
    for frame in frames:
        data = json.loads(frame).get("data", {})
        if data.get("e") != "depthUpdate":
            continue
        rows = data["b"] + data["a"]
        exps = [min([-2, *(parse_decimal(row[i])[1] for row in rows)]) for i in (0, 1)]
        levels = [
            Level(to_mantissa(price, exps[0]), to_mantissa(quantity, exps[1]))
            for price, quantity in rows
        ]
        header = BOOK._replace(price_exp=exps[0], qty_exp=exps[1], bid_count=len(data["b"]))
        (event,) = feed(renderer, encode(header, levels))
        shown = event["bids"] + event["asks"]
        assert [[Decimal(text) for text in row] for row in shown] == [
            [Decimal(text) for text in row] for row in rows
        ]
        assert all(
            text == "0" or not text.endswith(("0", ".")) or "." not in text
            for row in shown
            for text in row
        )
        seen += len(rows)
    assert seen > 1000
