"""Venues, one file each: a frozen `VENUE: feeder.venues.spec.VenueSpec`.

This is their registry; a venue is imported when it is used.
"""

from __future__ import annotations

from importlib import import_module

from tapecast.feeder.venues.spec import VenueSpec

__all__ = ["VENUES", "venue"]

VENUES = (
    "binance",
    "binance_coinm",
    "binance_futures",
    "bithumb",
    "bybit",
    "coinbase",
    "coinbase_exchange",
    "deribit",
    "kraken",
    "ls",
    "okx",
    "upbit",
)
"""Names of the venue modules here, which are the venues' names everywhere."""


def venue(name: str) -> VenueSpec:
    """Return a venue's specification. Raises KeyError for a name that is not in `VENUES`."""
    if name not in VENUES:
        raise KeyError(name)
    spec: VenueSpec = import_module(f"{__name__}.{name}").VENUE
    return spec
