"""The consumer that `tapecast up` runs in a process of its own: receives every channel, keeps
what was delivered, counts what was lost.

Delivered packets (validated, in order) go to a tape as they come, one C call a batch; nothing is
rendered while packets arrive. stdout carries two JSON lines: `ready` once the groups are joined,
the summary at the end. It ends on SIGTERM, or when every channel it listens to has sent
SESSION_END.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path
from types import FrameType
from typing import IO

import numpy as np
import numpy.typing as npt
import orjson

from tapecast.consumers.feed.recovery.client import Options
from tapecast.consumers.feed.recovery.manager import RecoveryManager, options_of
from tapecast.consumers.feed.stats import LagHistogram
from tapecast.feeder.venues import venue
from tapecast.protocol.dtypes import HEADER
from tapecast.protocol.net.io import Receiver
from tapecast.protocol.net.sequencing import SPAN_HELD, SPAN_REPAIR, EventKind
from tapecast.protocol.schema import VENUES, Flag, MsgType
from tapecast.runtime import config as configuration
from tapecast.runtime.channels import lines_of
from tapecast.runtime.keys import Admission

__all__ = ["Capture", "main"]

_WAIT_S = 0.05
_WINDOW_S = 0.005
_TICK_NS = 100_000_000
_REACH = 1 << 14
_HEADER_BYTES = np.arange(HEADER.itemsize)
_MARKET_DATA = [MsgType.BOOK, MsgType.BBO, MsgType.TRADE, MsgType.STAT, MsgType.LIQUIDATION]


class Pushed:
    """Tells market data that a feeder passed on at once from what else it sends.

    That is definitions, statuses, order books that it fetched (on the channels `fetched`), and
    the updates that waited for those.

    Only the waiting ones leave the feeder behind packets of frames that came later: their
    receive time is older than one before.
    """

    def __init__(self, fetched: Collection[int] = ()) -> None:
        self._fetched = list(fetched)
        self._newest: dict[int, int] = {}

    def mask(self, headers: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Return which packets, given by their headers in the order of their delivery, were
        passed on at once.
        """
        out = np.isin(headers["msg_type"], _MARKET_DATA) & (headers["ts_recv_ns"] > 0)
        for channel in np.unique(headers["channel_id"]).tolist():
            own = headers["channel_id"] == channel
            times = headers["ts_recv_ns"][own]
            newest = np.maximum.accumulate(np.maximum(times, self._newest.get(channel, 0)))
            self._newest[channel] = int(newest[-1])
            out[own] &= times == newest
            if channel in self._fetched:
                out[own] &= (headers["flags"][own] & Flag.SNAPSHOT) == 0
        return out


