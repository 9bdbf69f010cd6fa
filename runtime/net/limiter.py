"""What a venue grants one host, or one account, in a time: connects, request weight, orders;
shared by all processes of the host, bans included.

`Rate` and `grant` are the arithmetic, sans-I/O: one number, the time at which everything granted
so far is paid off, holds the whole state. `HostLimiter` keeps that number and the ban of each
kind in a small file under a lock of the kernel, on the monotonic clock, which all processes of a
host share; a process that dies holds no lock and loses no ban. Decision record 0006. Feeders and
order management that run on one host open the same venue's file, so that they cannot exceed its
limits together; what the venue grants an account (its orders) is a file of that account. It does
not decide what is sent: callers ask before they connect or request, and wait.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tapecast.protocol.units import NS_PER_S
from tapecast.runtime import logs

__all__ = ["CONNECT", "REST", "HostLimiter", "Rate", "grant"]

CONNECT, REST = "connect", "rest"
"""The kinds of a venue's own limits, per IP address."""
_LONGEST_BAN_NS = 3 * 86_400 * NS_PER_S
_RETRY_S = 0.002
_COMPLAIN_S = 5.0
_LONGEST_PAUSE_NS = 10 * NS_PER_S
"""Of a window that the venue says is used up; its next answer tells more."""
_MAGIC = b"TCLIMIT1"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

