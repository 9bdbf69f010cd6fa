"""What can be configured: one frozen struct per section, with type, bounds and meaning beside each key.

The values stand in `config/defaults.toml` and `config/venues/*.toml`, never here: every key is required once all layers are
joined. How layers are read, joined and checked is `runtime.config`. Endpoints and limits are named by the venues, so those
tables are open in a venue's packaged file and closed in every later layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "Backoff",
    "Circuit",
    "Config",
    "Feeder",
    "Log",
    "Monitor",
    "Network",
    "Resync",
    "Venue",
    "conflicts",
]

_OCTET = r"(25[0-5]|2[0-4]\d|1?\d?\d)"
_PREFIX = rf"2(2[4-9]|3\d)(\.{_OCTET}){{2}}"


def _text(pattern: str, expected: str) -> Meta:
    """Return the constraint of a text; `expected` is how an error message calls it."""
    return Meta(pattern=f"^{pattern}$", extra={"expected": expected})


Address = Annotated[str, _text(rf"{_OCTET}(\.{_OCTET}){{3}}", "an IPv4 address")]
Group = Annotated[str, _text(rf"{_PREFIX}\.{_OCTET}", "a multicast address")]
Prefix = Annotated[str, _text(_PREFIX, "the first three numbers of a multicast address")]
SecondPrefix = Annotated[str, _text(rf"({_PREFIX})?", "the first three numbers of a multicast address, or empty text")]
Url = Annotated[str, _text(r"(wss?|https?)://\S+", "a URL (wss, ws, https or http)")]
Folder = Annotated[str, Meta(min_length=1)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Count = Annotated[int, Meta(ge=1, le=10_000)]
Cpu = Annotated[int, Meta(ge=0, le=4095)]
Milliseconds = Annotated[int, Meta(ge=1, le=60_000)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Interval = Annotated[float, Meta(gt=0, le=86_400)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration."""


class Network(_Section, frozen=True):
    """Multicast: where packets go and how sockets are set up (the wire format's section on channels and groups)."""

    interface: Annotated[Address, Meta(description="address of the interface that carries the multicast")]
    ttl: Annotated[int, Meta(ge=0, le=255, description="hops a packet may take; 0 = this host, 1 = the LAN")]
    wide_area: Annotated[bool, Meta(description="permits a ttl above 1")]
    group_prefix: Annotated[Prefix, Meta(description="a venue's group is this prefix and the venue's id")]
    line_b_prefix: Annotated[SecondPrefix, Meta(description="the same for line B; empty = one line")]
    monitor_group: Annotated[Group, Meta(description="group of the plain text monitoring lines")]
    port_crypto: Annotated[Port, Meta(description="UDP port of the crypto venues")]
    port_stock: Annotated[Port, Meta(description="UDP port of the stock venue")]
    rcvbuf_bytes: Annotated[int, Meta(ge=4096, le=1 << 30, description="receive buffer asked of the kernel")]
    max_payload: Annotated[int, Meta(ge=242, le=1472, description="UDP payload bytes of one packet, header included")]


class Backoff(_Section, frozen=True):
    """Delay before the next connect: min(cap, base × factor^n) × uniform(0.5, 1), n = failed connects in a row."""

    base_s: Interval
    factor: Annotated[float, Meta(ge=1, le=10)]
    cap_s: Interval
    reset_after_s: Annotated[Seconds, Meta(description="seconds of data after which n is 0 again")]


class Circuit(_Section, frozen=True):
    """A venue that was connected to `connects` times within `window_s` is left alone for `pause_s`."""

    connects: Count
    window_s: Interval
    pause_s: Seconds


class Resync(_Section, frozen=True):
    """`attempts` per `window_s` for a book out of sync, then at intervals that grow; the tries never end."""

    attempts: Count
    window_s: Interval
    slow_first_s: Annotated[Interval, Meta(description="first interval once the attempts are used up")]
    slow_cap_s: Annotated[Interval, Meta(description="longest interval")]


