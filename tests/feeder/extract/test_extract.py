"""What the extractors do with messages of the declared shapes, by hand-written frames; both
answer every one of them.
"""

from __future__ import annotations

import json

import pytest

from tapecast.feeder.extract.shapes import (
    BestLevels,
    ConditionField,
    Elements,
    FlagField,
    LevelFields,
    Match,
    Numbers,
    PairRows,
    Rows,
    ScalarLevel,
    Shape,
    SideField,
    SilentShape,
    SnapshotField,
    TimeUnit,
    TradeId,
    TradeShape,
)
from tapecast.feeder.extract.types import NO_ID, ExtractStatus
from tapecast.protocol.schema import Flag, MsgType, Side
from tests.feeder.extract import declared
from tests.feeder.extract.declared import book, quote
from tests.support.extract_pair import Pair
from tests.support.shapes_sample import EXAMPLES, VENUES

MS = 1723161255208
NS = MS * 10**6


def trades(**changes: object) -> TradeShape:
    """Trades in an array under `d`."""
    usual: dict[str, object] = {
        "each": Elements("d[]"),
        "trade_id": TradeId("i"),
        "side": SideField("S", {"buy": Side.BUY, "sell": Side.SELL}),
    }
    return declared.trades(**(usual | changes))


def message(**values: object) -> bytes:
    """A book message; `values` replace or add keys."""
    fields: dict[str, object] = {
        "s": "BTCUSDT",
        "T": MS,
        "b": [["61837.6", "3.7"]],
        "a": [["61837.7", "1.5"]],
    }
    return json.dumps(fields | values).encode()


def trade(**values: object) -> dict[str, object]:
    """One trade of the array."""
    fields: dict[str, object] = {"p": "61837.6", "q": "0.02", "i": 3735683259, "T": MS, "S": "buy"}
    return fields | values


def pair(*shapes: Shape, **limits: int) -> Pair:
    """Both extractors with BTCUSDT at exponents -1, -2."""
    made = Pair(shapes, **limits)
    made.add("BTCUSDT", -1, -2)
    return made


def test_a_book_becomes_one_packet_with_every_header_field() -> None:
    """Header, bids first, then asks, at the instrument's exponents; what the publisher stamps is
    0 or the index.
    """
    x = pair(book(first_id="U", last_id="u"))
    assert x.run(message(U=5, u=9), ts_recv_ns=77) == ExtractStatus.OK
    ((header, items),) = x.packets()
    assert items == [(618376, 370), (618377, 150)]
    assert header == (
        (
            0x464D,
            1,
            MsgType.BOOK,
            Flag.LAST,
            2,
            1,
            0,
            8,
            7,
            0x1000,
            0,
            0,
            -1,
            -2,
            16,
            0,
            NS,
            77,
            0,
            32,
        )
    )
    r = x.c.r
    assert (r.shape, r.instrument, r.msg_type, r.nbytes, r.packets, r.items) == (
        0,
        0,
        MsgType.BOOK,
        98,
        1,
        2,
    )
    assert (r.first_id, r.last_id, r.prev_id, r.has_checksum, r.ts_exchange_ns) == (
        5,
        9,
        NO_ID,
        0,
        NS,
    )


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_key_order_and_white_space_do_not_matter(venue: str) -> None:
    """A re-serialised frame, keys reversed or indented, gives the same packets."""

    def turn(value: object) -> object:
        if isinstance(value, dict):
            return {key: turn(value[key]) for key in reversed(value)}
        return [turn(item) for item in value] if isinstance(value, list) else value

    for frame in EXAMPLES[venue]:
        x = Pair(VENUES[venue])
        index = x.add("REST", 0, 0) if b"lastUpdateId" in frame else None
        assert x.settle(frame, index=index) == ExtractStatus.OK
        expected = x.packets()
        tree = json.loads(frame, parse_float=_Text, parse_int=_Text)
        for again in (
            json.dumps(turn(tree), indent=1),
            json.dumps(tree),
            json.dumps(turn(tree), separators=(",", ":")),
        ):
            text = (
                again.replace('"\u0001', "")
                .replace('\u0001"', "")
                .replace('"\\u0001', "")
                .replace('\\u0001"', "")
            )
            assert x.run(text.encode(), index=index) == ExtractStatus.OK
            assert x.packets() == expected
        assert x.declined == 0


class _Text(str):
    """A number kept as it was written, marked so that its quotes can be removed again."""

    def __new__(cls, text: str) -> _Text:
        return super().__new__(cls, f"\u0001{text}\u0001")


