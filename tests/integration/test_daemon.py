"""A feeder as a service manager runs it: what it tells the manager, how it ends, and with which
exit code.

The manager is a datagram socket of the test, the venue a replay server; nothing leaves the host.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tapecast.protocol.codec import decode
from tapecast.protocol.net.io import Receiver
from tapecast.protocol.records import Header
from tapecast.protocol.schema import VENUES, MsgType
from tapecast.runtime import config as configuration
from tapecast.runtime.channels import lines_of
from tests.integration.test_record import asked, served
from tests.support.captures import captures
from tests.support.processes import Child, Net, free_port, until

Start = Callable[..., Child]
UPBIT = "upbit/cf_20210405_simple.jsonl"
HARDENED = (
    sys.executable,
    "-c",
    (
        "import ctypes, os, sys; call = ctypes.CDLL(None).prctl; call(38, 1, 0, 0, 0); call(65, 1,"
        " 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])"
    ),
)
"""Before a command: `NoNewPrivileges=` and, where the kernel has it (6.3),
`MemoryDenyWriteExecute=` (prctl(2)).
"""


class Manager:
    """A service manager's ear, on a name of the abstract namespace."""

    def __init__(self) -> None:
        """Listen."""
        self.name = f"tapecast-test-{os.getpid()}-{free_port()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.name)
        self._socket.setblocking(False)
        self._heard: list[str] = []

    @property
    def environ(self) -> dict[str, str]:
        """What it sets for its service."""
        return {"NOTIFY_SOCKET": f"@{self.name}", "WATCHDOG_USEC": "2000000"}

    def heard(self) -> list[str]:
        """Return everything so far."""
        while True:
            try:
                self._heard.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self._heard

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    """Return a manager."""
    one = Manager()
    yield one
    one.close()


def test_a_feeder_tells_its_manager_and_ends_with_its_session(
    start: Start, net: Net, manager: Manager
) -> None:
    """READY with the first data, the watchdog is fed, SIGTERM: STOPPING, SESSION_END as the last
    of the channel, exit code 0.
    """
    server, settings = served(start, "upbit", captures() / UPBIT, speed="30")
    network = configuration.load(net.overlay(), environ={}).network
    receiver = Receiver(lines_of("upbit", network), interface=network.interface, rcvbuf=8 << 20)
    headers: list[Header] = []

    def listen() -> list[Header]:
        while count := receiver.receive(0.0):
            headers.extend(decode(receiver.packet(index)).header for index in range(count))
        return headers

    ends = {"feeder.session_end_s": "0.3"}
    feeder = start(
        "feed", "upbit", settings={**settings, **ends}, environ=manager.environ, prefix=HARDENED
    )
    until(lambda: listen() and "READY=1" in manager.heard())
    until(lambda: manager.heard().count("WATCHDOG=1") >= 2)
    until(lambda: any("1 of 1 connections" in line for line in manager.heard()))
    assert server.lines("end") == []
    feeder.send(signal.SIGTERM)
    assert feeder.wait(20.0) == 0
    assert manager.heard().count("READY=1") == 1
    assert "STOPPING=1" in manager.heard()
    kinds = [MsgType(header.msg_type) for header in listen()]
    first = kinds.index(MsgType.SESSION_END)
    assert kinds[first:].count(MsgType.SESSION_END) >= 2
    assert set(kinds[first:]) == {MsgType.SESSION_END}
    assert (
        headers[-1].channel_seq
        == headers[first].channel_seq
        == max(header.channel_seq for header in headers)
    )


def test_a_venue_that_cannot_be_reached_is_told_and_tried(
    start: Start, net: Net, manager: Manager
) -> None:
    """The service comes up all the same, its status and its health say what is wrong, and it
    still ends well.
    """
    closed, base = free_port(), free_port()
    settings = {
        "venues.upbit.endpoints.ws": f"ws://127.0.0.1:{closed}",
        "venues.upbit.endpoints.rest": f"http://127.0.0.1:{closed}",
        "service.ready_after_s": "0.5",
        "feeder.symbols_per_connection": "10000",
        "service.port_base": str(base),
        "feeder.session_end_s": "0",
    }
    feeder = start("feed", "upbit", settings=settings, environ=manager.environ)
    until(lambda: "READY=1" in manager.heard())
    until(lambda: any("0 of 1 connections" in line for line in manager.heard()), within_s=30.0)
    status, told = asked(f"http://127.0.0.1:{base + VENUES['upbit']}/healthz")
    assert status == 503
    assert "upbit: no connection to the venue" in told["reasons"]
    assert feeder.end() == 0


@pytest.mark.parametrize("command", ["feed", "record"])
def test_a_wrong_configuration_ends_with_2_and_is_not_ready(
    command: str, start: Start, manager: Manager
) -> None:
    """The unit's RestartPreventExitStatus names this code: starting again would change nothing."""
    child = start(command, "upbit", settings={"record.rotate_mb": "many"}, environ=manager.environ)
    assert child.wait() == 2
    assert "record.rotate_mb = 'many': expected" in child.stderr()
    assert start(command, "nowhere", environ=manager.environ).wait() == 2
    assert manager.heard() == []


def test_log_files_are_written_where_configured(start: Start, tmp_path: Path) -> None:
    """With a folder, narration is JSON lines in the process's own file, and stderr stays empty."""
    server, settings = served(start, "upbit", captures() / UPBIT)
    feeder = start("feed", "upbit", settings={**settings, "log.dir": str(tmp_path / "logs")})
    server.expect("end", 60.0)
    assert feeder.end() == 0
    assert feeder.stderr() == ""
    assert '"event":"connected"' in (tmp_path / "logs" / "feed-upbit.log").read_text()
