"""When a silent group is joined again."""

from __future__ import annotations

from tapecast.consumers.feed.source import Multicast, Silences

SECOND = 1_000_000_000


def test_silence_is_answered_less_and_less_often() -> None:
    """After 3 s, then after 6, 12, 15, 15, … more seconds; each line for itself."""
    silences = Silences(2, 0)
    found = [
        (second, line)
        for second in range(60)
        for line in silences.due([second, 0], second * SECOND)
    ]
    assert found == [(3, 1), (9, 1), (21, 1), (36, 1), (51, 1)]


def test_packets_end_the_silence() -> None:
    """The next silence begins with the last packet, and is answered after 3 s again."""
    silences = Silences(1, 0)
    counts = {second: 0 if second < 10 else 5 for second in range(30)}
    assert [
        second for second, count in counts.items() if silences.due([count], second * SECOND)
    ] == [3, 9, 13, 19]


def test_a_silent_group_is_joined_again_and_counted() -> None:
    """The membership is renewed; an interface that is gone is not the end of the feed."""
    source = Multicast([("239.255.42.207", 0)], interface="127.0.0.1", rcvbuf=1 << 16)
    start = source.now_ns()
    source.watch(start + 2 * SECOND)
    assert source.rejoins == 0
    source.watch(start + 4 * SECOND)
    assert source.rejoins == 1
    source.receiver._index = 0
    source.receiver._interface = "192.0.2.1"
    source.watch(start + 60 * SECOND)
    assert source.rejoins == 1
    source.close()
