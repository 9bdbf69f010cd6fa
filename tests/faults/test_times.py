"""Wrong times of the venue and steps of our own clock: no book is lost by them, and what a time
is worth stands in its flag.

Fault table, rows 30 and 31. Prices, sizes and sequence numbers stay as recorded; only the fields
of time change.
"""

from __future__ import annotations

import re
import time
from functools import cache
from pathlib import Path

import pytest

from tapecast.feeder import live
from tapecast.feeder.clock_watch import ClockWatch
from tests.support.standin.bench import Bench, Event
from tests.support.standin.rewriting import FIELDS
from tests.support.standin.server import StandInServer
from tests.support.standin.tape import TAPES
from tests.support.standin.venue import Change, Script, StandIn
from tests.support.venue_server import eventually

from .test_connections import running
from .test_rotation import heard

AT = 1
HOUR_S = 3600.0
INTEGER = [name for name in TAPES if not FIELDS[name].iso]
ISO = [name for name in TAPES if FIELDS[name].iso]
AUTO = ("binance", "bithumb", "upbit")
"""Venues of which both milliseconds and microseconds are known: the number of digits tells."""


def times(name: str, change: str) -> Change:
    """Return what writes every integer time of a frame as `change` says: a text, or digits
    behind the recorded ones.
    """
    pattern = re.compile(rb'("(?:%s)"\s*:\s*"?)(\d+)' % "|".join(FIELDS[name].times).encode())

    def changed(frame: bytes) -> bytes:
        if change.startswith("+"):
            return pattern.sub(lambda m: m[1] + m[2] + change[1:].encode(), frame)
        return pattern.sub(lambda m: m[1] + change.encode(), frame)

    return changed


def struck(name: str, change: Change) -> tuple[Bench, Event]:
    """Run a venue whose book has one message with other times; return the run and that message's
    event.
    """
    stand_in = StandIn(name)
    symbol = stand_in.tape.symbols[0]
    at = stand_in.tape.books[symbol].covered + AT
    stand_in.books[symbol].script = Script(changes={at: change})
    bench = Bench(stand_in)
    bench.run()
    bench.assert_right()
    assert bench.of(symbol, "gap") == []
    assert bench.session.counts["resyncs"] == 0
    for other in bench.others:
        assert [event["state"] for event in bench.of(other, "status")] == ["live"]
    events = bench.of(symbol)
    live = next(
        number
        for number, event in enumerate(events)
        if event.get("state") == "live" and event["type"] == "status"
    )
    books = [
        event
        for event in events[live:]
        if event["type"] == "book" and "recovered" not in event["flags"]
    ]
    whole = stand_in.tape.books[symbol].start is None and stand_in.tape.books[symbol].body is None
    return bench, books[AT - whole]


@cache
def stepped(name: str, step_s: float) -> tuple[object, object]:
    """Return what a run asked for and told, whose receive clock is set in its middle; its own
    stamps left out.
    """
    bench = Bench(StandIn(name))
    bench.connect()
    for _ in range(5):
        bench.step()
    bench.recv_ns += int(step_s * 1e9)
    bench.run()
    bench.assert_right()
    assert bench.session.counts["gaps"] == bench.session.counts["resyncs"] == 0
    return bench.commands, [
        {key: event[key] for key in event if key not in ("ts_recv_ns", "ts_ns")}
        for event in bench.events
    ]


@pytest.mark.parametrize("name", INTEGER)
@pytest.mark.parametrize("time", ["0", "1", "99999999999999999999"])
def test_a_time_out_of_range_is_flagged_and_costs_nothing(name: str, time: str) -> None:
    """0, 1970, beyond what the wire holds: 0 and BAD_TS_EXCHANGE, never a guess; the book goes
    on in order.
    """
    _, event = struck(name, times(name, time))
    assert event["ts_exchange_ns"] == 0
    assert "bad_ts_exchange" in event["flags"]


