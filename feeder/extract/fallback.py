"""The fallback extractor: shapes interpreted over a strict JSON tree, in plain Python.

It answers what `feeder.extract.extractor.Extractor` declines (escapes, repeated keys, odd
shapes), with the same statuses and the same bytes, and says in `reason` why it did not accept a
frame; tests hold the C extractor to it. Safe for any bytes. What shapes mean:
`feeder.extract.shapes`; numbers: `feeder.extract.exact`. It keeps no state between frames except
the instruments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapecast.feeder.extract.identify import NotThisShape, RejectedError
from tapecast.feeder.extract.instruments import SymbolIndex, check_exponents
from tapecast.feeder.extract.packets import ExtractedEvent, Origin, packets
from tapecast.feeder.extract.read import Reading, read
from tapecast.feeder.extract.shapes import Shape
from tapecast.feeder.extract.strict_json import JsonError, JsonValue, parse
from tapecast.feeder.extract.types import NO_ID, ExtractStatus

__all__ = ["FallbackExtractor", "FallbackResult"]


@dataclass(slots=True)
class FallbackResult:
    """The fields of `feeder.extract.types.Result`."""

    shape: int = -1
    instrument: int = -1
    msg_type: int = 0
    nbytes: int = 0
    packets: int = 0
    items: int = 0
    first_id: int = NO_ID
    last_id: int = NO_ID
    prev_id: int = NO_ID
    checksum: int = 0
    has_checksum: int = 0
    snapshot: int = 0
    ts_exchange_ns: int = 0
    error_offset: int = 0
    need_price_exp: int = 0
    need_qty_exp: int = 0
    need_bytes: int = 0


@dataclass(slots=True)
class _Instrument:
    instrument_id: int
    price_exp: int
    qty_exp: int


class FallbackExtractor:
    """Frames to packets by interpretation; the interface of
    `feeder.extract.extractor.Extractor`.
    """

    def __init__(
        self,
        shapes: Sequence[Shape],
        *,
        venue_id: int,
        channel_id: int,
        base_flags: int = 0,
        max_payload: int = 1400,
        out_capacity: int = 1 << 20,
    ) -> None:
        """Prepare for one venue's shapes; `max_payload` is the largest packet in bytes, header
        included.
        """
        self._shapes = tuple(shapes)
        self._venue_id = venue_id
        self._channel_id = channel_id
        self._base_flags = base_flags
        self._max_payload = max_payload
        self._instruments: list[_Instrument] = []
        self._index = SymbolIndex()
        self.out = bytearray(out_capacity)
        self.r = FallbackResult()
        """What the last call found; every call makes a new one."""
        self.symbol = b""
        """The symbol of the last UNKNOWN_SYMBOL."""
        self.reason = ""
        """Why the last frame was not accepted."""

    def select(self, market: str) -> None:
        """Choose the market that frames are of and instruments are added to, at first ""."""
        self._index.select(market)

    def add_instrument(self, symbol: str, instrument_id: int, price_exp: int, qty_exp: int) -> int:
        """Register a native symbol in the selected market and return its index; raises
        ValueError where it exists there, and for exponents beyond 8 bits.
        """
        check_exponents(price_exp, qty_exp)
        index = self._index.add(symbol)
        self._instruments.append(_Instrument(instrument_id, price_exp, qty_exp))
        return index

    def index_of(self, symbol: str) -> int | None:
        """Return the index of a native symbol in the selected market."""
        return self._index.of(symbol)

    def set_exponents(self, index: int, price_exp: int, qty_exp: int) -> None:
        """Change the exponents of an instrument; raises IndexError and ValueError."""
        check_exponents(price_exp, qty_exp)
        self._index.check(index)
        self._instruments[index].price_exp = price_exp
        self._instruments[index].qty_exp = qty_exp

    def exponents(self, index: int) -> tuple[int, int]:
        """Return (price_exp, qty_exp) of an instrument."""
        self._index.check(index)
        return self._instruments[index].price_exp, self._instruments[index].qty_exp

    def grow(self, capacity: int) -> None:
        """Enlarge `out`, keeping its content; the old buffer is stale afterwards."""
        if capacity > len(self.out):
            grown = bytearray(capacity)
            grown[: len(self.out)] = self.out
            self.out = grown

    def extract(self, frame: bytes, ts_recv_ns: int, pos: int = 0) -> ExtractStatus:
        """Turn one frame into packets at `out[pos:]`; the frame names its instrument."""
        return self._extract(None, frame, ts_recv_ns, pos)

    def extract_as(self, index: int, frame: bytes, ts_recv_ns: int, pos: int = 0) -> ExtractStatus:
        """Turn one body into packets of the given instrument; only shapes that name none are
        tried. Raises IndexError for an instrument that was not added.
        """
        self._index.check(index)
        return self._extract(index, frame, ts_recv_ns, pos)

    def _extract(self, index: int | None, frame: bytes, ts_recv_ns: int, pos: int) -> ExtractStatus:
        self.r = FallbackResult()
        self.symbol = b""
        self.reason = ""
        try:
            root = parse(frame)
        except JsonError as error:
            self.reason = error.reason
            self.r.error_offset = error.offset
            return ExtractStatus.MALFORMED
        for number, shape in enumerate(self._shapes):
            if shape.by_caller != (index is not None):
                continue
            try:
                reading = read(shape, root, ts_recv_ns)
            except NotThisShape:
                continue
            except RejectedError as error:
                self.r.shape = number
                self.reason = f"{shape.name}: {error.reason}"
                return ExtractStatus.WRONG_TYPE
            self.r.shape = number
            if reading is None:
                return ExtractStatus.SUPPRESSED
            return self._publish(shape, reading, index, ts_recv_ns, pos)
        self.reason = f"no shape: {_describe(root)}"
        return ExtractStatus.NO_SHAPE

    def _publish(
        self, shape: Shape, reading: Reading, index: int | None, ts_recv_ns: int, pos: int
    ) -> ExtractStatus:
        if index is None:
            symbol = reading.symbol
            index = self._index.of(symbol)
            if index is None:
                self.symbol = symbol.encode("utf-8", "surrogatepass")
                self.reason = f"{shape.name}: unknown symbol {symbol!r}"
                return ExtractStatus.UNKNOWN_SYMBOL
        instrument = self._instruments[index]
        r = self.r
        r.instrument = index
        problem = reading.problem(instrument.price_exp, instrument.qty_exp)
        if problem is not None:
            r.need_price_exp, r.need_qty_exp = reading.needs(
                instrument.price_exp, instrument.qty_exp
            )
            self.reason = (
                f"{shape.name}: {problem.name.lower()} at {instrument.price_exp},"
                f" {instrument.qty_exp}"
            )
            return problem
        origin = Origin(
            self._venue_id,
            self._channel_id,
            instrument.instrument_id,
            index,
            instrument.price_exp,
            instrument.qty_exp,
            ts_recv_ns,
            self._max_payload,
        )
        events = reading.events(instrument.price_exp, instrument.qty_exp, self._base_flags)
        built = [packet for event in events for packet in packets(event, origin)]
        data = b"".join(built)
        if pos < 0 or pos + len(data) > len(self.out):
            r.need_bytes = len(data)
            self.reason = f"{len(data)} bytes do not fit behind {pos}"
            return ExtractStatus.NO_SPACE
        self.out[pos : pos + len(data)] = data
        _fill(r, shape, reading, events, built)
        return ExtractStatus.OK


def _fill(
    r: FallbackResult,
    shape: Shape,
    reading: Reading,
    events: Sequence[ExtractedEvent],
    built: Sequence[bytes],
) -> None:
    r.msg_type = shape.msg_type
    r.nbytes = sum(map(len, built))
    r.packets = len(built)
    r.items = sum(len(event.items) for event in events)
    r.first_id, r.last_id, r.prev_id = reading.first_id, reading.last_id, reading.prev_id
    r.checksum = reading.checksum or 0
    r.has_checksum = int(reading.checksum is not None)
    r.snapshot = int(reading.snapshot)
    r.ts_exchange_ns = events[0].ts_exchange_ns


def _describe(root: JsonValue) -> str:
    if isinstance(root, dict):
        return "object with keys " + ", ".join(repr(key) for key in list(root)[:8])
    return type(root).__name__
