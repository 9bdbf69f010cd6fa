"""Write the Wireshark dissector from the schema: `protocol/wireshark/tapecast.lua`.

Field tables and enumerations come from `protocol.schema`; the walk over packets and items below
is the receiver's of `protocol/SPEC.md`, without its checks of session and sequence. Called by
`protocol.generate`; it writes no file itself.
"""

from __future__ import annotations

from enum import IntEnum

from tapecast.protocol import schema

__all__ = ["lua_dissector"]

_ENUMS: dict[tuple[str, str], type[IntEnum]] = {
    ("header", "msg_type"): schema.MsgType,
    ("trade", "side"): schema.Side,
    ("stat", "kind"): schema.StatKind,
    ("instrument", "kind"): schema.InstrumentKind,
    ("instrument", "state"): schema.InstrumentState,
    ("instrument", "option_type"): schema.OptionType,
    ("status", "scope"): schema.StatusScope,
    ("status", "state"): schema.StatusState,
    ("status", "reason"): schema.StatusReason,
    ("request", "kind"): schema.RequestKind,
    ("reply", "kind"): schema.RequestKind,
    ("reply", "status"): schema.ReplyStatus,
}
_HEX = {
    ("header", "magic"),
    ("header", "flags"),
    ("header", "instrument_id"),
    ("instrument", "id"),
    ("trade", "trade_flags"),
    ("request", "instrument_id"),
}
_TYPES = {
    "u8": "uint8",
    "i8": "int8",
    "u16": "uint16",
    "i16": "int16",
    "u32": "uint32",
    "i32": "int32",
    "u64": "uint64",
    "i64": "int64",
}

