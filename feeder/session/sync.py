"""The one book-rule machine: whether a book update may be published, must wait, or shows that
something was lost.

One `BookSync` per instrument. It is fed update ids and times and answers with verdicts and
requests; it holds no prices, performs no I/O, reads no clock and knows no venue: the rules
differ by `SequenceRule` and `SnapshotSource` only. The evidence for each venue's choice stands
in `docs/venues/`. Every waiting state has a deadline, and recovery never gives up.

The states are the table of `feeder.session.sync_table`, which is also `docs/book-states.md`: here
stands what decides an event, and what an effect does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from tapecast.feeder.session.sync_table import TRANSITIONS, Effect, SyncEvent
from tapecast.feeder.session.sync_types import (
    NO_ID,
    Buffered,
    SequenceRule,
    SnapshotSource,
    SnapshotVerdict,
    SyncPolicy,
    SyncRequest,
    UpdateVerdict,
)
from tapecast.protocol.schema import StatusReason, StatusState
from tapecast.protocol.units import NS_PER_S

__all__ = [
    "NO_ID",
    "BookSync",
    "Buffered",
    "SequenceRule",
    "SnapshotSource",
    "SnapshotVerdict",
    "SyncPolicy",
    "SyncRequest",
    "UpdateVerdict",
]

# Looked up for every update: a member of an enumeration costs several times what a name of the
# module does.
_LIVE, _APPLY, _SPOT, _PREV, _NEXT = (
    StatusState.LIVE,
    UpdateVerdict.APPLY,
    SequenceRule.SPOT,
    SequenceRule.PREV,
    SequenceRule.NEXT,
)


class BookSync:
    """The synchronisation of one book.

    `jitter` (0 to 1) spreads the retries of different instruments; it is an argument so that the
    machine stays deterministic.
    """

    __slots__ = (
        "_attempts",
        "_backward",
        "_buffer",
        "_buffer_bytes",
        "_crossed_base",
        "_crossed_before",
        "_crossed_since",
        "_fetching",
        "_jitter",
        "_joining",
        "_last_ts",
        "_next_try",
        "_policy",
        "_prev_id",
        "_rest_mode",
        "_sequence_rule",
        "_slow_ns",
        "_source",
        "_subscribed",
        "deadline_ns",
        "ever_live",
        "expected",
        "got",
        "held_id",
        "last_id",
        "reason",
        "state",
    )

    def __init__(
        self, chain: SequenceRule, source: SnapshotSource, policy: SyncPolicy, jitter: float = 0.0
    ) -> None:
        self._sequence_rule = chain
        self._source = source
        self._policy = policy
        self._jitter = jitter
        self._buffer: deque[Buffered] = deque()
        self._buffer_bytes = 0
        self._attempts: deque[int] = deque()
        self._slow_ns = 0
        self._next_try: int | None = None
        self._fetching = False
        self._joining = False
        self._subscribed = False
        self._prev_id = NO_ID
        self._last_ts = 0
        self._backward = 0
        self._rest_mode = source is SnapshotSource.REST
        self._crossed_since = 0
        self._crossed_before = -1
        self._crossed_base: int | None = 0
        self.state = StatusState.IDLE
        self.reason = StatusReason.NONE
        self.deadline_ns: int | None = None
        self.last_id = NO_ID
        self.held_id: int | None = None
        self.expected = 0
        self.got = 0
        self.ever_live = False

    @property
    def live(self) -> bool:
        """Whether updates are being published."""
        return self.state is StatusState.LIVE

    def subscribed(self, now_ns: int) -> None:
        """Note that the venue accepted (or was sent) the subscription: the waiting clock starts."""
        self._subscribed = True
        # A snapshot held for an earlier subscription goes: what happened since is not known.
        self._enter(SyncEvent.SUBSCRIBED, now_ns)

    def on_delta(self, first: int, last: int, prev: int, now_ns: int) -> UpdateVerdict:
        """Judge an update by its ids. After BUFFER call `keep`; after GAP read `expected` and
        `got` and call `resync`.
        """
        if self.state is _LIVE:
            if self._joining:
                return self._join(first, last, prev)
            return self._follow(first, last, prev)
        if self.held_id is not None:
            held = self.held_id
            if prev != held and self._covered(held, last):
                return UpdateVerdict.IGNORE
            if self._joins(held, first, last, prev):
                self._enter(SyncEvent.PROVED, now_ns, held)
                self.last_id, self._prev_id = last, prev
                return UpdateVerdict.JOIN
            self._enter(SyncEvent.DISPROVED, now_ns)
        self._enter(SyncEvent.UPDATE, now_ns)
        return (
            UpdateVerdict.BUFFER
            if self._rest_mode or self._source is SnapshotSource.STREAM_OR_REST
            else UpdateVerdict.IGNORE
        )

    def continues(self, first: int, last: int, prev: int) -> bool:
        """Whether an update is the next one of this LIVE book; changes nothing."""
        if self.state is not _LIVE or self._joining:
            return False
        if self._sequence_rule is _SPOT:
            return first <= self.last_id + 1 <= last
        return last == self.last_id + 1 if self._sequence_rule is _NEXT else prev == self.last_id

    @property
    def has_data(self) -> bool:
        """Whether the subscription has brought anything: a LIVE book, or updates that wait for
        one.
        """
        return self.state is _LIVE or bool(self._buffer)

    def on_full(self, ts_ns: int) -> UpdateVerdict:
        """Judge a message that is the whole book: applied unless its time lies before the
        current one's.

        A single wrong time in the future must not end the book, so time may go back when message
        after message says so. Without a time (0) a message is as new as its arrival, and the
        current time stays.
        """
        if ts_ns:
            if (
                self.state is StatusState.LIVE
                and ts_ns < self._last_ts
                and self._backward < self._policy.backward_messages
            ):
                self._backward += 1
                return UpdateVerdict.IGNORE
            self._last_ts = ts_ns
            self._backward = 0
        if self.state is not StatusState.LIVE:
            self._enter(SyncEvent.WHOLE_BOOK)
        return UpdateVerdict.APPLY

    def on_stream_snapshot(self, last: int) -> None:
        """Take a snapshot that came in the stream: it replaces everything."""
        self._enter(SyncEvent.WHOLE_BOOK, last=last)

    def on_rest_snapshot(self, last: int, now_ns: int) -> SnapshotVerdict:
        """Judge a fetched snapshot. After APPLY publish it, then what `replay` returns."""
        self._fetching = False
        if (
            self.state is StatusState.LIVE
            or self.held_id is not None
            or self._source is SnapshotSource.STREAM
        ):
            return SnapshotVerdict.UNREQUESTED
        self._drop_covered(last)
        if self._buffer:
            head = self._buffer[0]
            if not self._joins(last, head.first, head.last, head.prev):
                self.reason = StatusReason.STALE_SNAPSHOT
                self._enter(SyncEvent.SNAPSHOT_OLD, now_ns)
                return SnapshotVerdict.TOO_OLD
        elif not self._joining:
            self._enter(SyncEvent.SNAPSHOT_UNPROVED, now_ns, last)
            return SnapshotVerdict.HOLD
        self._enter(SyncEvent.SNAPSHOT_JOINED, now_ns, last)
        return SnapshotVerdict.APPLY

    def replay(self) -> tuple[list[Buffered], bool]:
        """Return the kept updates that continue the snapshot, in order, and whether a gap ended
        them (then call `resync`).
        """
        out: list[Buffered] = []
        gap = False
        while self._buffer:
            update = self._drop_first()
            step = self._join if self._joining else self._follow
            verdict = step(update.first, update.last, update.prev)
            if verdict is UpdateVerdict.APPLY:
                out.append(update)
            elif verdict is UpdateVerdict.GAP:
                self._push(update, first=True)
                gap = True
                break
        return out, gap

    def keep(self, first: int, last: int, prev: int, packets: bytes, now_ns: int) -> bool:
        """Keep an update that waits for a snapshot. False: the buffer was full, and the oldest
        had to go.

        A snapshot older than what is left is then fetched again. Retries that are planned stay
        planned: a buffer that fills while they wait must not put them off.
        """
        policy = self._policy
        self._push(Buffered(first, last, prev, packets))
        fits = True
        while len(self._buffer) > policy.buffer_updates or (
            self._buffer_bytes > policy.buffer_bytes and len(self._buffer) > 1
        ):
            self._drop_first()
            self.reason = StatusReason.OVERFLOW
            fits = False
        return fits

    def resync(self, reason: StatusReason, now_ns: int) -> None:
        """Give the book up and start over; updates are buffered from here on."""
        self.reason = reason
        self._enter(SyncEvent.LOST, now_ns)

    def disconnected(self) -> bool:
        """Forget everything of a lost connection. True if the book was LIVE."""
        was_live = self.live
        self.reason = StatusReason.DISCONNECTED
        self._enter(SyncEvent.DISCONNECTED)
        return was_live

    def on_crossed(self, consecutive: int, before: int, now_ns: int) -> bool:
        """Note that the book is crossed after an event. True: it has been for too long, call
        `resync`.

        `consecutive` crossed events are the present run; `before` is how many there ever were
        before it, which tells runs apart.
        """
        if before != self._crossed_before:
            self._crossed_before, self._crossed_since, self._crossed_base = before, now_ns, 0
        elif self._crossed_base is None:
            self._crossed_since, self._crossed_base = now_ns, consecutive - 1
        run = consecutive - self._crossed_base
        return (
            run >= self._policy.crossed_events
            or now_ns - self._crossed_since > self._policy.crossed_ns
        )

    def requests(self, now_ns: int) -> SyncRequest | None:
        """Return what is needed now, once per need; call after every input and when
        `deadline_ns` has passed.
        """
        if self._sequence_rule is SequenceRule.FULL:
            self.deadline_ns = (
                None  # the next message is the whole book: there is nothing to ask for
            )
            return None
        if self.state is StatusState.LIVE or self.state is StatusState.IDLE:
            return None
        if self.deadline_ns is not None and now_ns >= self.deadline_ns:
            self._on_deadline(now_ns)
        if self._fetching or self.state is not StatusState.WAIT_SNAPSHOT:
            return None
        if self._next_try is not None and now_ns < self._next_try:
            return None
        self._fetching = True
        self._next_try = None
        self._attempts.append(now_ns)
        by_stream = self._source is SnapshotSource.STREAM_OR_REST and not self._rest_mode
        self.deadline_ns = now_ns + (
            self._policy.stream_snapshot_wait_ns if by_stream else self._policy.snapshot_deadline_ns
        )
        return SyncRequest.FETCH if self._rest_mode else SyncRequest.RESUBSCRIBE

    def publish_held(self) -> None:
        """Go LIVE on a held snapshot although no update has come: the market is quiet, the
        subscription is older.
        """
        if self.held_id is not None:
            self._enter(SyncEvent.QUIET, last=self.held_id)

    def fetch_failed(self, now_ns: int) -> None:
        """Note that the snapshot request failed; the next one is planned."""
        self._enter(SyncEvent.FETCH_FAILED, now_ns)

    @property
    def quiet_expired(self) -> bool:
        """Whether a held snapshot has waited out its deadline (set by `requests`)."""
        return self.held_id is not None and self.deadline_ns is None and self._subscribed

    def _on_deadline(self, now_ns: int) -> None:
        self.deadline_ns = None
        if self._fetching:
            self.reason = StatusReason.TIMEOUT
            self._enter(SyncEvent.UNANSWERED, now_ns)
        else:
            self._enter(SyncEvent.SILENCE, now_ns)

    def _enter(self, event: SyncEvent, now_ns: int = 0, last: int = NO_ID) -> None:
        """Run the table: the next state, and the effects in their order. `last` is the id of a
        snapshot.
        """
        step = TRANSITIONS.get((self.state, event))
        if step is not None:
            self.state = step.state
            for effect in step.effects:
                _EFFECTS[effect](self, now_ns, last)

    # effects: each is called by `_enter` alone

    def _start_clock(self, now_ns: int, _: int) -> None:
        if self._sequence_rule is not SequenceRule.FULL:
            by_stream = self._source is SnapshotSource.STREAM_OR_REST
            policy = self._policy
            wait_ns = policy.stream_snapshot_wait_ns if by_stream else policy.quiet_wait_ns
            self.deadline_ns = now_ns + wait_ns

    def _choose_source(self, _: int, __: int) -> None:
        self._rest_mode = self._source is not SnapshotSource.STREAM

    def _fall_back(self, _: int, __: int) -> None:
        if self._source is SnapshotSource.STREAM_OR_REST:
            self._rest_mode = True

    def _take_stream(self, _: int, __: int) -> None:
        self._rest_mode = False

    def _await_snapshot(self, now_ns: int, _: int) -> None:
        self._next_try = None
        # The venue sends the snapshot by itself after a subscription: ask again only when it does
        # not come.
        self._fetching = not self._rest_mode
        if self._fetching:
            self.deadline_ns = now_ns + self._policy.snapshot_deadline_ns

    def _ask_now(self, _: int, __: int) -> None:
        self._next_try = None

    def _plan_retry(self, now_ns: int, _: int) -> None:
        self._fetching = False
        while self._attempts and now_ns - self._attempts[0] > self._policy.window_ns:
            self._attempts.popleft()
        spread = 0.5 + self._jitter / 2
        tried = len(self._attempts)
        if self._slow_ns == 0 and tried < self._policy.attempts:
            step = min(1 << (tried - 1), 16) * NS_PER_S // 4 if tried else 0
            self._next_try = now_ns + int(step * spread)
        else:
            self._slow_ns = min(
                2 * self._slow_ns or self._policy.retry_first_ns, self._policy.retry_cap_ns
            )
            self._next_try = now_ns + int(self._slow_ns * spread)
        self.deadline_ns = self._next_try

    def _hold_snapshot(self, now_ns: int, last: int) -> None:
        self.held_id = last
        self.deadline_ns = now_ns + self._policy.quiet_wait_ns if self._subscribed else None

    def _drop_held(self, _: int, __: int) -> None:
        self.held_id = None

    def _drop_kept(self, _: int, __: int) -> None:
        self._buffer.clear()
        self._buffer_bytes = 0

    def _forget_ids(self, _: int, __: int) -> None:
        self.last_id = self._prev_id = NO_ID
        self._joining = self._fetching = False
        self._crossed_base = None
        self._last_ts = 0

    def _forget_subscription(self, _: int, __: int) -> None:
        self._subscribed = False
        self._next_try = None
        self.deadline_ns = None

    def _go_live(self, _: int, last: int) -> None:
        self.reason = StatusReason.RESYNCED if self.ever_live else StatusReason.FIRST_SYNC
        self.ever_live = True
        self.deadline_ns = None
        self._next_try = None
        self._fetching = False
        self._joining = False
        # The attempts of the window stay: a book that is lost again and again must not ask
        # without limit.
        self._slow_ns = 0
        self.last_id, self._prev_id = last, NO_ID

    def _join_next(self, _: int, __: int) -> None:
        self._joining = True

    # ids

    def _follow(self, first: int, last: int, prev: int) -> UpdateVerdict:
        current = self.last_id
        chain = self._sequence_rule
        if chain is _SPOT:
            if last <= current:
                return UpdateVerdict.IGNORE
            if first > current + 1:
                return self._gap(current + 1, first)
        elif chain is _PREV:
            if prev != current:
                return UpdateVerdict.IGNORE if last <= current else self._gap(current, prev)
        elif chain is _NEXT:
            if last != current + 1:
                return UpdateVerdict.IGNORE if last == current else self._gap(current + 1, last)
        elif (
            prev != NO_ID and current != NO_ID and prev != current
        ):  # never where the venue gives no ids
            if last == current and prev == self._prev_id:
                return UpdateVerdict.IGNORE
            return self._gap(current, prev)
        self.last_id, self._prev_id = last, prev
        return _APPLY

    def _join(self, first: int, last: int, prev: int) -> UpdateVerdict:
        """Judge the first update after a REST snapshot, whose id lies inside the update's range."""
        current = self.last_id
        if prev != current and self._covered(current, last):
            return UpdateVerdict.IGNORE
        if not self._joins(current, first, last, prev):
            return self._gap(
                current + 1 if self._sequence_rule is SequenceRule.SPOT else current,
                first if self._sequence_rule is SequenceRule.SPOT else prev,
            )
        self._joining = False
        self.last_id, self._prev_id = last, prev
        return UpdateVerdict.APPLY

    def _gap(self, expected: int, got: int) -> UpdateVerdict:
        self.expected, self.got = expected, got
        return UpdateVerdict.GAP

    def _drop_covered(self, snapshot: int) -> None:
        """Drop the buffered updates that a snapshot includes."""
        covered = 0
        if self._sequence_rule is SequenceRule.LINKED:
            # Ids may fall after a maintenance; a link by equality holds whatever their order.
            covered = next(
                (n for n, update in enumerate(self._buffer, 1) if update.last == snapshot), 0
            )
        for _ in range(covered):
            self._drop_first()
            self._joining = True
        while (
            self._buffer
            and self._buffer[0].prev != snapshot
            and self._covered(snapshot, self._buffer[0].last)
        ):
            self._drop_first()
            self._joining = True

    def _covered(self, snapshot: int, last: int) -> bool:
        return last < snapshot if self._sequence_rule is SequenceRule.PREV else last <= snapshot

    def _joins(self, snapshot: int, first: int, last: int, prev: int) -> bool:
        if self._sequence_rule is SequenceRule.SPOT:
            return first <= snapshot + 1
        if self._sequence_rule is SequenceRule.PREV:
            return first <= snapshot <= last or prev == snapshot
        return prev == snapshot or prev <= snapshot < last

    def _push(self, update: Buffered, *, first: bool = False) -> None:
        if first:
            self._buffer.appendleft(update)
        else:
            self._buffer.append(update)
        self._buffer_bytes += len(update.packets)

    def _drop_first(self) -> Buffered:
        update = self._buffer.popleft()
        self._buffer_bytes -= len(update.packets)
        return update


_EFFECTS: Final[dict[Effect, Callable[[BookSync, int, int], None]]] = {
    effect: getattr(BookSync, f"_{effect.name.lower()}") for effect in Effect
}
