"""Books under random loss, disorder and duplication: what is called LIVE is exactly the book
without loss.

The packets are those a feeder publishes from a recording of Binance spot (four symbols,
2021-10-12), with its cycle snapshots put between them and definitions and a cycle at the end;
the oracle is the same tape played whole.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tapecast.consumers.feed.events import Book, BookState, Gap
from tapecast.consumers.feed.feed import Feed
from tapecast.consumers.feed.source import Chunks
from tapecast.protocol.codec import Header, Level, decode, encode, instrument_id, walk
from tapecast.protocol.records import HEADER_STRUCT
from tapecast.protocol.schema import Flag, MsgType
from tests.support.captures import recordings

pytest.importorskip("tapecast.feeder.extract.extractor", reason="the extractor is not built")

BookKey = tuple[str, int]
BookLevels = tuple[list[tuple[int, int]], list[tuple[int, int]]]


def levels(book: Book) -> BookLevels:
    """Return both sides as mantissas."""
    return book.bid_levels().tolist(), book.ask_levels().tolist()


@pytest.fixture(scope="module")
def tape() -> list[bytes]:
    """Return the packets of the recording with a cycle of snapshots after every 40 of them,
    numbered anew.
    """
    from tapecast.feeder.offline import Offline
    from tapecast.feeder.venues import venue

    (path,) = [path for path in recordings("binance") if path.name == "cf_20211012_spot.jsonl"]
    packets = [
        bytes(packet)
        for step in Offline(venue("binance"), [path]).run()
        for packet in walk(step.packets)
    ]
    out: list[bytes] = []
    for count, packet in enumerate(packets):
        out.append(packet)
        if count % 40 == 39:
            out.extend(cycle(packets[: count + 1]))
    out += [packet for packet in packets if packet[3] == MsgType.INSTRUMENT]
    out += cycle(packets)
    return list(renumber(out))


def cycle(packets: list[bytes]) -> Iterator[bytes]:
    """Yield the snapshots a feeder would repeat after these packets."""
    with Feed(types=[], books=True, source=Chunks(packets)) as feed:
        for _ in feed:
            raise AssertionError("no event was asked for")
        for text in feed.instruments:
            book = feed.book(text)
            if book is None:
                continue
            bids, asks = levels(book)
            header = Header(
                msg_type=MsgType.BOOK,
                flags=Flag.SNAPSHOT | Flag.RECOVERED,
                session=1,
                channel_id=1,
                venue_id=1,
                instrument_id=instrument_id(text),
                instrument_seq=book.instrument_seq,
                price_exp=book.levels.price_exp,
                qty_exp=book.levels.qty_exp,
                bid_count=len(bids),
                ts_send_ns=HEADER_STRUCT.unpack_from(packets[-1])[18],
            )
            yield from encode(header, [Level(*level) for level in bids + asks])


def renumber(packets: list[bytes]) -> Iterator[bytes]:
    """Yield the packets with channel sequence numbers 1, 2, 3 …; heartbeats carry the next one
    and use none.
    """
    seq = 1
    for packet in packets:
        header = decode(packet).header
        yield packet[:24] + seq.to_bytes(8, "little") + packet[32:]
        seq += header.msg_type not in (MsgType.HEARTBEAT, MsgType.SESSION_END)


@pytest.fixture(scope="module")
def oracle(tape: list[bytes]) -> dict[BookKey, BookLevels]:
    """Return the book after every event of the whole tape."""
    out: dict[BookKey, BookLevels] = {}
    with Feed(types=[Book, Gap], source=Chunks(tape)) as feed:
        for event in feed:
            assert isinstance(event, Book)
            assert event.state is BookState.LIVE
            out[event.instrument, event.instrument_seq] = levels(event)
    return out


@pytest.mark.parametrize("seed", range(12))
def test_a_live_book_is_the_book_without_loss(
    seed: int, tape: list[bytes], oracle: dict[BookKey, BookLevels]
) -> None:
    """Whatever is lost, swapped or doubled, no LIVE book differs from the oracle's, and all
    recover with the cycle.
    """
    chance = random.Random(seed)
    loss = (0.001, 0.01, 0.1)[seed % 3]
    packets: list[bytes] = []
    last = max(index for index, packet in enumerate(tape) if packet[3] == MsgType.INSTRUMENT) - 3
    for packet in tape[:last]:
        if chance.random() < loss:
            continue
        packets.append(packet)
        if chance.random() < 0.05:
            packets.append(packet)
        if len(packets) > 1 and chance.random() < 0.05:
            packets[-1], packets[-2] = packets[-2], packets[-1]
    live = suspect = 0
    with Feed(types=[Book], source=Chunks(packets + tape[last:])) as feed:
        for event in feed:
            assert isinstance(event, Book)
            assert levels(event) == oracle[event.instrument, event.instrument_seq]
            live += 1
            for text in feed.instruments:
                other = feed.book(text)
                if other is not None and other.state is BookState.LIVE:
                    assert levels(other) == oracle[text, other.instrument_seq]
                suspect += other is not None and other.state is BookState.SUSPECT
        assert feed.stats.lost > 0 or loss < 0.01
        books = [feed.book(text) for text in feed.instruments]
    assert [book and book.state for book in books] == [BookState.LIVE] * 4
    assert live > (len(oracle) // 10 if loss < 0.1 else 0)
    assert suspect > 0 or loss < 0.1


def test_a_late_joiner_ends_with_the_same_books(
    tape: list[bytes], oracle: dict[BookKey, BookLevels]
) -> None:
    """Whoever joins in the middle has no book, or the right one, at every moment."""
    definitions = [packet for packet in tape if packet[3] == MsgType.INSTRUMENT]
    for start in range(5, len(tape), 37):
        with Feed(types=[Book], source=Chunks([*definitions, *tape[start:]])) as feed:
            for event in feed:
                assert isinstance(event, Book)
                assert levels(event) == oracle[event.instrument, event.instrument_seq]
