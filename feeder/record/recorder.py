"""The recorder: what passed between a feeder and its venue, as recordings that `decode`,
`replay` and `up --replay` read.

A tap before the session: whatever the session is given (frames, REST bodies, connects,
disconnects) is written in the order in which it is given, with the same receive times, and what
was sent is written beside it. So decoding a recording comes to what was published when it was
made. Lines are encoded where they arrive, about two microseconds each; a thread compresses and
writes them (both without the interpreter's lock), at least twice a second. The format is that of
`feeder.record.recording`; secrets in what was sent are replaced.

A disk that fails costs lines of the recording, never the feed: what waits is bounded, what does
not fit is counted, and a disconnect line without a connection marks the place, which tells every
reader to trust no book across it.
"""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections import deque
from pathlib import Path

import orjson

from tapecast.feeder.record.file import MemberFiles
from tapecast.runtime import logs
from tapecast.runtime.errors import ConfigError
from tapecast.runtime.settings import Record

__all__ = ["Recorder"]

_CHUNK = 256 << 10
"""Bytes of lines that one gzip member holds, or a little more."""
_RETRY_S = 1.0
_JOIN_S = 5.0

log = logs.get("feeder.record.recorder")


class Recorder:
    """Records one venue. Methods are called from one thread, the loop's, and never wait or raise
    for a disk.
    """

    def __init__(self, venue: str, settings: Record) -> None:
        """Begin a recording in `<record.dir>/<venue>/`. Raises ConfigError where there can never
        be such a folder.
        """
        self.venue = venue
        folder = Path(settings.dir) / venue
        with contextlib.suppress(
            OSError
        ):  # a disk that is full or read-only now is another matter: it may not be so for long
            _make(folder)
        self._files = MemberFiles(
            folder,
            venue,
            rotate_bytes=settings.rotate_mb << 20,
            rotate_s=settings.rotate_s,
            min_free_bytes=settings.min_free_mb << 20,
        )
        self._flush_s = settings.flush_s
        self._limit = settings.queue_mb << 20
        self._heads: dict[str, bytes] = {}
        self._lock = threading.Lock()  # over what both threads change
        self._filling = bytearray()
        self._sealed: deque[bytearray] = deque()
        self._waiting = 0
        """Bytes of lines that are not in a file yet."""
        self._hole = 0
        """Lines dropped since the last one that was taken."""
        self._closing = False
        self._wake = threading.Event()
        self.binary = False
        """Whether the message that comes next had the binary opcode: the transport's tap says
        so.
        """
        self.lines = 0
        """Lines taken."""
        self.dropped = 0
        """Lines that found no room while the disk did not take any."""
        self.failures = 0
        """Times that recording stopped because of the disk."""
        self.error = ""
        """Why recording stands still now, empty while it does not."""
        self._mark(time.time_ns(), "recording begins")
        self._thread = threading.Thread(target=self._work, name=f"record {venue}", daemon=True)
        self._thread.start()

    @property
    def written(self) -> int:
        """Compressed bytes in files."""
        return self._files.written

    @property
    def files(self) -> int:
        """Files begun."""
        return self._files.files

    @property
    def waiting(self) -> int:
        """Bytes of lines that are not in a file yet."""
        return self._waiting

    # what the session is given (`feeder.record.session`), and what was sent

    def on_url(self, connection: str, url: str) -> None:
        """Note the URL of a connection, which goes to each of its lines, without secrets."""
        self._heads[connection] = _head(connection, url)

    def connected(self, connection: str, ts_ns: int) -> None:
        """Record that a connection was opened."""
        self._line(ts_ns, b"connect", self._head(connection), b'""')

    def disconnected(self, connection: str, ts_ns: int) -> None:
        """Record that a connection was lost."""
        self._line(ts_ns, b"disconnect", self._head(connection), b'""')

    def handover(self, connection: str, step: str, ts_ns: int) -> None:
        """Record a step of replacing a connection: `begin OLD`, `subscribed`, `end`, `abandon`."""
        self._line(ts_ns, b"handover", self._head(connection), orjson.dumps(step))

    def received(self, connection: str, data: bytes, ts_ns: int) -> None:
        """Record a message; `binary` tells its opcode."""
        self._line(ts_ns, b"recv", self._head(connection), _raw(data, self.binary))

    def sent(self, connection: str, data: bytes, ts_ns: int) -> None:
        """Record what was sent on a connection, without secrets."""
        self._line(
            ts_ns,
            b"send",
            self._head(connection),
            _raw(logs.redacted(data.decode("utf-8", "replace")).encode(), False),
        )

    def body(self, url: str, data: bytes, ts_ns: int) -> None:
        """Record the body of a REST answer."""
        self._line(ts_ns, b"http", _head("rest", url), _raw(data, False))

    def close(self) -> None:
        """Write what waits and end; a disk that does not answer is given up after seconds."""
        with self._lock:
            self._mark_hole(time.time_ns())
            self._closing = True
        self._wake.set()
        self._thread.join(_JOIN_S)
        if self._waiting:
            log.error(
                "recording_incomplete",
                venue=self.venue,
                bytes=self._waiting,
            )

    def _head(self, connection: str) -> bytes:
        head = self._heads.get(connection)
        return head if head is not None else _head(connection, None)

    def _line(self, ts_ns: int, kind: bytes, head: bytes, raw: bytes) -> None:
        line = b'{"ts":%d.%09d,"ts_ns":%d,%b,"kind":"%b","raw":%b}\n' % (
            *divmod(ts_ns, 1_000_000_000),
            ts_ns,
            head,
            kind,
            raw,
        )
        with self._lock:
            if self._waiting > (self._limit if not self._hole else self._limit // 2):
                self._hole += 1
                self.dropped += 1
                return
            self._mark_hole(ts_ns)
            self._take(line)

    def _mark_hole(self, ts_ns: int) -> None:
        if self._hole:
            self._mark(ts_ns, f"{self._hole} lines were not recorded: the disk did not take them")
            self._hole = 0

    def _mark(self, ts_ns: int, why: str) -> None:
        """Put a disconnect of every connection: nothing that was known before it can be relied
        on after it.
        """
        mark = {"ts_ns": ts_ns, "conn": "", "url": None, "kind": "disconnect", "raw": why}
        self._take(orjson.dumps(mark) + b"\n")

    def _take(self, line: bytes) -> None:
        self.lines += 1
        self._filling += line
        self._waiting += len(line)
        if len(self._filling) >= _CHUNK:
            self._sealed.append(self._filling)
            self._filling = bytearray()
            self._wake.set()

    # the thread

    def _work(self) -> None:
        while True:
            self._wake.wait(self._flush_s)
            self._wake.clear()
            with self._lock:
                closing = self._closing
            while chunk := self._next():
                if not self._write(chunk):
                    break
                with self._lock:
                    self._sealed.popleft()
                    self._waiting -= len(chunk)
            if closing:
                self._finish()
                return
            if self.error:
                self._pause()

    def _next(self) -> bytearray | None:
        with self._lock:
            if not self._sealed and self._filling:
                self._sealed.append(self._filling)
                self._filling = bytearray()
            return self._sealed[0] if self._sealed else None

    def _write(self, chunk: bytearray) -> bool:
        try:
            self._files.write(chunk, time.monotonic_ns(), time.time_ns())
        except Exception as error:
            # The disk's fault or ours: the thread goes on trying, and the feed does not notice.
            if not self.error:
                self.failures += 1
                log.error(
                    "recording_stopped", venue=self.venue, error=repr(error), tried_again_s=_RETRY_S
                )
            self.error = str(error) or repr(error)
            return False
        if self.error:
            self.error = ""
            log.warning("recording_resumed", venue=self.venue, dropped=self.dropped)
        return True

    def _pause(self) -> None:
        """Leave a failing disk alone for a moment, unless the recording ends."""
        until = time.monotonic() + _RETRY_S
        while (rest := until - time.monotonic()) > 0 and not self._closing:
            self._wake.wait(rest)
            self._wake.clear()

    def _finish(self) -> None:
        try:
            self._files.close()
        except OSError as error:
            self.failures += 1
            log.error("recording_end_failed", venue=self.venue, error=str(error))


def _head(connection: str, url: str | None) -> bytes:
    return orjson.dumps({"conn": connection, "url": None if url is None else logs.redacted(url)})[
        1:-1
    ]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise ConfigError([f"record.dir: {folder}: {error.strerror}"]) from error


def _raw(data: bytes, binary: bool) -> bytes:
    """Return the JSON of a message; what is no UTF-8 stands exactly in `base64`, and readably in
    `raw`.
    """
    try:
        raw = orjson.dumps(data.decode())
    except UnicodeDecodeError:
        raw = b'%b,"base64":"%b"' % (
            orjson.dumps(data.decode("utf-8", "backslashreplace")),
            base64.b64encode(data),
        )
    return raw + b',"binary":true' if binary else raw
