"""The wire format as data: every record, field, message type and flag of the 66-byte-header
protocol, once.

Everything else about the layout is derived from this module: numpy dtypes (`protocol.dtypes`),
the reference codec (`protocol.codec`), the C header, the tables of `protocol/SPEC.md` and the
Wireshark dissector (`protocol.generate`). It holds no behaviour and performs no I/O.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Literal, NamedTuple

__all__ = [
    "DERIVED_STEP",
    "FLAG_DOC",
    "HEADER",
    "HEADER_SIZE",
    "ITEM_OF",
    "MAGIC",
    "MAX_ITEMS",
    "MAX_MANTISSA",
    "MAX_PACKET",
    "PORT_CRYPTO",
    "PORT_STOCK",
    "RECORDS",
    "REPLICA_STEP",
    "SERVICES",
    "TAG_SIZE",
    "UNDEFINED",
    "VENUES",
    "VERSION",
    "Field",
    "Flag",
    "InstrumentFlag",
    "InstrumentKind",
    "InstrumentState",
    "MsgType",
    "OptionType",
    "Record",
    "ReplyStatus",
    "RequestKind",
    "Side",
    "StatKind",
    "StatusReason",
    "StatusScope",
    "StatusState",
    "TradeFlag",
    "venue_name",
]

MAGIC = 0x464D
VERSION = 1
HEADER_SIZE = 66
TAG_SIZE = 16
MAX_ITEMS = 87
MAX_PACKET = 1472
"""Largest UDP payload that crosses an Ethernet MTU of 1500 unfragmented."""
MAX_MANTISSA = 2**62 - 1
UNDEFINED = -(2**63)
"""Mantissa of a value that is not known or does not apply."""
PORT_CRYPTO = 9001
PORT_STOCK = 9002


class MsgType(IntEnum):
    """Header field `msg_type`."""

    HEARTBEAT = 1
    SESSION_START = 2
    SESSION_END = 3
    BOOK = 16
    BBO = 17
    TRADE = 18
    STAT = 19
    LIQUIDATION = 20
    INSTRUMENT = 32
    TICK_TABLE = 33
    STATUS = 34
    TEXT = 48
    REQUEST = 64
    """To the recovery service; this and REPLY on TCP only."""
    REPLY = 65


class Flag(IntFlag):
    """Header field `flags`; meanings in `FLAG_DOC`."""

    LAST = 0x0001
    SNAPSHOT = 0x0002
    SUSPECT = 0x0004
    STALE = 0x0008
    REPLAY = 0x0010
    TOP_ONLY = 0x0020
    BAD_TS_EXCHANGE = 0x0040
    BAD_TS_RECV = 0x0080
    CONFLATED = 0x0100
    RECOVERED = 0x0200
    TEST = 0x0400
    AUTH = 0x0800
    CRITICAL = 0x8000


FLAG_DOC: dict[Flag, str] = {
    Flag.LAST: "last fragment of the event",
    Flag.SNAPSHOT: "replaces the instrument's whole book; otherwise a delta, quantity 0 deletes",
    Flag.SUSPECT: "upstream loss not yet repaired",
    Flag.STALE: "the source has been silent beyond its limit",
    Flag.REPLAY: (
        "from a recording; order management refuses to trade on it unless started for replay"
    ),
    Flag.TOP_ONLY: "depth is truncated by the venue",
    Flag.BAD_TS_EXCHANGE: "exchange time missing, out of range or coarser than 1 ms",
    Flag.BAD_TS_RECV: "local clock unsynchronised or stepped",
    Flag.CONFLATED: "several venue events merged",
    Flag.RECOVERED: "came from a resync, not from the live push",
    Flag.TEST: "testnet",
    Flag.AUTH: "a 16-byte tag follows the payload",
    Flag.CRITICAL: "reserved: a receiver that does not know it drops the packet",
}


class Side(IntEnum):
    """The taker's side."""

    UNKNOWN = 0
    BUY = 1
    SELL = 2

    def __str__(self) -> str:
        """Return the word of the JSON events: buy, sell or unknown."""
        return self.name.lower()

    def __format__(self, spec: str) -> str:
        """Format the word, so that an f-string reads as `print` does."""
        return format(self.name.lower(), spec)


class TradeFlag(IntFlag):
    """Item field `trade_flags`."""

    HASHED_ID = 1
    BLOCK = 2
    AUCTION = 4
    OFF_BOOK = 8
    REPEATED = 16


class InstrumentKind(IntEnum):
    """Item field `kind`; the lower-case name is the middle part of the instrument text
    (`binance.spot.BTCUSDT`).
    """

    SPOT = 1
    PERPETUAL = 2
    FUTURE = 3
    OPTION = 4
    EQUITY = 5
    INDEX = 6


