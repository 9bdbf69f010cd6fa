"""Every recording of the venues that the oracle knows through session, publisher and renderer,
against a second reading of the raw messages.

The oracle is `tests.support.feeder_oracle`; the numbers of applied updates, of checksums and of
messages are also those that the recordings' own README states.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tapecast.feeder.decode_command import events
from tapecast.feeder.offline import Offline
from tapecast.feeder.record.recording import read
from tapecast.feeder.venues import venue
from tests.support.captures import Recording, captures, foreign, names, recording
from tests.support.feeder_oracle import (
    ORACLES,
    Bbo,
    BookMessage,
    Story,
    Trade,
    apply,
    first_lines,
    tell,
)

SAMPLE = 4000
"""Lines of the long recordings."""


class Decoded(NamedTuple):
    """What the feeder made of a recording."""

    offline: Offline
    events: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one type."""
        return [event for event in self.events if event["type"] == kind]


def decode(name: str, *paths: Path) -> Decoded:
    """Decode files as one recording."""
    offline = Offline(venue(name), paths)
    return Decoded(offline, list(events(offline)))


def as_trade(event: dict[str, Any]) -> Trade:
    """Return a trade event in the oracle's form."""
    names = ("symbol", "price", "quantity", "side", "trade_id", "ts_exchange_ns", "ts_recv_ns")
    return Trade(*(event[name] for name in names), "repeated" in event["flags"])


def as_bbo(event: dict[str, Any]) -> Bbo:
    """Return a BBO event in the oracle's form."""
    return Bbo(*(event[name] for name in ("symbol", "bid", "ask", "ts_exchange_ns", "ts_recv_ns")))


def as_books(found: list[dict[str, Any]]) -> dict[str, list[BookMessage]]:
    """Return book events in the oracle's form, by symbol, without the ids that events do not
    carry.
    """
    out: dict[str, list[BookMessage]] = {}
    for event in found:
        values = (event[name] for name in ("symbol", "snapshot", "bids", "asks", "ts_exchange_ns"))
        out.setdefault(event["symbol"], []).append(BookMessage(*values))
    return out


def without_ids(messages: list[BookMessage]) -> list[BookMessage]:
    """Return what an event shows of the oracle's messages."""
    return [message._replace(first=0, last=0, prev=0, checksum=0) for message in messages]


def judge(decoded: Decoded, story: Story) -> None:
    """Hold every event against the oracle's."""
    session = decoded.offline.session
    assert decoded.of("gap") == []
    assert decoded.of("quarantine") == []
    assert session.counts["crossed"] == 0
    assert session.books.crossed_events == 0
    assert [as_trade(event) for event in decoded.of("trade")] == story.trades
    assert [as_bbo(event) for event in decoded.of("bbo")] == story.bbos
    # A snapshot that repeats a book because its exponents changed is not the venue's message.
    books = as_books([event for event in decoded.of("book") if "recovered" not in event["flags"]])
    assert books.keys() == story.books.keys()
    for symbol, messages in story.books.items():
        assert books[symbol] == without_ids(messages), symbol
    all_books = as_books(decoded.of("book"))
    for symbol, messages in story.books.items():
        expected = apply(messages)
        assert apply(all_books[symbol]) == expected, symbol
        instrument = session.by_symbol[symbol]
        own = session.books.book(instrument.instrument_id)
        assert own is not None
        assert own.complete
        assert exact_sides(own.levels(), own.price_exp, own.qty_exp) == expected, symbol


def exact_sides(levels: Any, price_exp: int, qty_exp: int) -> Any:
    """Return a book's sides as price to quantity."""
    return tuple(
        {Decimal(price).scaleb(price_exp): Decimal(qty).scaleb(qty_exp) for price, qty in side}
        for side in levels
    )


def in_oracle(name: str) -> bool:
    """Say whether a recording is of a venue that the oracle knows."""
    return recording(name).venue in ORACLES


def cases(*, long: bool) -> list[str]:
    """Return the recordings that the oracle can judge; of rows that their recorder cut there is
    nothing to judge.
    """
    found = (recording(name) for name in names())
    return [
        file.name
        for file in found
        if in_oracle(file.name) and file.long is long and not file.reduced
    ]


def hold_against_the_readme(file: Recording, decoded: Decoded, story: Story) -> None:
    """Hold the numbers of applied updates, checksums and messages against those stated."""
    books = file.stated("book") or {}
    if books and all("applied" in symbol for symbol in books.values()):
        applied = {name: symbol["applied"] for name, symbol in books.items()}
        assert story.applied == applied, "the oracle disagrees with the README"
    checksums = (file.stated("crc32") or {}).get("ok", 0)
    if checksums:
        assert decoded.offline.session.counts["checksum_ok"] == story.checksums == checksums
    types = file.stated("types") or {}
    trades = sum(types.get(kind, 0) for kind in ("trade", "aggTrade"))
    if trades:
        assert len(decoded.of("trade")) == trades
    if "bookTicker" in types:
        assert len(decoded.of("bbo")) == types["bookTicker"]
    if "orderbook" in types:
        assert len(decoded.of("book")) == types["orderbook"]


