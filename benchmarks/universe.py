"""What do 1,200 symbols over all venues cost on one machine? Processor, memory, sockets,
messages, latency, losses.

Recordings in a loop are written out as recordings of the whole universe, and `tapecast up
--replay` runs them at their own pace: a replay server and a feeder process per venue, sharded
sockets, and a consumer that receives everything. **This is load, not data**: where the
recordings hold fewer symbols, their frames are given to other symbols of the venue's recorded
instrument list, moved in time so that they do not all speak at once; prices are those of the
symbol that was recorded.

At the seam of two rounds the books that begin with a REST order book lose their chain and are
fetched again, each once: these gaps are in the figures. Limits of connects and of REST weight
are lifted, for at a venue's own limits such a start takes minutes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import Options, Table, Target, main, recorded_file
from tapecast.feeder.record.recording import Line, read
from tapecast.feeder.venues import venue
from tapecast.feeder.venues.spec import market_and_symbol, qualified
from tapecast.protocol.schema import MsgType
from tests.support.processes import children, cpu_s, resident_bytes
from tests.support.standin.rewriting import Movable, rekeyed

IDS = 10**9
PREFIX, PORT = "239.255.97", 9097
SPREAD_NS = 5 * 10**9
"""Symbols begin within so long of one another."""
BODY_NS = 10**9
SECONDS = 60.0
LOOK_S = 1.0
MARKET = re.compile(rb"KRW-[A-Z0-9]+")
"""Upbit's markets, of which a recording holds rows without their messages."""


class Source(NamedTuple):
    """Where a venue's load comes from: a recording, the symbols whose frames are used (all if
    none), and for how many symbols.
    """

    venue: str
    file: str
    symbols: tuple[str, ...]
    wanted: int
    names: str = ""
    """Recording that holds the venue's list of instruments, or its markets; empty = the same
    file.
    """
    lines: int = 1 << 30


SOURCES = (
    Source("binance", "binance/cf_20211012_spot.jsonl", (), 250),
    Source("binance_futures", "binance_futures/cf_20210722_usdm.jsonl", (), 120),
    Source("binance_coinm", "long/binance_coinm_btcusd_perp_20240808.jsonl.gz", (), 1, lines=4000),
    Source("bybit", "bybit/cf_20260809_v5_linear_spot.p1.jsonl", ("DOGEUSDT", "SOLUSDT"), 200),
    Source(
        "okx", "okx/cf_20220227_v5_books_l2_tbt.jsonl", (), 160, "okx/cf_20220513_v5_books.jsonl"
    ),
    Source(
        "deribit", "deribit/cf_20210405_options.jsonl", (), 200, "deribit/cf_20210722_options.jsonl"
    ),
    Source("coinbase", "coinbase/cf_20260809_advanced_trade.p1.jsonl", (), 2),
    Source(
        "coinbase_exchange",
        "coinbase/cf_20210417_exchange_ws_feed.p1.jsonl",
        ("NU-GBP", "SKL-GBP", "NMR-EUR"),
        100,
    ),
    Source(
        "kraken",
        "kraken/crossbook_20260802_v2_ethusd_d25.jsonl",
        (),
        40,
        "kraken/cf_20210417_ws_v1.p1.jsonl",
    ),
    Source(
        "upbit",
        "upbit/cf_20210405_simple.jsonl",
        (),
        127,
        "upbit/jun_20260512_krw_ticker_reduced.p1.jsonl.gz",
    ),
)
"""Of Bithumb's present API and of LS there is no recording of a stream."""


class Load(NamedTuple):
    """What was written for a venue."""

    venue: str
    path: Path
    symbols: int
    sources: int
    frames: int


def symbol_of(name: str, line: Line) -> str | None:
    """Return the qualified symbol of a market data frame or a REST order book; None for
    everything else.
    """
    spec = venue(name)
    if line.kind == "http":
        return spec.recordings.snapshot_symbol(line.url) if line.url else None
    if line.kind != "recv" or spec.stream.control(line.raw) is not None:
        return None
    topic = spec.stream.peek(line.raw)
    if topic is None:
        return None
    return (
        topic.symbol
        if spec.stream.market is None
        else qualified(spec.stream.market(line.url or "", line.raw), topic.symbol)
    )


