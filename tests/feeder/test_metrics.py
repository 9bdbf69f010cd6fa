"""What a feeder's metrics and health say of a venue that does what the test wants: the numbers
of the live objects.
"""

from __future__ import annotations

import time
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from tapecast.feeder.live import LiveFeeder
from tapecast.feeder.metrics import FeederMetrics
from tapecast.feeder.record.recorder import Recorder
from tapecast.protocol.schema import VENUES
from tests.feeder.record.test_record import settings
from tests.feeder.test_live import UPBIT, upbit_books
from tests.support.processes import Net
from tests.support.venue_server import Link, VenueServer, eventually, feeding

_LABELS = ("venue", "connection", "line", "kind", "state", "what")


def scraped(feeder: LiveFeeder) -> dict[tuple[str, ...], float]:
    """Return every sample as a scraper reads it: name and label values, the venue first, to
    value.
    """

    class Source(Collector):
        def collect(self) -> object:  # type: ignore[override]
            return FeederMetrics([feeder], 60.0).metrics(time.monotonic_ns())

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Source())
    text = generate_latest(registry).decode()
    return {
        (
            sample.name,
            *(sample.labels[label] for label in _LABELS if label in sample.labels),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_are_the_feeders_own_numbers(tmp_path: Path) -> None:
    """Connections, session, channel, REST and books, each under its labels."""
    books = upbit_books(3)

    async def script(link: Link) -> None:
        for book in books:
            await link.send(book)
        await link.send("{")

    async with (
        VenueServer(script).running() as server,
        feeding("upbit", server, Net(), tmp_path, **UPBIT) as feeder,
    ):
        await eventually(
            lambda: (
                feeder.session.counts["quarantine"] == 1 and feeder.publisher.events()["book"] == 3
            )
        )
        found = scraped(feeder)
        assert found["tapecast_connection_up", "upbit", "ws.1"] == 1
        assert found["tapecast_connection_opened_total", "upbit", "ws.1"] == 1
        assert found["tapecast_connection_messages_total", "upbit", "ws.1"] == 4
        assert 0 <= found["tapecast_connection_data_age_seconds", "upbit", "ws.1"] < 60
        assert 0 < found["tapecast_connection_uptime_seconds", "upbit", "ws.1"] < 60
        assert found["tapecast_connections_lost_total", "upbit"] == 0
        assert found["tapecast_topics_unproved", "upbit"] == feeder.connections.unproved
        assert found["tapecast_parse_errors_total", "upbit"] == 1
        assert (
            found["tapecast_gaps_total", "upbit"] == found["tapecast_resyncs_total", "upbit"] == 0
        )
        assert found["tapecast_books", "upbit", "live"] == 1
        assert found["tapecast_events_total", "upbit", "book"] == 3
        assert found["tapecast_packets_total", "upbit"] == feeder.publisher.packets
        assert found["tapecast_bytes_total", "upbit"] == feeder.publisher.bytes > 0
        assert found["tapecast_channel_last_seq", "upbit"] == feeder.publisher.last_seq > 3
        assert found["tapecast_channel_session", "upbit"] == feeder.publisher.session
        assert found["tapecast_send_dropped_total", "upbit", "A"] == 0
        assert found["tapecast_rest_requests_total", "upbit"] == feeder.rest.requests > 0
        assert (
            found["tapecast_rest_weight_used_total", "upbit"]
            >= found["tapecast_rest_requests_total", "upbit"]
        )
        assert not any(name.startswith("tapecast_record") for name, *_ in found)
        await server.links[0].close()
        await eventually(
            lambda: scraped(feeder)["tapecast_connection_opened_total", "upbit", "ws.1"] == 2
        )


async def test_health_follows_connection_data_and_books(tmp_path: Path) -> None:
    """No connection and no data are unhealthy, books that are not live are unready, a stopped
    heartbeat is stuck.
    """
    book = upbit_books(1)[0]
    accept = True

    async def script(link: Link) -> None:
        if not accept:
            await link.close()
        await link.send(book)

    server = VenueServer(script)
    async with server.running(), feeding("upbit", server, Net(), tmp_path, **UPBIT) as feeder:
        observed = FeederMetrics([feeder], 60.0)
        assert not observed.serving()
        await eventually(lambda: feeder.session.live_books() == 1)
        await eventually(observed.serving)
        health = observed.health(time.monotonic_ns())
        assert (health.unhealthy, health.unready) == ((), ())
        assert "1 of 1 connections, 1 live books" in observed.status()
        later = time.monotonic_ns() + 61_000_000_000
        assert "upbit: no data for 61 s" in observed.health(later).unhealthy
        assert FeederMetrics([feeder], 0.0).health(later).unhealthy == tuple(observed.stuck(later))
        assert observed.stuck(time.monotonic_ns()) == []
        assert observed.stuck(later)[0].startswith("upbit: no heartbeat for 6")
        accept = False
        await server.links[0].close()
        await eventually(
            lambda: (
                "upbit: no connection to the venue"
                in observed.health(time.monotonic_ns()).unhealthy
            )
        )


async def test_a_recording_is_shown(tmp_path: Path) -> None:
    """Lines, bytes, drops and whether the disk takes them."""
    books = upbit_books(3)

    async def script(link: Link) -> None:
        for book in books:
            await link.send(book)

    recorder = Recorder("upbit", settings(tmp_path / "recordings"))
    async with (
        VenueServer(script).running() as server,
        feeding("upbit", server, Net(), tmp_path, recorder=recorder, **UPBIT) as feeder,
    ):
        await eventually(
            lambda: (
                feeder.publisher.events()["book"] == 3
                and recorder.lines >= 6
                and recorder.waiting == 0
            )
        )
        found = scraped(feeder)
        assert found["tapecast_record_lines_total", "upbit"] == recorder.lines >= 6
        assert found["tapecast_record_bytes_total", "upbit"] == recorder.written > 0
        assert found["tapecast_record_files_total", "upbit"] == 1
        for name in ("dropped_total", "failures_total", "stopped", "waiting_bytes"):
            assert found[f"tapecast_record_{name}", "upbit"] == 0
        recorder.error = "No space left on device"
        assert scraped(feeder)["tapecast_record_stopped", "upbit"] == 1
        health = FeederMetrics([feeder], 60.0).health(time.monotonic_ns())
        assert health.unready == ("upbit: recording stopped: No space left on device",)
        assert "recording stopped" in FeederMetrics([feeder], 60.0).status()
        recorder.error = ""


def test_every_venue_has_a_port_of_its_own() -> None:
    """Ids are distinct and below the distance between a feeder's port and a recorder's."""
    assert len(set(VENUES.values())) == len(VENUES)
    assert max(VENUES.values()) < 100
