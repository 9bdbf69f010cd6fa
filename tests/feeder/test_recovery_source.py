"""Join points: a book from the recovery service and the stream behind its number are the
feeder's own book, to the last level.

Recordings go through the feeder's session and publisher; at random moments a late joiner takes
what the service would send it.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from tapecast.feeder.offline import Offline
from tapecast.feeder.recovery_source import session_source
from tapecast.feeder.venues import venue
from tapecast.protocol.books.books import BookSet
from tapecast.protocol.codec import Packet, decode, walk
from tapecast.protocol.publish.recovery.source import ChannelSource
from tapecast.protocol.publish.recovery.types import State
from tapecast.protocol.records import InstrumentItem, StatusItem
from tapecast.protocol.ring import Ring
from tapecast.protocol.schema import Flag, MsgType, StatusReason, StatusScope, StatusState
from tests.support.captures import captures
from tests.support.feeder_frames import Feed, spot_depth, spot_trade

RECORDINGS = [
    "binance/cf_20210814_spot.jsonl",
    "binance_futures/cf_20210722_usdm.jsonl",
    "bybit/nautilus_20241201_linear_xrpusdt_ob500.jsonl",
    "okx/cf_20220513_v5_books.jsonl",
    "deribit/cf_20210722_options.jsonl",
    "kraken/crossbook_20260802_v2_btcusd_d25.jsonl",
    "upbit/cf_20210405_simple.jsonl",
]
POINTS = 100


class Joined(NamedTuple):
    """What a joiner got, and how much had been published by then."""

    instrument_id: int
    state: State
    published: int


def played(file: str, rng: random.Random) -> tuple[Offline, bytes, list[Joined]]:
    """Play a recording; return it at its end, all it published, and what joiners got on the way."""
    path = captures() / file
    steps = sum(1 for _ in Offline(venue(file.split("/")[0]), [path]).run())
    moments = sorted(rng.randrange(steps) for _ in range(POINTS))
    offline = Offline(venue(file.split("/")[0]), [path])
    offline.publisher.ring = ring = Ring(1 << 26)
    source = session_source(offline.session, offline.publisher, ring, lambda: None)
    stream, joined = bytearray(), []
    for number, step in enumerate(offline.run()):
        stream += step.packets
        while moments and moments[0] == number and source.instruments:
            moments.pop(0)
            index = rng.randrange(source.instruments)
            instrument = offline.session.instruments[index]
            joined.append(Joined(instrument.instrument_id, source.book(index, 7), len(stream)))
    assert len(joined) >= POINTS // 2
    return offline, bytes(stream), joined


@pytest.mark.parametrize("file", RECORDINGS)
def test_snapshot_and_stream_behind_it_are_the_feeders_book(file: str) -> None:
    """At a hundred random moments, with the sequence numbers checked as a receiver checks them.

    The pieces of large books are made at the end of the recording only: they must be what the
    book was when it was read.
    """
    offline, stream, joined = played(file, random.Random(file))
    books = 0
    for instrument_id, state, published in joined:
        found = [decode(packet) for packet in walk(data_of(state))]
        assert len(found) == state.packets
        assert len(data_of(state)) == state.nbytes
        check_stamps(found, instrument_id, state, offline)
        # What a joiner applies is what it received behind the join point, by number and not by
        # time.
        behind = [
            packet
            for packet in walk(stream)
            if int.from_bytes(packet[24:32], "little") > state.channel_seq
        ]
        assert sum(map(len, behind)) == len(stream) - published
        own = offline.session.books.book(instrument_id)
        instrument = offline.session.by_id[instrument_id]
        if own is None or not instrument.sync.live:
            continue
        joiner = BookSet()
        joiner.apply(data_of(state), check_seq=True)
        joiner.apply(b"".join(behind), check_seq=True)
        book = joiner.book(instrument_id)
        assert book is not None
        assert book.complete
        assert book.levels() == own.levels()
        assert book.instrument_seq == offline.publisher._stamper.last_seq(
            instrument.index, MsgType.BOOK
        )
        assert joiner.counters.seq_gaps == 0
        books += 1
    assert books > POINTS // 4


def check_stamps(found: list[Packet], instrument_id: int, state: State, offline: Offline) -> None:
    """Every packet names the publisher's session, the instrument, the join point and the time it
    was written.
    """
    for header, items, _ in found:
        assert (header.session, header.channel_seq, header.ts_send_ns) == (1, state.channel_seq, 7)
        assert (header.instrument_id, header.channel_id) == (instrument_id, offline.spec.venue_id)
        assert header.flags & Flag.REPLAY
        if header.msg_type == MsgType.BOOK:
            assert header.flags & Flag.SNAPSHOT
            assert header.flags & Flag.RECOVERED
        elif header.msg_type == MsgType.INSTRUMENT:
            (item,) = items
            assert isinstance(item, InstrumentItem)
            assert item.id == instrument_id
    assert found[0].header.msg_type == MsgType.INSTRUMENT
    assert {packet.header.msg_type for packet in found[1:]} in ({MsgType.BOOK}, {MsgType.STATUS})


def data_of(state: State) -> bytes:
    """Return all packets."""
    return b"".join(state.piece(number) for number in range(len(state)))


def source_of(feed: Feed) -> ChannelSource:
    """Return the source of a feed."""
    return session_source(
        feed.session, feed.publisher, Ring(1 << 16), lambda: feed.flush() and None
    )


def status_of(state: State) -> tuple[StatusState, StatusReason]:
    """Return the state and reason that the last packet tells."""
    (item,) = decode(list(walk(data_of(state)))[-1]).items
    assert isinstance(item, StatusItem)
    assert item.scope == StatusScope.BOOK
    return StatusState(item.state), StatusReason(item.reason)


def test_a_book_that_is_not_live_is_a_status() -> None:
    """Never levels that could be taken for a book."""
    feed = Feed("binance", "LRCBTC")
    source = source_of(feed)
    assert status_of(source.book(0, 7)) == (StatusState.IDLE, StatusReason.NONE)
    feed.frame(spot_depth(99, 100))
    assert status_of(source.book(0, 7))[0] == StatusState.WAIT_SNAPSHOT
    feed.spot_live([("0.00001150", "1")], [("0.00001151", "1")])
    assert [packet[3] for packet in walk(data_of(source.book(0, 7)))] == [
        MsgType.INSTRUMENT,
        MsgType.BOOK,
    ]
    feed.frame(spot_depth(105, 105))
    state, reason = status_of(source.book(0, 7))
    assert state not in (StatusState.LIVE, StatusState.STALE)
    assert reason == StatusReason.GAP


def test_a_live_book_that_does_not_fit_its_exponents_is_suspect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No levels go out that could not be exact, and no joiner waits for them as if they were
    coming.
    """
    feed = Feed("binance", "LRCBTC")
    feed.spot_live([("0.00001150", "1")], [("0.00001151", "1")])
    monkeypatch.setattr(feed.session, "book_pieces", lambda instrument, stamp: None)
    state = source_of(feed).book(0, 7)
    assert [packet[3] for packet in walk(data_of(state))] == [MsgType.INSTRUMENT, MsgType.STATUS]
    assert status_of(state) == (StatusState.SUSPECT, StatusReason.EXPONENT)


