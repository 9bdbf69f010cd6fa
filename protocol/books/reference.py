"""Order books in plain Python dictionaries: the rules of a book, and the tests' oracle for
`protocol.books.books`.

The rules, for each BOOK packet in order:

- **Snapshot.** Fragment 0 empties the book, which then shows no levels and is LOADING until the
  LAST fragment makes it LIVE.
- **Delta.** Applies to a LIVE book; on any other it is counted `ignored` (option `delta_first`:
  it may start an EMPTY book). The book is not `complete` between the first and the LAST
  fragment.
- **Fragments** of an event share instrument_seq and kind and count 0, 1, 2 … (after 255 comes
  0). A missing one, or a new delta before LAST, makes the book SUSPECT; a snapshot that
  interrupts an event is applied, and the lost event counted.
- **Level.** Quantity 0 deletes, also what is not there; a negative quantity is counted and left
  out.
- **Exponents.** An empty book takes the packet's. A coarser packet is scaled up; a finer one
  rescales the whole book. A mantissa that reaches 2^62 on either way makes the book BROKEN: it
  is emptied and waits for a snapshot.
- **Sequence**, with `check_seq`: a delta that is not last + 1 makes the book SUSPECT and is not
  applied; a healthy book skips a RECOVERED snapshot equal to last. With `drop_old` deltas and
  RECOVERED snapshots at or before last are dropped.
- **Touch.** After each event best bid >= best ask is counted, locked apart from crossed.

It holds no venue's rules and is slow on purpose.
"""

from __future__ import annotations

from collections import Counter

from tapecast.protocol.books.book import KernelState, Touch
from tapecast.protocol.records import HEADER_STRUCT, ITEM_STRUCT, Header
from tapecast.protocol.schema import (
    HEADER_SIZE,
    LEVEL,
    MAGIC,
    MAX_MANTISSA,
    MAX_PACKET,
    TAG_SIZE,
    VERSION,
    Flag,
    MsgType,
)

__all__ = ["ReferenceBook", "ReferenceBookSet"]

_LEVEL = ITEM_STRUCT[MsgType.BOOK]


class _OverflowError(Exception):
    """A mantissa reached 2^62."""


class ReferenceBook:
    """One book: price mantissa → quantity mantissa on each side, at one pair of exponents."""

    def __init__(self, instrument_id: int) -> None:
        """Make an EMPTY book."""
        self.instrument_id = instrument_id
        self.state = KernelState.EMPTY
        self.touch = Touch.NORMAL
        self.price_exp = self.qty_exp = 0
        self.instrument_seq = self.ts_exchange_ns = self.ts_recv_ns = self.flags = self.venue_id = 0
        self.updates = self.ignored = self.crossed_events = self.crossed_run = 0
        self._sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._open: tuple[int, bool] | None = None
        self._next_fragment = 0

    @property
    def complete(self) -> bool:
        """True when the book is LIVE and no event is half applied."""
        return self.state is KernelState.LIVE and self._open is None

    @property
    def depth(self) -> tuple[int, int]:
        """Number of bid and ask levels."""
        bids, asks = self.levels()
        return len(bids), len(asks)

    def levels(self, n: int | None = None) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return bids and asks, best first, as lists of (price mantissa, quantity mantissa)."""
        if self.state is KernelState.LOADING:
            return [], []
        bids, asks = self._sides
        return sorted(bids.items(), reverse=True)[:n], sorted(asks.items())[:n]

    def mark(self, state: KernelState) -> None:
        """Leave the running event and take a state; only a SUSPECT book keeps the levels it
        showed.
        """
        if state is not KernelState.SUSPECT or self.state is KernelState.LOADING:
            self._sides = ({}, {})
        self.state = state
        self._open = None
        self.touch = Touch.NORMAL
        self.crossed_run = 0

    def _rescale(self, price_exp: int, qty_exp: int) -> None:
        """Bring the levels to exponents that are not coarser than the book's."""
        if (price_exp, qty_exp) == (self.price_exp, self.qty_exp):
            return
        price_digits, qty_digits = self.price_exp - price_exp, self.qty_exp - qty_exp
        self._sides = (
            {_scaled(p, price_digits): _scaled(q, qty_digits) for p, q in self._sides[0].items()},
            {_scaled(p, price_digits): _scaled(q, qty_digits) for p, q in self._sides[1].items()},
        )
        self.price_exp, self.qty_exp = price_exp, qty_exp


