"""What does it cost to normalise one venue message? The C extractor and the whole session
against Python and cryptofeed.

`python -m benchmarks.normalise` over real recordings, per venue and per kind of message.
Normalising is raw frame text to finished packets; with the book they are applied as well; the
session adds the book rule, stamping and publishing to memory. cryptofeed's handlers decode to
`Decimal`, keep a book and call a counting callback: they have no cheaper way. All get the same
frames in the same order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from benchmarks.corpus import Corpus, Frame, load, new_extractor, started
from benchmarks.harness import Case, Goal, Options, Suite, installed, main
from benchmarks.peers.simple import DECODERS
from tapecast.feeder.extract.extractor import Extractor
from tapecast.protocol.books.books import BookSet
from tapecast.protocol.codec import format_decimal
from tapecast.protocol.schema import MsgType

CORPORA = [
    ("binance", "long/binance_spot_btcusdt_20240808.jsonl.gz"),
    ("binance", "binance/cf_20210404_spot_btc_eth_dot.jsonl"),
    ("binance_futures", "long/binance_futures_usdm_btcusdt_20240808.jsonl.gz"),
    ("binance_futures", "binance_futures/cf_20210417_usdm.jsonl"),
    ("okx", "okx/cf_20220227_v5_books_l2_tbt.jsonl"),
    ("upbit", "upbit/cf_20210405_simple.jsonl"),
]
LINES, SMOKE_LINES = 20_000, 400
REFERENCE_FRAMES = 300
LEAST_FRAMES = 10
MIXED = "all kinds that both know"
WITH_BOOKS, SESSION = "extractor + book (C)", "session + publish to memory"
NORMALISE, WITH_BOOK = 10.0, 8.0
"""What cryptofeed's time over ours is meant to be at least: extraction alone, and with the book.
"""


def build(options: Options) -> Iterator[Suite]:
    """Yield for each recording one suite over everything that cryptofeed handles too, then one
    per kind.
    """
    for venue, name in CORPORA:
        corpus = load(venue, name, SMOKE_LINES if options.smoke else LINES)
        both = [frame for frame in corpus.frames if _peer_handles(corpus, frame.kind)]
        yield _suite(corpus, MIXED, both, peer=True)
        for kind in sorted(corpus.kinds()):
            part = corpus.after_snapshots() if kind.endswith(" update") else corpus
            frames = [frame for frame in part.frames if frame.kind == kind]
            if len(frames) >= LEAST_FRAMES:
                yield _suite(part, kind, frames, peer=_peer_handles(corpus, kind))


def _suite(corpus: Corpus, label: str, frames: list[Frame], *, peer: bool) -> Suite:
    spec = corpus.spec
    raws = [frame.raw for frame in frames]
    some = raws[:REFERENCE_FRAMES]
    decode = DECODERS[corpus.venue]
    extractor = new_extractor(spec, corpus.instruments)
    fallback = new_extractor(spec, corpus.instruments, fallback=True)
    cases = [
        Case("extractor (C)", lambda: extractor, _extract(raws)),
        Case(WITH_BOOKS, lambda: _with_books(corpus), _extract_and_apply(raws)),
        Case(SESSION, lambda: started(corpus), _session(raws)),
        Case(
            "extractor (plain Python)",
            lambda: fallback,
            _extract(some),
            len(some),
            sum(map(len, some)),
        ),
        Case("json + Decimal, no book", lambda: None, _simple(decode, raws)),
    ]
    notes = [f"{sum(map(len, raws)) / len(raws):.0f} bytes a frame"]
    goals: list[Goal] = []
    if not peer:
        notes.append("peer left out: cryptofeed's handlers do not know this kind")
    elif installed("cryptofeed") is None:
        notes.append("peer left out: cryptofeed is not installed (group `bench`)")
    else:
        case, note = _cryptofeed(corpus, frames)
        cases.append(case)
        notes.append(note)
        if label == MIXED:
            goals = [
                Goal(case.name, NORMALISE),
                Goal(case.name, WITH_BOOK, WITH_BOOKS),
                Goal(case.name, base=SESSION),
            ]
    return Suite(
        f"{corpus.venue}, {label}, {corpus.name}",
        len(raws),
        "frame",
        cases,
        notes,
        sum(map(len, raws)),
        goals,
    )


def _extract(raws: list[bytes]) -> Callable[[object], None]:
    def run(state: object) -> None:
        extract = state.extract  # type: ignore[attr-defined]
        for raw in raws:
            if extract(raw, 1):
                raise AssertionError(f"not extracted: {raw[:200]!r}")

    return run


def _with_books(corpus: Corpus) -> tuple[Extractor, BookSet]:
    return new_extractor(corpus.spec, corpus.instruments), started(corpus)[0].books


def _extract_and_apply(raws: list[bytes]) -> Callable[[object], None]:
    """Do what cryptofeed's handlers do, no more: normalise, and apply to the book what belongs
    to it.
    """

    def run(state: object) -> None:
        extractor, books = state  # type: ignore[misc]
        extract, apply, result, out = extractor.extract, books.apply, extractor.r, extractor.out
        book = int(MsgType.BOOK)
        for raw in raws:
            extract(raw, 1)
            if result.msg_type == book:
                apply(out, result.nbytes)

    return run


def _session(raws: list[bytes]) -> Callable[[object], None]:
    """Do per frame what the live feeder does per frame and per read: one frame a read, which is
    the dearest case.
    """

    def run(state: object) -> None:
        session, publisher, _ = state  # type: ignore[misc]
        on_frame, flush, publish = session.on_frame, session.flush, publisher.publish
        realtime, monotonic = time.time_ns, time.monotonic_ns
        for raw in raws:
            ts_recv_ns, now_ns = realtime(), monotonic()
            on_frame("1", raw, ts_recv_ns, now_ns)
            flush(publish, now_ns, ts_recv_ns)
        if session.counts["quarantine"]:
            raise AssertionError(f"quarantined: {session.quarantined[:1]}")

    return run


def _simple(decode: Callable[[bytes], object], raws: list[bytes]) -> Callable[[object], None]:
    def run(_: object) -> None:
        for raw in raws:
            decode(raw)

    return run


def _peer_handles(corpus: Corpus, kind: str) -> bool:
    from benchmarks.peers.cryptofeed_handlers import HANDLED

    return kind.split()[0] in HANDLED[corpus.venue]


def _cryptofeed(corpus: Corpus, frames: list[Frame]) -> tuple[Case, str]:
    """Return the peer's case and what a trial run showed: it must have handled the frames, with
    the same books as ours.
    """
    from benchmarks.peers.cryptofeed_handlers import CryptofeedFeed

    texts = [frame.raw.decode() for frame in frames]

    def run(state: object) -> None:
        assert isinstance(state, CryptofeedFeed)
        state.run(texts)

    trial = CryptofeedFeed(corpus).start()
    trial.run(texts)
    ours = started(corpus)
    _session([frame.raw for frame in frames])(ours)
    agree, books = 0, trial.books()
    for symbol in books:
        book = ours[0].books.book(ours[0].by_symbol[symbol].instrument_id)
        assert book is not None
        touch = tuple(
            format_decimal(int(side[0]["price"]), book.price_exp) if len(side) else ""
            for side in (book.bids(1), book.asks(1))
        )
        agree += touch == trial.best(symbol)
    note = (
        f"cryptofeed called back {trial.calls:,} times; {agree} of {len(books)} books end at the"
        " same best prices as ours"
    )
    return Case("cryptofeed handlers", lambda: CryptofeedFeed(corpus).start(), run), note


if __name__ == "__main__":
    raise SystemExit(
        main(
            __doc__.splitlines()[0],
            build,
            ["cffi", "numpy", "cryptofeed", "order-book", "yapic.json"],
            rounds=7,
        )
    )
