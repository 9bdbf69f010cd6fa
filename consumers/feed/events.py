"""The events a script receives. All are frozen; times are UTC nanoseconds, 0 = unknown; meanings
are those of `protocol/SPEC.md`.

Numbers stay what they are on the wire, an integer mantissa and a decimal exponent; `Decimal`
values are made when a script asks for them (`trade.price`), exactly, never through a float. A
value the venue does not give is `Decimal("NaN")` where a number is always expected and None in
definitions.

A `Book` event refers to the live book and its change: both are valid until the next event is
taken; `book.copy()` keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple, Protocol, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from tapecast.protocol.codec import Buffer
from tapecast.protocol.decimals import format_decimal
from tapecast.protocol.dtypes import LEVEL
from tapecast.protocol.schema import (
    UNDEFINED,
    Flag,
    InstrumentFlag,
    InstrumentState,
    OptionType,
    Side,
    StatKind,
    StatusReason,
    StatusScope,
    StatusState,
    TradeFlag,
)

__all__ = [
    "ALL_EVENTS",
    "AnyEvent",
    "Bbo",
    "Book",
    "BookState",
    "Changes",
    "Event",
    "Gap",
    "GapReason",
    "Instrument",
    "Level",
    "Levels",
    "Liquidation",
    "Names",
    "Stat",
    "Status",
    "StatusOrigin",
    "Trade",
    "decimal",
]

Level: TypeAlias = tuple[Decimal, Decimal]
"""(price, quantity)."""
Structured: TypeAlias = npt.NDArray[np.void]
_NAN: Final = Decimal("NaN")


def decimal(mantissa: int, exp: int) -> Decimal:
    """Return mantissa x 10^exp exactly, in its shortest form (`65114.2`); NaN for an undefined
    mantissa.
    """
    return _NAN if mantissa == UNDEFINED else Decimal(format_decimal(mantissa, exp))


class BookState(IntEnum):
    """How far a book may be trusted."""

    LIVE = 1
    """Exact and complete to the venue's depth."""
    SUSPECT = 2
    """Something is missing or may be: lost packets are being fetched, a snapshot is awaited, or
    the next change will show.
    """
    STALE = 3
    """The source is silent or gone; the levels are the last ones known."""

    def __str__(self) -> str:
        """Return the lower-case name."""
        return self.name.lower()


class GapReason(StrEnum):
    """How a loss was noticed; equal to its text, so that `gap.reason == "loss"` holds."""

    LOSS = "loss"
    """Packets were lost on the way to this feed."""
    GAP = "gap"
    """The venue's own sequence broke at the feeder."""
    CHECKSUM = "checksum"
    """The feeder's book does not match the venue's checksum."""


class StatusOrigin(StrEnum):
    """Who noticed a state; equal to its text."""

    VENUE = "venue"
    """The venue's feeder."""
    FEED = "feed"
    """This feed itself."""


class Names(NamedTuple):
    """Who an instrument is, in words; the first fields of `Event`, in their order."""

    venue: str
    kind: str
    symbol: str
    instrument: str


class Event(msgspec.Struct, frozen=True, gc=False):
    """What every event about an instrument carries. `instrument` is the text
    `venue.kind.symbol`, `symbol` the venue's own.
    """

    venue: str
    kind: str
    symbol: str
    instrument: str
    ts_exchange_ns: int
    ts_recv_ns: int
    """When the venue's message was complete at the feeder."""
    ts_send_ns: int
    flags: Flag


class _Execution(Event, frozen=True, gc=False):
    price_mantissa: int
    quantity_mantissa: int
    price_exp: int
    qty_exp: int
    side: Side
    trade_id: int
    """The venue's number; BLAKE2b-64 of the venue's text where `trade_flags` has HASHED_ID."""
    trade_flags: TradeFlag
    condition: int

    @property
    def price(self) -> Decimal:
        """The price, exactly."""
        return decimal(self.price_mantissa, self.price_exp)

    @property
    def quantity(self) -> Decimal:
        """The quantity in the venue's unit (contracts where the instrument has a `multiplier`),
        exactly.
        """
        return decimal(self.quantity_mantissa, self.qty_exp)


class Trade(_Execution, frozen=True, gc=False):
    """One execution; `side` is the taker's; `ts_exchange_ns` is the time of the execution."""


class Liquidation(_Execution, frozen=True, gc=False):
    """One forced execution, as the venue reports it."""


