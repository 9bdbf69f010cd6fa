"""The books inside a feed and how far each may be trusted: one set of books a channel.

`protocol.books.books` applies the packets and checks fragments and `instrument_seq`; this module
adds what only a consumer knows: how the channel stands (`consumers.feed.channels`), and the
venue's own statuses. A book is LIVE only while every change since its snapshot has been applied.
While a hole in the channel is being repaired its books are SUSPECT; so they are after a gap,
until the next change that carries last + 1 proves that this book lost nothing. Any other change
makes the book wait for a snapshot, and so does a lost fragment.

Snapshots come in a cycle, in the channel's order, or from the recovery service, at any moment.
For one of the latter the bookkeeper keeps the changes of a waiting book, and hands back those
behind the snapshot's number as `backlog`; a snapshot that is ahead of the channel makes the
changes before its number old.

No input or output, no clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from tapecast.consumers.feed.channels import Channel, is_behind
from tapecast.consumers.feed.events import BookState, Fragment
from tapecast.protocol.books.books import BookSet, KernelBook
from tapecast.protocol.codec import Buffer
from tapecast.protocol.fields import (
    BID_COUNT,
    CHANNEL_SEQ,
    FLAGS,
    FRAGMENT,
    INSTRUMENT_ID,
    INSTRUMENT_SEQ,
    ITEM_COUNT,
    ITEM_SIZE,
    OFFSET,
    HeaderTuple,
)
from tapecast.protocol.schema import HEADER_SIZE, Flag, StatusState

__all__ = ["Bookkeeper", "Change"]

_ITEM_COUNT: Final = OFFSET["item_count"]
_BID_COUNT: Final = OFFSET["bid_count"]
_ITEM_SIZE: Final = OFFSET["item_size"]
_LAST: Final = int(Flag.LAST)
_SNAPSHOT: Final = int(Flag.SNAPSHOT)
_SUSPECT: Final = int(Flag.SUSPECT)
_STALE: Final = int(Flag.STALE)
_QUEUED_BYTES: Final = 32 << 20
"""Changes kept for the waiting books of a channel; beyond it the longest queue goes."""
_ASK_AGAIN_NS: Final = 2_000_000_000


class Change(NamedTuple):
    """A book event that was applied: the book after it and the packets it came in."""

    book: KernelBook
    state: BookState
    fragments: tuple[Fragment, ...]


class _Track:
    """One book.

    `queue` holds its changes while it waits for a snapshot of the service; `true_at` is the
    channel's number at which the snapshot was true that it began with, while it is `ahead` of
    the channel.
    """

    __slots__ = (
        "ahead",
        "asked_ns",
        "book",
        "epoch",
        "fragments",
        "lost",
        "queue",
        "seen",
        "true_at",
        "upstream",
    )

    def __init__(self, epoch: int, book: KernelBook) -> None:
        self.book = book
        self.epoch = epoch
        self.fragments: list[Fragment] = []
        self.queue: deque[tuple[int, bytes]] | None = None
        self.ahead = False
        self.true_at = 0
        self.asked_ns = 0
        self.lost = False
        self.seen = False
        self.upstream = BookState.LIVE


class Bookkeeper:
    """All books of a channel, by instrument id."""

    def __init__(self, channel: Channel) -> None:
        """Start without books."""
        self.channel = channel
        self.backlog: list[bytes] = []
        """Changes that the caller applies before anything else, after a call that joined a book
        to its snapshot.
        """
        self._set = BookSet()
        self._tracks: dict[int, _Track] = {}
        self._parts: dict[int, list[bytes]] = {}
        self._queued = 0

    def apply(self, packet: Buffer, header: HeaderTuple) -> Change | bool:
        """Apply one BOOK packet, a buffer of exactly its bytes, in its place in the channel.

        Returns the Change that it completes; True when with it the book was found to have lost
        something and waits for a snapshot; else False: more fragments follow, the book waits for
        a snapshot, or the packet brought nothing new.
        """
        channel = self.channel
        flags, instrument = header[FLAGS], header[INSTRUMENT_ID]
        track = self._tracks.get(instrument)
        if track is None:
            track = self._add(instrument)
            if channel.served and not flags & _SNAPSHOT:
                self._wait(track)
        if track.queue is not None and not flags & _SNAPSHOT:
            self._keep(track, header[INSTRUMENT_SEQ], packet)
            return False
        book = track.book
        if track.ahead and not _is_after(header[INSTRUMENT_SEQ], book.instrument_seq):
            return False
        updates = book.updates
        self._set.apply(packet, check_seq=True)
        if header[FRAGMENT] == 0 and track.fragments:
            track.fragments.clear()
        if not flags & _LAST:
            track.fragments.append(
                Fragment(
                    bytes(packet),
                    HEADER_SIZE,
                    header[ITEM_COUNT],
                    header[BID_COUNT],
                    header[ITEM_SIZE],
                )
            )
            return self._check(track, header[INSTRUMENT_SEQ], packet)
        if book.updates == updates:
            if (
                book.complete
                and flags & _SNAPSHOT
                and book.instrument_seq == header[INSTRUMENT_SEQ]
            ):
                track.epoch = channel.epoch
            track.fragments.clear()
            return self._check(track, header[INSTRUMENT_SEQ], packet)
        track.epoch = channel.epoch
        track.lost = track.ahead = False
        track.seen = True
        if flags & _SNAPSHOT:
            track.upstream = BookState.LIVE
            self._join(track)
        if flags & (_SUSPECT | _STALE):
            track.upstream = BookState.STALE if flags & _STALE else BookState.SUSPECT
        last = Fragment(
            packet, HEADER_SIZE, header[ITEM_COUNT], header[BID_COUNT], header[ITEM_SIZE]
        )
        fragments = (*track.fragments, last) if track.fragments else (last,)
        track.fragments.clear()
        return Change(
            book, track.upstream if channel.repairing is None else BookState.SUSPECT, fragments
        )

    def recovered(self, packet: Buffer, header: HeaderTuple) -> Change | bool:
        """Take a packet of a snapshot of the recovery service, and apply the snapshot once its
        last one is there.

        Returns the Change where the book begins anew with it; True where it proves the book
        whole as it is; else False.
        """
        parts = self._parts.setdefault(header[INSTRUMENT_ID], [])
        if header[FRAGMENT] == 0:
            parts.clear()
        if header[FRAGMENT] != len(parts):
            parts.clear()
            return False
        parts.append(bytes(packet))
        if not header[FLAGS] & _LAST:
            return False
        return self._begin(self._parts.pop(header[INSTRUMENT_ID]), header)

    def instruments(self) -> list[int]:
        """Return the instruments that the channel has brought books of."""
        return list(self._tracks)

    def book(self, instrument: int) -> tuple[KernelBook, BookState] | None:
        """Return a book and its state, stale after the next packet of the channel; None before
        its first snapshot and while it shows no levels for lack of one.
        """
        track = self._tracks.get(instrument)
        if (
            track is None
            or not track.seen
            or (track.book.depth == (0, 0) and not track.book.complete)
        ):
            return None
        return track.book, self._state(track)

    def status(self, instrument: int, state: int, channel_seq: int) -> None:
        """Take the state that the feeder gives a book at a number of the channel."""
        track = self._tracks.get(instrument)
        if track is None or (track.ahead and not is_behind(track.true_at, channel_seq)):
            return
        if state == StatusState.LIVE:
            track.upstream = BookState.LIVE
        elif state == StatusState.STALE:
            track.upstream = BookState.STALE
        elif state < StatusState.CONNECTED:
            track.upstream = BookState.SUSPECT

    def missing(self, instrument: int) -> None:
        """Note that the service has no book of an instrument: its first one will come in the
        channel's order.
        """
        track = self._tracks.get(instrument)
        if track is not None and track.queue is not None:
            self._drop_queue(track)

    def wait(self) -> None:
        """Keep the changes of every book that needs a snapshot from now on: call it before the
        service is asked.
        """
        for track in self._tracks.values():
            if track.queue is None and (track.lost or not track.seen or not track.book.complete):
                self._wait(track)

    def abandon(self) -> None:
        """Drop the kept changes, because there is no service: books wait for the cycle."""
        for track in self._tracks.values():
            if track.queue is not None:
                self._drop_queue(track)

    def unsettled(self, now_ns: int) -> list[int]:
        """Return the books that need a snapshot or a proof and have not been asked for lately;
        they count as asked for from now on.
        """
        out = []
        waiting = False
        for instrument, track in self._tracks.items():
            if track.queue is None and (not track.seen or track.lost or self._is_proven(track)):
                continue
            waiting = True
            if not track.asked_ns or now_ns - track.asked_ns >= _ASK_AGAIN_NS:
                track.asked_ns = now_ns
                out.append(instrument)
        self.channel.unsettled = waiting
        return out

    def new_session(self) -> None:
        """Forget every book; those handed out before are stale."""
        for instrument in self._tracks:
            self._set.reset(instrument)
        self._tracks.clear()
        self._parts.clear()
        self._queued = 0
        self.backlog.clear()

    def forget(self, instrument: int) -> None:
        """Forget a book that turned out not to be wanted."""
        track = self._tracks.pop(instrument, None)
        if track is not None:
            self._set.reset(instrument)
            if track.queue is not None:
                self._drop_queue(track)

    def _begin(self, parts: list[bytes], header: HeaderTuple) -> Change | bool:
        channel = self.channel
        instrument, seq = header[INSTRUMENT_ID], header[INSTRUMENT_SEQ]
        true_at, flags = header[CHANNEL_SEQ], header[FLAGS]
        track = self._tracks.get(instrument) or self._add(instrument)
        book = track.book
        whole = track.seen and not track.lost and track.queue is None and book.complete
        proves = channel.epoch == 0 or not is_behind(true_at, channel.lost_last)
        if whole and (track.epoch == channel.epoch or not _is_after(seq, book.instrument_seq)):
            proven = track.epoch != channel.epoch and proves and seq == book.instrument_seq
            if proven:
                track.epoch = channel.epoch
            return proven
        updates = book.updates
        for part in parts:
            self._set.apply(part)
        if book.updates == updates:
            return False
        track.lost, track.seen, track.ahead, track.true_at = False, True, True, true_at
        track.epoch = channel.epoch if proves else channel.epoch - 1
        track.upstream = (
            BookState.STALE
            if flags & _STALE
            else BookState.SUSPECT
            if flags & _SUSPECT
            else BookState.LIVE
        )
        track.fragments.clear()
        self._join(track)
        fragments = [
            Fragment(part, HEADER_SIZE, part[_ITEM_COUNT], part[_BID_COUNT], part[_ITEM_SIZE])
            for part in parts
        ]
        return Change(book, self._state(track), tuple(fragments))

    def _add(self, instrument: int) -> _Track:
        track = self._tracks[instrument] = _Track(self.channel.epoch, self._set.add(instrument))
        return track

    def _wait(self, track: _Track) -> None:
        track.queue = deque()
        track.asked_ns = 0
        self.channel.unsettled = True

    def _keep(self, track: _Track, seq: int, packet: Buffer) -> None:
        assert track.queue is not None
        data = bytes(packet)
        track.queue.append((seq, data))
        self._queued += len(data)
        if self._queued > _QUEUED_BYTES:
            waiting = [other for other in self._tracks.values() if other.queue]
            longest = max(waiting, key=lambda other: len(other.queue or ()))
            self._drop_queue(longest)
            self._wait(longest)

    def _drop_queue(self, track: _Track) -> None:
        self._queued -= sum(len(data) for _, data in track.queue or ())
        track.queue = None

    def _join(self, track: _Track) -> None:
        """Hand back the kept changes that the book does not have yet."""
        if track.queue is None:
            return
        seq = track.book.instrument_seq
        self.backlog += [data for number, data in track.queue if _is_after(number, seq)]
        self._drop_queue(track)

    def _check(self, track: _Track, seq: int, packet: Buffer) -> bool:
        """Whether the book has just lost its thread."""
        book = track.book
        if track.lost or not track.seen or track.fragments or book.complete:
            return False
        track.lost = True
        track.ahead = False
        if self.channel.served:
            self._wait(track)
            self._keep(track, seq, packet)
        return True

    def _is_proven(self, track: _Track) -> bool:
        channel = self.channel
        return track.epoch == channel.epoch or (
            track.ahead and not is_behind(track.true_at, channel.lost_last)
        )

    def _state(self, track: _Track) -> BookState:
        channel = self.channel
        if channel.away or track.upstream == BookState.STALE:
            return BookState.STALE
        if (
            channel.repairing is not None
            or track.lost
            or track.queue is not None
            or not track.book.complete
        ):
            return BookState.SUSPECT
        return track.upstream if self._is_proven(track) else BookState.SUSPECT


def _is_after(seq: int, other: int) -> bool:
    """Whether an instrument's number comes after another one."""
    return 0 < (seq - other) % 2**32 < 1 << 31
