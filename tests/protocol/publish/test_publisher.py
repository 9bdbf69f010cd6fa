"""The publisher: session epochs, sequences, heartbeats, and what is repeated for late joiners."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapecast.protocol.authentication import Sealer
from tapecast.protocol.codec import Packet, decode, walk
from tapecast.protocol.net.io import Receiver, Sender
from tapecast.protocol.publish.lines import MemoryLine, MulticastLine, SilentLine
from tapecast.protocol.publish.publisher import Publisher, next_epoch
from tapecast.protocol.publish.schedule import Cycle
from tapecast.protocol.records import HeartbeatItem
from tapecast.protocol.ring import Ring
from tapecast.protocol.schema import Flag, MsgType
from tests.consumers.publisher import btcusdt
from tests.support.feeder_frames import Feed, spot_depth, spot_trade

SECOND = 1_000_000_000
BEAT = HeartbeatItem(upstream_dropped=0, instruments=1, suspect=0, interval_ms=1000, health=0)


def publisher(line: MemoryLine, session: int = 9) -> Publisher:
    """Return a publisher of channel 1 into memory."""
    return Publisher(line, venue_id=1, channel_id=1, session=session, base_flags=int(Flag.REPLAY))


def taken(line: MemoryLine) -> list[Packet]:
    """Return the packets published since the last call."""
    return [decode(packet) for packet in walk(line.take())]


# epochs


def test_epoch_is_the_time_at_first(tmp_path: Path) -> None:
    """Unix seconds, stored; the folder is made."""
    folder = tmp_path / "new" / "state"
    assert next_epoch(folder, 1, 1_700_000_000) == 1_700_000_000
    assert (folder / "session-1").read_text().strip() == "1700000000"


def test_epoch_grows_within_a_second_and_when_the_clock_goes_back(tmp_path: Path) -> None:
    """Restarts in one second, and a clock set back by an hour, still give larger sessions."""
    found = [next_epoch(tmp_path, 1, now) for now in (1000, 1000, 1000, 500, 0, 2000, 1999)]
    assert found == [1000, 1001, 1002, 1003, 1004, 2000, 2001]


@given(times=st.lists(st.integers(0, 2**31), min_size=1, max_size=20))
def test_epochs_are_monotone_whatever_the_clock(
    tmp_path_factory: pytest.TempPathFactory, times: list[int]
) -> None:
    """Each is larger than all before it and never behind the clock."""
    folder = tmp_path_factory.mktemp("state")
    found = [next_epoch(folder, 1, now) for now in times]
    assert found == sorted(set(found))
    assert all(epoch >= now for epoch, now in zip(found, times, strict=True))


def test_channels_have_their_own_epochs(tmp_path: Path) -> None:
    """One file each."""
    assert next_epoch(tmp_path, 1, 50) == 50
    assert next_epoch(tmp_path, 2, 40) == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["session-1", "session-2"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"abc",
        b"-5",
        b"\xff\xfe\x00",
        "²".encode(),
        b"99999999999999999999",
        b"1" * 5000,
    ],
)
def test_broken_state_file_does_not_stop_the_feeder(tmp_path: Path, content: bytes) -> None:
    """A file that holds no session is as none; the clock is then what there is."""
    (tmp_path / "session-1").write_bytes(content)
    assert next_epoch(tmp_path, 1, 1_700_000_000) == 1_700_000_000
    assert next_epoch(tmp_path, 1, 1_700_000_000) == 1_700_000_001


def test_state_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """Without it two sessions could be taken for one."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        next_epoch(tmp_path / "file" / "state", 1, 5)


# sequences


def test_session_start_takes_sequence_one_and_beats_take_none() -> None:
    """Heartbeats and the session's end carry the next sequence; everything else counts on."""
    line = MemoryLine()
    out = publisher(line)
    out.heartbeat(BEAT, 5)
    out.start(BEAT)
    out.heartbeat(BEAT, 6)
    out.heartbeat(BEAT, 7)
    feed = Feed("binance", "LRCBTC")
    out.instruments(1)
    feed.session.on_frame("ws.1", spot_trade("0.00001150", "1"), 1, 1)
    feed.session.flush(out.publish, 1, 1)
    out.end(BEAT, 8)
    out.end(BEAT, 9)
    found = [(packet.header.msg_type, packet.header.channel_seq) for packet in taken(line)]
    assert found == [
        (MsgType.HEARTBEAT, 1),
        (MsgType.SESSION_START, 1),
        (MsgType.HEARTBEAT, 2),
        (MsgType.HEARTBEAT, 2),
        (MsgType.TRADE, 2),
        (MsgType.SESSION_END, 3),
        (MsgType.SESSION_END, 3),
    ]


