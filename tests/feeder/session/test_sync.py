"""The book-rule machine, one test a rule: Binance spot and USD-M, OKX, Upbit, and what all of
them share.

The rules are those of the venues' documentation (Binance `web-socket-streams` and its USD-M
counterpart, OKX docs-v5 and notices of 2026, Upbit). The update ids of tests named "as recorded"
are those of the recording that the test names.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from tapecast.feeder.session.sync import (
    NO_ID,
    BookSync,
    Buffered,
    SequenceRule,
    SnapshotSource,
    SnapshotVerdict,
    SyncPolicy,
    SyncRequest,
    UpdateVerdict,
)
from tapecast.protocol.schema import StatusReason, StatusState

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def spot(policy: SyncPolicy | None = None, jitter: float = 0.0) -> BookSync:
    """Return the machine of a Binance spot book."""
    return BookSync(SequenceRule.SPOT, SnapshotSource.REST, policy or SyncPolicy(), jitter)


def usdm(policy: SyncPolicy | None = None) -> BookSync:
    """Return the machine of a USD-M book."""
    return BookSync(SequenceRule.PREV, SnapshotSource.REST, policy or SyncPolicy())


def okx(policy: SyncPolicy | None = None) -> BookSync:
    """Return the machine of an OKX book."""
    return BookSync(SequenceRule.LINKED, SnapshotSource.STREAM_OR_REST, policy or SyncPolicy())


def upbit() -> BookSync:
    """Return the machine of an Upbit book."""
    return BookSync(SequenceRule.FULL, SnapshotSource.STREAM, SyncPolicy())


def buffer(sync: BookSync, *updates: tuple[int, int, int], now_ns: int = 0) -> None:
    """Offer (first, last, prev) updates, all of which must be kept."""
    for first, last, prev in updates:
        assert sync.on_delta(first, last, prev, now_ns) is UpdateVerdict.BUFFER
        assert sync.keep(first, last, prev, f"{first}-{last}".encode(), now_ns)


def ids(updates: list[Buffered]) -> list[tuple[int, int]]:
    """Return the ids of updates and check that each still has its own packets."""
    for update in updates:
        assert update.packets == f"{update.first}-{update.last}".encode()
    return [(update.first, update.last) for update in updates]


def spot_live(last: int = 100) -> BookSync:
    """Return a spot machine that is LIVE at `last`."""
    sync = spot()
    buffer(sync, (last, last + 1, NO_ID))
    assert sync.on_rest_snapshot(last, 0) is SnapshotVerdict.APPLY
    assert ids(sync.replay()[0]) == [(last, last + 1)]
    return sync


# Binance spot


def test_spot_snapshot_is_asked_for_only_after_the_first_update() -> None:
    """A snapshot fetched before anything is buffered loops: nothing is asked for while only
    subscribed.
    """
    sync = spot()
    sync.subscribed(0)
    assert sync.requests(0) is None
    buffer(sync, (10, 12, NO_ID))
    assert sync.requests(0) is SyncRequest.FETCH
    assert sync.requests(0) is None, "one need is asked for once"


def test_spot_join_as_recorded() -> None:
    """LRCBTC in cf_20211012_spot: an update, the snapshot, an update that it covers, and the
    first that holds its id + 1.
    """
    sync = spot()
    buffer(sync, (259345536, 259345539, NO_ID))
    assert sync.on_rest_snapshot(259345543, 0) is SnapshotVerdict.APPLY
    assert sync.replay() == ([], False)
    assert sync.live
    assert sync.reason is StatusReason.FIRST_SYNC
    assert sync.on_delta(259345540, 259345543, NO_ID, 0) is UpdateVerdict.IGNORE
    for first, last in (
        (259345544, 259345545),
        (259345546, 259345546),
        (259345547, 259345547),
        (259345548, 259345549),
    ):
        assert sync.on_delta(first, last, NO_ID, 0) is UpdateVerdict.APPLY
    assert sync.last_id == 259345549


@pytest.mark.parametrize(
    ("snapshot", "joined"), [(99, True), (100, True), (104, True), (98, False), (1, False)]
)
def test_spot_first_kept_update_must_hold_the_next_id(snapshot: int, joined: bool) -> None:
    """U <= L + 1 <= u joins; a snapshot that ends before U - 1 is too old."""
    sync = spot()
    buffer(sync, (100, 105, NO_ID))
    verdict = sync.on_rest_snapshot(snapshot, 0)
    assert verdict is (SnapshotVerdict.APPLY if joined else SnapshotVerdict.TOO_OLD)
    assert sync.live == joined


def test_spot_too_old_snapshot_is_fetched_again_and_the_buffer_kept() -> None:
    """L < first U: the fetch is repeated; a newer snapshot then joins the same updates."""
    sync = spot()
    buffer(sync, (100, 105, NO_ID))
    assert sync.requests(0) is SyncRequest.FETCH
    assert sync.on_rest_snapshot(50, SECOND) is SnapshotVerdict.TOO_OLD
    assert sync.reason is StatusReason.STALE_SNAPSHOT
    assert sync.deadline_ns is not None
    assert sync.requests(sync.deadline_ns) is SyncRequest.FETCH
    buffer(sync, (106, 107, NO_ID), now_ns=2 * SECOND)
    assert sync.on_rest_snapshot(104, 2 * SECOND) is SnapshotVerdict.APPLY
    assert ids(sync.replay()[0]) == [(100, 105), (106, 107)]


@pytest.mark.parametrize("update", [(102, 103), (95, 102), (90, 110)])
def test_spot_update_follows_where_it_holds_the_next_id(update: tuple[int, int]) -> None:
    """U <= id + 1 and u > id: applied; ranges may overlap what is known."""
    sync = spot_live()
    assert sync.on_delta(*update, NO_ID, 0) is UpdateVerdict.APPLY
    assert sync.last_id == update[1]


def test_spot_skip_is_a_gap() -> None:
    """U > id + 1: the missing id and what came instead are reported."""
    sync = spot_live()
    assert sync.on_delta(103, 104, NO_ID, 0) is UpdateVerdict.GAP
    assert (sync.expected, sync.got) == (102, 103)


@pytest.mark.parametrize("update", [(100, 101), (50, 60), (101, 101)])
def test_spot_repeated_and_old_updates_are_ignored(update: tuple[int, int]) -> None:
    """Nothing new in u <= id."""
    sync = spot_live()
    assert sync.on_delta(*update, NO_ID, 0) is UpdateVerdict.IGNORE
    assert sync.on_delta(102, 102, NO_ID, 0) is UpdateVerdict.APPLY


def test_gap_inside_the_buffer_ends_the_replay_and_keeps_the_rest_in_order() -> None:
    """What follows the gap waits for the next snapshot, in the order in which it came."""
    sync = okx()
    buffer(sync, (1, 10, 5), (1, 20, 10), (1, 40, 30), (1, 50, 40), (1, 60, 50))
    assert sync.on_rest_snapshot(7, 0) is SnapshotVerdict.APPLY
    updates, gap = sync.replay()
    assert ids(updates) == [(1, 10), (1, 20)]
    assert gap
    assert (sync.expected, sync.got) == (20, 30)
    sync.resync(StatusReason.GAP, 0)
    assert sync.on_rest_snapshot(35, 0) is SnapshotVerdict.APPLY
    updates, gap = sync.replay()
    assert ids(updates) == [(1, 40), (1, 50), (1, 60)]
    assert not gap


# what REST snapshots share


def test_snapshot_before_the_first_update_is_held_and_joined_by_it() -> None:
    """A recording may begin with the snapshot: the first update decides, and old ones decide
    nothing.
    """
    sync = spot()
    assert sync.on_rest_snapshot(100, 0) is SnapshotVerdict.HOLD
    assert not sync.live
    assert sync.on_delta(90, 95, NO_ID, 0) is UpdateVerdict.IGNORE
    assert sync.on_delta(96, 100, NO_ID, 0) is UpdateVerdict.IGNORE
    assert sync.on_delta(101, 103, NO_ID, 0) is UpdateVerdict.JOIN
    assert sync.live
    assert sync.last_id == 103
    assert sync.on_delta(104, 104, NO_ID, 0) is UpdateVerdict.APPLY


def test_held_snapshot_that_the_first_update_disproves_is_fetched_again() -> None:
    """The update begins behind the held snapshot: it is buffered and another snapshot asked for."""
    sync = spot()
    assert sync.on_rest_snapshot(100, 0) is SnapshotVerdict.HOLD
    buffer(sync, (105, 106, NO_ID))
    assert sync.held_id is None
    assert sync.requests(0) is SyncRequest.FETCH


def test_snapshot_that_covers_the_whole_buffer_goes_live_and_the_next_update_must_join() -> None:
    """Updates older than the snapshot prove that the subscription is; a hole behind it is still
    a gap.
    """
    for following, verdict in (
        ((121, 125), UpdateVerdict.APPLY),
        ((115, 120), UpdateVerdict.IGNORE),
        ((122, 125), UpdateVerdict.GAP),
    ):
        sync = spot()
        buffer(sync, (100, 105, NO_ID), (106, 110, NO_ID))
        assert sync.on_rest_snapshot(120, 0) is SnapshotVerdict.APPLY
        assert sync.replay() == ([], False)
        assert sync.live
        assert sync.on_delta(*following, NO_ID, 0) is verdict
    assert (sync.expected, sync.got) == (121, 122)


def test_snapshot_nobody_asked_for_does_not_touch_a_live_book() -> None:
    """An audit or a late answer must not be merged into, nor replace, a book that follows its
    chain.
    """
    sync = spot_live()
    assert sync.on_rest_snapshot(500, 0) is SnapshotVerdict.UNREQUESTED
    assert sync.live
    assert sync.on_delta(102, 102, NO_ID, 0) is UpdateVerdict.APPLY


@pytest.mark.parametrize(
    "policy", [SyncPolicy(buffer_updates=3), SyncPolicy(buffer_bytes=9)], ids=["count", "bytes"]
)
def test_full_buffer_loses_its_oldest_updates(policy: SyncPolicy) -> None:
    """Count and bytes are bounded, which is said; a snapshot older than what is left is fetched
    again, a newer one joins.
    """
    sync = spot(policy)
    buffer(sync, (1, 1, NO_ID), (2, 2, NO_ID), (3, 3, NO_ID))
    assert sync.requests(0) is SyncRequest.FETCH
    assert sync.on_delta(4, 4, NO_ID, 0) is UpdateVerdict.BUFFER
    assert not sync.keep(4, 4, NO_ID, b"4-4", 0)
    assert sync.reason is StatusReason.OVERFLOW
    assert sync.on_rest_snapshot(0, 0) is SnapshotVerdict.TOO_OLD
    assert sync.on_rest_snapshot(1, 0) is SnapshotVerdict.APPLY
    assert ids(sync.replay()[0]) == [(2, 2), (3, 3), (4, 4)]


def test_one_update_larger_than_the_buffer_is_kept_alone() -> None:
    """The bound is on what piles up; the newest update is always there to be joined."""
    sync = spot(SyncPolicy(buffer_bytes=2))
    assert sync.on_delta(1, 1, NO_ID, 0) is UpdateVerdict.BUFFER
    assert sync.keep(1, 1, NO_ID, b"1-1", 0)
    assert sync.on_rest_snapshot(0, 0) is SnapshotVerdict.APPLY
    assert ids(sync.replay()[0]) == [(1, 1)]


def test_overflow_does_not_put_off_a_planned_retry() -> None:
    """A busy book fills its buffer again and again within a slow wait: the snapshot is asked for
    all the same.
    """
    sync = spot(SyncPolicy(buffer_updates=10))
    buffer(sync, (1, 1, NO_ID))
    asked, now = 0, 0
    for last in range(2, 20_000):
        now += SECOND // 10
        assert sync.on_delta(last, last, NO_ID, now) is UpdateVerdict.BUFFER
        sync.keep(last, last, NO_ID, b"", now)
        if sync.requests(now) is SyncRequest.FETCH:
            asked += 1
            sync.fetch_failed(now)
    assert asked > 8 + 3


def test_quiet_market_goes_live_on_the_snapshot_alone() -> None:
    """No update for 5 s after the subscription: fetched; none for 5 s after that: published, and
    the next update must join.
    """
    sync = spot()
    sync.subscribed(0)
    assert sync.deadline_ns == 5 * SECOND
    assert sync.requests(5 * SECOND) is SyncRequest.FETCH
    assert sync.on_rest_snapshot(100, 6 * SECOND) is SnapshotVerdict.HOLD
    assert sync.requests(6 * SECOND) is None
    assert not sync.quiet_expired
    assert sync.requests(11 * SECOND) is None
    assert sync.quiet_expired
    sync.publish_held()
    assert sync.live
    assert sync.on_delta(102, 102, NO_ID, 12 * SECOND) is UpdateVerdict.GAP


def test_snapshot_that_arrives_after_the_connection_was_lost_never_goes_live_by_waiting() -> None:
    """Without a subscription older than the snapshot only an update can prove it, and a new
    subscription drops it.
    """
    sync = spot()
    sync.subscribed(0)
    assert sync.requests(5 * SECOND) is SyncRequest.FETCH
    assert not sync.disconnected()
    assert sync.on_rest_snapshot(100, 6 * SECOND) is SnapshotVerdict.HOLD
    sync.requests(60 * SECOND)
    assert not sync.quiet_expired
    sync.subscribed(61 * SECOND)
    assert sync.held_id is None
    assert sync.requests(66 * SECOND) is SyncRequest.FETCH


# Binance USD-M


def test_usdm_join_as_recorded() -> None:
    """CTKUSDT in cf_20210722_usdm: the first applied has U <= L <= u, here u = L, and ranges
    jump while pu = the last u.
    """
    sync = usdm()
    buffer(sync, (600859602414, 600859603788, 600859587990))
    assert sync.on_rest_snapshot(600859618836, 0) is SnapshotVerdict.APPLY
    for first, last, prev in (
        (600859604807, 600859605954, 600859603788),
        (600859606973, 600859607977, 600859605954),
        (600859608797, 600859610151, 600859607977),
        (600859615246, 600859616469, 600859610151),
    ):
        assert sync.on_delta(first, last, prev, 0) is UpdateVerdict.IGNORE
    for first, last, prev in (
        (600859617271, 600859618836, 600859616469),
        (600859623471, 600859623471, 600859618836),
        (600859631050, 600859632653, 600859623471),
    ):
        assert sync.on_delta(first, last, prev, 0) is UpdateVerdict.APPLY


@pytest.mark.parametrize(
    ("snapshot", "verdict"),
    [
        (99, SnapshotVerdict.TOO_OLD),
        (100, SnapshotVerdict.APPLY),
        (105, SnapshotVerdict.APPLY),
        (95, SnapshotVerdict.APPLY),
        (96, SnapshotVerdict.TOO_OLD),
        (94, SnapshotVerdict.TOO_OLD),
    ],
)
def test_usdm_first_update_spans_the_snapshot_or_names_it_as_its_predecessor(
    snapshot: int, verdict: SnapshotVerdict
) -> None:
    """U <= L <= u, or pu = L, which live streams also give."""
    sync = usdm()
    buffer(sync, (100, 105, 95))
    assert sync.on_rest_snapshot(snapshot, 0) is verdict


def test_usdm_update_that_ends_at_the_snapshot_is_applied() -> None:
    """Only u < L is dropped; u = L is in the snapshot already and does no harm."""
    sync = usdm()
    buffer(sync, (100, 105, 95), (110, 120, 105))
    assert sync.on_rest_snapshot(105, 0) is SnapshotVerdict.APPLY
    assert ids(sync.replay()[0]) == [(100, 105), (110, 120)]


def test_usdm_pu_must_equal_the_last_u() -> None:
    """Ranges say nothing once the chain runs: a pu that is not our u is a gap, an older update
    is ignored.
    """
    sync = usdm()
    buffer(sync, (100, 105, 95))
    assert sync.on_rest_snapshot(102, 0) is SnapshotVerdict.APPLY
    sync.replay()
    assert sync.on_delta(110, 120, 105, 0) is UpdateVerdict.APPLY
    assert sync.on_delta(110, 120, 105, 0) is UpdateVerdict.IGNORE
    assert sync.on_delta(100, 105, 95, 0) is UpdateVerdict.IGNORE
    assert sync.on_delta(121, 130, 119, 0) is UpdateVerdict.GAP
    assert (sync.expected, sync.got) == (120, 119)


# OKX


def okx_live(last: int = 100) -> BookSync:
    """Return an OKX machine that is LIVE by the stream's snapshot."""
    sync = okx()
    sync.subscribed(0)
    sync.on_stream_snapshot(last)
    assert sync.live
    return sync


