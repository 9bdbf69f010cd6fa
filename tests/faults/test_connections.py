"""Connections that are silent, closed again and again, unreachable or not to be trusted: real
sockets, every venue's own dialect.

Fault table, rows 20, 21, 23 and 25 to 28. One event loop runs the feeders of many venues at
once, so a fault at one is also seen not to reach another. Limits of connects are those of the
venues only where a test is about them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tapecast.feeder.connections.link import Link as FeederLink
from tapecast.feeder.connections.transport import MAX_FRAME
from tapecast.feeder.live import LiveFeeder
from tapecast.runtime import config as configuration
from tapecast.runtime.net.backoff import Backoff, BackoffPolicy
from tapecast.runtime.net.limiter import Rate, grant
from tests.support.processes import Net, resident_bytes
from tests.support.standin.server import StandInServer, settings_of
from tests.support.standin.tape import TAPES
from tests.support.standin.venue import StandIn
from tests.support.venue_server import Answer, Link, eventually, feeding

PATIENCE_S = 60.0
SECOND_NS = 10**9
UNLIMITED = {"connects": 1000, "connects_window_s": 1}


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
                {
                    Decimal(price).scaleb(own.price_exp): Decimal(size).scaleb(own.qty_exp)
                    for price, size in levels
                }
                for levels in own.levels()
            )
            if sides != book.truth.sides:
                return False
        return True

    async def settle(self, *names: str) -> None:
        """Return once these venues have played everything and their books are right."""
        for name in names:
            await eventually(
                lambda: self.servers[name].played and self.right(name),  # noqa: B023 - awaited before the next turn
                within_s=PATIENCE_S,
                what=f"books of {name}",
            )


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    servers: Mapping[str, StandInServer],
    settings: Mapping[str, object] | None = None,
    made: Callable[[str, LiveFeeder], object] = lambda _, __: None,
) -> AsyncIterator[Run]:
    """Run every server and its feeder for the length of the block; `made` is given each feeder
    before its first step.
    """
    run, net = Run(), Net()
    async with contextlib.AsyncExitStack() as stack:
        for name, server in servers.items():
            run.servers[name] = await stack.enter_async_context(server.running())
            given = settings_of(server.venue, **(settings or {}))
            given |= {f"venues__{name}__limits__{key}": value for key, value in UNLIMITED.items()}
            run.feeders[name] = await stack.enter_async_context(
                feeding(name, server, net, folder / name, **given)
            )
            made(name, run.feeders[name])
        yield run


async def test_every_venue_is_read_right_over_its_own_sockets(tmp_path: Path) -> None:
    """No fault: what the other tests here start from. Eleven venues, and each book ends as the
    venue's.
    """
    async with running(tmp_path, {name: StandInServer(StandIn(name)) for name in TAPES}) as run:
        await run.settle(*TAPES)
        for name, feeder in run.feeders.items():
            assert feeder.session.counts["gaps"] == 0, name
            assert feeder.session.counts["quarantine"] == 0, name
            assert feeder.report()["reconnects"] == 0, name


SILENT = [name for name in TAPES if name != "coinbase"]
"""Coinbase's 2 MB snapshot is read once, above."""
ACKNOWLEDGED = {
    "binance": b'{"result":null,"id":1}',
    "binance_futures": b'{"result":null,"id":1}',
    "binance_coinm": b'{"result":null,"id":1}',
    "bithumb": b'{"status":"UP"}',
    "bybit": b'{"success":true,"ret_msg":"pong","conn_id":"a","req_id":"","op":"ping"}',
    "coinbase_exchange": b'{"type":"subscriptions","channels":[]}',
    "deribit": b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}',
    "kraken": b'{"channel":"heartbeat"}',
    "okx": b"pong",
    "upbit": b'{"status":"UP"}',
}
"""What each venue says that is no data, in its documented words."""


