"""Ordering by both machines, the plain reference and the C one; wire specification, sections 2,
6 and 8.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.protocol.net.io import SPAN, Receiver, Sender
from tapecast.protocol.net.sequencing import (
    BatchSequencer,
    Counter,
    EventKind,
    LineStats,
    SpaceError,
)
from tapecast.protocol.net.sequencing_types import Delivery
from tapecast.protocol.schema import Flag, MsgType
from tests.support.examples import examples
from tests.support.packets import fields, heartbeat, packet, sealed, session_end
from tests.support.sequencers import (
    HOME,
    Arrival,
    Make,
    Native,
    Reference,
    Told,
    events,
    seqs,
    shape,
)

MS = 1_000_000
JUMP = 1 << 20


@pytest.fixture(params=[Reference, Native])
def make(request: pytest.FixtureRequest) -> Make:
    """Either machine."""
    made: Make = request.param
    return made


def test_in_order_packets_are_delivered_as_they_come(make: Make) -> None:
    """From number 1 on nothing but the joining is said, and nothing waits."""
    machine = make()
    sent = [packet(i) for i in range(1, 50)]
    out = machine.step(0, sent)
    assert [item.packet for item in out[1:] if isinstance(item, Delivery)] == sent
    assert events(out) == [("JOINED", 1, 0)]
    assert machine.deadline is None
    assert machine.counts() == {"received": 49, "delivered": 49}


def test_late_join_starts_where_it_is(make: Make) -> None:
    """The first packet ever seen sets the expected number, whatever it is; what came before is
    no gap.
    """
    machine = make()
    assert shape(machine.step(0, [packet(5000), packet(5001), packet(4999)])) == [
        ("JOINED", 5000, 0),
        5000,
        5001,
    ]
    assert machine.counts()["duplicate"] == 1


def test_a_heartbeat_may_be_first(make: Make) -> None:
    """Joining on a heartbeat expects the number it announces, and delivers it."""
    machine = make()
    assert shape(machine.step(0, [heartbeat(9), packet(9)])) == [("JOINED", 9, 0), 9, 9]


def test_duplicates_are_dropped_and_counted(make: Make) -> None:
    """Copies are dropped, whether the first was delivered or is waiting."""
    machine = make()
    out = machine.step(
        0, [packet(1), packet(1), packet(3), packet(3), packet(3), packet(2), packet(2), packet(3)]
    )
    assert seqs(out) == [1, 2, 3]
    assert machine.counts()["duplicate"] == 5


def test_the_window_reassembles(make: Make) -> None:
    """Packets out of order come out in order, without a gap, and without the clock."""
    machine = make()
    out = machine.step(0, [packet(i) for i in (1, 4, 3, 6, 2, 5, 7)])
    assert shape(out) == [("JOINED", 1, 0), 1, 2, 3, 4, 5, 6, 7]
    assert [item.held for item in out if isinstance(item, Delivery)] == [
        False,
        False,
        True,
        True,
        False,
        True,
        False,
    ]
    assert machine.deadline is None


def test_a_hole_closes_after_five_milliseconds(make: Make) -> None:
    """The gap names its first number and size, comes before what waited, and not a nanosecond
    early.
    """
    machine = make()
    machine.step(0, [packet(1)])
    assert machine.step(10, [packet(4)]) == []
    assert machine.deadline == 10 + 5 * MS
    assert machine.step(9 + 5 * MS) == []
    assert shape(machine.step(10 + 5 * MS)) == [("GAP", 2, 2), 4]
    assert machine.deadline is None
    assert shape(machine.step(11 + 5 * MS, [packet(2), packet(5)])) == [5]
    assert machine.counts() == {
        "received": 4,
        "delivered": 3,
        "held": 1,
        "gaps": 1,
        "missing": 2,
        "duplicate": 1,
    }


def test_each_hole_has_its_own_time(make: Make) -> None:
    """A younger hole stays open when an older one closes, and is timed by what waits behind it."""
    machine = make()
    machine.step(0, [packet(1)])
    machine.step(1 * MS, [packet(3)])
    machine.step(4 * MS, [packet(5)])
    assert shape(machine.step(6 * MS)) == [("GAP", 2, 1), 3]
    assert machine.deadline == 9 * MS
    assert shape(machine.step(8 * MS, [packet(4)])) == [4, 5]


def test_a_packet_beyond_the_window_closes_the_oldest_hole(make: Make) -> None:
    """1,023 packets may wait; one that the window cannot reach gives the oldest hole up at once."""
    machine = make()
    machine.step(0, [packet(1)])
    assert machine.step(0, [packet(i) for i in range(3, 2 + 1024)]) == []
    out = machine.step(0, [packet(2 + 1024)])
    assert shape(out) == [("GAP", 2, 1), *range(3, 2 + 1025)]


def test_a_loss_longer_than_the_window(make: Make) -> None:
    """With nothing waiting, a packet out of reach makes one gap and is delivered."""
    machine = make()
    machine.step(0, [packet(1)])
    assert shape(machine.step(0, [packet(200_000)])) == [("GAP", 2, 199_998), 200_000]


def test_a_heartbeat_reveals_a_lost_tail(make: Make) -> None:
    """The number a heartbeat announces opens a hole that closes like any other; the heartbeat
    takes no number.
    """
    machine = make()
    machine.step(0, [packet(1)])
    assert shape(machine.step(0, [heartbeat(4)])) == [4]
    assert machine.deadline == 5 * MS
    assert shape(machine.step(5 * MS)) == [("GAP", 2, 2)]
    assert machine.deadline is None
    assert shape(machine.step(5 * MS, [heartbeat(4), packet(4)])) == [4, 4]


def test_a_heartbeat_that_overtakes_is_no_gap(make: Make) -> None:
    """Packets that arrive after the heartbeat that announced them, within the window, are in
    order.
    """
    machine = make()
    machine.step(0, [packet(1), heartbeat(4)])
    assert shape(machine.step(4 * MS, [packet(3), packet(2)])) == [2, 3]
    assert machine.deadline is None
    assert machine.step(9 * MS) == []


def test_a_late_heartbeat_changes_nothing(make: Make) -> None:
    """The slower line's heartbeat, behind the data, is delivered and has no effect."""
    machine = make()
    machine.step(0, [packet(i) for i in range(1, 10)])
    assert shape(machine.step(0, [Arrival(heartbeat(3), line=1), packet(10)])) == [3, 10]
    assert machine.deadline is None


