"""Connections of a live feeder: a few symbols on each, lost and made anew alone, replaced without a gap, watched for data.

Data frames are those of recordings; the venue is scripted (`tests.support.venue_server`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from feeder import connection, link
from feeder.live import LiveFeeder
from protocol.codec import Packet, decode, walk
from protocol.schema import Flag, MsgType, StatusScope, StatusState
from tests.support.captures import captures
from tests.support.processes import Net
from tests.support.venue_server import Answer, Asked, Link, VenueServer, eventually, feeder_config, feeding, lines

QUICK: dict[str, object] = {"feeder__backoff__base_s": 0.02, "feeder__backoff__cap_s": 0.1}
UPBIT_SYMBOLS = ["KRW-ADA", "KRW-DAWN", "KRW-STX", "KRW-ANKR", "KRW-BAT", "KRW-IQ"]
UPBIT = {**QUICK, "venues__upbit__symbols": UPBIT_SYMBOLS, "venues__upbit__limits__connects": 10_000}
BINANCE_SYMBOLS = ["FTMUSDT", "BADGERBTC", "XMRBTC", "SXPBTC"]
BINANCE = {
    **QUICK,
    "venues__binance__symbols": BINANCE_SYMBOLS,
    "venues__binance__channels": ["depth@100ms", "bookTicker", "aggTrade"],
}
DATA = (MsgType.BOOK, MsgType.BBO, MsgType.TRADE)


@pytest.fixture
def net() -> Net:
    """Groups and a port of this test's own."""
    return Net()


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are looked at twenty times a second."""
    monkeypatch.setattr(connection, "_LOOK_S", 0.05)


def upbit_books() -> dict[str, list[bytes]]:
    """Return recorded order books by market."""
    out: dict[str, list[bytes]] = defaultdict(list)
    for line in lines(captures() / "upbit/cf_20210405_simple.jsonl"):
        if b'"ty":"orderbook"' in line.raw:
            out[json.loads(line.raw)["cd"]].append(line.raw)
    return out


def upbit_codes(message: bytes) -> list[str]:
    """Return the markets that an Upbit subscription names."""
    return next(part["codes"] for part in json.loads(message) if "codes" in part)


async def subscribed(server: VenueServer, to: Link) -> list[bytes]:
    """Return what the client sent on a connection, once it has sent something."""
    await eventually(lambda: server.heard_on.get(to))
    return server.heard_on[to]


class Upbit:
    """Sends each connection the recorded books of the markets it asks for, again and again."""

    def __init__(self) -> None:
        """Read the books."""
        self.books = upbit_books()
        self.server = VenueServer(self.script)
        self.of: dict[str, Link] = {}
        """Market -> the connection that has asked for it last."""

    async def script(self, to: Link) -> None:
        """Serve one connection."""
        (message, *_) = await subscribed(self.server, to)
        codes = upbit_codes(message)
        self.of.update(dict.fromkeys(codes, to))
        for position in range(10_000):
            for code in codes:
                await to.send(self.books[code][position % len(self.books[code])])
            await asyncio.sleep(0.02)


async def test_symbols_are_spread_over_connections(net: Net, tmp_path: Path) -> None:
    """Six markets, two a connection: three sockets, each with its own two in one whole subscription."""
    venue = Upbit()
    settings = {**UPBIT, "feeder__symbols_per_connection": 2}
    async with venue.server.running() as server, feeding("upbit", server, net, tmp_path, **settings) as feeder:
        await eventually(lambda: feeder.session.live_books() == 6)
        assert sorted(code for message in server.heard for code in upbit_codes(message)) == sorted(UPBIT_SYMBOLS)
        assert [len(upbit_codes(message)) for message in server.heard] == [2, 2, 2]
        assert len(server.links) == 3
        assert [one.name for one in feeder.connections.all] == ["ws.1", "ws.2", "ws.3"]
        assert feeder.report()["connections"] == 3


async def test_a_venues_own_number_goes_before_the_common_one(net: Net, tmp_path: Path) -> None:
    """One connection of Upbit for all, whatever others have."""
    venue = Upbit()
    settings = {**UPBIT, "venues__upbit__symbols_per_connection": 6}
    async with venue.server.running() as server, feeding("upbit", server, net, tmp_path, **settings) as feeder:
        await eventually(lambda: feeder.session.live_books() == 6)
        assert len(server.connects_s) == 1


async def test_a_lost_connection_concerns_its_own_symbols_alone(net: Net, tmp_path: Path) -> None:
    """One socket of three is cut: its two books are suspect and come back, the others never were; one reconnect is counted."""
    venue = Upbit()
    settings = {**UPBIT, "feeder__symbols_per_connection": 2}
    async with venue.server.running() as server, feeding("upbit", server, net, tmp_path, **settings) as feeder:
        await eventually(lambda: feeder.session.live_books() == 6)
        packets = captured(feeder)
        victim = venue.of["KRW-STX"]
        spared = [to for to in server.links if to is not victim]
        victim.transport.abort()
        await eventually(lambda: feeder.connections.losses == 1 and feeder.session.live_books() == 6)
        assert server.links[:2] == spared
        suspects = {
            packet.header.instrument_id
            for packet in decoded(packets)
            if packet.header.msg_type == MsgType.STATUS
            and packet.items[0].scope == StatusScope.BOOK  # type: ignore[union-attr]
            and packet.items[0].state == StatusState.SUSPECT  # type: ignore[union-attr]
        }
        struck = {feeder.session.by_symbol[symbol].instrument_id for symbol in ("KRW-STX", "KRW-ANKR")}
        assert suspects == struck
        assert len(server.connects_s) == 4


def captured(feeder: LiveFeeder) -> list[bytes]:
    """Return a list that fills with what the feeder publishes from now on."""
    packets: list[bytes] = []
    publish = feeder.publisher.publish

    def capture(buffer: bytearray | memoryview, nbytes: int) -> None:
        packets.append(bytes(buffer[:nbytes]))
        publish(buffer, nbytes)

    feeder.publisher.publish = capture  # type: ignore[method-assign]
    return packets


def decoded(packets: list[bytes]) -> list[Packet]:
    """Return packets decoded."""
    return [decode(packet) for data in packets for packet in walk(data)]


def events(packets: list[bytes]) -> dict[tuple[int, int], list[tuple[Any, ...]]]:
    """Return the market data per instrument and type: time, whether it is a snapshot, and items."""
    out: dict[tuple[int, int], list[tuple[Any, ...]]] = defaultdict(list)
    for packet in decoded(packets):
        header = packet.header
        if header.msg_type in DATA:
            snapshot = bool(header.flags & Flag.SNAPSHOT)
            out[header.instrument_id, header.msg_type].append((header.ts_exchange_ns, snapshot, packet.items))
    return dict(out)


class Broadcast:
    """A Binance that sends every recorded message to every connection that has subscribed its stream."""

    def __init__(self) -> None:
        """Read the recording."""
        file = captures() / "binance/cf_20210814_spot.jsonl"
        wanted = {f"{s.lower()}@{c}" for s in BINANCE_SYMBOLS for c in ("depth@100ms", "bookTicker", "aggTrade")}
        self.frames = [(stream, line.raw) for line in lines(file) if (stream := json.loads(line.raw)["stream"]) in wanted]
        bodies = {line.url: line.raw for line in lines(file, "http")}
        self.books = {s: next(raw for url, raw in bodies.items() if url and f"symbol={s}&" in url) for s in BINANCE_SYMBOLS}
        self.server = VenueServer(self.script, self.rest)
        self.mute: set[Link] = set()
        self.mute_new = False
        """Whether new connections are acknowledged and nothing more."""
        self.duplicates = 0

    async def script(self, to: Link) -> None:
        """Take a new connection."""
        if self.mute_new:
            self.mute.add(to)

    def rest(self, asked: Asked) -> Answer:
        """Answer an order-book request."""
        return Answer(body=self.books[asked.query["symbol"]]) if asked.path == "/api/v3/depth" else Answer(404)

    async def send(self, stream: str, frame: bytes) -> None:
        """Send one message to those who want it."""
        heard = 0
        for to in tuple(self.server.links):
            if to not in self.mute and any(f'"{stream}"'.encode() in message for message in self.server.heard_on.get(to, [])):
                heard += 1
                with contextlib.suppress(ConnectionClosed):
                    await to.send(frame)
        self.duplicates += heard - 1

    async def play(self, feeder: LiveFeeder, pause_s: float) -> None:
        """Send everything; books are begun before the rest follows."""
        await eventually(lambda: self.server.links and len(self.server.heard) >= len(feeder.connections.all))
        first = {stream: number for number, (stream, _) in reversed(list(enumerate(self.frames))) if "@depth" in stream}
        begun = max(first.values()) + 1
        for stream, frame in self.frames[:begun]:
            await self.send(stream, frame)
        await eventually(lambda: feeder.session.counts["snapshot_apply"] + feeder.session.counts["snapshot_hold"] >= 4)
        for stream, frame in self.frames[begun:]:
            await self.send(stream, frame)
            await asyncio.sleep(pause_s)
        await eventually(lambda: feeder.intake.frames >= len(self.frames))


async def without_replacement(tmp_path: Path) -> dict[tuple[int, int], list[tuple[Any, ...]]]:
    """Return the events of the recording on connections that stay."""
    venue = Broadcast()
    async with venue.server.running() as server, feeding("binance", server, Net(), tmp_path / "plain", **BINANCE) as feeder:
        packets = captured(feeder)
        await venue.play(feeder, 0.0)
        assert feeder.session.live_books() == 4
        await eventually(lambda: sum(map(len, events(packets).values())) >= feeder.publisher.events()["book"] > 100)
        return events(packets)


def suspects(packets: list[bytes]) -> Counter[str]:
    """Return the states told that are not LIVE nor of the beginning."""
    told = [p.items[0] for p in decoded(packets) if p.header.msg_type == MsgType.STATUS]
    return Counter(
        item.state.name
        for item in told
        if item.state in (StatusState.SUSPECT, StatusState.RESYNC, StatusState.DISCONNECTED)  # type: ignore[union-attr]
    )


@pytest.mark.parametrize("cause", ["age", "notice"])
async def test_a_replaced_connection_leaves_no_trace_in_the_data(cause: str, net: Net, tmp_path: Path) -> None:
    """While a recording plays, connections are replaced again and again: the events are those of connections that stay."""
    wanted = await without_replacement(tmp_path)
    venue = Broadcast()
    settings = {**BINANCE, "feeder__rotation__linger_s": 0.1, "feeder__symbols_per_connection": 2}
    if cause == "age":
        settings |= {"feeder__rotation__every_s": 0.4}
    async with venue.server.running() as server, feeding("binance", server, net, tmp_path, **settings) as feeder:
        packets = captured(feeder)

        async def notices() -> None:
            # Documented in Binance's web-socket-streams: announced before the server closes.
            while cause == "notice":
                await asyncio.sleep(0.5)
                for to in tuple(server.links):
                    await to.send('{"e":"serverShutdown","E":1770123456789}')

        announcing = asyncio.create_task(notices())
        await venue.play(feeder, 0.002)
        announcing.cancel()
        await eventually(lambda: feeder.session.counts["rotations"] >= 2)
        await eventually(lambda: len(server.links) == 2)
        got = events(packets)
        assert venue.duplicates > 10
        assert suspects(packets) == {}
        assert feeder.session.counts["gaps"] == feeder.connections.losses == 0
        assert feeder.session.live_books() == 4
        assert set(got) == set(wanted)
        for key, expected in wanted.items():
            assert got[key] == expected, key


async def test_a_useless_successor_is_given_up(net: Net, tmp_path: Path) -> None:
    """The new connection acknowledges and brings nothing: the old one goes on, nothing is lost, and it is counted."""
    wanted = await without_replacement(tmp_path)
    venue = Broadcast()
    settings = {
        **BINANCE,
        "feeder__rotation__linger_s": 0.1,
        "feeder__rotation__patience_s": 0.3,
        "feeder__rotation__every_s": 0.3,
    }
    async with venue.server.running() as server, feeding("binance", server, net, tmp_path, **settings) as feeder:
        packets = captured(feeder)
        playing = asyncio.create_task(venue.play(feeder, 0.002))
        await eventually(lambda: feeder.connections.up == 1)
        venue.mute_new = True
        await eventually(lambda: feeder.session.counts["rotations_abandoned"] == 1)
        await playing
        assert feeder.session.counts["rotations"] == feeder.connections.losses == 0
        assert suspects(packets) == {}
        assert events(packets) == wanted


async def test_a_connection_that_dies_while_it_is_replaced_is_replaced_at_once(net: Net, tmp_path: Path) -> None:
    """The venue closes the old one before the new one is settled: no disconnection is told, no book is given up."""
    venue = Upbit()
    settings = {
        **UPBIT,
        "feeder__symbols_per_connection": 6,
        "feeder__rotation__every_s": 0.3,
        "feeder__rotation__linger_s": 60,
        "feeder__rotation__patience_s": 60,
    }
    async with venue.server.running() as server, feeding("upbit", server, net, tmp_path, **settings) as feeder:
        await eventually(lambda: feeder.session.live_books() == 6)
        packets = captured(feeder)
        await eventually(lambda: len(server.links) == 2 and feeder.connections.all[0]._successor is not None)
        server.links[0].transport.abort()
        await eventually(lambda: feeder.session.counts["rotations"] == 1)
        before = feeder.publisher.events()["book"]
        await eventually(lambda: feeder.publisher.events()["book"] > before + 10)
        assert suspects(packets) == {}
        assert feeder.session.live_books() == 6
        assert feeder.connections.losses == 0


async def test_a_storm_of_closes_of_two_feeders_stays_within_the_hosts_limit(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A venue that closes at once, two feeders with six connections each: together they connect five times a second, no more."""
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
    """The venue said 418 for an hour: a feeder that is started again asks nothing, and feeds from the streams all the same."""
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
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n")
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
    """Binance's retired URL acknowledges and sends nothing: that is an alarm, and the other URL of the route is tried."""
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