@pytest.mark.parametrize("chatter", ["nothing", "pings", "acknowledgements"])
async def test_a_venue_that_acknowledges_and_sends_no_data_is_connected_to_again(
    chatter: str, tmp_path: Path
) -> None:
    """Ten venues fall silent in the same way at once; each is left after the idle time and not
    before, and comes back right.

    Acknowledged subscriptions, WebSocket pings and what the venue says besides are no data.
    """
    chats: list[asyncio.Task[None]] = []

    async def chat(server: StandInServer, link: Link) -> None:
        with contextlib.suppress(ConnectionClosed):
            while server.mute and chatter != "nothing":
                if chatter == "pings":
                    await link.ping()
                else:
                    await link.send(ACKNOWLEDGED[server.venue.name], text=True)
                await asyncio.sleep(0.05)

    def greeter(server: StandInServer) -> Callable[[Link], None]:
        def greet(link: Link) -> None:
            server.mute = len(server.connects_s) == 1
            chats.append(asyncio.create_task(chat(server, link)))

        return greet

    servers = {name: StandInServer(StandIn(name)) for name in SILENT}
    for server in servers.values():
        server.greet = greeter(server)
    async with running(
        tmp_path, servers, {"feeder__data_idle_reconnect_s": 1, "feeder__first_data__book": 0}
    ) as run:
        await run.settle(*SILENT)
        for name, server in servers.items():
            assert len(server.connects_s) == 2, name
            assert server.connects_s[1] - server.connects_s[0] >= 1.0, name
            assert run.feeders[name].session.counts["quarantine"] == 0, name
            assert run.feeders[name].session.counts["gaps"] == 0, name
    await asyncio.gather(*chats)


async def test_a_book_that_was_acknowledged_and_never_comes_is_told_and_asked_for(
    tmp_path: Path,
) -> None:
    """Each subscription has a deadline of its own: one book's data keep no silence of another
    secret.
    """
    stand_in = StandIn("bybit")
    server = StandInServer(stand_in, pace_s=0.05)
    quiet, loud = stand_in.tape.symbols
    stand_in.books[quiet].order.clear()
    stand_in.books[quiet].script.order = []
    stand_in.books[quiet].script.silent = 1
    stand_in.books[loud].script.order = list(range(40))
    async with running(tmp_path, {"bybit": server}, {"feeder__first_data__book": 1}) as run:
        counts = run.feeders["bybit"].session.counts
        await eventually(
            lambda: sum(n for name, n in counts.items() if name.startswith("topics_")),
            within_s=PATIENCE_S,
        )
        await run.settle("bybit")
        assert counts["gaps"] == 0
        assert b"unsubscribe" in b"".join(server.heard)


async def test_a_venue_that_falls_silent_in_the_middle_is_said_to_be_stale_and_left(
    tmp_path: Path,
) -> None:
    """First STALE, then a new connection; meanwhile another venue's books stay LIVE and hear
    nothing.
    """
    servers = {
        "bybit": StandInServer(StandIn("bybit"), pace_s=0.02),
        "upbit": StandInServer(StandIn("upbit"), pace_s=0.1),
    }
    async with running(
        tmp_path, servers, {"feeder__stale_after_s": 1, "feeder__data_idle_reconnect_s": 2}
    ) as run:
        quiet, counts = servers["bybit"], run.feeders["bybit"].session.counts
        await eventually(lambda: run.feeders["bybit"].session.live_books() == 2)
        quiet.mute = True
        quiet.greet = lambda _: setattr(quiet, "mute", False)
        await eventually(lambda: counts["stale"] == 2, within_s=PATIENCE_S)
        assert len(quiet.connects_s) == 1
        await eventually(lambda: len(quiet.connects_s) == 2, within_s=PATIENCE_S)
        assert len(servers["upbit"].connects_s) == 1
        assert run.feeders["upbit"].session.counts["stale"] == 0
        await run.settle("bybit", "upbit")


# storms