def test_okx_stream_snapshot_starts_the_book_and_links_follow() -> None:
    """The link is prevSeqId = last seqId, whatever the jump: the first messages of
    fastmm_20260926, as recorded.
    """
    sync = okx_live(342177336945)
    for last, prev in (
        (342177337045, 342177336945),
        (342177337200, 342177337045),
        (342177337312, 342177337200),
    ):
        assert sync.on_delta(NO_ID, last, prev, 0) is UpdateVerdict.APPLY
    assert sync.requests(0) is None


def test_okx_smaller_seq_id_with_a_matching_link_is_accepted() -> None:
    """After a maintenance seqId may be smaller than prevSeqId; the link alone decides."""
    sync = okx_live(100)
    assert sync.on_delta(NO_ID, 7, 100, 0) is UpdateVerdict.APPLY
    assert sync.on_delta(NO_ID, 9, 7, 0) is UpdateVerdict.APPLY
    assert sync.last_id == 9


def test_okx_empty_update_is_accepted_and_changes_nothing() -> None:
    """After a quiet minute the venue sends prevSeqId = seqId without levels."""
    sync = okx_live(100)
    assert sync.on_delta(NO_ID, 100, 100, 0) is UpdateVerdict.APPLY
    assert sync.on_delta(NO_ID, 110, 100, 0) is UpdateVerdict.APPLY


