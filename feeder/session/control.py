"""What a venue answers to the feeder itself: acknowledgements, pings, errors, notices, states of
markets.

`StreamSpec.control` reads such a message; here it becomes a command to the shell, a changed
definition, or what an acknowledgement promises of data to come. No I/O, no market data.
"""

from __future__ import annotations

from collections.abc import Iterable

from tapecast.feeder.extract.types import Result
from tapecast.feeder.session.buffer import Buffer
from tapecast.feeder.session.handovers import Handovers
from tapecast.feeder.session.output import REASON_LENGTH, Output
from tapecast.feeder.session.packets import PacketWriter
from tapecast.feeder.session.registry import Registry
from tapecast.feeder.session.types import Command, CommandKind
from tapecast.feeder.venues.spec import (
    Ack,
    Control,
    MarketState,
    Notice,
    Reply,
    ServerError,
    Topic,
    VenueSpec,
    qualified,
)
from tapecast.protocol.schema import MsgType

__all__ = ["Controls"]


class Controls:
    """The control messages of one session."""

    def __init__(
        self,
        spec: VenueSpec,
        registry: Registry,
        handovers: Handovers,
        buffer: Buffer,
        output: Output,
    ) -> None:
        self.acked: dict[int, int] = {}
        """Index of an instrument -> time of the acknowledgement behind which the venue repeats
        its last trade. Always the same object.
        """
        self._spec = spec
        self._registry = registry
        self._handovers = handovers
        self._buffer = buffer
        self._counts = output.counts
        self._commands = output.commands
        self._asked: dict[tuple[str, str], frozenset[Topic]] = {}
        """(Connection, request id) -> the topics of a request that the venue has not answered.
        """

    def requested(self, connection: str, request_id: str, topics: Iterable[Topic]) -> None:
        """Note what a request asks for: a venue that lists what it accepts may leave something
        out without an error.
        """
        asked = frozenset(topics)
        if asked:
            self._asked[connection, request_id] = asked

    def rename(self, connection: str, name: str) -> None:
        """Let the open requests of a connection be those of `name`, whose own are forgotten."""
        open_requests = {
            (name, request): topics
            for (one, request), topics in self._asked.items()
            if one == connection
        }
        self.forget(name)
        self.forget(connection)
        self._asked |= open_requests

    def forget(self, connection: str) -> None:
        """Forget the open requests of a connection."""
        self._asked = {key: topics for key, topics in self._asked.items() if key[0] != connection}

    def read(self, data: bytes) -> Control | None:
        """Return the control message that `data` is, or None."""
        try:
            return self._spec.stream.control(data)
        except (ValueError, RecursionError):
            # A text that its decoder does not take, or nested too deep for it.
            return None

    def handle(
        self, connection: str, control: Control, market: str, now_ns: int, ts_recv_ns: int
    ) -> None:
        """Handle a control message of a connection; `market` is the one its symbols are of."""
        if isinstance(control, MarketState):
            # No answer to the feeder: the stream brings it to everybody.
            self._counts["market_states"] += 1
            self._registry.on_market_state(control, now_ns, ts_recv_ns)
            return
        self._counts[f"control_{type(control).__name__.lower()}"] += 1
        if isinstance(control, Ack):
            if control.accepted is not None:
                self._compare(connection, control)
            self._on_ack(connection, control, market, ts_recv_ns)
        elif isinstance(control, Reply):
            self._command(CommandKind.SEND, connection, frame=control.frame)
        elif isinstance(control, ServerError):
            text = f"{control.code} {control.text}"
            self._commands.append(
                Command(CommandKind.COMPLAIN, control.symbol or "", connection, text)
            )
            if control.login:
                for kind in (CommandKind.LOGIN, CommandKind.RECONNECT):
                    self._command(kind, connection, f"token refused: {control.code}")
        elif isinstance(control, Notice) and control.reconnect:
            self._command(CommandKind.ROTATE, connection, control.text)

    def mark_repeated(self, result: Result) -> None:
        """Flag the trade under judgement where the venue repeats it after a subscription: it is
        older than the acknowledgement.
        """
        acked_ns = self.acked.pop(result.instrument, None)
        if acked_ns is not None and (acked_ns == 0 or result.ts_exchange_ns < acked_ns):
            buffer = self._buffer
            PacketWriter.mark_repeated(buffer.out, buffer.position, result.nbytes)

    def _compare(self, connection: str, ack: Ack) -> None:
        """Complain of topics that were asked for and are missing in the venue's list."""
        asked = self._asked.pop((connection, ack.request_id or ""), frozenset())
        missing = sorted(
            f"{topic.channel} {topic.symbol}" for topic in asked.difference(ack.accepted or ())
        )
        if missing:
            self._counts["not_accepted"] += len(missing)
            text = f"{len(missing)} of {len(asked)} topics not accepted: {', '.join(missing)}"
            self._command(CommandKind.COMPLAIN, connection, text[:REASON_LENGTH])

    def _on_ack(self, connection: str, ack: Ack, market: str, ts_recv_ns: int) -> None:
        """Note what an acknowledgement promises of data to come."""
        channel = self._spec.stream.streams.get(ack.channel or "")
        repeats = (
            self._spec.stream.replays_last_trade
            and channel is not None
            and channel.carries is MsgType.TRADE
        )
        if not ack.symbol or not (repeats or ack.depth):
            return
        instrument = self._registry.accept(qualified(market, ack.symbol), ts_recv_ns)
        if instrument is None:
            return
        if repeats:
            acked = self._handovers.acked(connection)
            (self.acked if acked is None else acked)[instrument.index] = ts_recv_ns
        if ack.depth:
            instrument.depth = ack.depth

    def _command(
        self, kind: CommandKind, connection: str, reason: str = "", frame: bytes = b""
    ) -> None:
        self._commands.append(Command(kind, connection=connection, reason=reason, frame=frame))
