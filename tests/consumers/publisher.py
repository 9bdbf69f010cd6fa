"""A publisher for tests: stamps packets as a feeder does and gives them back as bytes, one
channel, no sockets.

The figures of the session `btcusdt` are those of Binance spot BTCUSDT, 2024-08-08 23:54:14 UTC,
in the recording `binance/hft_20240808_spot_btcusdt.jsonl`: book snapshot 50093239218, the update
after it, trades 3735683259 and 3735683260.
"""

from __future__ import annotations

from tapecast.protocol.codec import (
    Header,
    Item,
    Level,
    StatusItem,
    TradeItem,
    encode,
    gap_detail,
    instrument_id,
    to_mantissa,
)
from tapecast.protocol.records import HeartbeatItem, InstrumentItem
from tapecast.protocol.schema import (
    VENUES,
    Flag,
    InstrumentKind,
    MsgType,
    Side,
    StatusReason,
    StatusScope,
    StatusState,
)

__all__ = ["ASKS", "BIDS", "BTC", "TS", "Publisher", "btcusdt"]

BTC = "binance.spot.BTCUSDT"
TS = 1723161255342000000
SESSION = 1723161250
PRICE_EXP, QTY_EXP = -2, -5
BIDS = [
    ("61837.63", "3.78826"),
    ("61837.62", "0.617"),
    ("61837.24", "0.1061"),
    ("61836.01", "0.0157"),
]
ASKS = [("61837.64", "1.54698"), ("61838.04", "0.00018"), ("61862.5", "0.0005")]
DELTA_BIDS = [("61837.63", "3.78826"), ("61771.97", "0.001"), ("61836.01", "0")]
DELTA_ASKS = [("61837.64", "1.6052"), ("61838.04", "0"), ("61927.01", "1.82577")]


def levels(pairs: list[tuple[str, str]]) -> list[Level]:
    """Return price and quantity texts as wire levels."""
    return [
        Level(to_mantissa(price, PRICE_EXP), to_mantissa(quantity, QTY_EXP))
        for price, quantity in pairs
    ]


