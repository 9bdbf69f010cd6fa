"""The live feeder against a venue that misbehaves: garbage, storms, silence, bans. The feed goes
on, and tells what it lost.

Data frames are those of recordings; faults are scripted (`tests.support.venue_server`).
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tapecast.feeder import live, quarantine
from tapecast.feeder.live import LiveFeeder
from tapecast.feeder.venues import venue
from tapecast.feeder.venues.spec import Keepalive
from tapecast.protocol.codec import decode
from tapecast.protocol.net.io import Receiver
from tapecast.protocol.schema import MsgType
from tapecast.runtime.net import rest
from tests.support.captures import captures
from tests.support.processes import Net, free_port, resident_bytes
from tests.support.venue_server import Answer, Asked, Link, VenueServer, eventually, feeding, lines

UPBIT_SYMBOL = "KRW-ADA"
UPBIT = {
    "venues__upbit__symbols": [UPBIT_SYMBOL],
    "feeder__backoff__base_s": 0.02,
    "feeder__backoff__cap_s": 0.1,
    "venues__upbit__limits__connects": 10_000,
}
SYMBOL = "FTMUSDT"
OTHER = "BADGERBTC"
BINANCE = {
    "venues__binance__symbols": [SYMBOL, OTHER],
    "venues__binance__channels": ["depth@100ms", "bookTicker"],
    "feeder__backoff__base_s": 0.02,
}


@pytest.fixture
def net() -> Net:
    """Groups and a port of this test's own."""
    return Net()


def upbit_books(count: int) -> list[bytes]:
    """Return recorded order books of one market, each the whole book."""
    file = captures() / "upbit/cf_20210405_simple.jsonl"
    mark = f'"cd":"{UPBIT_SYMBOL}"'.encode()
    books = [
        line.raw for line in lines(file) if b'"ty":"orderbook"' in line.raw and mark in line.raw
    ]
    assert len(books) >= count
    return books[:count]


class Recorded:
    """Depth updates and the REST book of symbols of one Binance recording."""

    def __init__(self, *symbols: str) -> None:
        """Read them."""
        file = captures() / "binance/cf_20210814_spot.jsonl"
        streams = [f'"{symbol.lower()}@depth'.encode() for symbol in symbols]
        self.updates = [
            line.raw for line in lines(file) if any(stream in line.raw[:60] for stream in streams)
        ]
        bodies = {line.url: line.raw for line in lines(file, "http")}
        self.books = {
            s: next(raw for url, raw in bodies.items() if url and f"symbol={s}&" in url)
            for s in symbols
        }

    def ids(self, update: bytes) -> tuple[str, int, int]:
        """Return symbol, first and last id of an update."""
        data = json.loads(update)["data"]
        return data["s"], data["U"], data["u"]


GARBAGE: tuple[bytes | str, ...] = (
    "",
    "{",
    '{"ty":"orderbook","cd":"KRW-ADA","tms":16176466',
    '{"ty":"orderbook","cd":12,"tms":"x","obu":[{"ap":[],"as":{},"bp":null,"bs":true}]}',
    '{"ty":"orderbook","cd":"KRW-ADA","tms":1617646620849,"obu":{"ap":1}}',
    '{"ty":"trade","cd":"KRW-ADA","tp":"abc","tv":-1,"ab":"MID","st":"REALTIME"}',
    "[" * 100_000,
    "null",
    "\x00\x01\x02",
    bytes(range(256)),
    b"\xff\xfe{}",
    b"\xed\xa0\x80",
)


