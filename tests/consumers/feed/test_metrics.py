"""A feed's counters as a scraper sees them; a consumer that hangs is unhealthy."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tapecast import Feed
from tapecast.consumers.feed import metrics
from tapecast.consumers.feed.metrics import FeedMetrics
from tapecast.consumers.feed.source import Chunks
from tapecast.consumers.feed.stats import FeedStats
from tapecast.protocol.net.sequencing import LineStats
from tapecast.runtime.errors import TryAgainError
from tests.consumers.publisher import btcusdt

LABELS = ("reason", "quantile", "outcome", "line")
STATS = FeedStats(
    received=100,
    lost=3,
    repaired=1,
    reordered=2,
    duplicates=4,
    invalid={"magic": 5},
    old_session=6,
    undefined=7,
    kernel_drops=8,
    rejoins=9,
    gaps=2,
    events=90,
    lag_p50_ns=250_000,
    lag_p99_ns=None,
    requests=2,
    recovery={"busy": 1},
    repair_p50_ns=3_000_000,
    repair_p99_ns=None,
    lines={7: [LineStats(0, 95, 3), LineStats(1, 97, 1)]},
)


def asked(port: int, path: str) -> tuple[int, str]:
    """Return status and body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5.0) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_counters_are_those_of_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every counter of `FeedStats` under its own name; before the first update there is none,
    and the consumer is unhealthy.
    """
    one = FeedMetrics("script")
    with one.serve(0) as port:
        status, body = asked(port, "/healthz")
        assert (status, json.loads(body)["reasons"]) == (503, ["script: the feed has not begun"])
        one.update(STATS)
        assert asked(port, "/healthz")[0] == 200
        text = asked(port, "/metrics")[1]
        found = {
            (
                sample.name,
                next((v for k, v in sample.labels.items() if k in LABELS), None),
            ): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if family.name.startswith("tapecast")
        }
        labelled = ("lag_", "repair_", "invalid", "recovery", "lines")
        counters = {
            field: getattr(STATS, field)
            for field in STATS.__struct_fields__
            if not field.startswith(labelled)
        }
        assert {name for name, label in found if label is None} == {
            f"tapecast_feed_{field}_total" for field in counters
        }
        assert all(
            found[f"tapecast_feed_{field}_total", None] == value
            for field, value in counters.items()
        )
        assert found["tapecast_feed_invalid_total", "magic"] == 5
        assert found["tapecast_feed_recovery_total", "busy"] == 1
        assert (
            found["tapecast_feed_line_lost_total", "0"],
            found["tapecast_feed_line_lost_total", "1"],
        ) == (3, 1)
        assert found["tapecast_feed_lag_seconds", "0.5"] == pytest.approx(250e-6)
        assert found["tapecast_feed_repair_seconds", "0.5"] == pytest.approx(3e-3)
        monkeypatch.setattr(metrics, "_SILENT_S", -1.0)
        status, body = asked(port, "/healthz")
        assert status == 503
        assert json.loads(body)["reasons"][0].startswith(
            "script: the consumer has taken no events for "
        )


def test_a_feed_serves_its_own_counters_until_it_is_closed() -> None:
    """The script does nothing for it but name a port; the port is free again afterwards."""
    packets = btcusdt()
    with Feed(source=Chunks([b"".join(packets)]), metrics_port=0, name="script") as feed:
        assert feed.metrics_port
        list(feed)
        text = asked(feed.metrics_port, "/metrics")[1]
        assert f'tapecast_feed_received_total{{consumer="script"}} {len(packets)}.0' in text
        assert asked(feed.metrics_port, "/healthz")[0] == 200
        with pytest.raises(TryAgainError, match=rf"127\.0\.0\.1:{feed.metrics_port} .* in use"):
            Feed(source=Chunks([]), metrics_port=feed.metrics_port)
    with pytest.raises(urllib.error.URLError):
        asked(feed.metrics_port, "/metrics")