def test_long_books_are_fragmented() -> None:
    """Fragments count up, each with its own bid count, LAST on the final one."""
    x = pair(book())
    levels = [[f"{n}", "1"] for n in range(1, 101)]
    assert x.run(message(b=levels, a=levels)) == ExtractStatus.OK
    packets = x.packets()
    assert [
        (p.header.fragment, p.header.item_count, p.header.bid_count, p.header.flags)
        for p in packets
    ] == [
        (0, 83, 83, 0),
        (1, 83, 17, 0),
        (2, 34, 0, Flag.LAST),
    ]
    assert [item[0] for p in packets for item in p.items] == [n * 10 for n in range(1, 101)] * 2


def test_max_payload_bounds_the_packet() -> None:
    """`max_payload` counts the header; at most 87 items go into one packet."""
    levels = [[f"{n}", "1"] for n in range(1, 101)]
    for limit, counts in ((98, [2] * 50), (1472, [87, 13])):
        x = pair(book(), max_payload=limit)
        assert x.run(message(b=levels, a=[])) == ExtractStatus.OK
        assert [p.header.item_count for p in x.packets()] == counts


def test_more_than_256_packets_go_on_as_deltas() -> None:
    """A snapshot of 50,000 levels grows the scratch, ends its event at fragment 255 and
    continues without SNAPSHOT.
    """
    x = pair(book(snapshot=True), out_capacity=1 << 12)
    levels = [[f"{n}.5", "0.25"] for n in range(1, 25_001)]
    frame = message(b=levels, a=levels)
    assert x.run(frame) == ExtractStatus.NO_SPACE
    need = x.c.r.need_bytes
    x.c.grow(need)
    x.reference.grow(need)
    assert x.run(frame) == ExtractStatus.OK
    packets = x.packets()
    assert sum(len(p.items) for p in packets) == 50_000
    assert [(p.header.fragment, p.header.flags) for p in packets[254:258]] == [
        (254, Flag.SNAPSHOT),
        (255, Flag.SNAPSHOT | Flag.LAST),
        (0, 0),
        (1, 0),
    ]
    assert packets[-1].header.flags == Flag.LAST


def test_output_starts_at_pos_and_is_left_alone_without_space() -> None:
    """Packets go to `out[pos:]`; NO_SPACE says how many bytes are missing and writes nothing."""
    x = pair(book(), out_capacity=200)
    x.c.out[:] = x.reference.out[:] = b"\xee" * 200
    assert x.run(message(), pos=102) == ExtractStatus.OK
    assert x.c.out[:102] == b"\xee" * 102
    before = bytes(x.c.out)
    for pos in (103, 200, 500, -1):
        assert x.run(message(), pos=pos) == ExtractStatus.NO_SPACE
        assert x.c.r.need_bytes == 98
        assert bytes(x.c.out) == before


def test_snapshots_leave_out_quantity_zero_and_deltas_keep_it() -> None:
    """In a snapshot a level with quantity 0 is no level; in a delta it deletes."""
    rows = [["2", "0.00"], ["1", "1"]]
    for shape, expected in ((book(), [(20, 0), (10, 100)]), (book(snapshot=True), [(10, 100)])):
        x = pair(shape)
        assert x.run(message(b=rows, a=[])) == ExtractStatus.OK
        assert x.packets()[0].items == expected
    x = pair(book(snapshot=SnapshotField("y", "snapshot", "delta")))
    for kind, expected in (("snapshot", [(10, 100)]), ("delta", [(20, 0), (10, 100)])):
        assert x.run(message(y=kind, b=rows, a=[])) == ExtractStatus.OK
        assert x.packets()[0].items == expected
        assert (
            bool(x.packets()[0].header.flags & Flag.SNAPSHOT)
            == (kind == "snapshot")
            == bool(x.c.r.snapshot)
        )
    assert x.run(message(y="other")) == ExtractStatus.NO_SHAPE
    assert x.run(message()) == ExtractStatus.NO_SHAPE


def test_an_empty_book_is_one_packet_without_items() -> None:
    """Empty snapshots and empty deltas still carry their event."""
    for shape in (book(), book(snapshot=True)):
        x = pair(shape)
        assert x.run(message(a=[], b=[])) == ExtractStatus.OK
        assert [(p.header.item_count, p.header.flags & Flag.LAST) for p in x.packets()] == [
            (0, Flag.LAST)
        ]


def test_pairs_leave_out_padding() -> None:
    """A side whose price is 0 is padding; bids and asks of the other pairs stay apart."""
    shape = book(
        numbers=Numbers.BARE,
        levels=PairRows("u", "bp", "bs", "ap", "as"),
        snapshot=True,
    )
    x = pair(shape)
    frame = (
        '{"s":"BTCUSDT","T":%d,"u":[{"ap":1.16E2,"bp":115,"as":0.5,"bs":1},{"as":2,"ap":0,"x":[{}],"bs":3,"bp":114.0},'
        '{"ap":0.0,"bp":0,"as":0,"bs":0}]}'.replace("%d", str(MS))
    )
    assert x.run(frame.encode()) == ExtractStatus.OK
    assert x.packets()[0].items == [(1150, 100), (1140, 300), (1160, 50)]
    assert x.packets()[0].header.bid_count == 2
    assert x.run(frame.replace('"bp":114.0', '"by":114.0').encode()) == ExtractStatus.WRONG_TYPE
    assert x.run(frame.replace('"bp":114.0', '"bp":"114"').encode()) == ExtractStatus.WRONG_TYPE


