"""Declarations beyond plain books and trades: prefixes, ids of text, symbols of elements, sides,
times, statistics.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapecast.feeder.extract.exact import hashed_id, iso_ns
from tapecast.feeder.extract.shapes import (
    BidAskRows,
    BookShape,
    Elements,
    FlagField,
    IdKind,
    ObjectRows,
    Rows,
    Shape,
    SidedRows,
    SideField,
    SnapshotField,
    StatField,
    TimeUnit,
    TradeId,
    TradeShape,
)
from tapecast.feeder.extract.types import ExtractStatus
from tapecast.protocol._native import ffi, lib
from tapecast.protocol.schema import Flag, MsgType, Side, StatKind, TradeFlag
from tests.feeder.extract import declared
from tests.feeder.extract.declared import shape, statistics
from tests.support.extract_pair import Pair

MS = 1723161255208
NS = MS * 10**6
UUID = "20f43950-d8dd-5b31-9112-a178eb6023af"
SIDES = {"buy": Side.BUY, "sell": Side.SELL}


def trades(**changes: object) -> TradeShape:
    """Trades under `d` that name their own instrument."""
    usual: dict[str, object] = {"symbol": None, "each": Elements("d[]", symbol="s")}
    return declared.trades(**(usual | changes))


def trade(**values: object) -> dict[str, object]:
    """One trade of the array."""
    fields: dict[str, object] = {"s": "BTCUSDT", "T": MS, "p": "1.5", "q": "2"}
    return fields | values


def answer(declared: Shape, message: object) -> tuple[ExtractStatus, Pair]:
    """Run one message through both extractors, neither of which may decline."""
    x = Pair([declared])
    x.add("BTCUSDT", -1, -2)
    status = x.run(json.dumps(message, ensure_ascii=False).encode())
    assert x.declined == 0
    return status, x


@pytest.mark.parametrize(
    ("topic", "status"),
    [
        ("orderbook.50.BTCUSDT", ExtractStatus.OK),
        ("orderbook.50.", ExtractStatus.OK),
        ("orderbook.50", ExtractStatus.NO_SHAPE),
        ("orderbook.500.BTCUSDT", ExtractStatus.NO_SHAPE),
        ("orderbook.1.BTCUSDT", ExtractStatus.NO_SHAPE),
        ("whole", ExtractStatus.OK),
        ("whole.", ExtractStatus.NO_SHAPE),
        (1, ExtractStatus.NO_SHAPE),
    ],
)
def test_a_constant_that_ends_in_a_star_is_a_prefix(topic: object, status: ExtractStatus) -> None:
    """`orderbook.50.*` takes every topic of that channel and no other; whole constants stay
    whole.
    """
    declared = shape(BookShape, where={"topic": ("orderbook.50.*", "whole")}, bids=Rows("b"))
    assert answer(declared, {"topic": topic, "s": "BTCUSDT", "T": MS, "b": []})[0] == status


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (IdKind.NUMBER, 7, 7),
        (IdKind.NUMBER, UUID, None),
        (IdKind.TEXT, UUID, UUID),
        (IdKind.TEXT, "7", "7"),
        (IdKind.TEXT, 7, None),
        (IdKind.EITHER, 7, 7),
        (IdKind.EITHER, -7, None),
        (IdKind.EITHER, "2290000000061666327", 2290000000061666327),
        (IdKind.EITHER, "18446744073709551615", 2**64 - 1),
        (IdKind.EITHER, "18446744073709551616", "18446744073709551616"),
        (IdKind.EITHER, "0" * 20 + "7", "0" * 20 + "7"),
        (IdKind.EITHER, "-7", "-7"),
        (IdKind.EITHER, "", ""),
        (IdKind.EITHER, "ETH-123", "ETH-123"),
        (IdKind.EITHER, "é" * 100, "é" * 100),
        (IdKind.EITHER, None, None),
    ],
)
def test_trade_ids_are_numbers_or_hashes(kind: IdKind, value: object, expected: object) -> None:
    """A hashed id is BLAKE2b-64 of the text with HASHED_ID; what the kind does not allow is a
    wrong type.
    """
    status, x = answer(trades(trade_id=TradeId("i", kind)), {"d": [trade(i=value)]})
    if expected is None:
        assert status == ExtractStatus.WRONG_TYPE
        return
    assert status == ExtractStatus.OK
    ((_, (item,)),) = x.packets()
    if isinstance(expected, str):
        assert (item[0], item[5]) == (
            int.from_bytes(blake2b(expected.encode(), digest_size=8).digest(), "little"),
            1,
        )
    else:
        assert (item[0], item[5]) == (expected, 0)


def test_a_missing_optional_id_is_zero_and_not_hashed() -> None:
    """Optional and absent: id 0 without HASHED_ID."""
    status, x = answer(
        trades(trade_id=TradeId("i", IdKind.TEXT), optional=("i",)), {"d": [trade()]}
    )
    assert status == ExtractStatus.OK
    assert x.packets()[0].items[0][0::5] == (0, 0)


def test_booleans_can_set_trade_flags() -> None:
    """A block trade is flagged, beside HASHED_ID."""
    declared = trades(
        trade_id=TradeId("i", IdKind.TEXT),
        flags=(FlagField("BT", {True: int(TradeFlag.BLOCK), False: 0}),),
    )
    status, x = answer(declared, {"d": [trade(i="a", BT=True), trade(i="b", BT=False)]})
    assert status == ExtractStatus.OK
    assert [item[5] for item in x.packets()[0].items] == [
        TradeFlag.BLOCK | TradeFlag.HASHED_ID,
        TradeFlag.HASHED_ID,
    ]


def test_two_sources_of_trade_flags_are_added() -> None:
    """Each may be missing; a value that either does not know makes the frame another shape."""
    flags: dict[str | bool, int] = {True: int(TradeFlag.BLOCK), False: 0}
    declared = trades(
        flags=(
            FlagField("BT", flags),
            FlagField("RPI", {True: int(TradeFlag.OFF_BOOK), False: 0}),
        )
    )
    sent = [trade(BT=True, RPI=True), trade(BT=False, RPI=True), trade(RPI=None), trade(BT=True)]
    status, x = answer(declared, {"d": sent})
    assert status == ExtractStatus.OK
    assert [item[5] for packet in x.packets() for item in packet.items] == [
        TradeFlag.BLOCK | TradeFlag.OFF_BOOK,
        TradeFlag.OFF_BOOK,
        0,
        TradeFlag.BLOCK,
    ]
    assert answer(declared, {"d": [trade(BT=True, RPI="x")]})[0] == ExtractStatus.NO_SHAPE


def test_a_star_stands_for_every_text_that_is_not_named() -> None:
    """Named texts keep their bits wherever the star stands; numbers and booleans are no texts."""
    declared = trades(
        flags=(
            FlagField("B", {"*": int(TradeFlag.BLOCK), "none": 0, True: int(TradeFlag.OFF_BOOK)}),
        )
    )
    sent = [
        trade(B="61"),
        trade(B="none"),
        trade(B=""),
        trade(B=None),
        trade(),
        trade(B="no"),
        trade(B=True),
    ]
    status, x = answer(declared, {"d": sent})
    assert status == ExtractStatus.OK
    block, off = int(TradeFlag.BLOCK), int(TradeFlag.OFF_BOOK)
    assert [item[5] for packet in x.packets() for item in packet.items] == [
        block,
        0,
        block,
        0,
        0,
        block,
        off,
    ]
    for value in (61, False, ["61"]):
        assert answer(declared, {"d": [trade(B=value)]})[0] == ExtractStatus.NO_SHAPE


@pytest.mark.parametrize(
    ("symbols", "status"),
    [
        (["BTCUSDT", "BTCUSDT"], ExtractStatus.OK),
        (["BTCUSDT", "ETHUSDT"], ExtractStatus.WRONG_TYPE),
        (["BTCUSDT", "BTCUSD"], ExtractStatus.WRONG_TYPE),
        (["BTCUSDT", 1], ExtractStatus.WRONG_TYPE),
        (["ETHUSDT", "ETHUSDT"], ExtractStatus.UNKNOWN_SYMBOL),
    ],
)
def test_elements_name_one_instrument(symbols: list[object], status: ExtractStatus) -> None:
    """The symbol of the elements is the message's; several different ones are a wrong type."""
    assert answer(trades(), {"d": [trade(s=symbol) for symbol in symbols]})[0] == status


