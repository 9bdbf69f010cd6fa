"""Packets the feeder writes itself: definitions, states, gaps and its own books."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.feeder.session.packets import PacketWriter
from tapecast.feeder.venues.spec import Exact, InstrumentDef
from tapecast.protocol.books.books import BookSet
from tapecast.protocol.codec import Packet, decode, instrument_id, parse_gap_detail, walk
from tapecast.protocol.dtypes import LEVEL
from tapecast.protocol.publish.book_packets import levels_packets
from tapecast.protocol.records import Header, InstrumentItem, StatusItem
from tapecast.protocol.schema import (
    MAX_MANTISSA,
    UNDEFINED,
    Flag,
    InstrumentFlag,
    InstrumentKind,
    InstrumentState,
    MsgType,
    StatusReason,
    StatusScope,
    StatusState,
    TradeFlag,
)
from tests.support.feeder_frames import Feed, spot_trade

NUMBER = instrument_id("binance.spot.LRCBTC")


@dataclass
class NamedInstrument:
    """An instrument as the writer needs it."""

    index: int = 3
    symbol: str = "LRCBTC"
    kind: InstrumentKind = InstrumentKind.SPOT
    instrument_id: int = NUMBER
    version: int = 1
    price_exp: int = -8
    qty_exp: int = 0


def packets(data: bytes) -> list[Packet]:
    """Return decoded packets."""
    return [decode(packet) for packet in walk(data)]


def levels(*rows: tuple[int, int]) -> np.ndarray:
    """Return levels as the books hold them."""
    return np.array(list(rows), LEVEL)


HEADER = Header(
    msg_type=MsgType.BOOK,
    flags=Flag.SNAPSHOT | Flag.RECOVERED | Flag.REPLAY,
    channel_id=1,
    venue_id=1,
    instrument_id=NUMBER,
    instrument_seq=3,
    price_exp=-8,
    qty_exp=-2,
    ts_exchange_ns=1_633_998_512_345_000_000,
)


def test_definition_carries_the_venues_numbers_at_the_instruments_exponents() -> None:
    """Tick and lot are mantissas; what the venue does not say stays open; names too long for
    their field are left out.
    """
    definition = InstrumentDef(
        symbol="LRCBTC",
        kind=InstrumentKind.SPOT,
        state=InstrumentState.TRADING,
        base="LRC",
        quote="A-NAME-TOO-LONG",
        settle="BTC",
        tick=Exact(1, -8),
        lot=Exact(1, 0),
        min_notional=Exact(1, -4),
    )
    (packet,) = packets(
        PacketWriter(1, 1, int(Flag.REPLAY)).definition(NamedInstrument(), definition, 5)
    )
    (item,) = packet.items
    assert isinstance(item, InstrumentItem)
    assert (item.symbol, item.base, item.quote, item.settle) == ("LRCBTC", "LRC", "", "BTC")
    assert (item.tick, item.lot, item.min_qty, item.strike) == (1, 1, UNDEFINED, UNDEFINED)
    assert (item.min_notional, item.notional_exp) == (1, -4)
    assert (packet.header.instrument_seq, packet.header.ts_recv_ns, packet.header.flags) == (
        3,
        5,
        Flag.REPLAY | Flag.LAST,
    )


def test_definition_number_that_is_not_exact_at_the_exponent_stays_open() -> None:
    """Never rounded."""
    definition = InstrumentDef(
        symbol="LRCBTC",
        kind=InstrumentKind.SPOT,
        state=InstrumentState.TRADING,
        base="",
        quote="",
        settle="",
        tick=Exact(15, -9),
        lot=Exact(MAX_MANTISSA, 0),
        min_qty=Exact(20, -1),
    )
    (packet,) = packets(PacketWriter(1, 1).definition(NamedInstrument(qty_exp=-1), definition))
    item = packet.items[0]
    assert isinstance(item, InstrumentItem)
    assert (item.tick, item.lot, item.min_qty) == (UNDEFINED, UNDEFINED, 20)


def test_provisional_definition_says_that_it_is_one() -> None:
    """Flag PROVISIONAL, state unknown."""
    item = packets(PacketWriter(1, 1).definition(NamedInstrument(), None))[0].items[0]
    assert isinstance(item, InstrumentItem)
    assert (item.flags, item.state) == (InstrumentFlag.PROVISIONAL, InstrumentState.UNKNOWN)


def test_symbol_that_does_not_fit_is_refused_not_cut() -> None:
    """A cut symbol could be another instrument's: 40 bytes of UTF-8 fit, 41 raise."""
    writer = PacketWriter(1, 1)
    assert packets(writer.definition(NamedInstrument(symbol="A" * 40), None))
    assert (
        packets(writer.definition(NamedInstrument(symbol="\u5e01" * 13), None))[0].items[0].symbol
        == "\u5e01" * 13
    )  # type: ignore[union-attr]
    for symbol in ("A" * 41, "\u5e01" * 14):
        with pytest.raises(ValueError, match="longer than 40 bytes"):
            writer.definition(NamedInstrument(symbol=symbol), None)


