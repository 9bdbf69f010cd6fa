"""Every recording of every venue, whole or its beginning: no gap, no crossed book, nothing put
aside, no trade lost or turned.

Trades are counted a second time with `json` alone; their sides are held against the best prices
that stood when they happened. Values are the matter of the venues' own tests and of
`test_decode_recordings`. `tests.support.captures` finds the recordings: a new one is a new case.
"""

from __future__ import annotations

import gzip
import json
import re
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tapecast.feeder.offline import Offline
from tapecast.feeder.record.recording import read
from tapecast.feeder.venues import VENUES, venue
from tapecast.protocol.codec import decode, walk
from tapecast.protocol.records import Level, TradeItem
from tapecast.protocol.schema import MsgType, Side
from tests.support.captures import Recording, captures, names, recording

BEGINNING = 15_000
"""Lines of a long recording in every run; the whole of it where the slow tests run."""
RIGHT_PER_WRONG = {"upbit": 2}
"""Trades on the right side of the best prices to those on the wrong one, at least: Upbit's trades
overtake its books. A turned side turns the ratio.
"""
USUAL_RATIO, RATIO_OF_SLOW_BOOKS = 15, 4
"""Elsewhere; and where the README says that the book comes once a second, so that trades meet one
that has moved on.
"""


class Quote(NamedTuple):
    """Best prices as mantissas, and the venue's time of them; 0 = it gave none."""

    ts: int
    bid: int
    ask: int
    exp: int


class Found(NamedTuple):
    """What the feeder made of a recording."""

    trades: int
    beside: int
    """Trades of instruments that had a book or a BBO before."""
    right: int
    wrong: int
    offline: Offline
    quarantined: int


def first(path: Path, most: int | None, folder: Path) -> Path:
    """Return a recording, or its first lines as a file of its own."""
    if most is None:
        return path
    short = folder / path.parent.name / path.name.removesuffix(".gz")
    short.parent.mkdir()
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as lines:
        short.write_bytes(b"".join(islice(lines, most)))
    return short


def run(name: str, path: Path) -> Found:
    """Decode a recording; judge each trade by the best prices that stood when it happened: those
    of the last BBO before its time where BBOs have times, else those of the session's own book,
    else the last BBO.
    """
    offline = Offline(venue(name), [path])
    quotes: dict[int, list[Quote]] = {}
    seen: set[int] = set()
    trades = beside = right = wrong = quarantined = 0
    for step in offline.run():
        quarantined += len(step.quarantined)
        for packet in walk(step.packets):
            header, items, _ = decode(packet)
            number = header.instrument_id
            if header.msg_type in (MsgType.BBO, MsgType.BOOK):
                seen.add(number)
            if header.msg_type == MsgType.BBO:
                levels = [item for item in items if isinstance(item, Level) and item.quantity]
                if len(levels) == 2:
                    prices = levels[0].price, levels[1].price
                    quote = Quote(header.ts_exchange_ns, *prices, header.price_exp)
                    quotes.setdefault(number, []).append(quote)
            elif header.msg_type == MsgType.TRADE:
                trades += len(items)
                beside += len(items) * (number in seen)
                for item in items:
                    assert isinstance(item, TradeItem)
                    quote = standing(offline, number, quotes.get(number, []), header.ts_exchange_ns)
                    if quote is None or quote.exp != header.price_exp or quote.bid >= quote.ask:
                        continue
                    if item.price >= quote.ask or item.price <= quote.bid:
                        agrees = (item.price >= quote.ask) == (item.side == Side.BUY)
                        right, wrong = right + agrees, wrong + (not agrees)
    return Found(trades, beside, right, wrong, offline, quarantined)


def standing(offline: Offline, number: int, quotes: list[Quote], ts: int) -> Quote | None:
    """Return the best prices of an instrument at a trade's time."""
    before = (quote for quote in reversed(quotes) if 0 < quote.ts < ts)
    return next(before, None) or top(offline, number) or next(reversed(quotes), None)


