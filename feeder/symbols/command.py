"""`tapecast symbols list|resolve|refresh`: what the venues list, what a name means there, and
fetching it anew.

`list` and `resolve` read the definitions of the last refresh (`feeder.symbols.cache`) and use no
network; `refresh` asks the venues. stdout is data, one instrument a line (with `--json` one
object a line); ages and failures go to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

import orjson

from tapecast.feeder.symbols import cache as symbol_cache
from tapecast.feeder.symbols.listing import fetch_listing, fetch_volumes
from tapecast.feeder.symbols.names import canonical, texts_of
from tapecast.feeder.symbols.universe import LeftOut, check_universe, resolve
from tapecast.feeder.venues import VENUES, venue
from tapecast.feeder.venues.spec import Exact, InstrumentDef, VenueSpec
from tapecast.protocol.codec import instrument_id
from tapecast.protocol.decimals import format_decimal
from tapecast.protocol.schema import InstrumentKind, OptionType
from tapecast.runtime import config as configuration
from tapecast.runtime.errors import ConfigError, ExitCode, TapecastError
from tapecast.runtime.net.limiter import HostLimiter
from tapecast.runtime.net.rest import RestClient
from tapecast.runtime.settings import Config

__all__ = ["add_arguments", "run"]

_KINDS = tuple(kind.name.lower() for kind in InstrumentKind)
_COLUMNS = ("INSTRUMENT", "CANONICAL", "STATE", "TICK", "LOT", "MULTIPLIER", "EXPIRY", "ID")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the three actions."""
    parser.add_argument("action", choices=("list", "resolve", "refresh"), help="what to do")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="VENUE|TEXT",
        help="list, refresh: venues (default: all); resolve: names",
    )
    parser.add_argument(
        "--kind", choices=_KINDS, help="list, resolve: only instruments of this kind"
    )
    parser.add_argument(
        "--selected",
        action="store_true",
        help="list: only what a feeder would take, by the configuration",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """Do it; exit 75 where a venue could not be asked, 1 where there is nothing to tell."""
    config = configuration.load(args.overlay)
    if args.action == "resolve":
        if not args.words:
            raise ConfigError(["symbols resolve: name at least one symbol, such as BTC-USDT"])
        return _resolve(args, config)
    known = [name for name in VENUES if name in config.venues]
    unknown = [name for name in args.words if name not in known]
    if unknown:
        raise ConfigError([_unknown_venue(name, known) for name in unknown])
    names = list(dict.fromkeys(args.words)) or known
    if args.action == "refresh":
        return asyncio.run(_refresh(names, config, as_json=args.json))
    return _list(names, args, config)


def _unknown_venue(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, 1, 0.5)
    return f"venue {name!r} is not known; " + (
        f"nearest: {near[0]}" if near else f"known: {', '.join(known)}"
    )


# list


def _list(names: Sequence[str], args: argparse.Namespace, config: Config) -> int:
    rows: list[tuple[VenueSpec, InstrumentDef]] = []
    for spec, cached in _cached(names, config):
        defs = cached.by_key()
        keys: Iterable[str] = sorted(defs)
        if args.selected:
            keys = _selected(spec, cached, config)
        rows += [
            (spec, defs[key]) for key in keys if args.kind in (None, defs[key].kind.name.lower())
        ]
    _print(rows, as_json=args.json)
    return ExitCode.OK


def _selected(spec: VenueSpec, cached: symbol_cache.Cached, config: Config) -> list[str]:
    """Return what a feeder of this venue would take if the venue listed now what it did at the
    last refresh.
    """
    defs, settings = cached.by_key(), config.venues[spec.name]
    check_universe(spec, settings)
    universe = resolve(spec, settings, defs, cached.volumes, time.time_ns(), whole=True)
    unlisted = [
        LeftOut(key, "taken, but no definition of its kind is listed")
        for key in universe.keys
        if key not in defs
    ]
    for symbol, reason in (*universe.left_out, *unlisted):
        _narrate(f"{spec.name}: {symbol}: {reason}")
    return list(
        config.limited([key for key in universe.keys if key in defs], lambda key: defs[key].kind)
    )


def _cached(
    names: Iterable[str], config: Config
) -> Iterator[tuple[VenueSpec, symbol_cache.Cached]]:
    """Yield what is kept of each venue and tell its age; raise TapecastError where nothing at
    all is kept.
    """
    state_dir = Path(config.feeder.state_dir)
    found, absent = False, []
    for name in names:
        cached, why = symbol_cache.load(state_dir, name)
        if cached is None:
            absent.append(name)
            if symbol_cache.path_of(state_dir, name).exists():
                _narrate(f"{name}: {why}")
            continue
        found = True
        _narrate(f"{name}: {len(cached.defs)} instruments, refreshed {_age(cached.fetched_ns)} ago")
        yield venue(name), cached
    if not found:
        raise TapecastError(
            f"no definitions in {state_dir / 'symbols'}: run `tapecast symbols refresh`"
        )
    if absent:
        _narrate(
            f"no definitions of {', '.join(absent)}: run `tapecast symbols refresh"
            f" {' '.join(absent)}`"
        )


# resolve


def _resolve(args: argparse.Namespace, config: Config) -> int:
    by_text: dict[str, list[tuple[VenueSpec, InstrumentDef]]] = {}
    shown: dict[str, str] = {}
    for spec, cached in _cached([name for name in VENUES if name in config.venues], config):
        for definition in cached.defs:
            if args.kind in (None, definition.kind.name.lower()):
                for text in texts_of(spec, definition):
                    by_text.setdefault(text, []).append((spec, definition))
                shown.setdefault(definition.symbol.upper(), definition.symbol)
                if (name := canonical(definition)) is not None:
                    shown.setdefault(name.upper(), name)
    missing = [text for text in args.words if text.upper() not in by_text]
    rows = [row for text in args.words for row in by_text.get(text.upper(), ())]
    _print(rows, as_json=args.json)
    for text in missing:
        near = get_close_matches(text.upper(), shown, 3, 0.5)
        _narrate(
            f"{text}: no instrument; nearest:"
            f" {', '.join(shown[name] for name in near) or 'nothing alike'}"
        )
    return ExitCode.RUNTIME if missing else ExitCode.OK


# refresh


async def _refresh(names: Sequence[str], config: Config, *, as_json: bool) -> int:
    done = await asyncio.gather(*(_refresh_one(venue(name), config) for name in names))
    if as_json:
        sys.stdout.buffer.write(b"".join(orjson.dumps(row) + b"\n" for row in done))
        sys.stdout.buffer.flush()
    return ExitCode.OK if all(row["refreshed"] for row in done) else ExitCode.TRY_AGAIN


async def _refresh_one(spec: VenueSpec, config: Config) -> dict[str, object]:
    state_dir, settings = Path(config.feeder.state_dir), config.venues[spec.name]
    limiter = HostLimiter.of(state_dir, spec.name, settings.limits)
    rest = RestClient(
        settings.endpoints,
        weight=settings.limits.get("rest_weight", 60),
        window_s=settings.limits.get("rest_window_s", 60),
        timeout_s=config.feeder.snapshot_deadline_s,
        limiter=limiter,
    )
    try:
        listing = await fetch_listing(rest, spec)
        volumes, unmeasured = ({}, ()) if listing.failed else await fetch_volumes(rest, spec)
    finally:
        await rest.close()
        limiter.close()
    row: dict[str, object] = {
        "venue": spec.name,
        "refreshed": False,
        "instruments": len(listing.defs),
    }
    row |= {"volumes": len(volumes), "rejected": len(listing.rejected)}
    for reason in dict.fromkeys(listing.refused):
        _narrate(f"{spec.name}: list left out: {reason}")
    for reason in dict.fromkeys(unmeasured):
        _narrate(f"{spec.name}: volumes left out: {reason}")
    for reason in listing.rejected[:5]:
        _narrate(f"{spec.name}: not understood: {reason}")
    if listing.failed or not listing.defs:
        cached, why = symbol_cache.load(state_dir, spec.name)
        kept = (
            f"the definitions of {_age(cached.fetched_ns)} ago stay"
            if cached is not None
            else f"there are no older ones ({why})"
        )
        failed = "; ".join(dict.fromkeys(listing.failed)) or "the venue lists nothing"
        _narrate(f"{spec.name}: not refreshed, {kept}: {failed}")
        return row | {"error": failed}
    old, _ = symbol_cache.load(state_dir, spec.name)
    try:
        fresh = symbol_cache.renewed(old, spec.name, listing.defs.values(), volumes, time.time_ns())
        kept_at = symbol_cache.save(state_dir, fresh)
    except OSError as error:
        _narrate(f"{spec.name}: not kept: {error}")
        return row | {"error": str(error)}
    _narrate(f"{spec.name}: {len(listing.defs)} instruments, {len(volumes)} volumes, in {kept_at}")
    return row | {"refreshed": True}


# what is printed


def _print(rows: Iterable[tuple[VenueSpec, InstrumentDef]], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(
            b"".join(orjson.dumps(_object(spec, definition)) + b"\n" for spec, definition in rows)
        )
        sys.stdout.buffer.flush()
        return
    lines = [_cells(spec, definition) for spec, definition in rows]
    if not lines:
        return
    widths = [max(len(line[i]) for line in (_COLUMNS, *lines)) for i in range(len(_COLUMNS))]
    for line in (_COLUMNS, *lines):
        sys.stdout.write(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            + "\n"
        )


def _object(spec: VenueSpec, definition: InstrumentDef) -> dict[str, object]:
    kind = definition.kind.name.lower()
    instrument = f"{spec.name}.{kind}.{definition.symbol}"
    return {
        "venue": spec.name,
        "kind": kind,
        "symbol": definition.symbol,
        "key": definition.key,
        "instrument": instrument,
        "id": f"{instrument_id(instrument):016x}",
        "canonical": canonical(definition),
        "aliases": list(definition.aliases),
        "state": definition.state.name.lower(),
        "base": definition.base,
        "quote": definition.quote,
        "settle": definition.settle,
        "tick": _number(definition.tick),
        "lot": _number(definition.lot),
        "min_qty": _number(definition.min_qty),
        "min_notional": _number(definition.min_notional),
        "multiplier": _number(definition.multiplier),
        "inverse": definition.inverse,
        "expiry": _day(definition.expiry_ns),
        "strike": _number(definition.strike),
        "option_type": (
            None
            if definition.option_type is OptionType.NONE
            else definition.option_type.name.lower()
        ),
    }


def _cells(spec: VenueSpec, definition: InstrumentDef) -> tuple[str, ...]:
    row = _object(spec, definition)
    names = ("instrument", "canonical", "state", "tick", "lot", "multiplier", "expiry", "id")
    return tuple("-" if row[name] is None else str(row[name]) for name in names)


def _number(value: Exact | None) -> str | None:
    return None if value is None else format_decimal(*value)


def _day(expiry_ns: int) -> str | None:
    return (
        f"{datetime.fromtimestamp(expiry_ns // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
        if expiry_ns
        else None
    )


def _age(fetched_ns: int) -> str:
    seconds = max(0, time.time_ns() - fetched_ns) // 1_000_000_000
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _narrate(text: str) -> None:
    sys.stderr.write(f"{text}\n")
