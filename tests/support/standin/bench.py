"""A venue's session as its shell drives it, against a stand-in, on a clock that moves only when
told: no sockets, no waiting.

At every step the books of a consumer, made from the published events alone, are held against the
venue's true books: a book is right, or it is not shown as LIVE. `Bench.run` plays the scripts to
their end and lets deadlines pass until everything is LIVE.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from tapecast.feeder.session.session import Command, CommandKind
from tapecast.feeder.venues.spec import RestRequest, Subscription, Topic
from tapecast.protocol.schema import MsgType
from tapecast.protocol.units import NS_PER_S
from tests.support.feeder_frames import Feed
from tests.support.standin.tape import Sides
from tests.support.standin.venue import Link, StandIn

__all__ = ["Answer", "Bench", "Event"]

Event = dict[str, Any]
STEP_NS = NS_PER_S // 10
"""Between two rounds of updates, one of each book."""


class Answer(NamedTuple):
    """What becomes of a REST request: its body after so long, or none (an error); a body may be
    changed on its way.
    """

    after_s: float = 0.0
    lost: bool = False
    change: Callable[[bytes], bytes] | None = None


class Bench:
    """One session, one stand-in, one consumer."""

    def __init__(
        self,
        venue: StandIn,
        *,
        rest: list[Answer] | None = None,
        instruments: bytes | None = None,
        **options: Any,
    ) -> None:
        """`rest`: what becomes of the first requests for the struck book, one after another;
        later ones are answered at once.

        `instruments`: the venue's list, known before anything is subscribed.
        """
        self.venue = venue
        self.spec = venue.spec
        self.feed = Feed(venue.name, **options)
        self.session = self.feed.session
        self.recv_ns = venue.tape.time_ns
        """Receive time of what comes next: at first that of the recording; moves with the clock,
        and may be stepped.
        """
        if instruments is not None:
            self.session.on_instruments(instruments, self.recv_ns, self.feed.now_ns)
        self.session.subscribe(venue.tape.symbols, self.recv_ns)
        self.struck = venue.tape.symbols[0]
        self.others = venue.tape.symbols[1:]
        self.events: list[Event] = list(self.feed.flush())
        self.commands: list[tuple[float, Command]] = []
        """(seconds since the start, what the session asked for)."""
        self.links: dict[str, Link] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._rest = rest or []
        self._pending: list[tuple[int, str, bytes | None]] = []
        self._reconnects: list[tuple[int, str]] = []
        self._sides: dict[str, Sides] = {}
        self.live: dict[str, bool] = {}
        self._request_id = 1
        self._began_ns = self.feed.now_ns
        self.wrong_seen: list[str] = []

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return (self.feed.now_ns - self._began_ns) / NS_PER_S

    def connect(self) -> None:
        """Open every connection that the venue's module asks for."""
        channels = self.venue.tape.channels
        subscriptions = self.spec.stream.subscribe(
            self.venue.tape.symbols, channels, self._request_id
        )
        self._request_id += sum(len(one.frames) for one in subscriptions)
        for number, one in enumerate(subscriptions, 1):
            self._subscriptions[f"{one.route}.{number}"] = one
            self._open(f"{one.route}.{number}")

    def _open(self, name: str) -> None:
        subscription = self._subscriptions[name]
        link = self.links[name] = self.venue.connect(self._url(subscription.route))
        self.session.on_url(name, self._url(subscription.route))
        self.session.on_connect(name, self.feed.now_ns, self.recv_ns)
        self.flush()
        for frame in subscription.frames:
            self.deliver(name, *link.hear(frame))
        books = dict.fromkeys(
            topic.symbol for topic in subscription.topics if self._carries_book(topic)
        )
        self.session.on_subscribed(books, name, self.feed.now_ns)
        self.flush()

    def lose(self, name: str) -> None:
        """Lose a connection; it is made anew a second later, as after a first backoff."""
        self.links.pop(name).open = False
        self.session.on_disconnect(name, self.feed.now_ns, self.recv_ns)
        self._reconnects.append((self.feed.now_ns + NS_PER_S, name))
        self.flush()

    def deliver(self, name: str, *frames: bytes) -> None:
        """Let frames arrive on a connection, each a read of its own."""
        for frame in frames:
            self.session.on_frame(name, frame, self.recv_ns, self.feed.now_ns)
            self.flush()

    def flush(self) -> None:
        """Publish, let the consumer follow, and carry out what the session asks for."""
        for event in self.feed.flush():
            self.events.append(event)
            self._consume(event)
        while self.session.commands:
            self._carry_out(self.session.commands.pop(0))
            for event in self.feed.flush():
                self.events.append(event)
                self._consume(event)

    def step(self) -> bool:
        """Send one update of every book, then let a tenth of a second pass; whether anything was
        sent.
        """
        sent = False
        for name, link in list(self.links.items()):
            for symbol in link.symbols():
                if self.links.get(name) is not link:
                    break
                frame = link.next(symbol)
                if frame is not None:
                    sent = True
                    self.deliver(name, frame)
                    self.check()
        self.wait(STEP_NS / NS_PER_S)
        return sent

    def wait(self, seconds: float) -> None:
        """Let time pass: deadlines act, answers and connections that are due come."""
        until = self.feed.now_ns + int(seconds * NS_PER_S)
        while True:
            due = [at for at, *_ in (*self._pending, *self._reconnects)]
            deadline = self.session.next_deadline()
            due += [] if deadline is None else [deadline]
            at = min((time for time in due if time <= until), default=None)
            now = until if at is None else max(at, self.feed.now_ns)
            self.recv_ns += now - self.feed.now_ns
            self.feed.now_ns = now
            self._arrive()
            self.session.on_timer(now, self.recv_ns)
            self.flush()
            self.check()
            if at is None:
                return

    def run(self, *, within_s: float = 3600.0) -> None:
        """Play everything to its end; then let time pass until every book is LIVE."""
        if not self.links:
            self.connect()
        while self.now_s < within_s:
            if (
                not self.step()
                and self.venue.played
                and self.session.live_books() == len(self.venue.books)
            ):
                return
        raise AssertionError(f"not LIVE within {within_s} s: {self.live}")

    def check(self) -> None:
        """Hold every book that is shown as LIVE against the venue's own."""
        for symbol, live in self.live.items():
            if live and self._sides[symbol] != self.venue.books[symbol].truth.sides:
                self.wrong_seen.append(f"{symbol} at {self.now_s:.1f} s")

    def sides(self) -> dict[str, Sides]:
        """Return the true end of every book of the stand-in."""
        return {symbol: book.truth.end() for symbol, book in self.venue.books.items()}

    def assert_right(self, *, quarantined: int = 0) -> None:
        """Assert that no book was ever wrong and LIVE, and that every one ends as the tape does,
        here and in the session.

        So many messages were put aside.
        """
        assert self.wrong_seen == []
        for symbol, truth in self.sides().items():
            assert self.live[symbol], symbol
            assert self._sides[symbol] == truth, symbol
            bids, asks = self.feed.book(symbol)
            assert (dict(bids), dict(asks)) == truth, symbol
        assert self.session.counts["quarantine"] == quarantined

    def of(self, symbol: str, kind: str = "") -> list[Event]:
        """Return the events of one instrument, those of one type where it is named."""
        return [
            event
            for event in self.events
            if event.get("symbol") == symbol and kind in ("", event["type"])
        ]

    def asked(self, kind: CommandKind, symbol: str = "") -> list[float]:
        """Return when the session asked for something."""
        return [
            at
            for at, command in self.commands
            if command.kind is kind and symbol in ("", command.symbol)
        ]

    def story(self, symbol: str) -> list[Event]:
        """Return an instrument's events without what counts the channel as a whole, to compare
        two runs.
        """
        return [
            {key: event[key] for key in event if key not in ("ts_recv_ns", "ts_send_ns")}
            for event in self.of(symbol)
        ]

    def _consume(self, event: Event) -> None:
        symbol = event.get("symbol")
        if event["type"] == "status" and symbol is not None:
            self.live[symbol] = event["state"] == "live"
        elif event["type"] == "gap" and symbol is not None:
            self.live[symbol] = False
        elif event["type"] == "book":
            sides = self._sides.setdefault(symbol, ({}, {}))
            for side, rows in zip(sides, (event["bids"], event["asks"]), strict=True):
                if event["snapshot"]:
                    side.clear()
                for price, quantity in rows:
                    if Decimal(quantity):
                        side[Decimal(price)] = Decimal(quantity)
                    else:
                        side.pop(Decimal(price), None)

    def _carry_out(self, command: Command) -> None:
        self.commands.append((self.now_s, command))
        if command.kind is CommandKind.FETCH_SNAPSHOT:
            self._fetch(command.symbol)
        elif command.kind is CommandKind.RESUBSCRIBE:
            self._resubscribe(command)
        elif command.kind is CommandKind.RECONNECT and command.connection in self.links:
            self.lose(command.connection)
        elif command.kind is CommandKind.SEND and command.connection in self.links:
            self.deliver(command.connection, *self.links[command.connection].hear(command.frame))

    def _fetch(self, symbol: str) -> None:
        assert self.spec.rule.snapshot_request is not None
        if any(symbol == waiting for _, waiting, _ in self._pending):
            return
        request: RestRequest = self.spec.rule.snapshot_request(symbol, 1000)
        answer = self._rest.pop(0) if symbol == self.struck and self._rest else Answer()
        body = None if answer.lost else self.venue.body(request)
        if body is not None and answer.change is not None:
            body = answer.change(body)
        self._pending.append((self.feed.now_ns + int(answer.after_s * NS_PER_S), symbol, body))
        if not answer.after_s:
            self._arrive()

    def _arrive(self) -> None:
        for entry in [entry for entry in self._pending if entry[0] <= self.feed.now_ns]:
            self._pending.remove(entry)
            _, symbol, body = entry
            if body is None:
                self.session.on_snapshot_failed(symbol, self.feed.now_ns)
            else:
                self.session.on_snapshot(symbol, body, self.recv_ns, self.feed.now_ns)
        for back in [back for back in self._reconnects if back[0] <= self.feed.now_ns]:
            self._reconnects.remove(back)
            self._open(back[1])

    def _resubscribe(self, command: Command) -> None:
        link = self.links.get(command.connection)
        if link is None or self.spec.stream.unsubscribe is None:
            return
        channels = [
            c for c in self.venue.tape.channels if self._carries_book(Topic(c, command.symbol))
        ]
        topics = [Topic(channel, command.symbol) for channel in channels]
        self.deliver(
            command.connection, *link.hear(self.spec.stream.unsubscribe(topics, self._request_id))
        )
        for one in self.spec.stream.subscribe([command.symbol], channels, self._request_id + 1):
            for frame in one.frames:
                self.deliver(command.connection, *link.hear(frame))
        self._request_id += 1 + len(channels)

    def _carries_book(self, topic: Topic) -> bool:
        return self.spec.stream.streams[topic.channel].carries is MsgType.BOOK

    def _url(self, route: str) -> str:
        return _URLS.get(self.venue.name, {}).get(route, "wss://venue/")


_URLS: dict[str, dict[str, str]] = {
    "binance": {"ws": "wss://venue/stream"},
    "binance_futures": {"public": "wss://venue/public/stream"},
    "binance_coinm": {"public": "wss://venue/public/stream"},
    "bithumb": {"ws": "wss://venue/websocket/v1"},
    "bybit": {"linear": "wss://venue/v5/public/linear"},
    "deribit": {"ws": "wss://venue/ws/api/v2"},
    "kraken": {"ws": "wss://venue/v2"},
    "okx": {"public": "wss://venue/ws/v5/public"},
    "upbit": {"ws": "wss://venue/websocket/v1"},
}
"""The paths of the venues' endpoints."""
