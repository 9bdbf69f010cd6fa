"""The recovery service's brain: what it answers, in which order, and what it does to those who ask too much or nonsense."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeder.recovery import RecoveryServer
from feeder.recovery_types import Allowance, Client, Limits, State
from protocol.records import Header, ReplyItem, RequestItem
from protocol.recovery import decode_reply, first_packet
from protocol.ring import Ring
from protocol.schema import Flag, MsgType, ReplyStatus, RequestKind
from tests.support.packets import packet
from tests.support.recovery_client import request

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


class Channel:
    """A source whose packets and books are numbered patterns, so that each byte of an answer can be foretold."""

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

    def publish(self, packets: int = 1, items: int = 2) -> None:
        """Publish one batch."""
        batch = [packet(self.next_seq + number, session=9, items=items) for number in range(packets)]
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
        data = packet(self.next_seq - 1, instrument=FIRST_ID + index, msg_type=MsgType.INSTRUMENT, items=1, item_size=160)
        return State(data, 1, self.next_seq - 1)

    def book(self, index: int, now_ns: int) -> State:
        """Return a pattern."""
        self.read.append(index)
        levels = [packet(self.next_seq - 1, instrument=FIRST_ID + index, items=80, fragment=n) for n in range(self.items // 80)]
        definition = self.definition(index, now_ns)
        return State(definition.data + b"".join(levels), 1 + len(levels), definition.channel_seq)


class Desk:
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

    def ask(self, client: Client, item: RequestItem, *, session: int = 0) -> tuple[list[bytes], ReplyItem]:
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


def expected_range(channel: Channel, first: int, packets: int) -> tuple[list[bytes], int, int]:
    """Return the packets, the status and the first number that a range must be answered with now."""
    held = range(channel.ring.oldest_seq or channel.next_seq, channel.next_seq)
    wanted = range(first, min(first + packets, channel.next_seq))
    served = [seq for seq in wanted if seq in held]
    status = ReplyStatus.OVERRUN if first < held.start else ReplyStatus.OK
    return [channel.sent[seq] for seq in served], status, served[0] if served else 0


# ranges


@given(
    batches=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 87)), max_size=40),
    first=st.integers(1, 500),
    packets=st.integers(1, 512),
    capacity=st.sampled_from([5_000, 50_000, 1 << 20]),
)
def test_a_range_is_what_was_sent_and_is_still_there(
    batches: list[tuple[int, int]], first: int, packets: int, capacity: int
) -> None:
    """Byte for byte; what is not sent yet is left out, what is lost is said."""
    channel = Channel(capacity=capacity)
    for count, items in batches:
        channel.publish(count, items)
    desk = Desk(channel)
    found, reply = desk.ask(desk.client(), a_range(first, packets), session=9)
    data, status, served = expected_range(channel, first, packets)
    assert found == data
    assert reply == ReplyItem(1, status, 0, 7, served, channel.next_seq, len(data), 0)


def test_pieces_are_small_and_clients_take_turns() -> None:
    """A client that asks for one packet does not wait for one that asks for many."""
    channel = Channel()
    channel.publish(512, 80)
    desk = Desk(channel)
    greedy, modest = desk.client(), desk.client()
    for _ in range(3):
        desk.server.receive(greedy, request(a_range(1, 512)))
    assert desk.step() is greedy
    assert 0 < len(desk.sent[greedy]) <= 64 << 10
    desk.server.receive(modest, request(a_range(5, 1)))
    turns = desk.run()
    assert modest in turns[:2]
    assert [(len(found), reply.status) for found, reply in desk.answers(greedy)] == [(512, 0)] * 3
    assert [found for found, _ in desk.answers(modest)] == [[channel.sent[5]]]


def test_a_range_that_is_overwritten_while_it_is_served_ends_there() -> None:
    """What was served is right and without a hole, and the reply says that the rest is gone."""
    channel = Channel(capacity=1 << 20)
    channel.publish(512, 80)
    desk = Desk(channel)
    client = desk.client()
    desk.server.receive(client, request(a_range(1, 512)))
    desk.step()
    for _ in range(40):
        channel.publish(20, 80)
    desk.run()
    ((found, reply),) = desk.answers(client)
    assert 0 < len(found) < 512
    assert found == [channel.sent[seq] for seq in range(1, 1 + len(found))]
    assert (reply.status, reply.first, reply.packets, reply.next_seq) == (ReplyStatus.OVERRUN, 1, len(found), 1313)
    assert desk.server.counts["overruns"] == 1


def test_another_session_is_refused_and_session_0_is_the_current_one() -> None:
    """Numbers of one session mean nothing in another; the reply's header tells which it is."""
    channel = Channel()
    channel.publish(3)
    desk = Desk(channel)
    client = desk.client()
    for item in (a_range(1, 1), SNAPSHOT, DEFINITIONS):
        found, reply = desk.ask(client, item, session=8)
        assert (found, reply.status, reply.request_id, reply.kind) == ([], ReplyStatus.OTHER_SESSION, item.request_id, item.kind)
        assert desk.ask(client, item, session=0)[1].status == ReplyStatus.OK
        assert desk.ask(client, item, session=9)[1].status == ReplyStatus.OK
    desk.server.receive(client, request(a_range(1, 1), session=8))
    desk.run()
    header, _ = decode_reply(bytes(desk.sent[client]))
    assert (header.session, header.channel_id, header.venue_id, header.ts_send_ns) == (9, 1, 1, 5)
    assert header.flags & Flag.REPLAY


