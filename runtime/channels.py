"""Which channel, multicast group and port a venue's feeder has: one rule for senders and
receivers (wire format, section 5).

A venue may have two feeders: the second one's channel is the venue's id + 100, with groups of
its own.
"""

from __future__ import annotations

from tapecast.protocol.schema import VENUES
from tapecast.runtime.settings import Network

__all__ = ["STOCK_VENUES", "channel_of", "lines_of", "venue_of"]

_STEP = 100

STOCK_VENUES = frozenset({"ls"})
"""Venues on the stock port; every other one is on the crypto port."""


def channel_of(venue: str, replica: int = 0) -> int:
    """Return the channel id of a venue's first (0) or second (1) feeder. Raises KeyError for an
    unregistered venue.
    """
    return VENUES[venue] + _STEP * replica


def venue_of(channel_id: int) -> int:
    """Return the venue id of a channel."""
    return channel_id % _STEP


def lines_of(venue: str, network: Network, replica: int = 0) -> list[tuple[str, int]]:
    """Return (group, port) of a feeder's line A and, where it is configured, line B; KeyError
    for an unregistered venue.
    """
    number = channel_of(venue, replica)
    port = network.port_stock if venue in STOCK_VENUES else network.port_crypto
    return [
        (f"{prefix}.{number}", port)
        for prefix in (network.group_prefix, network.line_b_prefix)
        if prefix
    ]
