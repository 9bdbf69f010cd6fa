"""Between the source and the engine: reads packets in order, and hands them to the engine one at
a time.

The source reads and orders a batch in one call (`consumers.feed.source`); this module remembers
where in the batch the engine is, passes on the sequencer's events in their place, and measures
the lag. What a recovery service brings (`consumers.feed.recovery.manager`) comes in between the
reads: packets that fill holes are a read of their own, definitions and books go to the engine
before the next packet. It reads the wall clock once a read, for the lag alone.
"""

from __future__ import annotations

import logging
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tapecast.consumers.feed.batches import Batch, make_batch
from tapecast.consumers.feed.engine import Engine
from tapecast.consumers.feed.recovery.client import Options
from tapecast.consumers.feed.recovery.manager import RecoveryManager
from tapecast.consumers.feed.source import PacketSource
from tapecast.consumers.feed.stats import FeedStats, LagHistogram
from tapecast.protocol.fields import OFFSET
from tapecast.protocol.net.sequencing import (
    SPAN_HELD,
    Counter,
    EventKind,
    SequencingEvent,
)
from tapecast.protocol.schema import StatusReason, StatusScope, StatusState
from tapecast.runtime.channels import channel_name

__all__ = ["Reader"]

_MSG_TYPE: Final = OFFSET["msg_type"]
_CHANNEL: Final = OFFSET["channel_id"]
_VENUE: Final = OFFSET["venue_id"]
_SEND: Final = OFFSET["ts_send_ns"]
_U16: Final = struct.Struct("<H")
_I64: Final = struct.Struct("<q")
_FEW: Final = 8
_MAX_SPANS: Final = 8192
_WINDOW_NS: Final = 5_000_000
_LOG: Final = logging.getLogger("tapecast.feed")
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
    Counter.UNASKED,
)


