"""What a session hands to its shell besides packets: commands, quarantined messages, counters.

Filled by the parts of a session, emptied by the shell. No judgement here, no I/O.
"""

from __future__ import annotations

from collections import Counter

from tapecast.feeder.session.types import Command, Quarantined

__all__ = ["Output"]

_QUARANTINE_HELD = 1000
_QUARANTINE_BYTES = 64 << 20
"""Of more quarantined bytes than this, messages are kept cut to `_QUARANTINE_CUT`."""
_QUARANTINE_CUT = 64 << 10
REASON_LENGTH = 300
"""Characters of a reason: it may quote what a message says, and a message may be long."""


class Output:
    """The outgoing side of one session."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.commands: list[Command] = []
        """Always the same object, as `counts` and `quarantined` are: the parts of a session hold
        them.
        """
        self.quarantined: list[Quarantined] = []
        self._quarantined_bytes = 0

    def take_commands(self) -> list[Command]:
        """Return the commands since the last call, in order, and forget them."""
        commands = self.commands.copy()
        self.commands.clear()
        return commands

    def take_quarantined(self) -> list[Quarantined]:
        """Return the quarantined messages since the last call, in order, and forget them."""
        quarantined = self.quarantined.copy()
        self.quarantined.clear()
        return quarantined

    def quarantine(
        self,
        connection: str,
        data: bytes,
        reason: str,
        offset: int,
        ts_recv_ns: int,
        symbol: str | None,
    ) -> None:
        """Put a message aside: counted, kept (bounded in count and bytes) for the shell to
        store, never guessed.
        """
        self.counts["quarantine"] += 1
        if not self.quarantined:
            self._quarantined_bytes = 0
        if len(self.quarantined) >= _QUARANTINE_HELD:
            return
        if self._quarantined_bytes + len(data) > _QUARANTINE_BYTES:
            data = data[:_QUARANTINE_CUT]
        self._quarantined_bytes += len(data)
        if symbol is not None and len(symbol) > REASON_LENGTH:
            symbol = None
        self.quarantined.append(
            Quarantined(connection, reason[:REASON_LENGTH], offset, data, ts_recv_ns, symbol)
        )
