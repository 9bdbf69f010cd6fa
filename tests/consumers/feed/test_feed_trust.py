"""Whose packets a feed takes: keys and senders, over real multicast on loopback."""

from __future__ import annotations

import msgspec
import pytest

from tapecast.consumers.feed.events import Status, Trade
from tapecast.consumers.feed.feed import Feed
from tapecast.protocol.authentication import Sealer
from tapecast.protocol.net.io import Sender
from tapecast.protocol.schema import StatusReason
from tapecast.runtime.errors import ConfigError
from tapecast.runtime.settings import Config
from tests.consumers.feed.test_feed import SESSION, send, take, wait_for
from tests.consumers.publisher import btcusdt

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))


def test_where_there_are_keys_only_tagged_packets_are_heard(
    config: Config, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a tag, or with a wrong one, packets are dropped and counted, and the script is
    told who cannot be believed.
    """
    monkeypatch.setenv("TAPECAST_KEY_BINANCE", KEY.hex())
    monkeypatch.setenv("TAPECAST_KEY_BINANCE_ALSO", OTHER_KEY.hex())
    network = msgspec.structs.replace(config.network, authentication="on")
    with Feed(["binance"], config=msgspec.structs.replace(config, network=network)) as feed:
        packets = btcusdt()
        send(sender, packets)
        for key in (bytes(32), KEY):
            for packet in packets[:4]:
                data = Sealer(key).seal(packet)
                sender.send(data, len(data))
        rest = b"".join(Sealer(OTHER_KEY).seal(packet) for packet in packets[4:])
        sender.send(rest, len(rest))
        assert [type(event) for event in take(feed, 6)] == SESSION
        assert feed.stats.invalid == {"auth_missing": 7, "bad_auth": 4}
        assert feed.stats.received == 7
        feed._ticked_ns = 0
        status = take(feed, 1)[0]
        assert isinstance(status, Status)
        assert (status.reason, status.detail) == (
            StatusReason.UNTRUSTED,
            "11 packets without a right tag dropped",
        )


def test_another_sender_is_dropped_and_told(config: Config, sender: Sender) -> None:
    """A second sender on the channel: its packets are dropped, with a status at most once a
    second; the channel goes on.
    """
    foreign = Sender(f"{config.network.group_prefix}.1", config.network.port_crypto)
    with Feed(["binance"], config=config, types=[Trade, Status]) as feed:
        packets = btcusdt()
        send(sender, packets[:2])
        wait_for(lambda: feed.stats.received == 2, feed)
        send(foreign, packets[2:3])
        send(foreign, packets[2:3])
        events = take(feed, 1)
        assert isinstance(events[0], Status)
        assert (events[0].venue, events[0].reason) == ("binance", StatusReason.UNTRUSTED)
        assert (
            events[0].detail
            == f"packets from 127.0.0.1:{foreign.address[1]} dropped: not the channel's sender"
        )
        send(sender, packets[2:])
        assert [type(event) for event in take(feed, 2)] == [Trade, Trade]
        assert feed.stats.invalid == {"other_source": 2}
    foreign.close()


def test_a_missing_key_is_named(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an interface that is not loopback a feed without keys does not start."""
    monkeypatch.delenv("TAPECAST_KEY_BINANCE", raising=False)
    with pytest.raises(
        ConfigError,
        match=r"\$TAPECAST_KEY_BINANCE is not set: network.interface 10\.0\.0\.5 is not loopback",
    ):
        Feed(["binance"], config=config, interface="10.0.0.5")
