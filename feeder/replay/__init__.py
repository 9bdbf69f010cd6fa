"""The replay server: recordings served in the venue's own dialect on loopback (docs/replay.md)."""

from tapecast.feeder.replay.events import Client, End, Listening, ReplayEvent
from tapecast.feeder.replay.server import ReplayServer, Urls
from tapecast.feeder.replay.timeline import TimelineError
from tapecast.feeder.replay.venues import UnknownVenueError

__all__ = [
    "Client",
    "End",
    "Listening",
    "ReplayEvent",
    "ReplayServer",
    "TimelineError",
    "UnknownVenueError",
    "Urls",
]
