"""A feed over lossy lines with a recovery service, in simulated time: nothing lost, books right,
SUSPECT just while they are not.

The packets come from recordings of Binance spot (four symbols, 2021-08-14; BTCUSDT, 2024-08-08);
the oracle is the same stream without loss.
"""

from __future__ import annotations

import random
from hashlib import blake2b
from pathlib import Path

import pytest

from tapecast.consumers.feed.events import AnyEvent, Book, BookState, Gap, Instrument, Status, Trade
from tapecast.consumers.feed.feed import Feed
from tapecast.consumers.feed.source import Chunks
from tapecast.protocol.codec import instrument_id
from tapecast.protocol.recovery import first_packet
from tapecast.protocol.schema import MsgType, StatusScope, StatusState
from tests.support.captures import recordings
from tests.support.lossy import MS, Chance, Network, Publication, Wire, wire

__all__ = ["wire"]

pytest.importorskip("tapecast.feeder.extract.extractor", reason="the extractor is not built")

BookKey = tuple[str, int]


def levels(book: Book) -> bytes:
    """Return a digest of both sides, with all their levels."""
    sides = (book.bid_levels(), book.ask_levels())
    text = f"{book.levels.price_exp} {book.levels.qty_exp} {len(sides[0])}".encode()
    return blake2b(b"".join([text, *(side.tobytes() for side in sides)]), digest_size=16).digest()


def recorded(name: str) -> Path:
    """Return a recording."""
    (found,) = [path for path in recordings("binance") if path.name == name]
    return found


@pytest.fixture(scope="module")
def path() -> Path:
    """Return the recording of four symbols."""
    return recorded("cf_20210814_spot.jsonl")


@pytest.fixture(scope="module")
def long_path() -> Path:
    """Return the recording of one busy symbol."""
    return recorded("hft_20240808_spot_btcusdt.jsonl")


class Truth:
    """The stream without loss: every book by instrument and number, every trade, and how long it
    takes.
    """

    def __init__(self, path: Path) -> None:
        """Play the recording."""
        publication = Publication("binance", path)
        packets: list[bytes] = []
        self.steps = 0
        while not publication.ended:
            packets += publication.step()
            self.steps += 1
        self.books: dict[BookKey, bytes] = {}
        self.trades: list[tuple[str, int]] = []
        with Feed(types=[Book, Trade], source=Chunks(packets)) as feed:
            for event in feed:
                if isinstance(event, Book):
                    self.books[event.instrument, event.instrument_seq] = levels(event)
                elif isinstance(event, Trade):
                    self.trades.append((event.instrument, event.trade_id))
        self.last: dict[str, int] = {}
        for text, seq in self.books:
            self.last[text] = seq


@pytest.fixture(scope="module")
def truth(path: Path) -> Truth:
    """Return the oracle of the recording of four symbols."""
    return Truth(path)


@pytest.fixture(scope="module")
def long_truth(long_path: Path) -> Truth:
    """Return the oracle of the long recording."""
    return Truth(long_path)


class Watch:
    """Follows a feed, and checks at every event, and at every step of time, that no LIVE book is
    wrong.
    """

    def __init__(self, feed: Feed, network: Network, truth: Truth) -> None:
        """Watch from the beginning."""
        self.feed, self.network, self.truth = feed, network, truth
        self.trades: list[tuple[str, int]] = []
        self.gaps: list[Gap] = []
        self.statuses: list[Status] = []
        self.books: list[BookKey] = []
        self.checked: dict[str, int] = {}
        self.suspect_steps = self.live_steps = 0
        network.on_step = self.look

    def run(self, events: int | None = None) -> None:
        """Take events to the end, or so many books."""
        for event in self.feed:
            self.take(event)
            if events is not None and len(self.books) >= events:
                return

    def take(self, event: AnyEvent) -> None:
        """Check an event."""
        if isinstance(event, Book):
            key = event.instrument, event.instrument_seq
            self.books.append(key)
            assert levels(event) == self.truth.books[key]
        elif isinstance(event, Trade):
            self.trades.append((event.instrument, event.trade_id))
        elif isinstance(event, Gap):
            self.gaps.append(event)
        elif isinstance(event, Status):
            self.statuses.append(event)

    def look(self) -> None:
        """Check every book as the script would see it now, all that has been read having been
        taken in.
        """
        if self.feed._engine is None:
            return
        for text in self.feed.instruments:
            book = self.feed.book(text)
            if book is None:
                continue
            if book.state is BookState.LIVE:
                assert book.instrument_seq >= self.network.due(instrument_id(text))
                if self.checked.get(text) != book.instrument_seq:
                    self.checked[text] = book.instrument_seq
                    assert levels(book) == self.truth.books[text, book.instrument_seq]
                self.live_steps += 1
            elif book.state is BookState.SUSPECT:
                self.suspect_steps += 1
                if not self.gaps:
                    channel = self.feed._reader._sequencer.channel(1)
                    assert channel is not None
                    # type: ignore[attr-defined]
                    assert channel.edge != channel.next or not book.levels.complete


