"""Where each field of the header stands, by name: its place in an unpacked header, and its byte.

`header = HEADER_STRUCT.unpack_from(data, at)` is a plain tuple, because the hot paths cannot
afford a named one (`Header._make` triples the cost of unpacking); `header[CHANNEL_ID]` reads it
by name at the cost of a number. `OFFSET["channel_id"]` is the byte of a field from the start
of the packet, for who reads a field without unpacking. Everything is computed from
`protocol.schema` when this module is imported: a field that is renamed or removed there is an
error at import, and one that moves is found where it has moved to.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from tapecast.protocol.schema import HEADER

__all__ = [
    "BID_COUNT",
    "CHANNEL_ID",
    "CHANNEL_SEQ",
    "FLAGS",
    "FRAGMENT",
    "INSTRUMENT_ID",
    "INSTRUMENT_SEQ",
    "ITEM_COUNT",
    "ITEM_SIZE",
    "MSG_TYPE",
    "OFFSET",
    "PAYLOAD_LEN",
    "PRICE_EXP",
    "QTY_EXP",
    "SESSION",
    "TS_EXCHANGE_NS",
    "TS_RECV_NS",
    "TS_SEND_NS",
    "VENUE_ID",
    "HeaderTuple",
]

HeaderTuple: TypeAlias = tuple[int, ...]
"""What `HEADER_STRUCT.unpack_from` returns: the fields of a header, in their order."""

OFFSET: Final = {field.name: field.offset for field in HEADER.fields}
"""Name of a header field -> its first byte in the packet."""

_PLACE: Final = {field.name: place for place, field in enumerate(HEADER.fields)}

MSG_TYPE: Final = _PLACE["msg_type"]
FLAGS: Final = _PLACE["flags"]
ITEM_COUNT: Final = _PLACE["item_count"]
BID_COUNT: Final = _PLACE["bid_count"]
SESSION: Final = _PLACE["session"]
CHANNEL_ID: Final = _PLACE["channel_id"]
VENUE_ID: Final = _PLACE["venue_id"]
INSTRUMENT_ID: Final = _PLACE["instrument_id"]
CHANNEL_SEQ: Final = _PLACE["channel_seq"]
INSTRUMENT_SEQ: Final = _PLACE["instrument_seq"]
PRICE_EXP: Final = _PLACE["price_exp"]
QTY_EXP: Final = _PLACE["qty_exp"]
ITEM_SIZE: Final = _PLACE["item_size"]
FRAGMENT: Final = _PLACE["fragment"]
TS_EXCHANGE_NS: Final = _PLACE["ts_exchange_ns"]
TS_RECV_NS: Final = _PLACE["ts_recv_ns"]
TS_SEND_NS: Final = _PLACE["ts_send_ns"]
PAYLOAD_LEN: Final = _PLACE["payload_len"]
