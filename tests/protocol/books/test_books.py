"""The book kernel against its plain-Python twin, on hand-made streams, on random ones, and on
what it promises about memory.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.protocol.books.books import BookSet, KernelState, Touch
from tapecast.protocol.books.reference import ReferenceBookSet
from tapecast.protocol.schema import MAX_MANTISSA, UNDEFINED, Flag, MsgType
from tests.support.book_packets import Levels, event, packet
from tests.support.examples import examples

LAST, SNAPSHOT, RECOVERED = Flag.LAST, Flag.SNAPSHOT, Flag.RECOVERED
CYCLE = SNAPSHOT | RECOVERED
BOOK_FIELDS = (
    "state", "touch", "price_exp", "qty_exp", "instrument_seq", "ts_exchange_ns", "ts_recv_ns", "flags", "venue_id",
    "updates", "ignored", "crossed_events", "crossed_run", "complete", "depth",
)  # fmt: skip


def assert_same(books: BookSet, reference: ReferenceBookSet) -> None:
    """Compare every book and every counter of the two implementations."""
    assert {name: n for name, n in books.counters._asdict().items() if n} == {
        k: n for k, n in reference.counters.items() if n
    }
    assert [book.instrument_id for book in books] == list(reference.books)
    for book in books:
        twin = reference.books[book.instrument_id]
        assert {f: getattr(book, f) for f in BOOK_FIELDS} == {
            f: getattr(twin, f) for f in BOOK_FIELDS
        }
        assert book.levels() == twin.levels()


def apply_both(
    books: BookSet, reference: ReferenceBookSet, data: bytes, check_seq: bool, drop_old: bool
) -> None:
    """Apply one buffer to both and compare what each reports and holds."""
    result = books.apply(data, check_seq=check_seq, drop_old=drop_old)
    consumed = reference.apply(data, check_seq=check_seq, drop_old=drop_old)
    assert result.position == consumed
    assert result.malformed == (consumed < len(data))
    assert [books.at(slot).instrument_id for slot in result.touched] == reference.touched
    assert_same(books, reference)


def live(
    bids: Levels = ((100, 5), (99, 3)), asks: Levels = ((101, 4), (102, 6)), seq: int = 10
) -> BookSet:
    """Return a set whose instrument 7 has a complete snapshot."""
    books = BookSet()
    books.apply(event(7, bids, asks, seq=seq, flags=SNAPSHOT))
    return books


def test_snapshot_then_delta_gives_sorted_levels_best_first() -> None:
    """Updates replace, insert and delete levels on both sides, wherever they stand."""
    books = live()
    books.apply(event(7, [(100, 0), (98, 1), (99, 9)], [(101, 7), (103, 2), (102, 0)], seq=11))
    book = books.book(7)
    assert book is not None
    assert book.levels() == ([(99, 9), (98, 1)], [(101, 7), (103, 2)])
    assert book.best_bid == (99, 9)
    assert book.best_ask == (101, 7)
    assert (book.complete, book.instrument_seq, book.updates) == (True, 11, 2)


def test_book_is_incomplete_and_empty_inside_a_snapshot() -> None:
    """A snapshot shows nothing of the old or the new book until its last fragment."""
    books = live()
    first, last = event(
        7, [(50, 1), (49, 1)], [(51, 1)], seq=11, flags=SNAPSHOT, per_packet=2, split=True
    )
    books.apply(first)
    book = books.book(7)
    assert book is not None
    assert (book.complete, book.state, book.depth, book.instrument_seq) == (
        False,
        KernelState.LOADING,
        (0, 0),
        10,
    )
    assert books.apply(last).touched.tolist() == [book.slot]
    assert (book.complete, book.levels()) == (True, ([(50, 1), (49, 1)], [(51, 1)]))


def test_snapshot_in_any_order_is_sorted() -> None:
    """Levels that come worst first, twice or with quantity 0 end as the dictionary would have
    them.
    """
    books = live(
        [(1, 1), (3, 1), (2, 1), (3, 7), (4, 0), (1, 0)], [(9, 1), (5, 1), (7, 0), (6, 2), (5, 3)]
    )
    assert books.at(0).levels() == ([(3, 7), (2, 1)], [(5, 3), (6, 2), (9, 1)])


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("flags", [Flag(0), SNAPSHOT])
def test_a_lost_fragment_leaves_the_book_waiting_for_a_snapshot(lost: int, flags: Flag) -> None:
    """Whatever fragment of an event is missing, the book is not complete afterwards and returns
    with a snapshot.
    """
    books = live()
    fragments = event(
        7, [(97, 1), (96, 1)], [(105, 1)], seq=11, flags=flags, per_packet=1, split=True
    )
    del fragments[lost]
    books.apply(b"".join(fragments) + event(7, [(95, 1)], seq=12))
    assert not books.at(0).complete
    assert books.counters.fragment_errors == 1
    books.apply(event(7, [(90, 1)], seq=13, flags=SNAPSHOT))
    assert books.at(0).complete
    assert books.at(0).levels() == ([(90, 1)], [])


def test_fragments_count_past_255() -> None:
    """An event of more than 256 fragments goes on at fragment 0."""
    levels = [(1_000_000 - i, i + 1) for i in range(30_000)]
    books = live(levels, [])
    assert books.at(0).complete
    assert books.at(0).levels()[0] == levels


def test_delta_without_snapshot_is_counted_or_starts_the_book() -> None:
    """A delta on an empty book is ignored unless the set was made with delta_first."""
    delta = event(7, [(100, 1)], seq=1)
    strict, lenient = BookSet(), BookSet(delta_first=True)
    strict.apply(delta)
    lenient.apply(delta)
    assert (strict.at(0).state, strict.counters.ignored, strict.at(0).ignored) == (
        KernelState.EMPTY,
        1,
        1,
    )
    assert (lenient.at(0).complete, lenient.at(0).best_bid) == (True, (100, 1))


def test_sequence_gap_suspects_the_book_and_keeps_its_levels() -> None:
    """With check_seq a delta beyond last + 1 is not applied, nor what follows, until a snapshot."""
    books = live()
    gap = event(7, [(100, 1)], seq=12) + event(7, [(100, 2)], seq=13)
    assert books.apply(gap, check_seq=True).touched.tolist() == [0]
    assert (books.at(0).state, books.at(0).best_bid, books.at(0).instrument_seq) == (
        KernelState.SUSPECT,
        (100, 5),
        10,
    )
    assert (books.counters.seq_gaps, books.counters.ignored) == (1, 1)
    books.apply(event(7, [(80, 1)], seq=13, flags=CYCLE), check_seq=True)
    assert books.at(0).complete


def test_sequence_wraps() -> None:
    """After instrument_seq 2^32 - 1 comes 0."""
    books = live(seq=2**32 - 1)
    books.apply(event(7, [(100, 1)], seq=0), check_seq=True)
    assert books.at(0).best_bid == (100, 1)


def test_healthy_book_skips_cycle_snapshots_and_a_late_joiner_takes_them() -> None:
    """A RECOVERED snapshot that carries the last sequence changes nothing in a healthy book, in
    all its fragments.
    """
    cycle = event(7, [(1, 1), (0, 1)], [(9, 1)], seq=10, flags=CYCLE, per_packet=1)
    healthy, joining = live(), BookSet()
    for books in (healthy, joining):
        books.apply(cycle + event(7, [(99, 8)], seq=11), check_seq=True)
        assert (books.at(0).complete, books.at(0).instrument_seq) == (True, 11)
    assert healthy.counters.skipped == 3
    assert healthy.at(0).levels()[0] == [(100, 5), (99, 8)]
    assert joining.at(0).levels()[0] == [(99, 8), (1, 1), (0, 1)]


def test_drop_old_lets_queued_deltas_meet_a_snapshot() -> None:
    """Deltas at or before the snapshot's sequence are dropped; the next one applies."""
    books = live(seq=10)
    queued = b"".join(event(7, [(100, seq)], seq=seq) for seq in range(8, 13))
    books.apply(queued, check_seq=True, drop_old=True)
    assert (books.counters.old, books.at(0).instrument_seq, books.at(0).best_bid) == (
        3,
        12,
        (100, 12),
    )


