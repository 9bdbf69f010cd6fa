"""Background tasks of a daemon: held, named, and never silent when they fail.

A failed task ends nothing else: whoever needs its result awaits it, and what must go on repeats
by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tapecast.runtime import logs

__all__ = ["Tasks"]

T = TypeVar("T")


class Tasks:
    """The tasks of one owner. `fields` stand in the log's line of a failure."""

    def __init__(self, room: str, **fields: object) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._log = logs.get(room, **fields)

    def __len__(self) -> int:
        """Return how many are running."""
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, T], name: str = "") -> asyncio.Task[T]:
        """Start a task in the running loop; its name is that of the coroutine unless given."""
        task = asyncio.create_task(work, name=name or getattr(work, "__qualname__", ""))
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    async def cancel(self) -> None:
        """Cancel all tasks and return when each has ended."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log = self._log
            log.error("task_failed", task=task.get_name(), error=repr(error), exc_info=error)
