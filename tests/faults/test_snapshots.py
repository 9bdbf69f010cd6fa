"""Snapshots that never come, come late, or are older than what was buffered; checksums that are
nothing, wrong or absent.

Fault table, rows 18 and 19. Time is the bench's own.
"""

from __future__ import annotations

import json
import re

import pytest

from tapecast.feeder.session.session import CommandKind
from tapecast.feeder.session.sync import SyncPolicy
from tests.support.standin.bench import Answer, Bench
from tests.support.standin.rewriting import with_number
from tests.support.standin.venue import Change, Script, StandIn

REST = ("binance", "binance_futures", "binance_coinm")
"""Venues whose books begin with a REST order book."""
STREAM = ("bybit", "coinbase", "coinbase_exchange", "deribit", "kraken", "okx")
"""Venues that send the snapshot themselves."""
DEADLINE_S = 10.0


def first(name: str) -> str:
    """Return the book that the faults strike."""
    return StandIn(name).tape.symbols[0]


def spared(bench: Bench) -> None:
    """Assert that the other books went LIVE at once and stayed so."""
    for symbol in bench.others:
        assert [event["state"] for event in bench.of(symbol, "status")] == ["live"]


@pytest.mark.parametrize("name", REST)
def test_a_rest_book_that_is_never_answered_is_asked_for_again(name: str) -> None:
    """Two requests disappear: after each deadline another one leaves; nothing of the book is
    published before it stands.
    """
    lost = Answer(after_s=DEADLINE_S, lost=True)
    bench = Bench(StandIn(name), rest=[lost, lost])
    bench.run()
    bench.assert_right()
    asked = bench.asked(CommandKind.FETCH_SNAPSHOT, bench.struck)
    assert len(asked) >= 3
    assert asked[-1] >= 2 * DEADLINE_S
    book, *_ = bench.of(bench.struck, "book")
    assert book["snapshot"]
    spared(bench)


@pytest.mark.parametrize("name", REST)
def test_a_rest_book_that_comes_twenty_seconds_late_still_counts(name: str) -> None:
    """Updates wait in the buffer until it comes, and follow it."""
    bench = Bench(StandIn(name), rest=[Answer(after_s=20.0)])
    bench.run()
    bench.assert_right()
    assert bench.session.counts["gaps"] == 0
    live = next(
        at
        for at, event in enumerate(bench.events)
        if event.get("symbol") == bench.struck and event.get("state") == "live"
    )
    assert not [
        event
        for event in bench.events[:live]
        if event.get("symbol") == bench.struck and event["type"] == "book"
    ][1:]
    spared(bench)


@pytest.mark.parametrize("name", REST)
def test_updates_that_wait_for_a_late_book_are_bounded(name: str) -> None:
    """A buffer that is full loses its oldest; the book that then is too old is fetched again,
    and the end is right.
    """
    bench = Bench(StandIn(name), rest=[Answer(after_s=9.0)], sync=SyncPolicy(buffer_updates=5))
    bench.run()
    bench.assert_right()
    assert bench.session.counts["sync_overflow"] > 0
    assert bench.session.counts["snapshot_too_old"] >= 1
    assert len(bench.asked(CommandKind.FETCH_SNAPSHOT, bench.struck)) >= 2
    spared(bench)


@pytest.mark.parametrize("name", REST)
def test_a_rest_book_older_than_the_first_update_is_fetched_again(name: str) -> None:
    """Its id lies before what was buffered: it is not used, whatever it holds, and the next
    one is.
    """

    def older(body: bytes) -> bytes:
        return with_number(body, "lastUpdateId", int(json.loads(body)["lastUpdateId"]) - 10**8)

    bench = Bench(StandIn(name), rest=[Answer(change=older), Answer(change=older)])
    bench.run()
    bench.assert_right()
    assert bench.session.counts["snapshot_too_old"] == 2
    assert bench.session.counts["snapshot_apply"] == len(bench.venue.books)
    spared(bench)