def listed(source: Source) -> list[str]:
    """Return every symbol that recordings of the venue name: its lists of instruments, else its
    markets.
    """
    spec, found = venue(source.venue), dict[str, None]()
    for line in read([recorded_file(source.names or source.file)]):
        if line.kind == "http" and line.url and spec.recordings.is_listing(line.url):
            found |= dict.fromkeys(
                definition.key for definition in spec.listing.parse(line.raw).defs
            )
        elif line.kind == "reduced":
            found |= dict.fromkeys(text.decode() for text in MARKET.findall(line.raw))
    return [key for key in found if spec.kind_of(key) is not None]


def write(source: Source, folder: Path, most: int, seconds: float) -> Load:
    """Write the load of one venue as a recording: of at most so many symbols, and so many
    seconds long.
    """
    spec, name = venue(source.venue), source.venue
    lines = list(islice(read([recorded_file(source.file)]), source.lines))
    numbered = spec.stream.connection_number is not None
    by_symbol: dict[str, list[tuple[int, Line]]] = {}
    last_ns = start_ns = 0
    only = next((found for line in lines if (found := symbol_of(name, line)) is not None), "")
    for line in lines:
        last_ns = line.ts_recv_ns or last_ns
        start_ns = start_ns or last_ns
        symbol = symbol_of(name, line)
        if symbol is None and line.kind == "http" and line.url is None:
            symbol = only
        if numbered and line.kind == "recv":
            # every message of the connection counts: they stay together, as they are
            symbol = only
        if symbol and (not source.symbols or symbol in source.symbols):
            by_symbol.setdefault(symbol, []).append((last_ns - start_ns, line))
    span_ns = last_ns - start_ns + 10**9
    rounds = int(seconds * 1e9 // span_ns) + 1
    recorded = list(by_symbol)
    others = [
        key
        for key in listed(source)
        if market_and_symbol(key)[0] == market_and_symbol(recorded[0])[0]
    ]
    names = list(dict.fromkeys([*recorded, *others]))[: min(source.wanted, most)]
    if numbered:
        names = recorded
    out: list[tuple[int, bytes]] = []
    for number, key in enumerate(names):
        original = key if key in by_symbol else recorded[number % len(recorded)]
        old, new = market_and_symbol(original)[1], market_and_symbol(key)[1]
        behind_ns = SPREAD_NS * number // len(names)
        first_ns = next(
            (
                at_ns
                for at_ns, line in by_symbol[original]
                if line.kind == "recv" and _is_book(name, line)
            ),
            0,
        )
        for at_ns, line in by_symbol[original]:
            raw = line.raw if key == original else rekeyed(line.raw, old, new)
            url = (
                line.url
                if key == original or line.url is None
                else rekeyed(line.url.encode(), old, new).decode()
            )
            frame = Movable(name, raw)
            count = len(by_symbol[original]) if numbered else IDS
            for turn in range(rounds):
                later_ns = turn * span_ns
                if turn and line.kind == "http":
                    at_ns = (
                        first_ns + BODY_NS
                    )  # asked for once the first update of the new round has shown the seam
                if at_ns + later_ns > seconds * 1e9:
                    continue
                moved = frame.at(turn * count, later_ns + behind_ns)
                ts_ns = start_ns + at_ns + later_ns + behind_ns
                text = {
                    "ts_ns": ts_ns,
                    "ts": None,
                    "conn": "ws.1",
                    "url": url,
                    "kind": line.kind,
                    "raw": moved.decode(),
                }
                out.append(
                    (ts_ns, json.dumps(text | ({"binary": True} if line.binary else {})).encode())
                )
    out.sort(key=lambda entry: entry[0])
    path = folder / name / "load.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\n".join(text for _, text in out) + b"\n")
    frames = sum(b'"kind": "recv"' in text for _, text in out)
    symbols = (
        len({found for line in lines if (found := symbol_of(name, line))})
        if numbered
        else len(names)
    )
    return Load(name, path, symbols, len(recorded), frames)


