"""A connection that is to end is replaced before it does: nothing is lost, nothing comes twice,
no book is ever suspect.

Fault table, row 24: the venue's announcement (Binance's serverShutdown, OKX's notice 64008), and
the age of a connection, with the day compressed to a second.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from tapecast.feeder.live import LiveFeeder
from tapecast.protocol.authentication import Sealer
from tapecast.protocol.codec import walk
from tapecast.protocol.render import Renderer
from tapecast.protocol.stamping import Stamper
from tests.support.standin.server import StandInServer
from tests.support.standin.tape import read_book
from tests.support.standin.venue import StandIn
from tests.support.venue_server import eventually

from .test_connections import PATIENCE_S, running

ANNOUNCED = {
    "binance": b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
    "okx": (
        b'{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service'
        b' upgrade."}'
    ),
}
"""As the venues document them."""
AGED = ("binance_futures", "binance_coinm", "bybit", "deribit", "upbit")
Event = dict[str, Any]


def heard(feeder: LiveFeeder, events: list[Event]) -> None:
    """Let a list fill with every event that leaves the feeder."""
    renderer, publish = Renderer(), feeder.line.publish

    def tee(
        stamper: Stamper,
        buffer: bytearray | memoryview,
        nbytes: int,
        *,
        keep: bool,
        sealer: Sealer | None = None,
    ) -> int:
        count = publish(stamper, buffer, nbytes, keep=keep, sealer=sealer)
        events.extend(
            event for packet in walk(bytes(buffer[:nbytes])) for event in renderer.feed(packet)
        )
        return count

    feeder.line.publish = tee  # type: ignore[method-assign]


def changes(
    events: list[Event], symbol: str
) -> list[tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]]:
    """Return the messages of a book in the order they were published, without the first, which
    may be the whole book.
    """
    books = [event for event in events if event["type"] == "book" and event["symbol"] == symbol]
    found = [event for event in books if "recovered" not in event["flags"]]
    sides = (
        [[(Decimal(p), Decimal(q)) for p, q in event[side]] for side in ("bids", "asks")]
        for event in found[1:]
    )
    return [(bids, asks) for bids, asks in sides]


async def test_a_connection_is_replaced_before_it_ends_without_loss_or_duplicate(
    tmp_path: Path,
) -> None:
    """The new connection brings everything before the old one goes; consumers see one stream,
    and never a suspect book.

    Seven venues at once: two announce it, of five the connections are old.
    """
    servers = {name: rotating(name) for name in (*ANNOUNCED, *AGED)}
    quick: dict[str, object] = {
        "feeder__rotation__linger_s": 0.1,
        "feeder__rotation__patience_s": 2,
    }
    aged = {name: servers[name] for name in AGED}
    announced = {name: servers[name] for name in ANNOUNCED}
    events: dict[str, list[Event]] = {name: [] for name in servers}

    def listen(name: str, feeder: LiveFeeder) -> None:
        heard(feeder, events[name])

    async with (
        running(tmp_path / "aged", aged, quick | {"feeder__rotation__every_s": 1}, listen) as old,
        running(tmp_path / "announced", announced, quick, listen) as told,
    ):
        feeders = old.feeders | told.feeders
        for name in ANNOUNCED:
            books = len(servers[name].venue.books)
            await eventually(
                lambda: feeders[name].session.live_books() == books,  # noqa: B023 - awaited here
                within_s=PATIENCE_S,
            )
            await servers[name].links[0].send(ANNOUNCED[name], text=True)
        await old.settle(*AGED)
        await told.settle(*ANNOUNCED)
        for name, server in servers.items():
            await eventually(
                lambda: len(server.connects_s) >= 2 and len(server.links) == 1,  # noqa: B023
                within_s=PATIENCE_S,
            )
            counts = feeders[name].session.counts
            assert feeders[name].connections.losses == counts["gaps"] == counts["resyncs"] == 0, (
                name
            )
            assert {event["state"] for event in events[name] if event["type"] == "status"} <= {
                "connected",
                "live",
            }, name
            for symbol, book in server.venue.tape.books.items():
                whole = book.start is None and book.body is None
                expected = [
                    read_book(name, update.raw)
                    for update in book.updates[max(book.covered, int(whole)) :]
                ]
                assert changes(events[name], symbol) == [
                    (message.bids, message.asks) for message in expected
                ], symbol


def rotating(name: str) -> StandInServer:
    """Return a venue whose tape takes three seconds."""
    stand_in = StandIn(
        name, alone=name == "okx"
    )  # its second book is of 2022: without ids nothing tells an update from its copy
    return StandInServer(
        stand_in, pace_s=2.8 / min(len(book.book.updates) for book in stand_in.books.values())
    )
