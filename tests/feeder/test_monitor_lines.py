"""The plain text lines of the monitoring group."""

from __future__ import annotations

import pytest

from tapecast.feeder.monitor_lines import MonitorLines, conn_line, exchange_line
from tests.support.feeder_frames import Feed, spot_depth, spot_trade

SECOND = 1_000_000_000


def test_lines_have_their_documented_form() -> None:
    """Fields in order, joined by bars; counts as key=value joined by commas."""
    assert conn_line("okx", 2, 1, 7, 3) == "CONN|okx|2|1|7|3"
    assert (
        exchange_line("okx", "feed", {"trade": 5, "book": 0}, 17)
        == "EXCHANGE|okx|feed|trade=5,book=0|17"
    )


class Told:
    """An monitor_lines of a Binance session, and what it sent."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.feed = Feed("binance", "LRCBTC")
        send = lambda data: self.lines.append(data.decode())  # noqa: E731 - a stand-in
        self.monitor_lines = MonitorLines("binance", "feed", send, 5.0, 1.0)

    def tick(
        self, now_s: float, connections: tuple[int, int, int, int] = (1, 0, 0, 1)
    ) -> list[str]:
        """Let the monitor_lines act at a time; return the lines it sent."""
        self.lines.clear()
        self.monitor_lines.tick(
            int(now_s * SECOND), 99, connections, self.feed.session, self.feed.publisher
        )
        return list(self.lines)


def test_lines_come_in_their_intervals() -> None:
    """CONN every 5 s, EXCHANGE every second, both at once at the start."""
    told = Told()
    kinds = [[line.split("|")[0] for line in told.tick(tenth / 10)] for tenth in range(101)]
    assert kinds[0] == ["CONN", "EXCHANGE"]
    assert [tenth / 10 for tenth, lines in enumerate(kinds) if "CONN" in lines] == [0.0, 5.0, 10.0]
    assert [tenth / 10 for tenth, lines in enumerate(kinds) if "EXCHANGE" in lines] == [
        float(second) for second in range(11)
    ]


def test_change_of_the_connections_is_told_at_once() -> None:
    """A lost connection does not wait for the interval."""
    told = Told()
    told.tick(0.0)
    assert told.tick(0.1, (0, 1, 1, 1)) == ["CONN|binance|0|1|1|1"]
    assert told.tick(0.2, (0, 1, 1, 1)) == []


def test_counts_are_cumulative_and_say_what_went_wrong() -> None:
    """Events by kind, messages put aside, losses, resynchronisations, books and how many are
    LIVE.
    """
    told = Told()
    told.feed.spot_live([("0.00001150", "1")], [])
    told.feed.frame(spot_trade("0.00001150", "1"), b"{", spot_depth(103, 104))
    (line,) = (line for line in told.tick(0.0) if line.startswith("EXCHANGE"))
    name, exchange, kind, counts, ts_ns = line.split("|")
    assert (name, exchange, kind, ts_ns) == ("EXCHANGE", "binance", "feed", "99")
    values = dict(part.split("=") for part in counts.split(","))
    expected = {
        "trade": "1",
        "book": "1",
        "quarantine": "1",
        "gaps": "1",
        "resyncs": "1",
        "live": "0",
        "books": "1",
    }
    assert values.items() >= expected.items()


@pytest.mark.parametrize(
    "name", ["unsent", "batches_failed", "unrecorded", "sync_overflow", "clock_steps"]
)
def test_a_loss_of_our_own_is_told_once_there_is_any(name: str) -> None:
    """One that never happened takes no room in the line."""
    told = Told()
    assert name not in "".join(told.tick(0.0))
    told.feed.session.counts[name] = 7
    assert f"{name}=7" in "".join(told.tick(2.0))
