"""Feeders as their process's service shows them: metrics, health and a line of status, read from
the live objects when asked.

Nothing is counted here and nothing is decided. Names and meanings: `docs/operations.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from tapecast.feeder.live import LiveFeeder
from tapecast.feeder.record.recorder import Recorder
from tapecast.protocol.schema import StatusState
from tapecast.runtime.service.subject import Health

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["FeederMetrics"]

_STUCK_S = 5.0
"""The heartbeats' loop turns forty times a second; one that has not for so long will not again.
"""
_OWN = frozenset({"quarantine", "gaps", "resyncs", "unrecorded", "unsent"})
"""Counts of a session that have a metric of their own."""


class FeederMetrics:
    """What the feeders of one process show as `runtime.service.subject.Subject`. `no_data_s`:
    silence that makes a venue unhealthy, 0 = none.
    """

    def __init__(self, feeders: Sequence[LiveFeeder], no_data_s: float) -> None:
        self.feeders = feeders
        self._no_data_ns = int(no_data_s * 1e9)

    def stuck(self, now_ns: int) -> Sequence[str]:
        """Return which feeders' loops have stopped turning."""
        silent = [(feeder.name, (now_ns - feeder.ticked_ns) / 1e9) for feeder in self.feeders]
        return [
            f"{name}: no heartbeat for {silence_s:.0f} s"
            for name, silence_s in silent
            if silence_s > _STUCK_S
        ]

    def serving(self) -> bool:
        """Return whether any feeder has published market data."""
        return any(any(feeder.publisher.events().values()) for feeder in self.feeders)

    def status(self) -> str:
        """Return connections, books and packets of each venue."""
        return "; ".join(
            f"{feeder.name}: {feeder.connections.up} of {len(feeder.connections.all)} connections,"
            f" {feeder.session.live_books()} live books, {feeder.publisher.packets}"
            f" packets{_standstill(feeder.recorder)}"
            for feeder in self.feeders
        )

    def health(self, now_ns: int) -> Health:
        """Return why a venue is not healthy, which books are not live, and the numbers."""
        unhealthy = list(self.stuck(now_ns))
        unready: list[str] = []
        venues: dict[str, object] = {}
        for feeder in self.feeders:
            name, up, wanted = feeder.name, feeder.connections.up, len(feeder.connections.all)
            age_ns = _data_age_ns(feeder, now_ns)
            if not up:
                unhealthy.append(f"{name}: no connection to the venue")
            elif self._no_data_ns and age_ns is not None and age_ns > self._no_data_ns:
                unhealthy.append(f"{name}: no data for {age_ns / 1e9:.0f} s")
            if 0 < up < wanted:
                unready.append(f"{name}: {up} of {wanted} connections")
            states = _books(feeder)
            required, live = (
                sum(states.values()) - states[StatusState.IDLE],
                states[StatusState.LIVE],
            )
            if live < required:
                unready.append(f"{name}: {live} of {required} books are live")
            if feeder.recorder is not None and feeder.recorder.error:
                unready.append(f"{name}: recording stopped: {feeder.recorder.error}")
            venues[name] = {
                "connections": up,
                "wanted": wanted,
                "data_age_s": None if age_ns is None else round(age_ns / 1e9, 3),
                "books_live": live,
                "books": required,
            }
        return Health(tuple(unhealthy), tuple(unready), {"venues": venues})

    def metrics(self, now_ns: int) -> Iterable[Metric]:
        """Return everything that the feeders count."""
        table = _Table()
        for feeder in self.feeders:
            _connections(table, feeder, now_ns)
            _session(table, feeder)
            _channel(table, feeder)
            if feeder.recorder is not None:
                _recording(table, feeder.name, feeder.recorder)
        return table.metrics()


class _Table:
    """Metric families under construction."""

    def __init__(self) -> None:
        self._families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}

    def count(self, name: str, meaning: str, value: float, **labels: str) -> None:
        """Add a number that only grows."""
        self._add(CounterMetricFamily, name, meaning, value, labels)

    def gauge(self, name: str, meaning: str, value: float, **labels: str) -> None:
        """Add a number that comes and goes."""
        self._add(GaugeMetricFamily, name, meaning, value, labels)

    def metrics(self) -> Iterator[Metric]:
        """Return the families."""
        return iter(self._families.values())

    def _add(
        self,
        kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
        name: str,
        meaning: str,
        value: float,
        labels: dict[str, str],
    ) -> None:
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = kind(f"tapecast_{name}", meaning, labels=list(labels))
        family.add_metric(list(labels.values()), value)


