"""Parts of the recovery service around its brain (`protocol.publish.recovery.server`): a served
state, the limits, a client's account. What is served is `protocol.publish.recovery.source`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from tapecast.protocol.units import NS_PER_S

__all__ = ["Allowance", "Client", "Limits", "Piece", "State", "Step"]

Piece: TypeAlias = bytes | bytearray


class State:
    """How an instrument stood at one moment: stamped packets, in pieces that are made when they
    are first asked for.
    """

    __slots__ = ("_pieces", "channel_seq", "nbytes", "packets")

    def __init__(
        self,
        channel_seq: int,
        packets: int,
        nbytes: int,
        pieces: Sequence[Piece | Callable[[], Piece]],
    ) -> None:
        self.channel_seq = channel_seq
        """The last number published at that moment."""
        self.packets = packets
        self.nbytes = nbytes
        self._pieces = list(pieces)

    def __len__(self) -> int:
        """Return the number of pieces."""
        return len(self._pieces)

    def made(self, number: int) -> bool:
        """Whether a piece is there already."""
        return not callable(self._pieces[number])

    def piece(self, number: int) -> Piece:
        """Return a piece; make it if need be."""
        piece = self._pieces[number]
        if callable(piece):
            piece = self._pieces[number] = piece()
        return piece


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take; rates are for each client, and a second's worth may come at once."""

    clients: int
    packets_per_s: int
    bytes_per_s: int
    books_per_s: int
    backlog: int
    """Requests that wait; a client with more is not read until they are answered."""
    idle_ns: int
    stall_ns: int
    """A client that cannot be written to for so long is closed."""


class Allowance:
    """So much a second. One request may overdraw it, so that the largest one is possible; the
    next one waits the longer.
    """

    __slots__ = ("_at_ns", "_left", "_per_s")

    def __init__(self, per_s: int, now_ns: int) -> None:
        self._per_s = per_s
        self._left = per_s * NS_PER_S
        self._at_ns = now_ns

    def wait_ns(self, now_ns: int) -> int:
        """Return how long to wait until something is left; 0 = now."""
        self._left = min(self._left + (now_ns - self._at_ns) * self._per_s, self._per_s * NS_PER_S)
        self._at_ns = now_ns
        return 0 if self._left > 0 else -self._left // self._per_s + 1

    def spend(self, amount: int) -> None:
        """Take `amount`."""
        self._left -= amount * NS_PER_S


class Client:
    """One connection."""

    __slots__ = (
        "answer",
        "backlog",
        "blocked_ns",
        "books",
        "busy",
        "closing",
        "ended",
        "nbytes",
        "packets",
        "queued",
        "request_ns",
    )

    def __init__(self, limits: Limits, now_ns: int) -> None:
        self.packets = Allowance(limits.packets_per_s, now_ns)
        self.nbytes = Allowance(limits.bytes_per_s, now_ns)
        self.books = Allowance(limits.books_per_s, now_ns)
        self.backlog = bytearray()
        """Bytes that were not looked at yet."""
        self.answer: Iterator[Piece] | None = None
        self.request_ns = now_ns
        """When it last asked for something."""
        self.blocked_ns: int | None = None
        """Since when it cannot be written to."""
        self.queued = False
        self.ended = False
        """It will send no more: close it after its answers."""
        self.busy = 0
        """How often in a row it was answered BUSY."""
        self.closing = ""
        """Why it is to be closed once it has what was written for it; empty = it is not."""


class Step(NamedTuple):
    """What a turn came to: `data` to write, then close where `client.closing` has a reason."""

    client: Client
    data: Piece
    error: Exception | None = None
    """A defect of ours that this client met."""