@given(text=st.text(max_size=40))
def test_status_text_is_cut_between_characters(text: str) -> None:
    """16 bytes, never half a character."""
    (packet,) = packets(
        PacketWriter(1, 1).status(
            None, StatusScope.CONNECTION, StatusState.CONNECTED, StatusReason.NONE, 7, text
        )
    )
    (item,) = packet.items
    assert isinstance(item, StatusItem)
    detail = item.detail.rstrip(b"\0").decode()
    assert text.rstrip("\0").startswith(detail)
    assert (packet.header.instrument_id, item.ts) == (0, 7)


def test_gap_names_both_ids_and_makes_the_book_suspect() -> None:
    """Ids are unsigned 64 bits; a checksum is a signed 32-bit number widened."""
    writer = PacketWriter(1, 1)
    (packet,) = packets(writer.gap(NamedInstrument(), StatusReason.GAP, 101, 2**63 + 5, 9))
    (item,) = packet.items
    assert isinstance(item, StatusItem)
    assert packet.header.flags & Flag.SUSPECT
    assert (item.scope, item.state, item.reason) == (
        StatusScope.BOOK,
        StatusState.SUSPECT,
        StatusReason.GAP,
    )
    assert parse_gap_detail(item.detail, signed=False) == (101, 2**63 + 5)
    (packet,) = packets(
        writer.gap(NamedInstrument(), StatusReason.CHECKSUM, -855196043 & (2**64 - 1), 7, 9)
    )
    assert isinstance(packet.items[0], StatusItem)
    assert parse_gap_detail(packet.items[0].detail, signed=True) == (-855196043, 7)


