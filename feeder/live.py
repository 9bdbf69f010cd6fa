"""A venue's live feeder: one process, one event loop, one venue, one channel; assembly,
lifecycle, and what beats.

The thin shell around `feeder.session.session` (what to do) and `protocol.publish.publisher` (how
it goes out). Connections are kept by `feeder.connections.pool`, REST is asked by
`feeder.connections.snapshots`; everything that decides is sans-I/O.
"""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

from tapecast.feeder.clock_watch import ClockWatch
from tapecast.feeder.connections.pool import Connections
from tapecast.feeder.connections.sharding import plan
from tapecast.feeder.connections.snapshots import SnapshotFetcher
from tapecast.feeder.frame_handler import FrameHandler
from tapecast.feeder.login.access import Access
from tapecast.feeder.monitor_lines import MonitorLines
from tapecast.feeder.quarantine import QuarantineFile
from tapecast.feeder.record.recorder import Recorder
from tapecast.feeder.record.session import SessionRecorder
from tapecast.feeder.recovery_source import SessionStates
from tapecast.feeder.session.session import CommandKind, Session, SessionOptions
from tapecast.feeder.session.sync import SyncPolicy
from tapecast.feeder.symbols.starting import starting_symbols
from tapecast.feeder.venues.spec import VenueSpec
from tapecast.protocol.schema import Flag, StatusState
from tapecast.protocol.units import NS_PER_S
from tapecast.runtime import logs
from tapecast.runtime.channel import Health, open_channel
from tapecast.runtime.channels import channel_named
from tapecast.runtime.keys import packet_room
from tapecast.runtime.net.limiter import HostLimiter
from tapecast.runtime.net.rest import RestClient
from tapecast.runtime.service.tasks import Tasks
from tapecast.runtime.settings import Config

__all__ = ["LiveFeeder"]

_TICK_S = 0.025
_LEARN_S = 10.0

log = logs.get("feeder.live")


