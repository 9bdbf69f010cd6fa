"""`tapecast monitor udp` over real multicast on loopback."""

from __future__ import annotations

import io
import json
import os
import threading

import pytest

from tapecast.cli import main
from tapecast.monitors.command import watch
from tapecast.protocol.net.io import Receiver

# The lines are text, not packets: any UDP socket sends them.
import socket  # isort: skip

GROUP = f"239.{192 + os.getpid() % 60}.252.250"
PORT = 20000 + os.getpid() % 10000


def send(*lines: str) -> None:
    """Send lines to the monitoring group, one datagram each."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
        for line in lines:
            out.sendto(line.encode(), (GROUP, PORT))


def test_lines_of_the_group_reach_the_table() -> None:
    """What a feeder announces is in the text and in the JSON form."""
    for as_json in (False, True):
        receiver = Receiver([(GROUP, PORT)], gro=False, slots=64, rcvbuf=1 << 20)
        send(
            "CONN|okx|1|0|2|3", "EXCHANGE|okx|feed|trade=12,book=340|1723161255030314667", "garbage"
        )
        out = io.BytesIO()
        watch(receiver, out, json=as_json, in_place=False, seconds=0.2, once=True)
        receiver.close()
        if as_json:
            view = json.loads(out.getvalue())
            assert view["rows"][0]["counts"] == {"trade": 12, "book": 340}
            assert (view["lines"], view["malformed"]) == (3, 1)
        else:
            assert b"okx       partial   1" in out.getvalue()
            assert b"1 malformed, last: 'garbage'" in out.getvalue()


def test_the_screen_is_redrawn_every_second() -> None:
    """Running on, a block a second; in place on a terminal."""
    receiver = Receiver([(GROUP, PORT)], gro=False, slots=64, rcvbuf=1 << 20)
    out = io.BytesIO()
    timer = threading.Timer(0.3, send, ("CONN|upbit|1|0|0",))
    timer.start()
    watch(receiver, out, json=False, in_place=True, seconds=2.1, once=False)
    timer.join()
    receiver.close()
    screens = out.getvalue().split(b"\x1b[H\x1b[J")[1:]
    assert len(screens) == 2
    assert b"upbit" in screens[0]


def test_the_command_ends_after_its_seconds(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """`monitor udp --once --json` prints one line and ends with 0."""
    code = main(
        [
            "monitor",
            "udp",
            "--json",
            "--once",
            "--seconds",
            "0.1",
            "--set",
            f"network.monitor_group={GROUP}",
        ]
    )
    assert code == 0
    (line,) = capsysbinary.readouterr().out.splitlines()
    assert json.loads(line)["rows"] == []
