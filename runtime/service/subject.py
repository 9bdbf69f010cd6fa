"""What a daemon runs: the one thing that a feeder's process, a recorder's and a host of consumers
have to bring along; everything else they share (`runtime.service.daemon`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["Health", "Subject"]


class Health(NamedTuple):
    """How a process is: why it is not healthy, why it is not ready, and what else is worth
    knowing. No reason = good.
    """

    unhealthy: tuple[str, ...]
    unready: tuple[str, ...]
    """Beside those above."""
    details: dict[str, object]


class Subject(Protocol):
    """The work of a process. `now_ns` is monotonic time.

    All but `run` are called by the service in the same event loop, many times a second, and must
    be cheap; they are called before `run` has begun and after it has ended, too.
    """

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain and return. What it raises ends the process."""
        ...

    def stuck(self, now_ns: int) -> Sequence[str]:
        """Return why only a new start would help; nothing = it works. While there is a reason,
        the watchdog is not fed. Not asked while the process drains.
        """
        ...

    def serving(self) -> bool:
        """Return whether data have gone out: then the process is ready."""
        ...

    def status(self) -> str:
        """Return a line for the manager's list of services."""
        ...

    def health(self, now_ns: int) -> Health:
        """Return how it is."""
        ...

    def metrics(self, now_ns: int) -> Iterable[Metric]:
        """Return everything it counts."""
        ...
