"""One channel's conversation with its recovery service, without I/O: wants and bytes in, bytes,
packets and refusals out.

What to ask for comes from `protocol.net.sequencing` (ranges of lost packets) and
`consumers.feed.engine` (definitions, books). Requests wait a random moment, so that not all
receivers ask at once; a few are under way at a time, and the service answers them in their order
(wire specification, section 8). A service that lies, stalls, sends junk or has another session
costs the repair and nothing else: the client drops it, counts that, and leaves it alone for a
time that grows; meanwhile `available` is False, so that holes need not wait for it.

The shell (`consumers.feed.recovery.socket`) opens the connection when `phase` is CONNECTING, and
closes it in any phase but OPEN.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from tapecast.protocol.codec import WireError, validate
from tapecast.protocol.net.sequencing_types import Source
from tapecast.protocol.records import HEADER_STRUCT, Header, RequestItem
from tapecast.protocol.recovery import MAX_RANGE, decode_reply, encode_request, first_packet
from tapecast.protocol.schema import Flag, MsgType, ReplyStatus, RequestKind

__all__ = ["Answer", "Options", "Phase", "RecoveryClient", "Request"]

_PIPELINE: Final = 8
"""Requests under way at a time."""
_MANY: Final = 64
"""More books than this are asked for all at once."""
_ENOUGH: Final = 4096
"""States that wait for the engine; while there are more, nothing is read."""
_STATES: Final = frozenset({MsgType.INSTRUMENT, MsgType.BOOK, MsgType.STATUS, MsgType.TICK_TABLE})
_REPEATED: Final = Flag.SNAPSHOT | Flag.RECOVERED
"""What the last packets of a derived channel carry, whatever their type."""


class Options(NamedTuple):
    """Limits of a client, nanoseconds."""

    repair_ns: int = 200_000_000
    """How long an answer to a range may take; the sequencer gives the hole up then."""
    jitter_ns: int = 4_000_000
    """Requests wait for a random part of this."""
    connect_ns: int = 1_000_000_000
    silence_ns: int = 3_000_000_000
    """How long the service may be silent in an answer with definitions or books."""
    pause_ns: int = 500_000_000
    """First pause after a failure; each further one doubles it, up to `longest_pause_ns`."""
    longest_pause_ns: int = 30_000_000_000


class Phase(Enum):
    """How the connection stands."""

    IDLE = "idle"
    CONNECTING = "connecting"
    OPEN = "open"
    PAUSED = "paused"


class Request(NamedTuple):
    """One request. `due_ns`: not before; `until_ns`: not after, 0 = whenever."""

    kind: RequestKind
    first: int
    packets: int
    instrument_id: int
    due_ns: int
    until_ns: int


class Answer(NamedTuple):
    """How a request for definitions or books went."""

    kind: RequestKind
    instrument_id: int
    status: int


class RecoveryClient:
    """The client of one channel. Times are monotonic ns; `chance` returns numbers from 0 to 1."""

    def __init__(
        self,
        channel_id: int,
        venue_id: int,
        options: Options = Options(),  # noqa: B008 - a tuple
        *,
        chance: Callable[[], float],
        keys: Sequence[bytes] = (),
    ) -> None:
        """Know no service. With `keys`, the first tags requests, and an answer without a right
        tag is junk.
        """
        self.address: Source | None = None
        self.phase = Phase.IDLE
        self.session = 0
        self.counts: Counter[str] = Counter()
        """requests, answers, busy, overruns, refused, failures, junk; packets and bytes that
        came.
        """
        self.mended: list[bytes] = []
        """Packets of ranges, for the sequencer."""
        self.states: list[bytes] = []
        """Definitions, books and statuses, for the engine."""
        self.answers: list[Answer] = []
        self.refused: list[int] = []
        """Numbers before which nothing that is missing can be had."""
        self._header = Header(channel_id=channel_id, venue_id=venue_id)
        self._options = options
        self._chance = chance
        self._keys = keys
        self._waiting: deque[Request] = deque()
        self._asked: deque[tuple[int, Request]] = deque()
        self._served = 0
        self._input = bytearray()
        self._output = bytearray()
        self._next_id = 1
        self._phase_ns = 0
        self._received_ns = 0
        self._failures = 0

    @property
    def available(self) -> bool:
        """Whether it is worth asking."""
        return self.address is not None and self.phase is not Phase.PAUSED

    @property
    def busy(self) -> bool:
        """Whether something is under way or waits."""
        return bool(self._waiting or self._asked or self._output)

    @property
    def full(self) -> bool:
        """Whether the engine has to catch up before more is read."""
        return len(self.states) > _ENOUGH

    def serve(self, address: Source | None, session: int, now_ns: int) -> None:
        """Note where a session's service is, and forget what was asked of another session or
        place.
        """
        if (address, session) == (self.address, self.session):
            return
        if session != self.session or address is None:
            self._waiting.clear()
            self.states.clear()
            self.mended.clear()
        self.address, self.session = address, session
        self._failures = 0
        self._drop(Phase.IDLE, now_ns)

    def range(self, first: int, count: int, now_ns: int) -> None:
        """Ask for lost packets."""
        until_ns = now_ns + self._options.repair_ns
        due_ns = self._jittered(now_ns)
        for start in range(0, count, MAX_RANGE):
            part = min(MAX_RANGE, count - start)
            self._waiting.append(
                Request(RequestKind.RANGE, (first + start) % 2**64, part, 0, due_ns, until_ns)
            )

    def definitions(self, now_ns: int) -> None:
        """Ask for all definitions."""
        self._want(RequestKind.DEFINITIONS, 0, now_ns)

    def book(self, instrument_id: int, now_ns: int) -> None:
        """Ask for the book of an instrument, 0 = of all; many single ones become all."""
        queued = [item for item in self._waiting if item.kind is RequestKind.SNAPSHOT]
        if any(item.instrument_id == 0 for item in queued):
            return
        if len(queued) >= _MANY:
            instrument_id = 0
        if instrument_id == 0:
            self._waiting = deque(
                item for item in self._waiting if item.kind is not RequestKind.SNAPSHOT
            )
        self._want(RequestKind.SNAPSHOT, instrument_id, now_ns)

    def timer(self, now_ns: int) -> None:
        """Let time pass: connect, send what is due, and give up what takes too long."""
        while self._waiting and 0 < self._waiting[0].until_ns <= now_ns:
            self._waiting.popleft()
        if self.phase is Phase.PAUSED and now_ns >= self._phase_ns:
            self.phase = Phase.IDLE
        due = bool(self._waiting) and self._waiting[0].due_ns <= now_ns
        if self.phase is Phase.IDLE and due and self.address is not None:
            self.phase, self._phase_ns = Phase.CONNECTING, now_ns
        elif self.phase is Phase.CONNECTING and now_ns - self._phase_ns > self._options.connect_ns:
            self.failed(now_ns)
        elif self.phase is Phase.OPEN:
            if self.full:
                self._received_ns = now_ns
            if self._asked and now_ns - self._received_ns > self._patience_ns():
                self.failed(now_ns)
            else:
                self._send(now_ns)

    def next_deadline(self) -> int | None:
        """Return when `timer` is due; None = nothing waits for time."""
        if self.phase is Phase.PAUSED:
            return self._phase_ns
        if self.phase is Phase.CONNECTING:
            return self._phase_ns + self._options.connect_ns
        deadlines = [self._received_ns + self._patience_ns()] if self._asked else []
        if self._waiting and self.address is not None and len(self._asked) < _PIPELINE:
            deadlines.append(self._waiting[0].due_ns)
        return min(deadlines, default=None)

    def connected(self, now_ns: int) -> None:
        """Note that the connection stands; call it in phase CONNECTING."""
        self.phase, self._phase_ns, self._received_ns = Phase.OPEN, now_ns, now_ns
        self._send(now_ns)

    def closed(self, now_ns: int) -> None:
        """Note that the service closed the connection: no failure while nothing is asked."""
        if self._asked or self.phase is Phase.CONNECTING:
            self.failed(now_ns)
        else:
            self._drop(Phase.IDLE, now_ns)

    def failed(self, now_ns: int) -> None:
        """Give the connection up. The client reconnects at once the first time; after that it
        pauses, and holes do not wait.
        """
        self.counts["failures"] += 1
        again = [request for _, request in self._asked]
        self._failures += 1
        if self._failures == 1 and self.phase is Phase.OPEN:
            self._waiting.extendleft(reversed(again))
            self._drop(Phase.IDLE, now_ns)
            return
        ranges = [
            request for request in [*again, *self._waiting] if request.kind is RequestKind.RANGE
        ]
        if ranges:
            self.refused.append((ranges[-1].first + ranges[-1].packets) % 2**64)
        self._waiting = deque(
            request for request in [*again, *self._waiting] if request.kind is not RequestKind.RANGE
        )
        options = self._options
        pause_ns = min(options.longest_pause_ns, options.pause_ns << min(self._failures - 1, 16))
        self._drop(Phase.PAUSED, now_ns + int(pause_ns * (1 + self._chance()) / 2))

    def data_to_send(self) -> bytearray:
        """Return the bytes to send; the shell deletes from its front what it has sent."""
        return self._output

    def received(self, data: bytes | memoryview, now_ns: int) -> None:
        """Take bytes of the service."""
        self._received_ns = now_ns
        self._input += data
        self.counts["bytes"] += len(data)
        at = 0
        try:
            while length := first_packet(self._input, at):
                self._packet(bytes(self._input[at : at + length]), now_ns)
                if self.phase is not Phase.OPEN:
                    return
                at += length
        except WireError:
            self.counts["junk"] += 1
            self.failed(now_ns)
            return
        del self._input[:at]
        self._send(now_ns)

    def _packet(self, packet: bytes, now_ns: int) -> None:
        reason = validate(packet, keys=self._keys)
        header = Header._make(HEADER_STRUCT.unpack_from(packet))
        if reason is not None or header.channel_id != self._header.channel_id or not self._asked:
            raise WireError(reason.name.lower() if reason is not None else "nobody asked")
        request = self._asked[0][1]
        if header.msg_type == MsgType.REPLY:
            self._reply(packet, now_ns)
        elif request.kind is RequestKind.RANGE:
            self._served += 1
            if self._served > request.packets:
                raise WireError("more than was asked for")
            self.mended.append(packet)
        elif header.session != self.session or not (
            header.msg_type in _STATES or header.flags & _REPEATED == _REPEATED
        ):
            raise WireError("no state of this session")
        else:
            self.states.append(packet)

    def _reply(self, packet: bytes, now_ns: int) -> None:
        header, reply = decode_reply(packet, keys=self._keys)
        number, request = self._asked[0]
        if (reply.request_id, reply.kind) != (
            number,
            request.kind,
        ) and reply.status != ReplyStatus.BAD_REQUEST:
            raise WireError("answers another request")
        self._asked.popleft()
        self._served = 0
        self.counts["answers"] += 1
        status = reply.status
        if status == ReplyStatus.BUSY:
            self._later(request, now_ns + max(1, reply.retry_ms) * 1_000_000)
            return
        if status == ReplyStatus.OK:
            self._failures = 0
        elif status == ReplyStatus.OVERRUN:
            self.counts["overruns"] += 1
            end = (request.first + request.packets) % 2**64
            self.refused.append(
                reply.first if reply.packets and reply.first != request.first else end
            )
        else:
            self.counts["refused"] += 1
            if request.kind is RequestKind.RANGE:
                self.refused.append((request.first + request.packets) % 2**64)
        if request.kind is not RequestKind.RANGE:
            self.answers.append(Answer(request.kind, request.instrument_id, status))
        if status == ReplyStatus.OTHER_SESSION or header.session != self.session:
            # The publisher has restarted, and the channel will announce it; until then there is
            # nothing to ask.
            self._waiting.clear()

    def _later(self, request: Request, due_ns: int) -> None:
        """Put a request back, and those behind it off; a range that would come too late is given
        up at once.
        """
        self.counts["busy"] += 1
        held: deque[Request] = deque()
        for item in (request, *self._waiting):
            if 0 < item.until_ns <= due_ns:
                self.refused.append((item.first + item.packets) % 2**64)
            else:
                held.append(item._replace(due_ns=max(item.due_ns, due_ns)))
        self._waiting = held

    def _want(self, kind: RequestKind, instrument_id: int, now_ns: int) -> None:
        known = (kind, instrument_id)
        if any((item.kind, item.instrument_id) == known for item in self._waiting):
            return
        self._waiting.append(Request(kind, 0, 0, instrument_id, self._jittered(now_ns), 0))

    def _jittered(self, now_ns: int) -> int:
        due_ns = now_ns + int(self._options.jitter_ns * self._chance())
        # Requests leave in the order they came in; ranges that belong together leave together.
        return max(due_ns, self._waiting[-1].due_ns) if self._waiting else due_ns

    def _send(self, now_ns: int) -> None:
        while self._waiting and len(self._asked) < _PIPELINE and self._waiting[0].due_ns <= now_ns:
            request = self._waiting.popleft()
            item = RequestItem(
                kind=request.kind,
                request_id=self._next_id,
                first=request.first,
                instrument_id=request.instrument_id,
                packets=request.packets,
            )
            if not self._asked:
                self._received_ns = now_ns
            self._asked.append((self._next_id, request))
            key = self._keys[0] if self._keys else None
            self._output += encode_request(
                self._header._replace(session=self.session), item, key=key
            )
            self._next_id = self._next_id % (2**32 - 1) + 1
            self.counts["requests"] += 1

    def _patience_ns(self) -> int:
        ranges = bool(self._asked) and self._asked[0][1].kind is RequestKind.RANGE
        return self._options.repair_ns if ranges else self._options.silence_ns

    def _drop(self, phase: Phase, at_ns: int) -> None:
        self.phase, self._phase_ns = phase, at_ns
        self._asked.clear()
        self._input.clear()
        self._output.clear()
        self._served = 0
