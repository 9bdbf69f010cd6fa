"""What a venue file fills in: the frozen specification type, and the small helpers that several
venues share.

Truth about a venue lives in its file under `feeder/venues/` and in `docs/venues/` (evidence per
channel and message variant); what an operator may change (endpoints, symbols, rate limits) lives
in `config/venues/*.toml`. Nothing here performs I/O, reads a clock or draws random numbers:
requests and subscriptions are values, carried out by others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from tapecast.feeder.extract.shapes import Shape
from tapecast.protocol.decimals import parse_decimal
from tapecast.protocol.schema import InstrumentKind, InstrumentState, MsgType, OptionType
from tapecast.runtime.net.request import RestRequest

__all__ = [
    "Ack",
    "Alive",
    "BookRule",
    "Control",
    "Exact",
    "Ignored",
    "InstrumentDef",
    "Instruments",
    "InstrumentsError",
    "IntegerLevels",
    "Keepalive",
    "ListingSpec",
    "Login",
    "MarketState",
    "Notice",
    "RecordingSpec",
    "Reply",
    "RestRequest",
    "ServerError",
    "Stream",
    "StreamSpec",
    "Subscription",
    "Tokens",
    "Topic",
    "VenueSpec",
    "Volumes",
    "exact",
    "exact_product",
    "market_and_symbol",
    "milliseconds_to_ns",
    "qualified",
]


class InstrumentsError(ValueError):
    """An instruments body is not what the venue documents."""


class Exact(NamedTuple):
    """An exact decimal number, mantissa x 10^exp, with the fewest fractional digits
    (`protocol.decimals`).
    """

    mantissa: int
    exp: int


def exact(text: str) -> Exact | None:
    """Return the number a text spells, exactly; None where it is empty. Raises InstrumentsError
    for anything else.
    """
    if not text:
        return None
    try:
        return Exact(*parse_decimal(text))
    except ValueError as error:
        raise InstrumentsError(str(error)) from None


def exact_product(a: Exact, b: Exact) -> Exact:
    """Return a x b."""
    return Exact(*parse_decimal(f"{a.mantissa * b.mantissa}e{a.exp + b.exp}"))


def milliseconds_to_ns(milliseconds: int) -> int:
    """Return ns for an integer count of milliseconds."""
    return milliseconds * 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A channel by the venue's own name: over which route it is subscribed and what it proves to
    be alive.
    """

    route: str
    carries: MsgType
    retired: bool = False
    """The venue no longer serves it: recordings have it, a configuration may not name it."""


class Topic(NamedTuple):
    """One channel of one symbol, both by the venue's own names; the symbol qualified by its
    market (`qualified`).
    """

    channel: str
    symbol: str


class Subscription(NamedTuple):
    """One connection to make: what to send over which route, and the topics whose first data
    message proves it.
    """

    route: str
    frames: tuple[bytes, ...]
    topics: tuple[Topic, ...]
    request_ids: tuple[str, ...]
    """One for each frame; empty where the venue acknowledges nothing."""


