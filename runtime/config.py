"""The effective configuration, from its layers: defaults → `/etc/tapecast/*.toml` →
`$TAPECAST_CONFIG` → environment → flags.

Which keys exist is `runtime.settings`; the defaults are `config/defaults.toml` and
`config/venues/<name>.toml` (its `[venue]` is `[venues.<name>]` everywhere else). Every value is
checked where it is read, so an error names its file or variable, the key and what was expected;
all problems are collected before any is raised. Nothing here knows what a venue does with its
settings.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeAlias, get_args, get_origin

import msgspec

from tapecast.runtime.errors import ConfigError
from tapecast.runtime.settings import Config, Venue, conflicts

__all__ = ["DEFAULTS", "SYSTEM", "Loaded", "check_files", "load", "load_layers"]

Table: TypeAlias = Mapping[str, object]

DEFAULTS = Path(__file__).resolve().parent.parent / "config"
SYSTEM = Path("/etc/tapecast")
PREFIX = "TAPECAST__"
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off", ""})


class Loaded(NamedTuple):
    """A configuration and where each value came from."""

    config: Config
    values: dict[str, object]
    """Dotted key to value, in the order of the sections."""
    origins: dict[str, str]
    """Dotted key to `default`, a file, a variable (`$NAME`) or a flag."""


def load(
    overlay: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    defaults: Path = DEFAULTS,
    system: Path = SYSTEM,
) -> Config:
    """Return the effective configuration; `overlay` holds the flags: dotted key to value, or to
    text as in a variable.

    Raises ConfigError with every problem of every layer.
    """
    return load_layers(overlay, environ=environ, defaults=defaults, system=system).config


def load_layers(
    overlay: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    defaults: Path = DEFAULTS,
    system: Path = SYSTEM,
) -> Loaded:
    """Return what `load` returns together with the origin of every value."""
    environ = os.environ if environ is None else environ
    layers = _Layers(defaults)
    named = Path(environ["TAPECAST_CONFIG"]) if environ.get("TAPECAST_CONFIG") else None
    for path in _toml_files(system):
        layers.file(path)
    if named is not None:
        if not named.exists():
            layers.problems.append(f"$TAPECAST_CONFIG: {named} does not exist")
        for path in _toml_files(named):
            layers.file(path)
    layers.environment(environ)
    for key, value in (overlay or {}).items():
        layers.assign(
            key.split("."), _Text(value) if isinstance(value, str) else value, f"--set {key}"
        )
    return layers.finish()


def check_files(paths: Iterable[Path], *, defaults: Path = DEFAULTS) -> list[str]:
    """Return every problem of each file, taken alone on top of the defaults."""
    problems: list[str] = []
    for path in paths:
        layers = _Layers(defaults)
        layers.file(path)
        try:
            layers.finish()
        except ConfigError as error:
            problems.extend(error.problems)
    return problems


class _Text(str):
    """Text of a variable or a flag: a TOML value where it parses as one that fits, else itself."""

    __slots__ = ()

    def parsed(self) -> object:
        """Return the TOML value, or the plain text where it is none."""
        try:
            table = tomllib.loads(f"value = {self}")
        except tomllib.TOMLDecodeError:
            return str(self)
        return table["value"] if len(table) == 1 else str(self)


class _Layers:
    """Joins layers into one tree of values; later layers win key by key, lists are replaced
    whole.
    """

    def __init__(self, defaults: Path) -> None:
        """Begin with the packaged files."""
        self.problems: list[str] = []
        self._defaults = defaults
        self._values: dict[str, object] = {}
        self._origins: dict[str, str] = {}
        self._open = True
        files = sorted((defaults / "venues").glob("*.toml"))
        self._venues = [path.stem for path in files]
        self._merge(self._read(defaults / "defaults.toml"), str(defaults / "defaults.toml"))
        self._values.setdefault("venues", {})
        for path in files:
            table = self._read(path)
            self.problems += [
                f"{path}: unknown key {key}; the only table here is [venue]"
                for key in table
                if key != "venue"
            ]
            self._merge({"venues": {path.stem: table.get("venue", {})}}, str(path))
        self._open = False
        self._origins = dict.fromkeys(self._origins, "default")

    def file(self, path: Path) -> None:
        """Add one TOML file."""
        self._merge(self._read(path), str(path))

    def environment(self, environ: Mapping[str, str]) -> None:
        """Add `LIMITED_MODE` and every `TAPECAST__SECTION__KEY`."""
        if (limited := environ.get("LIMITED_MODE")) is not None:
            word = limited.strip().lower()
            if word in _TRUE | _FALSE:
                self.assign(["feeder", "limited_mode"], word in _TRUE, "$LIMITED_MODE")
            else:
                self.problems.append(
                    f"$LIMITED_MODE: {limited!r}: expected true, 1, yes, on, false, 0, no, off or"
                    " nothing"
                )
        for name in sorted(environ):
            if name.startswith(PREFIX):
                self.assign(
                    name.removeprefix(PREFIX).lower().split("__"), _Text(environ[name]), f"${name}"
                )

    def assign(self, path: list[str], value: object, origin: str) -> None:
        """Add one value given by its path."""
        for part in reversed(path):
            value = {part: value}
        self._merge(value, origin)

    def finish(self) -> Loaded:
        """Return the result; raise ConfigError where anything was wrong."""
        if not self.problems:
            try:
                config = msgspec.convert(self._values, Config)
            except msgspec.ValidationError as error:
                raise ConfigError([f"{self._defaults}: {error}"]) from error
            values = dict(_leaves(self._values, ""))
            self.problems += [
                f"{self._origins[key]}: {key} = {values[key]!r}: {what}"
                for key, what in conflicts(config)
            ]
        if self.problems:
            raise ConfigError(self.problems)
        return Loaded(config, values, {key: self._origins.get(key, "default") for key in values})

    def _read(self, path: Path) -> Table:
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            self.problems.append(f"{path}: {error.strerror}")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            self.problems.append(f"{path}: not valid TOML: {error}")
        return {}

    def _merge(self, table: object, origin: str) -> None:
        self._table(table, Config, "", self._values, origin)

    def _table(
        self, value: object, kind: object, path: str, target: dict[str, object], origin: str
    ) -> None:
        """Check the table `value` against `kind` and write its good values into `target`."""
        if isinstance(value, _Text):
            value = value.parsed()
        if not isinstance(value, Mapping):
            self.problems.append(f"{origin}: {path} = {value!r}: expected a table")
            return
        known = self._known(kind, target)
        for key, item in value.items():
            full = f"{path}.{key}" if path else key
            child = known.get(key) or (_entry(kind) if self._open else None)
            if child is None:
                self.problems.append(f"{origin}: unknown key {full}; {_nearest(key, path, known)}")
            elif _is_struct(child) or _entry(child) is not None:
                branch = target.setdefault(key, {})
                assert isinstance(branch, dict)
                self._table(item, child, full, branch, origin)
            else:
                self._leaf(item, child, full, key, target, origin)

    def _known(self, kind: object, target: Mapping[str, object]) -> dict[str, object]:
        """Return the keys that a table may hold, with the type of each: a struct's fields, or
        what the defaults named.
        """
        entry = _entry(kind)
        if entry is not None:
            return dict.fromkeys(self._venues if entry is Venue else target, entry)
        assert isinstance(kind, type)
        assert issubclass(kind, msgspec.Struct)
        return {field.name: field.type for field in msgspec.structs.fields(kind)}

    def _leaf(
        self,
        value: object,
        kind: object,
        path: str,
        key: str,
        target: dict[str, object],
        origin: str,
    ) -> None:
        candidates = [value.parsed(), str(value)] if isinstance(value, _Text) else [value]
        for candidate in candidates:
            try:
                target[key] = msgspec.convert(candidate, kind)
            except msgspec.ValidationError:
                continue
            self._origins[path] = origin
            return
        shown = str(value) if isinstance(value, _Text) else value
        self.problems.append(f"{origin}: {path} = {shown!r}: expected {_expected(kind)}")


def _toml_files(path: Path | None) -> list[Path]:
    """Return the TOML files of a folder by name, or the file itself; nothing where it is absent."""
    if path is None or not path.exists():
        return []
    return sorted(path.glob("*.toml")) if path.is_dir() else [path]


def _entry(kind: object) -> object | None:
    """Return the type of the values of a `dict[str, …]`, None for any other type."""
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return get_args(plain)[1] if get_origin(plain) is dict else None


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _leaves(table: Mapping[str, object], path: str) -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        full = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            yield from _leaves(value, full)
        else:
            yield full, value


def _nearest(key: str, path: str, known: Iterable[str]) -> str:
    """Say which valid key was probably meant, or which ones there are."""
    names = sorted(known)
    prefix = f"{path}." if path else ""
    if close := get_close_matches(key, names, n=1, cutoff=0.5):
        return f"nearest valid key: {prefix}{close[0]}"
    return (
        f"valid keys: {', '.join(prefix + name for name in names)}"
        if names
        else f"{path} takes no keys"
    )


def _expected(kind: object) -> str:
    """Return what a value of this type looks like, for an error message."""
    text, bounds = "", []
    if get_origin(kind) is Annotated:
        kind, *notes = get_args(kind)
        for meta in notes:
            text = (meta.extra or {}).get("expected", text)
            limits = (("above", meta.gt), ("at least", meta.ge), ("at most", meta.le))
            bounds += [f"{word} {limit:,}" for word, limit in limits if limit is not None]
    if not text:
        if get_origin(kind) is Literal:
            text = "one of " + ", ".join(map(str, get_args(kind)))
        elif get_origin(kind) is tuple:
            text = "a list of text"
        else:
            text = _NAMES.get(kind, "a number")
    return ", ".join([text, *bounds])


_NAMES: dict[object, str] = {bool: "true or false", int: "an integer", str: "text"}