def test_exponents_are_reconciled_exactly() -> None:
    """A coarser packet is scaled up, a finer one rescales the book, each number kept."""
    books = live()
    books.apply(event(7, [(9, 2)], seq=11, price_exp=1, qty_exp=2))
    assert books.at(0).levels()[0] == [(100, 5), (99, 3), (90, 200)]
    books.apply(event(7, [(100001, 55)], seq=12, price_exp=-3, qty_exp=-1))
    assert (books.at(0).price_exp, books.at(0).qty_exp) == (-3, -1)
    assert books.at(0).levels()[0] == [(100001, 55), (100000, 50), (99000, 30), (90000, 2000)]


@pytest.mark.parametrize(
    ("levels", "price_exp", "qty_exp"),
    [
        ([(5, 1)], 18, 0),
        ([(5, 1)], 127, 0),
        ([(5, 1)], -17, 0),
        ([(5, 1)], 0, -128),
        ([(5, MAX_MANTISSA + 1)], 0, 0),
        ([(UNDEFINED, 1)], 0, 0),
    ],
)
def test_a_number_beyond_2_62_breaks_the_book(levels: Levels, price_exp: int, qty_exp: int) -> None:
    """What cannot be represented empties the book and waits for a snapshot; it never wraps."""
    books = live()
    books.apply(
        event(7, levels, seq=11, price_exp=price_exp, qty_exp=qty_exp)
        + event(7, [(100, 1)], seq=12)
    )
    assert (books.at(0).state, books.at(0).depth, books.counters.overflows) == (
        KernelState.BROKEN,
        (0, 0),
        1,
    )
    books.apply(event(7, [(100, 1)], seq=13, flags=SNAPSHOT))
    assert books.at(0).complete


