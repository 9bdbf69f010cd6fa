/* Scaling and packets. Everything is scaled before the first byte is written, so a refused frame leaves the output alone.
 * Reference: feeder/extract/packets.py. */
#include "extract_emit.h"
#include "number.h"
#include "wire.h"

#define MAX_FRAGMENTS 256

enum { INEXACT = 1, TOO_LARGE = 2 };

/* Price and quantity in place, both or none. */
static inline int scale_pair(int64_t *price, int price_exp, int64_t *quantity, int quantity_exp, const tcx_instrument *instrument) {
    int64_t scaled_price, scaled_quantity;
    int problem = tc_scale(*price, price_exp, instrument->price_exp, &scaled_price) |
                  tc_scale(*quantity, quantity_exp, instrument->qty_exp, &scaled_quantity);
    if (__builtin_expect(problem, 0)) return problem;
    *price = scaled_price;
    *quantity = scaled_quantity;
    return 0;
}

static void need(tcx_result *r, int64_t price, int price_exp, int64_t quantity, int quantity_exp) {
    int exponent = tc_minimal_exponent(price, price_exp);
    if (price != 0 && exponent < r->need_price_exp) r->need_price_exp = exponent;
    exponent = tc_minimal_exponent(quantity, quantity_exp);
    if (quantity != 0 && exponent < r->need_qty_exp) r->need_qty_exp = exponent;
}

static void begin_need(const tc_target *target) {
    target->x->r.need_price_exp = target->instrument->price_exp;
    target->x->r.need_qty_exp = target->instrument->qty_exp;
}

static int refuse(tcx_result *r, int problems) { return r->status = problems & TOO_LARGE ? TC_TOO_LARGE : TC_INEXACT; }

/* Scale rows up to the first that does not fit; returns how many were. */
static int64_t scale_side(const tc_target *target, const tc_side *side) {
    const tcx_instrument instrument = *target->instrument;
    tcx_row *row = side->rows;
    int64_t i = 0;
    for (; i < side->count; i++, row += side->step)
        if (scale_pair(&row->price, row->price_exp, &row->quantity, row->quantity_exp, &instrument)) break;
    return i;
}

/* What a side needs whose first `scaled` rows are scaled already; returns the problems. */
static int side_needs(const tc_target *target, const tc_side *side, int64_t scaled) {
    const tcx_instrument *instrument = target->instrument;
    const tcx_row *row = side->rows;
    int problems = 0;
    for (int64_t i = 0; i < side->count; i++, row += side->step) {
        int price_exp = i < scaled ? instrument->price_exp : row->price_exp;
        int quantity_exp = i < scaled ? instrument->qty_exp : row->quantity_exp;
        int64_t price = row->price, quantity = row->quantity;
        problems |= scale_pair(&price, price_exp, &quantity, quantity_exp, instrument);
        need(&target->x->r, row->price, price_exp, row->quantity, quantity_exp);
    }
    return problems;
}

static void start_header(const tc_target *target, tc_header *header, unsigned item_size, int64_t ts_exchange_ns) {
    const tcx_extractor *x = target->x;
    memset(header, 0, sizeof *header);
    header->magic = TC_MAGIC;
    header->version = TC_VERSION;
    header->msg_type = (uint8_t)target->msg_type;
    header->channel_id = (uint16_t)x->channel_id;
    header->venue_id = (uint16_t)x->venue_id;
    header->instrument_id = target->instrument->id;
    header->instrument_seq = (uint32_t)(target->instrument - x->instruments);
    header->price_exp = (int8_t)target->instrument->price_exp;
    header->qty_exp = (int8_t)target->instrument->qty_exp;
    header->item_size = (uint8_t)item_size;
    header->ts_exchange_ns = ts_exchange_ns;
    header->ts_recv_ns = target->ts_recv_ns;
}

static int64_t items_per_packet(const tcx_extractor *x, unsigned item_size) {
    int64_t fit = (x->max_payload - TC_HEADER_SIZE) / (int64_t)item_size;
    return fit < TC_MAX_ITEMS ? fit : TC_MAX_ITEMS;
}

