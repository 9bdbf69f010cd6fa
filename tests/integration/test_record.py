"""A venue → `tapecast record` → `decode`, `replay`, `up --replay`: what was recorded is what was
sent, byte for byte.

The venue is a replay server; each run has groups and ports of its own, and nothing leaves the
host.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tapecast.feeder.record.recording import Line, read
from tapecast.feeder.venues import venue
from tapecast.report import write_events
from tapecast.runtime import config as configuration
from tapecast.up import _ReplayPlan
from tests.integration.test_whole_run import (
    assert_equal,
    assert_nothing_lost,
    decoded,
    measured_run,
)
from tests.support.captures import captures
from tests.support.event_lines import read_events
from tests.support.processes import Child, Net, free_port, until

Start = Callable[..., Child]
Event = dict[str, Any]


def served(
    start: Start, venue: str, file: Path, *, speed: str = "max", **options: str
) -> tuple[Child, dict[str, str]]:
    """Serve a recording; return the server, and the settings that lead `record` or `feed` to it
    and no further.
    """
    one = {
        "feeder.symbols_per_connection": "10000"
    }  # one connection where the venue permits it: so there is one order
    plan = _ReplayPlan(venue, [file], configuration.load(one, environ={}))
    words = [
        word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)
    ]
    server = start(
        "replay",
        "--json",
        "--venue",
        venue,
        "--speed",
        speed,
        "--start-after",
        str(plan.connections),
        *words,
        file,
        name="replay",
    )
    variables = plan.variables(server.expect("listening"))
    settings = {
        key.removeprefix("TAPECAST__").lower().replace("__", "."): value
        for key, value in variables.items()
    }
    return server, {**one, **settings, "record.min_free_mb": "0", "feeder.session_end_s": "0"}


def recorded_files(folder: Path, venue: str) -> list[Path]:
    """Return the files of a recording in their order."""
    return sorted((folder / "recordings" / venue).iterdir())


def heard(files: list[Path]) -> list[tuple[bytes, bool]]:
    """Return the messages of a recording with their opcodes."""
    return [(line.raw, line.binary) for line in read(files) if line.kind == "recv"]


def stream_of(events: Path) -> list[Event]:
    """Return trades and books in their order, receive times included; the trades' original ids
    are known to `decode` alone.
    """
    stream = [event for event in read_events(events) if event["type"] in ("trade", "book")]
    for event in stream:
        event.pop("trade_id_text", None)
    return stream


@pytest.mark.parametrize(
    ("venue", "name"),
    [
        ("binance_futures", "binance_futures/cf_20210722_usdm.jsonl"),
        ("bybit", "bybit/cf_20260809_v5_linear_spot.p1.jsonl"),
    ],
)
def test_a_recording_of_a_recording_holds_the_same(
    venue: str, name: str, start: Start, tmp_path: Path
) -> None:
    """Recorded from its server, decoded: the same events; decoded again: the same bytes; run
    whole: the same events again.
    """
    original = captures() / name
    decoding = start("decode", "--venue", venue, original)
    server, settings = served(start, venue, original)
    recorder = start("record", venue, "--json", settings=settings)
    server.expect("end", 60.0)
    recorder.send(signal.SIGTERM)
    assert recorder.wait() == 0, recorder.stderr()
    (report,) = recorder.lines()
    server.end()
    files = recorded_files(tmp_path, venue)
    kinds = Counter(line.kind for line in read(files))
    assert kinds["recv"] >= server.lines("end")[-1]["frames_sent"]
    assert kinds["send"] >= 1 or venue.startswith("binance")
    assert report["record_dropped"] == 0

    printed = decoded(start("decode", "--venue", venue, *files))
    assert_equal(printed, decoded(decoding), leave_out=("status",))
    again = decoded(start("decode", "--venue", venue, *files))
    assert again.read_bytes() == printed.read_bytes()
    code, whole, events = measured_run(start, tmp_path, tmp_path / "recordings")
    assert_nothing_lost(whole)
    assert list(whole["venues"]) == [venue]  # type: ignore[call-overload]
    assert_equal(events, printed, leave_out=("status",))
    assert code == 0


def test_a_feeder_that_records_publishes_what_its_recording_decodes_to(
    start: Start, tmp_path: Path
) -> None:
    """Consumers and `decode` see the same trades and books, with the same receive times; a
    replay is recorded on request only.
    """
    file = captures() / "upbit/cf_20210405_simple.jsonl"
    tape, events = tmp_path / "received.tape", tmp_path / "events.jsonl"
    capture = start("--venues", "upbit", "--tape", tape, module="tapecast.capture", name="capture")
    capture.expect("ready")
    server, settings = served(start, "upbit", file)
    settings |= {
        "record.enabled": "true",
        "feeder.session_end_s": "0.2",
        "feeder.snapshot_cycle_s": "0",
    }
    feeder = start("feed", "upbit", "--replay", "--record", settings=settings)
    server.expect("end", 60.0)
    assert feeder.end() == 0, feeder.stderr()
    assert capture.wait() == 0
    write_events(tape, events)
    files = recorded_files(tmp_path, "upbit")
    ours = stream_of(events)
    assert len(ours) > 1700
    assert ours == stream_of(decoded(start("decode", "--venue", "upbit", *files)))
    assert heard(files) == heard([file])
    server.end()

    server, settings = served(start, "upbit", file)
    feeder = start("feed", "upbit", "--replay", settings={**settings, "record.enabled": "true"})
    server.expect("end", 60.0)
    assert feeder.end() == 0
    assert recorded_files(tmp_path, "upbit") == files


def test_a_killed_recorder_loses_a_second_at_most(start: Start, tmp_path: Path) -> None:
    """SIGKILL in the middle: the file is readable to its end, which lies within a second of what
    the venue had sent.
    """
    file = captures() / "upbit/cf_20210405_simple.jsonl"
    server, settings = served(start, "upbit", file, speed="20")
    recorder = start("record", "upbit", settings={**settings, "record.flush_s": "0.2"})

    def lines() -> list[Line]:
        files = (
            recorded_files(tmp_path, "upbit")
            if (tmp_path / "recordings" / "upbit").exists()
            else []
        )
        return [line for line in read(files) if line.kind == "recv"]

    until(lambda: len(lines()) > 300)
    os.kill(recorder.pid, signal.SIGKILL)
    recorder.wait()
    truncated: list[str] = []
    kept = [
        line
        for line in read(recorded_files(tmp_path, "upbit"), truncated=truncated)
        if line.kind == "recv"
    ]
    assert truncated == []
    sent = heard([file])
    assert [(line.raw, line.binary) for line in kept] == sent[: len(kept)]
    server.end()

    # Its successor begins anew in a file of its own; together they are one recording, in which
    # no book outlives the kill.
    server, settings = served(start, "upbit", file)
    recorder = start("record", "upbit", settings=settings)
    server.expect("end", 60.0)
    assert recorder.end() == 0
    files = recorded_files(tmp_path, "upbit")
    assert len(files) == 2
    printed = decoded(start("decode", "--venue", "upbit", *files))
    events = read_events(printed)
    suspect = [
        number
        for number, event in enumerate(events)
        if event["type"] == "status" and event["state"] == "suspect"
    ]
    known = {event["instrument"] for event in events[: suspect[0]] if event["type"] == "book"}
    assert {events[number]["instrument"] for number in suspect} == known
    code, whole, received = measured_run(start, tmp_path, tmp_path / "recordings")
    assert_nothing_lost(whole)
    assert whole["venues"]["upbit"]["reconnects"] >= 1  # type: ignore[index]
    assert_equal(received, printed, leave_out=("status",))
    assert code == 0


def alone_on_a_small_disk(folder: Path, size: str) -> tuple[str, ...]:
    """Return the words before a command that let it see a disk of `size` at `folder`, in a mount
    namespace of its own.
    """
    folder.mkdir()
    rights = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    script = f'mount -t tmpfs -o size={size} tapecast "$0" && exec "$@"'
    prefix = ("unshare", *rights, "--mount", "sh", "-c", script, str(folder))
    if (
        shutil.which("unshare") is None
        or subprocess.run([*prefix, "true"], capture_output=True, timeout=10).returncode
    ):
        pytest.skip("no mount namespaces here")
    return prefix


def asked(url: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON that a health endpoint answers."""
    try:
        with urllib.request.urlopen(url, timeout=5.0) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def metric(base: str, name: str) -> float:
    """Return a metric's value, the first there is."""
    with urllib.request.urlopen(f"{base}/metrics", timeout=5.0) as answer:
        line = next(line for line in answer.read().decode().splitlines() if line.startswith(name))
    return float(line.rpartition(" ")[2])