def test_okx_repeated_update_is_ignored() -> None:
    """The same seqId with the same predecessor again."""
    sync = okx_live(100)
    assert sync.on_delta(NO_ID, 110, 100, 0) is UpdateVerdict.APPLY
    assert sync.on_delta(NO_ID, 110, 100, 0) is UpdateVerdict.IGNORE
    assert sync.on_delta(NO_ID, 111, 110, 0) is UpdateVerdict.APPLY


def test_okx_same_id_with_another_predecessor_is_a_gap() -> None:
    """That is no repetition: something between was lost."""
    sync = okx_live(100)
    assert sync.on_delta(NO_ID, 110, 100, 0) is UpdateVerdict.APPLY
    assert sync.on_delta(NO_ID, 110, 105, 0) is UpdateVerdict.GAP


@pytest.mark.parametrize(("last", "prev"), [(130, 120), (90, 80), (110, 90)])
def test_okx_skip_and_backwards_are_gaps(last: int, prev: int) -> None:
    """A link that does not match is a gap, ahead or behind."""
    sync = okx_live(100)
    assert sync.on_delta(NO_ID, last, prev, 0) is UpdateVerdict.GAP
    assert (sync.expected, sync.got) == (100, prev)


def test_okx_gap_asks_for_a_new_subscription_and_its_snapshot_heals() -> None:
    """Only an accepted snapshot is recovery."""
    sync = okx_live(100)
    assert sync.on_delta(NO_ID, 130, 120, 0) is UpdateVerdict.GAP
    sync.resync(StatusReason.GAP, 0)
    assert sync.requests(0) is SyncRequest.RESUBSCRIBE
    assert not sync.live
    sync.on_stream_snapshot(140)
    assert sync.live
    assert sync.reason is StatusReason.RESYNCED
    assert sync.on_delta(NO_ID, 141, 140, 0) is UpdateVerdict.APPLY


