"""The recovery conversation where packets carry tags: nothing is answered without one, and
nothing is said without one.
"""

from __future__ import annotations

import pytest

from tapecast.protocol.codec import validate
from tapecast.protocol.publish.recovery.server import RecoveryServer
from tapecast.protocol.records import Header, RequestItem
from tapecast.protocol.recovery import decode_reply, encode_request, first_packet
from tapecast.protocol.schema import ReplyStatus, RequestKind
from tests.support.recovery_bench import LIMITS, Channel

KEY, ALSO = bytes(range(32)), bytes(range(1, 33))
ASK = RequestItem(RequestKind.DEFINITIONS, 0, 0, 5, 0, 0, 0)


def answers(key: bytes | None) -> tuple[str, list[bytes]]:
    """Return why a client that asks under a key is closed, and the packets it is sent."""
    server = RecoveryServer(Channel(), LIMITS, keys=[KEY, ALSO])
    client = server.connect(0)
    assert client is not None
    server.receive(client, encode_request(Header(channel_id=1, venue_id=1), ASK, key=key))
    data = bytearray()
    while (step := server.step(0, 5)) is not None:
        data += step.data
    packets = []
    while length := first_packet(data):
        packets.append(bytes(data[:length]))
        del data[:length]
    return client.closing, packets


@pytest.mark.parametrize("key", [KEY, ALSO])
def test_a_request_under_a_key_of_the_channel_is_answered(key: bytes) -> None:
    """Under either key while they are being changed; the reply is under the first."""
    closing, packets = answers(key)
    assert closing == ""
    _, reply = decode_reply(packets[-1], keys=[KEY])
    assert (reply.status, reply.packets, reply.request_id) == (ReplyStatus.OK, 3, 5)


@pytest.mark.parametrize(("key", "reason"), [(None, "auth_missing"), (bytes(32), "bad_auth")])
def test_a_request_without_the_right_tag_is_refused(key: bytes | None, reason: str) -> None:
    """The client is told so, under the key, and closed."""
    closing, packets = answers(key)
    assert closing == f"bad request: {reason}"
    (packet,) = packets
    assert validate(packet, keys=[KEY]) is None
    assert decode_reply(packet, keys=[KEY])[1].status == ReplyStatus.BAD_REQUEST
