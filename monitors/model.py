"""What the monitor knows: a pure reducer from the text lines of the monitoring group to the
state of every exchange.

The lines are `CONN|exchange|connected|disconnected|reconnects|total` (also without the total)
and `EXCHANGE|name|type|counts|timestamp`, section 5 of the wire specification. `reduce` takes a
state, one datagram and the present time and returns the next state; `view` turns a state into
the rows a screen shows. Both are deterministic: no input or output, no clock, no terminal. Times
named `now_ns` are monotonic nanoseconds of the caller; the timestamp inside a line is UTC
nanoseconds of its sender and serves for rates only.

Everything in a line is untrusted: control characters are removed, lengths and the number of
exchanges are bounded, and what does not parse is counted and shown.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

import msgspec

__all__ = [
    "CONN_STALE_S",
    "EXCHANGE_STALE_S",
    "HINT",
    "HINT_AFTER_S",
    "MAX_EXCHANGES",
    "Connections",
    "Counts",
    "Exchange",
    "Row",
    "State",
    "View",
    "clean",
    "initial",
    "reduce",
    "view",
]

CONN_STALE_S: Final = 12.0
"""A CONN line comes every 5 s: two missed and a little more."""
EXCHANGE_STALE_S: Final = 3.5
"""An EXCHANGE line comes every second: three missed and a little more."""
HINT_AFTER_S: Final = 10.0
HINT: Final = (
    "No venue is connected. `make run REPLAY=folder` plays recordings and needs no network."
)
MAX_EXCHANGES: Final = 64
MAX_NAME: Final = 32
MAX_COUNTS: Final = 32
MAX_LINE: Final = 1472
RATE_WINDOW: Final = 6
"""Rates are measured over the last five one-second steps."""
_NS: Final = 1_000_000_000
_U64: Final = 2**64
_NUMBER = re.compile(r"[0-9]{1,20}")


class Connections(msgspec.Struct, frozen=True, gc=False):
    """The last CONN line of one exchange. `total` is None where the sender leaves it out."""

    connected: int
    disconnected: int
    reconnects: int
    total: int | None
    seen_ns: int


class Counts(msgspec.Struct, frozen=True):
    """The EXCHANGE lines of one exchange and type: the last counts, and the samples the rate is
    measured from.
    """

    counts: dict[str, int]
    timestamp_ns: int
    seen_ns: int
    samples: tuple[tuple[int, dict[str, int]], ...]
    restarts: int = 0


class Exchange(msgspec.Struct, frozen=True):
    """All that is known of one exchange. `feeds` is keyed by the type of its EXCHANGE lines."""

    name: str
    connections: Connections | None = None
    feeds: dict[str, Counts] = {}
    lines: int = 0


class State(msgspec.Struct, frozen=True):
    """The whole state of a monitor."""

    started_ns: int
    exchanges: dict[str, Exchange] = {}
    lines: int = 0
    malformed: int = 0
    last_malformed: str = ""
    refused: int = 0
    """Lines about more than `MAX_EXCHANGES` exchanges."""
    connected_ns: int | None = None
    """When a venue was last reported connected."""


class Row(msgspec.Struct, frozen=True):
    """One line of the table. Rates are per second, measured; None where they are not known
    (yet).
    """

    exchange: str
    state: str
    connected: int | None
    disconnected: int | None
    reconnects: int | None
    total: int | None
    counts: dict[str, int]
    rates: dict[str, float | None]
    age_s: float
    restarts: int


class View(msgspec.Struct, frozen=True):
    """What a screen shows, whichever screen it is."""

    rows: tuple[Row, ...]
    uptime_s: float
    lines: int
    malformed: int
    last_malformed: str
    refused: int
    hint: str | None


def initial(now_ns: int) -> State:
    """Return the state of a monitor that has received nothing."""
    return State(started_ns=now_ns)


def clean(text: str, limit: int = MAX_LINE) -> str:
    """Return untrusted text without control, format and unassigned characters, cut to `limit`
    characters.
    """
    kept = "".join(
        c for c in text[:limit] if unicodedata.category(c)[0] != "C" and c not in "\u2028\u2029"
    )
    return kept.strip()


def reduce(state: State, datagram: bytes, now_ns: int) -> State:
    """Return the state after one datagram of the monitoring group, which may hold several lines."""
    for raw in datagram[:MAX_LINE].split(b"\n"):
        if raw.strip():
            state = _line(state, raw, now_ns)
    return state


def view(state: State, now_ns: int) -> View:
    """Return the rows as of `now_ns`, exchanges by name, with ages, rates and staleness worked
    out.
    """
    rows = tuple(_row(state.exchanges[name], now_ns) for name in sorted(state.exchanges))
    quiet_since = state.connected_ns if state.connected_ns is not None else state.started_ns
    anyone = any(row.state in ("live", "partial") for row in rows)
    hint = HINT if not anyone and now_ns - quiet_since >= HINT_AFTER_S * _NS else None
    return View(
        rows=rows,
        uptime_s=(now_ns - state.started_ns) / _NS,
        lines=state.lines,
        malformed=state.malformed,
        last_malformed=state.last_malformed,
        refused=state.refused,
        hint=hint,
    )


class _MalformedError(ValueError):
    """A line that is not one of the two forms."""


def _line(state: State, raw: bytes, now_ns: int) -> State:
    lines = state.lines + 1
    try:
        text = clean(raw.decode("utf-8"))
        fields = [field.strip() for field in text.split("|")]
        if fields[0] == "CONN":
            name, changed = _connections(fields, now_ns)
            update: Connections | tuple[str, Counts] = changed
        elif fields[0] == "EXCHANGE":
            name, kind, counts, timestamp_ns = _counts(fields)
            known = state.exchanges.get(name)
            update = (
                kind,
                _sample(known.feeds.get(kind) if known else None, counts, timestamp_ns, now_ns),
            )
        else:
            raise _MalformedError(text)
    except (_MalformedError, UnicodeDecodeError):
        shown = clean(raw.decode("utf-8", "replace"), 80)
        return msgspec.structs.replace(
            state, lines=lines, malformed=state.malformed + 1, last_malformed=shown
        )
    exchange = state.exchanges.get(name)
    if exchange is None:
        if len(state.exchanges) >= MAX_EXCHANGES:
            return msgspec.structs.replace(state, lines=lines, refused=state.refused + 1)
        exchange = Exchange(name)
    connected_ns = state.connected_ns
    if isinstance(update, Connections):
        exchange = msgspec.structs.replace(exchange, connections=update, lines=exchange.lines + 1)
        if update.connected:
            connected_ns = now_ns
    else:
        if update[0] not in exchange.feeds and len(exchange.feeds) >= MAX_COUNTS:
            return msgspec.structs.replace(state, lines=lines, refused=state.refused + 1)
        exchange = msgspec.structs.replace(
            exchange, feeds={**exchange.feeds, update[0]: update[1]}, lines=exchange.lines + 1
        )
    return msgspec.structs.replace(
        state, exchanges={**state.exchanges, name: exchange}, lines=lines, connected_ns=connected_ns
    )


def _number(text: str) -> int:
    if _NUMBER.fullmatch(text) is None or int(text) >= _U64:
        raise _MalformedError(text)
    return int(text)


def _name(text: str) -> str:
    if not text or len(text) > MAX_NAME:
        raise _MalformedError(text)
    return text


def _connections(fields: list[str], now_ns: int) -> tuple[str, Connections]:
    if len(fields) not in (5, 6):
        raise _MalformedError("|".join(fields))
    total = _number(fields[5]) if len(fields) == 6 else None
    name = _name(fields[1])
    return name, Connections(
        _number(fields[2]), _number(fields[3]), _number(fields[4]), total, now_ns
    )


def _counts(fields: list[str]) -> tuple[str, str, dict[str, int], int]:
    if len(fields) != 5:
        raise _MalformedError("|".join(fields))
    counts: dict[str, int] = {}
    for pair in fields[3].split(",") if fields[3] else []:
        key, equals, value = pair.partition("=")
        if not equals or len(counts) >= MAX_COUNTS:
            raise _MalformedError(fields[3])
        counts[_name(key.strip())] = _number(value.strip())
    return _name(fields[1]), _name(fields[2]), counts, _number(fields[4])


def _sample(known: Counts | None, counts: dict[str, int], timestamp_ns: int, now_ns: int) -> Counts:
    samples = known.samples if known else ()
    restarts = known.restarts if known else 0
    if samples:
        last_ns, last = samples[-1]
        if timestamp_ns < last_ns or any(
            counts.get(key, 0) < last[key] for key in _CUMULATIVE if key in last
        ):
            samples = ()
            restarts += 1
        elif timestamp_ns == last_ns:
            samples = samples[:-1]
    samples = (*samples, (timestamp_ns, counts))[-RATE_WINDOW:]
    return Counts(counts, timestamp_ns, now_ns, samples, restarts)


_CUMULATIVE: Final = (
    "trade",
    "book",
    "bbo",
    "stat",
    "liquidation",
    "quarantine",
    "gaps",
    "resyncs",
)
"""Counts since the feeder's start; `live` and `books` are levels and have no rate."""