class InstrumentState(IntEnum):
    """Item field `state` of an instrument definition."""

    UNKNOWN = 0
    TRADING = 1
    HALTED = 2
    PRE_OPEN = 3
    CLOSED = 4
    DELISTED = 5


class InstrumentFlag(IntFlag):
    """Item field `flags` of an instrument definition."""

    PROVISIONAL = 1
    """No definition from the venue has been seen: tick and lot are undefined, the exponents come
    from the data.
    """
    INVERSE = 2


class OptionType(IntEnum):
    """Item field `option_type`."""

    NONE = 0
    CALL = 1
    PUT = 2


class StatKind(IntEnum):
    """Item field `kind` of a statistic."""

    MARK_PRICE = 1
    INDEX_PRICE = 2
    FUNDING_RATE = 3
    OPEN_INTEREST = 4


class StatusScope(IntEnum):
    """What a status is about."""

    CHANNEL = 1
    CONNECTION = 2
    BOOK = 3
    INSTRUMENT = 4


class StatusState(IntEnum):
    """Item field `state` of a status: the life of a book, and of a connection."""

    IDLE = 0
    SUBSCRIBING = 1
    WAIT_SNAPSHOT = 2
    SYNCING = 3
    LIVE = 4
    SUSPECT = 5
    STALE = 6
    RESYNC = 7
    CONNECTED = 16
    DISCONNECTED = 17


class StatusReason(IntEnum):
    """Item field `reason` of a status."""

    NONE = 0
    GAP = 1
    """The venue's sequence broke; `detail` holds expected and got as two little-endian u64."""
    CHECKSUM = 2
    """The book does not match the venue's checksum; `detail` as for GAP."""
    CROSSED = 3
    DISCONNECTED = 4
    TIMEOUT = 5
    OVERFLOW = 6
    QUARANTINE = 7
    STALE_SNAPSHOT = 8
    EXPONENT = 9
    RESTART = 10
    FIRST_SYNC = 11
    RESYNCED = 12
    UNTRUSTED = 13
    """Packets were dropped because of who sent them: another sender, or no right tag."""


class RequestKind(IntEnum):
    """Item field `kind` of a request, and of the reply to it."""

    RANGE = 1
    DEFINITIONS = 2
    SNAPSHOT = 3


class ReplyStatus(IntEnum):
    """Item field `status` of a reply."""

    OK = 0
    OVERRUN = 1
    """Not, or only in part, in the ring any more."""
    OTHER_SESSION = 2
    BUSY = 3
    """A limit is reached: ask again after `retry_ms`."""
    BAD_REQUEST = 4
    UNKNOWN_INSTRUMENT = 5


VENUES: dict[str, int] = {
    "binance": 1,
    "binance_futures": 2,
    "bybit": 3,
    "upbit": 4,
    "coinbase": 5,
    "coinbase_exchange": 6,
    "okx": 7,
    "deribit": 8,
    "bithumb": 9,
    "ls": 10,
    "kraken": 11,
    "binance_coinm": 12,
    "binance_us": 13,
    "bitget": 14,
}
"""Venue registry: header field `venue_id`; also the channel id and the last octet of the group."""

SERVICES: dict[str, int] = {
    "l3": 1,
    "nbbo": 2,
    "bars": 3,
    "features": 4,
    "signals": 5,
    "orders": 6,
}
"""Service registry: derived channels, whose input is what venues or other services publish. The
channel id is 1000 + the service for crypto input and 2000 + the service for stock input; the
service is the last octet of the group.
"""

REPLICA_STEP = 100
"""Between the channel ids, and the last octets of the groups, of a first and a second publisher."""
DERIVED_STEP = 1000
"""Channel ids below it are venues'; from it on services' with crypto input, from twice it on with
stock input.
"""


def venue_name(venue_id: int) -> str:
    """Return the registered name of a venue id, or `venue-N` for one this version does not know."""
    for name, number in VENUES.items():
        if number == venue_id:
            return name
    return f"venue-{venue_id}"


