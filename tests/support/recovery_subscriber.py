"""A receiver of one channel, venue's or derived, made of the project's own parts: receiver,
sequencer and recovery client, over real sockets. Packets can be lost on the way in.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from tapecast.consumers.feed.recovery.client import RecoveryClient
from tapecast.consumers.feed.recovery.manager import RecoveryManager, options_of
from tapecast.consumers.feed.recovery.socket import RecoverySocket
from tapecast.protocol.codec import Packet, decode
from tapecast.protocol.net.io import Receiver
from tapecast.protocol.net.sequencing import EventKind, SequencingEvent
from tapecast.protocol.schema import MsgType
from tapecast.runtime.channels import Channel
from tapecast.runtime.keys import Admission
from tapecast.runtime.settings import Config
from tests.support.venue_server import eventually

__all__ = ["Subscriber"]


class Subscriber:
    """Joins the channel's group at once; `turn` reads and repairs without waiting."""

    def __init__(
        self, config: Config, channel: Channel, lose: Callable[[Packet], bool] = lambda _: False
    ) -> None:
        """`lose` decides of each packet that is no heartbeat whether it never arrives."""
        network = config.network
        admission = Admission([channel.name], network)
        self.keys = admission.keys.get(channel.channel_id, ())
        self.receiver = Receiver(
            channel.lines(network), interface=network.interface, rcvbuf=1 << 20
        )
        options = options_of(config.consumer)
        assert options is not None
        self.options = options
        self.sequencer = admission.sequencer(
            max_spans=self.receiver.max_spans, repair_ns=options.repair_ns
        )
        self.recovery = RecoveryManager(self.sequencer, options, keys=admission.keys)
        self.channel = channel
        self.packets: list[bytes] = []
        """What was delivered, in order, heartbeats left out."""
        self.beats: list[Packet] = []
        self.events: list[SequencingEvent] = []
        self.lost: list[int] = []
        self._lose = lose

    @property
    def decoded(self) -> list[Packet]:
        """The delivered packets, decoded; their tags are checked."""
        return [decode(packet, keys=self.keys) for packet in self.packets]

    def of(self, msg_type: MsgType) -> list[Packet]:
        """Return the delivered packets of a type."""
        return [packet for packet in self.decoded if packet.header.msg_type == msg_type]

    def kinds(self) -> list[EventKind]:
        """Return what happened, besides packets."""
        return [event.kind for event in self.events]

    def turn(self) -> bool:
        """Read what has arrived, ask for what is missing, and take what the service brings."""
        count = self.receiver.receive(0.0)
        spans = self.receiver.spans[:count].copy()
        arrived = [n for n in range(count) if not self._is_lost(bytes(self.receiver.packet(n)))]
        spans = spans[np.array(arrived, dtype=np.intp)]
        now_ns = time.monotonic_ns()
        self._take(self.sequencer.process(self.receiver.buffer, spans, len(spans), now_ns), now_ns)
        self.recovery.tick(None, now_ns)
        self.recovery.pump(None, now_ns)
        while (mended := self.recovery.mend(now_ns)) is not None:
            self._take(mended.deliveries, now_ns)
        return True

    async def until(self, condition: Callable[[], object]) -> None:
        """Take turns until `condition` is true."""
        await eventually(lambda: self.turn() and condition())

    async def joined(self) -> list[bytes]:
        """Return the definitions and last states that a new client of the service gets."""
        state = self.sequencer.channel(self.channel.channel_id)
        assert state is not None
        client = RecoveryClient(
            self.channel.channel_id,
            state.venue_id,
            self.options,
            chance=lambda: 0.0,
            keys=self.keys,
        )
        socket = RecoverySocket(client)
        client.serve(state.service, state.session, time.monotonic_ns())
        client.definitions(time.monotonic_ns())
        client.book(0, time.monotonic_ns())

        def answered() -> bool:
            socket.pump(time.monotonic_ns())
            return len(client.answers) == 2

        await eventually(answered)
        socket.close()
        assert not client.counts["failures"]
        return client.states

    def close(self) -> None:
        """Leave the group and the service."""
        self.recovery.close()
        self.receiver.close()

    def _is_lost(self, data: bytes) -> bool:
        packet = decode(data)
        if packet.header.msg_type == MsgType.HEARTBEAT or not self._lose(packet):
            return False
        self.lost.append(packet.header.channel_seq)
        return True

    def _take(self, deliveries: int, now_ns: int) -> None:
        for n in range(deliveries):
            data = bytes(self.sequencer.packet(n))
            packet = decode(data, keys=self.keys)
            if packet.header.msg_type == MsgType.HEARTBEAT:
                self.beats.append(packet)
            else:
                self.packets.append(data)
        events = self.sequencer.events
        self.events += events
        self.recovery.events(events, now_ns)