@pytest.mark.parametrize("name", TAPES)
def test_a_thousand_closes_right_after_accept_keep_to_the_limit_of_each_venue(
    name: str, tmp_path: Path
) -> None:
    """The venue's own figures, time compressed to nothing: in no window are there more connects
    than it grants, jitter or not.
    """
    config = configuration.load(environ={}, system=tmp_path / "none")
    limits, feeder = config.venues[name].limits, config.feeder
    count, window_ns = int(limits["connects"]), int(limits["connects_window_s"] * SECOND_NS)
    rate = Rate.of(count, limits["connects_window_s"])
    for sockets, fraction in ((1, 0.0), (60, 0.0), (60, 1.0)):
        policy = BackoffPolicy(
            feeder.backoff.base_s,
            feeder.backoff.factor,
            feeder.backoff.cap_s,
            feeder.backoff.reset_after_s,
        )
        backoffs = [Backoff(policy) for _ in range(sockets)]
        due = [(0, number) for number in range(sockets)]
        paid_ns, times = 0, list[int]()
        while len(times) < 1000:
            now_ns, number = min(due)
            due.remove((now_ns, number))
            paid_ns, wait_ns = grant(paid_ns, 1, rate, now_ns)
            if wait_ns:
                due.append((now_ns + wait_ns, number))
                continue
            times.append(now_ns)
            backoffs[number].connecting(now_ns)
            delay_s, _ = backoffs[number].lost(now_ns, fraction)
            due.append((now_ns + int(delay_s * SECOND_NS), number))
        assert all(
            last - first >= window_ns for first, last in zip(times, times[count:], strict=False)
        ), (sockets, fraction)


STORM_CONNECTS, STORM_S = 60, 0.2


async def test_a_storm_of_a_thousand_closes_over_sockets_keeps_to_the_limit_and_spares_another_venue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that closes right after accepting, a thousand times; when it stops, the books
    come up. Nothing is left behind.
    """
    times: list[float] = []
    opened = FeederLink.open

    async def noted(link: FeederLink, url: str, *rest: Any) -> Any:
        if server.ws in url:
            times.append(time.monotonic())
        return await opened(link, url, *rest)

    async def slam(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    monkeypatch.setattr(FeederLink, "open", noted)
    listener = await asyncio.start_server(slam, "127.0.0.1", 0)
    server, other = StandInServer(StandIn("binance")), StandInServer(StandIn("okx"), pace_s=0.05)
    settings = settings_of(
        server.venue,
        feeder__backoff__base_s=0.001,
        feeder__backoff__cap_s=0.002,
        feeder__circuit__connects=10_000,
        venues__binance__limits__connects=STORM_CONNECTS,
        venues__binance__limits__connects_window_s=STORM_S,
    )
    async with running(tmp_path / "okx", {"okx": other}) as spared, server.running():
        true, server.ws = server.ws, f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with feeding("binance", server, Net(), tmp_path / "binance", **settings) as feeder:
            await eventually(lambda: len(times) >= 1000, within_s=PATIENCE_S)
            for connection in feeder.connections.all:
                connection._urls = tuple(url.replace(server.ws, true) for url in connection._urls)
            await eventually(
                lambda: server.played and feeder.session.live_books() == 2, within_s=PATIENCE_S
            )
            assert feeder.connections.losses >= 1000
        assert all(
            last - first >= STORM_S
            for first, last in zip(times, times[STORM_CONNECTS:], strict=False)
        )
        await spared.settle("okx")
        assert len(other.connects_s) == 1
    listener.close()


# REST


async def test_refusals_of_order_books_are_obeyed_and_the_books_come_up_in_the_end(
    tmp_path: Path,
) -> None:
    """429 and 418 with Retry-After, 500 and 503 one after another at each venue with REST books:
    no request inside a ban.

    A venue without them hears nothing of it.
    """
    bans = {"Retry-After": "1"}
    faults = [Answer(429, headers=bans), Answer(500), Answer(418, headers=bans), Answer(503)]
    names = ("binance", "binance_futures", "binance_coinm")
    servers = {name: StandInServer(StandIn(name), faults=faults) for name in names} | {
        "kraken": StandInServer(StandIn("kraken"))
    }
    async with running(tmp_path, servers) as run:
        await run.settle("kraken", *names)
        for name in names:
            server, known = servers[name], servers[name].venue.tape.symbols
            books = [
                asked.at_s
                for asked in server.asked
                if server.venue.dialect.snapshot_of(asked.path, asked.query)
            ]
            for banned_s in (books[0], books[2]):
                # What was on its way when the answer came, for another book, was asked before
                # the ban.
                inside = sum(banned_s < asked_s < banned_s + 0.99 for asked_s in books)
                assert inside <= len(known) - 1, name
            assert len(server.connects_s) == 1, name
            assert run.feeders[name].session.counts["gaps"] == 0, name


# names and addresses


class Resolver:
    """What the host names of a test lead to; `answers` of a name are addresses, or none: the
    name cannot be resolved.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, list[str]] = {}
        self.asked = 0
        self._true = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)

    def _resolve(self, host: Any, port: Any, *words: Any, **more: Any) -> list[Any]:
        if not isinstance(host, str) or not host.endswith(".test"):
            return self._true(host, port, *words, **more)
        self.asked += 1
        if not self.answers.get(host):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            entry
            for address in self.answers[host]
            for entry in self._true(address, port, type=socket.SOCK_STREAM)
        ]


