"""The keys of the channels: where they come from, and when there must be some (wire format,
section on authentication).

`TAPECAST_KEY_<VENUE>` is the key a venue's packets are sealed with and checked under, 64
hexadecimal digits; `TAPECAST_KEY_<VENUE>_ALSO` is accepted beside it while keys are being
changed (docs/network.md tells how). Where they are found, also as systemd credentials
(`key_<venue>`), is `runtime.secrets`' matter; no message shows one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

from tapecast.protocol.codec import KEY_SIZE
from tapecast.protocol.net.sequencing import BatchSequencer
from tapecast.protocol.schema import TAG_SIZE, VENUES
from tapecast.runtime.channels import channel_of
from tapecast.runtime.errors import ConfigError
from tapecast.runtime.secrets import describe, find, variable
from tapecast.runtime.settings import Network

__all__ = [
    "Admission",
    "channel_keys",
    "is_authenticated",
    "key_names",
    "packet_room",
    "sending_key",
]


class Admission:
    """Whose packets a receiver takes: those under a channel's keys, where there are keys, from
    hosts that may send.

    Without keys each line keeps to the sender it was first heard from. With keys it does not: a
    tag says more than an address, and whoever plays an old packet back must not be taken for the
    publisher.
    """

    def __init__(
        self,
        venues: Iterable[str] | None,
        network: Network,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Find the keys of some venues, None = of those that there are keys for. Raises
        ConfigError as `channel_keys` does.
        """
        self.keys = channel_keys(venues, network, environ)
        """By channel id; none = packets carry no tags."""
        self._sources = network.sources

    def sequencer(self, **sizes: int) -> BatchSequencer:
        """Return a sequencer that takes these packets only; `sizes` as for `BatchSequencer`."""
        return BatchSequencer(
            **sizes, keys=self.keys, sources=self._sources, learn_sources=not self.keys
        )


def is_authenticated(network: Network) -> bool:
    """Whether packets carry tags: where it is on, and with `auto` on every interface but
    loopback.
    """
    if network.authentication == "auto":
        return not IPv4Address(network.interface).is_loopback
    return network.authentication == "on"


def packet_room(network: Network) -> int:
    """Return how long a packet may be before its tag is added."""
    return network.max_payload - (TAG_SIZE if is_authenticated(network) else 0)


def key_names(venue: str) -> tuple[str, str]:
    """Return the name of a venue's key, and of the one accepted beside it (`runtime.secrets`)."""
    name = f"KEY_{venue.upper()}"
    return name, f"{name}_ALSO"


def sending_key(
    venue: str, network: Network, environ: Mapping[str, str] | None = None
) -> bytes | None:
    """Return the key to seal a venue's packets with; None where packets carry no tags. Raises
    ConfigError where it is missing.
    """
    keys = channel_keys((venue,), network, environ)
    return next(iter(keys.values()))[0] if keys else None


def channel_keys(
    venues: Iterable[str] | None, network: Network, environ: Mapping[str, str] | None = None
) -> dict[int, tuple[bytes, ...]]:
    """Return the keys of the venues' channels by channel id, the one to seal with first; none
    where packets carry no tags.

    The channels of a venue's two feeders have the same keys: which channel a packet belongs to
    is under its tag.

    `venues` None means those that there are keys for. Raises ConfigError naming every variable
    that is missing or wrong.
    """
    if not is_authenticated(network):
        return {}
    found: dict[int, tuple[bytes, ...]] = {}
    problems: list[str] = []
    for venue in VENUES if venues is None else venues:
        texts = [(name, _secret(name, environ, problems)) for name in key_names(venue)]
        keys = [_parsed(name, text, problems) for name, text in texts if text is not None]
        if texts[0][1] is not None:
            found.update({channel_of(venue, replica): tuple(keys) for replica in (0, 1)})
        elif venues is not None or keys:
            problems.append(f"${variable(texts[0][0])} is not set: {_why(network)}")
    if not found and not problems:
        problems.append(f"no $TAPECAST_KEY_<VENUE> is set: {_why(network)}")
    if problems:
        raise ConfigError(problems)
    return found


def _why(network: Network) -> str:
    if network.authentication == "on":
        return "network.authentication is on (docs/network.md)"
    return (
        f"network.interface {network.interface} is not loopback, so packets need a key; "
        "network.authentication = off does without (docs/network.md)"
    )


def _secret(name: str, environ: Mapping[str, str] | None, problems: list[str]) -> str | None:
    try:
        secret = find(name, environ)
    except OSError as error:
        problems.append(f"{describe(name)}: cannot be read: {type(error).__name__}")
        return None
    return None if secret is None else secret.reveal()


def _parsed(name: str, text: str, problems: list[str]) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        problems.append(
            f"${variable(name)}: not hexadecimal: a key has {2 * KEY_SIZE} hexadecimal digits"
        )
        return b""
    if len(key) != KEY_SIZE:
        problems.append(
            f"${variable(name)}: {2 * len(key)} hexadecimal digits: a key has {2 * KEY_SIZE}"
        )
    return key
