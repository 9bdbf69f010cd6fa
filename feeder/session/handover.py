"""A connection replaced before it ends: both deliver for a while, and every event goes out once.

Sans-I/O, one `Handover` per replacement, asked by the session for each message while it lasts.
Books whose updates have ids are taken from whichever connection has the next one; what was
applied is known by its id. Books of deltas without ids change over at the new connection's
snapshot. Everything else, whole books too, is the old connection's until it closes; the new
one's are kept, and those that the old one brought are left out (`remaining`). Decision record
0006.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from tapecast.feeder.extract.types import Result
from tapecast.feeder.session.fingerprints import fingerprints, remaining, take
from tapecast.feeder.session.sync import NO_ID, SequenceRule
from tapecast.feeder.session.types import SessionInstrument
from tapecast.protocol.schema import MsgType
from tapecast.protocol.units import NS_PER_S

__all__ = ["Handover", "HandoverPolicy", "Held", "Outcome"]

_HELD_MESSAGES = 100_000
_HELD_BYTES = 64 << 20
_TRAILING_NS = 10 * NS_PER_S
"""The new connection may be so far behind the old one."""
_BY_RANGE = (SequenceRule.SPOT, SequenceRule.PREV)


class Outcome(Enum):
    """What is to become of a replacement."""

    WAIT = "wait"
    SWITCH = "switch"
    """The new connection brings everything: close the old one."""
    ABANDON = "abandon"
    """The new connection brings nothing: keep the old one."""


@dataclass(frozen=True, slots=True)
class HandoverPolicy:
    """Times of a replacement."""

    linger_ns: int = NS_PER_S
    """Both stay open for at least so long after the new one has subscribed: what is under way on
    the old one arrives.
    """
    patience_ns: int = 30 * NS_PER_S
    """Books that have not moved by then are quiet, or the new connection is useless."""


class Held(NamedTuple):
    """A message of the new connection that waits for the end of the old one."""

    data: bytes
    ts_recv_ns: int
    marks: list[bytes]


class Handover:
    """The state of one replacement: `old` hands over to `new` (names of connections)."""

    def __init__(self, old: str, new: str, policy: HandoverPolicy) -> None:
        self.old = old
        self.new = new
        self.held: deque[Held] = deque()
        self.acked: dict[int, int] = {}
        """SessionInstrument index -> time of the new connection's acknowledgement, where the
        venue then repeats its last trade.
        """
        self.finished_ns: int | None = None
        self.draining = False
        self._new_delivered = False
        self._policy = policy
        self._held_bytes = 0
        self._full = False
        self._subscribed_ns: int | None = None
        self._old_delivered = False
        self._old_books: set[int] = set()
        """Those that the old connection brought since the new one has subscribed."""
        self._applied: dict[int, set[int]] = {}
        self._missed: dict[int, int] = {}
        """Of a book, the id of the last message that was left out because nothing joined it yet.
        """
        self._moved: set[int] = set()
        self._trailing: set[int] = set()
        self._seen: Counter[bytes] = Counter()

    def subscribed(self, now_ns: int) -> None:
        """Note that the new connection has sent its last request."""
        self._subscribed_ns = now_ns

    def verdict(self, instruments: Iterable[SessionInstrument], now_ns: int) -> Outcome:
        """Say what to do now; `instruments` are those whose books are the old connection's."""
        if self._subscribed_ns is None:
            return Outcome.WAIT
        since = now_ns - self._subscribed_ns
        if since < self._policy.linger_ns:
            return Outcome.WAIT
        waiting = {
            one.index for one in instruments if one.sync.live and one.index not in self._moved
        }
        if self._new_delivered and (not waiting or self._full):
            return Outcome.SWITCH
        if since < self._policy.patience_ns:
            return Outcome.WAIT
        missing = not waiting.isdisjoint(self._old_books) or (
            self._old_delivered and not self._new_delivered
        )
        return Outcome.ABANDON if missing else Outcome.SWITCH

    def book(
        self,
        instrument: SessionInstrument,
        connection: str,
        result: Result,
        chain: SequenceRule,
        *,
        restart: bool,
    ) -> bool:
        """Whether a book message is to be handled; False: it brings nothing that is not known."""
        sync, index, fresh = instrument.sync, instrument.index, connection == self.new
        if fresh:
            self._new_delivered = True
        else:
            self._note_old(index)
        if not sync.live:
            # The old connection's synchronisation goes on; a whole book from the new one ends
            # it.
            if fresh and result.snapshot:
                self._move(instrument)
            return (index in self._moved) is fresh
        if chain is SequenceRule.UNVERIFIED or result.last_id == NO_ID:
            if fresh and result.snapshot:
                self._move(instrument)
            return (index in self._moved) is fresh
        return self._by_id(instrument, fresh, result, chain, restart=restart)

    def _by_id(
        self,
        instrument: SessionInstrument,
        fresh: bool,
        result: Result,
        chain: SequenceRule,
        *,
        restart: bool,
    ) -> bool:
        sync, index = instrument.sync, instrument.index
        applied = self._applied.setdefault(index, set())
        applied.add(sync.last_id)
        if restart:
            if fresh:
                self._move(instrument)
            return (index in self._moved) is fresh
        if result.last_id in applied or (chain in _BY_RANGE and result.last_id <= sync.last_id):
            if fresh:
                self._move(instrument)
                self._trailing.add(index)
            return False
        if not result.snapshot and sync.continues(result.first_id, result.last_id, result.prev_id):
            if fresh:
                self._move(instrument)
            return True
        # Ahead of what is known, or a gap: the other connection has the link, or will show that
        # there is none.
        mine = (index in self._moved) is fresh
        if not mine:
            self._missed[index] = result.last_id
        return mine

    def _note_old(self, book: int | None) -> None:
        if self._subscribed_ns is not None:
            self._old_delivered = True
            if book is not None:
                self._old_books.add(book)

    def _move(self, instrument: SessionInstrument) -> None:
        self._moved.add(instrument.index)
        instrument.connection = self.new

    def trails(self, instrument: SessionInstrument, result: Result) -> bool:
        """Whether a book message after the change-over brings only what the old connection
        brought before it.
        """
        index = instrument.index
        if index not in self._trailing:
            return False
        applied = self._applied.setdefault(index, set())
        applied.add(instrument.sync.last_id)
        if result.last_id in applied:
            return True
        self._trailing.discard(index)
        return False

    def other(
        self, connection: str, data: bytes, result: Result, packets: bytes, ts_recv_ns: int
    ) -> bool:
        """Whether a message that stands for itself is to be handled now."""
        if connection == self.old:
            self._note_old(result.instrument if result.msg_type == MsgType.BOOK else None)
            self._seen.update(fingerprints(packets, result.last_id))
            return True
        self._new_delivered = True
        acked_ns = (
            self.acked.pop(result.instrument, None) if result.msg_type == MsgType.TRADE else None
        )
        if acked_ns is not None and 0 < result.ts_exchange_ns < acked_ns:
            return (
                # the venue repeats the last trade, which the old connection brought long ago
                False
            )
        if len(self.held) >= _HELD_MESSAGES or self._held_bytes > _HELD_BYTES:
            self._full = True
        if result.msg_type == MsgType.BOOK:
            self._moved.add(result.instrument)
        self.held.append(Held(data, ts_recv_ns, fingerprints(packets, result.last_id)))
        self._held_bytes += len(data)
        while self.held and all(mark and self._seen[mark] for mark in self.held[0].marks):
            # Brought by both: only what the new connection is ahead with stays, and there is
            # little to do at the switch.
            known = self.held.popleft()
            self._held_bytes -= len(known.data)
            for mark in known.marks:
                take(self._seen, mark)
        return False

    def left(self, packets: bytes, last_id: int) -> bytes:
        """Return finished packets of the new connection without the events that the old one
        brought.
        """
        return remaining(packets, self._seen, last_id) if self._seen else packets

    def drain(self) -> list[Held]:
        """Return what was kept, in order, for the events that the old connection did not bring."""
        held, self.held = list(self.held), deque()
        self.draining = True
        return held

    def finish(self, name: str, now_ns: int) -> None:
        """Note that one connection is left, called `name`; its books may still trail behind the
        other's.
        """
        self.old, self.new, self.draining = "", name, False
        self.finished_ns = now_ns
        self.held.clear()

    def behind(self, instrument: SessionInstrument) -> bool:
        """Whether messages of a book were left out that the other connection was to bring, and
        did not.
        """
        missed = self._missed.get(instrument.index)
        return (
            missed is not None
            and missed != instrument.sync.last_id
            and missed not in self._applied[instrument.index]
        )

    def give_back(self, instrument: SessionInstrument) -> bool:
        """Let the old connection have a book again; False: nothing joins its updates to what the
        new one brought.
        """
        self._moved.discard(instrument.index)
        instrument.connection = self.old
        self._trailing.add(instrument.index)
        return instrument.index in self._applied and not self.behind(instrument)

    def over(self, now_ns: int) -> bool:
        """Whether nothing is left to do after `finish`."""
        return self.finished_ns is not None and now_ns - self.finished_ns > _TRAILING_NS
