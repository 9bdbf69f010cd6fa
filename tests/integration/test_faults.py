"""Processes killed and stopped under a running fleet: the loss is told, books are not LIVE
meanwhile, and others go on.

Every fleet replays recordings in the venues' own dialect, on groups of its own; processes are
signalled by pid.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tapecast import (
    Bbo,
    Book,
    BookState,
    Feed,
    Gap,
    Instrument,
    Status,
    StatusReason,
    StatusState,
    Trade,
)
from tapecast.protocol.net.io import Receiver
from tapecast.runtime import config as configuration
from tests.support.captures import captures
from tests.support.processes import ROOT, Child, Net, children, signalled, until

Start = Callable[..., Child]

UPBIT = "upbit/cf_20210405_simple.jsonl"
BINANCE = "binance/cf_20210404_spot_btc_eth_dot.jsonl"
QUICK = {
    "feeder.heartbeat_idle_ms": 100,
    "feeder.heartbeat_max_ms": 200,
    "feeder.backoff.base_s": 0.1,
    "feeder.definition_cycle_s": 1.0,
    "feeder.snapshot_cycle_s": 1.0,
    "feeder.session_end_s": 0.2,
}


class Consumer:
    """A script's feed, run step by step: counts events, keeps statuses and gaps in order, and
    watches the books' states.
    """

    def __init__(self, net: Net, venue: str) -> None:
        """Join one venue's group."""
        self.feed = Feed([venue], config=configuration.load(net.overlay(), environ={}), books=True)
        self.events: Counter[str] = Counter()
        self.told: list[Status | Gap] = []
        self.books: list[tuple[str, BookState, bool]] = []
        """Symbol, state and whether it was a snapshot, of every book event."""
        self.tops: dict[tuple[str, int], list[str]] = {}
        """The best three levels of each side after each book event, by instrument and its
        sequence number.
        """
        for kind in (Trade, Book, Bbo, Instrument, Status, Gap):
            self.feed.on(kind, self._take)

    def _take(self, event: Trade | Book | Bbo | Instrument | Status | Gap) -> None:
        self.events[type(event).__name__] += 1
        if isinstance(event, Status | Gap):
            self.told.append(event)
        elif isinstance(event, Book):
            self.books.append((event.symbol, event.state, event.snapshot))
            self.tops[event.instrument, event.instrument_seq] = [
                str(x) for side in (event.bids(3), event.asks(3)) for x in side
            ]

    def step(self, seconds: float = 0.02) -> None:
        """Take events for a moment."""
        self.feed.run(seconds)

    def until(
        self, condition: Callable[[], object], within_s: float = 20.0, what: str = ""
    ) -> None:
        """Take events until a condition holds."""

        def look() -> object:
            self.step()
            return condition()

        until(look, within_s=within_s, what=what)

    def ready(self, books: int) -> None:
        """Take events until so many books are LIVE, and forget the statuses of the time before: a
        feeder may take longer to start than a feed waits for it in silence.
        """
        self.until(lambda: self.states()[BookState.LIVE] >= books)
        self.told.clear()

    def more(self, count: int, within_s: float = 20.0) -> None:
        """Take at least `count` more market data events."""
        wanted = self.data + count
        self.until(lambda: self.data >= wanted, within_s, f"{count} more events")

    @property
    def data(self) -> int:
        """Market data events so far."""
        return self.events["Trade"] + self.events["Book"] + self.events["Bbo"]

    @property
    def lost(self) -> int:
        """Packets lost on the way."""
        return self.feed.stats.lost

    def states(self) -> Counter[BookState]:
        """Return how many books there are in each state."""
        found = [self.feed.book(instrument) for instrument in self.feed.instruments]
        return Counter(book.state for book in found if book is not None)

    def statuses(self, state: StatusState, reason: StatusReason | None = None) -> list[Status]:
        """Return the statuses of one kind so far."""
        return [
            one
            for one in self.told
            if isinstance(one, Status)
            and one.state == state
            and (reason is None or one.reason == reason)
        ]


@contextmanager
def consumer(net: Net, venue: str) -> Iterator[Consumer]:
    """A consumer for the length of the block."""
    one = Consumer(net, venue)
    try:
        yield one
    finally:
        one.feed.close()


def pid_of(run: Child, words: str) -> int:
    """Return the pid of a child of the fleet, once there is one."""
    return until(
        lambda: next((pid for pid, line in children(run.pid).items() if words in line), 0),
        what=words,
    )


