"""`tapecast replay` as a process: its events on stdout, its exit codes, its stop."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import websockets

from tests.support.captures import captures

PROGRAM = (
    "import argparse, sys\n"
    "from tapecast.feeder.replay.command import add_arguments, run\n"
    "parser = argparse.ArgumentParser()\n"
    "add_arguments(parser)\n"
    "sys.exit(run(parser.parse_args()))\n"
)
ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 30.0


async def started(*arguments: str) -> asyncio.subprocess.Process:
    """Start the command with its stdout and stderr in pipes."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        *arguments,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def line(process: asyncio.subprocess.Process, event: str) -> dict[str, object]:
    """Read stdout up to the next line of that event."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        while text := await process.stdout.readline():
            found: dict[str, object] = json.loads(text)
            if found["event"] == event:
                return found
    raise AssertionError(f"stdout ended before {event}")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_serves_until_told_to_stop(signum: signal.Signals) -> None:
    """It tells where it listens and when the recording is over, keeps the connection after that,
    and exits 0 on a signal.
    """
    recorded = captures() / "binance" / "cf_20210814_spot.jsonl"
    process = await started(str(recorded), "--speed", "max", "--json", "--settle", "0.05")
    listening = await line(process, "listening")
    assert listening["venue"] == "binance"
    async with websockets.connect(
        f"{listening['ws']}/ws/xmrbtc@aggTrade", compression=None
    ) as client:
        end = await line(process, "end")
        sent = end["frames_sent"]
        assert isinstance(sent, int)
        assert [json.loads(await client.recv())["data"]["s"] for _ in range(sent)] == [
            "XMRBTC"
        ] * sent
        assert list(end) == ["event", "venue", "frames_sent", "seconds"]
        assert await (await client.ping()) >= 0
        process.send_signal(signum)
        async with asyncio.timeout(5):
            assert await process.wait() == 0


async def test_one_server_for_each_venue() -> None:
    """Recordings of two venues listen on two ports."""
    folder = captures()
    paths = [
        folder / "binance" / "cf_20210814_spot.jsonl",
        folder / "okx" / "cf_20220513_v5_books.jsonl",
    ]
    process = await started(*map(str, paths), "--json")
    first, second = await line(process, "listening"), await line(process, "listening")
    assert (first["venue"], second["venue"]) == ("binance", "okx")
    assert first["ws"] != second["ws"]
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("name", "options", "code", "text"),
    [
        ("tape.jsonl", [], 2, "--venue"),
        ("absent.jsonl", ["--venue", "okx"], 1, "absent.jsonl"),
        ("tape.jsonl", ["--venue", "okx"], 1, "tape.jsonl"),
        ("tape.jsonl", ["--venue", "okx", "--speed", "0"], 2, "--speed"),
    ],
)
async def test_what_cannot_be_served_ends_at_once(
    tmp_path: Path, name: str, options: list[str], code: int, text: str
) -> None:
    """The exit code tells usage from trouble, and stderr names the file or option."""
    (tmp_path / "tape.jsonl").write_text("")
    process = await started(str(tmp_path / name), *options)
    async with asyncio.timeout(PATIENCE_S):
        _, stderr = await process.communicate()
    assert process.returncode == code
    assert text in stderr.decode()
