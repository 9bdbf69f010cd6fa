"""The keys of the channels: where they come from, and when there must be some (wire format,
section on authentication).

`TAPECAST_KEY_<NAME>` is the key that the packets of a venue or service are sealed with and checked
under, 64 hexadecimal digits; `TAPECAST_KEY_<NAME>_ALSO` is accepted beside it while keys are being
changed (docs/network.md has the steps). Where they are found, also as systemd credentials
(`key_<name>`), is `runtime.secrets`' matter; no message shows one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

from tapecast.protocol.codec import KEY_SIZE
from tapecast.protocol.net.sequencing import BatchSequencer
from tapecast.protocol.schema import TAG_SIZE, VENUES
from tapecast.runtime.channels import REPLICAS, channel_of
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

    Without keys each line keeps to the sender whose packet came first. With keys it does not: a
    tag proves more than an address, and whoever plays an old packet back must not be taken for
    the publisher.
    """

    def __init__(
        self,
        names: Iterable[str] | None,
        network: Network,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Find the keys of some venues and services, None = of the venues that there are keys
        for. Raises ConfigError as `channel_keys` does.
        """
        self.keys = channel_keys(names, network, environ)
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


def key_names(name: str) -> tuple[str, str]:
    """Return how the key of a venue or service is called, and the one accepted beside it
    (`runtime.secrets`).
    """
    key = f"KEY_{name.upper()}"
    return key, f"{key}_ALSO"


def sending_key(
    name: str, network: Network, environ: Mapping[str, str] | None = None
) -> bytes | None:
    """Return the key to seal the packets of a venue or service with; None where packets carry no
    tags. Raises ConfigError where it is missing.
    """
    keys = channel_keys((name,), network, environ)
    return next(iter(keys.values()))[0] if keys else None


def channel_keys(
    names: Iterable[str] | None, network: Network, environ: Mapping[str, str] | None = None
) -> dict[int, tuple[bytes, ...]]:
    """Return the keys of the channels of venues and services by channel id, the one to seal with
    first; none where packets carry no tags.

    All channels of one name have the same keys: which channel a packet belongs to is under its
    tag.

    `names` None means the venues that there are keys for. Raises ConfigError naming every variable
    that is missing or wrong, UnknownChannelError naming what is not registered.
    """
    if not is_authenticated(network):
        return {}
    found: dict[int, tuple[bytes, ...]] = {}
    problems: list[str] = []
    for name in VENUES if names is None else names:
        texts = [(key, _secret(key, environ, problems)) for key in key_names(name)]
        keys = [_parsed(key, text, problems) for key, text in texts if text is not None]
        if texts[0][1] is not None:
            found.update({channel_id: tuple(keys) for channel_id in _channels(name)})
        elif names is not None or keys:
            problems.append(f"${variable(texts[0][0])} is not set: {_why(network)}")
    if not found and not problems:
        problems.append(f"no $TAPECAST_KEY_<VENUE> is set: {_why(network)}")
    if problems:
        raise ConfigError(problems)
    return found


def _channels(name: str) -> set[int]:
    return {
        channel_of(name, replica, stock=stock) for replica in REPLICAS for stock in (False, True)
    }


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
