"""Several feeders of one venue: which of their channels each instrument is taken from, and when
it is taken from another.

An instrument stays with its channel while it is well there: the channel brings packets and its
book is LIVE. Where it is not for a given time, and is better off on another channel, it goes over
to that one; at once where its own channel is silent or has ended. The failover keeps the trades
of the last seconds of both, so that at the change-over none goes out twice and none that the new
channel has is left out. The engine publishes the change-over. No input or output, no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from tapecast.consumers.feed.books import Bookkeeper
from tapecast.consumers.feed.channels import Channel
from tapecast.consumers.feed.events import BookState
from tapecast.protocol.fields import ITEM_COUNT, ITEM_SIZE, TS_EXCHANGE_NS
from tapecast.protocol.records import HEADER_STRUCT, ITEM_STRUCT, TradeItem
from tapecast.protocol.schema import HEADER_SIZE, MsgType

__all__ = ["Failover", "Health", "Switch"]

_TRADE: Final = ITEM_STRUCT[MsgType.TRADE]
_KEPT_NS: Final = 10_000_000_000
"""How long trades are kept for a change-over, and how long after one repeats are looked for."""
_KEPT_BYTES: Final = 8 << 20


class Health(IntEnum):
    """How well an instrument is on a channel."""

    AWAY = 0
    """The channel is silent, or its session has ended."""
    STALE = 1
    """There is no book, or its venue is silent."""
    SUSPECT = 2
    WELL = 3


class Switch(NamedTuple):
    """An instrument goes over from one channel to another; `trades` are those of the new one
    that the old one has not brought.
    """

    instrument_id: int
    old: Channel
    new: Channel
    trades: list[bytes]


class _Kept:
    """The trade packets of a channel's last seconds."""

    def __init__(self) -> None:
        self.packets: deque[tuple[int, int, bytes]] = deque()
        self._bytes = 0

    def add(self, now_ns: int, instrument_id: int, packet: bytes) -> None:
        self.packets.append((now_ns, instrument_id, packet))
        self._bytes += len(packet)
        while self._bytes > _KEPT_BYTES or self.packets[0][0] < now_ns - _KEPT_NS:
            self._bytes -= len(self.packets.popleft()[2])


class Failover:
    """The channels of every venue. `books` are those of the channels, by id; None where no books
    are kept.
    """

    def __init__(self, books: Mapping[int, Bookkeeper] | None, switch_after_ns: int) -> None:
        """Know no channel."""
        self._books = books
        self._switch_after_ns = switch_after_ns
        self._channels: dict[int, list[Channel]] = {}
        self._chosen: dict[int, Channel] = {}
        self._ill_ns: dict[int, int] = {}
        self._kept: dict[int, _Kept] = {}
        self._seen: dict[int, tuple[int, set[int]]] = {}

    @property
    def any(self) -> bool:
        """Whether some venue has more than one channel."""
        return bool(self._kept)

    def opened(self, channel: Channel) -> None:
        """Note a channel: the second of a venue makes all of them redundant."""
        channels = self._channels.setdefault(channel.venue_id, [])
        channels.append(channel)
        if len(channels) < 2:
            return
        for other in channels:
            other.redundant = True
            self._kept.setdefault(other.channel_id, _Kept())
        books = (self._books or {}).get(channels[0].channel_id)
        for instrument in books.instruments() if books is not None else ():
            self._chosen.setdefault(instrument, channels[0])

    def passes(self, channel: Channel, instrument_id: int) -> bool:
        """Return whether the instrument is taken from this channel, one of several of its venue."""
        chosen = self._chosen.get(instrument_id)
        if chosen is None:
            first = self._channels[channel.venue_id][0]
            chosen = self._chosen[instrument_id] = (
                first if first.received and not first.away else channel
            )
        return chosen is channel

    def chosen(self, instrument_id: int) -> Channel | None:
        """Return the channel that an instrument is taken from, where there was a choice."""
        return self._chosen.get(instrument_id)

    def trade(self, channel: Channel, instrument_id: int, packet: bytes, now_ns: int) -> bool:
        """Keep a trade packet (empty: one of liquidations) of a redundant channel, and return
        whether it is to go out.
        """
        if packet:
            self._kept[channel.channel_id].add(now_ns, instrument_id, packet)
        return self.passes(channel, instrument_id)

    def repeats(self, instrument_id: int, trade_id: int, now_ns: int) -> bool:
        """Return whether a trade went out before the instrument's last change-over."""
        seen = self._seen.get(instrument_id)
        if seen is None:
            return False
        if now_ns > seen[0]:
            del self._seen[instrument_id]
            return False
        return trade_id in seen[1]

    def switches(self, now_ns: int) -> Iterator[Switch]:
        """Carry out the change-overs that are due, and yield each."""
        for venue_id, channels in self._channels.items():
            if len(channels) < 2:
                continue
            for instrument, channel in [
                item for item in self._chosen.items() if item[1].venue_id == venue_id
            ]:
                new = self._better(instrument, channel, channels, now_ns)
                if new is not None:
                    yield self._switch(instrument, channel, new, now_ns)

    def _health(self, channel: Channel, instrument: int) -> Health:
        if channel.away or not channel.received:
            return Health.AWAY
        if self._books is None:
            return Health.WELL if channel.repairing is None else Health.SUSPECT
        books = self._books.get(channel.channel_id)
        found = books.book(instrument) if books is not None else None
        if found is None:
            return Health.STALE
        return {BookState.LIVE: Health.WELL, BookState.SUSPECT: Health.SUSPECT}.get(
            found[1], Health.STALE
        )

    def _better(
        self, instrument: int, channel: Channel, channels: list[Channel], now_ns: int
    ) -> Channel | None:
        health = self._health(channel, instrument)
        if health is Health.WELL:
            self._ill_ns.pop(instrument, None)
            return None
        since_ns = self._ill_ns.setdefault(instrument, now_ns)
        if health is not Health.AWAY and now_ns - since_ns < self._switch_after_ns:
            return None
        best = max(channels, key=lambda other: self._health(other, instrument))
        return best if self._health(best, instrument) > health else None

    def _switch(self, instrument: int, old: Channel, new: Channel, now_ns: int) -> Switch:
        self._chosen[instrument] = new
        self._ill_ns.pop(instrument, None)
        sent = [
            packet for _, owner, packet in self._kept[old.channel_id].packets if owner == instrument
        ]
        ids = {trade_id for packet in sent for trade_id in _ids(packet)} - {0}
        waiting = [
            packet for _, owner, packet in self._kept[new.channel_id].packets if owner == instrument
        ]
        last = max(
            (at for at, packet in enumerate(waiting) if ids.intersection(_ids(packet))),
            default=None,
        )
        if last is None and sent:
            # Nothing in common: what the venue sent after the last one that went out.
            newest_ns = HEADER_STRUCT.unpack_from(sent[-1])[TS_EXCHANGE_NS]
            trades = [
                packet
                for packet in waiting
                if HEADER_STRUCT.unpack_from(packet)[TS_EXCHANGE_NS] > newest_ns
            ]
        else:
            trades = waiting[last or 0 :]
        self._seen[instrument] = now_ns + _KEPT_NS, ids
        return Switch(instrument, old, new, trades)


def _ids(packet: bytes) -> list[int]:
    header = HEADER_STRUCT.unpack_from(packet)
    first, step = HEADER_SIZE, header[ITEM_SIZE]
    items = range(first, first + header[ITEM_COUNT] * step, step)
    return [TradeItem._make(_TRADE.unpack_from(packet, at)).trade_id for at in items]
