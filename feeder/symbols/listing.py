"""Fetching what a venue lists: instrument definitions, page by page, and the volumes that rank
them, over REST.

What to ask and how to read the answers is the venue's (`VenueSpec`); waiting, weights and bans
are the client's (`runtime.net.rest`). Nothing is kept here: the session knows the definitions of
a running feeder, `feeder.symbols.cache` those of the last refresh.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import NamedTuple

from tapecast.feeder.venues.spec import InstrumentDef, VenueSpec
from tapecast.runtime.net.request import RestAnswer, RestRequest
from tapecast.runtime.net.rest import RestClient

__all__ = ["Listing", "fetch_listing", "fetch_volumes", "is_refusal", "pages"]

MAX_PAGES = 200
"""A venue that never ends its list is given up, as an error."""


async def pages(
    rest: RestClient, spec: VenueSpec, request: RestRequest
) -> AsyncIterator[RestAnswer]:
    """Yield the answer to an instruments request and to those that continue it; an error ends
    it.
    """
    for _ in range(MAX_PAGES):
        answer = await rest.get(request)
        yield answer
        following = (
            None
            if answer.error or spec.listing.next_page is None
            else spec.listing.next_page(request, answer.body)
        )
        if following is None:
            return
        request = following
    yield RestAnswer(b"", 0, f"more than {MAX_PAGES} pages", request.path)


class Listing(NamedTuple):
    """What a venue answered: its instruments by key, what was not understood, and the requests
    that failed.
    """

    defs: dict[str, InstrumentDef]
    rejected: tuple[str, ...]
    refused: tuple[str, ...]
    """Lists that the venue does not have (HTTP 400, 404): the others stand without them."""
    failed: tuple[str, ...]
    """Lists that could not be had now: the whole is not to be relied on."""


async def fetch_listing(rest: RestClient, spec: VenueSpec) -> Listing:
    """Ask for every list of instruments, one after another. Never raises for what the venue or
    the network does.
    """
    defs: dict[str, InstrumentDef] = {}
    rejected: list[str] = []
    refused: list[str] = []
    failed: list[str] = []
    for request in spec.listing.requests():
        async for answer in pages(rest, spec, request):
            if answer.error:
                (refused if is_refusal(answer.error) else failed).append(
                    f"{answer.url}: {answer.error}"
                )
                continue
            try:
                found = spec.listing.parse(answer.body)
            except (ValueError, RecursionError) as error:
                failed.append(f"{answer.url}: {error}")
                continue
            defs.update((definition.key, definition) for definition in found.defs)
            rejected += found.rejected
    return Listing(defs, tuple(rejected), tuple(refused), tuple(failed))


def is_refusal(error: str) -> bool:
    """Return whether a failed request says that there is no such list, rather than that it
    cannot be had now.
    """
    return error.startswith(("HTTP 400 ", "HTTP 404 "))


async def fetch_volumes(
    rest: RestClient, spec: VenueSpec
) -> tuple[dict[str, Decimal], tuple[str, ...]]:
    """Return (name to 24 h turnover, what failed); names are keys or aliases of instruments."""
    out: dict[str, Decimal] = {}
    failed: list[str] = []
    for request in [] if spec.listing.volumes is None else spec.listing.volumes.requests():
        answer = await rest.get(request)
        if answer.error:
            if not is_refusal(answer.error):
                failed.append(f"{answer.url}: {answer.error}")
            continue
        try:
            assert spec.listing.volumes is not None
            out.update(spec.listing.volumes.parse(request, answer.body))
        except (ValueError, RecursionError) as error:
            failed.append(f"{answer.url}: {error}")
    return out, tuple(failed)
