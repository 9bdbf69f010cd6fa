"""The one entry of every daemon: `tapecast feed`, `tapecast record`, and the hosts of consumers.

`run` sets up the log, takes the processors, starts the event loop and shows the subject to the
service manager and to whoever scrapes it; the subject (`runtime.service.subject`) does the work.
Its life:

1. the log, pinning; then, in the loop, `make_subject()`;
2. the endpoint listens (exit code 75 where its port is in use), and `subject.run(stop)` begins;
3. READY once the subject serves data, or `service.ready_after_s` has passed;
4. the watchdog is fed by this loop, unless the subject says that it is stuck;
5. SIGTERM or SIGINT sets `stop`: STOPPING, and the subject has `drain_s` to end;
6. a second signal, or the deadline, cancels it (exit code 1).

Where each part lives: signals and deadline `runtime.service.loop`, readiness, watchdog and status
`runtime.service.service`, HTTP `runtime.service.endpoint`, background work of a subject
`runtime.service.tasks`. A process that only supervises others (`tapecast up`) needs the loop alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from tapecast.runtime import logs
from tapecast.runtime.errors import ExitCode, TapecastError
from tapecast.runtime.service.loop import Shutdown, pin
from tapecast.runtime.service.loop import run as run_loop
from tapecast.runtime.service.notify import Notifier
from tapecast.runtime.service.service import Service
from tapecast.runtime.service.subject import Subject
from tapecast.runtime.settings import Config

__all__ = ["run"]

log = logs.get("runtime.service.daemon")


def run(
    name: str,
    config: Config,
    make_subject: Callable[[], Subject],
    *,
    port: int | None = None,
    drain_s: float = 10.0,
    cpus: Collection[int] = (),
    cpus_key: str = "cpus",
    busy_poll: bool = False,
    notifier: Notifier | None = None,
) -> int:
    """Run a daemon until it is asked to end, and return its exit code.

    `name` is the process's in the log (`feed-okx`); `make_subject` is called once, in the event
    loop, and may open sockets. `port` of the endpoint: None = none, 0 = any. `cpus`: the only
    processors to run on, none = any; `cpus_key` names their setting in a message. `notifier`:
    None = the service manager of the environment.

    Raises ConfigError for a log or processors that cannot be had, TryAgainError where the port is
    in use, and what the subject raises; what nobody foresaw is logged first.
    """
    logs.configure_from(config.log, name)
    pin(cpus, cpus_key)

    async def live(stop: Shutdown) -> int:
        subject = make_subject()
        async with Service(config.service, subject, stop, port=port, notifier=notifier):
            try:
                await subject.run(stop)
            except TapecastError:
                # Explained on stderr by the command line, with its exit code.
                raise
            except Exception as error:
                log.error("daemon_failed", process=name, error=repr(error), exc_info=error)
                raise
        return ExitCode.OK

    return run_loop(live, grace_s=drain_s, busy_poll=busy_poll)
