"""Binance.US: its recording against a second reading with `json` and `Decimal`, and what is its
own: hosts, weights, limits.

The messages are those of Binance spot, whose tests are `test_venue_shapes`, `test_venue_control`
and `test_venue_instruments`. Recording of 12 October 2021 (github bmoscon/cryptofeed).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tapecast.feeder.replay.venues import DIALECTS, guess_venue
from tapecast.feeder.venues import venue
from tests.feeder.test_decode_recordings import decode, judge
from tests.support.captures import captures
from tests.support.feeder_oracle import ORACLES
from tests.support.packaged import packaged

VENUE = venue("binance_us")
FILE = "binance/cf_20211012_binance_us.jsonl"


def test_every_event_of_the_recording_is_what_its_raw_messages_say() -> None:
    """Books, trades, sides, best prices, times and order; no gap, no crossing, no quarantine."""
    path = captures() / FILE
    decoded = decode("binance_us", path)
    judge(decoded, ORACLES["binance"](path))
    assert {kind: len(decoded.of(kind)) for kind in ("book", "bbo", "trade", "instrument")} == {
        "book": 336,
        "bbo": 128,
        "trade": 11,
        "instrument": 4,
    }
    assert {event["venue"] for event in decoded.events} == {"binance_us"}
    assert decoded.offline.session.live_books() == 4


def test_its_recordings_are_told_from_those_of_binance_by_their_hosts(tmp_path: Path) -> None:
    """Both lie in one folder, and have the same messages; a name of the recorder's says it too."""
    assert guess_venue(captures() / FILE) == "binance_us"
    assert guess_venue(captures() / "binance" / "cf_20211012_spot.jsonl") == "binance"
    assert guess_venue(Path("elsewhere/binance_us_20211012.jsonl")) == "binance_us"


@pytest.mark.parametrize(
    ("levels", "limit", "weight"), [(50, "100", 1), (1000, "1000", 10), (9999, "5000", 50)]
)
def test_a_snapshot_weighs_less_than_on_binance(levels: int, limit: str, weight: int) -> None:
    """The venue has a fifth of Binance's weight a minute, and its own prices."""
    assert VENUE.rule.snapshot_request is not None
    request = VENUE.rule.snapshot_request("BTCUSD", levels)
    assert (dict(request.query)["limit"], request.weight) == (limit, weight)
    assert [request.weight for request in VENUE.listing.requests()] == [10]


def test_the_packaged_configuration_fits_the_module() -> None:
    """Symbols, channels, endpoints and limits of the packaged file are ones the module knows."""
    packaged(VENUE)


def test_it_is_served_on_the_paths_of_spot() -> None:
    """A client connects to `/stream`; the routes of the futures do not exist."""
    assert DIALECTS["binance_us"].connect("/stream", {}) is not None
    assert DIALECTS["binance_us"].connect("/public/stream", {}) is None
