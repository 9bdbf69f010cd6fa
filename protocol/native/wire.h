/* Generated from protocol/schema.py by `python -m tapecast.protocol.generate`. Do not edit. */
#ifndef TAPECAST_WIRE_H
#define TAPECAST_WIRE_H
#include <stddef.h>
#include <stdint.h>

#define TC_MAGIC 0x464D
#define TC_VERSION 1
#define TC_HEADER_SIZE 66
#define TC_TAG_SIZE 16
#define TC_MAX_ITEMS 87
#define TC_MAX_PACKET 1472
#define TC_MAX_MANTISSA ((INT64_C(1) << 62) - 1)
#define TC_UNDEFINED INT64_MIN

#define TC_MSG_HEARTBEAT 1
#define TC_MSG_SESSION_START 2
#define TC_MSG_SESSION_END 3
#define TC_MSG_BOOK 16
#define TC_MSG_BBO 17
#define TC_MSG_TRADE 18
#define TC_MSG_STAT 19
#define TC_MSG_LIQUIDATION 20
#define TC_MSG_INSTRUMENT 32
#define TC_MSG_TICK_TABLE 33
#define TC_MSG_STATUS 34
#define TC_MSG_TEXT 48
#define TC_MSG_REQUEST 64
#define TC_MSG_REPLY 65

#define TC_FLAG_LAST 0x0001
#define TC_FLAG_SNAPSHOT 0x0002
#define TC_FLAG_SUSPECT 0x0004
#define TC_FLAG_STALE 0x0008
#define TC_FLAG_REPLAY 0x0010
#define TC_FLAG_TOP_ONLY 0x0020
#define TC_FLAG_BAD_TS_EXCHANGE 0x0040
#define TC_FLAG_BAD_TS_RECV 0x0080
#define TC_FLAG_CONFLATED 0x0100
#define TC_FLAG_RECOVERED 0x0200
#define TC_FLAG_TEST 0x0400
#define TC_FLAG_AUTH 0x0800
#define TC_FLAG_CRITICAL 0x8000

#define TC_SIDE_UNKNOWN 0
#define TC_SIDE_BUY 1
#define TC_SIDE_SELL 2

#define TC_TRADE_FLAG_HASHED_ID 1
#define TC_TRADE_FLAG_BLOCK 2
#define TC_TRADE_FLAG_AUCTION 4
#define TC_TRADE_FLAG_OFF_BOOK 8
#define TC_TRADE_FLAG_REPEATED 16

#define TC_REQUEST_RANGE 1
#define TC_REQUEST_DEFINITIONS 2
#define TC_REQUEST_SNAPSHOT 3

#define TC_REPLY_OK 0
#define TC_REPLY_OVERRUN 1
#define TC_REPLY_OTHER_SESSION 2
#define TC_REPLY_BUSY 3
#define TC_REPLY_BAD_REQUEST 4
#define TC_REPLY_UNKNOWN_INSTRUMENT 5

/* Starts every datagram. */
typedef struct __attribute__((packed)) {
    uint16_t magic;
    uint8_t version;
    uint8_t msg_type;
    uint16_t flags;
    uint8_t item_count;
    uint8_t bid_count;
    uint32_t session;
    uint16_t channel_id;
    uint16_t venue_id;
    uint64_t instrument_id;
    uint64_t channel_seq;
    uint32_t instrument_seq;
    int8_t price_exp;
    int8_t qty_exp;
    uint8_t item_size;
    uint8_t fragment;
    int64_t ts_exchange_ns;
    int64_t ts_recv_ns;
    int64_t ts_send_ns;
    uint16_t payload_len;
} tc_header;
_Static_assert(sizeof(tc_header) == 66, "header");
_Static_assert(offsetof(tc_header, magic) == 0, "header.magic");
_Static_assert(offsetof(tc_header, version) == 2, "header.version");
_Static_assert(offsetof(tc_header, msg_type) == 3, "header.msg_type");
_Static_assert(offsetof(tc_header, flags) == 4, "header.flags");
_Static_assert(offsetof(tc_header, item_count) == 6, "header.item_count");
_Static_assert(offsetof(tc_header, bid_count) == 7, "header.bid_count");
_Static_assert(offsetof(tc_header, session) == 8, "header.session");
_Static_assert(offsetof(tc_header, channel_id) == 12, "header.channel_id");
_Static_assert(offsetof(tc_header, venue_id) == 14, "header.venue_id");
_Static_assert(offsetof(tc_header, instrument_id) == 16, "header.instrument_id");
_Static_assert(offsetof(tc_header, channel_seq) == 24, "header.channel_seq");
_Static_assert(offsetof(tc_header, instrument_seq) == 32, "header.instrument_seq");
_Static_assert(offsetof(tc_header, price_exp) == 36, "header.price_exp");
_Static_assert(offsetof(tc_header, qty_exp) == 37, "header.qty_exp");
_Static_assert(offsetof(tc_header, item_size) == 38, "header.item_size");
_Static_assert(offsetof(tc_header, fragment) == 39, "header.fragment");
_Static_assert(offsetof(tc_header, ts_exchange_ns) == 40, "header.ts_exchange_ns");
_Static_assert(offsetof(tc_header, ts_recv_ns) == 48, "header.ts_recv_ns");
_Static_assert(offsetof(tc_header, ts_send_ns) == 56, "header.ts_send_ns");
_Static_assert(offsetof(tc_header, payload_len) == 64, "header.payload_len");