log = logs.get("runtime.net.limiter")


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in any window: `burst` at once, each further one `unit_ns` later."""

    unit_ns: int
    burst: int
    window_ns: int

    @classmethod
    def of(cls, count: float, window_s: float) -> Rate:
        """Return the rate that never grants more than `count` within any window; a quarter of
        them may go at once.
        """
        whole = max(1, int(count))
        burst = max(1, whole // 4)
        window_ns = round(window_s * NS_PER_S)
        return cls(-(-window_ns // (whole - burst + 1)), burst, window_ns)


def grant(paid_ns: int, weight: int, rate: Rate, now_ns: int) -> tuple[int, int]:
    """Return the new `paid_ns` and 0 where `weight` is granted now, else the old one and how
    long to wait.

    `paid_ns` is when all that was granted is paid off. What weighs more than a burst waits until
    everything is, and is charged in full.
    """
    start = max(paid_ns, now_ns)
    wait = start + (min(weight, rate.burst) - rate.burst) * rate.unit_ns - now_ns
    if wait > 0:
        return paid_ns, wait
    return start + weight * rate.unit_ns, 0


@dataclass(slots=True)
class _Entry:
    """The state of one kind."""

    paid_ns: int = 0
    ban_ns: int = 0
    """End of the ban on the monotonic clock."""
    ban_utc_ns: int = 0
    """The same in UTC: the monotonic clock begins anew with the host."""


class HostLimiter:
    """The limits of one venue, or of one account there, on this host; one a process is enough.
    Without a file they are this object's alone.

    Kinds are the names of `rates`; each method raises KeyError for another one. All processes
    that share a file give it the same names. Raises OSError where the file cannot be made.
    """

    def __init__(self, path: Path | None, rates: Mapping[str, Rate]) -> None:
        self._path = path
        self._rates = dict(sorted(rates.items()))
        self._entries = {kind: _Entry() for kind in self._rates}
        self._record = struct.Struct(f"<8s36s{3 * len(self._rates)}qI")
        self._file: int | None = None
        self._boot = _boot_id()
        self._failed = False
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open(path)

    @classmethod
    def of(
        cls, state_dir: Path | None, venue: str, limits: Mapping[str, int | float]
    ) -> HostLimiter:
        """Return a venue's limiter, of kinds CONNECT and REST, from the limits of its
        configuration; `state_dir` None = for this process alone.
        """
        rates = {
            CONNECT: Rate.of(limits.get("connects", 1), limits.get("connects_window_s", 1)),
            REST: Rate.of(limits.get("rest_weight", 60), limits.get("rest_window_s", 60)),
        }
        return cls(None if state_dir is None else state_dir / "limits" / venue, rates)

    @classmethod
    def of_account(
        cls, state_dir: Path | None, venue: str, account: str, rates: Mapping[str, Rate]
    ) -> HostLimiter:
        """Return the limiter of what a venue grants one account, whoever uses it on this host;
        `account` is its name in the configuration, not a key.
        """
        file = f"{venue}@{account}"
        return cls(None if state_dir is None else state_dir / "limits" / file, rates)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    async def acquire(self, kind: str, weight: int = 1) -> None:
        """Return when no ban holds and `weight` is granted; a ban that comes meanwhile holds
        too.
        """
        held_since = None
        reported = False
        while True:
            wait_ns = self.take(kind, weight)
            if not reported and self.banned_s(kind) > _COMPLAIN_S:
                reported = True
                log.error(
                    "venue_ban_holds",
                    what=kind,
                    file=str(self._path),
                    wait_s=round(self.banned_s(kind)),
                )
            if wait_ns == 0:
                return
            if wait_ns is not None:
                held_since = None
                await asyncio.sleep(wait_ns / NS_PER_S)
                continue
            held_since = held_since or time.monotonic()
            if time.monotonic() - held_since > _COMPLAIN_S:
                log.error("limits_locked", file=str(self._path))
                held_since = time.monotonic()
            await asyncio.sleep(_RETRY_S)

    def take(self, kind: str, weight: int = 1) -> int | None:
        """Return 0 where `weight` is granted, else how long to wait in ns; None: another process
        is at it, ask again.
        """
        if not self._begin():
            return None
        try:
            now_ns = time.monotonic_ns()
            entry = self._entries[kind]
            if entry.ban_ns > now_ns:
                return entry.ban_ns - now_ns
            entry.paid_ns, wait_ns = grant(entry.paid_ns, weight, self._rates[kind], now_ns)
            return wait_ns
        finally:
            self._end()

    def ban(self, kind: str, seconds: float) -> None:
        """Note that the venue accepts nothing of this kind for so long; a ban never shrinks."""
        length = min(int(seconds * NS_PER_S), _LONGEST_BAN_NS)
        entry = self._entries[kind]
        entry.ban_ns = max(entry.ban_ns, time.monotonic_ns() + length)
        entry.ban_utc_ns = max(entry.ban_utc_ns, time.time_ns() + length)
        for _ in range(3):
            if self._begin():
                self._end()
                return
        # Kept by this process, and written with its next request.

    def banned_s(self, kind: str) -> float:
        """Return how long a ban still holds, as far as this process knows."""
        return max(0.0, (self._entries[kind].ban_ns - time.monotonic_ns()) / NS_PER_S)

    def left(self, kind: str, count: int) -> None:
        """Note that the venue says `count` are left of its window: somebody else asks from this
        address too.
        """
        rate = self._rates[kind]
        if count >= rate.burst or not self._begin():
            return
        entry, now_ns = self._entries[kind], time.monotonic_ns()
        entry.paid_ns = max(entry.paid_ns, now_ns + (rate.burst - max(0, count)) * rate.unit_ns)
        if count <= 0:
            pause_ns = min(rate.window_ns, _LONGEST_PAUSE_NS)
            entry.ban_ns = max(entry.ban_ns, now_ns + pause_ns)
            entry.ban_utc_ns = max(entry.ban_utc_ns, time.time_ns() + pause_ns)
        self._end()

    # the file

    def _open(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _begin(self) -> bool:
        """Lock the file and take over what it says; False: another process has the lock."""
        if self._path is None or self._file is None:
            return True
        try:
            # Removed by an operator: the other processes have, or will make, another one.
            if os.fstat(self._file).st_nlink == 0:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                removed = self._file
                self._open(self._path)
                os.close(removed)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read(os.pread(self._file, self._record.size, 0))
        except BlockingIOError:
            return False
        except OSError as error:
            self._alone(error)
        return True

    def _end(self) -> None:
        """Write, and let others on."""
        if self._file is None:
            return
        numbers = [
            number
            for entry in self._entries.values()
            for number in (entry.paid_ns, entry.ban_ns, entry.ban_utc_ns)
        ]
        head = self._record.pack(_MAGIC, self._boot, *numbers, 0)[:-4]
        try:
            os.pwrite(self._file, head + zlib.crc32(head).to_bytes(4, "little"), 0)
        except OSError as error:
            self._alone(error)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _alone(self, error: OSError) -> None:
        """Note that the file fails: a full or broken disk must not end the feed. This process
        keeps to the limits by itself.
        """
        if not self._failed:
            log.error("limits_not_shared", file=str(self._path), error=str(error))
        self._failed = True

    def _read(self, data: bytes) -> None:
        """Take over a file's record. One of another boot leaves its bans; one that is damaged
        leaves nothing granted at once.
        """
        if not data:
            return
        now_ns, utc_ns = time.monotonic_ns(), time.time_ns()
        numbers: list[int] = [0] * (3 * len(self._rates))
        boot, whole = b"", False
        if len(data) == self._record.size:
            magic, boot, *numbers, check = self._record.unpack(data)
            whole = magic == _MAGIC and zlib.crc32(data[:-4]) == check
        for position, (kind, rate) in enumerate(self._rates.items()):
            entry = self._entries[kind]
            paid_ns, ban_ns, ban_utc_ns = numbers[3 * position : 3 * position + 3]
            if not whole or boot != self._boot:
                paid_ns = now_ns + rate.burst * rate.unit_ns
                ban_ns = now_ns + ban_utc_ns - utc_ns if whole else 0
            entry.paid_ns = paid_ns
            entry.ban_ns = max(entry.ban_ns, min(ban_ns, now_ns + _LONGEST_BAN_NS))
            entry.ban_utc_ns = max(
                entry.ban_utc_ns, min(ban_utc_ns, utc_ns + _LONGEST_BAN_NS) if whole else 0
            )


def _boot_id() -> bytes:
    """Return what tells one run of the host's monotonic clock from the next."""
    try:
        return _BOOT_ID.read_bytes().strip()[:36]
    except OSError:
        return b""
