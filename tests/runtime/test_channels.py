"""The registry's rule: names to channels, groups and ports, and back, for venues and services."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapecast.protocol.schema import SERVICES, VENUES
from tapecast.runtime import config as configuration
from tapecast.runtime.channels import (
    REPLICAS,
    UnknownChannelError,
    channel_at,
    channel_name,
    channel_named,
    channel_of,
    lines_of,
    venue_of,
)
from tapecast.runtime.settings import Network


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """The packaged network settings, with a line B."""
    overlay = {"network.line_b_prefix": "239.255.43"}
    return configuration.load(overlay, environ={}, system=tmp_path / "none").network


@pytest.mark.parametrize(
    ("name", "replica", "stock", "channel_id", "lines"),
    [
        ("okx", 0, False, 7, [("239.255.42.7", 9001), ("239.255.43.7", 9001)]),
        ("okx", 1, False, 107, [("239.255.42.107", 9001), ("239.255.43.107", 9001)]),
        ("ls", 0, False, 10, [("239.255.42.10", 9002), ("239.255.43.10", 9002)]),
        ("nbbo", 0, False, 1002, [("239.255.44.2", 9001)]),
        ("nbbo", 1, False, 1102, [("239.255.44.102", 9001)]),
        ("orders", 0, True, 2006, [("239.255.45.6", 9002)]),
        ("orders", 1, True, 2106, [("239.255.45.106", 9002)]),
    ],
)
def test_a_name_and_its_channel_are_one(
    network: Network,
    name: str,
    replica: int,
    stock: bool,
    channel_id: int,
    lines: list[tuple[str, int]],
) -> None:
    """Id, groups and port are those of the design, and the id leads back to the name."""
    channel = channel_named(name, replica, stock=stock)
    assert channel.channel_id == channel_of(name, replica, stock=stock) == channel_id
    assert channel.lines(network) == lines_of(name, network, replica, stock=stock) == lines
    assert channel_at(channel_id) == channel
    assert channel_name(channel_id) == name


def test_every_channel_has_an_id_and_a_first_group_of_its_own(network: Network) -> None:
    """No two publishers of the registry can be taken for each other."""
    channels = [
        *(channel_named(name, replica) for name in VENUES for replica in REPLICAS),
        *(
            channel_named(name, replica, stock=stock)
            for name in SERVICES
            for replica in REPLICAS
            for stock in (False, True)
        ),
    ]
    assert not VENUES.keys() & SERVICES.keys()
    assert len({channel.channel_id for channel in channels}) == len(channels)
    assert len({channel.lines(network)[0] for channel in channels}) == len(channels)
    assert len({channel.label for channel in channels}) == len(channels)
    assert all(channel_at(channel.channel_id) == channel for channel in channels)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (lambda: channel_named("okex"), "'okex' is neither a venue (binance, "),
        (lambda: channel_named("okx", 2), "replica 2 of 'okx': there are 0 and 1"),
        (
            lambda: channel_at(99),
            "channel 99: venue 99 is not registered; registered are binance 1",
        ),
        (lambda: channel_at(1050), "channel 1050: service 50 is not registered; registered are l3"),
        (lambda: channel_at(1202), "channel 1202: replica 2: there are 0 and 1"),
        (lambda: channel_at(3001), "channel 3001: ids end at 2999"),
    ],
)
def test_what_is_unknown_is_named(wanted: object, message: str) -> None:
    """The error has the name, number or replica that the registry lacks."""
    assert callable(wanted)
    with pytest.raises(UnknownChannelError) as caught:
        wanted()
    assert message in str(caught.value)


def test_a_message_names_any_channel() -> None:
    """Also one of another version; a derived channel is of no venue."""
    assert [channel_name(n) for n in (107, 2103, 99, 1050)] == [
        "okx",
        "bars",
        "venue-99",
        "channel-1050",
    ]
    assert [venue_of(n) for n in (7, 107, 1002, 2102)] == [7, 7, 0, 0]
