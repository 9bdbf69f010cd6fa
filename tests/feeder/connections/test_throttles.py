"""The table of throttles in `docs/connections.md`: its modules and keys are those of the code."""

from __future__ import annotations

import importlib
import re

from tapecast.feeder.connections.limits import Limits
from tapecast.runtime import config as configuration
from tests.support.processes import ROOT

ROW = re.compile(r"^\| ([a-z ]+) \| [^|]+ \| [^|]+ \| (`[^|]+`) \| `([\w.]+)` \|$", re.M)
DOES = {
    "backoff": "Backoff",
    "circuit": "BackoffPolicy",
    "host limiter": "HostLimiter",
    "pacing": "Pace",
    "proof strikes": "Watch",
    "resubscribe budget": "Connections",
}
"""What carries each of them out."""


def table() -> dict[str, tuple[list[str], str]]:
    """Return keys and module by throttle."""
    text = (ROOT / "docs" / "connections.md").read_text()
    section = text.split("## Six throttles", 1)[1].split("\n## ", 1)[0]
    return {
        name: (re.findall(r"`([^`]+)`", keys), module)
        for name, keys, module in ROW.findall(section)
    }


def test_every_throttle_is_carried_out_by_the_module_named() -> None:
    """Six rows, each with the class that does it."""
    found = table()
    assert list(found) == list(DOES)
    for name, (_, module) in found.items():
        assert hasattr(importlib.import_module(f"tapecast.{module}"), DOES[name]), name


def test_every_key_of_a_throttle_exists() -> None:
    """In the configuration, or in what a venue's file says of its limits; and none is left out."""
    config = configuration.load(environ={})
    named = {key for keys, _ in table().values() for key in keys}
    for key in named:
        section, _, name = key.partition(".")
        if section == "limits":
            assert name in Limits.__struct_fields__, key
            continue
        value: object = config
        for part in key.split("."):
            assert hasattr(value, part), key
            value = getattr(value, part)
    sections = {"backoff": config.feeder.backoff, "circuit": config.feeder.circuit}
    for section, values in sections.items():
        assert {f"feeder.{section}.{name}" for name in values.__struct_fields__} <= named
    rates = {name for name in Limits.__struct_fields__ if "_window_s" in name}
    assert {f"limits.{name}" for name in rates} <= named
