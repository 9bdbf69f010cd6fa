"""What is asked of a venue by REST and what comes back, as values: nothing here performs I/O.

Venue modules and order management make requests, `runtime.net.rest` carries them out.
`Authorization` is the seam through which a login takes part, whatever kind it is: a token in a
header, a signature over the whole request, or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = ["Anonymous", "Authorization", "RestAnswer", "RestRequest"]


class RestRequest(NamedTuple):
    """A GET, or the POST of a JSON `body`, unless `method` names another; `endpoint`:
    configuration key of the base URL; `weight` in the venue's own units.
    """

    endpoint: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    method: str = ""


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """The outcome of a request: `body` on success, otherwise `error` names what happened."""

    body: bytes
    ts_recv_ns: int
    error: str = ""
    url: str = ""


class Authorization(Protocol):
    """The login of a venue as REST requests need it."""

    async def token(self) -> str:
        """Return what a request of now is signed with; waits as long as the venue gives none.
        Empty where there is none.
        """
        ...

    def authorized(self, request: RestRequest, token: str) -> RestRequest:
        """Return the request with the token or signature in it; called right before it leaves."""
        ...

    def refused(self, token: str, answer: str) -> bool:
        """Return whether an answer (`HTTP`, status, beginning of the body) says that the token
        is not accepted; the token is given up then.
        """
        ...


class Anonymous:
    """No login: requests go out as they are."""

    async def token(self) -> str:
        """Return no token."""
        return ""

    def authorized(self, request: RestRequest, token: str) -> RestRequest:
        """Return the request unchanged."""
        return request

    def refused(self, token: str, answer: str) -> bool:
        """Return False: there is nothing to refuse."""
        return False
