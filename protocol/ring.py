"""The ring: what a channel published last, in its original bytes, for the recovery service.

Bounded in bytes. Publishing appends a batch: one copy and one line in an index, however many
packets it holds; the oldest batches give way. A batch lies in one piece; where it does not fit
before the end of the memory, that end stays empty. A packet is found by its `channel_seq`: the
batch by bisection, the packet within it by walking headers. The routines are
`protocol/native/ring.c`; who may ask for what is `protocol.publish.recovery.server`'s.
"""

from __future__ import annotations

import numpy as np

from tapecast.protocol._native import ffi, lib
from tapecast.protocol.schema import HEADER_SIZE

__all__ = ["Ring"]

_append, _read, _from_buffer = lib.tc_ring_append, lib.tc_ring_read, ffi.from_buffer


class Ring:
    """The last packets of a channel. Not for several threads at once."""

    __slots__ = ("_buffer", "_c", "_data", "_found", "_memory", "_source", "capacity")

    def __init__(self, capacity: int) -> None:
        """Make a ring of `capacity` bytes; the memory is taken as it fills."""
        if capacity < HEADER_SIZE:
            raise ValueError(f"a ring of {capacity} bytes holds no packet")
        self.capacity = capacity
        slots = 1 << (capacity // HEADER_SIZE).bit_length()
        data, index = np.zeros(capacity, np.uint8), np.zeros((2, slots), np.uint64)
        self._memory = data, index
        self._data = data.data.toreadonly()
        self._c = ffi.new("tc_ring *")
        self._c.data, self._c.capacity = _from_buffer("uint8_t[]", data), capacity
        self._c.firsts, self._c.places = (
            _from_buffer("uint64_t[]", index[0]),
            _from_buffer("uint64_t[]", index[1]),
        )
        self._c.mask = slots - 1
        self._found = ffi.new("uint64_t[2]")
        self._buffer: bytearray | memoryview = bytearray()
        self._source = _from_buffer(self._buffer)

    @property
    def oldest_seq(self) -> int:
        """`channel_seq` of the oldest packet held; 0 = none."""
        c = self._c
        return int(c.firsts[c.tail & c.mask]) if c.tail < c.head else 0

    @property
    def next_seq(self) -> int:
        """`channel_seq` that follows the newest packet; 0 = there never was one."""
        return int(self._c.next_seq)

    def append(
        self, first_seq: int, packets: int, buffer: bytearray | memoryview, nbytes: int
    ) -> None:
        """Keep the contiguous packets in `buffer[:nbytes]`, numbered from `first_seq` on.

        Numbers must follow each other; after a hole the ring begins anew. A batch larger than
        the ring empties it. `buffer` stays exported until the next one comes: a bytearray cannot
        be resized meanwhile.
        """
        if buffer is not self._buffer:
            self._source = _from_buffer("uint8_t[]", buffer)
            self._buffer = buffer
        if not 0 <= nbytes <= len(self._source):
            raise ValueError(f"{nbytes} bytes in a buffer of {len(self._source)}")
        _append(self._c, first_seq, packets, self._source, nbytes)

    def read(self, first_seq: int, packets: int, nbytes: int) -> tuple[memoryview, int]:
        """Return packets from `first_seq` on as one view, and how many: at most `packets`, in at
        most `nbytes`.

        At least one packet where the ring holds `first_seq` and `nbytes` has room for one; fewer
        than asked for also where the memory ends, so read on. The view shows the ring itself:
        valid until the next `append`.
        """
        found = self._found
        count = int(_read(self._c, first_seq, packets, nbytes, found, found + 1))
        return self._data[found[0] : found[0] + found[1]], count
