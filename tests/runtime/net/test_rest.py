"""REST of a venue: what it asks for is obeyed, what it does wrong becomes an error text, and
nothing is ever raised.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tapecast.runtime.net import rest
from tapecast.runtime.net.request import RestRequest
from tapecast.runtime.net.rest import RestClient
from tests.support.processes import free_port
from tests.support.venue_server import Answer, Asked, VenueServer, eventually

BOOK = RestRequest("rest", "/api/v3/depth", (("symbol", "BTCUSDT"), ("limit", "5000")), weight=250)
TIME = RestRequest("rest", "/api/v3/time")
GOOD = Answer(body=b'{"serverTime":1499827319559}')
"""As documented for Binance's `GET /api/v3/time`."""


class Script:
    """Answers from a list, one after the other, the last for ever."""

    def __init__(self, *answers: Answer) -> None:
        """Take the answers."""
        self.answers = list(answers)

    def __call__(self, _: Asked) -> Answer:
        """Return the next answer."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
async def client() -> AsyncIterator[Callable[..., RestClient]]:
    """Return a function that makes a client of a base URL."""
    made: list[RestClient] = []

    def make(
        base: str, *, weight: float = 6000, window_s: float = 60, timeout_s: float = 5.0
    ) -> RestClient:
        made.append(
            RestClient({"rest": base}, weight=weight, window_s=window_s, timeout_s=timeout_s)
        )
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_a_body_comes_with_its_time_and_url(client: Callable[..., RestClient]) -> None:
    """Path and query are the request's; the body is what the venue sent, untouched."""
    async with VenueServer(rest=Script(GOOD)).running() as server:
        before_ns = time.time_ns()
        answer = await client(server.http + "/").get(BOOK)
        assert (answer.body, answer.error) == (GOOD.body, "")
        assert before_ns <= answer.ts_recv_ns <= time.time_ns()
        assert answer.url == f"{server.http}/api/v3/depth?symbol=BTCUSDT&limit=5000"
        assert [(asked.path, asked.query) for asked in server.asked] == [
            (BOOK.path, dict(BOOK.query))
        ]


class Signing:
    """A login that signs the whole request, as order management does."""

    def __init__(self) -> None:
        """Begin with a good key."""
        self.given_up: list[str] = []

    async def token(self) -> str:
        """Return the key."""
        return "key-1"

    def authorized(self, request: RestRequest, token: str) -> RestRequest:
        """Return the request with a signature in query and headers."""
        return request._replace(
            query=(*request.query, ("signature", f"{request.method}{request.path}")),
            headers=(("X-KEY", token),),
        )

    def refused(self, token: str, answer: str) -> bool:
        """Return whether the answer says so."""
        if "bad key" not in answer:
            return False
        self.given_up.append(token)
        return True


async def test_a_login_signs_the_whole_request_and_learns_of_a_refusal() -> None:
    """Any method; what leaves is what the login made of the request, and a refusal inside an
    answer of status 200 is an error.
    """
    access = Signing()
    answers = Script(GOOD, Answer(body=b'{"code":"bad key"}'))
    async with VenueServer(rest=answers).running() as server:
        ours = RestClient({"rest": server.http}, weight=100, window_s=1, access=access)
        cancel = RestRequest("rest", "/api/v3/order", (("orderId", "7"),), method="DELETE")
        assert (await ours.get(cancel)).error == ""
        assert access.given_up == []
        refused = await ours.get(TIME)
        await ours.close()
        assert (refused.body, access.given_up) == (b"", ["key-1"])
        assert "bad key" in refused.error
        first, second = server.asked
        assert (first.method, first.headers["X-KEY"]) == ("DELETE", "key-1")
        assert first.query == {"orderId": "7", "signature": "DELETE/api/v3/order"}
        assert second.method == "GET"


@pytest.mark.parametrize("status", [429, 418, 403, 503])
async def test_retry_after_is_obeyed(status: int, client: Callable[..., RestClient]) -> None:
    """No request leaves before the time the venue named, however many wait."""
    async with VenueServer(
        rest=Script(Answer(status, headers={"Retry-After": "1"}), GOOD)
    ).running() as server:
        ours = client(server.http)
        refused = await ours.get(TIME)
        assert refused.error.startswith(f"HTTP {status}")
        answers = await asyncio.gather(*(ours.get(TIME) for _ in range(5)))
        assert [answer.error for answer in answers] == [""] * 5
        first, second = server.asked[0].at_s, server.asked[1].at_s
        assert second - first >= 1.0
        assert ours.refused == 1


