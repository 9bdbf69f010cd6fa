"""`runtime.service.loop`: a process ends in good order when it is asked to, and ends anyway when
it is asked twice.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket

import pytest
import uvloop

from tapecast.runtime.errors import ConfigError, ExitCode
from tapecast.runtime.service import loop
from tapecast.runtime.service.loop import Shutdown


def test_it_runs_on_uvloop_and_returns_the_code() -> None:
    """The coroutine's integer is the exit code, None is 0."""

    async def main(_: Shutdown) -> int:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        return 75

    async def silent(_: Shutdown) -> None:
        return None

    assert loop.run(main) == 75
    assert loop.run(silent) == ExitCode.OK


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_an_orderly_end(number: signal.Signals) -> None:
    """The coroutine sees the event, finishes its work and decides the code."""
    done: list[str | None] = []

    async def main(shutdown: Shutdown) -> int:
        os.kill(os.getpid(), number)
        await shutdown.wait()
        done.append(shutdown.signal_name)
        return 0

    assert loop.run(main) == 0
    assert done == [number.name]


def test_a_second_signal_cancels() -> None:
    """Who asks twice does not wait for the goodbye."""

    async def main(shutdown: Shutdown) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        await shutdown.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
        return 0

    assert loop.run(main) == ExitCode.RUNTIME


def test_the_grace_period_is_bounded() -> None:
    """A coroutine that never says goodbye is cancelled after `grace_s`."""

    async def main(shutdown: Shutdown) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
        return 0

    assert loop.run(main, grace_s=0.01) == ExitCode.RUNTIME


def test_an_exception_comes_out_and_the_handlers_are_gone() -> None:
    """Failures are the caller's to explain; the process's own signal handling is restored."""

    async def main(_: Shutdown) -> int:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        loop.run(main)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_busy_polling_never_sleeps_and_still_serves() -> None:
    """Timers and sockets work as ever, and meanwhile the process hardly ever leaves its
    processor of its own will.
    """

    async def main(_: Shutdown) -> int:
        reader, writer = socket.socketpair()
        with reader, writer:
            reader.setblocking(False)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
            for _ in range(50):
                await asyncio.sleep(0.001)
            slept = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before
            writer.send(b"x")
            assert await asyncio.get_running_loop().sock_recv(reader, 1) == b"x"
        return slept

    assert loop.run(main) >= 40
    assert loop.run(main, busy_poll=True) < 25


def test_a_process_is_pinned_to_the_processors_named() -> None:
    """None changes nothing; one that it may not use is an error that names the key."""
    allowed = os.sched_getaffinity(0)
    try:
        loop.pin((), "feeder.cpus")
        assert os.sched_getaffinity(0) == allowed
        loop.pin([min(allowed)], "feeder.cpus")
        assert os.sched_getaffinity(0) == {min(allowed)}
        with pytest.raises(ConfigError, match=r"feeder\.cpus"):
            loop.pin([4095], "feeder.cpus")
    finally:
        os.sched_setaffinity(0, allowed)
