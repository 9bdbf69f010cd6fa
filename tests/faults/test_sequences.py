"""Sequence numbers that skip, repeat or go back, at every venue: its own gap rule, one book
struck, the others spared.

Fault table, row 17. Frames are recorded ones (`tests.support.standin`); what changes is their
order.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import NamedTuple

import pytest

from tapecast.feeder.session.session import CommandKind
from tests.support.standin.bench import Bench, Event
from tests.support.standin.tape import Truth
from tests.support.standin.venue import Script, StandIn

AT = 7
"""Position of the update that the fault strikes: the book has been LIVE for several updates by
then.
"""
SEEN = 10
"""Levels a side that Kraken's checksum is over: what happens below them no client can see."""


class Rule(NamedTuple):
    """What a venue's rule says of each fault: the reason of the gap that is told, or "" where
    nothing was lost.
    """

    skipped: str
    repeated: str
    old: str
    swapped: str
    """An update comes before the one that it follows."""


GAP = "gap"
RULES = {
    "binance": Rule(GAP, "", "", GAP),
    "binance_futures": Rule(GAP, "", "", GAP),
    "binance_coinm": Rule(GAP, "", "", GAP),
    "bybit": Rule(GAP, "", GAP, GAP),
    "deribit": Rule(GAP, "", GAP, GAP),
    "okx": Rule(GAP, "", GAP, GAP),
    "kraken": Rule("checksum", "", "checksum", "checksum"),
}
"""Kraken numbers nothing: its checksum shows what is lost."""
WHOLE = ("bithumb", "upbit")
"""Every message is the whole book, and only its time orders them."""


@cache
def undisturbed(name: str) -> Bench:
    """Return a run of the venue without any fault."""
    bench = Bench(StandIn(name))
    bench.run()
    bench.assert_right()
    assert bench.session.counts["gaps"] == 0
    return bench


def struck(name: str, script: Script) -> Bench:
    """Run a venue whose first book follows a script."""
    bench = Bench(StandIn(name, {StandIn(name).tape.symbols[0]: script}))
    bench.run()
    bench.assert_right()
    return bench


def gaps(bench: Bench, symbol: str) -> list[Event]:
    """Return the gaps that were told of a book."""
    return bench.of(symbol, "gap")


def spared(bench: Bench, name: str) -> None:
    """Assert that every other book has the very events of a run without the fault, and that
    nothing was asked for it again.
    """
    clean = undisturbed(name)
    for symbol in bench.others:
        assert [seen(event) for event in bench.of(symbol)] == [
            seen(event) for event in clean.of(symbol)
        ]
        assert len(bench.asked(CommandKind.FETCH_SNAPSHOT, symbol)) == len(
            clean.asked(CommandKind.FETCH_SNAPSHOT, symbol)
        )
        assert bench.asked(CommandKind.RESUBSCRIBE, symbol) == []
    assert bench.asked(CommandKind.RECONNECT) == []


def seen(event: Event) -> dict[str, object]:
    """Return an event without its receive time."""
    return {key: value for key, value in event.items() if key != "ts_recv_ns"}


def recoveries(bench: Bench) -> int:
    """Return how often the struck book was asked for, in whichever way."""
    return sum(
        len(bench.asked(kind, bench.struck))
        for kind in (CommandKind.FETCH_SNAPSHOT, CommandKind.RESUBSCRIBE)
    )


def judge(name: str, order: list[int], reason: str) -> None:
    """Run the fault and hold it against the rule: one gap and one recovery, or none of both."""
    bench = struck(name, Script(order))
    told = gaps(bench, bench.struck)
    clean = undisturbed(name)
    asked = recoveries(bench) - recoveries(clean)
    if reason:
        assert [gap["reason"] for gap in told] == [reason]
        assert asked == 1
        states = [(event["state"], event["reason"]) for event in bench.of(bench.struck, "status")]
        assert states[-1] == ("live", "resynced")
    else:
        assert told == []
        assert asked == 0
        assert [event["state"] for event in bench.of(bench.struck, "status")] == ["live"]
    spared(bench, name)


def count(name: str) -> int:
    """Return how many updates the struck book has."""
    tape = StandIn(name).tape
    return len(tape.books[tape.symbols[0]].updates)


@cache
def place(name: str) -> int:
    """Return the position that is struck: at Kraken one that changes the levels which its
    checksum is over.
    """
    if name != "kraken":
        return AT
    tape = StandIn(name).tape
    book = tape.books[tape.symbols[0]]
    for position in range(AT, len(book.updates) - 2):
        whole, short = Truth(tape, book), Truth(tape, book)
        whole.advance(position + 1)
        short.leave_out(position)
        short.advance(position + 1)
        if best(whole) != best(short):
            return position
    raise AssertionError("no update of the tape changes the best levels")


def best(truth: Truth) -> list[list[tuple[Decimal, Decimal]]]:
    """Return the levels that the checksum is over."""
    bids, asks = truth.sides
    return [sorted(bids.items(), reverse=True)[:SEEN], sorted(asks.items())[:SEEN]]


