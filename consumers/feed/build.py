"""Packets to events, one function a message type, and the events that a feed adds of its own: no
state, no decisions; what the numbers mean is in `consumers.feed.events`.

Events get their fields by keyword. Only the names come first and by position, in the order of
`Names` (a test compares it with `Event`): spreading them with `*` beside keywords would cost more
than the rest of the event.
"""

from __future__ import annotations

from typing import Final

from tapecast.consumers.feed.books import Change
from tapecast.consumers.feed.events import (
    Bbo,
    Book,
    BookState,
    Fragment,
    Gap,
    GapReason,
    Liquidation,
    Names,
    Stat,
    Status,
    StatusOrigin,
    Trade,
)
from tapecast.protocol.books.book import KernelBook
from tapecast.protocol.codec import Buffer, parse_gap_detail
from tapecast.protocol.fields import (
    BID_COUNT,
    CHANNEL_ID,
    FLAGS,
    INSTRUMENT_SEQ,
    ITEM_COUNT,
    ITEM_SIZE,
    PRICE_EXP,
    QTY_EXP,
    TS_EXCHANGE_NS,
    TS_RECV_NS,
    TS_SEND_NS,
    VENUE_ID,
    HeaderTuple,
)
from tapecast.protocol.records import ITEM_STRUCT, StatusItem
from tapecast.protocol.schema import (
    HEADER_SIZE,
    Flag,
    MsgType,
    Side,
    StatKind,
    StatusReason,
    StatusScope,
    StatusState,
    TradeFlag,
    venue_name,
)

__all__ = [
    "build_bbo",
    "build_book",
    "build_executions",
    "build_loss",
    "build_own_status",
    "build_stats",
    "build_status",
    "build_venue_gap",
    "build_whole_book",
    "flags_of",
]

_TRADE: Final = ITEM_STRUCT[MsgType.TRADE]
_LEVEL: Final = ITEM_STRUCT[MsgType.BBO]
_STAT: Final = ITEM_STRUCT[MsgType.STAT]
_SNAPSHOT: Final = int(Flag.SNAPSHOT)
_FLAGS: dict[int, Flag] = {}
_SIDES: Final = {int(side): side for side in Side}
_TRADE_FLAGS: Final = {value: TradeFlag(value) for value in range(32)}
_STAT_KINDS: Final = {int(kind): kind for kind in StatKind}
_SCOPES: Final = {int(scope): scope for scope in StatusScope}
_STATES: Final = {int(state): state for state in StatusState}
_REASONS: Final = {int(reason): reason for reason in StatusReason}


def flags_of(value: int) -> Flag:
    """Return header flags as such."""
    found = _FLAGS.get(value)
    if found is None:
        found = _FLAGS[value] = Flag(value)
    return found


def build_executions(
    data: Buffer, at: int, header: HeaderTuple, names: Names, make: type[Trade | Liquidation]
) -> list[Trade | Liquidation]:
    """Return the events of the TRADE or LIQUIDATION packet at `data[at]`, one an item."""
    venue, kind, symbol, instrument = names
    ts, recv_ns, send_ns = header[TS_EXCHANGE_NS], header[TS_RECV_NS], header[TS_SEND_NS]
    price_exp, qty_exp, step = header[PRICE_EXP], header[QTY_EXP], header[ITEM_SIZE]
    flags = flags_of(header[FLAGS])
    first = at + HEADER_SIZE
    out = []
    for offset in range(first, first + header[ITEM_COUNT] * step, step):
        trade_id, price, quantity, delta_us, side, trade_flags, condition = _TRADE.unpack_from(
            data, offset
        )
        out.append(
            make(
                venue,
                kind,
                symbol,
                instrument,
                ts_exchange_ns=ts + 1000 * delta_us if ts else 0,
                ts_recv_ns=recv_ns,
                ts_send_ns=send_ns,
                flags=flags,
                price_mantissa=price,
                quantity_mantissa=quantity,
                price_exp=price_exp,
                qty_exp=qty_exp,
                side=_SIDES.get(side, Side.UNKNOWN),
                trade_id=trade_id,
                trade_flags=_TRADE_FLAGS.get(trade_flags) or TradeFlag(trade_flags),
                condition=condition,
            )
        )
    return out


def build_bbo(data: Buffer, at: int, header: HeaderTuple, names: Names) -> Bbo:
    """Return the event of the BBO packet at `data[at]`."""
    venue, kind, symbol, instrument = names
    first, step = at + HEADER_SIZE, header[ITEM_SIZE]
    count, bids = header[ITEM_COUNT], header[BID_COUNT]
    return Bbo(
        venue,
        kind,
        symbol,
        instrument,
        ts_exchange_ns=header[TS_EXCHANGE_NS],
        ts_recv_ns=header[TS_RECV_NS],
        ts_send_ns=header[TS_SEND_NS],
        flags=flags_of(header[FLAGS]),
        bid_mantissas=_LEVEL.unpack_from(data, first) if bids else None,
        ask_mantissas=_LEVEL.unpack_from(data, first + bids * step) if count > bids else None,
        price_exp=header[PRICE_EXP],
        qty_exp=header[QTY_EXP],
    )


