"""Recordings of venue frames as a source of packets, for `Feed.replay`.

Joins what neither side may import of the other: the feeder decodes the recording
(`feeder.offline`), a consumer's source hands its packets out. `consumers.feed.replay` finds
`open_recording` by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tapecast.consumers.feed.source import Chunks
from tapecast.feeder.offline import Offline
from tapecast.feeder.replay.venues import by_venue
from tapecast.feeder.venues import venue

__all__ = ["open_recording"]


def open_recording(paths: Sequence[Path], speed: float | None) -> Chunks:
    """Return the packets that a feeder would publish from recordings; the venue
    comes from folder or file name.

    Raises ValueError where they do not, or for a speed that is not above 0.
    """
    groups = by_venue(paths)

    def packets() -> Iterator[bytes]:
        for name, files in groups.items():
            for step in Offline(venue(name), files).run():
                yield step.packets

    return Chunks(packets(), speed=speed)
