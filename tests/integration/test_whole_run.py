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

from tests.support.captures import captures, names, recording
from tests.support.event_lines import PlainBook, by_instrument, read_events
from tests.support.feeder_oracle import first_lines
from tests.support.processes import Child

Start = Callable[..., Child]

STREAMS = [recording(name) for name in names()]
LONG = sorted(
    (file for file in STREAMS if file.long), key=lambda file: (file.path.stat().st_size, file.name)
)
"""The shortest of them is in every run."""
SHORT = [file.name for file in STREAMS if not file.long] + [file.name for file in LONG[:1]]
MARKET_DATA = {"book", "trade", "bbo", "stat"}


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


def refused(start: Start, file: Path) -> bool:
    """Whether there is nothing to subscribe to in a recording: then it is an error that names the
    file, not a run that waits for ever.
    """
    child = start("up", "--replay", file, "--speed", "max", "--until-end")
    code = child.wait(60.0)
    assert code in (0, 2), child.stderr()
    if code == 2:
        assert file.name in child.stderr()
    return code == 2


@pytest.mark.parametrize("name", SHORT)
def test_what_a_consumer_receives_is_what_decode_prints(
    name: str, start: Start, tmp_path: Path
) -> None:
    """Every instrument's lines are equal apart from receive times, nothing is lost, and the exit
    code is 0; a recording of which nothing can be subscribed to is refused.
    """
    taken = recording(name)
    file, venue = taken.path, taken.venue
    printed = decoded(start("decode", "--venue", venue, file))
    if taken.reduced:
        assert refused(start, file)
        return
    silent = not MARKET_DATA & {event["type"] for event in read_events(printed)}
    if silent and refused(start, file):
        return
    within_s = 180.0 if taken.long else 60.0
    code, report, events = measured_run(start, tmp_path, file, within_s=within_s)
    assert_nothing_lost(report)
    assert list(report["venues"]) == [venue]  # type: ignore[call-overload]
    kinds = assert_equal(events, printed)
    assert code == 0
    # type: ignore[attr-defined]
    sent = {kind: count for kind, count in report["events"].items() if count}
    # One event may hold several trades or statistics, each a line of its own.
    single = {kind: count for kind, count in sent.items() if kind in ("book", "bbo")}
    assert {kind: kinds[kind] for kind in single} == single
    assert all(kinds[kind] >= count for kind, count in sent.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", [file.name for file in LONG[1:]])
def test_long_recordings_arrive_whole(name: str, start: Start, tmp_path: Path) -> None:
    """The same for the recordings of a hundred thousand messages."""
    test_what_a_consumer_receives_is_what_decode_prints(name, start, tmp_path)


@pytest.mark.parametrize("venue", sorted({file.venue for file in LONG}))
def test_the_beginning_of_a_long_recording_arrives_whole(
    venue: str, start: Start, tmp_path: Path
) -> None:
    """Every run takes the first lines of one long recording of each venue."""
    long = next(file.path for file in LONG if file.venue == venue)
    file = first_lines(long, 4000, tmp_path)
    decoding = start("decode", "--venue", venue, file)
    code, report, events = measured_run(start, tmp_path, file)
    assert_nothing_lost(report)
    assert assert_equal(events, decoded(decoding))["book"] > 100
    assert code == 0


def test_several_venues_run_at_once(start: Start, tmp_path: Path) -> None:
    """One run of recordings of all four venues: each channel arrives whole, beside the others."""
    folder = captures()
    chosen = {
        "binance": "cf_20210404_spot_btc_eth_dot.jsonl",
        "binance_futures": "cf_20210417_usdm.jsonl",
        "okx": "cf_20220227_v5_books_l2_tbt.jsonl",
        "upbit": "cf_20210405_simple.jsonl",
    }
    files = [folder / venue / name for venue, name in chosen.items()]
    code, report, events = measured_run(start, tmp_path, *files)
    assert_nothing_lost(report)
    assert set(report["venues"]) == set(chosen)  # type: ignore[call-overload]
    printed = tmp_path / "all.jsonl"
    texts = [
        decoded(start("decode", "--venue", venue, folder / venue / name)).read_bytes()
        for venue, name in chosen.items()
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
    files = [file.path for file in STREAMS if file.path.parent == folder]
    kinds = assert_equal(
        events,
        decoded(start("decode", "--venue", "binance_futures", *files)),
        leave_out=("status", "instrument"),
    )
    assert kinds["book"] == report["events"]["book"]  # type: ignore[index]
    assert code == 0
