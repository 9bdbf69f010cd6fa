"""The reference codec: golden packets, full ranges, damage, growth, fragments, authentication,
text.
"""

from __future__ import annotations

import struct
from contextlib import nullcontext, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.protocol import codec, schema
from tapecast.protocol.codec import (
    Header,
    InstrumentItem,
    Level,
    StatusItem,
    TextChunk,
    TradeItem,
    ValidationError,
    WireError,
    decode,
    encode,
    validate,
)
from tapecast.protocol.records import HEADER_STRUCT, ITEM_CLASS
from tapecast.protocol.schema import HEADER_SIZE, MAX_MANTISSA, MAX_PACKET, UNDEFINED, Flag, MsgType
from tapecast.protocol.validation import validate as receiver_validate
from tests.support.examples import examples
from tests.support.vectors import INVALID, VECTORS, names

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
BOOK = Header(
    msg_type=MsgType.BOOK,
    session=1,
    channel_id=1,
    venue_id=1,
    instrument_id=7,
    channel_seq=1,
    instrument_seq=1,
)
BBO = BOOK._replace(msg_type=MsgType.BBO, bid_count=1)
QUOTE = [Level(6183763, 378826), Level(6183764, 154698)]
SET_BY_ENCODER = {
    "magic",
    "version",
    "msg_type",
    "flags",
    "item_count",
    "bid_count",
    "item_size",
    "fragment",
    "payload_len",
}
# Every bit but those that the encoder sets itself and the one that no version 1 packet has.
FLAG_BITS = 0xFFFF & ~(Flag.LAST | Flag.AUTH | Flag.CRITICAL)