def test_okx_stream_snapshot_replaces_a_live_book() -> None:
    """The venue may send a snapshot at any time."""
    sync = okx_live(100)
    sync.on_stream_snapshot(500)
    assert sync.on_delta(NO_ID, 501, 500, 0) is UpdateVerdict.APPLY


def test_okx_silence_of_three_seconds_switches_to_rest() -> None:
    """No snapshot in the stream 3 s after the acknowledgement: the announced REST mode."""
    sync = okx()
    sync.subscribed(0)
    assert sync.requests(3 * SECOND - 1) is None
    assert sync.requests(3 * SECOND) is SyncRequest.FETCH


def test_okx_update_before_any_snapshot_switches_to_rest_at_once() -> None:
    """Updates are buffered; the REST snapshot joins where prevSeqId <= its seqId < seqId."""
    sync = okx()
    sync.subscribed(0)
    buffer(sync, (NO_ID, 110, 100), (NO_ID, 120, 110), (NO_ID, 130, 120))
    assert sync.requests(0) is SyncRequest.FETCH
    assert sync.on_rest_snapshot(115, 0) is SnapshotVerdict.APPLY
    assert [update.last for update in sync.replay()[0]] == [120, 130]


def test_okx_rest_snapshot_older_than_the_buffer_is_fetched_again() -> None:
    """Its seqId is below the prevSeqId of the earliest usable update."""
    sync = okx()
    buffer(sync, (NO_ID, 110, 100))
    assert sync.on_rest_snapshot(99, 0) is SnapshotVerdict.TOO_OLD
    assert sync.on_rest_snapshot(100, 0) is SnapshotVerdict.APPLY
    assert [update.last for update in sync.replay()[0]] == [110]


