"""What a script asked for: venues and symbols, and which instruments that is once their
definitions are known.

A symbol matches an instrument by its full text (`okx.spot.BTC-USDT`), by the venue's own symbol
(`BTCUSDT`, `KRW-BTC`), or by its canonical name: `BTC-USDT` means spot and perpetual
instruments, `spot.BTC-USDT` and `perpetual.BTC-USDT` one of them, and `BTC-USDT-20260327` a
dated contract. Capitals do not matter. The rules are `protocol.naming`, which the feeder uses
too.

No input or output. Definitions come from `consumers.feed.engine`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from tapecast.consumers.feed.events import Names
from tapecast.protocol.codec import instrument_id
from tapecast.protocol.naming import meanings
from tapecast.protocol.schema import VENUES

__all__ = ["Selection", "UnknownVenueError"]

_UNDATED = frozenset({"spot", "perpetual", "equity", "index"})


class UnknownVenueError(ValueError):
    """A venue name that is not in the registry; the message names the nearest."""


class Selection:
    """The wanted instruments. Without venues every venue, without symbols every instrument is
    wanted.
    """

    def __init__(self, venues: Iterable[str] | None, symbols: Iterable[str] | None) -> None:
        """Raise UnknownVenueError for a venue that is not registered; ValueError for a single
        text instead of a list.
        """
        if isinstance(venues, str) or isinstance(symbols, str):
            raise ValueError("venues and symbols are lists of names")
        self.venues: tuple[str, ...] | None = (
            None if venues is None else tuple(dict.fromkeys(venues))
        )
        for venue in self.venues or ():
            if venue not in VENUES:
                near = difflib.get_close_matches(venue, VENUES, 1, 0.0)[0]
                raise UnknownVenueError(
                    f"unknown venue {venue!r}; nearest is {near!r}, known are {', '.join(VENUES)}"
                )
        self.venue_ids: frozenset[int] | None = (
            None if self.venues is None else frozenset(VENUES[name] for name in self.venues)
        )
        self.symbols: tuple[str, ...] | None = (
            None if symbols is None else tuple(dict.fromkeys(symbols))
        )
        self._wanted: dict[str, list[str]] = {}
        for symbol in self.symbols or ():
            self._wanted.setdefault(symbol.upper(), []).append(symbol)
        self._unmatched = set(self.symbols or ())
        self._seen: set[str] = set()
        self._ids = {instrument_id(symbol) for symbol in self.symbols or ()}
        self._texts_only = all(
            symbol.split(".")[0] in VENUES and symbol.count(".") >= 2
            for symbol in self.symbols or ()
        )

    def define(self, names: Names, canonical: str | None) -> bool:
        """Take note of a definition and return whether its instrument is wanted; `canonical` is
        None where it has none.
        """
        if self.venues is not None and names.venue not in self.venues:
            return False
        if self.symbols is None:
            return True
        self._seen.add(names.symbol)
        if canonical is not None:
            self._seen.add(canonical)
        texts = meanings(names.venue, names.kind, names.symbol, canonical)
        hits = [symbol for text in texts for symbol in self._wanted.get(text, ())]
        if canonical is None and names.kind in _UNDATED:
            # A provisional definition has no currency names; BTC-USDT still finds BTCUSDT.
            plain = names.symbol.upper()
            hits += [
                s
                for wanted, originals in self._wanted.items()
                if wanted.replace("-", "") == plain
                for s in originals
            ]
        self._unmatched.difference_update(hits)
        return bool(hits)

    def may_want(self, instrument: int) -> bool:
        """Whether the instrument of an id whose definition is not known yet may turn out to be
        wanted.
        """
        return self.symbols is None or not self._texts_only or instrument in self._ids

    @property
    def unmatched(self) -> list[str]:
        """The symbols that no definition has matched so far, in the order they were asked for."""
        return [symbol for symbol in self.symbols or () if symbol in self._unmatched]

    def nearest(self, symbol: str, count: int = 3) -> list[str]:
        """Return the names seen so far that resemble a symbol most."""
        by_upper = {name.upper(): name for name in self._seen}
        plain = symbol.upper().split(".")[-1]
        return [by_upper[name] for name in difflib.get_close_matches(plain, by_upper, count, 0.4)]