@pytest.mark.parametrize(
    ("frame", "items", "bids"),
    [
        ({"b": "1", "B": "2", "a": "3", "A": "4"}, [(10, 200), (30, 400)], 1),
        ({"b": "0.0", "B": "0", "a": "3", "A": "4"}, [(30, 400)], 0),
        ({"b": "1", "B": "2", "a": "3", "A": "0.00"}, [(10, 200)], 1),
        ({"b": "0", "B": "0", "a": "0", "A": "0"}, [], 0),
    ],
)
def test_quotes_with_zero_are_empty_sides(
    frame: dict[str, str], items: list[tuple[int, int]], bids: int
) -> None:
    """Price or quantity 0 means that the side is empty."""
    x = pair(quote(levels=BestLevels(bid=ScalarLevel("b", "B"), ask=ScalarLevel("a", "A"))))
    assert x.run(json.dumps({"s": "BTCUSDT", "T": MS, **frame}).encode()) == ExtractStatus.OK
    ((header, found),) = x.packets()
    assert (found, header.bid_count, header.msg_type) == (items, bids, MsgType.BBO)


@pytest.mark.parametrize(
    ("value", "code"),
    [("KRX", 1), ("NXT", 65535), ("XXX", 0), ("", 0), (None, 0), (1, 0), (True, 0)],
)
def test_a_condition_is_a_code_by_text(value: object, code: int) -> None:
    """Known texts have their code; anything else, and nothing, is 0 and no reason to refuse the
    trade.
    """
    x = pair(trades(condition=ConditionField("x", {"KRX": 1, "NXT": 65535})))
    assert (
        x.run(json.dumps({"s": "BTCUSDT", "d": [trade(x=value), trade()]}).encode())
        == ExtractStatus.OK
    )
    assert x.declined == 0
    assert [item[-1] for packet in x.packets() for item in packet.items] == [code, 0]


def _levels(side: str, count: int) -> tuple[ScalarLevel, ...]:
    return tuple(ScalarLevel(f"{side}{n}", f"{side}rem{n}") for n in range(1, count + 1))


_FLAT = {
    "snapshot": True,
    "levels": LevelFields(bids=_levels("bid", 2), asks=_levels("ask", 3)),
}


@pytest.mark.parametrize(
    ("frame", "items", "bids"),
    [
        ({}, [(10, 100), (9, 200), (11, 300), (12, 400), (13, 500)], 2),
        (
            {"bid1": "0", "bidrem1": "0", "ask3": "0", "askrem3": "0"},
            [(9, 200), (11, 300), (12, 400)],
            1,
        ),
        ({"bid2": " ", "bidrem2": "", "ask2": ""}, [(10, 100), (11, 300), (13, 500)], 1),
        ({"bidrem1": "0", "ask1": "0"}, [(9, 200), (12, 400), (13, 500)], 1),
        ({"bidrem1": " "}, None, 0),
        ({"ask2": "x"}, None, 0),
        ({"ask2": 12}, None, 0),
        ({"askrem2": "-4"}, None, 0),
    ],
)
def test_levels_of_scalars(
    frame: dict[str, object], items: list[tuple[int, int]] | None, bids: int
) -> None:
    """A level whose price is 0 or blank is none; a quantity that is missing beside a price is
    never taken for 0.
    """
    x = pair(book(**_FLAT))
    prices = {"bid1": "1.0", "bid2": "0.9", "ask1": "1.1", "ask2": "1.2", "ask3": "1.3"}
    sizes = {"bidrem1": "1", "bidrem2": "2", "askrem1": "3", "askrem2": "4", "askrem3": "5"}
    status = x.run(json.dumps({"s": "BTCUSDT", "T": MS, **prices, **sizes, **frame}).encode())
    assert x.declined == 0
    if items is None:
        assert status == ExtractStatus.WRONG_TYPE
        return
    assert status == ExtractStatus.OK
    ((header, found),) = x.packets()
    assert (found, header.bid_count) == (items, bids)
    assert header.flags & Flag.SNAPSHOT


def test_a_level_without_its_key_is_another_shape() -> None:
    """Every level is declared, so a message that lacks one is not understood."""
    assert (
        pair(book(**_FLAT)).run(
            json.dumps({"s": "BTCUSDT", "T": MS, "bid1": "1", "bidrem1": "1"}).encode()
        )
        == ExtractStatus.NO_SHAPE
    )


