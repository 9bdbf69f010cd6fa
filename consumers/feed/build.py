"""Packets to events, one function a message type: no state, no decisions; what the numbers mean
is in `consumers.feed.events`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from tapecast.consumers.feed.books import Change
from tapecast.consumers.feed.events import Bbo, Book, BookState, Fragment, Liquidation, Stat, Trade
from tapecast.consumers.feed.selection import Names
from tapecast.protocol.books.book import KernelBook
from tapecast.protocol.codec import Buffer
from tapecast.protocol.records import ITEM_STRUCT
from tapecast.protocol.schema import HEADER_SIZE, Flag, MsgType, Side, StatKind, TradeFlag

__all__ = ["Header", "best", "book", "executions", "flags_of", "stats", "whole_book"]

Header: TypeAlias = tuple[int, ...]
_TRADE: Final = ITEM_STRUCT[MsgType.TRADE]
_LEVEL: Final = ITEM_STRUCT[MsgType.BBO]
_STAT: Final = ITEM_STRUCT[MsgType.STAT]
_SNAPSHOT: Final = int(Flag.SNAPSHOT)
_FLAGS: dict[int, Flag] = {}
_SIDES: Final = {int(side): side for side in Side}
_TRADE_FLAGS: Final = {value: TradeFlag(value) for value in range(32)}
_STAT_KINDS: Final = {int(kind): kind for kind in StatKind}


def flags_of(value: int) -> Flag:
    """Return header flags as such."""
    found = _FLAGS.get(value)
    if found is None:
        found = _FLAGS[value] = Flag(value)
    return found


def executions(
    data: Buffer, at: int, header: Header, names: Names, make: type[Trade | Liquidation]
) -> list[Trade | Liquidation]:
    """Return the events of a TRADE or LIQUIDATION packet."""
    ts, price_exp, qty_exp, step = header[16], header[12], header[13], header[14]
    flags = flags_of(header[3])
    first = at + HEADER_SIZE
    out = []
    for offset in range(first, first + header[4] * step, step):
        trade_id, price, quantity, delta_us, side, trade_flags, condition = _TRADE.unpack_from(
            data, offset
        )
        out.append(
            make(
                *names,
                ts + 1000 * delta_us if ts else 0,
                header[17],
                header[18],
                flags,
                price,
                quantity,
                price_exp,
                qty_exp,
                _SIDES.get(side, Side.UNKNOWN),
                trade_id,
                _TRADE_FLAGS.get(trade_flags) or TradeFlag(trade_flags),
                condition,
            )
        )
    return out


def best(data: Buffer, at: int, header: Header, names: Names) -> Bbo:
    """Return the event of a BBO packet."""
    first, count, bids, step = at + HEADER_SIZE, header[4], header[5], header[14]
    bid = _LEVEL.unpack_from(data, first) if bids else None
    ask = _LEVEL.unpack_from(data, first + bids * step) if count > bids else None
    return Bbo(
        *names,
        header[16],
        header[17],
        header[18],
        flags_of(header[3]),
        bid,
        ask,
        header[12],
        header[13],
    )


def stats(data: Buffer, at: int, header: Header, names: Names) -> list[Stat]:
    """Return the events of a STAT packet."""
    first, step = at + HEADER_SIZE, header[14]
    times, flags = (header[16], header[17], header[18]), flags_of(header[3])
    out = []
    for offset in range(first, first + header[4] * step, step):
        value, ts, kind, exp, _, aux = _STAT.unpack_from(data, offset)
        out.append(Stat(*names, *times, flags, _STAT_KINDS.get(kind, kind), value, exp, ts, aux))
    return out


def book(header: Header, names: Names, change: Change) -> Book:
    """Return the event of a change of a book, `header` being that of its last packet."""
    return Book(
        *names,
        header[16],
        header[17],
        header[18],
        flags_of(header[3]),
        change.state,
        bool(header[3] & _SNAPSHOT),
        header[11],
        change.book,
        header[12],
        header[13],
        change.fragments,
    )


def whole_book(kept: KernelBook, state: BookState, names: Names) -> Book:
    """Return a book as the event that begins with it: all its levels are its change."""
    bids, asks = kept.bids(), kept.asks()
    whole = Fragment(
        bids.tobytes() + asks.tobytes(), 0, len(bids) + len(asks), len(bids), bids.dtype.itemsize
    )
    flags = flags_of(kept.flags | Flag.SNAPSHOT | Flag.RECOVERED)
    times, exps = (kept.ts_exchange_ns, kept.ts_recv_ns, 0), (kept.price_exp, kept.qty_exp)
    return Book(*names, *times, flags, state, True, kept.instrument_seq, kept, *exps, (whole,))