static int64_t packets_for(int64_t items, int64_t per_packet) { return items == 0 ? 1 : (items + per_packet - 1) / per_packet; }

/* Fragment and flags of packet `number` of `total`: an event has at most 256, what follows is a delta. */
static void number_packet(tc_header *header, int flags, int64_t number, int64_t total) {
    header->fragment = (uint8_t)(number % MAX_FRAGMENTS);
    if (number >= MAX_FRAGMENTS) flags &= ~TC_FLAG_SNAPSHOT;
    if (number == total - 1 || header->fragment == MAX_FRAGMENTS - 1) flags |= TC_FLAG_LAST;
    header->flags = (uint16_t)flags;
}

static int reserve(const tc_target *target, int64_t packets, int64_t items, unsigned item_size) {
    tcx_extractor *x = target->x;
    int64_t bytes = packets * TC_HEADER_SIZE + items * (int64_t)item_size;
    if (target->pos < 0 || bytes > x->out_capacity || target->pos > x->out_capacity - bytes) {
        x->r.need_bytes = bytes;
        return x->r.status = TC_NO_SPACE;
    }
    x->r.nbytes = bytes;
    x->r.packets = (int32_t)packets;
    x->r.items = (int32_t)items;
    return 0;
}

static inline uint8_t *write_levels(uint8_t *out, const tcx_row **row, int64_t step, int64_t count) {
    const tcx_row *from = *row;
    for (int64_t i = 0; i < count; i++, from += step, out += sizeof(tc_level)) memcpy(out, from, sizeof(tc_level));
    *row = from;
    return out;
}

int tc_emit_levels(const tc_target *target, tc_side *bids, tc_side *asks, int64_t ts_exchange_ns) {
    tcx_extractor *x = target->x;
    int64_t scaled_bids = scale_side(target, bids), scaled_asks = scale_side(target, asks);
    if (__builtin_expect(scaled_bids < bids->count || scaled_asks < asks->count, 0)) {
        begin_need(target);
        return refuse(&x->r, side_needs(target, bids, scaled_bids) | side_needs(target, asks, scaled_asks));
    }
    int64_t total = bids->count + asks->count, per_packet = items_per_packet(x, sizeof(tc_level));
    int64_t packets = total <= per_packet ? 1 : packets_for(total, per_packet);
    if (reserve(target, packets, total, sizeof(tc_level))) return x->r.status;
    tc_header header;
    start_header(target, &header, sizeof(tc_level), ts_exchange_ns);
    uint8_t *out = x->out + target->pos;
    const tcx_row *bid = bids->rows, *ask = asks->rows;
    int64_t bids_left = bids->count, asks_left = asks->count;
    for (int64_t number = 0; number < packets; number++) {
        int64_t nb = bids_left < per_packet ? bids_left : per_packet;
        int64_t na = asks_left < per_packet - nb ? asks_left : per_packet - nb;
        number_packet(&header, target->flags, number, packets);
        header.item_count = (uint8_t)(nb + na);
        header.bid_count = (uint8_t)nb;
        header.payload_len = (uint16_t)((nb + na) * (int64_t)sizeof(tc_level));
        memcpy(out, &header, sizeof header);
        out = write_levels(out + sizeof header, &bid, bids->step, nb);
        out = write_levels(out, &ask, asks->step, na);
        bids_left -= nb;
        asks_left -= na;
    }
    return x->r.status = TC_OK;
}

/* End of the event that starts at trade `first`. */
static int64_t event_end(const tcx_raw_trade *trades, int64_t first, int64_t count) {
    int64_t i = first + 1;
    for (; i < count; i++) {
        int64_t delta = trades[i].ts - trades[first].ts;
        if (trades[i].bad_ts != trades[first].bad_ts || delta % 1000 != 0) break;
        if (delta / 1000 < INT32_MIN || delta / 1000 > INT32_MAX) break;
    }
    return i;
}

static uint8_t *write_trades(uint8_t *out, const tcx_raw_trade *trades, int64_t count, int64_t base) {
    for (int64_t i = 0; i < count; i++, out += sizeof(tc_trade)) {
        tc_trade item = {trades[i].trade_id, trades[i].price,     trades[i].quantity, (int32_t)((trades[i].ts - base) / 1000),
                         trades[i].side,     trades[i].flags, trades[i].condition};
        memcpy(out, &item, sizeof item);
    }
    return out;
}

