"""Every event that a daemon logs has a key, not a sentence, and stands with its level and fields
in the table of `docs/operations.md`.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.processes import ROOT

ROOMS = ("protocol", "runtime", "feeder", "consumers", "monitors", "tapecast")
LEVELS = ("debug", "info", "warning", "error", "critical")
PAGE = ROOT / "docs" / "operations.md"
BRIDGE = ROOT / "runtime" / "logs.py"
ROW = re.compile(r"^\| `([^`]+)` \| ([a-z, ]+) \| ([^|]*) \| [^|]+ \|$", re.M)


class Call(NamedTuple):
    """One call of a logger: the expression of its event, its levels, the names of its fields."""

    event: ast.expr
    levels: frozenset[str]
    fields: frozenset[str]


def sources() -> list[Path]:
    """Return the modules of the package, without the bridge, which passes on what others log;
    the links inside `tapecast/` are passed over.
    """
    return [
        path
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if path != BRIDGE and not any(parent.is_symlink() for parent in path.parents)
    ]


def calls(tree: ast.AST) -> Iterator[Call]:
    """Yield the calls of `log.LEVEL(…)`, `log.exception(…)`, `log.log(level, …)`, and of a method
    `self._log(level, …)` that adds fields of its own.
    """
    for node in outside_of_wrappers(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=method)):
                pass
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr="_log")):
                method = "log"
            case _:
                continue
        arguments = node.args
        if method == "log":
            # A level in a variable is any that the module names.
            levels = named_levels(arguments[0]) or named_levels(tree)
            arguments = arguments[1:]
        elif method in LEVELS:
            levels = {method}
        elif method == "exception":
            levels = {"error"}
        else:
            continue
        yield Call(arguments[0], frozenset(levels), frozenset(fields(node)))


def outside_of_wrappers(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree but for those of functions called `_log`, which pass an event
    on.
    """
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.FunctionDef) and child.name == "_log"):
            yield child
            yield from outside_of_wrappers(child)


def named_levels(tree: ast.AST) -> set[str]:
    """Return the levels that stand in an expression as `logging.ERROR`."""
    names = {part.attr for part in ast.walk(tree) if isinstance(part, ast.Attribute)}
    return {name.lower() for name in names if name.isupper() and name.lower() in LEVELS}


def fields(call: ast.Call) -> Iterator[str]:
    """Yield the names of a call's fields, those of `extra` too."""
    for keyword in call.keywords:
        if keyword.arg == "extra":
            assert isinstance(keyword.value, ast.Dict), ast.unparse(call)
            for key in keyword.value.keys:
                assert isinstance(key, ast.Constant)
                yield str(key.value)
        elif keyword.arg not in (None, "exc_info"):
            yield str(keyword.arg)


def keys(event: ast.expr) -> list[str]:
    """Return the keys that an event may have: a text, or one of two."""
    if isinstance(event, ast.IfExp):
        return [*keys(event.body), *keys(event.orelse)]
    assert isinstance(event, ast.Constant), f"not a literal: {ast.unparse(event)}"
    return [str(event.value)]


def in_source() -> dict[str, tuple[set[str], set[str]]]:
    """Return levels and fields by event."""
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for path in sources():
        for call in calls(ast.parse(path.read_text())):
            for key in keys(call.event):
                found[key][0].update(call.levels)
                found[key][1].update(call.fields)
    return dict(found)


def in_page() -> dict[str, tuple[set[str], set[str]]]:
    """Return what the page says: levels and fields by event."""
    text = PAGE.read_text().split("### Events", 1)[1]
    return {
        key: (set(re.findall(r"[a-z]+", levels)), set(re.findall(r"`([^`]+)`", names)))
        for key, levels, names in ROW.findall(text)
    }


def test_every_event_is_a_key() -> None:
    """Words joined by underscores: what an alert or a query names does not change with a
    sentence.
    """
    found = in_source()
    assert len(found) > 30
    assert [key for key in found if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", key)] == []


def test_the_page_lists_every_event_with_its_level_and_fields() -> None:
    """Nothing in the source is missing there, and nothing there is gone from the source."""
    found, listed = in_source(), in_page()
    assert set(listed) - set(found) == set(), "no longer logged"
    assert set(found) - set(listed) == set(), "not in the table"
    assert {key: listed[key] for key in found} == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('log.info("connected", venue=v)', [(["connected"], {"info"}, {"venue"})]),
        ('log.warning("a" if x else "b")', [(["a", "b"], {"warning"}, set())]),
        ('log.log(logging.ERROR if x else logging.INFO, "c")', [(["c"], {"error", "info"}, set())]),
        ('log.error("d", extra={"port": 1}, exc_info=e)', [(["d"], {"error"}, {"port"})]),
        ('log.exception("e")', [(["e"], {"error"}, set())]),
        ('self._log(logging.INFO, "f", port=1)', [(["f"], {"info"}, {"port"})]),
        ("def _log(self, event): log.log(logging.INFO, event)", []),
        ("log.close()", []),
    ],
)
def test_calls_are_found(text: str, expected: list[tuple[list[str], set[str], set[str]]]) -> None:
    """The search itself: every way in which an event is logged."""
    found = [
        (keys(call.event), set(call.levels), set(call.fields)) for call in calls(ast.parse(text))
    ]
    assert found == expected
