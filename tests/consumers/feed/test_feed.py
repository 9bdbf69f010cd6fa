"""The feed over real multicast on loopback, and over tapes: every form gives the same events."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from tapecast.consumers.feed.events import (
    AnyEvent,
    Bbo,
    Book,
    BookState,
    Gap,
    Instrument,
    Status,
    Trade,
)
from tapecast.consumers.feed.feed import Feed, FeedError
from tapecast.consumers.feed.source import Chunks
from tapecast.consumers.feed.tape import TapeWriter
from tapecast.protocol.net.io import Sender
from tapecast.protocol.schema import MsgType, Side
from tapecast.runtime.settings import Config
from tests.consumers.publisher import BTC, Publisher, btcusdt

ROOT = Path(__file__).resolve().parents[3]
SESSION = [Instrument, Trade, Trade, Book, Book, Bbo]


def send(sender: Sender, packets: list[bytes]) -> None:
    """Send packets, stamped with the present time as a publisher does."""
    data = bytearray()
    for packet in packets:
        data += packet[:56] + time.time_ns().to_bytes(8, "little") + packet[64:]
    assert sender.send(data, len(data)) == len(packets)


def take(feed: Feed, count: int) -> list[AnyEvent]:
    """Return the next events; books as copies, because they are valid until the next event only."""
    out: list[AnyEvent] = []
    for event in feed:
        out.append(event.copy() if isinstance(event, Book) else event)
        if len(out) == count:
            break
    return out


def wait_for(condition: object, feed: Feed) -> None:
    """Run the feed until a condition holds, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        feed.run(seconds=0.02)
        assert time.monotonic() < deadline


def summary(event: AnyEvent) -> object:
    """Return what must be equal whichever form the event came by; send times differ."""
    if isinstance(event, Trade):
        return event.trade_id, event.price, event.quantity, event.side, event.ts_exchange_ns
    if isinstance(event, Book):
        return (
            event.snapshot,
            event.state,
            tuple(event.bids()),
            tuple(event.asks()),
            tuple(event.changes.bids),
        )
    if isinstance(event, Bbo):
        return event.bid, event.ask
    return type(event), getattr(event, "instrument", None)


def test_iteration_over_multicast(config: Config, sender: Sender) -> None:
    """Packets sent to the group come out as events in order, with the lag measured."""
    with Feed(["binance"], config=config) as feed:
        send(sender, btcusdt())
        events = take(feed, 6)
        assert [type(event) for event in events] == SESSION
        trade = events[1]
        assert isinstance(trade, Trade)
        assert (trade.price, str(trade.side)) == (Decimal("61837.63"), "sell")
        book = events[4]
        assert isinstance(book, Book)
        assert book.best_ask == (Decimal("61837.64"), Decimal("1.6052"))
        stats = feed.stats
        assert (stats.received, stats.lost, stats.duplicates, stats.invalid, stats.undefined) == (
            7,
            0,
            0,
            {},
            0,
        )
        assert stats.lag_p50_ns is not None
        assert 0 < stats.lag_p50_ns < 5_000_000_000
        assert feed.instruments[BTC].tick == Decimal("0.01")
        live = feed.book("BTCUSDT")
        assert live is not None
        assert (live.state, live.depth) == (BookState.LIVE, (4, 3))


def test_all_forms_give_the_same_events(config: Config, sender: Sender) -> None:
    """Iteration, async for and callbacks yield equal events from the same packets."""
    with Feed(["binance"], config=config) as feed:
        send(sender, btcusdt())
        plain = [summary(event) for event in take(feed, 6)]

    async def collect() -> list[object]:
        out: list[object] = []
        async with Feed(["binance"], config=config) as feed:
            task = asyncio.get_running_loop().call_later(0.05, send, sender, btcusdt())
            async for event in feed:
                out.append(summary(event))
                if len(out) == 6:
                    break
            task.cancel()
        return out

    assert asyncio.run(collect()) == plain

    called: list[object] = []
    with Feed(["binance"], config=config) as feed:
        for kind in (Instrument, Trade, Book, Bbo):
            feed.on(kind, lambda event: called.append(summary(event)))
        send(sender, btcusdt())
        wait_for(lambda: len(called) == 6, feed)
    assert called == plain


def test_other_tasks_run_while_the_feed_waits(config: Config, sender: Sender) -> None:
    """A feed without packets does not block the event loop."""

    async def main() -> int:
        ticks = 0
        async with Feed(["binance"], config=config, types=[Trade]) as feed:

            async def ticker() -> None:
                nonlocal ticks
                while ticks < 5:
                    ticks += 1
                    await asyncio.sleep(0.01)
                send(sender, btcusdt())

            task = asyncio.create_task(ticker())
            async for _ in feed:
                break
            await task
        return ticks

    assert asyncio.run(main()) == 5


