"""Where a feeder's packets and monitoring lines go: the venue's channel, or nowhere for a
process that only records.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tapecast.feeder.venues.spec import VenueSpec
from tapecast.protocol.authentication import Sealer
from tapecast.protocol.net.io import Sender, TextSender
from tapecast.protocol.publish.lines import MulticastLine, SilentLine
from tapecast.protocol.publish.publisher import Publisher, next_epoch
from tapecast.runtime.channels import channel_of, lines_of
from tapecast.runtime.keys import sending_key
from tapecast.runtime.settings import Config

__all__ = ["ChannelSender", "open_channel_sender"]


class ChannelSender(NamedTuple):
    """The way out of one feeder."""

    line: MulticastLine | SilentLine
    publisher: Publisher
    tell: Callable[[bytes], object]
    """Sends a line to the monitoring group."""


def open_channel_sender(
    spec: VenueSpec, config: Config, base_flags: int, *, publish: bool
) -> ChannelSender:
    """Open the sockets and begin a session; without `publish` neither.

    Raises OSError where the interface, or the folder that keeps the epochs, cannot be used.
    """
    network, replica = config.network, config.feeder.replica
    channel_id = channel_of(spec.name, replica)
    if not publish:
        silent = SilentLine()
        return ChannelSender(
            silent,
            Publisher(
                silent,
                venue_id=spec.venue_id,
                channel_id=channel_id,
                session=1,
                base_flags=base_flags,
            ),
            _nobody,
        )
    lines = lines_of(spec.name, network, replica)
    senders = [
        Sender(
            group,
            port,
            interface=network.interface,
            ttl=network.ttl,
            allow_routing=network.wide_area,
        )
        for group, port in lines
    ]
    text = TextSender(
        network.monitor_group,
        lines[0][1],
        interface=network.interface,
        ttl=network.ttl,
        allow_routing=network.wide_area,
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
    return ChannelSender(line, publisher, text.send)


def _nobody(_line: bytes) -> None:
    """Tell nobody."""
