"""Connections of a live feeder: a few symbols on each, lost and made anew alone, within the
host's limits, watched for data.

Data frames are those of recordings; the venue is scripted (`tests.support.venue_server`).
"""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import serve

from tapecast.feeder.connections import connection, link
from tapecast.feeder.live import LiveFeeder
from tapecast.protocol.schema import MsgType, StatusScope, StatusState
from tests.support.captures import captures
from tests.support.processes import Net
from tests.support.scripted_venues import (
    BINANCE,
    QUICK,
    UPBIT,
    UPBIT_SYMBOLS,
    Broadcast,
    Upbit,
    captured,
    decoded,
    subscribed,
    upbit_codes,
)
from tests.support.venue_server import (
    Answer,
    Link,
    VenueServer,
    eventually,
    feeder_config,
    feeding,
    lines,
)


@pytest.fixture
def net() -> Net:
    """Groups and a port of this test's own."""
    return Net()


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are looked at twenty times a second."""
    monkeypatch.setattr(connection, "_LOOK_S", 0.05)


async def test_symbols_are_spread_over_connections(net: Net, tmp_path: Path) -> None:
    """Six markets, two a connection: three sockets, each with its own two in one whole
    subscription.
    """
    venue = Upbit()
    settings = {**UPBIT, "feeder__symbols_per_connection": 2}
    async with (
        venue.server.running() as server,
        feeding("upbit", server, net, tmp_path, **settings) as feeder,
    ):
        await eventually(lambda: feeder.session.live_books() == 6)
        assert sorted(code for message in server.heard for code in upbit_codes(message)) == sorted(
            UPBIT_SYMBOLS
        )
        assert [len(upbit_codes(message)) for message in server.heard] == [2, 2, 2]
        assert len(server.links) == 3
        assert [one.name for one in feeder.connections.all] == ["ws.1", "ws.2", "ws.3"]
        assert feeder.report()["connections"] == 3


async def test_a_venues_own_number_goes_before_the_common_one(net: Net, tmp_path: Path) -> None:
    """One connection of Upbit for all, whatever others have."""
    venue = Upbit()
    settings = {**UPBIT, "venues__upbit__symbols_per_connection": 6}
    async with (
        venue.server.running() as server,
        feeding("upbit", server, net, tmp_path, **settings) as feeder,
    ):
        await eventually(lambda: feeder.session.live_books() == 6)
        assert len(server.connects_s) == 1


async def test_a_lost_connection_concerns_its_own_symbols_alone(net: Net, tmp_path: Path) -> None:
    """One socket of three is cut: its two books are suspect and come back, the others never
    were; one reconnect is counted.
    """
    venue = Upbit()
    settings = {**UPBIT, "feeder__symbols_per_connection": 2}
    async with (
        venue.server.running() as server,
        feeding("upbit", server, net, tmp_path, **settings) as feeder,
    ):
        await eventually(lambda: feeder.session.live_books() == 6)
        packets = captured(feeder)
        victim = venue.of["KRW-STX"]
        spared = [to for to in server.links if to is not victim]
        victim.transport.abort()
        await eventually(
            lambda: feeder.connections.losses == 1 and feeder.session.live_books() == 6
        )
        assert server.links[:2] == spared
        suspects = {
            packet.header.instrument_id
            for packet in decoded(packets)
            if packet.header.msg_type == MsgType.STATUS
            and packet.items[0].scope == StatusScope.BOOK  # type: ignore[union-attr]
            and packet.items[0].state == StatusState.SUSPECT  # type: ignore[union-attr]
        }
        struck = {
            feeder.session.by_symbol[symbol].instrument_id for symbol in ("KRW-STX", "KRW-ANKR")
        }
        assert suspects == struck
        assert len(server.connects_s) == 4


async def test_a_storm_of_closes_of_two_feeders_stays_within_the_hosts_limit(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A venue that closes at once, two feeders with six connections each: together they connect
    five times a second, no more.
    """
    tries: list[float] = []
    original = link.connect

    async def noting(*args: Any) -> Any:
        tries.append(time.monotonic())
        return await original(*args)

    async def script(to: Link) -> None:
        await to.close(1013, "try again later")

    monkeypatch.setattr(link, "connect", noting)
    settings = {
        **UPBIT,
        "venues__upbit__limits__connects": 5,
        "feeder__symbols_per_connection": 1,
        "feeder__backoff__base_s": 0.001,
        "feeder__backoff__cap_s": 0.01,
        "feeder__circuit__connects": 10_000,
    }
    async with VenueServer(script).running() as server:
        first = feeding("upbit", server, net, tmp_path, **settings)
        second = feeding("upbit", server, Net(), tmp_path, **settings)
        async with first, second:
            await eventually(lambda: len(tries) >= 18, within_s=20.0)
    for position, at in enumerate(tries):
        assert sum(at <= other < at + 0.8 for other in tries[position:]) <= 5