def test_okx_ids_that_fall_inside_the_buffer_do_not_block_the_join() -> None:
    """A maintenance between subscription and snapshot: the link by equality joins, although
    numbers are out of order.
    """
    updates = ((NO_ID, 1005, 1000), (NO_ID, 3, 1005), (NO_ID, 10, 3))
    for snapshot, replayed in ((3, [10]), (1005, [3, 10]), (10, [])):
        sync = okx()
        buffer(sync, *updates)
        assert sync.on_rest_snapshot(snapshot, 0) is SnapshotVerdict.APPLY
        replay, gap = sync.replay()
        assert [update.last for update in replay] == replayed
        assert not gap
        assert sync.on_delta(NO_ID, 12, 10, 0) is UpdateVerdict.APPLY


def test_okx_first_update_after_a_rest_snapshot_may_have_a_smaller_id() -> None:
    """Its predecessor is the snapshot itself: it must not be taken for an old one."""
    sync = okx()
    assert sync.on_rest_snapshot(100, 0) is SnapshotVerdict.HOLD
    assert sync.on_delta(NO_ID, 7, 100, 0) is UpdateVerdict.JOIN
    assert sync.on_delta(NO_ID, 9, 7, 0) is UpdateVerdict.APPLY


def test_okx_lost_resubscription_falls_back_to_rest() -> None:
    """The stream stays silent after a new subscription too: REST from then on."""
    sync = okx_live(100)
    sync.resync(StatusReason.GAP, 0)
    assert sync.requests(0) is SyncRequest.RESUBSCRIBE
    buffer(sync, (NO_ID, 130, 120))
    now = 3 * SECOND
    assert sync.deadline_ns == now
    request = sync.requests(now)
    while request is None:
        assert sync.deadline_ns is not None
        now = sync.deadline_ns
        request = sync.requests(now)
    assert request is SyncRequest.FETCH
    assert now < 5 * SECOND


