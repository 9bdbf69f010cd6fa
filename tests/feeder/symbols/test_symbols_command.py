"""`tapecast symbols`: refreshed from a replay server, listed, resolved, and kept when the venue
cannot be asked.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import msgspec
import pytest

from tapecast import cli
from tapecast.feeder.symbols import cache as symbol_cache
from tapecast.feeder.venues import venue
from tapecast.protocol.codec import instrument_id
from tapecast.runtime.errors import ExitCode
from tests.support.captures import captures
from tests.support.processes import free_port, tapecast
from tests.support.venue_server import lines

RECORDED = {
    "okx": "okx/cf_20220513_v5_books.jsonl",
    "deribit": "deribit/cf_20210722_options.jsonl",
    "kraken": "kraken/cf_20210417_ws_v1.p1.jsonl",
    "bybit": "bybit/cf_20260809_v5_linear_spot.p1.jsonl",
}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a state folder with the recorded definitions of three venues, refreshed an hour
    ago.
    """
    monkeypatch.setenv("TAPECAST__FEEDER__STATE_DIR", str(tmp_path))
    monkeypatch.delenv("LIMITED_MODE", raising=False)
    for name, file in RECORDED.items():
        spec = venue(name)
        bodies = [
            line.raw
            for line in lines(captures() / file, "http")
            if line.url and spec.recordings.is_listing(line.url)
        ]
        defs = tuple({d.key: d for body in bodies for d in spec.listing.parse(body).defs}.values())
        symbol_cache.save(
            tmp_path,
            symbol_cache.Cached(
                venue=name, fetched_ns=time.time_ns() - 3 * 3600 * 10**9, defs=defs
            ),
        )
    return tmp_path


def objects(text: str) -> list[dict[str, object]]:
    """Return the JSON lines of an output."""
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.usefixtures("kept")
def test_list_prints_definitions_and_tells_their_age(capsys: pytest.CaptureFixture[str]) -> None:
    """One instrument a line, of one kind where asked for; the age and what has none go to
    stderr.
    """
    assert cli.main(["symbols", "list", "okx", "binance", "--kind", "perpetual"]) == 0
    out, err = capsys.readouterr()
    head, *rows = out.splitlines()
    assert head.split() == [
        "INSTRUMENT",
        "CANONICAL",
        "STATE",
        "TICK",
        "LOT",
        "MULTIPLIER",
        "EXPIRY",
        "ID",
    ]
    assert len(rows) == 166
    row = next(line.split() for line in rows if line.startswith("okx.perpetual.BTC-USD-SWAP "))
    assert row == [
        "okx.perpetual.BTC-USD-SWAP",
        "BTC-USD",
        "trading",
        "0.1",
        "1",
        "100",
        "-",
        f"{instrument_id(row[0]):016x}",
    ]
    assert "okx: 679 instruments, refreshed 3 h ago" in err
    assert "no definitions of binance: run `tapecast symbols refresh binance`" in err


@pytest.mark.usefixtures("kept")
def test_list_prints_every_field_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers are exact text; what the venue does not give is null."""
    assert cli.main(["symbols", "list", "deribit", "--kind", "option", "--json"]) == 0
    found = {row["symbol"]: row for row in objects(capsys.readouterr().out)}
    row = found["BTC-24SEP21-40000-P"]
    assert row == {
        "venue": "deribit",
        "kind": "option",
        "symbol": "BTC-24SEP21-40000-P",
        "key": "BTC-24SEP21-40000-P",
        "instrument": "deribit.option.BTC-24SEP21-40000-P",
        "id": f"{instrument_id('deribit.option.BTC-24SEP21-40000-P'):016x}",
        "canonical": "BTC-USD-20210924-40000-P",
        "aliases": [],
        "state": "trading",
        "base": "BTC",
        "quote": "BTC",
        "settle": "BTC",
        "tick": "0.0005",
        "lot": None,
        "min_qty": "0.1",
        "min_notional": None,
        "multiplier": "1",
        "inverse": False,
        "expiry": "2021-09-24T08:00:00Z",
        "strike": "40000",
        "option_type": "put",
    }


@pytest.mark.usefixtures("kept")
def test_list_selected_is_what_a_feeder_would_take(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configured universe against the kept definitions, with limited mode; `LIMITED_MODE=0`
    is not limited.
    """
    monkeypatch.setenv(
        "TAPECAST__VENUES__BYBIT__SYMBOLS", '["spot:XRPUSDT", "spot.*-USDT", "NOSUCHUSDT"]'
    )
    monkeypatch.setenv("TAPECAST__VENUES__BYBIT__TOP", "0")
    for limited in ("true", "0", ""):
        monkeypatch.setenv("LIMITED_MODE", limited)
        assert cli.main(["symbols", "list", "bybit", "--selected", "--json"]) == 0
        out, err = capsys.readouterr()
        found = objects(out)
        assert found[0]["key"] == "spot:XRPUSDT"
        assert len(found) == 10 if limited == "true" else len(found) > 300
        assert "bybit: NOSUCHUSDT: not listed by bybit" in err


