"""A way that loses, between a publisher and its consumers: below all sequencing, in UDP and TCP,
decided by a seed.

`python -m tests.support.relay PLAN` joins the publisher's groups and sends what comes of their
packets to other groups, and passes TCP connections on to the publisher's recovery service. PLAN
is a JSON file:

    {"seed": 7, "interface": "127.0.0.1",
     "lines": [{"from": ["239.1.1.1", 9001], "to": ["239.1.2.1", 9001], "way": {"loss": 0.01}},
     …], "tcp": {"listen": 0, "to": ["127.0.0.1", 0], "wire": {"cut": 0.1}, "key": "hex, where
     packets carry tags"}}

It is read again at SIGHUP: ways and wires change, the rest stays. Where there is a `tcp` part,
heartbeats that pass are rewritten to name the relay's own port, and the port that they named is
where connections go. stdout: `ready` with the TCP port, `reloaded`, and the counts at the end.
Datagrams are sent from one socket a line, as the publisher does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import struct
import sys
from pathlib import Path
from typing import Any

from tapecast.protocol.authentication import Sealer
from tapecast.protocol.net.io import Receiver, Sender
from tapecast.protocol.schema import HEADER_SIZE, HEARTBEAT, TAG_SIZE, Flag, MsgType
from tests.support.faults import PacketFaults, StreamFaults, Way, Wire

__all__ = ["Relay", "main"]

_PORT_AT = HEADER_SIZE + next(
    field.offset for field in HEARTBEAT.fields if field.name == "recovery_port"
)
_PORT = struct.Struct("<H")
_BEATS = (MsgType.HEARTBEAT, MsgType.SESSION_START, MsgType.SESSION_END)
_PIECE = 16_384


class _Line:
    def __init__(self, plan: dict[str, Any], interface: str, seed: int) -> None:
        (group, port), (to, to_port) = plan["from"], plan["to"]
        self.receiver = Receiver([(group, port)], interface=interface, rcvbuf=32 << 20)
        self.sender = Sender(to, to_port, interface=interface, sndbuf=8 << 20)
        self.faults = PacketFaults(seed, Way(**plan.get("way", {})))

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.sender._socket.sendto(data, (self.sender.group, self.sender.port))


class Relay:
    """Everything a plan describes, on one event loop."""

    def __init__(self, path: Path) -> None:
        """Join the groups."""
        self._path = path
        plan = json.loads(path.read_text())
        interface = plan.get("interface", "127.0.0.1")
        self.lines = [
            _Line(line, interface, plan["seed"] + n) for n, line in enumerate(plan["lines"])
        ]
        tcp = plan.get("tcp")
        self._tcp = tcp
        self.stream = (
            StreamFaults(plan["seed"] + 1000, Wire(**tcp.get("wire", {}))) if tcp else None
        )
        self._sealer = Sealer(bytes.fromhex(tcp["key"])) if tcp and tcp.get("key") else None
        self._service: tuple[str, int] | None = tuple(tcp["to"]) if tcp else None
        self._listening = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until told to stop."""
        loop = asyncio.get_running_loop()
        server = None
        if self._tcp:
            server = await asyncio.start_server(
                self._connected, self._tcp.get("host", "127.0.0.1"), self._tcp["listen"]
            )
            self._listening = server.sockets[0].getsockname()[1]
        for line in self.lines:
            loop.add_reader(line.receiver.fileno(), self._readable, line)
        _say({"event": "ready", "tcp": self._listening})
        await stop.wait()
        for line in self.lines:
            loop.remove_reader(line.receiver.fileno())
        if server is not None:
            server.close()
        for task in tuple(self._tasks):
            task.cancel()

    def reload(self) -> None:
        """Take the faults of the plan as it is now."""
        plan = json.loads(self._path.read_text())
        for line, part in zip(self.lines, plan["lines"], strict=True):
            line.faults.way = Way(**part.get("way", {}))
        if self.stream is not None:
            self.stream.wire = Wire(**plan["tcp"].get("wire", {}))
        _say({"event": "reloaded"})

    def counts(self) -> dict[str, object]:
        """Return what was done, by line, and to the connections."""
        return {
            "event": "counts",
            "lines": [dict(line.faults.counts) for line in self.lines],
            "kernel_drops": [line.receiver.stats.kernel_drops[0] for line in self.lines],
            "tcp": dict(self.stream.counts) if self.stream else {},
        }

    def _readable(self, line: _Line) -> None:
        loop = asyncio.get_running_loop()
        whole: list[bytes] = []
        for index in range(line.receiver.receive()):
            data = self._renamed(bytes(line.receiver.packet(index)))
            for copy in line.faults.take(data):
                if copy.delay_s:
                    loop.call_later(copy.delay_s, line.send, copy.data)
                elif copy.data is data:
                    whole.append(data)
                else:
                    self._pass(line, whole)
                    line.send(copy.data)
        self._pass(line, whole)

    def _pass(self, line: _Line, whole: list[bytes]) -> None:
        if whole:
            joined = b"".join(whole)
            line.sender.send(joined, len(joined))
            whole.clear()

    def _renamed(self, data: bytes) -> bytes:
        """Return a packet with the relay's TCP port in place of the publisher's, which is kept."""
        if not self._listening or data[3] not in _BEATS or len(data) < _PORT_AT + 2:
            return data
        (port,) = _PORT.unpack_from(data, _PORT_AT)
        if not port:
            return data
        assert self._service is not None
        self._service = (self._service[0], port)
        flags = int.from_bytes(data[4:6], "little")
        out = bytearray(data[:-TAG_SIZE] if flags & Flag.AUTH else data)
        _PORT.pack_into(out, _PORT_AT, self._listening)
        if not flags & Flag.AUTH:
            return bytes(out)
        assert self._sealer is not None, "packets carry tags: the plan needs the key"
        out[4:6] = (flags & ~Flag.AUTH).to_bytes(2, "little")
        return self._sealer.seal(bytes(out))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.stream is not None
        assert self._service is not None
        if not self.stream.accept() or not self._service[1]:
            writer.close()
            return
        try:
            to_reader, to_writer = await asyncio.open_connection(*self._service)
        except OSError:
            writer.close()
            return
        ways = ((reader, to_writer), (to_reader, writer))
        tasks = [asyncio.create_task(self._pump(source, sink)) for source, sink in ways]
        self._tasks.update(tasks)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            self._tasks.difference_update(tasks)
            for side in (writer, to_writer):
                side.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.stream is not None
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                part = self.stream.take(data)
                if part.delay_s:
                    await asyncio.sleep(part.delay_s)
                writer.write(part.data)
                await writer.drain()
                if part.close:
                    return
                if part.stall:
                    await asyncio.Event().wait()


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def _main(path: Path) -> None:
    relay, stop, loop = Relay(path), asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGHUP, relay.reload)
    await relay.run(stop)
    _say(relay.counts())


def main() -> None:
    """Run the plan named on the command line until SIGTERM."""
    asyncio.run(_main(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
