"""Structured logs on stderr or in a file: an event key and fields, readable on a terminal, JSON
lines elsewhere.

Daemons log with `get(room).warning("connection_lost", venue=…)`; keys are snake_case and listed
in `docs/operations.md`. Libraries, which is all that a user's script may import, use the standard
`logging` with the same keys and `extra={…}` for the fields: a script decides what becomes of them,
and in a daemon they come out as the same kind of line. Nothing is logged per packet. A process
calls `configure` once (before that: level info, format auto).

Secrets never get out: values of fields whose name says that they are secret are replaced, and so
are secrets inside URLs, headers and JSON texts, and every value that `hide` was given, wherever
it stands. Control characters from a venue's text never reach a terminal; a long text is cut
between characters. Writing a log never fails its caller (`runtime.log_sink`). stdout stays free
for data.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

from tapecast.runtime.errors import ConfigError
from tapecast.runtime.log_sink import FileSink, StreamSink

if TYPE_CHECKING:
    from tapecast.runtime.settings import Log

__all__ = ["REDACTED", "configure", "configure_from", "get", "hide", "lost", "redacted"]

REDACTED = "[redacted]"
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_SECRET_NAME = re.compile(
    r"secret|passphrase|password|credential|authorization|signature|private_?key|api_?key|app_?key|listen_?key|(^|_)(token|jwt)$",
    re.I,
)
_NAMES = (
    r"(?:[\w-]{0,20}(?:secret|token|passphrase|password|signature|authorization)[\w-]{0,20}"
    r"|(?:api|app|listen|private)_?key|jwt)"
)
_SECRET_IN_TEXT = re.compile(
    rf"""(\b{_NAMES}=)[^&\s"']+"""  # a query, a form
    # JSON, also quoted inside JSON, and Python's notation
    rf"""|(\\?["']{_NAMES}\\?["']\s*:\s*\\?["'])[^"'\\]+"""
    rf"""|(\b(?:Bearer\s+|Basic\s+(?=[\w.~+/=-]{{8}})))[\w.~+/=-]+""",  # a header
    re.I,
)
_TEXT_LIMIT = 8000
"""Characters of one text: a line stays below the 48 KiB at which journald cuts one in two,
whatever is in the text.
"""
_SHORTEST_SECRET = 6
"""Characters: what is shorter would hide ordinary words."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_Event = MutableMapping[str, object]

_OURS = "tapecast"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes that every record of `logging` has; what else one carries came as `extra`."""
_LINE = frozenset({"event", "room", "level", "timestamp"})
"""Fields that each line has anyway: one of that name gets an underscore."""

_hidden: set[str] = set()
_sink: StreamSink | FileSink = StreamSink(None)


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    format: Literal["auto", "console", "json"] = "auto",
    *,
    stream: TextIO | None = None,
) -> None:
    """Set up logging for this process; `auto` is the console format where `stream` (None =
    stderr) is a terminal.
    """
    terminal = (stream or sys.stderr).isatty()
    _configure(
        level,
        StreamSink(stream),
        console=format == "console" or (format == "auto" and terminal),
        colors=terminal,
    )


def configure_from(settings: Log, process: str) -> None:
    """Set up logging of a process that is ours alone, `process` its name: our libraries at the
    configured level, those of others from warnings on. Raises ConfigError where its file cannot
    be written.
    """
    level = _LEVELS[settings.level]
    logging.basicConfig(handlers=[_Bridge()], level=max(level, logging.WARNING), force=True)
    logging.getLogger(_OURS).setLevel(level)
    if not settings.dir:
        configure(settings.level, settings.format)
        return
    try:
        sink = FileSink(
            Path(settings.dir) / f"{process}.log", settings.file_mb << 20, settings.files
        )
    except OSError as error:
        raise ConfigError([f"log.dir = {settings.dir!r}: {error.strerror}"]) from error
    _configure(settings.level, sink, console=settings.format == "console", colors=False)


def hide(secret: str) -> None:
    """Replace this text wherever it would be logged from now on; whoever reads a credential
    calls it.
    """
    if len(secret) >= _SHORTEST_SECRET:
        _hidden.add(secret)


def redacted(text: str) -> str:
    """Return a text without its secrets."""
    for secret in _hidden:
        text = text.replace(secret, REDACTED)
    return _SECRET_IN_TEXT.sub(lambda found: f"{found[1] or found[2] or found[3]}{REDACTED}", text)


def lost() -> int:
    """Return how many lines could not be written."""
    return _sink.lost


def _configure(level: str, sink: StreamSink | FileSink, *, console: bool, colors: bool) -> None:
    global _sink
    if isinstance(_sink, FileSink):
        _sink.close()
    _sink = sink
    stamp = structlog.processors.TimeStamper(
        fmt="%H:%M:%S.%f" if console else "iso", utc=not console
    )
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        stamp,
        structlog.processors.format_exc_info,
        _redact,
    ]
    render: list[Processor] = (
        [_printable, structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False)]
        if console
        else [structlog.processors.JSONRenderer(serializer=_json)]
    )
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _Logger(sink),
        cache_logger_on_first_use=False,
    )


class _Logger:
    """What structlog hands finished lines to."""

    def __init__(self, sink: StreamSink | FileSink) -> None:
        self.msg = self.debug = self.info = self.warning = self.error = self.critical = (
            self.exception
        ) = sink.write


class _Bridge(logging.Handler):
    """Takes what libraries log with the standard `logging` module."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on, with the fields of its `extra`."""
        fields = {
            f"{name}_" if name in _LINE else name: value
            for name, value in vars(record).items()
            if name not in _STANDARD
        }
        logger = structlog.get_logger(room=record.name.removeprefix(f"{_OURS}."))
        logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info, **fields)


def get(room: str, **fields: object) -> FilteringBoundLogger:
    """Return a logger of `room` (the dotted name of the module) with fields that each of its
    lines carries.
    """
    logger: FilteringBoundLogger = structlog.get_logger(room=room, **fields)
    return logger


def _json(event: _Event, **_: object) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _redact(_logger: object, _method: str, event: _Event) -> _Event:
    return {name: _clean(name, value) for name, value in event.items()}


def _clean(name: str, value: object) -> object:
    if _SECRET_NAME.search(name):
        return REDACTED
    if isinstance(value, str):
        text = redacted(value[: 2 * _TEXT_LIMIT])
        return (
            text
            if len(text) <= _TEXT_LIMIT
            else f"{text[:_TEXT_LIMIT]}… ({len(value) - _TEXT_LIMIT} more characters)"
        )
    if isinstance(value, bytes):
        return _clean(name, value.decode("utf-8", "backslashreplace"))
    if isinstance(value, dict):
        return {key: _clean(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(name, item) for item in value]
    return value if isinstance(value, int | float | None) else _clean(name, str(value))


def _printable(_logger: object, _method: str, event: _Event) -> _Event:
    return {
        name: (
            _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
            if isinstance(value, str)
            else value
        )
        for name, value in event.items()
    }


configure()  # structlog's own default is stdout, which belongs to data
