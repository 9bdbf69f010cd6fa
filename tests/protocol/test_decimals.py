"""Exact decimals: text to (mantissa, exponent) and back, against `decimal.Decimal`."""

from __future__ import annotations

from decimal import Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapecast.protocol.decimals import format_decimal, parse_decimal, to_mantissa
from tapecast.protocol.schema import MAX_MANTISSA

EXACT = Context(prec=400, Emin=-10000, Emax=10000)
MANTISSAS = st.integers(-MAX_MANTISSA, MAX_MANTISSA)


def value(mantissa: int, exp: int) -> Decimal:
    """Return the exact value."""
    return EXACT.scaleb(Decimal(mantissa), exp)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-128, 127))
def test_formatting_is_exact_and_minimal(mantissa, exp):
    """The text has the exact value, no exponent, no needless digit and no negative zero."""
    text = format_decimal(mantissa, exp)
    assert EXACT.create_decimal(text) == value(mantissa, exp)
    assert set(text) <= set("-.0123456789")
    whole, point, fraction = text.removeprefix("-").partition(".")
    assert whole == "0" or not whole.startswith("0")
    assert (fraction != "" and not fraction.endswith("0")) if point else fraction == ""
    assert text.startswith("-") == (mantissa < 0)


@given(MANTISSAS, st.integers(-128, 0))
def test_formatted_values_parse_to_the_same_value(mantissa, exp):
    """A formatted value parses back with the fewest fractional digits."""
    parsed, own = parse_decimal(format_decimal(mantissa, exp))
    assert value(parsed, own) == value(mantissa, exp)
    assert own <= 0
    assert own == 0 or parsed % 10 != 0


@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,12})(\.[0-9]{1,10})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
)
def test_parsing_is_exact(text):
    """Every JSON number within the wire's range parses to exactly its value; others raise
    ValueError.
    """
    expected = EXACT.create_decimal(text)
    try:
        mantissa, exp = parse_decimal(text)
    except ValueError:
        shortest = expected.normalize(EXACT)
        scale = int(shortest.as_tuple().exponent)
        assert (
            scale < -128
            or abs(expected) > MAX_MANTISSA
            or abs(shortest.scaleb(-scale)) > MAX_MANTISSA
        )
    else:
        assert value(mantissa, exp) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("61837.63000000", (6183763, -2)),
        ("0.00000000", (0, 0)),
        ("-0", (0, 0)),
        ("100", (100, 0)),
        ("2E-7", (2, -7)),
        ("7.9276E-4", (79276, -8)),
        ("1.16539E8", (116539000, 0)),
        ("1.0002e6", (1000200, 0)),
        ("2.8e-4", (28, -5)),
        ("4611686018427387903", (MAX_MANTISSA, 0)),
        ("+1.50", (15, -1)),
        (".5", (5, -1)),
        ("0e99999", (0, 0)),
    ],
)
def test_venues_spellings_parse(text, expected):
    """Padded, exponential and plain numbers as the venues write them (Binance, Upbit, Deribit)
    have one form.
    """
    assert parse_decimal(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        ".",
        "e5",
        "1e",
        "1e5.0",
        "0x10",
        "1_000",
        "1,5",
        " 1",
        "1\n",
        "NaN",
        "Infinity",
        "--1",
        "٣",
        "1e99999",
        "1e999999999999",
        "1e-129",
        "4611686018427387904",
        "0.12345678901234567890123",
        "1" * 500,
        "1e20",
    ],
)
def test_what_the_wire_cannot_hold_is_refused(text):
    """Text that is no number, and values beyond mantissa and exponent, raise ValueError and
    never round.
    """
    with pytest.raises(ValueError, match=r"number|range"):
        parse_decimal(text)


@given(MANTISSAS, st.integers(-20, 0), st.integers(-25, 5))
def test_mantissas_are_exact_or_refused(mantissa, exp, target):
    """At a given exponent the mantissa gives back the value exactly, or ValueError says that it
    cannot.
    """
    text = format_decimal(mantissa, exp)
    try:
        scaled = to_mantissa(text, target)
    except ValueError:
        exact = value(mantissa, exp - target)
        assert exact != exact.to_integral_value() or abs(exact) > MAX_MANTISSA
    else:
        assert value(scaled, target) == value(mantissa, exp)


def test_inexact_mantissas_are_refused():
    """A value finer than the exponent is never rounded."""
    assert to_mantissa("61837.63", -2) == 6183763
    assert to_mantissa("6200", 2) == 62
    with pytest.raises(ValueError, match="multiple"):
        to_mantissa("61837.635", -2)
    with pytest.raises(ValueError, match="range"):
        to_mantissa("4611686018427387903", -1)
