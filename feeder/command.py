"""`tapecast feed [VENUE…]`: live venues in, multicast packets out.

Several venues share this process and its event loop; `tapecast up` and the service manager give each its own process instead.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import orjson

from feeder.access import Access
from feeder.live import LiveFeeder
from feeder.login import client_of, with_keys
from feeder.venue import VenueSpec
from feeder.venues import VENUES, venue
from runtime import config as configuration
from runtime import logs
from runtime.errors import ConfigError
from runtime.loop import Shutdown, pin
from runtime.loop import run as run_loop
from runtime.settings import Config

__all__ = ["add_arguments", "run"]

log = logs.get("feeder.command")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("venues", nargs="*", metavar="VENUE", help=f"{', '.join(VENUES)} (default: those enabled)")
    parser.add_argument("--replay", action="store_true", help="packets are marked as from a recording, old checksums verified")
    parser.add_argument("--json", action="store_true", help="print what was done as one JSON line a venue at the end")


def run(args: argparse.Namespace) -> int:
    """Feed until SIGTERM or SIGINT; returns 0 after a clean end."""
    config = configuration.load(overlay=args.overlay)
    names = args.venues or [name for name in VENUES if name in config.venues and config.venues[name].enabled]
    unknown = [name for name in names if name not in VENUES or name not in config.venues]
    if unknown or not names:
        raise ConfigError(
            [f"venue {name!r} is not known; known: {', '.join(VENUES)}" for name in unknown] or ["no venue is enabled"]
        )
    logs.configure(config.log.level, config.log.format)
    specs = [venue(name) for name in dict.fromkeys(names)]
    if not args.replay:
        specs = with_keys(specs)
    for spec in specs:
        for notice in spec.notices(time.time_ns()):
            log.warning("venue", venue=spec.name, notice=notice)
    pin(config.feeder.cpus, "feeder.cpus")
    return run_loop(lambda shutdown: _feed(specs, args, config, shutdown), busy_poll=config.feeder.busy_poll)


async def _feed(specs: list[VenueSpec], args: argparse.Namespace, config: Config, shutdown: Shutdown) -> int:
    feeders = [
        LiveFeeder(spec, config, replay=args.replay, access=Access(client_of(spec, config, replay=args.replay))) for spec in specs
    ]
    await asyncio.gather(*(feeder.run(shutdown) for feeder in feeders))
    if args.json:
        sys.stdout.buffer.write(b"".join(orjson.dumps(feeder.report()) + b"\n" for feeder in feeders))
        sys.stdout.buffer.flush()
    return 0
