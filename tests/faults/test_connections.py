"""Connections that are silent, closed again and again, unreachable or not to be trusted: real sockets, every venue's own dialect.

Fault table, rows 20, 21, 23, 25 to 28. One event loop runs the feeders of many venues at once, so a fault at one is also seen
not to reach another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from feeder.live import LiveFeeder
from tests.support.processes import Net
from tests.support.standin.server import StandInServer, settings_of
from tests.support.standin.tape import TAPES
from tests.support.standin.venue import StandIn
from tests.support.venue_server import eventually, feeding

PATIENCE_S = 60.0


class Run:
    """Feeders and their venues, by venue."""

    def __init__(self) -> None:
        self.servers: dict[str, StandInServer] = {}
        self.feeders: dict[str, LiveFeeder] = {}

    def right(self, name: str) -> bool:
        """Return whether the books of a venue's feeder are LIVE and those of the venue."""
        feeder, venue = self.feeders[name], self.servers[name].venue
        if feeder.session.live_books() < len(venue.books):
            return False
        for symbol, book in venue.books.items():
            own = feeder.session.books.book(feeder.session.by_symbol[symbol].instrument_id)
            if own is None:
                return False
            sides = tuple(
                {Decimal(price).scaleb(own.price_exp): Decimal(size).scaleb(own.qty_exp) for price, size in levels}
                for levels in own.levels()
            )
            if sides != book.truth.sides:
                return False
        return True

    async def settle(self, *names: str) -> None:
        """Return once these venues have played everything and their books are right."""
        for name in names:
            await eventually(lambda: self.servers[name].played and self.right(name), within_s=PATIENCE_S, what=f"books of {name}")  # noqa: B023


@contextlib.asynccontextmanager
async def running(
    folder: Path, servers: Mapping[str, StandInServer], settings: Mapping[str, object] | None = None
) -> AsyncIterator[Run]:
    """Run every server and its feeder for the length of the block."""
    run, net = Run(), Net()
    async with contextlib.AsyncExitStack() as stack:
        for name, server in servers.items():
            run.servers[name] = await stack.enter_async_context(server.running())
            given = settings_of(server.venue, **(settings or {}))
            run.feeders[name] = await stack.enter_async_context(feeding(name, server, net, folder / name, **given))
        yield run


async def test_every_venue_is_read_right_over_its_own_sockets(tmp_path: Path) -> None:
    """No fault: what the other tests here start from. Eleven venues, and each book ends as the venue's."""
    async with running(tmp_path, {name: StandInServer(StandIn(name)) for name in TAPES}) as run:
        await run.settle(*TAPES)
        for name, feeder in run.feeders.items():
            assert feeder.session.counts["gaps"] == 0, name
            assert feeder.session.counts["quarantine"] == 0, name
            assert feeder.report()["reconnects"] == 0, name
