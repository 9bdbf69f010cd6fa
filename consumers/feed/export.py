"""A feed's counters on /metrics and /healthz, for any consumer: a script, a logger, a bridge.

A feed belongs to one thread, so that thread says now and then what its counters are (`note`),
and the endpoint's thread answers from what was said last. A consumer that has stopped saying
anything is unhealthy: it hangs, and loses data while it does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from tapecast.consumers.feed.stats import FeedStats
from tapecast.runtime.service.endpoint import Endpoint, Health, in_thread

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["FeedExport", "exported"]

_SILENT_S = 10.0
_COUNTERS = {
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


class FeedExport:
    """What one feed counted when it last said so. `name` tells this consumer from others."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said: tuple[FeedStats, float] | None = None

    def note(self, stats: FeedStats) -> None:
        """Take the feed's counters, in the feed's own thread; call about once a second."""
        self._said = (stats, time.monotonic())

    def metrics(self) -> Iterator[Metric]:
        """Return the counters as last noted."""
        if self._said is None:
            return
        stats, _ = self._said
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
        """Return whether the feed still says something."""
        if self._said is None:
            return Health((f"{self._name}: the feed has not begun",), (), {})
        stats, at = self._said
        silent_s = time.monotonic() - at
        reasons = (
            (f"{self._name}: the consumer has said nothing for {silent_s:.0f} s",)
            if silent_s > _SILENT_S
            else ()
        )
        return Health(
            reasons,
            (),
            {"received": stats.received, "lost": stats.lost, "silent_s": round(silent_s, 1)},
        )


@contextlib.contextmanager
def exported(name: str, port: int, *, address: str = "127.0.0.1") -> Iterator[FeedExport]:
    """Answer for a feed on a port for the length of the block. Raises TryAgainError where the
    port is in use.
    """
    export = FeedExport(name)
    with in_thread(Endpoint(address, port, export.metrics, export.health, key="the port given")):
        yield export
