"""Connections of a live feeder that are replaced while a recording plays: the data show no trace
of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tapecast.feeder.connections import connection
from tests.support.processes import Net
from tests.support.scripted_venues import (
    BINANCE,
    UPBIT,
    Broadcast,
    Upbit,
    captured,
    events,
    size,
    suspects,
)
from tests.support.venue_server import eventually, feeding


@pytest.fixture
def net() -> Net:
    """Groups and a port of this test's own."""
    return Net()


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are looked at twenty times a second."""
    monkeypatch.setattr(connection, "_LOOK_S", 0.05)


async def without_replacement(tmp_path: Path) -> dict[tuple[int, int], list[tuple[Any, ...]]]:
    """Return the events of the recording on connections that stay."""
    venue = Broadcast()
    async with (
        venue.server.running() as server,
        feeding("binance", server, Net(), tmp_path / "plain", **BINANCE) as feeder,
    ):
        packets = captured(feeder)
        await venue.play(feeder, 0.0)
        await eventually(lambda: feeder.frame_handler.frames == len(venue.frames))
        feeder.frame_handler.flush()
        assert feeder.session.live_books() == 4
        return events(packets)


@pytest.mark.parametrize("cause", ["age", "notice"])
async def test_a_replaced_connection_leaves_no_trace_in_the_data(
    cause: str, net: Net, tmp_path: Path
) -> None:
    """While a recording plays, connections are replaced again and again: the events are those of
    connections that stay.
    """
    wanted = await without_replacement(tmp_path)
    venue = Broadcast()
    settings = {**BINANCE, "feeder__rotation__linger_s": 0.1, "feeder__symbols_per_connection": 2}
    if cause == "age":
        settings |= {"feeder__rotation__every_s": 0.4}
    async with (
        venue.server.running() as server,
        feeding("binance", server, net, tmp_path, **settings) as feeder,
    ):
        packets = captured(feeder)

        async def notices() -> None:
            # Documented in Binance's web-socket-streams: announced before the server closes.
            while cause == "notice":
                await asyncio.sleep(0.5)
                for to in tuple(server.links):
                    with contextlib.suppress(ConnectionClosed):
                        await to.send('{"e":"serverShutdown","E":1770123456789}')

        announcing = asyncio.create_task(notices())
        await venue.play(feeder, 0.002)
        announcing.cancel()
        assert feeder.session.counts["rotations"] >= 1
        await eventually(lambda: size(events(packets)) >= size(wanted))
        got = events(packets)
        assert venue.duplicates > 10
        assert suspects(packets) == {}
        assert feeder.session.counts["gaps"] == feeder.connections.losses == 0
        assert feeder.session.live_books() == 4
        assert set(got) == set(wanted)
        for key, expected in wanted.items():
            assert got[key] == expected, key


async def test_a_useless_successor_is_given_up(net: Net, tmp_path: Path) -> None:
    """The new connection acknowledges and brings nothing: the old one goes on, nothing is lost,
    and it is counted.
    """
    wanted = await without_replacement(tmp_path)
    venue = Broadcast()
    settings = {
        **BINANCE,
        "feeder__rotation__linger_s": 0.1,
        "feeder__rotation__patience_s": 0.3,
        "feeder__rotation__every_s": 0.3,
    }
    async with (
        venue.server.running() as server,
        feeding("binance", server, net, tmp_path, **settings) as feeder,
    ):
        packets = captured(feeder)
        playing = asyncio.create_task(venue.play(feeder, 0.002))
        await eventually(lambda: feeder.connections.up == 1)
        venue.mute_new = True
        await eventually(lambda: feeder.session.counts["rotations_abandoned"] == 1)
        await playing
        await eventually(lambda: size(events(packets)) >= size(wanted))
        assert feeder.session.counts["rotations"] == feeder.connections.losses == 0
        assert suspects(packets) == {}
        assert events(packets) == wanted


async def test_a_connection_that_dies_while_it_is_replaced_is_replaced_at_once(
    net: Net, tmp_path: Path
) -> None:
    """The venue closes the old one before the new one has every book: no disconnection is told,
    no book is given up.
    """
    venue = Upbit()
    venue.first_only = {"KRW-IQ"}
    settings = {
        **UPBIT,
        "feeder__symbols_per_connection": 6,
        "feeder__rotation__every_s": 0.3,
        "feeder__rotation__linger_s": 0.1,
        "feeder__rotation__patience_s": 60,
    }
    async with (
        venue.server.running() as server,
        feeding("upbit", server, net, tmp_path, **settings) as feeder,
    ):
        await eventually(lambda: feeder.session.live_books() == 6)
        packets = captured(feeder)
        await eventually(lambda: feeder.connections.all[0].succession)
        server.links[0].transport.abort()
        await eventually(lambda: feeder.session.counts["rotations"] == 1)
        before = feeder.publisher.events()["book"]
        await eventually(lambda: feeder.publisher.events()["book"] > before + 10)
        assert suspects(packets) == {}
        assert feeder.session.live_books() == 6
        assert feeder.connections.losses == 0