async def test_a_ban_is_known_after_a_restart(net: Net, tmp_path: Path) -> None:
    """The venue said 418 for an hour: a feeder that is started again asks nothing, and feeds
    from the streams all the same.
    """
    venue = Upbit()
    venue.server._rest = lambda _: Answer(418, headers={"Retry-After": "3600"})
    async with venue.server.running() as server:
        async with feeding("upbit", server, net, tmp_path, **UPBIT) as feeder:
            await eventually(lambda: feeder.session.live_books() == 6, within_s=15.0)
        assert len(server.asked) == 1
        feeder = LiveFeeder(feeder._spec, feeder_config("upbit", server, Net(), tmp_path, **UPBIT))
        assert feeder._limiter.banned_s("rest") == 0.0  # nothing read yet
        assert (feeder._limiter.take("rest") or 0) > 3000e9
        feeder._limiter.close()


async def test_a_refused_handshake_is_a_ban_for_every_connection(net: Net, tmp_path: Path) -> None:
    """429 to one of six connections: none tries again before the time the venue named."""
    tries: list[float] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(time.monotonic())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(refuse, "127.0.0.1", 0)
    server = VenueServer()
    settings = {**UPBIT, "feeder__symbols_per_connection": 1, "venues__upbit__limits__connects": 1}
    async with server.running():
        server.ws = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with feeding("upbit", server, net, tmp_path, **settings):
            await eventually(lambda: len(tries) >= 2, within_s=15.0)
    listener.close()
    assert tries[1] - tries[0] >= 1.9


async def test_acknowledged_and_silent_the_next_url_is_tried(net: Net, tmp_path: Path) -> None:
    """Binance's retired URL acknowledges and sends nothing: that is an alarm, and the other URL
    of the route is tried.
    """
    file = captures() / "binance_futures/cf_20210722_usdm.jsonl"
    trades = [line.raw for line in lines(file) if b"sushiusdt@aggTrade" in line.raw[:60]]
    paths: list[str] = []

    async def script(to: Link) -> None:
        assert to.request is not None
        paths.append(to.request.path)
        await subscribed(server, to)
        await to.send('{"result":null,"id":1}')
        if to.request.path == "/new":
            for trade in trades * 100:
                await to.send(trade)
                await asyncio.sleep(0.05)

    server = VenueServer(script)
    async with server.running():
        settings = {
            **QUICK,
            "venues__binance_futures__symbols": ["SUSHIUSDT"],
            "venues__binance_futures__channels": ["aggTrade"],
            "venues__binance_futures__alternates__market": [f"{server.ws}/new"],
            "feeder__first_data__trade": 0.3,
        }
        async with feeding("binance_futures", server, net, tmp_path, **settings) as feeder:
            await eventually(lambda: feeder.publisher.events()["trade"] > 5)
            assert paths == ["/", "/new"]
            assert feeder.session.counts["topics_unproven"] == 1
            assert feeder.connections.losses == 1
            assert feeder.connections.unproved == 0


