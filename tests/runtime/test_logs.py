"""`runtime.logs`: one event a line, JSON where nobody watches, and nothing secret or harmful
in it.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapecast.runtime import logs
from tapecast.runtime.errors import ConfigError
from tapecast.runtime.log_sink import FileSink
from tapecast.runtime.settings import Log


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave neither our handler of the standard `logging` nor hidden values behind."""
    handlers, level = logging.root.handlers[:], logging.root.level
    ours = logging.getLogger("tapecast").level
    yield
    logging.getLogger("tapecast").setLevel(ours)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logs._hidden.clear()
    logs.configure()


def logged(stream: io.StringIO) -> list[dict[str, object]]:
    """Return the JSON lines."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_event_level_time_and_fields() -> None:
    """Away from a terminal every event is one JSON object."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.get("feeder.session.session", venue="okx").info("connected", attempt=2)
    (line,) = logged(stream)
    assert line.pop("timestamp")
    assert line == {
        "event": "connected",
        "level": "info",
        "room": "feeder.session.session",
        "venue": "okx",
        "attempt": 2,
    }


def test_a_terminal_gets_readable_text() -> None:
    """The automatic format follows the stream."""
    stream = Terminal()
    logs.configure(stream=stream)
    logs.get("feeder.session.session").info("connected", venue="okx")
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
    "name",
    [
        "api_key",
        "apikey",
        "secret",
        "passphrase",
        "access_token",
        "token",
        "listenKey",
        "Authorization",
    ],
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
    logs.get("x").info(
        "request", url="https://api.example/v3/order?symbol=BTCUSDT&signature=c0ffee&x=1"
    )
    assert (
        logged(stream)[0]["url"]
        == f"https://api.example/v3/order?symbol=BTCUSDT&signature={logs.REDACTED}&x=1"
    )


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


@pytest.mark.parametrize(
    "text",
    [
        '{"header":{"token":"hunter2secret","tr_type":"3"}}',
        r"{\"appsecretkey\": \"hunter2secret\"}",
        "{'Authorization': 'Bearer hunter2secret'}",
        "Authorization: Bearer hunter2secret",
        "https://host/x?a=1&apiKey=hunter2secret",
        "wss://host/ws?listenKey=hunter2secret",
        "grant_type=client_credentials&appkey=hunter2secret&scope=oob",
    ],
)
def test_secrets_inside_any_text_are_redacted(text: str) -> None:
    """JSON, JSON quoted in JSON, headers, queries and forms, wherever they were put into a
    message.
    """
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.get("x").info(text, reply=text, several=[text], raw=text.encode())
    assert "hunter2secret" not in stream.getvalue()
    assert logs.REDACTED in stream.getvalue()


def test_a_hidden_value_never_gets_out() -> None:
    """A credential that was told to `hide` is replaced in events, fields, tracebacks and what
    libraries log.
    """
    stream = io.StringIO()
    logs.configure_from(LOG, "feed-ls")
    logs.configure(stream=stream)
    logs.hide("pa55phrase")
    logs.hide("no")
    try:
        raise ValueError("login with pa55phrase failed")
    except ValueError:
        logs.get("x").exception("pa55phrase", text="is pa55phrase, no?")
    logging.getLogger("aiohttp.client").error("sent %s", "pa55phrase")
    assert "pa55phrase" not in stream.getvalue()
    first, second = logged(stream)
    assert "ValueError: login with [redacted] failed" in str(first["exception"])
    assert first["text"] == "is [redacted], no?"
    assert (second["room"], second["event"], second["level"]) == (
        "aiohttp.client",
        "sent [redacted]",
        "error",
    )


def test_a_library_keeps_its_fields_in_a_daemon() -> None:
    """What our libraries log with the standard module is a line like a daemon's: event key,
    fields of `extra`, traceback; and secrets in it are hidden all the same.
    """
    stream = io.StringIO()
    logs.configure_from(LOG, "feed-okx")
    logs.configure(stream=stream)
    library = logging.getLogger("tapecast.protocol.publish.recovery_service")
    library.info("recovery_listening", extra={"venue": "okx", "port": 5, "token": "hunter2"})
    library.debug("below_the_level")
    try:
        raise ValueError("broken")
    except ValueError:
        library.exception("recovery_step_failed", extra={"level": 3})
    logging.getLogger("aiohttp.client").info("of no interest")
    first, second = logged(stream)
    assert first.pop("timestamp")
    assert first == {
        "event": "recovery_listening",
        "level": "info",
        "room": "protocol.publish.recovery_service",
        "venue": "okx",
        "port": 5,
        "token": logs.REDACTED,
    }
    assert (second["level"], second["level_"]) == ("error", 3)
    assert "ValueError: broken" in str(second["exception"])


