"""What the integration tests share: groups of their own, and processes that are ended whatever
happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.processes import Child, Net, tapecast


@pytest.fixture
def net() -> Net:
    """Multicast groups and a port that no other test uses."""
    return Net()


@pytest.fixture
def start(tmp_path: Path, net: Net) -> Iterator[Callable[..., Child]]:
    """Return a function that starts `tapecast WORDS…` on this test's groups; what still runs at
    the end of the test is ended.
    """
    with ExitStack() as stack:

        def run(
            *words: str | Path,
            settings: dict[str, object] | None = None,
            name: str = "",
            **options: object,
        ) -> Child:
            label = name or f"{words[0]}{len(stack._exit_callbacks)}"  # type: ignore[attr-defined]
            child = tapecast(
                tmp_path,
                *words,
                name=label,
                settings={**net.settings, **(settings or {})},
                **options,
            )  # type: ignore[arg-type]
            stack.enter_context(child)
            return child

        yield run
