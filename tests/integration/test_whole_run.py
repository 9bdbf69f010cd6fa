"""Recording → replay server → feeder → multicast → consumer, as separate processes: what arrives
is what `decode` prints.

Each run has groups and ports of its own; nothing leaves the host.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tapecast.feeder.replay.venues import guess_venue
from tapecast.feeder.venues import VENUES
from tests.support.captures import captures
from tests.support.event_lines import PlainBook, by_instrument, read_events
from tests.support.feeder_oracle import first_lines
from tests.support.processes import Child

Start = Callable[..., Child]

SHORT = (
    "binance/cf_20210404_spot_btc_eth_dot.jsonl",
    "binance/cf_20210814_spot.jsonl",
    "binance/cf_20211012_spot.jsonl",
    "binance/hft_20240808_spot_btcusdt.jsonl",
    "binance/nangman_20260520_spot_depth.jsonl",
    "binance_futures/cf_20210417_usdm.jsonl",
    "binance_futures/cf_20210722_usdm.jsonl",
    "binance_futures/hft_20240808_usdm_btcusdt.jsonl",
    "binance_futures/hft_20240808_usdm_ethusdt.jsonl",
    "bybit/cf_20250613_v5_l1.jsonl",
    "bybit/cf_20260809_v5_linear_spot.p1.jsonl",
    "bybit/nautilus_20241201_linear_xrpusdt_ob500.jsonl",
    "deribit/cf_20210405_options.jsonl",
    "deribit/cf_20210722_options.jsonl",
    "coinbase/cf_20210417_exchange_ws_feed.p1.jsonl",
    "coinbase/cf_20260809_advanced_trade.p1.jsonl",
    "kraken/agenttrade_20260914_v2_btcusd_trade.jsonl",
    "kraken/cf_20210417_ws_v1.p1.jsonl",
    "kraken/crossbook_20260802_v2_btcusd_d25.jsonl",
    "kraken/crossbook_20260802_v2_ethusd_d25.jsonl",
    "kraken/mhadi_20260719_v2_btcusd_d10.jsonl",
    "okx/cf_20220227_v5_books_l2_tbt.jsonl",
    "okx/cf_20220513_v5_books.jsonl",
    "okx/fastmm_20260926_btc_usdt_swap.p1.jsonl",
    "upbit/cf_20210405_simple.jsonl",
    "long/binance_spot_btcusdt_20201101_aggtrades.p1.jsonl.gz",
    "long/binance_spot_btcusdt_20230405.jsonl.gz",
    "long/binance_spot_ethbtc_20201101.p1.jsonl.gz",
    "long/binance_spot_ethusdt_20201101_aggtrades.p1.jsonl.gz",
)
LONG = (
    "long/binance_spot_btcusdt_20240808.jsonl.gz",
    "long/binance_futures_usdm_btcusdt_20240808.jsonl.gz",
    "long/binance_futures_usdm_ethusdt_20240808.jsonl.gz",
    "long/binance_coinm_btcusd_perp_20240808.jsonl.gz",
    "long/binance_usdm_btcusdt_20230404.jsonl.gz",
    "long/binance_usdm_ethusdt_20240718.jsonl.gz",
)
LONG_IN_EVERY_RUN = LONG[1]
WITHOUT_MARKET_DATA = (
    "bithumb/cf_20210602_pubwss_v1.p1.jsonl",
    "upbit/sml_20250714_default_ticker_reserialized.jsonl",
    "upbit/jun_20260512_krw_ticker_reduced.p1.jsonl.gz",
    "ls/changmai_005930_20251125_ticks_reduced.jsonl",
    "ls/changmai_015760_20251126_ticks_reduced.jsonl",
)
"""Tickers, a feed that ended, or messages that their recorder cut, which only `decode` reads:
there is nothing to run.
"""


def measured_run(
    start: Start, folder: Path, *files: Path, within_s: float = 60.0
) -> tuple[int, dict[str, object], Path]:
    """Run recordings at full speed to their end; return the exit code, the report and the file
    of received events.
    """
    events = folder / "events.jsonl"
    child = start(
        "up", "--replay", *files, "--speed", "max", "--until-end", "--json", "--events", events
    )
    code = child.wait(within_s)
    assert child.stdout(), child.stderr()
    return code, json.loads(child.stdout()), events


def decoded(decoding: Child) -> Path:
    """Return the file of what `decode` printed."""
    assert decoding.wait() == 0, decoding.stderr()
    return decoding.out


def assert_nothing_lost(report: dict[str, object]) -> None:
    """Every frame served was handled, every packet sent was received, no gap anywhere."""
    assert report["ok"] is True
    assert report["frames"] == report["frames_served"]
    assert report["packets_received"] == report["packets_sent"]
    for name in (
        "lost",
        "frames_lost",
        "send_dropped",
        "kernel_drops",
        "upstream_gaps",
        "quarantined",
    ):
        assert report[name] == 0, name
    assert report["gaps"] == []


def assert_equal(received: Path, printed: Path, leave_out: tuple[str, ...] = ()) -> Counter[str]:
    """Assert that both files hold the same lines of each instrument, and that no book is ever
    crossed; return what there is.
    """
    got, wanted = (
        by_instrument(read_events(received), leave_out),
        by_instrument(read_events(printed), leave_out),
    )
    assert set(got) == set(wanted)
    kinds: Counter[str] = Counter()
    for instrument, events in wanted.items():
        assert len(got[instrument]) == len(events), instrument
        for number, (ours, theirs) in enumerate(zip(got[instrument], events, strict=True)):
            assert ours == theirs, f"{instrument}, event {number}"
            assert list(ours) == list(theirs)
        book = PlainBook()
        for event in got[instrument]:
            kinds[event["type"]] += 1
            if event["type"] == "book":
                book.apply(event)
                assert not book.crossed, event
    return kinds


@pytest.mark.parametrize("name", [*SHORT, LONG_IN_EVERY_RUN])
def test_what_a_consumer_receives_is_what_decode_prints(
    name: str, start: Start, tmp_path: Path
) -> None:
    """Every instrument's lines are equal apart from receive times, nothing is lost, and the exit
    code is 0.
    """
    file = captures() / name
    venue = guess_venue(file)
    decoding = start("decode", "--venue", venue, file)
    code, report, events = measured_run(start, tmp_path, file)
    assert_nothing_lost(report)
    assert list(report["venues"]) == [venue]  # type: ignore[call-overload]
    kinds = assert_equal(events, decoded(decoding))
    assert code == 0
    # type: ignore[attr-defined]
    sent = {kind: count for kind, count in report["events"].items() if count}
    # One event may hold several trades or statistics, each a line of its own.
    single = {kind: count for kind, count in sent.items() if kind in ("book", "bbo")}
    assert {kind: kinds[kind] for kind in single} == single
    assert all(kinds[kind] >= count for kind, count in sent.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LONG if name != LONG_IN_EVERY_RUN])
def test_long_recordings_arrive_whole(name: str, start: Start, tmp_path: Path) -> None:
    """The same for the recordings of a hundred thousand messages."""
    test_what_a_consumer_receives_is_what_decode_prints(name, start, tmp_path)


def test_the_beginning_of_a_coin_m_recording_arrives_whole(start: Start, tmp_path: Path) -> None:
    """The market's only recording is long: every run takes its first lines."""
    file = first_lines(
        captures() / "long" / "binance_coinm_btcusd_perp_20240808.jsonl.gz", 4000, tmp_path
    )
    decoding = start("decode", "--venue", "binance_coinm", file)
    code, report, events = measured_run(start, tmp_path, file)
    assert_nothing_lost(report)
    assert assert_equal(events, decoded(decoding))["book"] > 1000
    assert code == 0


