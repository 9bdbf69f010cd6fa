"""Two feeders of one venue: an instrument is taken from the better one, and a change-over loses
and repeats nothing.

Both publish a recording of Binance spot (four symbols, 2021-08-14) on channels of their own; the
oracle is the stream of one.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from tapecast.consumers.feed.events import Book, BookState, Gap, Instrument, Status, Trade
from tapecast.consumers.feed.feed import Feed
from tapecast.feeder.session.packets import PacketWriter
from tapecast.protocol.schema import Flag, MsgType, StatusReason, StatusScope
from tapecast.runtime.channels import channel_of, lines_of, venue_of
from tapecast.runtime.config import load
from tests.consumers.feed.test_repaired_feed import Truth, Watch, all_live, path, truth
from tests.support.lossy import Chance, Network, Publication, Wire, wire

__all__ = ["path", "truth", "wire"]

FIRST = 1


class Pair(Watch):
    """A feed that hears two feeders."""

    def __init__(
        self,
        wire: type[Wire],
        path: Path,
        truth: Truth,
        chance: Chance | None = None,
        seed: int = 1,
    ) -> None:
        """Start both feeders, and the feed."""
        self.first, self.second = (
            Publication("binance", path, replica=n, session=5 + n) for n in (0, 1)
        )
        network = Network(
            [self.first, self.second], chance or Chance(), seed, drain=25_000, live=True
        )
        wire.network = network
        feed = Feed(types=[Book, Trade, Gap, Status, Instrument], source=network, recovery=True)
        super().__init__(feed, network, truth)
        network.on_step = None

    @property
    def switches(self) -> list[Status]:
        """The change-overs that were told."""
        return [
            status
            for status in self.statuses
            if status.scope == StatusScope.BOOK and "channel" in status.detail
        ]

    def after(self, steps: int, action: object) -> None:
        """Do something after so many steps."""
        left = [steps]

        def look() -> None:
            left[0] -= 1
            if left[0] == 0:
                action()  # type: ignore[operator]
            self.look()

        self.network.on_step = look


def check_books(pair: Pair, truth: Truth) -> None:
    """Every instrument's numbers go up by one, but for the change-over, where the new channel's
    book may stand elsewhere.
    """
    for text in truth.last:
        seqs = [seq for name, seq in pair.books if name == text]
        breaks = [(a, b) for a, b in pairwise(seqs) if b != a + 1]
        assert len(breaks) <= 1, breaks
        assert seqs[-1] == truth.last[text]


def test_one_of_two_is_taken_and_nothing_comes_twice(
    wire: type[Wire], path: Path, truth: Truth
) -> None:
    """While both are well everything comes once, from the first."""
    pair = Pair(wire, path, truth)
    pair.run()
    assert pair.trades == truth.trades
    assert pair.switches == []
    assert pair.gaps == []
    check_books(pair, truth)
    assert all_live(pair.feed, truth)


def test_an_upgrade_makes_before_it_breaks(wire: type[Wire], path: Path, truth: Truth) -> None:
    """The first feeder stops and says so: the second takes over at once, book by book, no trade
    lost or told twice.
    """
    pair = Pair(wire, path, truth, Chance(loss=(0.05, 0.05), disorder=0.05))
    pair.after(600, lambda: [pair.network.send(packet, pair.first) for packet in pair.first.end()])
    pair.run()
    assert sorted(pair.trades) == sorted(truth.trades)
    assert {status.detail for status in pair.switches} == {"channel 1 to 101"}
    assert sorted(status.instrument or "" for status in pair.switches) == sorted(truth.last)
    assert pair.gaps == []
    check_books(pair, truth)
    assert all_live(pair.feed, truth)


def test_a_killed_feeder_is_left_when_it_is_silent(
    wire: type[Wire], path: Path, truth: Truth
) -> None:
    """Without a word of the first, silence ends it; the trades of the meantime come from the
    second, each once.
    """
    pair = Pair(wire, path, truth)
    pair.after(500, lambda: setattr(pair.first, "stopped", True))
    pair.run()
    assert sorted(pair.trades) == sorted(truth.trades)
    assert len(pair.switches) == len(truth.last)
    check_books(pair, truth)
    assert all_live(pair.feed, truth)


def test_a_book_that_is_not_well_goes_over_alone(
    wire: type[Wire], path: Path, truth: Truth
) -> None:
    """An instrument whose book the first feeder no longer vouches for is taken from the second;
    the others stay.
    """
    pair = Pair(wire, path, truth)
    session = pair.first.offline.session

    def spoil() -> None:
        instrument = session.instruments[0]
        packets = PacketWriter(1, 1).gap(instrument, StatusReason.GAP, 5, 7, 0)
        pair.first.publisher.instruments(len(session.instruments))
        pair.first.publisher.publish(bytearray(packets), len(packets))
        pair.network.send(pair.first.offline.line.take(), pair.first)

    pair.after(900, spoil)
    pair.run()
    (switch,) = pair.switches
    assert switch.instrument == f"binance.spot.{session.instruments[0].symbol}"
    assert len(pair.gaps) == 1
    assert sorted(pair.trades) == sorted(truth.trades)
    assert all_live(pair.feed, truth)


def test_a_change_over_begins_with_a_flagged_snapshot(
    wire: type[Wire], path: Path, truth: Truth
) -> None:
    """The first event from the new channel replaces the book: SNAPSHOT | RECOVERED, with all
    levels as its changes.
    """
    pair = Pair(wire, path, truth)
    pair.after(600, lambda: [pair.network.send(packet, pair.first) for packet in pair.first.end()])
    seen: dict[str, Book] = {}
    for event in pair.feed:
        pair.take(event)
        if isinstance(event, Status) and event in pair.switches:
            seen[event.instrument or ""] = None  # type: ignore[assignment]
        elif isinstance(event, Book) and seen.get(event.instrument, event) is None:
            seen[event.instrument] = event.copy()
    assert len(seen) == len(truth.last)
    for book in seen.values():
        assert book.snapshot
        assert book.flags & Flag.SNAPSHOT
        assert book.flags & Flag.RECOVERED
        assert book.state is BookState.LIVE
        assert (len(book.changes.bids), len(book.changes.asks)) == book.depth
        assert [level for level, _ in zip(book.changes.bids, range(3), strict=False)] == book.bids(
            3
        )


def test_channels_of_a_venue() -> None:
    """The second feeder's channel is the venue's id + 100, with groups of its own; a channel
    tells its venue.
    """
    network = load({"network.line_b_prefix": "239.255.43"}).network
    assert (channel_of("okx"), channel_of("okx", 1)) == (7, 107)
    assert venue_of(107) == venue_of(7) == 7
    assert lines_of("okx", network, 1) == [("239.255.42.107", 9001), ("239.255.43.107", 9001)]


def test_batches_take_each_instrument_from_one_channel(
    wire: type[Wire], path: Path, truth: Truth
) -> None:
    """Arrays hold the packets of the channel that an instrument is taken from, and of no other."""
    first, second = (Publication("binance", path, replica=n, session=5 + n) for n in (0, 1))
    network = Network([first, second], Chance(), 1)
    wire.network = network
    channels: set[int] = set()
    trades: list[int] = []
    with Feed(types=[Trade], source=network, recovery=True) as feed:
        for batch in feed.batches():
            channels |= set(batch.headers(MsgType.TRADE)["channel_id"].tolist())
            trades += batch.table(MsgType.TRADE)["trade_id"].tolist()
    assert channels == {FIRST}
    assert trades == [number for _, number in truth.trades]
