"""Where the channels' keys come from, and what is said where one is missing or wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from tapecast.protocol.schema import VENUES
from tapecast.runtime.config import load
from tapecast.runtime.errors import ConfigError
from tapecast.runtime.keys import (
    Admission,
    channel_keys,
    is_authenticated,
    packet_room,
    sending_key,
)
from tapecast.runtime.settings import Network

KEY, NEXT = bytes(range(32)), bytes(range(1, 33))
LAN = "10.0.0.5"


def network(interface: str = LAN, authentication: str = "auto", **other: object) -> Network:
    """Return the default network on an interface."""
    base = load(environ={}).network
    return msgspec.structs.replace(
        base, interface=interface, authentication=authentication, **other
    )


def keys(**venues: tuple[bytes, ...]) -> dict[int, tuple[bytes, ...]]:
    """Return the keys of both channels that a venue's feeders may have."""
    return {
        VENUES[venue] + 100 * replica: accepted
        for venue, accepted in venues.items()
        for replica in (0, 1)
    }


def problems(venues: list[str] | None, environ: Mapping[str, str], where: Network) -> str:
    """Return the message of the error that the keys cause."""
    with pytest.raises(ConfigError) as caught:
        channel_keys(venues, where, environ)
    return str(caught.value)


@pytest.mark.parametrize(
    ("interface", "authentication", "expected"),
    [
        ("127.0.0.1", "auto", False),
        ("127.0.0.2", "auto", False),
        (LAN, "auto", True),
        (LAN, "off", False),
        ("127.0.0.1", "on", True),
    ],
)
def test_tags_are_for_the_lan(interface: str, authentication: str, expected: bool) -> None:
    """Off on loopback, on elsewhere, unless it is said; a packet is that much smaller."""
    where = network(interface, authentication)
    assert is_authenticated(where) is expected
    assert packet_room(where) == where.max_payload - (16 if expected else 0)


def test_keys_come_from_the_environment() -> None:
    """A venue's key first, the one accepted beside it second; digits in either case, blanks
    around them ignored.
    """
    environ = {"TAPECAST_KEY_OKX": KEY.hex().upper() + "\n", "TAPECAST_KEY_OKX_ALSO": NEXT.hex()}
    assert channel_keys(["okx"], network(), environ) == keys(okx=(KEY, NEXT))
    assert sending_key("okx", network(), environ) == KEY
    assert channel_keys(["okx"], network("127.0.0.1"), environ) == {}
    assert sending_key("okx", network("127.0.0.1"), {}) is None


def test_a_credential_comes_before_the_variable(tmp_path: Path) -> None:
    """The file of systemd of the same name in lower case; what is not there is taken from the
    environment.
    """
    (tmp_path / "key_okx").write_text(f"{NEXT.hex()}\n")
    environ = {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "TAPECAST_KEY_OKX": KEY.hex(),
        "TAPECAST_KEY_UPBIT": KEY.hex(),
    }
    assert channel_keys(["okx", "upbit"], network(), environ) == keys(okx=(NEXT,), upbit=(KEY,))


def test_all_venues_are_those_with_keys() -> None:
    """Without names, the channels that there are keys for."""
    assert channel_keys(None, network(), {"TAPECAST_KEY_UPBIT": KEY.hex()}) == keys(upbit=(KEY,))


def test_missing_keys_are_all_named() -> None:
    """With the variable, the reason, and the way to do without."""
    text = problems(["okx", "upbit"], {}, network())
    assert "$TAPECAST_KEY_OKX is not set: network.interface 10.0.0.5 is not loopback" in text
    assert "$TAPECAST_KEY_UPBIT is not set" in text
    assert "$TAPECAST_KEY_OKX is not set" in problems(
        ["okx"], {"TAPECAST_KEY_OKX": ""}, network()
    ), "empty is as missing"
    assert "network.authentication = off" in text
    assert "network.authentication is on" in problems(["okx"], {}, network("127.0.0.1", "on"))
    assert "no $TAPECAST_KEY_<VENUE> is set" in problems(None, {}, network())
    assert "$TAPECAST_KEY_OKX is not set" in problems(
        None, {"TAPECAST_KEY_OKX_ALSO": KEY.hex()}, network()
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [("00ff", "4 hexadecimal digits: a key has 64"), ("x" * 64, "not hexadecimal")],
)
def test_a_wrong_key_is_named_and_not_shown(text: str, what: str) -> None:
    """The message names the variable and what is wrong, never the value."""
    for name in ("TAPECAST_KEY_OKX", "TAPECAST_KEY_OKX_ALSO"):
        said = problems(["okx"], {"TAPECAST_KEY_OKX": KEY.hex(), name: text}, network())
        assert said.startswith(f"${name}: ")
        assert what in said
        assert text not in said.replace("$TAPECAST_KEY_OKX", "")


def test_an_unreadable_credential_is_an_error(tmp_path: Path) -> None:
    """It is not passed over in favour of a variable."""
    (tmp_path / "key_okx").mkdir()
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "TAPECAST_KEY_OKX": KEY.hex()}
    assert "$TAPECAST_KEY_OKX (or the credential key_okx): cannot be read" in problems(
        ["okx"], environ, network()
    )


def test_nothing_shows_a_key() -> None:
    """What holds keys does not print them."""
    admission = Admission(["okx"], network(), {"TAPECAST_KEY_OKX": KEY.hex()})
    assert KEY.hex() not in repr(admission)
    assert repr(KEY) not in repr(admission)
