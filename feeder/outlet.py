"""Where a feeder's packets and monitoring lines go: the venue's channel, or nowhere for a process that only records."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from feeder.publisher import MulticastLine, Publisher, SilentLine, next_epoch
from feeder.venue import VenueSpec
from protocol.authentication import Sealer
from protocol.io import Sender, TextSender
from runtime.channels import channel_of, lines_of
from runtime.keys import sending_key
from runtime.settings import Config

__all__ = ["Outlet", "open_outlet"]


class Outlet(NamedTuple):
    """The way out of one feeder."""

    line: MulticastLine | SilentLine
    publisher: Publisher
    tell: Callable[[bytes], object]
    """Sends a line to the monitoring group."""


def open_outlet(spec: VenueSpec, config: Config, base_flags: int, *, publish: bool) -> Outlet:
    """Open the sockets and begin a session; without `publish` neither.

    Raises OSError where the interface, or the folder that keeps the epochs, cannot be used.
    """
    network, replica = config.network, config.feeder.replica
    channel_id = channel_of(spec.name, replica)
    if not publish:
        silent = SilentLine()
        return Outlet(
            silent, Publisher(silent, venue_id=spec.venue_id, channel_id=channel_id, session=1, base_flags=base_flags), _nobody
        )
    lines = lines_of(spec.name, network, replica)
    senders = [
        Sender(group, port, interface=network.interface, ttl=network.ttl, allow_routing=network.wide_area)
        for group, port in lines
    ]
    text = TextSender(
        network.monitor_group, lines[0][1], interface=network.interface, ttl=network.ttl, allow_routing=network.wide_area
    )
    key = sending_key(spec.name, network)
    line = MulticastLine(*senders)
    publisher = Publisher(
        line,
        venue_id=spec.venue_id,
        channel_id=channel_id,
        session=next_epoch(Path(config.feeder.state_dir), channel_id, int(time.time())),
        base_flags=base_flags,
        sealer=None if key is None else Sealer(key),
    )
    return Outlet(line, publisher, text.send)


def _nobody(_line: bytes) -> None:
    """Tell nobody."""