/* One price level of a book, or one side of a BBO. */
typedef struct __attribute__((packed)) {
    int64_t price;
    int64_t quantity;
} tc_level;
_Static_assert(sizeof(tc_level) == 16, "level");
_Static_assert(offsetof(tc_level, price) == 0, "level.price");
_Static_assert(offsetof(tc_level, quantity) == 8, "level.quantity");

/* One execution; also the item of a liquidation. */
typedef struct __attribute__((packed)) {
    uint64_t trade_id;
    int64_t price;
    int64_t quantity;
    int32_t ts_delta_us;
    uint8_t side;
    uint8_t trade_flags;
    uint16_t condition;
} tc_trade;
_Static_assert(sizeof(tc_trade) == 32, "trade");
_Static_assert(offsetof(tc_trade, trade_id) == 0, "trade.trade_id");
_Static_assert(offsetof(tc_trade, price) == 8, "trade.price");
_Static_assert(offsetof(tc_trade, quantity) == 16, "trade.quantity");
_Static_assert(offsetof(tc_trade, ts_delta_us) == 24, "trade.ts_delta_us");
_Static_assert(offsetof(tc_trade, side) == 28, "trade.side");
_Static_assert(offsetof(tc_trade, trade_flags) == 29, "trade.trade_flags");
_Static_assert(offsetof(tc_trade, condition) == 30, "trade.condition");

/* One statistic. */
typedef struct __attribute__((packed)) {
    int64_t value;
    int64_t ts;
    uint16_t kind;
    int8_t exp;
    uint8_t flags;
    int32_t aux;
} tc_stat;
_Static_assert(sizeof(tc_stat) == 24, "stat");
_Static_assert(offsetof(tc_stat, value) == 0, "stat.value");
_Static_assert(offsetof(tc_stat, ts) == 8, "stat.ts");
_Static_assert(offsetof(tc_stat, kind) == 16, "stat.kind");
_Static_assert(offsetof(tc_stat, exp) == 18, "stat.exp");
_Static_assert(offsetof(tc_stat, flags) == 19, "stat.flags");
_Static_assert(offsetof(tc_stat, aux) == 20, "stat.aux");

