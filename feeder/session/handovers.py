"""The replacements of a session's connections that are under way, and which of their messages are
to be handled.

`feeder.session.handover` judges a pair of connections; this keeps the pairs by the names of their
connections and carries the judgement out on the buffer. It reads no venue message and does no
I/O; what becomes of the books at the end is `feeder.session.session`'s matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tapecast.feeder.extract.types import Result
from tapecast.feeder.session.books import Books
from tapecast.feeder.session.buffer import Buffer
from tapecast.feeder.session.handover import Handover, HandoverPolicy
from tapecast.feeder.session.sync import SequenceRule
from tapecast.feeder.session.types import SessionInstrument
from tapecast.protocol.schema import MsgType

__all__ = ["Handovers"]

_BOOK = int(MsgType.BOOK)


class Handovers:
    """The pairs of one session, by the name of either connection."""

    def __init__(
        self,
        instruments: Sequence[SessionInstrument],
        buffer: Buffer,
        books: Books,
        counts: Counter[str],
    ) -> None:
        self.by_connection: dict[str, Handover] = {}
        """Always the same object; empty while nothing is replaced."""
        self._instruments = instruments
        self._buffer = buffer
        self._books = books
        self._rule = books.sequence_rule
        self._counts = counts

    def begin(self, old: str, new: str, policy: HandoverPolicy) -> None:
        """Note that `new` is about to be opened in place of `old`."""
        handover = Handover(old, new, policy)
        self.by_connection[old] = self.by_connection[new] = handover

    def replacing(self, new: str) -> bool:
        """Whether `new` is about to replace another connection."""
        handover = self.by_connection.get(new)
        return handover is not None and handover.new == new and handover.finished_ns is None

    def acked(self, connection: str) -> dict[int, int] | None:
        """Return where acknowledgements of a connection that is about to replace another belong;
        None for any other connection.
        """
        return self.by_connection[connection].acked if self.replacing(connection) else None

    def admits(self, connection: str, data: bytes, result: Result, ts_recv_ns: int) -> bool:
        """Whether the message at the end of the buffer is to be handled now. What is left of a
        message in part goes out here.
        """
        handover = self.by_connection.get(connection)
        if handover is None:
            return True
        instrument = self._instruments[result.instrument]
        single = result.msg_type != _BOOK or self._rule is SequenceRule.FULL
        if single and (handover.draining or handover.finished_ns is not None):
            admitted = self._keep_new(handover, result)
        elif handover.finished_ns is not None:
            admitted = not handover.trails(instrument, result)
        elif not single:
            restart = self._books.is_restart(result)
            admitted = handover.book(instrument, connection, result, self._rule, restart=restart)
        else:
            packets = self._buffer.copy(result.nbytes)
            admitted = handover.other(connection, data, result, packets, ts_recv_ns)
        if not admitted:
            self._counts["overlap"] += 1
        return admitted

    def finish(self, handover: Handover, name: str, other: str, now_ns: int) -> None:
        """Note that one connection is left, called `name`; `other` is gone."""
        self.by_connection.pop(other, None)
        handover.finish(name, now_ns)
        if handover.over(now_ns):
            self.by_connection.pop(name, None)

    def forget(self, connection: str) -> None:
        """Forget the replacement of a connection that was lost."""
        self.by_connection.pop(connection, None)

    def sweep(self, now_ns: int) -> None:
        """Forget what is over; call about once a second."""
        for name in [name for name, one in self.by_connection.items() if one.over(now_ns)]:
            del self.by_connection[name]

    def _keep_new(self, handover: Handover, result: Result) -> bool:
        """Take out of the message at the end of the buffer what the old connection brought;
        whether anything is left to handle.
        """
        buffer = self._buffer
        packets = buffer.copy(result.nbytes)
        left = handover.left(packets, result.last_id)
        if len(left) == len(packets):
            return True
        if left and result.msg_type != _BOOK:
            buffer.place(left)
            buffer.position += len(left)
        return False
