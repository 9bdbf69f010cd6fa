"""Packets that a feeder writes itself: definitions, states, gaps, and its own books as
snapshots.

The hot messages are written by the extractor. As there, `instrument_seq` holds the instrument's
index and `session`, `channel_seq` and `ts_send_ns` are 0 until the publisher stamps them
(`protocol.publish.publisher`).
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from tapecast.feeder.venues.spec import Exact, InstrumentDef
from tapecast.protocol import schema
from tapecast.protocol.books.book import KernelBook, LevelArray
from tapecast.protocol.codec import encode, gap_detail, text_detail
from tapecast.protocol.publish.book_packets import BookPackets, Stamp, levels_packets
from tapecast.protocol.records import (
    ITEM_STRUCT,
    Header,
    InstrumentItem,
    StatusItem,
    TickBand,
    TradeItem,
)
from tapecast.protocol.schema import (
    HEADER_SIZE,
    MAX_MANTISSA,
    UNDEFINED,
    Flag,
    InstrumentFlag,
    InstrumentKind,
    InstrumentState,
    MsgType,
    StatusReason,
    StatusScope,
    StatusState,
    TradeFlag,
)

__all__ = ["INDEX", "NamedInstrument", "PacketWriter"]

_NAME_BYTES = 12
_SYMBOL_BYTES = 40
_SEQUENCE: Final = next(f for f in schema.HEADER.fields if f.name == "instrument_seq")
INDEX: Final = slice(_SEQUENCE.offset, _SEQUENCE.offset + _SEQUENCE.size)
"""Where an unstamped packet holds the index of its instrument: the place of its sequence, which
the publisher puts there.
"""
_HEADER_AT: Final = {field.name: field.offset for field in schema.HEADER.fields}
_FLAGS: Final = _HEADER_AT["flags"]
"""The low byte of the flags, which holds SNAPSHOT."""
_ITEM_COUNT: Final = _HEADER_AT["item_count"]
_ITEM_SIZE: Final = _HEADER_AT["item_size"]
_TRADE_FLAGS: Final = {f.name: f.offset for f in schema.TRADE.fields}["trade_flags"]
_TRADE: Final = ITEM_STRUCT[MsgType.TRADE]


class NamedInstrument(Protocol):
    """What the writer needs to know of an instrument."""

    index: int
    symbol: str
    kind: InstrumentKind
    instrument_id: int
    version: int
    price_exp: int
    qty_exp: int


class PacketWriter:
    """Writes the packets of one venue's channel."""

    def __init__(
        self, venue_id: int, channel_id: int, base_flags: int = 0, max_payload: int = 1400
    ) -> None:
        self._venue_id = venue_id
        self._base = Header(channel_id=channel_id, venue_id=venue_id, flags=base_flags)
        self._flags = base_flags
        self._max = max_payload

    def definition(
        self, instrument: NamedInstrument, definition: InstrumentDef | None, ts_recv_ns: int = 0
    ) -> bytes:
        """Return the INSTRUMENT packet, and behind it the TICK_TABLE where ticks depend on the
        price.

        Without the venue's definition it is a provisional one, tick and lot undefined.
        """
        if len(instrument.symbol.encode()) > _SYMBOL_BYTES:
            raise ValueError(
                f"symbol {instrument.symbol!r} is longer than {_SYMBOL_BYTES} bytes of UTF-8"
            )
        if definition is None:
            item = InstrumentItem(
                id=instrument.instrument_id,
                venue=self._venue_id,
                kind=instrument.kind,
                state=InstrumentState.UNKNOWN,
                version=instrument.version,
                price_exp=instrument.price_exp,
                qty_exp=instrument.qty_exp,
                flags=InstrumentFlag.PROVISIONAL,
                symbol=instrument.symbol,
            )
        else:
            notional, notional_exp = definition.min_notional or (UNDEFINED, 0)
            multiplier, multiplier_exp = definition.multiplier or (UNDEFINED, 0)
            strike, strike_exp = definition.strike or (UNDEFINED, 0)
            item = InstrumentItem(
                id=instrument.instrument_id,
                venue=self._venue_id,
                kind=instrument.kind,
                state=definition.state,
                version=instrument.version,
                price_exp=instrument.price_exp,
                qty_exp=instrument.qty_exp,
                flags=InstrumentFlag.INVERSE if definition.inverse else 0,
                tick=_at(definition.tick, instrument.price_exp),
                lot=_at(definition.lot, instrument.qty_exp),
                min_qty=_at(definition.min_qty, instrument.qty_exp),
                min_notional=notional,
                multiplier=multiplier,
                expiry_ns=definition.expiry_ns,
                strike=strike,
                symbol=instrument.symbol,
                base=_name(definition.base),
                quote=_name(definition.quote),
                settle=_name(definition.settle),
                notional_exp=notional_exp,
                multiplier_exp=multiplier_exp,
                strike_exp=strike_exp,
                option_type=definition.option_type,
            )
        header = self._header(instrument, MsgType.INSTRUMENT, ts_recv_ns)
        packets = encode(header, (item,), max_payload=self._max)
        bands = () if definition is None else _bands(definition, instrument.price_exp)
        if bands:
            packets += encode(
                header._replace(msg_type=MsgType.TICK_TABLE), bands, max_payload=self._max
            )
        return b"".join(packets)

    def status(
        self,
        instrument: NamedInstrument | None,
        scope: StatusScope,
        state: StatusState,
        reason: StatusReason,
        ts_ns: int,
        text: str = "",
    ) -> bytes:
        """Return a STATUS packet; `text` is cut to the 16 bytes that it may have."""
        item = StatusItem(scope, state, reason, 1, ts_ns, text_detail(text))
        return b"".join(
            encode(self._header(instrument, MsgType.STATUS, ts_ns), (item,), max_payload=self._max)
        )

    def gap(
        self, instrument: NamedInstrument, reason: StatusReason, expected: int, got: int, ts_ns: int
    ) -> bytes:
        """Return the STATUS packet of an upstream loss (GAP, CHECKSUM): the book is SUSPECT from
        here on.
        """
        item = StatusItem(
            StatusScope.BOOK, StatusState.SUSPECT, reason, 1, ts_ns, gap_detail(expected, got)
        )
        header = self._header(instrument, MsgType.STATUS, ts_ns)
        return b"".join(
            encode(
                header._replace(flags=header.flags | Flag.SUSPECT), (item,), max_payload=self._max
            )
        )

    def trades_lost(
        self, instrument: NamedInstrument, expected: int, got: int, ts_ns: int
    ) -> bytes:
        """Return the STATUS packet of lost trades: counts that were expected and came; no book
        is in doubt.
        """
        item = StatusItem(
            StatusScope.INSTRUMENT,
            StatusState.LIVE,
            StatusReason.GAP,
            1,
            ts_ns,
            gap_detail(expected, got),
        )
        return b"".join(
            encode(self._header(instrument, MsgType.STATUS, ts_ns), (item,), max_payload=self._max)
        )

    def book(self, instrument: NamedInstrument, book: KernelBook) -> bytes:
        """Return a book as SNAPSHOT | RECOVERED packets at the instrument's exponents; empty if
        it does not fit them.
        """
        sides = self._sides(instrument, book)
        return (
            b""
            if sides is None
            else levels_packets(self._book_header(instrument, book), *sides, self._max)
        )

    def book_pieces(
        self, instrument: NamedInstrument, book: KernelBook, stamp: Stamp
    ) -> BookPackets | None:
        """Return the packets of `book`, stamped already; None if it does not fit the
        instrument's exponents.
        """
        sides = self._sides(instrument, book)
        header = self._book_header(instrument, book)._replace(**stamp._asdict())
        return None if sides is None else BookPackets(header, *sides, self._max)

    def _sides(
        self, instrument: NamedInstrument, book: KernelBook
    ) -> tuple[LevelArray, LevelArray] | None:
        price_scale = book.price_exp - instrument.price_exp
        qty_scale = book.qty_exp - instrument.qty_exp
        bids, asks = (
            _rescaled(book.bids(), price_scale, qty_scale),
            _rescaled(book.asks(), price_scale, qty_scale),
        )
        return None if bids is None or asks is None else (bids, asks)

    def _book_header(self, instrument: NamedInstrument, book: KernelBook) -> Header:
        return self._header(instrument, MsgType.BOOK, 0)._replace(
            flags=self._flags | Flag.SNAPSHOT | Flag.RECOVERED, ts_exchange_ns=book.ts_exchange_ns
        )

    def truncation(
        self,
        instrument: NamedInstrument,
        book: KernelBook,
        depth: int,
        ts_exchange_ns: int,
        ts_recv_ns: int,
    ) -> bytes:
        """Return a BOOK delta that deletes a book's levels beyond `depth` a side; the book is at
        the instrument's exponents.
        """
        bids, asks = book.bids()[depth:].copy(), book.asks()[depth:].copy()
        bids["quantity"] = asks["quantity"] = 0
        header = self._header(instrument, MsgType.BOOK, ts_recv_ns)
        flags = header.flags | Flag.TOP_ONLY | (0 if ts_exchange_ns else Flag.BAD_TS_EXCHANGE)
        return levels_packets(
            header._replace(flags=flags, ts_exchange_ns=ts_exchange_ns), bids, asks, self._max
        )

    @staticmethod
    def counted(buffer: bytearray, start: int, qty_exp: int) -> tuple[int, int]:
        """Return id and quantity of the only trade of the packet at `start`, both as multiples
        of 10^qty_exp (at most 0).
        """
        trade = TradeItem._make(_TRADE.unpack_from(buffer, start + HEADER_SIZE))
        return trade.trade_id * 10 ** -min(qty_exp, 0), trade.quantity * 10 ** max(qty_exp, 0)

    @staticmethod
    def mark_repeated(buffer: bytearray, start: int, nbytes: int) -> None:
        """Set REPEATED on every trade of the packets at `buffer[start : start + nbytes]`."""
        end = start + nbytes
        while start < end:
            items, size = buffer[start + _ITEM_COUNT], buffer[start + _ITEM_SIZE]
            for item in range(items):
                buffer[start + HEADER_SIZE + item * size + _TRADE_FLAGS] |= TradeFlag.REPEATED
            start += HEADER_SIZE + items * size

    @staticmethod
    def mark_snapshot(buffer: bytearray, start: int, nbytes: int) -> None:
        """Set SNAPSHOT on the packets at `buffer[start : start + nbytes]`."""
        end = start + nbytes
        while start < end:
            items, size = buffer[start + _ITEM_COUNT], buffer[start + _ITEM_SIZE]
            buffer[start + _FLAGS] |= Flag.SNAPSHOT
            start += HEADER_SIZE + items * size

    def _header(
        self, instrument: NamedInstrument | None, msg_type: MsgType, ts_recv_ns: int
    ) -> Header:
        header = self._base._replace(msg_type=msg_type, ts_recv_ns=ts_recv_ns)
        if instrument is None:
            return header
        return header._replace(
            instrument_id=instrument.instrument_id,
            instrument_seq=instrument.index,
            price_exp=instrument.price_exp,
            qty_exp=instrument.qty_exp,
        )


