"""The configured universe: names, patterns, excludes and the most traded, against recorded
definitions and volumes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tapecast import cli
from tapecast.feeder.symbols import cache as symbol_cache
from tapecast.feeder.symbols import starting
from tapecast.feeder.symbols.listing import fetch_listing, fetch_volumes
from tapecast.feeder.symbols.universe import check_universe, needs_listing, resolve, without_listing
from tapecast.feeder.venues import VENUES, venue
from tapecast.feeder.venues.spec import InstrumentDef, VenueSpec
from tapecast.protocol.naming import has_wildcard
from tapecast.protocol.schema import InstrumentKind, InstrumentState
from tapecast.runtime import config as configuration
from tapecast.runtime.errors import ConfigError, ExitCode
from tapecast.runtime.net.rest import RestClient
from tapecast.runtime.settings import Config, Venue
from tests.support.captures import captures
from tests.support.processes import Net
from tests.support.venue_server import Answer, Asked, VenueServer, eventually, feeding, lines

RECORDED_NS = int(datetime(2026, 8, 9, 21, 26, tzinfo=UTC).timestamp()) * 1_000_000_000
"""When Bybit's list was recorded."""
PRODUCTS = "coinbase/cf_20260809_advanced_trade.p1.jsonl"
BYBIT = "bybit/cf_20260809_v5_linear_spot.p1.jsonl"


def bodies(name: str, file: str) -> list[bytes]:
    """Return a venue's recorded instrument lists."""
    spec = venue(name)
    return [
        line.raw
        for line in lines(captures() / file, "http")
        if line.url and spec.recordings.is_listing(line.url)
    ]


def listed(name: str, file: str) -> dict[str, InstrumentDef]:
    """Return a venue's recorded definitions by key."""
    spec = venue(name)
    return {d.key: d for body in bodies(name, file) for d in spec.listing.parse(body).defs}


def settings(name: str, **changes: object) -> Venue:
    """Return a venue's packaged configuration with some keys changed."""
    return msgspec.structs.replace(configuration.load(environ={}).venues[name], **changes)


def universe(
    name: str,
    known: dict[str, InstrumentDef],
    *symbols: str,
    volumes: dict[str, Decimal] | None = None,
    now_ns: int = RECORDED_NS,
    whole: bool = True,
    exclude: tuple[str, ...] = (),
    top: int = 0,
) -> tuple[list[str], dict[str, str]]:
    """Return (the keys taken, what was left out and why)."""
    found = resolve(
        venue(name),
        settings(name, symbols=symbols, exclude=exclude, top=top),
        known,
        volumes or {},
        now_ns,
        whole=whole,
    )
    return list(found.keys), {one.symbol: one.reason for one in found.left_out}


def test_names_are_the_venues_own_first_and_canonical_otherwise() -> None:
    """`BTCUSDT` is one instrument, `spot:BTCUSDT` another, `BTC-USDT` both; kind and full text
    pick one, in capitals or not.
    """
    known = listed("bybit", BYBIT)
    for text, keys in {
        "BTCUSDT": ["BTCUSDT"],
        "spot:BTCUSDT": ["spot:BTCUSDT"],
        "BTC-USDT": ["BTCUSDT", "spot:BTCUSDT"],
        "btc-usdt": ["BTCUSDT", "spot:BTCUSDT"],
        "spot.BTC-USDT": ["spot:BTCUSDT"],
        "bybit.perpetual.BTCUSDT": ["BTCUSDT"],
        "BTC-USDT-20260925": ["BTCUSDT-25SEP26"],
        "1000PEPE-USDT": ["1000PEPEUSDT"],
    }.items():
        assert universe("bybit", known, text) == (keys, {}), text
    assert universe("bybit", known, "ETHUSDT", "BTC-USDT", "ETHUSDT")[0] == [
        "ETHUSDT",
        "BTCUSDT",
        "spot:BTCUSDT",
    ]


def test_a_second_name_of_the_venue_is_the_first() -> None:
    """Coinbase's BTC-USDC is asked for as BTC-USD, under which its messages come."""
    assert universe("coinbase", listed("coinbase", PRODUCTS), "BTC-USDC", "BTC-USD") == (
        ["BTC-USD"],
        {},
    )


