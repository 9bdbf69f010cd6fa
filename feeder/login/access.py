"""What connections and requests of a feeder need of its venue's login: a token, put where it
belongs, given up when refused.

Of a venue without a login all of it does nothing, so whoever connects and asks need not know
which kind it is. For REST it is the `runtime.net.request.Authorization` of its venue. The
token's life is the matter of `feeder.login.client`.
"""

from __future__ import annotations

from http import HTTPStatus

from picows import WSInvalidStatusError

from tapecast.feeder.login.client import LoginClient
from tapecast.runtime.net.request import RestRequest

__all__ = ["Access"]


class Access:
    """The token by connection, and for requests."""

    def __init__(self, login: LoginClient | None = None) -> None:
        self._login = login
        self._tokens: dict[str, str] = {}

    async def prepare(self, connection: str) -> None:
        """Get a token that is good now, before a connection is opened; waits as long as the
        venue gives none.
        """
        if self._login is not None:
            self._tokens[connection] = await self._login.token()

    def sign(self, connection: str, frame: bytes) -> bytes:
        """Return a subscription with the connection's token in it; what is recorded is the one
        without.
        """
        return (
            frame
            if self._login is None
            else self._login.login.sign(frame, self._tokens[connection])
        )

    def renamed(self, old: str, new: str) -> None:
        """Note that a connection goes by another name from now on."""
        if self._login is not None and old in self._tokens:
            self._tokens[new] = self._tokens.pop(old)

    def proved(self, connection: str) -> None:
        """Note that data came."""
        if self._login is not None:
            self._login.accepted(self._tokens[connection])

    def outdated(self, connection: str) -> bool:
        """Whether a connection lives on a token that is due, so that it is better made anew
        while nothing is to be lost.
        """
        return self._login is not None and self._login.outdated(self._tokens[connection])

    def failed(self, connection: str, error: Exception) -> None:
        """Note that a connection could not be opened: its token is given up where the server
        says so.
        """
        response = error.response if isinstance(error, WSInvalidStatusError) else None
        if response is not None and response.status == HTTPStatus.UNAUTHORIZED:
            self.rejected(connection)

    def rejected(self, connection: str) -> None:
        """Note that the venue does not accept a connection's token."""
        if self._login is not None and connection in self._tokens:
            self._login.rejected(self._tokens[connection])

    async def token(self) -> str:
        """Return a token for a REST request; empty where none is needed."""
        return "" if self._login is None else await self._login.token()

    def authorized(self, request: RestRequest, token: str) -> RestRequest:
        """Return a REST request with the headers that carry this token."""
        if self._login is None:
            return request
        return request._replace(headers=(*request.headers, *self._login.login.headers(token)))

    def refused(self, token: str, answer: str) -> bool:
        """Whether the answer to a REST request (status, beginning of the body) says that its
        token is not accepted.
        """
        if self._login is None or not any(text in answer for text in self._login.login.refusals):
            return False
        self._login.rejected(token)
        return True