def _is_book(name: str, line: Line) -> bool:
    spec = venue(name)
    topic = spec.stream.peek(line.raw)
    channel = None if topic is None else spec.stream.streams.get(topic.channel)
    return channel is not None and channel.carries is MsgType.BOOK


class Process:
    """One process of the fleet as it was seen."""

    def __init__(self) -> None:
        self.resident = 0
        self.sockets = 0
        self.cpu: list[tuple[float, float]] = []
        """(monotonic seconds, processor seconds)."""

    def look(self, pid: int) -> None:
        """Sample it; a process that has ended keeps its last figures."""
        try:
            self.resident = max(self.resident, resident_bytes(pid))
            open_files = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
            self.sockets = max(self.sockets, sum(name.startswith("socket:") for name in open_files))
            self.cpu.append((time.monotonic(), cpu_s(pid)))
        except OSError:
            return

    def busy(self, seconds: float) -> tuple[float, float]:
        """Return processor seconds of the last `seconds`, and the share of one core that they
        are.
        """
        if len(self.cpu) < 2:
            return 0.0, 0.0
        end = self.cpu[-1][0]
        first = next((sample for sample in self.cpu if sample[0] >= end - seconds), self.cpu[0])
        used = self.cpu[-1][1] - first[1]
        return used, used / max(end - first[0], 1e-9)


def run(loads: list[Load], folder: Path) -> tuple[dict[str, Any], dict[str, Process]]:
    """Run the fleet to the end of the load; return its report and its processes by what they
    are.
    """
    settings: dict[str, object] = {
        "network.group_prefix": PREFIX,
        "network.monitor_group": f"{PREFIX}.250",
        "network.port_crypto": PORT,
        "log.level": "error",
    }
    for load in loads:
        settings |= {
            f"venues.{load.venue}.limits.connects": 1000,
            f"venues.{load.venue}.limits.connects_window_s": 1,
        }
        settings |= {f"venues.{load.venue}.limits.rest_weight": 1_000_000}
    environ = os.environ | {
        f"TAPECAST__{key.replace('.', '__').upper()}": str(value) for key, value in settings.items()
    }
    words = [
        "up",
        "--replay",
        *(str(load.path) for load in loads),
        "--until-end",
        "--json",
        "--no-monitor",
    ]
    seen: dict[str, Process] = {}
    with (folder / "report.json").open("wb") as out:
        fleet = subprocess.Popen(
            [sys.executable, "-m", "tapecast", *words], stdout=out, env=environ
        )
        while fleet.poll() is None:
            for pid, command in children(fleet.pid).items():
                role = next(
                    (
                        f"{word} {load.venue}"
                        for load in loads
                        for word in ("feed", "replay")
                        if _is(command, word, load.venue)
                    ),
                    "",
                )
                if not role and "tapecast.capture" in command:
                    role = "consumer"
                if role:
                    seen.setdefault(role, Process()).look(pid)
            time.sleep(LOOK_S)
    text = (folder / "report.json").read_bytes()
    if not text.strip():
        raise SystemExit(f"tapecast up ended with {fleet.returncode} and no report")
    return json.loads(text), seen


def _is(command: str, word: str, name: str) -> bool:
    words = command.split()
    if word == "feed":
        return "feed" in words and words[words.index("feed") + 1] == name
    return "replay" in words and "--venue" in words and words[words.index("--venue") + 1] == name


