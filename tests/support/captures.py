"""Where the real recordings are, for tests: beside the project in `../shared/captures`, or in
`$TAPECAST_CAPTURES`.

Where they are absent, tests that need them are skipped, or fail if `$TAPECAST_REQUIRE_CAPTURES`
is 1 (as in CI).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["captures", "recordings"]


def captures() -> Path:
    """Return the folder of recordings; where it is absent skip the calling test, saying so, or
    fail it if they are required.
    """
    default = Path(__file__).resolve().parents[2].parent / "shared" / "captures"
    folder = Path(os.environ.get("TAPECAST_CAPTURES", default))
    if not folder.is_dir():
        message = f"recordings absent: {folder} (set TAPECAST_CAPTURES)"
        if os.environ.get("TAPECAST_REQUIRE_CAPTURES") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder


def recordings(venue: str) -> list[Path]:
    """Return every recording of one venue by file name, the long ones included; skip where they
    are absent.
    """
    folder = captures()
    long_names = {
        "binance": "binance_spot_*.jsonl.gz",
        "binance_futures": "binance_*usdm_*.jsonl.gz",
        "binance_coinm": "binance_coinm_*.jsonl.gz",
    }
    found = sorted((folder / venue).glob("*.jsonl")) + sorted((folder / venue).glob("*.jsonl.gz"))
    if venue in long_names:
        found += sorted((folder / "long").glob(long_names[venue]))
    return found
