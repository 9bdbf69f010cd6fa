-- Generated from protocol/schema.py by `python -m tapecast.protocol.generate`. Do not edit.
-- Wireshark dissector: wireshark -X lua_script:tapecast.lua
local tapecast = Proto("tapecast", "tapecast market data")
local MAGIC, HEADER_SIZE, TAG_SIZE = 0x464D, 66, 16
local AUTH, PORTS = 0x0800, {9001, 9002}
local UNDEFINED = "-9223372036854775808"
local MSG_TYPES = {[1] = "HEARTBEAT", [2] = "SESSION_START", [3] = "SESSION_END", [16] = "BOOK", [17] = "BBO", [18] = "TRADE", [19] = "STAT", [20] = "LIQUIDATION", [32] = "INSTRUMENT", [33] = "TICK_TABLE", [34] = "STATUS", [48] = "TEXT", [64] = "REQUEST", [65] = "REPLY"}
local ITEM_OF = {[1] = "heartbeat", [2] = "heartbeat", [3] = "heartbeat", [16] = "level", [17] = "level", [18] = "trade", [19] = "stat", [20] = "trade", [32] = "instrument", [33] = "tick_band", [34] = "status", [48] = "text_chunk", [64] = "request", [65] = "reply"}
local SIZES = {header = 66, level = 16, trade = 32, stat = 24, instrument = 160, tick_band = 16, status = 32, heartbeat = 32, text_chunk = 16, request = 32, reply = 32}
local FLAGS = {"last", "snapshot", "suspect", "stale", "replay", "top_only", "bad_ts_exchange", "bad_ts_recv", "conflated", "recovered", "test", "auth", "critical"}
local RECORDS = {
    header = {
        {name = "magic", offset = 0, size = 2},
        {name = "version", offset = 2, size = 1},
        {name = "msg_type", offset = 3, size = 1},
        {name = "flags", offset = 4, size = 2},
        {name = "item_count", offset = 6, size = 1},
        {name = "bid_count", offset = 7, size = 1},
        {name = "session", offset = 8, size = 4},
        {name = "channel_id", offset = 12, size = 2},
        {name = "venue_id", offset = 14, size = 2},
        {name = "instrument_id", offset = 16, size = 8},
        {name = "channel_seq", offset = 24, size = 8},
        {name = "instrument_seq", offset = 32, size = 4},
        {name = "price_exp", offset = 36, size = 1},
        {name = "qty_exp", offset = 37, size = 1},
        {name = "item_size", offset = 38, size = 1},
        {name = "fragment", offset = 39, size = 1},
        {name = "ts_exchange_ns", offset = 40, size = 8},
        {name = "ts_recv_ns", offset = 48, size = 8},
        {name = "ts_send_ns", offset = 56, size = 8},
        {name = "payload_len", offset = 64, size = 2},
    },
    level = {
        {name = "price", offset = 0, size = 8},
        {name = "quantity", offset = 8, size = 8},
    },
    trade = {
        {name = "trade_id", offset = 0, size = 8},
        {name = "price", offset = 8, size = 8},
        {name = "quantity", offset = 16, size = 8},
        {name = "ts_delta_us", offset = 24, size = 4},
        {name = "side", offset = 28, size = 1},
        {name = "trade_flags", offset = 29, size = 1},
        {name = "condition", offset = 30, size = 2},
    },
    stat = {
        {name = "value", offset = 0, size = 8},
        {name = "ts", offset = 8, size = 8},
        {name = "kind", offset = 16, size = 2},
        {name = "exp", offset = 18, size = 1},
        {name = "flags", offset = 19, size = 1},
        {name = "aux", offset = 20, size = 4},
    },
    instrument = {
        {name = "id", offset = 0, size = 8},
        {name = "venue", offset = 8, size = 2},
        {name = "kind", offset = 10, size = 1},
        {name = "state", offset = 11, size = 1},
        {name = "version", offset = 12, size = 4},
        {name = "price_exp", offset = 16, size = 1},
        {name = "qty_exp", offset = 17, size = 1},
        {name = "flags", offset = 18, size = 2},
        {name = "reserved", offset = 20, size = 4},
        {name = "tick", offset = 24, size = 8},
        {name = "lot", offset = 32, size = 8},
        {name = "min_qty", offset = 40, size = 8},
        {name = "min_notional", offset = 48, size = 8},
        {name = "multiplier", offset = 56, size = 8},
        {name = "expiry_ns", offset = 64, size = 8},
        {name = "strike", offset = 72, size = 8},
        {name = "symbol", offset = 80, size = 40},
        {name = "base", offset = 120, size = 12},
        {name = "quote", offset = 132, size = 12},
        {name = "settle", offset = 144, size = 12},
        {name = "notional_exp", offset = 156, size = 1},
        {name = "multiplier_exp", offset = 157, size = 1},
        {name = "strike_exp", offset = 158, size = 1},
        {name = "option_type", offset = 159, size = 1},
    },
    tick_band = {
        {name = "from_price", offset = 0, size = 8},
        {name = "tick", offset = 8, size = 8},
    },
    status = {
        {name = "scope", offset = 0, size = 1},
        {name = "state", offset = 1, size = 1},
        {name = "reason", offset = 2, size = 2},
        {name = "counts", offset = 4, size = 4},
        {name = "ts", offset = 8, size = 8},
        {name = "detail", offset = 16, size = 16},
    },
    heartbeat = {
        {name = "oldest_seq", offset = 0, size = 8},
        {name = "upstream_dropped", offset = 8, size = 8},
        {name = "instruments", offset = 16, size = 4},
        {name = "suspect", offset = 20, size = 4},
        {name = "interval_ms", offset = 24, size = 4},
        {name = "recovery_port", offset = 28, size = 2},
        {name = "health", offset = 30, size = 2},
    },
    text_chunk = {
        {name = "text", offset = 0, size = 16},
    },
    request = {
        {name = "kind", offset = 0, size = 1},
        {name = "reserved_8", offset = 1, size = 1},
        {name = "reserved_16", offset = 2, size = 2},
        {name = "request_id", offset = 4, size = 4},
        {name = "first", offset = 8, size = 8},
        {name = "instrument_id", offset = 16, size = 8},
        {name = "packets", offset = 24, size = 4},
        {name = "reserved_32", offset = 28, size = 4},
    },
    reply = {
        {name = "kind", offset = 0, size = 1},
        {name = "status", offset = 1, size = 1},
        {name = "reserved", offset = 2, size = 2},
        {name = "request_id", offset = 4, size = 4},
        {name = "first", offset = 8, size = 8},
        {name = "next_seq", offset = 16, size = 8},
        {name = "packets", offset = 24, size = 4},
        {name = "retry_ms", offset = 28, size = 4},
    },
}
local F = {
    ["header.magic"] = ProtoField.uint16("tapecast.magic", "magic", base.HEX, nil, nil, "0x464D (bytes 4D 46)"),
    ["header.version"] = ProtoField.uint8("tapecast.version", "version", base.DEC, nil, nil, "1"),
    ["header.msg_type"] = ProtoField.uint8("tapecast.msg_type", "msg_type", base.DEC, {[1] = "HEARTBEAT", [2] = "SESSION_START", [3] = "SESSION_END", [16] = "BOOK", [17] = "BBO", [18] = "TRADE", [19] = "STAT", [20] = "LIQUIDATION", [32] = "INSTRUMENT", [33] = "TICK_TABLE", [34] = "STATUS", [48] = "TEXT", [64] = "REQUEST", [65] = "REPLY"}, nil, "message type"),
    ["header.flags"] = ProtoField.uint16("tapecast.flags", "flags", base.HEX, nil, nil, "flag bits"),
    ["header.item_count"] = ProtoField.uint8("tapecast.item_count", "item_count", base.DEC, nil, nil, "items in the payload, 0-87"),
    ["header.bid_count"] = ProtoField.uint8("tapecast.bid_count", "bid_count", base.DEC, nil, nil, "books: the first bid_count items are bids, the rest asks; otherwise 0"),
    ["header.session"] = ProtoField.uint32("tapecast.session", "session", base.DEC, nil, nil, "publisher epoch: max(last stored + 1, unix seconds); greater is newer"),
    ["header.channel_id"] = ProtoField.uint16("tapecast.channel_id", "channel_id", base.DEC, {[1] = "binance", [101] = "binance-2", [2] = "binance_futures", [102] = "binance_futures-2", [3] = "bybit", [103] = "bybit-2", [4] = "upbit", [104] = "upbit-2", [5] = "coinbase", [105] = "coinbase-2", [6] = "coinbase_exchange", [106] = "coinbase_exchange-2", [7] = "okx", [107] = "okx-2", [8] = "deribit", [108] = "deribit-2", [9] = "bithumb", [109] = "bithumb-2", [10] = "ls", [110] = "ls-2", [11] = "kraken", [111] = "kraken-2", [12] = "binance_coinm", [112] = "binance_coinm-2", [13] = "binance_us", [113] = "binance_us-2", [14] = "bitget", [114] = "bitget-2", [1001] = "l3", [1101] = "l3-2", [1002] = "nbbo", [1102] = "nbbo-2", [1003] = "bars", [1103] = "bars-2", [1004] = "features", [1104] = "features-2", [1005] = "signals", [1105] = "signals-2", [1006] = "orders", [1106] = "orders-2", [2001] = "l3-stock", [2101] = "l3-stock-2", [2002] = "nbbo-stock", [2102] = "nbbo-stock-2", [2003] = "bars-stock", [2103] = "bars-stock-2", [2004] = "features-stock", [2104] = "features-stock-2", [2005] = "signals-stock", [2105] = "signals-stock-2", [2006] = "orders-stock", [2106] = "orders-stock-2"}, nil, "one sequence space = one multicast group (A and B lines share it)"),
    ["header.venue_id"] = ProtoField.uint16("tapecast.venue_id", "venue_id", base.DEC, {[1] = "binance", [2] = "binance_futures", [3] = "bybit", [4] = "upbit", [5] = "coinbase", [6] = "coinbase_exchange", [7] = "okx", [8] = "deribit", [9] = "bithumb", [10] = "ls", [11] = "kraken", [12] = "binance_coinm", [13] = "binance_us", [14] = "bitget"}, nil, "venue registry"),
    ["header.instrument_id"] = ProtoField.uint64("tapecast.instrument_id", "instrument_id", base.HEX, nil, nil, "BLAKE2b-64 of venue.kind.symbol; 0 = not about one instrument"),
    ["header.channel_seq"] = ProtoField.uint64("tapecast.channel_seq", "channel_seq", base.DEC, nil, nil, "+1 per packet on the channel, from 1 in each session"),
    ["header.instrument_seq"] = ProtoField.uint32("tapecast.instrument_seq", "instrument_seq", base.DEC, nil, nil, "+1 per event of this instrument and message type; equal on all its fragments; wraps"),
    ["header.price_exp"] = ProtoField.int8("tapecast.price_exp", "price_exp", base.DEC, nil, nil, "price = mantissa x 10^price_exp"),
    ["header.qty_exp"] = ProtoField.int8("tapecast.qty_exp", "qty_exp", base.DEC, nil, nil, "quantity = mantissa x 10^qty_exp"),
    ["header.item_size"] = ProtoField.uint8("tapecast.item_size", "item_size", base.DEC, nil, nil, "stride of one item; a receiver walks by it, so items may grow at their end"),
    ["header.fragment"] = ProtoField.uint8("tapecast.fragment", "fragment", base.DEC, nil, nil, "0, 1, 2 ... within one event"),
    ["header.ts_exchange_ns"] = ProtoField.int64("tapecast.ts_exchange_ns", "ts_exchange_ns", base.DEC, nil, nil, "matching-engine time where the venue gives one, UTC ns; 0 = unknown"),
    ["header.ts_recv_ns"] = ProtoField.int64("tapecast.ts_recv_ns", "ts_recv_ns", base.DEC, nil, nil, "when the venue's frame was complete at the feeder, UTC ns; 0 = unknown"),
    ["header.ts_send_ns"] = ProtoField.int64("tapecast.ts_send_ns", "ts_send_ns", base.DEC, nil, nil, "just before the send call, UTC ns"),
    ["header.payload_len"] = ProtoField.uint16("tapecast.payload_len", "payload_len", base.DEC, nil, nil, "bytes after the header, without the authentication tag"),
    ["level.price"] = ProtoField.int64("tapecast.level.price", "price", base.DEC, nil, nil, "mantissa"),
    ["level.quantity"] = ProtoField.int64("tapecast.level.quantity", "quantity", base.DEC, nil, nil, "mantissa, absolute; 0 deletes"),
    ["trade.trade_id"] = ProtoField.uint64("tapecast.trade.trade_id", "trade_id", base.DEC, nil, nil, "the venue's number, or BLAKE2b-64 of its text (trade_flags 1)"),
    ["trade.price"] = ProtoField.int64("tapecast.trade.price", "price", base.DEC, nil, nil, "mantissa"),
    ["trade.quantity"] = ProtoField.int64("tapecast.trade.quantity", "quantity", base.DEC, nil, nil, "mantissa"),
    ["trade.ts_delta_us"] = ProtoField.int32("tapecast.trade.ts_delta_us", "ts_delta_us", base.DEC, nil, nil, "execution time against ts_exchange_ns, us"),
    ["trade.side"] = ProtoField.uint8("tapecast.trade.side", "side", base.DEC, {[0] = "UNKNOWN", [1] = "BUY", [2] = "SELL"}, nil, "taker: 0 unknown, 1 buy, 2 sell"),
    ["trade.trade_flags"] = ProtoField.uint8("tapecast.trade.trade_flags", "trade_flags", base.HEX, nil, nil, "1 id is a hash, 2 block, 4 auction, 8 off-book or RPI, 16 repeated"),
    ["trade.condition"] = ProtoField.uint16("tapecast.trade.condition", "condition", base.DEC, nil, nil, "venue's condition code, 0 = none"),
    ["stat.value"] = ProtoField.int64("tapecast.stat.value", "value", base.DEC, nil, nil, "mantissa"),
    ["stat.ts"] = ProtoField.int64("tapecast.stat.ts", "ts", base.DEC, nil, nil, "time the value applies to, UTC ns; 0 = unknown"),
    ["stat.kind"] = ProtoField.uint16("tapecast.stat.kind", "kind", base.DEC, {[1] = "MARK_PRICE", [2] = "INDEX_PRICE", [3] = "FUNDING_RATE", [4] = "OPEN_INTEREST"}, nil, "1 mark price, 2 index price, 3 funding rate, 4 open interest"),
    ["stat.exp"] = ProtoField.int8("tapecast.stat.exp", "exp", base.DEC, nil, nil, "value = mantissa x 10^exp"),
    ["stat.flags"] = ProtoField.uint8("tapecast.stat.flags", "flags", base.DEC, nil, nil, "reserved, 0"),
    ["stat.aux"] = ProtoField.int32("tapecast.stat.aux", "aux", base.DEC, nil, nil, "funding: seconds until it is due; otherwise 0"),
    ["instrument.id"] = ProtoField.uint64("tapecast.instrument.id", "id", base.HEX, nil, nil, "instrument_id"),
    ["instrument.venue"] = ProtoField.uint16("tapecast.instrument.venue", "venue", base.DEC, nil, nil, "venue registry"),
    ["instrument.kind"] = ProtoField.uint8("tapecast.instrument.kind", "kind", base.DEC, {[1] = "SPOT", [2] = "PERPETUAL", [3] = "FUTURE", [4] = "OPTION", [5] = "EQUITY", [6] = "INDEX"}, nil, "1 spot, 2 perpetual, 3 future, 4 option, 5 equity, 6 index"),
    ["instrument.state"] = ProtoField.uint8("tapecast.instrument.state", "state", base.DEC, {[0] = "UNKNOWN", [1] = "TRADING", [2] = "HALTED", [3] = "PRE_OPEN", [4] = "CLOSED", [5] = "DELISTED"}, nil, "0 unknown, 1 trading, 2 halted, 3 pre-open, 4 closed, 5 delisted"),
    ["instrument.version"] = ProtoField.uint32("tapecast.instrument.version", "version", base.DEC, nil, nil, "+1 whenever the definition changes"),
    ["instrument.price_exp"] = ProtoField.int8("tapecast.instrument.price_exp", "price_exp", base.DEC, nil, nil, "exponent of prices, tick and strike"),
    ["instrument.qty_exp"] = ProtoField.int8("tapecast.instrument.qty_exp", "qty_exp", base.DEC, nil, nil, "exponent of quantities, lot and min_qty"),
    ["instrument.flags"] = ProtoField.uint16("tapecast.instrument.flags", "flags", base.DEC, nil, nil, "1 provisional, 2 inverse"),
    ["instrument.reserved"] = ProtoField.uint32("tapecast.instrument.reserved", "reserved", base.DEC, nil, nil, "0"),
    ["instrument.tick"] = ProtoField.int64("tapecast.instrument.tick", "tick", base.DEC, nil, nil, "mantissa at price_exp"),
    ["instrument.lot"] = ProtoField.int64("tapecast.instrument.lot", "lot", base.DEC, nil, nil, "mantissa at qty_exp"),
    ["instrument.min_qty"] = ProtoField.int64("tapecast.instrument.min_qty", "min_qty", base.DEC, nil, nil, "mantissa at qty_exp"),
    ["instrument.min_notional"] = ProtoField.int64("tapecast.instrument.min_notional", "min_notional", base.DEC, nil, nil, "mantissa at notional_exp"),
    ["instrument.multiplier"] = ProtoField.int64("tapecast.instrument.multiplier", "multiplier", base.DEC, nil, nil, "contract size, mantissa at multiplier_exp"),
    ["instrument.expiry_ns"] = ProtoField.int64("tapecast.instrument.expiry_ns", "expiry_ns", base.DEC, nil, nil, "UTC ns; 0 = none"),
    ["instrument.strike"] = ProtoField.int64("tapecast.instrument.strike", "strike", base.DEC, nil, nil, "mantissa at strike_exp"),
    ["instrument.symbol"] = ProtoField.string("tapecast.instrument.symbol", "symbol", base.UNICODE, "the venue's own symbol, zero padded"),
    ["instrument.base"] = ProtoField.string("tapecast.instrument.base", "base", base.UNICODE, "zero padded; empty = unknown or longer"),
    ["instrument.quote"] = ProtoField.string("tapecast.instrument.quote", "quote", base.UNICODE, "zero padded; empty = unknown or longer"),
    ["instrument.settle"] = ProtoField.string("tapecast.instrument.settle", "settle", base.UNICODE, "zero padded; empty = unknown or longer"),
    ["instrument.notional_exp"] = ProtoField.int8("tapecast.instrument.notional_exp", "notional_exp", base.DEC, nil, nil, "exponent of min_notional"),
    ["instrument.multiplier_exp"] = ProtoField.int8("tapecast.instrument.multiplier_exp", "multiplier_exp", base.DEC, nil, nil, "exponent of multiplier"),
    ["instrument.strike_exp"] = ProtoField.int8("tapecast.instrument.strike_exp", "strike_exp", base.DEC, nil, nil, "exponent of strike"),
    ["instrument.option_type"] = ProtoField.uint8("tapecast.instrument.option_type", "option_type", base.DEC, {[0] = "NONE", [1] = "CALL", [2] = "PUT"}, nil, "0 none, 1 call, 2 put"),
    ["tick_band.from_price"] = ProtoField.int64("tapecast.tick_band.from_price", "from_price", base.DEC, nil, nil, "mantissa at price_exp"),
    ["tick_band.tick"] = ProtoField.int64("tapecast.tick_band.tick", "tick", base.DEC, nil, nil, "mantissa at price_exp"),
    ["status.scope"] = ProtoField.uint8("tapecast.status.scope", "scope", base.DEC, {[1] = "CHANNEL", [2] = "CONNECTION", [3] = "BOOK", [4] = "INSTRUMENT"}, nil, "1 channel, 2 connection, 3 book, 4 instrument"),
    ["status.state"] = ProtoField.uint8("tapecast.status.state", "state", base.DEC, {[0] = "IDLE", [1] = "SUBSCRIBING", [2] = "WAIT_SNAPSHOT", [3] = "SYNCING", [4] = "LIVE", [5] = "SUSPECT", [6] = "STALE", [7] = "RESYNC", [16] = "CONNECTED", [17] = "DISCONNECTED"}, nil, "the new state"),
    ["status.reason"] = ProtoField.uint16("tapecast.status.reason", "reason", base.DEC, {[0] = "NONE", [1] = "GAP", [2] = "CHECKSUM", [3] = "CROSSED", [4] = "DISCONNECTED", [5] = "TIMEOUT", [6] = "OVERFLOW", [7] = "QUARANTINE", [8] = "STALE_SNAPSHOT", [9] = "EXPONENT", [10] = "RESTART", [11] = "FIRST_SYNC", [12] = "RESYNCED", [13] = "UNTRUSTED"}, nil, "why"),
    ["status.counts"] = ProtoField.uint32("tapecast.status.counts", "counts", base.DEC, nil, nil, "how many events or connections this is about"),
    ["status.ts"] = ProtoField.int64("tapecast.status.ts", "ts", base.DEC, nil, nil, "when, UTC ns"),
    ["status.detail"] = ProtoField.bytes("tapecast.status.detail", "detail", base.NONE, "reason GAP or CHECKSUM: expected u64, got u64; otherwise UTF-8 text, zero padded"),
    ["heartbeat.oldest_seq"] = ProtoField.uint64("tapecast.heartbeat.oldest_seq", "oldest_seq", base.DEC, nil, nil, "oldest repairable channel_seq; 0 = nothing is repairable"),
    ["heartbeat.upstream_dropped"] = ProtoField.uint64("tapecast.heartbeat.upstream_dropped", "upstream_dropped", base.DEC, nil, nil, "venue messages lost before they reached a packet"),
    ["heartbeat.instruments"] = ProtoField.uint32("tapecast.heartbeat.instruments", "instruments", base.DEC, nil, nil, "defined on this channel"),
    ["heartbeat.suspect"] = ProtoField.uint32("tapecast.heartbeat.suspect", "suspect", base.DEC, nil, nil, "books not LIVE"),
    ["heartbeat.interval_ms"] = ProtoField.uint32("tapecast.heartbeat.interval_ms", "interval_ms", base.DEC, nil, nil, "the next heartbeat comes within this time"),
    ["heartbeat.recovery_port"] = ProtoField.uint16("tapecast.heartbeat.recovery_port", "recovery_port", base.DEC, nil, nil, "TCP; 0 = none"),
    ["heartbeat.health"] = ProtoField.uint16("tapecast.heartbeat.health", "health", base.DEC, nil, nil, "0 good, 1 degraded, 2 no venue connection"),
    ["text_chunk.text"] = ProtoField.bytes("tapecast.text_chunk.text", "text", base.NONE, "UTF-8, zero padded"),
    ["request.kind"] = ProtoField.uint8("tapecast.request.kind", "kind", base.DEC, {[1] = "RANGE", [2] = "DEFINITIONS", [3] = "SNAPSHOT"}, nil, "1 range, 2 definitions, 3 snapshot"),
    ["request.reserved_8"] = ProtoField.uint8("tapecast.request.reserved_8", "reserved_8", base.DEC, nil, nil, "0"),
    ["request.reserved_16"] = ProtoField.uint16("tapecast.request.reserved_16", "reserved_16", base.DEC, nil, nil, "0"),
    ["request.request_id"] = ProtoField.uint32("tapecast.request.request_id", "request_id", base.DEC, nil, nil, "the client's number, repeated in the reply"),
    ["request.first"] = ProtoField.uint64("tapecast.request.first", "first", base.DEC, nil, nil, "range: first channel_seq wanted; otherwise 0"),
    ["request.instrument_id"] = ProtoField.uint64("tapecast.request.instrument_id", "instrument_id", base.HEX, nil, nil, "definitions, snapshot: this instrument, 0 = all; range: 0"),
    ["request.packets"] = ProtoField.uint32("tapecast.request.packets", "packets", base.DEC, nil, nil, "range: packets wanted, 1-512; otherwise 0"),
    ["request.reserved_32"] = ProtoField.uint32("tapecast.request.reserved_32", "reserved_32", base.DEC, nil, nil, "0"),
    ["reply.kind"] = ProtoField.uint8("tapecast.reply.kind", "kind", base.DEC, {[1] = "RANGE", [2] = "DEFINITIONS", [3] = "SNAPSHOT"}, nil, "of the request; 0 where none could be read"),
    ["reply.status"] = ProtoField.uint8("tapecast.reply.status", "status", base.DEC, {[0] = "OK", [1] = "OVERRUN", [2] = "OTHER_SESSION", [3] = "BUSY", [4] = "BAD_REQUEST", [5] = "UNKNOWN_INSTRUMENT"}, nil, "how it went"),
    ["reply.reserved"] = ProtoField.uint16("tapecast.reply.reserved", "reserved", base.DEC, nil, nil, "0"),
    ["reply.request_id"] = ProtoField.uint32("tapecast.reply.request_id", "request_id", base.DEC, nil, nil, "of the request"),
    ["reply.first"] = ProtoField.uint64("tapecast.reply.first", "first", base.DEC, nil, nil, "range: channel_seq of the first packet served; 0 = none"),
    ["reply.next_seq"] = ProtoField.uint64("tapecast.reply.next_seq", "next_seq", base.DEC, nil, nil, "channel_seq that the publisher sends next"),
    ["reply.packets"] = ProtoField.uint32("tapecast.reply.packets", "packets", base.DEC, nil, nil, "packets of this answer that came before the reply"),
    ["reply.retry_ms"] = ProtoField.uint32("tapecast.reply.retry_ms", "retry_ms", base.DEC, nil, nil, "BUSY: ask again after this time; otherwise 0"),
    ["flags.last"] = ProtoField.bool("tapecast.flags.last", "LAST", 16, nil, 0x0001, "last fragment of the event"),
    ["flags.snapshot"] = ProtoField.bool("tapecast.flags.snapshot", "SNAPSHOT", 16, nil, 0x0002, "replaces the instrument's whole book; otherwise a delta, quantity 0 deletes"),
    ["flags.suspect"] = ProtoField.bool("tapecast.flags.suspect", "SUSPECT", 16, nil, 0x0004, "upstream loss not yet repaired"),
    ["flags.stale"] = ProtoField.bool("tapecast.flags.stale", "STALE", 16, nil, 0x0008, "the source has been silent beyond its limit"),
    ["flags.replay"] = ProtoField.bool("tapecast.flags.replay", "REPLAY", 16, nil, 0x0010, "from a recording; order management refuses to trade on it unless started for replay"),
    ["flags.top_only"] = ProtoField.bool("tapecast.flags.top_only", "TOP_ONLY", 16, nil, 0x0020, "depth is truncated by the venue"),
    ["flags.bad_ts_exchange"] = ProtoField.bool("tapecast.flags.bad_ts_exchange", "BAD_TS_EXCHANGE", 16, nil, 0x0040, "exchange time missing, out of range or coarser than 1 ms"),
    ["flags.bad_ts_recv"] = ProtoField.bool("tapecast.flags.bad_ts_recv", "BAD_TS_RECV", 16, nil, 0x0080, "local clock unsynchronised or stepped"),
    ["flags.conflated"] = ProtoField.bool("tapecast.flags.conflated", "CONFLATED", 16, nil, 0x0100, "several venue events merged"),
    ["flags.recovered"] = ProtoField.bool("tapecast.flags.recovered", "RECOVERED", 16, nil, 0x0200, "came from a resync, not from the live push"),
    ["flags.test"] = ProtoField.bool("tapecast.flags.test", "TEST", 16, nil, 0x0400, "testnet"),
    ["flags.auth"] = ProtoField.bool("tapecast.flags.auth", "AUTH", 16, nil, 0x0800, "a 16-byte tag follows the payload"),
    ["flags.critical"] = ProtoField.bool("tapecast.flags.critical", "CRITICAL", 16, nil, 0x8000, "reserved: a receiver that does not know it drops the packet"),
    ["item.appended"] = ProtoField.bytes("tapecast.appended", "appended by a newer version"),
    ["payload"] = ProtoField.bytes("tapecast.payload", "payload of an unknown type"),
    ["tag"] = ProtoField.bytes("tapecast.tag", "authentication tag"),
    ["text"] = ProtoField.string("tapecast.text", "text", base.UNICODE),
    ["line"] = ProtoField.string("tapecast.line", "line", base.UNICODE),
}
tapecast.fields = F
local E = {
    cut = ProtoExpert.new("tapecast.cut", "packet is cut", expert.group.MALFORMED, expert.severity.ERROR),
    items = ProtoExpert.new("tapecast.bad_items", "item_count x item_size is not payload_len",
        expert.group.MALFORMED, expert.severity.ERROR),
}
tapecast.experts = E

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
