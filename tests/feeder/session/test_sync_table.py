"""The states of a book are one table: the page shows it, the machine runs it, and every line of it
is reached by what a session calls.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tapecast.feeder.session import sync as module
from tapecast.feeder.session.sync import (
    NO_ID,
    BookSync,
    SequenceRule,
    SnapshotSource,
    SyncPolicy,
    UpdateVerdict,
)
from tapecast.feeder.session.sync_table import (
    STATES,
    TRANSITIONS,
    Effect,
    Step,
    SyncEvent,
    as_markdown,
)
from tapecast.protocol.schema import StatusReason, StatusState

PAGE = Path(__file__).parents[3] / "docs" / "book-states.md"
SECOND = 1_000_000_000
KINDS = [
    (SequenceRule.SPOT, SnapshotSource.REST),
    (SequenceRule.PREV, SnapshotSource.REST),
    (SequenceRule.NEXT, SnapshotSource.STREAM),
    (SequenceRule.LINKED, SnapshotSource.STREAM_OR_REST),
    (SequenceRule.FULL, SnapshotSource.STREAM),
]


class Seen(dict[tuple[StatusState, SyncEvent], Step]):
    """The table, with the lines that were looked up."""

    def __init__(self) -> None:
        super().__init__(TRANSITIONS)
        self.lines: set[tuple[StatusState, SyncEvent]] = set()

    def get(self, key: object, default: object = None) -> Step | None:  # type: ignore[override]
        """Note the line."""
        step = super().get(key)  # type: ignore[call-overload]
        if step is not None:
            self.lines.add(key)  # type: ignore[arg-type]
        return step


def walk(sync: BookSync, rule: SequenceRule, rng: random.Random, steps: int) -> None:
    """Call what a session calls, in any order, with ids that join now and then."""
    now = 0
    for _ in range(steps):
        now += rng.choice((0, SECOND, 20 * SECOND))
        last = rng.randrange(1, 40)
        call = rng.randrange(10)
        if call == 0:
            sync.subscribed(now)
        elif call == 1 and rule is SequenceRule.FULL:
            sync.on_full(now)
        elif call == 1:
            sync.on_stream_snapshot(last)
        elif call in (2, 3):
            first, prev = last - 1, last - 2
            verdict = sync.on_delta(first, last, prev, now)
            if verdict is UpdateVerdict.GAP:
                sync.resync(StatusReason.GAP, now)
            if verdict in (UpdateVerdict.GAP, UpdateVerdict.BUFFER):
                sync.keep(first, last, prev, b"", now)
        elif call == 4:
            sync.on_rest_snapshot(last, now)
        elif call == 5:
            sync.fetch_failed(now)
        elif call == 6:
            sync.resync(StatusReason.CROSSED, now)
        elif call == 7:
            sync.disconnected()
        else:
            sync.requests(now)
            if sync.quiet_expired:
                sync.publish_held()
        assert sync.state in STATES
        assert (sync.held_id is not None) == (sync.state is StatusState.SYNCING)


def test_the_page_shows_the_table_that_runs() -> None:
    """docs/book-states.md holds `as_markdown()` word for word."""
    assert as_markdown() in PAGE.read_text()


def test_every_line_of_the_table_is_reached_by_what_a_session_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No line is dead: random calls over all kinds of books look every one of them up."""
    seen = Seen()
    monkeypatch.setattr(module, "TRANSITIONS", seen)
    for seed in range(300):
        rng = random.Random(seed)
        for rule, source in KINDS:
            walk(BookSync(rule, source, SyncPolicy()), rule, rng, 60)
    assert set(TRANSITIONS) - seen.lines == set()


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
@pytest.mark.parametrize("event", SyncEvent, ids=lambda event: event.name)
def test_an_event_leads_where_the_table_says(state: StatusState, event: SyncEvent) -> None:
    """Every pair of state and event: the next state of the table, and the same state where there
    is no line.
    """
    sync = BookSync(SequenceRule.SPOT, SnapshotSource.REST, SyncPolicy())
    sync.state = state
    sync._enter(event, SECOND, 7)
    step = TRANSITIONS.get((state, event))
    assert sync.state is (state if step is None else step.state)
    effects = () if step is None else step.effects
    if Effect.GO_LIVE in effects:
        assert (sync.last_id, sync.deadline_ns) == (7, None)
    if Effect.FORGET_IDS in effects:
        assert sync.last_id == NO_ID
    if Effect.PLAN_RETRY in effects:
        assert sync.deadline_ns is not None
    if Effect.HOLD_SNAPSHOT in effects:
        assert sync.held_id == 7


def test_every_state_knows_how_a_book_is_lost_and_begun() -> None:
    """Whatever the state: a whole book makes it LIVE, a loss waits for a snapshot, a lost
    connection forgets it.
    """
    for state in STATES:
        assert TRANSITIONS[state, SyncEvent.WHOLE_BOOK].state is StatusState.LIVE
        assert TRANSITIONS[state, SyncEvent.LOST].state is StatusState.WAIT_SNAPSHOT
        assert TRANSITIONS[state, SyncEvent.DISCONNECTED].state is StatusState.IDLE