@pytest.mark.parametrize("status", [429, 418, 403])
@pytest.mark.parametrize(
    "words",
    [
        {},
        {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"},
        {"Retry-After": "-5"},
        {"Retry-After": ""},
    ],
)
async def test_a_refusal_without_a_usable_time_has_a_default_one(
    status: int,
    words: dict[str, str],
    client: Callable[..., RestClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A ban whose length is not told, or not in seconds, is given a length; 418 a longer one
    than 429.
    """
    assert rest._DEFAULT_PAUSE_S[429] < rest._DEFAULT_PAUSE_S[403] < rest._DEFAULT_PAUSE_S[418]
    monkeypatch.setitem(rest._DEFAULT_PAUSE_S, status, 0.3)
    async with VenueServer(rest=Script(Answer(status, headers=words), GOOD)).running() as server:
        ours = client(server.http)
        await ours.get(TIME)
        assert (await ours.get(TIME)).error == ""
        assert server.asked[1].at_s - server.asked[0].at_s >= 0.3


async def test_a_ban_never_shrinks(client: Callable[..., RestClient]) -> None:
    """Answers to requests that were under way when the ban came do not shorten it."""
    script = Script(
        Answer(429, headers={"Retry-After": "2"}),
        Answer(429, headers={"Retry-After": "1"}, wait_s=0.1),
        GOOD,
    )
    async with VenueServer(rest=script).running() as server:
        ours = client(server.http)
        await asyncio.gather(ours.get(TIME), ours.get(TIME))
        await ours.get(TIME)
        assert server.asked[2].at_s - server.asked[0].at_s >= 2.0


async def test_a_ban_holds_for_those_who_wait_for_weight(client: Callable[..., RestClient]) -> None:
    """A request that was waiting for its weight when the ban came waits for the end of the ban."""
    script = Script(Answer(429, headers={"Retry-After": "1"}, wait_s=0.1), GOOD)
    async with VenueServer(rest=script).running() as server:
        ours = client(server.http, weight=4, window_s=1.0)
        await asyncio.gather(ours.get(TIME), ours.get(TIME))
        assert server.asked[1].at_s - server.asked[0].at_s >= 1.1


async def test_requests_stay_within_the_weight(client: Callable[..., RestClient]) -> None:
    """A quarter of the window's weight may go out at once, the rest at its rate; a request
    heavier than that is not stuck.
    """
    async with VenueServer(rest=Script(GOOD)).running() as server:
        ours = client(server.http, weight=40, window_s=2.0)
        await asyncio.gather(*(ours.get(TIME) for _ in range(20)))
        times = [asked.at_s for asked in server.asked]
        assert times[9] - times[0] < 0.25
        assert times[19] - times[0] >= 0.45
        await ours.get(BOOK)


@pytest.mark.parametrize("status", [400, 404, 500, 502])
async def test_other_refusals_pause_nothing(status: int, client: Callable[..., RestClient]) -> None:
    """An error of one request is told with the venue's words and leaves the others alone."""
    async with VenueServer(
        rest=Script(Answer(status, body=b'{"code":-1121,"msg":"Invalid symbol."}'), GOOD)
    ).running() as server:
        ours = client(server.http)
        answer = await ours.get(TIME)
        assert answer.error.startswith(f"HTTP {status}")
        assert "Invalid symbol" in answer.error
        assert (await ours.get(TIME)).error == ""
        assert server.asked[1].at_s - server.asked[0].at_s < 0.5


async def test_a_venue_that_does_not_answer_times_out(client: Callable[..., RestClient]) -> None:
    """A request has a deadline, and the next one is not held up by it."""
    async with VenueServer(rest=Script(Answer(wait_s=30.0), GOOD)).running() as server:
        ours = client(server.http, timeout_s=0.2)
        slow = asyncio.create_task(ours.get(TIME))
        await eventually(lambda: len(server.asked) == 1)
        assert (await ours.get(TIME)).error == ""
        assert "Timeout" in (await slow).error


@pytest.mark.parametrize("status", [200, 500])
async def test_a_body_without_end_is_given_up(
    status: int, client: Callable[..., RestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is larger than the limit is not collected, whatever its status."""
    monkeypatch.setattr(rest, "_MAX_BODY", 1 << 20)
    async with VenueServer(
        rest=Script(Answer(status, body=bytes(3 << 20)), GOOD)
    ).running() as server:
        ours = client(server.http)
        answer = await ours.get(TIME)
        assert answer.body == b""
        assert "larger than" in answer.error
        assert (await ours.get(TIME)).error == ""


async def test_no_failure_of_the_network_is_raised(client: Callable[..., RestClient]) -> None:
    """A closed port, a name that does not exist, a connection cut in the middle, words that are
    not HTTP: error texts all.
    """

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        writer.close()

    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x01\x02 this is not HTTP\r\n\r\n")
        writer.close()

    bases = [f"http://127.0.0.1:{free_port()}", "http://venue.invalid"]
    servers = [await asyncio.start_server(handler, "127.0.0.1", 0) for handler in (cut, babble)]
    bases += [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    for base in bases:
        answer = await client(base, timeout_s=3.0).get(TIME)
        assert answer.error, base
        assert answer.body == b""
    for server in servers:
        server.close()
