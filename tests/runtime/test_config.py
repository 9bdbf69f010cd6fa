"""`runtime.config`: layers, origins, and errors that name where, what and what was meant
instead.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tapecast.runtime.config import DEFAULTS, check_files, load, load_layers
from tapecast.runtime.errors import ConfigError

OKX = """
[venue]
enabled = true
symbols = ["BTC-USDT", "ETH-USDT", "BTC-USDT-SWAP", "ETH-USDT-SWAP"]
channels = ["books", "trades"]
[venue.endpoints]
public = "wss://ws.okx.com:8443/ws/v5/public"
rest = "https://www.okx.com"
[venue.limits]
connects_per_s = 3
"""


@pytest.fixture
def defaults(tmp_path: Path) -> Path:
    """Return a defaults folder with the packaged settings and one venue."""
    folder = tmp_path / "config"
    (folder / "venues").mkdir(parents=True)
    (folder / "defaults.toml").write_text((DEFAULTS / "defaults.toml").read_text())
    (folder / "venues" / "okx.toml").write_text(OKX)
    return folder


def problems(
    defaults: Path, environ: dict[str, str], overlay: dict[str, object] | None = None
) -> list[str]:
    """Return what `load` complains about."""
    with pytest.raises(ConfigError) as caught:
        load(overlay, environ=environ, defaults=defaults, system=defaults / "absent")
    assert caught.value.exit_code == 2
    return list(caught.value.problems)


def test_the_packaged_defaults_are_complete_and_stay_on_this_host() -> None:
    """What the project ships loads without any other layer, on loopback with TTL 0."""
    config = load(environ={}, system=Path("/nonexistent"))
    assert (config.network.interface, config.network.ttl, config.network.max_payload) == (
        "127.0.0.1",
        0,
        1400,
    )
    assert (config.feeder.heartbeat_idle_ms, config.feeder.heartbeat_max_ms) == (250, 1000)
    assert not config.feeder.limited_mode


def test_each_layer_wins_over_the_one_before(defaults: Path, tmp_path: Path) -> None:
    """A value of defaults, system, TAPECAST_CONFIG, environment and flags comes from the last
    that names it.
    """
    system = tmp_path / "etc"
    system.mkdir()
    (system / "a.toml").write_text(
        "[network]\nport_crypto = 1001\nport_stock = 1002\nttl = 1\nmax_payload = 500\n"
    )
    own = tmp_path / "own.toml"
    own.write_text("[network]\nport_stock = 2002\nttl = 0\nmax_payload = 600\n")
    environ = {
        "TAPECAST_CONFIG": str(own),
        "TAPECAST__NETWORK__TTL": "1",
        "TAPECAST__NETWORK__MAX_PAYLOAD": "700",
    }
    loaded = load_layers(
        {"network.max_payload": "800"}, environ=environ, defaults=defaults, system=system
    )
    network = loaded.config.network
    assert (network.port_crypto, network.port_stock, network.ttl, network.max_payload) == (
        1001,
        2002,
        1,
        800,
    )
    assert loaded.origins["network.interface"] == "default"
    assert loaded.origins["network.port_crypto"] == str(system / "a.toml")
    assert loaded.origins["network.port_stock"] == str(own)
    assert loaded.origins["network.ttl"] == "$TAPECAST__NETWORK__TTL"
    assert loaded.origins["network.max_payload"] == "--set network.max_payload"


def test_tapecast_config_may_be_a_folder(defaults: Path, tmp_path: Path) -> None:
    """Every TOML file of the folder counts, by name."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "10.toml").write_text("[log]\nlevel = 'debug'\n")
    (folder / "20.toml").write_text("[log]\nlevel = 'error'\n")
    (folder / "30.txt").write_text("not looked at")
    config = load(
        environ={"TAPECAST_CONFIG": str(folder)}, defaults=defaults, system=tmp_path / "absent"
    )
    assert config.log.level == "error"


def test_a_named_file_that_is_absent_is_an_error(defaults: Path) -> None:
    """TAPECAST_CONFIG is never ignored silently."""
    assert problems(defaults, {"TAPECAST_CONFIG": "/nonexistent/x.toml"}) == [
        "$TAPECAST_CONFIG: /nonexistent/x.toml does not exist"
    ]


