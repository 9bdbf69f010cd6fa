"""The books inside a feed and how far each may be trusted.

`protocol.books` applies the packets and checks fragments and `instrument_seq`; this module adds what only a consumer knows:
channel gaps, silence, the venue's own statuses. A book is handed out as LIVE only while every change since its snapshot has been
applied. A gap on the channel makes its books SUSPECT; the next change that carries last + 1 proves that this book lost nothing,
any other makes it wait for a snapshot, and so does a lost fragment. Snapshots come in a cycle, with the number of the last event.

No input or output, no clock.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from consumers.feed.events import BookState, Fragment
from protocol.books import Book, BookSet
from protocol.codec import Buffer
from protocol.schema import HEADER_SIZE, Flag, StatusState

__all__ = ["Bookkeeper", "Change", "Channel"]

_LAST: Final = int(Flag.LAST)
_SNAPSHOT: Final = int(Flag.SNAPSHOT)
_SUSPECT: Final = int(Flag.SUSPECT)
_STALE: Final = int(Flag.STALE)


class Channel:
    """What is known of one channel. `epoch` counts its gaps; `away` is set while it is silent or its session has ended."""

    __slots__ = ("away", "channel_id", "ended", "epoch", "heard_ns", "instruments", "interval_ns", "venue", "venue_id")

    def __init__(self, channel_id: int, venue_id: int, venue: str, now_ns: int, interval_ns: int) -> None:
        """Begin at `now_ns`."""
        self.channel_id = channel_id
        self.venue_id = venue_id
        self.venue = venue
        self.epoch = 0
        self.away = False
        self.ended = False
        self.heard_ns = now_ns
        self.interval_ns = interval_ns
        self.instruments = 0


class Change(NamedTuple):
    """A book event that was applied: the book after it and the packets it came in."""

    book: Book
    state: BookState
    fragments: tuple[Fragment, ...]


class _Track:
    __slots__ = ("book", "channel", "epoch", "fragments", "lost", "seen", "upstream")

    def __init__(self, channel: Channel, book: Book) -> None:
        self.channel = channel
        self.book = book
        self.epoch = channel.epoch
        self.fragments: list[Fragment] = []
        self.lost = False
        self.seen = False
        self.upstream = BookState.LIVE


class Bookkeeper:
    """All books of a feed, by instrument id."""

    def __init__(self) -> None:
        """Start without books."""
        self._set = BookSet()
        self._tracks: dict[int, _Track] = {}

    def apply(self, channel: Channel, packet: Buffer, header: tuple[int, ...]) -> Change | bool:
        """Apply one BOOK packet, a buffer of exactly its bytes.

        Returns the Change that it completes; True when with it the book was found to have lost something and waits for a
        snapshot; else False: more fragments follow, the book waits for a snapshot, or the packet said nothing new.
        """
        flags, instrument = header[3], header[9]
        track = self._tracks.get(instrument)
        if track is None:
            track = self._tracks[instrument] = _Track(channel, self._set.add(instrument))
        book = track.book
        updates = book.updates
        self._set.apply(packet, check_seq=True)
        if header[15] == 0 and track.fragments:
            track.fragments.clear()
        if not flags & _LAST:
            track.fragments.append(Fragment(bytes(packet), HEADER_SIZE, header[4], header[5], header[14]))
            return self._check(track)
        if book.updates == updates:
            if book.complete and flags & _SNAPSHOT and book.instrument_seq == header[11]:
                track.epoch = channel.epoch
            track.fragments.clear()
            return self._check(track)
        track.epoch = channel.epoch
        track.lost = False
        track.seen = True
        if flags & _SNAPSHOT:
            track.upstream = BookState.LIVE
        if flags & (_SUSPECT | _STALE):
            track.upstream = BookState.STALE if flags & _STALE else BookState.SUSPECT
        last = Fragment(packet, HEADER_SIZE, header[4], header[5], header[14])
        fragments = (*track.fragments, last) if track.fragments else (last,)
        track.fragments.clear()
        return Change(book, track.upstream, fragments)

    def book(self, instrument: int) -> tuple[Book, BookState] | None:
        """Return a book and its state; None before its first snapshot and while it shows no levels for lack of one."""
        track = self._tracks.get(instrument)
        if track is None or not track.seen or (track.book.depth == (0, 0) and not track.book.complete):
            return None
        return track.book, self._state(track)

    def status(self, instrument: int, state: int) -> None:
        """Take in what the feeder says of a book."""
        track = self._tracks.get(instrument)
        if track is None:
            return
        if state == StatusState.LIVE:
            track.upstream = BookState.LIVE
        elif state == StatusState.STALE:
            track.upstream = BookState.STALE
        elif state < StatusState.CONNECTED:
            track.upstream = BookState.SUSPECT

    def new_session(self, channel: Channel) -> None:
        """Clear every book of a channel."""
        for instrument in [key for key, track in self._tracks.items() if track.channel is channel]:
            self._set.reset(instrument)
            del self._tracks[instrument]

    def forget(self, instrument: int) -> None:
        """Clear a book that turned out not to be wanted."""
        if self._tracks.pop(instrument, None) is not None:
            self._set.reset(instrument)

    def _check(self, track: _Track) -> bool:
        """Whether the book has just lost its thread."""
        book = track.book
        if track.lost or not track.seen or track.fragments or book.complete:
            return False
        track.lost = True
        return True

    def _state(self, track: _Track) -> BookState:
        if track.channel.away:
            return BookState.STALE
        if track.upstream == BookState.STALE:
            return BookState.STALE
        if track.lost or not track.book.complete or track.epoch != track.channel.epoch:
            return BookState.SUSPECT
        return track.upstream
