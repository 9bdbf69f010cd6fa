"""Write what the C fuzz harness reads: `python -m tests.support.fuzz_tables DIRECTORY`.

For each sample venue `VENUE.tables` (compiled shapes) and `VENUE-N.json` (hand-written frames to start from). The harness and
its commands: `protocol/native/fuzz/extract_fuzz.c`.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from protocol._native import ffi

from protocol.extract_compile import compile_shapes
from tests.support.shapes_sample import EXAMPLES, VENUES

__all__ = ["write"]


def _tables(venue: str) -> bytes:
    tables = compile_shapes(VENUES[venue])
    out = [struct.pack("<I", tables.count)]
    for index, arrays in enumerate(tables.keep):
        program = tables.programs[index]
        data = [bytes(ffi.buffer(array)) for array in arrays]
        out.append(struct.pack("<4i", program.shape_count, program.slot_count, program.has_envelope, program.by_caller))
        out.append(struct.pack("<7I", *map(len, data)))
        out += data
    return b"".join(out)


def write(folder: Path) -> None:
    """Write tables and frames of every sample venue."""
    folder.mkdir(parents=True, exist_ok=True)
    for venue in VENUES:
        (folder / f"{venue}.tables").write_bytes(_tables(venue))
        for number, frame in enumerate(EXAMPLES[venue]):
            (folder / f"{venue}-{number}.json").write_bytes(frame)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
