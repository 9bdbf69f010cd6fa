"""Write what the C fuzz targets read: `python -m tests.support.fuzz_tables DIRECTORY`.

For each venue `VENUE.tables` (the compiled shapes that the feeder uses) and `VENUE-N.json` (hand-written frames to start from,
and long ones made of them, whose packets are fragmented); `packets-N.bin` from `tests.support.fuzz_packets`. The targets and
their commands: `protocol/native/fuzz/run`.
"""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path

from protocol._native import ffi

from feeder.venues import VENUES, venue
from protocol.extract_compile import compile_shapes
from tests.support import fuzz_packets
from tests.support.shapes_sample import EXAMPLES

__all__ = ["write"]

_ROW = re.compile(rb'\["[0-9.]+","[0-9.]+"[^\]]*\]|\{"(?:ap|ask_price)"[^}]*\}')
_TRADE = re.compile(rb'(?<="data":\[)\{[^}]*"tradeId"[^}]*\}')
_LONG = 120
"""Levels of a long frame: more than a packet holds, and just what the target has room for."""
_TRADES = 4
"""As many as the target has room for."""


def _tables(name: str) -> bytes:
    spec = venue(name)
    tables = compile_shapes(spec.shapes + spec.rest_shapes)
    out = [struct.pack("<I", tables.count)]
    for index, arrays in enumerate(tables.keep):
        program = tables.programs[index]
        data = [bytes(ffi.buffer(array)) for array in arrays]
        out.append(struct.pack("<4i", program.shape_count, program.slot_count, program.has_envelope, program.by_caller))
        out.append(struct.pack("<7I", *map(len, data)))
        out += data
    return b"".join(out)


def _long(frame: bytes) -> bytes:
    """Return the frame with its first row or trade many times over."""
    rows = _ROW.sub(lambda row: b",".join([row[0]] * (_LONG if row[0].startswith(b"[") else _LONG // 2)), frame, count=1)
    return _TRADE.sub(lambda trade: b",".join([trade[0]] * _TRADES), rows)


def write(folder: Path) -> None:
    """Write tables and frames of every venue, and packets."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in VENUES:
        (folder / f"{name}.tables").write_bytes(_tables(name))
        frames = dict.fromkeys((*EXAMPLES[name], *map(_long, EXAMPLES[name])))
        for number, frame in enumerate(frames):
            (folder / f"{name}-{number}.json").write_bytes(frame)
    for number, packets in enumerate(fuzz_packets.inputs()):
        (folder / f"packets-{number}.bin").write_bytes(packets)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
