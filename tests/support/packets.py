"""Packets by hand, for the tests of what carries and orders them: struct only, so that no codec
here is its own judge.
"""

from __future__ import annotations

import hashlib
import struct

from tapecast.protocol import schema
from tapecast.protocol.schema import Flag, MsgType

__all__ = ["HEADER", "fields", "heartbeat", "packet", "sealed", "session_end"]

HEADER = struct.Struct("<HBBHBBIHHQQIbbBBqqqH")
_BEAT = struct.Struct("<QQIIIHH")
_NAMES = [field.name for field in schema.HEADER.fields]


def packet(
    seq: int = 0,
    *,
    msg_type: int = MsgType.BOOK,
    flags: int = Flag.LAST,
    session: int = 0,
    channel: int = 1,
    instrument: int = 7,
    instrument_seq: int = 0,
    fragment: int = 0,
    items: int = 2,
    item_size: int = 16,
    bids: int = 0,
    payload: bytes | None = None,
    tag: bytes = b"",
) -> bytes:
    """Return one packet; the payload repeats the number unless given, so that no two packets are
    equal.
    """
    body = (
        payload
        if payload is not None
        else (seq % 2**64).to_bytes(8, "little") * (items * item_size // 8)
    )
    head = HEADER.pack(
        0x464D, 1, msg_type, flags, items, bids, session, channel, 1, instrument, seq % 2**64, instrument_seq,
        -2, -8, item_size, fragment, 0, 0, 0, len(body),
    )  # fmt: skip
    return head + body + tag


def heartbeat(
    seq: int,
    *,
    session: int = 0,
    channel: int = 1,
    msg_type: int = MsgType.HEARTBEAT,
    oldest: int = 0,
    port: int = 0,
) -> bytes:
    """Return a heartbeat: `seq` is the next number to be sent; at `port` the numbers from
    `oldest` on can be had.
    """
    item = _BEAT.pack(oldest, 0, 0, 0, 1000, port, 0)
    return packet(
        seq,
        msg_type=msg_type,
        session=session,
        channel=channel,
        instrument=0,
        items=1,
        item_size=32,
        payload=item,
    )


def session_end(seq: int, *, session: int = 0, channel: int = 1) -> bytes:
    """Return a SESSION_END."""
    return heartbeat(seq, session=session, channel=channel, msg_type=MsgType.SESSION_END)


def sealed(data: bytes, key: bytes) -> bytes:
    """Return a packet with AUTH and its tag, straight from the hash library."""
    head = fields(data)
    head["flags"] |= Flag.AUTH
    body = HEADER.pack(*head.values()) + data[66:]
    return body + hashlib.blake2b(body, digest_size=16, key=key).digest()


def fields(data: bytes | memoryview) -> dict[str, int]:
    """Return the header's fields by name."""
    return dict(zip(_NAMES, HEADER.unpack_from(data), strict=True))
