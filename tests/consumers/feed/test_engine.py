"""The engine: packets in sequence become events, and books are LIVE only while they are whole."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tapecast.consumers.feed.engine import Engine
from tapecast.consumers.feed.events import (
    ALL_EVENTS,
    AnyEvent,
    Bbo,
    Book,
    BookState,
    Gap,
    Instrument,
    Liquidation,
    Stat,
    Status,
    Trade,
)
from tapecast.consumers.feed.selection import Selection, UnknownVenueError
from tapecast.protocol.codec import decode
from tapecast.protocol.records import HEADER_STRUCT, StatItem, TradeItem
from tapecast.protocol.schema import (
    UNDEFINED,
    VENUES,
    Flag,
    MsgType,
    Side,
    StatKind,
    StatusReason,
    StatusScope,
    StatusState,
    TradeFlag,
)
from tests.consumers.publisher import BTC, TS, Publisher, btcusdt, levels

S = 1_000_000_000
PERP = "okx.perpetual.BTC-USDT-SWAP"
OKX_SPOT = "okx.spot.BTC-USDT"


class Rig:
    """An engine fed by hand."""

    def __init__(
        self,
        *,
        venues: list[str] | None = None,
        symbols: list[str] | None = None,
        types: tuple[type, ...] = ALL_EVENTS,
    ) -> None:
        """Make an engine that listens from time 0 on."""
        self.engine = Engine(Selection(venues, symbols), types)
        self.now_ns = 0

    def __call__(self, packets: list[bytes]) -> list[AnyEvent]:
        """Take in packets and return the events."""
        for packet in packets:
            header = decode(packet).header
            self.engine.received(header.channel_id, header.venue_id, self.now_ns)
            self.engine.packet(packet, 0, len(packet))
        return self.events()

    def events(self) -> list[AnyEvent]:
        """Return the events that wait."""
        out = list(self.engine.out)
        self.engine.out.clear()
        return out

    def tick(self, at_s: float) -> list[AnyEvent]:
        """Let time pass to `at_s` and return the events."""
        self.now_ns = int(at_s * S)
        self.engine.tick(self.now_ns)
        return self.events()

    def state(self) -> BookState | None:
        """Return the state of the BTCUSDT book."""
        definition = self.engine.definitions.wanted[BTC]
        book = self.engine.book(definition)
        return book.state if book is not None else None


def test_a_session_becomes_typed_events_with_exact_values() -> None:
    """Trades, book and best bid and offer carry what was published, as exact decimals."""
    rig = Rig()
    definition, first, second, *_ = rig(btcusdt())
    assert isinstance(definition, Instrument)
    assert (definition.tick, definition.canonical, definition.min_notional) == (
        Decimal("0.01"),
        "BTC-USDT",
        None,
    )
    assert isinstance(first, Trade)
    assert (first.venue, first.kind, first.symbol, first.instrument) == (
        "binance",
        "spot",
        "BTCUSDT",
        BTC,
    )
    assert (first.price, first.quantity, first.side, first.trade_id) == (
        Decimal("61837.63"),
        Decimal("0.02"),
        Side.SELL,
        3735683259,
    )
    assert (first.ts_exchange_ns, first.ts_recv_ns) == (TS, TS + 5)
    assert str(first.price) == "61837.63"
    assert isinstance(second, Trade)
    assert str(second.quantity) == "0.048"
    assert f"{first.side}" == "sell"


def test_a_book_event_shows_the_book_after_its_change() -> None:
    """Snapshot and delta leave exactly the levels that the venue's rule gives."""
    rig = Rig(types=(Book,))
    p = Publisher()
    rig(p.define())
    (event,) = rig(p.snapshot())
    assert isinstance(event, Book)
    assert event.snapshot
    assert event.best_bid == (Decimal("61837.63"), Decimal("3.78826"))
    assert event.best_ask == (Decimal("61837.64"), Decimal("1.54698"))
    assert event.depth == (4, 3)
    kept = event.copy()
    (event,) = rig(p.delta())
    assert isinstance(event, Book)
    assert not event.snapshot
    assert event.state is BookState.LIVE
    assert event.bids() == [
        (Decimal("61837.63"), Decimal("3.78826")),
        (Decimal("61837.62"), Decimal("0.617")),
        (Decimal("61837.24"), Decimal("0.1061")),
        (Decimal("61771.97"), Decimal("0.001")),
    ]
    assert event.asks(2) == [
        (Decimal("61837.64"), Decimal("1.6052")),
        (Decimal("61862.5"), Decimal("0.0005")),
    ]
    assert event.changes.bids[2] == (Decimal("61836.01"), Decimal("0"))
    assert event.changes.asks[0] == (Decimal("61837.64"), Decimal("1.6052"))
    assert event.bid_levels(1)["price"].tolist() == [6183763]
    assert kept.depth == (4, 3)
    assert kept.bids(1) == [(Decimal("61837.63"), Decimal("3.78826"))]
    assert len(kept.changes.bids) == 4