Scalar = Literal["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "utf8", "bytes"]


class Field(NamedTuple):
    """One field of a record. `size` is in bytes; `doc` goes to the specification."""

    offset: int
    type: Scalar
    name: str
    doc: str
    size: int

    @property
    def mantissa(self) -> bool:
        """Whether the field holds a mantissa, bounded by `MAX_MANTISSA`, or `UNDEFINED`."""
        return self.doc.startswith("mantissa")


class Record(NamedTuple):
    """A fixed-size little-endian record."""

    name: str
    size: int
    fields: tuple[Field, ...]
    doc: str


_SIZES = {"u8": 1, "i8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4, "u64": 8, "i64": 8}


def _record(
    name: str, doc: str, *fields: tuple[str, str, str] | tuple[str, str, str, int]
) -> Record:
    out: list[Field] = []
    offset = 0
    for field in fields:
        kind, field_name, field_doc = field[0], field[1], field[2]
        size = field[3] if len(field) == 4 else _SIZES[kind]
        out.append(Field(offset, kind, field_name, field_doc, size))  # type: ignore[arg-type]
        offset += size
    return Record(name, offset, tuple(out), doc)


HEADER = _record(
    "header",
    "Starts every datagram.",
    ("u16", "magic", "0x464D (bytes 4D 46)"),
    ("u8", "version", "1"),
    ("u8", "msg_type", "message type"),
    ("u16", "flags", "flag bits"),
    ("u8", "item_count", "items in the payload, 0-87"),
    ("u8", "bid_count", "books: the first bid_count items are bids, the rest asks; otherwise 0"),
    ("u32", "session", "publisher epoch: max(last stored + 1, unix seconds); greater is newer"),
    ("u16", "channel_id", "one sequence space = one multicast group (A and B lines share it)"),
    ("u16", "venue_id", "venue registry"),
    ("u64", "instrument_id", "BLAKE2b-64 of venue.kind.symbol; 0 = not about one instrument"),
    ("u64", "channel_seq", "+1 per packet on the channel, from 1 in each session"),
    (
        "u32",
        "instrument_seq",
        "+1 per event of this instrument and message type; equal on all its fragments; wraps",
    ),
    ("i8", "price_exp", "price = mantissa x 10^price_exp"),
    ("i8", "qty_exp", "quantity = mantissa x 10^qty_exp"),
    (
        "u8",
        "item_size",
        "stride of one item; a receiver walks by it, so items may grow at their end",
    ),
    ("u8", "fragment", "0, 1, 2 ... within one event"),
    (
        "i64",
        "ts_exchange_ns",
        "matching-engine time where the venue gives one, UTC ns; 0 = unknown",
    ),
    ("i64", "ts_recv_ns", "when the venue's frame was complete at the feeder, UTC ns; 0 = unknown"),
    ("i64", "ts_send_ns", "just before the send call, UTC ns"),
    ("u16", "payload_len", "bytes after the header, without the authentication tag"),
)

LEVEL = _record(
    "level",
    "One price level of a book, or one side of a BBO.",
    ("i64", "price", "mantissa"),
    ("i64", "quantity", "mantissa, absolute; 0 deletes"),
)

TRADE = _record(
    "trade",
    "One execution; also the item of a liquidation.",
    ("u64", "trade_id", "the venue's number, or BLAKE2b-64 of its text (trade_flags 1)"),
    ("i64", "price", "mantissa"),
    ("i64", "quantity", "mantissa"),
    ("i32", "ts_delta_us", "execution time against ts_exchange_ns, us"),
    ("u8", "side", "taker: 0 unknown, 1 buy, 2 sell"),
    ("u8", "trade_flags", "1 id is a hash, 2 block, 4 auction, 8 off-book or RPI, 16 repeated"),
    ("u16", "condition", "venue's condition code, 0 = none"),
)

STAT = _record(
    "stat",
    "One statistic.",
    ("i64", "value", "mantissa"),
    ("i64", "ts", "time the value applies to, UTC ns; 0 = unknown"),
    ("u16", "kind", "1 mark price, 2 index price, 3 funding rate, 4 open interest"),
    ("i8", "exp", "value = mantissa x 10^exp"),
    ("u8", "flags", "reserved, 0"),
    ("i32", "aux", "funding: seconds until it is due; otherwise 0"),
)

INSTRUMENT = _record(
    "instrument",
    "An instrument definition.",
    ("u64", "id", "instrument_id"),
    ("u16", "venue", "venue registry"),
    ("u8", "kind", "1 spot, 2 perpetual, 3 future, 4 option, 5 equity, 6 index"),
    ("u8", "state", "0 unknown, 1 trading, 2 halted, 3 pre-open, 4 closed, 5 delisted"),
    ("u32", "version", "+1 whenever the definition changes"),
    ("i8", "price_exp", "exponent of prices, tick and strike"),
    ("i8", "qty_exp", "exponent of quantities, lot and min_qty"),
    ("u16", "flags", "1 provisional, 2 inverse"),
    ("u32", "reserved", "0"),
    ("i64", "tick", "mantissa at price_exp"),
    ("i64", "lot", "mantissa at qty_exp"),
    ("i64", "min_qty", "mantissa at qty_exp"),
    ("i64", "min_notional", "mantissa at notional_exp"),
    ("i64", "multiplier", "contract size, mantissa at multiplier_exp"),
    ("i64", "expiry_ns", "UTC ns; 0 = none"),
    ("i64", "strike", "mantissa at strike_exp"),
    ("utf8", "symbol", "the venue's own symbol, zero padded", 40),
    ("utf8", "base", "zero padded; empty = unknown or longer", 12),
    ("utf8", "quote", "zero padded; empty = unknown or longer", 12),
    ("utf8", "settle", "zero padded; empty = unknown or longer", 12),
    ("i8", "notional_exp", "exponent of min_notional"),
    ("i8", "multiplier_exp", "exponent of multiplier"),
    ("i8", "strike_exp", "exponent of strike"),
    ("u8", "option_type", "0 none, 1 call, 2 put"),
)

TICK_BAND = _record(
    "tick_band",
    "From this price on, this tick applies (KRX, Upbit, Deribit ladders).",
    ("i64", "from_price", "mantissa at price_exp"),
    ("i64", "tick", "mantissa at price_exp"),
)

STATUS = _record(
    "status",
    "A state change of a channel, connection, book or instrument.",
    ("u8", "scope", "1 channel, 2 connection, 3 book, 4 instrument"),
    ("u8", "state", "the new state"),
    ("u16", "reason", "why"),
    ("u32", "counts", "how many events or connections this is about"),
    ("i64", "ts", "when, UTC ns"),
    (
        "bytes",
        "detail",
        "reason GAP or CHECKSUM: expected u64, got u64; otherwise UTF-8 text, zero padded",
        16,
    ),
)

HEARTBEAT = _record(
    "heartbeat",
    "Health of the publisher; also the item of SESSION_START and SESSION_END.",
    ("u64", "oldest_seq", "oldest repairable channel_seq; 0 = nothing is repairable"),
    ("u64", "upstream_dropped", "venue messages lost before they reached a packet"),
    ("u32", "instruments", "defined on this channel"),
    ("u32", "suspect", "books not LIVE"),
    ("u32", "interval_ms", "the next heartbeat comes within this time"),
    ("u16", "recovery_port", "TCP; 0 = none"),
    ("u16", "health", "0 good, 1 degraded, 2 no venue connection"),
)

TEXT_CHUNK = _record(
    "text_chunk",
    "A piece of UTF-8 text; chunks are joined and trailing zero bytes removed.",
    ("bytes", "text", "UTF-8, zero padded", 16),
)

REQUEST = _record(
    "request",
    "What a client of the recovery service asks for. TCP only.",
    ("u8", "kind", "1 range, 2 definitions, 3 snapshot"),
    ("u8", "reserved_8", "0"),
    ("u16", "reserved_16", "0"),
    ("u32", "request_id", "the client's number, repeated in the reply"),
    ("u64", "first", "range: first channel_seq wanted; otherwise 0"),
    ("u64", "instrument_id", "definitions, snapshot: this instrument, 0 = all; range: 0"),
    ("u32", "packets", "range: packets wanted, 1-512; otherwise 0"),
    ("u32", "reserved_32", "0"),
)

REPLY = _record(
    "reply",
    "Closes an answer of the recovery service. TCP only.",
    ("u8", "kind", "of the request; 0 where none could be read"),
    ("u8", "status", "how it went"),
    ("u16", "reserved", "0"),
    ("u32", "request_id", "of the request"),
    ("u64", "first", "range: channel_seq of the first packet served; 0 = none"),
    ("u64", "next_seq", "channel_seq that the publisher sends next"),
    ("u32", "packets", "packets of this answer that came before the reply"),
    ("u32", "retry_ms", "BUSY: ask again after this time; otherwise 0"),
)

RECORDS: tuple[Record, ...] = (
    HEADER,
    LEVEL,
    TRADE,
    STAT,
    INSTRUMENT,
    TICK_BAND,
    STATUS,
    HEARTBEAT,
    TEXT_CHUNK,
    REQUEST,
    REPLY,
)

ITEM_OF: dict[MsgType, Record] = {
    MsgType.HEARTBEAT: HEARTBEAT,
    MsgType.SESSION_START: HEARTBEAT,
    MsgType.SESSION_END: HEARTBEAT,
    MsgType.BOOK: LEVEL,
    MsgType.BBO: LEVEL,
    MsgType.TRADE: TRADE,
    MsgType.STAT: STAT,
    MsgType.LIQUIDATION: TRADE,
    MsgType.INSTRUMENT: INSTRUMENT,
    MsgType.TICK_TABLE: TICK_BAND,
    MsgType.STATUS: STATUS,
    MsgType.TEXT: TEXT_CHUNK,
    MsgType.REQUEST: REQUEST,
    MsgType.REPLY: REPLY,
}
"""The record that each message type carries."""
