"""Generate what is derived from the schema: `python -m tapecast.protocol.generate` writes,
`--check` compares and exits 1 on a difference.

Outputs: the C header `protocol/native/wire.h`, the Wireshark dissector
`protocol/wireshark/tapecast.lua`, and the tables of `protocol/SPEC.md`, whose prose is written
by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tapecast.protocol import schema
from tapecast.protocol.generate_lua import lua_dissector
from tapecast.protocol.generate_spec import fill_tables

__all__ = ["c_header", "main", "outputs"]

_HERE = Path(__file__).parent
_C_TYPES = {
    "u8": "uint8_t",
    "i8": "int8_t",
    "u16": "uint16_t",
    "i16": "int16_t",
    "u32": "uint32_t",
    "i32": "int32_t",
    "u64": "uint64_t",
    "i64": "int64_t",
}


def c_header() -> str:
    """Return the text of `wire.h`: packed structs, offsets checked by the compiler,
    enumerations.
    """
    out = [
        (
            "/* Generated from protocol/schema.py by `python -m tapecast.protocol.generate`. Do not"
            " edit. */"
        ),
        "#ifndef TAPECAST_WIRE_H",
        "#define TAPECAST_WIRE_H",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        f"#define TC_MAGIC 0x{schema.MAGIC:04X}",
        f"#define TC_VERSION {schema.VERSION}",
        f"#define TC_HEADER_SIZE {schema.HEADER_SIZE}",
        f"#define TC_TAG_SIZE {schema.TAG_SIZE}",
        f"#define TC_MAX_ITEMS {schema.MAX_ITEMS}",
        f"#define TC_MAX_PACKET {schema.MAX_PACKET}",
        "#define TC_MAX_MANTISSA ((INT64_C(1) << 62) - 1)",
        "#define TC_UNDEFINED INT64_MIN",
        "",
    ]
    for enum, prefix in (
        (schema.MsgType, "TC_MSG"),
        (schema.Flag, "TC_FLAG"),
        (schema.Side, "TC_SIDE"),
        (schema.TradeFlag, "TC_TRADE_FLAG"),
        (schema.RequestKind, "TC_REQUEST"),
        (schema.ReplyStatus, "TC_REPLY"),
    ):
        for member in enum:
            value = f"0x{member.value:04X}" if prefix == "TC_FLAG" else str(member.value)
            out.append(f"#define {prefix}_{member.name} {value}")
        out.append("")
    for record in schema.RECORDS:
        out.append(f"/* {record.doc} */")
        out.append("typedef struct __attribute__((packed)) {")
        for field in record.fields:
            if field.type in ("utf8", "bytes"):
                out.append(f"    uint8_t {field.name}[{field.size}];")
            else:
                out.append(f"    {_C_TYPES[field.type]} {field.name};")
        out.append(f"}} tc_{record.name};")
        out.append(f'_Static_assert(sizeof(tc_{record.name}) == {record.size}, "{record.name}");')
        out.extend(
            f"_Static_assert(offsetof(tc_{record.name}, {f.name}) == {f.offset},"
            f' "{record.name}.{f.name}");'
            for f in record.fields
        )
        out.append("")
    out.append("/* Minimum item size a receiver knows for a message type; 0 = unknown type. */")
    out.append("static inline unsigned tc_min_item_size(unsigned msg_type) {")
    out.append("    switch (msg_type) {")
    out.extend(
        f"    case TC_MSG_{msg.name}: return sizeof(tc_{record.name});"
        for msg, record in schema.ITEM_OF.items()
    )
    out.append("    default: return 0;")
    out.append("    }")
    out.append("}")
    out.append("")
    out.append("#endif")
    return "\n".join(out) + "\n"


def outputs() -> dict[Path, str]:
    """Return every generated file with its text."""
    spec = _HERE / "SPEC.md"
    return {
        _HERE / "native" / "wire.h": c_header(),
        _HERE / "wireshark" / "tapecast.lua": lua_dissector(),
        spec: fill_tables(spec.read_text()),
    }


def main(arguments: list[str]) -> int:
    """Write the generated files, or with `--check` report which differ."""
    stale = []
    for path, text in outputs().items():
        if path.exists() and path.read_text() == text:
            continue
        if "--check" in arguments:
            stale.append(str(path))
        else:
            path.write_text(text)
    for name in stale:
        sys.stderr.write(
            f"{name} differs from the schema: run `python -m tapecast.protocol.generate`\n"
        )
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