def test_trades_may_lie_in_an_array_within_an_array() -> None:
    """`events[].trades[]`: the outer array has one element; with two, the message is refused."""
    declared = trades(each=Elements("events[].trades[]", symbol="s"))
    status, x = answer(declared, {"events": [{"trades": [trade(p="1.5"), trade(p="1.6")]}]})
    assert status == ExtractStatus.OK
    assert [item[1] for item in x.packets()[0].items] == [15, 16]
    x = Pair([declared])
    assert (
        x.run(json.dumps({"events": [{"trades": [trade()]}] * 2}).encode())
        == ExtractStatus.WRONG_TYPE
    )


def sided(columns: tuple[object, object, object], path: str = "l") -> Shape:
    """A book of rows with a side."""
    return shape(
        BookShape,
        levels=SidedRows(path, *columns, SIDES),
        snapshot=SnapshotField("k", "full", "delta"),
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("as_objects", [False, True])
def test_rows_with_a_side_become_bids_then_asks(as_objects: bool) -> None:
    """The order within each side is kept; zero quantities delete, and are left out of a
    snapshot.
    """
    rows = [
        ("sell", "3.1", "1"),
        ("buy", "2.1", "1"),
        ("sell", "3.2", "0"),
        ("buy", "2.2", "4"),
        ("sell", "3.0", "5"),
    ]
    columns = ("side", "price", "quantity") if as_objects else (0, 1, 2)
    levels = [
        dict(zip(("side", "price", "quantity"), row, strict=True)) if as_objects else list(row)
        for row in rows
    ]
    for kind, asks in (
        ("delta", [(31, 100), (32, 0), (30, 500)]),
        ("full", [(31, 100), (30, 500)]),
    ):
        status, x = answer(sided(columns), {"s": "BTCUSDT", "T": MS, "k": kind, "l": levels})
        assert status == ExtractStatus.OK
        ((header, items),) = x.packets()
        assert header.bid_count == 2
        assert items == [(21, 100), (22, 400), *asks]


def test_long_books_with_sides_outgrow_the_scratch() -> None:
    """Thousands of alternating rows come out in order."""
    rows = [["sell" if n % 3 else "buy", str(n), "1"] for n in range(1, 6000)]
    status, x = answer(sided((0, 1, 2)), {"s": "BTCUSDT", "T": MS, "k": "delta", "l": rows})
    assert status == ExtractStatus.OK
    items = [item for packet in x.packets() for item in packet.items]
    bids, asks = [n * 10 for n in range(3, 6000, 3)], [n * 10 for n in range(1, 6000) if n % 3]
    assert [price for price, _ in items] == bids + asks


@pytest.mark.parametrize(
    "row",
    [
        ["mid", "1", "1"],
        [1, "1", "1"],
        ["buy", "1"],
        ["buy", 1, "1"],
        ["buy", "1", "-1"],
        {"side": "buy"},
        [],
        None,
        ["buy", "x", "1"],
    ],
)
def test_a_row_with_a_side_that_is_none_is_a_wrong_type(row: object) -> None:
    """Unknown sides, missing columns, other types and negative quantities."""
    rows = [["buy", "1", "1"], row]
    assert (
        answer(sided((0, 1, 2)), {"s": "BTCUSDT", "T": MS, "k": "delta", "l": rows})[0]
        == ExtractStatus.WRONG_TYPE
    )


TIMED = SidedRows("l", "side", "price", "quantity", SIDES, ts="at")


def timed_row(**changes: object) -> dict[str, object]:
    """A row that has a time."""
    return {
        "side": "buy",
        "at": "2026-08-09T21:05:48.170326Z",
        "price": "1",
        "quantity": "2",
    } | changes


def test_rows_may_carry_the_time_of_their_message() -> None:
    """The first row's counts, wherever it stands in the row; without rows, or where that is no
    day of ours, it is unknown.
    """
    declared = shape(BookShape, ts=None, ts_unit=TimeUnit.ISO, levels=TIMED)
    known = 1_786_309_548_170_326_000
    for rows, ts in (
        ([timed_row()], known),
        ([timed_row(side="sell"), timed_row(at="2026-08-09T21:05:49Z"), timed_row(at=5)], known),
        (
            [{"price": "1", "quantity": "2", "side": "buy", "at": "2026-08-09T21:05:48.170326Z"}],
            known,
        ),
        ([timed_row(at="1970-01-01T00:00:00Z"), timed_row()], 0),
        ([], 0),
    ):
        status, x = answer(declared, {"s": "BTCUSDT", "l": rows})
        assert (status, x.packets()[0].header.ts_exchange_ns) == (ExtractStatus.OK, ts)
        assert bool(x.packets()[0].header.flags & Flag.BAD_TS_EXCHANGE) == (ts == 0)


@pytest.mark.parametrize(
    "row",
    [
        timed_row(at=1),
        timed_row(at=None),
        timed_row(at="soon"),
        timed_row(at=""),
        timed_row(at=[]),
        {"side": "buy"},
    ],
)
def test_a_first_row_without_a_time_is_a_wrong_type(row: dict[str, object]) -> None:
    """Numbers, null, other texts, a missing key."""
    declared = shape(BookShape, ts=None, ts_unit=TimeUnit.ISO, levels=TIMED)
    assert (
        answer(declared, {"s": "BTCUSDT", "l": [row, timed_row()]})[0] == ExtractStatus.WRONG_TYPE
    )


def test_every_row_has_the_time() -> None:
    """A later row may have any, but not none."""
    declared = shape(BookShape, ts=None, ts_unit=TimeUnit.ISO, levels=TIMED)
    short = {key: value for key, value in timed_row().items() if key != "at"}
    assert (
        answer(declared, {"s": "BTCUSDT", "l": [timed_row(), short]})[0] == ExtractStatus.WRONG_TYPE
    )


def test_levels_may_be_objects() -> None:
    """Further keys are ignored; a missing or negative one is a wrong type."""
    declared = shape(
        BookShape, bids=ObjectRows("b", "px", "qty"), asks=ObjectRows("a", "px", "qty")
    )
    message = {
        "s": "BTCUSDT",
        "T": MS,
        "b": [{"n": [1], "qty": "2", "px": "1.5"}, {"px": "1.4", "qty": "0"}],
        "a": [],
    }
    status, x = answer(declared, message)
    assert status == ExtractStatus.OK
    assert x.packets()[0].items == [(15, 200), (14, 0)]
    for row in ({"px": "1"}, {"px": "1", "qty": "-1"}, {"px": 1, "qty": "1"}, ["1", "1"], {}, 5):
        assert answer(declared, message | {"a": [row]})[0] == ExtractStatus.WRONG_TYPE


TICKER = statistics(
    StatField(StatKind.MARK_PRICE, "d.m"),
    StatField(StatKind.FUNDING_RATE, "d.f", ts="d.n", due="d.n"),
    StatField(StatKind.OPEN_INTEREST, "d.o"),
)


def test_every_statistic_present_is_an_item_with_its_own_exponent() -> None:
    """Integers have exponent 0, others lose trailing zeros; times and seconds until funding come
    from their paths.
    """
    due = MS + 90_500
    status, x = answer(
        TICKER,
        {
            "s": "BTCUSDT",
            "T": MS,
            "d": {"o": "1200", "m": "61837.50", "f": "-0.00010", "n": str(due)},
        },
    )
    assert status == ExtractStatus.OK
    ((header, items),) = x.packets()
    assert (header.msg_type, header.flags, header.price_exp, header.qty_exp, header.item_size) == (
        MsgType.STAT,
        Flag.LAST,
        -1,
        -2,
        24,
    )
    assert items == [
        (618375, NS, StatKind.MARK_PRICE, -1, 0, 0),
        (-1, due * 10**6, StatKind.FUNDING_RATE, -4, 0, 90),
        (1200, NS, StatKind.OPEN_INTEREST, 0, 0, 0),
    ]


@pytest.mark.parametrize(
    ("due", "rates"), [("0", 0), (0, 0), ("00", 0), ("1", 1), (-1, 1), ("", 1), (None, 1), (MS, 1)]
)
def test_a_due_time_of_nought_says_that_nothing_is_due(due: object, rates: int) -> None:
    """0 leaves the statistic out, its value whatever it is; an unknown time is another thing."""
    status, x = answer(
        TICKER, {"s": "BTCUSDT", "T": MS, "d": {"m": "61837.5", "f": "0.00000000", "n": due}}
    )
    assert status == ExtractStatus.OK
    kinds = [item[2] for item in x.packets()[0].items]
    assert kinds == [StatKind.MARK_PRICE, *[StatKind.FUNDING_RATE] * rates]


@pytest.mark.parametrize(
    "inside", [{}, {"m": None}, {"m": "", "f": "", "o": None}, None, {"x": "1", "n": str(MS)}]
)
def test_without_a_statistic_there_is_nothing_to_publish(inside: object) -> None:
    """Missing, null and empty values are absent; the instrument need not be known."""
    assert answer(TICKER, {"s": "nobody", "T": MS, "d": inside})[0] == ExtractStatus.SUPPRESSED


@pytest.mark.parametrize(
    ("inside", "status"),
    [
        ({"m": 5}, ExtractStatus.WRONG_TYPE),
        ({"m": "x"}, ExtractStatus.WRONG_TYPE),
        ({"m": "1", "n": "soon"}, ExtractStatus.WRONG_TYPE),
        ({"m": "1", "n": True}, ExtractStatus.WRONG_TYPE),
        ({"m": "1e200"}, ExtractStatus.TOO_LARGE),
        ({"m": "9999999999999999999"}, ExtractStatus.TOO_LARGE),
        ({"m": "1e-129"}, ExtractStatus.TOO_LARGE),
    ],
)
def test_statistics_that_cannot_be_carried(inside: object, status: ExtractStatus) -> None:
    """Other types are wrong, values beyond the wire too large; an instrument's exponents do not
    matter.
    """
    assert answer(TICKER, {"s": "BTCUSDT", "T": MS, "d": inside})[0] == status


@pytest.mark.parametrize(
    ("text", "mantissa", "exponent"),
    [
        ("0", 0, 0),
        ("-0.00", 0, 0),
        ("100", 100, 0),
        ("1.50", 15, -1),
        ("1.5e3", 1500, 0),
        ("12e-1", 12, -1),
        ("1e-128", 1, -128),
        ("1e18", 10**18, 0),
        ("4611686018427387903", 2**62 - 1, 0),
        ("1e25", 1, 25),
        ("120e20", 12, 21),
    ],
)
def test_the_exponent_of_a_statistic(text: str, mantissa: int, exponent: int) -> None:
    """0 for every integer that fits, otherwise that of the mantissa without trailing zeros."""
    status, x = answer(TICKER, {"s": "BTCUSDT", "T": MS, "d": {"m": text}})
    assert status == ExtractStatus.OK
    (item,) = x.packets()[0].items
    assert (item[0], item[3]) == (mantissa, exponent)


@pytest.mark.parametrize(
    ("due", "ts", "aux"),
    [
        (MS - 1, MS, 0),
        (MS + 999, MS, 0),
        (MS + 1000, MS, 1),
        (MS, 5, 0),
        (5, MS, 0),
        (4 * MS, MS, 0),
    ],
)
def test_seconds_until_funding(due: int, ts: int, aux: int) -> None:
    """Whole seconds; 0 where it is over, beyond 31 bits, or a time is unknown."""
    status, x = answer(TICKER, {"s": "BTCUSDT", "T": ts, "d": {"f": "1", "n": due}})
    assert status == ExtractStatus.OK
    assert x.packets()[0].items[0][5] == aux


def test_statistics_are_fragmented() -> None:
    """More than 55 statistics take two packets."""
    declared = statistics(*(StatField(StatKind.MARK_PRICE, f"k{n}") for n in range(60)))
    status, x = answer(declared, {"s": "BTCUSDT", "T": MS} | {f"k{n}": str(n) for n in range(60)})
    assert status == ExtractStatus.OK
    assert [(p.header.item_count, p.header.fragment) for p in x.packets()] == [(55, 0), (5, 1)]


ISO_BOOK = shape(BookShape, bids=Rows("b"), ts_unit=TimeUnit.ISO)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-08-08T23:54:15.208Z", NS),
        ("2024-08-08T23:54:15.208000000000+00:00", NS),
        ("2024-08-08T23:54:15.2080000001Z", 0),
        ("2024-02-29T00:00:00Z", 1709164800 * 10**9),
        ("2023-02-29T00:00:00Z", 0),
        ("2100-02-29T00:00:00Z", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("2001-09-09T01:46:39.999999999Z", 0),
        ("2001-09-09T01:46:40Z", 10**18),
        ("2262-04-11T23:47:16.854775807Z", 2**63 - 1),
        ("2262-04-11T23:47:16.854775808Z", 0),
        ("9999-12-31T23:59:59Z", 0),
        ("2016-12-31T23:59:60Z", 0),
        ("2024-08-08T24:00:00Z", 0),
        ("2024-08-08T23:54:15.Z", None),
        ("2024-08-08T23:54:15", None),
        ("2024-08-08T23:54:15+09:00", None),
        ("2024-08-08 23:54:15Z", None),
        ("", None),
        (MS, None),
        (None, None),
    ],
)
def test_iso_times(text: object, expected: int | None) -> None:
    """UTC to the nanosecond; no known time is 0 and flagged, another text is a wrong type."""
    status, x = answer(ISO_BOOK, {"s": "BTCUSDT", "T": text, "b": []})
    if expected is None:
        assert status == ExtractStatus.WRONG_TYPE
        return
    assert status == ExtractStatus.OK
    header = x.packets()[0].header
    assert (header.ts_exchange_ns, bool(header.flags & Flag.BAD_TS_EXCHANGE)) == (
        expected,
        expected == 0,
    )