def test_a_tail_and_a_hole_behind_it(make: Make) -> None:
    """A revealed tail closes up to the announced number only; what waits beyond keeps its own
    time.
    """
    machine = make()
    machine.step(0, [packet(1), heartbeat(3)])
    machine.step(2 * MS, [packet(6)])
    assert shape(machine.step(5 * MS)) == [("GAP", 2, 1)]
    assert shape(machine.step(7 * MS)) == [("GAP", 3, 3), 6]


def test_session_end_is_told_once_after_the_tail(make: Make) -> None:
    """SESSION_END repeats; the event comes once, when everything before it is delivered or given
    up.
    """
    machine = make()
    machine.step(0, [packet(1)])
    assert events(machine.step(0, [session_end(3), session_end(3)])) == []
    assert events(machine.step(5 * MS, [session_end(3)])) == [("GAP", 2, 1), ("SESSION_END", 3, 0)]
    assert events(machine.step(900 * MS, [session_end(3)])) == []
    other = make()
    assert events(other.step(0, [packet(1), session_end(2), session_end(2)])) == [
        ("JOINED", 1, 0),
        ("SESSION_END", 2, 0),
    ]


def test_a_new_session_resets(make: Make) -> None:
    """A newer session delivers what waits, reports known losses, and begins at 1; the older one
    is dropped from then on.
    """
    machine = make()
    machine.step(0, [packet(10, session=5), packet(12, session=5), heartbeat(15, session=5)])
    out = machine.step(
        0,
        [
            packet(1, session=6),
            packet(13, session=5),
            heartbeat(16, session=5),
            packet(2, session=6),
        ],
    )
    assert shape(out) == [("GAP", 11, 1), 12, ("GAP", 13, 2), ("NEW_SESSION", 1, 5), 1, 2]
    assert machine.counts()["old_session"] == 2
    assert machine.counts()["sessions"] == 1
    assert machine.deadline is None


