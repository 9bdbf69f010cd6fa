"""The recovery service's brain: what it answers, and in which order."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapecast.protocol.publish.recovery.types import Client
from tapecast.protocol.records import ReplyItem, RequestItem
from tapecast.protocol.recovery import decode_reply
from tapecast.protocol.schema import Flag, ReplyStatus, RequestKind
from tests.support.recovery_bench import DEFINITIONS, FIRST_ID, SNAPSHOT, Bench, Channel, a_range
from tests.support.recovery_client import request


def expected_range(channel: Channel, first: int, packets: int) -> tuple[list[bytes], int, int]:
    """Return the packets, the status and the first number that a range must be answered with
    now.
    """
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
    bench = Bench(channel)
    found, reply = bench.ask(bench.client(), a_range(first, packets), session=9)
    data, status, served = expected_range(channel, first, packets)
    assert found == data
    assert reply == ReplyItem(1, status, 0, 7, served, channel.next_seq, len(data), 0)


def test_pieces_are_small_and_clients_take_turns() -> None:
    """A client that asks for one packet does not wait for one that asks for many."""
    channel = Channel()
    channel.publish(512, 80)
    bench = Bench(channel)
    greedy, modest = bench.client(), bench.client()
    for _ in range(3):
        bench.server.receive(greedy, request(a_range(1, 512)))
    assert bench.step() is greedy
    assert 0 < len(bench.sent[greedy]) <= 64 << 10
    bench.server.receive(modest, request(a_range(5, 1)))
    turns = bench.run()
    assert modest in turns[:2]
    assert [(len(found), reply.status) for found, reply in bench.answers(greedy)] == [(512, 0)] * 3
    assert [found for found, _ in bench.answers(modest)] == [[channel.sent[5]]]


def test_a_range_that_is_overwritten_while_it_is_served_ends_there() -> None:
    """What was served is right and without a hole, and the reply says that the rest is gone."""
    channel = Channel(capacity=1 << 20)
    channel.publish(512, 80)
    bench = Bench(channel)
    client = bench.client()
    bench.server.receive(client, request(a_range(1, 512)))
    bench.step()
    for _ in range(40):
        channel.publish(20, 80)
    bench.run()
    ((found, reply),) = bench.answers(client)
    assert 0 < len(found) < 512
    assert found == [channel.sent[seq] for seq in range(1, 1 + len(found))]
    assert (reply.status, reply.first, reply.packets, reply.next_seq) == (
        ReplyStatus.OVERRUN,
        1,
        len(found),
        1313,
    )
    assert bench.server.counts["overruns"] == 1


def test_another_session_is_refused_and_session_0_is_the_current_one() -> None:
    """Numbers of one session mean nothing in another; the reply's header tells which it is."""
    channel = Channel()
    channel.publish(3)
    bench = Bench(channel)
    client = bench.client()
    for item in (a_range(1, 1), SNAPSHOT, DEFINITIONS):
        found, reply = bench.ask(client, item, session=8)
        assert (found, reply.status, reply.request_id, reply.kind) == (
            [],
            ReplyStatus.OTHER_SESSION,
            item.request_id,
            item.kind,
        )
        assert bench.ask(client, item, session=0)[1].status == ReplyStatus.OK
        assert bench.ask(client, item, session=9)[1].status == ReplyStatus.OK
    bench.server.receive(client, request(a_range(1, 1), session=8))
    bench.run()
    header, _ = decode_reply(bytes(bench.sent[client]))
    assert (header.session, header.channel_id, header.venue_id, header.ts_send_ns) == (9, 1, 1, 5)
    assert header.flags & Flag.REPLAY


# definitions and snapshots


@pytest.mark.parametrize("instruments", [0, 1, 3, 30])
def test_definitions_of_all_or_of_one(instruments: int) -> None:
    """Each once, in order."""
    channel = Channel(instruments)
    channel.publish(3)
    bench = Bench(channel)
    client = bench.client()
    found, reply = bench.ask(client, DEFINITIONS)
    assert found == [channel.definition(index, 0).piece(0) for index in range(instruments)]
    assert (reply.status, reply.packets, reply.next_seq) == (ReplyStatus.OK, instruments, 4)
    for index in range(instruments):
        found, reply = bench.ask(client, DEFINITIONS._replace(instrument_id=FIRST_ID + index))
        assert (found, reply.packets) == ([channel.definition(index, 0).piece(0)], 1)


def test_an_unknown_instrument_is_said_to_be_unknown() -> None:
    """It is no mistake of the client's: the connection stays."""
    bench = Bench(Channel(3))
    client = bench.client()
    for item in (SNAPSHOT, DEFINITIONS):
        found, reply = bench.ask(client, item._replace(instrument_id=FIRST_ID + 3))
        assert (found, reply.status) == ([], ReplyStatus.UNKNOWN_INSTRUMENT)
    assert bench.ask(client, SNAPSHOT)[1].status == ReplyStatus.OK


