"""What can be configured: one frozen struct per section, with type, bounds and meaning beside
each key.

The values stand in `config/defaults.toml` and `config/venues/*.toml`, not here: every key is
required once all layers are joined, but for those of a venue that most leave out. How layers are
read, joined and checked is `runtime.config`. Endpoints and limits are named by the venues, so
those tables are open in a venue's packaged file and closed in every later layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "Backoff",
    "Circuit",
    "Config",
    "Consumer",
    "Feeder",
    "FirstData",
    "Idle",
    "Log",
    "Monitor",
    "Network",
    "Record",
    "Recovery",
    "Resync",
    "Rotation",
    "Service",
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
SecondPrefix = Annotated[
    str, _text(rf"({_PREFIX})?", "the first three numbers of a multicast address, or empty text")
]
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
    """Multicast: where packets go and how sockets are set up (the wire format's section on
    channels and groups).
    """

    interface: Annotated[
        Address, Meta(description="address of the interface that carries the multicast")
    ]
    ttl: Annotated[
        int, Meta(ge=0, le=255, description="hops a packet may take; 0 = this host, 1 = the LAN")
    ]
    wide_area: Annotated[bool, Meta(description="permits a ttl above 1")]
    group_prefix: Annotated[
        Prefix, Meta(description="a venue's group is this prefix and the venue's id")
    ]
    line_b_prefix: Annotated[
        SecondPrefix, Meta(description="the same for line B; empty = one line")
    ]
    derived_prefix: Annotated[
        Prefix,
        Meta(description="a service's group is this prefix and the service's number; crypto input"),
    ]
    derived_prefix_stock: Annotated[Prefix, Meta(description="the same for stock input")]
    monitor_group: Annotated[Group, Meta(description="group of the plain text monitoring lines")]
    port_crypto: Annotated[Port, Meta(description="UDP port of the crypto venues")]
    port_stock: Annotated[Port, Meta(description="UDP port of the stock venue")]
    authentication: Annotated[
        Literal["auto", "on", "off"],
        Meta(description="packets carry tags under a key of their channel; auto = not on loopback"),
    ]
    sources: Annotated[
        tuple[Address, ...],
        Meta(description="hosts that may send; none = the first one heard on each line"),
    ]
    rcvbuf_bytes: Annotated[
        int, Meta(ge=4096, le=1 << 30, description="receive buffer asked of the kernel")
    ]
    max_payload: Annotated[
        int, Meta(ge=242, le=1472, description="UDP payload bytes of one packet, header included")
    ]


class Backoff(_Section, frozen=True):
    """Delay before the next connect: min(cap, base × factor^n) × uniform(0.5, 1), n = failed
    connects in a row.
    """

    base_s: Interval
    factor: Annotated[float, Meta(ge=1, le=10)]
    cap_s: Interval
    reset_after_s: Annotated[Seconds, Meta(description="seconds of data after which n is 0 again")]


class Circuit(_Section, frozen=True):
    """A venue that was connected to `connects` times within `window_s` is left alone for
    `pause_s`.
    """

    connects: Count
    window_s: Interval
    pause_s: Seconds


class Resync(_Section, frozen=True):
    """`attempts` per `window_s` for a book out of sync, then at intervals that grow; the tries
    never end.
    """

    attempts: Count
    window_s: Interval
    slow_first_s: Annotated[
        Interval, Meta(description="first interval once the attempts are used up")
    ]
    slow_cap_s: Annotated[Interval, Meta(description="longest interval")]
    resubscribes: Annotated[
        Count,
        Meta(description="topics of a venue that are subscribed again at most within the window"),
    ]
    resubscribes_window_s: Interval


class FirstData(_Section, frozen=True):
    """Seconds from a connection's opening to the first data of a channel that carries this; 0 =
    no limit.
    """

    book: Seconds
    bbo: Seconds
    trade: Seconds
    stat: Seconds
    liquidation: Seconds


class Idle(_Section, frozen=True):
    """Seconds without data of all such channels of a connection, after which it is made anew; 0
    = their silence is no fault.
    """

    book: Seconds
    bbo: Seconds
    trade: Seconds
    stat: Seconds
    liquidation: Seconds


class Rotation(_Section, frozen=True):
    """Connections that are replaced before they end: the new one delivers before the old one
    closes.
    """

    share: Annotated[
        float, Meta(gt=0, le=1, description="of the age at which the venue ends a connection")
    ]
    spread: Annotated[
        float, Meta(ge=0, le=0.9, description="up to this much of it earlier, at random")
    ]
    every_s: Annotated[
        Seconds,
        Meta(description="replace at this age whatever the venue says; 0 = only where it must be"),
    ]
    linger_s: Annotated[
        Seconds, Meta(description="both connections stay open for at least so long")
    ]
    patience_s: Annotated[
        Interval,
        Meta(description="books not changed over by then are quiet, or the new connection is dead"),
    ]


class Feeder(_Section, frozen=True):
    """One feeder process."""

    limited_mode: Annotated[
        bool,
        Meta(description="take only the first symbols of each category; LIMITED_MODE sets it too"),
    ]
    limited_symbols: Annotated[
        Count, Meta(description="how many symbols of a category that leaves")
    ]
    symbols_per_connection: Annotated[
        Count, Meta(description="symbols that share a venue connection; a venue can have its own")
    ]
    heartbeat_idle_ms: Annotated[
        Milliseconds, Meta(description="heartbeat after this much silence on a channel")
    ]
    heartbeat_max_ms: Annotated[Milliseconds, Meta(description="heartbeat at least this often")]
    definition_cycle_s: Annotated[
        Interval, Meta(description="all instrument definitions go out once in this time")
    ]
    snapshot_cycle_s: Annotated[
        Seconds, Meta(description="all books go out as snapshots once in this time; 0 = never")
    ]
    stale_after_s: Annotated[
        Interval, Meta(description="an instrument silent for so long is STALE")
    ]
    data_idle_reconnect_s: Annotated[
        Interval, Meta(description="a connection without data for so long is made anew")
    ]
    quiet_idle_reconnect_s: Annotated[
        Interval, Meta(description="the same where all its channels may be silent (feeder.idle)")
    ]
    snapshot_deadline_s: Annotated[
        Interval, Meta(description="a book waits so long for its snapshot before it asks again")
    ]
    quiet_wait_s: Annotated[
        Interval,
        Meta(description="a book without updates for so long starts from a snapshot alone"),
    ]
    busy_poll: Annotated[
        bool,
        Meta(
            description=(
                "never sleep while waiting for frames: takes a whole processor, saves the wake-up"
            )
        ),
    ]
    cpus: Annotated[
        tuple[Cpu, ...], Meta(description="processors to run on, by number; empty = any")
    ]
    session_end_s: Annotated[
        float, Meta(ge=0, le=8, description="a feeder that stops repeats SESSION_END for so long")
    ]
    replica: Annotated[
        int,
        Meta(
            ge=0,
            le=1,
            description="1 = a second feeder of its venue: channel id + 100, groups of its own",
        ),
    ]
    state_dir: Annotated[
        Folder,
        Meta(
            description=(
                "folder of session epochs, venues' lists, and the limits that the host's processes"
                " share"
            )
        ),
    ]
    quarantine_dir: Annotated[
        Folder, Meta(description="folder of the messages that were not understood")
    ]
    backoff: Backoff
    circuit: Circuit
    resync: Resync
    first_data: FirstData
    idle: Idle
    rotation: Rotation


class Recovery(_Section, frozen=True):
    """The service by which receivers get from a feeder, over TCP, what multicast lost. Rates are
    for each client.
    """

    enabled: Annotated[bool, Meta(description="whether feeders keep what they sent and serve it")]
    port: Annotated[
        int,
        Meta(
            ge=0,
            le=65_000,
            description="a venue's TCP port is this number plus its id; 0 = any free one",
        ),
    ]
    ring_bytes: Annotated[
        int, Meta(ge=1 << 16, le=1 << 34, description="bytes of sent packets that a feeder keeps")
    ]
    clients: Annotated[
        Count, Meta(description="connections of one feeder at a time; one more is refused")
    ]
    packets_per_s: Annotated[
        int, Meta(ge=1, le=10_000_000, description="packets repeated in ranges, and definitions")
    ]
    bytes_per_s: Annotated[int, Meta(ge=1, le=1 << 34, description="bytes of all answers")]
    books_per_s: Annotated[int, Meta(ge=1, le=1_000_000, description="books in snapshots")]
    backlog: Annotated[
        Count, Meta(description="requests that may wait; a client with more is not read meanwhile")
    ]
    idle_timeout_s: Annotated[
        Interval, Meta(description="a client that asks nothing for so long is closed")
    ]
    stall_timeout_s: Annotated[
        Interval, Meta(description="a client that takes nothing for so long is closed")
    ]


class Record(_Section, frozen=True):
    """Recordings of what passes between a feeder and its venue, made by `tapecast record` and,
    where enabled, by `feed`.
    """

    enabled: Annotated[bool, Meta(description="`feed` records too")]
    dir: Annotated[
        Folder, Meta(description="folder of the recordings; each venue has one of its own in it")
    ]
    rotate_mb: Annotated[
        int, Meta(ge=1, le=1 << 20, description="MiB after which a new file begins")
    ]
    rotate_s: Annotated[Interval, Meta(description="seconds after which a new file begins")]
    flush_s: Annotated[
        float, Meta(gt=0, le=1, description="a line is in its file after this time at the latest")
    ]
    queue_mb: Annotated[
        int,
        Meta(
            ge=1,
            le=4096,
            description="MiB of lines that may wait for the disk; further ones are dropped",
        ),
    ]
    min_free_mb: Annotated[
        int, Meta(ge=0, le=1 << 20, description="MiB that are left free on the disk")
    ]


class Service(_Section, frozen=True):
    """What a process tells the host about itself: metrics and health over HTTP, readiness to the
    service manager.
    """

    address: Annotated[Address, Meta(description="address of /metrics and /healthz")]
    port_base: Annotated[
        int,
        Meta(
            ge=0,
            le=65_000,
            description=(
                "a feeder listens on this plus its venue's id, `record` 100 further; 0 = no"
                " endpoint"
            ),
        ),
    ]
    no_data_s: Annotated[
        Seconds, Meta(description="a venue without data for so long is unhealthy; 0 = never")
    ]
    ready_after_s: Annotated[
        Interval,
        Meta(description="readiness is told after this time even if no venue has sent data"),
    ]


class Monitor(_Section, frozen=True):
    """The text monitoring group."""

    conn_interval_s: Annotated[Interval, Meta(description="interval of the CONN lines")]
    exchange_interval_s: Annotated[Interval, Meta(description="interval of the EXCHANGE lines")]


class Consumer(_Section, frozen=True):
    """What a feed does about lost packets, and which of several feeders it takes."""

    recovery: Annotated[
        bool, Meta(description="ask the feeders' recovery services for lost packets and books")
    ]
    repair_ms: Annotated[
        int,
        Meta(
            ge=1, le=10_000, description="how long lost packets are waited for; then they are a gap"
        ),
    ]
    repair_packets: Annotated[
        int,
        Meta(ge=1024, le=1 << 17, description="packets that may wait behind them; a power of two"),
    ]
    jitter: Annotated[
        float,
        Meta(
            ge=0, le=0.5, description="requests wait a random time, at most this share of repair_ms"
        ),
    ]
    feeders: Annotated[
        int,
        Meta(
            ge=1,
            le=2,
            description="2 = listen to a venue's second feeder too, and take the better one",
        ),
    ]
    switch_after_s: Annotated[
        Interval, Meta(description="a feeder that is not well for so long is left for another")
    ]


class Log(_Section, frozen=True):
    """Structured logs, on stderr unless a folder is named."""

    level: Literal["debug", "info", "warning", "error"]
    format: Annotated[
        Literal["auto", "console", "json"],
        Meta(description="auto = console on a terminal, else JSON lines"),
    ]
    dir: Annotated[
        str,
        Meta(
            description=(
                "folder in which each process has a file, feed-okx.log for example; empty = stderr"
            )
        ),
    ]
    file_mb: Annotated[
        int, Meta(ge=1, le=4096, description="MiB after which a log file is rotated")
    ]
    files: Annotated[
        int,
        Meta(ge=1, le=100, description="rotated log files that are kept beside the present one"),
    ]


class Venue(_Section, frozen=True):
    """One venue: what to take from it and where it answers."""

    enabled: bool
    symbols: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "what to take, most wanted first: names (the venue's own, or BASE-QUOTE) and"
                " patterns such as *-USDT"
            )
        ),
    ]
    channels: Annotated[tuple[str, ...], Meta(description="the venue's own channel names")]
    endpoints: Annotated[
        dict[str, Url], Meta(description="override one to let a local server stand in")
    ]
    limits: Annotated[
        dict[str, int | float],
        Meta(description="the venue's limits on connections, messages and requests"),
    ]
    exclude: Annotated[
        tuple[str, ...], Meta(description="names and patterns that are never taken")
    ] = ()
    top: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description=(
                "of what the patterns match, the most traded of each kind and quote; 0 = all"
            ),
        ),
    ] = 0
    symbols_per_connection: Annotated[
        int, Meta(ge=0, le=10_000, description="0 = feeder.symbols_per_connection")
    ] = 0
    alternates: Annotated[
        dict[str, tuple[Url, ...]],
        Meta(description="other URLs of an endpoint, tried in turn when one brings nothing"),
    ] = {}


class Config(_Section, frozen=True):
    """The effective configuration of a process."""

    network: Network
    feeder: Feeder
    recovery: Recovery
    record: Record
    service: Service
    monitor: Monitor
    consumer: Consumer
    log: Log
    venues: dict[str, Venue]

    def symbols_per_connection(self, venue: str) -> int:
        """Return how many symbols share a connection to `venue`. Raises KeyError for a venue
        that is not configured.
        """
        return self.venues[venue].symbols_per_connection or self.feeder.symbols_per_connection

    def limited(
        self, symbols: Sequence[str], category: Callable[[str], Hashable]
    ) -> tuple[str, ...]:
        """Return the symbols; in limited mode the first `feeder.limited_symbols` of each
        category.

        `category` tells a symbol's category (spot, perpetual, …), which only the venue's
        definitions know.
        """
        if not self.feeder.limited_mode:
            return tuple(symbols)
        taken: Counter[Hashable] = Counter()
        kept = []
        for symbol in symbols:
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
    for key in ("derived_prefix", "derived_prefix_stock"):
        for other in ("group_prefix", "line_b_prefix"):
            if getattr(network, key) == getattr(network, other):
                yield f"network.{key}", f"must differ from network.{other}"
    if config.consumer.repair_packets & (config.consumer.repair_packets - 1):
        yield "consumer.repair_packets", "must be a power of two"
    if feeder.heartbeat_idle_ms > feeder.heartbeat_max_ms:
        yield "feeder.heartbeat_idle_ms", "must not exceed feeder.heartbeat_max_ms"
    if feeder.rotation.linger_s > feeder.rotation.patience_s:
        yield "feeder.rotation.linger_s", "must not exceed feeder.rotation.patience_s"
    if feeder.backoff.base_s > feeder.backoff.cap_s:
        yield "feeder.backoff.base_s", "must not exceed feeder.backoff.cap_s"
    if feeder.resync.slow_first_s > feeder.resync.slow_cap_s:
        yield "feeder.resync.slow_first_s", "must not exceed feeder.resync.slow_cap_s"