@pytest.mark.usefixtures("kept")
def test_resolve_finds_a_name_on_every_venue(capsys: pytest.CaptureFixture[str]) -> None:
    """Canonical, native, alias and instrument texts; a kind narrows; capitals do not matter."""

    def resolved(*words: str) -> list[object]:
        assert cli.main(["symbols", "resolve", *words, "--json"]) == 0
        return [row["instrument"] for row in objects(capsys.readouterr().out)]

    bitcoin = ["bybit.perpetual.BTCUSDT", "bybit.spot.BTCUSDT", "kraken.spot.BTC/USDT"]
    bitcoin += ["okx.perpetual.BTC-USDT-SWAP", "okx.spot.BTC-USDT"]
    assert sorted(map(str, resolved("btc-usdt"))) == sorted(bitcoin)
    assert resolved("perpetual.BTC-USDT") == [
        "bybit.perpetual.BTCUSDT",
        "okx.perpetual.BTC-USDT-SWAP",
    ]
    assert resolved("BTCUSDT", "--kind", "spot") == ["bybit.spot.BTCUSDT"]
    assert resolved("XXBTZUSD") == ["kraken.spot.BTC/USD"]
    assert resolved("BTC-USDT-20260925", "okx.spot.ETH-USDT") == [
        "bybit.future.BTCUSDT-25SEP26",
        "okx.spot.ETH-USDT",
    ]
    assert resolved("BTC-USD-20210924-40000-C") == ["deribit.option.BTC-24SEP21-40000-C"]


@pytest.mark.usefixtures("kept")
def test_resolve_suggests_what_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    """What means nothing ends with exit code 1 and the nearest names; what else was asked for is
    printed.
    """
    assert (
        cli.main(["symbols", "resolve", "BTC-USDTT", "spot.ETH-USDT", "--json"]) == ExitCode.RUNTIME
    )
    out, err = capsys.readouterr()
    assert {row["canonical"] for row in objects(out)} == {"ETH-USDT"}
    assert "BTC-USDTT: no instrument; nearest: BTC-USDT" in err


def test_without_any_definition_the_way_to_them_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing kept is a failure that names the command; an unknown venue names the nearest;
    nothing to resolve: a usage error.
    """
    monkeypatch.setenv("TAPECAST__FEEDER__STATE_DIR", str(tmp_path))
    assert cli.main(["symbols", "list"]) == ExitCode.RUNTIME
    assert "run `tapecast symbols refresh`" in capsys.readouterr().err
    assert cli.main(["symbols", "refresh", "byybit"]) == ExitCode.USAGE
    assert "nearest: bybit" in capsys.readouterr().err
    assert cli.main(["symbols", "resolve"]) == ExitCode.USAGE


def test_refresh_from_a_replay_server_and_then_offline(tmp_path: Path) -> None:
    """What the recording holds is fetched and kept; when the server is gone, the old file stays
    untouched and its age is told.
    """
    state = tmp_path / "state"
    served = tapecast(tmp_path, "replay", captures() / RECORDED["okx"], "--json", name="replay")
    settings = {"feeder.state_dir": str(state)}
    with served:
        rest = served.expect("listening")["rest"]
        settings["venues.okx.endpoints.rest"] = rest
        with tapecast(
            tmp_path, "symbols", "refresh", "okx", "--json", name="refresh", settings=settings
        ) as child:
            assert child.wait(30.0) == 0, child.stderr()
        (row,) = objects(child.stdout())
        assert (row["venue"], row["refreshed"], row["instruments"], row["volumes"]) == (
            "okx",
            True,
            679,
            0,
        )
        assert "okx: list left out: http" in child.stderr()
        assert "FUTURES" in child.stderr()
    path = symbol_cache.path_of(state, "okx")
    before = path.read_bytes()
    with tapecast(
        tmp_path, "symbols", "refresh", "okx", "--json", name="offline", settings=settings
    ) as child:
        assert child.wait(30.0) == ExitCode.TRY_AGAIN, child.stderr()
    (row,) = objects(child.stdout())
    assert row["refreshed"] is False
    assert "not refreshed, the definitions of" in child.stderr()
    assert "ago stay" in child.stderr()
    assert path.read_bytes() == before
    with tapecast(
        tmp_path, "symbols", "resolve", "BTC-USDT", name="resolve", settings=settings
    ) as child:
        assert child.wait(30.0) == 0
    assert "okx.perpetual.BTC-USDT-SWAP" in child.stdout()


def test_a_damaged_file_is_told(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a file is named with what is wrong; the other venues are listed."""
    path = symbol_cache.path_of(kept, "okx")
    path.write_bytes(path.read_bytes()[:1000])
    assert cli.main(["symbols", "resolve", "spot.BTC-USDT", "--json"]) == 0
    out, err = capsys.readouterr()
    assert {row["venue"] for row in objects(out)} == {"bybit", "kraken"}
    assert f"okx: {path} is damaged" in err
    assert "okx" in next(line for line in err.splitlines() if line.startswith("no definitions of"))


def test_offline_and_without_an_older_list_it_says_so(tmp_path: Path) -> None:
    """Exit code 75, no file, no traceback."""
    settings = {
        "feeder.state_dir": str(tmp_path / "state"),
        "venues.upbit.endpoints.rest": f"http://127.0.0.1:{free_port()}",
    }
    with tapecast(tmp_path, "symbols", "refresh", "upbit", settings=settings) as child:
        assert child.wait(30.0) == ExitCode.TRY_AGAIN
    assert "upbit: not refreshed, there are no older ones" in child.stderr()
    assert "Traceback" not in child.stderr()
    assert not os.path.exists(symbol_cache.path_of(tmp_path / "state", "upbit"))


def test_a_kept_file_says_how_old_it_is_and_holds_what_was_listed(kept: Path) -> None:
    """The file is plain JSON with a format number: venue, time, definitions."""
    body = msgspec.json.decode(symbol_cache.path_of(kept, "kraken").read_bytes())
    assert (body["format"], body["venue"], len(body["defs"])) == (1, "kraken", 293)
