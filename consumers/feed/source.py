"""Where a feed's packets come from: the network, a tape, or anything that yields packets.

A source reads packets in batches and has a sequencer validate and order them in the same call
(`read`); what they are is the business of `protocol.net.sequencing`. `Multicast` receives;
`Chunks` takes buffers of contiguous packets from an iterator (tapes, a decode pipeline, tests)
and may pace them. Any other source derives from `PacketSource` and offers `receive`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from tapecast.consumers.feed.tape import packet_length
from tapecast.protocol.authentication import Keys
from tapecast.protocol.codec import Buffer
from tapecast.protocol.fields import TS_RECV_NS, TS_SEND_NS
from tapecast.protocol.net.io import SPAN, Receiver
from tapecast.protocol.net.sequencing import BatchSequencer
from tapecast.protocol.records import HEADER_STRUCT
from tapecast.runtime.keys import Admission

__all__ = ["Chunks", "Multicast", "PacketSource", "Silences"]

_LOG: Final = logging.getLogger("tapecast.feed")
_SILENT_NS: Final = 3_000_000_000
_MOST_SILENT_NS: Final = 15_000_000_000
_BATCH: Final = 256
_MAX_WAIT_S: Final = 1.0


class PacketSource(Protocol):
    """What a feed needs of a source. After `receive()` returned n, `spans[:n]` describes n
    packets in `buffer` until the next call.
    """

    rejoins: int = 0
    """How often a silent group was joined again."""

    @property
    def buffer(self) -> npt.NDArray[np.uint8]:
        """The bytes of the last batch."""
        ...

    @property
    def spans(self) -> npt.NDArray[np.void]:
        """Descriptions of the packets of the last batch, dtype `protocol.net.io.SPAN`."""
        ...

    @property
    def live(self) -> bool:
        """Whether packets come as they are sent; a replay has no lag to measure and no silence
        to report.
        """
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""
        ...

    @property
    def kernel_drops(self) -> int:
        """Datagrams the kernel dropped for want of buffer."""
        ...

    def receive(self, timeout: float) -> int:
        """Wait at most `timeout` seconds for packets and return how many there are; a signal
        ends the wait.
        """
        ...

    def now_ns(self) -> int:
        """Return the source's time: monotonic; in a replay, the send time of the last packet
        handed out.
        """
        ...

    def filenos(self) -> Sequence[int]:
        """Return the descriptors that become readable when packets arrive; empty where there are
        none to wait on.
        """
        ...

    def close(self) -> None:
        """Give everything back."""
        ...

    @property
    def keys(self) -> Keys:
        """The keys whose tags are accepted, by channel; none = packets carry no tags."""
        return {}

    def sequencer(self, **sizes: int) -> BatchSequencer:
        """Return a sequencer for this source's packets; `sizes` as for `BatchSequencer`."""
        return BatchSequencer(**sizes, keys=None, sources=(), learn_sources=False)

    def read(self, sequencer: BatchSequencer, timeout: float) -> int:
        """Receive, and have `sequencer` order what came; return the number of deliveries, which
        stand in `buffer` until the next call. Raises SpaceError where the sequencer is too small
        for one batch.
        """
        count = self.receive(timeout)
        return sequencer.process(self.buffer, self.spans, count, self.now_ns())

    def watch(self, now_ns: int) -> None:
        """Let time pass, about ten times a second."""
        return


class Silences:
    """When to join a group again: after 3 s without a packet (feeders beat every second), then
    ever less often, up to 15 s.
    """

    def __init__(self, lines: int, now_ns: int) -> None:
        """Begin at `now_ns` without a packet."""
        self._seen = [0] * lines
        self._due_ns = [now_ns + _SILENT_NS] * lines
        self._wait_ns = [_SILENT_NS] * lines

    def due(self, packets: Sequence[int], now_ns: int) -> list[int]:
        """Return the lines to join again, given how many packets each has brought so far."""
        out = []
        for line, count in enumerate(packets):
            if count != self._seen[line]:
                self._seen[line], self._wait_ns[line] = count, _SILENT_NS
                self._due_ns[line] = now_ns + _SILENT_NS
            elif now_ns >= self._due_ns[line]:
                self._wait_ns[line] = min(2 * self._wait_ns[line], _MOST_SILENT_NS)
                self._due_ns[line] = now_ns + self._wait_ns[line]
                out.append(line)
        return out


