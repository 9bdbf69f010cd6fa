"""The command line: lazy imports, exit codes, stdout for data and stderr for narration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tapecast import __version__, cli

ROOT = Path(__file__).resolve().parents[1]
COMMAND = """
import argparse, sys
def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", default="")
def run(args: argparse.Namespace) -> int:
    {body}
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a function that registers a command with the given body and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def make(body: str) -> str:
        name = f"probe{len(made)}_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(COMMAND.format(body=body))
        monkeypatch.setitem(cli.COMMANDS, "probe", cli.Command(name, "a command of this test"))
        made.append(name)
        return "probe"

    return make


def tapecast(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "tapecast", *words],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_help_lists_every_command_without_importing_any() -> None:
    """The overview needs no sub-command to be importable, and shows examples."""
    done = tapecast("--help")
    assert done.returncode == 0
    for name, row in cli.COMMANDS.items():
        assert f"    {name} " in done.stdout
        assert all(line in done.stdout for line in row.examples)


def test_version_is_the_packages() -> None:
    """One line, one version."""
    done = tapecast("--version")
    assert (done.returncode, done.stdout) == (0, f"tapecast {__version__}\n")


def test_a_command_imports_only_what_it_needs() -> None:
    """`config` starts without event loop, venues or numpy, which is what makes a pipe start
    quickly.
    """
    probe = (
        "import sys; from tapecast.cli import main; main(['config', 'schema']); "
        "heavy = ('asyncio', 'numpy', 'uvloop', 'aiohttp', 'structlog', 'tapecast.feeder'); "
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    "words",
    [[], ["nonsense"], ["config"], ["config", "nonsense"], ["config", "show", "--nonsense"]],
)
def test_wrong_usage_is_2_and_says_where_help_is(words: list[str]) -> None:
    """Nothing on stdout, a hint on stderr, no traceback."""
    done = tapecast(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--help" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_on_the_command_line_are_the_last_layer() -> None:
    """`--set` wins over the environment and its origin is shown."""
    done = tapecast(
        "config", "show", "--json", "--set", "network.ttl=1", TAPECAST__NETWORK__TTL="0"
    )
    assert json.loads(done.stdout)["network.ttl"] == {"value": 1, "origin": "--set network.ttl"}


def test_a_setting_without_a_value_is_a_usage_error() -> None:
    """The shape of the flag is checked before anything runs."""
    done = tapecast("config", "show", "--set", "network.ttl")
    assert (done.returncode, done.stderr) == (
        2,
        "tapecast: --set network.ttl: expected KEY=VALUE\n",
    )


def test_show_names_the_origin_of_every_value() -> None:
    """The readable form has one line a key with where it came from."""
    done = tapecast("config", "show", TAPECAST__NETWORK__TTL="1")
    lines = {line.split(" = ")[0]: line.partition("# ")[2] for line in done.stdout.splitlines()}
    assert lines["network.ttl"] == "$TAPECAST__NETWORK__TTL"
    assert lines["network.interface"] == "default"


def test_validate_lists_every_problem_and_exits_2(tmp_path: Path) -> None:
    """Each line names file, key and what was meant; a good file passes."""
    bad, good = tmp_path / "bad.toml", tmp_path / "good.toml"
    bad.write_text("[network]\nttl = 'x'\nprot_crypto = 1\n")
    good.write_text("[network]\nttl = 1\n")
    done = tapecast("config", "validate", str(bad))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"tapecast: {bad}: network.ttl = 'x': expected an integer, at least 0, at most 255",
        f"tapecast: {bad}: unknown key network.prot_crypto; nearest valid key: network.port_crypto",
    ]
    assert tapecast("config", "validate", str(good)).returncode == 0
    assert tapecast("config", "validate").returncode == 0
    assert tapecast("config", "validate", LIMITED_MODE="2").returncode == 2


def test_schema_is_json_schema_of_every_section() -> None:
    """Editors can check a file against it."""
    schema = json.loads(tapecast("config", "schema").stdout)
    assert {"Network", "Feeder", "Monitor", "Log", "Venue"} <= set(schema["$defs"])


def test_a_command_that_cannot_be_imported_breaks_no_other(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It says what is missing and exits 1; the rest still works."""
    monkeypatch.setitem(cli.COMMANDS, "probe", cli.Command("no_such_module", "absent"))
    assert cli.main(["probe"]) == 1
    assert "the command 'probe' is not available" in capfd.readouterr().err
    assert cli.main(["config", "schema"]) == 0


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("return 0", 0, ""),
        ("return 3", 3, ""),
        (
            "from tapecast.runtime.errors import VenueError; raise VenueError('okx', 'refused')",
            1,
            "tapecast: okx: refused\n",
        ),
        (
            "from tapecast.runtime.errors import ConfigError; raise ConfigError(['a', 'b'])",
            2,
            "tapecast: a\ntapecast: b\n",
        ),
        (
            "from tapecast.runtime.errors import TryAgainError; raise TryAgainError('later')",
            75,
            "tapecast: later\n",
        ),
        (
            "open('/nonexistent/file')",
            1,
            "tapecast: [Errno 2] No such file or directory: '/nonexistent/file'\n",
        ),
        (
            "import errno; raise OSError(errno.EADDRINUSE, 'Address already in use')",
            75,
            "Address already in use\n",
        ),
        ("raise KeyboardInterrupt", 130, ""),
        (
            "raise ValueError('odd')",
            1,
            "tapecast: internal error: ValueError: odd (--debug shows where)\n",
        ),
    ],
)
def test_a_failure_is_a_message_and_an_exit_code(
    command: Callable[[str], str],
    capfd: pytest.CaptureFixture[str],
    body: str,
    code: int,
    message: str,
) -> None:
    """Each class of failure has its code, one friendly line each, and no traceback."""
    assert cli.main([command(body)]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.endswith(message)
    assert "Traceback" not in err


def test_debug_shows_the_traceback(command: Callable[[str], str]) -> None:
    """With `--debug` the exception comes out as it is."""
    with pytest.raises(ValueError, match="odd"):
        cli.main([command("raise ValueError('odd')"), "--debug"])


def test_a_closed_pipe_ends_quietly() -> None:
    """`tapecast … | head -1` leaves no noise on stderr and ends like a process that got SIGPIPE."""
    script = (
        f"{sys.executable} -m tapecast config schema | head -c 1 >/dev/null; echo"
        " ${PIPESTATUS[0]}"
    )
    slow = (
        "import sys, time, tapecast.config_command as c; from tapecast import cli\n"
        "c.run = lambda args: [print('x' * 4096) for _ in range(10_000)] and 0\n"
        "sys.exit(cli.main(['config', 'schema']))"
    )
    for line in (
        script,
        f'{sys.executable} -c "{slow}" | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}',
    ):
        done = subprocess.run(
            ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
        )
        assert done.stderr == ""
    assert done.stdout == "141\n"
