"""`tests.support.captures`: absent recordings skip a test by hand and fail it in CI, never
pass it.
"""

from __future__ import annotations

import pytest

from tests.support.captures import captures


@pytest.mark.parametrize(("required", "outcome"), [("0", "Skipped"), ("1", "Failed")])
def test_absent_recordings_are_never_a_success(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: str
) -> None:
    """The message names the folder that was looked for."""
    monkeypatch.setenv("TAPECAST_CAPTURES", "/nonexistent/captures")
    monkeypatch.setenv("TAPECAST_REQUIRE_CAPTURES", required)
    kinds = {"Skipped": pytest.skip.Exception, "Failed": pytest.fail.Exception}
    with pytest.raises(kinds[outcome], match="/nonexistent/captures"):
        captures()