def test_largest_mantissas_are_kept() -> None:
    """Prices of both signs and quantities up to 2^62 - 1 pass unchanged."""
    books = live([(MAX_MANTISSA, MAX_MANTISSA), (-MAX_MANTISSA, 1)], [])
    assert books.at(0).levels()[0] == [(MAX_MANTISSA, MAX_MANTISSA), (-MAX_MANTISSA, 1)]


def test_negative_quantity_is_counted_and_left_out() -> None:
    """A negative quantity changes no level."""
    books = live()
    books.apply(event(7, [(100, -1), (98, -2)], seq=11))
    assert books.counters.negative_quantities == 2
    assert books.at(0).levels()[0] == [(100, 5), (99, 3)]


def test_locked_and_crossed_books_are_counted() -> None:
    """Each event that leaves best bid >= best ask counts, in total and in a row."""
    books = live()
    seen = []
    for seq, bid in enumerate([(101, 1), (102, 1), (102, 0), (101, 0), (101, 2)], 11):
        books.apply(event(7, [bid], seq=seq))
        seen.append((books.at(0).touch, books.at(0).crossed_run, books.at(0).crossed_events))
    locked, crossed, normal = Touch.LOCKED, Touch.CROSSED, Touch.NORMAL
    assert seen == [(locked, 1, 1), (crossed, 2, 2), (locked, 3, 3), (normal, 0, 3), (locked, 1, 4)]


