"""The recorder: its lines are those of the format, its files whole wherever they end, and a disk
that fails costs lines only.

Messages are those of recordings; garbage is garbage.
"""

from __future__ import annotations

import errno
import gzip
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tapecast.feeder.offline import Offline
from tapecast.feeder.record import file as record_file
from tapecast.feeder.record import recorder as record
from tapecast.feeder.record.file import MemberFiles
from tapecast.feeder.record.recorder import Recorder
from tapecast.feeder.record.recording import Line, read
from tapecast.feeder.replay.venues import guess_venue
from tapecast.feeder.venues import venue
from tapecast.protocol.codec import walk
from tapecast.protocol.render import Renderer
from tapecast.protocol.schema import StatusReason, StatusState
from tapecast.runtime import logs
from tapecast.runtime.errors import ConfigError
from tapecast.runtime.settings import Record
from tests.support.captures import captures
from tests.support.processes import until
from tests.support.venue_server import lines

URL = "wss://api.upbit.com/websocket/v1"
TS = 1_795_752_252_596_983_299


def settings(folder: Path, **changes: object) -> Record:
    """Return settings of a recorder that writes soon."""
    values: dict[str, object] = {
        "enabled": True,
        "dir": str(folder),
        "rotate_mb": 256,
        "rotate_s": 3600.0,
        "flush_s": 0.02,
        "queue_mb": 1,
        "min_free_mb": 0,
    }
    return Record(**{**values, **changes})  # type: ignore[arg-type]


@contextmanager
def recording(folder: Path, name: str = "upbit", **changes: object) -> Iterator[Recorder]:
    """A recorder for the length of the block."""
    recorder = Recorder(name, settings(folder, **changes))
    try:
        yield recorder
    finally:
        recorder.close()


def written(folder: Path, name: str = "upbit") -> list[Line]:
    """Return the lines of a recording."""
    return list(read(sorted((folder / name).iterdir())))


@pytest.fixture(scope="module")
def messages() -> list[bytes]:
    """Recorded order books and trades of Upbit."""
    return [line.raw for line in lines(captures() / "upbit/cf_20210405_simple.jsonl")]


def test_what_passed_is_what_is_read(tmp_path: Path, messages: list[bytes]) -> None:
    """Every line comes back with its kind, connection, URL, exact time, opcode and bytes, in
    order.
    """
    with recording(tmp_path) as recorder:
        recorder.on_url("ws.1", URL)
        recorder.connected("ws.1", TS)
        recorder.sent("ws.1", b'[{"ticket":"x"}]', TS + 1)
        recorder.binary = True
        recorder.received("ws.1", messages[0], TS + 2)
        recorder.binary = False
        recorder.received("ws.1", messages[1], TS + 3)
        recorder.body("https://api.upbit.com/v1/market/all", b"[]", TS + 4)
        recorder.disconnected("ws.1", TS + 5)
    begin, *rest = written(tmp_path)
    assert (begin.kind, begin.conn) == ("disconnect", "")
    assert [line[:6] for line in rest] == [
        ("connect", "ws.1", URL, b"", TS, False),
        ("send", "ws.1", URL, b'[{"ticket":"x"}]', TS + 1, False),
        ("recv", "ws.1", URL, messages[0], TS + 2, True),
        ("recv", "ws.1", URL, messages[1], TS + 3, False),
        ("http", "rest", "https://api.upbit.com/v1/market/all", b"[]", TS + 4, False),
        ("disconnect", "ws.1", URL, b"", TS + 5, False),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe{}",
        b"\xed\xa0\x80",
        bytes(range(256)),
        b'"\\u0000\x00\r\n',
        "한글 €".encode(),
    ],
)
def test_any_bytes_are_kept_exactly(data: bytes, tmp_path: Path) -> None:
    """What is no text, and what JSON must escape, comes back byte for byte."""
    with recording(tmp_path) as recorder:
        recorder.received("ws.1", data, TS)
    assert written(tmp_path)[-1].raw == data


