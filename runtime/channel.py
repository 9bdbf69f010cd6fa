"""A channel as its owner holds it, a feeder or a host: opened from the configuration, with
publisher, heartbeats, repetitions, recovery service and authentication.

The one assembly of `protocol.publish`. Which channel it is comes from `runtime.channels`, keys
from `runtime.keys`, and what is published, repeated and served from the owner. In a few lines:

    channel = open_channel(config, channel_named("nbbo"))
    table = StateTable()
    channel.serve(table)
    await channel.start()
    table.update(packets)                    # the last state of an instrument
    channel.publish(packets)
    channel.tick(time.monotonic_ns())        # about 40 times a second
    await channel.end()
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tapecast.protocol.authentication import Sealer
from tapecast.protocol.net.io import Sender, TextSender
from tapecast.protocol.publish.lines import MulticastLine, SilentLine
from tapecast.protocol.publish.publisher import Publisher, next_epoch
from tapecast.protocol.publish.recovery.service import RecoveryService
from tapecast.protocol.publish.recovery.source import ChannelSource, States
from tapecast.protocol.publish.recovery.types import Limits
from tapecast.protocol.publish.schedule import Schedule, SchedulePolicy
from tapecast.protocol.records import HeartbeatItem
from tapecast.protocol.ring import Ring
from tapecast.protocol.schema import VENUES
from tapecast.runtime.channels import Channel
from tapecast.runtime.keys import channel_keys, sending_key
from tapecast.runtime.settings import Config

__all__ = ["ChannelSender", "Health", "open_channel"]

_END_EVERY_S = 0.25


class Health(NamedTuple):
    """What a heartbeat carries of its publisher, besides what the channel knows itself."""

    upstream_dropped: int = 0
    """Messages of its input lost before they reached a packet."""
    suspect: int = 0
    """Books not LIVE."""
    health: int = 0
    """0 good, 1 degraded, 2 no input."""


class ChannelSender:
    """One channel on its way out, made by `open_channel`.

    `serve` once, then `start`; from there to `end`, `publish` and `tick`. Not for several threads.
    """

    def __init__(
        self,
        config: Config,
        channel: Channel,
        line: MulticastLine | SilentLine,
        publisher: Publisher,
        texts: TextSender | None,
    ) -> None:
        self.channel = channel
        self.line = line
        self.publisher = publisher
        """Publishes packets of the caller's buffer without a copy; whoever uses it makes room for
        new instruments first (`Publisher.instruments`).
        """
        self.schedule: Schedule
        """What is due when; there from `start` on."""
        self.recovery: RecoveryService
        """There from `serve` on."""
        self._config = config
        self._texts = texts
        self._states: States
        self._health: Callable[[], Health] = Health

    def serve(self, states: States, health: Callable[[], Health] = Health) -> None:
        """Repeat and serve these states from `start` on, and ask `health` for each heartbeat.
        Call it once, before anything is published: what is published before cannot be repaired.

        Raises ConfigError where a key is missing or wrong.
        """
        config, publisher = self._config, self.publisher
        recovery, network = config.recovery, config.network
        self._states, self._health = states, health
        listen = recovery.enabled and isinstance(self.line, MulticastLine)
        ring = Ring(recovery.ring_bytes)
        if listen:
            publisher.ring = ring
        channel_id = self.channel.channel_id
        self.recovery = RecoveryService(
            ChannelSource(states, publisher, ring),
            _limits(config),
            self.channel.label,
            network.interface,
            recovery.port + channel_id if recovery.port else 0,
            listen=listen,
            keys=channel_keys((self.channel.name,), network).get(channel_id, ()),
        )

    async def start(self) -> None:
        """Let the recovery service listen, publish SESSION_START, and begin the schedule."""
        await self.recovery.start()
        self.publisher.start(self.beat())
        self.schedule = Schedule(_schedule_policy(self._config), time.monotonic_ns())

    def publish(self, packets: bytes | bytearray) -> None:
        """Number and send finished packets; they are copied. `instrument_seq` holds the index of
        the instrument, which `states` has. Raises StampError, with nothing sent, where a packet
        cannot be numbered.
        """
        self.publisher.instruments(self._states.instruments)
        self.publisher.publish(bytearray(packets), len(packets))

    def tick(self, now_ns: int) -> None:
        """Send the heartbeat, definitions and snapshots that are due at `now_ns` (monotonic)."""
        publisher, states, schedule = self.publisher, self._states, self.schedule
        publisher.instruments(states.instruments)
        if schedule.heartbeat_due(publisher.packets, now_ns):
            publisher.heartbeat(self.beat(), time.time_ns())
        for index in schedule.definitions.due(states.instruments, now_ns):
            publisher.repeat(states.definition(index))
        for index in schedule.snapshots.due(states.instruments, now_ns):
            publisher.repeat(states.snapshot(index))

    def send_text(self, line: bytes) -> None:
        """Send a line to the monitoring group; nowhere if nothing is published."""
        if self._texts is not None:
            self._texts.send(line)

    def beat(self) -> HeartbeatItem:
        """Return what a heartbeat carries now. Call it after `serve`."""
        health = self._health()
        return HeartbeatItem(
            oldest_seq=self.publisher.oldest_seq,
            upstream_dropped=health.upstream_dropped,
            instruments=self._states.instruments,
            suspect=health.suspect,
            interval_ms=self._config.feeder.heartbeat_max_ms,
            recovery_port=self.recovery.port,
            health=health.health,
        )

    async def end(self) -> None:
        """Repeat SESSION_END for `feeder.session_end_s`, then close the recovery service. Nothing
        may be published afterwards; the counters of publisher and line stay.
        """
        until = time.monotonic() + self._config.feeder.session_end_s
        self.publisher.end(self.beat(), time.time_ns())
        while time.monotonic() < until:
            await asyncio.sleep(min(_END_EVERY_S, max(0.0, until - time.monotonic())))
            self.publisher.end(self.beat(), time.time_ns())
        await self.recovery.close()


def open_channel(
    config: Config, channel: Channel, *, base_flags: int = 0, publish: bool = True
) -> ChannelSender:
    """Open the sockets of a channel and begin a session, greater than every one before it in
    `feeder.state_dir`; without `publish` neither. `base_flags` stand in every packet.

    Raises OSError where the interface, or the folder that keeps the epochs, cannot be used, and
    ConfigError where a key is missing or wrong.
    """
    network = config.network
    venue_id = VENUES.get(channel.name, 0)
    if not publish:
        silent = SilentLine()
        publisher = Publisher(
            silent,
            venue_id=venue_id,
            channel_id=channel.channel_id,
            session=1,
            base_flags=base_flags,
        )
        return ChannelSender(config, channel, silent, publisher, None)
    lines = channel.lines(network)
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
    texts = TextSender(
        network.monitor_group,
        lines[0][1],
        interface=network.interface,
        ttl=network.ttl,
        allow_routing=network.wide_area,
    )
    key = sending_key(channel.name, network)
    line = MulticastLine(*senders)
    publisher = Publisher(
        line,
        venue_id=venue_id,
        channel_id=channel.channel_id,
        session=next_epoch(Path(config.feeder.state_dir), channel.channel_id, int(time.time())),
        base_flags=base_flags,
        sealer=None if key is None else Sealer(key),
    )
    return ChannelSender(config, channel, line, publisher, texts)


def _limits(config: Config) -> Limits:
    recovery = config.recovery
    return Limits(
        clients=recovery.clients,
        packets_per_s=recovery.packets_per_s,
        bytes_per_s=recovery.bytes_per_s,
        books_per_s=recovery.books_per_s,
        backlog=recovery.backlog,
        idle_ns=int(recovery.idle_timeout_s * 1e9),
        stall_ns=int(recovery.stall_timeout_s * 1e9),
    )


def _schedule_policy(config: Config) -> SchedulePolicy:
    feeder = config.feeder
    return SchedulePolicy(
        heartbeat_idle_ms=feeder.heartbeat_idle_ms,
        heartbeat_max_ms=feeder.heartbeat_max_ms,
        definition_cycle_s=feeder.definition_cycle_s,
        snapshot_cycle_s=feeder.snapshot_cycle_s,
    )