def test_a_book_of_fixed_depth_slides() -> None:
    """Levels that come and go at the far end as the price drifts, as venues with a fixed depth
    send them, give equal books.
    """
    books, reference = BookSet(1), ReferenceBookSet()
    depth, shift = 100, 0
    levels = [(1000 - i, 1) for i in range(depth)], [(1001 + i, 1) for i in range(depth)]
    apply_both(books, reference, event(7, *levels, seq=1, flags=SNAPSHOT), False, False)
    rng = random.Random(1)
    for seq in range(2, 1500):
        step = 1 if rng.random() < (0.8 if seq < 700 else 0.2) else -1
        bottom, top = 1000 + shift - depth, 1000 + shift
        bids = [(top + 1, seq), (bottom + 1, 0)] if step > 0 else [(top, 0), (bottom, seq)]
        asks = (
            [(top + 1, 0), (top + 1 + depth, seq)] if step > 0 else [(top, seq), (top + depth, 0)]
        )
        shift += step
        apply_both(books, reference, event(7, bids, asks, seq=seq), False, False)
        if seq % 100 == 0:
            restart = [(top - 2 * i, 2) for i in range(rng.choice([1, 300]))]
            apply_both(
                books, reference, event(8, restart, restart, seq=seq, flags=SNAPSHOT), False, False
            )
    assert books.at(0).depth == (depth, depth)


def test_the_result_says_whether_an_event_crossed_its_book() -> None:
    """`crossed` is about the events of one call: true for each that crosses, false for one that
    finds the book so.
    """
    books = live()
    data = bytearray(event(7, [(101, 1)], seq=11))
    assert books.apply(data).crossed
    assert books.apply(data, len(data)).crossed
    assert not books.apply(data, 0).crossed
    assert not books.apply(event(7, [(101, 0)], seq=12)).crossed
    assert not books.apply(packet(7, msg_type=MsgType.TRADE)).crossed


def test_unknown_instruments_are_counted_or_added_up_to_the_limit() -> None:
    """Without auto_add only declared instruments have books; with it no more than max_books."""
    data = b"".join(event(i, [(1, 1)], flags=SNAPSHOT) for i in range(1, 301))
    declared, limited = BookSet(auto_add=False), BookSet(1, max_books=200)
    declared.add(5)
    for books, count in ((declared, 1), (limited, 200)):
        assert len(books.apply(data).touched) == count
        assert (len(books), books.counters.unknown) == (count, 300 - count)
    with pytest.raises(ValueError, match="no book"):
        limited.add(1000)


def test_growth_resumes_without_applying_twice() -> None:
    """A book of 60,000 levels a side grows inside one call, and each packet is counted once."""
    bids, asks = (
        [(10**6 - i, 1) for i in range(60_000)],
        [(10**6 + 1 + i, 1) for i in range(60_000)],
    )
    data = event(7, bids, asks, flags=SNAPSHOT)
    books, reference = BookSet(1), ReferenceBookSet()
    apply_both(books, reference, data + event(8, [(1, 1)], flags=SNAPSHOT), False, False)
    assert books.at(0).depth == (60_000, 60_000)
    assert len(books.apply(data).touched) == 1


def test_a_side_beyond_max_levels_breaks_its_book_only() -> None:
    """Memory is bounded: the book that would pass the limit is broken, its neighbours live."""
    books = BookSet(max_levels=1000)
    data = event(7, [(5000 - i, 1) for i in range(2000)], flags=SNAPSHOT) + event(
        8, [(1, 1)], flags=SNAPSHOT
    )
    assert books.apply(data).touched.tolist() == [0, 1]
    assert [book.state for book in books] == [KernelState.BROKEN, KernelState.LIVE]
    assert books.counters.overflows == 1


def test_a_packet_longer_than_the_format_allows_is_none() -> None:
    """255 levels in one packet, more than the smallest limit of a side, end the walk instead of
    asking for room for ever.
    """
    books, reference = BookSet(max_levels=128), ReferenceBookSet()
    data = packet(7, [(i + 1, 1) for i in range(255)], flags=SNAPSHOT | LAST)
    assert books.apply(data).malformed
    assert not reference.apply(data)
    assert len(books) == 0


