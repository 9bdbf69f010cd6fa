"""What control messages, ignored channels and foreign frames mean, per venue; frames as the
venues send or document them.
"""

from __future__ import annotations

import pytest

from tapecast.feeder.venues.binance import VENUE as BINANCE
from tapecast.feeder.venues.binance_futures import VENUE as FUTURES
from tapecast.feeder.venues.okx import VENUE as OKX
from tapecast.feeder.venues.spec import Ack, Alive, Ignored, Notice, ServerError, VenueSpec
from tapecast.feeder.venues.upbit import VENUE as UPBIT

ALL = (BINANCE, FUTURES, OKX, UPBIT)

# Source of the frames: the venues' WebSocket documentation, `examples.jsonl` and the cf_*
# recordings of each venue.
UNDERSTOOD = [
    (BINANCE, b'{"result":null,"id":1}', Ack("1")),
    (BINANCE, b'{"result":["btcusdt@aggTrade"],"id":3}', Ack("3")),
    (
        BINANCE,
        b'{"code":2,"msg":"Invalid request: unknown variant"}',
        ServerError("2", "Invalid request: unknown variant"),
    ),
    (
        FUTURES,
        b'{"error":{"code":3,"msg":"Invalid JSON"},"id":7}',
        ServerError("3", "Invalid JSON", "7"),
    ),
    (
        BINANCE,
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
        Notice("serverShutdown", "the server closes its connections", reconnect=True),
    ),
    (
        BINANCE,
        b'{"e":"serverShutdown","E":1770123456789}',
        Notice("serverShutdown", "the server closes its connections", reconnect=True),
    ),
    (
        BINANCE,
        b'{"stream":"ethusdt@depth20","data":{"lastUpdateId":17044571457,"bids":[["1782.00000000","6.48300000"]],"asks":[]}}',
        Ignored("ethusdt@depth20"),
    ),
    (
        BINANCE,
        b'{"lastUpdateId":33933317943,"bids":[["23171.42000000","0.03000000"]],"asks":[]}',
        Ignored("partial depth"),
    ),
    (
        FUTURES,
        (
            b'{"stream":"ethusdt@depth20","data":{"e":"depthUpdate","E":1651122265861,"T":1651122265854,"s":"ETHUSDT",'
            b'"U":1437010873371,"u":1437010882721,"pu":1437010873329,"b":[["2886.71","0.454"]],"a":[["2886.72","77.215"]]}}'
        ),
        Ignored("ethusdt@depth20"),
    ),
    (
        FUTURES,
        b'{"stream":"!markPrice@arr","data":[{"e":"markPriceUpdate","E":1617309024002,"s":"BTCUSDT","p":"59022.53514719"}]}',
        Ignored("!markPrice@arr"),
    ),
    (
        BINANCE,
        b'{"stream":"ethusdt@ticker","data":{"e":"24hrTicker","E":1653812650349,"s":"ETHUSDT"}}',
        Ignored("24hrTicker"),
    ),
    (OKX, b"pong", Alive("pong")),
    (
        OKX,
        b'{"id":"md","event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT-SWAP"},"connId":"73220c7f"}',
        Ack("md", "books", "BTC-USDT-SWAP"),
    ),
    (
        OKX,
        b'{"event":"unsubscribe","arg":{"channel":"trades","instId":"BTC-USDT"}}',
        Ack(None, "trades", "BTC-USDT"),
    ),
    (
        OKX,
        b'{"event":"error","msg":"Please log in","code":"60011"}',
        ServerError("60011", "Please log in"),
    ),
    (
        OKX,
        (
            b'{"event":"notice","code":"64008","msg":"The connection will soon be closed for a'
            b' service upgrade."}'
        ),
        Notice(
            "64008", "The connection will soon be closed for a service upgrade.", reconnect=True
        ),
    ),
    (
        OKX,
        b'{"event":"channel-conn-count","channel":"orders","connCount":"2","connId":"abcd1234"}',
        Alive("channel-conn-count"),
    ),
    (
        OKX,
        b'{"event":"channel-conn-count-error","channel":"books","connCount":"31","connId":"a4d3ae55"}',
        ServerError("", "channel-conn-count-error", None, "books"),
    ),
    (
        OKX,
        b'{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"last":"9999.99"}]}',
        Ignored("tickers"),
    ),
    (
        OKX,
        (
            b'{"arg":{"channel":"books5","instId":"BTC-USDT-220624"},"data":[{"asks":[["30351.5","18","0","2"]],"bids":[],'
            b'"instId":"BTC-USDT-220624","ts":"1652672165391"}]}'
        ),
        Ignored("books5"),
    ),
    (
        OKX,
        b'{"arg":{"channel":"candle1m","instId":"BTC-USD-SWAP"},"data":[["1662716640000","20713.4"]]}',
        Ignored("candle1m"),
    ),
    (UPBIT, b'{"status":"UP"}', Alive("UP")),
    (
        UPBIT,
        b'{"error":{"name":"NO_TICKET","message":"no ticket"}}',
        ServerError("NO_TICKET", "no ticket"),
    ),
    (UPBIT, b'{"type": "ticker", "code": "KRW-W", "trade_price": 113.2}', Ignored("ticker")),
    (UPBIT, b'{"type":"candle.1s","code":"KRW-BTC"}', Ignored("candle.1s")),
    (
        UPBIT,
        (
            b'{"type":"trade","code":"KRW-BTC","trade_price":106691000.00000000,"trade_volume":0.00009372,"ask_bid":"ASK",'
            b'"sequential_id":17883351803770004,"stream_type":"SNAPSHOT"}'
        ),
        Ignored("trade snapshot"),
    ),
    (UPBIT, b'{"ty":"trade","cd":"KRW-BTC","st":"SNAPSHOT"}', Ignored("trade snapshot")),
]