def test_secrets_are_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens in a login, a URL or anywhere else that `logs.hide` was told of are replaced before
    they reach the disk.
    """
    monkeypatch.setattr(logs, "_hidden", set())
    logs.hide("s3cr3t-value")
    with recording(tmp_path) as recorder:
        recorder.on_url("ws.1", "wss://host/ws?listenKey=abcdefgh")
        recorder.connected("ws.1", TS)
        recorder.sent(
            "ws.1", b'{"header":{"token":"eyJhbGciOi","tr_type":"3"},"note":"s3cr3t-value"}', TS
        )
        recorder.body("https://host/x?signature=c0ffee&symbol=A", b"{}", TS)
    text = b"".join(line.raw + str(line.url).encode() for line in written(tmp_path))
    assert not any(
        secret in text for secret in (b"abcdefgh", b"eyJhbGciOi", b"c0ffee", b"s3cr3t-value")
    )
    assert b'"tr_type":"3"' in text
    assert b"symbol=A" in text


def test_lines_reach_the_disk_while_nothing_more_comes(
    tmp_path: Path, messages: list[bytes]
) -> None:
    """Without a further line and without an end, what was recorded is readable within the flush
    time.
    """
    with recording(tmp_path) as recorder:
        for number, message in enumerate(messages[:50]):
            recorder.received("ws.1", message, TS + number)
        until(lambda: recorder.waiting == 0)
        assert [line.raw for line in written(tmp_path)[1:]] == messages[:50]


def test_a_file_that_ends_anywhere_is_read_up_to_there(
    tmp_path: Path, messages: list[bytes]
) -> None:
    """Cut at any byte: the lines of every whole member are there, nothing is made up, and the
    torn end is reported.
    """
    with recording(tmp_path) as recorder:
        for number in range(4):
            for message in messages[number * 10 : number * 10 + 10]:
                recorder.received("ws.1", message, TS)
            until(lambda: recorder.waiting == 0)
    (file,) = (tmp_path / "upbit").iterdir()
    data = file.read_bytes()
    whole = [line.raw for line in read([file])]
    starts = [at for at in range(len(data)) if data.startswith(b"\x1f\x8b\x08", at)] + [len(data)]
    assert len(starts) >= 5
    torn = tmp_path / "torn.jsonl.gz"
    counts = []
    for cut in sorted(
        {
            *range(0, len(data), 997),
            *starts,
            *(at + 5 for at in starts[:-1]),
            *(at - 1 for at in starts[1:]),
        }
    ):
        torn.write_bytes(data[:cut])
        truncated: list[str] = []
        kept = [line.raw for line in read([torn], truncated=truncated)]
        assert kept == whole[: len(kept)]
        assert bool(truncated) == (cut not in starts)
        counts.append(len(kept))
    assert counts == sorted(counts)
    torn.write_bytes(data + bytes(range(1, 200)))
    truncated = []
    assert [line.raw for line in read([torn], truncated=truncated)] == whole
    assert len(truncated) == 1


def test_files_rotate_by_size_and_by_time(tmp_path: Path) -> None:
    """A new file begins when the limit is reached, names sort in order even if the clock is set
    back, and nothing is lost.
    """
    files = MemberFiles(tmp_path, "okx", rotate_bytes=2000, rotate_s=60.0, min_free_bytes=0)
    pieces = [os.urandom(900) for _ in range(11)]
    for number, piece in enumerate(pieces[:10]):
        files.write(piece, number, TS - number * 10**9)
    by_size = sorted(tmp_path.iterdir())
    assert [path.stat().st_size >= 2000 for path in by_size] == [True, True, True, False]
    files.write(pieces[10], 61_000_000_000, TS)
    assert len(sorted(tmp_path.iterdir())) == files.files == 5
    files.close()
    assert b"".join(
        gzip.decompress(path.read_bytes()) for path in sorted(tmp_path.iterdir())
    ) == b"".join(pieces)
    assert {guess_venue(path) for path in tmp_path.iterdir()} == {"okx"}


class Disk:
    """`os.write` as a disk that may fail: `error` is the errno of every write while it is set;
    `takes` bytes go before it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand between the recorder and the disk."""
        self.error = 0
        self.takes = 0
        self.refused = 0
        self._write = os.write
        monkeypatch.setattr(record_file.os, "write", self.write)
        monkeypatch.setattr(record, "_RETRY_S", 0.02)

    def write(self, fd: int, data: bytes) -> int:
        """Write, or fail; a failing disk may take a part first."""
        if not self.error:
            return self._write(fd, data)
        if self.takes:
            part, self.takes = self.takes, 0
            return self._write(fd, data[:part])
        self.refused += 1
        raise OSError(self.error, os.strerror(self.error))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_failing_disk_costs_nothing_that_fits_in_the_queue(
    number: int, tmp_path: Path, messages: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recording stops with one alarm, and goes on where it stopped: half a member leaves no
    trace, no line is lost or double.
    """
    disk = Disk(monkeypatch)
    with recording(tmp_path) as recorder:
        for message in messages[:20]:
            recorder.received("ws.1", message, TS)
        until(lambda: recorder.waiting == 0)
        disk.takes, disk.error = 100, number
        for message in messages[20:40]:
            recorder.received("ws.1", message, TS)
        until(lambda: disk.refused >= 3)
        assert os.strerror(number) in recorder.error
        assert recorder.failures == 1
        disk.error = 0
        until(lambda: recorder.waiting == 0)
        assert recorder.error == ""
        assert recorder.dropped == 0
    truncated: list[str] = []
    files = sorted((tmp_path / "upbit").iterdir())
    kept = list(read(files, truncated=truncated))
    assert [line.raw for line in kept[1:]] == messages[:40]
    assert truncated == []
    assert len(files) == recorder.files == 2


