"""`tapecast feed [VENUE…]`: live venues in, multicast packets out.

Several venues share this process and its event loop; `tapecast up` and the service manager give
each its own process instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tapecast.feeder.live import LiveFeeder
from tapecast.feeder.login.access import Access
from tapecast.feeder.login.client import client_of, with_keys
from tapecast.feeder.process import run_feeders
from tapecast.feeder.record.recorder import Recorder
from tapecast.feeder.symbols.universe import check_universe
from tapecast.feeder.venues import VENUES, venue
from tapecast.feeder.venues.spec import VenueSpec
from tapecast.runtime import config as configuration
from tapecast.runtime.errors import ConfigError
from tapecast.runtime.settings import Config

__all__ = ["add_arguments", "chosen", "run"]


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
    recording = args.record or (config.record.enabled and not args.replay)

    def feeder(spec: VenueSpec) -> LiveFeeder:
        return LiveFeeder(
            spec,
            config,
            replay=args.replay,
            recorder=Recorder(spec.name, config.record) if recording else None,
            access=Access(client_of(spec, config, replay=args.replay)),
        )

    return run_feeders("feed", specs, config, feeder, as_json=args.json)


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
        check_universe(spec, config.venues[spec.name], replay=replay)
    return specs if replay else with_keys(specs)
