"""The lists of instruments of LS Securities: stocks, KOSPI200 futures and options, stock
futures.

The lists name shares and contracts and say little of them: price bands, contract sizes and days
of expiry are the exchange's (`feeder.venues.common.krx`). Which lists there are is data
(`config/markets/ls.toml`); evidence: `docs/venues/ls.md`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import msgspec

from tapecast.feeder.venues.common import krx
from tapecast.feeder.venues.common.ls_data import DATA, kind_of
from tapecast.feeder.venues.spec import (
    Exact,
    InstrumentDef,
    Instruments,
    InstrumentsError,
    RestRequest,
    exact,
)
from tapecast.protocol.schema import InstrumentState, OptionType

__all__ = ["is_list_url", "list_requests", "parse_list"]


class _Row(msgspec.Struct, frozen=True):
    shcode: str
    hname: str = ""
    gubun: str = ""
    etfgubun: str = "0"
    memedan: str = ""
    basecode: str = ""


def _stock(row: _Row) -> Iterator[InstrumentDef]:
    """A share of KRX, and the same on NXT and on both: three instruments with books, and so
    names, of their own.
    """
    segment = _STOCK_SEGMENTS.get(row.gubun)
    if segment is None:
        raise InstrumentsError(f"{row.shcode!r}: market {row.gubun!r} is not known")
    bands = krx.tick_bands("stock" if row.etfgubun == "0" else "fund")
    lot = exact(row.memedan) or Exact(1, 0)
    for prefix, part in (("", segment), ("N", "NXT"), ("U", "")):
        yield _definition(
            prefix + row.shcode,
            prefix + row.shcode,
            segment=part,
            tick_bands=bands,
            lot=lot,
            min_qty=lot,
        )


_STOCK_SEGMENTS = {"1": "KOSPI", "2": "KOSDAQ"}
_FUTURE = re.compile(r"(?:.* )?F (\d{4}|\d{2})(\d{2})")
_OPTION = re.compile(r"(?:.* )?([CP]) (\d{4}|\d{2})(\d{2}) (\d+(?:\.\d+)?)")
"""Names: `F 2406`, `코스피200 F 202606`, `C 2307 185.0`."""
_DERIVATIVES = "derivatives"


def _index_future(row: _Row) -> Iterator[InstrumentDef]:
    found = _named(_FUTURE, row)
    if found is not None:
        yield _definition(
            row.shcode,
            "KOSPI200",
            segment=_DERIVATIVES,
            tick=krx.tick_bands("kospi200_future")[0][1],
            multiplier=krx.multiplier("kospi200"),
            expiry_ns=_expiry(found[1], found[2]),
        )


def _stock_future(row: _Row) -> Iterator[InstrumentDef]:
    """Its size is not in the list: it changes with corporate actions."""
    found = _named(_FUTURE, row)
    if found is not None:
        base = row.basecode.removeprefix("A")
        yield _definition(
            row.shcode, base, segment=_DERIVATIVES, expiry_ns=_expiry(found[1], found[2])
        )


def _index_option(row: _Row) -> Iterator[InstrumentDef]:
    found = _named(_OPTION, row)
    if found is not None:
        yield _definition(
            row.shcode,
            "KOSPI200",
            segment=_DERIVATIVES,
            tick_bands=krx.tick_bands("kospi200_option"),
            multiplier=krx.multiplier("kospi200"),
            expiry_ns=_expiry(found[2], found[3]),
            strike=exact(found[4]),
            option_type=OptionType.CALL if found[1] == "C" else OptionType.PUT,
        )


def _named(form: re.Pattern[str], row: _Row) -> re.Match[str] | None:
    """Return what the name of a contract says, None for a spread. Raises InstrumentsError for a
    name of another form.
    """
    if row.shcode.startswith(DATA.ignored.spreads):
        return None
    found = form.fullmatch(row.hname.strip())
    if found is None:
        raise InstrumentsError(f"{row.shcode!r}: name {row.hname[:40]!r} is not of a known form")
    return found


def _expiry(year: str, month: str) -> int:
    return krx.expiry_ns(2000 + int(year) % 100, int(month))


_READERS: dict[str, Callable[[_Row], Iterator[InstrumentDef]]] = {
    "stocks": _stock,
    "index_futures": _index_future,
    "stock_futures": _stock_future,
    "index_options": _index_option,
}


def _definition(symbol: str, base: str, **values: object) -> InstrumentDef:
    kind = kind_of(symbol)
    if kind is None:
        raise InstrumentsError(f"{symbol[:40]!r}: not a known form")
    state = InstrumentState.TRADING
    plain = InstrumentDef(
        symbol=symbol, kind=kind, state=state, base=base, quote="KRW", settle="KRW", lot=Exact(1, 0)
    )
    return msgspec.structs.replace(plain, **values)


def parse_list(body: bytes) -> Instruments:
    """Return the definitions of a list. Raises InstrumentsError for an answer that is none."""
    try:
        blocks = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InstrumentsError(f"ls master: {error}") from None
    for code, master in DATA.masters.items():
        if f"{code}OutBlock" in blocks:
            return _rows(code, blocks[f"{code}OutBlock"], _READERS[master.rows])
    raise InstrumentsError(
        "ls: no list of instruments in an answer with"
        f" {', '.join(sorted(blocks))[:100] or 'nothing'}"
    )


def _rows(
    code: str, block: msgspec.Raw, read: Callable[[_Row], Iterator[InstrumentDef]]
) -> Instruments:
    defs: list[InstrumentDef] = []
    rejected: list[str] = []
    try:
        rows = msgspec.json.decode(block, type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise InstrumentsError(f"{code}: {error}") from None
    for row in rows:
        try:
            defs.extend(read(msgspec.json.decode(row, type=_Row)))
        except (msgspec.DecodeError, InstrumentsError) as error:
            rejected.append(f"{code}: {error}")
    return Instruments(tuple(defs), tuple(rejected))


def list_requests() -> list[RestRequest]:
    """Return the requests for the lists that are asked for."""
    return [
        RestRequest(
            "rest",
            master.path,
            body=msgspec.json.encode({f"{code}InBlock": master.input}),
            headers=(("tr_cd", code), ("tr_cont", "N"), ("tr_cont_key", "")),
        )
        for code, master in DATA.masters.items()
        if master.asked
    ]


def is_list_url(url: str) -> bool:
    """Whether the answer of a URL may be a list: it names itself inside, its URL is shared with
    other requests.
    """
    return urlsplit(url).path in _PATHS


_PATHS = frozenset({"", "/", *(master.path for master in DATA.masters.values())})
"""A recording may hold the base URL alone."""
