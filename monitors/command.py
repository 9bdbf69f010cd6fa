"""`tapecast monitor udp`: listens to the text lines of the monitoring group and shows, once a
second, what they report.

The shell around `monitors.model` and `monitors.plain`: it owns the socket, the clock and the
terminal. On a terminal the table is redrawn in place; in a pipe one block (or one JSON line)
follows the other. It receives only, so any number may run.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import BinaryIO, Final

from tapecast.monitors import model
from tapecast.monitors.plain import json_line, table
from tapecast.protocol.net.io import Receiver
from tapecast.runtime import config as configuration

__all__ = ["add_arguments", "run"]

_INTERVAL_S: Final = 1.0
_RCVBUF: Final = 1 << 20
_HOME_AND_CLEAR: Final = b"\x1b[H\x1b[J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("what", choices=["udp"], help="udp: the text lines of the monitoring group")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--plain", action="store_true", help="a table as text (the default)")
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after S seconds")
    parser.add_argument(
        "--once", action="store_true", help="listen for --seconds (default 2), print once, end"
    )


def run(args: argparse.Namespace) -> int:
    """Listen and print until the time is over or Ctrl-C."""
    network = configuration.load(args.overlay).network
    groups = [
        (network.monitor_group, network.port_crypto),
        (network.monitor_group, network.port_stock),
    ]
    receiver = Receiver(groups, interface=network.interface, rcvbuf=_RCVBUF, gro=False, slots=64)
    limit_s = args.seconds if args.seconds is not None else (2.0 if args.once else None)
    try:
        watch(
            receiver,
            sys.stdout.buffer,
            json=args.json,
            in_place=sys.stdout.isatty(),
            seconds=limit_s,
            once=args.once,
        )
    finally:
        receiver.close()
    return 0


def watch(
    receiver: Receiver,
    out: BinaryIO,
    *,
    json: bool,
    in_place: bool,
    seconds: float | None,
    once: bool,
) -> None:
    """Print the view every second, or `once` at the end, until `seconds` are over."""
    now_ns = time.monotonic_ns()
    state = model.initial(now_ns)
    end_ns = None if seconds is None else now_ns + int(seconds * 1e9)
    next_ns = now_ns + int(_INTERVAL_S * 1e9)
    while end_ns is None or now_ns < end_ns:
        wake_ns = next_ns if end_ns is None else min(next_ns, end_ns)
        count = receiver.receive(max(0.0, (wake_ns - now_ns) / 1e9))
        now_ns = time.monotonic_ns()
        for index in range(count):
            state = model.reduce(state, bytes(receiver.packet(index)), now_ns)
        if now_ns >= next_ns:
            next_ns += int(_INTERVAL_S * 1e9)
            if not once:
                _show(out, model.view(state, now_ns), json=json, in_place=in_place)
    if once:
        _show(out, model.view(state, now_ns), json=json, in_place=False)


def _show(out: BinaryIO, view: model.View, *, json: bool, in_place: bool) -> None:
    if json:
        out.write(json_line(view) + b"\n")
    else:
        out.write(
            (_HOME_AND_CLEAR if in_place else b"")
            + table(view).encode()
            + b"\n"
            + (b"" if in_place else b"\n")
        )
    out.flush()
