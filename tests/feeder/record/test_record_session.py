"""A recorded session does what a plain one does, and what it is given is recorded once, in
order, before it is handled.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tapecast.feeder.record.recorder import Recorder
from tapecast.feeder.record.recording import Line, read
from tapecast.feeder.record.session import SessionRecorder, SocketTap
from tapecast.feeder.session.session import Session, SessionOptions
from tapecast.feeder.venues import venue
from tests.feeder.record.test_record import TS, settings, written
from tests.support.captures import captures


def played(session: Session, lines: list[Line]) -> list[bytes]:
    """Give a recording's connection and messages to a session; return what it publishes."""
    out: list[bytes] = []
    for number, line in enumerate(lines):
        if line.kind == "connect":
            session.on_url(line.conn, line.url or "")
            session.on_connect(line.conn, number, TS + number)
        elif line.kind == "recv":
            session.on_frame(line.conn, line.raw, TS + number, number)
        session.flush(
            lambda buffer, nbytes: out.append(bytes(buffer[:nbytes])), number, TS + number
        )
    return out


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("kraken", "kraken/cf_20210417_ws_v1.p1.jsonl"),
        ("upbit", "upbit/cf_20210405_simple.jsonl"),
        ("deribit", "deribit/cf_20210722_options.jsonl"),
    ],
)
def test_every_message_is_recorded_once_whatever_the_session_makes_of_it(
    name: str, file: str, tmp_path: Path
) -> None:
    """Also those that it reframes, or handles again once their symbol is known: what goes out is
    what a plain session sends.
    """
    lines = list(read([captures() / file]))[:1500]
    options = SessionOptions(channel_id=1, accept_any=True)
    recorder = Recorder(name, settings(tmp_path, queue_mb=64))
    ours = played(Session(venue(name), options, SessionRecorder(recorder)), lines)
    recorder.close()
    assert ours == played(Session(venue(name), options), lines)
    assert sum(map(len, ours)) > 10_000
    kept = [(line.kind, line.conn, line.url, line.raw) for line in written(tmp_path, name)[1:]]
    assert kept == [
        (line.kind, line.conn, line.url, line.raw)
        for line in lines
        if line.kind in ("connect", "recv")
    ]


def test_connects_and_disconnects_are_recorded_as_they_happen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was thought open is closed first, one that never opened is not lost; a message
    that raises is recorded too.
    """

    def defective(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(Session, "_on_odd_frame", defective)
    recorder = Recorder("upbit", settings(tmp_path))
    session = Session(venue("upbit"), SessionOptions(channel_id=1), SessionRecorder(recorder))
    tap = SocketTap(recorder, SimpleNamespace(key="ws.1"))
    session.on_url("ws.1", "ws://127.0.0.1/websocket/v1")
    session.on_disconnect("ws.1", 1, TS)
    session.on_connect("ws.1", 2, TS + 1)
    tap.sent(b"[]")
    tap.receiving(True)
    with pytest.raises(ZeroDivisionError):
        session.on_frame("ws.1", b"{", TS + 2, 3)
    tap.receiving(False)
    with pytest.raises(ZeroDivisionError):
        session.on_frame("ws.1", b"}", TS + 3, 4)
    session.on_connect("ws.1", 5, TS + 4)
    session.on_disconnect("ws.1", 6, TS + 5)
    recorder.close()
    found = [(line.kind, line.raw, line.binary, line.ts_recv_ns) for line in written(tmp_path)[1:]]
    sent = found.pop(1)
    assert sent[:2] == ("send", b"[]")
    assert found == [
        ("connect", b"", False, TS + 1),
        ("recv", b"{", True, TS + 2),
        ("recv", b"}", False, TS + 3),
        ("disconnect", b"", False, TS + 4),
        ("connect", b"", False, TS + 4),
        ("disconnect", b"", False, TS + 5),
    ]
