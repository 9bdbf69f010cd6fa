"""The recovery service's brain: what it does to those who ask too much, do not read, go away, or
send nonsense.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapecast.protocol.publish.recovery.types import Allowance
from tapecast.protocol.records import RequestItem
from tapecast.protocol.recovery import decode_reply
from tapecast.protocol.schema import ReplyStatus
from tests.support.recovery_bench import (
    DEFINITIONS,
    SECOND,
    SNAPSHOT,
    Bench,
    Channel,
    a_range,
    limits,
)
from tests.support.recovery_client import request


def test_who_takes_too_much_is_told_when_to_come_again() -> None:
    """One request may overdraw the budget; the next is refused until the time that its reply
    names.
    """
    channel = Channel()
    channel.publish(512, 0)
    bench = Bench(channel, limits(packets_per_s=100))
    client, other = bench.client(), bench.client()
    assert bench.ask(client, a_range(1, 512))[1].packets == 512
    found, reply = bench.ask(client, a_range(1, 1))
    assert (found, reply.status, reply.first) == ([], ReplyStatus.BUSY, 0)
    assert 4000 < reply.retry_ms < 4200
    assert bench.ask(other, a_range(1, 1))[1].status == ReplyStatus.OK
    bench.now_ns += (reply.retry_ms - 2) * 1_000_000
    assert bench.ask(client, a_range(1, 1))[1].status == ReplyStatus.BUSY
    bench.now_ns += 2 * 1_000_000
    assert bench.ask(client, a_range(1, 1))[1].status == ReplyStatus.OK
    assert bench.server.counts["refused_busy"] == 2


@pytest.mark.parametrize(
    ("limit", "item"),
    [("bytes_per_s", a_range(1, 100)), ("bytes_per_s", SNAPSHOT), ("books_per_s", SNAPSHOT)],
)
def test_bytes_and_books_have_budgets_too(limit: str, item: RequestItem) -> None:
    """Whatever a client asks for."""
    channel = Channel(20)
    channel.publish(200, 80)
    bench = Bench(channel, limits(**{limit: 10}))
    client = bench.client()
    assert bench.ask(client, item)[1].status == ReplyStatus.OK
    assert bench.ask(client, item)[1].status == ReplyStatus.BUSY


@given(
    st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(0, 500)), max_size=30),
    st.integers(1, 200),
)
def test_a_budget_holds_over_any_time(asks: list[tuple[int, int]], per_s: int) -> None:
    """Who waits as told gets it; in all never more than a second's worth, the rate, and the last
    request beyond it.
    """
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
    bench = Bench(channel, limits(packets_per_s=1))
    client = bench.client()
    bench.ask(client, a_range(1, 512))
    for _ in range(200):
        bench.server.receive(client, request(a_range(1, 1)))
    bench.run()
    assert client.closing
    assert {reply.status for _, reply in bench.answers(client)} == {ReplyStatus.BUSY}
    assert 60 <= bench.server.counts["refused_busy"] <= 70
    assert bench.server.counts["insistent"] == 1


def test_clients_beyond_the_limit_are_refused_politely() -> None:
    """And a place that becomes free is given away."""
    bench = Bench(Channel(), limits(clients=2))
    first = bench.client()
    bench.client()
    assert bench.server.connect(0) is None
    _, reply = decode_reply(bench.server.refusal(5))
    assert (reply.status, reply.request_id) == (ReplyStatus.BUSY, 0)
    assert reply.retry_ms > 0
    bench.server.disconnect(first)
    bench.client()
    assert bench.server.counts["refused"] == 1


def test_who_sends_more_than_the_backlog_is_read_no_further() -> None:
    """Until enough of it is answered."""
    channel = Channel()
    channel.publish(1)
    bench = Bench(channel, limits(backlog=4))
    client = bench.client()
    for count in range(1, 5):
        assert bench.server.wants(client)
        bench.server.receive(client, request(a_range(1, 1, count)))
    assert not bench.server.wants(client)
    bench.step()
    assert bench.server.wants(client)
    bench.run()
    assert [reply.request_id for _, reply in bench.answers(client)] == [1, 2, 3, 4]


# those who misbehave


@given(st.binary(min_size=1, max_size=300), st.integers(1, 50))
def test_junk_gets_one_answer_and_harms_nobody(junk: bytes, size: int) -> None:
    """Random bytes, in pieces: BAD_REQUEST and the end, or the wait for more; another client is
    served all the same.
    """
    channel = Channel()
    channel.publish(5)
    bench = Bench(channel)
    bad, good = bench.client(), bench.client()
    for start in range(0, len(junk), size):
        bench.server.receive(bad, junk[start : start + size])
        bench.step()
    assert bench.ask(good, a_range(2, 1))[0] == [channel.sent[2]]
    answers = bench.answers(bad)
    if len(junk) > 1 and not junk.startswith(b"\x4d\x46"):
        ((found, reply),) = answers
        assert (found, reply.status, reply.kind) == ([], ReplyStatus.BAD_REQUEST, 0)
        assert bad.closing
        assert bench.server.counts["bad_requests"] == 1
    bench.server.receive(bad, request(a_range(1, 1)))
    bench.run()
    refused = [
        reply
        for _, reply in (*answers, *bench.answers(bad))
        if reply.status == ReplyStatus.BAD_REQUEST
    ]
    assert len(refused) == bool(bad.closing)


@given(st.integers(0, 97), st.integers(1, 255))
def test_a_request_with_a_wrong_byte_is_answered_or_refused(position: int, change: int) -> None:
    """Never an exception, never packets of another channel."""
    channel = Channel()
    channel.publish(5)
    bench = Bench(channel)
    client = bench.client()
    data = bytearray(request(a_range(2, 2), session=9))
    data[position] ^= change
    bench.server.receive(client, data)
    bench.run()
    for found, reply in bench.answers(client):
        assert set(found) <= set(channel.sent.values())
        assert client.closing if reply.status == ReplyStatus.BAD_REQUEST else not client.closing


@pytest.mark.parametrize(
    "item",
    [
        a_range(1, 513),
        a_range(1, 0),
        a_range(0, 1),
        RequestItem(kind=0),
        RequestItem(kind=77, request_id=5),
    ],
)
def test_requests_for_what_cannot_be_end_the_connection(item: RequestItem) -> None:
    """What stands behind them is not looked at."""
    bench = Bench(Channel())
    client = bench.client()
    bench.server.receive(client, request(item) + request(DEFINITIONS))
    bench.run()
    ((found, reply),) = bench.answers(client)
    assert (found, reply.status) == ([], ReplyStatus.BAD_REQUEST)
    assert client.closing.startswith("bad request: ")


def test_another_channels_request_is_a_mistake() -> None:
    """A stale port leads to another feeder: nobody must take its packets for those asked for."""
    bench = Bench(Channel())
    client = bench.client()
    bench.server.receive(client, request(a_range(1, 1), venue_id=2))
    bench.run()
    assert bench.answers(client)[0][1].status == ReplyStatus.BAD_REQUEST
    assert "channel 2" in client.closing


def test_half_a_request_waits_and_then_is_idle() -> None:
    """Bytes that come one by one are no sign of life; complete requests are."""
    bench = Bench(Channel())
    client, alive = bench.client(), bench.client()
    for position, byte in enumerate(request(SNAPSHOT)[:60]):
        bench.now_ns = position * SECOND
        bench.server.receive(client, bytes([byte]))
        assert bench.step() is None
        assert bench.server.overdue(bench.now_ns) == []
    bench.ask(alive, DEFINITIONS)
    bench.now_ns = 61 * SECOND
    assert bench.server.overdue(bench.now_ns) == [client]
    assert client.closing == "idle"
    assert bench.server.counts["idle"] == 1


def test_who_does_not_read_gets_no_turn_and_is_cut_off_in_time() -> None:
    """Its answer waits, others go on; who reads again in time gets the rest."""
    channel = Channel()
    channel.publish(512, 80)
    bench = Bench(channel)
    stuck, slow, other = bench.client(), bench.client(), bench.client()
    for client in (stuck, slow):
        bench.server.receive(client, request(a_range(1, 512)))
        bench.step()
        bench.server.block(client, bench.now_ns)
    assert bench.run() == []
    assert bench.ask(other, a_range(1, 1))[1].status == ReplyStatus.OK
    bench.now_ns = 4 * SECOND
    assert bench.server.overdue(bench.now_ns) == []
    bench.server.unblock(slow)
    bench.run()
    assert len(bench.answers(slow)[0][0]) == 512
    bench.now_ns = 6 * SECOND
    assert bench.server.overdue(bench.now_ns) == [stuck]
    bench.server.disconnect(stuck)
    assert bench.server.counts["stalled"] == bench.server.counts["abandoned"] == 1


def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    """In the middle of a snapshot, and before its turn."""
    channel = Channel(10)
    channel.publish(2)
    bench = Bench(channel)
    gone, waiting = bench.client(), bench.client()
    for client in (gone, waiting):
        bench.server.receive(client, request(SNAPSHOT))
    bench.step()
    bench.server.disconnect(gone)
    bench.server.disconnect(waiting)
    assert bench.run() == []
    assert bench.server.clients == set()
    assert bench.server._snapshots == 0
    assert bench.server._books == {}


def test_who_sends_no_more_is_answered_and_then_closed() -> None:
    """Also with half a request at the end."""
    channel = Channel()
    channel.publish(5)
    for rest in (b"", request(SNAPSHOT)[:50]):
        bench = Bench(channel)
        client = bench.client()
        bench.server.receive(client, request(a_range(1, 2)) + request(a_range(3, 2)) + rest)
        bench.server.end(client)
        bench.run()
        assert [len(found) for found, _ in bench.answers(client)] == [2, 2]
        assert client.closing == "ended"