async def test_a_name_that_cannot_be_resolved_is_asked_for_again_and_survived_once_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown at first: tried for ever. Known once: a resolver that fails later, or leads
    astray, keeps nobody out.
    """
    resolver = Resolver(monkeypatch)
    server = StandInServer(StandIn("deribit"))
    async with server.running():
        true = server.ws
        server.ws = true.replace("127.0.0.1", "venue.test")
        settings = settings_of(server.venue, venues__deribit__limits__connects=1000)
        async with feeding("deribit", server, Net(), tmp_path, **settings) as feeder:
            await eventually(lambda: resolver.asked >= 3, within_s=PATIENCE_S)
            assert feeder.connections.up == 0
            resolver.answers["venue.test"] = ["127.0.0.1"]
            await eventually(lambda: feeder.session.live_books() == 2, within_s=PATIENCE_S)
            for astray in ([], ["127.0.0.77"]):
                resolver.answers["venue.test"] = astray
                before = len(server.connects_s)
                server.links[0].transport.abort()
                await eventually(lambda: len(server.connects_s) > before, within_s=PATIENCE_S)  # noqa: B023 - awaited before the next turn
                await eventually(lambda: feeder.session.live_books() == 2, within_s=PATIENCE_S)


async def test_an_address_that_swallows_everything_does_not_keep_the_next_one_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an IPv6 route into nowhere: the first address accepts no connection and refuses none,
    the second one serves.
    """
    resolver = Resolver(monkeypatch)
    hole = socket.socket()
    hole.bind(("127.0.0.78", 0))
    hole.listen(0)
    server = StandInServer(StandIn("deribit"))
    async with server.running():
        port = int(server.ws.rpartition(":")[2])
        trap = socket.socket()
        trap.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trap.bind(("127.0.0.78", port))
        trap.listen(0)
        fillers = [_fill("127.0.0.78", port) for _ in range(3)]
        server.ws = f"ws://venue.test:{port}"
        resolver.answers["venue.test"] = ["127.0.0.78", "127.0.0.1"]
        async with feeding(
            "deribit", server, Net(), tmp_path, **settings_of(server.venue)
        ) as feeder:
            await eventually(lambda: feeder.session.live_books() == 2, within_s=PATIENCE_S)
            assert feeder.connections.losses == 0, "no try was wasted on it"
        for one in (*fillers, trap, hole):
            one.close()


def _fill(host: str, port: int) -> socket.socket:
    """Take a place in a backlog, so that later connections get no answer at all."""
    filler = socket.socket()
    filler.setblocking(False)
    filler.connect_ex((host, port))
    return filler


# TLS


