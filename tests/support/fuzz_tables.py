"""Write what the C fuzz targets read: `python -m tests.support.fuzz_tables DIRECTORY`.

For each venue `VENUE.tables` (the compiled shapes that the feeder uses) and `VENUE-N.json`
(hand-written frames to start from, and long ones made of them, whose packets are fragmented);
`packets-N.bin` from `tests.support.fuzz_packets`. The targets and their commands:
`protocol/native/fuzz/run`.
"""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path

from tapecast.feeder.extract.compile import compile_shapes
from tapecast.feeder.venues import VENUES, venue
from tapecast.protocol._native import ffi
from tests.support import fuzz_packets
from tests.support.ls_frames import BOOKS, TRADES
from tests.support.shapes_sample import EXAMPLES

__all__ = ["write"]

_ROW = re.compile(rb'\["[0-9.]+","[0-9.]+"[^\]]*\]|\{"(?:ap|ask_price)"[^}]*\}')
_TRADE = re.compile(rb'(?<="data":\[)\{[^}]*"tradeId"[^}]*\}')
_LONG = 120
"""Levels of a long frame: more than a packet holds, and just what the target has room for."""
_TRADES = 4
"""As many as the target has room for."""

_FRAMES = EXAMPLES | {
    "coinbase_exchange": EXAMPLES["coinbase"],
    # BTCUSD_PERP of 8 August 2024, layouts of the recording in long/.
    "binance_coinm": (
        b'{"stream":"btcusd_perp@depth@0ms","data":{"e":"depthUpdate","E":1723161257440,"T":1723161257432,"s":"BTCUSD_PERP",'
        b'"ps":"BTCUSD","U":1007198631260,"u":1007198631565,"pu":1007198631198,"b":[["61773.6","1001"],["61776.4","412"]],"a":[]}}',
        b'{"stream":"btcusd_perp@bookTicker","data":{"u":1007198632021,"e":"bookTicker","s":"BTCUSD_PERP","ps":"BTCUSD",'
        b'"b":"61804.7","B":"35","a":"61804.8","A":"1645","T":1723161257465,"E":1723161257476}}',
        b'{"stream":"btcusd_perp@trade","data":{"e":"trade","E":1723161257687,"T":1723161257679,"s":"BTCUSD_PERP",'
        b'"t":849714402,"p":"61804.8","q":"4","X":"MARKET","m":false}}',
    ),
    # Mark price of 1 April 2021, and the documented liquidation order.
    "binance_futures": (
        *EXAMPLES["binance_futures"],
        b'{"stream":"btcusdt@markPrice","data":{"e":"markPriceUpdate","E":1617308820003,"s":"BTCUSDT","p":"58940.14924532",'
        b'"i":"58857.26693664","r":"0.00058455","T":1617321600000}}',
        b'{"stream":"btcusdt@forceOrder","data":{"e":"forceOrder","E":1568014460893,"o":{"s":"BTCUSDT","S":"SELL","q":"0.014",'
        b'"p":"9910","ap":"9910","X":"FILLED","z":"0.014","T":1568014460893}}}',
    ),
    # Funding rate of 3 March 2022, and the documented liquidation.
    "okx": (
        *EXAMPLES["okx"],
        b'{"arg":{"channel":"funding-rate","instId":"BTC-USD-SWAP"},"data":[{"fundingRate":"0.0000734174532791",'
        b'"fundingTime":"1646323200000","instId":"BTC-USD-SWAP"}]}',
        b'{"arg":{"channel":"liquidation-orders","instType":"SWAP"},"data":[{"details":[{"bkPx":"0.007831","side":"buy",'
        b'"sz":"13","ts":"1692266434010"}],"instId":"IOST-USDT-SWAP"}]}',
    ),
    "ls": (*(frame for frame, *_ in TRADES.values()), *(frame for frame, *_ in BOOKS.values())),
    # Bithumb of 23 September 2026 (KRW-BTC), layouts of apidocs.bithumb.com.
    "bithumb": (
        b'{"type":"orderbook","code":"KRW-BTC","orderbook_units":[{"ask_price":116208000,"bid_price":116204000,"ask_size":0.3313,'
        b'"bid_size":0.0037}],"level":1,"timestamp":1790133505564033,"stream_type":"SNAPSHOT"}',
        b'{"type":"trade","code":"KRW-BTC","trade_price":116208000,"trade_volume":0.0009,"ask_bid":"BID",'
        b'"trade_timestamp":1790133513739,"sequential_id":1079953210371761700,"stream_type":"REALTIME"}',
    ),
}


def _tables(name: str) -> bytes:
    spec = venue(name)
    tables = compile_shapes(spec.stream.shapes + spec.rule.rest_shapes)
    out = [struct.pack("<I", tables.count)]
    for index, arrays in enumerate(tables.keep):
        program = tables.programs[index]
        data = [bytes(ffi.buffer(array)) for array in arrays]
        out.append(
            struct.pack(
                "<4i",
                program.shape_count,
                program.slot_count,
                program.has_envelope,
                program.by_caller,
            )
        )
        out.append(struct.pack("<7I", *map(len, data)))
        out += data
    return b"".join(out)


def _long(frame: bytes) -> bytes:
    """Return the frame with its first row or trade many times over."""
    rows = _ROW.sub(
        lambda row: b",".join([row[0]] * (_LONG if row[0].startswith(b"[") else _LONG // 2)),
        frame,
        count=1,
    )
    return _TRADE.sub(lambda trade: b",".join([trade[0]] * _TRADES), rows)


def write(folder: Path) -> None:
    """Write tables and frames of every venue, and packets."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in VENUES:
        (folder / f"{name}.tables").write_bytes(_tables(name))
        frames = dict.fromkeys((*_FRAMES[name], *map(_long, _FRAMES[name])))
        for number, frame in enumerate(frames):
            (folder / f"{name}-{number}.json").write_bytes(frame)
    for number, packets in enumerate(fuzz_packets.inputs()):
        (folder / f"packets-{number}.bin").write_bytes(packets)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
