"""The Wireshark dissector shows the golden packets as they are, in the real tshark.

tshark runs user scripts given with `-X lua_script` as root too (4.0 prints a warning on stderr
only).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tapecast.protocol import schema
from tests.support.pcap import write_pcap, write_tcp_pcap
from tests.support.vectors import VECTORS, names

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

SCRIPT = Path(__file__).resolve().parents[2] / "protocol" / "wireshark" / "tapecast.lua"
SEPARATOR = "\x1f"


def tshark(
    folder: Path, datagrams: list[tuple[int, bytes]], fields: list[str]
) -> list[dict[str, list[str]]]:
    """Return the named fields of each datagram, all occurrences."""
    capture = folder / "golden.pcap"
    write_pcap(capture, datagrams)
    return dissect(capture, fields)


def dissect(capture: Path, fields: list[str], *options: str) -> list[dict[str, list[str]]]:
    """Return the named fields of each frame of a capture, all occurrences."""
    command = ["tshark", "-r", str(capture), "-X", f"lua_script:{SCRIPT}", *options]
    command += ["-T", "fields", "-E", f"aggregator={SEPARATOR}"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert "Lua" not in done.stderr, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return [
        dict(zip(fields, [cell.split(SEPARATOR) if cell else [] for cell in row], strict=True))
        for row in rows
    ]


def item_fields(record: schema.Record) -> list[str]:
    """Return the dissector's names of a record's fields."""
    return [f"tapecast.{record.name}.{field.name}" for field in record.fields]


@pytest.fixture(scope="module")
def dissected(tmp_path_factory):
    """Every golden packet through one tshark run: (vector name, packet index) -> fields."""
    fields = [f"tapecast.{field.name}" for field in schema.HEADER.fields]
    fields += [f"tapecast.flags.{flag.name.lower()}" for flag in schema.Flag]
    fields += [name for record in schema.RECORDS[1:] for name in item_fields(record)]
    fields += [
        "tapecast.tag",
        "tapecast.text",
        "tapecast.payload",
        "tapecast.appended",
        "tapecast.cut",
        "tapecast.bad_items",
    ]
    keys = [
        (vector["name"], index) for vector in VECTORS for index in range(len(vector["packets"]))
    ]
    data = [
        (9001 + i % 2, bytes.fromhex(p["hex"]))
        for i, p in enumerate(p for v in VECTORS for p in v["packets"])
    ]
    rows = tshark(tmp_path_factory.mktemp("dissector"), data, fields)
    return dict(zip(keys, rows, strict=True))


def packets(vector, dissected):
    """Yield each packet of a vector with what tshark shows."""
    for index, packet in enumerate(vector["packets"]):
        yield packet, dissected[vector["name"], index]


@pytest.mark.parametrize("vector", VECTORS, ids=names(VECTORS))
def test_header_fields_show_their_values(vector, dissected):
    """Every header field of every golden packet has its value in tshark."""
    for packet, shown in packets(vector, dissected):
        assert {name: int(shown[f"tapecast.{name}"][0], 0) for name in packet["header"]} == packet[
            "header"
        ]
        assert shown["tapecast.cut"] == shown["tapecast.bad_items"] == []


@pytest.mark.parametrize("vector", VECTORS, ids=names(VECTORS))
def test_flag_bits_show_one_by_one(vector, dissected):
    """Each flag is shown as a bit of its own."""
    for packet, shown in packets(vector, dissected):
        for flag in schema.Flag:
            value = shown[f"tapecast.flags.{flag.name.lower()}"]
            assert (
                value in (["True"], ["1"])
                if packet["header"]["flags"] & flag
                else value in (["False"], ["0"])
            )


@pytest.mark.parametrize("vector", VECTORS, ids=names(VECTORS))
def test_items_show_their_values(vector, dissected):
    """Every field of every item has its value, walked by item_size, and no item of another type
    is shown.
    """
    for packet, shown in packets(vector, dissected):
        msg_type = packet["header"]["msg_type"]
        own = schema.ITEM_OF[schema.MsgType(msg_type)] if msg_type in set(schema.MsgType) else None
        for record in schema.RECORDS[1:]:
            for field in record.fields:
                values = shown[f"tapecast.{record.name}.{field.name}"]
                # tshark leaves empty strings out of the list.
                expected = (
                    [str(item[field.name]) for item in packet["items"]] if record is own else []
                )
                if field.type in ("utf8", "bytes"):
                    assert values == [text for text in expected if text]
                else:
                    assert [int(value, 0) for value in values] == [int(value) for value in expected]


def test_tag_text_and_unknown_bytes_are_shown(dissected):
    """The tag, the joined text, the payload of an unknown type and appended item bytes have
    fields of their own.
    """
    by_name = {vector["name"]: vector for vector in VECTORS}
    assert dissected["auth", 0]["tapecast.tag"] == [by_name["auth"]["packets"][0]["tag"]]
    assert dissected["text", 0]["tapecast.text"] == [by_name["text"]["events"][0]["text"]]
    assert dissected["unknown_type", 0]["tapecast.payload"] == [
        by_name["unknown_type"]["packets"][0]["hex"][132:]
    ]
    assert dissected["grown_item", 0]["tapecast.appended"] == ["ff" * 8, "ff" * 8]


def test_monitoring_lines_are_shown_as_text(tmp_path):
    """A datagram of the monitoring group is shown line by line, on both ports."""
    data = b"CONN|binance|49|0|3|52\nEXCHANGE|bithumb|spot|12|1723161254\n"
    rows = tshark(tmp_path, [(9001, data), (9002, b"A")], ["tapecast.line", "tapecast.magic"])
    assert rows[0] == {"tapecast.line": data.decode().splitlines(), "tapecast.magic": []}
    assert rows[1] == {"tapecast.line": ["A"], "tapecast.magic": []}


def test_runs_of_packets_are_split(tmp_path):
    """A capture on the sending host holds several packets in one datagram: all are shown."""
    first, second = (
        bytes.fromhex(packet["hex"])
        for v in VECTORS
        if v["name"] == "book_snapshot"
        for packet in v["packets"]
    )
    rows = tshark(tmp_path, [(9001, first + second)], ["tapecast.fragment", "tapecast.level.price"])
    assert rows[0]["tapecast.fragment"] == ["0", "1"]
    assert len(rows[0]["tapecast.level.price"]) == 20


@pytest.mark.parametrize("length", [2, 65, 66, 70, 81])
def test_cut_packets_are_marked_malformed(tmp_path, length):
    """A packet that is cut anywhere is marked, without a script error."""
    data = bytes.fromhex(next(v for v in VECTORS if v["name"] == "bbo")["packets"][0]["hex"])
    rows = tshark(tmp_path, [(9001, data[:length])], ["tapecast.cut", "_ws.expert.message"])
    assert rows[0]["tapecast.cut"] != []
    assert rows[0]["_ws.expert.message"] == ["packet is cut"]


@pytest.mark.parametrize("size", [1, 2, 65, 66, 97, 98, 150, 1000])
def test_an_answer_over_tcp_is_put_together(tmp_path, size):
    """However the segments cut it, each packet of the recovery service is shown once, whole; the
    port is named by the user.
    """
    by_name = {
        vector["name"]: [bytes.fromhex(packet["hex"]) for packet in vector["packets"]]
        for vector in VECTORS
    }
    packets = by_name["instrument"] + by_name["book_snapshot"] + by_name["reply"][:1]
    stream = b"".join(packets)
    write_tcp_pcap(
        tmp_path / "tcp.pcap", 5555, [stream[at : at + size] for at in range(0, len(stream), size)]
    )
    fields = [
        "tapecast.msg_type",
        "tapecast.reply.request_id",
        "tapecast.level.price",
        "tapecast.cut",
    ]
    rows = dissect(tmp_path / "tcp.pcap", fields, "-d", "tcp.port==5555,tapecast")
    shown = {field: [value for row in rows for value in row[field]] for field in fields}
    assert [int(value) for value in shown["tapecast.msg_type"]] == [packet[3] for packet in packets]
    assert shown["tapecast.reply.request_id"] == ["7"]
    assert len(shown["tapecast.level.price"]) == 20
    assert shown["tapecast.cut"] == []
