"""Names in documents: whatever a page or a module's docstring names exists.

Modules, files, folders, links, commands, options, make targets, configuration keys and the names
of classes are looked up in the tree as it is. The glossary's words are the law for class names.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tapecast.cli import COMMANDS
from tapecast.runtime.config import load_layers

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    "protocol",
    "runtime",
    "feeder",
    "consumers",
    "monitors",
    "tapecast",
    "tests",
    "benchmarks",
)
BANNED = (
    "Announcer",
    "Chain",
    "Desk",
    "Intake",
    "Making",
    "Named",
    "Observed",
    "Ordering",
    "Outlet",
    "Pulse",
    "Rivals",
    "Surroundings",
    "Tally",
)
"""Words that the glossary has replaced."""
HISTORY = ("CHANGELOG.md", "docs/adr/0001-layout.md", "docs/adr/0021-one-import-root.md")
"""Pages that name what is gone, on purpose."""
MADE = (".venv", "dist", "state", "build", "api")
"""Folders that appear when something runs."""

_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_MODULE = re.compile(rf"(?:tapecast\.)?(?:{'|'.join(ROOMS)})(?:\.\w+)+")
_PATH = re.compile(r"[\w.*@<>-]+(?:/[\w.*@<>-]+)*/?")
_SUFFIXES = (".py", ".md", ".toml", ".c", ".h", ".service", ".lua", ".conf", ".lock")


@cache
def tracked() -> tuple[str, ...]:
    """Return the files of the project, the new ones included."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    out = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(name for name in out.split("\0") if name and (ROOT / name).is_file())


def documents() -> list[str]:
    """Return every page, but those that speak of the past."""
    return [name for name in tracked() if name.endswith(".md") and name not in HISTORY]


@cache
def sources() -> dict[str, str]:
    """Return the Python sources by name."""
    return {name: (ROOT / name).read_text() for name in tracked() if name.endswith(".py")}


@cache
def classes() -> dict[str, list[str]]:
    """Return the files that define each class."""
    found: dict[str, list[str]] = {}
    for name, text in sources().items():
        for word in re.findall(r"^class (\w+)", text, re.M):
            found.setdefault(word, []).append(name)
    return found


@cache
def settings() -> frozenset[str]:
    """Return every configuration key that has a default, and every table of such keys."""
    keys = load_layers(environ={}).values
    tables = {key.rpartition(".")[0] for key in keys if key.count(".") > 1}
    return frozenset({*keys, *tables})


def spans(text: str) -> Iterator[str]:
    """Yield what stands in code marks."""
    for found in _SPAN.finditer(_BLOCK.sub("", text)):
        yield found[1].strip()


def commands(text: str) -> Iterator[str]:
    """Yield command lines: those of console blocks, and those in code marks."""
    for language, block in _BLOCK.findall(text):
        if language in ("console", "sh", ""):
            yield from (line.removeprefix("$ ").strip() for line in block.splitlines())
    yield from (span for span in spans(text) if span.startswith(("tapecast ", "make ", "python ")))


def module_exists(name: str) -> bool:
    """Say whether a dotted name leads to a module, or to something that a module names."""
    words = name.removeprefix("tapecast.").split(".")
    if len(words) == 1 and name.startswith("tapecast."):
        words = ["tapecast", *words]
    for count in range(len(words), 0, -1):
        base = "/".join(words[:count])
        files = [
            f
            for f in (f"{base}.py", f"tapecast/{base}.py", f"{base}/__init__.py")
            if f in tracked()
        ]
        rest = words[count:]
        if files:
            return all(any(re.search(rf"\b{word}\b", sources()[f]) for f in files) for word in rest)
        if not rest and any(file.startswith(f"{base}/") for file in tracked()):
            return True
    return False


def path_exists(name: str, page: Path) -> bool:
    """Say whether a path leads to a file or folder, from the page or from the top; `*` and `<…>`
    stand for any text.
    """
    pattern = re.sub(r"<[^>]*>|NAME", "*", name).rstrip("/")
    if pattern.split("/")[0] in (*MADE, "..", "~") or pattern.startswith("/"):
        return True
    return any(
        any(folder.glob(pattern)) or any(folder.glob(f"**/{pattern}"))
        for folder in (ROOT / "tapecast", page.parent)
    ) or any(Path(file).match(pattern) or _below(file, pattern) for file in tracked())


def _below(file: str, pattern: str) -> bool:
    return any(parent.match(pattern) for parent in Path(file).parents)


def is_path(span: str) -> bool:
    """Say whether a text in code marks is a path of the project."""
    if not _PATH.fullmatch(span) or span.startswith((".", "*")) or "//" in span:
        return False
    if span.endswith(_SUFFIXES):
        return "/" in span or not span.endswith(".md")
    first = span.split("/")[0]
    return "/" in span and first in (*ROOMS, "config", "docs", "systemd")


def missing(text: str, page: Path) -> list[str]:
    """Return the names in a text that lead nowhere."""
    out = []
    for span in spans(text):
        name = span.removesuffix("()")
        if _MODULE.fullmatch(name):
            known = module_exists(name) or name in settings()
            if not known and not (is_path(name) and path_exists(name, page)):
                out.append(span)
        elif is_path(span):
            if not path_exists(span, page):
                out.append(span)
        elif found := re.fullmatch(r"([A-Z][a-z]\w+)\.([a-z_]\w*)(?:\(.*\))?", span):
            files = classes().get(found[1], [])
            if files and found[2] in ("_make", "_replace"):
                continue
            if not any(re.search(rf"\b{found[2]}\b", sources()[file]) for file in files):
                out.append(span)
    return out