_DISSECTOR = """
-- mantissa x 10^exp as exact text
local function decimal(range, exp)
    local text = tostring(range:le_int64())
    if text == UNDEFINED then return "undefined" end
    local sign = ""
    if text:sub(1, 1) == "-" then sign, text = "-", text:sub(2) end
    if exp >= 0 then return sign .. text .. (text == "0" and "" or string.rep("0", exp)) end
    if #text <= -exp then text = string.rep("0", 1 - exp - #text) .. text end
    return sign .. text:sub(1, #text + exp) .. "." .. text:sub(exp)
end

local function add_fields(tree, record, range)
    for _, field in ipairs(RECORDS[record]) do
        tree:add_le(F[record .. "." .. field.name], range(field.offset, field.size))
    end
end

local function label(item, record, header, index, bytes)
    local price_exp, qty_exp = header(36, 1):int(), header(37, 1):int()
    if record == "level" then
        local side = index < header(7, 1):uint() and "bid " or "ask "
        item:set_text(side .. decimal(bytes(0, 8), price_exp) .. " x " .. decimal(bytes(8, 8), qty_exp))
    elseif record == "trade" then
        item:set_text("trade " .. decimal(bytes(8, 8), price_exp) .. " x " .. decimal(bytes(16, 8), qty_exp))
    else
        item:set_text(record .. " " .. index)
    end
end

-- One packet at the start of the range; returns its length, or nil where it is cut.
local function packet(range, pinfo, tree)
    if range:len() < HEADER_SIZE then
        tree:add_tvb_expert_info(E.cut, range)
        return nil
    end
    local header = range(0, HEADER_SIZE)
    local msg_type, flags = header(3, 1):uint(), header(4, 2):le_uint()
    local count, size, payload = header(6, 1):uint(), header(38, 1):uint(), header(64, 2):le_uint()
    local tagged = bit.band(flags, AUTH) ~= 0
    local length = HEADER_SIZE + payload + (tagged and TAG_SIZE or 0)
    local name = MSG_TYPES[msg_type] or ("type " .. msg_type)
    local shown = math.min(length, range:len())
    local top = tree:add(tapecast, range(0, shown), "tapecast " .. name .. ", " .. count .. " items")
    local head = top:add(tapecast, header, "header")
    for _, field in ipairs(RECORDS.header) do
        local leaf = head:add_le(F["header." .. field.name], header(field.offset, field.size))
        if field.name == "flags" then
            for _, flag in ipairs(FLAGS) do leaf:add_le(F["flags." .. flag], header(4, 2)) end
        end
    end
    pinfo.cols.info:append(name .. " seq " .. tostring(header(24, 8):le_uint64()) .. " ")
    if length > range:len() then
        top:add_proto_expert_info(E.cut)
        return nil
    end
    local record = ITEM_OF[msg_type]
    if count * size ~= payload then
        top:add_proto_expert_info(E.items)
    elseif record ~= nil and size >= SIZES[record] then
        local text = ""
        for index = 0, count - 1 do
            local bytes = range(HEADER_SIZE + index * size, size)
            local item = top:add(tapecast, bytes, record)
            label(item, record, header, index, bytes)
            add_fields(item, record, bytes)
            if size > SIZES[record] then item:add(F["item.appended"], bytes(SIZES[record])) end
            if record == "text_chunk" then text = text .. bytes(0, SIZES[record]):raw() end
        end
        if text ~= "" then top:add(F["text"], range(HEADER_SIZE, payload), (text:gsub("%z+$", ""))) end
    elseif payload > 0 then
        top:add(F["payload"], range(HEADER_SIZE, payload))
    end
    if tagged then top:add(F["tag"], range(HEADER_SIZE + payload, TAG_SIZE)) end
    return length
end

-- The monitoring group: plain UTF-8 lines without a header.
local function lines(buffer, pinfo, tree)
    local top = tree:add(tapecast, buffer(), "tapecast monitoring text")
    local first = 0
    for index = 0, buffer:len() do
        if index == buffer:len() or buffer(index, 1):uint() == 10 then
            if index > first then
                local range = buffer(first, index - first)
                top:add(F["line"], range, range:string(ENC_UTF_8))
            end
            first = index + 1
        end
    end
    pinfo.cols.info = "monitoring text"
end

-- Whether the bytes may be the beginning of a packet whose end is in the next TCP segment.
local function goes_on(range)
    if range:len() < HEADER_SIZE then return range:len() < 2 or range(0, 2):le_uint() == MAGIC end
    local tagged = bit.band(range(4, 2):le_uint(), AUTH) ~= 0
    local length = HEADER_SIZE + range(64, 2):le_uint() + (tagged and TAG_SIZE or 0)
    return range(0, 2):le_uint() == MAGIC and length > range:len()
end

function tapecast.dissector(buffer, pinfo, tree)
    if buffer:len() == 0 then return 0 end
    pinfo.cols.protocol = "TAPECAST"
    if pinfo.can_desegment == 0 and (buffer:len() < 2 or buffer(0, 2):le_uint() ~= MAGIC) then
        lines(buffer, pinfo, tree)
        return buffer:len()
    end
    pinfo.cols.info = ""
    -- A capture on the sending host sees runs of packets before the kernel splits them.
    local offset = 0
    while offset < buffer:len() do
        if pinfo.can_desegment > 0 and goes_on(buffer(offset)) then
            pinfo.desegment_offset = offset
            pinfo.desegment_len = DESEGMENT_ONE_MORE_SEGMENT
            return buffer:len()
        end
        local length = packet(buffer(offset), pinfo, tree)
        if length == nil then break end
        offset = offset + length
    end
    return buffer:len()
end

for _, port in ipairs(PORTS) do DissectorTable.get("udp.port"):add(port, tapecast) end
-- The recovery service has any port: "Decode As…", or tshark -d tcp.port==PORT,tapecast
DissectorTable.get("tcp.port"):add_for_decode_as(tapecast)
"""


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _values(enum: type[IntEnum]) -> str:
    return "{" + ", ".join(f"[{member.value}] = {_quote(member.name)}" for member in enum) + "}"


def _proto_field(record: schema.Record, field: schema.Field) -> str:
    prefix = "tapecast" if record is schema.HEADER else f"tapecast.{record.name}"
    names = f"{_quote(f'{prefix}.{field.name}')}, {_quote(field.name)}"
    if field.type == "utf8":
        return f"ProtoField.string({names}, base.UNICODE, {_quote(field.doc)})"
    if field.type == "bytes":
        return f"ProtoField.bytes({names}, base.NONE, {_quote(field.doc)})"
    key = (record.name, field.name)
    base = "base.HEX" if key in _HEX else "base.DEC"
    values = _values(_ENUMS[key]) if key in _ENUMS else _NAMES.get(key, "nil")
    return f"ProtoField.{_TYPES[field.type]}({names}, {base}, {values}, nil, {_quote(field.doc)})"


