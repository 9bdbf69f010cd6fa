"""Does memory stay flat, and the feed right, over a day? Recordings in a loop, with times and
sequence numbers that go on.

One process holds the session and publisher of every venue and one consumer that keeps every
book, fed through memory as fast as they go. Each recording is played again and again until 24
hours of feed time have passed: in every round its times and sequence numbers are moved on, and
at the seam of two rounds the connection is lost and made anew, for the book at the end of a
recording is not that of its beginning. After each round every book must be LIVE and the same as
after the first.

The full run takes a quarter of an hour: `nice -n 19 python -m benchmarks.soak --save`.
"""

from __future__ import annotations

import gc
import heapq
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from benchmarks.harness import Options, Table, Target, main, recorded_file
from tapecast import Feed, Gap
from tapecast.consumers.feed.source import Chunks
from tapecast.feeder.record.recording import Line, read
from tapecast.feeder.session.session import Session, SessionOptions
from tapecast.feeder.venues import venue
from tapecast.feeder.venues.spec import qualified
from tapecast.protocol.publish.lines import MemoryLine
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.publish.schedule import Cycle
from tapecast.protocol.records import HeartbeatItem
from tests.support.processes import resident_bytes
from tests.support.standin.rewriting import Movable

HOUR_NS = 3600 * 10**9
HOURS = 24.0
IDS = 10**9
"""By how much the numbers of one round are ahead of those of the round before."""
CYCLE_S = 60.0
"""Definitions and books are repeated once in this time of the feed."""
CHUNK = 64 << 10
SLOPE = 1 << 20
"""Most bytes an hour of feed time by which memory may grow in the second half of a run."""


class Source(NamedTuple):
    """A recording: how much of it, and which of its symbols (all where none is named)."""

    venue: str
    file: str
    symbols: tuple[str, ...] = ()
    lines: int = 1 << 30


SOURCES = (
    Source("binance", "binance/cf_20210814_spot.jsonl", ("BADGERBTC", "XMRBTC")),
    Source("binance_futures", "binance_futures/cf_20210722_usdm.jsonl", ("AKROUSDT", "KEEPUSDT")),
    Source("binance_coinm", "long/binance_coinm_btcusd_perp_20240808.jsonl.gz", lines=4000),
    Source("bybit", "bybit/cf_20260809_v5_linear_spot.p1.jsonl", ("DOGEUSDT", "SOLUSDT")),
    Source("coinbase", "coinbase/cf_20260809_advanced_trade.p1.jsonl"),
    Source(
        "coinbase_exchange",
        "coinbase/cf_20210417_exchange_ws_feed.p1.jsonl",
        ("NU-GBP", "BAND-GBP"),
    ),
    Source("deribit", "deribit/cf_20210405_options.jsonl"),
    Source("kraken", "kraken/crossbook_20260802_v2_ethusd_d25.jsonl"),
    Source("okx", "okx/cf_20220513_v5_books.jsonl"),
    Source("upbit", "upbit/cf_20210405_simple.jsonl", ("KRW-ADA", "BTC-CHZ", "KRW-BAT")),
)
"""Of Bithumb's present API and of LS there is no recording of a stream, only single messages."""


class Step(NamedTuple):
    """One line of a recording as it is played."""

    at_ns: int
    symbol: str
    """Of a REST order book, else empty."""
    frame: Movable


@dataclass
class Loop:
    """One recording, played round after round."""

    source: Source
    steps: list[Step]
    span_ns: int
    origin_ns: int
    session: Session
    publisher: Publisher
    line: MemoryLine
    symbols: list[str]
    url: str = ""
    round: int = 0
    frames: int = 0
    cpu_ns: int = 0
    ends: list[object] = field(default_factory=list)
    """The books after the first round."""
    differing: int = 0
    """Rounds after which a book was not LIVE, or another than after the first."""
    cycle: Cycle | None = None

    @property
    def feed_ns(self) -> int:
        """Feed time played."""
        return self.round * self.span_ns


