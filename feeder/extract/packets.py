"""Events to packets in plain Python: how the fallback extractor fragments and fills headers.

`protocol/native/extract_emit.c` does the same. Session, channel sequence and send time stay 0 and
`instrument_seq` holds the instrument index: the publisher stamps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tapecast.feeder.extract.types import MAX_FRAGMENTS, items_per_packet
from tapecast.protocol.records import (
    HEADER_STRUCT,
    ITEM_STRUCT,
    Header,
    Level,
    StatItem,
    TradeItem,
)
from tapecast.protocol.schema import ITEM_OF, Flag, MsgType

__all__ = ["ExtractedEvent", "Origin", "packets"]


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
    """One event with scaled items: the first `bids` are bids, the rest asks; 0 for trades and
    statistics.
    """

    msg_type: MsgType
    flags: int
    ts_exchange_ns: int
    items: Sequence[Level | TradeItem | StatItem]
    bids: int


def packets(event: ExtractedEvent, origin: Origin) -> list[bytes]:
    """Return the event's packets; an event without items is one packet, one longer than 256
    packets goes on as delta events.
    """
    size, item = ITEM_OF[event.msg_type].size, ITEM_STRUCT[event.msg_type]
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
        header = Header(
            msg_type=event.msg_type,
            flags=flags,
            item_count=len(chunk),
            bid_count=min(max(event.bids - start, 0), len(chunk)),
            channel_id=origin.channel_id,
            venue_id=origin.venue_id,
            instrument_id=origin.instrument_id,
            instrument_seq=origin.instrument,
            price_exp=origin.price_exp,
            qty_exp=origin.qty_exp,
            item_size=size,
            fragment=fragment,
            ts_exchange_ns=event.ts_exchange_ns,
            ts_recv_ns=origin.ts_recv_ns,
            payload_len=len(chunk) * size,
        )
        out.append(HEADER_STRUCT.pack(*header) + b"".join(item.pack(*one) for one in chunk))
    return out