def test_a_stale_book_comes_with_its_status() -> None:
    """Its levels are the last ones, and the joiner knows that its source is silent."""
    feed = Feed("binance", "LRCBTC")
    feed.spot_live([("0.00001150", "1")], [("0.00001151", "1")])
    feed.session.check_stale(0, 1, 0)
    feed.session.check_stale(10, 1, 0)
    state = source_of(feed).book(0, 7)
    assert [packet[3] for packet in walk(data_of(state))] == [
        MsgType.INSTRUMENT,
        MsgType.BOOK,
        MsgType.STATUS,
    ]
    assert status_of(state) == (StatusState.STALE, StatusReason.TIMEOUT)


def test_what_the_session_has_finished_goes_out_before_a_book_is_read() -> None:
    """A book must not be ahead of its join point: its reader would apply the same event twice,
    or take it for another.
    """
    feed = Feed("binance", "LRCBTC")
    feed.spot_live([("0.00001150", "1")], [("0.00001151", "1")])
    before = feed.publisher.next_seq
    feed.session.on_frame("ws.1", spot_depth(101, 101, [("0.00001149", "2")]), 1, 1)
    state = source_of(feed).book(0, 7)
    assert feed.publisher.next_seq == before + 1
    assert state.channel_seq == before
    levels = decode(list(walk(data_of(state)))[-1]).items
    assert (1149, 2000000) in [tuple(item) for item in levels]


def test_reading_takes_no_number() -> None:
    """The next event counts on as if nobody had asked."""
    feed = Feed("binance", "LRCBTC")
    feed.spot_live([("0.00001150", "1")], [("0.00001151", "1")])
    source = source_of(feed)
    before = feed.publisher.next_seq, feed.publisher.events(), feed.publisher.packets
    for _ in range(3):
        source.book(0, 7)
        source.definition(0, 7)
    assert (feed.publisher.next_seq, feed.publisher.events(), feed.publisher.packets) == before
    feed.packets = b""
    feed.frame(spot_trade("0.00001150", "1"))
    (packet,) = walk(feed.packets)
    assert decode(packet).header.channel_seq == before[0]
    assert source.definition(0, 7).channel_seq == before[0]
    assert source.next_seq == before[0] + 1


def test_the_ring_holds_what_the_publisher_sent() -> None:
    """Events, definitions and cyclic snapshots alike, in their own bytes; heartbeats have no
    number and are not in it.
    """
    feed = Feed("binance", "LRCBTC")
    feed.publisher.ring = ring = Ring(1 << 16)
    first = feed.publisher.next_seq
    assert feed.publisher.oldest_seq == 0
    feed.packets = b""
    feed.spot_live([("0.00001150", "1")], [("0.00001151", "1")])
    sent = feed.packets
    feed.publisher.repeat(feed.session.book_snapshot(feed.session.instruments[0]))
    sent += feed.line.take()
    view, count = ring.read(first, 512, 1 << 20)
    assert (bytes(view), count) == (sent, len(list(walk(sent))))
    assert (feed.publisher.oldest_seq, ring.next_seq) == (first, feed.publisher.next_seq)


def test_instruments_are_found_by_their_id() -> None:
    """Those that the session has, and no others."""
    feed = Feed("binance", "LRCBTC", "ETHBTC")
    source = source_of(feed)
    ids = [instrument.instrument_id for instrument in feed.session.instruments]
    assert [source.find(number) for number in (*ids, 0, 5)] == [0, 1, None, None]
    assert source.instruments == 2
