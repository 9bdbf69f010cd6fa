/* Which shape a read frame has, its values converted, its packets ordered. The checks keep the order of
 * feeder/extract/read.py, so a frame with several defects gets the same status from both. */
#include "blake2b.h"
#include "extract_emit.h"
#include "extract_scan.h"
#include "extract_stats.h"
#include "wire.h"

enum { ID_NUMBER = 1, ID_TEXT, ID_EITHER };

enum { FLAG_SOURCES = 2 };

/* Whether a source of trade flags is declared, present and not null. */
static int has_flags(const tc_view *v, int source) {
    int slot = v->shape->trade_flags[source];
    return slot >= 0 && (v->seen & TC_BIT(slot)) != 0 && v->slots[slot].kind != TC_KIND_NULL;
}

static const tcx_choice *flags_of(const tc_view *v, int source) {
    const tcx_shape *shape = v->shape;
    return tc_choice_of(v, shape->trade_flags[source], shape->first_flag[source], shape->flags[source]);
}

/* Whether the trade flags say another shape: a value that is present and unknown. */
static int flags_differ(const tc_view *v) {
    for (int source = 0; source < FLAG_SOURCES; source++)
        if (has_flags(v, source) && flags_of(v, source) == NULL) return 1;
    return 0;
}

/* Whether the id at a slot is a text that has to be hashed. */
static int is_hashed(const tc_view *v, const tcx_slot *s) {
    uint64_t number;
    int negative, saturated;
    if (s->kind != TC_KIND_STRING || v->shape->trade_id_kind == ID_NUMBER) return 0;
    if (v->shape->trade_id_kind == ID_TEXT || s->length < 1 || s->length > 20) return 1;
    return tc_parse_integer(tc_text_of(v, s), s->length, &number, &negative, &saturated) || negative || saturated;
}

static int read_trade_id(const tc_view *v, tcx_raw_trade *trade) {
    const tcx_slot *s = &v->slots[v->shape->trade_id];
    int negative, saturated;
    if (is_hashed(v, s)) {
        trade->trade_id = tc_blake2b64(tc_text_of(v, s), s->length);
        trade->flags = TC_TRADE_FLAG_HASHED_ID;
        return 0;
    }
    if (v->shape->trade_id_kind == ID_TEXT) return -1;
    if (tc_integer_of(v, v->shape->trade_id, &trade->trade_id, &negative, &saturated)) return -1;
    return saturated || (negative && trade->trade_id != 0) ? -1 : 0;
}

/* One trade; 0, or -1 where a value is of another type. */
static int read_trade(const tc_view *v, tcx_raw_trade *trade) {
    const tcx_shape *shape = v->shape;
    tc_decimal price, quantity;
    if (tc_decimal_of(v, shape->price, 1, &price) || tc_decimal_of(v, shape->quantity, 0, &quantity)) return -1;
    memset(trade, 0, sizeof *trade);
    trade->price = price.mantissa;
    trade->price_exp = (int16_t)price.exponent;
    trade->quantity = quantity.mantissa;
    trade->quantity_exp = (int16_t)quantity.exponent;
    if (shape->trade_id >= 0 && !tc_is_left_out(v, shape->trade_id) && read_trade_id(v, trade)) return -1;
    if (shape->side >= 0 && !tc_is_left_out(v, shape->side)) {
        const tcx_choice *side = tc_choice_of(v, shape->side, shape->first_side, shape->sides);
        if (side == NULL) return -1;
        trade->side = (uint8_t)side->value;
    }
    for (int source = 0; source < FLAG_SOURCES; source++)
        if (has_flags(v, source)) trade->flags |= (uint8_t)flags_of(v, source)->value;
    if (shape->condition >= 0 && (v->seen & TC_BIT(shape->condition)) != 0) {
        const tcx_choice *condition = tc_choice_of(v, shape->condition, shape->first_condition, shape->conditions);
        if (condition != NULL) trade->condition = (uint16_t)condition->value;
    }
    int time = tc_time_of(v, shape->ts, shape->time_unit, &trade->ts);
    if (time == TC_TIME_WRONG) return -1;
    trade->bad_ts = time == TC_TIME_BAD;
    return 0;
}

/* Rows of a slot as a side; 0, or -1 where they are of another type. */
static int rows_of(const tc_view *v, int slot, int first, int step, tc_side *side) {
    side->rows = v->reading->x->rows;
    side->step = step;
    side->count = 0;
    if (slot < 0 || tc_is_left_out(v, slot)) return 0;
    const tcx_slot *s = &v->slots[slot];
    if (s->kind != TC_KIND_ROWS) return -1;
    if (s->form & (TC_FORM_WRONG | (v->shape->bare ? TC_FORM_QUOTED : TC_FORM_BARE))) return -1;
    side->rows += s->offset + first;
    side->count = s->length / (uint32_t)step;
    return 0;
}

