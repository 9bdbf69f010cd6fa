"""One real frame of every shape of every venue, and the packets that come of it.

The frames stand beside the shapes (`example`), or in `tests.support.shape_examples`.
"""

from __future__ import annotations

from importlib import import_module

import pytest

from tapecast.feeder.extract.fallback import FallbackExtractor
from tapecast.feeder.extract.shapes import Shape, SilentShape
from tapecast.feeder.extract.types import ExtractStatus
from tapecast.feeder.venues import VENUES, venue
from tapecast.protocol.codec import Level, Packet, StatItem, TradeItem, decode, walk
from tapecast.protocol.decimals import format_decimal
from tapecast.protocol.schema import Flag, MsgType, Side, StatKind
from tests.support.extract_pair import Pair
from tests.support.shape_examples import WITHOUT, example


def shapes_of(name: str) -> tuple[Shape, ...]:
    """Return the shapes of a venue in the order in which its session declares them."""
    spec = venue(name)
    return (*spec.stream.shapes, *spec.rule.rest_shapes)


OWNERS: dict[int, str] = {}
"""Identity of a shape -> the first venue that declares it: venues share shapes."""
for _name in VENUES:
    for _shape in shapes_of(_name):
        OWNERS.setdefault(id(_shape), _name)


def key(shape: Shape) -> tuple[str, str]:
    """Return (owner, name) of a shape."""
    return OWNERS[id(shape)], shape.name


CASES = [
    pytest.param(name, number, id=f"{name}-{shape.name}")
    for name in VENUES
    for number, shape in enumerate(shapes_of(name))
    if key(shape) not in WITHOUT
]


def frame_of(name: str, number: int) -> bytes:
    """Return the frame of a shape as the extractors receive it."""
    shape = shapes_of(name)[number]
    frame = example(OWNERS[id(shape)], shape)
    assert frame is not None
    reframe = venue(name).stream.reframe
    made = None if reframe is None else reframe(frame)
    return frame if made is None else made


def settled(name: str, number: int) -> tuple[ExtractStatus, Pair]:
    """Return what both extractors answer to a shape's frame, once instrument and exponents fit."""
    shapes = shapes_of(name)
    pair = Pair(shapes)
    index = pair.add("BODY", 0, 0) if shapes[number].by_caller else None
    status = pair.settle(frame_of(name, number), index=index)
    assert pair.declined == 0
    return status, pair


def text(packet: Packet) -> str:
    """Return a packet as one line: type, flags, exchange time, items."""
    header = packet.header
    flags = "|".join(str(flag.name) for flag in Flag(header.flags & ~Flag.LAST))
    time = header.ts_exchange_ns
    items = [item_text(packet, place) for place in range(len(packet.items))]
    return " ".join(filter(None, (MsgType(header.msg_type).name, flags, str(time), *items)))


def item_text(packet: Packet, place: int) -> str:
    """Return an item as `bid 1.5x2`, `buy 1.5x2#id` or `MARK_PRICE=1.5`."""
    header, item = packet.header, packet.items[place]
    if isinstance(item, StatItem):
        value = format_decimal(item.value, item.exp)
        return f"{StatKind(item.kind).name}={value}" + (f"@{item.aux}s" if item.aux else "")
    assert isinstance(item, Level | TradeItem)
    level = "x".join(
        (
            format_decimal(item.price, header.price_exp),
            format_decimal(item.quantity, header.qty_exp),
        )
    )
    if isinstance(item, TradeItem):
        return f"{Side(item.side).name.lower()} {level}#{item.trade_id}"
    return f"{'bid' if place < header.bid_count else 'ask'} {level}"


@pytest.mark.parametrize(("name", "number"), CASES)
def test_a_shape_takes_its_example(name: str, number: int) -> None:
    """The venue's shapes as a whole give the frame to this one, and no other would take it."""
    status, pair = settled(name, number)
    shapes = shapes_of(name)
    silent = isinstance(shapes[number], SilentShape)
    assert status == (ExtractStatus.SUPPRESSED if silent else ExtractStatus.OK)
    assert pair.c.r.shape == pair.reference.r.shape == number
    for other, shape in enumerate(shapes):
        if other == number or shape.by_caller != shapes[number].by_caller:
            continue
        alone = FallbackExtractor([shape], venue_id=1, channel_id=1)
        if shape.by_caller:
            alone.add_instrument("BODY", 1, 0, 0)
            answer = alone.extract_as(0, frame_of(name, number), 5)
        else:
            answer = alone.extract(frame_of(name, number), 5)
        assert answer == ExtractStatus.NO_SHAPE, (shape.name, alone.reason)