class Bbo(Event, frozen=True, gc=False):
    """The best bid and ask as the venue's own top-of-book stream reports; None where a side is
    empty.
    """

    bid_mantissas: tuple[int, int] | None
    ask_mantissas: tuple[int, int] | None
    price_exp: int
    qty_exp: int

    @property
    def bid(self) -> Level | None:
        """Best bid as (price, quantity)."""
        return self._level(self.bid_mantissas)

    @property
    def ask(self) -> Level | None:
        """Best ask as (price, quantity)."""
        return self._level(self.ask_mantissas)

    def _level(self, pair: tuple[int, int] | None) -> Level | None:
        return (
            None
            if pair is None
            else (decimal(pair[0], self.price_exp), decimal(pair[1], self.qty_exp))
        )


class Stat(Event, frozen=True, gc=False):
    """One statistic of an instrument. `aux`: for funding, seconds until it is due."""

    kind_of: StatKind | int
    value_mantissa: int
    value_exp: int
    ts_ns: int
    aux: int

    @property
    def value(self) -> Decimal:
        """The value, exactly."""
        return decimal(self.value_mantissa, self.value_exp)


class Levels(Protocol):
    """Both sides of one book, best first, as arrays with the fields `price` and `quantity` (i64
    mantissas).
    """

    @property
    def price_exp(self) -> int:
        """Exponent of all prices."""
        ...

    @property
    def qty_exp(self) -> int:
        """Exponent of all quantities."""
        ...

    @property
    def depth(self) -> tuple[int, int]:
        """How many bids and asks there are."""
        ...

    def bids(self, n: int | None = ...) -> Structured:
        """The best `n` bids."""
        ...

    def asks(self, n: int | None = ...) -> Structured:
        """The best `n` asks."""
        ...


class Changes(NamedTuple):
    """What one book event changed: absolute quantities, 0 = the level is gone. For a snapshot,
    all levels.
    """

    bids: list[Level]
    asks: list[Level]


class Fragment(NamedTuple):
    """The levels of one packet of a book event: `item_count` levels from byte `start` of `data`
    on, the bids first.
    """

    data: Buffer
    start: int
    item_count: int
    bid_count: int
    item_size: int

    def levels(self) -> Structured:
        """Return all levels, bids first, as a view."""
        return np.ndarray(
            (self.item_count,),
            dtype=LEVEL,
            buffer=self.data,
            offset=self.start,
            strides=(self.item_size,),
        )


class Book(Event, frozen=True, gc=False):
    """One change of a book, and the book after it. Valid until the next event is taken; `copy()`
    to keep it.
    """

    state: BookState
    snapshot: bool
    """The event replaced the whole book."""
    instrument_seq: int
    levels: Levels
    price_exp: int
    qty_exp: int
    """Exponents of the change; those of the levels are `levels.price_exp` and `levels.qty_exp`.
    """
    fragments: tuple[Fragment, ...]

    @property
    def best_bid(self) -> Level | None:
        """(price, quantity) of the highest bid; None where there is none."""
        best = self.bids(1)
        return best[0] if best else None

    @property
    def best_ask(self) -> Level | None:
        """(price, quantity) of the lowest ask; None where there is none."""
        best = self.asks(1)
        return best[0] if best else None

    @property
    def depth(self) -> tuple[int, int]:
        """How many bid and ask levels the book has."""
        return self.levels.depth

    @property
    def changes(self) -> Changes:
        """What this event changed."""
        bids, asks = self.change_levels()
        return Changes(
            _decimals(bids, self.price_exp, self.qty_exp),
            _decimals(asks, self.price_exp, self.qty_exp),
        )

    def change_levels(self) -> tuple[Structured, Structured]:
        """Return what this event changed as (bids, asks) arrays of i64 mantissas; views where
        the event is one packet.
        """
        parts = [(part.levels(), part.bid_count) for part in self.fragments]
        if len(parts) == 1:
            levels, bids = parts[0]
            return levels[:bids], levels[bids:]
        none = np.empty(0, dtype=LEVEL)
        return (
            np.concatenate([none, *(levels[:bids] for levels, bids in parts)]),
            np.concatenate([none, *(levels[bids:] for levels, bids in parts)]),
        )

    def bids(self, n: int | None = None) -> list[Level]:
        """Return the best `n` bids (all without `n`) as (price, quantity), highest first."""
        return _decimals(self.levels.bids(n), self.levels.price_exp, self.levels.qty_exp)

    def asks(self, n: int | None = None) -> list[Level]:
        """Return the best `n` asks (all without `n`) as (price, quantity), lowest first."""
        return _decimals(self.levels.asks(n), self.levels.price_exp, self.levels.qty_exp)

    def bid_levels(self, n: int | None = None) -> Structured:
        """Return a view of the best `n` bids: i64 mantissas `price`, `quantity` at
        `levels.price_exp`, `levels.qty_exp`.
        """
        return self.levels.bids(n)

    def ask_levels(self, n: int | None = None) -> Structured:
        """Return a view of the best `n` asks; as `bid_levels`."""
        return self.levels.asks(n)

    def copy(self) -> Book:
        """Return the same event with its own copy of the levels and of the change."""
        kept = tuple(
            part._replace(
                data=bytes(part.data[part.start : part.start + part.item_count * part.item_size]),
                start=0,
            )
            for part in self.fragments
        )
        levels = KeptLevels(
            self.levels.price_exp,
            self.levels.qty_exp,
            self.levels.bids().copy(),
            self.levels.asks().copy(),
        )
        return msgspec.structs.replace(self, levels=levels, fragments=kept)

    def __repr__(self) -> str:
        """Return the identity, state and best prices."""
        what = "snapshot" if self.snapshot else "delta"
        return (
            f"Book({self.instrument} {what} {self.state} bid={self.best_bid} ask={self.best_ask}"
            f" depth={self.depth})"
        )


