"""What a venue's packaged configuration must fit: one check, used by each venue's own tests."""

from __future__ import annotations

import tomllib

import msgspec

from tapecast.feeder.connections.limits import Limits
from tapecast.feeder.venues.spec import VenueSpec
from tapecast.protocol.naming import has_wildcard
from tapecast.protocol.schema import MsgType
from tapecast.runtime.config import DEFAULTS

__all__ = ["packaged"]


def packaged(spec: VenueSpec) -> None:
    """Assert that symbols, channels, endpoints and limits of a venue's packaged file are ones
    its module knows, and that books and trades are subscribed.
    """
    text = (DEFAULTS / "venues" / f"{spec.name}.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)["venue"]
    names = [symbol for symbol in table["symbols"] if not has_wildcard(symbol)]
    assert all(spec.kind_of(symbol) is not None for symbol in names)
    assert set(table["channels"]) <= set(spec.stream.streams)
    assert set(table["endpoints"]) == set(spec.endpoints)
    assert set(table["alternates"]) <= set(table["endpoints"])
    assert {stream.route for stream in spec.stream.streams.values()} <= set(spec.endpoints)
    assert msgspec.convert(table["limits"], Limits).rest_weight > 0
    carried = {spec.stream.streams[channel].carries for channel in table["channels"]}
    assert {MsgType.BOOK, MsgType.TRADE} <= carried