def test_a_snapshot_in_fragments_is_one_event() -> None:
    """200 levels a side take several packets and give one Book event with all changes."""
    bids = [(f"{61837 - n}.63", "0.5") for n in range(200)]
    asks = [(f"{61838 + n}.04", "0.25") for n in range(200)]
    rig = Rig(types=(Book,))
    p = Publisher()
    rig(p.define())
    packets = p.snapshot(bids, asks)
    assert len(packets) > 1
    assert rig(packets[:-1]) == []
    assert rig.state() is None
    (event,) = rig(packets[-1:])
    assert isinstance(event, Book)
    assert event.depth == (200, 200)
    assert len(event.changes.bids) == len(event.changes.asks) == 200
    assert event.changes.asks[199] == (Decimal("62037.04"), Decimal("0.25"))
    assert event.copy().changes == event.changes


def test_a_lost_fragment_makes_the_book_suspect_until_a_snapshot() -> None:
    """After a hole in a multi-packet delta no book event comes before the next snapshot, and a
    status says so.
    """
    rig = Rig(types=(Book, Status))
    p = Publisher()
    rig(p.define() + p.snapshot())
    packets = p.delta([(f"{61000 - n}.63", "0.5") for n in range(200)], [])
    rig.engine.gap(1, 4, 1)
    (status,) = rig([packets[0], *packets[2:]])
    assert isinstance(status, Status)
    assert (status.scope, status.state, status.origin, status.instrument) == (
        StatusScope.BOOK,
        StatusState.SUSPECT,
        "feed",
        BTC,
    )
    assert rig.state() is BookState.SUSPECT
    assert rig(p.delta()) == []
    (event,) = rig(p.cycle())
    assert isinstance(event, Book)
    assert (event.state, event.snapshot) == (BookState.LIVE, True)
    assert rig.state() is BookState.LIVE


def test_after_a_gap_a_book_that_lost_nothing_is_live_again_at_once() -> None:
    """The change after a channel gap carries last + 1: the book is LIVE without a snapshot."""
    rig = Rig()
    p = Publisher()
    rig(p.define() + p.snapshot())
    p.trades((3735683259, "61837.63", "0.02", Side.SELL))
    rig.engine.gap(1, 3, 1)
    (gap,) = rig.events()
    assert isinstance(gap, Gap)
    assert (gap.venue, gap.channel_id, gap.first_missing, gap.missing, gap.instrument) == (
        "binance",
        1,
        3,
        1,
        None,
    )
    assert rig.state() is BookState.SUSPECT
    (event,) = rig(p.delta())
    assert isinstance(event, Book)
    assert event.state is BookState.LIVE
    assert rig.state() is BookState.LIVE