def _connections(table: _Table, feeder: LiveFeeder, now_ns: int) -> None:
    last = feeder.session.last_data_ns
    for stats in feeder.frame_handler.stats.values():
        labels = {"venue": feeder.name, "connection": stats.connection}
        up = stats.opened_ns > 0
        table.gauge("connection_up", "Whether the connection is open", up, **labels)
        table.gauge(
            "connection_uptime_seconds",
            "Time since it was opened",
            (now_ns - stats.opened_ns) / 1e9 if up else 0.0,
            **labels,
        )
        table.count("connection_opened", "Times that it was opened", stats.connects, **labels)
        table.count("connection_messages", "Messages received", stats.messages, **labels)
        if stats.connection in last:
            age_s = (now_ns - last[stats.connection]) / 1e9
            table.gauge(
                "connection_data_age_seconds", "Time since its last market data", age_s, **labels
            )
    pool = feeder.connections
    table.count(
        "connections_lost",
        "Connections that were lost or could not be made",
        pool.losses,
        venue=feeder.name,
    )
    table.gauge(
        "topics_unproved",
        "Subscriptions that have brought no data yet",
        pool.unproved,
        venue=feeder.name,
    )


def _session(table: _Table, feeder: LiveFeeder) -> None:
    venue, counts = feeder.name, feeder.session.counts
    table.count(
        "parse_errors", "Messages that were not understood", counts["quarantine"], venue=venue
    )
    table.count("gaps", "Losses between the venue and this feeder", counts["gaps"], venue=venue)
    table.count(
        "resyncs", "Books that had to be synchronised again", counts["resyncs"], venue=venue
    )
    for name, value in sorted(counts.items()):
        if name not in _OWN:
            table.count("session", "What else the session counts", value, venue=venue, what=name)
    for state, books in _books(feeder).items():
        table.gauge("books", "Books by state", books, venue=venue, state=state.name.lower())
    rest = feeder.rest
    table.count("rest_requests", "REST requests", rest.requests, venue=venue)
    table.count("rest_refused", "REST requests that the venue refused", rest.refused, venue=venue)
    table.count(
        "rest_weight_used",
        "Weight of the REST requests as the venue counts it",
        rest.weight_spent,
        venue=venue,
    )
    table.count(
        "quarantine_lost", "Messages that could not be kept", feeder.quarantine.lost, venue=venue
    )


def _channel(table: _Table, feeder: LiveFeeder) -> None:
    venue, publisher = feeder.name, feeder.publisher
    table.count("packets", "Packets numbered and sent", publisher.packets, venue=venue)
    table.count("bytes", "Bytes of these packets", publisher.bytes, venue=venue)
    table.gauge("channel_session", "Session of the channel", publisher.session, venue=venue)
    table.gauge("channel_last_seq", "Number of the last packet", publisher.last_seq, venue=venue)
    for kind, events in publisher.events().items():
        table.count("events", "Events published", events, venue=venue, kind=kind)
    for line, sender in zip("AB", feeder.line.senders, strict=False):
        stats = sender.stats
        table.count(
            "send_dropped",
            "Packets that the kernel did not take",
            stats.dropped,
            venue=venue,
            line=line,
        )
        table.count("send_errors", "Send calls that failed", stats.errors, venue=venue, line=line)


def _recording(table: _Table, venue: str, recorder: Recorder) -> None:
    table.count("record_lines", "Lines recorded", recorder.lines, venue=venue)
    table.count("record_dropped", "Lines that were not recorded", recorder.dropped, venue=venue)
    table.count("record_bytes", "Compressed bytes written", recorder.written, venue=venue)
    table.count("record_files", "Files begun", recorder.files, venue=venue)
    table.count(
        "record_failures",
        "Times that the disk stopped the recording",
        recorder.failures,
        venue=venue,
    )
    table.gauge(
        "record_stopped",
        "Whether the disk does not take the recording now",
        bool(recorder.error),
        venue=venue,
    )
    table.gauge(
        "record_waiting_bytes",
        "Bytes of lines that wait for the disk",
        recorder.waiting,
        venue=venue,
    )


def _books(feeder: LiveFeeder) -> dict[StatusState, int]:
    states = dict.fromkeys((StatusState.IDLE, StatusState.LIVE), 0)
    for instrument in feeder.session.instruments:
        state = StatusState.STALE if instrument.stale else instrument.sync.state
        states[state] = states.get(state, 0) + 1
    return states


def _data_age_ns(feeder: LiveFeeder, now_ns: int) -> int | None:
    """Return the time since any connection brought data; None without connection."""
    times = feeder.session.last_data_ns.values()
    return now_ns - max(times) if times else None


def _standstill(recorder: Recorder | None) -> str:
    return ", recording stopped" if recorder is not None and recorder.error else ""
