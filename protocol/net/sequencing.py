"""Validation and ordering of received packets in batches: the C machine over caller-owned
arrays.

The machine is `protocol/native/sequence.c`; its rules stand in
`protocol.net.sequencing_reference`, the oracle that the tests hold it against. Nothing here
performs I/O, except that `BatchSequencer.receive` reads a `protocol.net.io.Receiver` in the same
call. Repairs are asked for by events and come back like packets, flagged SPAN_REPAIR; fetching
them is `consumers.feed.recovery`'s.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tapecast.protocol._native import ffi, lib
from tapecast.protocol.authentication import Keys, key_table
from tapecast.protocol.net.io import SPAN, ReadableBuffer, Receiver
from tapecast.protocol.net.sequencing_types import (
    EventKind,
    LineStats,
    SequencingEvent,
    Source,
)
from tapecast.protocol.validation import Counter

__all__ = [
    "RUN",
    "SPAN_HELD",
    "SPAN_REPAIR",
    "SPAN_TRUNCATED",
    "BatchSequencer",
    "ChannelState",
    "Counter",
    "EventKind",
    "LineStats",
    "SequencingEvent",
    "Source",
    "SpaceError",
]

RUN = np.dtype(
    [("offset", "<u4"), ("nbytes", "<u4"), ("first", "<u4"), ("packets", "<u4"), ("held", "<u4")]
)
"""Deliveries that stand side by side in one buffer: a contiguous packet buffer for whoever walks
one.
"""

SPAN_TRUNCATED = 1
SPAN_HELD = 4
SPAN_REPAIR = 8

_WINDOW = 1024
_REPAIRS = 40
_SLOT_SIZE = 1536
_NO_DEADLINE = 2**63 - 1
_EVENT = np.dtype(
    [
        ("kind", "u1"),
        ("line", "u1"),
        ("channel_id", "<u2"),
        ("session", "<u4"),
        ("position", "<u4"),
        ("addr", ">u4"),
        ("port", ">u2"),
        ("reserved", "<u2", 3),
        ("first", "<u8"),
        ("count", "<u8"),
    ]
)


class SpaceError(RuntimeError):
    """More packets in one call than the sequencer was made for."""


class ChannelState(NamedTuple):
    """How a channel stands: what is delivered next, and where its recovery service answers.

    Lost packets between `next` and `edge` are being repaired.
    """

    venue_id: int
    session: int
    next: int
    edge: int
    service: Source | None


class BatchSequencer:
    """Validates and orders what a receiver read, without copying what arrives in order.

    After `process`, `receive` or `timer` returned n: `deliveries[:n]` (dtype `SPAN`) are the
    packets in order, `runs` the same as contiguous pieces, `events` what happened between them.
    A delivery with SPAN_HELD waited in the window and stands in `held`; every other one stands
    in the buffer given. The next call overwrites all of it. Parameters as for
    `sequencing_reference.Sequencer`; `max_spans` is the largest number of packets in one call.
    Packets flagged SPAN_REPAIR came from the recovery service. With `repair_ns`, all channels
    together hold `reach` packets for repairs; where more would wait, the machine gives holes up.
    """

    def __init__(
        self,
        *,
        window_ns: int = 5_000_000,
        window_packets: int = _WINDOW,
        repair_ns: int = 0,
        reach: int = _WINDOW,
        max_channels: int = 16,
        max_spans: int = 8192,
        keys: Keys | None = None,
        sources: Collection[str] = (),
        learn_sources: bool = False,
    ) -> None:
        """Take the memory for the worst case (untouched pages cost nothing): 1.5 MiB a channel,
        plus 1.5 KiB a span.
        """
        if not 1 <= window_packets <= _WINDOW:
            raise ValueError(f"window of {window_packets} packets: 1 to {_WINDOW}")
        if reach < _WINDOW or reach & (reach - 1):
            raise ValueError(f"reach of {reach} packets: a power of two, at least {_WINDOW}")
        self._max_spans = max_spans
        n_held = max_channels * _WINDOW + (reach if repair_ns else 0)
        n_slots = n_held + max_spans
        max_out = n_slots + 1
        # A held packet ends at most one hole, which is asked for once and given up once.
        max_events = 6 * max_spans + 2 * n_held + (4 + _REPAIRS) * max_channels + 1
        self.held: npt.NDArray[np.uint8] = np.empty(n_slots * _SLOT_SIZE, np.uint8)
        """Packets that waited; deliveries with SPAN_HELD count their offset from its start."""
        self.deliveries: npt.NDArray[np.void] = np.empty(max_out, SPAN)
        self.counters: npt.NDArray[np.uint64] = np.zeros(len(Counter), np.uint64)
        """Indexed by `Counter`."""
        self._runs: npt.NDArray[np.void] = np.empty(max_out, RUN)
        self._events: npt.NDArray[np.void] = np.empty(max_events, _EVENT)
        self._buffer: ReadableBuffer = b""
        allowed = [int.from_bytes(socket.inet_aton(address), "little") for address in sources]
        c = self._c = ffi.new("tc_sequencer *")
        self._owned = [
            ffi.new("tc_channel[]", max_channels),
            ffi.new("uint32_t[]", max_channels * reach),
            ffi.new("uint32_t[]", allowed),
            key_table(keys or {}),
            np.empty(n_slots, SPAN),
            np.empty(n_slots, np.int64),
            np.empty(n_slots, np.uint32),
            np.empty(n_slots, np.uint32),
        ]
        c.channels, c.window, c.allowed, c.keys = self._owned[:4]
        c.slot_span = ffi.from_buffer("tc_span[]", self._owned[4])
        c.slot_ns = ffi.from_buffer("int64_t[]", self._owned[5])
        c.free_slots = ffi.from_buffer("uint32_t[]", self._owned[6])
        c.used_slots = ffi.from_buffer("uint32_t[]", self._owned[7])
        c.window_ns, c.window_packets = window_ns, window_packets
        c.repair_ns, c.reach = repair_ns, reach
        c.n_allowed, c.n_keys, c.learn_sources = len(allowed), len(keys or {}), learn_sources
        c.max_channels, c.n_slots, c.max_out, c.max_events = (
            max_channels,
            n_slots,
            max_out,
            max_events,
        )
        c.store = ffi.from_buffer("uint8_t[]", self.held)
        c.counters = ffi.from_buffer("uint64_t[]", self.counters)
        c.out = ffi.from_buffer("tc_span[]", self.deliveries)
        c.runs = ffi.from_buffer("tc_run[]", self._runs)
        c.events = ffi.from_buffer("tc_event[]", self._events)
        lib.tc_sequence_init(c)

    def process(
        self, buffer: ReadableBuffer, spans: npt.NDArray[np.void], count: int, now_ns: int
    ) -> int:
        """Take the first `count` packets that `spans` describes in `buffer`, then the time;
        return the number of deliveries.

        Raises SpaceError for more than `max_spans`, ValueError where a span leaves the buffer.
        """
        if not 0 <= count <= min(len(spans), self._max_spans):
            raise SpaceError(
                f"{count} packets in one call: at most {min(len(spans), self._max_spans)}"
            )
        data = ffi.from_buffer("uint8_t[]", buffer)
        used = spans[:count]
        if count and int((used["offset"].astype(np.uint64) + used["length"]).max()) > len(data):
            raise ValueError("a span ends outside the buffer")
        self._buffer = buffer
        return self._answer(
            lib.tc_sequence(self._c, data, ffi.from_buffer("tc_span[]", spans), count, now_ns)
        )

    def receive(self, receiver: Receiver, timeout: float = 0.0, now_ns: int = 0) -> int:
        """Read `receiver` (see `Receiver.receive`) and process what it brought in the same call;
        return the number of deliveries.

        `now_ns` 0 reads the monotonic clock once the packets are in.
        """
        if receiver.max_spans > self._max_spans:
            raise SpaceError(
                f"the receiver reads up to {receiver.max_spans} packets: more than"
                f" {self._max_spans}"
            )
        self._buffer = receiver.buffer
        return self._answer(
            lib.tc_receive_sequence(receiver._c, self._c, int(timeout * 1e9), now_ns)
        )

    def timer(self, now_ns: int) -> int:
        """Take the time alone; return the number of deliveries (all of them in `held`)."""
        return self._answer(lib.tc_sequence_timer(self._c, now_ns))

    def give_up(self, channel_id: int, session: int, end: int, now_ns: int) -> int:
        """Give up what is missing and asked for before `end`, because it cannot be had; return
        the number of deliveries.
        """
        return self._answer(lib.tc_sequence_give_up(self._c, channel_id, session, end, now_ns))

    def repairable(self, channel_id: int, repairable: bool) -> None:
        """Note whether a channel's recovery service can be reached at present; without it the
        machine gives holes up at once.
        """
        lib.tc_sequence_repairable(self._c, channel_id, repairable)

    def channel(self, channel_id: int) -> ChannelState | None:
        """Return how a channel stands; None for one that has brought nothing."""
        channel = self._channel(channel_id)
        if channel is None:
            return None
        service = None
        if channel.service_port:
            service = (
                socket.inet_ntoa(struct.pack("<I", channel.service_addr)),
                int(channel.service_port),
            )
        return ChannelState(
            int(channel.venue_id),
            int(channel.session),
            int(channel.next),
            int(channel.edge),
            service,
        )

    @property
    def next_deadline(self) -> int | None:
        """When `timer` is due, monotonic ns; None = nothing waits."""
        deadline = int(self._c.deadline_ns)
        return None if deadline == _NO_DEADLINE else deadline

    @property
    def runs(self) -> npt.NDArray[np.void]:
        """The deliveries of the last call as contiguous pieces, dtype `RUN`."""
        return self._runs[: int(self._c.n_runs)]

    @property
    def events(self) -> list[SequencingEvent]:
        """The events of the last call; `position` says after how many deliveries."""
        if not self._c.n_events:
            return []
        out = []
        for row in self._events[: int(self._c.n_events)].tolist():
            kind, line, channel_id, session, position, addr, port, _, first, count = row
            source = None
            if kind in (EventKind.OTHER_SOURCE, EventKind.REPAIR):
                source = (socket.inet_ntoa(struct.pack(">I", addr)), port)
            out.append(
                SequencingEvent(
                    EventKind(kind), channel_id, session, first, count, position, line, source
                )
            )
        return out

    def packet(self, index: int) -> memoryview:
        """Return delivery `index` of the last call, without copying."""
        span = self.deliveries[index]
        buffer = self.held if int(span["flags"]) & SPAN_HELD else self._buffer
        view = buffer.data if isinstance(buffer, np.ndarray) else memoryview(buffer)
        offset = int(span["offset"])
        return view[offset : offset + int(span["length"])]

    def counts(self) -> dict[str, int]:
        """Return every counter by its lower-case name."""
        return {counter.name.lower(): int(self.counters[counter]) for counter in Counter}

    def channels(self) -> list[int]:
        """Return the ids of the channels that have brought packets."""
        return [int(self._c.channels[i].channel_id) for i in range(self._c.n_channels)]

    def line_stats(self, channel_id: int) -> list[LineStats]:
        """Return what each line of a channel brought in the current session. Raises KeyError for
        a channel that has brought none.
        """
        channel = self._channel(channel_id)
        if channel is None:
            raise KeyError(channel_id)
        out = []
        for line in channel.lines:
            if line.used:
                passed = (line.highest - line.base + 1) % 2**64 if line.received else 0
                out.append(
                    LineStats(
                        int(line.line), int(line.received), max(0, int(passed - line.received))
                    )
                )
        return out

    def _channel(self, channel_id: int) -> ffi.CData | None:
        for i in range(self._c.n_channels):
            if self._c.channels[i].channel_id == channel_id:
                return self._c.channels[i]
        return None

    def _answer(self, deliveries: int) -> int:
        if deliveries < 0:
            raise SpaceError("a result array is full")
        return int(deliveries)