def rebuilt(data: bytes) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the book that a late joiner builds from packets."""
    books = BookSet()
    assert not books.apply(data).malformed
    book = books.book(NUMBER)
    assert book is not None
    assert book.complete
    return book.levels()


SIZES = [(0, 0), (1, 0), (0, 1), (41, 42), (83, 0), (0, 84), (100, 150), (900, 1100), (5000, 4999)]


@pytest.mark.parametrize(
    ("bids", "asks", "max_payload"),
    [
        (*size, limit)
        for limit in (1400, 200, 82)
        for size in SIZES
        if max(size) <= (limit - 66) // 16 * 128
    ],
)
def test_own_snapshot_is_the_book(bids: int, asks: int, max_payload: int) -> None:
    """One event, bids before asks, its fragments counted and its end marked; no packet above the
    limit.
    """
    bid_rows = [(10_000 - n, n + 1) for n in range(bids)]
    ask_rows = [(10_001 + n, n + 1) for n in range(asks)]
    data = levels_packets(HEADER, levels(*bid_rows), levels(*ask_rows), max_payload)
    found = packets(data)
    assert [packet.header.fragment for packet in found] == list(range(len(found)))
    assert [bool(packet.header.flags & Flag.LAST) for packet in found] == [False] * (
        len(found) - 1
    ) + [True]
    assert all(
        packet.header.flags & Flag.SNAPSHOT and packet.header.flags & Flag.RECOVERED
        for packet in found
    )
    assert all(66 + packet.header.payload_len <= max_payload for packet in found)
    assert sum(packet.header.bid_count for packet in found) == bids
    assert (found[0].header.ts_exchange_ns, found[0].header.instrument_seq) == (
        HEADER.ts_exchange_ns,
        3,
    )
    assert rebuilt(data) == (bid_rows, ask_rows)


@pytest.mark.parametrize(
    ("bids", "asks"), [(10_624, 10_624), (10_625, 0), (0, 10_625), (21_249, 3), (15_000, 40_000)]
)
def test_book_above_256_packets_is_a_snapshot_and_deltas(bids: int, asks: int) -> None:
    """21,248 levels are one event; what is farther from the touch follows, and the whole is the
    book.
    """
    bid_rows = [(100_000 - n, n + 1) for n in range(bids)]
    ask_rows = [(100_001 + n, n + 1) for n in range(asks)]
    data = levels_packets(HEADER, levels(*bid_rows), levels(*ask_rows), 1400)
    found = packets(data)
    assert max(packet.header.fragment for packet in found) <= 255
    events = [packet for packet in found if packet.header.fragment == 0]
    assert [bool(packet.header.flags & Flag.SNAPSHOT) for packet in events] == [True] + [False] * (
        len(events) - 1
    )
    assert (len(events) > 1) == (max(bids, asks) > 10_624)
    assert sum(bool(packet.header.flags & Flag.LAST) for packet in found) == len(events)
    assert rebuilt(data) == (bid_rows, ask_rows)


@given(
    rows=st.lists(
        st.tuples(st.integers(1, 10**12), st.integers(1, 10**12)),
        min_size=1,
        max_size=20,
        unique_by=lambda row: row[0],
    ),
    price_exp=st.integers(-14, 2),
    qty_exp=st.integers(-14, 2),
)
@settings(max_examples=200, deadline=None)
def test_rescaled_snapshot_is_exact_or_refused(
    rows: list[tuple[int, int]], price_exp: int, qty_exp: int
) -> None:
    """At other exponents than the book's: the same numbers, or nothing; never rounded, never
    wrapped.
    """
    books = BookSet()
    writer = PacketWriter(1, 1)
    header = HEADER._replace(price_exp=-8, qty_exp=-6)
    books.apply(levels_packets(header, levels(*sorted(rows, reverse=True)), levels(), 1400))
    book = books.book(NUMBER)
    assert book is not None
    data = writer.book(NamedInstrument(price_exp=price_exp, qty_exp=qty_exp), book)

    def scaled(value: int, own: int, wanted: int) -> int | None:
        result, rest = (
            (value * 10 ** (own - wanted), 0)
            if own >= wanted
            else divmod(value, 10 ** (wanted - own))
        )
        return None if rest or result > MAX_MANTISSA else result

    expected = [
        (scaled(p, -8, price_exp), scaled(q, -6, qty_exp)) for p, q in sorted(rows, reverse=True)
    ]
    if any(number is None for row in expected for number in row):
        assert data == b""
    else:
        assert [tuple(item) for packet in packets(data) for item in packet.items] == expected


def test_marking_touches_the_trade_flags_alone() -> None:
    """Every trade of every packet gets REPEATED; all other bytes stay."""
    feed = Feed("binance", "LRCBTC")
    feed.packets = b""
    feed.frame(spot_trade("0.00001150", "1"), spot_trade("0.00001151", "2", number=2))
    before = feed.packets
    buffer = bytearray(b"\xaa" * 10 + before + b"\xaa" * 10)
    PacketWriter.mark_repeated(buffer, 10, len(before))
    changed = [
        index
        for index, (old, new) in enumerate(zip(before, buffer[10:-10], strict=True))
        if old != new
    ]
    assert [before[index] ^ buffer[10 + index] for index in changed] == [TradeFlag.REPEATED] * 2
    found = [item for packet in walk(bytes(buffer[10:-10])) for item in decode(packet).items]
    # type: ignore[union-attr]
    assert [item.trade_flags for item in found] == [TradeFlag.REPEATED] * 2
    assert bytes(buffer[:10]) == bytes(buffer[-10:]) == b"\xaa" * 10
