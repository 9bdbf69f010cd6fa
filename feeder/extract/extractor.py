"""The extractor: venue frames to finished packets, one C call a frame, driven by declared
shapes.

`protocol/native/extract.h` describes the C side; `feeder.extract.fallback` is the same in plain
Python and answers what this one declines. Instruments, tables, scratch and output are owned
here. It does not stamp sequence numbers and sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tapecast.feeder.extract.compile import compile_shapes
from tapecast.feeder.extract.instruments import SymbolIndex, check_exponents
from tapecast.feeder.extract.shapes import Shape
from tapecast.feeder.extract.types import NO_ID, ExtractStatus, Result, items_per_packet
from tapecast.protocol._native import ffi, lib
from tapecast.protocol.schema import Flag, MsgType

__all__ = ["NO_ID", "ExtractStatus", "Extractor"]

_NO_SPACE = int(ExtractStatus.NO_SPACE)
_UNKNOWN_SYMBOL = int(ExtractStatus.UNKNOWN_SYMBOL)


class _Extract(Protocol):
    def __call__(self, frame: bytes, ts_recv_ns: int, pos: int = 0) -> int: ...


class Extractor:
    """Frames of one venue to packets in `out`.

    `extract` and `extract_as` return an `ExtractStatus` value and leave what they found in `r`,
    which the next call overwrites. Packets are contiguous from `pos` on, with session,
    channel_seq and ts_send_ns 0 and the instrument index in instrument_seq. After NO_SPACE
    nothing is written: flush what stands before `pos` and try again at 0, or `grow` by
    `r.need_bytes`; `grow` replaces `out`. Not thread-safe.
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
        """Compile one venue's shapes; `max_payload` is the largest packet in bytes, header
        included.

        Raises ValueError for shapes or limits that cannot be.
        """
        items_per_packet(MsgType.TRADE, max_payload)
        self._tables = compile_shapes(shapes)
        self._x = ffi.new("tcx_extractor *")
        self._x.programs, self._x.program_count = self._tables.programs, self._tables.count
        self._x.venue_id, self._x.channel_id = venue_id, channel_id
        self._x.base_flags = base_flags & ~Flag.AUTH
        self._x.max_payload = max_payload
        self.r: Result = self._x.r
        """What the last call found; the fields are read from C memory."""
        self.symbol = b""
        """The symbol of the last UNKNOWN_SYMBOL."""
        self._market = ""
        self._index = SymbolIndex()
        self._hash_tables: dict[str, ffi.CData] = {}
        self._room = 0
        self._symbol_text = b""
        self._instruments: ffi.CData = ffi.new("tcx_instrument[]", 0)
        self._grow_instruments()
        self._make_rows(2048)
        self._make_elements(64)
        self.out = bytearray()
        """The packets; replaced by `grow`."""
        self.grow(out_capacity)
        self.extract = self._bind()
        """Turn one frame into packets at `out[pos:]`; the frame names its instrument."""

    def _bind(self) -> _Extract:
        """Return `extract` as a function: looking up the method, the context and the library
        costs as much as a small frame.
        """
        call, x, settle = lib.tcx_extract, self._x, self._settle

        def extract(frame: bytes, ts_recv_ns: int, pos: int = 0) -> int:
            status: int = call(x, frame, len(frame), ts_recv_ns, pos)
            return settle(status, frame, ts_recv_ns, pos) if status else status

        return extract

    def _settle(self, status: int, frame: bytes, ts_recv_ns: int, pos: int) -> int:
        """Keep what has to be kept of a frame that was not simply fine, and try again with more
        scratch.
        """
        while status == _NO_SPACE and self._grow_scratch():
            status = lib.tcx_extract(self._x, frame, len(frame), ts_recv_ns, pos)
        if status == _UNKNOWN_SYMBOL:
            start = self._x.r.symbol_offset
            self.symbol = frame[start : start + self._x.r.symbol_length]
        return status

    def grow(self, capacity: int) -> None:
        """Enlarge `out` to at least `capacity` bytes, keeping its content; the old buffer and
        views of it are stale afterwards. Allowed between calls.
        """
        if capacity <= len(self.out):
            return
        grown = bytearray(capacity)
        grown[: len(self.out)] = self.out
        self.out = grown
        self._out_view = ffi.from_buffer("uint8_t[]", grown, require_writable=True)
        self._x.out, self._x.out_capacity = self._out_view, capacity

    def extract_as(self, index: int, frame: bytes, ts_recv_ns: int, pos: int = 0) -> int:
        """Turn one body into packets of the given instrument; only shapes that name none are
        tried. Raises IndexError for an instrument that was not added.
        """
        self._index.check(index)
        status: int = lib.tcx_extract_as(self._x, index, frame, len(frame), ts_recv_ns, pos)
        while status == _NO_SPACE and self._grow_scratch():
            status = lib.tcx_extract_as(self._x, index, frame, len(frame), ts_recv_ns, pos)
        return status

    def select(self, market: str) -> None:
        """Choose the market that frames are of and instruments are added to, at first "".

        Where a venue has several markets, one symbol may name an instrument in each; indices are
        dense over all of them.
        """
        if market == self._market:
            return
        if self._index.select(market):
            self._hash_tables[market] = ffi.new("int32_t[]", [-1] * (2 * self._room))
        self._market = market
        self._x.table = self._hash_tables[market]

    def add_instrument(self, symbol: str, instrument_id: int, price_exp: int, qty_exp: int) -> int:
        """Register a native symbol in the selected market and return its index; raises
        ValueError where it exists there, and for exponents beyond 8 bits.
        """
        check_exponents(price_exp, qty_exp)
        if self._index.of(symbol) is None and self._index.count == self._room:
            self._grow_instruments()
        index = self._index.add(symbol)
        text = symbol.encode()
        entry = self._instruments[index]
        entry.id, entry.price_exp, entry.qty_exp = instrument_id, price_exp, qty_exp
        entry.symbol, entry.length = len(self._symbol_text), len(text)
        self._symbol_text += text
        self._symbols = ffi.new("uint8_t[]", self._symbol_text or b"\0")
        self._x.symbols = self._symbols
        self._x.instrument_count = index + 1
        lib.tcx_index_instrument(self._x, index)
        return index

    def index_of(self, symbol: str) -> int | None:
        """Return the index of a native symbol in the selected market."""
        return self._index.of(symbol)

    def set_exponents(self, index: int, price_exp: int, qty_exp: int) -> None:
        """Change the exponents of an instrument; raises IndexError and ValueError."""
        check_exponents(price_exp, qty_exp)
        entry = self._entry(index)
        entry.price_exp, entry.qty_exp = price_exp, qty_exp

    def exponents(self, index: int) -> tuple[int, int]:
        """Return (price_exp, qty_exp) of an instrument."""
        entry = self._entry(index)
        return entry.price_exp, entry.qty_exp

    def _entry(self, index: int) -> ffi.CData:
        self._index.check(index)
        return self._instruments[index]

    def _grow_instruments(self) -> None:
        """Double the room for instruments and enter them anew: each market's hash table stays at
        most half full.
        """
        used = self._index.count
        room = max(64, 2 * self._room)
        grown = ffi.new("tcx_instrument[]", room)
        if used:
            ffi.memmove(grown, self._instruments, used * ffi.sizeof("tcx_instrument"))
        self._instruments, self._room = grown, room
        self._x.instruments, self._x.table_mask = grown, 2 * room - 1
        for market, indices in self._index.markets.items():
            self._x.table = self._hash_tables[market] = ffi.new("int32_t[]", [-1] * (2 * room))
            for index in indices.values():
                lib.tcx_index_instrument(self._x, index)
        self._x.table = self._hash_tables[self._market]

    def _make_rows(self, rows: int) -> None:
        self._rows = ffi.new("tcx_row[]", rows)
        self._x.rows, self._x.row_capacity = self._rows, rows

    def _make_elements(self, elements: int) -> None:
        self._elements = ffi.new("tcx_element[]", elements)
        self._trades = ffi.new("tcx_raw_trade[]", elements)
        self._x.elements, self._x.trades, self._x.element_capacity = (
            self._elements,
            self._trades,
            elements,
        )

    def _grow_scratch(self) -> bool:
        """Enlarge the scratch that the last call found full; False where it was the output."""
        full = self._x.r.scratch_full
        if full == lib.TC_FULL_ROWS:
            self._make_rows(4 * self._x.row_capacity)
        elif full == lib.TC_FULL_ELEMENTS:
            self._make_elements(4 * self._x.element_capacity)
        return bool(full)
