"""What a measured run came to: events rendered from the tape of received packets, and the report
with its exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from tapecast.consumers.feed.tape import read_tape
from tapecast.protocol.codec import walk
from tapecast.protocol.render import Renderer

__all__ = ["print_report", "report", "write_events"]

Summary = Mapping[str, Any]


def write_events(tape: Path, out: Path) -> int:
    """Write the events of a tape as JSON lines, as `tapecast decode` prints them; returns how
    many.
    """
    renderer = Renderer()
    count = 0
    with out.open("wb") as file:
        for chunk in read_tape(tape):
            lines = [
                orjson.dumps(event) + b"\n"
                for packet in walk(chunk)
                for event in renderer.feed(packet)
            ]
            file.write(b"".join(lines))
            count += len(lines)
    return count


def report(
    feeders: Sequence[Summary], received: Summary, ends: Mapping[str, Summary | None]
) -> dict[str, Any]:
    """Join what the feeders sent, what the consumer received and what the servers played."""
    sent = sum(int(feeder.get("packets", 0)) for feeder in feeders)
    upstream = sum(int(feeder.get("counts", {}).get("gaps", 0)) for feeder in feeders)
    served = sum(int(end["frames_sent"]) for end in ends.values() if end is not None)
    frames = sum(int(feeder.get("frames", 0)) for feeder in feeders)
    return {
        "frames_served": served,
        "frames": frames,
        "frames_lost": served - frames,
        "events": {
            kind: sum(int(feeder.get("events", {}).get(kind, 0)) for feeder in feeders)
            for kind in ("trade", "book", "bbo", "stat", "liquidation")
        },
        "packets_sent": sent,
        "packets_received": received.get("received", 0),
        "lost": (
            int(received.get("lost", 0))
            + max(0, sent - int(received.get("received", 0)) - int(received.get("lost", 0)))
        ),
        "repaired": received.get("repaired", 0),
        "requests": received.get("requests", 0),
        "repair_us": received.get("repair_us"),
        "lines": received.get("lines"),
        "send_dropped": sum(int(feeder.get("dropped", 0)) for feeder in feeders),
        "kernel_drops": received.get("kernel_drops", 0),
        "upstream_gaps": upstream,
        "quarantined": sum(
            int(feeder.get("counts", {}).get("quarantine", 0)) for feeder in feeders
        ),
        "latency_us": {"feeder": received.get("feeder_us"), "wire": received.get("wire_us")},
        "receiver": received.get("counts"),
        "seconds": max(
            (float(end["seconds"]) for end in ends.values() if end is not None), default=None
        ),
        "venues": {str(feeder.get("venue")): feeder for feeder in feeders},
        "gaps": received.get("gaps"),
    }


def print_report(
    feeders: Sequence[Summary],
    received: Summary,
    ends: Mapping[str, Summary | None],
    *,
    as_json: bool,
) -> int:
    """Print the report on stdout; return 0 only if every process ended well and nothing was lost
    on the way.
    """
    result = report(feeders, received, ends)
    failed = [str(feeder.get("venue")) for feeder in feeders if feeder.get("exit_code") != 0] + (
        ["capture"] if received.get("exit_code") != 0 else []
    )
    good = (
        not failed
        and result["lost"] == 0
        and result["frames_lost"] == 0
        and result["send_dropped"] == 0
    )
    result["ok"] = good
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(result) + b"\n")
        sys.stdout.buffer.flush()
    else:
        _print_text(result)
    if failed:
        sys.stderr.write(f"tapecast up: did not end well: {', '.join(failed)}\n")
    return 0 if good else 1


def _print_text(result: dict[str, Any]) -> None:
    events = ", ".join(f"{count} {kind}" for kind, count in result["events"].items() if count)
    lines = [
        f"frames    {result['frames']} of {result['frames_served']} served",
        f"events    {events or 'none'}",
        (
            f"packets   {result['packets_sent']} sent, {result['packets_received']} received,"
            f" {result['lost']} lost, {result['repaired']} repaired"
        ),
        f"upstream  {result['upstream_gaps']} gaps, {result['quarantined']} quarantined",
    ]
    for name, values in result["latency_us"].items():
        if values:
            lines.append(
                f"{name:<9} p50 {values['p50']} us, p99 {values['p99']} us, p99.9"
                f" {values['p999']} us"
            )
    repair = result["repair_us"]
    if repair and repair["p50"] is not None:
        lines.append(
            f"repair    {result['requests']} requests, p50 {repair['p50']} us, p99"
            f" {repair['p99']} us"
        )
    lines += [
        f"line      channel {line['channel']}, line {line['line']}: {line['received']} received,"
        f" {line['lost']} lost"
        for line in result["lines"] or ()
        if line["lost"]
    ]
    lines.append("nothing lost" if result["ok"] else "SOMETHING WAS LOST")
    sys.stdout.write("\n".join(lines) + "\n")
