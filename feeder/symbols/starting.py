"""What a feeder subscribes at its start: the configured universe, resolved against what the
venue lists now.

The venue's answers come first, then the definitions and volumes of the last refresh; a venue
that gives neither leaves the configured names. What was left out is logged with its reason. The
rules are `feeder.symbols.universe`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from tapecast.feeder.symbols import cache as symbol_cache
from tapecast.feeder.symbols.listing import fetch_volumes
from tapecast.feeder.symbols.universe import Universe, needs_listing, resolve, without_listing
from tapecast.feeder.venues.spec import InstrumentDef, VenueSpec
from tapecast.runtime import logs
from tapecast.runtime.net.rest import RestClient
from tapecast.runtime.settings import Config

__all__ = ["starting_symbols"]

_LISTING_WAIT_S = 8.0
"""Patterns mean nothing without definitions: where no list came at first, so long for a second
try, then the names alone.
"""
_VOLUME_WAIT_S = 60.0
"""Where the venue is banning or silent, its REST client may wait for longer."""
_VOLUME_PAUSES_S = (0.0, 1.0, 5.0)

log = logs.get("feeder.symbols")


async def starting_symbols(
    spec: VenueSpec,
    config: Config,
    known: Mapping[str, InstrumentDef],
    rest: RestClient,
    stop: asyncio.Event,
    *,
    whole: bool,
    replay: bool,
) -> tuple[str, ...]:
    """Return the keys to subscribe, most wanted first.

    `known` are the definitions learned so far, and may grow while this waits; `whole`: no list
    is to come. A replay takes the configured names as they are: a recording holds instruments
    that exist no more. Nothing is taken once `stop` is set.
    """
    if replay:
        return _limited(spec, config, known, without_listing(spec, config.venues[spec.name]))
    work = asyncio.ensure_future(_starting_symbols(spec, config, known, rest, whole=whole))
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if work.done():
        return work.result()
    work.cancel()
    return ()


async def _starting_symbols(
    spec: VenueSpec,
    config: Config,
    known: Mapping[str, InstrumentDef],
    rest: RestClient,
    *,
    whole: bool,
) -> tuple[str, ...]:
    venue = config.venues[spec.name]
    if needs_listing(venue) and not known and not whole:
        await _wait_for(known)
    cached, why = symbol_cache.load(Path(config.feeder.state_dir), spec.name)
    definitions = dict(known)
    if not whole and cached is not None:
        log.warning(
            "definitions_from_cache",
            venue=spec.name,
            age_s=_age_s(cached.fetched_ns),
        )
        definitions = cached.by_key() | definitions
    if not definitions:
        level = logging.ERROR if needs_listing(venue) else logging.WARNING
        log.log(level, "definitions_missing", venue=spec.name, cache=why)
        return _limited(spec, config, known, without_listing(spec, venue))
    volumes, failed = await _volumes(spec, rest) if venue.top else ({}, ())
    if whole:
        kept = symbol_cache.renewed(
            cached, spec.name, definitions.values(), volumes, time.time_ns()
        )
        await _keep(kept, Path(config.feeder.state_dir))
    if failed:
        age_s = None if cached is None else _age_s(cached.volumes_ns)
        log.error("volumes_failed", venue=spec.name, failed=failed, age_s=age_s)
        volumes = ({} if cached is None else cached.volumes) | volumes
    return _limited(
        spec,
        config,
        definitions,
        resolve(spec, venue, definitions, volumes, time.time_ns(), whole=whole),
    )


def _limited(
    spec: VenueSpec, config: Config, known: Mapping[str, InstrumentDef], universe: Universe
) -> tuple[str, ...]:
    for symbol, reason in universe.left_out:
        log.warning("symbol_left_out", venue=spec.name, symbol=symbol, reason=reason)
    keys = config.limited(
        universe.keys, lambda key: known[key].kind if key in known else spec.kind_of(key)
    )
    kinds = Counter(
        (known[key].kind if key in known else spec.kind_of(key) or "unknown") for key in keys
    )
    by_kind = {getattr(kind, "name", str(kind)).lower(): count for kind, count in kinds.items()}
    log.info(
        "universe_resolved",
        venue=spec.name,
        symbols=len(keys),
        limited=config.feeder.limited_mode,
        **by_kind,
    )
    return keys


async def _wait_for(known: Mapping[str, InstrumentDef]) -> None:
    until = time.monotonic() + _LISTING_WAIT_S
    while not known and time.monotonic() < until:  # noqa: ASYNC110 - nobody tells that it changed
        await asyncio.sleep(0.25)


async def _volumes(spec: VenueSpec, rest: RestClient) -> tuple[dict[str, Decimal], tuple[str, ...]]:
    """Return the volumes of now, and what the venue did not give in time."""
    volumes: dict[str, Decimal] = {}
    failed: tuple[str, ...] = (f"no answer within {_VOLUME_WAIT_S:.0f} s",)
    try:
        async with asyncio.timeout(_VOLUME_WAIT_S):
            for pause_s in _VOLUME_PAUSES_S:
                await asyncio.sleep(pause_s)
                volumes, failed = await fetch_volumes(rest, spec)
                if not failed:
                    break
    except TimeoutError:
        pass
    return volumes, failed


async def _keep(listed: symbol_cache.Cached, state_dir: Path) -> None:
    try:
        await asyncio.to_thread(symbol_cache.save, state_dir, listed)
    except OSError as error:
        log.warning("definitions_not_kept", venue=listed.venue, error=str(error))


def _age_s(since_ns: int) -> float:
    return round((time.time_ns() - since_ns) / 1e9, 1)