def _rescaled(levels: LevelArray, price_scale: int, qty_scale: int) -> LevelArray | None:
    """Return levels times powers of ten; None where one would not be exact or would pass 62
    bits.
    """
    if price_scale == 0 and qty_scale == 0:
        return levels
    out = levels.copy()
    for name, scale in (("price", price_scale), ("quantity", qty_scale)):
        factor = 10 ** abs(scale)
        if not len(out) or scale == 0:
            continue
        if factor > MAX_MANTISSA:
            return None
        if scale > 0:
            if int(np.abs(out[name]).max()) > MAX_MANTISSA // factor:
                return None
            out[name] *= factor
        else:
            if (out[name] % factor).any():
                return None
            out[name] //= factor
    return out


def _at(value: Exact | None, exp: int) -> int:
    """Return the mantissa of a value at an exponent; UNDEFINED where it is unknown or not exact
    there.
    """
    if value is None:
        return UNDEFINED
    mantissa, own = value
    if own >= exp:
        scaled = mantissa * 10 ** (own - exp)
        return scaled if abs(scaled) <= MAX_MANTISSA else UNDEFINED
    quotient, rest = divmod(mantissa, 10 ** (exp - own))
    return quotient if rest == 0 else UNDEFINED


def _bands(definition: InstrumentDef, price_exp: int) -> tuple[TickBand, ...]:
    """Return the ladder of ticks, none where a number is too large at the exponent: half a
    ladder would be another one.
    """
    bands = tuple(
        TickBand(_at(price, price_exp), _at(tick, price_exp))
        for price, tick in definition.tick_bands
    )
    return () if any(UNDEFINED in band for band in bands) else bands


def _name(text: str) -> str:
    """Return a name, or nothing where it is longer than its field: a cut name could be another
    asset's.
    """
    return text if len(text.encode()) <= _NAME_BYTES else ""
