"""The life of an access token, without I/O: terms, renewal, refusal, pauses that grow, and what
other processes stored.
"""

from __future__ import annotations

import pytest

from tapecast.feeder.login.token import Fetch, TokenMachine, TokenPolicy, TokenState, Use, Wait
from tapecast.feeder.venues.ls import LOGIN

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
NOON = 20_000 * DAY + 3 * HOUR
"""03:00 UTC, noon in Korea."""
POLICY = TokenPolicy(margin_ns=600 * SECOND, renew_at_s=LOGIN.renew_at_s)


def machine(expires_in_s: int = 86_400, *, policy: TokenPolicy = POLICY) -> TokenMachine:
    """Return a machine with a token of noon."""
    made = TokenMachine(policy)
    made.issued("one", expires_in_s, NOON)
    return made


def test_without_a_token_the_venue_is_asked() -> None:
    """At once, and what it answers is used."""
    one = TokenMachine(POLICY)
    assert one.decide(NOON) == Fetch()
    one.issued("one", 86_400, NOON)
    assert one.decide(NOON) == Use("one")


def test_a_token_is_renewed_before_it_ends() -> None:
    """Ten minutes before its term; when that fails it is used to its end, and then nothing is."""
    one = machine(3600)
    assert one.decide(NOON + 3000 * SECOND - 1) == Use("one")
    assert one.decide(NOON + 3000 * SECOND) == Fetch()
    one.failed(NOON + 3000 * SECOND, refused=False)
    assert one.decide(NOON + 3001 * SECOND) == Use("one")
    for _ in range(20):
        one.failed(NOON + 3590 * SECOND, refused=False)
    assert one.decide(NOON + 3600 * SECOND) == Wait(NOON + 3590 * SECOND + POLICY.pause_cap_ns)


def test_a_term_shorter_than_the_margin_is_used_for_its_half() -> None:
    """It would be renewed at every use otherwise."""
    one = machine(60)
    assert one.decide(NOON + 29 * SECOND) == Use("one")
    assert one.decide(NOON + 30 * SECOND) == Fetch()


def test_tokens_are_renewed_around_seven_in_korea() -> None:
    """At 06:50 and at 07:10, whatever their term, because they were seen to end at 07:00: 21:50
    and 22:10 UTC.
    """
    assert LOGIN.renew_at_s == (21 * 3600 + 50 * 60, 22 * 3600 + 10 * 60)
    one = machine(7 * 86_400)
    ten_to_seven = NOON + 18 * HOUR + 50 * 60 * SECOND
    assert one.decide(ten_to_seven - 1) == Use("one")
    assert one.decide(ten_to_seven) == Fetch()
    one.issued("two", 7 * 86_400, ten_to_seven)
    assert one.decide(ten_to_seven + 20 * 60 * SECOND - 1) == Use("two")
    assert one.decide(ten_to_seven + 20 * 60 * SECOND) == Fetch()
    one.issued("three", 7 * 86_400, ten_to_seven + 20 * 60 * SECOND)
    assert one.decide(ten_to_seven + 23 * HOUR) == Use("three")
    assert one.decide(ten_to_seven + 24 * HOUR) == Fetch()


def test_a_token_in_use_is_outdated_once_another_would_be_used() -> None:
    """When it is due, and when another process has a newer one; not while the venue may not be
    asked.
    """
    one = machine()
    due = NOON + 18 * HOUR + 50 * 60 * SECOND
    assert [one.outdated("one", now) for now in (NOON, due - 1, due)] == [False, False, True]
    one.failed(due, refused=True)
    assert [one.outdated("one", now) for now in (due, due + 60 * SECOND)] == [False, True]
    one.issued("two", 86_400, due + 60 * SECOND)
    assert [one.outdated(token, due + 61 * SECOND) for token in ("one", "two")] == [True, False]


def test_a_refused_token_is_renewed_once_and_then_with_pauses() -> None:
    """No loop of logins: the first refusal costs one request, each further one in a row a longer
    wait, up to half an hour.
    """
    one = machine()
    one.rejected("one", NOON)
    assert one.decide(NOON) == Fetch()
    now, waits = NOON, []
    for number in range(8):
        one.issued(f"again {number}", 86_400, now)
        one.rejected(f"again {number}", now)
        decision = one.decide(now)
        assert isinstance(decision, Wait)
        waits.append((decision.until_ns - now) // SECOND)
        now = decision.until_ns
        assert one.decide(now) == Fetch()
    assert waits == [60, 120, 240, 480, 960, 1800, 1800, 1800]


def test_data_end_a_run_of_refusals() -> None:
    """Then the next refusal is the first again."""
    one = machine()
    one.rejected("one", NOON)
    one.issued("two", 86_400, NOON)
    one.accepted("two")
    one.rejected("two", NOON + HOUR)
    assert one.decide(NOON + HOUR) == Fetch()


def test_a_refusal_of_an_older_token_changes_nothing() -> None:
    """Several connections are refused with the token that is renewed already."""
    one = machine()
    one.rejected("one", NOON)
    one.issued("two", 86_400, NOON)
    for _ in range(5):
        one.rejected("one", NOON)
    assert one.decide(NOON) == Use("two")
    one.accepted("one")
    one.rejected("two", NOON)
    assert isinstance(one.decide(NOON), Wait), "data under an older token prove nothing of this one"


@pytest.mark.parametrize(
    ("refused", "waits"), [(False, [5, 10, 20, 40]), (True, [60, 120, 240, 480])]
)
def test_pauses_grow_after_failures(refused: bool, waits: list[int]) -> None:
    """Keys that are refused are tried less often than a server that is away."""
    one = TokenMachine(POLICY)
    now = NOON
    for wait in waits:
        one.failed(now, refused=refused)
        assert one.decide(now) == Wait(now + wait * SECOND)
        now += wait * SECOND
    assert one.decide(now) == Fetch()
    one.issued("one", 86_400, now)
    one.failed(now, refused=refused)
    assert one.state.not_before_ns == now + waits[0] * SECOND


def test_what_another_process_has_is_used() -> None:
    """A newer token and a pause are taken over; an older token, and one that was refused here,
    are not.
    """
    one = machine()
    one.load(TokenState(token="two", issued_ns=NOON + HOUR, expires_ns=NOON + DAY), NOON + HOUR)
    assert one.decide(NOON + HOUR) == Use("two")
    one.load(TokenState(token="old", issued_ns=NOON - HOUR, expires_ns=NOON + DAY), NOON + HOUR)
    assert one.decide(NOON + HOUR) == Use("two")
    one.rejected("two", NOON + HOUR)
    one.load(TokenState(token="two", issued_ns=NOON + 2 * HOUR, expires_ns=NOON + DAY), NOON + HOUR)
    assert one.decide(NOON + HOUR) == Fetch()
    one.load(TokenState(not_before_ns=NOON + HOUR + 60 * SECOND), NOON + HOUR)
    assert one.decide(NOON + HOUR) == Wait(NOON + HOUR + 60 * SECOND)


def test_a_clock_that_was_set_back_does_not_stop_the_feed() -> None:
    """A pause that was stored by a clock far ahead is cut to the longest pause."""
    one = TokenMachine(POLICY)
    one.load(TokenState(not_before_ns=NOON + 400 * DAY), NOON)
    assert one.decide(NOON) == Wait(NOON + POLICY.pause_cap_ns)


def test_nothing_printed_holds_a_token() -> None:
    """Neither a state nor a decision shows it."""
    one = machine()
    assert "one" not in repr(one.state)
    assert "one" not in repr(one.decide(NOON))
