"""A connection replaced while it runs: over recordings, one connection behind the other, every
event goes out once.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest

from tapecast.feeder.extract.types import NO_ID
from tapecast.feeder.record.recording import Line, read
from tapecast.feeder.session.fingerprints import fingerprints, remaining
from tapecast.feeder.session.handover import HandoverPolicy, Outcome
from tapecast.feeder.session.session import CommandKind, Session, SessionOptions
from tapecast.feeder.venues import venue
from tapecast.protocol.codec import Packet, decode, encode, walk
from tapecast.protocol.publish.lines import MemoryLine
from tapecast.protocol.publish.publisher import Publisher
from tapecast.protocol.records import Header, Level
from tapecast.protocol.schema import Flag, MsgType, StatusState
from tests.support.captures import captures
from tests.support.feeder_frames import RECV_NS

_MS = 1_000_000
OLD, NEW = "ws.1", "ws.1~"
POLICY = HandoverPolicy(linger_ns=_MS, patience_ns=3600_000 * _MS)
_APART = 40
DATA = (MsgType.BOOK, MsgType.BBO, MsgType.TRADE, MsgType.STAT, MsgType.LIQUIDATION)
BY_ID = (
    "binance/cf_20210814_spot.jsonl",
    "binance_futures/cf_20210722_usdm.jsonl",
    "bybit/nautilus_20241201_linear_xrpusdt_ob500.jsonl",
    "deribit/cf_20210722_options.jsonl",
    "okx/fastmm_20260926_btc_usdt_swap.p1.jsonl",
    "upbit/cf_20210405_simple.jsonl",
)
"""Books whose updates have ids, or that are whole messages with a time."""

Key = tuple[int, int]


class Run:
    """A recording through a session, on one connection or on two of which one takes the place of
    the other.
    """

    def __init__(self, name: str, *, most: int = 3000) -> None:
        """Read at most so many messages."""
        spec = venue(name.split("/")[0])
        self._line = MemoryLine()
        self.session = Session(spec, SessionOptions(channel_id=spec.venue_id, accept_any=True))
        self._publisher = Publisher(
            self._line, venue_id=spec.venue_id, channel_id=spec.venue_id, session=1, base_flags=0
        )
        self._lines = [line for line in read([captures() / name]) if line.kind in ("recv", "http")][
            :most
        ]
        self._spec = spec
        self.now_ns = RECV_NS
        self.session.on_connect(OLD, self.now_ns, RECV_NS)
        self.packets: list[Packet] = []

    def whole(self) -> Run:
        """Take everything on one connection."""
        for line in self._lines:
            self._handle(line, OLD)
        return self

    def replaced(self, start: int, late: int, bias: float, rng: random.Random) -> Run:
        """Open a second connection at message `start`, whose subscriptions work `late` messages
        later.

        Both go on in an order of chance, the second one with probability `bias` at each step,
        never far apart, until the session lets the second take over.
        """
        lines, session = self._lines, self.session
        for line in lines[:start]:
            self._handle(line, OLD)
        session.begin_handover(OLD, NEW, POLICY)
        session.on_connect(NEW, self.now_ns, RECV_NS)
        session.handover_subscribed(NEW, self.now_ns)
        old, new, first = start, start + late, start + late
        while old < len(lines):
            if new < min(len(lines), old + _APART) and (rng.random() < bias or old > new + _APART):
                if lines[new].kind == "recv":  # a body is asked for once, by the session
                    self._handle(lines[new], NEW)
                new += 1
            else:
                self._handle(lines[old], OLD)
                old += 1
            if (
                old >= first
                and session.handover_verdict(NEW, self.now_ns) is Outcome.SWITCH
                and rng.random() < 0.1
            ):
                break
        assert new < len(lines) or old == len(lines)
        session.end_handover(NEW, self.now_ns, RECV_NS)
        for position, line in enumerate(lines[new:], new):
            if line.kind == "recv" or position >= old:
                self._handle(line, OLD)
        return self

    def abandoned(self, start: int, rng: random.Random) -> Run:
        """Open a second connection at message `start` that dies while both deliver."""
        session, lines = self.session, self._lines
        for line in lines[:start]:
            self._handle(line, OLD)
        session.begin_handover(OLD, NEW, POLICY)
        session.on_connect(NEW, self.now_ns, RECV_NS)
        session.handover_subscribed(NEW, self.now_ns)
        end = start + rng.randrange(20, 100)
        new = start
        for old, line in enumerate(lines[start:end], start):
            while new <= old + rng.randrange(3) and new < len(lines):
                if lines[new].kind == "recv":
                    self._handle(lines[new], NEW)
                new += 1
            self._handle(line, OLD)
        session.abandon_handover(NEW, self.now_ns, RECV_NS)
        for line in lines[end:]:
            self._handle(line, OLD)
        return self

    def events(self) -> dict[Key, list[bytes]]:
        """Return what was published, per instrument and message type: exchange time, snapshot
        flag, and items.
        """
        out: dict[Key, list[bytes]] = defaultdict(list)
        for packet in self.packets:
            header = packet.header
            if header.msg_type in DATA:
                snapshot = bytes([bool(header.flags & Flag.SNAPSHOT)])
                out[header.instrument_id, header.msg_type].append(
                    header.ts_exchange_ns.to_bytes(8, "little", signed=True)
                    + snapshot
                    + repr(packet.items).encode()
                )
        return dict(out)

    def losses(self) -> Iterator[StatusState]:
        """Yield every state that says a book is not right."""
        counts = self.session.counts
        assert (counts["gaps"], counts["resyncs"]) == (0, 0)
        for packet in self.packets:
            if (
                packet.header.msg_type == MsgType.STATUS
                and packet.items[0].state == StatusState.SUSPECT
            ):  # type: ignore[union-attr]
                yield StatusState.SUSPECT

    def _handle(self, line: Line, connection: str) -> None:
        self.now_ns += _MS
        session = self.session
        if line.kind == "recv":
            session.on_frame(connection, line.raw, RECV_NS, self.now_ns)
        elif line.url is not None and self._spec.recordings.is_listing(line.url):
            session.on_instruments(line.raw, RECV_NS, self.now_ns)
        elif (
            line.url is not None
            and (symbol := self._spec.recordings.snapshot_symbol(line.url)) is not None
        ):
            session.on_snapshot(symbol, line.raw, RECV_NS, self.now_ns)
        session.commands.clear()
        self._publisher.instruments(len(session.instruments))
        session.flush(self._publisher.publish, self.now_ns, RECV_NS)
        self.packets += map(decode, walk(self._line.take()))


@pytest.mark.parametrize("name", BY_ID)
@pytest.mark.parametrize(("late", "bias"), [(0, 0.5), (0, 0.1), (0, 0.9), (20, 0.5), (3, 0.9)])
def test_every_event_goes_out_once_whichever_connection_is_ahead(
    name: str, late: int, bias: float
) -> None:
    """The events with a replacement are those without one, in the same order; no book is suspect
    for a moment.
    """
    plain = Run(name).whole()
    rng = random.Random(f"{name} {late} {bias}")
    for _ in range(2):
        count = len(plain._lines)
        run = Run(name).replaced(rng.randrange(count // 3, count // 2), late, bias, rng)
        assert run.session.counts["rotations"] == 1
        assert list(run.losses()) == list(plain.losses()) == []
        wanted, got = plain.events(), run.events()
        assert set(got) == set(wanted)
        for key, events in wanted.items():
            assert got[key] == events, key


@pytest.mark.parametrize("name", BY_ID)
def test_a_successor_that_dies_leaves_nothing_behind(name: str) -> None:
    """The old connection goes on: what the other one brought is not repeated, what it did not
    bring is not missing.
    """
    plain = Run(name).whole()
    rng = random.Random(name)
    for _ in range(3):
        run = Run(name).abandoned(rng.randrange(len(plain._lines) // 2), rng)
        assert run.session.counts["rotations_abandoned"] == 1
        assert list(run.losses()) == []
        assert run.events() == plain.events()


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("kraken/crossbook_20260802_v2_btcusd_d25.jsonl", 1500),
        ("coinbase/cf_20260809_advanced_trade.p1.jsonl", 1500),
    ],
)
def test_books_without_ids_change_over_at_the_snapshot(name: str, most: int) -> None:
    """A second connection from the first message on: its snapshots replace the books, which end
    as they do without it.
    """
    plain, run = Run(name, most=most).whole(), Run(name, most=most)
    session, lines = run.session, run._lines
    session.begin_handover(OLD, NEW, POLICY)
    session.on_connect(NEW, run.now_ns, RECV_NS)
    session.handover_subscribed(NEW, run.now_ns)
    for line in lines[: most // 3]:
        run._handle(line, OLD)
        run._handle(line, NEW)
    assert all(
        instrument.connection == NEW for instrument in session.instruments if instrument.sync.live
    )
    assert session.handover_verdict(NEW, run.now_ns) is Outcome.SWITCH
    session.end_handover(NEW, run.now_ns, RECV_NS)
    for line in lines[most // 3 :]:
        run._handle(line, OLD)
    assert list(run.losses()) == []
    assert session.live_books() == plain.session.live_books() > 0
    for instrument in plain.session.instruments:
        wanted = plain.session.books.book(instrument.instrument_id)
        got = session.books.book(instrument.instrument_id)
        if wanted is not None:
            assert got is not None
            assert got.bids().tolist() == wanted.bids().tolist()
            assert got.asks().tolist() == wanted.asks().tolist()
    trades = {key: events for key, events in plain.events().items() if key[1] == MsgType.TRADE}
    assert {
        key: events for key, events in run.events().items() if key[1] == MsgType.TRADE
    } == trades


def test_a_book_without_ids_that_does_not_change_over_is_suspect() -> None:
    """Nothing shows that the new connection goes on where the old one ended: the book is given
    up and asked for.
    """
    run = Run("kraken/crossbook_20260802_v2_btcusd_d25.jsonl", most=200)
    session = run.session
    for line in run._lines[:100]:
        run._handle(line, OLD)
    assert session.live_books() == 1
    session.begin_handover(OLD, NEW, POLICY)
    session.on_connect(NEW, run.now_ns, RECV_NS)
    session.end_handover(NEW, run.now_ns, RECV_NS)
    assert session.live_books() == 0
    (command,) = session.commands
    assert (command.kind, command.connection) == (CommandKind.RESUBSCRIBE, OLD)
    session.commands.clear()
    for line in run._lines[100:]:
        run._handle(line, OLD)
    assert session.live_books() == 0  # updates without their snapshot are no book
    for line in run._lines[:3]:  # the snapshot comes third
        run._handle(line, OLD)
    assert session.live_books() == 1


def test_both_silent_is_no_reason_to_stay_and_a_dead_successor_is() -> None:
    """After the patience: a new connection that brought nothing is given up where the old one
    speaks, else taken.
    """
    policy = HandoverPolicy(linger_ns=_MS, patience_ns=10 * _MS)
    for speaks, outcome in ((True, Outcome.ABANDON), (False, Outcome.SWITCH)):
        run = Run("upbit/cf_20210405_simple.jsonl", most=100)
        session = run.session
        session.begin_handover(OLD, NEW, policy)
        session.on_connect(NEW, run.now_ns, RECV_NS)
        assert (
            session.handover_verdict(NEW, run.now_ns + 3600_000 * _MS) is Outcome.WAIT
        )  # nothing was subscribed yet
        session.handover_subscribed(NEW, run.now_ns)
        if speaks:
            run._handle(run._lines[0], OLD)
        assert session.handover_verdict(NEW, run.now_ns) is Outcome.WAIT
        assert session.handover_verdict(NEW, run.now_ns + 11 * _MS) is outcome


def test_a_message_seen_in_part_goes_out_in_part() -> None:
    """Venues that batch trades may batch them differently on two connections: each trade goes
    out once.
    """
    run = Run("bybit/cf_20260809_v5_linear_spot.p1.jsonl", most=4000).whole()
    batches = [
        packet
        for packet in run.packets
        if packet.header.msg_type == MsgType.TRADE and packet.header.item_count > 2
    ]
    assert batches
    for packet in batches[:20]:
        whole = b"".join(encode(packet.header, packet.items))
        marks = fingerprints(whole, NO_ID)
        assert len(set(marks)) == packet.header.item_count
        left = remaining(whole, Counter(marks[1:]), NO_ID)
        (rest,) = map(decode, walk(left))
        assert rest.items == packet.items[:1]
        assert rest.header.flags & Flag.LAST
        assert remaining(whole, Counter(marks), NO_ID) == b""
        assert remaining(whole, Counter(), NO_ID) == whole


def test_what_has_neither_time_nor_id_is_never_left_out() -> None:
    """A quote that comes again may be a new one that says the same; left out, the quote before
    it would stand for ever.
    """
    quote = Header(msg_type=MsgType.BBO, flags=int(Flag.LAST), bid_count=1)
    (packet,) = encode(quote, (Level(price=1, quantity=1), Level(price=2, quantity=1)))
    assert fingerprints(packet, NO_ID) == [b""]
    assert remaining(packet, Counter([b""]), NO_ID) == packet
    assert fingerprints(packet, 7) != fingerprints(packet, 8)


def test_little_is_kept_however_long_both_deliver() -> None:
    """What both connections brought is forgotten: at the switch there is only what the new one
    is ahead with.
    """
    run = Run("binance_futures/cf_20210722_usdm.jsonl", most=1000)
    session = run.session
    session.begin_handover(OLD, NEW, POLICY)
    session.on_connect(NEW, run.now_ns, RECV_NS)
    session.handover_subscribed(NEW, run.now_ns)
    handover = session._handovers.by_connection[NEW]
    kept = 0
    for position, line in enumerate(run._lines):
        if line.kind == "recv":
            run._handle(line, NEW)
        if position >= _APART:
            run._handle(run._lines[position - _APART], OLD)
        kept = max(kept, len(handover.held))
    assert 0 < kept <= _APART + 1