def test_every_packet_names_its_session_and_channel() -> None:
    """Also those outside the sequence."""
    line = MemoryLine()
    out = publisher(line, session=77)
    out.start(BEAT)
    out.heartbeat(BEAT, 6)
    out.end(BEAT, 8)
    for packet in taken(line):
        assert (packet.header.session, packet.header.channel_id, packet.header.venue_id) == (
            77,
            1,
            1,
        )
        assert packet.header.flags & Flag.REPLAY
        assert packet.header.ts_send_ns > 0


def live_feed() -> Feed:
    """Return a feed with a LIVE book and one update behind it."""
    feed = Feed("binance", "LRCBTC")
    feed.spot_live([("0.00001150", "1")], [("0.00001151", "1")])
    feed.frame(spot_depth(101, 101, [("0.00001149", "2")]))
    return feed


def test_cycle_snapshot_keeps_the_books_sequence_and_takes_one_of_the_channel() -> None:
    """A late joiner gets the book as of the last event; who has that event skips it; the next
    event counts on.
    """
    feed = live_feed()
    feed.packets = b""
    instrument = feed.session.instruments[0]
    last = feed.publisher._stamper.last_seq(0, MsgType.BOOK)
    next_seq = feed.publisher._stamper.next_seq
    for _ in range(2):
        feed.publisher.repeat(feed.session.book_snapshot(instrument))
    repeated = taken(feed.line)
    assert [packet.header.instrument_seq for packet in repeated] == [last, last]
    assert [packet.header.channel_seq for packet in repeated] == [next_seq, next_seq + 1]
    assert all(
        packet.header.flags & Flag.SNAPSHOT and packet.header.flags & Flag.RECOVERED
        for packet in repeated
    )
    assert [tuple(item) for item in repeated[0].items] == [
        (1150, 1000000),
        (1149, 2000000),
        (1151, 1000000),
    ]
    feed.frame(spot_depth(102, 102))
    (packet,) = (decode(packet) for packet in walk(feed.packets))
    assert (packet.header.instrument_seq, packet.header.channel_seq) == (last + 1, next_seq + 2)


def test_repeated_definitions_are_the_same_definition() -> None:
    """Version and content stay, so a receiver sees nothing new."""
    feed = live_feed()
    instrument = feed.session.instruments[0]
    feed.publisher.repeat(feed.session.definition(instrument))
    feed.publisher.repeat(b"")
    (packet,) = taken(feed.line)
    assert packet.items == decode(next(walk(feed.packets))).items


def test_events_are_counted_by_kind() -> None:
    """Sums over the instruments, repetitions left out."""
    feed = live_feed()
    feed.frame(spot_trade("0.00001150", "1"), spot_trade("0.00001150", "1", number=2))
    before = feed.publisher.events()
    assert (before["book"], before["trade"]) == (2, 2)
    feed.publisher.repeat(feed.session.book_snapshot(feed.session.instruments[0]))
    assert feed.publisher.events() == before


def test_a_silent_line_counts_as_any_other_and_keeps_nothing() -> None:
    """Of a process that only records: the same numbers and sequences, and no packet anywhere."""
    line = MemoryLine()
    loud = publisher(line)
    silent = Publisher(SilentLine(), venue_id=1, channel_id=1, session=9, base_flags=0)
    feed = live_feed()
    packets = bytes(feed.packets)
    for one in (loud, silent):
        one.instruments(10)
        one.publish(bytearray(packets), len(packets))
        one.repeat(packets[: len(next(walk(packets)))])
        one.heartbeat(BEAT, 1)
    assert (silent.packets, silent.bytes, silent.last_seq) == (
        loud.packets,
        loud.bytes,
        loud.last_seq,
    )
    assert silent.events() == loud.events()
    assert line.take()


def test_numbers_of_packets_and_bytes_are_what_went_out() -> None:
    """Every published packet counts, repetitions too."""
    feed = live_feed()
    assert feed.publisher.packets == len(list(walk(feed.packets)))
    assert feed.publisher.bytes == len(feed.packets)


def test_room_for_instruments_grows_while_counters_stay() -> None:
    """Instrument 300 is numbered like the first."""
    feed = Feed("binance", accept_any=True)
    symbols = [f"X{number}BTC" for number in range(300)]
    for _ in range(2):
        feed.packets = b""
        feed.frame(*(spot_trade("1", "1", symbol=symbol) for symbol in symbols))
    trades = [decode(packet) for packet in walk(feed.packets)]
    assert [
        packet.header.instrument_seq for packet in trades if packet.header.msg_type == MsgType.TRADE
    ] == [2] * 300