@pytest.mark.parametrize("name", INTEGER)
def test_microseconds_where_milliseconds_were_are_never_read_as_milliseconds(name: str) -> None:
    """Where both are known the digits tell, elsewhere it is no time; the year 52000 never comes
    out.
    """
    _, event = struck(
        name, times(name, "+000") if name != "bithumb" else times(name, "1790133514039000")
    )
    if name in AUTO:
        assert 1_500_000_000 < event["ts_exchange_ns"] / 1e9 < 2_000_000_000
        assert "bad_ts_exchange" not in event["flags"]
    else:
        assert event["ts_exchange_ns"] == 0
        assert "bad_ts_exchange" in event["flags"]


@pytest.mark.parametrize("name", ISO)
@pytest.mark.parametrize("year", ["0001", "1970"])
def test_the_year_one_is_no_time(name: str, year: str) -> None:
    """Times in text that some venues send for "none": 0 and BAD_TS_EXCHANGE."""
    _, event = struck(
        name, lambda frame: re.sub(rb'"\d{4}(-\d\d-\d\dT)', rb'"%s\1' % year.encode(), frame)
    )
    assert event["ts_exchange_ns"] == 0
    assert "bad_ts_exchange" in event["flags"]


@pytest.mark.parametrize("name", ["upbit"])
def test_a_time_in_the_future_does_not_keep_the_true_books_out(name: str) -> None:
    """Books without numbers are ordered by time: one far ahead of our clock is taken as it
    arrives and orders nothing.
    """
    bench, _ = struck(name, times(name, "1917646620849"))
    assert bench.session.counts["out_of_date"] == 0


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
@pytest.mark.parametrize("name", [name for name in TAPES if name != "coinbase"])
def test_a_step_of_our_clock_changes_nothing_but_the_stamps(name: str, step_s: float) -> None:
    """An hour forward or back in the middle of a run: no deadline acts, no book is lost, no
    event differs.
    """
    assert stepped(name, step_s) == stepped(name, 0.0)


def test_a_clock_that_is_slewed_is_believed_and_one_that_is_set_is_not() -> None:
    """Half a thousandth fast for a day: never a step. Set by a second, either way: a minute of
    flags, then believed again.
    """
    watch, second = ClockWatch(), 10**9
    now, offset = 5 * second, 10**18
    for _ in range(86_400):
        now += second
        offset += second // 2000
        assert not watch.look(now, now + offset)
    for step in (second, -second):
        offset += step
        assert watch.look(now + 1, now + 1 + offset)
        assert watch.step_ns == step
        now += 59 * second
        assert watch.look(now, now + offset)
        now += 2 * second
        assert not watch.look(now, now + offset)
    assert watch.steps == 2


async def test_packets_after_a_step_of_our_clock_are_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is set an hour forward under a running feeder: told, counted, BAD_TS_RECV in
    every packet, no book lost.
    """
    server = StandInServer(StandIn("upbit"), pace_s=0.05)
    ahead_ns = 0

    class Clock:
        """The `time` module with a realtime clock that a test sets."""

        monotonic = staticmethod(time.monotonic)
        monotonic_ns = staticmethod(time.monotonic_ns)

        @staticmethod
        def time_ns() -> int:
            return time.time_ns() + ahead_ns

        @staticmethod
        def time() -> float:
            return Clock.time_ns() / 1e9

    monkeypatch.setattr(live, "time", Clock)
    events: list[Event] = []
    async with running(
        tmp_path, {"upbit": server}, None, lambda _, feeder: heard(feeder, events)
    ) as run:
        feeder = run.feeders["upbit"]
        await eventually(lambda: sum(event["type"] == "book" for event in events) > 5)
        assert not any("bad_ts_recv" in event["flags"] for event in events)
        ahead_ns = 3600 * 10**9
        await eventually(lambda: feeder.session.counts["clock_steps"] == 1)
        before = len(events)
        await run.settle("upbit")
        assert all("bad_ts_recv" in event["flags"] for event in events[before + 1 :])
        assert len(events) > before + 5
        assert (
            feeder.session.counts["gaps"]
            == feeder.session.counts["resyncs"]
            == feeder.connections.losses
            == 0
        )
