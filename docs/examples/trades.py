"""Print every trade of two venues: `python docs/examples/trades.py [TAPE]`."""

import sys

from tapecast import Feed, Trade

source = (
    Feed.replay(sys.argv[1], types=[Trade])
    if sys.argv[1:]
    else Feed(["okx", "binance"], ["BTC-USDT"], types=[Trade])
)
with source as feed:
    for trade in feed:
        print(trade.venue, trade.symbol, trade.side, trade.price, trade.quantity)
