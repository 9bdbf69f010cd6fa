"""Is a datagram a packet? The checks of the wire specification, section 2, in its order, and the
names packets are counted under.

`validate` is the plain reference of `protocol/native/validate.c`. Nothing here raises on bad
input: a receiver drops and counts. Source, session and sequence come after these checks
(`protocol.net.sequencing`).
"""

from __future__ import annotations

from enum import IntEnum

from tapecast.protocol import schema
from tapecast.protocol.codec import packet_size
from tapecast.protocol.records import HEADER_STRUCT, Header
from tapecast.protocol.schema import Flag

__all__ = ["MIN_ITEM", "Counter", "validate"]

MIN_ITEM = {int(msg): record.size for msg, record in schema.ITEM_OF.items()}
"""Smallest admissible item size by message type; a type that is missing here is unknown."""


class Counter(IntEnum):
    """What a packet is counted under. TRUNCATED to JUMP_UNCONFIRMED are reasons for dropping, in
    the order of the checks.

    REPAIRED packets came from the recovery service and filled holes; UNASKED ones came from it
    too and were dropped, because nothing of the kind was asked for.
    """

    RECEIVED = 0
    TRUNCATED = 1
    TOO_SHORT = 2
    OVERSIZE = 3
    BAD_MAGIC = 4
    BAD_VERSION = 5
    UNKNOWN_CRITICAL = 6
    BAD_LENGTH = 7
    BAD_ITEMS = 8
    BAD_BID_COUNT = 9
    SMALL_ITEM = 10
    AUTH_MISSING = 11
    BAD_AUTH = 12
    CHANNEL_LIMIT = 13
    OTHER_SOURCE = 14
    OLD_SESSION = 15
    DUPLICATE = 16
    JUMP_UNCONFIRMED = 17
    UNKNOWN_TYPE = 18
    UNSEQUENCED = 19
    HELD = 20
    DELIVERED = 21
    GAPS = 22
    MISSING = 23
    SESSIONS = 24
    JUMPS = 25
    REPAIRED = 26
    UNASKED = 27


def validate(
    packet: bytes | memoryview, *, truncated: bool = False, auth_required: bool = False
) -> Counter | None:
    """Return the reason for which the datagram is no packet, or None."""
    if truncated:
        return Counter.TRUNCATED
    if len(packet) < schema.HEADER_SIZE:
        return Counter.TOO_SHORT
    if len(packet) > schema.MAX_PACKET:
        return Counter.OVERSIZE
    header = Header._make(HEADER_STRUCT.unpack_from(packet))
    if header.magic != schema.MAGIC:
        return Counter.BAD_MAGIC
    if header.version != schema.VERSION:
        return Counter.BAD_VERSION
    if header.flags & Flag.CRITICAL:
        return Counter.UNKNOWN_CRITICAL
    if packet_size(header) != len(packet):
        return Counter.BAD_LENGTH
    if header.item_count * header.item_size != header.payload_len:
        return Counter.BAD_ITEMS
    if header.bid_count > header.item_count:
        return Counter.BAD_BID_COUNT
    if header.item_size < MIN_ITEM.get(header.msg_type, 0):
        return Counter.SMALL_ITEM
    if auth_required and not header.flags & Flag.AUTH:
        return Counter.AUTH_MISSING
    return None
