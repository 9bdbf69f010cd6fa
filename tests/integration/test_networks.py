"""A fleet on a host without any network, and a consumer on another host of the LAN.

Skipped, saying why, where network namespaces are not permitted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Any

from tapecast.feeder.venues import venue
from tapecast.runtime import config as configuration
from tests.support.captures import captures
from tests.support.netns import alone, cable
from tests.support.processes import ROOT, Child, Net, until
from tests.support.watch import watching

Start = Callable[..., Child]

CONSUMER = """
import json, sys
from tapecast import Book, BookState, Feed, Trade

with Feed(["upbit"], interface=sys.argv[1]) as feed:
    books, trades = set(), 0
    print("joined", flush=True)
    for event in feed:
        if isinstance(event, Book) and event.state == BookState.LIVE:
            books.add(event.symbol)
        trades += isinstance(event, Trade)
        if len(books) >= 5 and trades >= 20:
            print(json.dumps({"books": len(books), "trades": trades, "lost": feed.stats.lost}), flush=True)
            break
"""


def test_the_whole_run_needs_no_network(start: Start, tmp_path: Path) -> None:
    """In a namespace with loopback alone, every recorded message arrives."""
    host = alone()
    file = captures() / "binance_futures/cf_20210722_usdm.jsonl"
    run = start(
        "up", "--replay", file, "--speed", "max", "--until-end", "--json", prefix=host.prefix
    )
    assert run.wait(30.0) == 0, run.stderr()
    report = json.loads(run.stdout())
    assert report["ok"] is True
    assert report["packets_received"] == report["packets_sent"] > 1000


def test_live_without_a_network_says_so_and_ends_well(start: Start) -> None:
    """Names that cannot be resolved are tried again; the screen names the replay after ten
    seconds; SIGTERM ends it all.
    """
    run = start("up", "--json", prefix=alone().prefix)
    until(lambda: any(line["hint"] for line in run.lines()), within_s=30.0)
    rows = run.lines()[-1]["rows"]
    assert {row["exchange"] for row in rows} == {
        name
        for name, entry in configuration.load(environ={}).venues.items()
        if entry.enabled and venue(name).login is None
    }
    assert all(row["connected"] == 0 for row in rows)
    assert run.end() == 0


def test_a_consumer_on_another_host_receives(start: Start, net: Net, tmp_path: Path) -> None:
    """With the interface named and TTL 1 the packets cross the cable, with tags; with TTL 0 they
    do not leave the host.
    """
    script = tmp_path / "consumer.py"
    script.write_text(CONSUMER)
    file = captures() / "upbit/cf_20210405_simple.jsonl"
    environ = {
        f"TAPECAST__{key.replace('.', '__').upper()}": value for key, value in net.settings.items()
    }
    environ["PYTHONPATH"] = str(ROOT)
    key = {"TAPECAST_KEY_UPBIT": token_hex(32)}
    with cable() as (sender, receiver):

        def consume(name: str, key: dict[str, str] = key) -> Child:
            child = Child(
                [*receiver.prefix, sys.executable, str(script), receiver.address],
                tmp_path,
                name,
                {**environ, **key},
            )
            until(lambda: "joined" in child.stdout())
            return child

        settings = {"network.interface": sender.address, "feeder.definition_cycle_s": 1.0}
        play = ("up", "--replay", file, "--speed", "8", "--no-monitor")
        keyless = start(*play, settings=settings, prefix=sender.prefix)
        assert keyless.wait(30.0) == 2
        assert "$TAPECAST_KEY_UPBIT is not set" in keyless.stderr()
        with (
            consume("near") as near,
            consume("far") as far,
            consume("other", {"TAPECAST_KEY_UPBIT": token_hex(32)}) as other,
        ):
            run = start(*play, settings=settings, prefix=sender.prefix, environ=key)
            local = Child(
                [*sender.prefix, sys.executable, str(script), sender.address],
                tmp_path,
                "local",
                {**environ, **key},
            )
            with local:
                assert local.wait(30.0) == 0, local.stderr()
            run.end()
            assert near.running
            assert far.running
            settings = {**settings, "network.ttl": 1}
            start(*play, settings=settings, prefix=sender.prefix, environ=key)
            for child in (near, far):
                assert child.wait(30.0) == 0, child.stderr()
                assert child.lines()[-1]["lost"] == 0
            assert other.running
            assert "packets without a right tag dropped" in other.stderr()


def test_a_key_is_changed_without_a_packet_refused(start: Start, net: Net, tmp_path: Path) -> None:
    """Consumers take the new key beside the old one, the feeder is restarted with it, and nobody
    drops a packet.
    """
    old, new = token_hex(32), token_hex(32)
    settings = {
        **net.settings,
        "network.authentication": "on",
        "feeder.session_end_s": 0.2,
        "feeder.definition_cycle_s": 1.0,
    }
    play = (
        "up",
        "--replay",
        captures() / "upbit/cf_20210405_simple.jsonl",
        "--speed",
        "8",
        "--no-monitor",
    )
    both = {"TAPECAST_KEY_UPBIT": old, "TAPECAST_KEY_UPBIT_ALSO": new}
    consumer = {**net.settings, "network.authentication": "on"}
    with watching(tmp_path, "upbit", consumer, "watch", environ=both) as child:
        for ended, key in enumerate((old, new)):
            feeder = start(*play, settings=settings, environ={"TAPECAST_KEY_UPBIT": key})
            until(
                lambda n=ended: (
                    _state(child)["statuses"].get("LIVE RESTART", 0) >= n
                    and _state(child)["live"] >= 5
                )
            )
            feeder.end()
            until(
                lambda n=ended: _state(child)["statuses"].get("STALE RESTART", 0) > n,
                what="the end of the session",
            )
        state = _state(child)
        assert state["stats"]["invalid"] == {}
        assert state["stats"]["lost"] == 0
        assert state["gaps"] == 0


def _state(child: Child) -> dict[str, Any]:
    return until(lambda: child.lines("state"), what="a state")[-1]
