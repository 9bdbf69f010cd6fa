"""Where log lines go: a stream, or a file that is rotated by size. Writing a log never fails its
caller.

A full disk, a closed pipe or a folder that is gone costs lines, which are counted; the next line
tries again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

__all__ = ["FileSink", "StreamSink"]


class StreamSink:
    """Lines to a text stream (None = whatever stderr is at the time)."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.lost = 0

    def write(self, line: str) -> None:
        """Write one line."""
        stream = sys.stderr if self._stream is None else self._stream
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.lost += 1


class FileSink:
    """Lines to a file; at `limit` bytes it becomes `NAME.1`, that one `NAME.2`, and so on up to
    `kept`.

    Files are cut between lines only, so never inside a character.
    """

    def __init__(self, path: Path, limit: int, kept: int) -> None:
        """Raises OSError where the file cannot be opened."""
        self._path, self._limit, self._kept = path, limit, kept
        self._fd = -1
        self._size = 0
        self.lost = 0
        self._open()

    def write(self, line: str) -> None:
        """Write one line, whole, with one call: several processes may share a file as long as
        none rotates it.
        """
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        try:
            if self._size and self._size + len(data) > self._limit:
                self._rotate()
            if self._fd < 0:
                self._open()
            written = os.write(self._fd, data)
            self._size += written
            if written < len(data):
                raise OSError("the disk took half a line")
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size
        if self._size and not _ends_a_line(self._path):
            self._size += os.write(self._fd, b"\n")

    def _rotate(self) -> None:
        self.close()
        names = [
            self._path,
            *(Path(f"{self._path}.{number}") for number in range(1, self._kept + 1)),
        ]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if newer.exists():
                newer.replace(older)


def _ends_a_line(path: Path) -> bool:
    """Whether a file ends where a line does: a process that was killed, or a disk that was full,
    may have left half a line.
    """
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
