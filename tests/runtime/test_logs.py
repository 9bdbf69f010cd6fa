"""`runtime.logs`: one event a line, JSON where nobody watches, and nothing secret or harmful in it."""

from __future__ import annotations

import io
import json

import pytest

from runtime import logs


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def logged(stream: io.StringIO) -> list[dict[str, object]]:
    """Return the JSON lines."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_event_level_time_and_fields() -> None:
    """Away from a terminal every event is one JSON object."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.get("feeder.session", venue="okx").info("connected", attempt=2)
    (line,) = logged(stream)
    assert line.pop("timestamp")
    assert line == {"event": "connected", "level": "info", "room": "feeder.session", "venue": "okx", "attempt": 2}


def test_a_terminal_gets_readable_text() -> None:
    """The automatic format follows the stream."""
    stream = Terminal()
    logs.configure(stream=stream)
    logs.get("feeder.session").info("connected", venue="okx")
    assert "connected" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_the_level_filters() -> None:
    """What is below the level is not written."""
    stream = io.StringIO()
    logs.configure("warning", "json", stream=stream)
    logger = logs.get("x")
    logger.info("quiet")
    logger.warning("loud")
    assert [line["event"] for line in logged(stream)] == ["loud"]


@pytest.mark.parametrize(
    "name", ["api_key", "apikey", "secret", "passphrase", "access_token", "token", "listenKey", "Authorization"]
)
def test_fields_with_secret_names_are_redacted(name: str) -> None:
    """The value never reaches the stream, at the top or inside a table."""
    stream = io.StringIO()
    logs.configure("debug", "json", stream=stream)
    logs.get("x").info("signed", **{name: "hunter2"}, headers={name: "hunter2", "host": "h"})
    assert "hunter2" not in stream.getvalue()
    assert logged(stream)[0]["headers"] == {name: logs.REDACTED, "host": "h"}


def test_ordinary_names_are_not_redacted() -> None:
    """A key that only sounds like a secret keeps its value."""
    stream = io.StringIO()
    logs.configure("debug", "json", stream=stream)
    logs.get("x").info("subscribed", tr_key="005930", key="network.ttl", tokens=3)
    assert logs.REDACTED not in stream.getvalue()


def test_secrets_inside_a_url_are_redacted() -> None:
    """A signed URL is logged without its signature."""
    stream = io.StringIO()
    logs.configure("debug", "json", stream=stream)
    logs.get("x").info("request", url="https://api.example/v3/order?symbol=BTCUSDT&signature=c0ffee&x=1")
    assert logged(stream)[0]["url"] == f"https://api.example/v3/order?symbol=BTCUSDT&signature={logs.REDACTED}&x=1"


@pytest.mark.parametrize(
    "text",
    [
        "appkey=c0ffee&appsecretkey=c0ffee",
        "header authorization: Bearer c0ffee",
        '{"header":{"token":"c0ffee","tr_type":"3"}}',
        'b\'{\\"access_token\\": \\"c0ffee\\"}\'',
    ],
)
def test_tokens_inside_a_text_are_redacted(text: str) -> None:
    """A login's form, a header, a subscription, an answer: whatever else the text says stays."""
    stream = io.StringIO()
    logs.configure("debug", "json", stream=stream)
    logs.get("x").info("told", text=text)
    assert "c0ffee" not in stream.getvalue()
    assert logs.REDACTED in logged(stream)[0]["text"]


def test_control_characters_never_reach_a_terminal() -> None:
    """A venue's text cannot move the cursor or change colours."""
    stream = Terminal()
    logs.configure(stream=stream)
    logs.get("x").info("notice", text="a\x1b[2Jb")
    assert "\x1b[2J" not in stream.getvalue()
    assert "\\x1b[2J" in stream.getvalue().replace("\\\\", "\\")


def test_an_exception_is_one_json_line() -> None:
    """The traceback is a field, so that lines stay lines."""
    stream = io.StringIO()
    logs.configure("info", "json", stream=stream)
    try:
        raise ValueError("bad frame")
    except ValueError:
        logs.get("x").exception("parse_failed")
    (line,) = logged(stream)
    assert "ValueError: bad frame" in str(line["exception"])


def test_without_set_up_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to data from the first import on."""
    logs.configure()
    logs.get("x").info("hello")
    out, err = capsys.readouterr()
    assert (out, json.loads(err)["event"]) == ("", "hello")
