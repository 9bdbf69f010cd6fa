"""Structured logs on stderr: an event name and fields, readable on a terminal, JSON lines elsewhere.

`configure` is called once by the process (before that: level info, format auto), `get` by whoever has something to say; never per
packet. Values of fields whose name says that they are secret are replaced, and so are secrets inside URLs; control characters
from a venue's text never reach a terminal. stdout stays free for data.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Literal, TextIO

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

__all__ = ["REDACTED", "configure", "get"]

REDACTED = "[redacted]"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_SECRET_NAME = re.compile(
    r"secret|passphrase|password|credential|authorization|signature|private_?key|api_?key|app_?key|listen_?key|(^|_)(token|jwt)$",
    re.I,
)
_SECRET_IN_TEXT = re.compile(
    r"((?:secret|secretkey|token|signature|api_?key|app_?key|listen_?key|password)=|bearer\s+|token\\?\"\s*:\s*\\?\")[^&\s\"'\\]+",
    re.I,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_Event = MutableMapping[str, object]


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    format: Literal["auto", "console", "json"] = "auto",
    *,
    stream: TextIO | None = None,
) -> None:
    """Set up logging for this process; `auto` is the console format where `stream` (None = stderr) is a terminal."""
    terminal = (stream or sys.stderr).isatty()
    console = format == "console" or (format == "auto" and terminal)
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if console else "iso", utc=not console)
    shared: list[Processor] = [structlog.processors.add_log_level, stamp, _redact]
    render: list[Processor] = (
        [_printable, structlog.dev.ConsoleRenderer(colors=terminal, sort_keys=False)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    )
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: structlog.WriteLogger(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def get(room: str, **fields: object) -> FilteringBoundLogger:
    """Return a logger of `room` (the dotted name of the module) with fields that each of its lines carries."""
    logger: FilteringBoundLogger = structlog.get_logger(room=room, **fields)
    return logger


def _json(event: _Event, **_: object) -> str:
    return orjson.dumps(event, default=str).decode()


def _redact(_logger: object, _method: str, event: _Event) -> _Event:
    return {name: _clean(name, value) for name, value in event.items()}


def _clean(name: str, value: object) -> object:
    if _SECRET_NAME.search(name):
        return REDACTED
    if isinstance(value, str):
        return _SECRET_IN_TEXT.sub(rf"\1{REDACTED}", value)
    if isinstance(value, dict):
        return {key: _clean(str(key), item) for key, item in value.items()}
    return value


def _printable(_logger: object, _method: str, event: _Event) -> _Event:
    return {
        name: _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value) if isinstance(value, str) else value
        for name, value in event.items()
    }


configure()  # structlog's own default is stdout, which belongs to data
