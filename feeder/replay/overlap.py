"""A recorded replacement of a connection: which messages of the two connections a server plays.

While both were open most messages came twice. Played are those of the old connection up to the
change-over, and then what the new one had brought beyond them. Where the two cannot be joined (a
venue numbers the messages of each connection by itself) nobody may take one for the continuation
of the other.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from tapecast.feeder.record.recording import Line
from tapecast.feeder.replay.dialect import Route

__all__ = ["Overlap"]


class _Held(NamedTuple):
    line: Line
    route: Route


class Overlap:
    """The messages of one replacement of the connection `old`."""

    def __init__(self, old: str) -> None:
        self.replaced = old
        self._seen: dict[str, set[bytes]] = defaultdict(set)
        self._held: list[_Held] = []

    def old(self, line: Line, route: Route) -> None:
        """Note a message of the old connection, which is played."""
        self._seen[route.stream].add(line.raw)

    def new(self, line: Line, route: Route) -> None:
        """Keep a message of the new connection."""
        self._held.append(_Held(line, route))

    def rest(self) -> tuple[list[_Held], bool]:
        """Return what the new connection brought beyond the old one, in order, and whether every
        stream could be joined.
        """
        last = {
            held.route.stream: at
            for at, held in enumerate(self._held)
            if held.line.raw in self._seen[held.route.stream]
        }
        out: list[_Held] = []
        joined = True
        for at, held in enumerate(self._held):
            stream = held.route.stream
            if stream in last:
                if at > last[stream]:
                    out.append(held)
            elif self._seen[stream]:
                joined = False
            else:
                out.append(held)
        return out, joined