def test_every_endpoint_can_be_overridden(defaults: Path) -> None:
    """A URL in the environment replaces the venue's, and only that one."""
    environ = {"TAPECAST__VENUES__OKX__ENDPOINTS__PUBLIC": "ws://127.0.0.1:8765/ws"}
    endpoints = load(environ=environ, defaults=defaults).venues["okx"].endpoints
    assert endpoints == {"public": "ws://127.0.0.1:8765/ws", "rest": "https://www.okx.com"}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("TAPECAST__NETWORK__TTL", "1", 1),
        ("TAPECAST__NETWORK__LINE_B_PREFIX", "239.255.43", "239.255.43"),
        ("TAPECAST__NETWORK__LINE_B_PREFIX", '"239.255.43"', "239.255.43"),
        ("TAPECAST__FEEDER__STATE_DIR", "1", "1"),
        ("TAPECAST__FEEDER__SNAPSHOT_CYCLE_S", "0", 0.0),
        ("TAPECAST__VENUES__OKX__ENABLED", "false", False),
        ("TAPECAST__VENUES__OKX__SYMBOLS", '["BTC-USDT"]', ("BTC-USDT",)),
    ],
)
def test_a_variable_is_toml_where_that_fits_and_text_otherwise(
    defaults: Path, name: str, text: str, expected: object
) -> None:
    """The type of the key decides which reading of the text is meant."""
    loaded = load_layers(environ={name: text}, defaults=defaults, system=defaults / "absent")
    key = name.removeprefix("TAPECAST__").lower().replace("__", ".")
    assert loaded.values[key] == expected


@pytest.mark.parametrize(
    ("text", "limited"),
    [
        ("true", True),
        ("1", True),
        ("yes", True),
        ("ON", True),
        ("false", False),
        ("0", False),
        ("no", False),
        ("", False),
    ],
)
def test_limited_mode_is_a_boolean_not_a_presence(defaults: Path, text: str, limited: bool) -> None:
    """`LIMITED_MODE=0` is off; only the words for true turn it on."""
    assert load(environ={"LIMITED_MODE": text}, defaults=defaults).feeder.limited_mode is limited


def test_other_text_in_limited_mode_is_an_error(defaults: Path) -> None:
    """A word that is neither true nor false is never guessed."""
    assert problems(defaults, {"LIMITED_MODE": "maybe"})[0].startswith(
        "$LIMITED_MODE: 'maybe': expected true"
    )


def test_limited_mode_keeps_the_first_symbols_of_each_category(defaults: Path) -> None:
    """The limit counts per category, in the order of the list."""
    overlay = {"feeder.limited_symbols": 1}

    def category(symbol: str) -> str:
        return "perpetual" if symbol.endswith("-SWAP") else "spot"

    limited = load(overlay, environ={"LIMITED_MODE": "1"}, defaults=defaults)
    assert limited.limited(limited.venues["okx"].symbols, category) == ("BTC-USDT", "BTC-USDT-SWAP")
    everything = load(overlay, environ={}, defaults=defaults)
    assert len(everything.limited(everything.venues["okx"].symbols, category)) == 4


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("TAPECAST__NETWORK__TLL", "1", "unknown key network.tll; nearest valid key: network.ttl"),
        ("TAPECAST__NETWROK__TTL", "1", "unknown key netwrok; nearest valid key: network"),
        (
            "TAPECAST__NETWORK__TTL",
            "300",
            "network.ttl = '300': expected an integer, at least 0, at most 255",
        ),
        (
            "TAPECAST__NETWORK__TTL",
            "true",
            "network.ttl = 'true': expected an integer, at least 0, at most 255",
        ),
        (
            "TAPECAST__NETWORK__INTERFACE",
            "eth0",
            "network.interface = 'eth0': expected an IPv4 address",
        ),
        (
            "TAPECAST__NETWORK__GROUP_PREFIX",
            "192.168.1",
            "expected the first three numbers of a multicast address",
        ),
        (
            "TAPECAST__LOG__LEVEL",
            "loud",
            "log.level = 'loud': expected one of debug, info, warning, error",
        ),
        ("TAPECAST__FEEDER", "3", "feeder = 3: expected a table"),
        (
            "TAPECAST__VENUES__OXK__ENABLED",
            "true",
            "unknown key venues.oxk; nearest valid key: venues.okx",
        ),
        (
            "TAPECAST__VENUES__OKX__ENABLED",
            "yes",
            "venues.okx.enabled = 'yes': expected true or false",
        ),
        (
            "TAPECAST__VENUES__OKX__SYMBOLS",
            "BTC-USDT",
            "venues.okx.symbols = 'BTC-USDT': expected a list of text",
        ),
        (
            "TAPECAST__VENUES__OKX__ENDPOINTS__PUBLIC",
            "ws.okx.com",
            "expected a URL (wss, ws, https or http)",
        ),
        (
            "TAPECAST__VENUES__OKX__ENDPOINTS__PUBLIK",
            "ws://x",
            "nearest valid key: venues.okx.endpoints.public",
        ),
    ],
)
def test_an_error_names_the_variable_the_key_and_what_was_expected(
    defaults: Path, name: str, text: str, message: str
) -> None:
    """The user can mend the value without looking anything up."""
    (problem,) = problems(defaults, {name: text})
    assert problem.startswith(f"${name}: ")
    assert message in problem


