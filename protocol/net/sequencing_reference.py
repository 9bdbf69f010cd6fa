"""Validation and ordering of received packets in plain Python: the tests' oracle for
`protocol.net.sequencing`. Nothing in production imports it.

The rules, from the wire specification, sections 2, 5 and 6. Sans-I/O: packets and time go in,
deliveries and events come out.

- A packet is dropped, and counted, under the first check it fails (`protocol.validation`, then
  source, session, number).
- Lines (A, B) of a channel feed one state: the first copy is delivered, later ones are
  duplicates.
- The first packet of a channel sets the expected number (JOINED; `first` other than 1 =
  mid-stream).
- A newer session resets: what is held is delivered, known losses are reported, and counting
  begins at 1, or at the packet's number where that is beyond the window.
- A packet ahead of the expected one waits in the window. The oldest hole is given up (GAP) when
  a packet behind it has waited for the window's time, or a packet arrives that the window cannot
  reach.
- HEARTBEAT and SESSION_END consume no number and are delivered at once; the number they carry is
  the next to be sent, so a higher one than expected opens a hole that closes like any other.
- With `repair_ns`, and where the heartbeats name a recovery service that has the numbers, a hole
  is not given up but asked for (REPAIR): what comes behind it waits, and what the service
  returns (`repair=True`) fills it like another line, and does nothing else. The oldest hole is
  given up when it has waited for `repair_ns`, when `give_up` says that it cannot be had, or when
  more than `reach` packets wait. REPAIRED means that everything asked for before a number is
  there. Holes that become late meanwhile are asked for without waiting for their turn; those
  that cannot be asked for are given up in their turn.
- More than 2**20 ahead is no gap: two such numbers in a row are a JUMP (numbering goes on
  there), one alone is a stray.
- Numbers wrap at 2**64.
- With `keys`, a packet needs a tag under a key of its channel; a channel without keys has none
  that is right.
- A line keeps to the sender of its first packet (`learn_sources`): with a newer session the
  same host may come from another port, and, where `sources` lists who may send, another of them
  may take its place.

It does not connect to the service (`consumers.feed.recovery.client` does); unknown message types
are delivered in their place.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from tapecast.protocol.codec import auth_tag
from tapecast.protocol.fields import CHANNEL_ID
from tapecast.protocol.net.sequencing_types import (
    Delivery,
    EventKind,
    LineStats,
    SequencingEvent,
    Source,
)
from tapecast.protocol.records import HEADER_STRUCT, ITEM_STRUCT, Header, HeartbeatItem
from tapecast.protocol.schema import HEADER_SIZE, TAG_SIZE, MsgType
from tapecast.protocol.validation import MIN_ITEM, Counter, validate

__all__ = ["MAX_JUMP", "Sequencer"]

MAX_JUMP = 1 << 20
_WRAP = 1 << 64
_ALARM_NS = 1_000_000_000
_MAX_LINES = 4
_REPAIRS = 40
_REPAIR_STEPS = 32
_REPAIR_NEAR = 16
_UNSEQUENCED = (MsgType.HEARTBEAT, MsgType.SESSION_END)
_BEATS = (MsgType.HEARTBEAT, MsgType.SESSION_START, MsgType.SESSION_END)
_HEARTBEAT = ITEM_STRUCT[MsgType.HEARTBEAT]


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


class _Repair:
    def __init__(self, end: int, since_ns: int) -> None:
        self.end = end
        self.since_ns = since_ns
        self.lost = False


class _Channel:
    """`next` is delivered next; what is missing between `next` and `edge` is being repaired; the
    window begins at `edge`.
    """

    def __init__(self, channel_id: int, session: int, seq: int) -> None:
        self.channel_id = channel_id
        self.session = session
        self.next = self.edge = seq
        self.oldest_seq = 0
        self.service: Source = ("0.0.0.0", 0)  # noqa: S104 - no address yet
        self.repairable = True
        self.repairs: list[_Repair] = []
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

    `window_ns`, `window_packets`: the reorder window. `repair_ns`: how long a hole may wait for
    the recovery service; 0 = not at all. `reach`: how many packets may wait in a channel, a
    power of two. `sources`: the only addresses that may send; empty = any. `learn_sources`: each
    line of a channel keeps to the sender of its first packet. `keys`: the keys of each
    channel; none = tags are not looked at.
    """

    def __init__(
        self,
        *,
        window_ns: int = 5_000_000,
        window_packets: int = 1024,
        repair_ns: int = 0,
        reach: int = 1024,
        max_channels: int = 16,
        keys: Mapping[int, Sequence[bytes]] | None = None,
        sources: Collection[str] = (),
        learn_sources: bool = False,
    ) -> None:
        """Start with no channel known."""
        self.counters = dict.fromkeys(Counter, 0)
        self._window_ns = window_ns
        self._window_packets = window_packets
        self._repair_ns = repair_ns
        self._reach = reach
        self._max_channels = max_channels
        self._keys = dict(keys or {})
        self._sources = frozenset(sources)
        self._learn_sources = learn_sources
        self._channels: dict[int, _Channel] = {}
        self._alarm_ns: int | None = None
        self._now_ns = 0
        self._out: list[Delivery | SequencingEvent] = []
        self._delivered = 0

    def push(
        self,
        packet: bytes,
        now_ns: int,
        *,
        line: int = 0,
        source: Source = ("127.0.0.1", 0),
        truncated: bool = False,
        repair: bool = False,
    ) -> list[Delivery | SequencingEvent]:
        """Take one datagram and return what it leads to, in order. `repair`: it came from the
        recovery service.

        Expiry is left to `timer`.
        """
        self._now_ns = now_ns
        self._push(bytes(packet), line, source, truncated, repair)
        return self._drain()

    def timer(self, now_ns: int) -> list[Delivery | SequencingEvent]:
        """Ask for, or give up, every hole that has been open for its time."""
        self._now_ns = now_ns
        for channel in self._channels.values():
            while channel.repairs and channel.repairs[0].since_ns + self._repair_ns <= now_ns:
                self._give_up(channel, channel.repairs[0].end)
            while channel.tail and channel.tail[1] + self._window_ns <= now_ns:
                self._late(channel, channel.tail[0])
            while (
                oldest := self._oldest_ns(channel)
            ) is not None and oldest + self._window_ns <= now_ns:
                self._late(channel, None)
        return self._drain()

    def give_up(
        self, channel_id: int, session: int, end: int, now_ns: int
    ) -> list[Delivery | SequencingEvent]:
        """Give up what is missing and asked for before `end`, because it cannot be had."""
        self._now_ns = now_ns
        channel = self._channels.get(channel_id)
        if channel is not None and channel.session == session:
            self._give_up(channel, channel.edge if _is_behind(channel.edge, end) else end)
        return self._drain() + self.timer(now_ns)

    def repairable(self, channel_id: int, repairable: bool) -> None:
        """Note whether a channel's recovery service can be reached at present."""
        channel = self._channels.get(channel_id)
        if channel is not None:
            channel.repairable = repairable

    def next_deadline(self) -> int | None:
        """Return when `timer` is due; None = nothing waits."""
        channels = self._channels.values()
        waiting = [c.tail[1] + self._window_ns for c in channels if c.tail]
        waiting += [
            oldest + self._window_ns for c in channels if (oldest := self._oldest_ns(c)) is not None
        ]
        waiting += [c.repairs[0].since_ns + self._repair_ns for c in channels if c.repairs]
        return min(waiting, default=None)

    def line_stats(self, channel_id: int) -> list[LineStats]:
        """Return what each line of a channel brought in the current session."""
        out = []
        for line in self._channels[channel_id].lines.values():
            passed = (line.highest - line.base + 1) % _WRAP if line.received else 0
            out.append(LineStats(line.line, line.received, max(0, passed - line.received)))
        return out

    def _drain(self) -> list[Delivery | SequencingEvent]:
        out, self._out = self._out, []
        self._delivered = 0
        return out

    def _deliver(self, packet: bytes, line: int, held: bool = False) -> None:
        self._out.append(Delivery(packet, line, held))
        self._delivered += 1
        self.counters[Counter.DELIVERED] += 1

    def _report(
        self,
        kind: EventKind,
        channel: _Channel,
        first: int,
        count: int = 0,
        source: Source | None = None,
    ) -> None:
        self._out.append(
            SequencingEvent(
                kind, channel.channel_id, channel.session, first, count, self._delivered, 0, source
            )
        )

    def _push(
        self, packet: bytes, line_index: int, source: Source, truncated: bool, repair: bool
    ) -> None:
        self.counters[Counter.RECEIVED] += 1
        reason = validate(packet, truncated=truncated, auth_required=bool(self._keys))
        if reason is None and self._keys and not self._is_authentic(packet):
            reason = Counter.BAD_AUTH
        if reason is not None:
            self.counters[reason] += 1
            return
        header = Header._make(HEADER_STRUCT.unpack_from(packet))
        msg_type, session = header.msg_type, header.session
        channel_id, seq = header.channel_id, header.channel_seq
        if repair:
            self._mend(packet, msg_type, session, channel_id, seq, line_index)
            return
        if self._sources and source[0] not in self._sources:
            self._other_source(channel_id, session, seq, line_index, source)
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
            self._other_source(channel_id, session, seq, line_index, source)
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
        if msg_type in _BEATS and header.item_count:
            beat = HeartbeatItem._make(_HEARTBEAT.unpack_from(packet, HEADER_SIZE))
            channel.oldest_seq, port = beat.oldest_seq, beat.recovery_port
            if not channel.service[1] or line is next(iter(channel.lines.values())):
                channel.service = (source[0], port)
        if msg_type in _UNSEQUENCED:
            self._announce(channel, packet, msg_type, seq, line, line_index)
            return
        if msg_type not in MIN_ITEM:
            self.counters[Counter.UNKNOWN_TYPE] += 1
        self._order(channel, packet, seq, line, line_index)

    def _mend(
        self, packet: bytes, msg_type: int, session: int, channel_id: int, seq: int, line: int
    ) -> None:
        channel = self._channels.get(channel_id)
        if (
            channel is None
            or session != channel.session
            or msg_type in _UNSEQUENCED
            or not _is_behind(seq, channel.edge)
        ):
            self.counters[Counter.UNASKED] += 1
        elif _is_behind(seq, channel.next):
            self.counters[Counter.DUPLICATE] += 1
        else:
            self._place(channel, packet, seq, line, repair=True)

    def _is_authentic(self, packet: bytes) -> bool:
        accepted = self._keys.get(HEADER_STRUCT.unpack_from(packet)[CHANNEL_ID], ())
        return any(
            hmac.compare_digest(auth_tag(packet[:-TAG_SIZE], key), packet[-TAG_SIZE:])
            for key in accepted
        )

    def _is_expected(
        self, channel: _Channel, line: _Line | None, session: int, source: Source
    ) -> bool:
        if line is None:
            return len(channel.lines) < _MAX_LINES
        newer = session > channel.session
        host = line.address in (None, source[0]) or (newer and bool(self._sources))
        return host and (line.port in (0, source[1]) or newer)

    def _other_source(
        self, channel_id: int, session: int, seq: int, line: int, source: Source
    ) -> None:
        self.counters[Counter.OTHER_SOURCE] += 1
        if self._alarm_ns is not None and self._now_ns - self._alarm_ns < _ALARM_NS:
            return
        self._alarm_ns = self._now_ns
        self._out.append(
            SequencingEvent(
                EventKind.OTHER_SOURCE, channel_id, session, seq, 0, self._delivered, line, source
            )
        )

    def _new_session(self, channel: _Channel, session: int, seq: int) -> None:
        self._flush(channel)
        previous, channel.session = channel.session, session
        channel.next = channel.edge = 1 if (seq - 1) % _WRAP < self._window_packets else seq
        channel.service = (channel.service[0], 0)
        channel.tail = channel.end_seq = channel.candidate = None
        channel.ended = False
        for line in channel.lines.values():
            line.received = line.port = 0
            if self._sources:
                line.address = None
        self._report(EventKind.NEW_SESSION, channel, channel.next, previous)
        self.counters[Counter.SESSIONS] += 1

    def _announce(
        self,
        channel: _Channel,
        packet: bytes,
        msg_type: int,
        seq: int,
        line: _Line | None,
        line_index: int,
    ) -> None:
        far = not _is_behind(seq, channel.next) and (seq - channel.next) % _WRAP > MAX_JUMP
        if far and not self._confirm_jump(channel, seq, seq):
            return
        self.counters[Counter.UNSEQUENCED] += 1
        self._deliver(packet, line_index)
        last = (seq - 1) % _WRAP
        if line and line.received and not _is_behind(last, line.highest):
            line.highest = last
        if seq != channel.edge and not _is_behind(seq, channel.edge) and channel.tail is None:
            channel.tail = (seq, self._now_ns)
        if msg_type == MsgType.SESSION_END and channel.end_seq is None and not channel.ended:
            channel.end_seq = seq
            self._check_end(channel)

    def _order(
        self, channel: _Channel, packet: bytes, seq: int, line: _Line | None, line_index: int
    ) -> None:
        if _is_behind(seq, channel.next):
            if line:
                line.count(seq)
            self.counters[Counter.DUPLICATE] += 1
            return
        if (seq - channel.next) % _WRAP > MAX_JUMP and not self._confirm_jump(
            channel, seq, (seq + 1) % _WRAP
        ):
            return
        if line:
            line.count(seq)
        self._place(channel, packet, seq, line_index)

    def _place(
        self, channel: _Channel, packet: bytes, seq: int, line: int, *, repair: bool = False
    ) -> None:
        while (seq - channel.next) % _WRAP >= self._reach:
            self._close_hole(channel, seq)
        while (
            not _is_behind(seq, channel.edge)
            and (seq - channel.edge) % _WRAP >= self._window_packets
        ):
            self._late(channel, seq)
        if seq in channel.held:
            self.counters[Counter.DUPLICATE] += 1
            return
        self.counters[Counter.REPAIRED] += repair
        if seq != channel.next:
            channel.held[seq] = _Held(packet, line, self._now_ns)
            self.counters[Counter.HELD] += 1
            self._move_edge(channel, channel.edge)
            return
        self._deliver(packet, line)
        channel.next = (seq + 1) % _WRAP
        self._advance(channel)

    def _late(self, channel: _Channel, bound: int | None) -> None:
        """Ask for the hole at the edge; where that cannot help give it up, at once or after the
        repairs before it.
        """
        end = self._hole_end(channel, channel.edge, bound)
        served = (
            self._repair_ns > 0
            and channel.service[1] > 0
            and channel.repairable
            and channel.oldest_seq > 0
            and (end - channel.next) % _WRAP < self._reach
        )
        if served and _is_behind(channel.edge, channel.oldest_seq):
            served = False
            if _is_behind(channel.oldest_seq, end):
                end = channel.oldest_seq
        if not served and channel.edge == channel.next:
            self._close_hole(channel, end)
            return
        if served:
            self._ask(channel, end)
        last = channel.repairs[-1] if channel.repairs else None
        if last and (
            self._now_ns - last.since_ns <= self._repair_ns // _REPAIR_STEPS
            or len(channel.repairs) == _REPAIRS
        ):
            last.end = end
        else:
            channel.repairs.append(_Repair(end, self._now_ns))
        self._move_edge(channel, end)

    def _ask(self, channel: _Channel, end: int) -> None:
        last = self._out[-1] if self._out else None
        if (
            isinstance(last, SequencingEvent)
            and (last.kind, last.channel_id, last.session)
            == (EventKind.REPAIR, channel.channel_id, channel.session)
            and (channel.edge - last.first - last.count) % _WRAP < _REPAIR_NEAR
        ):
            self._out[-1] = msgspec.structs.replace(last, count=(end - last.first) % _WRAP)
        else:
            self._report(
                EventKind.REPAIR,
                channel,
                channel.edge,
                (end - channel.edge) % _WRAP,
                channel.service,
            )

    def _move_edge(self, channel: _Channel, end: int) -> None:
        while end in channel.held:
            end = (end + 1) % _WRAP
        channel.edge = end
        if channel.tail and not _is_behind(end, channel.tail[0]):
            channel.tail = None

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
        channel.next = channel.edge = seq
        self._check_end(channel)
        return True

    @staticmethod
    def _hole_end(channel: _Channel, first: int, bound: int | None) -> int:
        """Return where the hole at `first` ends: at the first held packet behind it, or at
        `bound` where that comes first.
        """
        ends = [seq for seq in channel.held if _is_behind(first, seq)] + (
            [bound] if bound is not None else []
        )
        return min(ends, key=lambda end: (end - first) % _WRAP)

    def _close_hole(self, channel: _Channel, bound: int | None) -> None:
        """Give up the oldest hole: up to the first held packet, or to `bound` where that comes
        first.
        """
        end = self._hole_end(channel, channel.next, bound)
        count = (end - channel.next) % _WRAP
        for repair in channel.repairs:
            repair.lost = True
            if not _is_behind(repair.end, end):
                break
        self._report(EventKind.GAP, channel, channel.next, count)
        self.counters[Counter.GAPS] += 1
        self.counters[Counter.MISSING] += count
        channel.next = end
        self._advance(channel)

    def _give_up(self, channel: _Channel, end: int) -> None:
        while _is_behind(channel.next, end):
            self._close_hole(channel, end)

    def _advance(self, channel: _Channel) -> None:
        while (held := channel.held.pop(channel.next, None)) is not None:
            self._deliver(held.packet, held.line, held=True)
            channel.next = (channel.next + 1) % _WRAP
        self._move_edge(
            channel, channel.next if _is_behind(channel.edge, channel.next) else channel.edge
        )
        while channel.repairs and not _is_behind(channel.next, channel.repairs[0].end):
            repair = channel.repairs.pop(0)
            if not repair.lost:
                self._report(
                    EventKind.REPAIRED, channel, repair.end, max(0, self._now_ns - repair.since_ns)
                )
        self._check_end(channel)

    def _check_end(self, channel: _Channel) -> None:
        if channel.end_seq is not None and not _is_behind(channel.next, channel.end_seq):
            channel.end_seq = None
            channel.ended = True
            self._report(EventKind.SESSION_END, channel, channel.next)

    def _flush(self, channel: _Channel) -> None:
        while channel.held:
            self._close_hole(channel, None)
        self._give_up(channel, channel.edge)
        while channel.tail:
            self._close_hole(channel, channel.tail[0])

    @staticmethod
    def _oldest_ns(channel: _Channel) -> int | None:
        """Return since when the window has held a packet behind a hole that has not been asked
        for.
        """
        beyond = [
            held.arrival_ns for seq, held in channel.held.items() if _is_behind(channel.edge, seq)
        ]
        return min(beyond, default=None)
