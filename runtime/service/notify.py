"""Notifies the service manager: ready, status, stopping, and that the loop which handles data
still turns.

The protocol of systemd's `sd_notify(3)`: one datagram a message to the UNIX socket named by
`$NOTIFY_SOCKET`, a path or, with `@` in front, a name of the abstract namespace. Without that
variable nothing is sent. A datagram that cannot be sent is counted and never waits or raises:
the manager decides what silence means.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

__all__ = ["Notifier"]


class Notifier:
    """Sends to the service manager that started this process, if one did."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """Read the environment (None = this process's)."""
        variables = os.environ if environ is None else environ
        address = variables.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            if address
            else None
        )
        if self._socket is not None:
            self._socket.setblocking(False)
        self.watchdog_s = _watchdog_s(variables) if address else None
        """The manager restarts a process that sends nothing for so long; None = it does not
        watch.
        """
        self.failures = 0
        self._status = ""

    def ready(self) -> None:
        """Report that the service is up."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Report in a line what it does, when that has changed."""
        line = " ".join(text.split())
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def watchdog(self) -> None:
        """Report that it is alive."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that it ends."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            self.failures += 1


def _watchdog_s(variables: Mapping[str, str]) -> float | None:
    """Return the interval that the manager asks of this process (`WATCHDOG_PID`, where given,
    says whether it means this one).
    """
    interval, pid = variables.get("WATCHDOG_USEC", ""), variables.get("WATCHDOG_PID", "")
    if not interval.isdecimal() or int(interval) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(interval) / 1e6
