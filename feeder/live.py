"""A venue's live feeder: connects, subscribes, fetches, publishes; one process, one event loop, one venue, one channel.

The thin shell around `feeder.session` (what to do) and `feeder.publisher` (how it goes out). Everything that waits, retries or
beats is here; everything that decides is not.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from picows import WSError

from feeder.access import Access
from feeder.announcer import Announcer
from feeder.backoff import Backoff, BackoffPolicy
from feeder.publisher import Cycle, MulticastLine, Publisher, next_epoch
from feeder.quarantine import QuarantineFile
from feeder.rest import RestAnswer, RestClient
from feeder.session import Command, CommandKind, Session, SessionOptions
from feeder.sync import SyncPolicy
from feeder.transport import Handlers, Socket, connect
from feeder.venue import RestRequest, Subscription, Topic, VenueSpec
from protocol.io import Sender, TextSender
from protocol.records import HeartbeatItem
from protocol.schema import Flag, MsgType, StatusState
from runtime import logs
from runtime.channels import lines_of
from runtime.settings import Config

__all__ = ["LiveFeeder"]

_TICK_S = 0.025
_CONNECT_TIMEOUT_S = 10.0
_LEARN_S = 10.0
_BOOK_DEPTH = 5000

log = logs.get("feeder.live")


class LiveFeeder:
    """Feeds one venue until told to stop. `replay` marks every packet as coming from a recording."""

    def __init__(self, spec: VenueSpec, config: Config, *, replay: bool = False, access: Access | None = None) -> None:
        self._spec = spec
        self._config = config
        self._venue = config.venues[spec.name]
        self._access = access or Access()
        feeder, network = config.feeder, config.network
        flags = int(Flag.REPLAY) if replay else 0
        channel_id = spec.venue_id
        second = 1_000_000_000
        self.session = Session(
            spec,
            SessionOptions(
                channel_id=channel_id,
                base_flags=flags,
                max_payload=network.max_payload,
                verify_checksum=replay,
                sync=SyncPolicy(
                    snapshot_deadline_ns=int(feeder.snapshot_deadline_s * second),
                    stream_snapshot_wait_ns=int((spec.rule.snapshot_wait_s or 3.0) * second),
                    quiet_wait_ns=int(feeder.quiet_wait_s * second),
                    attempts=feeder.resync.attempts,
                    window_ns=int(feeder.resync.window_s * second),
                    retry_first_ns=int(feeder.resync.slow_first_s * second),
                    retry_cap_ns=int(feeder.resync.slow_cap_s * second),
                ),
            ),
        )
        lines = lines_of(spec.name, network)
        senders = [
            Sender(group, port, interface=network.interface, ttl=network.ttl, allow_routing=network.wide_area)
            for group, port in lines
        ]
        self.line = MulticastLine(*senders)
        self.publisher = Publisher(
            self.line,
            venue_id=spec.venue_id,
            channel_id=channel_id,
            session=next_epoch(Path(feeder.state_dir), channel_id, int(time.time())),
            base_flags=flags,
        )
        text = TextSender(
            network.monitor_group, lines[0][1], interface=network.interface, ttl=network.ttl, allow_routing=network.wide_area
        )
        self._announcer = Announcer(
            spec.name, "feed", text.send, config.monitor.conn_interval_s, config.monitor.exchange_interval_s
        )
        self._quarantine = QuarantineFile(Path(feeder.quarantine_dir) / f"{spec.name}.jsonl")
        limits = self._venue.limits
        self._rest = RestClient(
            self._venue.endpoints,
            weight=limits.get("rest_weight", 60),
            window_s=limits.get("rest_window_s", 60),
            timeout_s=feeder.snapshot_deadline_s,
            access=self._access,
        )
        self._backoff = BackoffPolicy(
            base_s=feeder.backoff.base_s,
            factor=feeder.backoff.factor,
            cap_s=feeder.backoff.cap_s,
            reset_after_s=feeder.backoff.reset_after_s,
            circuit_connects=feeder.circuit.connects,
            circuit_window_s=feeder.circuit.window_s,
            circuit_pause_s=feeder.circuit.pause_s,
        )
        self._sockets: dict[str, Socket] = {}
        self._opened: dict[str, int] = {}
        self._quiet_ns = 0  # when silence was last no fault
        self._fetching: set[str] = set()
        self._wanted = 0
        self._reconnects = 0
        self._request_id = 1
        self._stopping = asyncio.Event()
        self._now_ns, self._ts_ns = time.monotonic_ns(), time.time_ns()
        self.frames = 0
        """WebSocket messages received."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Feed until `stop` is set; then drain, say SESSION_END and return."""
        self.publisher.start(self._beat())
        self._spawn(self._beat_and_repeat())
        await self._learn_instruments(stop)
        symbols = self._config.symbols(self._spec.name, self._spec.kind_of)
        self.session.subscribe(symbols, time.time_ns())
        self._flush()
        subscriptions = self._merged(self._spec.subscribe(symbols, self._venue.channels, self._request_id))
        self._request_id += sum(len(subscription.frames) for subscription in subscriptions)
        self._wanted = len(subscriptions)
        gc.collect()
        gc.freeze()
        if not stop.is_set():
            for number, subscription in enumerate(subscriptions, 1):
                self._spawn(self._keep_connected(f"{subscription.route}.{number}", subscription))
        await stop.wait()
        await self._drain()

    def report(self) -> dict[str, object]:
        """Return what this feeder did, for the end of a run: frames, events, packets, losses, and the session's counters."""
        stats = [sender.stats for sender in self.line.senders]
        return {
            "venue": self._spec.name,
            "session": self.publisher.session,
            "frames": self.frames - self._answers(),
            "control_frames": sum(n for name, n in self.session.counts.items() if name.startswith("control_")),
            "events": self.publisher.events(),
            "packets": self.publisher.packets,
            "bytes": self.publisher.bytes,
            "dropped": sum(stat.dropped for stat in stats),
            "reconnects": self._reconnects,
            "live_books": self.session.live_books(),
            "counts": dict(sorted(self.session.counts.items())),
        }

    async def _drain(self) -> None:
        self._stopping.set()
        self._flush()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        until = time.monotonic() + self._config.feeder.session_end_s
        self.publisher.end(self._beat(), time.time_ns())
        while time.monotonic() < until:
            await asyncio.sleep(min(0.25, max(0.0, until - time.monotonic())))
            self.publisher.end(self._beat(), time.time_ns())
        for connection in self._sockets.values():
            connection.close("feeder stops")
        self._quarantine.write(self.session.quarantined)
        await self._rest.close()

    # connections

    def _merged(self, subscriptions: Sequence[Subscription]) -> list[Subscription]:
        """Join the subscriptions of routes that are configured to one URL: one server, one connection, one order."""
        urls = self._venue.endpoints
        routes = {subscription.route for subscription in subscriptions}
        if len(routes) < 2 or len({urls[route] for route in routes}) == len(routes):
            return list(subscriptions)
        by_url: dict[str, Subscription] = {}
        for sub in subscriptions:
            known = by_url.get(urls[sub.route])
            by_url[urls[sub.route]] = (
                sub
                if known is None
                else Subscription(
                    known.route, known.frames + sub.frames, known.topics + sub.topics, known.request_ids + sub.request_ids
                )
            )
        return list(by_url.values())

    async def _keep_connected(self, name: str, subscription: Subscription) -> None:
        url = self._venue.endpoints[subscription.route]
        self.session.on_url(name, url)
        backoff = Backoff(self._backoff)
        while not self._stopping.is_set():
            backoff.connecting(time.monotonic_ns())
            try:
                reason = await self._one_connection(name, url, subscription, backoff)
            except Exception as error:  # whatever it was, the venue is tried again
                log.error("connection failed", venue=self._spec.name, connection=name, error=repr(error), exc_info=error)
                reason = repr(error)
            self._reconnects += 1
            delay, tripped = backoff.lost(time.monotonic_ns(), random.random())  # noqa: S311 - jitter, not a secret
            level = log.error if tripped else log.warning
            level("connection lost", venue=self._spec.name, connection=name, url=url, reason=reason, retry_s=round(delay, 2))
            await asyncio.sleep(delay)

    async def _one_connection(self, name: str, url: str, subscription: Subscription, backoff: Backoff) -> str:
        session, time_ns, monotonic_ns = self.session, time.time_ns, time.monotonic_ns

        def message(data: bytes) -> None:
            self.frames += 1
            self._ts_ns = ts_recv_ns = time_ns()
            self._now_ns = now_ns = monotonic_ns()
            try:
                session.on_frame(name, data, ts_recv_ns, now_ns)
            except Exception as error:  # a defect of ours costs the message it met, never the feed
                log.error("message not handled", venue=self._spec.name, connection=name, error=repr(error), exc_info=error)
                session.quarantine(name, data, f"internal error: {error!r}", 0, ts_recv_ns, None)

        def opened(connection: Socket) -> None:
            self._sockets[name] = connection
            self._opened[name] = now_ns = monotonic_ns()
            session.on_connect(name, now_ns, time_ns())

        await self._access.prepare(name)
        try:
            connection = await connect(url, Handlers(opened, message, self._send), _CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError, WSError) as error:
            self._access.failed(name, error)
            self._sockets.pop(name, None)
            session.on_disconnect(name, monotonic_ns(), time_ns())
            return f"{type(error).__name__}: {error}"
        log.info("connected", venue=self._spec.name, connection=name, url=url, topics=len(subscription.topics))
        try:
            await self._subscribe(name, connection, subscription)
            while not connection.closed.done():
                await asyncio.wait({connection.closed}, timeout=1.0)
                self._watch(name, connection, backoff)
            return str(connection.closed.result())
        finally:
            if not self._stopping.is_set():
                self._sockets.pop(name, None)
                session.on_disconnect(name, time.monotonic_ns(), time.time_ns())
                self._flush()

    async def _subscribe(self, name: str, connection: Socket, subscription: Subscription) -> None:
        limits = self._venue.limits
        burst, window_s = int(limits.get("messages", 4)), float(limits.get("messages_window_s", 1))
        self._note_requests(name, subscription)
        for position, frame in enumerate(subscription.frames):
            if position and position % max(1, burst - 1) == 0:
                await asyncio.sleep(window_s)
            connection.send(self._access.sign(name, frame))
        books = [topic.symbol for topic in subscription.topics if self._carries_book(topic)]
        self.session.on_subscribed(dict.fromkeys(books), name, time.monotonic_ns())

    def _note_requests(self, name: str, subscription: Subscription) -> None:
        for frame, request_id in zip(subscription.frames, subscription.request_ids, strict=False):
            self.session.on_request(name, request_id, self._spec.requested("", frame))

    def _carries_book(self, topic: Topic) -> bool:
        channel = self._spec.channels.get(topic.channel)
        return channel is not None and channel.carries is MsgType.BOOK

    def _watch(self, name: str, connection: Socket, backoff: Backoff) -> None:
        """Once a second: data keep the backoff young; silence is answered with a ping, then with a new connection."""
        now_ns = time.monotonic_ns()
        last_ns = self.session.last_data_ns.get(name, now_ns)
        if last_ns > self._opened[name]:
            backoff.data(now_ns)
            self._access.proved(name)
        if self._spec.silence_allowed(time.time_ns()):
            self._quiet_ns = now_ns
            if self._access.outdated(name):
                connection.close("its access token is due")
        idle_s = (now_ns - last_ns) / 1e9
        keepalive = self._spec.keepalive
        if keepalive is not None and idle_s >= keepalive.interval_s / 2:
            sent_ns = self._opened.get(f"{name} ping", 0)
            if now_ns - sent_ns >= keepalive.interval_s * 1e9:
                self._opened[f"{name} ping"] = now_ns
                if keepalive.payload is None:
                    connection.ping()
                else:
                    connection.send(keepalive.payload)
        if min(idle_s, (now_ns - self._quiet_ns) / 1e9) > self._config.feeder.data_idle_reconnect_s:
            connection.close(f"no data for {idle_s:.0f} s")

    # what the session asks for

    def _flush(self) -> None:
        """Send what is finished, at the present time."""
        self._now_ns, self._ts_ns = time.monotonic_ns(), time.time_ns()
        self._send()

    def _send(self) -> None:
        """Send what is finished, at the time of the last message: this ends every read of a socket."""
        session, publisher = self.session, self.publisher
        publisher.instruments(len(session.instruments))
        try:
            session.flush(publisher.publish, self._now_ns, self._ts_ns)
        except Exception as error:  # a defect of ours costs a batch, counted and told, never the connection
            session.counts["batches_failed"] += 1
            log.error("batch not sent", venue=self._spec.name, error=repr(error), exc_info=error)
        if session.commands:
            self._carry_out()

    def _carry_out(self) -> None:
        commands, self.session.commands = self.session.commands, []
        venue = self._spec.name
        for command in commands:
            if command.kind is CommandKind.FETCH_SNAPSHOT:
                self._spawn(self._fetch(command.symbol))
            elif command.kind is CommandKind.RESUBSCRIBE:
                self._resubscribe(command)
            elif command.kind is CommandKind.RECONNECT and command.connection in self._sockets:
                self._sockets[command.connection].close(command.reason)
            elif command.kind is CommandKind.SEND and command.connection in self._sockets:
                self._sockets[command.connection].send(command.frame)
            elif command.kind is CommandKind.LOGIN:
                self._access.rejected(command.connection)
            elif command.kind is CommandKind.COMPLAIN:
                log.error("the venue answered an error", venue=venue, connection=command.connection, text=command.reason)
            elif command.kind is CommandKind.ROTATE:
                log.warning("venue announces a restart", venue=venue, connection=command.connection, text=command.reason)

    def _answers(self) -> int:
        """Return how many frames answered the feeder itself: no part of the stream, unless the venue numbers them with it."""
        counts = self.session.counts
        controls = sum(n for name, n in counts.items() if name.startswith("control_")) - counts["control_ignored"]
        return controls if self._spec.connection_number is None else 0

    async def _fetch(self, symbol: str) -> None:
        """Fetch a book, unless that is being done: during a ban the rule asks again and again, the venue is asked once."""
        request = self._spec.snapshot_request
        if request is None or symbol in self._fetching:
            return
        self._fetching.add(symbol)
        try:
            await self._fetch_book(symbol, request(symbol, int(self._venue.limits.get("snapshot_levels", _BOOK_DEPTH))))
        finally:
            self._fetching.discard(symbol)

    async def _fetch_book(self, symbol: str, request: RestRequest) -> None:
        answer = await self._rest.get(request)
        if answer.error:
            log.warning("order book not fetched", venue=self._spec.name, symbol=symbol, error=answer.error, url=answer.url)
            self.session.on_snapshot_failed(symbol, time.monotonic_ns())
        else:
            self.session.on_snapshot(symbol, answer.body, answer.ts_recv_ns, time.monotonic_ns())
        self._flush()

    def _resubscribe(self, command: Command) -> None:
        connection = self._sockets.get(command.connection)
        unsubscribe = self._spec.unsubscribe
        channels = [c for c in self._venue.channels if self._carries_book(Topic(c, command.symbol))]
        if connection is None or unsubscribe is None or not channels:
            return
        topics = [Topic(channel, command.symbol) for channel in channels]
        connection.send(unsubscribe(topics, self._request_id))
        for subscription in self._spec.subscribe([command.symbol], channels, self._request_id + 1):
            self._note_requests(command.connection, subscription)
            for frame in subscription.frames:
                connection.send(frame)
        self._request_id += 1 + len(channels)
        log.info("resubscribed", venue=self._spec.name, symbol=command.symbol, connection=command.connection)

    async def _learn_instruments(self, stop: asyncio.Event) -> None:
        """Fetch the venue's definitions before the first subscription, but let no venue delay the feed for long.

        What has not come by then is learned while the feed runs; until then its instruments are provisional.
        """
        learning = [self._spawn(self._learn(request)) for request in self._spec.instruments_requests()]
        stopped = asyncio.ensure_future(stop.wait())
        everything = asyncio.ensure_future(asyncio.wait(learning)) if learning else stopped
        await asyncio.wait({everything, stopped}, timeout=_LEARN_S, return_when=asyncio.FIRST_COMPLETED)
        everything.cancel()
        stopped.cancel()
        log.info("instruments", venue=self._spec.name, definitions=len(self.session.known))

    async def _learn(self, request: RestRequest) -> None:
        """Fetch definitions; a venue that does not give them is asked again in the background, at growing intervals."""
        answer = await self._rest.get(request)
        if not answer.error:
            self._take_instruments(answer)
            return
        log.warning("instruments not fetched", venue=self._spec.name, error=answer.error, url=answer.url)
        if not answer.error.startswith("HTTP 404"):
            self._spawn(self._ask_again(request))

    async def _ask_again(self, request: RestRequest) -> None:
        delay = 5.0
        while True:
            await asyncio.sleep(delay)
            answer = await self._rest.get(request)
            if not answer.error:
                self._take_instruments(answer)
                return
            delay = min(delay * 2, 300.0)

    def _take_instruments(self, answer: RestAnswer) -> None:
        self.session.on_instruments(answer.body, answer.ts_recv_ns, time.monotonic_ns())
        self._flush()

    # what beats

    async def _beat_and_repeat(self) -> None:
        pulse = _Pulse(self._config, time.monotonic_ns())
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                self._tick(pulse, time.monotonic_ns())
            except Exception as error:  # a defect here must not silence the heartbeats
                log.error("tick failed", venue=self._spec.name, error=repr(error), exc_info=error)
                await asyncio.sleep(1.0)

    def _tick(self, pulse: _Pulse, now_ns: int) -> None:
        session, publisher = self.session, self.publisher
        deadline = session.next_deadline()
        if deadline is not None and deadline <= now_ns:
            session.on_timer(now_ns, time.time_ns())
        self._flush()
        if pulse.heartbeat_due(publisher.packets, now_ns):
            publisher.heartbeat(self._beat(), time.time_ns())
        instruments = session.instruments
        for index in pulse.definitions.due(len(instruments), now_ns):
            publisher.repeat(session.definition(instruments[index]))
        for index in pulse.snapshots.due(len(instruments), now_ns):
            publisher.repeat(session.book_snapshot(instruments[index]))
        if pulse.second_due(now_ns):
            session.check_stale(now_ns, int(self._config.feeder.stale_after_s * 1e9), time.time_ns())
            if session.quarantined:
                messages, session.quarantined = session.quarantined, []
                self._quarantine.write(messages)
        up = len(self._sockets)
        connections = (up, self._wanted - up, self._reconnects, self._wanted)
        self._announcer.tick(now_ns, time.time_ns(), connections, session, publisher)

    def _beat(self) -> HeartbeatItem:
        session = self.session
        live = session.live_books()
        wanted = sum(1 for instrument in session.instruments if instrument.sync.state is not StatusState.IDLE)
        return HeartbeatItem(
            upstream_dropped=session.counts["gaps"] + session.counts["quarantine"] + session.counts["batches_failed"],
            instruments=len(session.instruments),
            suspect=wanted - live,
            interval_ms=self._config.feeder.heartbeat_max_ms,
            health=2 if not self._sockets else 0 if live == wanted and len(self._sockets) == self._wanted else 1,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("task failed", venue=self._spec.name, error=repr(task.exception()), exc_info=task.exception())


class _Pulse:
    """What is due when, on the monotonic clock."""

    def __init__(self, config: Config, now_ns: int) -> None:
        self.definitions = Cycle(config.feeder.definition_cycle_s, now_ns)
        self.snapshots = Cycle(config.feeder.snapshot_cycle_s, now_ns)
        self._idle_ns = config.feeder.heartbeat_idle_ms * 1_000_000
        self._most_ns = config.feeder.heartbeat_max_ms * 1_000_000
        self._packets = -1
        self._sent_ns = now_ns
        self._beat_ns = 0
        self._second_ns = now_ns

    def heartbeat_due(self, packets: int, now_ns: int) -> bool:
        """Whether to beat: after a silence of the channel, and at least once a `heartbeat_max_ms`; `packets` were sent so far."""
        if packets != self._packets:
            self._packets, self._sent_ns = packets, now_ns
        since = now_ns - self._beat_ns
        due = since >= self._most_ns or (now_ns - self._sent_ns >= self._idle_ns and since >= self._idle_ns)
        if due:
            self._beat_ns = now_ns
        return due

    def second_due(self, now_ns: int) -> bool:
        """Whether a second has passed."""
        if now_ns - self._second_ns < 1_000_000_000:
            return False
        self._second_ns = now_ns
        return True
