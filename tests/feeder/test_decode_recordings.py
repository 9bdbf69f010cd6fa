"""Every recording of the four venues through session, publisher and renderer, against a second
reading of the raw messages.

The oracle is `tests.support.feeder_oracle`; the numbers of applied updates are also those that
the recordings' own README states.
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
from tests.support.captures import captures
from tests.support.feeder_oracle import Bbo, BookMessage, Story, Trade, apply, first_lines, tell

WHOLE = [
    ("binance", "binance/cf_20210404_spot_btc_eth_dot.jsonl"),
    ("binance", "binance/cf_20210814_spot.jsonl"),
    ("binance", "binance/cf_20211012_spot.jsonl"),
    ("binance", "binance/hft_20240808_spot_btcusdt.jsonl"),
    ("binance", "binance/nangman_20260520_spot_depth.jsonl"),
    ("binance", "long/binance_spot_ethbtc_20201101.p1.jsonl.gz"),
    ("binance_futures", "binance_futures/cf_20210417_usdm.jsonl"),
    ("binance_futures", "binance_futures/cf_20210722_usdm.jsonl"),
    ("binance_futures", "binance_futures/hft_20240808_usdm_btcusdt.jsonl"),
    ("binance_futures", "binance_futures/hft_20240808_usdm_ethusdt.jsonl"),
    ("okx", "okx/cf_20220227_v5_books_l2_tbt.jsonl"),
    ("okx", "okx/cf_20220513_v5_books.jsonl"),
    ("okx", "okx/fastmm_20260926_btc_usdt_swap.p1.jsonl"),
    ("upbit", "upbit/cf_20210405_simple.jsonl"),
    ("upbit", "upbit/sml_20250714_default_ticker_reserialized.jsonl"),
]
SAMPLED = [
    ("binance", "long/binance_spot_btcusdt_20201101_aggtrades.p1.jsonl.gz"),
    ("binance", "long/binance_spot_ethusdt_20201101_aggtrades.p1.jsonl.gz"),
    ("binance", "long/binance_spot_btcusdt_20230405.jsonl.gz"),
    ("binance", "long/binance_spot_btcusdt_20240808.jsonl.gz"),
    ("binance_futures", "long/binance_futures_usdm_btcusdt_20240808.jsonl.gz"),
    ("binance_futures", "long/binance_futures_usdm_ethusdt_20240808.jsonl.gz"),
    ("binance_futures", "long/binance_usdm_btcusdt_20230404.jsonl.gz"),
    ("binance_futures", "long/binance_usdm_ethusdt_20240718.jsonl.gz"),
]
SAMPLE = 4000
"""Lines of the long recordings."""

# Updates that follow the snapshot, as the README of the recordings counts them; but of its 270
# of KSMUSDT the first three end before the snapshot begins.
APPLIED = {
    "cf_20211012_spot.jsonl": {"NKNUSDT": 149, "BLZETH": 9, "LRCBTC": 13, "RUNEEUR": 1},
    "cf_20210814_spot.jsonl": {"XMRBTC": 137, "FTMUSDT": 222, "SXPBTC": 94, "BADGERBTC": 75},
    "cf_20210404_spot_btc_eth_dot.jsonl": {"DOTUSDT": 416, "BTCUSDT": 428, "ETHUSDT": 427},
    "hft_20240808_spot_btcusdt.jsonl": {"BTCUSDT": 1088},
    "cf_20210722_usdm.jsonl": {"SUSHIUSDT": 252, "AKROUSDT": 188, "KEEPUSDT": 132, "CTKUSDT": 180},
    "cf_20210417_usdm.jsonl": {"KSMUSDT": 267, "YFIUSDT": 262, "DENTUSDT": 235, "XMRUSDT": 233},
    "hft_20240808_usdm_btcusdt.jsonl": {"BTCUSDT": 1032},
    "hft_20240808_usdm_ethusdt.jsonl": {"ETHUSDT": 607},
}
CHECKSUMS = {"cf_20220513_v5_books.jsonl": 290, "cf_20220227_v5_books_l2_tbt.jsonl": 3679}
COUNTS = {
    "cf_20210405_simple.jsonl": (1061, 672, 0),
    "hft_20240808_spot_btcusdt.jsonl": (1089, 2294, 8733),
}
"""(books, trades, best bids and offers), from the README's message types and applied updates."""


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


@pytest.mark.parametrize(
    ("name", "file"), WHOLE, ids=[file.rpartition("/")[2].split(".")[0] for _, file in WHOLE]
)
def test_every_event_of_a_recording_is_what_its_raw_messages_say(name: str, file: str) -> None:
    """Values, sides, ids, times, order and number of events; the final books; no gap, no
    crossing, no quarantine.
    """
    path = captures() / file
    story = tell(name, path)
    decoded = decode(name, path)
    judge(decoded, story)
    if path.name in APPLIED:
        assert story.applied == APPLIED[path.name], "the oracle disagrees with the README"
    if path.name in CHECKSUMS:
        assert (
            decoded.offline.session.counts["checksum_ok"] == story.checksums == CHECKSUMS[path.name]
        )
    if path.name in COUNTS:
        assert (
            tuple(len(decoded.of(kind)) for kind in ("book", "trade", "bbo")) == COUNTS[path.name]
        )


@pytest.mark.parametrize(
    ("name", "file"), SAMPLED, ids=[file.rpartition("/")[2].split(".")[0] for _, file in SAMPLED]
)
def test_the_beginning_of_a_long_recording_is_what_its_raw_messages_say(
    name: str, file: str, tmp_path: Path
) -> None:
    """The first 4,000 lines of each."""
    path = first_lines(captures() / file, SAMPLE, tmp_path)
    judge(decode(name, path), tell(name, path))


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


# Lines of `examples.jsonl` that are nothing of this venue's streams.
ODD: dict[str, set[int]] = {
    "binance": {2, 3, 4, 7, 8, 15, 18, 19, 20, 21, 22, 27},
    "binance_futures": {8, 10},
    "okx": {8, *range(21, 31)},
    "upbit": set(),
}


@pytest.mark.parametrize("name", sorted(ODD))
def test_of_the_single_examples_only_the_foreign_ones_are_quarantined(name: str) -> None:
    """Other markets', other versions' and REST messages among the examples are put aside one by
    one, the rest is understood.
    """
    path = captures() / name / "examples.jsonl"
    offline = Offline(venue(name), [path])
    found: dict[int, int] = {}
    for step in offline.run():
        if step.quarantined:
            found[offline.lines] = len(step.quarantined)
    assert found == dict.fromkeys(ODD[name], 1)


def test_reduced_recordings_are_quarantined_line_by_line() -> None:
    """Rows that their recorder cut are no messages of the venue: none becomes an event, none is
    lost from sight.
    """
    path = captures() / "upbit" / "jun_20260512_krw_ticker_reduced.p1.jsonl.gz"
    decoded = decode("upbit", path)
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
