"""The states of a book as one table: (state, event) -> (next state, effects).

`feeder.session.sync` runs this table and nothing else changes a state; `docs/book-states.md` is
`as_markdown()` of it, and the tests enumerate it. A pair that is not in the table changes
nothing. What an event is decided by (ids, times, snapshots) is the machine's; what an effect does
is its method of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, NamedTuple

from tapecast.protocol.schema import StatusState

__all__ = ["STATES", "TRANSITIONS", "Effect", "Step", "SyncEvent", "as_markdown"]


class SyncEvent(Enum):
    """What happens to a book, once ids and times are judged."""

    SUBSCRIBED = "the subscription was sent, or accepted"
    UPDATE = "an update came, and nothing to apply it to"
    PROVED = "an update joins the held snapshot"
    DISPROVED = "an update does not join the held snapshot"
    WHOLE_BOOK = "a snapshot came in the stream, or a message that is the whole book"
    SNAPSHOT_JOINED = "a fetched snapshot joins what was kept"
    SNAPSHOT_UNPROVED = "a fetched snapshot came, and no update that could prove it"
    SNAPSHOT_OLD = "a fetched snapshot is older than what was kept"
    QUIET = "a held snapshot waited out its deadline without an update"
    FETCH_FAILED = "a request failed"
    SILENCE = "the deadline passed, and nothing was asked for"
    UNANSWERED = "the deadline passed, and what was asked for did not come"
    LOST = "the book was given up: gap, checksum, crossed, quarantine, exponent"
    DISCONNECTED = "the connection was lost"


class Effect(Enum):
    """What a transition does besides the state."""

    START_CLOCK = auto()
    """Wait for a first message, for as long as the source of snapshots has."""
    CHOOSE_SOURCE = auto()
    """Fetch by REST, unless snapshots come in the stream alone."""
    FALL_BACK = auto()
    """Fetch by REST where the stream may be slower than that."""
    TAKE_STREAM = auto()
    """The stream brings snapshots: ask there the next time."""
    AWAIT_SNAPSHOT = auto()
    """Ask for a snapshot at once; one that the stream sends by itself has a deadline instead."""
    ASK_NOW = auto()
    """Let the planned retry begin."""
    PLAN_RETRY = auto()
    """Ask again later: fast at first, then slowly, for ever."""
    HOLD_SNAPSHOT = auto()
    """Keep the snapshot until an update proves it, or the market has been quiet for long enough."""
    DROP_HELD = auto()
    """Forget the held snapshot."""
    DROP_KEPT = auto()
    """Forget the updates that were kept."""
    FORGET_IDS = auto()
    """Forget ids, times and what was asked for."""
    FORGET_SUBSCRIPTION = auto()
    """No deadline runs any more."""
    GO_LIVE = auto()
    """Updates are published from here on."""
    JOIN_NEXT = auto()
    """The next update has to join the snapshot, not to follow it."""


class Step(NamedTuple):
    """The answer to an event in a state."""

    state: StatusState
    effects: tuple[Effect, ...] = ()


_IDLE, _SUBSCRIBING, _WAIT, _SYNCING, _LIVE = STATES = (
    StatusState.IDLE,
    StatusState.SUBSCRIBING,
    StatusState.WAIT_SNAPSHOT,
    StatusState.SYNCING,
    StatusState.LIVE,
)
"""The states of the machine. SUSPECT, STALE and RESYNC are what a session publishes of a book."""

_E, _X = SyncEvent, Effect
_ASK = (_X.CHOOSE_SOURCE, _X.AWAIT_SNAPSHOT)
_WHOLE = (_X.TAKE_STREAM, _X.DROP_KEPT, _X.DROP_HELD, _X.GO_LIVE)
_JOINED = (_X.GO_LIVE, _X.JOIN_NEXT)
_LOST = (_X.DROP_HELD, _X.FORGET_IDS, _X.PLAN_RETRY)
_GONE = (_X.DROP_KEPT, _X.DROP_HELD, _X.FORGET_IDS, _X.FORGET_SUBSCRIPTION)

TRANSITIONS: Final[Mapping[tuple[StatusState, SyncEvent], Step]] = {
    (_IDLE, _E.SUBSCRIBED): Step(_SUBSCRIBING, (_X.START_CLOCK,)),
    (_IDLE, _E.UPDATE): Step(_WAIT, _ASK),
    (_IDLE, _E.WHOLE_BOOK): Step(_LIVE, _WHOLE),
    (_IDLE, _E.SNAPSHOT_UNPROVED): Step(_SYNCING, (_X.HOLD_SNAPSHOT,)),
    (_IDLE, _E.LOST): Step(_WAIT, _LOST),
    (_IDLE, _E.DISCONNECTED): Step(_IDLE, _GONE),
    (_SUBSCRIBING, _E.SUBSCRIBED): Step(_SUBSCRIBING, (_X.START_CLOCK,)),
    (_SUBSCRIBING, _E.UPDATE): Step(_WAIT, _ASK),
    (_SUBSCRIBING, _E.WHOLE_BOOK): Step(_LIVE, _WHOLE),
    (_SUBSCRIBING, _E.SNAPSHOT_UNPROVED): Step(_SYNCING, (_X.HOLD_SNAPSHOT,)),
    (_SUBSCRIBING, _E.SILENCE): Step(_WAIT, _ASK),
    (_SUBSCRIBING, _E.LOST): Step(_WAIT, _LOST),
    (_SUBSCRIBING, _E.DISCONNECTED): Step(_IDLE, _GONE),
    (_WAIT, _E.WHOLE_BOOK): Step(_LIVE, _WHOLE),
    (_WAIT, _E.SNAPSHOT_JOINED): Step(_LIVE, _JOINED),
    (_WAIT, _E.SNAPSHOT_UNPROVED): Step(_SYNCING, (_X.HOLD_SNAPSHOT,)),
    (_WAIT, _E.SNAPSHOT_OLD): Step(_WAIT, (_X.PLAN_RETRY,)),
    (_WAIT, _E.FETCH_FAILED): Step(_WAIT, (_X.PLAN_RETRY,)),
    (_WAIT, _E.SILENCE): Step(_WAIT, (_X.ASK_NOW,)),
    (_WAIT, _E.UNANSWERED): Step(_WAIT, (_X.FALL_BACK, _X.PLAN_RETRY)),
    (_WAIT, _E.LOST): Step(_WAIT, _LOST),
    (_WAIT, _E.DISCONNECTED): Step(_IDLE, _GONE),
    (_SYNCING, _E.SUBSCRIBED): Step(_SUBSCRIBING, (_X.DROP_HELD, _X.START_CLOCK)),
    (_SYNCING, _E.PROVED): Step(_LIVE, (_X.DROP_HELD, _X.GO_LIVE)),
    (_SYNCING, _E.DISPROVED): Step(_WAIT, (_X.DROP_HELD, _X.AWAIT_SNAPSHOT)),
    (_SYNCING, _E.WHOLE_BOOK): Step(_LIVE, _WHOLE),
    (_SYNCING, _E.QUIET): Step(_LIVE, (_X.DROP_HELD, _X.GO_LIVE, _X.JOIN_NEXT)),
    (_SYNCING, _E.LOST): Step(_WAIT, _LOST),
    (_SYNCING, _E.DISCONNECTED): Step(_IDLE, _GONE),
    (_LIVE, _E.WHOLE_BOOK): Step(_LIVE, _WHOLE),
    (_LIVE, _E.LOST): Step(_WAIT, _LOST),
    (_LIVE, _E.DISCONNECTED): Step(_IDLE, _GONE),
}


def as_markdown() -> str:
    """Return the table as it stands in the page."""
    lines = ["| state | event | next state | effects |", "|---|---|---|---|"]
    for (state, event), step in TRANSITIONS.items():
        effects = ", ".join(effect.name for effect in step.effects)
        lines.append(f"| {state.name} | {event.name} | {step.state.name} | {effects} |")
    lines += ["", "| event | means |", "|---|---|"]
    lines += [f"| {event.name} | {event.value} |" for event in SyncEvent]
    return "\n".join(lines) + "\n"