def test_a_disk_that_stays_full_costs_counted_lines_and_a_mark(
    tmp_path: Path, messages: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays bounded, what is dropped is counted and marked where it is missing, and what
    comes later is recorded.
    """
    disk = Disk(monkeypatch)
    disk.error = errno.ENOSPC
    with recording(tmp_path) as recorder:
        for message in messages:
            recorder.received("ws.1", message, TS)
            assert recorder.waiting < (1 << 20) + 2 * len(message) + 1000
        dropped = recorder.dropped
        assert 0 < dropped < len(messages)
        disk.error = 0
        until(lambda: recorder.waiting == 0)
        for message in messages[:30]:
            recorder.received("ws.1", message, TS + 1)
    kept = written(tmp_path)
    mark = next(number for number, line in enumerate(kept) if number and line.kind == "disconnect")
    assert kept[mark].conn == ""
    assert (
        kept[mark].raw == f"{dropped} lines were not recorded: the disk did not take them".encode()
    )
    assert [line.raw for line in kept[1:mark]] == messages[: mark - 1]
    assert mark - 1 + dropped == len(messages)
    assert [line.raw for line in kept[mark + 1 :]] == messages[:30]


def test_a_line_larger_than_the_queue_is_recorded(tmp_path: Path) -> None:
    """A snapshot of several MiB is no reason for a hole while the disk is well."""
    frame = b"[" + b"1," * (3 << 20) + b"1]"
    with recording(tmp_path) as recorder:
        recorder.received("ws.1", frame, TS)
        until(lambda: recorder.waiting == 0)
        recorder.received("ws.1", frame, TS)
    assert recorder.dropped == 0
    assert [len(line.raw) for line in written(tmp_path)[1:]] == [len(frame)] * 2


def test_a_defect_in_the_writer_does_not_end_it(
    tmp_path: Path, messages: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it meets, it says that recording stands still, and goes on when it can."""
    monkeypatch.setattr(record, "_RETRY_S", 0.02)
    write = MemberFiles.write
    monkeypatch.setattr(MemberFiles, "write", lambda *_: 1 / 0)
    with recording(tmp_path) as recorder:
        recorder.received("ws.1", messages[0], TS)
        until(lambda: "division" in recorder.error)
        monkeypatch.setattr(MemberFiles, "write", write)
        until(lambda: recorder.waiting == 0)
        assert recorder.error == ""
    assert [line.raw for line in written(tmp_path)[1:]] == messages[:1]


def test_room_for_others_is_left_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less free than configured counts as full, before the disk itself says so, and leaves no
    empty file.
    """
    free = os.statvfs(tmp_path)
    files = MemberFiles(
        tmp_path,
        "okx",
        rotate_bytes=1 << 20,
        rotate_s=60.0,
        min_free_bytes=free.f_bavail * free.f_frsize + (1 << 40),
    )
    with pytest.raises(OSError, match="bytes are free") as caught:
        files.write(b"x", 0, TS)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_hangs_delays_neither_feeding_nor_the_end_for_long(
    tmp_path: Path, messages: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that never returns holds the writer's thread alone: lines are taken meanwhile, and
    closing gives up on it.
    """
    released = False

    def hang(fd: int, data: bytes) -> int:
        until(lambda: released, within_s=60.0)
        return len(data)

    monkeypatch.setattr(record_file.os, "write", hang)
    monkeypatch.setattr(record, "_JOIN_S", 0.1)
    recorder = Recorder("upbit", settings(tmp_path))
    for message in messages[:100]:
        recorder.received("ws.1", message, TS)
    assert recorder.lines == 101
    recorder.close()
    assert recorder.waiting > 0
    released = True


def test_a_folder_that_can_never_be_is_an_error_at_the_start(tmp_path: Path) -> None:
    """A file where the folder should be: the key and the path are named, before anything is
    connected.
    """
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"record\.dir: .*/file/upbit"):
        Recorder("upbit", settings(tmp_path / "file"))