def test_batches_hold_the_same_values(config: Config, sender: Sender) -> None:
    """Tables and runs carry the mantissas of every packet; definitions come as events."""
    with Feed(["binance"], config=config, books=True) as feed:
        send(sender, btcusdt())
        packets, trades, levels, kinds = 0, [], [], []
        for batch in feed.batches():
            packets += len(batch)
            trades += batch.table(MsgType.TRADE)[
                ["trade_id", "price", "quantity", "price_exp", "side"]
            ].tolist()
            levels += batch.table(MsgType.BOOK)[["bid", "price", "quantity"]].tolist()
            kinds += [type(event) for event in batch.events]
            for run in batch.runs(MsgType.TRADE):
                assert run.items.shape == (1, 2)
                assert not run.items.flags.owndata
            if packets >= 4:
                break
        assert trades == [(3735683259, 6183763, 2000, -2, 2), (3735683260, 6183763, 4800, -2, 2)]
        assert levels[:2] == [(1, 6183763, 378826), (1, 6183762, 61700)]
        assert len(levels) == 13
        assert kinds == [Instrument]
        book = feed.book(BTC)
        assert book is not None
        assert book.depth == (4, 3)


def test_equal_packets_become_one_run_without_a_copy() -> None:
    """Neighbouring packets of one shape are one strided view."""
    p = Publisher()
    trades = [
        packet
        for n in range(5)
        for packet in p.trades((3735683259 + n, "61837.63", "0.02", Side.SELL))
    ]
    with Feed(source=Chunks([b"".join(trades)])) as feed:
        (batch,) = feed.batches()
        (run,) = batch.runs()
        assert run.headers["channel_seq"].tolist() == [1, 2, 3, 4, 5]
        assert run.items["trade_id"].tolist() == [[3735683259 + n] for n in range(5)]
        assert not run.headers.flags.owndata


def test_batches_obey_the_selection() -> None:
    """With symbols given, only their packets are in the arrays."""
    p = Publisher()
    eth = "binance.spot.ETHUSDT"
    packets = p.define() + p.define(eth, "ETH", "USDT")
    packets += p.trades((1, "61837.63", "0.02", Side.SELL)) + p.trades(
        (2, "2683.25", "0.5", Side.BUY), text=eth
    )
    with Feed(symbols=["ETH-USDT"], types=[Trade], source=Chunks([b"".join(packets)])) as feed:
        tables = [batch.table(MsgType.TRADE) for batch in feed.batches()]
    assert [row["trade_id"] for table in tables for row in table] == [2]


def test_a_gap_is_an_event_and_the_rest_goes_on(config: Config, sender: Sender) -> None:
    """Lost packets come out as a Gap in their place after the reorder window, and are counted."""
    packets = btcusdt()
    with Feed(["binance"], config=config) as feed:
        send(sender, packets[:3] + packets[5:])
        events = take(feed, 5)
        assert [type(event) for event in events] == [Instrument, Trade, Trade, Gap, Bbo]
        gap = events[3]
        assert isinstance(gap, Gap)
        assert (gap.missing, gap.first_missing, gap.venue) == (2, 4, "binance")
        assert (feed.stats.lost, feed.stats.gaps) == (2, 1)


def test_a_lost_last_packet_shows_with_the_heartbeat(config: Config, sender: Sender) -> None:
    """Tail loss is seen when a heartbeat carries a higher next number."""
    packets = btcusdt()
    with Feed(["binance"], config=config, types=[Gap]) as feed:
        send(sender, [*packets[:5], packets[6]])
        (gap,) = take(feed, 1)
        assert isinstance(gap, Gap)
        assert (gap.missing, gap.first_missing) == (1, 6)


def test_disorder_and_duplicates_are_mended(config: Config, sender: Sender) -> None:
    """Swapped and repeated packets give the events once and in order."""
    packets = btcusdt()
    with Feed(["binance"], config=config) as feed:
        send(
            sender,
            [
                packets[0],
                packets[1],
                packets[1],
                packets[3],
                packets[2],
                packets[2],
                packets[4],
                packets[5],
            ],
        )
        assert [type(event) for event in take(feed, 6)] == SESSION
        assert (feed.stats.duplicates, feed.stats.reordered, feed.stats.lost) == (2, 1, 0)


