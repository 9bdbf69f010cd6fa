"""Binance.US as a server: the dialect of Binance spot (`feeder.replay.binance`)."""

from __future__ import annotations

from tapecast.feeder.replay.binance import Binance

__all__ = ["DIALECT"]

DIALECT = Binance(routed=False)
