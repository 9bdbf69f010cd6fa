"""A derived channel from open to end, over loopback multicast and TCP: published without a venue
or a session, lost, repaired, joined late, ended and begun again, with and without authentication.

The packets are INSTRUMENT and BBO of a feeder that plays a recording of Binance spot; a later
host publishes such quotes of its own. They go out as service `nbbo`, channel 1002.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tapecast.feeder.offline import Offline
from tapecast.feeder.venues import venue
from tapecast.protocol.codec import Packet, decode, walk
from tapecast.protocol.net.sequencing import EventKind
from tapecast.protocol.publish.recovery.source import StateTable
from tapecast.protocol.records import HEADER_STRUCT, Header, HeartbeatItem
from tapecast.protocol.schema import HEADER_SIZE, VENUES, Flag, MsgType
from tapecast.protocol.stamping import StampError
from tapecast.runtime import config as configuration
from tapecast.runtime.channel import ChannelSender, Health, open_channel
from tapecast.runtime.channels import channel_named
from tapecast.runtime.settings import Config
from tests.support.captures import captures
from tests.support.processes import Net
from tests.support.recovery_subscriber import Subscriber

NBBO = channel_named("nbbo")
KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
QUOTES = 200


@pytest.fixture(scope="module")
def recorded() -> list[bytes]:
    """Definitions and quotes in the order in which the venue's feeder publishes them."""
    steps = Offline(venue("binance"), [captures() / "binance/cf_20210814_spot.jsonl"]).run()
    packets = [bytes(packet) for step in steps for packet in walk(step.packets)]
    taken = [p for p in packets if decode(p).header.msg_type in (MsgType.INSTRUMENT, MsgType.BBO)]
    assert sum(decode(packet).header.msg_type == MsgType.BBO for packet in taken) > QUOTES
    return taken[: QUOTES + 4]


