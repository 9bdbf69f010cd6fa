"""The import rules of `pyproject.toml` see a tree that breaks them: every rule is broken in a copy
of the tree, which is checked once.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.tree import ROOT, check, copy

CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
    "importlinter"
]["contracts"]
ROOMS, CONSUMERS, SANS_IO, WIRE, SCREEN, VENUES, TESTS = (each["name"] for each in CONTRACTS)
BY_NAME = {each["name"]: each for each in CONTRACTS}

UPWARDS = (
    ("protocol", "runtime"),
    ("runtime", "feeder"),
    ("runtime", "consumers.feed"),
    ("feeder", "consumers.feed"),
    ("feeder", "consumers.host"),
    ("consumers.feed", "feeder"),
    ("consumers.feed", "consumers.host"),
    ("consumers.host", "consumers.nbbo"),
    ("consumers.logger", "monitors"),
    ("monitors", "cli"),
)
"""Imports against the layers."""
SIDEWAYS = (
    ("consumers.nbbo", "consumers.quality"),
    ("consumers.features", "consumers.nbbo.model"),
    ("consumers.oms", "consumers.features.types"),
)
"""Imports between consumer rooms beside the named ones."""
NAMED = (
    ("consumers.features", "consumers.nbbo.types"),
    ("consumers.features", "consumers.matching.types"),
    ("consumers.signals", "consumers.features.types"),
    ("consumers.oms", "consumers.signals.types"),
    ("consumers.backtest", "consumers.oms.model"),
    ("consumers.backtest", "consumers.feed"),
)
"""Imports between consumer rooms that the design names."""
FORBIDDEN = [
    (each["name"], source, target)
    for each in CONTRACTS
    if each["name"] in (SANS_IO, WIRE, SCREEN)
    for source in each["source_modules"]
    for target in each["forbidden_modules"]
]
NEW_ROOMS = (
    "host",
    "matching",
    "nbbo",
    "quality",
    "features",
    "signals",
    "oms",
    "backtest",
    "logger",
)


def plant(tree: Path, module: str, *imports: str) -> None:
    """Add imports to a module of the tree: to the end of a file, or to a new module of a
    package.
    """
    path = tree / module.replace(".", "/")
    path = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "planted.py"
    with path.open("a") as file:
        file.writelines(f"\nimport {name}  # planted\n" for name in imports)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return what import-linter says of each contract that is broken in a tree that breaks all."""
    tree = copy(tmp_path_factory.mktemp("tree"))
    for room in NEW_ROOMS:
        folder = tree / "tapecast" / "consumers" / room
        folder.mkdir(exist_ok=True)
        for name in ("__init__", "model", "types"):
            (folder / f"{name}.py").touch()
    for source, target in (*UPWARDS, *SIDEWAYS, *NAMED):
        plant(tree, f"tapecast.{source}", f"tapecast.{target}")
    for _, source, target in FORBIDDEN:
        plant(tree, source, target)
    (tree / "tapecast/feeder/venues/newcomer.py").touch()
    plant(tree, "tapecast.feeder.venues.newcomer", "tapecast.feeder.venues.okx")
    plant(tree, "tapecast.feeder.venues.common", "tapecast.feeder.venues.kraken")
    plant(tree, "tapecast.runtime", "tests.support", "benchmarks")
    done = check(tree, "lint-imports", "--no-cache", COLUMNS="1000")
    assert done.returncode == 1, done.stderr
    headed = re.split(r"^(.+)\n-{3,}\n", done.stdout, flags=re.M)
    return dict(zip(headed[1::2], headed[2::2], strict=True))


def shown(report: Mapping[str, str], contract: str) -> set[str]:
    """Return the planted imports that the report shows under a contract: `source -> target`."""
    lines = re.findall(r"^- +(\S+) -> (\S+) \(", report.get(contract, ""), re.M)
    return {f"{source.removesuffix('.planted')} -> {target}" for source, target in lines}


@pytest.mark.parametrize(("source", "target"), UPWARDS)
def test_an_import_against_the_layers_is_seen(
    report: Mapping[str, str], source: str, target: str
) -> None:
    """Commands, monitors, consumer rooms, host, feed beside feeder, runtime, protocol: only down."""
    assert f"tapecast.{source} -> tapecast.{target}" in shown(report, ROOMS)


@pytest.mark.parametrize(("source", "target"), SIDEWAYS)
def test_a_consumer_room_that_reaches_into_another_is_seen(
    report: Mapping[str, str], source: str, target: str
) -> None:
    """A room takes in another's types where the design says so, and nothing else of another."""
    assert f"tapecast.{source} -> tapecast.{target}" in shown(report, CONSUMERS)


def test_the_named_ways_between_consumer_rooms_are_open(report: Mapping[str, str]) -> None:
    """Features take in the types of NBBO and matching, signals those of features, order management
    those of signals, a backtest everything.
    """
    named = {f"tapecast.{source} -> tapecast.{target}" for source, target in NAMED}
    assert named & (shown(report, CONSUMERS) | shown(report, ROOMS)) == set()


@pytest.mark.parametrize(("contract", "source", "target"), FORBIDDEN)
def test_what_a_pure_module_may_not_import_is_seen(
    report: Mapping[str, str], contract: str, source: str, target: str
) -> None:
    """Each module of the list with each of the modules that it has to do without."""
    assert f"{source} -> {target}" in shown(report, contract)


def test_a_venue_that_imports_another_is_seen(report: Mapping[str, str]) -> None:
    """A new venue module is under the rule without being named, and so is what venues share."""
    venues = "tapecast.feeder.venues"
    assert {
        f"{venues}.newcomer -> {venues}.okx",
        f"{venues}.common -> {venues}.kraken",
    } <= shown(report, VENUES)


@pytest.mark.parametrize("target", ["tests", "benchmarks"])
def test_an_import_of_what_is_not_installed_is_seen(report: Mapping[str, str], target: str) -> None:
    """A wheel holds neither tests nor benchmarks."""
    assert f"tapecast.runtime -> {target}" in shown(report, TESTS)


def test_no_module_of_the_wire_is_left_out_of_its_contract() -> None:
    """Whatever stands in `protocol/` is net, publish, or without sockets."""
    found = {
        f"tapecast.protocol.{path.stem}"
        for path in (ROOT / "protocol").iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    }
    named = set(BY_NAME[WIRE]["source_modules"])
    assert found - named == {"tapecast.protocol.net", "tapecast.protocol.publish"}


def test_no_folder_and_no_command_is_left_out_of_the_layers() -> None:
    """Whatever stands in `tapecast/` and `consumers/` has its layer."""
    layered = set(re.findall(r"[\w.]+", " ".join(BY_NAME[ROOMS]["layers"])))
    top = {path.stem for path in (ROOT / "tapecast").glob("*.py")} - {"__init__"}
    rooms = {f"consumers.{path.parent.name}" for path in (ROOT / "consumers").glob("*/__init__.py")}
    assert {f"tapecast.{name}" for name in top | rooms} <= layered


def test_no_room_imports_the_public_names() -> None:
    """Rooms import what they need from where it is; the linter of imports leaves `tapecast` itself
    out of its chains.
    """
    used = re.compile(r"^\s*(from tapecast import|import tapecast\s*$)", re.M)
    rooms = ("protocol", "runtime", "feeder", "consumers", "monitors")
    modules = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    assert len(modules) > 100
    assert [path for path in modules if used.search(path.read_text())] == []
