"""Every frame of every recording has a shape or a meaning, and each message variant becomes the
packets it should.

The plain-Python extractor is asked, which the C extractor's own tests hold to the same answers;
long recordings are sampled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from tapecast.feeder.record.recording import Line, read, universe
from tapecast.feeder.session.exponents import fitting_exponents
from tapecast.feeder.venues.binance import VENUE as BINANCE
from tapecast.feeder.venues.binance_futures import VENUE as FUTURES
from tapecast.feeder.venues.okx import VENUE as OKX
from tapecast.feeder.venues.spec import VenueSpec
from tapecast.feeder.venues.upbit import VENUE as UPBIT
from tapecast.protocol.codec import Level, Packet, TradeItem, decode, instrument_id, walk
from tapecast.protocol.decimals import format_decimal
from tapecast.protocol.schema import Flag, MsgType, Side, TradeFlag
from tests.support.captures import captures, foreign, recording, recordings

fallback: ModuleType = pytest.importorskip("tapecast.feeder.extract.fallback")
types: ModuleType = pytest.importorskip("tapecast.feeder.extract.types")
ExtractStatus = types.ExtractStatus
ALL = (BINANCE, FUTURES, OKX, UPBIT)
SAMPLE = 25
"""Of a long recording every so many lines."""


class Machine:
    """An extractor of one venue that registers symbols and lowers exponents as a session does."""

    def __init__(self, venue: VenueSpec, *, rest: bool = False) -> None:
        """Prepare for streams, or for REST bodies."""
        self.venue = venue
        shapes = venue.rule.rest_shapes if rest else venue.stream.shapes
        self.extractor = fallback.FallbackExtractor(
            shapes, venue_id=venue.venue_id, channel_id=venue.venue_id
        )

    def add(self, symbol: str) -> int | None:
        """Register a symbol of the venue; None for a foreign one."""
        kind = self.venue.kind_of(symbol)
        if kind is None:
            return None
        identifier = instrument_id(f"{self.venue.name}.{kind.name.lower()}.{symbol}")
        index: int = self.extractor.add_instrument(
            symbol,
            identifier,
            self.venue.listing.default_price_exp,
            self.venue.listing.default_qty_exp,
        )
        return index

    def feed(self, frame: bytes) -> int:
        """Extract a stream frame."""
        status = self.extractor.extract(frame, 0)
        if (
            status == ExtractStatus.UNKNOWN_SYMBOL
            and self.add(self.extractor.symbol.decode()) is not None
        ):
            status = self.extractor.extract(frame, 0)
        if status in (ExtractStatus.INEXACT, ExtractStatus.TOO_LARGE):
            index = self.extractor.r.instrument
            old = self.extractor.exponents(index)
            found = fitting_exponents(self.extractor, index, frame, old)
            self.extractor.set_exponents(index, *(found or old))
            status = self.extractor.extract(frame, 0)
        return int(status)

    def feed_body(self, symbol: str, body: bytes) -> int:
        """Extract a REST body."""
        index = self.extractor.index_of(symbol)
        if index is None:
            index = self.add(symbol)
        status = self.extractor.extract_as(index, body, 0)
        if status == ExtractStatus.INEXACT:
            self.extractor.set_exponents(
                index, self.extractor.r.need_price_exp, self.extractor.r.need_qty_exp
            )
            status = self.extractor.extract_as(index, body, 0)
        return int(status)

    @property
    def packets(self) -> list[Packet]:
        """What the last extraction wrote."""
        data = bytes(memoryview(self.extractor.out)[: self.extractor.r.nbytes])
        return [decode(packet) for packet in walk(data)]


class Seen(NamedTuple):
    """What one frame became."""

    status: int
    packets: list[Packet]


def extract(venue: VenueSpec, frame: bytes) -> Seen:
    """Extract a single frame."""
    machine = Machine(venue)
    status = machine.feed(frame)
    return Seen(status, machine.packets if status == ExtractStatus.OK else [])


def example(venue: str, line: int, name: str = "examples") -> bytes:
    """Return a frame of a venue's single messages."""
    text = (captures() / venue / f"{name}.jsonl").read_text().splitlines()[line - 1]
    raw: str = json.loads(text)["raw"]
    return raw.encode()


