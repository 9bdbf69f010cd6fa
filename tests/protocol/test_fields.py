"""Header fields are read by name, everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tapecast.protocol import fields
from tapecast.protocol.dtypes import HEADER as HEADER_DTYPE
from tapecast.protocol.records import HEADER_STRUCT, Header

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("protocol", "runtime", "feeder", "consumers", "monitors", "tapecast")
BY_NUMBER = re.compile(
    r"\b\w*(header|fields|packet|datagram)\[\d+(:\d+)?\]"
    r"|\b(data|buffer|packets?)\[(at|start|offsets?) \+ \d+\]"
    r"|HEADER_STRUCT\.unpack(_from)?\([^\n]*\)\[\d+\]"
)
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
OF_TEXT = {"monitors/model.py"}
"""Files in which `fields` are the columns of a line of text."""


def test_every_place_is_that_of_its_field() -> None:
    """An unpacked header read by a constant gives the field of that name."""
    packed = HEADER_STRUCT.pack(*range(1, len(Header._fields) + 1))
    plain = HEADER_STRUCT.unpack(packed)
    named = Header._make(plain)
    places = [name for name in fields.__all__ if name not in ("OFFSET", "HeaderTuple")]
    assert len(places) >= 18
    for name in places:
        assert plain[getattr(fields, name)] == getattr(named, name.lower())


def test_every_offset_is_where_the_field_begins() -> None:
    """The byte offsets are those of the numpy dtype."""
    found = {name: HEADER_DTYPE.fields[name][1] for name in HEADER_DTYPE.names or ()}  # type: ignore[index]
    assert found == fields.OFFSET


@pytest.mark.parametrize(
    "line",
    [
        "x = header[9]",
        "if fields[4]:",
        "packet[14:16]",
        "data[at + 3]",
        "HEADER_STRUCT.unpack_from(packet)[7]",
    ],
)
def test_a_read_by_number_is_found(line: str) -> None:
    """What the next test looks for is found where it stands."""
    assert BY_NUMBER.search(line)


def test_no_source_reads_a_header_by_number() -> None:
    """A number says nothing, and stays what it is when the layout changes."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in SOURCES
        if str(path.relative_to(ROOT)) not in OF_TEXT
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if BY_NUMBER.search(line)
    ]
    assert found == []
