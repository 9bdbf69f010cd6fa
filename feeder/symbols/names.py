"""What an instrument of a venue is called: its canonical name, and every text that means it. The
rules are `protocol.naming`.
"""

from __future__ import annotations

from tapecast.feeder.venues.spec import InstrumentDef, VenueSpec
from tapecast.protocol.decimals import format_decimal
from tapecast.protocol.naming import canonical_name, meanings

__all__ = ["canonical", "texts_of"]


def canonical(defn: InstrumentDef) -> str | None:
    """Return the name that the same product has on every venue; None where the definition says
    too little for one.
    """
    return canonical_name(
        defn.kind,
        defn.base,
        defn.quote,
        settle=defn.settle,
        expiry_ns=defn.expiry_ns,
        strike="" if defn.strike is None else format_decimal(*defn.strike),
        option_type=defn.option_type,
    )


def texts_of(spec: VenueSpec, definition: InstrumentDef) -> tuple[str, ...]:
    """Return every text that means an instrument of this venue, in capitals: also its key and
    the venue's aliases.
    """
    texts = meanings(
        spec.name, definition.kind.name.lower(), definition.symbol, canonical(definition)
    )
    return tuple(
        dict.fromkeys(
            (definition.key.upper(), *texts, *(alias.upper() for alias in definition.aliases))
        )
    )
