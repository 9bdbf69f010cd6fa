"""Recovery inside a feed: passes what the sequencer and the engine want to the clients of their
channels, and what comes back to them.

A channel has a client as soon as its heartbeats name a service. Ranges go out the moment a hole
is late; definitions and books when the engine wants them. What comes back is packets that fill
holes, or word that they cannot be filled, which go to the sequencer (`mend`), and definitions and
books, which go to the engine one at a time (`states`, `step`). The sockets are those of
`consumers.feed.recovery.socket`; the manager looks at them when the feed reads. No clock of its
own.
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tapecast.consumers.feed.engine import Engine
from tapecast.consumers.feed.recovery.client import Answer, Options, RecoveryClient
from tapecast.consumers.feed.recovery.socket import RecoverySocket, wait
from tapecast.consumers.feed.stats import LagHistogram
from tapecast.protocol.authentication import Keys
from tapecast.protocol.fields import OFFSET
from tapecast.protocol.net.io import SPAN
from tapecast.protocol.net.sequencing import SPAN_REPAIR, BatchSequencer, EventKind, SequencingEvent
from tapecast.protocol.schema import RequestKind
from tapecast.runtime.settings import Consumer

__all__ = ["Mended", "RecoveryManager", "options_of"]

_U32: Final = struct.Struct("<I")
_SESSION: Final = OFFSET["session"]
_NOTHING: Final = np.zeros(0, np.uint8)
_LINE: Final = 255
"""Line of the packets that the service returned."""
_MOST: Final = 1024
"""Packets that are handed to the sequencer in one go, and about as many states wait for the
engine.
"""


def options_of(consumer: Consumer) -> Options | None:
    """Return a client's limits as they are configured; None where nothing is to be repaired."""
    repair_ns = consumer.repair_ms * 1_000_000
    return (
        Options(repair_ns=repair_ns, jitter_ns=int(repair_ns * consumer.jitter))
        if consumer.recovery
        else None
    )


class Mended(NamedTuple):
    """What a call of the sequencer delivered, and the buffer that its deliveries stand in."""

    deliveries: int
    buffer: npt.NDArray[np.uint8]


