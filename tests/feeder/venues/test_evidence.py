"""The evidence tables of `docs/venues/`, row by row: each recorded example that a row names does
what the row says.

A row says what becomes of a message variant: an event, an answer, nothing at all, or quarantine.
What it names as `examples N` is a single recorded message; every such message is named by a row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tapecast.feeder.venues import VENUES, venue
from tests.support.captures import captures
from tests.support.feeder_frames import TIME_MS, Feed, okx_books, upbit_book
from tests.support.venue_server import lines

DOCS = Path(__file__).resolve().parents[3] / "docs" / "venues"
FOLDERS = {"binance_coinm": "binance", "coinbase_exchange": "coinbase"}
"""Venues whose examples lie with another's."""
NAMED = re.compile(r"(?:(\w+)/)?(examples(?:_2026)?) ((?:\d+(?:–\d+)?)(?:, \d+(?:–\d+)?)*)")
CONTROL = ("acknowledgement", "refusal", "alive", "notice", "`public/test` is sent")
EVENTS = {
    "book": ("book", "whole book"),
    "bbo": ("bbo",),
    "trade": ("trade",),
    "stat": ("statistic", "mark price", "no funding rate"),
    "liquidation": ("liquidation",),
}


class Row(NamedTuple):
    """A row of a table: what it is about, what is done, and the examples that show it."""

    venue: str
    what: str
    action: str
    examples: tuple[tuple[str, str, int], ...]
    """(folder, file, number)."""