def test_two_lines_hide_the_loss_of_one(config: Config, sender: Sender) -> None:
    """With line B configured both groups are joined, and what one line loses the other brings:
    no gap.
    """
    prefix = config.network.group_prefix.rsplit(".", 1)[0] + ".251"
    both = msgspec.structs.replace(
        config, network=msgspec.structs.replace(config.network, line_b_prefix=prefix)
    )
    line_b = Sender(f"{prefix}.1", config.network.port_crypto)
    packets = btcusdt()
    with Feed(["binance"], config=both) as feed:
        send(sender, [*packets[:2], *packets[4:]])
        send(line_b, packets[:5])
        assert [type(event) for event in take(feed, 6)] == SESSION
        assert feed.stats.lost == 0
        assert feed.stats.duplicates == 3
    line_b.close()


def test_a_restarted_publisher_begins_with_empty_books(config: Config, sender: Sender) -> None:
    """A newer session clears the books; what comes late from the old one is dropped and counted."""
    old, new = Publisher(), Publisher(session=Publisher().session + 1)
    first = old.start() + old.define() + old.snapshot()
    late = old.delta()
    with Feed(["binance"], config=config) as feed:
        send(sender, first)
        take(feed, 2)
        send(sender, new.start() + late + new.define())
        events = take(feed, 1)
        assert isinstance(events[0], Status)
        assert feed.book(BTC) is None
        wait_for(lambda: feed.stats.old_session == 1, feed)
        send(sender, new.snapshot())
        (event,) = take(feed, 1)
        assert isinstance(event, Book)
        assert event.state is BookState.LIVE


def test_only_the_venues_asked_for_are_joined(config: Config, sender: Sender) -> None:
    """Packets of another venue's group never reach the process."""
    okx = Sender(f"{config.network.group_prefix}.7", config.network.port_crypto)
    with Feed(["okx"], config=config, types=[Instrument]) as feed:
        send(sender, btcusdt())
        send(okx, Publisher("okx").define("okx.spot.BTC-USDT"))
        (event,) = take(feed, 1)
        assert event.venue == "okx"
        assert feed.stats.received == 1
    okx.close()


def test_a_slow_consumer_sees_its_loss(config: Config, sender: Sender) -> None:
    """With a small receive buffer and nobody reading, packets are lost, and the feed says how
    many.
    """
    p = Publisher()
    with Feed(["binance"], config=config, types=[Trade, Gap], rcvbuf_bytes=4096) as feed:
        send(sender, p.start() + p.define())
        take_nothing = feed.run(seconds=0.05)
        assert take_nothing is None
        for n in range(400):
            send(sender, p.trades((n, "61837.63", "0.02", Side.SELL)))
        feed.run(seconds=0.05)
        send(sender, p.heartbeat())
        wait_for(lambda: feed.stats.lost, feed)
        stats = feed.stats
        assert stats.kernel_drops > 0
        assert stats.lost == 402 + 1 - stats.received
        assert stats.gaps >= 1


def test_what_is_not_a_packet_is_counted_by_reason(config: Config, sender: Sender) -> None:
    """Foreign datagrams raise nothing: each is counted under the check it failed."""
    good = btcusdt()
    bad_version = bytearray(good[2])
    bad_version[2] = 9
    with Feed(["binance"], config=config, types=[Trade]) as feed:
        send(sender, good[:2])
        sender.send(bad_version, len(bad_version))
        send(sender, good[2:3])
        assert len(take(feed, 2)) == 2
        assert feed.stats.invalid == {"bad_version": 1}


def test_callbacks_decide_what_is_made(config: Config, sender: Sender) -> None:
    """`on(Trade)` alone keeps no books and makes no other events; registering late is refused."""
    got: list[Trade] = []
    with Feed(["binance"], config=config) as feed:
        assert feed.on(Trade, got.append) is feed
        send(sender, btcusdt())
        wait_for(lambda: len(got) == 2, feed)
        with pytest.raises(FeedError, match="no books"):
            feed.book(BTC)
        with pytest.raises(FeedError, match="before the first event"):
            feed.on(Bbo, print)
        assert feed.stats.events == 2


def test_stop_ends_the_iteration(config: Config, sender: Sender) -> None:
    """`stop` from a callback or another thread ends a waiting feed."""
    with Feed(["binance"], config=config) as feed:
        timer = threading.Timer(0.05, feed.stop)
        timer.start()
        assert list(feed) == []
        timer.join()
    with Feed(["binance"], config=config) as feed:
        feed.on(Trade, lambda _: feed.stop())
        send(sender, btcusdt())
        feed.run()
        assert feed.stats.events == 1


def test_books_kept_without_book_events(config: Config, sender: Sender) -> None:
    """With `books=True` a script of trades can look at the book."""
    with Feed(["binance"], config=config, types=[Bbo], books=True) as feed:
        send(sender, btcusdt())
        take(feed, 1)
        book = feed.book("BTC-USDT")
        assert book is not None
        assert book.best_bid == (Decimal("61837.63"), Decimal("3.78826"))
        assert feed.book("DOGE-USDT") is None


