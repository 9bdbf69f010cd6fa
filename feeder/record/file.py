"""The files of a recording: gzip members appended to files that follow one another by size and
by time.

Each `write` is one complete gzip member in one place, so a file is readable up to its last
member whenever its writer dies, and any tool that reads gzip reads it. What cannot be written
leaves nothing behind: the file is cut back to its last good member and left, and the next write
begins a new one. Knows bytes and files, nothing of markets; a caller's thread may wait here for
a disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["MemberFiles"]

_LEVEL = 3
"""Of zlib: above it, time grows faster than what is saved (a venue's JSON: a sixth to a tenth of
its size).
"""
_GZIP = 31
"""zlib's `wbits` for a gzip header and trailer."""


class MemberFiles:
    """Files `<name>-<UTC time>.jsonl.gz` in one folder; sorted by name they are in the order of
    their writing.
    """

    def __init__(
        self, folder: Path, name: str, *, rotate_bytes: int, rotate_s: float, min_free_bytes: int
    ) -> None:
        """Nothing is created before the first write. Less than `min_free_bytes` on the disk
        counts as full.
        """
        self._folder = folder
        self._name = name
        self._rotate_bytes = rotate_bytes
        self._rotate_ns = int(rotate_s * 1e9)
        self._min_free = min_free_bytes
        self._fd: int | None = None
        self._size = 0
        self._opened_ns = 0
        self._last_us = 0
        self.path: Path | None = None
        """The file that is being written."""
        self.files = 0
        """Files begun."""
        self.written = 0
        """Compressed bytes in all of them."""

    def write(self, data: bytes | bytearray, now_ns: int, ts_ns: int) -> None:
        """Append `data` as one member; `now_ns` is monotonic, `ts_ns` names a file that begins.
        OSError: nothing was appended.
        """
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        member = packer.compress(data) + packer.flush()
        if self._fd is not None and (
            self._size >= self._rotate_bytes or now_ns - self._opened_ns >= self._rotate_ns
        ):
            self.close()
        fresh = self._fd is None
        try:
            self._append(member, now_ns, ts_ns)
        except OSError as error:
            if error.errno != errno.EFBIG or fresh:
                raise
            self._append(
                member, now_ns, ts_ns
            )  # the file has reached what this process may write; another one may do

    def close(self) -> None:
        """Put the present file on the disk and leave it. OSError: the kernel could not, and what
        is missing is not known.
        """
        fd, self._fd, self.path = self._fd, None, None
        if fd is not None:
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def _append(self, member: bytes, now_ns: int, ts_ns: int) -> None:
        if self._fd is None:
            self._open(now_ns, ts_ns)
        fd = self._fd
        assert fd is not None
        try:
            self._need_room(fd, len(member))
            rest = memoryview(member)
            while rest:
                rest = rest[os.write(fd, rest) :]
        except OSError:
            self._abandon()
            raise
        self._size += len(member)
        self.written += len(member)

    def _open(self, now_ns: int, ts_ns: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._last_us = max(
            self._last_us + 1, ts_ns // 1000
        )  # a clock that was set back does not disturb the order
        moment = datetime.fromtimestamp(self._last_us // 1_000_000, UTC)
        path = (
            self._folder
            / f"{self._name}-{moment:%Y%m%dT%H%M%S}.{self._last_us % 1_000_000:06d}Z.jsonl.gz"
        )
        self._fd = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640
        )
        self.path, self._size, self._opened_ns = path, 0, now_ns
        self.files += 1

    def _need_room(self, fd: int, nbytes: int) -> None:
        disk = os.fstatvfs(fd)
        if disk.f_bavail * disk.f_frsize < self._min_free + nbytes:
            raise OSError(
                errno.ENOSPC, f"fewer than {self._min_free + nbytes} bytes are free", str(self.path)
            )

    def _abandon(self) -> None:
        """Cut the file back to what is whole and leave it; where not even that works, its reader
        reports the torn end.
        """
        fd, path = self._fd, self.path
        self._fd = self.path = None
        assert fd is not None
        assert path is not None
        with contextlib.suppress(OSError):
            os.ftruncate(fd, self._size)
        with contextlib.suppress(OSError):
            os.close(fd)
        if self._size == 0:
            self.files -= 1
            with contextlib.suppress(OSError):
                path.unlink()