def rows(name: str) -> Iterator[Row]:
    """Yield the rows of a venue's tables; without a column of actions, a table is of what is
    refused.
    """
    column: int | None = None
    channel = ""
    for line in (DOCS / f"{name}.md").read_text().splitlines():
        cells = (
            [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        )
        if not cells or set(line) <= set("|-"):
            continue
        if "evidence" in cells:
            column = cells.index("action") if "action" in cells else None
            continue
        channel = cells[0] or channel
        yield Row(
            name,
            f"{channel} {cells[1]}",
            "refused" if column is None else cells[column],
            tuple(named(name, cells[-1])),
        )


def named(name: str, evidence: str) -> Iterator[tuple[str, str, int]]:
    """Yield the examples that a cell names."""
    for folder, file, numbers in NAMED.findall(evidence):
        for part in numbers.split(", "):
            first, _, last = part.partition("–")
            for number in range(int(first), int(last or first) + 1):
                yield folder or FOLDERS.get(name, name), f"{file}.jsonl", number


def raw(folder: str, file: str, number: int) -> bytes:
    """Return a recorded example."""
    text = (captures() / folder / file).read_text().splitlines()[number - 1]
    body: str = json.loads(text)["raw"]
    return body.encode()


def outcome(name: str, frame: bytes) -> str:
    """Return what a session makes of one frame: the type of its events, `held`, `control`,
    `nothing` or `quarantined`.
    """
    feed = Feed(name, accept_any=True)
    events = [event["type"] for event in feed.frame(frame)]
    counts = feed.session.counts
    kinds = {str(kind) for kind in events if kind not in ("instrument", "status")}
    if counts["quarantine"]:
        return "quarantined"
    if kinds:
        return "+".join(sorted(kinds))
    if counts["control_ignored"] or counts["suppressed"]:
        return "nothing"
    return "control" if any(counts[key] for key in counts if key.startswith("control_")) else "held"


def of_rest(name: str, frame: bytes) -> str:
    """Return what a session makes of a frame as the body of a REST order book."""
    feed = Feed(name)
    pair = {"binance": ("ETH", "USDT"), "binance_coinm": ("BTC", "USD")}.get(name, ("BTC", "USDT"))
    symbol = venue(name).listing.symbols_of_pair(*pair)[0]
    feed.session.subscribe([symbol], 0)
    feed.flush()
    feed.body(symbol, frame)
    return "quarantined" if feed.session.counts["quarantine"] else "book"


def expected(row: Row) -> set[str]:
    """Return the outcomes that fit what a row says."""
    action = row.action.lower()
    if action.startswith("nothing until"):
        return {"held"}
    if action.startswith("nothing"):
        return {"nothing"}
    if action.startswith(("refused", "quarantine")):
        return {"quarantined"}
    if any(word in action for word in CONTROL):
        return {"control"}
    kinds = {kind for kind, words in EVENTS.items() if any(word in action for word in words)}
    return (kinds or set(EVENTS)) | ({"held"} if not kinds or "book" in kinds else set())


CASES = [(row, *example) for name in VENUES for row in rows(name) for example in row.examples]


@pytest.mark.parametrize(
    ("row", "folder", "file", "number"),
    CASES,
    ids=[f"{row.venue}-{file[:-6]}-{number}" for row, _, file, number in CASES],
)
def test_an_example_does_what_its_row_says(row: Row, folder: str, file: str, number: int) -> None:
    """EventDict, answer, nothing or quarantine, as the page tells it."""
    frame = raw(folder, file, number)
    if row.what.startswith("REST ") and row.action.startswith("book"):
        assert of_rest(row.venue, frame) == "book", row
    elif row.what.startswith("REST `"):
        assert venue(row.venue).listing.parse(frame).defs, row
    elif "not followed" not in row.what:
        assert outcome(row.venue, frame) in expected(row), row


@pytest.mark.parametrize("folder", sorted({FOLDERS.get(name, name) for name in VENUES}))
def test_every_example_is_in_a_row(folder: str) -> None:
    """No recorded variant is without a word of what becomes of it."""
    told = {
        (place, file, number)
        for name in VENUES
        for row in rows(name)
        for place, file, number in row.examples
    }
    if not any(place == folder for place, _, _ in told):
        pytest.skip("the page names its examples as a whole")
    missing = [
        (path.name, number)
        for path in sorted((captures() / folder).glob("examples*.jsonl"))
        for number, _ in enumerate(path.read_text().splitlines(), 1)
        if (folder, path.name, number) not in told
    ]
    assert missing == []


@pytest.mark.parametrize("name", VENUES)
def test_the_page_tells_of_every_channel(name: str) -> None:
    """What can be subscribed is told of, by its name or its base name."""
    text = (DOCS / f"{name}.md").read_text()
    bases = {channel.split("@")[0].split(".")[0] for channel in venue(name).stream.streams}
    assert sorted(base for base in bases if base not in text) == []


@pytest.mark.parametrize("name", VENUES)
def test_the_page_names_what_must_give_nothing(name: str) -> None:
    """A table that only lists successes is not evidence."""
    actions = [row.action for row in rows(name)]
    assert any(action.startswith("nothing") for action in actions)
    assert any(action.startswith(("refused", "quarantine")) for action in actions)


# Rows without a recorded frame: the documented layout, with figures of recorded messages where
# it has any.

COINM_TRADE = "long/binance_coinm_btcusd_perp_20240808.jsonl.gz"


def coinm_trade(state: str | None) -> bytes:
    """Return a recorded COIN-M trade with another `X`, or without."""
    frame = next(line.raw for line in lines(captures() / COINM_TRADE) if b'"e":"trade"' in line.raw)
    assert b',"X":"MARKET"' in frame
    return frame.replace(b',"X":"MARKET"', b"" if state is None else f',"X":"{state}"'.encode())


def several_deribit() -> bytes:
    """Return the recorded trades of examples 1 and 2 as one message."""
    first, second = (json.loads(raw("deribit", "examples.jsonl", number)) for number in (1, 2))
    first["params"]["data"] += second["params"]["data"]
    return json.dumps(first).encode()


FULL = '{"type":"%s","time":"2014-11-07T08:19:27.028459Z","product_id":"BTC-USD","sequence":10}'
"""As documented for the full channel of Coinbase Exchange."""

DOCUMENTED = [
    (
        "binance",
        b'{"stream":"btcusdt@blockTrade","data":{"e":"blockTrade","s":"BTCUSDT"}}',
        "quarantined",
    ),
    (
        "binance_coinm",
        b'{"stream":"btcusd@indexPrice","data":{"e":"indexPriceUpdate","i":"BTCUSD","p":"9636.57860000"}}',
        "nothing",
    ),
    (
        "binance_coinm",
        b'{"stream":"!contractInfo","data":{"e":"contractInfo","s":"BTCUSD_PERP"}}',
        "nothing",
    ),
    (
        "binance_coinm",
        b'{"stream":"btcusd_perp@ticker","data":{"e":"24hrTicker","s":"BTCUSD_PERP"}}',
        "nothing",
    ),
    ("bithumb", b'{"type":"orderbooksnapshot","content":{"symbol":"BTC_KRW"}}', "nothing"),
    *(
        ("coinbase_exchange", (FULL % kind).encode(), "nothing")
        for kind in ("received", "open", "done", "change", "activate", "status")
    ),
]


@pytest.mark.parametrize(
    ("name", "frame", "expected"),
    DOCUMENTED,
    ids=[f"{row[0]}-{place}" for place, row in enumerate(DOCUMENTED)],
)
def test_a_documented_variant_does_what_its_row_says(
    name: str, frame: bytes, expected: str
) -> None:
    """Known and without use, or without evidence."""
    assert outcome(name, frame) == expected


@pytest.mark.parametrize(
    ("state", "result", "flagged"),
    [
        ("MARKET", "trade", False),
        ("INSURANCE_FUND", "trade", True),
        (None, "trade", False),
        ("ADL", "quarantined", False),
    ],
)
def test_coin_margined_trades_by_their_kind(state: str | None, result: str, flagged: bool) -> None:
    """As on USD-M: the insurance fund's is off the book, another kind has no evidence."""
    frame = coinm_trade(state)
    assert outcome("binance_coinm", frame) == result
    found = [
        event
        for event in Feed("binance_coinm", accept_any=True).frame(frame)
        if event["type"] == "trade"
    ]
    assert ["off_book" in str(event["flags"]) for event in found] == (
        [flagged] if result == "trade" else []
    )


def test_deribit_trades_of_several_instruments_are_refused() -> None:
    """Seen nowhere: which instrument each is of would have to be guessed."""
    assert outcome("deribit", several_deribit()) == "quarantined"


def test_okx_an_empty_update_is_a_sign_of_life() -> None:
    """No levels and `prevSeqId` = `seqId`: the book stays LIVE and nothing changes."""
    feed = Feed("okx", "BTC-USDT-SWAP")
    feed.frame(okx_books("snapshot", 100, -1, [("43568.7", "1")], [("43568.8", "7")]))
    before = feed.book("BTC-USDT-SWAP")
    feed.frame(okx_books("update", 100, 100))
    feed.frame(okx_books("update", 101, 100, [("43568.7", "2")]))
    assert (
        feed.session.counts["gaps"],
        feed.session.counts["quarantine"],
        feed.session.live_books(),
    ) == (0, 0, 1)
    assert feed.book("BTC-USDT-SWAP")[1] == before[1]


def test_upbit_padding_and_older_books_are_left_out() -> None:
    """Units of price 0 are no levels; a book whose time is before the current one's is another's
    past.
    """
    feed = Feed("upbit", "KRW-BTC")
    units = [
        ("116534000", "0.00079276", "116606000", "0.06288509"),
        ("0", "0", "116609000", "0.0005"),
    ]
    feed.frame(upbit_book(units))
    assert [len(side) for side in feed.book("KRW-BTC")] == [1, 2]
    assert feed.frame(upbit_book(units[:1], ts_ms=TIME_MS - 1)) == []
    assert [len(side) for side in feed.book("KRW-BTC")] == [1, 2]
    assert feed.session.counts["quarantine"] == 0
