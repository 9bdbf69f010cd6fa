"""The Korea Exchange: when silence is normal, which days are traded, price bands, contracts.

The truth is the data file `config/markets/krx.toml`, which names its sources and the years that
its holidays cover. Beyond these years every Monday to Friday counts as a trading day: silence is
then an alarm too often, never too seldom. Pure functions of the time they are given.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from functools import cache

import msgspec

from tapecast.feeder.venues.common.market_files import read_market
from tapecast.feeder.venues.spec import Exact, exact
from tapecast.protocol.units import NS_PER_S

__all__ = [
    "KST",
    "expiry_ns",
    "holiday_notice",
    "is_trading_day",
    "multiplier",
    "silence_allowed",
    "tick_bands",
]

KST = timezone(timedelta(hours=9))
"""Korea has no summer time."""
_THURSDAY = 3


class _Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    open: str
    close: str
    expiry: str


class _Days(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: str
    days: frozenset[date]
    years: frozenset[int] = frozenset()
    open: str = ""


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    session: _Session
    holidays: _Days
    late: _Days
    ticks: dict[str, str | list[tuple[str, str]]]
    contracts: dict[str, str]


@cache
def _data() -> _Data:
    return read_market("krx", _Data)


@cache
def _clock(text: str) -> time:
    return time.fromisoformat(text)


def is_trading_day(day: date) -> bool:
    """Whether the exchange trades on a day, as far as its holidays are known."""
    return day.weekday() < 5 and day not in _data().holidays.days


def silence_allowed(now_ns: int) -> bool:
    """Whether no data need come at this time (UTC ns): outside trading hours, at weekends and on
    holidays.
    """
    data, now = _data(), datetime.fromtimestamp(now_ns // NS_PER_S, KST)
    begins = data.late.open if now.date() in data.late.days else data.session.open
    return not (
        is_trading_day(now.date()) and _clock(begins) <= now.time() < _clock(data.session.close)
    )


def holiday_notice(now_ns: int) -> str:
    """Return what is to be told of the list of holidays at this time; empty where it holds for
    today and the next weeks.
    """
    last = max(_data().holidays.years)
    ahead = datetime.fromtimestamp(now_ns // NS_PER_S, KST) + timedelta(days=60)
    if ahead.year in _data().holidays.years:
        return ""
    return (
        f"KRX holidays are known up to {last} only (config/markets/krx.toml): later ones count as"
        " days without data"
    )


def expiry_ns(year: int, month: int) -> int:
    """Return when a KRX index or stock derivative of a month expires, UTC ns; 0 where the year's
    holidays are not known.

    Its last day is the second Thursday, or the trading day before it.
    """
    if year not in _data().holidays.years or not 1 <= month <= 12:
        return 0
    first = date(year, month, 1)
    day = first + timedelta(days=(_THURSDAY - first.weekday()) % 7 + 7)
    while not is_trading_day(day):
        day -= timedelta(days=1)
    moment = datetime.combine(day, _clock(_data().session.expiry), KST).astimezone(UTC)
    return int(moment.timestamp()) * NS_PER_S


@cache
def tick_bands(name: str) -> tuple[tuple[Exact, Exact], ...]:
    """Return (from price, tick) of a ladder, lowest first. Raises KeyError for a name that the
    data file has not.
    """
    bands = _data().ticks[name]
    assert not isinstance(bands, str), "the source of the ladders is no ladder"
    return tuple((_number(price), _number(tick)) for price, tick in bands)


def multiplier(name: str) -> Exact:
    """Return the contract size of a product, in KRW for one point. Raises KeyError for a name
    that the data file has not.
    """
    return _number(_data().contracts[name])


def _number(text: str) -> Exact:
    number = exact(text)
    assert number is not None, "a number in config/markets/krx.toml is empty"
    return number