# cycles


@given(
    count=st.integers(1, 500),
    steps=st.lists(st.integers(1, 400_000_000), min_size=1, max_size=200),
    period_s=st.sampled_from((0.5, 1.0, 3.0)),
)
def test_cycle_does_every_index_once_a_period(
    count: int, steps: list[int], period_s: float
) -> None:
    """In order, 0 to count - 1 and again, however uneven the calls are."""
    cycle = Cycle(period_s, 0)
    now, done = 0, []
    for step in steps:
        now += step
        done += cycle.due(count, now)
    assert done == [index % count for index in range(len(done))]
    periods = now / (period_s * SECOND)
    assert len(done) <= count * (periods + 1)


def test_cycle_is_spread_evenly() -> None:
    """A tenth of the period does a tenth of the work."""
    cycle = Cycle(10.0, 0)
    found = [len(cycle.due(100, second * SECOND)) for second in range(1, 11)]
    assert found == [10] * 10


def test_cycle_ticked_evenly_keeps_its_period() -> None:
    """Over a thousand periods of ticks, every index comes a thousand times."""
    cycle = Cycle(1.0, 0)
    done = 0
    for tick in range(1, 40 * 1000 + 1):
        done += len(cycle.due(7, tick * SECOND // 40))
    assert done == 7 * 1000


def test_cycle_takes_up_new_indices_and_survives_fewer() -> None:
    """Instruments added within a period are handled in it."""
    cycle = Cycle(1.0, 0)
    assert list(cycle.due(2, SECOND // 2)) == [0]
    assert list(cycle.due(10, 3 * SECOND // 4)) == [1, 2, 3, 4, 5, 6]
    assert list(cycle.due(10, SECOND)) == [7, 8, 9]
    assert list(cycle.due(10, SECOND + 9 * SECOND // 10)) == list(range(9))
    assert list(cycle.due(3, 2 * SECOND)) == []
    assert list(cycle.due(3, 3 * SECOND)) == [0, 1, 2]


def test_cycle_of_period_zero_or_without_indices_does_nothing() -> None:
    """Switched off, or nothing there."""
    assert list(Cycle(0.0, 0).due(5, 100 * SECOND)) == []
    assert list(Cycle(1.0, 0).due(0, 100 * SECOND)) == []


def test_long_pause_is_one_round_not_many() -> None:
    """After a stop of an hour everything is said once."""
    cycle = Cycle(1.0, 0)
    assert list(cycle.due(4, 3600 * SECOND)) == [0, 1, 2, 3]
    assert list(cycle.due(4, 3600 * SECOND + 1)) == []


def test_a_channel_with_a_key_sends_nothing_without_a_tag() -> None:
    """Start, events, repeats, heartbeats and the end carry tags on both lines, which hold the
    same bytes.
    """
    key = bytes(range(32))
    receivers = [
        Receiver([(group, 0)], rcvbuf=1 << 20) for group in ("239.255.42.208", "239.255.42.209")
    ]
    senders = [Sender(receiver.groups[0][0], receiver.ports()[0]) for receiver in receivers]
    channel = Publisher(
        MulticastLine(*senders),
        venue_id=1,
        channel_id=1,
        session=9,
        base_flags=0,
        sealer=Sealer(key),
    )
    channel.ring = Ring(1 << 16)
    channel.start(BEAT)
    channel.repeat(btcusdt()[1])
    channel.heartbeat(BEAT, 1)
    channel.end(BEAT, 2)
    got = []
    for receiver in receivers:
        packets: list[bytes] = []
        while count := receiver.receive(0.2):
            packets += [bytes(receiver.packet(n)) for n in range(count)]
        got.append(packets)
        receiver.close()
    for sender in senders:
        sender.close()
    assert got[0] == got[1]
    kept, count = channel.ring.read(1, 10, 1 << 16)
    assert (bytes(kept), count) == (b"".join(got[0][:2]), 2)
    (state,) = walk(channel.state(btcusdt()[1:2], 3)[0])
    assert decode(state, keys=[key]).header.channel_seq == 2
    assert [decode(packet, keys=[key]).header.msg_type for packet in got[0]] == [
        MsgType.SESSION_START,
        MsgType.INSTRUMENT,
        MsgType.HEARTBEAT,
        MsgType.SESSION_END,
    ]
