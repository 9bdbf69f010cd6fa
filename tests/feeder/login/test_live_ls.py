"""LS Securities' live feeder: the token before the connection, what happens when it is refused,
silence outside trading hours.

And the replay server's side of the same conversation. Messages are documented ones; faults are
scripted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tapecast.feeder.login.access import Access
from tapecast.feeder.login.client import client_of
from tapecast.feeder.replay.dialect import BROADCAST, Granting, Route, VenueSide
from tapecast.feeder.replay.server import ReplayServer
from tapecast.feeder.replay.venues import DIALECTS, guess_venue
from tapecast.feeder.venues import venue
from tapecast.feeder.venues.ls import VENUE
from tapecast.feeder.venues.spec import Ack, ServerError, VenueSpec
from tests.support.ls_frames import BOOKS, JIF, TRADES
from tests.support.processes import Net
from tests.support.venue_server import (
    Answer,
    Asked,
    Link,
    VenueServer,
    eventually,
    feeder_config,
    feeding,
)

SYMBOL = "U005930"
BOOK = BOOKS["UH1"][0]
LS = {
    "venues__ls__symbols": [SYMBOL],
    "venues__ls__channels": ["US3", "UH1", "JIF"],
    "feeder__backoff__base_s": 0.02,
    "feeder__backoff__cap_s": 0.05,
    "venues__ls__limits__rest_window_s": 0.001,
    "venues__ls__limits__connects_window_s": 0.001,
}
REFUSED = (
    b'{"header":{"rsp_cd":"IGW00121","rsp_msg":"x","tr_cd":"US3","tr_key":"U005930  '
    b' ","tr_type":"3"},"body":null}'
)


@pytest.fixture
def net() -> Net:
    """Groups and a port of this test's own."""
    return Net()


class Tokens:
    """REST of the venue: each login gives another token; everything else is refused to whoever
    has not the last one.
    """

    def __init__(self, *, expires_in: int = 86400) -> None:
        """None was given."""
        self.given = 0
        self._expires_in = expires_in

    def __call__(self, asked: Asked) -> Answer:
        """Answer a request."""
        if asked.path != "/oauth2/token":
            return Answer(404)
        self.given += 1
        return Answer(
            body=b'{"access_token":"token-%d","expires_in":%d}' % (self.given, self._expires_in)
        )


def access(server: VenueServer, net: Net, folder: Path) -> Access:
    """Return the access of the venue with any keys."""
    return Access(client_of(venue("ls"), feeder_config("ls", server, net, folder), replay=True))


def tokens_heard(server: VenueServer) -> list[str]:
    """Return the tokens of the subscriptions that a server heard, each once."""
    return list(dict.fromkeys(json.loads(text)["header"]["token"] for text in server.heard))


async def test_the_token_comes_before_the_subscription(net: Net, tmp_path: Path) -> None:
    """One login, one message a subscription with the token in it, and then data are data."""

    async def script(link: Link) -> None:
        await link.send(BOOK)

    tokens = Tokens()
    server = VenueServer(script, tokens)
    async with (
        server.running(),
        feeding("ls", server, net, tmp_path, access=access(server, net, tmp_path), **LS) as feeder,
    ):
        await eventually(lambda: len(server.heard) == 3 and feeder.session.live_books() == 1)
        assert [json.loads(text)["body"] for text in server.heard] == [
            {"tr_cd": "US3", "tr_key": "U005930   "},
            {"tr_cd": "UH1", "tr_key": "U005930   "},
            {"tr_cd": "JIF", "tr_key": "0"},
        ]
        assert tokens_heard(server) == ["token-1"]
        assert tokens.given == 1


async def test_a_refused_token_costs_one_login_and_then_a_pause(net: Net, tmp_path: Path) -> None:
    """The venue refuses every token: the second is got at once, the third not for a minute, and
    no connection is made without.
    """

    async def script(link: Link) -> None:
        await eventually(lambda: server.heard)
        await link.send(REFUSED)

    tokens = Tokens()
    server = VenueServer(script, tokens)
    async with (
        server.running(),
        feeding("ls", server, net, tmp_path, access=access(server, net, tmp_path), **LS) as feeder,
    ):
        await eventually(
            lambda: feeder.session.counts["control_servererror"] == 2 and not server.links
        )
        pauses = "login-ls.json"
        await eventually(
            lambda: (
                json.loads((tmp_path / "state" / pauses).read_bytes())["state"]["not_before_ns"]
                > time.time_ns()
            )
        )
        assert (tokens.given, len(server.connects_s)) == (2, 2)


