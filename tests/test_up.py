"""`tapecast up` as a user meets it: what it says when nothing can be reached or something dies,
its exit codes, its end.

What arrives is judged in `tests/integration/test_whole_run.py`; here the processes are.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tapecast.feeder.venues import venue
from tapecast.protocol.net.io import Receiver
from tapecast.runtime import config as configuration
from tapecast.runtime.channels import lines_of
from tests.support.captures import captures
from tests.support.processes import Child, Net, children, free_port, signalled, tapecast, until

Start = Callable[..., Child]
WITHOUT_KEY = {
    name
    for name, entry in configuration.load(environ={}).venues.items()
    if entry.enabled and venue(name).login is None
}
"""Venues that run where none is named: enabled by the packaged files, and without a key."""


@pytest.fixture
def net() -> Net:
    """Groups and a port of this test's own."""
    return Net()


@pytest.fixture
def up(tmp_path: Path, net: Net) -> Iterator[Start]:
    """Return a function that starts `tapecast up WORDS…` on this test's groups; it is ended with
    the test.
    """
    with ExitStack() as stack:

        def run(*words: str | Path, **settings: object) -> Child:
            given = {key.replace("__", "."): value for key, value in settings.items()}
            return stack.enter_context(
                tapecast(tmp_path, "up", *words, settings={**net.settings, **given})
            )

        yield run


def child_of(run: Child, words: str) -> int:
    """Return the pid of the child whose command line contains some words, once there is one."""
    return until(
        lambda: next((pid for pid, line in children(run.pid).items() if words in line), 0),
        what=words,
    )


def assert_gone(pids: dict[int, str]) -> None:
    """Assert that processes have ended."""
    until(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids),
        within_s=5.0,
        what=f"the end of {pids}",
    )


class Ear:
    """Counts the packets of a venue, as any consumer could."""

    def __init__(self, net: Net, venue: str) -> None:
        """Join the venue's group."""
        config = configuration.load(net.overlay(), environ={})
        self._receiver = Receiver(lines_of(venue, config.network), rcvbuf=8 << 20)
        self._count = 0

    def heard(self, count: int, *, beside_heartbeats: int = 90) -> None:
        """Return once `count` more packets of data have come: longer than a heartbeat."""
        wanted = self._count + count

        def enough() -> bool:
            packets = range(self._receiver.receive(0.0))
            self._count += sum(
                len(self._receiver.packet(index)) > beside_heartbeats for index in packets
            )
            return self._count >= wanted

        until(enough, within_s=30.0, what=f"{count} packets")


@pytest.mark.parametrize(("number", "form"), [(signal.SIGINT, "--json"), (signal.SIGTERM, None)])
def test_without_any_venue_the_screen_says_so_and_names_the_replay(
    number: signal.Signals, form: str | None, up: Start, net: Net
) -> None:
    """Unreachable venues are shown as down and tried again; after ten seconds the way without a
    network is named.

    Ctrl-C, or SIGTERM, then ends everything within seconds with exit code 0, and no process
    stays behind.
    """
    closed = free_port()
    endpoints = {
        f"venues.{name}.endpoints.{key}": f"{'ws' if url.startswith('ws') else 'http'}://127.0.0.1:{closed}"
        for name, entry in configuration.load(environ={}).venues.items()
        for key, url in entry.endpoints.items()
    }
    run = up(*([form] if form else []), **endpoints)
    if form:
        until(
            lambda: any(line["hint"] and "REPLAY=" in line["hint"] for line in run.lines()),
            within_s=20.0,
        )

        def tried_again() -> bool:
            rows = {row["exchange"]: row for row in run.lines()[-1]["rows"]}
            assert set(rows) == WITHOUT_KEY
            return all(
                row["state"] == "down" and row["connected"] == 0 and row["reconnects"] > 2
                for row in rows.values()
            )

        until(tried_again, within_s=60.0)
        first = next(line for line in run.lines() if line["hint"])
        assert first["uptime_s"] < 13.0
    else:
        until(lambda: "REPLAY=" in run.stdout(), within_s=20.0)
        assert all(name in run.stdout() for name in WITHOUT_KEY)
        assert "down" in run.stdout()
    family = children(run.pid)
    assert len(family) == len(WITHOUT_KEY) + 1
    assert "venue ls needs keys: set $TAPECAST_LS_APPKEY" in run.stderr()
    began = time.monotonic()
    run.send(number)
    assert run.wait(8.0) == 0
    assert time.monotonic() - began < 5.0
    assert_gone(family)


