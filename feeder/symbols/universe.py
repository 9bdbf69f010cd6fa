"""Which instruments of a venue a feeder takes: names, patterns, excludes and the most traded,
against the venue's definitions.

The configuration (`symbols`, `exclude`, `top` of a venue) and the definitions come in, keys go
out, in the order of how much they are wanted; what was left out comes with its reason. No I/O,
no clock. The rules are told to users in `docs/symbols.md`.
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import NamedTuple

from tapecast.feeder.symbols.names import texts_of
from tapecast.feeder.venues.spec import InstrumentDef, VenueSpec
from tapecast.protocol.naming import has_wildcard
from tapecast.protocol.schema import InstrumentState
from tapecast.runtime.errors import ConfigError
from tapecast.runtime.settings import Venue

__all__ = [
    "LeftOut",
    "Universe",
    "check_universe",
    "expired",
    "needs_listing",
    "resolve",
    "without_listing",
]

_TAKEN = frozenset({InstrumentState.TRADING, InstrumentState.UNKNOWN})
"""What a pattern takes. A name takes anything that still exists, because someone asked for it.
"""


class LeftOut(NamedTuple):
    """A configured name or pattern that came to nothing, or an instrument that was dropped, and
    why.
    """

    symbol: str
    reason: str


class Universe(NamedTuple):
    """The keys to take, most wanted first."""

    keys: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()


def check_universe(spec: VenueSpec, venue: Venue, *, replay: bool = False) -> None:
    """Raise ConfigError where the configuration asks for what the venue gives no evidence of.

    `replay`: of a recording, which may have channels that the venue has retired since.
    """
    served = [name for name, stream in spec.stream.streams.items() if replay or not stream.retired]
    problems = [
        f"venues.{spec.name}.channels: "
        + (
            f"{spec.name} no longer serves {channel!r}"
            if channel in spec.stream.streams
            else f"{channel!r} is not known"
        )
        + f"; known: {', '.join(served)}"
        for channel in venue.channels
        if channel not in served
    ]
    if problems:
        raise ConfigError(problems)
    if venue.top and spec.listing.volumes is None:
        why = (
            f"{spec.name} has no known endpoint of 24 h volumes; use patterns without top, or names"
        )
        raise ConfigError([f"venues.{spec.name}.top = {venue.top}: {why}"])


def needs_listing(venue: Venue) -> bool:
    """Return whether the configuration means nothing without the venue's definitions."""
    return any(map(has_wildcard, venue.symbols))


def expired(definition: InstrumentDef, now_ns: int) -> str:
    """Return why an instrument is no longer traded; "" where it may be."""
    if definition.state is InstrumentState.DELISTED:
        return "delisted"
    return "expired" if 0 < definition.expiry_ns <= now_ns else ""


def without_listing(spec: VenueSpec, venue: Venue) -> Universe:
    """Return what can be told from the configuration alone: names, as the venue writes them or
    as `BASE-QUOTE`.
    """
    keys: list[str] = []
    left_out: list[LeftOut] = []
    for text in venue.symbols:
        if has_wildcard(text):
            left_out.append(LeftOut(text, "a pattern, and no definitions are known"))
            continue
        base, _, quote = text.partition("-")
        known = (
            [text]
            if spec.kind_of(text) is not None
            else [key for key in spec.listing.symbols_of_pair(base, quote) if base and quote]
        )
        keys += [key for key in known if spec.kind_of(key) is not None]
        if not known:
            left_out.append(LeftOut(text, f"not a symbol of {spec.name}"))
    return Universe(tuple(dict.fromkeys(keys)), tuple(left_out))


