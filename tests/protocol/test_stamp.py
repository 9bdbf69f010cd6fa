"""Stamping against a plain-Python reference; wire specification, sections 2, 3 and 6."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapecast.protocol._native import lib
from tapecast.protocol.schema import Flag, MsgType
from tapecast.protocol.stamping import COLUMN_OF, Stamper, StampError
from tests.support.packets import HEADER, fields, heartbeat, packet, session_end

CYCLE = Flag.SNAPSHOT | Flag.RECOVERED | Flag.LAST


class ReferenceStamper:
    """The rules, one packet at a time."""

    def __init__(self, session: int, next_seq: int) -> None:
        self.session = session
        self.next_seq = next_seq
        self.last: dict[tuple[int, int], int] = {}

    def stamp(self, packets: list[bytes], keep: bool, flags: int, ts_send_ns: int) -> list[bytes]:
        """Return the packets as they have to leave."""
        out = []
        for data in packets:
            head = fields(data)
            index, head["instrument_seq"] = head["instrument_seq"], 0
            head["session"] = self.session
            head["channel_seq"] = self.next_seq
            if head["msg_type"] not in (MsgType.HEARTBEAT, MsgType.SESSION_END):
                self.next_seq = (self.next_seq + 1) % 2**64
            if head["instrument_id"]:
                key = (index, head["msg_type"])
                cycle = head["flags"] & CYCLE & ~Flag.LAST == CYCLE & ~Flag.LAST
                if head["fragment"] == 0 and not (keep and cycle):
                    self.last[key] = (self.last.get(key, 0) + 1) % 2**32
                head["instrument_seq"] = self.last.get(key, 0)
            head["ts_send_ns"] = ts_send_ns
            head["flags"] |= flags
            out.append(HEADER.pack(*head.values()) + data[66:])
        return out


def stamped(stamper: Stamper, *packets: bytes, **options: int) -> list[dict[str, int]]:
    """Stamp and return the headers."""
    buffer = bytearray(b"".join(packets))
    assert stamper.stamp(buffer, len(buffer), **options) == len(packets)
    out, pos = [], 0
    for data in packets:
        out.append(fields(buffer[pos:]))
        pos += len(data)
    return out


one_packet = st.builds(
    packet,
    msg_type=st.sampled_from(list(COLUMN_OF)),
    flags=st.sampled_from([0, 1, 2, int(CYCLE), int(Flag.SUSPECT)]),
    instrument=st.sampled_from([0, 7, 2**64 - 1]),
    instrument_seq=st.integers(0, 4),
    fragment=st.sampled_from([0, 0, 0, 1, 2]),
    items=st.integers(0, 8),
)


@given(
    st.lists(
        st.tuples(
            st.lists(
                st.one_of(one_packet, st.just(heartbeat(0)), st.just(session_end(0))), max_size=6
            ),
            st.booleans(),
        )
    ),
    st.sampled_from([1, 2**32, 2**64 - 2]),
    st.sampled_from([0, int(Flag.REPLAY), int(Flag.TEST | Flag.SUSPECT)]),
)
def test_stamping_equals_the_reference(
    calls: list[tuple[list[bytes], bool]], next_seq: int, flags: int
) -> None:
    """Whatever is published, in whatever pieces, bytes and next number are those of the
    reference.
    """
    native = Stamper(9, instruments=5, next_seq=next_seq)
    reference = ReferenceStamper(9, next_seq)
    for packets, keep in calls:
        buffer = bytearray(b"".join(packets))
        assert native.stamp(buffer, len(buffer), keep=keep, flags=flags, ts_send_ns=77) == len(
            packets
        )
        assert bytes(buffer) == b"".join(reference.stamp(packets, keep, flags, 77))
        assert native.next_seq == reference.next_seq


def test_fragments_share_the_event_number() -> None:
    """The number goes up at fragment 0 only, separately by instrument and message type."""
    heads = stamped(
        Stamper(1, instruments=2),
        packet(flags=0), packet(fragment=1), packet(), packet(instrument_seq=1), packet(msg_type=MsgType.BBO, items=1),
    )  # fmt: skip
    assert [h["instrument_seq"] for h in heads] == [1, 1, 2, 1, 1]
    assert [h["channel_seq"] for h in heads] == [1, 2, 3, 4, 5]


def test_a_cycle_snapshot_carries_the_last_book_number() -> None:
    """With `keep` a SNAPSHOT|RECOVERED book takes no number; other packets of the call, and a
    resync without `keep`, do.
    """
    stamper = Stamper(1, instruments=1)
    stamped(stamper, packet(), packet())
    heads = stamped(
        stamper, packet(flags=CYCLE), packet(flags=CYCLE, fragment=1), packet(), keep=True
    )
    assert [h["instrument_seq"] for h in heads] == [2, 2, 3]
    assert stamped(stamper, packet(flags=CYCLE))[0]["instrument_seq"] == 4
    assert stamper.last_seq(0, MsgType.BOOK) == 4


def test_numbers_wrap() -> None:
    """The instrument number wraps at 2**32, the channel number at 2**64."""
    stamper = Stamper(1, instruments=1, next_seq=2**64 - 1)
    stamper.seqs[0, COLUMN_OF[MsgType.BOOK]] = 2**32 - 1
    heads = stamped(stamper, packet(), packet())
    assert [h["instrument_seq"] for h in heads] == [0, 1]
    assert [h["channel_seq"] for h in heads] == [2**64 - 1, 0]


def test_the_send_time_is_now_and_one_for_a_call() -> None:
    """Without a given time, every packet of a call carries the same reading of the clock."""
    before = time.time_ns()
    heads = stamped(Stamper(1, instruments=1), packet(), packet())
    assert before <= heads[0]["ts_send_ns"] == heads[1]["ts_send_ns"] <= time.time_ns()


def test_growing_keeps_the_numbers() -> None:
    """`reserve` makes room without losing a counter."""
    stamper = Stamper(1, instruments=1)
    stamped(stamper, packet())
    stamper.reserve(1000)
    assert len(stamper.seqs) >= 1000
    assert [
        h["instrument_seq"] for h in stamped(stamper, packet(), packet(instrument_seq=999))
    ] == [2, 1]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (packet()[:65], "no packet"),
        (packet()[:-1], "no packet"),
        (b"\0" * 98, "no packet"),
        (packet(payload=b"\0" * 1500), "no packet"),
        (packet(instrument_seq=3), "outside the table"),
        (heartbeat(0)[:16] + b"\1" * 8 + heartbeat(0)[24:], "cannot name an instrument"),
    ],
)
def test_a_refused_buffer_is_left_as_it_was(bad: bytes, reason: str) -> None:
    """An error names reason and offset; nothing is stamped and no number is used."""
    stamper = Stamper(1, instruments=3)
    good = packet()
    buffer = bytearray(good + bad)
    with pytest.raises(StampError, match=reason) as error:
        stamper.stamp(buffer, len(buffer))
    assert error.value.offset == len(good)
    assert bytes(buffer) == good + bad
    assert stamper.next_seq == 1
    assert not stamper.seqs.any()


def test_what_cannot_be_stamped_is_refused() -> None:
    """AUTH is not for adding, a count beyond the buffer and a read-only buffer are errors."""
    stamper = Stamper(1, instruments=1)
    with pytest.raises(StampError, match="AUTH"):
        stamper.stamp(bytearray(packet()), 98, flags=Flag.AUTH)
    with pytest.raises(StampError, match="99 bytes"):
        stamper.stamp(bytearray(packet()), 99)
    with pytest.raises((BufferError, TypeError, ValueError)):
        stamper.stamp(memoryview(packet()), 98)


def test_authenticated_packets_are_walked_by_their_length() -> None:
    """A tag after the payload belongs to the packet."""
    tagged = packet(flags=Flag.AUTH, tag=b"\0" * 16)
    buffer = bytearray(tagged * 2)
    assert Stamper(1, instruments=1).stamp(buffer, len(buffer)) == 2


def test_the_column_tables_agree() -> None:
    """C and Python number the same message types in the same columns."""
    assert {t: lib.tc_stamp_column(t) for t in range(256) if lib.tc_stamp_column(t) >= 0} == {
        int(k): v for k, v in COLUMN_OF.items()
    }
    assert np.unique(list(COLUMN_OF.values())).size == len(COLUMN_OF)


@given(
    st.lists(one_packet, max_size=6),
    st.lists(st.one_of(one_packet, st.just(heartbeat(0))), max_size=6),
    st.sampled_from([1, 2**32, 2**64 - 2]),
)
def test_a_state_takes_no_number(published: list[bytes], told: list[bytes], next_seq: int) -> None:
    """Packets that tell how things stand carry the last numbers there are; the next event counts
    on as if they had not been.
    """
    native, reference = Stamper(9, instruments=5, next_seq=next_seq), ReferenceStamper(9, next_seq)
    reference.stamp(published, False, 0, 77)
    buffer = bytearray(b"".join(published))
    native.stamp(buffer, len(buffer), ts_send_ns=77)
    buffer = bytearray(b"".join(told))
    assert native.stamp_state(buffer, len(buffer), ts_send_ns=78) == len(told)
    expected = b""
    for data in told:
        head = fields(data)
        head["session"], head["channel_seq"], head["ts_send_ns"] = (
            9,
            (native.next_seq - 1) % 2**64,
            78,
        )
        last = reference.last.get((head["instrument_seq"], head["msg_type"]), 0)
        head["instrument_seq"] = last if head["instrument_id"] else 0
        expected += HEADER.pack(*head.values()) + data[66:]
    assert bytes(buffer) == expected
    following = bytearray(packet())
    native.stamp(following, len(following), ts_send_ns=79)
    assert bytes(following) == reference.stamp([packet()], False, 0, 79)[0]


def test_a_state_that_cannot_be_stamped_is_refused() -> None:
    """As an event is, and unchanged."""
    stamper = Stamper(1, instruments=1)
    for data, reason in (
        (packet(instrument_seq=1), "index"),
        (packet()[:-1], "no packet"),
        (heartbeat(0), ""),
    ):
        buffer = bytearray(packet() + data)
        if not reason:
            assert stamper.stamp_state(buffer, len(buffer), ts_send_ns=5) == 2
            continue
        with pytest.raises(StampError, match=reason) as raised:
            stamper.stamp_state(buffer, len(buffer), ts_send_ns=5)
        assert raised.value.offset == len(packet())
        assert bytes(buffer) == packet() + data
    with pytest.raises(StampError, match="bytes in a buffer of"):
        stamper.stamp_state(bytearray(5), 6, ts_send_ns=5)