@pytest.mark.parametrize(("name", "number"), CASES)
def test_the_packets_of_an_example(name: str, number: int) -> None:
    """Type, flags, time and every item of what is published."""
    status, pair = settled(name, number)
    data = pair.c.out[: pair.c.r.nbytes] if status == ExtractStatus.OK else b""
    expected = PACKETS[key(shapes_of(name)[number])]
    assert [text(decode(packet)) for packet in walk(bytes(data))] == expected


def test_every_shape_has_an_example_or_a_reason() -> None:
    """A reason stands only for a shape that exists and has no frame."""
    declared = {key(shape): shape for name in VENUES for shape in shapes_of(name)}
    without = {one for one, shape in declared.items() if example(one[0], shape) is None}
    assert without == set(WITHOUT)
    assert set(PACKETS) == set(declared) - without


PACKETS: dict[tuple[str, str], list[str]] = {
    ("binance", "depth"): [
        ("BOOK 1554076801699000000 bid 4084.88x0 ask 4111.84x0"),
    ],
    ("binance", "book_ticker"): [
        ("BBO BAD_TS_EXCHANGE 0 bid 29010.9x13.94302 ask 29010.91x3.99953"),
    ],
    ("binance", "trade"): [
        ("TRADE 1567296001034000000 sell 0.0021965x6.48#60276726"),
    ],
    ("binance", "agg_trade"): [
        ("TRADE 1616176861893000000 buy 58942.01x0.000356#640283266"),
    ],
    ("binance", "rest_depth"): [
        (
            "BOOK SNAPSHOT|BAD_TS_EXCHANGE 0 bid 23171.42x0.03 bid 23171.16x0.0007 bid "
            "23109.22x0.0005 ask 23171.68x0.00067 ask 23171.69x0.00047 ask 23224.58x0.04353"
        ),
    ],
    ("binance_coinm", "book_ticker"): [
        ("BBO 1591268628155000000 bid 9548.1x52 ask 9548.5x11"),
    ],
    ("binance_coinm", "depth"): [
        ("BOOK 1591270260891000000 bid 9517.6x10 ask 9518.5x45"),
    ],
    ("binance_coinm", "trade"): [
        ("TRADE 1723161257679000000 buy 61804.8x4#849714402"),
    ],
    ("binance_coinm", "agg_trade"): [
        ("TRADE 1616201787407000000 sell 62838x5#5091038"),
    ],
    ("binance_coinm", "mark_price"): [
        (
            "STAT 1597536008000000000 MARK_PRICE=11857.56 INDEX_PRICE=11851.86949091 "
            "FUNDING_RATE=0.0001564@28792s"
        ),
    ],
    ("binance_coinm", "force_order"): [
        ("LIQUIDATION 1568014460893000000 sell 9910x0.014#0"),
    ],
    ("binance_coinm", "rest_depth"): [
        (
            "BOOK SNAPSHOT|BAD_TS_EXCHANGE 0 bid 30626.7x827 bid 30624.4x11 bid 30624.3x1 "
            "ask 30626.8x114 ask 30627.7x30 ask 30630.2x4"
        ),
    ],
    ("binance_futures", "book_ticker"): [
        ("BBO 1612137603568000000 bid 33134.42x0.17 ask 33139.39x0.38"),
    ],
    ("binance_futures", "depth"): [
        ("BOOK 1573948821948000000 bid 8493.78x0.162"),
    ],
    ("binance_futures", "trade"): [
        ("TRADE 1574381164086000000 buy 7627.6x0.044#10934580"),
    ],
    ("binance_futures", "agg_trade"): [
        ("TRADE 1616201035958000000 buy 62595.8x0.094#21021"),
    ],
    ("binance_futures", "mark_price"): [
        (
            "STAT 1597536008000000000 MARK_PRICE=11857.56 INDEX_PRICE=11851.86949091 "
            "FUNDING_RATE=0.0001564@28792s"
        ),
    ],
    ("binance_futures", "force_order"): [
        ("LIQUIDATION 1568014460893000000 sell 9910x0.014#0"),
    ],
    ("binance_futures", "rest_depth"): [
        (
            "BOOK SNAPSHOT|BAD_TS_EXCHANGE 0 bid 30430.8x0.482 bid 30430x0.012 bid "
            "30429.9x0.001 ask 30430.9x1.685 ask 30431x0.001 ask 30431.3x0.361"
        ),
    ],
    ("bithumb", "orderbook"): [
        (
            "BOOK SNAPSHOT|TOP_ONLY 1790133505564033000 bid 116204000x0.0037 bid "
            "116203000x0.0025 bid 116201000x0.0004 ask 116208000x0.3313 ask "
            "116209000x0.0001"
        ),
    ],
    ("bithumb", "trade"): [
        ("TRADE 1790133513739000000 buy 116208000x0.0009#1079953210371761700"),
    ],
    ("bithumb", "orderbook_simple"): [
        (
            "BOOK SNAPSHOT|TOP_ONLY 1790133505564000000 bid 116204000x0.0037 bid "
            "116203000x0.0025 ask 116208000x0.3313 ask 116209000x0.0001"
        ),
    ],
    ("bithumb", "trade_simple"): [
        ("TRADE 1790133513739000000 sell 116208000x0.0009#1079953210371761700"),
    ],
    ("bybit", "orderbook"): [
        ("BOOK BAD_TS_EXCHANGE 0 bid 28555.2x0.677 ask 28555.3x0.029"),
    ],
    ("bybit", "bbo"): [
        ("BBO BAD_TS_EXCHANGE 0 bid 28165.07x0.175231 ask 28165.08x0.996816"),
    ],
    ("bybit", "trades"): [
        ("TRADE 1680688979983000000 buy 94.53x0.4#1704616012747072699"),
    ],
    ("bybit", "tickers"): [
        ("STAT 1680673822776000000 FUNDING_RATE=0.0001 OPEN_INTEREST=449736674"),
    ],
    ("bybit", "liquidations"): [
        ("LIQUIDATION 1740480207110000000 buy 0.02456x2846#0"),
    ],
    ("coinbase", "l2_data"): [
        ("BOOK SNAPSHOT|BAD_TS_EXCHANGE 0 bid 21921.73x0.06317902 bid 21921.3x0.02"),
    ],
    ("coinbase", "market_trades"): [
        ("TRADE 1790732485375232000 buy 2668.35x0.03710506#846149798 sell 2668.36x1#846149799"),
    ],
    ("coinbase", "market_trades snapshot"): [],
    ("coinbase_exchange", "l2update"): [
        ("BOOK BAD_TS_EXCHANGE 0 bid 9202.7x0.5866786 ask 9222.39x0.00459825"),
    ],
    ("coinbase_exchange", "match"): [
        ("TRADE 1564617603816000000 sell 4.978x0.97133855#216544"),
    ],
    ("coinbase_exchange", "snapshot"): [
        (
            "BOOK SNAPSHOT|BAD_TS_EXCHANGE 0 bid 37209.96x0.04016376 bid "
            "37209.32x0.00192256 bid 37209.16x0.0113 ask 37212.77x0.05724592 ask "
            "37215.39x0.009 ask 37215.69x0.09654865"
        ),
    ],
    ("deribit", "book"): [
        ("BOOK SNAPSHOT 1789344930088000000 bid 0.0065x10 ask 0.0075x10"),
    ],
    ("deribit", "trades"): [
        ("TRADE 1616321287195000000 buy 56273.5x6000#15582704765397650309"),
    ],
    ("deribit", "quote"): [
        ("BBO 1654012570801000000 bid 32499x2370 ask 32503.5x2400"),
    ],
    ("deribit", "ticker"): [
        (
            "STAT 1564617604229000000 MARK_PRICE=10094.1 INDEX_PRICE=10091.15 "
            "FUNDING_RATE=0 OPEN_INTEREST=66128281"
        ),
    ],
    ("kraken", "book"): [
        ("BOOK TOP_ONLY 1696613755440295000 bid 0.5657x1098.3947558"),
    ],
    ("kraken", "trade"): [
        ("TRADE 1695628177708706000 sell 0.5117x40#4665906"),
    ],
    ("kraken", "book_v1"): [
        ("BOOK TOP_ONLY 1622766170577304000 bid 38800x0.0301732 ask 38800x0.02203518"),
    ],
    ("kraken", "trade_v1"): [
        ("TRADE 1616333924737428000 buy 57126.7x0.02063928#0"),
    ],
    ("ls", "trade"): [
        ("TRADE BAD_TS_EXCHANGE 0 buy 55550x1#10887"),
    ],
    ("ls", "UH1"): [
        (
            "BOOK SNAPSHOT|TOP_ONLY|BAD_TS_EXCHANGE 0 bid 61200x333970 bid 61100x166229 bid "
            "61000x204186 ask 61300x65308 ask 61400x363373 ask 61500x574194"
        ),
    ],
    ("ls", "H1_ HA_ NH1 NHA JH0"): [
        (
            "BOOK SNAPSHOT|TOP_ONLY|BAD_TS_EXCHANGE 0 bid 72300x70581 bid 72200x100447 bid "
            "72100x156534 ask 72400x32616 ask 72500x66102 ask 72600x74102"
        ),
    ],
    ("ls", "FH9 FH0 OH0"): [
        (
            "BOOK SNAPSHOT|TOP_ONLY|BAD_TS_EXCHANGE 0 bid 347.65x116 bid 347.6x222 bid "
            "347.55x200 bid 347.5x195 bid 347.45x274 ask 347.7x76 ask 347.75x179 ask "
            "347.8x176 ask 347.85x165 ask 347.9x200"
        ),
    ],
    ("okx", "books"): [
        ("BOOK 1640131256488000000 bid 161.26x6 bid 161.24x0"),
    ],
    ("okx", "bbo"): [
        ("BBO 1656642503092000000 bid 20386.7x50 ask 20386.8x7"),
    ],
    ("okx", "trades"): [
        ("TRADE 1646312440645000000 buy 43568.8x7#219066264"),
    ],
    ("okx", "statistics"): [
        ("STAT 1640131204676000000 MARK_PRICE=36.232"),
    ],
    ("okx", "liquidations"): [
        ("LIQUIDATION 1680173247614000000 buy 0.55205x39#0"),
    ],
    ("okx", "rest_books"): [
        (
            "BOOK SNAPSHOT|BAD_TS_EXCHANGE 0 bid 29701.6x5 bid 29701.5x2 bid 29700.4x2 ask "
            "29701.7x2 ask 29702.9x19 ask 29703.4x20"
        ),
    ],
    ("upbit", "orderbook"): [
        (
            "BOOK SNAPSHOT|TOP_ONLY 1790134743006000000 bid 116538000x0.06612366 bid "
            "116537000x0.01129382 ask 116539000x0.02054761 ask 116542000x0.0007772"
        ),
    ],
    ("upbit", "trade"): [
        ("TRADE 1614729599000000000 sell 58.4x836.12040133#1614729599000000"),
    ],
    ("upbit", "orderbook_simple"): [
        (
            "BOOK SNAPSHOT|TOP_ONLY 1790134773006000000 bid 116534000x0.00079276 bid "
            "116521000x0.01624318 ask 116606000x0.06288509 ask 116609000x0.0005"
        ),
    ],
}


def _of_their_own_tests() -> dict[tuple[str, str], list[str]]:
    """Return what the tests of a venue say of its own examples (`PACKETS`), where the table above
    does not name the venue.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for name in set(OWNERS.values()) - {owner for owner, _ in PACKETS}:
        module = import_module(f"tests.feeder.venues.test_venue_{name}")
        found |= {(name, shape): lines for shape, lines in module.PACKETS.items()}
    return found


PACKETS |= _of_their_own_tests()