async def test_one_silent_topic_is_told_and_asked_for_again_once(net: Net, tmp_path: Path) -> None:
    """Three symbols speak, one does not: a state, a counter, one new subscription, and the connection stays."""
    venue = Broadcast()
    venue.frames = [(stream, frame) for stream, frame in venue.frames if not stream.startswith("xmrbtc")]
    settings = {
        **BINANCE,
        "venues__binance__channels": ["bookTicker"],
        "feeder__first_data__bbo": 0.5,
        "feeder__idle__bbo": 3600,
    }
    async with venue.server.running() as server, feeding("binance", server, net, tmp_path, **settings) as feeder:
        packets = captured(feeder)
        await eventually(lambda: server.heard)
        for stream, frame in venue.frames:
            await venue.send(stream, frame)
        await eventually(lambda: feeder.session.counts["topics_silent"] == 1)
        await eventually(lambda: len(server.heard) == 3)
        assert [b"xmrbtc@bookTicker" in message for message in server.heard[1:]] == [True, True]
        assert [json.loads(message)["method"] for message in server.heard[1:]] == ["UNSUBSCRIBE", "SUBSCRIBE"]
        await asyncio.sleep(0.3)
        assert len(server.heard) == 3
        assert len(server.connects_s) == 1
        told = [p for p in decoded(packets) if p.header.msg_type == MsgType.STATUS]
        (silent,) = [p for p in told if p.items[0].scope == StatusScope.INSTRUMENT]  # type: ignore[union-attr]
        assert silent.header.instrument_id == feeder.session.by_symbol["XMRBTC"].instrument_id
        assert silent.items[0].state == StatusState.STALE  # type: ignore[union-attr]
        assert feeder.report()["unproved_topics"] == 1


async def test_a_bad_certificate_is_refused_and_tried_slowly(net: Net, tmp_path: Path) -> None:
    """A certificate that nobody vouches for: no data are taken from it, verification stays on, the next try comes late."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = f"req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout {key} -out {certificate}".split()
    making = await asyncio.create_subprocess_exec(openssl, *words, stderr=asyncio.subprocess.DEVNULL)
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
            assert feeder.connections.losses == 1  # the base of the backoff is 20 ms: it waits for the cap
            assert not accepted