def test_patterns_match_native_and_canonical_names() -> None:
    """Globs over every text of an instrument; excludes count for names too; one that matches
    nothing is told.
    """
    known = listed("bybit", BYBIT)
    future = [
        f"BTCUSDT-{day}"
        for day in (
            "14AUG26",
            "21AUG26",
            "25DEC26",
            "25JUN27",
            "25SEP26",
            "26MAR27",
            "28AUG26",
            "30OCT26",
        )
    ]
    assert universe("bybit", known, "future.BTC-USDT-*")[0] == sorted(future)
    assert universe("bybit", known, "BTCUSDT-*", exclude=("*-2027*",))[0] == sorted(
        set(future) - {future[3], future[5]}
    )
    assert universe("bybit", known, "BTC-USDT", exclude=("spot.*",))[0] == ["BTCUSDT"]
    keys, left_out = universe("bybit", known, "XRPUSDT", "perpetual.*-USDC", "*-KRW")
    assert keys[0] == "XRPUSDT"
    assert len(keys) > 20
    assert all(
        known[key].quote == "USDC" and known[key].kind is InstrumentKind.PERPETUAL
        for key in keys[1:]
    )
    assert left_out == {"*-KRW": "the pattern matches nothing"}


def test_the_most_traded_come_first_and_only_so_many() -> None:
    """`top` counts for each kind and quote by recorded 24 h turnover, names besides; what has no
    volume is not taken.
    """
    spec = venue("coinbase")
    known = listed("coinbase", PRODUCTS)
    assert spec.listing.volumes is not None
    volumes = spec.listing.volumes.parse(
        spec.listing.volumes.requests()[0], bodies("coinbase", PRODUCTS)[0]
    )
    keys, left_out = universe(
        "coinbase", known, "LTC-USD", "*-USD", "*-EUR", volumes=volumes, top=5
    )
    dollars = sorted(
        (d.key for d in known.values() if d.quote == "USD" and d.state is InstrumentState.TRADING),
        key=volumes.get,
    )  # type: ignore[arg-type]
    assert keys[0] == "LTC-USD"
    assert [key for key in keys[1:] if key.endswith("-USD")] == dollars[:-6:-1]
    assert sum(key.endswith("-EUR") for key in keys) == 5
    assert left_out == {}
    keys, left_out = universe("coinbase", known, "LTC-USD", "*-USD", volumes={}, top=5)
    assert (keys, list(left_out)) == (["LTC-USD"], ["top 5"])


def test_what_is_gone_is_dropped_and_told() -> None:
    """A name of a delisted or expired instrument, or one that is not listed, comes with its
    reason; a pattern passes it over.
    """
    known = listed("bybit", BYBIT)
    later = int(datetime(2026, 9, 26, tzinfo=UTC).timestamp()) * 1_000_000_000
    keys, left_out = universe(
        "bybit", known, "BTCUSDT-25SEP26", "BTCUSDT", "BTCUSDTT", now_ns=later
    )
    assert keys == ["BTCUSDT"]
    assert left_out == {
        "BTCUSDT-25SEP26": "expired",
        "BTCUSDTT": "not listed by bybit; nearest: BTCUSDT",
    }
    assert "BTCUSDT-25SEP26" not in universe("bybit", known, "future.*", now_ns=later)[0]
    gone = known | {
        "ETHUSDT": msgspec.structs.replace(known["ETHUSDT"], state=InstrumentState.DELISTED)
    }
    assert universe("bybit", gone, "ETHUSDT") == ([], {"ETHUSDT": "delisted"})
    assert "ETHUSDT" not in universe("bybit", gone, "perpetual.ETH*")[0]


def test_a_halted_market_is_taken_by_name_and_not_by_pattern() -> None:
    """Whoever names a market wants it when it opens again; a pattern wants what is traded."""
    known = listed("binance", "binance/cf_20211012_spot.jsonl")
    halted = next(d.key for d in known.values() if d.state is InstrumentState.HALTED)
    assert universe("binance", known, halted)[0] == [halted]
    assert halted not in universe("binance", known, "*")[0]
    assert len(universe("binance", known, "*")[0]) == sum(
        d.state is InstrumentState.TRADING for d in known.values()
    )


def test_a_name_is_kept_while_its_list_has_not_come() -> None:
    """A list that is missing proves nothing: neither one that failed, nor one that is never
    asked for (OKX options).
    """
    known = listed("bybit", BYBIT)
    assert universe("bybit", known, "NEWUSDT", whole=False) == (["NEWUSDT"], {})
    okx = listed("okx", "okx/cf_20220513_v5_books.jsonl")
    option = "BTC-USD-220527-30000-C"
    assert universe("okx", okx, option) == ([option], {})
    assert universe("okx", okx, "BTC-USDX")[0] == []


