"""Watch best bids and offers beside other tasks of an event loop: `python
docs/examples/many_venues_async.py [TAPE]`.
"""

import asyncio
import sys

from tapecast import Bbo, Feed


async def main() -> None:
    """Print the best bid and offer of every instrument named, until Ctrl-C or the end of the
    tape.
    """
    async with (
        Feed.replay(sys.argv[1]) if sys.argv[1:] else Feed(symbols=["BTC-USDT"], types=[Bbo])
    ) as feed:
        async for event in feed:
            if isinstance(event, Bbo):
                print(event.instrument, event.bid, event.ask)


asyncio.run(main())
