"""Messages of LS Securities in the documented layout. Figures are those of the examples in the
venue's own documentation.

Source of layouts and figures: openapi.ls-sec.co.kr as it was in December 2025 and May 2026
(github changmai/sector_industry_find @2f8372a5 and unanimous0/LENS @94508586). A test that moves
a figure, to lose or repeat a trade, says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

__all__ = ["BOOKS", "JIF", "TRADES", "book", "message", "trade"]

Levels = Sequence[tuple[str, str]]


def message(code: str, key: str, body: dict[str, str]) -> bytes:
    """Return a message as the venue sends it."""
    return json.dumps(
        {"header": {"tr_cd": code, "tr_key": key}, "body": body}, separators=(",", ":")
    ).encode()


def trade(
    code: str,
    key: str,
    time: str,
    price: str,
    quantity: str,
    side: str,
    volume: str,
    /,
    **more: str,
) -> bytes:
    """Return a trade; `more` are keys of its body."""
    body = {
        "cvolume": quantity,
        "price": price,
        "cgubun": side,
        "chetime": time,
        "volume": volume,
        "status": "00",
    }
    return message(code, key, body | {"shcode": key.strip().lstrip("UN"), "exchname": "KRX"} | more)


def book(
    code: str,
    key: str,
    time: str,
    bids: Levels,
    asks: Levels,
    count: int,
    *,
    part: str = "",
    **more: str,
) -> bytes:
    """Return a book of `count` levels a side, those beyond the given ones "0"; `part` is put
    before the names of quantities.
    """
    body = {"hotime": time, "totofferrem": "0", "totbidrem": "0", "alloc_gubun": ""}
    for side, levels in (("bid", bids), ("offer", asks)):
        padded = [*levels, *[("0", "0")] * (count - len(levels))]
        for number, (price, quantity) in enumerate(padded, 1):
            body[f"{side}ho{number}"], body[f"{part}{side}rem{number}"] = price, quantity
    return message(code, key, body | more)


TRADES: dict[str, tuple[bytes, str, str, str, str, str]] = {
    "S3_": (
        trade("S3_", "005930", "090851", "55550", "1", "+", "10887"),
        "005930",
        "55550",
        "1",
        "buy",
        "10887",
    ),
    "K3_": (
        trade("K3_", "122870", "104904", "81700", "3", "+", "189353"),
        "122870",
        "81700",
        "3",
        "buy",
        "189353",
    ),
    "NS3": (
        trade(
            "NS3",
            "N010950   ",
            "143216",
            "60600",
            "1",
            "+",
            "27058",
            exchname="NXT",
            ex_shcode="N010950",
        ),
        "N010950",
        "60600",
        "1",
        "buy",
        "27058",
    ),
    "FC9": (
        trade(
            "FC9",
            "A0166000",
            "093621",
            "347.80",
            "3",
            "+",
            "51968",
            futcode="A0166000",
            k200jisu="346.18",
        ),
        "A0166000",
        "347.8",
        "3",
        "buy",
        "51968",
    ),
    "JC0": (
        trade("JC0", "111T7000", "143128", "71700", "1", "+", "944036", futcode="111T7000"),
        "111T7000",
        "71700",
        "1",
        "buy",
        "944036",
    ),
    "OC0": (
        trade("OC0", "201T7347", "093421", "4.37", "1", "-", "3107"),
        "201T7347",
        "4.37",
        "1",
        "sell",
        "3107",
    ),
}
"""Code -> (message, symbol, price, quantity, side, id)."""

_H1 = (
    [("72300", "70581"), ("72200", "100447"), ("72100", "156534")],
    [("72400", "32616"), ("72500", "66102"), ("72600", "74102")],
)
_HA = ([], [("763000", "560"), ("764000", "1081"), ("765000", "1082")])
_NH1 = (
    [
        ("46650", "112"),
        ("46600", "270"),
        ("46550", "259"),
        ("46500", "21"),
        ("46450", "232"),
        ("46400", "1023"),
        ("46350", "1085"),
        ("46300", "298"),
        ("46250", "987"),
        ("46200", "2829"),
    ],
    [
        ("46750", "295"),
        ("46800", "523"),
        ("46850", "479"),
        ("46900", "359"),
        ("46950", "439"),
        ("47000", "1346"),
        ("47050", "300"),
        ("47100", "815"),
        ("47150", "72"),
        ("47200", "133"),
    ],
)
_UH1 = (
    [("61200", "333970"), ("61100", "166229"), ("61000", "204186")],
    [("61300", "65308"), ("61400", "363373"), ("61500", "574194")],
)
_FH9 = (
    [("347.65", "116"), ("347.60", "222"), ("347.55", "200"), ("347.50", "195"), ("347.45", "274")],
    [("347.70", "76"), ("347.75", "179"), ("347.80", "176"), ("347.85", "165"), ("347.90", "200")],
)
_OH0 = (
    [("4.35", "7"), ("4.34", "7"), ("4.33", "13"), ("4.32", "12"), ("4.31", "5")],
    [("4.37", "2"), ("4.38", "11"), ("4.39", "16"), ("4.40", "4"), ("4.41", "26")],
)

BOOKS: dict[str, tuple[bytes, str, Levels, Levels]] = {
    "H1_": (
        book("H1_", "005930", "084242", *_H1, 10, volume="136", donsigubun="3"),
        "005930",
        *_H1,
    ),
    "HA_": (book("HA_", "086520", "084302", *_HA, 10), "086520", *_HA),
    "NH1": (
        book("NH1", "N000880   ", "111244", *_NH1, 10, midprice="46700", volume="111022"),
        "N000880",
        *_NH1,
    ),
    # The venue's own quantities of one exchange stand beside the sums; here they are other
    # figures of the example.
    "UH1": (
        book(
            "UH1",
            "U005930   ",
            "151545",
            *_UH1,
            10,
            part="unt_",
            volume=" ",
            krx_bidrem1="110802",
            nxt_bidrem1="0",
        ),
        "U005930",
        *_UH1,
    ),
    "FH9": (book("FH9", "A0166000", "093559", *_FH9, 5, danhochk="0"), "A0166000", *_FH9),
    "JH0": (
        book(
            "JH0",
            "111T7000",
            "143130",
            [("71600", "8245"), ("71500", "23580")],
            [("71700", "13361")],
            10,
        ),
        "111T7000",
        [("71600", "8245"), ("71500", "23580")],
        [("71700", "13361")],
    ),
    "OH0": (book("OH0", "201T7347", "093456", *_OH0, 5, optcode="201T7347"), "201T7347", *_OH0),
}
"""Code -> (message, symbol, bids, asks)."""


def JIF(part: str, status: str) -> bytes:  # noqa: N802 - the message's name
    """Return a market state."""
    return message("JIF", "0", {"jangubun": part, "jstatus": status})
