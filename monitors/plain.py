"""The monitor without a screen: the same view as text for people (`table`) or as one JSON line
for programs (`json_line`).

Pure functions of `monitors.model.View`; they write nothing.
"""

from __future__ import annotations

import msgspec

from tapecast.monitors.model import Row, View

__all__ = ["json_line", "table"]

_FIXED = ("EXCHANGE", "STATE", "UP", "DOWN", "RECONN", "TOTAL")
_FIRST = ("trade", "book", "bbo", "stat", "liquidation")
_LAST = ("quarantine", "gaps", "resyncs", "live", "books")


def table(view: View) -> str:
    """Return the view as aligned text, one exchange a line, ending with a line of totals; no
    colours, no final newline.
    """
    keys = _keys(view.rows)
    head = [*_FIXED, *(key.upper() for key in keys), "MSG/S", "AGE"]
    cells = [head, *(_cells(row, keys) for row in view.rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = [_join(line, widths) for line in cells]
    if not view.rows:
        lines.append("(no exchange received yet)")
    foot = f"{view.uptime_s:.0f} s · {view.lines} lines"
    if view.malformed:
        foot += f" · {view.malformed} malformed, last: {view.last_malformed!r}"
    if view.refused:
        foot += f" · {view.refused} refused (too many exchanges)"
    lines.append(foot)
    if view.hint:
        lines.append(view.hint)
    return "\n".join(lines)


def json_line(view: View) -> bytes:
    """Return the view as one JSON object, without a newline."""
    return msgspec.json.encode(view)


def _keys(rows: tuple[Row, ...]) -> list[str]:
    seen = {key for row in rows for key in row.counts}
    others = sorted(seen - set(_FIRST) - set(_LAST))
    return [key for key in (*_FIRST, *others, *_LAST) if key in seen]


def _cells(row: Row, keys: list[str]) -> list[str]:
    rates = [rate for key, rate in row.rates.items() if rate is not None and key in _FIRST]
    rate = f"{sum(rates):.1f}" if rates else "-"
    fixed = [
        row.exchange,
        row.state,
        _number(row.connected),
        _number(row.disconnected),
        _number(row.reconnects),
        _number(row.total),
    ]
    return [*fixed, *(_number(row.counts.get(key)) for key in keys), rate, f"{row.age_s:.0f}s"]


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _join(cells: list[str], widths: list[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join([*left, *right]).rstrip()
