"""Exact numbers: the C parser and scaler against the plain-Python meaning of them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapecast.feeder.extract.exact import (
    ExactError,
    Natural,
    Problem,
    parse_integer,
    parse_natural,
    scale,
    time_ns,
)
from tapecast.feeder.extract.shapes import TimeUnit
from tapecast.protocol._native import ffi, lib
from tapecast.protocol.schema import MAX_MANTISSA

_DIGITS = st.text("0123456789", min_size=1, max_size=24)
_FEW = st.text("0019", min_size=1, max_size=12)
_POWER = st.one_of(
    st.just(""),
    st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), _FEW),
)
_NUMBERS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    st.one_of(_DIGITS, _FEW),
    st.one_of(st.just(""), st.builds(".{}".format, st.one_of(_DIGITS, _FEW))),
    _POWER,
)
_NEAR = st.text("0123456789.eE+- ", max_size=30)


def _parse(text: str, *, bare: bool, behind: str = "") -> Natural | None:
    """Parse in C, in a buffer of exactly the text (and what stands behind it), with trailing
    zeros removed.
    """
    data = ffi.new("char[]", (text + behind).encode() or b"\0")
    value = ffi.new("tc_decimal *")
    whole = lib.tc_parse_decimal(data, len(text), bare, value) == 0
    assert not whole or lib.tc_leading_decimal(data, len(text + behind), bare, value) == len(text)
    if not whole:
        return None
    if value.exponent == 32767:
        return Natural(None, 0, value.mantissa < 0)
    if value.mantissa == 0:
        return Natural(0, 0, False)
    exponent = lib.tc_minimal_exponent(value.mantissa, value.exponent)
    digits = str(abs(value.mantissa)).rstrip("0")
    mantissa = int(digits) if value.mantissa > 0 else -int(digits)
    return Natural(mantissa, exponent, mantissa < 0)


def _is_json(text: str) -> bool:
    whole = text.removeprefix("-").split(".")[0].lower().split("e")[0]
    return len(whole) == 1 or not whole.startswith("0")


@given(_NUMBERS)
def test_numbers_have_one_meaning(text: str) -> None:
    """Quoted numbers of any length, with leading zeros and exponents, mean the same to both."""
    assert _parse(text, bare=False) == parse_natural(text)


@given(_NUMBERS)
def test_bare_numbers_follow_the_json_grammar(text: str) -> None:
    """A leading zero before another digit is refused where the number stands bare."""
    assert _parse(text, bare=True) == (parse_natural(text) if _is_json(text) else None)


@given(_NEAR)
def test_what_is_no_number_is_refused(text: str) -> None:
    """Texts made of number characters are numbers to both or to neither."""
    assert _parse(text, bare=False) == parse_natural(text)


@pytest.mark.parametrize("digits", ["0", "1", "10", "01", "9"])
def test_numbers_of_every_length(digits: str) -> None:
    """Whole parts and decimals of up to 20 digits each, alone in their buffer and inside a
    frame, quoted and bare.
    """
    for whole in range(1, 21):
        for decimals in range(21):
            for power in ("", "e2", "E-3"):
                text = (
                    (digits * whole)[:whole]
                    + ("." + (digits * decimals)[:decimals] if decimals else "")
                    + power
                )
                for behind in ("", '","0.5"],["1.5","2"]', ',"x":1.5e3,"y":[22222222]}'):
                    assert _parse(text, bare=False, behind=behind) == parse_natural(text), text
                    assert _parse(text, bare=True, behind=behind) == (
                        parse_natural(text) if _is_json(text) else None
                    ), text


@given(st.integers(0, 10**9), st.integers(0, 9), st.integers(0, 9))
def test_short_numbers_are_exact(mantissa: int, decimals: int, zeros: int) -> None:
    """Prices as venues write them, padded with zeros, keep their value."""
    text = f"{Decimal(mantissa).scaleb(-decimals):f}"
    text += "0" * zeros if "." in text else ""
    value = _parse(text, bare=False)
    assert value is not None
    assert value.mantissa is not None
    assert Decimal(value.mantissa).scaleb(value.exponent) == Decimal(text)


@given(st.integers(-MAX_MANTISSA, MAX_MANTISSA), st.integers(-140, 140), st.integers(-128, 127))
def test_scaling_agrees(mantissa: int, exponent: int, target: int) -> None:
    """Mantissa, inexact or too large: C and Python say the same at every exponent."""
    digits = str(abs(mantissa)).rstrip("0") or "0"
    natural = Natural(0, 0, False)
    if mantissa:
        exponent_of = exponent + len(str(abs(mantissa))) - len(digits)
        natural = Natural(int(digits) if mantissa > 0 else -int(digits), exponent_of, mantissa < 0)
    out = ffi.new("int64_t *", 77)
    answer = lib.tc_scale_decimal(mantissa, exponent, target, out)
    if answer == 0:
        assert out[0] == scale(natural, target)
        return
    assert out[0] == 77
    with pytest.raises(ExactError) as caught:
        scale(natural, target)
    assert caught.value.problem.value == answer


@given(st.one_of(_DIGITS, _NEAR, st.integers(-(2**66), 2**66).map(str)))
def test_integers_agree(text: str) -> None:
    """Integers without fraction or exponent, saturated beyond 64 bits."""
    data = ffi.new("char[]", text.encode() or b"\0")
    magnitude, negative, saturated = ffi.new("uint64_t *"), ffi.new("int *"), ffi.new("int *")
    answer = lib.tc_parse_integer(data, len(text), magnitude, negative, saturated)
    expected = parse_integer(text)
    if expected is None:
        assert answer == -1
    else:
        assert answer == 0
        assert bool(saturated[0]) == (abs(expected) == 2**64)
        assert saturated[0] or magnitude[0] == abs(expected)
        assert not expected or bool(negative[0]) == (expected < 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.16539E8", (116539, 3)),
        ("7.9276E-4", (79276, -8)),
        ("2E-7", (2, -7)),
        ("-0", (0, 0)),
        ("0e999999999999999999999", (0, 0)),
        ("4611686018427387903", (2**62 - 1, 0)),
        ("1" + "0" * 39, (1, 39)),
        ("0." + "0" * 100 + "1e101", (1, 0)),
    ],
)
def test_known_numbers(text: str, expected: tuple[int, int]) -> None:
    """Numbers as venues write them, and limits."""
    for value in (parse_natural(text), _parse(text, bare=False)):
        assert value is not None
        assert value[:2] == expected


@pytest.mark.parametrize(
    "text",
    ["4611686018427387904", "1e-129", "1e-400", "1e999999999999", "1e301", "1." + "1" * 5000],
)
def test_numbers_that_no_mantissa_carries(text: str) -> None:
    """Values beyond 62 bits at any 8-bit exponent are recognised at once, whatever their length."""
    for value in (parse_natural(text), _parse(text, bare=True)):
        assert value is not None
        assert value.mantissa is None
        with pytest.raises(ExactError) as caught:
            scale(value, -8)
        assert caught.value.problem is Problem.TOO_LARGE


@pytest.mark.parametrize(
    "text", ["", "-", "+1", " 1", "1 ", "1.", ".5", "1e", "1e+", "0x1", "1_0", "NaN", "١"]
)
def test_texts_that_are_no_numbers(text: str) -> None:
    """Signs, spaces and half numbers are refused."""
    assert parse_natural(text) is None
    assert _parse(text, bare=False) is None


def test_time_units_by_magnitude() -> None:
    """AUTO tells s, ms, us and ns apart, and calls whole seconds coarse."""
    for value, factor in (
        (1723161255, 10**9),
        (1723161255208, 10**6),
        (1723161255208123, 10**3),
        (1723161255208123456, 1),
    ):
        assert time_ns(value, TimeUnit.AUTO) == (value * factor, factor != 10**9)
    for value in (0, 999_999_999, 10**11, -1723161255208, 2**64):
        assert time_ns(value, TimeUnit.AUTO) == (0, False)


def test_time_stamps_out_of_range_are_unknown() -> None:
    """Times before September 2001 or beyond 63 bits of nanoseconds are 0 and bad."""
    assert time_ns(1723161255208, TimeUnit.MS) == (1723161255208 * 10**6, True)
    for value, unit in (
        (0, TimeUnit.MS),
        (1723161255, TimeUnit.MS),
        (2**63, TimeUnit.NS),
        (1723161255208123, TimeUnit.MS),
    ):
        assert time_ns(value, unit) == (0, False)
