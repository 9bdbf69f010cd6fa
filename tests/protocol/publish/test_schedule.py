"""When heartbeats are due; cycles are `test_publisher.py`'s."""

from __future__ import annotations

from tapecast.protocol.publish.schedule import Schedule, SchedulePolicy

MS = 1_000_000
POLICY = SchedulePolicy(
    heartbeat_idle_ms=250, heartbeat_max_ms=1000, definition_cycle_s=5.0, snapshot_cycle_s=0.0
)


def beats(packets_at: range, until_ms: int) -> list[int]:
    """Return the moments, in ms, of the heartbeats of a channel that publishes at these ms."""
    start_ns = 10**12
    schedule, packets, found = Schedule(POLICY, start_ns), 0, []
    for at in range(0, until_ms, 25):
        packets += at in packets_at
        if schedule.heartbeat_due(packets, start_ns + at * MS):
            found.append(at)
    return found


def test_a_silent_channel_beats_after_each_idle_interval() -> None:
    """The first heartbeat comes at once, the others 250 ms apart."""
    assert beats(range(0), 1100) == [0, 250, 500, 750, 1000]


def test_a_busy_channel_beats_once_in_the_longest_interval() -> None:
    """Packets every 25 ms leave no silence; the promised interval is kept all the same."""
    assert beats(range(0, 3000, 25), 3000) == [0, 1000, 2000]


def test_a_pause_after_packets_is_a_silence() -> None:
    """250 ms after the last packet a heartbeat shows whether it arrived."""
    assert beats(range(0, 325, 25), 700) == [0, 550]


def test_a_second_is_due_once() -> None:
    """Whoever asks more often gets one yes a second."""
    schedule = Schedule(POLICY, 0)
    assert [at for at in range(0, 3000, 300) if schedule.second_due(at * MS)] == [1200, 2400]
