"""Recordings replayed over real sockets: what plain clients of the venues receive, in which
order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import websockets

from tapecast.feeder.replay import Client, End, ReplayEvent, ReplayServer
from tests.support.captures import captures

PATIENCE_S = 20.0


class Recorded:
    """A recording read by the test itself, without the code under test."""

    def __init__(self, path: Path) -> None:
        """`path`: an uncompressed recording."""
        self.path = path
        self.lines: list[dict[str, str]] = [
            json.loads(line) for line in path.read_text().splitlines()
        ]

    def frames(self, *parts: str) -> list[str]:
        """Return the recorded messages that contain any of the parts, or all messages."""
        return [
            x["raw"]
            for x in self.lines
            if x["kind"] == "recv" and (not parts or any(part in x["raw"] for part in parts))
        ]

    def streams(self) -> list[str]:
        """Return Binance's stream names in order of appearance."""
        return list(dict.fromkeys(json.loads(raw)["stream"] for raw in self.frames()))


def recording(venue: str, name: str) -> Recorded:
    """Return a recording by folder and name; skip where it is absent."""
    path = captures() / venue / name
    if not path.is_file():
        pytest.skip(f"recordings absent: {path}")
    return Recorded(path)


def head(recorded: Recorded, lines: int, folder: Path) -> Recorded:
    """Return the first lines of a recording as a recording."""
    path = folder / recorded.path.name
    path.write_text("".join(recorded.path.read_text().splitlines(keepends=True)[:lines]))
    return Recorded(path)


@contextlib.asynccontextmanager
async def serving(
    recorded: Recorded, venue: str | None = None, **options: object
) -> AsyncIterator[ReplayServer]:
    """Run a server of one recording at full speed unless told otherwise."""
    merged = {"speed": math.inf, "settle_s": 0.05, "rest_wait_s": 0.0} | options
    server = ReplayServer([recorded.path], venue, **merged)  # type: ignore[arg-type]
    await server.start()
    try:
        yield server
    finally:
        await server.close()