def test_after_a_gap_a_book_that_lost_a_change_waits_for_a_snapshot() -> None:
    """A change with a later number than last + 1 is not applied; the cycle snapshot brings the
    book back.
    """
    rig = Rig(types=(Book, Status))
    p = Publisher()
    rig(p.define() + p.snapshot())
    p.delta()
    rig.engine.gap(1, 3, 1)
    (status,) = rig(p.delta([("61837.62", "0.5")], []))
    assert isinstance(status, Status)
    assert status.reason == StatusReason.GAP
    assert rig(p.delta([("61837.62", "0.4")], [])) == []
    (event,) = rig(p.cycle())
    assert isinstance(event, Book)
    assert event.bids(2)[1] == (Decimal("61837.62"), Decimal("0.617"))


def test_a_cycle_snapshot_proves_a_quiet_book_whole() -> None:
    """After a gap, a cycle snapshot with the book's own number makes it LIVE without an event."""
    rig = Rig(types=(Book,))
    p = Publisher()
    rig(p.define() + p.snapshot())
    rig.engine.gap(1, 3, 1)
    assert rig.state() is BookState.SUSPECT
    assert rig(p.cycle()) == []
    assert rig.state() is BookState.LIVE


def test_a_live_book_passes_over_cycle_snapshots() -> None:
    """The periodic snapshot of a book that is whole makes no event."""
    rig = Rig(types=(Book,))
    p = Publisher()
    rig(p.define() + p.snapshot() + p.delta())
    assert rig(p.cycle()) == []


def test_a_late_joiner_gets_its_book_from_the_cycle() -> None:
    """Deltas before the first snapshot make no event and no book; the cycle snapshot begins it."""
    rig = Rig(types=(Book, Status))
    p = Publisher()
    p.snapshot()
    rig(p.define())
    assert rig(p.delta()) == []
    assert rig.state() is None
    (event,) = rig(p.cycle())
    assert isinstance(event, Book)
    assert event.state is BookState.LIVE
    (event,) = rig(p.delta())
    assert isinstance(event, Book)


def test_a_new_session_clears_the_books() -> None:
    """After a publisher's restart there is no book until its snapshot comes, and a status tells
    of it.
    """
    rig = Rig(types=(Book, Status))
    p = Publisher()
    rig(p.define() + p.snapshot())
    rig.engine.session(1)
    (status,) = rig.events()
    assert isinstance(status, Status)
    assert (status.scope, status.reason) == (StatusScope.CHANNEL, StatusReason.RESTART)
    assert rig.state() is None
    p = Publisher(session=p.session + 1)
    assert rig(p.delta()) == []
    (event,) = rig(p.snapshot())
    assert isinstance(event, Book)
    assert event.instrument_seq == 2


def test_the_venues_own_gap_is_an_event_and_suspends_the_book() -> None:
    """A STATUS with reason GAP becomes a Gap with expected and got; the book is SUSPECT until a
    snapshot.
    """
    rig = Rig()
    p = Publisher()
    rig(p.define() + p.snapshot())
    (gap,) = rig(p.venue_gap(50093239225, 50093239230))
    assert isinstance(gap, Gap)
    assert (gap.instrument, gap.expected, gap.got, gap.missing, gap.reason) == (
        BTC,
        50093239225,
        50093239230,
        5,
        "gap",
    )
    assert rig.state() is BookState.SUSPECT
    (event,) = rig(p.snapshot())
    assert isinstance(event, Book)
    assert rig.state() is BookState.LIVE


def test_upstream_flags_reach_the_book_state() -> None:
    """A book packet flagged SUSPECT or STALE by the feeder is handed out as such."""
    rig = Rig(types=(Book,))
    p = Publisher()
    rig(p.define() + p.snapshot())
    (event,) = rig(p.delta(flags=int(Flag.SUSPECT)))
    assert isinstance(event, Book)
    assert event.state is BookState.SUSPECT
    rig(p.status(StatusState.LIVE))
    (event,) = rig(p.delta(flags=int(Flag.STALE)))
    assert isinstance(event, Book)
    assert event.state is BookState.STALE
    (event,) = rig(p.snapshot())
    assert isinstance(event, Book)
    assert event.state is BookState.LIVE


