"""Rows in which a process or a host is struck: stopped, killed, cut off; and in which somebody
attacks.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

from tapecast import StatusReason, StatusState
from tapecast.protocol.codec import HEADER_STRUCT
from tapecast.protocol.net.io import Receiver, Sender
from tapecast.protocol.records import Header
from tapecast.protocol.schema import VENUES
from tapecast.runtime.channels import lines_of
from tests.reliability.rows import ms, row
from tests.reliability.stage import BTC, Stage
from tests.support.captures import captures
from tests.support.netns import Host, lan
from tests.support.packets import sealed
from tests.support.processes import Child, Net, signalled, tapecast, until
from tests.support.watch import Watch, load_sums, watching, wrong

__all__ = ["lan_row"]

SMALL = {"network.rcvbuf_bytes": 262_144}
"""A buffer that a stopped consumer fills at once."""
UPBIT = "upbit/cf_20210405_simple.jsonl"


def _last(child: Child) -> dict[str, Any]:
    assert child.running, child.stderr()[-2000:]
    return until(lambda: child.lines("state"), what="a state")[-1]


def _stopped(
    folder: Path, short: bool, seconds: float, settings: Mapping[str, object]
) -> tuple[dict[str, Any], str]:
    with Stage(folder, BTC, speed="20" if short else "2", settings=settings) as stage:
        child = stage.watcher("stopped", {**stage.near, **SMALL})
        stage.live()
        stage.until(lambda: _last(child)["live"] >= 1, what="the books of the one to be stopped")
        before = stage.witness.data
        with signalled(child.pid):
            if short:
                stage.more(3000)
            else:
                deadline = time.monotonic() + seconds
                stage.until(lambda: time.monotonic() > deadline, within_s=2 * seconds)
        missed = stage.witness.data - before
        stage.over()
        stage.same_books()
        state = stage.recovered(child)
        for other in (stage.witness, stage.subject):
            assert (other.feed.stats.lost, other.feed.stats.kernel_drops, other.gaps()) == (
                0,
                0,
                [],
            )
        places = stage.same_sums(child)
        stats = state["stats"]
        assert stats["kernel_drops"] > 0
        dropped, lag = (
            f"{stats['kernel_drops']:,} drops in its kernel buffer",
            ms(stage.witness.feed.stats.lag_p99_ns),
        )
        mended = (
            f"{stats['repaired']:,} repaired, {stats['lost']:,} given up; right in {places:,}"
            " places"
        )
        said = (
            f"{missed:,} events passed it by, {dropped}; {mended}; the others: 0 lost, lag p99"
            f" {lag}"
        )
        return stats, said


@row(
    "Consumer SIGSTOP for 30 s, then SIGCONT",
    "its loss is counted, its books come back equal; feeder and other consumers lose nothing",
)
def stopped_consumer(folder: Path, short: bool) -> str:
    """The kernel's buffer overflows; what is missing is asked for."""
    return _stopped(folder, short, 30.0, {})[1]


@row(
    "The same with a recovery ring of 64 KiB, which has forgotten most of it",
    "OVERRUN: the rest is a Gap; the book comes back by a snapshot with its join point, equal",
)
def overrun(folder: Path, short: bool) -> str:
    """What the ring no longer has is said at once."""
    stats, said = _stopped(folder, short, 15.0, {"recovery.ring_bytes": 65_536})
    assert stats["lost"] > 0
    return f"{said}; {stats['recovery'].get('overruns', 0)} overruns"


@row(
    "Feeder SIGKILL and restart, with 1 % loss on both lines",
    "new session: books cleared, never LIVE and stale, LIVE again from new snapshots; equal at"
    " the end",
)
def killed_feeder(folder: Path, short: bool) -> str:
    """The supervisor starts it again."""
    with Stage(
        folder, UPBIT, speed="12" if short else "4", ways=({"loss": 0.01}, {"loss": 0.01})
    ) as stage:
        stage.live(5)
        stage.more(100)
        os.kill(until(stage.feeder, what="the feeder"), signal.SIGKILL)
        start = time.monotonic()
        for watch in (stage.witness, stage.subject):
            stage.until(
                lambda one=watch: one.statuses(StatusState.LIVE, StatusReason.RESTART),
                what="the new session",
            )
        restarted = time.monotonic() - start
        stage.live(5)
        back = time.monotonic() - start
        stage.more(100)
        stage.over()
        stage.same_books()
        return (
            f"new session after {restarted:.1f} s, all books LIVE after {back:.1f} s (the"
            " supervisor waits 1 s first)"
        )


