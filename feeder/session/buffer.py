"""The finished packets of a session, contiguous, until the shell publishes them.

The C extractor writes behind `position`; whoever judges an event moves `position` behind it, or
leaves it where it is and the event is gone. An unstamped packet holds the instrument's index in
`instrument_seq` (`feeder.session.packets.INDEX`). No judgement here, no I/O, no books.
"""

from __future__ import annotations

from tapecast.feeder.extract.extractor import Extractor

__all__ = ["Buffer"]


class Buffer:
    """The output of one extractor, with the two ends that matter.

    `out` is replaced where the buffer grows (`make_room`, `append`, `place`), so look it up anew
    after each of them. Not thread-safe.
    """

    __slots__ = ("_extractor", "applied", "has_books", "out", "position")

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self.out = extractor.out
        self.position = 0
        """End of the finished packets; the event under judgement begins here."""
        self.applied = 0
        """End of the packets that the session's own books have."""
        self.has_books = False
        """Whether book packets stand behind `applied`: trades and quotes alone need no look at
        the books.
        """

    def accept(self, nbytes: int) -> None:
        """Let the book event of `nbytes` at the end stand."""
        self.position += nbytes
        self.has_books = True

    def take_back(self, position: int) -> None:
        """Give up the packets from `position` on, which the session's own books may have."""
        self.position = self.applied = position

    def append(self, packets: bytes) -> None:
        """Put finished packets behind those that stand; the event under judgement is overwritten:
        take a `copy` before.
        """
        self.place(packets)
        self.position += len(packets)
        self.has_books = True

    def place(self, packets: bytes | bytearray) -> None:
        """Put packets where the extractor would have put them: they are now under judgement."""
        nbytes = len(packets)
        self.make_room(nbytes)
        self.out[self.position : self.position + nbytes] = packets

    def copy(self, nbytes: int) -> bytes:
        """Return the event of `nbytes` under judgement, to keep."""
        return bytes(self.out[self.position : self.position + nbytes])

    def make_room(self, nbytes: int) -> None:
        """Let `nbytes` fit behind `position`; `out` is another object where they did not."""
        needed = self.position + nbytes
        capacity = len(self.out)
        if needed > capacity:
            self._extractor.grow(max(needed, 2 * capacity))
            self.out = self._extractor.out

    def clear(self) -> None:
        """Begin anew, when what stood is published and applied."""
        self.position = self.applied = 0
