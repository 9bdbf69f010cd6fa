"""Binance spot.

Truth: the venue's `binance-spot-api-docs` and the recordings; evidence per message variant is in
`docs/venues/binance.md`. Messages, books and lists are those of every Binance spot venue
(`feeder.venues.common.binance_spot`). Endpoints, symbols and rate limits are in
`config/venues/binance.toml`.
"""

from __future__ import annotations

from tapecast.feeder.venues.common.binance_spot import Weights, spot, spot_recordings

__all__ = ["VENUE"]

VENUE = spot(
    "binance",
    spot_recordings(
        "stream.binance.com",
        "data-stream.binance.vision",
        "api.binance.com",
        prefixes=("binance_spot_",),
    ),
    Weights(listing=20, volumes=80, depth=((100, 5), (500, 25), (1000, 50), (5000, 250))),
)
