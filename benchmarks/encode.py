"""What does it cost to finish a packet? Stamping in C, and the plain-Python codec that writes
what is rare.

`python -m benchmarks.encode`. Hot packets are written by the extractor (`benchmarks.normalise`)
and only stamped here: session, channel and instrument sequence, send time. `codec.encode` and
`decode` are the reference, which the feeder uses for definitions, states and heartbeats; a
definition is what a publisher repeats for every instrument, once a cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice

from benchmarks.corpus import Corpus, load, new_session, started
from benchmarks.harness import Case, Options, Suite, main
from tapecast.feeder.session.session import Session
from tapecast.feeder.session.types import SessionInstrument
from tapecast.protocol.codec import Packet, decode, encode, walk
from tapecast.protocol.schema import MsgType
from tapecast.protocol.stamping import Stamper

CORPORA = [
    ("binance", "binance/hft_20240808_spot_btcusdt.jsonl"),
    ("okx", "okx/cf_20220227_v5_books_l2_tbt.jsonl"),
]
LINES, SMOKE_LINES = 5_000, 300
REFERENCE_PACKETS = 500
DEFINITIONS = 500
CALL = 32
"""Packets stamped in one call where a read brought several frames."""


def build(options: Options) -> Iterator[Suite]:
    """Yield one suite over a recording's packets and one over its definitions, per recording."""
    for venue, name in CORPORA:
        corpus = load(venue, name, SMOKE_LINES if options.smoke else LINES)
        packets = _packets(corpus)
        decoded = [decode(packet) for packet in packets[:REFERENCE_PACKETS]]
        data = sum(map(len, packets))
        groups = [b"".join(packets[i : i + CALL]) for i in range(0, len(packets), CALL)]
        some, some_data = len(decoded), sum(map(len, packets[:REFERENCE_PACKETS]))
        cases = [
            _stamped(f"stamp (C), {CALL} packets a call", corpus, groups),
            _stamped("stamp (C), one packet a call", corpus, packets),
            Case("codec.encode (plain Python)", lambda: None, _encode(decoded), some, some_data),
            Case(
                "codec.decode (plain Python)",
                lambda: None,
                _decode(packets[:REFERENCE_PACKETS]),
                some,
                some_data,
            ),
        ]
        yield Suite(
            f"{corpus.name}, packets",
            len(packets),
            "packet",
            cases,
            [f"{data / len(packets):.0f} bytes a packet"],
            data,
        )
        session = new_session(corpus)
        used = list(islice(cycle(session.instruments), DEFINITIONS))
        size = sum(len(session.definition(instrument)) for instrument in used)
        yield Suite(
            f"{corpus.name}, definitions",
            len(used),
            "packet",
            [_definitions(session, used)],
            [],
            size,
        )


def _packets(corpus: Corpus) -> list[bytes]:
    """Return the market data packets that the session makes of the frames, before stamping."""
    session = started(corpus)[0]
    out: list[bytes] = []

    def keep(buffer: memoryview, nbytes: int) -> None:
        out.extend(bytes(packet) for packet in walk(bytes(buffer[:nbytes])))

    for frame in corpus.frames:
        session.on_frame("1", frame.raw, 1, 1)
        session.flush(keep, 1, 1)
    hot = {int(MsgType.BOOK), int(MsgType.BBO), int(MsgType.TRADE)}
    return [packet for packet in out if packet[3] in hot]


def _stamped(name: str, corpus: Corpus, packets: list[bytes]) -> Case:
    """Return the case that stamps each buffer in one call; stamping changes the buffers, so
    every run gets its own.
    """

    def prepare() -> object:
        return Stamper(1, instruments=max(64, len(corpus.instruments))).stamp, [
            bytearray(packet) for packet in packets
        ]

    def run(state: object) -> None:
        stamp, buffers = state  # type: ignore[misc]
        for buffer in buffers:
            stamp(buffer, len(buffer))

    return Case(name, prepare, run)


def _definitions(session: Session, used: list[SessionInstrument]) -> Case:
    def run(_: object) -> None:
        for instrument in used:
            session.definition(instrument)

    return Case("definition of an instrument", lambda: None, run)


def _encode(packets: list[Packet]) -> Callable[[object], None]:
    def run(_: object) -> None:
        for header, items, _tag in packets:
            encode(header, items)

    return run


def _decode(packets: list[bytes]) -> Callable[[object], None]:
    def run(_: object) -> None:
        for packet in packets:
            decode(packet)

    return run


if __name__ == "__main__":
    raise SystemExit(main(__doc__.splitlines()[0], build, ["cffi", "numpy"]))
