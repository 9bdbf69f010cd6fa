"""The recovery service over TCP on loopback: crowds, junk, clients that do not read or die, and
a real feeder behind it.

What is answered is `test_recovery.py`'s; here it is that the sockets bring it, and that nobody
can stop the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from tapecast.protocol.codec import decode
from tapecast.protocol.net.io import Receiver
from tapecast.protocol.publish.recovery import service as recovery_service
from tapecast.protocol.publish.recovery.service import RecoveryService
from tapecast.protocol.publish.recovery.types import Limits
from tapecast.protocol.records import HeartbeatItem, RequestItem
from tapecast.protocol.schema import MsgType, ReplyStatus, RequestKind
from tests.feeder.test_live import UPBIT, upbit_books
from tests.support.processes import Net, free_port
from tests.support.recovery_bench import (
    DEFINITIONS,
    LIMITS,
    SECOND,
    SNAPSHOT,
    Channel,
    a_range,
    limits,
)
from tests.support.recovery_client import RecoveryClient, request
from tests.support.venue_server import Link, VenueServer, eventually, feeding

pytestmark = pytest.mark.filterwarnings(
    "ignore:Overriding the .event_loop_policy:DeprecationWarning"
)


@pytest.fixture(scope="module")
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """The feeder's loop: its transports are not asyncio's."""
    return uvloop.EventLoopPolicy()


@contextlib.asynccontextmanager
async def serving(
    channel: Channel, allowed: Limits = LIMITS, port: int = 0
) -> AsyncIterator[RecoveryService]:
    """Serve a channel for the length of the block."""
    service = RecoveryService(channel, allowed, "binance", port=port)
    await service.start()
    try:
        yield service
    finally:
        await service.close()
        await eventually(lambda: not service.server.clients)


def filled(packets: int = 512, items: int = 80) -> Channel:
    """Return a channel that has published."""
    channel = Channel(5)
    channel.items = 160
    channel.publish(packets, items)
    return channel


async def served(service: RecoveryService, channel: Channel) -> None:
    """Assert that a new client gets what it asks for."""
    async with RecoveryClient(service.port) as client:
        answer = await client.ask(a_range(3, 2))
        assert answer.packets == [channel.sent[3], channel.sent[4]]


async def test_every_kind_of_answer_comes_over_a_socket() -> None:
    """On one connection, one after the other and all at once."""
    channel = filled()
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    async with serving(channel) as service, RecoveryClient(service.port) as client:
        answer = await client.ask(a_range(1, 512), session=9)
        assert answer.packets == list(channel.sent.values())
        assert len((await client.ask(SNAPSHOT)).packets) == 15
        assert len((await client.ask(DEFINITIONS)).packets) == 5
        for number in range(300):
            client.send(request(a_range(1 + number, 1, number)))
        for number in range(300):
            answer = await client.answer()
            assert answer.packets == [channel.sent[1 + number]]
            assert answer.reply.request_id == number
        assert service.report()["requests"] == 303
        assert service.report()["clients"] == 1


@pytest.mark.parametrize("clients", [200])
async def test_two_hundred_clients_at_once(clients: int) -> None:
    """Each gets its own answers, whole and in order."""
    channel = filled()
    async with serving(channel, limits(clients=clients)) as service:

        async def one(number: int) -> None:
            async with RecoveryClient(service.port) as client:
                first = await client.ask(a_range(1 + number, 64, number))
                assert first.packets == [
                    channel.sent[seq] for seq in range(1 + number, 65 + number)
                ]
                assert len((await client.ask(SNAPSHOT)).packets) == 15

        await asyncio.gather(*(one(number) for number in range(clients)))
        assert service.report()["connected"] == clients
        assert len(channel.read) < clients * 5


async def test_one_client_too_many_is_told_and_closed() -> None:
    """And when another has gone, it is welcome."""
    channel = filled()
    async with serving(channel, limits(clients=1)) as service:
        async with RecoveryClient(service.port) as first:
            await first.ask(a_range(1, 1))
            async with RecoveryClient(service.port) as second:
                assert (await second.answer()).reply.status == ReplyStatus.BUSY
                assert await second.ended() == b""
        await eventually(lambda: not service.server.clients)
        await served(service, channel)
        assert service.report()["refused"] == 1


JUNK = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    bytes(5000),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 100,
    request(a_range(1, 1))[:64] + b"\xff\xff" + bytes(70_000),
    request(a_range(1, 600)),
    request(a_range(1, 1), venue_id=3),
    request(a_range(1, 1))[:40] * 3,
)


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
async def test_junk_is_refused_once_and_closed(junk: bytes) -> None:
    """Other protocols, zeros, impossible lengths and requests; a good request before it is still
    answered.
    """
    channel = filled()
    async with serving(channel) as service:
        async with RecoveryClient(service.port) as client:
            client.send(request(a_range(1, 1)) + junk)
            assert (await client.answer()).packets == [channel.sent[1]]
            assert (await client.answer()).reply.status == ReplyStatus.BAD_REQUEST
            assert await client.ended() == b""
        await served(service, channel)
        assert service.report()["bad_requests"] == 1


async def test_half_a_request_waits_for_its_other_half() -> None:
    """Byte by byte, between the requests of others."""
    channel = filled()
    async with serving(channel) as service, RecoveryClient(service.port) as client:
        for byte in request(a_range(7, 1)):
            client.send(bytes([byte]))
            await client.writer.drain()
        await served(service, channel)
        assert (await client.answer()).packets == [channel.sent[7]]


async def test_who_sends_its_last_request_and_shuts_down_gets_the_answer() -> None:
    """As simple tools do; the connection ends behind it."""
    channel = filled()
    async with serving(channel) as service, RecoveryClient(service.port) as client:
        client.send(request(a_range(1, 300)))
        client.writer.write_eof()
        assert len((await client.answer()).packets) == 300
        assert await client.ended() == b""


async def test_who_never_reads_is_closed_and_holds_little() -> None:
    """It asks for far more than it reads: what waits for it is bounded, the others are served,
    and then it is cut off.
    """
    channel = filled()
    async with serving(channel, limits(stall_ns=SECOND, backlog=1000)) as service:
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.connect(("127.0.0.1", service.port))
            stuck.sendall(request(a_range(1, 512)) * 60)
            await eventually(
                lambda: any(client.blocked_ns is not None for client in service.server.clients)
            )
            (connection,) = service._connections.values()
            assert connection.transport.get_write_buffer_size() < 512 << 10
            served_then = service.report()["packets"]
            await served(service, channel)
            assert service.report()["packets"] == served_then + 2
            await eventually(lambda: not service.server.clients)
        assert service.report()["stalled"] == 1
        assert service.report()["packets"] < 60 * 512


async def test_who_is_silent_is_closed() -> None:
    """With nothing sent, and with half a request."""
    channel = filled()
    async with serving(channel, limits(idle_ns=SECOND // 2)) as service:
        async with RecoveryClient(service.port) as silent, RecoveryClient(service.port) as half:
            half.send(request(SNAPSHOT)[:50])
            assert await silent.ended() == b""
            assert await half.ended() == b""
        assert service.report()["idle"] == 2


async def test_clients_killed_in_the_middle_of_an_answer_leave_nothing_behind() -> None:
    """Connections reset at any point; the service goes on and has no client left."""
    channel = filled()
    channel.items = 8000
    async with serving(channel) as service:
        for number in range(40):
            client = RecoveryClient(service.port)
            await client.__aenter__()
            client.send(request(SNAPSHOT) + request(a_range(1, 512)))
            if number % 2:
                await client.reader.read(1 << (number % 16))
            client.writer.transport.abort()
        await eventually(lambda: not service.server.clients)
        assert not service._connections
        assert service.server._snapshots == 0
        await served(service, channel)


async def test_a_defect_costs_answers_and_not_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """A book that cannot be read is an error in the log and the end of that client's connection;
    the next client is served.
    """
    channel = filled()

    def broken(index: int, now_ns: int) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(channel, "book", broken)
    async with serving(channel) as service:
        async with RecoveryClient(service.port) as client:
            client.send(request(SNAPSHOT))
            assert await client.ended() == b""
        await served(service, channel)
        assert service.report()["failed"] == 1


async def test_a_port_in_use_is_taken_when_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed does not wait for it; heartbeats say 0 until then."""
    monkeypatch.setattr(recovery_service, "_LISTEN_AGAIN_S", 0.02)
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        async with serving(filled(), port=port) as service:
            assert service.port == 0
            other.close()
            await eventually(lambda: service.port == port)