def test_a_new_session_may_arrive_out_of_order(make: Make) -> None:
    """The first packets of a session are reordered or lost like others."""
    machine = make()
    machine.step(0, [packet(10, session=5)])
    assert shape(machine.step(0, [packet(3, session=6), packet(1, session=6)])) == [
        ("NEW_SESSION", 1, 5),
        1,
    ]
    assert shape(machine.step(5 * MS)) == [("GAP", 2, 1), 3]


def test_a_session_far_advanced_is_joined(make: Make) -> None:
    """A newer session whose beginning is out of reach is joined where it is."""
    machine = make()
    machine.step(0, [packet(10, session=5)])
    assert shape(machine.step(0, [packet(2000, session=6), packet(2001, session=6)])) == [
        ("NEW_SESSION", 2000, 5),
        2000,
        2001,
    ]


def test_one_stray_number_changes_nothing(make: Make) -> None:
    """A single packet or heartbeat more than 2**20 ahead is dropped and counted; the stream goes
    on.
    """
    machine = make()
    strays = [packet(2 + JUMP + 1), packet(2**40), heartbeat(2**50), packet(2**40)]
    assert shape(machine.step(0, [packet(1), *strays, packet(2)])) == [("JOINED", 1, 0), 1, 2]
    assert machine.counts()["jump_unconfirmed"] == 4
    assert machine.deadline is None


@pytest.mark.parametrize(
    "confirm", [[packet(2**40), packet(2**40 + 1)], [heartbeat(2**40 + 1), packet(2**40 + 1)]]
)
def test_two_numbers_in_a_row_are_a_jump(make: Make, confirm: list[bytes]) -> None:
    """A jump resets the numbering with an event of its own, and is never a gap to be asked for."""
    machine = make()
    out = machine.step(0, [packet(1), packet(3), *confirm, packet(2**40 + 2), packet(4)])
    assert shape(out) == [
        ("JOINED", 1, 0),
        1,
        ("GAP", 2, 1),
        3,
        ("JUMP", 4, 2**40 - 3),
        2**40 + 1,
        2**40 + 2,
    ]
    assert machine.counts()["missing"] == 1
    assert machine.counts()["duplicate"] == 1


def test_heartbeats_confirm_a_jump(make: Make) -> None:
    """On an idle channel the repeated heartbeat confirms, and what follows is in order."""
    machine = make()
    out = machine.step(0, [packet(1), heartbeat(2**33), heartbeat(2**33), packet(2**33)])
    assert shape(out) == [("JOINED", 1, 0), 1, ("JUMP", 2, 2**33 - 2), 2**33, 2**33]


def test_exactly_the_largest_gap_is_a_gap(make: Make) -> None:
    """2**20 ahead is still a loss."""
    machine = make()
    assert shape(machine.step(0, [packet(1), packet(2 + JUMP)])) == [
        ("JOINED", 1, 0),
        1,
        ("GAP", 2, JUMP),
        2 + JUMP,
    ]


def test_numbers_wrap(make: Make) -> None:
    """After 2**64 - 1 comes 0; window, gaps and duplicates work across."""
    machine = make()
    top = 2**64
    out = machine.step(
        0, [packet(top - 3), packet(top - 1), packet(1), packet(top - 2), packet(top - 1)]
    )
    assert seqs(out) == [top - 3, top - 2, top - 1]
    assert shape(machine.step(5 * MS, [heartbeat(3)])) == [3, ("GAP", 0, 1), 1]
    assert shape(machine.step(10 * MS)) == [("GAP", 2, 1)]


