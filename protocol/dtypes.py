"""Packed numpy dtypes of the wire records, built from `protocol.schema`.

A packet's bytes can be viewed as these records without a copy (`numpy.frombuffer`). Layout and
meanings live in the schema; this module adds nothing but the translation of scalar names. It
validates nothing: `protocol.codec.validate` comes first.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from tapecast.protocol import schema

__all__ = [
    "HEADER",
    "HEARTBEAT",
    "INSTRUMENT",
    "ITEM_DTYPE",
    "LEVEL",
    "REPLY",
    "REQUEST",
    "STAT",
    "STATUS",
    "TEXT_CHUNK",
    "TICK_BAND",
    "TRADE",
]

RecordDtype: TypeAlias = np.dtype[np.void]

_FORMATS = {
    "u8": "u1",
    "i8": "i1",
    "u16": "<u2",
    "i16": "<i2",
    "u32": "<u4",
    "i32": "<i4",
    "u64": "<u8",
    "i64": "<i8",
}


def _format(field: schema.Field) -> str:
    # numpy's S cuts trailing zero bytes, which is right for padded text and wrong for binary
    # detail: that is V.
    if field.type == "utf8":
        return f"S{field.size}"
    if field.type == "bytes":
        return f"V{field.size}"
    return _FORMATS[field.type]


def _dtype(record: schema.Record) -> RecordDtype:
    return np.dtype([(field.name, _format(field)) for field in record.fields])


HEADER = _dtype(schema.HEADER)
LEVEL = _dtype(schema.LEVEL)
TRADE = _dtype(schema.TRADE)
STAT = _dtype(schema.STAT)
INSTRUMENT = _dtype(schema.INSTRUMENT)
TICK_BAND = _dtype(schema.TICK_BAND)
STATUS = _dtype(schema.STATUS)
HEARTBEAT = _dtype(schema.HEARTBEAT)
TEXT_CHUNK = _dtype(schema.TEXT_CHUNK)
REQUEST = _dtype(schema.REQUEST)
REPLY = _dtype(schema.REPLY)

ITEM_DTYPE: dict[int, RecordDtype] = {
    int(msg_type): _dtype(record) for msg_type, record in schema.ITEM_OF.items()
}
"""Message type -> dtype of its item at the size this version knows; a packet's `item_size` may
be larger.
"""
