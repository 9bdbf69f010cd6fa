"""REST shell: order books and instruments of one venue, one request after another within its weight, on aiohttp.

429, 418 and 403 are obeyed: nothing is asked before the time the venue names (or a default), and that time never shrinks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from feeder.access import Access
from feeder.venue import RestRequest

__all__ = ["RestAnswer", "RestClient"]

_DEFAULT_PAUSE_S = {429: 10.0, 418: 120.0, 403: 60.0}
_LONGEST_PAUSE_S = 3 * 86_400.0
_MAX_BODY = 64 << 20
_JSON = (("Content-Type", "application/json; charset=utf-8"),)


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """The outcome of a request: `body` on success, otherwise `error` names what happened."""

    body: bytes
    ts_recv_ns: int
    error: str = ""
    url: str = ""


class RestClient:
    """Requests of one venue.

    `bases` maps endpoint names to base URLs; `weight` per `window_s` is what the venue grants this host; `access`: its login.
    """

    def __init__(
        self,
        bases: Mapping[str, str],
        *,
        weight: float,
        window_s: float,
        timeout_s: float = 10.0,
        access: Access | None = None,
    ) -> None:
        self._bases = bases
        self._access = access or Access()
        self._rate = weight / window_s
        self._burst = max(weight / 4.0, 1.0)
        self._tokens = self._burst
        self._filled = time.monotonic()
        self._blocked_until = 0.0
        self._turn = asyncio.Lock()
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self.requests = 0
        self.refused = 0

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def get(self, request: RestRequest) -> RestAnswer:
        """Fetch; waits for token, turn, weight, and the end of a ban. Never raises for what the venue or network does."""
        token = await self._access.token()
        async with self._turn:
            await self._afford(request.weight)
        url = self._bases[request.endpoint].rstrip("/") + request.path
        self.requests += 1
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, headers={"User-Agent": "tapecast"})
        try:
            method, data = ("POST", request.body) if request.body else ("GET", None)
            headers = dict((*request.headers, *self._access.headers(token), *(_JSON if request.body else ())))
            async with self._session.request(method, url, params=dict(request.query), data=data, headers=headers) as response:
                if response.status != 200:
                    self._refuse(response.status, response.headers.get("Retry-After"))
                body = await _body(response)
                ts_recv_ns = time.time_ns()
                if len(body) > _MAX_BODY:
                    return RestAnswer(b"", ts_recv_ns, f"body larger than {_MAX_BODY} bytes", str(response.url))
                error = f"HTTP {response.status} {body[:200]!r}"
                if self._access.refused(token, error) or response.status != 200:
                    return RestAnswer(b"", ts_recv_ns, error, str(response.url))
                return RestAnswer(body, ts_recv_ns, "", str(response.url))
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            return RestAnswer(b"", time.time_ns(), f"{type(problem).__name__}: {problem}", url)

    async def _afford(self, weight: int) -> None:
        """Wait until no ban holds and the weight is granted; a ban that comes meanwhile holds too."""
        need = min(float(weight), self._burst)
        while True:
            now = time.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
            self._filled = now
            wait = max(self._blocked_until - now, (need - self._tokens) / self._rate)
            if wait <= 0:
                break
            await asyncio.sleep(wait)
        self._tokens -= need

    def _refuse(self, status: int, retry_after: str | None) -> None:
        self.refused += 1
        pause = _DEFAULT_PAUSE_S.get(status, 0.0)
        if retry_after is not None and retry_after.strip().isdecimal():
            pause = max(1.0, min(float(retry_after), _LONGEST_PAUSE_S))
        self._blocked_until = max(self._blocked_until, time.monotonic() + pause)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Read a body; one that is too large is given up as soon as it is."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MAX_BODY:
            response.close()
            break
    return bytes(body)
