"""The recovery client without I/O, then its socket against servers that are not there, stall,
lie and break.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tapecast.consumers.feed.recovery.client import Answer, Options, Phase, RecoveryClient
from tapecast.consumers.feed.recovery.socket import RecoverySocket
from tapecast.protocol.codec import decode
from tapecast.protocol.records import Header, ReplyItem
from tapecast.protocol.recovery import decode_request, encode_reply, first_packet
from tapecast.protocol.schema import Flag, MsgType, ReplyStatus, RequestKind
from tests.support.packets import packet

MS = 1_000_000
SESSION = 7
HOST = ("127.0.0.1", 9100)
OPTIONS = Options(jitter_ns=4 * MS)


def client(*, chance: float = 0.0, keys: tuple[bytes, ...] = ()) -> RecoveryClient:
    """Return a client that knows its service."""
    made = RecoveryClient(1, 1, OPTIONS, chance=lambda: chance, keys=keys)
    made.serve(HOST, SESSION, 0)
    return made


def opened(**options: object) -> RecoveryClient:
    """Return a client that has asked for numbers 10 to 12, connected."""
    made = client(**options)  # type: ignore[arg-type]
    made.range(10, 3, 0)
    made.timer(4 * MS)
    made.connected(4 * MS)
    return made


def requests(made: RecoveryClient) -> list[tuple[int, int, int, int]]:
    """Take what is to be sent: (kind, first, packets, instrument) of each request."""
    data, out = bytes(made.data_to_send()), []
    made.data_to_send().clear()
    at = 0
    while length := first_packet(data, at):
        header, item = decode_request(data[at : at + length])
        assert (header.channel_id, header.venue_id, header.session) == (1, 1, SESSION)
        out.append((item.kind, item.first, item.packets, item.instrument_id))
        at += length
    return out


def reply(
    status: int = ReplyStatus.OK, number: int = 1, kind: int = RequestKind.RANGE, **fields: int
) -> bytes:
    """Return a reply."""
    header = Header(channel_id=1, venue_id=1, session=SESSION)
    return encode_reply(header, ReplyItem(kind, status, 0, number, **fields))


def mended(*numbers: int) -> bytes:
    """Return packets of a range."""
    return b"".join(packet(seq, session=SESSION) for seq in numbers)


def test_a_range_is_asked_for_after_a_random_moment_and_handed_out() -> None:
    """The request waits for its share of the jitter, connects, and what comes back is the
    packets as they are.
    """
    made = client(chance=0.5)
    made.range(10, 3, 0)
    made.timer(2 * MS - 1)
    assert made.phase is Phase.IDLE
    assert made.next_deadline() == 2 * MS
    made.timer(2 * MS)
    assert made.phase is Phase.CONNECTING
    made.connected(3 * MS)
    assert requests(made) == [(RequestKind.RANGE, 10, 3, 0)]
    data = mended(10, 11, 12) + reply(packets=3, first=10)
    for at in range(0, len(data), 50):
        made.received(data[at : at + 50], 4 * MS)
    assert b"".join(made.mended) == mended(10, 11, 12)
    assert not made.busy
    assert (made.counts["requests"], made.counts["answers"], made.counts["failures"]) == (1, 1, 0)


def test_large_ranges_are_cut_and_few_are_under_way() -> None:
    """512 packets a request, eight requests at a time."""
    made = client()
    made.range(1, 5000, 0)
    made.timer(0)
    made.connected(0)
    asked = requests(made)
    assert [item[2] for item in asked] == [512] * 8
    made.received(reply(packets=0), 1)
    assert requests(made) == [(RequestKind.RANGE, 1 + 8 * 512, 512, 0)]


def test_overrun_refuses_what_the_ring_has_lost() -> None:
    """What comes before the first packet served cannot be had; without any, the whole request."""
    made = opened()
    requests(made)
    made.received(mended(12) + reply(ReplyStatus.OVERRUN, first=12, packets=1), 5 * MS)
    assert made.refused == [12]
    made = opened()
    made.received(reply(ReplyStatus.OVERRUN), 5 * MS)
    assert made.refused == [13]
    assert made.counts["overruns"] == 1


def test_busy_waits_as_told_and_gives_up_what_would_be_late() -> None:
    """After BUSY nothing is sent before the time; a range that is of no use then is refused at
    once.
    """
    made = opened()
    requests(made)
    made.received(reply(ReplyStatus.BUSY, retry_ms=50), 5 * MS)
    made.timer(54 * MS)
    assert requests(made) == []
    made.timer(55 * MS)
    assert requests(made) == [(RequestKind.RANGE, 10, 3, 0)]
    made.received(reply(ReplyStatus.BUSY, 2, retry_ms=500), 60 * MS)
    assert made.refused == [13]
    assert not made.busy


def test_books_and_definitions_are_states() -> None:
    """Their packets go to the engine, with word of the end of each answer."""
    made = client()
    made.definitions(0)
    made.book(5, 0)
    made.book(5, 0)
    made.timer(4 * MS)
    made.connected(4 * MS)
    assert requests(made) == [(RequestKind.DEFINITIONS, 0, 0, 0), (RequestKind.SNAPSHOT, 0, 0, 5)]
    book = packet(9, session=SESSION, flags=Flag.SNAPSHOT | Flag.RECOVERED | Flag.LAST)
    made.received(reply(kind=RequestKind.DEFINITIONS) + book, 5 * MS)
    made.received(reply(ReplyStatus.OK, 2, RequestKind.SNAPSHOT), 5 * MS)
    assert made.states == [book]
    assert made.answers == [
        Answer(RequestKind.DEFINITIONS, 0, 0),
        Answer(RequestKind.SNAPSHOT, 5, 0),
    ]


def test_many_books_are_asked_for_all_at_once() -> None:
    """More than 64 single books become one request."""
    made = client()
    for instrument in range(1, 200):
        made.book(instrument, 0)
    made.timer(4 * MS)
    made.connected(4 * MS)
    assert requests(made) == [(RequestKind.SNAPSHOT, 0, 0, 0)]


LIES = {
    "junk": b"\x00" * 100,
    "other channel": packet(10, session=SESSION, channel=2),
    "damaged": packet(10, session=SESSION)[:66] + b"\x00" * 8 + packet(11, session=SESSION),
    "more than asked": mended(10, 11, 12, 13),
    "another answer": reply(number=9),
    "another kind": reply(kind=RequestKind.SNAPSHOT),
    "a reply cut short": reply()[:64] + b"\x10\x00" + reply()[66:82],
}


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_lies_cost_the_connection_once_and_then_a_pause(lie: str) -> None:
    """The first time the connection is made anew at once; the second time the service is left
    alone, and holes do not wait.
    """
    made = opened()
    requests(made)
    made.received(LIES[lie], 5 * MS)
    assert made.phase is Phase.IDLE
    assert made.counts["junk"] == 1
    assert made.available
    made.timer(6 * MS)
    assert made.phase is Phase.CONNECTING
    made.connected(6 * MS)
    assert requests(made) == [(RequestKind.RANGE, 10, 3, 0)]
    made.received(LIES[lie], 7 * MS)
    assert made.phase is Phase.PAUSED
    assert made.refused == [13]
    assert not made.available


def test_what_nobody_asked_for_is_junk() -> None:
    """A packet without a request, or a state of another session, drops the connection."""
    made = opened()
    made.received(mended(10, 11, 12) + reply(packets=3) + mended(13), 5 * MS)
    assert made.counts["junk"] == 1
    made = client()
    made.definitions(0)
    made.timer(0)
    made.connected(0)
    made.received(packet(1, session=SESSION + 1), MS)
    assert made.counts["junk"] == 1


def test_silence_and_refusal_pause_longer_and_longer() -> None:
    """A service that cannot be reached, or says nothing within the budget, is tried at doubling
    intervals, up to 30 s.
    """
    made = client(chance=1.0)
    pauses = []
    now_ns = 0
    for _ in range(9):
        made.range(10, 3, now_ns)
        made.timer(now_ns + 4 * MS)
        assert made.phase is Phase.CONNECTING
        made.failed(now_ns + 4 * MS)
        assert made.refused.pop() == 13
        deadline = made.next_deadline()
        assert deadline is not None
        pauses.append((deadline - now_ns - 4 * MS) // MS)
        now_ns = deadline
        made.timer(now_ns)
    assert pauses == [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
    made = opened()
    made.timer(4 * MS + 200 * MS)
    assert made.phase is Phase.OPEN
    made.timer(5 * MS + 200 * MS)
    assert (made.phase, made.counts["failures"]) == (Phase.IDLE, 1)


def test_a_good_answer_forgives() -> None:
    """After an answer the next failure is again the first one."""
    made = opened()
    made.received(LIES["junk"], 5 * MS)
    made.timer(6 * MS)
    made.connected(6 * MS)
    made.received(mended(10, 11, 12) + reply(number=2, packets=3), 7 * MS)
    made.range(20, 1, 8 * MS)
    made.timer(8 * MS)
    made.received(LIES["junk"], 9 * MS)
    assert made.phase is Phase.IDLE


def test_another_session_forgets_everything() -> None:
    """A restart of the publisher leaves nothing to ask for, and nothing to hand out; so does
    word of it from the service.
    """
    made = opened()
    made.received(mended(10), 5 * MS)
    made.serve(HOST, SESSION + 1, 6 * MS)
    assert (made.mended, made.busy, made.phase) == ([], False, Phase.IDLE)
    made = opened()
    made.definitions(5 * MS)
    made.received(reply(ReplyStatus.OTHER_SESSION), 5 * MS)
    assert made.refused == [13]


def test_a_closed_connection_is_no_failure_while_nothing_is_asked() -> None:
    """The service may close an idle connection; the next request makes a new one."""
    made = opened()
    made.received(mended(10, 11, 12) + reply(packets=3), 5 * MS)
    made.closed(60_000 * MS)
    assert (made.phase, made.counts["failures"]) == (Phase.IDLE, 0)
    made.range(20, 1, 60_001 * MS)
    made.timer(60_001 * MS)
    assert made.phase is Phase.CONNECTING


def test_requests_that_are_too_late_are_not_sent() -> None:
    """What has waited for longer than the budget is given up already, and is not asked for."""
    made = client()
    made.range(10, 3, 0)
    made.timer(0)
    made.timer(201 * MS)
    made.connected(201 * MS)
    assert requests(made) == []


def test_tags_go_both_ways() -> None:
    """With a key requests are tagged, and an answer without the right tag is junk."""
    key = bytes(range(32))
    made = opened(keys=(key,))
    sent = bytes(made.data_to_send())
    assert decode(sent, keys=(key,)).header.flags & Flag.AUTH
    made.received(reply(), 5 * MS)
    assert made.counts["junk"] == 1


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A TCP server that does what the test does."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(10.0)
        yield made


def turn(link: RecoverySocket, condition: Callable[[], object]) -> None:
    """Pump until a condition holds, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        link.pump(time.monotonic_ns())
        assert time.monotonic() < deadline
        time.sleep(0.001)