def top(offline: Offline, number: int) -> Quote | None:
    """Return the best prices of a LIVE book."""
    book = offline.session.books.book(number)
    if book is None or not book.complete or book.best_bid is None or book.best_ask is None:
        return None
    return Quote(0, book.best_bid[0], book.best_ask[0], book.price_exp)


def counted(name: str, path: Path) -> int:
    """Return how many trades a recording holds, read with `json` alone."""
    recorded = list(read([path]))
    if name == "ls":
        return sum(line.kind == "reduced" for line in recorded)
    lines = (line.raw for line in recorded if line.kind == "recv")
    return sum(_trades(name, json.loads(raw)) for raw in lines if b"rade" in raw or b"match" in raw)


def _trades(name: str, body: Any) -> int:
    if name.startswith("binance"):
        return int(body.get("data", body).get("e") in ("trade", "aggTrade"))
    if name == "kraken" and isinstance(body, list):
        return len(body[1]) if body[-2] == "trade" else 0
    if not isinstance(body, dict):
        return 0
    if name == "bybit":
        return len(body["data"]) if body.get("topic", "").startswith("publicTrade.") else 0
    if name == "okx":
        return len(body.get("data", ())) if body.get("arg", {}).get("channel") == "trades" else 0
    if name in ("upbit", "bithumb"):
        return int(
            body.get("type", body.get("ty")) == "trade"
            and body.get("stream_type", body.get("st")) == "REALTIME"
        )
    if name == "coinbase":
        events = body["events"] if body.get("channel") == "market_trades" else ()
        return sum(len(event["trades"]) for event in events if event["type"] == "update")
    if name == "coinbase_exchange":
        return int(body.get("type") == "match")
    if name == "deribit":
        return (
            len(body["params"]["data"])
            if body.get("params", {}).get("channel", "").startswith("trades.")
            else 0
        )
    return (
        len(body["data"]) if (body.get("channel"), body.get("type")) == ("trade", "update") else 0
    )


def judge(file: Recording, most: int | None, folder: Path) -> None:
    """Decode one recording and hold it against what a recording must come to."""
    taken = first(file.path, most, folder)
    found = run(file.venue, taken)
    session = found.offline.session
    if (file.reduced or file.superseded) and found.quarantined:
        # Rows that are no messages, a feed that is spoken no more: all put aside, nothing made up.
        assert found.trades == session.counts["trades"] == 0
        return
    assert session.counts["gaps"] == 0
    assert session.counts["crossed"] == session.books.crossed_events == 0
    assert found.quarantined == session.counts["quarantine"] == 0
    assert found.trades == counted(file.venue, taken)
    # Some trades print between the best prices, which says nothing about their side.
    assert 2 * (found.right + found.wrong) >= found.beside, (found.right, found.wrong)
    usual = RATIO_OF_SLOW_BOOKS if "(1 s)" in file.section else USUAL_RATIO
    ratio = RIGHT_PER_WRONG.get(file.venue, usual)
    assert found.right >= ratio * found.wrong, (found.right, found.wrong)
    kinds = " ".join(file.stated("types") or ())
    if re.search("trade|match", kinds, re.I) and re.search("book|depth|l2", kinds, re.I):
        assert found.beside > 0


@pytest.mark.parametrize("name", names())
def test_a_recording_loses_nothing_and_no_trade_is_turned(name: str, tmp_path: Path) -> None:
    """Of the long ones the beginning."""
    file = recording(name)
    judge(file, BEGINNING if file.long else None, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if recording(name).long])
def test_a_long_recording_loses_nothing_to_its_end(name: str, tmp_path: Path) -> None:
    """The same for every line of the recordings of a hundred thousand messages."""
    judge(recording(name), None, tmp_path)


def test_every_venue_with_recordings_has_cases() -> None:
    """A folder named after a venue of ours holds at least one recording that is understood as
    that venue's.
    """
    folders = {path.name for path in captures().iterdir()} & set(VENUES)
    assert folders <= {recording(name).venue for name in names()}
    assert len(folders) >= 10
