"""Whatever a connection does to a stream: what the machine applies is an unbroken chain, and it
recovers when the losses end.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.feeder.session.sync import (
    BookSync,
    SequenceRule,
    SnapshotSource,
    SnapshotVerdict,
    SyncPolicy,
    SyncRequest,
    UpdateVerdict,
)
from tapecast.protocol.schema import StatusReason
from tests.support.feeder_chain import Stream, Update

SECOND = 1_000_000_000
SOURCES = {
    SequenceRule.SPOT: SnapshotSource.REST,
    SequenceRule.PREV: SnapshotSource.REST,
    SequenceRule.LINKED: SnapshotSource.STREAM_OR_REST,
}


class World:
    """A venue, a connection that loses, repeats and reorders, a late snapshot service, and a
    session's use of the machine.
    """

    def __init__(
        self, chain: SequenceRule, seed: int, *, stream_snapshots: bool, buffer_updates: int = 50
    ) -> None:
        self.rng = random.Random(seed)
        self.stream = Stream(chain, self.rng)
        policy = SyncPolicy(buffer_updates=buffer_updates)
        self.sync = BookSync(chain, SOURCES[chain], policy, self.rng.random())
        self.stream_snapshots = stream_snapshots and chain is SequenceRule.LINKED
        self.now = 0
        self.late: list[tuple[int, int]] = []
        self.subscriptions: list[int] = []
        self.held: int | None = None
        self.applied: list[int] = []
        self.base: int | None = None
        self.delayed: list[Update] = []
        self.sync.subscribed(0)

    def restart(self, snapshot: int) -> None:
        """Note that a snapshot was published: the chain starts from it."""
        self.base, self.applied = snapshot, []

    def apply(self, update: int) -> None:
        """Note that an update was published, and judge it."""
        assert self.base is not None
        if self.applied:
            assert self.stream.follows(self.applied[-1], update), (self.applied[-1], update)
        else:
            assert update in self.stream.joins(self.base), (self.base, update)
        self.applied.append(update)

    def deliver(self, update: Update) -> None:
        """Hand an update to the machine as the session does."""
        sync = self.sync
        packets = update.number.to_bytes(4, "little")
        verdict = sync.on_delta(update.first, update.last, update.prev, self.now)
        if verdict is UpdateVerdict.APPLY:
            assert sync.live
            self.apply(update.number)
        elif verdict is UpdateVerdict.JOIN:
            assert self.held is not None
            self.restart(self.held)
            self.apply(update.number)
        elif verdict in (UpdateVerdict.BUFFER, UpdateVerdict.GAP):
            if verdict is UpdateVerdict.GAP:
                assert sync.expected != sync.got
                sync.resync(StatusReason.GAP, self.now)
            sync.keep(update.first, update.last, update.prev, packets, self.now)

    def answer(self, snapshot: int) -> None:
        """Hand a REST snapshot to the machine as the session does."""
        verdict = self.sync.on_rest_snapshot(snapshot, self.now)
        if verdict is SnapshotVerdict.HOLD:
            self.held = snapshot
        elif verdict is SnapshotVerdict.APPLY:
            self.restart(snapshot)
            updates, gap = self.sync.replay()
            for kept in updates:
                self.apply(int.from_bytes(kept.packets, "little"))
            if gap:
                self.sync.resync(StatusReason.GAP, self.now)

    def serve(self, fail: float) -> None:
        """Let the machine ask, and the venue answer what is due."""
        sync = self.sync
        request = sync.requests(self.now)
        if request is SyncRequest.FETCH:
            if self.rng.random() < fail:
                if self.rng.random() < 0.5:
                    sync.fetch_failed(self.now)
            else:
                age = self.stream.snapshot()
                self.late.append((self.now + self.rng.randrange(2 * SECOND), age))
        elif (
            request is SyncRequest.RESUBSCRIBE
            and self.stream_snapshots
            and self.rng.random() >= fail
        ):
            self.subscriptions.append(self.now + SECOND // 10)
        for item in [item for item in self.late if item[0] <= self.now]:
            self.late.remove(item)
            self.answer(item[1])
        if self.subscriptions and self.subscriptions[0] <= self.now:
            self.subscriptions.pop(0)
            snapshot = self.stream.snapshot()
            self.sync.on_stream_snapshot(snapshot)
            self.restart(snapshot)
        if sync.quiet_expired:
            assert self.held is not None
            self.restart(self.held)
            sync.publish_held()

    def step(self, loss: float, noise: float) -> None:
        """Let 50 ms pass, in which the venue mostly sends one update."""
        rng = self.rng
        self.now += SECOND // 20
        if rng.random() < 0.9:
            update = self.stream.next()
            chance = rng.random()
            if chance < loss:
                pass
            elif chance < loss + noise:
                self.delayed.append(update)
            else:
                self.deliver(update)
                if rng.random() < noise:
                    self.deliver(update)
        if self.delayed and rng.random() < 0.5:
            self.deliver(self.delayed.pop(rng.randrange(len(self.delayed))))
        self.serve(loss)


@pytest.mark.parametrize("chain", list(SOURCES), ids=lambda chain: chain.value)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from((0.0, 0.01, 0.1, 0.3)),
    noise=st.sampled_from((0.0, 0.02, 0.2)),
    stream_snapshots=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_applied_updates_are_an_unbroken_chain_and_recovery_follows_loss(
    chain: SequenceRule, seed: int, loss: float, noise: float, stream_snapshots: bool
) -> None:
    """Each applied update is the one that the venue sent after the last one; a clean stream is
    LIVE again, for good.
    """
    world = World(chain, seed, stream_snapshots=stream_snapshots)
    for _ in range(300):
        world.step(loss, noise)
    world.delayed.clear()
    for _ in range(20 * 40):
        world.step(0.0, 0.0)
        if world.now > 10**12:
            break
    if not world.sync.live:
        # The budget of fast tries may be used up: then the slow ones must do it.
        for _ in range(20 * 900):
            world.step(0.0, 0.0)
            if world.sync.live:
                break
    assert world.sync.live
    for _ in range(50):
        world.step(0.0, 0.0)
        assert world.sync.live
    assert world.applied[-1] == len(world.stream.updates) - 1
    assert world.applied[-30:] == list(range(world.applied[-1] - 29, world.applied[-1] + 1))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_disconnections_at_any_moment_never_join_two_connections(seed: int) -> None:
    """Updates before and after a lost connection are never one chain, even when a snapshot was
    on its way.
    """
    world = World(SequenceRule.SPOT, seed, stream_snapshots=False)
    for _ in range(400):
        if world.rng.random() < 0.02:
            world.sync.disconnected()
            world.base = None
            for _ in range(world.rng.randrange(20)):
                world.stream.next()
                world.now += SECOND // 20
                world.serve(0.2)
            world.sync.subscribed(world.now)
        world.step(0.0, 0.0)


@given(seed=st.integers(0, 2**32), bound=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_buffer_never_grows_past_its_bound(seed: int, bound: int) -> None:
    """However long the snapshot takes, no more updates are held than allowed, and those that are
    held are the newest.
    """
    world = World(SequenceRule.PREV, seed, stream_snapshots=False, buffer_updates=bound)
    for _ in range(200):
        world.now += SECOND // 20
        world.deliver(world.stream.next())
        world.sync.requests(world.now)
        assert len(world.sync._buffer) <= bound
        assert world.sync._buffer_bytes == 4 * len(world.sync._buffer)
        assert world.sync._buffer[-1].last == world.stream.updates[-1].last
