"""The book kernel over real recordings: against a dictionary of decimals, and against the
checksums that OKX sent.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tapecast.protocol.books.books import BookSet, KernelBook, LevelArray
from tests.support import book_recordings as recorded
from tests.support.captures import captures

RECORDINGS: list[tuple[str, Callable[[Path], Iterator[recorded.BookEvent]]]] = [
    ("binance/cf_20210814_spot.jsonl", recorded.binance),
    ("binance/hft_20240808_spot_btcusdt.jsonl", recorded.binance),
    ("binance_futures/hft_20240808_usdm_ethusdt.jsonl", recorded.binance),
    ("okx/cf_20220513_v5_books.jsonl", recorded.okx),
    ("okx/cf_20220227_v5_books_l2_tbt.jsonl", recorded.okx),
    ("upbit/cf_20210405_simple.jsonl", recorded.upbit),
]
DEPTH = 25


class DecimalBook:
    """Decimal price → decimal quantity, the simplest book there is."""

    def __init__(self) -> None:
        """Start empty."""
        self.sides: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})

    def apply(self, event: recorded.BookEvent) -> None:
        """Replace or change levels."""
        if event.snapshot:
            self.sides = ({}, {})
        for side, levels in zip(self.sides, (event.bids, event.asks), strict=True):
            for price, quantity in levels:
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)

    def top(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """Return the best levels of both sides."""
        bids, asks = self.sides
        return sorted(bids.items(), reverse=True)[:DEPTH], sorted(asks.items())[:DEPTH]


def decimals(levels: LevelArray, book: KernelBook) -> list[tuple[Decimal, Decimal]]:
    """Return kernel levels as decimals."""
    return [
        (Decimal(p).scaleb(book.price_exp), Decimal(q).scaleb(book.qty_exp))
        for p, q in levels.tolist()
    ]


@pytest.mark.parametrize("common", [True, False], ids=["instrument exponents", "packet exponents"])
@pytest.mark.parametrize(("name", "read"), RECORDINGS, ids=[name for name, _ in RECORDINGS])
def test_top_and_depth_equal_a_decimal_book_after_every_event(
    name: str, read: Callable[[Path], Iterator[recorded.BookEvent]], common: bool
) -> None:
    """Every event of a recording leaves the same levels, and no book crossed, whatever exponents
    the packets carry.
    """
    events = list(read(captures() / name))
    exps = recorded.exponents(events) if common else {}
    ids = {symbol: number for number, symbol in enumerate(sorted({e.symbol for e in events}), 1)}
    books, twins, seqs = (
        BookSet(1),
        {symbol: DecimalBook() for symbol in ids},
        dict.fromkeys(ids, 0),
    )
    assert len(events) > 200
    for event in events:
        seqs[event.symbol] += 1
        instrument_id, twin = ids[event.symbol], twins[event.symbol]
        data = recorded.packets(event, instrument_id, seqs[event.symbol], exps.get(event.symbol))
        assert len(books.apply(data, check_seq=True).touched) == 1
        twin.apply(event)
        book = books.book(instrument_id)
        assert book is not None
        assert book.complete
        assert (decimals(book.bids(DEPTH), book), decimals(book.asks(DEPTH), book)) == twin.top()
        assert book.depth == (len(twin.sides[0]), len(twin.sides[1]))
    for symbol, twin in twins.items():
        book = books.add(ids[symbol])
        assert (dict(decimals(book.bids(), book)), dict(decimals(book.asks(), book))) == twin.sides
    assert books.counters.crossed == 0
    assert books.counters.events == len(events)


def okx_checksum(book: KernelBook) -> int:
    """Return OKX's signed CRC32 over the 25 best levels, bid and ask by turns, as `px:sz` texts
    joined by colons.
    """
    bids, asks = book.levels(DEPTH)
    texts = []
    for rank in range(DEPTH):
        for side in (bids, asks):
            if rank < len(side):
                price, quantity = side[rank]
                texts.append(recorded.text_of(price, book.price_exp))
                texts.append(recorded.text_of(quantity, book.qty_exp))
    crc = zlib.crc32(":".join(texts).encode())
    return crc - 2**32 if crc >= 2**31 else crc


@pytest.mark.parametrize(
    ("name", "count"),
    [("cf_20220513_v5_books.jsonl", 290), ("cf_20220227_v5_books_l2_tbt.jsonl", 3679)],
)
def test_okx_checksums_hold(name: str, count: int) -> None:
    """Each of the checksums of the 2022 recordings is what the kernel's book gives."""
    events = list(recorded.okx(captures() / "okx" / name))
    exps = recorded.exponents(events)
    ids = {symbol: number for number, symbol in enumerate(exps, 1)}
    books = BookSet()
    for event in events:
        books.apply(recorded.packets(event, ids[event.symbol], 0, exps[event.symbol]))
        assert okx_checksum(books.add(ids[event.symbol])) == event.checksum
    assert len(events) == count
