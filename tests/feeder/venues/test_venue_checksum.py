"""OKX's book checksum, against every book message of the 2022 recordings."""

from __future__ import annotations

import json

import pytest

from tapecast.feeder.record.recording import read
from tapecast.feeder.venues.okx import VENUE as OKX
from tapecast.protocol.decimals import to_mantissa
from tests.support.captures import captures

EXPONENTS = {"ELON-USDT": (-11, -5)}
"""Its prices begin below 10^-6 and its quantities pass 10^12; every other recorded book fits
(-8, -8).
"""


def levels(book: dict[int, int], *, reverse: bool) -> list[tuple[int, int]]:
    """Return the best 25 levels of one side."""
    return [(price, book[price]) for price in sorted(book, reverse=reverse)[:25]]


@pytest.mark.parametrize(
    ("file", "count"),
    [("cf_20220513_v5_books.jsonl", 290), ("cf_20220227_v5_books_l2_tbt.jsonl", 3679)],
)
def test_every_recorded_checksum_is_reproduced(file: str, count: int) -> None:
    """Books kept as integers spell the venue's own decimals again: no checksum of the recording
    fails.
    """
    checksum = OKX.rule.checksum
    assert checksum is not None
    books: dict[str, tuple[dict[int, int], dict[int, int]]] = {}
    checked = 0
    for line in read([captures() / "okx" / file]):
        if line.kind != "recv" or b'"action"' not in line.raw:
            continue
        message = json.loads(line.raw)
        symbol, (body,) = message["arg"]["instId"], message["data"]
        if message["action"] == "snapshot":
            books[symbol] = ({}, {})
        price_exp, qty_exp = EXPONENTS.get(symbol, (-8, -8))
        for side, rows in zip(books[symbol], (body["bids"], body["asks"]), strict=True):
            for price, quantity, *_ in rows:
                side[to_mantissa(price, price_exp)] = to_mantissa(quantity, qty_exp)
                if quantity == "0":
                    del side[to_mantissa(price, price_exp)]
        bids, asks = books[symbol]
        assert (
            checksum(levels(bids, reverse=True), levels(asks, reverse=False), price_exp, qty_exp)
            == body["checksum"]
        ), line.number
        checked += 1
    assert checked == count


def test_the_dead_checksum_says_nothing() -> None:
    """In the recording of 2026 every checksum is the constant that the rule leaves unchecked."""
    lines = read([captures() / "okx" / "fastmm_20260926_btc_usdt_swap.p1.jsonl"])
    values = {
        json.loads(line.raw)["data"][0]["checksum"] for line in lines if b'"action"' in line.raw
    }
    assert values == {OKX.rule.checksum_unset}
