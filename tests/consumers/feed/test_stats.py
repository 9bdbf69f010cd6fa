"""The lag histogram."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapecast.consumers.feed.stats import LagHistogram


def test_an_empty_histogram_knows_nothing() -> None:
    """Without values there is no quantile."""
    assert LagHistogram().quantile(0.5) is None


@given(
    st.lists(st.integers(2, 10**12), min_size=1, max_size=200), st.sampled_from([0.5, 0.99, 1.0])
)
def test_quantiles_are_within_their_bucket(values: list[int], q: float) -> None:
    """A quantile is at most a bucket (9 %) above the true one and never below it by more than
    rounding.
    """
    one, many = LagHistogram(), LagHistogram()
    for value in values:
        one.add(value)
    many.add_many(np.array(values, dtype=np.int64))
    true = sorted(values)[max(0, int(np.ceil(q * len(values))) - 1)]
    found = one.quantile(q)
    assert found is not None
    assert found == many.quantile(q)
    assert true * 0.99 - 1 <= found <= true * 1.10 + 1


@pytest.mark.parametrize("value", [-5, 0, 1])
def test_clocks_that_disagree_fall_in_the_first_bucket(value: int) -> None:
    """A negative lag is counted, not an error."""
    one, many = LagHistogram(), LagHistogram()
    one.add(value)
    many.add_many(np.array([value], dtype=np.int64))
    assert one.quantile(1.0) == many.quantile(1.0) == 1
