"""What the tests of the feed share: groups of their own, and who sends to them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tapecast.protocol.net.io import Sender
from tapecast.runtime.config import load
from tapecast.runtime.settings import Config


@pytest.fixture
def config() -> Config:
    """A configuration with groups of its own for this test process, so that nothing else on the
    host is heard.
    """
    pid = os.getpid()
    return load(
        {
            "network.group_prefix": f"239.{192 + pid % 60}.{pid // 60 % 250}",
            "network.port_crypto": 20000 + pid % 10000,
        }
    )


@pytest.fixture
def sender(config: Config) -> Iterator[Sender]:
    """Sends to the group of binance."""
    out = Sender(f"{config.network.group_prefix}.1", config.network.port_crypto)
    yield out
    out.close()
