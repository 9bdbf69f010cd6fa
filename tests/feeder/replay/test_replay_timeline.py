"""How a recording is laid out for playing: order, time, REST bodies, whose a snapshot is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapecast.feeder.replay.timeline import (
    Cut,
    Frame,
    Snapshot,
    Timeline,
    TimelineError,
    load,
    wire_frame,
)
from tapecast.feeder.replay.venues import DIALECTS
from tests.support.captures import captures


def recorded(path: Path, *lines: dict[str, object]) -> Path:
    """Write lines in the recordings' layout; figures of XMRBTC are those of 2021-08-14 (github
    bmoscon/cryptofeed).
    """
    path.write_text(
        "".join(json.dumps({"conn": "ws.1", "url": None, **line}) + "\n" for line in lines)
    )
    return path


def depth(symbol: str, at: float | None) -> dict[str, object]:
    """Make a depth line of a symbol, received at a time in seconds."""
    raw = json.dumps(
        {
            "stream": f"{symbol.lower()}@depth@100ms",
            "data": {"e": "depthUpdate", "s": symbol, "U": 717720856, "u": 717720857},
        }
    )
    return {"kind": "recv", "ts": at, "raw": raw}


SNAPSHOT = {
    "kind": "http",
    "ts": None,
    "raw": '{"lastUpdateId":717720857,"bids":[["0.00577300","16.19600000"]],"asks":[]}',
}


def binance(*paths: Path) -> Timeline:
    """Load files as one recording of Binance spot."""
    return load(paths, DIALECTS["binance"])


def test_times_never_go_back_and_missing_ones_stay_with_their_neighbours(tmp_path: Path) -> None:
    """Entries keep the recorded order; a line without a time, or with an earlier one, is due
    with the line before it.
    """
    lines = [
        depth("XMRBTC", None),
        depth("XMRBTC", 1628952395.5),
        depth("XMRBTC", None),
        depth("XMRBTC", 1628952395.0),
        depth("XMRBTC", 1628952396.75),
    ]
    timeline = binance(recorded(tmp_path / "a.jsonl", *lines))
    assert [entry.at_s for entry in timeline.entries] == [0.0, 0.0, 0.0, 0.0, 1.25]


def test_files_recorded_apart_follow_one_another(tmp_path: Path) -> None:
    """A second file of another day begins when the first ends; one that continues it keeps its
    distance.
    """
    first = recorded(tmp_path / "a.jsonl", depth("XMRBTC", 100.0), depth("XMRBTC", 101.0))
    apart = recorded(tmp_path / "b.jsonl", depth("XMRBTC", 90000.0), depth("XMRBTC", 90000.5))
    part = recorded(tmp_path / "c.jsonl", depth("XMRBTC", 90002.5))
    assert [entry.at_s for entry in binance(first, apart, part).entries] == [
        0.0,
        1.0,
        1.0,
        1.5,
        3.5,
    ]


def test_snapshot_without_url_belongs_to_the_only_symbol(tmp_path: Path) -> None:
    """The only symbol owns it, the first one marked; with several symbols it is nobody's and
    counted.
    """
    alone = binance(
        recorded(
            tmp_path / "a.jsonl", depth("XMRBTC", 1.0), SNAPSHOT, depth("XMRBTC", 2.0), SNAPSHOT
        )
    )
    assert [(e.symbol, e.first) for e in alone.entries if isinstance(e, Snapshot)] == [
        ("XMRBTC", True),
        ("XMRBTC", False),
    ]
    assert alone.snapshots == {"XMRBTC": 2}
    several = binance(
        recorded(tmp_path / "b.jsonl", depth("XMRBTC", 1.0), SNAPSHOT, depth("FTMUSDT", 2.0))
    )
    assert not several.snapshots
    assert several.left_out["unattributed"] == 1


def test_snapshot_of_a_symbol_asked_for_but_silent_is_not_given_to_another(tmp_path: Path) -> None:
    """The recording client's URL counts: a symbol that it asked for may own the snapshot though
    no frame of it came.
    """
    connect = {
        "kind": "connect",
        "ts": 1.0,
        "raw": "",
        "url": "wss://stream.binance.com:9443/stream?streams=xmrbtc@depth/ftmusdt@depth",
    }
    assert not binance(
        recorded(tmp_path / "a.jsonl", connect, depth("XMRBTC", 1.0), SNAPSHOT)
    ).snapshots


def test_rest_bodies_are_found_under_any_version_and_only_with_their_parameters(
    tmp_path: Path,
) -> None:
    """The path's last part and every recorded parameter must fit; nothing else is answered."""
    spot = {
        "kind": "http",
        "ts": 1.0,
        "url": "https://www.okx.com/api/v5/public/instruments?instType=SPOT",
        "raw": '{"code":"0","data":[],"msg":"SPOT"}',
    }
    swap = {
        **spot,
        "url": "https://www.okx.com/api/v5/public/instruments?instType=SWAP",
        "raw": '{"code":"0","data":[],"msg":"SWAP"}',
    }
    trade = {
        "kind": "recv",
        "ts": 2.0,
        "raw": '{"arg":{"channel":"trades","instId":"PROPS-ETH"},"data":[]}',
    }
    timeline = load([recorded(tmp_path / "a.jsonl", spot, swap, trade)], DIALECTS["okx"])
    assert (
        timeline.body("/api/v6/public/instruments", {"instType": "SWAP", "uly": ""})
        == swap["raw"].encode()
    )
    assert timeline.body("/api/v5/public/instruments", {"instType": "SPOT"}) == spot["raw"].encode()
    assert timeline.body("/api/v5/public/instruments", {"instType": "OPTION"}) is None
    assert timeline.body("/api/v5/public/time", {}) is None
    assert [type(entry) for entry in timeline.entries] == [Frame]