def test_other_types_and_longer_items_and_tags_are_walked_over() -> None:
    """Packets of other types are counted; items that grew at their end and authenticated packets
    are read.
    """
    books = BookSet()
    grown = packet(7, [(1, 2)], [(3, 4)], flags=SNAPSHOT | LAST | Flag.AUTH, item_size=24)
    assert not books.apply(
        packet(7, msg_type=MsgType.TRADE) + grown + packet(7, [(1, 9)], flags=LAST, seq=1)
    ).malformed
    assert books.at(0).levels() == ([(1, 9)], [(3, 4)])
    assert books.counters.other_types == 1


def test_views_are_read_only_and_without_copy() -> None:
    """Level views share the kernel's memory and cannot be written; copies are independent."""
    books = live()
    book, bids = books.at(0), books.at(0).bids(1)
    kept = book.copy()
    books.apply(event(7, [(100, 42)], seq=11))
    assert bids["quantity"].tolist() == [42]
    assert kept.bids.tolist() == [(100, 5), (99, 3)]
    assert kept.bids.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        bids["quantity"] = 1
    with pytest.raises(ValueError, match="read-only"):
        books.state["updates"] = 1


def test_top_of_several_books_and_state_columns() -> None:
    """`top` pads with UNDEFINED; `state` reads a field of many books at once."""
    books = live()
    books.apply(event(8, [], [(5, 1)], seq=3, flags=SNAPSHOT, price_exp=-2))
    bids, asks = books.top([1, 0], 2)
    assert bids.tolist() == [[(UNDEFINED, 0), (UNDEFINED, 0)], [(100, 5), (99, 3)]]
    assert asks.tolist() == [[(5, 1), (UNDEFINED, 0)], [(101, 4), (102, 6)]]
    assert books.state["price_exp"].tolist() == [0, -2]
    assert books.state["instrument_seq"].tolist() == [10, 3]
    with pytest.raises(IndexError):
        books.top([2], 1)


def test_a_lost_event_and_a_reset_wait_for_a_snapshot() -> None:
    """A book that lost an event keeps its levels, a reset one is empty; neither takes deltas."""
    books = live()
    books.apply(event(7, [(100, 2)], seq=12), check_seq=True)
    assert (books.at(0).state, books.at(0).best_bid) == (KernelState.SUSPECT, (100, 5))
    books.apply(event(7, [(100, 1)], seq=13))
    assert (books.at(0).state, books.at(0).best_bid) == (KernelState.SUSPECT, (100, 5))
    books.reset()
    books.apply(event(7, [(100, 1)], seq=14))
    assert (books.at(0).state, books.at(0).depth, books.counters.ignored) == (
        KernelState.EMPTY,
        (0, 0),
        2,
    )


def test_arguments_outside_the_buffer_are_refused() -> None:
    """`nbytes` beyond the buffer and negative sizes raise ValueError."""
    books = BookSet()
    for buffer in (b"ab", kept := bytearray(b"ab"), kept, memoryview(b"ab")):
        for nbytes in (-1, 3):
            with pytest.raises(ValueError, match="buffer of 2"):
                books.apply(buffer, nbytes)