def watch(
    wire: type[Wire], path: Path, truth: Truth, chance: Chance, seed: int, **options: int
) -> Watch:
    """Make a feed on a network of its own, with everything watched."""
    network = Network(
        [Publication("binance", path, ring_bytes=options.pop("ring_bytes", 1 << 22))],
        chance,
        seed,
        **options,
    )
    wire.network = network
    feed = Feed(types=[Book, Trade, Gap, Status, Instrument], source=network, recovery=True)
    return Watch(feed, network, truth)


def all_live(feed: Feed, truth: Truth) -> bool:
    """Whether every book stands, LIVE, at the last number published."""
    books = {text: feed.book(text) for text in feed.instruments}
    return len(books) == len(truth.last) and all(
        book is not None
        and book.state is BookState.LIVE
        and book.instrument_seq == truth.last[text]
        for text, book in books.items()
    )


def test_loss_on_one_line_needs_no_request(wire: type[Wire], path: Path, truth: Truth) -> None:
    """One line that loses a tenth is hidden by the other: nothing lost, nothing asked for, no
    book ever suspect.
    """
    seen = watch(wire, path, truth, Chance(loss=(0.1, 0.0), disorder=0.05, duplicate=0.05), 1)
    seen.run()
    stats = seen.feed.stats
    assert (stats.lost, stats.repaired, seen.gaps, seen.suspect_steps) == (0, 0, [], 0)
    assert stats.recovery.get("overruns", 0) == 0
    a, b = stats.lines[1]
    assert a.lost > 50
    assert b.lost == 0
    assert seen.trades == truth.trades
    assert all_live(seen.feed, truth)


@pytest.mark.parametrize(("both", "seed"), [(0.01, 1), (0.05, 2), (0.1, 3), (0.1, 4)])
def test_loss_on_both_lines_is_repaired(
    wire: type[Wire], long_path: Path, long_truth: Truth, both: float, seed: int
) -> None:
    """Up to a tenth lost on both lines, with bursts, disorder and copies: every event comes,
    once and in order, without a gap.
    """
    truth = long_truth
    seen = watch(
        wire,
        long_path,
        truth,
        Chance((0.02, 0.02), both=both, burst=0.001, disorder=0.05, duplicate=0.02),
        seed,
    )
    seen.run()
    stats = seen.feed.stats
    assert (stats.lost, stats.gaps, seen.gaps) == (0, 0, [])
    assert stats.repaired >= seen.network.lost > 20
    assert seen.trades == truth.trades
    first = seen.books[0][1]
    assert [seq for _, seq in seen.books] == [seq for _, seq in truth.books if seq >= first]
    assert first < 5
    assert seen.suspect_steps > 0
    assert all_live(seen.feed, truth)
    assert stats.repair_p99_ns is not None
    assert stats.repair_p99_ns < 200 * MS
    begun = [
        status
        for status in seen.statuses
        if status.scope == StatusScope.CHANNEL and status.state == StatusState.SUSPECT
    ]
    ended = [
        status
        for status in seen.statuses
        if status.scope == StatusScope.CHANNEL and status.state == StatusState.LIVE
    ]
    assert len(begun) == len(ended) > 0


