"""cryptofeed's own message handlers, fed recorded frames without any network.

Symbols are registered by hand, the same text on both sides of the mapping; where a book starts
with a REST order book, the exchange object's HTTP connection answers with the recorded body.
Callbacks count. Checksum validation and the crossed-book check are off, as by default. Handlers
never wait here, so a coroutine is driven without an event loop, which costs the peer nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.corpus import Corpus

__all__ = ["HANDLED", "CryptofeedFeed"]

HANDLED: dict[str, tuple[str, ...]] = {
    "binance": ("depth", "book_ticker", "agg_trade"),
    "binance_futures": ("depth", "book_ticker", "agg_trade"),
    "okx": ("books", "trades"),
    "upbit": ("orderbook_simple", "trade_simple"),
}
"""The kinds (by their first word) that its handlers know in the recorded format."""

_CLASSES = {
    "binance": "Binance",
    "binance_futures": "BinanceFutures",
    "okx": "OKX",
    "upbit": "Upbit",
}


class _RecordedHttp:
    """Stands where the exchange object keeps its HTTP connection."""

    def __init__(self, bodies: dict[str, bytes]) -> None:
        self._bodies = bodies

    async def read(self, address: str, **_: object) -> str:
        """Return the recorded order book of the symbol that the address asks for."""
        symbol = parse_qs(urlsplit(address).query)["symbol"][0]
        return self._bodies[symbol].decode()


class CryptofeedFeed:
    """One exchange object; `started` is called before the frames of a run."""

    def __init__(self, corpus: Corpus) -> None:
        from cryptofeed import exchanges
        from cryptofeed.defines import L2_BOOK, TICKER, TRADES
        from cryptofeed.symbols import Symbols

        logging.getLogger("feedhandler").setLevel(logging.ERROR)
        cls = getattr(exchanges, _CLASSES[corpus.venue])
        symbols = [instrument.symbol for instrument in corpus.instruments]
        Symbols.set(cls.id, {symbol: symbol for symbol in symbols}, {"instrument_type": {}})
        self.calls = 0

        async def count(_: object, __: float) -> None:
            self.calls += 1

        channels = [
            channel for channel in (L2_BOOK, TRADES, TICKER) if channel in cls.websocket_channels
        ]
        self._feed: Any = cls(
            symbols=symbols, channels=channels, callbacks=dict.fromkeys(channels, count)
        )
        self._feed.http_conn = _RecordedHttp(corpus.bodies)
        self._corpus = corpus

    def start(self) -> CryptofeedFeed:
        """Take the recorded order books and the frames before the last of them, as it would
        live.
        """
        _drive(self._start())
        self.calls = 0
        return self

    def run(self, frames: Iterable[str]) -> None:
        """Hand every frame to the exchange's message handler."""
        _drive(self._run(frames))

    def best(self, symbol: str) -> tuple[str, str]:
        """Return the best bid and ask price of a book, as plain text."""
        book = self._feed._l2_book[symbol].book
        return tuple(
            f"{side.index(0)[0].normalize():f}" if len(side) else ""
            for side in (book.bids, book.asks)
        )  # type: ignore[return-value]

    def books(self) -> list[str]:
        """Return the symbols that have a book."""
        return list(self._feed._l2_book)

    async def _start(self) -> None:
        for symbol in self._corpus.bodies:
            await self._feed._snapshot(symbol)
        lines = (line.raw for line in self._corpus.start if line.kind == "recv")
        await self._run(
            raw.decode() for raw in lines if b'"depthUpdate"' in raw or b'"action"' in raw
        )

    async def _run(self, frames: Iterable[str]) -> None:
        handle = self._feed.message_handler
        for frame in frames:
            await handle(frame, None, 1.0)


def _drive(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise RuntimeError("a handler waited for something: there is no network here")
