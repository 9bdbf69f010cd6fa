"""`tapecast replay FILE…`: serve recordings until told to stop; one server, so one port, for
each venue.

stdout carries the events as JSON lines where `--json` asks for them, stderr the narration. Exit
0 after SIGTERM or SIGINT, 1 where a recording cannot be served, 2 where a venue cannot be told
or an option is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import signal
import sys
from pathlib import Path

import msgspec

from tapecast.feeder.replay.events import Client, End, Listening, ReplayEvent
from tapecast.feeder.replay.server import ReplayServer
from tapecast.feeder.replay.timeline import TimelineError
from tapecast.feeder.replay.venues import DIALECTS, UnknownVenueError, by_venue

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `tapecast replay`."""
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="recordings (.jsonl, .jsonl.gz), in order",
    )
    parser.add_argument(
        "--venue",
        choices=sorted(DIALECTS),
        help="venue of the files (default: told by folder or file name)",
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        metavar="N|max",
        help="times the recorded pace (default 1)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        help="first port, one more for each further venue (default: any free)",
    )
    parser.add_argument(
        "--start-after",
        type=int,
        default=1,
        metavar="N",
        help="play when N connections have subscribed",
    )
    parser.add_argument(
        "--settle",
        type=float,
        default=0.5,
        metavar="S",
        help="and none has changed for S seconds (default 0.5)",
    )
    parser.add_argument(
        "--rest-wait",
        type=float,
        default=5.0,
        metavar="S",
        help="wait for a symbol's first snapshot request (default 5)",
    )
    parser.add_argument(
        "--loop", action="store_true", help="play again when a client subscribes after the end"
    )
    parser.add_argument(
        "--no-order",
        action="store_true",
        help="do not keep the order of one symbol's frames across connections (faster)",
    )
    parser.add_argument("--json", action="store_true", help="print events as JSON lines on stdout")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    try:
        groups = by_venue(args.files, args.venue)
    except UnknownVenueError as error:
        sys.stderr.write(f"tapecast replay: {error}\n")
        return 2
    try:
        asyncio.run(_serve(groups, args))
    except (TimelineError, OSError, ValueError) as error:
        sys.stderr.write(f"tapecast replay: {error}\n")
        return 1
    return 0


async def _serve(groups: dict[str, list[Path]], args: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    notify = _print_json if args.json else _narrate
    servers = [
        ReplayServer(
            paths,
            venue,
            speed=args.speed,
            host=args.host,
            port=args.port + position if args.port else 0,
            start_after=args.start_after,
            settle_s=args.settle,
            rest_wait_s=args.rest_wait,
            loop=args.loop,
            in_order=not args.no_order,
            on_event=notify,
        )
        for position, (venue, paths) in enumerate(groups.items())
    ]
    async with contextlib.AsyncExitStack() as stack:
        for server in servers:
            await server.start()
            _tell_what_is_left_out(server)
            stack.push_async_callback(server.close)
        failing = [asyncio.create_task(_fails(server)) for server in servers]
        stopping = asyncio.create_task(stop.wait())
        done, pending = await asyncio.wait(
            (stopping, *failing), return_when=asyncio.FIRST_COMPLETED
        )
        for task in pending:
            task.cancel()
        for task in done:
            task.result()


async def _fails(server: ReplayServer) -> None:
    """Raise what makes the playing fail; never return: a server that has played to the end goes
    on answering.
    """
    await server.wait_end()
    await asyncio.Event().wait()


def _tell_what_is_left_out(server: ReplayServer) -> None:
    timeline = server.timeline
    if timeline.left_out["unattributed"]:
        count = timeline.left_out["unattributed"]
        sys.stderr.write(
            f"{server.venue}: {count} REST snapshots whose symbol is unknown are not served\n"
        )
    for text in timeline.truncated:
        sys.stderr.write(f"{server.venue}: {text}\n")


def _speed(text: str) -> float:
    speed = math.inf if text == "max" else float(text)
    if not speed > 0:
        raise argparse.ArgumentTypeError(f"not a positive number or max: {text}")
    return speed


def _print_json(event: ReplayEvent) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
    sys.stdout.buffer.flush()


def _narrate(event: ReplayEvent) -> None:
    if isinstance(event, Listening):
        text = f"listening on {event.ws} and {event.rest}"
    elif isinstance(event, Client):
        text = f"client {event.path} {event.action}, {event.streams} recorded streams"
    elif isinstance(event, End):
        text = f"end: {event.frames_sent} frames in {event.seconds:.3f} s"
    else:
        text = repr(event)
    sys.stderr.write(f"{event.venue}: {text}\n")