class Listener:
    """A plain `websockets` client: subscribes, then keeps what comes."""

    def __init__(self, url: str, *requests: object) -> None:
        """`requests` are sent as JSON after connecting, text as it is."""
        self.messages: list[str | bytes] = []
        self.closed = False
        self._url = url
        self._requests = requests
        self._news = asyncio.Condition()
        self._socket: websockets.ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Listener:
        """Connect and subscribe."""
        self._socket = await websockets.connect(self._url, max_size=None, compression=None)
        self._task = asyncio.create_task(self._read())
        for request in self._requests:
            await self.send(request)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        assert self._socket is not None
        assert self._task is not None
        await self._socket.close()
        await self._task

    async def send(self, request: object) -> None:
        """Send a message."""
        assert self._socket is not None
        await self._socket.send(request if isinstance(request, str) else json.dumps(request))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds after some message, or the connection's end."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(condition)

    async def _read(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in self._socket:
                self.messages.append(message)
                async with self._news:
                    self._news.notify_all()
        self.closed = True
        async with self._news:
            self._news.notify_all()


async def ended(server: ReplayServer) -> None:
    """Wait for the end of the replay."""
    async with asyncio.timeout(PATIENCE_S):
        await server.wait_end()


def binance_subscribe(*streams: str) -> dict[str, object]:
    """Spell Binance's request."""
    return {"method": "SUBSCRIBE", "params": list(streams), "id": 1}


async def test_binance_sends_the_subscribed_streams_as_recorded() -> None:
    """After the acknowledgement come exactly the recorded frames of the subscribed streams, in
    order, byte for byte.
    """
    recorded = recording("binance", "cf_20210814_spot.jsonl")
    streams = ["ftmusdt@bookTicker", "xmrbtc@aggTrade", "sxpbtc@depth@100ms"]
    async with (
        serving(recorded) as server,
        Listener(server.urls.ws + "/ws", binance_subscribe(*streams)) as client,
    ):
        await ended(server)
        await client.until(lambda: len(client.messages) > server.frames_sent)
        expected = recorded.frames(*(f'"stream":"{stream}"' for stream in streams))
        assert client.messages == ['{"result":null,"id":1}', *expected]
        assert server.frames_sent == len(expected)


@pytest.mark.parametrize(
    "form",
    [
        "/stream?streams=ftmusdt@bookTicker/xmrbtc@aggTrade",
        "/ws/ftmusdt@bookTicker/xmrbtc@aggTrade",
    ],
)
async def test_binance_url_subscriptions_need_no_message(form: str) -> None:
    """Streams named in the URL are subscribed, without an acknowledgement."""
    recorded = recording("binance", "cf_20210814_spot.jsonl")
    async with serving(recorded) as server, Listener(server.urls.ws + form) as client:
        await ended(server)
        await client.until(lambda: len(client.messages) == server.frames_sent)
        assert client.messages == recorded.frames(
            '"stream":"ftmusdt@bookTicker"', '"stream":"xmrbtc@aggTrade"'
        )


async def test_binance_raw_recording_and_depth_speed(tmp_path: Path) -> None:
    """A client of depth@100ms gets a futures recording of depth@0ms; what it did not ask for
    stays away.
    """
    recorded = head(recording("binance_futures", "hft_20240808_usdm_btcusdt.jsonl"), 2000, tmp_path)
    url = "/public/stream?streams=btcusdt@depth@100ms"
    async with (
        serving(recorded, "binance_futures") as server,
        Listener(server.urls.ws + url) as client,
    ):
        await ended(server)
        await client.until(lambda: len(client.messages) == server.frames_sent)
        assert client.messages == recorded.frames("@depth@0ms")


async def test_okx_sends_the_subscribed_channels_as_recorded() -> None:
    """OKX acknowledges each argument, then sends the recorded frames of those alone; a text ping
    is answered in between.
    """
    recorded = recording("okx", "cf_20220513_v5_books.jsonl")
    arguments = [
        {"channel": "books", "instId": "BTC-USDT"},
        {"channel": "trades", "instId": "UNI-USD-SWAP"},
    ]
    request = {"op": "subscribe", "args": arguments}
    async with (
        serving(recorded) as server,
        Listener(server.urls.ws + "/ws/v5/public", request, "ping") as client,
    ):
        await ended(server)
        await client.until(lambda: len(client.messages) == server.frames_sent + 3)
        assert [json.loads(message)["arg"] for message in client.messages[:2]] == arguments
        assert client.messages.pop(client.messages.index("pong")) == "pong"
        wanted = [raw for raw in recorded.frames('"data"') if json.loads(raw)["arg"] in arguments]
        assert client.messages[2:] == wanted
        assert wanted


async def test_upbit_sends_binary_frames_and_replaces_subscriptions() -> None:
    """Frames recorded as binary come as binary; only the last request counts."""
    recorded = recording("upbit", "cf_20210405_simple.jsonl")
    first = [{"ticket": "a"}, {"type": "trade", "codes": ["KRW-ADA"]}]
    second = [
        {"ticket": "b"},
        {"type": "orderbook", "codes": ["KRW-IQ", "KRW-STX.15"]},
        {"format": "SIMPLE"},
    ]
    async with (
        serving(recorded) as server,
        Listener(server.urls.ws + "/websocket/v1", first, second) as client,
    ):
        await ended(server)
        await client.until(lambda: len(client.messages) == server.frames_sent)
        assert client.messages == [
            raw.encode()
            for raw in recorded.frames()
            if raw.startswith(
                ('{"ty":"orderbook","cd":"KRW-IQ"', '{"ty":"orderbook","cd":"KRW-STX"')
            )
        ]
        assert client.messages


async def test_wrong_subscriptions_get_the_venues_error_and_the_connection_stays() -> None:
    """An error message is an answer like another: a right request after it works."""
    recorded = recording("binance", "cf_20210814_spot.jsonl")
    right = binance_subscribe("xmrbtc@aggTrade")
    async with (
        serving(recorded) as server,
        Listener(server.urls.ws + "/ws", {"method": "SUBSCRIBED", "id": 1}, right) as client,
    ):
        await ended(server)
        await client.until(lambda: len(client.messages) == server.frames_sent + 2)
        assert json.loads(client.messages[0])["code"] == 2
        assert client.messages[1] == '{"result":null,"id":1}'


async def test_a_path_that_the_venue_does_not_have_is_refused() -> None:
    """A WebSocket handshake on a foreign path fails with 404."""
    async with serving(recording("binance", "cf_20210814_spot.jsonl")) as server:
        with pytest.raises(websockets.InvalidStatus) as failure:
            await websockets.connect(server.urls.ws + "/websocket/v1")
        assert failure.value.response.status_code == 404


@pytest.mark.parametrize(
    ("venue", "name"),
    [
        ("binance", "cf_20210814_spot.jsonl"),
        ("binance", "cf_20211012_spot.jsonl"),
        ("binance", "hft_20240808_spot_btcusdt.jsonl"),
        ("binance_futures", "cf_20210417_usdm.jsonl"),
        ("binance_futures", "hft_20240808_usdm_ethusdt.jsonl"),
    ],
)
async def test_snapshots_come_in_their_recorded_place(
    venue: str, name: str, tmp_path: Path
) -> None:
    """A client that asks for a snapshot at a symbol's first depth frame handles bodies and
    frames in the recorded order.
    """
    recorded = head(recording(venue, name), 2000, tmp_path)
    log: list[str] = []
    asked: dict[str, asyncio.Task[None]] = {}
    async with (
        serving(recorded, venue, rest_wait_s=PATIENCE_S) as server,
        aiohttp.ClientSession() as http,
    ):

        async def fetch(symbol: str) -> None:
            async with http.get(
                f"{server.urls.rest}/api/v3/depth?symbol={symbol}&limit=5000"
            ) as answer:
                assert answer.status == 200
                log.append(await answer.text())

        async def listen() -> None:
            async with http.ws_connect(
                server.urls.ws + "/stream?streams=" + "/".join(recorded.streams())
            ) as socket:
                async for message in socket:
                    log.append(message.data)
                    event = json.loads(message.data)["data"]
                    if event.get("e") == "depthUpdate" and event["s"] not in asked:
                        asked[event["s"]] = asyncio.create_task(fetch(event["s"]))

        listening = asyncio.create_task(listen())
        await ended(server)
        listening.cancel()
        expected = [
            x["raw"]
            for x in recorded.lines
            if x["kind"] == "recv" or (x["kind"] == "http" and "lastUpdateId" in x["raw"][:20])
        ]
        assert log == expected
        async with http.get(f"{server.urls.rest}/api/v3/depth?symbol={next(iter(asked))}") as again:
            assert again.status == 404
            assert await again.json() == {"code": -1121, "msg": "Invalid symbol."}


async def test_a_snapshot_is_skipped_where_nobody_hears_the_book() -> None:
    """Without a depth subscription of the symbol the timeline does not wait for a snapshot
    request.
    """
    recorded = recording("binance", "cf_20210814_spot.jsonl")
    url = "/ws/xmrbtc@aggTrade"
    async with (
        serving(recorded, rest_wait_s=PATIENCE_S * 10) as server,
        Listener(server.urls.ws + url) as client,
    ):
        await ended(server)
        await client.until(lambda: client.messages == recorded.frames('"stream":"xmrbtc@aggTrade"'))


async def test_an_unread_body_holds_the_timeline() -> None:
    """No later frame is sent before the client has closed the connection on which it got the
    snapshot.
    """
    recorded = recording("binance", "cf_20210814_spot.jsonl")
    place = next(i for i, x in enumerate(recorded.lines) if "symbol=XMRBTC" in (x["url"] or ""))
    before = sum(x["kind"] == "recv" for x in recorded.lines[:place])
    url = "/stream?streams=" + "/".join(recorded.streams())
    async with (
        serving(recorded, rest_wait_s=PATIENCE_S) as server,
        Listener(server.urls.ws + url) as client,
    ):
        host, port = server.urls.rest.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /api/v3/depth?symbol=XMRBTC HTTP/1.1\r\nHost: x\r\n\r\n")
        header = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        assert b"connection: close" in header.lower()
        size = int(header.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert (await reader.readexactly(size)).decode() == recorded.lines[place]["raw"]
        assert len(client.messages) == server.frames_sent == before
        writer.close()
        await client.until(lambda: len(client.messages) > before)


async def test_a_snapshot_request_given_up_does_not_hold_the_timeline() -> None:
    """A client that leaves while its request is held is forgotten: the next request gets the
    snapshot.
    """
    recorded = recording("binance", "cf_20210814_spot.jsonl")
    async with serving(recorded, rest_wait_s=PATIENCE_S) as server, aiohttp.ClientSession() as http:
        url = f"{server.urls.rest}/api/v3/depth?symbol=XMRBTC"
        with pytest.raises(TimeoutError):
            await http.get(url, timeout=aiohttp.ClientTimeout(total=0.2))
        async with Listener(server.urls.ws + "/ws/xmrbtc@depth@100ms") as client:
            async with http.get(url) as answer:
                assert (await answer.json())["lastUpdateId"] == 717720857
            await ended(server)
            await client.until(
                lambda: client.messages == recorded.frames('"stream":"xmrbtc@depth@100ms"')
            )


async def test_instrument_bodies_are_answered_at_any_time() -> None:
    """Recorded REST bodies come back verbatim before anybody subscribes; what was not recorded
    is the venue's 404.
    """
    recorded = recording("okx", "cf_20220513_v5_books.jsonl")
    bodies = {x["url"].rpartition("=")[2]: x["raw"] for x in recorded.lines if x["kind"] == "http"}
    async with serving(recorded) as server, aiohttp.ClientSession() as http:
        for kind, body in bodies.items():
            async with http.get(
                f"{server.urls.rest}/api/v5/public/instruments?instType={kind}"
            ) as answer:
                assert (answer.status, await answer.text()) == (200, body)
        async with http.get(
            f"{server.urls.rest}/api/v5/public/instruments?instType=OPTION"
        ) as answer:
            assert answer.status == 404
            assert (await answer.json())["code"] == "50000"
        async with http.get(
            f"{server.urls.rest}/api/v5/market/books?instId=BTC-USDT&sz=400"
        ) as answer:
            assert answer.status == 404
            assert (await answer.json())["code"] == "51001"


async def test_a_dropped_client_comes_back_at_the_current_position() -> None:
    """After all connections are aborted, a new subscription receives a gapless rest of the
    recording and nothing twice.
    """
    recorded = recording("upbit", "cf_20210405_simple.jsonl")
    codes = list(dict.fromkeys(json.loads(raw)["cd"] for raw in recorded.frames()))
    request = [
        {"ticket": "t"},
        {"type": "trade", "codes": codes},
        {"type": "orderbook", "codes": codes},
    ]
    frames = [raw.encode() for raw in recorded.frames()]
    async with serving(recorded) as server:
        async with Listener(server.urls.ws + "/websocket/v1", request) as first:
            await first.until(lambda: len(first.messages) > 0)
            server.drop_connections()
            await first.until(lambda: first.closed)
        async with Listener(server.urls.ws + "/websocket/v1", request) as second:
            await ended(server)
            await second.until(
                lambda: len(second.messages) > 0 and second.messages[-1] == frames[-1]
            )
        assert 0 < len(second.messages) < len(frames)
        assert second.messages == frames[-len(second.messages) :]
        assert first.messages == frames[: len(first.messages)]
        assert len(first.messages) + len(second.messages) <= len(frames)


async def test_dropped_connections_come_back_together() -> None:
    """Two connections of one client, dropped while they alternate, both receive their rest of
    the recording to its end.
    """
    recorded = recording("binance_futures", "cf_20210722_usdm.jsonl")
    names = {
        name: "market" if "@aggTrade" in name else "public"
        for name in recorded.streams()
        if "kline" not in name
    }
    frames = {
        route: recorded.frames(*(f'"stream":"{n}"' for n, r in names.items() if r == route))
        for route in ("public", "market")
    }
    async with serving(recorded, start_after=2) as server, contextlib.AsyncExitStack() as stack:

        async def connect(route: str) -> Listener:
            streams = "/".join(name for name, its in names.items() if its == route)
            return await stack.enter_async_context(
                Listener(f"{server.urls.ws}/{route}/stream?streams={streams}")
            )

        first = [await connect("public"), await connect("market")]
        await first[0].until(lambda: len(first[0].messages) > 0)
        server.drop_connections()
        for client in first:
            await client.until(lambda: client.closed)  # noqa: B023 - awaited before the next turn
        public, market = await connect("public"), await connect("market")
        await ended(server)
        for client, route in ((public, "public"), (market, "market")):
            await client.until(lambda: client.messages[-1:] == frames[route][-1:])  # noqa: B023 - awaited before the next turn
            assert client.messages == frames[route][-len(client.messages) :]


async def test_pause_and_resume() -> None:
    """While paused no frame is sent though the client stays connected and answered; after
    resuming nothing is missing.
    """
    recorded = recording("okx", "cf_20220513_v5_books.jsonl")
    request = {"op": "subscribe", "args": [{"channel": "books", "instId": "BTC-USDT"}]}
    async with serving(recorded) as server:
        server.pause()
        async with Listener(server.urls.ws + "/ws/v5/public", request) as client:
            await client.until(lambda: len(client.messages) == 1)
            await client.send("ping")
            await client.until(lambda: client.messages[-1] == "pong")
            assert len(client.messages) == 2
            assert server.frames_sent == 0
            server.resume()
            await ended(server)
            await client.until(lambda: len(client.messages) == 2 + server.frames_sent)
            wanted = [
                raw
                for raw in recorded.frames('"data"')
                if json.loads(raw)["arg"] == request["args"][0]
            ]  # type: ignore[index]
            assert client.messages[2:] == wanted


async def test_one_symbols_frames_keep_their_order_across_connections() -> None:
    """Books on one connection and trades on another are handled in recorded order, symbol by
    symbol.
    """
    recorded = recording("binance_futures", "cf_20210722_usdm.jsonl")
    streams = [name for name in recorded.streams() if "kline" not in name]
    books = [name for name in streams if "@depth" in name or "@bookTicker" in name]
    others = [name for name in streams if name not in books]
    log: list[str] = []

    async def listen(http: aiohttp.ClientSession, url: str) -> None:
        async with http.ws_connect(url) as socket:
            async for message in socket:
                log.append(message.data)

    async with serving(recorded, start_after=2) as server, aiohttp.ClientSession() as http:
        urls = [
            f"{server.urls.ws}/public/stream?streams={'/'.join(books)}",
            f"{server.urls.ws}/market/stream?streams={'/'.join(others)}",
        ]
        tasks = [asyncio.create_task(listen(http, url)) for url in urls]
        await ended(server)
        for task in tasks:
            task.cancel()
    for symbol in {json.loads(raw)["data"]["s"] for raw in log}:
        mine = [raw for raw in log if f'"s":"{symbol}"' in raw]
        assert mine == [
            raw
            for raw in recorded.frames(*(f'"stream":"{name}"' for name in streams))
            if f'"s":"{symbol}"' in raw
        ]


async def test_every_client_gets_every_frame_and_start_after_waits_for_all() -> None:
    """With two clients to wait for, both receive the whole recording."""
    recorded = recording("binance", "cf_20210814_spot.jsonl")
    url = "/stream?streams=" + "/".join(recorded.streams())
    async with serving(recorded, start_after=2) as server, Listener(server.urls.ws + url) as one:
        assert server.frames_sent == 0
        async with Listener(server.urls.ws + url) as two:
            await ended(server)
            await one.until(lambda: len(one.messages) == len(recorded.frames()))
            await two.until(lambda: len(two.messages) == len(recorded.frames()))
            assert one.messages == two.messages == recorded.frames()
            assert server.frames_sent == 2 * len(recorded.frames())


async def test_after_the_end_a_client_is_only_acknowledged() -> None:
    """Without loop a client that comes after the end gets its acknowledgement and no frame."""
    recorded = recording("binance", "cf_20210814_spot.jsonl")
    request = binance_subscribe("xmrbtc@aggTrade")
    async with serving(recorded) as server:
        async with Listener(server.urls.ws + "/ws", request):
            await ended(server)
        sent = server.frames_sent
        async with Listener(
            server.urls.ws + "/ws", request, {"method": "LIST_SUBSCRIPTIONS", "id": 2}
        ) as late:
            await late.until(lambda: len(late.messages) == 2)
            assert late.messages == [
                '{"result":null,"id":1}',
                '{"result":["xmrbtc@aggTrade"],"id":2}',
            ]
            assert server.frames_sent == sent


async def test_loop_plays_again_for_the_next_client() -> None:
    """With loop a client that comes after the end gets the whole recording, snapshots included."""
    recorded = recording("binance", "cf_20210814_spot.jsonl")
    expected = recorded.frames('"stream":"xmrbtc@depth@100ms"')
    url = "/ws/xmrbtc@depth@100ms"
    async with serving(recorded, loop=True) as server, aiohttp.ClientSession() as http:
        for _ in range(2):
            async with Listener(server.urls.ws + url) as client:
                async with http.get(f"{server.urls.rest}/api/v3/depth?symbol=XMRBTC") as answer:
                    assert answer.status == 200
                await client.until(lambda: len(client.messages) == len(expected))
                await ended(server)
                assert client.messages == expected


async def test_recorded_pace_scaled_by_speed(tmp_path: Path) -> None:
    """At speed 10 a stretch of the recording takes a tenth of its time: never less, and not much
    more.
    """
    recorded = head(recording("binance", "hft_20240808_spot_btcusdt.jsonl"), 800, tmp_path)
    received = [float(x["ts"]) for x in recorded.lines if x["kind"] == "recv"]
    arrivals: list[float] = []

    async def listen(http: aiohttp.ClientSession, url: str) -> None:
        async with http.ws_connect(url) as socket:
            async for _ in socket:
                arrivals.append(asyncio.get_running_loop().time())

    async with serving(recorded, "binance", speed=10.0) as server, aiohttp.ClientSession() as http:
        streams = "btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade"
        listening = asyncio.create_task(listen(http, server.urls.ws + "/stream?streams=" + streams))
        await ended(server)
        listening.cancel()
    span = (max(received) - received[0]) / 10
    assert span > 0.3, "the stretch is too short to tell a pace"
    early_s = 0.005
    due = [arrivals[0] + (ts - received[0]) / 10 for ts in received]
    assert all(arrived >= at - early_s for arrived, at in zip(arrivals, due, strict=True))
    assert arrivals[-1] - arrivals[0] < span * 1.25 + 0.25


async def test_events_tell_what_happened() -> None:
    """Listening, connected, subscribed, end with its figures, gone: in that order."""
    recorded = recording("binance", "cf_20210814_spot.jsonl")
    events: list[ReplayEvent] = []
    gone = asyncio.Event()

    def note(event: ReplayEvent) -> None:
        events.append(event)
        if isinstance(event, Client) and event.action == "gone":
            gone.set()

    async with serving(recorded, on_event=note) as server:
        async with Listener(
            server.urls.ws + "/ws", binance_subscribe("xmrbtc@aggTrade", "xmrbtc@depth")
        ):
            await ended(server)
        async with asyncio.timeout(PATIENCE_S):
            await gone.wait()
        told = [
            event.action if isinstance(event, Client) else type(event).__name__ for event in events
        ]
        assert told == ["Listening", "connected", "subscribed", "End", "gone"]
        (end,) = (event for event in events if isinstance(event, End))
        wanted = recorded.frames('"stream":"xmrbtc@aggTrade"', '"stream":"xmrbtc@depth')
        assert end.frames_sent == server.frames_sent == len(wanted)
        assert [event.streams for event in events if isinstance(event, Client)] == [0, 2, 0]
