"""What a session takes and gives besides bytes: options, commands to its shell, quarantined
messages, and its instruments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from tapecast.feeder.session.sync import BookSync, SyncPolicy
from tapecast.feeder.venues.spec import InstrumentDef
from tapecast.protocol.schema import InstrumentKind

__all__ = ["Command", "CommandKind", "Quarantined", "SessionInstrument", "SessionOptions"]


class CommandKind(Enum):
    """What a session asks its shell to do."""

    FETCH_SNAPSHOT = "fetch_snapshot"
    RESUBSCRIBE = "resubscribe"
    RECONNECT = "reconnect"
    ROTATE = "rotate"
    LOGIN = "login"
    """The access token of `connection` is not accepted: give it up."""
    SEND = "send"
    """Send `frame` on `connection` at once."""
    COMPLAIN = "complain"
    """The venue refused something: tell the operator."""


class Command(NamedTuple):
    """A request to the shell; `symbol` (qualified by its market) or `connection` says what it is
    about.
    """

    kind: CommandKind
    symbol: str = ""
    connection: str = ""
    reason: str = ""
    frame: bytes = b""


class Quarantined(NamedTuple):
    """A message that was not understood: kept, counted, never guessed."""

    connection: str
    reason: str
    offset: int
    data: bytes
    ts_recv_ns: int
    symbol: str | None


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session behaves, from configuration."""

    channel_id: int
    base_flags: int = 0
    max_payload: int = 1400
    accept_any: bool = False
    """Accept every symbol of the venue, not only the subscribed ones (decoding a recording)."""
    verify_checksum: bool = False
    """Verify non-zero checksums of books: recordings made while the venue sent real ones."""
    quarantine_window_ns: int = 10_000_000_000
    quarantine_limit: int = 20
    """This many quarantined messages of one connection within the window ask for a new
    connection.
    """
    sync: SyncPolicy = field(default_factory=SyncPolicy)


class SessionInstrument:
    """What a session knows of one instrument; `index` is its place in the extractor's table."""

    __slots__ = (
        "changed_ns",
        "connection",
        "definition",
        "depth",
        "held",
        "index",
        "instrument_id",
        "key",
        "kind",
        "price_exp",
        "qty_exp",
        "stale",
        "symbol",
        "sync",
        "updates",
        "version",
    )

    def __init__(
        self, index: int, key: str, symbol: str, kind: InstrumentKind, number: int, sync: BookSync
    ) -> None:
        self.index = index
        self.key = key
        """The symbol qualified by its market: what configuration, topics and commands call it.
        """
        self.symbol = symbol
        """The native symbol, which is on the wire."""
        self.kind = kind
        self.instrument_id = number
        self.sync = sync
        self.definition: InstrumentDef | None = None
        self.version = 1
        self.price_exp = 0
        self.qty_exp = 0
        self.held = b""
        """The packets of a snapshot that waits for the update that proves it."""
        self.connection = ""
        self.depth = 0
        """Levels a side that the venue keeps up to date (`BookRule.depths`); 0 = not known, or
        all.
        """
        self.stale = False
        self.updates = 0
        self.changed_ns = 0
