"""A recording laid out for playing: framed WebSocket messages and book snapshots in recorded
order, REST bodies beside them.

The truth is the recording; `feeder.record.recording` reads its lines and the venue's dialect
says where each belongs. Nothing is sent from here, and a body that the recording does not hold
does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from tapecast.feeder.record import recording
from tapecast.feeder.record.recording import NOT_SERVED
from tapecast.feeder.replay.dialect import Dialect, Located, Route
from tapecast.feeder.replay.overlap import Overlap

__all__ = ["Cut", "Frame", "Snapshot", "Timeline", "TimelineError", "load", "wire_frame"]

_TEXT, _BINARY = 0x81, 0x82
_LONGEST_FILE_GAP_S = 60.0


class TimelineError(ValueError):
    """A recording holds nothing that can be served for the venue; the message names the files."""


class Frame(NamedTuple):
    """One recorded WebSocket message, framed as an unmasked server frame."""

    at_s: float
    """Recorded receive time, in seconds from the first entry; never decreasing."""
    stream: str
    symbol: str
    wire: bytes


class Snapshot(NamedTuple):
    """One recorded REST book snapshot."""

    at_s: float
    symbol: str
    body: bytes
    first: bool
    """True for the symbol's first snapshot in the recording, or since a cut."""


class Cut(NamedTuple):
    """Lines are missing here, or another recording begins: no client may take what follows for
    what follows the frame before.
    """

    at_s: float


class _Body(NamedTuple):
    tail: str
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Timeline:
    """Everything that one venue's server can send."""

    entries: Sequence[Frame | Snapshot | Cut]
    routes: Mapping[str, Route]
    """The recorded streams by name."""
    bodies: Sequence[_Body]
    snapshots: Mapping[str, int]
    """How many snapshots there are of each symbol."""
    left_out: Mapping[str, int]
    """Lines that are not served, by why: "answers" (venue answers and frames of no known
    stream), "unattributed" snapshots, "client" (what the recording client did), "other" kinds.
    """
    truncated: Sequence[str]
    """Files that end in the middle of a line, as `file:line: reason`."""
    depth: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The streams that carry a symbol's book changes."""

    def body(self, path: str, query: Mapping[str, str]) -> bytes | None:
        """Return the recorded body of a REST path, whichever API version: same last path part,
        all recorded parameters equal.
        """
        tail = _tail(path)
        found = [
            b
            for b in self.bodies
            if b.tail == tail and all(query.get(name) == value for name, value in b.query.items())
        ]
        return max(found, key=lambda b: len(b.query)).body if found else None


def load(paths: Sequence[Path], dialect: Dialect) -> Timeline:
    """Read recordings, in order one recording, into memory; raise TimelineError where they hold
    no frame of the venue.
    """
    draft = _Draft(dialect)
    truncated: list[str] = []
    for line in recording.read(paths, truncated=truncated):
        draft.add(line)
    timeline = draft.finish(truncated)
    if draft.reduced and not timeline.routes:
        raise TimelineError(f"{', '.join(map(str, paths))}: {NOT_SERVED}")
    if not timeline.routes:
        raise TimelineError(
            "no WebSocket frames that this venue's clients could subscribe to in"
            f" {', '.join(map(str, paths))}"
        )
    return timeline


