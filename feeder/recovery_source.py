"""What a feeder's channel repeats and its recovery service serves: the instruments and books of
its session, as they stand now (`protocol.publish.recovery.source`).
"""

from __future__ import annotations

from collections.abc import Callable

from tapecast.feeder.session.session import Session
from tapecast.protocol.publish.book_packets import BookPackets, Stamp
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.publish.recovery.source import ChannelSource
from tapecast.protocol.ring import Ring

__all__ = ["SessionStates", "session_source"]


class SessionStates:
    """The `States` of a session. `flush` sends what the session has finished, so that no book is
    ahead of the stream.
    """

    def __init__(self, session: Session, flush: Callable[[], object]) -> None:
        self._session = session
        self._flush = flush

    @property
    def instruments(self) -> int:
        """How many there are."""
        return len(self._session.instruments)

    def flush(self) -> None:
        """Publish what the session has finished."""
        self._flush()

    def find(self, instrument_id: int) -> int | None:
        """Return the index of an instrument; None where the session does not have it."""
        instrument = self._session.by_id.get(instrument_id)
        return None if instrument is None else instrument.index

    def definition(self, index: int) -> bytes:
        """Return an instrument's definition, a provisional one where the venue has given none."""
        return self._session.definition(self._session.instruments[index])

    def snapshot(self, index: int) -> bytes:
        """Return an instrument's book; empty unless it is LIVE."""
        return self._session.book_snapshot(self._session.instruments[index])

    def book(self, index: int, stamp: Stamp) -> BookPackets | None:
        """Return an instrument's book with this stamp; None unless it is LIVE."""
        return self._session.book_pieces(self._session.instruments[index], stamp)

    def last(self, index: int, *, has_book: bool, now_ns: int) -> bytes:
        """Return the status of an instrument's book: why there is none, or that it is STALE."""
        return self._session.book_status(self._session.instruments[index], has_book, now_ns)


def session_source(
    session: Session, publisher: Publisher, ring: Ring, flush: Callable[[], object]
) -> ChannelSource:
    """Return what a recovery service serves of a session that `publisher` publishes."""
    return ChannelSource(SessionStates(session, flush), publisher, ring)