def test_without_a_service_books_heal_from_the_cycle(
    wire: type[Wire], path: Path, truth: Truth
) -> None:
    """With no service in the heartbeats loss is told as it happens, and no LIVE book is ever
    wrong.
    """
    seen = watch(wire, path, truth, Chance(both=0.02), 5)
    seen.network.publications[0].port = 0
    seen.run()
    assert seen.feed.stats.lost == seen.network.lost > 0
    assert seen.feed.stats.requests == 0


def test_a_small_ring_is_an_unrepairable_loss_and_books_heal_by_snapshot(
    wire: type[Wire], path: Path, truth: Truth
) -> None:
    """Numbers that the ring no longer has are gaps, told at once; each book is asked for by
    itself and is LIVE again.
    """
    seen = watch(wire, path, truth, Chance(both=0.01, burst=0.002), 6, ring_bytes=1 << 16)
    seen.run()
    stats = seen.feed.stats
    assert stats.lost > 0
    assert sum(gap.missing for gap in seen.gaps) == stats.lost
    assert stats.recovery["answers"] > 0
    assert all_live(seen.feed, truth)


@pytest.mark.parametrize("fault", ["refuses", "stalled", "junk", "lies", "other session"])
def test_a_bad_service_costs_the_repair_only(
    wire: type[Wire], path: Path, truth: Truth, fault: str
) -> None:
    """A service that is not there, stalls, sends junk, lies or has another session: gaps are
    told, no book is ever wrong.
    """
    chance = random.Random(9)

    def lie(data: bytes) -> bytes:
        out = bytearray(data)
        at = 0
        while length := first_packet(data, at):
            if fault == "lies" and data[at + 3] not in (MsgType.REPLY, MsgType.INSTRUMENT):
                out[at + 24 : at + 32] = chance.randrange(2**63).to_bytes(8, "little")
            if fault == "other session":
                out[at + 8 : at + 12] = (77).to_bytes(4, "little")
            at += length
        return bytes(out)

    if fault in ("refuses", "stalled"):
        setattr(wire, fault, True)
    else:
        mangle = (lambda data: chance.randbytes(len(data))) if fault == "junk" else lie
        wire.mangle = staticmethod(mangle)
    seen = watch(wire, path, truth, Chance(both=0.01), 7, drain=20_000)
    seen.run()
    stats = seen.feed.stats
    assert stats.lost > 0
    assert stats.recovery["answers" if fault == "lies" else "failures"] > 0
    assert (
        stats.repaired == 0
        if fault != "lies"
        else stats.invalid.get("unasked", 0) + stats.duplicates > 0
    )
    assert stats.requests < 400


def test_a_hundred_late_joins(wire: type[Wire], path: Path, truth: Truth) -> None:
    """Joined at any moment, with loss, every book is right from its first event and LIVE long
    before a cycle could help.
    """
    chance = random.Random(11)
    for number in range(100):
        at = chance.randrange(200, truth.steps - 100)
        seen = watch(
            wire, path, truth, Chance((0.05, 0.05), both=0.01), number, join_at=at, drain=2500
        )
        deadline = seen.network.now_ns() + 1500 * MS
        while seen.network.now_ns() < deadline and not _complete(seen):
            seen.network.on_step = seen.look
            seen.run(len(seen.books) + 1)
        assert _complete(seen)
        for text in seen.feed.instruments:
            book = seen.feed.book(text)
            assert book is not None
            assert (book.state, levels(book)) == (
                BookState.LIVE,
                truth.books[text, book.instrument_seq],
            )
        seen.feed.close()


def _complete(seen: Watch) -> bool:
    live = {instrument_id(text) for text, _ in truth_before(seen)}
    have = {
        instrument_id(text)
        for text in seen.feed.instruments
        if (book := seen.feed.book(text)) is not None and book.state is BookState.LIVE
    }
    return bool(live) and live <= have


def truth_before(seen: Watch) -> list[BookKey]:
    """Return the books that the feeder has published so far."""
    last = seen.network.publications[0].last_seq
    return [
        (text, seq)
        for text in seen.truth.last
        if (seq := last.get(instrument_id(text))) is not None
    ]