@row(
    "Interface of one of three consumers down and up, pulled and replaced, another address; two"
    " lines, keys, namespaces",
    "it is told of the silence and hears again by itself; its books equal; the other consumers lose"
    " nothing",
)
def lan_row(folder: Path, short: bool) -> str:
    """A publisher and three consumers on a switch."""
    net, key = Net(), {"TAPECAST_KEY_UPBIT": token_hex(32)}
    settings = {
        **net.settings,
        "network.line_b_prefix": f"{net.prefix.rpartition('.')[0]}.{251 + net.port % 4}",
    }
    feeder = {
        **settings,
        "network.ttl": 1,
        "feeder.heartbeat_idle_ms": 100,
        "feeder.heartbeat_max_ms": 200,
        "feeder.definition_cycle_s": 1.0,
        "feeder.snapshot_cycle_s": 0,
        "feeder.session_end_s": 0.2,
    }
    watches: list[Child] = []

    def heard(number: int, more: int = 20) -> float:
        """Wait until a consumer takes data and has its books, and return how long that took."""
        start = time.monotonic()
        wanted = _last(watches[number])["data"] + more
        until(
            lambda: (
                _last(watches[number])["data"] >= wanted and _last(watches[number])["live"] >= 5
            ),
            what="data and books",
        )
        return time.monotonic() - start

    with lan(4) as (publisher, *hosts):
        try:
            for number, host in enumerate(hosts):
                side = {**settings, "network.interface": host.address}
                watches.append(watching(folder, "upbit", side, f"watch{number}", host.prefix, key))
            feeder["network.interface"] = publisher.address
            words = ("up", "--replay", captures() / UPBIT, "--speed", "3", "--no-monitor")
            with tapecast(folder, *words, settings=feeder, prefix=publisher.prefix, environ=key):
                for number in range(3):
                    heard(number)
                took = _strike(hosts[0], watches[0], heard)
                for number in range(3):
                    heard(number)
                states = [_last(child) for child in watches]
                struck, spared, whole = (
                    load_sums(watches[number], live=number != 1) for number in (0, 2, 1)
                )
        finally:
            for child in watches:
                child.end()
    for state in states[1:]:
        assert (state["stats"]["lost"], state["gaps"], state["stats"]["invalid"]) == (0, 0, {})
    assert len(whole) > 100
    assert wrong(struck, whole) == wrong(spared, whole) == []
    return f"data and books again {took}; {states[0]['stats']['rejoins']} rejoins"


def _strike(host: Host, child: Child, heard: Callable[..., float]) -> str:
    host.down()
    until(
        lambda: _last(child)["statuses"].get("STALE TIMEOUT", 0) >= 1, what="the silence to be told"
    )
    host.up()
    up = heard(0)
    before = _last(child)["stats"]["rejoins"]
    host.replugged()
    replugged = heard(0)
    assert _last(child)["stats"]["rejoins"] > before
    host.readdressed("10.99.1.77")
    return (
        f"{up:.1f} s after up, {replugged:.1f} s after a new interface, {heard(0, 60):.1f} s after"
        " a new address"
    )


def _genuine(stage: Stage) -> bytes:
    """Return a market data packet as it passes."""
    receiver = Receiver(lines_of(stage.venue, stage.config(stage.near).network)[:1], rcvbuf=1 << 20)
    found: list[bytes] = []

    def look() -> bool:
        packets = [bytes(receiver.packet(n)) for n in range(receiver.receive())]
        found.extend(packet for packet in packets if packet[3] in (16, 17, 18))
        return bool(found)

    stage.until(look, what="a packet")
    receiver.close()
    return found[-1]


def _forgeries(packet: bytes, key: bytes | None) -> list[bytes]:
    """Return what a forger makes of a packet: wrong contents under higher numbers, far higher
    ones, and a newer session.
    """
    header = Header._make(HEADER_STRUCT.unpack_from(packet))
    body = packet[66 : 66 + header.payload_len]
    changes: list[dict[str, int]] = [
        {"channel_seq": header.channel_seq + 1},
        {"channel_seq": header.channel_seq + 500},
        {"channel_seq": header.channel_seq + 2**40},
        {"channel_seq": header.channel_seq + 2**40 + 1},
        {"session": header.session + 1000, "channel_seq": 1},
        {"session": header.session - 1000},
    ]
    out = []
    for change in changes:
        flags = header.flags & ~0x0800
        plain = HEADER_STRUCT.pack(*header._replace(**change, price_exp=0, flags=flags)) + body
        out.append(plain if key is None else sealed(plain, key))
    return out


def _forge(stage: Stage, packets: list[bytes], address: str) -> None:
    """Send forgeries to both lines behind the relay, which would pass them on as its own, again
    and again while data pass.
    """
    groups = lines_of(stage.venue, stage.config(stage.far).network)
    senders = [Sender(group, port, interface=address) for group, port in groups]
    for _ in range(20):
        for sender in senders:
            for packet in packets:
                sender._socket.sendto(packet, (sender.group, sender.port))
        stage.more(5)
    for sender in senders:
        sender.close()