def test_lines_feed_one_channel(make: Make) -> None:
    """Each line's losses are hidden by the other and counted for the line."""
    machine = make()
    a = [Arrival(packet(i), line=0) for i in range(1, 101) if i % 10]
    b = [Arrival(packet(i), line=1) for i in range(1, 101) if i % 7]
    out = machine.step(
        0, [item for both in zip(a, b, strict=False) for item in both] + a[len(b) :] + b[len(a) :]
    )
    assert events(machine.step(5 * MS)) == [("GAP", 70, 1)]
    assert len(seqs(out)) + machine.counts()["held"] >= 99
    machine.step(5 * MS, [Arrival(heartbeat(101), line=0), Arrival(heartbeat(101), line=1)])
    assert machine.lines(1) == [LineStats(0, 90, 10), LineStats(1, 86, 14)]


def test_channels_are_apart(make: Make) -> None:
    """Each channel has its own numbers and window; more than allowed are dropped and counted."""
    machine = make(max_channels=2)
    out = machine.step(
        0,
        [
            packet(1, channel=1),
            packet(9, channel=2),
            packet(1, channel=3),
            packet(2, channel=1),
            packet(10, channel=2),
        ],
    )
    assert seqs(out) == [1, 9, 2, 10]
    assert machine.counts()["channel_limit"] == 1


def test_unknown_types_keep_their_place(make: Make) -> None:
    """A message type of a later version takes its number, is delivered and counted, and is no
    error.
    """
    machine = make()
    assert seqs(machine.step(0, [packet(1), packet(2, msg_type=200, item_size=8), packet(3)])) == [
        1,
        2,
        3,
    ]
    assert machine.counts()["unknown_type"] == 1


def test_only_configured_sources_are_heard(make: Make) -> None:
    """Another source is dropped and counted, with an alarm at most once a second."""
    machine = make(sources=["10.0.0.1", "10.0.0.2"])
    good, bad = ("10.0.0.1", 1), ("10.0.0.3", 77)
    out = machine.step(
        0, [Arrival(packet(1), 0, bad), Arrival(packet(1), 0, good), Arrival(packet(2), 1, bad)]
    )
    assert shape(out) == [("OTHER_SOURCE", 1, 0), ("JOINED", 1, 0), 1]
    assert isinstance(out[0], Told)
    assert (out[0].source, out[0].line) == (bad, 0)
    assert machine.step(999 * MS, [Arrival(packet(2), 0, bad)]) == []
    assert events(machine.step(1000 * MS, [Arrival(packet(2), 1, bad)])) == [("OTHER_SOURCE", 2, 0)]
    assert machine.counts()["other_source"] == 4


def test_learned_sources_are_kept(make: Make) -> None:
    """A line keeps to the sender first heard; a second publisher on the channel, or a forged
    number, is dropped with an alarm.
    """
    machine = make(learn_sources=True)
    second, foreign = ("127.0.0.1", 5000), ("10.0.0.9", 4000)
    machine.step(0, [Arrival(packet(1, session=5)), Arrival(packet(1, session=5), 1, second)])
    out = machine.step(
        0, [Arrival(packet(2, session=5), 0, second), Arrival(packet(900, session=9), 0, foreign)]
    )
    assert events(out) == [("OTHER_SOURCE", 2, 0)]
    assert machine.counts()["other_source"] == 2
    assert seqs(
        machine.step(0, [Arrival(packet(2, session=5)), Arrival(packet(3, session=5), 1, second)])
    ) == [2, 3]


