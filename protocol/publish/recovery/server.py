"""The recovery service's brain: who may have what of one channel, and in which order; bytes in,
pieces of answers out.

Sans-I/O: the shell (`protocol.publish.recovery.service`) brings bytes and the time, reports who
cannot be written to, and writes what `step` hands it. A step does little, 64 KiB of packets or
of one book at most, and clients take turns, so that the publisher's own sockets are read between
any two steps. The bytes of the conversation are `protocol.recovery`'s, what there is to serve a
`Source`'s.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence

from tapecast.protocol.codec import WireError
from tapecast.protocol.publish.recovery.source import Source
from tapecast.protocol.publish.recovery.types import Client, Limits, Piece, State, Step
from tapecast.protocol.records import Header, ReplyItem, RequestItem
from tapecast.protocol.recovery import decode_request, encode_reply, first_packet
from tapecast.protocol.schema import HEADER_SIZE, REQUEST, ReplyStatus, RequestKind

__all__ = ["RecoveryServer"]

_SLICE = 64 << 10
"""Bytes of a piece."""
_DEFINITIONS = 4
"""Definitions of a piece."""
_REQUEST_BYTES = HEADER_SIZE + REQUEST.size
_REQUEST_COST = 4
"""Packets that a request counts for besides those it is served."""
_PATIENCE = 64
"""A client that goes on asking while the answer is BUSY, so many times, is closed."""
_BOOKS_BYTES = 32 << 20
"""Bytes of books kept for clients that ask for them at the same time."""


class RecoveryServer:
    """Serves one channel to any number of clients."""

    def __init__(self, source: Source, limits: Limits, keys: Sequence[bytes] = ()) -> None:
        """With `keys` requests need a tag under one of them, and replies have one under the
        first.
        """
        self._source = source
        self._limits = limits
        self._keys = tuple(keys)
        self._queue: deque[Client] = deque()
        self._books: dict[int, State] = {}
        """Books read for one client that serve those who asked before that, too."""
        self._books_bytes = 0
        self._snapshots = 0
        """Answers in progress that may use them."""
        self._now_ns = 0
        self._ts_ns = 0
        self.clients: set[Client] = set()
        self.counts: Counter[str] = Counter()

    # what the shell brings

    def connect(self, now_ns: int) -> Client | None:
        """Return a new client; None where there are too many: send `refusal` and close."""
        if len(self.clients) >= self._limits.clients:
            self.counts["refused"] += 1
            return None
        client = Client(self._limits, now_ns)
        self.clients.add(client)
        self.counts["connected"] += 1
        return client

    def refusal(self, ts_ns: int) -> bytes:
        """Return what a client beyond the limit receives before it is closed."""
        self._ts_ns = ts_ns
        return self._reply(ReplyItem(0, ReplyStatus.BUSY, retry_ms=1000))

    def receive(self, client: Client, data: bytes | memoryview) -> None:
        """Keep what a client sent; it is looked at when its turn comes."""
        if not client.closing:
            client.backlog += data
            self._enqueue(client)

    def wants(self, client: Client) -> bool:
        """Whether more bytes of a client are welcome."""
        return len(client.backlog) < self._limits.backlog * _REQUEST_BYTES

    def end(self, client: Client) -> None:
        """Note that a client will send no more."""
        client.ended = True
        self._enqueue(client)

    def block(self, client: Client, now_ns: int) -> None:
        """Note that a client does not take what it is sent."""
        client.blocked_ns = now_ns

    def unblock(self, client: Client) -> None:
        """Note that a client took what it was sent."""
        client.blocked_ns = None
        self._enqueue(client)

    def disconnect(self, client: Client) -> None:
        """Forget a client, whatever it still waited for."""
        self.clients.discard(client)
        client.closing = client.closing or "gone"
        client.backlog.clear()
        if client.answer is not None:
            client.answer = None
            self.counts["abandoned"] += 1

    def overdue(self, now_ns: int) -> list[Client]:
        """Return the clients to cut off, the reason in `closing`; call about once a second."""
        out = []
        for client in self.clients:
            if client.blocked_ns is not None:
                if now_ns - client.blocked_ns > self._limits.stall_ns:
                    client.closing = "does not read"
                    self.counts["stalled"] += 1
                    out.append(client)
            elif (
                client.answer is None
                and not client.queued
                and now_ns - client.request_ns > self._limits.idle_ns
            ):
                client.closing = "idle"
                self.counts["idle"] += 1
                out.append(client)
        return out

    def step(self, now_ns: int, ts_ns: int) -> Step | None:
        """Do a little for the client whose turn it is; None: nobody waits for anything. `ts_ns`
        stamps what is written now.
        """
        self._now_ns, self._ts_ns = now_ns, ts_ns
        queue = self._queue
        while queue:
            client = queue.popleft()
            client.queued = False
            if client.blocked_ns is not None or client.closing:
                continue
            try:
                data = self._piece(client)
            except Exception as error:  # costs this client its answer, never the others or the feed
                self.counts["failed"] += 1
                client.closing = f"internal error: {error!r}"
                return Step(client, b"", error)
            if client.closing:
                return Step(client, data or b"")
            if data is not None:
                self._enqueue(client)
                return Step(client, data)
        return None

    # turns

    def _enqueue(self, client: Client) -> None:
        if not client.queued and not client.closing:
            client.queued = True
            self._queue.append(client)

    def _piece(self, client: Client) -> Piece | None:
        """Return the next piece of what a client asked for; None where it asks for nothing more."""
        if client.answer is not None:
            data = next(client.answer, None)
            if data is not None:
                return data
            client.answer = None
        try:
            length = first_packet(client.backlog)
            if not length:
                client.closing = "ended" if client.ended else ""
                return None
            packet = bytes(client.backlog[:length])
            del client.backlog[:length]
            header, request = decode_request(packet, keys=self._keys)
            own = self._source.header
            # A derived channel has instruments of several venues and is of none (venue 0).
            if header.channel_id != own.channel_id or own.venue_id not in (0, header.venue_id):
                raise WireError(
                    f"channel {header.channel_id} of venue {header.venue_id} is not served here"
                )
        except WireError as error:
            self.counts["bad_requests"] += 1
            client.closing = f"bad request: {error.reason}"
            return self._reply(ReplyItem(0, ReplyStatus.BAD_REQUEST))
        client.request_ns = self._now_ns
        self.counts["requests"] += 1
        return self._begin(client, header, request)

    def _begin(self, client: Client, header: Header, request: RequestItem) -> Piece | None:
        """Return the first piece of an answer; the others come with `client.answer`."""
        source = self._source
        index = None
        if header.session not in (0, source.header.session):
            return self._refuse(request, ReplyStatus.OTHER_SESSION)
        if request.kind != RequestKind.RANGE and request.instrument_id:
            index = source.find(request.instrument_id)
            if index is None:
                return self._refuse(request, ReplyStatus.UNKNOWN_INSTRUMENT)
        now_ns = self._now_ns
        wait_ns = max(
            client.packets.wait_ns(now_ns),
            client.nbytes.wait_ns(now_ns),
            client.books.wait_ns(now_ns),
        )
        if wait_ns:
            client.busy += 1
            if client.busy > _PATIENCE:
                client.closing = "goes on asking while the answer is BUSY"
                self.counts["insistent"] += 1
            return self._refuse(request, ReplyStatus.BUSY, -(-wait_ns // 1_000_000))
        client.busy = 0
        client.packets.spend(_REQUEST_COST)
        if request.kind == RequestKind.RANGE:
            client.answer = self._range(client, request)
        else:
            indexes = range(source.instruments) if index is None else range(index, index + 1)
            answer = self._snapshot if request.kind == RequestKind.SNAPSHOT else self._definitions
            client.answer = answer(client, request, indexes)
        return next(client.answer, None)

    # answers

    def _range(self, client: Client, request: RequestItem) -> Iterator[Piece]:
        source, ring = self._source, self._source.ring
        self.counts["ranges"] += 1
        at = first = max(request.first, ring.oldest_seq or source.next_seq)
        piece = b""
        while at < (end := min(request.first + request.packets, source.next_seq)):
            view, count = ring.read(at, end - at, _SLICE)
            if not count:
                break  # overwritten since the last turn
            data = bytes(view)
            at += count
            client.packets.spend(count)
            self._served(client, count, len(data))
            if piece:
                yield piece
            piece = data
        status = ReplyStatus.OK
        if first > request.first or at < end:
            status = ReplyStatus.OVERRUN
            self.counts["overruns"] += 1
        yield piece + self._close(request, status, max(0, at - first), first)

    def _definitions(self, client: Client, request: RequestItem, indexes: range) -> Iterator[Piece]:
        self.counts["definitions"] += 1
        served = 0
        for start in range(0, len(indexes), _DEFINITIONS):
            states = [
                self._source.definition(index, self._ts_ns)
                for index in indexes[start : start + _DEFINITIONS]
            ]
            piece = b"".join(
                state.piece(number) for state in states for number in range(len(state))
            )
            count = sum(state.packets for state in states)
            client.packets.spend(count)
            self._served(client, count, len(piece))
            served += count
            yield piece
        yield self._close(request, ReplyStatus.OK, served)

    def _snapshot(self, client: Client, request: RequestItem, indexes: range) -> Iterator[Piece]:
        self.counts["snapshots"] += 1
        asked = self._source.next_seq - 1
        served = 0
        piece = bytearray()
        self._snapshots += 1
        try:
            for index in indexes:
                state = self._kept(index, asked)
                if state is None and piece:
                    yield bytes(piece)
                    piece.clear()
                    state = self._kept(index, asked)
                if state is None:
                    state = self._read(index)
                served += state.packets
                client.books.spend(1)
                self._served(client, state.packets, state.nbytes)
                for number in range(len(state)):
                    if piece and not state.made(number):
                        yield bytes(piece)
                        piece.clear()
                    data = state.piece(number)
                    if piece and len(piece) + len(data) > _SLICE:
                        yield bytes(piece)
                        piece.clear()
                    piece += data
        finally:
            self._snapshots -= 1
            if not self._snapshots:
                self._books.clear()
                self._books_bytes = 0
        yield bytes(piece) + self._close(request, ReplyStatus.OK, served)

    def _kept(self, index: int, asked: int) -> State | None:
        """Return a book that was read at `asked` or later."""
        state = self._books.get(index)
        return None if state is None or state.channel_seq < asked else state

    def _read(self, index: int) -> State:
        """Read a book, and keep it for the others who are being served and asked before now."""
        state = self._source.book(index, self._ts_ns)
        self.counts["books_read"] += 1
        old = self._books.pop(index, None)
        self._books_bytes += state.nbytes - (0 if old is None else old.nbytes)
        if self._books_bytes > _BOOKS_BYTES:
            self._books.clear()
            self._books_bytes = state.nbytes
        self._books[index] = state
        return state

    def _served(self, client: Client, packets: int, nbytes: int) -> None:
        client.nbytes.spend(nbytes)
        self.counts["packets"] += packets
        self.counts["bytes"] += nbytes

    def _refuse(self, request: RequestItem, status: ReplyStatus, retry_ms: int = 0) -> bytes:
        self.counts[f"refused_{status.name.lower()}"] += 1
        return self._close(request, status, 0, retry_ms=retry_ms)

    def _close(
        self,
        request: RequestItem,
        status: ReplyStatus,
        packets: int,
        first: int = 0,
        *,
        retry_ms: int = 0,
    ) -> bytes:
        reply = ReplyItem(
            kind=request.kind,
            status=status,
            request_id=request.request_id,
            first=first if packets else 0,
            packets=packets,
            retry_ms=retry_ms,
        )
        return self._reply(reply)

    def _reply(self, item: ReplyItem) -> bytes:
        source = self._source
        header, key = (
            source.header._replace(ts_send_ns=self._ts_ns),
            self._keys[0] if self._keys else None,
        )
        return encode_reply(header, item._replace(next_seq=source.next_seq), key=key)
