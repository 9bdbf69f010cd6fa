"""Events to packets in plain Python: how the reference extractor fragments and fills headers
(`protocol/native/extract_emit.c`).

Session, channel sequence and send time stay 0 and `instrument_seq` holds the instrument index:
the publisher stamps them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from tapecast.feeder.extract.types import MAX_FRAGMENTS, items_per_packet
from tapecast.protocol.schema import HEADER_SIZE, ITEM_OF, MAGIC, VERSION, Flag, MsgType

__all__ = ["ExtractedEvent", "LevelItem", "Origin", "StatItem", "TradeItem", "packets"]

_HEADER = struct.Struct("<HBBHBBIHHQQIbbBBqqqH")
_LEVEL = struct.Struct("<qq")
_TRADE = struct.Struct("<QqqiBBH")
_STAT = struct.Struct("<qqHbBi")


class LevelItem(NamedTuple):
    """A level as it goes on the wire."""

    price: int
    quantity: int

    def pack(self) -> bytes:
        """Return the 16 bytes of the item."""
        return _LEVEL.pack(*self)


class TradeItem(NamedTuple):
    """A trade as it goes on the wire."""

    trade_id: int
    price: int
    quantity: int
    ts_delta_us: int
    side: int
    trade_flags: int
    condition: int

    def pack(self) -> bytes:
        """Return the 32 bytes of the item."""
        return _TRADE.pack(*self)


class StatItem(NamedTuple):
    """A statistic as it goes on the wire."""

    value: int
    ts: int
    kind: int
    exp: int
    aux: int

    def pack(self) -> bytes:
        """Return the 24 bytes of the item."""
        return _STAT.pack(self.value, self.ts, self.kind, self.exp, 0, self.aux)


class Origin(NamedTuple):
    """What all packets of one frame share."""

    venue_id: int
    channel_id: int
    instrument_id: int
    instrument: int
    price_exp: int
    qty_exp: int
    ts_recv_ns: int
    max_payload: int


class ExtractedEvent(NamedTuple):
    """One event: `bids` first items are bids, the rest asks; 0 for trades and statistics."""

    msg_type: MsgType
    flags: int
    ts_exchange_ns: int
    items: Sequence[LevelItem | TradeItem | StatItem]
    bids: int


def packets(event: ExtractedEvent, origin: Origin) -> list[bytes]:
    """Return the event's packets; an event without items is one packet, one longer than 256
    packets goes on as delta events.
    """
    size = ITEM_OF[event.msg_type].size
    per_packet = items_per_packet(event.msg_type, origin.max_payload)
    count = len(event.items)
    total = max(1, -(-count // per_packet))
    out = []
    for number in range(total):
        start = number * per_packet
        chunk = event.items[start : start + per_packet]
        fragment = number % MAX_FRAGMENTS
        flags = event.flags
        if number >= MAX_FRAGMENTS:
            flags &= ~Flag.SNAPSHOT
        if number == total - 1 or fragment == MAX_FRAGMENTS - 1:
            flags |= Flag.LAST
        header = _HEADER.pack(
            MAGIC,
            VERSION,
            event.msg_type,
            flags,
            len(chunk),
            min(max(event.bids - start, 0), len(chunk)),
            0,
            origin.channel_id,
            origin.venue_id,
            origin.instrument_id,
            0,
            origin.instrument,
            origin.price_exp,
            origin.qty_exp,
            size,
            fragment,
            event.ts_exchange_ns,
            origin.ts_recv_ns,
            0,
            len(chunk) * size,
        )
        assert len(header) == HEADER_SIZE
        out.append(header + b"".join(item.pack() for item in chunk))
    return out
