"""REST shell: order books and instruments of one venue, one request after another within its
weight, on aiohttp.

429, 418 and 403 are obeyed: nothing is asked before the time the venue names (or a default), and
that time never shrinks. What may be asked, and the bans, are the host's matter
(`runtime.net.limiter`); where the venue tells what is left, that counts.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp

from tapecast.feeder.login.access import Access
from tapecast.feeder.venues.spec import RestRequest
from tapecast.runtime.net.limiter import REST, HostLimiter, Rate

__all__ = ["RestAnswer", "RestClient", "pause_s"]

_DEFAULT_PAUSE_S = {429: 10.0, 418: 120.0, 403: 60.0}
_LONGEST_PAUSE_S = 3 * 86_400.0
_MAX_BODY = 64 << 20
_USED = "X-MBX-USED-WEIGHT-1M"
"""Binance: weight used in this minute, whoever used it."""
_REMAINING = "Remaining-Req"
"""Upbit: requests left in this second, as `group=...; min=...; sec=...`."""
_SEC = re.compile(r"\bsec=(\d+)")
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

    `bases` maps endpoint names to base URLs; `weight` per `window_s` is what the venue grants
    this host; `access`: its login. Without the host's `limiter` the client keeps to them alone.
    `record` is called with URL, body and receive time of what was fetched, right before the
    caller gets it.
    """

    def __init__(
        self,
        bases: Mapping[str, str],
        *,
        weight: float,
        window_s: float,
        timeout_s: float = 10.0,
        record: Callable[[str, bytes, int], None] | None = None,
        limiter: HostLimiter | None = None,
        access: Access | None = None,
    ) -> None:
        self._bases = bases
        self._record = record
        self._access = access or Access()
        self._weight = int(weight)
        self._limiter = (
            HostLimiter(None, {REST: Rate.of(weight, window_s)}) if limiter is None else limiter
        )
        self._turn = asyncio.Lock()
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self.requests = 0
        self.weight_spent = 0
        """Of all requests, as the venue's documentation counts them."""
        self.refused = 0
        self.used_weight: int | None = None
        """As the venue last told it."""

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def get(self, request: RestRequest) -> RestAnswer:
        """Fetch; waits for token, turn, weight, and the end of a ban. Never raises for what the
        venue or network does.
        """
        answer = await self._get(request)
        if self._record is not None and not answer.error:
            self._record(answer.url, answer.body, answer.ts_recv_ns)
        return answer

    async def _get(self, request: RestRequest) -> RestAnswer:
        token = await self._access.token()
        async with self._turn:
            await self._limiter.acquire(REST, request.weight)
        url = self._bases[request.endpoint].rstrip("/") + request.path
        self.requests += 1
        self.weight_spent += request.weight
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, headers={"User-Agent": "tapecast"}
            )
        try:
            method, data = ("POST", request.body) if request.body else ("GET", None)
            headers = dict(
                (*request.headers, *self._access.headers(token), *(_JSON if request.body else ()))
            )
            async with self._session.request(
                method, url, params=dict(request.query), data=data, headers=headers
            ) as response:
                self._note_left(response.headers)
                if response.status != 200:
                    self._refuse(response.status, response.headers.get("Retry-After"))
                body = await _body(response)
                ts_recv_ns = time.time_ns()
                if len(body) > _MAX_BODY:
                    return RestAnswer(
                        b"", ts_recv_ns, f"body larger than {_MAX_BODY} bytes", str(response.url)
                    )
                error = f"HTTP {response.status} {body[:200]!r}"
                if self._access.refused(token, error) or response.status != 200:
                    return RestAnswer(b"", ts_recv_ns, error, str(response.url))
                return RestAnswer(body, ts_recv_ns, "", str(response.url))
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            return RestAnswer(b"", time.time_ns(), f"{type(problem).__name__}: {problem}", url)

    def _note_left(self, headers: Mapping[str, str]) -> None:
        """Obey what the venue says is left of its window."""
        used, remaining = headers.get(_USED, ""), _SEC.search(headers.get(_REMAINING, ""))
        if used.isdecimal():
            self.used_weight = int(used)
            self._limiter.left(REST, self._weight - self.used_weight)
        if remaining is not None:
            self._limiter.left(REST, int(remaining[1]))

    def _refuse(self, status: int, told: str | None) -> None:
        self.refused += 1
        pause = pause_s(status, told)
        if pause:
            self._limiter.ban(REST, pause)


def pause_s(status: int, retry_after: str | None) -> float:
    """Return for how long an answer of this status forbids the next request, by its Retry-After
    or else by default; 0 = not.
    """
    if retry_after is not None and retry_after.strip().isdecimal():
        return max(1.0, min(float(retry_after), _LONGEST_PAUSE_S))
    return _DEFAULT_PAUSE_S.get(status, 0.0)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Read a body; one that is too large is given up as soon as it is."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MAX_BODY:
            response.close()
            break
    return bytes(body)