# definitions and snapshots


@pytest.mark.parametrize("instruments", [0, 1, 3, 30])
def test_definitions_of_all_or_of_one(instruments: int) -> None:
    """Each once, in order."""
    channel = Channel(instruments)
    channel.publish(3)
    desk = Desk(channel)
    client = desk.client()
    found, reply = desk.ask(client, DEFINITIONS)
    assert found == [channel.definition(index, 0).data for index in range(instruments)]
    assert (reply.status, reply.packets, reply.next_seq) == (ReplyStatus.OK, instruments, 4)
    for index in range(instruments):
        found, reply = desk.ask(client, DEFINITIONS._replace(instrument_id=FIRST_ID + index))
        assert (found, reply.packets) == ([channel.definition(index, 0).data], 1)


def test_an_unknown_instrument_is_said_to_be_unknown() -> None:
    """It is no mistake of the client's: the connection stays."""
    desk = Desk(Channel(3))
    client = desk.client()
    for item in (SNAPSHOT, DEFINITIONS):
        found, reply = desk.ask(client, item._replace(instrument_id=FIRST_ID + 3))
        assert (found, reply.status) == ([], ReplyStatus.UNKNOWN_INSTRUMENT)
    assert desk.ask(client, SNAPSHOT)[1].status == ReplyStatus.OK


def test_a_snapshot_reads_one_book_a_step_and_says_when() -> None:
    """Between two books the stream goes on; each carries the number that it is true at."""
    channel = Channel(5)
    channel.items = 160
    channel.publish(3)
    desk = Desk(channel)
    client = desk.client()
    desk.server.receive(client, request(SNAPSHOT))
    while desk.step() is not None:
        assert len(channel.read) <= 1 + (channel.next_seq - 4)
        channel.publish()
    assert channel.read == [0, 1, 2, 3, 4]
    ((found, reply),) = desk.answers(client)
    joins = [int.from_bytes(data[24:32], "little") for data in found]
    assert joins == [3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7]
    assert reply.packets == 15


def test_a_large_book_goes_out_in_pieces() -> None:
    """Nobody waits for a whole megabyte to be written."""
    channel = Channel(2)
    channel.items = 8000
    desk = Desk(channel)
    client, other = desk.client(), desk.client()
    desk.server.receive(client, request(SNAPSHOT))
    desk.step()
    assert len(desk.sent[client]) == 64 << 10
    desk.server.receive(other, request(DEFINITIONS))
    assert other in [desk.step(), desk.step()]
    desk.run()
    ((found, _),) = desk.answers(client)
    assert len(found) == 2 * 101


def test_books_read_for_one_serve_those_who_asked_before() -> None:
    """A hundred joiners do not read each book a hundred times, and nobody gets a book older than the question."""
    channel = Channel(20)
    channel.items = 80
    channel.publish(2)
    desk = Desk(channel)
    early = [desk.client() for _ in range(50)]
    for client in early:
        desk.server.receive(client, request(SNAPSHOT))
    for _ in range(len(early) + 10):
        desk.step()
    channel.publish()
    late = desk.client()
    desk.server.receive(late, request(SNAPSHOT))
    desk.run()
    assert len(channel.read) <= 2 * 20
    for client in (*early, late):
        ((found, reply),) = desk.answers(client)
        joins = [int.from_bytes(data[24:32], "little") for data in found]
        assert reply.packets == len(joins) == 40
        assert min(joins) >= (3 if client is late else 2)
        assert [int.from_bytes(data[16:24], "little") for data in found[::2]] == list(range(FIRST_ID, FIRST_ID + 20))
    desk.ask(late, SNAPSHOT._replace(instrument_id=FIRST_ID))
    assert channel.read[-1] == 0


