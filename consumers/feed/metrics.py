"""A feed's counters on /metrics and /healthz: what `Feed(metrics_port=…)` serves.

A feed belongs to one thread, so that thread publishes its counters here about once a second
(`update`), and the endpoint's thread answers from the last ones. A consumer that no longer does
is unhealthy: it hangs, and loses data while it does. Internal to the feed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from tapecast.consumers.feed.stats import FeedStats
from tapecast.runtime.service.endpoint import Endpoint, in_thread
from tapecast.runtime.service.subject import Health

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["FeedMetrics"]

_INTERVAL_S: Final = 1.0
_SILENT_S: Final = 10.0
_COUNTERS: Final = {
    "received": "Packets that came in",
    "lost": "Numbers of the channel sequence that never came",
    "repaired": "Lost packets that a recovery service brought back",
    "reordered": "Packets that came in another order",
    "duplicates": "Packets that had come before",
    "old_session": "Packets of a publisher that has been replaced",
    "undefined": "Packets passed over for want of a definition",
    "kernel_drops": "Datagrams that the kernel dropped because this process was too slow",
    "rejoins": "Times that a silent group was joined again",
    "requests": "Requests to recovery services",
    "gaps": "Gap events",
    "events": "Events handed out",
}


class FeedMetrics:
    """The counters of one feed as of its last `update`. `name` distinguishes this consumer."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: tuple[FeedStats, float] | None = None

    @property
    def due(self) -> bool:
        """Whether the last update is more than a second old."""
        return self._last is None or time.monotonic() - self._last[1] >= _INTERVAL_S

    def update(self, stats: FeedStats) -> None:
        """Take the feed's counters; to be called in the feed's own thread."""
        self._last = (stats, time.monotonic())

    def serve(self, port: int, address: str = "127.0.0.1") -> AbstractContextManager[int]:
        """Return a context that answers on a port (0 = any) in a thread of its own, and is that
        port. Entering raises TryAgainError where the port is in use.
        """
        return in_thread(
            Endpoint(address, port, self.metrics, self.health, key="metrics_port of the Feed")
        )

    def metrics(self) -> Iterator[Metric]:
        """Yield the counters of the last update, each under its own name."""
        if self._last is None:
            return
        stats, _ = self._last
        for field, meaning in _COUNTERS.items():
            family = CounterMetricFamily(f"tapecast_feed_{field}", meaning, labels=["consumer"])
            family.add_metric([self._name], getattr(stats, field))
            yield family
        invalid = CounterMetricFamily(
            "tapecast_feed_invalid",
            "Datagrams that were no valid packets",
            labels=["consumer", "reason"],
        )
        for reason, count in stats.invalid.items():
            invalid.add_metric([self._name, reason], count)
        yield invalid
        recovery = CounterMetricFamily(
            "tapecast_feed_recovery",
            "What came of requests to recovery services",
            labels=["consumer", "outcome"],
        )
        for outcome, count in stats.recovery.items():
            recovery.add_metric([self._name, outcome], count)
        yield recovery
        lines = CounterMetricFamily(
            "tapecast_feed_line_lost",
            "Packets that a line did not bring",
            labels=["consumer", "channel", "line"],
        )
        for channel, of_lines in stats.lines.items():
            for line in of_lines:
                lines.add_metric([self._name, str(channel), str(line.line)], line.lost)
        yield lines
        yield self._quantiles(
            "lag_seconds",
            "Send call to read, by both wall clocks",
            {"0.5": stats.lag_p50_ns, "0.99": stats.lag_p99_ns},
        )
        yield self._quantiles(
            "repair_seconds",
            "From asking for lost packets to the last of them",
            {"0.5": stats.repair_p50_ns, "0.99": stats.repair_p99_ns},
        )

    def _quantiles(
        self, name: str, meaning: str, values_ns: dict[str, int | None]
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            f"tapecast_feed_{name}", meaning, labels=["consumer", "quantile"]
        )
        for quantile, value_ns in values_ns.items():
            if value_ns is not None:
                family.add_metric([self._name, quantile], value_ns / 1e9)
        return family

    def health(self) -> Health:
        """Return whether the feed still updates its counters."""
        if self._last is None:
            return Health((f"{self._name}: the feed has not begun",), (), {})
        stats, at = self._last
        silent_s = time.monotonic() - at
        reasons = (
            (f"{self._name}: the consumer has taken no events for {silent_s:.0f} s",)
            if silent_s > _SILENT_S
            else ()
        )
        return Health(
            reasons,
            (),
            {"received": stats.received, "lost": stats.lost, "silent_s": round(silent_s, 1)},
        )
