"""What does authentication cost a packet, at the sender and at the receiver? The hash library
beside it.

`python -m benchmarks.auth`: packets of a recorded order book, small (a few levels) and full.
Sealing and checking run in C, a batch a call; `hashlib.blake2b`, which needs a Python call for
every packet, is measured in the same rounds. Sequencing without keys stands beside sequencing
with them, so that the price of the feature where it is off shows as well. No sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.corpus import PACKET_BYTES, uniform_packets
from benchmarks.harness import Case, Options, Suite, main
from tapecast.protocol.authentication import Sealer
from tapecast.protocol.codec import auth_tag
from tapecast.protocol.net.io import SPAN
from tapecast.protocol.net.sequencing import BatchSequencer
from tapecast.protocol.schema import TAG_SIZE
from tapecast.protocol.stamping import Stamper

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
CALL = 64
PACKETS, SMOKE_PACKETS = 4_096, 128
FULL_BYTES = 1_378
"""82 levels, the most that `network.max_payload` leaves room for."""


def build(options: Options) -> Iterator[Suite]:
    """Yield both sides for small and for full packets."""
    count = SMOKE_PACKETS if options.smoke else PACKETS
    for size in (PACKET_BYTES, FULL_BYTES):
        packets = uniform_packets(count, size)
        yield _sending(packets, count, size)
        yield _receiving(packets, count, size)


def _sending(packets: bytearray, count: int, size: int) -> Suite:
    sealer, stamper = Sealer(KEY), Stamper(1, instruments=64)
    calls = [
        bytearray(packets[at : at + CALL * size]) for at in range(0, len(packets), CALL * size)
    ]
    singles = [bytes(packets[at : at + size]) for at in range(0, len(packets), size)]
    kept = [bytes(call) for call in calls]

    def renew() -> None:
        for call, original in zip(calls, kept, strict=True):
            call[:] = original

    def stamp(_: object) -> None:
        for call in calls:
            stamper.stamp(call, len(call))

    def seal(_: object) -> None:
        for call in calls:
            stamper.stamp(call, len(call))
            sealer.seal(call)

    def hash_library(_: object) -> None:
        for call in calls:
            stamper.stamp(call, len(call))
        for packet in singles:
            packet + auth_tag(packet, KEY)

    cases = [
        Case("stamp", renew, stamp),
        Case(f"stamp + seal, {CALL} packets a call", renew, seal),
        Case("stamp + hashlib.blake2b a packet", renew, hash_library),
    ]
    return Suite(f"sender, {size} B", count, "packet", cases, nbytes=len(packets))


def _receiving(packets: bytearray, count: int, size: int) -> Suite:
    stamper = Stamper(1, instruments=64)
    stamper.stamp(packets, len(packets))
    sealed = Sealer(KEY).seal(packets)

    def sequence(data: bytes, keys: dict[int, tuple[bytes, ...]]) -> Callable[[object], None]:
        step = len(data) // count
        spans = np.zeros(CALL, SPAN)
        spans["length"], spans["offset"] = step, np.arange(CALL) * step
        calls = [data[at : at + CALL * step] for at in range(0, len(data), CALL * step)]

        def run(_: object) -> None:
            machine = BatchSequencer(max_spans=CALL, max_channels=1, keys=keys)
            if sum(machine.process(call, spans, CALL, 0) for call in calls) != count:
                raise AssertionError("packets are missing")

        return run

    singles = [sealed[at : at + size + TAG_SIZE] for at in range(0, len(sealed), size + TAG_SIZE)]
    plain = sequence(sealed, {})
    channel = int.from_bytes(packets[12:14], "little")

    def hash_library(_: object) -> None:
        plain(None)
        for packet in singles:
            if auth_tag(packet[:-TAG_SIZE], KEY) != packet[-TAG_SIZE:]:
                raise AssertionError("a wrong tag")

    cases = [
        Case("sequence, no keys", lambda: None, sequence(bytes(packets), {})),
        Case("sequence, tags not looked at", lambda: None, plain),
        Case("sequence, one key", lambda: None, sequence(sealed, {channel: (KEY,)})),
        Case(
            "sequence, the second of two keys",
            lambda: None,
            sequence(sealed, {channel: (OTHER, KEY)}),
        ),
        Case("sequence + hashlib.blake2b a packet", lambda: None, hash_library),
    ]
    return Suite(f"receiver, {size} B", count, "packet", cases, nbytes=len(packets))


if __name__ == "__main__":
    raise SystemExit(main(__doc__.splitlines()[0], build, ["cffi", "numpy"]))
