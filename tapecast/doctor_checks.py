"""The judgement of `tapecast doctor`: from facts to findings, each with the value that was
measured and, where need be, the fix.

`fail` means that market data will not arrive or will not be believed; `warn`, that it may be
lost or mistimed. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from tapecast.doctor_facts import Facts, Link
from tapecast.protocol.schema import VENUES
from tapecast.runtime.channels import lines_of
from tapecast.runtime.keys import is_authenticated
from tapecast.runtime.settings import Network

__all__ = ["Finding", "examine"]

_UP, _LOOPBACK, _MULTICAST = 0x1, 0x8, 0x1000
_IP_AND_UDP: Final = 28
_SNDBUF: Final = 8 << 20
_FILES: Final = 1024
_MAX_ERROR_US: Final = 100_000
_SYSCTL: Final = "install systemd/sysctl.d/60-tapecast.conf, or: sysctl -w"


class Finding(NamedTuple):
    """One line of the report."""

    check: str
    level: str
    """ok, warn or fail."""
    value: str
    fix: str = ""


def examine(facts: Facts, network: Network, venues: Sequence[str]) -> Iterator[Finding]:
    """Yield the findings for some venues, in the order in which they depend on each other."""
    yield from _groups(network, venues)
    yield from _interface(facts.link, network)
    yield from _route(facts, network)
    yield from _igmp(facts, network)
    yield from _snooping(facts.link, network)
    yield from _loop(facts, network)
    yield from _mtu(facts.link, network)
    yield from _buffers(facts, network)
    yield from _drops(facts)
    yield from _clock(facts)
    yield from _files(facts, venues)
    yield from _keys(facts, network)
    yield from _feeders(facts, network, venues)


def _groups(network: Network, venues: Sequence[str]) -> Iterator[Finding]:
    groups = [group for venue in venues for group, _ in lines_of(venue, network)]
    shown = f"{groups[0]} to {groups[-1]}" if len(groups) > 1 else groups[0]
    ports = sorted({port for venue in venues for _, port in lines_of(venue, network)})
    where = (
        f"{shown}, UDP {', '.join(map(str, ports))},"
        f" {'two lines' if network.line_b_prefix else 'one line'}"
    )
    if IPv4Address(groups[0]) in _RESERVED or (
        network.line_b_prefix and IPv4Address(groups[-1]) in _RESERVED
    ):
        yield Finding(
            "groups",
            "fail",
            where,
            "224.0.0.0/24 is for routing protocols: set network.group_prefix to 239.x.y",
        )
    elif network.monitor_group in groups:
        yield Finding(
            "groups",
            "fail",
            where,
            f"network.monitor_group {network.monitor_group} is a venue's group too: change it",
        )
    else:
        yield Finding("groups", "ok", where)


class _Net(NamedTuple):
    first: int
    last: int

    def __contains__(self, address: object) -> bool:
        return isinstance(address, IPv4Address) and self.first <= int(address) <= self.last


_RESERVED: Final = _Net(int(IPv4Address("224.0.0.0")), int(IPv4Address("224.0.0.255")))


def _interface(link: Link | None, network: Network) -> Iterator[Finding]:
    if link is None:
        fix = "set network.interface to an address of this host (`ip -br address` lists them)"
        yield Finding("interface", "fail", f"no interface has {network.interface}", fix)
        return
    value = f"{link.name} has {network.interface}"
    if not link.flags & _UP:
        yield Finding("interface", "fail", f"{value}, down", f"ip link set {link.name} up")
    elif not link.flags & (_MULTICAST | _LOOPBACK):
        yield Finding(
            "interface",
            "fail",
            f"{value}, without MULTICAST",
            f"ip link set {link.name} multicast on",
        )
    elif not link.carrier:
        yield Finding(
            "interface",
            "fail",
            f"{value}, up, no carrier",
            "plug in the cable, or look at the switch's port",
        )
    else:
        yield Finding(
            "interface", "ok", f"{value}, up{', MULTICAST' if link.flags & _MULTICAST else ''}"
        )


def _route(facts: Facts, network: Network) -> Iterator[Finding]:
    loopback = IPv4Address(network.interface).is_loopback
    name = facts.link.name if facts.link else "IFACE"
    if loopback or facts.source == network.interface:
        yield Finding(
            "route",
            "ok",
            f"to {network.monitor_group} from {facts.source or 'nowhere'}; sockets name their"
            " interface",
        )
        return
    fix = f"ip route add {network.group_prefix}.0/24 dev {name}"
    value = (
        f"to {network.monitor_group} from {facts.source or 'nowhere'}, not from {network.interface}"
    )
    yield Finding(
        "route", "warn", f"{value}: tapecast names its interface, other programs do not", fix
    )
    if facts.link and facts.link.rp_filter == 1:
        value = (
            f"strict on {name}: packets of hosts that are reached another way are dropped without a"
            " count"
        )
        yield Finding("reverse path", "warn", value, f"sysctl -w net.ipv4.conf.{name}.rp_filter=2")


def _igmp(facts: Facts, network: Network) -> Iterator[Finding]:
    version, count = "", 0
    for line in facts.igmp.splitlines()[1:]:
        words = line.split()
        if len(words) >= 5 and words[0].isdigit():
            own = facts.link is not None and words[1] == facts.link.name
            version = words[-1] if own else version
            count = int(words[3]) if own else count
    if facts.link is None:
        return
    value = f"{version or 'unknown version'}, {count} groups joined on {facts.link.name}"
    if facts.probe_us is not None and not facts.joined:
        yield Finding(
            "igmp",
            "fail",
            f"{value}, a group joined just now not among them",
            "a firewall or security module?",
        )
    elif version in ("V1", "V2") and not IPv4Address(network.interface).is_loopback:
        fix = (
            "an old querier, or force_igmp_version, holds the network at that version: renew it, or"
            " joins by source cannot work"
        )
        yield Finding("igmp", "warn", value, fix)
    else:
        yield Finding("igmp", "ok", value)


def _snooping(link: Link | None, network: Network) -> Iterator[Finding]:
    if link is None or IPv4Address(network.interface).is_loopback:
        return
    if link.bridge and link.snooping and not link.querier:
        value = (
            f"bridge {link.bridge} snoops and asks nobody: memberships run out after some four"
            " minutes"
        )
        fix = (
            f"ip link set {link.bridge} type bridge mcast_querier 1 (where no router on that"
            " network is the querier)"
        )
        yield Finding("snooping", "warn", value, fix)
    else:
        value = (
            "a switch with IGMP snooping needs a querier in its VLAN; without one, groups fall"
            " silent after some four minutes"
        )
        yield Finding("snooping", "ok", f"cannot be seen from here: {value}")


def _loop(facts: Facts, network: Network) -> Iterator[Finding]:
    if facts.probe_us is None:
        fix = "look at the interface above, then at firewalls: `nft list ruleset`, `iptables -S`"
        yield Finding("loop", "fail", facts.probe_error, fix)
    else:
        yield Finding(
            "loop",
            "ok",
            f"own packet to {network.monitor_group} back after {facts.probe_us:.0f} us",
        )


def _mtu(link: Link | None, network: Network) -> Iterator[Finding]:
    if link is None or not link.mtu:
        return
    most = network.max_payload + _IP_AND_UDP
    value = f"{link.mtu} bytes, the largest packet has {most}"
    if most > link.mtu:
        fix = (
            f"network.max_payload = {link.mtu - _IP_AND_UDP} at the feeder, or ip link set"
            f" {link.name} mtu {most}"
        )
        yield Finding("mtu", "fail", f"{value}: larger ones are not sent (never fragmented)", fix)
    else:
        yield Finding("mtu", "ok", value)


def _buffers(facts: Facts, network: Network) -> Iterator[Finding]:
    wanted = network.rcvbuf_bytes
    if facts.rcvbuf:
        value = (
            f"{facts.rcvbuf:,} bytes obtained of {wanted:,} (net.core.rmem_max {facts.rmem_max:,})"
        )
        fix = f"{_SYSCTL} net.core.rmem_max={wanted}"
        yield (
            Finding("receive buffer", "ok", value)
            if facts.rcvbuf >= wanted
            else Finding("receive buffer", "warn", value, fix)
        )
    value = f"net.core.wmem_max {facts.sndbuf_max:,}, a feeder asks for {_SNDBUF:,}"
    fix = f"{_SYSCTL} net.core.wmem_max={_SNDBUF}"
    yield (
        Finding("send buffer", "ok", value)
        if facts.sndbuf_max >= _SNDBUF
        else Finding("send buffer", "warn", value, fix)
    )


def _drops(facts: Facts) -> Iterator[Finding]:
    full, other = facts.udp_errors.get("RcvbufErrors", 0), facts.udp_errors.get("InErrors", 0)
    value = (
        f"since boot: {full:,} datagrams for full receive buffers, {max(0, other - full):,} for"
        " other errors"
    )
    fix = (
        "a program was too slow for its buffer: docs/troubleshooting.md names them, and what helps"
    )
    yield (
        Finding("kernel drops", "warn", value, fix)
        if full
        else Finding("kernel drops", "ok", value)
    )
    value = f"since boot: {facts.softnet_dropped:,} packets before any socket saw them"
    fix = f"{_SYSCTL} net.core.netdev_max_backlog=30000; docs/troubleshooting.md"
    yield (
        Finding("backlog", "warn", value, fix)
        if facts.softnet_dropped
        else Finding("backlog", "ok", value)
    )


def _clock(facts: Facts) -> Iterator[Finding]:
    if facts.clock is None:
        yield Finding(
            "clock", "warn", "adjtimex is not permitted here: unknown", "look on the host itself"
        )
        return
    synchronised, error_us, offset_us = facts.clock
    value = f"offset {offset_us} us, greatest error {error_us / 1000:.1f} ms"
    fix = (
        "run chrony or systemd-timesyncd: without, times of two hosts cannot be compared, and lags"
        " are wrong"
    )
    if not synchronised:
        yield Finding("clock", "warn", f"not synchronised, {value}", fix)
    elif error_us > _MAX_ERROR_US:
        yield Finding(
            "clock",
            "warn",
            f"synchronised, {value}",
            "a nearer time server, or chrony instead of a simpler client",
        )
    else:
        yield Finding("clock", "ok", f"synchronised, {value}")


def _files(facts: Facts, venues: Sequence[str]) -> Iterator[Finding]:
    soft, hard = facts.files
    value = f"{soft:,} descriptors, at most {hard:,}"
    if soft < _FILES:
        yield Finding(
            "files",
            "warn",
            f"{value}; {_FILES:,} leave room for {len(venues)} venues",
            f"ulimit -n {_FILES}",
        )
    else:
        yield Finding("files", "ok", value)


def _keys(facts: Facts, network: Network) -> Iterator[Finding]:
    if facts.key_problems:
        for problem in facts.key_problems:
            yield Finding(
                "keys", "fail", problem, "docs/network.md shows how to make one and where to put it"
            )
    elif is_authenticated(network):
        yield Finding("keys", "ok", "there for every venue asked for")
    elif facts.unused_keys:
        value = f"{', '.join(facts.unused_keys)} set, but packets carry no tags here"
        yield Finding("keys", "warn", value, "network.authentication = on, or take the key away")
    elif IPv4Address(network.interface).is_loopback:
        yield Finding("keys", "ok", "not needed on loopback")
    else:
        fix = (
            "network.authentication = auto, and keys (docs/network.md), unless every host of that"
            " network is trusted"
        )
        yield Finding(
            "keys",
            "warn",
            "network.authentication is off: anybody on the network can send prices",
            fix,
        )


def _feeders(facts: Facts, network: Network, venues: Sequence[str]) -> Iterator[Finding]:
    if facts.listen_error:
        yield Finding(
            "feeders",
            "fail",
            f"the groups cannot be joined: {facts.listen_error}",
            "mend the interface above",
        )
        return
    for reason, fix in _REJECTED.items():
        if count := facts.rejected.get(reason, 0):
            yield Finding("packets", "fail", f"{count:,} dropped: {reason}", fix)
    silent = [venue for venue in venues if venue not in facts.received and venue in VENUES]
    for venue in venues:
        if venue in facts.received:
            received = facts.received[venue]
            yield Finding(
                f"feeder {venue}", "ok", f"{received.packets:,} packets in {facts.listened_s:g} s"
            )
            for address, answers in received.recovery.items():
                fix = (
                    f"let TCP to {address} through the firewalls between; until then losses wait"
                    " for the snapshot cycle"
                )
                check = f"recovery {venue}"
                yield (
                    Finding(check, "ok", f"{address} answers")
                    if answers
                    else Finding(check, "fail", f"{address} is silent", fix)
                )
    if silent:
        value = f"nothing received in {facts.listened_s:g} s of {', '.join(silent)}"
        fix = "start them (`tapecast feed VENUE`); if they run, compare group prefix and port"
        if not IPv4Address(network.interface).is_loopback:
            fix += ", network.ttl = 1 at the feeder, and the switch's querier"
        yield Finding("feeders", "warn", value, fix)


_REJECTED: Final = {
    "auth_missing": "the sender has no tags: give the feeder its key and network.authentication",
    "bad_auth": (
        "the sender has another key: the same TAPECAST_KEY_<VENUE> at both ends (docs/network.md,"
        " changing a key)"
    ),
    "other_source": "several senders on one channel, or one that network.sources does not list",
    "bad_magic": "something else sends to this group and port: another network.group_prefix",
    "bad_version": "a feeder of another release: the same tapecast at both ends",
}