def test_without_any_definition_names_alone_are_taken() -> None:
    """Names as the venue writes them, or as BASE-QUOTE; patterns and other texts are told."""
    found = without_listing(
        venue("bybit"),
        settings("bybit", symbols=("XRPUSDT", "BTC-USDT", "*-USDT", "what?", "btcusdt")),
    )
    assert found.keys == ("XRPUSDT", "BTCUSDT", "spot:BTCUSDT")
    assert [one.symbol for one in found.left_out] == ["*-USDT", "what?", "btcusdt"]


def test_every_packaged_universe_is_possible_and_wide() -> None:
    """Patterns need definitions, `top` needs volumes; the recorded lists of 2026 hold hundreds
    of what is taken by default.
    """
    config = configuration.load(environ={})
    for name in VENUES:
        check_universe(venue(name), config.venues[name])
    assert {name for name in VENUES if not needs_listing(config.venues[name])} <= {
        "coinbase_exchange",
        "ls",
    }
    known = listed("bybit", BYBIT)
    volumes = {key: Decimal(len(known) - place) for place, key in enumerate(known)}
    bybit = resolve(venue("bybit"), config.venues["bybit"], known, volumes, RECORDED_NS, whole=True)
    assert 300 <= len(bybit.keys) <= 310
    assert (
        len([d for d in listed("coinbase", PRODUCTS).values() if d.quote == "USD"])
        >= config.venues["coinbase"].top
    )


def test_top_without_evidence_of_volumes_is_a_configuration_error() -> None:
    """The message names the key and what to do."""
    with pytest.raises(
        ConfigError,
        match=r"venues\.coinbase_exchange\.top = 10: coinbase_exchange has no known endpoint",
    ):
        check_universe(
            venue("coinbase_exchange"), settings("coinbase_exchange", symbols=("*-USD",), top=10)
        )


