"""Numbering packets at publication: session, channel sequence, instrument sequence, send time.

The rules stand in the wire specification, sections 2, 3 and 6; the routine is
`protocol/native/stamp.c`. Whoever builds a packet writes the dense *instrument index* into
`instrument_seq` and leaves session, channel_seq and ts_send_ns zero; stamping replaces all four.
It does not send (`protocol.net.io`), and it does not authenticate: tags come after stamping
(`protocol.authentication`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tapecast.protocol._native import ffi, lib
from tapecast.protocol.schema import MsgType

__all__ = ["COLUMN_OF", "STAMP_COLUMNS", "StampError", "Stamper", "WritableBuffer", "reason_of"]

WritableBuffer = bytearray | memoryview | npt.NDArray[np.uint8]

STAMP_COLUMNS = 16
"""Columns of the counter table: more than are in use, so that a row is one cache line."""

COLUMN_OF: dict[MsgType, int] = {
    MsgType.BOOK: 0,
    MsgType.BBO: 1,
    MsgType.TRADE: 2,
    MsgType.STAT: 3,
    MsgType.LIQUIDATION: 4,
    MsgType.INSTRUMENT: 5,
    MsgType.TICK_TABLE: 6,
    MsgType.STATUS: 7,
    MsgType.TEXT: 8,
}
"""Message types that are numbered by instrument, with their column; the C routine has the same
table.
"""

_REASONS = {
    -1: "no packet stands here",
    -2: "instrument index outside the table",
    -3: "message type cannot name an instrument",
    -4: "AUTH cannot be added to a finished packet",
    -5: "a datagram has no room for the packet and its tag",
}


def reason_of(code: int) -> str:
    """Return what a negative result of stamping, sealing or publishing means."""
    return _REASONS[code]


class StampError(ValueError):
    """A buffer that cannot be stamped; nothing in it was changed. `offset` is the refused
    packet's, in bytes.
    """

    def __init__(self, reason: str, offset: int) -> None:
        """Say why, and where."""
        super().__init__(f"{reason} (offset {offset})")
        self.reason = reason
        self.offset = offset


class Stamper:
    """The numbers of one channel in one session.

    `seqs` is the table of last instrument sequences, u32 [instruments, 16]; it grows with
    `reserve` and belongs to this object.
    """

    def __init__(self, session: int, *, instruments: int = 0, next_seq: int = 1) -> None:
        """Start a session; `instruments` is how many indexes to make room for."""
        self._c = ffi.new("tc_stamper *")
        self._c.session = session
        self._c.next_seq = next_seq
        self.seqs: npt.NDArray[np.uint32] = np.zeros((0, STAMP_COLUMNS), np.uint32)
        self.reserve(instruments)

    @property
    def session(self) -> int:
        """Session written into every packet."""
        return int(self._c.session)

    @property
    def next_seq(self) -> int:
        """`channel_seq` of the next sequenced packet; what a heartbeat carries."""
        return int(self._c.next_seq)

    def reserve(self, instruments: int) -> None:
        """Make room for instrument indexes below `instruments`; counters keep their values."""
        if instruments <= len(self.seqs):
            return
        grown = np.zeros((max(instruments, 2 * len(self.seqs)), STAMP_COLUMNS), np.uint32)
        grown[: len(self.seqs)] = self.seqs
        self.seqs = grown
        self._c.seqs = ffi.from_buffer("uint32_t[]", grown)
        self._c.n_instruments = len(grown)

    def last_seq(self, index: int, msg_type: MsgType) -> int:
        """Return the last `instrument_seq` given to this instrument and message type; 0 = none
        yet.
        """
        return int(self.seqs[index, COLUMN_OF[msg_type]])

    def stamp(
        self,
        buffer: WritableBuffer,
        nbytes: int,
        *,
        keep: bool = False,
        flags: int = 0,
        ts_send_ns: int = 0,
    ) -> int:
        """Stamp the contiguous packets in the first `nbytes` of `buffer` and return how many
        there are.

        `keep`: packets with SNAPSHOT and RECOVERED (the cycle snapshots) carry the last number
        of their instrument and type instead of a new one. `flags` are added to every packet.
        `ts_send_ns` 0 reads the clock once. Raises StampError.
        """
        data = ffi.from_buffer("uint8_t[]", buffer, require_writable=True)
        if not 0 <= nbytes <= len(data):
            raise StampError(f"{nbytes} bytes in a buffer of {len(data)}", 0)
        packets = int(lib.tc_stamp(self._c, data, nbytes, keep, flags, ts_send_ns))
        if packets < 0:
            raise self._error(packets)
        return packets

    def stamp_state(self, buffer: WritableBuffer, nbytes: int, *, ts_send_ns: int) -> int:
        """Stamp packets that report how things stand, for the recovery service, and return how
        many there are; no number is taken.

        Each carries the channel's last number (0: none yet) and the last one of its instrument
        and type. Raises StampError.
        """
        data = ffi.from_buffer("uint8_t[]", buffer, require_writable=True)
        if not 0 <= nbytes <= len(data):
            raise StampError(f"{nbytes} bytes in a buffer of {len(data)}", 0)
        packets = int(lib.tc_stamp_state(self._c, data, nbytes, ts_send_ns))
        if packets < 0:
            raise self._error(packets)
        return packets

    def _error(self, code: int) -> StampError:
        return StampError(reason_of(code), int(self._c.error_offset))
