"""The Coinbase Exchange feed as a server: it shares its form with Advanced Trade's
(`feeder.replay.coinbase`).
"""

from __future__ import annotations

from tapecast.feeder.replay.coinbase import CoinbaseExchange

__all__ = ["DIALECT"]

DIALECT = CoinbaseExchange()
