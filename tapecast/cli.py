"""The `tapecast` command: finds the sub-command, imports only that one, and turns failures into
messages and exit codes.

stdout is data, stderr is narration. Exit codes: 0 done, 1 runtime failure, 2 usage or
configuration, 75 try again, 130 interrupted, 141 the reader of stdout went away. What a
sub-command does stands in its own module, which offers `add_arguments(parser)` and `run(args) ->
int`; settings given with `--set` reach it as `args.overlay`, to be passed to
`runtime.config.load`.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple, NoReturn

from tapecast import __version__
from tapecast.runtime.errors import ConfigError, ExitCode, TapecastError

__all__ = ["COMMANDS", "Command", "main"]

_TRANSIENT = frozenset(
    {
        errno.EADDRINUSE,
        errno.EADDRNOTAVAIL,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EAGAIN,
        errno.ENOBUFS,
    }
)


class Command(NamedTuple):
    """One row of the registry."""

    module: str
    help: str
    examples: tuple[str, ...] = ()


COMMANDS: dict[str, Command] = {
    "up": Command(
        "tapecast.up",
        "run the whole fleet on this host: replay server where asked for, feeders, a printing"
        " consumer",
        ("tapecast up --replay recording.jsonl --events events.jsonl",),
    ),
    "feed": Command(
        "tapecast.feeder.command",
        "feed one venue: its streams in, multicast packets out",
        ("tapecast feed okx",),
    ),
    "dump": Command(
        "tapecast.dump",
        "print packets from the multicast groups, as text or JSON lines",
        ("tapecast dump okx --json | head",),
    ),
    "decode": Command(
        "tapecast.feeder.decode_command",
        "normalise a recording and print its events as JSON lines; no network",
        ("tapecast decode recording.jsonl --venue okx > events.jsonl",),
    ),
    "record": Command(
        "tapecast.feeder.record.command",
        "record what venues send, and publish nothing",
        ("tapecast record okx upbit",),
    ),
    "replay": Command(
        "tapecast.feeder.replay.command",
        "serve a recording in the venue's own dialect, over WebSocket and REST",
        ("tapecast replay recording.jsonl --speed 10",),
    ),
    "symbols": Command(
        "tapecast.feeder.symbols.command",
        "what the venues list: names, native and canonical, and their definitions",
        ("tapecast symbols refresh okx", "tapecast symbols resolve BTC-USDT"),
    ),
    "monitor": Command(
        "tapecast.monitors.command",
        "watch connections and message counts",
        ("tapecast monitor udp --plain",),
    ),
    "doctor": Command(
        "tapecast.doctor",
        "check this host's network for multicast and say the fix",
        ("tapecast doctor okx",),
    ),
    "config": Command(
        "tapecast.config_command",
        "show or check the effective configuration",
        ("tapecast config show --json", "tapecast config validate my.toml"),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:
        if debug:
            raise
        return _explain(error)


def _dispatch(arguments: list[str]) -> int:
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    module: ModuleType | None = None
    parser = _Parser(
        prog="tapecast",
        description=(
            "Exact, fast market data: exchange streams normalised once, multicast to any number of"
            " consumers."
        ),
        epilog=_examples([line for command in COMMANDS.values() for line in command.examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True
    )
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ".",
            epilog=_examples(command.examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == chosen:
            module = _load(name, command.module)
            module.add_arguments(sub)
            _common(sub)
    args = parser.parse_args(arguments)
    assert module is not None, "argparse accepts registered commands only"
    args.overlay = _overlay(args.set)
    code: int | None = module.run(args)
    return ExitCode.OK if code is None else code


def _load(name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"the command {name!r} is not available in this installation: {error}"
        ) from error


def _common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("common options")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one setting, for example network.ttl=1",
    )
    group.add_argument("--debug", action="store_true", help="show the traceback of a failure")


def _overlay(settings: Sequence[str]) -> dict[str, str]:
    broken = [
        setting for setting in settings if not setting.partition("=")[0] or "=" not in setting
    ]
    if broken:
        raise ConfigError([f"--set {setting}: expected KEY=VALUE" for setting in broken])
    return {
        key.strip(): value.strip()
        for key, _, value in (setting.partition("=") for setting in settings)
    }


def _examples(lines: Sequence[str]) -> str:
    return "\n".join(["examples:", *(f"  {line}" for line in lines)]) if lines else ""


def _explain(error: Exception) -> ExitCode:
    """Tell the user what went wrong and return the exit code that fits."""
    text, code = str(error) or type(error).__name__, ExitCode.RUNTIME
    if isinstance(error, TapecastError):
        code = error.exit_code
    elif isinstance(error, OSError):
        code = ExitCode.TRY_AGAIN if error.errno in _TRANSIENT else ExitCode.RUNTIME
    elif not isinstance(error, ImportError):
        text = f"internal error: {type(error).__name__}: {text} (--debug shows where)"
    for line in text.splitlines():
        sys.stderr.write(f"tapecast: {line}\n")
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(
            ExitCode.USAGE, f"{self.prog}: {message}\n{self.prog}: try '{self.prog} --help'\n"
        )


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help, default=argparse.SUPPRESS)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        sys.stdout.write(f"tapecast {__version__}\n")
        parser.exit(ExitCode.OK)