def test_a_lost_connection_is_an_event() -> None:
    """A STATUS about a connection comes out with its state."""
    rig = Rig()
    (status,) = rig(
        Publisher().status(
            StatusState.DISCONNECTED, StatusReason.DISCONNECTED, StatusScope.CONNECTION
        )
    )
    assert isinstance(status, Status)
    assert status.disconnected
    assert (status.origin, status.instrument, status.venue) == ("venue", None, "binance")


def test_three_missed_heartbeats_make_a_venue_silent() -> None:
    """Without any packet for three intervals the channel and its books are STALE; the next
    packet ends it.
    """
    rig = Rig(types=(Book, Status))
    p = Publisher()
    rig(p.define() + p.snapshot() + p.heartbeat(interval_ms=250))
    assert rig.tick(0.75) == []
    (status,) = rig.tick(0.76)
    assert isinstance(status, Status)
    assert (status.stale, status.venue, status.scope) == (True, "binance", StatusScope.CHANNEL)
    assert rig.state() is BookState.STALE
    assert rig.tick(5) == []
    (status,) = rig(p.heartbeat())
    assert isinstance(status, Status)
    assert status.state == StatusState.LIVE
    assert rig.state() is BookState.LIVE


def test_a_venue_asked_for_by_name_is_missed_when_it_never_speaks() -> None:
    """Nothing at all from a named venue becomes a status after three seconds."""
    rig = Rig(venues=["okx"])
    assert rig.tick(3) == []
    (status,) = rig.tick(3.1)
    assert isinstance(status, Status)
    assert (status.venue, status.stale) == ("okx", True)
    assert Rig().engine.out == Rig().engine.out
    assert Rig().tick(60) == []


def test_the_end_of_a_session_makes_its_books_stale() -> None:
    """SESSION_END repeats for seconds and is told once; a new session makes the channel live
    again.
    """
    rig = Rig(types=(Book, Status))
    p = Publisher()
    rig(p.define() + p.snapshot())
    assert rig(p.end()) == []
    rig.engine.end(1)
    rig.engine.end(1)
    (status,) = rig.events()
    assert isinstance(status, Status)
    assert (status.stale, status.reason) == (True, StatusReason.RESTART)
    assert rig.state() is BookState.STALE
    assert rig(p.end()) == []
    rig.engine.session(1)
    (status,) = rig.events()
    assert isinstance(status, Status)
    assert status.state == StatusState.LIVE


def test_events_before_the_definition_are_counted_and_the_book_is_kept() -> None:
    """Without a definition there are no names, so no events; the first event after it has the
    whole book.
    """
    rig = Rig(types=(Book, Trade))
    p = Publisher()
    assert rig(p.trades((3735683259, "61837.63", "0.02", Side.SELL)) + p.snapshot()) == []
    assert rig.engine.undefined == 2
    rig(p.define())
    (event,) = rig(p.delta())
    assert isinstance(event, Book)
    assert event.depth == (4, 3)


@pytest.mark.parametrize(
    ("symbol", "texts"),
    [
        (BTC, [BTC]),
        ("BTCUSDT", [BTC]),
        ("btcusdt", [BTC]),
        ("BTC-USDT", [BTC, OKX_SPOT, PERP]),
        ("spot.BTC-USDT", [BTC, OKX_SPOT]),
        ("perpetual.BTC-USDT", [PERP]),
        ("BTC-USDT-SWAP", [PERP]),
        (PERP, [PERP]),
        ("ETH-USDT", []),
    ],
)
def test_symbols_match_native_canonical_and_full_names(symbol: str, texts: list[str]) -> None:
    """A symbol selects the instruments that its form means, books included."""
    rig = Rig(symbols=[symbol])
    for venue, text in (("binance", BTC), ("okx", OKX_SPOT), ("okx", PERP)):
        p = Publisher(venue)
        events = rig(
            p.snapshot(text=text)
            + p.define(text)
            + p.trades((1, "61837.63", "0.02", Side.SELL), text=text)
            + p.delta(text=text)
        )
        expected = [Instrument, Trade, Book] if text in texts else []
        assert [type(event) for event in events] == expected


