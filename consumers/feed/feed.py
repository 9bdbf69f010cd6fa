"""The feed: live market data, or a tape of it, as events. This is what `from tapecast import
Feed` means.

One path lies under all forms (iteration, `async for`, callbacks, batches): the kernel's receive
buffer, then one batch of packets, then the events of one packet. Nothing is read before
everything before it has been taken, so there is no hidden queue: when the script is slow the
kernel's buffer fills (`rcvbuf_bytes`), and what does not fit is lost, shows as `Gap` events and
is counted in `stats.kernel_drops` and `stats.lost`; the books of what was lost recover by
themselves. A slow script slows no other consumer and never the publisher. Where a feeder has a
recovery service, lost packets are asked for and delivered in their place, and books are had at
once (`consumers.feed.recovery.manager`), in this same loop.

A feed belongs to one thread; only `stop` may be called from another one or from a signal
handler.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from tapecast.consumers.feed.batches import Batch
from tapecast.consumers.feed.engine import Engine
from tapecast.consumers.feed.events import (
    ALL_EVENTS,
    AnyEvent,
    Bbo,
    Book,
    Instrument,
    Liquidation,
    Stat,
    Trade,
)
from tapecast.consumers.feed.reader import Reader
from tapecast.consumers.feed.recovery.manager import options_of
from tapecast.consumers.feed.replay import open_replay
from tapecast.consumers.feed.selection import Selection
from tapecast.consumers.feed.source import Multicast, PacketSource
from tapecast.consumers.feed.stats import FeedStats
from tapecast.protocol.schema import VENUES, MsgType
from tapecast.runtime.channels import lines_of
from tapecast.runtime.errors import TapecastError
from tapecast.runtime.keys import Admission

if TYPE_CHECKING:
    from tapecast.consumers.feed.metrics import FeedMetrics
    from tapecast.runtime.settings import Config

__all__ = ["Feed", "FeedError"]

E = TypeVar("E", bound=AnyEvent)

_TICK_S: Final = 0.1
_TICK_NS: Final = 100_000_000
_WINDOW_S: Final = 0.005
_MSG_TYPES: Final[dict[type, int]] = {
    Trade: MsgType.TRADE,
    Book: MsgType.BOOK,
    Bbo: MsgType.BBO,
    Stat: MsgType.STAT,
    Liquidation: MsgType.LIQUIDATION,
}
_CONTROL: Final = frozenset(
    {
        MsgType.INSTRUMENT,
        MsgType.STATUS,
        MsgType.HEARTBEAT,
        MsgType.SESSION_START,
        MsgType.SESSION_END,
    }
)


class FeedError(TapecastError):
    """A feed used in a way that cannot work; the message names what to do instead."""


class Feed:
    """Market data of some venues and symbols; a context manager and an iterator of events.

    `venues`: names of the registry, each joins one group; None = all. `symbols`: the venue's own
    (`BTCUSDT`), `BASE-QUOTE` (`BTC-USDT`: spot and perpetual) or full texts
    (`okx.spot.BTC-USDT`); None = all. `types`: event classes to make; None = those given to
    `on`, or else all: what is not asked for costs nothing. `books`: keep books for `book()` even
    where no Book events are made. `interface`: address of the network interface, `config`: a
    loaded configuration, `rcvbuf_bytes`: receive buffer per group; each defaults to the
    configuration. `source`: packets from elsewhere (`consumers.feed.source`) instead of the
    network. `recovery`: whether the feed asks recovery services for what was lost; defaults to
    the configuration, and to False for another source. `metrics_port`: answer /metrics and
    /healthz on this port of 127.0.0.1 until `close` (0 = any free one, see `metrics_port`);
    `name`: what the metrics call this consumer, by default the script's name.

    Raises ValueError for unknown venues, OSError where the interface or port cannot be used,
    ConfigError where packets carry tags and the key of a named venue is missing
    (`runtime.keys`), TryAgainError where the metrics' port is in use.
    """

    def __init__(
        self,
        venues: Iterable[str] | None = None,
        symbols: Iterable[str] | None = None,
        *,
        types: Iterable[type[AnyEvent]] | None = None,
        books: bool = False,
        interface: str | None = None,
        config: Config | None = None,
        rcvbuf_bytes: int | None = None,
        source: PacketSource | None = None,
        recovery: bool | None = None,
        metrics_port: int | None = None,
        name: str | None = None,
    ) -> None:
        """Join the groups; the kernel keeps packets from now on."""
        self._selection = Selection(venues, symbols)
        self._types = None if types is None else tuple(types)
        for kind in self._types or ():
            if kind not in ALL_EVENTS:
                raise FeedError(
                    f"{kind!r} is not an event type; they are"
                    f" {', '.join(known.__name__ for known in ALL_EVENTS)}"
                )
        self._keep_books = books
        if config is None and (source is None or recovery):
            from tapecast.runtime.config import load

            config = load()
        if source is None:
            assert config is not None
            if interface is not None:
                config = msgspec.structs.replace(
                    config, network=msgspec.structs.replace(config.network, interface=interface)
                )
            source = _multicast(self._selection, config, rcvbuf_bytes)
            recovery = recovery is not False
        self._switch_after_ns = (
            int(config.consumer.switch_after_s * 1e9) if config is not None else 1_000_000_000
        )
        self._source = source
        repair = config.consumer if recovery and config is not None else None
        if repair is not None:
            self._reader = Reader(source, options_of(repair), reach=repair.repair_packets)
        else:
            self._reader = Reader(source)
        self._engine: Engine | None = None
        self._callbacks: dict[type[AnyEvent], list[Callable[[AnyEvent], object]]] = {}
        self._stopped = False
        self._finished = False
        self._ready = 0
        self._events = 0
        self._ticked_ns = 0
        self._read_ns = 0
        self._mended = False
        self._serving = ExitStack()
        self._metrics: FeedMetrics | None = None
        self.metrics_port: int | None = None
        """Where /metrics is served; None = nowhere."""
        if metrics_port is not None:
            self._serve_metrics(metrics_port, name or Path(sys.argv[0]).stem or "feed")

    @classmethod
    def replay(
        cls,
        path: Path | str | Sequence[Path | str],
        *,
        speed: float | None = None,
        venues: Iterable[str] | None = None,
        symbols: Iterable[str] | None = None,
        types: Iterable[type[AnyEvent]] | None = None,
        books: bool = False,
    ) -> Feed:
        """Return a feed over a tape or a recording instead of the network; it ends where the
        file ends.

        `speed` 1 plays in real time, 10 ten times as fast; None as fast as the script takes the
        events. Raises OSError where a file cannot be read, TapecastError where it is neither a
        tape nor a recording.
        """
        return cls(venues, symbols, types=types, books=books, source=open_replay(path, speed))

    def __enter__(self) -> Feed:
        """Return the feed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the feed."""
        self.close()

    async def __aenter__(self) -> Feed:
        """Return the feed."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the feed."""
        self.close()

    def __iter__(self) -> Iterator[AnyEvent]:
        """Yield events until `stop` or the end of a replay; waiting can be interrupted by
        Ctrl-C.
        """
        engine = self._started()
        while True:
            event = self._take(engine)
            if event is not None:
                yield event
            elif not self._fill(engine, self._patience()):
                return

    async def __aiter__(self) -> AsyncIterator[AnyEvent]:
        """Yield events; other tasks of the event loop run between the reads."""
        engine = self._started()
        while True:
            event = self._take(engine)
            if event is not None:
                yield event
                continue
            if not self._fill(engine, 0.0):
                return
            if self._ready:
                await asyncio.sleep(0)
            else:
                await self._readable(self._patience())

    def on(self, kind: type[E], callback: Callable[[E], object]) -> Feed:
        """Call `callback` with every event of a class once `run` is called; returns the feed, so
        that calls can be chained.
        """
        if kind not in ALL_EVENTS:
            raise FeedError(f"{kind!r} is not an event type")
        if self._engine is not None and self._types is None:
            raise FeedError(
                "on() comes before the first event is taken, because it decides which events are"
                " made"
            )
        self._callbacks.setdefault(kind, []).append(callback)  # type: ignore[arg-type]
        return self

    def run(self, seconds: float | None = None) -> None:
        """Take events and call the callbacks until `stop`, the end of a replay, or for about so
        many seconds.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        engine = self._started()
        nobody: list[Callable[[AnyEvent], object]] = []
        while deadline is None or time.monotonic() < deadline:
            event = self._take(engine)
            if event is not None:
                for callback in self._callbacks.get(type(event), nobody):
                    callback(event)
                continue
            patience = (
                self._patience()
                if deadline is None
                else min(self._patience(), max(0.0, deadline - time.monotonic()))
            )
            if not self._fill(engine, patience):
                return

    def batches(self) -> Iterator[Batch]:
        """Yield what each read brought as numpy arrays (see `Batch`), for programs that take
        packets by the thousand.

        Of the event classes wanted, Trade, Book, Bbo, Stat and Liquidation select the packets in
        the arrays, and Instrument, Status and Gap come as `batch.events`. The feed keeps books
        with `books=True` only. A batch is valid until the next is taken.
        """
        wanted = self._wanted()
        msg_types = frozenset(_MSG_TYPES[kind] for kind in wanted if kind in _MSG_TYPES)
        control = _CONTROL | {MsgType.BOOK} if self._keep_books else _CONTROL
        engine = self._started([kind for kind in wanted if kind not in _MSG_TYPES])
        while self._fill(engine, self._patience()):
            if not self._ready and not engine.out:
                continue
            batch = self._reader.batch(engine, msg_types, control, self._wanted_ids)
            batch.events.extend(engine.out)
            engine.out.clear()
            self._events += len(batch.events)
            if len(batch) or batch.events:
                yield batch

    def stop(self) -> None:
        """End the iteration before its next event; may be called from anywhere."""
        self._stopped = True

    def close(self) -> None:
        """Leave the groups or close the file; the books and counters stay readable, here and
        not on /metrics.
        """
        self._stopped = True
        self._serving.close()
        self._source.close()
        if self._reader.recovery is not None:
            self._reader.recovery.close()

    def book(self, symbol: str) -> Book | None:
        """Return the book of a symbol or instrument text as it is now; None where there is none
        (yet).

        Raises FeedError where several instruments share the symbol, or this feed keeps no books.
        """
        engine = self._started()
        if not engine.keeps_books:
            raise FeedError("this feed keeps no books: ask for Book events, or pass books=True")
        found = engine.definitions.find(symbol)
        if len(found) > 1:
            raise FeedError(
                f"{symbol!r} means {', '.join(sorted(item.instrument for item in found))}: name one"
                " of them"
            )
        return engine.book(found[0]) if found else None

    @property
    def instruments(self) -> dict[str, Instrument]:
        """The wanted instruments defined so far, by their text `venue.kind.symbol`."""
        return dict(self._started().definitions.wanted)

    @property
    def stats(self) -> FeedStats:
        """Counters since the feed began."""
        engine = self._engine
        if engine is None:
            return self._reader.stats(undefined=0, gaps=0, lost=0, events=0)
        return self._reader.stats(
            undefined=engine.undefined, gaps=engine.gaps, lost=engine.lost, events=self._events
        )

    def _serve_metrics(self, port: int, name: str) -> None:
        from tapecast.consumers.feed.metrics import FeedMetrics  # here: it needs a web server

        self._metrics = FeedMetrics(name)
        try:
            self.metrics_port = self._serving.enter_context(self._metrics.serve(port))
        except BaseException:
            self.close()
            raise

    def _wanted(self) -> tuple[type[AnyEvent], ...]:
        return self._types if self._types is not None else tuple(self._callbacks) or ALL_EVENTS

    def _wanted_ids(self) -> npt.NDArray[np.uint64] | None:
        if self._engine is None or (
            self._selection.symbols is None and self._selection.venues is None
        ):
            return None
        wanted = self._engine.definitions.wanted
        return np.array(
            [definition.instrument_id for definition in wanted.values()], dtype=np.uint64
        )

    def _started(self, wanted: Collection[type[AnyEvent]] | None = None) -> Engine:
        if self._engine is None:
            kinds = self._wanted() if wanted is None else wanted
            self._engine = Engine(
                self._selection,
                kinds,
                keep_books=self._keep_books,
                live=self._source.live,
                now_ns=self._source.now_ns(),
                switch_after_ns=self._switch_after_ns,
            )
        return self._engine

    def _take(self, engine: Engine) -> AnyEvent | None:
        """Return the next event of what has been read."""
        out = engine.out
        while not out:
            if not self._reader.step(engine):
                return None
        if self._stopped:
            return None
        self._events += 1
        return out.popleft()

    def _patience(self) -> float:
        """How long to wait for packets: a hole in the sequence is given up after 5 ms, silence
        is looked at every 100 ms.
        """
        return _WINDOW_S if self._reader.waiting else _TICK_S

    def _fill(self, engine: Engine, timeout: float) -> bool:
        """Read on and let time pass; False once there will be no more. `_ready` says whether the
        read brought anything.
        """
        if self._stopped:
            return False
        if self._source.ended:
            if self._finished:
                return False
            self._finished = True
            self._ready = self._reader.finish()
            engine.report_unmatched()
            if self._metrics is not None:
                self._metrics.update(self.stats)
            return True
        recovery = self._reader.recovery
        # Silence counts as of the last read, all of which has been handled: a script that
        # was slow is not a silent venue.
        if self._read_ns - self._ticked_ns >= _TICK_NS:
            self._ticked_ns = self._read_ns
            engine.tick(self._read_ns)
            self._reader.watch(engine, self._read_ns)
            if self._metrics is not None and self._metrics.due:
                self._metrics.update(self.stats)
            if recovery is not None:
                recovery.tick(engine, self._read_ns)
                recovery.pump(engine, self._read_ns)
        elif recovery is not None and (recovery.active or engine.wants):
            recovery.carry_out(engine, self._source.now_ns())
            if timeout > 0:
                recovery.wait(
                    list(self._source.filenos()),
                    recovery.patience_s(self._source.now_ns(), timeout),
                )
                timeout = 0.0
            recovery.pump(engine, self._source.now_ns())
            # By turns with the network, which a busy service must not starve.
            self._mended = not self._mended and self._reader.mend()
            if self._mended:
                self._ready = self._reader.ready
                return True
        self._ready = self._reader.receive(timeout)
        if recovery is not None and recovery.states:
            self._ready += 1
        self._read_ns = self._source.now_ns()
        return True

    async def _readable(self, patience_s: float) -> None:
        files = list(self._source.filenos())
        if not files:
            await asyncio.sleep(min(patience_s, _WINDOW_S))
            return
        recovery = self._reader.recovery
        writable: list[int] = []
        if recovery is not None and recovery.active:
            files += recovery.readable()
            writable = recovery.writable()
            patience_s = recovery.patience_s(self._source.now_ns(), patience_s)
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        for file in files:
            loop.add_reader(file, _wake, ready)
        for file in writable:
            loop.add_writer(file, _wake, ready)
        timer = loop.call_later(patience_s, _wake, ready)
        try:
            await ready
        finally:
            timer.cancel()
            for file in files:
                loop.remove_reader(file)
            for file in writable:
                loop.remove_writer(file)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _multicast(selection: Selection, config: Config, rcvbuf_bytes: int | None) -> Multicast:
    network = config.network
    replicas = range(config.consumer.feeders)
    groups = [
        line
        for venue in selection.venues or VENUES
        for n in replicas
        for line in lines_of(venue, network, n)
    ]
    return Multicast(
        groups,
        interface=network.interface,
        rcvbuf=network.rcvbuf_bytes if rcvbuf_bytes is None else rcvbuf_bytes,
        admission=Admission(selection.venues, network),
    )
