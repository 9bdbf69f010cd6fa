"""Write what the C fuzz targets read: `python -m tests.support.fuzz_tables DIRECTORY`.

For each venue `VENUE.tables` (the compiled shapes that the feeder uses) and `VENUE-N.json` (real
frames of the shapes to start from, and long ones made of them, whose packets are fragmented);
`packets-N.bin` from `tests.support.fuzz_packets`. The targets and their commands:
`protocol/native/fuzz/run`.
"""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path

from tapecast.feeder.extract.compile import compile_shapes
from tapecast.feeder.venues import VENUES, venue
from tapecast.protocol._native import ffi
from tests.support import fuzz_packets
from tests.support.ls_frames import BOOKS, TRADES
from tests.support.shape_examples import example
from tests.support.shapes_sample import EXAMPLES

__all__ = ["write"]

_ROW = re.compile(rb'\["[0-9.]+","[0-9.]+"[^\]]*\]|\{"(?:ap|ask_price)"[^}]*\}')
_TRADE = re.compile(rb'(?<="data":\[)\{[^}]*"tradeId"[^}]*\}')
_LONG = 120
"""Levels of a long frame: more than a packet holds, and just what the target has room for."""
_TRADES = 4
"""As many as the target has room for."""

_FRAMES = EXAMPLES | {
    "coinbase_exchange": EXAMPLES["coinbase"],
    # Funding rate of 3 March 2022, and the documented liquidation.
    "okx": (
        *EXAMPLES["okx"],
        b'{"arg":{"channel":"funding-rate","instId":"BTC-USD-SWAP"},"data":[{"fundingRate":"0.0000734174532791",'
        b'"fundingTime":"1646323200000","instId":"BTC-USD-SWAP"}]}',
        b'{"arg":{"channel":"liquidation-orders","instType":"SWAP"},"data":[{"details":[{"bkPx":"0.007831","side":"buy",'
        b'"sz":"13","ts":"1692266434010"}],"instId":"IOST-USDT-SWAP"}]}',
    ),
    "ls": (*(frame for frame, *_ in TRADES.values()), *(frame for frame, *_ in BOOKS.values())),
}


def _examples(name: str) -> list[bytes]:
    """Return the real frames of a venue's shapes, as the extractors receive them."""
    spec = venue(name)
    found = [example(name, shape) for shape in (*spec.stream.shapes, *spec.rule.rest_shapes)]
    reframe = spec.stream.reframe
    frames = [frame for frame in found if frame is not None]
    return frames if reframe is None else [reframe(frame) or frame for frame in frames]


def _tables(name: str) -> bytes:
    spec = venue(name)
    tables = compile_shapes(spec.stream.shapes + spec.rule.rest_shapes)
    out = [struct.pack("<I", tables.count)]
    for index, arrays in enumerate(tables.keep):
        program = tables.programs[index]
        data = [bytes(ffi.buffer(array)) for array in arrays]
        out.append(
            struct.pack(
                "<4i",
                program.shape_count,
                program.slot_count,
                program.has_envelope,
                program.by_caller,
            )
        )
        out.append(struct.pack("<7I", *map(len, data)))
        out += data
    return b"".join(out)


def _long(frame: bytes, times: int = _LONG) -> bytes:
    """Return the frame with its first row or trade many times over."""
    rows = _ROW.sub(
        lambda row: b",".join([row[0]] * (times if row[0].startswith(b"[") else times // 2)),
        frame,
        count=1,
    )
    return _TRADE.sub(lambda trade: b",".join([trade[0]] * _TRADES), rows)


def _too_long(frame: bytes) -> bytes:
    """Return the frame with more rows than the target has room for."""
    return _long(frame, 2 * _LONG)


def write(folder: Path) -> None:
    """Write tables and frames of every venue, and packets."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in VENUES:
        (folder / f"{name}.tables").write_bytes(_tables(name))
        written = [*_FRAMES.get(name, ()), *_examples(name)]
        frames = dict.fromkeys((*written, *map(_long, written), *map(_too_long, written)))
        for number, frame in enumerate(frames):
            (folder / f"{name}-{number}.json").write_bytes(frame)
    for number, packets in enumerate(fuzz_packets.inputs()):
        (folder / f"packets-{number}.bin").write_bytes(packets)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
