"""`tapecast doctor`: will market data arrive on this host? Each check with what was measured
and, where need be, the fix.

The shell around `tapecast.doctor_facts` (looking) and `tapecast.doctor_checks` (judging). Exit
code 1 if any check failed; warnings alone give 0.
"""

from __future__ import annotations

import argparse
import sys

import orjson

from tapecast.doctor_checks import Finding, examine
from tapecast.doctor_facts import gather
from tapecast.protocol.schema import VENUES
from tapecast.runtime import config as configuration
from tapecast.runtime.errors import ConfigError, ExitCode

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "venues", nargs="*", metavar="VENUE", help="venues to look at (default: those enabled)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a check, one a line")
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.5,
        metavar="S",
        help="listen to the feeders for so long (default 2.5)",
    )


def run(args: argparse.Namespace) -> int:
    """Look, judge, print."""
    config = configuration.load(args.overlay)
    unknown = [name for name in args.venues if name not in VENUES]
    if unknown:
        raise ConfigError(
            [
                f"venue {name!r} is not registered; registered: {', '.join(VENUES)}"
                for name in unknown
            ]
        )
    venues = args.venues or [
        name for name in VENUES if name in config.venues and config.venues[name].enabled
    ]
    if not venues:
        raise ConfigError(["no venue is enabled: name one"])
    findings = list(examine(gather(config.network, venues, args.seconds), config.network, venues))
    for finding in findings:
        sys.stdout.buffer.write(
            (orjson.dumps(finding._asdict()) if args.json else _line(finding).encode()) + b"\n"
        )
    return ExitCode.RUNTIME if any(finding.level == "fail" for finding in findings) else ExitCode.OK


def _line(finding: Finding) -> str:
    line = f"{finding.level:<4}  {finding.check:<18}  {finding.value}"
    return line if finding.level == "ok" else f"{line}\n      {'':<18}  fix: {finding.fix}"
