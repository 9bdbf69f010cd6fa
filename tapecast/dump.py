"""`tapecast dump`: what is on the groups, or on a tape, as aligned text or JSON lines on stdout,
one event a line.

JSON lines are those of `protocol.render`, as `decode` prints them; `--raw-packets` adds what is
no event (heartbeats, session marks, cycle snapshots, repeated definitions). Packets lost on the
way are a line too: type `gap`, reason `loss`, `expected` the first missing number and `got` the
one after the last. Keeps no books; starts without the feed's machinery.
"""

from __future__ import annotations

import argparse
import struct
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson

from tapecast.consumers.feed.source import Chunks, Multicast, PacketSource
from tapecast.consumers.feed.tape import read_tape
from tapecast.protocol.codec import WireError
from tapecast.protocol.fields import OFFSET
from tapecast.protocol.net.sequencing import SPAN_HELD, BatchSequencer, EventKind
from tapecast.protocol.net.sequencing import SequencingEvent as Change
from tapecast.protocol.render import EventDict, Renderer
from tapecast.protocol.schema import VENUES
from tapecast.runtime import config as configuration
from tapecast.runtime.channels import channel_name, lines_of, venue_of
from tapecast.runtime.errors import ConfigError
from tapecast.runtime.keys import Admission

__all__ = ["add_arguments", "run", "text_line"]

_WAIT_S: Final = 0.1
_WINDOW_S: Final = 0.005
_SHOWN: Final = 3
_VENUE: Final = struct.Struct("<H")
_VENUE_AT: Final = OFFSET["venue_id"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "venues",
        nargs="*",
        metavar="VENUE",
        help="venues to listen to (default: all that are registered)",
    )
    parser.add_argument("--json", action="store_true", help="JSON lines instead of text")
    parser.add_argument(
        "--raw-packets",
        action="store_true",
        help="also heartbeats, session marks, cycle snapshots, definitions",
    )
    parser.add_argument(
        "--file", type=Path, metavar="TAPE", help="print a tape instead of the network"
    )
    parser.add_argument("--count", type=int, metavar="N", help="end after N lines")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after S seconds")


def run(args: argparse.Namespace) -> int:
    """Print until the end of the tape, the limits that were given, or Ctrl-C."""
    unknown = [name for name in args.venues if name not in VENUES]
    if unknown:
        raise ConfigError(
            [
                f"venue {name!r} is not registered; registered: {', '.join(VENUES)}"
                for name in unknown
            ]
        )
    deadline = None if args.seconds is None else time.monotonic() + args.seconds
    left = args.count
    out = sys.stdout.buffer
    source = _source(args)
    venues = frozenset(VENUES[name] for name in args.venues)
    tally: dict[str, int] = {}
    try:
        for events in read(source, venues, raw=args.raw_packets, deadline=deadline, tally=tally):
            events = events if left is None else events[:left]
            out.write(
                b"".join(
                    [
                        (orjson.dumps(event) if args.json else text_line(event).encode()) + b"\n"
                        for event in events
                    ]
                )
            )
            out.flush()
            if left is not None:
                left -= len(events)
                if left <= 0:
                    break
    finally:
        source.close()
    if args.file is None:
        _report(tally, source.kernel_drops)
    return 0


def _report(tally: dict[str, int], kernel_drops: int) -> None:
    """Write to stderr what did not come as it should, if anything."""
    counts = {
        "lost": tally.get("missing", 0),
        "dropped by the kernel": kernel_drops,
        "doubled": tally.get("duplicate", 0),
        "out of order": tally.get("held", 0),
        "of an old session": tally.get("old_session", 0),
    }
    text = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    if text:
        sys.stderr.write(f"tapecast: of {tally.get('received', 0)} packets {text}\n")


def read(
    source: PacketSource,
    venue_ids: frozenset[int] = frozenset(),
    *,
    raw: bool = False,
    deadline: float | None = None,
    tally: dict[str, int] | None = None,
) -> Iterator[list[EventDict]]:
    """Yield the events of each read of a source, those of `venue_ids` (all where it is empty),
    until its end or the deadline.

    `tally` is kept up to date with the sequencer's counts.
    """
    sequencer = source.sequencer(max_channels=32)
    renderer = Renderer(raw=raw)
    ended = False
    while not ended and (deadline is None or time.monotonic() < deadline):
        if source.ended:
            ended = True
            count = sequencer.timer(source.now_ns() + int(2 * _WINDOW_S * 1e9))
        else:
            wait_s = _WAIT_S if sequencer.next_deadline is None else _WINDOW_S
            if deadline is not None:
                wait_s = max(0.0, min(wait_s, deadline - time.monotonic()))
            count = source.read(sequencer, wait_s)
        changes = sequencer.events
        if tally is not None and (count or changes):
            tally.update(sequencer.counts())
        if count or changes:
            yield list(_events(source, sequencer, count, changes, renderer, venue_ids))


