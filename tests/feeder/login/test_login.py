"""Logins over HTTP: one token for all processes of the host, in a file that nobody else reads;
refusals; nothing secret told.
"""

from __future__ import annotations

import asyncio
import io
import json
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from tapecast.feeder.login.client import LoginClient, MissingKeysError, client_of, with_keys
from tapecast.feeder.venues import venue
from tapecast.feeder.venues.ls import LOGIN
from tapecast.runtime import config as configuration
from tapecast.runtime import logs
from tapecast.runtime.errors import ExitCode
from tapecast.runtime.secrets import Secret
from tests.support.processes import free_port
from tests.support.venue_server import eventually

SECOND = 1_000_000_000
NOON = 20_000 * 86_400 * SECOND
KEYS = ("app-key-of-a-test", "app-secret-of-a-test")


class Venue:
    """A token endpoint that answers by a script, the last answer for ever, and keeps what it was
    asked.
    """

    def __init__(self, *answers: tuple[int, object]) -> None:
        """Answers are statuses with what is in the body; without any, tokens of a day are given,
        each another one.
        """
        self.answers = list(answers)
        self.forms: list[dict[str, str]] = []
        self.types: list[str] = []
        self.base = ""

    async def __aenter__(self) -> Venue:
        """Listen."""
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        assert (request.method, request.path) == ("POST", "/oauth2/token")
        self.types.append(request.content_type)
        self.forms.append(dict(parse_qsl((await request.read()).decode())))
        body: object = {
            "access_token": f"token-{len(self.forms)}",
            "expires_in": 86400,
            "token_type": "Bearer",
            "scope": "oob",
        }
        status = 200
        if self.answers:
            status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(
            status=status, body=json.dumps(body).encode() if not isinstance(body, bytes) else body
        )


@pytest.fixture
def told() -> io.StringIO:
    """Everything that is logged during a test."""
    stream = io.StringIO()
    logs.configure("debug", "json", stream=stream)
    return stream


@pytest.fixture
def login(tmp_path: Path, told: io.StringIO) -> Callable[..., LoginClient]:
    """Return a function that makes the login of one more process at a base URL."""

    def make(
        base: str, keys: tuple[str, str] = KEYS, *, clock_ns: Callable[[], int] = lambda: NOON
    ) -> LoginClient:
        return LoginClient(
            "ls",
            LOGIN,
            [Secret(key) for key in keys],
            base_url=base,
            folder=tmp_path / "state",
            clock_ns=clock_ns,
        )

    return make


def stored(tmp_path: Path) -> Path:
    """Return the file that the processes share."""
    return tmp_path / "state" / "login-ls.json"


async def test_a_token_is_asked_for_as_documented(
    login: Callable[..., LoginClient], tmp_path: Path
) -> None:
    """A form with both keys; kept in a file of mode 0600; the second use asks nobody."""
    async with Venue() as server:
        one = login(server.base)
        assert [await one.token(), await one.token()] == ["token-1", "token-1"]
    form = {
        "grant_type": "client_credentials",
        "appkey": KEYS[0],
        "appsecretkey": KEYS[1],
        "scope": "oob",
    }
    assert server.forms == [form]
    assert server.types == ["application/x-www-form-urlencoded"]
    for file in stored(tmp_path).parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_processes_share_one_token(login: Callable[..., LoginClient]) -> None:
    """Ten at once cost one request, also after one of them was refused: the others find the new
    token in the file.
    """
    async with Venue() as server:
        fleet = [login(server.base) for _ in range(10)]
        assert set(await asyncio.gather(*(one.token() for one in fleet))) == {"token-1"}
        for one in fleet:
            one.rejected("token-1")
        assert set(await asyncio.gather(*(one.token() for one in fleet))) == {"token-2"}
        assert await login(server.base).token() == "token-2", "so does one that starts later"
    assert len(server.forms) == 2


async def test_another_key_or_server_has_another_token(login: Callable[..., LoginClient]) -> None:
    """What is stored belongs to the keys and the server that it was got with."""
    async with Venue() as server:
        assert await login(server.base).token() == "token-1"
        assert await login(server.base, ("other", "keys")).token() == "token-2"


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"owner":1}', b"\xff\xfe", b'{"owner":"x","state":{"token":5}}']
)
async def test_a_damaged_file_is_as_none(
    login: Callable[..., LoginClient], tmp_path: Path, damage: bytes
) -> None:
    """A new token is got, and the file is mended."""
    async with Venue() as server:
        await login(server.base).token()
        stored(tmp_path).write_bytes(damage)
        assert await login(server.base).token() == "token-2"
        assert await login(server.base).token() == "token-2"