def test_no_recording_is_forgotten() -> None:
    """Every recording of the venues is in one of the lists above; the files of documented
    examples are no streams.
    """
    folder = captures()
    found = {
        f"{venue}/{file.name}" for venue in VENUES for file in (folder / venue).glob("*.jsonl*")
    }
    found |= {f"long/{file.name}" for file in (folder / "long").glob("*.jsonl*")}
    assert {name for name in found if "/examples" not in name} == {
        *SHORT,
        *LONG,
        *WITHOUT_MARKET_DATA,
    }


def test_several_venues_run_at_once(start: Start, tmp_path: Path) -> None:
    """One run of recordings of all four venues: each channel arrives whole, beside the others."""
    folder = captures()
    names = {
        "binance": "cf_20210404_spot_btc_eth_dot.jsonl",
        "binance_futures": "cf_20210417_usdm.jsonl",
        "okx": "cf_20220227_v5_books_l2_tbt.jsonl",
        "upbit": "cf_20210405_simple.jsonl",
    }
    files = [folder / venue / name for venue, name in names.items()]
    code, report, events = measured_run(start, tmp_path, *files)
    assert_nothing_lost(report)
    assert set(report["venues"]) == set(names)  # type: ignore[call-overload]
    printed = tmp_path / "all.jsonl"
    texts = [
        decoded(start("decode", "--venue", venue, folder / venue / name)).read_bytes()
        for venue, name in names.items()
    ]
    printed.write_bytes(b"".join(texts))
    assert_equal(events, printed)
    assert code == 0


def test_a_folder_is_one_recording_of_each_venue(start: Start, tmp_path: Path) -> None:
    """The recordings of a folder are played one after the other; the data are those of decoding
    them in this order.

    States differ: recorded connections end with their file, while the server keeps its clients
    from one file to the next.
    """
    folder = captures() / "binance_futures"
    code, report, events = measured_run(start, tmp_path, folder)
    assert_nothing_lost(report)
    files = sorted(file for file in folder.glob("*.jsonl") if not file.name.startswith("examples"))
    kinds = assert_equal(
        events,
        decoded(start("decode", "--venue", "binance_futures", *files)),
        leave_out=("status", "instrument"),
    )
    assert kinds["book"] == report["events"]["book"]  # type: ignore[index]
    assert code == 0


@pytest.mark.parametrize("name", WITHOUT_MARKET_DATA)
def test_a_recording_without_market_data_is_refused(
    name: str, start: Start, tmp_path: Path
) -> None:
    """Nothing to subscribe to is an error that names the file, not a run that waits for ever."""
    file = captures() / name
    child = start("up", "--replay", file, "--speed", "max", "--until-end")
    assert child.wait(20.0) == 2
    assert file.name in child.stderr()