def _rates(feed: Counts) -> dict[str, float | None]:
    first_ns, first = feed.samples[0]
    last_ns, last = feed.samples[-1]
    span_s = (last_ns - first_ns) / _NS
    rates: dict[str, float | None] = {}
    for key in feed.counts:
        if key in _CUMULATIVE:
            rates[key] = (last.get(key, 0) - first.get(key, 0)) / span_s if span_s > 0 else None
    return rates


def _row(exchange: Exchange, now_ns: int) -> Row:
    connections = exchange.connections
    feed = exchange.feeds.get("feed") or next(
        (exchange.feeds[kind] for kind in sorted(exchange.feeds)), None
    )
    seen = [item.seen_ns for item in (connections, feed) if item is not None]
    conn_stale = connections is not None and now_ns - connections.seen_ns > CONN_STALE_S * _NS
    feed_stale = feed is not None and now_ns - feed.seen_ns > EXCHANGE_STALE_S * _NS
    if conn_stale or feed_stale:
        state = "stale"
    elif connections is None:
        state = "waiting"
    elif connections.connected == 0:
        state = "down"
    elif connections.disconnected or (
        connections.total is not None and connections.connected < connections.total
    ):
        state = "partial"
    else:
        state = "live"
    return Row(
        exchange=exchange.name,
        state=state,
        connected=connections.connected if connections else None,
        disconnected=connections.disconnected if connections else None,
        reconnects=connections.reconnects if connections else None,
        total=connections.total if connections else None,
        counts=feed.counts if feed else {},
        rates=(
            {key: None if feed_stale else rate for key, rate in _rates(feed).items()}
            if feed
            else {}
        ),
        age_s=(now_ns - max(seen)) / _NS if seen else 0.0,
        restarts=feed.restarts if feed else 0,
    )
