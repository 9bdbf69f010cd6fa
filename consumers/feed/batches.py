"""Packets as numpy arrays: what `Feed.batches()` yields, for programs that take them by the
thousand.

`Batch.table(msg_type)` copies the items of a message type into one flat array, a row an item,
with the columns of `TABLE_HEAD` before those of the item; its cost hardly depends on how many
packets there are. `Batch.runs()` copies nothing: neighbouring packets of one shape become one
`Run`, whose `headers` have shape (n,) and dtype `protocol.dtypes.HEADER`, and whose `items` have
shape (n, items per packet) and the dtype of the message type (`protocol.dtypes.ITEM_DTYPE`); a
mixed stream has many short runs.

Mantissas stay integers: price = `price` x 10^`price_exp`. Order is that of the channel;
duplicates are gone. Runs are valid until the next batch is taken; tables belong to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tapecast.consumers.feed.events import AnyEvent
from tapecast.protocol.dtypes import HEADER, ITEM_DTYPE
from tapecast.protocol.fields import OFFSET
from tapecast.protocol.net.sequencing import SPAN_HELD, BatchSequencer
from tapecast.protocol.schema import HEADER_SIZE, MsgType

__all__ = ["TABLE_HEAD", "Batch", "Run"]

Structured = npt.NDArray[np.void]
Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

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
"""Header columns of every table; books and BBOs have `bid` (u1, 1 = the level is a bid) after
them.
"""

_MSG_TYPE: Final = OFFSET["msg_type"]
_ITEM_COUNT: Final = OFFSET["item_count"]
_ITEM_SIZE: Final = OFFSET["item_size"]
_CHANNEL: Final = OFFSET["channel_id"]
_ID: Final = OFFSET["instrument_id"]
_LEVELS: Final = frozenset({int(MsgType.BOOK), int(MsgType.BBO)})


class Run(NamedTuple):
    """Neighbouring packets of one message type, size and item count, as views of the receive
    buffer.
    """

    msg_type: int
    headers: Structured
    items: Structured


class Batch:
    """The packets of one read that were asked for, and the events that came between them
    (definitions, statuses, gaps).
    """

    def __init__(self, data: Bytes, offsets: Offsets, lengths: Offsets) -> None:
        """Describe packets at `offsets` of `data`, in order."""
        self.events: list[AnyEvent] = []
        self._data = data
        self._offsets = offsets
        self._lengths = lengths
        self._types = data[offsets + _MSG_TYPE]

    def __len__(self) -> int:
        """Return the number of packets."""
        return len(self._offsets)

    def runs(self, *msg_types: int) -> Iterator[Run]:
        """Yield the runs of some message types (all without arguments), in the order of their
        packets.
        """
        data, offsets = self._data, self._offsets
        if not len(offsets):
            return
        shape = np.stack(
            [self._lengths, self._types, data[offsets + _ITEM_COUNT], data[offsets + _ITEM_SIZE]],
            axis=1,
        )
        apart = (shape[1:] != shape[:-1]).any(axis=1) | (np.diff(offsets) != self._lengths[:-1])
        edges = (np.flatnonzero(apart) + 1).tolist()
        for start, stop in zip([0, *edges], [*edges, len(offsets)], strict=True):
            length, msg_type, items, item_size = shape[start].tolist()
            if not msg_types or msg_type in msg_types:
                yield _run(
                    data, int(offsets[start]), stop - start, length, msg_type, items, item_size
                )

    def headers(self, msg_type: int) -> Structured:
        """Return the headers of a message type's packets as a copy: shape (n,), dtype
        `protocol.dtypes.HEADER`.
        """
        offsets = self._offsets[self._types == msg_type]
        return _gather(self._data, offsets, HEADER)

    def table(self, msg_type: int) -> Structured:
        """Return all items of a message type as one flat array: the columns `TABLE_HEAD`, then
        the item's fields.
        """
        dtype = _table_dtype(msg_type)
        offsets = self._offsets[self._types == msg_type]
        headers = _gather(self._data, offsets, HEADER)
        counts = headers["item_count"].astype(np.int64)
        packet = np.repeat(np.arange(len(offsets)), counts)
        place = np.arange(len(packet)) - np.repeat(np.cumsum(counts) - counts, counts)
        items = _gather(
            self._data,
            offsets[packet] + HEADER_SIZE + place * headers["item_size"][packet],
            ITEM_DTYPE[msg_type],
        )
        out = np.empty(len(packet), dtype)
        for name in TABLE_HEAD:
            out[name] = headers[name][packet]
        if msg_type in _LEVELS:
            out["bid"] = place < headers["bid_count"][packet]
        for name in items.dtype.names or ():
            out[_column(name)] = items[name]
        return out


def _gather(data: Bytes, offsets: Offsets, dtype: np.dtype[np.void]) -> Structured:
    return (
        data[offsets[:, None] + np.arange(dtype.itemsize)].view(dtype)[:, 0]
        if len(offsets)
        else np.empty(0, dtype)
    )


def _column(name: str) -> str:
    # Items have `flags` of their own (STAT, INSTRUMENT), and definitions repeat the exponents of
    # the header.
    return f"item_{name}" if name in TABLE_HEAD else name


def _table_dtype(msg_type: int) -> np.dtype[np.void]:
    head = [(name, HEADER[name]) for name in TABLE_HEAD]
    bid = [("bid", np.dtype("u1"))] if msg_type in _LEVELS else []
    item = ITEM_DTYPE[msg_type]
    return np.dtype([*head, *bid, *((_column(name), item[name]) for name in item.names or ())])


def make_batch(
    sequencer: BatchSequencer,
    count: int,
    buffer: Bytes,
    msg_types: frozenset[int],
    wanted: npt.NDArray[np.uint64] | None,
    passes: Callable[[int, int], bool] | None = None,
) -> Batch:
    """Return the deliveries of a sequencer's last call that have these types and, with `wanted`,
    these instrument ids.

    `passes` says, of a channel id and an instrument id, whether the instrument is taken from the
    channel.
    """
    spans = sequencer.deliveries[:count]
    data, offsets, lengths = (
        buffer,
        spans["offset"].astype(np.int64),
        spans["length"].astype(np.int64),
    )
    if (spans["flags"] & SPAN_HELD).any():
        data = np.concatenate(
            [np.frombuffer(sequencer.packet(index), np.uint8) for index in range(count)]
        )
        offsets = np.cumsum(lengths) - lengths
    keep = np.isin(data[offsets + _MSG_TYPE], list(msg_types))
    if wanted is not None:
        ids = data[offsets[:, None] + np.arange(_ID, _ID + 8)].view("<u8")[:, 0]
        keep &= np.isin(ids, wanted)
    if passes is not None:
        keep &= _chosen(data, offsets, passes)
    return Batch(data, offsets[keep], lengths[keep])


def _chosen(
    data: Bytes, offsets: Offsets, passes: Callable[[int, int], bool]
) -> npt.NDArray[np.bool_]:
    pairs = np.empty(len(offsets), np.dtype([("channel", "<u2"), ("id", "<u8")]))
    pairs["channel"] = data[offsets[:, None] + np.arange(_CHANNEL, _CHANNEL + 2)].view("<u2")[:, 0]
    pairs["id"] = data[offsets[:, None] + np.arange(_ID, _ID + 8)].view("<u8")[:, 0]
    kinds, which = np.unique(pairs, return_inverse=True)
    return np.array(
        [passes(channel, instrument) for channel, instrument in kinds.tolist()], np.bool_
    )[which]


def _run(
    data: Bytes, at: int, packets: int, length: int, msg_type: int, items: int, item_size: int
) -> Run:
    headers = np.ndarray((packets,), HEADER, buffer=data, offset=at, strides=(length,))
    dtype = ITEM_DTYPE[msg_type]
    if not items:
        return Run(msg_type, headers, np.empty((packets, 0), dtype))
    values = np.ndarray(
        (packets, items), dtype, buffer=data, offset=at + HEADER_SIZE, strides=(length, item_size)
    )
    return Run(msg_type, headers, values)
