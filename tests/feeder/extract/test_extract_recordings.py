"""Every recording of the sample venues: the C extractor and the reference agree frame by frame,
byte by byte.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tapecast.feeder.extract.types import ExtractStatus
from tests.support.captures import recordings
from tests.support.extract_pair import Pair
from tests.support.shapes_sample import VENUES, frames

_LIMIT = None if os.environ.get("TAPECAST_FULL_RECORDINGS") else 1500


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_both_extractors_agree_on_every_recording(venue: str) -> None:
    """ExtractStatus, fields and packet bytes are equal for every frame, and none of a live feed's
    frames is declined.
    """
    seen: Counter[ExtractStatus] = Counter()
    for path in recordings(venue):
        pair = Pair(VENUES[venue])
        rest = pair.add("REST", 0, 0)
        for frame in frames(path, _LIMIT):
            seen[pair.settle(frame.raw, index=rest if frame.is_rest else None)] += 1
        assert pair.declined == 0, path.name
    assert seen[ExtractStatus.OK] > (2 if venue == "ls" else 100), (
        "of LS there are the documentation's single messages"
    )
    assert set(seen) <= {ExtractStatus.OK, ExtractStatus.NO_SHAPE, ExtractStatus.SUPPRESSED}