def test_more_levels_of_scalars_than_rows_before_them() -> None:
    """Rows that another shape of the program wanted do not take their room."""
    x = pair(book(name="flat", absent=("b",), **_FLAT), book())
    assert x.run(message(b=[["1", "1"]] * 3000, a=[])) == ExtractStatus.OK
    flat = {f"{side}{n}": "1" for side in ("bid", "bidrem", "ask", "askrem") for n in (1, 2, 3)}
    assert (
        x.run(json.dumps({"s": "BTCUSDT", "T": MS, "a": [["1", "1"]] * 3000} | flat).encode())
        == ExtractStatus.OK
    )
    assert x.packets()[0].header.item_count == 5


def test_spaces_around_a_symbol_are_padding() -> None:
    """Known or not, a padded symbol is the symbol; spaces inside belong to it."""
    x = pair(book())
    assert x.run(message(s="BTCUSDT   ")) == ExtractStatus.OK
    assert x.run(message(s=" BTCUSDT")) == ExtractStatus.OK
    for text, symbol in (
        ("ETHUSDT  ", b"ETHUSDT"),
        ("BTC USDT", b"BTC USDT"),
        ("   ", b""),
        ("", b""),
    ):
        assert x.run(message(s=text)) == ExtractStatus.UNKNOWN_SYMBOL
        assert x.c.symbol == symbol


def test_a_bbo_of_rows_takes_the_first_row() -> None:
    """Further rows are checked but not published, nor do they need exponents."""
    x = pair(quote())
    assert x.run(message(b=[["1", "2"], ["0.999", "7"]], a=[])) == ExtractStatus.OK
    assert x.packets()[0].items == [(10, 200)]
    assert x.run(message(b=[["1", "2"], ["0.999", None]], a=[])) == ExtractStatus.WRONG_TYPE


def test_trades_share_one_event_while_their_times_fit() -> None:
    """Items carry microseconds against the first trade; a time that does not fit starts the next
    event.
    """
    x = pair(trades(ts_unit=TimeUnit.AUTO))
    late = NS + (2**31) * 1000
    times = [MS, MS + 2, MS - 1, late, late + 1000, NS + 1]
    frame = {"s": "BTCUSDT", "d": [trade(T=t, i=n) for n, t in enumerate(times)]}
    assert x.run(json.dumps(frame).encode()) == ExtractStatus.OK
    packets = x.packets()
    assert [[item[3] for item in p.items] for p in packets] == [[0, 2000, -1000], [0, 1], [0]]
    assert [p.header.ts_exchange_ns for p in packets] == [NS, late, NS + 1]
    assert all(
        (p.header.flags, p.header.fragment, p.header.bid_count) == (Flag.LAST, 0, 0)
        for p in packets
    )


def test_many_trades_are_fragmented() -> None:
    """41 trades a packet; one event."""
    x = pair(trades())
    frame = {"s": "BTCUSDT", "d": [trade(i=n) for n in range(1000)]}
    assert x.run(json.dumps(frame).encode()) == ExtractStatus.OK
    packets = x.packets()
    assert [p.header.fragment for p in packets] == list(range(25))
    assert [item[0] for p in packets for item in p.items] == list(range(1000))


def test_trade_ids_are_unsigned_64_bits_bare_or_quoted() -> None:
    """The whole range is exact; fractions, exponents and negative ids are wrong types."""
    x = pair(trades())
    for value in (0, 2**64 - 1, str(2**64 - 1), 17853950437790001):
        assert (
            x.run(json.dumps({"s": "BTCUSDT", "d": [trade(i=value)]}).encode()) == ExtractStatus.OK
        )
        assert x.packets()[0].items[0][0] == int(value)
    for value in (2**64, -1, 1.0, "1e3", "", "a", None, True, [], {}):
        assert (
            x.run(json.dumps({"s": "BTCUSDT", "d": [trade(i=value)]}).encode())
            == ExtractStatus.WRONG_TYPE
        )


def test_sides_and_trade_flags() -> None:
    """Texts and booleans give the taker's side; unknown sides are wrong, unknown flags another
    shape.
    """
    x = pair(
        trades(
            side=SideField("S", {True: Side.SELL, False: Side.BUY}),
            flags=(FlagField("X", {"MARKET": 0, "FUND": 8}),),
        )
    )
    for values, expected in (
        ({"S": True}, (2, 0)),
        ({"S": False, "X": "FUND"}, (1, 8)),
        ({"S": True, "X": None}, (2, 0)),
    ):
        assert (
            x.run(json.dumps({"s": "BTCUSDT", "d": [trade(**values)]}).encode()) == ExtractStatus.OK
        )
        assert x.packets()[0].items[0][4:6] == expected
    assert (
        x.run(json.dumps({"s": "BTCUSDT", "d": [trade(S="buy")]}).encode())
        == ExtractStatus.WRONG_TYPE
    )
    assert (
        x.run(json.dumps({"s": "BTCUSDT", "d": [trade(S=True), trade(S=True, X="?")]}).encode())
        == ExtractStatus.NO_SHAPE
    )


