"""All connections of a venue's feeder: planned, started, addressed by name, counted, asked for
books again within a budget.

The pool around `feeder.connections.connection`. It knows which link a command of the session is
for; what a connection does by itself is not its matter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from tapecast.feeder.connections.connection import Connection, Context
from tapecast.feeder.connections.link import Link
from tapecast.feeder.connections.proof import ProofPolicy
from tapecast.feeder.connections.rotation import RotationPolicy
from tapecast.feeder.connections.sharding import Shard
from tapecast.feeder.frame_handler import FrameHandler
from tapecast.feeder.login.access import Access
from tapecast.feeder.session.handover import HandoverPolicy
from tapecast.feeder.session.session import Command, Session
from tapecast.feeder.venues.spec import Topic
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.schema import MsgType
from tapecast.protocol.units import NS_PER_S
from tapecast.runtime import logs
from tapecast.runtime.net.backoff import BackoffPolicy
from tapecast.runtime.net.limiter import HostLimiter, Rate, grant
from tapecast.runtime.settings import Feeder, Venue

__all__ = ["Connections"]

_NOTICE_SPREAD_S = 2.0
"""A venue announces a restart on every connection at once: they are replaced one after the
other.
"""

log = logs.get("feeder.connections.pool")


class Connections:
    """The connections of one feeder; `spawn` runs their tasks."""

    def __init__(
        self,
        feeder: Feeder,
        venue: Venue,
        session: Session,
        publisher: Publisher,
        frame_handler: FrameHandler,
        limiter: HostLimiter,
        access: Access,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._venue = venue
        self._session = session
        self._spawn = spawn
        self._around = Context(
            session=session,
            publisher=publisher,
            frame_handler=frame_handler,
            limiter=limiter,
            access=access,
            limits=venue.limits,
            backoff=_backoff(feeder),
            proof=_proof(feeder),
            rotation=RotationPolicy(
                max_age_s=venue.limits.get("max_age_s", 0.0),
                share=feeder.rotation.share,
                spread=feeder.rotation.spread,
                every_s=feeder.rotation.every_s,
            ),
            handover=HandoverPolicy(
                linger_ns=int(feeder.rotation.linger_s * NS_PER_S),
                patience_ns=int(feeder.rotation.patience_s * NS_PER_S),
            ),
            spawn=spawn,
            resubscribe=self.resubscribe,
        )
        self._budget = Rate.of(feeder.resync.resubscribes, feeder.resync.resubscribes_window_s)
        self._paid_ns = 0
        self._asked: set[tuple[str, tuple[Topic, ...]]] = set()
        self._request_id = 1
        self.all: list[Connection] = []

    def start(self, shards: Sequence[Shard]) -> None:
        """Begin to keep these connections."""
        self._request_id += sum(len(shard.subscription.frames) for shard in shards)
        for shard in shards:
            route = shard.subscription.route
            urls = (self._venue.endpoints[route], *self._venue.alternates.get(route, ()))
            connection = Connection(shard, urls, self._around)
            self.all.append(connection)
            self._spawn(connection.keep())

    def stop(self) -> None:
        """Close all connections; no loss is told."""
        for connection in self.all:
            connection.stop()

    @property
    def up(self) -> int:
        """How many are connected."""
        return sum(connection.up for connection in self.all)

    @property
    def losses(self) -> int:
        """How many connections were lost, or could not be made."""
        return sum(connection.losses for connection in self.all)

    @property
    def unproved(self) -> int:
        """How many topics of all connections have brought no data."""
        return sum(
            topics - proved for proved, topics in (connection.proved for connection in self.all)
        )

    # what the session asks for

    def send(self, command: Command) -> None:
        """Send an answer that the venue waits for."""
        if (link := self._link(command.connection)) is not None:
            link.answer(command.frame)

    def reconnect(self, command: Command) -> None:
        """Close a connection; its task makes it anew."""
        if (link := self._link(command.connection)) is not None:
            link.close(command.reason)

    def rotate(self, command: Command) -> None:
        """Replace the connection on which a venue announced its end."""
        for connection in self.all:
            if connection.link(command.connection) is not None:
                connection.rotate(command.reason, _NOTICE_SPREAD_S)

    def resubscribe_book(self, command: Command) -> None:
        """Ask for one book's snapshot again, by a new subscription of its channels alone."""
        channels = (c for c in self._venue.channels if self._carries(c) is MsgType.BOOK)
        self.resubscribe(
            command.connection, tuple(Topic(channel, command.symbol) for channel in channels)
        )

    def resubscribe(self, key: str, topics: tuple[Topic, ...]) -> None:
        """Subscribe topics of a connection again, within the budget; nothing where the venue
        cannot do that for single topics.
        """
        if (
            self._session.spec.stream.unsubscribe is not None
            and topics
            and (key, topics) not in self._asked
        ):
            self._asked.add((key, topics))
            self._spawn(self._resubscribe(key, topics))

    async def _resubscribe(self, key: str, topics: tuple[Topic, ...]) -> None:
        try:
            while True:
                self._paid_ns, wait_ns = grant(self._paid_ns, 1, self._budget, time.monotonic_ns())
                if not wait_ns:
                    break
                await asyncio.sleep(wait_ns / NS_PER_S)
        finally:
            self._asked.discard((key, topics))
        link, spec = self._link(key), self._session.spec
        if link is None or spec.stream.unsubscribe is None:
            return
        by_channel: dict[str, list[str]] = {}
        for topic in topics:
            by_channel.setdefault(topic.channel, []).append(topic.symbol)
        for channel, symbols in by_channel.items():
            link.post(
                [
                    spec.stream.unsubscribe(
                        [Topic(channel, symbol) for symbol in symbols], self._next_id(1)
                    )
                ]
            )
            for subscription in spec.stream.subscribe(symbols, [channel], self._request_id):
                self._next_id(len(subscription.frames))
                for frame, request_id in zip(
                    subscription.frames, subscription.request_ids, strict=False
                ):
                    self._session.on_request(key, request_id, spec.stream.requested("", frame))
                link.post(subscription.frames)
        self._session.counts["resubscribed"] += len(topics)
        log.info(
            "resubscribed",
            venue=spec.name,
            connection=key,
            topics=[f"{t.channel} {t.symbol}" for t in topics],
        )

    def _next_id(self, count: int) -> int:
        first, self._request_id = self._request_id, self._request_id + count
        return first

    def _link(self, key: str) -> Link | None:
        found: Iterable[Link | None] = (connection.link(key) for connection in self.all)
        return next((link for link in found if link is not None and link.is_open), None)

    def _carries(self, name: str) -> MsgType | None:
        channel = self._session.spec.stream.streams.get(name)
        return None if channel is None else channel.carries


def _backoff(feeder: Feeder) -> BackoffPolicy:
    return BackoffPolicy(
        base_s=feeder.backoff.base_s,
        factor=feeder.backoff.factor,
        cap_s=feeder.backoff.cap_s,
        reset_after_s=feeder.backoff.reset_after_s,
        circuit_connects=feeder.circuit.connects,
        circuit_window_s=feeder.circuit.window_s,
        circuit_pause_s=feeder.circuit.pause_s,
    )


def _proof(feeder: Feeder) -> ProofPolicy:
    kinds = (MsgType.BOOK, MsgType.BBO, MsgType.TRADE, MsgType.STAT, MsgType.LIQUIDATION)
    return ProofPolicy(
        first_data_s={kind: getattr(feeder.first_data, kind.name.lower()) for kind in kinds},
        idle_s={kind: getattr(feeder.idle, kind.name.lower()) for kind in kinds},
        connection_idle_s=feeder.data_idle_reconnect_s,
        quiet_idle_s=feeder.quiet_idle_reconnect_s,
    )