@pytest.fixture(params=["off", "on"])
def config(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Config:
    """A host's configuration on a port of its own, once without and once with authentication."""
    monkeypatch.setenv("TAPECAST_KEY_NBBO", KEY.hex())
    overlay = Net().overlay(
        feeder__state_dir=str(tmp_path / "state"),
        feeder__session_end_s="0.1",
        feeder__heartbeat_idle_ms="20",
        feeder__heartbeat_max_ms="50",
        network__authentication=request.param,
        consumer__repair_ms="5000",
    )
    return configuration.load(overlay, environ={}, system=tmp_path / "none")


class Host:
    """What a service does with its channel: it knows instruments and their last quotes, and no
    venue.
    """

    def __init__(self, config: Config) -> None:
        self.table = StateTable()
        self.channel: ChannelSender = open_channel(config, NBBO)
        self.channel.serve(self.table, lambda: Health(upstream_dropped=3))

    def put(self, packet: bytes) -> None:
        """Publish a packet of the recording as one of this channel."""
        header = Header._make(HEADER_STRUCT.unpack_from(packet))
        own = header._replace(
            channel_id=NBBO.channel_id,
            session=0,
            channel_seq=0,
            ts_send_ns=0,
            instrument_seq=self.table.index(header.instrument_id),
        )
        data = HEADER_STRUCT.pack(*own) + packet[HEADER_SIZE:]
        if header.msg_type == MsgType.INSTRUMENT:
            self.table.define(data)
        else:
            self.table.update(data)
        self.channel.publish(data)
        self.channel.tick(time.monotonic_ns())


@pytest.fixture
async def host(config: Config) -> AsyncIterator[Host]:
    """A host whose channel is closed at the end."""
    made = Host(config)
    yield made
    await made.channel.recovery.close()


async def published(host: Host, packets: list[bytes], *subscribers: Subscriber) -> None:
    """Publish packets a few at a time, so that losses are met and repaired on the way."""
    for start in range(0, len(packets), 8):
        for packet in packets[start : start + 8]:
            host.put(packet)
        for subscriber in subscribers:
            await subscriber.until(lambda: True)


def up_to_date(subscriber: Subscriber, host: Host) -> Callable[[], bool]:
    """Return whether a subscriber has all that was published; the host goes on ticking."""

    def check() -> bool:
        host.channel.tick(time.monotonic_ns())
        state = subscriber.sequencer.channel(NBBO.channel_id)
        return state is not None and state.next == host.channel.publisher.next_seq

    return check


def quotes(packets: list[Packet]) -> list[object]:
    """Return what is in quotes, whatever channel they came by."""
    return [
        (p.header.venue_id, p.header.instrument_id, p.header.price_exp, p.header.qty_exp, p.items)
        for p in packets
        if p.header.msg_type == MsgType.BBO and not p.header.flags & Flag.RECOVERED
    ]


async def test_what_is_lost_on_the_way_is_repaired(
    host: Host, config: Config, recorded: list[bytes]
) -> None:
    """Every seventh packet is lost; in the end each quote is there once, in order, with the values
    of the recording, and the numbers have no hole.
    """
    subscriber = Subscriber(config, NBBO, lambda packet: packet.header.channel_seq % 7 == 3)
    await host.channel.start()
    await subscriber.until(lambda: subscriber.beats or host.channel.tick(time.monotonic_ns()))
    await published(host, recorded, subscriber)
    await subscriber.until(up_to_date(subscriber, host))
    assert len(subscriber.lost) > QUOTES // 8
    assert EventKind.REPAIRED in subscriber.kinds()
    assert EventKind.GAP not in subscriber.kinds()
    got = subscriber.decoded
    assert [packet.header.channel_seq for packet in got] == list(range(1, len(got) + 1))
    assert quotes(got) == quotes([decode(packet) for packet in recorded])
    assert {packet.header.channel_id for packet in got} == {1002}
    tagged = config.network.authentication == "on"
    assert all(bool(packet.header.flags & Flag.AUTH) is tagged for packet in got)
    subscriber.close()


async def test_who_joins_late_gets_definitions_and_last_quotes_and_goes_on_from_there(
    host: Host, config: Config, recorded: list[bytes]
) -> None:
    """Of every instrument the definition and the last quote, which carry the numbers up to which
    they are the stream; what is published next follows them.
    """
    await host.channel.start()
    half = len(recorded) // 2
    await published(host, recorded[:half])
    late = Subscriber(config, NBBO)
    await late.until(up_to_date(late, host))
    states = [decode(packet, keys=late.keys) for packet in await late.joined()]
    before = [decode(packet) for packet in recorded[:half]]
    last = {p.header.instrument_id: p for p in before if p.header.msg_type == MsgType.BBO}
    defined = {p.header.instrument_id for p in before if p.header.msg_type == MsgType.INSTRUMENT}
    got = {p.header.instrument_id: p for p in states if p.header.msg_type == MsgType.BBO}
    assert {p.header.instrument_id for p in states} == defined
    assert {n: p.items for n, p in got.items()} == {n: p.items for n, p in last.items()}
    join = host.channel.publisher.last_seq
    assert {p.header.channel_seq for p in states} == {join}
    assert all(
        p.header.flags & Flag.SNAPSHOT and p.header.flags & Flag.RECOVERED for p in got.values()
    )
    late.packets.clear()
    await published(host, recorded[half:], late)
    await late.until(up_to_date(late, host))
    assert late.decoded[0].header.channel_seq == join + 1
    numbers = {n: p.header.instrument_seq for n, p in got.items()}
    for packet in late.of(MsgType.BBO):
        if not packet.header.flags & Flag.RECOVERED:
            number = packet.header.instrument_id
            numbers[number] = numbers.get(number, 0) + 1
            assert packet.header.instrument_seq == numbers[number]
    late.close()


async def test_definitions_and_last_quotes_come_again_in_a_cycle(
    config: Config, recorded: list[bytes]
) -> None:
    """A receiver without TCP gets them too; a repeated quote has the number of the one that it
    repeats, and takes none.
    """
    host = Host(config)
    await host.channel.start()
    await published(host, recorded[:20])
    subscriber = Subscriber(config, NBBO)
    events = host.channel.publisher.events()
    started_ns = time.monotonic_ns()
    await subscriber.until(lambda: subscriber.beats or host.channel.tick(time.monotonic_ns()))
    subscriber.packets.clear()
    host.channel.tick(started_ns + int(31e9))
    await subscriber.until(up_to_date(subscriber, host))
    last = {
        p.header.instrument_id: p
        for p in map(decode, recorded[:20])
        if p.header.msg_type == MsgType.BBO
    }
    assert {p.header.instrument_id: p.items for p in subscriber.of(MsgType.BBO)} == {
        n: p.items for n, p in last.items()
    }
    assert len(subscriber.of(MsgType.INSTRUMENT)) == host.table.instruments
    assert host.channel.publisher.events() == events
    subscriber.close()
    await host.channel.end()


async def test_a_session_ends_and_a_greater_one_begins(
    host: Host, config: Config, recorded: list[bytes]
) -> None:
    """The end is an event, and so is the restart: it numbers from 1 on, and what the service of
    the new session gives is of that session.
    """
    subscriber = Subscriber(config, NBBO)
    await host.channel.start()
    await published(host, recorded[:50], subscriber)
    await host.channel.end()
    await subscriber.until(lambda: EventKind.SESSION_END in subscriber.kinds())
    assert host.channel.recovery.port == 0
    again = Host(config)
    assert again.channel.publisher.session > host.channel.publisher.session
    subscriber.packets.clear()
    await again.channel.start()
    await published(again, recorded[:50], subscriber)
    await subscriber.until(up_to_date(subscriber, again))
    assert EventKind.NEW_SESSION in subscriber.kinds()
    assert {p.header.session for p in subscriber.decoded} == {again.channel.publisher.session}
    assert subscriber.decoded[0].header.msg_type == MsgType.SESSION_START
    assert subscriber.decoded[0].header.channel_seq == 1
    states = [decode(packet, keys=subscriber.keys) for packet in await subscriber.joined()]
    assert {p.header.session for p in states} == {again.channel.publisher.session}
    subscriber.close()
    await again.channel.end()


async def test_heartbeats_name_the_service_and_the_hosts_health(
    host: Host, config: Config, recorded: list[bytes]
) -> None:
    """As a feeder's: port, oldest packet, instruments, what its input lost; of no venue."""
    subscriber = Subscriber(config, NBBO)
    await host.channel.start()
    await published(host, recorded[:20], subscriber)
    await subscriber.until(
        lambda: host.channel.tick(time.monotonic_ns()) or len(subscriber.beats) > 1
    )
    (beat,) = subscriber.beats[-1].items
    assert isinstance(beat, HeartbeatItem)
    assert beat.recovery_port == host.channel.recovery.port > 0
    assert (beat.oldest_seq, beat.upstream_dropped, beat.health) == (1, 3, 0)
    assert beat.instruments == host.table.instruments > 0
    assert subscriber.beats[-1].header.venue_id == 0
    assert {p.header.venue_id for p in subscriber.of(MsgType.BBO)} == {VENUES["binance"]}
    subscriber.close()


async def test_packets_under_another_key_are_none(
    host: Host, config: Config, recorded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver with another key takes nothing and counts it; without authentication there is
    no key, and it takes all.
    """
    monkeypatch.setenv("TAPECAST_KEY_NBBO", OTHER_KEY.hex())
    stranger = Subscriber(config, NBBO)
    await host.channel.start()
    await published(host, recorded[:20])
    if config.network.authentication == "on":
        await stranger.until(lambda: stranger.sequencer.counts()["bad_auth"] >= 21)
        assert not stranger.packets
    else:
        await stranger.until(lambda: len(stranger.packets) >= 21)
    stranger.close()


async def test_a_packet_without_its_instruments_index_is_refused(
    host: Host, recorded: list[bytes]
) -> None:
    """The table takes no packet whose number would be another instrument's, and the publisher none
    of an instrument that it has no room for.
    """
    await host.channel.start()
    host.put(recorded[0])
    header = Header._make(HEADER_STRUCT.unpack_from(recorded[0]))
    wrong = HEADER_STRUCT.pack(*header._replace(instrument_seq=7)) + recorded[0][HEADER_SIZE:]
    with pytest.raises(ValueError, match="instrument_seq is 7, its index 0"):
        host.table.update(wrong)
    with pytest.raises(ValueError, match="packets of 0 instruments"):
        host.table.define(b"")
    beyond = header._replace(instrument_seq=10_000)
    sent = host.channel.publisher.packets
    with pytest.raises(StampError, match="instrument index outside the table"):
        host.channel.publish(HEADER_STRUCT.pack(*beyond) + recorded[0][HEADER_SIZE:])
    assert host.channel.publisher.packets == sent
