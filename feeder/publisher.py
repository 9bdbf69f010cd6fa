"""The publisher of one channel: stamps finished packets and sends them, and says what a late or lossy receiver needs to know.

It owns the session epoch, the channel's sequence and the per-instrument sequences. Sessions begin with SESSION_START (sequence 1)
and end with SESSION_END; heartbeats carry the next sequence, so a lost last packet shows. What instruments and books to repeat
comes from the venue's session; the publisher decides only when (`Cycle`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from protocol.codec import encode
from protocol.records import Header, HeartbeatItem
from protocol.schema import MsgType
from protocol.stamp import COLUMNS, Mode, stamp

__all__ = ["Cycle", "MemoryLine", "Line", "Publisher", "next_epoch"]

_SECOND = 1_000_000_000
_END_REPEATS_NS = 5 * _SECOND


class Line(Protocol):
    """Where packets go: a multicast sender, or memory."""

    def send(self, buffer: memoryview, nbytes: int) -> int:
        """Send the contiguous packets of `buffer[:nbytes]`; returns how many were handed over."""
        ...


class MemoryLine:
    """Keeps packets instead of sending them; for decoding and tests. `take` returns and clears them."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def send(self, buffer: memoryview, nbytes: int) -> int:
        """Keep a copy."""
        self._parts.append(bytes(buffer[:nbytes]))
        return 0

    def take(self) -> bytes:
        """Return what was sent since the last call, contiguous."""
        out = b"".join(self._parts)
        self._parts.clear()
        return out


class Cycle:
    """Spreads a repeated task over a period: `due` says how many of `count` steps are to be done now."""

    __slots__ = ("_done", "_period_ns", "_start_ns")

    def __init__(self, period_s: float, now_ns: int) -> None:
        self._period_ns = int(period_s * _SECOND)
        self._start_ns = now_ns
        self._done = 0

    def due(self, count: int, now_ns: int) -> range:
        """Return the indices (0 to count - 1) to handle now; each comes once a period. Period 0: never."""
        if self._period_ns <= 0 or count == 0:
            return range(0)
        elapsed = now_ns - self._start_ns
        if elapsed >= self._period_ns:
            first, self._done = self._done, 0
            self._start_ns = now_ns
            return range(first, count)
        first = self._done
        self._done = max(first, min(count, count * elapsed // self._period_ns))
        return range(first, self._done)


def next_epoch(state_dir: Path, channel_id: int, now_s: int) -> int:
    """Return the session of a starting publisher, max(last stored + 1, unix seconds), and store it durably.

    Raises OSError if `state_dir` cannot be written: without it two sessions could be taken for one.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    path = state_dir / f"session-{channel_id}"
    stored = path.read_text().strip() if path.exists() else ""
    epoch = max(int(stored) + 1 if stored.isdigit() else 0, now_s)
    partial = path.with_suffix(".new")
    with partial.open("w") as file:
        file.write(f"{epoch}\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return epoch


class Publisher:
    """Stamps and sends the packets of one channel over one or two lines."""

    def __init__(
        self, lines: tuple[Line, ...], *, venue_id: int, channel_id: int, session: int, base_flags: int, clock_ns: Callable[[], int]
    ) -> None:
        self._lines = lines
        self._clock_ns = clock_ns
        self._header = Header(channel_id=channel_id, venue_id=venue_id, flags=base_flags, session=session)
        self._seqs = np.zeros((64, COLUMNS), np.uint32)
        self.session = session
        self.next_seq = 1
        self.packets = 0
        self.bytes = 0
        self.last_sent_ns = 0

    def instruments(self, count: int) -> None:
        """Make room for the sequences of `count` instruments; call whenever instruments were added."""
        while count > len(self._seqs):
            self._seqs = np.concatenate((self._seqs, np.zeros_like(self._seqs)))

    def publish(self, buffer: memoryview, nbytes: int) -> None:
        """Stamp the packets of `buffer[:nbytes]` in place and send them."""
        self._send(buffer, nbytes, Mode.NEXT)

    def repeat(self, packets: bytes) -> None:
        """Send packets that carry no new event (definitions, cycle snapshots): their instrument sequence is the last one used."""
        if packets:
            self._send(memoryview(bytearray(packets)), len(packets), Mode.KEEP)

    def start(self, beat: HeartbeatItem) -> None:
        """Open the session."""
        packets = b"".join(encode(self._header._replace(msg_type=MsgType.SESSION_START), (beat,)))
        self._send(memoryview(bytearray(packets)), len(packets), Mode.NEXT)

    def heartbeat(self, beat: HeartbeatItem) -> None:
        """Send a heartbeat: the next sequence, which it does not consume."""
        self._unsequenced(MsgType.HEARTBEAT, beat)

    def end(self, beat: HeartbeatItem) -> None:
        """Say that the session is over; the caller repeats it."""
        self._unsequenced(MsgType.SESSION_END, beat)

    def _unsequenced(self, msg_type: MsgType, beat: HeartbeatItem) -> None:
        header = self._header._replace(msg_type=msg_type, channel_seq=self.next_seq, ts_send_ns=self._clock_ns())
        packet = b"".join(encode(header, (beat,)))
        for line in self._lines:
            line.send(memoryview(packet), len(packet))
        self.last_sent_ns = header.ts_send_ns

    def _send(self, buffer: memoryview, nbytes: int, mode: Mode) -> None:
        now_ns = self._clock_ns()
        count = stamp(
            buffer, nbytes, session=self.session, next_seq=self.next_seq, seqs=self._seqs, mode=mode, ts_send_ns=now_ns
        )
        self.next_seq += count
        self.packets += count
        self.bytes += nbytes
        self.last_sent_ns = now_ns
        for line in self._lines:
            line.send(buffer, nbytes)
