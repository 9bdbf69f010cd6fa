"""A client of the recovery service for tests: asks over TCP and returns what came, packet by
packet, without judging it.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import NamedTuple

from tapecast.protocol.codec import Packet, decode
from tapecast.protocol.records import Header, ReplyItem, RequestItem
from tapecast.protocol.recovery import decode_reply, encode_request, first_packet
from tapecast.protocol.schema import MsgType

__all__ = ["Answer", "RecoveryClient", "request"]


class Answer(NamedTuple):
    """The packets of an answer and the reply that closed it."""

    packets: list[bytes]
    header: Header
    reply: ReplyItem

    @property
    def decoded(self) -> list[Packet]:
        """The packets, decoded."""
        return [decode(packet) for packet in self.packets]


def request(item: RequestItem, *, venue_id: int = 1, session: int = 0) -> bytes:
    """Return a request to a venue's channel."""
    return encode_request(Header(channel_id=venue_id, venue_id=venue_id, session=session), item)


class RecoveryClient:
    """One connection; a context manager."""

    def __init__(self, port: int, *, venue_id: int = 1) -> None:
        """Connect on entering."""
        self._port = port
        self._venue_id = venue_id
        self._received = bytearray()
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> RecoveryClient:
        """Connect."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close at once."""
        self.writer.transport.abort()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    async def ask(self, item: RequestItem, *, session: int = 0) -> Answer:
        """Send a request and return its answer."""
        self.send(request(item, venue_id=self._venue_id, session=session))
        return await self.answer()

    async def answer(self) -> Answer:
        """Return the next answer; IncompleteReadError where the connection ends before its
        reply.
        """
        packets: list[bytes] = []
        while True:
            packet = await self._packet()
            if packet[3] == MsgType.REPLY:
                header, reply = decode_reply(packet)
                return Answer(packets, header, reply)
            packets.append(packet)

    async def ended(self) -> bytes:
        """Return what else came until the server closed the connection."""
        try:
            return bytes(self._received) + await self.reader.read()
        except ConnectionError:
            return bytes(self._received)

    async def _packet(self) -> bytes:
        received = self._received
        while not (length := first_packet(received)):
            data = await self.reader.read(1 << 16)
            if not data:
                raise asyncio.IncompleteReadError(bytes(received), None)
            received += data
        packet = bytes(received[:length])
        del received[:length]
        return packet
