"""Inputs for the packet targets of `protocol/native/fuzz`: golden packets, and runs of packets
as receivers meet them.

The layout is told in `protocol/native/fuzz/packet_input.h`. Prices are those of Binance spot
BTCUSDT, 2024-08-08 (the golden packets' source); what becomes of them is for the targets to find
out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from tapecast.protocol.schema import Flag, MsgType
from tests.support.packets import heartbeat, packet, session_end
from tests.support.vectors import INVALID, VECTORS

__all__ = ["inputs"]

_END_BATCH = 0x04
_LATER = 0x20
"""A step of 1 ms before the record's batch."""
_SPECIAL = 0x80
_WRONG_TAG = 2
_BID, _ASK = 6183763, 6183764
_PRICE_EXP_AT, _QTY_EXP_AT = 36, 37
_SNAPSHOT = int(Flag.SNAPSHOT)
_LAST = int(Flag.LAST)


def _record(data: bytes, control: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBH", control, value, len(data)) + data


def _input(config: int, records: Iterable[bytes]) -> bytes:
    return bytes([config]) + b"".join(records)


def _levels(best: int, step: int, count: int, quantity: int = 2000) -> list[tuple[int, int]]:
    return [(best + step * n, quantity + n) for n in range(count)]


def _book(
    seq: int,
    bids: list[tuple[int, int]],
    asks: list[tuple[int, int]],
    *,
    flags: int = _LAST,
    number: int = 1,
    fragment: int = 0,
    session: int = 1,
    instrument: int = 7,
    exponents: tuple[int, int] = (-2, -5),
) -> bytes:
    payload = b"".join(struct.pack("<qq", *level) for level in (*bids, *asks))
    data = bytearray(
        packet(
            seq,
            flags=flags,
            session=session,
            instrument=instrument,
            instrument_seq=number,
            fragment=fragment,
            items=len(bids) + len(asks),
            bids=len(bids),
            payload=payload,
        )
    )
    struct.pack_into("<bb", data, _PRICE_EXP_AT, *exponents)
    return bytes(data)


def _session(session: int = 1, levels: int = 4) -> list[bytes]:
    """Return a snapshot in three fragments, deltas, trades, a book of finer exponents, a
    heartbeat and the end.
    """
    bids, asks = _levels(_BID, -1, levels), _levels(_ASK, 1, levels)
    return [
        _book(1, bids, [], flags=_SNAPSHOT, session=session),
        _book(
            2,
            _levels(_BID - levels, -1, levels // 2),
            asks,
            flags=_SNAPSHOT,
            fragment=1,
            session=session,
        ),
        _book(
            3,
            [],
            _levels(_ASK + levels, 1, levels),
            flags=_SNAPSHOT | _LAST,
            fragment=2,
            session=session,
        ),
        _book(4, [(_BID, 0), (_BID - 1, 5)], [(_ASK + 1, 7)], number=2, session=session),
        packet(5, msg_type=MsgType.TRADE, items=2, item_size=32, session=session, instrument_seq=1),
        _book(6, [(_BID, 9)], [(_ASK, 0)], number=3, session=session, flags=0),
        _book(7, [], [(_ASK, 3)], number=3, session=session, fragment=1),
        _book(8, [(10 * _BID, 1)], [(10 * _ASK, 1)], number=4, session=session, exponents=(-3, -8)),
        _book(9, [(_BID, 1)], [(_ASK, 1)], flags=_SNAPSHOT | _LAST, session=session, instrument=8),
        _book(10, [(_ASK, 1)], [(_BID, 1)], number=2, session=session, instrument=8),
        heartbeat(11, session=session),
        session_end(11, session=session),
    ]


def _two_lines(packets: list[bytes]) -> Iterator[bytes]:
    """Both lines, each with losses of its own, in small batches."""
    for number, data in enumerate(packets):
        if number % 3:
            yield _record(data, 0 | _LATER)
        if number % 4 != 2:
            yield _record(data, 1 | _END_BATCH)


def inputs() -> Iterator[bytes]:
    """Yield every input."""
    golden = [bytes.fromhex(item["hex"]) for vector in VECTORS for item in vector["packets"]]
    yield _input(0b11000011, (_record(data, _END_BATCH) for data in golden))
    yield _input(0b00001111, (_record(bytes.fromhex(item["hex"])) for item in INVALID))
    first, second = _session(), _session(2)
    for config in (0b11010100 ^ 0b100, 0b11000101, 0b10111111 ^ 0b100, 0b11001011, 0b01110011):
        yield _input(config, (_record(data) for data in first))
        yield _input(config, (_record(data, _END_BATCH | _LATER) for data in (*first, *second)))
        yield _input(config, _two_lines(first + second))
    wrong = [_record(data, _SPECIAL | _END_BATCH, _WRONG_TAG) for data in first]
    yield _input(
        0b11000111,
        (record for data, bad in zip(first, wrong, strict=True) for record in (bad, _record(data))),
    )
    swapped = [first[n ^ 1] for n in range(len(first))]
    yield _input(
        0b11000011, (_record(data, _END_BATCH | _LATER) for data in (*swapped, *reversed(second)))
    )
    yield _input(0b11001111, (_record(data) for data in _session(levels=40)))
    many = [
        _book(n + 1, [(_BID, 1)], [(_ASK, 1)], flags=_SNAPSHOT | _LAST, instrument=n + 1)
        for n in range(20)
    ]
    yield _input(0b11110110, (_record(data) for data in many))