def wire_frame(payload: bytes, *, binary: bool = False) -> bytes:
    """Frame a whole message as a server sends it (RFC 6455 section 5.2: final, unmasked, no
    extension).
    """
    opcode, size = (_BINARY if binary else _TEXT), len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65536:
        return bytes((opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((opcode, 127)) + size.to_bytes(8, "big") + payload


class _Clock:
    """Recorded receive times as seconds from the first entry: never backwards, missing ones with
    the neighbour before.
    """

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._file: object = None
        self._at_ns = 0

    @property
    def now_s(self) -> float:
        """The time of the last line."""
        return self._at_ns / 1e9

    def at(self, line: recording.Line) -> float:
        if line.ts_recv_ns is not None:
            if self._offset_ns is None:
                self._offset_ns = line.ts_recv_ns - self._at_ns
            at_ns = line.ts_recv_ns - self._offset_ns
            # Files recorded apart follow one another at once; parts of one recording keep their
            # distance.
            if (
                self._file != line.file
                and not 0 <= at_ns - self._at_ns <= _LONGEST_FILE_GAP_S * 1e9
            ):
                self._offset_ns = line.ts_recv_ns - self._at_ns
                at_ns = self._at_ns
            self._at_ns = max(self._at_ns, at_ns)
            self._file = line.file
        return self._at_ns / 1e9


class _Draft:
    """The timeline under construction."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._located = dialect if isinstance(dialect, Located) else None
        self.reduced = False
        """Whether there were lines that their recorder cut."""
        self._clock = _Clock()
        self._entries: list[Frame | Snapshot | Cut] = []
        self._routes: dict[str, Route] = {}
        self._bodies: list[_Body] = []
        self._overlaps: dict[str, Overlap] = {}
        """The connections that are about to replace another."""
        self._subscribed: set[str] = set()
        self._left_out = dict.fromkeys(("answers", "client", "other", "unattributed"), 0)

    def add(self, line: recording.Line) -> None:
        if line.kind == "recv":
            self._frame(line)
        elif line.kind == "http":
            self._rest(line)
        elif line.kind == "handover":
            self._handover(line.conn, line.raw.decode())
        elif line.kind in ("connect", "send", "disconnect"):
            self._left_out["client"] += 1
            self._note_subscriptions(line)
            if line.kind == "disconnect" and not line.conn:
                self._overlaps.clear()
                if self._routes:
                    self._entries.append(Cut(self._clock.at(line)))
        else:
            self.reduced |= line.kind == "reduced"
            self._left_out["other"] += 1

    def finish(self, truncated: Sequence[str]) -> Timeline:
        symbols = {route.symbol for route in self._routes.values()} | self._subscribed
        symbols.discard("")
        only = symbols.pop() if len(symbols) == 1 else ""
        counts: dict[str, int] = {}
        since_cut: set[str] = set()
        entries: list[Frame | Snapshot | Cut] = []
        for entry in self._entries:
            if isinstance(entry, Cut):
                since_cut.clear()
            elif isinstance(entry, Snapshot):
                symbol = entry.symbol or only
                if not symbol:
                    self._left_out["unattributed"] += 1
                    continue
                counts[symbol] = counts.get(symbol, 0) + 1
                entry = entry._replace(symbol=symbol, first=symbol not in since_cut)
                since_cut.add(symbol)
            entries.append(entry)
        depth: dict[str, set[str]] = {}
        for route in self._routes.values():
            if route.depth:
                depth.setdefault(route.symbol, set()).add(route.stream)
        return Timeline(
            entries=entries,
            routes=self._routes,
            bodies=self._bodies,
            snapshots=counts,
            left_out=self._left_out,
            truncated=truncated,
            depth={symbol: frozenset(streams) for symbol, streams in depth.items()},
        )

    def _frame(self, line: recording.Line) -> None:
        route = (
            self._dialect.route(line.raw)
            if self._located is None
            else self._located.route_at(line.url or "", line.raw)
        )
        if route is None:
            self._left_out["answers"] += 1
            return
        if self._overlaps:
            if line.conn in self._overlaps:
                self._overlaps[line.conn].new(line, route)
                return
            for overlap in self._overlaps.values():
                if overlap.replaced == line.conn:
                    overlap.old(line, route)
        self._place(line, route)

    def _place(self, line: recording.Line, route: Route) -> None:
        known = self._routes.setdefault(
            route.stream, route
        )  # one text object per stream, not one per frame
        self._entries.append(
            Frame(
                self._clock.at(line),
                known.stream,
                known.symbol,
                wire_frame(line.raw, binary=line.binary),
            )
        )

    def _handover(self, new: str, step: str) -> None:
        if step.startswith("begin "):
            self._overlaps[new] = Overlap(step.removeprefix("begin "))
            return
        overlap = self._overlaps.pop(new, None) if step in ("end", "abandon") else None
        if overlap is None or step == "abandon":
            return
        rest, joined = overlap.rest()
        for held in rest:
            self._place(*held)
        if not joined:
            self._entries.append(Cut(self._clock.now_s))

    def _rest(self, line: recording.Line) -> None:
        if line.url is None:
            symbol = self._dialect.snapshot_body(line.raw)
            if symbol is None:
                self._left_out["other"] += 1
                return
        else:
            path, query = _split(line.url)
            symbol = self._dialect.snapshot_of(path, query)
            if symbol is None:
                self._bodies.append(_Body(_tail(path), query, line.raw))
                return
        self._entries.append(Snapshot(self._clock.at(line), symbol, line.raw, False))

    def _note_subscriptions(self, line: recording.Line) -> None:
        """Collect the symbols of the recorded URL, heard of or not: they decide whose a snapshot
        without a URL is.
        """
        if line.kind == "connect" and line.url is not None:
            session = self._dialect.connect(*_split(line.url))
            if session is not None:
                self._subscribed |= {
                    self._dialect.symbol_of(stream) for stream in session.streams()
                }


def _split(url: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(url)
    return unquote(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True))


def _tail(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