def _named(names: dict[int, str]) -> str:
    return "{" + ", ".join(f"[{number}] = {_quote(name)}" for number, name in names.items()) + "}"


def _channel_names() -> dict[int, str]:
    names: dict[int, str] = {}
    for base, suffix, registry in (
        (0, "", schema.VENUES),
        (schema.DERIVED_STEP, "", schema.SERVICES),
        (2 * schema.DERIVED_STEP, "-stock", schema.SERVICES),
    ):
        for name, number in registry.items():
            names[base + number] = f"{name}{suffix}"
            names[base + number + schema.REPLICA_STEP] = f"{name}{suffix}-2"
    return names


_NAMES = {
    ("header", "channel_id"): _named(_channel_names()),
    ("header", "venue_id"): _named({number: name for name, number in schema.VENUES.items()}),
}


def lua_dissector() -> str:
    """Return the text of the dissector, for UDP ports 9001 and 9002, and any TCP port that the
    user names.
    """
    flags = [flag for flag in schema.Flag if flag.name is not None]
    out = [
        (
            "-- Generated from protocol/schema.py by `python -m tapecast.protocol.generate`. Do not"
            " edit."
        ),
        "-- Wireshark dissector: wireshark -X lua_script:tapecast.lua",
        'local tapecast = Proto("tapecast", "tapecast market data")',
        (
            f"local MAGIC, HEADER_SIZE, TAG_SIZE = 0x{schema.MAGIC:04X}, {schema.HEADER_SIZE},"
            f" {schema.TAG_SIZE}"
        ),
        (
            f"local AUTH, PORTS = 0x{schema.Flag.AUTH:04X}, {{{schema.PORT_CRYPTO},"
            f" {schema.PORT_STOCK}}}"
        ),
        f'local UNDEFINED = "{schema.UNDEFINED}"',
        f"local MSG_TYPES = {_values(schema.MsgType)}",
        "local ITEM_OF = {"
        + ", ".join(f"[{m.value}] = {_quote(r.name)}" for m, r in schema.ITEM_OF.items())
        + "}",
        "local SIZES = {"
        + ", ".join(f"{record.name} = {record.size}" for record in schema.RECORDS)
        + "}",
        "local FLAGS = {"
        + ", ".join(_quote(flag.name.lower()) for flag in flags if flag.name)
        + "}",
        "local RECORDS = {",
    ]
    for record in schema.RECORDS:
        out.append(f"    {record.name} = {{")
        out.extend(
            f"        {{name = {_quote(f.name)}, offset = {f.offset}, size = {f.size}}},"
            for f in record.fields
        )
        out.append("    },")
    out.append("}")
    out.append("local F = {")
    for record in schema.RECORDS:
        out.extend(
            f"    [{_quote(f'{record.name}.{f.name}')}] = {_proto_field(record, f)},"
            for f in record.fields
        )
    for flag in flags:
        name = f"flags.{str(flag.name).lower()}"
        label = f"{_quote(f'tapecast.{name}')}, {_quote(str(flag.name))}"
        mask = f"16, nil, 0x{flag.value:04X}, {_quote(schema.FLAG_DOC[flag])}"
        out.append(f"    [{_quote(name)}] = ProtoField.bool({label}, {mask}),")
    out.extend(
        [
            (
                '    ["item.appended"] = ProtoField.bytes("tapecast.appended", "appended by a newer'
                ' version"),'
            ),
            '    ["payload"] = ProtoField.bytes("tapecast.payload", "payload of an unknown type"),',
            '    ["tag"] = ProtoField.bytes("tapecast.tag", "authentication tag"),',
            '    ["text"] = ProtoField.string("tapecast.text", "text", base.UNICODE),',
            '    ["line"] = ProtoField.string("tapecast.line", "line", base.UNICODE),',
            "}",
            "tapecast.fields = F",
            "local E = {",
            (
                '    cut = ProtoExpert.new("tapecast.cut", "packet is cut", expert.group.MALFORMED,'
                " expert.severity.ERROR),"
            ),
            (
                '    items = ProtoExpert.new("tapecast.bad_items", "item_count x item_size is not'
                ' payload_len",'
            ),
            "        expert.group.MALFORMED, expert.severity.ERROR),",
            "}",
            "tapecast.experts = E",
        ]
    )
    return "\n".join(out) + "\n" + _DISSECTOR
