"""The wire records as typed tuples, with their packers.

Field names and order are those of `protocol.schema` (a test compares them); the classes are
written out for the type checker. Text fields are `str` without padding, binary fields `bytes` at
full length. Limits are checked by `protocol.codec`, not here.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeAlias

from tapecast.protocol import schema
from tapecast.protocol.schema import MAGIC, UNDEFINED, VERSION, MsgType

__all__ = [
    "HEADER_STRUCT",
    "ITEM_CLASS",
    "ITEM_STRUCT",
    "Header",
    "HeartbeatItem",
    "InstrumentItem",
    "Item",
    "Level",
    "Packet",
    "ReplyItem",
    "RequestItem",
    "StatItem",
    "StatusItem",
    "TextChunk",
    "TickBand",
    "TradeItem",
]


class Header(NamedTuple):
    """The 66 bytes that start every datagram."""

    magic: int = MAGIC
    version: int = VERSION
    msg_type: int = 0
    flags: int = 0
    item_count: int = 0
    bid_count: int = 0
    session: int = 0
    channel_id: int = 0
    venue_id: int = 0
    instrument_id: int = 0
    channel_seq: int = 0
    instrument_seq: int = 0
    price_exp: int = 0
    qty_exp: int = 0
    item_size: int = 0
    fragment: int = 0
    ts_exchange_ns: int = 0
    ts_recv_ns: int = 0
    ts_send_ns: int = 0
    payload_len: int = 0


class Level(NamedTuple):
    """One price level of a book, or one side of a BBO; quantity 0 deletes."""

    price: int
    quantity: int


class TradeItem(NamedTuple):
    """One execution; also the item of a liquidation."""

    trade_id: int
    price: int
    quantity: int
    ts_delta_us: int = 0
    side: int = 0
    trade_flags: int = 0
    condition: int = 0


class StatItem(NamedTuple):
    """One statistic: value x 10^exp."""

    value: int
    ts: int
    kind: int
    exp: int
    flags: int = 0
    aux: int = 0


class InstrumentItem(NamedTuple):
    """An instrument definition."""

    id: int
    venue: int
    kind: int
    state: int
    version: int
    price_exp: int
    qty_exp: int
    flags: int = 0
    reserved: int = 0
    tick: int = UNDEFINED
    lot: int = UNDEFINED
    min_qty: int = UNDEFINED
    min_notional: int = UNDEFINED
    multiplier: int = UNDEFINED
    expiry_ns: int = 0
    strike: int = UNDEFINED
    symbol: str = ""
    base: str = ""
    quote: str = ""
    settle: str = ""
    notional_exp: int = 0
    multiplier_exp: int = 0
    strike_exp: int = 0
    option_type: int = 0


class TickBand(NamedTuple):
    """From this price on, this tick applies."""

    from_price: int
    tick: int


class StatusItem(NamedTuple):
    """A state change; `detail` is 16 bytes (`codec.gap_detail`, `codec.text_detail`)."""

    scope: int
    state: int
    reason: int = 0
    counts: int = 0
    ts: int = 0
    detail: bytes = bytes(16)


class HeartbeatItem(NamedTuple):
    """Health of the publisher."""

    oldest_seq: int = 0
    upstream_dropped: int = 0
    instruments: int = 0
    suspect: int = 0
    interval_ms: int = 0
    recovery_port: int = 0
    health: int = 0


class TextChunk(NamedTuple):
    """16 bytes of UTF-8 text, zero padded."""

    text: bytes


class RequestItem(NamedTuple):
    """What a client of the recovery service asks for."""

    kind: int
    reserved_8: int = 0
    reserved_16: int = 0
    request_id: int = 0
    first: int = 0
    instrument_id: int = 0
    packets: int = 0
    reserved_32: int = 0


class ReplyItem(NamedTuple):
    """Closes an answer of the recovery service."""

    kind: int
    status: int = 0
    reserved: int = 0
    request_id: int = 0
    first: int = 0
    next_seq: int = 0
    packets: int = 0
    retry_ms: int = 0


Item: TypeAlias = (
    Level
    | TradeItem
    | StatItem
    | InstrumentItem
    | TickBand
    | StatusItem
    | HeartbeatItem
    | TextChunk
    | RequestItem
    | ReplyItem
)


class Packet(NamedTuple):
    """A decoded packet. `items` is empty for a message type this version does not know; `tag` is
    empty without AUTH.
    """

    header: Header
    items: tuple[Item, ...]
    tag: bytes = b""


_CODES = {
    "u8": "B",
    "i8": "b",
    "u16": "H",
    "i16": "h",
    "u32": "I",
    "i32": "i",
    "u64": "Q",
    "i64": "q",
}


def _struct(record: schema.Record) -> struct.Struct:
    return struct.Struct(
        "<" + "".join(_CODES.get(field.type, f"{field.size}s") for field in record.fields)
    )


HEADER_STRUCT = _struct(schema.HEADER)
ITEM_STRUCT: dict[int, struct.Struct] = {
    int(msg_type): _struct(record) for msg_type, record in schema.ITEM_OF.items()
}
"""Message type -> packer of its item at the size this version knows."""

_CLASSES: dict[str, type[Item]] = {
    schema.LEVEL.name: Level,
    schema.TRADE.name: TradeItem,
    schema.STAT.name: StatItem,
    schema.INSTRUMENT.name: InstrumentItem,
    schema.TICK_BAND.name: TickBand,
    schema.STATUS.name: StatusItem,
    schema.HEARTBEAT.name: HeartbeatItem,
    schema.TEXT_CHUNK.name: TextChunk,
    schema.REQUEST.name: RequestItem,
    schema.REPLY.name: ReplyItem,
}
ITEM_CLASS: dict[int, type[Item]] = {
    int(MsgType(m)): _CLASSES[record.name] for m, record in schema.ITEM_OF.items()
}
"""Message type -> tuple class of its item."""
