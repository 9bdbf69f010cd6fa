"""One venue stood in for, without I/O: its own dialect of requests and answers, real frames in
their order, and scripted faults.

`feeder.replay`'s dialects word the answers. A book plays its tape from the beginning for whoever
subscribes to it, or asks for its snapshot, after something was played: with sequence numbers and
times that go on, and with the prices as recorded. So its true state is known at every moment
(`Truth`), and the end of a script is the end of the tape whatever happened on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from tapecast.feeder.replay.dialect import Dialect
from tapecast.feeder.replay.venues import DIALECTS
from tapecast.feeder.venues import venue
from tapecast.feeder.venues.spec import RestRequest, VenueSpec, market_and_symbol
from tests.support.standin.rewriting import Movable, with_number
from tests.support.standin.tape import BookTape, Tape, Truth, load, snapshot

__all__ = ["Change", "Link", "Script", "StandIn"]

_IDS = 10**9
"""Between the numbers of one beginning of a tape and those of the next."""
_NS = 3600 * 10**9

Change = Callable[[bytes], bytes]


@dataclass
class Script:
    """What happens to one book the first `turns` times that it is played; afterwards it is
    played as recorded.

    `order`: positions of updates in the order they are sent (one left out, twice, before its
    time). `changes`: what is done to the update of a position. `silent`: so many snapshots of
    the stream never come.
    """

    order: list[int] | None = None
    changes: dict[int, Change] = field(default_factory=dict)
    silent: int = 0
    turns: int = 1


class _Book:
    """One book as it is played."""

    def __init__(self, tape: Tape, book: BookTape) -> None:
        self.tape = tape
        self.book = book
        self.truth = Truth(tape, book)
        self.script = Script()
        self.turn = 0
        """How often the tape began; numbers and times go on from turn to turn."""
        self.sent = 0
        self.begun = False

    @property
    def order(self) -> list[int]:
        if self.turn < self.script.turns and self.script.order is not None:
            return self.script.order
        return list(range(len(self.book.updates)))

    def begin(self) -> bytes | None:
        """Begin, or begin again; return the stream's snapshot, if there is one and it comes."""
        if self.begun:
            self.turn += 1
        self.begun = True
        self.sent = 0
        self.truth.begin()
        if self.script.silent > 0:
            self.script.silent -= 1
            return None
        return None if self.book.start is None else self._moved(self.book.start.at)

    def join(self) -> bytes | None:
        """Return the stream's snapshot of the book as it is now, for one more connection beside
        those that have it.
        """
        start = self.book.start
        if start is None or self.truth.position < 0:
            return None if start is None else self._moved(start.at)
        last = self.book.updates[self.truth.position]
        return self._moved(
            Movable(
                self.tape.venue, snapshot(self.tape.venue, start.raw, last.raw, self.truth.sides)
            ).at
        )

    def next(self) -> bytes | None:
        """Return the next update; None at the end of the tape, or before anybody asked for the
        book.
        """
        if not self.begun or self.sent >= len(self.order):
            return None
        position = self.order[self.sent]
        self.sent += 1
        self.truth.advance(max(position, self.truth.position))
        frame = self._moved(self.book.updates[position].at)
        change = self.script.changes.get(position) if self.turn < self.script.turns else None
        return frame if change is None else change(frame)

    def rest(self) -> bytes | None:
        """Return the REST order book; where the stream has passed it, both begin again."""
        if self.book.body is None:
            return None
        if self.truth.position >= self.book.covered:
            self.begin()
        return self._moved(self.book.body.at)

    def _moved(self, at: Callable[[int, int], bytes]) -> bytes:
        return at(self.turn * _IDS, self.turn * _NS)


class StandIn:
    """The venue: what it was asked, and where each of its books stands."""

    def __init__(
        self, name: str, scripts: dict[str, Script] | None = None, *, alone: bool = False
    ) -> None:
        """`scripts` by symbol; books without one are played as recorded. `alone`: the first book
        and no other.
        """
        self.tape: Tape = load(name)
        if alone:
            first = self.tape.symbols[0]
            self.tape = replace(self.tape, books={first: self.tape.books[first]})
        self.spec: VenueSpec = venue(name)
        self.dialect: Dialect = DIALECTS[name]
        self.books = {symbol: _Book(self.tape, book) for symbol, book in self.tape.books.items()}
        for symbol, script in (scripts or {}).items():
            self.books[symbol].script = script
        self.heard: list[bytes] = []
        self.links: list[Link] = []

    @property
    def name(self) -> str:
        """The venue's."""
        return self.spec.name

    def connect(self, url: str) -> Link:
        """Take a connection to one of the venue's WebSocket URLs."""
        parts = urlsplit(url)
        session = self.dialect.connect(parts.path or "/", {})
        assert session is not None, f"{self.name} has no {url}"
        link = Link(self, session)
        self.links.append(link)
        return link

    def body(self, request: RestRequest) -> bytes | None:
        """Return the order book that a request asks for."""
        symbol = self.dialect.snapshot_of(request.path, dict(request.query))
        return self.books[symbol].rest() if symbol in self.books else None

    @property
    def played(self) -> bool:
        """Whether every book's tape is at its end."""
        return all(book.begun and book.sent >= len(book.order) for book in self.books.values())


class Link:
    """One connection to the stand-in."""

    def __init__(self, venue: StandIn, session: object) -> None:
        self.venue = venue
        self._session = session
        self.open = True
        self._numbers = -1
        self._streams: frozenset[str] = frozenset()

    def hear(self, frame: bytes) -> list[bytes]:
        """Take a message of the client; return what the venue answers at once: answers, then
        snapshots of new books.
        """
        self.venue.heard.append(frame)
        session = self._session
        # type: ignore[attr-defined]
        answers = [text.encode() for text in session.receive(frame.decode())]
        # type: ignore[attr-defined]
        before, self._streams = self._streams, frozenset(session.streams())
        out = answers
        for symbol in self.symbols(self._streams - before):
            book = self.venue.books[symbol]
            beside = any(
                link is not self and link.open and symbol in link.symbols()
                for link in self.venue.links
            )
            first = book.join() if beside else book.begin()
            if first is not None:
                out.append(first)
        return [self.numbered(frame) for frame in out]

    def symbols(self, streams: Iterable[str] | None = None) -> list[str]:
        """Return the books that these streams carry, by default those subscribed now."""
        named = {
            market_and_symbol(self.venue.dialect.symbol_of(stream))[1]
            for stream in (self._streams if streams is None else streams)
            if any(mark in stream for mark in ("book", "depth", "level2"))
        }
        return [symbol for symbol in self.venue.books if market_and_symbol(symbol)[1] in named]

    def next(self, symbol: str) -> bytes | None:
        """Return the next update of a book that is subscribed here."""
        frame = self.venue.books[symbol].next() if self.open and symbol in self.symbols() else None
        return None if frame is None else self.numbered(frame)

    def numbered(self, frame: bytes) -> bytes:
        """Return a frame with the connection's next number, where the venue counts the messages
        of a connection.
        """
        if self.venue.spec.stream.connection_number is None or b'"sequence_num"' not in frame:
            return frame
        self._numbers += 1
        return with_number(frame, "sequence_num", self._numbers)

    def lose_a_message(self) -> None:
        """Count a message that never arrives."""
        self._numbers += 1
