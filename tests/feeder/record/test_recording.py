"""Reading recordings: exact receive times, files in order, truncation, errors that name their
place, and the pre-scan.
"""

from __future__ import annotations

import gzip
import json
import time
from decimal import Decimal
from pathlib import Path

import pytest

from tapecast.feeder.record.recording import RecordingError, read, universe
from tapecast.feeder.venues.binance import VENUE as BINANCE
from tapecast.feeder.venues.binance_futures import VENUE as FUTURES
from tapecast.feeder.venues.okx import VENUE as OKX
from tapecast.feeder.venues.spec import Topic
from tapecast.feeder.venues.upbit import VENUE as UPBIT
from tests.support.captures import captures

TRADE = (
    '{"e":"aggTrade","E":1616176861895,"s":"BTCUSDT","a":640283266,"p":"58942.01000000","q":"0.00035600","f":716849523,'
    '"l":716849523,"T":1616176861893,"m":false,"M":true}'
)
"""Binance, 2021-03-19, from crypto-msg-parser's tests."""


def row(ts: str = "null", **keys: object) -> str:
    """Return one line of a recording; `ts` is its text."""
    fields = {"conn": "ws.1", "url": None, "kind": "recv", "raw": TRADE, **keys}
    return f'{{"ts": {ts}, ' + json.dumps(fields)[1:]