def load(source: Source) -> Loop:
    """Read a recording and open its session."""
    spec = venue(source.venue)
    steps: list[Step] = []
    wanted = dict.fromkeys(source.symbols)
    instruments: list[bytes] = []
    last_ns = first_ns = 0
    found: dict[str, None] = {}
    url = ""
    for number, line in enumerate(read([recorded_file(source.file)])):
        if number >= source.lines:
            break
        last_ns = line.ts_recv_ns or last_ns
        first_ns = first_ns or last_ns
        symbol = _symbol(source.venue, line)
        if line.kind == "http" and line.url and spec.recordings.is_listing(line.url):
            instruments.append(line.raw)
        elif line.kind in ("recv", "http") and (
            symbol is not None or spec.stream.connection_number is not None
        ):
            if wanted and symbol not in wanted:
                continue
            if symbol:
                found[symbol] = None
            only = symbol or next(iter(found), "")
            steps.append(
                Step(
                    last_ns - first_ns,
                    only if line.kind == "http" else "",
                    Movable(source.venue, line.raw),
                )
            )
            url = url or line.url or ""
    seconds = (last_ns - first_ns) // 10**9 + 1
    line_out = MemoryLine()
    session = Session(
        spec, SessionOptions(channel_id=spec.venue_id, verify_checksum=True, accept_any=True)
    )
    publisher = Publisher(
        line_out, venue_id=spec.venue_id, channel_id=spec.venue_id, session=1, base_flags=0
    )
    for body in instruments:
        session.on_instruments(body, 1, 1)
    origin_ns = first_ns or 1_700_000_000 * 10**9
    loop = Loop(
        source, steps, seconds * 10**9, origin_ns, session, publisher, line_out, list(found), url
    )
    loop.cycle = Cycle(CYCLE_S, 0)
    publisher.start(HeartbeatItem(0, 0, 0, 1000, 0))
    return loop


def _symbol(name: str, line: Line) -> str | None:
    """Return the qualified symbol that a line is about; "" for a REST order book that names
    none.
    """
    spec = venue(name)
    if line.kind == "http":
        return (spec.recordings.snapshot_symbol(line.url) if line.url else "") or (
            "" if b'"lastUpdateId"' in line.raw[:300] else None
        )
    topic = spec.stream.peek(line.raw)
    if topic is None or spec.stream.control(line.raw) is not None:
        return None
    return (
        topic.symbol
        if spec.stream.market is None
        else qualified(spec.stream.market(line.url or "", line.raw), topic.symbol)
    )


def play(loop: Loop) -> Iterator[bytes]:
    """Play one round; yield what was published."""
    session, publisher, out = loop.session, loop.publisher, loop.line
    ids, later_ns = loop.round * IDS, loop.round * loop.span_ns
    began_ns = time.thread_time_ns()
    second_ns = later_ns
    pending = 0

    def flush(now_ns: int, ts_ns: int) -> int:
        publisher.instruments(len(session.instruments))
        out.clock_ns = ts_ns
        nbytes = session.flush(publisher.publish, now_ns, ts_ns)
        session.commands.clear()
        return nbytes

    now_ns, ts_ns = later_ns, loop.origin_ns + later_ns
    if loop.round:
        session.on_disconnect("ws.1", now_ns, ts_ns)
    if loop.url:
        session.on_url("ws.1", loop.url)
    session.on_connect("ws.1", now_ns, ts_ns)
    session.subscribe(loop.symbols, ts_ns)
    session.on_subscribed(loop.symbols, "ws.1", now_ns)
    for at_ns, symbol, frame in loop.steps:
        now_ns, ts_ns = later_ns + at_ns, loop.origin_ns + later_ns + at_ns
        if symbol:
            session.on_snapshot(symbol, frame.at(ids, later_ns), ts_ns, now_ns)
        else:
            session.on_frame("ws.1", frame.at(ids, later_ns), ts_ns, now_ns)
        pending += flush(now_ns, ts_ns)
        if now_ns - second_ns >= 10**9:
            second_ns = now_ns
            pending += _second(loop, now_ns, ts_ns)
        if pending >= CHUNK:
            pending = 0
            yield out.take()
    loop.frames += len(loop.steps)
    loop.round += 1
    _compare(loop)
    loop.cpu_ns += time.thread_time_ns() - began_ns
    yield out.take()


def _second(loop: Loop, now_ns: int, ts_ns: int) -> int:
    """Do what a feeder does once a second."""
    session, publisher = loop.session, loop.publisher
    deadline = session.next_deadline()
    if deadline is not None and deadline <= now_ns:
        session.on_timer(now_ns, ts_ns)
    session.check_stale(now_ns, 30 * 10**9, ts_ns)
    publisher.heartbeat(HeartbeatItem(0, len(session.instruments), 0, 1000, 0), ts_ns)
    assert loop.cycle is not None
    for index in loop.cycle.due(len(session.instruments), now_ns):
        publisher.repeat(session.definition(session.instruments[index]))
        publisher.repeat(session.book_snapshot(session.instruments[index]))
    session.quarantined.clear()
    return CHUNK // 16


def _compare(loop: Loop) -> None:
    """Hold the books at the end of a round against those of the first."""
    books = [
        loop.session.books.book(instrument.instrument_id) for instrument in loop.session.instruments
    ]
    ends = [
        (
            None
            if book is None
            else (instrument.sync.live, hash(tuple(map(tuple, map(tuple, book.levels())))))
        )
        for instrument, book in zip(loop.session.instruments, books, strict=True)
    ]
    if not loop.ends:
        loop.ends = list(ends)
    if (
        ends != loop.ends
        or not any(end is not None for end in ends)
        or not all(end is None or end[0] for end in ends)
    ):
        loop.differing += 1


