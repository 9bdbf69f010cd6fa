"""What a venue permits, as `[venue.limits]` of its configuration file says it.

The sources stand in `docs/venues/`; who keeps to it is `runtime.net.limiter` (all processes of a
host), `feeder.connections.pacing` (one connection) and `feeder.connections.sharding`.
"""

from __future__ import annotations

import msgspec

__all__ = ["Limits"]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `[venue.limits]` holds: counts that a venue permits in a window of seconds, per IP
    address unless said otherwise.
    """

    connects: int
    connects_window_s: float
    messages: int
    """Sent on one connection."""
    messages_window_s: float
    messages_long: int = 0
    """A second limit over a longer window; 0 = none."""
    messages_long_window_s: float = 0.0
    rest_weight: int
    """Sum of `RestRequest.weight`."""
    rest_window_s: float
    snapshot_levels: int = 0
    """Levels asked of a REST order book; 0 = the venue's choice."""
    max_age_s: float = 0.0
    """The venue ends a connection of this age; 0 = never."""
    sockets: int = 0
    """Open at a time; 0 = no limit."""
