"""The recovery service's brain: what it does to those who ask too much, do not read, go away, or send nonsense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeder.recovery.types import Allowance
from protocol.records import RequestItem
from protocol.recovery import decode_reply
from protocol.schema import ReplyStatus
from tests.support.recovery_client import request
from tests.support.recovery_desk import DEFINITIONS, SECOND, SNAPSHOT, Channel, Desk, a_range, limits


def test_who_takes_too_much_is_told_when_to_come_again() -> None:
    """One request may overdraw the budget; the next is refused until the time that its reply names."""
    channel = Channel()
    channel.publish(512, 0)
    desk = Desk(channel, limits(packets_per_s=100))
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


@pytest.mark.parametrize(
    ("limit", "item"), [("bytes_per_s", a_range(1, 100)), ("bytes_per_s", SNAPSHOT), ("books_per_s", SNAPSHOT)]
)
def test_bytes_and_books_have_budgets_too(limit: str, item: RequestItem) -> None:
    """Whatever a client asks for."""
    channel = Channel(20)
    channel.publish(200, 80)
    desk = Desk(channel, limits(**{limit: 10}))
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
    desk = Desk(channel, limits(packets_per_s=1))
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
    desk = Desk(Channel(), limits(clients=2))
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
    desk = Desk(channel, limits(backlog=4))
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
