"""`tapecast decode FILE… --venue V`: the normalised events of a recording as JSON lines on
stdout, without any network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import orjson

from tapecast.feeder.offline import Offline
from tapecast.feeder.session.session import Quarantined
from tapecast.feeder.venues import VENUES, venue
from tapecast.protocol.codec import walk
from tapecast.protocol.render import EventDict, Renderer

__all__ = ["add_arguments", "events", "run"]

_EXCERPT = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="recording (.jsonl, .jsonl.gz); several are one, in order",
    )
    parser.add_argument(
        "--venue", required=True, choices=sorted(VENUES), help="the venue that was recorded"
    )
    parser.add_argument(
        "--packets",
        type=Path,
        metavar="TAPE",
        help="also write the packets themselves, contiguous, to this file",
    )


def run(args: argparse.Namespace) -> int:
    """Print the events; what was counted goes to stderr."""
    offline = Offline(venue(args.venue), args.files)
    out = sys.stdout.buffer
    if args.packets is None:
        _print(offline, out, None)
    else:
        with args.packets.open("wb") as tape:
            _print(offline, out, tape)
    counts = dict(sorted(offline.session.counts.items()))
    sys.stderr.write(
        f"{offline.lines} lines, {offline.publisher.packets} packets,"
        f" {len(offline.session.instruments)} instruments"
        + "".join(f", {name} {value}" for name, value in counts.items())
        + "\n"
        + "".join(f"{text}\n" for text in offline.truncated)
    )
    return 0


def events(offline: Offline) -> Iterator[EventDict]:
    """Yield the events of a recording in its order, quarantined messages included."""
    renderer = Renderer(trade_texts=offline.trade_texts)
    for step in offline.run():
        for packet in walk(step.packets):
            yield from renderer.feed(packet)
        for message in step.quarantined:
            yield quarantine_event(offline.spec.name, message)


def quarantine_event(venue_name: str, message: Quarantined) -> EventDict:
    """Return the event of a message that was not understood."""
    return {
        "type": "quarantine",
        "venue": venue_name,
        "kind": None,
        "symbol": message.symbol,
        "instrument": None,
        "ts_exchange_ns": 0,
        "ts_recv_ns": message.ts_recv_ns or None,
        "flags": [],
        "reason": message.reason,
        "offset": message.offset,
        "excerpt": (
            message.data[max(0, message.offset - _EXCERPT // 2) :][:_EXCERPT].decode(
                "utf-8", "replace"
            )
        ),
    }


def _print(offline: Offline, out: BinaryIO, tape: BinaryIO | None) -> None:
    renderer = Renderer(trade_texts=offline.trade_texts)
    for step in offline.run():
        if tape is not None:
            tape.write(step.packets)
        lines = [event for packet in walk(step.packets) for event in renderer.feed(packet)]
        lines.extend(quarantine_event(offline.spec.name, message) for message in step.quarantined)
        out.write(b"".join([orjson.dumps(line) + b"\n" for line in lines]))
    out.flush()