def test_dated_contracts_do_not_match_by_base_and_quote() -> None:
    """BTC-USDT means spot and perpetual, not every option and future on it."""
    rig = Rig(symbols=["BTC-USD"])
    assert rig(Publisher("okx").define("okx.future.BTC-USD-220325", "BTC", "USD")) == []


@pytest.mark.parametrize(
    "symbol", ["BTC-USD-20220325", "future.btc-usd-20220325", "BTC-USD-220325"]
)
def test_a_dated_contract_matches_by_its_own_canonical_name(symbol: str) -> None:
    """The day of expiry is part of the name, as the feeder and `tapecast symbols` write it."""
    packets = Publisher("okx").define(
        "okx.future.BTC-USD-220325", "BTC", "USD", expiry_ns=1_648_195_200_000_000_000
    )
    (event,) = Rig(symbols=[symbol])(packets)
    assert isinstance(event, Instrument)
    assert event.canonical == "BTC-USD-20220325"


def test_a_definition_without_currencies_still_matches() -> None:
    """A provisional definition knows only the venue's symbol."""
    rig = Rig(symbols=["BTC-USDT"])
    (event,) = rig(Publisher().define(base="", quote=""))
    assert isinstance(event, Instrument)
    assert event.canonical is None


def test_a_symbol_that_matches_nothing_is_told_with_the_nearest_names() -> None:
    """Once all definitions of the channel are in, the unmatched symbol comes as a status that
    names what is near.
    """
    rig = Rig(symbols=["BTC-USD", "BTCUSDT"])
    p = Publisher()
    rig(p.define() + p.heartbeat(instruments=1))
    (status,) = rig.tick(0.1)
    assert isinstance(status, Status)
    assert (status.scope, status.origin) == (StatusScope.INSTRUMENT, "feed")
    assert "'BTC-USD'" in status.detail
    assert "BTC-USDT" in status.detail
    assert rig.tick(0.2) == []


def test_an_unknown_venue_is_refused_with_the_nearest_name() -> None:
    """A typing error in a venue's name fails at once and says what was meant."""
    with pytest.raises(UnknownVenueError, match="'binance'"):
        Selection(["binanse"], None)
    with pytest.raises(ValueError, match="lists"):
        Selection("okx", None)  # type: ignore[arg-type]


def test_packets_of_other_venues_are_passed_over() -> None:
    """With venues given, a tape with more venues yields only theirs and counts nothing
    undefined.
    """
    rig = Rig(venues=["okx"])
    assert rig(btcusdt()) == []
    assert rig.engine.undefined == 0


def test_a_repeated_definition_is_told_once_and_a_changed_one_again() -> None:
    """The definition cycle makes one event; a new version makes another."""
    rig = Rig()
    p = Publisher()
    assert len(rig(p.define())) == 1
    assert rig(p.define()) == []
    (event,) = rig(p.define(version=2, tick=10))
    assert isinstance(event, Instrument)
    assert (event.version, event.tick) == (2, Decimal("0.1"))


def test_only_what_was_asked_for_is_made() -> None:
    """With Trade alone, neither books nor other events are made."""
    rig = Rig(types=(Trade,))
    assert {type(event) for event in rig(btcusdt())} == {Trade}
    assert rig.state() is None


def test_one_sided_best_bid_and_offer() -> None:
    """A missing side is None, not zero."""
    rig = Rig(types=(Bbo,))
    p = Publisher()
    rig(p.define())
    (both,) = rig(p.bbo(("61837.63", "3.78826"), ("61837.64", "1.54698")))
    assert isinstance(both, Bbo)
    assert (both.bid, both.ask) == (
        (Decimal("61837.63"), Decimal("3.78826")),
        (Decimal("61837.64"), Decimal("1.54698")),
    )
    (bid,) = rig(p.bbo(("61837.63", "3.78826"), None))
    assert isinstance(bid, Bbo)
    assert bid.ask is None
    (ask,) = rig(p.bbo(None, ("61837.64", "1.54698")))
    assert isinstance(ask, Bbo)
    assert (ask.bid, ask.ask) == (None, (Decimal("61837.64"), Decimal("1.54698")))


