"""The file of messages that were not understood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapecast.feeder import quarantine
from tapecast.feeder.quarantine import QuarantineFile
from tapecast.feeder.record.recording import read
from tapecast.feeder.session.session import Quarantined


def message(data: bytes = b'{"e":"x"}', **fields: object) -> Quarantined:
    """Return a quarantined message."""
    values = {
        "connection": "ws.1",
        "reason": "no shape",
        "offset": 3,
        "data": data,
        "ts_recv_ns": 1_633_998_512_345_000_007,
    }
    return Quarantined(**({"symbol": None} | values | fields))  # type: ignore[arg-type]


def test_file_is_a_recording_with_reasons(tmp_path: Path) -> None:
    """Each line can be decoded again, and says why it is there; the folder is made."""
    path = tmp_path / "new" / "binance.jsonl"
    file = QuarantineFile(path)
    file.write([message(), message(b"\xff\x00", symbol="LRCBTC", ts_recv_ns=0)])
    file.write([])
    first, second = read([path])
    assert (first.kind, first.conn, first.raw, first.ts_recv_ns) == (
        "recv",
        "ws.1",
        b'{"e":"x"}',
        1_633_998_512_345_000_007,
    )
    assert (second.raw, second.ts_recv_ns) == (b"\\xff\x00", None)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["reason"], line["offset"], line["length"], line["symbol"]) for line in lines] == [
        ("no shape", 3, 9, None),
        ("no shape", 3, 2, "LRCBTC"),
    ]
    assert (file.written, file.lost) == (2, 0)


def test_long_messages_are_cut_and_their_length_stands_beside(tmp_path: Path) -> None:
    """64 KiB of 8 MiB."""
    path = tmp_path / "okx.jsonl"
    QuarantineFile(path).write([message(b"a" * (8 << 20))])
    (line,) = (json.loads(line) for line in path.read_text().splitlines())
    assert (len(line["raw"]), line["length"]) == (64 << 10, 8 << 20)


def test_file_that_is_full_becomes_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files at most, the newest messages in them."""
    monkeypatch.setattr(quarantine, "_LIMIT", 2000)
    path = tmp_path / "okx.jsonl"
    file = QuarantineFile(path)
    for number in range(100):
        file.write([message(b"%d" % number)])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["okx.jsonl", "okx.jsonl.1"]
    assert sum(entry.stat().st_size for entry in tmp_path.iterdir()) < 2 * 2400
    numbers = [int(line.raw) for line in read([tmp_path / "okx.jsonl.1", path])]
    assert numbers == list(range(numbers[0], 100))


def test_file_that_cannot_be_written_costs_messages_not_the_feed(tmp_path: Path) -> None:
    """A full disk, a folder that is a file: counted and logged."""
    (tmp_path / "file").write_text("")
    file = QuarantineFile(tmp_path / "file" / "okx.jsonl")
    file.write([message(), message()])
    assert (file.written, file.lost) == (0, 2)
