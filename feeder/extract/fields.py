"""What shapes are made of: how numbers, times and ids are written, where levels stand, and what
a field's texts mean.

Venue modules import these from `feeder.extract.shapes`, which declares the shapes themselves and
refuses what neither extractor could read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from tapecast.protocol.schema import Side, StatKind

__all__ = [
    "BestLevels",
    "BidAskRows",
    "ConditionField",
    "Elements",
    "FlagField",
    "IdKind",
    "LevelFields",
    "Levels",
    "Numbers",
    "ObjectRows",
    "PairRows",
    "Rows",
    "RowsForm",
    "ScalarLevel",
    "SideField",
    "SidedRows",
    "SnapshotField",
    "StatField",
    "TimeUnit",
    "TradeId",
]


class Numbers(IntEnum):
    """How a venue writes prices and quantities. The other way is a wrong type."""

    QUOTED = 1
    BARE = 2


class TimeUnit(IntEnum):
    """Unit of an integer time stamp; AUTO tells s, ms, us and ns apart by magnitude (years 2001
    to 2286).

    ISO is no integer but RFC 3339 text in UTC (`2024-08-08T23:54:15.343Z`, or `+00:00`). What is
    finer than 1 ns, outside 2001 to 2262 or no day of the calendar is an unknown time; another
    text is a wrong type.

    KST is the text `HHMMSS` of a clock in Korea (UTC+9, no summer time), without date: of the
    instants with that clock time the one nearest to the receive time, so that midnight needs no
    care. Whole seconds are coarse (BAD_TS_EXCHANGE). Blank, no time of day, or more than an hour
    from the receive time (or that is not known): an unknown time; another text is a wrong type.
    """

    MS = 1
    US = 2
    NS = 3
    AUTO = 4
    ISO = 5
    KST = 6


class IdKind(IntEnum):
    """How a venue names trades. A text's id is its BLAKE2b-64 (little-endian, of the UTF-8) with
    HASHED_ID set.
    """

    NUMBER = 1
    """An unsigned 64-bit integer, bare or quoted."""
    TEXT = 2
    """A string, always hashed."""
    EITHER = 3
    """As NUMBER where it is bare or a string of 1 to 20 digits below 2^64; every other string is
    hashed.
    """


@dataclass(frozen=True, slots=True)
class Rows:
    """An array of arrays, one level a row; further columns are ignored."""

    path: str
    price: int = 0
    quantity: int = 1


@dataclass(frozen=True, slots=True)
class ObjectRows:
    """An array of objects, one level an object; `price` and `quantity` are keys of it, other
    keys are ignored.
    """

    path: str
    price: str
    quantity: str


@dataclass(frozen=True, slots=True)
class BidAskRows:
    """Two arrays, one a side; a side that is left out has no levels in such a message."""

    bids: Rows | ObjectRows | None = None
    asks: Rows | ObjectRows | None = None

    def arrays(self) -> tuple[RowsForm, ...]:
        """Return the arrays that hold levels."""
        return tuple(rows for rows in (self.bids, self.asks) if rows is not None)

    def scalars(self, side: Side) -> tuple[ScalarLevel, ...]:
        """Return the levels of a side that are scalars: none."""
        return ()


@dataclass(frozen=True, slots=True)
class SidedRows:
    """An array of bids and asks in any order, each row with its side: arrays (columns) or
    objects (keys).

    `sides` maps the venue's text to BUY (a bid) or SELL (an ask); any other value is a wrong
    type. `ts` is the key of a time that every row has: the first row's is the message's, instead
    of the shape's `ts`; without rows it is unknown.
    """

    path: str
    side: int | str
    price: int | str
    quantity: int | str
    sides: dict[str, Side]
    ts: str | None = None

    def arrays(self) -> tuple[RowsForm, ...]:
        """Return the arrays that hold levels."""
        return (self,)

    def scalars(self, side: Side) -> tuple[ScalarLevel, ...]:
        """Return the levels of a side that are scalars: none."""
        return ()


@dataclass(frozen=True, slots=True)
class PairRows:
    """An array of objects that hold one bid and one ask level each; a side whose price is 0 is
    padding and is left out.
    """

    path: str
    bid_price: str
    bid_quantity: str
    ask_price: str
    ask_quantity: str

    def arrays(self) -> tuple[RowsForm, ...]:
        """Return the arrays that hold levels."""
        return (self,)

    def scalars(self, side: Side) -> tuple[ScalarLevel, ...]:
        """Return the levels of a side that are scalars: none."""
        return ()


@dataclass(frozen=True, slots=True)
class ScalarLevel:
    """One level as two scalars; price or quantity 0 means that there is none.

    In a book a text of blanks is a 0 too, except for the quantity beside a price, where it is a
    wrong type.
    """

    price: str
    quantity: str


@dataclass(frozen=True, slots=True)
class LevelFields:
    """A whole book in scalars, best first (LS `bidho1`, `bidrem1`, ...); at most 20 levels of
    both sides together.
    """

    bids: tuple[ScalarLevel, ...]
    asks: tuple[ScalarLevel, ...]

    def arrays(self) -> tuple[RowsForm, ...]:
        """Return the arrays that hold levels: none."""
        return ()

    def scalars(self, side: Side) -> tuple[ScalarLevel, ...]:
        """Return the levels of a side."""
        return self.bids if side is Side.BUY else self.asks


@dataclass(frozen=True, slots=True)
class BestLevels:
    """The best bid and ask in scalars."""

    bid: ScalarLevel | None = None
    ask: ScalarLevel | None = None

    def arrays(self) -> tuple[RowsForm, ...]:
        """Return the arrays that hold levels: none."""
        return ()

    def scalars(self, side: Side) -> tuple[ScalarLevel, ...]:
        """Return the level of a side, if it is declared."""
        level = self.bid if side is Side.BUY else self.ask
        return () if level is None else (level,)


RowsForm: TypeAlias = "Rows | ObjectRows | PairRows | SidedRows"
"""How an array of levels is read."""
Levels: TypeAlias = "BidAskRows | PairRows | SidedRows | LevelFields | BestLevels"
"""Where the levels of a book or quote stand."""


@dataclass(frozen=True, slots=True)
class SnapshotField:
    """A path whose text tells a snapshot from a delta; with any other text the frame has another
    shape.
    """

    path: str
    snapshot: str
    delta: str


@dataclass(frozen=True, slots=True)
class Elements:
    """An array of objects, one trade an object; the first one says which of a trade's paths
    exist.

    `path` ends in `[]`. `symbol` is the path of the native symbol in each object, where the
    message has none; several different ones are a wrong type.
    """

    path: str
    symbol: str | None = None


@dataclass(frozen=True, slots=True)
class TradeId:
    """The id of a trade."""

    path: str
    kind: IdKind = IdKind.NUMBER


@dataclass(frozen=True, slots=True)
class SideField:
    """The taker's side: `sides` maps the venue's text or boolean; any other value is a wrong
    type.
    """

    path: str
    sides: dict[str | bool, Side]


@dataclass(frozen=True, slots=True)
class FlagField:
    """A source of TradeFlag bits: `flags` maps the venue's text or boolean to bits.

    The path may be missing or null; with a value that is not named the frame has another shape.
    The text `*` stands for every text that is not named.
    """

    path: str
    flags: dict[str | bool, int]


@dataclass(frozen=True, slots=True)
class ConditionField:
    """The condition code of a trade: missing, null or a text that is not named is 0."""

    path: str
    codes: dict[str, int]


@dataclass(frozen=True, slots=True)
class StatField:
    """One statistic of a message: a signed number at `path`, absent where that is missing, null
    or an empty string.

    `ts` is the path of the time the value applies to (declared and absent: unknown, 0), by
    default the message's time. `due` is the path of the time a funding rate is due: the item's
    `aux` is the whole seconds from the message's time to then, 0 where one of them is unknown or
    it has passed. A due time that is the integer 0 says that nothing is due: the statistic is
    absent (Binance sends the rate 0 of dated contracts so). Both times are in the shape's
    `ts_unit`.
    """

    kind: StatKind
    path: str
    ts: str | None = None
    due: str | None = None

    def paths(self) -> list[str]:
        """Return the paths named here."""
        return [path for path in (self.path, self.ts, self.due) if path is not None]
