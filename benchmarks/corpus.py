"""Recordings as benchmarks need them: what starts the books, then the market data frames, each
with its kind.

A *kind* is the name of the declared shape that a frame has, with `snapshot` or `update` behind
it where a shape is both. Frames that are no market data (acknowledgements, channels that are not
published) are left out. Prices, sizes and times are those recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import recorded_file
from tapecast.feeder.extract.extractor import Extractor
from tapecast.feeder.extract.fallback import FallbackExtractor
from tapecast.feeder.extract.shapes import BookShape
from tapecast.feeder.record.recording import Line, read
from tapecast.feeder.session.session import Session, SessionOptions
from tapecast.feeder.venues import venue
from tapecast.feeder.venues.spec import Exact, InstrumentDef, VenueSpec
from tapecast.protocol.codec import walk
from tapecast.protocol.publish.lines import MemoryLine
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.schema import InstrumentState

__all__ = [
    "PACKET_BYTES",
    "Corpus",
    "Frame",
    "Instrument",
    "load",
    "new_extractor",
    "new_session",
    "started",
    "uniform_packets",
]

PACKET_BYTES = 66 + 15 * 16
"""Header and 15 levels: a usual small packet."""
UNIFORM = ("binance", "binance/hft_20240808_spot_btcusdt.jsonl")


class Frame(NamedTuple):
    """One market data message; `msg_type` is what it becomes."""

    raw: bytes
    kind: str
    msg_type: int
    ts_recv_ns: int
    """When it was recorded; 0 = unknown."""


class Instrument(NamedTuple):
    """A symbol with the exponents at which all its recorded numbers are exact."""

    symbol: str
    instrument_id: int
    price_exp: int
    qty_exp: int


@dataclass(frozen=True)
class Corpus:
    """A recording, or the beginning of one."""

    venue: str
    name: str
    instruments: list[Instrument]
    start: list[Line]
    """Everything up to the last REST order book that starts a book; empty where books start in
    the stream.
    """
    frames: list[Frame]
    bodies: dict[str, bytes]
    """Symbol -> its first REST order book."""

    @property
    def spec(self) -> VenueSpec:
        """The venue's specification."""
        return venue(self.venue)

    def kinds(self) -> Counter[str]:
        """Return how many frames there are of each kind."""
        return Counter(frame.kind for frame in self.frames)

    def after_snapshots(self) -> Corpus:
        """Return the same recording with everything up to its last snapshot in the stream moved
        to the start.
        """
        snapshots = [
            position
            for position, frame in enumerate(self.frames)
            if frame.kind.endswith(" snapshot")
        ]
        border = snapshots[-1] + 1 if snapshots else 0
        moved = [
            Line("recv", "1", None, frame.raw, 1, False, Path(self.name), 0)
            for frame in self.frames[:border]
        ]
        return replace(self, start=self.start + moved, frames=self.frames[border:])


def load(venue_name: str, name: str, lines: int) -> Corpus:
    """Read the first `lines` lines of a recording; leaves with a message where recordings are
    absent.
    """
    spec = venue(venue_name)
    taken = list(islice(read([recorded_file(name)]), lines))
    trial = _session(spec, {})
    bodies: dict[str, bytes] = {}
    border = 0
    only = None
    for position, line in enumerate(taken):
        if line.kind == "http" and not (line.url and spec.recordings.is_listing(line.url)):
            symbol = spec.recordings.snapshot_symbol(line.url) if line.url else only
            if symbol is not None and symbol not in bodies:
                bodies[symbol] = line.raw
                border = position + 1
        elif line.kind == "recv":
            topic = spec.stream.peek(line.raw)
            only = only or (topic.symbol if topic else None)
        _handle(trial, line, only)
        trial.flush(_nowhere, 1, 1)
    instruments = [
        Instrument(i.symbol, i.instrument_id, i.price_exp, i.qty_exp) for i in trial.instruments
    ]
    extractor = new_extractor(spec, instruments)
    frames = []
    for line in taken[border:]:
        if line.kind == "recv" and extractor.extract(line.raw, 1) == 0:
            frames.append(
                Frame(
                    line.raw,
                    _kind(spec, extractor),
                    int(extractor.r.msg_type),
                    line.ts_recv_ns or 0,
                )
            )
    part = "" if len(taken) < lines else f" (first {lines:,} lines)"
    return Corpus(venue_name, name + part, instruments, taken[:border], frames, bodies)