def test_a_killed_feeder_is_noticed_and_comes_back_alone(start: Start, net: Net) -> None:
    """Its consumers hear of the silence and of the new session, its books recover; another
    venue's notice nothing.
    """
    folder = captures()
    run = start("up", "--replay", folder / UPBIT, folder / BINANCE, "--no-monitor", settings=QUICK)
    with consumer(net, "upbit") as struck, consumer(net, "binance") as spared:
        struck.ready(5)
        spared.ready(3)
        victim = pid_of(run, "feed upbit")
        os.kill(victim, signal.SIGKILL)

        before = spared.data
        struck.until(
            lambda: struck.statuses(StatusState.STALE, StatusReason.TIMEOUT), what="the silence"
        )
        assert struck.states()[BookState.LIVE] == 0
        seen = len(struck.books)
        struck.until(
            lambda: struck.statuses(StatusState.LIVE, StatusReason.RESTART), what="the new session"
        )
        assert all(state == BookState.LIVE for _, state, _ in struck.books[seen:])
        struck.until(lambda: struck.states()[BookState.LIVE] >= 5, what="the books")
        assert pid_of(run, "feed upbit") != victim
        assert '"process":"feed-upbit"' in run.stderr()
        assert '"exit_code":-9' in run.stderr()

        spared.until(lambda: spared.data > before + 50)
        assert spared.lost == 0
        assert not [one for one in spared.told if isinstance(one, Gap)]
        assert not spared.statuses(StatusState.STALE)
        assert not spared.statuses(StatusState.SUSPECT)
        assert '"process":"feed-binance"' not in run.stderr()


def test_a_killed_venue_is_told_and_its_books_are_not_shown_as_live(start: Start, net: Net) -> None:
    """The server dies: DISCONNECTED, books SUSPECT, the CONN lines count it; it comes back:
    books LIVE from new snapshots.
    """
    run = start("up", "--replay", captures() / BINANCE, "--no-monitor", settings=QUICK)
    lines = Receiver([(f"{net.prefix}.250", net.port)], rcvbuf=1 << 20)
    said: list[str] = []

    def conn(up: int, reconnects: int) -> bool:
        said.extend(bytes(lines.packet(index)).decode() for index in range(lines.receive(0.0)))
        found = [line.split("|") for line in said if line.startswith("CONN|binance|")]
        return any(int(line[2]) == up and int(line[4]) >= reconnects for line in found)

    with consumer(net, "binance") as heard:
        heard.ready(3)
        heard.more(50)
        feeder, connects = pid_of(run, "feed binance"), len(heard.statuses(StatusState.CONNECTED))
        os.kill(pid_of(run, "replay --json"), signal.SIGKILL)
        heard.until(
            lambda: heard.statuses(StatusState.DISCONNECTED), what="the loss of the connection"
        )
        heard.until(
            lambda: len(heard.statuses(StatusState.SUSPECT, StatusReason.DISCONNECTED)) == 3
        )
        assert heard.states() == {BookState.SUSPECT: 3}
        heard.until(lambda: conn(0, 1), what="a CONN line without a connection")

        seen = len(heard.books)
        heard.until(
            lambda: len(heard.statuses(StatusState.CONNECTED)) > connects, what="the new connection"
        )
        heard.until(lambda: heard.states()[BookState.LIVE] == 3, what="the books")
        first = {symbol: snapshot for symbol, _, snapshot in reversed(heard.books[seen:])}
        assert list(first.values()) == [True] * 3
        heard.until(lambda: conn(1, 2), what="a CONN line with a connection")
        heard.more(50)
        assert heard.lost == 0
        assert pid_of(run, "feed binance") == feeder
    lines.close()


SLOW_CONSUMER = """
import json, sys
from tapecast import Book, BookState, Feed, Gap, Status

def say(**words):
    print(json.dumps(words), flush=True)

feed = Feed(["binance"], types=[Book, Gap, Status], rcvbuf_bytes=int(sys.argv[1]))
known, live = set(), False
for event in feed:
    if isinstance(event, Book):
        known.add(event.instrument)
    states = [feed.book(name).state for name in known]
    if isinstance(event, Gap):
        live = False
        say(event="gap", missing=event.missing, reason=event.reason, states=[state.name for state in states])
    elif len(states) == 3 and all(state == BookState.LIVE for state in states) and not live:
        live = True
        tops = {name: [str(x) for side in (b.bids(3), b.asks(3)) for x in side] for name in known for b in [feed.book(name)]}
        seqs = {name: feed.book(name).instrument_seq for name in known}
        stats = feed.stats
        say(event="live", tops=tops, seqs=seqs, lost=stats.lost, drops=stats.kernel_drops)
    elif isinstance(event, Status) and event.scope.name == "CHANNEL":
        say(event="channel", state=event.state.name)
"""