def test_every_name_in_a_page_leads_somewhere() -> None:
    """Modules, files, folders and members of classes."""
    found = {name: missing((ROOT / name).read_text(), ROOT / name) for name in documents()}
    assert {name: names for name, names in found.items() if names} == {}


def test_every_name_in_a_docstring_of_a_module_leads_somewhere() -> None:
    """The same for what a module says of its neighbours."""
    found = {
        name: missing(ast.get_docstring(ast.parse(text)) or "", ROOT / name)
        for name, text in sources().items()
    }
    assert {name: names for name, names in found.items() if names} == {}


def test_every_link_of_a_page_leads_somewhere() -> None:
    """Relative links, and the headings they point at."""
    broken = []
    for name in (*documents(), *HISTORY):
        page = ROOT / name
        for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]+))?\)", page.read_text()):
            to = (page.parent / target) if target else page
            if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
                broken.append(f"{name}: {target}#{anchor}")
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


def test_every_command_and_option_of_a_page_exists() -> None:
    """`tapecast …` names a command, its options are some parser's, `python -m` names a module,
    `make` a target.
    """
    known = "\n".join(sources().values())
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    wrong = []
    for name in documents():
        for line in commands((ROOT / name).read_text()):
            for word in re.findall(r"(?:^|bin/| \| )tapecast ([a-z]+)\b", line):
                if word not in COMMANDS:
                    wrong.append(f"{name}: tapecast {word}")
            if "tapecast " in line:
                for option in re.findall(
                    r"(?<=\s)(--[a-z][a-z-]+)", line.partition("tapecast ")[2].split("|")[0]
                ):
                    if f'"{option}"' not in known:
                        wrong.append(f"{name}: {option}")
            for module in re.findall(
                r"-m ((?:tapecast|tests|benchmarks)(?:\.\w+)*)\b(?!\.[$<*\"])", line
            ):
                if module != "tapecast" and not module_exists(module):
                    wrong.append(f"{name}: python -m {module}")
            for target in re.findall(r"(?:^|\s)make ([a-z]+)\b", line):
                if target not in targets:
                    wrong.append(f"{name}: make {target}")
    assert wrong == []


def test_every_setting_of_a_page_exists() -> None:
    """Keys in code marks, in `--set` and in variables of the environment."""
    keys = settings()
    sections = {key.partition(".")[0] for key in keys} - {"venues"}
    wrong = []
    for name in documents():
        text = (ROOT / name).read_text()
        shown = {span.partition(" =")[0] for span in spans(text) if "." in span}
        named = {key for key in shown if re.fullmatch(r"[a-z]+\.[a-z_0-9]+", key)}
        named |= {
            (variable.lower().replace("__", ".") or flag)
            for variable, flag in re.findall(r"TAPECAST__(\w+)=|--set ([\w.]+)=", text)
        }
        wrong += [
            f"{name}: {key}"
            for key in sorted(named)
            if key.partition(".")[0] in sections
            and key not in keys
            and not module_exists(key)
            and not key.endswith(_SUFFIXES)
        ]
    assert wrong == []


def test_every_room_of_the_readme_exists() -> None:
    """A folder in the table of rooms is a folder in the tree."""
    rooms = re.findall(r"^\| `([\w/]+/)` \|", (ROOT / "README.md").read_text(), re.M)
    assert len(rooms) >= 9
    assert [room for room in rooms if not any(name.startswith(room) for name in tracked())] == []


def test_the_index_of_decisions_is_complete() -> None:
    """Number, title and date of every page, and each page in the template's order."""
    index = (ROOT / "docs/adr/README.md").read_text()
    for path in sorted((ROOT / "docs/adr").glob("[0-9]*.md")):
        text = path.read_text()
        title = re.match(r"# (\d{4}) (.+)\n\n(?:Accepted|Superseded)\b.*?(\d{4}-\d\d-\d\d)", text)
        assert title is not None, path.name
        assert f"| {title[1]} | [{title[2]}]({path.name}) |" in index, path.name
        headings = re.findall(r"^## (Context|Decision|Consequences)\b", text, re.M)
        assert headings[:1] == ["Context"], path.name
        assert {"Decision", "Consequences"} <= set(headings), path.name


def test_words_that_the_glossary_replaced_name_no_class() -> None:
    """And every class that the glossary names exists."""
    glossary = (ROOT / "docs/glossary.md").read_text()
    rooms = ("tests/", "benchmarks/")
    back = {word: files for word in BANNED if (files := classes().get(word))}
    assert {w: f for w, f in back.items() if not all(n.startswith(rooms) for n in f)} == {}
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| ([^|]+) \| [^|]* \|$", glossary, re.M)
    assert len(rows) >= 40
    named = {word for row in rows for word in spans(row) if re.fullmatch(r"[A-Z][a-z]\w+", word)}
    assert sorted(named - set(classes())) == []


def test_banned_words_stand_in_the_glossary() -> None:
    """What was renamed can be looked up by its old name."""
    glossary = (ROOT / "docs/glossary.md").read_text()
    assert [word for word in BANNED if word.lower() not in glossary.lower()] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`feeder.session.session`", []),
        ("`feeder.outlet`", ["feeder.outlet"]),
        ("`feeder/outlet.py` and `config/venues/*.toml`", ["feeder/outlet.py"]),
        ("`Session.on_frame`, `Session.on_moon`", ["Session.on_moon"]),
    ],
)
def test_a_name_that_is_gone_is_found(text: str, wrong: list[str]) -> None:
    """The check itself can fail."""
    assert missing(text, ROOT / "README.md") == wrong
