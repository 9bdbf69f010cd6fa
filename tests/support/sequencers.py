"""Both sequencers, the plain reference and the C one, behind one face, so that a test can ask
either or compare them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from tapecast.protocol.net.io import SPAN
from tapecast.protocol.net.sequencing import SPAN_REPAIR, SPAN_TRUNCATED, BatchSequencer
from tapecast.protocol.net.sequencing_reference import Sequencer
from tapecast.protocol.net.sequencing_types import (
    Delivery,
    EventKind,
    LineStats,
    SequencingEvent,
    Source,
)
from tests.support.packets import fields

__all__ = [
    "HOME",
    "Arrival",
    "Machine",
    "Make",
    "Native",
    "Output",
    "Reference",
    "Told",
    "events",
    "seqs",
    "shape",
]

HOME: Source = ("127.0.0.1", 4000)


class Arrival(NamedTuple):
    """One datagram as it comes out of a socket."""

    data: bytes
    line: int = 0
    source: Source = HOME
    truncated: bool = False
    repair: bool = False


class Told(NamedTuple):
    """An event without its place."""

    kind: EventKind
    channel_id: int
    session: int
    first: int
    count: int
    line: int
    source: Source | None


Output = Delivery | Told


def _told(event: SequencingEvent) -> Told:
    return Told(
        event.kind,
        event.channel_id,
        event.session,
        event.first,
        event.count,
        event.line,
        event.source,
    )


class Reference:
    """The plain machine, a batch at a time."""

    def __init__(self, **options: object) -> None:
        self.machine = Sequencer(**options)  # type: ignore[arg-type]

    def step(self, now_ns: int, arrivals: Iterable[Arrival | bytes] = ()) -> list[Output]:
        """Push every packet, then the time."""
        out: list[Delivery | SequencingEvent] = []
        for item in arrivals:
            a = item if isinstance(item, Arrival) else Arrival(item)
            out += self.machine.push(
                a.data, now_ns, line=a.line, source=a.source, truncated=a.truncated, repair=a.repair
            )
        out += self.machine.timer(now_ns)
        return [_told(item) if isinstance(item, SequencingEvent) else item for item in out]

    def give_up(self, channel: int, session: int, end: int, now_ns: int) -> list[Output]:
        """Give up what cannot be had."""
        out = self.machine.give_up(channel, session, end, now_ns)
        return [_told(item) if isinstance(item, SequencingEvent) else item for item in out]

    def counts(self) -> dict[str, int]:
        """Return the counters that are not zero."""
        return {counter.name.lower(): n for counter, n in self.machine.counters.items() if n}

    @property
    def deadline(self) -> int | None:
        """When the timer is due."""
        return self.machine.next_deadline()

    def lines(self, channel: int) -> list[LineStats]:
        """Return the lines' numbers."""
        return self.machine.line_stats(channel)


class Native:
    """The C machine, with its outputs put back into one list."""

    def __init__(self, **options: object) -> None:
        self.machine = BatchSequencer(max_spans=4096, **options)  # type: ignore[arg-type]

    def step(self, now_ns: int, arrivals: Iterable[Arrival | bytes] = ()) -> list[Output]:
        """Lay the packets out like a receiver and process them in one call."""
        items = [item if isinstance(item, Arrival) else Arrival(item) for item in arrivals]
        spans = np.zeros(len(items), SPAN)
        offset = 0
        for span, a in zip(spans, items, strict=True):
            span["offset"], span["length"], span["line"] = offset, len(a.data), a.line
            span["flags"] = SPAN_TRUNCATED * a.truncated | SPAN_REPAIR * a.repair
            span["addr"], span["port"] = (
                int.from_bytes(socket.inet_aton(a.source[0]), "big"),
                a.source[1],
            )
            offset += len(a.data)
        buffer = b"".join(a.data for a in items)
        n = (
            self.machine.process(buffer, spans, len(items), now_ns)
            if items
            else self.machine.timer(now_ns)
        )
        return self._outputs(n)

    def give_up(self, channel: int, session: int, end: int, now_ns: int) -> list[Output]:
        """Give up what cannot be had."""
        return self._outputs(self.machine.give_up(channel, session, end, now_ns))

    def _outputs(self, n: int) -> list[Output]:
        deliveries = [
            Delivery(bytes(self.machine.packet(i)), int(row["line"]), bool(row["flags"] & 4))
            for i, row in enumerate(self.machine.deliveries[:n])
        ]
        self._check_runs(n)
        out: list[Output] = []
        events = self.machine.events
        for i in range(n + 1):
            out += [_told(event) for event in events if event.position == i]
            out += deliveries[i : i + 1]
        assert len(out) == n + len(events)
        return out

    def _check_runs(self, n: int) -> None:
        seen = 0
        for run in self.machine.runs:
            rows = self.machine.deliveries[seen : seen + int(run["packets"])]
            assert int(run["first"]) == seen
            assert int(run["offset"]) == int(rows["offset"][0])
            assert int(run["nbytes"]) == int(rows["length"].sum())
            assert (np.diff(rows["offset"].astype(np.int64)) == rows["length"][:-1]).all()
            assert ((rows["flags"] & 4 != 0) == bool(run["held"])).all()
            seen += len(rows)
        assert seen == n

    def counts(self) -> dict[str, int]:
        """Return the counters that are not zero."""
        return {name: n for name, n in self.machine.counts().items() if n}

    @property
    def deadline(self) -> int | None:
        """When the timer is due."""
        return self.machine.next_deadline

    def lines(self, channel: int) -> list[LineStats]:
        """Return the lines' numbers."""
        return self.machine.line_stats(channel)


Machine = Reference | Native
Make = Callable[..., Machine]


def seqs(out: list[Output]) -> list[int]:
    """Return the numbers of the delivered packets."""
    return [fields(item.packet)["channel_seq"] for item in out if isinstance(item, Delivery)]


def events(out: list[Output]) -> list[tuple[str, int, int]]:
    """Return (kind, first, count) of the events."""
    return [(item.kind.name, item.first, item.count) for item in out if isinstance(item, Told)]


def shape(out: list[Output]) -> list[int | tuple[str, int, int]]:
    """Return deliveries and events in their order."""
    return [seqs([item])[0] if isinstance(item, Delivery) else events([item])[0] for item in out]
