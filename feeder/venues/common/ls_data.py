"""What is data about LS Securities: `config/markets/ls.toml`, read once and typed.

Which message is a trade and which a book, how keys are padded and where values stand is changed
there, not in code. Evidence for each line is in `docs/venues/ls.md`. Used by `feeder.venues.ls`
and `feeder.venues.common.ls_masters`.
"""

from __future__ import annotations

import re

import msgspec

from tapecast.feeder.venues.common.market_files import read_market
from tapecast.protocol.schema import InstrumentKind

__all__ = ["DATA", "Market", "kind_of", "markets_of"]


class Market(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One market: its symbols (a regular expression), the width of its keys, its messages."""

    symbols: str
    kind: str
    width: int
    trade: str
    book: str
    levels: int
    bid_quantity: str = ""
    ask_quantity: str = ""
    """Where the quantities of a book stand; "" = as in `fields`."""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The message of market states; `parts`: its part of the market -> (segment, name of the
    meanings of its status).
    """

    code: str
    key: str
    parts: dict[str, tuple[str, str]]
    meanings: dict[str, dict[str, str]]


class Master(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A list of instruments; `asked`: requested at the start."""

    path: str
    input: dict[str, str]
    rows: str
    asked: bool


class LoginData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The term of tokens; `refused`: codes that say that a token is not accepted."""

    path: str
    refused: tuple[str, ...]
    renew_kst: tuple[str, ...]
    margin_s: float


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of one connection."""

    registrations: int


class Ignored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Documented messages that carry nothing for the feed, and beginnings of codes of
    instruments that are not followed.
    """

    spreads: tuple[str, ...]
    codes: frozenset[str]


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    fields: dict[str, str]
    sides: dict[str, str]
    exchanges: dict[str, int]
    markets: dict[str, Market]
    state: State
    ignored: Ignored
    masters: dict[str, Master]
    login: LoginData
    connection: Connection


DATA = read_market("ls", Data)
_PATTERNS = tuple((re.compile(market.symbols), market) for market in DATA.markets.values())


def markets_of(symbol: str) -> list[Market]:
    """Return the markets that a symbol may be of by its form: the board of a share of KRX is not
    in its code.
    """
    return [market for pattern, market in _PATTERNS if pattern.fullmatch(symbol)]


def kind_of(symbol: str) -> InstrumentKind | None:
    """Return the kind of a symbol; None for a text that is no symbol of a known market."""
    found = markets_of(symbol)
    return InstrumentKind[found[0].kind.upper()] if found else None
