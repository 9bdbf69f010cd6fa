"""Generated files: equal to what is committed, and stale ones are noticed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tapecast.protocol import generate, schema
from tapecast.protocol.generate_spec import fill_tables


def test_committed_files_are_what_the_schema_gives(capsys):
    """`--check` finds no difference between the schema and the committed C header, dissector and
    specification.
    """
    assert generate.main(["--check"]) == 0
    assert capsys.readouterr().err == ""


def test_outputs_are_the_three_generated_files():
    """The check covers the C header, the dissector and the specification."""
    assert {path.name for path in generate.outputs()} == {"wire.h", "tapecast.lua", "SPEC.md"}


def test_a_stale_file_is_named(tmp_path, monkeypatch, capsys):
    """`--check` fails and names the file that differs; without it the file is written."""
    stale = tmp_path / "wire.h"
    stale.write_text("old\n")
    monkeypatch.setattr(generate, "outputs", lambda: {stale: "new\n"})
    assert generate.main(["--check"]) == 1
    assert str(stale) in capsys.readouterr().err
    assert stale.read_text() == "old\n"
    assert generate.main([]) == 0
    assert stale.read_text() == "new\n"


def test_prose_of_the_specification_is_kept():
    """Only the text between the markers of a table is replaced."""
    text = fill_tables("before\n<!-- table: flags -->\nold\n<!-- end -->\nafter\n")
    assert text.startswith("before\n<!-- table: flags -->\n| flag |")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text


def test_an_unknown_table_is_an_error():
    """A marker that names no table is a mistake in the document, not an empty table."""
    with pytest.raises(KeyError, match="colours"):
        fill_tables("<!-- table: colours -->\n<!-- end -->\n")


def test_specification_shows_every_field_and_flag():
    """Every field of every record, every message type, flag and venue is in the published
    specification.
    """
    text = next(text for path, text in generate.outputs().items() if path.name == "SPEC.md")
    for record in schema.RECORDS:
        for field in record.fields:
            assert f"| {field.offset} | " in text
            assert f"| `{field.name}` | {field.doc} |" in text
    shown = (
        *schema.MsgType,
        *schema.Flag,
        *schema.StatusReason,
        *schema.RequestKind,
        *schema.ReplyStatus,
    )
    for name in [member.name for member in shown]:
        assert f"| {name} |" in text
    for venue in schema.VENUES:
        assert f"| `{venue}` |" in text
    for service, number in schema.SERVICES.items():
        assert f"| {number} | `{service}` | {1000 + number} | {2000 + number} |" in text


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_c_header_compiles_with_its_own_assertions(tmp_path):
    """The C header's offset assertions hold for the compiler at hand, without a warning."""
    (tmp_path / "wire.h").write_text(generate.c_header())
    source = tmp_path / "main.c"
    source.write_text(
        '#include "wire.h"\nint main(void) { return (int)tc_min_item_size(TC_MSG_BOOK) - 16; }\n'
    )
    program = tmp_path / "main"
    subprocess.run(
        ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True
    )
    assert subprocess.run([program], check=False).returncode == 0