def test_statistics_and_liquidations_are_events() -> None:
    """A funding rate and an index price keep their own exponent; a liquidation has the fields of
    a trade, flags included.
    """
    rig = Rig()
    p = Publisher("okx")
    rig(p.define(PERP))
    # OKX funding of BTC-USD-SWAP due 1646323200000 (the venue's message in
    # `okx/examples.jsonl`), 10 880 s ahead.
    rate = StatItem(734174532791, TS, StatKind.FUNDING_RATE, -16, 0, 10880)
    later = StatItem(UNDEFINED, 0, 99, 0)
    first, second = rig(p.send(MsgType.STAT, [rate, later], PERP))
    assert isinstance(first, Stat)
    assert (first.kind_of, str(first.value), first.ts_ns, first.aux) == (
        StatKind.FUNDING_RATE,
        "0.0000734174532791",
        TS,
        10880,
    )
    assert isinstance(second, Stat)
    assert (second.kind_of, second.value.is_nan()) == (99, True)
    item = TradeItem(
        219066264, 4356880, 700000, -1500, Side.BUY, TradeFlag.HASHED_ID | TradeFlag.BLOCK, 7
    )
    (event,) = rig(p.send(MsgType.LIQUIDATION, [item], PERP))
    assert isinstance(event, Liquidation)
    assert (event.price, event.quantity, event.side, event.condition) == (
        Decimal("43568.8"),
        Decimal(7),
        Side.BUY,
        7,
    )
    assert event.trade_flags == TradeFlag.HASHED_ID | TradeFlag.BLOCK
    assert event.ts_exchange_ns == TS - 1_500_000
    (event,) = rig(p.send(MsgType.LIQUIDATION, [item], PERP, ts_exchange_ns=0))
    assert isinstance(event, Liquidation)
    assert event.ts_exchange_ns == 0


def test_items_may_grow_at_their_end() -> None:
    """A newer publisher's longer items are read by their stride."""
    rig = Rig(types=(Trade, Book))
    p = Publisher()
    rig(p.define())
    for packet in (
        *p.trades((1, "61837.63", "0.02", Side.SELL), (2, "61837.64", "0.048", Side.BUY)),
        *p.snapshot(),
    ):
        header = decode(packet).header
        size = header.item_size
        items = [packet[66 + n * size :][:size] + bytes(8) for n in range(header.item_count)]
        grown = header._replace(
            item_size=size + 8, payload_len=header.payload_len + 8 * header.item_count
        )
        events = rig([HEADER_STRUCT.pack(*grown) + b"".join(items)])
        if header.msg_type == MsgType.TRADE:
            assert [event.trade_id for event in events if isinstance(event, Trade)] == [1, 2]
        else:
            (event,) = events
            assert isinstance(event, Book)
            assert event.changes.asks == event.asks()
            assert event.copy().changes == event.changes


def test_unknown_message_types_are_passed_over() -> None:
    """A type that this version does not know makes no event."""
    packet = bytearray(Publisher().bbo(None, ("61837.64", "1.54698"))[0])
    packet[3] = 77
    rig = Rig()
    rig(Publisher().define())
    rig.engine.packet(bytes(packet), 0, len(packet))
    assert rig.events() == []


def test_helpers_agree_with_the_registry() -> None:
    """The test publisher speaks for the registered venue and encodes levels at the book's
    exponents.
    """
    header = decode(btcusdt()[3]).header
    assert (header.msg_type, header.venue_id) == (MsgType.BOOK, VENUES["binance"])
    assert levels([("61837.63", "3.78826")])[0] == (6183763, 378826)
