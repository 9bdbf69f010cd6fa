"""From a socket's read to the multicast: each message to the session, what is finished to the
publisher at the end of the read.

The hot path of a live feeder between `feeder.connections.transport` and
`feeder.session.session`. A defect of ours costs the message or the batch it met, counted and
published, never the connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tapecast.feeder.connections.stats import ConnectionStats
from tapecast.feeder.record.recorder import Recorder
from tapecast.feeder.record.session import HasName, SocketTap
from tapecast.feeder.session.session import Session
from tapecast.protocol.publish.publisher import Publisher
from tapecast.runtime import logs

__all__ = ["SUCCESSOR", "FrameHandler"]

SUCCESSOR = "~"
"""Behind the name of a connection: the one that is to replace it, and is counted with it."""

_REPAY_NS = 1_000_000_000
"""Between two attempts to make lost batches good: what fails once may go on failing."""

log = logs.get("feeder.frame_handler")


class FrameHandler:
    """The way in of one feeder. `asked` is called when the session has commands; what passes a
    `recorder` sees too.
    """

    def __init__(
        self,
        session: Session,
        publisher: Publisher,
        asked: Callable[[], None],
        recorder: Recorder | None = None,
    ) -> None:
        self._session = session
        self._publisher = publisher
        self._asked = asked
        self._recorder = recorder
        self.stats: dict[str, ConnectionStats] = {}
        """What is counted of each connection, by its name."""
        self._now_ns, self._ts_ns = time.monotonic_ns(), time.time_ns()
        self._owed = False
        """Consumers lack a batch, and have not been given whole books since."""
        self._repaid_ns = 0

    @property
    def frames(self) -> int:
        """WebSocket messages received."""
        return sum(stats.messages for stats in self.stats.values())

    def of(self, connection: str) -> ConnectionStats:
        """Return what is counted of a connection."""
        return self.stats.setdefault(connection, ConnectionStats(connection))

    def tap(self, link: HasName) -> SocketTap | None:
        """Return what records a link, where it is recorded."""
        return None if self._recorder is None else SocketTap(self._recorder, link)

    def reader(self, link: HasName) -> Callable[[bytes], None]:
        """Return what handles each message of a link."""
        session, time_ns, monotonic_ns = self._session, time.time_ns, time.monotonic_ns
        stats = self.of(link.key.removesuffix(SUCCESSOR))

        def message(data: bytes) -> None:
            stats.messages += 1
            self._ts_ns = ts_recv_ns = time_ns()
            self._now_ns = now_ns = monotonic_ns()
            try:
                session.on_frame(link.key, data, ts_recv_ns, now_ns)
            # A defect of ours costs the message it met, never the feed.
            except Exception as error:
                log.error(
                    "message_failed",
                    venue=session.spec.name,
                    connection=link.key,
                    error=repr(error),
                    exc_info=error,
                )
                session.on_defect(link.key, data, repr(error), ts_recv_ns, now_ns)

        return message

    def flush(self) -> None:
        """Send what is finished, at the present time."""
        self._now_ns, self._ts_ns = time.monotonic_ns(), time.time_ns()
        self.batch()

    def batch(self) -> None:
        """Send what is finished, at the time of the last message: this ends every read of a
        socket.
        """
        session, publisher = self._session, self._publisher
        publisher.instruments(len(session.instruments))
        try:
            session.flush(publisher.publish, self._now_ns, self._ts_ns)
        # A defect of ours costs a batch, counted and published, never the connection.
        except Exception as error:
            session.counts["batches_failed"] += 1
            log.error("batch_failed", venue=session.spec.name, error=repr(error), exc_info=error)
            self._owed = True
        if self._owed and self._now_ns - self._repaid_ns >= _REPAY_NS:
            self._owed, self._repaid_ns = False, self._now_ns
            session.on_batch_lost(self._ts_ns)
        if session.commands:
            self._asked()
