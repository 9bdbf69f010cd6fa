"""LS Securities' lists of instruments, what the venue says of market states, and the tick tables
that follow definitions.

Rows are those of the documentation's examples (`tests/support/ls_frames.py` names the source),
read from there where all count.
"""

from __future__ import annotations

import json

import pytest

from tapecast.feeder.record.recording import read
from tapecast.feeder.symbols.names import canonical
from tapecast.feeder.venues.common.ls_masters import is_list_url, list_requests
from tapecast.feeder.venues.ls import VENUE
from tapecast.feeder.venues.spec import Exact, InstrumentDef, InstrumentsError
from tapecast.protocol.codec import walk
from tapecast.protocol.render import EventDict, Renderer
from tapecast.protocol.schema import InstrumentKind, InstrumentState, OptionType
from tests.support.captures import captures
from tests.support.feeder_frames import RECV_NS, Feed
from tests.support.ls_frames import JIF, TRADES

DONGWHA = {
    "shcode": "000020",
    "jnilclose": 10550,
    "etfgubun": "0",
    "gubun": "1",
    "memedan": "00001",
    "hname": "동화약품",
}
KRX_TICKS = [
    ["0", "1"],
    ["2000", "5"],
    ["5000", "10"],
    ["20000", "50"],
    ["50000", "100"],
    ["200000", "500"],
    ["500000", "1000"],
]


def answer(code: str, *rows: object) -> bytes:
    """Return a list as the venue answers it."""
    return json.dumps({"rsp_cd": "00000", f"{code}OutBlock": rows}).encode()


def example(code: str) -> bytes:
    """Return a list of the documentation's examples."""
    mark = f'"{code}OutBlock"'.encode()
    return next(
        line.raw
        for line in read([captures() / "ls/examples.jsonl"])
        if line.kind == "http" and mark in line.raw
    )


def defined(body: bytes) -> dict[str, InstrumentDef]:
    """Return what a list defines."""
    found = VENUE.listing.parse(body)
    assert found.rejected == ()
    return {definition.symbol: definition for definition in found.defs}


def told(packets: bytes) -> list[EventDict]:
    """Return everything that packets say, tick tables included."""
    renderer = Renderer(raw=True)
    return [event for packet in walk(packets) for event in renderer.feed(packet)]


def test_shares_are_three_instruments() -> None:
    """On KRX, on NXT and on both: books of their own, one price ladder, lots of one share."""
    found = defined(example("t8436"))
    assert set(found) == {"000020", "N000020", "U000020", "005385", "N005385", "U005385"}
    share = found["000020"]
    assert (share.kind, share.base, share.quote, share.settle) == (
        InstrumentKind.EQUITY,
        "000020",
        "KRW",
        "KRW",
    )
    assert (share.lot, share.min_qty, share.tick, share.price_exp, share.qty_exp) == (
        Exact(1, 0),
        Exact(1, 0),
        None,
        0,
        0,
    )
    assert [[str(p.mantissa), str(t.mantissa)] for p, t in share.tick_bands] == KRX_TICKS
    assert {canonical(definition) for definition in found.values()} == {
        f"{symbol}-KRW" for symbol in found
    }
    assert [found[symbol].segment for symbol in ("000020", "N000020", "U000020")] == [
        "KOSPI",
        "NXT",
        "",
    ]


def test_boards_and_funds() -> None:
    """KOSDAQ is a segment of its own; ETF and ETN have their own ladder; another board is not
    guessed.
    """
    rows = [
        DONGWHA | {"shcode": "086520", "gubun": "2"},
        DONGWHA | {"shcode": "069500", "etfgubun": "1"},
    ]
    found = defined(answer("t8430", *rows))
    assert found["086520"].segment == "KOSDAQ"
    assert found["069500"].tick_bands == ((Exact(0, 0), Exact(1, 0)), (Exact(2000, 0), Exact(5, 0)))
    odd = VENUE.listing.parse(
        answer(
            "t8436", DONGWHA | {"gubun": "3"}, DONGWHA | {"shcode": "?"}, {"hname": "x"}, 7, DONGWHA
        )
    )
    assert len(odd.defs) == 3
    assert [text.split(":")[0] for text in odd.rejected] == ["t8436"] * 4