/* A side whose levels are two scalars each, written to the free rows behind those that were read. In a book a blank is a 0, but
 * no quantity where there is a price. */
static int quotes_of(const tc_view *v, const int16_t *slots, int count, tc_side *side) {
    const int book = v->shape->msg_type == TC_MSG_BOOK;
    tcx_row *row = &v->reading->x->rows[v->reading->row_count];
    *side = (tc_side){row, 1, count};
    v->reading->row_count += count;
    for (; count > 0; count--, row++, slots += 2) {
        tc_decimal values[2] = {{0, 0}, {0, 0}};
        for (int i = 0; i < 2; i++) {
            if (tc_is_left_out(v, slots[i]) || (book && tc_is_blank(v, slots[i]))) {
                if (book && i == 1 && values[0].mantissa != 0) return -1;
            } else if (tc_decimal_of(v, slots[i], i == 0, &values[i])) {
                return -1;
            }
        }
        *row = (tcx_row){values[0].mantissa, values[1].mantissa, (int16_t)values[0].exponent, (int16_t)values[1].exponent, 0};
    }
    return 0;
}

/* Keep the rows whose price and quantity are not 0, as asked. */
static void leave_out(tc_side *side, int zero_price, int zero_quantity) {
    int64_t kept = 0;
    for (int64_t i = 0; i < side->count; i++) {
        const tcx_row *row = &side->rows[i * side->step];
        if ((zero_price && row->price == 0) || (zero_quantity && row->quantity == 0)) continue;
        if (kept != i) side->rows[kept * side->step] = *row;
        kept++;
    }
    side->count = kept;
}

/* Rows of both sides, bids first, as two sides; 0, or -1 where they are of another type. */
static int split_levels(const tc_view *v, tc_side sides[2]) {
    tc_side *bids = &sides[0];
    if (rows_of(v, v->shape->levels, 0, 1, bids)) return -1;
    int64_t total = bids->count;
    for (bids->count = 0; bids->count < total && bids->rows[bids->count].side == 0; bids->count++) {}
    sides[1] = (tc_side){bids->rows + bids->count, 1, total - bids->count};
    return 0;
}

/* Bids and asks of the shape; 0, or -1. */
static int sides_of(const tc_view *v, tc_side sides[2], int snapshot) {
    const tcx_shape *shape = v->shape;
    if (shape->levels >= 0 && split_levels(v, sides)) return -1;
    const int step = shape->pairs >= 0 ? 2 : 1;
    for (int i = 0; i < 2; i++) {
        tc_side *side = &sides[i];
        int slot = step == 2 ? shape->pairs : i == 0 ? shape->bids : shape->asks;
        if (shape->levels < 0 && rows_of(v, slot, step == 2 ? i : 0, step, side)) return -1;
        const int quotes = i == 0 ? shape->bid_quotes : shape->ask_quotes;
        if (quotes > 0 && quotes_of(v, &shape->quotes[i == 0 ? 0 : 2 * shape->bid_quotes], quotes, side)) return -1;
        if (shape->msg_type == TC_MSG_BBO) {
            if (side->count > 1) side->count = 1;
            leave_out(side, 1, 1);
        } else if (step == 2 || snapshot) {
            leave_out(side, step == 2 || quotes > 0, snapshot);
        }
    }
    return 0;
}

static int fail(tcx_result *r, int status) { return r->status = status; }

/* The slot of the symbol, NULL where the caller names the instrument; 0, or -1 where it is of another type or not one. */
static int symbol_of(const tc_view *v, const tcx_element *elements, int64_t count, const tcx_slot **symbol) {
    const tcx_shape *shape = v->shape;
    const uint8_t *start = v->reading->scan.start;
    *symbol = NULL;
    if (shape->symbol >= 0) {
        *symbol = &v->slots[shape->symbol];
        return (*symbol)->kind == TC_KIND_STRING ? 0 : -1;
    }
    if (shape->each_symbol < 0) return 0;
    *symbol = &elements[0].slots[shape->each_symbol];
    for (int64_t i = 0; i < count; i++) {
        const tcx_slot *s = &elements[i].slots[shape->each_symbol];
        if (s->kind != TC_KIND_STRING || s->length != (*symbol)->length ||
            !tc_same(start + s->offset, start + (*symbol)->offset, s->length))
            return -1;
    }
    return 0;
}

