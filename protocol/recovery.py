"""The recovery service's conversation: requests and replies to bytes and back, and packets out
of a TCP stream.

The one place through which both ends pass what they send (wire specification, section 8), so that
a tag is added and checked here and nowhere else. The packets of an answer are served as they are
and do not pass here. It decides nothing and does no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

from tapecast.protocol.codec import Buffer, WireError, decode, encode, packet_size
from tapecast.protocol.records import HEADER_STRUCT, Header, ReplyItem, RequestItem
from tapecast.protocol.schema import HEADER_SIZE, MAGIC, MAX_PACKET, MsgType, RequestKind

__all__ = [
    "MAX_RANGE",
    "decode_reply",
    "decode_request",
    "encode_reply",
    "encode_request",
    "first_packet",
]

MAX_RANGE = 512
"""Packets that one request may ask for."""


def encode_request(header: Header, item: RequestItem, *, key: bytes | None = None) -> bytes:
    """Return a request as a packet; of `header` count channel_id, venue_id and session.
    WireError where a value does not fit.
    """
    return encode(header._replace(msg_type=MsgType.REQUEST), (item,), key=key)[0]


def decode_request(packet: Buffer, *, keys: Sequence[bytes] = ()) -> tuple[Header, RequestItem]:
    """Return a request's header and item; raise WireError where the packet is none, or asks for
    what cannot be.

    With `keys` (one, or two during rotation) a request without the right tag is refused.
    """
    header, items, _ = decode(packet, keys=keys)
    if len(items) != 1 or not isinstance(items[0], RequestItem):
        raise WireError("not a request")
    item = items[0]
    if item.kind == RequestKind.RANGE:
        if not 1 <= item.packets <= MAX_RANGE:
            raise WireError(f"packets {item.packets}: 1 to {MAX_RANGE}")
        if not item.first:
            raise WireError("first 0: numbers begin with 1")
    elif item.kind not in (RequestKind.DEFINITIONS, RequestKind.SNAPSHOT):
        raise WireError(f"kind {item.kind} is unknown")
    return header, item


def encode_reply(header: Header, item: ReplyItem, *, key: bytes | None = None) -> bytes:
    """Return a reply as a packet; of `header` count channel_id, venue_id, session, flags and
    ts_send_ns.
    """
    return encode(header._replace(msg_type=MsgType.REPLY), (item,), key=key)[0]


def decode_reply(packet: Buffer, *, keys: Sequence[bytes] = ()) -> tuple[Header, ReplyItem]:
    """Return a reply's header and item; raise WireError where the packet is none. A status may
    be one of a later version.
    """
    header, items, _ = decode(packet, keys=keys)
    if len(items) != 1 or not isinstance(items[0], ReplyItem):
        raise WireError("not a reply")
    return header, items[0]


def first_packet(stream: Buffer, start: int = 0) -> int:
    """Return the length of the packet that begins at `start`, or 0 while it is not complete.

    Raises WireError as soon as the bytes there cannot become a packet.
    """
    have = len(stream) - start
    if have >= 2 and (stream[start], stream[start + 1]) != (MAGIC & 0xFF, MAGIC >> 8):
        raise WireError("bad_magic", start)
    if have < HEADER_SIZE:
        return 0
    length = packet_size(Header._make(HEADER_STRUCT.unpack_from(stream, start)))
    if length > MAX_PACKET:
        raise WireError("oversize", start)
    return length if have >= length else 0
