"""One connection that is to be there: opened, subscribed, watched, replaced before it ends, made
anew when it is lost.

A supervised task per connection around sans-I/O parts: `runtime.net.backoff` says when to try
again, `feeder.connections.proof` whether what was subscribed comes,
`feeder.connections.rotation` when to replace, `feeder.session.handover` (through the session)
how, `runtime.net.limiter` whether this host may connect now. The loss of one connection concerns
no other.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from picows import WSError, WSHandshakeError

from tapecast.feeder.connections.link import Link
from tapecast.feeder.connections.proof import FindingKind, ProofPolicy, Watch, Watched
from tapecast.feeder.connections.rotation import Rotation, RotationPolicy
from tapecast.feeder.connections.sharding import Shard
from tapecast.feeder.frame_handler import SUCCESSOR, FrameHandler
from tapecast.feeder.login.access import Access
from tapecast.feeder.session.handover import HandoverPolicy, Outcome
from tapecast.feeder.session.session import Session
from tapecast.feeder.venues.spec import Topic
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.schema import MsgType
from tapecast.runtime import logs
from tapecast.runtime.net.backoff import Backoff, BackoffPolicy
from tapecast.runtime.net.limiter import CONNECT, HostLimiter
from tapecast.runtime.net.rest import pause_s

__all__ = ["Connection", "Context"]

_LOOK_S = 1.0
_HANDOVER_LOOK_S = 0.05
_STEADY_NS = 3600 * 1_000_000_000
"""A connection that lasted so long ends a run of strikes."""
_FAILURES = (OSError, TimeoutError, WSError)

log = logs.get("feeder.connections.connection")


@dataclass(frozen=True, slots=True)
class Context:
    """What all connections of a feeder share."""

    session: Session
    publisher: Publisher
    frame_handler: FrameHandler
    limiter: HostLimiter
    access: Access
    limits: Mapping[str, int | float]
    backoff: BackoffPolicy
    proof: ProofPolicy
    rotation: RotationPolicy
    handover: HandoverPolicy
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    resubscribe: Callable[[str, tuple[Topic, ...]], None]
    """(connection, topics): ask for their data again."""


class Connection:
    """Keeps one shard connected for as long as its task runs."""

    def __init__(self, shard: Shard, urls: tuple[str, ...], around: Context) -> None:
        """`urls` are tried in turn: the next one when subscriptions on one bring nothing, or it
        cannot be reached.
        """
        self.name = shard.name
        self.losses = 0
        self._shard = shard
        self._urls = urls
        self._url = 0
        self._around = around
        self._backoff = Backoff(around.backoff)
        self._rotation = Rotation(around.rotation)
        self._strikes = 0
        self._link: Link | None = None
        self._successor: Link | None = None
        self._settled_ns: int | None = None
        """When the successor had subscribed."""
        self._replacing: asyncio.Task[None] | None = None
        self._watch: Watch | None = None
        self._watched: tuple[Watched, ...] = ()
        self._stopping = False

    @property
    def up(self) -> bool:
        """Whether it is connected."""
        return self._link is not None and self._link.is_open

    @property
    def proved(self) -> tuple[int, int]:
        """How many of its topics have brought data, and how many there are."""
        return (
            (0, len(self._shard.subscription.topics))
            if self._watch is None
            else (self._watch.proved, self._watch.topics)
        )

    @property
    def succession(self) -> bool:
        """Whether a successor could take over now: it has delivered beside the old connection
        for long enough to miss nothing.
        """
        if self._successor is None or self._settled_ns is None or not self._successor.is_open:
            return False
        return time.monotonic_ns() - self._settled_ns >= self._around.handover.linger_ns

    def link(self, key: str) -> Link | None:
        """Return the link of that key, this connection's own or its successor's."""
        return next(
            (
                link
                for link in (self._link, self._successor)
                if link is not None and link.key == key
            ),
            None,
        )

    def rotate(self, reason: str, within_s: float = 0.0) -> None:
        """Ask for a replacement, at a random time within `within_s`."""
        self._rotation.demand(reason, time.monotonic_ns(), within_s * random.random())  # noqa: S311 - jitter, not a secret

    async def keep(self) -> None:
        """Connect, and connect again, until cancelled."""
        name, venue = self.name, self._around.session.spec.name
        while True:
            try:
                await self._around.limiter.acquire(CONNECT)
                self._backoff.connecting(time.monotonic_ns())
                reason, least_s = await self._once()
            # Whatever it was, the venue is tried again.
            except Exception as error:
                log.error(
                    "connection_failed",
                    venue=venue,
                    connection=name,
                    error=repr(error),
                    exc_info=error,
                )
                reason, least_s = repr(error), 0.0
            self.losses += 1
            delay, tripped = self._backoff.lost(time.monotonic_ns(), random.random())  # noqa: S311 - jitter, not a secret
            delay = max(delay, least_s)
            log.log(
                logging.ERROR if tripped or least_s else logging.WARNING,
                "connection_lost",
                venue=venue,
                connection=name,
                reason=reason,
                retry_s=round(delay, 2),
            )
            await asyncio.sleep(delay)

    def stop(self) -> None:
        """Close without telling the session of a loss."""
        self._stopping = True
        for link in (self._link, self._successor):
            if link is not None:
                link.close("feeder stops")

    @property
    def _successor_key(self) -> str:
        return self.name + SUCCESSOR

    async def _once(self) -> tuple[str, float]:
        """Connect once; return why it ended, and for how long to wait at least before the next
        try.
        """
        session, spec = self._around.session, self._around.session.spec
        url = self._urls[self._url % len(self._urls)]
        session.on_url(self.name, url)
        link = Link(self.name, self._around.frame_handler, self._around.limits, self._around.access)
        self._link = link
        try:
            await link.open(url, self._opened)
            log.info(
                "connected",
                venue=spec.name,
                connection=self.name,
                url=url,
                topics=len(self._shard.subscription.topics),
            )
            await self._subscribe(link)
            books = [
                topic.symbol
                for topic in self._shard.subscription.topics
                if self._carries(topic) is MsgType.BOOK
            ]
            session.on_subscribed(dict.fromkeys(books), self.name, time.monotonic_ns())
            return await self._attend(), 0.0
        except _FAILURES as error:
            self._around.access.failed(self.name, error)
            self._url += 1
            return f"{type(error).__name__}: {error}", self._least_wait(error)
        finally:
            self._end()

    def _end(self) -> None:
        """Leave nothing of a connection behind."""
        if self._replacing is not None:
            self._replacing.cancel()
            self._replacing = None
        if self._link is not None:
            self._link.close("connection failed")
        if not self._stopping:
            self._link = self._watch = None
            self._around.frame_handler.of(self.name).lost()
            self._around.session.abandon_handover(
                self._successor_key, time.monotonic_ns(), time.time_ns()
            )
            self._around.session.on_disconnect(self.name, time.monotonic_ns(), time.time_ns())
            self._around.frame_handler.flush()

    def _opened(self, link: Link) -> None:
        self._around.session.on_connect(link.key, link.opened_ns, time.time_ns())
        if link.key == self.name:
            self._begin_watch(link)

    def _begin_watch(self, link: Link) -> None:
        around = self._around
        self._rotation.opened(link.opened_ns, random.random())  # noqa: S311 - jitter, not a secret
        around.frame_handler.of(self.name).opened(link.opened_ns)
        around.frame_handler.flush()
        known = around.session.by_symbol
        watched = [
            Watched(topic, known[topic.symbol].index, carries)
            for topic in self._shard.subscription.topics
            if topic.symbol in known and (carries := self._carries(topic)) is not None
        ]
        self._watched = tuple(watched)
        self._watch = Watch(
            watched, around.proof, around.publisher.counters, time.monotonic_ns(), self._strikes
        )

    async def _subscribe(self, link: Link) -> None:
        """Send every request at the venue's pace. Raises ConnectionResetError where the
        connection ends before that.
        """
        session, subscription = self._around.session, self._shard.subscription
        for frame, request_id in zip(subscription.frames, subscription.request_ids, strict=False):
            session.on_request(link.key, request_id, session.spec.stream.requested("", frame))
        link.post(subscription.frames)
        await link.posted()
        if link.closed.done():
            raise ConnectionResetError(link.closed.result())

    async def _attend(self) -> str:
        """Return the reason when the connection is lost, and no successor takes its place."""
        while True:
            link = self._link
            assert link is not None
            await asyncio.wait({link.closed}, timeout=_LOOK_S)
            if link is not self._link:
                continue
            if link.closed.done():
                if self._successor is None or not self.succession:
                    return link.closed.result()
                self._switch(self._successor)
                continue
            try:
                self._look(link, time.monotonic_ns())
            # A defect in a watchdog must not cost the connection it watches.
            except Exception as error:
                log.error(
                    "watchdog_failed",
                    venue=self._around.session.spec.name,
                    connection=self.name,
                    error=repr(error),
                    exc_info=error,
                )

    def _look(self, link: Link, now_ns: int) -> None:
        """Once a second: data keep the backoff young, silence is answered with a ping, what the
        watch finds with action.
        """
        session = self._around.session
        last_ns = session.last_data_ns.get(self.name, now_ns)
        if last_ns > link.opened_ns:
            self._backoff.data(now_ns)
            self._around.access.proved(self.name)
        if session.spec.stream.keepalive is not None:
            link.keep_alive(session.spec.stream.keepalive, now_ns - last_ns, now_ns)
        if now_ns - link.opened_ns > _STEADY_NS:
            self._strikes = 0
        self._find(link, last_ns, now_ns)
        if self._replacing is None and link.is_open and (reason := self._rotation.due(now_ns)):
            self._replacing = self._around.spawn(self._replace(reason))

    def _find(self, link: Link, last_ns: int, now_ns: int) -> None:
        around, session = self._around, self._around.session
        if self._watch is None:
            return
        waiting = {
            one.row
            for one in self._watched
            if (sync := session.instruments[one.row].sync).has_data and not sync.live
        }
        rests = session.spec.stream.silence_allowed(time.time_ns())
        if rests and around.access.outdated(self.name):
            link.close("its access token is due")  # made anew while nothing is to be lost
            return
        for found in self._watch.look(
            around.publisher.counters, waiting, last_ns, now_ns, trading=not rests
        ):
            session.on_topics(
                found.kind.name,
                found.topics,
                time.time_ns(),
                resumed=found.kind is FindingKind.HAS_DATA,
            )
            if not found.ends:
                log.warning(
                    "topic_silent" if found.kind is FindingKind.SILENT else "topic_recovered",
                    venue=session.spec.name,
                    connection=self.name,
                    url=link.url,
                    what=found.text,
                    topics=[f"{topic.channel} {topic.symbol}" for topic in found.topics],
                )
                if found.kind is FindingKind.SILENT:
                    around.resubscribe(self.name, found.topics)
                continue
            unproven = found.kind is FindingKind.UNPROVEN
            log.error(
                "first_data_missing" if unproven else "data_idle",
                venue=session.spec.name,
                connection=self.name,
                url=link.url,
                what=found.text,
            )
            self._strikes += 1
            self._url += unproven
            link.close(found.text)
            return

    # replacement

    async def _replace(self, reason: str) -> None:
        """Open a successor beside the connection, and let it take over once it brings
        everything.
        """
        around, session = self._around, self._around.session
        venue, key = session.spec.name, self._successor_key
        log.info("replacement_started", venue=venue, connection=self.name, reason=reason)
        link = self._successor = Link(key, around.frame_handler, around.limits, around.access)
        self._settled_ns = None
        try:
            await around.limiter.acquire(CONNECT)
            session.begin_handover(self.name, key, around.handover)
            url = self._urls[self._url % len(self._urls)]
            session.on_url(key, url)
            await link.open(url, self._opened)
            await self._subscribe(link)
            session.handover_subscribed(key, time.monotonic_ns())
            self._settled_ns = time.monotonic_ns()
            while True:
                await asyncio.wait({link.closed}, timeout=_HANDOVER_LOOK_S)
                if self._link is link:
                    # the old connection ended by itself, and `_attend` let this one take over
                    return
                if link.closed.done():
                    raise ConnectionResetError(link.closed.result())
                outcome = session.handover_verdict(key, time.monotonic_ns())
                if outcome is Outcome.SWITCH:
                    self._switch(link)
                    return
                if outcome is Outcome.ABANDON:
                    raise ConnectionResetError("no data on the new connection")
        except _FAILURES as error:
            around.access.failed(key, error)
            log.error(
                "replacement_failed",
                venue=venue,
                connection=self.name,
                error=f"{type(error).__name__}: {error}",
            )
            self._url += 1
            self._rotation.failed(time.monotonic_ns(), random.random())  # noqa: S311 - jitter, not a secret
        finally:
            if self._link is not link:
                link.close("not needed")
                session.abandon_handover(key, time.monotonic_ns(), time.time_ns())
                around.frame_handler.flush()
            self._successor = None
            self._replacing = None

    def _switch(self, link: Link) -> None:
        old, around, session = self._link, self._around, self._around.session
        assert old is not None
        old.mute()
        session.end_handover(link.key, time.monotonic_ns(), time.time_ns())
        session.on_url(self.name, link.url)
        around.access.renamed(link.key, self.name)
        link.key = self.name
        self._link, self._successor = link, None
        self._begin_watch(link)
        old.close("replaced")
        log.info("replaced", venue=session.spec.name, connection=self.name, url=link.url)

    def _carries(self, topic: Topic) -> MsgType | None:
        channel = self._around.session.spec.stream.streams.get(topic.channel)
        return None if channel is None else channel.carries

    def _least_wait(self, error: BaseException) -> float:
        """Return how long a failure keeps us away: a refusal as long as the venue says, a bad
        certificate as long as it gets.
        """
        if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
            return self._around.backoff.cap_s
        response = error.response if isinstance(error, WSHandshakeError) else None
        if response is None:
            return 0.0
        refused_s = pause_s(int(response.status), response.headers.get("Retry-After"))
        if refused_s:
            self._around.limiter.ban(CONNECT, refused_s)
        return refused_s
