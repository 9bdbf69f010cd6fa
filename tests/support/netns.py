"""Network namespaces for tests: a host of one's own without any network, two hosts joined by a
cable, or several on a switch.

Where the kernel or the rights do not allow it, the calling test is skipped with the reason.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest

__all__ = ["Host", "alone", "cable", "lan"]


class Host(NamedTuple):
    """Where a process runs: the words to put before its command, and the address it has there."""

    prefix: tuple[str, ...]
    address: str
    name: str = ""
    """Of its namespace, where it has a cable."""

    def down(self) -> None:
        """Take its interface down."""
        _run("ip", "-n", self.name, "link", "set", "cable0", "down")

    def up(self) -> None:
        """Take its interface up again."""
        _run("ip", "-n", self.name, "link", "set", "cable0", "up")

    def readdressed(self, address: str) -> Host:
        """Give its interface another address, and return the host with it."""
        _run("ip", "-n", self.name, "address", "del", f"{self.address}/24", "dev", "cable0")
        _run("ip", "-n", self.name, "address", "add", f"{address}/24", "dev", "cable0")
        return self._replace(address=address)

    def replugged(self) -> None:
        """Pull its cable, interface and all, and put in another one with the same address."""
        _run("ip", "-n", self.name, "link", "delete", "cable0")
        _plug(self)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")


def _need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"no network namespaces here: {tool} is not installed")


def alone() -> Host:
    """Return a host that has loopback and nothing else; each process started there is in a
    namespace of its own.
    """
    _need("unshare", "ip")
    rights: Sequence[str] = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    prefix = ("unshare", *rights, "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    try:
        _run(*prefix, "true")
    except OSError as error:
        pytest.skip(f"no network namespaces here: {error}")
    return Host(prefix, "127.0.0.1")


@contextlib.contextmanager
def cable() -> Iterator[tuple[Host, Host]]:
    """Two hosts joined by a veth pair, for the length of the block; needs root."""
    _need("ip")
    names = [f"tapecast-{os.getpid()}-{side}" for side in "ab"]
    made: list[str] = []
    try:
        try:
            for name in names:
                _run("ip", "netns", "add", name)
                made.append(name)
            first, second = names
            _run(
                "ip",
                "-n",
                first,
                "link",
                "add",
                "cable0",
                "type",
                "veth",
                "peer",
                "name",
                "cable0",
                "netns",
                second,
            )
            for number, name in enumerate(names, 1):
                _run("ip", "-n", name, "address", "add", f"10.99.0.{number}/24", "dev", "cable0")
                for device in ("lo", "cable0"):
                    _run("ip", "-n", name, "link", "set", device, "up")
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        a, b = (
            Host(("ip", "netns", "exec", name), f"10.99.0.{number}", name)
            for number, name in enumerate(names, 1)
        )
        yield a, b
    finally:
        for name in made:
            _run("ip", "netns", "delete", name)


@contextlib.contextmanager
def lan(count: int) -> Iterator[list[Host]]:
    """Several hosts on a switch of their own, for the length of the block; needs root and a
    kernel with bridges.
    """
    _need("ip")
    names = [f"tapecast-{os.getpid()}-{number}" for number in range(count + 1)]
    made: list[str] = []
    try:
        try:
            for name in names:
                _run("ip", "netns", "add", name)
                made.append(name)
                _run("ip", "-n", name, "link", "set", "lo", "up")
            _run("ip", "-n", names[0], "link", "add", "switch0", "type", "bridge")
            _run("ip", "-n", names[0], "link", "set", "switch0", "up")
            hosts = [
                Host(("ip", "netns", "exec", name), f"10.99.1.{number}", name)
                for number, name in enumerate(names)
            ][1:]
            for host in hosts:
                _plug(host)
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield hosts
    finally:
        for name in made:
            _run("ip", "netns", "delete", name)


def _plug(host: Host) -> None:
    """Join a host to the switch of its `lan`."""
    stem, _, number = host.name.rpartition("-")
    switch, port = f"{stem}-0", f"port{number}"
    _run(
        "ip",
        "-n",
        switch,
        "link",
        "add",
        port,
        "type",
        "veth",
        "peer",
        "name",
        "cable0",
        "netns",
        host.name,
    )
    _run("ip", "-n", switch, "link", "set", port, "master", "switch0", "up")
    _run("ip", "-n", host.name, "address", "add", f"{host.address}/24", "dev", "cable0")
    _run("ip", "-n", host.name, "link", "set", "cable0", "up")
