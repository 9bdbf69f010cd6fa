"""A publisher and three consumers on a switch: keys, two lines, interfaces that go down, are replaced, or change their address.

Skipped, saying why, where network namespaces are not permitted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

from tests.support.captures import captures
from tests.support.netns import Host, lan
from tests.support.processes import Child, Net, until
from tests.support.watch import load_sums, watching, wrong

Start = Callable[..., Child]

UPBIT = "upbit/cf_20210405_simple.jsonl"
QUICK = {
    "network.ttl": 1,
    "feeder.heartbeat_idle_ms": 100,
    "feeder.heartbeat_max_ms": 200,
    "feeder.definition_cycle_s": 1.0,
    "feeder.snapshot_cycle_s": 1.0,
    "feeder.session_end_s": 0.2,
}


def test_one_consumers_interface_is_its_own_affair(start: Start, net: Net, tmp_path: Path) -> None:
    """Down and up, pulled and replaced, another address: it hears again by itself; the others lose nothing and notice nothing."""
    key = {"TAPECAST_KEY_UPBIT": token_hex(32)}
    settings = {**net.settings, "network.line_b_prefix": f"{net.prefix.rpartition('.')[0]}.{251 + net.port % 4}"}
    with lan(4) as (publisher, *hosts):

        def watch(number: int) -> Child:
            host = hosts[number]
            return watching(
                tmp_path, "upbit", {**settings, "network.interface": host.address}, f"watch{number}", host.prefix, key
            )

        def heard(number: int, more: int = 20) -> None:
            """Wait until a consumer takes data and has its books."""
            wanted = last(watches[number])["data"] + more
            until(lambda: last(watches[number])["data"] >= wanted and last(watches[number])["live"] >= 5, what="data and books")

        watches = [watch(number) for number in range(3)]
        start(
            "up", "--replay", captures() / UPBIT, "--speed", "3", "--no-monitor",
            settings={**QUICK, **settings, "network.interface": publisher.address}, prefix=publisher.prefix, environ=key,
        )  # fmt: skip
        for number in range(3):
            heard(number)
        _strike(hosts, watches[0], heard)
        for number in range(3):
            heard(number)
        states = [last(child) for child in watches]
        others, whole = [load_sums(watches[number]) for number in (0, 2)], load_sums(watches[1])
        for state in states[1:]:
            assert state["stats"]["lost"] == 0
            assert state["gaps"] == 0
            assert state["stats"]["invalid"] == {}
        assert len(whole) > 100
        assert [wrong(sums, whole) for sums in others] == [[], []]
        assert states[1]["stats"]["duplicates"] > 50


def _strike(hosts: list[Host], child: Child, heard: Callable[..., None]) -> None:
    host = hosts[0]
    host.down()
    until(lambda: last(child)["statuses"].get("STALE TIMEOUT", 0) >= 1)
    host.up()
    heard(0)
    before = last(child)["stats"]["rejoins"]
    host.replugged()
    heard(0)
    assert last(child)["stats"]["rejoins"] > before
    hosts[0] = host.readdressed("10.99.1.77")
    heard(0, 60)


def last(child: Child) -> dict[str, object]:
    """Return the newest state of a watch."""
    assert child.running, child.stderr()
    return until(lambda: child.lines("state"), what="a state")[-1]