@pytest.mark.parametrize(
    "words",
    [
        ["feed", "coinbase_exchange"],
        ["up", "coinbase_exchange", "--no-monitor"],
        ["config", "validate"],
    ],
)
def test_every_command_refuses_an_impossible_universe(
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Before anything is started; a file that says so is refused too."""
    monkeypatch.setenv("TAPECAST__FEEDER__STATE_DIR", str(tmp_path))
    monkeypatch.setenv("TAPECAST__VENUES__COINBASE_EXCHANGE__TOP", "10")
    assert cli.main(words) == ExitCode.USAGE
    assert (
        "venues.coinbase_exchange.top = 10: coinbase_exchange has no known endpoint"
        in capsys.readouterr().err
    )
    monkeypatch.delenv("TAPECAST__VENUES__COINBASE_EXCHANGE__TOP")
    mine = tmp_path / "mine.toml"
    mine.write_text("[venues.coinbase_exchange]\ntop = 10\n")
    assert cli.main(["config", "validate", str(mine)]) == ExitCode.USAGE
    mine.write_text("[venues.kraken]\ntop = 10\n")
    assert cli.main(["config", "validate", str(mine)]) == 0


def test_unknown_keys_beside_the_new_ones_are_errors() -> None:
    """A misspelt `exclude` names the nearest key."""
    with pytest.raises(
        ConfigError,
        match=r"unknown key venues\.okx\.excludes; nearest valid key: venues\.okx\.exclude",
    ):
        configuration.load({"venues.okx.excludes": ["*"]}, environ={})


# at the start of a feeder


@pytest.fixture
def net() -> Net:
    """Groups and a port of this test's own."""
    return Net()


class Venue2026:
    """Bybit over REST: its recorded lists in pages of `size`, and for volumes the position in
    the list, or a refusal.
    """

    def __init__(self, *, size: int = 1000, tickers: int = 200, listing: int = 200) -> None:
        """`tickers`, `listing`: the status of those answers."""
        self.size, self.tickers, self.listing = size, tickers, listing
        self.lists = {}
        for body in bodies("bybit", BYBIT):
            result = msgspec.json.decode(body)["result"]
            self.lists[result["category"]] = result["list"]

    def __call__(self, asked: Asked) -> Answer:
        """Answer a request."""
        category = asked.query.get("category", "")
        if asked.path == "/v5/market/tickers":
            turnover = (
                {"symbol": entry["symbol"], "turnover24h": str(1000 - place)}
                for place, entry in enumerate(self.lists[category])
            )
            return self._answer(self.tickers, category, list(turnover), "")
        if asked.path != "/v5/market/instruments-info":
            return Answer(404)
        first = int(asked.query.get("cursor", "from=0").removeprefix("from="))
        page = self.lists[category][first : first + self.size]
        more = (
            f"from%3D{first + self.size}" if first + self.size < len(self.lists[category]) else ""
        )
        return self._answer(self.listing, category, page, more)

    def _answer(self, status: int, category: str, entries: list[object], cursor: str) -> Answer:
        result = {"category": category, "list": entries, "nextPageCursor": cursor}
        return Answer(status, msgspec.json.encode({"retCode": 0, "retMsg": "OK", "result": result}))


CHEAP: dict[str, Any] = {
    "venues__bybit__limits__rest_weight": 10_000,
    "venues__bybit__channels": ["publicTrade"],
}


async def test_a_feeder_starts_with_its_universe_and_keeps_the_definitions(
    net: Net, tmp_path: Path
) -> None:
    """Names, then the most traded of each kind, from a list in pages; what was listed is on disk
    afterwards.
    """
    rest = Venue2026(size=300)
    symbols = ["XRPUSDT", "spot.*-USDT", "perpetual.*-USDT"]
    config: dict[str, Any] = {"venues__bybit__symbols": symbols, "venues__bybit__top": 3, **CHEAP}
    async with (
        VenueServer(rest=rest).running() as server,
        feeding("bybit", server, net, tmp_path, **config) as feeder,
    ):
        await eventually(lambda: len(feeder.session.by_symbol) == 7, within_s=30.0)
        order = [key for key in feeder.session.by_symbol if key.startswith("spot:")]
        quoted = [f"spot:{e['symbol']}" for e in rest.lists["spot"] if e["quoteCoin"] == "USDT"]
        assert next(iter(feeder.session.by_symbol)) == "XRPUSDT"
        assert order == quoted[:3]
        assert len(feeder.session.known) == 1357
        assert [a.query.get("cursor") for a in server.asked if a.query.get("category") == "linear"][
            :3
        ] == [
            None,
            "from=300",
            "from=600",
        ]
        await eventually(lambda: symbol_cache.load(tmp_path / "state", "bybit")[0] is not None)
    cached, why = symbol_cache.load(tmp_path / "state", "bybit")
    assert why == ""
    assert cached is not None
    assert (len(cached.defs), len(cached.volumes)) == (1357, 1357)
    assert cached.by_key() == listed("bybit", BYBIT)


async def test_limited_mode_takes_ten_of_each_kind_from_patterns(net: Net, tmp_path: Path) -> None:
    """The first ten names and pattern matches of each kind, the most traded."""
    symbols = ["spot.*-USDT", "perpetual.*-USDT"]
    config: dict[str, Any] = {
        "venues__bybit__symbols": symbols,
        "venues__bybit__top": 15,
        "feeder__limited_mode": True,
        **CHEAP,
    }
    async with (
        VenueServer(rest=Venue2026()).running() as server,
        feeding("bybit", server, net, tmp_path, **config) as feeder,
    ):
        await eventually(lambda: len(feeder.session.by_symbol) == 20, within_s=30.0)
        kinds = [instrument.kind for instrument in feeder.session.instruments]
        assert (kinds.count(InstrumentKind.SPOT), kinds.count(InstrumentKind.PERPETUAL)) == (10, 10)


async def test_without_volumes_those_of_the_last_refresh_rank(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A venue that refuses its tickers is ranked by what is on disk; without that only names are
    taken, and it is said.
    """
    monkeypatch.setattr(starting, "_VOLUME_PAUSES_S", (0.0, 0.01))
    config: dict[str, Any] = {
        "venues__bybit__symbols": ["XRPUSDT", "perpetual.*-USDT"],
        "venues__bybit__top": 2,
        **CHEAP,
    }
    async with VenueServer(rest=Venue2026(tickers=503)).running() as server:
        async with feeding("bybit", server, net, tmp_path / "first", **config) as feeder:
            await eventually(lambda: feeder.session.by_symbol, within_s=30.0)
            assert list(feeder.session.by_symbol) == ["XRPUSDT"]
        keep(
            tmp_path / "second",
            {"BTCUSDT": Decimal(3), "ETHUSDT": Decimal(5), "SOLUSDT": Decimal(1)},
        )
        async with feeding("bybit", server, net, tmp_path / "second", **config) as feeder:
            await eventually(lambda: feeder.session.by_symbol, within_s=30.0)
            assert list(feeder.session.by_symbol) == ["XRPUSDT", "ETHUSDT", "BTCUSDT"]
    kept, _ = symbol_cache.load(tmp_path / "second" / "state", "bybit")
    assert kept is not None
    assert (kept.volumes_ns, len(kept.volumes)) == (7, 3)  # those of the refresh, and their time


def keep(folder: Path, volumes: dict[str, Decimal]) -> None:
    """Write Bybit's recorded definitions as those of a refresh."""
    defs = tuple(listed("bybit", BYBIT).values())
    cached = symbol_cache.Cached(
        venue="bybit", fetched_ns=time.time_ns(), defs=defs, volumes=volumes, volumes_ns=7
    )
    symbol_cache.save(folder / "state", cached)


async def test_without_any_list_the_last_refresh_or_the_names_do(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A venue whose REST is down is fed all the same: by the definitions on disk, or by name."""
    monkeypatch.setattr(starting, "_LISTING_WAIT_S", 0.01)
    config: dict[str, Any] = {
        "venues__bybit__symbols": ["XRPUSDT", "BTC-USDC", "future.MNT-*"],
        "venues__bybit__top": 0,
        **CHEAP,
    }
    async with VenueServer(rest=Venue2026(listing=503)).running() as server:
        async with feeding("bybit", server, net, tmp_path / "first", **config) as feeder:
            await eventually(lambda: feeder.session.by_symbol, within_s=30.0)
            assert list(feeder.session.by_symbol) == ["XRPUSDT", "spot:BTCUSDC"]
        keep(tmp_path / "second", {})
        async with feeding("bybit", server, net, tmp_path / "second", **config) as feeder:
            await eventually(lambda: feeder.session.by_symbol, within_s=30.0)
            known = set(feeder.session.by_symbol)
            assert {"XRPUSDT", "BTCPERP", "spot:BTCUSDC"} <= known


async def test_a_list_that_is_none_proves_nothing(net: Net, tmp_path: Path) -> None:
    """A page of a proxy with status 200 instead of the list of spot: names stay, and nothing is
    kept on disk.
    """
    good = Venue2026()
    config: dict[str, Any] = {
        "venues__bybit__symbols": ["spot:BTCUSDT", "perpetual.BTC-*"],
        "venues__bybit__top": 0,
        **CHEAP,
    }

    def rest(asked: Asked) -> Answer:
        return Answer(body=b"<html>") if asked.query.get("category") == "spot" else good(asked)

    async with (
        VenueServer(rest=rest).running() as server,
        feeding("bybit", server, net, tmp_path, **config) as feeder,
    ):
        await eventually(lambda: feeder.session.by_symbol, within_s=30.0)
        assert {"spot:BTCUSDT", "BTCUSDT", "BTCPERP"} <= set(feeder.session.by_symbol)
        assert feeder.session.counts["quarantine"] == 1
    assert symbol_cache.load(tmp_path / "state", "bybit")[0] is None


def test_a_replay_takes_names_only_and_drops_nothing(tmp_path: Path) -> None:
    """What a recording holds may have expired long ago: the configured names are taken as they
    are, patterns are not.
    """
    config = configuration.load(
        {
            "venues.deribit.symbols": ["BTC-25MAR22", "perpetual.*"],
            "feeder.state_dir": str(tmp_path),
        },
        environ={},
    )
    assert asyncio.run(start(venue("deribit"), config, {}, replay=True)) == ("BTC-25MAR22",)
    assert not list(tmp_path.iterdir())


async def start(
    spec: VenueSpec,
    config: Config,
    known: dict[str, InstrumentDef],
    *,
    replay: bool = False,
    stopped: bool = False,
) -> tuple[str, ...]:
    """Return what a feeder starts with, with no venue to ask."""
    rest = RestClient({"rest": "http://127.0.0.1:1"}, weight=1000, window_s=1, timeout_s=1)
    stop = asyncio.Event()
    if stopped:
        stop.set()
    try:
        return await starting.starting_symbols(
            spec, config, known, rest, stop, whole=False, replay=replay
        )
    finally:
        await rest.close()


def test_a_feeder_that_is_stopped_does_not_wait_for_lists(tmp_path: Path) -> None:
    """SIGTERM while definitions are awaited ends the waiting."""
    config = configuration.load({"feeder.state_dir": str(tmp_path)}, environ={})
    assert asyncio.run(start(venue("okx"), config, {}, stopped=True)) == ()


# fetching and keeping


@pytest.fixture
def client() -> Callable[[VenueServer], RestClient]:
    """Return a function that makes a client of a server."""
    return lambda server: RestClient({"rest": server.http}, weight=10_000, window_s=1, timeout_s=5)


async def test_pages_are_followed_to_the_end(client: Callable[[VenueServer], RestClient]) -> None:
    """1,357 recorded instruments in pages of 250, each asked for with the cursor of the last."""
    async with VenueServer(rest=Venue2026(size=250)).running() as server:
        rest = client(server)
        listing = await fetch_listing(rest, venue("bybit"))
        await rest.close()
        assert (len(listing.defs), listing.failed, listing.refused) == (1357, (), ())
        assert len(server.asked) == 4 + 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>blocked</html>",
        b'{"retCode":0',
        b'{"retCode":10006,"retMsg":"Too many visits!"}',
        b"\xff" * 9,
    ],
)
async def test_a_list_that_is_none_fails_and_is_not_kept(
    client: Callable[[VenueServer], RestClient], body: bytes
) -> None:
    """A page of a proxy, half a body, an error with status 200: told, never an empty list;
    volumes likewise.
    """
    async with VenueServer(rest=lambda _: Answer(body=body)).running() as server:
        rest = client(server)
        listing = await fetch_listing(rest, venue("bybit"))
        volumes, failed = await fetch_volumes(rest, venue("bybit"))
        await rest.close()
    assert (listing.defs, len(listing.failed), volumes, len(failed)) == ({}, 2, {}, 2)


async def test_an_entry_that_is_odd_costs_no_other(
    client: Callable[[VenueServer], RestClient],
) -> None:
    """One instrument of an unknown form is told; the rest of the list is taken."""
    recorded = Venue2026()
    recorded.lists["linear"] = [
        {"symbol": "???", "baseCoin": "X", "quoteCoin": "Y"},
        *recorded.lists["linear"],
    ]
    async with VenueServer(rest=recorded).running() as server:
        rest = client(server)
        listing = await fetch_listing(rest, venue("bybit"))
        await rest.close()
    assert (len(listing.defs), len(listing.rejected), listing.failed) == (1357, 1, ())


async def test_a_list_that_never_ends_is_given_up(
    client: Callable[[VenueServer], RestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cursor that leads nowhere is an error, not a loop."""
    monkeypatch.setattr("tapecast.feeder.symbols.listing.MAX_PAGES", 5)
    spec = venue("bybit")
    endless = replace(spec, listing=replace(spec.listing, next_page=lambda request, _: request))
    async with VenueServer(rest=Venue2026()).running() as server:
        rest = client(server)
        listing = await fetch_listing(rest, endless)
        await rest.close()
        assert len(listing.failed) == 2
        assert "more than 5 pages" in listing.failed[0]


def test_a_damaged_or_foreign_cache_is_told_and_not_used(tmp_path: Path) -> None:
    """Half a file, another format, another venue: the reason is named, nothing is guessed."""
    keep(tmp_path, {})
    path = symbol_cache.path_of(tmp_path / "state", "bybit")
    whole = path.read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == ["bybit.json"]
    for body, reason in (
        (whole[: len(whole) // 2], "is damaged"),
        (b"\xff", "is damaged"),
        (whole.replace(b'"format":1', b'"format":2', 1), "is of format 2 for bybit"),
        (whole.replace(b'"venue":"bybit"', b'"venue":"okx"', 1), "for okx, not 1 for bybit"),
    ):
        path.write_bytes(body)
        cached, why = symbol_cache.load(tmp_path / "state", "bybit")
        assert cached is None
        assert reason in why
    assert "does not exist" in symbol_cache.load(tmp_path / "state", "okx")[1]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails before the new file is whole costs nothing of the old one, and leaves no
    rubbish.
    """
    keep(tmp_path, {"BTCUSDT": Decimal(1)})
    path = symbol_cache.path_of(tmp_path / "state", "bybit")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        keep(tmp_path, {})
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["bybit.json"]


def test_default_patterns_are_told_from_names() -> None:
    """No venue's own symbol looks like a pattern, in any recorded list."""
    for name, file in (
        ("bybit", BYBIT),
        ("coinbase", PRODUCTS),
        ("binance", "binance/cf_20211012_spot.jsonl"),
    ):
        assert not any(map(has_wildcard, listed(name, file)))
