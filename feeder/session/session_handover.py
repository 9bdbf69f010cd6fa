"""A session whose connections are replaced while they run: what goes out, what is held back, and
who is called what.

The middle layer of `feeder.session.session.Session`: `feeder.session.handover` judges the
messages of a pair of connections, this carries the judgement out on the session's buffer and
books. No I/O, no venue messages.
"""

from __future__ import annotations

from tapecast.feeder.extract.types import Result
from tapecast.feeder.session.books import SessionBooks
from tapecast.feeder.session.handover import Handover, HandoverPolicy, Outcome
from tapecast.feeder.session.sync import NO_ID, SequenceRule
from tapecast.feeder.session.types import SessionInstrument, SessionOptions
from tapecast.feeder.venues.spec import VenueSpec
from tapecast.protocol.schema import MsgType, StatusReason, StatusState

__all__ = ["SessionHandover"]

_BOOK = int(MsgType.BOOK)
_FIRST_ID = 1


class SessionHandover(SessionBooks):
    """The books of a session, and the replacements under way."""

    def __init__(self, spec: VenueSpec, options: SessionOptions) -> None:
        super().__init__(spec, options)
        self._handovers: dict[str, Handover] = {}
        """Name of a connection -> the replacement it takes part in."""

    def begin_handover(self, old: str, new: str, policy: HandoverPolicy) -> None:
        """Note that `new` is about to be opened in place of `old`."""
        handover = Handover(old, new, policy)
        self._handovers[old] = self._handovers[new] = handover

    def replacing(self, new: str) -> bool:
        """Whether `new` is about to replace another connection."""
        handover = self._handovers.get(new)
        return handover is not None and handover.new == new and handover.finished_ns is None

    def handover_subscribed(self, new: str, now_ns: int) -> None:
        """Note that the new connection has sent its requests."""
        self._handovers[new].subscribed(now_ns)

    def handover_verdict(self, new: str, now_ns: int) -> Outcome:
        """Say whether the old connection can be closed."""
        handover = self._handovers[new]
        return handover.verdict(
            (one for one in self.instruments if one.connection == handover.old), now_ns
        )

    def end_handover(self, new: str, now_ns: int, ts_recv_ns: int) -> None:
        """Let the new connection take the place and the name of the old one, which will not be
        heard any more.
        """
        handover = self._handovers[new]
        old = handover.old
        for held in handover.drain():
            self.on_frame(new, held.data, held.ts_recv_ns, now_ns, again=True)
        left_behind = [one for one in self.instruments if one.connection == old and one.sync.live]
        self.rename(new, old)
        for instrument in left_behind:
            if handover.behind(instrument) or not self._joined_by_itself(instrument):
                # It was LIVE on the old connection, and nothing shows that the new one goes on
                # from there.
                self._book_status(
                    instrument, StatusState.SUSPECT, StatusReason.DISCONNECTED, ts_recv_ns
                )
                self._resync(instrument, StatusReason.DISCONNECTED, now_ns)
        self.counts["rotations"] += 1
        self._finish(handover, old, new, now_ns)

    def abandon_handover(self, new: str, now_ns: int, ts_recv_ns: int) -> None:
        """Go on with the old connection alone, unless that was settled before."""
        handover = self._handovers.get(new)
        if handover is None:
            return
        old = handover.old
        for instrument in self.instruments:
            if (
                instrument.connection == new
                and not handover.give_back(instrument)
                and instrument.sync.live
            ):
                self._book_status(
                    instrument, StatusState.SUSPECT, StatusReason.DISCONNECTED, ts_recv_ns
                )
                self._resync(instrument, StatusReason.DISCONNECTED, now_ns)
        self.forget(new)
        self.counts["rotations_abandoned"] += 1
        self._finish(handover, old, new, now_ns)

    def sweep_handovers(self, now_ns: int) -> None:
        """Forget what is over; call about once a second."""
        self._handovers = {
            name: one for name, one in self._handovers.items() if not one.over(now_ns)
        }

    def on_frame(
        self, connection: str, data: bytes, ts_recv_ns: int, now_ns: int, *, again: bool = False
    ) -> None:
        """Handle a message (`feeder.session.session`)."""
        raise NotImplementedError

    def rename(self, connection: str, name: str) -> None:
        """Call a connection by another name."""
        for instrument in self.instruments:
            if instrument.connection == connection:
                instrument.connection = name

    def forget(self, connection: str) -> None:
        """Forget a connection that has no books."""

    def _finish(self, handover: Handover, name: str, other: str, now_ns: int) -> None:
        self._handovers.pop(other, None)
        handover.finish(name, now_ns)
        if handover.over(now_ns):
            self._handovers.pop(name, None)

    def _belongs(self, connection: str, data: bytes, result: Result, ts_recv_ns: int) -> bool:
        """Whether the message at the end of the buffer is to be handled, while connections are
        being replaced.
        """
        handover = self._handovers.get(connection)
        if handover is None:
            return True
        instrument = self.instruments[result.instrument]
        single = result.msg_type != _BOOK or self._sequence_rule is SequenceRule.FULL
        if single and (handover.draining or handover.finished_ns is not None):
            belongs = self._keep_new(handover, result)
        elif handover.finished_ns is not None:
            belongs = not handover.trails(instrument, result)
        elif not single:
            restart = self._restarts and not result.snapshot and result.last_id == _FIRST_ID
            belongs = handover.book(
                instrument, connection, result, self._sequence_rule, restart=restart
            )
        else:
            packets = bytes(self.extractor.out[self._pos : self._pos + result.nbytes])
            belongs = handover.other(connection, data, result, packets, ts_recv_ns)
        if not belongs:
            self.counts["overlap"] += 1
        return belongs

    def _keep_new(self, handover: Handover, result: Result) -> bool:
        """Take out of the message at the end of the buffer what the old connection brought;
        whether anything is left to handle.

        What is left of a message in part goes out here.
        """
        packets = bytes(self.extractor.out[self._pos : self._pos + result.nbytes])
        left = handover.left(packets, result.last_id)
        if len(left) == len(packets):
            return True
        if left and result.msg_type != _BOOK:
            self.extractor.out[self._pos : self._pos + len(left)] = left
            self._pos += len(left)
        return False

    def _joined_by_itself(self, instrument: SessionInstrument) -> bool:
        """Whether the next update shows by itself if something is missing before it."""
        if self._sequence_rule is SequenceRule.FULL:
            return True
        return (
            self._sequence_rule is not SequenceRule.UNVERIFIED and instrument.sync.last_id != NO_ID
        )
