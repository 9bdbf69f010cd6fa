"""Real frames of shapes that a venue module makes by a function, beside those that stand in
`example` of their shape; and the shapes without any, with the reason.
"""

from __future__ import annotations

from tapecast.feeder.extract.shapes import Shape
from tests.support.ls_frames import BOOKS, TRADES

__all__ = ["WITHOUT", "example"]

WITHOUT = {
    ("binance_coinm", "force_order unfilled"): "the venue documents filled orders alone",
    ("binance_futures", "force_order unfilled"): "the venue documents filled orders alone",
    ("ls", "reduced trade"): "no message of the venue: what a recorder kept of trades",
    ("upbit", "trade_simple"): "recorded (cf_20210405_simple), and documented by its keys alone",
}
"""(venue, shape) -> why no frame is documented."""

_MADE: dict[tuple[str, str], bytes] = {
    # examples 3, 7 and 4
    ("upbit", "orderbook"): (
        b'{"type":"orderbook","code":"KRW-BTC","timestamp":1790134743006,'
        b'"total_ask_size":1.83604250,"total_bid_size":1.62306717,'
        b'"orderbook_units":[{"ask_price":1.16539E8,"bid_price":1.16538E8,"ask_size":0.02054761,'
        b'"bid_size":0.06612366},{"ask_price":1.16542E8,"bid_price":1.16537E8,'
        b'"ask_size":0.00077720,"bid_size":0.01129382}],"stream_type":"REALTIME","level":0}'
    ),
    ("upbit", "trade"): (
        b'{"type":"trade","code":"KRW-DOGE","timestamp":1614729599905,"trade_date":"2021-03-02",'
        b'"trade_time":"23:59:59","trade_timestamp":1614729599000,"trade_price":58.4,'
        b'"trade_volume":836.12040133,"ask_bid":"ASK","prev_closing_price":57.5,"change":"RISE",'
        b'"change_price":0.9,"sequential_id":1614729599000000,"stream_type":"REALTIME"}'
    ),
    ("upbit", "orderbook_simple"): (
        b'{"ty":"orderbook","cd":"KRW-BTC","tms":1790134773006,"tas":0.48514983,"tbs":2.2403413,'
        b'"obu":[{"ap":116606000,"bp":116534000,"as":0.06288509,"bs":7.9276E-4},{"ap":116609000,'
        b'"bp":116521000,"as":5.0E-4,"bs":0.01624318}],"st":"SNAPSHOT","lv":0}'
    ),
    # examples 6 and 7; the SIMPLE keys of the documentation with their figures
    ("bithumb", "orderbook"): (
        b'{"type":"orderbook","code":"KRW-BTC","total_ask_size":0.7111,"total_bid_size":7.1052,'
        b'"orderbook_units":[{"ask_price":116208000,"bid_price":116204000,"ask_size":0.3313,'
        b'"bid_size":0.0037},{"ask_price":116209000,"bid_price":116203000,"ask_size":0.0001,'
        b'"bid_size":0.0025},{"ask_price":116215000,"bid_price":116201000,"ask_size":0,'
        b'"bid_size":0.0004}],"level":1,"timestamp":1790133505564033,"stream_type":"SNAPSHOT"}'
    ),
    ("bithumb", "trade"): (
        b'{"type":"trade","code":"KRW-BTC","trade_price":116208000,"trade_volume":0.0009,'
        b'"ask_bid":"BID","trade_date":"2026-09-23","trade_time":"12:18:33",'
        b'"trade_timestamp":1790133513739,"sequential_id":1079953210371761700,'
        b'"timestamp":1790133514039,"stream_type":"REALTIME"}'
    ),
    ("bithumb", "orderbook_simple"): (
        b'{"ty":"orderbook","cd":"KRW-BTC","tas":0.7111,"tbs":7.1052,"obu":['
        b'{"ap":116208000,"bp":116204000,"as":0.3313,"bs":0.0037},'
        b'{"ap":116209000,"bp":116203000,"as":0.0001,"bs":0.0025}],'
        b'"lv":1,"tms":1790133505564,"st":"REALTIME"}'
    ),
    ("bithumb", "trade_simple"): (
        b'{"ty":"trade","cd":"KRW-BTC","tp":116208000,"tv":0.0009,"ab":"ASK",'
        b'"ttms":1790133513739,"sid":1079953210371761700,"tms":1790133514039,"st":"REALTIME"}'
    ),
    # figures of the venue's own examples
    ("ls", "trade"): TRADES["S3_"][0],
    ("ls", "UH1"): BOOKS["UH1"][0],
    ("ls", "H1_ HA_ NH1 NHA JH0"): BOOKS["H1_"][0],
    ("ls", "FH9 FH0 OH0"): BOOKS["FH9"][0],
}


def example(venue: str, shape: Shape) -> bytes | None:
    """Return a real frame of a shape as the venue sends it, None where there is none."""
    return _MADE.get((venue, shape.name), shape.example)
