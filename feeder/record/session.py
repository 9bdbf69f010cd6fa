"""What a feeder records of its session: everything that it is given, before it looks at it, and
what a session does not see of a socket.

The session is the place where the order of everything is decided, so what is recorded there, in
that order and with those times, is what decoding needs to come to the same events. A feeder
without a recording gives its session no observer and pays nothing.
"""

from __future__ import annotations

import time
from typing import Protocol

from tapecast.feeder.record.recorder import Recorder

__all__ = ["HasName", "SessionRecorder", "SocketTap"]


class SessionRecorder:
    """Records what a session is given (`feeder.session.session.Observer`)."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.on_url = recorder.on_url
        self.connected = recorder.connected
        self.disconnected = recorder.disconnected
        self.received = recorder.received

    def handover(self, connection: str, step: str, ts_ns: int | None) -> None:
        """Record a step of a replacement, at the present time where it has none."""
        self._recorder.handover(connection, step, time.time_ns() if ts_ns is None else ts_ns)


class HasName(Protocol):
    """Whose messages they are; the name may change while they come."""

    key: str


class SocketTap:
    """What a session does not see of a socket: opcodes, and what is sent."""

    def __init__(self, recorder: Recorder, link: HasName) -> None:
        self._recorder = recorder
        self._link = link

    def receiving(self, binary: bool) -> None:
        """Note the opcode of the message that is delivered next."""
        self._recorder.binary = binary

    def sent(self, data: bytes) -> None:
        """Record what was sent just now."""
        self._recorder.sent(self._link.key, data, time.time_ns())
