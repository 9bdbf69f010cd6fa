"""What goes wrong on a way, decided by a seed: the same packets with the same seed meet the same
fate, whatever the time.

`PacketFaults` is for one line of datagrams, `StreamFaults` for one TCP connection. Both are
sans-I/O and count what they did; `tests.support.relay` puts them between sockets, tests of
machines use them as they are.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

__all__ = ["Copy", "PacketFaults", "StreamFaults", "StreamPart", "Way", "Wire"]


class Way(NamedTuple):
    """Faults of a line of datagrams, as probabilities for each of them."""

    loss: float = 0.0
    burst: float = 0.0
    """Beginning of a run of losses, `burst_length` long on average."""
    burst_length: float = 8.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Held back for up to `delay_s`, so that others overtake it."""
    delay_s: float = 0.003
    corrupt: float = 0.0
    """One to eight bits flipped."""
    truncate: float = 0.0


class Copy(NamedTuple):
    """A datagram that arrives, so many seconds late."""

    data: bytes
    delay_s: float


class PacketFaults:
    """One line."""

    def __init__(self, seed: int, way: Way | None = None) -> None:
        """Start the line's own sequence of decisions."""
        self._rng = random.Random(seed)
        self.way = way or Way()
        """May be replaced at any time."""
        self._burst = 0
        self.counts: Counter[str] = Counter()

    def take(self, data: bytes) -> list[Copy]:
        """Return what arrives of a datagram: nothing, itself, or copies of it, damaged or late."""
        rng, way, counts = self._rng, self.way, self.counts
        # Always the same number of decisions, so that a changed way does not shift those of the
        # packets after it.
        lost, burst, twice, late, bad, cut, length = (rng.random() for _ in range(7))
        detail = (
            random.Random(rng.getrandbits(32))
            if bad < way.corrupt or cut < way.truncate or late < way.reorder
            else None
        )
        counts["taken"] += 1
        if not self._burst and burst < way.burst:
            self._burst = 1 + int(2 * length * (way.burst_length - 1) + 0.5)
        if self._burst:
            self._burst -= 1
            counts["lost_in_bursts"] += 1
            return []
        if lost < way.loss:
            counts["lost"] += 1
            return []
        delay_s = 0.0
        if detail is not None:
            if late < way.reorder:
                counts["delayed"] += 1
                delay_s = detail.uniform(0.0, way.delay_s)
            if bad < way.corrupt and data:
                counts["corrupted"] += 1
                data = _flipped(data, detail)
            if cut < way.truncate and data:
                counts["truncated"] += 1
                data = data[: detail.randrange(len(data))]
        copies = [Copy(data, delay_s)]
        if twice < way.duplicate:
            counts["duplicated"] += 1
            copies.append(Copy(data, 0.0))
        counts["passed"] += len(copies)
        return copies


class Wire(NamedTuple):
    """Faults of TCP connections, as probabilities for each piece that is read from one side."""

    refuse: float = 0.0
    """Closed right after it was accepted."""
    cut: float = 0.0
    """Closed in the middle of a piece."""
    corrupt: float = 0.0
    stall: float = 0.0
    """Nothing more is passed on, and the connection stays open."""
    delay_s: float = 0.0
    """Each piece waits for up to so long."""


class StreamPart(NamedTuple):
    """What to do with one piece: pass `data` on after a delay, and then perhaps close or fall
    silent.
    """

    data: bytes
    delay_s: float
    close: bool
    stall: bool


class StreamFaults:
    """All connections of one relay."""

    def __init__(self, seed: int, wire: Wire | None = None) -> None:
        """Start the sequence of decisions."""
        self._rng = random.Random(seed)
        self.wire = wire or Wire()
        """May be replaced at any time."""
        self.counts: Counter[str] = Counter()

    def accept(self) -> bool:
        """Whether a new connection is let through."""
        self.counts["connections"] += 1
        refused = self._rng.random() < self.wire.refuse
        self.counts["refused"] += refused
        return not refused

    def take(self, data: bytes) -> StreamPart:
        """Return what becomes of a piece."""
        rng, wire, counts = self._rng, self.wire, self.counts
        cut, bad, still, late = (rng.random() for _ in range(4))
        counts["pieces"] += 1
        counts["bytes"] += len(data)
        if bad < wire.corrupt:
            counts["corrupted"] += 1
            data = _flipped(data, random.Random(rng.getrandbits(32)))
        close, stall = cut < wire.cut, still < wire.stall
        if close:
            counts["cut"] += 1
            data = data[: rng.randrange(len(data) + 1)]
        elif stall:
            counts["stalled"] += 1
            data = b""
        return StreamPart(data, late * wire.delay_s, close, stall)


def _flipped(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for bit in rng.sample(range(8 * len(out)), rng.randint(1, min(8, 8 * len(out)))):
        out[bit // 8] ^= 1 << bit % 8
    return bytes(out)
