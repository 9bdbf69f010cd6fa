"""Every field of a packet reaches the event's field of that name."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tapecast import GapReason, StatusOrigin
from tapecast.consumers.feed.build import build_bbo, build_executions, build_stats
from tapecast.consumers.feed.events import Event, Gap, Liquidation, Names, Trade
from tapecast.protocol.codec import Header, Item, Level, StatItem, TradeItem, encode
from tapecast.protocol.records import HEADER_STRUCT
from tapecast.protocol.schema import Flag, MsgType, Side, StatKind, TradeFlag

NAMES = Names("okx", "spot", "BTC-USDT", "okx.spot.BTC-USDT")
HEADER = Header(
    flags=Flag.LAST | Flag.REPLAY,
    session=2,
    channel_id=7,
    venue_id=7,
    instrument_id=99,
    price_exp=-1,
    qty_exp=-3,
    ts_exchange_ns=10_000,
    ts_recv_ns=20_000,
    ts_send_ns=30_000,
)


def packet(
    msg_type: MsgType, items: tuple[Item, ...], bids: int = 0
) -> tuple[bytes, tuple[int, ...]]:
    """Return one packet behind three other bytes, and its header."""
    (data,) = encode(HEADER._replace(msg_type=msg_type, bid_count=bids), items)
    return b"\xff" * 3 + data, HEADER_STRUCT.unpack_from(data)


def test_names_come_first_in_every_event() -> None:
    """The factories give them by position, so the order must be that of `Names`."""
    assert Event.__struct_fields__[: len(Names._fields)] == Names._fields


@pytest.mark.parametrize(
    ("msg_type", "make"), [(MsgType.TRADE, Trade), (MsgType.LIQUIDATION, Liquidation)]
)
def test_an_execution_has_the_fields_of_its_item(
    msg_type: MsgType, make: type[Trade | Liquidation]
) -> None:
    """Every number is another, so that none can stand in the place of another."""
    items = tuple(
        TradeItem(
            trade_id=n + 1,
            price=n + 2,
            quantity=n + 3,
            ts_delta_us=4,
            side=Side.SELL,
            trade_flags=TradeFlag.BLOCK,
            condition=n + 6,
        )
        for n in (100, 200)
    )
    data, header = packet(msg_type, items)
    for event, item in zip(build_executions(data, 3, header, NAMES, make), items, strict=True):
        assert type(event) is make
        assert (event.venue, event.kind, event.symbol, event.instrument) == NAMES
        assert (event.ts_exchange_ns, event.ts_recv_ns, event.ts_send_ns) == (
            14_000,
            20_000,
            30_000,
        )
        assert event.flags == Flag.LAST | Flag.REPLAY
        assert (event.price_mantissa, event.price_exp) == (item.price, -1)
        assert (event.quantity_mantissa, event.qty_exp) == (item.quantity, -3)
        assert (event.side, event.trade_flags) == (Side.SELL, TradeFlag.BLOCK)
        assert (event.trade_id, event.condition) == (item.trade_id, item.condition)


def test_a_bbo_has_both_sides_and_a_stat_its_own_time() -> None:
    """Bid before ask; a statistic's exponent is its own."""
    data, header = packet(MsgType.BBO, (Level(11, 12), Level(13, 14)), bids=1)
    bbo = build_bbo(data, 3, header, NAMES)
    assert (bbo.bid, bbo.ask) == (
        (Decimal("1.1"), Decimal("0.012")),
        (Decimal("1.3"), Decimal("0.014")),
    )
    item = StatItem(value=15, ts=16, kind=StatKind.FUNDING_RATE, exp=-6, aux=17)
    data, header = packet(MsgType.STAT, (item,))
    (stat,) = build_stats(data, 3, header, NAMES)
    assert (stat.kind_of, stat.value_mantissa, stat.value_exp, stat.ts_ns, stat.aux) == (
        StatKind.FUNDING_RATE,
        15,
        -6,
        16,
        17,
    )
    assert (stat.ts_exchange_ns, stat.ts_recv_ns, stat.ts_send_ns) == (10_000, 20_000, 30_000)


def test_reasons_and_origins_are_equal_to_their_words() -> None:
    """Scripts that compare with a text keep working, and what is printed is the text."""
    gap = Gap(venue="okx", channel_id=7, missing=1, first_missing=5, reason=GapReason.LOSS)
    assert gap.reason == "loss"
    assert f"{gap.reason} {StatusOrigin.FEED}" == "loss feed"
    assert [*GapReason] == ["loss", "gap", "checksum"]
    assert [*StatusOrigin] == ["venue", "feed"]
