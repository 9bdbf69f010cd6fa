"""The process of one or several live feeders: `tapecast feed` and `tapecast record` both.

It makes of them the subject of a daemon (`runtime.service.daemon`), on the port of the first
venue, and prints their reports at the end. Which venues they are, the commands decide.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence

import orjson

from tapecast.feeder.live import LiveFeeder
from tapecast.feeder.metrics import FeederMetrics
from tapecast.feeder.venues.spec import VenueSpec
from tapecast.runtime import logs
from tapecast.runtime.errors import ExitCode
from tapecast.runtime.service import daemon
from tapecast.runtime.settings import Config

__all__ = ["run_feeders"]

log = logs.get("feeder.process")


class FeederSubject(FeederMetrics):
    """The feeders of one process, run together and shown together."""

    async def run(self, stop: asyncio.Event) -> None:
        """Run all of them until `stop` is set and each has drained."""
        await asyncio.gather(*(feeder.run(stop) for feeder in self.feeders))


def run_feeders(
    command: str,
    specs: Sequence[VenueSpec],
    config: Config,
    make: Callable[[VenueSpec], LiveFeeder],
    *,
    port_offset: int = 0,
    as_json: bool = False,
) -> int:
    """Run a feeder of each venue until the process is asked to end; return its exit code.

    `make` is called in the event loop, once a venue. `port_offset` is added to the endpoint's
    port, where `service.port_base` asks for one. `as_json`: print a report of each at the end.
    Raises what `runtime.service.daemon.run` raises.
    """
    feeders: list[LiveFeeder] = []

    def subject() -> FeederSubject:
        feeders.extend(make(spec) for spec in specs)
        for spec in specs:
            for notice in spec.notices(time.time_ns()):
                log.warning("venue_notice", venue=spec.name, notice=notice)
        return FeederSubject(feeders, config.service.no_data_s)

    base = config.service.port_base
    code = daemon.run(
        f"{command}-{'-'.join(spec.name for spec in specs)}",
        config,
        subject,
        port=base + port_offset + specs[0].venue_id if base else None,
        cpus=config.feeder.cpus,
        cpus_key="feeder.cpus",
        busy_poll=config.feeder.busy_poll,
    )
    if as_json and code == ExitCode.OK:
        lines = b"".join(orjson.dumps(feeder.report()) + b"\n" for feeder in feeders)
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()
    return code
