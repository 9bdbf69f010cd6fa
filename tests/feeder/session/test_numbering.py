"""The numbers of a whole connection: a missing one is told once, connections are apart, a new
one begins anywhere.
"""

from __future__ import annotations

from tapecast.feeder.session.numbering import ConnectionSequence


def test_numbers_that_follow_are_silent() -> None:
    """The first number may be any, then each is one more."""
    sequence = ConnectionSequence()
    assert [sequence.follow("a", number) for number in (5, 6, 7)] == [None, None, None]


def test_a_break_is_told_once() -> None:
    """The answer is the number that was expected; counting goes on from the one that came,
    forwards and backwards.
    """
    sequence = ConnectionSequence()
    assert [sequence.follow("a", number) for number in (0, 3, 4, 4, 2, 3)] == [
        None,
        1,
        None,
        5,
        5,
        None,
    ]


def test_connections_are_counted_apart() -> None:
    """The numbers of one connection say nothing of another."""
    sequence = ConnectionSequence()
    assert [
        sequence.follow(name, number) for name, number in (("a", 0), ("b", 9), ("a", 1), ("b", 10))
    ] == [None] * 4


def test_a_new_connection_begins_anew() -> None:
    """What is forgotten may begin with any number; forgetting the unknown does nothing."""
    sequence = ConnectionSequence()
    sequence.follow("a", 7)
    sequence.forget("a")
    sequence.forget("b")
    assert sequence.follow("a", 0) is None
