"""Keys and passwords: from systemd credentials or the environment, never from the configuration,
a command line or a log.

The secret `LS_APPKEY` is the file `ls_appkey` in `$CREDENTIALS_DIRECTORY` (systemd's
LoadCredential), else the variable `TAPECAST_LS_APPKEY`. A secret shows its value to nobody who
only prints it, and no log line that holds it does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tapecast.runtime import logs

__all__ = ["Secret", "describe", "find", "variable"]

_LONGEST = 4096


class Secret:
    """A text that is not printed; `reveal` gives it to the code that sends it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        """Say that there is something, not what."""
        return "Secret(***)"


def find(name: str, environ: Mapping[str, str] | None = None) -> Secret | None:
    """Return a secret; None where it is missing or empty. Raises OSError for a credential that
    cannot be read.
    """
    environ = os.environ if environ is None else environ
    folder = environ.get("CREDENTIALS_DIRECTORY")
    text = ""
    if folder and (path := Path(folder) / name.lower()).exists():
        text = path.read_bytes()[:_LONGEST].decode("utf-8", "replace").strip()
    text = text or environ.get(variable(name), "").strip()
    if not text:
        return None
    logs.hide(text)
    return Secret(text)


def variable(name: str) -> str:
    """Return the environment variable of a secret."""
    return f"TAPECAST_{name}"


def describe(name: str) -> str:
    """Return how an operator provides a secret, for an error message."""
    return f"${variable(name)} (or the credential {name.lower()})"