async def test_a_file_that_others_may_read_is_not_used(
    login: Callable[..., LoginClient], tmp_path: Path
) -> None:
    """Whoever could read it may have the token; the new one is stored for this user alone."""
    async with Venue() as server:
        await login(server.base).token()
        stored(tmp_path).chmod(0o644)
        assert await login(server.base).token() == "token-2"
    assert stat.S_IMODE(stored(tmp_path).stat().st_mode) == 0o600


async def test_a_token_that_ends_is_renewed(login: Callable[..., LoginClient]) -> None:
    """By the venue's term, on a clock that is given."""
    now = [NOON]
    async with Venue(
        (200, {"access_token": "short", "expires_in": "60"}),
        (200, {"access_token": "next", "expire_in": 60}),
    ) as server:
        one = login(server.base, clock_ns=lambda: now[0])
        assert await one.token() == "short"
        now[0] += 31 * SECOND
        assert await one.token() == "next"


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"not JSON"),
        (200, {"access_token": "", "expires_in": 60}),
        (200, {"access_token": "x"}),
        (200, {"access_token": "x", "expires_in": 0}),
        (401, {"error_description": KEYS[1]}),
        (403, {}),
        (500, {"rsp_cd": "IGW00103"}),
        (302, {}),
    ],
)
async def test_what_is_no_token_is_a_failure(
    login: Callable[..., LoginClient], told: io.StringIO, answer: tuple[int, object]
) -> None:
    """It is told without the keys or the body, and the venue is asked again only after the
    pause, by every process.
    """
    now = [NOON]
    async with Venue(answer) as server:
        one = login(server.base, clock_ns=lambda: now[0])
        waiting = asyncio.create_task(one.token())
        await eventually(lambda: "token_failed" in told.getvalue())
        another = login(server.base, clock_ns=lambda: now[0])
        also = asyncio.create_task(another.token())
        await eventually(lambda: another._machine.state.not_before_ns > NOON)
        assert len(server.forms) == 1
        assert not waiting.done()
        for task in (waiting, also):
            task.cancel()
        await asyncio.gather(waiting, also, return_exceptions=True)
    for secret in (*KEYS, "IGW00103"):
        assert secret not in told.getvalue()


async def test_an_unreachable_server_is_a_failure(
    login: Callable[..., LoginClient], told: io.StringIO
) -> None:
    """And the feed waits instead of ending."""
    waiting = asyncio.create_task(login(f"http://127.0.0.1:{free_port()}").token())
    await eventually(lambda: "token_failed" in told.getvalue())
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert KEYS[1] not in told.getvalue()


async def test_nothing_secret_is_told(login: Callable[..., LoginClient], told: io.StringIO) -> None:
    """A renewal and a refusal are logged without key and token, and the client does not show
    them either.
    """
    async with Venue() as server:
        one = login(server.base)
        one.rejected(await one.token())
        await one.token()
    assert "token_renewed" in told.getvalue()
    for secret in (*KEYS, "token-1", "token-2"):
        assert secret not in told.getvalue() + repr(one) + repr(vars(one))


def test_a_venue_without_keys_is_left_out(
    monkeypatch: pytest.MonkeyPatch, told: io.StringIO
) -> None:
    """The others are unaffected; alone it is an error of the configuration that names what to
    set.
    """
    for name in ("TAPECAST_LS_APPKEY", "TAPECAST_LS_APPSECRET", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    assert [spec.name for spec in with_keys([venue("ls"), venue("upbit")])] == ["upbit"]
    assert "venue ls needs keys" in told.getvalue()
    with pytest.raises(MissingKeysError, match=r"\$TAPECAST_LS_APPSECRET") as caught:
        with_keys([venue("ls")])
    assert caught.value.exit_code == ExitCode.USAGE
    config = configuration.load(environ={})
    assert client_of(venue("upbit"), config) is None
    with pytest.raises(MissingKeysError):
        client_of(venue("ls"), config)
    assert client_of(venue("ls"), config, replay=True) is not None
    monkeypatch.setenv("TAPECAST_LS_APPKEY", "a")
    monkeypatch.setenv("TAPECAST_LS_APPSECRET", "b")
    assert [spec.name for spec in with_keys([venue("ls")])] == ["ls"]