class Tokens(NamedTuple):
    """What a login answers: the access token, and for how many seconds the venue says that it
    holds.
    """

    access_token: str
    expires_in_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How a venue that gives no data without a key is asked for an access token
    (`feeder.login.client`).
    """

    endpoint: str
    """Configuration key of the base URL."""
    path: str
    secrets: tuple[str, ...]
    """Names of the keys (`runtime.secrets`), in the order that `form` takes them."""
    form: Callable[[Sequence[str]], Mapping[str, str]]
    """Keys -> fields of the request, a form."""
    parse: Callable[[bytes], Tokens]
    """Answer -> token. Raises ValueError, whose message quotes nothing of the answer."""
    sign: Callable[[bytes, str], bytes]
    """(subscription frame, token) -> the same frame with the token in it."""
    headers: Callable[[str], tuple[tuple[str, str], ...]]
    """Token -> headers that a REST request needs."""
    refusals: tuple[str, ...]
    """What the answer to a REST request (status, beginning of the body) contains where the token
    is not accepted.
    """
    margin_s: float
    """A token is renewed this long before it ends."""
    renew_at_s: tuple[int, ...] = ()
    """Seconds of the UTC day at which tokens are renewed whatever their term."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """What the client sends to keep a connection open; WebSocket pings are answered by the
    transport.
    """

    interval_s: float
    """Send after this long without traffic."""
    payload: bytes | None = None
    """A text frame; None: a WebSocket ping."""


class Ack(msgspec.Struct, frozen=True, gc=False):
    """The venue accepted a request; a proof of nothing but that."""

    request_id: str | None = None
    channel: str | None = None
    symbol: str | None = None
    accepted: tuple[Topic, ...] | None = None
    """Every topic that the request brought, where the venue lists them: what else was asked for
    will stay silent.
    """
    depth: int = 0
    """Levels a side that the subscribed book has; 0 = the venue does not say, or keeps all."""


class ServerError(msgspec.Struct, frozen=True, gc=False):
    """The venue refused a request, or complains."""

    code: str
    text: str
    request_id: str | None = None
    channel: str | None = None
    symbol: str | None = None
    login: bool = False
    """The access token is not accepted."""


class MarketState(msgspec.Struct, frozen=True, gc=False):
    """A part of the venue's market opened, closed or was halted: what holds now for the
    instruments of that segment.
    """

    segment: str
    state: InstrumentState
    text: str


class Alive(msgspec.Struct, frozen=True, gc=False):
    """The connection is alive (a pong, a status); not data."""

    text: str


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The venue asks whether the client is alive: this frame is to be sent on the same
    connection at once; not data.
    """

    frame: bytes


class Notice(msgspec.Struct, frozen=True, gc=False):
    """The venue announces something; `reconnect`: this connection ends soon, open its
    replacement now.
    """

    code: str
    text: str
    reconnect: bool


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """A known channel or message variant that carries nothing for the feed."""

    channel: str


Control: TypeAlias = Ack | ServerError | Alive | Reply | Notice | MarketState | Ignored


class InstrumentDef(msgspec.Struct, frozen=True, kw_only=True):
    """An instrument as its venue defines it. None = the venue does not say; numbers are exact."""

    symbol: str
    market: str = ""
    """What qualifies the symbol where the venue has several markets."""
    kind: InstrumentKind
    state: InstrumentState
    base: str
    quote: str
    settle: str
    segment: str = ""
    """The part of the market whose state it shares (`MarketState`); "" = none."""
    tick: Exact | None = None
    tick_bands: tuple[tuple[Exact, Exact], ...] = ()
    """(from price, tick), lowest first, where the tick depends on the price."""
    lot: Exact | None = None
    min_qty: Exact | None = None
    min_notional: Exact | None = None
    multiplier: Exact | None = None
    """Contract size: one unit of quantity is this much of the base (inverse: of the quote)."""
    inverse: bool = False
    expiry_ns: int = 0
    strike: Exact | None = None
    option_type: OptionType = OptionType.NONE
    aliases: tuple[str, ...] = ()
    """What else the venue calls it: a second product with the same book, the key of another
    endpoint.
    """

    @property
    def key(self) -> str:
        """The symbol as configuration and session know it."""
        return qualified(self.market, self.symbol)

    @property
    def price_exp(self) -> int | None:
        """Exponent that every multiple of every tick fits; None = unknown."""
        exps = [number.exp for band in self.tick_bands for number in band]
        return min(exps if self.tick is None else [self.tick.exp, *exps], default=None)

    @property
    def qty_exp(self) -> int | None:
        """Exponent that every multiple of the lot and the minimum quantity fit; None = unknown."""
        exps = [number.exp for number in (self.lot, self.min_qty) if number is not None]
        return min(exps, default=None)


class Instruments(NamedTuple):
    """What an instruments body says: definitions, and one text for each entry that was not
    understood.
    """

    defs: tuple[InstrumentDef, ...]
    rejected: tuple[str, ...]


def qualified(market: str, symbol: str) -> str:
    """Return `market:symbol`, or the symbol alone where the market is "" (the venue's only one,
    or its first).
    """
    return f"{market}:{symbol}" if market else symbol


def market_and_symbol(key: str) -> tuple[str, str]:
    """Return what `qualified` joined."""
    market, _, symbol = key.rpartition(":")
    return market, symbol


def _no_symbol(_: str) -> str | None:
    return None


def _never(_: int) -> bool:
    return False


