"""Reads a list of instruments entry by entry, so that one that is not understood costs only itself.

The form of a body and of an entry is the venue's; how many entries were left out, and why, is
said in `Instruments.rejected`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from tapecast.feeder.venues.spec import InstrumentDef, Instruments, InstrumentsError

__all__ = ["decoded", "listing"]

T = TypeVar("T")
_SHOWN = 60
"""So many bytes of an entry that was not understood are quoted."""


def decoded(what: str, body: bytes, kind: type[T]) -> T:
    """Return a body as its struct. Raises InstrumentsError, which begins with `what`, where it
    is something else.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InstrumentsError(f"{what}: {error}") from None


def listing(
    entries: Iterable[msgspec.Raw], kind: type[T], read: Callable[[T], InstrumentDef | None]
) -> Instruments:
    """Return the definitions of a list. `read` makes one of an entry, or None for an entry that
    is no instrument of this venue and no fault; what it raises as InstrumentsError, and an entry
    of another form, is rejected with the beginning of the entry.
    """
    defs: list[InstrumentDef] = []
    rejected: list[str] = []
    for raw in entries:
        try:
            definition = read(msgspec.json.decode(raw, type=kind))
        except (msgspec.DecodeError, InstrumentsError) as error:
            rejected.append(f"{bytes(raw)[:_SHOWN]!r}: {error}")
        else:
            if definition is not None:
                defs.append(definition)
    return Instruments(tuple(defs), tuple(rejected))
