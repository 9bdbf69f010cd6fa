"""Repairs in both sequencers, the plain reference and the C one; wire specification, sections 6
and 8.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.protocol.net.sequencing import (
    BatchSequencer,
    ChannelState,
    EventKind,
    SpaceError,
)
from tapecast.protocol.net.sequencing_types import Delivery
from tapecast.protocol.schema import MsgType
from tests.support.examples import examples
from tests.support.packets import fields, heartbeat, packet, session_end
from tests.support.sequencers import (
    HOME,
    Arrival,
    Machine,
    Make,
    Native,
    Output,
    Reference,
    Told,
    events,
    seqs,
    shape,
)

MS = 1_000_000
PORT = 9100
WINDOW = 5 * MS
BUDGET = 200 * MS


@pytest.fixture(params=[Reference, Native])
def make(request: pytest.FixtureRequest) -> Make:
    """Either machine, with 200 ms for repairs."""

    def made(**options: object) -> Machine:
        machine: Machine = request.param(**{"repair_ns": BUDGET, "reach": 4096, **options})
        return machine

    return made


def mended(*numbers: int, session: int = 0) -> list[Arrival]:
    """Return packets as the recovery service sends them."""
    return [Arrival(packet(seq, session=session), 255, repair=True) for seq in numbers]


def begin(machine: Machine, *, oldest: int = 1, upto: int = 1) -> None:
    """Deliver the first packets; a heartbeat names the service."""
    machine.step(
        0,
        [packet(seq) for seq in range(1, upto + 1)]
        + [heartbeat(upto + 1, oldest=oldest, port=PORT)],
    )


def test_a_late_hole_is_asked_for_and_filled(make: Make) -> None:
    """When the window closes the hole is asked for at the heartbeat's source; what comes back is
    delivered in its place.
    """
    machine = make()
    begin(machine)
    machine.step(0, [packet(4), packet(5)])
    (ask,) = machine.step(WINDOW)
    assert ask == Told(EventKind.REPAIR, 1, 0, 2, 2, 0, (HOME[0], PORT))
    assert machine.deadline == WINDOW + BUDGET
    assert machine.step(WINDOW + 1, [packet(6)]) == []
    assert shape(machine.step(WINDOW + 2 * MS, mended(2))) == [2]
    out = machine.step(WINDOW + 3 * MS, mended(3))
    assert shape(out) == [3, 4, 5, 6, ("REPAIRED", 4, 3 * MS)]
    assert machine.deadline is None
    counts = machine.counts()
    assert (counts["repaired"], counts.get("missing", 0), counts["held"]) == (2, 0, 3)


def test_a_budget_that_ends_makes_a_gap(make: Make) -> None:
    """What has not come when 200 ms are over is given up, and what waited is delivered behind
    the gap.
    """
    machine = make()
    begin(machine)
    machine.step(0, [packet(5)])
    machine.step(WINDOW)
    machine.step(WINDOW + MS, mended(3))
    assert machine.step(WINDOW + BUDGET - 1) == []
    assert shape(machine.step(WINDOW + BUDGET)) == [("GAP", 2, 1), 3, ("GAP", 4, 1), 5]
    assert machine.deadline is None
    assert machine.counts()["missing"] == 2
    assert shape(machine.step(WINDOW + BUDGET, [*mended(2), packet(6)])) == [6]
    assert machine.counts()["duplicate"] == 1


def test_without_a_service_a_hole_closes_as_before(make: Make) -> None:
    """No port, no stored packets, or numbers older than the service has: the hole is given up
    when its window closes.
    """
    for beat in (
        heartbeat(2),
        heartbeat(2, oldest=0, port=PORT),
        heartbeat(2, oldest=1, port=0),
        heartbeat(2, oldest=9, port=PORT),
    ):
        machine = make()
        machine.step(0, [packet(1), beat, packet(4)])
        assert shape(machine.step(WINDOW)) == [("GAP", 2, 2), 4]


def test_what_the_service_no_longer_has_is_given_up_and_the_rest_asked_for(make: Make) -> None:
    """A hole that begins before the oldest stored number is split there."""
    machine = make()
    begin(machine, oldest=4)
    machine.step(0, [packet(8)])
    assert shape(machine.step(WINDOW)) == [("GAP", 2, 2), ("REPAIR", 4, 4)]


def test_an_unreachable_service_is_not_asked(make: Make) -> None:
    """Told that the service cannot be reached, the machine closes holes as if there were none,
    until told otherwise.
    """
    machine = make()
    begin(machine)
    machine.machine.repairable(1, False)
    machine.step(0, [packet(3)])
    assert shape(machine.step(WINDOW)) == [("GAP", 2, 1), 3]
    machine.machine.repairable(1, True)
    machine.step(WINDOW, [packet(5)])
    assert shape(machine.step(2 * WINDOW)) == [("REPAIR", 4, 1)]


def test_giving_up_delivers_at_once(make: Make) -> None:
    """An answer that the numbers are gone ends the repair before its time, up to the number
    given.
    """
    machine = make()
    begin(machine)
    machine.step(0, [packet(3), packet(30)])
    assert events(machine.step(WINDOW)) == [("REPAIR", 2, 28)]
    assert shape(machine.give_up(1, 0, 4, WINDOW)) == [("GAP", 2, 1), 3]
    assert machine.give_up(1, 7, 30, WINDOW) == []
    assert machine.give_up(2, 0, 30, WINDOW) == []
    assert shape(machine.give_up(1, 0, 10_000, WINDOW)) == [("GAP", 4, 26), 30]
    assert machine.deadline is None


def test_holes_near_each_other_are_one_request(make: Make) -> None:
    """Up to 15 packets between two holes are asked for with them; farther holes are a request of
    their own.
    """
    machine = make()
    begin(machine)
    machine.step(0, [packet(i) for i in range(3, 60) if i not in (10, 40)])
    assert events(machine.step(WINDOW)) == [("REPAIR", 2, 9), ("REPAIR", 40, 1)]
    assert shape(machine.step(WINDOW, mended(*range(2, 11)))) == list(range(2, 40))
    assert machine.counts()["duplicate"] == 7
    assert shape(machine.step(WINDOW, mended(40))) == [*range(40, 60), ("REPAIRED", 41, 0)]


def test_a_hole_is_not_kept_waiting_by_the_one_before(make: Make) -> None:
    """A second hole is asked for when its own window closes, while the first is still being
    repaired.
    """
    machine = make()
    begin(machine)
    machine.step(0, [packet(3)])
    assert events(machine.step(WINDOW)) == [("REPAIR", 2, 1)]
    assert machine.step(20 * MS, [packet(4), packet(40)]) == []
    assert events(machine.step(20 * MS + WINDOW)) == [("REPAIR", 5, 35)]
    assert machine.deadline == WINDOW + BUDGET
    assert shape(machine.step(60 * MS, mended(*range(5, 40)))) == []
    out = machine.step(61 * MS, mended(2))
    assert shape(out) == [*range(2, 41), ("REPAIRED", 3, 56 * MS), ("REPAIRED", 40, 36 * MS)]


def test_disorder_within_the_window_asks_for_nothing(make: Make) -> None:
    """Packets out of order inside the window are put in order, also beyond a repair that is
    going on.
    """
    machine = make()
    begin(machine)
    machine.step(0, [packet(3)])
    machine.step(WINDOW)
    assert machine.step(6 * MS, [packet(6), packet(5), packet(4), packet(8), packet(7)]) == []
    assert machine.step(20 * MS) == []
    assert seqs(machine.step(20 * MS, mended(2))) == list(range(2, 9))


def test_a_lost_tail_is_asked_for(make: Make) -> None:
    """The number of a heartbeat opens a hole that is repaired like any other, with nothing
    behind it.
    """
    machine = make()
    begin(machine)
    machine.step(0, [heartbeat(4, oldest=1, port=PORT)])
    assert events(machine.step(WINDOW)) == [("REPAIR", 2, 2)]
    machine.step(100 * MS, [heartbeat(4, oldest=1, port=PORT)])
    assert shape(machine.step(110 * MS, mended(2, 3))) == [2, 3, ("REPAIRED", 4, 105 * MS)]
    assert machine.deadline is None


def test_the_late_original_counts_too(make: Make) -> None:
    """A packet that was only slow fills the hole it was asked for; the service's copy is a
    duplicate then.
    """
    machine = make()
    begin(machine)
    machine.step(0, [packet(3)])
    machine.step(WINDOW)
    assert shape(machine.step(8 * MS, [packet(2)])) == [2, 3, ("REPAIRED", 3, 3 * MS)]
    machine.step(9 * MS, mended(2))
    assert "repaired" not in machine.counts()


def test_what_nobody_asked_for_is_dropped(make: Make) -> None:
    """The service can fill holes that were asked for, and nothing else: no number ahead, no
    session, no channel, no heartbeat.
    """
    machine = make()
    begin(machine)
    machine.step(0, [packet(3)])
    machine.step(WINDOW)
    lies = [
        *mended(4, 2**40),
        *mended(2, session=7),
        Arrival(packet(2, channel=2), 255, repair=True),
        Arrival(heartbeat(2**30), 255, repair=True),
        Arrival(session_end(3), 255, repair=True),
        Arrival(b"junk", 255, repair=True),
        Arrival(packet(2)[:80], 255, repair=True),
    ]
    assert machine.step(WINDOW, lies) == []
    assert machine.counts()["unasked"] == 6
    assert (machine.counts()["too_short"], machine.counts()["bad_length"]) == (1, 1)
    assert seqs(machine.step(WINDOW, mended(2))) == [2, 3]


def test_a_new_session_ends_all_repairs(make: Make) -> None:
    """What the old session still owed is a gap before the new one begins, and its service is
    forgotten.
    """
    machine = make()
    begin(machine)
    machine.step(0, [packet(3)])
    machine.step(WINDOW)
    out = machine.step(WINDOW, [packet(1, session=1)])
    assert shape(out) == [("GAP", 2, 1), 3, ("NEW_SESSION", 1, 0), 1]
    machine.step(WINDOW, [*mended(2), packet(3, session=1)])
    assert machine.counts()["unasked"] == 1
    assert shape(machine.step(2 * WINDOW)) == [("GAP", 2, 1), 3]


def test_a_session_may_end_during_a_repair(make: Make) -> None:
    """SESSION_END is told when the repair is done."""
    machine = make()
    begin(machine)
    end = heartbeat(4, msg_type=MsgType.SESSION_END, oldest=1, port=PORT)
    machine.step(0, [packet(3), end])
    assert events(machine.step(WINDOW)) == [("REPAIR", 2, 1)]
    assert shape(machine.step(WINDOW, mended(2))) == [
        2,
        3,
        ("REPAIRED", 3, 0),
        ("SESSION_END", 4, 0),
    ]


def test_a_jump_ends_all_repairs(make: Make) -> None:
    """Numbers that go on elsewhere leave nothing to wait for."""
    machine = make()
    begin(machine)
    machine.step(0, [packet(3)])
    machine.step(WINDOW)
    out = machine.step(WINDOW, [packet(2**40), packet(2**40 + 1)])
    assert shape(out) == [("GAP", 2, 1), 3, ("JUMP", 4, 2**40 - 3), 2**40 + 1]
    assert machine.deadline is None


def test_repairs_wrap(make: Make) -> None:
    """A hole over 2**64 - 1 is asked for and filled."""
    machine = make()
    top = 2**64
    machine.step(0, [packet(top - 2), heartbeat(top - 1, oldest=top - 9, port=PORT), packet(2)])
    assert events(machine.step(WINDOW)) == [("REPAIR", top - 1, 3)]
    assert seqs(machine.step(WINDOW, mended(1, 0, top - 1))) == [top - 1, 0, 1, 2]


def test_a_full_window_asks_at_once(make: Make) -> None:
    """A packet that the window cannot reach has the oldest hole asked for without waiting."""
    machine = make(window_packets=16)
    begin(machine)
    out = machine.step(0, [packet(i) for i in range(3, 30)])
    assert events(out) == [("REPAIR", 2, 1)]
    assert machine.counts()["held"] == 27
    assert seqs(machine.step(0, mended(2))) == list(range(2, 30))


def test_a_hole_that_cannot_be_kept_open_is_given_up(make: Make) -> None:
    """More packets than may wait: the oldest hole goes; a hole larger than that is never asked
    for.
    """
    machine = make(reach=1024)
    begin(machine)
    machine.step(0, [packet(i) for i in range(3, 1020)])
    assert events(machine.step(WINDOW)) == [("REPAIR", 2, 1)]
    out = machine.step(WINDOW, [packet(i) for i in range(1020, 1030)])
    assert shape(out) == [("GAP", 2, 1), *range(3, 1030)]
    assert machine.counts()["missing"] == 1
    machine.step(WINDOW, [heartbeat(1030 + 1024, oldest=1, port=PORT)])
    assert events(machine.step(2 * WINDOW)) == [("GAP", 1030, 1024)]


def test_the_store_is_shared_and_bounded() -> None:
    """Where the store of all channels is full, a channel's holes are given up instead of asked
    for, and nothing else is lost.
    """
    machine = Native(repair_ns=BUDGET, reach=1024, max_channels=2, window_packets=1024)
    beats = [heartbeat(2, channel=c, oldest=1, port=PORT) for c in (1, 2)]
    machine.step(0, [packet(1, channel=1), packet(1, channel=2), *beats])
    got: dict[int, list[int]] = {1: [], 2: []}
    gaps = 0
    for first in range(3, 4000, 500):
        batch = [packet(i, channel=c) for c in (1, 2) for i in range(first, first + 500)]
        for item in machine.step(WINDOW * first, batch):
            if isinstance(item, Delivery):
                head = fields(item.packet)
                got[head["channel_id"]].append(head["channel_seq"])
            gaps += isinstance(item, Told) and item.kind == EventKind.GAP
    assert gaps == 2
    assert got == {1: list(range(3, 4003)), 2: list(range(3, 4003))}


class Server:
    """A recovery service for the oracle: has what was sent, answers after a while, in part,
    twice, or never.
    """

    def __init__(self, rng: random.Random, *, deaf: float, partial: float) -> None:
        """Answer a share `deaf` of the requests not at all, and leave a share `partial` of the
        packets out.
        """
        self._rng, self._deaf, self._partial = rng, deaf, partial
        self.answers: list[tuple[int, Arrival]] = []
        self.asked: set[int] = set()
        self.sent: dict[int, int] = {}

    def ask(self, first: int, count: int, now_ns: int) -> None:
        """Plan the answer to one request."""
        self.asked |= set(range(first, first + count))
        if self._rng.random() < self._deaf:
            return
        at_ns = now_ns + self._rng.randrange(1, 60) * MS
        for seq in range(first, first + count):
            if self._rng.random() < self._partial:
                continue
            for _ in range(1 + (self._rng.random() < 0.1)):
                moment = at_ns + self._rng.randrange(3 * MS)
                self.answers.append((moment, mended(seq)[0]))
                self.sent[seq] = min(moment, self.sent.get(seq, moment))

    def due(self, now_ns: int) -> list[Arrival]:
        """Return what has been sent by now."""
        out = [packet for at_ns, packet in self.answers if at_ns <= now_ns]
        self.answers = [item for item in self.answers if item[0] > now_ns]
        self._rng.shuffle(out)
        return out


class Outcome(NamedTuple):
    """What came out of a run: the numbers in order, those reported missing, and the events."""

    numbers: list[int]
    missing: list[int]


def play(
    machine: Machine, seed: int, *, deaf: float, partial: float
) -> tuple[Outcome, Server, range, set[int]]:
    """Play two lossy, disordered, duplicating lines and a server against a machine; time goes on
    by a millisecond a step.
    """
    rng = random.Random(seed)
    loss, duplicate = rng.choice([0.02, 0.2, 0.5]), rng.choice([0, 0.1])
    sent = range(1, rng.randrange(500, 2500))
    timed: list[tuple[float, Arrival]] = []
    reached = {1}
    seq = 2
    while seq in sent:
        burst = rng.randrange(1, 200) if rng.random() < 0.002 else 0
        for line in (0, 1):
            if burst or rng.random() < loss:
                continue
            reached.add(seq)
            for _ in range(1 + (rng.random() < duplicate)):
                timed.append(
                    (
                        seq * 100_000 + rng.random() * rng.choice([1e4, 2e6]),
                        Arrival(packet(seq), line),
                    )
                )
        seq += 1 + burst
    timed.sort(key=lambda item: item[0])
    server = Server(rng, deaf=deaf, partial=partial)
    numbers: list[int] = []
    missing: list[int] = []
    end_ns = len(sent) * 100_000
    now_ns = 0
    batch = [Arrival(packet(1)), Arrival(heartbeat(2, oldest=1, port=PORT))]
    while now_ns < end_ns + BUDGET + 300 * MS:
        out: list[Output] = machine.step(now_ns, batch)
        for item in out:
            if isinstance(item, Delivery):
                if fields(item.packet)["msg_type"] != MsgType.HEARTBEAT:
                    numbers += seqs([item])
            elif item.kind == EventKind.GAP:
                missing += range(item.first, item.first + item.count)
            elif item.kind == EventKind.REPAIR:
                server.ask(item.first, item.count, now_ns)
        now_ns += MS
        batch = []
        while timed and timed[0][0] <= now_ns:
            batch.append(timed.pop(0)[1])
        if now_ns > end_ns and now_ns // MS % 50 == 0:
            batch.append(Arrival(heartbeat(len(sent) + 1, oldest=1, port=PORT)))
        batch += server.due(now_ns)
        rng.shuffle(batch)
    assert machine.deadline is None
    return Outcome(numbers, missing), server, sent, reached


@pytest.mark.parametrize("seed", range(12))
def test_a_working_service_leaves_no_gap(make: Make, seed: int) -> None:
    """With every request answered within the budget, every number sent comes out once and in
    order, whatever the lines lost.
    """
    outcome, server, sent, reached = play(make(), seed, deaf=0, partial=0)
    assert outcome == Outcome(list(sent), [])
    assert set(sent) - reached <= server.asked


@pytest.mark.parametrize("seed", range(12))
def test_a_poor_service_against_a_brute_force_oracle(make: Make, seed: int) -> None:
    """With requests and packets left unanswered, what came by any way comes out once and in
    order; the rest is the gaps.
    """
    outcome, server, sent, reached = play(make(), 100 + seed, deaf=0.3, partial=0.2)
    assert outcome.numbers == sorted(reached | set(server.sent))
    assert outcome.missing == [seq for seq in sent if seq not in reached and seq not in server.sent]


number = st.one_of(
    st.integers(1, 40),
    st.integers(1, 3000),
    st.sampled_from([0, 2**40, 2**40 + 1, 2**64 - 1, 2**64 - 2]),
)
beat = st.builds(
    heartbeat,
    number,
    session=st.integers(5, 6),
    oldest=st.sampled_from([0, 1, 20, 2**64 - 5]),
    port=st.sampled_from([0, PORT]),
)
datagram = st.one_of(
    st.builds(packet, number, session=st.integers(4, 6), channel=st.integers(1, 3)),
    st.builds(packet, st.integers(1, 80), session=st.just(5), channel=st.just(1)),
    st.builds(packet, st.integers(1, 80), session=st.just(5), channel=st.just(1)),
    beat,
    beat,
    st.builds(session_end, st.integers(1, 50), session=st.integers(4, 6)),
    st.binary(max_size=120),
)
arrival = st.builds(
    Arrival,
    datagram,
    st.integers(0, 5),
    st.just(HOME),
    st.just(False),
    st.sampled_from([False, False, True]),
)
action = st.one_of(
    st.lists(arrival, max_size=25),
    st.tuples(st.integers(1, 2), st.integers(4, 6), number),
    st.tuples(st.integers(1, 2), st.booleans()),
)


@settings(max_examples=examples(300), deadline=None)
@given(
    st.lists(
        st.tuples(st.one_of(st.integers(0, 4 * MS), st.integers(0, 60 * MS)), action), max_size=14
    ),
    st.sampled_from([1, 4, 16, 1024]),
)
def test_both_machines_repair_the_same(steps: list[tuple[int, object]], window: int) -> None:
    """On any stream of datagrams, repairs, refusals and time, both machines have equal answers,
    counters and deadlines.
    """
    options = {"window_packets": window, "max_channels": 2, "repair_ns": 40 * MS, "reach": 1024}
    reference, native = Reference(**options), Native(**options)
    now_ns = 0
    start = [Arrival(packet(1, session=5)), Arrival(heartbeat(2, session=5, oldest=1, port=PORT))]
    assert native.step(0, start) == reference.step(0, start)
    for wait, what in steps:
        now_ns += wait
        if isinstance(what, list):
            assert native.step(now_ns, what) == reference.step(now_ns, what)
        elif isinstance(what, tuple) and len(what) == 3:
            assert native.give_up(*what, now_ns) == reference.give_up(*what, now_ns)
        elif isinstance(what, tuple):
            native.machine.repairable(*what)
            reference.machine.repairable(*what)
        assert native.counts() == reference.counts()
        assert native.deadline == reference.deadline


def test_a_reach_that_is_no_power_of_two_is_refused() -> None:
    """The ring of a channel is addressed by a mask."""
    for reach in (512, 3000):
        with pytest.raises(ValueError, match="power of two"):
            BatchSequencer(repair_ns=1, reach=reach)
    with pytest.raises(SpaceError):
        BatchSequencer(max_spans=1, repair_ns=1).process(
            b"", Native(max_channels=1).machine.deliveries, 2, 0
        )


def test_the_machine_says_where_its_service_and_its_repairs_are() -> None:
    """Service address and position are readable for whoever fetches; a channel not heard has
    neither.
    """
    machine = Native(repair_ns=BUDGET)
    assert machine.machine.channel(1) is None
    machine.step(0, [packet(1), packet(4)])
    assert machine.machine.channel(1) == ChannelState(1, 0, 2, 2, None)
    machine.step(0, [heartbeat(5, oldest=1, port=PORT)])
    machine.step(WINDOW)
    assert machine.machine.channel(1) == ChannelState(1, 0, 2, 5, (HOME[0], PORT))