def _iso_c(text: str) -> tuple[int, bool] | None:
    ns = ffi.new("int64_t *")
    data = text.encode()
    result = lib.tc_iso_ns(data, len(data), ns)
    return None if result < 0 else (ns[0], result == 0)


@given(st.datetimes(datetime(2001, 9, 10), datetime(2262, 4, 11)), st.integers(0, 999))
def test_both_read_every_time(moment: datetime, ns: int) -> None:
    """Every moment of the range is read exactly, by both."""
    text = f"{moment.isoformat(timespec='microseconds')}{ns:03}Z"
    since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    expected = since // timedelta(microseconds=1) * 1000 + ns
    assert iso_ns(text) == _iso_c(text) == (expected, True)


@given(
    st.from_regex(
        r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{0,12})?(Z|[+-]00:0[01]|)\Z"
    )
)
def test_both_refuse_the_same_texts(text: str) -> None:
    """Impossible days, hours and fractions mean the same to both."""
    assert iso_ns(text) == _iso_c(text)


@given(st.one_of(st.text(max_size=40), st.text(min_size=100, max_size=400)))
def test_both_hash_every_text_alike(text: str) -> None:
    """The C BLAKE2b is the library's, for texts within and beyond one block."""
    data = text.encode()
    assert lib.tc_blake2b64(data, len(data)) == hashed_id(text)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 255, 256, 257, 384])
