"""A channel whose packets and books can be foretold, and a recovery server with clients that ask
it, without sockets.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tapecast.protocol.publish.recovery.server import RecoveryServer
from tapecast.protocol.publish.recovery.types import Client, Limits, State
from tapecast.protocol.records import Header, ReplyItem, RequestItem
from tapecast.protocol.recovery import decode_reply, first_packet
from tapecast.protocol.ring import Ring
from tapecast.protocol.schema import Flag, MsgType, RequestKind
from tests.support.packets import packet
from tests.support.recovery_client import request

__all__ = [
    "DEFINITIONS",
    "FIRST_ID",
    "LIMITS",
    "SECOND",
    "SNAPSHOT",
    "Bench",
    "Channel",
    "a_range",
    "limits",
]

SECOND = 1_000_000_000
LIMITS = Limits(
    clients=100,
    packets_per_s=100_000,
    bytes_per_s=100_000_000,
    books_per_s=10_000,
    backlog=16,
    idle_ns=60 * SECOND,
    stall_ns=5 * SECOND,
)
FIRST_ID = 1000
"""Of the first instrument."""


def limits(**changed: int) -> Limits:
    """Return the limits with some changed."""
    return replace(LIMITS, **changed)


class Channel:
    """A source whose packets and books are numbered patterns, so that each byte of an answer can
    be foretold.
    """

    def __init__(self, instruments: int = 3, capacity: int = 1 << 20) -> None:
        """Begin with an empty ring."""
        self.ring = Ring(capacity)
        self.header = Header(channel_id=1, venue_id=1, session=9, flags=int(Flag.REPLAY))
        self.instruments = instruments
        self.next_seq = 1
        self.sent: dict[int, bytes] = {}
        self.read: list[int] = []
        self.items = 0
        """Levels of a book."""
        self.made = 0
        """Pieces of large books."""

    def publish(self, packets: int = 1, items: int = 2) -> None:
        """Publish one batch."""
        batch = [
            packet(self.next_seq + number, session=9, items=items) for number in range(packets)
        ]
        self.sent.update((self.next_seq + number, data) for number, data in enumerate(batch))
        data = b"".join(batch)
        self.ring.append(self.next_seq, packets, bytearray(data), len(data))
        self.next_seq += packets

    def find(self, instrument_id: int) -> int | None:
        """Instruments have the numbers from FIRST_ID on."""
        index = instrument_id - FIRST_ID
        return index if 0 <= index < self.instruments else None

    def definition(self, index: int, now_ns: int) -> State:
        """Return a pattern."""
        data = packet(
            self.next_seq - 1,
            instrument=FIRST_ID + index,
            msg_type=MsgType.INSTRUMENT,
            items=1,
            item_size=160,
        )
        return State(self.next_seq - 1, 1, len(data), (data,))

    def book(self, index: int, now_ns: int) -> State:
        """Return a pattern."""
        self.read.append(index)
        join = self.next_seq - 1
        levels = [
            packet(join, instrument=FIRST_ID + index, items=80, fragment=n % 256)
            for n in range(self.items // 80)
        ]
        head = self.definition(index, now_ns).piece(0)
        pieces = [
            partial(self._made, b"".join(levels[n : n + 40])) for n in range(0, len(levels), 40)
        ]
        nbytes = len(head) + sum(map(len, levels))
        if len(pieces) < 2:
            return State(join, 1 + len(levels), nbytes, (head + b"".join(levels),))
        return State(join, 1 + len(levels), nbytes, (head, *pieces, b""))

    def _made(self, data: bytes) -> bytes:
        self.made += 1
        return data


class Bench:
    """A server and what its clients were sent."""

    def __init__(self, channel: Channel, limits: Limits = LIMITS) -> None:
        """Begin without clients."""
        self.channel = channel
        self.server = RecoveryServer(channel, limits)
        self.now_ns = 0
        self.sent: dict[Client, bytearray] = {}

    def client(self) -> Client:
        """Connect."""
        client = self.server.connect(self.now_ns)
        assert client is not None
        self.sent[client] = bytearray()
        return client

    def step(self) -> Client | None:
        """Let the next client have its turn, and return it."""
        step = self.server.step(self.now_ns, 5)
        if step is not None:
            self.sent[step.client] += step.data
        return None if step is None else step.client

    def run(self) -> list[Client]:
        """Do everything there is to do."""
        turns = []
        while (client := self.step()) is not None:
            turns.append(client)
            assert len(turns) < 10_000
        return turns

    def answers(self, client: Client) -> list[tuple[list[bytes], ReplyItem]]:
        """Return and forget the complete answers."""
        held, answers, packets = self.sent[client], [], []
        while length := first_packet(held):
            data = bytes(held[:length])
            del held[:length]
            if data[3] == MsgType.REPLY:
                answers.append((packets, decode_reply(data)[1]))
                packets = []
            else:
                packets.append(data)
        assert not packets
        assert not held
        return answers

    def ask(
        self, client: Client, item: RequestItem, *, session: int = 0
    ) -> tuple[list[bytes], ReplyItem]:
        """Return the answer to one request."""
        self.server.receive(client, request(item, session=session))
        self.run()
        (answer,) = self.answers(client)
        return answer


def a_range(first: int, packets: int, number: int = 7) -> RequestItem:
    """Ask for packets."""
    return RequestItem(kind=RequestKind.RANGE, request_id=number, first=first, packets=packets)


SNAPSHOT = RequestItem(kind=RequestKind.SNAPSHOT, request_id=8)
DEFINITIONS = RequestItem(kind=RequestKind.DEFINITIONS, request_id=9)
