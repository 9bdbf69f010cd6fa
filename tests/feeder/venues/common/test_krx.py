"""The Korea Exchange's hours, holidays, expiries and price bands: the data file and what is read
from it.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from tapecast.feeder.venues.common import krx
from tapecast.feeder.venues.common.krx import (
    KST,
    expiry_ns,
    holiday_notice,
    is_trading_day,
    multiplier,
    silence_allowed,
    tick_bands,
)
from tapecast.feeder.venues.common.market_files import read_market
from tapecast.feeder.venues.spec import Exact
from tapecast.runtime.errors import ConfigError

SECOND = 1_000_000_000


def ns(text: str) -> int:
    """Return a Korean date and time as UTC ns."""
    return int(datetime.fromisoformat(text).replace(tzinfo=KST).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("moment", "allowed"),
    [
        ("2025-11-26T08:59:59", True),
        ("2025-11-26T09:00:00", False),
        ("2025-11-26T15:44:59", False),
        ("2025-11-26T15:45:00", True),
        ("2025-11-26T23:59:59", True),
        ("2025-11-27T00:00:00", True),
        ("2025-11-29T11:00:00", True),  # a Saturday
        ("2025-12-25T11:00:00", True),
        ("2025-12-31T11:00:00", True),
        ("2026-01-02T09:30:00", True),  # trading begins at 10:00 on the first day of a year
        ("2026-01-02T10:00:00", False),
        ("2026-07-17T11:00:00", True),
        ("2026-09-24T11:00:00", True),
        ("2026-09-28T11:00:00", False),
        ("2031-01-01T11:00:00", False),  # not covered: an alarm too often, never too seldom
        ("2031-01-05T11:00:00", True),  # a Sunday
    ],
)
def test_silence_is_normal_outside_trading_hours(moment: str, allowed: bool) -> None:
    """In Korean time, whatever the host's."""
    assert silence_allowed(ns(moment)) is allowed


def test_the_list_of_holidays_is_one() -> None:
    """Days of the years it covers, no weekends, as many as the exchange has; known ones are
    there.
    """
    first, last = date(2025, 1, 1), date(2027, 12, 31)
    days = [date.fromordinal(number) for number in range(first.toordinal(), last.toordinal() + 1)]
    closed = [day for day in days if day.weekday() < 5 and not is_trading_day(day)]
    assert [sum(day.year == year for day in closed) for year in (2025, 2026, 2027)] == [19, 17, 16]
    assert {date(2025, 10, 6), date(2026, 2, 17), date(2027, 9, 15)} <= set(closed)


def test_a_list_that_ends_soon_is_told_of() -> None:
    """From two months before the last year ends."""
    assert holiday_notice(ns("2027-10-01T09:00:00")) == ""
    assert "up to 2027" in holiday_notice(ns("2027-11-15T09:00:00"))
    assert "up to 2027" in holiday_notice(ns("2030-01-01T09:00:00"))


@pytest.mark.parametrize(
    ("year", "month", "last"),
    [
        (2026, 6, "2026-06-11T15:20:00"),  # as LS's t2111 says: lastmonth 20260611
        (2025, 12, "2025-12-11T15:20:00"),
        (
            2025,
            10,
            "2025-10-02T15:20:00",
        ),  # the second Thursday is a holiday, and so are the days before it
        (2026, 13, None),
        (2024, 6, None),
        (2028, 6, None),
    ],
)
def test_expiries(year: int, month: int, last: str | None) -> None:
    """The second Thursday or the trading day before; unknown where the holidays are."""
    assert expiry_ns(year, month) == (0 if last is None else ns(last))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[session", "krx.toml: "),
        ("[session]\nopen = 9", "Expected `str`, got `int` - at `$.session.open`"),
        ("x = 1", "unknown field `x`"),
    ],
)
def test_a_data_file_that_is_wrong_is_named(tmp_path: Path, text: str, what: str) -> None:
    """With the place in it: it is edited by hand, once a year."""
    (tmp_path / "krx.toml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(what)):
        read_market("krx", krx._Data, tmp_path)
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        read_market("none", krx._Data, tmp_path)


def test_price_bands_as_the_venues_examples_show_them() -> None:
    """Each price of a documented or recorded book is a multiple of its band's tick, and bands
    ascend.
    """
    for name in ("stock", "fund", "kospi200_future", "kospi200_option"):
        bands = tick_bands(name)
        assert bands[0][0] == Exact(0, 0)
        assert all(
            a < b for (a, _), (b, _) in pairwise([(p.mantissa * 10**p.exp, t) for p, t in bands])
        )
    stock = [(price.mantissa, tick.mantissa) for price, tick in tick_bands("stock")]
    for price, step in (
        (1999, 1),
        (4570, 5),
        (10550, 10),
        (46650, 50),
        (99300, 100),
        (72400, 100),
        (245500, 500),
        (763000, 1000),
    ):
        tick = [tick for start, tick in stock if start <= price][-1]
        assert (tick, price % tick) == (step, 0)
    assert tick_bands("kospi200_option") == (
        (Exact(0, 0), Exact(1, -2)),
        (Exact(10, 0), Exact(5, -2)),
    )
    assert multiplier("kospi200") == Exact(250000, 0)
    with pytest.raises(KeyError):
        tick_bands("gold")