def text_line(event: EventDict) -> str:
    """Return an event as one line: receive time (UTC), venue, kind, symbol, type, and what it
    says.
    """
    at = event["ts_recv_ns"]
    clock = (
        datetime.fromtimestamp(at // 1000 / 1e6, UTC).strftime("%H:%M:%S.%f")
        if isinstance(at, int)
        else "-"
    )
    flags = event["flags"]
    names = [_text(event.get(name)) for name in ("venue", "kind", "symbol", "type")]
    head = f"{clock:<15} {names[0]:<15} {names[1]:<9} {names[2]:<18} {names[3]:<11}"
    tail = f" [{','.join(map(str, flags))}]" if isinstance(flags, list) and flags else ""
    line = f"{head} {_details(event)}{tail}"
    return "".join(c if c.isprintable() else "?" for c in line).rstrip()


def _source(args: argparse.Namespace) -> PacketSource:
    if args.file is not None:
        return Chunks(read_tape(args.file))
    config = configuration.load(args.overlay)
    network, replicas = config.network, range(config.consumer.feeders)
    lines = [
        line
        for name in args.venues or VENUES
        for n in replicas
        for line in lines_of(name, network, n)
    ]
    admission = Admission(args.venues or None, network)
    return Multicast(
        lines, interface=network.interface, rcvbuf=network.rcvbuf_bytes, admission=admission
    )


def _events(
    source: PacketSource,
    sequencer: BatchSequencer,
    count: int,
    changes: list[Change],
    renderer: Renderer,
    venue_ids: frozenset[int],
) -> Iterator[EventDict]:
    pending = [change for change in changes if change.kind in (EventKind.GAP, EventKind.JUMP)]
    for index, span in enumerate(sequencer.deliveries[:count].tolist()):
        while pending and pending[0].position <= index:
            yield from _lost(pending.pop(0), venue_ids)
        offset, size, _, flags, *_ = span
        data = (sequencer.held if flags & SPAN_HELD else source.buffer).data
        packet = data[offset : offset + size]
        if venue_ids and _VENUE.unpack_from(packet, _VENUE_AT)[0] not in venue_ids:
            continue
        try:
            yield from renderer.feed(packet)
        except WireError as error:
            sys.stderr.write(f"tapecast: packet passed over: {error}\n")
    for change in pending:
        yield from _lost(change, venue_ids)


def _lost(change: Change, venue_ids: frozenset[int]) -> Iterator[EventDict]:
    venue = venue_of(change.channel_id)
    if venue_ids and venue not in venue_ids:
        return
    yield {
        "type": "gap",
        "venue": channel_name(change.channel_id),
        "kind": None,
        "symbol": None,
        "instrument": None,
        "ts_exchange_ns": 0,
        "ts_recv_ns": None,
        "flags": [],
        "expected": change.first,
        "got": change.first + change.count,
        "reason": "loss",
    }


def _details(event: EventDict) -> str:
    kind = event["type"]
    if kind in ("trade", "liquidation"):
        return (
            f"{_text(event['side']):<4} {event['price']} x {event['quantity']}  id"
            f" {event['trade_id']}"
        )
    if kind == "book":
        what = "snapshot" if event["snapshot"] else "delta"
        return f"{what:<8} bids {_levels(event['bids'])}  asks {_levels(event['asks'])}"
    if kind == "bbo":
        return f"{_level(event['bid'])} / {_level(event['ask'])}"
    if kind == "gap":
        return f"{event['reason']}: expected {event['expected']}, got {event['got']}"
    return " ".join(f"{name}={_text(value)}" for name, value in event.items() if name not in _HEAD)


_HEAD: Final = frozenset(
    {"type", "venue", "kind", "symbol", "instrument", "ts_exchange_ns", "ts_recv_ns", "flags"}
)


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _level(value: object) -> str:
    return f"{value[0]}x{value[1]}" if isinstance(value, list) else "-"


def _levels(value: object) -> str:
    if not isinstance(value, list) or not value:
        return "-"
    more = f" +{len(value) - _SHOWN}" if len(value) > _SHOWN else ""
    return " ".join(_level(level) for level in value[:_SHOWN]) + more
