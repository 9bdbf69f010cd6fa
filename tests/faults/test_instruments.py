"""Books that cross, and lists of instruments that change while their books run: at every venue
that recordings allow.

Fault table, rows 32 and 33. A crossed book is made of recorded levels put on the other side; a
changed list is the recorded one with another tick, another state, or one instrument more or
less.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tapecast.feeder.record.recording import read
from tapecast.feeder.venues import venue
from tests.support.captures import captures
from tests.support.standin.bench import Bench, Event
from tests.support.standin.tape import load, read_book
from tests.support.standin.venue import Script, StandIn

SIDES: dict[str, tuple[bytes, bytes]] = {
    "binance": (b'"b":[', b'"a":['),
    "binance_futures": (b'"b":[', b'"a":['),
    "binance_coinm": (b'"b":[', b'"a":['),
    "bybit": (b'"b":[', b'"a":['),
    "coinbase_exchange": (b'["buy"', b'["sell"'),
    "deribit": (b'"bids":', b'"asks":'),
    "okx": (b'"bids":', b'"asks":'),
}
"""How the sides of an update are spelled. Kraken's checksum catches a wrong side at once;
Coinbase's tape is too short to see.
"""


def turned(name: str, frame: bytes) -> bytes:
    """Return an update with its sides exchanged."""
    first, second = SIDES[name]
    return frame.replace(first, b"\x00").replace(second, first).replace(b"\x00", second)


def crossing(name: str) -> int:
    """Return the position of an update that crosses the book when its sides are exchanged: it
    sets a level.
    """
    stand_in = StandIn(name)
    book = stand_in.tape.books[stand_in.tape.symbols[0]]
    for position in range(book.covered + 1, len(book.updates)):
        message = read_book(name, book.updates[position].raw)
        if any(quantity for _, quantity in (*message.bids, *message.asks)):
            return position
    raise AssertionError("no update of the tape sets a level")


@pytest.mark.parametrize("name", SIDES)
def test_a_crossed_book_is_given_up_and_comes_back_right(name: str) -> None:
    """Ten crossed events, or a second of them: SUSPECT, one recovery, and the end is the venue's
    own book; others go on.
    """
    stand_in = StandIn(name)
    symbol = stand_in.tape.symbols[0]
    stand_in.books[symbol].script = Script(
        changes={crossing(name): lambda frame: turned(name, frame)}
    )
    bench = Bench(stand_in)
    bench.run()
    assert 1 <= len(bench.wrong_seen) <= 2 * 10 * len(bench.venue.books), (
        "tolerated for a while, and no longer"
    )
    bench.wrong_seen.clear()
    bench.assert_right()
    states = [(event["state"], event["reason"]) for event in bench.of(symbol, "status")]
    assert states == [("live", "first_sync"), ("suspect", "crossed"), ("live", "resynced")]
    assert bench.session.counts["resyncs"] == 1
    for other in bench.others:
        assert [event["state"] for event in bench.of(other, "status")] == ["live"]


def test_a_side_that_is_wrong_at_kraken_never_becomes_a_book() -> None:
    """The checksum of the very message says so."""
    stand_in = StandIn("kraken")
    symbol = stand_in.tape.symbols[0]
    stand_in.books[symbol].script = Script(
        changes={
            3: lambda frame: (
                frame.replace(b'"bids":', b"\x00")
                .replace(b'"asks":', b'"bids":')
                .replace(b"\x00", b'"asks":')
            )
        }
    )
    bench = Bench(stand_in)
    bench.run()
    bench.assert_right()
    assert [gap["reason"] for gap in bench.of(symbol, "gap")] == ["checksum"]


def test_whole_books_that_cross_are_given_up_after_ten() -> None:
    """Sides sent the wrong way round for a while: not LIVE from the tenth such book on, LIVE
    again when they are right.
    """
    stand_in = StandIn("upbit")
    symbol = stand_in.tape.symbols[0]
    swap = {b"ap": b"bp", b"bp": b"ap", b"as": b"bs", b"bs": b"as"}

    def exchanged(frame: bytes) -> bytes:
        return re.sub(rb'"(ap|bp|as|bs)"', lambda found: b'"' + swap[found[1]] + b'"', frame)

    stand_in.books[symbol].script = Script(changes=dict.fromkeys(range(3, 25), exchanged))
    bench = Bench(stand_in)
    bench.run()
    bench.wrong_seen.clear()
    bench.assert_right()
    states = [(event["state"], event["reason"]) for event in bench.of(symbol, "status")]
    assert ("suspect", "crossed") in states
    assert states[-1] == ("live", "resynced")
    assert bench.session.counts["crossed"] >= 10
    for other in bench.others:
        assert [event["state"] for event in bench.of(other, "status")] == ["live"]


class Listing(NamedTuple):
    """A recorded list of instruments, and where in an entry its symbol, tick and state stand."""

    file: str
    url: str
    entries: Callable[[Any], list[Any]]
    symbol: str
    tick: Callable[[Any, str], None]
    """Sets the tick of an entry."""
    halted: dict[str, Any]
    """What an entry says that is not traded at present."""


def _filter(entry: Any, tick: str) -> None:
    next(one for one in entry["filters"] if one["filterType"] == "PRICE_FILTER")["tickSize"] = tick


LISTINGS = {
    "binance": Listing(
        "binance/cf_20211012_spot.jsonl",
        "exchangeInfo",
        lambda b: b["symbols"],
        "symbol",
        _filter,
        {"status": "BREAK"},
    ),
    "binance_futures": Listing(
        "binance_futures/cf_20210722_usdm.jsonl",
        "exchangeInfo",
        lambda b: b["symbols"],
        "symbol",
        _filter,
        {"status": "SETTLING"},
    ),
    "bybit": Listing(
        "bybit/cf_20260809_v5_linear_spot.p1.jsonl",
        "category=linear",
        lambda b: b["result"]["list"],
        "symbol",
        lambda entry, tick: entry["priceFilter"].update(tickSize=tick),
        {"status": "Closed"},
    ),
    "coinbase_exchange": Listing(
        "coinbase/cf_20210417_exchange_ws_feed.p1.jsonl",
        "products",
        lambda b: b,
        "id",
        lambda entry, tick: entry.update(quote_increment=tick),
        {"trading_disabled": True},
    ),
    "okx": Listing(
        "okx/cf_20220513_v5_books.jsonl",
        "instType=SWAP",
        lambda b: b["data"],
        "instId",
        lambda entry, tick: entry.update(tickSz=tick),
        {"state": "suspend"},
    ),
}
FINER = "0.000000001"
"""Finer than any tick of the recorded lists; prices do not use it."""


def listing(name: str) -> tuple[Listing, Any]:
    """Return where a list's fields stand, and the recorded list."""
    known = LISTINGS[name]
    lines = read([captures() / known.file])
    body = next(
        line.raw for line in lines if line.kind == "http" and line.url and known.url in line.url
    )
    return known, json.loads(body)


