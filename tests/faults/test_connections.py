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


SILENT = [name for name in TAPES if name != "coinbase"]
"""Coinbase's 2 MB snapshots are read once, above."""


@pytest.mark.parametrize("chatter", ["nothing", "pings", "acknowledgements"])
async def test_a_venue_that_acknowledges_and_sends_no_data_is_connected_to_again(chatter: str, tmp_path: Path) -> None:
    """Ten venues fall silent in the same way at once; each is left after the idle time and not before, and comes back right.

    Acknowledged subscriptions, WebSocket pings and the venue's own answers are no data.
    """

    async def chat(link: Link) -> None:
        with contextlib.suppress(ConnectionClosed):
            while server_of[link].mute:
                if chatter == "pings":
                    await link.ping()
                elif chatter == "acknowledgements":
                    await link.send(ACKNOWLEDGED[server_of[link].venue.name], text=True)
                await asyncio.sleep(0.05)

    server_of: dict[Link, StandInServer] = {}
    tasks: list[asyncio.Task[None]] = []

    def greeter(server: StandInServer) -> Callable[[Link], object]:
        def greet(link: Link) -> None:
            server_of[link] = server
            server.mute = len(server.connects_s) == 1
            tasks.append(asyncio.create_task(chat(link)))

        return greet

    servers = {name: StandInServer(StandIn(name)) for name in SILENT}
    for server in servers.values():
        server.greet = greeter(server)
    async with running(tmp_path, servers, {"feeder__data_idle_reconnect_s": 1}) as run:
        await run.settle(*SILENT)
        for name, server in servers.items():
            assert len(server.connects_s) == 2, name
            assert server.connects_s[1] - server.connects_s[0] >= 1.0, name
            assert run.feeders[name].session.counts["quarantine"] == 0, name
            assert run.feeders[name].session.counts["gaps"] == 0, name
    await asyncio.gather(*tasks)


async def test_a_venue_that_falls_silent_in_the_middle_is_said_to_be_stale_and_left(tmp_path: Path) -> None:
    """First STALE, then a new connection; meanwhile another venue's books stay LIVE and hear nothing."""
    quiet, other = StandInServer(StandIn("bybit")), StandInServer(StandIn("upbit"))
    settings = {"feeder__stale_after_s": 1, "feeder__data_idle_reconnect_s": 3}
    async with running(tmp_path, {"bybit": quiet}, settings) as run, running(tmp_path / "b", {"upbit": other}) as spared:
        await eventually(lambda: run.feeders["bybit"].session.live_books() == 2)
        quiet.mute = True
        await eventually(lambda: run.feeders["bybit"].session.counts["stale"] == 2, within_s=PATIENCE_S)
        assert len(quiet.connects_s) == 1
        quiet.mute = False if quiet.played else quiet.mute
        await eventually(lambda: len(quiet.connects_s) == 2, within_s=PATIENCE_S)
        quiet.mute = False
        await run.settle("bybit")
        await spared.settle("upbit")
        assert len(other.connects_s) == 1
        assert spared.feeders["upbit"].session.counts["stale"] == 0


async def test_a_storm_of_a_thousand_closes_never_breaks_a_venues_limit(tmp_path: Path) -> None:
    """Every venue closes right after accepting, a thousand times, at once: with time compressed, connects keep to the limits.

    A venue's window of connects is a second here, and backoff and circuit are as much shorter as that window is.
    """
    connects: dict[str, list[float]] = {name: [] for name in TAPES}
    async with contextlib.AsyncExitStack() as stack:
        limits: dict[str, int] = {}
        for name in TAPES:
            server = VenueServer()
            await stack.enter_async_context(server.running())
            server.ws = await stack.enter_async_context(closing(connects[name]))
            net, venue = Net(), StandIn(name)
            limits[name] = configuration.load(environ={}, system=tmp_path).venues[name].limits["connects"]  # type: ignore[assignment]
            settings = settings_of(
                venue,
                feeder__backoff__base_s=STORM_S / 1000,
                feeder__backoff__cap_s=STORM_S / 100,
                feeder__circuit__connects=10_000,
                **{f"venues__{name}__limits__connects": STORM_CONNECTS, f"venues__{name}__limits__connects_window_s": STORM_S},
            )
            await stack.enter_async_context(feeding(name, server, net, tmp_path / name, **settings))
        await eventually(lambda: all(len(times) >= 1000 for times in connects.values()), within_s=PATIENCE_S)
    for name, times in connects.items():
        for first, last in zip(times, times[STORM_CONNECTS:], strict=False):
            assert last - first >= STORM_S * 0.98, name