def test_a_restart_may_change_ports(make: Make) -> None:
    """With a newer session the same host is heard from new ports, on every line; the old ports
    are dropped.
    """
    machine = make(learn_sources=True)
    old, new_a, new_b = HOME, ("127.0.0.1", 6000), ("127.0.0.1", 6001)
    machine.step(0, [Arrival(packet(1, session=5), 0, old), Arrival(packet(1, session=5), 1, old)])
    out = machine.step(
        0,
        [
            Arrival(packet(1, session=6), 0, new_a),
            Arrival(packet(2, session=6), 1, new_b),
            Arrival(packet(3, session=6), 0, old),
        ],
    )
    assert shape(out) == [("NEW_SESSION", 1, 5), 1, 2, ("OTHER_SOURCE", 3, 0)]


def test_a_restart_may_come_from_another_listed_host(make: Make) -> None:
    """Where the senders are listed, a newer session may come from another of them, on all lines;
    the old one is then dropped.
    """
    machine = make(learn_sources=True, sources=["10.0.0.1", "10.0.0.2"])
    old, new, foreign = ("10.0.0.1", 4000), ("10.0.0.2", 5000), ("10.0.0.3", 6000)
    machine.step(0, [Arrival(packet(1, session=5), 0, old), Arrival(packet(1, session=5), 1, old)])
    assert shape(machine.step(0, [Arrival(packet(2, session=5), 0, new)])) == [
        ("OTHER_SOURCE", 2, 0)
    ]
    arrivals = [
        Arrival(packet(1, session=6), 0, new),
        Arrival(packet(2, session=6), 1, new),
        Arrival(packet(3, session=6), 1, old),
    ]
    assert shape(machine.step(0, [*arrivals, Arrival(packet(4, session=7), 1, foreign)])) == [
        ("NEW_SESSION", 1, 5),
        1,
        2,
    ]
    assert machine.counts()["other_source"] == 3


KEY, NEXT_KEY = bytes(range(32)), bytes(range(1, 33))


def test_authentication(make: Make) -> None:
    """Where keys are given, a packet without a tag and one with a wrong tag are dropped under
    their names.
    """
    machine = make(keys={1: [KEY]})
    good = sealed(packet(1), KEY)
    other_key, cut = sealed(packet(1), NEXT_KEY), packet(1, flags=Flag.LAST | Flag.AUTH)
    assert shape(machine.step(0, [packet(1), other_key, cut, good])) == [("JOINED", 1, 0), 1]
    assert machine.counts() == {
        "received": 4,
        "auth_missing": 1,
        "bad_auth": 1,
        "bad_length": 1,
        "delivered": 1,
    }


def test_every_flipped_bit_is_noticed_where_there_are_keys(make: Make) -> None:
    """No bit of header, payload or tag can be changed without the packet being dropped."""
    good = sealed(packet(1, items=1), KEY)
    machine = make(keys={1: [KEY]})
    damaged = [
        good[:n] + bytes([good[n] ^ 1 << bit]) + good[n + 1 :]
        for n in range(len(good))
        for bit in range(8)
    ]
    assert machine.step(0, damaged) == []
    assert machine.counts()["bad_auth"] > 8 * (16 + 16 + 40)


def test_two_keys_are_accepted_while_keys_are_changed(make: Make) -> None:
    """Packets under either key of the channel are in one sequence; a third key's are dropped."""
    machine = make(keys={1: [KEY, NEXT_KEY]})
    changed = [
        sealed(packet(1), KEY),
        sealed(packet(2), NEXT_KEY),
        sealed(packet(3), KEY),
        sealed(packet(4), bytes(32)),
    ]
    assert seqs(machine.step(0, changed)) == [1, 2, 3]
    assert machine.counts()["bad_auth"] == 1


def test_a_key_is_good_for_its_channel_only(make: Make) -> None:
    """A channel's key opens no other channel, and a channel without a key is not heard."""
    machine = make(keys={1: [KEY], 2: [NEXT_KEY]})
    arrivals = [
        sealed(packet(1, channel=2), KEY),
        sealed(packet(1, channel=3), KEY),
        sealed(packet(1, channel=2), NEXT_KEY),
    ]
    assert shape(machine.step(0, arrivals)) == [("JOINED", 1, 0), 1]
    assert machine.counts()["bad_auth"] == 2


