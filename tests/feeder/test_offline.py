"""Recordings through session and publisher: which lines become what, and in which order."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tapecast.feeder.decode_command import events
from tapecast.feeder.offline import Offline
from tapecast.feeder.record.recording import RecordingError
from tapecast.feeder.venues import venue
from tapecast.protocol.codec import decode, walk
from tapecast.protocol.schema import Flag
from tests.support.feeder_frames import okx_books, okx_trade, spot_body, spot_depth, spot_trade

DEPTH_URL = "https://api.binance.com/api/v3/depth?symbol={}&limit=1000"
STREAM_URL = "wss://stream.binance.com:9443/stream?streams=lrcbtc@depth@100ms/nknusdt@depth@100ms"
BIDS, ASKS = [("0.00001150", "1")], [("0.00001151", "2")]


def line(raw: bytes, kind: str = "recv", **fields: Any) -> dict[str, Any]:
    """Return a line of a recording."""
    return {"ts": None, "conn": "ws.1", "url": None, "kind": kind, "raw": raw.decode()} | fields


def write(path: Path, *lines: dict[str, Any]) -> Path:
    """Write a recording; the name's end says whether it is compressed."""
    text = "".join(json.dumps(entry) + "\n" for entry in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def decoded(name: str, *paths: Path) -> list[dict[str, Any]]:
    """Return the events of a recording."""
    return list(events(Offline(venue(name), paths)))


def kinds(found: list[dict[str, Any]]) -> list[str]:
    """Return the types of events."""
    return [event["type"] for event in found]


def test_several_files_are_one_recording(tmp_path: Path) -> None:
    """A chain that goes over the end of a file, compressed or not, is one chain."""
    first = write(
        tmp_path / "a.jsonl",
        line(spot_depth(99, 100)),
        line(spot_body(100, BIDS, ASKS), "http", conn="http.1"),
    )
    second = write(tmp_path / "b.jsonl.gz", line(spot_depth(101, 101)), line(spot_depth(102, 103)))
    assert kinds(decoded("binance", first, second)) == [
        "instrument",
        "book",
        "status",
        "book",
        "book",
    ]
    assert "gap" in kinds(
        decoded("binance", first, write(tmp_path / "c.jsonl", line(spot_depth(102, 103))))
    )


def test_snapshot_without_url_belongs_to_the_only_symbol(tmp_path: Path) -> None:
    """And to nobody where the recording is about two: quarantined, not guessed."""
    body = line(spot_body(100, BIDS, ASKS), "http", conn="http.1")
    one = write(tmp_path / "one.jsonl", line(spot_depth(99, 100)), body)
    assert kinds(decoded("binance", one)) == ["instrument", "book", "status"]
    two = write(
        tmp_path / "two.jsonl",
        line(spot_depth(99, 100)),
        line(spot_depth(5, 6, symbol="NKNUSDT")),
        body,
    )
    found = decoded("binance", two)
    assert kinds(found) == ["instrument", "instrument", "quarantine"]
    assert found[-1]["reason"] == "REST body that belongs to no known symbol"


def test_snapshot_with_url_belongs_to_its_symbol(tmp_path: Path) -> None:
    """Two symbols, each with its own."""
    path = write(
        tmp_path / "two.jsonl",
        line(b"", "connect", url=STREAM_URL),
        line(spot_depth(99, 100)),
        line(spot_depth(5, 6, symbol="NKNUSDT")),
        line(spot_body(6, [("0.30", "1")], []), "http", url=DEPTH_URL.format("NKNUSDT")),
        line(spot_body(100, BIDS, ASKS), "http", url=DEPTH_URL.format("LRCBTC")),
    )
    books = [event for event in decoded("binance", path) if event["type"] == "book"]
    assert [(event["symbol"], event["bids"]) for event in books] == [
        ("NKNUSDT", [["0.3", "1"]]),
        ("LRCBTC", [["0.0000115", "1"]]),
    ]


def test_subscribed_symbols_are_defined_before_the_first_message(tmp_path: Path) -> None:
    """What the connect line asks for is known from the start, whether or not data come."""
    path = write(
        tmp_path / "a.jsonl",
        line(b"", "connect", url=STREAM_URL),
        line(spot_trade("0.00001150", "1")),
    )
    found = decoded("binance", path)
    assert [(event["type"], event["symbol"]) for event in found] == [
        ("instrument", "LRCBTC"),
        ("instrument", "NKNUSDT"),
        ("status", None),
        ("trade", "LRCBTC"),
    ]


def test_receive_times_are_exact_or_null(tmp_path: Path) -> None:
    """`ts_ns` before `ts_us` before `ts`, to the nanosecond; a monotonic time is none."""
    path = tmp_path / "a.jsonl"
    frame = okx_trade("84000.1", "7").decode()
    stamps = (
        '"ts":1652459000.123456789,"ts_us":5,"ts_ns":1652459000123456789',
        '"ts":1.5,"ts_us":1652459000123457',
    )
    stamps += ('"ts":1652459000.123456', '"ts":null', '"ts":null,"mono_ns":123')
    path.write_text(
        "".join(f'{{{stamp},"kind":"recv","raw":{json.dumps(frame)}}}\n' for stamp in stamps)
    )
    found = [event["ts_recv_ns"] for event in decoded("okx", path) if event["type"] == "trade"]
    assert found == [1652459000123456789, 1652459000123457000, 1652459000123456000, None, None]


@pytest.mark.parametrize("stamp", [2**63, 2**64 - 1, -(2**63), 10**30])
def test_receive_time_that_is_no_time_names_its_line(tmp_path: Path, stamp: int) -> None:
    """A number that 63 bits of ns do not hold is an error of the recording, not a traceback."""
    good, bad = line(okx_trade("84000.1", "7")), line(okx_trade("84000.1", "7"), ts_ns=stamp)
    path = write(tmp_path / "a.jsonl", good, bad)
    with pytest.raises(RecordingError, match=r"a\.jsonl:2: "):
        decoded("okx", path)


def test_every_quarantined_message_is_an_event_of_its_own(tmp_path: Path) -> None:
    """In the place of its line, with reason, offset and excerpt; never aggregated."""
    path = write(
        tmp_path / "a.jsonl",
        line(okx_trade("84000.1", "7")),
        line(b'{"arg":{"channel":"trades","instId":"BTC-USDT-SWAP"},"data":[{"px":"x"}]}'),
        line(b"{"),
        line(b"x", "reduced"),
        line(okx_trade("84000.1", "8", number=2)),
    )
    found = decoded("okx", path)
    assert kinds(found) == [
        "instrument",
        "trade",
        "quarantine",
        "quarantine",
        "quarantine",
        "trade",
    ]
    for event in found[2:5]:
        common = [
            "type",
            "venue",
            "kind",
            "symbol",
            "instrument",
            "ts_exchange_ns",
            "ts_recv_ns",
            "flags",
        ]
        assert list(event) == [*common, "reason", "offset", "excerpt"]
        assert event["reason"]
        assert len(event["excerpt"]) <= 120


def test_reconnection_ends_the_books_of_the_connection(tmp_path: Path) -> None:
    """A second connect line of the same connection: the book is SUSPECT and needs its new
    snapshot.
    """
    connect = line(b"", "connect", url="wss://ws.okx.com:8443/ws/v5/public")
    snapshot = line(okx_books("snapshot", 1, -1, [("84000.1", "1")], []))
    path = write(
        tmp_path / "a.jsonl", connect, snapshot, connect, line(okx_books("update", 2, 1)), snapshot
    )
    found = decoded("okx", path)
    states = [event["state"] if event["type"] == "status" else event["type"] for event in found]
    assert states == [
        "instrument",
        "connected",
        "book",
        "live",
        "disconnected",
        "suspect",
        "connected",
        "book",
        "live",
    ]


def test_same_recording_gives_the_same_bytes(tmp_path: Path) -> None:
    """Decoding is a function of the file: stamped packets included."""
    path = write(
        tmp_path / "a.jsonl",
        line(spot_depth(99, 100)),
        line(spot_body(100, BIDS, ASKS), "http"),
        *(
            line(spot_depth(n, n, [("0.00001149", str(n))]), ts_ns=1_633_998_512_000_000_000 + n)
            for n in range(101, 150)
        ),
    )
    first, second = (
        b"".join(step.packets for step in Offline(venue("binance"), [path]).run()) for _ in range(2)
    )
    assert first == second
    headers = [decode(packet).header for packet in walk(first)]
    assert all(header.flags & Flag.REPLAY for header in headers)
    assert [header.channel_seq for header in headers] == list(range(1, len(headers) + 1))


def test_long_recording_does_not_gather_commands_or_messages(tmp_path: Path) -> None:
    """A recording has nobody to ask: requests are dropped, quarantined messages handed over line
    by line.
    """
    updates = (line(spot_depth(5 * n, 5 * n)) for n in range(500))
    path = write(tmp_path / "a.jsonl", *(line(b"{") for _ in range(500)), *updates)
    offline = Offline(venue("binance"), [path])
    for _ in offline.run():
        assert len(offline.session.commands) == 0
        assert len(offline.session.quarantined) == 0


def test_lines_of_other_kinds_and_unknown_bodies_say_nothing(tmp_path: Path) -> None:
    """What the client sent, marks of other tools: passed over."""
    subscribe = b'{"op":"subscribe","args":[{"channel":"trades","instId":"BTC-USDT-SWAP"}]}'
    path = write(tmp_path / "a.jsonl", line(subscribe, "send"), line(b"", "mark"), line(b"pong"))
    assert kinds(decoded("okx", path)) == ["instrument"]