_price = st.one_of(
    st.integers(-6, 12), st.sampled_from([MAX_MANTISSA, -MAX_MANTISSA, MAX_MANTISSA + 1, UNDEFINED])
)
_quantity = st.one_of(st.integers(0, 3), st.sampled_from([-1, 10**17, MAX_MANTISSA]))
_usual = st.tuples(st.integers(-6, 12), st.integers(0, 3))
_level = st.one_of(_usual, _usual, _usual, _usual, st.tuples(_price, _quantity))
_levels = st.lists(_level, max_size=6)
_exp = st.sampled_from([0, 0, 0, 0, -1, 1, 2, -3, 17, -128, 127])
_flags = st.sampled_from(
    [
        LAST,
        LAST,
        LAST | SNAPSHOT,
        LAST | CYCLE,
        SNAPSHOT,
        Flag(0),
        LAST | Flag.AUTH,
        LAST | Flag.CRITICAL,
    ]
)
_packets = st.lists(
    st.builds(
        packet,
        st.integers(0, 3),
        _levels,
        _levels,
        flags=_flags,
        seq=st.sampled_from([0, 1, 2, 3, 4, 2**32 - 1]),
        fragment=st.sampled_from([0, 0, 0, 1, 1, 2, 255]),
        price_exp=_exp,
        qty_exp=_exp,
        msg_type=st.sampled_from([MsgType.BOOK] * 9 + [MsgType.BBO]),
        item_size=st.sampled_from([16, 16, 16, 24, 8]),
    ),
    max_size=12,
)


@settings(max_examples=examples(400), deadline=None)
@given(
    buffers=st.lists(_packets, max_size=4),
    check_seq=st.booleans(),
    drop_old=st.booleans(),
    options=st.tuples(st.booleans(), st.booleans()),
)
def test_kernel_equals_reference_on_arbitrary_packets(
    buffers: list[list[bytes]], check_seq: bool, drop_old: bool, options: tuple[bool, bool]
) -> None:
    """Whatever the order of fragments, flags, sequences and exponents, both implementations
    agree in everything.
    """
    auto_add, delta_first = options
    books = BookSet(1, auto_add=auto_add, delta_first=delta_first)
    reference = ReferenceBookSet(auto_add=auto_add, delta_first=delta_first)
    for packets in buffers:
        apply_both(books, reference, b"".join(packets), check_seq, drop_old)


@pytest.mark.parametrize("seed", range(8))
def test_kernel_equals_reference_on_long_streams(seed: int) -> None:
    """Thousands of events of several instruments, fragmented, rescaled, with losses and repeats,
    give equal books.
    """
    rng = random.Random(seed)
    books, reference = BookSet(1), ReferenceBookSet()
    seqs = dict.fromkeys(range(1, 6), 0)
    for _ in range(60):
        parts: list[bytes] = []
        for _ in range(rng.randrange(1, 12)):
            instrument = rng.randrange(1, 6)
            whole = rng.random() < 0.1
            seqs[instrument] += 1
            span = rng.choice([10, 300, 5000])
            bids, asks = (
                [
                    (centre + rng.randrange(span), rng.randrange(4))
                    for _ in range(rng.choice([0, 3, 30, 400]))
                ]
                for centre in (0, span)
            )
            exps = (rng.choice([0, 0, 0, 1, -1]), rng.choice([0, 0, 0, 2, -2]))
            flags = SNAPSHOT if whole else Flag(0)
            parts += event(
                instrument,
                bids,
                asks,
                seq=seqs[instrument],
                flags=flags,
                price_exp=exps[0],
                qty_exp=exps[1],
                split=True,
            )
        if rng.random() < 0.3:
            parts.insert(rng.randrange(len(parts)), parts.pop(rng.randrange(len(parts))))
        if rng.random() < 0.3:
            parts.pop(rng.randrange(len(parts)))
        apply_both(books, reference, b"".join(parts), rng.random() < 0.5, rng.random() < 0.5)


@settings(max_examples=examples(200), deadline=None)
@given(
    packets=_packets,
    noise=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
    tail=st.binary(max_size=80),
)
def test_kernel_equals_reference_on_damaged_bytes(
    packets: list[bytes], noise: list[tuple[int, int]], tail: bytes
) -> None:
    """Flipped bytes, truncation and garbage are survived and read the same way by both."""
    data = bytearray(b"".join(packets) + tail)
    for position, value in noise:
        if data:
            data[position % len(data)] = value
    apply_both(BookSet(1), ReferenceBookSet(), bytes(data), False, False)
