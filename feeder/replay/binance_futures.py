"""Binance USD-M futures as a server: the dialect of Binance, on the futures' routes."""

from __future__ import annotations

from tapecast.feeder.replay.binance import Binance

__all__ = ["DIALECT"]

DIALECT = Binance(routed=True)
