"""Binance.US: the spot dialect of Binance on hosts of its own, with books and symbols of its own.

Truth: the venue's `binance-us-api-docs` and one recording; evidence per message variant is in
`docs/venues/binance_us.md`. Messages, books and lists are those of every Binance spot venue
(`feeder.venues.common.binance_spot`). Endpoints, symbols and rate limits are in
`config/venues/binance_us.toml`.
"""

from __future__ import annotations

from tapecast.feeder.venues.common.binance_spot import Weights, spot, spot_recordings

__all__ = ["VENUE"]

VENUE = spot(
    "binance_us",
    spot_recordings("stream.binance.us", "api.binance.us"),
    Weights(listing=10, volumes=40, depth=((100, 1), (500, 5), (1000, 10), (5000, 50))),
)