@pytest.mark.parametrize("status", [200, 401, 500])
async def test_a_list_refused_for_its_token_costs_one_login(
    status: int, net: Net, tmp_path: Path
) -> None:
    """Whatever the status is, the code in the body counts; the next request has the new token."""
    tokens = Tokens()

    def rest(asked: Asked) -> Answer:
        if asked.path == "/stock/etc" and tokens.given == 1:
            return Answer(status, body=b'{"rsp_cd":"IGW00121","rsp_msg":"token"}')
        return tokens(asked)

    server = VenueServer(None, rest)
    async with (
        server.running(),
        feeding("ls", server, net, tmp_path, access=access(server, net, tmp_path), **LS) as feeder,
    ):
        await eventually(lambda: tokens_heard(server) == ["token-2"])
        assert (tokens.given, feeder.session.counts["quarantine"]) == (2, 0)


async def test_a_good_token_after_a_refused_one_is_used(net: Net, tmp_path: Path) -> None:
    """The feed goes on with the second, as if nothing had been."""

    async def script(link: Link) -> None:
        await eventually(lambda: server.heard)
        await link.send(REFUSED if len(server.connects_s) == 1 else BOOK)

    tokens = Tokens()
    server = VenueServer(script, tokens)
    async with (
        server.running(),
        feeding("ls", server, net, tmp_path, access=access(server, net, tmp_path), **LS) as feeder,
    ):
        await eventually(
            lambda: (
                feeder.session.live_books() == 1 and tokens_heard(server) == ["token-1", "token-2"]
            )
        )
        assert tokens.given == 2


def _silent(allowed: Callable[[int], bool]) -> VenueSpec:
    """LS with its own answer to when no data need come."""
    spec = venue("ls")
    return replace(spec, stream=replace(spec.stream, silence_allowed=allowed))


@pytest.mark.parametrize("quiet", [True, False])
async def test_silence_is_an_alarm_in_trading_hours_only(
    quiet: bool, net: Net, tmp_path: Path
) -> None:
    """A connection without data is made anew; not while silence is normal."""
    asked: list[int] = []

    def allowed(now_ns: int) -> bool:
        asked.append(now_ns)
        return quiet

    spec = _silent(allowed)
    server = VenueServer(None, Tokens())
    settings: dict[str, object] = {**LS, "feeder__data_idle_reconnect_s": 0.1}
    async with (
        server.running(),
        feeding(
            "ls", server, net, tmp_path, spec=spec, access=access(server, net, tmp_path), **settings
        ),
    ):
        if quiet:
            await eventually(lambda: len(asked) > 2)
            assert len(server.connects_s) == 1
        else:
            await eventually(lambda: len(server.connects_s) > 1)


async def test_connections_are_made_anew_with_a_renewed_token(net: Net, tmp_path: Path) -> None:
    """Once the token is due, while silence is normal; in trading hours the connection stays."""
    quiet = [False]
    spec = _silent(lambda _: quiet[0])
    tokens = Tokens(expires_in=2)
    server = VenueServer(None, tokens)
    async with (
        server.running(),
        feeding("ls", server, net, tmp_path, spec=spec, access=access(server, net, tmp_path), **LS),
    ):
        await eventually(lambda: tokens_heard(server) == ["token-1"])
        issued = json.loads((tmp_path / "state" / "login-ls.json").read_bytes())["state"][
            "issued_ns"
        ]
        await eventually(lambda: time.time_ns() > issued + 2_500_000_000)
        assert len(server.connects_s) == 1
        quiet[0] = True
        await eventually(lambda: tokens_heard(server)[:2] == ["token-1", "token-2"])


# the server side


def dialect_session() -> VenueSide:
    """Connect to the replay server's side."""
    found = DIALECTS["ls"].connect("/websocket", {})
    assert found is not None
    return found


