"""Venues that play recorded frames to whoever subscribes them, and what their feeder published:
for tests of connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, defaultdict
from typing import Any

from websockets.exceptions import ConnectionClosed

from tapecast.feeder.live import LiveFeeder
from tapecast.protocol.codec import Packet, decode, walk
from tapecast.protocol.schema import Flag, MsgType, StatusState
from tests.support.captures import captures
from tests.support.venue_server import Answer, Asked, Link, VenueServer, eventually, lines

__all__ = [
    "BINANCE",
    "QUICK",
    "UPBIT",
    "UPBIT_SYMBOLS",
    "Broadcast",
    "Upbit",
    "captured",
    "decoded",
    "events",
    "size",
    "subscribed",
    "suspects",
    "upbit_books",
    "upbit_codes",
]

QUICK: dict[str, object] = {"feeder__backoff__base_s": 0.02, "feeder__backoff__cap_s": 0.1}
UPBIT_SYMBOLS = ["KRW-ADA", "KRW-DAWN", "KRW-STX", "KRW-ANKR", "KRW-BAT", "KRW-IQ"]
UPBIT = {
    **QUICK,
    "venues__upbit__symbols": UPBIT_SYMBOLS,
    "venues__upbit__limits__connects": 10_000,
}
BINANCE_SYMBOLS = ["FTMUSDT", "BADGERBTC", "XMRBTC", "SXPBTC"]
BINANCE = {
    **QUICK,
    "venues__binance__symbols": BINANCE_SYMBOLS,
    "venues__binance__channels": ["depth@100ms", "bookTicker", "aggTrade"],
}
DATA = (MsgType.BOOK, MsgType.BBO, MsgType.TRADE)


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
        self.first_only: set[str] = set()
        """Markets that only the first connection gets: for the others they are quiet."""

    async def script(self, to: Link) -> None:
        """Serve one connection."""
        (message, *_) = await subscribed(self.server, to)
        codes = upbit_codes(message)
        self.of.update(dict.fromkeys(codes, to))
        if len(self.server.connects_s) > 1:
            codes = [code for code in codes if code not in self.first_only]
        for position in range(10_000):
            for code in codes:
                await to.send(self.books[code][position % len(self.books[code])])
            await asyncio.sleep(0.02)


class Broadcast:
    """A Binance that sends every recorded message to every connection that has subscribed its
    stream.
    """

    def __init__(self) -> None:
        """Read the recording."""
        file = captures() / "binance/cf_20210814_spot.jsonl"
        wanted = {
            f"{s.lower()}@{c}"
            for s in BINANCE_SYMBOLS
            for c in ("depth@100ms", "bookTicker", "aggTrade")
        }
        self.frames = [
            (stream, line.raw)
            for line in lines(file)
            if (stream := json.loads(line.raw)["stream"]) in wanted
        ]
        bodies = {line.url: line.raw for line in lines(file, "http")}
        self.books = {
            s: next(raw for url, raw in bodies.items() if url and f"symbol={s}&" in url)
            for s in BINANCE_SYMBOLS
        }
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
        return (
            Answer(body=self.books[asked.query["symbol"]])
            if asked.path == "/api/v3/depth"
            else Answer(404)
        )

    async def send(self, stream: str, frame: bytes) -> None:
        """Send one message to those who want it."""
        heard = 0
        for to in tuple(self.server.links):
            if to not in self.mute and any(
                f'"{stream}"'.encode() in message for message in self.server.heard_on.get(to, [])
            ):
                heard += 1
                with contextlib.suppress(ConnectionClosed):
                    await to.send(frame)
        self.duplicates += heard - 1

    async def play(self, feeder: LiveFeeder, pause_s: float) -> None:
        """Send everything; books are begun before the rest follows."""
        await eventually(
            lambda: self.server.links and len(self.server.heard) >= len(feeder.connections.all)
        )
        first = {
            stream: number
            for number, (stream, _) in reversed(list(enumerate(self.frames)))
            if "@depth" in stream
        }
        begun = max(first.values()) + 1
        for stream, frame in self.frames[:begun]:
            await self.send(stream, frame)
        await eventually(
            lambda: (
                feeder.session.counts["snapshot_apply"] + feeder.session.counts["snapshot_hold"]
                >= 4
            )
        )
        for stream, frame in self.frames[begun:]:
            await self.send(stream, frame)
            await asyncio.sleep(pause_s)


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
            out[header.instrument_id, header.msg_type].append(
                (header.ts_exchange_ns, snapshot, packet.items)
            )
    return dict(out)


def size(found: dict[tuple[int, int], list[tuple[Any, ...]]]) -> int:
    """Return how many events there are."""
    return sum(map(len, found.values()))


def suspects(packets: list[bytes]) -> Counter[str]:
    """Return the states told that are not LIVE nor of the beginning."""
    told = [p.items[0] for p in decoded(packets) if p.header.msg_type == MsgType.STATUS]
    return Counter(
        item.state.name
        for item in told
        # type: ignore[union-attr]
        if item.state in (StatusState.SUSPECT, StatusState.RESYNC, StatusState.DISCONNECTED)
    )