def test_a_recording_of_another_venue_is_refused(tmp_path: Path) -> None:
    """Where no frame belongs to the venue, the error names the file."""
    path = recorded(tmp_path / "tape.jsonl", depth("XMRBTC", 1.0))
    with pytest.raises(TimelineError, match=r"tape\.jsonl"):
        load([path], DIALECTS["okx"])


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f" + bytes(5) + b"\x01\x00\x00"),
    ],
)
def test_wire_frames(size: int, head: bytes) -> None:
    """A frame is final, unmasked, with the shortest length form (RFC 6455 section 5.2)."""
    assert wire_frame(b"x" * size) == head + b"x" * size
    assert wire_frame(b"x", binary=True) == b"\x82\x01x"


def test_every_recorded_frame_of_the_served_venues_has_its_stream() -> None:
    """In the recordings only venue answers are left out: no market data frame stays without a
    stream.
    """
    folder = captures()
    for venue in ("binance", "binance_futures", "okx", "upbit"):
        for path in sorted((folder / venue).glob("*.jsonl")):
            if path.name.startswith("examples"):
                continue
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            answers = sum(
                line["kind"] == "recv" and '"event":' in line["raw"][:40] for line in lines
            )
            timeline = load([path], DIALECTS[venue])
            assert timeline.left_out["answers"] == answers, path
            assert timeline.left_out["unattributed"] == timeline.left_out["other"] == 0, path
            frames = sum(isinstance(entry, Frame) for entry in timeline.entries)
            assert frames + answers == sum(line["kind"] == "recv" for line in lines), path


def test_a_hole_in_a_recording_cuts_it(tmp_path: Path) -> None:
    """The mark of a beginning cuts nothing, one between frames does, and the next snapshot of a
    symbol counts as its first.
    """
    mark = {"kind": "disconnect", "conn": "", "ts": 2.0, "raw": "5 lines were not recorded"}
    lost = {"kind": "disconnect", "ts": 2.5, "raw": "connection lost"}
    lines = [
        mark,
        SNAPSHOT,
        depth("XMRBTC", 3.0),
        SNAPSHOT,
        lost,
        depth("XMRBTC", 4.0),
        {**mark, "ts": 5.0},
        SNAPSHOT,
        SNAPSHOT,
    ]
    timeline = binance(recorded(tmp_path / "a.jsonl", *lines))
    assert [type(entry) for entry in timeline.entries] == [
        Snapshot,
        Frame,
        Snapshot,
        Frame,
        Cut,
        Snapshot,
        Snapshot,
    ]
    assert [entry.first for entry in timeline.entries if isinstance(entry, Snapshot)] == [
        True,
        False,
        True,
        False,
    ]
    assert [entry.at_s for entry in timeline.entries if isinstance(entry, Cut)] == [2.0]
