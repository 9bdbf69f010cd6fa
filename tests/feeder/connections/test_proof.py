"""First data and silence, by injected clocks: what proves a subscription, and what ends a
connection.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.feeder.connections.proof import Finding, FindingKind, ProofPolicy, Watch, Watched
from tapecast.feeder.venues.spec import Topic
from tapecast.protocol.schema import MsgType
from tapecast.protocol.stamping import COLUMN_OF, STAMP_COLUMNS
from tapecast.protocol.units import NS_PER_S

BOOK, TRADE, BBO = MsgType.BOOK, MsgType.TRADE, MsgType.BBO
POLICY = ProofPolicy(
    first_data_s={BOOK: 30, TRADE: 120, BBO: 60},
    idle_s={BOOK: 60, BBO: 300},
    connection_idle_s=60,
    quiet_idle_s=600,
)


class Bench:
    """A watch, its counters and its clock."""

    def __init__(
        self, *kinds: MsgType, symbols: int = 3, strikes: int = 0, policy: ProofPolicy = POLICY
    ) -> None:
        """Watch these kinds of channels of so many symbols."""
        self.counters: npt.NDArray[np.uint32] = np.zeros((symbols, STAMP_COLUMNS), np.uint32)
        self.counters[:] = 7  # of an earlier connection
        self.now_ns = self.data_ns = 1000 * NS_PER_S
        watched = [
            Watched(Topic(kind.name, f"S{row}"), row, kind)
            for kind in kinds
            for row in range(symbols)
        ]
        self.watch = Watch(watched, policy, self.counters, self.now_ns, strikes)
        self.waiting: set[int] = set()

    def event(self, kind: MsgType, row: int = 0) -> None:
        """Let an event be published."""
        self.counters[row, COLUMN_OF[kind]] += 1
        self.data_ns = self.now_ns

    def look(self, *, trading: bool = True) -> list[Finding]:
        """Look now."""
        return self.watch.look(
            self.counters, self.waiting, self.data_ns, self.now_ns, trading=trading
        )

    def after(self, seconds: float, *with_data: tuple[MsgType, int]) -> list[Finding]:
        """Let time pass, look each second, and return what was found; `with_data` topics have an
        event each second.
        """
        found = []
        for _ in range(int(seconds)):
            self.now_ns += NS_PER_S
            for kind, row in with_data:
                self.event(kind, row)
            found += self.look()
        return found


def kinds(found: list[Finding]) -> list[FindingKind]:
    """Return what was found."""
    return [finding.kind for finding in found]


def test_an_acknowledgement_proves_nothing() -> None:
    """No event at all: after the deadline the connection is to be made anew, for another URL."""
    bench = Bench(TRADE)
    assert bench.after(120) == []
    (found,) = bench.after(1)
    assert found.kind is FindingKind.UNPROVEN
    assert found.ends
    assert len(found.topics) == 3
    assert bench.watch.proved == 0


def test_one_silent_topic_is_told_once_and_ends_nothing() -> None:
    """Two of three books speak: the third is told, the connection stays."""
    bench = Bench(BOOK)
    found = bench.after(200, (BOOK, 0), (BOOK, 2))
    assert kinds(found) == [FindingKind.SILENT]
    assert found[0].topics == (Topic("BOOK", "S1"),)
    assert not found[0].ends
    assert (bench.watch.proved, bench.watch.topics) == (2, 3)
    (speaks,) = bench.after(5, (BOOK, 0), (BOOK, 1), (BOOK, 2))
    assert (speaks.kind, speaks.topics, speaks.ends) == (
        FindingKind.HAS_DATA,
        (Topic("BOOK", "S1"),),
        False,
    )
    assert bench.watch.proved == 3


def test_quiet_trades_on_a_busy_connection_end_nothing() -> None:
    """Books speak, nobody trades for hours: the topics are told, once."""
    bench = Bench(BOOK, TRADE)
    found = bench.after(3 * 3600, *((BOOK, row) for row in range(3)))
    assert kinds(found) == [FindingKind.SILENT]


def test_books_that_stop_while_trades_go_on_end_the_connection() -> None:
    """Half of the subscriptions died on the venue's side."""
    bench = Bench(BOOK, TRADE)
    everything = [(kind, row) for kind in (BOOK, TRADE) for row in range(3)]
    assert bench.after(100, *everything) == []
    found = bench.after(61, (TRADE, 0))
    assert kinds(found) == [FindingKind.IDLE]
    assert "no book" in found[0].text


def test_one_quiet_book_among_busy_ones_ends_nothing() -> None:
    """A class speaks as long as one of its topics does."""
    bench = Bench(BOOK)
    assert bench.after(10, (BOOK, 0), (BOOK, 1), (BOOK, 2)) == []
    assert bench.after(10_000, (BOOK, 1)) == []


def test_a_connection_without_any_data_ends_after_its_limit() -> None:
    """With books after a minute, with trades alone after ten: nobody may have traded."""
    for what, limit in (((BOOK, TRADE), 60), ((TRADE,), 600)):
        bench = Bench(*what)
        assert bench.after(10, *((kind, row) for kind in what for row in range(3))) == []
        assert bench.after(limit) == []
        assert kinds(bench.after(1)) == [FindingKind.IDLE]


def test_data_that_publishes_nothing_still_speaks_for_the_connection() -> None:
    """Updates that wait for a snapshot prove their books; other data without events keep the
    connection.
    """
    bench = Bench(BOOK)
    bench.waiting = {0, 1, 2}
    for _ in range(50):
        bench.data_ns = bench.now_ns
        assert bench.after(1) == []
    assert bench.watch.proved == 3


def test_each_strike_doubles_the_limits_up_to_eight_times() -> None:
    """A market may be quieter than the limits suppose; a new connection does not make it louder."""
    for strikes, factor in ((0, 1), (1, 2), (3, 8), (9, 8)):
        bench = Bench(TRADE, strikes=strikes)
        assert bench.after(120 * factor - 1) == [] or strikes > 9
        assert kinds(bench.after(3))[0] is FindingKind.UNPROVEN


def test_no_clock_runs_while_the_venue_is_closed() -> None:
    """A night without trading proves nothing against a connection."""
    bench = Bench(BOOK)
    bench.after(10, (BOOK, 0), (BOOK, 1), (BOOK, 2))
    for _ in range(1000):
        bench.now_ns += 60 * NS_PER_S
        assert bench.look(trading=False) == []
    assert bench.after(59) == []
    assert kinds(bench.after(10))[0] is FindingKind.IDLE


def test_a_connection_without_topics_is_never_judged() -> None:
    """Symbols that the venue has not leave nothing to watch."""
    bench = Bench()
    assert bench.after(10_000) == []


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 50)), min_size=1, max_size=60))
def test_no_finding_while_some_book_speaks_within_the_limits(events: list[tuple[int, int]]) -> None:
    """Property: as long as no pause between events reaches a limit, the connection is not ended."""
    bench = Bench(BOOK)
    bench.event(BOOK, 0)
    assert not any(found.ends for found in bench.look())
    for row, pause in events:
        found = bench.after(pause)
        assert not any(one.ends for one in found)
        bench.event(BOOK, row)
        assert not any(one.ends for one in bench.look())
