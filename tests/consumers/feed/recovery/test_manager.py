"""What a recovery service brought is handed on at once, and a repair that was given up in part
comes to an end.
"""

from __future__ import annotations

import numpy as np

from tapecast.consumers.feed.engine import Engine
from tapecast.consumers.feed.events import Book, Status
from tapecast.consumers.feed.recovery.client import Options, RecoveryClient
from tapecast.consumers.feed.recovery.manager import RecoveryManager
from tapecast.consumers.feed.selection import Selection
from tapecast.protocol.net.io import SPAN
from tapecast.protocol.net.sequencing import BatchSequencer
from tapecast.protocol.schema import StatusReason, StatusState
from tests.support.packets import packet

OPTIONS = Options(jitter_ns=0)


class QuietLink:
    """A link over which nothing comes."""

    def __init__(self) -> None:
        self.client = RecoveryClient(1, 1, OPTIONS, chance=lambda: 0.0)
        self.readable = self.writable = None

    def pump(self, now_ns: int) -> None:
        """Do nothing."""


def test_what_came_keeps_the_feed_awake_until_it_is_handed_on() -> None:
    """With packets or refusals that the sequencer does not have yet, there is something under
    way, and the feed does not wait.
    """
    recovery = RecoveryManager(BatchSequencer(max_channels=1), OPTIONS)
    link = QuietLink()
    recovery._links[1] = link  # type: ignore[assignment]
    recovery.pump(None, 0)
    assert (recovery.active, recovery.patience_s(0, 0.1)) == (False, 0.1)
    for waiting, item in ((link.client.mended, packet(7)), (link.client.refused, 8)):
        waiting.append(item)  # type: ignore[arg-type]
        recovery.pump(None, 0)
        assert (recovery.active, recovery.patience_s(0, 0.1)) == (True, 0.0)
        waiting.clear()


def test_a_repair_that_was_given_up_in_part_ends_with_its_last_number() -> None:
    """The channel is not in repair any more once the sequencer has passed what was asked for,
    though no event says so.
    """
    machine = BatchSequencer(max_channels=1)
    engine = Engine(Selection(["binance"], None), [Book, Status], now_ns=0)
    recovery = RecoveryManager(machine, OPTIONS)
    recovery._links[1] = QuietLink()  # type: ignore[assignment]
    engine.received(1, 1, 0)
    engine.repairing(1, 10, 5)
    engine.gap(1, 10, 2)
    _process(machine, packet(13, session=1))
    recovery.tick(engine, 0)
    assert engine._channels[1].repairing == 15
    _process(machine, packet(14, session=1))
    recovery.tick(engine, 0)
    assert engine._channels[1].repairing is None
    told = [event for event in engine.out if isinstance(event, Status)]
    assert (told[-1].state, told[-1].reason) == (StatusState.LIVE, StatusReason.RESYNCED)


def _process(machine: BatchSequencer, data: bytes) -> None:
    spans = np.zeros(1, SPAN)
    spans["length"] = len(data)
    machine.process(data, spans, 1, 0)