# limits


def test_who_takes_too_much_is_told_when_to_come_again() -> None:
    """One request may overdraw the budget; the next is refused until the time that its reply names."""
    channel = Channel()
    channel.publish(512, 0)
    desk = Desk(channel, LIMITS.__class__(**{**_as_dict(LIMITS), "packets_per_s": 100}))
    client, other = desk.client(), desk.client()
    assert desk.ask(client, a_range(1, 512))[1].packets == 512
    found, reply = desk.ask(client, a_range(1, 1))
    assert (found, reply.status, reply.first) == ([], ReplyStatus.BUSY, 0)
    assert 4000 < reply.retry_ms < 4200
    assert desk.ask(other, a_range(1, 1))[1].status == ReplyStatus.OK
    desk.now_ns += (reply.retry_ms - 2) * 1_000_000
    assert desk.ask(client, a_range(1, 1))[1].status == ReplyStatus.BUSY
    desk.now_ns += 2 * 1_000_000
    assert desk.ask(client, a_range(1, 1))[1].status == ReplyStatus.OK
    assert desk.server.counts["refused_busy"] == 2


def _as_dict(limits: Limits) -> dict[str, int]:
    return {name: getattr(limits, name) for name in Limits.__slots__}


@pytest.mark.parametrize(
    ("limit", "item"), [("bytes_per_s", a_range(1, 100)), ("bytes_per_s", SNAPSHOT), ("books_per_s", SNAPSHOT)]
)
def test_bytes_and_books_have_budgets_too(limit: str, item: RequestItem) -> None:
    """Whatever a client asks for."""
    channel = Channel(20)
    channel.publish(200, 80)
    desk = Desk(channel, Limits(**{**_as_dict(LIMITS), limit: 10}))
    client = desk.client()
    assert desk.ask(client, item)[1].status == ReplyStatus.OK
    assert desk.ask(client, item)[1].status == ReplyStatus.BUSY


@given(st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(0, 500)), max_size=30), st.integers(1, 200))
def test_a_budget_holds_over_any_time(asks: list[tuple[int, int]], per_s: int) -> None:
    """Who waits as told gets it; in all never more than a second's worth, the rate, and the last request beyond it."""
    budget, now, spent, last = Allowance(per_s, 0), 0, 0, 0
    for pause, amount in asks:
        now += pause
        wait = budget.wait_ns(now)
        if wait:
            assert budget.wait_ns(now + wait - 1) > 0 or wait == 1
            now += wait
            assert budget.wait_ns(now) == 0
        budget.spend(amount)
        spent, last = spent + amount, amount
        assert (spent - last) * SECOND < per_s * (SECOND + now) + SECOND


def test_who_does_not_listen_to_busy_is_closed() -> None:
    """Answering BUSY for ever would be work, too."""
    channel = Channel()
    channel.publish(512, 0)
    desk = Desk(channel, Limits(**{**_as_dict(LIMITS), "packets_per_s": 1}))
    client = desk.client()
    desk.ask(client, a_range(1, 512))
    for _ in range(200):
        desk.server.receive(client, request(a_range(1, 1)))
    desk.run()
    assert client.closing
    assert {reply.status for _, reply in desk.answers(client)} == {ReplyStatus.BUSY}
    assert 60 <= desk.server.counts["refused_busy"] <= 70
    assert desk.server.counts["insistent"] == 1


def test_clients_beyond_the_limit_are_refused_politely() -> None:
    """And a place that becomes free is given away."""
    desk = Desk(Channel(), Limits(**{**_as_dict(LIMITS), "clients": 2}))
    first = desk.client()
    desk.client()
    assert desk.server.connect(0) is None
    _, reply = decode_reply(desk.server.refusal(5))
    assert (reply.status, reply.request_id) == (ReplyStatus.BUSY, 0)
    assert reply.retry_ms > 0
    desk.server.disconnect(first)
    desk.client()
    assert desk.server.counts["refused"] == 1


