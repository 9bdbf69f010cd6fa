"""Tags in C against the hash library; wire specification, section 10."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.protocol._native import ffi, lib
from tapecast.protocol.authentication import Sealer, key_table
from tapecast.protocol.codec import validate
from tapecast.protocol.net.io import Receiver, Sender
from tapecast.protocol.schema import Flag
from tapecast.protocol.stamping import Stamper, StampError
from tests.support.packets import fields, heartbeat, packet, sealed
from tests.support.vectors import VECTORS

KEY = bytes(range(32))
BLOCK = 128


def tag(key: bytes, text: bytes) -> bytes:
    """Return what the C routines make of a key and a text."""
    state, out = ffi.new("uint64_t[8]"), ffi.new("uint64_t[2]")
    lib.tc_blake2b_key(state, key)
    lib.tc_blake2b_tag(state, text, len(text), out)
    return bytes(ffi.buffer(out))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=1500))
@settings(deadline=None)
def test_a_tag_is_that_of_the_hash_library(key: bytes, text: bytes) -> None:
    """Keyed BLAKE2b with 16 bytes, whatever the key and the text."""
    assert tag(key, text) == hashlib.blake2b(text, digest_size=16, key=key).digest()


@pytest.mark.parametrize(
    "length", [1, *range(BLOCK - 1, BLOCK + 2), *range(2 * BLOCK - 1, 2 * BLOCK + 2), 1472]
)
def test_tags_around_whole_blocks(length: int) -> None:
    """The last block may be full, or have one byte more or less."""
    assert (
        tag(KEY, b"x" * length) == hashlib.blake2b(b"x" * length, digest_size=16, key=KEY).digest()
    )


def test_the_golden_packet_is_sealed_as_published() -> None:
    """The vector's packet without its tag, sealed, is the vector's packet."""
    vector = next(one for one in VECTORS if one["name"] == "auth")
    whole = bytes.fromhex(vector["packets"][0]["hex"])
    flags = fields(whole)["flags"] & ~Flag.AUTH
    plain = whole[:4] + flags.to_bytes(2, "little") + whole[6:-16]
    assert Sealer(bytes.fromhex(vector["key"])).seal(plain) == whole


@given(
    st.lists(st.builds(packet, st.integers(0, 2**64 - 1), items=st.integers(0, 80)), max_size=12)
)
@settings(deadline=None)
def test_sealing_is_packet_by_packet(packets: list[bytes]) -> None:
    """Contiguous packets come out contiguous, each with its own tag, and nothing else changed."""
    sealer = Sealer(KEY)
    for _ in range(2):
        out = sealer.seal(b"".join(packets))
        assert out == b"".join(sealed(one, KEY) for one in packets)


def test_what_cannot_be_sealed_is_refused() -> None:
    """No packet, a packet with a tag, a packet without room for one: named with the place, and
    keys of a wrong length.
    """
    small, tagged, large = packet(1), sealed(packet(2), KEY), packet(3, items=87)
    sealer = Sealer(KEY)
    for packets, what in (
        (small + b"x", "no packet"),
        (small + tagged, "AUTH"),
        (small + large, "no room"),
    ):
        with pytest.raises(StampError, match=what) as caught:
            sealer.seal(packets)
        assert caught.value.offset == len(small)
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        Sealer(KEY[:31])
    for accepted in ((), (KEY, KEY, KEY)):
        with pytest.raises(ValueError, match="keys: 1 to 2"):
            key_table({1: accepted})


def test_published_packets_carry_their_tags_on_both_lines() -> None:
    """What leaves is stamped and sealed, the same bytes on line A and B; a refused buffer takes
    no number.
    """
    groups = ("239.255.42.205", "239.255.42.206")
    receivers = [Receiver([(group, 0)], rcvbuf=1 << 20) for group in groups]
    senders = [
        Sender(group, receiver.ports()[0])
        for group, receiver in zip(groups, receivers, strict=True)
    ]
    stamper, sealer = Stamper(5, instruments=1), Sealer(KEY)
    with pytest.raises(StampError, match="no room"):
        senders[0].publish(stamper, bytearray(packet(items=87)), 66 + 87 * 16, sealer=sealer)
    assert stamper.next_seq == 1
    buffer = bytearray(b"".join([packet(items=n % 7) for n in range(50)] + [heartbeat(0)]))
    assert senders[0].publish(stamper, buffer, len(buffer), line_b=senders[1], sealer=sealer) == 51
    got = []
    for receiver in receivers:
        packets: list[bytes] = []
        for _ in range(100):
            packets += [bytes(receiver.packet(n)) for n in range(receiver.receive(0.1))]
            if len(packets) == 51:
                break
        got.append(packets)
        receiver.close()
    for sender in senders:
        sender.close()
    assert got[0] == got[1]
    assert [fields(one)["channel_seq"] for one in got[0]] == [*range(1, 51), 51]
    assert all(validate(one, keys=[KEY]) is None for one in got[0])