def write(path: Path, *rows: str) -> Path:
    """Write lines, compressed where the name says so."""
    data = "".join(line + "\n" for line in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(("ts", "keys", "expected"), [
    ("1633998511.132921", {}, 1_633_998_511_132_921_000),
    ("1723161256.1722167", {"ts_ns": 1_723_161_256_172_216_566}, 1_723_161_256_172_216_566),
    ("1680652800.004107", {"ts_us": 1_680_652_800_004_107}, 1_680_652_800_004_107_000),
    ("1723161256.1722167", {}, 1_723_161_256_172_216_700),
    ("1.7e9", {}, 1_700_000_000_000_000_000),
    ("1700000000", {"ts_ns": None, "ts_us": None}, 1_700_000_000_000_000_000),
    ("null", {"mono_ns": 91_951_477_042_977}, None),
])  # fmt: skip
def test_receive_times_are_exact(
    tmp_path: Path, ts: str, keys: dict[str, object], expected: int | None
) -> None:
    """ts_ns counts before ts_us before ts; null stays unknown, and the monotonic clock is no
    time of day.
    """
    (line,) = read([write(tmp_path / "a.jsonl", row(ts, **keys))])
    assert line.ts_recv_ns == expected


def test_files_are_one_recording_in_their_order(tmp_path: Path) -> None:
    """Plain and compressed files follow each other; each line knows its own place."""
    first = write(tmp_path / "b.jsonl.gz", row("1"), row("2"))
    second = write(tmp_path / "a.jsonl", row("3", kind="http", url="https://host/x", binary=True))
    lines = list(read([first, second]))
    assert [line.ts_recv_ns for line in lines] == [1_000_000_000, 2_000_000_000, 3_000_000_000]
    assert [(line.file, line.number) for line in lines] == [(first, 1), (first, 2), (second, 1)]
    assert (lines[2].kind, lines[2].url, lines[2].binary) == ("http", "https://host/x", True)
    assert lines[0].raw == TRADE.encode()


@pytest.mark.parametrize("bad", [
    "{",
    "[]",
    '{"ts": null, "kind": "recv"}',
    '{"ts": null, "kind": "recv", "raw": 5}',
    '{"ts": "soon", "kind": "recv", "raw": ""}',
    '{"ts": true, "kind": "recv", "raw": ""}',
    '{"ts": NaN, "kind": "recv", "raw": ""}',
])  # fmt: skip
def test_a_bad_line_is_an_error_with_its_place(tmp_path: Path, bad: str) -> None:
    """The message names file and line."""
    path = write(tmp_path / "a.jsonl", row(), bad, row())
    with pytest.raises(RecordingError, match=r"a\.jsonl:2: "):
        list(read([path]))


def test_a_truncated_last_line_is_reported_not_raised(tmp_path: Path) -> None:
    """A recorder that was killed leaves half a line; the rest is good."""
    path = tmp_path / "a.jsonl"
    path.write_text(row("1") + "\n" + row("2")[:-30])
    truncated: list[str] = []
    assert len(list(read([path], truncated=truncated))) == 1
    assert len(truncated) == 1
    assert truncated[0].startswith(f"{path}:2: ")


def test_a_complete_last_line_needs_no_newline(tmp_path: Path) -> None:
    """A missing newline alone loses nothing."""
    path = tmp_path / "a.jsonl"
    path.write_text(row("1") + "\n" + row("2"))
    truncated: list[str] = []
    assert len(list(read([path], truncated=truncated))) == 2
    assert truncated == []


def test_a_truncated_compressed_file_is_reported(tmp_path: Path) -> None:
    """What was compressed completely is read; the cut is reported."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(
        gzip.compress("".join(row(str(number)) + "\n" for number in range(5000)).encode())[:-200]
    )
    truncated: list[str] = []
    assert list(read([path], truncated=truncated))
    assert len(truncated) == 1


def test_every_recording_is_readable() -> None:
    """Every line of every recording has a kind the format knows and, where it has one, a
    plausible exact time.
    """
    for path in sorted(captures().glob("*/*.jsonl")):
        for line in read([path]):
            assert line.kind in ("recv", "send", "http", "connect", "reduced")
            assert line.ts_recv_ns is None or 10**18 < line.ts_recv_ns < 2 * 10**18


def test_receive_times_agree_with_decimal_arithmetic() -> None:
    """The times of a whole recording are those of exact decimal arithmetic on its text."""
    path = captures() / "binance" / "cf_20210814_spot.jsonl"
    expected = [
        int(json.loads(text, parse_float=Decimal)["ts"] * 10**9)
        for text in path.read_text().splitlines()
    ]
    assert [line.ts_recv_ns for line in read([path])] == expected


def test_the_pre_scan_finds_symbols_in_order_of_appearance() -> None:
    """Symbols come from the connect URL first; a list of instruments is known by its URL."""
    found = universe([captures() / "binance" / "cf_20211012_spot.jsonl"], BINANCE)
    assert found.symbols == ("NKNUSDT", "BLZETH", "LRCBTC", "RUNEEUR")
    assert found.has_instruments
    assert found.only_symbol is None
    assert Topic("depth@100ms", "LRCBTC") in found.topics
    assert found.lines == 271


def test_a_body_without_url_belongs_to_the_only_symbol() -> None:
    """With one symbol in a recording, an anonymous REST book is its; with several it is
    nobody's.
    """
    folder = captures()
    spot = folder / "binance" / "hft_20240808_spot_btcusdt.jsonl"
    found = universe([spot], BINANCE)
    assert found.only_symbol == "BTCUSDT"
    both = [
        folder / "binance_futures" / f"hft_20240808_usdm_{name}.jsonl"
        for name in ("btcusdt", "ethusdt")
    ]
    found = universe(both, FUTURES)
    assert (found.symbols, found.only_symbol) == (("BTCUSDT", "ETHUSDT"), None)


def test_the_pre_scan_knows_frames_in_any_key_order() -> None:
    """Alphabetical keys, spaced keys and frames without envelope all tell their symbol."""
    folder = captures()
    assert (
        len(universe([folder / "binance" / "nangman_20260520_spot_depth.jsonl"], BINANCE).symbols)
        == 49
    )
    path = folder / "long" / "binance_spot_ethbtc_20201101.p1.jsonl.gz"
    assert universe([path], BINANCE).topics == (
        Topic("depth", "ETHBTC"),
        Topic("aggTrade", "ETHBTC"),
    )


def test_the_pre_scan_leaves_foreign_symbols_out() -> None:
    """Contracts of another market among the frames are no symbols of this venue."""
    found = universe([captures() / "binance" / "examples.jsonl"], BINANCE)
    assert all(BINANCE.kind_of(symbol) is not None for symbol in found.symbols)
    assert not any("_" in symbol for symbol in found.symbols)


def test_the_pre_scan_reads_okx_and_upbit() -> None:
    """Symbols without a single message are known from the subscription."""
    found = universe([captures() / "okx" / "cf_20220227_v5_books_l2_tbt.jsonl"], OKX)
    assert len(found.symbols) == 10
    assert Topic("books-l2-tbt", "PROPS-ETH") in found.topics
    found = universe([captures() / "upbit" / "cf_20210405_simple.jsonl"], UPBIT)
    assert "USDT-ADA" in found.symbols
    assert len(found.symbols) == 10


def test_the_pre_scan_is_fast() -> None:
    """A recording of 100,000 lines is scanned in about a second (bound: four, on a busy
    machine).
    """
    path = captures() / "long" / "binance_spot_btcusdt_20240808.jsonl.gz"
    start = time.process_time()
    assert universe([path], BINANCE).lines == 99_574
    assert time.process_time() - start < 4
