"""Loss, upgrade and restart over processes, multicast and TCP: feeders that play a recording,
and a feed that hears them.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tapecast.consumers.feed.events import Book, BookState, Gap, Status, Trade
from tapecast.consumers.feed.feed import Feed
from tapecast.consumers.feed.source import Multicast, PacketSource
from tapecast.protocol.net.io import SPAN
from tapecast.protocol.schema import StatusReason, StatusScope
from tapecast.runtime.channels import lines_of
from tapecast.runtime.config import load
from tests.consumers.feed.test_repaired_feed import Truth, levels
from tests.support.captures import captures
from tests.support.processes import Child, Net

Start = Callable[..., Child]


class Lossy(PacketSource):
    """The multicast of some groups, of which a share is dropped by chance before it is read."""

    live = True
    ended = False
    kernel_drops = 0
    buffer: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
    spans: npt.NDArray[np.void] = np.zeros(0, SPAN)

    def __init__(self, groups: list[tuple[str, int]], share: float, seed: int) -> None:
        """Join the groups."""
        self._source = Multicast(groups, interface="127.0.0.1", rcvbuf=64 << 20)
        self._share = share
        self._rng = random.Random(seed)
        self.buffer = self._source.buffer
        self.spans = self._source.spans
        self.dropped = 0

    def receive(self, timeout: float) -> int:
        """Read, and drop."""
        count = self._source.receive(timeout)
        kept = [n for n in range(count) if self._rng.random() >= self._share]
        self.dropped += count - len(kept)
        self.spans = self._source.spans[kept]
        return len(kept)

    def now_ns(self) -> int:
        """Return the monotonic clock."""
        return time.monotonic_ns()

    def filenos(self) -> list[int]:
        """Return the descriptors of the sockets."""
        return list(self._source.filenos())

    def close(self) -> None:
        """Leave the groups."""
        self._source.close()


def ended(event: object) -> bool:
    """Whether a channel's session has ended."""
    return (
        isinstance(event, Status)
        and event.scope == StatusScope.CHANNEL
        and event.detail == "session ended"
    )


@pytest.mark.parametrize("share", [0.05])
def test_a_feed_gets_back_what_it_lost(start: Start, net: Net, share: float) -> None:
    """With a share of all packets dropped, every trade and every book comes once, in order, over
    real TCP.
    """
    file = captures() / "binance/cf_20210814_spot.jsonl"
    truth = Truth(file)
    config = load(net.overlay())
    source = Lossy(lines_of("binance", config.network), share, 3)
    trades: list[tuple[str, int]] = []
    last: dict[str, bytes] = {}
    with Feed(
        ["binance"], types=[Trade, Book, Gap, Status], source=source, recovery=True, config=config
    ) as feed:
        start("up", "--replay", file, "--speed", "20", "--until-end", "--json")
        for event in feed:
            assert not isinstance(event, Gap)
            if isinstance(event, Trade):
                trades.append((event.instrument, event.trade_id))
            elif isinstance(event, Book):
                last[event.instrument] = levels(event)
            elif ended(event):
                break
        stats = feed.stats
    assert source.dropped > 20
    assert stats.lost == 0
    assert stats.repaired > 0
    assert trades == truth.trades
    assert last == {text: truth.books[text, seq] for text, seq in truth.last.items()}


def test_an_upgrade_of_a_feeder_leaves_no_gap_in_the_book(start: Start, net: Net) -> None:
    """Both feeders are there, the one in use stops: at every event the book is LIVE and right,
    and no trade comes twice.

    The two recordings play a little apart: the second feeder is behind the first, or ahead,
    farther than live feeders would be.
    """
    file = captures() / "binance/hft_20240808_spot_btcusdt.jsonl"
    right = set(Truth(file).books.values())
    config = load(net.overlay(consumer__feeders=2))
    words = ("up", "--replay", file, "--speed", "2", "--no-monitor")
    settings = {"feeder.session_end_s": 0.5}
    feeders = {
        1: start(*words, name="first", settings=settings),
        101: start(*words, name="second", settings={**settings, "feeder.replica": 1}),
    }
    stopped = 0
    trades: list[int] = []
    switched = after = 0
    with Feed(["binance"], types=[Trade, Book, Gap, Status], config=config) as feed:
        for event in feed:
            assert not isinstance(event, Gap)
            if isinstance(event, Trade):
                trades.append(event.trade_id)
            elif (
                isinstance(event, Status)
                and event.reason == StatusReason.RESYNCED
                and "channel " in event.detail
            ):
                switched += 1
            elif isinstance(event, Book):
                assert levels(event) in right
                assert event.state is BookState.LIVE
                book = feed.book("BTCUSDT")
                assert book is not None
                assert book.state is BookState.LIVE
                after += switched
                if not stopped and (stopped := _in_use(feed, [*feeders])):
                    feeders[stopped].send(signal.SIGTERM)
                if after > 50:
                    break
    assert switched == 1
    assert len(trades) == len(set(trades))


def _in_use(feed: Feed, channels: list[int]) -> int:
    """Return the channel that the feed takes the book from, once all channels have one; else 0."""
    engine, (instrument,) = feed._engine, feed.instruments.values()
    assert engine is not None
    if any(
        channel not in engine._books
        or engine._books[channel].book(instrument.instrument_id) is None
        for channel in channels
    ):
        return 0
    chosen = engine.failover.chosen(instrument.instrument_id)
    return 0 if chosen is None else chosen.channel_id


def test_a_restarted_feeder_is_joined_at_once(start: Start, net: Net, tmp_path: Path) -> None:
    """SIGKILL of a feeder and its successor: books are cleared, and stand again from the
    service, not from a cycle.
    """
    file = captures() / "binance/hft_20240808_spot_btcusdt.jsonl"
    right = set(Truth(file).books.values())
    config = load(net.overlay())
    words = ("up", "--replay", file, "--speed", "2", "--no-monitor")
    settings = {"feeder.snapshot_cycle_s": 0}
    with Feed(["binance"], types=[Book, Gap, Status], config=config) as feed:
        child: Child | None = start(*words, name="first", settings=settings)
        sessions = 0
        live = 0
        for event in feed:
            if isinstance(event, Status) and event.detail == "new session":
                sessions += 1
                live = 0
            elif isinstance(event, Book):
                assert levels(event) in right
                live += 1
            if live == 20 and not sessions and child is not None:
                child.end()
                child = None
                start(*words, name="second", settings=settings)
            if sessions and live == 20:
                break
    assert sessions == 1
