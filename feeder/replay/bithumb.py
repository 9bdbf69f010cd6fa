"""Bithumb as a server: the API v1 WebSocket, whose requests and frames have Upbit's form.

Sources: apidocs.bithumb.com and the recorded frames. Recordings of the older feed (`pubwss`) are
not served: nothing of them can be subscribed to with the requests of today.
"""

from __future__ import annotations

from tapecast.feeder.replay.upbit import Upbit

__all__ = ["DIALECT", "Bithumb"]


class Bithumb(Upbit):
    """The dialect of Bithumb."""


DIALECT = Bithumb()