def test_futures_and_options() -> None:
    """Underlying, month, contract size of index products, strike; a stock future's size is not
    in its list.
    """
    (future,) = defined(
        answer("t9943", {"hname": "F 2406", "shcode": "101V6000", "expcode": "KR4101V60002"})
    ).values()
    assert (future.kind, future.base, future.multiplier, future.tick) == (
        InstrumentKind.FUTURE,
        "KOSPI200",
        Exact(250000, 0),
        Exact(5, -2),
    )
    assert (future.expiry_ns, future.price_exp) == (0, -2), "the holidays of 2024 are not known"
    (dated,) = defined(
        answer("t9943", {"hname": "코스피200 F 202606", "shcode": "A0166000"})
    ).values()
    assert dated.expiry_ns == 1_781_158_800_000_000_000, "11 June 2026, 15:20 in Korea"
    assert defined(answer("t9943", {"hname": "SP 2406-2409", "shcode": "401V6V9S"})) == {}
    odd = VENUE.listing.parse(
        answer(
            "t9943",
            {"hname": "2406", "shcode": "101V6000"},
            {"hname": "F 2406", "shcode": "106V6000"},
        )
    )
    assert (odd.defs, len(odd.rejected)) == ((), 2), "another name, another index"
    stocks = defined(example("t8401"))
    assert set(stocks) == {"111T7000", "1CTWC000", "1CVT7000", "1CVT8000"}
    samsung = stocks["111T7000"]
    assert (samsung.base, samsung.multiplier, samsung.tick, samsung.tick_bands) == (
        "005930",
        None,
        None,
        (),
    )
    assert stocks["1CTWC000"].expiry_ns > 0
    options = defined(example("t8433"))
    call = options["201V6330"]
    assert (call.kind, call.option_type, call.strike) == (
        InstrumentKind.OPTION,
        OptionType.CALL,
        Exact(330, 0),
    )
    assert (call.multiplier, call.price_exp, len(call.tick_bands)) == (Exact(250000, 0), -2, 2)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"rsp_cd":"IGW00121"}', b'{"t8436OutBlock":{}}', b"\xff"]
)
def test_an_answer_that_is_no_list_is_an_error(body: bytes) -> None:
    """A refusal, a price, an empty body."""
    with pytest.raises(InstrumentsError):
        VENUE.listing.parse(body)


def test_lists_are_asked_for_by_name() -> None:
    """POST with the list's own block and headers; a URL is shared by several, the answer names
    itself.
    """
    asked = {dict(request.headers)["tr_cd"]: request for request in list_requests()}
    assert set(asked) == {"t8436", "t9943", "t8401", "t8433"}
    assert json.loads(asked["t8436"].body) == {"t8436InBlock": {"gubun": "0"}}
    assert asked["t8401"].path == asked["t9943"].path == "/futureoption/market-data"
    assert is_list_url("https://openapi.ls-sec.co.kr:8080/stock/etc")
    assert not is_list_url("https://openapi.ls-sec.co.kr:8080/stock/market-data")


def test_a_tick_table_follows_its_definition() -> None:
    """At the start, on a change and in the cycle, as exact decimals; a provisional definition
    has none.
    """
    feed = Feed("ls", "005385")
    assert [event["type"] for event in told(feed.packets)] == ["instrument"]
    feed.session.on_instruments(example("t8436"), RECV_NS, feed.now_ns)
    feed.packets = b""
    feed.flush()
    changed = told(feed.packets)
    assert [event["type"] for event in changed] == ["instrument", "tick_table"]
    assert changed[1]["bands"] == KRX_TICKS
    assert {event["instrument"] for event in changed} == {"ls.equity.005385"}
    feed.session.subscribe(["000020"], RECV_NS)
    feed.packets = b""
    feed.flush()
    assert [event["type"] for event in told(feed.packets)] == ["instrument", "tick_table"]
    cycle = feed.session.definition(feed.session.by_symbol["005385"])
    assert [event["type"] for event in told(cycle)] == ["instrument", "tick_table"]


def test_a_ladder_keeps_to_the_exponent_of_its_instrument() -> None:
    """Ticks in hundredths: prices of the ladder and of the data are at one exponent."""
    feed = Feed("ls")
    feed.session.on_instruments(
        example("t8433").replace(b"201T7185", b"201T7347"), RECV_NS, feed.now_ns
    )
    feed.session.subscribe(["201T7347"], RECV_NS)
    feed.flush()
    (definition, table) = told(feed.packets)
    assert (definition["price_exp"], table["bands"]) == (-2, [["0", "0.01"], ["10", "0.05"]])
    (event,) = [event for event in feed.frame(TRADES["OC0"][0]) if event["type"] == "trade"]
    assert event["price"] == "4.37"
    assert feed.session.counts["exponent_changed"] == 0


def test_market_states_redefine_the_instruments_of_their_segment() -> None:
    """A circuit breaker halts KOSPI shares and nothing else; the state is part of the
    definition, said once.
    """
    feed = Feed("ls")
    rows = (DONGWHA, DONGWHA | {"shcode": "086520", "gubun": "2"})
    feed.session.on_instruments(answer("t8436", *rows), RECV_NS, feed.now_ns)
    feed.session.subscribe(["000020", "N000020", "U000020", "086520"], RECV_NS)
    feed.flush()

    def states(found: list[EventDict]) -> dict[object, object]:
        return {event["symbol"]: event["state"] for event in found if event["type"] == "instrument"}

    assert states(feed.frame(JIF("1", "61"))) == {"000020": "halted"}
    assert states(feed.frame(JIF("1", "61"))) == {}
    assert states(feed.frame(JIF("2", "41"))) == {"086520": "closed"}
    assert states(feed.frame(JIF("6", "58"))) == {"N000020": "closed"}
    assert states(feed.frame(JIF("1", "21"))) == {"000020": "trading"}
    assert states(feed.frame(JIF("1", "64"), JIF("5", "61"), JIF("9", "21"))) == {}
    known = feed.session.by_symbol["000020"].definition
    assert known is not None
    assert known.state is InstrumentState.TRADING
    assert feed.session.counts["market_states"] == 6
