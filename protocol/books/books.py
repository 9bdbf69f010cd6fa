"""Order books over the C kernel `native/book.c`, any number of instruments, one C call a buffer
of packets.

The rules (snapshots, fragments, exponents, sequence, broken numbers) are written down in
`protocol.books.reference`, the plain-Python twin that tests hold this module against. Memory
belongs to Python: the kernel stops where it lacks room, this module doubles the room and
resumes, so nothing is applied twice. It does not decode venue messages, verify checksums, open
sockets or decide what a channel gap means.

Views of levels and of `BookSet.state` show the books themselves: they are valid until the next
call that changes the set (`apply`, `add`, `reset`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tapecast.protocol._native import ffi, lib
from tapecast.protocol.books.book import BookCopy, KernelBook, KernelState, LevelArray, Touch
from tapecast.protocol.dtypes import LEVEL

__all__ = [
    "ApplyResult",
    "BookCopy",
    "BookSet",
    "Counters",
    "KernelBook",
    "KernelState",
    "LevelArray",
    "Touch",
]

Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray[np.uint8]

_CHECK_SEQ = lib.TC_APPLY_CHECK_SEQ
_DROP_OLD = lib.TC_APPLY_DROP_OLD
_RESUME = lib.TC_APPLY_RESUME
_NEEDS_ROOM = (lib.TC_APPLY_NO_SPACE, lib.TC_APPLY_NO_SLOT)
_MALFORMED = lib.TC_APPLY_MALFORMED
_LEAST_MAX_LEVELS = 128


class Counters(NamedTuple):
    """What a set of books has counted since it was made."""

    packets: int
    """BOOK packets applied."""
    events: int
    """Events completed."""
    levels: int
    """LevelArray in the applied packets."""
    other_types: int
    """Packets of other message types."""
    invalid: int
    """Packets whose header contradicts itself, and spans that hold no packet."""
    unknown: int
    """Packets of instruments without a book."""
    ignored: int
    """Packets not applied because their book awaits a snapshot."""
    fragment_errors: int
    """Events that lost a fragment."""
    seq_gaps: int
    """Deltas whose instrument_seq was not last + 1."""
    skipped: int
    """Packets of cycle snapshots that a healthy book does not need."""
    old: int
    """Packets dropped because the book is already past them."""
    negative_quantities: int
    """LevelArray left out because their quantity was negative."""
    overflows: int
    """Books broken because a number or a side grew too large."""
    crossed: int
    """Events after which best bid >= best ask."""


class ApplyResult:
    """What the last `apply` of a set did; objects that belong to the set and change with the next
    call.
    """

    __slots__ = ("_set", "crossed")

    def __init__(self, books: BookSet, *, crossed: bool) -> None:
        """Read the results of one set."""
        self._set = books
        self.crossed = crossed
        """True when an event left its book with best bid >= best ask."""

    @property
    def touched(self) -> NDArray[np.uint32]:
        """Slots of the books that completed an event or changed state, each once; a view that
        the next call overwrites.
        """
        return self._set._touched[: self._set._c.touched_count]

    @property
    def position(self) -> int:
        """Bytes consumed."""
        return int(self._set._c.position)

    @property
    def malformed(self) -> bool:
        """True when `apply` met bytes that are no packet, at `position`, and left the rest of
        the buffer.
        """
        return bool(self._set._c.status == _MALFORMED)


class _Apply(Protocol):
    def __call__(
        self,
        buffer: Buffer,
        nbytes: int | None = None,
        start: int = 0,
        check_seq: bool = False,
        drop_old: bool = False,
    ) -> ApplyResult: ...


class BookSet:
    """The books of any number of instruments, changed by one C call a buffer. Not for several
    threads at once.
    """

    def __init__(
        self,
        capacity_hint: int = 64,
        *,
        auto_add: bool = True,
        delta_first: bool = False,
        max_books: int = 65_536,
        max_levels: int = 1 << 20,
    ) -> None:
        """Make room for `capacity_hint` books at first.

        `auto_add`: an unknown instrument gets a book, up to `max_books`; otherwise its packets
        are counted `unknown`. `delta_first`: a delta may start an empty book. A side that would
        pass `max_levels` breaks its book.
        """
        if max_levels < _LEAST_MAX_LEVELS:
            raise ValueError(
                f"max_levels {max_levels}: at least {_LEAST_MAX_LEVELS}, more than one packet holds"
            )
        self._options = (lib.TC_APPLY_AUTO_ADD if auto_add else 0) | (
            lib.TC_APPLY_DELTA_FIRST if delta_first else 0
        )
        self._max_levels = max_levels
        self._c = ffi.new("tc_books *")
        self._c.max_books = max_books
        self._books: list[KernelBook] = []
        self._state = np.zeros(0, _STATE)
        self._touched = np.zeros(0, np.uint32)
        self._result, self._crossed_result = (
            ApplyResult(self, crossed=False),
            ApplyResult(self, crossed=True),
        )
        self._make_slots(max(1, min(capacity_hint, max_books)))
        self.apply = self._bind()
        """Apply every BOOK packet among the contiguous packets of `buffer[start:nbytes]`.

        `check_seq`: a delta whose instrument_seq is not last + 1 makes its book SUSPECT and is
        not applied; a snapshot flagged RECOVERED that equals the last sequence of a healthy book
        is skipped. `drop_old`, with it: a delta or RECOVERED snapshot at or before the last
        sequence is dropped instead. A bytearray stays exported until the next one.
        """

    def _bind(self) -> _Apply:
        """Return `apply` as a function: per event, looking up the method and its attributes
        costs more than the books do.
        """
        c, own_options, result = self._c, self._options, self._result
        apply, apply_kept, from_buffer, settle = (
            lib.tc_books_apply,
            lib.tc_books_apply_kept,
            ffi.from_buffer,
            self._settle,
        )
        c.kept_options = own_options
        kept = bytearray()
        data = from_buffer(kept)

        def apply_packets(
            buffer: Buffer,
            nbytes: int | None = None,
            start: int = 0,
            check_seq: bool = False,
            drop_old: bool = False,
        ) -> ApplyResult:
            nonlocal kept, data
            if buffer is kept and nbytes is not None and not (start or check_seq or drop_old):
                status = apply_kept(c, nbytes)
                return settle(status, data, nbytes, own_options) if status else result
            source: ffi.CData | bytes
            if type(buffer) is bytes:
                source = buffer
            elif type(buffer) is bytearray:
                if buffer is not kept:
                    kept, data = buffer, from_buffer(buffer)
                    c.kept, c.kept_size = data, len(data)
                source = data
            else:
                source = from_buffer(buffer)
            size = len(source) if nbytes is None else nbytes
            if not 0 <= start <= size <= len(source):
                raise ValueError(f"bytes {start} to {size} of a buffer of {len(source)}")
            options = (
                own_options | (_CHECK_SEQ if check_seq else 0) | (_DROP_OLD if drop_old else 0)
            )
            status = apply(c, source, size, start, options)
            return settle(status, source, size, options) if status else result

        return apply_packets

    def _settle(self, status: int, data: ffi.CData | bytes, size: int, options: int) -> ApplyResult:
        """Finish a call of `apply` that was not simply done."""
        c = self._c
        if status == lib.TC_APPLY_BAD_SIZE:
            raise ValueError(f"{size} bytes of a buffer of {c.kept_size}")
        while status in _NEEDS_ROOM:
            self._make_room(status)
            status = lib.tc_books_apply(c, data, size, c.position, options | _RESUME)
        return self._crossed_result if c.crossed != c.crossed_before else self._result

    def __len__(self) -> int:
        """Return the number of books."""
        return int(self._c.book_count)

    def __iter__(self) -> Iterator[KernelBook]:
        """Yield every book in the order of slots."""
        return (self.at(slot) for slot in range(len(self)))

    @property
    def state(self) -> NDArray[np.void]:
        """The kernel's records, one row a slot, read-only: `state["ts_exchange_ns"][slots]`
        reads many books at once.
        """
        rows = self._state[: len(self)]
        rows.flags.writeable = False
        return rows

    @property
    def crossed_events(self) -> int:
        """Events so far after which best bid >= best ask (`counters.crossed`, read alone because
        it is read often).
        """
        return int(self._c.crossed)

    @property
    def counters(self) -> Counters:
        """Counts since the set was made."""
        return Counters._make(getattr(self._c, name) for name in Counters._fields)

    def add(self, instrument_id: int) -> KernelBook:
        """Return the book of an instrument, made if there is none; ValueError for id 0 or beyond
        `max_books`.
        """
        slot = lib.tc_books_find(self._c, instrument_id)
        if slot < 0:
            if instrument_id == 0 or len(self) >= self._c.max_books:
                raise ValueError(
                    f"no book for instrument {instrument_id}: id 0, or {len(self)} books are the"
                    " limit"
                )
            if len(self) == self._c.book_capacity:
                self._make_slots(2 * self._c.book_capacity)
            slot = lib.tc_books_add(self._c, instrument_id)
        return self.at(slot)

    def book(self, instrument_id: int) -> KernelBook | None:
        """Return the book of an instrument, or None."""
        slot = lib.tc_books_find(self._c, instrument_id)
        return self.at(slot) if slot >= 0 else None

    def at(self, slot: int) -> KernelBook:
        """Return the book of a slot (`ApplyResult.touched`); IndexError beyond the last."""
        if not 0 <= slot < len(self):
            raise IndexError(f"slot {slot} of {len(self)} books")
        for new in range(len(self._books), slot + 1):
            self._books.append(KernelBook(ffi.addressof(self._rows, new), new))
        return self._books[slot]

    def top(
        self, slots: Sequence[int] | NDArray[np.uint32], n: int
    ) -> tuple[LevelArray, LevelArray]:
        """Return copies of the `n` best bids and asks of several books: two LEVEL arrays of
        shape (len(slots), n), best first.

        A missing level has price UNDEFINED (i64 minimum) and quantity 0. IndexError for a slot
        without a book.
        """
        wanted = np.ascontiguousarray(slots, dtype=np.uint32)
        if wanted.size and int(wanted.max()) >= len(self):
            raise IndexError(f"slot {wanted.max()} of {len(self)} books")
        bids, asks = np.empty((wanted.size, n), LEVEL), np.empty((wanted.size, n), LEVEL)
        if bids.size:
            out = ffi.cast("int64_t *", bids.ctypes.data), ffi.cast("int64_t *", asks.ctypes.data)
            lib.tc_books_top(self._c, ffi.from_buffer("uint32_t[]", wanted), wanted.size, n, *out)
        return bids, asks

    def reset(self, instrument_id: int | None = None) -> None:
        """Empty one book, or all of them (a publisher's new session); the books stay known."""
        slots = (
            range(len(self))
            if instrument_id is None
            else [lib.tc_books_find(self._c, instrument_id)]
        )
        for slot in slots:
            if slot >= 0:
                lib.tc_books_mark(self._c, slot, KernelState.EMPTY)

    def _make_room(self, status: int) -> None:
        c = self._c
        if status == lib.TC_APPLY_NO_SLOT:
            self._make_slots(2 * c.book_capacity)
        elif max(c.need_bids, c.need_asks) > self._max_levels:
            lib.tc_books_mark(c, c.slot, KernelState.BROKEN)
        else:
            self.at(c.slot)._grow(c.need_bids, c.need_asks)

    def _make_slots(self, capacity: int) -> None:
        count = len(self)
        state, touched = np.zeros(capacity, _STATE), np.zeros(capacity, np.uint32)
        state[:count] = self._state[:count]
        touched[: self._c.touched_count] = self._touched[: self._c.touched_count]
        table = np.zeros(1 << (2 * capacity - 1).bit_length(), _ENTRY)
        self._state, self._touched, self._table = state, touched, table
        self._rows = ffi.from_buffer("tc_book[]", state)
        c = self._c
        c.books, c.book_capacity = self._rows, capacity
        c.touched = ffi.cast("uint32_t *", touched.ctypes.data)
        c.table, c.table_mask = ffi.from_buffer("tc_book_entry[]", table), len(table) - 1
        lib.tc_books_rehash(c)
        for book in self._books:
            book._c = ffi.addressof(self._rows, book.slot)


def _record(name: str) -> np.dtype[np.void]:
    """Return the numpy dtype of a kernel struct, taken from its C declaration."""
    c = ffi.typeof(name)
    names, formats, offsets = [], [], []
    for field, where in c.fields:
        if where.type.kind == "array":
            continue
        kind = (
            "i" if where.type.kind == "primitive" and not where.type.cname.startswith("u") else "u"
        )
        names.append(field)
        formats.append(f"{kind}{ffi.sizeof(where.type)}")
        offsets.append(where.offset)
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": ffi.sizeof(c)}
    )


_STATE = _record("tc_book")
_ENTRY = _record("tc_book_entry")
