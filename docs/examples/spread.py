"""Print the spread whenever a book changes, and every loss: `python docs/examples/spread.py
[TAPE]`.
"""

import sys

from tapecast import Book, BookState, Feed, Gap

with Feed.replay(sys.argv[1]) if sys.argv[1:] else Feed(["okx"], ["BTC-USDT-SWAP"]) as feed:
    for event in feed:
        match event:
            case Book(state=BookState.LIVE, best_bid=(bid, _), best_ask=(ask, _)):
                print(event.instrument, bid, ask, ask - bid)
            case Gap():
                print("lost", event.missing, "from", event.venue)
