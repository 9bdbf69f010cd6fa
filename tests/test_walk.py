"""The walk of `docs/architecture.md` is the one that a message takes: the files that a profiler
sees are those that the page names, none of them forgotten, at most twelve a side.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import pytest
from picows import WSMsgType

from tapecast import Book, Feed
from tapecast.feeder.connections.transport import Handlers, Socket
from tapecast.feeder.frame_handler import FrameHandler
from tapecast.feeder.record.recording import read
from tapecast.feeder.session.session import Session, SessionOptions
from tapecast.feeder.venues import venue
from tapecast.protocol.net.io import Sender
from tapecast.protocol.publish.lines import MulticastLine
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.schema import StatusState
from tapecast.runtime.channels import channel_named, lines_of
from tapecast.runtime.config import load
from tapecast.runtime.settings import Config
from tests.support.captures import recordings

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("protocol/", "runtime/", "feeder/", "consumers/", "tapecast/")
MOST = 12
_STEP = re.compile(r"^\| \d+ \| `([\w/]+\.py)`", re.M)


def walk(side: str) -> list[str]:
    """Return the Python files of one side of the page's walk, in order."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.partition(f"## {side}")[2].partition("\n## ")[0]
    return _STEP.findall(section)


class Seen:
    """Collects the project's files whose code runs, in order of the first call."""

    def __init__(self) -> None:
        """Have seen nothing."""
        self.files: list[str] = []

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """See a call."""
        if event != "call":
            return
        path = Path(frame.f_code.co_filename).resolve()
        if path.is_relative_to(ROOT):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith(ROOMS) and name not in self.files:
                self.files.append(name)


def seen(work: Callable[[], object]) -> list[str]:
    """Return the files whose code runs while `work` does."""
    trace = Seen()
    sys.setprofile(trace)
    try:
        work()
    finally:
        sys.setprofile(None)
    return trace.files


class Frame:
    """A WebSocket frame as picows hands it over: the last one of its read."""

    fin = last_in_buffer = True
    msg_type = WSMsgType.TEXT

    def __init__(self, data: bytes) -> None:
        """Carry a message."""
        self._data = data

    def get_payload_as_bytes(self) -> bytes:
        """Return the message."""
        return self._data


class Link:
    """Whose messages they are."""

    key = "ws.1"


@pytest.fixture
def config() -> Config:
    """A configuration with a group of its own for this process."""
    pid = os.getpid()
    return load(
        {
            "network.group_prefix": f"239.{192 + pid % 60}.{pid // 60 % 250}",
            "network.port_crypto": 20000 + pid % 10000,
            "recovery.enabled": False,
        }
    )


class Feeder:
    """The way of an OKX feeder from a socket's callback to its multicast group."""

    def __init__(self, config: Config) -> None:
        """Begin a session on loopback."""
        spec = venue("okx")
        channel_id = channel_named("okx").channel_id
        (group, port), *_ = lines_of("okx", config.network)
        self.sender = Sender(group, port)
        self.publisher = Publisher(
            MulticastLine(self.sender),
            venue_id=spec.venue_id,
            channel_id=channel_id,
            session=1,
            base_flags=0,
        )
        self.session = Session(spec, SessionOptions(channel_id=channel_id, accept_any=True))
        handler = FrameHandler(self.session, self.publisher, lambda: None)
        self.session.on_connect(Link.key, 0, time.time_ns())
        message, batch = handler.reader(Link()), handler.batch  # type: ignore[arg-type]
        self.socket = Socket(Handlers(lambda _: None, message, batch))

    def receive(self, data: bytes) -> None:
        """Take a message as picows hands it over."""
        self.socket.on_ws_frame(None, Frame(data))  # type: ignore[arg-type]

    def live(self) -> bool:
        """Whether a book is LIVE."""
        return any(one.sync.state is StatusState.LIVE for one in self.session.instruments)


async def test_an_update_takes_the_way_of_the_page(config: Config) -> None:
    """A recorded OKX update, from the callback of its socket to the event in a script: the page
    names the files that run, and no others.
    """
    feeder = Feeder(config)
    lines = (line.raw for path in recordings("okx") for line in read([path]) if line.raw)

    def update() -> bytes:
        """Return the next update that finds a LIVE book, all before it being taken in."""
        for raw in lines:
            if b'"update"' in raw and feeder.live():
                return raw
            feeder.receive(raw)
        raise AssertionError("no update of a LIVE book in the recordings")

    with Feed(["okx"], config=config, types=[Book]) as feed:
        out = seen(partial(feeder.receive, update()))
        feed.run(seconds=0.5)
        feeder.receive(update())
        received = seen(partial(next, iter(feed)))
    for side, files in (("Out", out), ("In", received)):
        assert set(walk(side)) == set(files)
        assert len(walk(side)) == len(files) <= MOST