class RecoveryManager:
    """The recovery clients of one feed, by channel."""

    def __init__(
        self,
        sequencer: BatchSequencer,
        options: Options,
        *,
        keys: Keys | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        """Serve the sequencer of a feed; with `keys`, requests and answers carry tags."""
        self.repair_lag = LagHistogram()
        """Time from asking for lost packets to the last of them, ns."""
        self._sequencer = sequencer
        self._options = options
        self._keys = keys or {}
        self._chance = random.random if chance is None else chance
        self._links: dict[int, RecoverySocket] = {}
        self.states: deque[tuple[int, bytes | Answer]] = deque()
        """What `step` has for the engine."""
        self._available: dict[int, bool] = {}
        self._active = False

    @property
    def active(self) -> bool:
        """Whether something is under way, so that the feed has to wait for its descriptors too."""
        return self._active

    @property
    def counts(self) -> dict[str, int]:
        """What the clients counted, summed."""
        out: dict[str, int] = {}
        for link in self._links.values():
            for name, count in link.client.counts.items():
                out[name] = out.get(name, 0) + count
        return out

    def tick(self, engine: Engine | None, now_ns: int) -> None:
        """Learn where the services of the channels are, about every 100 ms, and ask for what the
        engine wants.

        Without an engine the manager asks for lost packets and nothing else.
        """
        for channel_id in self._sequencer.channels():
            link = self._link(channel_id, now_ns)
            if link is None:
                continue
            self._report(channel_id, link.client, engine)
            channel = self._sequencer.channel(channel_id)
            if engine is not None and channel is not None and channel.next == channel.edge:
                # Also where a part was given up and the rest came: nothing is open any more.
                engine.repaired(channel_id, channel.next)
        if engine is not None:
            self.carry_out(engine, now_ns)

    def carry_out(self, engine: Engine, now_ns: int) -> None:
        """Ask for what the engine wants."""
        while engine.wants:
            want = engine.wants.popleft()
            link = self._links.get(want.channel_id)
            if link is None:
                continue
            if want.kind is RequestKind.SNAPSHOT:
                link.client.book(want.instrument_id, now_ns)
            else:
                link.client.definitions(now_ns)
            self._active = True

    def events(self, events: Iterable[SequencingEvent], now_ns: int) -> None:
        """Ask at once for what the sequencer misses."""
        for event in events:
            if event.kind is EventKind.REPAIR:
                link = self._link(event.channel_id, now_ns)
                if link is not None and link.client.session == event.session:
                    link.client.range(event.first, event.count, now_ns)
                    self._active = True
            elif event.kind is EventKind.REPAIRED:
                self.repair_lag.add(event.count)

    def pump(self, engine: Engine | None, now_ns: int) -> None:
        """Read and write what can be read and written now."""
        active = False
        for channel_id, link in self._links.items():
            client = link.client
            link.pump(now_ns)
            # What came and was not handed on yet must not wait for the next packet from the
            # network.
            active = active or client.busy or bool(client.mended) or bool(client.refused)
            if len(self.states) >= _MOST:
                active = True
            elif client.states or client.answers:
                self.states.extend((channel_id, packet) for packet in client.states)
                self.states.extend((channel_id, answer) for answer in client.answers)
                client.states.clear()
                client.answers.clear()
            self._report(channel_id, client, engine)
        self._active = active

    def mend(self, now_ns: int) -> Mended | None:
        """Give the sequencer what fills holes, or what cannot be had, as a call of its own; None
        where there is nothing.
        """
        packets: list[bytes] = []
        for link in self._links.values():
            room = _MOST - len(packets)
            packets += link.client.mended[:room]
            del link.client.mended[:room]
        if packets:
            spans = np.zeros(len(packets), SPAN)
            lengths = np.array([len(packet) for packet in packets])
            spans["offset"], spans["length"] = np.cumsum(lengths) - lengths, lengths
            spans["line"], spans["flags"] = _LINE, SPAN_REPAIR
            buffer = np.frombuffer(b"".join(packets), np.uint8)
            return Mended(self._sequencer.process(buffer, spans, len(packets), now_ns), buffer)
        for channel_id, link in self._links.items():
            client = link.client
            if client.refused:
                end = client.refused.pop(0)
                return Mended(
                    self._sequencer.give_up(channel_id, client.session, end, now_ns), _NOTHING
                )
        return None

    def step(self, engine: Engine) -> bool:
        """Give the engine the next state; False when there is none."""
        while self.states:
            channel_id, item = self.states.popleft()
            if isinstance(item, Answer):
                engine.answered(channel_id, item.kind, item.instrument_id, item.status)
            elif _U32.unpack_from(item, _SESSION)[0] == self._links[channel_id].client.session:
                engine.recovered(item)
            else:
                continue
            return True
        return False

    def patience_s(self, now_ns: int, most_s: float) -> float:
        """Return how long the feed may wait for packets before a client has something to do."""
        if any(link.client.mended or link.client.refused for link in self._links.values()):
            return 0.0
        deadlines = [
            deadline
            for link in self._links.values()
            if (deadline := link.client.next_deadline()) is not None
        ]
        return max(0.0, min(most_s, (min(deadlines) - now_ns) / 1e9)) if deadlines else most_s

    def readable(self) -> list[int]:
        """Return the descriptors to wait on for reading."""
        return [file for link in self._links.values() if (file := link.readable) is not None]

    def writable(self) -> list[int]:
        """Return the descriptors to wait on for writing."""
        return [file for link in self._links.values() if (file := link.writable) is not None]

    def wait(self, files: list[int], timeout_s: float) -> None:
        """Wait for the feed's own descriptors and the clients'."""
        wait([*files, *self.readable()], self.writable(), timeout_s)

    def close(self) -> None:
        """Close every connection."""
        for link in self._links.values():
            link.close()
        self._active = False

    def _link(self, channel_id: int, now_ns: int) -> RecoverySocket | None:
        """Return the socket of a channel; make it where the channel has a service for the first
        time.
        """
        channel, link = self._sequencer.channel(channel_id), self._links.get(channel_id)
        if channel is None or (link is None and channel.service is None):
            return None
        if link is None:
            client = RecoveryClient(
                channel_id,
                channel.venue_id,
                self._options,
                chance=self._chance,
                keys=self._keys.get(channel_id, ()),
            )
            link = self._links[channel_id] = RecoverySocket(client)
        link.client.serve(channel.service, channel.session, now_ns)
        return link

    def _report(self, channel_id: int, client: RecoveryClient, engine: Engine | None) -> None:
        """Notify sequencer and engine when a service becomes worth asking, or ceases to be."""
        if self._available.get(channel_id) != client.available:
            self._available[channel_id] = client.available
            self._sequencer.repairable(channel_id, client.available)
        if engine is not None:
            engine.served(channel_id, client.available)