def test_an_ambiguous_book_is_refused() -> None:
    """A symbol that several instruments share must be named in full."""
    p = Publisher("okx")
    packets = p.define("okx.spot.BTC-USDT") + p.define("okx.perpetual.BTC-USDT-SWAP")
    with Feed(source=Chunks(packets)) as feed:
        assert len(list(feed)) == 2
        with pytest.raises(FeedError, match=r"okx\.perpetual\.BTC-USDT-SWAP, okx\.spot\.BTC-USDT"):
            feed.book("BTC-USDT")


def test_ctrl_c_ends_a_waiting_feed(config: Config) -> None:
    """SIGINT interrupts a feed that waits for packets within moments."""
    script = (
        # Whoever runs the tests may ignore SIGINT, and a child inherits that.
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tapecast.consumers.feed.feed import Feed\n"
        "from tapecast.runtime.config import load\n"
        f"config = load({{'network.port_crypto': {config.network.port_crypto}}})\n"
        "try:\n"
        "    with Feed(['binance'], config=config, types=[]) as feed:\n"
        "        print('ready', flush=True)\n"
        "        list(feed)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(3)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 3
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_replay_of_a_tape_gives_the_same_events(
    tmp_path: Path, config: Config, sender: Sender
) -> None:
    """A tape, compressed or not, in several files or one, plays what was received, and then
    ends.
    """
    with Feed(["binance"], config=config) as feed:
        send(sender, btcusdt())
        live = [summary(event) for event in take(feed, 6)]
    packets = btcusdt()
    for name in ("one.tape", "one.tape.gz"):
        with TapeWriter(tmp_path / name) as tape:
            for packet in packets:
                tape.write(packet)
        with Feed.replay(tmp_path / name) as feed:
            assert [summary(event) for event in feed] == live
            assert feed.stats.lag_p50_ns is None
    with TapeWriter(tmp_path / "a.tape") as tape:
        for packet in packets[:4]:
            tape.write(packet)
    with TapeWriter(tmp_path / "b.tape") as tape:
        for packet in packets[4:]:
            tape.write(packet)
    with Feed.replay([tmp_path / "a.tape", tmp_path / "b.tape"]) as feed:
        assert [summary(event) for event in feed] == live

    async def collect() -> list[object]:
        async with Feed.replay(tmp_path / "one.tape") as feed:
            return [summary(event) async for event in feed]

    assert asyncio.run(collect()) == live


def test_a_replay_tells_of_its_gaps_and_of_symbols_it_does_not_have(tmp_path: Path) -> None:
    """Holes on the tape become gaps, the last one at the end; unmatched symbols are told at the
    end.
    """
    packets = btcusdt()
    path = tmp_path / "hole.tape"
    path.write_bytes(b"".join([*packets[:2], *packets[3:]]))
    with Feed.replay(path, symbols=["BTCUSDT", "BTCUSD"], types=[Gap, Status]) as feed:
        status, gap = sorted(feed, key=lambda event: isinstance(event, Gap))
    assert isinstance(gap, Gap)
    assert gap.missing == 1
    assert isinstance(status, Status)
    assert "BTCUSDT" in status.detail


def test_the_symbols_of_a_feed_filter_everything(tmp_path: Path) -> None:
    """Only events of the chosen instruments come out, and only their books are kept."""
    p = Publisher()
    eth = "binance.spot.ETHUSDT"
    packets = (
        p.define()
        + p.define(eth, "ETH", "USDT")
        + p.snapshot()
        + p.snapshot([("2683.25", "3")], [], text=eth)
    )
    with Feed(symbols=["eth-usdt"], source=Chunks(packets)) as feed:
        events = list(feed)
        assert [event.instrument for event in events] == [eth, eth]
        assert feed.book("BTCUSDT") is None


def test_a_paced_replay_keeps_the_intervals() -> None:
    """At speed 10, packets 1 ms apart come 0.1 ms apart: the clock and the sleeps of the source
    say so.
    """
    clock = [0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += int(seconds * 1e9)

    source = Chunks([b"".join(btcusdt())], speed=10, clock=lambda: clock[0], sleep=sleep)
    with Feed(source=source) as feed:
        assert [type(event) for event in feed] == SESSION
    assert sum(slept) == pytest.approx(0.0006)
    with pytest.raises(ValueError, match="speed"):
        Chunks([], speed=0)


def test_what_is_no_event_type_is_refused() -> None:
    """A wrong class fails at once and names the right ones."""
    with pytest.raises(FeedError, match="Trade, Book"):
        Feed(types=[int], source=Chunks([]))  # type: ignore[list-item]
    with pytest.raises(FeedError):
        Feed(source=Chunks([])).on(int, print)  # type: ignore[type-var]
