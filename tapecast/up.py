"""`tapecast up`: the whole fleet on this host. Feeders and consumers as processes of their own, supervised; the monitor in front.

Live by default. With `--replay` the feeders connect to servers that play recordings in the venues' own dialect, so nothing
leaves the host; with `--until-end` the run ends with the recordings and tells what was sent, received and lost. What a process
is given, it is given by configuration: the same feeder runs live and in replay.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from feeder.recording import universe
from feeder.replay.venues import by_venue
from feeder.venues import VENUES, venue
from protocol.schema import MsgType
from runtime import config as configuration
from runtime import logs
from runtime.errors import ConfigError, TapecastError
from runtime.loop import Shutdown
from runtime.loop import run as run_loop
from runtime.settings import Config
from tapecast.fleet import Fleet, Process
from tapecast.report import print_report, write_events

__all__ = ["add_arguments", "run"]

_RECORDINGS = ("*.jsonl", "*.jsonl.gz")
_QUIET_REPLAY = {
    "feeder__snapshot_cycle_s": "0",
    "feeder__quiet_wait_s": "1.0",
    "feeder__session_end_s": "0.5",
    "feeder__data_idle_reconnect_s": "86400",
    "feeder__stale_after_s": "86400",
}
"""A measured replay sends only what the recording holds: no cycle snapshots, no watchdogs on a stream that pauses."""

log = logs.get("tapecast.up")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("venues", nargs="*", metavar="VENUE", help="venues to run (default: those enabled in the configuration)")
    parser.add_argument("--replay", nargs="+", type=Path, metavar="FILE", help="recordings, or folders of them, not the venues")
    parser.add_argument("--venue", choices=sorted(VENUES), help="with --replay: venue of every file (default: told by the file)")
    parser.add_argument("--speed", default="1", metavar="N|max", help="with --replay: times the recorded pace (default 1)")
    parser.add_argument("--until-end", action="store_true", help="with --replay: stop when the recordings are over and report")
    parser.add_argument("--events", type=Path, metavar="FILE", help="write what was received, as `tapecast decode` prints it")
    parser.add_argument("--json", action="store_true", help="print the report, or the monitor's state, as JSON")
    parser.add_argument("--no-monitor", action="store_true", help="show nothing while running")


def run(args: argparse.Namespace) -> int:
    """Run the fleet; with --until-end exit 0 only if nothing was lost."""
    if (args.until_end or args.events) and not args.replay:
        raise ConfigError(["--until-end and --events belong to --replay: a live stream has no end"])
    config = configuration.load(args.overlay)
    unknown = sorted(set(args.venues) - set(VENUES))
    if unknown:
        raise ConfigError([f"venue {name!r} is not known; known: {', '.join(VENUES)}" for name in unknown])
    logs.configure(config.log.level, config.log.format)
    return run_loop(lambda shutdown: _up(args, config, shutdown), grace_s=20.0)


async def _up(args: argparse.Namespace, config: Config, shutdown: Shutdown) -> int:
    with tempfile.TemporaryDirectory(prefix="tapecast-") as scratch:
        overlay = {f"TAPECAST__{key.replace('.', '__').upper()}": value for key, value in args.overlay.items()}
        environ = {"TAPECAST__FEEDER__SESSION_END_S": "1.0", **os.environ, **overlay}
        fleet = Fleet(environ, Path(config.feeder.state_dir) / "logs")
        try:
            if args.replay:
                return await _replay(args, config, fleet, shutdown, Path(scratch))
            names = args.venues or [name for name in VENUES if name in config.venues and config.venues[name].enabled]
            for name in names:
                await fleet.start(f"feed-{name}", ["feed", name], restart=True)
            return await _watch(args, fleet, shutdown)
        finally:
            await fleet.stop()


async def _watch(args: argparse.Namespace, fleet: Fleet, shutdown: Shutdown) -> int:
    """Show the monitor until told to stop."""
    if not args.no_monitor:
        await fleet.start("monitor", ["monitor", "udp", "--json" if args.json else "--plain"], restart=True, foreground=True)
    await shutdown.wait()
    return 0


async def _replay(args: argparse.Namespace, config: Config, fleet: Fleet, shutdown: Shutdown, scratch: Path) -> int:
    groups = by_venue(_files(args.replay), args.venue)
    wanted = {name: paths for name, paths in groups.items() if name in VENUES and (not args.venues or name in args.venues)}
    if not wanted:
        raise ConfigError([f"no recording of {', '.join(args.venues or VENUES)} in {', '.join(map(str, args.replay))}"])
    known = {name: _Told(name, paths, config) for name, paths in wanted.items()}
    for name, told in known.items():
        if not told.channels:
            raise ConfigError([f"{file}: no recorded stream of {', '.join(venue(name).channels)}" for file in wanted[name]])
    capture: Process | None = None
    tape = args.events and scratch / "received.tape"
    measured = args.until_end
    overlay = {} if not measured else {f"TAPECAST__{key.upper()}": value for key, value in _QUIET_REPLAY.items()}
    overlay.setdefault("TAPECAST__FEEDER__STATE_DIR", str(scratch / "state"))
    overlay.setdefault("TAPECAST__FEEDER__QUARANTINE_DIR", str(scratch / "quarantine"))
    if measured:
        command = ["--venues", ",".join(wanted), *(["--tape", str(tape)] if tape else [])]
        capture = await fleet.start("capture", command, module="tapecast.capture")
        await capture.expect("ready", 20.0)
    servers: dict[str, Process] = {}
    feeders: dict[str, Process] = {}
    for name, paths in wanted.items():
        told = known[name]
        options = ["--json", "--venue", name, "--speed", args.speed, "--start-after", str(told.connections)]
        server = await fleet.start(f"replay-{name}", ["replay", *options, *map(str, paths)])
        listening = await server.expect("listening", 60.0)
        servers[name] = server
        feeders[name] = await fleet.start(
            f"feed-{name}", ["feed", name, "--replay", "--json"], environ={**overlay, **told.variables(listening)}
        )
    if not measured:
        return await _watch(args, fleet, shutdown)
    assert capture is not None
    ended = await _until(shutdown, [server.expect("end", None) for server in servers.values()], fleet)
    if not ended:
        return 1
    reports = [await feeder.finish() for feeder in feeders.values()]
    summary = await capture.finish(after_s=5.0)
    if args.events:
        write_events(tape, args.events)
    ends = {name: server.last("end") for name, server in servers.items()}
    return print_report(reports, summary, ends, as_json=args.json)


async def _until(shutdown: Shutdown, waits: Sequence[Coroutine[Any, Any, object]], fleet: Fleet) -> bool:
    """Wait for all of `waits`; False when the user stopped the run. Raises TapecastError when a process died first."""
    over = asyncio.gather(*waits)
    stopped = asyncio.ensure_future(shutdown.wait())
    died = asyncio.ensure_future(fleet.died())
    pending: set[asyncio.Future[Any]] = {over, stopped, died}
    await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    finished = {future for future in pending if future.done()}
    for future in pending - finished:
        future.cancel()
    if over in finished:
        over.result()
        return True
    if died in finished:
        raise TapecastError(f"{died.result()} ended before the recording did; see its log in {fleet.logs}")
    return False


class _Told:
    """What a feeder is told so that it takes from a replay server what the recordings hold."""

    def __init__(self, name: str, paths: Sequence[Path], config: Config) -> None:
        spec = venue(name)
        found = universe(paths, spec)
        channels = list(dict.fromkeys(topic.channel for topic in found.topics if topic.channel in spec.channels))
        books = [channel for channel in channels if spec.channels[channel].carries is MsgType.BOOK]
        if name.startswith("binance"):
            # The server takes every speed of the diff stream for the same one: two would bring each update twice.
            channels = [channel for channel in channels if channel not in books[1:]]
        self._name = name
        self._symbols, self.channels = found.symbols, channels
        self._endpoints = config.venues[name].endpoints
        self.connections = len(spec.subscribe(found.symbols, channels, 1))

    def variables(self, listening: Mapping[str, object]) -> dict[str, str]:
        """Return the environment of the feeder; `listening` holds the server's base URLs `ws` and `rest`."""
        prefix = f"TAPECAST__VENUES__{self._name.upper()}"
        out = {
            f"{prefix}__SYMBOLS": orjson.dumps(self._symbols).decode(),
            f"{prefix}__CHANNELS": orjson.dumps(self.channels).decode(),
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
                raise ConfigError([f"{path}: no recordings (*.jsonl, *.jsonl.gz) of {', '.join(VENUES)}"])
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
