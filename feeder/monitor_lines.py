"""The plain text lines of the monitoring group: `CONN|…` every few seconds, `EXCHANGE|…` every
second, readable with any tool.
"""

from __future__ import annotations

from collections.abc import Callable

from tapecast.feeder.session.session import Session
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.units import NS_PER_S

__all__ = ["MonitorLines", "conn_line", "exchange_line"]

_WHERE_ANY = ("unsent", "batches_failed", "unrecorded", "sync_overflow", "clock_steps")
"""Losses of our own, told only where there are any: packets that the kernel did not take,
batches that could not be sent, lines that could not be recorded, updates that found no room
while a book was synchronised, and steps of our clock.
"""


def conn_line(exchange: str, connected: int, disconnected: int, reconnects: int, total: int) -> str:
    """Return `CONN|exchange|connected|disconnected|reconnects|total`."""
    return f"CONN|{exchange}|{connected}|{disconnected}|{reconnects}|{total}"


def exchange_line(exchange: str, kind: str, counts: dict[str, int], ts_ns: int) -> str:
    """Return `EXCHANGE|name|type|counts|timestamp`; counts are cumulative, `key=value` joined by
    commas.
    """
    listed = ",".join(f"{key}={value}" for key, value in counts.items())
    return f"EXCHANGE|{exchange}|{kind}|{listed}|{ts_ns}"


class MonitorLines:
    """Writes the lines of one feeder when they are due."""

    def __init__(
        self,
        exchange: str,
        kind: str,
        send: Callable[[bytes], object],
        conn_interval_s: float,
        exchange_interval_s: float,
    ) -> None:
        self._exchange = exchange
        self._kind = kind
        self._send = send
        self._conn_ns = int(conn_interval_s * NS_PER_S)
        self._exchange_ns = int(exchange_interval_s * NS_PER_S)
        self._next_conn = 0
        self._next_exchange = 0
        self._last: tuple[int, int, int, int] | None = None

    def tick(
        self,
        now_ns: int,
        ts_ns: int,
        connections: tuple[int, int, int, int],
        session: Session,
        publisher: Publisher,
    ) -> None:
        """Send what is due; a change of the connections is told at once."""
        if now_ns >= self._next_conn or connections != self._last:
            self._last = connections
            self._next_conn = now_ns + self._conn_ns
            self._send(conn_line(self._exchange, *connections).encode())
        if now_ns >= self._next_exchange:
            self._next_exchange = now_ns + self._exchange_ns
            counts = publisher.events()
            for name in ("quarantine", "gaps", "resyncs"):
                counts[name] = session.counts[name]
            counts.update(
                (name, session.counts[name]) for name in _WHERE_ANY if session.counts[name]
            )
            counts["live"] = session.live_books()
            counts["books"] = len(session.instruments)
            self._send(exchange_line(self._exchange, self._kind, counts, ts_ns).encode())
