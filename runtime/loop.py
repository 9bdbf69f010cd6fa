"""Run an asyncio process: uvloop, and SIGTERM or SIGINT as a request to end in good order.

The main coroutine gets a `Shutdown`; when a signal comes it is set, and the coroutine has `grace_s` to say goodbye (session end,
files closed) before it is cancelled. A second signal cancels it at once. What a process returns is an `ExitCode`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from runtime import logs
from runtime.errors import ExitCode

__all__ = ["Shutdown", "run"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Shutdown(asyncio.Event):
    """Set once the process shall end; `signal_name` says why, None where the process decided itself."""

    signal_name: str | None = None


def run(main: Callable[[Shutdown], Awaitable[int | None]], *, grace_s: float = 10.0) -> int:
    """Run `main` until it returns and return its exit code (None = 0); cancelled after the grace period or a second signal = 1.

    Exceptions of `main` come out as they are; the command line turns them into messages.
    """
    import uvloop  # here, so that commands without a loop start without it

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_supervise(main, grace_s))


async def _supervise(main: Callable[[Shutdown], Awaitable[int | None]], grace_s: float) -> int:
    log = logs.get("runtime.loop")
    loop = asyncio.get_running_loop()
    shutdown = Shutdown()
    task = asyncio.ensure_future(main(shutdown))

    def overdue() -> None:
        log.error("shutdown_overdue", grace_s=grace_s)
        task.cancel()

    def requested(name: str) -> None:
        if shutdown.is_set():
            log.warning("shutdown_forced", signal=name)
            task.cancel()
            return
        log.info("shutdown_requested", signal=name)
        shutdown.signal_name = name
        shutdown.set()
        loop.call_later(grace_s, overdue)

    for number in _SIGNALS:
        loop.add_signal_handler(number, requested, number.name)
    try:
        code = await task
    except asyncio.CancelledError:
        return ExitCode.RUNTIME
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    return ExitCode.OK if code is None else code
