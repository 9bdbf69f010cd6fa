"""Deribit: names, requests and definitions of instruments, the packaged configuration, and the
venue's side in the replay server.

Instrument lists are those of the recording of 2021-07-22; odd entries have the layout of
docs.deribit.com and figures from there.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tapecast.feeder.connections.limits import Limits
from tapecast.feeder.record.recording import read
from tapecast.feeder.replay.dialect import Route
from tapecast.feeder.replay.venues import DIALECTS, guess_venue
from tapecast.feeder.symbols.names import canonical
from tapecast.feeder.venues.deribit import VENUE
from tapecast.feeder.venues.spec import (
    Ack,
    Exact,
    InstrumentDef,
    Instruments,
    InstrumentsError,
    ServerError,
    Topic,
)
from tapecast.protocol.naming import has_wildcard
from tapecast.protocol.schema import InstrumentKind, InstrumentState, OptionType
from tests.support.captures import captures

RECORDINGS = ("cf_20210405_options.jsonl", "cf_20210722_options.jsonl")
TEST = b'{"jsonrpc":"2.0","id":0,"method":"public/test","params":{}}'


def example(line: int, name: str = "examples") -> bytes:
    """Return a frame of the single messages."""
    raw: str = json.loads(
        (captures() / "deribit" / f"{name}.jsonl").read_text().splitlines()[line - 1]
    )["raw"]
    return raw.encode()


# symbols, requests, configuration


@pytest.mark.parametrize(("symbol", "kind"), [
    ("BTC-PERPETUAL", InstrumentKind.PERPETUAL),
    ("ETH_USDC-PERPETUAL", InstrumentKind.PERPETUAL),
    ("BTC-24JUN22", InstrumentKind.FUTURE),
    ("ETH-9APR21", InstrumentKind.FUTURE),
    ("BTC-24JUN22-15000-C", InstrumentKind.OPTION),
    ("MATIC_USDC-9MAR24-1d02-C", InstrumentKind.OPTION),
    ("BTC_USDC", InstrumentKind.SPOT),
    ("BTC-STRD-30SEP22-20000", None),
    ("BTC-FS-30SEP22_PERP", None),
    ("BTC-24JUN22-15000-X", None),
    ("btc-perpetual", None),
    ("", None),
])  # fmt: skip
def test_a_name_tells_its_kind(symbol: str, kind: InstrumentKind | None) -> None:
    """Perpetuals, futures, options and spot have their forms; combinations are left out."""
    assert VENUE.kind_of(symbol) is kind


def test_one_pair_has_the_venues_names() -> None:
    """Inverse perpetuals are named by their base alone."""
    assert VENUE.listing.symbols_of_pair("BTC", "USD") == ("BTC-PERPETUAL",)
    assert VENUE.listing.symbols_of_pair("BTC", "USDC") == ("BTC_USDC-PERPETUAL", "BTC_USDC")


def test_channels_are_packed_into_few_requests() -> None:
    """The heartbeat comes first on every connection; every topic is asked for once, with an id
    of its own for each request.
    """
    symbols = [f"BTC-24JUN22-{strike}000-C" for strike in range(1, 301)]
    (part,) = VENUE.stream.subscribe(symbols, ["book.100ms", "quote"], 5)
    beat, first, *rest = map(json.loads, part.frames)
    assert (beat["method"], beat["params"]) == ("public/set_heartbeat", {"interval": 30})
    assert first["params"]["channels"][0] == "book.BTC-24JUN22-1000-C.100ms"
    assert rest[-1]["params"]["channels"][-1] == "quote.BTC-24JUN22-300000-C"
    assert part.request_ids == tuple(str(json.loads(frame)["id"]) for frame in part.frames)
    assert len(set(part.request_ids)) == len(part.frames) == 4
    assert [topic for frame in part.frames for topic in VENUE.stream.requested("", frame)] == list(
        part.topics
    )
    with pytest.raises(KeyError):
        VENUE.stream.subscribe(["BTC-PERPETUAL"], ["level9"], 1)


def test_one_book_can_be_left() -> None:
    """A book out of sequence is left and subscribed again on its own."""
    assert VENUE.stream.unsubscribe is not None
    frame = json.loads(VENUE.stream.unsubscribe([Topic("book.100ms", "BTC-PERPETUAL")], 9))
    assert (frame["method"], frame["params"]) == (
        "public/unsubscribe",
        {"channels": ["book.BTC-PERPETUAL.100ms"]},
    )


@pytest.mark.parametrize("file", RECORDINGS)
def test_recorded_requests_and_their_answers_agree(file: str) -> None:
    """The recorded client asked for 30 topics and was given them all."""
    lines = {
        line.kind: line.raw
        for line in read([captures() / "deribit" / file])
        if b'"id":0' in line.raw
    }
    answer = VENUE.stream.control(lines["recv"])
    assert isinstance(answer, Ack)
    assert len(answer.accepted or ()) == 30
    assert set(VENUE.stream.requested("", lines["send"])) == set(answer.accepted or ())


def test_the_packaged_configuration_fits_the_module() -> None:
    """Symbols, channels, endpoints and limits of the packaged file are ones the module knows;
    raw needs a login.
    """
    text = (Path(__file__).parents[3] / "config" / "venues" / "deribit.toml").read_text()
    table = tomllib.loads(text)["venue"]
    assert set(table) - {"top"} == {
        "enabled",
        "symbols",
        "channels",
        "endpoints",
        "alternates",
        "limits",
    }
    assert set(table["alternates"]) <= set(table["endpoints"])
    assert all(
        VENUE.kind_of(symbol) is not None for symbol in table["symbols"] if not has_wildcard(symbol)
    )
    assert set(table["channels"]) <= set(VENUE.stream.streams)
    assert not any(channel.endswith(".raw") for channel in table["channels"])
    assert set(table["endpoints"]) == set(VENUE.endpoints)
    assert msgspec.convert(table["limits"], Limits).rest_weight > 0


# instruments


def definitions() -> list[Instruments]:
    """Return what the recorded instrument lists say."""
    lines = read([captures() / "deribit" / "cf_20210722_options.jsonl"])
    return [
        VENUE.listing.parse(line.raw)
        for line in lines
        if line.url and VENUE.recordings.is_listing(line.url)
    ]


def test_recorded_instruments_are_read_whole() -> None:
    """All 1,017 entries become definitions: eight-hundred options of BTC and ETH, SOL of 2022,
    the linear perpetuals.
    """
    found = definitions()
    assert [len(part.defs) for part in found] == [398, 426, 177, 16]
    assert all(part.rejected == () for part in found)
    assert Counter(defn.kind for part in found for defn in part.defs) == {
        InstrumentKind.OPTION: 980,
        InstrumentKind.FUTURE: 18,
        InstrumentKind.PERPETUAL: 19,
    }


def test_each_kind_is_defined_exactly() -> None:
    """Ticks, minimum amounts, contract sizes, expiry and strike; a perpetual never expires, an
    option is never inverse.
    """
    known = {defn.symbol: defn for part in definitions() for defn in part.defs}
    bitcoin = InstrumentDef(
        symbol="BTC-PERPETUAL",
        kind=InstrumentKind.PERPETUAL,
        state=InstrumentState.TRADING,
        base="BTC",
        quote="USD",
        settle="BTC",
        tick=Exact(5, -1),
        min_qty=Exact(10, 0),
        multiplier=Exact(1, 0),
        inverse=True,
    )
    assert known["BTC-PERPETUAL"] == bitcoin
    assert canonical(bitcoin) == "BTC-USD"
    future = known["BTC-25MAR22"]
    assert (future.kind, future.expiry_ns, future.inverse) == (
        InstrumentKind.FUTURE,
        1_648_195_200_000_000_000,
        True,
    )
    option = known["BTC-24SEP21-40000-P"]
    assert (option.option_type, option.strike, option.inverse) == (
        OptionType.PUT,
        Exact(40000, 0),
        False,
    )
    assert (option.tick, option.min_qty, option.multiplier) == (
        Exact(5, -4),
        Exact(1, -1),
        Exact(1, 0),
    )
    linear = known["UNI_USDC-PERPETUAL"]
    assert (linear.base, linear.quote, linear.settle, linear.inverse) == (
        "UNI",
        "USDC",
        "USDC",
        False,
    )


def test_ticks_that_grow_with_the_price() -> None:
    """As the venue's lists of 2025 say of an option in BTC: 0.0001 and above 0.005 0.0005. A
    single tick is no ladder.
    """
    option = {
        "instrument_name": "BTC-25JUL25-100000-C",
        "kind": "option",
        "base_currency": "BTC",
        "quote_currency": "BTC",
    }
    option |= {
        "settlement_currency": "BTC",
        "min_trade_amount": 0.1,
        "strike": 100000,
        "option_type": "call",
        "tick_size": 0.0001,
    }
    option |= {"expiration_timestamp": 1753430400000, "instrument_type": "reversed"}
    for steps, bands in (
        (
            [{"tick_size": 0.0005, "above_price": 0.005}],
            ((Exact(0, 0), Exact(1, -4)), (Exact(5, -3), Exact(5, -4))),
        ),
        ([], ()),
    ):
        found = VENUE.listing.parse(
            json.dumps({"result": [option | {"tick_size_steps": steps}]}).encode()
        )
        assert [defn.tick_bands for defn in found.defs] == [bands]
        assert [(defn.tick, defn.price_exp) for defn in found.defs] == [(Exact(1, -4), -4)]


def test_entries_that_are_not_understood_are_named_and_combinations_left_out() -> None:
    """One odd entry costs itself, not the list."""
    plain = {
        "base_currency": "BTC",
        "quote_currency": "USD",
        "tick_size": 0.5,
        "min_trade_amount": 10,
        "contract_size": 10,
    }
    body = {"result": [
        plain | {"instrument_name": "BTC-FS-30SEP22_PERP", "kind": "future_combo"},
        plain | {"instrument_name": "BTC-PERPETUAL", "kind": "option"},
        plain | {"instrument_name": "BTC-24JUN22", "kind": "future"},
        plain | {"instrument_name": "BTC-PERPETUAL", "kind": "future", "tick_size": "a"},
        plain | {"instrument_name": "BTC-PERPETUAL", "kind": "future", "tick_size": 2.8e-4, "state": "locked"},
        plain | {"instrument_name": "ETH-PERPETUAL", "kind": "future", "is_active": False, "instrument_type": "linear"},
    ]}  # fmt: skip
    found = VENUE.listing.parse(json.dumps(body).encode())
    assert [(defn.state, defn.tick, defn.inverse) for defn in found.defs] == [
        (InstrumentState.HALTED, Exact(28, -5), True),
        (InstrumentState.CLOSED, Exact(5, -1), False),
    ]
    assert len(found.rejected) == 3


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"jsonrpc":"2.0","error":{"code":10028}}', b"\xff"]
)
def test_a_body_that_is_no_list_is_an_error(body: bytes) -> None:
    """An error page or a refusal is never read as an empty market."""
    with pytest.raises(InstrumentsError):
        VENUE.listing.parse(body)


# the server's side

SERVER = DIALECTS["deribit"]


def answers(*requests: object) -> tuple[list[Any], list[str]]:
    """Send requests to a fresh server session; return its decoded answers and the streams it
    then serves.
    """
    session = SERVER.connect("/ws/api/v2", {})
    assert session is not None
    texts = [request if isinstance(request, str) else json.dumps(request) for request in requests]
    return [json.loads(reply) for text in texts for reply in session.receive(text)], list(
        session.streams()
    )


def call(number: int, method: str, **params: object) -> dict[str, object]:
    """Spell a request."""
    return {"jsonrpc": "2.0", "id": number, "method": f"public/{method}", "params": params}


def test_the_server_lists_what_it_accepted() -> None:
    """What is no channel is missing in the answer; leaving works alike."""
    channels = ["book.BTC-PERPETUAL.100ms", "quote.BTC-PERPETUAL", "no channel"]
    found, streams = answers(
        call(1, "subscribe", channels=channels),
        call(2, "unsubscribe", channels=["quote.BTC-PERPETUAL"]),
    )
    assert [(reply["id"], reply["result"]) for reply in found] == [
        (1, channels[:2]),
        (2, ["quote.BTC-PERPETUAL"]),
    ]
    assert streams == ["book.BTC-PERPETUAL.100ms"]
    assert answers(call(1, "subscribe", channels=channels), call(2, "unsubscribe_all"))[1] == []


def test_the_server_understands_what_the_feeder_sends() -> None:
    """Heartbeat, subscriptions and the answer to a test request are each answered without an
    error.
    """
    (part,) = VENUE.stream.subscribe(["BTC-PERPETUAL"], ["book.100ms", "quote"], 1)
    found, streams = answers(
        *(frame.decode() for frame in (*part.frames, TEST)),
        call(9, "hello", client_name="tapecast"),
    )
    assert [list(reply) for reply in found] == [["jsonrpc", "id", "result", "testnet"]] * 4
    assert streams == ["book.BTC-PERPETUAL.100ms", "quote.BTC-PERPETUAL"]
    meanings = [VENUE.stream.control(json.dumps(reply).encode()) for reply in found]
    assert meanings[1] == Ack("1", accepted=part.topics)


@pytest.mark.parametrize(("request_", "code"), [
    ("{", 11050),
    ([], -32600),
    ({"id": 1}, -32600),
    (call(1, "subscribe", channels="book"), -32602),
    (call(1, "set_heartbeat", interval=5), -32602),
    (call(1, "fly"), -32601),
])  # fmt: skip
def test_wrong_requests_get_an_error_and_subscribe_nothing(request_: object, code: int) -> None:
    """JSON-RPC error codes, and the venue's own for what is no JSON; the feeder reads them as
    refusals.
    """
    (reply,), streams = answers(request_)
    assert (reply["error"]["code"], streams) == (code, [])
    assert isinstance(VENUE.stream.control(json.dumps(reply).encode()), ServerError)


def test_recorded_frames_belong_to_their_channels() -> None:
    """A notification names its channel; answers and heartbeats were the recording client's."""
    assert SERVER.route(example(24)) == Route(
        "book.BTC-15SEP26-77000-C.100ms", "BTC-15SEP26-77000-C", True
    )
    assert SERVER.route(example(12)) == Route("quote.BTC-PERPETUAL", "BTC-PERPETUAL", False)
    assert SERVER.route(example(3)) == Route("trades.option.any.raw", "", False)
    assert [SERVER.route(example(line, "examples_2026")) for line in (1, 5, 6)] == [
        None,
        None,
        None,
    ]
    assert SERVER.route(b"not json") is None
    assert SERVER.connect("/ws/api/v1", {}) is None


def test_intervals_match_one_another() -> None:
    """A subscription is served at the recorded interval, the exact name before others; other
    channels match exactly.
    """
    assert (
        SERVER.resolve("book.BTC-PERPETUAL.100ms", {"book.BTC-PERPETUAL.raw"})
        == "book.BTC-PERPETUAL.raw"
    )
    both = {"book.BTC-PERPETUAL.raw", "book.BTC-PERPETUAL.agg2"}
    assert SERVER.resolve("book.BTC-PERPETUAL.agg2", both) == "book.BTC-PERPETUAL.agg2"
    assert (
        SERVER.resolve("book.BTC-PERPETUAL.100ms", {"book.BTC-PERPETUAL.none.20.100ms"})
        == "book.BTC-PERPETUAL.100ms"
    )
    assert SERVER.resolve("quote.BTC-PERPETUAL", {"quote.ETH-PERPETUAL"}) == "quote.BTC-PERPETUAL"


def test_a_recording_is_known_by_folder_or_name() -> None:
    """The folder names the venue, else the beginning of the file's name does."""
    assert guess_venue(Path("captures/deribit/cf_20210722_options.jsonl")) == "deribit"
    assert guess_venue(Path("elsewhere/deribit_20260923.jsonl")) == "deribit"