class Publisher:
    """One channel in one session."""

    def __init__(
        self, venue: str = "binance", session: int = SESSION, *, ts_send_ns: int = TS
    ) -> None:
        """Start a session; `ts_send_ns` is the send time of the first packet, each later one
        comes 1 ms later.
        """
        self.venue_id = VENUES[venue]
        self.session = session
        self.next_seq = 1
        self.now_ns = ts_send_ns
        self.seqs: dict[tuple[int, int], int] = {}

    def send(
        self,
        msg_type: MsgType,
        items: list[Item],
        text: str = "",
        *,
        again: bool = False,
        **fields: int,
    ) -> list[bytes]:
        """Return the packets of one event. `again`: with the last `instrument_seq` instead of a
        new one (cycle snapshots).
        """
        instrument = instrument_id(text) if text else 0
        key = (instrument, msg_type)
        if instrument and not again:
            self.seqs[key] = self.seqs.get(key, 0) + 1
        self.now_ns += 1_000_000
        header = Header(
            msg_type=msg_type,
            session=self.session,
            channel_id=self.venue_id,
            venue_id=self.venue_id,
            instrument_id=instrument,
            channel_seq=self.next_seq,
            instrument_seq=self.seqs.get(key, 0),
            ts_send_ns=self.now_ns,
        )._replace(
            **{
                "price_exp": PRICE_EXP,
                "qty_exp": QTY_EXP,
                "ts_exchange_ns": TS,
                "ts_recv_ns": TS + 5,
                **fields,
            }
        )
        packets = encode(header, items)
        if msg_type not in (MsgType.HEARTBEAT, MsgType.SESSION_END):
            self.next_seq += len(packets)
        return packets

    def start(self) -> list[bytes]:
        """SESSION_START."""
        return self.send(MsgType.SESSION_START, [HeartbeatItem(interval_ms=250)])

    def heartbeat(self, instruments: int = 1, interval_ms: int = 250) -> list[bytes]:
        """HEARTBEAT: carries the next sequence number and uses none."""
        return self.send(
            MsgType.HEARTBEAT, [HeartbeatItem(instruments=instruments, interval_ms=interval_ms)]
        )

    def end(self) -> list[bytes]:
        """SESSION_END."""
        return self.send(MsgType.SESSION_END, [HeartbeatItem(interval_ms=250)])

    def define(
        self, text: str = BTC, base: str = "BTC", quote: str = "USDT", **fields: int
    ) -> list[bytes]:
        """INSTRUMENT of one instrument text."""
        venue, kind, symbol = text.split(".", 2)
        item = InstrumentItem(
            id=instrument_id(text),
            venue=VENUES[venue],
            kind=InstrumentKind[kind.upper()],
            state=1,
            version=1,
            price_exp=PRICE_EXP,
            qty_exp=QTY_EXP,
            tick=1,
            lot=1,
            symbol=symbol,
            base=base,
            quote=quote,
        )
        return self.send(MsgType.INSTRUMENT, [item._replace(**fields)], text)

    def trades(self, *trades: tuple[int, str, str, Side], text: str = BTC) -> list[bytes]:
        """TRADE of (id, price, quantity, taker's side)."""
        items: list[Item] = [
            TradeItem(
                number, to_mantissa(price, PRICE_EXP), to_mantissa(quantity, QTY_EXP), 0, side
            )
            for number, price, quantity, side in trades
        ]
        return self.send(MsgType.TRADE, items, text)

    def snapshot(
        self,
        bids: list[tuple[str, str]] = BIDS,
        asks: list[tuple[str, str]] = ASKS,
        text: str = BTC,
        **fields: int,
    ) -> list[bytes]:
        """BOOK with SNAPSHOT."""
        flags = Flag.SNAPSHOT | fields.pop("flags", 0)
        return self._book(bids, asks, text, flags=int(flags), **fields)

    def cycle(
        self,
        bids: list[tuple[str, str]] = BIDS,
        asks: list[tuple[str, str]] = ASKS,
        text: str = BTC,
        **fields: int,
    ) -> list[bytes]:
        """BOOK with SNAPSHOT and RECOVERED, carrying the last number."""
        return self._book(
            bids, asks, text, again=True, flags=int(Flag.SNAPSHOT | Flag.RECOVERED), **fields
        )

    def delta(
        self,
        bids: list[tuple[str, str]] = DELTA_BIDS,
        asks: list[tuple[str, str]] = DELTA_ASKS,
        text: str = BTC,
        **fields: int,
    ) -> list[bytes]:
        """BOOK without SNAPSHOT."""
        return self._book(bids, asks, text, **fields)

    def _book(
        self,
        bids: list[tuple[str, str]],
        asks: list[tuple[str, str]],
        text: str,
        *,
        again: bool = False,
        **fields: int,
    ) -> list[bytes]:
        items: list[Item] = [*levels(bids), *levels(asks)]
        return self.send(MsgType.BOOK, items, text, again=again, bid_count=len(bids), **fields)

    def bbo(
        self, bid: tuple[str, str] | None, ask: tuple[str, str] | None, text: str = BTC
    ) -> list[bytes]:
        """BBO with the sides that are given."""
        items: list[Item] = [*levels([bid] if bid else []), *levels([ask] if ask else [])]
        return self.send(MsgType.BBO, items, text, bid_count=1 if bid else 0)

    def status(
        self,
        state: StatusState,
        reason: StatusReason = StatusReason.NONE,
        scope: StatusScope = StatusScope.BOOK,
        text: str = BTC,
        detail: bytes = bytes(16),
    ) -> list[bytes]:
        """STATUS; a connection's has no instrument."""
        about = text if scope in (StatusScope.BOOK, StatusScope.INSTRUMENT) else ""
        return self.send(MsgType.STATUS, [StatusItem(scope, state, reason, 1, TS, detail)], about)

    def venue_gap(self, expected: int, got: int, text: str = BTC) -> list[bytes]:
        """STATUS of a broken venue sequence."""
        return self.status(
            StatusState.RESYNC, StatusReason.GAP, text=text, detail=gap_detail(expected, got)
        )


def btcusdt() -> list[bytes]:
    """Return a small whole session: start, definition, two trades, snapshot, delta, best bid and
    offer, heartbeat.
    """
    p = Publisher()
    return [
        *p.start(),
        *p.define(),
        *p.trades(
            (3735683259, "61837.63", "0.02", Side.SELL),
            (3735683260, "61837.63", "0.048", Side.SELL),
        ),
        *p.snapshot(),
        *p.delta(),
        *p.bbo(("61837.63", "3.78826"), ("61837.64", "1.54698")),
        *p.heartbeat(),
    ]
