"""`tapecast feed VENUE…`: live venues in, multicast packets out. One venue runs in this process, several in one process each."""

from __future__ import annotations

import argparse
import sys

import orjson

from feeder.live import LiveFeeder
from feeder.venues import VENUES, venue
from runtime import config as configuration
from runtime import logs
from runtime.errors import ConfigError
from runtime.loop import Shutdown
from runtime.loop import run as run_loop
from runtime.settings import Config

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("venue", choices=sorted(VENUES), help="the venue to feed")
    parser.add_argument(
        "--replay", action="store_true", help="mark every packet as coming from a recording, verify old checksums"
    )
    parser.add_argument("--json", action="store_true", help="print what was done as one JSON line at the end")


def run(args: argparse.Namespace) -> int:
    """Feed until SIGTERM or SIGINT; returns 0 after a clean end."""
    config = configuration.load(overlay=args.overlay)
    if args.venue not in config.venues:
        raise ConfigError([f"venues.{args.venue}: not configured"])
    logs.configure(config.log.level, config.log.format)
    return run_loop(lambda shutdown: _feed(args, config, shutdown))


async def _feed(args: argparse.Namespace, config: Config, shutdown: Shutdown) -> int:
    feeder = LiveFeeder(venue(args.venue), config, replay=args.replay)
    await feeder.run(shutdown)
    if args.json:
        sys.stdout.buffer.write(orjson.dumps(feeder.report()) + b"\n")
        sys.stdout.buffer.flush()
    return 0