def test_a_full_disk_stops_the_recording_and_not_the_feed(
    start: Start, net: Net, tmp_path: Path
) -> None:
    """Somebody fills the disk: alarm, counter, endpoint say so, packets go on; room comes back,
    and so does the recording.
    """
    file = captures() / "upbit/cf_20210405_simple.jsonl"
    disk = tmp_path / "disk"
    prefix = alone_on_a_small_disk(disk, "4m")
    server, settings = served(start, "upbit", file, speed="20")
    base = free_port()
    settings |= {
        "record.dir": str(disk / "recordings"),
        "record.queue_mb": "64",
        "service.port_base": str(base),
    }
    feeder = start("feed", "upbit", "--record", settings=settings, prefix=prefix)
    url = f"http://127.0.0.1:{base + venue('upbit').venue_id}"
    seen = Path(f"/proc/{feeder.pid}/root{disk}")
    until(lambda: list(seen.glob("recordings/upbit/*")))
    with (seen / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    until(lambda: metric(url, "tapecast_record_stopped") == 1.0)
    status, plan = asked(f"{url}/healthz")
    assert (status, plan["ready"]) == (200, False)
    assert any("recording stopped" in reason for reason in plan["reasons"])
    assert asked(f"{url}/readyz")[0] == 503
    before = metric(url, "tapecast_packets_total")
    until(lambda: metric(url, "tapecast_packets_total") > before + 20)
    assert '"event":"recording_stopped"' in feeder.stderr()
    (seen / "filler").unlink()
    until(lambda: metric(url, "tapecast_record_stopped") == 0.0)
    server.expect("end", 60.0)
    until(lambda: metric(url, "tapecast_record_waiting_bytes") == 0.0)
    assert heard(sorted(seen.glob("recordings/upbit/*"))) == heard([file])
    assert feeder.end() == 0
    assert '"event":"recording_resumed"' in feeder.stderr()


def test_a_limit_on_the_size_of_files_begins_new_ones(start: Start, tmp_path: Path) -> None:
    """RLIMIT_FSIZE is reached in the middle of a member: the next file goes on, and nothing is
    missing.
    """
    file = captures() / "upbit/cf_20210405_simple.jsonl"
    server, settings = served(start, "upbit", file, speed="60")
    prefix = ("sh", "-c", 'ulimit -f 160 && exec "$@"', "sh")
    recorder = start(
        "record", "upbit", settings={**settings, "record.flush_s": "0.1"}, prefix=prefix
    )
    server.expect("end", 60.0)
    assert recorder.end() == 0, recorder.stderr()
    files = recorded_files(tmp_path, "upbit")
    assert len(files) >= 3
    assert heard(files) == heard([file])
    assert "recording_stopped" not in recorder.stderr()


def test_recording_needs_no_channel_and_a_port_in_use_is_named(
    start: Start, net: Net, tmp_path: Path
) -> None:
    """A recorder runs beside a feeder of the same venue; a second one with the same port ends
    with 75 and names the key.
    """
    server, settings = served(
        start, "upbit", captures() / "upbit/cf_20210405_simple.jsonl", start_after="3"
    )
    base = free_port()
    settings["service.port_base"] = str(base)
    feeder, recorder = (
        start("feed", "upbit", settings=settings),
        start("record", "upbit", settings=settings),
    )
    number = venue("upbit").venue_id
    for port in (base + number, base + number + 100):
        until(
            lambda port=port: (
                "endpoint_listening" in (feeder if port < base + 100 else recorder).stderr()
            )
        )
        assert metric(f"http://127.0.0.1:{port}", "tapecast_channel_session") >= 1
    second = start("feed", "upbit", settings=settings, name="second")
    assert second.wait() == 75
    assert "service.port_base" in second.stderr()
    assert f"127.0.0.1:{base + number}" in second.stderr()
    assert feeder.end() == recorder.end() == 0
    assert server.running
