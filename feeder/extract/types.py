"""What both extractors answer: status, result fields, limits. The meaning of a shape is in
`feeder.extract.shapes`.

It holds no behaviour; `feeder.extract.extractor` (C) and `feeder.extract.fallback` (plain
Python) give the same answers.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from tapecast.protocol.schema import HEADER_SIZE, ITEM_OF, MAX_ITEMS, MAX_PACKET, MsgType

__all__ = [
    "MAX_DEPTH",
    "MAX_FRAGMENTS",
    "NO_ID",
    "TRADE_TYPES",
    "ExtractStatus",
    "Result",
    "items_per_packet",
]

NO_ID = -(2**63)
"""An update id that the shape does not declare or the message does not carry."""
MAX_DEPTH = 64
"""Containers nested deeper than this are malformed."""
MAX_FRAGMENTS = 256
"""Packets of one event: the header counts fragments in one byte. A longer snapshot continues as
delta events.
"""
TRADE_TYPES = (MsgType.TRADE, MsgType.LIQUIDATION)
"""Message types whose item is a trade."""


class ExtractStatus(IntEnum):
    """Answer of one extraction. When several apply, the earlier line of MALFORMED to NO_SPACE in
    this list wins.
    """

    OK = 0
    NO_SHAPE = 1
    """Well-formed JSON that is none of the declared shapes (control messages, other channels).
    """
    DECLINED = 2
    """C only: an escape, a repeated key or another oddity; the fallback decides."""
    MALFORMED = 3
    """Not RFC 8259 JSON in UTF-8, or nested deeper than 64."""
    WRONG_TYPE = 4
    """The shape is recognised, and a value is null, of another type, negative where it may not
    be, or ambiguous.
    """
    UNKNOWN_SYMBOL = 5
    TOO_LARGE = 7
    """No mantissa below 2^62 carries a price or quantity at the instrument's exponents."""
    INEXACT = 6
    """A price or quantity needs a lower exponent than the instrument's."""
    NO_SPACE = 8
    """The packets do not fit behind `pos`; `need_bytes` says how much they take."""
    SUPPRESSED = 9
    """A `silent` shape, or statistics of which none is present."""


class Result(Protocol):
    """What the last extraction found. Fields beyond `error_offset` hold only where the status is
    OK, except as said.
    """

    shape: int
    """Index of the declared shape, -1 = none."""
    instrument: int
    """Index from `add_instrument`, -1 = none."""
    msg_type: int
    nbytes: int
    """Bytes written from `pos` on."""
    packets: int
    items: int
    first_id: int
    last_id: int
    prev_id: int
    checksum: int
    has_checksum: int
    snapshot: int
    ts_exchange_ns: int
    """0 = unknown; of several trades, the first one's."""
    error_offset: int
    """Byte offset of what was not accepted, as near as it is known."""
    need_price_exp: int
    """INEXACT: the highest exponent at which every price of the frame is exact, never above the
    instrument's.
    """
    need_qty_exp: int
    need_bytes: int
    """NO_SPACE: bytes the packets take from `pos` on."""


def items_per_packet(msg_type: MsgType, max_payload: int) -> int:
    """Return how many items of a message type fit in a packet of at most `max_payload` bytes,
    header included; raises ValueError where that is none.
    """
    if not HEADER_SIZE + ITEM_OF[msg_type].size <= max_payload <= MAX_PACKET:
        raise ValueError(
            f"max_payload {max_payload} is outside {HEADER_SIZE + ITEM_OF[msg_type].size} to"
            f" {MAX_PACKET}"
        )
    return min(MAX_ITEMS, (max_payload - HEADER_SIZE) // ITEM_OF[msg_type].size)