def sampled(path: Path) -> Iterator[Line]:
    """Yield the frames of a recording, of a long one a sample."""
    step = SAMPLE if path.parent.name == "long" else 1
    return (line for line in read([path]) if line.kind == "recv" and line.number % step == 0)


@pytest.mark.parametrize("venue", ALL, ids=lambda venue: venue.name)
def test_no_recorded_frame_is_left_over(venue: VenueSpec) -> None:
    """Each frame becomes packets or has a meaning as control; foreign ones among the single
    messages are the only exceptions, and exceptions all of them.
    """
    for path in recordings(venue.name):
        machine = Machine(venue)
        single = recording(f"{path.parent.name}/{path.name}").single
        for line in sampled(path):
            status = machine.feed(line.raw)
            meaning = venue.stream.control(line.raw) if status == ExtractStatus.NO_SHAPE else None
            left_over = (
                status not in (ExtractStatus.OK, ExtractStatus.SUPPRESSED) and meaning is None
            )
            why = foreign(venue.name, line.raw) if single else None
            assert left_over == (why is not None), (
                f"{path.name}:{line.number}: {ExtractStatus(status).name} {machine.extractor.reason} {why}"
            )


@pytest.mark.parametrize("venue", [BINANCE, FUTURES], ids=lambda venue: venue.name)
def test_every_recorded_rest_book_is_read(venue: VenueSpec) -> None:
    """REST order books become snapshots with the venue's update id."""
    count = 0
    for path in recordings(venue.name):
        machine = Machine(venue, rest=True)
        only = None
        for line in read([path]):
            if line.kind != "http" or (line.url and venue.recordings.is_listing(line.url)):
                continue
            if line.url is None and only is None:
                only = universe([path], venue).only_symbol
            symbol = venue.recordings.snapshot_symbol(line.url) if line.url else only
            assert symbol is not None
            assert machine.feed_body(symbol, line.raw) == ExtractStatus.OK, (
                path,
                line.number,
                machine.extractor.reason,
            )
            body = json.loads(line.raw)
            assert machine.extractor.r.last_id == body["lastUpdateId"]
            assert machine.extractor.r.items == len(body["bids"]) + len(body["asks"])
            assert machine.packets[0].header.flags & Flag.SNAPSHOT
            assert machine.packets[0].header.ts_exchange_ns == 0
            count += 1
    assert count > 10


def level(item: object, packet: Packet) -> tuple[str, str]:
    """Return a level as decimal texts."""
    assert isinstance(item, Level)
    header = packet.header
    return format_decimal(item.price, header.price_exp), format_decimal(
        item.quantity, header.qty_exp
    )


def trade(item: object, packet: Packet) -> tuple[str, str, int, int, int]:
    """Return a trade as (price, quantity, id, side, flags)."""
    assert isinstance(item, TradeItem)
    return (
        *level(Level(item.price, item.quantity), packet),
        item.trade_id,
        item.side,
        item.trade_flags,
    )


def test_binance_aggregate_trade_is_a_trade_of_its_taker() -> None:
    """m=false: the buyer took; the id is the aggregate's; the time is T."""
    (packet,) = extract(BINANCE, example("binance", 1)).packets
    assert packet.header.msg_type == MsgType.TRADE
    assert packet.header.ts_exchange_ns == 1_616_176_861_893_000_000
    assert [trade(item, packet) for item in packet.items] == [
        ("58942.01", "0.000356", 640283266, Side.BUY, 0)
    ]


def test_binance_trade_whose_buyer_is_the_maker_is_a_sell() -> None:
    """m=true: the seller took."""
    (packet,) = extract(BINANCE, example("binance", 24)).packets
    assert [trade(item, packet) for item in packet.items] == [
        ("0.0021965", "6.48", 60276726, Side.SELL, 0)
    ]


def test_binance_spot_book_ticker_has_no_time() -> None:
    """The spot BBO carries two sides and says that it has no exchange time."""
    (packet,) = extract(BINANCE, example("binance", 6)).packets
    assert packet.header.msg_type == MsgType.BBO
    assert (packet.header.ts_exchange_ns, packet.header.bid_count) == (0, 1)
    assert packet.header.flags & Flag.BAD_TS_EXCHANGE
    assert [level(item, packet) for item in packet.items] == [
        ("29010.9", "13.94302"),
        ("29010.91", "3.99953"),
    ]


