"""`feeder.frame_handler`: a batch that could not be sent is told, and its books are made good."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tapecast.feeder import frame_handler as module
from tapecast.feeder.frame_handler import FrameHandler
from tapecast.protocol.books.books import BookSet
from tapecast.protocol.codec import walk
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.records import HEADER_STRUCT, Header
from tapecast.protocol.schema import MsgType
from tapecast.protocol.stamping import StampError
from tests.support.feeder_frames import Feed, spot_depth


class Failing:
    """Publishes through a publisher, and fails while it is told to."""

    def __init__(self, publisher: Publisher) -> None:
        """Begin well."""
        self.publisher = publisher
        self.fails = False

    def instruments(self, count: int) -> None:
        """Pass it on."""
        self.publisher.instruments(count)

    def publish(self, buffer: bytearray, nbytes: int) -> None:
        """Fail, or pass it on."""
        if self.fails:
            raise StampError("no packet stands here", 0)
        self.publisher.publish(buffer, nbytes)


def nothing() -> None:
    """Do nothing."""


def received(books: BookSet, packets: bytes) -> list[str]:
    """Let a consumer's books take packets in, and return the names of the types that came."""
    kinds = []
    for packet in walk(packets):
        header = Header._make(HEADER_STRUCT.unpack_from(packet))
        kinds.append(MsgType(header.msg_type).name)
        if header.msg_type == MsgType.BOOK:
            books.apply(packet, check_seq=True)
    return kinds


@pytest.fixture
def live() -> tuple[Feed, FrameHandler, Failing, Callable[[bytes], None]]:
    """A session with a LIVE book, its frame_handler, a publisher that can fail, and what hands a
    message in.
    """
    feed = Feed("binance", "LRCBTC")
    feed.spot_live([("0.00000824", "100")], [("0.00000825", "50")])
    failing = Failing(feed.publisher)
    frame_handler = FrameHandler(feed.session, failing, nothing)  # type: ignore[arg-type]

    class Link:
        key = "ws.1"

    return feed, frame_handler, failing, frame_handler.reader(Link())


def test_books_that_lack_a_batch_are_sent_whole(
    live: tuple[Feed, FrameHandler, Failing, Callable[[bytes], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loss is a status of the channel, and with the next batch a consumer's book is the
    feeder's again.
    """
    feed, frame_handler, failing, message = live
    books, instrument = BookSet(), feed.session.instruments[0].instrument_id
    books.add(instrument)
    received(books, feed.packets)
    last = feed.session.instruments[0].sync.last_id
    failing.fails = True
    message(spot_depth(last + 1, last + 1, [("0.00000823", "7")], []))
    frame_handler.batch()
    assert feed.line.take() == b""
    assert feed.session.counts["batches_failed"] == 1
    frame_handler.batch()
    assert feed.session.counts["batches_failed"] == 2, "what makes it good could not be sent either"
    failing.fails = False
    frame_handler.batch()
    assert feed.line.take() == b"", "not tried again at once"
    monkeypatch.setattr(module, "_REPAY_NS", 0)
    frame_handler.batch()
    frame_handler.batch()
    assert received(books, feed.line.take()) == ["STATUS", "BOOK"]
    found, own = books.book(instrument), feed.session.books.book(instrument)
    assert found is not None
    assert own is not None
    assert found.complete
    assert found.bids().tolist() == own.bids().tolist()
    assert len(own.bids()) == 2, "the lost update is in it"
