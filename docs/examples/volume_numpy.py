"""Add up traded quantity by side from arrays, without an object per trade: `python
docs/examples/volume_numpy.py [TAPE]`.
"""

import sys

from tapecast import Feed, MsgType, Trade

volume: dict[tuple[int, int], int] = {}
with (
    Feed.replay(sys.argv[1], types=[Trade])
    if sys.argv[1:]
    else Feed(["binance"], types=[Trade]) as feed
):
    for batch in feed.batches():
        table = batch.table(MsgType.TRADE)
        for side in (1, 2):
            rows = table[table["side"] == side]
            for exponent in set(rows["qty_exp"].tolist()):
                mantissas = rows["quantity"][rows["qty_exp"] == exponent]
                volume[side, exponent] = volume.get((side, exponent), 0) + int(mantissas.sum())
for (side, exponent), mantissa in sorted(volume.items()):
    print("buy" if side == 1 else "sell", f"{mantissa}e{exponent}")