@pytest.mark.parametrize("name", cases(long=False))
def test_every_event_of_a_recording_is_what_its_raw_messages_say(name: str) -> None:
    """Values, sides, ids, times, order and number of events; the final books; no gap, no
    crossing, no quarantine.
    """
    file = recording(name)
    story = tell(file.venue, file.path)
    decoded = decode(file.venue, file.path)
    judge(decoded, story)
    hold_against_the_readme(file, decoded, story)


@pytest.mark.parametrize("name", cases(long=True))
def test_the_beginning_of_a_long_recording_is_what_its_raw_messages_say(
    name: str, tmp_path: Path
) -> None:
    """The first 4,000 lines of each."""
    file = recording(name)
    path = first_lines(file.path, SAMPLE, tmp_path)
    judge(decode(file.venue, path), tell(file.venue, path))


def test_book_of_an_hour_equals_the_second_snapshot() -> None:
    """ETHBTC of 2020-11-01: the running book is the second REST snapshot, save what the update
    changes that it cuts in two.
    """
    path = captures() / "long" / "binance_spot_ethbtc_20201101.p1.jsonl.gz"
    decoded = decode("binance", path)
    assert decoded.offline.session.counts["snapshot_unrequested"] == 1, (
        "a LIVE book is not replaced by it"
    )
    first, *_ = books = [event for event in decoded.of("book") if "recovered" not in event["flags"]]
    assert [event["snapshot"] for event in books] == [True] + [False] * (len(books) - 1)
    bodies = [line.raw for line in read([path]) if line.kind == "http"]
    second = json.loads(bodies[1])
    ours = apply(as_books(books)["ETHBTC"])
    for side, name in zip(ours, ("bids", "asks"), strict=True):
        cut = {Decimal(price) for price, _ in books[-1][name]}
        theirs = {Decimal(p): Decimal(q) for p, q in second[name] if Decimal(p) not in cut}
        known = [Decimal(price) for price, _ in first[name]]
        # As deep as both snapshots reach: beyond the first one's end, levels that never changed
        # are unknown.
        bottom, top = (
            (max(min(known), min(theirs)), max(theirs))
            if name == "bids"
            else (min(theirs), min(max(known), max(theirs)))
        )
        inside = {p: q for p, q in side.items() if bottom <= p <= top and p not in cut}
        assert inside == {p: q for p, q in theirs.items() if bottom <= p <= top}
        assert len(inside) > 400


@pytest.mark.parametrize("name", [name for name in names(single=True) if in_oracle(name)])
def test_of_the_single_examples_only_the_foreign_ones_are_quarantined(name: str) -> None:
    """Other markets', other versions' and REST messages among the examples are put aside one by
    one, the rest is understood.
    """
    file = recording(name)
    offline = Offline(venue(file.venue), [file.path])
    found: dict[int, int] = {}
    for step in offline.run():
        if step.quarantined:
            found[offline.lines] = len(step.quarantined)
    odd = [line.number for line in read([file.path]) if foreign(file.venue, line.raw)]
    assert found == dict.fromkeys(odd, 1)


def test_reduced_recordings_are_quarantined_line_by_line() -> None:
    """Rows that their recorder cut are no messages of the venue: none becomes an event, none is
    lost from sight.
    """
    for file in (recording(name) for name in names()):
        if file.venue != "upbit" or not file.reduced:
            continue
        decoded = decode("upbit", file.path)
        assert {event["type"] for event in decoded.events} <= {"quarantine", "instrument", "status"}
        assert len(decoded.of("quarantine")) == decoded.offline.session.counts["quarantine"] > 100


def test_values_are_exact_texts() -> None:
    """Price and quantity are minimal decimal strings without exponent: no zeros behind, no sign,
    no float.
    """
    decoded = decode("upbit", captures() / "upbit" / "cf_20210405_simple.jsonl")
    for text in texts(decoded.events):
        assert text == "0" or text.strip("0123456789") in ("", "."), text
        assert not ("." in text and text.endswith(("0", "."))), text
        assert not (text.startswith("0") and len(text) > 1 and text[1] != "."), text


def texts(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield every price and quantity."""
    for event in found:
        if event["type"] == "trade":
            yield event["price"]
            yield event["quantity"]
        elif event["type"] == "book":
            for row in (*event["bids"], *event["asks"]):
                yield from row


def test_taker_sides_agree_with_the_best_prices() -> None:
    """Trades beside a BBO of the same symbol: a buy prints at the ask or above the middle, a
    sell at the bid or below.
    """
    decoded = decode(
        "binance_futures", captures() / "binance_futures" / "hft_20240808_usdm_ethusdt.jsonl"
    )
    quote: tuple[Decimal, Decimal] | None = None
    right = wrong = 0
    for event in decoded.events:
        if event["type"] == "bbo" and event["bid"] and event["ask"]:
            quote = Decimal(event["bid"][0]), Decimal(event["ask"][0])
        elif event["type"] == "trade" and quote is not None:
            middle = sum(quote) / 2
            price = Decimal(event["price"])
            if price != middle:
                agrees = (price > middle) == (event["side"] == "buy")
                right, wrong = right + agrees, wrong + (not agrees)
    assert right > 4 * wrong, (
        "quotes arrive before the trades that moved them, but sides are not turned"
    )