def build(options: Options) -> Iterator[Table]:
    """Write the load, run it, and lay out what it took."""
    most, seconds = (4, 3.0) if options.smoke else (1 << 30, SECONDS)
    sources = [source for source in SOURCES if options.only in source.venue]
    if options.smoke:
        sources = [source for source in sources if source.venue in ("binance", "bybit")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        loads = [write(source, folder, most, seconds) for source in sources]
        report, seen = run(loads, folder)
    yield _feeders(loads, report, seen)
    yield _whole(loads, report, seen)


def _feeders(loads: list[Load], report: dict[str, Any], seen: dict[str, Process]) -> Table:
    columns = [
        "feeder",
        "symbols",
        "recorded",
        "sockets",
        "frames",
        "frames/s",
        "% of a core",
        "µs/frame",
        "RSS MiB",
        "KiB/symbol",
    ]
    columns += ["LIVE books", "gaps", "quarantined"]
    rows: list[list[object]] = []
    seconds = float(report["seconds"])
    for load in loads:
        told, process = (
            report["venues"].get(load.venue, {}),
            seen.get(f"feed {load.venue}", Process()),
        )
        used_s, share = process.busy(seconds)
        frames = int(told.get("frames", 0))
        counts = told.get("counts", {})
        rows.append(
            [
                load.venue,
                load.symbols,
                load.sources,
                told.get("connections"),
                frames,
                round(frames / seconds, 1),
                round(100 * share, 1),
                round(used_s * 1e6 / max(frames, 1), 1),
                round(process.resident / 2**20, 1),
                round(process.resident / 1024 / max(load.symbols, 1)),
                told.get("live_books"),
                counts.get("gaps", 0),
                counts.get("quarantine", 0),
            ]
        )
    notes = [
        (
            "recorded: symbols whose own frames these are; the frames of the others are theirs"
            " under another name"
        ),
        "gaps: of books fetched over REST, one a seam; KiB/symbol: of the whole process",
    ]
    return Table(
        f"{sum(load.symbols for load in loads):,} symbols, a process per venue",
        columns,
        rows,
        notes,
    )


def _whole(loads: list[Load], report: dict[str, Any], seen: dict[str, Process]) -> Table:
    seconds = float(report["seconds"])
    rows: list[list[object]] = []
    for role, words in (
        ("all feeders", "feed "),
        ("all replay servers (the venues)", "replay "),
        ("consumer", "consumer"),
    ):
        processes = [process for name, process in seen.items() if name.startswith(words)]
        resident = sum(process.resident for process in processes)
        share = sum(process.busy(seconds)[1] for process in processes)
        rows.append(
            [
                role,
                len(processes),
                sum(process.sockets for process in processes),
                round(100 * share, 1),
                round(resident / 2**20, 1),
            ]
        )
    frames, events = int(report["frames"]), sum(report["events"].values())
    inside, wire = report["latency_us"]["feeder"] or {}, report["latency_us"]["wire"] or {}
    lost = (
        int(report["lost"])
        + int(report["frames_lost"])
        + int(report["send_dropped"])
        + int(report["kernel_drops"])
    )
    connections = sum(int(told.get("connections", 0)) for told in report["venues"].values())
    notes = [
        (
            f"{frames:,} messages in {seconds:,.0f} s = {frames / seconds:,.0f} a second;"
            f" {events:,} events, {report['packets_sent']:,} packets, {connections} venue"
            " connections"
        ),
        (
            f"frame complete → handed to the kernel: p50 {inside.get('p50')} µs, p99"
            f" {inside.get('p99')} µs; handed over → consumer: p50 {wire.get('p50')} µs, p99"
            f" {wire.get('p99')} µs"
        ),
    ]
    symbols = sum(load.symbols for load in loads)
    feeders = sum(process.resident for name, process in seen.items() if name.startswith("feed "))
    targets = [
        Target("frames, packets and datagrams lost", lost, at_most=0),
        Target("memory of the feeders per symbol", feeders / 1024 / max(symbols, 1), unit="KiB"),
    ]
    return Table(
        "the whole host",
        ["processes", "how many", "sockets", "% of a core", "RSS MiB"],
        rows,
        notes,
        targets,
    )


if __name__ == "__main__":
    raise SystemExit(main(__doc__.splitlines()[0], build, ["picows", "uvloop", "aiohttp", "numpy"]))
