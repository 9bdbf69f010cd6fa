"""The native symbols an extractor knows, market by market, each with the index of its instrument.

Both extractors keep one; what an instrument's exponents are is theirs. It publishes nothing and
judges no symbol.
"""

from __future__ import annotations

__all__ = ["SymbolIndex", "check_exponents"]


class SymbolIndex:
    """Symbol -> instrument index, in markets that are selected; indices are dense over all of
    them.

    Where a venue has several markets, one symbol may name an instrument in each.
    """

    def __init__(self) -> None:
        self._selected: dict[str, int] = {}
        self.markets = {"": self._selected}
        """Market -> the indices of its symbols; the market "" is selected at first."""
        self.count = 0
        """Instruments of all markets: the next one's index."""

    def select(self, market: str) -> bool:
        """Choose the market of the next calls; return whether it is a new one."""
        is_new = market not in self.markets
        self._selected = self.markets.setdefault(market, {})
        return is_new

    def add(self, symbol: str) -> int:
        """Enter a symbol in the selected market and return its index; raises ValueError where it
        exists there.
        """
        if symbol in self._selected:
            raise ValueError(f"instrument {symbol} exists")
        index = self._selected[symbol] = self.count
        self.count += 1
        return index

    def of(self, symbol: str) -> int | None:
        """Return the index of a symbol in the selected market, None where it has none."""
        return self._selected.get(symbol)

    def check(self, index: int) -> None:
        """Raise IndexError for a number that is no instrument's index."""
        if not 0 <= index < self.count:
            raise IndexError(f"no instrument {index}")


def check_exponents(price_exp: int, qty_exp: int) -> None:
    """Raise ValueError for exponents that a packet header cannot hold (8 bits, signed)."""
    if not (-128 <= price_exp <= 127 and -128 <= qty_exp <= 127):
        raise ValueError(f"exponents {price_exp}, {qty_exp} do not fit 8 bits")