class Reader:
    """The packets of one source, in order. `recovery` brings back what was lost; None = the
    sequencer gives holes up at once.
    """

    def __init__(
        self,
        source: PacketSource,
        options: Options | None = None,
        *,
        reach: int = 1024,
        channels: int = 32,
    ) -> None:
        """Make a sequencer with room for one read of the source. With `options` recovery
        services repair losses; up to `reach` packets may wait for that.
        """
        self._source = source
        self._sequencer = source.sequencer(
            max_spans=_MAX_SPANS,
            max_channels=channels,
            repair_ns=0 if options is None else options.repair_ns,
            reach=reach if options is not None else 1024,
        )
        self._unauthentic = 0
        self._alarm_ns = -_ALARM_NS
        self.recovery = (
            None if options is None else RecoveryManager(self._sequencer, options, keys=source.keys)
        )
        self._states = self.recovery.states if self.recovery is not None else deque()
        self._last_ns = (options.repair_ns if options is not None else 0) + 2 * _WINDOW_NS
        self._buffer = source.buffer
        self._lag = LagHistogram() if source.live else None
        self._count = 0
        self._spans: list[tuple[int, ...]] | None = None
        self._next = 0
        self._events: list[SequencingEvent] = []
        self._data = memoryview(b"")
        self._held = self._sequencer.held.data
        self._channel = -1
        self._now_ns = 0
        self._ready = 0

    @property
    def waiting(self) -> bool:
        """Whether a hole in some channel's sequence is open."""
        return self._sequencer.next_deadline is not None

    def receive(self, timeout: float) -> int:
        """Read the source, waiting at most `timeout` seconds, and return how many packets and
        events are ready.
        """
        source = self._source
        count = source.read(self._sequencer, timeout)
        self._now_ns = source.now_ns()
        return self._begin(count, source.buffer)

    def mend(self) -> bool:
        """Order what the recovery service brought, or refused, as a read of its own; False where
        there is nothing.
        """
        recovery = self.recovery
        if recovery is None:
            return False
        self._now_ns = self._source.now_ns()
        mended = recovery.mend(self._now_ns)
        if mended is None:
            return False
        self._ready = self._begin(mended.deliveries, mended.buffer, fresh=False)
        return True

    @property
    def ready(self) -> int:
        """How many packets and events the last read brought."""
        return self._ready

    def finish(self) -> int:
        """Give up every hole that is still open: nothing more will come."""
        for channel in self._sequencer.channels():
            self._sequencer.repairable(channel, False)
        return self._begin(
            self._sequencer.timer(self._now_ns + self._last_ns), self._buffer, fresh=False
        )

    def step(self, engine: Engine) -> bool:
        """Give the engine the next packet or event of the last read; False when there is none
        left.
        """
        if engine.backlog:
            packet = engine.backlog.popleft()
            engine.packet(packet, 0, len(packet))
            return True
        if self._states and self.recovery is not None and self.recovery.step(engine):
            return True
        at = self._next
        if self._events and self._events[0].position <= at:
            _notify(engine, self._events.pop(0), self._now_ns)
            return True
        if at >= self._count:
            return False
        self._next = at + 1
        spans = self._spans
        if spans is None:
            spans = self._spans = self._sequencer.deliveries[: self._count].tolist()
        offset, size, _, flags, *_ = spans[at]
        data = self._held if flags & SPAN_HELD else self._data
        (channel,) = _U16.unpack_from(data, offset + _CHANNEL)
        if channel != self._channel:
            self._channel = channel
            self._note_channel(engine, data, offset)
        engine.packet(data, offset, size)
        return True

    def batch(
        self, engine: Engine, msg_types: frozenset[int], control: frozenset[int], ids: Ids
    ) -> Batch:
        """Give the engine the events of the last read and its packets of the types `control`;
        return those of `msg_types`, which are valid until the next read.

        Calls `ids`, once the engine has the definitions, for the wanted instruments; None = all.
        """
        self._settle(engine)
        spans = self._sequencer.deliveries[: self._count]
        offsets = spans["offset"].astype(np.int64)
        held = (spans["flags"] & SPAN_HELD) != 0
        data = self._buffer if not held.any() else None
        kinds = (
            np.array([self._sequencer.packet(i)[_MSG_TYPE] for i in range(self._count)])
            if data is None
            else data[offsets + _MSG_TYPE]
        )
        for at in [*np.flatnonzero(np.isin(kinds, list(control))).tolist(), self._count]:
            while self._events and self._events[0].position <= at:
                _notify(engine, self._events.pop(0), self._now_ns)
            if at < self._count:
                packet = self._sequencer.packet(at)
                self._note_channel(engine, packet, 0)
                engine.packet(packet, 0, len(packet))
                if engine.backlog:
                    self._settle(engine)
        self._next = self._count
        passes = engine.passes if engine.failover.any else None
        return make_batch(self._sequencer, self._count, self._buffer, msg_types, ids(), passes)

    def _settle(self, engine: Engine) -> None:
        """Give the engine everything that comes before the next packet."""
        while engine.backlog or self._states:
            if engine.backlog:
                packet = engine.backlog.popleft()
                engine.packet(packet, 0, len(packet))
            else:
                assert self.recovery is not None
                self.recovery.step(engine)

    def watch(self, engine: Engine, now_ns: int) -> None:
        """Let time pass: the source joins silent groups again; packets without a right tag become
        a status, at most once a second.
        """
        self._source.watch(now_ns)
        unauthentic = sum(int(self._sequencer.counters[counter]) for counter in _UNAUTHENTIC)
        if unauthentic != self._unauthentic and now_ns - self._alarm_ns >= _ALARM_NS:
            _untrusted(
                engine, "", f"{unauthentic - self._unauthentic} packets without a right tag dropped"
            )
            self._unauthentic, self._alarm_ns = unauthentic, now_ns

    def stats(self, *, undefined: int, gaps: int, lost: int, events: int) -> FeedStats:
        """Return the counters; what only the engine knows is given."""
        counters = self._sequencer.counters
        invalid = {
            counter.name.lower(): int(counters[counter])
            for counter in _INVALID
            if counters[counter]
        }
        lag = self._lag
        asked = self.recovery.counts if self.recovery is not None else {}
        repair_lag = self.recovery.repair_lag if self.recovery is not None else LagHistogram()
        return FeedStats(
            received=int(counters[Counter.RECEIVED]) - sum(invalid.values()),
            lost=lost,
            repaired=int(counters[Counter.REPAIRED]),
            reordered=int(counters[Counter.HELD]),
            duplicates=int(counters[Counter.DUPLICATE]),
            invalid=invalid,
            old_session=int(counters[Counter.OLD_SESSION]),
            undefined=undefined,
            kernel_drops=self._source.kernel_drops,
            rejoins=self._source.rejoins,
            gaps=gaps,
            events=events,
            lag_p50_ns=lag.quantile(0.5) if lag is not None else None,
            lag_p99_ns=lag.quantile(0.99) if lag is not None else None,
            requests=asked.get("requests", 0),
            recovery={
                name: number for name, number in asked.items() if name != "requests" and number
            },
            repair_p50_ns=repair_lag.quantile(0.5),
            repair_p99_ns=repair_lag.quantile(0.99),
            lines={
                channel: self._sequencer.line_stats(channel)
                for channel in self._sequencer.channels()
            },
        )

    def _begin(self, count: int, buffer: npt.NDArray[np.uint8], *, fresh: bool = True) -> int:
        self._next = 0
        self._channel = -1
        self._events = self._sequencer.events
        self._count = count
        self._spans = None
        if self._events and self.recovery is not None:
            self.recovery.events(self._events, self._now_ns)
        if count:
            self._buffer = buffer
            self._data = buffer.data
            if self._lag is not None and fresh:
                self._measure(self._lag, count)
        return count + len(self._events)

    def _note_channel(self, engine: Engine, data: memoryview, offset: int) -> None:
        (channel,) = _U16.unpack_from(data, offset + _CHANNEL)
        (venue,) = _U16.unpack_from(data, offset + _VENUE)
        engine.received(channel, venue, self._now_ns)

    def _measure(self, lag: LagHistogram, count: int) -> None:
        now_ns = time.time_ns()
        if count <= _FEW:
            self._spans = self._sequencer.deliveries[:count].tolist()
            for offset, _, _, flags, *_ in self._spans:
                if not flags & SPAN_HELD:
                    (sent_ns,) = _I64.unpack_from(self._data, offset + _SEND)
                    lag.add(now_ns - sent_ns)
            return
        spans = self._sequencer.deliveries[:count]
        offsets = spans["offset"][(spans["flags"] & SPAN_HELD) == 0].astype(np.int64)
        sent_ns = self._buffer[offsets[:, None] + np.arange(_SEND, _SEND + 8)].view("<i8")[:, 0]
        lag.add_many(now_ns - sent_ns)


def _notify(engine: Engine, event: SequencingEvent, now_ns: int) -> None:
    if event.kind in (EventKind.GAP, EventKind.JUMP):
        engine.gap(event.channel_id, event.first, event.count)
    elif event.kind == EventKind.REPAIR:
        engine.repairing(event.channel_id, event.first, event.count)
    elif event.kind == EventKind.REPAIRED:
        engine.repaired(event.channel_id, event.first)
    elif event.kind == EventKind.NEW_SESSION:
        engine.session(event.channel_id)
    elif event.kind == EventKind.SESSION_END:
        engine.end(event.channel_id)
    elif event.kind == EventKind.OTHER_SOURCE and event.source is not None:
        venue = channel_name(event.channel_id)
        _untrusted(
            engine,
            venue,
            f"packets from {event.source[0]}:{event.source[1]} dropped: not the channel's sender",
        )


def _untrusted(engine: Engine, venue: str, detail: str) -> None:
    """Log and publish that packets were dropped because of who sent them; without a venue where
    not even that can be believed.
    """
    _LOG.warning("%s%s", f"{venue}: " if venue else "", detail)
    engine.status(venue, StatusScope.CHANNEL, StatusState.LIVE, StatusReason.UNTRUSTED, detail)