def resolve(
    spec: VenueSpec,
    venue: Venue,
    known: Mapping[str, InstrumentDef],
    volumes: Mapping[str, Decimal],
    now_ns: int,
    *,
    whole: bool,
) -> Universe:
    """Return the universe of a venue.

    Names come first, in their order; then what the patterns match, the most traded first where
    `top` is set, else by name. `whole`: every list of the venue is in `known`, so that a name
    that is missing there does not exist.
    """
    names = _Names(spec, known)
    excluded = _matcher(venue.exclude)
    keys: dict[str, None] = {}
    left_out: list[LeftOut] = []
    for text in venue.symbols:
        if has_wildcard(text):
            continue
        found, reason = names.find(text, whole=whole)
        if reason:
            left_out.append(LeftOut(text, reason))
        for key in found:
            definition = known.get(key)
            if definition is not None and (reason := expired(definition, now_ns)):
                left_out.append(LeftOut(key, reason))
            elif not excluded(names.texts.get(key, (key.upper(),))):
                keys[key] = None
    matched: dict[str, InstrumentDef] = {}
    for pattern in filter(has_wildcard, venue.symbols):
        matches = _matcher([pattern])
        hits = {key: known[key] for key, texts in names.texts.items() if matches(texts)}
        if not hits:
            left_out.append(LeftOut(pattern, "the pattern matches nothing"))
        matched |= hits
    wanted = [
        (key, definition)
        for key, definition in sorted(matched.items())
        if definition.state in _TAKEN
        and not expired(definition, now_ns)
        and not excluded(names.texts[key])
    ]
    if venue.top:
        ranked = list(_most_traded(wanted, volumes, venue.top))
        if wanted and not ranked:
            left_out.append(
                LeftOut(f"top {venue.top}", "no volume of what the patterns match is known")
            )
        keys.update(dict.fromkeys(ranked))
    else:
        keys.update((key, None) for key, _ in wanted)
    return Universe(tuple(keys), tuple(left_out))


def _most_traded(
    wanted: Iterable[tuple[str, InstrumentDef]], volumes: Mapping[str, Decimal], top: int
) -> Iterator[str]:
    """Yield the first `top` of each kind and quote currency by turnover: turnovers in two
    currencies do not compare.

    What the venue gives no volume of is not guessed to have traded.
    """
    measured = [
        (volume, key, definition)
        for key, definition in wanted
        if (volume := _volume(definition, volumes)) is not None
    ]
    taken: Counter[tuple[int, str]] = Counter()
    for _, key, definition in sorted(measured, key=lambda item: (-item[0], item[1])):
        group = (definition.kind, definition.quote)
        taken[group] += 1
        if taken[group] <= top:
            yield key


def _volume(definition: InstrumentDef, volumes: Mapping[str, Decimal]) -> Decimal | None:
    found = (volumes[name] for name in (definition.key, *definition.aliases) if name in volumes)
    return next((volume for volume in found if volume.is_finite()), None)


class _Names:
    """The definitions of a venue by every text that means one of them."""

    def __init__(self, spec: VenueSpec, known: Mapping[str, InstrumentDef]) -> None:
        self._spec = spec
        self._known = known
        self.texts = {key: texts_of(spec, definition) for key, definition in known.items()}
        self._by_text: dict[str, list[str]] = {}
        for key, texts in self.texts.items():
            for text in texts:
                self._by_text.setdefault(text, []).append(key)

    def find(self, text: str, *, whole: bool) -> tuple[list[str], str]:
        """Return the keys that a configured name means, and why there are none. The venue's own
        name goes before all others.
        """
        if text in self._known:
            return [text], ""
        if found := self._by_text.get(text.upper()):
            return found, ""
        kind = self._spec.kind_of(text)
        if kind is not None and not (
            whole and any(definition.kind is kind for definition in self._known.values())
        ):
            return [text], ""  # of a list that was not asked for, or has not come
        near = get_close_matches(text.upper(), self._by_text, 1, 0.6)
        hint = f"; nearest: {self._by_text[near[0]][0]}" if near else ""
        return [], f"not listed by {self._spec.name}{hint}"


def _matcher(patterns: Iterable[str]) -> Callable[[Sequence[str]], bool]:
    """Return whether one of an instrument's texts is matched by one of some patterns or names;
    capitals do not matter.
    """
    expressions = [re.compile(fnmatch.translate(pattern.upper())) for pattern in patterns]
    return lambda texts: any(expression.match(text) for expression in expressions for text in texts)
