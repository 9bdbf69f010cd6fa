"""Connections replaced while a recording is made: decoding and playing it come to what was
published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapecast.feeder.connections import connection
from tapecast.feeder.offline import Offline
from tapecast.feeder.record.recorder import Recorder
from tapecast.feeder.record.recording import read
from tapecast.feeder.replay.timeline import Cut, Frame, load
from tapecast.feeder.replay.venues import DIALECTS
from tapecast.feeder.venues import venue
from tests.feeder.record.test_record import settings
from tests.feeder.replay.test_replay_timeline import binance, depth, recorded
from tests.support.processes import Net
from tests.support.scripted_venues import BINANCE, Broadcast, captured, events
from tests.support.venue_server import eventually, feeding


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are looked at twenty times a second."""
    monkeypatch.setattr(connection, "_LOOK_S", 0.05)


async def test_a_recording_of_replaced_connections_decodes_to_what_was_published(
    tmp_path: Path,
) -> None:
    """Both connections' messages are in it; decoded, each event is there once, and played, each
    message.
    """
    place = Broadcast()
    quick = {
        "feeder__rotation__linger_s": 0.1,
        "feeder__rotation__every_s": 0.4,
        "feeder__symbols_per_connection": 2,
    }
    recorder = Recorder("binance", settings(tmp_path / "recordings", queue_mb=64))
    async with (
        place.server.running() as server,
        feeding(
            "binance", server, Net(), tmp_path, recorder=recorder, **{**BINANCE, **quick}
        ) as feeder,
    ):
        packets = captured(feeder)
        await place.play(feeder, 0.002)
        await eventually(lambda: feeder.session.counts["rotations"] >= 2)
        assert feeder.session.counts["overlap"] > 10
    files = sorted((tmp_path / "recordings" / "binance").iterdir())
    steps = [(line.conn, line.raw) for line in read(files) if line.kind == "handover"]
    assert [raw for conn, raw in steps if conn == "ws.1~"][:3] == [
        b"begin ws.1",
        b"subscribed",
        b"end",
    ]
    offline = Offline(venue("binance"), files)
    found = events([step.packets for step in offline.run()])
    assert offline.session.counts["rotations"] == feeder.session.counts["rotations"]
    assert found == events(packets)

    timeline = load(files, DIALECTS["binance"])
    assert not any(isinstance(entry, Cut) for entry in timeline.entries)
    played: dict[str, list[bytes]] = {}
    for entry in timeline.entries:
        if isinstance(entry, Frame):
            played.setdefault(entry.stream, []).append(entry.wire[entry.wire.index(b"{") :])
    sent: dict[str, list[bytes]] = {}
    for stream, frame in place.frames:
        sent.setdefault(stream, []).append(frame)
    assert played == sent


def handover(new: str, step: str) -> dict[str, object]:
    """Return a line of a replacement."""
    return {"kind": "handover", "conn": new, "ts": None, "raw": step}


def update(number: int, conn: str) -> dict[str, object]:
    """Return a message of a connection that differs from others by a number."""
    line = depth("XMRBTC", None)
    return {
        **line,
        "conn": conn,
        "raw": str(line["raw"]).replace("717720857", str(717720857 + number)),
    }


def numbers(path: Path) -> Iterator[int | str]:
    """Yield the numbers of the messages that are played, and "cut"."""
    for entry in binance(path).entries:
        if isinstance(entry, Frame):
            yield json.loads(entry.wire[entry.wire.index(b"{") :])["data"]["u"] - 717720857
        elif isinstance(entry, Cut):
            yield "cut"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([1, 2, 3], [2, 3, 4], [0, 1, 2, 3, 4, 9]),
        ([1, 2], [1], [0, 1, 2, 9]),
        ([], [1, 2], [0, 1, 2, 9]),
        ([1, 2], [], [0, 1, 2, 9]),
        ([1, 2], [3, 4], [0, 1, 2, "cut", 9]),
    ],
)
def test_a_server_plays_each_message_of_a_replacement_once(
    old: list[int], new: list[int], expected: list[int | str], tmp_path: Path
) -> None:
    """What the new connection brought beyond the old one comes at the change-over; what cannot
    be joined is cut.
    """
    both = [
        line
        for number in range(10)
        for line in _of(number, old, "ws.1") + _of(number, new, "ws.1~")
    ]
    begin, end = handover("ws.1~", "begin ws.1"), handover("ws.1~", "end")
    path = recorded(tmp_path / "a.jsonl", update(0, "ws.1"), begin, *both, end, update(9, "ws.1"))
    assert list(numbers(path)) == expected


def test_a_replacement_that_was_given_up_is_not_played(tmp_path: Path) -> None:
    """The old connection goes on alone."""
    begin, end = handover("ws.1~", "begin ws.1"), handover("ws.1~", "abandon")
    path = recorded(
        tmp_path / "a.jsonl", begin, update(1, "ws.1"), update(2, "ws.1~"), end, update(3, "ws.1")
    )
    assert list(numbers(path)) == [1, 3]


def _of(number: int, wanted: list[int], conn: str) -> list[dict[str, object]]:
    return [update(number, conn)] if number in wanted else []
