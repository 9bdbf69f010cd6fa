"""The replay server: recordings served in the venue's own dialect on loopback (docs/replay.md)."""

from feeder.replay.events import Client, End, Event, Listening
from feeder.replay.server import ReplayServer, Urls
from feeder.replay.timeline import TimelineError
from feeder.replay.venues import UnknownVenueError

__all__ = ["Client", "End", "Event", "Listening", "ReplayServer", "TimelineError", "UnknownVenueError", "Urls"]
