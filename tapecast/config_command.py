"""`tapecast config show|validate|schema`: the effective configuration, its problems, its keys.

How the layers are joined is `runtime.config`, which keys exist is `runtime.settings`; this only
prints.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from tapecast.runtime import config
from tapecast.runtime.errors import ConfigError, ExitCode
from tapecast.runtime.settings import Config

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the three actions."""
    parser.add_argument("action", choices=("show", "validate", "schema"), help="what to do")
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="validate: check these files instead of the layers",
    )
    parser.add_argument(
        "--json", action="store_true", help="show: one JSON object, key to value and origin"
    )


def run(args: argparse.Namespace) -> int:
    """Print what was asked for; exit 2 with every problem where the configuration is wrong."""
    if args.files and args.action != "validate":
        raise ConfigError([f"config {args.action} takes no files"])
    if args.action == "schema":
        print(msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Config))).decode())
    elif args.action == "show":
        _show(config.load_layers(args.overlay), as_json=args.json)
    else:
        problems = config.check_files(args.files) if args.files else []
        if not args.files:
            problems = _impossible_universes(config.load(args.overlay))
        elif not problems:
            alone = (
                config.load(environ={"TAPECAST_CONFIG": str(path)}, system=path / "none")
                for path in args.files
            )
            problems = [problem for one in alone for problem in _impossible_universes(one)]
        if problems:
            raise ConfigError(problems)
        print("ok", file=sys.stderr)
    return ExitCode.OK


def _impossible_universes(checked: Config) -> list[str]:
    """Return what the venues' own specifications say against the configuration."""
    from tapecast.feeder.symbols.universe import (
        check_universe,
    )  # here, because only this action needs the feeder
    from tapecast.feeder.venues import VENUES, venue

    problems: list[str] = []
    for name in VENUES:
        try:
            check_universe(venue(name), checked.venues[name])
        except ConfigError as error:
            problems.extend(error.problems)
    return problems


def _show(loaded: config.Loaded, *, as_json: bool) -> None:
    if as_json:
        table = {
            key: {"value": value, "origin": loaded.origins[key]}
            for key, value in loaded.values.items()
        }
        print(msgspec.json.format(msgspec.json.encode(table)).decode())
        return
    lines = {
        key: f"{key} = {msgspec.json.encode(value).decode()}"
        for key, value in loaded.values.items()
    }
    width = min(max(map(len, lines.values())), 72)
    for key, line in lines.items():
        print(f"{line:<{width}}  # {loaded.origins[key]}")
