"""Packets as numpy arrays: what `Feed.batches()` yields, for programs that take them by the thousand.

Two views of the same batch. `Batch.runs()` copies nothing: neighbouring packets of one shape become one `Run`, whose `headers`
have shape (n,) and dtype `protocol.dtypes.HEADER`, and whose `items` have shape (n, items per packet) and the dtype of the
message type (`protocol.dtypes.ITEM_DTYPE`). `Batch.table(msg_type)` copies into one flat array, a row an item, with the columns
of `TABLE_HEAD` before those of the item.

Mantissas stay integers: price = `price` x 10^`price_exp`. Order is that of the channel; duplicates are gone. Runs are valid until
the next batch is taken; tables belong to the caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from consumers.feed.events import AnyEvent
from protocol.dtypes import HEADER, ITEM_DTYPE
from protocol.schema import HEADER_SIZE, MsgType
from protocol.sequencing import BatchSequencer

__all__ = ["TABLE_HEAD", "Batch", "Run"]

Structured = npt.NDArray[np.void]
Bytes = npt.NDArray[np.uint8]

TABLE_HEAD: Final = (
    "venue_id",
    "instrument_id",
    "instrument_seq",
    "flags",
    "price_exp",
    "qty_exp",
    "ts_exchange_ns",
    "ts_recv_ns",
    "ts_send_ns",
)
"""Header columns of every table; books and BBOs have `bid` (u1, 1 = the level is a bid) after them."""

_MSG_TYPE: Final = 3
_ITEM_COUNT: Final = 6
_ITEM_SIZE: Final = 38
_ID: Final = 16
_LEVELS: Final = frozenset({int(MsgType.BOOK), int(MsgType.BBO)})


class Run(NamedTuple):
    """Neighbouring packets of one message type, size and item count, as views of the receive buffer."""

    msg_type: int
    headers: Structured
    items: Structured


class Batch:
    """The packets of one read, and the events that came between them (`events`: definitions, statuses, gaps)."""

    def __init__(self, runs: list[Run], events: list[AnyEvent]) -> None:
        """Keep the runs in the order of their packets."""
        self._runs = runs
        self.events = events

    def __len__(self) -> int:
        """Return the number of packets."""
        return sum(len(run.headers) for run in self._runs)

    def runs(self, *msg_types: int) -> Iterator[Run]:
        """Yield the runs of some message types (all without arguments), in the order of their packets."""
        return (run for run in self._runs if not msg_types or run.msg_type in msg_types)

    def table(self, msg_type: int) -> Structured:
        """Return all items of a message type as one flat array: the columns `TABLE_HEAD`, then the item's fields."""
        dtype = _table_dtype(msg_type)
        runs = list(self.runs(msg_type))
        out = np.empty(sum(run.items.size for run in runs), dtype)
        item_fields = ITEM_DTYPE[msg_type].names or ()
        at = 0
        for run in runs:
            packets, items = run.items.shape
            rows = out[at : at + run.items.size].reshape(packets, items)
            for name in TABLE_HEAD:
                rows[name] = run.headers[name][:, None]
            if msg_type in _LEVELS:
                rows["bid"] = np.arange(items) < run.headers["bid_count"][:, None]
            for name in item_fields:
                rows[_column(name)] = run.items[name]
            at += run.items.size
        return out


def _column(name: str) -> str:
    # Items have `flags` of their own (STAT, INSTRUMENT), and definitions repeat the exponents of the header.
    return f"item_{name}" if name in TABLE_HEAD else name


def _table_dtype(msg_type: int) -> np.dtype[np.void]:
    head = [(name, HEADER[name]) for name in TABLE_HEAD]
    bid = [("bid", np.dtype("u1"))] if msg_type in _LEVELS else []
    item = ITEM_DTYPE[msg_type]
    return np.dtype([*head, *bid, *((_column(name), item[name]) for name in item.names or ())])


def make_runs(
    sequencer: BatchSequencer, buffer: Bytes, msg_types: frozenset[int], wanted: npt.NDArray[np.uint64] | None
) -> list[Run]:
    """Return the deliveries of a sequencer's last call as runs; `wanted` limits them to some instrument ids."""
    out: list[Run] = []
    deliveries = sequencer.deliveries
    for piece in sequencer.runs.tolist():
        _, _, first, packets, held = piece
        data = sequencer.held if held else buffer
        spans = deliveries[first : first + packets]
        offsets = spans["offset"].astype(np.int64)
        keep = np.isin(data[offsets + _MSG_TYPE], list(msg_types))
        if wanted is not None:
            ids = data[offsets[:, None] + np.arange(_ID, _ID + 8)].view("<u8")[:, 0]
            keep &= np.isin(ids, wanted)
        if not keep.any():
            continue
        shape = np.stack(
            [keep, spans["length"], data[offsets + _MSG_TYPE], data[offsets + _ITEM_COUNT], data[offsets + _ITEM_SIZE]], axis=1
        )
        edges = np.flatnonzero((shape[1:] != shape[:-1]).any(axis=1)) + 1
        for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), packets], strict=True):
            if keep[start]:
                _, length, msg_type, items, item_size = (int(value) for value in shape[start])
                out.append(_run(data, int(offsets[start]), stop - start, length, msg_type, items, item_size))
    return out


def _run(data: Bytes, at: int, packets: int, length: int, msg_type: int, items: int, item_size: int) -> Run:
    headers = np.ndarray((packets,), HEADER, buffer=data, offset=at, strides=(length,))
    dtype = ITEM_DTYPE[msg_type]
    if not items:
        return Run(msg_type, headers, np.empty((packets, 0), dtype))
    values = np.ndarray((packets, items), dtype, buffer=data, offset=at + HEADER_SIZE, strides=(length, item_size))
    return Run(msg_type, headers, values)
