"""When a connection is replaced: in time, spread, on demand, and again after a failure."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tapecast.feeder.connections.rotation import Rotation, RotationPolicy
from tapecast.protocol.units import NS_PER_S

DAY = RotationPolicy(max_age_s=86_400, share=0.96, spread=0.05, every_s=0)


@settings(deadline=None)
@given(st.floats(0, 1))
def test_a_day_ends_an_hour_early(fraction: float) -> None:
    """Between 21.8 and 23.1 of 24 hours, each connection at its own time."""
    rotation = Rotation(DAY)
    rotation.opened(0, fraction)
    assert rotation.due(int(21.8 * 3600) * NS_PER_S) == ""
    assert rotation.due(int(23.1 * 3600) * NS_PER_S) == "age"
    assert rotation.due((24 * 3600) * NS_PER_S) == ""  # told once


def test_connections_that_never_end_are_not_replaced() -> None:
    """Unless the operator wants it."""
    never = Rotation(RotationPolicy(max_age_s=0, share=0.96, spread=0.05, every_s=0))
    never.opened(0, 0.5)
    assert never.due(10**18) == ""
    wanted = Rotation(RotationPolicy(max_age_s=0, share=0.96, spread=0.0, every_s=3))
    wanted.opened(0, 0.5)
    assert wanted.due(2 * NS_PER_S) == ""
    assert wanted.due(3 * NS_PER_S) == "age"


def test_the_shorter_of_two_ages_counts() -> None:
    """The operator's choice does not outlast the venue's limit."""
    rotation = Rotation(RotationPolicy(max_age_s=100, share=0.9, spread=0.0, every_s=1000))
    rotation.opened(0, 0.0)
    assert rotation.due(90 * NS_PER_S) == "age"


def test_a_demand_comes_before_the_age_and_never_puts_it_off() -> None:
    """A notice of the venue is obeyed within its time; a later demand changes nothing."""
    rotation = Rotation(DAY)
    rotation.opened(0, 0.0)
    rotation.demand("service upgrade", 10 * NS_PER_S, 2.0)
    rotation.demand("again", 10 * NS_PER_S, 5.0)
    assert rotation.due(11 * NS_PER_S) == ""
    assert rotation.due(12 * NS_PER_S) == "service upgrade"


def test_a_failure_is_tried_again() -> None:
    """After half a minute to a minute."""
    rotation = Rotation(DAY)
    rotation.opened(0, 0.0)
    assert rotation.due(10**18)
    rotation.failed(0, 1.0)
    assert rotation.due(59 * NS_PER_S) == ""
    assert rotation.due(60 * NS_PER_S) == "age"