def test_who_sends_more_than_the_backlog_is_read_no_further() -> None:
    """Until enough of it is answered."""
    channel = Channel()
    channel.publish(1)
    desk = Desk(channel, Limits(**{**_as_dict(LIMITS), "backlog": 4}))
    client = desk.client()
    for count in range(1, 5):
        assert desk.server.wants(client)
        desk.server.receive(client, request(a_range(1, 1, count)))
    assert not desk.server.wants(client)
    desk.step()
    assert desk.server.wants(client)
    desk.run()
    assert [reply.request_id for _, reply in desk.answers(client)] == [1, 2, 3, 4]


# those who misbehave


@given(st.binary(min_size=1, max_size=300), st.integers(1, 50))
def test_junk_gets_one_answer_and_harms_nobody(junk: bytes, size: int) -> None:
    """Random bytes, in pieces: BAD_REQUEST and the end, or the wait for more; another client is served all the same."""
    channel = Channel()
    channel.publish(5)
    desk = Desk(channel)
    bad, good = desk.client(), desk.client()
    for start in range(0, len(junk), size):
        desk.server.receive(bad, junk[start : start + size])
        desk.step()
    assert desk.ask(good, a_range(2, 1))[0] == [channel.sent[2]]
    answers = desk.answers(bad)
    if len(junk) > 1 and not junk.startswith(b"\x4d\x46"):
        ((found, reply),) = answers
        assert (found, reply.status, reply.kind) == ([], ReplyStatus.BAD_REQUEST, 0)
        assert bad.closing
        assert desk.server.counts["bad_requests"] == 1
    desk.server.receive(bad, request(a_range(1, 1)))
    desk.run()
    refused = [reply for _, reply in (*answers, *desk.answers(bad)) if reply.status == ReplyStatus.BAD_REQUEST]
    assert len(refused) == bool(bad.closing)


@given(st.integers(0, 97), st.integers(1, 255))
def test_a_request_with_a_wrong_byte_is_answered_or_refused(position: int, change: int) -> None:
    """Never an exception, never packets of another channel."""
    channel = Channel()
    channel.publish(5)
    desk = Desk(channel)
    client = desk.client()
    data = bytearray(request(a_range(2, 2), session=9))
    data[position] ^= change
    desk.server.receive(client, data)
    desk.run()
    for found, reply in desk.answers(client):
        assert set(found) <= set(channel.sent.values())
        assert client.closing if reply.status == ReplyStatus.BAD_REQUEST else not client.closing


@pytest.mark.parametrize(
    "item", [a_range(1, 513), a_range(1, 0), a_range(0, 1), RequestItem(kind=0), RequestItem(kind=77, request_id=5)]
)
def test_requests_for_what_cannot_be_end_the_connection(item: RequestItem) -> None:
    """What stands behind them is not looked at."""
    desk = Desk(Channel())
    client = desk.client()
    desk.server.receive(client, request(item) + request(DEFINITIONS))
    desk.run()
    ((found, reply),) = desk.answers(client)
    assert (found, reply.status) == ([], ReplyStatus.BAD_REQUEST)
    assert client.closing.startswith("bad request: ")


def test_another_channels_request_is_a_mistake() -> None:
    """A stale port leads to another feeder: nobody must take its packets for those asked for."""
    desk = Desk(Channel())
    client = desk.client()
    desk.server.receive(client, request(a_range(1, 1), venue_id=2))
    desk.run()
    assert desk.answers(client)[0][1].status == ReplyStatus.BAD_REQUEST
    assert "channel 2" in client.closing


def test_half_a_request_waits_and_then_is_idle() -> None:
    """Bytes that come one by one are no sign of life; complete requests are."""
    desk = Desk(Channel())
    client, alive = desk.client(), desk.client()
    for position, byte in enumerate(request(SNAPSHOT)[:60]):
        desk.now_ns = position * SECOND
        desk.server.receive(client, bytes([byte]))
        assert desk.step() is None
        assert desk.server.overdue(desk.now_ns) == []
    desk.ask(alive, DEFINITIONS)
    desk.now_ns = 61 * SECOND
    assert desk.server.overdue(desk.now_ns) == [client]
    assert client.closing == "idle"
    assert desk.server.counts["idle"] == 1