/* An instrument definition. */
typedef struct __attribute__((packed)) {
    uint64_t id;
    uint16_t venue;
    uint8_t kind;
    uint8_t state;
    uint32_t version;
    int8_t price_exp;
    int8_t qty_exp;
    uint16_t flags;
    uint32_t reserved;
    int64_t tick;
    int64_t lot;
    int64_t min_qty;
    int64_t min_notional;
    int64_t multiplier;
    int64_t expiry_ns;
    int64_t strike;
    uint8_t symbol[40];
    uint8_t base[12];
    uint8_t quote[12];
    uint8_t settle[12];
    int8_t notional_exp;
    int8_t multiplier_exp;
    int8_t strike_exp;
    uint8_t option_type;
} tc_instrument;
_Static_assert(sizeof(tc_instrument) == 160, "instrument");
_Static_assert(offsetof(tc_instrument, id) == 0, "instrument.id");
_Static_assert(offsetof(tc_instrument, venue) == 8, "instrument.venue");
_Static_assert(offsetof(tc_instrument, kind) == 10, "instrument.kind");
_Static_assert(offsetof(tc_instrument, state) == 11, "instrument.state");
_Static_assert(offsetof(tc_instrument, version) == 12, "instrument.version");
_Static_assert(offsetof(tc_instrument, price_exp) == 16, "instrument.price_exp");
_Static_assert(offsetof(tc_instrument, qty_exp) == 17, "instrument.qty_exp");
_Static_assert(offsetof(tc_instrument, flags) == 18, "instrument.flags");
_Static_assert(offsetof(tc_instrument, reserved) == 20, "instrument.reserved");
_Static_assert(offsetof(tc_instrument, tick) == 24, "instrument.tick");
_Static_assert(offsetof(tc_instrument, lot) == 32, "instrument.lot");
_Static_assert(offsetof(tc_instrument, min_qty) == 40, "instrument.min_qty");
_Static_assert(offsetof(tc_instrument, min_notional) == 48, "instrument.min_notional");
_Static_assert(offsetof(tc_instrument, multiplier) == 56, "instrument.multiplier");
_Static_assert(offsetof(tc_instrument, expiry_ns) == 64, "instrument.expiry_ns");
_Static_assert(offsetof(tc_instrument, strike) == 72, "instrument.strike");
_Static_assert(offsetof(tc_instrument, symbol) == 80, "instrument.symbol");
_Static_assert(offsetof(tc_instrument, base) == 120, "instrument.base");
_Static_assert(offsetof(tc_instrument, quote) == 132, "instrument.quote");
_Static_assert(offsetof(tc_instrument, settle) == 144, "instrument.settle");
_Static_assert(offsetof(tc_instrument, notional_exp) == 156, "instrument.notional_exp");
_Static_assert(offsetof(tc_instrument, multiplier_exp) == 157, "instrument.multiplier_exp");
_Static_assert(offsetof(tc_instrument, strike_exp) == 158, "instrument.strike_exp");
_Static_assert(offsetof(tc_instrument, option_type) == 159, "instrument.option_type");

/* From this price on, this tick applies (KRX, Upbit, Deribit ladders). */
typedef struct __attribute__((packed)) {
    int64_t from_price;
    int64_t tick;
} tc_tick_band;
_Static_assert(sizeof(tc_tick_band) == 16, "tick_band");
_Static_assert(offsetof(tc_tick_band, from_price) == 0, "tick_band.from_price");
_Static_assert(offsetof(tc_tick_band, tick) == 8, "tick_band.tick");

/* A state change of a channel, connection, book or instrument. */
typedef struct __attribute__((packed)) {
    uint8_t scope;
    uint8_t state;
    uint16_t reason;
    uint32_t counts;
    int64_t ts;
    uint8_t detail[16];
} tc_status;
_Static_assert(sizeof(tc_status) == 32, "status");
_Static_assert(offsetof(tc_status, scope) == 0, "status.scope");
_Static_assert(offsetof(tc_status, state) == 1, "status.state");
_Static_assert(offsetof(tc_status, reason) == 2, "status.reason");
_Static_assert(offsetof(tc_status, counts) == 4, "status.counts");
_Static_assert(offsetof(tc_status, ts) == 8, "status.ts");
_Static_assert(offsetof(tc_status, detail) == 16, "status.detail");

/* Health of the publisher; also the item of SESSION_START and SESSION_END. */
typedef struct __attribute__((packed)) {
    uint64_t oldest_seq;
    uint64_t upstream_dropped;
    uint32_t instruments;
    uint32_t suspect;
    uint32_t interval_ms;
    uint16_t recovery_port;
    uint16_t health;
} tc_heartbeat;
_Static_assert(sizeof(tc_heartbeat) == 32, "heartbeat");
_Static_assert(offsetof(tc_heartbeat, oldest_seq) == 0, "heartbeat.oldest_seq");
_Static_assert(offsetof(tc_heartbeat, upstream_dropped) == 8, "heartbeat.upstream_dropped");
_Static_assert(offsetof(tc_heartbeat, instruments) == 16, "heartbeat.instruments");
_Static_assert(offsetof(tc_heartbeat, suspect) == 20, "heartbeat.suspect");
_Static_assert(offsetof(tc_heartbeat, interval_ms) == 24, "heartbeat.interval_ms");
_Static_assert(offsetof(tc_heartbeat, recovery_port) == 28, "heartbeat.recovery_port");
_Static_assert(offsetof(tc_heartbeat, health) == 30, "heartbeat.health");

