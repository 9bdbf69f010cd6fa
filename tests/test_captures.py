"""`tests.support.captures`: absent recordings skip a test by hand and fail it in CI, never pass
it; a file that is added or taken away is a case more or less, and nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.feeder.test_all_recordings import judge
from tests.support import captures as support
from tests.support.captures import captures, discover, foreign, gone_is_absent, names, recording

GUIDE = """# Recordings

## okx/new_20260901_trades.jsonl

- API: v5 public: trades
- types: {"trades": 1}

## Added later

- `okx/old_20210101_v3.jsonl`: the legacy v3 feed
"""
TRADE = {
    "arg": {"channel": "trades", "instId": "BTC-USDT-SWAP"},
    "data": [
        {
            "instId": "BTC-USDT-SWAP",
            "tradeId": "219066264",
            "px": "43568.8",
            "sz": "7",
            "side": "buy",
            "ts": "1646311922000",
        }
    ],
}
"""A trade of 2022-03-03 in the documented layout (source: crypto-msg-parser, tests/okx.rs)."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recordings of the test's own, with a README and files in other forms."""
    monkeypatch.setenv("TAPECAST_CAPTURES", str(tmp_path))
    monkeypatch.delenv("TAPECAST_REQUIRE_CAPTURES", raising=False)
    (tmp_path / "README.md").write_text(GUIDE)
    for name in ("okx", "l3", "unheard"):
        (tmp_path / name).mkdir()
    (tmp_path / "l3" / "orders.jsonl").write_text("1430438400000 order_created {}\n")
    (tmp_path / "okx" / "table.csv").write_text("time,price\n")
    return tmp_path


def added(path: Path, body: object, **keys: object) -> None:
    """Add a recording of one message; ask for the recordings anew."""
    line = {"ts": 1646311922.1, "conn": "ws.1", "url": None, "kind": "recv", **keys}
    path.write_text(json.dumps(line | {"raw": json.dumps(body, separators=(",", ":"))}) + "\n")
    support.forget()


@pytest.mark.parametrize(("required", "outcome"), [("0", "Skipped"), ("1", "Failed")])
def test_absent_recordings_are_never_a_success(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: str
) -> None:
    """The message names the folder that was looked for."""
    monkeypatch.setenv("TAPECAST_CAPTURES", "/nonexistent/captures")
    monkeypatch.setenv("TAPECAST_REQUIRE_CAPTURES", required)
    kinds = {"Skipped": pytest.skip.Exception, "Failed": pytest.fail.Exception}
    with pytest.raises(kinds[outcome], match="/nonexistent/captures"):
        captures()


def test_a_recording_is_a_case_as_long_as_it_is_there(folder: Path, tmp_path: Path) -> None:
    """One that is added is found, known from the README and decoded; taken away, it is asked for
    no more.
    """
    assert names() == []
    file = folder / "okx" / "new_20260901_trades.jsonl"
    added(file, TRADE)
    assert names() == ["okx/new_20260901_trades.jsonl"]
    found = recording("okx/new_20260901_trades.jsonl")
    assert (found.venue, found.stated("types"), found.long) == ("okx", {"trades": 1}, False)
    judge(found, None, tmp_path)
    file.unlink()
    support.forget()
    assert names() == []
    with pytest.raises(pytest.skip.Exception, match="new_20260901"):
        recording("okx/new_20260901_trades.jsonl")


def test_a_test_that_quotes_a_recording_which_has_gone_is_skipped(folder: Path) -> None:
    """As if the folder were absent; a missing file from elsewhere is an error as ever."""
    with pytest.raises(pytest.skip.Exception, match=r"gone\.jsonl"), gone_is_absent():
        (captures() / "okx" / "gone.jsonl").read_bytes()
    with pytest.raises(FileNotFoundError), gone_is_absent():
        Path("/nonexistent/other.jsonl").read_bytes()


def test_a_new_recording_that_decodes_wrongly_fails(folder: Path, tmp_path: Path) -> None:
    """A trade that nobody understands is put aside, which no stream may come to unless the README
    calls its feed superseded.
    """
    body = {"table": "spot/trade", "data": [{"instrument_id": "BTC-USDT", "price": "43568.8"}]}
    added(folder / "okx" / "new_20260901_trades.jsonl", body)
    with pytest.raises(AssertionError):
        judge(recording("okx/new_20260901_trades.jsonl"), None, tmp_path)
    added(folder / "okx" / "old_20210101_v3.jsonl", body)
    assert recording("okx/old_20210101_v3.jsonl").superseded
    judge(recording("okx/old_20210101_v3.jsonl"), None, tmp_path)


def test_a_file_says_itself_what_it_is(folder: Path) -> None:
    """Single messages by their source, cut rows by their kind; other forms are passed over, and a
    recording of a venue that is not ours is no case.
    """
    added(folder / "okx" / "examples.jsonl", TRADE, source="the venue's portal")
    added(folder / "okx" / "rows.jsonl", ["BTC-USDT", 43568.8], kind="reduced")
    added(folder / "unheard" / "stream.jsonl", TRADE)
    found = {file.name: file for file in discover()}
    assert set(found) == {"okx/examples.jsonl", "okx/rows.jsonl", "unheard/stream.jsonl"}
    assert names(single=True) == ["okx/examples.jsonl"]
    assert names() == ["okx/rows.jsonl"]
    assert found["okx/rows.jsonl"].reduced
    assert not found["okx/examples.jsonl"].reduced
    assert found["unheard/stream.jsonl"].venue == ""


def test_foreign_single_messages_are_recognised_by_their_text() -> None:
    """So that a collection may grow in the middle."""
    assert foreign("okx", b'{"table":"spot/depth5","data":[]}') == "API v3"
    assert foreign("okx", json.dumps(TRADE).encode()) is None
    assert foreign("upbit", b'{"table":"spot/depth5"}') is None