def test_a_folder_that_goes_away_is_made_again(tmp_path: Path, messages: list[bytes]) -> None:
    """Gone between two files, it is made for the next one; while it cannot be, recording stops
    and its methods go on working.
    """
    with recording(tmp_path, rotate_s=0.001) as recorder:
        until(lambda: recorder.waiting == 0)
        shutil.rmtree(tmp_path / "upbit")
        (tmp_path / "upbit").write_text("")
        recorder.received("ws.1", messages[0], TS)
        until(lambda: recorder.error)
        assert str(tmp_path / "upbit") in recorder.error
        (tmp_path / "upbit").unlink()
        recorder.received("ws.1", messages[1], TS)
        until(lambda: recorder.waiting == 0)
    assert [line.raw for line in written(tmp_path)] == messages[:2]


def test_no_book_outlives_a_hole_in_its_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding treats every connection as lost where lines are missing: books are suspect until
    the next snapshot.
    """
    spec = venue("bybit")
    found = [
        line
        for line in lines(captures() / "bybit/cf_20260809_v5_linear_spot.p1.jsonl")
        if b"orderbook.200.BTCUSDT" in line.raw[:60]
    ]
    linear = [line for line in found if line.url and line.url.endswith("linear")]
    disk = Disk(monkeypatch)
    with recording(tmp_path, "bybit") as recorder:
        recorder.on_url("linear.1", "wss://stream.bybit.com/v5/public/linear")
        recorder.connected("linear.1", TS)
        for line in linear[:50]:
            recorder.received("linear.1", line.raw, TS)
        disk.error = errno.ENOSPC
        while not recorder.dropped:
            recorder.received("linear.1", b" " * 9000, TS)
        disk.error = 0
        until(lambda: recorder.waiting == 0)
        for line in linear[50:100]:
            recorder.received("linear.1", line.raw, TS)
    offline = Offline(spec, sorted((tmp_path / "bybit").iterdir()))
    renderer = Renderer()
    events = [
        event
        for step in offline.run()
        for packet in walk(step.packets)
        for event in renderer.feed(packet)
    ]
    states = [event for event in events if event["type"] == "status"]
    assert any(
        event["state"] == StatusState.SUSPECT.name.lower()
        and event["reason"] == StatusReason.DISCONNECTED.name.lower()
        for event in states
    )
    assert sum(event["type"] == "book" for event in events) == 50
    assert offline.session.live_books() == 0
