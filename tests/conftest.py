"""Settings of the whole suite: a property test says what is true, not how fast this machine is
today.

Helpers that assert say as much as tests do when they fail.
"""

from collections.abc import Generator

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.reliability", "tests.support")

settings.register_profile("tapecast", deadline=None)
settings.load_profile("tapecast")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """A test that quotes a recording which has gone is skipped, and says so."""
    from tests.support.captures import gone_is_absent

    with gone_is_absent():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    """So is one whose fixture quotes it."""
    from tests.support.captures import gone_is_absent

    with gone_is_absent():
        return (yield)