def test_exchange_times() -> None:
    """A missing, optional or impossible time is 0 and BAD_TS_EXCHANGE; another type is wrong."""
    x = pair(book(optional=("T",)))
    good = x.run(message(T=str(MS)))
    assert (good, x.packets()[0].header.flags & Flag.BAD_TS_EXCHANGE) == (ExtractStatus.OK, 0)
    for value in (0, 1, -MS, 10**30, None):
        assert x.run(message(T=value)) == ExtractStatus.OK
        header = x.packets()[0].header
        assert (header.ts_exchange_ns, header.flags) == (0, Flag.LAST | Flag.BAD_TS_EXCHANGE)
    for value in (1.5, "x", True, []):
        assert x.run(message(T=value)) == ExtractStatus.WRONG_TYPE
    x = pair(book(ts=None))
    assert x.run(message()) == ExtractStatus.OK
    assert x.packets()[0].header.flags & Flag.BAD_TS_EXCHANGE


def test_inexact_values_say_what_they_need() -> None:
    """The exponents that would fit, without trailing zeros, never above the instrument's."""
    x = pair(book())
    assert x.run(message(b=[["61837.65000", "3.7"], ["1", "0.0010"]])) == ExtractStatus.INEXACT
    assert (x.c.r.need_price_exp, x.c.r.need_qty_exp) == (-2, -3)
    x.set_exponents(0, -2, -3)
    assert x.c.exponents(0) == (-2, -3)
    assert x.run(message(b=[["61837.65000", "3.7"], ["1", "0.0010"]])) == ExtractStatus.OK
    assert x.packets()[0].items == [(6183765, 3700), (100, 1), (6183770, 1500)]
    x.set_exponents(0, 3, 0)
    assert x.run(message(b=[["61837000", "3"]], a=[["1200", "1"]])) == ExtractStatus.INEXACT
    assert (x.c.r.need_price_exp, x.c.r.need_qty_exp) == (2, 0)


def test_values_too_large_for_the_wire() -> None:
    """2^62 - 1 fits, 2^62 does not; what no exponent carries is too large, even beside something
    inexact.
    """
    x = pair(book())
    x.set_exponents(0, 0, 0)
    assert (
        x.run(message(b=[["4611686018427387903", "1"]], a=[["-4611686018427387903", "1"]]))
        == ExtractStatus.OK
    )
    assert x.run(message(b=[["4611686018427387904", "1"]])) == ExtractStatus.TOO_LARGE
    assert x.run(message(b=[["0.5", "1"], ["1e-400", "1"]])) == ExtractStatus.TOO_LARGE
    assert x.run(message(b=[["1" + "0" * 39, "1"]])) == ExtractStatus.TOO_LARGE
    x.set_exponents(0, 30, 0)
    assert x.run(message(b=[["1" + "0" * 39, "1"]], a=[])) == ExtractStatus.OK


def test_negative_prices_are_prices_and_negative_quantities_are_wrong() -> None:
    """Spreads and rates may be negative; -0 is 0."""
    x = pair(book())
    assert x.run(message(b=[["-1.5", "2"]], a=[["-0", "-0.0"]])) == ExtractStatus.OK
    assert x.packets()[0].items == [(-15, 200), (0, 0)]
    assert x.run(message(b=[["1", "-0.01"]])) == ExtractStatus.WRONG_TYPE
    assert x.run(message(b=[["1", "-1e-400"]])) == ExtractStatus.WRONG_TYPE


@pytest.mark.parametrize(
    "value",
    [
        None,
        "x",
        1,
        True,
        {},
        [1],
        [[]],
        [["1"]],
        [["1", 2]],
        [["1", None]],
        [["", "1"]],
        [["1", "+1"]],
        [["1", ["1"]]],
    ],
)
def test_rows_of_another_type_are_wrong(value: object) -> None:
    """Whatever is no row of two quoted numbers is a wrong type, wherever it stands."""
    x = pair(book())
    for rows in (value, [["1", "2"], *value] if isinstance(value, list) else value):
        assert x.run(message(b=rows)) == ExtractStatus.WRONG_TYPE
        assert x.run(message(a=rows)) == ExtractStatus.WRONG_TYPE
    assert x.declined == 0


