"""How many examples a property test draws: all of them, or a share where a run says so.

A second run of the same tests against another build (the sanitizers') sets `TAPECAST_EXAMPLES` to
a share: it looks for faults of memory, which show on few examples, not for rare inputs.
"""

from __future__ import annotations

import os

__all__ = ["examples"]


def examples(number: int) -> int:
    """Return `number`, or that share of it which `TAPECAST_EXAMPLES` gives (above 0, at most 1)."""
    share = float(os.environ.get("TAPECAST_EXAMPLES", "1"))
    if not 0 < share <= 1:
        raise ValueError(f"TAPECAST_EXAMPLES={share:g}: above 0 and at most 1")
    return max(1, round(number * share))
