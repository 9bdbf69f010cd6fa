"""Between the source and the engine: validates and orders each read, and hands it to the engine one packet at a time.

Validation, order, duplicates and gaps are decided by `protocol.sequencing`; this module carries its results, remembers where in
them the engine is, and measures the lag. It reads the wall clock once a read, for the lag alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from consumers.feed.batches import Batch, make_batch
from consumers.feed.engine import Engine
from consumers.feed.source import Multicast, PacketSource
from consumers.feed.stats import FeedStats, LagHistogram
from protocol.schema import HEADER
from protocol.sequencing import SPAN_HELD, BatchSequencer, Counter, Event, EventKind

__all__ = ["Ordering"]

_OFFSET: Final = {field.name: field.offset for field in HEADER.fields}
_CHANNEL: Final = _OFFSET["channel_id"]
_VENUE: Final = _OFFSET["venue_id"]
_SEND: Final = _OFFSET["ts_send_ns"]
_FEW: Final = 8
_MAX_SPANS: Final = 8192
_WINDOW_NS: Final = 5_000_000
_ALARM_NS: Final = 1_000_000_000
_UNAUTHENTIC: Final = (Counter.AUTH_MISSING, Counter.BAD_AUTH)
Ids: TypeAlias = Callable[[], npt.NDArray[np.uint64] | None]
_INVALID: Final = (
    Counter.TRUNCATED,
    Counter.TOO_SHORT,
    Counter.OVERSIZE,
    Counter.BAD_MAGIC,
    Counter.BAD_VERSION,
    Counter.UNKNOWN_CRITICAL,
    Counter.BAD_LENGTH,
    Counter.BAD_ITEMS,
    Counter.BAD_BID_COUNT,
    Counter.SMALL_ITEM,
    Counter.AUTH_MISSING,
    Counter.BAD_AUTH,
    Counter.CHANNEL_LIMIT,
    Counter.OTHER_SOURCE,
    Counter.JUMP_UNCONFIRMED,
)


class Ordering:
    """The packets of one source, in order."""

    def __init__(self, source: PacketSource) -> None:
        """Make a sequencer with room for one read of the source."""
        self._source = source
        admission = source.admission if isinstance(source, Multicast) else None
        self._sequencer = admission.sequencer(_MAX_SPANS) if admission else BatchSequencer(max_spans=_MAX_SPANS)
        self._unauthentic = 0
        self._alarm_ns = -_ALARM_NS
        self._lag = LagHistogram() if source.live else None
        self._count = 0
        self._spans: list[tuple[int, ...]] | None = None
        self._next = 0
        self._events: list[Event] = []
        self._data = memoryview(b"")
        self._held = self._sequencer.held.data
        self._channel = -1
        self._now_ns = 0

    @property
    def waiting(self) -> bool:
        """Whether a hole in some channel's sequence is open."""
        return self._sequencer.next_deadline is not None

    def receive(self, timeout: float) -> int:
        """Read the source, waiting at most `timeout` seconds, and return how many packets and events are ready."""
        source = self._source
        if isinstance(source, Multicast):
            count = self._sequencer.receive(source.receiver, timeout)
            self._now_ns = time.monotonic_ns()
        else:
            read = source.receive(timeout)
            self._now_ns = source.now_ns()
            count = self._sequencer.process(source.buffer, source.spans, read, self._now_ns)
        return self._begin(count)

    def finish(self) -> int:
        """Give up every hole that is still open: nothing more will come."""
        return self._begin(self._sequencer.timer(self._now_ns + _WINDOW_NS + 1))

    def step(self, engine: Engine) -> bool:
        """Give the engine the next packet or event of the last read; False when there is none left."""
        at = self._next
        if self._events and self._events[0].position <= at:
            _tell(engine, self._events.pop(0), self._now_ns)
            return True
        if at >= self._count:
            return False
        self._next = at + 1
        spans = self._spans
        if spans is None:
            spans = self._spans = self._sequencer.deliveries[: self._count].tolist()
        offset, size, _, flags, *_ = spans[at]
        data = self._held if flags & SPAN_HELD else self._data
        channel = data[offset + _CHANNEL]
        if channel != self._channel:
            self._channel = channel
            self._hear(engine, data, offset)
        engine.packet(data, offset, size)
        return True

    def batch(self, engine: Engine, msg_types: frozenset[int], control: frozenset[int], ids: Ids) -> Batch:
        """Give the engine the events of the last read and its packets of the types `control`; return those of `msg_types`.

        `ids` is asked, once the definitions have been taken in, for the wanted instruments; None = all.
        """
        spans = self._sequencer.deliveries[: self._count]
        offsets = spans["offset"].astype(np.int64)
        held = (spans["flags"] & SPAN_HELD) != 0
        data = self._source.buffer if not held.any() else None
        kinds = np.array([self._sequencer.packet(i)[3] for i in range(self._count)]) if data is None else data[offsets + 3]
        for at in [*np.flatnonzero(np.isin(kinds, list(control))).tolist(), self._count]:
            while self._events and self._events[0].position <= at:
                _tell(engine, self._events.pop(0), self._now_ns)
            if at < self._count:
                packet = self._sequencer.packet(at)
                self._hear(engine, packet, 0)
                engine.packet(packet, 0, len(packet))
        self._next = self._count
        return make_batch(self._sequencer, self._count, self._source.buffer, msg_types, ids())

    def watch(self, engine: Engine, now_ns: int) -> None:
        """Let time pass: silent groups are joined again, and packets without a right tag are told of, at most once a second."""
        if isinstance(self._source, Multicast):
            self._source.watch(now_ns)
        unauthentic = sum(int(self._sequencer.counters[counter]) for counter in _UNAUTHENTIC)
        if unauthentic != self._unauthentic and now_ns - self._alarm_ns >= _ALARM_NS:
            engine.untrusted(None, f"{unauthentic - self._unauthentic} packets without a right tag dropped")
            self._unauthentic, self._alarm_ns = unauthentic, now_ns

    def stats(self, *, undefined: int, gaps: int, lost: int, events: int) -> FeedStats:
        """Return the counters; what only the engine knows is given."""
        counters = self._sequencer.counters
        invalid = {counter.name.lower(): int(counters[counter]) for counter in _INVALID if counters[counter]}
        lag = self._lag
        return FeedStats(
            received=int(counters[Counter.RECEIVED]) - sum(invalid.values()),
            lost=lost,
            repaired=0,
            reordered=int(counters[Counter.HELD]),
            duplicates=int(counters[Counter.DUPLICATE]),
            invalid=invalid,
            old_session=int(counters[Counter.OLD_SESSION]),
            undefined=undefined,
            kernel_drops=self._source.kernel_drops,
            rejoins=self._source.rejoins if isinstance(self._source, Multicast) else 0,
            gaps=gaps,
            events=events,
            lag_p50_ns=lag.quantile(0.5) if lag is not None else None,
            lag_p99_ns=lag.quantile(0.99) if lag is not None else None,
        )

    def _begin(self, count: int) -> int:
        self._next = 0
        self._channel = -1
        self._events = self._sequencer.events
        self._count = count
        self._spans = None
        if count:
            self._data = self._source.buffer.data
            if self._lag is not None:
                self._measure(self._lag, count)
        return count + len(self._events)

    def _hear(self, engine: Engine, data: memoryview, offset: int) -> None:
        channel = int.from_bytes(data[offset + _CHANNEL : offset + _CHANNEL + 2], "little")
        venue = int.from_bytes(data[offset + _VENUE : offset + _VENUE + 2], "little")
        engine.heard(channel, venue, self._now_ns)

    def _measure(self, lag: LagHistogram, count: int) -> None:
        now_ns = time.time_ns()
        if count <= _FEW:
            self._spans = self._sequencer.deliveries[:count].tolist()
            for offset, _, _, flags, *_ in self._spans:
                if not flags & SPAN_HELD:
                    sent = int.from_bytes(self._data[offset + _SEND : offset + _SEND + 8], "little", signed=True)
                    lag.add(now_ns - sent)
            return
        spans = self._sequencer.deliveries[:count]
        offsets = spans["offset"][(spans["flags"] & SPAN_HELD) == 0].astype(np.int64)
        sent_ns = self._source.buffer[offsets[:, None] + np.arange(_SEND, _SEND + 8)].view("<i8")[:, 0]
        lag.add_many(now_ns - sent_ns)


def _tell(engine: Engine, event: Event, now_ns: int) -> None:
    if event.kind in (EventKind.GAP, EventKind.JUMP):
        engine.gap(event.channel_id, event.first, event.count)
    elif event.kind == EventKind.NEW_SESSION:
        engine.session(event.channel_id)
    elif event.kind == EventKind.SESSION_END:
        engine.end(event.channel_id)
    elif event.kind == EventKind.OTHER_SOURCE and event.source is not None:
        engine.untrusted(event.channel_id, f"packets from {event.source[0]}:{event.source[1]} dropped: not the channel's sender")