def test_further_columns_are_ignored_but_must_be_json() -> None:
    """Columns beyond price and quantity hold anything; other column numbers work as well."""
    x = pair(book())
    assert (
        x.run(message(b=[["1", "2", "0", "83"], ["2", "3", None, {"a": [1]}, "x\n"]], a=[]))
        == ExtractStatus.OK
    )
    assert x.packets()[0].items == [(10, 200), (20, 300)]
    assert (
        x.run(message(b=[["1", "2", "0", "83"]]).replace(b'"83"', b"08")) == ExtractStatus.MALFORMED
    )
    x = pair(book(numbers=Numbers.BARE, bids=Rows("b", 1, 2), asks=Rows("a", 2, 0)))
    assert x.run(message(b=[["new", 1.5, 2]], a=[[3, "x", 4.5, None]])) == ExtractStatus.OK
    assert x.packets()[0].items == [(15, 200), (45, 300)]


def test_identification() -> None:
    """Constants, absent paths and missing paths tell shapes apart, in declared order."""
    x = pair(
        book(name="first", where={"e": ("x", "y"), "n.m": ("1",)}),
        book(name="second", absent=("e",)),
    )
    assert x.run(message(e="y", n={"m": "1"})) == ExtractStatus.OK
    assert x.c.r.shape == 0
    assert x.run(message()) == ExtractStatus.OK
    assert x.c.r.shape == 1
    for values in (
        {"e": "z", "n": {"m": "1"}},
        {"e": "x", "n": {"m": 1}},
        {"e": "x", "n": "1"},
        {"e": None},
    ):
        assert x.run(message(**values)) == ExtractStatus.NO_SHAPE
    for frame in (b"{}", b"[]", b"1", b'"x"', b"null", b'[{"s":"BTCUSDT"}]'):
        assert x.run(frame) == ExtractStatus.NO_SHAPE


def test_single_element_arrays_have_exactly_one_element() -> None:
    """`data[].b` is a path through one object; none or two of them are a wrong type."""
    x = pair(
        book(
            where={"c": ("books",)},
            ts="d[].T",
            bids=Rows("d[].b"),
            asks=Rows("d[].a"),
            checksum="d[].k",
        )
    )
    inside = {"T": MS, "b": [["1", "2"]], "a": [], "k": -980833328}
    frame = {"c": "books", "s": "BTCUSDT", "d": [inside]}
    assert x.run(json.dumps(frame).encode()) == ExtractStatus.OK
    assert (x.c.r.checksum, x.c.r.has_checksum) == (-980833328, 1)
    for elements in ([], [inside, inside]):
        assert x.run(json.dumps(frame | {"d": elements}).encode()) == ExtractStatus.WRONG_TYPE
        assert (
            x.run(json.dumps(frame | {"d": elements, "c": "other"}).encode())
            == ExtractStatus.NO_SHAPE
        )
    assert x.run(json.dumps(frame | {"d": inside}).encode()) == ExtractStatus.NO_SHAPE
    assert x.run(json.dumps({"s": "BTCUSDT", "d": []}).encode()) == ExtractStatus.NO_SHAPE


def test_trades_that_are_not_alike() -> None:
    """The first element says which paths exist; a later one without them is a wrong type."""
    x = pair(trades())
    bad = {"p": "1"}
    for elements, status in (
        ([], 4),
        ([bad], 1),
        ([trade(), bad], 4),
        ([trade(), 1], 4),
        ([1], 1),
        ({}, 1),
        (None, 1),
    ):
        assert x.run(json.dumps({"s": "BTCUSDT", "d": elements}).encode()) == status


def test_the_envelope_may_be_there_or_not() -> None:
    """Fields sit at the root or under root[envelope]; other keys of the root do not count then."""
    x = pair(book(envelope="data", where={"e": ("d",)}))
    inside = message(e="d")
    assert x.run(inside) == ExtractStatus.OK
    for frame in (
        b'{"stream":"x","data":%s}' % inside,
        b'{"data":%s,"e":"other","s":1}' % inside,
        b'{"e":"other","b":[[]],"data":%s,"x":{}}' % inside,
    ):
        assert x.run(frame) == ExtractStatus.OK
    assert x.declined == 0
    assert x.run(b'{"data":[%s]}' % inside) == ExtractStatus.NO_SHAPE
    assert x.run(b'{"data":%s,"data":%s}' % (inside, inside)) == ExtractStatus.WRONG_TYPE


