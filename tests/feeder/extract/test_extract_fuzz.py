"""Random messages and random damage: the C extractor never disagrees with the reference, it only
declines.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.feeder.extract.types import ExtractStatus
from tests.support.captures import recordings
from tests.support.examples import examples
from tests.support.extract_pair import Pair
from tests.support.shapes_sample import EXAMPLES, VENUES, frames

_VENUE = st.sampled_from(sorted(VENUES))
_SPACE = st.sampled_from(["", "", "", " ", "\n", "\t \r\n"])
_PLAIN = st.decimals(0, 10**9, allow_nan=False, places=8).map(str)
_ODD = st.one_of(
    st.from_regex(r"-?[0-9]{1,24}(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,4})?", fullmatch=True),
    st.sampled_from(["", "-", "1e999999999999", "1e-400", "1.", "+1", "null"]),
)
_SYMBOL = st.sampled_from(
    ["BTCUSDT", "KRW-BTC", "BTC-USDT-SWAP", "nobody", "", "币安", "BTCUSDTBTCUSDT"]
)
_TEXT_ID = st.one_of(
    st.integers(0, 10**21).map(str),
    st.sampled_from(["", "-0", "ETH-1", "é" * 70, "+1", "007", "1" * 300]),
)
_ISO = st.one_of(
    st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
    st.sampled_from(
        [
            "2024-02-29T00:00:00+00:00",
            "2023-02-29T00:00:00Z",
            "2024-08-08T23:54:60Z",
            "",
            "2024-08-08",
            "2024-1-1",
        ]
    ),
    st.from_regex(
        r"2024-0[1-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,12})?Z", fullmatch=True
    ),
)
_CLOCK = st.one_of(
    st.times().map(lambda time: f"{time:%H%M%S}"),
    st.sampled_from(
        ["235959", "000000", "240000", "236000", "", "  ", "90851", "0908511", "09085é", "ABCDEF"]
    ),
)
_PIECE = st.sampled_from(["null", "1", '"x"', "{}", "[]", "true"])
_PIECES = [
    b'"',
    b"\\",
    b"\\u00e9",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"-",
    b"1e-9",
    b"0",
    b"9" * 21,
]
_PIECES += [
    b".5",
    b"e99999999999",
    b" ",
    b"\n",
    b"\xc3\xa9",
    b"\xff",
    b"{}",
    b"[]",
    b'"e":',
    b'"s":"BTCUSDT",',
    b'"",',
]


_RECEIVED = 1_764_086_400_000_000_000
"""25 November 2025, 16:00 UTC: 26 November, 01:00 in Korea."""


def _pair(venue: str) -> Pair:
    made = Pair(VENUES[venue], out_capacity=1 << 14)
    for symbol in (
        "BTCUSDT",
        "KRW-BTC",
        "BTC-USDT-SWAP",
        "NKNUSDT",
        "ETH-USD",
        "LTCUSDT",
        "BTC-26MAR21",
        "ETH/USD",
    ):
        made.add(symbol)
    return made


_PAIRS = {venue: _pair(venue) for venue in VENUES}


class _Writer:
    """JSON text from drawn parts: any key order, white space, numbers and intruders."""

    def __init__(self, draw: st.DrawFn, bare: bool) -> None:
        self._draw = draw
        self._bare = bare
        self.odd = draw(st.booleans())

    def number(self) -> str:
        text = self._draw(st.one_of(_PLAIN, _ODD) if self.odd else _PLAIN)
        return text if self._bare else f'"{text}"'

    def integer(self) -> str:
        value = self._draw(
            st.one_of(st.integers(0, 2**65), st.integers(1_600_000_000_000, 1_900_000_000_000))
        )
        return str(value) if self._draw(st.booleans()) else f'"{value}"'

    def rows(self) -> str:
        extra = self._draw(st.sampled_from(["", ',"0","83"', ",0", ",[1]"]))
        rows = [
            f"[{self.number()},{self.number()}{extra}]"
            for _ in range(self._draw(st.integers(0, 4)))
        ]
        return "[" + f"{self._draw(_SPACE)},{self._draw(_SPACE)}".join(rows) + "]"

    def object(self, members: dict[str, str]) -> str:
        if self.odd and self._draw(st.booleans()):
            intruder = self._draw(st.sampled_from([*members, "x", "e", "data"]))
            members = dict(
                [
                    *members.items(),
                    (
                        intruder,
                        self._draw(st.sampled_from(["null", "1", '"x"', "{}", "[]", "[{}]"])),
                    ),
                ]
            )
        items = self._draw(st.permutations(list(members.items())))
        space = self._draw(_SPACE)
        return (
            "{"
            + ",".join(f'{space}"{key}"{space}:{space}{value}{space}' for key, value in items)
            + "}"
        )

    def text(self, *texts: str) -> str:
        return (
            f'"{self._draw(st.sampled_from(texts))}"'
            if self._draw(st.integers(0, 9))
            else self._draw(_PIECE)
        )

    def time(self) -> str:
        return f'"{self._draw(_ISO)}"' if self._draw(st.integers(0, 9)) else self.integer()

    def trade_id(self) -> str:
        return f'"{self._draw(_TEXT_ID)}"' if self._draw(st.booleans()) else self.integer()

    def array(self, items: Callable[[], str], sizes: tuple[int, ...] = (0, 1, 2, 3)) -> str:
        return "[" + ",".join(items() for _ in range(self._draw(st.sampled_from(sizes)))) + "]"

    def statistic(self) -> str:
        return (
            self.number()
            if self._draw(st.booleans())
            else self._draw(st.sampled_from(['""', "null", "0", '"-1e3"', '"9e40"']))
        )

    def due(self) -> str:
        return (
            self.integer()
            if self._draw(st.booleans())
            else self._draw(st.sampled_from(["0", '"0"', '"00"', "-0", '""', "null"]))
        )

    def some(self, members: dict[str, str]) -> str:
        return self.object(
            {key: value for key, value in members.items() if self._draw(st.integers(0, 5))}
        )


def _bybit(w: _Writer, symbol: str) -> str:
    topic = w.text(
        "orderbook.1.X",
        "orderbook.50.X",
        "publicTrade.X",
        "tickers.X",
        "publicTrade",
        "tickers.",
        "x",
    )
    if "publicTrade" in topic:
        trade = {
            "s": symbol,
            "T": w.integer(),
            "p": w.number(),
            "v": w.number(),
            "i": w.trade_id(),
            "S": w.text("Buy", "Sell", "buy"),
        }
        flags = {"BT": w.text("x")} if w.odd else {"BT": "true"}
        return w.object(
            {"topic": topic, "data": w.array(lambda: w.object(trade | flags), (1, 1, 2, 3, 0))}
        )
    if "tickers" in topic:
        data = {
            "symbol": symbol,
            "markPrice": w.statistic(),
            "fundingRate": w.statistic(),
            "nextFundingTime": w.due(),
        }
        inside = w.some(data | {"openInterest": w.statistic()})
        return w.object({"topic": topic, "data": inside, "ts": w.integer()})
    data = {"s": symbol, "b": w.rows(), "a": w.rows(), "u": w.integer()}
    return w.object(
        {
            "topic": topic,
            "type": w.text("snapshot", "delta"),
            "data": w.object(data),
            "cts": w.integer(),
        }
    )


def _deribit(w: _Writer, symbol: str) -> str:
    channel = w.text("book.X.raw", "ticker.X.raw", "trades.X.raw", "x")
    common = {"instrument_name": symbol, "timestamp": w.integer()}
    if "trades" in channel:
        trade = {
            "price": w.number(),
            "amount": w.number(),
            "trade_id": w.trade_id(),
            "direction": w.text("buy", "sell"),
        }
        block = {"block_trade_id": w.text("61", "") if w.odd else '"61"'}
        data = w.array(
            lambda: w.some(common | trade | block) if w.odd else w.object(common | trade | block),
            (1, 1, 2, 0),
        )
    elif "ticker" in channel:
        data = w.some(
            common
            | {
                "mark_price": w.statistic(),
                "current_funding": w.statistic(),
                "open_interest": w.statistic(),
            }
        )
    else:
        rows = [w.array(lambda: f'["new",{w.number()},{w.number()}]') for _ in range(2)]
        kind = w.text("snapshot", "change")
        data = w.object(
            common | {"type": kind, "bids": rows[0], "asks": rows[1], "change_id": w.integer()}
        )
    return w.object({"params": w.object({"channel": channel, "data": data})})


def _coinbase(w: _Writer, symbol: str) -> str:
    channel = w.text("l2_data", "market_trades", "x")
    if channel == '"x"':
        changes = w.array(lambda: f"[{w.text('buy', 'sell')},{w.number()},{w.number()}]")
        return w.object(
            {"type": '"l2update"', "product_id": symbol, "changes": changes, "time": w.time()}
        )
    trade = {
        "product_id": symbol,
        "trade_id": w.trade_id(),
        "price": w.number(),
        "size": w.number(),
    }
    inside = {"type": w.text("update", "snapshot"), "product_id": symbol}
    if "trades" in channel:
        inside["trades"] = w.array(
            lambda: w.object(trade | {"time": w.time(), "side": w.text("BUY", "SELL")}),
            (1, 1, 2, 0),
        )
    else:
        levels = {"price_level": w.number(), "new_quantity": w.number()}
        row = levels | {"event_time": w.time()}
        inside["updates"] = w.array(
            lambda: w.object(row | {"side": w.text("bid", "offer")}), (0, 1, 2, 3, 4)
        )
    events = w.array(lambda: w.object(inside), (1, 1, 1, 1, 2, 0))
    return w.object(
        {"channel": channel, "timestamp": w.time(), "sequence_num": w.integer(), "events": events}
    )


def _kraken(w: _Writer, symbol: str) -> str:
    bids, asks = (
        w.array(lambda: w.object({"price": w.number(), "qty": w.number()})) for _ in range(2)
    )
    data = w.some(
        {
            "symbol": symbol,
            "bids": bids,
            "asks": asks,
            "checksum": w.integer(),
            "timestamp": w.time(),
        }
    )
    return w.object(
        {"channel": '"book"', "type": w.text("snapshot", "update"), "data": f"[{data}]"}
    )


def _ls(w: _Writer, symbol: str) -> str:
    def number() -> str:
        return w.number() if w._draw(st.integers(0, 3)) else w.text("0", "", "  ")

    key = f'"{w._draw(st.sampled_from(["", " ", "   "]))}{symbol[1:-1]}{w._draw(st.sampled_from(["", "   "]))}"'
    code = w.text("H1_", "S3_", "US3", "x")
    time = f'"{w._draw(_CLOCK)}"'
    if "H1" in code:
        members = {
            f"{name}{n}": number()
            for name in ("bidho", "bidrem", "offerho", "offerrem")
            for n in (1, 2, 3)
        }
        body = w.object(members | {"hotime": time})
    else:
        trade = {
            "price": w.number(),
            "cvolume": w.number(),
            "volume": w.integer(),
            "cgubun": w.text("+", "-", "", " "),
        }
        body = w.object(trade | {"chetime": time, "exchname": w.text("KRX", "NXT", "")})
    return w.object({"header": w.object({"tr_cd": code, "tr_key": key}), "body": body})


_WRITERS = {
    "ls": _ls,
    "bybit": _bybit,
    "deribit": _deribit,
    "coinbase": _coinbase,
    "kraken": _kraken,
}


@st.composite
def _messages(draw: st.DrawFn) -> tuple[str, bytes]:
    venue = draw(_VENUE)
    w = _Writer(draw, venue in ("upbit", "deribit", "kraken"))
    symbol = f'"{draw(_SYMBOL)}"'
    if venue in _WRITERS:
        text = _WRITERS[venue](w, symbol)
    elif venue == "okx":
        channel = draw(st.sampled_from(["books", "trades", "bbo-tbt", "x"]))
        books = w.object(
            {
                "asks": w.rows(),
                "bids": w.rows(),
                "ts": w.integer(),
                "seqId": w.integer(),
                "prevSeqId": "-1",
            }
        )
        trade = w.object(
            {
                "px": w.number(),
                "sz": w.number(),
                "side": draw(st.sampled_from(['"buy"', '"sell"', "1"])),
                "tradeId": w.integer(),
            }
            | {"ts": w.integer()}
        )
        inside = (
            draw(st.sampled_from([books, trade]))
            if channel == "x"
            else trade
            if channel == "trades"
            else books
        )
        data = ",".join([inside] * draw(st.sampled_from([1, 1, 1, 0, 2, 3])))
        action = draw(st.sampled_from(['"snapshot"', '"update"', "1"]))
        text = w.object(
            {
                "arg": w.object({"channel": f'"{channel}"', "instId": symbol}),
                "action": action,
                "data": f"[{data}]",
            }
        )
    elif venue == "upbit":
        unit = {"ap": w.number(), "bp": w.number(), "as": w.number(), "bs": w.number()}
        units = ",".join(w.object(unit) for _ in range(draw(st.integers(0, 3))))
        text = w.object(
            {
                "ty": '"orderbook"',
                "cd": symbol,
                "tms": w.integer(),
                "obu": f"[{units}]",
                "lv": draw(_SPACE) + "0",
            }
        )
    else:
        kind = draw(st.sampled_from(["depthUpdate", "trade", "bookTicker", "aggTrade"]))
        common = {
            "e": f'"{kind}"',
            "E": w.integer(),
            "T": w.integer(),
            "s": symbol,
            "u": w.integer(),
        }
        if kind == "depthUpdate":
            common |= {"U": w.integer(), "pu": w.integer(), "b": w.rows(), "a": w.rows()}
        elif kind == "bookTicker":
            common |= {"b": w.number(), "B": w.number(), "a": w.number(), "A": w.number()}
        else:
            common |= {
                "t": w.integer(),
                "a": w.integer(),
                "p": w.number(),
                "q": w.number(),
                "m": draw(st.sampled_from(["true", "0"])),
            }
        if venue == "binance":
            common.pop("pu", None)
            if kind == "bookTicker":
                common.pop("e")
        text = w.object(common)
        if draw(st.booleans()):
            stream = draw(
                st.sampled_from(
                    ['"x@depth@100ms"', '"x@depth20@100ms"', '"@depth"', '""', "5", '["@depth5"]']
                )
            )
            text = w.object({"stream": stream, "data": text})
    return venue, text.encode()


@settings(max_examples=examples(3000), deadline=None)
@given(_messages())
def test_random_messages_mean_the_same_to_both(message: tuple[str, bytes]) -> None:
    """Any key order, white space, numbers, intruding and repeated keys: equal statuses and
    bytes.
    """
    venue, frame = message
    _PAIRS[venue].run(frame, ts_recv_ns=_RECEIVED)


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_malformed_or_nothing(frame: bytes) -> None:
    """Bytes that are no message give no packet and no exception."""
    for pair in _PAIRS.values():
        assert pair.run(frame) in (ExtractStatus.MALFORMED, ExtractStatus.NO_SHAPE)


def _damage(rng: random.Random, frame: bytes) -> bytes:
    data = bytearray(frame)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + rng.randint(1, 12)]
        elif kind == 2:
            data[at:at] = data[at : at + rng.randint(1, 40)]
        elif kind == 3:
            data[at:at] = rng.choice(_PIECES)
        else:
            piece = rng.choice(_PIECES)
            data[at : at + len(piece)] = piece
    return bytes(data)


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_damaged_frames_mean_the_same_to_both(venue: str) -> None:
    """Bit flips, cuts, repetitions and pieces of JSON anywhere in a message."""
    rng = random.Random(7)
    pair = _PAIRS[venue]
    for frame in EXAMPLES[venue]:
        for _ in range(4000):
            pair.run(_damage(rng, frame))


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_every_truncation_is_malformed(venue: str) -> None:
    """A frame cut anywhere is refused."""
    for frame in EXAMPLES[venue]:
        for end in range(len(frame)):
            assert _PAIRS[venue].run(frame[:end]) == ExtractStatus.MALFORMED


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_damaged_recordings_mean_the_same_to_both(venue: str) -> None:
    """The same damage on recorded frames, whose numbers and lengths vary."""
    rng = random.Random(11)
    pair = _PAIRS[venue]
    for path in recordings(venue):
        for frame in frames(path, 150):
            if len(frame.raw) < 4000:
                pair.run(frame.raw)
                for _ in range(3):
                    pair.run(_damage(rng, frame.raw))