class KeptLevels(msgspec.Struct, frozen=True, gc=False):
    """A copy of a book's levels."""

    price_exp: int
    qty_exp: int
    bid_array: Structured
    ask_array: Structured

    @property
    def depth(self) -> tuple[int, int]:
        """How many bids and asks there are."""
        return len(self.bid_array), len(self.ask_array)

    def bids(self, n: int | None = None) -> Structured:
        """Return the best `n` bids."""
        return self.bid_array[:n]

    def asks(self, n: int | None = None) -> Structured:
        """Return the best `n` asks."""
        return self.ask_array[:n]


def _decimals(levels: Structured, price_exp: int, qty_exp: int) -> list[Level]:
    pairs: Sequence[tuple[int, int]] = levels.tolist()
    return [(decimal(price, price_exp), decimal(quantity, qty_exp)) for price, quantity in pairs]


class Instrument(Event, frozen=True, gc=False):
    """A definition: the first seen in this feed, and again whenever it changes. Values the venue
    does not give are None.
    """

    instrument_id: int
    state: InstrumentState | int
    version: int
    instrument_flags: InstrumentFlag
    price_exp: int
    qty_exp: int
    tick: Decimal | None
    lot: Decimal | None
    min_qty: Decimal | None
    min_notional: Decimal | None
    multiplier: Decimal | None
    """Contract size: what one unit of quantity stands for; never multiplied into quantities."""
    expiry_ns: int
    strike: Decimal | None
    base: str
    quote: str
    settle: str
    option_type: OptionType
    canonical: str | None
    """The name that the same product has on every venue (`protocol.naming`): `BTC-USDT`,
    `BTC-USD-20260327-60000-C`; None where the venue gives too little for one.
    """


class Status(msgspec.Struct, frozen=True, gc=False):
    """A state change. `origin` is who noticed: the venue's feeder, or this feed itself.

    From the feed: scope CHANNEL, state STALE (reason TIMEOUT: no packet for three heartbeat
    intervals; RESTART: the session ended), SUSPECT (GAP: lost packets have been asked for) and
    LIVE (RESYNCED: they are there; packets again, or a new session); scope BOOK, state SUSPECT
    (GAP: a change of this book was lost, a snapshot is awaited) and LIVE (RESYNCED: a snapshot
    shows that it lost nothing), and any state with RESYNCED and `channel 1 to 101` for detail:
    from now on it is taken from another feeder; scope INSTRUMENT, state IDLE: a wanted symbol
    matches nothing, `detail` names the nearest.
    """

    venue: str
    kind: str | None
    symbol: str | None
    instrument: str | None
    ts_ns: int
    scope: StatusScope | int
    state: StatusState | int
    reason: StatusReason | int
    counts: int
    detail: str
    origin: StatusOrigin

    @property
    def disconnected(self) -> bool:
        """A venue connection was lost."""
        return self.state == StatusState.DISCONNECTED

    @property
    def stale(self) -> bool:
        """The source is silent beyond its limit, or gone."""
        return self.state == StatusState.STALE


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Something was lost for good.

    On the way here (`reason` LOSS, `instrument` None): `missing` packets of `channel_id` from
    `first_missing` on. At the venue (`reason` GAP or CHECKSUM): of this instrument's book
    the feeder `expected` one sequence number or checksum and `got` another (of its trades, one
    volume of the day, where a venue counts by it); `missing` is their difference where both
    count upwards, else 0.
    """

    venue: str
    channel_id: int
    missing: int
    first_missing: int
    reason: GapReason
    kind: str | None = None
    symbol: str | None = None
    instrument: str | None = None
    ts_exchange_ns: int = 0
    ts_recv_ns: int = 0
    expected: int | None = None
    got: int | None = None


AnyEvent: TypeAlias = Trade | Book | Bbo | Stat | Liquidation | Instrument | Status | Gap
ALL_EVENTS: Final[tuple[type[AnyEvent], ...]] = (
    Trade,
    Book,
    Bbo,
    Stat,
    Liquidation,
    Instrument,
    Status,
    Gap,
)
