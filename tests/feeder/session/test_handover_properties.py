"""Two connections of one book, losses on either, any order of arrival: what is applied is an
unbroken chain, or a gap is told.
"""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.feeder.extract.types import Result
from tapecast.feeder.session.handover import Handover, HandoverPolicy
from tapecast.feeder.session.sync import (
    BookSync,
    SequenceRule,
    SnapshotSource,
    SyncPolicy,
    UpdateVerdict,
)
from tapecast.feeder.session.types import SessionInstrument
from tapecast.protocol.schema import MsgType
from tests.support.feeder_chain import Stream, Update

OLD, NEW = "old", "new"


class Book:
    """One book of which two connections bring updates; keeps the numbers of those that were
    applied.
    """

    def __init__(self, chain: SequenceRule, start: int) -> None:
        """Begin LIVE at an id, on the old connection."""
        self.sequence_rule = chain
        self.sync = BookSync(chain, SnapshotSource.STREAM, SyncPolicy())
        self.sync.on_stream_snapshot(start)
        self.instrument = cast(
            SessionInstrument, SimpleNamespace(index=0, sync=self.sync, connection=OLD)
        )
        self.handover = Handover(OLD, NEW, HandoverPolicy())
        self.handover.subscribed(0)
        self.applied: list[int] = []
        self.gap = False

    def take(self, connection: str, update: Update) -> None:
        """Take an update as the session does."""
        result = cast(
            Result,
            SimpleNamespace(
                first_id=update.first, last_id=update.last, prev_id=update.prev, **_PLAIN
            ),
        )
        handover = self.handover
        if handover.finished_ns is not None:
            if handover.trails(self.instrument, result):
                return
        elif not handover.book(
            self.instrument, connection, result, self.sequence_rule, restart=False
        ):
            return
        verdict = self.sync.on_delta(update.first, update.last, update.prev, 0)
        if verdict is UpdateVerdict.APPLY:
            self.applied.append(update.number)
        elif verdict is UpdateVerdict.GAP:
            self.gap = True

    def end(self, stays: str) -> None:
        """Let one connection go on alone, as the session does."""
        moved = self.instrument.connection == NEW
        if stays == OLD and moved:
            self.gap = not self.handover.give_back(self.instrument)
        elif stays == NEW and not moved:
            self.gap = self.handover.behind(self.instrument)
        self.handover.finish(stays, 0)


_PLAIN: dict[str, Any] = {
    "msg_type": int(MsgType.BOOK),
    "ts_exchange_ns": 0,
    "instrument": 0,
    "snapshot": 0,
}


@pytest.mark.parametrize(
    "chain", [SequenceRule.SPOT, SequenceRule.PREV, SequenceRule.NEXT, SequenceRule.LINKED]
)
@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.0, 0.05, 0.3]),
    ends=st.sampled_from([OLD, NEW]),
)
def test_what_is_applied_follows_or_a_gap_is_told(
    chain: SequenceRule, seed: int, loss: float, ends: str
) -> None:
    """Whoever loses what, and whichever connection is left: no update is applied that does not
    follow the one before.

    Without loss everything is applied, unless the old connection ends before the new one has met
    it: then that is told.
    """
    rng = random.Random(seed)
    stream = Stream(chain, rng)
    start = stream.snapshot()
    updates = [stream.next() for _ in range(rng.randrange(10, 60))]
    begin = rng.randrange(len(updates) // 2)
    end = rng.randrange(begin, len(updates))
    book = Book(chain, start)
    heard = {OLD: updates, NEW: updates[begin:]}
    waiting = {
        name: [one for one in found if rng.random() >= loss] for name, found in heard.items()
    }
    bias = rng.random()
    while not book.gap and waiting[ends] and waiting[ends][0].number < end:
        name = OLD if rng.random() < bias else NEW
        if not waiting[name]:
            name = ends
        book.take(name, waiting[name].pop(0))
    stays = OLD if ends == NEW else NEW
    if not book.gap:
        book.end(stays)
    for update in waiting[stays]:
        if not book.gap:
            book.take(stays, update)
    previous = -1
    for number in book.applied:
        assert stream.follows(previous, number)
        previous = number
    if not loss and not book.gap:
        rest = updates[previous + 1 :]
        assert all(
            one.last == (updates[previous].last if previous >= 0 else start) for one in rest
        )  # empty updates at most
    if not loss and ends == NEW:
        assert not book.gap
