"""Which multicast group and port a venue's channel has: one rule for senders and receivers (wire format, section 5)."""

from __future__ import annotations

from protocol.schema import VENUES
from runtime.settings import Network

__all__ = ["STOCK_VENUES", "lines_of"]

STOCK_VENUES = frozenset({"ls"})
"""Venues on the stock port; every other one is on the crypto port."""


def lines_of(venue: str, network: Network) -> list[tuple[str, int]]:
    """Return (group, port) of a venue's line A and, where it is configured, line B. Raises KeyError for an unregistered venue."""
    number = VENUES[venue]
    port = network.port_stock if venue in STOCK_VENUES else network.port_crypto
    return [(f"{prefix}.{number}", port) for prefix in (network.group_prefix, network.line_b_prefix) if prefix]
