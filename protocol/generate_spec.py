"""Fill the tables of `protocol/SPEC.md` from the schema.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; all other text of the document
is written by hand and kept. Called by `protocol.generate`; it writes no file itself.
"""

from __future__ import annotations

import re
from enum import IntEnum

from tapecast.protocol import schema

__all__ = ["fill_tables"]

_PART = re.compile(r"(<!-- table: ([a-z_]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, tuple("---" for _ in head), *rows)]
    return "\n".join(lines) + "\n"


def _record(record: schema.Record) -> str:
    rows: list[tuple[str, ...]] = []
    for field in record.fields:
        kind = f"{field.type}[{field.size}]" if field.type in ("utf8", "bytes") else field.type
        rows.append((str(field.offset), kind, f"`{field.name}`", field.doc))
    title = (
        f"`{record.name}`: {record.size} bytes. {record.doc}\n\n"
        if record is not schema.HEADER
        else ""
    )
    return title + _table(("offset", "type", "field", "meaning"), rows)


def _enum(enum: type[IntEnum]) -> str:
    return _table(("value", "name"), [(str(member.value), member.name) for member in enum])


def _tables() -> dict[str, str]:
    return {
        "header": _record(schema.HEADER),
        "message_types": _table(
            ("msg_type", "name", "item", "item bytes"),
            [
                (str(m.value), m.name, f"`{record.name}`", str(record.size))
                for m, record in schema.ITEM_OF.items()
            ],
        ),
        "flags": _table(
            ("flag", "name", "meaning"),
            [(f"0x{flag.value:04X}", str(flag.name), doc) for flag, doc in schema.FLAG_DOC.items()],
        ),
        "items": "\n".join(
            _record(record) for record in schema.RECORDS if record is not schema.HEADER
        ),
        "status_scope": _enum(schema.StatusScope),
        "status_state": _enum(schema.StatusState),
        "status_reason": _enum(schema.StatusReason),
        "request_kind": _enum(schema.RequestKind),
        "reply_status": _enum(schema.ReplyStatus),
        "venues": _table(
            ("venue_id", "name"),
            [(str(number), f"`{name}`") for name, number in schema.VENUES.items()],
        ),
        "services": _table(
            ("service", "name", "channel, crypto input", "channel, stock input"),
            [
                (
                    str(number),
                    f"`{name}`",
                    str(schema.DERIVED_STEP + number),
                    str(2 * schema.DERIVED_STEP + number),
                )
                for name, number in schema.SERVICES.items()
            ],
        ),
    }


def fill_tables(text: str) -> str:
    """Return the document with every table written anew; KeyError for a table the schema does
    not have.
    """
    tables = _tables()
    return _PART.sub(lambda part: part[1] + tables[part[2]] + part[3], text)
