"""Network namespaces for tests: a host of one's own without any network, or two hosts joined by a cable.

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

__all__ = ["Host", "alone", "cable"]


class Host(NamedTuple):
    """Where a process runs: the words to put before its command, and the address it has there."""

    prefix: tuple[str, ...]
    address: str


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")


def _need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"no network namespaces here: {tool} is not installed")


def alone() -> Host:
    """Return a host that has loopback and nothing else; each process started there is in a namespace of its own."""
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
            _run("ip", "-n", first, "link", "add", "cable0", "type", "veth", "peer", "name", "cable0", "netns", second)
            for number, name in enumerate(names, 1):
                _run("ip", "-n", name, "address", "add", f"10.99.0.{number}/24", "dev", "cable0")
                for device in ("lo", "cable0"):
                    _run("ip", "-n", name, "link", "set", device, "up")
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        a, b = (Host(("ip", "netns", "exec", name), f"10.99.0.{number}") for number, name in enumerate(names, 1))
        yield a, b
    finally:
        for name in made:
            _run("ip", "netns", "delete", name)
