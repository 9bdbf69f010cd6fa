"""The reference codec: packets to tuples and back, in plain Python.

`protocol/SPEC.md` and `protocol.schema` are the truth; the C core and every other codec are
compared with this one. It covers one packet at a time up to authentication: source address,
session and sequence belong to `protocol.net.sequencing`. It does no I/O.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum

from tapecast.protocol import schema
from tapecast.protocol.decimals import format_decimal, parse_decimal, to_mantissa
from tapecast.protocol.records import (
    HEADER_STRUCT,
    ITEM_CLASS,
    ITEM_STRUCT,
    Header,
    HeartbeatItem,
    InstrumentItem,
    Item,
    Level,
    Packet,
    ReplyItem,
    RequestItem,
    StatItem,
    StatusItem,
    TextChunk,
    TickBand,
    TradeItem,
)
from tapecast.protocol.schema import (
    HEADER_SIZE,
    MAGIC,
    MAX_ITEMS,
    MAX_MANTISSA,
    MAX_PACKET,
    TAG_SIZE,
    UNDEFINED,
    Flag,
    MsgType,
)

__all__ = [
    "KEY_SIZE",
    "Buffer",
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
    "ValidationError",
    "WireError",
    "auth_tag",
    "decode",
    "decode_text",
    "encode",
    "encode_text",
    "format_decimal",
    "gap_detail",
    "instrument_id",
    "packet_size",
    "parse_decimal",
    "parse_gap_detail",
    "text_detail",
    "to_mantissa",
    "validate",
    "walk",
]

Buffer = bytes | bytearray | memoryview
KEY_SIZE = 32
DEFAULT_MAX_PAYLOAD = 1400
_CHUNK = schema.TEXT_CHUNK.size
# Plain integers: an operation with an IntFlag member costs more than unpacking the whole header.
_LAST, _AUTH, _CRITICAL = int(Flag.LAST), int(Flag.AUTH), int(Flag.CRITICAL)


class ValidationError(IntEnum):
    """Why a receiver drops a datagram, in the order of the checks; the lower-case name is the
    name of the counter.
    """

    TOO_SHORT = 1
    BAD_MAGIC = 2
    BAD_VERSION = 3
    UNKNOWN_CRITICAL = 4
    BAD_LENGTH = 5
    BAD_ITEMS = 6
    BAD_BID_COUNT = 7
    SMALL_ITEM = 8
    AUTH_MISSING = 9
    BAD_AUTH = 10


class WireError(ValueError):
    """Bytes that are no valid packet, or values that no packet can hold.

    `reason` is the lower-case name of a `ValidationError`, or begins with the name of the field
    at fault; `offset` is in bytes from the start of the packet, the record or the walked buffer.
    """

    def __init__(self, reason: str, offset: int = 0) -> None:
        """Keep the reason and the offset apart for counters and messages."""
        super().__init__(f"{reason} (offset {offset})")
        self.reason = reason
        self.offset = offset


_OFFSET_OF = {field.name: field.offset for field in schema.HEADER.fields}
_FAULT_OFFSET = {
    ValidationError.TOO_SHORT: 0,
    ValidationError.BAD_MAGIC: _OFFSET_OF["magic"],
    ValidationError.BAD_VERSION: _OFFSET_OF["version"],
    ValidationError.UNKNOWN_CRITICAL: _OFFSET_OF["flags"],
    ValidationError.BAD_LENGTH: _OFFSET_OF["payload_len"],
    ValidationError.BAD_ITEMS: _OFFSET_OF["item_count"],
    ValidationError.BAD_BID_COUNT: _OFFSET_OF["bid_count"],
    ValidationError.SMALL_ITEM: _OFFSET_OF["item_size"],
    ValidationError.AUTH_MISSING: _OFFSET_OF["flags"],
    ValidationError.BAD_AUTH: HEADER_SIZE,
}
_MIN_ITEM = {msg_type: packer.size for msg_type, packer in ITEM_STRUCT.items()}


def instrument_id(text: str) -> int:
    """Return the id of an instrument text `venue.kind.symbol`: BLAKE2b-64 of its UTF-8 bytes,
    read little-endian.
    """
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def auth_tag(packet: Buffer, key: bytes) -> bytes:
    """Return the 16-byte keyed BLAKE2b of a packet's header and payload (`packet` without the
    tag); `key` has 32 bytes.
    """
    if len(key) != KEY_SIZE:
        raise ValueError(f"a channel key has {KEY_SIZE} bytes, not {len(key)}")
    return hashlib.blake2b(packet, digest_size=TAG_SIZE, key=key).digest()


def packet_size(header: Header) -> int:
    """Return the length of the datagram that a header announces."""
    return HEADER_SIZE + header.payload_len + (TAG_SIZE if header.flags & _AUTH else 0)


def validate(
    data: Buffer, *, auth_required: bool = False, keys: Sequence[bytes] = ()
) -> ValidationError | None:
    """Return the first check that a datagram fails, in the order of the specification, or None.

    With `keys` (one, or two during rotation) a tag is required and must match one of them;
    `auth_required` alone asks for a tag without verifying it. Unknown message types pass.
    """
    if len(data) < HEADER_SIZE:
        return ValidationError.TOO_SHORT
    return _check(data, Header._make(HEADER_STRUCT.unpack_from(data)), auth_required, keys)


def _check(
    data: Buffer, header: Header, auth_required: bool, keys: Sequence[bytes]
) -> ValidationError | None:
    if header.magic != MAGIC:
        return ValidationError.BAD_MAGIC
    if header.version != schema.VERSION:
        return ValidationError.BAD_VERSION
    if header.flags & _CRITICAL:
        return ValidationError.UNKNOWN_CRITICAL
    if packet_size(header) != len(data):
        return ValidationError.BAD_LENGTH
    if header.item_count * header.item_size != header.payload_len:
        return ValidationError.BAD_ITEMS
    if header.bid_count > header.item_count:
        return ValidationError.BAD_BID_COUNT
    if header.item_size < _MIN_ITEM.get(header.msg_type, 0):
        return ValidationError.SMALL_ITEM
    if not header.flags & _AUTH:
        return ValidationError.AUTH_MISSING if auth_required or keys else None
    if keys:
        body, tag = memoryview(data)[:-TAG_SIZE], bytes(data[-TAG_SIZE:])
        if not any(hmac.compare_digest(auth_tag(body, key), tag) for key in keys):
            return ValidationError.BAD_AUTH
    return None


def decode(data: Buffer, *, auth_required: bool = False, keys: Sequence[bytes] = ()) -> Packet:
    """Return the packet in a datagram; raise WireError with the name of the failed check.

    Items are walked by `item_size`, so what a newer version appends to them is passed over. A
    definition whose text is not UTF-8 fails too, naming the field.
    """
    if len(data) < HEADER_SIZE:
        raise WireError("too_short")
    header = Header._make(HEADER_STRUCT.unpack_from(data))
    error = _check(data, header, auth_required, keys)
    if error is not None:
        raise WireError(error.name.lower(), _FAULT_OFFSET[error])
    tag = bytes(data[-TAG_SIZE:]) if header.flags & _AUTH else b""
    return Packet(header, _decode_items(data, header), tag)


def _decode_items(data: Buffer, header: Header) -> tuple[Item, ...]:
    packer = ITEM_STRUCT.get(header.msg_type)
    if packer is None:
        return ()
    starts = range(HEADER_SIZE, HEADER_SIZE + header.payload_len, header.item_size)
    if header.msg_type == MsgType.INSTRUMENT:
        return tuple(_decode_instrument(data, start) for start in starts)
    make = ITEM_CLASS[header.msg_type]
    return tuple(make(*packer.unpack_from(data, start)) for start in starts)


_TEXT_FIELDS = tuple(field for field in schema.INSTRUMENT.fields if field.type == "utf8")


def _decode_instrument(data: Buffer, start: int) -> InstrumentItem:
    raw = InstrumentItem._make(ITEM_STRUCT[MsgType.INSTRUMENT].unpack_from(data, start))
    texts: dict[str, str] = {}
    for field in _TEXT_FIELDS:
        at = start + field.offset
        try:
            texts[field.name] = bytes(data[at : at + field.size]).rstrip(b"\0").decode()
        except UnicodeDecodeError as error:
            raise WireError(f"{field.name} is not UTF-8", at + error.start) from None
    return raw._replace(
        symbol=texts["symbol"], base=texts["base"], quote=texts["quote"], settle=texts["settle"]
    )


def encode(
    header: Header,
    items: Sequence[Item],
    *,
    max_payload: int = DEFAULT_MAX_PAYLOAD,
    key: bytes | None = None,
) -> list[bytes]:
    """Return the packets of one event.

    `header` is the template. From it are taken: msg_type, flags, session, ids, sequences,
    exponents and times, and `bid_count` as the number of bids in the whole event (bids come
    first in `items`). Set here: magic, version, item_count, item_size, payload_len, fragment,
    each fragment's own bid_count, LAST on the final fragment only, AUTH when a 32-byte `key` is
    given. `channel_seq` belongs to the first packet and counts on from there; 0 (not stamped
    yet) stays 0.

    `max_payload` is the largest datagram in bytes, header and tag included, at most 1472. Raises
    WireError naming the field that does not fit the format.
    """
    packer = ITEM_STRUCT.get(header.msg_type)
    if packer is None:
        raise WireError(f"msg_type {header.msg_type} is unknown", _OFFSET_OF["msg_type"])
    _check_bid_count(header, len(items))
    tag_size = TAG_SIZE if key is not None else 0
    room = min((min(max_payload, MAX_PACKET) - HEADER_SIZE - tag_size) // packer.size, MAX_ITEMS)
    if max_payload > MAX_PACKET or room < 1:
        raise WireError(f"max_payload {max_payload} is not between one item and {MAX_PACKET}")
    out: list[bytes] = []
    for fragment, first in enumerate(range(0, max(len(items), 1), room)):
        chunk = items[first : first + room]
        payload = b"".join(
            [_pack_item(header.msg_type, item, first + i) for i, item in enumerate(chunk)]
        )
        flags = header.flags & ~(_LAST | _AUTH)
        if first + room >= len(items):
            flags |= _LAST
        if key is not None:
            flags |= _AUTH
        stamped = header._replace(
            magic=MAGIC,
            version=schema.VERSION,
            flags=flags,
            item_count=len(chunk),
            bid_count=min(max(header.bid_count - first, 0), len(chunk)),
            channel_seq=header.channel_seq + fragment if header.channel_seq else 0,
            item_size=packer.size,
            fragment=fragment,
            payload_len=len(payload),
        )
        body = _pack(schema.HEADER, HEADER_STRUCT, stamped, -1) + payload
        out.append(body if key is None else body + auth_tag(body, key))
    return out


def _check_bid_count(header: Header, count: int) -> None:
    at = _OFFSET_OF["bid_count"]
    if not 0 <= header.bid_count <= count:
        raise WireError(f"bid_count {header.bid_count} of {count} items", at)
    if header.msg_type == MsgType.BBO:
        if header.bid_count > 1 or count - header.bid_count > 1:
            raise WireError(
                f"bid_count {header.bid_count} of {count} items: a BBO has at most one item a side",
                at,
            )
    elif header.bid_count and header.msg_type != MsgType.BOOK:
        raise WireError(f"bid_count {header.bid_count}: only books have bids", at)


def _pack_item(msg_type: int, item: Item, index: int) -> bytes:
    if type(item) is not ITEM_CLASS[msg_type]:
        raise WireError(
            f"items[{index}] is a {type(item).__name__}, not a {ITEM_CLASS[msg_type].__name__}"
        )
    return _pack(_RECORD_OF[msg_type], ITEM_STRUCT[msg_type], item, index)


_RANGES = {
    "u8": (0, 2**8 - 1),
    "i8": (-(2**7), 2**7 - 1),
    "u16": (0, 2**16 - 1),
    "i16": (-(2**15), 2**15 - 1),
    "u32": (0, 2**32 - 1),
    "i32": (-(2**31), 2**31 - 1),
    "u64": (0, 2**64 - 1),
    "i64": (-(2**63), 2**63 - 1),
}


_RECORD_OF: dict[int, schema.Record] = {
    int(msg_type): record for msg_type, record in schema.ITEM_OF.items()
}
_NUMERIC = {
    record.name: tuple(i for i, field in enumerate(record.fields) if field.mantissa)
    for record in schema.RECORDS
    if not any(field.type in ("utf8", "bytes") for field in record.fields)
}
"""Name of a record without text -> positions of its mantissas: `struct` alone would cut longer
text silently.
"""


def _pack(record: schema.Record, packer: struct.Struct, values: Header | Item, index: int) -> bytes:
    mantissas = _NUMERIC.get(record.name)
    if mantissas is not None:
        try:
            bounded = all(
                -MAX_MANTISSA <= values[i] <= MAX_MANTISSA  # type: ignore[operator]
                or values[i] == UNDEFINED
                for i in mantissas
            )
            if bounded:
                return packer.pack(*values)
        except (struct.error, TypeError):
            pass
    # Something does not fit, or is text: field by field, so that the message can name the field.
    return _pack_fields(record, values, f"items[{index}]." if index >= 0 else "")


def _pack_fields(record: schema.Record, values: Header | Item, where: str) -> bytes:
    out = bytearray()
    for field, value in zip(record.fields, values, strict=True):
        name = where + field.name
        if field.type in ("utf8", "bytes"):
            out += _pack_bytes(field, value, name)
            continue
        if not isinstance(value, int):
            raise WireError(f"{name} {value!r} is not an integer", field.offset)
        low, high = _RANGES[field.type]
        if not low <= value <= high:
            raise WireError(f"{name} {value} does not fit {field.type}", field.offset)
        if field.mantissa and abs(value) > MAX_MANTISSA and value != UNDEFINED:
            raise WireError(f"{name} {value} is beyond 2^62", field.offset)
        out += value.to_bytes(field.size, "little", signed=low < 0)
    return bytes(out)


def _pack_bytes(field: schema.Field, value: object, name: str) -> bytes:
    if field.type == "utf8" and isinstance(value, str):
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise WireError(f"{name} {value!r} is not UTF-8", field.offset) from None
        if data.endswith(b"\0"):
            raise WireError(f"{name} {value!r} ends in a zero byte", field.offset)
    elif field.type == "bytes" and isinstance(value, bytes):
        data = value
    else:
        raise WireError(
            f"{name} {value!r} is not {'text' if field.type == 'utf8' else 'bytes'}", field.offset
        )
    if len(data) > field.size:
        raise WireError(f"{name} has {len(data)} bytes, more than {field.size}", field.offset)
    return data.ljust(field.size, b"\0")


def walk(buffer: Buffer) -> Iterator[memoryview]:
    """Yield each packet of a contiguous buffer as a view; raise WireError where the next one is
    cut or is no packet.
    """
    view = memoryview(buffer)
    offset = 0
    while offset < len(view):
        if len(view) - offset < HEADER_SIZE:
            raise WireError("too_short", offset)
        header = Header._make(HEADER_STRUCT.unpack_from(view, offset))
        if header.magic != MAGIC:
            raise WireError("bad_magic", offset)
        end = offset + packet_size(header)
        if end > len(view):
            raise WireError("bad_length", offset)
        yield view[offset:end]
        offset = end


def encode_text(text: str) -> tuple[TextChunk, ...]:
    """Return the items of a TEXT event; the text must not end in a zero byte, which is padding."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise WireError(f"text {text[:40]!r} is not UTF-8") from None
    if data.endswith(b"\0"):
        raise WireError("text ends in a zero byte")
    return tuple(
        TextChunk(data[i : i + _CHUNK].ljust(_CHUNK, b"\0")) for i in range(0, len(data), _CHUNK)
    )


