"""Settings of the whole suite: a property test says what is true, not how fast this machine is
today.

Helpers that assert say as much as tests do when they fail.
"""

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.reliability", "tests.support")

settings.register_profile("tapecast", deadline=None)
settings.load_profile("tapecast")