class Exhausted:
    """A listener of a process that has no descriptor left, for some time."""

    def __init__(self, listener: socket.socket, failures: int) -> None:
        """Fail so often."""
        self._listener = listener
        self.failures = failures

    def accept(self) -> object:
        """Fail, or accept."""
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener.accept()

    def __getattr__(self, name: str) -> object:
        """Be the listener in all else."""
        return getattr(self._listener, name)


async def test_without_descriptors_it_waits_and_then_accepts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who knocks meanwhile is let in later; the loop does not spin on a connection that it
    cannot take.
    """
    monkeypatch.setattr(recovery_service, "_LISTEN_AGAIN_S", 0.02)
    channel = filled()
    async with serving(channel) as service:
        exhausted = Exhausted(service._listener, 3)
        monkeypatch.setattr(service, "_listener", exhausted)
        await served(service, channel)
        assert exhausted.failures == 0


# behind a real feeder


@pytest.fixture
def net() -> Net:
    """Groups and a port of this test's own."""
    return Net()


def script_of(books: list[bytes]) -> Callable[[Link], Awaitable[None]]:
    """Return a venue that sends these books."""

    async def script(link: Link) -> None:
        for book in books:
            await link.send(book)

    return script


async def test_a_feeder_announces_and_serves_what_it_multicast(net: Net, tmp_path: Path) -> None:
    """The heartbeat names the port and the oldest packet; every packet received by multicast
    comes again byte for byte.
    """
    receiver = Receiver([(f"{net.prefix}.4", net.port)], rcvbuf=1 << 20)
    async with (
        VenueServer(script_of(upbit_books(4))).running() as server,
        feeding("upbit", server, net, tmp_path, **UPBIT) as feeder,
    ):
        await eventually(lambda: feeder.publisher.events()["book"] == 4)
        sent: dict[int, bytes] = {}
        beats: list[HeartbeatItem] = []

        def receive() -> bool:
            for index in range(receiver.receive()):
                data = bytes(receiver.packet(index))
                header, items, _ = decode(data)
                if header.msg_type == MsgType.HEARTBEAT:
                    beats.extend(item for item in items if isinstance(item, HeartbeatItem))
                else:
                    sent[header.channel_seq] = data
            return bool(beats) and any(
                decode(data).header.msg_type == MsgType.BOOK for data in sent.values()
            )

        await eventually(receive)
        assert beats[-1].recovery_port == feeder.recovery.port
        assert beats[-1].oldest_seq == 1
        async with RecoveryClient(beats[-1].recovery_port, venue_id=4) as client:
            answer = await client.ask(a_range(1, max(sent)), session=feeder.publisher.session)
            assert answer.reply.status == ReplyStatus.OK
            assert answer.packets == [sent[seq] for seq in sorted(sent)]
            answer = await client.ask(RequestItem(kind=RequestKind.SNAPSHOT))
            assert [packet[3] for packet in answer.packets] == [MsgType.INSTRUMENT, MsgType.BOOK]
        report = feeder.report()["recovery"]
        assert isinstance(report, dict)
        assert (report["ranges"], report["snapshots"]) == (1, 1)
    receiver.close()


async def test_a_feeder_without_the_service_says_so(net: Net, tmp_path: Path) -> None:
    """Switched off: no port, nothing repairable, nothing kept."""
    async with (
        VenueServer(script_of(upbit_books(2))).running() as server,
        feeding("upbit", server, net, tmp_path, recovery__enabled=False, **UPBIT) as feeder,
    ):
        await eventually(lambda: feeder.publisher.events()["book"] == 2)
        beat = feeder.channel.beat()
        assert (beat.recovery_port, beat.oldest_seq) == (0, 0)
        assert feeder.publisher.ring is None


async def test_a_fixed_port_is_the_number_and_the_venues_id(net: Net, tmp_path: Path) -> None:
    """So that one setting does for all feeders of a host."""
    port = free_port()
    async with (
        VenueServer(script_of([])).running() as server,
        feeding("upbit", server, net, tmp_path, recovery__port=port - 4, **UPBIT) as feeder,
    ):
        await eventually(lambda: feeder.recovery.port == port)
