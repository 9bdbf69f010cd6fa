"""The WebSocket of a venue connection: whole messages in, whatever their pieces; bounded; every
end has a reason.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from picows import WSError

from tapecast.feeder.connections import transport
from tapecast.feeder.connections.transport import Handlers, Socket, connect
from tests.support.venue_server import Link, VenueServer, eventually

Script = Callable[[Link], Awaitable[None]]


class Heard:
    """What a connection delivered."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.messages: list[bytes] = []
        self.batches = 0
        self.opened = False

    def open(self, _: Socket) -> None:
        """Note the beginning, which comes before any message."""
        assert not self.messages
        self.opened = True

    def batch(self) -> None:
        """Count a batch."""
        self.batches += 1

    @property
    def handlers(self) -> Handlers:
        """What to give to `connect`."""
        return Handlers(self.open, self.messages.append, self.batch)


async def ended(connection: Socket) -> str:
    """Return the reason for the end of a connection."""
    async with asyncio.timeout(5.0):
        return str(await connection.closed)


async def test_text_binary_and_fragments_are_messages() -> None:
    """A message is delivered once it is complete, as bytes, whichever opcode it has and in
    however many frames it comes.
    """

    async def script(link: Link) -> None:
        await link.send("text")
        await link.send(b"binary")
        await link.send(["frag", "men", "ted"])
        await link.ping()
        await link.send([b"in ", b"", b"pieces"])
        await link.send(b"\xff\xfe not UTF-8", text=True)

    heard = Heard()
    async with VenueServer(script).running() as server:
        connection = await connect(server.ws, heard.handlers, 5.0)
        await eventually(lambda: len(heard.messages) == 5)
        connection.close("done")
        assert await ended(connection) == "done"
    assert heard.messages == [
        b"text",
        b"binary",
        b"fragmented",
        b"in pieces",
        b"\xff\xfe not UTF-8",
    ]
    assert heard.batches > 0
    assert heard.opened


async def test_opcodes_and_what_was_sent_can_be_known() -> None:
    """A tap hears before each message whether it was binary, also of one in pieces, and what was
    sent while it was open.
    """

    async def script(link: Link) -> None:
        await link.send(b"binary")
        await link.send("text")
        await link.send([b"in ", b"pieces"])
        await link.send(["frag", "ments"])

    heard: list[bytes] = []

    class Tap:
        """Keeps what it hears."""

        def __init__(self) -> None:
            """Start with nothing."""
            self.opcodes: list[bool] = []
            self.requests: list[bytes] = []

        def receiving(self, binary: bool) -> None:
            """Keep the opcode."""
            self.opcodes.append(binary)

        def sent(self, data: bytes) -> None:
            """Keep the request."""
            self.requests.append(data)

    tap = Tap()
    handlers = Handlers(lambda _: None, heard.append, lambda: None, tap)
    server = VenueServer(script)
    async with server.running():
        connection = await connect(server.ws, handlers, 5.0)
        connection.send(b"subscribe")
        await eventually(lambda: len(heard) == 4 and server.heard)
        connection.close("done")
        await ended(connection)
        connection.send(b"too late")
    assert heard == [b"binary", b"text", b"in pieces", b"fragments"]
    assert tap.opcodes == [True, False, True, False]
    assert tap.requests == server.heard == [b"subscribe"]


async def test_a_snapshot_of_several_megabytes_passes() -> None:
    """Legal snapshots are large: 8 MiB in one frame and in many arrive whole."""
    body = bytes(range(256)) * (8 << 12)

    async def script(link: Link) -> None:
        await link.send(body)
        await link.send([body[start : start + 65_536] for start in range(0, len(body), 65_536)])

    heard = Heard()
    async with VenueServer(script).running() as server:
        connection = await connect(server.ws, heard.handlers, 5.0)
        await eventually(lambda: len(heard.messages) == 2)
        connection.close("done")
        await ended(connection)
    assert heard.messages == [body, body]