def test_a_stopped_consumer_loses_alone_and_recovers(
    start: Start, net: Net, tmp_path: Path
) -> None:
    """Without repair it is told how much it lost, and that its books are suspect; they are LIVE
    again with the cycle's snapshots.

    The feeder does not wait for it, and another consumer loses nothing. When both are LIVE at
    the same change, they agree.
    """
    script = tmp_path / "slow.py"
    script.write_text(SLOW_CONSUMER)
    environ = {**_environ(net), "TAPECAST__CONSUMER__RECOVERY": "false"}
    slow = Child([sys.executable, str(script), "262144"], tmp_path, "slow", environ)
    run = start(
        "up", "--replay", captures() / BINANCE, "--speed", "2", "--no-monitor", settings=QUICK
    )
    with slow, consumer(net, "binance") as quick:
        quick.ready(3)
        until(lambda: slow.lines("live"), what="the slow consumer's books")
        before = len(slow.lines("channel"))
        with signalled(slow.pid):
            quick.more(500)
            assert slow.lines("gap") == []

        def recovery() -> object:
            live = slow.lines("live")[-1]
            return slow.lines("gap") and live["lost"] >= live["drops"] > 0 and live

        quick.until(recovery, what="the slow consumer's recovery")
        gaps = slow.lines("gap")
        assert all(gap["reason"] == "loss" and gap["missing"] > 0 for gap in gaps)
        assert {state for gap in gaps for state in gap["states"]} == {"SUSPECT"}
        recovered = slow.lines("live")[-1]
        assert recovered["lost"] <= sum(gap["missing"] for gap in gaps)
        assert "STALE" not in {line["state"] for line in slow.lines("channel")[before:]}
        quick.until(
            lambda: all((name, seq) in quick.tops for name, seq in recovered["seqs"].items())
        )
        assert recovered["tops"] == {
            name: quick.tops[name, seq] for name, seq in recovered["seqs"].items()
        }
        assert quick.lost == 0
        assert quick.feed.stats.kernel_drops == 0
        assert not [one for one in quick.told if isinstance(one, Gap)]
        assert set(quick.states()) == {BookState.LIVE}
        assert "process_ended" not in run.stderr()


def test_a_killed_consumer_disturbs_nobody(start: Start, net: Net, tmp_path: Path) -> None:
    """A consumer may come and go: the next one has books within a cycle, late as it is."""
    script = tmp_path / "slow.py"
    script.write_text(SLOW_CONSUMER)
    start("up", "--replay", captures() / BINANCE, "--no-monitor", settings=QUICK)
    with consumer(net, "binance") as steady:
        steady.ready(3)
        for number in range(3):
            with Child(
                [sys.executable, str(script), "4194304"], tmp_path, f"brief{number}", _environ(net)
            ) as brief:
                steady.until(lambda: brief.lines("live"), what="books of a late consumer")
                brief.send(signal.SIGKILL)
                assert brief.wait(5.0) == -9
        steady.more(20)
        assert steady.lost == 0
        assert not steady.statuses(StatusState.STALE)


TEN_LINES = """
from tapecast import Book, Feed, Gap, Trade

with Feed(venues=["okx", "binance"], symbols=["BTC-USDT"]) as feed:
    for event in feed:
        match event:
            # Decimal at this edge
            case Trade(): print(event.venue, event.side, event.price, event.quantity)
            case Book():  print(event.best_bid, event.best_ask)
            case Gap():   print("lost", event.missing, "packets; the book is recovering")
"""


def test_the_ten_lines_of_the_design_run_as_they_stand(
    start: Start, net: Net, tmp_path: Path
) -> None:
    """Started late, on a fleet that runs already: the script prints trades and books of both
    venues, and Ctrl-C ends it.
    """
    script = tmp_path / "ten_lines.py"
    script.write_text(TEN_LINES)
    folder = captures()
    files = [
        folder / "okx/cf_20220513_v5_books.jsonl",
        folder / "binance/hft_20240808_spot_btcusdt.jsonl",
    ]
    start("up", "--replay", *files, "--no-monitor", settings=QUICK)
    with consumer(net, "okx") as okx, consumer(net, "binance") as binance:
        okx.until(lambda: okx.states()[BookState.LIVE])
        binance.until(lambda: binance.states()[BookState.LIVE])
    with Child([sys.executable, "-u", str(script)], tmp_path, "ten_lines", _environ(net)) as child:
        until(
            lambda: (
                {"okx", "binance"}
                <= {line.split()[0] for line in child.stdout().splitlines() if line}
            ),
            within_s=40.0,
        )
        lines = child.stdout().splitlines()
        trades = [line.split() for line in lines if line.startswith(("okx ", "binance "))]
        assert all(
            len(words) == 4 and float(words[2]) > 1000 and float(words[3]) > 0 for words in trades
        )
        assert any(line.startswith("(Decimal(") for line in lines)
        assert not any(line.startswith("lost") for line in lines)
        child.send(signal.SIGINT)
        assert child.wait(5.0) != 0
        assert "KeyboardInterrupt" in child.stderr()


def _environ(net: Net) -> dict[str, str]:
    variables = {
        f"TAPECAST__{key.replace('.', '__').upper()}": value for key, value in net.settings.items()
    }
    return {**variables, "PYTHONPATH": str(ROOT)}
