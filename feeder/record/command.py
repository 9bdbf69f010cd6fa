"""`tapecast record [VENUE…]`: what venues send, recorded; nothing is published.

It connects, subscribes, fetches and synchronises exactly as `feed` does, because only that makes
a recording worth having, but no packet leaves it and no session is begun: it may run beside a
feeder of the same venue. To record what a feeder gets, without a second set of connections,
there is `feed --record`.
"""

from __future__ import annotations

import argparse

from msgspec.structs import replace

from tapecast.feeder.command import chosen
from tapecast.feeder.live import LiveFeeder
from tapecast.feeder.login.access import Access
from tapecast.feeder.login.client import client_of
from tapecast.feeder.process import run_feeders
from tapecast.feeder.record.recorder import Recorder
from tapecast.feeder.venues import VENUES
from tapecast.feeder.venues.spec import VenueSpec
from tapecast.runtime import config as configuration

__all__ = ["add_arguments", "run"]

_PORT_OFFSET = 100
"""So that a recorder and a feeder of one venue have a port of their own each
(`service.port_base`).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "venues", nargs="*", metavar="VENUE", help=f"{', '.join(VENUES)} (default: those enabled)"
    )
    parser.add_argument(
        "--dir", metavar="FOLDER", help="folder of the recordings (default: record.dir)"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print what was done as one JSON line a venue at the end",
    )


def run(args: argparse.Namespace) -> int:
    """Record until SIGTERM or SIGINT; returns 0 after a clean end."""
    overlay = args.overlay if args.dir is None else {**args.overlay, "record.dir": args.dir}
    config = configuration.load(overlay=overlay)
    specs = chosen(args.venues, config)
    # A feeder of the same venue may be writing the quarantine file, and its processors are its
    # own; there is no session whose end had to be announced.
    own = replace(
        config.feeder,
        quarantine_dir=f"{config.feeder.quarantine_dir}/record",
        session_end_s=0.0,
        cpus=[],
        busy_poll=False,
    )
    config = replace(config, feeder=own)

    def recorder(spec: VenueSpec) -> LiveFeeder:
        return LiveFeeder(
            spec,
            config,
            recorder=Recorder(spec.name, config.record),
            publish=False,
            access=Access(client_of(spec, config)),
        )

    return run_feeders(
        "record", specs, config, recorder, port_offset=_PORT_OFFSET, as_json=args.json
    )