def test_binance_spot_microseconds_are_told_from_milliseconds() -> None:
    """With timeUnit=MICROSECOND the same message has 16-digit times (figures of the recorded
    trade of 2021-03-19).
    """
    frame = example("binance", 1).replace(b"1616176861893,", b"1616176861893000,")
    assert extract(BINANCE, frame).packets[0].header.ts_exchange_ns == 1_616_176_861_893_000_000


def test_usd_m_book_carries_the_matching_time_and_three_ids() -> None:
    """U, u and pu reach the book rule; the time is T, not E."""
    machine = Machine(FUTURES)
    assert machine.feed(example("binance_futures", 3)) == ExtractStatus.OK
    r = machine.extractor.r
    assert (r.first_id, r.last_id, r.prev_id) == (475776377463, 475776380184, 475776377452)
    assert r.ts_exchange_ns == 1_622_371_244_687_000_000
    assert not machine.packets[0].header.flags & Flag.SNAPSHOT


def test_usd_m_partial_depth_is_not_a_diff() -> None:
    """A partial book has the diff's event type and ids; its stream name tells, and nothing is
    published.
    """
    frame = example("binance_futures", 4)
    assert extract(FUTURES, frame).status == ExtractStatus.NO_SHAPE
    assert FUTURES.stream.control(frame) is not None
    assert extract(FUTURES, frame.replace(b"@depth20", b"@depth@500ms")).status == ExtractStatus.OK


def test_usd_m_insurance_fund_trade_is_off_book() -> None:
    """Trades that did not meet in the book are flagged; X=MARKET and a missing X are not."""
    (packet,) = extract(FUTURES, example("binance_futures", 12)).packets
    assert [trade(item, packet) for item in packet.items] == [
        ("2366.55", "0.07", 73701056, Side.SELL, TradeFlag.OFF_BOOK)
    ]
    (packet,) = extract(FUTURES, example("binance_futures", 6)).packets
    assert [trade(item, packet)[4] for item in packet.items] == [0]


def test_usd_m_trade_of_an_unknown_kind_is_not_a_trade() -> None:
    """Another X than those with evidence has no shape and no meaning: quarantine."""
    frame = example("binance_futures", 12).replace(b"INSURANCE_FUND", b"NA")
    assert extract(FUTURES, frame).status == ExtractStatus.NO_SHAPE
    assert FUTURES.stream.control(frame) is None


def test_usd_m_book_ticker_has_the_matching_time() -> None:
    """The futures BBO carries T."""
    (packet,) = extract(FUTURES, example("binance_futures", 14)).packets
    assert packet.header.ts_exchange_ns == 1_612_137_603_568_000_000
    assert [level(item, packet) for item in packet.items] == [
        ("33134.42", "0.17"),
        ("33139.39", "0.38"),
    ]


def test_foreign_symbols_have_no_instrument() -> None:
    """A COIN-M contract among spot frames is not taken for a spot pair."""
    assert extract(BINANCE, example("binance", 2)).status == ExtractStatus.UNKNOWN_SYMBOL


def test_okx_snapshot_and_update_are_told_apart() -> None:
    """The action decides; ids may be missing (2022), the checksum may be negative."""
    machine = Machine(OKX)
    assert machine.feed(example("okx", 32)) == ExtractStatus.OK
    assert (machine.extractor.r.snapshot, machine.extractor.r.checksum) == (1, -1971869027)
    assert machine.extractor.r.last_id == types.NO_ID
    assert machine.feed(example("okx", 39)) == ExtractStatus.OK
    assert machine.extractor.r.snapshot == 0
    (packet,) = machine.packets
    assert [level(item, packet) for item in packet.items] == [("161.26", "6"), ("161.24", "0")]


def test_okx_ids_join_messages() -> None:
    """In 2026 every update names the one before it."""
    machine, last = Machine(OKX), None
    for line in read([captures() / "okx" / "fastmm_20260926_btc_usdt_swap.p1.jsonl"]):
        if b'"action"' not in line.raw:
            continue
        assert machine.feed(line.raw) == ExtractStatus.OK
        r = machine.extractor.r
        assert r.prev_id == (-1 if last is None else last)
        assert bool(r.snapshot) == (last is None)
        last = r.last_id
    assert last is not None


