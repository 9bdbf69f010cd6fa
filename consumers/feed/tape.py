"""Tapes: packets as they were received, one after the other in a file, nothing between them.

A packet contains its own length (66 + payload_len, + 16 with AUTH), so a tape needs no index; a
tape cut short by a crash is read up to its last whole packet. Names ending in `.gz` are
compressed. What is on a tape has passed validation but not sequencing: duplicates and disorder
are kept, so that a tape behaves like the network did. Reading and writing files is all this
module does.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final, cast

from tapecast.protocol.codec import Buffer
from tapecast.protocol.fields import OFFSET
from tapecast.protocol.schema import HEADER_SIZE, MAGIC, TAG_SIZE, Flag
from tapecast.runtime.errors import TapecastError

__all__ = ["TapeError", "TapeWriter", "is_tape", "read_tape"]

_CHUNK: Final = 1 << 18
_FLAGS: Final = OFFSET["flags"]
_PAYLOAD_LEN: Final = OFFSET["payload_len"]
_U16: Final = struct.Struct("<H")
_AUTH: Final = int(Flag.AUTH)
_MAGIC: Final = MAGIC.to_bytes(2, "little")
_GZIP: Final = b"\x1f\x8b"


class TapeError(TapecastError):
    """A file that holds something else than packets; names the file and the byte."""


class TapeWriter:
    """Appends packets to a file; a context manager."""

    def __init__(self, path: Path | str) -> None:
        """Create the file, or go on at the end of an existing one."""
        self.path = Path(path)
        self.packets = 0
        compressed = self.path.suffix == ".gz"
        opened = gzip.open(self.path, "ab", 1) if compressed else self.path.open("ab")  # noqa: SIM115 - closed by `close`
        self._file = cast(IO[bytes], opened)

    def write(self, packet: Buffer) -> None:
        """Append one packet."""
        self._file.write(packet)
        self.packets += 1

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def __enter__(self) -> TapeWriter:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def is_tape(path: Path | str) -> bool:
    """Whether a file begins as a tape does, compressed or not; an empty file is an empty tape."""
    with Path(path).open("rb") as file:
        head = file.read(2)
    if head == _GZIP:
        with gzip.open(path, "rb") as unpacked:
            head = unpacked.read(2)
    return head in (_MAGIC, b"")


def read_tape(path: Path | str) -> Iterator[bytes]:
    """Yield the packets of a tape in chunks of some 256 KiB, each of whole packets; TapeError
    where there is no packet.

    A packet cut off at the end of the file is left out.
    """
    path = Path(path)
    with path.open("rb") as probe:
        compressed = probe.read(2) == _GZIP
    with cast(IO[bytes], gzip.open(path, "rb") if compressed else path.open("rb")) as file:
        rest, done = b"", 0
        while True:
            try:
                block = file.read(_CHUNK)
            except EOFError:
                return
            if not block:
                return
            data = rest + block
            end = _whole(data, path, done)
            rest = data[end:]
            done += end
            if end:
                yield data[:end]


def packet_length(data: Buffer, at: int) -> int:
    """Return the length of the packet whose header stands at `at`."""
    (flags,) = _U16.unpack_from(data, at + _FLAGS)
    (payload,) = _U16.unpack_from(data, at + _PAYLOAD_LEN)
    size: int = HEADER_SIZE + payload
    return size + TAG_SIZE if flags & _AUTH else size


def _whole(data: bytes, path: Path, done: int) -> int:
    """Return where the last whole packet ends."""
    at = 0
    while len(data) - at >= HEADER_SIZE:
        if data[at : at + 2] != _MAGIC:
            raise TapeError(f"{path}: no packet at byte {done + at}: not a tape, or damaged there")
        end = at + packet_length(data, at)
        if end > len(data):
            break
        at = end
    return at
