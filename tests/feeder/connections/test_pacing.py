"""A connection never sends more than its venue takes, in the short window nor in the long one."""

from __future__ import annotations

from bisect import bisect_left

from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.feeder.connections.pacing import Pace
from tapecast.protocol.units import NS_PER_S
from tapecast.runtime import config as configuration


@settings(deadline=None)
@given(
    messages=st.integers(1, 10),
    long=st.integers(0, 30),
    asks=st.lists(st.tuples(st.integers(0, NS_PER_S), st.booleans()), max_size=120),
)
def test_requests_stay_within_both_windows(
    messages: int, long: int, asks: list[tuple[int, bool]]
) -> None:
    """Pings go when they are due and count; requests wait until both windows have room, and one
    message is kept for pongs.
    """
    limits = {
        "messages": messages,
        "messages_window_s": 1,
        "messages_long": long,
        "messages_long_window_s": 10,
    }
    pace = Pace(limits)
    now_ns = 0
    sent: list[tuple[int, bool]] = []
    for pause, ping in asks:
        now_ns += pause
        if not ping:
            now_ns += pace.wait_ns(now_ns)
            assert pace.wait_ns(now_ns) == 0
        pace.sent(now_ns)
        sent.append((now_ns, ping))
    times = [at for at, _ in sent]
    for count, window_ns in ((max(1, messages - 1), NS_PER_S), (max(1, long - 1), 10 * NS_PER_S)):
        if count == max(1, long - 1) and not long:
            continue
        for last, (at, ping) in enumerate(sent):
            if not ping:
                first = bisect_left(times, at - window_ns + 1)
                assert (
                    last - first + 1 <= count
                    or last - first + 1 - sum(p for _, p in sent[first : last + 1]) <= count
                )


def test_without_limits_nothing_waits() -> None:
    """A venue that says nothing is not slowed down."""
    pace = Pace({})
    for _ in range(100):
        assert pace.wait_ns(5) == 0
        pace.sent(5)


def test_the_packaged_limits_let_every_venue_subscribe() -> None:
    """Each venue's limits permit at least one request a window."""
    for name, venue in configuration.load(environ={}).venues.items():
        pace = Pace(venue.limits)
        assert pace.wait_ns(0) == 0, name
        pace.sent(0)
        assert pace.wait_ns(0) <= 3600 * NS_PER_S, name
