"""Count trades and book changes by callback for ten seconds: `python docs/examples/callbacks.py
[TAPE]`.
"""

import sys
from collections import Counter

from tapecast import Book, Feed, Trade

seen: Counter[str] = Counter()
with Feed.replay(sys.argv[1]) if sys.argv[1:] else Feed(["upbit"]) as feed:
    feed.on(Trade, lambda trade: seen.update([f"{trade.instrument} trades"]))
    feed.on(Book, lambda book: seen.update([f"{book.instrument} books"]))
    feed.run(seconds=10)
print(*(f"{count:>8} {name}" for name, count in seen.most_common()), sep="\n")
print(feed.stats, file=sys.stderr)
