"""The lossy way of the fault tests does what it says: by seed, in the shares asked for, counted,
in UDP and TCP.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tapecast.protocol.codec import validate
from tapecast.protocol.net.io import Receiver, Sender
from tests.support.faults import PacketFaults, StreamFaults, Way, Wire
from tests.support.packets import fields, heartbeat, packet, sealed
from tests.support.processes import Child, Net, until

KEY = bytes(range(32))
ROUGH = Way(
    loss=0.05, burst=0.01, burst_length=5, duplicate=0.1, reorder=0.1, corrupt=0.05, truncate=0.02
)


def fates(
    seed: int, way: Way = ROUGH, count: int = 20_000
) -> tuple[list[tuple[bytes, float]], PacketFaults]:
    """Return what arrives of numbered datagrams."""
    faults = PacketFaults(seed, way)
    return [
        tuple(copy) for n in range(count) for copy in faults.take(n.to_bytes(4, "big") * 20)
    ], faults


def test_a_seed_decides_everything() -> None:
    """The same seed gives the same losses, copies, delays and flips; another gives others."""
    first, again, other = fates(1)[0], fates(1)[0], fates(2)[0]
    assert first == again
    assert first != other


def test_a_changed_fault_leaves_the_others_decisions() -> None:
    """Without duplicates the same packets are lost."""
    lost = [
        {data for data, _ in fates(3, way)[0]}
        for way in (Way(loss=0.05), Way(loss=0.05, duplicate=0.5))
    ]
    assert lost[0] == lost[1]


def test_faults_come_in_the_shares_asked_for_and_are_counted() -> None:
    """Each within a fifth of what was asked for; what was taken is lost or passed."""
    arrived, faults = fates(4)
    counts, taken = faults.counts, 20_000
    assert counts["taken"] == taken
    assert (
        counts["passed"]
        == len(arrived)
        == taken - counts["lost"] - counts["lost_in_bursts"] + counts["duplicated"]
    )
    left = taken - counts["lost_in_bursts"]
    for name, share in (
        ("lost", 0.05),
        ("duplicated", 0.1),
        ("delayed", 0.1),
        ("corrupted", 0.05),
        ("truncated", 0.02),
    ):
        assert counts[name] / left == pytest.approx(share, rel=0.2), name
    assert counts["lost_in_bursts"] / taken == pytest.approx(0.05, rel=0.25)


@contextmanager
def relay(folder: Path, plan: dict[str, object]) -> Iterator[Child]:
    """A relay for the length of the block."""
    path = folder / "plan.json"
    path.write_text(json.dumps(plan))
    with Child(
        [sys.executable, "-m", "tests.support.relay", str(path)], folder, "relay", {}
    ) as child:
        child.expect("ready")
        yield child


def received(receiver: Receiver, count: int) -> list[bytes]:
    """Return the datagrams that come, at least so many."""
    out: list[bytes] = []

    def look() -> bool:
        out.extend(bytes(receiver.packet(n)) for n in range(receiver.receive(0.05)))
        return len(out) >= count

    until(look)
    return out


def test_two_lines_lose_what_the_plan_says(net: Net, tmp_path: Path) -> None:
    """One line passes everything, the other loses half; after SIGHUP it is the other way round."""
    groups = [f"{net.prefix}.{n}" for n in range(1, 5)]
    ways = [{}, {"loss": 0.5}]

    def plan() -> dict[str, object]:
        lines = [
            {"from": [groups[n], net.port], "to": [groups[n + 2], net.port], "way": ways[n]}
            for n in (0, 1)
        ]
        return {"seed": 5, "lines": lines}

    receivers = [Receiver([(group, net.port)], rcvbuf=1 << 20) for group in groups[2:]]
    senders = [Sender(group, net.port) for group in groups[:2]]
    block = b"".join(packet(n) for n in range(1, 201))
    with relay(tmp_path, plan()) as child:
        for sender in senders:
            sender.send(block, len(block))
        assert b"".join(received(receivers[0], 200)) == block
        half = received(receivers[1], 60)
        ways.reverse()
        (tmp_path / "plan.json").write_text(json.dumps(plan()))
        child.send(signal.SIGHUP)
        child.expect("reloaded")
        senders[1].send(block, len(block))
        assert len(half + received(receivers[1], 200)) < 400
        child.end()
        lines = child.lines("counts")[-1]["lines"]
        assert lines[0] == {"taken": 200, "passed": 200}
        assert lines[1]["taken"] == 400
        assert 60 <= lines[1]["lost"] == 400 - lines[1]["passed"]
    for one in (*receivers, *senders):
        one.close()


@pytest.mark.parametrize("key", [None, KEY])
def test_heartbeats_name_the_relays_port(net: Net, tmp_path: Path, key: bytes | None) -> None:
    """A consumer is led through the relay to the service that the heartbeat named, with tags and
    without; pieces may be cut.
    """
    service = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_answer, args=(service,), daemon=True).start()
    line = {"from": [f"{net.prefix}.1", net.port], "to": [f"{net.prefix}.2", net.port]}
    tcp = {
        "listen": 0,
        "to": ["127.0.0.1", 0],
        "wire": {"delay_s": 0.001},
        "key": key.hex() if key else None,
    }
    beat = bytearray(heartbeat(7))
    beat[66 + 28 : 66 + 30] = service.getsockname()[1].to_bytes(2, "little")
    receiver, sender = (
        Receiver([(f"{net.prefix}.2", net.port)], rcvbuf=1 << 20),
        Sender(f"{net.prefix}.1", net.port),
    )
    with relay(tmp_path, {"seed": 6, "lines": [line], "tcp": tcp}) as child:
        data = sealed(bytes(beat), key) if key else bytes(beat)
        sender.send(data, len(data))
        (told,) = received(receiver, 1)
        assert validate(told, keys=[key] if key else []) is None
        assert fields(told)["channel_seq"] == 7
        port = int.from_bytes(told[66 + 28 : 66 + 30], "little")
        assert port == child.lines("ready")[0]["tcp"]
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(b"abc")
            assert client.recv(3) == b"cba"
        child.end()
        assert child.lines("counts")[-1]["tcp"]["bytes"] == 6
    for one in (receiver, sender, service):
        one.close()


def _answer(service: socket.socket) -> None:
    connection, _ = service.accept()
    with connection:
        connection.sendall(connection.recv(3)[::-1])


def test_connections_are_cut_corrupted_and_stalled() -> None:
    """In the shares asked for; what is cut is shorter, what is stalled passes nothing."""
    faults = StreamFaults(7, Wire(refuse=0.2, cut=0.1, corrupt=0.2, stall=0.05, delay_s=0.01))
    accepted = sum(faults.accept() for _ in range(1000))
    parts = [faults.take(b"x" * 100) for _ in range(5000)]
    assert accepted / 1000 == pytest.approx(0.8, rel=0.2)
    assert sum(part.close for part in parts) / 5000 == pytest.approx(0.1, rel=0.2)
    assert sum(part.stall and not part.close for part in parts) / 5000 == pytest.approx(
        0.045, rel=0.3
    )
    assert all(len(part.data) <= 100 for part in parts)
    assert all(part.data == b"" for part in parts if part.stall and not part.close)
    assert faults.counts["corrupted"] / 5000 == pytest.approx(0.2, rel=0.2)
