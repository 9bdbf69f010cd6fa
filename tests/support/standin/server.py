"""A stand-in venue on real sockets: its dialect over WebSocket, its order books over REST, for a
feeder that runs as it is.

`VenueServer` is the socket, `StandIn` the venue. Updates of every subscribed book leave at a
pace; `mute` stops them, and what the venue says besides (acknowledgements, pings) goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from websockets.exceptions import ConnectionClosed

from tapecast.feeder.venues.spec import RestRequest
from tests.support.standin.venue import Link, StandIn
from tests.support.venue_server import Answer, Asked, VenueServer
from tests.support.venue_server import Link as Connection

__all__ = ["StandInServer", "settings_of"]


class StandInServer(VenueServer):
    """One venue that a feeder can connect to."""

    def __init__(
        self,
        venue: StandIn,
        *,
        pace_s: float = 0.005,
        faults: Iterable[Answer] = (),
    ) -> None:
        """`faults`: answers to the first requests for order books, before the true ones."""
        super().__init__(self._play, self._rest_answer)
        self.venue = venue
        self.mute = False
        self.venue_paths = True
        self.greet: Callable[[Connection], object] = _nothing
        """Told of every connection, before anything is sent on it."""
        self.on_the_way: Callable[[bytes], bytes] = bytes
        """What becomes of an answer, or a snapshot, before it leaves."""
        self._pace_s = pace_s
        self._faults = list(faults)
        self._spoken: dict[Connection, Link] = {}
        self._turn = asyncio.Lock()
        """So that an answer and what follows from it leave together."""
        self._playing: asyncio.Task[None] | None = None

    @property
    def played(self) -> bool:
        """Whether every book's tape is at its end."""
        return self.venue.played

    async def hear(self, link: Connection, data: bytes) -> None:
        """Answer in the venue's dialect."""
        spoken = self._of(link)
        async with self._turn:
            for frame in spoken.hear(data):
                if not (self.mute and self._is_data(frame)):
                    await link.send(self.on_the_way(frame), text=True)

    async def _play(self, link: Connection) -> None:
        spoken = self._of(link)
        self.greet(link)
        if self._playing is None or self._playing.done():
            self._playing = asyncio.create_task(self._broadcast())
        try:
            await link.wait_closed()
        finally:
            spoken.open = False
            self._spoken.pop(link, None)

    async def _broadcast(self) -> None:
        """Send every book's next update to all connections that have it, as long as there are
        connections.
        """
        while self._spoken:
            async with self._turn:
                for symbol in () if self.mute else self.venue.books:
                    ears = [
                        (link, spoken)
                        for link, spoken in self._spoken.items()
                        if spoken.open and symbol in spoken.symbols()
                    ]
                    frame = self.venue.books[symbol].next() if ears else None
                    for link, spoken in ears if frame is not None else []:
                        with contextlib.suppress(ConnectionClosed):
                            await link.send(spoken.numbered(frame), text=True)
            await asyncio.sleep(self._pace_s)

    def _of(self, link: Connection) -> Link:
        found = self._spoken.get(link)
        if found is None:
            assert link.request is not None
            found = self._spoken[link] = self.venue.connect(f"ws://venue{link.request.path}")
        return found

    def _rest_answer(self, asked: Asked) -> Answer:
        symbol = self.venue.dialect.snapshot_of(asked.path, asked.query)
        if symbol is None:
            return Answer(404)
        if self._faults:
            return self._faults.pop(0)
        body = self.venue.body(RestRequest("rest", asked.path, tuple(asked.query.items())))
        return Answer(404) if body is None else Answer(body=body)

    def _is_data(self, frame: bytes) -> bool:
        return (
            self.venue.dialect.route(frame) is not None
            and self.venue.spec.stream.control(frame) is None
        )


def _nothing(_: Connection) -> None:
    """Leave a connection alone."""


def settings_of(venue: StandIn, **more: object) -> dict[str, object]:
    """Return the settings of a feeder that takes the stand-in's books and is quick to connect
    again.
    """
    name = venue.name
    return {
        f"venues__{name}__symbols": list(venue.tape.symbols),
        f"venues__{name}__channels": list(venue.tape.channels),
        "feeder__backoff__base_s": 0.02,
        "feeder__backoff__cap_s": 0.1,
        "feeder__snapshot_cycle_s": 0,
        **more,
    }
