"""Reads what a market is like: the data files of `config/markets`, each as one typed value.
Evidence stands in the files.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from tapecast.runtime.config import DEFAULTS
from tapecast.runtime.errors import ConfigError

__all__ = ["read_market"]

T = TypeVar("T")


def read_market(name: str, kind: type[T], folder: Path = DEFAULTS / "markets") -> T:
    """Return the content of `<name>.toml`. Raises ConfigError, which names the file and what is
    wrong with it.
    """
    path = folder / f"{name}.toml"
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), kind)
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError([f"{path}: {error}"]) from error