def build_stats(data: Buffer, at: int, header: HeaderTuple, names: Names) -> list[Stat]:
    """Return the events of the STAT packet at `data[at]`, one an item."""
    venue, kind, symbol, instrument = names
    first, step = at + HEADER_SIZE, header[ITEM_SIZE]
    flags = flags_of(header[FLAGS])
    out = []
    for offset in range(first, first + header[ITEM_COUNT] * step, step):
        value, ts, kind_of, exp, _, aux = _STAT.unpack_from(data, offset)
        out.append(
            Stat(
                venue,
                kind,
                symbol,
                instrument,
                ts_exchange_ns=header[TS_EXCHANGE_NS],
                ts_recv_ns=header[TS_RECV_NS],
                ts_send_ns=header[TS_SEND_NS],
                flags=flags,
                kind_of=_STAT_KINDS.get(kind_of, kind_of),
                value_mantissa=value,
                value_exp=exp,
                ts_ns=ts,
                aux=aux,
            )
        )
    return out


def build_book(header: HeaderTuple, names: Names, change: Change) -> Book:
    """Return the event of a change of a book; `header` is that of its last packet."""
    venue, kind, symbol, instrument = names
    return Book(
        venue,
        kind,
        symbol,
        instrument,
        ts_exchange_ns=header[TS_EXCHANGE_NS],
        ts_recv_ns=header[TS_RECV_NS],
        ts_send_ns=header[TS_SEND_NS],
        flags=flags_of(header[FLAGS]),
        state=change.state,
        snapshot=bool(header[FLAGS] & _SNAPSHOT),
        instrument_seq=header[INSTRUMENT_SEQ],
        levels=change.book,
        price_exp=header[PRICE_EXP],
        qty_exp=header[QTY_EXP],
        fragments=change.fragments,
    )


def build_whole_book(
    kept: KernelBook, state: BookState, names: Names, *, snapshot: bool = True
) -> Book:
    """Return a book as it is now. As a `snapshot` the event begins with it: all its levels are
    its change, and its flags have SNAPSHOT and RECOVERED; else its change is empty.
    """
    fragments: tuple[Fragment, ...] = ()
    if snapshot:
        bids, asks = kept.bids(), kept.asks()
        fragments = (
            Fragment(
                data=bids.tobytes() + asks.tobytes(),
                start=0,
                item_count=len(bids) + len(asks),
                bid_count=len(bids),
                item_size=bids.dtype.itemsize,
            ),
        )
    venue, kind, symbol, instrument = names
    return Book(
        venue,
        kind,
        symbol,
        instrument,
        ts_exchange_ns=kept.ts_exchange_ns,
        ts_recv_ns=kept.ts_recv_ns,
        ts_send_ns=0,
        flags=flags_of(kept.flags | Flag.SNAPSHOT | Flag.RECOVERED if snapshot else kept.flags),
        state=state,
        snapshot=snapshot,
        instrument_seq=kept.instrument_seq,
        levels=kept,
        price_exp=kept.price_exp,
        qty_exp=kept.qty_exp,
        fragments=fragments,
    )


def build_status(header: HeaderTuple, names: Names | None, item: StatusItem) -> Status:
    """Return the event of a status of the venue's feeder; without names it is about no instrument
    that is defined.
    """
    kind, symbol, instrument = _identity(names)
    return Status(
        venue=venue_name(header[VENUE_ID]),
        kind=kind,
        symbol=symbol,
        instrument=instrument,
        ts_ns=item.ts,
        scope=_SCOPES.get(item.scope, item.scope),
        state=_STATES.get(item.state, item.state),
        reason=_REASONS.get(item.reason, item.reason),
        counts=item.counts,
        detail=item.detail.rstrip(b"\0").decode("utf-8", "replace"),
        origin=StatusOrigin.VENUE,
    )


def build_own_status(
    venue: str,
    scope: StatusScope,
    state: StatusState,
    reason: StatusReason,
    detail: str,
    *,
    names: Names | None = None,
    ts_ns: int = 0,
) -> Status:
    """Return a status of this feed's own."""
    kind, symbol, instrument = _identity(names)
    return Status(
        venue=venue,
        kind=kind,
        symbol=symbol,
        instrument=instrument,
        ts_ns=ts_ns,
        scope=scope,
        state=state,
        reason=reason,
        counts=1,
        detail=detail,
        origin=StatusOrigin.FEED,
    )


def build_venue_gap(header: HeaderTuple, names: Names | None, item: StatusItem) -> Gap:
    """Return the event of a GAP or CHECKSUM status: a loss at the venue."""
    checksum = item.reason == StatusReason.CHECKSUM
    expected, got = parse_gap_detail(item.detail, signed=checksum)
    kind, symbol, instrument = _identity(names)
    return Gap(
        venue=venue_name(header[VENUE_ID]),
        channel_id=header[CHANNEL_ID],
        missing=0 if checksum else max(got - expected, 0),
        first_missing=0,
        reason=GapReason.CHECKSUM if checksum else GapReason.GAP,
        kind=kind,
        symbol=symbol,
        instrument=instrument,
        ts_exchange_ns=header[TS_EXCHANGE_NS],
        ts_recv_ns=header[TS_RECV_NS],
        expected=expected,
        got=got,
    )


def build_loss(venue: str, channel_id: int, first_missing: int, missing: int) -> Gap:
    """Return the event of packets that were lost on the way."""
    return Gap(
        venue=venue,
        channel_id=channel_id,
        missing=missing,
        first_missing=first_missing,
        reason=GapReason.LOSS,
    )


def _identity(names: Names | None) -> tuple[str | None, str | None, str | None]:
    return (names.kind, names.symbol, names.instrument) if names is not None else (None, None, None)
