"""What an instrument is called: the canonical name that one product has on every venue, and the
texts that mean an instrument.

The canonical name together with kind and venue names one instrument: `BTC-USDT` (a spot pair, a
perpetual), with the day of expiry `BTC-USDT-20260327`, with strike and type
`BTC-USD-20260327-60000-C`. The rules are written down for users in `docs/normalisation.md`.
Feeder, consumers and commands take them from here; the venue's own symbol is always kept beside
it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from tapecast.protocol.schema import InstrumentKind, OptionType

__all__ = ["canonical_name", "has_wildcard", "meanings"]

_DERIVATIVES = frozenset({InstrumentKind.PERPETUAL, InstrumentKind.FUTURE, InstrumentKind.OPTION})
_DATED = frozenset({InstrumentKind.FUTURE, InstrumentKind.OPTION})
_OPTION_LETTERS = {int(OptionType.CALL): "C", int(OptionType.PUT): "P"}


def canonical_name(
    kind: int,
    base: str,
    quote: str,
    *,
    settle: str = "",
    expiry_ns: int = 0,
    strike: str = "",
    option_type: int = OptionType.NONE,
) -> str | None:
    """Return the canonical name; None where the definition does not say enough for one that
    means this instrument alone.

    `strike` is an exact decimal in its shortest form. A derivative settled in another currency
    than its pair implies has that currency in its name (`BTC-USD:USDC`): a pair quoted in
    dollars implies the base, every other one the quote.
    """
    if not base or not quote:
        return None
    if kind == InstrumentKind.OPTION and quote == base:
        quote = "USD"  # priced in the coin itself: what the strike is in names the pair
    name = f"{base}-{quote}"
    if kind in _DERIVATIVES and settle not in ("", base if quote == "USD" else quote):
        name += f":{settle}"
    if kind in _DATED:
        if expiry_ns <= 0:
            return None
        name += f"-{datetime.fromtimestamp(expiry_ns // 1_000_000_000, UTC):%Y%m%d}"
    if kind == InstrumentKind.OPTION:
        letter = _OPTION_LETTERS.get(option_type)
        if not strike or letter is None:
            return None
        name += f"-{strike}-{letter}"
    return name


def meanings(venue: str, kind: str, symbol: str, canonical: str | None) -> tuple[str, ...]:
    """Return every text that means an instrument, in capitals: which of them a user writes makes
    no difference.

    These are the venue's own symbol, the instrument text (`okx.spot.BTC-USDT`), the canonical
    name and, for one kind of it alone, `spot.BTC-USDT`.
    """
    texts = [symbol, f"{venue}.{kind}.{symbol}"]
    if canonical is not None:
        texts += [canonical, f"{kind}.{canonical}"]
    return tuple(dict.fromkeys(text.upper() for text in texts))


def has_wildcard(text: str) -> bool:
    """Return whether a text is a pattern (`*-USDT`) rather than a name."""
    return any(mark in text for mark in "*?[")
