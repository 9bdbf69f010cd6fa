"""BOOK packets and events for tests, packed with `struct` from the offsets of the specification,
not with the project's codec.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal, TypeAlias, overload

from tapecast.protocol.schema import MAGIC, TAG_SIZE, VERSION, Flag, MsgType

__all__ = ["Levels", "event", "packet"]

Levels: TypeAlias = Sequence[tuple[int, int]]

_HEADER = struct.Struct("<HBBHBBIHHQQIbbBBqqqH")
_PER_PACKET = 83


def packet(
    instrument_id: int,
    bids: Levels = (),
    asks: Levels = (),
    *,
    flags: int = Flag.LAST,
    seq: int = 0,
    fragment: int = 0,
    price_exp: int = 0,
    qty_exp: int = 0,
    ts_exchange_ns: int = 0,
    ts_recv_ns: int = 0,
    venue_id: int = 1,
    msg_type: MsgType = MsgType.BOOK,
    item_size: int = 16,
) -> bytes:
    """Return one packet; items are cut or padded to `item_size` bytes."""
    items = b"".join(
        struct.pack("<qq", *level).ljust(item_size, b"\0")[:item_size] for level in (*bids, *asks)
    )
    header = _HEADER.pack(
        MAGIC, VERSION, msg_type, flags, len(bids) + len(asks), len(bids), 1, venue_id, venue_id, instrument_id, 0, seq,
        price_exp, qty_exp, item_size, fragment, ts_exchange_ns, ts_recv_ns, 0, len(items),
    )  # fmt: skip
    return header + items + (bytes(TAG_SIZE) if flags & Flag.AUTH else b"")


@overload
def event(instrument_id: int, bids: Levels = ..., asks: Levels = ..., *, flags: int = ..., per_packet: int = ..., split: Literal[
    False
] = ..., seq: int = ..., price_exp: int = ..., qty_exp: int = ..., ts_exchange_ns: int = ...,
) -> bytes: ...  # fmt: skip


@overload
def event(instrument_id: int, bids: Levels = ..., asks: Levels = ..., *, flags: int = ..., per_packet: int = ..., split: Literal[
    True
], seq: int = ..., price_exp: int = ..., qty_exp: int = ..., ts_exchange_ns: int = ...,
) -> list[bytes]: ...  # fmt: skip


def event(
    instrument_id: int,
    bids: Levels = (),
    asks: Levels = (),
    *,
    flags: int = 0,
    per_packet: int = _PER_PACKET,
    split: bool = False,
    seq: int = 0,
    price_exp: int = 0,
    qty_exp: int = 0,
    ts_exchange_ns: int = 0,
) -> bytes | list[bytes]:
    """Return the fragments of one book event, all bids before all asks, LAST on the final one;
    joined unless `split`.
    """
    total = len(bids) + len(asks)
    out = []
    for fragment, start in enumerate(range(0, max(total, 1), per_packet)):
        stop = start + per_packet
        part_bids, part_asks = (
            bids[start:stop],
            asks[max(0, start - len(bids)) : max(0, stop - len(bids))],
        )
        out.append(
            packet(
                instrument_id,
                part_bids,
                part_asks,
                flags=flags | (Flag.LAST if stop >= total else 0),
                seq=seq,
                fragment=fragment % 256,
                price_exp=price_exp,
                qty_exp=qty_exp,
                ts_exchange_ns=ts_exchange_ns,
            )
        )
    return out if split else b"".join(out)