/* The instrument of a symbol, where there is one to look up; the status where it is unknown. */
static int find_instrument(tcx_extractor *x, const tc_view *v, const tcx_slot *symbol, int32_t *index) {
    if (symbol != NULL) {
        const char *text = tc_text_of(v, symbol), *end = text + symbol->length;
        while (text < end && *text == ' ') text++;
        while (text < end && end[-1] == ' ') end--;
        *index = tcx_find_instrument(x, text, (size_t)(end - text));
        if (*index < 0) {
            x->r.symbol_offset = text - (const char *)v->reading->scan.start;
            x->r.symbol_length = end - text;
            return fail(&x->r, TC_UNKNOWN_SYMBOL);
        }
    }
    x->r.instrument = *index;
    x->r.msg_type = v->shape->msg_type;
    return 0;
}

static int publish_stats(const tc_view *v, tc_target *target, int32_t index, const tcx_slot *symbol) {
    tcx_extractor *x = target->x;
    tc_raw_stat stats[TC_MAX_SLOTS];
    int too_large, count = tc_stats_of(v, x->r.ts_exchange_ns, stats, &too_large);
    if (count <= 0) return fail(&x->r, count < 0 ? TC_WRONG_TYPE : TC_SUPPRESSED);
    if (find_instrument(x, v, symbol, &index)) return x->r.status;
    if (too_large) return fail(&x->r, TC_TOO_LARGE);
    target->instrument = &x->instruments[index];
    return tc_emit_stats(target, stats, count, x->r.ts_exchange_ns);
}

/* Everything behind identification. */
static int publish(tc_view *v, int32_t index, int64_t ts_recv_ns, int64_t pos, const tcx_element *elements, int64_t count) {
    const tcx_shape *shape = v->shape;
    tcx_extractor *x = v->reading->x;
    tcx_result *r = &x->r;
    const tcx_slot *symbol;
    if (symbol_of(v, elements, count, &symbol)) return fail(r, TC_WRONG_TYPE);
    if (tc_id_of(v, shape->first_id, &r->first_id) || tc_id_of(v, shape->last_id, &r->last_id) ||
        tc_id_of(v, shape->prev_id, &r->prev_id) || tc_id_of(v, shape->checksum, &r->checksum))
        return fail(r, TC_WRONG_TYPE);
    r->has_checksum = r->checksum != TC_NO_ID;
    if (!r->has_checksum) r->checksum = 0;
    for (uint64_t fixed = (shape->zero | shape->one) & v->seen; fixed; fixed &= fixed - 1) {
        const tcx_slot *s = &v->slots[__builtin_ctzll(fixed)];
        const int64_t wanted = (shape->one & fixed & (0 - fixed)) != 0;
        tc_decimal value;
        int64_t whole = 0;
        if ((s->kind != TC_KIND_STRING && s->kind != TC_KIND_NUMBER) ||
            tc_parse_decimal(tc_text_of(v, s), s->length, 0, &value) ||
            (value.mantissa != 0 && tc_scale_decimal(value.mantissa, value.exponent, 0, &whole)) || whole != wanted)
            return fail(r, TC_WRONG_TYPE);
    }
    const int trades = shape->msg_type == TC_MSG_TRADE || shape->msg_type == TC_MSG_LIQUIDATION;
    tc_target target = {x, NULL, ts_recv_ns, pos, shape->msg_type, x->base_flags | (shape->top_only ? TC_FLAG_TOP_ONLY : 0)};
    tc_side sides[2];
    if (trades) {
        for (int64_t i = 0; i < count; i++) {
            tc_view one = *v;
            if (elements != NULL) {
                one.slots = elements[i].slots;
                one.seen = elements[i].seen;
            }
            if (read_trade(&one, &x->trades[i])) return fail(r, TC_WRONG_TYPE);
        }
        r->ts_exchange_ns = x->trades[0].ts;
    } else {
        int time = tc_time_of(v, shape->ts, shape->time_unit, &r->ts_exchange_ns);
        if (time == TC_TIME_WRONG) return fail(r, TC_WRONG_TYPE);
        if (time == TC_TIME_BAD) target.flags |= TC_FLAG_BAD_TS_EXCHANGE;
        r->snapshot = shape->snapshot;
        if (shape->snapshot_if >= 0)
            r->snapshot = tc_choice_of(v, shape->snapshot_if, shape->snapshot_choice, 1) != NULL;
        if (r->snapshot && shape->msg_type == TC_MSG_BOOK) target.flags |= TC_FLAG_SNAPSHOT;
        if (shape->stats) return publish_stats(v, &target, index, symbol);
        if (sides_of(v, sides, r->snapshot)) return fail(r, TC_WRONG_TYPE);
    }
    if (find_instrument(x, v, symbol, &index)) return r->status;
    target.instrument = &x->instruments[index];
    if (trades) return tc_emit_trades(&target, x->trades, count);
    return tc_emit_levels(&target, &sides[0], &sides[1], r->ts_exchange_ns);
}