@pytest.mark.parametrize("measured", [True, False])
def test_an_early_signal_ends_the_run_at_once(measured: bool, up: Start) -> None:
    """A run that is still reading its recordings can be stopped like any other."""
    file = captures() / "long/binance_futures_usdm_btcusdt_20240808.jsonl.gz"
    run = up(
        "--replay", file, "--speed", "max", *(["--until-end"] if measured else ["--no-monitor"])
    )
    until(lambda: children(run.pid))
    family = children(run.pid)
    run.send(signal.SIGTERM)
    assert run.wait(8.0) == (1 if measured else 0)
    assert_gone(family)


def test_a_signal_in_the_middle_leaves_nothing_unsaid(up: Start) -> None:
    """A measured run that is stopped while its recordings play ends without a complaint of the
    event loop about what was cancelled, in `up` and in its feeder.
    """
    run = up("--replay", captures() / "upbit/cf_20210405_simple.jsonl", "--until-end")
    log = run.folder / "state" / "logs" / "feed-upbit.log"
    until(lambda: log.exists() and '"connected"' in log.read_text())
    run.send(signal.SIGTERM)
    assert run.wait(20.0) == 1
    assert "never retrieved" not in run.stderr() + log.read_text()


def test_a_second_signal_ends_it_without_further_words(up: Start) -> None:
    """Children that do not end by themselves do not outlive an impatient user."""
    run = up("--replay", captures() / "upbit/cf_20210405_simple.jsonl", "--no-monitor")
    feeder = child_of(run, "feed upbit")
    os.kill(feeder, signal.SIGSTOP)
    family = children(run.pid)
    run.send(signal.SIGINT)
    until(lambda: len(children(run.pid)) < len(family))
    run.send(signal.SIGINT)
    assert run.wait(3.0) == 1
    assert_gone(family)


def test_no_process_outlives_a_killed_fleet(up: Start) -> None:
    """Even SIGKILL, which `up` cannot see, leaves no feeder behind that would go on sending."""
    run = up("--replay", captures() / "upbit/cf_20210405_simple.jsonl", "--no-monitor")
    child_of(run, "feed upbit")
    family = children(run.pid)
    run.send(signal.SIGKILL)
    assert run.wait(5.0) == -9
    assert_gone(family)


def test_a_missing_recording_is_named(up: Start) -> None:
    """A path that does not exist is an error of usage."""
    run = up("--replay", "/no/such/recording.jsonl", "--until-end")
    assert run.wait(10.0) == 2
    assert "/no/such/recording.jsonl" in run.stderr()
    assert run.stdout() == ""


def test_a_wrong_setting_is_named_before_anything_starts(up: Start, tmp_path: Path) -> None:
    """The key, its value and what was expected; no process is started."""
    run = up("--no-monitor", network__ttl="many")
    assert run.wait(10.0) == 2
    assert "TAPECAST__NETWORK__TTL" in run.stderr()
    assert not (tmp_path / "state").exists()


def test_a_feeder_that_cannot_start_is_told_and_tried_again(up: Start, tmp_path: Path) -> None:
    """Live, a feeder whose interface does not exist is told with the place of its log, and
    started again and again.
    """
    run = up(
        "upbit", "--no-monitor", network__interface="203.0.113.7", network__authentication="off"
    )
    until(lambda: run.stderr().count('"process_ended"') >= 2)
    assert '"process":"feed-upbit"' in run.stderr()
    log = tmp_path / "state/logs/feed-upbit.log"
    assert str(log.relative_to(tmp_path)) in run.stderr()
    assert "Cannot assign requested address" in log.read_text()


def test_a_run_that_cannot_begin_says_why(up: Start) -> None:
    """Measured, the first process that fails ends the run with its own words."""
    file = captures() / "okx/fastmm_20260926_btc_usdt_swap.p1.jsonl"
    run = up(
        "--replay",
        file,
        "--until-end",
        network__interface="203.0.113.7",
        network__authentication="off",
    )
    assert run.wait(20.0) == 1
    assert "capture" in run.stderr()
    assert "No such device" in run.stderr()


