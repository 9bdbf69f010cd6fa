"""Tags of packets: sealing what a publisher sends, and the keys under which a receiver checks
it.

The rule is section 10 of the wire specification, its plain form `protocol.codec.auth_tag`, the
routine `protocol/native/auth.c`. Where keys come from is `runtime.keys`; nothing here prints
one; what is kept is the state of the hash after it, just as secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from tapecast.protocol._native import ffi, lib
from tapecast.protocol.codec import KEY_SIZE, Buffer
from tapecast.protocol.schema import HEADER_SIZE, TAG_SIZE
from tapecast.protocol.stamping import StampError, reason_of

__all__ = ["MAX_KEYS", "Keys", "Sealer", "key_table"]

Keys: TypeAlias = Mapping[int, Sequence[bytes]]
"""Channel id -> the keys whose tags are accepted."""

MAX_KEYS = 2
"""Keys of one channel: the one in use, and another while they are being changed."""


class Sealer:
    """Adds AUTH and the tag under one channel's key to finished packets."""

    def __init__(self, key: bytes) -> None:
        """Prepare for a key of 32 bytes; ValueError for another length."""
        self._c = ffi.new("tc_sealer *")
        _take_key(self._c.key, key)
        self.out = memoryview(b"")
        """What was sealed last, from its beginning."""

    def reserve(self, nbytes: int) -> None:
        """Make room for the sealed form of packets that have `nbytes`."""
        most = nbytes + (nbytes // HEADER_SIZE + 1) * TAG_SIZE
        if most > len(self.out):
            self.out = np.zeros(2 * most, np.uint8).data
            self._c.out, self._c.capacity = ffi.from_buffer("uint8_t[]", self.out), len(self.out)

    def seal(self, packets: Buffer) -> bytes:
        """Return contiguous packets with their tags; StampError where one has a tag or no room
        for it.
        """
        self.reserve(len(packets))
        data = ffi.from_buffer("uint8_t[]", packets)
        size = int(lib.tc_seal_size(self._c, data, len(packets)))
        if size < 0:
            raise StampError(reason_of(size), int(self._c.error_offset))
        lib.tc_seal(self._c, data, len(packets))
        return bytes(self.out[:size])


def key_table(keys: Keys) -> object:
    """Return the C form of the keys, a `tc_channel_keys` array; ValueError for a wrong number or
    length of keys.
    """
    table = ffi.new("tc_channel_keys[]", len(keys))
    for entry, (channel_id, accepted) in zip(table, keys.items(), strict=True):
        if not 1 <= len(accepted) <= MAX_KEYS:
            raise ValueError(f"channel {channel_id} has {len(accepted)} keys: 1 to {MAX_KEYS}")
        entry.channel_id, entry.n_keys = channel_id, len(accepted)
        for place, key in zip(entry.keys, accepted, strict=False):
            _take_key(place, key)
    return table


def _take_key(place: object, key: bytes) -> None:
    if len(key) != KEY_SIZE:
        raise ValueError(f"a channel key has {KEY_SIZE} bytes, not {len(key)}")
    lib.tc_blake2b_key(place, key)
