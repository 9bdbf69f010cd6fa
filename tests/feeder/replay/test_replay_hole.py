"""A recording with a hole, as `tapecast record` marks one, played over real sockets."""

from __future__ import annotations

import json
from pathlib import Path

from tests.feeder.replay.test_replay_server import Listener, Recorded, ended, recording, serving


async def test_a_hole_in_the_recording_drops_the_clients(tmp_path: Path) -> None:
    """What was recorded before it has been read, the connections end, and what follows goes to
    whoever comes again.
    """
    whole = recording("binance", "cf_20211012_spot.jsonl")
    mark = json.dumps(
        {
            "ts": None,
            "conn": "",
            "url": None,
            "kind": "disconnect",
            "raw": "lines were not recorded",
        }
    )
    texts = whole.path.read_text().splitlines()
    path = tmp_path / whole.path.name
    path.write_text("\n".join([mark, *texts[:150], mark, *texts[150:]]) + "\n")
    holed = Recorded(path)
    before = [line["raw"] for line in Recorded(whole.path).lines[:150] if line["kind"] == "recv"]
    after = [line["raw"] for line in Recorded(whole.path).lines[150:] if line["kind"] == "recv"]
    request = {"method": "SUBSCRIBE", "params": whole.streams(), "id": 1}
    async with serving(holed, "binance") as server:
        async with Listener(server.urls.ws + "/ws", request) as first:
            await first.until(lambda: first.closed)
            assert first.messages[1:] == before
        async with Listener(server.urls.ws + "/ws", request) as second:
            await ended(server)
            assert second.messages[1:] == after
