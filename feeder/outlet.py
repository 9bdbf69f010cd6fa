"""Where a feeder's packets and monitoring lines go: the venue's channel, or nowhere for a process that only records."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from feeder.publisher import MulticastLine, Publisher, SilentLine, next_epoch
from feeder.venue import VenueSpec
from protocol.io import Sender, TextSender
from runtime.channels import lines_of
from runtime.settings import Config

__all__ = ["Outlet", "open_outlet"]


class Outlet(NamedTuple):
    """The way out of one feeder."""

    senders: tuple[Sender, ...]
    """Of line A and, where there is one, line B."""
    publisher: Publisher
    tell: Callable[[bytes], object]
    """Sends a line to the monitoring group."""


def open_outlet(spec: VenueSpec, config: Config, base_flags: int, *, publish: bool) -> Outlet:
    """Open the sockets and begin a session; without `publish` neither.

    Raises OSError where the interface, or the folder that keeps the epochs, cannot be used.
    """
    network = config.network
    if not publish:
        silent = Publisher(SilentLine(), venue_id=spec.venue_id, channel_id=spec.venue_id, session=1, base_flags=base_flags)
        return Outlet((), silent, _nobody)
    lines = lines_of(spec.name, network)
    senders = tuple(
        Sender(group, port, interface=network.interface, ttl=network.ttl, allow_routing=network.wide_area)
        for group, port in lines
    )
    text = TextSender(
        network.monitor_group, lines[0][1], interface=network.interface, ttl=network.ttl, allow_routing=network.wide_area
    )
    publisher = Publisher(
        MulticastLine(*senders),
        venue_id=spec.venue_id,
        channel_id=spec.venue_id,
        session=next_epoch(Path(config.feeder.state_dir), spec.venue_id, int(time.time())),
        base_flags=base_flags,
    )
    return Outlet(senders, publisher, text.send)


def _nobody(_line: bytes) -> None:
    """Tell nobody."""
