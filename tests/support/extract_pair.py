"""Both extractors side by side: every call must agree, except that the C one may decline."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from tapecast.feeder.extract.extractor import Extractor
from tapecast.feeder.extract.fallback import FallbackExtractor
from tapecast.feeder.extract.shapes import Shape
from tapecast.feeder.extract.types import ExtractStatus
from tapecast.protocol.schema import ITEM_OF, MsgType

__all__ = ["HEADER", "Header", "PacketView", "Pair", "unpack"]

HEADER = struct.Struct("<HBBHBBIHHQQIbbBBqqqH")
_ITEM_FORMS = {16: "<qq", 24: "<qqHbBi", 32: "<QqqiBBH"}
_SAME_WHEN_OK = [
    "shape",
    "instrument",
    "msg_type",
    "nbytes",
    "packets",
    "items",
    "first_id",
    "last_id",
    "prev_id",
    "checksum",
    "has_checksum",
    "snapshot",
    "ts_exchange_ns",
    "need_price_exp",
    "need_qty_exp",
    "need_bytes",
]
_SAME = {
    ExtractStatus.OK: _SAME_WHEN_OK,
    ExtractStatus.INEXACT: ["shape", "instrument", "need_price_exp", "need_qty_exp"],
    ExtractStatus.TOO_LARGE: ["shape", "instrument"],
    ExtractStatus.NO_SPACE: ["shape", "instrument", "need_bytes"],
    ExtractStatus.WRONG_TYPE: ["shape"],
    ExtractStatus.UNKNOWN_SYMBOL: ["shape"],
    ExtractStatus.SUPPRESSED: ["shape"],
    ExtractStatus.NO_SHAPE: ["shape"],
}


class Header(NamedTuple):
    """The fields of a packet header."""

    magic: int
    version: int
    msg_type: int
    flags: int
    item_count: int
    bid_count: int
    session: int
    channel_id: int
    venue_id: int
    instrument_id: int
    channel_seq: int
    instrument_seq: int
    price_exp: int
    qty_exp: int
    item_size: int
    fragment: int
    ts_exchange_ns: int
    ts_recv_ns: int
    ts_send_ns: int
    payload_len: int


class PacketView(NamedTuple):
    """One packet: its header and its items as tuples."""

    header: Header
    items: list[tuple[int, ...]]


def unpack(data: bytes) -> list[PacketView]:
    """Return the packets of a contiguous buffer, read with struct alone."""
    out = []
    at = 0
    while at < len(data):
        header = Header(*HEADER.unpack_from(data, at))
        at += HEADER.size
        form = struct.Struct(_ITEM_FORMS[ITEM_OF[MsgType(header.msg_type)].size])
        items = [form.unpack_from(data, at + n * form.size) for n in range(header.item_count)]
        at += header.payload_len
        out.append(PacketView(header, items))
    assert at == len(data)
    return out


class Pair:
    """The C extractor and the reference over the same shapes and instruments."""

    def __init__(
        self, shapes: Sequence[Shape], *, out_capacity: int = 1 << 20, max_payload: int = 1400
    ) -> None:
        """Make both."""
        self.c = Extractor(
            shapes, venue_id=7, channel_id=8, out_capacity=out_capacity, max_payload=max_payload
        )
        self.reference = FallbackExtractor(
            shapes, venue_id=7, channel_id=8, out_capacity=out_capacity, max_payload=max_payload
        )
        self.declined = 0

    def add(self, symbol: str, price_exp: int = -8, qty_exp: int = -8) -> int:
        """Register an instrument in both; its id is made from its index."""
        number = 0x1000 + len(self.reference._instruments)
        index = self.c.add_instrument(symbol, number, price_exp, qty_exp)
        assert self.reference.add_instrument(symbol, number, price_exp, qty_exp) == index
        return index

    def set_exponents(self, index: int, price_exp: int, qty_exp: int) -> None:
        """Change exponents in both."""
        self.c.set_exponents(index, price_exp, qty_exp)
        self.reference.set_exponents(index, price_exp, qty_exp)

    def run(
        self, frame: bytes, *, index: int | None = None, ts_recv_ns: int = 5, pos: int = 0
    ) -> ExtractStatus:
        """Extract with both, compare, and return the reference's status."""
        if index is None:
            status = self.c.extract(frame, ts_recv_ns, pos)
            expected = self.reference.extract(frame, ts_recv_ns, pos)
        else:
            status = self.c.extract_as(index, frame, ts_recv_ns, pos)
            expected = self.reference.extract_as(index, frame, ts_recv_ns, pos)
        if status == ExtractStatus.DECLINED:
            self.declined += 1
            return expected
        note = (
            f"C {ExtractStatus(status).name}, reference {expected.name} ({self.reference.reason}):"
            f" {frame[:400]!r}"
        )
        assert status == expected, note
        for name in _SAME.get(expected, []):
            assert getattr(self.c.r, name) == getattr(self.reference.r, name), f"{name}: {note}"
        if expected == ExtractStatus.OK:
            end = pos + self.reference.r.nbytes
            assert self.c.out[pos:end] == self.reference.out[pos:end], note
        if expected == ExtractStatus.UNKNOWN_SYMBOL:
            assert self.c.symbol == self.reference.symbol, note
        return expected

    def settle(self, frame: bytes, *, index: int | None = None) -> ExtractStatus:
        """Run until instrument and exponents fit, as a session would."""
        for _ in range(8):
            status = self.run(frame, index=index)
            r = self.reference.r
            if status == ExtractStatus.UNKNOWN_SYMBOL:
                self.add(self.reference.symbol.decode(), 0, 0)
            elif status == ExtractStatus.INEXACT:
                self.set_exponents(r.instrument, r.need_price_exp, r.need_qty_exp)
            else:
                break
        return status

    def packets(self) -> list[PacketView]:
        """Return the packets that the last run wrote at 0, as the reference has them."""
        return unpack(bytes(self.reference.out[: self.reference.r.nbytes]))
