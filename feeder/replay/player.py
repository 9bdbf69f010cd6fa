"""Plays one timeline to any number of connections: pace, order across connections, snapshots in
their place.

The rules are in docs/replay.md. The player knows no venue and no HTTP: connections and snapshot
requests are handed to it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence

from tapecast.feeder.replay.connection import Connection
from tapecast.feeder.replay.dialect import BROADCAST
from tapecast.feeder.replay.snapshots import SnapshotQueue
from tapecast.feeder.replay.timeline import Cut, Frame, Snapshot, Timeline

__all__ = ["Player"]

_FLUSH_FRAMES = 512
_FLUSH_BYTES = 64 * 1024
_GRAIN_S = 0.0005
_READ_TIMEOUT_S = 30.0
_CLOSE_TIMEOUT_S = 5.0


class Player:
    """The one shared timeline of a server, and the connections it is sent to."""

    def __init__(
        self,
        timeline: Timeline,
        *,
        speed: float,
        start_after: int,
        settle_s: float,
        rest_wait_s: float,
        in_order: bool,
    ) -> None:
        """`speed` scales the recorded pace, infinity sends as fast as the clients read."""
        self.desk = SnapshotQueue(timeline.snapshots)
        self.connections: list[Connection] = []
        self._timeline = timeline
        self._speed = speed
        self._start_after = start_after
        self._settle_s = settle_s
        self._rest_wait_s = rest_wait_s
        self._in_order = in_order
        self._routes: dict[str, tuple[Connection, ...]] = {}
        self._audience = 0
        self._sent_to_gone = 0
        self._changed = asyncio.Event()
        self._running = asyncio.Event()
        self._running.set()
        self._origin_s = 0.0
        # The connections whose last frames of a symbol may be unread, by symbol.
        self._holders: dict[str, Sequence[Connection]] = {}

    @property
    def frames_sent(self) -> int:
        """Return how many frames were written, each connection counted."""
        return self._sent_to_gone + sum(connection.sent for connection in self.connections)

    def join(self, connection: Connection) -> None:
        """Take a new connection; it receives from the current position what it subscribes to."""
        self.connections.append(connection)
        self._reroute()

    def leave(self, connection: Connection) -> None:
        """Forget a connection; what it had not read is lost, as on the venue."""
        connection.close()
        if connection in self.connections:
            self.connections.remove(connection)
            self._sent_to_gone += connection.sent
            self._reroute()

    def subscribe(self, connection: Connection, streams: Sequence[str]) -> None:
        """Replace the recorded streams that a connection receives."""
        connection.streams = tuple(dict.fromkeys(streams))
        self._reroute()

    def pause(self) -> None:
        """Stop the timeline: nothing more is written."""
        self._running.clear()

    def resume(self) -> None:
        """Let the timeline go on; its clock stood still meanwhile."""
        self._running.set()

    async def ready(self, clients: int | None = None) -> None:
        """Return when enough connections have subscribed and none changed its subscriptions for
        the settle time.
        """
        needed = self._start_after if clients is None else clients
        while True:
            while self._audience < needed:
                self._changed.clear()
                await self._changed.wait()
            self._changed.clear()
            try:
                async with asyncio.timeout(self._settle_s):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def newcomer(self) -> None:
        """Return when a connection that is not there yet has subscribed and settled."""
        before = set(self.connections)
        while not any(
            connection.streams and connection not in before for connection in self.connections
        ):
            self._changed.clear()
            await self._changed.wait()
        await self.ready(1)

    async def play(self) -> None:
        """Send the whole timeline once, then return when every client has proved that it read
        its last frame.
        """
        loop = asyncio.get_running_loop()
        routes, speed, paced = self._routes, self._speed, not math.isinf(self._speed)
        self._origin_s = loop.time()
        self._holders.clear()
        frames = size = 0
        for entry in self._timeline.entries:
            if paced:
                due_s = self._origin_s + entry.at_s / speed
                if due_s - loop.time() > _GRAIN_S:
                    frames = size = 0
                    await self._breathe()
                    await asyncio.sleep(max(0.0, self._origin_s + entry.at_s / speed - loop.time()))
                    await self._hold()
            if not isinstance(entry, Frame):
                frames = size = 0
                await (self._cut() if isinstance(entry, Cut) else self._snapshot(entry))
                continue
            _, stream, symbol, wire = entry
            targets = routes.get(stream)
            if targets is None:
                continue
            if self._in_order and len(self.connections) > 1:
                holders = self._holders.get(symbol)
                if holders is not targets:
                    if holders is not None and holders != targets:
                        await self._hold()
                        await self._wait_read(
                            one for one in holders if one not in targets and one.unread
                        )
                        await self._hold()
                    self._holders[symbol] = targets
            for connection in targets:
                connection.out.append(wire)
            frames += 1
            size += len(wire)
            if frames >= _FLUSH_FRAMES or size >= _FLUSH_BYTES:
                frames = size = 0
                await self._breathe()
        await self._running.wait()
        await self._wait_read(self.connections)

    async def _breathe(self) -> None:
        """Write what is queued, let the event loop hear the clients, and hold while nothing may
        be sent.
        """
        await self._hold()
        for connection in tuple(self.connections):
            await connection.flush()
        await asyncio.sleep(0)
        await self._hold()

    async def _hold(self) -> None:
        """Stand still while paused and, at full speed, while nobody listens: else the recording
        would run out unheard.
        """
        loop = asyncio.get_running_loop()
        since_s = loop.time()
        held = False
        while not self._running.is_set() or (math.isinf(self._speed) and not self._audience):
            held = True
            await self._running.wait()
            if math.isinf(self._speed) and not self._audience:
                await self.ready(1)
        if held:
            self._origin_s += loop.time() - since_s

    async def _snapshot(self, snapshot: Snapshot) -> None:
        """Answer the requests held for this snapshot; go on when their clients have closed, so
        have handled the body.
        """
        symbol = snapshot.symbol
        await self._breathe()
        loop = asyncio.get_running_loop()
        since_s = loop.time()
        if (
            not self.desk.held(symbol)
            and snapshot.first
            and self._rest_wait_s > 0
            and self._hears_depth(symbol)
        ):
            await self.desk.wait_for_request(symbol, self._rest_wait_s)
        requests = self.desk.take(symbol)
        if requests:
            # Frames recorded before the snapshot are to be handled before it, on whichever
            # connection they went.
            await self._wait_read(self.connections)
            for request in requests:
                if not request.answer.done():
                    request.answer.set_result(snapshot.body)
            await asyncio.wait([request.gone for request in requests], timeout=_CLOSE_TIMEOUT_S)
        self._origin_s += loop.time() - since_s
        await self._hold()

    async def _cut(self) -> None:
        """Drop every connection once it has read everything; at full speed, go on when as many
        have subscribed again.
        """
        await self._breathe()
        await self._wait_read(self.connections)
        for connection in tuple(self.connections):
            connection.abort()
            self.leave(connection)
        self._holders.clear()
        if math.isinf(self._speed):
            await self.ready()

    async def _wait_read(self, connections: Iterable[Connection]) -> None:
        waiting = [connection.wait_read(_READ_TIMEOUT_S) for connection in connections]
        if waiting:
            await asyncio.gather(*waiting)

    def _hears_depth(self, symbol: str) -> bool:
        return any(stream in self._routes for stream in self._timeline.depth.get(symbol, ()))

    def _reroute(self) -> None:
        """Rebuild stream → connections; rare beside the frames that are looked up in it."""
        listeners: dict[str, list[Connection]] = {}
        for connection in self.connections:
            for stream in (BROADCAST.stream, *connection.streams):
                listeners.setdefault(stream, []).append(connection)
        self._routes.clear()
        self._routes.update({stream: tuple(found) for stream, found in listeners.items()})
        self._audience = sum(bool(connection.streams) for connection in self.connections)
        self._changed.set()
