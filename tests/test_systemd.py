"""The systemd units: every directive of the hardening baseline, paths and settings that exist,
and what systemd itself says.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tapecast.cli import COMMANDS
from tapecast.runtime.config import load_layers
from tapecast.runtime.errors import ExitCode

ROOT = Path(__file__).resolve().parents[1]
UNIT = ROOT / "systemd" / "tapecast-feeder@.service"
DROP_INS = sorted((ROOT / "systemd" / "drop-ins").glob("*.conf"))
Sections = dict[str, list[tuple[str, str]]]

BASELINE = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "UMask": "0077",
}
"""Directive to value; an empty value is written out, because leaving it away means something
else.
"""


def parsed(path: Path) -> Sections:
    """Return a unit's sections; AssertionError for a line that is none of the format's."""
    sections: Sections = {}
    entries: list[tuple[str, str]] | None = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith(("#", ";")):
            continue
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            assert heading[1] not in sections, f"{path.name}:{number}"
            entries = sections[heading[1]] = []
            continue
        entry = re.fullmatch(r"([A-Z]\w+)=(.*)", line)
        assert entry is not None, f"{path.name}:{number}: {line}"
        assert entries is not None, f"{path.name}:{number}"
        entries.append((entry[1], entry[2]))
    return sections


def values(entries: list[tuple[str, str]], name: str) -> list[str]:
    """Return every value of a directive."""
    return [value for key, value in entries if key == name]


def test_the_hardening_baseline_is_there() -> None:
    """Each directive once, with its value."""
    service = parsed(UNIT)["Service"]
    assert {name: values(service, name) for name in BASELINE} == {
        name: [value] for name, value in BASELINE.items()
    }
    assert values(service, "SystemCallFilter") == [
        "@system-service",
        "~@privileged @resources",
        "sched_setaffinity",
    ]
    assert values(service, "User") == ["tapecast"]


def test_it_is_watched_and_restarted_as_its_exit_codes_mean() -> None:
    """Ready and alive by notification; a wrong configuration is not tried again, anything else
    is, not too often.
    """
    unit, service = parsed(UNIT)["Unit"], dict(parsed(UNIT)["Service"])
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == str(int(ExitCode.USAGE))
    assert int(ExitCode.TRY_AGAIN) == 75
    burst, interval = int(dict(unit)["StartLimitBurst"]), int(dict(unit)["StartLimitIntervalSec"])
    # Five failures in a row must fall into the interval, or systemd would try for ever.
    assert burst * (int(service["RestartSec"]) + 10) < interval
    settings = load_layers(environ={}).config
    assert int(service["TimeoutStartSec"]) > 2 * settings.service.ready_after_s
    assert int(service["TimeoutStopSec"]) > settings.feeder.session_end_s + 15
    assert int(service["WatchdogSec"]) >= 10


def test_the_command_and_the_settings_exist() -> None:
    """What a unit or a drop-in sets is read by somebody, and its folders are those that systemd
    makes.
    """
    known = set(load_layers(environ={}).values)
    files = [UNIT, *DROP_INS]
    for path in files:
        service = parsed(path)["Service"]
        for assignment in values(service, "Environment"):
            name, _, value = assignment.partition("=")
            assert (
                name == "PYTHONDONTWRITEBYTECODE"
                or name.removeprefix("TAPECAST__").lower().replace("__", ".") in known
            ), assignment
            if "%" in value:
                assert value.split("/")[0] in ("%S", "%L")
                assert value.split("/")[1] == "tapecast"
    service = parsed(UNIT)["Service"]
    program, command, instance = values(service, "ExecStart")[0].split()
    assert program.endswith("/bin/tapecast")
    assert command in COMMANDS
    assert instance == "%i"
    assert values(service, "StateDirectory") == values(service, "LogsDirectory") == ["tapecast"]


def test_the_readme_names_every_file() -> None:
    """Units and drop-ins, and nothing that is not there."""
    words = (ROOT / "systemd" / "README.md").read_text()
    assert set(re.findall(r"`([\w-]+\.conf)`", words)) == {path.name for path in DROP_INS}
    assert UNIT.name in words


@pytest.fixture(scope="module")
def analyze() -> str:
    """Return systemd's own checker; skip where there is none."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed")
    return found


def test_systemd_finds_nothing_wrong(analyze: str, tmp_path: Path) -> None:
    """`systemd-analyze verify` of an instance with every drop-in; only the program's place is
    this checkout's.
    """
    unit = tmp_path / "tapecast-feeder@okx.service"
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.M))
    folder = tmp_path / "tapecast-feeder@okx.service.d"
    folder.mkdir()
    for path in DROP_INS:
        shutil.copy(path, folder)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60
    )
    told = [line for line in done.stderr.splitlines() if "tapecast" in line]
    assert told == []


def test_systemd_rates_the_exposure_as_low(analyze: str) -> None:
    """`systemd-analyze security` stays below 2 of 10."""
    words = [analyze, "security", "--offline=true", "--no-pager", "--threshold=20", str(UNIT)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot look at files")
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
