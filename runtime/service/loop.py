"""Run an asyncio process: uvloop, and SIGTERM or SIGINT as a request to end in good order.

The main coroutine gets a `Shutdown`; when a signal comes it is set, and the coroutine has
`grace_s` to drain (session end, files closed) before it is cancelled. A second signal cancels it
at once. What a process returns is an `ExitCode`.

A loop that has nothing to do sleeps in the kernel, and waking up costs tens of microseconds;
`busy_poll` never lets it sleep.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Collection

from tapecast.runtime import logs
from tapecast.runtime.errors import ConfigError, ExitCode

__all__ = ["Shutdown", "pin", "run"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Shutdown(asyncio.Event):
    """Set once the process shall end; `signal_name` says why, None where the process decided
    itself.
    """

    signal_name: str | None = None


def run(
    main: Callable[[Shutdown], Awaitable[int | None]],
    *,
    grace_s: float = 10.0,
    busy_poll: bool = False,
) -> int:
    """Run `main` until it returns and return its exit code (None = 0); cancelled after the grace
    period or a second signal = 1.

    With `busy_poll` the loop asks the kernel again and again instead of sleeping: it takes a
    whole processor and saves the wake-up. Exceptions of `main` come out as they are; the command
    line turns them into messages.
    """
    import uvloop  # here, so that commands without a loop start without it

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_supervise(main, grace_s, busy_poll))


def pin(cpus: Collection[int], key: str) -> None:
    """Let this process run on these processors only; none = wherever the system puts it.

    Raises ConfigError, naming the configuration `key`, for one that this process may not use.
    """
    if not cpus:
        return
    allowed = os.sched_getaffinity(0)
    if not set(cpus) <= allowed:
        raise ConfigError([f"{key}: {sorted(cpus)}: this process may run on {sorted(allowed)}"])
    os.sched_setaffinity(0, cpus)


def _spin(loop: asyncio.AbstractEventLoop) -> None:
    """Be ready to run again at once: with something ready, the loop does not wait in the kernel."""
    loop.call_soon(_spin, loop)


async def _supervise(
    main: Callable[[Shutdown], Awaitable[int | None]], grace_s: float, busy_poll: bool
) -> int:
    log = logs.get("runtime.service.loop")
    loop = asyncio.get_running_loop()
    if busy_poll:
        _spin(loop)
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
