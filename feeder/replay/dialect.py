"""What the replay server must know of a venue: its side of the conversation, without I/O.

A dialect parses what a client sends, words the venue's answers, and says to which stream a
recorded frame belongs. The truth lives in the venues' documentation, named in each dialect
module, and in the recordings. A dialect invents no market data: it writes acknowledgements and
errors only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["BROADCAST", "Dialect", "Granting", "Located", "Route", "VenueSide"]


class Route(NamedTuple):
    """Where a recorded frame belongs: its stream as a client names it, its instrument in the
    venue's spelling ("" = none).
    """

    stream: str
    symbol: str
    depth: bool
    """True where the stream carries the changes of an order book, so that a client may want a
    REST snapshot beside it.
    """


BROADCAST = Route("*", "", False)
"""A venue notice: it goes to every connection, subscribed or not."""


class VenueSide(Protocol):
    """One client connection as the venue sees it: its subscriptions, and the answers to its
    messages.
    """

    def receive(self, message: str) -> list[str]:
        """Take one text (or decoded binary) message of the client; return the venue's answers in
        order.
        """
        ...

    def streams(self) -> Collection[str]:
        """Return the stream names this connection is to receive now, as the client spelled them."""
        ...


class Dialect(Protocol):
    """The server side of one venue."""

    def connect(self, path: str, query: Mapping[str, str]) -> VenueSide | None:
        """Return a session for a WebSocket path; None where the venue has no such endpoint."""
        ...

    def route(self, raw: bytes) -> Route | None:
        """Return the route of a recorded frame; None for answers of the venue and for what is
        not understood.
        """
        ...

    def resolve(self, stream: str, recorded: Collection[str]) -> str:
        """Return which recorded stream serves a subscription to `stream`; itself where none
        does.
        """
        ...

    def symbol_of(self, stream: str) -> str:
        """Return the instrument of a stream name; "" where the stream is of no single one."""
        ...

    def snapshot_of(self, path: str, query: Mapping[str, str]) -> str | None:
        """Return the symbol whose book snapshot this REST path asks for; None where it asks for
        something else.
        """
        ...

    def snapshot_body(self, body: bytes) -> str | None:
        """Return whether a REST body of unknown URL is a book snapshot: its symbol, "" if it
        names none; None if it is not.
        """
        ...

    def missing(self, path: str, symbol: str | None) -> str:
        """Return the venue's error body for a REST request that the recording cannot answer
        (`symbol` set: a snapshot).
        """
        ...


@runtime_checkable
class Located(Protocol):
    """What a dialect has besides where one topic is several streams, told apart by the endpoint."""

    def route_at(self, url: str, raw: bytes) -> Route | None:
        """Return the route of a recorded frame that came over `url` ("" = not known), as
        `Dialect.route` does.
        """
        ...


@runtime_checkable
class Granting(Protocol):
    """What a dialect has besides where clients need an access token."""

    def grant(self, path: str) -> str | None:
        """Return the answer to a request for a token; None where the path is no request for one."""
        ...
