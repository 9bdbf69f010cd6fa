"""A whole book as packets, for the snapshots of the cycle and for the recovery service.

The caller brings the header (exponents, flags, times) and the levels of both sides as LEVEL
arrays; how an event of many fragments is cut is the wire specification's section 2. Nothing here
numbers a packet: `protocol.publish.publisher` stamps what is multicast, and gives a `Stamp` for
what a single receiver gets.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from tapecast.protocol.books.book import LevelArray
from tapecast.protocol.dtypes import HEADER, LEVEL
from tapecast.protocol.records import HEADER_STRUCT, Header
from tapecast.protocol.schema import HEADER_SIZE, MAGIC, MAX_ITEMS, VERSION, Flag

__all__ = ["BookPackets", "Stamp", "levels_packets"]

_MAX_FRAGMENTS = 256
_PIECE_BYTES = 64 << 10


class Stamp(NamedTuple):
    """Header fields of a packet that shows how something stands (`protocol.publish.publisher`)."""

    session: int
    channel_seq: int
    instrument_seq: int
    ts_send_ns: int


def levels_packets(header: Header, bids: LevelArray, asks: LevelArray, max_payload: int) -> bytes:
    """Return a whole book as packets: `bids` and `asks` are LEVEL arrays, best first, of
    thousands of levels: no loop over them.

    An event has at most 256 fragments. What of a larger book does not fit, farthest from the
    touch, follows as deltas.
    """
    book = BookPackets(header, bids, asks, max_payload)
    return (
        book.piece(0)
        if len(book) == 1
        else b"".join(book.piece(number) for number in range(len(book)))
    )


class BookPackets:
    """The packets of `levels_packets` in pieces of at most 64 KiB, each made when it is asked
    for. The levels are a copy.
    """

    __slots__ = ("_pieces", "_room", "nbytes", "packets")

    def __init__(
        self, header: Header, bids: LevelArray, asks: LevelArray, max_payload: int
    ) -> None:
        self._room = room = min((max_payload - HEADER_SIZE) // LEVEL.itemsize, MAX_ITEMS)
        self._pieces: list[tuple[Header, LevelArray, int, int, int]] = []
        self.packets = 0
        self.nbytes = 0
        rest = header._replace(flags=header.flags & ~Flag.SNAPSHOT)
        half = room * _MAX_FRAGMENTS // 2
        for start in range(0, max(len(bids), len(asks), 1), half):
            own = bids[start : start + half]
            self._add(
                rest if start else header,
                np.concatenate((own, asks[start : start + half])),
                len(own),
            )

    def _add(self, header: Header, levels: LevelArray, bids: int) -> None:
        count = max(1, -(-len(levels) // self._room))
        step = max(1, _PIECE_BYTES // (HEADER_SIZE + self._room * LEVEL.itemsize))
        self._pieces += [
            (header, levels, bids, first, min(first + step, count))
            for first in range(0, count, step)
        ]
        self.packets += count
        self.nbytes += count * HEADER_SIZE + levels.nbytes

    def __len__(self) -> int:
        """Return the number of pieces."""
        return len(self._pieces)

    def piece(self, number: int) -> bytes:
        """Return the packets of a piece."""
        return _fragments(*self._pieces[number], self._room)


def _fragments(
    header: Header, levels: LevelArray, bids: int, first: int, end: int, room: int
) -> bytes:
    """Return fragments `first` to `end` - 1 of an event: rows of one array, of which the last is
    cut to the levels it has.
    """
    count = end - first
    own = levels[first * room : end * room]
    last = len(own) - (count - 1) * room
    is_end = len(levels) <= end * room
    header = header._replace(
        magic=MAGIC,
        version=VERSION,
        flags=header.flags | (Flag.LAST if is_end and count == 1 else 0),
        item_count=last,
        bid_count=min(max(bids - first * room, 0), last),
        item_size=LEVEL.itemsize,
        fragment=first,
        payload_len=last * LEVEL.itemsize,
    )
    if count == 1:
        return HEADER_STRUCT.pack(*header) + own.tobytes()
    packets = np.empty(count, _row(room))
    heads, rows, numbers = packets["header"], packets["levels"], np.arange(first, end)
    heads[:] = np.frombuffer(HEADER_STRUCT.pack(*header), HEADER)
    heads["fragment"] = numbers
    heads["item_count"][:-1] = room
    heads["payload_len"][:-1] = room * LEVEL.itemsize
    heads["bid_count"] = np.clip(bids - numbers * room, 0, heads["item_count"])
    if is_end:
        heads["flags"][-1] |= Flag.LAST
    rows[:-1] = own[:-last].reshape(count - 1, room)
    rows[-1, :last] = own[-last:]
    return packets.view(np.uint8)[: count * HEADER_SIZE + own.nbytes].tobytes()


@cache
def _row(room: int) -> np.dtype[np.void]:
    return np.dtype([("header", HEADER), ("levels", LEVEL, (room,))])
