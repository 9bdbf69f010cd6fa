"""Nothing lists venues but the schema: a number, and files of the same name, make one."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from tapecast.feeder import venues as package
from tapecast.feeder.replay.venues import DIALECTS
from tapecast.feeder.venues import VENUES, venue
from tapecast.protocol.schema import VENUES as NUMBERS
from tapecast.runtime.config import DEFAULTS

HELPERS = {"common", "helpers", "listing", "spec", "volumes"}
ROOT = Path(__file__).resolve().parents[3]


def test_a_number_and_a_module_make_a_venue() -> None:
    """Every module is in the schema and every number has a module, under one name."""
    modules = {found.name for found in pkgutil.iter_modules(package.__path__)} - HELPERS
    assert modules == set(VENUES) == set(NUMBERS) == set(DIALECTS)
    with pytest.raises(KeyError):
        venue("spec")


@pytest.mark.parametrize("name", VENUES)
def test_a_venue_is_whole(name: str) -> None:
    """Its specification, its server side, its configuration, its evidence and its tests are
    where its name says.
    """
    spec = venue(name)
    assert (spec.name, spec.venue_id) == (name, NUMBERS[name])
    assert DIALECTS[name].connect("/nowhere", {}) is None
    assert (DEFAULTS / "venues" / f"{name}.toml").is_file()
    assert (ROOT / "docs" / "venues" / f"{name}.md").is_file()
    assert spec.recordings.hosts


def test_hosts_and_prefixes_mean_one_venue() -> None:
    """Otherwise a recording would have two owners."""
    for field in ("hosts", "prefixes"):
        said = [text for name in VENUES for text in getattr(venue(name).recordings, field)]
        assert len(said) == len(set(said))


def test_only_the_wanted_venue_is_imported() -> None:
    """A feeder of one venue, and the server of its recordings, load no other venue's module."""
    script = (
        "import sys\n"
        "from tapecast.feeder.venues import venue\n"
        "from tapecast.feeder.replay.venues import DIALECTS, guess_venue\n"
        "from pathlib import Path\n"
        "venue('okx'), DIALECTS['okx'], guess_venue(Path('captures/okx/a.jsonl'))\n"
        "print(*(n for n in sys.modules if n.startswith('tapecast.feeder.venues.')))\n"
    )
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=ROOT)
    loaded = {name.rpartition(".")[2] for name in out.stdout.decode().split()}
    assert loaded & set(VENUES) == {"okx"}


STREAMED = [name for name in VENUES if venue(name).listing.symbols_of_pair("BTC", "USDT")]


@pytest.mark.parametrize("name", STREAMED)
def test_what_is_subscribed_is_what_was_requested(name: str) -> None:
    """`requested` reads back the topics of `subscribe`, market-wide channels aside: live, the
    venue's list of accepted topics is compared with it, so what it missed would be complained of.
    """
    stream = venue(name).stream
    symbols = list(venue(name).listing.symbols_of_pair("BTC", "USDT"))
    for part in stream.subscribe(symbols, list(stream.streams), 1):
        named = [
            topic
            for frame in part.frames
            for topic in stream.requested("", frame)
            if topic.channel in stream.streams and topic.channel not in stream.market_wide
        ]
        assert set(named) <= set(part.topics) or stream.market is not None
        assert {topic.channel for topic in named} == {topic.channel for topic in part.topics}


@pytest.mark.parametrize("name", VENUES)
@pytest.mark.parametrize("frame", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}", b"pong"])
def test_decisions_never_raise_and_say_nothing_of_garbage(name: str, frame: bytes) -> None:
    """`peek` gives books up and passes messages over, `requested` lists topics: of what is no
    message they say nothing.
    """
    stream = venue(name).stream
    assert stream.peek(frame) is None
    assert stream.requested("", frame) == []
