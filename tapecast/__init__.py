"""The public face of tapecast: `from tapecast import Feed, Trade, Book`. Everything a script
needs is here.

Names are imported when they are first used, so that `import tapecast` and the command line stay
quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tapecast.consumers.feed.batches import Batch
    from tapecast.consumers.feed.events import (
        Bbo,
        Book,
        BookState,
        Gap,
        GapReason,
        Instrument,
        Liquidation,
        Stat,
        Status,
        StatusOrigin,
        Trade,
    )
    from tapecast.consumers.feed.feed import Feed, FeedError
    from tapecast.consumers.feed.stats import FeedStats
    from tapecast.protocol.schema import (
        Flag,
        MsgType,
        Side,
        StatKind,
        StatusReason,
        StatusState,
        TradeFlag,
    )

__all__ = [
    "Batch",
    "Bbo",
    "Book",
    "BookState",
    "Feed",
    "FeedError",
    "FeedStats",
    "Flag",
    "Gap",
    "GapReason",
    "Instrument",
    "Liquidation",
    "MsgType",
    "Side",
    "Stat",
    "StatKind",
    "Status",
    "StatusOrigin",
    "StatusReason",
    "StatusState",
    "Trade",
    "TradeFlag",
    "__version__",
]

__version__ = "0.1.0"

_HOME = {
    "Batch": "tapecast.consumers.feed.batches",
    "Feed": "tapecast.consumers.feed.feed",
    "FeedError": "tapecast.consumers.feed.feed",
    "FeedStats": "tapecast.consumers.feed.stats",
    **dict.fromkeys(
        ("Flag", "MsgType", "Side", "StatKind", "StatusReason", "StatusState", "TradeFlag"),
        "tapecast.protocol.schema",
    ),
    **dict.fromkeys(
        (
            "Bbo",
            "Book",
            "BookState",
            "Gap",
            "GapReason",
            "Instrument",
            "Liquidation",
            "Stat",
            "Status",
            "StatusOrigin",
            "Trade",
        ),
        "tapecast.consumers.feed.events",
    ),
}


def __getattr__(name: str) -> object:
    """Import a public name from where it lives."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
