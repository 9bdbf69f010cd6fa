"""Exponents at which a message is exact and fits the wire, for the few messages that do not fit
their instrument's.

Digits behind the point lower an exponent to what the message needs; a number too large for 62
bits raises one, as little as possible. The plain-Python extractor is asked, about ten times at
worst, off the hot path: nothing here parses or rounds, and which exponents an instrument then
has is the session's business.
"""

from __future__ import annotations

from collections.abc import Callable

from tapecast.feeder.extract.fallback import FallbackExtractor
from tapecast.feeder.extract.types import ExtractStatus

__all__ = ["HIGHEST", "fitting_exponents"]

HIGHEST = 18
"""No exponent is raised above this: 10^18 times 2^62 is no price or quantity."""


class _Message:
    """One message of one instrument, tried at different exponents."""

    def __init__(self, fallback: FallbackExtractor, index: int, data: bytes, *, rest: bool) -> None:
        self._fallback = fallback
        self._index = index
        self._data = data
        self._rest = rest

    def status(self, price_exp: int, qty_exp: int) -> ExtractStatus:
        """Return what extraction says at these exponents."""
        fallback = self._fallback
        fallback.set_exponents(self._index, price_exp, qty_exp)
        status = self._extract()
        if status is ExtractStatus.NO_SPACE:
            fallback.grow(fallback.r.need_bytes)
            status = self._extract()
        return status

    def fits(self, price_exp: int, qty_exp: int) -> bool:
        """Whether extraction accepts the message at these exponents."""
        return self.status(price_exp, qty_exp) is ExtractStatus.OK

    def needs(self) -> tuple[int, int]:
        """Return the highest exponents, at most those last tried, at which every number is
        exact.
        """
        return self._fallback.r.need_price_exp, self._fallback.r.need_qty_exp

    def _extract(self) -> ExtractStatus:
        if self._rest:
            return self._fallback.extract_as(self._index, self._data, 0, 0)
        return self._fallback.extract(self._data, 0, 0)


def fitting_exponents(
    fallback: FallbackExtractor,
    index: int,
    data: bytes,
    old: tuple[int, int],
    *,
    rest: bool = False,
) -> tuple[int, int] | None:
    """Return (price_exp, qty_exp) nearest to `old` at which `data` is OK, or None; the
    fallback's exponents are left changed.

    `rest`: the data are the body of a REST answer, which names no instrument.
    """
    message = _Message(fallback, index, data, rest=rest)
    high = max(old[0], HIGHEST), max(old[1], HIGHEST)
    status = message.status(*high)
    if status is ExtractStatus.INEXACT:
        high = message.needs()
        status = message.status(*high)
    if status is not ExtractStatus.OK:
        return None
    # From here down every number stays exact; how far down it still fits is asked for prices and
    # quantities apart.
    price_exp = _lowest(
        min(old[0], high[0]), high[0], lambda exp: message.status(exp, high[1]) is ExtractStatus.OK
    )
    qty_exp = _lowest(
        min(old[1], high[1]),
        high[1],
        lambda exp: message.status(price_exp, exp) is ExtractStatus.OK,
    )
    return price_exp, qty_exp


def _lowest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """Return the lowest exponent from `low` on that fits; `high` does, and so does all above one
    that does.
    """
    if low == high or fits(low):
        return low
    low += 1
    while low < high:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle + 1
    return high
