"""`runtime.secrets`: where keys come from, and that they are not printed."""

from __future__ import annotations

from pathlib import Path

from tapecast.runtime.secrets import Secret, describe, find


def test_from_the_environment() -> None:
    """By the variable of its name; blank is as missing."""
    found = find("LS_APPKEY", {"TAPECAST_LS_APPKEY": " k1 "})
    assert found is not None
    assert found.reveal() == "k1"
    assert find("LS_APPKEY", {"TAPECAST_LS_APPKEY": "  "}) is None
    assert find("LS_APPKEY", {}) is None


def test_credentials_come_first(tmp_path: Path) -> None:
    """A file in the service manager's folder, without the newline that editors put behind it;
    else the variable.
    """
    (tmp_path / "ls_appkey").write_text("k2\n")
    (tmp_path / "ls_empty").write_text("\n")
    environ = {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "TAPECAST_LS_APPKEY": "k1",
        "TAPECAST_LS_EMPTY": "k3",
    }
    assert [
        secret.reveal() for name in ("LS_APPKEY", "LS_EMPTY") if (secret := find(name, environ))
    ] == ["k2", "k3"]
    assert find("LS_OTHER", environ) is None


def test_a_secret_does_not_show_itself() -> None:
    """Printed, formatted or in a structure it is a word that says nothing."""
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]} { ({'a': secret}) }"


def test_an_operator_is_told_both_ways() -> None:
    """The names as they are to be written."""
    assert describe("LS_APPKEY") == "$TAPECAST_LS_APPKEY (or the credential ls_appkey)"