@pytest.mark.parametrize("name", RULES)
def test_a_skipped_update_costs_its_book_one_recovery(name: str) -> None:
    """The gap is told once, the book is not LIVE until a new snapshot stands, and ends as the
    venue's own.
    """
    order = [position for position in range(count(name)) if position != place(name)]
    judge(name, order, RULES[name].skipped)


@pytest.mark.parametrize("name", RULES)
def test_several_skipped_updates_are_one_gap(name: str) -> None:
    """Three in a row."""
    at = place(name)
    order = [position for position in range(count(name)) if position not in (at, at - 1, at - 2)]
    judge(name, order, RULES[name].skipped)


@pytest.mark.parametrize("name", RULES)
def test_a_repeated_update_changes_nothing(name: str) -> None:
    """The same update three times over is that update once."""
    order = list(range(count(name)))
    judge(name, [*order[:AT], AT, AT, *order[AT:]], RULES[name].repeated)


@pytest.mark.parametrize("name", RULES)
def test_an_update_that_comes_again_late_never_reaches_a_live_book(name: str) -> None:
    """Numbers go backwards: older than the book where the venue's rule ignores it, a loss where
    it does not.
    """
    order = list(range(count(name)))
    at = place(name)
    judge(name, [*order[: at + 1], at - 1, *order[at + 1 :]], RULES[name].old)


@pytest.mark.parametrize("name", RULES)
def test_two_updates_in_the_wrong_order_are_a_gap(name: str) -> None:
    """What comes too early shows that something is missing; the book waits for a snapshot, not
    for luck.
    """
    order, at = list(range(count(name))), place(name)
    order[at], order[at + 1] = order[at + 1], order[at]
    judge(name, order, RULES[name].swapped)


@pytest.mark.parametrize("name", RULES)
def test_a_book_that_is_lost_again_is_recovered_again(name: str) -> None:
    """An update is missing after the recovery too, and after the next one: three gaps, three
    recoveries, then it is right.
    """
    order = [position for position in range(count(name)) if position != place(name)]
    bench = struck(name, Script(order, turns=3))
    assert len(gaps(bench, bench.struck)) == bench.session.counts["resyncs"] == 3
    spared(bench, name)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_books_heal_with_the_next_one(name: str) -> None:
    """Left out, repeated: the next message is the whole book; nothing is asked for, nothing is
    told as lost.
    """
    order = [position for position in range(count(name)) if position != min(AT, count(name) - 2)]
    for sent in (order, [order[0], *order, order[-1]]):
        bench = struck(name, Script(sent))
        assert gaps(bench, bench.struck) == []
        assert bench.commands == []
        spared(bench, name)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_book_from_the_past_is_left_out(name: str) -> None:
    """An older message after a newer one never becomes the book."""
    order = list(range(count(name)))
    late = min(AT, count(name) - 1)
    bench = struck(name, Script([*order[: late + 1], late - 1, *order[late + 1 :]]))
    assert bench.session.counts["out_of_date"] == 1
    spared(bench, name)


def test_a_message_lost_on_a_numbered_connection_costs_the_connections_books() -> None:
    """Coinbase numbers every message of a connection, whatever it is about: a new one brings new
    snapshots.
    """
    bench = Bench(StandIn("coinbase"))
    bench.connect()
    for _ in range(AT):
        bench.step()
    (link,) = bench.links.values()
    link.lose_a_message()
    bench.run()
    bench.assert_right()
    assert [gap["reason"] for gap in gaps(bench, bench.struck)] == ["gap"]
    assert len(bench.asked(CommandKind.RECONNECT)) == 1
    assert len(bench.venue.links) == 2


def test_a_repeated_absolute_update_changes_no_book_of_coinbase_exchange() -> None:
    """Its books have no numbers: a loss cannot be seen there (docs/venues), but what comes twice
    does no harm.
    """
    name = "coinbase_exchange"
    order = list(range(count(name)))
    bench = struck(name, Script([*order[: AT + 1], AT, AT, *order[AT + 1 :]]))
    assert gaps(bench, bench.struck) == []
    spared(bench, name)


@pytest.mark.parametrize("name", ["kraken", "coinbase_exchange", "bybit", "binance"])
def test_a_message_that_a_defect_of_ours_eats_never_leaves_a_wrong_book_live(name: str) -> None:
    """Where ids would show it with the next update, they do; where none would, the book is given
    up at once.
    """
    bench = Bench(StandIn(name))
    bench.connect()
    for _ in range(AT):
        bench.step()
    ((connection, link),) = bench.links.items()
    frame = link.next(bench.struck)
    assert frame is not None
    bench.session.on_defect(
        connection, frame, "ZeroDivisionError()", bench.recv_ns, bench.feed.now_ns
    )
    bench.flush()
    numbered = name in ("bybit", "binance")
    assert bench.session.counts["resyncs"] == int(not numbered), (
        "at once, before anything else is published"
    )
    bench.run()
    bench.assert_right(quarantined=1)
    assert len(gaps(bench, bench.struck)) == int(numbered)
    assert bench.session.counts["resyncs"] == 1
