"""`runtime.service.notify` against a real datagram socket: what a service manager reads, and
that nobody waits for one that does not.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tapecast.runtime.service.notify import Notifier


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    """A service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.setblocking(False)
        yield listener


@pytest.fixture(params=["path", "abstract"])
def listening(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[socket.socket, str]]:
    """Return a manager's socket, and what `$NOTIFY_SOCKET` calls it."""
    if request.param == "path":
        name = address = str(tmp_path / "notify")
    else:
        name = f"@tapecast-{os.getpid()}"
        address = "\0" + name[1:]
    with manager(address) as listener:
        yield listener, name


def heard(listener: socket.socket) -> list[str]:
    """Return the messages so far."""
    found = []
    while True:
        try:
            found.append(listener.recv(4096).decode())
        except BlockingIOError:
            return found


def test_messages_are_those_of_the_protocol(listening: tuple[socket.socket, str]) -> None:
    """Each is one datagram; a status is one line, and is sent only when it changes."""
    listener, name = listening
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready()
    notifier.status("okx: 3 of 3 connections\nREADY=0")
    notifier.status("okx: 3 of 3 connections READY=0")
    notifier.watchdog()
    notifier.stopping()
    notifier.close()
    notifier.watchdog()
    assert heard(listener) == [
        "READY=1",
        "STATUS=okx: 3 of 3 connections READY=0",
        "WATCHDOG=1",
        "STOPPING=1",
    ]
    assert notifier.failures == 0


def test_without_a_manager_nothing_is_sent() -> None:
    """No variable, no socket, no watchdog."""
    notifier = Notifier({"WATCHDOG_USEC": "1000000"})
    notifier.ready()
    notifier.watchdog()
    assert (notifier.watchdog_s, notifier.failures) == (None, 0)
    notifier.close()


def test_a_manager_that_is_gone_or_does_not_read_costs_a_count(tmp_path: Path) -> None:
    """A full or missing socket never waits and never raises."""
    gone = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    gone.ready()
    assert gone.failures == 1
    gone.close()
    with manager(str(tmp_path / "deaf")):
        deaf = Notifier({"NOTIFY_SOCKET": str(tmp_path / "deaf")})
        for _ in range(10_000):
            deaf.watchdog()
        assert 0 < deaf.failures < 10_000
        deaf.close()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_the_one_of_this_process(
    variables: dict[str, str], expected: float | None, tmp_path: Path
) -> None:
    """The interval in seconds; another process's is not ours, and what is no number is none."""
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), **variables})
    assert notifier.watchdog_s == expected
    notifier.close()
