"""Venues, one file each: a frozen `VENUE: feeder.venues.spec.VenueSpec`.

A venue is a number in the schema and a module of the same name here; nothing else lists them (a
test compares the two). A venue is imported when it is used, and only that one.
"""

from __future__ import annotations

from importlib import import_module

from tapecast.feeder.venues.spec import VenueSpec
from tapecast.protocol.schema import VENUES as NUMBERS

__all__ = ["VENUES", "venue"]

VENUES = tuple(sorted(NUMBERS))
"""Names of the venue modules here, which are the venues' names everywhere."""


def venue(name: str) -> VenueSpec:
    """Return a venue's specification. Raises KeyError for a name that is not in `VENUES`."""
    if name not in VENUES:
        raise KeyError(name)
    spec: VenueSpec = import_module(f"{__name__}.{name}").VENUE
    return spec
