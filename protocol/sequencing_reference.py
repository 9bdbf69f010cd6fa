"""Validation and ordering of received packets in plain Python: the reference for `protocol.sequencing`, and its tests' oracle.

The rules, from the wire specification, sections 2, 5 and 6. Sans-I/O: packets and time go in, deliveries and events come out.

- A packet is dropped, and counted, under the first check it fails (`protocol.validation`, then source, session, number).
- Lines (A, B) of a channel feed one state: the first copy is delivered, later ones are duplicates.
- The first packet of a channel sets the expected number (JOINED; `first` other than 1 = mid-stream).
- A newer session resets: what is held is delivered, known losses are reported, and counting begins at 1, or at the packet's
  number where that is beyond the window.
- A packet ahead of the expected one waits in the window. The oldest hole is given up (GAP) when a packet behind it has waited
  for the window's time, or a packet arrives that the window cannot reach.
- HEARTBEAT and SESSION_END consume no number and are delivered at once; the number they carry is the next to be sent, so a
  higher one than expected opens a hole that closes like any other.
- More than 2**20 ahead is no gap: two such numbers in a row are a JUMP (numbering goes on there), one alone is a stray.
- Numbers wrap at 2**64.
- With `keys`, a packet needs a tag under a key of its channel; a channel without keys has none that is right.
- A line keeps to the sender it was first heard from (`learn_sources`): with a newer session the same host may come from another
  port, and, where `sources` lists who may send, another of them may take its place.

It does not repair gaps; unknown message types are delivered in their place.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

import msgspec

from protocol.codec import auth_tag
from protocol.schema import TAG_SIZE, MsgType
from protocol.validation import HEADER_STRUCT, MIN_ITEM, Counter, validate

__all__ = ["MAX_JUMP", "Delivery", "Event", "EventKind", "LineStats", "Sequencer", "Source"]

MAX_JUMP = 1 << 20
_WRAP = 1 << 64
_ALARM_NS = 1_000_000_000
_MAX_LINES = 4
_UNSEQUENCED = (MsgType.HEARTBEAT, MsgType.SESSION_END)

Source = tuple[str, int]
"""Address and port of a sender."""


class EventKind(IntEnum):
    """What happened to a channel.

    JOINED: `first` is the first packet's number. NEW_SESSION: numbering goes on at `first`; `count` is the old session.
    GAP: `count` packets from `first` on are missing. JUMP: the same, but too many to ask for. SESSION_END: the publisher stopped
    before `first`. OTHER_SOURCE: an alarm, at most one a second: a sender that is not the channel's sent number `first`.
    """

    JOINED = 1
    NEW_SESSION = 2
    GAP = 3
    JUMP = 4
    SESSION_END = 5
    OTHER_SOURCE = 6


class Event(msgspec.Struct, frozen=True, gc=False):
    """A change of a channel's state, in its place among the deliveries: after the first `position` of its call.

    `line` and `source` are set for OTHER_SOURCE only.
    """

    kind: EventKind
    channel_id: int
    session: int
    first: int
    count: int
    position: int
    line: int = 0
    source: Source | None = None


class Delivery(NamedTuple):
    """A packet in its place. `held`: it waited in the window."""

    packet: bytes
    line: int
    held: bool


class LineStats(NamedTuple):
    """One line's numbers in the current session.

    `lost` is an estimate: numbers passed minus packets received, duplicates included.
    """

    line: int
    received: int
    lost: int


class _Held(NamedTuple):
    packet: bytes
    line: int
    arrival_ns: int


class _Line:
    def __init__(self, line: int) -> None:
        self.line = line
        self.address: str | None = None
        self.port = 0
        self.base = self.highest = self.received = 0

    def count(self, seq: int) -> None:
        if self.received and _is_behind(seq, self.base):
            return
        self.received += 1
        if self.received == 1:
            self.base = self.highest = seq
        elif not _is_behind(seq, self.highest):
            self.highest = seq


class _Channel:
    def __init__(self, channel_id: int, session: int, seq: int) -> None:
        self.channel_id = channel_id
        self.session = session
        self.next = seq
        self.held: dict[int, _Held] = {}
        self.tail: tuple[int, int] | None = None
        self.end_seq: int | None = None
        self.ended = False
        self.candidate: int | None = None
        self.lines: dict[int, _Line] = {}


def _is_behind(seq: int, other: int) -> bool:
    return (seq - other) % _WRAP >= 1 << 63


class Sequencer:
    """The machine. Times are monotonic ns and must not go back.

    `window_ns`, `window_packets`: the reorder window. `sources`: the only addresses to listen to; empty = any. `learn_sources`:
    each line of a channel keeps to the sender it was first heard from. `keys`: the keys of each channel; none = tags are not
    looked at.
    """

    def __init__(
        self,
        *,
        window_ns: int = 5_000_000,
        window_packets: int = 1024,
        max_channels: int = 16,
        keys: Mapping[int, Sequence[bytes]] | None = None,
        sources: Collection[str] = (),
        learn_sources: bool = False,
    ) -> None:
        """Start with no channel known."""
        self.counters = dict.fromkeys(Counter, 0)
        self._window_ns = window_ns
        self._window_packets = window_packets
        self._max_channels = max_channels
        self._keys = dict(keys or {})
        self._sources = frozenset(sources)
        self._learn_sources = learn_sources
        self._channels: dict[int, _Channel] = {}
        self._alarm_ns: int | None = None
        self._out: list[Delivery | Event] = []
        self._delivered = 0

    def push(
        self, packet: bytes, now_ns: int, *, line: int = 0, source: Source = ("127.0.0.1", 0), truncated: bool = False
    ) -> list[Delivery | Event]:
        """Take one datagram and return what it leads to, in order. Expiry is left to `timer`."""
        self._push(bytes(packet), now_ns, line, source, truncated)
        return self._drain()

    def timer(self, now_ns: int) -> list[Delivery | Event]:
        """Give up every hole that has been open for the window's time."""
        for channel in self._channels.values():
            while channel.tail and channel.tail[1] + self._window_ns <= now_ns:
                self._close_hole(channel, channel.tail[0])
            while channel.held and self._oldest_ns(channel) + self._window_ns <= now_ns:
                self._close_hole(channel, None)
        return self._drain()

    def next_deadline(self) -> int | None:
        """Return when `timer` is due; None = nothing waits."""
        waiting = [c.tail[1] for c in self._channels.values() if c.tail]
        waiting += [self._oldest_ns(c) for c in self._channels.values() if c.held]
        return min(waiting) + self._window_ns if waiting else None

    def line_stats(self, channel_id: int) -> list[LineStats]:
        """Return what each line of a channel brought in the current session."""
        out = []
        for line in self._channels[channel_id].lines.values():
            passed = (line.highest - line.base + 1) % _WRAP if line.received else 0
            out.append(LineStats(line.line, line.received, max(0, passed - line.received)))
        return out

    def _drain(self) -> list[Delivery | Event]:
        out, self._out = self._out, []
        self._delivered = 0
        return out

    def _deliver(self, packet: bytes, line: int, held: bool = False) -> None:
        self._out.append(Delivery(packet, line, held))
        self._delivered += 1
        self.counters[Counter.DELIVERED] += 1

    def _report(self, kind: EventKind, channel: _Channel, first: int, count: int = 0) -> None:
        self._out.append(Event(kind, channel.channel_id, channel.session, first, count, self._delivered))

    def _push(self, packet: bytes, now_ns: int, line_index: int, source: Source, truncated: bool) -> None:
        self.counters[Counter.RECEIVED] += 1
        reason = validate(packet, truncated=truncated, auth_required=bool(self._keys))
        if reason is None and self._keys and not self._is_authentic(packet):
            reason = Counter.BAD_AUTH
        if reason is not None:
            self.counters[reason] += 1
            return
        fields = HEADER_STRUCT.unpack_from(packet)
        msg_type, session, channel_id, seq = fields[2], fields[6], fields[7], fields[10]
        if self._sources and source[0] not in self._sources:
            self._other_source(channel_id, session, seq, now_ns, line_index, source)
            return
        channel = self._channels.get(channel_id)
        if channel is None:
            if len(self._channels) == self._max_channels:
                self.counters[Counter.CHANNEL_LIMIT] += 1
                return
            channel = self._channels[channel_id] = _Channel(channel_id, session, seq)
            self._report(EventKind.JOINED, channel, seq)
        line = channel.lines.get(line_index)
        if self._learn_sources and not self._is_expected(channel, line, session, source):
            self._other_source(channel_id, session, seq, now_ns, line_index, source)
            return
        if session < channel.session:
            self.counters[Counter.OLD_SESSION] += 1
            return
        if session > channel.session:
            self._new_session(channel, session, seq)
        if line is None and len(channel.lines) < _MAX_LINES:
            line = channel.lines[line_index] = _Line(line_index)
        if line is not None:
            line.address, line.port = source
        if msg_type in _UNSEQUENCED:
            self._announce(channel, packet, msg_type, seq, line, line_index, now_ns)
            return
        if msg_type not in MIN_ITEM:
            self.counters[Counter.UNKNOWN_TYPE] += 1
        self._order(channel, packet, seq, line, line_index, now_ns)

    def _is_authentic(self, packet: bytes) -> bool:
        accepted = self._keys.get(HEADER_STRUCT.unpack_from(packet)[7], ())
        return any(hmac.compare_digest(auth_tag(packet[:-TAG_SIZE], key), packet[-TAG_SIZE:]) for key in accepted)

    def _is_expected(self, channel: _Channel, line: _Line | None, session: int, source: Source) -> bool:
        if line is None:
            return len(channel.lines) < _MAX_LINES
        newer = session > channel.session
        host = line.address in (None, source[0]) or (newer and bool(self._sources))
        return host and (line.port in (0, source[1]) or newer)

    def _other_source(self, channel_id: int, session: int, seq: int, now_ns: int, line: int, source: Source) -> None:
        self.counters[Counter.OTHER_SOURCE] += 1
        if self._alarm_ns is not None and now_ns - self._alarm_ns < _ALARM_NS:
            return
        self._alarm_ns = now_ns
        self._out.append(Event(EventKind.OTHER_SOURCE, channel_id, session, seq, 0, self._delivered, line, source))

    def _new_session(self, channel: _Channel, session: int, seq: int) -> None:
        self._flush(channel)
        previous, channel.session = channel.session, session
        channel.next = 1 if (seq - 1) % _WRAP < self._window_packets else seq
        channel.tail = channel.end_seq = channel.candidate = None
        channel.ended = False
        for line in channel.lines.values():
            line.received = line.port = 0
            if self._sources:
                line.address = None
        self._report(EventKind.NEW_SESSION, channel, channel.next, previous)
        self.counters[Counter.SESSIONS] += 1

    def _announce(
        self, channel: _Channel, packet: bytes, msg_type: int, seq: int, line: _Line | None, line_index: int, now_ns: int
    ) -> None:
        far = not _is_behind(seq, channel.next) and (seq - channel.next) % _WRAP > MAX_JUMP
        if far and not self._confirm_jump(channel, seq, seq):
            return
        self.counters[Counter.UNSEQUENCED] += 1
        self._deliver(packet, line_index)
        last = (seq - 1) % _WRAP
        if line and line.received and not _is_behind(last, line.highest):
            line.highest = last
        if seq != channel.next and not _is_behind(seq, channel.next) and channel.tail is None:
            channel.tail = (seq, now_ns)
        if msg_type == MsgType.SESSION_END and channel.end_seq is None and not channel.ended:
            channel.end_seq = seq
            self._check_end(channel)

    def _order(self, channel: _Channel, packet: bytes, seq: int, line: _Line | None, line_index: int, now_ns: int) -> None:
        if _is_behind(seq, channel.next):
            if line:
                line.count(seq)
            self.counters[Counter.DUPLICATE] += 1
            return
        if (seq - channel.next) % _WRAP > MAX_JUMP and not self._confirm_jump(channel, seq, (seq + 1) % _WRAP):
            return
        if line:
            line.count(seq)
        while (seq - channel.next) % _WRAP >= self._window_packets:
            self._close_hole(channel, seq)
        if seq != channel.next:
            if seq in channel.held:
                self.counters[Counter.DUPLICATE] += 1
            else:
                channel.held[seq] = _Held(packet, line_index, now_ns)
                self.counters[Counter.HELD] += 1
            return
        self._deliver(packet, line_index)
        channel.next = (seq + 1) % _WRAP
        self._advance(channel)

    def _confirm_jump(self, channel: _Channel, seq: int, then: int) -> bool:
        if seq != channel.candidate:
            channel.candidate = then
            self.counters[Counter.JUMP_UNCONFIRMED] += 1
            return False
        channel.candidate = None
        self._flush(channel)
        self._report(EventKind.JUMP, channel, channel.next, (seq - channel.next) % _WRAP)
        self.counters[Counter.JUMPS] += 1
        for line in channel.lines.values():
            line.received = 0
        channel.next = seq
        self._check_end(channel)
        return True

    def _close_hole(self, channel: _Channel, bound: int | None) -> None:
        """Give up the oldest hole: up to the first held packet, or to `bound` where that comes first."""
        ends = list(channel.held) + ([bound] if bound is not None else [])
        count = min((end - channel.next) % _WRAP for end in ends)
        self._report(EventKind.GAP, channel, channel.next, count)
        self.counters[Counter.GAPS] += 1
        self.counters[Counter.MISSING] += count
        channel.next = (channel.next + count) % _WRAP
        self._advance(channel)

    def _advance(self, channel: _Channel) -> None:
        while (held := channel.held.pop(channel.next, None)) is not None:
            self._deliver(held.packet, held.line, held=True)
            channel.next = (channel.next + 1) % _WRAP
        if channel.tail and not _is_behind(channel.next, channel.tail[0]):
            channel.tail = None
        self._check_end(channel)

    def _check_end(self, channel: _Channel) -> None:
        if channel.end_seq is not None and not _is_behind(channel.next, channel.end_seq):
            channel.end_seq = None
            channel.ended = True
            self._report(EventKind.SESSION_END, channel, channel.next)

    def _flush(self, channel: _Channel) -> None:
        while channel.held:
            self._close_hole(channel, None)
        while channel.tail:
            self._close_hole(channel, channel.tail[0])

    @staticmethod
    def _oldest_ns(channel: _Channel) -> int:
        return min(held.arrival_ns for held in channel.held.values())