def test_who_does_not_read_gets_no_turn_and_is_cut_off_in_time() -> None:
    """Its answer waits, others go on; who reads again in time gets the rest."""
    channel = Channel()
    channel.publish(512, 80)
    desk = Desk(channel)
    stuck, slow, other = desk.client(), desk.client(), desk.client()
    for client in (stuck, slow):
        desk.server.receive(client, request(a_range(1, 512)))
        desk.step()
        desk.server.block(client, desk.now_ns)
    assert desk.run() == []
    assert desk.ask(other, a_range(1, 1))[1].status == ReplyStatus.OK
    desk.now_ns = 4 * SECOND
    assert desk.server.overdue(desk.now_ns) == []
    desk.server.unblock(slow)
    desk.run()
    assert len(desk.answers(slow)[0][0]) == 512
    desk.now_ns = 6 * SECOND
    assert desk.server.overdue(desk.now_ns) == [stuck]
    desk.server.disconnect(stuck)
    assert desk.server.counts["stalled"] == desk.server.counts["abandoned"] == 1


def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    """In the middle of a snapshot, and before its turn."""
    channel = Channel(10)
    channel.publish(2)
    desk = Desk(channel)
    gone, waiting = desk.client(), desk.client()
    for client in (gone, waiting):
        desk.server.receive(client, request(SNAPSHOT))
    desk.step()
    desk.server.disconnect(gone)
    desk.server.disconnect(waiting)
    assert desk.run() == []
    assert desk.server.clients == set()
    assert desk.server._snapshots == 0
    assert desk.server._books == {}


def test_who_sends_no_more_is_answered_and_then_closed() -> None:
    """Also with half a request at the end."""
    channel = Channel()
    channel.publish(5)
    for rest in (b"", request(SNAPSHOT)[:50]):
        desk = Desk(channel)
        client = desk.client()
        desk.server.receive(client, request(a_range(1, 2)) + request(a_range(3, 2)) + rest)
        desk.server.end(client)
        desk.run()
        assert [len(found) for found, _ in desk.answers(client)] == [2, 2]
        assert client.closing == "ended"


# everything at once


@given(st.integers(0, 2**32))
def test_many_clients_in_any_order_get_exactly_their_answers(seed: int) -> None:
    """Requests in pieces, packets published in between, clients that stop reading and go on: each answer is the oracle's."""
    rng = random.Random(seed)
    channel = Channel(capacity=rng.choice([20_000, 1 << 20]))
    desk = Desk(channel)
    clients = [desk.client() for _ in range(4)]
    asked: dict[Client, deque[RequestItem]] = {client: deque() for client in clients}
    unsent: dict[Client, bytearray] = {client: bytearray() for client in clients}
    channel.publish(rng.randrange(1, 50), 80)
    for _ in range(150):
        client = rng.choice(clients)
        action = rng.randrange(6)
        if action == 0:
            some = a_range(rng.randrange(1, channel.next_seq + 5), rng.randrange(1, 60), len(asked[client]))
            item = rng.choice([some, SNAPSHOT])
            asked[client].append(item)
            unsent[client] += request(item)
        elif action == 1 and unsent[client]:
            size = rng.randrange(1, len(unsent[client]) + 1)
            desk.server.receive(client, unsent[client][:size])
            del unsent[client][:size]
        elif action == 2:
            channel.publish(rng.randrange(1, 4), rng.randrange(88))
        elif action == 3:
            desk.server.block(client, desk.now_ns)
        elif action == 4:
            desk.server.unblock(client)
        else:
            desk.step()
    for client in clients:
        desk.server.unblock(client)
        desk.server.receive(client, unsent[client])
    desk.run()
    for client in clients:
        answers = desk.answers(client)
        assert len(answers) == len(asked[client])
        for item, (found, reply) in zip(asked[client], answers, strict=True):
            assert (reply.kind, reply.request_id, reply.packets) == (item.kind, item.request_id, len(found))
            if item.kind == RequestKind.SNAPSHOT:
                assert reply.status == ReplyStatus.OK
                continue
            first = reply.first if found else item.first
            assert found == [channel.sent[seq] for seq in range(first, first + len(found))]
            assert first >= item.first
            whole = first == item.first and first + len(found) == min(item.first + item.packets, reply.next_seq)
            assert reply.status == ReplyStatus.OVERRUN or whole or item.first >= reply.next_seq