def _no_notices(_: int) -> tuple[str, ...]:
    return ()


IntegerLevels: TypeAlias = Sequence[tuple[int, int]]
"""(price mantissa, quantity mantissa), best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookRule:
    """Which policies of the one book-rule machine a venue uses.

    `sequence_rule` says what joins two messages, and with it how the first delta joins a
    snapshot with id L:

    - `spot` (Binance spot): next first_id <= last id + 1, older ones are ignored; the first with
      last_id > L needs first_id <= L + 1.
    - `prev` (Binance USD-M): prev_id = last id; the first with last_id >= L needs first_id <= L,
      or prev_id = L.
    - `next` (Bybit): last_id = last id + 1 behind the stream's snapshot; a message with id 1 is
      a whole book.
    - `linked` (OKX): prev_id = last id, whatever the order of the numbers; after a REST snapshot
      the first needs prev_id <= L < last_id. Messages without ids (recordings of 2022) are
      joined by their checksum alone.
    - `full` (Upbit): every message is the whole book.
    - `unverified` (Coinbase): messages of one book are joined by nothing. Where one is not
      understood, the book is given up.
    """

    sequence_rule: Literal["spot", "prev", "next", "linked", "full", "unverified"]
    snapshot: Literal["rest", "stream", "stream_or_rest"]
    """Where the snapshot comes from; `stream_or_rest`: REST once `snapshot_wait_s` passed since
    the acknowledgement, or an update came first.
    """
    snapshot_wait_s: float = 0.0
    checksum: Callable[[IntegerLevels, IntegerLevels, int, int], int] | None = None
    """(bids, asks, price_exp, qty_exp) -> the venue's checksum over `checksum_levels` of each
    side.
    """
    checksum_levels: int = 0
    checksum_unset: int | None = None
    """A received checksum of this value says nothing."""
    checksum_only: bool = False
    """Nothing but the checksum shows a loss, so it is verified on live data too."""
    depths: tuple[int, ...] = ()
    """Levels a side that a subscription can have, ascending: the venue says nothing more of a
    level that falls out of them, so it is deleted. The depth is that of the acknowledgement
    (`Ack.depth`), else the smallest that holds the snapshot. Empty: the whole book, or one that
    the venue itself keeps at its depth.
    """
    may_cross: bool = False
    """Bids above asks are no fault: call auctions, and books of several exchanges in one."""
    rest_shapes: tuple[Shape, ...] = ()
    """REST order books (symbol None)."""
    snapshot_request: Callable[[str, int], RestRequest] | None = None
    """(symbol, levels wanted) -> order book request with at least that many levels where the
    venue gives them. None: there is none, or none whose book joins the stream.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """How much of each instrument was traded in 24 hours, by the venue's own ticker endpoint."""

    requests: Callable[[], list[RestRequest]]
    parse: Callable[[RestRequest, bytes], dict[str, Decimal]]
    """(request, body) -> key or alias -> turnover, comparable between instruments of one kind
    and quote currency. Raises InstrumentsError.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """The venue's WebSocket: what can be subscribed, what its messages are, what keeps it open."""

    shapes: tuple[Shape, ...]
    """Hot messages, tried in order."""
    streams: Mapping[str, Stream]
    """What can be subscribed, by the venue's own name of the channel."""
    market_wide: frozenset[str] = frozenset()
    """Channels that bring all instruments of a market: subscribed once, without topics; those
    not followed are passed over.
    """
    subscribe: Callable[[Sequence[str], Sequence[str], int], list[Subscription]]
    """(symbols, channels, first request id) -> connections to make. Raises KeyError for a
    channel that is not in `streams`.
    """
    unsubscribe: Callable[[Sequence[Topic], int], bytes] | None = None
    """(topics, request id) -> frame; None: the venue has none."""
    requested: Callable[[str, bytes], list[Topic]]
    """(URL, frame that a client sends; empty for the connect itself) -> topics it asks for,
    qualified: the inverse of `subscribe`. Live, the venue's list of accepted topics
    (`Ack.accepted`) is compared with these, and what is missing there is reported; in a
    recording they say what was subscribed. [] for any other frame. Never raises.
    """
    control: Callable[[bytes], Control | None]
    """What a frame without a shape is; None = not understood. Never raises."""
    peek: Callable[[bytes], Topic | None]
    """What a frame is about, found by its keys without reading the rest; the symbol as it stands
    there, without market. Decisions hang on it: a frame of a book channel that was not
    understood gives up the live books that it names (venues without sequence numbers), and a
    frame of a market-wide channel about an instrument not followed is passed over instead of
    quarantined. Recordings are surveyed by it too. None where the frame names no channel and
    symbol. Never raises.
    """
    market: Callable[[str, bytes], str] | None = None
    """(URL of the connection or "", frame) -> market whose symbols the frame names, where one
    native symbol may be an instrument in several; None: symbols are unambiguous. Everything else
    here takes and gives symbols qualified by their market.
    """
    reframe: Callable[[bytes], bytes | None] | None = None
    """Frame that is neither of a shape nor control -> the same message as an object with a shape
    (arrays at the top level), or None, which it is for objects. Never raises.
    """
    written_exponents: Callable[[bytes], tuple[int, int]] | None = None
    """Frame of a shape -> (price_exp, qty_exp) that its numbers are written with, zeros at the
    end included: for a venue whose checksum is over the digits as written. Asked only where
    provisional exponents do not fit.
    """
    keepalive: Keepalive | None = None
    silence_s: float
    """The venue closes, or promises traffic, after this long; nothing at all for longer means
    that the connection is dead.
    """
    silence_allowed: Callable[[int], bool] = _never
    """UTC ns -> whether no data need come then (outside trading hours)."""
    connection_number: Callable[[bytes], int | None] | None = None
    """The number of a frame, None where it has none, of a venue that counts all messages of a
    connection together, by one.
    """
    trade_id_is_volume: bool = False
    """Trade ids are the day's volume with the trade: the next id is this one plus the next
    quantity (`feeder.session.volume`).
    """
    replays_last_trade: bool = False
    """The first trade message after a subscription is the last old trade."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingSpec:
    """The venue's list of instruments, and what holds while it is not known."""

    requests: Callable[[], list[RestRequest]]
    parse: Callable[[bytes], Instruments]
    """Raises InstrumentsError."""
    next_page: Callable[[RestRequest, bytes], RestRequest | None] | None = None
    """(request, body) -> the request that continues a list given in pages; None: there is no
    more.
    """
    volumes: Volumes | None = None
    """None: there is no evidence of such an endpoint, so `top` cannot be configured."""
    symbols_of_pair: Callable[[str, str], tuple[str, ...]]
    """(base, quote) -> symbols that pair would have here, dated contracts left out; whether they
    exist, definitions tell.
    """
    default_price_exp: int
    default_qty_exp: int
    """Provisional exponents while no definition is known: coarse enough for the largest values
    seen on the venue, because a finer value lowers them (status INEXACT), while one too large
    for them is lost.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSpec:
    """How the HTTP and the cut lines of a recording are recognised; live, nothing asks these."""

    hosts: tuple[str, ...]
    """Hosts of the URLs in this venue's recordings, earlier ones of the same dialect too."""
    prefixes: tuple[str, ...] = ()
    """Beginnings of file names that mean this venue, besides its own name and `_`."""
    is_listing: Callable[[str], bool]
    """URL -> whether its body may be a list of instruments."""
    snapshot_symbol: Callable[[str], str | None] = _no_symbol
    """URL -> symbol whose book its body is."""
    reduced: Callable[[str, bytes], bytes | None] | None = None
    """(connection, text) -> frame of a shape for a recorded line that its recorder cut (kind
    `reduced`); None: it is not read.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueSpec:
    """Everything the feeder needs to know about a venue, as data and pure functions."""

    name: str
    venue_id: int
    kind_of: Callable[[str], InstrumentKind | None]
    """Qualified symbol -> kind. None: not a symbol of this venue, its messages are quarantined."""
    endpoints: tuple[str, ...]
    """Keys that `[venue.endpoints]` must have: the routes and the REST base."""
    stream: StreamSpec
    rule: BookRule
    listing: ListingSpec
    recordings: RecordingSpec
    login: Login | None = None
    """None: the venue's public data need no key."""
    notices: Callable[[int], tuple[str, ...]] = _no_notices
    """UTC ns -> what an operator reads when the feed of this venue starts."""
