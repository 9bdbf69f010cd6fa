"""From a socket's read to the multicast: each message to the session, what is finished to the publisher at the end of the read.

The hot path of a live feeder between `feeder.transport` and `feeder.session`. A defect of ours costs the message or the batch it
met, counted and told, never the connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from feeder.publisher import Publisher
from feeder.session import Session
from runtime import logs

__all__ = ["Intake", "Named"]

log = logs.get("feeder.intake")


class Named(Protocol):
    """Whose messages they are; the name may change while they come."""

    key: str


class Intake:
    """The way in of one feeder. `asked` is called when the session has commands."""

    def __init__(self, session: Session, publisher: Publisher, asked: Callable[[], None]) -> None:
        self._session = session
        self._publisher = publisher
        self._asked = asked
        self.frames = 0
        """WebSocket messages received."""
        self._now_ns, self._ts_ns = time.monotonic_ns(), time.time_ns()

    def reader(self, link: Named) -> Callable[[bytes], None]:
        """Return what handles each message of a link."""
        session, time_ns, monotonic_ns = self._session, time.time_ns, time.monotonic_ns

        def message(data: bytes) -> None:
            self.frames += 1
            self._ts_ns = ts_recv_ns = time_ns()
            self._now_ns = now_ns = monotonic_ns()
            try:
                session.on_frame(link.key, data, ts_recv_ns, now_ns)
            except Exception as error:  # a defect of ours costs the message it met, never the feed
                log.error("message not handled", venue=session.spec.name, connection=link.key, error=repr(error), exc_info=error)
                session.quarantine(link.key, data, f"internal error: {error!r}", 0, ts_recv_ns, None)

        return message

    def flush(self) -> None:
        """Send what is finished, at the present time."""
        self._now_ns, self._ts_ns = time.monotonic_ns(), time.time_ns()
        self.batch()

    def batch(self) -> None:
        """Send what is finished, at the time of the last message: this ends every read of a socket."""
        session, publisher = self._session, self._publisher
        publisher.instruments(len(session.instruments))
        try:
            session.flush(publisher.publish, self._now_ns, self._ts_ns)
        except Exception as error:  # a defect of ours costs a batch, counted and told, never the connection
            session.counts["batches_failed"] += 1
            log.error("batch not sent", venue=session.spec.name, error=repr(error), exc_info=error)
        if session.commands:
            self._asked()