def new_extractor(
    spec: VenueSpec,
    instruments: Iterable[Instrument],
    *,
    fallback: bool = False,
    max_payload: int = 1400,
) -> Extractor:
    """Return an extractor that knows the instruments; `fallback`: the one in plain Python,
    which has the same interface.
    """
    make = FallbackExtractor if fallback else Extractor
    out = make(
        (*spec.stream.shapes, *spec.rule.rest_shapes),
        venue_id=spec.venue_id,
        channel_id=spec.venue_id,
        max_payload=max_payload,
    )
    for instrument in instruments:
        out.add_instrument(*instrument)
    return out  # type: ignore[return-value]


def new_session(corpus: Corpus) -> Session:
    """Return a session that knows the instruments as a live one does from the venue's list."""
    return _session(corpus.spec, {i.symbol: i for i in corpus.instruments})


def started(corpus: Corpus) -> tuple[Session, Publisher, MemoryLine]:
    """Return a session whose books are LIVE after the start of the recording, and a publisher to
    memory.
    """
    session = new_session(corpus)
    spec = corpus.spec
    line = MemoryLine()
    publisher = Publisher(
        line, venue_id=spec.venue_id, channel_id=spec.venue_id, session=1, base_flags=0
    )
    publisher.instruments(len(session.instruments))
    only = corpus.instruments[0].symbol if len(corpus.instruments) == 1 else None
    for recorded in corpus.start:
        _handle(session, recorded, only)
        session.flush(publisher.publish, 1, 1)
    line.take()
    return session, publisher, line


def uniform_packets(count: int, nbytes: int = PACKET_BYTES) -> bytearray:
    """Return contiguous BOOK packets of `nbytes` each, not stamped: a recorded order book in
    fragments, repeated.
    """
    corpus = load(*UNIFORM, 50)
    extractor = new_extractor(corpus.spec, corpus.instruments, max_payload=nbytes)
    if extractor.extract_as(0, next(iter(corpus.bodies.values())), 1):
        raise AssertionError(f"the order book of {corpus.name} is not understood")
    whole = [
        bytes(packet)
        for packet in walk(bytes(extractor.out[: extractor.r.nbytes]))
        if len(packet) == nbytes
    ]
    return bytearray(b"".join(islice(cycle(whole), count)))


def _session(spec: VenueSpec, known: dict[str, Instrument]) -> Session:
    session = Session(spec, SessionOptions(channel_id=spec.venue_id, accept_any=True))
    for symbol, instrument in known.items():
        kind = spec.kind_of(symbol)
        assert kind is not None
        tick, lot = Exact(1, instrument.price_exp), Exact(1, instrument.qty_exp)
        session.known[symbol] = InstrumentDef(
            symbol=symbol,
            kind=kind,
            state=InstrumentState.TRADING,
            base="",
            quote="",
            settle="",
            tick=tick,
            lot=lot,
        )
    session.on_connect("1", 1, 1)
    session.subscribe(known, 1)
    return session


def _handle(session: Session, line: Line, only: str | None) -> None:
    spec = session.spec
    if line.kind == "recv":
        session.on_frame("1", line.raw, 1, 1)
    elif line.kind == "http" and not (line.url and spec.recordings.is_listing(line.url)):
        symbol = spec.recordings.snapshot_symbol(line.url) if line.url else only
        if symbol is not None:
            session.on_snapshot(symbol, line.raw, 1, 1)


def _kind(spec: VenueSpec, extractor: Extractor) -> str:
    shape = spec.stream.shapes[extractor.r.shape]
    if not isinstance(shape, BookShape) or shape.snapshot_field is None:
        return shape.name
    return f"{shape.name} {'snapshot' if extractor.r.snapshot else 'update'}"


def _nowhere(buffer: memoryview, nbytes: int) -> None:
    """Publish nothing."""
