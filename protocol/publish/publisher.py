"""The publisher of one channel, a venue's or a derived one: stamps finished packets and sends them.

It owns the session epoch, the channel's sequence and the per-instrument sequences (wire
specification, sections 3 and 6). Sessions begin with SESSION_START (sequence 1) and end with
SESSION_END; heartbeats carry the next sequence, so that a lost last packet shows. Where packets
go is a line's (`protocol.publish.lines`), when something is repeated the schedule's
(`protocol.publish.schedule`), what is repeated the caller's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tapecast.protocol.authentication import Sealer
from tapecast.protocol.codec import encode
from tapecast.protocol.publish.book_packets import BookPackets, Stamp
from tapecast.protocol.publish.lines import Line
from tapecast.protocol.records import Header, HeartbeatItem
from tapecast.protocol.ring import Ring
from tapecast.protocol.schema import TAG_SIZE, MsgType
from tapecast.protocol.stamping import COLUMN_OF, Stamper

__all__ = ["Publisher", "next_epoch"]

_LAST_SESSION = 2**32 - 1
_SESSION_DIGITS = 10
"""Of `_LAST_SESSION`, the largest that a header holds."""
_COUNTED = (MsgType.TRADE, MsgType.BOOK, MsgType.BBO, MsgType.STAT, MsgType.LIQUIDATION)


def next_epoch(state_dir: Path, channel_id: int, now_s: int) -> int:
    """Return the session of a starting publisher, max(last stored + 1, unix seconds), and store
    it durably.

    Raises OSError if `state_dir` cannot be written: without it two sessions could be taken for
    one.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    path = state_dir / f"session-{channel_id}"
    stored = path.read_bytes().strip() if path.exists() else b""
    # A file that holds no session (a damaged disk, another program) is as none.
    last = int(stored) if stored.isdigit() and len(stored) <= _SESSION_DIGITS else 0
    epoch = max(last + 1 if last < _LAST_SESSION else 0, now_s)
    partial = path.with_suffix(".new")
    with partial.open("w") as file:
        file.write(f"{epoch}\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(state_dir, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return epoch


class Publisher:
    """Stamps and sends the packets of one channel; with a sealer whatever leaves it carries a
    tag.
    """

    def __init__(
        self,
        line: Line,
        *,
        venue_id: int,
        channel_id: int,
        session: int,
        base_flags: int,
        sealer: Sealer | None = None,
    ) -> None:
        self._line = line
        self._sealer = sealer
        self.ring: Ring | None = None
        """Keeps what is published, where a recovery service has set it; from the session's first
        packet on.
        """
        self._room = 64
        self._stamper = Stamper(session, instruments=self._room)
        self.header = Header(
            channel_id=channel_id, venue_id=venue_id, flags=base_flags, session=session
        )
        """What its packets have in common."""
        self.session = session
        self.packets = 0
        self.bytes = 0

    def instruments(self, count: int) -> None:
        """Make room for the sequences of `count` instruments; call whenever instruments were
        added.
        """
        if count > self._room:
            self._stamper.reserve(2 * count)
            self._room = 2 * count

    @property
    def last_seq(self) -> int:
        """Channel sequence of the last numbered packet."""
        return self._stamper.next_seq - 1

    def publish(self, buffer: bytearray | memoryview, nbytes: int) -> None:
        """Stamp the packets of `buffer[:nbytes]` in place and send them."""
        self._publish(buffer, nbytes, keep=False)

    def repeat(self, packets: bytes) -> None:
        """Send packets that carry no new event: definitions, and cycle snapshots with the last
        book sequence.
        """
        if packets:
            self._publish(bytearray(packets), len(packets), keep=True)

    def _publish(self, buffer: bytearray | memoryview, nbytes: int, *, keep: bool) -> None:
        stamper = self._stamper
        sealer = self._sealer
        count = self._line.publish(stamper, buffer, nbytes, keep=keep, sealer=sealer)
        if sealer is not None:
            buffer, nbytes = sealer.out, nbytes + count * TAG_SIZE
        self.packets += count
        self.bytes += nbytes
        if self.ring is not None:
            self.ring.append(stamper.next_seq - count, count, buffer, nbytes)

    @property
    def oldest_seq(self) -> int:
        """`channel_seq` of the oldest packet that can be repeated; 0 = none."""
        return 0 if self.ring is None else self.ring.oldest_seq

    @property
    def next_seq(self) -> int:
        """`channel_seq` of the next packet."""
        return self._stamper.next_seq

    def state(self, parts: Iterable[bytes], now_ns: int) -> tuple[bytearray, int]:
        """Return packets that show how things stand, joined and stamped for a single receiver,
        and how many they are.

        No number is taken. Their `channel_seq` is that of the last packet published: the point
        at which who has them joins the stream.
        """
        buffer = bytearray().join(parts)
        count = self._stamper.stamp_state(buffer, len(buffer), ts_send_ns=now_ns)
        return buffer if self._sealer is None else bytearray(self._sealer.seal(buffer)), count

    def stamp(self, index: int, msg_type: MsgType, now_ns: int) -> Stamp:
        """Return what `state` would write into packets of an instrument and type now, for
        packets that are made later.
        """
        return Stamp(
            self.session,
            self._stamper.next_seq - 1,
            self._stamper.last_seq(index, msg_type),
            now_ns,
        )

    def pieces(self, book: BookPackets) -> list[Callable[[], bytes]]:
        """Return what makes the pieces of a book with such a stamp. As with `state`, they go to
        a receiver as they are.
        """
        if self._sealer is None:
            return [partial(book.piece, number) for number in range(len(book))]
        return [partial(self._sealed_piece, book, number) for number in range(len(book))]

    def _sealed_piece(self, book: BookPackets, number: int) -> bytes:
        return self._sealed(book.piece(number))

    @property
    def counters(self) -> npt.NDArray[np.uint32]:
        """Events published so far: one row an instrument, one column a message type
        (`protocol.stamping.COLUMN_OF`).
        """
        return self._stamper.seqs

    def events(self) -> dict[str, int]:
        """Return how many events of each kind were published, summed over the instruments."""
        sums = self._stamper.seqs.sum(axis=0, dtype="u8")
        return {kind.name.lower(): int(sums[COLUMN_OF[kind]]) for kind in _COUNTED}

    def start(self, beat: HeartbeatItem) -> None:
        """Open the session."""
        packets = b"".join(encode(self.header._replace(msg_type=MsgType.SESSION_START), (beat,)))
        self.publish(bytearray(packets), len(packets))

    def heartbeat(self, beat: HeartbeatItem, now_ns: int) -> None:
        """Send a heartbeat: the next sequence, which it does not consume."""
        self._unsequenced(MsgType.HEARTBEAT, beat, now_ns)

    def end(self, beat: HeartbeatItem, now_ns: int) -> None:
        """Say that the session is over; the caller repeats it."""
        self._unsequenced(MsgType.SESSION_END, beat, now_ns)

    def _unsequenced(self, msg_type: MsgType, beat: HeartbeatItem, now_ns: int) -> None:
        header = self.header._replace(
            msg_type=msg_type, channel_seq=self._stamper.next_seq, ts_send_ns=now_ns
        )
        for packet in encode(header, (beat,)):
            self._line.send(self._sealed(packet))

    def _sealed(self, packets: bytes) -> bytes:
        return packets if self._sealer is None else self._sealer.seal(packets)