NOT_UNDERSTOOD = [
    (
        BINANCE,
        b'{"stream":"ethusdt@bookTicker","data":{"e":"bookTicker","u":1553413152520,"s":"ETHUSDT","b":"1778.54"}}',
    ),
    (
        BINANCE,
        b'{"stream":"gntbtc@depthSnapshot","generated":true,"data":{"lastUpdateId":41603417,"bids":[],"asks":[]}}',
    ),
    (
        BINANCE,
        b'{"lastUpdateId":1570255790655,"E":1654232606707,"T":1654232606695,"bids":[],"asks":[]}',
    ),
    (BINANCE, b'{"symbol":"BTCUSDT","openInterest":"84617.188","time":1654336844754}'),
    (
        BINANCE,
        b'{"stream":"BTCUSDT_C@TRADE_ALL","data":{"e":"trade_all","E":1616205287778,"s":"BTCUSDT_C","t":[]}}',
    ),
    (FUTURES, b'{"lastUpdateId":33933317943,"bids":[["23171.42000000","0.03000000"]],"asks":[]}'),
    (
        FUTURES,
        b'{"stream":"btcusdt@openInterest","generated":true,"data":{"symbol":"BTCUSDT","openInterest":"26286.181"}}',
    ),
    (
        OKX,
        b'{"table":"spot/depth5","data":[{"asks":[["0.9788","0.001","1"]],"bids":[],"instrument_id":"BETH-ETH"}]}',
    ),
    (
        OKX,
        b'{"code":"0","msg":"","data":[{"asks":[["29692.5","0.10951348","0","5"]],"bids":[],"ts":"1654328918680"}]}',
    ),
    (OKX, b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"merge","data":[]}'),
    (OKX, b'{"arg":{"channel":"something-new","instId":"BTC-USDT"},"data":[]}'),
    (UPBIT, b'{"type":"orderbook","code":"KRW-BTC","level":10000,"stream_type":"REALTIME"}'),
    (UPBIT, b'[{"type":"trade","code":"KRW-BTC"}]'),
]


@pytest.mark.parametrize(
    ("venue", "frame", "meaning"), UNDERSTOOD, ids=lambda value: getattr(value, "name", None)
)
def test_control_frames_mean_what_the_venue_documents(
    venue: VenueSpec, frame: bytes, meaning: object
) -> None:
    """Acknowledgements, errors, notices, signs of life and channels without use are told apart."""
    assert venue.stream.control(frame) == meaning


@pytest.mark.parametrize(
    ("venue", "frame"), NOT_UNDERSTOOD, ids=lambda value: getattr(value, "name", None)
)
def test_frames_without_evidence_are_not_understood(venue: VenueSpec, frame: bytes) -> None:
    """Another market's frames, REST bodies on a stream and unknown variants go to quarantine."""
    assert venue.stream.control(frame) is None


@pytest.mark.parametrize("venue", ALL, ids=lambda venue: venue.name)
@pytest.mark.parametrize(
    "frame", [b"", b"{", b"null", b"[]", b"1", b'{"e":1}', b"\xff\xfe", b'{"data":{}}', b'"pong"']
)
def test_garbage_is_not_understood(venue: VenueSpec, frame: bytes) -> None:
    """A frame that is not a message of any kind is answered with None, never an exception."""
    assert venue.stream.control(frame) is None
