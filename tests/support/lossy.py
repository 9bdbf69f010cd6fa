"""A publisher, its recovery service and lossy lines in memory and in simulated time, for feeds
under test.

The packets are those a feeder publishes from a recording, with its session, publisher, ring and
recovery brain as they run live. `Network` is the source of one `Feed`: each of its reads is a
fifth of a millisecond. Two lines lose, disorder and double packets by chance with a seed; the
service's TCP connection is a pair of buffers with a delay, and can be made to stall, lie and
break.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from tapecast.consumers.feed.recovery import manager
from tapecast.consumers.feed.recovery.client import Phase, RecoveryClient
from tapecast.consumers.feed.source import PacketSource
from tapecast.feeder.offline import Offline
from tapecast.feeder.recovery_source import session_source
from tapecast.feeder.venues import venue
from tapecast.protocol.codec import walk
from tapecast.protocol.net.io import SPAN
from tapecast.protocol.publish.recovery.server import RecoveryServer
from tapecast.protocol.publish.recovery.types import Client, Limits
from tapecast.protocol.records import HEADER_STRUCT, Header, HeartbeatItem
from tapecast.protocol.ring import Ring
from tapecast.protocol.schema import MsgType

__all__ = ["Chance", "Network", "Publication"]

STEP_NS = 200_000
MS = 1_000_000
PORT = 9101
_SLOW = 5
"""Steps are so many times longer once nothing new is published."""
HOME = "127.0.0.1"
_LIMITS = Limits(
    clients=200,
    packets_per_s=1_000_000,
    bytes_per_s=1 << 30,
    books_per_s=100_000,
    backlog=64,
    idle_ns=10**12,
    stall_ns=10**12,
)


class Chance(NamedTuple):
    """What befalls packets: on each of the two lines by itself, and on both at once."""

    loss: tuple[float, float] = (0.0, 0.0)
    both: float = 0.0
    burst: float = 0.0
    duplicate: float = 0.0
    disorder: float = 0.0


class Publication:
    """A publisher that plays a recording; several networks can hang on one."""

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        replica: int = 0,
        session: int = 1,
        ring_bytes: int = 1 << 22,
    ) -> None:
        """Prepare; nothing is published yet."""
        self.now_ns = 1_000_000_000
        self.offline = Offline(venue(name), [path], replica=replica, session=session)
        self.publisher = self.offline.publisher
        self.publisher.ring = self.ring = Ring(ring_bytes)
        self.source = session_source(self.offline.session, self.publisher, self.ring, lambda: None)
        self.server = RecoveryServer(self.source, _LIMITS)
        self.port = PORT
        self._steps = self.offline.run()
        self._beat_ns = 0
        self.beaten = False
        self.ended = False
        self.stopped = False
        """Killed: it says nothing any more."""
        self.last_seq: dict[int, int] = {}
        """The last BOOK number published, by instrument id."""
        self.books: dict[int, list[tuple[int, int]]] = {}
        """(channel_seq, instrument_seq) of the events of each book, in order."""

    def step(self, step_ns: int = STEP_NS) -> list[bytes]:
        """Let a fifth of a millisecond pass, or so many ns, and return what is published in it."""
        self.now_ns += step_ns
        self.beaten = self._beat_ns > 0
        if self.stopped:
            return []
        packets: list[bytes] = []
        step = next(self._steps, None) if not self.ended else None
        if step is None:
            self.ended = True
        else:
            packets += [bytes(packet) for packet in walk(step.packets)]
        if self.now_ns - self._beat_ns >= 250 * MS and self.ring.oldest_seq:
            self._beat_ns = self.now_ns
            self.publisher.heartbeat(self._beat(), self.now_ns)
            packets += [bytes(packet) for packet in walk(self.offline.line.take())]
        for packet in packets:
            header = Header._make(HEADER_STRUCT.unpack_from(packet))
            if header.msg_type == MsgType.BOOK:
                book = header.channel_seq, header.instrument_seq
                self.last_seq[header.instrument_id] = header.instrument_seq
                self.books.setdefault(header.instrument_id, []).append(book)
        return packets

    def end(self) -> list[bytes]:
        """Stop, and say so."""
        self.stopped = True
        self.publisher.end(self._beat(), self.now_ns)
        return [bytes(packet) for packet in walk(self.offline.line.take())]

    def cycle(self) -> list[bytes]:
        """Return definitions and books of the cycle, as they go out once in a while."""
        session = self.offline.session
        self.publisher.instruments(len(session.instruments))
        for instrument in session.instruments:
            self.publisher.repeat(session.definition(instrument))
            self.publisher.repeat(session.book_snapshot(instrument))
        return [bytes(packet) for packet in walk(self.offline.line.take())]

    def _beat(self) -> HeartbeatItem:
        session = self.offline.session
        return HeartbeatItem(
            oldest_seq=self.ring.oldest_seq,
            instruments=len(session.instruments),
            interval_ms=1000,
            recovery_port=self.port,
        )


class Network(PacketSource):
    """The lines of one or more publications to one feed: a packet source. `join_at`: reads
    before the feed begins to listen.
    """

    kernel_drops = 0
    live = False
    ended = False
    buffer: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
    spans: npt.NDArray[np.void] = np.zeros(0, SPAN)

    def __init__(
        self,
        publications: Sequence[Publication],
        chance: Chance,
        seed: int,
        *,
        join_at: int = 0,
        drain: int = 3000,
        live: bool = False,
    ) -> None:
        """Begin; every read steps the publications. `live`: silence counts."""
        self.live = live
        self.publications = publications
        self.chance = chance
        self.rng = random.Random(seed)
        self.lost = 0
        self._arrived: deque[tuple[int, int]] = deque()
        self._settled = 0
        self._flying: list[tuple[int, int, int, int, bytes]] = []
        self._count = 0
        self._drain = drain
        self._burst = 0
        self.on_step: Callable[[], None] | None = None
        for _ in range(join_at):
            for publication in publications:
                publication.step()

    def now_ns(self) -> int:
        """Return the simulated time."""
        return self.publications[0].now_ns

    def receive(self, timeout: float) -> int:
        """Let time pass by a step and return what arrives."""
        over = all(publication.ended or publication.stopped for publication in self.publications)
        for publication in self.publications:
            for packet in publication.step(_SLOW * STEP_NS if over else STEP_NS):
                self.send(packet, publication)
        if self.on_step is not None:
            self.on_step()
        if over:
            self._drain -= _SLOW
            self.ended = self._drain <= 0
        now_ns = self.now_ns()
        arrived: list[tuple[int, int, bytes]] = []
        while self._flying and self._flying[0][0] <= now_ns:
            _, _, line, port, packet = heapq.heappop(self._flying)
            arrived.append((line, port, packet))
            if port == 4000 and packet[3] != MsgType.HEARTBEAT:
                self._arrived.append((now_ns, int.from_bytes(packet[24:32], "little")))
        self.spans = np.zeros(len(arrived), SPAN)
        lengths = np.array([len(packet) for _, _, packet in arrived], np.int64)
        if arrived:
            self.spans["offset"], self.spans["length"] = np.cumsum(lengths) - lengths, lengths
            self.spans["line"] = [line for line, _, _ in arrived]
            self.spans["port"] = [port for _, port, _ in arrived]
            self.spans["addr"] = int.from_bytes(bytes([127, 0, 0, 1]), "big")
        self.buffer = np.frombuffer(b"".join(packet for _, _, packet in arrived), np.uint8)
        return len(arrived)

    def due(self, instrument: int) -> int:
        """Return the number that the first publication's book has to be at to be called LIVE.

        That is its last event up to a packet that arrived longer ago than disorder may last:
        what is missing before it is known to be missing.
        """
        limit_ns = self.now_ns() - 5 * MS - 3 * _SLOW * STEP_NS
        while self._arrived and self._arrived[0][0] < limit_ns:
            self._settled = max(self._settled, self._arrived.popleft()[1])
        books = self.publications[0].books.get(instrument, [])
        at = bisect_right(books, (self._settled, 2**32))
        return books[at - 1][1] if at else 0

    def filenos(self) -> Sequence[int]:
        """There is nothing to wait on."""
        return ()

    def close(self) -> None:
        """Take no more."""
        self.ended = True

    def send(self, packet: bytes, publication: Publication) -> None:
        """Put a packet on the lines of a publication."""
        rng = self.rng
        # Not before the first heartbeat, when nobody knows whom to ask, nor after the end, so
        # that the end is the same for all.
        chance = self.chance if publication.beaten and not publication.ended else Chance()
        if publication.ended:
            self._burst = 0
        elif self._burst:
            self._burst -= 1
        elif rng.random() < chance.burst:
            self._burst = rng.randrange(1, 200)
        arrived = False
        base = 2 * self.publications.index(publication)
        both = self._burst > 0 or rng.random() < chance.both
        for line, loss in enumerate(chance.loss):
            if both or rng.random() < loss:
                continue
            arrived = True
            for _ in range(1 + (rng.random() < chance.duplicate)):
                delay_ns = rng.randrange(50_000) * publication.beaten
                if rng.random() < chance.disorder:
                    delay_ns += rng.randrange(3 * MS)
                self._count += 1
                item = (self.now_ns() + delay_ns, self._count, base + line, 4000 + base, packet)
                heapq.heappush(self._flying, item)
        self.lost += not arrived and packet[3] not in (MsgType.HEARTBEAT, MsgType.SESSION_END)


class Wire:
    """The service's TCP connection of one client, as a `recovery.socket.RecoverySocket`;
    what is sent arrives half a millisecond later.
    """

    network: Network
    delay_ns = MS // 2
    stalled = False
    refuses = False
    mangle: Callable[[bytes], bytes] = staticmethod(lambda data: data)
    made = 0

    def __init__(self, client: RecoveryClient) -> None:
        """Connect to the publication of the client's channel when asked to."""
        self.client = client
        self.readable = self.writable = None
        self._peer: Client | None = None
        self._answers: list[tuple[int, bytes]] = []
        channel = client._header.channel_id
        self._publication = next(
            p for p in self.network.publications if p.publisher.header.channel_id == channel
        )

    def pump(self, now_ns: int) -> None:
        """Move what is due between the two ends."""
        client, server = self.client, self._publication.server
        if client.phase in (Phase.IDLE, Phase.PAUSED):
            self.close()
        if client.phase is Phase.OPEN:
            self._read(now_ns)
        client.timer(now_ns)
        if client.phase is Phase.CONNECTING:
            if type(self).refuses:
                client.failed(now_ns)
            else:
                self._peer = server.connect(now_ns)
                type(self).made += 1
                client.connected(now_ns)
        if client.phase is Phase.OPEN and self._peer is not None:
            out = client.data_to_send()
            server.receive(self._peer, bytes(out))
            out.clear()
            answer = bytearray()
            while not type(self).stalled and (step := server.step(now_ns, now_ns)) is not None:
                answer += step.data
            if answer:
                self._answers.append((now_ns + self.delay_ns, type(self).mangle(bytes(answer))))
            self._read(now_ns)
        if client.phase in (Phase.IDLE, Phase.PAUSED):
            self.close()

    def close(self) -> None:
        """Hang up."""
        if self._peer is not None:
            self._publication.server.disconnect(self._peer)
            self._peer = None
        self._answers.clear()

    def _read(self, now_ns: int) -> None:
        while self._answers and self._answers[0][0] <= now_ns and self.client.phase is Phase.OPEN:
            self.client.received(self._answers.pop(0)[1], now_ns)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> type[Wire]:
    """Let feeds reach their services over `Wire`; set `wire.network` before the feed is made."""

    class Fresh(Wire):
        pass

    random.seed(20)
    monkeypatch.setattr(manager, "RecoverySocket", Fresh)
    monkeypatch.setattr(manager, "wait", lambda *_: None)
    return Fresh