def test_replayed_packets_are_not_taken_twice(make: Make) -> None:
    """Authentic packets of the session that are sent again are duplicates; those of an older
    session are dropped as old.
    """
    machine = make(keys={1: [KEY]})
    old = [sealed(packet(n, session=4), KEY) for n in (1, 2)]
    live = [sealed(packet(n, session=5), KEY) for n in (1, 2, 3)]
    assert seqs(machine.step(0, [*old, *live])) == [1, 2, 1, 2, 3]
    assert machine.step(1, [Arrival(data, 0, ("10.0.0.9", 1)) for data in (*old, *live)]) == []
    assert machine.counts()["duplicate"] == 3
    assert machine.counts()["old_session"] == 2


def _reason_of_flip(byte: int, bit: int) -> str | None:
    """Name the check that a flipped header bit of a two-level book with one bid fails, by its
    place; None = it stays a packet.
    """
    if byte == 3:
        return "small_item" if 16 ^ (1 << bit) in (MsgType.TRADE, MsgType.LIQUIDATION) else None
    if byte == 5:
        return {3: "bad_length", 7: "unknown_critical"}.get(bit)
    if byte == 7:
        return "bad_bid_count" if bit else None
    by_field = {
        "bad_magic": (0, 1),
        "bad_version": (2,),
        "bad_items": (6, 38),
        "bad_length": (64, 65),
    }
    return next((reason for reason, places in by_field.items() if byte in places), None)


def test_every_truncation_is_counted(make: Make) -> None:
    """Each prefix of a packet is dropped as too short or of wrong length."""
    data = packet(1, items=3)
    machine = make()
    assert machine.step(0, [data[:n] for n in range(len(data))]) == []
    assert machine.counts() == {
        "received": len(data),
        "too_short": 66,
        "bad_length": len(data) - 66,
    }


def test_every_flipped_header_bit_is_counted_under_its_name(make: Make) -> None:
    """A damaged header fails the check that its place belongs to, and no other."""
    data = packet(1, items=2, bids=1)
    for byte in range(66):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[byte] ^= 1 << bit
            machine = make()
            machine.step(0, [bytes(damaged)])
            counts = machine.counts()
            reason = _reason_of_flip(byte, bit)
            dropped = {
                name
                for name in counts
                if name not in ("received", "delivered", "unknown_type", "unsequenced")
            }
            assert dropped == ({reason} if reason else set()), (byte, bit)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (Arrival(packet(1), truncated=True), "truncated"),
        (Arrival(b""), "too_short"),
        (Arrival(packet(1, payload=b"\0" * 1424, items=89)), "oversize"),
        (Arrival(packet(1, msg_type=MsgType.TRADE, items=4, item_size=16)), "small_item"),
        (Arrival(packet(1, flags=Flag.AUTH)), "bad_length"),
        (Arrival(packet(1, payload=b"\0" * 40)), "bad_items"),
        (Arrival(packet(1, bids=3)), "bad_bid_count"),
        (Arrival(packet(1, flags=Flag.CRITICAL)), "unknown_critical"),
    ],
)
def test_malformed_packets_have_names(make: Make, data: Arrival, name: str) -> None:
    """What cannot be a packet is dropped under its name, and no channel is opened for it."""
    machine = make()
    assert machine.step(0, [data]) == []
    assert machine.counts() == {"received": 1, name: 1}


def test_items_may_grow(make: Make) -> None:
    """A larger item than known is admissible."""
    assert seqs(make().step(0, [packet(1, item_size=24)])) == [1]


class Run(NamedTuple):
    """A seeded run on two lines: batches by time, and what of the numbers sent reached the
    receiver by either line.
    """

    batches: list[tuple[int, list[Arrival]]]
    sent: range
    reached: set[int]