def test_okx_updates_without_ids_are_taken_as_they_come() -> None:
    """Recordings of 2022 carry no ids: the checksum is their proof."""
    sync = okx_live(NO_ID)
    for _ in range(3):
        assert sync.on_delta(NO_ID, NO_ID, NO_ID, 0) is UpdateVerdict.APPLY


def test_stream_only_venue_ignores_updates_until_its_snapshot() -> None:
    """Nothing to buffer for: the stream's snapshot will hold them."""
    sync = BookSync(SequenceRule.LINKED, SnapshotSource.STREAM, SyncPolicy())
    sync.subscribed(0)
    assert sync.on_delta(NO_ID, 110, 100, 0) is UpdateVerdict.IGNORE
    assert sync.requests(10 * SECOND - 1) is None
    assert sync.requests(10 * SECOND) is SyncRequest.RESUBSCRIBE
    assert sync.on_rest_snapshot(5, 0) is SnapshotVerdict.UNREQUESTED


# Upbit


def test_upbit_every_message_is_the_book() -> None:
    """The first message makes it LIVE; equal times are applied, earlier ones left out."""
    sync = upbit()
    sync.subscribed(0)
    assert sync.on_full(1000) is UpdateVerdict.APPLY
    assert sync.live
    assert sync.on_full(1000) is UpdateVerdict.APPLY
    assert sync.on_full(999) is UpdateVerdict.IGNORE
    assert sync.on_full(1001) is UpdateVerdict.APPLY


