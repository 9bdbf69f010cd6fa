"""The numbers of messages that a venue counts over a whole connection, whatever channel they are
of.

Sans-I/O: a `ConnectionSequence` is told the number of each message of each connection and
answers whether one is missing. What a missing number means for the books of that connection is
decided in `feeder.session.books`; where the number stands in a message, by the venue's
`StreamSpec.connection_number`.
"""

from __future__ import annotations

__all__ = ["ConnectionSequence"]


class ConnectionSequence:
    """The next number of every connection. Numbers grow by one; the first seen of a connection
    may be any.
    """

    __slots__ = ("_next",)

    def __init__(self) -> None:
        """Know of no connection."""
        self._next: dict[str, int] = {}

    def follow(self, connection: str, number: int) -> int | None:
        """Take a message's number; return None where it is the next one, else the number that
        was expected.

        After a break counting goes on from the number that came: one loss is told once.
        """
        expected = self._next.get(connection, number)
        self._next[connection] = number + 1
        return None if number == expected else expected

    def forget(self, connection: str) -> None:
        """Note that a connection is new or gone: its next message may have any number."""
        self._next.pop(connection, None)

    def rename(self, connection: str, name: str) -> None:
        """Call a connection by another name; what was known of that name is forgotten."""
        self._next.pop(name, None)
        if connection in self._next:
            self._next[name] = self._next.pop(connection)