def _run(seed: int) -> Run:
    rng = random.Random(seed)
    loss, duplicate = rng.choice([0.001, 0.02, 0.2, 0.5]), rng.choice([0, 0.05, 0.3])
    sent = range(1, rng.randrange(500, 3000))
    timed: list[tuple[float, Arrival]] = []
    for seq in sent[1:]:
        for line in (0, 1):
            copies = 0 if rng.random() < loss else 1 + (rng.random() < duplicate) * rng.randrange(3)
            timed += [
                (seq * 20_000 + rng.random() * rng.choice([1e4, 2e6]), Arrival(packet(seq), line))
                for _ in range(copies)
            ]
    timed.sort(key=lambda item: item[0])
    reached = {fields(item[1].data)["channel_seq"] for item in timed} | {1}
    batches = [(0, [Arrival(packet(1))])]
    while timed:
        n = rng.randrange(1, 100)
        batches.append((int(timed[:n][-1][0]), [item for _, item in timed[:n]]))
        timed = timed[n:]
    end = len(sent) * 20_000 + 10 * MS
    batches += [(end, [Arrival(heartbeat(len(sent) + 1))]), (end + 5 * MS, [])]
    return Run(batches, sent, reached)


@pytest.mark.parametrize("seed", range(30))
def test_arbitration_against_a_brute_force_oracle(make: Make, seed: int) -> None:
    """Two lossy, reordering, duplicating lines: what reached either one comes out, once and in
    order; the rest is gaps.
    """
    machine = make()
    numbers: list[int] = []
    missing: list[int] = []
    run = _run(seed)
    for now_ns, batch in run.batches:
        for item in machine.step(now_ns, batch):
            if isinstance(item, Delivery):
                if fields(item.packet)["msg_type"] != MsgType.HEARTBEAT:
                    numbers += seqs([item])
            elif item.kind == EventKind.GAP:
                missing += range(item.first, item.first + item.count)
    assert numbers == sorted(run.reached)
    assert missing == [seq for seq in run.sent if seq not in run.reached]


number = st.one_of(
    st.integers(1, 40),
    st.integers(1, 3000),
    st.sampled_from([0, 2**40, 2**40 + 1, 2**40 + 2, 2**64 - 1, 2**64 - 2]),
)
tagged = st.builds(
    sealed,
    st.builds(packet, st.integers(1, 40), session=st.just(5), channel=st.integers(1, 3)),
    st.sampled_from([KEY, KEY, NEXT_KEY]),
)
datagram = st.one_of(
    tagged,
    st.builds(packet, number, session=st.integers(4, 6), channel=st.integers(1, 3)),
    st.builds(packet, st.integers(1, 40), session=st.just(5), channel=st.just(1)),
    st.builds(heartbeat, number, session=st.integers(4, 6)),
    st.builds(session_end, st.integers(1, 50), session=st.integers(4, 6)),
    st.builds(
        packet,
        number,
        msg_type=st.integers(0, 255),
        flags=st.integers(0, 65535),
        items=st.integers(0, 3),
    ),
    st.binary(max_size=120),
)
arrival = st.builds(
    Arrival,
    datagram,
    st.integers(0, 5),
    st.sampled_from([HOME, HOME, ("127.0.0.1", 1), ("10.0.0.1", 4000)]),
    st.just(False),
)


