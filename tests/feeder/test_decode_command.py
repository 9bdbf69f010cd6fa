"""`tapecast decode` as a user runs it: JSON lines on stdout, narration on stderr, and messages
that name file and line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tapecast import cli
from tapecast.protocol.codec import walk
from tapecast.protocol.render import Renderer
from tests.feeder.test_offline import line, write
from tests.support.feeder_frames import (
    okx_books,
    okx_trade,
    spot_body,
    spot_depth,
    spot_ticker,
    spot_trade,
)

COMMON = ["type", "venue", "kind", "symbol", "instrument", "ts_exchange_ns", "ts_recv_ns", "flags"]
KEYS = {
    "trade": ["price", "quantity", "side", "trade_id"],
    "book": ["snapshot", "bids", "asks"],
    "bbo": ["bid", "ask"],
    "instrument": [
        "state", "version", "price_exp", "qty_exp", "tick", "lot", "min_qty", "min_notional", "multiplier", "expiry_ns", "strike",
        "base", "quote", "settle", "option_type",
    ],
    "status": ["scope", "state", "reason", "counts", "detail"],
    "gap": ["expected", "got", "reason"],
    "quarantine": ["reason", "offset", "excerpt"],
}  # fmt: skip


def story(folder: Path) -> Path:
    """Write a recording in which everything happens that can."""
    return write(
        folder / "story.jsonl",
        line(b"", "connect", url="wss://stream.binance.com:9443/stream?streams=lrcbtc@depth@100ms"),
        line(spot_depth(99, 100)),
        line(spot_body(100, [("0.00001150", "1.50")], [("0.00001151", "2")]), "http"),
        line(spot_trade("0.00001150", "3.00000000"), ts_ns=1_633_998_512_345_000_007),
        line(spot_ticker(("0.00001150", "1"), ("0.00001151", "2"))),
        line(b'{"e":"depthUpdate"'),
        line(spot_depth(103, 104)),
    )


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run the command; return its exit code, the events on stdout and the text on stderr."""
    code = cli.main(["decode", *words])
    out, err = capfd.readouterr()
    return code, [json.loads(text) for text in out.splitlines()], err


def test_lines_have_their_keys_in_order(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every type of event: the common keys, then its own; decimals are strings, times integers."""
    code, events, err = run(capfd, str(story(tmp_path)), "--venue", "binance")
    assert code == 0
    assert [event["type"] for event in events] == [
        "instrument", "status", "book", "status", "trade", "bbo", "quarantine", "gap",
    ]  # fmt: skip
    for event in events:
        assert list(event) == COMMON + KEYS[event["type"]]
    trade = events[4]
    assert (trade["price"], trade["quantity"], trade["side"], trade["trade_id"]) == (
        "0.0000115",
        "3",
        "buy",
        "1",
    )
    assert (trade["ts_exchange_ns"], trade["ts_recv_ns"]) == (
        1_633_998_512_345_000_000,
        1_633_998_512_345_000_007,
    )
    assert (trade["venue"], trade["kind"], trade["symbol"], trade["instrument"]) == (
        "binance", "spot", "LRCBTC", "binance.spot.LRCBTC",
    )  # fmt: skip
    assert events[5]["ts_recv_ns"] is None
    assert (events[7]["expected"], events[7]["got"], events[7]["reason"]) == (101, 103, "gap")
    assert "7 lines" in err
    assert "quarantine 1" in err


def test_several_files_compressed_or_not_are_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In the order given."""
    first = write(tmp_path / "z.jsonl.gz", line(okx_books("snapshot", 1, -1)))
    second = write(
        tmp_path / "a.jsonl", line(okx_books("update", 2, 1)), line(okx_trade("84000.1", "7"))
    )
    code, events, _ = run(capfd, str(first), str(second), "--venue", "okx")
    assert code == 0
    assert [event["type"] for event in events] == ["instrument", "book", "status", "book", "trade"]


def test_missing_file_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, one line, no traceback."""
    code, events, err = run(capfd, str(tmp_path / "absent.jsonl"), "--venue", "okx")
    assert (code, events) == (1, [])
    assert "absent.jsonl" in err
    assert "internal error" not in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "broken", ['{"kind":"recv","raw":', "nonsense", '{"kind":"recv"}', '{"kind":5,"raw":""}', "[]"]
)
def test_broken_line_is_named_by_file_and_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], broken: str
) -> None:
    """Exit code 1 and where it is; it is the file's fault and said so."""
    path = write(tmp_path / "a.jsonl", line(okx_trade("84000.1", "7")))
    path.write_text(path.read_text() + broken + "\n" + path.read_text())
    code, _, err = run(capfd, str(path), "--venue", "okx")
    assert code == 1
    assert f"{path}:2: " in err
    assert "internal error" not in err


def test_damaged_compression_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that only looks compressed."""
    path = tmp_path / "a.jsonl.gz"
    path.write_text("not gzip")
    code, _, err = run(capfd, str(path), "--venue", "okx")
    assert code == 1
    assert "internal error" not in err


def test_last_line_that_was_cut_off_is_left_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A recorder that was killed leaves one."""
    path = write(tmp_path / "a.jsonl", line(okx_trade("84000.1", "7")))
    path.write_text(path.read_text() + '{"kind":"recv","ra')
    code, events, _ = run(capfd, str(path), "--venue", "okx")
    assert code == 0
    assert [event["type"] for event in events] == ["instrument", "trade"]


def test_snapshot_without_url_among_two_symbols_is_quarantined(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It belongs to nobody."""
    path = write(
        tmp_path / "a.jsonl",
        line(spot_depth(99, 100)),
        line(spot_depth(5, 6, symbol="NKNUSDT")),
        line(spot_body(100, [], []), "http"),
    )
    code, events, _ = run(capfd, str(path), "--venue", "binance")
    assert code == 0
    assert [event["type"] for event in events] == ["instrument", "instrument", "quarantine"]


def test_unknown_venue_is_a_usage_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and the known ones are listed."""
    with pytest.raises(SystemExit) as left:
        cli.main(["decode", str(story(tmp_path)), "--venue", "mtgox"])
    assert left.value.code == 2
    assert "binance_futures" in capfd.readouterr().err


def test_packets_option_writes_what_the_lines_say(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The tape, rendered, is the same lines except those that never were packets."""
    tape = tmp_path / "tape"
    _, events, _ = run(capfd, str(story(tmp_path)), "--venue", "binance", "--packets", str(tape))
    renderer = Renderer()
    rendered = [event for packet in walk(tape.read_bytes()) for event in renderer.feed(packet)]
    assert rendered == [event for event in events if event["type"] != "quarantine"]