def linked(address: tuple[str, int]) -> RecoverySocket:
    """Return a link to a service that has been asked for definitions."""
    made = RecoveryClient(1, 1, OPTIONS, chance=lambda: 0.0)
    made.serve(address, SESSION, time.monotonic_ns())
    made.definitions(time.monotonic_ns())
    return RecoverySocket(made)


def test_a_conversation_over_tcp(listener: socket.socket) -> None:
    """Connect, ask, be answered in pieces, be closed, and connect again for the next request."""
    link = linked(listener.getsockname())
    made = link.client
    link.pump(time.monotonic_ns())
    peer, _ = listener.accept()
    turn(link, lambda: made.counts["requests"] and not made.data_to_send())
    assert link.writable is None
    assert decode(peer.recv(4096)).header.msg_type == MsgType.REQUEST
    answer = reply(kind=RequestKind.DEFINITIONS)
    peer.sendall(answer[:40])
    link.pump(time.monotonic_ns())
    peer.sendall(answer[40:])
    turn(link, lambda: made.answers)
    assert link.readable is not None
    peer.close()
    turn(link, lambda: made.phase is Phase.IDLE)
    made.book(5, time.monotonic_ns())
    link.pump(time.monotonic_ns())
    peer, _ = listener.accept()
    turn(link, lambda: made.counts["requests"] == 2)
    peer.close()
    link.close()


def test_nobody_listens(listener: socket.socket) -> None:
    """A refused connection is a failure, and a pause."""
    address = listener.getsockname()
    listener.close()
    link = linked(address)
    turn(link, lambda: link.client.phase is Phase.PAUSED)
    assert link.client.counts["failures"] == 1
    assert (link.readable, link.writable) == (None, None)


@pytest.mark.parametrize("last", [b"", b"GET / HTTP/1.1\r\n\r\n" * 20])
def test_a_server_that_breaks_or_talks_nonsense(listener: socket.socket, last: bytes) -> None:
    """Twice is enough: then there is a pause."""
    link = linked(listener.getsockname())
    for _ in range(2):
        link.pump(time.monotonic_ns())
        peer, _ = listener.accept()
        turn(link, lambda: link.client.counts["requests"])
        peer.recv(4096)
        if last:
            peer.sendall(last)
        failures = link.client.counts["failures"]
        if not last:
            peer.close()
        turn(link, lambda before=failures: link.client.counts["failures"] > before)
        peer.close()
    assert link.client.phase is Phase.PAUSED
    link.close()
