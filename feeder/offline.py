"""A recording through the feeder's own session and publisher, without a network: packets and
quarantined messages, line by line.

What a live feeder would publish from the same bytes, this yields; so decoding, replay from a
file and regression tests run the code that runs live. Deadlines do not act here: a recording has
no one to ask, it has only what it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tapecast.feeder.extract.trade_texts import TradeTexts
from tapecast.feeder.record.recording import Line, RecordingError, Universe, read, universe
from tapecast.feeder.session.handover import HandoverPolicy
from tapecast.feeder.session.session import Quarantined, Session, SessionOptions
from tapecast.feeder.venues.spec import VenueSpec
from tapecast.protocol.publish.lines import MemoryLine
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.schema import Flag
from tapecast.runtime.channels import channel_of

__all__ = ["Offline", "Step"]

_TIMES = 2**63


class Step(NamedTuple):
    """What one line of a recording came to."""

    packets: bytes
    quarantined: list[Quarantined]
    ts_recv_ns: int | None


class Offline:
    """Runs a recording of one venue. `session` and `publisher` may be looked at between steps."""

    def __init__(
        self,
        spec: VenueSpec,
        paths: Sequence[Path],
        *,
        max_payload: int = 1400,
        replica: int = 0,
        session: int = 1,
    ) -> None:
        self._paths = paths
        self.spec = spec
        self.universe: Universe = universe(paths, spec)
        self.line = MemoryLine()
        self._clock_ns = 0
        self.session = Session(
            spec,
            SessionOptions(
                channel_id=channel_of(spec.name, replica),
                base_flags=int(Flag.REPLAY),
                max_payload=max_payload,
                accept_any=True,
                verify_checksum=True,
            ),
        )
        self.publisher = Publisher(
            self.line,
            venue_id=spec.venue_id,
            channel_id=channel_of(spec.name, replica),
            session=session,
            base_flags=int(Flag.REPLAY),
        )
        self.trade_texts = TradeTexts(spec.stream.shapes)
        """Texts behind the hashed trade ids of the present step."""
        self.lines = 0
        self.truncated: list[str] = []
        """Files whose end is missing, as `file:line: reason`."""
        self._begun = False

    def run(self) -> Iterator[Step]:
        """Yield a step per line that came to something. Raises RecordingError for a file that is
        not a recording.
        """
        session, publisher = self.session, self.publisher
        for line in read(self._paths, truncated=self.truncated):
            self.lines += 1
            ts_ns = line.ts_recv_ns or 0
            if not 0 <= ts_ns < _TIMES:
                raise RecordingError(
                    f"{line.file}:{line.number}: receive time {ts_ns} ns is outside what 63 bits"
                    " hold"
                )
            self._clock_ns = max(self._clock_ns, ts_ns)
            self.line.clock_ns = self._clock_ns or 1
            self._handle(line, ts_ns)
            session.commands.clear()
            publisher.instruments(len(session.instruments))
            if session.flush(publisher.publish, self._clock_ns, ts_ns) or session.quarantined:
                quarantined = session.take_quarantined()
                yield Step(self.line.take(), quarantined, line.ts_recv_ns)
                if session.flush(publisher.publish, self._clock_ns, ts_ns):
                    yield Step(self.line.take(), [], line.ts_recv_ns)

    def _handle(self, line: Line, ts_ns: int) -> None:
        session = self.session
        if line.kind not in ("http", "disconnect") and not self._begun:
            self._begun = True
            session.subscribe(self.universe.symbols, ts_ns)
        if line.kind == "recv":
            if line.url is not None:
                session.on_url(line.conn, line.url)
            self.trade_texts.read(line.raw)
            session.on_frame(line.conn, line.raw, ts_ns, self._clock_ns)
        elif line.kind == "http":
            self._body(line, ts_ns)
        elif line.kind == "connect":
            session.on_connect(line.conn, self._clock_ns, ts_ns)
        elif line.kind == "disconnect":
            for connection in (line.conn,) if line.conn else tuple(session.last_data_ns):
                session.on_disconnect(connection, self._clock_ns, ts_ns)
        elif line.kind == "handover":
            self._handover(line.conn, line.raw.decode(), ts_ns)
        elif line.kind == "reduced":
            frame = (
                None
                if self.spec.recordings.reduced is None
                else self.spec.recordings.reduced(line.conn, line.raw)
            )
            if frame is None:
                session.quarantine(
                    line.conn,
                    line.raw,
                    "cut by its recorder: not a message of the venue",
                    0,
                    ts_ns,
                    None,
                )
            else:
                session.on_frame(line.conn, frame, ts_ns, self._clock_ns)

    def _handover(self, new: str, step: str, ts_ns: int) -> None:
        """Replace a connection as the feeder did; a step whose beginning is missing is none."""
        session = self.session
        if step.startswith("begin "):
            session.begin_handover(step.removeprefix("begin "), new, HandoverPolicy())
        elif not session.replacing(new):
            return
        elif step == "subscribed":
            session.handover_subscribed(new, self._clock_ns)
        elif step == "end":
            session.end_handover(new, self._clock_ns, ts_ns)
        elif step == "abandon":
            session.abandon_handover(new, self._clock_ns, ts_ns)
        session.sweep_handovers(self._clock_ns)

    def _body(self, line: Line, ts_ns: int) -> None:
        session = self.session
        if line.url is not None and self.spec.recordings.is_listing(line.url):
            session.on_instruments(line.raw, ts_ns, self._clock_ns)
            return
        symbol = (
            self.spec.recordings.snapshot_symbol(line.url)
            if line.url is not None
            else self.universe.only_symbol
        )
        if symbol is None:
            session.quarantine(
                line.conn, line.raw, "REST body that belongs to no known symbol", 0, ts_ns, None
            )
        else:
            session.on_snapshot(symbol, line.raw, ts_ns, self._clock_ns)