class ReferenceBookSet:
    """The books of any number of instruments; counters under the names of
    `protocol.books.books.Counters`.
    """

    def __init__(self, *, auto_add: bool = True, delta_first: bool = False) -> None:
        """Options as for `protocol.books.books.BookSet`."""
        self.books: dict[int, ReferenceBook] = {}
        self.counters: Counter[str] = Counter()
        self.touched: list[int] = []
        self._auto_add = auto_add
        self._delta_first = delta_first

    def apply(self, buffer: bytes, *, check_seq: bool = False, drop_old: bool = False) -> int:
        """Apply contiguous packets; `touched` then lists instrument ids. Return the bytes
        consumed.
        """
        self.touched = []
        position = 0
        while position < len(buffer):
            length = _packet_length(buffer, position)
            if length == 0:
                break
            self._packet(buffer[position : position + length], check_seq, drop_old)
            position += length
        return position

    def _packet(self, data: bytes, check_seq: bool, drop_old: bool) -> None:
        header = _header(data, 0)
        if header.msg_type != MsgType.BOOK:
            self.counters["other_types"] += 1
            return
        stride, payload_len = header.item_size, header.payload_len
        honest = (
            stride >= LEVEL.size
            and header.item_count * stride == payload_len
            and header.bid_count <= header.item_count
        )
        if not honest or header.instrument_id == 0 or header.flags & Flag.CRITICAL:
            self.counters["invalid"] += 1
            return
        book = self.books.get(header.instrument_id)
        if book is None:
            if not self._auto_add:
                self.counters["unknown"] += 1
                return
            book = self.books[header.instrument_id] = ReferenceBook(header.instrument_id)
        if not self._admit(book, header, check_seq, drop_old):
            return
        offsets = range(HEADER_SIZE, HEADER_SIZE + payload_len, stride)
        levels = [_LEVEL.unpack_from(data, offset) for offset in offsets]
        try:
            self._merge(
                book,
                levels[: header.bid_count],
                levels[header.bid_count :],
                header.price_exp,
                header.qty_exp,
            )
        except _OverflowError:
            self.counters["overflows"] += 1
            book.mark(KernelState.BROKEN)
            self._touch(book)
            return
        self.counters["packets"] += 1
        self.counters["levels"] += header.item_count
        if header.flags & Flag.LAST:
            self._finish(book, header)

    def _admit(self, book: ReferenceBook, header: Header, check_seq: bool, drop_old: bool) -> bool:
        """Decide whether a packet is applied, and open its event."""
        seq, fragment = header.instrument_seq, header.fragment
        snapshot = bool(header.flags & Flag.SNAPSHOT)
        if book._open == (seq, snapshot) and fragment == book._next_fragment:
            book._next_fragment = (fragment + 1) % 256
            return True
        ahead = (seq - book.instrument_seq + 2**31) % 2**32 - 2**31
        recovered = snapshot and bool(header.flags & Flag.RECOVERED)
        if check_seq and book.complete:
            if recovered and ahead == 0:
                self.counters["skipped"] += 1
                return False
            if drop_old and ahead <= 0 and (recovered or not snapshot):
                self.counters["old"] += 1
                return False
            if not snapshot and fragment == 0 and ahead != 1:
                return self._lost(book, "seq_gaps")
        if fragment == 0 and snapshot:
            if book._open is not None:
                self.counters["fragment_errors"] += 1
            book._sides = ({}, {})
            book.state = KernelState.LOADING
        elif book._open is not None or (book.state is KernelState.LIVE and fragment != 0):
            return self._lost(book, "fragment_errors")
        elif book.state is KernelState.EMPTY and fragment == 0 and self._delta_first:
            book.state = KernelState.LIVE
        elif book.state is not KernelState.LIVE:
            self.counters["ignored"] += 1
            book.ignored += 1
            return False
        book._open = (seq, snapshot)
        book._next_fragment = 1
        return True

    def _lost(self, book: ReferenceBook, counter: str) -> bool:
        self.counters[counter] += 1
        book.mark(KernelState.SUSPECT)
        self._touch(book)
        return False

    def _merge(
        self,
        book: ReferenceBook,
        bids: list[tuple[int, int]],
        asks: list[tuple[int, int]],
        price_exp: int,
        qty_exp: int,
    ) -> None:
        if not any(book._sides):
            book.price_exp, book.qty_exp = price_exp, qty_exp
        book._rescale(min(book.price_exp, price_exp), min(book.qty_exp, qty_exp))
        price_digits, qty_digits = price_exp - book.price_exp, qty_exp - book.qty_exp
        for side, levels in zip(book._sides, (bids, asks), strict=True):
            for level in levels:
                price, quantity = _scaled(level[0], price_digits), _scaled(level[1], qty_digits)
                if quantity < 0:
                    self.counters["negative_quantities"] += 1
                elif quantity == 0:
                    side.pop(price, None)
                else:
                    side[price] = quantity

    def _finish(self, book: ReferenceBook, header: Header) -> None:
        self.counters["events"] += 1
        book.instrument_seq, book.flags, book.venue_id = (
            header.instrument_seq,
            header.flags,
            header.venue_id,
        )
        book.ts_exchange_ns, book.ts_recv_ns = header.ts_exchange_ns, header.ts_recv_ns
        book.state = KernelState.LIVE
        book._open = None
        book.updates += 1
        bids, asks = book._sides
        book.touch = Touch.NORMAL
        if bids and asks and max(bids) >= min(asks):
            book.touch = Touch.CROSSED if max(bids) > min(asks) else Touch.LOCKED
            book.crossed_run += 1
            book.crossed_events += 1
            self.counters["crossed"] += 1
        else:
            book.crossed_run = 0
        self._touch(book)

    def _touch(self, book: ReferenceBook) -> None:
        if book.instrument_id not in self.touched:
            self.touched.append(book.instrument_id)


def _scaled(mantissa: int, digits: int) -> int:
    factor: int = 10**digits
    out = mantissa * factor
    if abs(out) > MAX_MANTISSA:
        raise _OverflowError
    return out


def _packet_length(buffer: bytes, position: int) -> int:
    """Return the length of the packet at `position`, 0 where there is none."""
    if len(buffer) - position < HEADER_SIZE:
        return 0
    header = _header(buffer, position)
    if header.magic != MAGIC or header.version != VERSION:
        return 0
    length = HEADER_SIZE + header.payload_len + (TAG_SIZE if header.flags & Flag.AUTH else 0)
    return length if length <= min(len(buffer) - position, MAX_PACKET) else 0


def _header(buffer: bytes, position: int) -> Header:
    return Header._make(HEADER_STRUCT.unpack_from(buffer, position))
