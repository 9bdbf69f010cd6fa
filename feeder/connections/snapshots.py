"""What is fetched by REST while a feeder runs: order books that the rule asks for, and the
venue's definitions.

A thin shell around `runtime.net.rest`; answers go to the session. One request per book at a
time, however often the rule asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from tapecast.feeder.frame_handler import FrameHandler
from tapecast.feeder.session.session import Session
from tapecast.feeder.symbols.listing import is_refusal, pages
from tapecast.runtime import logs
from tapecast.runtime.net.request import RestAnswer, RestRequest
from tapecast.runtime.net.rest import RestClient

__all__ = ["SnapshotFetcher"]

_BOOK_DEPTH = 5000
_FIRST_REPEAT_S = 5.0
_LONGEST_REPEAT_S = 300.0

log = logs.get("feeder.connections.snapshots")


class SnapshotFetcher:
    """The requests of one feeder; `spawn` runs them."""

    def __init__(
        self,
        session: Session,
        rest: RestClient,
        frame_handler: FrameHandler,
        spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
        levels: int,
    ) -> None:
        self._session = session
        self._rest = rest
        self._frame_handler = frame_handler
        self._spawn = spawn
        self._levels = levels or _BOOK_DEPTH
        self._fetching: set[str] = set()

    def fetch(self, symbol: str) -> None:
        """Fetch a book, unless that is being done: during a ban the rule asks again and again,
        the venue is asked once.
        """
        request = self._session.spec.rule.snapshot_request
        if request is not None and symbol not in self._fetching:
            self._fetching.add(symbol)
            self._spawn(self._fetch(symbol, request(symbol, self._levels)))

    async def learn_instruments(self, stop: asyncio.Event, within_s: float) -> bool:
        """Fetch definitions before the first subscription, but let no venue delay the feed for
        long; True: no list is to come.

        What has not come by then is learned while the feed runs; until then its instruments are
        provisional.
        """
        learning = [
            self._spawn(self._learn(request)) for request in self._session.spec.listing.requests()
        ]
        stopped = asyncio.ensure_future(stop.wait())
        everything = asyncio.ensure_future(asyncio.wait(learning)) if learning else stopped
        await asyncio.wait(
            {everything, stopped}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED
        )
        everything.cancel()
        stopped.cancel()
        log.info(
            "instruments_fetched",
            venue=self._session.spec.name,
            definitions=len(self._session.known),
        )
        return all(
            task.done() and not task.cancelled() and not task.exception() and task.result()
            for task in learning
        )

    async def _fetch(self, symbol: str, request: RestRequest) -> None:
        session = self._session
        try:
            answer = await self._rest.get(request)
        finally:
            self._fetching.discard(symbol)
        if answer.error:
            log.warning(
                "snapshot_failed",
                venue=session.spec.name,
                symbol=symbol,
                error=answer.error,
                url=answer.url,
            )
            session.on_snapshot_failed(symbol, time.monotonic_ns())
        else:
            session.on_snapshot(symbol, answer.body, answer.ts_recv_ns, time.monotonic_ns())
        self._frame_handler.flush()

    async def _learn(self, request: RestRequest) -> bool:
        """Fetch definitions; a venue that does not give them is asked again in the background,
        at growing intervals.
        """
        answer = await self._learn_pages(request)
        if not answer.error:
            return True
        log.warning(
            "instruments_failed",
            venue=self._session.spec.name,
            error=answer.error,
            url=answer.url,
        )
        if not (refused := is_refusal(answer.error)):
            self._spawn(self._ask_again(request))
        return refused

    async def _learn_pages(self, request: RestRequest) -> RestAnswer:
        """Take a list page by page and return the last answer, or the one that was not
        understood.
        """
        async for answer in pages(self._rest, self._session.spec, request):
            if not answer.error:
                count = self._session.on_instruments(
                    answer.body, answer.ts_recv_ns, time.monotonic_ns()
                )
                self._frame_handler.flush()
                if count is None:
                    return replace(answer, error="not a list of instruments")
        return answer

    async def _ask_again(self, request: RestRequest) -> None:
        delay = _FIRST_REPEAT_S
        while True:
            await asyncio.sleep(delay)
            if not (await self._learn_pages(request)).error:
                return
            delay = min(delay * 2, _LONGEST_REPEAT_S)
