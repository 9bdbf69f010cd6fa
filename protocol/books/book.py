"""One order book in the kernel's memory: its numbers, and its levels as numpy views without a
copy.

Made and changed by `protocol.books.books.BookSet`; the rules are those of
`protocol.books.reference`. Level views show the book itself: they are valid until the next call
that changes the set. Whoever keeps levels longer takes `KernelBook.copy()`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tapecast.protocol._native import ffi, lib
from tapecast.protocol.dtypes import LEVEL

__all__ = ["BookCopy", "KernelBook", "KernelState", "LevelArray", "Touch"]

LevelArray: TypeAlias = NDArray[np.void]
"""An array of dtype `LEVEL`: fields `price` and `quantity`, mantissas."""

_FIRST_CAPACITY = 128
_NO_LEVELS = np.empty(0, LEVEL)


class KernelState(IntEnum):
    """What a book is worth."""

    EMPTY = 0
    """No snapshot yet."""
    LOADING = 1
    """Inside a snapshot; shows no levels."""
    LIVE = 2
    SUSPECT = 3
    """A fragment or an event was lost; shows its last levels until a snapshot."""
    BROKEN = 4
    """A number reached 2^62, or a side its limit; shows no levels until a snapshot."""


class Touch(IntEnum):
    """How best bid and best ask stand after the last complete event."""

    NORMAL = 0
    LOCKED = 1
    CROSSED = 2


class BookCopy(NamedTuple):
    """A book at one moment, independent of its set. LevelArray are best first."""

    instrument_id: int
    price_exp: int
    qty_exp: int
    instrument_seq: int
    ts_exchange_ns: int
    ts_recv_ns: int
    complete: bool
    bids: LevelArray
    asks: LevelArray


class KernelBook:
    """One instrument's book; made by `BookSet`, valid as long as the set. Every attribute reads
    the kernel's memory.
    """

    __slots__ = ("_asks", "_bids", "_c", "slot")

    def __init__(self, record: ffi.CData, slot: int) -> None:
        """Wrap the kernel's record; `slot` is the index into `BookSet.state`."""
        self._c = record
        self.slot = slot
        self._bids = self._asks = _NO_LEVELS

    @property
    def instrument_id(self) -> int:
        """BLAKE2b-64 of `venue.kind.symbol`."""
        return int(self._c.instrument_id)

    @property
    def price_exp(self) -> int:
        """Price = mantissa x 10^price_exp, for every level of this book."""
        return int(self._c.price_exp)

    @property
    def qty_exp(self) -> int:
        """Quantity = mantissa x 10^qty_exp, for every level of this book."""
        return int(self._c.qty_exp)

    @property
    def instrument_seq(self) -> int:
        """Sequence number of the last complete event."""
        return int(self._c.instrument_seq)

    @property
    def ts_exchange_ns(self) -> int:
        """Exchange time of the last complete event, UTC ns; 0 = unknown."""
        return int(self._c.ts_exchange_ns)

    @property
    def ts_recv_ns(self) -> int:
        """Receive time of the last complete event, UTC ns; 0 = unknown."""
        return int(self._c.ts_recv_ns)

    @property
    def flags(self) -> int:
        """Header flags of the last complete event."""
        return int(self._c.flags)

    @property
    def venue_id(self) -> int:
        """Venue of the last complete event."""
        return int(self._c.venue_id)

    @property
    def updates(self) -> int:
        """Complete events applied since the book was made."""
        return int(self._c.updates)

    @property
    def ignored(self) -> int:
        """Packets not applied because the book awaited a snapshot."""
        return int(self._c.ignored)

    @property
    def state(self) -> KernelState:
        """The book's state, which leaves out an event that is still open."""
        return KernelState(self._c.state)

    @property
    def complete(self) -> bool:
        """True when the book is LIVE and no event is half applied."""
        return bool(self._c.state == lib.TC_BOOK_LIVE and not self._c.open)

    @property
    def touch(self) -> Touch:
        """Whether the last complete event left the book locked or crossed."""
        return Touch(self._c.touch)

    @property
    def crossed(self) -> bool:
        """Best bid >= best ask after the last complete event."""
        return bool(self._c.touch)

    @property
    def crossed_run(self) -> int:
        """Consecutive events up to now that left the book locked or crossed."""
        return int(self._c.crossed_run)

    @property
    def crossed_events(self) -> int:
        """All events that left the book locked or crossed."""
        return int(self._c.crossed_events)

    @property
    def depth(self) -> tuple[int, int]:
        """Number of bid and ask levels."""
        return self._c.bid_count, self._c.ask_count

    @property
    def best_bid(self) -> tuple[int, int] | None:
        """Price and quantity mantissas of the best bid."""
        n = self._c.bid_count
        return (self._c.bids[2 * n - 2], self._c.bids[2 * n - 1]) if n else None

    @property
    def best_ask(self) -> tuple[int, int] | None:
        """Price and quantity mantissas of the best ask."""
        n = self._c.ask_count
        return (self._c.asks[2 * n - 2], self._c.asks[2 * n - 1]) if n else None

    def bids(self, n: int | None = None) -> LevelArray:
        """Return a read-only view of the `n` best bids (all without `n`), best first."""
        c = self._c
        return _best_first(self._bids, c.bid_slack, c.bid_count, n)

    def asks(self, n: int | None = None) -> LevelArray:
        """Return a read-only view of the `n` best asks (all without `n`), best first."""
        c = self._c
        return _best_first(self._asks, c.ask_slack, c.ask_count, n)

    def levels(self, n: int | None = None) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return bids and asks, best first, as lists of (price mantissa, quantity mantissa)."""
        return self.bids(n).tolist(), self.asks(n).tolist()

    def snapshot(self) -> tuple[LevelArray, LevelArray]:
        """Return bids and asks as contiguous copies, best first: the item order of a snapshot
        event on the wire.
        """
        return np.ascontiguousarray(self.bids()), np.ascontiguousarray(self.asks())

    def copy(self) -> BookCopy:
        """Return the book as it stands, independent of later changes."""
        c = self._c
        return BookCopy(
            c.instrument_id,
            c.price_exp,
            c.qty_exp,
            c.instrument_seq,
            c.ts_exchange_ns,
            c.ts_recv_ns,
            self.complete,
            *self.snapshot(),
        )

    def _grow(self, need_bids: int, need_asks: int) -> None:
        c = self._c
        if need_bids > c.bid_capacity:
            self._bids, c.bids, c.bid_capacity = _grown(
                self._bids, c.bid_slack, c.bid_count + c.load_bids, need_bids
            )
            c.bid_slack = 0
        if need_asks > c.ask_capacity:
            self._asks, c.asks, c.ask_capacity = _grown(
                self._asks, c.ask_slack, c.ask_count + c.load_asks, need_asks
            )
            c.ask_slack = 0


def _best_first(levels: LevelArray, slack: int, count: int, n: int | None) -> LevelArray:
    end = slack + count
    return levels[slack if n is None or n >= count else end - n : end][::-1]


def _grown(
    levels: LevelArray, slack: int, count: int, need: int
) -> tuple[LevelArray, ffi.CData, int]:
    """Return a larger array with the same levels, as a read-only view, its address and its
    capacity.
    """
    capacity = max(_FIRST_CAPACITY, 1 << (need - 1).bit_length())
    larger = np.empty(capacity, LEVEL)
    larger[:count] = levels[slack : slack + count]
    larger.flags.writeable = False
    return larger, ffi.cast("int64_t *", larger.ctypes.data), capacity