def field_values(field: schema.Field) -> st.SearchStrategy:
    """Return every value that a field can hold on the wire."""
    if field.type == "utf8":
        text = st.text(st.characters(exclude_categories=["Cs"]), max_size=field.size)
        return text.filter(lambda t: len(t.encode()) <= field.size and not t.endswith("\0"))
    if field.type == "bytes":
        return st.binary(min_size=field.size, max_size=field.size)
    if field.mantissa:
        return st.integers(-MAX_MANTISSA, MAX_MANTISSA) | st.sampled_from(
            [UNDEFINED, MAX_MANTISSA, -MAX_MANTISSA]
        )
    bits = 8 * field.size
    low, high = (
        (0, 2**bits - 1) if field.type[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )
    return st.integers(low, high) | st.sampled_from([low, high])


def headers(msg_type: MsgType, bid_count: int = 0) -> st.SearchStrategy[Header]:
    """Return templates over the full range of every field."""
    # The last number of the sequence is left for events that fit one packet.
    fields = {f.name: field_values(f) for f in schema.HEADER.fields if f.name not in SET_BY_ENCODER}
    fields["channel_seq"] = st.integers(0, 2**64 - 256)
    fields["flags"] = st.integers(0, 0xFFFF).map(lambda bits: bits & FLAG_BITS)
    return st.fixed_dictionaries(fields).map(
        lambda drawn: Header(msg_type=int(msg_type), bid_count=bid_count, **drawn)
    )


@st.composite
def events(draw):
    """Draw (template, items) of any type, at most a few packets."""
    msg_type = draw(st.sampled_from(list(MsgType)))
    record = schema.ITEM_OF[msg_type]
    item = st.builds(ITEM_CLASS[msg_type], *[field_values(field) for field in record.fields])
    if msg_type == MsgType.BBO:
        bids, asks = draw(st.lists(item, max_size=1)), draw(st.lists(item, max_size=1))
        return draw(headers(msg_type, len(bids))), bids + asks
    items = draw(st.lists(item, max_size=20))
    bid_count = draw(st.integers(0, len(items))) if msg_type == MsgType.BOOK else 0
    return draw(headers(msg_type, bid_count)), items


def without_item_fields(header: Header) -> Header:
    """Return what a template and its packets have in common."""
    return header._replace(
        flags=header.flags & FLAG_BITS,
        item_count=0,
        bid_count=0,
        item_size=0,
        fragment=0,
        payload_len=0,
        channel_seq=0,
    )


@pytest.mark.parametrize("vector", VECTORS, ids=names(VECTORS))
def test_golden_packets_decode_as_written(vector):
    """Each golden packet decodes to the header, items and tag beside it."""
    keys = [bytes.fromhex(vector["key"])] if "key" in vector else []
    for golden in vector["packets"]:
        packet = decode(bytes.fromhex(golden["hex"]), keys=keys)
        assert packet.header._asdict() == golden["header"]
        shown = [
            {k: v.hex() if isinstance(v, bytes) else v for k, v in item._asdict().items()}
            for item in packet.items
        ]
        assert shown == golden["items"]
        assert packet.tag.hex() == golden.get("tag", "")


ENCODABLE = [
    vector
    for vector in VECTORS
    if vector["name"] not in ("unknown_type", "grown_item", "book_snapshot")
]


@pytest.mark.parametrize("vector", ENCODABLE, ids=names(ENCODABLE))
def test_golden_packets_encode_to_the_same_bytes(vector):
    """Decoding and encoding a golden packet gives its bytes again, the tag included."""
    key = bytes.fromhex(vector["key"]) if "key" in vector else None
    for golden in vector["packets"]:
        packet = decode(bytes.fromhex(golden["hex"]))
        assert [data.hex() for data in encode(packet.header, packet.items, key=key)] == [
            golden["hex"]
        ]


def test_golden_snapshot_encodes_to_its_fragments():
    """The items of both golden fragments, encoded as one event of the same datagram size, give
    the same two packets.
    """
    golden = next(vector for vector in VECTORS if vector["name"] == "book_snapshot")["packets"]
    parts = [decode(bytes.fromhex(packet["hex"])) for packet in golden]
    bids = [item for part in parts for item in part.items[: part.header.bid_count]]
    asks = [item for part in parts for item in part.items[part.header.bid_count :]]
    template = parts[0].header._replace(bid_count=len(bids))
    assert [data.hex() for data in encode(template, bids + asks, max_payload=306)] == [
        packet["hex"] for packet in golden
    ]


def test_header_bytes_are_laid_out_by_hand():
    """An encoded header is what the published format string gives, byte for byte."""
    header = BBO._replace(
        session=0x01020304, channel_seq=2**64 - 1, price_exp=-128, qty_exp=127, ts_send_ns=-1
    )
    (data,) = encode(header, QUOTE)
    by_hand = struct.pack(
        "<HBBHBBIHHQQIbbBBqqqH",
        0x464D,
        1,
        17,
        1,
        2,
        1,
        0x01020304,
        1,
        1,
        7,
        2**64 - 1,
        1,
        -128,
        127,
        16,
        0,
        0,
        0,
        -1,
        32,
    )
    assert data == by_hand + struct.pack("<4q", 6183763, 378826, 6183764, 154698)
    assert data[:2] == b"\x4d\x46"


@given(events(), st.integers(66 + 16 + 160, MAX_PACKET), st.sampled_from([None, KEY]))
@settings(deadline=None, max_examples=examples(300))
def test_encode_then_decode_gives_the_event(event, max_payload, key):
    """Over full integer ranges, every type's packets are valid, within size, and join to the
    event that was encoded.
    """
    template, items = event
    packets = encode(template, items, max_payload=max_payload, key=key)
    bids, asks = [], []
    for fragment, data in enumerate(packets):
        assert len(data) <= max_payload
        packet = decode(data, keys=[key] if key else [])
        assert without_item_fields(packet.header) == without_item_fields(template)
        assert packet.header.channel_seq == (
            template.channel_seq + fragment if template.channel_seq else 0
        )
        assert packet.header.fragment == fragment
        assert bool(packet.header.flags & Flag.LAST) == (fragment == len(packets) - 1)
        assert bool(packet.header.flags & Flag.AUTH) == (key is not None)
        bids += packet.items[: packet.header.bid_count]
        asks += packet.items[packet.header.bid_count :]
    assert bids == items[: template.bid_count]
    assert asks == items[template.bid_count :]


@given(events(), st.data())
@settings(deadline=None, max_examples=examples(100))
def test_every_truncation_is_refused_as_such(event, data):
    """Any packet cut anywhere is too short or of the wrong length."""
    packet = data.draw(st.sampled_from(encode(*event)))
    size = data.draw(st.integers(0, len(packet) - 1))
    expected = ValidationError.TOO_SHORT if size < HEADER_SIZE else ValidationError.BAD_LENGTH
    assert validate(packet[:size]) == expected
    with pytest.raises(WireError, match=expected.name.lower()):
        decode(packet[:size])


def test_every_truncation_of_every_golden_packet():
    """Each golden packet is refused at each shorter length."""
    for golden in (packet for vector in VECTORS for packet in vector["packets"]):
        data = bytes.fromhex(golden["hex"])
        for size in range(len(data)):
            assert validate(data[:size]) == (
                ValidationError.TOO_SHORT if size < 66 else ValidationError.BAD_LENGTH
            )


@given(events(), st.lists(st.integers(0, 8 * 200 - 1), min_size=1, max_size=8))
@settings(deadline=None, max_examples=examples(300))
def test_flipped_bits_raise_nothing_but_wire_errors(event, bits):
    """A damaged packet decodes or raises WireError; decode and validate agree, but for texts
    that are no longer UTF-8.
    """
    packet = bytearray(encode(*event)[0])
    for bit in bits:
        packet[bit // 8 % len(packet)] ^= 1 << bit % 8
    error = validate(packet)
    if error is not None:
        with pytest.raises(WireError, match=error.name.lower()):
            decode(packet)
        return
    with suppress(WireError) if packet[3] == MsgType.INSTRUMENT else nullcontext():
        decode(packet)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_random_bytes_raise_nothing_but_wire_errors(data):
    """Any bytes at all are either a packet or a WireError, also behind a valid beginning."""
    for candidate in (data, encode(BBO, QUOTE)[0][:4] + data):
        try:
            decode(candidate)
        except WireError:
            assert validate(candidate) is not None or candidate[3] == MsgType.INSTRUMENT


@given(events(), st.integers(1, 40), st.integers(0, 255))
@settings(deadline=None, max_examples=examples(100))
def test_grown_items_are_walked_by_their_size(event, growth, filler):
    """Bytes that a newer version appends to each item change nothing in what is decoded."""
    packet = encode(*event)[0]
    header = decode(packet).header
    size = header.item_size
    payload = b"".join(
        packet[at : at + size] + bytes([filler]) * growth
        for at in range(HEADER_SIZE, HEADER_SIZE + header.payload_len, size)
    )
    grown = bytearray(packet[:HEADER_SIZE]) + payload
    grown[38] = size + growth
    grown[64:66] = len(payload).to_bytes(2, "little")
    assert decode(grown).items == decode(packet).items


def test_the_receiver_s_checks_agree():
    """The receiver's own reference of the checks counts every golden datagram under the same
    name, tags apart.
    """
    for packet in (packet for vector in VECTORS for packet in vector["packets"]):
        assert receiver_validate(bytes.fromhex(packet["hex"])) is None
    for row in INVALID:
        if row["error"] != "bad_auth":
            counted = receiver_validate(bytes.fromhex(row["hex"]), auth_required="key" in row)
            assert counted is not None
            assert counted.name.lower() == row["error"]


@pytest.mark.parametrize("row", INVALID, ids=names(INVALID))
def test_invalid_datagrams_fail_their_check(row):
    """Each golden invalid datagram fails the check beside it, and decode raises under the same
    name.
    """
    keys = [bytes.fromhex(row["key"])] if "key" in row else []
    data = bytes.fromhex(row["hex"])
    error = validate(data, keys=keys)
    assert error is not None
    assert error.name.lower() == row["error"]
    with pytest.raises(WireError) as raised:
        decode(data, keys=keys)
    assert raised.value.reason == row["error"]


def test_every_failure_has_a_golden_datagram():
    """The invalid datagrams cover every validation error."""
    assert {row["error"] for row in INVALID} == {error.name.lower() for error in ValidationError}


def test_checks_run_in_the_published_order():
    """A datagram that fails every check is repaired step by step: the failures appear in the
    order of the specification.
    """
    payload = bytes(32)
    header = Header(
        0, 2, MsgType.BOOK, Flag.CRITICAL, item_count=3, bid_count=5, item_size=8, payload_len=33
    )
    repairs = [
        {"magic": schema.MAGIC},
        {"version": 1},
        {"flags": Flag.LAST},
        {"payload_len": 32},
        {"item_count": 4},
        {"bid_count": 1},
        {"item_count": 2, "item_size": 16},
    ]
    seen = [validate(b"", keys=[KEY])]
    for repair in [{}, *repairs]:
        header = header._replace(**repair)
        seen.append(validate(HEADER_STRUCT.pack(*header) + payload, keys=[KEY]))
    tagged = HEADER_STRUCT.pack(*header._replace(flags=Flag.LAST | Flag.AUTH)) + payload
    seen.append(validate(tagged + codec.auth_tag(tagged, OTHER_KEY), keys=[KEY]))
    assert seen == list(ValidationError)
    assert validate(tagged + codec.auth_tag(tagged, KEY), keys=[KEY]) is None


@pytest.mark.parametrize("flag", [0x1000, 0x2000, 0x4000])
def test_flags_without_a_meaning_are_ignored(flag):
    """Bits that version 1 does not define do not make a packet invalid."""
    data = bytearray(encode(BBO, QUOTE)[0])
    data[5] |= flag >> 8
    assert validate(data) is None


def test_unknown_types_pass_and_have_no_items():
    """A message type of a later version is valid, whatever its item size."""
    data = bytearray(encode(BBO, QUOTE)[0])
    data[3], data[6], data[38] = 200, 32, 1
    assert validate(data) is None
    assert decode(data).items == ()


def test_views_decode_like_bytes():
    """bytes, bytearray and a memoryview into a larger buffer are all accepted."""
    data = encode(BBO, QUOTE, key=KEY)[0]
    inside = memoryview(b"xx" + data + b"yy")[2:-2]
    assert (
        decode(inside, keys=[KEY])
        == decode(bytearray(data), keys=[KEY])
        == decode(data, keys=[KEY])
    )


@pytest.mark.parametrize(
    ("max_payload", "key", "levels", "trades"),
    [
        (1400, None, 83, 41),
        (1472, None, 87, 43),
        (1400, KEY, 82, 41),
        (1472, KEY, 86, 43),
        (82, None, 1, None),
    ],
)
def test_packets_are_filled_to_the_configured_size(max_payload, key, levels, trades):
    """As many items as fit go into a packet, never more than 87."""
    assert (
        decode(encode(BOOK, QUOTE * 100, max_payload=max_payload, key=key)[0]).header.item_count
        == levels
    )
    if trades is not None:
        header = BOOK._replace(msg_type=MsgType.TRADE)
        assert (
            decode(
                encode(header, [TradeItem(1, 2, 3)] * 50, max_payload=max_payload, key=key)[0]
            ).header.item_count
            == trades
        )


@pytest.mark.parametrize("bid_count", [0, 1, 83, 84, 166, 167, 200])
def test_bids_come_first_across_fragments(bid_count):
    """Each fragment says how many of its own items are bids."""
    packets = [
        decode(data).header for data in encode(BOOK._replace(bid_count=bid_count), QUOTE * 100)
    ]
    assert [header.item_count for header in packets] == [83, 83, 34]
    expected = [
        min(max(bid_count - first, 0), count) for first, count in ((0, 83), (83, 83), (166, 34))
    ]
    assert [header.bid_count for header in packets] == expected


def test_an_empty_book_is_one_packet_with_the_level_size():
    """A snapshot without levels is a packet of 66 bytes that still says its item size."""
    (data,) = encode(BOOK._replace(flags=Flag.SNAPSHOT), [])
    header = decode(data).header
    assert (len(data), header.item_count, header.item_size, header.payload_len) == (66, 0, 16, 0)
    assert header.flags == Flag.SNAPSHOT | Flag.LAST


def test_unstamped_packets_stay_unstamped():
    """A template without channel sequence gives fragments without one."""
    assert [
        decode(p).header.channel_seq for p in encode(BOOK._replace(channel_seq=0), QUOTE * 100)
    ] == [0, 0, 0]


@pytest.mark.parametrize(
    "field", [f for f in schema.HEADER.fields if f.name not in SET_BY_ENCODER], ids=lambda f: f.name
)
def test_header_values_out_of_range_name_their_field(field):
    """One below and one above the range of a header field is refused with its name and offset."""
    bits = 8 * field.size
    low, high = (0, 2**bits) if field.type[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    for value in (low - 1, high):
        with pytest.raises(WireError, match=f"^{field.name} {value} does not fit") as raised:
            encode(BBO._replace(**{field.name: value}), QUOTE)
        assert raised.value.offset == field.offset


ITEM_FIELDS = [(m, f) for m, record in schema.ITEM_OF.items() for f in record.fields]


@pytest.mark.parametrize(
    ("msg_type", "field"), ITEM_FIELDS, ids=[f"{m.name}.{f.name}" for m, f in ITEM_FIELDS]
)
def test_item_values_out_of_range_name_their_field(msg_type, field):
    """A value that does not fit its item field is refused with the item's index and the field's
    name.
    """
    record = schema.ITEM_OF[msg_type]
    values = {
        f.name: "" if f.type == "utf8" else bytes(16) if f.type == "bytes" else 0
        for f in record.fields
    }
    good = ITEM_CLASS[msg_type](**values)
    bits = 8 * field.size
    if field.type == "utf8":
        bad = ["x" * (field.size + 1), "a\0", "\ud800", 5]
    elif field.type == "bytes":
        bad = [bytes(field.size + 1), "text"]
    elif field.mantissa:
        bad = [2**62, -(2**62), UNDEFINED + 1, UNDEFINED - 1, 2**63, "1", 1.0]
    else:
        bad = [-1, 2**bits] if field.type[0] == "u" else [-(2 ** (bits - 1)) - 1, 2 ** (bits - 1)]
    for value in bad:
        items = [good, good._replace(**{field.name: value})]
        with pytest.raises(WireError, match=rf"^items\[1\]\.{field.name} ") as raised:
            encode(BOOK._replace(msg_type=msg_type, bid_count=int(msg_type == MsgType.BBO)), items)
        assert raised.value.offset == field.offset


def test_events_that_no_packet_can_hold_are_refused():
    """Wrong item types, counts, sizes and types of message are refused with the field at fault."""
    cases = [
        (BBO, [TradeItem(1, 2, 3), QUOTE[0]], {}, r"items\[0\] is a TradeItem, not a Level"),
        (BOOK._replace(bid_count=3), QUOTE, {}, "bid_count 3 of 2"),
        (BOOK._replace(bid_count=-1), QUOTE, {}, "bid_count -1 of 2"),
        (BBO._replace(bid_count=2), QUOTE, {}, "bid_count 2"),
        (BBO._replace(bid_count=0), QUOTE, {}, "bid_count 0"),
        (
            BOOK._replace(msg_type=MsgType.TRADE, bid_count=1),
            [TradeItem(1, 2, 3)],
            {},
            "bid_count 1",
        ),
        (BOOK._replace(msg_type=200), [], {}, "msg_type 200"),
        (BOOK, QUOTE, {"max_payload": 1473}, "max_payload 1473"),
        (BOOK, QUOTE, {"max_payload": 81}, "max_payload 81"),
        (BOOK, QUOTE * 129, {"max_payload": 82}, "fragment 256"),
        (BOOK._replace(channel_seq=2**64 - 1), QUOTE * 100, {}, "channel_seq 18446744073709551616"),
    ]
    for header, items, options, message in cases:
        with pytest.raises(WireError, match=message):
            encode(header, items, **options)


def test_tags_verify_under_any_valid_key():
    """During rotation either key verifies; another key, a changed bit or no tag at all does not."""
    data = encode(BBO, QUOTE, key=KEY)[0]
    assert validate(data, keys=[KEY]) is None
    assert validate(data, keys=[OTHER_KEY, KEY]) is None
    assert validate(data, keys=[OTHER_KEY]) == ValidationError.BAD_AUTH
    assert validate(encode(BBO, QUOTE)[0], keys=[KEY]) == ValidationError.AUTH_MISSING
    assert validate(encode(BBO, QUOTE)[0], auth_required=True) == ValidationError.AUTH_MISSING
    assert validate(data, auth_required=True) is None
    assert validate(data) is None
    assert data[-16:] == codec.auth_tag(data[:-16], KEY)


@given(st.integers(0, 8 * (66 + 32 + 16) - 1))
def test_any_flipped_bit_breaks_authentication(bit):
    """No single bit of header, payload or tag can change unnoticed."""
    data = bytearray(encode(BBO, QUOTE, key=KEY)[0])
    data[bit // 8] ^= 1 << bit % 8
    assert validate(data, keys=[KEY]) is not None


def test_keys_have_32_bytes():
    """A shorter key is a mistake of configuration, not a weaker tag."""
    with pytest.raises(ValueError, match="32 bytes"):
        encode(BBO, QUOTE, key=b"short")


def test_walk_yields_packets_of_a_contiguous_buffer():
    """Packets stored back to back, with and without tag, come out one by one as views."""
    packets = encode(BOOK, QUOTE * 100) + encode(BBO, QUOTE, key=KEY) + encode(BOOK, [])
    assert [bytes(view) for view in codec.walk(b"".join(packets))] == packets
    assert list(codec.walk(b"")) == []


def test_walk_stops_at_damage_with_its_offset():
    """A cut or foreign remainder raises with its offset after the packets before it."""
    (data,) = encode(BBO, QUOTE)
    for tail, reason in (
        (data[:60], "too_short"),
        (data[:-1], "bad_length"),
        (bytes(66), "bad_magic"),
    ):
        walker = codec.walk(data + tail)
        assert bytes(next(walker)) == data
        with pytest.raises(WireError, match=reason) as raised:
            next(walker)
        assert raised.value.offset == len(data)


@given(
    st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not text.endswith("\0"))
)
def test_text_comes_back(text):
    """Any text goes through chunks and back, characters cut by a chunk border included."""
    items = codec.encode_text(text)
    packets = encode(Header(msg_type=MsgType.TEXT), items)
    assert codec.decode_text([item for packet in packets for item in decode(packet).items]) == text


def test_text_that_cannot_come_back_is_refused():
    """A trailing zero byte, a lone surrogate and bytes that are no UTF-8 raise."""
    for text in ("a\0", "\ud800"):
        with pytest.raises(WireError):
            codec.encode_text(text)
    with pytest.raises(WireError, match="UTF-8"):
        codec.decode_text([TextChunk(b"\xff" + bytes(15))])


def test_definitions_with_damaged_text_name_the_field():
    """A symbol that is not UTF-8 raises with its field and offset."""
    header = Header(msg_type=MsgType.INSTRUMENT)
    data = bytearray(encode(header, [InstrumentItem(1, 1, 1, 1, 1, -2, -5, symbol="BTCUSDT")])[0])
    offset = HEADER_SIZE + next(
        field.offset for field in schema.INSTRUMENT.fields if field.name == "symbol"
    )
    data[offset + 2] = 0xFF
    with pytest.raises(WireError, match="symbol is not UTF-8") as raised:
        decode(data)
    assert raised.value.offset == offset + 2


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_gap_details_come_back(expected, got):
    """Any two u64 go through a status detail."""
    assert codec.parse_gap_detail(codec.gap_detail(expected, got)) == (expected, got)


@given(st.integers(-(2**31), 2**31 - 1))
def test_signed_checksums_come_back(checksum):
    """A signed 32-bit checksum goes through a status detail."""
    assert codec.parse_gap_detail(codec.gap_detail(checksum, -checksum), signed=True) == (
        checksum,
        -checksum,
    )


def test_text_details_are_cut_between_characters():
    """A long detail keeps whole characters of the first 16 bytes, and fits a status."""
    assert codec.text_detail("ws.1") == b"ws.1" + bytes(12)
    detail = codec.text_detail("a거래소거래소")
    assert detail == "a거래소거래".encode()
    assert len(detail) == 16
    assert codec.text_detail("ab거래소거래") == "ab거래소거".encode() + bytes(2)
    encode(Header(msg_type=MsgType.STATUS), [StatusItem(1, 1, detail=detail)])


def test_instrument_ids_are_the_published_hash():
    """The id is BLAKE2b-64 of the text, little-endian; the value is fixed for ever."""
    assert codec.instrument_id("binance.spot.BTCUSDT") == 0xD48FF750FAEA56CF
    assert codec.instrument_id("okx.perpetual.BTC-USDT-SWAP") != codec.instrument_id(
        "okx.spot.BTC-USDT-SWAP"
    )
