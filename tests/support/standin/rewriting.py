"""A real frame at another time and another place in the venue's numbering, or of another symbol:
never with other prices.

What may change is named here field by field for every venue: sequence numbers, times, the
symbol. Everything else of a message stays as it was recorded, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from tapecast.protocol.units import NS_PER_S

__all__ = ["FIELDS", "Fields", "Movable", "rekeyed", "with_number"]

_UNITS = {10: NS_PER_S, 13: 1_000_000, 16: 1_000, 19: 1}
"""Digits of a present-day time -> its unit in ns."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Keys whose integers are sequence numbers, and keys whose integers are times; `iso`: times
    are ISO 8601 texts.
    """

    ids: tuple[str, ...]
    times: tuple[str, ...] = ()
    iso: bool = False


_BINANCE = Fields(("U", "u", "pu", "lastUpdateId"), ("E", "T"))
FIELDS: dict[str, Fields] = {
    "binance": _BINANCE,
    "binance_futures": _BINANCE,
    "binance_coinm": _BINANCE,
    "bithumb": Fields(("sequential_id", "sid"), ("timestamp", "trade_timestamp", "tms", "ttms")),
    "bybit": Fields(("u", "seq"), ("ts", "cts", "T")),
    "coinbase": Fields(("sequence_num",), iso=True),
    "coinbase_exchange": Fields(("sequence", "trade_id"), iso=True),
    "deribit": Fields(("change_id", "prev_change_id", "trade_seq"), ("timestamp",)),
    "kraken": Fields(("trade_id",), iso=True),
    "okx": Fields(("seqId", "prevSeqId"), ("ts",)),
    "upbit": Fields(("sequential_id", "sid"), ("timestamp", "trade_timestamp", "tms", "ttms")),
}
_ISO = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_FORMAT = "%Y-%m-%dT%H:%M:%S"
_MARK = b"\x00%d\x00"


@cache
def _pattern(venue: str) -> re.Pattern[bytes]:
    fields = FIELDS[venue]
    places = [rb'"(?:%s)"\s*:\s*"?(?P<id>\d+)(?![\d.eE])' % "|".join(fields.ids).encode()]
    if fields.times:
        places.append(
            rb'"(?:%s)"\s*:\s*"?(?P<time>\d+)(?![\d.eE])' % "|".join(fields.times).encode()
        )
    return re.compile(b"|".join(places))


class Movable:
    """A frame taken apart once, so that moving it is cheap; `at` with nothing moved is the frame
    itself.
    """

    __slots__ = ("_seconds", "_slots", "_texts", "raw")

    def __init__(self, venue: str, raw: bytes) -> None:
        self.raw = raw
        self._texts: list[bytes] = []
        self._slots: list[tuple[int, int]] = []
        """(number, its unit in ns; 0 = a sequence number) between two of `_texts`."""
        end = 0
        for found in _pattern(venue).finditer(raw):
            kind = found.lastgroup
            assert kind is not None
            text = found[kind]
            if kind == "time" and len(text) not in _UNITS:
                continue
            self._texts.append(raw[end : found.start(kind)])
            self._slots.append((int(text), _UNITS[len(text)] if kind == "time" else 0))
            end = found.end(kind)
        self._texts.append(raw[end:])
        self._seconds: tuple[bytes, ...] = ()
        """Each second that is written as text, in the order of the marks that stand for them in
        `_texts`.
        """
        if FIELDS[venue].iso:
            self._seconds = tuple(dict.fromkeys(_ISO.findall(raw)))
            for number, second in enumerate(self._seconds):
                self._texts = [text.replace(second, _MARK % number) for text in self._texts]

    @property
    def time_ns(self) -> int:
        """The first time in the frame; 0 = it has none."""
        for number, unit in self._slots:
            if unit:
                return number * unit
        if not self._seconds:
            return 0
        return (
            int(
                datetime.strptime(self._seconds[0].decode(), _FORMAT)
                .replace(tzinfo=UTC)
                .timestamp()
            )
            * NS_PER_S
        )

    def at(self, ids: int, ns: int) -> bytes:
        """Return the frame `ids` further in the venue's numbering and `ns` later (whole seconds,
        for times in text).
        """
        if not ids and not ns:
            return self.raw
        out = [self._texts[0]]
        for (number, unit), after in zip(self._slots, self._texts[1:], strict=True):
            out.append(b"%d" % (number + ns // unit if unit else number + ids))
            out.append(after)
        frame = b"".join(out)
        for number, second in enumerate(self._seconds):
            frame = frame.replace(_MARK % number, _later(second, ns // NS_PER_S))
        return frame


def _later(text: bytes, seconds: int) -> bytes:
    """Return an ISO time to the second, moved."""
    moment = datetime.strptime(text.decode(), _FORMAT).replace(tzinfo=UTC) + timedelta(
        seconds=seconds
    )
    return moment.strftime(_FORMAT).encode()


def rekeyed(raw: bytes, old: str, new: str) -> bytes:
    """Return a frame with another symbol, in the spelling of either case that it has; for load,
    not for data.
    """

    def swap(a: str, b: str) -> Callable[[bytes], bytes]:
        pattern = re.compile(
            rb"(?<![A-Za-z0-9_/-])" + re.escape(a.encode()) + rb"(?![A-Za-z0-9_/-])"
        )
        return lambda data: pattern.sub(lambda _: b.encode(), data)

    raw = swap(old, new)(raw)
    return swap(old.lower(), new.lower())(raw) if old != old.lower() else raw


def with_number(raw: bytes, key: str, number: int) -> bytes:
    """Return a frame with another integer at the first `key`; AssertionError where it has none."""
    out, count = re.subn(
        rb'("%s"\s*:\s*"?)-?\d+' % re.escape(key.encode()), rb"\g<1>%d" % number, raw, count=1
    )
    assert count, f"no number at {key!r}"
    return out