def decode_text(items: Sequence[Item]) -> str:
    """Return the text of a TEXT event from the items of all its fragments; WireError where it is
    not UTF-8.
    """
    data = b"".join([item.text for item in items if isinstance(item, TextChunk)]).rstrip(b"\0")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise WireError("text is not UTF-8", HEADER_SIZE + error.start) from None


def gap_detail(expected: int, got: int) -> bytes:
    """Return the detail of a GAP or CHECKSUM status; a negative value (a signed checksum) goes
    as its two's complement.
    """
    return (expected % 2**64).to_bytes(8, "little") + (got % 2**64).to_bytes(8, "little")


def parse_gap_detail(detail: bytes, *, signed: bool = False) -> tuple[int, int]:
    """Return (expected, got) of a GAP detail; `signed` for CHECKSUM, whose values are signed."""
    return int.from_bytes(detail[:8], "little", signed=signed), int.from_bytes(
        detail[8:16], "little", signed=signed
    )


def text_detail(text: str) -> bytes:
    """Return a status detail that holds text, cut at a character boundary to 16 bytes."""
    data = text.encode("utf-8", "replace")[: schema.STATUS.fields[-1].size]
    return data.decode("utf-8", "ignore").encode().ljust(schema.STATUS.fields[-1].size, b"\0")
