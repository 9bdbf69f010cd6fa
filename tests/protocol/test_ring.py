"""The ring against a plain list of packets: what it gives back is what was published, byte for
byte, or nothing.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapecast.protocol.ring import Ring
from tests.support.packets import packet

UNLIMITED = 1 << 40
batches = st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=6), max_size=60)
"""Items of the packets of each batch: 16 bytes each behind a header."""


class Published:
    """Packets in a ring and in a list."""

    def __init__(self, capacity: int, first_seq: int = 1) -> None:
        """Begin empty."""
        self.ring = Ring(capacity)
        self.capacity = capacity
        self.seq = first_seq
        self.all: dict[int, bytes] = {}

    def publish(self, items: list[int]) -> None:
        """Append one batch; the buffer is overwritten afterwards, as the publisher's is."""
        packets = [packet(self.seq + number, items=count) for number, count in enumerate(items)]
        self.all.update((self.seq + number, data) for number, data in enumerate(packets))
        data = b"".join(packets)
        buffer = bytearray(data + b"behind")
        self.ring.append(self.seq, len(packets), buffer, len(data))
        buffer[:] = bytes(len(buffer))
        self.seq += len(packets)

    def read(self, first: int, packets: int, nbytes: int = UNLIMITED) -> tuple[bytes, int]:
        """Read on until nothing more comes."""
        out, taken = b"", 0
        while taken < packets:
            view, count = self.ring.read(first + taken, packets - taken, nbytes)
            if not count:
                break
            out += view
            taken += count
        return out, taken

    def expected(self, first: int, packets: int) -> bytes:
        """Return what was published under these numbers."""
        return b"".join(self.all[seq] for seq in range(first, first + packets))


@given(batches, st.integers(66, 3000), st.sampled_from([1, 2**40]))
def test_everything_from_the_oldest_packet_on_is_there(
    items: list[list[int]], capacity: int, first_seq: int
) -> None:
    """After each batch every packet held is as it was published, and what is older is not found."""
    published = Published(capacity, first_seq)
    for batch in items:
        published.publish(batch)
        ring, oldest = published.ring, published.ring.oldest_seq
        assert ring.next_seq == published.seq
        assert ring.read(published.seq, 1, UNLIMITED) == (b"", 0)
        if not oldest:
            assert len(published.expected(published.seq - len(batch), len(batch))) > capacity
            continue
        held = published.seq - oldest
        assert published.read(oldest, held + 5) == (published.expected(oldest, held), held)
        assert ring.read(oldest - 1, 1, UNLIMITED) == (b"", 0)


@given(batches.filter(bool), st.integers(1500, 3000), st.data())
def test_any_range_is_served_in_pieces_of_any_size(
    items: list[list[int]], capacity: int, data: st.DataObject
) -> None:
    """Wherever it begins, and however few bytes a piece may have (one packet's at least)."""
    published = Published(capacity)
    for batch in items:
        published.publish(batch)
    oldest = published.ring.oldest_seq
    first = data.draw(st.integers(oldest, published.seq - 1))
    wanted = data.draw(st.integers(1, published.seq - first))
    nbytes = data.draw(st.integers(66 + 8 * 16, 1000))
    assert published.read(first, wanted, nbytes) == (published.expected(first, wanted), wanted)
    view, count = published.ring.read(first, wanted, nbytes)
    assert len(view) <= nbytes
    assert count <= wanted


@given(batches, st.integers(66, 3000))
def test_little_is_lost_before_its_time(items: list[list[int]], capacity: int) -> None:
    """What the last batches take, and one batch more for the end of the memory that one of them
    left empty, is held.
    """
    published = Published(capacity)
    history: list[tuple[int, int]] = []
    for batch in items:
        first = published.seq
        published.publish(batch)
        size = sum(66 + 16 * count for count in batch)
        if size > capacity:
            history.clear()
            continue
        history.append((first, size))
        nbytes = 0
        for start, length in reversed(history):
            nbytes += length
            if nbytes + max(size for _, size in history) > capacity:
                break
            first = start
        assert 0 < published.ring.oldest_seq <= first


def test_a_batch_larger_than_the_ring_empties_it() -> None:
    """Nothing of it is kept in part, and the next one is."""
    published = Published(400)
    published.publish([1, 1])
    published.publish([8, 8, 8])
    assert (published.ring.oldest_seq, published.ring.next_seq) == (0, 6)
    assert published.ring.read(5, 1, UNLIMITED) == (b"", 0)
    published.publish([2])
    assert published.ring.oldest_seq == 6
    assert published.read(6, 9) == (published.expected(6, 1), 1)


def test_a_hole_in_the_numbers_begins_anew() -> None:
    """Packets that never came into the ring must not be answered with others."""
    published = Published(4000)
    published.publish([1, 1])
    published.seq += 3
    published.publish([1])
    assert published.ring.oldest_seq == 6
    assert published.ring.read(2, 1, UNLIMITED) == (b"", 0)
    assert published.read(6, 1) == (published.expected(6, 1), 1)


def test_an_empty_ring_has_nothing() -> None:
    """Before the first packet, and after a batch of none."""
    ring = Ring(1000)
    ring.append(1, 0, bytearray(), 0)
    assert (ring.oldest_seq, ring.next_seq) == (0, 0)
    assert ring.read(0, 1, UNLIMITED) == ring.read(1, 1, UNLIMITED) == (b"", 0)


def test_a_piece_with_too_little_room_holds_nothing() -> None:
    """A packet is never cut."""
    published = Published(1000)
    published.publish([2])
    assert published.ring.read(1, 1, 66 + 31) == (b"", 0)
    assert published.ring.read(1, 1, 66 + 32)[1] == 1


def test_a_ring_must_hold_a_packet() -> None:
    """A smaller one is a mistake."""
    with pytest.raises(ValueError, match="65 bytes"):
        Ring(65)
