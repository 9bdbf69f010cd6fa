"""TCP connections by host name: every address of the name is tried, a dead one holds up nobody, a lost resolver is survived.

Addresses are tried as RFC 8305 ("happy eyeballs") says: the next one starts a quarter of a second after the one before, families
by turns, and the first that answers is taken. The name is resolved anew for each connection; where that fails, or leads to
addresses that do not answer, those of the last good connection are tried. TLS and WebSocket are `feeder.transport`'s matter.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from aiohappyeyeballs import AddrInfoType, start_connection

from runtime import logs

__all__ = ["Dialler"]

_NEXT_S = 0.25
_RESOLVE_S = 5.0

log = logs.get("feeder.dialling")


class Dialler:
    """Connects to hosts, and remembers where it could."""

    def __init__(self) -> None:
        self._good: dict[tuple[str, int], AddrInfoType] = {}
        """(Host, port) -> the address of the last connection."""

    async def dial(self, host: str, port: int) -> socket.socket:
        """Return a connected socket. Raises OSError where no address answers, socket.gaierror where there is none."""
        good = self._good.get((host, port))
        found = await self._resolve(host, port, good)
        if good is not None and good not in found:
            found.append(good)
        connected = await start_connection(found, happy_eyeballs_delay=_NEXT_S, interleave=1)
        peer = connected.getpeername()
        self._good[host, port] = next((address for address in found if address[4][:2] == peer[:2]), found[0])
        return connected

    async def _resolve(self, host: str, port: int, good: AddrInfoType | None) -> list[AddrInfoType]:
        try:
            async with asyncio.timeout(_RESOLVE_S):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
                return cast(list[AddrInfoType], list(found))
        except (OSError, TimeoutError) as error:
            if good is None:
                raise
            log.warning("name not resolved, last good address taken", host=host, address=good[4][0], error=repr(error))
            return []
