"""What venues have changed and a recording cannot show: hosts, words of states, depths.

The facts are those that the venues document, as of 2026-11-30; `docs/venues/` has the sources.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import pytest

from tapecast.feeder.symbols.universe import check_universe
from tapecast.feeder.venues import VENUES, okx, venue
from tapecast.protocol.schema import InstrumentState
from tapecast.runtime.config import load
from tapecast.runtime.errors import ConfigError
from tests.support.captures import captures
from tests.support.venue_server import lines

TRADING, HALTED, PRE_OPEN, CLOSED, DELISTED = (
    InstrumentState.TRADING,
    InstrumentState.HALTED,
    InstrumentState.PRE_OPEN,
    InstrumentState.CLOSED,
    InstrumentState.DELISTED,
)


class Listing(NamedTuple):
    """A recorded list of instruments, and what its entries say of their states."""

    file: str
    url: str
    entries: Callable[[Any], list[Any]]
    field: str
    states: dict[str, InstrumentState]
    besides: Mapping[str, object] = {}
    """What else an entry that is not traded says."""


_BINANCE = {
    "TRADING": TRADING,
    "PRE_DELISTING": TRADING,
    "TRADING_HALT": HALTED,
    "TRADING_CANCEL_ONLY": HALTED,
    "DELISTING": CLOSED,
    "DOWN": CLOSED,
}
LISTINGS = {
    "okx": Listing(
        "okx/cf_20220513_v5_books.jsonl",
        "instType=SWAP",
        lambda body: body["data"],
        "state",
        {
            "live": TRADING,
            "suspend": HALTED,
            "post_only": HALTED,
            "rebase": HALTED,
            "preopen": PRE_OPEN,
            "settling": CLOSED,
            "test": CLOSED,
            "expired": DELISTED,
        },
    ),
    "deribit": Listing(
        "deribit/cf_20210722_options.jsonl",
        "get_instruments",
        lambda body: body["result"],
        "state",
        {
            "open": TRADING,
            "locked": HALTED,
            "halted": HALTED,
            "settlement": CLOSED,
            "inactive": CLOSED,
            "delivered": DELISTED,
            "archivized": DELISTED,
        },
        {"is_active": False},
    ),
    "kraken": Listing(
        "kraken/cf_20210417_ws_v1.p1.jsonl",
        "AssetPairs",
        lambda body: list(body["result"].values()),
        "status",
        {
            "online": TRADING,
            "reduce_only": TRADING,
            "cancel_only": HALTED,
            "maintenance": HALTED,
            "hidden": CLOSED,
            "work_in_progress": CLOSED,
            "delisted": DELISTED,
        },
    ),
    "bybit": Listing(
        "bybit/cf_20260809_v5_linear_spot.p1.jsonl",
        "category=linear",
        lambda body: body["result"]["list"],
        "status",
        {"Trading": TRADING, "PreLaunch": PRE_OPEN, "PendingOpen": PRE_OPEN},
    ),
    "binance_futures": Listing(
        "binance_futures/cf_20210722_usdm.jsonl",
        "exchangeInfo",
        lambda body: body["symbols"],
        "status",
        _BINANCE,
    ),
    "binance_coinm": Listing(
        "binance_coinm/cf_20210722_coinm.p1.jsonl",
        "exchangeInfo",
        lambda body: body["symbols"],
        "contractStatus",
        _BINANCE,
    ),
}


def recorded(name: str) -> bytes:
    """Return the recorded list of a venue."""
    known = LISTINGS[name]
    return next(
        line.raw
        for line in lines(captures() / known.file, "http")
        if line.url and known.url in line.url
    )


@pytest.mark.parametrize(
    ("name", "word"), [(name, word) for name in LISTINGS for word in LISTINGS[name].states]
)
def test_every_documented_word_of_a_state_has_its_meaning(name: str, word: str) -> None:
    """In place of the word of a recorded list's first entry. A word without a meaning would be
    UNKNOWN, which a pattern of symbols takes.
    """
    known = LISTINGS[name]
    parse = venue(name).listing.parse
    symbol = parse(recorded(name)).defs[0].symbol
    body = json.loads(recorded(name))
    expected = known.states[word]
    for entry in known.entries(body):
        entry[known.field] = word
        if expected is not TRADING and expected is not HALTED:
            entry.update(known.besides)
    found = parse(json.dumps(body).encode()).defs
    assert found[0].symbol == symbol
    assert {one.state for one in found} == {expected}


def test_what_is_not_active_is_not_traded_whatever_its_word() -> None:
    """Deribit says so in two fields, and `open` with `is_active` false is closed."""
    known = LISTINGS["deribit"]
    body = json.loads(recorded("deribit"))
    for entry in known.entries(body):
        entry.update(state="open", is_active=False)
    found = venue("deribit").listing.parse(json.dumps(body).encode()).defs
    assert {one.state for one in found} == {CLOSED}


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


@pytest.mark.parametrize("name", VENUES)
def test_a_channel_that_a_venue_does_not_have_is_an_error_before_anything_starts(
    name: str,
) -> None:
    """It names the key and what there is; no feeder starts and then ends on it."""
    packaged = load(environ={}).venues[name]
    asked = msgspec.structs.replace(packaged, channels=(*packaged.channels, "no such channel"))
    with pytest.raises(ConfigError, match=rf"venues\.{name}\.channels: 'no such channel' is not"):
        check_universe(venue(name), asked)
    check_universe(venue(name), packaged)


def test_a_retired_channel_is_for_recordings_alone() -> None:
    """Bybit refuses the whole request that asks for one."""
    asked = msgspec.structs.replace(
        load(environ={}).venues["bybit"], channels=("orderbook.500", "publicTrade")
    )
    check_universe(venue("bybit"), asked, replay=True)
    with pytest.raises(ConfigError, match=r"bybit no longer serves 'orderbook\.500'; known: "):
        check_universe(venue("bybit"), asked)
