"""`tapecast dump`: packets of the network or of a tape as lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tapecast.cli import main
from tapecast.dump import text_line
from tapecast.protocol.net.io import Sender
from tests.consumers.publisher import Publisher, btcusdt

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    """A tape of one small session."""
    path = tmp_path / "btcusdt.tape"
    path.write_bytes(b"".join(btcusdt()))
    return path


def lines(capsysbinary: pytest.CaptureFixture[bytes]) -> list[bytes]:
    """Return what was printed."""
    return capsysbinary.readouterr().out.splitlines()


def test_json_lines_are_those_of_decode(
    tape: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Each event is one JSON object with the normalised keys and exact decimals."""
    assert main(["dump", "--file", str(tape), "--json"]) == 0
    events = [json.loads(line) for line in lines(capsysbinary)]
    assert [event["type"] for event in events] == [
        "instrument",
        "trade",
        "trade",
        "book",
        "book",
        "bbo",
    ]
    assert (events[1]["price"], events[1]["quantity"], events[1]["side"]) == (
        "61837.63",
        "0.02",
        "sell",
    )
    assert events[5]["bid"] == ["61837.63", "3.78826"]


def test_text_lines_are_readable(tape: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """The text form has time, names, type and values in columns."""
    assert main(["dump", "--file", str(tape)]) == 0
    text = [line.decode() for line in lines(capsysbinary)]
    assert text[1].split() == [
        "23:54:15.342000",
        "binance",
        "spot",
        "BTCUSDT",
        "trade",
        "sell",
        "61837.63",
        "x",
        "0.02",
        "id",
        "3735683259",
    ]
    assert text[3].split()[5:9] == ["snapshot", "bids", "61837.63x3.78826", "61837.62x0.617"]
    assert "[snapshot]" in text[3]
    assert text[5].endswith("61837.63x3.78826 / 61837.64x1.54698")
    assert len({line.index("BTCUSDT") for line in text}) == 1


def test_raw_packets_show_session_marks_and_heartbeats(
    tape: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """With --raw-packets nothing on the wire is left out."""
    assert main(["dump", "--file", str(tape), "--raw-packets", "--json"]) == 0
    types = [json.loads(line)["type"] for line in lines(capsysbinary)]
    assert types[0] == "session_start"
    assert types[-1] == "heartbeat"


def test_loss_is_a_line(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """A hole in the channel's sequence is printed where it is, in both forms."""
    packets = btcusdt()
    path = tmp_path / "hole.tape"
    path.write_bytes(b"".join([*packets[:3], *packets[5:]]))
    assert main(["dump", "--file", str(path), "--json"]) == 0
    events = [json.loads(line) for line in lines(capsysbinary)]
    assert [event["type"] for event in events] == ["instrument", "trade", "trade", "gap", "bbo"]
    assert (events[3]["venue"], events[3]["expected"], events[3]["got"], events[3]["reason"]) == (
        "binance",
        4,
        6,
        "loss",
    )
    assert main(["dump", "--file", str(path)]) == 0
    assert b"loss: expected 4, got 6" in lines(capsysbinary)[3]


def test_count_and_venues_limit_the_lines(
    tape: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """--count ends after so many lines; venues filter a tape too; an unknown venue is a usage
    error.
    """
    assert main(["dump", "--file", str(tape), "--count", "2"]) == 0
    assert len(lines(capsysbinary)) == 2
    assert main(["dump", "okx", "--file", str(tape)]) == 0
    assert lines(capsysbinary) == []
    assert main(["dump", "okex", "--file", str(tape)]) == 2


def test_control_characters_are_not_printed() -> None:
    """A venue's text cannot drive the terminal."""
    event = {
        "type": "status",
        "venue": "okx",
        "ts_recv_ns": None,
        "flags": [],
        "detail": "\x1b[2Jgone",
    }
    assert "\x1b" not in text_line(event)  # type: ignore[arg-type]


def test_live_packets_are_printed() -> None:
    """The command joins the group and prints what is sent to it, then ends by --count."""
    prefix, port = f"239.{192 + os.getpid() % 60}.251", 20000 + os.getpid() % 10000
    command = [
        sys.executable,
        "-m",
        "tapecast",
        "dump",
        "binance",
        "--json",
        "--count",
        "6",
        "--seconds",
        "20",
    ]
    settings = ["--set", f"network.group_prefix={prefix}", "--set", f"network.port_crypto={port}"]
    process = subprocess.Popen([*command, *settings], cwd=ROOT, stdout=subprocess.PIPE)
    sender = Sender(f"{prefix}.1", port)
    try:
        publisher = Publisher()
        while process.poll() is None:
            packets = b"".join(
                publisher.heartbeat() if publisher.next_seq > 1 else publisher.start()
            )
            sender.send(packets, len(packets))
            packets = b"".join(publisher.define(version=publisher.next_seq))
            sender.send(packets, len(packets))
            try:
                process.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue
        assert process.stdout is not None
        events = [json.loads(line) for line in process.stdout.read().splitlines()]
        assert [event["type"] for event in events] == ["instrument"] * 6
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
        sender.close()
        assert process.stdout is not None
        process.stdout.close()


def test_a_closed_pipe_is_no_error(tape: Path) -> None:
    """`dump | head -1` ends without a traceback."""
    tape.write_bytes(tape.read_bytes()[: 66 + 32] + b"".join(btcusdt()[1:6]) * 4000)
    command = f"{sys.executable} -m tapecast dump --file {tape} --raw-packets | head -1"
    done = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert done.stderr == b""
    assert len(done.stdout.splitlines()) == 1
