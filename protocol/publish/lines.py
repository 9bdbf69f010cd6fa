"""Where a channel's packets go: one interface, three ends.

`MulticastLine` sends them on line A and, where there is one, line B (wire specification, section
5); `MemoryLine` keeps them, for decoding and tests; `SilentLine` numbers them and lets them go,
for a process that only records. Numbers are `protocol.stamping`'s, tags
`protocol.authentication`'s, sockets `protocol.net.io`'s; a line decides none of them.
"""

from __future__ import annotations

from typing import Protocol

from tapecast.protocol.authentication import Sealer
from tapecast.protocol.net.io import Sender
from tapecast.protocol.stamping import Stamper

__all__ = ["Line", "MemoryLine", "MulticastLine", "SilentLine"]


class Line(Protocol):
    """Where packets go: multicast, or memory."""

    def publish(
        self,
        stamper: Stamper,
        buffer: bytearray | memoryview,
        nbytes: int,
        *,
        keep: bool,
        sealer: Sealer | None = None,
    ) -> int:
        """Stamp the contiguous packets of `buffer[:nbytes]` in place, seal and send them, and
        return how many there are.
        """
        ...

    def send(self, packet: bytes) -> None:
        """Send a packet that is not part of the sequence."""
        ...


class MulticastLine:
    """Multicast on line A and, where there is one, the same packets on line B."""

    def __init__(self, line_a: Sender, line_b: Sender | None = None) -> None:
        self.senders: tuple[Sender, ...] = (line_a,) if line_b is None else (line_a, line_b)
        self._a, self._b = line_a, line_b
        self.flags = 0
        """Header flags added to every packet of the sequence."""

    def publish(
        self,
        stamper: Stamper,
        buffer: bytearray | memoryview,
        nbytes: int,
        *,
        keep: bool,
        sealer: Sealer | None = None,
    ) -> int:
        """Stamp, seal and send in one C call."""
        return self._a.publish(
            stamper, buffer, nbytes, keep=keep, flags=self.flags, line_b=self._b, sealer=sealer
        )

    def send(self, packet: bytes) -> None:
        """Send one packet as it is."""
        for sender in self.senders:
            sender.send(packet, len(packet))


class SilentLine:
    """Numbers packets, so that events are counted, and sends nothing: for a process that only
    records.
    """

    senders: tuple[Sender, ...] = ()
    flags = 0

    def publish(
        self,
        stamper: Stamper,
        buffer: bytearray | memoryview,
        nbytes: int,
        *,
        keep: bool,
        sealer: Sealer | None = None,
    ) -> int:
        """Stamp."""
        return stamper.stamp(buffer, nbytes, keep=keep, ts_send_ns=1)

    def send(self, packet: bytes) -> None:
        """Leave it."""


class MemoryLine:
    """Keeps packets instead of sending them; for decoding and tests. `take` returns and clears
    them.
    """

    def __init__(self, clock_ns: int = 1) -> None:
        self._parts: list[bytes] = []
        self.clock_ns = clock_ns
        """Send time to stamp, so that the same recording gives the same bytes."""

    def publish(
        self,
        stamper: Stamper,
        buffer: bytearray | memoryview,
        nbytes: int,
        *,
        keep: bool,
        sealer: Sealer | None = None,
    ) -> int:
        """Stamp, seal and keep a copy."""
        count = stamper.stamp(buffer, nbytes, keep=keep, ts_send_ns=self.clock_ns)
        packets = bytes(buffer[:nbytes])
        self._parts.append(packets if sealer is None else sealer.seal(packets))
        return count

    def send(self, packet: bytes) -> None:
        """Keep one packet as it is."""
        self._parts.append(packet)

    def take(self) -> bytes:
        """Return what was published since the last call, contiguous."""
        out = b"".join(self._parts)
        self._parts.clear()
        return out