def test_upbit_one_wrong_time_in_the_future_does_not_end_the_book() -> None:
    """A time of the year 2286 must not make every later message out of date for ever."""
    sync = upbit()
    assert sync.on_full(9_999_999_999_999) is UpdateVerdict.APPLY
    verdicts = [sync.on_full(1000 + n) for n in range(40)]
    assert verdicts.index(UpdateVerdict.APPLY) == SyncPolicy().backward_messages
    assert set(verdicts[SyncPolicy().backward_messages :]) == {UpdateVerdict.APPLY}


def test_upbit_has_no_deadline_that_nobody_can_meet() -> None:
    """Nothing can be asked for, so no timer runs; the next message heals whatever happened."""
    sync = upbit()
    sync.subscribed(0)
    assert sync.deadline_ns is None
    sync.on_full(5)
    sync.resync(StatusReason.CROSSED, 10)
    assert sync.requests(10) is None
    assert sync.deadline_ns is None
    assert sync.on_full(4) is UpdateVerdict.APPLY
    assert sync.reason is StatusReason.RESYNCED


def test_upbit_new_connection_may_start_at_an_earlier_time() -> None:
    """Times are compared within a connection."""
    sync = upbit()
    sync.on_full(1000)
    assert sync.disconnected()
    assert sync.on_full(900) is UpdateVerdict.APPLY


# recovery


def attempts(sync: BookSync, until_ns: int, failing: str = "timeout") -> list[int]:
    """Let every fetch fail until a time; return when each was asked for."""
    out: list[int] = []
    now = 0
    while now <= until_ns:
        if sync.requests(now) is SyncRequest.FETCH:
            out.append(now)
            if failing == "at once":
                sync.fetch_failed(now + 1)
        assert sync.deadline_ns is not None, "a waiting state without deadline"
        now = max(now + 1, sync.deadline_ns)
    return out


@pytest.mark.parametrize("failing", ["timeout", "at once"])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_eight_tries_then_one_to_fifteen_minutes_for_ever(failing: str, jitter: float) -> None:
    """At most 8 tries within 180 s, then waits that double from 1 to 15 min, each between half
    and all of it, never final.
    """
    sync = spot(jitter=jitter)
    buffer(sync, (1, 1, NO_ID))
    times = attempts(sync, 6 * 60 * MINUTE, failing)
    lost = 10 * SECOND if failing == "timeout" else 0
    waits = [later - earlier - lost for earlier, later in pairwise(times)]
    assert all(wait <= 4 * SECOND + 1 for wait in waits[:7])
    assert times[7] <= 180 * SECOND
    spread = 0.5 + jitter / 2
    expected = [min(MINUTE * 2**n, 15 * MINUTE) * spread for n in range(len(waits) - 7)]
    assert waits[7:] == pytest.approx(expected, abs=10)
    assert len(times) > 8 + 20


def test_success_ends_the_slow_retries() -> None:
    """After an accepted snapshot a later loss is answered at once again."""
    sync = spot()
    buffer(sync, (1, 1, NO_ID))
    end = attempts(sync, 60 * MINUTE)[-1]
    now = end + 1
    assert sync.on_rest_snapshot(1, now) is SnapshotVerdict.APPLY
    sync.resync(StatusReason.GAP, now + 10 * MINUTE)
    assert sync.requests(now + 10 * MINUTE) is SyncRequest.FETCH


def test_book_that_is_lost_again_and_again_keeps_to_the_budget() -> None:
    """A snapshot for every gap would be a burst of requests: synchronising does not refill the
    budget.
    """
    sync = spot()
    asked: list[int] = []
    now, last = 0, 0
    while now < 170 * SECOND:
        now += SECOND // 10
        last += 10
        if sync.live:
            assert sync.on_delta(last, last, NO_ID, now) is UpdateVerdict.GAP
            sync.resync(StatusReason.GAP, now)
        elif sync.on_delta(last, last, NO_ID, now) is UpdateVerdict.BUFFER:
            sync.keep(last, last, NO_ID, b"", now)
        if sync.requests(now) is SyncRequest.FETCH:
            asked.append(now)
            assert sync.on_rest_snapshot(last, now) is SnapshotVerdict.APPLY
            assert sync.live
    fast = [later for earlier, later in pairwise(asked) if later - earlier < 30 * SECOND]
    assert len(fast) <= 8
    assert len(asked) > 8, "and it never gives up"


