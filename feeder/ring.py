"""The ring: what a channel published last, in its original bytes, for the recovery service.

Bounded in bytes. Publishing appends a batch: one copy and one line in the index, however many packets it holds; the oldest
batches give way. A packet is found by its `channel_seq`: the batch by bisection, the packet within it by walking headers. What a
packet says, who asks, and how often, is `feeder.recovery`'s.
"""

from __future__ import annotations

import numpy as np

from protocol.schema import HEADER_SIZE
from protocol.stamping import whole_packets

__all__ = ["Ring"]

_UNLIMITED = 2**63


class Ring:
    """The last packets of a channel.

    Places count bytes since the beginning and never wrap; a place modulo `capacity` is where it lies in memory. A batch lies in
    one piece: where it does not fit before the end of the memory, that end stays empty.
    """

    __slots__ = (
        "_data",
        "_end",
        "_firsts",
        "_head",
        "_mask",
        "_next_seq",
        "_places",
        "_skip_from",
        "_skip_to",
        "_tail",
        "capacity",
    )

    def __init__(self, capacity: int) -> None:
        """Make a ring of `capacity` bytes; the memory is taken as it fills."""
        if capacity < HEADER_SIZE:
            raise ValueError(f"a ring of {capacity} bytes holds no packet")
        self.capacity = capacity
        self._data = np.zeros(capacity, np.uint8).data
        slots = 1 << (capacity // HEADER_SIZE).bit_length()
        self._mask = slots - 1
        self._firsts = np.zeros(slots, np.uint64).data
        """First channel_seq of each batch; the live ones are those from `_tail` up to `_head`, modulo the length."""
        self._places = np.zeros(slots, np.uint64).data
        self._tail = self._head = 0
        self._end = 0
        self._next_seq = 0
        self._skip_from = 0
        """Where the end of the memory begins that the last batch to wrap left empty."""

    @property
    def oldest_seq(self) -> int:
        """`channel_seq` of the oldest packet held; 0 = none."""
        return int(self._firsts[self._tail & self._mask]) if self._tail < self._head else 0

    @property
    def next_seq(self) -> int:
        """`channel_seq` that follows the newest packet held; 0 = none was ever appended."""
        return self._next_seq

    def append(self, first_seq: int, packets: int, buffer: bytearray | memoryview, nbytes: int) -> None:
        """Keep the contiguous packets in `buffer[:nbytes]`, numbered from `first_seq` on.

        Numbers must follow each other; a batch that does not (a lost one) begins anew. One larger than the ring empties it.
        """
        if not packets:
            return
        capacity, mask = self.capacity, self._mask
        if first_seq != self._next_seq or nbytes > capacity:
            self._tail = self._head
        self._next_seq = first_seq + packets
        if nbytes > capacity:
            return
        place = self._end
        at = place % capacity
        if at + nbytes > capacity:
            self._skip_from = place
            place += capacity - at
            at = 0
        self._end = end = place + nbytes
        tail, head, places, oldest = self._tail, self._head, self._places, end - capacity
        while tail < head and places[tail & mask] < oldest:
            tail += 1
        self._tail = tail
        slot = head & mask
        self._firsts[slot] = first_seq
        places[slot] = place
        self._head = head + 1
        self._data[at : at + nbytes] = memoryview(buffer)[:nbytes]

    def read(self, first_seq: int, packets: int, nbytes: int) -> tuple[memoryview, int]:
        """Return packets from `first_seq` on as one view, and how many: at most `packets`, in at most `nbytes`.

        At least one packet where the ring holds `first_seq` and `nbytes` has room for one; fewer than asked for also where
        the memory ends, so read on. The view shows the ring itself: valid until the next `append`.
        """
        oldest = self.oldest_seq
        if not oldest or not oldest <= first_seq < self._next_seq:
            return self._data[:0], 0
        index = self._batch_of(first_seq)
        start = int(self._places[index & self._mask])
        _, before = self._walk(start, first_seq - int(self._firsts[index & self._mask]), _UNLIMITED)
        start += before
        count, length = self._walk(start, packets, nbytes)
        at = start % self.capacity
        return self._data[at : at + length], count

    def _batch_of(self, seq: int) -> int:
        """Return the index of the last batch that does not begin after `seq`."""
        firsts, mask = self._firsts, self._mask
        low, high = self._tail, self._head - 1
        while low < high:
            middle = (low + high + 1) // 2
            if firsts[middle & mask] <= seq:
                low = middle
            else:
                high = middle - 1
        return low

    def _walk(self, place: int, packets: int, nbytes: int) -> tuple[int, int]:
        """Return number and bytes of the packets at `place`, as far as they lie in one piece."""
        end = self._skip_from if place < self._skip_from else self._end
        at = place % self.capacity
        return whole_packets(self._data[at : at + end - place], packets=packets, nbytes=nbytes)
