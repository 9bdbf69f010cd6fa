"""Where REST requests for book snapshots wait until the timeline reaches their snapshot.

One request is answered once; the client has dealt with the body when it has closed its TCP
connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

__all__ = ["HeldRequest", "SnapshotQueue"]


class HeldRequest:
    """One held REST request for a snapshot of `symbol`."""

    def __init__(self, symbol: str, gone: asyncio.Future[None]) -> None:
        """`gone` is done when the client's TCP connection is closed."""
        self.symbol = symbol
        self.gone = gone
        self.answer: asyncio.Future[bytes | None] = gone.get_loop().create_future()


class SnapshotQueue:
    """The held requests by symbol, and how many snapshots the timeline still has for each."""

    def __init__(self, snapshots: Mapping[str, int]) -> None:
        """`snapshots`: how many the timeline has of each symbol."""
        self._left = dict(snapshots)
        self._held: dict[str, list[HeldRequest]] = {}
        self._arrived = asyncio.Event()

    def reset(self, snapshots: Mapping[str, int]) -> None:
        """Start over with a timeline's snapshots; held requests stay."""
        self._left = dict(snapshots)

    async def ask(self, symbol: str, gone: asyncio.Future[None]) -> bytes | None:
        """Wait for the symbol's next snapshot; None at once where none is left, or when the
        client leaves first.
        """
        if self._left.get(symbol, 0) <= 0:
            return None
        request = HeldRequest(symbol, gone)
        self._held.setdefault(symbol, []).append(request)
        self._arrived.set()
        try:
            await asyncio.wait((request.answer, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            held = self._held.get(symbol, [])
            if request in held:
                held.remove(request)
        return request.answer.result() if request.answer.done() else None

    def held(self, symbol: str) -> bool:
        """Return whether a client is waiting for a snapshot of this symbol."""
        return any(not request.gone.done() for request in self._held.get(symbol, ()))

    async def wait_for_request(self, symbol: str, timeout_s: float) -> None:
        """Return when a request for the symbol is held, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.held(symbol):
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return

    def take(self, symbol: str) -> list[HeldRequest]:
        """Use up the symbol's next snapshot: return the held requests that it answers."""
        self._left[symbol] = self._left.get(symbol, 0) - 1
        return [request for request in self._held.pop(symbol, []) if not request.gone.done()]
