"""`tapecast up`: the whole fleet on this host. Feeders and consumers as processes of their own,
supervised; the monitor in front.

Live by default. With `--replay` the feeders connect to servers that play recordings in the
venues' own dialect, so nothing leaves the host; with `--until-end` the run ends with the
recordings and reports what was sent, received and lost. A process gets what it needs by
configuration: the same feeder runs live and in replay.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from tapecast.feeder.connections.sharding import plan
from tapecast.feeder.login.client import with_keys
from tapecast.feeder.record.recording import NOT_SERVED, universe
from tapecast.feeder.replay.venues import by_venue
from tapecast.feeder.symbols.universe import check_universe
from tapecast.feeder.venues import VENUES, venue
from tapecast.fleet import Fleet, Process
from tapecast.protocol.schema import MsgType
from tapecast.report import print_report, write_events
from tapecast.runtime import config as configuration
from tapecast.runtime import logs
from tapecast.runtime.errors import ConfigError, TapecastError
from tapecast.runtime.keys import channel_keys
from tapecast.runtime.service.loop import Shutdown
from tapecast.runtime.service.loop import run as run_loop
from tapecast.runtime.settings import Config, Idle

__all__ = ["add_arguments", "run"]

_RECORDINGS = ("*.jsonl", "*.jsonl.gz")
_QUIET_REPLAY = {
    "feeder__snapshot_cycle_s": "0",
    "feeder__quiet_wait_s": "1.0",
    "feeder__session_end_s": "0.5",
    "feeder__data_idle_reconnect_s": "86400",
    "feeder__quiet_idle_reconnect_s": "86400",
    "feeder__stale_after_s": "86400",
    **{
        f"feeder__{limit}__{kind}": "0"
        for limit in ("first_data", "idle")
        for kind in Idle.__struct_fields__
    },
}
"""A measured replay sends only what the recording holds: no cycle snapshots, no watchdogs on a
stream that pauses.
"""

log = logs.get("tapecast.up")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "venues",
        nargs="*",
        metavar="VENUE",
        help="venues to run (default: those enabled in the configuration)",
    )
    parser.add_argument(
        "--replay",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="recordings, or folders of them, not the venues",
    )
    parser.add_argument(
        "--venue",
        choices=sorted(VENUES),
        help="with --replay: venue of every file (default: that of the file)",
    )
    parser.add_argument(
        "--speed",
        default="1",
        metavar="N|max",
        help="with --replay: times the recorded pace (default 1)",
    )
    parser.add_argument(
        "--until-end",
        action="store_true",
        help="with --replay: stop when the recordings are over and report",
    )
    parser.add_argument(
        "--events",
        type=Path,
        metavar="FILE",
        help=(
            "with --replay: play to the end, then write what was received as `tapecast decode`"
            " prints it"
        ),
    )
    parser.add_argument(
        "--json", action="store_true", help="print the report, or the monitor's state, as JSON"
    )
    parser.add_argument("--no-monitor", action="store_true", help="show nothing while running")


def run(args: argparse.Namespace) -> int:
    """Run the fleet; with --until-end exit 0 only if nothing was lost."""
    if (args.until_end or args.events) and not args.replay:
        raise ConfigError(["--until-end and --events belong to --replay: a live stream has no end"])
    args.until_end = args.until_end or args.events is not None
    config = configuration.load(args.overlay)
    unknown = sorted(set(args.venues) - set(VENUES))
    if unknown:
        raise ConfigError(
            [f"venue {name!r} is not known; known: {', '.join(VENUES)}" for name in unknown]
        )
    logs.configure_from(config.log, "up")
    return run_loop(lambda shutdown: _up(args, config, shutdown), grace_s=20.0)


async def _up(args: argparse.Namespace, config: Config, shutdown: Shutdown) -> int:
    with tempfile.TemporaryDirectory(prefix="tapecast-") as scratch:
        overlay = {
            f"TAPECAST__{key.replace('.', '__').upper()}": value
            for key, value in args.overlay.items()
        }
        environ = {"TAPECAST__FEEDER__SESSION_END_S": "1.0", **os.environ, **overlay}
        fleet = Fleet(environ, Path(config.feeder.state_dir) / "logs")
        run = asyncio.ensure_future(
            _replay(args, config, fleet, Path(scratch))
            if args.replay
            else _live(args, config, fleet)
        )
        stopped = asyncio.ensure_future(shutdown.wait())
        try:
            await asyncio.wait({run, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if run.done():
                return run.result()
        finally:
            stopped.cancel()
            run.cancel()
            await fleet.stop()
        return 0 if not args.until_end else 1


async def _live(args: argparse.Namespace, config: Config, fleet: Fleet) -> int:
    names = args.venues or [
        name for name in VENUES if name in config.venues and config.venues[name].enabled
    ]
    channel_keys(names, config.network)
    specs = [venue(name) for name in names]
    for spec in specs:
        check_universe(spec, config.venues[spec.name])
    for spec in with_keys(specs):
        name = spec.name
        await fleet.start(f"feed-{name}", ["feed", name], restart=True)
    return await _watch(args, fleet)


async def _watch(args: argparse.Namespace, fleet: Fleet) -> int:
    """Show the monitor for as long as the run lasts."""
    if not args.no_monitor:
        await fleet.start(
            "monitor",
            ["monitor", "udp", "--json" if args.json else "--plain"],
            restart=True,
            foreground=True,
        )
    await asyncio.Event().wait()
    return 0


async def _replay(args: argparse.Namespace, config: Config, fleet: Fleet, scratch: Path) -> int:
    groups = by_venue(_files(args.replay), args.venue)
    wanted = {
        name: paths
        for name, paths in groups.items()
        if name in VENUES and (not args.venues or name in args.venues)
    }
    if not wanted:
        raise ConfigError(
            [
                f"no recording of {', '.join(args.venues or VENUES)} in"
                f" {', '.join(map(str, args.replay))}"
            ]
        )
    channel_keys(wanted, config.network)
    known = {name: _ReplayPlan(name, paths, config) for name, paths in wanted.items()}
    empty = {name: replay for name, replay in known.items() if not replay.channels}
    problems = [
        f"{file}: {replay.nothing}" for name, replay in empty.items() for file in wanted[name]
    ]
    if len(empty) == len(known) or any(not replay.reduced for replay in empty.values()):
        raise ConfigError(problems)
    for problem in problems:
        sys.stderr.write(f"tapecast up: left out: {problem}\n")
    wanted = {name: paths for name, paths in wanted.items() if name not in empty}
    capture: Process | None = None
    tape = args.events and scratch / "received.tape"
    measured = args.until_end
    overlay = (
        {}
        if not measured
        else {f"TAPECAST__{key.upper()}": value for key, value in _QUIET_REPLAY.items()}
    )
    overlay.setdefault("TAPECAST__FEEDER__STATE_DIR", str(scratch / "state"))
    overlay.setdefault("TAPECAST__FEEDER__QUARANTINE_DIR", str(scratch / "quarantine"))
    if measured:
        arguments = ["--venues", ",".join(wanted), *(["--tape", str(tape)] if tape else [])]
        capture = await fleet.start("capture", arguments, module="tapecast.capture")
        await capture.expect("ready", 20.0)
    servers: dict[str, Process] = {}
    feeders: dict[str, Process] = {}
    for name, paths in wanted.items():
        replay = known[name]
        command = [
            "replay",
            "--json",
            "--venue",
            name,
            "--speed",
            args.speed,
            "--start-after",
            str(replay.connections),
        ]
        command += map(str, paths)
        servers[name] = await fleet.start(f"replay-{name}", command, restart=not measured)
        listening = await servers[name].expect("listening", 60.0)
        # A server that is started again must be where the feeder looks for it.
        command += ["--port", str(urlsplit(str(listening["ws"])).port)]
        environ = {**overlay, **replay.variables(listening)}
        feeders[name] = await fleet.start(
            f"feed-{name}",
            ["feed", name, "--replay", "--json"],
            environ=environ,
            restart=not measured,
        )
    if not measured:
        return await _watch(args, fleet)
    assert capture is not None
    await _until_the_end(servers.values(), fleet)
    reports = await asyncio.gather(*(feeder.finish() for feeder in feeders.values()))
    summary = await capture.finish(after_s=5.0)
    if args.events:
        write_events(tape, args.events)
    ends = {name: server.last("end") for name, server in servers.items()}
    return print_report(reports, summary, ends, as_json=args.json)


async def _until_the_end(servers: Iterable[Process], fleet: Fleet) -> None:
    """Wait until every server has played to its end. Raises TapecastError when a process died
    first.
    """
    over = asyncio.gather(*(server.expect("end", None) for server in servers))
    died = asyncio.ensure_future(fleet.died())
    first: set[asyncio.Future[Any]] = {over, died}
    try:
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if died.done():
            raise TapecastError(
                f"{died.result()} ended before the recording did; logs are in {fleet.logs}"
            )
        over.result()
    finally:
        died.cancel()
        over.cancel()
        # What a cancelled future holds has to be looked at, or the loop complains of it.
        await asyncio.gather(over, died, return_exceptions=True)


class _ReplayPlan:
    """The settings with which a feeder takes from a replay server what the recordings hold."""

    def __init__(self, name: str, paths: Sequence[Path], config: Config) -> None:
        spec = venue(name)
        found = universe(paths, spec)
        channels = list(
            dict.fromkeys(
                topic.channel for topic in found.topics if topic.channel in spec.stream.streams
            )
        )
        books = [
            channel for channel in channels if spec.stream.streams[channel].carries is MsgType.BOOK
        ]
        if name.startswith("binance"):
            # The server takes every speed of the diff stream for the same one: two would bring
            # each update twice.
            channels = [channel for channel in channels if channel not in books[1:]]
        self.reduced = found.reduced > 0
        self.nothing = (
            NOT_SERVED
            if self.reduced
            else f"no recorded stream of {', '.join(spec.stream.streams)}"
        )
        """Why there is nothing to play where `channels` is empty."""
        self._name = name
        self._symbols, self.channels = found.symbols, channels
        self._endpoints = config.venues[name].endpoints
        # Where a venue numbers all messages of a connection, a recording can only be played to
        # one.
        numbered = spec.stream.connection_number is not None
        self._per_connection = (
            max(1, len(found.symbols)) if numbered else config.symbols_per_connection(name)
        )
        sockets = int(config.venues[name].limits.get("sockets", 0))
        self.connections = len(
            plan(
                spec,
                found.symbols,
                channels,
                self._endpoints,
                self._per_connection,
                sockets=sockets,
            )
        )

    def variables(self, listening: Mapping[str, object]) -> dict[str, str]:
        """Return the environment of the feeder; `listening` holds the server's base URLs `ws`
        and `rest`.
        """
        prefix = f"TAPECAST__VENUES__{self._name.upper()}"
        out = {
            f"{prefix}__SYMBOLS": orjson.dumps(self._symbols).decode(),
            f"{prefix}__CHANNELS": orjson.dumps(self.channels).decode(),
            f"{prefix}__SYMBOLS_PER_CONNECTION": str(self._per_connection),
        }
        for key, url in self._endpoints.items():
            parts = urlsplit(url)
            base = listening["ws" if parts.scheme.startswith("ws") else "rest"]
            out[f"{prefix}__ENDPOINTS__{key.upper()}"] = f"{base}{parts.path}"
        return out


def _files(paths: Sequence[Path]) -> list[Path]:
    """Return recordings in order; a folder stands for those in it and in its sub-folders."""
    out: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = {file for pattern in _RECORDINGS for file in path.rglob(pattern)}
            known = [file for file in sorted(found) if _has_venue(file)]
            if not known:
                raise ConfigError(
                    [f"{path}: no recordings (*.jsonl, *.jsonl.gz) of {', '.join(VENUES)}"]
                )
            out += known
        elif path.exists():
            out.append(path)
        else:
            raise ConfigError([f"{path}: no such file or folder"])
    return out


def _has_venue(path: Path) -> bool:
    try:
        return next(iter(by_venue([path]))) in VENUES and not path.name.startswith("examples")
    except ValueError:
        sys.stderr.write(f"tapecast up: {path} left out: not a recording of a known venue\n")
        return False
