"""Which channel, multicast group and port a publisher has: one rule for senders and receivers,
for venues and services (wire format, section 8).

Names and numbers are those of `protocol.schema` (VENUES, SERVICES), prefixes and ports those of
the configuration. Everything has two replicas: the second one's channel is the first one's id +
100, with a group of its own. A venue knows which port it is on; a service has one channel for the
crypto venues and one for the stock venues.
"""

from __future__ import annotations

from typing import NamedTuple

from tapecast.protocol.schema import DERIVED_STEP, REPLICA_STEP, SERVICES, VENUES
from tapecast.runtime.settings import Network

__all__ = [
    "REPLICAS",
    "STOCK_VENUES",
    "Channel",
    "UnknownChannelError",
    "channel_at",
    "channel_name",
    "channel_named",
    "channel_of",
    "lines_of",
    "venue_of",
]

REPLICAS = (0, 1)

STOCK_VENUES = frozenset({"ls"})
"""Venues on the stock port; every other one is on the crypto port."""


class UnknownChannelError(LookupError):
    """A name, number or replica that the registry does not have; the message names it."""


class Channel(NamedTuple):
    """One channel of the registry; made by `channel_named` and `channel_at`."""

    name: str
    """A venue's or a service's."""
    channel_id: int
    replica: int
    """0 = the first publisher, 1 = the second."""
    stock: bool
    """On the stock port; otherwise on the crypto port."""
    derived: bool
    """A service's; otherwise a venue's."""

    @property
    def label(self) -> str:
        """The name as logs and monitoring lines show it: okx, okx-2, nbbo, nbbo-stock."""
        name = f"{self.name}-stock" if self.derived and self.stock else self.name
        return f"{name}-{self.replica + 1}" if self.replica else name

    def lines(self, network: Network) -> list[tuple[str, int]]:
        """Return (group, port) of line A and, for a venue where it is configured, of line B."""
        port = network.port_stock if self.stock else network.port_crypto
        if not self.derived:
            prefixes = [network.group_prefix, network.line_b_prefix]
        elif self.stock:
            prefixes = [network.derived_prefix_stock]
        else:
            prefixes = [network.derived_prefix]
        number = self.channel_id % DERIVED_STEP
        return [(f"{prefix}.{number}", port) for prefix in prefixes if prefix]


def channel_named(name: str, replica: int = 0, *, stock: bool = False) -> Channel:
    """Return the channel of a venue's or service's first (0) or second (1) publisher.

    `stock` chooses between a service's two channels and counts for no venue. Raises
    UnknownChannelError naming what is not registered.
    """
    if replica not in REPLICAS:
        raise UnknownChannelError(f"replica {replica} of {name!r}: there are 0 and 1")
    if name in VENUES:
        number = VENUES[name] + REPLICA_STEP * replica
        return Channel(name, number, replica, name in STOCK_VENUES, derived=False)
    if name in SERVICES:
        number = SERVICES[name] + REPLICA_STEP * replica + DERIVED_STEP * (2 if stock else 1)
        return Channel(name, number, replica, stock, derived=True)
    raise UnknownChannelError(
        f"{name!r} is neither a venue ({', '.join(VENUES)}) nor a service ({', '.join(SERVICES)})"
    )


def channel_at(channel_id: int) -> Channel:
    """Return the channel that has this id. Raises UnknownChannelError naming the part of the id
    that is not registered.
    """
    kind, rest = divmod(channel_id, DERIVED_STEP)
    replica, number = divmod(rest, REPLICA_STEP)
    what, registry = ("service", SERVICES) if kind else ("venue", VENUES)
    if kind > 2:
        raise UnknownChannelError(f"channel {channel_id}: ids end at {3 * DERIVED_STEP - 1}")
    if replica not in REPLICAS:
        raise UnknownChannelError(f"channel {channel_id}: replica {replica}: there are 0 and 1")
    for name, registered in registry.items():
        if registered == number:
            return channel_named(name, replica, stock=kind == 2)
    raise UnknownChannelError(
        f"channel {channel_id}: {what} {number} is not registered; registered are"
        f" {', '.join(f'{name} {known}' for name, known in registry.items())}"
    )


def channel_name(channel_id: int) -> str:
    """Return the name of a channel's venue or service for a message: `venue-N` where it is
    another version's venue, `channel-N` where it is nothing known.
    """
    try:
        return channel_at(channel_id).name
    except UnknownChannelError:
        venue = venue_of(channel_id)
        return f"venue-{venue}" if venue else f"channel-{channel_id}"


def channel_of(name: str, replica: int = 0, *, stock: bool = False) -> int:
    """Return the id of a venue's or service's channel. Raises as `channel_named` does."""
    return channel_named(name, replica, stock=stock).channel_id


def venue_of(channel_id: int) -> int:
    """Return the venue id of a venue's channel; 0 for a derived channel, which has instruments of
    several venues.
    """
    return channel_id % REPLICA_STEP if channel_id < DERIVED_STEP else 0


def lines_of(
    name: str, network: Network, replica: int = 0, *, stock: bool = False
) -> list[tuple[str, int]]:
    """Return (group, port) of a publisher's line A and, where there is one, line B. Raises as
    `channel_named` does.
    """
    return channel_named(name, replica, stock=stock).lines(network)
