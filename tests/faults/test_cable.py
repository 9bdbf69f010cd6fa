"""A cable that goes dead under an open connection, and an interface that goes down and comes
back: two hosts in namespaces.

Fault table, rows 22 and 46. Skipped, saying why, where network namespaces are not permitted.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.captures import captures
from tests.support.netns import Host, cable
from tests.support.processes import ROOT, Child, Net, tapecast, until

PORT = 7070
LISTENER = """
import json, sys
from tapecast import Book, BookState, Feed, Gap, Status

feed = Feed(["upbit"], interface=sys.argv[1], types=[Book, Gap, Status])
for event in feed:
    if isinstance(event, Status):
        print(json.dumps({"event": "status", "scope": event.scope.name, "state": event.state.name}), flush=True)
    elif isinstance(event, Gap):
        print(json.dumps({"event": "gap", "missing": event.missing}), flush=True)
    elif event.state == BookState.LIVE:
        print(json.dumps({"event": "book"}), flush=True)
"""


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """The venue's host and ours, joined by a cable."""
    with cable() as pair:
        yield pair


def run(host: Host, *words: str) -> None:
    """Run a command on a host."""
    subprocess.run([*host.prefix, *words], check=True, capture_output=True, timeout=10)


def count(listener: Child, event: str, **words: str) -> int:
    """Return how many lines of a listener say this."""
    return sum(
        all(line[key] == value for key, value in words.items()) for line in listener.lines(event)
    )


Break = Callable[[Host, Host], None]
BREAKS: dict[str, tuple[Break, Break]] = {
    "half-open": (
        lambda venue, _: run(venue, "ip", "link", "set", "cable0", "down"),
        lambda venue, _: run(venue, "ip", "link", "set", "cable0", "up"),
    ),
    "interface": (
        lambda _, ours: run(ours, "ip", "link", "set", "cable0", "down"),
        lambda _, ours: run(ours, "ip", "link", "set", "cable0", "up"),
    ),
}


def test_a_dead_cable_and_a_lost_interface_are_found_out_by_silence_and_healed(
    hosts: tuple[Host, Host], net: Net, tmp_path: Path
) -> None:
    """No packet, no end of the connection, no error: the silence ends it, consumers hear so, and
    data come again by themselves.

    First the venue's end goes dead, then our own interface. Our multicast goes over loopback:
    nothing is lost on the way.
    """
    venue, ours = hosts
    settings = {
        **net.settings,
        "feeder.data_idle_reconnect_s": 2,
        "feeder.backoff.base_s": 0.2,
        "feeder.backoff.cap_s": 1,
        "feeder.circuit.connects": 1000,
        "venues.upbit.symbols": '["KRW-DAWN", "KRW-STX", "KRW-ADA"]',
        "venues.upbit.endpoints.ws": f"ws://{venue.address}:{PORT}/websocket/v1",
        "venues.upbit.endpoints.rest": f"http://{venue.address}:{PORT}",
    }
    environ = {
        f"TAPECAST__{key.replace('.', '__').upper()}": str(value)
        for key, value in net.settings.items()
    }
    environ["PYTHONPATH"] = str(ROOT)
    script = tmp_path / "listener.py"
    script.write_text(LISTENER)
    file = captures() / "upbit/cf_20210405_simple.jsonl"
    words = (
        "replay",
        "--venue",
        "upbit",
        "--host",
        venue.address,
        "--port",
        str(PORT),
        "--json",
        file,
    )
    with (
        tapecast(tmp_path, *words, name="venue", prefix=venue.prefix) as server,
        Child(
            [*ours.prefix, sys.executable, str(script), "127.0.0.1"], tmp_path, "listener", environ
        ) as listener,
    ):
        server.expect("listening")
        with tapecast(
            tmp_path, "feed", "upbit", name="feed", prefix=ours.prefix, settings=settings
        ) as feeder:
            until(lambda: count(listener, "book") > 3, within_s=40.0, what="books before the fault")
            for number, (breaks, heals) in enumerate(BREAKS.values(), 1):
                breaks(venue, ours)
                until(
                    lambda: count(listener, "status", state="DISCONNECTED") == number,  # noqa: B023 - awaited before the next turn
                    within_s=40.0,
                    what="the silence",
                )
                assert feeder.stderr().count("no data for") >= number
                before = count(listener, "book")
                heals(venue, ours)
                until(
                    lambda: count(listener, "book") > before,  # noqa: B023 - awaited before the next turn
                    within_s=40.0,
                    what="books after the fault",
                )
            assert count(listener, "status", state="CONNECTED") >= len(BREAKS)
            assert count(listener, "gap") == 0
            assert feeder.running
