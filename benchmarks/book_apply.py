"""How long does a book take to apply one level? The C kernel against dictionaries and the
ordered books of other packages.

`python -m benchmarks.book_apply` over real recordings, each from its first snapshot on. The
kernel reads packets; the peers get Python integers that are already decoded, so their figures
contain no parsing. After each event all read the best bid and the best ask, but for the plain
dictionary, which has no order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from itertools import islice
from pathlib import Path

from benchmarks.harness import Case, Options, Suite, installed, main, recorded_file
from tapecast.protocol.books.books import BookSet
from tapecast.protocol.codec import walk
from tests.support import book_recordings as recorded

Event = tuple[int, bool, list[tuple[int, int]], list[tuple[int, int]]]
Sides = tuple[MutableMapping[int, int], MutableMapping[int, int]]
Best = Callable[[Sides], object]

CORPORA: list[tuple[str, Callable[[Path], Iterator[recorded.BookEvent]]]] = [
    ("binance/hft_20240808_spot_btcusdt.jsonl", recorded.binance),
    ("binance_futures/hft_20240808_usdm_btcusdt.jsonl", recorded.binance),
    ("okx/cf_20220227_v5_books_l2_tbt.jsonl", recorded.okx),
    ("upbit/cf_20210405_simple.jsonl", recorded.upbit),
]
BUFFER = 64 * 1024
SMOKE_EVENTS = 50


def integers(events: list[recorded.BookEvent]) -> list[Event]:
    """Return the events with mantissas at their instrument's exponents and instruments by
    number.
    """
    exps = recorded.exponents(events)
    ids = {symbol: number for number, symbol in enumerate(exps, 1)}
    return [
        (
            ids[event.symbol],
            event.snapshot,
            *(
                [
                    (int(p.scaleb(-exps[event.symbol][0])), int(q.scaleb(-exps[event.symbol][1])))
                    for p, q in levels
                ]
                for levels in (event.bids, event.asks)
            ),
        )
        for event in events
    ]


def buffers(messages: list[bytes]) -> list[bytes]:
    """Join whole packets into buffers of at most `BUFFER` bytes, as a receiver's ring hands them
    over.
    """
    out, current = [], bytearray()
    for message in messages:
        for packet in walk(message):
            if len(current) + len(packet) > BUFFER:
                out.append(bytes(current))
                current.clear()
            current += packet
    return [*out, bytes(current)]


def kernel(name: str, chunks: list[bytes]) -> Case:
    """Return the case that gives the kernel one chunk a call."""

    def run(books: object) -> None:
        assert isinstance(books, BookSet)
        apply = books.apply
        for chunk in chunks:
            apply(chunk)

    return Case(name, BookSet, run)


def peer(name: str, events: list[Event], make: Callable[[], Sides], best: Best | None) -> Case:
    """Return the case that keeps each side in a mapping from price to quantity."""

    def run(state: object) -> None:
        books: dict[int, Sides] = {}
        for instrument, snapshot, bids, asks in events:
            if snapshot:
                books[instrument] = make()
            sides = books[instrument]
            for side, levels in ((sides[0], bids), (sides[1], asks)):
                for price, quantity in levels:
                    if quantity:
                        side[price] = quantity
                    elif price in side:
                        del side[price]
            if best is not None:
                best(sides)

    return Case(name, lambda: None, run)


def peers(events: list[Event]) -> tuple[list[Case], list[str]]:
    """Return the peers that are installed and a note for each that is not."""
    cases, notes = [peer("dict, unordered", events, lambda: ({}, {}), None)], []
    if installed("sortedcontainers"):
        from sortedcontainers import SortedDict

        def best_sorted(sides: Sides) -> object:
            bids, asks = sides
            # type: ignore[attr-defined]
            return bids and bids.peekitem(-1), asks and asks.peekitem(0)

        cases.append(
            peer(
                "sortedcontainers SortedDict",
                events,
                lambda: (SortedDict(), SortedDict()),
                best_sorted,
            )
        )
    else:
        notes.append("peer left out: sortedcontainers is not installed")
    if installed("order-book"):
        from order_book import OrderBook

        def make() -> Sides:
            book = OrderBook()
            return book.bids, book.asks

        def best_order_book(sides: Sides) -> object:
            bids, asks = sides
            # type: ignore[attr-defined]
            return len(bids) and bids.index(0), len(asks) and asks.index(0)

        cases.append(peer("order-book OrderBook", events, make, best_order_book))
    else:
        notes.append("peer left out: order-book is not installed")
    return cases, notes


def build(options: Options) -> Iterator[Suite]:
    """Yield one suite per recording."""
    for name, read in CORPORA:
        source = read(recorded_file(name))
        recording = list(islice(source, SMOKE_EVENTS)) if options.smoke else list(source)
        exps = recorded.exponents(recording)
        events = integers(recording)
        messages = [
            recorded.packets(event, number, 0, exps[event.symbol])
            for event, (number, *_) in zip(recording, events, strict=True)
        ]
        cases, notes = peers(events)
        work = sum(len(bids) + len(asks) for _, _, bids, asks in events)
        kernels = [
            kernel("kernel, 64 KiB of packets a call", buffers(messages)),
            kernel("kernel, one event a call", messages),
        ]
        notes.insert(0, f"{len(events):,} events, {work / len(events):.1f} levels an event")
        yield Suite(name, work, "level", kernels + cases, notes)


if __name__ == "__main__":
    raise SystemExit(
        main(__doc__.splitlines()[0], build, ["numpy", "cffi", "sortedcontainers", "order-book"])
    )