@settings(max_examples=examples(400), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4 * MS), st.lists(arrival, max_size=25)), max_size=12),
    st.sampled_from([1, 4, 16, 1024]),
    st.booleans(),
    st.sampled_from([(), ("127.0.0.1",), ("127.0.0.1", "10.0.0.1")]),
    st.sampled_from([{}, {1: (KEY,)}, {1: (KEY, NEXT_KEY), 2: (NEXT_KEY,)}]),
)
def test_both_machines_answer_the_same(
    steps: list[tuple[int, list[Arrival]]],
    window: int,
    learn: bool,
    sources: tuple[str, ...],
    keys: dict[int, tuple[bytes, ...]],
) -> None:
    """On any stream of datagrams, deliveries, events, counters, deadlines and line numbers are
    equal.
    """
    options = {
        "window_packets": window,
        "learn_sources": learn,
        "sources": sources,
        "keys": keys,
        "max_channels": 2,
    }
    reference, native = Reference(**options), Native(**options)
    now_ns = 0
    for wait, batch in steps:
        now_ns += wait
        assert native.step(now_ns, batch) == reference.step(now_ns, batch)
        assert native.counts() == reference.counts()
        assert native.deadline == reference.deadline
        for channel in native.machine.channels():
            assert sorted(native.lines(channel)) == sorted(reference.lines(channel))


def test_deliveries_in_order_are_not_copied() -> None:
    """A batch in order is one run in the buffer that was given."""
    data = b"".join(packet(i) for i in range(1, 101))
    spans = np.zeros(100, SPAN)
    spans["offset"], spans["length"] = np.arange(100) * 98, 98
    machine = BatchSequencer()
    assert machine.process(data, spans, 100, 0) == 100
    assert machine.runs.tolist() == [(0, 9800, 0, 100, 0)]
    assert (machine.deliveries[:100] == spans).all()


def test_wrong_use_is_an_error() -> None:
    """More spans than the sequencer was made for, spans outside the buffer, and an impossible
    window are refused.
    """
    machine = BatchSequencer(max_spans=4)
    spans = np.zeros(5, SPAN)
    with pytest.raises(SpaceError):
        machine.process(b"", spans, 5, 0)
    spans["length"] = 98
    with pytest.raises(ValueError, match="outside"):
        machine.process(packet(1)[:97], spans, 1, 0)
    with pytest.raises(ValueError, match="window"):
        BatchSequencer(window_packets=2000)
    with pytest.raises(KeyError):
        machine.line_stats(1)


def test_a_long_outage_of_order_reuses_the_store() -> None:
    """Held packets are valid until the next call, over many more holds than the store has slots."""
    machine = Native(max_channels=1)
    delivered: list[int] = []
    delivered += seqs(machine.step(0, [packet(0)]))
    for base in range(1, 20_001, 500):
        block = [packet(base + i) for i in range(500)]
        delivered += seqs(machine.step(base, block[1:] + block[:1]))
    assert delivered == list(range(20_001 - 1 + 1))
    assert machine.counts()["held"] == 40 * 499


def test_receiving_and_ordering_in_one_call() -> None:
    """A receiver's packets are validated and ordered in the call that reads them."""
    receiver = Receiver([("239.255.42.204", 0)])
    sender = Sender("239.255.42.204", receiver.ports()[0])
    machine = BatchSequencer(max_spans=receiver.max_spans)
    sent = [packet(i, items=5) for i in range(1, 201)]
    buffer = b"".join([*sent[:50], *sent[51:], sent[50]])
    sender.send(buffer, len(buffer))
    got: list[bytes] = []
    for _ in range(20):
        got += [bytes(machine.packet(i)) for i in range(machine.receive(receiver, 0.1))]
        if len(got) == 200:
            break
    assert got == sent
    with pytest.raises(SpaceError):
        BatchSequencer(max_spans=10).receive(receiver)
    sender.close()
    receiver.close()


def test_the_counters_have_the_same_numbers_in_c() -> None:
    """The C enumeration and the Python one agree by name."""
    from tapecast.protocol._native import lib

    assert {counter.name: getattr(lib, f"TC_COUNT_{counter.name}") for counter in Counter} == {
        c.name: int(c) for c in Counter
    }
    assert len(Counter) == lib.TC_COUNTERS
    assert {kind.name: getattr(lib, f"TC_EVENT_{kind.name}") for kind in EventKind} == {
        k.name: int(k) for k in EventKind
    }