def test_a_string_beside_the_envelope_may_say_another_shape() -> None:
    """`beside_lacks` looks at wrapped frames alone, before or behind the message; what is no
    string says nothing.
    """
    x = pair(
        book(name="diff", envelope="data", beside_lacks=("stream", ("@depth5", "@rpi"))),
        book(name="any", envelope="data"),
    )
    inside = message()
    for frame, shape in (
        (b'{"stream":"btcusdt@depth@100ms","data":%s}' % inside, 0),
        (b'{"stream":"btcusdt@depth5","data":%s}' % inside, 1),
        (b'{"data":%s,"stream":"btcusdt@depth5@100ms"}' % inside, 1),
        (b'{"x":{"stream":"@rpi"},"data":%s,"stream":"x@rpiDepth@500ms"}' % inside, 1),
        (b'{"stream":"@depth","data":%s}' % inside, 0),
        (b'{"stream":"","data":%s}' % inside, 0),
        (b'{"stream":5,"data":%s}' % inside, 0),
        (b'{"stream":["@rpi"],"data":%s}' % inside, 0),
        (b'{"data":%s}' % inside, 0),
        (inside, 0),
        (message(stream="@depth5"), 0),
    ):
        assert x.run(frame) == ExtractStatus.OK
        assert x.c.r.shape == shape, frame
    assert x.declined == 0
    assert x.run(b'{"stream":"@dep\\u0074h5","data":%s}' % inside) == ExtractStatus.OK
    assert x.reference.r.shape == 1
    assert x.run(b'{"stream":"a","data":%s,"stream":"b"}' % inside) == ExtractStatus.WRONG_TYPE
    assert x.declined == 2


def test_silent_shapes_are_suppressed() -> None:
    """A recognised shape that says nothing new gives no packet and is no mystery."""
    x = pair(
        book(where={"e": ("d",)}),
        SilentShape(name="old", match=Match(where={"e": ("old",)}), symbol="s"),
    )
    assert x.run(message(e="old")) == ExtractStatus.SUPPRESSED
    assert x.run(message(e="older")) == ExtractStatus.NO_SHAPE


def test_unknown_symbols_are_named() -> None:
    """The symbol's bytes come back, non-ASCII ones too, and nothing else happens."""
    x = pair(book())
    assert x.run(message(s="BTCUSDTX")) == ExtractStatus.UNKNOWN_SYMBOL
    assert x.c.symbol == b"BTCUSDTX"
    frame = message().replace(b"BTCUSDT", "币安人生USDT".encode())
    assert x.settle(frame) == ExtractStatus.OK
    assert x.c.index_of("币安人生USDT") == 1
    assert x.run(message(s=5)) == ExtractStatus.WRONG_TYPE


def test_many_instruments() -> None:
    """Thousands of symbols of any length keep their own index and id."""
    x = pair(book())
    symbols = ["S" * (n % 40) + str(n) for n in range(3000)]
    indexes = [x.add(symbol, 0, 0) for symbol in symbols]
    for n in range(0, 3000, 7):
        assert x.run(message(s=symbols[n], b=[], a=[])) == ExtractStatus.OK
        header = x.packets()[0].header
        assert (header.instrument_seq, header.instrument_id) == (indexes[n], 0x1000 + indexes[n])
    with pytest.raises(ValueError, match="exists"):
        x.c.add_instrument("BTCUSDT", 1, 0, 0)


def test_bodies_are_extracted_for_the_instrument_the_caller_names() -> None:
    """`extract_as` tries only shapes without a symbol, `extract` only those with one."""
    rest = book(symbol=None, ts=None, last_id="lastUpdateId", snapshot=True)
    x = pair(book(), rest)
    body = b'{"lastUpdateId":499869752,"b":[["0.5","1"]],"a":[]}'
    assert x.run(body, index=0) == ExtractStatus.OK
    assert (x.c.r.shape, x.c.r.last_id, x.c.r.snapshot) == (1, 499869752, 1)
    assert x.run(body) == ExtractStatus.NO_SHAPE
    with pytest.raises(IndexError):
        x.c.extract_as(1, body, 0)


def test_zero_paths() -> None:
    """A path that must be 0 may be missing; any other value is a wrong type."""
    x = pair(book(zero=("level",)))
    for value in (0, "0", 0.0, "0.00"):
        assert x.run(message(level=value)) == ExtractStatus.OK
    assert x.run(message()) == ExtractStatus.OK
    for value in (1, "1", None, True, [], "", 1e-300):
        assert x.run(message(level=value)) == ExtractStatus.WRONG_TYPE


