"""Access tokens for a venue that asks for one: fetched, kept in a file for all processes of the
host, renewed.

The shell around `feeder.login.token`: one HTTP request, one file (mode 0600) and its lock.
Whoever holds the lock asks the venue; the others then find the token in the file. Keys and
tokens never reach a log, a message or an exception.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path

import aiohttp
import msgspec

from tapecast.feeder.login.token import Fetch, TokenMachine, TokenPolicy, TokenState, Use, Wait
from tapecast.feeder.venues.spec import Login, VenueSpec
from tapecast.runtime import logs, secrets
from tapecast.runtime.errors import ConfigError
from tapecast.runtime.secrets import Secret
from tapecast.runtime.settings import Config

__all__ = ["LoginClient", "MissingKeysError", "client_of", "with_keys"]

_TIMEOUT_S = 10.0
_MAX_BODY = 64 << 10
_REFUSED = frozenset({400, 401, 403})
_LOCK_POLL_S = 0.1
_ASLEEP_S = 30.0
"""Another process may have a token meanwhile."""

log = logs.get("feeder.login.client")


class MissingKeysError(ConfigError):
    """A venue's keys are not there; the message says how to provide them."""


class _Stored(msgspec.Struct):
    owner: str
    state: TokenState


def with_keys(specs: Iterable[VenueSpec]) -> list[VenueSpec]:
    """Return the venues that need no keys or have them; others are told of. Raises
    MissingKeysError if none is left.
    """
    ready: list[VenueSpec] = []
    problems: list[str] = []
    for spec in specs:
        try:
            if spec.login is not None:
                _keys(spec.name, spec.login)
            ready.append(spec)
        except MissingKeysError as error:
            problems += error.problems
    if problems and not ready:
        raise MissingKeysError(problems)
    for problem in problems:
        log.warning("venue_left_out", reason=problem)
    return ready


def client_of(spec: VenueSpec, config: Config, *, replay: bool = False) -> LoginClient | None:
    """Return the login of a venue, None where it has none. Raises MissingKeysError; a replay
    server takes any keys.
    """
    if spec.login is None:
        return None
    keys = [Secret("replay")] * len(spec.login.secrets) if replay else _keys(spec.name, spec.login)
    base_url = config.venues[spec.name].endpoints[spec.login.endpoint]
    return LoginClient(
        spec.name, spec.login, keys, base_url=base_url, folder=Path(config.feeder.state_dir)
    )


def _keys(venue: str, login: Login) -> list[Secret]:
    found = {name: secrets.find(name) for name in login.secrets}
    missing = [secrets.describe(name) for name, secret in found.items() if secret is None]
    if missing:
        raise MissingKeysError([f"venue {venue} needs keys: set {' and '.join(missing)}"])
    return [secret for secret in found.values() if secret is not None]


class LoginClient:
    """The token of one venue. `base_url` is its REST endpoint, `folder` where processes share
    the token.
    """

    def __init__(
        self,
        venue: str,
        login: Login,
        keys: Sequence[Secret],
        *,
        base_url: str,
        folder: Path,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.login = login
        self._venue = venue
        self._keys = keys
        self._url = base_url.rstrip("/") + login.path
        self._path = folder / f"login-{venue}.json"
        self._clock_ns = clock_ns
        self._owner = blake2b(
            "\0".join([base_url, *(key.reveal() for key in keys)]).encode(), digest_size=16
        ).hexdigest()
        self._machine = TokenMachine(TokenPolicy(int(login.margin_s * 1e9), login.renew_at_s))
        self._turn = asyncio.Lock()

    async def token(self) -> str:
        """Return a token that is good now; waits as long as the venue gives none."""
        while True:
            async with self._turn:
                decision = self._machine.decide(self._clock_ns())
                if not isinstance(decision, Use):
                    decision = await self._renew()
            if isinstance(decision, Use):
                return decision.token
            if isinstance(decision, Wait):
                pause_s = min(max(0.0, (decision.until_ns - self._clock_ns()) / 1e9), _ASLEEP_S)
                await asyncio.sleep(pause_s)

    def outdated(self, token: str) -> bool:
        """Whether there is a newer token than this one, or could be."""
        return self._machine.outdated(token, self._clock_ns())

    def rejected(self, token: str) -> None:
        """Note that the venue does not accept a token; the next `token()` brings another."""
        log.warning("token_rejected", venue=self._venue)
        self._machine.rejected(token, self._clock_ns())

    def accepted(self, token: str) -> None:
        """Note that data came under a token."""
        self._machine.accepted(token)

    async def _renew(self) -> Use | Fetch | Wait:
        """Look what the other processes have; ask the venue where that is not enough. Returns
        what holds then.
        """
        async with self._locked():
            now_ns = self._clock_ns()
            self._machine.load(self._read(), now_ns)
            decision = self._machine.decide(now_ns)
            if isinstance(decision, Fetch):
                await self._fetch()
                decision = self._machine.decide(self._clock_ns())
            self._write()
        return decision

    async def _fetch(self) -> None:
        problem, refused = "", False
        try:
            form = self.login.form([key.reveal() for key in self._keys])
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
            async with (
                aiohttp.ClientSession(
                    timeout=timeout, headers={"User-Agent": "tapecast"}
                ) as session,
                session.post(self._url, data=dict(form), allow_redirects=False) as response,
            ):
                body = await response.content.read(_MAX_BODY)
                if response.status == 200:
                    tokens = self.login.parse(body)
                    self._machine.issued(tokens.access_token, tokens.expires_in_s, self._clock_ns())
                    log.info("token_renewed", venue=self._venue, expires_in_s=tokens.expires_in_s)
                    return
                problem, refused = f"HTTP {response.status}", response.status in _REFUSED
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = type(error).__name__  # its text may quote what was sent
        except ValueError as error:
            problem = str(error)
        now_ns = self._clock_ns()
        self._machine.failed(now_ns, refused=refused)
        retry_s = round((self._machine.state.not_before_ns - now_ns) / 1e9)
        log.error("token_failed", venue=self._venue, url=self._url, error=problem, retry_s=retry_s)

    # the file that the processes share

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(
            self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            while not _take(file):  # noqa: ASYNC110 - nobody tells that it changed
                await asyncio.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(file)

    def _read(self) -> TokenState:
        """Return what is stored under the same keys; nothing where the file is damaged, or
        others could have read it.
        """
        try:
            if self._path.stat().st_mode & 0o077:
                log.warning(
                    "token_file_ignored",
                    venue=self._venue,
                    file=str(self._path),
                    reason="others may read it",
                )
                return TokenState()
            stored = msgspec.json.decode(self._path.read_bytes(), type=_Stored)
        except FileNotFoundError:
            return TokenState()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            log.warning(
                "token_file_ignored",
                venue=self._venue,
                file=str(self._path),
                reason="not readable",
            )
            return TokenState()
        return stored.state if stored.owner == self._owner else TokenState()

    def _write(self) -> None:
        partial = self._path.with_suffix(".new")
        partial.unlink(missing_ok=True)
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as out:
            out.write(msgspec.json.encode(_Stored(self._owner, self._machine.state)))
        partial.replace(self._path)


def _take(file: int) -> bool:
    """Try to lock a file; it is free again when it is closed, or when this process ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