def packets(loops: list[Loop], hours: float, sample: Callable[[int], None]) -> Iterator[bytes]:
    """Play every loop for so many hours of feed time, the one behind first; sample the memory
    every quarter of an hour.
    """
    waiting = [(0, number) for number in range(len(loops))]
    heapq.heapify(waiting)
    quarter = 0
    while waiting:
        feed_ns, number = heapq.heappop(waiting)
        while feed_ns >= quarter * HOUR_NS // 4:
            sample(quarter * HOUR_NS // 4)
            quarter += 1
        loop = loops[number]
        if loop.feed_ns >= hours * HOUR_NS:
            continue
        yield from play(loop)
        heapq.heappush(waiting, (loop.feed_ns, number))


def build(options: Options) -> Iterator[Table]:
    """Run the soak and lay out what it showed."""
    loops = [load(source) for source in SOURCES if options.only in source.venue]
    hours = 0.1 if options.smoke else HOURS
    samples: list[tuple[int, int]] = []

    def sample(feed_ns: int) -> None:
        gc.collect()
        samples.append((feed_ns, resident_bytes(os.getpid())))

    lost: list[Gap] = []
    feed = Feed(types=[Gap], books=True, source=Chunks(packets(loops, hours, sample)))
    began_s = time.perf_counter()
    feed.on(Gap, lost.append)
    feed.run()
    wall_s = time.perf_counter() - began_s
    sample(max(loop.feed_ns for loop in loops))
    yield _per_venue(loops)
    yield _memory(samples, loops, feed, lost, wall_s)


def _per_venue(loops: list[Loop]) -> Table:
    columns = [
        "venue",
        "symbols",
        "feed hours",
        "rounds",
        "frames",
        "events",
        "reconnects",
        "gaps",
        "quarantined",
        "rounds that differ",
        "µs/frame",
    ]
    rows: list[list[object]] = []
    for loop in loops:
        counts = loop.session.counts
        rows.append(
            [
                loop.source.venue,
                len(loop.session.instruments),
                round(loop.feed_ns / HOUR_NS, 2),
                loop.round,
                loop.frames,
                sum(loop.publisher.events().values()),
                loop.round - 1,
                counts["gaps"],
                counts["quarantine"],
                loop.differing,
                round(loop.cpu_ns / 1e3 / max(loop.frames, 1), 1),
            ]
        )
    notes = [
        "reconnects: the seams of the rounds; after each every book starts from a snapshot",
        (
            "rounds that differ: after which some book was not LIVE, or not the one after the first"
            " round"
        ),
        (
            "µs/frame: processor time to move numbers and times, of session and publisher, and of"
            " the comparison; not the consumer's"
        ),
    ]
    wrong = sum(
        loop.session.counts["gaps"] + loop.session.counts["quarantine"] + loop.differing
        for loop in loops
    )
    targets = [Target("gaps, quarantined messages and differing rounds", wrong, at_most=0)]
    return Table(f"{len(loops)} recordings in a loop, one process", columns, rows, notes, targets)


def _memory(
    samples: list[tuple[int, int]], loops: list[Loop], feed: Feed, lost: list[Gap], wall_s: float
) -> Table:
    hours = np.array([at for at, _ in samples]) / HOUR_NS
    resident = np.array([nbytes for _, nbytes in samples], float)
    late = hours >= hours[-1] / 2
    slope = float(np.polyfit(hours[late], resident[late], 1)[0]) if late.sum() > 2 else 0.0
    step = max(1, len(samples) // 12)
    rows: list[list[object]] = [
        [f"{at:.2f} h", round(nbytes / 2**20, 1)]
        for at, nbytes in zip(hours[::step], resident[::step], strict=True)
    ]
    rows.append([f"{hours[-1]:.2f} h (end)", round(resident[-1] / 2**20, 1)])
    frames, events = (
        sum(loop.frames for loop in loops),
        sum(sum(loop.publisher.events().values()) for loop in loops),
    )
    notes = [
        (
            f"{frames:,} frames, {events:,} events, {feed.stats.received:,} packets at the"
            f" consumer, {wall_s:,.0f} s of wall time"
        ),
        (
            f"second half: {(resident[late].max() - resident[late].min()) / 2**20:.1f} MiB between"
            " the least and the most"
        ),
    ]
    targets = [
        Target(
            "growth of memory in the second half, per hour of feed time,",
            slope / 2**20,
            at_most=SLOPE / 2**20,
            unit="MiB",
        ),
        Target("packets lost and gaps at the consumer", feed.stats.lost + len(lost), at_most=0),
    ]
    return Table("memory of the whole process (RSS)", ["feed time", "MiB"], rows, notes, targets)


if __name__ == "__main__":
    raise SystemExit(main(__doc__.splitlines()[0], build, ["numpy", "cffi", "msgspec"]))
