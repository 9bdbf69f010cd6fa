"""What venues have changed and a recording cannot show: hosts, words of states, depths.

The facts are those that the venues document, as of 2026-11-30; `docs/venues/` has the sources.
"""

from __future__ import annotations

from importlib import import_module
from urllib.parse import urlsplit

import pytest

from tapecast.feeder.venues import okx
from tapecast.protocol.schema import InstrumentState
from tapecast.runtime.config import load

TRADING, HALTED, PRE_OPEN, CLOSED, DELISTED = (
    InstrumentState.TRADING,
    InstrumentState.HALTED,
    InstrumentState.PRE_OPEN,
    InstrumentState.CLOSED,
    InstrumentState.DELISTED,
)
STATES = {
    "okx": {
        "live": TRADING,
        "suspend": HALTED,
        "post_only": HALTED,
        "rebase": HALTED,
        "preopen": PRE_OPEN,
        "settling": CLOSED,
        "test": CLOSED,
        "expired": DELISTED,
    },
    "deribit": {
        "open": TRADING,
        "locked": HALTED,
        "halted": HALTED,
        "settlement": CLOSED,
        "inactive": CLOSED,
        "delivered": DELISTED,
        "archivized": DELISTED,
    },
    "kraken": {
        "online": TRADING,
        "reduce_only": TRADING,
        "cancel_only": HALTED,
        "maintenance": HALTED,
        "hidden": CLOSED,
        "work_in_progress": CLOSED,
        "delisted": DELISTED,
    },
    "bybit": {"Trading": TRADING, "PreLaunch": PRE_OPEN, "PendingOpen": PRE_OPEN},
    "common.binance": {
        "TRADING": TRADING,
        "PRE_DELISTING": TRADING,
        "TRADING_HALT": HALTED,
        "TRADING_CANCEL_ONLY": HALTED,
        "DELISTING": CLOSED,
        "DOWN": CLOSED,
    },
}


@pytest.mark.parametrize("module", STATES)
def test_every_documented_word_of_a_state_has_its_meaning(module: str) -> None:
    """A word without one would be UNKNOWN, which a pattern of symbols takes."""
    known = vars(import_module(f"tapecast.feeder.venues.{module}"))["_STATES"]
    assert {word: known.get(word) for word in STATES[module]} == STATES[module]


def test_okx_is_asked_at_the_port_that_it_serves() -> None:
    """It closed 8443 on 2026-10-31: nothing but the default port of TLS answers."""
    endpoints = load().venues["okx"].endpoints
    hosts = {name: urlsplit(url) for name, url in endpoints.items()}
    assert {name: url.port for name, url in hosts.items()} == dict.fromkeys(hosts)
    assert hosts["public"].hostname == "ws.okx.com"


def test_okx_is_asked_for_whole_books() -> None:
    """Without a number of levels it gives one a side."""
    request = okx.VENUE.rule.snapshot_request
    assert request is not None
    assert ("sz", "400") in request("BTC-USDT", "books").query