def _untouched(stage: Stage) -> None:
    stage.over()
    stage.same_books()
    for watch in (stage.witness, stage.subject):
        assert (watch.feed.stats.lost, watch.gaps()) == (0, [])
        assert not watch.statuses(StatusState.LIVE, StatusReason.RESTART)
        assert not watch.statuses(StatusState.STALE, StatusReason.RESTART)


@row(
    "Forged packets from another address, without keys: higher numbers, 2^40 ahead, newer and older"
    " sessions",
    "dropped, counted, an alarm at most once a second; no book, session or sequence touched",
)
def forged_without_keys(folder: Path, short: bool) -> str:
    """Each line keeps to the sender that it was first heard from."""
    with Stage(folder, BTC, speed="20" if short else "8") as stage:
        stage.live()
        start = time.monotonic()
        _forge(stage, _forgeries(_genuine(stage), None), "127.0.0.2")
        took = time.monotonic() - start
        _untouched(stage)
        alarms = [
            one
            for one in stage.subject.told
            if getattr(one, "reason", None) == StatusReason.UNTRUSTED
        ]
        assert 1 <= len(alarms) <= took + 2
        dropped = stage.subject.feed.stats.invalid["other_source"]
        assert dropped >= 20 * 6
        return f"{dropped:,} dropped, {len(alarms)} alarms in {took:.1f} s"


@row(
    "Forged packets with keys: no tag, a tag under another key; and genuine packets of the session"
    " played back",
    "dropped and counted, no downgrade; no book, session or sequence touched",
)
def forged_with_keys(folder: Path, short: bool) -> str:
    """Sent from the publisher's own address, so that nothing but the tag tells."""
    with Stage(folder, BTC, speed="20" if short else "8", keys=True) as stage:
        stage.live()
        packet = _genuine(stage)
        plain = _forgeries(packet, None)
        _forge(stage, [*plain, *_forgeries(packet, bytes(32)), packet], "127.0.0.1")
        _untouched(stage)
        invalid = stage.subject.feed.stats.invalid
        assert invalid["auth_missing"] >= 20 * 6
        assert invalid["bad_auth"] >= 20 * 6
        untagged, wrong_tag = invalid["auth_missing"], invalid["bad_auth"]
        return (
            f"{untagged:,} without a tag and {wrong_tag:,} with a wrong one dropped; what was"
            " played back were duplicates"
        )


@row(
    "Recovery service under attack: 20 clients of junk, 20 that ask without end and never read,"
    " reconnecting",
    "they are refused, limited and closed; losses are repaired meanwhile; other consumers lose"
    " nothing",
)
def attack(folder: Path, short: bool) -> str:
    """By a process of its own, with 2 % loss on both lines of the subject."""
    with Stage(
        folder, BTC, speed="10" if short else "3", ways=({"loss": 0.02}, {"loss": 0.02})
    ) as stage:
        stage.live()
        calm = _lag(stage, 1500)
        service = stage.subject.feed._reader._sequencer.channel(VENUES["binance"]).service
        command = [sys.executable, "-m", "tests.reliability.attacker", service[0], str(service[1])]
        attacker = stage.start(Child(command, folder, "attacker", {}))
        attacker.expect("begun")
        before = stage.subject.feed.stats.repaired
        busy = _lag(stage, 1500)
        stage.over()
        attacker.end()
        stage.same_books()
        for watch in (stage.witness, stage.subject):
            assert watch.feed.stats.kernel_drops == 0
        assert stage.witness.feed.stats.lost == 0
        done = attacker.lines("done")[-1]
        assert done["connections"] > 40
        stats = stage.subject.feed.stats
        fought = f"{done['connections']:,} connections, {done['closed']:,} closed on them"
        mended = f"{stats.repaired - before} repaired meanwhile, {stats.lost} given up"
        lag = (
            f"lag of another consumer p50 {ms(calm[0])} → {ms(busy[0])}, p99 {ms(calm[1])} →"
            f" {ms(busy[1])}"
        )
        return f"{fought}; {mended}; {lag}"


def _lag(stage: Stage, count: int) -> tuple[int | None, int | None]:
    """Return a fresh consumer's lag over so many events."""
    probe = Watch(stage.venue, stage.config(stage.near))
    try:
        wanted = stage.witness.data + count
        quiet = time.monotonic() + 20.0
        stage.until(lambda: stage.witness.data >= wanted or time.monotonic() > quiet, probe)
        stats = probe.feed.stats
        return stats.lag_p50_ns, stats.lag_p99_ns
    finally:
        probe.close()