def test_the_server_takes_one_subscription_a_message() -> None:
    """With a token, acknowledged by code and key; tr_type 4 ends it; anything else is refused."""
    one = dialect_session()
    assert DIALECTS["ls"].connect("/", {}) is None
    (wanted,) = VENUE.stream.subscribe([SYMBOL], ["US3", "UH1"], 1)
    assert VENUE.login is not None
    unsigned, signed = (
        wanted.frames[0].decode(),
        [VENUE.login.sign(frame, "t").decode() for frame in wanted.frames],
    )
    assert VENUE.stream.control(one.receive(unsigned)[0].encode()) == ServerError(
        "IGW00121", "no token", channel="US3", symbol=SYMBOL, login=True
    )
    assert [VENUE.stream.control(one.receive(text)[0].encode()) for text in signed] == [
        Ack(channel="US3", symbol=SYMBOL),
        Ack(channel="UH1", symbol=SYMBOL),
    ]
    assert list(one.streams()) == ["US3 U005930", "UH1 U005930"]
    one.receive(signed[1].replace('"tr_type":"3"', '"tr_type":"4"'))
    assert list(one.streams()) == ["US3 U005930"]
    for wrong in (
        "x",
        "[]",
        "{}",
        signed[0] + "\n" + signed[1],
        signed[0].replace("US3", "SC0"),
        signed[0].replace('"3"', '"1"'),
    ):
        assert isinstance(VENUE.stream.control(one.receive(wrong)[0].encode()), ServerError), wrong
    assert list(one.streams()) == ["US3 U005930"]


def test_recorded_frames_belong_to_their_code_and_key() -> None:
    """Market states go to everybody, answers and messages without use to nobody."""
    dialect = DIALECTS["ls"]
    assert dialect.route(BOOK) == Route("UH1 U005930", "U005930", True)
    assert dialect.route(TRADES["FC9"][0]) == Route("FC9 A0166000", "A0166000", False)
    assert dialect.route(JIF("1", "21")) is BROADCAST
    assert dialect.route(REFUSED) is None
    assert dialect.route(b'{"header":{"tr_cd":"YS3","tr_key":"005930"},"body":{}}') is None
    assert dialect.symbol_of("UH1 U005930") == "U005930"
    assert isinstance(dialect, Granting)
    assert dialect.grant("/stock/etc") is None
    assert guess_venue(Path("ls_day.jsonl")) == "ls"


def recording(folder: Path, frames: Callable[[], list[bytes]]) -> Path:
    """Write documented messages as a recording of the venue."""
    file = folder / "ls_documented.jsonl"
    lines = [
        {
            "ts": 1764118800.0 + number,
            "conn": "ws",
            "url": "wss://openapi.ls-sec.co.kr:9443/websocket",
            "kind": "recv",
            "raw": raw.decode(),
        }
        for number, raw in enumerate(frames())
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


async def test_a_recording_is_served_to_the_live_feeder(net: Net, tmp_path: Path) -> None:
    """Token endpoint, subscriptions, data: the whole conversation, to the last frame."""
    file = recording(tmp_path, lambda: [BOOK, JIF("1", "21"), TRADES["NS3"][0], BOOK])
    server = ReplayServer([file], speed=float("inf"), settle_s=0.05)
    await server.start()
    try:
        stand_in = VenueServer()
        stand_in.ws, stand_in.http = f"{server.urls.ws}/websocket", server.urls.rest
        settings: dict[str, object] = {
            **LS,
            "venues__ls__symbols": [SYMBOL, "N010950"],
            "venues__ls__channels": ["UH1", "NS3", "JIF"],
        }
        async with feeding(
            "ls", stand_in, net, tmp_path, access=access(stand_in, net, tmp_path), **settings
        ) as feeder:
            await server.wait_end()
            await eventually(lambda: feeder.publisher.events()["trade"] == 1)
            await eventually(lambda: feeder.publisher.events()["book"] >= 2)
            assert feeder.session.counts["control_ack"] == 3
            assert feeder.session.counts["market_states"] == 1
            assert feeder.session.counts["quarantine"] == 0
    finally:
        await server.close()