@pytest.mark.parametrize("pieces", [1, 1000])
async def test_a_message_without_end_ends_the_connection(
    pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is larger than the limit is not collected: the connection ends, and nothing is
    delivered.
    """
    monkeypatch.setattr(transport, "MAX_FRAME", 1 << 20)
    size = (2 << 20) // pieces

    async def script(link: Link) -> None:
        await link.send([bytes(size)] * pieces)

    heard = Heard()
    async with VenueServer(script).running() as server:
        connection = await connect(server.ws, heard.handlers, 5.0)
        await ended(connection)
    assert heard.messages == []


async def test_fragments_without_a_beginning_end_the_connection() -> None:
    """A continuation of nothing is not a message."""

    async def script(link: Link) -> None:
        link.transport.write(bytes((0x80, 4)) + b"tail")

    heard = Heard()
    async with VenueServer(script).running() as server:
        connection = await connect(server.ws, heard.handlers, 5.0)
        assert await ended(connection) == "fragments out of order"
    assert heard.messages == []


@pytest.mark.parametrize(
    ("code", "text"), [(1000, ""), (1012, "restart"), (4001, "slow consumer"), (3000, "x" * 120)]
)
async def test_a_close_by_the_venue_is_told_with_its_code(code: int, text: str) -> None:
    """The venue's code and words are the reason, registered codes or not."""

    async def script(link: Link) -> None:
        await link.close(code, text)

    async with VenueServer(script).running() as server:
        connection = await connect(server.ws, Heard().handlers, 5.0)
        reason = await ended(connection)
    assert str(code) in reason
    assert text in reason


async def test_a_connection_cut_off_ends() -> None:
    """A TCP connection that just ends is an end like any other."""

    async def script(link: Link) -> None:
        link.transport.abort()

    async with VenueServer(script).running() as server:
        connection = await connect(server.ws, Heard().handlers, 5.0)
        assert await ended(connection) == "connection lost"


async def test_a_failing_handler_does_not_lose_the_end() -> None:
    """An exception in a handler ends the connection, and whoever waits for the end is woken."""

    def fail(_: bytes) -> None:
        raise RuntimeError("defect")

    async def script(link: Link) -> None:
        await link.send("text")

    async with VenueServer(script).running() as server:
        connection = await connect(server.ws, Handlers(lambda _: None, fail, lambda: None), 5.0)
        await ended(connection)


async def test_a_server_that_does_not_answer_the_handshake_times_out() -> None:
    """The handshake has a deadline."""

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5.0)
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    with pytest.raises((TimeoutError, WSError)):
        await connect(f"ws://127.0.0.1:{port}", Heard().handlers, 0.2)
    listener.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"not HTTP at all\r\n\r\n",
        b"\x00\xff\x16\x03\x01" * 50 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"",
    ],
)
async def test_a_handshake_that_is_none_is_an_error_of_the_known_kinds(answer: bytes) -> None:
    """Whatever a server says instead of a handshake, it is OSError, TimeoutError or WSError."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    listener = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    with pytest.raises((OSError, TimeoutError, WSError)):
        await connect(f"ws://127.0.0.1:{port}", Heard().handlers, 2.0)
    listener.close()


async def test_a_name_that_does_not_resolve_is_reached_at_its_last_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS fails after it has worked once: the address that answered last is tried; one that
    never answered is an error.
    """
    server = VenueServer()
    async with server.running():
        url = server.ws.replace("127.0.0.1", "localhost")
        first = await connect(url, Handlers(lambda _: None, lambda _: None, lambda: None), 5.0)
        first.close("done")

        def fail(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        second = await connect(url, Handlers(lambda _: None, lambda _: None, lambda: None), 5.0)
        assert second.peer is not None
        assert second.peer[0] == "127.0.0.1"
        second.close("done")
        with pytest.raises(socket.gaierror):
            await connect(
                "ws://never.invalid:9", Handlers(lambda _: None, lambda _: None, lambda: None), 5.0
            )