async def test_requests_leave_at_the_venues_pace(net: Net, tmp_path: Path) -> None:
    """Twenty-five topics are three requests, and two messages in half a second are the limit, of
    which pongs have one.
    """
    times: list[float] = []

    async def script(_: Link) -> None:
        while len(times) < 3:
            times.extend([time.monotonic()] * (len(server.heard) - len(times)))
            await asyncio.sleep(0.005)

    server = VenueServer(script)
    settings = {
        **QUICK,
        "venues__bybit__symbols": ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT"],
        "venues__bybit__limits__messages": 2,
        "venues__bybit__limits__messages_window_s": 0.5,
    }
    async with server.running(), feeding("bybit", server, net, tmp_path, **settings):
        await eventually(lambda: len(times) == 3)
        asked = [topic for message in server.heard for topic in json.loads(message)["args"]]
        assert len(asked) == len(set(asked)) == 25
        assert times[2] - times[0] >= 0.9
        assert len(server.connects_s) == 1


async def test_one_silent_topic_is_told_and_asked_for_again_once(net: Net, tmp_path: Path) -> None:
    """Three symbols speak, one does not: a state, a counter, one new subscription, and the
    connection stays.
    """
    venue = Broadcast()
    venue.frames = [
        (stream, frame) for stream, frame in venue.frames if not stream.startswith("xmrbtc")
    ]
    settings = {
        **BINANCE,
        "venues__binance__channels": ["bookTicker"],
        "feeder__first_data__bbo": 0.5,
        "feeder__idle__bbo": 3600,
    }
    async with (
        venue.server.running() as server,
        feeding("binance", server, net, tmp_path, **settings) as feeder,
    ):
        packets = captured(feeder)
        await eventually(lambda: server.heard)
        for stream, frame in venue.frames:
            await venue.send(stream, frame)
        await eventually(lambda: feeder.session.counts["topics_silent"] == 1)
        await eventually(lambda: len(server.heard) == 3)
        assert [b"xmrbtc@bookTicker" in message for message in server.heard[1:]] == [True, True]
        assert [json.loads(message)["method"] for message in server.heard[1:]] == [
            "UNSUBSCRIBE",
            "SUBSCRIBE",
        ]
        await asyncio.sleep(0.3)
        assert len(server.heard) == 3
        assert len(server.connects_s) == 1
        told = [p for p in decoded(packets) if p.header.msg_type == MsgType.STATUS]
        # type: ignore[union-attr]
        (silent,) = [p for p in told if p.items[0].scope == StatusScope.INSTRUMENT]
        assert silent.header.instrument_id == feeder.session.by_symbol["XMRBTC"].instrument_id
        assert silent.items[0].state == StatusState.STALE  # type: ignore[union-attr]
        assert feeder.report()["unproved_topics"] == 1


async def test_a_bad_certificate_is_refused_and_tried_slowly(net: Net, tmp_path: Path) -> None:
    """A certificate that nobody vouches for: no data are taken from it, verification stays on,
    the next try comes late.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = (
        f"req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout {key} -out"
        f" {certificate}".split()
    )
    making = await asyncio.create_subprocess_exec(
        openssl, *words, stderr=asyncio.subprocess.DEVNULL
    )
    assert await making.wait() == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    accepted: list[Link] = []

    async def handler(to: Link) -> None:
        accepted.append(to)

    server = VenueServer()
    settings = {**UPBIT, "venues__upbit__symbols": ["KRW-ADA"], "feeder__backoff__cap_s": 30}
    async with server.running(), serve(handler, "127.0.0.1", 0, ssl=context) as tls:
        server.ws = f"wss://localhost:{next(iter(tls.sockets)).getsockname()[1]}"
        async with feeding("upbit", server, net, tmp_path, **settings) as feeder:
            await eventually(lambda: feeder.connections.losses == 1)
            await asyncio.sleep(0.5)
            assert (
                feeder.connections.losses == 1
            )  # the base of the backoff is 20 ms: it waits for the cap
            assert not accepted
