"""`runtime.errors`: messages that name the place, and the exit code of each class."""

from __future__ import annotations

from tapecast.runtime.errors import (
    ConfigError,
    RecordingError,
    TapecastError,
    TryAgainError,
    VenueError,
)


def test_a_venue_error_names_venue_symbol_and_offset() -> None:
    """Whatever is known about the place stands in the message, whatever is not is left out."""
    assert (
        str(VenueError("okx", "level is not a pair", symbol="BTC-USDT", offset=17))
        == "okx BTC-USDT: level is not a pair at byte 17"
    )
    assert str(VenueError("okx", "refused")) == "okx: refused"


def test_a_recording_error_names_file_and_line() -> None:
    """The form that editors and terminals turn into a link; line 0 is the whole file."""
    assert str(RecordingError("a.jsonl", 12, "not JSON")) == "a.jsonl:12: not JSON"
    assert str(RecordingError("a.jsonl", 0, "cannot be read")) == "a.jsonl: cannot be read"


def test_exit_codes_tell_the_classes_apart() -> None:
    """1 runtime, 2 configuration, 75 try again."""
    codes = [
        TapecastError("x").exit_code,
        VenueError("okx", "x").exit_code,
        ConfigError(["x"]).exit_code,
        TryAgainError("x").exit_code,
    ]
    assert codes == [1, 1, 2, 75]
