"""`tapecast.capture`: the feeder's latency is that of market data passed on at once, and of
nothing else.
"""

from __future__ import annotations

import numpy as np

from tapecast.capture import Pushed
from tapecast.protocol.dtypes import HEADER
from tapecast.protocol.schema import Flag, MsgType


def _headers(*rows: tuple[int, MsgType, int, int]) -> np.ndarray:
    """Return headers of (channel, type, flags, receive time)."""
    out = np.zeros(len(rows), HEADER)
    for name, column in zip(
        ("channel_id", "msg_type", "flags", "ts_recv_ns"), zip(*rows, strict=True), strict=True
    ):
        out[name] = column
    return out


def test_updates_that_waited_for_an_order_book_are_left_out() -> None:
    """Older than a packet before on the same channel, also across reads; other channels have
    their own clock.
    """
    pushed, trade = Pushed(), MsgType.TRADE
    rows = [
        (1, trade, 0, 100),
        (1, trade, 0, 400),
        (2, trade, 0, 50),
        (1, MsgType.BOOK, 0, 200),
        (1, trade, 0, 400),
    ]
    assert pushed.mask(_headers(*rows)).tolist() == [True, True, True, False, True]
    assert pushed.mask(
        _headers((1, trade, 0, 399), (2, trade, 0, 51), (1, trade, 0, 500))
    ).tolist() == [False, True, True]
    assert pushed.mask(np.zeros(0, HEADER)).tolist() == []


def test_definitions_statuses_and_fetched_order_books_are_left_out() -> None:
    """A snapshot counts where the stream pushes it and not where it was fetched; a repeated
    packet has no receive time.
    """
    rows = [
        (1, MsgType.BOOK, int(Flag.SNAPSHOT), 10),
        (1, MsgType.BOOK, 0, 20),
        (2, MsgType.BOOK, int(Flag.SNAPSHOT), 10),
        (2, MsgType.INSTRUMENT, 0, 11),
        (2, MsgType.STATUS, 0, 12),
        (2, MsgType.BOOK, int(Flag.SNAPSHOT), 0),
    ]
    assert Pushed([1]).mask(_headers(*rows)).tolist() == [False, True, True, False, False, False]
