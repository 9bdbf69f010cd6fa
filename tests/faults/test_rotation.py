"""A connection that is to end is replaced before it does: nothing is lost, nothing comes twice, no book is ever suspect.

Fault table, row 24: the venue's announcement (Binance's serverShutdown, OKX's notice 64008), and the age of a connection, with
the day compressed to a second.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from feeder.live import LiveFeeder
from protocol.codec import walk
from protocol.render import Renderer
from protocol.stamping import Stamper
from tests.support.standin.server import StandInServer
from tests.support.standin.tape import read_book
from tests.support.standin.venue import StandIn
from tests.support.venue_server import eventually

from .test_connections import PATIENCE_S, running

ANNOUNCED = {
    "binance": b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
    "okx": b'{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade."}',
}
"""As the venues document them."""
AGED = ("binance_futures", "binance_coinm", "bybit", "deribit", "upbit")
Event = dict[str, Any]


def heard(feeder: LiveFeeder) -> list[Event]:
    """Return a list that fills with every event that leaves the feeder."""
    events: list[Event] = []
    renderer, publish = Renderer(), feeder.line.publish

    def tee(stamper: Stamper, buffer: bytearray | memoryview, nbytes: int, *, keep: bool) -> int:
        count = publish(stamper, buffer, nbytes, keep=keep)
        events.extend(event for packet in walk(bytes(buffer[:nbytes])) for event in renderer.feed(packet))
        return count

    feeder.line.publish = tee  # type: ignore[method-assign]
    return events


def changes(events: list[Event], symbol: str) -> list[tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]]:
    """Return the updates of a book in the order they were published."""
    found = [
        event for event in events if event["type"] == "book" and event["symbol"] == symbol and "recovered" not in event["flags"]
    ]
    sides = ([[(Decimal(p), Decimal(q)) for p, q in event[side]] for side in ("bids", "asks")] for event in found[1:])
    return [(bids, asks) for bids, asks in sides]


@pytest.mark.parametrize("name", [*ANNOUNCED, *AGED])
async def test_a_connection_is_replaced_before_it_ends_without_loss_or_duplicate(name: str, tmp_path: Path) -> None:
    """The new connection brings everything before the old one goes; consumers see one stream, and never a suspect book."""
    stand_in = StandIn(name, alone=name == "okx")  # its second book is of 2022: without ids nothing tells an update from its copy
    server = StandInServer(stand_in, pace_s=2.8 / min(len(book.book.updates) for book in stand_in.books.values()))
    settings: dict[str, object] = {"feeder__rotation__linger_s": 0.1}
    if name in AGED:
        settings["feeder__rotation__every_s"] = 1
    async with running(tmp_path, {name: server}, settings) as run:
        feeder = run.feeders[name]
        events = heard(feeder)
        await eventually(lambda: feeder.session.live_books() == len(stand_in.books), within_s=PATIENCE_S)
        if name in ANNOUNCED:
            await server.links[0].send(ANNOUNCED[name], text=True)
        await eventually(lambda: len(server.connects_s) >= 2, within_s=PATIENCE_S)
        await run.settle(name)
        await eventually(lambda: len(server.links) == 1, within_s=PATIENCE_S)
        assert feeder.connections.losses == 0
        assert feeder.session.counts["gaps"] == feeder.session.counts["resyncs"] == 0
        await asyncio.sleep(0)
        told = {event["state"] for event in events if event["type"] == "status"}
        assert told <= {"connected", "live"}
        for symbol, book in stand_in.tape.books.items():
            whole = book.start is None and book.body is None
            expected = [read_book(name, update.raw) for update in book.updates[max(book.covered, int(whole)) :]]
            assert changes(events, symbol) == [(message.bids, message.asks) for message in expected], symbol