def test_block_borders(length: int) -> None:
    """Texts that end at or beside the end of a block."""
    assert lib.tc_blake2b64(b"x" * length, length) == hashed_id("x" * length)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"each": Elements("d[]", symbol="s")}, "symbol"),
        ({"each": Elements("d[]", symbol="s"), "symbol": None, "optional": ("s",)}, "optional"),
        ({"each": Elements("d"), "symbol": None}, "each"),
        ({"each": Elements("d[]"), "price": "a[].p"}, "each"),
        ({"each": Elements("d[]"), "where": {"d[].k": ("x",)}}, "each"),
        ({"side": SideField("d", {"*": Side.BUY})}, "side"),
        ({"optional": ("p",)}, "optional"),
        ({"flags": (FlagField("a", {}), FlagField("b", {}), FlagField("c", {}))}, "flags"),
        ({"msg_type": MsgType.BOOK}, "msg_type"),
    ],
)
def test_trades_that_cannot_be(changes: dict[str, object], field: str) -> None:
    """Contradictory shapes are refused when they are declared, by name and field."""
    with pytest.raises(ValueError, match=f"shape trades: .*{field}"):
        declared.trades(**changes)


def test_statistics_without_a_statistic_cannot_be() -> None:
    """There would be nothing to read."""
    with pytest.raises(ValueError, match="shape statistics: stats"):
        statistics()


@pytest.mark.parametrize(
    "levels",
    [
        SidedRows("l", 0, "p", 2, SIDES),
        SidedRows("l", 0, 1, 1, SIDES),
        SidedRows("l", 0, 1, 2, {"?": Side.UNKNOWN}),
        SidedRows("l", -1, 1, 2, SIDES),
        SidedRows("l", "s", "p", "q", SIDES, ts="q"),
        SidedRows("l", 0, 1, 2, SIDES, ts="t"),
        BidAskRows(bids=ObjectRows("b", "p.x", "q")),
    ],
)
def test_levels_that_cannot_be(levels: object) -> None:
    """Columns, keys and sides that contradict each other."""
    with pytest.raises(ValueError, match="shape x: levels"):
        shape(BookShape, ts=None, levels=levels)


def test_rows_with_a_time_leave_none_to_the_message() -> None:
    """Which of the two times counts would be open."""
    with pytest.raises(ValueError, match="shape x: levels"):
        shape(BookShape, ts="T", levels=SidedRows("l", "s", "p", "q", SIDES, ts="t"))