class Capture:
    """One receiver with its sequencer, and what became of the packets.

    `tape` None: nothing is kept; `fetched`: see `Pushed`; `repair`: lost packets are asked for.
    """

    def __init__(
        self,
        receiver: Receiver,
        admission: Admission,
        tape: IO[bytes] | None,
        fetched: Collection[int] = (),
        repair: Options | None = None,
    ) -> None:
        self.receiver = receiver
        self.sequencer = admission.sequencer(
            repair_ns=repair.repair_ns if repair is not None else 0, reach=_REACH
        )
        self.recovery = (
            RecoveryManager(self.sequencer, repair, keys=admission.keys)
            if repair is not None
            else None
        )
        self._ticked_ns = 0
        self._buffer = receiver.buffer
        self.tape = tape
        self.received = 0
        self.lost = 0
        self.gaps: list[dict[str, int]] = []
        self.ended: set[int] = set()
        self.feeder_lag = LagHistogram()
        """Frame complete at the feeder to send call, ns, of market data that was passed on at
        once.
        """
        self.pushed = Pushed(fetched)
        self.wire_lag = LagHistogram()
        """Send call to arrival in the kernel, ns."""

    def step(self) -> int:
        """Wait a little for packets, take what is there, and return how many were delivered."""
        sequencer = self.sequencer
        count = self._read()
        if count:
            self.received += count
            self._time(sequencer.deliveries[:count])
            if self.tape is not None:
                for offset, nbytes, _, _, held in sequencer.runs.tolist():
                    self.tape.write(
                        (sequencer.held if held else self._buffer)[offset : offset + nbytes].data
                    )
        for event in sequencer.events:
            if event.kind in (EventKind.GAP, EventKind.JUMP):
                self._missing(event.channel_id, event.first, event.count)
            elif event.kind is EventKind.JOINED and event.first > 1:
                self._missing(event.channel_id, 1, event.first - 1)
            elif event.kind is EventKind.SESSION_END:
                self.ended.add(event.channel_id)
        return count

    def summary(self) -> dict[str, object]:
        """Return what was received and lost; heartbeats and session ends, which have no number
        of their own, stand apart.
        """
        counts = self.sequencer.counts()
        return {
            "event": "summary",
            "received": self.received - counts["unsequenced"],
            "unsequenced": counts["unsequenced"],
            "lost": self.lost,
            "repaired": counts["repaired"],
            "requests": self.recovery.counts.get("requests", 0) if self.recovery is not None else 0,
            "repair_us": _percentiles(self.recovery.repair_lag)
            if self.recovery is not None
            else None,
            "lines": [
                {"channel": channel, **line._asdict()}
                for channel in self.sequencer.channels()
                for line in self.sequencer.line_stats(channel)
            ],
            "gaps": self.gaps,
            "kernel_drops": sum(self.receiver.stats.kernel_drops),
            "counts": {name: value for name, value in counts.items() if value},
            "feeder_us": _percentiles(self.feeder_lag),
            "wire_us": _percentiles(self.wire_lag),
        }

    def _read(self) -> int:
        """Read the network, or what the recovery services brought, and return how many packets
        were delivered.
        """
        sequencer, recovery = self.sequencer, self.recovery
        now_ns = time.monotonic_ns()
        wait_s = _WAIT_S
        if recovery is not None:
            if now_ns - self._ticked_ns > _TICK_NS:
                self._ticked_ns = now_ns
                recovery.tick(None, now_ns)
                recovery.pump(None, now_ns)
            if recovery.active:
                recovery.wait(self.receiver.filenos(), recovery.patience_s(now_ns, _WINDOW_S))
                wait_s = 0.0
                recovery.pump(None, time.monotonic_ns())
                mended = recovery.mend(time.monotonic_ns())
                if mended is not None and (mended.deliveries or sequencer.events):
                    self._buffer = mended.buffer
                    recovery.events(sequencer.events, time.monotonic_ns())
                    return mended.deliveries
        self._buffer = self.receiver.buffer
        count = sequencer.receive(self.receiver, wait_s)
        if recovery is not None:
            recovery.events(sequencer.events, time.monotonic_ns())
        return count

    def _missing(self, channel: int, first: int, count: int) -> None:
        self.lost += count
        if len(self.gaps) < 100:
            self.gaps.append({"channel": channel, "first": first, "count": count})

    def _time(self, deliveries: npt.NDArray[np.void]) -> None:
        fresh = deliveries[(deliveries["flags"] & (SPAN_HELD | SPAN_REPAIR)) == 0]
        if not len(fresh):
            return
        places = fresh["offset"].astype(np.int64)[:, None] + _HEADER_BYTES
        headers = np.ascontiguousarray(self._buffer[places]).view(HEADER).ravel()
        self.wire_lag.add_many(fresh["kernel_ts_ns"] - headers["ts_send_ns"])
        pushed = headers[self.pushed.mask(headers)]
        self.feeder_lag.add_many(pushed["ts_send_ns"] - pushed["ts_recv_ns"])


def _percentiles(lags: LagHistogram) -> dict[str, float | None]:
    values = {"p50": lags.quantile(0.5), "p99": lags.quantile(0.99), "p999": lags.quantile(0.999)}
    return {
        name: None if value is None else round(value / 1000, 1) for name, value in values.items()
    }


def main(argv: list[str]) -> int:
    """Run until SIGTERM or the end of every session."""
    parser = argparse.ArgumentParser(prog="tapecast.capture")
    parser.add_argument("--venues", required=True, help="comma-separated")
    parser.add_argument("--tape", type=Path)
    args = parser.parse_args(argv)
    config = configuration.load()
    network = config.network
    venues = args.venues.split(",")
    stopping = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tape = args.tape.open("wb") if args.tape is not None else None
    lines = [line for name in venues for line in lines_of(name, network)]
    receiver = Receiver(lines, interface=network.interface, rcvbuf=network.rcvbuf_bytes)
    fetched = [VENUES[name] for name in venues if venue(name).rule.snapshot == "rest"]
    capture = Capture(
        receiver, Admission(venues, network), tape, fetched, options_of(config.consumer)
    )
    channels = {VENUES[name] for name in venues}
    _print({"event": "ready"})
    while not stopping and not channels <= capture.ended:
        capture.step()
    while capture.step():
        pass
    if tape is not None:
        tape.close()
    _print(capture.summary())
    return 0


def _print(line: dict[str, object]) -> None:
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
