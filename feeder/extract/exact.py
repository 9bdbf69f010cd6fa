"""Exact decimal text to integers, in plain Python: the meaning of every price, quantity, id and
time stamp.

`protocol/native/number.c` computes the same. Nothing here rounds, and no length of text or
exponent makes it slow: values that no wire mantissa can carry are recognised from their digit
count.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import Enum
from hashlib import blake2b
from typing import NamedTuple

from tapecast.feeder.extract.shapes import TimeUnit
from tapecast.protocol.schema import MAX_MANTISSA

__all__ = [
    "ExactError",
    "Natural",
    "Problem",
    "hashed_id",
    "iso_ns",
    "kst_ns",
    "parse_integer",
    "parse_natural",
    "scale",
    "stat_value",
    "time_ns",
]

_QUOTED = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_INTEGER = re.compile(r"(-?)([0-9]+)")
_MIN_EXPONENT = -128
_MAX_STAT_EXPONENT = 127
_MAX_EXPONENT = 300
"""Above this no 8-bit instrument exponent leaves a mantissa below 2^62."""


class Problem(Enum):
    """Why a value does not fit an instrument's exponent."""

    INEXACT = 1
    TOO_LARGE = 2


class ExactError(Exception):
    """A value that does not fit; `problem` says how."""

    def __init__(self, problem: Problem) -> None:
        """Keep the problem."""
        super().__init__(problem.name)
        self.problem = problem


class Natural(NamedTuple):
    """mantissa x 10^exponent without trailing zeros in the mantissa; zero is (0, 0). None: no
    wire value can carry it.
    """

    mantissa: int | None
    exponent: int
    negative: bool

    @property
    def is_zero(self) -> bool:
        """Whether the value is 0 (or -0)."""
        return self.mantissa == 0


def _small_int(text: str) -> int:
    """Return an exponent's value, saturated far outside any that matters."""
    negative = text.startswith("-")
    digits = text.lstrip("+-").lstrip("0") or "0"
    value = int(digits) if len(digits) <= 15 else 10**15
    return -value if negative else value


def parse_natural(text: str) -> Natural | None:
    """Return the value of `digits[.digits][e[+-]digits]` with optional minus and leading zeros;
    None: not such a text.
    """
    match = _QUOTED.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, power = (
        match.group(1),
        match.group(2),
        match.group(3) or "",
        match.group(4),
    )
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return Natural(0, 0, False)
    exponent = (_small_int(power) if power else 0) - len(fraction) + len(digits) - len(significant)
    mantissa = int(significant) if len(significant) <= 19 else MAX_MANTISSA + 1
    if mantissa > MAX_MANTISSA or not _MIN_EXPONENT <= exponent <= _MAX_EXPONENT:
        return Natural(None, 0, sign == "-")
    return Natural(-mantissa if sign else mantissa, exponent, sign == "-")


def scale(value: Natural, exponent: int) -> int:
    """Return the mantissa of `value` at `exponent`; raises ExactError."""
    if value.mantissa is None:
        raise ExactError(Problem.TOO_LARGE)
    if value.mantissa == 0:
        return 0
    if value.exponent < exponent:
        raise ExactError(Problem.INEXACT)
    power: int = 10 ** (value.exponent - exponent)
    mantissa = value.mantissa * power
    if abs(mantissa) > MAX_MANTISSA:
        raise ExactError(Problem.TOO_LARGE)
    return mantissa


def parse_integer(text: str) -> int | None:
    """Return an integer without fraction or exponent, saturated at +-2^64; None: not such a
    text.
    """
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    digits = match.group(2).lstrip("0") or "0"
    value = min(int(digits), 2**64) if len(digits) <= 20 else 2**64
    return -value if match.group(1) else value


_SECOND, _MILLI, _MICRO, _NANO = 10**9, 10**12, 10**15, 10**18


def time_ns(value: int, unit: TimeUnit) -> tuple[int, bool]:
    """Return (UTC ns, good) of an integer time stamp.

    Out of range (before September 2001, or beyond what 63 bits of ns hold) gives (0, False);
    whole seconds keep their time and are not good, because the wire calls everything coarser
    than 1 ms bad.
    """
    if unit is TimeUnit.AUTO:
        for base, factor in ((_SECOND, 10**9), (_MILLI, 10**6), (_MICRO, 10**3), (_NANO, 1)):
            if base <= value < 10 * base:
                ns = value * factor
                return (ns, factor != 10**9) if ns < 2**63 else (0, False)
        return 0, False
    ns = value * {TimeUnit.MS: 10**6, TimeUnit.US: 10**3, TimeUnit.NS: 1}[unit]
    return (ns, True) if _NANO <= ns < 2**63 else (0, False)


_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:Z|\+00:00)"
)


def iso_ns(text: str) -> tuple[int, bool] | None:
    """Return (UTC ns, good) of RFC 3339 text in UTC; None: not such a text.

    (0, False) for what is no time of the calendar (a leap second, too), out of range or finer
    than 1 ns.
    """
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    *parts, fraction = match.groups(default="")
    if fraction[9:].strip("0"):
        return 0, False
    try:
        year, month, day, hour, minute, second = map(int, parts)
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return 0, False
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return time_ns(
        (since.days * 86400 + since.seconds) * 10**9 + int(fraction[:9].ljust(9, "0")), TimeUnit.NS
    )


_KST_AHEAD, _HOUR, _DAY = 9 * 3600 * _SECOND, 3600 * _SECOND, 86400 * _SECOND
_BLANK = re.compile(r" *")
_CLOCK = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})")


def kst_ns(text: str, ts_recv_ns: int) -> tuple[int, bool] | None:
    """Return (UTC ns, False) of the clock time `HHMMSS` in Korea that is nearest to a receive
    time; None: not such a text.

    (0, False) for blanks, what is no time of day, a receive time that is not known, and one more
    than an hour away.
    """
    if _BLANK.fullmatch(text):
        return 0, False
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds = map(int, match.groups())
    if hours > 23 or minutes > 59 or seconds > 59 or not _NANO <= ts_recv_ns < 2**63 - 2 * _DAY:
        return 0, False
    local = ts_recv_ns + _KST_AHEAD
    ns = local - local % _DAY + (hours * 3600 + minutes * 60 + seconds) * _SECOND - _KST_AHEAD
    if ns - ts_recv_ns > _DAY // 2:
        ns -= _DAY
    elif ts_recv_ns - ns > _DAY // 2:
        ns += _DAY
    return (ns, False) if abs(ns - ts_recv_ns) <= _HOUR else (0, False)


def hashed_id(text: str) -> int:
    """Return the id of a trade that the venue names by a text: BLAKE2b-64 of its UTF-8, read
    little-endian.
    """
    return int.from_bytes(
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )


def stat_value(value: Natural) -> tuple[int, int]:
    """Return (mantissa, exponent) of a statistic as `StatField` wants it; raises ExactError
    where no mantissa carries it.
    """
    if value.mantissa is None:
        raise ExactError(Problem.TOO_LARGE)
    whole = value.mantissa * 10 ** max(value.exponent, 0)
    if abs(whole) <= MAX_MANTISSA:
        return whole, min(value.exponent, 0)
    if value.exponent > _MAX_STAT_EXPONENT:
        raise ExactError(Problem.TOO_LARGE)
    return value.mantissa, value.exponent
