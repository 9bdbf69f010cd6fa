"""What a replay server tells about itself: the JSON lines of `tapecast replay --json`."""

from __future__ import annotations

import msgspec

__all__ = ["Client", "End", "Listening", "ReplayEvent"]


class ReplayEvent(msgspec.Struct, frozen=True, tag_field="event", tag=str.lower):
    """Base of the events."""

    venue: str


class Listening(ReplayEvent, frozen=True):
    """The server accepts connections; base URLs without a path."""

    ws: str
    rest: str


class Client(ReplayEvent, frozen=True):
    """A WebSocket client did something: "connected", "subscribed" (also fewer streams, or none)
    or "gone".
    """

    action: str
    path: str
    streams: int
    """How many recorded streams it receives now."""


class End(ReplayEvent, frozen=True):
    """The recording is over, and every client has read its last frame."""

    frames_sent: int
    seconds: float
    """Wall time from the first frame."""
