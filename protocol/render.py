"""Packets to normalised events: plain dictionaries with exact decimal strings, one JSON line
each.

`decode`, `up --events` and `dump` all print through this module, so their lines are equal by
construction. The wire's layout is in `protocol/SPEC.md`. It keeps the names that definitions
announce and the fragments of unfinished events, nothing else: it holds no book, checks no
channel sequence and does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import cache
from typing import NamedTuple, TypeAlias

from tapecast.protocol import schema
from tapecast.protocol.codec import Buffer, decode, decode_text, parse_gap_detail
from tapecast.protocol.decimals import format_decimal
from tapecast.protocol.records import (
    Header,
    HeartbeatItem,
    InstrumentItem,
    Item,
    Level,
    StatItem,
    StatusItem,
    TickBand,
    TradeItem,
)
from tapecast.protocol.schema import UNDEFINED, Flag, MsgType

__all__ = ["EventDict", "JsonValue", "Renderer"]

JsonValue: TypeAlias = (
    "str | int | bool | list[JsonValue] | list[str] | list[list[str | None]] | None"
)
EventDict: TypeAlias = dict[str, JsonValue]

# Plain integers: an operation with an IntFlag member is slow.
_LAST, _SNAPSHOT, _CYCLIC = int(Flag.LAST), int(Flag.SNAPSHOT), int(Flag.SNAPSHOT | Flag.RECOVERED)
_HASHED_ID = int(schema.TradeFlag.HASHED_ID)


class _Names(NamedTuple):
    venue: str
    kind: str | None
    symbol: str | None
    instrument: str | None


class _Pending:
    """The fragments of an event seen so far."""

    __slots__ = ("bids", "header", "items", "next")

    def __init__(self, header: Header) -> None:
        self.header = header
        self.next = 0
        self.bids: list[Item] = []
        self.items: list[Item] = []


class Renderer:
    """Turns packets of any number of channels into events, in the order of the packets.

    The packets must be in the order of their channel and free of duplicates
    (`protocol.net.sequencing`). With `raw`, heartbeats, session marks, tick tables and texts
    become events too, and repeated definitions and cyclic snapshots are shown as well.
    `trade_texts` maps hashed trade ids to the venue's text, where the caller knows it.
    """

    def __init__(self, *, raw: bool = False, trade_texts: Mapping[int, str] | None = None) -> None:
        """Start without any definition."""
        self._raw = raw
        self._trade_texts = trade_texts if trade_texts is not None else {}
        self._names: dict[int, _Names] = {}
        self._definitions: dict[int, InstrumentItem] = {}
        self._pending: dict[tuple[int, int, int], _Pending] = {}
        self._book_seq: dict[tuple[int, int], tuple[int, int]] = {}
        self._render: dict[int, Callable[[_Pending], list[EventDict]]] = {
            MsgType.BOOK: self._book,
            MsgType.BBO: self._bbo,
            MsgType.TRADE: self._trades,
            MsgType.LIQUIDATION: self._trades,
            MsgType.STAT: self._stats,
            MsgType.INSTRUMENT: self._instruments,
            MsgType.STATUS: self._statuses,
        }
        if raw:
            self._render[MsgType.TICK_TABLE] = self._tick_table
            self._render[MsgType.TEXT] = self._text
            for msg_type in (MsgType.HEARTBEAT, MsgType.SESSION_START, MsgType.SESSION_END):
                self._render[msg_type] = self._heartbeats

    def feed(self, packet: Buffer) -> list[EventDict]:
        """Return the events that a packet completes; raise WireError where it is invalid.

        An event in fragments comes with its last one, and not at all where one is missing.
        """
        header, items, _ = decode(packet)
        render = self._render.get(header.msg_type)
        if render is None:
            return []
        event = self._join(header, items)
        return render(event) if event is not None else []

    def _join(self, header: Header, items: tuple[Item, ...]) -> _Pending | None:
        key = (header.channel_id, header.instrument_id, header.msg_type)
        if header.fragment == 0:
            event = _Pending(header)
            self._pending.pop(key, None)
        else:
            held = self._pending.get(key)
            first = held.header if held is not None else None
            if (
                held is None
                or first is None
                or held.next != header.fragment
                or (first.session, first.instrument_seq) != (header.session, header.instrument_seq)
            ):
                self._pending.pop(key, None)
                return None
            event = held
        event.next += 1
        event.bids += items[: header.bid_count]
        event.items += items[header.bid_count :]
        if header.flags & _LAST:
            self._pending.pop(key, None)
            return event
        self._pending[key] = event
        return None

    def _names_of(self, header: Header) -> _Names:
        names = self._names.get(header.instrument_id)
        if names is not None:
            return names
        identity = f"#{header.instrument_id:016x}" if header.instrument_id else None
        return _Names(schema.venue_name(header.venue_id), None, None, identity)

    def _common(self, type_name: str, header: Header, names: _Names | None = None) -> EventDict:
        venue, kind, symbol, instrument = names if names is not None else self._names_of(header)
        return {
            "type": type_name,
            "venue": venue,
            "kind": kind,
            "symbol": symbol,
            "instrument": instrument,
            "ts_exchange_ns": header.ts_exchange_ns,
            "ts_recv_ns": header.ts_recv_ns or None,
            "flags": _flag_names(header.flags),
        }

    def _book(self, event: _Pending) -> list[EventDict]:
        header = event.header
        if self._is_cyclic(header):
            return []
        out = self._common("book", header)
        out["snapshot"] = bool(header.flags & _SNAPSHOT)
        out["bids"] = _pairs(event.bids, header)
        out["asks"] = _pairs(event.items, header)
        return [out]

    def _is_cyclic(self, header: Header) -> bool:
        """Whether a snapshot only repeats, for late joiners, what already went out: it carries
        the last event's number.
        """
        if self._raw or not header.session:
            return False
        key, state = (
            (header.channel_id, header.instrument_id),
            (header.session, header.instrument_seq),
        )
        if header.flags & _CYCLIC == _CYCLIC and self._book_seq.get(key) == state:
            return True
        self._book_seq[key] = state
        return False

    def _bbo(self, event: _Pending) -> list[EventDict]:
        out = self._common("bbo", event.header)
        for side, levels in (("bid", event.bids), ("ask", event.items)):
            pairs = _pairs(levels, event.header)
            out[side] = list[JsonValue](pairs[0]) if pairs else None
        return [out]

    def _trades(self, event: _Pending) -> list[EventDict]:
        header = event.header
        name = "trade" if header.msg_type == MsgType.TRADE else "liquidation"
        names = self._names_of(header)
        events: list[EventDict] = []
        for item in event.items:
            if not isinstance(item, TradeItem):
                continue
            out = self._common(name, header, names)
            if header.ts_exchange_ns:
                out["ts_exchange_ns"] = header.ts_exchange_ns + 1000 * item.ts_delta_us
            out["flags"] = _flag_names(header.flags) + _trade_flag_names(item.trade_flags)
            out["price"] = _decimal(item.price, header.price_exp)
            out["quantity"] = _decimal(item.quantity, header.qty_exp)
            out["side"] = _enum_name(schema.Side, item.side)
            out["trade_id"] = str(item.trade_id)
            if item.trade_flags & _HASHED_ID and item.trade_id in self._trade_texts:
                out["trade_id_text"] = self._trade_texts[item.trade_id]
            events.append(out)
        return events

    def _stats(self, event: _Pending) -> list[EventDict]:
        events: list[EventDict] = []
        for item in event.items:
            if not isinstance(item, StatItem):
                continue
            out = self._common("stat", event.header)
            out["kind_of"] = _enum_name(schema.StatKind, item.kind)
            out["value"] = _decimal(item.value, item.exp)
            out["ts"] = item.ts
            out["aux"] = item.aux
            events.append(out)
        return events

    def _instruments(self, event: _Pending) -> list[EventDict]:
        events: list[EventDict] = []
        for item in event.items:
            if not isinstance(item, InstrumentItem):
                continue
            if self._definitions.get(item.id) == item and not self._raw:
                continue
            venue, kind = (
                schema.venue_name(item.venue),
                _enum_name(schema.InstrumentKind, item.kind),
            )
            names = _Names(venue, kind, item.symbol, f"{venue}.{kind}.{item.symbol}")
            self._definitions[item.id] = item
            self._names[item.id] = names
            events.append(self._common("instrument", event.header, names) | _definition(item))
        return events

    def _statuses(self, event: _Pending) -> list[EventDict]:
        events: list[EventDict] = []
        for item in event.items:
            if not isinstance(item, StatusItem):
                continue
            checksum = item.reason == schema.StatusReason.CHECKSUM
            if checksum or item.reason == schema.StatusReason.GAP:
                out = self._common("gap", event.header)
                out["expected"], out["got"] = parse_gap_detail(item.detail, signed=checksum)
                out["reason"] = "checksum" if checksum else "gap"
            else:
                out = self._common("status", event.header)
                out["scope"] = _enum_name(schema.StatusScope, item.scope)
                out["state"] = _enum_name(schema.StatusState, item.state)
                out["reason"] = _enum_name(schema.StatusReason, item.reason)
                out["counts"] = item.counts
                out["detail"] = item.detail.rstrip(b"\0").decode("utf-8", "replace")
            events.append(out)
        return events

    def _tick_table(self, event: _Pending) -> list[EventDict]:
        out = self._common("tick_table", event.header)
        exp = event.header.price_exp
        bands = [
            [_decimal(b.from_price, exp), _decimal(b.tick, exp)]
            for b in event.items
            if isinstance(b, TickBand)
        ]
        out["bands"] = bands
        return [out]

    def _text(self, event: _Pending) -> list[EventDict]:
        out = self._common("text", event.header)
        out["text"] = decode_text(event.items)
        return [out]

    def _heartbeats(self, event: _Pending) -> list[EventDict]:
        header = event.header
        events: list[EventDict] = []
        for item in event.items:
            if not isinstance(item, HeartbeatItem):
                continue
            out = self._common(_enum_name(MsgType, header.msg_type), header)
            out["channel"] = header.channel_id
            out["session"] = header.session
            out["channel_seq"] = header.channel_seq
            events.append(out | item._asdict())
        return events


def _decimal(mantissa: int, exp: int) -> str | None:
    return None if mantissa == UNDEFINED else format_decimal(mantissa, exp)


def _pairs(levels: list[Item], header: Header) -> list[list[str | None]]:
    price_exp, qty_exp = header.price_exp, header.qty_exp
    return [
        [_decimal(level.price, price_exp), _decimal(level.quantity, qty_exp)]
        for level in levels
        if isinstance(level, Level)
    ]


def _definition(item: InstrumentItem) -> EventDict:
    return {
        "state": _enum_name(schema.InstrumentState, item.state),
        "version": item.version,
        "price_exp": item.price_exp,
        "qty_exp": item.qty_exp,
        "tick": _decimal(item.tick, item.price_exp),
        "lot": _decimal(item.lot, item.qty_exp),
        "min_qty": _decimal(item.min_qty, item.qty_exp),
        "min_notional": _decimal(item.min_notional, item.notional_exp),
        "multiplier": _decimal(item.multiplier, item.multiplier_exp),
        "expiry_ns": item.expiry_ns,
        "strike": _decimal(item.strike, item.strike_exp),
        "base": item.base or None,
        "quote": item.quote or None,
        "settle": item.settle or None,
        "option_type": _enum_name(schema.OptionType, item.option_type),
    }


@cache
def _names_in(enum: type[IntEnum]) -> dict[int, str]:
    return {member.value: member.name.lower() for member in enum}


def _enum_name(enum: type[IntEnum], value: int) -> str:
    """Lower-case name of a value, or its number as text where this version does not know it."""
    return _names_in(enum).get(value) or str(value)


_FLAG_NAMES = [
    (member.value, member.name.lower())
    for member in Flag
    if member.name and member is not Flag.LAST
]
_TRADE_FLAG_NAMES = [
    (member.value, member.name.lower()) for member in schema.TradeFlag if member.name
]


def _flag_names(flags: int) -> list[str]:
    return [name for bit, name in _FLAG_NAMES if flags & bit] if flags & ~_LAST else []


def _trade_flag_names(flags: int) -> list[str]:
    return [name for bit, name in _TRADE_FLAG_NAMES if flags & bit] if flags else []
