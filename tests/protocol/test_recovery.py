"""Requests and replies as bytes, and packets out of a stream that comes in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapecast.protocol.codec import KEY_SIZE, WireError, encode
from tapecast.protocol.records import Header, HeartbeatItem, ReplyItem, RequestItem
from tapecast.protocol.recovery import (
    MAX_RANGE,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
    first_packet,
)
from tapecast.protocol.schema import MAX_PACKET, Flag, MsgType, ReplyStatus, RequestKind
from tests.support.vectors import VECTORS

HEADER = Header(channel_id=4, venue_id=4, session=9)
RANGE = RequestItem(kind=RequestKind.RANGE, request_id=7, first=12, packets=3)
U64 = st.integers(0, 2**64 - 1)

U32 = st.integers(0, 2**32 - 1)
requests = st.one_of(
    st.tuples(U32, st.integers(1, 2**64 - 1), st.integers(1, MAX_RANGE)).map(
        lambda drawn: RequestItem(1, 0, 0, *drawn[:2], 0, drawn[2])
    ),
    st.tuples(st.sampled_from([2, 3]), U32, U64).map(
        lambda drawn: RequestItem(drawn[0], 0, 0, drawn[1], 0, drawn[2])
    ),
)


@given(requests, st.sampled_from([None, bytes(range(KEY_SIZE))]))
def test_requests_survive_the_way(item: RequestItem, key: bytes | None) -> None:
    """Channel, venue, session and item come out as they went in; with a key, under that key
    only.
    """
    packet = encode_request(HEADER, item, key=key)
    assert decode_request(packet)[1] == item
    header, found = decode_request(packet, keys=[] if key is None else [bytes(KEY_SIZE), key])
    assert (header.msg_type, header.channel_id, header.venue_id, header.session, found) == (
        MsgType.REQUEST,
        4,
        4,
        9,
        item,
    )
    with pytest.raises(WireError, match="auth_missing" if key is None else "bad_auth"):
        decode_request(packet, keys=[b"k" * KEY_SIZE])


@given(U64, U64, st.integers(0, 255))
def test_replies_survive_the_way(first: int, next_seq: int, status: int) -> None:
    """A status that this version does not know comes through as its number."""
    item = ReplyItem(
        kind=1, status=status, request_id=5, first=first, next_seq=next_seq, packets=3, retry_ms=9
    )
    header, found = decode_reply(encode_reply(HEADER._replace(flags=Flag.REPLAY), item))
    assert found == item
    assert header.flags & Flag.REPLAY
    assert header.session == 9


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (RANGE._replace(packets=0), "packets 0: 1 to 512"),
        (RANGE._replace(packets=MAX_RANGE + 1), "packets 513"),
        (RANGE._replace(first=0), "first 0"),
        (RANGE._replace(kind=0), "kind 0"),
        (RANGE._replace(kind=4), "kind 4"),
    ],
)
def test_what_cannot_be_asked_is_named(item: RequestItem, reason: str) -> None:
    """A request of the right form that asks for nothing there is."""
    with pytest.raises(WireError, match=reason):
        decode_request(encode_request(HEADER, item))


def test_other_packets_are_no_requests_and_no_replies() -> None:
    """Another type, no item, two items, a cut one."""
    beat = encode(Header(msg_type=MsgType.HEARTBEAT), [HeartbeatItem()])[0]
    none = encode(Header(msg_type=MsgType.REQUEST), [])[0]
    two = encode(Header(msg_type=MsgType.REQUEST), [RANGE, RANGE])[0]
    for packet in (beat, none, two, encode_reply(HEADER, ReplyItem(kind=1))):
        with pytest.raises(WireError, match="not a request"):
            decode_request(packet)
    for packet in (beat, none, encode_request(HEADER, RANGE)):
        with pytest.raises(WireError, match="not a reply"):
            decode_reply(packet)
    with pytest.raises(WireError, match="bad_length"):
        decode_request(encode_request(HEADER, RANGE)[:-1])


def test_a_request_that_has_grown_is_understood() -> None:
    """A newer client's item is longer; what is known of it counts."""
    packet = encode_request(HEADER, RANGE)
    grown = (
        packet[:38]
        + b"\x28"
        + packet[39:64]
        + (40).to_bytes(2, "little")
        + packet[66:]
        + b"\xff" * 8
    )
    assert decode_request(grown)[1] == RANGE


@given(st.data())
def test_any_pieces_of_a_stream_give_its_packets(data: st.DataObject) -> None:
    """However the stream is cut, each packet is found once it is whole, and not before."""
    golden = [bytes.fromhex(packet["hex"]) for vector in VECTORS for packet in vector["packets"]]
    packets = data.draw(st.lists(st.sampled_from(golden), min_size=1, max_size=4))
    stream, found, held = b"".join(packets), [], bytearray()
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        held += stream[:size]
        stream = stream[size:]
        while length := first_packet(held):
            found.append(bytes(held[:length]))
            del held[:length]
    assert found == packets
    assert not held


def test_what_cannot_become_a_packet_is_noticed_at_once() -> None:
    """A wrong magic with its second byte, an impossible length with the header; one byte says
    nothing.
    """
    assert first_packet(b"") == first_packet(b"G") == 0
    with pytest.raises(WireError, match="bad_magic"):
        first_packet(b"GE")
    with pytest.raises(WireError, match=r"bad_magic \(offset 3\)"):
        first_packet(b"xyzGE", 3)
    long = bytearray(encode_request(HEADER, RANGE))
    long[64:66] = (MAX_PACKET - 66 + 1).to_bytes(2, "little")
    with pytest.raises(WireError, match="oversize"):
        first_packet(long[:66])
    long[64:66] = (MAX_PACKET - 66).to_bytes(2, "little")
    assert first_packet(long) == 0


def test_golden_requests_and_replies_are_read() -> None:
    """The published bytes pass here too."""
    for vector in VECTORS:
        for packet in vector["packets"]:
            data = bytes.fromhex(packet["hex"])
            if vector["name"] == "request":
                assert decode_request(data)[1]._asdict() == packet["items"][0]
            elif vector["name"] == "reply":
                assert decode_reply(data)[1]._asdict() == packet["items"][0]
                assert ReplyStatus(packet["items"][0]["status"]).name in (
                    "OK",
                    "OVERRUN",
                    "BUSY",
                    "OTHER_SESSION",
                )