class Feeder(_Section, frozen=True):
    """One feeder process."""

    limited_mode: Annotated[bool, Meta(description="take only the first symbols of each category; LIMITED_MODE sets it too")]
    limited_symbols: Annotated[Count, Meta(description="how many symbols of a category that leaves")]
    heartbeat_idle_ms: Annotated[Milliseconds, Meta(description="heartbeat after this much silence on a channel")]
    heartbeat_max_ms: Annotated[Milliseconds, Meta(description="heartbeat at least this often")]
    definition_cycle_s: Annotated[Interval, Meta(description="all instrument definitions go out once in this time")]
    snapshot_cycle_s: Annotated[Seconds, Meta(description="all books go out as snapshots once in this time; 0 = never")]
    stale_after_s: Annotated[Interval, Meta(description="an instrument silent for so long is STALE")]
    data_idle_reconnect_s: Annotated[Interval, Meta(description="a connection without data for so long is made anew")]
    snapshot_deadline_s: Annotated[Interval, Meta(description="a book waits so long for its snapshot before it asks again")]
    quiet_wait_s: Annotated[Interval, Meta(description="a book without updates for so long starts from a snapshot alone")]
    busy_poll: Annotated[
        bool, Meta(description="never sleep while waiting for frames: takes a whole processor, saves the wake-up")
    ]
    cpus: Annotated[tuple[Cpu, ...], Meta(description="processors to run on, by number; empty = any")]
    session_end_s: Annotated[float, Meta(ge=0, le=8, description="a feeder that stops repeats SESSION_END for so long")]
    state_dir: Annotated[Folder, Meta(description="folder that keeps the session epochs")]
    quarantine_dir: Annotated[Folder, Meta(description="folder of the messages that were not understood")]
    backoff: Backoff
    circuit: Circuit
    resync: Resync


class Monitor(_Section, frozen=True):
    """The text monitoring group."""

    conn_interval_s: Annotated[Interval, Meta(description="interval of the CONN lines")]
    exchange_interval_s: Annotated[Interval, Meta(description="interval of the EXCHANGE lines")]


class Log(_Section, frozen=True):
    """Structured logs on stderr."""

    level: Literal["debug", "info", "warning", "error"]
    format: Annotated[Literal["auto", "console", "json"], Meta(description="auto = console on a terminal, else JSON lines")]


class Venue(_Section, frozen=True):
    """One venue: what to take from it and where it answers."""

    enabled: bool
    symbols: Annotated[tuple[str, ...], Meta(description="the venue's own symbols, most wanted first")]
    channels: Annotated[tuple[str, ...], Meta(description="the venue's own channel names")]
    endpoints: Annotated[dict[str, Url], Meta(description="override one to let a local server stand in")]
    limits: Annotated[dict[str, int | float], Meta(description="the venue's limits on connections, messages and requests")]


class Config(_Section, frozen=True):
    """The effective configuration of a process."""

    network: Network
    feeder: Feeder
    monitor: Monitor
    log: Log
    venues: dict[str, Venue]

    def symbols(self, venue: str, category: Callable[[str], Hashable]) -> tuple[str, ...]:
        """Return the symbols to take from `venue`; in limited mode the first `feeder.limited_symbols` of each category.

        `category` tells a symbol's category (spot, perpetual, …), which only the venue's specification knows. Raises KeyError
        for a venue that is not configured.
        """
        wanted = self.venues[venue].symbols
        if not self.feeder.limited_mode:
            return wanted
        taken: Counter[Hashable] = Counter()
        kept = []
        for symbol in wanted:
            taken[category(symbol)] += 1
            if taken[category(symbol)] <= self.feeder.limited_symbols:
                kept.append(symbol)
        return tuple(kept)


def conflicts(config: Config) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) for values that are legal alone and impossible together."""
    network, feeder = config.network, config.feeder
    if network.ttl > 1 and not network.wide_area:
        yield "network.ttl", "above 1 needs network.wide_area = true"
    if network.line_b_prefix == network.group_prefix:
        yield "network.line_b_prefix", "must differ from network.group_prefix"
    if feeder.heartbeat_idle_ms > feeder.heartbeat_max_ms:
        yield "feeder.heartbeat_idle_ms", "must not exceed feeder.heartbeat_max_ms"
    if feeder.backoff.base_s > feeder.backoff.cap_s:
        yield "feeder.backoff.base_s", "must not exceed feeder.backoff.cap_s"
    if feeder.resync.slow_first_s > feeder.resync.slow_cap_s:
        yield "feeder.resync.slow_first_s", "must not exceed feeder.resync.slow_cap_s"