def test_okx_bbo_is_a_bbo() -> None:
    """bbo-tbt carries one level a side and its own time."""
    (packet,) = extract(OKX, example("okx", 13)).packets
    assert packet.header.msg_type == MsgType.BBO
    assert packet.header.ts_exchange_ns == 1_656_642_503_092_000_000
    assert [level(item, packet) for item in packet.items] == [("20386.7", "50"), ("20386.8", "7")]


def test_okx_trades_carry_the_takers_side() -> None:
    """The side is the taker's already; the quantity of a swap is in contracts and stays so."""
    (packet,) = extract(OKX, example("okx", 1)).packets
    assert [trade(item, packet) for item in packet.items] == [
        ("43568.8", "7", 219066264, Side.BUY, 0)
    ]


def test_okx_liquidity_program_trades_are_off_book() -> None:
    """A source of 1 marks the Enhanced Liquidity Program (documented), source 0 an ordinary
    trade (recorded).
    """
    path = captures() / "okx" / "fastmm_20260926_btc_usdt_swap.p1.jsonl"
    frame = next(line.raw for line in read([path]) if b'"source":"0"' in line.raw)
    for source, flags in ((b"0", 0), (b"1", TradeFlag.OFF_BOOK)):
        (packet,) = extract(
            OKX, frame.replace(b'"source":"0"', b'"source":"' + source + b'"')
        ).packets
        assert {trade(item, packet)[4] for item in packet.items} == {flags}


def test_okx_rest_book_is_a_snapshot_without_time() -> None:
    """The REST body says nothing about its symbol, which the caller knows."""
    machine = Machine(OKX, rest=True)
    assert machine.feed_body("BTC-USDT", example("okx", 21)) == ExtractStatus.OK
    (packet,) = machine.packets
    assert packet.header.flags & Flag.SNAPSHOT
    assert (packet.header.ts_exchange_ns, packet.header.bid_count, packet.header.item_count) == (
        0,
        3,
        6,
    )


def test_upbit_books_are_whole_and_truncated_by_the_venue() -> None:
    """Exponents in bare numbers are exact, in both formats; SNAPSHOT and REALTIME books alike
    replace the book.
    """
    (packet,) = extract(UPBIT, example("upbit", 3)).packets
    assert packet.header.flags & Flag.SNAPSHOT
    assert packet.header.flags & Flag.TOP_ONLY
    assert [level(item, packet) for item in packet.items] == [
        ("116538000", "0.06612366"),
        ("116537000", "0.01129382"),
        ("116539000", "0.02054761"),
        ("116542000", "0.0007772"),
    ]
    (packet,) = extract(UPBIT, example("upbit", 4)).packets
    assert level(packet.items[0], packet) == ("116534000", "0.00079276")
    assert packet.header.ts_exchange_ns == 1_790_134_773_006_000_000


def test_upbit_microsecond_book_time_is_read_as_such() -> None:
    """The recorded USDT-ETC book of 2023 has 16 digits."""
    (packet,) = extract(UPBIT, example("upbit", 8)).packets
    assert packet.header.ts_exchange_ns == 1_691_530_805_062_000_000


def test_upbit_trade_carries_execution_time_and_sequential_id() -> None:
    """ASK means that the taker sold; the time is the execution's, not the push's."""
    (packet,) = extract(UPBIT, example("upbit", 2)).packets
    assert packet.header.ts_exchange_ns == 1_785_395_043_779_000_000
    assert [trade(item, packet) for item in packet.items] == [
        ("91361000", "0.01275549", 17853950437790001, Side.SELL, 0)
    ]


def test_upbit_snapshot_trade_gives_nothing() -> None:
    """The last old trade after a subscription is no new trade."""
    frame = example("upbit", 1)
    assert extract(UPBIT, frame).status == ExtractStatus.NO_SHAPE
    assert UPBIT.stream.control(frame) is not None


def test_upbit_grouped_book_is_refused() -> None:
    """A book with a grouping level is not the book: it is never published as one."""
    frame = example("upbit", 3).replace(b'"level":0', b'"level":10000')
    assert extract(UPBIT, frame).status != ExtractStatus.OK
