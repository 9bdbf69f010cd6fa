"""What tells one event from another in finished packets, and packets without the events that were
seen: a replaced connection and its successor bring the same trades, each goes out once.

Pure. Packets are unstamped: sequence numbers tell nothing, because they are not there yet.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from tapecast.feeder.session.packets import INDEX
from tapecast.feeder.session.sync_types import NO_ID
from tapecast.protocol.schema import HEADER, HEADER_SIZE, TRADE, Field, Flag, MsgType

__all__ = ["fingerprints", "remaining", "take"]

_BY_ITEM = (int(MsgType.TRADE), int(MsgType.LIQUIDATION))
_LAST = int(Flag.LAST)


def _place(field: Field) -> slice:
    return slice(field.offset, field.offset + field.size)


_HEADER_FIELD: Final = {field.name: field for field in HEADER.fields}
_TRADE_FIELD: Final = {field.name: field for field in TRADE.fields}
_MSG_TYPE: Final = _HEADER_FIELD["msg_type"].offset
_FLAGS: Final = _HEADER_FIELD["flags"].offset
_ITEM_COUNT: Final = _HEADER_FIELD["item_count"].offset
_BID_COUNT: Final = _HEADER_FIELD["bid_count"].offset
_ITEM_SIZE: Final = _HEADER_FIELD["item_size"].offset
_FRAGMENT: Final = _HEADER_FIELD["fragment"].offset
_TS_EXCHANGE_NS: Final = _place(_HEADER_FIELD["ts_exchange_ns"])
_PAYLOAD_LEN: Final = _place(_HEADER_FIELD["payload_len"])
_TRADE_ID: Final = _place(_TRADE_FIELD["trade_id"])
_TRADE_FLAGS: Final = _TRADE_FIELD["trade_flags"].offset


def fingerprints(packets: bytes, last_id: int) -> list[bytes]:
    """Return what tells the events of finished packets from others: of trades one for each item,
    else one for each packet.

    Empty for what has neither time nor id: nothing tells it from an event that comes later and
    says the same. An unstamped packet has the instrument's index where its sequence will be.
    """
    out = []
    start = 0
    while start < len(packets):
        body = start + HEADER_SIZE
        header = packets[start:body]
        kind, items, size = header[_MSG_TYPE], header[_ITEM_COUNT], header[_ITEM_SIZE]
        who = bytes((kind, header[_BID_COUNT])) + header[INDEX]
        when = header[_TS_EXCHANGE_NS]
        end = body + items * size
        if kind in _BY_ITEM:
            out += [who + _trade(packets[at : at + size]) for at in range(body, end, size)]
        elif last_id != NO_ID or any(when):
            out.append(who + when + last_id.to_bytes(8, "little", signed=True) + packets[body:end])
        else:
            out.append(b"")
        start = end
    return out


def remaining(packets: bytes, seen: Counter[bytes], last_id: int) -> bytes:
    """Return finished packets without the events that were seen, each of which is taken out of
    `seen`.

    What is left of an event is an event for each of its packets.
    """
    kept = bytearray()
    start = 0
    while start < len(packets):
        items, size = packets[start + _ITEM_COUNT], packets[start + _ITEM_SIZE]
        body = start + HEADER_SIZE
        end = body + items * size
        marks = fingerprints(packets[start:end], last_id)
        new = [not mark or not take(seen, mark) for mark in marks]
        if all(new):
            kept += packets[start:end]
        elif any(new):
            left = [
                packets[body + n * size : body + (n + 1) * size] for n, one in enumerate(new) if one
            ]
            header = bytearray(packets[start:body])
            header[_FLAGS] |= _LAST
            header[_ITEM_COUNT] = len(left)
            header[_FRAGMENT] = 0
            header[_PAYLOAD_LEN] = (len(left) * size).to_bytes(2, "little")
            kept += header + b"".join(left)
        start = end
    return bytes(kept)


def take(seen: Counter[bytes], mark: bytes) -> bool:
    """Whether an event was seen; once taken, it is as not seen."""
    count = seen.get(mark, 0)
    if count > 1:
        seen[mark] = count - 1
    elif count:
        del seen[mark]
    return count > 0


def _trade(item: bytes) -> bytes:
    """Return what tells a trade from others: its id; where the venue gives none, everything but
    the flags.
    """
    number = item[_TRADE_ID]
    return number if any(number) else item[:_TRADE_FLAGS] + item[_TRADE_FLAGS + 1 :]
