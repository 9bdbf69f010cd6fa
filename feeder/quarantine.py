"""The file of messages that were not understood: JSON lines, bounded in size, a recording in
format so that it can be decoded.

When the file has grown to its limit it becomes `NAME.1`, which is replaced; so the newest
messages are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson

from tapecast.feeder.session.session import Quarantined
from tapecast.runtime import logs

__all__ = ["QuarantineFile"]

_LIMIT = 16 << 20
_MESSAGE_LIMIT = 64 << 10

log = logs.get("feeder.quarantine")


class QuarantineFile:
    """Appends to one venue's file. A full disk costs messages here, counted in `lost`, and never
    the feed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.written = 0
        self.lost = 0

    def write(self, messages: Sequence[Quarantined]) -> None:
        """Append messages, each cut to 64 KiB; the reason, the offset and the true length stand
        beside it.
        """
        if not messages:
            return
        lines = [
            orjson.dumps(
                {
                    "ts_ns": message.ts_recv_ns or None,
                    "conn": message.connection,
                    "url": None,
                    "kind": "recv",
                    "raw": message.data[:_MESSAGE_LIMIT].decode("utf-8", "backslashreplace"),
                    "reason": message.reason,
                    "offset": message.offset,
                    "length": len(message.data),
                    "symbol": message.symbol,
                }
            )
            + b"\n"
            for message in messages
        ]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and self._path.stat().st_size > _LIMIT:
                self._path.replace(self._path.with_suffix(self._path.suffix + ".1"))
            with self._path.open("ab") as file:
                file.write(b"".join(lines))
            self.written += len(messages)
        except OSError as error:
            self.lost += len(messages)
            log.error(
                "quarantine_failed",
                file=str(self._path),
                error=str(error),
                messages=len(messages),
            )