@pytest.mark.parametrize("name", STREAM)
def test_a_snapshot_that_never_comes_in_the_stream_is_asked_for_again(name: str) -> None:
    """Subscribed, acknowledged, updates come, but no snapshot: nothing is published, and a new
    subscription brings it.
    """
    bench = Bench(StandIn(name, {first(name): Script(silent=1)}))
    bench.run()
    bench.assert_right()
    asked = bench.asked(CommandKind.RESUBSCRIBE, bench.struck) + bench.asked(
        CommandKind.FETCH_SNAPSHOT, bench.struck
    )
    assert asked, "somebody has to ask"
    assert min(asked) <= DEADLINE_S + 1.0
    book, *_ = bench.of(bench.struck, "book")
    assert book["snapshot"]
    assert bench.session.counts["gaps"] == 0
    spared(bench)


@pytest.mark.parametrize("name", [name for name in STREAM if name != "okx"])
def test_tries_for_a_snapshot_that_never_comes_grow_rare_and_never_end(name: str) -> None:
    """An hour without it: eight tries in three minutes at most, then a quarter of an hour apart;
    the others stay LIVE.

    OKX falls back to REST instead.
    """
    bench = Bench(StandIn(name, {first(name): Script(silent=10**6)}))
    bench.connect()
    while bench.step():
        pass
    bench.wait(3600.0)
    asked = bench.asked(CommandKind.RESUBSCRIBE, bench.struck) + bench.asked(
        CommandKind.FETCH_SNAPSHOT, bench.struck
    )
    assert 3 <= len(asked) <= 8 + 2 * 15
    assert max(asked) > 1800.0
    assert bench.of(bench.struck, "book") == []
    assert bench.wrong_seen == []
    spared(bench)


# checksums


def zero(frame: bytes) -> bytes:
    """Return a frame whose checksum is 0."""
    return re.sub(rb'"checksum":-?\d+', b'"checksum":0', frame)


def wrong(frame: bytes) -> bytes:
    """Return a frame with a checksum that is not its book's."""
    return re.sub(rb'"checksum":-?\d+', b'"checksum":12345', frame)


def absent(frame: bytes) -> bytes:
    """Return a frame without a checksum."""
    return re.sub(rb',"checksum":-?\d+', b"", frame)


@pytest.mark.parametrize("change", [zero, wrong, absent])
def test_okx_checksums_are_not_looked_at_in_the_live_stream(change: Change) -> None:
    """The venue's are dead: 0, wrong or absent, the sequence ids alone decide."""
    bench = Bench(StandIn("okx", {first("okx"): Script(changes={5: change})}))
    bench.run()
    bench.assert_right()
    assert bench.session.counts["gaps"] == 0
    assert bench.commands == []


def test_okx_checksums_of_old_recordings_are_verified() -> None:
    """Where they were real, a wrong one is a loss of its book: told as such, and healed by a new
    subscription.
    """
    symbol = "BTC-USDT"
    bench = Bench(StandIn("okx", {symbol: Script(changes={5: wrong})}), verify_checksum=True)
    bench.run()
    bench.assert_right()
    assert [gap["reason"] for gap in bench.of(symbol, "gap")] == ["checksum"]
    assert len(bench.asked(CommandKind.RESUBSCRIBE, symbol)) == 1
    assert bench.of(bench.struck, "gap") == []
    assert bench.session.counts["checksum_ok"] > 40


@pytest.mark.parametrize(("change", "told"), [
    (wrong, ("gap", "checksum")),
    (zero, ("gap", "checksum")),
    (absent, ("status", "quarantine")),
])  # fmt: skip
def test_krakens_checksum_is_its_sequence(change: Change, told: tuple[str, str]) -> None:
    """Wrong, it costs the book. A message without it cannot stand, so neither can the book: no
    id would show what it lacks.
    """
    bench = Bench(StandIn("kraken", {first("kraken"): Script(changes={5: change})}))
    bench.run()
    bench.assert_right(quarantined=int(change is absent))
    found = [
        (event["type"], event["reason"])
        for event in bench.of(bench.struck)
        if event["type"] in ("gap", "status")
    ]
    assert found == [("status", "first_sync"), told, ("status", "resynced")]
    assert len(bench.asked(CommandKind.RESUBSCRIBE, bench.struck)) == 1
    spared(bench)
