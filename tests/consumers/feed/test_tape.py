"""Tapes: packets in a file, whole or cut, compressed or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapecast.consumers.feed.replay import OPENERS, open_replay
from tapecast.consumers.feed.source import Chunks
from tapecast.consumers.feed.tape import TapeError, TapeWriter, is_tape, read_tape
from tapecast.protocol.codec import Header, Level, encode, walk
from tapecast.protocol.schema import MsgType
from tests.consumers.publisher import btcusdt


@pytest.mark.parametrize("name", ["a.tape", "a.tape.gz"])
def test_what_was_written_is_read(tmp_path: Path, name: str) -> None:
    """Packets come back as they were, after appending too."""
    packets = btcusdt()
    for part in (packets[:3], packets[3:]):
        with TapeWriter(tmp_path / name) as tape:
            for packet in part:
                tape.write(packet)
            assert tape.packets == len(part)
    assert is_tape(tmp_path / name)
    assert [
        bytes(packet) for chunk in read_tape(tmp_path / name) for packet in walk(chunk)
    ] == packets


def test_packets_with_a_tag_are_found(tmp_path: Path) -> None:
    """An authenticated packet is 16 bytes longer than its payload says."""
    header = Header(msg_type=MsgType.BBO, channel_id=1, venue_id=1, channel_seq=1, bid_count=1)
    packets = encode(header, [Level(6183763, 378826), Level(6183764, 154698)], key=bytes(32)) * 3
    path = tmp_path / "tagged.tape"
    path.write_bytes(b"".join(packets))
    assert [bytes(packet) for chunk in read_tape(path) for packet in walk(chunk)] == packets


@pytest.mark.parametrize("cut", [1, 65, 66, 97])
def test_a_cut_tape_is_read_up_to_its_last_whole_packet(tmp_path: Path, cut: int) -> None:
    """A crash while writing costs the packet that was being written."""
    packets = btcusdt()
    path = tmp_path / "cut.tape"
    path.write_bytes(b"".join(packets)[: sum(len(packet) for packet in packets[:-2]) + cut])
    assert b"".join(read_tape(path)) == b"".join(packets[:-2])


def test_chunks_end_at_packets_however_long_the_tape(tmp_path: Path) -> None:
    """Each chunk holds whole packets."""
    path = tmp_path / "long.tape"
    session = b"".join(btcusdt())
    path.write_bytes(session * 2000)
    chunks = list(read_tape(path))
    assert len(chunks) > 2
    assert sum(1 for chunk in chunks for _ in walk(chunk)) == 7 * 2000


def test_damage_is_named_with_its_place(tmp_path: Path) -> None:
    """Where no packet stands, the error says at which byte."""
    path = tmp_path / "bad.tape"
    first = btcusdt()[0]
    path.write_bytes(first + b"\0" * 100)
    with pytest.raises(TapeError, match=f"byte {len(first)}"):
        list(read_tape(path))


def test_what_is_neither_tape_nor_recording_is_refused(tmp_path: Path) -> None:
    """Another file is refused with what can be replayed; a missing one is an OSError."""
    other = tmp_path / "notes.txt"
    other.write_text("no packets")
    with pytest.raises(TapeError, match="a tape"):
        open_replay(other, None)
    with pytest.raises(FileNotFoundError):
        open_replay(tmp_path / "missing.tape", None)


def test_an_empty_tape_is_an_empty_replay(tmp_path: Path) -> None:
    """Nothing recorded gives nothing."""
    path = tmp_path / "empty.tape"
    path.write_bytes(b"")
    assert open_replay(path, None).receive(0.0) == 0


SEEN: list[object] = []


def opener(paths: object, speed: float | None) -> Chunks:
    """Open frames, as `OPENERS` may name it."""
    SEEN.extend([paths, speed])
    return Chunks([])


def test_other_kinds_of_files_have_openers_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opener gets the files with its suffix, and the speed."""
    monkeypatch.setitem(OPENERS, ".frames", f"{__name__}:opener")
    path = tmp_path / "a.frames"
    path.write_text("")
    open_replay([path], 10.0)
    assert [[path], 10.0] == SEEN
