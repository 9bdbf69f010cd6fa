"""Every recording of every venue, whole or its beginning: no gap, no crossed book, nothing put
aside, no trade lost or turned.

Trades are counted a second time with `json` alone; their sides are held against the best prices
that stood when they came. Values are the matter of the venues' own tests and of
`test_decode_recordings`. A recording that nobody named is found here all the same.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tapecast.feeder.offline import Offline
from tapecast.feeder.record.recording import read
from tapecast.feeder.replay.venues import guess_venue
from tapecast.feeder.venues import VENUES, venue
from tapecast.protocol.codec import decode, walk
from tapecast.protocol.records import TradeItem
from tapecast.protocol.schema import MsgType, Side
from tests.support.captures import captures

BEGINNING = 15_000
"""Lines of a long recording in every run; the whole of it where the slow tests run."""
PUT_ASIDE = {
    "cf_20210602_pubwss_v1.p1.jsonl": "the feed before the present one: not understood, on purpose",
    "jun_20260512_krw_ticker_reduced.p1.jsonl.gz": "rows cut by their recorder: no messages",
}
"""Recordings of which nothing may come out."""
SIDES: dict[str, tuple[int, int]] = {
    "hft_20240808_spot_btcusdt.jsonl": (2000, 20),
    "cf_20210404_spot_btc_eth_dot.jsonl": (800, 10),
    "hft_20240808_usdm_btcusdt.jsonl": (2000, 20),
    "hft_20240808_usdm_ethusdt.jsonl": (900, 10),
    "cf_20210722_usdm.jsonl": (60, 10),
    "binance_coinm_btcusd_perp_20240808.jsonl.gz": (200, 20),
    "cf_20260809_v5_linear_spot.p1.jsonl": (200, 20),
    "cf_20220513_v5_books.jsonl": (60, 20),
    "fastmm_20260926_btc_usdt_swap.p1.jsonl": (30, 20),
    "cf_20260809_advanced_trade.p1.jsonl": (50, 20),
    "cf_20210417_exchange_ws_feed.p1.jsonl": (30, 20),
    "cf_20210417_ws_v1.p1.jsonl": (7, 7),
    "cf_20210405_simple.jsonl": (400, 2),
}
"""Recordings with trades beside books: at least so many can be judged, and right are so many
times the wrong. Books are sent at intervals, so some trades meet one that has moved on; Upbit's
overtake its trades. Of Deribit and Bithumb no trade stands beside a book.
"""


class Found(NamedTuple):
    """What the feeder made of a recording."""

    trades: int
    right: int
    wrong: int
    offline: Offline
    quarantined: int


def files() -> list[str]:
    """Return the recordings of all venues, without the collections of single messages."""
    default = Path(__file__).resolve().parents[2].parent / "shared" / "captures"
    folder = captures_or(default)
    found = [
        file for name in (*VENUES, "long") for file in sorted((folder / name).glob("*.jsonl*"))
    ]
    return [str(file.relative_to(folder)) for file in found if not file.name.startswith("examples")]


def captures_or(default: Path) -> Path:
    """Return the folder of recordings while tests are collected, when nothing can be skipped
    yet.
    """
    try:
        return captures()
    except (pytest.skip.Exception, pytest.fail.Exception):
        return default


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
    """Decode a recording; judge each trade by the best prices before it: those of the session's
    own book, else the BBO.
    """
    offline = Offline(venue(name), [path])
    quotes: dict[int, tuple[int, int, int]] = {}
    trades = right = wrong = quarantined = 0
    for step in offline.run():
        quarantined += len(step.quarantined)
        for packet in walk(step.packets):
            kind = packet[3]
            if kind == MsgType.BBO:
                header, items, _ = decode(packet)
                # type: ignore[union-attr]
                if len(items) == 2 and all(level.quantity for level in items):
                    # type: ignore[union-attr]
                    quotes[header.instrument_id] = items[0].price, items[1].price, header.price_exp
            elif kind == MsgType.TRADE:
                header, items, _ = decode(packet)
                trades += len(items)
                quote = top(offline, header.instrument_id) or quotes.get(header.instrument_id)
                if quote is None or quote[2] != header.price_exp or quote[0] >= quote[1]:
                    continue
                for item in items:
                    assert isinstance(item, TradeItem)
                    if item.price >= quote[1] or item.price <= quote[0]:
                        agrees = (item.price >= quote[1]) == (item.side == Side.BUY)
                        right, wrong = right + agrees, wrong + (not agrees)
    return Found(trades, right, wrong, offline, quarantined)


def top(offline: Offline, number: int) -> tuple[int, int, int] | None:
    """Return best bid, best ask and their exponent of a LIVE book."""
    book = offline.session.books.book(number)
    if book is None or not book.complete or book.best_bid is None or book.best_ask is None:
        return None
    return book.best_bid[0], book.best_ask[0], book.price_exp


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


def judge(file: str, most: int | None, folder: Path) -> None:
    """Decode one recording and hold it against what a recording must come to."""
    path = captures() / file
    name = guess_venue(path)
    taken = first(path, most, folder)
    found = run(name, taken)
    session = found.offline.session
    if path.name in PUT_ASIDE:
        assert found.quarantined > 0, PUT_ASIDE[path.name]
        assert found.trades == 0
        return
    assert session.counts["gaps"] == 0
    assert session.counts["crossed"] == session.books.crossed_events == 0
    assert found.quarantined == session.counts["quarantine"] == 0
    assert found.trades == counted(name, taken)
    if path.name in SIDES:
        least, ratio = SIDES[path.name]
        assert found.right >= least, (found.right, found.wrong)
        assert found.right >= ratio * found.wrong, (found.right, found.wrong)


@pytest.mark.parametrize("file", files())
def test_a_recording_loses_nothing_and_no_trade_is_turned(file: str, tmp_path: Path) -> None:
    """Of the long ones the beginning."""
    judge(file, BEGINNING if file.startswith("long/") else None, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("file", [file for file in files() if file.startswith("long/")])
def test_a_long_recording_loses_nothing_to_its_end(file: str, tmp_path: Path) -> None:
    """The same for every line of the recordings of a hundred thousand messages."""
    judge(file, None, tmp_path)


def test_every_recording_belongs_to_a_venue() -> None:
    """So none is left out because nobody knows whose it is."""
    folder = captures()
    assert Counter(guess_venue(folder / file) for file in files()).keys() <= set(VENUES)
    assert {Path(file).name for file in files()} >= {*PUT_ASIDE, *SIDES}