def certificate(
    folder: Path, *, subject: str = "localhost", until: str = "20991231000000Z"
) -> tuple[Path, Path]:
    """Return certificate and key, signed by itself: its own authority."""
    folder.mkdir(parents=True, exist_ok=True)
    chain, key, request, settings = (
        folder / name for name in ("certificate.pem", "key.pem", "request.pem", "openssl.cnf")
    )
    settings.write_text(
        "[req]\ndistinguished_name = name\n[name]\n[ca]\ndefault_ca = own\n"
        f"[own]\ndatabase = {folder}/index\nserial = {folder}/serial\nnew_certs_dir = {folder}\n"
        "default_md = sha256\npolicy = any\nx509_extensions = ends\n[any]\ncommonName = supplied\n"
        f"[ends]\nsubjectAltName = DNS:{subject}\nbasicConstraints = CA:true\n"
    )
    (folder / "index").touch()
    (folder / "serial").write_text("01\n")
    new = [
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        f"/CN={subject}",
    ]
    sign = [
        "ca",
        "-batch",
        "-notext",
        "-selfsign",
        "-keyfile",
        str(key),
        "-in",
        str(request),
        "-out",
        str(chain),
    ]
    try:
        for words in (
            [*new, "-keyout", str(key), "-out", str(request)],
            [*sign, "-startdate", "20200101000000Z", "-enddate", until],
        ):
            command = ["openssl", words[0], "-config", str(settings), *words[1:]]
            subprocess.run(command, check=True, capture_output=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("no certificates here: openssl is not installed")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no certificates here: {error.stderr.decode(errors='replace').strip()[-200:]}")
    return chain, key


@pytest.mark.parametrize("fault", ["unknown authority", "expired", "another name"])
async def test_a_certificate_that_is_not_good_is_refused_and_tried_again_slowly(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Never connected to, told with its reason, tried again at the longest interval; with a good
    one the same venue serves.
    """
    wrong = {"expired": {"until": "20200201000000Z"}, "another name": {"subject": "elsewhere.test"}}
    good, bad = (
        certificate(tmp_path / "good"),
        certificate(tmp_path / "bad", **wrong.get(fault, {})),
    )
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(
        good[0].read_bytes() + (b"" if fault == "unknown authority" else bad[0].read_bytes())
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*bad)
    server = StandInServer(StandIn("deribit"))
    server.tls = context
    async with server.running():
        server.ws = server.ws.replace("127.0.0.1", "localhost")
        settings = settings_of(server.venue, feeder__backoff__cap_s=1)
        async with feeding("deribit", server, Net(), tmp_path / "feeder", **settings) as feeder:
            await eventually(lambda: feeder.connections.losses >= 2, within_s=PATIENCE_S)
            assert server.connects_s == []
            assert feeder.session.live_books() == 0
            context.load_cert_chain(*good)
            await eventually(lambda: feeder.session.live_books() == 2, within_s=PATIENCE_S)
            assert len(server.connects_s) == 1
    assert "CERTIFICATE_VERIFY_FAILED" in capfd.readouterr().err


# size


async def test_a_message_without_end_costs_its_connection_and_bounded_memory(
    tmp_path: Path,
) -> None:
    """Fragments that go on for ever are cut off at the limit; the books come back, and memory
    with them.
    """
    sent = 0

    async def endless(link: Link) -> None:
        nonlocal sent

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 1 << 20
                yield b"[" * (1 << 20)

        with contextlib.suppress(ConnectionClosed):
            await link.send(pieces(), text=True)

    def greet(link: Link) -> None:
        if len(server.connects_s) == 1:
            server.mute = True
            tasks.append(asyncio.create_task(endless(link)))
        else:
            server.mute = False

    tasks: list[asyncio.Task[None]] = []
    server = StandInServer(StandIn("upbit"))
    server.greet = greet
    before = resident_bytes(_own_pid())
    async with running(tmp_path, {"upbit": server}) as run:
        await run.settle("upbit")
        assert MAX_FRAME < sent < 3 * MAX_FRAME
        assert len(server.connects_s) == 2
        assert resident_bytes(_own_pid()) - before < 5 * MAX_FRAME
    await asyncio.gather(*tasks)


async def test_a_legal_snapshot_of_many_megabytes_is_taken(tmp_path: Path) -> None:
    """Coinbase's own frame, padded by white space to 8 MiB: one message, one book."""
    stand_in = StandIn("coinbase")
    server = StandInServer(stand_in)
    (book,) = stand_in.books.values()
    start = book.book.start
    assert start is not None
    padded: list[int] = []

    def pad(frame: bytes) -> bytes:
        if b'"snapshot"' in frame[:400]:
            frame = frame[:-1] + b" " * ((8 << 20) - len(frame)) + b"}"
            padded.append(len(frame))
        return frame

    server.on_the_way = pad
    async with running(tmp_path, {"coinbase": server}) as run:
        await run.settle("coinbase")
        assert padded == [8 << 20]
        assert run.feeders["coinbase"].session.counts["quarantine"] == 0
        assert len(server.connects_s) == 1


def _own_pid() -> int:
    return int(Path("/proc/self").readlink().name)
