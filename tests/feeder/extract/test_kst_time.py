"""A clock in Korea without a date: dated by the receive time, alike by both extractors."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapecast.feeder.extract.exact import kst_ns
from tapecast.feeder.extract.shapes import BidAskRows, BookShape, Numbers, Rows, TimeUnit
from tapecast.feeder.extract.types import ExtractStatus
from tapecast.protocol._native import ffi, lib
from tapecast.protocol.schema import Flag
from tests.support.extract_pair import Pair

BOOK = BookShape(
    name="x",
    numbers=Numbers.QUOTED,
    symbol="s",
    ts="T",
    ts_unit=TimeUnit.KST,
    levels=BidAskRows(bids=Rows("b")),
)


def _kst_c(text: str, ts_recv_ns: int) -> tuple[int, bool] | None:
    ns = ffi.new("int64_t *")
    data = text.encode()
    result = lib.tc_kst_ns(data, len(data), ts_recv_ns, ns)
    return None if result < 0 else (ns[0], False)


_SECOND, _HOUR = 10**9, 3600 * 10**9
_MIDNIGHT = int(datetime(2025, 11, 25, 15, tzinfo=UTC).timestamp()) * _SECOND
"""26 November 2025, 00:00 in Korea."""


@pytest.mark.parametrize(
    ("clock", "received", "expected"),
    [
        ("092619", _MIDNIGHT + 34_000 * _SECOND, _MIDNIGHT + 33_979 * _SECOND),
        ("235959", _MIDNIGHT + 1, _MIDNIGHT - _SECOND),
        ("000001", _MIDNIGHT - _SECOND, _MIDNIGHT + _SECOND),
        ("000000", _MIDNIGHT - 1, _MIDNIGHT),
        ("010000", _MIDNIGHT, _MIDNIGHT + _HOUR),
        ("230000", _MIDNIGHT, _MIDNIGHT - _HOUR),
        ("225959", _MIDNIGHT, 0),
        ("010001", _MIDNIGHT, 0),
        ("120000", _MIDNIGHT, 0),
        ("092619", 0, 0),
        ("092619", 2**63 - 1, 0),
        ("240000", _MIDNIGHT, 0),
        ("236000", _MIDNIGHT, 0),
        ("235960", _MIDNIGHT, 0),
        ("", _MIDNIGHT, 0),
        ("      ", _MIDNIGHT, 0),
        ("92619", _MIDNIGHT, None),
        ("0926190", _MIDNIGHT, None),
        ("09:261", _MIDNIGHT, None),
        (" 92619", _MIDNIGHT, None),
        (92619, _MIDNIGHT, None),
    ],
)
def test_a_clock_in_korea_is_dated_by_the_receive_time(
    clock: object, received: int, expected: int | None
) -> None:
    """Across midnight, and 0 where the date cannot be known; always flagged, because whole
    seconds are coarse.
    """
    x = Pair([BOOK])
    x.add("BTCUSDT")
    status = x.run(json.dumps({"s": "BTCUSDT", "T": clock, "b": []}).encode(), ts_recv_ns=received)
    assert x.declined == 0
    if expected is None:
        assert status == ExtractStatus.WRONG_TYPE
        return
    assert status == ExtractStatus.OK
    header = x.packets()[0].header
    assert (header.ts_exchange_ns, bool(header.flags & Flag.BAD_TS_EXCHANGE)) == (expected, True)


@given(
    st.from_regex(r"[0-2][0-9][0-6][0-9][0-6][0-9]| {0,7}|.{6}", fullmatch=True),
    st.integers(0, 2**63 - 1),
)
def test_both_read_a_clock_alike(text: str, received: int) -> None:
    """Any text at any receive time."""
    assert kst_ns(text, received) == _kst_c(text, received)


@given(st.integers(10**18, 2**63 - 2**57), st.integers(-3600, 3600))
def test_a_clock_near_the_receive_time_is_exact(received: int, offset: int) -> None:
    """To the second, for every receive time up to an hour away."""
    moment = (received // _SECOND + offset) * _SECOND
    clock = datetime.fromtimestamp(moment // _SECOND, UTC) + timedelta(hours=9)
    expected = moment if abs(moment - received) <= _HOUR else 0
    assert kst_ns(f"{clock:%H%M%S}", received) == (expected, False)