def test_snapshot_that_never_comes_is_asked_for_again_after_its_deadline() -> None:
    """10 s without an answer count as a failed try, and say TIMEOUT."""
    sync = spot()
    buffer(sync, (1, 1, NO_ID))
    assert sync.requests(0) is SyncRequest.FETCH
    assert sync.deadline_ns == 10 * SECOND
    assert sync.requests(10 * SECOND - 1) is None
    sync.requests(10 * SECOND)
    assert sync.reason is StatusReason.TIMEOUT
    assert sync.deadline_ns is not None
    assert sync.deadline_ns <= 11 * SECOND
    assert sync.requests(sync.deadline_ns) is SyncRequest.FETCH


def test_late_snapshot_still_counts() -> None:
    """An answer after its deadline joins if it joins."""
    sync = spot()
    buffer(sync, (1, 1, NO_ID))
    assert sync.requests(0) is SyncRequest.FETCH
    sync.requests(10 * SECOND)
    assert sync.on_rest_snapshot(1, 10 * SECOND + 1) is SnapshotVerdict.APPLY
    assert sync.requests(30 * SECOND) is None


def test_lost_connection_forgets_the_book_and_its_buffer() -> None:
    """Nothing of a lost connection joins the next one."""
    sync = spot_live()
    assert sync.disconnected()
    assert not sync.disconnected(), "told once"
    assert sync.state is StatusState.IDLE
    assert sync.requests(100 * SECOND) is None
    sync.subscribed(101 * SECOND)
    buffer(sync, (102, 110, NO_ID), now_ns=101 * SECOND)
    assert sync.requests(101 * SECOND + 1) is SyncRequest.FETCH
    assert sync.on_rest_snapshot(105, 102 * SECOND) is SnapshotVerdict.APPLY
    assert ids(sync.replay()[0]) == [(102, 110)]


def test_lost_connection_while_buffering_drops_the_buffer() -> None:
    """Old updates must not be joined with new ones."""
    sync = spot()
    buffer(sync, (1, 5, NO_ID))
    assert not sync.disconnected()
    sync.subscribed(SECOND)
    buffer(sync, (20, 25, NO_ID), now_ns=SECOND)
    assert sync.on_rest_snapshot(3, SECOND) is SnapshotVerdict.TOO_OLD


# crossed books


def test_tenth_crossed_event_in_a_row_is_too_many() -> None:
    """Nine are tolerated."""
    sync = spot_live()
    assert [sync.on_crossed(run, 0, 0) for run in range(1, 11)] == [False] * 9 + [True]


def test_crossed_for_more_than_a_second_is_too_long() -> None:
    """By time, from the first event of the run."""
    sync = spot_live()
    assert not sync.on_crossed(1, 0, 5 * SECOND)
    assert not sync.on_crossed(2, 0, 6 * SECOND)
    assert sync.on_crossed(3, 0, 6 * SECOND + 1)


def test_new_crossing_has_its_own_second() -> None:
    """A run that was over does not count for the next, even if several events of that are seen
    at once.
    """
    sync = spot_live()
    assert not sync.on_crossed(1, 0, 0)
    assert not sync.on_crossed(3, 1, 100 * SECOND)
    assert sync.on_crossed(4, 1, 102 * SECOND)


def test_fresh_book_that_is_still_crossed_is_judged_anew() -> None:
    """A resynchronised book gets its own tolerance although the crossing goes on."""
    sync = spot_live()
    assert sync.on_crossed(10, 0, 0)
    sync.resync(StatusReason.CROSSED, 0)
    buffer(sync, (200, 201, NO_ID))
    assert sync.on_rest_snapshot(200, 0) is SnapshotVerdict.APPLY
    assert not sync.on_crossed(11, 0, 5 * SECOND)
    assert sync.on_crossed(20, 0, 5 * SECOND)
