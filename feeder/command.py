"""`tapecast feed [VENUE…]`: live venues in, multicast packets out.

Several venues share this process and its event loop; `tapecast up` and the service manager give
each its own process instead.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

import orjson

from tapecast.feeder.live import LiveFeeder
from tapecast.feeder.login.access import Access
from tapecast.feeder.login.client import client_of, with_keys
from tapecast.feeder.record.recorder import Recorder
from tapecast.feeder.symbols.universe import check_universe
from tapecast.feeder.venues import VENUES, venue
from tapecast.feeder.venues.spec import VenueSpec
from tapecast.runtime import config as configuration
from tapecast.runtime import logs
from tapecast.runtime.errors import ConfigError
from tapecast.runtime.service.loop import Shutdown, pin
from tapecast.runtime.service.loop import run as run_loop
from tapecast.runtime.service.service import Service
from tapecast.runtime.settings import Config

__all__ = ["add_arguments", "chosen", "run", "run_feeders"]

log = logs.get("feeder.command")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "venues", nargs="*", metavar="VENUE", help=f"{', '.join(VENUES)} (default: those enabled)"
    )
    parser.add_argument(
        "--replay",
        action="store_true",
        help="packets are marked as from a recording, old checksums verified",
    )
    parser.add_argument(
        "--replica",
        type=int,
        choices=(0, 1),
        help="1 = as the venues' second feeder, on channels of its own",
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="record what comes in, as record.enabled does; also a replay",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print what was done as one JSON line a venue at the end",
    )


def run(args: argparse.Namespace) -> int:
    """Feed until SIGTERM or SIGINT; returns 0 after a clean end."""
    replica = {} if args.replica is None else {"feeder.replica": str(args.replica)}
    config = configuration.load(overlay={**args.overlay, **replica})
    specs = chosen(args.venues, config, replay=args.replay)
    logs.configure_from(config.log, f"feed-{'-'.join(spec.name for spec in specs)}")
    pin(config.feeder.cpus, "feeder.cpus")
    return run_loop(
        lambda shutdown: _feed(specs, args, config, shutdown), busy_poll=config.feeder.busy_poll
    )


def chosen(names: Sequence[str], config: Config, *, replay: bool = False) -> list[VenueSpec]:
    """Return the venues to run, the enabled ones where none is named, without those whose keys
    are missing unless in a replay.

    Raises ConfigError for one that is not known, and where none is left.
    """
    wanted = list(
        dict.fromkeys(
            names
            or [name for name in VENUES if name in config.venues and config.venues[name].enabled]
        )
    )
    unknown = [name for name in wanted if name not in VENUES or name not in config.venues]
    if unknown or not wanted:
        raise ConfigError(
            [f"venue {name!r} is not known; known: {', '.join(VENUES)}" for name in unknown]
            or ["no venue is enabled"]
        )
    specs = [venue(name) for name in wanted]
    for spec in specs:
        check_universe(spec, config.venues[spec.name])
    return specs if replay else with_keys(specs)


async def run_feeders(
    feeders: Sequence[LiveFeeder],
    config: Config,
    shutdown: Shutdown,
    *,
    port_offset: int = 0,
    as_json: bool = False,
) -> None:
    """Run feeders, and beside them the service that shows them, until the process is asked to
    end; then print their reports.
    """
    for feeder in feeders:
        for notice in venue(feeder.name).notices(time.time_ns()):
            log.warning("venue_notice", venue=feeder.name, notice=notice)
    settings = config.service
    port = (
        settings.port_base + port_offset + venue(feeders[0].name).venue_id
        if settings.port_base
        else None
    )
    from tapecast.feeder.metrics import (
        FeederMetrics,
    )  # here: it brings the metrics library, which start-up does not need to wait for

    async with Service(settings, FeederMetrics(feeders, settings.no_data_s), shutdown, port=port):
        await asyncio.gather(*(feeder.run(shutdown) for feeder in feeders))
    if as_json:
        sys.stdout.buffer.write(
            b"".join(orjson.dumps(feeder.report()) + b"\n" for feeder in feeders)
        )
        sys.stdout.buffer.flush()


async def _feed(
    specs: Sequence[VenueSpec], args: argparse.Namespace, config: Config, shutdown: Shutdown
) -> int:
    recording = args.record or (config.record.enabled and not args.replay)
    feeders = [
        LiveFeeder(
            spec,
            config,
            replay=args.replay,
            recorder=Recorder(spec.name, config.record) if recording else None,
            access=Access(client_of(spec, config, replay=args.replay)),
        )
        for spec in specs
    ]
    await run_feeders(feeders, config, shutdown, as_json=args.json)
    return 0
