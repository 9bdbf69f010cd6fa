"""Exact conversion between decimal text and (mantissa, exponent): value = mantissa x
10^exponent.

Integers and strings only: no float takes part, nothing is ever rounded. The limits are those of
the wire (`protocol/SPEC.md`): |mantissa| < 2^62, exponent within i8. The meaning of `UNDEFINED`
is the caller's business.
"""

from __future__ import annotations

import re

from tapecast.protocol.schema import MAX_MANTISSA

__all__ = ["format_decimal", "parse_decimal", "to_mantissa"]

_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,5}))?", re.ASCII)
_MIN_EXP = -128
# The longest text a value within the limits can need is a 19-digit mantissa behind 128 zeros;
# some slack for venues' padding.
_MAX_TEXT = 400


def format_decimal(mantissa: int, exp: int) -> str:
    """Return the exact value without exponent, in its shortest form: no trailing zeros after the
    point, "0" for zero.
    """
    if exp >= 0:
        return str(mantissa * 10**exp)
    digits = str(mantissa)
    sign = ""
    if mantissa < 0:
        sign, digits = "-", digits[1:]
    if len(digits) <= -exp:
        digits = digits.zfill(1 - exp)
    fraction = digits[exp:].rstrip("0")
    return f"{sign}{digits[:exp]}.{fraction}" if fraction else sign + digits[:exp]


def parse_decimal(text: str) -> tuple[int, int]:
    """Return (mantissa, exp) of a decimal text with the fewest fractional digits: exp <= 0, and
    0 for every integer.

    Accepts a sign, a fraction and an exponent (`-1.50`, `1.16539E8`, `2E-7`). Raises ValueError
    for anything else and for values that the wire cannot hold.
    """
    match = _NUMBER.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if match is None:
        raise ValueError(f"not a decimal number: {text[:40]!r}")
    sign, whole, fraction, power = match[1], match[2], match[3] or "", match[4]
    if not whole and not fraction:
        raise ValueError(f"not a decimal number: {text[:40]!r}")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return 0, 0
    stripped = digits.rstrip("0")
    exp = (int(power) if power else 0) - len(fraction) + len(digits) - len(stripped)
    if exp > 19 or exp < _MIN_EXP or len(stripped) > 19:
        raise ValueError(f"out of the wire's range: {text[:40]!r}")
    mantissa = int(stripped)
    if exp > 0:
        mantissa, exp = mantissa * 10**exp, 0
    if mantissa > MAX_MANTISSA:
        raise ValueError(f"out of the wire's range: {text[:40]!r}")
    return (-mantissa if sign == "-" else mantissa), exp


def to_mantissa(text: str, exp: int) -> int:
    """Return the mantissa of a decimal text at a given exponent; ValueError where the value is
    not exactly representable.
    """
    mantissa, own = parse_decimal(text)
    if own >= exp:
        scaled = mantissa * int(10 ** (own - exp))
    else:
        # The exponent is the largest that fits an integer's fraction, but an integer may still
        # be a multiple of 10^exp.
        scaled, rest = divmod(mantissa, int(10 ** (exp - own)))
        if rest:
            raise ValueError(f"{text[:40]!r} is not a multiple of 10^{exp}")
    if abs(scaled) > MAX_MANTISSA:
        raise ValueError(f"{text[:40]!r} at exponent {exp} is out of the wire's range")
    return scaled