async def test_garbage_is_quarantined_and_the_next_message_is_handled(
    net: Net, tmp_path: Path
) -> None:
    """Truncated JSON, wrong types, nesting, random bytes, wrong UTF-8: each is counted and kept,
    and costs nothing else.
    """
    books = upbit_books(4)

    async def script(link: Link) -> None:
        await link.send(books[0])
        for position, garbage in enumerate(GARBAGE):
            await link.send(garbage, text=position % 2 == 0)
            if position % 4 == 3:
                await link.send(books[position // 4 + 1])

    async with (
        VenueServer(script).running() as server,
        feeding("upbit", server, net, tmp_path, **UPBIT) as feeder,
    ):
        file = tmp_path / "quarantine" / "upbit.jsonl"
        await eventually(lambda: feeder.publisher.events()["book"] == 4)
        await eventually(
            lambda: file.exists() and len(file.read_bytes().splitlines()) >= len(GARBAGE)
        )
        kept = [json.loads(line) for line in file.read_bytes().splitlines()]
        assert feeder.session.counts["quarantine"] == len(GARBAGE) == len(kept)
        assert all(
            line["reason"] and line["kind"] == "recv" and line["conn"] == "ws.1" for line in kept
        )
        assert [line["length"] for line in kept] == [
            len(g.encode() if isinstance(g, str) else g) for g in GARBAGE
        ]
        assert len(server.connects_s) == 1
        assert feeder.session.live_books() == 1


async def test_much_garbage_asks_for_a_new_connection(net: Net, tmp_path: Path) -> None:
    """A connection that brings nothing but garbage is made anew; the books are suspect meanwhile
    and come back.
    """
    book = upbit_books(1)[0]
    served = 0

    async def script(link: Link) -> None:
        nonlocal served
        served += 1
        await link.send(book)
        if served == 1:
            for _ in range(1000):
                await link.send("{")

    async with (
        VenueServer(script).running() as server,
        feeding("upbit", server, net, tmp_path, **UPBIT) as feeder,
    ):
        await eventually(lambda: served == 2 and feeder.session.live_books() == 1)
        assert 20 <= feeder.session.counts["quarantine"] <= 1000
        assert feeder.report()["reconnects"] == 1


async def test_large_garbage_leaves_no_memory_behind(net: Net, tmp_path: Path) -> None:
    """Frames of 8 MiB that mean nothing: forty more of them need no more memory than the first
    ten, nor much of the disk.
    """
    book = upbit_books(1)[0]
    frame = b'{"ty":"orderbook","cd":"KRW-ADA","obu":[' + bytes(8 << 20)

    async def script(link: Link) -> None:
        for number in range(50):
            await link.send(frame)
            await eventually(lambda: feeder.session.counts["quarantine"] > number)  # noqa: B023 - awaited before the next turn
            if number % 10 == 9:
                await link.send(book)
                resident.append(resident_bytes(os.getpid()))
                await eventually(lambda: not feeder.session.quarantined)

    resident: list[int] = []
    spec = replace(venue("upbit"))
    server = VenueServer(script)
    async with (
        server.running(),
        feeding("upbit", server, net, tmp_path, spec=spec, **UPBIT) as feeder,
    ):
        feeder.session.options = replace(feeder.session.options, quarantine_limit=10_000)
        await eventually(lambda: feeder.publisher.events()["book"] == 5, within_s=30.0)
        assert resident[-1] - resident[0] < 32 << 20
        file = tmp_path / "quarantine" / "upbit.jsonl"
        await eventually(lambda: len(file.read_bytes().splitlines()) == 50)
        assert file.stat().st_size < 50 * 7 * (64 << 10)
        assert len(server.connects_s) == 1


async def test_the_quarantine_file_is_bounded(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Garbage without end fills two files of the limit, not the disk; the newest is kept."""
    monkeypatch.setattr(quarantine, "_LIMIT", 100_000)
    rounds = 0

    async def script(link: Link) -> None:
        nonlocal rounds
        rounds += 1
        for number in range(10):
            await link.send(json.dumps({"round": rounds, "number": number, "filler": "x" * 20_000}))
        await eventually(
            lambda: (
                feeder.session.counts["quarantine"] >= 10 * rounds
                and not feeder.session.quarantined
            )
        )
        await link.close()

    server = VenueServer(script)
    async with server.running(), feeding("upbit", server, net, tmp_path, **UPBIT) as feeder:
        await eventually(
            lambda: feeder.session.counts["quarantine"] >= 40 and not feeder.session.quarantined
        )
        folder = tmp_path / "quarantine"
        sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
        assert set(sizes) == {"upbit.jsonl", "upbit.jsonl.1"}
        assert max(sizes.values()) <= 100_000 + 10 * 21_000
        assert b'\\"round\\": 4' in (folder / "upbit.jsonl").read_bytes()


async def test_a_storm_of_closes_meets_backoff_and_circuit(net: Net, tmp_path: Path) -> None:
    """A venue that closes right after accepting is tried at growing intervals; after so many
    connects the circuit opens.
    """

    async def script(link: Link) -> None:
        await link.close(1013, "try again later")

    settings = {
        **UPBIT,
        "feeder__backoff__base_s": 0.01,
        "feeder__backoff__cap_s": 0.04,
        "feeder__circuit__connects": 50,
        "feeder__circuit__pause_s": 1.0,
    }
    async with (
        VenueServer(script).running() as server,
        feeding("upbit", server, net, tmp_path, **settings),
    ):
        await eventually(lambda: len(server.connects_s) >= 53, within_s=20.0)
        waits = [
            later - earlier
            for earlier, later in zip(server.connects_s, server.connects_s[1:], strict=False)
        ]
        for number, wait in enumerate(waits[:50]):
            assert wait >= 0.5 * min(0.04, 0.01 * 1.7**number), number
        assert all(wait >= 1.0 for wait in waits[50:])


async def test_a_venue_that_never_answers_the_handshake_is_tried_for_ever(
    net: Net, tmp_path: Path
) -> None:
    """Accepting and closing at once, or talking nonsense, ends no feeder: the next try works."""
    book = upbit_books(1)[0]
    tries = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        if tries % 3 == 0:
            writer.write(b"nonsense\r\n\r\n")
        elif tries % 3 == 1:
            await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def script(link: Link) -> None:
        await link.send(book)

    listener = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    server = VenueServer(script)
    async with server.running(), feeding("upbit", server, net, tmp_path, **UPBIT) as healthy:
        await eventually(lambda: healthy.session.live_books() == 1)
        server.ws = f"ws://127.0.0.1:{port}"
        async with feeding("upbit", server, Net(), tmp_path / "second", **UPBIT) as feeder:
            await eventually(lambda: tries >= 9)
            assert feeder.session.live_books() == 0
        assert healthy.session.live_books() == 1
    listener.close()


async def test_a_defect_of_ours_costs_one_message(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception while a message is handled is quarantined with it; connection and books stay."""
    books = upbit_books(3)

    async def script(link: Link) -> None:
        for book in books:
            await link.send(book)

    async with (
        VenueServer(script).running() as server,
        feeding("upbit", server, net, tmp_path, **UPBIT) as feeder,
    ):
        handle = feeder.session.on_frame

        def defective(connection: str, data: bytes, ts_recv_ns: int, now_ns: int) -> None:
            if data == books[1]:
                raise ZeroDivisionError("a defect")
            handle(connection, data, ts_recv_ns, now_ns)

        monkeypatch.setattr(feeder.session, "on_frame", defective)
        await eventually(lambda: feeder.publisher.events()["book"] == 2)
        assert feeder.session.counts["quarantine"] == 1
        assert len(server.connects_s) == 1


@pytest.mark.parametrize("chatter", ["none", "pings", "status", "acknowledgements"])
async def test_a_connection_without_data_is_made_anew(
    chatter: str, net: Net, tmp_path: Path
) -> None:
    """Silence is measured in market data: pings, pongs, statuses and errors do not keep a
    connection.
    """
    book = upbit_books(1)[0]

    async def script(link: Link) -> None:
        if len(server.connects_s) > 1:
            while True:
                await link.send(book)
                await asyncio.sleep(0.2)
        while chatter != "none":
            if chatter == "pings":
                await link.ping()
            elif chatter == "status":
                await link.send('{"status":"UP"}')
            else:
                await link.send('{"error":{"name":"WRONG_FORMAT","message":"Format is not valid"}}')
            await asyncio.sleep(0.05)

    server = VenueServer(script)
    settings = {**UPBIT, "feeder__data_idle_reconnect_s": 1}
    async with server.running(), feeding("upbit", server, net, tmp_path, **settings) as feeder:
        await eventually(lambda: feeder.session.live_books() == 1)
        assert len(server.connects_s) == 2
        assert server.connects_s[1] - server.connects_s[0] >= 1.0
        assert feeder.session.counts["quarantine"] == 0


@pytest.mark.parametrize(("name", "text"), [("okx", b"ping"), ("upbit", b"PING")])
async def test_silence_is_answered_with_the_venues_own_ping(
    name: str, text: bytes, net: Net, tmp_path: Path
) -> None:
    """OKX wants the text `ping`, Upbit `PING`, after half of the agreed time without data, and
    again.
    """
    spec = venue(name)
    keepalive = Keepalive(interval_s=1.0, payload=text)
    spec = replace(spec, stream=replace(spec.stream, keepalive=keepalive))
    assert venue(name).stream.keepalive is not None
    assert venue(name).stream.keepalive.payload == text  # type: ignore[union-attr]
    server = VenueServer()
    async with server.running(), feeding(name, server, net, tmp_path, spec=spec):
        await eventually(lambda: server.heard.count(text) >= 2, within_s=8.0)
        assert b"subscribe" in server.heard[0] or b"ticket" in server.heard[0]


class Venue:
    """A Binance that sends recorded updates of one symbol and answers REST by a list of answers
    for it.
    """

    def __init__(self, recorded: Recorded, *answers: Answer) -> None:
        """Each order-book request for SYMBOL takes the next of `answers`; after them it gets the
        recorded book.
        """
        self.recorded = recorded
        self.answers = list(answers)

    def rest(self, asked: Asked) -> Answer:
        """Answer one request."""
        if asked.path != "/api/v3/depth":
            return Answer(404)
        symbol = asked.query["symbol"]
        if symbol == SYMBOL and self.answers:
            return self.answers.pop(0)
        return Answer(body=self.recorded.books[symbol])

    async def script(self, link: Link) -> None:
        """Send every update, then stay."""
        for update in self.recorded.updates:
            await link.send(update)
            await asyncio.sleep(0)


FAULTS = {
    "429": Answer(429, headers={"Retry-After": "1"}),
    "418": Answer(418, headers={"Retry-After": "1"}),
    "403": Answer(403),
    "500": Answer(500, body=b"<html>internal error</html>"),
    "503": Answer(503),
    "slow": Answer(wait_s=3.0),
    "empty": Answer(body=b""),
    "wrong": Answer(body=b'{"code":-1121,"msg":"Invalid symbol."}'),
    "truncated": Answer(body=b'{"lastUpdateId":800360994,"bids":[["0.33993000","1500.0'),
    "page": Answer(body=b"<html><body>maintenance</body></html>"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_book_survives_a_failing_snapshot(
    fault: str, net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the first answer is, the book comes up in the end, no request leaves inside a
    ban, and the feed runs on.
    """
    monkeypatch.setitem(rest._DEFAULT_PAUSE_S, 403, 1.0)
    recorded = Recorded(SYMBOL, OTHER)
    script = Venue(recorded, FAULTS[fault])
    settings = {**BINANCE, "feeder__snapshot_deadline_s": 1}
    server = VenueServer(script.script, script.rest)
    async with server.running(), feeding("binance", server, net, tmp_path, **settings) as feeder:
        await eventually(lambda: feeder.session.live_books() == 2, within_s=15.0)
        books = [asked for asked in server.asked if asked.path == "/api/v3/depth"]
        failed = next(asked for asked in books if asked.query["symbol"] == SYMBOL)
        later = [asked.at_s for asked in server.asked if asked.at_s > failed.at_s + 0.05]
        if fault in ("429", "418", "403"):
            assert min(later) - failed.at_s >= 1.0
        assert 2 <= sum(asked.query["symbol"] == SYMBOL for asked in books) <= 5
        assert len(server.connects_s) == 1
        assert feeder.session.counts["gaps"] == 0
        assert feeder.session.counts["crossed"] == 0


async def test_a_snapshot_older_than_the_updates_is_asked_for_again(
    net: Net, tmp_path: Path
) -> None:
    """A snapshot from before the first update cannot be joined: nothing of it is published, and
    a later one is awaited.
    """
    recorded = Recorded(SYMBOL)
    first = next(
        first for symbol, first, _ in map(recorded.ids, recorded.updates) if symbol == SYMBOL
    )
    body = json.loads(recorded.books[SYMBOL])
    stale = json.dumps(
        {**body, "lastUpdateId": first - 1000}
    ).encode()  # the recorded book, given an older number
    script = Venue(recorded, Answer(body=stale), Answer(body=stale))
    settings = {**BINANCE, "venues__binance__symbols": [SYMBOL]}
    server = VenueServer(script.script, script.rest)
    async with server.running(), feeding("binance", server, net, tmp_path, **settings) as feeder:
        await eventually(lambda: feeder.session.counts["snapshot_too_old"] == 2)
        assert feeder.publisher.events()["book"] == 0
        await eventually(lambda: feeder.session.live_books() == 1)
        assert feeder.session.counts["snapshot_apply"] == 1
        assert server.count("/api/v3/depth") == 3


async def test_during_a_ban_books_wait_in_one_line(net: Net, tmp_path: Path) -> None:
    """However often the rule asks during a long ban, each book is fetched once when it is over:
    no storm.
    """
    recorded = Recorded(SYMBOL, OTHER)
    ban = Answer(429, headers={"Retry-After": "4"})
    script = Venue(recorded, ban)
    settings = {**BINANCE, "feeder__snapshot_deadline_s": 0.5, "feeder__resync__attempts": 100}
    server = VenueServer(script.script, script.rest)
    async with server.running(), feeding("binance", server, net, tmp_path, **settings) as feeder:
        await eventually(lambda: feeder.session.live_books() == 2, within_s=15.0)
        assert server.count("/api/v3/depth") <= 4


async def test_a_ban_does_not_keep_the_streams_out(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Definitions that cannot be had for an hour delay the feed by seconds: it starts with
    provisional ones.
    """
    monkeypatch.setattr(live, "_LEARN_S", 0.3)
    book = upbit_books(1)[0]

    async def script(link: Link) -> None:
        await link.send(book)

    def banned(_: Asked) -> Answer:
        return Answer(429, headers={"Retry-After": "3600"})

    for name, answers in (("banned", banned), ("slow", lambda _: Answer(wait_s=60.0))):
        server = VenueServer(script, answers)
        async with (
            server.running(),
            feeding("upbit", server, Net(), tmp_path / name, **UPBIT) as feeder,
        ):
            await eventually(lambda: feeder.session.live_books() == 1, within_s=3.0)
            assert len(server.asked) == 1


async def test_definitions_that_come_late_are_published(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A venue that is slow with its definitions is not asked twice, and what it says in the end
    is used.
    """
    monkeypatch.setattr(live, "_LEARN_S", 0.1)
    book = upbit_books(1)[0]
    markets = b'[{"market":"KRW-ADA","korean_name":"\xec\x97\x90\xec\x9d\xb4\xeb\x8b\xa4","english_name":"Ada"}]'

    async def script(link: Link) -> None:
        await link.send(book)

    server = VenueServer(script, lambda _: Answer(body=markets, wait_s=0.6))
    async with server.running(), feeding("upbit", server, net, tmp_path, **UPBIT) as feeder:
        await eventually(lambda: feeder.session.live_books() == 1)
        instrument = feeder.session.by_symbol[UPBIT_SYMBOL]
        await eventually(lambda: instrument.definition is not None)
        assert instrument.definition is not None
        assert instrument.definition.base == "ADA"
        assert len(server.asked) == 1


def beats(net: Net) -> tuple[Receiver, Callable[[], int]]:
    """Return a receiver of Upbit's channel, and a function that returns how many heartbeats have
    come.
    """
    receiver = Receiver([(f"{net.prefix}.{venue('upbit').venue_id}", net.port)], rcvbuf=1 << 20)
    count = 0

    def heard() -> int:
        nonlocal count
        for index in range(receiver.receive(0.0)):
            count += decode(receiver.packet(index)).header.msg_type == MsgType.HEARTBEAT
        return count

    return receiver, heard


async def test_the_feeder_beats_from_its_first_second(net: Net, tmp_path: Path) -> None:
    """While the venue cannot be reached at all, consumers hear heartbeats and the monitor hears
    that nothing is connected.
    """
    server = VenueServer(rest=lambda _: Answer(wait_s=60.0))
    receiver, heard = beats(net)
    text = Receiver([(f"{net.prefix}.250", net.port)], rcvbuf=1 << 20)
    said: list[bytes] = []

    def told() -> bool:
        said.extend(bytes(text.packet(index)) for index in range(text.receive(0.0)))
        return any(line.startswith(b"CONN|upbit|0|") for line in said)

    async with server.running():
        server.ws = f"ws://127.0.0.1:{free_port()}"
        async with feeding("upbit", server, net, tmp_path, **UPBIT):
            await eventually(heard, within_s=2.0)
            await eventually(told, within_s=2.0)
    receiver.close()
    text.close()


async def test_a_feeder_can_be_stopped_at_any_time(net: Net, tmp_path: Path) -> None:
    """Before its definitions have come, while it connects, during a ban: the end takes no longer
    than usual.
    """

    async def stop_after(
        feeder_is: Callable[[LiveFeeder, VenueServer], object], server: VenueServer, folder: Path
    ) -> float:
        async with feeding("binance", server, Net(), folder, **BINANCE) as feeder:
            await eventually(lambda: feeder_is(feeder, server))
            began = time.monotonic()
        return time.monotonic() - began

    hanging = VenueServer(rest=lambda _: Answer(wait_s=60.0))
    async with hanging.running():
        assert await stop_after(lambda _, server: server.asked, hanging, tmp_path / "a") < 1.0
    closed = VenueServer()
    async with closed.running():
        closed.ws = f"ws://127.0.0.1:{free_port()}"
        assert (
            await stop_after(
                lambda feeder, _: feeder.report()["reconnects"], closed, tmp_path / "b"
            )
            < 1.0
        )
    recorded = Recorded(SYMBOL, OTHER)
    script = Venue(recorded, Answer(418))
    banned = VenueServer(script.script, script.rest)
    async with banned.running():
        assert await stop_after(lambda feeder, _: feeder.rest.refused, banned, tmp_path / "c") < 1.0


async def test_a_lost_connection_makes_its_books_suspect(net: Net, tmp_path: Path) -> None:
    """Between a loss and the next book nothing is LIVE; after it the book is, and both are told."""
    book = upbit_books(1)[0]
    allowed = asyncio.Event()

    async def script(link: Link) -> None:
        if len(server.connects_s) > 1:
            await allowed.wait()
        await link.send(book)

    server = VenueServer(script)
    async with server.running(), feeding("upbit", server, net, tmp_path, **UPBIT) as feeder:
        await eventually(lambda: feeder.session.live_books() == 1)
        server.links[0].transport.abort()
        await eventually(lambda: len(server.connects_s) == 2)
        assert feeder.session.live_books() == 0
        allowed.set()
        await eventually(lambda: feeder.session.live_books() == 1)
        assert feeder.report()["reconnects"] == 1
