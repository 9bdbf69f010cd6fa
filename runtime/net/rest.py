"""REST client of one venue on aiohttp, for feeders and order management alike: each request
leaves when the venue's limits permit it.

Obeys 429, 418 and 403: sends nothing before the time that the venue names (or a default), and
that time never shrinks. The limits and the bans belong to the host (`runtime.net.limiter`); what
the venue says is left of a window counts as well. It does not know what a body means, and
repeats nothing.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping

import aiohttp

from tapecast.runtime.net.limiter import REST, HostLimiter, Rate
from tapecast.runtime.net.request import Anonymous, Authorization, RestAnswer, RestRequest

__all__ = ["RestClient", "pause_s"]

_DEFAULT_PAUSE_S = {429: 10.0, 418: 120.0, 403: 60.0}
_LONGEST_PAUSE_S = 3 * 86_400.0
_MAX_BODY = 64 << 20
_USED = "X-MBX-USED-WEIGHT-1M"
"""Binance: weight used in this minute, whoever used it."""
_REMAINING = "Remaining-Req"
"""Upbit: requests left in this second, as `group=...; min=...; sec=...`."""
_SEC = re.compile(r"\bsec=(\d+)")
_JSON = (("Content-Type", "application/json; charset=utf-8"),)


class RestClient:
    """Requests of one venue.

    `bases` maps endpoint names to base URLs; `weight` per `window_s` is what the venue grants
    this host; `access`: its login. Without the host's `limiter` the client keeps to them alone.
    `record` is called with URL, body and receive time of what was fetched, right before the
    caller gets it. Belongs to one event loop; `close` it at the end.
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
        access: Authorization | None = None,
    ) -> None:
        self._bases = bases
        self._record = record
        self._access: Authorization = access or Anonymous()
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
        """As the venue last gave it."""

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def get(self, request: RestRequest) -> RestAnswer:
        """Send a request and return its answer; waits for token, turn, weight, and the end of a
        ban. Never raises for what the venue or network does; KeyError for an unknown endpoint.
        """
        answer = await self._get(request)
        if self._record is not None and not answer.error:
            self._record(answer.url, answer.body, answer.ts_recv_ns)
        return answer

    async def _get(self, request: RestRequest) -> RestAnswer:
        token = await self._access.token()
        async with self._turn:
            await self._limiter.acquire(REST, request.weight)
        request = self._access.authorized(request, token)
        url = self._bases[request.endpoint].rstrip("/") + request.path
        self.requests += 1
        self.weight_spent += request.weight
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, headers={"User-Agent": "tapecast"}
            )
        try:
            async with self._session.request(
                request.method or ("POST" if request.body else "GET"),
                url,
                params=dict(request.query),
                data=request.body or None,
                headers=dict((*request.headers, *(_JSON if request.body else ()))),
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

    def _refuse(self, status: int, retry_after: str | None) -> None:
        self.refused += 1
        pause = pause_s(status, retry_after)
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