def test_a_long_text_is_cut_between_characters() -> None:
    """A line stays below what a journal takes as one, and is valid UTF-8 and JSON whatever
    stands at the cut.
    """
    stream = io.StringIO()
    logs.configure(stream=stream)
    for shift in range(5):
        logs.get("x").info("reply", body="a" * shift + "한€😀" * 10_000)
    for shift, line in enumerate(logged(stream)):
        body = str(line["body"])
        assert body.startswith("a" * shift + "한€😀"[:3])
        assert body.endswith(f"({30_000 + shift - 8000} more characters)")
        assert "\ufffd" not in body
    assert max(len(line.encode()) for line in stream.getvalue().splitlines()) < 48 << 10


LOG = Log(level="info", format="json", dir="", file_mb=1, files=2)


def test_a_folder_gets_a_file_for_each_process(tmp_path: Path) -> None:
    """Named by the process, JSON lines, appended to over restarts."""
    settings = Log(level="info", format="auto", dir=str(tmp_path / "logs"), file_mb=1, files=2)
    for attempt in (1, 2):
        logs.configure_from(settings, "feed-okx")
        logs.get("feeder.live").info("connected", attempt=attempt)
        logs.configure_from(settings, "feed-upbit")
        logs.get("feeder.live").info("other")
    file = tmp_path / "logs" / "feed-okx.log"
    assert [json.loads(line)["attempt"] for line in file.read_text().splitlines()] == [1, 2]


def test_a_folder_that_cannot_be_used_is_an_error_that_names_the_key(tmp_path: Path) -> None:
    """At the start, not with the first line."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"log\.dir = "):
        logs.configure_from(
            Log(level="info", format="auto", dir=str(tmp_path / "file"), file_mb=1, files=2), "up"
        )


def test_files_rotate_between_lines_and_old_ones_go(tmp_path: Path) -> None:
    """Each file holds whole lines, no file is larger than the limit, the newest lines are kept."""
    path = tmp_path / "feed.log"
    sink = FileSink(path, 1000, 2)
    for number in range(100):
        sink.write(f"{number:03d} 한€😀" + "x" * (number % 50))
    sink.close()
    files = [path.with_name("feed.log.2"), path.with_name("feed.log.1"), path]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    numbers = [
        int(line[:3]) for file in files for line in file.read_bytes().decode("utf-8").splitlines()
    ]
    assert numbers == list(range(numbers[0], 100))
    assert all(file.stat().st_size <= 1000 for file in files)


def test_half_a_line_of_a_killed_process_does_not_spoil_the_next(tmp_path: Path) -> None:
    """Also when it ends inside a character: the next line begins on a line of its own."""
    path = tmp_path / "feed.log"
    path.write_bytes('{"event": "한'.encode()[:-1])
    sink = FileSink(path, 1000, 2)
    sink.write("whole")
    sink.close()
    assert path.read_bytes().splitlines()[1] == b"whole"


def test_a_log_that_cannot_be_written_costs_lines_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk or a closed stream: the caller goes on, lost lines are counted, and writing
    resumes.
    """
    logs.configure_from(
        Log(level="info", format="auto", dir=str(tmp_path), file_mb=1, files=2), "feed"
    )
    write = os.write

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    logs.get("x").error("lost")
    logs.get("x").error("lost too")
    monkeypatch.setattr(os, "write", write)
    logs.get("x").error("kept")
    assert logs.lost() == 2
    assert [
        json.loads(line)["event"] for line in (tmp_path / "feed.log").read_text().splitlines()
    ] == ["kept"]
    closed = io.StringIO()
    logs.configure(stream=closed)
    closed.close()
    logs.get("x").error("nobody hears")
    assert logs.lost() == 1