def test_a_snapshot_reads_one_book_a_step_and_says_when() -> None:
    """Between two books the stream goes on; each carries the number that it is true at."""
    channel = Channel(5)
    channel.items = 160
    channel.publish(3)
    bench = Bench(channel)
    client = bench.client()
    bench.server.receive(client, request(SNAPSHOT))
    while bench.step() is not None:
        assert len(channel.read) <= 1 + (channel.next_seq - 4)
        channel.publish()
    assert channel.read == [0, 1, 2, 3, 4]
    ((found, reply),) = bench.answers(client)
    joins = [int.from_bytes(data[24:32], "little") for data in found]
    assert joins == [3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7]
    assert reply.packets == 15


def test_a_large_book_is_made_in_pieces_one_a_step_and_once_for_all() -> None:
    """Nobody waits for a whole book to be made or written; it is the book of one moment all the
    same.
    """
    channel = Channel(2)
    channel.items = 8000
    channel.publish()
    bench = Bench(channel)
    clients = [bench.client(), bench.client()]
    for client in clients:
        bench.server.receive(client, request(SNAPSHOT))
    made = 0
    while (step := bench.server.step(0, 5)) is not None:
        bench.sent[step.client] += step.data
        assert len(step.data) <= (64 << 10) + 98
        assert channel.made <= made + 1
        made = channel.made
        channel.publish()
    # the second client asked after the first book had been read
    assert channel.read == [0, 0, 1]
    assert made == 3 * len(channel.read)
    for client in clients:
        ((found, reply),) = bench.answers(client)
        assert reply.packets == len(found) == 2 * 101
        for book in (found[:101], found[101:]):
            assert len({data[24:32] for data in book}) == 1


def test_books_read_for_one_serve_those_who_asked_before() -> None:
    """A hundred joiners do not read each book a hundred times, and nobody gets a book older than
    the question.
    """
    channel = Channel(20)
    channel.items = 80
    channel.publish(2)
    bench = Bench(channel)
    early = [bench.client() for _ in range(50)]
    for client in early:
        bench.server.receive(client, request(SNAPSHOT))
    for _ in range(len(early) + 10):
        bench.step()
    channel.publish()
    late = bench.client()
    bench.server.receive(late, request(SNAPSHOT))
    bench.run()
    assert len(channel.read) <= 2 * 20
    for client in (*early, late):
        ((found, reply),) = bench.answers(client)
        joins = [int.from_bytes(data[24:32], "little") for data in found]
        assert reply.packets == len(joins) == 40
        assert min(joins) >= (3 if client is late else 2)
        assert [int.from_bytes(data[16:24], "little") for data in found[::2]] == list(
            range(FIRST_ID, FIRST_ID + 20)
        )
    bench.ask(late, SNAPSHOT._replace(instrument_id=FIRST_ID))
    assert channel.read[-1] == 0


# everything at once


@given(st.integers(0, 2**32))
def test_many_clients_in_any_order_get_exactly_their_answers(seed: int) -> None:
    """Requests in pieces, packets published in between, clients that stop reading and go on:
    each answer is the oracle's.
    """
    rng = random.Random(seed)
    channel = Channel(capacity=rng.choice([20_000, 1 << 20]))
    bench = Bench(channel)
    clients = [bench.client() for _ in range(4)]
    asked: dict[Client, deque[RequestItem]] = {client: deque() for client in clients}
    unsent: dict[Client, bytearray] = {client: bytearray() for client in clients}
    channel.publish(rng.randrange(1, 50), 80)
    for _ in range(150):
        client = rng.choice(clients)
        action = rng.randrange(6)
        if action == 0:
            some = a_range(
                rng.randrange(1, channel.next_seq + 5), rng.randrange(1, 60), len(asked[client])
            )
            item = rng.choice([some, SNAPSHOT])
            asked[client].append(item)
            unsent[client] += request(item)
        elif action == 1 and unsent[client]:
            size = rng.randrange(1, len(unsent[client]) + 1)
            bench.server.receive(client, unsent[client][:size])
            del unsent[client][:size]
        elif action == 2:
            channel.publish(rng.randrange(1, 4), rng.randrange(88))
        elif action == 3:
            bench.server.block(client, bench.now_ns)
        elif action == 4:
            bench.server.unblock(client)
        else:
            bench.step()
    for client in clients:
        bench.server.unblock(client)
        bench.server.receive(client, unsent[client])
    bench.run()
    for client in clients:
        answers = bench.answers(client)
        assert len(answers) == len(asked[client])
        for item, (found, reply) in zip(asked[client], answers, strict=True):
            assert (reply.kind, reply.request_id, reply.packets) == (
                item.kind,
                item.request_id,
                len(found),
            )
            if item.kind == RequestKind.SNAPSHOT:
                assert reply.status == ReplyStatus.OK
                continue
            first = reply.first if found else item.first
            assert found == [channel.sent[seq] for seq in range(first, first + len(found))]
            assert first >= item.first
            whole = first == item.first and first + len(found) == min(
                item.first + item.packets, reply.next_seq
            )
            assert reply.status == ReplyStatus.OVERRUN or whole or item.first >= reply.next_seq
