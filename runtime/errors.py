"""The error tree: every failure that a user can act on is one of these, with the exit code its
process ends with.

Exit codes: 0 done, 1 runtime failure, 2 usage or configuration, 75 try again (sysexits
`EX_TEMPFAIL`). A venue's mistake (`VenueError`), a damaged recording (`RecordingError`) and a
wrong configuration (`ConfigError`) are different classes, because different people mend them.
Wire errors stand in `protocol.codec`; nothing here is raised per packet.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

__all__ = [
    "ConfigError",
    "ExitCode",
    "RecordingError",
    "TapecastError",
    "TryAgainError",
    "VenueError",
]


class ExitCode(IntEnum):
    """What a process says to its caller when it ends."""

    OK = 0
    RUNTIME = 1
    USAGE = 2
    TRY_AGAIN = 75
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class TapecastError(Exception):
    """A failure whose message is meant for the user; `exit_code` is what the command ends with."""

    exit_code = ExitCode.RUNTIME


class ConfigError(TapecastError):
    """The configuration cannot be used; `problems` lists everything found, one line each."""

    exit_code = ExitCode.USAGE

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep every problem, so that the user mends all of them in one go."""
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class VenueError(TapecastError):
    """A venue said or did what its specification does not foresee."""

    def __init__(
        self, venue: str, message: str, *, symbol: str | None = None, offset: int | None = None
    ) -> None:
        """Name the venue, the symbol where one is known and the byte offset in the frame where
        one is known.
        """
        self.venue, self.symbol, self.offset = venue, symbol, offset
        subject = venue if symbol is None else f"{venue} {symbol}"
        place = "" if offset is None else f" at byte {offset}"
        super().__init__(f"{subject}: {message}{place}")


class RecordingError(TapecastError):
    """A recording cannot be read; `line` counts from 1, 0 means the file as a whole."""

    def __init__(self, file: Path | str, line: int, message: str) -> None:
        """Name the file and the line."""
        self.file, self.line = Path(file), line
        super().__init__(f"{file}:{line}: {message}" if line else f"{file}: {message}")


class TryAgainError(TapecastError):
    """Something outside is not ready (address in use, no network): the same command may work
    later.
    """

    exit_code = ExitCode.TRY_AGAIN
