"""When to connect again: growing waits with jitter, forgiveness after a minute of data, and a
pause in a storm.
"""

from __future__ import annotations

import pytest

from tapecast.runtime.net.backoff import Backoff, BackoffPolicy

SECOND = 1_000_000_000


def waits(backoff: Backoff, count: int, fraction: float, gap_s: float = 1000.0) -> list[float]:
    """Lose a connection `count` times, far enough apart that no circuit opens; return the waits."""
    out = []
    for number in range(count):
        now = int(number * gap_s * SECOND)
        backoff.connecting(now)
        out.append(backoff.lost(now, fraction)[0])
    return out


@pytest.mark.parametrize(("fraction", "spread"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_waits_grow_to_a_cap_and_are_spread(fraction: float, spread: float) -> None:
    """min(30, 0.5 x 1.7^n), of which between half and all."""
    found = waits(Backoff(BackoffPolicy()), 20, fraction)
    assert found == pytest.approx([min(30.0, 0.5 * 1.7**n) * spread for n in range(20)])
    assert max(found) <= 30.0


def test_waits_never_end_and_never_overflow() -> None:
    """Ten thousand losses later the wait is the cap."""
    assert waits(Backoff(BackoffPolicy()), 10_000, 1.0)[-1] == 30.0


def test_a_minute_of_data_is_forgiveness() -> None:
    """The next loss starts from the beginning; 59 s do not."""
    for seconds, expected in ((60, 0.5), (59, 0.5 * 1.7**5)):
        backoff = Backoff(BackoffPolicy())
        waits(backoff, 5, 1.0)
        backoff.connecting(10_000 * SECOND)
        backoff.data(10_000 * SECOND)
        assert backoff.lost((10_000 + seconds) * SECOND, 1.0)[0] == pytest.approx(expected)


def test_connection_without_data_is_not_forgiven() -> None:
    """Being connected proves nothing: only data start the minute."""
    backoff = Backoff(BackoffPolicy())
    waits(backoff, 5, 1.0)
    backoff.connecting(10_000 * SECOND)
    assert backoff.lost(20_000 * SECOND, 1.0)[0] == pytest.approx(0.5 * 1.7**5)


def test_data_of_an_earlier_connection_do_not_count_for_the_next() -> None:
    """The minute is one connection's."""
    backoff = Backoff(BackoffPolicy())
    waits(backoff, 5, 1.0)
    backoff.data(10_000 * SECOND)
    backoff.lost(10_010 * SECOND, 1.0)
    assert backoff.lost(10_100 * SECOND, 1.0)[0] == pytest.approx(0.5 * 1.7**6)


def test_storm_opens_the_circuit() -> None:
    """More than ten connects within five minutes: a minute of pause, said to the caller; spread
    over more time, none.
    """
    backoff = Backoff(BackoffPolicy())
    found = []
    for number in range(12):
        backoff.connecting(number * SECOND)
        found.append(backoff.lost(number * SECOND, 0.0))
    assert [tripped for _, tripped in found] == [False] * 10 + [True] * 2
    assert all(delay >= 60.0 for delay, tripped in found if tripped)
    later = 400 * SECOND
    backoff.connecting(later)
    assert not backoff.lost(later, 0.0)[1]


def test_thousand_refusals_stay_within_the_venues_limit() -> None:
    """A server that closes right after accepting: never more than 300 connects in five minutes,
    in fact far fewer.
    """
    backoff = Backoff(BackoffPolicy())
    now, times = 0, []
    for _ in range(1000):
        backoff.connecting(now)
        times.append(now)
        delay, _ = backoff.lost(now, 0.0)
        now += int(delay * SECOND)
    worst = max(sum(1 for t in times if start <= t < start + 300 * SECOND) for start in times)
    assert worst <= 20


def test_memory_is_that_of_the_window() -> None:
    """What lies before the circuit's window is forgotten."""
    backoff = Backoff(BackoffPolicy())
    for number in range(5000):
        backoff.connecting(number * 30 * SECOND)
        backoff.lost(number * 30 * SECOND, 1.0)
    assert len(backoff._connects) <= 11