@pytest.mark.parametrize("words", ["tapecast.capture", "feed upbit", "replay --json"])
def test_a_killed_process_ends_a_measured_run(words: str, up: Start, net: Net) -> None:
    """A consumer, feeder or server that dies makes the result worthless: exit code 1, and it is
    named; nothing stays.
    """
    run = up("--replay", captures() / "upbit/cf_20210405_simple.jsonl", "--until-end", "--json")
    Ear(net, "upbit").heard(20)
    family = children(run.pid)
    assert len(family) == 3
    os.kill(child_of(run, words), signal.SIGKILL)
    assert run.wait(15.0) == 1
    assert {
        "tapecast.capture": "capture",
        "feed upbit": "feed-upbit",
        "replay --json": "replay-upbit",
    }[words] in run.stderr()
    assert "exit code -9" in run.stderr()
    assert_gone(family)


def stopped_for_a_while(up: Start, net: Net, code: int, **settings: object) -> dict[str, Any]:
    """Run a recording; its consumer stands still while its small buffer overflows. Return the
    report.
    """
    file = captures() / "binance/cf_20210404_spot_btc_eth_dot.jsonl"
    run = up(
        "--replay",
        file,
        "--speed",
        "8",
        "--until-end",
        "--json",
        network__rcvbuf_bytes=32_768,
        **settings,
    )
    ear = Ear(net, "binance")
    ear.heard(100)
    with signalled(child_of(run, "tapecast.capture")):
        ear.heard(600)
    assert run.wait(30.0) == code, run.stdout()
    report: dict[str, Any] = json.loads(run.stdout())
    assert report["kernel_drops"] > 0
    return report


def test_what_a_stopped_consumer_lost_is_repaired(up: Start, net: Net) -> None:
    """What did not fit its buffer comes from the feeder's recovery service: nothing lost, exit
    code 0, and the report says so.
    """
    report = stopped_for_a_while(up, net, 0)
    assert report["ok"] is True
    assert (report["lost"], report["gaps"]) == (0, [])
    assert report["repaired"] > 0
    assert report["requests"] > 0
    assert report["packets_received"] == report["packets_sent"]


def test_loss_on_the_way_is_an_exit_code(up: Start, net: Net) -> None:
    """Without repair, what a consumer lost that stands still while its small buffer overflows is
    counted, told, exit code 1.
    """
    report = stopped_for_a_while(up, net, 1, consumer__recovery="false")
    assert report["ok"] is False
    assert report["lost"] > 0
    assert report["kernel_drops"] > 0
    assert report["packets_received"] + report["lost"] == report["packets_sent"]
    assert sum(gap["count"] for gap in report["gaps"]) <= report["lost"]
    assert report["frames_lost"] == report["upstream_gaps"] == report["send_dropped"] == 0


def test_events_are_written_at_the_end_of_the_recording(up: Start, tmp_path: Path) -> None:
    """Asking for events is asking for a run that ends; they belong to a replay."""
    events = tmp_path / "events.jsonl"
    run = up(
        "--replay",
        captures() / "okx/fastmm_20260926_btc_usdt_swap.p1.jsonl",
        "--speed",
        "max",
        "--events",
        events,
    )
    assert run.wait(20.0) == 0
    assert events.read_bytes().count(b'"type":"book"') == 17
    assert up("--events", events).wait(10.0) == 2


def test_settings_given_by_flags_reach_every_process(up: Start, net: Net) -> None:
    """`--set` means the whole fleet: feeder, consumer and server of a run on other groups hear
    each other, and nobody else.
    """
    other = Net()
    flags = [word for key, value in other.settings.items() for word in ("--set", f"{key}={value}")]
    ear = Receiver(
        lines_of("okx", configuration.load(net.overlay(), environ={}).network), rcvbuf=1 << 20
    )
    run = up(
        "--replay",
        captures() / "okx/fastmm_20260926_btc_usdt_swap.p1.jsonl",
        "--speed",
        "max",
        "--until-end",
        *flags,
    )
    assert run.wait(20.0) == 0
    assert "nothing lost" in run.stdout()
    assert ear.receive(0.0) == 0
    ear.close()
