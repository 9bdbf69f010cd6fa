"""The schema against the published layout, and everything that is derived from it in Python."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from tapecast.protocol import dtypes, records, schema
from tapecast.protocol.schema import Flag, MsgType
from tests.support.vectors import VECTORS, names

HEADER_LAYOUT = {
    "magic": 0,
    "version": 2,
    "msg_type": 3,
    "flags": 4,
    "item_count": 6,
    "bid_count": 7,
    "session": 8,
    "channel_id": 12,
    "venue_id": 14,
    "instrument_id": 16,
    "channel_seq": 24,
    "instrument_seq": 32,
    "price_exp": 36,
    "qty_exp": 37,
    "item_size": 38,
    "fragment": 39,
    "ts_exchange_ns": 40,
    "ts_recv_ns": 48,
    "ts_send_ns": 56,
    "payload_len": 64,
}
SIZES = {
    "header": 66,
    "level": 16,
    "trade": 32,
    "stat": 24,
    "instrument": 160,
    "tick_band": 16,
    "status": 32,
    "heartbeat": 32,
    "text_chunk": 16,
    "request": 32,
    "reply": 32,
}
MSG_TYPES = {
    "HEARTBEAT": 1,
    "SESSION_START": 2,
    "SESSION_END": 3,
    "BOOK": 16,
    "BBO": 17,
    "TRADE": 18,
    "STAT": 19,
    "LIQUIDATION": 20,
    "INSTRUMENT": 32,
    "TICK_TABLE": 33,
    "STATUS": 34,
    "TEXT": 48,
    "REQUEST": 64,
    "REPLY": 65,
}
DTYPES = {
    "header": dtypes.HEADER,
    "level": dtypes.LEVEL,
    "trade": dtypes.TRADE,
    "stat": dtypes.STAT,
    "instrument": dtypes.INSTRUMENT,
    "tick_band": dtypes.TICK_BAND,
    "status": dtypes.STATUS,
    "heartbeat": dtypes.HEARTBEAT,
    "text_chunk": dtypes.TEXT_CHUNK,
    "request": dtypes.REQUEST,
    "reply": dtypes.REPLY,
}


def test_header_fields_have_their_published_offsets():
    """Every header field starts where the published table says, in that order."""
    assert {field.name: field.offset for field in schema.HEADER.fields} == HEADER_LAYOUT


def test_header_struct_is_the_published_one():
    """The header is 66 bytes and packs like the format string of the specification."""
    published = struct.Struct("<HBBHBBIHHQQIbbBBqqqH")
    assert published.size == schema.HEADER_SIZE == 66
    assert records.HEADER_STRUCT.format == published.format


def test_record_sizes_are_the_published_ones():
    """Each record has the size of the specification, the sum of its fields."""
    assert {record.name: record.size for record in schema.RECORDS} == SIZES


@pytest.mark.parametrize("record", schema.RECORDS, ids=lambda record: record.name)
def test_fields_follow_each_other_without_holes(record):
    """Each field starts where the one before ends, and names are unique."""
    end = 0
    for field in record.fields:
        assert field.offset == end
        end += field.size
    assert end == record.size
    assert len({field.name for field in record.fields}) == len(record.fields)


@pytest.mark.parametrize("record", schema.RECORDS, ids=lambda record: record.name)
def test_dtypes_have_the_schema_s_offsets(record):
    """The numpy dtype of a record has its size, and every field its offset, width and
    signedness.
    """
    dtype = DTYPES[record.name]
    assert dtype.itemsize == record.size
    assert dtype.names == tuple(field.name for field in record.fields)
    for field in record.fields:
        member, offset = dtype.fields[field.name][:2]
        assert (offset, member.itemsize) == (field.offset, field.size)
        assert member.kind == {"u": "u", "i": "i"}.get(
            field.type[0] if field.type[1:].isdigit() else "", member.kind
        )
        assert member.byteorder in "<|="


def test_every_message_type_has_an_item_dtype():
    """The dtypes by message type cover exactly the registered types, with the size of their
    record.
    """
    assert {m: dtype.itemsize for m, dtype in dtypes.ITEM_DTYPE.items()} == {
        m.value: r.size for m, r in schema.ITEM_OF.items()
    }


@pytest.mark.parametrize("msg_type", list(MsgType), ids=lambda msg_type: msg_type.name)
def test_tuples_mirror_the_schema(msg_type):
    """The written-out tuple of each item has the schema's fields in the schema's order."""
    assert records.ITEM_CLASS[msg_type]._fields == tuple(
        field.name for field in schema.ITEM_OF[msg_type].fields
    )


def test_header_tuple_mirrors_the_schema():
    """The written-out header tuple has the schema's fields in the schema's order."""
    assert records.Header._fields == tuple(HEADER_LAYOUT)


def test_message_types_keep_their_numbers():
    """Message type numbers are part of the format."""
    assert {member.name: member.value for member in MsgType} == MSG_TYPES


def test_every_flag_is_one_documented_bit():
    """Each flag is a single bit of its own and has a meaning in the specification."""
    assert set(schema.FLAG_DOC) == set(Flag)
    bits = [flag.value for flag in Flag]
    assert all(bit & (bit - 1) == 0 for bit in bits)
    assert sum(bits) == 0x8FFF


def test_most_items_fill_the_largest_packet():
    """87 levels are the most that fit in 1472 bytes."""
    assert (schema.MAX_PACKET - schema.HEADER_SIZE) // schema.LEVEL.size == schema.MAX_ITEMS


def test_venue_ids_are_unique_and_named():
    """A venue id names one venue; an unknown one is shown by its number."""
    assert len(set(schema.VENUES.values())) == len(schema.VENUES)
    assert all(schema.venue_name(number) == name for name, number in schema.VENUES.items())
    assert schema.venue_name(999) == "venue-999"


@pytest.mark.parametrize("vector", VECTORS, ids=names(VECTORS))
def test_golden_packets_read_the_same_through_numpy(vector):
    """A numpy view of each golden packet shows the header and items that are written beside it."""
    for packet in vector["packets"]:
        data = bytes.fromhex(packet["hex"])
        header = np.frombuffer(data, dtypes.HEADER, 1)[0]
        assert {name: int(header[name]) for name in dtypes.HEADER.names} == packet["header"]
        dtype = dtypes.ITEM_DTYPE.get(packet["header"]["msg_type"])
        for index, item in enumerate(packet["items"]):
            view = np.frombuffer(data, dtype, 1, 66 + index * packet["header"]["item_size"])[0]
            assert {name: _plain(view[name]) for name in dtype.names} == item


def _plain(value):
    if isinstance(value, np.void):
        return value.tobytes().hex()
    return value.decode() if isinstance(value, bytes) else int(value)