def test_every_problem_of_every_layer_is_reported_at_once(defaults: Path, tmp_path: Path) -> None:
    """One run shows all that has to be mended, each with its file or variable."""
    own = tmp_path / "own.toml"
    own.write_text("[network]\nttl = 'far'\nnope = 1\n")
    found = problems(
        defaults, {"TAPECAST_CONFIG": str(own), "LIMITED_MODE": "2"}, {"log.levle": "info"}
    )
    assert len(found) == 4
    assert found[0] == f"{own}: network.ttl = 'far': expected an integer, at least 0, at most 255"
    assert "nearest valid key: log.level" in found[3]


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        (
            {"network.ttl": 4},
            "--set network.ttl: network.ttl = 4: above 1 needs network.wide_area = true",
        ),
        ({"network.line_b_prefix": "239.255.42"}, "must differ from network.group_prefix"),
        ({"network.derived_prefix": "239.255.42"}, "must differ from network.group_prefix"),
        (
            {"network.line_b_prefix": "239.255.45"},
            "network.derived_prefix_stock = '239.255.45': must differ from network.line_b_prefix",
        ),
        ({"feeder.heartbeat_idle_ms": 2000}, "must not exceed feeder.heartbeat_max_ms"),
        ({"feeder.backoff.cap_s": 0.1}, "must not exceed feeder.backoff.cap_s"),
        ({"feeder.resync.slow_cap_s": 1}, "must not exceed feeder.resync.slow_cap_s"),
        ({"feeder.rotation.patience_s": 0.5}, "must not exceed feeder.rotation.patience_s"),
    ],
)
def test_values_that_exclude_each_other_are_refused(
    defaults: Path, overlay: dict[str, object], message: str
) -> None:
    """Legal alone, impossible together."""
    (problem,) = problems(defaults, {}, overlay)
    assert message in problem


def test_a_ttl_above_one_is_possible_on_purpose(defaults: Path) -> None:
    """The flag that permits it is the only thing needed."""
    assert (
        load(
            {"network.ttl": 4, "network.wide_area": True}, environ={}, defaults=defaults
        ).network.ttl
        == 4
    )


def test_a_list_is_replaced_and_a_table_is_joined(defaults: Path, tmp_path: Path) -> None:
    """Overriding one limit keeps the others; overriding the symbols keeps none."""
    own = tmp_path / "own.toml"
    own.write_text(
        "[venues.okx]\nsymbols = ['SOL-USDT']\n[venues.okx.limits]\nconnects_per_s = 1.5\n"
    )
    venue = load(environ={"TAPECAST_CONFIG": str(own)}, defaults=defaults).venues["okx"]
    assert venue.symbols == ("SOL-USDT",)
    assert venue.limits == {"connects_per_s": 1.5}
    assert venue.channels == ("books", "trades")


def test_a_venue_file_holds_the_venue_table_and_nothing_else(defaults: Path) -> None:
    """A key beside `[venue]` would be read by nobody, so it is refused."""
    (defaults / "venues" / "okx.toml").write_text("enabled = false\n" + OKX)
    (problem,) = problems(defaults, {})
    assert "unknown key enabled; the only table here is [venue]" in problem


def test_files_are_checked_one_by_one(defaults: Path, tmp_path: Path) -> None:
    """`config validate` lists the problems of each file under its own name, unreadable ones
    included.
    """
    good, bad, broken = tmp_path / "good.toml", tmp_path / "bad.toml", tmp_path / "broken.toml"
    good.write_text("[network]\nttl = 1\n")
    bad.write_text("[network]\nttl = -1\nfoo = 1\n")
    broken.write_text("[network\n")
    found = check_files([good, bad, broken, tmp_path / "absent.toml"], defaults=defaults)
    assert [problem.split(":")[0] for problem in found] == [
        str(bad),
        str(bad),
        str(broken),
        str(tmp_path / "absent.toml"),
    ]


def test_a_default_that_is_missing_is_named(defaults: Path) -> None:
    """A packaged file without a required key is an error, not a guess."""
    (defaults / "defaults.toml").write_text("[network]\nttl = 0\n")
    assert "missing required field" in problems(defaults, {})[0]
