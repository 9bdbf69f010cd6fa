"""Reads recordings: raw venue frames as JSON lines (`.jsonl`, `.jsonl.gz`), several files being
one recording in their order.

Each line is an object with `kind` (recv, send, http, connect, disconnect, handover, reduced),
`raw` (the text exactly as received; the bytes in `base64` where they are no text), `conn`,
`url`, the receive time (`ts_ns`, else `ts_us`, else `ts` in unix seconds, null where unknown)
and `binary`. A disconnect without `conn` is one of every connection: the recording begins anew
there, or lines are missing. A handover is a step of replacing a connection (`begin OLD`,
`subscribed`, `end`, `abandon`). Other keys are left alone; `mono_ns` has no epoch and is never a
receive time. Reading streams: memory does not grow with the file. Nothing is decoded.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, NamedTuple, cast

import msgspec

from tapecast.feeder.venues.spec import Topic, VenueSpec, qualified
from tapecast.runtime.errors import TapecastError

__all__ = ["NOT_SERVED", "Line", "RecordingError", "Universe", "read", "universe"]

NOT_SERVED = (
    "its recorder cut the messages (kind `reduced`): `tapecast decode` reads them, but there are"
    " none to serve"
)

_NS_PER_S = 9
"""Decimal places between seconds and nanoseconds."""


class RecordingError(TapecastError, ValueError):
    """A line that is not one; the message names file and line."""


class Line(NamedTuple):
    """One line of a recording."""

    kind: str
    conn: str
    url: str | None
    raw: bytes
    ts_recv_ns: int | None
    binary: bool
    file: Path
    number: int
    """From 1, in its file."""


class Universe(NamedTuple):
    """What a recording is about."""

    symbols: tuple[str, ...]
    """In order of appearance; only symbols that the venue has."""
    topics: tuple[Topic, ...]
    """Channels requested or seen per symbol, in order of appearance."""
    urls: tuple[str, ...]
    has_instruments: bool
    lines: int
    reduced: int
    """Lines that their recorder cut."""

    @property
    def only_symbol(self) -> str | None:
        """The symbol a REST order book without URL belongs to: the only one of the recording,
        else nobody's.
        """
        return self.symbols[0] if len(self.symbols) == 1 else None


class _Outer(msgspec.Struct, gc=False):
    kind: str
    raw: str
    conn: str | None = None
    url: str | None = None
    ts: msgspec.Raw = msgspec.Raw(b"null")
    ts_ns: int | None = None
    ts_us: int | None = None
    binary: bool = False
    base64: str | None = None


_decode_outer = msgspec.json.Decoder(_Outer).decode


def read(paths: Iterable[Path], *, truncated: list[str] | None = None) -> Iterator[Line]:
    """Yield the lines of a recording.

    A last line (or compressed stream) that was cut off is left out and reported as `file:line:
    reason` in `truncated`. Raises RecordingError for any other line that is not one, OSError for
    a file that cannot be read.
    """
    for path in paths:
        yield from _read_file(path, [] if truncated is None else truncated)


def _read_file(path: Path, truncated: list[str]) -> Iterator[Line]:
    number = 0
    with _open(path) as file:
        lines = iter(file)
        while True:
            number += 1
            try:
                text = next(lines, None)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                if number == 1 and isinstance(error, gzip.BadGzipFile):
                    raise  # no torn end: it never was such a file
                truncated.append(f"{path}:{number}: compressed stream cut off: {error}")
                return
            if text is None:
                return
            if text.isspace():
                continue
            try:
                yield _line(text, path, number)
            except (msgspec.DecodeError, UnicodeError, RecordingError) as error:
                if not text.endswith(b"\n"):
                    truncated.append(f"{path}:{number}: last line cut off: {error}")
                    return
                raise RecordingError(f"{path}:{number}: {error}") from None


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _line(text: bytes, path: Path, number: int) -> Line:
    outer = _decode_outer(text)
    if outer.ts_ns is not None:
        ts_recv_ns: int | None = outer.ts_ns
    elif outer.ts_us is not None:
        ts_recv_ns = outer.ts_us * 1000
    else:
        ts_recv_ns = _seconds_to_ns(bytes(outer.ts))
    raw = outer.raw.encode() if outer.base64 is None else _exact_bytes(outer.base64)
    return Line(
        outer.kind, outer.conn or "", outer.url, raw, ts_recv_ns, outer.binary, path, number
    )


def _exact_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise RecordingError(f"base64: {error}") from None


def _seconds_to_ns(text: bytes) -> int | None:
    """Unix seconds to ns through their text: a double holds no more than about 100 ns of a
    present-day time.
    """
    if text == b"null":
        return None
    try:
        return int(Decimal(text.decode().strip('"')).scaleb(_NS_PER_S))
    except (InvalidOperation, ValueError, OverflowError):
        raise RecordingError(
            f"ts is not a time in seconds: {text[:40].decode(errors='replace')}"
        ) from None


def universe(paths: Iterable[Path], venue: VenueSpec) -> Universe:
    """Scan a recording for what it is about, before it is decoded. Raises as `read` does."""
    topics: dict[Topic, None] = {}
    urls: dict[str, None] = {}
    has_instruments = False
    lines = cut = 0
    for line in read(paths):
        lines += 1
        if line.url is not None:
            urls[line.url] = None
        cut += line.kind == "reduced"
        if line.kind == "recv":
            topic = venue.stream.peek(line.raw)
            if topic is not None:
                if venue.stream.market is not None:
                    topic = topic._replace(
                        symbol=qualified(
                            venue.stream.market(line.url or "", line.raw), topic.symbol
                        )
                    )
                topics[topic] = None
        elif line.kind in ("connect", "send"):
            sent = line.raw if line.kind == "send" else b""
            topics.update(dict.fromkeys(venue.stream.requested(line.url or "", sent)))
        elif line.kind == "http" and line.url is not None:
            has_instruments |= venue.recordings.is_listing(line.url)
    known = tuple(topic for topic in topics if venue.kind_of(topic.symbol) is not None)
    symbols = tuple(dict.fromkeys(topic.symbol for topic in known))
    return Universe(symbols, known, tuple(urls), has_instruments, lines, cut)