def entry_of(known: Listing, body: Any, symbol: str) -> Any:
    """Return an instrument's entry."""
    return next(entry for entry in known.entries(body) if entry[known.symbol] == symbol)


def changed(name: str, change: Callable[[Listing, Any, str], None]) -> tuple[Bench, list[Event]]:
    """Run a venue with its recorded list, change the list in the middle; return the run and what
    was told at once.
    """
    known, body = listing(name)
    bench = Bench(StandIn(name), instruments=json.dumps(body).encode())
    bench.connect()
    for _ in range(8):
        bench.step()
    before = len(bench.events)
    change(known, body, bench.struck)
    bench.session.on_instruments(json.dumps(body).encode(), bench.recv_ns, bench.feed.now_ns)
    bench.flush()
    since = bench.events[before:]
    bench.run()
    bench.assert_right()
    assert bench.session.counts["gaps"] == bench.session.counts["resyncs"] == 0
    for other in bench.others:
        assert [event for event in since if event.get("symbol") == other] == []
    return bench, since


@pytest.mark.parametrize("name", LISTINGS)
def test_another_tick_is_a_new_definition_and_a_fresh_snapshot(name: str) -> None:
    """Published at once, the version counted up; the book comes again at the new exponents, and
    goes on; others hear nothing.
    """
    bench, since = changed(
        name, lambda known, body, symbol: known.tick(entry_of(known, body, symbol), FINER)
    )
    definition, book = since[0], since[1]
    assert (definition["type"], definition["tick"]) == ("instrument", FINER)
    assert definition["version"] == max(
        event["version"] for event in bench.of(bench.struck, "instrument")
    )
    assert definition["version"] >= 2
    assert (book["type"], book["snapshot"]) == ("book", True)
    assert "recovered" in book["flags"]


@pytest.mark.parametrize("name", LISTINGS)
def test_an_instrument_that_is_halted_is_told(name: str) -> None:
    """Its state is another one in a new definition; the book stays what it was."""
    bench, since = changed(
        name, lambda known, body, symbol: entry_of(known, body, symbol).update(known.halted)
    )
    (definition,) = since
    assert definition["state"] != bench.of(bench.struck, "instrument")[0]["state"]
    assert definition["version"] >= 2


@pytest.mark.parametrize("name", LISTINGS)
def test_a_new_listing_and_one_that_is_gone_disturb_nobody(name: str) -> None:
    """A list without another instrument and with a new one: known for whoever asks, nothing is
    published for those in use.
    """
    spec = venue(name)
    gone = new = ""

    def moved(known: Listing, body: Any, symbol: str) -> None:
        nonlocal gone, new
        entries, ours = known.entries(body), load(name).symbols
        foreign = [entry for entry in entries if entry[known.symbol] not in ours]
        gone, new = foreign[0][known.symbol], f"NEW{foreign[1][known.symbol]}"
        entries.append({**foreign[1], known.symbol: new})
        entries.remove(foreign[0])

    bench, since = changed(name, moved)
    assert since == []
    assert spec.kind_of(new) is not None
    assert any(definition.symbol == new for definition in bench.session.known.values())