/* Whether the string beside the envelope contains a text that says another shape. */
static int beside_differs(const tc_view *v) {
    const tc_reading *reading = v->reading;
    const tcx_slot *s = &reading->beside;
    if (v->shape->besides == 0 || !reading->entered || s->kind != TC_KIND_STRING) return 0;
    const uint8_t *text = reading->scan.start + s->offset;
    const tcx_choice *first = reading->program->choices + v->shape->first_beside;
    for (uint32_t at = 0; at < s->length; at++)
        for (const tcx_choice *c = first; c < first + v->shape->besides; c++)
            if (text[at] == reading->program->text[c->text] && c->length <= s->length - at &&
                tc_same(text + at, reading->program->text + c->text, c->length))
                return 1;
    return 0;
}

enum { NO, YES, ODD };

/* Whether an alive shape is the frame's; ODD: only the fallback can tell. */
static int identify(tc_view *v, const tcx_element **elements, int64_t *count) {
    const tcx_shape *shape = v->shape;
    *elements = NULL;
    *count = 1;
    if ((v->seen & shape->where_slots) != shape->where_slots || beside_differs(v)) return NO;
    for (uint64_t single = shape->single & v->seen; single; single &= single - 1) {
        const tcx_slot *s = &v->slots[__builtin_ctzll(single)];
        if (s->kind == TC_KIND_ARRAY && s->length != 1) return ODD;
    }
    if ((v->seen & shape->required) != shape->required) return NO;
    if (shape->each < 0) return (v->seen & shape->element_required) == shape->element_required && !flags_differ(v) ? YES : NO;
    const tcx_slot *array = &v->slots[shape->each];
    if (array->kind != TC_KIND_ARRAY) return NO;
    if (array->length == 0) return ODD;
    *elements = v->reading->x->elements + array->offset;
    *count = array->length;
    for (uint32_t i = 0; i < array->length; i++) {
        tc_view one = {v->reading, shape, (*elements)[i].slots, (*elements)[i].seen};
        if ((one.seen & shape->element_required) != shape->element_required) return i == 0 ? NO : ODD;
        if (flags_differ(&one)) return NO;
    }
    return YES;
}

static int choose(tc_reading *reading, int32_t index, int64_t ts_recv_ns, int64_t pos) {
    tcx_result *r = &reading->x->r;
    for (uint64_t alive = reading->alive; alive; alive &= alive - 1) {
        tc_view v = {reading, &reading->program->shapes[__builtin_ctzll(alive)], reading->slots, reading->seen};
        const tcx_element *elements;
        int64_t count;
        int answer = identify(&v, &elements, &count);
        if (answer == NO) continue;
        if (answer == ODD) return fail(r, TC_DECLINED);
        r->shape = v.shape->number;
        if (v.shape->silent) return fail(r, TC_SUPPRESSED);
        return publish(&v, index, ts_recv_ns, pos, elements, count);
    }
    return fail(r, TC_NO_SHAPE);
}

static int extract(tcx_extractor *x, int32_t index, const char *frame, int64_t length, int64_t ts_recv_ns, int64_t pos) {
    tcx_result *r = &x->r;
    tc_reading reading;
    memset(r, 0, sizeof *r);
    r->shape = r->instrument = -1;
    r->first_id = r->last_id = r->prev_id = TC_NO_ID;
    if (length < 0 || length > INT32_MAX) return fail(r, TC_DECLINED);
    reading.scan.start = (const uint8_t *)frame;
    reading.scan.end = reading.scan.start + length;
    reading.scan.status = TC_OK;
    reading.x = x;
    reading.ts_recv_ns = ts_recv_ns;
    for (int32_t i = 0; i < x->program_count; i++) {
        reading.program = &x->programs[i];
        if (reading.program->by_caller != (index >= 0)) continue;
        if (tc_read_frame(&reading)) {
            r->error_offset = reading.scan.error_at - reading.scan.start;
            return fail(r, reading.scan.status);
        }
        if (choose(&reading, index, ts_recv_ns, pos) != TC_NO_SHAPE) return r->status;
    }
    return fail(r, TC_NO_SHAPE);
}

int tcx_extract(tcx_extractor *x, const char *frame, int64_t length, int64_t ts_recv_ns, int64_t pos) {
    return extract(x, -1, frame, length, ts_recv_ns, pos);
}

int tcx_extract_as(tcx_extractor *x, int32_t index, const char *frame, int64_t length, int64_t ts_recv_ns, int64_t pos) {
    return extract(x, index, frame, length, ts_recv_ns, pos);
}
