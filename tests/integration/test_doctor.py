"""`tapecast doctor`: each finding from facts, and the command on this host and in namespaces."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex

import msgspec
import pytest

from tapecast.doctor_checks import Finding, examine
from tapecast.doctor_facts import Facts, Link, Received
from tapecast.runtime.config import load
from tapecast.runtime.settings import Network
from tests.support.captures import captures
from tests.support.netns import Host, alone, lan
from tests.support.processes import Net, tapecast, until

UPBIT = "upbit/cf_20210405_simple.jsonl"
IGMP = """Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     2      V3
\t\t\t\tFA2AFFEF     1 0:00000000\t\t0
2\teth0      :     5      V3
\t\t\t\tFA2AFFEF     1 0:00000000\t\t0
"""
LAN = "10.0.0.5"
ETH = Link(name="eth0", flags=0x1003, carrier=True, mtu=1500)
GOOD = Facts(
    link=ETH,
    source=LAN,
    igmp=IGMP,
    groups=("239.255.42.7",),
    probe_us=50.0,
    joined=True,
    rcvbuf=64 << 20,
    sndbuf_max=8 << 20,
    rmem_max=64 << 20,
    softnet_dropped=0,
    udp_errors={"RcvbufErrors": 0, "InErrors": 0},
    clock=(True, 5000, 12),
    files=(1024, 4096),
    received={"okx": Received(10, {"10.0.0.1:7000": True})},
    rejected={},
    listened_s=2.5,
    key_problems=(),
    unused_keys=(),
)


def network(**changes: object) -> Network:
    """Return a network on a LAN."""
    base = load(environ={}).network
    return msgspec.structs.replace(base, **{"interface": LAN, "authentication": "on", **changes})


def findings(where: Network | None = None, **changes: object) -> dict[str, Finding]:
    """Return the findings by check; of several of one check the worst."""
    found = examine(msgspec.structs.replace(GOOD, **changes), where or network(), ["okx"])
    rank = {"ok": 0, "warn": 1, "fail": 2}
    return {one.check: one for one in sorted(found, key=lambda one: rank[one.level])}


def test_a_good_host_has_nothing_to_mend() -> None:
    """Every check is there, says what was measured, and none asks for anything."""
    found = findings()
    assert {one.level for one in found.values()} == {"ok"}
    assert all(one.value and not one.fix for one in found.values())
    assert list(found) == [
        "groups", "interface", "route", "igmp", "snooping", "loop", "mtu", "receive buffer", "send buffer", "kernel drops",
        "backlog", "clock", "files", "keys", "feeder okx", "recovery okx",
    ]  # fmt: skip


def link(**changes: object) -> Link:
    """Return the interface with something changed."""
    return msgspec.structs.replace(ETH, **changes)


@pytest.mark.parametrize(
    ("changes", "where", "check", "level", "value", "fix"),
    [
        ({}, {"group_prefix": "224.0.0"}, "groups", "fail", "224.0.0.7", "239.x.y"),
        ({}, {"monitor_group": "239.255.42.7"}, "groups", "fail", "239.255.42.7", "change it"),
        ({"link": None}, {}, "interface", "fail", "no interface has 10.0.0.5", "ip -br address"),
        ({"link": link(flags=0x1002)}, {}, "interface", "fail", "down", "ip link set eth0 up"),
        ({"link": link(flags=0x3)}, {}, "interface", "fail", "without MULTICAST", "ip link set eth0 multicast on"),
        ({"link": link(carrier=False)}, {}, "interface", "fail", "no carrier", "cable"),
        ({"source": None}, {}, "route", "warn", "from nowhere", "ip route add 239.255.42.0/24 dev eth0"),
        ({"source": "10.9.9.9"}, {}, "route", "warn", "from 10.9.9.9, not from 10.0.0.5", "ip route add"),
        ({"source": "10.9.9.9", "link": link(rp_filter=1)}, {}, "reverse path", "warn", "strict on eth0", "rp_filter=2"),
        ({"joined": False}, {}, "igmp", "fail", "not among them", "firewall"),
        ({"igmp": IGMP.replace("V3", "V2")}, {}, "igmp", "warn", "V2, 5 groups", "old querier"),
        ({"link": link(bridge="br0", snooping=True)}, {}, "snooping", "warn", "bridge br0 snoops", "mcast_querier 1"),
        ({"probe_us": None, "probe_error": "not received within 1 s"}, {}, "loop", "fail", "not received", "nft list ruleset"),
        ({"link": link(mtu=1400)}, {}, "mtu", "fail", "1400 bytes, the largest packet has 1428", "network.max_payload = 1372"),
        ({"rcvbuf": 212_992}, {}, "receive buffer", "warn", "212,992 bytes obtained of 67,108,864", "net.core.rmem_max=67108864"),
        ({"sndbuf_max": 212_992}, {}, "send buffer", "warn", "212,992", "net.core.wmem_max=8388608"),
        ({"udp_errors": {"RcvbufErrors": 7, "InErrors": 9}}, {}, "kernel drops", "warn", "7 datagrams", "troubleshooting"),
        ({"softnet_dropped": 3}, {}, "backlog", "warn", "3 packets", "netdev_max_backlog=30000"),
        ({"clock": None}, {}, "clock", "warn", "adjtimex is not permitted", "host itself"),
        ({"clock": (False, 16_000_000, 0)}, {}, "clock", "warn", "not synchronised", "chrony"),
        ({"clock": (True, 500_000, 9)}, {}, "clock", "warn", "greatest error 500.0 ms", "nearer time server"),
        ({"files": (256, 4096)}, {}, "files", "warn", "256 descriptors", "ulimit -n 1024"),
        ({"key_problems": ("$TAPECAST_KEY_OKX is not set",)}, {}, "keys", "fail", "$TAPECAST_KEY_OKX", "docs/network.md"),
        ({"unused_keys": ("TAPECAST_KEY_OKX",)}, {"authentication": "off"}, "keys", "warn", "carry no tags", "= on, or"),
        ({}, {"authentication": "off"}, "keys", "warn", "anybody on the network", "authentication = auto"),
        ({"listen_error": "No such device"}, {}, "feeders", "fail", "No such device", "interface"),
        ({"rejected": {"bad_auth": 5}}, {}, "packets", "fail", "5 dropped: bad_auth", "another key"),
        ({"received": {}}, {}, "feeders", "warn", "nothing received in 2.5 s of okx", "network.ttl = 1"),
        ({"received": {"okx": Received(9, {"10.0.0.1:70": False})}}, {}, "recovery okx", "fail", "10.0.0.1:70 is silent", "firewalls"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_fix(
    changes: dict[str, object],
    where: dict[str, object],
    check: str,
    level: str,
    value: str,
    fix: str,
) -> None:
    """One thing wrong, one finding that says so, with the value and what to do."""
    found = findings(network(**where), **changes)[check]
    assert found.level == level
    assert value in found.value
    assert fix in found.fix


@pytest.fixture
def doctor(tmp_path: Path, net: Net) -> Iterator[Callable[..., tuple[int, dict[str, Finding]]]]:
    """Return a function that runs the command and returns its exit code and findings."""
    with ExitStack() as stack:

        def run(
            *words: str, host: Host | None = None, **environ: str
        ) -> tuple[int, dict[str, Finding]]:
            settings: dict[str, object] = {
                **net.settings,
                **({"network.interface": host.address} if host else {}),
            }
            prefix = host.prefix if host else ()
            child = tapecast(
                tmp_path,
                "doctor",
                *words,
                "--json",
                settings=settings,
                prefix=prefix,
                environ=environ,
            )
            stack.enter_context(child)
            code = child.wait(30.0)
            found = [Finding(**json.loads(line)) for line in child.stdout().splitlines()]
            assert found, child.stderr()
            return code, {one.check: one for one in found}

        yield run


def test_a_host_without_a_network_can_use_loopback(
    doctor: Callable[..., tuple[int, dict[str, Finding]]],
) -> None:
    """In a namespace with loopback alone nothing fails, and the lack of feeders is a warning."""
    code, found = doctor("upbit", "--seconds", "0.2", host=alone())
    assert code == 0
    assert found["interface"].value == "lo has 127.0.0.1, up"
    assert (found["loop"].level, found["igmp"].level, found["keys"].level) == ("ok", "ok", "ok")
    assert found["feeders"].level == "warn"


def test_on_a_lan_the_feeder_is_heard_with_the_right_key(
    doctor: Callable[..., tuple[int, dict[str, Finding]]], net: Net, tmp_path: Path
) -> None:
    """With its key the feeder is received; with another one its packets are named as such; without
    one the variable is.
    """
    key, file = token_hex(32), captures() / UPBIT
    settings = {**net.settings, "network.ttl": 1, "feeder.heartbeat_max_ms": 300}
    with lan(2) as (sender, receiver):
        there: dict[str, object] = {**settings, "network.interface": sender.address}
        words = ("up", "--replay", file, "--speed", "4", "--no-monitor")
        with tapecast(
            tmp_path,
            *words,
            name="up",
            settings=there,
            prefix=sender.prefix,
            environ={"TAPECAST_KEY_UPBIT": key},
        ) as up:
            until(
                lambda: (
                    "connected"
                    in "".join(path.read_text() for path in tmp_path.rglob("feed-upbit.log"))
                ),
                what=up.stderr(),
            )
            code, found = doctor("upbit", "--seconds", "1", host=receiver, TAPECAST_KEY_UPBIT=key)
            assert (code, found["feeder upbit"].level, found["recovery upbit"].level) == (
                0,
                "ok",
                "ok",
            ), found
            assert (found["route"].level, found["route"].fix) == (
                "warn",
                f"ip route add {net.prefix}.0/24 dev cable0",
            )
            code, found = doctor(
                "upbit", "--seconds", "1", host=receiver, TAPECAST_KEY_UPBIT=token_hex(32)
            )
            assert code == 1
            assert "dropped: bad_auth" in found["packets"].value
            code, found = doctor("upbit", "--seconds", "0.1", host=receiver)
            assert (code, found["keys"].level) == (1, "fail")
            assert "$TAPECAST_KEY_UPBIT is not set" in found["keys"].value


def test_the_text_names_the_fix_below_what_is_wrong(tmp_path: Path, net: Net) -> None:
    """Without --json one line a check; an address of nobody fails with the command that lists
    the right ones.
    """
    settings: dict[str, object] = {**net.settings, "network.interface": "203.0.113.9"}
    with tapecast(tmp_path, "doctor", "okx", "--seconds", "0.1", settings=settings) as child:
        assert child.wait(20.0) == 1
        lines = child.stdout().splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("fail  interface"))
    assert "no interface has 203.0.113.9" in lines[at]
    assert lines[at + 1].strip().startswith("fix: set network.interface")