/* A piece of UTF-8 text; chunks are joined and trailing zero bytes removed. */
typedef struct __attribute__((packed)) {
    uint8_t text[16];
} tc_text_chunk;
_Static_assert(sizeof(tc_text_chunk) == 16, "text_chunk");
_Static_assert(offsetof(tc_text_chunk, text) == 0, "text_chunk.text");

/* What a client of the recovery service asks for. TCP only. */
typedef struct __attribute__((packed)) {
    uint8_t kind;
    uint8_t reserved_8;
    uint16_t reserved_16;
    uint32_t request_id;
    uint64_t first;
    uint64_t instrument_id;
    uint32_t packets;
    uint32_t reserved_32;
} tc_request;
_Static_assert(sizeof(tc_request) == 32, "request");
_Static_assert(offsetof(tc_request, kind) == 0, "request.kind");
_Static_assert(offsetof(tc_request, reserved_8) == 1, "request.reserved_8");
_Static_assert(offsetof(tc_request, reserved_16) == 2, "request.reserved_16");
_Static_assert(offsetof(tc_request, request_id) == 4, "request.request_id");
_Static_assert(offsetof(tc_request, first) == 8, "request.first");
_Static_assert(offsetof(tc_request, instrument_id) == 16, "request.instrument_id");
_Static_assert(offsetof(tc_request, packets) == 24, "request.packets");
_Static_assert(offsetof(tc_request, reserved_32) == 28, "request.reserved_32");

/* Closes an answer of the recovery service. TCP only. */
typedef struct __attribute__((packed)) {
    uint8_t kind;
    uint8_t status;
    uint16_t reserved;
    uint32_t request_id;
    uint64_t first;
    uint64_t next_seq;
    uint32_t packets;
    uint32_t retry_ms;
} tc_reply;
_Static_assert(sizeof(tc_reply) == 32, "reply");
_Static_assert(offsetof(tc_reply, kind) == 0, "reply.kind");
_Static_assert(offsetof(tc_reply, status) == 1, "reply.status");
_Static_assert(offsetof(tc_reply, reserved) == 2, "reply.reserved");
_Static_assert(offsetof(tc_reply, request_id) == 4, "reply.request_id");
_Static_assert(offsetof(tc_reply, first) == 8, "reply.first");
_Static_assert(offsetof(tc_reply, next_seq) == 16, "reply.next_seq");
_Static_assert(offsetof(tc_reply, packets) == 24, "reply.packets");
_Static_assert(offsetof(tc_reply, retry_ms) == 28, "reply.retry_ms");

/* Minimum item size a receiver knows for a message type; 0 = unknown type. */
static inline unsigned tc_min_item_size(unsigned msg_type) {
    switch (msg_type) {
    case TC_MSG_HEARTBEAT: return sizeof(tc_heartbeat);
    case TC_MSG_SESSION_START: return sizeof(tc_heartbeat);
    case TC_MSG_SESSION_END: return sizeof(tc_heartbeat);
    case TC_MSG_BOOK: return sizeof(tc_level);
    case TC_MSG_BBO: return sizeof(tc_level);
    case TC_MSG_TRADE: return sizeof(tc_trade);
    case TC_MSG_STAT: return sizeof(tc_stat);
    case TC_MSG_LIQUIDATION: return sizeof(tc_trade);
    case TC_MSG_INSTRUMENT: return sizeof(tc_instrument);
    case TC_MSG_TICK_TABLE: return sizeof(tc_tick_band);
    case TC_MSG_STATUS: return sizeof(tc_status);
    case TC_MSG_TEXT: return sizeof(tc_text_chunk);
    case TC_MSG_REQUEST: return sizeof(tc_request);
    case TC_MSG_REPLY: return sizeof(tc_reply);
    default: return 0;
    }
}

#endif