def test_escapes_and_repeated_keys_are_left_to_the_fallback() -> None:
    """The C extractor declines; the fallback reads escapes and refuses what is ambiguous."""
    x = pair(book())
    for old, new, status in (
        (b'"s"', b'"\\u0073"', ExtractStatus.OK),
        (b'"BTCUSDT"', b'"BTC\\u0055SDT"', ExtractStatus.OK),
        (b'"61837.6"', b'"6183\\u0037.6"', ExtractStatus.OK),
        (b'"s"', b'"T":1,"s"', ExtractStatus.WRONG_TYPE),
        (b'"s"', b'"b":[],"s"', ExtractStatus.WRONG_TYPE),
    ):
        before = x.declined
        assert x.run(message().replace(old, new)) == status
        assert x.declined == before + 1


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b" ",
        b"{",
        b'{"s"',
        b'{"s":}',
        b'{"s":1,}',
        b"{,}",
        b"[1,]",
        b"{} {}",
        b"{}x",
        b"\xef\xbb\xbf{}",
        b'{"x":"\x01"}',
        b'{"x":"\xff"}',
        b'{"x":"\xed\xa0\x80"}',
        b'{"x":"\xc0\x80"}',
        b'{"x":"\\q"}',
        b'{"x":"\\u12g4"}',
        b'{"x":01}',
        b'{"x":+1}',
        b'{"x":1.}',
        b'{"x":.5}',
        b'{"x":1e}',
        b'{"x":NaN}',
        b'{"x":Infinity}',
        b'{"x":tru}',
        b"{'x':1}",
        b'{"x":[}',
        b'{"x":[[]}',
        b'{"x"=1}',
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
        b'{"x":' * 65 + b"1" + b"}" * 65,
    ],
)
def test_malformed_frames(frame: bytes) -> None:
    """Anything but one JSON text in UTF-8, nested at most 64 deep, is malformed, wherever the
    defect stands.
    """
    x = pair(book())
    assert x.run(frame) == ExtractStatus.MALFORMED
    assert x.run(message()[:-1] + b',"y":' + frame + b"}") == (ExtractStatus.MALFORMED)
    assert x.declined == 0


def test_the_deepest_accepted_nesting() -> None:
    """64 open containers are fine."""
    x = pair(book())
    assert x.run(b"[" * 64 + b"]" * 64) == ExtractStatus.NO_SHAPE
    assert x.run(message(y=json.loads("[" * 63 + "]" * 63))) == ExtractStatus.OK


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"bids": Rows("b[]")}, "each"),
        ({"symbol": "s[]"}, "each"),
        ({"symbol": "a..b"}, "path"),
        ({"symbol": 'a"b'}, "path"),
        ({"symbol": ""}, "path"),
        ({"optional": ("s",)}, "optional: the symbol"),
        ({"optional": ("t",)}, "optional: 't'"),
        ({"bids": None, "asks": None}, "levels"),
        ({"ts": None, "ts_unit": TimeUnit.ISO}, "ts_unit"),
        ({"levels": BestLevels(bid=ScalarLevel("p", "q"))}, "levels"),
        ({"levels": LevelFields(bids=_levels("b", 1), asks=())}, "snapshot"),
        (
            {
                "snapshot": True,
                "levels": LevelFields(bids=_levels("b", 20), asks=_levels("a", 1)),
            },
            "levels: more than 20",
        ),
        ({"snapshot": True, "levels": LevelFields(bids=(), asks=())}, "levels"),
        ({"beside_lacks": ("stream", ("@depth5",))}, "beside_lacks"),
        ({"beside_lacks": ("s", ("@depth5",)), "envelope": "data"}, "beside_lacks"),
        ({"beside_lacks": ("stream", ("",)), "envelope": "data"}, "beside_lacks"),
        ({"snapshot": SnapshotField("e", "a", "b"), "where": {"e": ("a",)}}, "snapshot"),
    ],
)
def test_declarations_that_cannot_be(changes: dict[str, object], field: str) -> None:
    """A shape that no extractor could read is refused where it is declared, by name and field."""
    with pytest.raises(ValueError, match=f"shape book: .*{field}"):
        book(**changes)


def test_a_quote_has_no_levels_of_a_whole_book() -> None:
    """More than one scalar level a side is a book."""
    with pytest.raises(ValueError, match="shape quote: levels"):
        quote(levels=LevelFields(bids=_levels("b", 1), asks=()))


@pytest.mark.parametrize("name", ["each", "price", "stats", "checksum", "trade_id"])
def test_fields_of_another_kind_cannot_be_written(name: str) -> None:
    """A quote has no trades, statistics or checksums; the type checker says so, and Python."""
    with pytest.raises(TypeError, match=name):
        quote(**{name: "x"})


def test_the_limits_are_checked() -> None:
    """Exponents are 8 bits; packets hold at least one item and no more than a datagram."""
    x = pair(book())
    with pytest.raises(ValueError, match="8 bits"):
        x.c.set_exponents(0, -129, 0)
    for limit in (97, 1473):
        with pytest.raises(ValueError, match="max_payload"):
            Pair([book()], max_payload=limit)


def test_contradicting_shapes_keep_their_order() -> None:
    """The same path read as different rows works, first shape first."""
    x = pair(
        book(name="one", where={"e": ("1",)}),
        book(name="two", where={"e": ("2",)}, bids=Rows("b", 1, 0)),
        book(name="three", bids=Rows("b", 1, 0)),
    )
    for e, number, item in (("1", 0, (10, 200)), ("2", 1, (20, 100)), ("3", 2, (20, 100))):
        assert x.run(message(e=e, b=[["1", "2"]], a=[])) == ExtractStatus.OK
        assert (x.c.r.shape, x.packets()[0].items) == (number, [item])
