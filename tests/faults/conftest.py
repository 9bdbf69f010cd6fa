"""What the tests of faults share: groups and a port of their own."""

from __future__ import annotations

import pytest

from tests.support.processes import Net


@pytest.fixture
def net() -> Net:
    """Multicast groups and a port that no other test uses."""
    return Net()
