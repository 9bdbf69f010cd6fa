"""ZeroMQ publish and subscribe over loopback TCP, for the fan-out benchmark: one process
publishes, every receiver is another.

Messages are the same packets, one a message; nothing is validated or put in order, which is to
the peer's favour. High-water marks are off, so nothing is dropped and the publisher never waits.
"""

from __future__ import annotations

import time
from multiprocessing.connection import Connection

import numpy as np

from tapecast.protocol.schema import HEADER

__all__ = ["receive", "send"]

_OFFSET = next(field.offset for field in HEADER.fields if field.name == "ts_send_ns")
_STAMP = slice(_OFFSET, _OFFSET + 8)


def receive(pipe: Connection, number: int) -> None:
    """Connect to the port that comes over the pipe, say `ready` after a first message, take
    `number` messages and report.
    """
    import zmq

    socket = zmq.Context().socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(f"tcp://127.0.0.1:{pipe.recv()}")
    socket.recv()
    pipe.send("ready")
    latencies = np.zeros(number, np.int64)
    got = 0
    while got < number:
        message = socket.recv()
        if len(message) > 1:
            latencies[got] = time.time_ns() - int.from_bytes(message[_STAMP], "little")
            got += 1
    pipe.send((got, 0, time.time_ns(), latencies))


def send(pipes: list[Connection], packets: list[bytes], number: int) -> tuple[int, float]:
    """Wait until every receiver is connected, publish, and return when it began (UTC ns) and how
    long sending took (s).
    """
    import zmq

    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    socket.setsockopt(zmq.SNDHWM, 0)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    for pipe in pipes:
        pipe.send(port)
    waiting = list(pipes)
    while waiting:
        socket.send(b"\0")
        time.sleep(0.01)
        waiting = [pipe for pipe in waiting if not pipe.poll()]
    for pipe in pipes:
        pipe.recv()
    messages = [bytearray(packet) for packet in packets]
    started_ns = time.time_ns()
    for position in range(number):
        message = messages[position % len(messages)]
        message[_STAMP] = time.time_ns().to_bytes(8, "little")
        socket.send(message)
    taken_s = (time.time_ns() - started_ns) / 1e9
    for pipe in pipes:
        pipe.poll(60.0)
    context.destroy(linger=0)
    return started_ns, taken_s