/* What trades need of which the first `scaled` are scaled already; returns the problems. */
static int trade_needs(const tc_target *target, const tcx_raw_trade *trades, int64_t scaled, int64_t count) {
    const tcx_instrument *instrument = target->instrument;
    int problems = 0;
    begin_need(target);
    for (int64_t i = 0; i < count; i++) {
        int price_exp = i < scaled ? instrument->price_exp : trades[i].price_exp;
        int quantity_exp = i < scaled ? instrument->qty_exp : trades[i].quantity_exp;
        int64_t price = trades[i].price, quantity = trades[i].quantity;
        problems |= scale_pair(&price, price_exp, &quantity, quantity_exp, instrument);
        need(&target->x->r, trades[i].price, price_exp, trades[i].quantity, quantity_exp);
    }
    return problems;
}

int tc_emit_trades(const tc_target *target, tcx_raw_trade *trades, int64_t count) {
    tcx_extractor *x = target->x;
    for (int64_t i = 0; i < count; i++)
        if (scale_pair(&trades[i].price, trades[i].price_exp, &trades[i].quantity, trades[i].quantity_exp, target->instrument))
            return refuse(&x->r, trade_needs(target, trades, i, count));
    int64_t per_packet = items_per_packet(x, sizeof(tc_trade)), packets = 0, end;
    for (int64_t first = 0; first < count; first = end) {
        end = event_end(trades, first, count);
        packets += packets_for(end - first, per_packet);
    }
    if (reserve(target, packets, count, sizeof(tc_trade))) return x->r.status;
    uint8_t *out = x->out + target->pos;
    for (int64_t first = 0; first < count; first = end) {
        tc_header header;
        end = event_end(trades, first, count);
        start_header(target, &header, sizeof(tc_trade), trades[first].ts);
        int flags = target->flags | (trades[first].bad_ts ? TC_FLAG_BAD_TS_EXCHANGE : 0);
        int64_t in_event = packets_for(end - first, per_packet);
        for (int64_t number = 0, i = first; number < in_event; number++) {
            int64_t n = end - i < per_packet ? end - i : per_packet;
            number_packet(&header, flags, number, in_event);
            header.item_count = (uint8_t)n;
            header.payload_len = (uint16_t)(n * (int64_t)sizeof(tc_trade));
            memcpy(out, &header, sizeof header);
            out = write_trades(out + sizeof header, trades + i, n, trades[first].ts);
            i += n;
        }
    }
    return x->r.status = TC_OK;
}

static uint8_t *write_stats(uint8_t *out, const tc_raw_stat *stats, int64_t count) {
    for (int64_t i = 0; i < count; i++, out += sizeof(tc_stat)) {
        tc_stat item = {stats[i].value, stats[i].ts, (uint16_t)stats[i].kind, (int8_t)stats[i].exponent, 0, stats[i].aux};
        memcpy(out, &item, sizeof item);
    }
    return out;
}

int tc_emit_stats(const tc_target *target, const tc_raw_stat *stats, int64_t count, int64_t ts_exchange_ns) {
    tcx_extractor *x = target->x;
    int64_t per_packet = items_per_packet(x, sizeof(tc_stat)), packets = packets_for(count, per_packet);
    if (reserve(target, packets, count, sizeof(tc_stat))) return x->r.status;
    tc_header header;
    start_header(target, &header, sizeof(tc_stat), ts_exchange_ns);
    uint8_t *out = x->out + target->pos;
    for (int64_t number = 0, i = 0; number < packets; number++) {
        int64_t n = count - i < per_packet ? count - i : per_packet;
        number_packet(&header, target->flags, number, packets);
        header.item_count = (uint8_t)n;
        header.payload_len = (uint16_t)(n * (int64_t)sizeof(tc_stat));
        memcpy(out, &header, sizeof header);
        out = write_stats(out + sizeof header, stats + i, n);
        i += n;
    }
    return x->r.status = TC_OK;
}