class LiveFeeder:
    """Feeds one venue until told to stop. `replay` marks every packet as coming from a
    recording.

    With a `recorder` everything that the session is given is recorded. Without `publish` nothing
    is sent and no session is begun. `access`: the venue's login.
    """

    def __init__(
        self,
        spec: VenueSpec,
        config: Config,
        *,
        replay: bool = False,
        recorder: Recorder | None = None,
        publish: bool = True,
        access: Access | None = None,
    ) -> None:
        self._spec = spec
        self.name = spec.name
        self._config = config
        self._tasks = Tasks("feeder.live", venue=spec.name)
        self._venue = config.venues[spec.name]
        self._replay = replay
        self._access = access or Access()
        feeder, network = config.feeder, config.network
        flags = int(Flag.REPLAY) if replay else 0
        channel = channel_named(spec.name, feeder.replica)
        label = channel.label
        options = SessionOptions(
            channel_id=channel.channel_id,
            base_flags=flags,
            max_payload=packet_room(network),
            verify_checksum=replay,
            sync=_sync_policy(config, spec),
        )
        self.session = Session(
            spec, options, None if recorder is None else SessionRecorder(recorder)
        )
        self.recorder = recorder
        self.channel = open_channel(config, channel, base_flags=flags, publish=publish)
        self.line, self.publisher = self.channel.line, self.channel.publisher
        self._monitor_lines = MonitorLines(
            label,
            "feed",
            self.channel.send_text,
            config.monitor.conn_interval_s,
            config.monitor.exchange_interval_s,
        )
        self.quarantine = QuarantineFile(Path(feeder.quarantine_dir) / f"{label}.jsonl")
        limits = self._venue.limits
        self._limiter = HostLimiter.of(Path(feeder.state_dir), spec.name, limits)
        self.rest = RestClient(
            self._venue.endpoints,
            weight=limits.get("rest_weight", 60),
            window_s=limits.get("rest_window_s", 60),
            timeout_s=feeder.snapshot_deadline_s,
            limiter=self._limiter,
            record=None if recorder is None else recorder.body,
            access=self._access,
        )
        self.frame_handler = FrameHandler(self.session, self.publisher, self._carry_out, recorder)
        self.channel.serve(SessionStates(self.session, self.frame_handler.flush), self._health)
        self.recovery = self.channel.recovery
        self._snapshots = SnapshotFetcher(
            self.session,
            self.rest,
            self.frame_handler,
            self._tasks.spawn,
            int(limits.get("snapshot_levels", 0)),
        )
        self.connections = Connections(
            feeder,
            self._venue,
            self.session,
            self.publisher,
            self.frame_handler,
            self._limiter,
            self._access,
            self._tasks.spawn,
        )
        self._clock = ClockWatch()
        self.ticked_ns = time.monotonic_ns()
        """When the heartbeats' loop last did all its work."""

    async def run(self, stop: asyncio.Event) -> None:
        """Feed until `stop` is set; then drain, say SESSION_END and return."""
        await self.channel.start()
        self._tasks.spawn(self._beat_and_repeat())
        whole = await self._snapshots.learn_instruments(stop, _LEARN_S)
        symbols = await starting_symbols(
            self._spec,
            self._config,
            self.session.known,
            self.rest,
            stop,
            whole=whole,
            replay=self._replay,
        )
        self.session.subscribe(symbols, time.time_ns())
        self.frame_handler.flush()
        shards = plan(
            self._spec,
            symbols,
            self._venue.channels,
            self._venue.endpoints,
            self._config.symbols_per_connection(self._spec.name),
            sockets=int(self._venue.limits.get("sockets", 0)),
        )
        gc.collect()
        gc.freeze()
        if not stop.is_set():
            self.connections.start(shards)
        await stop.wait()
        await self._drain()

    def report(self) -> dict[str, object]:
        """Return what this feeder did, for the end of a run: frames, events, packets, losses,
        and the session's counters.
        """
        stats = [sender.stats for sender in self.line.senders]
        return {
            "venue": self._spec.name,
            "session": self.publisher.session,
            "frames": self.frame_handler.frames - self._answers(),
            "control_frames": sum(
                n for name, n in self.session.counts.items() if name.startswith("control_")
            ),
            "events": self.publisher.events(),
            "packets": self.publisher.packets,
            "bytes": self.publisher.bytes,
            "dropped": sum(stat.dropped for stat in stats),
            "connections": len(self.connections.all),
            "reconnects": self.connections.losses,
            "unproved_topics": self.connections.unproved,
            "rest_weight_used": self.rest.used_weight,
            "live_books": self.session.live_books(),
            "recovery": self.recovery.report(),
            "record_dropped": 0 if self.recorder is None else self.recorder.dropped,
            "counts": dict(sorted(self.session.counts.items())),
        }

    async def _drain(self) -> None:
        self.frame_handler.flush()
        self.connections.stop()
        await self._tasks.cancel()
        # A disk that hangs takes its time while the end is announced, not behind it.
        recorded = (
            asyncio.create_task(asyncio.to_thread(self.recorder.close))
            if self.recorder is not None
            else None
        )
        await self.channel.end()
        self.quarantine.write(self.session.quarantined)
        await self.rest.close()
        if recorded is not None:
            await recorded
        self._limiter.close()

    # what the session asks for

    def _carry_out(self) -> None:
        commands = self.session.take_commands()
        venue = self._spec.name
        for command in commands:
            if command.kind is CommandKind.FETCH_SNAPSHOT:
                self._snapshots.fetch(command.symbol)
            elif command.kind is CommandKind.RESUBSCRIBE:
                self.connections.resubscribe_book(command)
            elif command.kind is CommandKind.RECONNECT:
                self.connections.reconnect(command)
            elif command.kind is CommandKind.SEND:
                self.connections.send(command)
            elif command.kind is CommandKind.LOGIN:
                self._access.rejected(command.connection)
            elif command.kind is CommandKind.ROTATE:
                log.warning(
                    "venue_restart_announced",
                    venue=venue,
                    connection=command.connection,
                    text=command.reason,
                )
                self.connections.rotate(command)
            elif command.kind is CommandKind.COMPLAIN:
                log.error(
                    "venue_error",
                    venue=venue,
                    connection=command.connection,
                    text=command.reason,
                )

    def _answers(self) -> int:
        """Return how many frames answered the feeder itself: no part of the stream, unless the
        venue numbers them with it.
        """
        counts = self.session.counts
        controls = (
            sum(n for name, n in counts.items() if name.startswith("control_"))
            - counts["control_ignored"]
        )
        return controls if self._spec.stream.connection_number is None else 0

    # what beats

    async def _beat_and_repeat(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                self._tick(time.monotonic_ns())
                self.ticked_ns = time.monotonic_ns()
            except Exception as error:  # a defect here must not silence the heartbeats
                log.error("tick_failed", venue=self._spec.name, error=repr(error), exc_info=error)
                await asyncio.sleep(1.0)

    def _tick(self, now_ns: int) -> None:
        session, publisher = self.session, self.publisher
        self._watch_clock(now_ns, time.time_ns())
        deadline = session.next_deadline()
        if deadline is not None and deadline <= now_ns:
            session.on_timer(now_ns, time.time_ns())
        self.frame_handler.flush()
        self.channel.tick(now_ns)
        if self.channel.schedule.second_due(now_ns):
            if self.recorder is not None and self.recorder.dropped:
                session.counts["unrecorded"] = self.recorder.dropped
            if unsent := sum(sender.stats.dropped for sender in self.line.senders):
                session.counts["unsent"] = unsent
            session.check_stale(
                now_ns, int(self._config.feeder.stale_after_s * NS_PER_S), time.time_ns()
            )
            session.sweep_handovers(now_ns)
            if session.quarantined:
                self.quarantine.write(session.take_quarantined())
        up, wanted = self.connections.up, len(self.connections.all)
        connections = (up, wanted - up, self.connections.losses, wanted)
        self._monitor_lines.tick(now_ns, time.time_ns(), connections, session, publisher)

    def _watch_clock(self, now_ns: int, ts_ns: int) -> None:
        steps = self._clock.steps
        self.line.flags = int(Flag.BAD_TS_RECV) if self._clock.look(now_ns, ts_ns) else 0
        if self._clock.steps != steps:
            self.session.counts["clock_steps"] += 1
            log.error(
                "clock_set",
                venue=self._spec.name,
                by_s=round(self._clock.step_ns / NS_PER_S, 3),
            )

    def _health(self) -> Health:
        session = self.session
        live = session.live_books()
        wanted = sum(
            1 for instrument in session.instruments if instrument.sync.state is not StatusState.IDLE
        )
        up = self.connections.up
        return Health(
            upstream_dropped=session.counts["gaps"]
            + session.counts["quarantine"]
            + session.counts["batches_failed"],
            suspect=wanted - live,
            health=2 if not up else 0 if live == wanted and up == len(self.connections.all) else 1,
        )


def _sync_policy(config: Config, spec: VenueSpec) -> SyncPolicy:
    feeder = config.feeder
    return SyncPolicy(
        snapshot_deadline_ns=int(feeder.snapshot_deadline_s * NS_PER_S),
        stream_snapshot_wait_ns=int((spec.rule.snapshot_wait_s or 3.0) * NS_PER_S),
        quiet_wait_ns=int(feeder.quiet_wait_s * NS_PER_S),
        attempts=feeder.resync.attempts,
        window_ns=int(feeder.resync.window_s * NS_PER_S),
        retry_first_ns=int(feeder.resync.slow_first_s * NS_PER_S),
        retry_cap_ns=int(feeder.resync.slow_cap_s * NS_PER_S),
    )