class Multicast(PacketSource):
    """Live packets of some groups."""

    live = True
    ended = False

    def __init__(
        self,
        groups: Sequence[tuple[str, int]],
        *,
        interface: str,
        rcvbuf: int,
        admission: Admission | None = None,
    ) -> None:
        """Join the groups; OSError where the interface or a port cannot be used. Without
        `admission` every packet is taken.
        """
        self._admission = admission
        self.receiver = Receiver(groups, interface=interface, rcvbuf=rcvbuf)
        self._drops = 0
        self._silences = Silences(len(groups), time.monotonic_ns())
        self.rejoins = 0

    @property
    def buffer(self) -> npt.NDArray[np.uint8]:
        """The receiver's buffer."""
        return self.receiver.buffer

    @property
    def spans(self) -> npt.NDArray[np.void]:
        """The receiver's descriptions."""
        return self.receiver.spans

    @property
    def keys(self) -> Keys:
        """The keys of the venues."""
        return {} if self._admission is None else self._admission.keys

    def sequencer(self, **sizes: int) -> BatchSequencer:
        """Return a sequencer that takes the packets of admitted senders only."""
        return (
            super().sequencer(**sizes)
            if self._admission is None
            else (self._admission.sequencer(**sizes))
        )

    def read(self, sequencer: BatchSequencer, timeout: float) -> int:
        """Receive and order in one C call."""
        return sequencer.receive(self.receiver, timeout)

    def watch(self, now_ns: int) -> None:
        """Join again the groups that have been silent for too long; where that fails (an
        interface that is gone) the source tries again later.
        """
        for line in self._silences.due(self.receiver.packet_counts(), now_ns):
            try:
                self.receiver.rejoin(line)
            except OSError as error:
                _LOG.warning(
                    "group %s cannot be joined again: %s", self.receiver.groups[line][0], error
                )
            else:
                self.rejoins += 1

    @property
    def kernel_drops(self) -> int:
        """Datagrams the kernel dropped, over all sockets."""
        if self.receiver.filenos()[0] >= 0:
            self._drops = sum(self.receiver.stats.kernel_drops)
        return self._drops

    def receive(self, timeout: float) -> int:
        """Read what has come, waiting at most `timeout` seconds."""
        return self.receiver.receive(timeout)

    def now_ns(self) -> int:
        """Return the monotonic clock."""
        return time.monotonic_ns()

    def filenos(self) -> Sequence[int]:
        """Return the descriptors of the sockets."""
        return self.receiver.filenos()

    def close(self) -> None:
        """Leave the groups."""
        self._drops = self.kernel_drops
        self.receiver.close()


class Chunks(PacketSource):
    """Packets out of an iterator of buffers, each holding whole contiguous packets.

    Without `speed` as fast as they are taken; otherwise paced by their send times (receive times
    where those are 0), `speed` times as fast as they were.
    """

    live = False
    kernel_drops = 0

    def __init__(
        self,
        chunks: Iterable[Buffer],
        *,
        speed: float | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the packets of `chunks` when they are asked for; ValueError for a speed that is
        not above 0.
        """
        if speed is not None and not speed > 0:
            raise ValueError(f"speed {speed}: above 0, or None for as fast as possible")
        self._chunks: Iterator[Buffer] = iter(chunks)
        self._speed = speed
        self._clock = clock
        self._sleep = sleep
        self._origin: tuple[int, int] | None = None
        self._now_ns = 0
        self._table = np.zeros(0, SPAN)
        self._times: list[int] = []
        self._next = 0
        self._ended = False
        self._buffer: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._spans: npt.NDArray[np.void] = self._table

    @property
    def buffer(self) -> npt.NDArray[np.uint8]:
        """The chunk that is being handed out."""
        return self._buffer

    @property
    def spans(self) -> npt.NDArray[np.void]:
        """Descriptions of the packets of the last batch."""
        return self._spans

    @property
    def ended(self) -> bool:
        """Whether the iterator has ended, or the source is closed."""
        return self._ended

    def receive(self, timeout: float) -> int:
        """Hand out the packets that are due, waiting at most `timeout` seconds for the first."""
        if self._next >= len(self._times) and not self._load():
            return 0
        first = self._next
        stop = min(first + _BATCH, len(self._times))
        if self._speed is not None:
            stop = self._due(first, stop, timeout)
        self._spans = self._table[first:stop]
        self._next = stop
        if stop > first:
            self._now_ns = max(self._now_ns, *self._times[first:stop])
        return stop - first

    def now_ns(self) -> int:
        """Return the send time of the newest packet handed out."""
        return self._now_ns

    def filenos(self) -> Sequence[int]:
        """There is nothing to wait on."""
        return ()

    def close(self) -> None:
        """Take no more."""
        self._ended = True
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()

    def _load(self) -> bool:
        while not self._ended:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
            elif len(chunk):
                self._index(chunk)
                return True
        return False

    def _index(self, chunk: Buffer) -> None:
        starts: list[tuple[int, int]] = []
        times: list[int] = []
        at = 0
        while at < len(chunk):
            header = HEADER_STRUCT.unpack_from(chunk, at)
            size = packet_length(chunk, at)
            starts.append((at, size))
            times.append(header[TS_SEND_NS] or header[TS_RECV_NS])
            at += size
        self._buffer = np.frombuffer(chunk, np.uint8)
        self._table = np.zeros(len(starts), SPAN)
        self._table["offset"] = [start for start, _ in starts]
        self._table["length"] = [size for _, size in starts]
        self._times = times
        self._next = 0

    def _due(self, first: int, stop: int, timeout: float) -> int:
        assert self._speed is not None
        if self._origin is None:
            self._origin = (self._clock(), self._times[first])
        wall, begin = self._origin
        wait_s = (wall + (self._times[first] - begin) / self._speed - self._clock()) / 1e9
        if wait_s > 0:
            self._sleep(min(wait_s, timeout, _MAX_WAIT_S))
        reached = begin + (self._clock() - wall) * self._speed
        due = first
        while due < stop and self._times[due] <= reached:
            due += 1
        return due
