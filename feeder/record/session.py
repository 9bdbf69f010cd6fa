"""A session that records what it is given, before it looks at it; and the taps for what a
session is not told.

The session is the place where the order of everything is decided, so what is recorded here, in
this order and with these times, is what decoding needs to come to the same events. A feeder
without a recording has the plain `feeder.session.session.Session` and pays nothing.
"""

from __future__ import annotations

import time
from typing import Protocol

from tapecast.feeder.record.recorder import Recorder
from tapecast.feeder.session.handover import HandoverPolicy
from tapecast.feeder.session.session import Session
from tapecast.feeder.session.types import SessionOptions
from tapecast.feeder.venues.spec import VenueSpec

__all__ = ["RecordedSession", "SocketTap"]


class RecordedSession(Session):
    """The session of one venue's feeder, recorded."""

    def __init__(self, spec: VenueSpec, options: SessionOptions, recorder: Recorder) -> None:
        super().__init__(spec, options)
        self._recorder = recorder
        self._handling = False

    def on_url(self, connection: str, url: str) -> None:
        """Note the URL of a connection."""
        self._recorder.on_url(connection, url)
        super().on_url(connection, url)

    def on_connect(self, connection: str, now_ns: int, ts_recv_ns: int) -> None:
        """Note a new connection."""
        if connection in self.last_data_ns:
            self.on_disconnect(connection, now_ns, ts_recv_ns)
        self._recorder.connected(connection, ts_recv_ns)
        super().on_connect(connection, now_ns, ts_recv_ns)

    def on_disconnect(self, connection: str, now_ns: int, ts_recv_ns: int) -> None:
        """Note the loss of a connection, unless there was none."""
        if connection in self.last_data_ns:
            self._recorder.disconnected(connection, ts_recv_ns)
        super().on_disconnect(connection, now_ns, ts_recv_ns)

    def on_frame(
        self, connection: str, data: bytes, ts_recv_ns: int, now_ns: int, *, again: bool = False
    ) -> None:
        """Handle a message; what the session tells itself while it does is no message."""
        if self._handling or again:
            super().on_frame(connection, data, ts_recv_ns, now_ns, again=again)
            return
        self._recorder.received(connection, data, ts_recv_ns)
        self._handling = True
        try:
            super().on_frame(connection, data, ts_recv_ns, now_ns)
        finally:
            self._handling = False

    def begin_handover(self, old: str, new: str, policy: HandoverPolicy) -> None:
        """Note that `new` is about to be opened in place of `old`."""
        self._recorder.handover(new, f"begin {old}", time.time_ns())
        super().begin_handover(old, new, policy)

    def handover_subscribed(self, new: str, now_ns: int) -> None:
        """Note that the new connection has sent its requests."""
        self._recorder.handover(new, "subscribed", time.time_ns())
        super().handover_subscribed(new, now_ns)

    def end_handover(self, new: str, now_ns: int, ts_recv_ns: int) -> None:
        """Let the new connection take the place and the name of the old one."""
        self._recorder.handover(new, "end", ts_recv_ns)
        super().end_handover(new, now_ns, ts_recv_ns)

    def abandon_handover(self, new: str, now_ns: int, ts_recv_ns: int) -> None:
        """Go on with the old connection alone, unless that was settled before."""
        if self.replacing(new):
            self._recorder.handover(new, "abandon", ts_recv_ns)
        super().abandon_handover(new, now_ns, ts_recv_ns)


class HasName(Protocol):
    """Whose messages they are; the name may change while they come."""

    key: str


class SocketTap:
    """What the session is not told of a socket: opcodes, and what is sent."""

    def __init__(self, recorder: Recorder, link: HasName) -> None:
        self._recorder = recorder
        self._link = link

    def receiving(self, binary: bool) -> None:
        """Note the opcode of the message that is delivered next."""
        self._recorder.binary = binary

    def sent(self, data: bytes) -> None:
        """Record what was sent just now."""
        self._recorder.sent(self._link.key, data, time.time_ns())
